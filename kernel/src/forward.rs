//! `T = Q Wᵀ + b`: one query or a batch, panel after panel.

use crate::lanes::{LANES, Lanes};
use crate::math;
use crate::simd::Simd;
use crate::tile::product_rows;

/// Transforms `queries` (`rows × in_dim`, row-major) by the panels of a weight whose last column, with `bias`, is the
/// bias; `emit(panel, row, output)` receives sixteen outputs at a time.
#[inline(always)]
pub(crate) fn forward<S: Simd>(
    s: S,
    weight: &[Lanes],
    in_dim: usize,
    bias: bool,
    queries: &[f32],
    mut emit: impl FnMut(usize, usize, S::F32),
) {
    let stride = in_dim + usize::from(bias);
    product_rows(s, weight, stride, queries, in_dim, |panel, row, acc| {
        let output = match weight.get(panel * stride + in_dim) {
            Some(column) if bias => s.fma(s.load(column), s.splat(1.0), acc),
            _ => acc,
        };
        emit(panel, row, output);
    });
}

/// The definition of an adapter's output: row `r` for one query.
#[must_use]
pub fn reference_forward(weight: &[Lanes], in_dim: usize, bias: bool, query: &[f32], r: usize) -> f32 {
    let stride = in_dim + usize::from(bias);
    let element = |k: usize| {
        weight
            .get((r / LANES) * stride + k)
            .and_then(|lanes| lanes.0.get(r % LANES))
            .copied()
            .unwrap_or(f32::NAN)
    };
    let mut acc = 0.0;
    for (k, &q) in query.iter().take(in_dim).enumerate() {
        acc = math::fma(element(k), q, acc);
    }
    if bias { math::fma(element(in_dim), 1.0, acc) } else { acc }
}
