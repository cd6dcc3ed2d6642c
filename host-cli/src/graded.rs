//! Documents with grades, in many short lists.

use crate::ends::Ends;

/// A document that is relevant to a query, or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// The document's index in the corpus, or in the list of documents that it is said of.
    pub document: u32,
    /// Its grade: above 0 it is relevant. Finite; 1 where a file has a plain list.
    pub grade: f64,
}

/// Documents with a grade each, in order.
#[derive(Clone, Copy, Debug)]
pub struct Graded<'a> {
    documents: &'a [u32],
    /// One for each document; none where all are 1.
    grades: &'a [f64],
}

impl<'a> Graded<'a> {
    /// No documents.
    pub(crate) const NONE: Graded<'static> = Graded { documents: &[], grades: &[] };

    /// The number of documents.
    #[must_use]
    pub fn len(self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.documents.is_empty()
    }

    /// The documents without their grades.
    #[must_use]
    pub fn documents(self) -> &'a [u32] {
        self.documents
    }

    /// The documents with their grades.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Judgement> + Clone + 'a {
        let grade = move |at: usize| self.grades.get(at).copied().unwrap_or(1.0);
        self.documents.iter().enumerate().map(move |(at, &document)| Judgement { document, grade: grade(at) })
    }

    /// The documents with their grades, as metrics take them.
    #[must_use]
    pub fn to_vec(self) -> Vec<Judgement> {
        self.iter().collect()
    }
}

impl PartialEq for Graded<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Lists of documents with a grade each, under their numbers. Grades take no memory as long as all of them are 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct GradedLists {
    documents: Vec<u32>,
    /// The grade of each document, once one is not 1.
    grades: Vec<f64>,
    /// Where each list ends among the documents.
    ends: Ends,
}

impl GradedLists {
    /// Appends a document to the list that [`close`](Self::close) will end.
    pub(crate) fn push(&mut self, Judgement { document, grade }: Judgement) {
        if grade != 1.0 && self.grades.is_empty() {
            self.grades.resize(self.documents.len(), 1.0);
        }
        if grade != 1.0 || !self.grades.is_empty() {
            self.grades.push(grade);
        }
        self.documents.push(document);
    }

    /// The documents of the list that is not closed yet.
    pub(crate) fn open(&self) -> &[u32] {
        &self.documents[self.ends.last()..]
    }

    /// Ends the list; those pushed since the last one was closed are its documents.
    pub(crate) fn close(&mut self) {
        self.ends.push(self.documents.len());
    }

    /// Appends a list.
    pub(crate) fn push_list(&mut self, judgements: impl IntoIterator<Item = Judgement>) {
        judgements.into_iter().for_each(|judgement| self.push(judgement));
        self.close();
    }

    /// A list.
    ///
    /// # Panics
    ///
    /// When there is no such list.
    pub(crate) fn get(&self, list: usize) -> Graded<'_> {
        let range = self.ends.range(list);
        let grades = self.grades.get(range.clone()).unwrap_or_default();
        Graded { documents: &self.documents[range], grades }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graded(pairs: &[(u32, f64)]) -> Vec<Judgement> {
        pairs.iter().map(|&(document, grade)| Judgement { document, grade }).collect()
    }

    #[test]
    fn lists_keep_documents_and_grades_apart_also_before_the_first_that_is_not_one() {
        let all = [
            graded(&[(7, 1.0), (3, 1.0)]),
            graded(&[]),
            graded(&[(3, 1.0), (4, 2.5), (5, 1.0)]),
            graded(&[(9, -0.0)]),
            graded(&[(7, 1.0)]),
        ];
        let mut lists = GradedLists::default();
        all.iter().for_each(|list| lists.push_list(list.iter().copied()));
        for (at, list) in all.iter().enumerate() {
            assert_eq!(lists.get(at).to_vec(), *list);
            assert_eq!((lists.get(at).len(), lists.get(at).is_empty()), (list.len(), list.is_empty()));
        }
        assert_eq!(lists.get(2).documents(), [3, 4, 5]);
        assert!(lists.open().is_empty());
        lists.push(Judgement { document: 8, grade: 1.0 });
        assert_eq!(lists.open(), [8]);
    }

    #[test]
    fn grades_that_are_all_one_take_no_memory_and_equal_those_that_are_written_down() {
        let (mut plain, mut written) = (GradedLists::default(), GradedLists::default());
        written.push_list(graded(&[(0, 2.0)]));
        for lists in [&mut plain, &mut written] {
            lists.push_list(graded(&[(1, 1.0), (2, 1.0)]));
        }
        assert_eq!((plain.grades.capacity(), written.grades.len()), (0, 3));
        assert!(plain.get(0) == written.get(1) && plain.get(0) != written.get(0));
        assert_eq!((Graded::NONE.len(), Graded::NONE.to_vec()), (0, Vec::new()));
    }
}
