//! The mean of the weights that a run passes through.

use fearless_simd::{Level, dispatch};
use query_adapter::{LANES, Lanes};

use crate::fit::Adapter;

/// The running mean of an adapter's weights, step by step, over the epochs since the last power of two of them: over the
/// second half of the run at 2, 4, 8, … epochs. In the first epoch it begins half way.
#[derive(Clone, Debug)]
pub(crate) struct Average {
    mean: Adapter,
    count: u32,
}

impl Average {
    pub(crate) fn new(start: &Adapter) -> Self {
        Self { mean: start.clone(), count: 0 }
    }

    /// As it was after `count` weights.
    pub(crate) fn resumed(mean: Adapter, count: u32) -> Self {
        Self { mean, count }
    }

    /// How many weights the mean is of.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Takes the weights after step `step` of `steps` in epoch `epoch`, all counted from 1.
    pub(crate) fn offer(&mut self, adapter: &Adapter, epoch: u32, step: usize, steps: usize) {
        if epoch == 1 && step * 2 <= steps {
            return;
        }
        // The epoch after 1, 2, 4, 8, …
        if step == 1 && epoch > 1 && (epoch - 1).is_power_of_two() {
            self.count = 0;
        }
        self.count += 1;
        #[allow(clippy::cast_precision_loss, reason = "a run has far fewer than 2^24 steps in an average")]
        let share = 1.0 / self.count as f32;
        step_toward(self.mean.weight_lanes_mut(), adapter.weight().as_lanes(), share);
    }

    pub(crate) const fn mean(&self) -> &Adapter {
        &self.mean
    }
}

/// The mean of some adapters of one shape; none for no adapters.
pub(crate) fn equal_mean<'a>(parts: impl IntoIterator<Item = &'a Adapter>) -> Option<Adapter> {
    let mut parts = parts.into_iter();
    let mut mean = parts.next()?.clone();
    for (count, part) in (2_u8..).zip(parts) {
        step_toward(mean.weight_lanes_mut(), part.weight().as_lanes(), 1.0 / f32::from(count));
    }
    Some(mean)
}

/// `mean += share × (values − mean)`, with the machine's best instructions: it is done after every step of a fit.
pub(crate) fn step_toward(mean: &mut [Lanes], values: &[Lanes], share: f32) {
    dispatch!(Level::new(), _simd => lanes_toward(mean, values, share));
}

#[inline(always)]
fn lanes_toward(mean: &mut [Lanes], values: &[Lanes], share: f32) {
    for (mean, value) in mean.iter_mut().zip(values) {
        for lane in 0..LANES {
            mean.0[lane] += share * (value.0[lane] - mean.0[lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::identity;

    /// An adapter with this value everywhere in its weight.
    fn constant(value: f32) -> Adapter {
        let mut adapter = identity(2, false, query_adapter::Level::baseline()).expect("an adapter");
        adapter.set_weight(&[value; 4]).expect("set");
        adapter
    }

    fn value(adapter: &Adapter) -> f32 {
        adapter.weight().get(0, 1).expect("there")
    }

    #[test]
    fn the_mean_is_over_the_second_half_at_every_power_of_two() {
        let mut average = Average::new(&constant(100.0));
        let mut means = Vec::new();
        for epoch in 1..=8_u8 {
            for step in 1..=4_u8 {
                average.offer(&constant(f32::from((epoch - 1) * 4 + step)), epoch.into(), step.into(), 4);
            }
            means.push(value(average.mean()));
        }
        // Steps 3 to 4; 5 to 8; 9 to 12 and 9 to 16; 17 to 20, 24, 28 and 32.
        let expected = [3.5, 6.5, 10.5, 12.5, 18.5, 20.5, 22.5, 24.5];
        for (mean, expected) in means.iter().zip(expected) {
            assert!((mean - expected).abs() < 1e-4, "{means:?}");
        }
    }

    #[test]
    fn a_mean_has_the_same_bits_whatever_the_instructions() {
        let lanes = |mut next: f32| -> Vec<Lanes> {
            let mut value = || {
                next += 0.37;
                1.0 / next
            };
            (0..7).map(|_| Lanes(core::array::from_fn(|_| value()))).collect()
        };
        let (start, values, share) = (lanes(0.1), lanes(0.7), 1.0 / 3.0_f32);
        for level in [Level::baseline(), Level::new()] {
            let mut mean = start.clone();
            dispatch!(level, _simd => lanes_toward(&mut mean, &values, share));
            let parts = start.iter().flat_map(|lanes| lanes.0).zip(values.iter().flat_map(|lanes| lanes.0));
            for (found, (start, value)) in mean.iter().flat_map(|lanes| lanes.0).zip(parts) {
                // Rounded after the product and after the sum, as on a machine without a fused multiply-add.
                let step = core::hint::black_box(share * (value - start));
                assert_eq!(found.to_bits(), (start + step).to_bits());
            }
        }
    }

    #[test]
    fn one_step_an_epoch_is_its_own_mean() {
        let mut average = Average::new(&constant(100.0));
        average.offer(&constant(7.0), 1, 1, 1);
        assert_eq!(value(average.mean()), 7.0);
    }

    #[test]
    fn every_adapter_counts_alike() {
        let adapters = [1.0, 2.0, 6.0].map(constant);
        assert!((value(&equal_mean(&adapters).expect("a mean")) - 3.0).abs() < 1e-6);
        assert!(equal_mean(&[]).is_none());
    }
}
