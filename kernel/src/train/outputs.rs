//! The phases over panels of outputs that come before the gradient: `T = Q Wᵀ`, and `dT` back into its place.

use super::Shape;
use super::team::{Phase, split};
use crate::lanes::{LANES, Lanes, flat_mut};
use crate::simd::{Level, Simd, dispatch};
use crate::tile::RowProducts;
use crate::transpose::{block_to_lanes, pack_columns};

/// `T = Q Wᵀ`.
pub(super) struct Forward<'a> {
    pub(super) level: Level,
    pub(super) in_dim: usize,
    pub(super) bias: bool,
    /// How many queries the outputs have room for.
    pub(super) rows: usize,
    /// Which of them `queries` begin with.
    pub(super) first_row: usize,
    /// Row-major.
    pub(super) queries: &'a [f32],
    /// As many panels of the weight as of the outputs.
    pub(super) weight: &'a [Lanes],
    pub(super) outputs: &'a mut [Lanes],
}

impl Phase for Forward<'_> {
    fn panels(&self) -> usize {
        self.outputs.len() / self.rows.max(1)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let stride = self.in_dim + usize::from(self.bias);
        let (weight_a, weight_b) = self.weight.split_at((at * stride).min(self.weight.len()));
        let (outputs_a, outputs_b) = split(self.outputs, at, self.rows);
        (
            Self { weight: weight_a, outputs: outputs_a, ..self },
            Self { weight: weight_b, outputs: outputs_b, ..self },
        )
    }

    fn run(self) {
        let Self { level, in_dim, bias, rows, first_row, queries, weight, outputs } = self;
        RowProducts {
            panels: weight,
            bias,
            rows: queries,
            far: false,
            depth: in_dim,
            outputs: flat_mut(outputs).get_mut(first_row * LANES..).unwrap_or_default(),
            panel_step: rows * LANES,
            row_step: LANES,
        }
        .run(level);
    }
}

/// Transposes `dT` back: output rows into the lanes, a column per query.
pub(super) struct Scatter<'a> {
    pub(super) shape: Shape,
    /// All panels of queries.
    pub(super) d_output: &'a [Lanes],
    pub(super) first_panel: usize,
    pub(super) outputs: &'a mut [Lanes],
}

impl Phase for Scatter<'_> {
    fn panels(&self) -> usize {
        self.outputs.len() / self.shape.rows.max(1)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = split(self.outputs, at, self.shape.rows);
        let first_panel = self.first_panel + at;
        (Self { outputs: a, ..self }, Self { outputs: b, first_panel, ..self })
    }

    fn run(self) {
        let Self { shape, d_output, first_panel, outputs } = self;
        dispatch!(shape.level, s => scatter(s, shape, d_output, first_panel, outputs));
    }
}

#[inline(always)]
fn scatter<S: Simd>(s: S, shape: Shape, d_output: &[Lanes], first_panel: usize, outputs: &mut [Lanes]) {
    for (target, panel) in outputs.chunks_exact_mut(shape.rows.max(1)).zip(first_panel..) {
        for (queries, source) in target.chunks_mut(LANES).zip(d_output.chunks_exact(shape.out_dim.max(1))) {
            let columns = source.get(panel * LANES..).unwrap_or_default();
            block_to_lanes(s, columns.get(..LANES).unwrap_or(columns), queries);
        }
    }
}

/// Packs the gradient operand: sixteen columns after sixteen columns.
pub(super) struct Pack<'a> {
    pub(super) shape: Shape,
    /// Row-major.
    pub(super) operand: &'a [f32],
    pub(super) first_tile: usize,
    pub(super) packed: &'a mut [Lanes],
}

impl Phase for Pack<'_> {
    fn panels(&self) -> usize {
        self.packed.len() / self.shape.rows.max(1)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = split(self.packed, at, self.shape.rows);
        let first_tile = self.first_tile + at;
        (Self { packed: a, ..self }, Self { packed: b, first_tile, ..self })
    }

    fn run(self) {
        for (tile, index) in self.packed.chunks_exact_mut(self.shape.rows.max(1)).zip(self.first_tile..) {
            pack_columns(self.operand, self.shape.in_dim, index * LANES, tile);
        }
    }
}
