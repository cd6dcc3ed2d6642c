//! `train --dry-run`: what a run would do, and the memory that it would take.

use core::fmt::Write as _;

use query_adapter::{Lanes, Level, linear_len};

use crate::auto::choice::{Machine, POOL};
use crate::auto::plan::Plan;
use crate::auto::trials::Trial;
use crate::failure::Failure;
use crate::fit::{self, Settings, Shapes};
use crate::options::TrainOptions;
use crate::ranking::Index;
use crate::retrieval_task::RetrievalTask;

/// A run of the recipes `single` and `reference`.
pub(super) fn single(
    options: &TrainOptions,
    settings: &Settings,
    train: &RetrievalTask,
    index: &Index,
    validation: Option<&RetrievalTask>,
    level: Level,
) -> Result<String, Failure> {
    let Shapes {
        dim,
        pairs,
        batch_size,
        candidates,
        steps,
        steps_per_epoch,
        warmup,
        threads,
        simd,
        norm,
        gradient,
        memory,
        ..
    } = fit::plan(train, index, settings, level)?;
    let mut text = data(train, pairs);
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{steps} steps, {steps_per_epoch} an epoch, {warmup} of them warm-up: {batch_size} pairs a step, told apart from \
         at most {candidates} documents\nSIMD level {simd}, {threads} threads for a step, norm of the gradient {norm}, \
         gradient {gradient}"
    );
    let _ = match validation {
        Some(task) => writeln!(text, "{} queries choose among the epochs", task.queries().len()),
        None => writeln!(text, "the last epoch is kept"),
    };
    // The best epoch, and the base.
    let kept = if validation.is_some() { 2 * adapter_bytes(dim, settings.bias) } else { 0 };
    text += &memory_and_output(options, memory + kept, train);
    Ok(text)
}

/// A run of the recipe `auto`.
pub(super) fn auto(
    options: &TrainOptions,
    plan: &Plan,
    trials: &[Trial],
    index: &Index,
    machine: Machine,
) -> Result<String, Failure> {
    let task = &plan.last.refit_on;
    let rounds = plan.outer.iter().map(|outer| &outer.round).chain([&plan.last]);
    let folds: Vec<usize> = rounds.map(|round| round.folds.len()).collect();
    let mut text = data(task, task.pairs());
    let _ = writeln!(
        text,
        "{} rounds, {} of them for the verdict: {} settings in {} folds, {} fits",
        folds.len(),
        plan.outer.len(),
        trials.len(),
        plan.last.folds.len(),
        folds.iter().sum::<usize>() * trials.len()
    );
    let (mut memory, mut most_stops) = (0, 0);
    for trial in trials {
        let stops: Vec<_> = trial.stops.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  {trial}: looked at after {} epochs", stops.join(", "));
        most_stops = most_stops.max(trial.stops.len());
        memory = memory.max(fit::plan(task, index, &trial.settings, machine.level)?.memory);
    }
    // Of each fold the candidates of the mean, and those of the trials that are new; then the adapter of each round.
    let threads = machine.threads.get();
    let adapters = folds.iter().max().unwrap_or(&0) * (POOL + threads * most_stops) + folds.len();
    let adapters = adapters as u64 * adapter_bytes(task.dim(), false);
    text += &memory_and_output(options, memory * threads as u64 + adapters, task);
    Ok(text)
}

fn data(task: &RetrievalTask, pairs: usize) -> String {
    format!(
        "would train on {pairs} pairs of {} queries, {} documents, {} components\n",
        task.queries().len(),
        task.corpus().len(),
        task.dim()
    )
}

fn adapter_bytes(dim: usize, bias: bool) -> u64 {
    (linear_len(dim, dim, bias) * size_of::<Lanes>()) as u64
}

fn memory_and_output(options: &TrainOptions, memory: u64, task: &RetrievalTask) -> String {
    let vectors = (task.queries().len() + task.corpus().len()) as u64 * task.dim() as u64 * 4;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "memory: about {:.1} MB for training, beside {:.1} MB of vectors, which are mapped where their files allow it\n\
         nothing is written; without --dry-run {} would be\n",
        megabytes(memory),
        megabytes(vectors),
        options.output.display()
    )
}
