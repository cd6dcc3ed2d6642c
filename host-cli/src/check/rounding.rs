//! What rounding to `f32` may do to a result: a model of it, and the bounds that follow.

use query_adapter::sample::Generator;

use super::{Comparison, Quantity, Sheet};
use crate::oracle::{Arithmetic, Matrix};

/// 2⁻²⁴, the unit roundoff of `f32`: rounding to nearest changes a number by at most this share of it.
pub(super) const ROUNDOFF: f64 = 1.0 / 16_777_216.0;

/// 2⁻¹⁵⁰, half the distance of subnormal numbers: what rounding may change where it is not relative.
pub(super) const SUBNORMAL_ROUNDOFF: f64 = f64::from_bits((1023 - 150) << 52);

/// Bounds to first order leave out products of two rounding errors. Of the sums here, of at most 2¹⁴ terms, those are
/// less than a thousandth.
pub(super) const SECOND_ORDER: f64 = 1.001;

/// How many times the formulas are run with random rounding.
const RUNS: u64 = 8;

/// How many times the largest deviation of those runs a kernel's error may be.
///
/// One more run, with other random numbers, exceeds the largest of eight in one of nine quantities, but by a factor of
/// 2 in one of thousands. The kernel's rounding is smaller than the model's on the average, but no random draw: errors
/// that happen to agree, as in sums of like terms, add up to more. A formula that is wrong differs by far more.
pub(super) const SAFETY: f64 = 4.0;

/// A machine whose every operation is off by up to [`ROUNDOFF`], at random. (Parker, *Monte Carlo arithmetic*, 1997.)
pub(super) struct RandomRounding(Generator);

impl RandomRounding {
    fn factor(&mut self) -> f64 {
        // 52 random bits as a number in [1, 2).
        let x = f64::from_bits(0x3ff0_0000_0000_0000 | (self.0.next_u64() >> 12));
        1.0 + ROUNDOFF * (2.0 * x - 3.0)
    }
}

impl Arithmetic for RandomRounding {
    fn round(&mut self, x: f64) -> f64 {
        x * self.factor()
    }

    fn product(&mut self, a: &Matrix, b: &Matrix) -> Matrix {
        let mut product = Matrix::zeros(a.nrows(), b.ncols());
        for (mut sums, factors) in product.column_iter_mut().zip(b.column_iter()) {
            for (terms, factor) in a.column_iter().zip(&factors) {
                for (sum, term) in sums.iter_mut().zip(&terms) {
                    *sum = self.round(*sum + term * factor);
                }
            }
        }
        product
    }
}

/// The results of a computation that is rounded at random, in some runs.
pub(super) fn rounded_at_random<T>(mut compute: impl FnMut(&mut RandomRounding) -> T) -> Vec<T> {
    (0..RUNS).map(|run| compute(&mut RandomRounding(Generator::new(run)))).collect()
}

/// A tensor three times: as the kernel found it, as it is, and rounded at random.
pub(super) struct Tensor<'a> {
    pub(super) found: &'a [f64],
    pub(super) truth: &'a [f64],
    pub(super) rounded: Vec<&'a [f64]>,
}

impl Tensor<'_> {
    /// How far an element may be from the truth: [`SAFETY`] times the largest deviation of any element in any run,
    /// and one rounding of the largest element.
    pub(super) fn bound(&self) -> f64 {
        let deviations = self.rounded.iter().flat_map(|rounded| {
            rounded.iter().zip(self.truth).map(|(rounded, truth)| (rounded - truth).abs())
        });
        SAFETY * deviations.fold(0.0, f64::max) + ROUNDOFF * max_norm(self.truth)
    }

    /// Records the comparison of all elements, in `unit`.
    pub(super) fn record(&self, sheet: &mut Sheet, quantity: Quantity<'_>, case: &str, unit: f64) {
        debug_assert_eq!(self.found.len(), self.truth.len(), "equal shapes");
        let comparisons =
            self.found.iter().zip(self.truth).map(|(&found, &truth)| Comparison { found, truth, unit });
        sheet.record(quantity, case, self.bound() / unit, comparisons);
    }
}

/// Records one number, as a [`Tensor`] of one element.
pub(super) fn record_number(
    sheet: &mut Sheet,
    quantity: Quantity<'_>,
    case: &str,
    [found, truth, unit]: [f64; 3],
    rounded: &[f64],
) {
    let rounded = rounded.iter().map(core::slice::from_ref).collect();
    Tensor { found: &[found], truth: &[truth], rounded }.record(sheet, quantity, case, unit);
}

/// The largest absolute value.
pub(super) fn max_norm(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, x| f64::max(largest, x.abs()))
}
