//! The recipe that needs no settings: it tries, chooses by validation, fits to everything, and measures the whole of that
//! on queries that took no part in it.

pub mod choice;
pub mod journal;
pub mod plan;
pub mod trials;
pub mod verdict;

use core::time::Duration;
use std::collections::BTreeSet;
use std::time::Instant;

use choice::{Choice, Machine, choose, refit};
use journal::Journal;
use plan::{Plan, Round};
use trials::Trial;
use verdict::{distinct_shown, variety};

use crate::failure::Failure;
use crate::fit::Adapter;
use crate::ranking::Index;
use crate::report::Comparison;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The adapter, fitted to all pairs.
    pub adapter: Adapter,
    /// The choice it follows.
    pub choice: Choice,
    /// The base, and the adapters that were made without them, on the queries of the outer folds.
    pub measured: Option<Comparison>,
    /// These adapters, one for each outer fold.
    pub outer: Vec<Adapter>,
    /// How varied the rankings of these are, of the base and of the adapters.
    pub variety: Option<(f64, f64)>,
}

/// Runs a plan: every outer round, then the last one. `tick` is called for each fit. Where `most` time is given, each
/// round tries no more once its share of it is over. What `journal` has from an interrupted run is not done again.
///
/// # Errors
///
/// Those of the fits, evaluations and the journal.
pub fn run(
    plan: &Plan,
    index: &Index,
    trials: &[Trial],
    machine: Machine,
    most: Option<Duration>,
    tick: &(dyn Fn() + Sync),
    journal: &mut Journal<'_>,
) -> Result<Outcome, Failure> {
    journal.start(plan, trials)?;
    let end = most.map(|most| Instant::now() + most);
    let mut rounds = u32::try_from(plan.outer.len() + 1).unwrap_or(u32::MAX);
    let mut follow = |round: &Round| -> Result<(Choice, Adapter), Failure> {
        let until = end.map(|end| {
            let now = Instant::now();
            now + end.saturating_duration_since(now) / rounds
        });
        rounds -= 1;
        if let Some(over) = journal.begin(round.refit_on.dim(), machine.level)? {
            (0..trials.len() * round.folds.len()).for_each(|_| tick());
            return Ok(over);
        }
        let choice = match journal.resumed_choice() {
            Some(choice) => choice,
            None => choose(&round.folds, index, trials, machine, until, tick, journal)?,
        };
        journal.chosen(&choice)?;
        let adapter = refit(&round.refit_on, index, trials, &choice, machine);
        if let Err(Failure::Interrupted { .. }) = adapter {
            journal.chosen(&choice)?;
        }
        let adapter = adapter?;
        journal.finish(trials, &choice, &adapter)?;
        Ok((choice, adapter))
    };
    let (mut measured, mut adapters) = (Vec::new(), Vec::new());
    let (mut shown_by_base, mut shown) = (BTreeSet::new(), BTreeSet::new());
    let (mut queries, mut documents) = (0, 0);
    for outer in &plan.outer {
        let (_, adapter) = follow(&outer.round)?;
        let (index, task) = (&outer.measured_index, &outer.measured);
        measured.push(Comparison::measure(index, task, Some(&adapter))?);
        shown_by_base.append(&mut distinct_shown(index, task, None)?);
        shown.append(&mut distinct_shown(index, task, Some(&adapter))?);
        adapters.push(adapter);
        queries += task.queries().len();
        documents = task.corpus().len();
    }
    let (choice, adapter) = follow(&plan.last)?;
    let share = |shown: &BTreeSet<u32>| variety(shown.len(), queries, documents);
    let variety = (queries > 0).then(|| (share(&shown_by_base), share(&shown)));
    Ok(Outcome {
        adapter,
        choice,
        measured: measured.into_iter().reduce(Comparison::and),
        outer: adapters,
        variety,
    })
}
