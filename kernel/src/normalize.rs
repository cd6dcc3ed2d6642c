//! L2 normalisation of rows, forward and backward. Sixteen rows lie in the lanes; a row's sum runs down its lane.

use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_dim, check_len};
use crate::math;
use crate::simd::{Level, Simd, check_subnormals, dispatch};
use crate::transpose::block_of_rows_to_panel;

/// Norms at or below this count as zero.
pub const NORM_FLOOR: f32 = 1e-12;

/// Divides sixteen rows by their norms: `x` holds one [`Lanes`] per column.
///
/// Returns the norms, and the factors `1 ÷ max(NORM_FLOOR, norm)`.
#[inline(always)]
pub(crate) fn normalize_panel<S: Simd>(s: S, x: &mut [Lanes]) -> (S::F32, S::F32) {
    let squares = s.dot_columns(x, x, s.splat(0.0));
    let norm = s.sqrt(squares);
    let inverse = s.div(s.splat(1.0), s.max(s.splat(NORM_FLOOR), norm));
    s.scale_columns(x, inverse);
    (norm, inverse)
}

/// Turns the gradient with respect to normalised rows into the gradient with respect to the rows before:
/// `d ← inverse × (d − (Σ x̂ d) x̂)`.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn normalize_backward_panel<S: Simd>(
    s: S,
    normalized: &[Lanes],
    inverse: S::F32,
    d: &mut [Lanes],
) {
    let dot = s.dot_columns(normalized, d, s.splat(0.0));
    // × −1 is exact and flips the sign of zero too.
    let minus_dot = s.mul(dot, s.splat(-1.0));
    s.project_columns(normalized, minus_dot, inverse, d);
}

/// Divides each row of `rows` (row-major, `dim` values each) by `max(NORM_FLOOR, ‖row‖)`, in place.
///
/// This is how documents enter scores. A zero row stays zero; one whose square overflows, that of a norm above 1.8e19, becomes it.
///
/// # Errors
/// [`Error::Dimension`], [`Error::Length`] when `rows` is not a whole number of rows, or [`Error::FlushToZero`]; nothing is changed.
///
/// ```
/// let mut rows = [3.0, 4.0, 0.0, 0.0];
/// query_adapter::normalize_rows(query_adapter::Level::baseline(), &mut rows, 2)?;
/// assert_eq!(rows, [0.6, 0.8, 0.0, 0.0]);
/// # Ok::<(), query_adapter::Error>(())
/// ```
pub fn normalize_rows(level: Level, rows: &mut [f32], dim: usize) -> Result<(), Error> {
    check_dim("dim", dim)?;
    check_len("rows", rows.len() / dim.max(1) * dim, rows.len())?;
    check_subnormals()?;
    for group in rows.chunks_mut((LANES * dim).max(1)) {
        dispatch!(level, s => normalize_group(s, group, dim));
    }
    Ok(())
}

/// Up to sixteen row-major rows. The sums run sixteen rows at a time; scaling goes along the rows.
#[inline(always)]
fn normalize_group<S: Simd>(s: S, rows: &mut [f32], dim: usize) {
    let mut squares = s.splat(0.0);
    let mut block = [Lanes::ZERO; LANES];
    for first in (0..dim).step_by(LANES) {
        let columns = block.get_mut(..LANES.min(dim - first)).unwrap_or_default();
        block_of_rows_to_panel(s, rows, dim, first, columns);
        for column in columns.iter() {
            let value = s.load(column);
            squares = s.fma(value, value, squares);
        }
    }
    let inverse = s.to_lanes(s.div(s.splat(1.0), s.max(s.splat(NORM_FLOOR), s.sqrt(squares))));
    for (row, inverse) in rows.chunks_exact_mut(dim.max(1)).zip(inverse.0) {
        for value in row {
            *value *= inverse;
        }
    }
}

/// The definition of [`normalize_rows`] for one row; returns the norm and the factor.
pub fn reference_normalize(row: &mut [f32]) -> (f32, f32) {
    let mut squares = 0.0;
    for &x in row.iter() {
        squares = math::fma(x, x, squares);
    }
    let norm = math::sqrt(squares);
    let inverse = 1.0 / math::max(NORM_FLOOR, norm);
    for x in row {
        *x *= inverse;
    }
    (norm, inverse)
}

/// The definition of the gradient through normalisation for one row.
pub fn reference_normalize_backward(normalized: &[f32], inverse: f32, d: &mut [f32]) {
    let mut dot = 0.0;
    for (&x, &d) in normalized.iter().zip(d.iter()) {
        dot = math::fma(x, d, dot);
    }
    for (&x, d) in normalized.iter().zip(d) {
        *d = inverse * math::fma(-dot, x, *d);
    }
}
