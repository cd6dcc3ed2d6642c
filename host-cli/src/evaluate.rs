//! `host-cli evaluate`: the base, and an adapter if given, on a data set; or a run file.

mod page;
mod retrievers;

use std::path::Path;

use query_adapter::Level;
use serde_json::{Map, Value, json};

use crate::adapter_file::AdapterFile;
use crate::claims::Claim;
use crate::distinct::{ReadPath, require_distinct};
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::judging::Judgements;
use crate::lint;
use crate::metrics::Gain;
use crate::options::EvaluateOptions;
use crate::parallel::available_threads;
use crate::per_query::{self, PerQuery};
use crate::ranking::Index;
use crate::report::{self, Comparison, SHOWN, SplitReport, json_object, printable};
use crate::report_page;
use crate::trec::run::{self, Run};
use crate::vector_source::VectorSource;

/// What the base is called where systems have names.
pub(crate) const BASE: &str = "base";

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Input`] for data or an adapter that cannot be used; [`Failure::Output`].
pub fn run(options: &EvaluateOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    let outputs = [
        ("--predictions", options.predictions.as_deref()),
        ("--per-query", options.per_query.as_deref()),
        ("--report", options.report.as_deref()),
    ];
    let files = [&options.adapter, &options.run, &options.judging.qrels];
    let files = files.map(|file| file.as_deref().map(ReadPath::File));
    let inputs = files.into_iter().chain([options.dataset.as_deref().map(ReadPath::Dataset)]);
    require_distinct(&outputs, inputs.chain(options.common.inputs()))?;
    let claims = outputs.iter().filter_map(|&(_, file)| file);
    let claims = claims.map(|file| Claim::take(file, options.force));
    let _claims = claims.collect::<Result<Vec<_>, _>>()?;
    if let Some(file) = &options.run {
        return judge_run(file, options, note);
    }
    let Some(path) = options.dataset.as_deref() else {
        return Err(Failure::Usage("give a data set, or --run and --qrels".to_owned()));
    };
    if !options.compare.is_empty() {
        return retrievers::run(path, options, level, note);
    }
    if let Some(page) = &options.report {
        let files: Vec<&Path> =
            [Some(path), options.judging.qrels.as_deref()].into_iter().flatten().collect();
        report_page::check(page, options.force, &files)?;
    }
    let file = options.adapter.as_deref().map(|path| AdapterFile::open(path, level)).transpose()?;
    let common = &options.common;
    let mut source = VectorSource::open(common.embeddings.as_deref(), &common.models, common, level)?;
    if let Some(file) = &file {
        source.require(file, note)?;
    }
    let mut dataset = source.read(path)?;
    options.judging.relabel(&mut dataset)?;
    let task = source.join(dataset, note)?;
    // The task has the vectors that it needs; the ids of all others need not stay.
    drop(source);
    lint::announce(&task, &[], false, common.strict, note)?;
    let adapter = match &file {
        Some(file) => {
            file.require_dim(task.dim())?;
            Some(file.adapter(level)?)
        }
        None => None,
    };
    if options.predictions.is_some() {
        run::require_ids(&task)?;
    }

    let rules = options.judging.rules();
    let threads = options.common.threads.unwrap_or_else(available_threads);
    let index = Index::new(task.corpus(), level)?.with_threads(threads).with_rules(rules);
    let all = Comparison::measure(&index, &task, adapter.as_ref().map(|adapter| adapter as _))?;
    let system = options.adapter.as_deref().map_or_else(|| BASE.to_owned(), stem);
    if let Some(file) = &options.per_query {
        let id = |query: usize| task.query(query).id;
        let mut systems = vec![PerQuery::new(BASE, &all.base, rules.gain, id)?];
        if let Some(adapted) = &all.adapted {
            // A row says whose it is.
            let name = if system == BASE { "adapted" } else { &system };
            systems.push(PerQuery::new(name, adapted, rules.gain, id)?);
        }
        let systems: Vec<&PerQuery> = systems.iter().collect();
        per_query::save(file, options.force, &systems, |_| Vec::new())?;
    }
    if let Some(file) = &options.predictions {
        let rankings = match &adapter {
            Some(adapter) => index.rank_with_scores(&task, Some(adapter))?,
            None => index.rank_with_scores(&task, None)?,
        };
        run::save(file, options.force, &system, &task, &rankings)?;
    }
    let split = SplitReport { name: stem(task.file()), all, groups: Vec::new() };
    if let Some(report) = &options.report {
        let page = page::render((options, path), &split, &task, &index, adapter.as_ref().zip(file.as_ref()))?;
        write_atomically(report, options.force, |out| out.write_all(page.as_bytes()))?;
    }
    Ok(if options.common.json {
        format!("{}\n", json_object(&[split], &json!({ "gain": rules.gain })))
    } else {
        split.table() + gain_words(rules.gain, task.has_grades())
    })
}

/// The name of a file without folder and ending.
pub(crate) fn stem(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A line that says how grades count; nothing where there are none.
pub(crate) fn gain_words(gain: Gain, has_grades: bool) -> &'static str {
    match (has_grades, gain) {
        (false, _) => "",
        (true, Gain::Graded) => "nDCG has graded gain: a document's grade, as in trec_eval\n",
        (true, Gain::Binary) => {
            "nDCG has binary gain: grades above 0 count 1 each (--gain graded counts them)\n"
        }
    }
}

/// Judges a run file.
fn judge_run(file: &Path, options: &EvaluateOptions, note: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    let judgements = Judgements::open(options.dataset.as_deref(), &options.judging, &options.common)?;
    if let Some(dataset) = &options.dataset {
        lint::note_defects(dataset, judgements.defects(), note);
    }
    let rules = options.judging.rules();
    let run = Run::load(file, rules.ties)?;
    let judged = judgements.judge(&run, rules)?;
    judged.notes(&run, note);
    let evaluation = &judged.evaluation;
    if let Some(file) = &options.per_query {
        let rows = PerQuery::new(&run.tag, evaluation, rules.gain, |query| judgements.query(query))?;
        per_query::save(file, options.force, &[&rows], |_| Vec::new())?;
    }
    let ties = evaluation.ties();
    let queries = evaluation.queries().len();
    if options.common.json {
        let means: Map<String, Value> =
            evaluation.means().map(|(metric, mean)| (metric.to_string(), json!(mean))).collect();
        let object = json!({
            "run": run.tag, "metrics": means, "queries": queries, "missing": judged.missing,
            "unjudged": judged.unjudged, "gain": rules.gain, "ties": ties,
        });
        return Ok(format!("{object}\n"));
    }
    let mut table = report::table(
        [stem(file), format!("{} ({queries} queries)", run.tag)].map(|cell| printable(&cell)),
        [1],
    );
    for shown in SHOWN {
        let mean = evaluation.means().find(|(metric, _)| metric.to_string() == shown);
        table.add_row([shown.to_owned(), format!("{:.4}", mean.map_or(f64::NAN, |(_, mean)| mean))]);
    }
    let ties = report::ties_words(&[("", ties)]);
    Ok(format!("{table}\n{ties}{}", gain_words(rules.gain, judgements.has_grades())))
}
