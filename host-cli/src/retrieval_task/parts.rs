//! Parts of a task, and tasks put together: all share the vectors.

use core::hash::Hash;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use query_adapter::sample::{Generator, shuffle};

use super::{QueryTable, RetrievalTask};
use crate::defects::Defects;
use crate::failure::Failure;
use crate::graded::{GradedLists, Judgement};
use crate::ids::Ids;
use crate::lists::Lists;
use crate::texts::TextKey;
use crate::vectors::{Matrix, Vectors};

/// What the parts of a task must not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// Relevant documents: what is measured is how a question about an unknown document is answered.
    Documents,
    /// Texts of queries, or vectors where there are no texts: a relevant document may be known from other questions.
    Queries,
}

impl RetrievalTask {
    /// The queries for which `keep` holds, with the whole corpus and no defects of their own.
    #[must_use]
    pub fn part(&self, keep: impl Fn(usize) -> bool) -> Self {
        let chosen = self.chosen.iter().enumerate().filter(|&(query, _)| keep(query));
        Self {
            file: self.file.clone(),
            table: Arc::clone(&self.table),
            chosen: chosen.map(|(_, &entry)| entry).collect(),
            query_vectors: self.query_vectors.clone(),
            corpus: Arc::clone(&self.corpus),
            defects: Defects::default(),
            second_moments: Arc::default(),
        }
    }

    /// Splits off a share of the queries such that no document, and no two documents of the same text, are
    /// relevant to queries of both parts, and no query is in both. Both parts have the whole corpus and no defects of
    /// their own.
    ///
    /// Queries that share relevant documents, also through others, and copies of a query stay together. The groups, in
    /// the order of their first queries, are shuffled by `seed`; those that still fit into `share` of the queries are
    /// split off in that order. When none fits, the smallest is split off.
    ///
    /// Returns the rest and the part split off, both with queries in the order of the file.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when `share` is not between 0 and 1; [`Failure::Input`] when all queries hang
    /// together.
    pub fn split_by_document(&self, share: f64, seed: u64) -> Result<(Self, Self), Failure> {
        if !(share > 0.0 && share < 1.0) {
            let problem =
                format!("the share of queries to split off is {share}, expected a number between 0 and 1");
            return Err(Failure::Usage(problem));
        }
        let groups = self.document_groups();
        if groups.len() < 2 {
            let problem = format!(
                "all {} queries share relevant documents or texts, so none can be split off for validation by \
                 document; give --validation",
                self.chosen.len()
            );
            return Err(Failure::input(&self.file, problem));
        }
        let mut order: Vec<u32> = (0..).take(groups.len()).collect();
        shuffle(&mut order, &mut Generator::new(seed));
        let order = || order.iter().map(|&group| &groups[group as usize]);

        #[allow(
            clippy::cast_possible_truncation,
            reason = "a share of a number of queries is no greater than it"
        )]
        let wanted = ((share * self.chosen.len() as f64).round() as usize).min(self.chosen.len() - 1);
        let mut is_split_off = vec![false; self.chosen.len()];
        let mut count = 0;
        for group in order() {
            if count + group.len() <= wanted {
                count += group.len();
                group.iter().for_each(|&query| is_split_off[query as usize] = true);
            }
        }
        if count == 0 {
            let smallest = order().min_by_key(|group| group.len());
            smallest.into_iter().flatten().for_each(|&query| is_split_off[query as usize] = true);
        }
        Ok((self.part(|query| !is_split_off[query]), self.part(|query| is_split_off[query])))
    }

    /// The queries that hang together by relevant documents or are the same, in the order of the groups' first queries.
    fn document_groups(&self) -> Vec<Vec<u32>> {
        // A forest over documents: each points to another of its group, or to itself.
        let mut parents: Vec<u32> = (0..).take(self.corpus.len()).collect();
        let group_of = |&document: &u32| self.corpus.text_group(document);
        // A copy of a query that was trained on tells nothing of other queries. Look-ups only.
        let mut first_answers = HashMap::new();
        for (index, query) in self.queries().iter().enumerate() {
            let documents = query.positives.documents();
            let Some(first) = documents.first() else { continue };
            let of_copy = *first_answers.entry(self.query_key(index)).or_insert(first);
            for (a, b) in documents.iter().zip(&documents[1..]).chain([(of_copy, first)]) {
                let [a, b] = [a, b].map(|document| root(&mut parents, group_of(document)));
                parents[a as usize] = b;
            }
        }
        let labelled = (0..).zip(self.queries().iter());
        let labelled = labelled
            .filter_map(|(index, query)| Some((index, group_of(query.positives.documents().first()?))));
        grouped(labelled.map(|(index, document)| (index, root(&mut parents, document))))
    }

    /// For each query the part, of `parts`, that it belongs to; parts are kept `apart` and as equal in size as that allows.
    /// The groups that must stay together are shuffled by `seed`; each joins the smallest part.
    ///
    /// None when some part would stay empty or a single group is more than an equal share.
    #[must_use]
    pub fn parts(&self, parts: usize, apart: Apart, seed: u64) -> Option<Vec<usize>> {
        let groups = match apart {
            Apart::Documents => self.document_groups(),
            Apart::Queries => self.query_groups(),
        };
        let greatest = groups.iter().map(Vec::len).max()?;
        if groups.len() < parts || greatest * parts > self.chosen.len().next_multiple_of(parts) {
            return None;
        }
        let mut order: Vec<u32> = (0..).take(groups.len()).collect();
        shuffle(&mut order, &mut Generator::new(seed));
        let mut sizes = vec![0; parts];
        let mut part_of = vec![0; self.chosen.len()];
        for group in order {
            let group = &groups[group as usize];
            let (part, _) = sizes.iter().enumerate().min_by_key(|&(part, &size)| (size, part))?;
            sizes[part] += group.len();
            group.iter().for_each(|&query| part_of[query as usize] = part);
        }
        sizes.iter().all(|&size| size > 0).then_some(part_of)
    }

    /// The queries that are the same, in the order of the groups' first queries.
    fn query_groups(&self) -> Vec<Vec<u32>> {
        grouped((0..).take(self.chosen.len()).map(|index| (index, self.query_key(index as usize))))
    }

    /// What tells queries apart: the text or, of one without, the vector.
    fn query_key(&self, index: usize) -> (TextKey, Option<&[u8]>) {
        let text = self.query(index).text;
        let vector = text.is_blank().then(|| self.query_vector(index));
        (text, vector.map(bytemuck::cast_slice))
    }

    /// The queries that `other` does not have.
    #[must_use]
    pub fn without_queries_of(&self, other: &Self) -> Self {
        // Look-ups only.
        let known: HashSet<_> = (0..other.chosen.len()).map(|query| other.query_key(query)).collect();
        self.part(|query| !known.contains(&self.query_key(query)))
    }

    /// This task with the queries of `other` behind its own. None unless both have the same documents: ids, texts and
    /// vectors. A query that is in both, by id and text, is taken once; when the texts differ, there is none.
    #[must_use]
    pub fn with_queries_of(&self, other: &Self) -> Option<Self> {
        if self.dim() != other.dim() || self.corpus.len() != other.corpus.len() {
            return None;
        }
        let mut places = Vec::with_capacity(other.corpus.len());
        for document in (0..).take(other.corpus.len()) {
            let place = self.corpus.index_of(other.corpus.id(document))?;
            let same = self.corpus.text(place) == other.corpus.text(document)
                && self.corpus.vector(place) == other.corpus.vector(document);
            places.push(same.then_some(place)?);
        }

        let mut table = QueryTable {
            ids: Ids::default(),
            texts: Vec::new(),
            positives: GradedLists::default(),
            negatives: Lists::default(),
            rows: Vec::new(),
        };
        let mut vectors = Vec::new();
        for (task, place_of) in [(self, None), (other, Some(&places))] {
            let place = |document: u32| place_of.map_or(document, |places| places[document as usize]);
            for (index, query) in task.queries().iter().enumerate() {
                if table.ids.push(query.id).is_err() {
                    let known = table.ids.index_of(query.id)?;
                    if table.texts[known as usize] == query.text {
                        continue;
                    }
                    return None;
                }
                table.texts.push(query.text);
                let moved = |j: Judgement| Judgement { document: place(j.document), grade: j.grade };
                table.positives.push_list(query.positives.iter().map(moved));
                table.negatives.push_list(query.negatives.iter().map(|&document| place(document)));
                table.rows.push(u32::try_from(table.rows.len()).ok()?);
                vectors.extend_from_slice(task.query_vector(index));
            }
        }
        Some(Self {
            file: self.file.clone(),
            chosen: (0..).take(table.rows.len()).collect(),
            table: table.into(),
            query_vectors: Matrix::from_rows(self.dim(), vectors),
            corpus: Arc::clone(&self.corpus),
            defects: Defects::default(),
            second_moments: Arc::default(),
        })
    }

    /// Other queries over the documents of this task: vectors from `file`, without known answers. None when there are none,
    /// or of another dimension.
    #[must_use]
    pub fn with_queries(&self, file: &Path, vectors: &Vectors) -> Option<Self> {
        if vectors.is_empty() || vectors.dim() != self.dim() {
            return None;
        }
        let rows: Vec<u32> = (0..u32::try_from(vectors.len()).ok()?).collect();
        let mut table = QueryTable {
            ids: vectors.ids().clone(),
            texts: vec![TextKey::BLANK; rows.len()],
            positives: GradedLists::default(),
            negatives: Lists::default(),
            rows: rows.clone(),
        };
        for _ in &rows {
            table.positives.close();
            table.negatives.close();
        }
        Some(Self {
            file: file.to_owned(),
            chosen: rows,
            table: table.into(),
            query_vectors: vectors.matrix().clone(),
            corpus: Arc::clone(&self.corpus),
            defects: Defects::default(),
            second_moments: Arc::default(),
        })
    }

    /// This task with the answers dealt out anew: every query gets those of another one, or by chance its own. What is
    /// left to learn is which documents are asked for, and not by whom.
    #[must_use]
    pub fn with_shuffled_answers(&self, seed: u64) -> Self {
        let mut order: Vec<u32> = (0..).take(self.chosen.len()).collect();
        shuffle(&mut order, &mut Generator::new(seed));
        let source = &self.table;
        let entries = source.ids.len();
        // Those left out keep what they have.
        let mut answers_of: Vec<usize> = (0..entries).collect();
        for (&entry, &from) in self.chosen.iter().zip(&order) {
            answers_of[entry as usize] = self.chosen[from as usize] as usize;
        }
        let mut table = QueryTable {
            ids: source.ids.clone(),
            texts: source.texts.clone(),
            positives: GradedLists::default(),
            negatives: Lists::default(),
            rows: source.rows.clone(),
        };
        for from in answers_of {
            table.positives.push_list(source.positives.get(from).iter());
            table.negatives.push_list(source.negatives.get(from).iter().copied());
        }
        Self { table: table.into(), ..self.clone() }
    }
}

/// The root of a tree of a forest; the path to it is halved on the way.
fn root(parents: &mut [u32], mut node: u32) -> u32 {
    while parents[node as usize] != node {
        let grandparent = parents[parents[node as usize] as usize];
        parents[node as usize] = grandparent;
        node = grandparent;
    }
    node
}

/// Queries of one key together, in the order of the groups' first queries.
fn grouped<K: Eq + Hash>(keyed: impl Iterator<Item = (u32, K)>) -> Vec<Vec<u32>> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    // Look-ups only.
    let mut group_of_key = HashMap::new();
    for (query, key) in keyed {
        let group = *group_of_key.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(query);
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::dataset::Dataset;

    /// A task of `labels.len()` queries over documents 0, 1, …, each text its own unless `texts` says
    /// otherwise.
    fn task_of(labels: &[Vec<u32>], texts: impl Fn(u32) -> String) -> RetrievalTask {
        let documents = labels.iter().flatten().copied().max().unwrap_or(0) + 1;
        let entries =
            |count: u32, entry: &dyn Fn(u32) -> String| (0..count).map(entry).collect::<Vec<_>>().join(",");
        let queries = u32::try_from(labels.len()).expect("few");
        let text = format!(
            r#"{{"queries": {{{}}}, "corpus": {{{}}}, "relevant_docs": {{{}}},
               "query_embeddings": {{{}}}, "corpus_embeddings": {{{}}}}}"#,
            entries(queries, &|q| format!("\"q{q}\": \"query {q}\"")),
            entries(documents, &|d| format!("\"d{d}\": \"{}\"", texts(d))),
            entries(queries, &|q| {
                let documents = labels[q as usize].iter().map(|d| format!("\"d{d}\"")).collect::<Vec<_>>();
                format!("\"q{q}\": [{}]", documents.join(","))
            }),
            entries(queries, &|q| format!("\"q{q}\": [1, {q}]")),
            entries(documents, &|d| format!("\"d{d}\": [1, {d}]")),
        );
        let dataset = Dataset::parse(Path::new("train.json"), text.as_bytes()).expect("read");
        RetrievalTask::join(dataset, None).expect("joined")
    }

    fn ids(task: &RetrievalTask) -> Vec<&str> {
        task.queries().iter().map(|query| query.id).collect()
    }

    #[test]
    fn a_split_is_decided_by_its_seed_alone() {
        let task = task_of(&(0..20).map(|query| vec![query]).collect::<Vec<_>>(), |d| d.to_string());
        let split = |seed| task.split_by_document(0.2, seed).expect("split");
        assert_eq!(ids(&split(1).1), ids(&split(1).1));
        assert_ne!(ids(&split(1).1), ids(&split(2).1));
        // The choice is a promise: it never changes.
        assert_eq!(ids(&split(42).1), ["q7", "q9", "q15", "q16"]);
        assert_eq!(split(42).0.queries().len(), 16);
        assert_eq!(split(42).1.corpus().len(), 20);
        assert_eq!(split(42).1.query_vector(1), [1.0, 9.0]);
    }

    #[test]
    fn queries_that_share_documents_through_others_stay_together() {
        // 0–1–2 by documents, 3–4 by one text under two ids.
        let labels = [vec![0], vec![0, 1], vec![1], vec![2], vec![3]];
        let task = task_of(&labels, |d| if d >= 2 { "same".to_owned() } else { d.to_string() });
        for seed in 0..20 {
            let (rest, split_off) = task.split_by_document(0.4, seed).expect("split");
            assert_eq!((ids(&rest), ids(&split_off)), (vec!["q0", "q1", "q2"], vec!["q3", "q4"]));
        }
    }

    #[test]
    fn the_smallest_group_is_split_off_when_none_fits() {
        let task = task_of(&[vec![0], vec![0], vec![0], vec![1], vec![1]], |d| d.to_string());
        let (rest, split_off) = task.split_by_document(0.1, 7).expect("split");
        assert_eq!((ids(&rest), ids(&split_off)), (vec!["q0", "q1", "q2"], vec!["q3", "q4"]));
    }

    #[test]
    fn a_split_never_takes_everything() {
        let task = task_of(&[vec![0], vec![1], vec![2]], |d| d.to_string());
        for seed in 0..20 {
            let (rest, split_off) = task.split_by_document(0.99, seed).expect("split");
            assert!(!rest.queries().is_empty() && !split_off.queries().is_empty());
        }
    }

    #[test]
    fn queries_that_all_hang_together_cannot_be_split() {
        let task = task_of(&[vec![0, 1], vec![1, 2], vec![2, 0]], |d| d.to_string());
        let message = task.split_by_document(0.5, 7).expect_err("must be refused").to_string();
        assert!(
            message.contains("all 3 queries share relevant documents or texts")
                && message.contains("--validation")
        );
        for share in [0.0, 1.0, -0.1, 2.0, f64::NAN] {
            assert_eq!(task.split_by_document(share, 7).expect_err("must be refused").exit_code(), 2);
        }
    }

    fn parted(task: &RetrievalTask, parts: usize, apart: Apart, seed: u64) -> Vec<Vec<String>> {
        let part_of = task.parts(parts, apart, seed).expect("parts");
        let of =
            |part| ids(&task.part(|query| part_of[query] == part)).iter().map(|&id| id.to_owned()).collect();
        (0..parts).map(of).collect()
    }

    #[test]
    fn parts_are_as_equal_as_what_hangs_together_allows() {
        let task = task_of(&(0..10).map(|query| vec![query / 2]).collect::<Vec<_>>(), |d| d.to_string());
        for seed in 0..20 {
            let mut sizes: Vec<_> = parted(&task, 3, Apart::Documents, seed).iter().map(Vec::len).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [2, 4, 4]);
            let mut sizes: Vec<_> = parted(&task, 3, Apart::Queries, seed).iter().map(Vec::len).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [3, 3, 4]);
        }
        assert_eq!(parted(&task, 3, Apart::Documents, 1), parted(&task, 3, Apart::Documents, 1));
        assert_ne!(parted(&task, 3, Apart::Documents, 1), parted(&task, 3, Apart::Documents, 2));
    }

    #[test]
    fn there_are_no_parts_where_most_queries_hang_together() {
        let together = task_of(&[vec![0], vec![0], vec![0], vec![1]], |d| d.to_string());
        assert_eq!(together.parts(3, Apart::Documents, 0), None);
        assert_eq!(together.parts(2, Apart::Documents, 0), None);
        assert!(together.parts(2, Apart::Queries, 0).is_some());
        assert_eq!(together.parts(5, Apart::Queries, 0), None);
    }

    #[test]
    fn queries_that_are_the_same_stay_together() {
        // b–c by text; of those without a text f–g by vector.
        let text = r#"{"queries": {"a": "x", "b": "y", "c": "y", "d": "", "e": "", "f": "", "g": ""},
            "corpus": {"0": "p", "1": "q"}, "corpus_embeddings": {"0": [1, 0], "1": [0, 1]},
            "relevant_docs": {"a": ["0"], "b": ["1"], "c": ["0"], "d": ["1"], "e": ["0"], "f": ["1"], "g": ["0"]},
            "query_embeddings": {"a": [1, 2], "b": [1, 2], "c": [1, 3], "d": [1, 4], "e": [1, 5], "f": [1, 6], "g": [1, 6]}}"#;
        let dataset = Dataset::parse(Path::new("train.json"), text.as_bytes()).expect("read");
        let task = RetrievalTask::join(dataset, None).expect("joined");
        assert_eq!(task.query_groups(), [vec![0], vec![1, 2], vec![3], vec![4], vec![5, 6]]);
    }

    #[test]
    fn copies_of_a_query_stay_together_whatever_answers_them() {
        // b and c by text, e and f by vector; a and d have vectors of these.
        let text = r#"{"queries": {"a": "x", "b": "y", "c": "y", "d": "z", "e": "", "f": ""},
            "corpus": {"0": "p", "1": "q", "2": "r", "3": "s", "4": "t", "5": "u"},
            "corpus_embeddings": {"0": [1, 0], "1": [1, 1], "2": [1, 2], "3": [1, 3], "4": [1, 4], "5": [1, 5]},
            "relevant_docs": {"a": ["0"], "b": ["1"], "c": ["2"], "d": ["3"], "e": ["4"], "f": ["5"]},
            "query_embeddings": {"a": [1, 2], "b": [1, 2], "c": [1, 3], "d": [1, 6], "e": [1, 6], "f": [1, 6]}}"#;
        let dataset = Dataset::parse(Path::new("train.json"), text.as_bytes()).expect("read");
        let task = RetrievalTask::join(dataset, None).expect("joined");
        assert_eq!(task.document_groups(), [vec![0], vec![1, 2], vec![3], vec![4, 5]]);
    }

    #[test]
    fn queries_of_a_task_over_the_same_documents_are_put_behind() {
        let all = task_of(&[vec![0], vec![1], vec![2], vec![0, 2]], |d| d.to_string());
        let (first, rest) = (all.part(|query| query < 2), all.part(|query| query >= 1));
        let joined = first.with_queries_of(&rest).expect("the same documents");
        // q1 is in both.
        assert_eq!(ids(&joined), ids(&all));
        for query in 0..4 {
            assert_eq!(joined.query_vector(query), all.query_vector(query));
            assert_eq!(joined.query(query).positives, all.query(query).positives);
        }
        let other = task_of(&[vec![0], vec![1], vec![2]], |d| format!("other {d}"));
        assert!(first.with_queries_of(&other).is_none());
        let fewer = task_of(&[vec![0], vec![1]], |d| d.to_string());
        assert!(first.with_queries_of(&fewer).is_none());
    }

    #[test]
    fn shuffled_answers_are_the_same_answers_of_other_queries() {
        let labels: Vec<_> = (0..30).map(|query| vec![query, (query + 1) % 30]).collect();
        let task = task_of(&labels, |d| d.to_string());
        let answers = |task: &RetrievalTask| -> Vec<Vec<u32>> {
            let of = |query: super::super::Query<'_>| query.positives.iter().map(|p| p.document).collect();
            task.queries().iter().map(of).collect()
        };
        let shuffled = task.part(|query| query != 3).with_shuffled_answers(1);
        let (mut before, mut after) = (answers(&task.part(|query| query != 3)), answers(&shuffled));
        assert!(before.iter().zip(&after).filter(|(a, b)| a == b).count() < 5);
        before.sort();
        after.sort();
        assert_eq!(before, after);
        assert_eq!(shuffled.query_vector(3), [1.0, 4.0]);
    }

    #[test]
    fn other_queries_can_be_asked_of_the_same_documents() {
        let task = task_of(&[vec![0], vec![1]], |d| d.to_string());
        let asked = |named: &[&str], values: Vec<f32>, dim| {
            let mut ids = Ids::default();
            named.iter().for_each(|id| assert!(ids.push(id).is_ok()));
            let vectors = Vectors::from_rows("keep.json".to_owned(), ids, dim, values);
            task.with_queries(Path::new("keep.json"), &vectors)
        };
        let others =
            asked(&["x", "y", "z"], vec![5.0, 6.0, 7.0, 8.0, 9.0, 10.0], 2).expect("of two components");
        assert_eq!((ids(&others), others.corpus().len()), (vec!["x", "y", "z"], 2));
        assert_eq!(others.query_vector(1), [7.0, 8.0]);
        assert!(asked(&["x"], vec![1.0; 3], 3).is_none());
        assert!(asked(&[], Vec::new(), 2).is_none());
    }

    proptest! {
        #[test]
        fn no_document_is_relevant_on_both_sides(
            labels in prop::collection::vec(prop::collection::vec(0_u32..40, 1..4), 2..40),
            share in 0.05_f64..0.95,
            seed in any::<u64>(),
        ) {
            let task = task_of(&labels, |d| (d / 2).to_string());
            let Ok((rest, split_off)) = task.split_by_document(share, seed) else { return Ok(()) };
            let texts = |task: &RetrievalTask| -> HashSet<u32> {
                let positives = task.queries().iter().flat_map(|query| query.positives.iter());
                positives.map(|positive| task.corpus().text_group(positive.document)).collect()
            };
            prop_assert!(texts(&rest).is_disjoint(&texts(&split_off)));
            prop_assert!(!rest.queries().is_empty() && !split_off.queries().is_empty());
            // Together they are the whole, each in the order of the file.
            let mut both: Vec<_> = ids(&rest).into_iter().chain(ids(&split_off)).collect();
            let place = |id: &&str| id[1..].parse::<usize>().expect("a number");
            prop_assert!(ids(&rest).is_sorted_by_key(place) && ids(&split_off).is_sorted_by_key(place));
            both.sort_by_key(place);
            prop_assert_eq!(both, ids(&task));
        }
    }
}
