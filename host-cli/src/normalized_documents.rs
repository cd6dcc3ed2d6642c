//! The documents of a corpus, normalised: out of the mapped file as they are needed, or once and for all.

use std::sync::Arc;

use query_adapter::{DocumentBlocks, Error, Level, normalize_rows};

use crate::retrieval_task::Corpus;
use crate::vectors::Matrix;

/// Up to so many bytes the normalised vectors of a corpus stay in memory. Beyond it they are made anew, block by block,
/// whenever they are scored: the corpus then takes no memory but the system's cache of its file.
pub const MOST_HELD: usize = 32 << 20;

/// The documents of a corpus, each divided by its length, by the kernel's rule. Clones share them.
///
/// A document has the same bits in any block, alone, and whether it is held in memory or made anew.
#[derive(Clone, Debug)]
pub struct NormalizedDocuments {
    vectors: Matrix,
    /// The row of each document among the vectors.
    rows: Arc<[u32]>,
    level: Level,
    /// All documents, row after row, where they are few enough.
    held: Option<Arc<Vec<f32>>>,
}

impl NormalizedDocuments {
    /// The documents of `corpus`, held in memory when they take at most [`MOST_HELD`] bytes.
    ///
    /// # Errors
    ///
    /// [`Error::FlushToZero`] when this thread's floating-point mode loses subnormal numbers.
    pub fn new(corpus: &Corpus, level: Level) -> Result<Self, Error> {
        Self::with_limit(corpus, level, MOST_HELD)
    }

    /// As [`new`](Self::new) with another limit than [`MOST_HELD`].
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_limit(corpus: &Corpus, level: Level, most_held: usize) -> Result<Self, Error> {
        let (vectors, rows) = corpus.matrix_and_rows();
        let mut documents = Self { vectors, rows, level, held: None };
        if documents.len().saturating_mul(documents.dim()) <= most_held / size_of::<f32>() {
            let mut held = Vec::new();
            documents.block(0, documents.len(), &mut held)?;
            documents.held = Some(held.into());
        }
        Ok(documents)
    }

    /// The number of documents.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a corpus is never empty")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of components of each.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.vectors.dim()
    }

    /// The documents `first .. first + rows`, row after row; `buffer` is used where they are not held in memory.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// When there are no such documents.
    pub fn block<'a>(
        &'a self,
        first: usize,
        rows: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Result<&'a [f32], Error> {
        let dim = self.dim();
        if let Some(held) = &self.held {
            return Ok(&held[first * dim..][..rows * dim]);
        }
        buffer.clear();
        let rows = &self.rows[first..first + rows];
        match rows {
            // In most files the documents stand in the order of their vectors: one copy.
            [one, .., last] if (*one..=*last).eq(rows.iter().copied()) => {
                let range = *one as usize * dim..(*last as usize + 1) * dim;
                buffer.extend_from_slice(&self.vectors.as_slice()[range]);
            }
            _ => rows.iter().for_each(|&row| buffer.extend_from_slice(self.vectors.row(row as usize))),
        }
        normalize_rows(self.level, buffer, dim)?;
        Ok(buffer)
    }

    /// Replaces the contents of `out` by some documents, row after row. No memory is asked for when `out` has the
    /// capacity.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// When there is no such document.
    pub fn gather(&self, documents: &[u32], out: &mut Vec<f32>) -> Result<(), Error> {
        let dim = self.dim();
        out.clear();
        if let Some(held) = &self.held {
            for &document in documents {
                out.extend_from_slice(&held[document as usize * dim..][..dim]);
            }
            return Ok(());
        }
        for &document in documents {
            out.extend_from_slice(self.vectors.row(self.rows[document as usize] as usize));
        }
        normalize_rows(self.level, out, dim)
    }
}

/// What a training step with the whole corpus as negatives reads from.
impl DocumentBlocks for NormalizedDocuments {
    fn count(&self) -> usize {
        self.len()
    }

    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        let dim = self.dim();
        if let Some(held) = &self.held {
            return out.copy_from_slice(&held[first * dim..][..out.len()]);
        }
        for (row, out) in self.rows[first..].iter().zip(out.chunks_exact_mut(dim)) {
            out.copy_from_slice(self.vectors.row(*row as usize));
        }
        if normalize_rows(self.level, out, dim).is_err() {
            // Only a thread whose floating-point mode was changed ends here; the step refuses what is not finite.
            out.fill(f32::NAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dataset::Dataset;
    use crate::retrieval_task::RetrievalTask;

    /// Documents whose vectors stand in another order than their texts.
    fn task(documents: usize) -> RetrievalTask {
        let entries = |entry: &dyn Fn(usize) -> String, order: &mut dyn Iterator<Item = usize>| {
            order.map(entry).collect::<Vec<_>>().join(",")
        };
        let text = format!(
            r#"{{"queries": {{"q": "a"}}, "corpus": {{{}}}, "relevant_docs": {{"q": ["d0"]}},
               "query_embeddings": {{"q": [1, 0, 0]}}, "corpus_embeddings": {{{}}}}}"#,
            entries(&|d| format!("\"d{d}\": \"text {d}\""), &mut (0..documents)),
            entries(
                &|d| format!("\"d{d}\": [{d}, 0.1, -3e-3]"),
                &mut (0..documents / 2).chain((documents / 2..documents).rev())
            ),
        );
        let dataset = Dataset::parse(Path::new("train.json"), text.as_bytes()).expect("read");
        RetrievalTask::join(dataset, None).expect("joined")
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_document_has_the_same_bits_in_every_block_held_or_not() {
        let task = task(41);
        let level = Level::detect();
        let held = NormalizedDocuments::new(task.corpus(), level).expect("normalised");
        let made = NormalizedDocuments::with_limit(task.corpus(), level, 0).expect("normalised");
        assert!(held.held.is_some() && made.held.is_none());
        let mut all: Vec<f32> =
            (0..41).flat_map(|document| task.corpus().vector(document)).copied().collect();
        normalize_rows(level, &mut all, 3).expect("normalised");
        let mut buffer = Vec::new();
        for documents in [&held, &made] {
            for rows in [1, 7, 16, 20, 41] {
                for first in (0..41).step_by(rows) {
                    let here = rows.min(41 - first);
                    let block = documents.block(first, here, &mut buffer).expect("a block");
                    assert_eq!(bits(block), bits(&all[first * 3..][..here * 3]), "{rows} from {first}");
                }
            }
            let mut copied = vec![0.0; 23 * 3];
            documents.copy_rows(18, &mut copied);
            assert_eq!(bits(&copied), bits(&all[18 * 3..]));
            let chosen = [40, 3, 3, 20];
            documents.gather(&chosen, &mut buffer).expect("gathered");
            let expected: Vec<f32> =
                chosen.iter().flat_map(|&d| &all[d as usize * 3..][..3]).copied().collect();
            assert_eq!(bits(&buffer), bits(&expected));
        }
    }
}
