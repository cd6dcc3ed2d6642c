//! The metrics against values of pytrec_eval, trec_eval's own code.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use host_cli::ids::Ids;
use host_cli::metrics::{Gain, Judged, Judgement, Measure, Metric, best_documents};
use serde_json::Value;

/// Per query and document: a grade or a score.
type Table = BTreeMap<String, BTreeMap<String, f64>>;

/// Per query and trec_eval measure: its value.
type Results = BTreeMap<String, BTreeMap<String, f64>>;

/// Which metric of ours is a measure of trec_eval's; a measure without a cut sees the whole ranking.
fn metric(trec_measure: &str) -> Metric {
    let (measure, k) = match trec_measure {
        "map" | "map_cut_100" => (Measure::Map, 100),
        "ndcg" => (Measure::Ndcg, 100),
        "ndcg_cut_5" => (Measure::Ndcg, 5),
        "ndcg_cut_10" => (Measure::Ndcg, 10),
        "recip_rank" => (Measure::Mrr, 100),
        "mrr_cut_10" => (Measure::Mrr, 10),
        "recall_5" => (Measure::Recall, 5),
        "recall_10" => (Measure::Recall, 10),
        "P_5" => (Measure::Precision, 5),
        "P_10" => (Measure::Precision, 10),
        "success_1" => (Measure::HitRate, 1),
        "success_5" => (Measure::HitRate, 5),
        "success_10" => (Measure::HitRate, 10),
        other => panic!("unknown measure {other}"),
    };
    Metric::new(measure, k).expect("a valid k")
}

/// Compares every value and returns how many.
fn compare(name: &str, qrels: &Table, run: &Table, results: &Results, tolerance: f64) -> usize {
    let mut compared = 0;
    for (query, results) in results {
        let (grades, scores) = (&qrels[query], &run[query]);
        let mut ids = Ids::default();
        // A judged document may be missing from the run; it comes after all that are there.
        for id in scores.keys().chain(grades.keys().filter(|id| !scores.contains_key(*id))) {
            ids.push(id).expect("distinct");
        }
        // trec_eval reads scores as 32-bit floats and orders equal ones by descending id.
        #[allow(clippy::cast_possible_truncation, reason = "that is what trec_eval does")]
        let retrieved: Vec<f32> = scores.values().map(|&score| score as f32).collect();
        let last = u32::try_from(ids.len()).expect("few") - 1;
        let descending: Vec<u32> = ids.byte_ranks().iter().map(|rank| last - rank).collect();
        let ranking = best_documents(&retrieved, &descending[..retrieved.len()], 100);
        let judgements: Vec<Judgement> = grades
            .iter()
            .map(|(id, &grade)| Judgement { document: ids.index_of(id).expect("known"), grade })
            .collect();
        let judged = Judged::new(&ranking, &judgements, Gain::Graded);
        for (measure, &expected) in results {
            let found = metric(measure).value(&judged);
            assert!(
                (found - expected).abs() <= tolerance,
                "{name}, {query}, {measure}: {found}, expected {expected}"
            );
            compared += 1;
        }
    }
    compared
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    serde_json::from_slice(&fs::read(file).expect("readable")).expect("JSON of the expected form")
}

fn section<T: serde::de::DeserializeOwned>(case: &Value, name: &str) -> T {
    serde_json::from_value(case[name].clone()).expect("a section of the expected form")
}

#[test]
fn every_value_of_the_fixture_is_reproduced() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytrec_metrics.json");
    let fixture: Value = read(&file);
    let cases = fixture["cases"].as_array().expect("a list");
    let compared: usize = cases
        .iter()
        .map(|case| {
            let name = case["name"].as_str().expect("a name");
            compare(name, &section(case, "qrels"), &section(case, "run"), &section(case, "results"), 1e-12)
        })
        .sum();
    assert!(cases.len() >= 16 && compared >= 300, "{} cases, {compared} values", cases.len());
}

#[test]
fn every_value_of_the_shared_cases_is_reproduced() {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/inputs");
    let mut folders: Vec<_> = fs::read_dir(&inputs)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    folders.retain(|folder| folder.join("pytrec_eval.json").is_file());
    folders.sort();
    let mut compared = 0;
    for folder in &folders {
        let table = |name: &str| read(&folder.join(name));
        let name = folder.display().to_string();
        // These values were rounded to six digits.
        compared += compare(
            &name,
            &table("qrels.json"),
            &table("run.json"),
            &read(&folder.join("pytrec_eval.json")),
            5.1e-7,
        );
    }
    // Past the test harness, which hides what passing tests print.
    let _ = match folders.len() {
        0 => writeln!(std::io::stderr(), "SKIPPED: {} is absent", inputs.display()),
        cases => {
            writeln!(std::io::stderr(), "compared {compared} values of {cases} shared cases with pytrec_eval")
        }
    };
}
