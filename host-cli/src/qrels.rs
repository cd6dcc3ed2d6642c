//! Relevance judgements in a file of their own: TREC's four columns, BEIR's three with a header, rows, or one object as
//! `relevant_docs` is.

use core::fmt;
use std::collections::HashMap;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::contents::Contents;
use crate::dataset::form::First;
use crate::dataset::{self, GREATEST_GRADE, Grade, Labels, Pairs};
use crate::failure::Failure;
use crate::ids::IdText;
use crate::json::{self, Place, quoted};
use crate::trec;

/// What a line may look like.
const EXPECTED: &str = "lines of four columns (query, 0, document, grade) as TREC has them, or of three with tabs (query, document, \
                        grade) and a header as BEIR has them";

/// Keys of a row.
const QUERY_KEYS: &[&str] = &["query-id", "query_id", "qid"];
const DOCUMENT_KEYS: &[&str] = &["corpus-id", "corpus_id", "doc_id", "docid"];
const GRADE_KEYS: &[&str] = &["score", "relevance", "grade", "label"];

/// Reads a file of judgements. Queries and their documents stand in the order of the file; a line that says the same as one
/// before it is kept, and counted as a defect of the data set.
///
/// # Errors
///
/// [`Failure::Input`] when the file cannot be read or is empty, or a line has another number of columns than the first, an
/// empty id, a grade that is no number, or another grade for a pair than a line before it; the message has its number.
pub fn load(file: &Path) -> Result<Labels, Failure> {
    parse(file, &Contents::of(file)?)
}

/// Reads judgements from the contents of `file`, a name that errors repeat.
///
/// # Errors
///
/// As [`load`].
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Labels, Failure> {
    if Form::of(bytes) == Form::Object {
        return dataset::read_labels(file, json::text_of(file, bytes)?);
    }
    let mut pairs = Pairs::default();
    read(file, bytes, &mut pairs)?;
    Ok(pairs.into_labels())
}

/// Adds the judgements of a file to those of others.
pub(crate) fn read(file: &Path, bytes: &[u8], pairs: &mut Pairs) -> Result<(), Failure> {
    let mut judgements = Judgements { pairs, known: HashMap::new() };
    match Form::of(bytes) {
        Form::Columns => read_columns(file, bytes, judgements),
        Form::Rows => read_rows(file, json::text_of(file, bytes)?, judgements),
        Form::Object => {
            let labels = dataset::read_labels(file, json::text_of(file, bytes)?)?;
            for query in labels.queries.iter() {
                for (label, entry) in labels.of(query).iter().zip(1..) {
                    let document = &labels.documents[label.document];
                    let added = judgements.add(query, document, label.grade, ("entry", entry));
                    added.map_err(|problem| Failure::input(file, problem))?;
                }
            }
            Ok(())
        }
    }
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A line for each judgement.
    Columns,
    /// `{"query-id": …, "corpus-id": …, "score": …}` for each, as data sets of the MTEB have them.
    Rows,
    /// `{query id: documents}`.
    Object,
}

impl Form {
    fn of(bytes: &[u8]) -> Self {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        if !matches!(text.first(), Some(b'{' | b'[')) {
            return Self::Columns;
        }
        let is_of_row = |key: &String| [QUERY_KEYS, DOCUMENT_KEYS].concat().contains(&key.as_str());
        match First::of(text) {
            First::Object(keys) if keys.iter().any(is_of_row) => Self::Rows,
            _ => Self::Object,
        }
    }
}

/// The judgements of one file, which go to those of others.
struct Judgements<'a> {
    pairs: &'a mut Pairs,
    /// The grade of each pair of a query and a document, and where it stands in the file. For look-ups only.
    known: HashMap<(u32, u32), (f64, usize)>,
}

impl Judgements<'_> {
    /// Adds what stands at `place`: a line or a row, by its number.
    fn add(&mut self, query: &str, document: &str, grade: f64, place: (&str, usize)) -> Result<(), String> {
        let pair = self.pairs.push(query, document, grade).map_err(|rejected| rejected.to_string())?;
        let (unit, number) = place;
        match self.known.insert(pair, (grade, number)) {
            Some((before, earlier)) if before != grade => Err(format!(
                "the document {} has the grade {grade} for the query {}, {unit} {earlier} gives it {before}; keep one of them",
                quoted(document),
                quoted(query)
            )),
            _ => Ok(()),
        }
    }
}

fn read_columns(file: &Path, bytes: &[u8], mut judgements: Judgements<'_>) -> Result<(), Failure> {
    let lines = trec::lines(file, bytes, EXPECTED)?;
    let mut lines = lines.map(|(number, line)| (number, line.trim_end())).peekable();
    let count = match lines.peek() {
        Some(&(number, line)) => column_count(line).ok_or_else(|| {
            let problem = format!("found {} columns, expected {EXPECTED}", count_found(line));
            trec::refused(file, number, &problem)
        })?,
        // A file without a line was refused.
        None => return Ok(()),
    };
    if lines.peek().and_then(|(_, line)| columns(line, count)).is_some_and(|names| is_header(&names)) {
        lines.next();
    }
    if lines.peek().is_none() {
        return Err(Failure::input(file, format!("there is a header and nothing else, expected {EXPECTED}")));
    }
    for (number, line) in lines {
        let refused = |problem: &str| trec::refused(file, number, problem);
        let columns = columns(line, count);
        let Some([query, .., document, grade]) = columns.as_deref() else {
            let found = count_found(line);
            let problem = format!("found {found} columns, expected {count} as in the lines before it");
            return Err(refused(&problem));
        };
        if query.is_empty() || document.is_empty() {
            return Err(refused("an id is empty, expected one for the query and one for the document"));
        }
        let valid: Option<f64> = grade.trim().parse().ok().filter(|&grade| Grade::is_valid(grade));
        let grade = valid.ok_or_else(|| {
            let expected = format!("expected a number of at most {GREATEST_GRADE:e}");
            refused(&format!("the grade is {}, {expected}", quoted(grade)))
        })?;
        judgements.add(query, document, grade, ("line", number)).map_err(|problem| refused(&problem))?;
    }
    Ok(())
}

/// The columns of a line, where there are `count` of them: between tabs, else between white space. Ids with spaces need tabs.
fn columns(line: &str, count: usize) -> Option<Vec<&str>> {
    let by_tabs: Vec<&str> = line.split('\t').collect();
    if by_tabs.len() == count {
        return Some(by_tabs);
    }
    let by_space: Vec<&str> = line.split_whitespace().collect();
    (by_space.len() == count).then_some(by_space)
}

/// How many columns the lines of a file have, by its first one.
fn column_count(line: &str) -> Option<usize> {
    let counts = [line.split('\t').count(), line.split_whitespace().count()];
    counts.into_iter().find(|count| matches!(count, 3 | 4))
}

/// How many columns an error says that a line has.
fn count_found(line: &str) -> usize {
    if line.contains('\t') { line.split('\t').count() } else { line.split_whitespace().count() }
}

/// Whether these are names of columns: words without digits, the last no number.
fn is_header(columns: &[&str]) -> bool {
    let is_word = |column: &&str| column.chars().all(|c| c.is_alphabetic() || "-_ #.".contains(c));
    columns.iter().all(is_word) && columns.last().is_some_and(|grade| grade.trim().parse::<f64>().is_err())
}

fn read_rows(file: &Path, bytes: &[u8], mut judgements: Judgements<'_>) -> Result<(), Failure> {
    let place = Place::default();
    let mut row = 0;
    json::each_value(file, bytes, &place, &mut |deserializer| {
        row += 1;
        Row { judgements: &mut judgements, row, place: &place }.deserialize(deserializer)
    })
}

struct Row<'a, 'b> {
    judgements: &'a mut Judgements<'b>,
    /// Its number, from 1.
    row: usize,
    place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with \"query-id\", \"corpus-id\" and \"score\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut query, mut document, mut grade) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                key if QUERY_KEYS.contains(&key) => {
                    self.place.enter_section("query-id");
                    query.replace(map.next_value::<IdText>()?.0).is_some()
                }
                key if DOCUMENT_KEYS.contains(&key) => {
                    self.place.enter_section("corpus-id");
                    document.replace(map.next_value::<IdText>()?.0).is_some()
                }
                key if GRADE_KEYS.contains(&key) => {
                    self.place.enter_section("score");
                    let document = document.as_deref().unwrap_or_default();
                    grade.replace(map.next_value_seed(Grade { document })?).is_some()
                }
                _ => map.next_value::<IgnoredAny>().map(|_| false)?,
            };
            if twice {
                return Err(de::Error::custom("it stands in the row twice; keep one of the two"));
            }
            self.place.enter_section("");
        }
        let (Some(query), Some(document)) = (query, document) else {
            let problem = "found a row without \"query-id\" or \"corpus-id\", expected both and \"score\"";
            return Err(de::Error::custom(problem));
        };
        let place = ("row", self.row);
        self.judgements.add(&query, &document, grade.unwrap_or(1.0), place).map_err(de::Error::custom)
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
        let message = crate::failure::refusal(parse(Path::new("test.tsv"), text));
        message.strip_prefix("test.tsv: ").expect("the file is named").to_owned()
    }

    #[test]
    fn every_form_says_the_same() {
        let label = |query: &str, document: &str, grade| (query.to_owned(), document.to_owned(), grade);
        let expected = [label("2", "d 1", 2.0), label("2", "d3", 1.0), label("1", "d2", 0.0)];
        for text in [
            "query-id\tcorpus-id\tscore\n2\td 1\t2\n1\td2\t0\n2\td3\t1\n",
            "\u{feff}query-id\tcorpus-id\tscore\r\n2\td 1\t2\r\n\r\n1\td2\t0\r\n2\td3\t1",
            "2\td 1\t2\n1\td2\t0\t\n2\td3\t 1.0 \n",
            "2\t0\td 1\t2\n1\tQ0\td2\t0\n2\t0\td3\t1\n",
            // Tabs where they give the columns, else white space.
            "query iteration document relevance\n2\tQ0\td 1\t2.0\n1 0 d2 0\n2 \t 0  d3 1\n",
            "{\"query-id\": 2, \"corpus-id\": \"d 1\", \"score\": 2}\n\n{\"qid\": \"1\", \"docid\": \"d2\", \"label\": 0}\r\n\
             {\"query_id\": \"2\", \"doc_id\": \"d3\", \"extra\": [1]}",
            "\u{feff}{\"2\": {\"d 1\": 2, \"d3\": 1}, \"1\": {\"d2\": 0.0}}",
        ] {
            assert_eq!(listed(text), expected, "{text}");
        }
        assert_eq!(listed("q x 1\nr  y  -1\n"), [label("q", "x", 1.0), label("r", "y", -1.0)]);
        assert_eq!(listed("{\"q\": [\"x\", 7], \"r\": \"y\"}").len(), 3);
    }

    #[test]
    fn a_judgement_that_stands_there_twice_is_kept_for_whoever_counts_defects() {
        for text in [
            "q 0 d 1\nq 0 e 1\nq 0 d 1.0\n",
            "{\"query-id\": \"q\", \"corpus-id\": \"d\"} {\"query-id\": \"q\", \"corpus-id\": \"e\"} \
             {\"query-id\": \"q\", \"corpus-id\": \"d\"}",
        ] {
            assert_eq!(listed(text).len(), 3, "{text}");
        }
    }

    #[test]
    fn the_first_line_is_a_header_only_if_it_names_columns() {
        for header in ["query-id\tcorpus-id\tscore", "QUERY ID\tdoc_id\trel.", "#qid iter docno rel"] {
            let columns = if header.contains("iter") { "q 0 d 1" } else { "q\td\t1" };
            assert_eq!(listed(&format!("{header}\n{columns}\n")).len(), 1, "{header}");
        }
        // A judgement whose grade is broken is none.
        assert!(refusal(b"q1\td1\thigh\nq2\td2\t1\n").contains("line 1: the grade is \"high\""));
        assert!(refusal(b"q 0 d high\n").contains("line 1: the grade is \"high\""));
        assert!(refusal(b"q\td\ts\nq\td\ts\n1\td1\t1\n").contains("line 2: the grade is \"s\""));
    }

    #[test]
    fn what_is_no_judgement_is_refused_by_its_line() {
        for (text, expected) in [
            (&b""[..], "the file is empty, expected lines of four columns"),
            (b"\xef\xbb\xbf \r\n", "the file is empty"),
            (b"\xff\xfeq\0", "UTF-16"),
            (b"\x1f\x8b\x08\0", "the file is compressed (gzip), expected text; unpack it first"),
            (b"query-id\tcorpus-id\tscore\n", "there is a header and nothing else, expected lines of four"),
            (
                b"1 d1\n",
                "line 1: found 2 columns, expected lines of four columns (query, 0, document, grade)",
            ),
            (b"q 0 d 1 x\n", "line 1: found 5 columns"),
            (b"q 0 d 1\nq 0 d\n", "line 2: found 3 columns, expected 4 as in the lines before it"),
            (b"q\td\ts\n\n1\td1\t2\textra\t5\n", "line 3: found 5 columns, expected 3"),
            (b"q\td\ts\n1\td1\n", "line 2: found 2 columns, expected 3"),
            (b"q\td\ts\n\n\td\t1\n", "line 3: an id is empty, expected one for the query"),
            (b"q\td\ts\n1\td1\thigh\n", "line 2: the grade is \"high\", expected a number of at most 1e9"),
            (b"1\td1\tNaN\n", "line 1: the grade is \"NaN\""),
            (b"q\td\tinf\n", "line 1: the grade is \"inf\""),
            (b"1\td1\t1e300\n", "line 1: the grade is \"1e300\""),
            (b"1\td1\t1\n\xff\td1\t1\n", "line 2: the text is not UTF-8"),
            (
                b"q 0 d 1\nq 0 e 1\nq 0 d 2\n",
                "line 3: the document \"d\" has the grade 2 for the query \"q\", line 1 gives it 1; keep one of them",
            ),
            (b"{\"query-id\": 1}\n", "line 1 column 15: found a row without \"query-id\" or \"corpus-id\""),
            (b"{\"corpus-id\": 1}\n", "found a row without \"query-id\""),
            (b"{\"query-id\": [1]}\n", "query-id: found sequence, expected an id"),
            (b"{\"query-id\": 1, \"qid\": 2}", "query-id: it stands in the row twice; keep one of the two"),
            (
                b"{\"query-id\": 1, \"corpus-id\": 2, \"score\": \"x\"}",
                "score: found string \"x\", expected a number as the grade",
            ),
            (
                b"{\"query-id\": 1, \"corpus-id\": 2}\n{\"query-id\": 1, \"corpus-id\": 2, \"score\": 3}",
                "the document \"2\" has the grade 3 for the query \"1\", row 1 gives it 1",
            ),
            (
                b"{\"query-id\": 1, \"corpus-id\": 2}\n{\"query-id\": 1,\n",
                "line 2: it ends in the middle of a value",
            ),
            (b"{\"q\": {\"d\": 1, \"d\": 2}}", "\"q\": the document \"d\" is graded twice"),
            (b"{\"q\": [1.5]}", "\"q\" item 0: found floating point `1.5`, expected an id"),
            (b"[[\"q\", \"d\"]]", "found sequence, expected an object {query id: [document ids]}"),
            (b"{\"queries\": {\"q\": \"a\"}}", "found a whole data set, expected its labels alone"),
        ] {
            let message = refusal(text);
            assert!(message.contains(expected), "{expected:?}: {message}");
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
        fn what_is_written_is_read(rows in prop::collection::btree_map(("[a-z0-9]{1,5}", "[a-z0-9]{1,5}"), -3_i32..9, 1..20)) {
            let text: String = rows.iter().map(|((q, d), g)| format!("{q}\t{d}\t{g}\n")).collect();
            let mut expected: Vec<_> = rows.into_iter().map(|((q, d), g)| (q, d, f64::from(g))).collect();
            let mut found = listed(&text);
            prop_assert_eq!(found.len(), expected.len());
            let key = |row: &(String, String, f64)| format!("{row:?}");
            found.sort_by_key(key);
            expected.sort_by_key(key);
            prop_assert_eq!(found, expected);
        }
    }
}
