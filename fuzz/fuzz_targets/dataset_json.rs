//! The data set file: no text makes the reader or the join panic, what is accepted is JSON, every number is the `f32`
//! nearest to its decimal digits, and what is joined is consistent.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use host_cli::dataset::Dataset;
use host_cli::retrieval_task::RetrievalTask;
use host_cli::vectors::Vectors;
use libfuzzer_sys::fuzz_target;
use query_adapter::MAX_DIM;
use query_adapter_fuzz::{check_refusal, same};
use serde::Deserialize;
use serde_json::value::RawValue;

const FILE: &str = "fuzz.json";

/// The same file as a plain reader sees it, with numbers as they are written.
#[derive(Deserialize)]
struct Plain<'a> {
    queries: BTreeMap<String, String>,
    corpus: BTreeMap<String, String>,
    #[serde(borrow)]
    query_embeddings: Option<BTreeMap<String, Vec<&'a RawValue>>>,
    #[serde(borrow)]
    corpus_embeddings: Option<BTreeMap<String, Vec<&'a RawValue>>>,
}

fuzz_target!(|bytes: &[u8]| {
    let dataset = match Dataset::parse(Path::new(FILE), bytes) {
        Ok(dataset) => dataset,
        Err(failure) => return check_refusal(&failure, FILE),
    };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Ok(plain) = serde_json::from_slice::<Plain<'_>>(text) else {
        // Rows of known keys are a data set too; `dataset_rows` looks at those.
        let first = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>().next();
        let first = first.and_then(Result::ok).expect("what is accepted is JSON");
        assert!(first.get("queries").is_none(), "an object that a plain reader cannot read");
        return;
    };
    for (texts, expected) in [(&dataset.queries, plain.queries), (&dataset.corpus, plain.corpus)] {
        assert_eq!(texts.ids.len(), expected.len());
        let pairs = texts.ids.iter().zip(texts.texts());
        let found: BTreeMap<_, _> = pairs.map(|(id, text)| (id.to_string(), text.to_string())).collect();
        assert_eq!(found, expected);
    }
    check_vectors(dataset.query_embeddings.as_ref(), plain.query_embeddings);
    check_vectors(dataset.corpus_embeddings.as_ref(), plain.corpus_embeddings);
    match RetrievalTask::join(dataset, None) {
        Ok(task) => check_task(&task),
        Err(failure) => check_refusal(&failure, FILE),
    }
});

fn check_vectors(found: Option<&Vectors>, expected: Option<BTreeMap<String, Vec<&RawValue>>>) {
    assert_eq!(found.is_some(), expected.is_some());
    let (Some(found), Some(expected)) = (found, expected) else { return };
    assert_eq!(found.len(), expected.len());
    for (id, numbers) in &expected {
        let row = found.row(found.index_of(id).expect("every id has a row"));
        assert_eq!((row.len(), found.dim()), (numbers.len(), numbers.len()));
        for (&component, number) in row.iter().zip(numbers) {
            let nearest: f32 = number.get().parse().expect("a number");
            assert!(component.is_finite() && same(component, nearest), "{id:?}: {component:e} for {number}");
        }
    }
}

fn check_task(task: &RetrievalTask) {
    let corpus = task.corpus();
    let documents = u32::try_from(corpus.len()).expect("few documents");
    assert!(documents >= 1 && (1..=MAX_DIM).contains(&task.dim()) && !task.queries().is_empty());
    for document in 0..documents {
        assert_eq!(corpus.index_of(corpus.id(document)), Some(document));
        assert_eq!(corpus.vector(document).len(), task.dim());
        assert!(corpus.text_group(document) <= document);
    }
    let ranks: BTreeSet<u32> = corpus.byte_ranks().iter().copied().collect();
    assert!(ranks.into_iter().eq(0..documents));
    for (index, query) in task.queries().iter().enumerate() {
        assert_eq!(task.query_vector(index).len(), task.dim());
        let positives: BTreeSet<u32> = query.positives.iter().map(|positive| positive.document).collect();
        assert_eq!(positives.len(), query.positives.len(), "no positive twice");
        assert!(!positives.is_empty() && query.positives.iter().all(|positive| positive.grade > 0.0));
        let negatives: BTreeSet<u32> = query.negatives.iter().copied().collect();
        assert_eq!(negatives.len(), query.negatives.len(), "no negative twice");
        assert!(positives.is_disjoint(&negatives));
        assert!(positives.union(&negatives).all(|document| *document < documents));
    }
    for defect in task.defects().iter() {
        let line = defect.to_string();
        assert!(defect.count > 0 && !line.contains(char::is_control), "{line:?}");
    }
    if let Ok((rest, part)) = task.split_by_document(0.5, 7) {
        let groups = |task: &RetrievalTask| -> BTreeSet<u32> {
            let positives = task.queries().iter().flat_map(|query| query.positives.documents());
            positives.map(|&document| corpus.text_group(document)).collect()
        };
        assert_eq!(rest.queries().len() + part.queries().len(), task.queries().len());
        assert!(!rest.queries().is_empty() && !part.queries().is_empty());
        assert!(groups(&rest).is_disjoint(&groups(&part)), "a document on both sides");
    }
}
