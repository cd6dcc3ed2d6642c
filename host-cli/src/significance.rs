//! Whether a difference could be chance: what is said of two systems that answered the same queries.
//!
//! `docs/evaluation.md` works each figure out by hand. All of it is `f64` in a stated order, drawn from fixed seeds: the same
//! differences give the same figures everywhere.

mod student_t;

use core::num::NonZeroUsize;

use fearless_simd::dispatch;
use query_adapter::sample::Generator;

use crate::fit::mean;
use crate::parallel::in_pieces;
pub use student_t::two_sided_p as student_t_p;

/// Resamples of the paired bootstrap.
const RESAMPLES: u32 = 10_000;

/// Resamples that are drawn side by side, for the sake of vector instructions.
const ABREAST: usize = 8;

/// Resamples that a thread takes at a time.
const PIECE: u32 = 80;

/// Seeds the paired bootstrap.
const BOOTSTRAP_SEED: u64 = 0x626f_6f74;

/// Random changes of signs that are drawn.
const DRAWS: u32 = 10_000;

/// Up to so many differences that are not 0, all changes of signs are tried: no more than would be drawn.
const MOST_ENUMERATED: usize = 13;

/// Seeds the draws.
const SIGN_SEED: u64 = 0x7369_676e;

/// Values of metrics are between 0 and 1; what computing them in two ways may tell apart is far below this, and any difference
/// that a metric can show far above.
const ROUNDING: f64 = 1e-12;

/// What the differences between two systems, one for each query, amount to.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// The number of queries.
    pub queries: usize,
    /// The mean difference.
    pub mean: f64,
    /// Its 95 % interval, by [`bootstrap_interval`].
    pub interval: (f64, f64),
    /// The p-value of a paired randomisation test, by [`randomization_p`].
    pub randomization_p: f64,
    /// The p-value of a paired t-test, by [`t_test_p`].
    pub t_test_p: Option<f64>,
    /// The size of the effect, by [`cohens_d`].
    pub cohens_d: Option<f64>,
    /// Queries with a difference above 0.
    pub wins: usize,
    /// Queries without a difference.
    pub ties: usize,
    /// Queries with a difference below 0.
    pub losses: usize,
}

impl Paired {
    /// All figures of these differences; none where there is no query. Any number of threads gives the same.
    #[must_use]
    pub fn of(differences: &[f64], threads: NonZeroUsize) -> Option<Self> {
        if differences.is_empty() {
            return None;
        }
        let count = |of: fn(f64) -> bool| differences.iter().filter(|&&difference| of(difference)).count();
        Some(Self {
            queries: differences.len(),
            mean: mean(differences),
            interval: bootstrap_interval(differences, threads),
            randomization_p: randomization_p(differences),
            t_test_p: t_test_p(differences),
            cohens_d: cohens_d(differences),
            wins: count(|difference| difference > 0.0),
            ties: count(|difference| difference == 0.0),
            losses: count(|difference| difference < 0.0),
        })
    }
}

/// By how much the second of two values of a metric is greater; 0 where rounding explains it.
#[must_use]
pub fn difference(first: f64, second: f64) -> f64 {
    let difference = second - first;
    if difference.abs() < ROUNDING { 0.0 } else { difference }
}

/// The 2.5th and 97.5th percentile of the mean of resampled `values`: a 95 % interval of their mean.
///
/// Each resample draws from a stream of its own, a function of its number, so it is the same whichever thread makes it.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "numbers of queries are far below 2^32"
)]
pub fn bootstrap_interval(values: &[f64], threads: NonZeroUsize) -> (f64, f64) {
    const { assert!(RESAMPLES.is_multiple_of(PIECE) && PIECE.is_multiple_of(ABREAST as u32)) };
    let n = values.len() as u32;
    let level = fearless_simd::Level::new();
    let stream = |resample: u32| Generator::for_epoch(BOOTSTRAP_SEED, resample);
    let means = |piece: usize| {
        let first = piece as u32 * PIECE;
        let mut sums = Vec::with_capacity(PIECE as usize);
        for first in (first..first + PIECE).step_by(ABREAST) {
            let streams = core::array::from_fn(|i| stream(first + i as u32));
            let abreast = dispatch!(level, _simd => sums_abreast(values, n, streams));
            sums.extend(abreast.unwrap_or_else(|| streams.map(|stream| resampled_sum(values, n, stream))));
        }
        sums.iter_mut().for_each(|sum| *sum /= f64::from(n));
        sums
    };
    let pieces = in_pieces(threads, (RESAMPLES / PIECE) as usize, || (), |(), piece| Ok(means(piece)));
    let mut means = pieces.unwrap_or_default().concat();
    let mut nth = |n: u32| *means.select_nth_unstable_by(n as usize, f64::total_cmp).1;
    (nth(RESAMPLES / 40), nth(RESAMPLES - 1 - RESAMPLES / 40))
}

/// The sum of `n` values, each drawn from all `n`.
fn resampled_sum(values: &[f64], n: u32, mut stream: Generator) -> f64 {
    (0..n).map(|_| values[stream.below(n) as usize]).sum()
}

/// [`resampled_sum`] of several streams, each in its own order; none if a draw of one of them may have to be repeated, which one
/// in 2³² ÷ `n` has.
#[inline(always)]
fn sums_abreast(values: &[f64], n: u32, mut streams: [Generator; ABREAST]) -> Option<[f64; ABREAST]> {
    // A sum of nothing is −0, which leaves every number as it is.
    let (mut sums, mut repeated) = ([-0.0; ABREAST], [0; ABREAST]);
    let range = u64::from(n);
    for _ in 0..n {
        // As `Generator::below` has it, but for the repetition. Plain loops over places: iterators are not always compiled with the
        // instructions of the level.
        let mut products = [0; ABREAST];
        for i in 0..ABREAST {
            products[i] = (streams[i].next_u64() >> 32) * range;
            // The highest bit says that the low half is below `n`.
            repeated[i] |= (products[i] & 0xffff_ffff).wrapping_sub(range);
        }
        for i in 0..ABREAST {
            sums[i] += values[(products[i] >> 32) as usize];
        }
    }
    repeated.iter().all(|&repeated| repeated >> 63 == 0).then_some(sums)
}

/// The p-value, two-sided, of a paired randomisation test: how often the mean of the differences, each with a random sign,
/// is as far from 0 as theirs is. 1 where nothing differs.
///
/// Where 13 queries or fewer differ, of all 2ⁿ choices of signs; else of 10,000 that are drawn and the one that was found, so
/// at least 1 ÷ 10,001.
#[must_use]
pub fn randomization_p(differences: &[f64]) -> f64 {
    // Zeros have no sign.
    let differences: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let observed = differences.iter().sum::<f64>().abs();
    // A sum in another order, of the same numbers, is no nearer to 0; what it may be off by grows with their size, not with its own.
    let reached = observed - ROUNDING * differences.iter().map(|d| d.abs()).sum::<f64>();
    let add_signed = |sum: f64, chunk: &[f64], signs: u64| -> f64 {
        chunk.iter().zip(0..).fold(sum, |sum, (&difference, place)| {
            sum + if signs >> place & 1 == 0 { difference } else { -difference }
        })
    };
    if differences.len() <= MOST_ENUMERATED {
        let all = 1_u32 << differences.len();
        let is_as_far = |&signs: &u32| add_signed(0.0, &differences, signs.into()).abs() >= reached;
        let as_far = (0..all).filter(is_as_far).count();
        return as_far as f64 / f64::from(all);
    }
    let mut generator = Generator::new(SIGN_SEED);
    let mut as_far = 0_u32;
    for _ in 0..DRAWS {
        let chunks = differences.chunks(64);
        let sum = chunks.fold(0.0, |sum, chunk| add_signed(sum, chunk, generator.next_u64()));
        as_far += u32::from(sum.abs() >= reached);
    }
    f64::from(as_far + 1) / f64::from(DRAWS + 1)
}

/// The p-value, two-sided, of a paired t-test: Student's t of the mean difference over its standard error, with one degree of
/// freedom less than there are queries.
///
/// 1 where nothing differs; none for fewer than two queries, or where all differ by the same: then the spread that chance would
/// have cannot be told.
#[must_use]
pub fn t_test_p(differences: &[f64]) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    if differences.iter().all(|difference| difference.abs() <= ROUNDING) {
        return Some(1.0);
    }
    let n = differences.len() as f64;
    Some(student_t::two_sided_p(cohens_d(differences)? * n.sqrt(), n - 1.0))
}

/// Cohen's d of paired samples: the mean difference in units of the differences' standard deviation (divided by n − 1).
///
/// 0 where nothing differs; none for fewer than two queries or where all differ by the same.
#[must_use]
pub fn cohens_d(differences: &[f64]) -> Option<f64> {
    let (&first, rest) = differences.split_first()?;
    if rest.is_empty() {
        return None;
    }
    if rest.iter().all(|difference| (difference - first).abs() <= ROUNDING) {
        // A deviation of rounding errors would make an effect of any size of them.
        return (first.abs() <= ROUNDING).then_some(0.0);
    }
    let mean = mean(differences);
    let squares: f64 = differences.iter().map(|difference| (difference - mean) * (difference - mean)).sum();
    Some(mean / (squares / rest.len() as f64).sqrt())
}

/// p-values corrected for their number by Holm's method, in the order given: the smallest times m, the next times m − 1, and so on,
/// none smaller than the one before it and none above 1. Whoever calls a difference real where the corrected p is below α errs in
/// any of them with a probability of at most α.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut least = 0.0;
    for (place, &at) in order.iter().enumerate() {
        let p = p_values[at] * (p_values.len() - place) as f64;
        if p > least {
            least = p;
        }
        corrected[at] = if least < 1.0 { least } else { 1.0 };
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

    /// Mean 0, standard deviation 1, n = 400.
    fn gains() -> Vec<f64> {
        (0..400).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect()
    }

    fn interval(values: &[f64], threads: usize) -> (f64, f64) {
        bootstrap_interval(values, NonZeroUsize::new(threads).expect("at least one"))
    }

    #[test]
    fn the_interval_of_equal_gains_is_a_point() {
        assert_eq!(interval(&[0.25; 40], 2), (0.25, 0.25));
    }

    #[test]
    fn the_interval_is_near_the_normal_one() {
        // ±1.96 / 20.
        let (low, high) = interval(&gains(), 1);
        assert!((low + 0.098).abs() < 0.01 && (high - 0.098).abs() < 0.01, "{low} {high}");
    }

    #[test]
    fn any_number_of_threads_gives_the_same_interval_to_the_bit() {
        // Thirds and sevenths: sums in another order would round otherwise.
        let values: Vec<f64> = gains().iter().zip(1_u32..).map(|(gain, i)| gain / f64::from(i)).collect();
        let bits = |threads| {
            let (low, high) = interval(&values, threads);
            [low.to_bits(), high.to_bits()]
        };
        let one = bits(1);
        for threads in [2, 3, 7] {
            assert_eq!(bits(threads), one, "{threads} threads");
        }
    }

    #[test]
    fn resamples_abreast_are_those_one_by_one() {
        let values: Vec<f64> = (1..=1000).map(|i| 1.0 / f64::from(i)).collect();
        let mut repeated = 0;
        for first in (0..20_000).step_by(ABREAST) {
            let streams =
                core::array::from_fn(|i| Generator::for_epoch(7, first + u32::try_from(i).expect("a few")));
            let each = streams.map(|stream| resampled_sum(&values, 1000, stream).to_bits());
            for level in [fearless_simd::Level::baseline(), fearless_simd::Level::new()] {
                match dispatch!(level, _simd => sums_abreast(&values, 1000, streams)) {
                    Some(sums) => assert_eq!(sums.map(f64::to_bits), each),
                    None => repeated += 1,
                }
            }
        }
        // 2 × 20 million draws, one in 4.3 million of them doubtful.
        assert!((1..40).contains(&repeated), "{repeated}");
    }

    #[test]
    fn the_p_value_of_few_differences_is_that_of_all_signs() {
        // Of the 2⁶ signs of six equal differences two are as far out.
        assert_eq!(randomization_p(&[0.5; 6]), 1.0 / 32.0);
        assert_eq!(randomization_p(&[-0.5; 6]), 1.0 / 32.0);
        // Zeros change nothing.
        assert_eq!(randomization_p(&[0.5, 0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5]), 1.0 / 32.0);
        // ±1 ±2 ±4 takes eight values, each once: 5 and 7 on either side are as far out as 5.
        assert_eq!(randomization_p(&[-1.0, 2.0, 4.0]), 0.5);
        assert_eq!(randomization_p(&[1.0; 13]), 2.0 / 8192.0);
    }

    #[test]
    fn the_p_value_of_many_differences_is_near_that_of_all_signs() {
        // Of 2¹⁴ signs of equal differences those with at most 2 or at least 12 minus signs: 2 (1 + 14 + 91).
        let mut differences = vec![1.0; 12];
        differences.extend([-1.0; 2]);
        let p = randomization_p(&differences);
        assert!((p - 212.0 / 16_384.0).abs() < 0.004, "{p}");
    }

    #[test]
    fn no_difference_and_no_queries_are_no_evidence() {
        assert_eq!(randomization_p(&[]), 1.0);
        assert_eq!(randomization_p(&[0.0; 10]), 1.0);
        assert_eq!(randomization_p(&[1.0, -1.0]), 1.0);
        // Their sum is not 0, in this order.
        assert_eq!(randomization_p(&[0.1, 0.1, 0.1, -0.1, -0.1, -0.1]), 1.0);
        assert_eq!((t_test_p(&[0.0; 10]), cohens_d(&[0.0; 10])), (Some(1.0), Some(0.0)));
        assert_eq!((t_test_p(&[]), cohens_d(&[]), Paired::of(&[], TWO)), (None, None, None));
        assert_eq!((t_test_p(&[0.5]), cohens_d(&[0.5])), (None, None));
    }

    #[test]
    fn what_cannot_be_chance_has_the_smallest_p() {
        assert_eq!(randomization_p(&[1.0; 100]), 1.0 / 10_001.0);
    }

    #[test]
    fn differences_without_a_spread_have_no_t_and_no_effect_in_units_of_it() {
        // Ten times 0.1 does not sum to 1: the mean is no tenth, and the deviation of the rounding errors not 0.
        assert_eq!((t_test_p(&[0.1; 10]), cohens_d(&[0.1; 10])), (None, None));
        // All a tenth, but for the last bit.
        let tenths = [0.1, 0.3 - 0.2, 0.8 - 0.7, 1.0 - 0.9];
        assert!(tenths.iter().any(|&tenth| tenth != 0.1));
        assert_eq!((t_test_p(&tenths), cohens_d(&tenths)), (None, None));
        let zeros = [0.0, 0.1 + 0.2 - 0.3, 0.0];
        assert_ne!(zeros[1], 0.0);
        assert_eq!((t_test_p(&zeros), cohens_d(&zeros)), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn what_rounding_explains_is_no_difference() {
        // The average precision 7/12, of relevant documents at ranks 2 and 3, and at 1 and 12.
        let [early, late] = [(1.0 / 2.0 + 2.0 / 3.0) / 2.0, (1.0 + 2.0 / 12.0) / 2.0];
        assert_ne!(early, late);
        assert_eq!((difference(early, late), difference(late, early)), (0.0, 0.0));
        assert_eq!((difference(0.25, 1.0), difference(1.0, 0.25)), (0.75, -0.75));
    }

    #[test]
    fn the_worked_example_of_the_documentation() {
        let paired = Paired::of(&[0.5, 0.2, -0.1, 0.0, 0.4], TWO).expect("five queries");
        assert!((paired.mean - 0.2).abs() < 1e-15);
        assert_eq!((paired.wins, paired.ties, paired.losses), (3, 1, 1));
        // Deviation √(0.26 ÷ 4) = 0.2550, d = 0.2 ÷ 0.2550, t = d √5 with 4 degrees of freedom.
        assert_eq!(paired.cohens_d.map(|d| format!("{d:.4}")).as_deref(), Some("0.7845"));
        assert_eq!(paired.t_test_p.map(|p| format!("{p:.4}")).as_deref(), Some("0.1543"));
        // Of the 16 signs of 0.5, 0.2, −0.1 and 0.4 those of a sum of ±1.0 or ±1.2.
        assert_eq!(paired.randomization_p, 4.0 / 16.0);
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5]);
    }

    #[test]
    fn holm_never_reverses_an_order_and_stays_below_one() {
        assert_eq!(holm(&[]), [0.0; 0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert_eq!(holm(&[0.6, 0.5]), [1.0, 1.0]);
        assert_eq!(holm(&[0.25, 0.125, 0.125]), [0.375, 0.375, 0.375]);
    }
}
