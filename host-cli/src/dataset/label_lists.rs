//! Labels that come one by one, gathered by query.

use super::{Label, Labels};
use crate::ids::{Ids, Rejected};
use crate::lists::Lists;

/// Pairs of a query and a document, in any order.
#[derive(Default)]
pub(crate) struct Pairs {
    queries: Ids,
    documents: Ids,
    /// The query of each label.
    labels: Vec<(u32, Label)>,
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
        self.labels.push((query, Label { document, grade }));
        Ok((query, document))
    }

    /// The labels by query: queries in the order of their first label, labels in theirs.
    pub(crate) fn into_labels(self) -> Labels {
        by_query(self.queries, self.documents, &self.labels)
    }
}

/// The labels of each of `queries`, which are numbered as they stand there, in the order of `labels`.
pub(super) fn by_query(queries: Ids, documents: Ids, labels: &[(u32, Label)]) -> Labels {
    // Where the labels of each query begin, then where the next one goes.
    let mut next = vec![0_usize; queries.len() + 1];
    for (query, _) in labels {
        next[*query as usize + 1] += 1;
    }
    for query in 1..next.len() {
        next[query] += next[query - 1];
    }
    let ends: Vec<usize> = next[1..].to_vec();
    let mut sorted = vec![Label { document: 0, grade: 0.0 }; labels.len()];
    for &(query, label) in labels {
        let place = &mut next[query as usize];
        sorted[*place] = label;
        *place += 1;
    }
    let mut lists = Lists::default();
    let mut start = 0;
    for end in ends {
        lists.push_list(sorted[start..end].iter().copied());
        start = end;
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
