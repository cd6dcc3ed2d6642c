//! Labels that come one by one, gathered by query.

use super::Labels;
use crate::graded::{GradedLists, Judgement};
use crate::ids::{Ids, Rejected};

/// A document that is listed for a query.
#[derive(Clone, Copy)]
pub(super) struct Label {
    pub(super) query: u32,
    pub(super) document: u32,
    pub(super) grade: f64,
}

/// Pairs of a query and a document, in any order.
#[derive(Default)]
pub(crate) struct Pairs {
    queries: Ids,
    documents: Ids,
    labels: Vec<Label>,
}

impl Pairs {
    /// Adds a label; returns the places of its query and its document among those so far.
    ///
    /// # Errors
    ///
    /// [`Rejected::TooMany`].
    pub(crate) fn push(&mut self, query: &str, document: &str, grade: f64) -> Result<(u32, u32), Rejected> {
        let query = self.queries.intern(query)?;
        let document = self.documents.intern(document)?;
        self.labels.push(Label { query, document, grade });
        Ok((query, document))
    }

    /// The labels by query: queries in the order of their first label, labels in theirs.
    pub(crate) fn into_labels(self) -> Labels {
        by_query(self.queries, self.documents, self.labels)
    }
}

/// The labels of each of `queries`, which are numbered as they stand there, in the order of `labels`.
pub(super) fn by_query(queries: Ids, documents: Ids, mut labels: Vec<Label>) -> Labels {
    // Those of one query stay in their order.
    labels.sort_by_key(|label| label.query);
    let mut labels = labels.into_iter().peekable();
    let mut lists = GradedLists::default();
    for query in (0..).take(queries.len()) {
        while let Some(Label { document, grade, .. }) = labels.next_if(|label| label.query == query) {
            lists.push(Judgement { document, grade });
        }
        lists.close();
    }
    Labels { queries, documents, lists }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_gathered_by_query_in_the_order_they_came() {
        let mut pairs = Pairs::default();
        for (query, document, grade) in
            [("b", "x", 1.0), ("a", "y", 2.0), ("b", "z", 0.0), ("a", "x", 1.0), ("b", "x", 3.0)]
        {
            pairs.push(query, document, grade).expect("few");
        }
        let labels = pairs.into_labels();
        let of = |query| -> Vec<(&str, f64)> {
            labels.of(query).iter().map(|label| (&labels.documents[label.document], label.grade)).collect()
        };
        assert_eq!(labels.queries.iter().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(of("b"), [("x", 1.0), ("z", 0.0), ("x", 3.0)]);
        assert_eq!(of("a"), [("y", 2.0), ("x", 1.0)]);
        assert!(Pairs::default().into_labels().of("a").is_empty());
    }
}
