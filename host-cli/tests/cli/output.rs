//! What `train` and `evaluate` print: tables, JSON, notes.

use serde_json::{Value, json};

use crate::support::{Folder, number, text};

/// The metrics of the table, in its order.
const ROWS: [&str; 8] =
    ["hit_rate@1", "hit_rate@5", "hit_rate@10", "mrr@5", "mrr@10", "ndcg@10", "recall@10", "map@100"];

/// The metrics of JSON, sorted.
const METRICS: [&str; 16] = [
    "hit_rate@1",
    "hit_rate@10",
    "hit_rate@3",
    "hit_rate@5",
    "map@100",
    "mrr@10",
    "mrr@5",
    "ndcg@10",
    "precision@1",
    "precision@10",
    "precision@3",
    "precision@5",
    "recall@1",
    "recall@10",
    "recall@3",
    "recall@5",
];

/// The keys of one comparison in JSON, sorted.
const COMPARISON: [&str; 8] = ["adapted", "base", "delta", "interval", "lost", "queries", "ties", "won"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Asserts that `value` is a comparison and nothing more, apart from `others`.
fn assert_comparison(value: &Value, others: &[&str]) {
    let mut expected: Vec<&str> = COMPARISON.iter().chain(others).copied().collect();
    expected.sort_unstable();
    assert_eq!(keys(value), expected);
    for part in ["base", "adapted", "delta"] {
        assert_eq!(keys(&value[part]), METRICS, "{part}");
    }
    for metric in METRICS {
        let [base, adapted, delta] =
            ["base", "adapted", "delta"].map(|part| value[part][metric].as_f64().expect("a number"));
        assert_eq!(delta, adapted - base, "{metric}");
        assert!((0.0..=1.0).contains(&base) && (0.0..=1.0).contains(&adapted), "{metric}");
    }
    let interval = value["interval"]["ndcg@10"].as_array().expect("a list");
    assert!(interval.len() == 2 && interval[0].as_f64() <= interval[1].as_f64());
}

fn assert_train(train: &Value) {
    let expected = [
        "epochs",
        "kept_epoch",
        "loss",
        "pairs",
        "queries_visited",
        "seconds",
        "settings",
        "steps",
        "validation_ndcg@10",
    ];
    assert_eq!(keys(train), expected);
    let settings = [
        "average",
        "batch_size",
        "bias",
        "epochs",
        "negatives",
        "optimizer",
        "precondition",
        "recipe",
        "scale",
        "schedule",
        "seed",
        "warmup",
    ];
    assert_eq!(keys(&train["settings"]), settings);
    let optimizer = ["beta1", "beta2", "clip", "eps", "kind", "lr", "weight_decay"];
    assert_eq!(keys(&train["settings"]["optimizer"]), optimizer);
    assert_eq!(train["loss"].as_array().map(Vec::len), train["validation_ndcg@10"].as_array().map(Vec::len));
}

#[test]
fn one_split_is_a_flat_object() {
    let folder = Folder::with_data();
    let report = folder.json("train train.json --epochs 3 --clip inf");
    assert_comparison(&report, &["train"]);
    assert_train(&report["train"]);
    assert_eq!(report["train"]["epochs"], json!(3));
    assert_eq!(report["train"]["steps"], json!(3));
    assert_eq!(report["train"]["settings"]["optimizer"]["clip"], json!(null));
    assert_eq!(report["train"]["settings"]["optimizer"]["lr"], json!(0.0005));
}

#[test]
fn several_splits_stand_under_their_names() {
    let folder = Folder::with_data();
    let report = folder.json("train train.json --test test.json --epochs 2");
    assert_eq!(keys(&report), ["test", "train", "validation"]);
    assert_comparison(&report["test"], &[]);
    assert_comparison(&report["validation"], &[]);
    assert_train(&report["train"]);
    // The reference splits nothing off: the test set is the only split.
    let report = folder.json("train train.json --test test.json --recipe reference --force");
    assert_comparison(&report, &["train"]);
    assert_eq!(report["queries"], json!(12));
}

#[test]
fn answers_seen_and_unseen_are_told_apart_where_there_are_both() {
    let folder = Folder::with_data();
    // A test set over the training corpus: documents of the validation part are unseen.
    let report = folder.json("train train.json --test train.json --epochs 2");
    let groups = &report["test"]["groups"];
    assert_eq!(keys(groups), ["answers seen in training", "answers unseen"]);
    assert_comparison(&groups["answers seen in training"], &[]);
    assert_comparison(&groups["answers unseen"], &[]);
    assert_eq!(number(groups, "/answers seen in training/queries"), 32.0);
    assert_eq!(number(groups, "/answers unseen/queries"), 8.0);
    let table = folder.stdout("train train.json --test train.json --epochs 2 --force");
    for part in ["all (40)", "answers seen in training (32)", "answers unseen (8)"] {
        assert!(table.contains(part), "{table}");
    }
    assert!(table.contains("answers unseen: ") && table.contains(" queries won, "), "{table}");
}

#[test]
fn evaluate_compares_only_with_an_adapter() {
    let folder = Folder::with_adapter();
    let report = folder.json("evaluate test.json");
    assert_eq!(keys(&report), ["base", "gain", "queries", "ties"]);
    assert_eq!(keys(&report["base"]), METRICS);
    assert_comparison(&folder.json("evaluate test.json --adapter a.qad"), &["gain"]);
}

/// The rows of the first table in `text`: cells without their padding.
fn table(text: &str) -> Vec<Vec<String>> {
    let rows =
        text.lines().skip_while(|line| !line.starts_with('┌')).take_while(|line| !line.starts_with('└'));
    rows.filter(|line| line.starts_with('│'))
        .map(|line| line.trim_matches('│').split('┆').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn the_table_has_every_metric_of_base_and_adapted() {
    let folder = Folder::with_data();
    let words = "train train.json --validation test.json --epochs 20 --lr 0.01 --force -o a.qad";
    let (stdout, report) = (folder.stdout(words), folder.json(words));
    let rows = table(&stdout);
    assert_eq!(rows[0], ["validation", "base (12 queries)", "adapted", "change"]);
    assert_eq!(rows.iter().skip(1).map(|row| row[0].as_str()).collect::<Vec<_>>(), ROWS);
    for row in &rows[1..] {
        let [base, adapted, delta] =
            ["base", "adapted", "delta"].map(|part| report[part][&row[0]].as_f64().expect("a number"));
        assert_eq!(row[1..], [format!("{base:.4}"), format!("{adapted:.4}"), format!("{delta:+.4}")]);
    }
    let [low, high] = ["0", "1"].map(|at| number(&report, &format!("/interval/ndcg@10/{at}")));
    let expected = format!(
        "{} queries won, {} lost; gain in nDCG@10: 95 % interval [{low:+.4}, {high:+.4}]\n",
        report["won"], report["lost"]
    );
    assert!(stdout.contains(&expected), "{stdout}");
    assert!(stdout.contains("20 steps on 40 pairs of 40 queries in "), "{stdout}");
    let kept = &report["train"]["kept_epoch"];
    assert!(stdout.ends_with(&format!("a.qad holds the adapter after epoch {kept} of 20\n")), "{stdout}");
}

#[test]
fn evaluate_prints_the_same_table_for_the_base_alone_and_with_an_adapter() {
    let folder = Folder::with_adapter();
    let alone = folder.stdout("evaluate test.json");
    assert_eq!(table(&alone)[0], ["test", "base (12 queries)"]);
    assert_eq!(table(&alone).len(), 1 + ROWS.len());
    assert!(!alone.contains("won"), "{alone}");
    let both = folder.stdout("evaluate test.json -a a.qad");
    assert_eq!(table(&both)[0], ["test", "base (12 queries)", "adapted", "change"]);
    assert!(both.contains(" queries won, "), "{both}");
}

#[test]
fn what_is_not_a_terminal_gets_neither_progress_nor_colour() {
    let folder = Folder::with_data();
    let assert = folder.run("train train.json --epochs 50").assert().success();
    let output = assert.get_output();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}') && !stderr.contains('\r'), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(
        lines,
        [
            "note: --epochs is given: one run, as --recipe single has it, with this setting",
            "note: train.json: 40 queries, 20 documents, 40 labels; vectors of 8 components",
            "note: no --validation: 8 of 40 queries are split off by document (seed 0) to choose the epoch on",
        ]
    );
}

#[test]
fn notes_go_to_stderr_and_quiet_silences_them() {
    let folder = Folder::with_data();
    for words in [
        "train train.json --recipe reference --lr 0 --warmup 100 --force",
        "train train.json --force --json",
        "evaluate train.json",
    ] {
        let quiet = folder.run(&format!("{words} --quiet")).assert().success();
        let output = quiet.get_output();
        assert_eq!(text(&output.stderr), "", "{words}");
        assert!(!output.stdout.is_empty() && !text(&output.stdout).contains("note"), "{words}");
    }
}

#[test]
fn defects_of_a_data_set_are_noted_with_file_count_and_example() {
    let folder = Folder::with_data();
    let broken = text(&folder.read("test.json")).replace("[\"d2-0\"]", "[\"d_gone\"]");
    folder.write("test.json", broken);
    let assert = folder.run("evaluate test.json").assert().success();
    let stderr = text(&assert.get_output().stderr);
    assert!(
        stderr.contains("note: test.json: labels of documents that are not in the corpus: 2, ignored"),
        "{stderr}"
    );
    assert!(stderr.contains("note: test.json: queries without a relevant document: 2, left out"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_early_is_no_failure() {
    use std::process::Stdio;

    let folder = Folder::with_adapter();
    for words in ["train train.json --epochs 2 --force", "evaluate train.json", "inspect a.qad"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_host-cli"));
        command.current_dir(folder.path("")).args(words.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("error"), "{words}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_or_stderr_is_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let folder = Folder::with_adapter();
    let run = |words: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_host-cli"));
        command.current_dir(folder.path("")).args(words.split_whitespace());
        command
    };
    let output = run("inspect a.qad").stdout(full()).output().expect("run");
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).starts_with("error: stdout: cannot be written: "),
        "{}",
        text(&output.stderr)
    );
    let output = run("train train.json --force -o b.qad").stderr(full()).output().expect("run");
    assert_eq!(output.status.code(), Some(0));
    let output = run("inspect gone.qad").stderr(full()).output().expect("run");
    assert_eq!(output.status.code(), Some(3));
}
