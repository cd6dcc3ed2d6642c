//! What is wrong with data sets, forms of data sets, and what `--strict` refuses.

use serde_json::json;

use crate::support::{DIM, Data, Folder, text};

const INPUT: i32 = 3;
const UNCLEAN: i32 = 7;

/// A folder with the small data set as rows, as a BEIR folder, as three files, and vectors for all of them.
fn forms() -> Folder {
    let folder = Folder::new();
    let data = Data::small();
    data.write_folder(&folder.path("vectors"));
    let line = |value: serde_json::Value| format!("{value}\n");
    let rows: String = data
        .queries
        .iter()
        .zip(&data.answers)
        .map(|(query, answers)| {
            let document = &data.documents[answers[0]];
            line(json!({"id": query.id, "question": query.text, "doc_id": document.id, "chunk": document.text}))
        })
        .collect();
    folder.write("rows.jsonl", rows);
    for name in ["beir", "beir/qrels", "three"] {
        std::fs::create_dir(folder.path(name)).expect("a folder");
    }
    let texts = |list: &[crate::support::Text]| -> String {
        list.iter().map(|text| line(json!({"_id": text.id, "title": "", "text": text.text}))).collect()
    };
    folder.write("beir/corpus.jsonl", texts(&data.documents));
    folder.write("beir/queries.jsonl", texts(&data.queries));
    let judgements = |queries: core::ops::Range<usize>| -> String {
        let of = |query: usize| {
            let (query, answers) = (&data.queries[query].id, &data.answers[query]);
            format!("{query}\t{}\t1\n", data.documents[answers[0]].id)
        };
        "query-id\tcorpus-id\tscore\n".to_owned() + &queries.map(of).collect::<String>()
    };
    folder.write("beir/qrels/train.tsv", judgements(0..30));
    folder.write("beir/qrels/test.tsv", judgements(30..40));
    folder.write("plain.json", data.json(false));
    let object = |entries: Vec<String>| format!("{{{}}}", entries.join(", "));
    let entries = |list: &[crate::support::Text]| {
        list.iter().map(|text| format!("{:?}: {:?}", text.id, text.text)).collect()
    };
    let labels = data.queries.iter().zip(&data.answers);
    let labels =
        labels.map(|(query, answers)| format!("{:?}: [{:?}]", query.id, data.documents[answers[0]].id));
    folder.write("three/queries.json", object(entries(&data.queries)));
    folder.write("three/corpus.json", object(entries(&data.documents)));
    folder.write("three/relevant_docs.json", object(labels.collect()));
    folder
}

#[test]
fn every_form_of_a_data_set_gives_the_same_figures() {
    let folder = forms();
    let figures = |path: &str| folder.json(&format!("evaluate {path} --embeddings vectors -q"));
    let expected = figures("plain.json");
    for path in ["rows.jsonl", "three"] {
        assert_eq!(figures(path), expected, "{path}");
    }
    let test = figures("beir");
    assert_eq!(test["queries"], 10);
    assert_eq!(figures("beir/qrels/test.tsv"), test);
    assert_eq!(folder.json("evaluate beir --split train --embeddings vectors -q")["queries"], 30);
}

#[test]
fn a_beir_folder_is_trained_and_tested_on_its_splits() {
    let folder = forms();
    let words = "train beir --test beir --embeddings vectors --recipe single --epochs 1 -o a.qad";
    let assert = folder.run(words).assert().success();
    let stderr = text(&assert.get_output().stderr);
    for expected in [
        "note: beir/qrels/train.tsv: 30 queries, 20 documents, 30 labels; vectors of 8 components",
        "note: beir/qrels/test.tsv: 10 queries, 20 documents, 10 labels",
        "beir/qrels/test.tsv: documents whose text beir/qrels/train.tsv has too: 20 of 20",
    ] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    assert!(!stderr.contains("queries whose text"), "{stderr}");
}

#[test]
fn every_command_reads_the_split_and_the_keys_that_are_meant() {
    let folder = forms();
    let flags = "--embeddings vectors -q";
    folder.stdout(&format!("train beir {flags} --recipe single --epochs 1 -o a.qad"));
    // The queries of the training split are about the first 15 documents, those of the test about the last 5.
    let explained = |words: &str| {
        let report = folder.json(&format!("explain {words} -a a.qad {flags}"));
        assert!(report["text"].as_str().is_some_and(|text| text.starts_with("question ")), "{report}");
        for near in report["nearest"].as_array().expect("a list") {
            assert!(near["text"].as_str().is_some_and(|text| text.starts_with("question ")), "{near}");
            assert!(
                near["answers"][0]["text"].as_str().is_some_and(|text| text.starts_with("all ")),
                "{near}"
            );
        }
        report
    };
    let report = explained("beir --query q1-16-0 --train beir");
    assert!(report["trained_on"].as_str().is_some_and(|file| file.ends_with("train.tsv")), "{report}");
    explained("beir --split train --query q1-3-0");
    explained("three --query q1-3-0");
    let renamed =
        text(&folder.read("rows.jsonl")).replace("\"question\"", "\"ask\"").replace("\"chunk\"", "\"say\"");
    folder.write("renamed.jsonl", renamed);
    let keys = "--query-key ask --document-key say";
    explained(&format!("renamed.jsonl {keys} --query q1-3-0"));

    folder.stdout(&format!("evaluate beir {flags} --predictions test.run"));
    let judged = |words: &str| folder.json(&format!("evaluate {words} -q"))["queries"].clone();
    assert_eq!(judged("beir --run test.run"), 10);
    assert_eq!(judged(&format!("renamed.jsonl {keys} --run test.run --missing skip")), 10);
    let words = "evaluate beir --split train --run test.run -q";
    folder.refuses(words, INPUT, &["it judges no query of test.run"]);
    for (words, group) in [
        ("--dataset beir --train beir".to_owned(), "answers unseen"),
        (format!("--dataset renamed.jsonl --train renamed.jsonl {keys}"), "answers seen in training"),
    ] {
        let words = format!("compare a.qad --metrics mrr@10 {words} --embeddings vectors");
        let output = folder.run(&words).output().expect("run");
        let note = format!("every query is in the group \"{group}\"");
        assert!(output.status.success() && text(&output.stderr).contains(&note), "{}", text(&output.stderr));
    }
}

#[test]
fn a_page_has_the_texts_of_any_form_of_data_set() {
    let folder = forms();
    let flags = "--embeddings vectors -q --force";
    // Each split has files of its own.
    std::fs::create_dir(folder.path("parted")).expect("a folder");
    for part in ["queries", "corpus", "relevant_docs"] {
        for split in ["train", "test"] {
            folder.write(&format!("parted/{split}_{part}.json"), folder.read(&format!("three/{part}.json")));
        }
    }
    for words in [
        "evaluate three",
        "evaluate beir",
        "evaluate parted",
        "train parted --test parted --recipe single --lr 0.05 --epochs 20 -o a.qad",
        "train parted --recipe single --lr 0.05 --epochs 20 -o a.qad",
    ] {
        folder.stdout(&format!("{words} --report page.html {flags}"));
        let page = text(&folder.read("page.html"));
        assert!(page.contains(" about subject 1-"), "{words}");
    }
}

#[test]
fn a_clean_data_set_is_called_so_and_exits_with_0() {
    let folder = forms();
    for path in ["plain.json", "rows.jsonl", "beir", "three", "beir/qrels/test.tsv"] {
        let printed = folder.stdout(&format!("lint {path}"));
        assert!(
            printed.ends_with("documents, 40 labels; no vectors\n  clean\n") || path.contains("qrels"),
            "{printed}"
        );
    }
    let printed = folder.stdout("lint plain.json --embeddings vectors");
    assert_eq!(
        printed,
        "plain.json: 40 queries, 20 documents, 40 labels; vectors of 8 components\n  clean\n"
    );
}

#[test]
fn defects_are_printed_and_exit_with_their_own_code() {
    let folder = Folder::new();
    let dirty = r#"{"queries": {"q1": "a", "q2": "b", "q3": "b", "q4": " "}, "corpus": {"d1": "x", "d2": "x", "d3": ""},
        "relevant_docs": {"q1": ["d1", "gone", "d1"], "q2": ["d2"], "q3": ["d3"], "q4": [], "ghost": ["d1"]},
        "negative_docs": {"q1": ["d1", "d2", "gone"]}}"#;
    folder.write("dirty.json", dirty);
    let assert = folder.run("lint dirty.json").assert().code(UNCLEAN);
    let (stdout, stderr) = (text(&assert.get_output().stdout), text(&assert.get_output().stderr));
    let lines = [
        "dirty.json: 3 queries, 3 documents, 3 labels, 1 negatives; no vectors",
        "  labels of documents that are not in the corpus: 1, ignored (\"q1\" → \"gone\")",
        "  labelled query ids that are not among the queries: 1, ignored (\"ghost\")",
        "  labels that repeat a document of the same query: 1, counted once (\"q1\" → \"d1\")",
        "  queries without a relevant document: 1, left out (\"q4\")",
        "  negatives that are not in the corpus: 1, ignored (\"q1\" → \"gone\")",
        "  negatives that are relevant to the same query: 1, kept as relevant (\"q1\" → \"d1\")",
        "  queries that repeat the text of another: 1, used (\"q3\" as \"q2\")",
        "  documents with an empty text: 1, used (\"d3\")",
        "  documents that repeat the text of another: 1, used (\"d2\" as \"d1\")",
    ];
    assert_eq!(stdout.lines().collect::<Vec<_>>(), lines);
    assert_eq!(stderr, "error: found 9 kinds of defects\n");
    let assert = folder.run("lint dirty.json --json").assert().code(UNCLEAN);
    let report: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).expect("JSON");
    let defects = report["datasets"][0]["defects"].as_array().expect("a list");
    assert_eq!(defects.len(), 9);
    let first = json!({
        "kind": "label_of_absent_document", "words": "labels of documents that are not in the corpus",
        "done": "ignored", "count": 1, "examples": ["\"q1\" → \"gone\""],
    });
    assert_eq!(defects[0], first);
    assert_eq!(report["datasets"][0]["dim"], json!(null));
}

#[test]
fn what_training_and_test_share_is_named() {
    let folder = Folder::new();
    let mut test = Data::new(3, DIM, 2);
    let train = Data::small();
    test.queries[4].text = train.queries[7].text.clone();
    test.documents[1].text = train.documents[0].text.clone();
    folder.write("train.json", train.json(true));
    folder.write("test.json", test.json(true));
    let queries = "test.json: queries whose text train.json has too: 1 of 6 (\"q2-2-0\" as \"q1-3-1\"); what is measured on \
                   them flatters";
    let documents = "test.json: documents whose text train.json has too: 1 of 3 (\"d2-1\" as \"d1-0\"); they are not new to \
                     training";
    let assert = folder.run("lint train.json test.json").assert().code(UNCLEAN);
    let stdout = text(&assert.get_output().stdout);
    assert_eq!(stdout.lines().skip(4).collect::<Vec<_>>(), [queries, documents]);
    let train = "train train.json --test test.json --recipe single --epochs 1 -o a.qad";
    let assert = folder.run(train).assert().success();
    let stderr = text(&assert.get_output().stderr);
    for line in [queries, documents] {
        assert!(stderr.contains(&format!("note: {line}\n")), "{line}: {stderr}");
    }
    let parts = ["test.json: --strict: test.json: queries whose text train.json has too: 1 of 6"];
    folder.refuses(&format!("{train} --force --strict"), INPUT, &parts);
    // Documents in common are no fault.
    test.queries[4].text = "another".to_owned();
    folder.write("test.json", test.json(true));
    let shared = &folder.json("lint train.json test.json")["shared"][0];
    assert_eq!((&shared["queries"]["count"], &shared["documents"]["count"]), (&json!(0), &json!(1)));
}

#[test]
fn one_vector_for_two_texts_is_named() {
    let folder = Folder::new();
    let (train, mut test) = (Data::small(), Data::small());
    for (at, query) in test.queries.iter_mut().enumerate() {
        query.text = format!("another question {at}");
    }
    test.documents[3].text = "another text".to_owned();
    // One without a text is no other one.
    test.queries[0].text = String::new();
    train.write_folder(&folder.path("vectors"));
    folder.write("train.json", train.json(false));
    folder.write("test.json", test.json(false));
    let line = "test.json: ids that have another text than in train.json: 39 queries (the first is \"q1-0-1\") and 1 document \
                (the first is \"d1-3\"); their one vector is of one of the two texts at most";
    let assert = folder.run("lint train.json test.json --embeddings vectors").assert().code(UNCLEAN);
    let (printed, said) = (text(&assert.get_output().stdout), text(&assert.get_output().stderr));
    assert!(printed.contains(line), "{printed}");
    assert!(said.contains("and one vector for two texts in 1 other data set"), "{said}");
    let words = "train train.json --test test.json --embeddings vectors --recipe single --epochs 1 -o a.qad";
    let said = folder.run(words).assert().success();
    let said = text(&said.get_output().stderr);
    assert!(said.contains(&format!("note: {line}")), "{said}");
    folder.write("test.json", test.json(false).replace("\"\"", "\"some question\""));
    folder.refuses(
        &format!("{words} --force --strict"),
        INPUT,
        &["--strict: test.json: ids that have another text"],
    );
    // Where each data set has its own vectors, nothing is wrong.
    folder.write("test.json", test.json(true));
    folder.write("train.json", train.json(true));
    let said = folder
        .run("train train.json --test test.json --recipe single --epochs 1 -o b.qad")
        .assert()
        .success();
    let said = text(&said.get_output().stderr);
    assert!(!said.contains("another text"), "{said}");
}

#[test]
fn strict_refuses_every_defect_by_its_words() {
    let folder = Folder::with_data();
    let good: serde_json::Value = serde_json::from_slice(&folder.read("train.json")).expect("JSON");
    type Damage = fn(&mut serde_json::Value);
    let damages: [(Damage, &str); 9] = [
        (
            |set| set["relevant_docs"]["q1-0-0"] = json!(["d1-0", "gone"]),
            "labels of documents that are not in the corpus",
        ),
        (
            |set| set["relevant_docs"]["ghost"] = json!(["d1-0"]),
            "labelled query ids that are not among the queries",
        ),
        (|set| set["relevant_docs"]["q1-0-0"] = json!(["d1-0", "d1-0"]), "labels that repeat a document"),
        (|set| set["relevant_docs"]["q1-0-0"] = json!([]), "queries without a relevant document"),
        (|set| set["queries"]["q1-0-0"] = json!(" "), "queries with an empty text"),
        (
            |set| set["queries"]["q1-0-0"] = set["queries"]["q1-0-1"].clone(),
            "queries that repeat the text of another",
        ),
        (|set| set["corpus"]["d1-0"] = json!(""), "documents with an empty text"),
        (
            |set| set["corpus"]["d1-0"] = set["corpus"]["d1-1"].clone(),
            "documents that repeat the text of another",
        ),
        (
            |set| set["corpus_embeddings"]["d1-0"] = json!([0, 0, 0, 0, 0, 0, 0, 0]),
            "documents with a zero vector",
        ),
    ];
    folder.stdout("evaluate train.json --predictions good.run");
    for (damage, words) in damages {
        let mut set = good.clone();
        damage(&mut set);
        folder.write("bad.json", set.to_string());
        let parts = ["bad.json: --strict: ", words, "mend the data set, or leave --strict out"];
        folder.refuses("evaluate bad.json --strict", INPUT, &parts);
        folder.refuses("train bad.json --strict -o a.qad", INPUT, &parts);
        folder.refuses("train train.json --test bad.json --strict -o a.qad", INPUT, &parts);
        folder.stdout("evaluate bad.json");
        if words.contains("vector") {
            // A ranking is judged without vectors.
            continue;
        }
        folder.refuses("evaluate bad.json --run good.run --strict", INPUT, &parts);
        folder.refuses("compare good.run x=good.run --dataset bad.json --strict", INPUT, &parts);
        let assert = folder.run("compare good.run x=good.run --dataset bad.json").assert().success();
        assert!(text(&assert.get_output().stderr).contains(words), "{words}");
    }
    folder.stdout("evaluate train.json --strict");
}

#[test]
fn lint_refuses_what_cannot_be_read() {
    let folder = forms();
    folder.refuses("lint gone.json", INPUT, &["gone.json: there is no such file"]);
    folder.refuses("lint vectors", INPUT, &["vectors: this is a folder, and one without a data set"]);
    folder.refuses(
        "lint beir --split dev",
        INPUT,
        &["beir: found labels of the splits test, train, but none called dev"],
    );
    folder.refuses("lint beir/corpus.jsonl", INPUT, &["these are the texts alone; give the folder"]);
    folder.refuses(
        "lint rows.jsonl --query-key prompt",
        INPUT,
        &["--query-key names \"prompt\", which is not among them"],
    );
}
