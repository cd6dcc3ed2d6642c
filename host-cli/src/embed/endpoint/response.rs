//! What a service answers: `{"data": [{"index": 0, "embedding": [numbers] or "base64"}, …]}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Value,
}

/// The vectors of an answer to `count` texts, in the order of the texts.
///
/// # Errors
///
/// What is wrong with the answer: not JSON, cut short, a vector too few or too many or twice, a component that is not
/// a finite number, vectors of different lengths.
pub(super) fn vectors(bytes: &[u8], count: usize) -> Result<Vec<Vec<f32>>, String> {
    let Answer { data } = serde_json::from_slice(bytes).map_err(|error| {
        format!("found an answer of another form ({error}), expected {{\"data\": [{{\"embedding\": …}}]}}")
    })?;
    if data.len() != count {
        return Err(format!("the service answered {} vectors to {count} texts", data.len()));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    for (at, item) in data.into_iter().enumerate() {
        // A service that leaves the index out keeps the order.
        let index = item.index.unwrap_or(at);
        let vector =
            vector(&item.embedding).map_err(|problem| format!("the vector with index {index}: {problem}"))?;
        match vectors.get_mut(index) {
            Some(place @ None) => *place = Some(vector),
            Some(Some(_)) => return Err(format!("the service answered two vectors with the index {index}")),
            None => {
                return Err(format!("the service answered a vector with the index {index} to {count} texts"));
            }
        }
    }
    let vectors: Vec<Vec<f32>> = vectors.into_iter().flatten().collect();
    let dim = vectors.first().map_or(0, Vec::len);
    match vectors.iter().position(|vector| vector.len() != dim) {
        Some(at) => {
            let found = vectors[at].len();
            Err(format!("the vector with index {at} has {found} components, that with index 0 has {dim}"))
        }
        None => Ok(vectors),
    }
}

fn vector(embedding: &Value) -> Result<Vec<f32>, String> {
    let values = match embedding {
        Value::Array(numbers) => numbers.iter().enumerate().map(number).collect::<Result<Vec<_>, _>>()?,
        Value::String(text) => {
            let bytes = STANDARD.decode(text).map_err(|error| format!("found no base64 ({error})"))?;
            let (chunks, rest) = bytes.as_chunks();
            if !rest.is_empty() {
                return Err(format!("found {} bytes, expected four for each component", bytes.len()));
            }
            chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        }
        other => return Err(format!("found {}, expected numbers or base64", kind(other))),
    };
    if values.is_empty() {
        return Err("it has no components".to_owned());
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(format!("component {at} is {}, expected a finite number", values[at])),
        None => Ok(values),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is what is wanted; infinity is refused by the caller"
)]
fn number((at, value): (usize, &Value)) -> Result<f32, String> {
    match value.as_f64() {
        Some(number) => Ok(number as f32),
        None => Err(format!("component {at} is {}, expected a number", kind(value))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A service's own words about a fault, on one line and of at most `most` characters.
pub(super) fn message(bytes: &[u8], most: usize) -> String {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let said = value.as_ref().and_then(|value| {
        ["/error/message", "/error", "/message", "/detail"]
            .iter()
            .find_map(|path| value.pointer(path)?.as_str().map(str::to_owned))
    });
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).take(most).collect();
    if line.is_empty() { "nothing".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str, count: usize) -> String {
        vectors(text.as_bytes(), count).expect_err(text)
    }

    #[test]
    fn vectors_come_in_the_order_of_their_index_as_numbers_or_base64() {
        let text = r#"{"object":"list","data":[{"index":1,"embedding":[0.25,-1]},{"index":0,"embedding":"AACAPwAAAMA="}]}"#;
        assert_eq!(vectors(text.as_bytes(), 2), Ok(vec![vec![1.0, -2.0], vec![0.25, -1.0]]));
        let text = r#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#;
        assert_eq!(vectors(text.as_bytes(), 2), Ok(vec![vec![1.0], vec![2.0]]));
    }

    #[test]
    fn every_fault_of_an_answer_is_named() {
        for (text, expected) in [
            ("", "another form"),
            ("<html>", "another form"),
            (r#"{"data":[{"index":0,"embedding":[1.0"#, "another form"),
            (r#"{"data":[{"index":0,"embedding":[NaN]}]}"#, "another form"),
            (r#"{"embeddings":[[1]]}"#, "missing field `data`"),
            (r#"{"data":[]}"#, "0 vectors to 2 texts"),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
                "two vectors with the index 0",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}"#,
                "with the index 2 to 2 texts",
            ),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":null}]}"#, "index 1: found null"),
            (
                r#"{"data":[{"index":0,"embedding":[1,null]},{"index":1,"embedding":[1]}]}"#,
                "component 1 is null",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1e39]}]}"#,
                "component 0 is inf",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":"AADAfw=="}]}"#,
                "component 0 is NaN",
            ),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":"AADA"}]}"#, "found 3 bytes"),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":"!"}]}"#, "no base64"),
            (r#"{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]}"#, "no components"),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#,
                "has 2 components, that with index 0 has 1",
            ),
        ] {
            let problem = refusal(text, 2);
            assert!(problem.contains(expected), "{text}: {problem}");
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
