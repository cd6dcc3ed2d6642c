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
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if start.starts_with(b"{") || start.starts_with(b"[") {
        // Values under keys that nobody asks for are not looked at, so they need not even be text.
        return;
    }
    let text = std::str::from_utf8(bytes).expect("columns that are accepted are text");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut judged = 0;
    for (at, line) in text.split('\n').map(str::trim_end).filter(|line| !line.is_empty()).enumerate() {
        let is_there = |columns: Vec<&str>| {
            let [query, .., document, grade] = columns[..] else { return false };
            let Ok(grade) = grade.trim().parse::<f64>() else { return false };
            columns.len() <= 4
                && labels.of(query).iter().any(|label| {
                    labels.documents[label.document] == *document && label.grade.to_bits() == grade.to_bits()
                })
        };
        let found = is_there(line.split('\t').collect()) || is_there(line.split_whitespace().collect());
        assert!(found || at == 0, "{line:?}");
        judged += usize::from(found);
    }
    assert_eq!(judged, listed);
});
