//! The gradient of the weight: `dW = dTᵀ G`, a panel of outputs against packed columns of the operand.

use super::Shape;
use crate::lanes::{LANES, Lanes};
use crate::math;
use crate::simd::Simd;
use crate::tile::{Sink, product_columns};

/// The size of a group of the operand, in [`Lanes`]: 256 KiB, which stay in a second-level cache while all panels pass over
/// them in long runs.
const GROUP: usize = 4096;

/// The packed operand in groups that stay in a cache while all panels pass over them, each with its first column.
pub(super) fn operand_groups(shape: Shape, operand: &[Lanes]) -> impl Iterator<Item = (&[Lanes], usize)> {
    let tiles = (GROUP / shape.rows.max(1)).max(1);
    let groups = operand.chunks((tiles * shape.rows).max(1)).enumerate();
    groups.map(move |(index, group)| (group, index * tiles * LANES))
}

/// Columns of `dW` of `P` panels, those of one group from column `first` on; behind the last group the bias.
#[inline(always)]
pub(super) fn d_weight<S: Simd, const P: usize>(
    s: S,
    shape: Shape,
    d_outputs: [&[Lanes]; P],
    group: &[Lanes],
    first: usize,
    sinks: &mut [impl Sink<S>; P],
) {
    let mut column = first;
    for tile in group.chunks_exact(shape.rows.max(1)) {
        product_columns(s, d_outputs, tile, column, shape.in_dim, sinks);
        column += LANES;
    }
    if shape.bias && column >= shape.in_dim {
        for (d_output, sink) in d_outputs.into_iter().zip(sinks) {
            let mut acc = s.splat(0.0);
            for query in d_output {
                acc = s.fma(s.load(query), s.splat(1.0), acc);
            }
            sink.put(s, shape.in_dim, [acc]);
        }
    }
}

/// The definition of one element of `dW`: column `k` of `operand` (`rows × in_dim`) under the gradient `d_output` of
/// one output row, one value per query.
#[must_use]
pub fn reference_d_weight(d_output: &[f32], operand: &[f32], in_dim: usize, k: usize) -> f32 {
    let mut acc = 0.0;
    for (&d, row) in d_output.iter().zip(operand.chunks(in_dim.max(1))) {
        // Past the last input stands the constant 1 of the bias.
        acc = math::fma(d, row.get(k).copied().unwrap_or(1.0), acc);
    }
    acc
}
