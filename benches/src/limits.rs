//! What this machine allows one thread: loops that do nothing but reach one limit each.
//!
//! The loops use the kernel's instruction set through the same SIMD crate, so that a fraction of a limit tells about
//! the kernel's loops and not about the choice of instructions.

use core::hint::black_box;
use core::time::Duration;

use fearless_simd::{Level, Simd, SimdBase as _, SimdFloat as _, dispatch, f32x16};
use query_adapter::{LANES, Lanes};

use crate::clock::thread_time;

/// Rates of one thread, all measured in the same interleaved run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Floating-point operations per second in fused multiply-adds, two each.
    pub flops: f64,
    /// Bytes per second read from an array, or from several one after the other.
    pub read: f64,
    /// Bytes per second read plus bytes per second written, while three arrays are updated in place.
    pub update: f64,
    /// Square roots, each with a division, per second.
    pub divisions: f64,
}

/// The loops, on the best instruction set of this processor.
#[derive(Clone, Copy, Debug)]
pub struct Loops {
    level: Level,
}

impl Loops {
    /// Asks the processor what it has.
    #[must_use]
    pub fn detect() -> Self {
        Self { level: Level::new() }
    }

    /// Multiplies and adds in registers only; returns how many floating-point operations that were.
    #[must_use]
    pub fn multiply_add(self) -> f64 {
        dispatch!(self.level, s => if is_wide(s) { multiply_add::<_, 12>(s) } else { multiply_add::<_, 5>(s) })
    }

    /// Reads `arrays` one after the other; returns how many bytes that were.
    #[must_use]
    pub fn read(self, arrays: &[&[Lanes]]) -> f64 {
        for array in arrays {
            let array = black_box(*array);
            dispatch!(self.level, s => if is_wide(s) { read::<_, 8>(s, array) } else { read::<_, 4>(s, array) });
        }
        arrays.iter().map(|array| size_of_val(*array) as f64).sum()
    }

    /// Reads and writes every element of three arrays of one length, in step; returns how many bytes were read and
    /// written together. The values stay as they are.
    #[must_use]
    pub fn update(self, [a, b, c]: [&mut [Lanes]; 3]) -> f64 {
        let bytes = 2.0 * (size_of_val(a) + size_of_val(b) + size_of_val(c)) as f64;
        dispatch!(self.level, s => update(s, a, b, c));
        bytes
    }

    /// Divides by square roots, in registers only; returns how many times.
    #[must_use]
    pub fn divide(self) -> f64 {
        dispatch!(self.level, s => if is_wide(s) { divide::<_, 12>(s) } else { divide::<_, 5>(s) })
    }
}

/// Whether sixteen `f32` are one register, of which there are 32 then.
#[inline(always)]
fn is_wide<S: Simd>(_: S) -> bool {
    S::f32s::LEN == LANES
}

/// `N` independent chains hide the latency of the instruction and leave room for two operands.
#[inline(always)]
fn multiply_add<S: Simd, const N: usize>(s: S) -> f64 {
    const ROUNDS: usize = 1000;
    // Chains that stay near 1: x ← 0.5 x + 0.5.
    let factor = f32x16::splat(s, black_box(0.5));
    let term = f32x16::splat(s, black_box(0.5));
    let mut chains = [f32x16::splat(s, black_box(1.0)); N];
    for _ in 0..ROUNDS {
        for chain in &mut chains {
            *chain = chain.mul_add_precise(factor, term);
        }
    }
    for chain in chains {
        consume(chain);
    }
    (2 * LANES * N * ROUNDS) as f64
}

/// `N` independent sums hide the latency of the addition, which costs no more than the load before it.
#[inline(always)]
fn read<S: Simd, const N: usize>(s: S, array: &[Lanes]) {
    let mut sums = [f32x16::splat(s, 0.0); N];
    let (blocks, rest) = array.as_chunks::<N>();
    for block in blocks {
        for (sum, lanes) in sums.iter_mut().zip(block) {
            *sum += f32x16::load_array_ref(s, &lanes.0);
        }
    }
    for (sum, lanes) in sums.iter_mut().zip(rest) {
        *sum += f32x16::load_array_ref(s, &lanes.0);
    }
    for sum in sums {
        consume(sum);
    }
}

#[inline(always)]
fn update<S: Simd>(s: S, a: &mut [Lanes], b: &mut [Lanes], c: &mut [Lanes]) {
    let zero = f32x16::splat(s, black_box(0.0));
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        for lanes in [a, b, c] {
            (f32x16::load_array_ref(s, &lanes.0) + zero).store_array(&mut lanes.0);
        }
    }
}

/// `N` independent chains hide the latency of both instructions.
#[inline(always)]
fn divide<S: Simd, const N: usize>(s: S) -> f64 {
    const ROUNDS: usize = 100;
    // Chains that go to 1.6: x ← 2 ÷ √x.
    let dividend = f32x16::splat(s, black_box(2.0));
    let mut chains = [f32x16::splat(s, black_box(3.0)); N];
    for _ in 0..ROUNDS {
        for chain in &mut chains {
            *chain = dividend / chain.sqrt();
        }
    }
    for chain in chains {
        consume(chain);
    }
    (LANES * N * ROUNDS) as f64
}

/// Keeps what leads to `x` from being optimised away.
#[inline(always)]
fn consume<S: Simd>(x: f32x16<S>) {
    let mut out = Lanes::ZERO;
    x.store_array(&mut out.0);
    black_box(out);
}

/// How often and how long to time.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Samples of each thing timed.
    pub rounds: usize,
    /// About how long one sample takes, where one repetition is shorter. Shorter than a time slice, so that other
    /// programs seldom get to empty the caches within a sample.
    pub sample: Duration,
}

impl Effort {
    /// For figures to publish.
    pub const FULL: Self = Self { rounds: 201, sample: Duration::from_micros(200) };
    /// For a first impression.
    pub const QUICK: Self = Self { rounds: 21, sample: Duration::from_micros(100) };
    /// To see that everything runs.
    pub const ONCE: Self = Self { rounds: 1, sample: Duration::ZERO };
}

/// Times `operation`, after one repetition to bring its data into the caches: seconds of
/// [`thread_time`] per repetition.
pub fn time(effort: Effort, mut operation: impl FnMut()) -> f64 {
    let start = thread_time();
    operation();
    let once = (thread_time() - start).max(Duration::from_nanos(1));
    let repetitions = (effort.sample.as_nanos() / once.as_nanos()).clamp(1, 100_000);
    let start = thread_time();
    for _ in 0..repetitions {
        operation();
    }
    (thread_time() - start).as_secs_f64() / repetitions as f64
}

/// The middle of `samples`, the lower one of two; infinity when there are none.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    let middle = samples.len().saturating_sub(1) / 2;
    samples.get(middle).copied().unwrap_or(f64::INFINITY)
}

/// The least of `samples`, what the fewest disturbances left; infinity when there are none.
#[must_use]
pub fn best(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_count_what_they_touch_and_keep_the_values() {
        let loops = Loops::detect();
        // 19 is no multiple of any number of accumulators.
        let mut arrays = [1.5, -2.0, 0.25].map(|x| vec![Lanes([x; LANES]); 19]);
        let before = arrays.clone();
        let bytes = f64::from(19 * 64);
        assert_eq!(loops.read(&[&arrays[0], &arrays[1]]), 2.0 * bytes);
        let [a, b, c] = &mut arrays;
        assert_eq!(loops.update([a, b, c]), 6.0 * bytes);
        assert_eq!(arrays, before);
        assert!(loops.multiply_add() >= 2.0 * 16.0 * 5.0 * 1000.0);
        assert!(loops.divide() >= 16.0 * 5.0 * 100.0);
    }

    #[test]
    fn median_is_the_middle_and_of_nothing_infinite() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(&[]), f64::INFINITY);
    }

    #[test]
    fn best_is_the_least_and_of_nothing_infinite() {
        assert_eq!(best(&[2.0, 1.0, 3.0]), 1.0);
        assert_eq!(best(&[]), f64::INFINITY);
    }

    #[test]
    fn time_of_a_repetition_does_not_grow_with_the_number_of_repetitions() {
        let mut calls = 0;
        let effort = Effort { rounds: 1, sample: Duration::from_millis(20) };
        let millisecond = Duration::from_millis(1);
        let seconds = time(effort, || {
            calls += 1;
            let start = thread_time();
            while thread_time() - start < millisecond {}
        });
        assert!(calls > 2, "{calls}");
        assert!((0.001..0.005).contains(&seconds), "{seconds}");
    }
}
