//! Data sets as rows: no bytes make the reader panic, and what is accepted hangs together: every label is one of a row,
//! every text is there once, and the same bytes give the same data set.

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use host_cli::dataset::{Dataset, Labels};
use host_cli::retrieval_task::Judged;
use libfuzzer_sys::fuzz_target;
use query_adapter_fuzz::check_refusal;

const FILE: &str = "fuzz.jsonl";

fuzz_target!(|bytes: &[u8]| {
    let dataset = match Dataset::parse(Path::new(FILE), bytes) {
        Ok(dataset) => dataset,
        Err(failure) => return check_refusal(&failure, FILE),
    };
    for texts in [&dataset.queries, &dataset.corpus] {
        assert_eq!((texts.ids.len(), texts.keys.len()), (texts.texts().len(), texts.ids.len()));
        let distinct: BTreeSet<&str> = texts.ids.iter().collect();
        assert_eq!(distinct.len(), texts.ids.len());
    }
    // An object with sections may label what is not there; rows cannot.
    let is_rows = dataset.mode.is_none() && !bytes.windows(9).any(|window| window == b"\"queries\"");
    for labels in [Some(&dataset.relevant_docs), dataset.negative_docs.as_ref()].into_iter().flatten() {
        check_labels(labels);
        if is_rows {
            assert!(labels.queries.iter().eq(dataset.queries.ids.iter()));
            assert!(labels.documents.iter().eq(dataset.corpus.ids.iter()));
        }
    }
    let again = Dataset::parse(Path::new(FILE), bytes).expect("as before");
    assert_eq!(format!("{dataset:?}"), format!("{again:?}"));
    match Judged::new(dataset) {
        Ok(judged) => {
            let counts = judged.counts();
            assert!(counts.queries > 0 && counts.documents > 0 && counts.labels >= counts.queries);
        }
        Err(failure) => check_refusal(&failure, FILE),
    }
});

fn check_labels(labels: &Labels) {
    for query in labels.queries.iter() {
        for label in labels.of(query).iter() {
            assert!(labels.documents.get(label.document).is_some() && label.grade.abs() <= 1e9);
        }
    }
}
