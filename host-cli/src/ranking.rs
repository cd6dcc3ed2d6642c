//! Ranks a corpus for every query of a task, through an adapter or without one.

use std::sync::Arc;

use query_adapter::{LANES, Lanes, Level, Linear, cosine_scores, normalize_rows, panel_len};

use crate::failure::Failure;
use crate::json::quoted;
use crate::metrics::{self, DEPTH, Evaluation, Gain, Metric};
use crate::retrieval_task::{Corpus, GREATEST_NORM, RetrievalTask, norm};

/// Queries scored at a time: one panel of the kernel's.
const ROWS: usize = LANES;

/// A corpus with its vectors normalised, ready to be searched. Clones share the vectors.
#[derive(Clone, Debug)]
pub struct Index {
    documents: Arc<Vec<f32>>,
    dim: usize,
    byte_ranks: Arc<[u32]>,
    level: Level,
}

impl Index {
    /// Normalises all documents of the corpus.
    ///
    /// # Errors
    ///
    /// [`Failure::Numerical`] when this thread's floating-point mode loses subnormal numbers.
    pub fn new(corpus: &Corpus, dim: usize, level: Level) -> Result<Self, Failure> {
        let mut documents = Vec::with_capacity(corpus.len() * dim);
        for (document, _) in (0..).zip(0..corpus.len()) {
            documents.extend_from_slice(corpus.vector(document));
        }
        normalize_rows(level, &mut documents, dim)?;
        Ok(Self { documents: documents.into(), dim, byte_ranks: corpus.byte_ranks().into(), level })
    }

    /// The normalised vector of a document.
    ///
    /// # Panics
    ///
    /// When there is no such document.
    #[must_use]
    pub fn document(&self, document: u32) -> &[f32] {
        &self.documents[document as usize * self.dim..][..self.dim]
    }

    /// The best documents of each query, at most [`DEPTH`], through `adapter` or without one.
    ///
    /// # Errors
    ///
    /// [`Failure::Numerical`] when an output of the adapter is too long to be normalised or not finite; the message
    /// names the query.
    pub fn rank<S: AsRef<[Lanes]>>(
        &self,
        task: &RetrievalTask,
        adapter: Option<&Linear<S>>,
    ) -> Result<Vec<Vec<u32>>, Failure> {
        let candidates = self.byte_ranks.len();
        let mut rankings = Vec::with_capacity(task.queries().len());
        let mut queries = Vec::with_capacity(ROWS * self.dim);
        let mut outputs = vec![0.0; ROWS * self.dim];
        let mut scratch = vec![Lanes::ZERO; panel_len(ROWS, self.dim)];
        let mut panel = vec![Lanes::ZERO; panel_len(ROWS, candidates)];
        let mut scores = vec![0.0; candidates];
        let count = task.queries().len();
        for first in (0..count).step_by(ROWS) {
            let rows = ROWS.min(count - first);
            queries.clear();
            for query in first..first + rows {
                queries.extend_from_slice(task.query_vector(query));
            }
            let transformed = match adapter {
                Some(adapter) => {
                    let outputs = &mut outputs[..rows * self.dim];
                    adapter.apply_batch(&queries, outputs)?;
                    refuse_too_long(task, first, outputs, self.dim)?;
                    &*outputs
                }
                None => &queries,
            };
            cosine_scores(self.level, transformed, &self.documents, self.dim, &mut scratch, &mut panel)?;
            for lane in 0..rows {
                for (score, column) in scores.iter_mut().zip(&panel) {
                    *score = column.0[lane];
                }
                rankings.push(metrics::best_documents(&scores, &self.byte_ranks, DEPTH));
            }
        }
        Ok(rankings)
    }

    /// The standard metrics of a task's queries, with binary gain.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub fn evaluate<S: AsRef<[Lanes]>>(
        &self,
        task: &RetrievalTask,
        adapter: Option<&Linear<S>>,
    ) -> Result<Evaluation, Failure> {
        let rankings = self.rank(task, adapter)?;
        let queries = rankings.iter().zip(task.queries());
        let judged = queries.map(|(ranking, query)| (ranking.as_slice(), query.positives.as_slice()));
        metrics::evaluate(&Metric::STANDARD, Gain::Binary, judged).ok_or_else(|| {
            Failure::input(task.file(), "no query has a relevant document: nothing to evaluate")
        })
    }
}

/// Refuses outputs that normalising would turn into zeros or worse.
fn refuse_too_long(task: &RetrievalTask, first: usize, outputs: &[f32], dim: usize) -> Result<(), Failure> {
    let fits = |output: &[f32]| norm(output) <= GREATEST_NORM;
    match outputs.chunks_exact(dim).position(|output| !fits(output)) {
        Some(at) => {
            let id = &task.queries()[first + at].id;
            Err(Failure::Numerical(format!(
                "the adapter's output for query {} has the length {:.3e}, expected at most {GREATEST_NORM:e}; its \
                 weights are far too large: train with a smaller --lr",
                quoted(id),
                norm(&outputs[at * dim..][..dim])
            )))
        }
        None => Ok(()),
    }
}
