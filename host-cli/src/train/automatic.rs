//! `train` with the recipe `auto`: nothing to set.

use core::fmt::Write as _;
use core::time::Duration;
use std::time::Instant;

use query_adapter::Level;
use query_adapter::image::{Training, Validation};
use serde_json::json;

use super::{
    TOOL, Tasks, dry_run, index_of, metadata, on_training_queries, page, progress_bar, save,
    save_predictions, split_report, stored, trained_documents,
};
use crate::adapter_file;
use crate::auto::choice::{Choice, Machine, Member, Tried};
use crate::auto::journal::{Event, Journal, State};
use crate::auto::plan::{Plan, plan};
use crate::auto::trials::{Trial, trials};
use crate::auto::verdict::{Finding, MOST_MOVED, Moved, Verdict, moved};
use crate::auto::{self, Outcome};
use crate::checkpoint::Identity;
use crate::config::document;
use crate::failure::Failure;
use crate::fit::{Settings, identity, optimizer_name, require_negatives};
use crate::interrupts;
use crate::options::{RecipeName, TrainOptions};
use crate::parallel::available_threads;
use crate::ranking::Index;
use crate::report::{self, SplitReport, json_object};
use crate::retrieval_task::{Apart, RetrievalTask};
use crate::run_log::RunLog;

/// Runs the recipe; returns what to print on stdout.
///
/// # Errors
///
/// Every [`Failure`]; nothing is written then but the log. [`Failure::NoGain`] comes after the adapter is written.
pub(super) fn run(
    options: &TrainOptions,
    tasks: Tasks,
    level: Level,
    note: &mut dyn FnMut(&str),
    log: &mut Option<RunLog>,
) -> Result<String, Failure> {
    let data = page::Data::of(&tasks);
    let Tasks { train, validation, test, keep, origin } = tasks;
    require_negatives(&train, &Settings::single(), "training pairs")?;
    let threads = options.common.threads.unwrap_or_else(available_threads);
    let machine = Machine { level, threads };
    let index = Index::new(train.corpus(), level)?.with_threads(threads);
    if options.auto.max_seconds.is_some() {
        note("--max-seconds: how much is tried depends on the clock; another run may give another adapter");
    }

    let this_run = || {
        let mut data = vec![("training", &train)];
        data.extend(validation.as_ref().map(|task| ("validation", task)));
        Identity::new(TOOL, &data).with_settings(&json!({
            "recipe": "auto",
            "effort": options.auto.effort,
            "seed": options.seed,
            "max-seconds": options.auto.max_seconds,
        }))
    };
    if options.configuration.dry_run {
        let validation_index =
            validation.as_ref().map(|task| index_of(task, &train, &index, level, threads)).transpose()?;
        let plan = plan(&train, &index, validation.as_ref().zip(validation_index.as_ref()), options.seed)?;
        note_left_out(&plan, validation.as_ref(), note);
        let trials = trials(&plan, options.auto.effort, options.seed);
        return dry_run::auto(options, &plan, &trials, &index, machine);
    }
    let (mut checkpoint, from) = options.checkpoints.open::<State<'_>>(this_run, note)?;
    if let Some(from) = &from {
        note(&format!("--resume: the run goes on with {from}"));
    }
    let mut observe = |event: Event<'_>| {
        if let (Some(log), Some((name, line))) = (log.as_mut(), log_line(event)) {
            log.auto(name, &line)?;
        }
        match (event, &mut checkpoint) {
            (Event::Between(state), Some(checkpoint)) => checkpoint.offer(state),
            (Event::Between(_), None) => interrupts::check(),
            _ => Ok(()),
        }
    };
    let mut journal = Journal::new(from, &mut observe);

    let started = Instant::now();
    let mut run = |train: &RetrievalTask, validation: Option<&RetrievalTask>, what| -> Result<Run, Failure> {
        let validation_index =
            validation.map(|task| index_of(task, train, &index, level, threads)).transpose()?;
        let plan = plan(train, &index, validation.zip(validation_index.as_ref()), options.seed)?;
        let trials = trials(&plan, options.auto.effort, options.seed);
        // After how many fits each round has chosen.
        let mut fits = 0;
        let rounds = plan.outer.iter().map(|outer| &outer.round).chain([&plan.last]);
        let ends: Vec<u64> = rounds
            .map(|round| {
                fits += (round.folds.len() * trials.len()) as u64;
                fits
            })
            .collect();
        let bar = progress_bar(options.common.quiet, "fits");
        bar.set_length(fits);
        // A fit of much data takes a while; the time that is left goes down all the same.
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        let say = |fits: u64| {
            let over = ends.iter().filter(|&&end| end <= fits).count();
            bar.set_message(match plan.outer.len() {
                measured if over < measured => {
                    format!("{what}, to be measured on fold {} of {measured}", over + 1)
                }
                measured if over == measured => format!("{what}, for all queries"),
                _ => "fitting what was chosen".to_owned(),
            });
        };
        say(0);
        let tick = || {
            bar.inc(1);
            say(bar.position());
        };
        let most = options.auto.max_seconds.map(Duration::from_secs_f64);
        let outcome = auto::run(&plan, &index, &trials, machine, most, &tick, &mut journal);
        bar.finish_and_clear();
        Ok(Run { outcome: outcome?, plan, trials })
    };
    let Run { outcome, plan, trials } = run(&train, validation.as_ref(), "choosing")?;
    note_left_out(&plan, validation.as_ref(), note);
    let kept = keep.as_ref().map(|task| moved(&index, task, &outcome.adapter)).transpose()?;
    let verdict = verdict(&outcome, kept);
    let control = if options.auto.control {
        let shuffled = validation.as_ref().map(|task| task.with_shuffled_answers(!options.seed));
        let Run { outcome, .. } =
            run(&train.with_shuffled_answers(options.seed), shuffled.as_ref(), "control")?;
        Some(self::verdict(&outcome, None))
    } else {
        None
    };
    let state = journal.into_state();
    if let Some(checkpoint) = &mut checkpoint {
        checkpoint.save(&state)?;
    }
    let seconds = started.elapsed();

    let chosen = !outcome.choice.members.is_empty();
    let accepted = chosen && (verdict.is_better() || options.auto.accept_uncertain);
    let adapter = if accepted { outcome.adapter } else { identity(train.dim(), false, level)? };
    let test_index = test.as_ref().map(|task| index_of(task, &train, &index, level, threads)).transpose()?;
    let (mut splits, mut measured): (Vec<_>, Vec<page::Measured<'_>>) = (Vec::new(), Vec::new());
    if let Some(all) = outcome.measured {
        splits.push(SplitReport { name: "held out".to_owned(), all, groups: Vec::new() });
        measured.push(("held out", &train, &index));
    }
    if let Some((task, index)) = test.as_ref().zip(test_index.as_ref()) {
        let trained_on = trained_documents(&plan.last.refit_on);
        splits.push(split_report("test", task, index, &adapter, &trained_on)?);
        measured.push(("test", task, index));
    }

    if splits.is_empty() {
        splits.push(on_training_queries(&train, &index, &adapter, note)?);
        measured.push(("train", &train, &index));
    }

    interrupts::check()?;
    let result = Report {
        choice: &outcome.choice,
        trials: &trials,
        plan: &plan,
        verdict: &verdict,
        control: control.as_ref(),
        accepted,
        pairs: plan.last.refit_on.pairs(),
        seconds,
    };
    let training = training(&result, options.seed);
    let settings_text = document(&stored(options, RecipeName::Auto));
    let metadata = metadata(options, origin.as_ref(), training, &train, &settings_text);
    let golden = origin.as_ref().map(|origin| origin.golden_vector.as_slice());
    let bytes = adapter_file::encode(&adapter, metadata, golden)?;
    let page = options.report.is_some().then(|| {
        let (splits, measured) = (&splits, &measured);
        let finished =
            page::Finished { options, data, splits, measured, adapter: &adapter, bytes: &bytes, metadata };
        let automatic = page::Automatic {
            plan: &plan,
            trials: &trials,
            choice: &outcome.choice,
            outer: &outcome.outer,
            verdict: &verdict,
            control: control.as_ref(),
            accepted,
        };
        page::of_auto(finished, &automatic)
    });
    save(options, &bytes, page.transpose()?)?;
    if let (Some(task), Some(index), Some(_)) = (&test, &test_index, &options.predictions) {
        save_predictions(options, task, index, &adapter)?;
    }
    if let Some(log) = log {
        log.finish_auto(&result.value(options))?;
    }
    let printed = if options.common.json {
        format!("{}\n", json_object(&splits, &result.value(options)))
    } else {
        result.text(&splits, options)
    };
    if options.auto.require_gain && !(accepted && verdict.is_better()) {
        return Err(Failure::NoGain { printed, words: verdict.words() });
    }
    Ok(printed)
}

/// Says which queries of a validation set do not count.
fn note_left_out(plan: &Plan, validation: Option<&RetrievalTask>, note: &mut dyn FnMut(&str)) {
    if let (Some(validation), left_out @ 1..) = (validation, plan.left_out) {
        let (file, queries) = (validation.file().display(), validation.queries().len());
        note(&format!("{file}: {left_out} of {queries} queries are training queries too, and are left out"));
    }
}

/// What the log gets to know of a run that is under way.
fn log_line(event: Event<'_>) -> Option<(&'static str, serde_json::Value)> {
    let names = |trials: &[Trial]| trials.iter().map(ToString::to_string).collect::<Vec<_>>();
    match event {
        Event::Start(round, plan, trials) => {
            let task = &plan.last.refit_on;
            let line = json!({
                "tool": TOOL,
                "recipe": "auto",
                "round": round,
                "rounds": plan.outer.len() + 1,
                "folds": plan.last.folds.len(),
                "dim": task.dim(),
                "queries": task.queries().len(),
                "pairs": task.pairs(),
                "documents": task.corpus().len(),
                "trials": names(trials),
            });
            Some(("start", line))
        }
        Event::Trial(round, trial, tried) => {
            let tried =
                tried.iter().map(|tried| json!({"epochs": tried.member.epochs, "ndcg@10": tried.ndcg}));
            let tried: Vec<_> = tried.collect();
            Some(("trial", json!({"round": round, "trial": trial.to_string(), "tried": tried})))
        }
        Event::Round(round, trials, choice) => {
            let Choice { members, base, best, standard_error, part_of_the_way, .. } = choice;
            let chosen = members.iter().filter_map(|member| {
                let trial = trials.get(member.trial)?.to_string();
                Some(json!({"trial": trial, "epochs": member.epochs}))
            });
            let line = json!({
                "round": round,
                "chosen": chosen.collect::<Vec<_>>(),
                "part_of_the_way": part_of_the_way,
                "validation": {"base": base, "best": best, "standard_error": standard_error},
            });
            Some(("round", line))
        }
        Event::Between(_) => None,
    }
}

struct Run {
    outcome: Outcome,
    plan: Plan,
    trials: Vec<Trial>,
}

/// The base chosen by every fold is no evidence of anything; so is a choice that the base won in the end.
fn verdict(outcome: &Outcome, kept: Option<Moved>) -> Verdict {
    let mut verdict = Verdict::new(outcome.measured.as_ref(), outcome.variety, kept);
    if outcome.choice.members.is_empty() && verdict.finding == Finding::Better {
        verdict.finding = Finding::NoEvidence;
    }
    verdict
}

/// What is printed, logged and stored.
struct Report<'a> {
    choice: &'a Choice,
    trials: &'a [Trial],
    plan: &'a Plan,
    verdict: &'a Verdict,
    control: Option<&'a Verdict>,
    accepted: bool,
    pairs: usize,
    seconds: Duration,
}

impl Report<'_> {
    fn value(&self, options: &TrainOptions) -> serde_json::Value {
        let name = |member: &Member| self.trials[member.trial].to_string();
        let tried = self.choice.tried.iter().map(
            |Tried { member, ndcg }| json!({"trial": name(member), "epochs": member.epochs, "ndcg@10": ndcg}),
        );
        let chosen =
            self.choice.members.iter().map(|member| json!({"trial": name(member), "epochs": member.epochs}));
        json!({
            "train": {
                "recipe": "auto",
                "effort": options.auto.effort,
                "seed": options.seed,
                "seconds": self.seconds.as_secs_f64(),
                "pairs": self.pairs,
                "folds": self.plan.last.folds.len(),
                "apart": self.apart(),
                "tried": tried.collect::<Vec<_>>(),
                "chosen": chosen.collect::<Vec<_>>(),
                "part_of_the_way": self.choice.part_of_the_way,
                "validation": {
                    "base": self.choice.base, "best": self.choice.best, "standard_error": self.choice.standard_error
                },
                "kept": if self.accepted { "adapter" } else { "base" },
            },
            "verdict": self.verdict,
            "control": self.control,
        })
    }

    fn apart(&self) -> &'static str {
        match self.plan.apart {
            Some(Apart::Documents) => "documents",
            Some(Apart::Queries) => "queries",
            None => "validation",
        }
    }

    fn text(&self, splits: &[SplitReport], options: &TrainOptions) -> String {
        let mut text = self.tried();
        text += &self.chosen();
        text.push('\n');
        for split in splits {
            text += &split.table();
            text.push('\n');
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "verdict: {}", self.verdict.words());
        if let Some(Moved { queries, first_changed, top_10_changed }) = self.verdict.kept {
            let _ = writeln!(
                text,
                "queries to keep: {first_changed} of {queries} get another first document ({:.0} % may), {top_10_changed} \
                 other documents among the first ten",
                100.0 * MOST_MOVED
            );
        }
        if let Some(control) = self.control {
            let says = if control.is_better() {
                "the labels do not matter to what was measured: do not trust the verdict"
            } else {
                "no gain, as it must be"
            };
            let _ = writeln!(text, "control, labels shuffled: {}; {says}", control.words());
        }
        let output = options.output.display();
        text += &match (self.accepted, self.verdict.is_better()) {
            (true, true) => format!("{output} holds the adapter"),
            (true, false) => format!("{output} holds the adapter all the same (--accept-uncertain)"),
            (false, _) => format!("{output} holds the identity: the base is kept"),
        };
        let _ = writeln!(text, "; {:.1} s", self.seconds.as_secs_f64());
        text
    }

    /// The best stop of each trial, the best first.
    fn tried(&self) -> String {
        let mut table = report::table(["tried", "epochs", "ndcg@10"], [1, 2]);
        let mut shown = vec![false; self.trials.len()];
        for tried in &self.choice.tried {
            if core::mem::replace(&mut shown[tried.member.trial], true) {
                continue;
            }
            let name = self.trials[tried.member.trial].to_string();
            table.add_row([name, tried.member.epochs.to_string(), format!("{:.4}", tried.ndcg)]);
        }
        table.add_row(["base".to_owned(), String::new(), format!("{:.4}", self.choice.base)]);
        let folds = &self.plan.last.folds;
        let queries: usize = folds.iter().map(|fold| fold.held_out.queries().len()).sum();
        let how = match (folds.len(), self.plan.apart) {
            (_, None) => "of the validation set".to_owned(),
            (1, Some(Apart::Documents)) => "held out, about documents that answer no other query".to_owned(),
            (1, Some(Apart::Queries)) => "held out".to_owned(),
            (n, Some(Apart::Documents)) => format!("in {n} folds that share no relevant document"),
            (n, Some(Apart::Queries)) => format!("in {n} folds"),
        };
        format!("{table}\n{} settings at their best, on {queries} queries {how}\n", self.trials.len())
    }

    fn chosen(&self) -> String {
        let Choice { members, base, best, standard_error, part_of_the_way, .. } = self.choice;
        let gain = best - base;
        if members.is_empty() {
            return format!(
                "chosen: the base; the best gain, {gain:+.4}, is within its standard error of {standard_error:.4}\n"
            );
        }
        let of = match members.len() {
            1 => "the best of them".to_owned(),
            n => format!("the mean of {n} of them"),
        };
        let part = if *part_of_the_way < 1.0 {
            format!(", {part_of_the_way} of the way from the base")
        } else {
            String::new()
        };
        let mut text =
            format!("chosen: {of}{part}: {best:.4}, {gain:+.4} (standard error {standard_error:.4})\n");
        for member in members {
            let epochs = if member.epochs == 1 { "epoch" } else { "epochs" };
            let _ = writeln!(text, "  {}, {} {epochs}", self.trials[member.trial], member.epochs);
        }
        text
    }
}

/// The summary in the file: of a mean it names the best member.
#[allow(clippy::cast_possible_truncation, reason = "a rounded figure for people")]
fn training(report: &Report<'_>, seed: u64) -> Training<'static> {
    let best = report.choice.members.first();
    let settings = best.map_or_else(Settings::single, |best| report.trials[best.trial].settings.clone());
    let epochs = best.map_or(0, |best| best.epochs);
    let steps = report.pairs.div_ceil(settings.batch_size as usize) as u64 * u64::from(epochs);
    Training {
        recipe: "auto",
        optimizer: optimizer_name(settings.optimizer.kind),
        epochs,
        kept_epoch: if report.accepted { epochs } else { 0 },
        steps,
        batch_size: settings.batch_size,
        lr: settings.optimizer.lr,
        scale: settings.scale,
        seed,
        pairs: report.pairs as u64,
        validation: Some(Validation {
            base_ndcg_at_10: report.choice.base as f32,
            adapted_ndcg_at_10: if report.accepted { report.choice.best } else { report.choice.base } as f32,
        }),
    }
}
