//! The random generator and the shuffle: an epoch's order depends on (seed, epoch) and on nothing else.

/// SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
///
/// Its stream is part of this crate's contract: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generator {
    state: u64,
}

impl Generator {
    /// A generator whose stream is a function of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator for one epoch of one run: its stream is a function of the pair.
    #[must_use]
    pub const fn for_epoch(seed: u64, epoch: u32) -> Self {
        // One draw decorrelates neighbouring seeds before the epoch is mixed in.
        let mut mixer = Self::new(seed);
        let base = mixer.next_u64();
        Self::new(base ^ (epoch as u64).wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A uniform integer in `0 .. n`, without bias; 0 when `n` is 0.
    ///
    /// Lemire, *Fast random integer generation in an interval*, 2019.
    pub const fn below(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        loop {
            let product = (self.next_u64() >> 32) * n as u64;
            let low = product & 0xffff_ffff;
            // Values below 2³² mod n belong to an incomplete interval: draw again.
            if low >= n as u64 || low >= (n.wrapping_neg() % n) as u64 {
                return high_half(product);
            }
        }
    }
}

const fn high_half(x: u64) -> u32 {
    (x >> 32) as u32
}

/// Permutes `items` uniformly (Fisher and Yates, from the last place down).
pub fn shuffle(items: &mut [u32], generator: &mut Generator) {
    let mut rest = items;
    while let [before @ .., last] = rest
        && !before.is_empty()
    {
        let n = u32::try_from(before.len() + 1).unwrap_or(u32::MAX);
        // Beyond those before is the last itself.
        if let Some(other) = before.get_mut(generator.below(n) as usize) {
            core::mem::swap(other, last);
        }
        rest = before;
    }
}

/// Fills `order` with `0, 1, 2, …` shuffled for one epoch of one run.
pub fn epoch_order(order: &mut [u32], seed: u64, epoch: u32) {
    for (place, i) in order.iter_mut().zip(0..) {
        *place = i;
    }
    shuffle(order, &mut Generator::for_epoch(seed, epoch));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_splitmix64() {
        // The first outputs for seed 1234567, as published with the algorithm's reference code.
        let mut generator = Generator::new(1_234_567);
        let found = [generator.next_u64(), generator.next_u64(), generator.next_u64()];
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn below_is_in_range_and_even() {
        let mut generator = Generator::new(7);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[generator.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..=10_400).contains(count)), "{counts:?}");
        assert_eq!(generator.below(0), 0);
        assert_eq!(generator.below(1), 0);
    }

    #[test]
    fn below_draws_again_where_some_numbers_would_come_more_often() {
        // Of 2³² values 3 · 2³⁰ numbers would get one each, and every third of them one more.
        let mut generator = Generator::new(11);
        let thirds = (0..30_000).filter(|_| generator.below(3 << 30).is_multiple_of(3)).count();
        assert!((9_700..=10_300).contains(&thirds), "{thirds}");
    }

    #[test]
    fn an_epoch_is_a_permutation_which_depends_on_seed_and_epoch() {
        let order = |seed, epoch| {
            let mut order = [0; 100];
            epoch_order(&mut order, seed, epoch);
            order
        };
        let mut sorted = order(1, 0);
        sorted.sort_unstable();
        assert!(sorted.iter().zip(0..).all(|(a, b)| *a == b));
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        // Seeds and epochs must not be interchangeable.
        assert_ne!(order(0, 1), order(1, 0));
        // The stream is a promise: these values never change.
        assert_eq!(order(42, 3)[..5], [82, 54, 41, 99, 89]);
    }

    #[test]
    fn shuffle_reaches_every_order() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, &mut Generator::new(seed));
            seen.insert(items);
        }
        assert_eq!(seen.len(), 24);
    }
}
