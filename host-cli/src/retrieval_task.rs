//! A data set joined with its vectors: what training and evaluation work on.

mod fingerprint;
mod judged;
mod parts;

use core::num::NonZeroUsize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use fingerprint::Fingerprint;
use judged::Documents;
pub use judged::{Counts, Judged};
pub use parts::Apart;
use query_adapter::MAX_DIM;

use crate::dataset::Dataset;
use crate::defects::{DefectKind, Defects};
use crate::failure::Failure;
use crate::graded::{Graded, GradedLists};
use crate::ids::Ids;
use crate::json::quoted;
use crate::lists::Lists;
use crate::precondition::SecondMoments;
use crate::texts::TextKey;
use crate::vectors::{Embeddings, Matrix, Vectors};

/// The norm up to which a vector counts as zero: normalising divides by no less.
const ZERO_NORM: f64 = 1e-12;

/// The norm up to which a vector's square fits in a 32-bit float, with room for rounding: beyond it normalising would
/// make zeros.
pub(crate) const GREATEST_NORM: f64 = 1e19;

/// Queries with their relevant documents, and the corpus to find them in.
///
/// Queries and documents stand in the order of the data set file. Every query has at least one relevant
/// document and every query and document has a vector; what had to be dropped for that is in
/// [`defects`](Self::defects). Texts are not kept, only what tells equal ones, and parts of a task share all but the
/// numbers of their queries.
#[derive(Clone, Debug)]
pub struct RetrievalTask {
    file: PathBuf,
    table: Arc<QueryTable>,
    /// The queries of this task, as entries of the table, ascending.
    chosen: Vec<u32>,
    query_vectors: Matrix,
    corpus: Arc<Corpus>,
    defects: Defects,
    /// Computed when they are first asked for; every fit to these queries needs them.
    second_moments: Arc<Mutex<Option<Arc<SecondMoments>>>>,
}

/// The queries of a data set file, also those that are left out.
#[derive(Debug)]
struct QueryTable {
    ids: Ids,
    texts: Vec<TextKey>,
    positives: GradedLists,
    negatives: Lists<u32>,
    /// The row of each vector; of no meaning where there are no positives.
    rows: Vec<u32>,
}

/// A query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Its id.
    pub id: &'a str,
    /// What tells whether its text is that of another query.
    pub text: TextKey,
    /// The documents that answer it, at least one, all with a grade above 0, in the order of the file, none
    /// twice.
    pub positives: Graded<'a>,
    /// Documents known not to answer it, none of them a positive, in the order of the file, none twice.
    pub negatives: &'a [u32],
}

/// The queries of a task, in order.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a>(&'a RetrievalTask);

impl<'a> Queries<'a> {
    /// The number of queries.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.chosen.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.chosen.is_empty()
    }

    /// The queries one after the other.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Query<'a>> + Clone {
        self.0.chosen.iter().map(move |&entry| self.0.table.query(entry))
    }
}

impl QueryTable {
    fn query(&self, entry: u32) -> Query<'_> {
        let index = entry as usize;
        Query {
            id: &self.ids[entry],
            text: self.texts[index],
            positives: self.positives.get(index),
            negatives: self.negatives.get(index),
        }
    }
}

/// The documents.
#[derive(Clone, Debug)]
pub struct Corpus {
    ids: Ids,
    texts: Vec<TextKey>,
    rows: Arc<[u32]>,
    vectors: Matrix,
    byte_ranks: Arc<[u32]>,
    text_groups: Vec<u32>,
}

impl RetrievalTask {
    /// Reads a data set and joins it with its vectors, see [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// As [`Dataset::load_without_texts`] and [`join`](Self::join).
    pub fn load(file: &Path, embeddings: Option<&Embeddings>) -> Result<Self, Failure> {
        Self::join(Dataset::load_without_texts(file)?, embeddings)
    }

    /// Joins a data set with `embeddings`, or, without any, with the vectors of its own file.
    ///
    /// Vectors of ids that the data set does not have are ignored: one folder may serve several data sets.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when there are no vectors or no queries or no documents, a vector is missing,
    /// queries and documents differ in dimension, or no query has a relevant document.
    pub fn join(dataset: Dataset, embeddings: Option<&Embeddings>) -> Result<Self, Failure> {
        let mut dataset = dataset;
        let inline = (dataset.query_embeddings.take(), dataset.corpus_embeddings.take());
        let Judged { file, ids, texts, positives, negatives, chosen, documents, mut defects } =
            Judged::new(dataset)?;
        let embeddings = match embeddings {
            Some(embeddings) => embeddings.clone(),
            None => {
                let embeddings = inline_embeddings(&file, inline.0, inline.1)?;
                note_surplus(&mut defects, &embeddings.queries, &ids);
                note_surplus(&mut defects, &embeddings.corpus, &documents.ids);
                embeddings
            }
        };
        embeddings.require_one_dim(&file)?;
        let dim = embeddings.corpus.dim();
        if dim > MAX_DIM {
            let problem = format!("the vectors have {dim} components, expected at most {MAX_DIM}");
            return Err(Failure::input(&file, problem));
        }

        let corpus = Corpus::join(&file, documents, &embeddings.corpus, &mut defects)?;
        let mut rows = vec![u32::MAX; ids.len()];
        let mut missing = Missing::default();
        for &query in &chosen {
            let id = &ids[query];
            // There are fewer rows than 2³² as there are no more ids.
            let Some(row) = embeddings.queries.index_of(id) else {
                missing.add(id);
                continue;
            };
            rows[query as usize] = u32::try_from(row).unwrap_or(u32::MAX);
            if checked_norm(&file, "query", id, embeddings.queries.row(row))? <= ZERO_NORM {
                defects.add(DefectKind::ZeroQueryVector, || quoted(id));
            }
        }
        missing.refuse(&file, "query", embeddings.queries.source())?;
        let table = QueryTable { ids, texts, positives, negatives, rows };
        let query_vectors = embeddings.queries.matrix().clone();
        Ok(Self {
            file,
            table: table.into(),
            chosen,
            query_vectors,
            corpus: corpus.into(),
            defects,
            second_moments: Arc::default(),
        })
    }

    /// The data set's file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The number of components of every vector, 1 to [`MAX_DIM`].
    #[must_use]
    pub fn dim(&self) -> usize {
        self.corpus.vectors.dim()
    }

    /// The queries, at least one.
    #[must_use]
    pub fn queries(&self) -> Queries<'_> {
        Queries(self)
    }

    /// A query.
    ///
    /// # Panics
    ///
    /// When there is no such query.
    #[must_use]
    pub fn query(&self, query: usize) -> Query<'_> {
        self.table.query(self.chosen[query])
    }

    /// The vector of a query, as its file has it.
    ///
    /// # Panics
    ///
    /// When there is no such query.
    #[must_use]
    pub fn query_vector(&self, query: usize) -> &[f32] {
        self.query_vectors.row(self.table.rows[self.chosen[query] as usize] as usize)
    }

    /// The second moments of the queries, computed on the first call.
    pub(crate) fn second_moments(&self, threads: NonZeroUsize) -> Result<Arc<SecondMoments>, Failure> {
        // Whoever comes meanwhile waits, and does not compute them again.
        let mut known = self.second_moments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moments) = &*known {
            return Ok(Arc::clone(moments));
        }
        let moments = Arc::new(SecondMoments::of(self, threads)?);
        *known = Some(Arc::clone(&moments));
        Ok(moments)
    }

    /// The documents, at least one.
    #[must_use]
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// For each document of the corpus whether it is relevant to a query.
    #[must_use]
    pub fn answers(&self) -> Vec<bool> {
        let mut answers = vec![false; self.corpus.len()];
        for query in self.queries().iter() {
            query.positives.documents().iter().for_each(|&document| answers[document as usize] = true);
        }
        answers
    }

    /// The number of pairs of a query and a document that is relevant to it.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.queries().iter().map(|query| query.positives.len()).sum()
    }

    /// Whether a relevant document has another grade than 1.
    #[must_use]
    pub fn has_grades(&self) -> bool {
        self.queries().iter().flat_map(|query| query.positives.iter()).any(|positive| positive.grade != 1.0)
    }

    /// How many there are of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            queries: self.chosen.len(),
            documents: self.corpus.len(),
            labels: self.pairs(),
            negatives: self.queries().iter().map(|query| query.negatives.len()).sum(),
        }
    }

    /// What was found wrong and dropped or kept.
    #[must_use]
    pub fn defects(&self) -> &Defects {
        &self.defects
    }
}

impl Corpus {
    fn join(
        file: &Path,
        documents: Documents,
        vectors: &Vectors,
        defects: &mut Defects,
    ) -> Result<Self, Failure> {
        let Documents { ids, texts, text_groups } = documents;
        let mut missing = Missing::default();
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids.iter() {
            // There are fewer rows than 2³² as there are no more ids.
            match vectors.index_of(id).and_then(|row| u32::try_from(row).ok()) {
                Some(row) => rows.push(row),
                None => missing.add(id),
            }
        }
        missing.refuse(file, "document", vectors.source())?;

        // Look-ups only.
        let mut first_of_vector: HashMap<&[u32], u32> = HashMap::new();
        for ((document, id), &row) in (0..).zip(ids.iter()).zip(&rows) {
            let vector = vectors.row(row as usize);
            if checked_norm(file, "document", id, vector)? <= ZERO_NORM {
                defects.add(DefectKind::ZeroDocumentVector, || quoted(id));
                continue;
            }
            let first = *first_of_vector.entry(bytemuck::cast_slice(vector)).or_insert(document);
            if first != document {
                let example = || format!("{} as {}", quoted(id), quoted(&ids[first]));
                defects.add(DefectKind::RepeatedDocumentVector, example);
            }
        }
        let byte_ranks = ids.byte_ranks().into();
        let vectors = vectors.matrix().clone();
        Ok(Self { ids, texts, rows: rows.into(), vectors, byte_ranks, text_groups })
    }

    /// The number of documents.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a corpus is never empty")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The id of a document.
    ///
    /// # Panics
    ///
    /// When there is no such document; so do the methods below.
    #[must_use]
    pub fn id(&self, document: u32) -> &str {
        &self.ids[document]
    }

    /// What tells whether the text of a document is that of another.
    #[must_use]
    pub fn text(&self, document: u32) -> TextKey {
        self.texts[document as usize]
    }

    /// The vector of a document, as its file has it.
    #[must_use]
    pub fn vector(&self, document: u32) -> &[f32] {
        self.vectors.row(self.rows[document as usize] as usize)
    }

    /// The first document with the same text; the document itself where its text is empty.
    #[must_use]
    pub fn text_group(&self, document: u32) -> u32 {
        self.text_groups[document as usize]
    }

    /// The same for every document.
    pub(crate) fn text_groups(&self) -> &[u32] {
        &self.text_groups
    }

    /// The document with this id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<u32> {
        self.ids.index_of(id)
    }

    /// For each document, the place of its id among all ids in ascending byte order: equal scores are ordered
    /// by it.
    #[must_use]
    pub fn byte_ranks(&self) -> &[u32] {
        &self.byte_ranks
    }

    /// The same, shared.
    pub(crate) fn shared_byte_ranks(&self) -> Arc<[u32]> {
        Arc::clone(&self.byte_ranks)
    }

    /// The matrix that holds the vectors, and the row of each document in it.
    pub(crate) fn matrix_and_rows(&self) -> (Matrix, Arc<[u32]>) {
        (self.vectors.clone(), Arc::clone(&self.rows))
    }
}

/// The vectors that stand in the data set file itself.
fn inline_embeddings(
    file: &Path,
    queries: Option<Vectors>,
    corpus: Option<Vectors>,
) -> Result<Embeddings, Failure> {
    let missing = match (queries, corpus) {
        (Some(queries), Some(corpus)) => {
            return Ok(Embeddings { queries: queries.into(), corpus: corpus.into() });
        }
        (None, Some(_)) => "there are vectors for documents but none for queries",
        (Some(_), None) => "there are vectors for queries but none for documents",
        (None, None) => "there are no vectors",
    };
    let problem = format!(
        "{missing}, expected them in the file as \"query_embeddings\" and \"corpus_embeddings\" {{id: [numbers]}} or \
         in a folder with queries.npy, query_ids.json, corpus.npy and corpus_ids.json; embed the texts with your \
         model and give the folder with --embeddings"
    );
    Err(Failure::input(file, problem))
}

/// Counts ids without a vector.
#[derive(Default)]
pub(crate) struct Missing {
    first: Option<String>,
    count: usize,
}

impl Missing {
    pub(crate) fn add(&mut self, id: &str) {
        self.first.get_or_insert_with(|| quoted(id));
        self.count += 1;
    }

    pub(crate) fn refuse(self, file: &Path, kind: &str, source: &str) -> Result<(), Failure> {
        let Some(first) = self.first else { return Ok(()) };
        let others = match self.count - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        let problem = format!(
            "the {kind} {first}{others} has no vector, expected one in {source}; embed all texts of this file"
        );
        Err(Failure::input(file, problem))
    }
}

fn note_surplus(defects: &mut Defects, vectors: &Vectors, ids: &Ids) {
    for row in 0..vectors.len() {
        let id = vectors.id(row);
        if ids.index_of(id).is_none() {
            defects.add(DefectKind::SurplusVector, || quoted(id));
        }
    }
}

/// The norm of a vector, refused when it is too great.
pub(crate) fn checked_norm(file: &Path, kind: &str, id: &str, vector: &[f32]) -> Result<f64, Failure> {
    let norm = norm(vector);
    if norm <= GREATEST_NORM {
        return Ok(norm);
    }
    let problem = format!(
        "the vector of the {kind} {} has the length {norm:.3e}, expected at most {GREATEST_NORM:e}; scale all vectors \
         down",
        quoted(id)
    );
    Err(Failure::input(file, problem))
}

/// The Euclidean length of a vector.
pub(crate) fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::refusal;

    const QUERIES: &str = r#""queries": {"q2": "b", "q1": "a", "q3": "c"}"#;
    const CORPUS: &str = r#""corpus": {"d2": "y", "d1": "x", "d3": "z"}"#;
    const LABELS: &str = r#""relevant_docs": {"q1": ["d1"], "q2": ["d2", "d1"], "q3": ["d3"]}"#;
    const QUERY_VECTORS: &str = r#""query_embeddings": {"q1": [1, 0], "q2": [0, 1], "q3": [1, 1]}"#;
    const CORPUS_VECTORS: &str = r#""corpus_embeddings": {"d1": [1, 0.1], "d2": [0.1, 1], "d3": [2, 2]}"#;

    fn join(sections: &[&str]) -> Result<RetrievalTask, Failure> {
        let text = format!("{{{}}}", sections.join(", "));
        RetrievalTask::join(Dataset::parse(Path::new("train.json"), text.as_bytes())?, None)
    }

    /// The task of the five sections above with one of them replaced.
    fn with(section: &str) -> Result<RetrievalTask, Failure> {
        let key = section.split(':').next().expect("a key");
        let mut sections = [QUERIES, CORPUS, LABELS, QUERY_VECTORS, CORPUS_VECTORS];
        match sections.iter_mut().find(|known| known.starts_with(key)) {
            Some(known) => *known = section,
            None => return join(&[&sections[..], &[section]].concat()),
        }
        join(&sections)
    }

    fn positives(task: &RetrievalTask, query: usize) -> Vec<(&str, f64)> {
        let positives = task.query(query).positives;
        positives.iter().map(|positive| (task.corpus().id(positive.document), positive.grade)).collect()
    }

    #[test]
    fn queries_and_documents_keep_their_order_and_find_their_vectors() {
        let task = join(&[QUERIES, CORPUS, LABELS, QUERY_VECTORS, CORPUS_VECTORS]).expect("joined");
        assert_eq!(task.queries().iter().map(|query| query.id).collect::<Vec<_>>(), ["q2", "q1", "q3"]);
        assert_eq!((task.query(0).text, task.query_vector(0)), (TextKey::of("b"), &[0.0, 1.0][..]));
        assert_eq!(positives(&task, 0), [("d2", 1.0), ("d1", 1.0)]);
        let corpus = task.corpus();
        assert_eq!(
            (corpus.len(), corpus.id(1), corpus.text(1), corpus.vector(1)),
            (3, "d1", TextKey::of("x"), &[1.0, 0.1][..])
        );
        assert_eq!((corpus.index_of("d3"), corpus.byte_ranks()), (Some(2), &[1, 0, 2][..]));
        assert_eq!(task.dim(), 2);
        assert!(task.defects().is_empty(), "{:?}", task.defects());
    }

    #[test]
    fn labels_of_absent_documents_are_dropped_and_named() {
        let task =
            with(r#""relevant_docs": {"q1": ["gone", "d1"], "q2": ["gone"], "q3": ["d3"]}"#).expect("joined");
        assert_eq!(task.queries().iter().map(|query| query.id).collect::<Vec<_>>(), ["q1", "q3"]);
        assert_eq!(positives(&task, 0), [("d1", 1.0)]);
        let lines: Vec<_> = task.defects().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "labels of documents that are not in the corpus: 2, ignored (\"q2\" → \"gone\", \"q1\" → \"gone\")",
                "queries without a relevant document: 1, left out (\"q2\")",
            ]
        );
    }

    #[test]
    fn queries_without_labels_and_labels_without_queries_are_counted() {
        let task = with(r#""relevant_docs": {"q1": [], "q3": ["d3"], "ghost": ["d1"]}"#).expect("joined");
        assert_eq!(task.queries().len(), 1);
        assert_eq!(task.defects().count(DefectKind::QueryWithoutLabels), 2);
        assert_eq!(task.defects().count(DefectKind::LabelsOfAbsentQuery), 1);
    }

    #[test]
    fn a_grade_of_zero_or_less_is_not_relevant() {
        let task = with(r#""relevant_docs": {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 0, "d2": -1}}"#)
            .expect("joined");
        assert_eq!(task.queries().len(), 1);
        assert_eq!(positives(&task, 0), [("d1", 2.0)]);
        assert_eq!(task.defects().count(DefectKind::QueryWithoutLabels), 2);
    }

    #[test]
    fn a_repeated_label_counts_once() {
        let task = with(r#""relevant_docs": {"q1": ["d1", "d2", "d1"]}"#).expect("joined");
        assert_eq!(positives(&task, 0), [("d1", 1.0), ("d2", 1.0)]);
        assert_eq!(task.defects().count(DefectKind::RepeatedLabel), 1);
    }

    #[test]
    fn negatives_are_kept_unless_they_are_relevant_repeated_or_absent() {
        let task = with(r#""negative_docs": {"q1": ["d3", "d1", "gone", "d2", "d3"], "ghost": ["d1"]}"#)
            .expect("joined");
        let negatives: Vec<_> = task.query(1).negatives.iter().map(|&d| task.corpus().id(d)).collect();
        assert_eq!(negatives, ["d3", "d2"]);
        assert!(task.query(0).negatives.is_empty());
        let defects = task.defects();
        assert_eq!(defects.count(DefectKind::NegativeIsRelevant), 1);
        assert_eq!(defects.count(DefectKind::NegativeOfAbsentDocument), 1);
        assert_eq!(defects.count(DefectKind::RepeatedLabel), 1);
    }

    #[test]
    fn a_document_graded_zero_may_be_a_negative() {
        let task = join(&[
            QUERIES,
            CORPUS,
            r#""relevant_docs": {"q1": {"d1": 1, "d2": 0}}, "negative_docs": {"q1": ["d2"]}"#,
            QUERY_VECTORS,
            CORPUS_VECTORS,
        ])
        .expect("joined");
        assert_eq!(task.query(0).negatives, [0]);
        assert!(task.defects().count(DefectKind::NegativeIsRelevant) == 0);
    }

    #[test]
    fn nothing_to_train_on_is_refused() {
        for (section, expected) in [
            (r#""relevant_docs": {}"#, "no query has a relevant document in the corpus"),
            (r#""relevant_docs": {"q1": ["gone"]}"#, "no query has a relevant document in the corpus"),
            (r#""queries": {}"#, "\"queries\" is empty"),
            (r#""corpus": {}"#, "\"corpus\" is empty"),
        ] {
            let message = refusal(with(section));
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn missing_vectors_are_asked_for() {
        let message = refusal(join(&[QUERIES, CORPUS, LABELS]));
        assert!(message.contains("there are no vectors, expected them in the file as"), "{message}");
        assert!(message.contains("give the folder with --embeddings"), "{message}");
        let message = refusal(join(&[QUERIES, CORPUS, LABELS, CORPUS_VECTORS]));
        assert!(message.contains("vectors for documents but none for queries"), "{message}");
        let message = refusal(join(&[QUERIES, CORPUS, LABELS, QUERY_VECTORS]));
        assert!(message.contains("vectors for queries but none for documents"), "{message}");
    }

    #[test]
    fn a_missing_vector_is_named_with_its_source() {
        let message = refusal(with(r#""query_embeddings": {"q1": [1, 0]}"#));
        let expected = "train.json: the query \"q2\" (and 1 more) has no vector, expected one in query_embeddings of \
                        train.json; embed all texts of this file";
        assert_eq!(message, expected);
        let message = refusal(with(r#""corpus_embeddings": {"d1": [1, 0], "d2": [1, 0]}"#));
        assert!(message.contains("the document \"d3\" has no vector"), "{message}");
    }

    #[test]
    fn a_query_that_is_left_out_needs_no_vector() {
        let task = join(&[
            QUERIES,
            CORPUS,
            r#""relevant_docs": {"q1": ["d1"]}"#,
            r#""query_embeddings": {"q1": [1, 0]}"#,
            CORPUS_VECTORS,
        ]);
        assert_eq!(task.expect("joined").queries().len(), 1);
    }

    #[test]
    fn dimensions_must_agree_and_stay_within_bounds() {
        let message =
            refusal(with(r#""corpus_embeddings": {"d1": [1, 0, 0], "d2": [1, 0, 0], "d3": [0, 0, 1]}"#));
        assert!(message.contains("the query vectors have 2 components"), "{message}");
        let long = format!("[{}1]", "0, ".repeat(MAX_DIM));
        let vectors = |key, ids: [&str; 3]| {
            format!("\"{key}\": {{{}}}", ids.map(|id| format!("\"{id}\": {long}")).join(","))
        };
        let message = refusal(join(&[
            QUERIES,
            CORPUS,
            LABELS,
            &vectors("query_embeddings", ["q1", "q2", "q3"]),
            &vectors("corpus_embeddings", ["d1", "d2", "d3"]),
        ]));
        assert!(message.contains("the vectors have 8193 components, expected at most 8192"), "{message}");
    }

    #[test]
    fn surplus_vectors_in_the_file_are_ignored_and_counted() {
        let task =
            with(r#""corpus_embeddings": {"d1": [1, 0], "d2": [0, 1], "unused": [1, 1], "d3": [2, 2]}"#);
        let task = task.expect("joined");
        assert_eq!(task.corpus().len(), 3);
        assert_eq!(task.corpus().vector(2), [2.0, 2.0]);
        assert_eq!(task.defects().count(DefectKind::SurplusVector), 1);
    }

    #[test]
    fn vectors_given_apart_take_the_place_of_those_in_the_file() {
        let dataset = |sections: &[&str]| {
            Dataset::parse(Path::new("train.json"), format!("{{{}}}", sections.join(",")).as_bytes())
                .expect("read")
        };
        let other = dataset(&[
            QUERIES,
            CORPUS,
            LABELS,
            r#""query_embeddings": {"other": [9, 9], "q1": [5, 0], "q2": [0, 5], "q3": [5, 5]}"#,
            CORPUS_VECTORS,
        ]);
        let embeddings = Embeddings {
            queries: other.query_embeddings.expect("vectors").into(),
            corpus: other.corpus_embeddings.expect("vectors").into(),
        };
        let task = RetrievalTask::join(
            dataset(&[QUERIES, CORPUS, LABELS, QUERY_VECTORS, CORPUS_VECTORS]),
            Some(&embeddings),
        )
        .expect("joined");
        assert_eq!(task.query_vector(0), [0.0, 5.0]);
        // One folder may serve several data sets: what this one does not use is no defect.
        assert!(task.defects().is_empty());
    }

    #[test]
    fn zero_vectors_empty_texts_and_repetitions_are_used_and_counted() {
        let task = join(&[
            r#""queries": {"q1": " \t", "q2": "b", "q3": "c"}"#,
            r#""corpus": {"d1": "x", "d2": "x", "d3": "", "d4": ""}"#,
            r#""relevant_docs": {"q1": ["d1"], "q2": ["d2"], "q3": ["d3"]}"#,
            r#""query_embeddings": {"q1": [1, 0], "q2": [0, -0.0], "q3": [1e-13, 0]}"#,
            r#""corpus_embeddings": {"d1": [0, 0], "d2": [1, 1], "d3": [1, 1], "d4": [1, 1]}"#,
        ])
        .expect("joined");
        let counts: Vec<_> = task.defects().iter().map(|defect| (defect.kind, defect.count)).collect();
        assert_eq!(
            counts,
            [
                (DefectKind::EmptyQuery, 1),
                (DefectKind::EmptyDocument, 2),
                (DefectKind::RepeatedDocumentText, 1),
                (DefectKind::RepeatedDocumentVector, 2),
                (DefectKind::ZeroQueryVector, 2),
                (DefectKind::ZeroDocumentVector, 1),
            ]
        );
        assert_eq!(
            (0..4).map(|document| task.corpus().text_group(document)).collect::<Vec<_>>(),
            [0, 0, 2, 3]
        );
    }

    #[test]
    fn vectors_whose_squares_overflow_are_refused_by_id() {
        let with = |queries, documents| {
            join(&[QUERIES, r#""corpus": {"d1": "x", "d2": "y"}"#, LABELS, queries, documents])
        };
        let long = r#""query_embeddings": {"q1": [1, 0], "q2": [6e18, 9e18], "q3": [1, 1]}"#;
        let documents = r#""corpus_embeddings": {"d1": [1, 0], "d2": [0, 1e19]}"#;
        let message = refusal(with(long, documents));
        assert!(message.contains("the vector of the query \"q2\" has the length 1.082e19"), "{message}");
        let documents = r#""corpus_embeddings": {"d1": [1, 0], "d2": [3e38, 3e38]}"#;
        let message = refusal(with(QUERY_VECTORS, documents));
        assert!(message.contains("the vector of the document \"d2\" has the length 4.243e38"), "{message}");
        let documents = r#""corpus_embeddings": {"d1": [1, 0], "d2": [0, 1e19]}"#;
        with(QUERY_VECTORS, documents).expect("long enough, but not too long");
    }

    #[test]
    fn a_corpus_of_one_document_is_called_out() {
        let task = join(&[
            QUERIES,
            r#""corpus": {"d1": "x"}"#,
            r#""relevant_docs": {"q1": ["d1"]}"#,
            QUERY_VECTORS,
            r#""corpus_embeddings": {"d1": [1, 0]}"#,
        ]);
        assert_eq!(task.expect("joined").defects().count(DefectKind::SingleDocument), 1);
    }
}
