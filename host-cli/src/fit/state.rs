//! Where a fit stands between two steps: all that it takes to go on to the same bits.

use std::borrow::Cow;

use query_adapter::{Lanes, Level, Linear, OptimizerState, Trainer};
use serde::{Deserialize, Serialize};

use super::{Adapter, Epoch, LossCurve};
use crate::averaging::Average;
use crate::failure::Failure;

/// A fit between two steps. The order of the pairs is no part of it: seed and epoch decide that.
///
/// Borrowed from a fit that goes on it costs nothing; read from a file it owns all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitState<'a> {
    /// The epoch, from 1; one more than there are once the last is over.
    pub(super) epoch: u32,
    /// Steps of this epoch that were taken.
    pub(super) step: u32,
    /// Weighted sum of their losses, and the sum of the weights.
    pub(super) loss_sum: f64,
    pub(super) weight_sum: f64,
    /// The epochs that are over.
    pub(super) epochs: Cow<'a, [Epoch]>,
    /// The losses so far.
    pub(super) losses: Cow<'a, LossCurve>,
    /// Steps of the optimiser, and its running products.
    pub(super) steps: u32,
    beta1_power: f32,
    beta2_power: f32,
    /// In panels, as are the moments and all below.
    weight: Cow<'a, [f32]>,
    m: Cow<'a, [f32]>,
    v: Cow<'a, [f32]>,
    /// The running mean of the weights, and of how many it is.
    average: Option<(Cow<'a, [f32]>, u32)>,
    /// The best epoch so far, and its adapter.
    best: Option<(u32, Cow<'a, [f32]>)>,
}

/// How far the epoch under way is.
#[derive(Clone, Copy)]
pub(super) struct Position {
    pub(super) epoch: u32,
    pub(super) step: u32,
    pub(super) loss_sum: f64,
    pub(super) weight_sum: f64,
}

impl Position {
    /// Before the first step of an epoch.
    pub(super) const fn begin(epoch: u32) -> Self {
        Self { epoch, step: 0, loss_sum: 0.0, weight_sum: 0.0 }
    }
}

/// What changes from step to step.
pub(super) struct Course {
    pub(super) at: Position,
    pub(super) trainer: Trainer<Vec<Lanes>>,
    /// The epochs that are over.
    pub(super) epochs: Vec<Epoch>,
    pub(super) losses: LossCurve,
    /// Where the mean of the weights is what counts.
    pub(super) average: Option<Average>,
}

impl Course {
    /// What the run would give if it ended here.
    pub(super) fn adapter(&self) -> &Adapter {
        self.average.as_ref().map_or(self.trainer.adapter(), Average::mean)
    }

    /// Where the fit stands, with the best epoch so far.
    pub(super) fn state<'a>(&'a self, best: Option<(u32, &'a Adapter)>) -> FitState<'a> {
        let Self { at, trainer, epochs, losses, average } = self;
        let &OptimizerState { steps, beta1_power, beta2_power } = trainer.state();
        FitState {
            epoch: at.epoch,
            step: at.step,
            loss_sum: at.loss_sum,
            weight_sum: at.weight_sum,
            epochs: Cow::Borrowed(epochs),
            losses: Cow::Borrowed(losses),
            steps,
            beta1_power,
            beta2_power,
            weight: panels_of(trainer.adapter()),
            m: Cow::Borrowed(bytemuck::cast_slice(trainer.m())),
            v: Cow::Borrowed(bytemuck::cast_slice(trainer.v())),
            average: average.as_ref().map(|average| (panels_of(average.mean()), average.count())),
            best: best.map(|(epoch, adapter)| (epoch, panels_of(adapter))),
        }
    }
}

impl FitState<'_> {
    /// Steps taken since the beginning of the run.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Whether a run of so many epochs is over.
    #[must_use]
    pub fn is_over(&self, epochs: u32) -> bool {
        self.epoch > epochs
    }

    pub(super) fn position(&self) -> Position {
        let &Self { epoch, step, loss_sum, weight_sum, .. } = self;
        Position { epoch, step, loss_sum, weight_sum }
    }

    pub(super) fn adapter(&self, dim: usize, bias: bool, level: Level) -> Result<Adapter, Failure> {
        adapter_of(&self.weight, dim, bias, level)
    }

    pub(super) fn average(&self, dim: usize, bias: bool, level: Level) -> Result<Option<Average>, Failure> {
        let Some((mean, count)) = &self.average else { return Ok(None) };
        Ok(Some(Average::resumed(adapter_of(mean, dim, bias, level)?, *count)))
    }

    pub(super) fn best(
        &self,
        dim: usize,
        bias: bool,
        level: Level,
    ) -> Result<Option<(u32, Adapter)>, Failure> {
        let Some((epoch, panels)) = &self.best else { return Ok(None) };
        Ok(Some((*epoch, adapter_of(panels, dim, bias, level)?)))
    }

    /// Puts moments and counts back into a trainer.
    pub(super) fn restore(&self, trainer: &mut Trainer<Vec<Lanes>>) -> Result<(), Failure> {
        let &Self { steps, beta1_power, beta2_power, .. } = self;
        let state = OptimizerState { steps, beta1_power, beta2_power };
        Ok(trainer.restore(state, &lanes_of(&self.m)?, &lanes_of(&self.v)?)?)
    }
}

/// The numbers of an adapter, as they lie in memory.
pub(crate) fn panels_of(adapter: &Adapter) -> Cow<'_, [f32]> {
    Cow::Borrowed(bytemuck::cast_slice(adapter.weight().as_lanes()))
}

/// The adapter whose [`panels_of`] these are.
pub(crate) fn adapter_of(panels: &[f32], dim: usize, bias: bool, level: Level) -> Result<Adapter, Failure> {
    Ok(Linear::from_lanes(dim, dim, bias, lanes_of(panels)?, level)?)
}

fn lanes_of(values: &[f32]) -> Result<Vec<Lanes>, Failure> {
    if !values.len().is_multiple_of(query_adapter::LANES) {
        return Err(not_of_this_run("its panels are not whole"));
    }
    let mut lanes = vec![Lanes::ZERO; values.len() / query_adapter::LANES];
    bytemuck::cast_slice_mut(&mut lanes).copy_from_slice(values);
    Ok(lanes)
}

/// What its checksum and its fingerprints let through and cannot be all the same.
pub(crate) fn not_of_this_run(problem: &str) -> Failure {
    Failure::Other(anyhow::anyhow!(
        "the checkpoint's state is not one of this run: {problem}; leave --resume out to begin anew"
    ))
}
