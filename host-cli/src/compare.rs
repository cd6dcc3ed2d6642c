//! `host-cli evaluate --compare`: several retrievers on one data set, a row each.

use std::path::Path;

use query_adapter::{Lanes, Level};
use serde_json::{Map, Value, json};

use crate::adapter_file::AdapterFile;
use crate::failure::Failure;
use crate::metrics::{Evaluation, Metric};
use crate::options::{EvaluateOptions, ModelOptions};
use crate::parallel::available_threads;
use crate::ranking::Index;
use crate::report::{self, SHOWN, gain_interval};
use crate::vector_source::VectorSource;

/// A retriever as the command line names it.
#[derive(Debug, PartialEq, Eq)]
struct Retriever<'a> {
    name: &'a str,
    /// Empty for the source that the other flags name.
    source: &'a str,
    adapter: Option<&'a str>,
}

/// A row of the table.
struct Row {
    name: String,
    evaluation: Evaluation,
}

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Usage`] for a retriever that is malformed, [`Failure::Input`] for data or an adapter that cannot be used.
pub(crate) fn run(
    options: &EvaluateOptions,
    level: Level,
    note: &mut dyn FnMut(&str),
) -> Result<String, Failure> {
    let retrievers = options.compare.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut rows: Vec<Row> = Vec::with_capacity(retrievers.len());
    for retriever in &retrievers {
        if rows.iter().any(|row| row.name == retriever.name) {
            let problem =
                format!("--compare names {:?} twice; give each retriever a name of its own", retriever.name);
            return Err(Failure::Usage(problem));
        }
        let evaluation = evaluate(retriever, options, level, note)?;
        rows.push(Row { name: retriever.name.to_owned(), evaluation });
    }
    Ok(if options.common.json { format!("{}\n", value(&rows)) } else { table(&rows) })
}

fn parse(text: &str) -> Result<Retriever<'_>, Failure> {
    let Some((name, rest)) = text.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
        return Err(Failure::Usage(format!("--compare {text}: expected NAME=SOURCE or NAME=SOURCE+ADAPTER")));
    };
    // A folder's name may have a plus sign in it.
    match rest.rsplit_once('+').filter(|_| rest.is_empty() || !Path::new(rest).exists()) {
        Some((_, "")) => {
            Err(Failure::Usage(format!("--compare {text}: expected an adapter file after the plus sign")))
        }
        Some((source, adapter)) => Ok(Retriever { name, source, adapter: Some(adapter) }),
        None => Ok(Retriever { name, source: rest, adapter: None }),
    }
}

fn evaluate(
    retriever: &Retriever<'_>,
    options: &EvaluateOptions,
    level: Level,
    note: &mut dyn FnMut(&str),
) -> Result<Evaluation, Failure> {
    let common = &options.common;
    let source = Path::new(retriever.source);
    let (folder, models) = if retriever.source.is_empty() {
        (common.embeddings.as_deref(), common.models.clone())
    } else if source.join("corpus.npy").is_file() {
        (Some(source), ModelOptions { model: None, ..common.models.clone() })
    } else {
        let (model, url) = match retriever.source.split_once("@http") {
            Some((model, rest)) => (model, Some(format!("http{rest}"))),
            None => (retriever.source, None),
        };
        (None, ModelOptions { model: Some(model.to_owned()), model_url: url, ..common.models.clone() })
    };
    let mut source = VectorSource::open(folder, &models, common, level)?;
    let adapter = match retriever.adapter {
        Some(path) => {
            let file = AdapterFile::open(Path::new(path), level)?;
            source.require(&file, note)?;
            Some(file)
        }
        None => None,
    };
    let task = source.load(&options.dataset, note)?;
    let index =
        Index::new(task.corpus(), level)?.with_threads(common.threads.unwrap_or_else(available_threads));
    match adapter {
        Some(file) => {
            file.require_in_dim(task.dim(), "the queries")?;
            index.evaluate(&task, Some(&file.adapter(level)?))
        }
        None => index.evaluate::<Vec<Lanes>>(&task, None),
    }
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
        table.add_row(core::iter::once(row.name.clone()).chain(cells));
    }
    format!(
        "{table}\n* differs from {}: the 95 % interval of the difference, by a paired bootstrap over queries, does not \
         hold 0\n",
        first.name
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retrievers_are_read_from_the_command_line() {
        let parts =
            |text| parse(text).map(|r| (r.name, r.source, r.adapter)).map_err(|failure| failure.exit_code());
        assert_eq!(parts("base="), Ok(("base", "", None)));
        assert_eq!(parts("tuned=+a.qad"), Ok(("tuned", "", Some("a.qad"))));
        assert_eq!(parts("x=BAAI/bge+b.qad"), Ok(("x", "BAAI/bge", Some("b.qad"))));
        assert_eq!(parts("x=m@http://h/v1"), Ok(("x", "m@http://h/v1", None)));
        for text in ["x", "=y", " =y", "x=y+"] {
            assert_eq!(parts(text), Err(2), "{text}");
        }
    }
}
