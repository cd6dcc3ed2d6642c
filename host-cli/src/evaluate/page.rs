//! The report page of an evaluation.

use std::path::Path;

use serde_json::json;

use crate::adapter_file::{AdapterFile, StoredAdapter};
use crate::dataset::Purpose;
use crate::failure::Failure;
use crate::options::EvaluateOptions;
use crate::ranking::Index;
use crate::report::SplitReport;
use crate::report_page::fingerprint::{Fingerprint, file_name};
use crate::report_page::{self, Contents, Evidence, LookedAt, Part, Subject};
use crate::retrieval_task::RetrievalTask;

/// The page.
pub(super) fn render(
    (options, path): (&EvaluateOptions, &Path),
    split: &SplitReport,
    task: &RetrievalTask,
    index: &Index,
    adapter: Option<(&StoredAdapter, &AdapterFile)>,
) -> Result<String, Failure> {
    let parts = vec![Part { task, index, adapter: adapter.map(|(adapter, _)| adapter as _) }];
    let dataset = file_name(task.file());
    let defects = report_page::defects_of(task).collect();
    let about = report_page::counted(split.all.base.queries().len(), task.corpus().len());
    let about = format!("evaluated on {about} of {} components", task.dim());
    let mut settings = vec![("data".to_owned(), report_page::size_of(task))];
    let mut files = Fingerprint::of_all("data", path)?;
    if let Some(folder) = &options.common.embeddings {
        files.extend(Fingerprint::of_vectors(folder)?);
    }
    if let Some(file) = &options.judging.qrels {
        files.push(Fingerprint::of_file("judgements", file)?);
        let gain = json!(options.judging.rules().gain);
        settings.push(("gain".to_owned(), gain.as_str().unwrap_or_default().to_owned()));
    }
    let mut title = dataset.clone();
    if let Some((_, file)) = adapter {
        title = format!("{} on {dataset}", file_name(file.path()));
        files.push(Fingerprint::of("adapter", file.path(), file.bytes()));
        let image = file.image()?;
        let metadata = image.metadata();
        settings.push(("adapter written by".to_owned(), metadata.tool.to_owned()));
        settings.extend(metadata.training.as_ref().map(|training| {
            let kept =
                format!("recipe {}, seed {}, {} pairs", training.recipe, training.seed, training.pairs);
            ("adapter trained by".to_owned(), kept)
        }));
        settings.extend(report_page::model_of(metadata));
    }
    report_page::render(&Contents {
        title,
        about,
        subject: if adapter.is_some() { Subject::Adapter } else { Subject::BaseAlone },
        evidence: Evidence::Unseen,
        splits: vec![split],
        looked_at: LookedAt {
            comparison: &split.all,
            parts,
            datasets: vec![(path, Purpose::Test)],
            reading: &options.common.reading,
        },
        verdict: None,
        curves: Vec::new(),
        tried: Vec::new(),
        settings,
        files,
        defects,
    })
}
