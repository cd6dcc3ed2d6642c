//! The choice among trials by validation, and the fit that follows from it.

use core::num::NonZeroUsize;
use std::time::Instant;

use query_adapter::Level;
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::trials::Trial;
use crate::averaging::{equal_mean, step_toward};
use crate::failure::Failure;
use crate::fit::{Adapter, Settings, fit_to_stops, identity, mean, ndcg_values, standard_error};
use crate::interrupts;
use crate::parallel::in_pieces;
use crate::ranking::Index;
use crate::retrieval_task::RetrievalTask;

/// The most candidates that a soup may be made of.
pub(crate) const POOL: usize = 12;

/// Parts of the way from the base to the adapter that are looked at beside the whole.
const PARTS_OF_THE_WAY: [f32; 2] = [0.75, 0.5];

/// Queries to train on and others to validate on.
#[derive(Clone, Debug)]
pub struct Fold {
    /// To train on.
    pub train: RetrievalTask,
    /// To validate on.
    pub held_out: RetrievalTask,
    /// The documents to find.
    pub held_out_index: Index,
}

/// Where the work is done.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// The SIMD level.
    pub level: Level,
    /// How many threads share the work.
    pub threads: NonZeroUsize,
}

/// A trial after some epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The trial's number.
    pub trial: usize,
    /// The number of epochs.
    pub epochs: u32,
}

/// What a candidate reached on validation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Tried {
    /// Which it is.
    pub member: Member,
    /// Its mean nDCG@10.
    pub ndcg: f64,
}

/// What was chosen, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// Those whose mean is the adapter; none for the untouched base.
    pub members: Vec<Member>,
    /// How far to go from the base to that mean.
    pub part_of_the_way: f32,
    /// Everything that was tried, the best first.
    pub tried: Vec<Tried>,
    /// Mean nDCG@10 of the base on validation.
    pub base: f64,
    /// That of the best that was found.
    pub best: f64,
    /// The standard error of the difference of the two.
    pub standard_error: f64,
}

pub(super) struct Candidate {
    pub(super) tried: Tried,
    /// The adapter of each fold; empty for one out of the pool.
    pub(super) adapters: Vec<Adapter>,
    pub(super) values: Vec<f64>,
}

/// Chooses on the queries held out in `folds`, which all are trained with the documents of `index`. `tick` is called for
/// each fit. After `until` nothing more is tried.
///
/// # Errors
///
/// Those of the fits and of the journal; a trial whose numbers grow beyond bounds is left out instead.
pub fn choose(
    folds: &[Fold],
    index: &Index,
    trials: &[Trial],
    machine: Machine,
    until: Option<Instant>,
    tick: &(dyn Fn() + Sync),
    journal: &mut Journal<'_>,
) -> Result<Choice, Failure> {
    let mut base_values = Vec::new();
    for fold in folds {
        let base = identity(fold.train.dim(), false, machine.level)?;
        base_values.extend(ndcg_values(&fold.held_out_index, &fold.held_out, &base)?);
    }
    let candidates = candidates(folds, index, trials, machine, until, tick, journal)?;
    let base = mean(&base_values);
    let tried = candidates.iter().map(|candidate| candidate.tried).collect();
    let mut choice =
        Choice { members: Vec::new(), part_of_the_way: 1.0, tried, base, best: base, standard_error: 0.0 };
    let Some((best, others)) = candidates.split_first() else { return Ok(choice) };

    let mut soup = Soup { adapters: best.adapters.clone(), values: best.values.clone() };
    let mut members = vec![best.tried.member];
    for candidate in others.iter().filter(|candidate| !candidate.adapters.is_empty()) {
        let share = 1.0 / (members.len() + 1) as f32;
        let grown = soup.toward(&candidate.adapters, share, folds)?;
        if mean(&grown.values) > mean(&soup.values) {
            soup = grown;
            members.push(candidate.tried.member);
        }
    }
    choice.best = base.max(mean(&soup.values));
    let identities = vec![identity(best.adapters[0].in_dim(), false, machine.level)?; folds.len()];
    for part in PARTS_OF_THE_WAY {
        let shortened = mean(&soup.toward(&identities, 1.0 - part, folds)?.values);
        if shortened > choice.best {
            choice.part_of_the_way = part;
            choice.best = shortened;
        }
    }
    let gains: Vec<f64> = soup.values.iter().zip(&base_values).map(|(value, base)| value - base).collect();
    choice.standard_error = standard_error(&gains);
    if mean(&gains) > choice.standard_error {
        choice.members = members;
    } else {
        choice.part_of_the_way = 1.0;
    }
    Ok(choice)
}

/// All candidates, the best first; the first [`POOL`] have their adapters.
fn candidates(
    folds: &[Fold],
    index: &Index,
    trials: &[Trial],
    machine: Machine,
    until: Option<Instant>,
    tick: &(dyn Fn() + Sync),
    journal: &mut Journal<'_>,
) -> Result<Vec<Candidate>, Failure> {
    let index = index.clone().with_threads(NonZeroUsize::MIN);
    let held_out_indices: Vec<Index> =
        folds.iter().map(|fold| fold.held_out_index.clone().with_threads(NonZeroUsize::MIN)).collect();
    let dim = index.documents().dim();
    let (done, mut candidates) = journal.resumed_candidates(dim, folds.len(), machine.level)?;
    (0..done * folds.len()).for_each(|_| tick());
    // A few trials at a time, so that no more adapters are in memory than needed.
    let left = trials.get(done..).unwrap_or_default();
    for (first, some) in (done..).step_by(machine.threads.get()).zip(left.chunks(machine.threads.get())) {
        if first > 0 && until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let pieces = some.len() * folds.len();
        let fits = in_pieces(
            machine.threads,
            pieces,
            || (),
            |(), piece| {
                let (trial, fold) = (&some[piece / folds.len()], piece % folds.len());
                let Fold { train, held_out, .. } = &folds[fold];
                let Trial { settings, stops } = trial;
                let fitted = fit_to_stops(train, &index, settings, stops, machine.level, interrupts::check);
                tick();
                let adapters = match fitted {
                    Err(Failure::Numerical(_)) => return Ok(Vec::new()),
                    fitted => fitted?,
                };
                adapters
                    .into_iter()
                    .map(|adapter| Ok((ndcg_values(&held_out_indices[fold], held_out, &adapter)?, adapter)))
                    .collect::<Result<Vec<_>, Failure>>()
            },
        );
        if let Err(Failure::Interrupted { .. }) = fits {
            journal.trying(first, &candidates)?;
        }
        let mut fits = fits?.into_iter();
        for (trial, of) in (first..).zip(some) {
            let of_folds: Vec<_> = fits.by_ref().take(folds.len()).collect();
            if of_folds.iter().any(Vec::is_empty) {
                journal.tried(of, &[])?;
                continue;
            }
            let before = candidates.len();
            let mut of_folds: Vec<_> = of_folds.into_iter().map(Vec::into_iter).collect();
            for &epochs in &of.stops {
                let (values, adapters): (Vec<_>, Vec<_>) =
                    of_folds.iter_mut().filter_map(Iterator::next).unzip();
                let values = values.concat();
                let tried = Tried { member: Member { trial, epochs }, ndcg: mean(&values) };
                candidates.push(Candidate { tried, adapters, values });
            }
            let tried: Vec<Tried> = candidates[before..].iter().map(|candidate| candidate.tried).collect();
            journal.tried(of, &tried)?;
        }
        // A stable sort: of equals the one tried first.
        candidates.sort_by(|a, b| b.tried.ndcg.total_cmp(&a.tried.ndcg));
        for candidate in candidates.iter_mut().skip(POOL) {
            candidate.adapters = Vec::new();
            candidate.values = Vec::new();
        }
        journal.trying(first + some.len(), &candidates)?;
    }
    Ok(candidates)
}

/// An adapter for each fold, and the values they give on the folds' queries.
struct Soup {
    adapters: Vec<Adapter>,
    values: Vec<f64>,
}

impl Soup {
    /// A share of the way from here to `others`.
    fn toward(&self, others: &[Adapter], share: f32, folds: &[Fold]) -> Result<Self, Failure> {
        let mut adapters = self.adapters.clone();
        let mut values = Vec::with_capacity(self.values.len());
        for ((adapter, other), fold) in adapters.iter_mut().zip(others).zip(folds) {
            step_toward(adapter.weight_lanes_mut(), other.weight().as_lanes(), share);
            values.extend(ndcg_values(&fold.held_out_index, &fold.held_out, adapter)?);
        }
        Ok(Self { adapters, values })
    }
}

/// Fits what was chosen to all of `task`.
///
/// # Errors
///
/// Those of the fits.
pub fn refit(
    task: &RetrievalTask,
    index: &Index,
    trials: &[Trial],
    choice: &Choice,
    machine: Machine,
) -> Result<Adapter, Failure> {
    let base = identity(task.dim(), false, machine.level)?;
    let mut chosen: Vec<usize> = choice.members.iter().map(|member| member.trial).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let single = index.clone().with_threads(NonZeroUsize::MIN);
    let fits = in_pieces(
        machine.threads,
        chosen.len(),
        || (),
        |(), piece| {
            let trial = chosen[piece];
            let mut stops: Vec<u32> =
                choice.members.iter().filter(|m| m.trial == trial).map(|m| m.epochs).collect();
            stops.sort_unstable();
            let Some(&epochs) = stops.last() else { return Ok(Vec::new()) };
            let settings = Settings { epochs, ..trials[trial].settings.clone() };
            let adapters = fit_to_stops(task, &single, &settings, &stops, machine.level, interrupts::check)?;
            Ok(stops.into_iter().map(move |epochs| Member { trial, epochs }).zip(adapters).collect())
        },
    )?;
    let fits = fits.concat();
    let adapters = choice.members.iter().filter_map(|member| fits.iter().find(|(of, _)| of == member));
    let Some(mut adapter) = equal_mean(adapters.map(|(_, adapter)| adapter)) else { return Ok(base) };
    step_toward(adapter.weight_lanes_mut(), base.weight().as_lanes(), 1.0 - choice.part_of_the_way);
    Ok(adapter)
}
