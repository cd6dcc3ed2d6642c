//! `evaluate`: figures that can be worked out by hand.

use serde_json::json;

use crate::support::{Folder, levels, number};

/// One query whose answer is second, one whose answer is first; the exchange of the components reverses that.
const DATASET: &str = r#"{
    "queries": {"q1": "a", "q2": "b"},
    "corpus": {"d1": "x", "d2": "y"},
    "relevant_docs": {"q1": ["d2"], "q2": ["d2"]},
    "query_embeddings": {"q1": [1, 0.5], "q2": [0, 1]},
    "corpus_embeddings": {"d1": [2, 0], "d2": [0, 0.5]}
}"#;

#[test]
fn the_base_figures_are_those_of_the_definitions() {
    let folder = Folder::new();
    folder.write("two.json", DATASET);
    let report = folder.json("evaluate two.json");
    let base = &report["base"];
    assert_eq!(report["queries"], json!(2));
    assert_eq!((&base["hit_rate@1"], &base["mrr@10"]), (&json!(0.5), &json!(0.75)));
    // (1 + 1 / log₂ 3) / 2
    assert!((number(base, "/ndcg@10") - 0.815_464_876_785_728_5).abs() < 1e-15);
    assert_eq!(base["precision@10"], json!(0.1));
}

#[cfg(unix)]
#[test]
fn retrievers_and_files_of_any_name_are_shown_as_text() {
    let folder = Folder::new();
    folder.write("two.json", DATASET);
    folder.write("two\u{1b}[2J.json", DATASET);
    for arguments in
        [&["evaluate", "two\u{1b}[2J.json"][..], &["evaluate", "two.json", "--compare", "a\u{1b}[2J="]]
    {
        let printed =
            crate::support::text(&folder.run_with(arguments).assert().success().get_output().stdout);
        assert!(!printed.lines().any(|line| line.contains(char::is_control)), "{printed:?}");
    }
}

#[test]
fn every_simd_level_prints_the_same() {
    let folder = Folder::with_adapter();
    let expected = folder.stdout("evaluate test.json -a a.qad --json");
    for level in levels() {
        let words = format!("evaluate test.json -a a.qad --json --simd {level}");
        assert_eq!(folder.stdout(&words), expected, "{level}");
    }
}
