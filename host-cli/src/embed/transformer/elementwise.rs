//! What a transformer does between its products: layer normalisation, softmax and activations, over rows of `f32`.
//!
//! Only operations that IEEE 754 defines exactly are used, in an order that does not depend on the machine, so a text
//! has one vector everywhere. A sum runs in sixteen lanes, lane `l` over the elements `l, l + 16, …`, and ends in the
//! tree (l, l+8), (l, l+4), (l, l+2), (l, l+1); a row is filled up with zeros to a multiple of sixteen.

use fearless_simd::{Bytes as _, Select as _, i32x16};
use fearless_simd::{Level, Simd, SimdBase as _, SimdFloat as _, SimdFrom as _, dispatch, f32x16};

/// Elements a vector operation takes.
const LANES: usize = 16;

/// An activation between the two products of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x Φ(x)` with the error function.
    Gelu,
    /// Its approximation with the hyperbolic tangent.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Scales each row of `width` elements to mean 0 and variance 1, then by `weight`, and adds `bias`; both have `width`
/// elements, `eps` is added to the variance.
pub(crate) fn normalize_layers(level: Level, rows: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    dispatch!(level, simd => layer_rows(simd, rows, weight, bias, eps));
}

/// Replaces each row of `width` scores by `exp(s − max) ÷ Σ exp(s − max)`, `s` being the score times `scale`.
pub(crate) fn softmax_rows(level: Level, rows: &mut [f32], width: usize, scale: f32) {
    dispatch!(level, simd => for row in rows.chunks_exact_mut(width) { softmax_row(simd, row, scale) });
}

/// Applies an activation to every value.
pub(crate) fn activate(level: Level, values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => dispatch!(level, simd => map(simd, values, gelu)),
        Activation::GeluTanh => dispatch!(level, simd => map(simd, values, gelu_tanh)),
        Activation::Relu => dispatch!(level, simd => map(simd, values, relu)),
    }
}

#[inline(always)]
fn layer_rows<S: Simd>(simd: S, rows: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    #[allow(clippy::cast_precision_loss, reason = "a width is far below 2^24")]
    let width = weight.len() as f32;
    for row in rows.chunks_exact_mut(weight.len()) {
        let mean = sum(simd, row, |x| x) / width;
        // The zeros that fill up a row would each add the square of the mean: subtracted, they add none.
        let centred = f32x16::splat(simd, mean);
        for chunk in row.chunks_mut(LANES) {
            store(load(simd, chunk) - centred, chunk);
        }
        let variance = sum(simd, row, |x| x * x) / width;
        let factor = f32x16::splat(simd, 1.0 / query_adapter::math::sqrt(variance + eps));
        let parameters = weight.chunks(LANES).zip(bias.chunks(LANES));
        for (chunk, (weight, bias)) in row.chunks_mut(LANES).zip(parameters) {
            let x = load(simd, chunk) * factor;
            store(x.mul_add_precise(load(simd, weight), load(simd, bias)), chunk);
        }
    }
}

#[inline(always)]
fn softmax_row<S: Simd>(simd: S, row: &mut [f32], scale: f32) {
    let scale = f32x16::splat(simd, scale);
    let mut greatest = f32::NEG_INFINITY;
    for chunk in row.chunks_mut(LANES) {
        let x = load(simd, chunk) * scale;
        store(x, chunk);
        for &x in &*chunk {
            greatest = if x > greatest { x } else { greatest };
        }
    }
    let shift = f32x16::splat(simd, greatest);
    for chunk in row.chunks_mut(LANES) {
        store(exp(simd, load(simd, chunk) - shift), chunk);
    }
    let factor = f32x16::splat(simd, 1.0 / sum(simd, row, |x| x));
    for chunk in row.chunks_mut(LANES) {
        store(load(simd, chunk) * factor, chunk);
    }
}

#[inline(always)]
fn map<S: Simd>(simd: S, values: &mut [f32], f: impl Fn(S, f32x16<S>) -> f32x16<S>) {
    for chunk in values.chunks_mut(LANES) {
        store(f(simd, load(simd, chunk)), chunk);
    }
}

#[inline(always)]
fn relu<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    let zero = f32x16::splat(simd, 0.0);
    x.simd_gt(zero).select(x, zero)
}

/// `x Φ(x)`, with the error function as in Abramowitz and Stegun, 7.1.26: absolute error of Φ below 1e-7.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    const P: f32 = 0.327_591_1;
    const POLY: [f32; 5] = [0.254_829_6, -0.284_496_72, 1.421_413_8, -1.453_152_1, 1.061_405_4];
    let splat = |x: f32| f32x16::splat(simd, x);
    let scaled = x * splat(core::f32::consts::FRAC_1_SQRT_2);
    let size = scaled.abs();
    let t = splat(1.0) / size.mul_add_precise(splat(P), splat(1.0));
    let [c0, c1, c2, c3, c4] = POLY;
    let mut poly = splat(c4);
    for c in [c3, c2, c1, c0] {
        poly = poly.mul_add_precise(t, splat(c));
    }
    // erfc(|x|/√2), from 1 down to 0; half of it is Φ(−|x|).
    let tail = splat(0.5) * (poly * t * exp(simd, splat(0.0) - size * size));
    let phi = x.simd_gt(splat(0.0)).select(splat(1.0) - tail, tail);
    x * phi
}

/// `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, with the hyperbolic tangent as a logistic function.
#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    /// −2 √(2/π).
    const FACTOR: f32 = -1.595_769;
    let splat = |x: f32| f32x16::splat(simd, x);
    let cubed = x * x * x;
    let inner = cubed.mul_add_precise(splat(0.044_715), x) * splat(FACTOR);
    x / (splat(1.0) + exp(simd, inner))
}

/// [`query_adapter::math::exp`] on sixteen lanes, to the bit.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    const LN_2_HI: f32 = f32::from_bits(0x3f31_7200);
    const LN_2_LO: f32 = 1.428_606_8e-6;
    const ROUND: f32 = 12_582_912.0;
    const POLY: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];
    let splat = |x: f32| f32x16::splat(simd, x);
    let (least, greatest) = (splat(-104.0), splat(89.0));
    let x = least.simd_gt(x).select(least, x);
    let x = x.simd_gt(greatest).select(greatest, x);
    let rounded = x.mul_add_precise(splat(core::f32::consts::LOG2_E), splat(ROUND));
    let n = rounded - splat(ROUND);
    let r = n.mul_add_precise(splat(-LN_2_HI), x);
    let r = n.mul_add_precise(splat(-LN_2_LO), r);
    let [c0, c1, c2, c3, c4] = POLY;
    let mut poly = splat(c4);
    for c in [c3, c2, c1, c0] {
        poly = poly.mul_add_precise(r, splat(c));
    }
    let high = splat(1.0) + r;
    let low = r - (high - splat(1.0));
    let exp_r = high + (r * r).mul_add_precise(poly, low);
    // 2ⁿ as two factors, each a normal number.
    let exponent = rounded.bitcast::<i32x16<S>>() - i32x16::splat(simd, ROUND.to_bits().cast_signed());
    let half = exponent >> 1;
    let power = |n: i32x16<S>| ((n + i32x16::splat(simd, 127)) << 23).bitcast::<f32x16<S>>();
    exp_r * power(half) * power(exponent - half)
}

/// The sum of `f` over a row; see the module for its order.
#[inline(always)]
fn sum<S: Simd>(simd: S, row: &[f32], f: impl Fn(f32x16<S>) -> f32x16<S>) -> f32 {
    let mut acc = f32x16::splat(simd, 0.0);
    for chunk in row.chunks(LANES) {
        acc += f(load(simd, chunk));
    }
    let mut lanes = [0.0; LANES];
    acc.store_array(&mut lanes);
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// Up to sixteen values, filled up with zeros.
#[inline(always)]
fn load<S: Simd>(simd: S, chunk: &[f32]) -> f32x16<S> {
    if let Ok(whole) = <&[f32; LANES]>::try_from(chunk) {
        return f32x16::load_array_ref(simd, whole);
    }
    let mut filled = [0.0; LANES];
    for (place, &value) in filled.iter_mut().zip(chunk) {
        *place = value;
    }
    f32x16::simd_from(simd, filled)
}

/// The first values of `x`, as many as there is room for.
#[inline(always)]
fn store<S: Simd>(x: f32x16<S>, chunk: &mut [f32]) {
    if let Ok(whole) = <&mut [f32; LANES]>::try_from(&mut *chunk) {
        return x.store_array(whole);
    }
    let mut lanes = [0.0; LANES];
    x.store_array(&mut lanes);
    for (place, value) in chunk.iter_mut().zip(lanes) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of both signs and many sizes, and their number no multiple of sixteen.
    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.21).collect()
    }

    /// The levels of this machine, from the least to the best.
    fn levels() -> Vec<Level> {
        let best = Level::new();
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            let lesser = [best.as_sse2().map(Level::Sse2), best.as_avx2().map(Level::Avx2)];
            lesser.into_iter().flatten().chain([best]).collect()
        }
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
        vec![best]
    }

    #[test]
    fn exp_has_the_kernels_bits() {
        let inputs = values(997).into_iter().chain([-200.0, -104.0, -87.4, 88.7, 200.0, 0.0, -0.0, f32::NAN]);
        let inputs: Vec<f32> = inputs.collect();
        for level in levels() {
            let mut found = inputs.clone();
            dispatch!(level, simd => map(simd, &mut found, exp));
            for (x, found) in inputs.iter().zip(found) {
                let expected = query_adapter::math::exp(*x);
                assert!(
                    found.to_bits() == expected.to_bits() || (x.is_nan() && found.is_nan()),
                    "{x} {level:?}"
                );
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for width in [1, 15, 16, 17, 24, 33] {
            let run = |level| {
                let (weight, bias) = (values(width), values(width + 3));
                let mut layers = values(3 * width);
                normalize_layers(level, &mut layers, &weight, &bias[3..], 1e-12);
                let mut scores = values(3 * width);
                softmax_rows(level, &mut scores, width, 0.3);
                let active = [Activation::Gelu, Activation::GeluTanh, Activation::Relu].map(|activation| {
                    let mut values = values(3 * width);
                    activate(level, &mut values, activation);
                    values
                });
                let all = [&[layers, scores][..], &active].concat().concat();
                all.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let first = run(levels()[0]);
            assert!(levels().into_iter().all(|level| run(level) == first), "width {width}");
        }
    }

    #[test]
    fn layers_have_mean_and_variance_of_weight_and_bias() {
        let width = 37;
        let mut row = values(width);
        let exact: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        normalize_layers(Level::new(), &mut row, &vec![2.0; width], &vec![0.5; width], 1e-12);
        let mean = exact.iter().sum::<f64>() / width as f64;
        let variance = exact.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
        for (x, found) in exact.iter().zip(row) {
            let expected = (x - mean) / variance.sqrt() * 2.0 + 0.5;
            assert!((expected - f64::from(found)).abs() < 2e-6, "{expected} {found}");
        }
    }

    #[test]
    fn softmax_rows_are_shares_of_one() {
        let mut rows = values(2 * 21);
        let exact: Vec<f64> = rows.iter().map(|&x| (f64::from(x) * 0.5).exp()).collect();
        softmax_rows(Level::new(), &mut rows, 21, 0.5);
        for (exact, found) in exact.chunks(21).zip(rows.chunks(21)) {
            let total: f64 = exact.iter().sum();
            assert!(exact.iter().zip(found).all(|(x, &y)| (x / total - f64::from(y)).abs() < 1e-6));
        }
    }

    #[test]
    fn activations_are_near_their_definitions() {
        /// ∫ of the density by Simpson's rule, from far below.
        fn phi(x: f64) -> f64 {
            let (steps, low) = (4000, -12.0);
            let width = (x - low) / f64::from(steps);
            let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * core::f64::consts::PI).sqrt();
            let weight = |i| {
                if i == 0 || i == steps {
                    1.0
                } else if i % 2 == 1 {
                    4.0
                } else {
                    2.0
                }
            };
            (0..=steps).map(|i| weight(i) * density(low + f64::from(i) * width)).sum::<f64>() * width / 3.0
        }
        let inputs = values(101);
        let run = |activation| {
            let mut values = inputs.clone();
            activate(Level::new(), &mut values, activation);
            values
        };
        let (gelu, tanh, relu) = (run(Activation::Gelu), run(Activation::GeluTanh), run(Activation::Relu));
        for (at, &x) in inputs.iter().enumerate() {
            let x = f64::from(x);
            let inner = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            for (found, expected) in
                [(gelu[at], x * phi(x)), (tanh[at], 0.5 * x * (1.0 + inner.tanh())), (relu[at], x.max(0.0))]
            {
                assert!((f64::from(found) - expected).abs() < 2e-6, "{x}: {found} {expected}");
            }
        }
    }
}
