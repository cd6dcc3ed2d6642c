//! What `train` tries, chooses and claims when it is given no settings.

use query_adapter::sample::{Generator, shuffle};
use serde_json::json;

use crate::support::{DIM, Data, Folder, levels, number, numbers, text, write_npy};

const INPUT: i32 = 3;
const USAGE: i32 = 2;

/// A folder with `train.json`, of which an adapter can learn much, and `test.json`.
fn learnable() -> Folder {
    let folder = Folder::new();
    folder.write("train.json", Data::new(60, DIM, 1).json(true));
    folder.write("test.json", Data::new(20, DIM, 2).json(true));
    folder
}

/// A data set whose answers are dealt out by chance.
fn noise(documents: usize, seed: u64) -> Data {
    let mut data = Data::new(documents, DIM, seed);
    let mut order: Vec<u32> = (0..).take(data.answers.len()).collect();
    shuffle(&mut order, &mut Generator::new(seed));
    let answers = data.answers.clone();
    for (answer, from) in data.answers.iter_mut().zip(order) {
        answer.clone_from(&answers[from as usize]);
    }
    data
}

#[test]
fn finds_what_there_is_to_be_found_and_says_how_surely() {
    let folder = learnable();
    let report = folder.json("train train.json --test test.json -o a.qad --effort quick");
    assert_eq!(report["verdict"]["finding"], json!("better"), "{report}");
    assert_eq!(report["train"]["kept"], json!("adapter"));
    // Fewer than 500 queries: each is held out once.
    assert_eq!(report["verdict"]["queries"], json!(120));
    assert!(numbers(&report, "/verdict/interval")[0] > 0.3, "{report}");
    assert!(number(&report, "/test/adapted/ndcg@10") > 0.8, "{report}");
    // What was written is what was measured.
    let evaluated = folder.json("evaluate test.json --adapter a.qad");
    assert_eq!(evaluated["adapted"], report["test"]["adapted"]);
    let tried = report["train"]["tried"].as_array().expect("a list");
    assert!(tried.len() >= 8 && tried.is_sorted_by(|a, b| number(a, "/ndcg@10") >= number(b, "/ndcg@10")));
    assert_eq!(folder.json("inspect a.qad")["training"]["recipe"], json!("auto"));
}

#[test]
fn the_test_set_changes_nothing_that_is_written() {
    let folder = learnable();
    folder.stdout("train train.json -o without.qad -q --effort quick");
    folder.stdout("train train.json --test test.json -o with.qad -q --effort quick");
    assert_eq!(folder.read("without.qad"), folder.read("with.qad"));
}

#[test]
fn the_same_command_gives_the_same_bytes_for_any_threads_and_level() {
    let folder = learnable();
    let train = "train train.json -q --force -o a.qad --effort quick --seed 3";
    folder.stdout(train);
    let expected = folder.read("a.qad");
    for flags in (1..4).map(|threads| format!("--threads {threads}")) {
        folder.stdout(&format!("{train} {flags}"));
        assert_eq!(folder.read("a.qad"), expected, "{flags}");
    }
    for level in levels() {
        folder.stdout(&format!("{train} --simd {level}"));
        assert_eq!(folder.read("a.qad"), expected, "{level}");
    }
    folder.stdout(&train.replace("--seed 3", "--seed 4"));
    assert_ne!(folder.read("a.qad"), expected);
}

#[test]
fn the_length_of_vectors_changes_nothing() {
    let folder = learnable();
    let mut data = Data::new(60, DIM, 1);
    data.queries.iter_mut().for_each(|query| query.vector.iter_mut().for_each(|x| *x *= 16.0));
    data.documents.iter_mut().for_each(|document| document.vector.iter_mut().for_each(|x| *x *= 0.25));
    folder.write("scaled.json", data.json(true));
    let [one, other] = ["train", "scaled"].map(|name| {
        let report = folder.json(&format!("train {name}.json -o {name}.qad --effort quick"));
        ["/train/tried", "/train/chosen", "/train/validation", "/verdict"]
            .map(|path| report.pointer(path).expect("there").clone())
    });
    assert_eq!(one, other);
}

#[test]
fn no_gain_is_claimed_of_chance() {
    let folder = Folder::new();
    let mut claimed = Vec::new();
    for seed in 0..40 {
        folder.write("train.json", noise(25, seed).json(true));
        let report = folder.json(&format!("train train.json --force --effort quick --seed {seed}"));
        if report["verdict"]["finding"] == json!("better") {
            claimed.push(seed);
        } else {
            assert_eq!(report["train"]["kept"], json!("base"), "{report}");
        }
    }
    assert!(claimed.len() <= 2, "of 40 data sets without anything to learn: {claimed:?}");
}

#[test]
fn the_base_is_kept_without_evidence_unless_told_otherwise() {
    let folder = Folder::new();
    folder.write("train.json", noise(30, 7).json(true));
    let table = folder.stdout("train train.json -o a.qad --effort quick");
    assert!(table.contains("verdict: no evidence of a gain"), "{table}");
    assert!(table.contains("a.qad holds the identity: the base is kept"), "{table}");
    let evaluated = folder.json("evaluate train.json -a a.qad");
    assert_eq!(evaluated["adapted"], evaluated["base"]);
}

#[test]
fn no_part_of_the_way_is_gone_where_the_base_is_chosen() {
    let folder = Folder::new();
    // Half or three quarters of the way would be better than all of it, and not by enough.
    for (documents, seed) in [(12, 9), (8, 37), (8, 44)] {
        folder.write("train.json", noise(documents, seed).json(true));
        let report = folder.json("train train.json --force --effort quick --seed 0");
        let train = &report["train"];
        assert_eq!((&train["chosen"], &train["part_of_the_way"]), (&json!([]), &json!(1.0)), "{report}");
    }
}

#[test]
fn a_required_gain_decides_the_exit_code_and_nothing_else() {
    let folder = learnable();
    folder.write("noise.json", noise(30, 7).json(true));
    folder.stdout("train train.json -o a.qad --effort quick --require-gain");
    let assert = folder.run("train noise.json -o b.qad --effort quick --require-gain").assert().code(6);
    let output = assert.get_output();
    assert!(text(&output.stdout).contains("b.qad holds the identity"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("error: --require-gain: no evidence of a gain"));
    assert!(folder.exists("b.qad"));
}

#[test]
fn validation_pairs_of_the_same_documents_are_trained_on_too() {
    let folder = Folder::new();
    let all = Data::new(60, DIM, 1);
    let half = |odd: usize| {
        let mut data = all.clone();
        let keep = |at: &usize| at % 2 == odd;
        data.queries = (0..120).filter(keep).map(|at| all.queries[at].clone()).collect();
        data.answers = (0..120).filter(keep).map(|at| all.answers[at].clone()).collect();
        data
    };
    folder.write("train.json", half(0).json(true));
    folder.write("val.json", half(1).json(true));
    folder.write("other.json", Data::new(20, DIM, 3).json(true));
    let train = "train train.json -o a.qad --effort quick --force";
    let report = folder.json(&format!("{train} --validation val.json"));
    assert_eq!(report["train"]["pairs"], json!(120));
    // Its questions are about documents that training knows: so are those of the folds.
    assert_eq!(report["train"]["apart"], json!("queries"));
    // Over other documents it chooses, and is measured half by half.
    let report = folder.json(&format!("{train} --validation other.json"));
    assert_eq!((report["train"]["pairs"].clone(), report["train"]["folds"].clone()), (json!(60), json!(1)));
    assert_eq!(report["train"]["apart"], json!("validation"));
    assert_eq!(report["verdict"]["queries"], json!(40));
}

#[test]
fn training_queries_neither_choose_nor_measure() {
    let folder = learnable();
    // The training queries again, over the documents of both sets; then with others behind them.
    let (mut known, other) = (Data::new(60, DIM, 1), Data::new(20, DIM, 3));
    known.documents.extend(other.documents.clone());
    folder.write("known.json", known.json(true));
    let train = "train train.json -o a.qad --effort quick --force";
    let problem = ["known.json: all 120 queries are training queries too", "leave --validation out"];
    folder.refuses(&format!("{train} --validation known.json"), INPUT, &problem);

    let mut both = known.clone();
    both.queries.extend(other.queries.clone());
    both.answers.extend(other.answers.iter().map(|answers| vec![answers[0] + 60]));
    let mut others = both.clone();
    others.queries.drain(..120);
    others.answers.drain(..120);
    folder.write("both.json", both.json(true));
    folder.write("others.json", others.json(true));
    let [of_both, of_others] = ["both", "others"].map(|name| {
        let mut report = folder.json(&format!("{train} --validation {name}.json"));
        report["train"]["seconds"].take();
        report
    });
    assert_eq!(of_both, of_others);
    assert_eq!(of_both["verdict"]["queries"], json!(40));
    for flag in ["", "--dry-run"] {
        let assert = folder.run(&format!("{train} --validation both.json {flag}")).assert().success();
        let stderr = text(&assert.get_output().stderr);
        assert!(
            stderr.contains("both.json: 120 of 160 queries are training queries too, and are left out"),
            "{stderr}"
        );
    }
}

#[test]
fn folds_that_share_documents_are_not_said_to_be_apart() {
    let folder = Folder::new();
    let mut data = Data::new(20, DIM, 1);
    for (query, answers) in data.answers.iter_mut().enumerate() {
        *answers = vec![query / 2, (query / 2 + 1) % 20];
    }
    folder.write("ring.json", data.json(true));
    let report = folder.json("train ring.json -o a.qad --effort quick");
    assert_eq!(
        (report["train"]["apart"].clone(), report["train"]["folds"].clone()),
        (json!("queries"), json!(3))
    );
    folder.write("apart.json", Data::new(20, DIM, 1).json(true));
    let report = folder.json("train apart.json -o b.qad --effort quick");
    assert_eq!(report["train"]["apart"], json!("documents"));
}

#[test]
fn an_adapter_that_moves_unrelated_queries_is_refused() {
    let folder = learnable();
    let mut generator = Generator::new(5);
    let rows: Vec<Vec<f32>> =
        (0..50).map(|_| (0..DIM).map(|_| generator.below(1000) as f32 - 500.0).collect()).collect();
    write_npy(&folder.path("keep.npy"), &rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let train = "train train.json --effort quick --force -o a.qad --keep keep.npy";
    let report = folder.json(train);
    assert_eq!(report["verdict"]["finding"], json!("moves-others"), "{report}");
    assert_eq!(report["verdict"]["kept"]["queries"], json!(50));
    assert!(number(&report, "/verdict/kept/first_changed") > 2.0);
    assert_eq!(report["train"]["kept"], json!("base"));
    let report = folder.json(&format!("{train} --accept-uncertain"));
    assert_eq!(report["train"]["kept"], json!("adapter"));
    // The same queries as a data set: with vectors of its own, or in the folder of all.
    let entries: Vec<_> =
        rows.iter().enumerate().map(|(row, vector)| (format!("k{row}"), json!(vector))).collect();
    let texts: serde_json::Map<_, _> = entries.iter().map(|(id, _)| (id.clone(), json!("text"))).collect();
    let vectors: serde_json::Map<_, _> = entries.into_iter().collect();
    folder.write(
        "keep.json",
        json!({"queries": texts, "corpus": {}, "relevant_docs": {}, "query_embeddings": vectors}).to_string(),
    );
    let inline = folder.json(&train.replace("keep.npy", "keep.json"));
    assert_eq!(inline["verdict"]["kept"], report["verdict"]["kept"]);
}

#[test]
fn queries_to_keep_must_be_vectors_of_the_same_model() {
    let folder = learnable();
    write_npy(&folder.path("wide.npy"), &[&[1.0; DIM + 1]]);
    let mut row = [1.0; DIM];
    row[3] = f32::NAN;
    write_npy(&folder.path("nan.npy"), &[&[1.0; DIM], &row]);
    folder.write("text.npy", "not a matrix");
    folder.write("inline.json", r#"{"queries": {"a": "x"}, "corpus": {}, "relevant_docs": {}}"#);
    folder.write("empty.json", r#"{"queries": {}, "corpus": {}, "relevant_docs": {}}"#);
    folder.write("less.json", r#"{"queries": {"a": "x", "b": "y"}, "corpus": {}, "relevant_docs": {}, "query_embeddings": {"a": [1, 2]}}"#);
    folder.write(
        "long.json",
        r#"{"queries": {"a": "x"}, "corpus": {}, "relevant_docs": {}, "query_embeddings": {"a": [1e30, 0, 0, 0, 0, 0, 0, 0]}}"#,
    );
    for (file, parts) in [
        ("wide.npy", ["wide.npy: its vectors have 9 components, those of train.json have 8", "one model"]),
        ("nan.npy", ["nan.npy: row 1 (\"2\") component 3: found NaN", "expected a finite number"]),
        ("text.npy", ["text.npy", ".npy"]),
        ("none.npy", ["none.npy", "there is no such file"]),
        ("none.json", ["none.json", "there is no such file"]),
        ("inline.json", ["inline.json: it has no \"query_embeddings\"", "--embeddings DIR"]),
        ("empty.json", ["empty.json: \"queries\" is empty", "at least one query"]),
        ("less.json", ["less.json: the query \"b\" has no vector", "query_embeddings of less.json"]),
        (
            "long.json",
            ["long.json: the vector of the query \"a\" has the length 1.000e30", "scale all vectors down"],
        ),
    ] {
        folder.refuses(&format!("train train.json --keep {file} -o a.qad"), INPUT, &parts);
    }
}

#[test]
fn the_control_shows_no_gain_where_there_is_one() {
    let folder = learnable();
    let report = folder.json("train train.json -o a.qad --effort quick --control");
    assert_eq!(report["verdict"]["finding"], json!("better"));
    assert_ne!(report["control"]["finding"], json!("better"), "{report}");
    let table = folder.stdout("train train.json -o b.qad --effort quick --control");
    assert!(
        table.contains("control, labels shuffled: ") && table.contains("; no gain, as it must be"),
        "{table}"
    );
}

#[test]
fn a_limit_of_time_is_said_to_make_runs_differ() {
    let folder = learnable();
    let assert = folder.run("train train.json -o a.qad --max-seconds 0.001").assert().success();
    let stderr = text(&assert.get_output().stderr);
    assert!(stderr.contains("how much is tried depends on the clock"), "{stderr}");
}

#[test]
fn too_few_queries_to_hold_any_out_are_refused() {
    let folder = Folder::new();
    folder.write("train.json", Data::new(1, DIM, 1).json(true));
    folder.write("two.json", Data::new(2, DIM, 1).json(true));
    folder.refuses("train train.json -o a.qad", INPUT, &["train.json", "without another one"]);
    let parts = ["two.json: 4 labelled queries are too few", "--recipe single with --validation"];
    folder.refuses("train two.json -o a.qad", INPUT, &parts);
    // A dozen can be folded; nothing is claimed of them lightly.
    folder.write("six.json", noise(6, 3).json(true));
    let report = folder.json("train six.json -o a.qad");
    assert_ne!(report["verdict"]["finding"], json!("better"));
    // Too few to hold any out of what is left after a fold: the training queries are all there is to show.
    let mut three = Data::new(3, DIM, 5);
    three.queries.truncate(3);
    three.answers = vec![vec![0], vec![1], vec![2]];
    folder.write("three.json", three.json(true));
    let report = folder.json("train three.json -o b.qad");
    assert_eq!(report["verdict"]["finding"], json!("not-measured"));
    assert_eq!((report["adapted"].clone(), report["queries"].clone()), (report["base"].clone(), json!(3)));
}

#[test]
fn flags_of_one_recipe_are_usage_errors_with_another() {
    let folder = learnable();
    for (flags, parts) in [
        ("--recipe auto --lr 0.1", ["the recipe auto chooses its settings itself", "leave --lr out"]),
        ("--control --epochs 3", ["--control is for the recipe auto", "leave --epochs or --control out"]),
        ("--recipe single --require-gain", ["--require-gain is for the recipe auto", "--recipe auto"]),
        ("--recipe reference --effort quick", ["--effort is for the recipe auto", "leave it out"]),
    ] {
        folder.refuses(&format!("train train.json -o a.qad {flags}"), USAGE, &parts);
    }
    let assert = folder.run("train train.json -o a.qad --epochs 2").assert().success();
    let stderr = text(&assert.get_output().stderr);
    assert!(stderr.contains("note: --epochs is given: one run, as --recipe single has it"), "{stderr}");
}
