//! Fused multiply-add, square root, `exp`, `ln` and `cos(πx)`: sequences of operations that IEEE 754 defines exactly,
//! so that their bits are the same on every processor.
//!
//! The scalar functions are the definitions; the lane versions below them are the same sequences sixteen at a time.
//! This is the only file that names libm.

#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!("the x87 unit rounds to other bits: build for a target with SSE2");

#[cfg(feature = "train")]
use crate::lanes::Lanes;
#[cfg(feature = "train")]
use crate::simd::Simd;

/// `a × b + c` with one rounding, also where the processor has no such instruction, and also for subnormal results.
///
/// The product of two `f32` is exact in `f64`. The sum is rounded to odd there, which leaves enough information for
/// the final rounding to be the only one that counts (Boldo and Melquiond, *Emulation of FMA and correctly rounded
/// sums*, 2008).
///
/// A Cortex-M with a floating-point unit uses its instruction, for the same bits.
#[must_use]
#[inline]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(cortex_m_fpu)]
    return crate::simd::cortex_m::fma(a, b, c);
    #[cfg(not(cortex_m_fpu))]
    fma_in_software(a, b, c)
}

/// [`fma`] where the processor may have no such instruction.
#[cfg(not(cortex_m_fpu))]
#[inline]
fn fma_in_software(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    // Knuth's two-sum: sum + error == product + c exactly.
    let virtual_c = sum - product;
    let error = (product - (sum - virtual_c)) + (c - virtual_c);
    let bits = sum.to_bits();
    let odd = if error != 0.0 && sum.is_finite() && bits & 1 == 0 {
        // One ulp toward the error: away from zero when the signs agree.
        if (error > 0.0) == (sum > 0.0) { f64::from_bits(bits + 1) } else { f64::from_bits(bits - 1) }
    } else {
        sum
    };
    narrow(odd)
}

/// Rounds to `f32`, to nearest even; the one place where precision is given up on purpose.
#[cfg(not(cortex_m_fpu))]
#[expect(clippy::cast_possible_truncation, reason = "rounding is what this function is for")]
#[inline]
const fn narrow(x: f64) -> f32 {
    x as f32
}

/// The correctly rounded square root.
#[must_use]
#[inline]
pub fn sqrt(x: f32) -> f32 {
    #[cfg(cortex_m_fpu)]
    return crate::simd::cortex_m::sqrt(x);
    #[cfg(not(cortex_m_fpu))]
    libm::sqrtf(x)
}

/// `if a > b { a } else { b }`: when either is NaN, `b` comes back.
#[must_use]
#[inline]
pub fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `if a < b { a } else { b }`: when either is NaN, `b` comes back.
#[must_use]
#[inline]
pub fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// The leading 16 bits of ln 2: `n × LN_2_HI` is exact for every exponent `n`.
const LN_2_HI: f32 = f32::from_bits(0x3f31_7200);
/// ln 2 − `LN_2_HI`.
const LN_2_LO: f32 = 1.428_606_8e-6;
/// 1.5 · 2²³: adding it rounds a small number to the nearest integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Beyond these, `exp` is 0 or infinity; inside them its power of two fits two factors.
const EXP_MIN: f32 = -104.0;
const EXP_MAX: f32 = 89.0;
/// `(eʳ − 1 − r) / r²` on |r| ≤ ln 2 / 2: minimax, relative error of `eʳ` 3.1e-9.
const EXP_POLY: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];

/// `eˣ` for every `f32`, at most 1 ulp from the true value; subnormal results are kept; `exp(NaN)` is NaN.
#[must_use]
#[inline]
pub fn exp(x: f32) -> f32 {
    let x = min(EXP_MAX, max(EXP_MIN, x));
    let rounded = fma(x, LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = fma(n, -LN_2_LO, fma(n, -LN_2_HI, x));
    let [c0, c1, c2, c3, c4] = EXP_POLY;
    let poly = fma(fma(fma(fma(c4, r, c3), r, c2), r, c1), r, c0);
    // 1 + r, and what its rounding lost: this keeps the whole below one ulp.
    let high = 1.0 + r;
    let low = r - (high - 1.0);
    let exp_r = high + fma(r * r, poly, low);
    // 2ⁿ as two factors, each a normal number; only the second product can round.
    let exponent = rounded.to_bits().cast_signed().wrapping_sub(ROUND.to_bits().cast_signed());
    let half = exponent >> 1;
    exp_r * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline]
const fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned())
}

/// Bits of √½, where the mantissa of `ln`'s argument is centred.
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
/// `(ln(1+f) − f + f²/2) / f³` on √½ − 1 ≤ f ≤ √2 − 1: minimax, relative error of `ln(1+f)` 5.8e-9.
const LN_POLY: [f32; 8] = [
    0.333_333_3,
    -0.250_008_2,
    0.200_012_27,
    -0.166_233_57,
    0.142_017_57,
    -0.131_601_81,
    0.127_615_78,
    -0.076_345_03,
];

/// `ln x` for every `f32`, at most 1 ulp from the true value: `ln(±0) = −∞`, NaN below zero.
#[must_use]
pub fn ln(x: f32) -> f32 {
    if x.is_nan() || x == f32::INFINITY {
        return x;
    }
    if x <= 0.0 {
        return if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    }
    // A subnormal is scaled by 2²⁵ first.
    let (x, scaled) = if x < f32::MIN_POSITIVE { (x * 33_554_432.0, 25) } else { (x, 0) };
    let (f, exponent) = split_about_one(x);
    let exponent = exponent - scaled;
    let [c0, c1, c2, c3, c4, c5, c6, c7] = LN_POLY;
    let poly = fma(fma(fma(fma(fma(fma(fma(c7, f, c6), f, c5), f, c4), f, c3), f, c2), f, c1), f, c0);
    let tail = (f * f) * fma(f, poly, -0.5);
    // e·ln 2 + f + tail, with the rounding error of the leading sum put back.
    let e = f32_from_small(exponent);
    let leading = e * LN_2_HI;
    let high = leading + f;
    let low = if exponent == 0 { 0.0 } else { f - (high - leading) };
    high + fma(e, LN_2_LO, tail + low)
}

/// `f` and `e` with `x = (1 + f) · 2ᵉ` and √½ ≤ 1 + f < √2, for a positive normal number.
#[inline]
fn split_about_one(x: f32) -> (f32, i32) {
    let offset = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let m = f32::from_bits((offset & 0x007f_ffff).wrapping_add(SQRT_HALF_BITS));
    (m - 1.0, offset.cast_signed() >> 23)
}

/// An integer of at most 24 bits as `f32`, exactly.
#[expect(clippy::cast_precision_loss, reason = "callers pass exponents, which are exact")]
const fn f32_from_small(n: i32) -> f32 {
    n as f32
}

/// `(cos(πx) − 1) / x²` in powers of x², for 0 ≤ x ≤ ¼.
const COS_POLY: [f32; 4] = [-4.934_802, 4.058_707_7, -1.335_058_5, 0.231_429_55];
/// `sin(πx) / x` in powers of x², for 0 ≤ x ≤ ¼.
const SIN_POLY: [f32; 5] = [core::f32::consts::PI, -5.167_712_7, 2.550_162_6, -0.599_202_1, 0.081_001_855];

/// `cos(πx)` for 0 ≤ x ≤ 1, absolute error at most 2⁻²³; outside that range the argument is clamped, and NaN counts as 0.
///
/// Used by the cosine schedule.
#[must_use]
pub fn cos_pi(x: f32) -> f32 {
    let x = if x > 1.0 { 1.0 } else { max(x, 0.0) };
    // Reflections at ½ and ¼ are exact in f32 (Sterbenz).
    let (x, sign) = if x > 0.5 { (1.0 - x, -1.0) } else { (x, 1.0) };
    let value = if x > 0.25 {
        let y = 0.5 - x;
        let t = y * y;
        let [c0, c1, c2, c3, c4] = SIN_POLY;
        y * fma(fma(fma(fma(c4, t, c3), t, c2), t, c1), t, c0)
    } else {
        let t = x * x;
        let [c0, c1, c2, c3] = COS_POLY;
        fma(t, fma(fma(fma(c3, t, c2), t, c1), t, c0), 1.0)
    };
    sign * value
}

/// [`exp_lanes`] where sixteen lanes are sixteen turns of a loop: once in the program, however often it is called.
#[cfg(feature = "train")]
#[inline(never)]
fn exp_each(mut x: Lanes) -> Lanes {
    for value in &mut x.0 {
        *value = exp(*value);
    }
    x
}

/// [`exp`] on sixteen lanes.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn exp_lanes<S: Simd>(s: S, x: S::F32) -> S::F32 {
    if S::LANE_BY_LANE {
        return s.load(&exp_each(s.to_lanes(x)));
    }
    let x = s.max(s.splat(EXP_MIN), x);
    let x = s.min(s.splat(EXP_MAX), x);
    let magic = s.splat(ROUND);
    let rounded = s.fma(x, s.splat(LOG2_E), magic);
    let n = s.sub(rounded, magic);
    let r = s.fma(n, s.splat(-LN_2_LO), s.fma(n, s.splat(-LN_2_HI), x));
    let [c0, c1, c2, c3, c4] = EXP_POLY;
    let poly = s.fma(s.splat(c4), r, s.splat(c3));
    let poly = s.fma(poly, r, s.splat(c2));
    let poly = s.fma(poly, r, s.splat(c1));
    let poly = s.fma(poly, r, s.splat(c0));
    let one = s.splat(1.0);
    let high = s.add(one, r);
    let low = s.sub(r, s.sub(high, one));
    let exp_r = s.add(high, s.fma(s.mul(r, r), poly, low));
    let (first, second) = s.split_power_of_two(rounded, ROUND.to_bits().cast_signed());
    s.mul(s.mul(exp_r, first), second)
}

/// [`ln`] on sixteen lanes.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn ln_lanes<S: Simd>(s: S, x: &Lanes) -> Lanes {
    if S::LANE_BY_LANE {
        let mut out = *x;
        for value in &mut out.0 {
            *value = ln(*value);
        }
        return out;
    }
    let (mut f, mut e, mut others) = (Lanes::ZERO, Lanes::ZERO, 0_u16);
    for (lane, ((f, e), &x)) in f.0.iter_mut().zip(&mut e.0).zip(&x.0).enumerate() {
        if !x.is_normal() || x < 0.0 {
            others |= 1 << lane;
            continue;
        }
        let exponent;
        (*f, exponent) = split_about_one(x);
        *e = f32_from_small(exponent);
    }
    let (f, e) = (s.load(&f), s.load(&e));
    let [c0, c1, c2, c3, c4, c5, c6, c7] = LN_POLY;
    let mut poly = s.splat(c7);
    for c in [c6, c5, c4, c3, c2, c1, c0] {
        poly = s.fma(poly, f, s.splat(c));
    }
    let tail = s.mul(s.mul(f, f), s.fma(f, poly, s.splat(-0.5)));
    let leading = s.mul(e, s.splat(LN_2_HI));
    let high = s.add(leading, f);
    // Where e is 0 this is 0 too.
    let low = s.sub(f, s.sub(high, leading));
    let mut out = s.to_lanes(s.add(high, s.fma(e, s.splat(LN_2_LO), s.add(tail, low))));
    for (lane, (out, &x)) in out.0.iter_mut().zip(&x.0).enumerate() {
        if others & (1 << lane) != 0 {
            *out = ln(x);
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "lane numbers")]
mod tests {
    use super::*;

    /// Distance in units in the last place of the `f32` nearest to `truth`.
    fn ulps(found: f32, truth: f64) -> f64 {
        let nearest = narrow(truth);
        if nearest == found {
            return 0.0;
        }
        let exponent = truth.abs().log2().floor().clamp(-126.0, 127.0);
        (f64::from(found) - truth).abs() / (exponent - 23.0).exp2()
    }

    /// Every `step`-th bit pattern in the whole of `f32`.
    fn patterns(step: u32) -> impl Iterator<Item = f32> {
        (0..=u32::MAX / step).map(move |i| f32::from_bits(i * step))
    }

    fn worst_exp(step: u32) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        for x in patterns(step) {
            let found = exp(x);
            let truth = f64::from(x).exp();
            if x.is_nan() {
                assert!(found.is_nan());
            } else if found.is_infinite() || narrow(truth).is_infinite() {
                // Overflow may begin one ulp early or late.
                assert!(truth > 3.402_823e38, "exp({x}) overflows to {found}");
                assert!(narrow(truth).is_finite() || found >= f32::MAX);
            } else {
                let distance = ulps(found, truth);
                if distance > worst.0 {
                    worst = (distance, x);
                }
            }
        }
        worst
    }

    fn worst_ln(step: u32) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        for x in patterns(step).filter(|x| *x > 0.0 && x.is_finite()) {
            let distance = ulps(ln(x), f64::from(x).ln());
            if distance > worst.0 {
                worst = (distance, x);
            }
        }
        worst
    }

    #[test]
    fn exp_is_within_one_ulp_on_a_dense_sample() {
        let (distance, x) = worst_exp(1009);
        assert!(distance <= 1.0, "exp({x:e}) is {distance} ulp off");
    }

    #[test]
    fn ln_is_within_one_ulp_on_a_dense_sample() {
        let (distance, x) = worst_ln(1009);
        assert!(distance <= 1.0, "ln({x:e}) is {distance} ulp off");
    }

    #[test]
    #[ignore = "all 2^32 values: minutes"]
    fn exp_and_ln_are_within_one_ulp_everywhere() {
        let (exp_distance, exp_at) = worst_exp(1);
        let (ln_distance, ln_at) = worst_ln(1);
        println!("exp: {exp_distance:.4} ulp at {exp_at:e}; ln: {ln_distance:.4} ulp at {ln_at:e}");
        assert!(exp_distance <= 1.0 && ln_distance <= 1.0);
    }

    #[cfg(all(feature = "std", feature = "train"))]
    #[test]
    #[ignore = "all 2^32 values: minutes"]
    fn exp_has_the_same_bits_everywhere_on_every_level() {
        use crate::lanes::{LANES, Lanes};
        use crate::simd::{Level, dispatch};

        for first in (0..=u32::MAX).step_by(LANES) {
            let x = Lanes(core::array::from_fn(|lane| f32::from_bits(first + lane as u32)));
            let defined = x.0.map(exp);
            for level in Level::available().skip(1) {
                let found = dispatch!(level, s => s.to_lanes(exp_lanes(s, s.load(&x))));
                for (a, b) in found.0.into_iter().zip(defined) {
                    assert!(
                        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                        "{x:?} on {}",
                        level.name()
                    );
                }
            }
        }
    }

    #[test]
    fn exp_and_ln_have_their_exact_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(-104.0).to_bits(), 0);
        assert!(exp(-103.0) > 0.0, "subnormal results are kept");
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(ln(1.0).to_bits(), 0);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(-0.0), f32::NEG_INFINITY);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_a_negative_number_never_exceeds_one() {
        for x in patterns(257).filter(|x| *x <= 0.0) {
            assert!(exp(x) <= 1.0);
        }
    }

    #[test]
    fn cos_pi_is_close_and_exact_at_its_ends() {
        assert_eq!((cos_pi(0.0), cos_pi(0.5), cos_pi(1.0)), (1.0, 0.0, -1.0));
        for i in 0u16..=10_000 {
            let x = f32::from(i) / 10_000.0;
            let truth = (f64::from(x) * core::f64::consts::PI).cos();
            assert!((f64::from(cos_pi(x)) - truth).abs() <= 1.2e-7, "cos_pi({x})");
        }
    }

    #[test]
    fn fma_rounds_once_also_into_subnormals() {
        // compiler-builtins issue 1262: software forms which round to f64 first give 0x00010002.
        let found =
            fma(f32::from_bits(0x9700_0800), f32::from_bits(0x1cff_f001), f32::from_bits(0x0001_0002));
        assert_eq!(found.to_bits(), 0x0001_0001);
        assert_eq!(fma(f32::INFINITY, 0.0, 1.0).to_bits() & 0x7fc0_0000, 0x7fc0_0000);
        assert_eq!(fma(f32::MAX, 2.0, f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(fma(-1.0, 0.0, -0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(fma(1.0, 1.0, -1.0).to_bits(), 0, "exact cancellation gives +0");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "compared with the platform's own fused multiply-add")]
    fn fma_equals_the_platform_on_random_bits() {
        // glibc's fmaf, or the instruction, is right for these; its known-wrong peers are not used here.
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from_bits(u32::try_from(state >> 32).unwrap_or_default())
        };
        for _ in 0..300_000 {
            let (a, b, c) = (next(), next(), next());
            let (found, expected) = (fma(a, b, c), a.mul_add(b, c));
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{a} {b} {c}"
            );
        }
    }
}
