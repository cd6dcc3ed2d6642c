//! Ranks a corpus for every query of a task, through an adapter or without one.

use core::num::NonZeroUsize;
use std::sync::Arc;

use clap::ValueEnum;
use query_adapter::{
    Found, LANES, Lanes, Level, TopK, Transform, normalize_queries, offer_block, panels, score_documents,
};

use crate::failure::Failure;
use crate::json::quoted;
use crate::metrics::{DEPTH, Evaluation, Gain, JudgedQueries, Metric, Tied};
use crate::normalized_documents::NormalizedDocuments;
use crate::parallel::in_pieces;
use crate::retrieval_task::{Corpus, GREATEST_NORM, RetrievalTask, norm};

/// The most queries that meet a block of documents together. More would share the price of fetching and normalising a
/// block among them, but their own vectors leave the second-level cache.
const MOST_ROWS: usize = 256;

/// Rows of queries that the kernel takes in one tile; fewer waste its registers.
const TILE_ROWS: usize = 2 * LANES;

/// Bytes of a block of documents, which should stay in the cache while all queries of a piece go over it.
const BLOCK_BYTES: usize = 128 << 10;

/// A search has room for so many times the documents that are wanted. More empties caches sooner than it saves sorting.
const ROOM: usize = 2;

/// A corpus with its vectors normalised, ready to be searched. Clones share the vectors.
#[derive(Clone, Debug)]
pub struct Index {
    documents: NormalizedDocuments,
    byte_ranks: Arc<[u32]>,
    level: Level,
    threads: NonZeroUsize,
    rules: Rules,
}

/// By which rules documents are ranked and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The order of equal scores.
    pub ties: TieOrder,
    /// Whether a document whose id is that of the query is left out of its ranking.
    pub ignore_self: bool,
    /// What a relevant document is worth in nDCG.
    pub gain: Gain,
}

impl Default for Rules {
    fn default() -> Self {
        Self { ties: TieOrder::Ascending, ignore_self: false, gain: Gain::Binary }
    }
}

/// The order of documents with equal scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum TieOrder {
    /// By ascending id, compared byte for byte
    #[default]
    Ascending,
    /// As trec_eval has it: by descending id, scores compared as 32-bit floats
    Trec,
}

impl TieOrder {
    /// A score as it is compared.
    #[allow(clippy::cast_possible_truncation, reason = "that is what trec_eval does")]
    pub(crate) fn rounded(self, score: f64) -> f64 {
        match self {
            Self::Ascending => score,
            Self::Trec => f64::from(score as f32),
        }
    }
}

impl Index {
    /// An index of all documents of the corpus, searched on one thread.
    ///
    /// # Errors
    ///
    /// [`Failure::Numerical`] when this thread's floating-point mode loses subnormal numbers.
    pub fn new(corpus: &Corpus, level: Level) -> Result<Self, Failure> {
        let documents = NormalizedDocuments::new(corpus, level)?;
        let byte_ranks = corpus.shared_byte_ranks();
        Ok(Self { documents, byte_ranks, level, threads: NonZeroUsize::MIN, rules: Rules::default() })
    }

    /// Searches on up to `threads` threads, which changes no result.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// Ranks and judges by these rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        if rules.ties != self.rules.ties {
            let last = u32::try_from(self.byte_ranks.len()).unwrap_or(u32::MAX).saturating_sub(1);
            self.byte_ranks = self.byte_ranks.iter().map(|rank| last - rank).collect();
        }
        Self { rules, ..self }
    }

    /// How many threads work on it.
    #[must_use]
    pub fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// The normalised documents.
    #[must_use]
    pub fn documents(&self) -> &NormalizedDocuments {
        &self.documents
    }

    /// The best documents of each query, at most [`DEPTH`], through `adapter` or without one.
    ///
    /// # Errors
    ///
    /// [`Failure::Numerical`] when an output of the adapter is too long to be normalised or not finite; the message
    /// names the query.
    pub fn rank(
        &self,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
    ) -> Result<Vec<Vec<u32>>, Failure> {
        self.rank_to(DEPTH, task, adapter)
    }

    /// The first `depth` of what [`rank`](Self::rank) gives.
    pub(crate) fn rank_to(
        &self,
        depth: usize,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
    ) -> Result<Vec<Vec<u32>>, Failure> {
        let parts = self.search(task, adapter, |part: &mut Vec<Vec<u32>>, _, best| {
            part.push(best.iter().take(depth).map(|found| found.document).collect());
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// As [`rank`](Self::rank), with the scores.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub fn rank_with_scores(
        &self,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
    ) -> Result<Vec<Vec<Found>>, Failure> {
        let visit = |part: &mut Vec<Vec<Found>>, _: usize, best: &[Found]| part.push(best.to_vec());
        Ok(self.search(task, adapter, visit)?.into_iter().flatten().collect())
    }

    /// The standard metrics of a task's queries.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub fn evaluate(
        &self,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
    ) -> Result<Evaluation, Failure> {
        let parts = self.search(task, adapter, |part: &mut JudgedQueries, query, best| {
            let documents = best.iter().map(|found| found.document);
            let judgements = task.query(query).positives.to_vec();
            let tied = Tied::of(best.iter().map(|found| (found.document, found.score)), &judgements);
            part.push_tied(query, documents, &judgements, self.rules.gain, tied);
        })?;
        let mut judged = JudgedQueries::default();
        for part in parts {
            judged.append(part);
        }
        Evaluation::new(&Metric::STANDARD, judged).ok_or_else(|| {
            Failure::input(task.file(), "no query has a relevant document: nothing to evaluate")
        })
    }

    /// Gives `visit` each query with its best documents; returns the parts that it filled, in the order of the queries.
    fn search<P: Default + Send>(
        &self,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
        visit: impl Fn(&mut P, usize, &[Found]) + Sync,
    ) -> Result<Vec<P>, Failure> {
        let count = task.queries().len();
        // Several pieces for each thread, so that none waits long for the last.
        let rows = (count / (4 * self.threads.get())).next_multiple_of(TILE_ROWS).clamp(TILE_ROWS, MOST_ROWS);
        in_pieces(self.threads, count.div_ceil(rows), Workspace::default, |workspace, piece| {
            let mut part = P::default();
            let first = piece * rows;
            let rows = rows.min(count - first);
            self.search_piece(task, adapter, first, rows, workspace, |query, best| {
                visit(&mut part, query, best)
            })?;
            Ok(part)
        })
    }

    /// Ranks the documents for the queries `first .. first + rows`.
    fn search_piece(
        &self,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
        first: usize,
        rows: usize,
        workspace: &mut Workspace,
        mut visit: impl FnMut(usize, &[Found]),
    ) -> Result<(), Failure> {
        let count = self.documents.len();
        let depth = (DEPTH + usize::from(self.rules.ignore_self)).min(count);
        let room = count.min(ROOM * depth);
        let mut found = core::mem::take(&mut workspace.found);
        found.resize(rows * room, Found::default());
        let mut best: Vec<TopK<'_>> =
            found.chunks_exact_mut(room).map(|room| TopK::with_room(room, depth)).collect();
        self.score_blocks(task, adapter, first, rows, workspace, |start, here, scores| {
            let order = &self.byte_ranks[start..start + here];
            // Documents are counted in 32 bits.
            let start = u32::try_from(start).unwrap_or(u32::MAX);
            for (scores, best) in scores.chunks_exact(here).zip(best.chunks_mut(LANES)) {
                offer_block(self.level, scores, order, start, best)?;
            }
            Ok(())
        })?;
        for (query, best) in (first..).zip(best) {
            let best = best.into_sorted();
            let itself =
                self.rules.ignore_self.then(|| task.corpus().index_of(task.query(query).id)).flatten();
            match best.iter().position(|found| Some(found.document) == itself) {
                Some(at) => visit(query, &[&best[..at], &best[at + 1..]].concat()),
                None => visit(query, &best[..best.len().min(DEPTH)]),
            }
        }
        workspace.found = found;
        Ok(())
    }

    /// The cosine of one query with each document, in the order of the corpus.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub(crate) fn scores(
        &self,
        task: &RetrievalTask,
        query: usize,
        adapter: Option<&(dyn Transform + Sync)>,
    ) -> Result<Vec<f32>, Failure> {
        let mut all = Vec::with_capacity(self.documents.len());
        self.score_blocks(task, adapter, query, 1, &mut Workspace::default(), |_, _, scores| {
            all.extend(scores.iter().map(|scores| scores.0[0]));
            Ok(())
        })?;
        Ok(all)
    }

    /// Scores blocks of documents for the queries `first .. first + rows`: gives `visit` the first document of each block, their
    /// number, and panels of queries × documents.
    fn score_blocks(
        &self,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
        first: usize,
        rows: usize,
        workspace: &mut Workspace,
        mut visit: impl FnMut(usize, usize, &[Lanes]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Workspace { queries, outputs, panels: query_panels, scores, block, .. } = workspace;
        let (dim, count) = (self.documents.dim(), self.documents.len());
        queries.clear();
        for query in first..first + rows {
            queries.extend_from_slice(task.query_vector(query));
        }
        let transformed = match adapter {
            Some(adapter) => {
                outputs.resize(rows * dim, 0.0);
                adapter.apply_batch(queries, outputs)?;
                refuse_too_long(task, first, outputs, dim)?;
                outputs
            }
            None => queries,
        };
        query_panels.resize(panels(rows) * dim, Lanes::ZERO);
        normalize_queries(self.level, transformed, dim, query_panels)?;

        let block_rows = (BLOCK_BYTES / (size_of::<f32>() * dim)).clamp(LANES, count.max(LANES));
        for start in (0..count).step_by(block_rows) {
            let here = block_rows.min(count - start);
            let documents = self.documents.block(start, here, block)?;
            scores.resize(panels(rows) * here, Lanes::ZERO);
            score_documents(self.level, query_panels, documents, dim, scores)?;
            visit(start, here, scores)?;
        }
        Ok(())
    }
}

/// The buffers of one thread.
#[derive(Default)]
struct Workspace {
    queries: Vec<f32>,
    outputs: Vec<f32>,
    panels: Vec<Lanes>,
    scores: Vec<Lanes>,
    found: Vec<Found>,
    block: Vec<f32>,
}

/// Refuses outputs that normalising would turn into zeros or worse.
fn refuse_too_long(task: &RetrievalTask, first: usize, outputs: &[f32], dim: usize) -> Result<(), Failure> {
    let fits = |output: &[f32]| norm(output) <= GREATEST_NORM;
    match outputs.chunks_exact(dim).position(|output| !fits(output)) {
        Some(at) => {
            let id = task.query(first + at).id;
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

#[cfg(test)]
mod tests {
    use core::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::dataset::Dataset;

    /// Two queries on so many documents, of which every third repeats a vector.
    fn task(documents: usize) -> RetrievalTask {
        let (mut texts, mut vectors) = (String::new(), String::new());
        for document in 0..documents {
            let comma = if document == 0 { "" } else { ", " };
            let angle = document - document % 3;
            let [x, y] = [angle * 7919 % 1009, angle * 104_729 % 1013].map(|value| value as f64 - 500.0);
            write!(texts, r#"{comma}"{document}": "{document}""#).expect("written");
            write!(vectors, r#"{comma}"{document}": [{x}, {y}]"#).expect("written");
        }
        let text = format!(
            r#"{{"queries": {{"p": "p", "q": "q"}}, "corpus": {{{texts}}}, "relevant_docs": {{"p": ["0"], "q": ["1"]}},
                "query_embeddings": {{"p": [3, 4], "q": [-1, 2]}}, "corpus_embeddings": {{{vectors}}}}}"#
        );
        let dataset = Dataset::parse(Path::new("test.json"), text.as_bytes()).expect("read");
        RetrievalTask::join(dataset, None).expect("joined")
    }

    #[test]
    fn the_best_are_those_of_a_sort_of_all_in_a_corpus_of_any_size() {
        for documents in [1, 50, 100, 101, 250, 400, 401, 900] {
            let task = task(documents);
            let index = Index::new(task.corpus(), Level::detect()).expect("an index");
            let ranked = index.rank_with_scores(&task, None).expect("ranked");
            let best_first = |a: &Found, b: &Found| b.score.total_cmp(&a.score).then(a.order.cmp(&b.order));
            for (query, found) in ranked.iter().enumerate() {
                let scores = index.scores(&task, query, None).expect("scored");
                let mut all: Vec<Found> = (0..)
                    .zip(scores.iter().zip(&*index.byte_ranks))
                    .map(|(document, (&score, &order))| Found { score, order, document })
                    .collect();
                all.sort_by(best_first);
                all.truncate(DEPTH);
                assert_eq!(*found, all, "{documents} documents");
            }
        }
    }
}
