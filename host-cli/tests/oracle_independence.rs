//! The oracle is worth something only as long as it shares nothing with what it judges.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the checks may name of the kernel: what they check, and what it takes to call it.
const CHECKED: &[&str] = &[
    "Anchor",
    "Batch",
    "Decay",
    "LANES",
    "Lanes",
    "Level",
    "Documents",
    "Linear",
    "Mask",
    "MaskEntry",
    "NormForm",
    "Optimizer",
    "OptimizerKind",
    "PanelMatrix",
    "Schedule",
    "Trainer",
    "cosine_scores",
    "math",
    "norm_form",
    "normalize_rows",
    "panel_len",
    "sample",
    "scratch_len",
    // The random generator, for cases and for random rounding.
    "Generator",
    // The reports of a step.
    "StepReport",
];

#[test]
fn the_oracle_names_nothing_of_this_project() {
    let source = code_of(&source_folder().join("oracle.rs"));
    for name in ["query_adapter", "host_cli", "crate", "super", "std"] {
        assert!(!words(&source).any(|word| word == name), "oracle.rs names {name}");
    }
    let crates: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("use "))
        .filter_map(|path| path.split("::").next())
        .collect();
    assert_eq!(crates, BTreeSet::from(["core", "nalgebra"]));
    assert!(!source.contains("f32"), "the oracle computes in f64 alone");
}

#[test]
fn the_model_of_rounding_takes_nothing_but_random_numbers_from_the_kernel() {
    let source = code_of(&source_folder().join("check").join("rounding.rs"));
    let names = names_of_the_kernel(&source);
    assert_eq!(names, BTreeSet::from(["sample".to_owned(), "Generator".to_owned()]));
}

#[test]
fn the_checks_name_only_what_they_check() {
    let folder = source_folder().join("check");
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut seen = 0;
    for file in files.chain([source_folder().join("check.rs")]) {
        for name in names_of_the_kernel(&code_of(&file)) {
            assert!(CHECKED.contains(&name.as_str()), "{} names {name} of the kernel", file.display());
            seen += 1;
        }
    }
    assert!(seen > CHECKED.len(), "the files name the kernel: {seen}");
}

/// The names that a file takes from the kernel, by `use` statements alone.
fn names_of_the_kernel(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = source;
    while let Some(start) = rest.find("query_adapter") {
        // Another crate, whose name begins with the kernel's.
        if let Some(other) = rest[start + "query_adapter".len()..].strip_prefix('_') {
            rest = other;
            continue;
        }
        assert!(rest[..start].ends_with("use "), "the kernel is named outside of a `use` statement");
        let statement = &rest[start + "query_adapter".len()..];
        let end = statement.find(';').expect("the end of a statement");
        assert!(!statement[..end].contains('*'), "a `use` of everything");
        names.extend(words(&statement[..end]).map(str::to_owned));
        rest = &statement[end..];
    }
    names
}

/// Identifiers and numbers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// A file without its comments; there are no `//` in its strings.
fn code_of(file: &Path) -> String {
    let source = fs::read_to_string(file).expect("a source file");
    let lines = source.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
