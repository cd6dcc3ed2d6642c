//! `host-cli evaluate --compare`: several retrievers on one data set, a row each, all metrics side by side.

use std::path::Path;

use query_adapter::Level;
use serde_json::{Map, Value, json};

use super::gain_words;
use crate::compare::system::{Retrievers, parse_retriever};
use crate::failure::Failure;
use crate::lint;
use crate::metrics::{Evaluation, Metric};
use crate::options::EvaluateOptions;
use crate::report::{self, SHOWN, gain_interval, printable};

/// A row of the table.
struct Row {
    name: String,
    evaluation: Evaluation,
}

/// Measures the retrievers; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Usage`] for a retriever that is malformed, [`Failure::Input`] for data or an adapter that cannot be used.
pub(super) fn run(
    dataset: &Path,
    options: &EvaluateOptions,
    level: Level,
    note: &mut dyn FnMut(&str),
) -> Result<String, Failure> {
    if options.predictions.is_some() || options.per_query.is_some() {
        let problem =
            "--predictions and --per-query are of one system; leave --compare out, or use host-cli compare";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let retrievers =
        options.compare.iter().map(|text| parse_retriever(text)).collect::<Result<Vec<_>, _>>()?;
    let mut measured = Retrievers::new(dataset, &options.common, &options.judging, level);
    let mut rows: Vec<Row> = Vec::with_capacity(retrievers.len());
    let mut has_grades = false;
    for retriever in &retrievers {
        if rows.iter().any(|row| row.name == retriever.name) {
            let problem =
                format!("--compare names {:?} twice; give each retriever a name of its own", retriever.name);
            return Err(Failure::Usage(problem));
        }
        let (task, evaluation) = measured.evaluate(retriever, note)?;
        if rows.is_empty() {
            lint::note_defects(dataset, task.defects(), note);
            // All have the same labels.
            has_grades = task.has_grades();
        }
        rows.push(Row { name: retriever.name.to_owned(), evaluation });
    }
    let gain = options.judging.rules().gain;
    Ok(if options.common.json {
        format!("{}\n", value(&rows))
    } else {
        table(&rows) + gain_words(gain, has_grades)
    })
}

/// The mean of a metric by its name.
fn mean(evaluation: &Evaluation, name: &str) -> Option<(Metric, f64)> {
    evaluation.means().find(|(metric, _)| metric.to_string() == name)
}

/// Whether a row differs from the first in a metric: the 95 % interval of the difference does not hold 0.
fn significant(first: &Evaluation, row: &Evaluation, metric: Metric) -> bool {
    gain_interval(first, row, metric).is_some_and(|(low, high)| low > 0.0 || high < 0.0)
}

fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let queries = first.evaluation.queries().len();
    let names = SHOWN.iter().map(ToString::to_string);
    let header: Vec<_> = core::iter::once(format!("{queries} queries")).chain(names).collect();
    let mut table = report::table(header, 1..=SHOWN.len());
    for (at, row) in rows.iter().enumerate() {
        let cells = SHOWN.iter().map(|name| match mean(&row.evaluation, name) {
            None => String::new(),
            Some((metric, mean)) => {
                let star = at > 0 && significant(&first.evaluation, &row.evaluation, metric);
                format!("{mean:.4}{}", if star { "*" } else { " " })
            }
        });
        table.add_row(core::iter::once(printable(&row.name)).chain(cells));
    }
    format!(
        "{table}\n* differs from {}: the 95 % interval of the difference, by a paired bootstrap over queries, does not \
         hold 0\n",
        printable(&first.name)
    )
}

fn value(rows: &[Row]) -> Value {
    let Some(first) = rows.first() else { return json!({}) };
    let objects: Vec<Value> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let metrics: Map<String, Value> =
                row.evaluation.means().map(|(metric, mean)| (metric.to_string(), json!(mean))).collect();
            let differs: Vec<&str> = SHOWN
                .into_iter()
                .filter(|name| {
                    at > 0
                        && mean(&row.evaluation, name).is_some_and(|(metric, _)| {
                            significant(&first.evaluation, &row.evaluation, metric)
                        })
                })
                .collect();
            json!({ "name": row.name, "metrics": metrics, "differs": differs })
        })
        .collect();
    json!({ "queries": first.evaluation.queries().len(), "retrievers": objects })
}
