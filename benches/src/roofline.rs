//! The least time an operation can take, counted from its shape and the machine's [`Limits`].
//!
//! A phase takes at least as long as its scarcest resource: arithmetic, memory or divider. Phases follow one another,
//! so their times add up. What is left out makes a roofline too low, never too high: see `docs/benchmarks.md`.

use query_adapter::{NormForm, norm_form};

use crate::limits::Limits;

/// What a phase has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations, two for a multiply-add; a lone multiplication takes as long and counts two as well.
    pub flops: f64,
    /// Bytes to be read.
    pub read: f64,
    /// Bytes of parameters to be updated in place, each read and written: both count.
    pub update: f64,
    /// Square roots, each with a division.
    pub divisions: f64,
}

/// The resource that a phase has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Multiply-adds.
    Arithmetic,
    /// Reading, or updating in place.
    Memory,
    /// Square roots and divisions.
    Divider,
}

impl Bound {
    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Memory => "memory",
            Self::Divider => "divider",
        }
    }
}

impl Work {
    /// The same `count` times.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        let Self { flops, read, update, divisions } = self;
        let [flops, read, update, divisions] = [flops, read, update, divisions].map(|x| x * count as f64);
        Self { flops, read, update, divisions }
    }

    /// The least number of seconds this takes, and what it has to wait for.
    #[must_use]
    pub fn least_time(&self, limits: &Limits) -> (f64, Bound) {
        let candidates = [
            (self.flops / limits.flops, Bound::Arithmetic),
            (self.read / limits.read + self.update / limits.update, Bound::Memory),
            (self.divisions / limits.divisions, Bound::Divider),
        ];
        candidates.into_iter().fold((0.0, Bound::Arithmetic), |worst, candidate| {
            if candidate.0 > worst.0 { candidate } else { worst }
        })
    }
}

/// `rows` queries through a `dim × dim` adapter.
#[must_use]
pub fn forward(dim: usize, rows: usize) -> Work {
    let parameters = (dim * dim) as f64;
    Work { flops: 2.0 * rows as f64 * parameters, read: F32_BYTES * parameters, ..Work::default() }
}

/// The phases of an AdamW step on `rows` queries and `candidates` documents: forward, middle, norm, update.
#[must_use]
pub fn training_step(dim: usize, rows: usize, candidates: usize) -> [Work; 4] {
    let (d, b, n) = (dim as f64, rows as f64, candidates as f64);
    let parameters = d * d;
    // Scores and their gradient: rows × candidates chains of length dim, and rows × dim chains of length candidates.
    let middle = Work { flops: 2.0 * (2.0 * b * n * d), ..Work::default() };
    let norm = match norm_form(rows, dim) {
        // Two symmetric matrices of rows × rows chains of length dim; half of each is enough.
        NormForm::Gram => Work { flops: 2.0 * (b * (b + 1.0) * d), ..Work::default() },
        NormForm::Direct => Work { flops: 2.0 * parameters, ..Work::default() },
    };
    let update = Work {
        flops: 2.0 * b * parameters + 2.0 * ADAM_OPERATIONS * parameters,
        // Three arrays, each read and written.
        update: 2.0 * 3.0 * F32_BYTES * parameters,
        divisions: parameters,
        ..Work::default()
    };
    [forward(dim, rows), middle, norm, update]
}

/// The phases of `steps` such steps in a row, each of which transforms the next one's queries while it updates the weight:
/// the first forward pass, all middles, all norms, all updates with a forward pass, the last update. What is read for the one is
/// there for the other, and the divider of the one does not keep the other waiting.
#[must_use]
pub fn training_steps(dim: usize, rows: usize, steps: usize) -> [Work; 5] {
    let [forward, middle, norm, update] = training_step(dim, rows, rows);
    let both = Work { flops: forward.flops + update.flops, ..update };
    [forward, middle.times(steps), norm.times(steps), both.times(steps.saturating_sub(1)), update]
}

/// The loss of `rows` queries among `candidates` documents of `dim` elements, forward and backward: scores, the two
/// sweeps of the softmax, the gradient of the queries.
#[must_use]
pub fn cross_entropy(dim: usize, rows: usize, candidates: usize) -> Work {
    let scores = (rows * candidates) as f64;
    Work { flops: 2.0 * scores * (2.0 * dim as f64 + SOFTMAX_OPERATIONS), ..Work::default() }
}

/// Scores of `rows` queries with `documents` documents, of which the best are sought: that search is left out.
#[must_use]
pub fn scores(dim: usize, rows: usize, documents: usize) -> Work {
    let elements = (documents * dim) as f64;
    Work { flops: 2.0 * rows as f64 * elements, read: F32_BYTES * elements, ..Work::default() }
}

/// Bytes of an element.
const F32_BYTES: f64 = 4.0;

/// Multiplications and multiply-adds of AdamW per parameter: clip 1, `m` 2, `v` 3, denominator 1, decay 1, step 1. The
/// subtraction in the decay is left out: many processors add beside their multipliers.
const ADAM_OPERATIONS: f64 = 9.0;

/// Multiplications and multiply-adds of the softmax per score: `exp` 11 in each sweep, the sum 1, the scale 1, the
/// gradient 2. Additions, comparisons and selections are left out, as above.
const SOFTMAX_OPERATIONS: f64 = 26.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which every count below can be read off.
    const LIMITS: Limits = Limits { flops: 100e9, read: 50e9, update: 120e9, divisions: 4e9 };

    #[test]
    fn a_phase_takes_as_long_as_its_scarcest_resource() {
        let work = Work { flops: 100e9, read: 25e9, update: 30e9, divisions: 2e9 };
        assert_eq!(work.least_time(&LIMITS), (1.0, Bound::Arithmetic));
        let work = Work { read: 50e9, ..work };
        assert_eq!(work.least_time(&LIMITS), (1.25, Bound::Memory));
        let work = Work { divisions: 8e9, ..work };
        assert_eq!(work.least_time(&LIMITS), (2.0, Bound::Divider));
    }

    #[test]
    fn one_query_is_bound_by_memory_and_many_by_arithmetic() {
        assert_eq!(forward(384, 1).least_time(&LIMITS), (589_824.0 / 50e9, Bound::Memory));
        assert_eq!(forward(384, 64).least_time(&LIMITS), (18_874_368.0 / 100e9, Bound::Arithmetic));
    }

    #[test]
    fn step_of_a_small_batch_counts_two_symmetric_grams() {
        let [forward, middle, norm, update] = training_step(384, 10, 10);
        assert_eq!(forward.flops, 2_949_120.0);
        assert_eq!(middle.flops, 153_600.0);
        assert_eq!(norm.flops, 84_480.0);
        assert_eq!(update.flops, 2_949_120.0 + 18.0 * 147_456.0);
        assert_eq!((update.update, update.divisions), (24.0 * 147_456.0, 147_456.0));
        assert_eq!(training_step(384, 10, 70)[1].flops, 7.0 * 153_600.0);
    }

    #[test]
    fn steps_in_a_row_read_the_weight_once() {
        let [forward, middle, norm, update] = training_step(384, 10, 10);
        let both = Work { flops: forward.flops + update.flops, ..update };
        assert_eq!(
            training_steps(384, 10, 3),
            [forward, middle.times(3), norm.times(3), both.times(2), update]
        );
        assert_eq!(norm.times(3).flops, 3.0 * 84_480.0);
    }

    #[test]
    fn loss_counts_two_products_and_two_exponentials_a_score() {
        assert_eq!(cross_entropy(8, 64, 128).flops, 8192.0 * 2.0 * (16.0 + 26.0));
    }

    #[test]
    fn step_of_a_large_batch_counts_a_norm_over_the_elements() {
        // 64² > 8 × 384, but 64² ≤ 8 × 768.
        assert_eq!(training_step(384, 64, 64)[2].flops, 2.0 * 147_456.0);
        assert_eq!(training_step(768, 64, 64)[2].flops, 2.0 * 64.0 * 65.0 * 768.0);
    }
}
