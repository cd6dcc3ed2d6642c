//! Judgements: which documents are relevant to a query, and how much.

use std::collections::HashMap;
use std::path::Path;

use crate::contents::Contents;
use crate::dataset::{GREATEST_GRADE, Label, Labels};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;
use crate::lists::Lists;

use super::{lines, refused};

/// What a line may look like.
const EXPECTED: &str = "lines of four columns (query, 0, document, grade) as TREC has them, or of three with tabs (query, document, \
                        grade) and a header as BEIR has them";

/// How the columns of a file stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `query 0 document grade`, white space between them.
    Trec,
    /// `query document grade`, a tab between them; ids may have spaces.
    Tabs,
    /// The same with other white space.
    Three,
}

impl Form {
    fn of(line: &str) -> Option<Self> {
        match (line.split('\t').count(), line.split_whitespace().count()) {
            (3, _) => Some(Self::Tabs),
            (_, 4) => Some(Self::Trec),
            (_, 3) => Some(Self::Three),
            _ => None,
        }
    }

    /// Query, document and grade of a line.
    fn columns<'a>(self, line: &'a str) -> Option<[&'a str; 3]> {
        let columns: Vec<&'a str> = match self {
            Self::Tabs => line.split('\t').map(str::trim).collect(),
            Self::Trec | Self::Three => line.split_whitespace().collect(),
        };
        match (self, &columns[..]) {
            (Self::Trec, &[query, _, document, grade])
            | (Self::Tabs | Self::Three, &[query, document, grade]) => Some([query, document, grade]),
            _ => None,
        }
    }
}

/// Reads judgements: TREC's four columns `query 0 document grade`, or BEIR's three, `query-id corpus-id score`, with tabs and a
/// header. Queries and their documents stand in the order of the file; a line that says the same as one before it is skipped.
///
/// # Errors
///
/// [`Failure::Input`] when the file cannot be read, is empty, or a line has another number of columns, a grade that is no finite
/// number, or another grade for a pair than a line before it.
pub fn load(file: &Path) -> Result<Labels, Failure> {
    parse(file, &Contents::of(file)?)
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Labels, Failure> {
    let mut lines = lines(file, bytes, EXPECTED)?.peekable();
    let Some(&(first, line)) = lines.peek() else {
        return Err(Failure::input(file, format!("the file is empty, expected {EXPECTED}")));
    };
    let form = Form::of(line).ok_or_else(|| {
        let found = line.split_whitespace().count();
        refused(file, first, &format!("found {found} columns, expected {EXPECTED}"))
    })?;
    let is_header = |line: &str| form.columns(line).is_some_and(|[.., grade]| grade.parse::<f64>().is_err());
    if form != Form::Trec && is_header(line) {
        lines.next();
    }

    let (mut queries, mut documents) = (Ids::default(), Ids::default());
    // For each query its labels, and the line of each document.
    let mut labels: Vec<Vec<Label>> = Vec::new();
    let mut known: HashMap<(u32, u32), (f64, usize)> = HashMap::new();
    for (number, line) in lines {
        let refused = |problem: &str| refused(file, number, problem);
        let Some([query, document, grade]) = form.columns(line) else {
            let (found, expected) = match form {
                Form::Tabs => (line.split('\t').count(), "3 with tabs between them"),
                Form::Trec => (line.split_whitespace().count(), "4: query, 0, document, grade"),
                Form::Three => (line.split_whitespace().count(), "3: query, document, grade"),
            };
            return Err(refused(&format!(
                "found {found} columns, expected {expected}, as the lines before it"
            )));
        };
        if query.is_empty() || document.is_empty() {
            return Err(refused("an id is empty"));
        }
        let grade = match grade.parse::<f64>() {
            Ok(grade) if grade.is_finite() && grade.abs() <= GREATEST_GRADE => grade,
            _ => {
                let expected = format!("expected a number of at most {GREATEST_GRADE:e}");
                return Err(refused(&format!("the grade is {}, {expected}", quoted(grade))));
            }
        };
        let too_many = |error| refused(&format!("{error}"));
        let (query_at, document_at) =
            (queries.intern(query).map_err(too_many)?, documents.intern(document).map_err(too_many)?);
        match known.get(&(query_at, document_at)) {
            Some(&(before, _)) if before == grade => continue,
            Some(&(before, line)) => {
                return Err(refused(&format!(
                    "the document {} has the grade {grade} for the query {}, line {line} gives it {before}; keep one of them",
                    quoted(document),
                    quoted(query)
                )));
            }
            None => known.insert((query_at, document_at), (grade, number)),
        };
        if labels.len() < queries.len() {
            labels.push(Vec::new());
        }
        labels[query_at as usize].push(Label { document: document_at, grade });
    }
    if labels.is_empty() {
        return Err(Failure::input(file, format!("there is a header and nothing else, expected {EXPECTED}")));
    }
    let mut lists = Lists::default();
    labels.into_iter().for_each(|labels| lists.push_list(labels));
    Ok(Labels::new(queries, documents, lists))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries with their documents and grades.
    type Judged = Vec<(String, Vec<(String, f64)>)>;

    fn read(text: &str) -> Result<Judged, String> {
        let labels = parse(Path::new("q"), text.as_bytes()).map_err(|failure| {
            assert_eq!(failure.exit_code(), 3);
            failure.to_string()
        })?;
        let of = |query: &str| {
            let list = labels.of(query).iter();
            list.map(|label| (labels.documents[label.document].to_owned(), label.grade)).collect()
        };
        Ok(labels.queries.iter().map(|query| (query.to_owned(), of(query))).collect())
    }

    fn expected() -> Judged {
        let label = |id: &str, grade| (id.to_owned(), grade);
        vec![
            ("q2".to_owned(), vec![label("d1", 2.0), label("d3", 1.0)]),
            ("q1".to_owned(), vec![label("d2", 0.0)]),
        ]
    }

    #[test]
    fn trec_and_beir_files_say_the_same() {
        for text in [
            "q2 0 d1 2\nq1 0 d2 0\nq2 0 d3 1\n",
            "\u{feff}q2\t0\td1\t2\r\n\r\nq1 \t Q0  d2 0\r\nq2 0 d3 1",
            "query-id\tcorpus-id\tscore\nq2\td1\t2\nq1\td2\t0\nq2\td3\t1\n",
            "q2\td1\t2\nq1\td2\t0\nq2\td3\t1\nq2\td1\t2\n",
            "q2 d1 2.0\nq1 d2 0\nq2 d3 1\n",
        ] {
            assert_eq!(read(text), Ok(expected()), "{text:?}");
        }
        let spaces = read("query-id\tcorpus-id\tscore\na b\tc d\t1\n").expect("read");
        assert_eq!(spaces, [("a b".to_owned(), vec![("c d".to_owned(), 1.0)])]);
    }

    #[test]
    fn what_is_no_judgement_is_refused_by_its_line() {
        for (text, parts) in [
            ("", &["the file is empty"][..]),
            ("\u{feff} \r\n", &["the file is empty"]),
            ("q 0 d 1\nq 0 d\n", &["line 2", "found 3 columns, expected 4"]),
            ("q 0 d 1 x\n", &["line 1", "found 5 columns"]),
            ("query-id\tcorpus-id\tscore\n", &["a header and nothing else"]),
            ("query-id\tcorpus-id\tscore\nq\td\n", &["line 2", "found 2 columns", "tabs"]),
            ("query-id\tcorpus-id\tscore\n\n\td\t1\n", &["line 3", "an id is empty"]),
            ("q 0 d high\n", &["line 1", "the grade is \"high\""]),
            ("q 0 d 1\nq 0 e NaN\n", &["line 2", "the grade is \"NaN\""]),
            ("q 0 d inf\n", &["the grade is \"inf\""]),
            ("q 0 d 1\nq 0 d 2\n", &["line 2", "\"d\" has the grade 2", "line 1 gives it 1"]),
        ] {
            let message = read(text).expect_err(text);
            assert!(message.starts_with("q: ") && !message.contains('\n'), "{message}");
            assert!(parts.iter().all(|part| message.contains(part)), "{text:?}: {message}");
        }
        let refused = |bytes: &[u8]| parse(Path::new("q"), bytes).expect_err("refused").to_string();
        assert!(refused(b"q 0 d 1\nq 0 \xff 1\n").contains("line 2: the text is not UTF-8"));
        assert!(refused(b"\xff\xfeq\0").contains("UTF-16"));
    }
}
