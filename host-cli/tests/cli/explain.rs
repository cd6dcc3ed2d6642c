//! `explain`: one query before and after an adapter.

use serde_json::json;

use crate::support::{Folder, number};

const INPUT: i32 = 3;

#[test]
fn ranks_scores_and_near_pairs_are_those_of_the_rankings() {
    let folder = Folder::with_adapter();
    let report = folder.json("explain test.json --adapter a.qad --query q2-3-1 --train train.json --top 4");
    assert_eq!(
        (&report["query"], &report["text"]),
        (&json!("q2-3-1"), &json!("question 1 about subject 2-3"))
    );
    let [relevant] = &report["relevant"].as_array().expect("a list")[..] else { panic!("{report}") };
    assert_eq!((&relevant["document"], &relevant["relevant"]), (&json!("d2-3"), &json!(true)));
    assert_eq!(relevant["text"], json!("all there is to know of subject 2-3"));
    for (tag, words, side) in [("base", "", "before"), ("a", "-a a.qad", "after")] {
        folder.stdout(&format!("evaluate test.json {words} --predictions {tag}.run"));
        let run = String::from_utf8(folder.read(&format!("{tag}.run"))).expect("UTF-8");
        let rows: Vec<Vec<&str>> = run
            .lines()
            .filter(|line| line.starts_with("q2-3-1 "))
            .map(|line| line.split(' ').collect())
            .collect();
        let shown = report[side].as_array().expect("a list");
        assert_eq!((rows.len(), shown.len()), (6, 4));
        for (row, document) in rows.iter().zip(shown) {
            assert_eq!(document["document"], json!(row[2]));
            assert_eq!(document[format!("rank_{side}")].to_string(), row[3]);
            let score: f32 = row[4].parse().expect("a number");
            assert!((number(document, &format!("/score_{side}")) - f64::from(score)).abs() < 1e-6);
        }
        let rank = rows.iter().position(|row| row[2] == "d2-3").expect("found") + 1;
        assert_eq!(relevant[format!("rank_{side}")], json!(rank));
    }
    let near = report["nearest"].as_array().expect("a list");
    assert_eq!(near.len(), 5);
    let cosines: Vec<f64> = near.iter().map(|pair| number(pair, "/cosine")).collect();
    assert!(
        cosines.windows(2).all(|pair| pair[0] >= pair[1]) && cosines.iter().all(|c| (-1.0..1.0).contains(c))
    );
    assert!(near.iter().all(|pair| pair["query"].as_str().is_some_and(|id| id.starts_with("q1-"))));
    assert!(near.iter().all(|pair| pair["answers"][0]["shared"] == json!(false)));
    assert!(
        near[0]["answers"][0]["text"].as_str().is_some_and(|text| text.starts_with("all there is to know"))
    );
}

#[test]
fn without_training_data_the_nearest_are_of_the_data_set_itself() {
    let folder = Folder::with_adapter();
    let report = folder.json("explain train.json -a a.qad --query q1-4-0");
    let near = report["nearest"].as_array().expect("a list");
    // The other question about the same document.
    assert_eq!((&near[0]["query"], &near[0]["answers"][0]["shared"]), (&json!("q1-4-1"), &json!(true)));
    assert!(near.iter().all(|pair| pair["query"] != json!("q1-4-0")));
    let printed = folder.stdout("explain train.json -a a.qad --query q1-4-0");
    for part in [
        "query \"q1-4-0\": question 0 about subject 1-4\n",
        "relevant \"d1-4\": rank ",
        "\nbefore: the first 10\n",
        "\nthrough the adapter: the first 10\n",
        "┆ * ┆",
        "nearest of the queries of train.json",
        "→ * \"d1-4\" all there",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let folder = Folder::with_adapter();
    folder.refuses(
        "explain train.json -a a.qad --query q9",
        INPUT,
        &["train.json: there is no query \"q9\" with a relevant document", "\"q1-0-0\""],
    );
    folder.refuses(
        "explain train.json -a gone.qad --query q1-0-0",
        INPUT,
        &["gone.qad: there is no such file"],
    );
    #[cfg(unix)]
    for words in ["/dev/null", "train.json --train /dev/null"] {
        let words = format!("explain {words} -a a.qad --query q1-0-0");
        folder.refuses(&words, INPUT, &["/dev/null: this can be read only once, and explain reads it again"]);
    }
    folder.run("explain train.json -a a.qad --query q1-0-0 --top 0").assert().code(2);
    folder.run("explain train.json --query q1-0-0").assert().code(2);
}
