//! The middle of a step, over panels of queries: normalise, score, softmax, and back. No panel needs another's result;
//! several threads share one by candidates, and on the way back by columns.

use super::candidates::{Columns, ScoreGradients, Scores, document_tile_len};
use super::scratch::Scratch;
use super::team::{Join, Phase, SingleThread, run, run_on, split};
use super::{Batch, DocumentBlocks, Documents, Shape};
use crate::cross_entropy::{PanelRows, SoftmaxState, finish_sums, mask_of_panel, sweep_sums};
use crate::error::Error;
use crate::lanes::{LANES, Lanes, flat_mut};
use crate::normalize::{NORM_FLOOR, normalize_backward_panel, normalize_panel};
use crate::simd::{Level, Simd, dispatch};
use crate::transpose::{block_to_lanes, rows_to_panel};

/// What a panel of queries carries through the step.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct QueryState {
    /// Norms of the transformed queries.
    pub(super) norm: Lanes,
    /// `1 ÷ max(NORM_FLOOR, norm)`.
    inverse: Lanes,
    /// Weighted losses.
    pub(super) losses: Lanes,
    /// 0 for each query whose gradient is finite, NaN for the others.
    pub(super) probe: Lanes,
    softmax: SoftmaxState,
}

/// The size of a [`QueryState`] in [`Lanes`].
pub(super) const QUERY_STATE_LEN: usize = size_of::<QueryState>() / size_of::<Lanes>();

impl QueryState {
    /// The lanes among the first `rows` which take part: those with a norm above zero.
    fn live(&self, rows: usize) -> u16 {
        let mut live = 0;
        for (lane, norm) in self.norm.0.into_iter().take(rows).enumerate() {
            live |= u16::from(norm > NORM_FLOOR) << lane;
        }
        live
    }
}

/// What does not change while a batch's middle is computed.
#[derive(Clone, Copy)]
pub(super) struct Middle<'a> {
    pub(super) shape: Shape,
    pub(super) batch: &'a Batch<'a>,
    pub(super) operand: &'a [f32],
    /// `T`.
    pub(super) outputs: &'a [Lanes],
    pub(super) scale: f32,
    pub(super) total_weight: f32,
}

impl Middle<'_> {
    /// From `T` to `dt` in `scratch.d_output`, with norms, losses and probes in `scratch.states`.
    pub(super) fn run<J: Join>(self, join: &J, scratch: &mut Scratch<'_>) {
        let Shape { candidates, block, out_dim, .. } = self.shape;
        let (source, buffer) = match self.batch.documents {
            Documents::Rows(documents) => {
                return self.run_block(join, scratch, Stage::ALL, 0, documents);
            }
            Documents::Blocks { source, .. } => (source, flat_mut(core::mem::take(&mut scratch.documents))),
        };
        let sweeps: &[Stage] =
            if candidates > block { &[Stage::SUMS, Stage::GRADIENTS] } else { &[Stage::ALL] };
        for sweep in sweeps {
            for first in (0..candidates).step_by(block.max(1)) {
                let len = block.min(candidates - first);
                let documents = buffer.get_mut(..len * out_dim).unwrap_or_default();
                run(join, Load { source, dim: out_dim, first, rows: &mut *documents });
                let stage = Stage {
                    begin: sweep.begin && first == 0,
                    end_sums: sweep.end_sums && first + len == candidates,
                    end: sweep.end && first + len == candidates,
                    ..*sweep
                };
                self.run_block(join, scratch, stage, first, documents);
            }
        }
    }

    fn run_block<J: Join>(
        self,
        join: &J,
        scratch: &mut Scratch<'_>,
        stage: Stage,
        first: usize,
        documents: &[f32],
    ) {
        let panels = QueryPanels {
            middle: self,
            stage,
            documents,
            first,
            first_panel: 0,
            states: scratch.states,
            normalized: scratch.normalized,
            d_output: scratch.d_output,
            scores: scratch.scores,
            document_tiles: scratch.document_tiles,
            operand_panels: scratch.operand_panels,
        };
        run(join, panels);
    }

    /// Refuses values that are not finite, by row; returns the mean loss and the number of rows left out.
    pub(super) fn check(self, states: &[QueryState]) -> Result<(f32, u32), Error> {
        let rows = self.shape.rows;
        let each = |of: fn(&QueryState) -> &Lanes| {
            states.iter().flat_map(move |state| of(state).0).take(rows).enumerate()
        };
        let first_not_finite =
            |what, of: fn(&QueryState) -> &Lanes| match each(of).find(|(_, x)| !x.is_finite()) {
                Some((row, _)) => Err(Error::NotFinite { what, row }),
                None => Ok(()),
            };
        first_not_finite("transformed query", |state| &state.norm)?;
        first_not_finite("loss", |state| &state.losses)?;
        let mut sum = 0.0;
        for (_, loss) in each(|state| &state.losses) {
            sum += loss;
        }
        let mean = sum / self.total_weight;
        if !mean.is_finite() {
            return Err(Error::NotFinite { what: "mean loss", row: 0 });
        }
        first_not_finite("gradient", |state| &state.probe)?;
        let zero_rows = each(|state| &state.norm).filter(|(_, norm)| *norm <= NORM_FLOOR).count();
        Ok((mean, u32::try_from(zero_rows).unwrap_or(u32::MAX)))
    }
}

/// What is done with one block of candidates. Scores are always computed.
#[derive(Clone, Copy)]
struct Stage {
    /// Before the first block of the first sweep: queries are gathered and normalised.
    begin: bool,
    /// The first sweep.
    sums: bool,
    /// After its last block: the losses.
    end_sums: bool,
    /// The second sweep.
    gradients: bool,
    /// After its last block: back through the normalisation.
    end: bool,
}

impl Stage {
    /// Both sweeps over the only block.
    const ALL: Self = Self { begin: true, sums: true, end_sums: true, gradients: true, end: true };
    const SUMS: Self = Self { gradients: false, end: false, ..Self::ALL };
    const GRADIENTS: Self = Self { begin: false, sums: false, end_sums: false, ..Self::ALL };

    /// What it makes of a block's scores of one panel before their gradient.
    fn sum(self, level: Level, scores: &[Lanes], first: u32, rows: &PanelRows<'_>, state: &mut QueryState) {
        if self.sums {
            dispatch!(level, s => sweep_sums(s, scores, first, rows, &mut state.softmax));
        }
        if self.end_sums {
            state.losses = dispatch!(level, s => finish_sums(s, rows, &mut state.softmax));
        }
    }
}

/// Some panels of queries against one block of candidates.
struct QueryPanels<'a> {
    middle: Middle<'a>,
    stage: Stage,
    /// The block, row-major.
    documents: &'a [f32],
    /// The candidate it begins with.
    first: usize,
    first_panel: usize,
    states: &'a mut [QueryState],
    normalized: &'a mut [Lanes],
    d_output: &'a mut [Lanes],
    scores: &'a mut [Lanes],
    document_tiles: &'a mut [Lanes],
    operand_panels: &'a mut [Lanes],
}

impl Phase for QueryPanels<'_> {
    fn panels(&self) -> usize {
        self.states.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Shape { in_dim, out_dim, block, .. } = self.middle.shape;
        let (states_a, states_b) = split(self.states, at, 1);
        let (normalized_a, normalized_b) = split(self.normalized, at, out_dim);
        let (d_output_a, d_output_b) = split(self.d_output, at, out_dim);
        let (scores_a, scores_b) = split(self.scores, at, block);
        let (tiles_a, tiles_b) = split(self.document_tiles, at, document_tile_len(block));
        let (operand_a, operand_b) = split(self.operand_panels, at, in_dim);
        let a = Self {
            states: states_a,
            normalized: normalized_a,
            d_output: d_output_a,
            scores: scores_a,
            document_tiles: tiles_a,
            operand_panels: operand_a,
            ..self
        };
        let b = Self {
            first_panel: self.first_panel + at,
            states: states_b,
            normalized: normalized_b,
            d_output: d_output_b,
            scores: scores_b,
            document_tiles: tiles_b,
            operand_panels: operand_b,
            ..self
        };
        (a, b)
    }

    fn run(self) {
        self.share(&SingleThread, 1);
    }

    fn share<J: Join>(mut self, join: &J, threads: usize) {
        if self.stage.begin {
            self.begin();
        }
        self.score(join, threads);
        if self.stage.gradients {
            self.accumulate(join, threads);
        }
        if self.stage.end {
            self.end();
        }
    }
}

impl QueryPanels<'_> {
    /// Brings sixteen queries at a time into the lanes and normalises them.
    fn begin(&mut self) {
        let Shape { rows, in_dim, out_dim, level, .. } = self.middle.shape;
        let outputs = self.middle.outputs;
        let panels = self.normalized.chunks_exact_mut(out_dim.max(1)).zip(self.states.iter_mut());
        for ((normalized, state), panel) in panels.zip(self.first_panel..) {
            state.softmax = SoftmaxState::START;
            dispatch!(level, s => {
                gather(s, rows, outputs, panel, normalized);
                let (norm, inverse) = normalize_panel(s, normalized);
                (state.norm, state.inverse) = (s.to_lanes(norm), s.to_lanes(inverse));
            });
        }
        let operand = self.middle.operand.get(self.first_panel * LANES * in_dim..).unwrap_or_default();
        let panels = self.operand_panels.chunks_exact_mut(in_dim.max(1));
        for (panel, rows) in panels.zip(operand.chunks((LANES * in_dim).max(1))) {
            dispatch!(level, s => rows_to_panel(s, rows, in_dim, panel));
        }
    }

    /// Scores, and what the stage makes of them.
    fn score<J: Join>(&mut self, join: &J, threads: usize) {
        let Middle { shape, batch, scale, total_weight, .. } = self.middle;
        let Shape { out_dim, block, level, .. } = shape;
        let (stage, documents) = (self.stage, self.documents);
        let len = documents.len() / out_dim.max(1);
        let first = u32::try_from(self.first).unwrap_or(u32::MAX);
        let normalized = &*self.normalized;
        run_on(join, threads, Scores { shape, scale, normalized, documents, scores: &mut *self.scores });
        let panels = self.scores.chunks_exact_mut(block.max(1)).zip(self.states.iter_mut());
        let rows = batch.targets.chunks(LANES).zip(batch.weights.chunks(LANES));
        let rows = rows.enumerate().skip(self.first_panel);
        for ((scores, state), (panel, (targets, weights))) in panels.zip(rows) {
            let mask = mask_of_panel(batch.mask, panel);
            let live = state.live(targets.len());
            let rows = &PanelRows { targets, weights, mask, live, scale, total_weight };
            let scores = scores.get_mut(..len).unwrap_or_default();
            stage.sum(level, scores, first, rows, state);
            if stage.gradients {
                let state = &state.softmax;
                run_on(join, threads, ScoreGradients { level, rows, state, first, scores });
            }
        }
    }

    /// Adds the block's part of `dt̂ = d_scores · D`.
    fn accumulate<J: Join>(&mut self, join: &J, threads: usize) {
        let columns = Columns {
            shape: self.middle.shape,
            documents: self.documents,
            d_scores: self.scores,
            begun: self.first > 0,
            first: 0,
            width: self.middle.shape.out_dim,
            d_output: self.d_output,
            tile: self.document_tiles,
        };
        run_on(join, threads, columns);
    }

    /// Back through the normalisation.
    fn end(&mut self) {
        let Shape { out_dim, level, .. } = self.middle.shape;
        let panels =
            self.d_output.chunks_exact_mut(out_dim.max(1)).zip(self.normalized.chunks_exact(out_dim.max(1)));
        for ((d_output, normalized), state) in panels.zip(self.states.iter_mut()) {
            dispatch!(level, s => {
                normalize_backward_panel(s, normalized, s.load(&state.inverse), d_output);
                state.probe = s.to_lanes(not_finite(s, d_output));
            });
        }
    }
}

/// 0 in each lane whose values are all finite, NaN in the others: `x × 0` is NaN for just those that are not.
#[inline(always)]
fn not_finite<S: Simd>(s: S, columns: &[Lanes]) -> S::F32 {
    // Four sums, so that none waits for another.
    let zero = s.splat(0.0);
    let mut probes = [zero; 4];
    let (blocks, rest) = columns.as_chunks::<4>();
    for block in blocks {
        for (probe, column) in probes.iter_mut().zip(block) {
            *probe = s.fma(s.load(column), zero, *probe);
        }
    }
    for column in rest {
        probes[0] = s.fma(s.load(column), zero, probes[0]);
    }
    s.add(s.add(probes[0], probes[1]), s.add(probes[2], probes[3]))
}

/// Transposes one panel's queries out of `T`: sixteen queries into the lanes, a column per output.
#[inline(always)]
fn gather<S: Simd>(s: S, rows: usize, outputs: &[Lanes], panel: usize, out: &mut [Lanes]) {
    for (source, block) in outputs.chunks_exact(rows.max(1)).zip(out.chunks_mut(LANES)) {
        let queries = source.get(panel * LANES..).unwrap_or_default();
        block_to_lanes(s, queries.get(..LANES).unwrap_or(queries), block);
    }
}

/// Copies a block of documents into scratch, sixteen a piece.
struct Load<'a> {
    source: &'a dyn DocumentBlocks,
    dim: usize,
    first: usize,
    rows: &'a mut [f32],
}

impl Phase for Load<'_> {
    fn panels(&self) -> usize {
        self.rows.len().div_ceil((LANES * self.dim).max(1))
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = split(self.rows, at, LANES * self.dim);
        let first = self.first + at * LANES;
        (Self { rows: a, ..self }, Self { rows: b, first, ..self })
    }

    fn run(self) {
        self.source.copy_rows(self.first, self.rows);
    }
}
