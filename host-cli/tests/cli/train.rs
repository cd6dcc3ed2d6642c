//! What `train` learns, keeps and repeats.

use host_cli::adapter_file::AdapterFile;
use query_adapter::Level;
use serde_json::{Value, json};

use crate::support::{DIM, Data, Folder, Text, levels, number, numbers};

/// Weight, row by row, and bias of an adapter file.
fn weights(folder: &Folder, name: &str) -> (Vec<f32>, Vec<f32>) {
    let adapter = AdapterFile::open(&folder.path(name), Level::detect())
        .and_then(|file| file.dense(Level::detect()))
        .expect("an adapter");
    let mut weight = vec![0.0; adapter.in_dim() * adapter.out_dim()];
    let mut bias = vec![0.0; adapter.out_dim()];
    adapter.copy_weight_to(&mut weight).expect("copied");
    adapter.copy_bias_to(&mut bias).expect("copied");
    (weight, bias)
}

fn identity(dim: usize) -> Vec<f32> {
    (0..dim * dim).map(|at| f32::from(u8::from(at / dim == at % dim))).collect()
}

/// The data with queries that are their documents: the base finds them all.
fn perfect(mut data: Data) -> Data {
    for (query, answer) in data.queries.iter_mut().zip(&data.answers) {
        query.vector.clone_from(&data.documents[answer[0]].vector);
    }
    data
}

#[test]
fn learns_what_the_base_cannot_know() {
    let folder = Folder::with_data();
    let report = folder.json("train train.json --test test.json --epochs 40 --batch-size 8 --lr 0.02");
    assert!(number(&report, "/test/base/hit_rate@1") < 0.5, "{report}");
    assert!(number(&report, "/test/adapted/hit_rate@1") > 0.8, "{report}");
    let interval = numbers(&report, "/test/interval/ndcg@10");
    assert!(interval[0] > 0.0, "{report}");
    let loss = numbers(&report, "/train/loss");
    assert!(loss.len() == 40 && loss[39] < loss[0] / 4.0, "{report}");
}

#[test]
fn vectors_inside_the_file_and_in_a_folder_give_the_same_bytes() {
    let folder = Folder::with_data();
    folder.stdout("train train.json -o inline.qad");
    folder.write("plain.json", Data::small().json(false));
    Data::small().write_folder(&folder.path("vectors"));
    folder.stdout("train plain.json --embeddings vectors -o folder.qad");
    assert_eq!(folder.read("inline.qad"), folder.read("folder.qad"));
}

#[test]
fn the_same_command_gives_the_same_bytes_at_every_simd_level() {
    let folder = Folder::with_data();
    for (name, flags) in [
        ("single", "--recipe single"),
        ("second-order", "--optimizer sgd --precondition 3 --lr 0.03 --clip inf --warmup 0 --average"),
        ("in-batch", "--negatives in-batch --batch-size 6 --bias --optimizer adam --schedule cosine"),
        ("reference", "--recipe reference --epochs 3 --lr 0.01 --bias"),
        ("sgd", "--optimizer sgd --lr 0.5 --clip inf"),
    ] {
        let train = format!("train train.json -q --force -o {name}.qad {flags}");
        folder.stdout(&train);
        let expected = folder.read(&format!("{name}.qad"));
        folder.stdout(&train);
        assert_eq!(folder.read(&format!("{name}.qad")), expected, "{name}: again");
        for level in levels() {
            folder.stdout(&format!("{train} --simd {level}"));
            assert_eq!(folder.read(&format!("{name}.qad")), expected, "{name}: {level}");
        }
    }
}

#[test]
fn a_seed_decides_the_order_and_every_epoch_has_its_own() {
    let folder = Folder::with_data();
    // At a learning rate of 0 the mean loss of an epoch tells which pairs met in a batch.
    let losses = |seed: u32| {
        let train =
            "train train.json --validation test.json --negatives in-batch --batch-size 8 --lr 0 --epochs 2";
        numbers(&folder.json(&format!("{train} --force --seed {seed}")), "/train/loss")
    };
    assert_eq!(losses(1), losses(1));
    assert_ne!(losses(1)[0].to_bits(), losses(2)[0].to_bits());
    assert_ne!(losses(1)[0].to_bits(), losses(1)[1].to_bits());
}

#[test]
fn a_seed_decides_the_split() {
    let folder = Folder::with_data();
    let base = |seed: u32| {
        let report = folder.json(&format!("train train.json --epochs 1 --lr 0 --force --seed {seed}"));
        assert_eq!((report["queries"].clone(), report["train"]["pairs"].clone()), (json!(8), json!(32)));
        number(&report, "/base/ndcg@10")
    };
    assert_eq!(base(3).to_bits(), base(3).to_bits());
    assert!((1..10).any(|seed| base(seed).to_bits() != base(0).to_bits()));
}

#[test]
fn the_first_of_the_best_epochs_is_kept() {
    let folder = Folder::with_data();
    let report = folder.json("train train.json --validation test.json --epochs 30 --lr 0.05 -o a.qad");
    let ndcg = numbers(&report, "/train/validation_ndcg@10");
    let best = ndcg.iter().copied().fold(0.0, f64::max);
    let first = 1 + ndcg.iter().position(|&x| x == best).expect("there");
    assert!(best > number(&report, "/base/ndcg@10"));
    assert_eq!(report["train"]["kept_epoch"], json!(first));
    assert_eq!(number(&report, "/adapted/ndcg@10"), best);
    // What was written is what was measured.
    let evaluated = folder.json("evaluate test.json --adapter a.qad");
    assert_eq!(evaluated["adapted"], report["adapted"]);
    let inspected = folder.json("inspect a.qad");
    assert_eq!(inspected["training"]["kept_epoch"], json!(first));
    assert!((number(&inspected, "/training/validation/adapted_ndcg@10") - best).abs() < 1e-7);
}

#[test]
fn the_base_is_kept_when_no_epoch_is_better() {
    let folder = Folder::new();
    folder.write("train.json", perfect(Data::small()).json(true));
    let report = folder.json("train train.json --lr 0.5 --bias -o a.qad");
    assert_eq!(number(&report, "/base/hit_rate@1"), 1.0);
    assert_eq!(report["train"]["kept_epoch"], json!(0));
    assert_eq!(report["adapted"], report["base"]);
    assert_eq!((report["won"].clone(), report["lost"].clone()), (json!(0), json!(0)));
    assert_eq!(weights(&folder, "a.qad"), (identity(DIM), vec![0.0; DIM]));
    let table = folder.stdout("train train.json --lr 0.5 -o b.qad");
    assert!(table.contains(
        "no epoch was better than the base on validation beyond its standard error: b.qad holds the identity"
    ));
}

#[test]
fn the_reference_recipe_is_the_references() {
    let folder = Folder::with_data();
    let report = folder.json("train train.json --recipe reference --epochs 4 -o a.qad");
    // Every pair, nothing split off; the settings of the reference.
    assert_eq!(report["train"]["pairs"], json!(40));
    assert_eq!(report["train"]["steps"], json!(16));
    assert_eq!(report["queries"], json!(40));
    assert_eq!(report["train"]["kept_epoch"], json!(4));
    assert_eq!(report["train"]["validation_ndcg@10"], json!([null, null, null, null]));
    assert_eq!(
        report["train"]["settings"],
        json!({
            "recipe": "reference",
            "epochs": 4,
            "batch_size": 10,
            "scale": 20.0,
            "optimizer": {
                "kind": "adamw", "lr": 0.00002, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01,
                "clip": 1.0,
            },
            "warmup": null,
            "schedule": "linear",
            "bias": false,
            "negatives": "in-batch",
            "precondition": null,
            "average": false,
            "seed": 0,
        })
    );
    let stderr =
        folder.run("train train.json --recipe reference -o b.qad").assert().get_output().stderr.clone();
    let stderr = String::from_utf8(stderr).expect("UTF-8");
    assert!(
        stderr.contains("the comparison is on the training queries, which flatters the adapter"),
        "{stderr}"
    );
    assert_eq!(folder.json("inspect a.qad")["bias"], json!(false));
    folder.stdout("train train.json --recipe reference --bias -o c.qad");
    assert_eq!(folder.json("inspect c.qad")["bias"], json!(true));
}

#[test]
fn the_reference_recipe_keeps_the_order_of_the_file() {
    let folder = Folder::with_data();
    let losses = |seed: u32| {
        let train = "train train.json --recipe reference --lr 0 --epochs 3 --force";
        numbers(&folder.json(&format!("{train} --seed {seed}")), "/train/loss")
    };
    let loss = losses(0);
    assert!(loss[0] == loss[1] && loss[0] == loss[2], "{loss:?}");
    assert_eq!(losses(1), loss);
}

#[test]
fn the_reference_recipe_keeps_the_last_epoch_and_says_when_the_base_was_better() {
    let folder = Folder::new();
    folder.write("train.json", Data::small().json(true));
    folder.write("test.json", perfect(Data::new(20, DIM, 2)).json(true));
    let words = "train train.json --test test.json --recipe reference --lr 1 --epochs 5 --force -o a.qad";
    let (table, report) = (folder.stdout(words), folder.json(words));
    let (base, adapted) = (number(&report, "/base/ndcg@10"), number(&report, "/adapted/ndcg@10"));
    assert!(adapted < base, "the data is to be spoilt: {adapted} {base}");
    let expected = format!("the base was better on test: nDCG@10 {base:.4} against {adapted:.4}");
    assert!(table.contains(&expected), "{table}");
    assert!(table.contains("a.qad holds the adapter after epoch 5 of 5"), "{table}");
}

#[test]
fn answers_that_share_a_batch_are_no_negatives_of_each_other() {
    let folder = Folder::with_data();
    // Batches of two hold the two questions of one document: whatever it learns, the reference tells it from itself.
    let reference =
        folder.json("train train.json --recipe reference --batch-size 2 --epochs 5 --lr 0.05 -o a.qad");
    for loss in numbers(&reference, "/train/loss") {
        assert!((loss - core::f64::consts::LN_2).abs() < 1e-6, "{loss}");
    }
    let flags = "--validation test.json --negatives in-batch --batch-size 2 --epochs 5 --lr 0.01 -o b.qad";
    let masked = numbers(&folder.json(&format!("train train.json {flags}")), "/train/loss");
    assert!(masked[4] < 0.5 * masked[0], "{masked:?}");
}

#[test]
fn other_answers_to_a_question_are_no_negatives() {
    // Every document twice under one text, one half of the questions labelled with each; and every question labelled
    // with two documents of one vector. Whatever it learns, no adapter tells such documents apart.
    let mut twice = Data::small();
    let copies: Vec<_> =
        twice.documents.iter().map(|d| Text { id: d.id.clone() + "-copy", ..d.clone() }).collect();
    twice.documents.extend(copies);
    for (question, answers) in twice.answers.iter_mut().enumerate() {
        answers[0] += 20 * (question % 2);
    }
    let mut listed = twice.clone();
    for (number, document) in listed.documents.iter_mut().enumerate() {
        document.text = format!("text {number}");
    }
    for answers in &mut listed.answers {
        *answers = vec![answers[0] % 20, answers[0] % 20 + 20];
    }
    let folder = Folder::with_data();
    folder.write("twice.json", twice.json(true));
    folder.write("listed.json", listed.json(true));
    for (name, negatives) in
        [("twice", "in-batch"), ("twice", "positives"), ("listed", "in-batch"), ("listed", "positives")]
    {
        let flags = "--validation test.json --batch-size 16 --epochs 60 --lr 0.02 --force -q";
        let report = folder.json(&format!("train {name}.json {flags} --negatives {negatives}"));
        let last = numbers(&report, "/train/loss")[59];
        assert!(last < 0.5 * core::f64::consts::LN_2, "{name} {negatives}: {last}");
    }
}

#[test]
fn the_mean_loss_of_an_epoch_counts_every_pair_once() {
    let folder = Folder::with_data();
    let loss = |name: &str, size: u32| {
        let flags = format!("--recipe reference --lr 0 --batch-size {size} --force");
        numbers(&folder.json(&format!("train {name} {flags}")), "/train/loss")[0]
    };
    let mut data = Data::small();
    data.queries.pop();
    data.answers.pop();
    folder.write("shorter.json", data.json(true));
    // The fortieth pair is a batch of its own, of loss 0.
    let expected = loss("shorter.json", 39) * 39.0 / 40.0;
    assert!((loss("train.json", 39) - expected).abs() < 1e-12);
}

#[test]
fn a_gain_within_its_standard_error_keeps_the_base_and_says_so() {
    // Noise: no question has to do with its answer, so what is gained is gained by chance.
    let noise = |seed| {
        let mut data = Data::new(20, DIM, seed);
        let vectors: Vec<_> =
            Data::new(20, DIM, seed + 100).queries.into_iter().map(|query| query.vector).collect();
        for (query, vector) in data.queries.iter_mut().zip(vectors) {
            query.vector = vector;
        }
        data
    };
    let folder = Folder::new();
    let mut kept = 0;
    for seed in 1..6 {
        folder.write("train.json", noise(seed).json(true));
        let words = "train train.json --epochs 8 --lr 0.003 --force -o a.qad";
        let report = folder.json(&format!("{words} -q"));
        let best = numbers(&report, "/train/validation_ndcg@10").into_iter().fold(0.0, f64::max);
        let stderr = stderr_of(&folder, words);
        if report["train"]["kept_epoch"] == json!(0) && best > number(&report, "/base/ndcg@10") {
            assert!(stderr.contains("which is within its standard error"), "{stderr}");
            assert_eq!(weights(&folder, "a.qad").0, identity(DIM));
            kept += 1;
        } else {
            assert!(!stderr.contains("standard error"), "{stderr}");
        }
    }
    assert!(kept > 0, "one of these gains at least is noise");
}

#[test]
fn every_positive_is_trained_on_and_the_reference_takes_the_first() {
    let mut data = Data::small();
    data.answers[0] = vec![0, 7, 8];
    let folder = Folder::with_data();
    folder.write("train.json", data.json(true));
    let pairs = |recipe: &str| {
        let flags = format!("--validation test.json --epochs 1 --force --recipe {recipe}");
        folder.json(&format!("train train.json {flags}"))["train"]["pairs"].clone()
    };
    assert_eq!((pairs("single"), pairs("reference")), (json!(42), json!(40)));
}

#[test]
fn a_learning_rate_beyond_all_bounds_is_refused_with_the_cause() {
    let folder = Folder::with_data();
    let cause = [
        ("1e10", "single", "the adapter's output for query"),
        ("1e10", "reference", "the transformed query of query"),
        ("1e30", "single", "the adapter's output for query"),
        ("1e30", "reference", "the transformed query of query"),
        ("3e38", "single", "the schedule is not finite"),
        ("3e38", "reference", "the schedule is not finite"),
    ];
    for (lr, recipe, cause) in cause {
        let flags = format!("--validation test.json --lr {lr} --warmup 0 --epochs 3 --recipe {recipe} -q");
        folder.refuses(&format!("train train.json {flags}"), 5, &[cause, "smaller --lr"]);
    }
}

#[test]
fn a_learning_rate_that_is_far_too_large_loses_to_the_base() {
    let folder = Folder::new();
    folder.write("train.json", perfect(Data::small()).json(true));
    for lr in [1, 10, 100] {
        let report = folder.json(&format!("train train.json --lr {lr} -q --force -o a.qad"));
        assert_eq!(report["train"]["kept_epoch"], json!(0), "{lr}: {report}");
        assert_eq!(weights(&folder, "a.qad").0, identity(DIM), "{lr}");
    }
}

fn stderr_of(folder: &Folder, words: &str) -> String {
    let assert = folder.run(words).assert().success();
    String::from_utf8(assert.get_output().stderr.clone()).expect("UTF-8")
}

#[test]
fn a_learning_rate_of_zero_learns_nothing_and_says_so() {
    let folder = Folder::with_data();
    for recipe in ["single", "reference"] {
        let words = format!("train train.json --lr 0 --bias --recipe {recipe} --force -o a.qad");
        let stderr = stderr_of(&folder, &words);
        assert!(stderr.contains("note: the learning rate is 0: nothing is learnt"), "{stderr}");
        assert_eq!(weights(&folder, "a.qad"), (identity(DIM), vec![0.0; DIM]), "{recipe}");
    }
}

#[test]
fn a_warm_up_as_long_as_the_run_is_noted() {
    let folder = Folder::with_data();
    // 40 pairs, batches of 10, one epoch.
    let words = |warmup| format!("train train.json --recipe reference --warmup {warmup} --force -o a.qad");
    for warmup in [4, 5, 4_000_000_000_u32] {
        let stderr = stderr_of(&folder, &words(warmup));
        let expected = format!("the warm-up of {warmup} steps is as long as the whole run of 4");
        assert!(stderr.contains(&expected), "{stderr}");
    }
    assert!(!stderr_of(&folder, &words(3)).contains("warm-up"));
    // The one step of a run with a warm-up of one has a learning rate of 0.
    let stderr =
        stderr_of(&folder, "train train.json --recipe reference --warmup 1 --batch-size 40 -o b.qad");
    assert!(stderr.contains("the warm-up of 1 steps"), "{stderr}");
    assert_eq!(weights(&folder, "b.qad").0, identity(DIM));
}

#[test]
fn schedules_differ_and_only_in_what_they_say() {
    let folder = Folder::with_data();
    let trained = |schedule: &str| {
        folder.stdout(&format!(
            "train train.json --recipe reference --epochs 2 --lr 0.01 --force -o a.qad {schedule}"
        ));
        folder.read("a.qad")
    };
    let [linear, cosine, constant] =
        ["--schedule linear", "--schedule cosine", "--schedule constant"].map(&trained);
    assert_eq!(trained(""), linear);
    assert!(linear != cosine && linear != constant && cosine != constant);
}

#[test]
fn equal_embeddings_teach_nothing_and_the_base_is_kept() {
    let mut data = Data::new(6, 4, 1);
    for text in data.queries.iter_mut().chain(&mut data.documents) {
        text.vector = vec![0.5; 4];
    }
    // One question to each document, so that no candidate of a batch is masked.
    data.queries = data.queries.into_iter().step_by(2).collect();
    data.answers = data.answers.into_iter().step_by(2).collect();
    let folder = Folder::new();
    folder.write("train.json", data.json(true));
    let words = "train train.json --validation train.json --bias -o a.qad";
    let report = folder.json(words);
    for loss in numbers(&report, "/train/loss") {
        assert!((loss - 6.0_f64.ln()).abs() < 1e-6, "{loss}");
    }
    assert_eq!(report["train"]["kept_epoch"], json!(0));
    assert_eq!(weights(&folder, "a.qad"), (identity(4), vec![0.0; 4]));
    let stderr = stderr_of(&folder, &format!("{words} --force"));
    assert!(stderr.contains("documents that repeat the vector of another: 5"), "{stderr}");
}

#[test]
fn what_is_said_of_the_model_is_kept_in_the_file() {
    let folder = Folder::with_data();
    let mut command = folder.run_with(&[
        "train",
        "train.json",
        "--base-model",
        "bge-small-en",
        "--query-prefix",
        "query: ",
        "-o",
        "a.qad",
    ]);
    command.assert().success();
    let inspected = folder.json("inspect a.qad");
    assert_eq!(inspected["base_model"], json!("bge-small-en"));
    assert_eq!(inspected["query_prefix"], json!("query: "));
}

#[test]
fn an_adapter_file_holds_neither_path_nor_time_nor_machine() {
    let (here, there) = (Folder::with_data(), Folder::with_data());
    here.stdout("train train.json -o a.qad");
    there.write("other-name.json", there.read("train.json"));
    there.stdout(&format!("train other-name.json -o b.qad --simd {}", levels()[0]));
    assert_eq!(here.read("a.qad"), there.read("b.qad"));
}

#[test]
fn the_order_of_a_json_object_is_the_order_of_training() {
    let mut data = Data::small();
    let folder = Folder::with_data();
    let losses = |name: &str| -> Value {
        folder.json(&format!("train {name} --recipe reference --lr 0 --force"))["train"]["loss"].clone()
    };
    // In file order a batch of ten holds five documents twice; here it holds ten.
    let half = data.queries.len() / 2;
    let order: Vec<usize> = (0..half).map(|i| 2 * i).chain((0..half).map(|i| 2 * i + 1)).collect();
    data.queries = order.iter().map(|&query| data.queries[query].clone()).collect();
    data.answers = order.iter().map(|&query| data.answers[query].clone()).collect();
    folder.write("reordered.json", data.json(true));
    assert_ne!(losses("train.json"), losses("reordered.json"));
}

#[test]
fn documents_listed_as_negatives_are_told_apart_from_the_answers() {
    let folder = Folder::with_data();
    let mut data = Data::small();
    // Documents that answer nothing, near to what the queries look like.
    for (at, query) in data.queries.clone().iter().take(3).enumerate() {
        data.documents.push(Text {
            id: format!("near-{at}"),
            text: format!("near {at}"),
            vector: query.vector.clone(),
        });
    }
    let with = data.json(true);
    let listed = r#", "negative_docs": {"q1-0-0": ["near-0", "near-1"], "q1-5-1": ["near-2"]}}"#;
    folder.write("without.json", &with);
    folder.write("with.json", format!("{}{listed}", with.strip_suffix('}').expect("an object")));
    let loss = |name: &str, flags: &str| {
        let train = format!("train {name} --validation test.json --lr 0 --epochs 1 --force {flags}");
        numbers(&folder.json(&train), "/train/loss")[0]
    };
    for flags in ["--negatives positives", "--negatives in-batch --batch-size 40"] {
        let (with, without) = (loss("with.json", flags), loss("without.json", flags));
        assert!(with > without + 0.01, "{flags}: {with} against {without}");
    }
    // The whole corpus has them anyway; the reference does not know of them.
    for flags in ["--negatives corpus", "--recipe reference"] {
        assert_eq!(loss("with.json", flags).to_bits(), loss("without.json", flags).to_bits(), "{flags}");
    }
}

#[test]
fn sampled_negatives_are_some_of_the_other_documents() {
    let folder = Folder::with_data();
    let loss = |negatives: &str| {
        let train = format!(
            "train many.json --validation test.json --lr 0 --epochs 1 --force --negatives {negatives}"
        );
        numbers(&folder.json(&train), "/train/loss")[0]
    };
    let mut data = Data::small();
    data.documents.extend(Data::new(2000, DIM, 9).documents);
    folder.write("many.json", data.json(true));
    let (sampled, corpus) = (loss("sampled"), loss("corpus"));
    assert!((sampled - corpus).abs() < 1e-5, "all that there are: {sampled} against {corpus}");
    data.documents.extend(Data::new(1000, DIM, 10).documents);
    folder.write("many.json", data.json(true));
    let (positives, sampled, corpus) = (loss("positives"), loss("sampled"), loss("corpus"));
    assert!(positives < sampled && sampled < corpus, "{positives} {sampled} {corpus}");
    assert_eq!(sampled.to_bits(), loss("sampled").to_bits());
    assert_ne!(sampled.to_bits(), loss("sampled --seed 1").to_bits());
}

#[test]
fn mined_negatives_are_near_but_not_nearer_than_the_answer() {
    let folder = Folder::with_data();
    let loss = |name: &str, negatives: &str| {
        let train =
            format!("train {name} --validation test.json --lr 0 --epochs 1 --force --negatives {negatives}");
        numbers(&folder.json(&train), "/train/loss")[0]
    };
    let mut data = Data::small();
    let unanswered = Data::new(10, DIM, 9);
    data.documents.extend(unanswered.documents);
    folder.write("some.json", data.json(true));
    let (positives, mined, corpus) =
        (loss("some.json", "positives"), loss("some.json", "mined"), loss("some.json", "corpus"));
    assert!(positives < mined && mined <= corpus, "{positives} {mined} {corpus}");
    // What is as near to a query as its answer may be an answer that no one labelled: it is left alone.
    let unit = |at: usize, off: f32| {
        (0..DIM)
            .map(|k| {
                if k == 0 {
                    1.0
                } else if k == at {
                    off
                } else {
                    0.0
                }
            })
            .collect()
    };
    let mut one = Data::new(3, DIM, 4);
    one.queries.truncate(1);
    one.answers.truncate(1);
    one.queries[0].vector = unit(1, 0.0);
    for (document, off) in one.documents.iter_mut().zip([0.0, 0.1, 0.75]) {
        document.vector = unit(2, off);
    }
    folder.write("one.json", one.json(true));
    // Its answer against the document at a cosine of 0.8, and against the one at 0.995 too.
    assert!((loss("one.json", "mined") - (1.0 + (20.0_f64 * -0.2).exp()).ln()).abs() < 1e-6);
    assert!(loss("one.json", "corpus") > 0.5);
}

#[test]
fn a_single_answer_can_be_told_apart_from_listed_negatives() {
    let folder = Folder::with_data();
    let mut data = Data::new(2, DIM, 1);
    data.queries.truncate(2);
    data.answers.truncate(2);
    let json = data.json(true);
    let listed = r#", "negative_docs": {"q1-0-0": ["d1-1"]}}"#;
    folder.write("one.json", format!("{}{listed}", json.strip_suffix('}').expect("an object")));
    let report = folder.json("train one.json --validation test.json --epochs 2 -o a.qad");
    assert!(numbers(&report, "/train/loss")[0] > 0.0);
    folder.refuses("train one.json --recipe reference -o b.qad", 3, &["with one document between them"]);
}
