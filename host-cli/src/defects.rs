//! What is wrong with a data set without making it useless: counted, named, and said what was done about it.

use core::fmt;

use serde::Serialize;

/// How many examples of a defect are kept.
const MOST_EXAMPLES: usize = 3;

/// A kind of defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DefectKind {
    /// A label names a document that the corpus does not have: the label is ignored.
    LabelOfAbsentDocument,
    /// Labels stand under a query id that the queries do not have: they are ignored.
    LabelsOfAbsentQuery,
    /// A document is listed twice for one query: it counts once.
    RepeatedLabel,
    /// A query has no relevant document (left): it is left out of training and evaluation.
    QueryWithoutLabels,
    /// A negative names a document that the corpus does not have: it is ignored.
    NegativeOfAbsentDocument,
    /// A document is listed as relevant and as negative for one query: it counts as relevant.
    NegativeIsRelevant,
    /// A query's text is empty or white space: it is used all the same.
    EmptyQuery,
    /// A query's text is that of an earlier one: both are used; where they are about other documents, each counts
    /// the other's as wrong.
    RepeatedQueryText,
    /// A document's text is empty or white space: it is used all the same.
    EmptyDocument,
    /// A document's text is that of an earlier one: both are used; where only one of them is labelled, the
    /// other is a mistake that no ranking can avoid.
    RepeatedDocumentText,
    /// A document's vector is that of an earlier one: their scores are always equal, ordered by id.
    RepeatedDocumentVector,
    /// A query's vector is zero: its similarity to every document is 0.
    ZeroQueryVector,
    /// A document's vector is zero: its similarity to every query is 0.
    ZeroDocumentVector,
    /// A vector in the data set file belongs to no query or document: it is ignored and takes no part in
    /// rankings.
    SurplusVector,
    /// The corpus has a single document: every model finds it.
    SingleDocument,
}

impl DefectKind {
    /// What is counted, and what was done about it.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::LabelOfAbsentDocument => ("labels of documents that are not in the corpus", "ignored"),
            Self::LabelsOfAbsentQuery => ("labelled query ids that are not among the queries", "ignored"),
            Self::RepeatedLabel => ("labels that repeat a document of the same query", "counted once"),
            Self::QueryWithoutLabels => ("queries without a relevant document", "left out"),
            Self::NegativeOfAbsentDocument => ("negatives that are not in the corpus", "ignored"),
            Self::NegativeIsRelevant => ("negatives that are relevant to the same query", "kept as relevant"),
            Self::EmptyQuery => ("queries with an empty text", "used"),
            Self::RepeatedQueryText => ("queries that repeat the text of another", "used"),
            Self::EmptyDocument => ("documents with an empty text", "used"),
            Self::RepeatedDocumentText => ("documents that repeat the text of another", "used"),
            Self::RepeatedDocumentVector => {
                ("documents that repeat the vector of another", "used, ties go by id")
            }
            Self::ZeroQueryVector => ("queries with a zero vector", "every similarity is 0"),
            Self::ZeroDocumentVector => ("documents with a zero vector", "every similarity is 0"),
            Self::SurplusVector => ("vectors without a text", "ignored, not ranked"),
            Self::SingleDocument => {
                ("corpora of a single document", "every score is perfect and says nothing")
            }
        }
    }
}

/// How often a defect occurs, with the first few examples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Its kind.
    pub kind: DefectKind,
    /// How often it occurs.
    pub count: usize,
    /// The first few ids, quoted.
    pub examples: Vec<String>,
}

impl fmt::Display for Defect {
    /// One line: what, how often, what was done, the first examples.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, done) = self.kind.words();
        write!(f, "{what}: {}, {done} ({}", self.count, self.examples.join(", "))?;
        f.write_str(if self.count > self.examples.len() { ", …)" } else { ")" })
    }
}

/// The defects of a data set, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    list: Vec<Defect>,
}

impl Defects {
    pub(crate) fn add(&mut self, kind: DefectKind, example: impl FnOnce() -> String) {
        let position =
            self.list.binary_search_by_key(&kind, |defect| defect.kind).unwrap_or_else(|position| {
                self.list.insert(position, Defect { kind, count: 0, examples: Vec::new() });
                position
            });
        let defect = &mut self.list[position];
        defect.count += 1;
        if defect.examples.len() < MOST_EXAMPLES {
            defect.examples.push(example());
        }
    }

    /// How often a defect occurs.
    #[must_use]
    pub fn count(&self, kind: DefectKind) -> usize {
        self.iter().find(|defect| defect.kind == kind).map_or(0, |defect| defect.count)
    }

    /// The defects in the order of their kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Defect> {
        self.list.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_count_what_was_done_and_the_first_examples() {
        let mut defects = Defects::default();
        for id in 0..5 {
            defects.add(DefectKind::QueryWithoutLabels, || format!("\"q{id}\""));
        }
        defects.add(DefectKind::LabelOfAbsentDocument, || "\"q2\" → \"d_gone\"".to_owned());
        let lines: Vec<_> = defects.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "labels of documents that are not in the corpus: 1, ignored (\"q2\" → \"d_gone\")",
                "queries without a relevant document: 5, left out (\"q0\", \"q1\", \"q2\", …)",
            ]
        );
        assert_eq!(defects.count(DefectKind::QueryWithoutLabels), 5);
        assert_eq!(defects.count(DefectKind::EmptyQuery), 0);
    }
}
