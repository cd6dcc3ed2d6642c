//! The one door to SIMD: sixteen-lane operations whose bits are the same on every instruction set.
//!
//! The kernel above this floor is written once, over the crate-private trait `Simd`. Its operations are those that
//! IEEE 754 defines exactly, so nothing that differs between processors (estimates, unfused multiply-add, the
//! many kinds of `min` and `max`) can be reached from there at all.

use core::hint::black_box;

use crate::error::Error;
use crate::lanes::{LANES, Lanes};
use crate::math;

#[cfg(cortex_m_fpu)]
#[expect(unsafe_code, reason = "instructions that stable Rust does not reach")]
pub(crate) mod cortex_m;
mod prefetch;

pub(crate) use prefetch::{PREFETCHES, prefetch};

/// What the kernel's loops may do with sixteen `f32` at a time.
#[cfg_attr(
    not(feature = "train"),
    expect(dead_code, reason = "applying an adapter needs few of the operations")
)]
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type F32: Copy;
    /// Sixteen booleans.
    type Mask: Copy;
    /// Whether there are registers for tiles of twelve rows; otherwise for six.
    const WIDE: bool;
    /// Whether each chain is done as a whole and there are no tiles: where one takes all registers, or where `fma` is a score
    /// of instructions, beside which loading an operand once more is nothing.
    const WHOLE_CHAINS: bool;
    /// Whether sixteen lanes are sixteen turns of a loop.
    const LANE_BY_LANE: bool = false;

    /// Runs `f` with the level's instructions enabled.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;
    fn splat(self, x: f32) -> Self::F32;
    fn load(self, x: &Lanes) -> Self::F32;
    fn to_lanes(self, x: Self::F32) -> Lanes;
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `a × b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// Lane `l` is true when bit `l` is set.
    fn mask(self, bits: u16) -> Self::Mask;
    /// Bit `l` is set when lane `l` is true.
    fn bits(self, mask: Self::Mask) -> u16;
    /// `if mask { a } else { b }`.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Value `j` of row `i` becomes lane `i` of column `j`, for as many columns as there are, up to sixteen.
    fn transpose(self, rows: [&[f32; LANES]; LANES], columns: &mut [Lanes]);
    /// With `n = bits(rounded) − magic`: the factors `2^(n >> 1)` and `2^(n − (n >> 1))`.
    fn split_power_of_two(self, rounded: Self::F32, magic: i32) -> (Self::F32, Self::F32);

    /// `acc ← fma(panel[k], scalars[k], acc)`, `k` ascending, as far as both reach.
    #[inline(always)]
    fn chain_rows(self, panel: &[Lanes], scalars: &[f32], mut acc: Self::F32) -> Self::F32 {
        for (column, &scalar) in panel.iter().zip(scalars) {
            acc = self.fma(self.load(column), self.splat(scalar), acc);
        }
        acc
    }

    /// `acc ← fma(panel[i], tile[i].lane(column), acc)`, `i` ascending.
    #[inline(always)]
    fn chain_columns(self, panel: &[Lanes], tile: &[Lanes], column: usize, mut acc: Self::F32) -> Self::F32 {
        for (lanes, row) in panel.iter().zip(tile) {
            let Some(&scalar) = row.0.get(column) else { return acc };
            acc = self.fma(self.load(lanes), self.splat(scalar), acc);
        }
        acc
    }

    /// `acc ← fma(x[k], y[k], acc)`, `k` ascending, as far as both reach.
    #[inline(always)]
    fn dot_columns(self, x: &[Lanes], y: &[Lanes], mut acc: Self::F32) -> Self::F32 {
        for (x, y) in x.iter().zip(y) {
            acc = self.fma(self.load(x), self.load(y), acc);
        }
        acc
    }

    /// `x[k] ← x[k] × factor`.
    #[inline(always)]
    fn scale_columns(self, x: &mut [Lanes], factor: Self::F32) {
        for column in x {
            *column = self.to_lanes(self.mul(self.load(column), factor));
        }
    }

    /// `d[k] ← factor × fma(along, x[k], d[k])`.
    #[inline(always)]
    fn project_columns(self, x: &[Lanes], along: Self::F32, factor: Self::F32, d: &mut [Lanes]) {
        for (x, d) in x.iter().zip(d) {
            *d = self.to_lanes(self.mul(factor, self.fma(along, self.load(x), self.load(d))));
        }
    }

    /// `if a > b { a } else { b }`.
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.select(self.gt(a, b), a, b)
    }

    /// `if a < b { a } else { b }`.
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.select(self.gt(b, a), a, b)
    }
}

/// The kernel's own scalar level: plain `f32` code, present everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

/// `c[l] ← fma(a[l], b[l], c[l])`: some hundred instructions, once in the program, however often it is called.
#[cfg(not(cortex_m_fpu))]
#[inline(never)]
fn fma_lanes(a: &[f32; LANES], b: &[f32; LANES], c: &mut [f32; LANES]) {
    for ((c, &a), &b) in c.iter_mut().zip(a).zip(b) {
        *c = math::fma(a, b, *c);
    }
}

#[inline]
fn zip2(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = a;
    for (x, y) in out.iter_mut().zip(b) {
        *x = f(*x, y);
    }
    out
}

impl Simd for Scalar {
    type F32 = [f32; LANES];
    type Mask = u16;
    const WIDE: bool = false;
    const WHOLE_CHAINS: bool = true;
    const LANE_BY_LANE: bool = cfg!(cortex_m_fpu);

    #[inline]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }
    #[inline]
    fn load(self, x: &Lanes) -> Self::F32 {
        x.0
    }
    #[inline]
    fn to_lanes(self, x: Self::F32) -> Lanes {
        Lanes(x)
    }
    #[inline]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip2(a, b, |x, y| x + y)
    }
    #[inline]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip2(a, b, |x, y| x - y)
    }
    #[inline]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip2(a, b, |x, y| x * y)
    }
    #[inline]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip2(a, b, |x, y| x / y)
    }
    #[inline]
    fn sqrt(self, a: Self::F32) -> Self::F32 {
        a.map(math::sqrt)
    }
    #[cfg(not(cortex_m_fpu))]
    #[inline]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        let mut out = c;
        fma_lanes(&a, &b, &mut out);
        out
    }
    #[cfg(cortex_m_fpu)]
    #[inline]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        let mut out = c;
        cortex_m::fma_lanes(&a, &b, &mut out);
        out
    }
    #[cfg(cortex_m_fpu)]
    #[inline]
    fn chain_rows(self, panel: &[Lanes], scalars: &[f32], acc: Self::F32) -> Self::F32 {
        cortex_m::chain_rows(panel, scalars, Lanes(acc)).0
    }
    #[cfg(cortex_m_fpu)]
    #[inline]
    fn chain_columns(self, panel: &[Lanes], tile: &[Lanes], column: usize, acc: Self::F32) -> Self::F32 {
        cortex_m::chain_columns(panel, tile, column, Lanes(acc)).0
    }
    #[cfg(cortex_m_fpu)]
    #[inline]
    fn dot_columns(self, x: &[Lanes], y: &[Lanes], acc: Self::F32) -> Self::F32 {
        let mut acc = Lanes(acc);
        cortex_m::dot_columns(x, y, &mut acc);
        acc.0
    }
    #[cfg(cortex_m_fpu)]
    #[inline]
    fn scale_columns(self, x: &mut [Lanes], factor: Self::F32) {
        cortex_m::scale_columns(x, &Lanes(factor));
    }
    #[cfg(all(cortex_m_fpu, feature = "train"))]
    #[inline]
    fn project_columns(self, x: &[Lanes], along: Self::F32, factor: Self::F32, d: &mut [Lanes]) {
        cortex_m::add_scaled_columns(&Lanes(along), x, d);
        cortex_m::scale_columns(d, &Lanes(factor));
    }
    #[inline]
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask {
        let mut mask = 0;
        for (lane, (x, y)) in a.into_iter().zip(b).enumerate() {
            mask |= u16::from(x > y) << lane;
        }
        mask
    }
    #[inline]
    fn mask(self, bits: u16) -> Self::Mask {
        bits
    }
    #[inline]
    fn bits(self, mask: Self::Mask) -> u16 {
        mask
    }
    #[inline]
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32 {
        let mut out = b;
        for (lane, (place, x)) in out.iter_mut().zip(a).enumerate() {
            if mask & (1 << lane) != 0 {
                *place = x;
            }
        }
        out
    }
    #[inline]
    fn transpose(self, rows: [&[f32; LANES]; LANES], columns: &mut [Lanes]) {
        for (column, j) in columns.iter_mut().zip(0..LANES) {
            column.0 = rows.map(|row| row[j]);
        }
    }
    #[inline]
    fn split_power_of_two(self, rounded: Self::F32, magic: i32) -> (Self::F32, Self::F32) {
        let exponent = |x: f32| x.to_bits().cast_signed().wrapping_sub(magic);
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned());
        let first = rounded.map(|x| power(exponent(x) >> 1));
        (first, rounded.map(|x| power(exponent(x).wrapping_sub(exponent(x) >> 1))))
    }
}

/// Targets for which the SIMD crate has more than scalar code.
macro_rules! vector_targets {
    ($($item:item)*) => {$(
        #[cfg(any(
            target_arch = "x86_64",
            all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr"),
            all(target_arch = "aarch64", target_feature = "neon"),
            all(target_arch = "wasm32", target_feature = "simd128"),
        ))]
        $item
    )*};
}

vector_targets! {
    mod transpose;
    mod vector {
        use fearless_simd::{Bytes as _, Select as _, SimdBase as _, SimdFloat as _, SimdMask as _};
        use fearless_simd::{f32x16, i32x16, mask32x16};

        use super::Simd;
        use super::transpose::{by_fours, in_registers};
        use crate::lanes::{LANES, Lanes};

        /// A proof of `fearless_simd`'s that the processor has an instruction set; `FMA` says whether a fused multiply-add is
        /// in it.
        #[derive(Clone, Copy)]
        pub(crate) struct Vector<T, const FMA: bool, const WIDE: bool>(pub(crate) T);

        impl<T: fearless_simd::Simd, const F: bool, const W: bool> Simd for Vector<T, F, W> {
            type F32 = f32x16<T>;
            type Mask = mask32x16<T>;
            const WIDE: bool = W;
            const WHOLE_CHAINS: bool = !F;

            #[inline(always)]
            fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
                self.0.vectorize(f)
            }
            #[inline(always)]
            fn splat(self, x: f32) -> Self::F32 {
                f32x16::splat(self.0, x)
            }
            #[inline(always)]
            fn load(self, x: &Lanes) -> Self::F32 {
                f32x16::load_array_ref(self.0, &x.0)
            }
            #[inline(always)]
            fn to_lanes(self, x: Self::F32) -> Lanes {
                let mut out = Lanes::ZERO;
                x.store_array(&mut out.0);
                out
            }
            #[inline(always)]
            fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                a + b
            }
            #[inline(always)]
            fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                a - b
            }
            #[inline(always)]
            fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                a * b
            }
            #[inline(always)]
            fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                a / b
            }
            #[inline(always)]
            fn sqrt(self, a: Self::F32) -> Self::F32 {
                a.sqrt()
            }
            #[inline(always)]
            fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
                a.mul_add_precise(b, c)
            }
            #[inline(always)]
            fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask {
                a.simd_gt(b)
            }
            #[inline(always)]
            fn mask(self, bits: u16) -> Self::Mask {
                mask32x16::from_bitmask(self.0, u64::from(bits))
            }
            #[inline(always)]
            fn bits(self, mask: Self::Mask) -> u16 {
                // There are sixteen lanes.
                u16::try_from(mask.to_bitmask()).unwrap_or(u16::MAX)
            }
            #[inline(always)]
            fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32 {
                mask.select(a, b)
            }
            #[inline(always)]
            fn transpose(self, rows: [&[f32; LANES]; LANES], columns: &mut [Lanes]) {
                if W { in_registers(self.0, rows, columns) } else { by_fours(self.0, rows, columns) }
            }
            #[inline(always)]
            fn split_power_of_two(self, rounded: Self::F32, magic: i32) -> (Self::F32, Self::F32) {
                let exponent = rounded.bitcast::<i32x16<T>>() - i32x16::splat(self.0, magic);
                let first = exponent >> 1;
                let bias = i32x16::splat(self.0, 127);
                let power = |n: i32x16<T>| ((n + bias) << 23).bitcast::<f32x16<T>>();
                (power(first), power(exponent - first))
            }
        }
    }
    pub(crate) use vector::Vector;
}

/// An instruction set, proved to be there.
///
/// All levels give the same bits; a level only decides how fast. Get one from [`Level::detect`] (feature `std`) or
/// [`Level::baseline`], and hand it to an adapter when you construct it.
#[derive(Clone, Copy, Debug)]
pub struct Level(pub(crate) Token);

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        core::mem::discriminant(&self.0) == core::mem::discriminant(&other.0)
    }
}

impl Eq for Level {}

/// The proofs behind [`Level`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    Scalar,
    #[cfg(any(
        target_arch = "x86_64",
        all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
    ))]
    Sse2(fearless_simd::Sse2),
    #[cfg(any(
        target_arch = "x86_64",
        all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
    ))]
    Avx2(fearless_simd::Avx2),
    #[cfg(any(
        target_arch = "x86_64",
        all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
    ))]
    Avx512(fearless_simd::Avx512),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon(fearless_simd::Neon),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(fearless_simd::WasmSimd128),
}

/// Evaluates an expression with `$s` bound to the level's [`Simd`], its instructions enabled.
///
/// What the expression calls must be `#[inline(always)]` all the way down to the operations, or it is compiled
/// without the level's instructions and runs many times slower.
macro_rules! dispatch {
    ($level:expr, $s:ident => $op:expr) => {{
        use $crate::simd::{Scalar, Simd as _, Token};
        match $level.0 {
            Token::Scalar => {
                let $s = Scalar;
                $s.vectorize(
                    #[inline(always)]
                    || $op,
                )
            }
            #[cfg(any(
                target_arch = "x86_64",
                all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
            ))]
            Token::Sse2(token) => {
                let $s = $crate::simd::Vector::<_, false, false>(token);
                $s.vectorize(
                    #[inline(always)]
                    || $op,
                )
            }
            #[cfg(any(
                target_arch = "x86_64",
                all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
            ))]
            Token::Avx2(token) => {
                let $s = $crate::simd::Vector::<_, true, false>(token);
                $s.vectorize(
                    #[inline(always)]
                    || $op,
                )
            }
            #[cfg(any(
                target_arch = "x86_64",
                all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
            ))]
            Token::Avx512(token) => {
                let $s = $crate::simd::Vector::<_, true, true>(token);
                $s.vectorize(
                    #[inline(always)]
                    || $op,
                )
            }
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Token::Neon(token) => {
                let $s = $crate::simd::Vector::<_, true, false>(token);
                $s.vectorize(
                    #[inline(always)]
                    || $op,
                )
            }
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Token::Simd128(token) => {
                let $s = $crate::simd::Vector::<_, false, false>(token);
                $s.vectorize(
                    #[inline(always)]
                    || $op,
                )
            }
        }
    }};
}
pub(crate) use dispatch;

impl Level {
    /// Plain scalar code; there on every machine.
    pub const SCALAR: Self = Self(Token::Scalar);

    /// The best level this processor has, asked at run time.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn detect() -> Self {
        // The list goes from worst to best and is never empty.
        Self::available().last().unwrap_or(Self::SCALAR)
    }

    /// All levels this processor has, from plain scalar code to the best.
    #[cfg(feature = "std")]
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(any(
            target_arch = "x86_64",
            all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
        ))]
        let vector = {
            let detected = fearless_simd::Level::new();
            [
                detected.as_sse2().map(Token::Sse2),
                detected.as_avx2().map(Token::Avx2),
                detected.as_avx512().map(Token::Avx512),
            ]
        };
        #[cfg(not(any(
            target_arch = "x86_64",
            all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
        )))]
        let vector = match Self::baseline().0 {
            Token::Scalar => [None],
            #[cfg(any(
                all(target_arch = "aarch64", target_feature = "neon"),
                all(target_arch = "wasm32", target_feature = "simd128")
            ))]
            token => [Some(token)],
        };
        core::iter::once(Token::Scalar).chain(vector.into_iter().flatten()).map(Self)
    }

    /// The level called `name` (see [`Level::name`]), if this processor has it.
    ///
    /// # Errors
    /// [`Error::LevelUnavailable`] when it has not, or when there is no such level.
    #[cfg(feature = "std")]
    pub fn by_name(name: &str) -> Result<Self, Error> {
        Self::available().find(|level| level.name() == name).ok_or(Error::LevelUnavailable)
    }

    /// The best level that every processor of the compilation target has; asks nothing at run time.
    #[must_use]
    pub const fn baseline() -> Self {
        #[cfg(any(
            target_arch = "x86_64",
            all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr"),
            all(target_arch = "aarch64", target_feature = "neon"),
            all(target_arch = "wasm32", target_feature = "simd128"),
        ))]
        match fearless_simd::Level::baseline() {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            fearless_simd::Level::Sse2(token) => return Self(Token::Sse2(token)),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            fearless_simd::Level::Avx2(token) => return Self(Token::Avx2(token)),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            fearless_simd::Level::Avx512(token) => return Self(Token::Avx512(token)),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            fearless_simd::Level::Neon(token) => return Self(Token::Neon(token)),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            fearless_simd::Level::WasmSimd128(token) => return Self(Token::Simd128(token)),
            #[expect(clippy::allow_attributes, reason = "unreachable on some targets only")]
            #[allow(unreachable_patterns, reason = "the SIMD crate's list of levels may grow")]
            _ => {}
        }
        Self::SCALAR
    }

    /// `"scalar"`, `"sse2"`, `"avx2"`, `"avx512"`, `"neon"` or `"simd128"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Token::Scalar => "scalar",
            #[cfg(any(
                target_arch = "x86_64",
                all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
            ))]
            Token::Sse2(_) => "sse2",
            #[cfg(any(
                target_arch = "x86_64",
                all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
            ))]
            Token::Avx2(_) => "avx2",
            #[cfg(any(
                target_arch = "x86_64",
                all(target_arch = "x86", target_feature = "sse2", target_feature = "fxsr")
            ))]
            Token::Avx512(_) => "avx512",
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Token::Neon(_) => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Token::Simd128(_) => "simd128",
        }
    }
}

/// Refuses to work in a thread whose floating-point mode loses subnormal numbers.
pub(crate) fn check_subnormals() -> Result<(), Error> {
    if keeps_subnormals(|a, b| black_box(a) * black_box(b)) { Ok(()) } else { Err(Error::FlushToZero) }
}

/// Whether a multiplication neither flushes subnormal results nor takes subnormal operands for zero.
fn keeps_subnormals(multiply: impl Fn(f32, f32) -> f32) -> bool {
    let result_kept = multiply(f32::MIN_POSITIVE, 0.5) != 0.0;
    let operand_kept = multiply(f32::from_bits(1), 16_777_216.0) != 0.0;
    result_kept && operand_kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_keeps_subnormals() {
        assert_eq!(check_subnormals(), Ok(()));
    }

    #[test]
    fn notices_flushed_results_and_flushed_operands() {
        let flush = |x: f32| if x.is_subnormal() { 0.0 } else { x };
        assert!(!keeps_subnormals(|a, b| flush(a * b)));
        assert!(!keeps_subnormals(|a, b| flush(a) * flush(b)));
    }

    #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
    #[test]
    fn what_every_processor_of_the_target_has_is_used_without_asking() {
        assert_ne!(Level::baseline(), Level::SCALAR);
    }

    #[cfg(feature = "std")]
    #[test]
    fn levels_are_found_by_their_names() {
        let names: Vec<_> = Level::available().map(Level::name).collect();
        assert_eq!(names[0], "scalar");
        for name in &names {
            assert_eq!(Level::by_name(name).unwrap().name(), *name);
        }
        assert_eq!(Level::detect().name(), *names.last().unwrap());
        assert_eq!(Level::by_name("mmx").unwrap_err(), Error::LevelUnavailable);
    }
}
