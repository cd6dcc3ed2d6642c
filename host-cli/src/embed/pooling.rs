//! From the states of a text's tokens to one vector.

/// How the states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Their mean, each component one chain over the tokens.
    Mean,
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// The greatest of each component.
    Greatest,
}

impl Pooling {
    /// The mode that sentence-transformers calls `name`.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "mean" => Some(Self::Mean),
            "cls" => Some(Self::First),
            "lasttoken" => Some(Self::Last),
            "max" => Some(Self::Greatest),
            _ => None,
        }
    }

    /// The vector of a text of `states`, `tokens × hidden`; zero without tokens.
    pub(crate) fn apply(self, states: &[f32], hidden: usize) -> Vec<f32> {
        let mut rows = states.chunks_exact(hidden);
        match self {
            Self::First => rows.next().map_or_else(|| vec![0.0; hidden], <[f32]>::to_vec),
            Self::Last => rows.next_back().map_or_else(|| vec![0.0; hidden], <[f32]>::to_vec),
            Self::Mean => {
                #[allow(clippy::cast_precision_loss, reason = "a text has far fewer than 2^24 tokens")]
                let count = rows.len().max(1) as f32;
                let mut mean = vec![0.0; hidden];
                rows.for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
                mean.iter_mut().for_each(|sum| *sum /= count);
                mean
            }
            Self::Greatest => {
                let mut greatest = rows.next().map_or_else(|| vec![0.0; hidden], <[f32]>::to_vec);
                for row in rows {
                    for (greatest, &x) in greatest.iter_mut().zip(row) {
                        *greatest = if x > *greatest { x } else { *greatest };
                    }
                }
                greatest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_does_what_its_name_says() {
        let states = [1.0, -4.0, 3.0, 0.0, 2.0, 1.0];
        for (name, expected) in
            [("mean", [2.0, -1.0]), ("cls", [1.0, -4.0]), ("lasttoken", [2.0, 1.0]), ("max", [3.0, 1.0])]
        {
            let pooling = Pooling::by_name(name).expect(name);
            assert_eq!(pooling.apply(&states, 2), expected, "{name}");
            assert_eq!(pooling.apply(&[], 2), [0.0, 0.0], "{name} of nothing");
        }
        assert_eq!(Pooling::by_name("weightedmean"), None);
    }
}
