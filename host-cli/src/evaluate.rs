//! `host-cli evaluate`: the base, and an adapter if given, on a data set.

use query_adapter::Level;
use serde_json::json;

use crate::adapter_file::AdapterFile;
use crate::compare;
use crate::failure::Failure;
use crate::options::EvaluateOptions;
use crate::parallel::available_threads;
use crate::ranking::Index;
use crate::report::{Comparison, SplitReport, json_object};
use crate::vector_source::VectorSource;

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Input`] for data or an adapter that cannot be used.
pub fn run(options: &EvaluateOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    if !options.compare.is_empty() {
        return compare::run(options, level, note);
    }
    let file = options.adapter.as_deref().map(|path| AdapterFile::open(path, level)).transpose()?;
    let common = &options.common;
    let mut source = VectorSource::open(common.embeddings.as_deref(), &common.models, common, level)?;
    if let Some(file) = &file {
        source.require(file, note)?;
    }
    let task = source.load(&options.dataset, note)?;
    // The task has the vectors that it needs; the ids of all others need not stay.
    drop(source);
    for defect in task.defects().iter() {
        note(&format!("{}: {defect}", options.dataset.display()));
    }
    let adapter = match &file {
        Some(file) => {
            file.require_in_dim(task.dim(), "the queries")?;
            Some(file.adapter(level)?)
        }
        None => None,
    };

    let threads = options.common.threads.unwrap_or_else(available_threads);
    let index = Index::new(task.corpus(), level)?.with_threads(threads);
    let all = Comparison::measure(&index, &task, adapter.as_ref())?;
    let name =
        options.dataset.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let split = SplitReport { name, all, groups: Vec::new() };
    Ok(if options.common.json { format!("{}\n", json_object(&[split], &json!({}))) } else { split.table() })
}
