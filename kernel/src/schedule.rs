//! The learning rate over a run: warm-up, then constant, linear or cosine decay.

use crate::math;

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls along a line, to 0 one step behind the last.
    Linear,
    /// It falls along half a cosine, to 0 one step behind the last.
    Cosine,
}

/// A learning-rate schedule over a known number of steps.
///
/// A warm-up as long as the run, or longer, leaves no room for a decay. What steps behind it get is then [`factor`](Self::factor)'s
/// formula with a length of 1: 0 by the line, and half a cosine from 1 to 0 in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The shape after the warm-up.
    pub decay: Decay,
    /// Steps of linear warm-up, from 0; the first step of a warm-up changes nothing but the moments.
    pub warmup: u32,
    /// Steps of the whole run.
    pub total: u32,
}

impl Schedule {
    /// A learning rate that never changes.
    pub const CONSTANT: Self = Self { decay: Decay::Constant, warmup: 0, total: 0 };

    /// The factor for 0-based `step`: `step / warmup` during the warm-up; after it 1, or with
    /// `x = (step − warmup) / max(1, total − warmup)` at most 1, `1 − x` formed as
    /// `(total − step) / max(1, total − warmup)`, or `½ (1 + cos πx)`.
    #[must_use]
    pub fn factor(&self, step: u32) -> f32 {
        if step < self.warmup {
            return ratio(step, self.warmup);
        }
        let length = self.total.saturating_sub(self.warmup).max(1);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => ratio(self.total.saturating_sub(step), length),
            Decay::Cosine => 0.5 * (1.0 + math::cos_pi(ratio(step.saturating_sub(self.warmup), length))),
        }
    }
}

/// `a / b`, both rounded to `f32` first, which is exact below 2²⁴.
#[expect(clippy::cast_precision_loss, reason = "steps beyond 2^24 may be rounded")]
fn ratio(a: u32, b: u32) -> f32 {
    a as f32 / b.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_warms_up_from_zero_and_falls_to_zero() {
        let schedule = Schedule { decay: Decay::Linear, warmup: 2, total: 10 };
        let factors: Vec<f32> = (0..12).map(|step| schedule.factor(step)).collect();
        assert_eq!(factors, [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0, 0.0]);
    }

    #[test]
    fn cosine_passes_through_one_half_and_ends_at_zero() {
        let schedule = Schedule { decay: Decay::Cosine, warmup: 0, total: 8 };
        assert_eq!((schedule.factor(0), schedule.factor(4), schedule.factor(8)), (1.0, 0.5, 0.0));
        assert_eq!(schedule.factor(100), 0.0);
    }

    #[test]
    fn degenerate_runs_stay_finite() {
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            for (warmup, total) in [(0, 0), (0, 1), (5, 1), (1, 1), (u32::MAX, u32::MAX)] {
                for step in [0, 1, 2, u32::MAX] {
                    let factor = Schedule { decay, warmup, total }.factor(step);
                    assert!((0.0..=1.0).contains(&factor), "{decay:?} {warmup} {total} {step}: {factor}");
                }
            }
        }
        assert_eq!(Schedule { decay: Decay::Linear, warmup: 0, total: 1 }.factor(0), 1.0);
    }
}
