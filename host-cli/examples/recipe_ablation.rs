//! What the recipe `auto` would reach without one of its ingredients: a row of a Markdown table with nDCG@10 on the queries
//! held out in the folds that the last choice is made on, mean over the seeds from 0.
//!
//!     cargo run --release -p host-cli --example recipe_ablation -- TRAIN VALIDATION EMBEDDINGS SEEDS
//!
//! VALIDATION may be `-` for none. No test set is looked at.

use std::path::Path;
use std::process::ExitCode;

use host_cli::auto::choice::{Choice, Machine, choose};
use host_cli::auto::journal::Journal;
use host_cli::auto::plan::{Plan, plan};
use host_cli::auto::trials::{Effort, Trial, trials};
use host_cli::failure::Failure;
use host_cli::fit::Negatives;
use host_cli::parallel::available_threads;
use host_cli::ranking::Index;
use host_cli::retrieval_task::RetrievalTask;
use host_cli::vectors::Embeddings;
use query_adapter::Level;

/// A change of the list of trials; none where it changes nothing.
type Change = fn(Vec<Trial>) -> Option<Vec<Trial>>;

const CHANGES: [(&str, Change); 7] = [
    ("without second-order", |trials| without(trials, |trial| trial.settings.precondition.is_some())),
    ("without AdamW", |trials| without(trials, |trial| trial.settings.precondition.is_none())),
    ("without `corpus`", |trials| without(trials, |trial| negatives(trial) == Some(Negatives::Corpus))),
    ("without `in-batch`", |trials| without(trials, |trial| negatives(trial) == Some(Negatives::InBatch))),
    ("no mean over a run", |mut trials| {
        trials.iter_mut().for_each(|trial| trial.settings.average = false);
        Some(trials)
    }),
    ("`mined` for `corpus`", |trials| in_place_of_corpus(trials, Negatives::Mined)),
    ("`sampled` for `corpus`", |trials| in_place_of_corpus(trials, Negatives::Sampled)),
];

fn negatives(trial: &Trial) -> Option<Negatives> {
    trial.settings.negatives
}

fn without(mut trials: Vec<Trial>, ingredient: fn(&Trial) -> bool) -> Option<Vec<Trial>> {
    let before = trials.len();
    trials.retain(|trial| !ingredient(trial));
    (trials.len() < before && !trials.is_empty()).then_some(trials)
}

fn in_place_of_corpus(mut trials: Vec<Trial>, negatives: Negatives) -> Option<Vec<Trial>> {
    let mut changed = false;
    for trial in trials.iter_mut().filter(|trial| trial.settings.negatives == Some(Negatives::Corpus)) {
        trial.settings.negatives = Some(negatives);
        changed = true;
    }
    changed.then_some(trials)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (files, seeds) = match &arguments[..] {
        [files @ .., seeds] if files.len() == 3 => (files, seeds.parse().unwrap_or(0)),
        _ => (&arguments[..], 0),
    };
    let ([train, validation, embeddings], 1..) = (files, seeds) else {
        eprintln!("usage: recipe_ablation TRAIN VALIDATION EMBEDDINGS SEEDS");
        return ExitCode::from(2);
    };
    let validation = (validation != "-").then(|| Path::new(validation));
    match row(Path::new(train), validation, Path::new(embeddings), seeds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn row(train: &Path, validation: Option<&Path>, embeddings: &Path, seeds: u64) -> Result<(), Failure> {
    let level = Level::detect();
    let machine = Machine { level, threads: available_threads() };
    let embeddings = Embeddings::load(embeddings)?;
    let task = RetrievalTask::load(train, Some(&embeddings))?;
    let index = Index::new(task.corpus(), level)?.with_threads(machine.threads);
    let validation =
        validation.map(|file| RetrievalTask::load(file, Some(&embeddings))).transpose()?.map(|task| {
            let index = Index::new(task.corpus(), level)?.with_threads(machine.threads);
            Ok::<_, Failure>((task, index))
        });
    let validation = validation.transpose()?;

    let columns = ["base", "everything", "no mean of candidates"];
    let columns: Vec<_> = columns.into_iter().chain(CHANGES.map(|(name, _)| name)).collect();
    let mut sums = vec![Some(0.0); columns.len()];
    for seed in 0..seeds {
        let plan = plan(&task, &index, validation.as_ref().map(|(task, index)| (task, index)), seed)?;
        let all = trials(&plan, Effort::Default, seed);
        let whole = chosen(&plan, &index, &all, machine)?;
        let mut add = |column: usize, value: Option<f64>| {
            sums[column] = sums[column].zip(value).map(|(sum, value)| sum + value);
        };
        add(0, Some(whole.base));
        add(1, Some(whole.best));
        add(2, whole.tried.first().map(|best| best.ndcg.max(whole.base)));
        for (column, (_, change)) in (3..).zip(CHANGES) {
            let changed = change(all.clone()).map(|trials| chosen(&plan, &index, &trials, machine));
            add(column, changed.transpose()?.map(|choice| choice.best));
        }
    }
    let values = sums.into_iter().map(|sum| match sum {
        Some(sum) => format!("{:.4}", sum / seeds as f64).trim_start_matches('0').to_owned(),
        None => "–".to_owned(),
    });
    println!("| {} |", columns.join(" | "));
    println!("| {} |", values.collect::<Vec<_>>().join(" | "));
    Ok(())
}

/// The choice of the last round.
fn chosen(plan: &Plan, index: &Index, trials: &[Trial], machine: Machine) -> Result<Choice, Failure> {
    let mut ignore = |_: host_cli::auto::journal::Event<'_>| Ok(());
    let mut journal = Journal::new(None, &mut ignore);
    choose(&plan.last.folds, index, trials, machine, None, &|| (), &mut journal)
}
