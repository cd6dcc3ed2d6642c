//! Relevance judgements in a file of their own: BEIR's three columns with a header, TREC's four without, or rows.

use core::fmt;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::contents::Contents;
use crate::dataset::{Grade, Labels, Pairs};
use crate::failure::Failure;
use crate::ids::IdText;
use crate::json::{self, Place, quoted};

const FORM: &str = "expected `query-id corpus-id grade` (BEIR) or `query-id 0 document-id grade` (TREC)";

/// Reads a file of judgements.
///
/// # Errors
///
/// [`Failure::Input`] when it cannot be read, or a line is of another form; the message has its number.
pub fn load(file: &Path) -> Result<Labels, Failure> {
    let mut pairs = Pairs::default();
    read(file, &Contents::of(file)?, &mut pairs)?;
    Ok(pairs.into_labels())
}

/// Reads judgements from the contents of `file`, a name that errors repeat.
///
/// # Errors
///
/// As [`load`].
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Labels, Failure> {
    let mut pairs = Pairs::default();
    read(file, bytes, &mut pairs)?;
    Ok(pairs.into_labels())
}

/// Adds the judgements of a file to those of others.
pub(crate) fn read(file: &Path, bytes: &[u8], pairs: &mut Pairs) -> Result<(), Failure> {
    let bytes = json::text_of(file, bytes)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return read_rows(file, bytes, pairs);
    }
    let mut judged = 0_usize;
    let mut first = true;
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let refuse = |problem: String| Failure::input(file, format!("line {number}: {problem}"));
        let line = core::str::from_utf8(line)
            .map_err(|_| refuse("found no UTF-8 text; save it as UTF-8".to_owned()))?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            continue;
        }
        let (query, document, grade) = columns(line).map_err(refuse)?;
        let Some(grade) = parse_grade(grade) else {
            // Only the names of columns may stand where a grade belongs, and only in front.
            if core::mem::take(&mut first)
                && grade.chars().all(|c| c.is_alphabetic() || "-_ ".contains(c))
                && !is_non_finite(grade)
            {
                continue;
            }
            return Err(refuse(format!(
                "found {} as the grade, expected a number of at most 1e9; {FORM}",
                quoted(grade)
            )));
        };
        first = false;
        pairs.push(query, document, grade).map_err(|rejected| refuse(rejected.to_string()))?;
        judged += 1;
    }
    if judged == 0 {
        return Err(Failure::input(file, format!("there is no judgement in it; {FORM}, one a line")));
    }
    Ok(())
}

/// Query, document and grade of a line. Ids with spaces need tabs between the columns.
fn columns(line: &str) -> Result<(&str, &str, &str), String> {
    let columns: Vec<&str> = match line.contains('\t') {
        true => line.split('\t').collect(),
        false => line.split_whitespace().collect(),
    };
    match columns[..] {
        [query, document, grade] | [query, _, document, grade] => Ok((query, document, grade.trim())),
        _ => Err(format!("found {} columns; {FORM}", columns.len())),
    }
}

fn parse_grade(text: &str) -> Option<f64> {
    text.parse().ok().filter(|&grade| Grade::is_valid(grade))
}

fn is_non_finite(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// Rows `{"query-id": …, "corpus-id": …, "score": …}`, as data sets of the MTEB have them.
fn read_rows(file: &Path, bytes: &[u8], pairs: &mut Pairs) -> Result<(), Failure> {
    let place = Place::default();
    json::each_value(file, bytes, &place, &mut |deserializer| {
        Row { pairs, place: &place }.deserialize(deserializer)
    })
}

struct Row<'a> {
    pairs: &'a mut Pairs,
    place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with \"query-id\", \"corpus-id\" and \"score\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut query, mut document, mut grade) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "query-id" | "query_id" | "qid" => {
                    self.place.enter_section("query-id");
                    query = Some(map.next_value::<IdText>()?.0);
                }
                "corpus-id" | "corpus_id" | "doc_id" | "docid" => {
                    self.place.enter_section("corpus-id");
                    document = Some(map.next_value::<IdText>()?.0);
                }
                "score" | "relevance" | "grade" | "label" => {
                    self.place.enter_section("score");
                    let document = document.as_deref().unwrap_or_default();
                    grade = Some(map.next_value_seed(Grade { document })?);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            self.place.enter_section("");
        }
        let (Some(query), Some(document)) = (query, document) else {
            let problem = "found a row without \"query-id\" or \"corpus-id\", expected both and \"score\"";
            return Err(de::Error::custom(problem));
        };
        self.pairs.push(&query, &document, grade.unwrap_or(1.0)).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(text: &str) -> Vec<(String, String, f64)> {
        let labels = parse(Path::new("test.tsv"), text.as_bytes()).expect(text);
        let of = |query: &str| {
            let list = labels.of(query).iter();
            let query = query.to_owned();
            let documents = &labels.documents;
            list.map(move |label| (query.clone(), documents[label.document].to_owned(), label.grade))
                .collect::<Vec<_>>()
        };
        labels.queries.iter().flat_map(of).collect()
    }

    fn refusal(text: &[u8]) -> String {
        let failure = parse(Path::new("test.tsv"), text).expect_err("must be refused");
        assert_eq!(failure.exit_code(), 3);
        failure.to_string()
    }

    #[test]
    fn beir_trec_and_rows_say_the_same() {
        let expected = [("1".to_owned(), "d 1".to_owned(), 2.0), ("1".to_owned(), "d2".to_owned(), 0.0)];
        for text in [
            "query-id\tcorpus-id\tscore\n1\td 1\t2\n1\td2\t0\n",
            "\u{feff}query-id\tcorpus-id\tscore\r\n1\td 1\t2\r\n\r\n1\td2\t0",
            "1\td 1\t2\n1\td2\t0\n",
            "1\t0\td 1\t2\n1\t0\td2\t0\n",
            "1\tQ0\td 1\t2.0\n1 0 d2 0\n",
            "{\"query-id\": 1, \"corpus-id\": \"d 1\", \"score\": 2}\n{\"query-id\": \"1\", \"corpus-id\": \"d2\", \"score\": 0}\n",
        ] {
            assert_eq!(listed(text), expected, "{text}");
        }
        assert_eq!(
            listed("q x 1\nr  y  -1\n"),
            [("q".into(), "x".into(), 1.0), ("r".into(), "y".into(), -1.0)]
        );
    }

    #[test]
    fn lines_of_another_form_are_refused_by_number() {
        for (text, expected) in [
            (&b""[..], "the file is empty"),
            (
                b"query-id\tcorpus-id\tscore\n",
                "there is no judgement in it; expected `query-id corpus-id grade`",
            ),
            (b"1 d1\n", "line 1: found 2 columns; expected `query-id corpus-id grade` (BEIR) or"),
            (b"q\td\ts\n\n1\td1\t2\textra\t5\n", "line 3: found 5 columns"),
            (b"q\td\ts\n1\td1\thigh\n", "line 2: found \"high\" as the grade, expected a number"),
            (b"q\td\ts\nq\td\ts\n1\td1\t1\n", "line 2: found \"s\" as the grade"),
            (b"1\td1\tNaN\n", "line 1: found \"NaN\" as the grade"),
            (b"1\td1\tinf\n", "line 1: found \"inf\" as the grade"),
            (b"1\td1\t1e300\n", "line 1: found \"1e300\" as the grade"),
            (b"1\td1\t1\n\xff\td1\t1\n", "line 2: found no UTF-8 text"),
            (b"{\"query-id\": 1}\n", "line 1 column 15: found a row without \"query-id\" or \"corpus-id\""),
            (b"{\"query-id\": [1]}\n", "query-id: found sequence, expected an id"),
            (
                b"{\"query-id\": 1, \"corpus-id\": 2, \"score\": \"x\"}",
                "score: found string \"x\", expected a number as the grade",
            ),
            (
                b"{\"query-id\": 1, \"corpus-id\": 2}\n{\"query-id\": 1,\n",
                "line 2: it ends in the middle of a value",
            ),
        ] {
            let message = refusal(text);
            assert!(
                message.starts_with("test.tsv: ") && message.contains(expected),
                "{expected:?}: {message}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(failure) = parse(Path::new("test.tsv"), &bytes) {
                prop_assert!(!failure.to_string().contains('\n'), "{}", failure);
            }
        }

        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec(("[a-z0-9]{1,5}", "[a-z0-9]{1,5}", -3_i32..9), 1..20)) {
            let text: String = rows.iter().map(|(q, d, g)| format!("{q}\t{d}\t{g}\n")).collect();
            let mut expected: Vec<_> = rows.iter().map(|(q, d, g)| (q.clone(), d.clone(), f64::from(*g))).collect();
            let mut found = listed(&text);
            prop_assert_eq!(found.len(), expected.len());
            let key = |row: &(String, String, f64)| format!("{row:?}");
            found.sort_by_key(key);
            expected.sort_by_key(key);
            prop_assert_eq!(found, expected);
        }
    }
}
