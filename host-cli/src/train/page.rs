//! The report page of a training run.

use std::path::{Path, PathBuf};

use query_adapter::image::Metadata;
use serde_json::{Value, json};

use super::Tasks;
use crate::auto::choice::Choice;
use crate::auto::plan::Plan;
use crate::auto::trials::Trial;
use crate::auto::verdict::Verdict;
use crate::dataset::Purpose;
use crate::failure::Failure;
use crate::fit::{Adapter, Fit, Recipe, Settings};
use crate::metrics::Metric;
use crate::options::TrainOptions;
use crate::ranking::Index;
use crate::report::SplitReport;
use crate::report_page::curves::{TriedSettings, loss, tried, tried_settings, validation};
use crate::report_page::fingerprint::{Fingerprint, file_name};
use crate::report_page::{self, Contents, Evidence, LookedAt, Part, Subject};
use crate::retrieval_task::RetrievalTask;

/// Checks before any work that the page can be written.
pub(super) fn check(options: &TrainOptions) -> Result<(), Failure> {
    let Some(page) = &options.report else { return Ok(()) };
    let files = [
        Some(&options.train),
        options.validation.as_ref(),
        options.test.as_ref(),
        options.auto.keep.as_ref(),
    ];
    let files: Vec<&Path> = files.into_iter().flatten().map(PathBuf::as_path).collect();
    report_page::check(page, options.force, &files)
}

/// What is known of the data before a run takes them apart.
pub(super) struct Data {
    rows: Vec<(String, String)>,
    defects: Vec<String>,
}

impl Data {
    pub(super) fn of(tasks: &Tasks) -> Self {
        let Tasks { train, validation, test, .. } = tasks;
        let splits =
            [("training data", Some(train)), ("validation", validation.as_ref()), ("test", test.as_ref())];
        let mut data = Self { rows: Vec::new(), defects: Vec::new() };
        for (role, task) in splits.into_iter().filter_map(|(role, task)| Some((role, task?))) {
            data.rows.push((role.to_owned(), report_page::size_of(task)));
            data.defects.extend(report_page::defects_of(task));
        }
        data
    }
}

/// A query set and what it was measured as.
pub(super) type Measured<'a> = (&'a str, &'a RetrievalTask, &'a Index);

/// What all recipes know at the end.
pub(super) struct Finished<'a> {
    pub(super) options: &'a TrainOptions,
    pub(super) data: Data,
    /// Each split, and what it was measured on, in the same order.
    pub(super) splits: &'a [SplitReport],
    pub(super) measured: &'a [Measured<'a>],
    pub(super) adapter: &'a Adapter,
    /// The adapter file.
    pub(super) bytes: &'a [u8],
    pub(super) metadata: Metadata<'a>,
}

/// What the recipe `auto` knows beside that.
pub(super) struct Automatic<'a> {
    pub(super) plan: &'a Plan,
    pub(super) trials: &'a [Trial],
    pub(super) choice: &'a Choice,
    /// The adapters of the outer folds.
    pub(super) outer: &'a [Adapter],
    pub(super) verdict: &'a Verdict,
    pub(super) control: Option<&'a Verdict>,
    pub(super) accepted: bool,
}

/// The page of a single run.
pub(super) fn of_run(finished: Finished<'_>, settings: &Settings, fitted: &Fit) -> Result<String, Failure> {
    let of_validation = finished.splits.iter().find(|split| split.name == "validation");
    let base = of_validation.and_then(|split| split.all.base.mean(Metric::NDCG_AT_10));
    let chosen = settings.recipe == Recipe::Single;
    let mut curves = vec![loss(&fitted.losses, &fitted.epochs)];
    curves.extend(base.and_then(|base| validation(&fitted.epochs, base, fitted.kept_epoch)));
    let mut rows = Vec::new();
    flatten(&json!(settings), &mut rows);
    for (name, number) in [
        ("kept epoch", u64::from(fitted.kept_epoch)),
        ("steps", u64::from(fitted.steps)),
        ("pairs", fitted.pairs as u64),
        ("queries visited", fitted.queries_visited as u64),
    ] {
        rows.push((name.to_owned(), number.to_string()));
    }
    let at = finished.splits.len() - 1;
    let (name, task, index) = finished.measured[at];
    let contents = Outline {
        recipe: if chosen { "single" } else { "reference" },
        subject: if fitted.kept_epoch == 0 { Subject::Refused } else { Subject::Adapter },
        evidence: match name {
            "train" => Evidence::TrainedOn,
            "validation" if chosen => Evidence::Chose,
            _ => Evidence::Unseen,
        },
        at,
        parts: vec![Part { task, index, adapter: Some(finished.adapter) }],
        verdict: None,
        curves,
        tried: Vec::new(),
        rows,
    };
    contents.render(finished)
}

/// The page of the recipe `auto`. What was refused is shown as well, on the queries held out.
pub(super) fn of_auto(finished: Finished<'_>, automatic: &Automatic<'_>) -> Result<String, Failure> {
    let Automatic { plan, trials, choice, outer, verdict, control, accepted } = automatic;
    let at = if *accepted { finished.splits.len() - 1 } else { 0 };
    let (name, task, index) = finished.measured[at];
    let parts = match name {
        "held out" => plan
            .outer
            .iter()
            .zip(*outer)
            .map(|(fold, adapter)| Part {
                task: &fold.measured,
                index: &fold.measured_index,
                adapter: Some(adapter),
            })
            .collect(),
        _ => vec![Part { task, index, adapter: Some(finished.adapter) }],
    };
    let mut rows = vec![
        ("effort".to_owned(), json!(finished.options.auto.effort).as_str().unwrap_or_default().to_owned()),
        ("seed".to_owned(), finished.options.seed.to_string()),
    ];
    if let Some(seconds) = finished.options.auto.max_seconds {
        rows.push((
            "tried for at most".to_owned(),
            format!("{seconds} s: another run may give another adapter"),
        ));
    }
    let queries: usize = plan.last.folds.iter().map(|fold| fold.held_out.queries().len()).sum();
    rows.push(("tried".to_owned(), format!("{} settings on {queries} queries", trials.len())));
    for member in &choice.members {
        let epochs = if member.epochs == 1 { "epoch" } else { "epochs" };
        let chosen = format!("{}, {} {epochs}", trials[member.trial], member.epochs);
        rows.push(("chosen".to_owned(), chosen));
    }
    if choice.members.is_empty() {
        rows.push(("chosen".to_owned(), "the base".to_owned()));
    }
    if choice.part_of_the_way < 1.0 {
        rows.push(("part of the way from the base".to_owned(), choice.part_of_the_way.to_string()));
    }
    rows.push(("pairs".to_owned(), plan.last.refit_on.pairs().to_string()));
    rows.push(("verdict".to_owned(), verdict.words()));
    if let Some(kept) = verdict.kept {
        let moved = format!("{} of {} get another first document", kept.first_changed, kept.queries);
        rows.push(("queries to keep".to_owned(), moved));
    }
    rows.extend(control.map(|control| ("control, labels shuffled".to_owned(), control.words())));
    let outline = Outline {
        recipe: "auto",
        subject: if *accepted { Subject::Adapter } else { Subject::Refused },
        evidence: match name {
            "train" => Evidence::TrainedOn,
            "held out" => Evidence::HeldOut,
            _ => Evidence::Unseen,
        },
        at,
        parts,
        verdict: Some(verdict),
        curves: tried(choice, trials).into_iter().collect(),
        tried: tried_settings(choice, trials),
        rows,
    };
    outline.render(finished)
}

/// What differs between recipes.
struct Outline<'a> {
    recipe: &'static str,
    subject: Subject,
    evidence: Evidence,
    /// The split to look at.
    at: usize,
    parts: Vec<Part<'a>>,
    verdict: Option<&'a Verdict>,
    curves: Vec<report_page::Chart>,
    tried: Vec<TriedSettings>,
    rows: Vec<(String, String)>,
}

impl Outline<'_> {
    fn render(self, finished: Finished<'_>) -> Result<String, Failure> {
        let Finished { options, data, splits, bytes, metadata, .. } = finished;
        let looked_at = &splits[self.at];
        let others = splits.iter().enumerate().filter(|&(at, _)| at != self.at).map(|(_, split)| split);
        let train = options.train.as_path();
        let given = [options.validation.as_deref(), options.test.as_deref()];
        // The queries of a test have their own file; all others are from the training data or the validation set.
        let trained_on = (train, Purpose::Train);
        let (of_split, datasets) = match (looked_at.name.as_str(), given) {
            ("test", [_, Some(test)]) => (test, vec![(test, Purpose::Test)]),
            ("validation", [Some(validation), _]) => (validation, vec![(validation, Purpose::Validation)]),
            (_, [Some(validation), _]) => (train, vec![trained_on, (validation, Purpose::Validation)]),
            _ => (train, vec![trained_on]),
        };
        let mut rows = vec![("recipe".to_owned(), self.recipe.to_owned())];
        rows.extend(self.rows.into_iter().filter(|(name, _)| name != "recipe"));
        rows.extend(data.rows);
        rows.extend(report_page::model_of(&metadata));

        let mut fingerprints = Fingerprint::of_all("training data", train)?;
        for (role, file) in [("validation", given[0]), ("test", given[1])] {
            if let Some(file) = file {
                fingerprints.extend(Fingerprint::of_all(role, file)?);
            }
        }
        if let Some(folder) = &options.common.embeddings {
            fingerprints.extend(Fingerprint::of_vectors(folder)?);
        }
        if let Some(file) = &options.auto.keep {
            fingerprints.push(Fingerprint::of_file("queries to keep", file)?);
        }
        fingerprints.push(Fingerprint::of("adapter", &options.output, bytes));

        let task = self.parts.first().map(|part| part.task);
        report_page::render(&Contents {
            title: format!("{} on {}", file_name(&options.output), file_name(of_split)),
            about: format!(
                "trained on {} by the recipe {}, seed {} · {} of {} components",
                file_name(train),
                self.recipe,
                options.seed,
                report_page::counted(
                    looked_at.all.base.queries().len(),
                    task.map_or(0, |task| task.corpus().len())
                ),
                task.map_or(0, RetrievalTask::dim),
            ),
            subject: self.subject,
            evidence: self.evidence,
            splits: core::iter::once(looked_at).chain(others).collect(),
            looked_at: LookedAt {
                comparison: &looked_at.all,
                parts: self.parts,
                datasets,
                reading: &options.common.reading,
            },
            verdict: self.verdict,
            curves: self.curves,
            tried: self.tried,
            settings: rows,
            files: fingerprints,
            defects: data.defects,
        })
    }
}

/// The fields of a JSON object as rows, those of objects in it too; what is not set is left out.
fn flatten(value: &Value, rows: &mut Vec<(String, String)>) {
    let Value::Object(object) = value else { return };
    for (key, value) in object {
        let name = key.replace('_', " ");
        match value {
            Value::Object(_) => flatten(value, rows),
            Value::Null | Value::Bool(false) => {}
            Value::Bool(true) => rows.push((name, "yes".to_owned())),
            Value::String(text) => rows.push((name, text.clone())),
            value => rows.push((name, value.to_string())),
        }
    }
}
