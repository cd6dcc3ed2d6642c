//! The losses of a run's steps, in bounded memory.

use serde::{Deserialize, Serialize};

/// The most spans of a curve.
const MOST: u32 = 150;

/// The losses of all steps: each, as long as there are few, or else the means of spans of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossCurve {
    /// Steps of the run.
    steps: u32,
    /// Sum and number of the losses of each span.
    spans: Vec<(f64, u32)>,
}

impl LossCurve {
    /// The curve of a run of so many steps, none of which was taken.
    pub(super) fn new(steps: u32) -> Self {
        let spans = if steps < MOST { steps } else { MOST };
        Self { steps, spans: vec![(0.0, 0); spans as usize] }
    }

    /// Takes the loss of a step, counted from 1.
    pub(super) fn add(&mut self, step: u32, loss: f32) {
        let span = u64::from(step.saturating_sub(1)) * self.spans.len() as u64 / u64::from(self.steps).max(1);
        let span = usize::try_from(span).ok().and_then(|span| self.spans.get_mut(span));
        if let Some((sum, count)) = span {
            *sum += f64::from(loss);
            *count += 1;
        }
    }

    /// Steps of the run.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Whether each step is told apart.
    #[must_use]
    pub fn has_every_step(&self) -> bool {
        self.steps as usize == self.spans.len()
    }

    /// The last step of each span, with the mean loss of the span.
    pub fn points(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let mut step = 0;
        self.spans.iter().filter(|&&(_, count)| count > 0).map(move |&(sum, count)| {
            step += count;
            (step, sum / f64::from(count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(steps: u32) -> Vec<(u32, f64)> {
        let mut curve = LossCurve::new(steps);
        (1..=steps).for_each(|step| curve.add(step, step as f32));
        assert_eq!(curve.has_every_step(), steps <= MOST);
        curve.points().collect()
    }

    #[test]
    fn few_steps_are_told_apart_and_many_put_together() {
        assert_eq!(curve(3), [(1, 1.0), (2, 2.0), (3, 3.0)]);
        let many = curve(3 * MOST);
        assert_eq!((many.len(), many[0]), (MOST as usize, (3, 2.0)));
        // A number of steps that the spans do not divide: none is lost.
        let odd = curve(MOST + 7);
        assert_eq!((odd.len(), odd.last().map(|&(step, _)| step)), (MOST as usize, Some(MOST + 7)));
    }
}
