//! The functions of `query_adapter::math`, and the schedule of the learning rate.

use core::f64::consts::PI;

use query_adapter::sample::Generator;
use query_adapter::{Decay, NormForm, Schedule, math, norm_form};

use super::{Comparison, Quantity, Sheet};
use crate::oracle;

/// What `math` promises.
const EXP: Quantity<'_> = Quantity { name: "exp", unit: "ulp" };
const LN: Quantity<'_> = Quantity { name: "ln", unit: "ulp" };
const COS: Quantity<'_> = Quantity { name: "cos πx", unit: "2⁻²³" };
/// Correctly rounded.
const SQRT: Quantity<'_> = Quantity { name: "square root", unit: "ulp" };
const FMA: Quantity<'_> = Quantity { name: "fused multiply-add", unit: "ulp" };
/// One division of whole numbers, correctly rounded.
const SCHEDULE: Quantity<'_> = Quantity { name: "schedule, constant and linear", unit: "ulp" };
/// ½·(1 + cos πx). Rounding x, of at most 1, moves the cosine by π·2⁻²⁵, that is 0.79·2⁻²³; the cosine is off by 2⁻²³, the
/// sum, of at most 2, by 2⁻²⁴. Half of it all is 1.15·2⁻²³.
const COSINE_SCHEDULE: Quantity<'_> = Quantity { name: "schedule, cosine", unit: "2⁻²³" };
/// `norm_form` and its definition.
const NORM_FORM: Quantity<'_> = Quantity { name: "choice of the norm's form", unit: "shapes that differ" };

/// Half a unit in the last place, and what the oracle's own rounding to `f64` may add to it.
const HALF_ULP: f64 = 0.5 + 1e-8;

/// Every how many bit patterns a function is tried; a prime, so that mantissas of all kinds occur.
const STRIDE: usize = 4099;

/// Random operands of the fused multiply-add.
const OPERANDS: usize = 200_000;

/// Checks all of them.
pub(super) fn check(sheet: &mut Sheet) {
    let patterns = || (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits);
    let numbers = || patterns().filter(|x| !x.is_nan());
    let positive = || numbers().filter(|x| *x > 0.0 && x.is_finite());
    let one_argument = |f: fn(f32) -> f32, truth: fn(f64) -> f64| move |x| in_ulps(f(x), truth(f64::from(x)));
    sheet.record(EXP, "all of f32", 1.0, numbers().map(one_argument(math::exp, f64::exp)));
    sheet.record(LN, "all of f32 above 0", 1.0, positive().map(one_argument(math::ln, f64::ln)));
    sheet.record(SQRT, "all of f32 above 0", HALF_ULP, positive().map(one_argument(math::sqrt, f64::sqrt)));

    let cosines = (0..=40_000_u16).map(|i| {
        let x = f32::from(i) / 40_000.0;
        let truth = (PI * f64::from(x)).cos();
        Comparison { found: f64::from(math::cos_pi(x)), truth, unit: f64::from(f32::EPSILON) }
    });
    sheet.record(COS, "0 ≤ x ≤ 1", 1.0, cosines);

    let mut generator = Generator::new(0);
    let mut operand = || f32::from_bits((generator.next_u64() >> 32) as u32);
    let operands = core::iter::repeat_with(|| [operand(), operand(), operand()]);
    let fused = operands
        .take(OPERANDS)
        .filter(|operands| operands.iter().all(|x| x.is_finite()))
        .map(|[a, b, c]| in_ulps(math::fma(a, b, c), f64::from(a) * f64::from(b) + f64::from(c)));
    sheet.record(FMA, "random bits", HALF_ULP, fused);
    check_schedules(sheet);

    let differing =
        (1..=300).flat_map(|rows| (1..=300).map(move |in_dim| (rows, in_dim))).filter(|&(rows, in_dim)| {
            (norm_form(rows, in_dim) == NormForm::Gram) != oracle::takes_gram_norm(rows, in_dim)
        });
    sheet.record(NORM_FORM, "up to 300 × 300", 0.0, [Comparison::count(differing.count())]);
}

fn check_schedules(sheet: &mut Sheet) {
    let kinds = [
        (Decay::Constant, oracle::Decay::Constant),
        (Decay::Linear, oracle::Decay::Linear),
        (Decay::Cosine, oracle::Decay::Cosine),
    ];
    for (decay, oracle_decay) in kinds {
        for (warmup, total) in [(0, 0), (0, 1), (0, 10), (1, 1), (2, 21), (5, 3), (100, 1000), (7, 12_345)] {
            let kernel = Schedule { decay, warmup, total };
            let oracle = oracle::Schedule { decay: oracle_decay, warmup, total };
            let steps = (0..total + 3).step_by(1 + total as usize / 500);
            let pairs = steps.map(|step| (kernel.factor(step), oracle.factor(step)));
            let case = format!("{warmup} of {total} steps warm-up");
            if decay == Decay::Cosine {
                let unit = f64::from(f32::EPSILON);
                let comparisons =
                    pairs.map(|(found, truth)| Comparison { found: f64::from(found), truth, unit });
                sheet.record(COSINE_SCHEDULE, &case, 1.15, comparisons);
            } else {
                sheet.record(SCHEDULE, &case, HALF_ULP, pairs.map(|(found, truth)| in_ulps(found, truth)));
            }
        }
    }
}

/// Counts an error in units in the last place of the true value; where that is beyond `f32`, infinity stands for 2¹²⁸.
fn in_ulps(found: f32, truth: f64) -> Comparison {
    const END: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;
    let finite = |x: f64| if x.is_nan() || x.abs() < END { x } else { END.copysign(x) };
    let (found, truth) = (finite(f64::from(found)), finite(truth));
    // The exponent as it stands in the bits, that of the smallest normal f32 at least, and of the greatest at most.
    let exponent = (truth.abs().to_bits() >> 52).clamp(1023 - 126, 1023 + 127);
    Comparison { found, truth, unit: f64::from_bits((exponent - 23) << 52) }
}
