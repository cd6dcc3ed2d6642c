//! The training cases of the shared collection through the real binary, where the collection is present; the project's
//! own equivalents are in `cli/train.rs`.

#[path = "cli/support.rs"]
mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use host_cli::adapter_file::AdapterFile;
use query_adapter::Level;
use serde_json::{Value, json};

use support::{Folder, levels, number, numbers, text};

/// The cases that ran, beside the folder of their inputs.
struct Collection {
    inputs: PathBuf,
    folder: Folder,
    ran: Vec<&'static str>,
}

impl Collection {
    /// None, and a line on stderr past the test harness, where the collection is absent.
    fn open() -> Option<Self> {
        let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/inputs");
        if !inputs.is_dir() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {} is absent", inputs.display());
            return None;
        }
        let inputs = inputs.canonicalize().expect("a path");
        Some(Self { inputs, folder: Folder::new(), ran: Vec::new() })
    }

    fn path(&self, name: &str) -> String {
        let path = self.inputs.join(name);
        assert!(path.is_file(), "{name} is missing from the collection");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The report of `train` on the file of a case, validated on another; the adapter is `a.qad`.
    fn train(&self, train: &str, validation: Option<&str>, flags: &str) -> Value {
        let mut words = format!("train {} -q --force -o a.qad {flags}", self.path(train));
        if let Some(validation) = validation {
            words += &format!(" --validation {}", self.path(validation));
        }
        self.folder.json(&words)
    }

    /// The weight, row by row, and the bias that `train` has written.
    fn weights(&self) -> (Vec<f32>, Vec<f32>) {
        let file = AdapterFile::open(&self.folder.path("a.qad"), Level::detect()).expect("an adapter");
        let adapter = file.dense(Level::detect()).expect("an adapter");
        let mut weight = vec![0.0; adapter.in_dim() * adapter.out_dim()];
        let mut bias = vec![0.0; adapter.out_dim()];
        adapter.copy_weight_to(&mut weight).expect("copied");
        adapter.copy_bias_to(&mut bias).expect("copied");
        (weight, bias)
    }
}

/// Whether a square matrix, row by row, is the identity to the bit.
fn is_identity(weight: &[f32]) -> bool {
    let dim = weight.len().isqrt();
    (0..weight.len()).all(|at| weight[at].to_bits() == f32::from(u8::from(at / dim == at % dim)).to_bits())
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected} within {tolerance}");
}

fn last(list: &[f64]) -> f64 {
    *list.last().expect("an epoch")
}

#[test]
fn every_training_case_has_its_stated_outcome() {
    let Some(mut collection) = Collection::open() else { return };
    type Case = fn(&Collection);
    let cases: &[(&str, Case)] = &[
        ("E1", shared_positives_are_masked),
        ("E2", a_last_batch_of_one_counts_by_its_size),
        ("E3", a_single_pair_is_refused),
        ("E4", equal_embeddings_change_nothing),
        ("E6", a_learning_rate_that_spoils_never_passes_silently),
        ("E8", seeds_repeat),
        ("E10", a_rotation_is_learnt),
        ("E11", a_perfect_base_stays),
        ("E13", sorted_data_is_shuffled),
        ("E14", degenerate_schedules_are_noted),
        ("E18", the_best_epoch_is_kept),
        ("E19", odd_dimensions_train),
        ("E20", the_reference_recipe_follows_the_reference),
    ];
    for (name, case) in cases {
        case(&collection);
        collection.ran.push(name);
    }
    let _ = writeln!(
        std::io::stderr(),
        "ran {} shared training cases: {:?}",
        collection.ran.len(),
        collection.ran
    );
}

/// E1: the floor of ln 2 is there without masking, and gone with it.
fn shared_positives_are_masked(collection: &Collection) {
    let flags = "--batch-size 10 --optimizer adam --lr 1e-2 --weight-decay 0 --schedule constant --epochs 40";
    let reference = collection.train("E1/train.json", None, &format!("--recipe reference {flags}"));
    near(last(&numbers(&reference, "/train/loss")), 0.6938, 5e-4);
    for negatives in ["in-batch", "positives"] {
        let flags = format!("--negatives {negatives} {flags}");
        let masked = collection.train("E1/train.json", Some("E1/train.json"), &flags);
        assert!(last(&numbers(&masked, "/train/loss")) < 0.05, "{masked}");
    }
    let words = format!("train {} -q", collection.path("E1/two_queries_one_doc.json"));
    collection.folder.refuses(&words, 3, &["with one document between them"]);
}

/// E2: 11 pairs in batches of 10.
fn a_last_batch_of_one_counts_by_its_size(collection: &Collection) {
    let report = collection.train("E2/train.json", None, "--recipe reference");
    near(numbers(&report, "/train/loss")[0], 0.499_220, 1e-6);
    assert_eq!(report["train"]["steps"], json!(2));
}

/// E3: nothing to tell the answer from.
fn a_single_pair_is_refused(collection: &Collection) {
    let single = collection.path("E3/single_pair.json");
    for recipe in ["auto", "single", "reference"] {
        let parts = ["single_pair.json", "there is nothing to learn"];
        collection.folder.refuses(&format!("train {single} --recipe {recipe} -q"), 3, &parts);
    }
    for (size, part) in [(0, "expected a number from 2"), (1, "a pair alone has no other document")] {
        let words = format!("train {} --batch-size {size}", collection.path("E2/train.json"));
        let assert = collection.folder.run(&words).assert().code(2);
        assert!(text(&assert.get_output().stderr).contains(part));
    }
}

/// E4: loss ln 6 at every step, the identity kept, a warning.
fn equal_embeddings_change_nothing(collection: &Collection) {
    let report = collection.train("E4/train.json", Some("E4/train.json"), "--bias");
    for loss in numbers(&report, "/train/loss") {
        near(loss, 1.791_759, 1e-6);
    }
    assert_eq!((&report["adapted"], &report["train"]["kept_epoch"]), (&report["base"], &json!(0)));
    let (weight, bias) = collection.weights();
    assert!(is_identity(&weight) && bias == [0.0; 4]);
    let words = format!("evaluate {}", collection.path("E4/train.json"));
    let assert = collection.folder.run(&words).assert().success();
    assert!(text(&assert.get_output().stderr).contains("documents that repeat the vector of another: 5"));
}

/// E6: the base is better than what most learning rates give.
fn a_learning_rate_that_spoils_never_passes_silently(collection: &Collection) {
    let (train, val) = ("E6/train.json", "E6/val.json");
    let flags = "--optimizer adam --weight-decay 0 --batch-size 16 --epochs 20";
    for lr in ["2e-5", "0.001", "0.1", "3", "100"] {
        let flags = format!("{flags} --lr {lr}");
        let report = collection.train(train, Some(val), &flags);
        near(number(&report, "/base/hit_rate@1"), 0.583, 5e-4);
        near(number(&report, "/base/mrr@10"), 0.685, 2e-3);
        assert!(number(&report, "/adapted/ndcg@10") >= number(&report, "/base/ndcg@10"), "{lr}: {report}");
        let (weight, _) = collection.weights();
        assert!(weight.iter().all(|x| x.is_finite()), "{lr}");
        if report["train"]["kept_epoch"] == json!(0) {
            assert!(is_identity(&weight), "{lr}");
        }
        // The reference recipe keeps what it is told to, and says what became of it.
        let flags = format!("{flags} --recipe reference");
        let report = collection.train(train, Some(val), &flags);
        let (base, adapted) = (number(&report, "/base/ndcg@10"), number(&report, "/adapted/ndcg@10"));
        let words = format!("train {} --validation {}", collection.path(train), collection.path(val));
        let table = collection.folder.stdout(&format!("{words} -q --force -o a.qad {flags}"));
        assert_eq!(table.contains("the base was better on validation"), adapted < base, "{lr}: {table}");
        if ["0.1", "3", "100"].contains(&lr) {
            assert!(number(&report, "/adapted/hit_rate@1") < 0.5, "{lr}: {report}");
        }
    }
    collection.train(train, Some(val), "--recipe reference --lr 0");
    assert!(is_identity(&collection.weights().0));
    for lr in ["-1", "NaN"] {
        let words = format!("train {} --lr={lr}", collection.path(train));
        collection.folder.run(&words).assert().code(2);
    }
}

/// E8: one command, one file; one seed, one order an epoch.
fn seeds_repeat(collection: &Collection) {
    let flags = "--batch-size 16 --epochs 3 --negatives in-batch";
    let run = |more: &str| {
        let report = collection.train("E6/train.json", None, &format!("{flags} {more}"));
        (collection.folder.read("a.qad"), numbers(&report, "/train/loss"))
    };
    assert_eq!(run("--seed 1"), run("--seed 1"));
    assert_ne!(run("--seed 1").0, run("--seed 2").0);
    let (_, standing) = run("--seed 1 --lr 0");
    assert!(standing[0] != standing[1] && standing[1] != standing[2], "{standing:?}");
}

/// E10: from .01 to at least .95 on queries of documents never trained on.
fn a_rotation_is_learnt(collection: &Collection) {
    let (train, val) = ("E10/train.json", "E10/val.json");
    let flags = "--optimizer adam --lr 1e-2 --batch-size 50 --epochs 60 --seed 5";
    let report = collection.train(train, Some(val), flags);
    near(number(&report, "/base/hit_rate@1"), 0.010, 1e-9);
    assert!(number(&report, "/adapted/hit_rate@1") >= 0.95, "{report}");
    // A rotation is not symmetric: read back transposed it would be useless.
    let (weight, _) = collection.weights();
    assert!((0..12).any(|r| (0..r).any(|k| (weight[r * 12 + k] - weight[k * 12 + r]).abs() > 0.1)));
    let evaluated = collection.folder.json(&format!("evaluate {} -q -a a.qad", collection.path(val)));
    assert_eq!(evaluated["adapted"], report["adapted"]);
    // The reference's own settings barely move.
    let report = collection.train(train, Some(val), "--recipe reference --epochs 4");
    near(number(&report, "/adapted/hit_rate@1"), 0.010, 1e-9);
    let loss = numbers(&report, "/train/loss");
    near(loss[0], 12.209, 1e-3);
    near(last(&loss), 12.176, 1e-3);
}

/// E11: what is perfect already is left alone.
fn a_perfect_base_stays(collection: &Collection) {
    let file = "A28/vector_without_text.json";
    for (flags, key, kept) in [("", "kept", json!("base")), ("--recipe single", "kept_epoch", json!(0))] {
        let report = collection.train(file, Some(file), flags);
        assert_eq!(number(&report, "/base/hit_rate@1"), 1.0);
        assert_eq!((&report["adapted"], &report["train"][key]), (&report["base"], &kept));
        assert_eq!((&report["won"], &report["lost"]), (&json!(0), &json!(0)));
        assert!(is_identity(&collection.weights().0));
    }
}

/// E13: rows sorted by topic.
fn sorted_data_is_shuffled(collection: &Collection) {
    let standing = "--lr 0 --batch-size 10";
    let report = collection.train("E13/train.json", None, &format!("--recipe reference {standing}"));
    near(numbers(&report, "/train/loss")[0], 0.958, 1e-3);
    let flags = format!("{standing} --negatives in-batch --epochs 4");
    let report = collection.train("E13/train.json", Some("E13/train.json"), &flags);
    for loss in numbers(&report, "/train/loss") {
        // 0.155 in one order; another order, another mean.
        near(loss, 0.155, 0.06);
    }
}

/// E14: warm-ups as long as the run.
fn degenerate_schedules_are_noted(collection: &Collection) {
    let train = format!("train {} --recipe reference --force -o a.qad", collection.path("E2/train.json"));
    let notes = |flags: &str| {
        let assert = collection.folder.run(&format!("{train} {flags}")).assert().success();
        text(&assert.get_output().stderr)
    };
    assert!(!notes("--batch-size 11").contains("warm-up"));
    assert!(!is_identity(&collection.weights().0), "one step, no warm-up: the full learning rate");
    assert!(
        notes("--batch-size 11 --warmup 1")
            .contains("the warm-up of 1 steps is as long as the whole run of 1")
    );
    assert!(is_identity(&collection.weights().0));
    assert!(
        notes("--epochs 5 --warmup 100")
            .contains("the warm-up of 100 steps is as long as the whole run of 10")
    );
    collection.folder.run(&format!("{train} --epochs 0")).assert().code(2);
}

/// E18: the first of the best epochs, or the base where the gain is no more than its noise.
fn the_best_epoch_is_kept(collection: &Collection) {
    for lr in ["0.1", "0.003", "0.001"] {
        let flags = format!("--optimizer adam --batch-size 16 --epochs 20 --lr {lr}");
        let report = collection.train("E6/train.json", Some("E6/val.json"), &flags);
        let mut candidates = vec![number(&report, "/base/ndcg@10")];
        candidates.extend(numbers(&report, "/train/validation_ndcg@10"));
        let best = candidates.iter().copied().fold(0.0, f64::max);
        let first = candidates.iter().position(|&ndcg| ndcg == best).expect("there");
        let kept = number(&report, "/train/kept_epoch");
        assert!(kept == 0.0 || kept == first as f64, "{lr}: {kept} of {candidates:?}");
        let words = format!("evaluate {} -q -a a.qad", collection.path("E6/val.json"));
        let found = number(&collection.folder.json(&words), "/adapted/ndcg@10");
        assert_eq!(found, if kept == 0.0 { candidates[0] } else { best }, "{lr}");
    }
    let flags = "--optimizer adam --lr 1e-2 --batch-size 50 --epochs 20 --seed 5";
    let report = collection.train("E10/train.json", Some("E10/val.json"), flags);
    assert!(number(&report, "/train/kept_epoch") > 0.0, "a gain that is no noise: {report}");
}

/// E19: dimensions that fill no register.
fn odd_dimensions_train(collection: &Collection) {
    for dim in [1, 3, 7, 17, 385] {
        let file = format!("E19/dim_{dim}.json");
        for recipe in ["single", "reference"] {
            let flags = format!("--recipe {recipe} --epochs 2 --lr 0.01 --bias");
            let mut files = Vec::new();
            for level in levels() {
                let report = collection.train(&file, Some(&file), &format!("{flags} --simd {level}"));
                assert!(numbers(&report, "/train/loss").iter().all(|loss| loss.is_finite()), "{dim}");
                files.push(collection.folder.read("a.qad"));
            }
            assert!(files.iter().all(|file| *file == files[0]), "{dim} {recipe}: levels differ");
            assert_eq!(collection.folder.json("inspect a.qad")["in_dim"], json!(dim));
            let query = format!("{:?}\n", vec![0.5_f32; dim]);
            let answers: Vec<_> = levels()
                .into_iter()
                .map(|level| {
                    let mut apply = collection.folder.run(&format!("apply -a a.qad --simd {level}"));
                    text(&apply.write_stdin(query.as_str()).assert().success().get_output().stdout)
                })
                .collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{dim}: {answers:?}");
        }
    }
}

/// E20: weights within 2e-5, losses within 1e-4 of an f64 run of the reference.
fn the_reference_recipe_follows_the_reference(collection: &Collection) {
    for (name, flags) in [
        (
            "adam_no_decay_no_schedule",
            "--lr 0.01 --weight-decay 0 --clip inf --schedule constant --warmup 0 --bias",
        ),
        ("llamaindex_default_bias_false", ""),
        ("lr1e-2_bias_true", "--lr 0.01 --bias"),
    ] {
        let expected = std::fs::read(collection.path(&format!("E20/{name}.json"))).expect("readable");
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        let flags = format!("--recipe reference --epochs 3 --batch-size 5 {flags}");
        let report = collection.train("E20/train.json", None, &flags);
        let (weight, bias) = collection.weights();
        let rows = (0..5).flat_map(|row| numbers(&expected, &format!("/W/{row}")));
        for (found, expected) in weight.iter().zip(rows).chain(bias.iter().zip(numbers(&expected, "/b"))) {
            near(f64::from(*found), expected, 2e-5);
        }
        let losses = numbers(&expected, "/epoch_losses_sample_weighted");
        for (found, expected) in numbers(&report, "/train/loss").into_iter().zip(losses) {
            near(found, expected, 1e-4);
        }
        near(number(&report, "/adapted/mrr@10"), number(&expected, "/mrr_train"), 1e-9);
    }
}
