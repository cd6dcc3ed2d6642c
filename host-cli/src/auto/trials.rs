//! What there is to choose from: the fits that are tried, decided by the shape of the data alone.

use core::fmt;

use clap::ValueEnum;
use query_adapter::{Decay, Optimizer, OptimizerKind};
use serde::Serialize;

use super::plan::{Plan, Round};
use crate::batches::{MINED, MINED_EACH, SAMPLED};
use crate::fit::{MOST_POSITIVES, Negatives, Recipe, Settings};
use crate::retrieval_task::RetrievalTask;

/// How much work a choice is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// The most promising few, about a tenth of the work
    Quick,
    /// About 20 s on two cores for 10,000 pairs of 384 components
    Default,
    /// Ten times the work
    Thorough,
}

impl Effort {
    /// Multiplications and additions that all fits of a run may take together.
    const fn budget(self) -> u64 {
        match self {
            Self::Quick => 250_000_000_000,
            Self::Default => 2_500_000_000_000,
            Self::Thorough => 25_000_000_000_000,
        }
    }
}

/// Steps to the last stop of a second-order trial, at least, and of a first-order one.
const LEAST_SECOND_ORDER: u64 = 128;
const LEAST_FIRST_ORDER: u64 = 256;

/// Multiplications of a step that take as long as one of the sums of moments, which are in double precision.
const DOUBLE: u64 = 8;

/// Stops that a trial gets, if any, before others get more.
const FIRST_STOPS: usize = 2;

/// The most elements that preconditioned queries may take: they are all in memory.
const MOST_PRECONDITIONED: u64 = 1 << 26;

/// The most documents of a corpus that each step goes over.
const MOST_DOCUMENTS: u64 = 1 << 16;

/// A fit that is looked at after several epochs.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its settings, with as many epochs as the last stop.
    pub settings: Settings,
    /// The epochs after which it is looked at, ascending.
    pub stops: Vec<u32>,
}

impl Trial {
    fn new(settings: Settings, stops: &[u32]) -> Self {
        let epochs = stops.last().copied().unwrap_or(1);
        Self { settings: Settings { epochs, ..settings }, stops: stops.to_vec() }
    }

    /// Adds stops, each twice the one before, until the last comes after enough steps: few pairs make few steps an epoch.
    fn lengthen(&mut self, steps_per_epoch: u64) {
        let least = match self.settings.precondition {
            Some(_) => LEAST_SECOND_ORDER,
            None => LEAST_FIRST_ORDER,
        };
        while u64::from(self.settings.epochs) * steps_per_epoch < least {
            self.settings.epochs *= 2;
            self.stops.push(self.settings.epochs);
        }
    }

    /// The same with its first `stops` stops, at most as many as there are.
    fn until(&self, stops: usize) -> Self {
        Self::new(self.settings.clone(), &self.stops[..stops.min(self.stops.len())])
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { optimizer, scale, negatives, .. } = &self.settings;
        match self.settings.precondition {
            Some(damping) => write!(f, "second-order, lr {}, damping {damping}", optimizer.lr)?,
            None => write!(f, "AdamW, lr {}", optimizer.lr)?,
        }
        let negatives = match negatives {
            Some(Negatives::InBatch) => "in-batch",
            Some(Negatives::Corpus) => "corpus",
            Some(Negatives::Mined) => "mined",
            Some(Negatives::Sampled) => "sampled",
            _ => "positives",
        };
        write!(f, ", scale {scale}, negatives {negatives}")
    }
}

/// A first-order step. The learning rate stays as it is, so that one run serves every stop.
fn first_order(lr: f32, scale: f32, negatives: Negatives) -> Settings {
    Settings {
        scale,
        optimizer: Optimizer::adamw(lr),
        warmup: Some(10),
        schedule: Decay::Constant,
        negatives: Some(negatives),
        average: true,
        ..Settings::of(Recipe::Single)
    }
}

/// A second-order step.
fn second_order(lr: f32, damping: f32, scale: f32, negatives: Negatives) -> Settings {
    let optimizer = Optimizer {
        kind: OptimizerKind::Sgd,
        max_norm: f32::INFINITY,
        weight_decay: 0.0,
        ..Optimizer::adamw(lr)
    };
    Settings { optimizer, warmup: Some(0), precondition: Some(damping), ..first_order(lr, scale, negatives) }
}

/// The trials of an effort, the most promising first.
fn listed(effort: Effort) -> Vec<Trial> {
    use Negatives::{Corpus, InBatch, Positives, Sampled};
    let short = |settings| Trial::new(settings, &[1, 2, 4, 8]);
    let long = |settings| Trial::new(settings, &[2, 4, 8, 16]);
    let mut trials = vec![
        short(second_order(0.03, 30.0, 30.0, Positives)),
        long(first_order(3e-4, 20.0, Positives)),
        short(second_order(0.03, 30.0, 30.0, Corpus)),
        long(first_order(1e-3, 40.0, Positives)),
        short(second_order(0.01, 3.0, 20.0, Positives)),
        short(second_order(0.01, 10.0, 30.0, Corpus)),
        long(first_order(3e-4, 40.0, InBatch)),
        short(second_order(0.1, 100.0, 30.0, Positives)),
        short(second_order(0.1, 100.0, 40.0, Corpus)),
        long(first_order(1e-3, 40.0, InBatch)),
        short(second_order(0.03, 30.0, 30.0, Sampled)),
    ];
    if effort == Effort::Thorough {
        for negatives in [Positives, Corpus] {
            for (lr, damping) in [(0.01, 3.0), (0.01, 10.0), (0.03, 30.0), (0.1, 100.0), (0.3, 300.0)] {
                for scale in [20.0, 30.0, 40.0] {
                    let settings = second_order(lr, damping, scale, negatives);
                    trials.push(Trial::new(settings, &[1, 2, 4, 8, 16]));
                }
            }
        }
        for negatives in [Positives, InBatch] {
            for lr in [3e-4, 1e-3] {
                for scale in [20.0, 40.0] {
                    trials.push(Trial::new(first_order(lr, scale, negatives), &[2, 4, 8, 16, 32]));
                }
            }
        }
    }
    trials
}

/// The trials that a plan's data can bear and `effort` pays for, the most promising first, at least one.
#[must_use]
pub fn trials(plan: &Plan, effort: Effort, seed: u64) -> Vec<Trial> {
    let shape = Shape::of(plan);
    let mut whole: Vec<Trial> = Vec::new();
    for mut trial in listed(effort).into_iter().filter_map(|trial| shape.fit(trial)) {
        trial.settings.seed = seed;
        trial.lengthen(steps_per_epoch(plan, &trial.settings));
        let named = trial.to_string();
        if whole.iter().all(|known| known.to_string() != named) {
            whole.push(trial);
        }
    }
    affordable(&whole, effort.budget(), |trial| shape.work(trial, plan))
}

/// What of some trials there is work for, at least the first stop of the one whose first stop takes the least.
///
/// Each gets its first two stops, then each its next one, and so on, as long as there is work left for it: a stop takes
/// about as much as all before it together, and another setting is worth more than the last epochs of one.
fn affordable(whole: &[Trial], mut left: u64, work: impl Fn(&Trial) -> u64) -> Vec<Trial> {
    let mut trials: Vec<Option<Trial>> = vec![None; whole.len()];
    let most = whole.iter().map(|trial| trial.stops.len()).max().unwrap_or(0);
    for stops in FIRST_STOPS..=most {
        for (trial, whole) in trials.iter_mut().zip(whole).filter(|(_, whole)| stops <= whole.stops.len()) {
            let reached = trial.as_ref().map_or(FIRST_STOPS - 1, |trial| trial.stops.len());
            let longer = whole.until(stops);
            let more = work(&longer) - trial.as_ref().map_or(0, &work);
            if reached + 1 == stops && more <= left {
                left -= more;
                *trial = Some(longer);
            }
        }
    }
    let mut trials: Vec<Trial> = trials.into_iter().flatten().collect();
    if trials.is_empty() {
        trials.extend(whole.iter().map(|trial| trial.until(1)).min_by_key(&work));
    }
    trials
}

/// Steps of an epoch in a fold of the last round.
fn steps_per_epoch(plan: &Plan, settings: &Settings) -> u64 {
    let pairs = plan.last.folds.first().map_or(0, |fold| fold.train.pairs());
    (pairs as u64).div_ceil(u64::from(settings.batch_size)).max(1)
}

/// What of the data decides how much work a trial is.
struct Shape {
    dim: u64,
    queries: u64,
    documents: u64,
    /// Documents that answer a query, or are listed as not doing so.
    told_apart: u64,
}

impl Shape {
    fn of(plan: &Plan) -> Self {
        let task = &plan.last.refit_on;
        let mut told_apart = task.answers();
        for &document in task.queries().iter().flat_map(|query| query.negatives) {
            told_apart[document as usize] = true;
        }
        Self {
            dim: task.dim() as u64,
            queries: task.queries().len() as u64,
            documents: task.corpus().len() as u64,
            told_apart: told_apart.into_iter().filter(|&told_apart| told_apart).count() as u64,
        }
    }

    /// The trial as these data can bear it, if at all.
    fn fit(&self, mut trial: Trial) -> Option<Trial> {
        let settings = &mut trial.settings;
        let preconditioned = settings.precondition.is_some();
        if preconditioned && self.queries.saturating_mul(self.dim) > MOST_PRECONDITIONED {
            return None;
        }
        match settings.negatives {
            // A larger corpus is sampled, and what is near to the queries mined: both are nearly as good as all of it.
            Some(Negatives::Sampled) if self.documents <= MOST_DOCUMENTS => None,
            Some(Negatives::Sampled) => (self.told_apart <= MOST_POSITIVES as u64).then_some(trial),
            // The whole corpus answers questions: there is no difference.
            Some(Negatives::Corpus) if self.documents == self.told_apart => None,
            Some(Negatives::Corpus) if self.documents > MOST_DOCUMENTS => {
                settings.negatives = Some(Negatives::Mined);
                (self.told_apart <= MOST_POSITIVES as u64).then_some(trial)
            }
            Some(Negatives::Positives) if self.told_apart > MOST_POSITIVES as u64 => {
                settings.negatives = Some(Negatives::InBatch);
                Some(trial)
            }
            _ => Some(trial),
        }
    }

    /// Multiplications and additions of all fits of a trial in a plan, and of looking at them.
    fn work(&self, trial: &Trial, plan: &Plan) -> u64 {
        let rounds = plan.outer.iter().map(|outer| &outer.round).chain([&plan.last]);
        rounds.map(|round| self.work_of_round(trial, round)).sum()
    }

    fn work_of_round(&self, trial: &Trial, round: &Round) -> u64 {
        let candidates = match trial.settings.negatives {
            Some(Negatives::InBatch) => u64::from(trial.settings.batch_size),
            // The scores are computed twice.
            Some(Negatives::Corpus) => self.documents * 4 / 3,
            Some(Negatives::Mined) => {
                let each = (MINED as u64 / self.queries).clamp(1, MINED_EACH as u64);
                self.documents.min(self.told_apart + self.queries * each)
            }
            Some(Negatives::Sampled) => self.documents.min(self.told_apart + SAMPLED as u64),
            _ => self.told_apart,
        };
        let fits = || round.folds.iter().map(|fold| &fold.train).chain([&round.refit_on]);
        let sum = |of: fn(&RetrievalTask) -> usize| fits().map(of).sum::<usize>() as u64;
        // Forward, backward and update; scores and their gradient.
        let steps = 3 * self.dim * (self.dim + candidates) * sum(RetrievalTask::pairs);
        let moments = match trial.settings.precondition {
            None => 0,
            Some(_) => {
                self.dim
                    * self.dim
                    * (DOUBLE * self.dim * fits().count() as u64 + 2 * sum(|t| t.queries().len()))
            }
        };
        let mined = match trial.settings.negatives {
            Some(Negatives::Mined) => sum(|task| task.queries().len()) * self.dim * self.documents,
            _ => 0,
        };
        let looked_at: usize = round.folds.iter().map(|fold| fold.held_out.queries().len()).sum();
        let looks = (trial.stops.len() * looked_at) as u64 * self.dim * (self.dim + self.documents);
        u64::from(trial.settings.epochs) * steps + moments + mined + looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stops that trials with these get for some work, an epoch of the trial at `at` being `at + 1` pieces of it.
    fn stops(whole: &[&[u32]], left: u64) -> Vec<Vec<u32>> {
        let settings =
            |at: usize| Settings { seed: at as u64, ..first_order(1e-3, 20.0, Negatives::InBatch) };
        let whole: Vec<_> =
            whole.iter().enumerate().map(|(at, stops)| Trial::new(settings(at), stops)).collect();
        let work = |trial: &Trial| (trial.settings.seed + 1) * u64::from(trial.settings.epochs);
        let trials = affordable(&whole, left, work);
        assert!(trials.len() == 1 || trials.iter().map(work).sum::<u64>() <= left);
        trials.into_iter().map(|trial| trial.stops).collect()
    }

    #[test]
    fn every_setting_is_tried_before_any_is_tried_for_long() {
        let whole: [&[u32]; 3] = [&[1, 2, 4, 8], &[1, 2, 4, 8], &[2, 4, 8, 16]];
        assert_eq!(stops(&whole, 100), whole);
        assert_eq!(stops(&whole, 2 + 4 + 12), [[1, 2], [1, 2], [2, 4]]);
        assert_eq!(stops(&whole, 2 + 4 + 12 + 2), [vec![1, 2, 4], vec![1, 2], vec![2, 4]]);
        // One that there is no work for leaves it to those behind it, and gets none later.
        assert_eq!(stops(&[&[8, 16], &[1, 2, 4]], 15), [[1, 2, 4]]);
        // One in any case: the one that takes the least, of equals the first.
        assert_eq!(stops(&whole, 0), [[1]]);
        assert_eq!(stops(&[&[8, 16], &[3, 6], &[2, 4]], 0), [[3]]);
    }

    #[test]
    fn every_trial_has_a_name_of_its_own_or_is_the_same() {
        let trials = listed(Effort::Thorough);
        for (at, a) in trials.iter().enumerate() {
            for b in &trials[at + 1..] {
                let settings = |trial: &Trial| {
                    let settings = Settings { epochs: 0, ..trial.settings.clone() };
                    serde_json::to_string(&settings).expect("settings")
                };
                assert_eq!(a.to_string() == b.to_string(), settings(a) == settings(b), "{a}");
            }
        }
    }
}
