//! `host-cli train`: load, split, fit, compare, save.

mod automatic;
mod dry_run;
mod keep_set;
mod page;

use core::fmt::Write;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use query_adapter::image::{Metadata, Similarity, Training, Validation};
use query_adapter::{Decay, Level, OptimizerKind};
use serde_json::json;

use crate::adapter_file;
use crate::auto::trials::Effort;
use crate::checkpoint::Identity;
use crate::claims::Claim;
use crate::config::{Setting, document, flat_settings, overlaid};
use crate::dataset::Purpose;
use crate::distinct::{self, ReadPath};
use crate::embed::Origin;
use crate::evaluate::stem;
use crate::failure::Failure;
use crate::files::{check_output, write_atomically};
use crate::fit::{
    Adapter, Event, Fit, FitState, Progress, Recipe, Settings, fit, optimizer_name, require_negatives,
};
use crate::interrupts;
use crate::lint;
use crate::metrics::Metric;
use crate::options::{AutoOptions, OptimizerName, RecipeName, ScheduleName, TrainOptions};
use crate::parallel::available_threads;
use crate::ranking::Index;
use crate::report::{Comparison, SplitReport, json_object};
use crate::retrieval_task::RetrievalTask;
use crate::run_log::RunLog;
use crate::texts::TextKey;
use crate::trec::run;
use crate::vector_source::VectorSource;

/// Name and version of this program, as adapter files have it.
pub(crate) const TOOL: &str = concat!("host-cli ", env!("CARGO_PKG_VERSION"));

/// Share of the queries that a single run splits off for validation.
const VALIDATION_SHARE: f64 = 0.2;

/// How long a progress bar stays as it is.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// Every [`Failure`]; nothing is written then, except that a log that was begun ends with the failure.
pub fn run(options: &TrainOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    let resume = options.checkpoints.resume;
    require_distinct(options)?;
    require_short(options)?;
    if options.configuration.print_config {
        return Ok(document(&effective(options, recipe(options, note)?)));
    }
    page::check(options)?;
    if options.configuration.dry_run {
        check_output(&options.output, options.force)?;
        return run_logged(options, level, note, &mut None);
    }
    let log = options.log.as_ref();
    // Held until all is written.
    let _claims = (
        Claim::take(&options.output, options.force)?,
        log.map(|file| Claim::take(file, options.force || resume)).transpose()?,
        options.checkpoints.claim(options.force)?,
        options.predictions.as_deref().map(|file| Claim::take(file, options.force)).transpose()?,
        options.report.as_ref().map(|file| Claim::take(file, options.force)).transpose()?,
    );
    let mut log =
        log.map(|file| RunLog::create(file, options.force, resume, options.log_every)).transpose()?;
    let mut result = run_logged(options, level, note, &mut log);
    if let Err(Failure::Interrupted { then, .. }) = &mut result
        && then.is_empty()
    {
        *then = how_to_go_on(options);
    }
    if let (Err(failure), Some(log)) = (&result, &mut log) {
        log.finish(Err(failure))?;
    }
    result
}

/// Refuses two outputs in one file, and one in a file that is read.
fn require_distinct(options: &TrainOptions) -> Result<(), Failure> {
    let outputs = [
        ("--output", Some(options.output.as_path())),
        ("--log", options.log.as_deref()),
        ("--report", options.report.as_deref()),
        ("--checkpoint", options.checkpoints.checkpoint.as_deref()),
        ("--predictions", options.predictions.as_deref()),
    ];
    let keep = options.auto.keep.as_deref();
    let datasets =
        [Some(options.train.as_path()), options.validation.as_deref(), options.test.as_deref(), keep];
    // What is to be kept may be a file of vectors.
    let others = [keep.map(ReadPath::Vectors), options.configuration.config.as_deref().map(ReadPath::File)];
    let inputs = datasets.map(|path| path.map(ReadPath::Dataset)).into_iter().chain(others);
    distinct::require_distinct(&outputs, inputs.chain(options.common.inputs()))
}

/// Refuses texts that no adapter file has room for.
fn require_short(options: &TrainOptions) -> Result<(), Failure> {
    let models = &options.common.models;
    let texts = [
        ("--base-model", Some(&options.base_model), Metadata::MAX_BASE_MODEL),
        ("--query-prefix", models.query_prefix.as_ref(), Metadata::MAX_PREFIX),
        ("--document-prefix", models.document_prefix.as_ref(), Metadata::MAX_PREFIX),
    ];
    for (flag, text, most) in texts {
        if let Some(len) = text.map(String::len).filter(|&len| len > most) {
            let problem =
                format!("{flag} has {len} bytes; at most {most} fit into an adapter file; shorten it");
            return Err(Failure::Usage(problem));
        }
    }
    Ok(())
}

/// What to do after an interruption that nothing was saved at.
fn how_to_go_on(options: &TrainOptions) -> String {
    match &options.checkpoints.checkpoint {
        Some(file) if file.exists() => {
            format!(
                "; {} holds the run as it was last saved: the same command with --resume goes on",
                file.display()
            )
        }
        Some(_) => "; nothing was saved yet".to_owned(),
        None => "; nothing was written: with --checkpoint FILE a run can be resumed".to_owned(),
    }
}

/// As [`run`], with the log open, which gets to know of a success.
fn run_logged(
    options: &TrainOptions,
    level: Level,
    note: &mut dyn FnMut(&str),
    log: &mut Option<RunLog>,
) -> Result<String, Failure> {
    let recipe = recipe(options, note)?;
    let tasks = load(options, level, note)?;
    // Before, there is nothing that would be lost.
    interrupts::listen()?;
    match recipe {
        RecipeName::Auto => automatic::run(options, tasks, level, note, log),
        RecipeName::Single => run_once(options, Recipe::Single, tasks, level, note, log),
        RecipeName::Reference => run_once(options, Recipe::Reference, tasks, level, note, log),
    }
}

/// The recipe asked for; a setting of a run asks for a run.
fn recipe(options: &TrainOptions, note: &mut dyn FnMut(&str)) -> Result<RecipeName, Failure> {
    let AutoOptions { max_seconds, accept_uncertain, require_gain, keep, control, effort } = &options.auto;
    let of_auto = [
        ("--effort", *effort != Effort::Default),
        ("--max-seconds", max_seconds.is_some()),
        ("--accept-uncertain", *accept_uncertain),
        ("--require-gain", *require_gain),
        ("--keep", keep.is_some()),
        ("--control", *control),
    ];
    let of_auto = of_auto.into_iter().find_map(|(flag, given)| given.then_some(flag));
    match (options.recipe, options.settings.first_given(), of_auto) {
        (None, Some(setting), Some(flag)) => Err(Failure::Usage(format!(
            "{flag} is for the recipe auto, which chooses its settings itself; leave {setting} or {flag} out"
        ))),
        (Some(RecipeName::Auto), Some(setting), _) => Err(Failure::Usage(format!(
            "the recipe auto chooses its settings itself; leave {setting} out, or use --recipe single"
        ))),
        (Some(RecipeName::Single | RecipeName::Reference), _, Some(flag)) => {
            Err(Failure::Usage(format!("{flag} is for the recipe auto; leave it out, or use --recipe auto")))
        }
        (None, Some(setting), None) => {
            note(&format!("{setting} is given: one run, as --recipe single has it, with this setting"));
            Ok(RecipeName::Single)
        }
        (recipe, ..) => Ok(recipe.unwrap_or(RecipeName::Auto)),
    }
}

/// What there is to train and to measure on.
struct Tasks {
    train: RetrievalTask,
    validation: Option<RetrievalTask>,
    test: Option<RetrievalTask>,
    /// Queries whose rankings must not move, over the documents of `train`.
    keep: Option<RetrievalTask>,
    origin: Option<Origin>,
}

fn load(options: &TrainOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<Tasks, Failure> {
    let common = &options.common;
    let mut source = VectorSource::open(common.embeddings.as_deref(), &common.models, common, level)?;
    let mut load = |purpose, file: &Path| source.load_for(purpose, file, note);
    let train = load(Purpose::Train, &options.train)?;
    let validation = options.validation.as_deref().map(|file| load(Purpose::Validation, file)).transpose()?;
    let test = options.test.as_deref().map(|file| load(Purpose::Test, file)).transpose()?;
    let others: Vec<&RetrievalTask> = validation.iter().chain(&test).collect();
    lint::announce(&train, &others, source.is_by_id(), common.strict, note)?;
    let keep = options.auto.keep.as_deref();
    let keep = keep.map(|file| keep_set::load(file, &mut source, &train, note)).transpose()?;
    let origin = source.origin()?;
    // The tasks have the vectors that they need; the ids of all others need not stay.
    drop(source);
    for other in validation.iter().chain(&test) {
        require_same_dim(&train, other)?;
    }
    if let (Some(test), Some(_)) = (&test, &options.predictions) {
        run::require_ids(test)?;
    }

    Ok(Tasks { train, validation, test, keep, origin })
}

/// One run, with the settings of `recipe` and of the command line.
fn run_once(
    options: &TrainOptions,
    recipe: Recipe,
    tasks: Tasks,
    level: Level,
    note: &mut dyn FnMut(&str),
    log: &mut Option<RunLog>,
) -> Result<String, Failure> {
    let settings = settings(options, recipe);
    let data = page::Data::of(&tasks);
    let Tasks { train: whole, validation: given_validation, test, origin, .. } = tasks;
    require_negatives(&whole, &settings, "training pairs")?;
    let (train, validation) = match given_validation {
        Some(validation) => (whole, Some(validation)),
        None if settings.recipe == Recipe::Reference => (whole, None),
        None => {
            let validation_share = options.settings.validation_share.unwrap_or(VALIDATION_SHARE);
            let (train, validation) = whole.split_by_document(validation_share, options.seed)?;
            note(&format!(
                "no --validation: {} of {} queries are split off by document (seed {}) to choose the epoch on",
                validation.queries().len(),
                whole.queries().len(),
                options.seed
            ));
            let left = "training pairs left by the split for validation (give --validation to keep all)";
            require_negatives(&train, &settings, left)?;
            (train, Some(validation))
        }
    };
    let threads = options.common.threads.unwrap_or_else(available_threads);
    let index = Index::new(train.corpus(), level)?.with_threads(threads);
    let validation = match validation {
        Some(task) => {
            let index = index_of(&task, &train, &index, level, threads)?;
            Some((task, index))
        }
        None => None,
    };

    let chooser = validation.as_ref().map(|(task, index)| (task, index));
    let identity = || {
        let mut data = vec![("training", &train)];
        data.extend(chooser.map(|(task, _)| ("validation", task)));
        Identity::new(TOOL, &data).with_settings(&json!(settings))
    };
    if options.configuration.dry_run {
        return dry_run::single(options, &settings, &train, &index, chooser.map(|(task, _)| task), level);
    }
    let (mut checkpoint, from) = options.checkpoints.open::<FitState<'_>>(identity, note)?;
    if let Some(from) = &from {
        note(&format!("--resume: the run goes on after step {}", from.steps()));
    }

    let started = Instant::now();
    let bar = progress_bar(options.common.quiet, "steps");
    let mut shown: Option<Instant> = None;
    let fitted = fit(&train, &index, chooser, &settings, from.as_ref(), level, |event| {
        if let Some(log) = log {
            log.observe(event, &settings)?;
        }
        match event {
            Event::Start(shapes) => {
                bar.set_length(u64::from(shapes.steps));
                bar.set_position(u64::from(shapes.resumed_after));
                bar.reset_eta();
            }
            // A bar that no one sees, or saw a moment ago, is not worth the words.
            Event::Step(_) if bar.is_hidden() || shown.is_some_and(|shown| shown.elapsed() < SHOWN_EVERY) => {
            }
            Event::Step(Progress { step, epoch, loss, lr, .. }) => {
                bar.set_message(format!("epoch {epoch}/{} loss {loss:.4} lr {lr:.2e}", settings.epochs));
                bar.set_position(u64::from(step));
                shown = Some(Instant::now());
            }
            Event::Epoch(..) => {}
            Event::Between(state) => match &mut checkpoint {
                // The last one in any case: what remains may take long.
                Some(checkpoint) if state.is_over(settings.epochs) => checkpoint.save(state)?,
                Some(checkpoint) => checkpoint.offer(state)?,
                None => interrupts::check()?,
            },
        }
        Ok(())
    });
    bar.finish_and_clear();
    let fitted = fitted?;
    drop(from);
    let seconds = started.elapsed();
    for line in &fitted.notes {
        note(line);
    }

    let trained_on = trained_documents(&train);
    let test_index = test.as_ref().map(|task| index_of(task, &train, &index, level, threads)).transpose()?;
    let mut measured: Vec<page::Measured<'_>> = Vec::new();
    measured.extend(validation.as_ref().map(|(task, index)| ("validation", task, index)));
    measured.extend(test.as_ref().zip(test_index.as_ref()).map(|(task, index)| ("test", task, index)));
    let mut splits = Vec::new();
    for (name, task, index) in &measured {
        splits.push(split_report(name, task, index, &fitted.adapter, &trained_on)?);
    }
    if splits.is_empty() {
        splits.push(on_training_queries(&train, &index, &fitted.adapter, note)?);
        measured.push(("train", &train, &index));
    }
    interrupts::check()?;

    let validation_ndcg = (validation.is_some() && settings.recipe == Recipe::Single)
        .then(|| splits.first().and_then(|split| ndcg_pair(&split.all)))
        .flatten();
    let training = training(&settings, &fitted, validation_ndcg);
    let settings_text = document(&stored(options, recipe.into()));
    let metadata = metadata(options, origin.as_ref(), training, &train, &settings_text);
    let golden = origin.as_ref().map(|origin| origin.golden_vector.as_slice());
    let bytes = adapter_file::encode(&fitted.adapter, metadata, golden)?;
    let page = options.report.is_some().then(|| {
        let (splits, measured) = (&splits, &measured);
        let finished = page::Finished {
            options,
            data,
            splits,
            measured,
            adapter: &fitted.adapter,
            bytes: &bytes,
            metadata,
        };
        page::of_run(finished, &settings, &fitted)
    });
    save(options, &bytes, page.transpose()?)?;
    if let (Some(task), Some(index), Some(_)) = (&test, &test_index, &options.predictions) {
        save_predictions(options, task, index, &fitted.adapter)?;
    }
    if let Some(log) = log {
        log.finish(Ok(&fitted))?;
    }
    Ok(if options.common.json {
        json_text(&splits, &fitted, &settings, seconds)
    } else {
        text(&splits, &fitted, &settings, seconds, &options.output)
    })
}

/// Every setting as it stands, the recipe's own included.
fn effective(options: &TrainOptions, recipe: RecipeName) -> Vec<Setting> {
    overlaid(options.configuration.given.clone(), stored(options, recipe))
}

/// The settings that decide what is written, but for the data: an adapter file holds them.
fn stored(options: &TrainOptions, recipe: RecipeName) -> Vec<Setting> {
    let settings = match recipe {
        RecipeName::Auto => {
            let AutoOptions { max_seconds, accept_uncertain, effort, .. } = &options.auto;
            return flat_settings(&json!({
                "recipe": "auto",
                "effort": effort,
                "seed": options.seed,
                "max-seconds": max_seconds,
                "accept-uncertain": accept_uncertain.then_some(true),
            }));
        }
        RecipeName::Single => settings(options, Recipe::Single),
        RecipeName::Reference => settings(options, Recipe::Reference),
    };
    let mut stored = flat_settings(&json!(settings));
    if settings.optimizer.max_norm == f32::INFINITY {
        // JSON has none.
        stored.push(Setting { key: "clip".to_owned(), literal: "inf".to_owned() });
    }
    if recipe == RecipeName::Single && options.validation.is_none() {
        let share = options.settings.validation_share.unwrap_or(VALIDATION_SHARE);
        stored.extend(flat_settings(&json!({"validation-share": share})));
    }
    stored
}

/// Writes the adapter file, and the page if there is one.
fn save(options: &TrainOptions, adapter: &[u8], page: Option<String>) -> Result<(), Failure> {
    write_atomically(&options.output, options.force, |out| out.write_all(adapter))?;
    if let Some((file, page)) = options.report.as_ref().zip(page) {
        write_atomically(file, options.force, |out| out.write_all(page.as_bytes()))?;
    }
    Ok(())
}

/// The recipe's settings with what the command line says instead.
fn settings(options: &TrainOptions, recipe: Recipe) -> Settings {
    let mut settings = Settings::of(recipe);
    let seed = options.seed;
    let options = &options.settings;
    fn set<T>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    set(&mut settings.epochs, options.epochs);
    set(&mut settings.batch_size, options.batch_size);
    set(&mut settings.scale, options.scale);
    settings.negatives = options.negatives.or(settings.negatives);
    let optimizer = &mut settings.optimizer;
    set(&mut optimizer.lr, options.lr);
    set(&mut optimizer.weight_decay, options.weight_decay);
    set(&mut optimizer.beta1, options.beta1);
    set(&mut optimizer.beta2, options.beta2);
    set(&mut optimizer.eps, options.eps);
    set(&mut optimizer.max_norm, options.clip);
    set(
        &mut optimizer.kind,
        options.optimizer.map(|name| match name {
            OptimizerName::Adamw => OptimizerKind::AdamW,
            OptimizerName::Adam => OptimizerKind::Adam,
            OptimizerName::Sgd => OptimizerKind::Sgd,
        }),
    );
    settings.warmup = options.warmup;
    set(
        &mut settings.schedule,
        options.schedule.map(|name| match name {
            ScheduleName::Linear => Decay::Linear,
            ScheduleName::Cosine => Decay::Cosine,
            ScheduleName::Constant => Decay::Constant,
        }),
    );
    settings.bias = options.bias;
    settings.precondition = options.precondition;
    settings.average = options.average;
    settings.seed = seed;
    settings
}

/// Writes the rankings of the test queries, if they are asked for.
fn save_predictions(
    options: &TrainOptions,
    test: &RetrievalTask,
    index: &Index,
    adapter: &Adapter,
) -> Result<(), Failure> {
    let Some(file) = &options.predictions else { return Ok(()) };
    let rankings = index.rank_with_scores(test, Some(adapter))?;
    run::save(file, options.force, &stem(&options.output), test, &rankings)
}

fn require_same_dim(train: &RetrievalTask, other: &RetrievalTask) -> Result<(), Failure> {
    if train.dim() == other.dim() {
        return Ok(());
    }
    let problem = format!(
        "its vectors have {} components, those of {} have {}; embed all splits with one model",
        other.dim(),
        train.file().display(),
        train.dim()
    );
    Err(Failure::input(other.file(), problem))
}

/// The index of a task's corpus: that of the training corpus where they are the same.
fn index_of(
    task: &RetrievalTask,
    train: &RetrievalTask,
    index: &Index,
    level: Level,
    threads: NonZeroUsize,
) -> Result<Index, Failure> {
    if core::ptr::eq(task.corpus(), train.corpus()) {
        return Ok(index.clone());
    }
    Ok(Index::new(task.corpus(), level)?.with_threads(threads))
}

/// A bar on stderr, if that is a terminal and the user wants one.
fn progress_bar(quiet: bool, what: &'static str) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(None, target);
    // Narrower than the 80 columns of a plain terminal.
    let style = ProgressStyle::with_template("{bar:16} {pos}/{len} {msg} {rate} {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.with_key("rate", move |state: &ProgressState, out: &mut dyn Write| {
        // Slow ones are not none.
        let decimals = usize::from(state.per_sec() < 10.0);
        // Writing to a bar's own line does not fail.
        let _ = write!(out, "{:.decimals$} {what}/s", state.per_sec());
    }));
    bar
}

/// Documents that training has seen as an answer, by id and text: another file's ids may name other documents.
fn trained_documents(train: &RetrievalTask) -> HashSet<(&str, TextKey)> {
    let corpus = train.corpus();
    let positives = train.queries().iter().flat_map(|query| query.positives.iter());
    positives.map(|positive| (corpus.id(positive.document), corpus.text(positive.document))).collect()
}

/// What is shown where there is nothing else to show.
fn on_training_queries(
    train: &RetrievalTask,
    index: &Index,
    adapter: &Adapter,
    note: &mut dyn FnMut(&str),
) -> Result<SplitReport, Failure> {
    note(
        "no queries to measure on: the comparison is on the training queries, which flatters the adapter; give --test",
    );
    let all = Comparison::measure(index, train, Some(adapter))?;
    Ok(SplitReport { name: "train".to_owned(), all, groups: Vec::new() })
}

fn split_report(
    name: &str,
    task: &RetrievalTask,
    index: &Index,
    adapter: &Adapter,
    trained_on: &HashSet<(&str, TextKey)>,
) -> Result<SplitReport, Failure> {
    let all = Comparison::measure(index, task, Some(adapter))?;
    let corpus = task.corpus();
    let seen = |query: usize| {
        let positives = task.query(query).positives;
        positives.iter().any(|p| trained_on.contains(&(corpus.id(p.document), corpus.text(p.document))))
    };
    let mut groups = Vec::new();
    // One group alone would repeat the whole.
    if let (Some(with), Some(without)) = (all.select(seen), all.select(|query| !seen(query))) {
        groups.push(("answers seen in training".to_owned(), with));
        groups.push(("answers unseen".to_owned(), without));
    }
    Ok(SplitReport { name: name.to_owned(), all, groups })
}

fn ndcg_pair(comparison: &Comparison) -> Option<(f64, f64)> {
    let base = comparison.base.mean(Metric::NDCG_AT_10)?;
    Some((base, comparison.adapted.as_ref()?.mean(Metric::NDCG_AT_10)?))
}

fn metadata<'a>(
    options: &'a TrainOptions,
    origin: Option<&'a Origin>,
    training: Training<'a>,
    train: &RetrievalTask,
    settings: &'a str,
) -> Metadata<'a> {
    let models = &options.common.models;
    let prefix = |given: &'a Option<String>, known: Option<&'a String>| {
        known.or(given.as_ref()).map_or("", String::as_str)
    };
    Metadata {
        tool: TOOL,
        base_model: match origin {
            Some(origin) if options.base_model.is_empty() => &origin.model,
            _ => &options.base_model,
        },
        query_prefix: prefix(&models.query_prefix, origin.map(|origin| &origin.query_prefix)),
        document_prefix: prefix(&models.document_prefix, origin.map(|origin| &origin.document_prefix)),
        similarity: Similarity::Cosine,
        normalized: queries_are_normalized(train),
        training: Some(training),
        golden_text: origin.map(|origin| origin.golden_text.as_str()),
        settings: Some(settings),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a rounded figure for people")]
fn training(settings: &Settings, fitted: &Fit, validation: Option<(f64, f64)>) -> Training<'static> {
    Training {
        recipe: recipe_name(settings.recipe),
        optimizer: optimizer_name(settings.optimizer.kind),
        epochs: settings.epochs,
        kept_epoch: fitted.kept_epoch,
        steps: u64::from(fitted.steps),
        batch_size: settings.batch_size,
        lr: settings.optimizer.lr,
        scale: settings.scale,
        seed: settings.seed,
        pairs: fitted.pairs as u64,
        validation: validation.map(|(base, adapted)| Validation {
            base_ndcg_at_10: base as f32,
            adapted_ndcg_at_10: adapted as f32,
        }),
    }
}

impl From<Recipe> for RecipeName {
    fn from(recipe: Recipe) -> Self {
        match recipe {
            Recipe::Single => Self::Single,
            Recipe::Reference => Self::Reference,
        }
    }
}

fn recipe_name(recipe: Recipe) -> &'static str {
    match recipe {
        Recipe::Single => "single",
        Recipe::Reference => "reference",
    }
}

/// Whether all training queries have a norm of 1, as far as `f32` can tell.
fn queries_are_normalized(train: &RetrievalTask) -> bool {
    (0..train.queries().len()).all(|query| {
        let square: f64 = train.query_vector(query).iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        (square - 1.0).abs() < 1e-4
    })
}

fn json_text(splits: &[SplitReport], fitted: &Fit, settings: &Settings, seconds: Duration) -> String {
    let loss: Vec<f64> = fitted.epochs.iter().map(|epoch| epoch.loss).collect();
    let ndcg: Vec<Option<f64>> = fitted.epochs.iter().map(|epoch| epoch.validation_ndcg).collect();
    let train = json!({
        "train": {
            "steps": fitted.steps,
            "epochs": fitted.epochs.len(),
            "seconds": seconds.as_secs_f64(),
            "loss": loss,
            "validation_ndcg@10": ndcg,
            "kept_epoch": fitted.kept_epoch,
            "pairs": fitted.pairs,
            "queries_visited": fitted.queries_visited,
            "settings": settings,
        }
    });
    format!("{}\n", json_object(splits, &train))
}

fn text(
    splits: &[SplitReport],
    fitted: &Fit,
    settings: &Settings,
    seconds: Duration,
    output: &Path,
) -> String {
    let mut text = String::new();
    for split in splits {
        text += &split.table();
        text.push('\n');
    }
    let first = fitted.epochs.first().map_or(f64::NAN, |epoch| epoch.loss);
    let last = fitted.epochs.last().map_or(f64::NAN, |epoch| epoch.loss);
    text += &format!(
        "{} steps on {} pairs of {} queries in {:.1} s; mean loss {first:.4} in the first epoch, {last:.4} in the last\n",
        fitted.steps,
        fitted.pairs,
        fitted.queries_visited,
        seconds.as_secs_f64()
    );
    let worse = splits.iter().filter_map(|split| ndcg_pair(&split.all).map(|pair| (&split.name, pair)));
    for (name, (base, adapted)) in worse {
        if adapted < base {
            text += &format!("the base was better on {name}: nDCG@10 {base:.4} against {adapted:.4}\n");
        }
    }
    text += &match fitted.kept_epoch {
        0 => format!(
            "no epoch was better than the base on validation beyond its standard error: {} holds the identity\n",
            output.display()
        ),
        kept => format!("{} holds the adapter after epoch {kept} of {}\n", output.display(), settings.epochs),
    };
    text
}
