//! TREC files through `evaluate` and `train`: judgements, run files in and out, grades, ties and self-matches.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Folder, number, text};

const INPUT: i32 = 3;
const USAGE: i32 = 2;

/// Four documents with the same vector, one of them relevant.
const TIED: &str = r#"{
    "queries": {"q": "a"},
    "corpus": {"d1": "w", "d2": "x", "d3": "y", "d4": "z"},
    "relevant_docs": {"q": ["d1"]},
    "query_embeddings": {"q": [1, 0]},
    "corpus_embeddings": {"d1": [3, 4], "d2": [3, 4], "d3": [3, 4], "d4": [3, 4]}
}"#;

/// Each query is nearest to the document of its own id.
const SELF: &str = r#"{
    "queries": {"x1": "a", "x2": "b"},
    "corpus": {"x1": "a", "y1": "c", "x2": "b", "y2": "d"},
    "relevant_docs": {"x1": ["y1"], "x2": ["y2"]},
    "query_embeddings": {"x1": [1, 0], "x2": [0, 1]},
    "corpus_embeddings": {"x1": [1, 0], "y1": [1, 0.5], "x2": [0, 1], "y2": [0.5, 1]}
}"#;

/// Ranked a, b, c, d.
const GRADED: &str = r#"{
    "queries": {"q": "x"},
    "corpus": {"a": "a", "b": "b", "c": "c", "d": "d"},
    "relevant_docs": {"q": {"a": 0, "b": 3, "c": 1, "d": 2}},
    "query_embeddings": {"q": [1, 0]},
    "corpus_embeddings": {"a": [1, 0], "b": [1, 0.5], "c": [1, 1], "d": [1, 2]}
}"#;

fn hit_and_mrr(report: &Value, pointer: &str) -> (f64, f64) {
    (number(report, &format!("{pointer}/hit_rate@1")), number(report, &format!("{pointer}/mrr@10")))
}

#[test]
fn ties_go_by_ascending_id_or_as_trec_eval_has_them_and_are_counted() {
    let folder = Folder::new();
    folder.write("tied.json", TIED);
    let report = folder.json("evaluate tied.json");
    assert_eq!(hit_and_mrr(&report, "/base"), (1.0, 1.0));
    assert_eq!(report["ties"], json!({ "base": { "relevant": 1, "at_cut": 0 } }));
    let report = folder.json("evaluate tied.json --ties trec");
    assert_eq!(hit_and_mrr(&report, "/base"), (0.0, 0.25));
    let printed = folder.stdout("evaluate tied.json");
    assert!(
        printed.contains("scores as one that is not: 1 (base); ties at the cut (ranks 10, 11): 0"),
        "{printed}"
    );
    folder.write("two.json", SELF);
    assert!(!folder.stdout("evaluate two.json").contains("ties"));
}

#[test]
fn a_document_with_the_id_of_the_query_can_be_left_out() {
    let folder = Folder::new();
    folder.write("self.json", SELF);
    assert_eq!(hit_and_mrr(&folder.json("evaluate self.json"), "/base"), (0.0, 0.5));
    assert_eq!(hit_and_mrr(&folder.json("evaluate self.json --ignore-self"), "/base"), (1.0, 1.0));
    folder.stdout("evaluate self.json --predictions all.run");
    folder.stdout("evaluate self.json --predictions others.run --ignore-self");
    assert!(text(&folder.read("all.run")).starts_with("x1 Q0 x1 1 1 base\n"));
    assert!(text(&folder.read("others.run")).starts_with("x1 Q0 y1 1 0.89442"));
    folder.write("qrels", "x1 0 y1 1\nx2 0 y2 1\n");
    let judged = folder.json("evaluate --run all.run --qrels qrels --ignore-self");
    assert_eq!(hit_and_mrr(&judged, "/metrics"), (1.0, 1.0));
}

#[test]
fn grades_count_where_they_are_asked_for_and_it_is_said() {
    let folder = Folder::new();
    folder.write("graded.json", GRADED);
    folder.write("qrels", "q 0 a 0\nq 0 b 3\nq 0 c 1\nq 0 d 2\n");
    // Linear gain: 3 / log₂3 + 1 / 2 + 2 / log₂5 over 3 + 2 / log₂3 + 1 / 2; binary: the same with gains of 1.
    let (graded, binary) = (0.683_376_393_608_391_6, 0.732_828_620_477_791_1);
    for (words, gain, expected) in [
        ("evaluate graded.json", "binary", binary),
        ("evaluate graded.json --gain graded", "graded", graded),
        ("evaluate graded.json --qrels qrels", "graded", graded),
        ("evaluate graded.json --qrels qrels --gain binary", "binary", binary),
    ] {
        let report = folder.json(words);
        assert_eq!(report["gain"], json!(gain), "{words}");
        assert!((number(&report, "/base/ndcg@10") - expected).abs() < 1e-12, "{words}: {report}");
        assert_eq!(hit_and_mrr(&report, "/base"), (0.0, 0.5), "a grade of 0 is not relevant");
        for words in [words, &format!("{words} --compare base=")] {
            assert!(folder.stdout(words).contains(&format!("nDCG has {gain} gain")), "{words}");
        }
    }
    folder.write("plain.json", TIED);
    assert!(!folder.stdout("evaluate plain.json --gain graded").contains("gain"), "there are no grades");
}

#[test]
fn judgements_of_a_file_take_the_place_of_the_data_sets_own() {
    let folder = Folder::new();
    folder.write("graded.json", GRADED);
    folder.write("beir.tsv", "query-id\tcorpus-id\tscore\r\nq\ta\t1\r\nother\ta\t1\r\n");
    let report = folder.json("evaluate graded.json --qrels beir.tsv -q");
    assert_eq!(hit_and_mrr(&report, "/base"), (1.0, 1.0));
    folder.write("foreign", "other 0 a 1\n");
    folder.refuses(
        "evaluate graded.json --qrels foreign",
        INPUT,
        &["foreign: it judges no query of graded.json", "the first is \"other\""],
    );
    folder.refuses("evaluate graded.json --qrels gone", INPUT, &["gone: there is no such file"]);
}

#[test]
fn written_rankings_are_judged_as_the_ones_they_are() {
    let folder = Folder::with_adapter();
    let labels: Value = serde_json::from_slice(&folder.read("test.json")).expect("JSON");
    let mut qrels = String::new();
    for (query, documents) in labels["relevant_docs"].as_object().expect("an object") {
        for document in documents.as_array().expect("a list") {
            qrels += &format!("{query} 0 {} 1\n", document.as_str().expect("an id"));
        }
    }
    folder.write("qrels", qrels);
    let report = folder.json("evaluate test.json -a a.qad --predictions a.run");
    folder.stdout("evaluate test.json --predictions base.run");
    for (run, side) in [("a.run", "adapted"), ("base.run", "base")] {
        for judged_by in ["--qrels qrels", "test.json", "--qrels qrels --ties trec"] {
            let judged = folder.json(&format!("evaluate {judged_by} --run {run}"));
            let metrics = judged["metrics"].as_object().expect("an object");
            assert_eq!(metrics.len(), 16);
            for (metric, value) in metrics {
                // Means are sums in the order of the judgements.
                let expected = report[side][metric].as_f64().expect("a number");
                let value = value.as_f64().expect("a number");
                assert!((value - expected).abs() < 1e-12, "{run} {judged_by}: {metric} {value} {expected}");
            }
            assert_eq!((&judged["missing"], &judged["unjudged"]), (&json!(0), &json!(0)));
        }
    }
    assert!(text(&folder.read("a.run")).lines().all(|line| line.ends_with(" a")), "the tag is the adapter's");
    // The same rankings as at the end of training.
    folder.stdout("train train.json --test test.json --recipe single -o b.qad --predictions b.run -q");
    let untagged = |name| {
        text(&folder.read(name))
            .lines()
            .map(|l| l.rsplit_once(' ').expect("a tag").0.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(untagged("b.run"), untagged("a.run"));
}

#[test]
fn ties_are_written_in_the_order_that_is_meant() {
    let folder = Folder::new();
    folder.write("tied.json", TIED);
    folder.write("qrels", "q 0 d1 1\n");
    folder.stdout("evaluate tied.json --predictions tied.run");
    for ties in ["ascending", "trec"] {
        let judged = folder.json(&format!("evaluate --run tied.run --qrels qrels --ties {ties}"));
        assert_eq!(hit_and_mrr(&judged, "/metrics"), (1.0, 1.0), "{ties}");
    }
}

#[test]
fn queries_that_a_run_lacks_count_as_nothing_found() {
    let folder = Folder::new();
    folder.write("qrels", "q1 0 a 1\nq2 0 b 1\n");
    folder.write("one.run", "q1 Q0 a 1 0.5 t\nq9 Q0 a 1 0.5 t\n");
    let judged = folder.json("evaluate --run one.run --qrels qrels -q");
    assert_eq!(hit_and_mrr(&judged, "/metrics"), (0.5, 0.5));
    assert_eq!(
        (&judged["queries"], &judged["missing"], &judged["unjudged"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let skipped = folder.json("evaluate --run one.run --qrels qrels --missing skip -q");
    assert_eq!((hit_and_mrr(&skipped, "/metrics"), &skipped["queries"]), ((1.0, 1.0), &json!(1)));
    // A data set bounds the queries and the documents.
    folder.write("graded.json", GRADED);
    folder.write("more", "q 0 a 1\nq 0 absent 1\nother 0 a 1\n");
    folder.write("q.run", "q Q0 a 1 1 t\nother Q0 a 1 1 t\n");
    let bounded = folder.json("evaluate graded.json --run q.run --qrels more -q");
    assert_eq!(
        (&bounded["queries"], &bounded["missing"], &bounded["unjudged"]),
        (&json!(1), &json!(0), &json!(1))
    );
    assert_eq!(number(&bounded, "/metrics/recall@10"), 1.0);
    let output = folder.run("evaluate --run one.run --qrels qrels").assert().success();
    let notes = text(&output.get_output().stderr);
    assert!(notes.contains("1 judged queries are not in it; they count as 0"), "{notes}");
    assert!(notes.contains("1 of its queries are not judged"), "{notes}");
}

#[test]
fn what_cannot_be_judged_is_refused_in_one_line() {
    let folder = Folder::new();
    folder.write("graded.json", GRADED);
    folder.write("qrels", "q 0 a 1\n");
    folder.write("good.run", "q Q0 a 1 0.5 t\n");
    for (name, contents, parts) in [
        ("empty.run", "", &["empty.run: the file is empty"][..]),
        ("mark.run", "\u{feff}\r\n", &["mark.run: the file is empty"]),
        ("nan.run", "\u{feff}q Q0 a 1 0.5 t\r\nq Q0 b 2 NaN t\r\n", &["nan.run: line 2", "\"NaN\""]),
        ("twice.run", "q Q0 a 1 0.5 t\nq Q0 a 2 0.4 t\n", &["twice.run: line 2", "in line 1 already"]),
        (
            "ranks.run",
            "q Q0 a 1 0.4 t\nq Q0 b 2 0.5 t\n",
            &["ranks.run: line 2", "ranks and scores must agree"],
        ),
        ("columns.run", "q Q0 a 1 0.5\n", &["columns.run: line 1: found 5 columns"]),
        ("other.run", "x Q0 a 1 0.5 t\n", &["qrels: it judges no query of other.run"]),
    ] {
        folder.write(name, contents);
        folder.refuses(&format!("evaluate --run {name} --qrels qrels"), INPUT, parts);
    }
    for (name, contents, parts) in [
        ("empty.qrels", "", &["empty.qrels: the file is empty"][..]),
        ("columns.qrels", "q 0 a 1\nq 0 a\n", &["columns.qrels: line 2: found 3 columns, expected 4"]),
        ("grade.qrels", "q 0 a x\n", &["grade.qrels: line 1: the grade is \"x\""]),
        ("none.qrels", "q 0 a 0\n", &["none.qrels: no query has a relevant document"]),
    ] {
        folder.write(name, contents);
        folder.refuses(&format!("evaluate --run good.run --qrels {name}"), INPUT, parts);
    }
    folder.refuses("evaluate --run good.run", USAGE, &["--qrels"]);
    folder.write("spaces.json", GRADED.replace("\"b\": ", "\"b b\": ").replace("\"b\":", "\"b b\":"));
    folder.refuses(
        "evaluate spaces.json --predictions p.run",
        INPUT,
        &["spaces.json: the document id \"b b\"", "white space"],
    );
    folder.write("p.run", "precious");
    folder.refuses("evaluate graded.json --predictions p.run", 4, &["p.run: exists already", "--force"]);
    folder.stdout("evaluate graded.json --predictions p.run --force");
    assert!(text(&folder.read("p.run")).starts_with("q Q0 a 1 1 base\n"));
    let expected = ["--per-query and --predictions name the same file; give each its own"];
    for per_query in ["x", "./x"] {
        let words = format!("evaluate graded.json --predictions x --per-query {per_query}");
        folder.refuses(&words, USAGE, &expected);
    }
}

#[test]
fn every_value_of_a_run_file_is_that_of_trec_eval() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytrec_runs.json");
    let fixture: Value = serde_json::from_reader(File::open(file).expect("there")).expect("JSON");
    let lines = |case: &Value, key: &str| -> String {
        let lines = case[key].as_array().expect("a list").iter();
        lines.map(|line| format!("{}\n", line.as_str().expect("a line"))).collect()
    };
    // The reciprocal rank has no cut there; of 100 documents ours sees all.
    let metrics = [
        ("mrr@100", "recip_rank"),
        ("ndcg@1", "ndcg_cut_1"),
        ("ndcg@5", "ndcg_cut_5"),
        ("ndcg@10", "ndcg_cut_10"),
        ("ndcg@100", "ndcg_cut_100"),
        ("map@100", "map_cut_100"),
        ("recall@5", "recall_5"),
        ("recall@10", "recall_10"),
        ("precision@1", "P_1"),
        ("precision@5", "P_5"),
        ("precision@10", "P_10"),
        ("hit_rate@1", "success_1"),
        ("hit_rate@5", "success_5"),
        ("hit_rate@10", "success_10"),
    ];
    let names = metrics.map(|(ours, _)| ours).join(",");
    let mut compared = 0;
    for case in fixture["cases"].as_array().expect("a list") {
        let folder = Folder::new();
        folder.write("a.run", lines(case, "run"));
        folder.write("qrels", lines(case, "qrels"));
        let words = "compare a.run b=a.run --qrels qrels --ties trec -q --per-query values.jsonl";
        folder.stdout(&format!("{words} --metrics {names}"));
        let values = text(&folder.read("values.jsonl"));
        for row in values.lines() {
            let row: Value = serde_json::from_str(row).expect("JSON");
            let query = row["query"].as_str().expect("an id");
            for (ours, theirs) in metrics {
                // trec_eval has no value for a query that the run lacks; here it is 0.
                let expected =
                    case["results"].get(query).map_or(0.0, |results| number(results, &format!("/{theirs}")));
                let found = row[ours].as_f64().expect("a number");
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{}, {query}, {ours}: {found}, {theirs} {expected}",
                    case["name"]
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 600, "{compared}");
}

#[test]
fn the_shared_cases_of_evaluation_are_what_trec_eval_says() {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/inputs");
    let mut cases = 0;
    for name in ["D1", "D3", "D4", "D7", "D8", "D9", "D11", "D17", "D18"] {
        let case = inputs.join(name);
        if !case.is_dir() {
            continue;
        }
        let read = |file: &str| -> Value {
            serde_json::from_reader(File::open(case.join(file)).expect("there")).expect("JSON")
        };
        let folder = Folder::new();
        let lines = |table: &Value, line: &dyn Fn(&str, &str, &Value) -> String| -> String {
            let table = table.as_object().expect("an object");
            let documents = table.iter().flat_map(|(query, of)| {
                of.as_object()
                    .expect("an object")
                    .iter()
                    .map(move |(document, value)| (query, document, value))
            });
            documents.map(|(query, document, value)| line(query, document, value)).collect()
        };
        folder.write(
            "qrels",
            lines(&read("qrels.json"), &|query, document, grade| format!("{query} 0 {document} {grade}\n")),
        );
        folder.write(
            "run",
            lines(&read("run.json"), &|query, document, score| {
                format!("{query} Q0 {document} 1 {score} t\n")
            }),
        );
        let results = read("pytrec_eval.json");
        let results = results.as_object().expect("an object");
        let mut judged =
            vec![("the run", folder.json("evaluate --run run --qrels qrels --ties trec"), "/metrics")];
        if case.join("dataset.json").is_file() {
            fs::copy(case.join("dataset.json"), folder.path("dataset.json")).expect("copied");
            let words = "evaluate dataset.json --qrels qrels --ties trec -q";
            judged.push(("the vectors", folder.json(words), "/base"));
        }
        for (what, report, pointer) in judged {
            for (ours, theirs) in [
                ("precision@5", "P_5"),
                ("precision@10", "P_10"),
                ("recall@5", "recall_5"),
                ("recall@10", "recall_10"),
                ("hit_rate@1", "success_1"),
                ("hit_rate@5", "success_5"),
                ("hit_rate@10", "success_10"),
                ("mrr@10", "recip_rank"),
                ("ndcg@10", "ndcg_cut_10"),
                ("map@100", "map"),
            ] {
                let mean = results.values().map(|query| number(query, &format!("/{theirs}"))).sum::<f64>()
                    / results.len() as f64;
                let found = number(&report, &format!("{pointer}/{ours}"));
                // Their values have six digits.
                assert!((found - mean).abs() < 1e-6, "{name}, {what}: {ours} {found}, {theirs} {mean}");
            }
        }
        cases += 1;
    }
    // Past the test harness, which hides what passing tests print.
    let _ = match cases {
        0 => writeln!(std::io::stderr(), "SKIPPED: {} is absent", inputs.display()),
        cases => writeln!(std::io::stderr(), "judged {cases} shared cases of evaluation as trec_eval does"),
    };
}
