//! The gradient of the weight: `dW = dTᵀ G`, a panel of outputs against packed columns of the operand.

use super::Shape;
use crate::lanes::{LANES, Lanes};
use crate::math;
use crate::simd::Simd;
use crate::tile::{Sink, product_columns};

/// Sizes of a group of the operand, in [`Lanes`]: 32 KiB stay in a first-level cache while the gradient is stored; where the
/// weight is updated as well, 256 KiB in a second-level cache let `W`, `m` and `v` be passed over in longer runs.
pub(super) const STORED_GROUP: usize = 512;
pub(super) const UPDATED_GROUP: usize = 4096;

/// The packed operand in groups of about `len` that stay in a cache while all panels pass over them, each with its first
/// column.
pub(super) fn operand_groups(
    shape: Shape,
    operand: &[Lanes],
    len: usize,
) -> impl Iterator<Item = (&[Lanes], usize)> {
    let tiles = (len / shape.rows.max(1)).max(1);
    let groups = operand.chunks((tiles * shape.rows).max(1)).enumerate();
    groups.map(move |(index, group)| (group, index * tiles * LANES))
}

/// Columns of `dW` of one panel, those of one group from column `first` on; behind the last group the bias.
#[inline(always)]
pub(super) fn d_weight<S: Simd>(
    s: S,
    shape: Shape,
    d_output: &[Lanes],
    group: &[Lanes],
    first: usize,
    sink: &mut impl Sink<S>,
) {
    let mut column = first;
    for tile in group.chunks_exact(shape.rows.max(1)) {
        product_columns(s, d_output, tile, column, shape.in_dim, sink);
        column += LANES;
    }
    if shape.bias && column >= shape.in_dim {
        let mut acc = s.splat(0.0);
        for query in d_output {
            acc = s.fma(s.load(query), s.splat(1.0), acc);
        }
        sink.put(s, shape.in_dim, [acc]);
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
