//! What a service answers: vectors, in any form that a saved answer may have, or words about a fault.

use serde_json::Value;

use crate::vectors::Matrix;

/// The vectors of an answer to `count` texts, a row each, in the order of the texts.
///
/// # Errors
///
/// What is wrong with the answer: not JSON, cut short, a vector too few or too many or twice, a component that is not
/// a finite number, vectors of different lengths; or what the service says in place of vectors, on one line and of at most
/// `most` characters.
pub(super) fn vectors(bytes: &[u8], count: usize, most: usize) -> Result<Matrix, String> {
    let matrix = Matrix::of_answer(bytes).map_err(|problem| match words(bytes) {
        Some(words) => format!("the service answered no vectors but: {}", line(&words, most)),
        None => format!("found an answer that cannot be used: {problem}"),
    })?;
    match matrix.rows() == count {
        true => Ok(matrix),
        false => Err(format!("the service answered {} vectors to {count} texts", matrix.rows())),
    }
}

/// A service's own words about a fault, on one line and of at most `most` characters.
pub(super) fn message(bytes: &[u8], most: usize) -> String {
    let text = words(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
    let line = line(&text, most);
    if line.is_empty() { "nothing".to_owned() } else { line }
}

/// What a service says where it says it in JSON.
fn words(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    ["/error/message", "/error", "/message", "/detail"]
        .iter()
        .find_map(|path| value.pointer(path)?.as_str().map(str::to_owned))
}

/// The beginning of a text on one line.
fn line(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, count: usize) -> Result<Vec<f32>, String> {
        vectors(text.as_bytes(), count, 40).map(|matrix| matrix.as_slice().to_vec())
    }

    #[test]
    fn vectors_come_in_the_order_of_their_index_as_numbers_or_base64() {
        let text = r#"{"object":"list","data":[{"index":1,"embedding":[0.25,-1]},{"index":0,"embedding":"AACAPwAAAMA="}]}"#;
        assert_eq!(read(text, 2), Ok(vec![1.0, -2.0, 0.25, -1.0]));
        assert_eq!(read(r#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#, 2), Ok(vec![1.0, 2.0]));
        // A vector's own id says nothing.
        let text = r#"{"data":[{"id":"x","index":1,"embedding":[1]},{"id":"x","index":0,"embedding":[2]}]}"#;
        assert_eq!(read(text, 2), Ok(vec![2.0, 1.0]));
        assert_eq!(read(r#"{"embeddings":[[1],[2]]}"#, 2), Ok(vec![1.0, 2.0]));
    }

    #[test]
    fn every_fault_of_an_answer_is_named() {
        for (text, expected) in [
            ("", "the file is empty"),
            ("<html>", "line 1 column 1"),
            (r#"{"data":[{"index":0,"embedding":[1.0"#, "ends in the middle of a value"),
            (r#"{"data":[{"index":0,"embedding":[NaN]}]}"#, "found NaN, expected a finite number"),
            (r#"{"vectors":{"x":1}}"#, "found an object without \"embedding\""),
            (r#"{"data":[]}"#, "0 vectors to 2 texts"),
            (r#"{"data":[{"embedding":[1]}]}"#, "1 vectors to 2 texts"),
            (r#"{"data":[{"embedding":[1]},{"embedding":[1]},{"embedding":[1]}]}"#, "3 vectors to 2 texts"),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
                "two vectors have the index 0",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}"#,
                "found the index 2 among 2 vectors",
            ),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":null}]}"#, "data[1]: found null"),
            (
                r#"{"data":[{"index":0,"embedding":[1,null]},{"index":1,"embedding":[1]}]}"#,
                "data[0] component 1: found null",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1e39]}]}"#,
                "data[1] component 0: 1e39 does not fit in a 32-bit float",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":"AADAfw=="}]}"#,
                "data[1] component 0: found NaN",
            ),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":"AADA"}]}"#, "found 3 bytes"),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":"!"}]}"#, "no base64"),
            (r#"{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]}"#, "the vector is empty"),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#,
                "data[1]: the vector has 2 components, expected 1 as the first has",
            ),
            (
                r#"{"error":{"message":"the model \n is not loaded"}}"#,
                "the service answered no vectors but: the model is not loaded",
            ),
        ] {
            let problem = read(text, 2).expect_err(text);
            assert!(problem.contains(expected) && !problem.contains('\n'), "{text}: {problem}");
        }
    }

    #[test]
    fn a_services_own_words_are_found_and_kept_short() {
        for (text, expected) in [
            (r#"{"error":{"message":"slow  down\n please","type":"x"}}"#, "slow down please"),
            (r#"{"error":"batch size 64 > 32"}"#, "batch size 64 > 32"),
            (r#"{"detail":"x"}"#, "x"),
            ("<b>gone</b>", "<b>gone</b>"),
            ("", "nothing"),
        ] {
            assert_eq!(message(text.as_bytes(), 40), expected);
        }
        assert_eq!(message(&[b'x'; 100], 40).len(), 40);
    }
}
