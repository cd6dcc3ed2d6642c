//! Queries against candidates: scores, their gradient, and what comes back to the queries, each in pieces that threads can
//! share where they have one panel of queries to themselves.

use super::Shape;
use super::team::{Phase, split};
use crate::cross_entropy::{PanelRows, SoftmaxState, sweep_gradients};
use crate::lanes::{LANES, Lanes, flat_mut};
use crate::simd::{Level, dispatch, prefetch};
use crate::tile::{RowProducts, accumulate_columns};
use crate::transpose::pack_columns;

/// Documents whose gradients are added together: their columns and the gradients of four panels stay in a first-level cache,
/// they themselves in a second-level one.
const DOCUMENTS: usize = 128;

/// Up to so many components documents are in the second-level cache of any processor where they have just been gathered.
const HELD: usize = 1 << 16;

/// Components of documents that are not, whose gradients are added together: they have room beside those behind them, which are on
/// their way meanwhile.
const FAR: usize = 1 << 14;

/// The length of a tile of documents, of `block` at a time.
pub(super) const fn document_tile_len(block: usize) -> usize {
    if block < DOCUMENTS { block } else { DOCUMENTS }
}

/// How many pieces of sixteen candidates or columns threads may share, of one panel of queries against `documents` candidates:
/// few candidates are not worth it.
const fn pieces(queries: usize, documents: usize, len: usize) -> usize {
    if queries == 1 && documents > DOCUMENTS { len.div_ceil(LANES) } else { 1 }
}

/// `s = scale × cos`: panels of normalised queries, or one and some of the candidates.
pub(super) struct Scores<'a> {
    pub(super) shape: Shape,
    pub(super) scale: f32,
    pub(super) normalized: &'a [Lanes],
    /// Row-major.
    pub(super) documents: &'a [f32],
    /// As long as a block for each panel, or a column for each candidate of the only panel.
    pub(super) scores: &'a mut [Lanes],
}

impl Phase for Scores<'_> {
    fn panels(&self) -> usize {
        let dim = self.shape.out_dim.max(1);
        let documents = self.documents.len() / dim;
        pieces(self.normalized.len() / dim, documents, documents)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let at = (at * LANES * self.shape.out_dim).min(self.documents.len());
        let (documents_a, documents_b) = self.documents.split_at(at);
        let (scores_a, scores_b) = split(self.scores, at / self.shape.out_dim.max(1), 1);
        (
            Self { documents: documents_a, scores: scores_a, ..self },
            Self { documents: documents_b, scores: scores_b, ..self },
        )
    }

    fn run(self) {
        let Self { shape, scale, normalized, documents, scores } = self;
        let Shape { out_dim, block, level, .. } = shape;
        RowProducts {
            panels: normalized,
            bias: false,
            rows: documents,
            far: documents.len() > HELD,
            depth: out_dim,
            outputs: flat_mut(&mut *scores),
            panel_step: block * LANES,
            row_step: LANES,
        }
        .run(level);
        let count = documents.len() / out_dim.max(1);
        dispatch!(level, s => {
            for panel in scores.chunks_mut(block.max(1)) {
                for score in panel.iter_mut().take(count) {
                    *score = s.to_lanes(s.mul(s.splat(scale), s.load(score)));
                }
            }
        });
    }
}

/// The gradient of some candidates' scores, in their place.
pub(super) struct ScoreGradients<'a> {
    pub(super) level: Level,
    pub(super) rows: &'a PanelRows<'a>,
    pub(super) state: &'a SoftmaxState,
    /// The candidate of the first score.
    pub(super) first: u32,
    pub(super) scores: &'a mut [Lanes],
}

impl Phase for ScoreGradients<'_> {
    fn panels(&self) -> usize {
        pieces(1, self.scores.len(), self.scores.len())
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = split(self.scores, at, LANES);
        let first = self.first.saturating_add(u32::try_from(a.len()).unwrap_or(u32::MAX));
        (Self { scores: a, ..self }, Self { scores: b, first, ..self })
    }

    fn run(self) {
        let Self { level, rows, state, first, scores } = self;
        dispatch!(level, s => sweep_gradients(s, scores, first, rows, state));
    }
}

/// Adds a block's part of `dt̂ = d_scores · D`: all columns of some panels of queries, or some of one.
pub(super) struct Columns<'a> {
    pub(super) shape: Shape,
    /// The block, row-major.
    pub(super) documents: &'a [f32],
    /// As long as a block for each panel.
    pub(super) d_scores: &'a [Lanes],
    /// Whether blocks came before.
    pub(super) begun: bool,
    /// The first of these columns.
    pub(super) first: usize,
    /// How many there are of each panel.
    pub(super) width: usize,
    pub(super) d_output: &'a mut [Lanes],
    /// Room for sixteen columns of some documents.
    pub(super) tile: &'a mut [Lanes],
}

impl Phase for Columns<'_> {
    fn panels(&self) -> usize {
        let queries = self.d_output.len() / self.width.max(1);
        let documents = self.documents.len() / self.shape.out_dim.max(1);
        // A thread needs a tile of its own.
        if self.tile.len() < 2 * LANES { 1 } else { pieces(queries, documents, self.width) }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (tile_a, tile_b) = split(self.tile, self.tile.len() / 2, 1);
        let (a, b) = split(self.d_output, at, LANES);
        let width = a.len();
        (
            Self { d_output: a, tile: tile_a, width, ..self },
            Self { d_output: b, tile: tile_b, width: self.width - width, first: self.first + width, ..self },
        )
    }

    /// Of some documents at a time, sixteen columns for all panels. Those behind them are asked for meanwhile, one after the other: what
    /// sixteen columns are made of lies too far apart for the processor to go ahead by itself.
    fn run(self) {
        let Self { shape: Shape { out_dim, block, level, .. }, first, width, d_output, .. } = self;
        let far = self.documents.len() > HELD;
        let most = if far { (FAR / out_dim.max(1)).clamp(LANES, DOCUMENTS) } else { DOCUMENTS };
        let most = most.min(self.tile.len());
        let asked_at_a_time = (most * width).div_ceil(d_output.len().max(1));
        for (documents, at) in self.documents.chunks((most * out_dim).max(1)).zip((0..).step_by(most.max(1)))
        {
            let begun = self.begun || at > 0;
            let Some(tile) = self.tile.get_mut(..documents.len() / out_dim.max(1)) else { return };
            let behind = self.documents.get((at + most) * out_dim..).filter(|_| far).unwrap_or_default();
            let mut lines = behind
                .chunks_exact(out_dim.max(1))
                .flat_map(|row| row.get(first..first + width).unwrap_or_default().chunks(LANES));
            for column in (0..width).step_by(LANES) {
                pack_columns(documents, out_dim, first + column, tile);
                let panels =
                    d_output.chunks_exact_mut(width.max(1)).zip(self.d_scores.chunks_exact(block.max(1)));
                for (d_output, d_scores) in panels {
                    for line in lines.by_ref().take(asked_at_a_time) {
                        line.first().into_iter().for_each(|line| prefetch(line, 0));
                    }
                    let d_scores = d_scores.get(at..).unwrap_or_default();
                    let columns = d_output.get_mut(column..width.min(column + LANES)).unwrap_or_default();
                    dispatch!(level, s => accumulate_columns(s, d_scores, tile, columns, begun));
                }
            }
        }
    }
}
