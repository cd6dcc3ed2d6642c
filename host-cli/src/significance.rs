//! Whether a difference could be chance.

use query_adapter::sample::Generator;

/// Random changes of signs that are drawn.
const DRAWS: u32 = 10_000;

/// Seeds the draws.
const SEED: u64 = 0x7369_676e;

/// The p-value, two-sided, of a paired randomisation test: how often the mean of the differences, each with a random sign,
/// is as far from 0 as theirs is. At least 1 ÷ (draws + 1); 1 where nothing differs.
#[must_use]
pub(crate) fn randomization_p(differences: &[f64]) -> f64 {
    // Zeros have no sign.
    let differences: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let observed = differences.iter().sum::<f64>().abs();
    // A sum in another order, of the same numbers, is no nearer to 0.
    let reached = observed * (1.0 - 1e-12);
    let mut generator = Generator::new(SEED);
    let mut as_far = 0_u32;
    for _ in 0..DRAWS {
        let mut sum = 0.0;
        for chunk in differences.chunks(64) {
            let mut signs = generator.next_u64();
            for &difference in chunk {
                sum += if signs & 1 == 0 { difference } else { -difference };
                signs >>= 1;
            }
        }
        as_far += u32::from(sum.abs() >= reached);
    }
    f64::from(as_far + 1) / f64::from(DRAWS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p_value_is_that_of_all_signs() {
        // Of the 2⁶ signs of six equal differences two are as far out: 1/32.
        let p = randomization_p(&[0.5; 6]);
        assert!((p - 1.0 / 32.0).abs() < 0.006, "{p}");
        // Zeros change nothing.
        assert_eq!(randomization_p(&[0.5, 0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5]), p);
        assert_eq!(randomization_p(&[-0.5; 6]), p);
    }

    #[test]
    fn no_difference_and_no_queries_are_no_evidence() {
        assert_eq!(randomization_p(&[]), 1.0);
        assert_eq!(randomization_p(&[0.0; 10]), 1.0);
        assert_eq!(randomization_p(&[1.0, -1.0]), 1.0);
    }

    #[test]
    fn what_cannot_be_chance_has_the_smallest_p() {
        assert_eq!(randomization_p(&[1.0; 100]), 1.0 / 10_001.0);
    }
}
