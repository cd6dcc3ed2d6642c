//! Files of judgements: no bytes make the reader panic, and those of columns are what a reader of one line at a time makes
//! of them.

#![no_main]

use std::path::Path;

use host_cli::qrels;
use libfuzzer_sys::fuzz_target;
use query_adapter_fuzz::check_refusal;

fuzz_target!(|bytes: &[u8]| {
    let labels = match qrels::parse(Path::new("fuzz.tsv"), bytes) {
        Ok(labels) => labels,
        Err(failure) => return check_refusal(&failure, "fuzz.tsv"),
    };
    let listed: usize = labels.queries.iter().map(|query| labels.of(query).len()).sum();
    assert!(listed > 0 || bytes.contains(&b'{'));
    let text = std::str::from_utf8(bytes).expect("what is accepted is text");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        return;
    }
    let mut judged = 0;
    for line in text.split('\n') {
        let columns: Vec<&str> =
            if line.contains('\t') { line.split('\t').collect() } else { line.split_whitespace().collect() };
        let (Some(query), Some(grade)) = (columns.first(), columns.last()) else { continue };
        let Some(document) = columns.len().checked_sub(2).and_then(|at| columns.get(at)) else { continue };
        let Ok(grade) = grade.trim().parse::<f64>() else { continue };
        let found = labels.of(query).iter().any(|label| {
            labels.documents[label.document] == **document && label.grade.to_bits() == grade.to_bits()
        });
        assert!(found, "{query:?} {document:?} {grade}");
        judged += 1;
    }
    assert_eq!(judged, listed);
});
