//! `compare`: systems of every kind on the same queries, tables in every form, groups and files of values.

use serde_json::{Value, json};

use crate::support::{DIM, Data, Folder, levels, number, text};

const INPUT: i32 = 3;
const USAGE: i32 = 2;

/// Forty queries with one relevant document each, and run files that find it at given ranks.
fn runs() -> Folder {
    let folder = Folder::new();
    let ranking = |name: &str, rank_of: &dyn Fn(usize) -> usize| {
        let mut run = String::new();
        for query in 0..40 {
            for rank in 1..=6 {
                let document = if rank == rank_of(query) { "good".to_owned() } else { format!("bad{rank}") };
                run += &format!("q{query} Q0 {document} {rank} {} {name}\n", 10 - rank);
            }
        }
        folder.write(&format!("{name}.run"), run);
    };
    ranking("second", &|_| 2);
    ranking("better", &|query| if query % 4 == 0 { 4 } else { 1 });
    ranking("same", &|_| 2);
    let qrels: String = (0..40).map(|query| format!("q{query} 0 good 1\n")).collect();
    folder.write("qrels", qrels);
    let groups: String = (0..30)
        .map(|query| format!("q{query}\t{}\n", if query % 4 == 0 { "hard" } else { "easy" }))
        .collect();
    folder.write("groups.tsv", groups);
    folder
}

/// What is said of a system, by a metric, on a group.
fn row<'a>(report: &'a Value, group: &str, metric: &str, system: &str) -> &'a Value {
    let find = |list: &'a Value, key: &str, value: &str| -> &'a Value {
        let list = list.as_array().expect("a list");
        list.iter().find(|entry| entry[key] == json!(value)).unwrap_or_else(|| panic!("{value} in {list:?}"))
    };
    let group = find(&report["groups"], "name", group);
    find(&find(&group["metrics"], "metric", metric)["systems"], "system", system)
}

#[test]
fn run_files_are_compared_query_by_query() {
    let folder = runs();
    let report = folder.json("compare second.run better.run same.run --qrels qrels --metrics mrr@10,ndcg@10");
    assert_eq!((&report["comparisons"], &report["gain"]), (&json!(4), &json!("graded")));
    let first = row(&report, "all", "mrr@10", "second");
    assert_eq!((number(first, "/mean"), first.get("difference")), (0.5, None));
    let better = row(&report, "all", "mrr@10", "better");
    // 30 of 40 gain 1/2, 10 lose 1/4: mean 0.3125, deviation √(40 (0.75 × 0.25 × 0.75²) ÷ 39) = 0.3289.
    assert_eq!((number(better, "/mean"), number(better, "/difference")), (0.8125, 0.3125));
    assert_eq!([&better["wins"], &better["ties"], &better["losses"]], [&json!(30), &json!(0), &json!(10)]);
    let d = number(better, "/cohens_d");
    assert!((d - 0.3125 / (0.75_f64 * 0.25 * 0.5625 * 40.0 / 39.0).sqrt()).abs() < 1e-12, "{d}");
    // scipy.stats.ttest_1samp of the same.
    assert!((number(better, "/t_test_p") / 5.027_861_893_609_e-7 - 1.0).abs() < 1e-6, "{better}");
    let p = number(better, "/randomization_p");
    assert!(p < 0.001, "{p}");
    let (low, high) = (number(better, "/interval/0"), number(better, "/interval/1"));
    // 95 % of resamples have 24.5 to 35 of those that gain.
    assert!((0.2..0.23).contains(&low) && (0.39..0.42).contains(&high), "{low} {high}");
    // The smallest of four p-values, twice: times 4 and no less.
    assert_eq!(number(better, "/randomization_p_holm"), 4.0 * p);
    let same = row(&report, "all", "ndcg@10", "same");
    assert_eq!(
        [&same["randomization_p_holm"], &same["t_test_p"], &same["cohens_d"], &same["ties"]],
        [&json!(1.0), &json!(1.0), &json!(0.0), &json!(40)]
    );
}

#[test]
fn values_that_differ_by_their_rounding_are_tied() {
    let folder = Folder::new();
    // The average precision is 7/12 whether the relevant documents are at ranks 2 and 3 or at 1 and 12.
    for (name, ranks) in [("close", [2, 3]), ("far", [1, 12])] {
        let mut run = String::new();
        for (query, rank) in (0..20).flat_map(|query| (1..=12).map(move |rank| (query, rank))) {
            let kind = if ranks.contains(&rank) { "good" } else { "bad" };
            let document = ranks.iter().position(|&other| other == rank).unwrap_or(rank);
            run += &format!("q{query} Q0 {kind}{document} {rank} {} {name}\n", 20 - rank);
        }
        folder.write(&format!("{name}.run"), run);
    }
    let qrels: String = (0..20).map(|query| format!("q{query} 0 good0 1\nq{query} 0 good1 1\n")).collect();
    folder.write("qrels", qrels);
    let report = folder.json("compare close.run far.run --qrels qrels --metrics map@100");
    let far = row(&report, "all", "map@100", "far");
    assert_eq!([&far["wins"], &far["ties"], &far["losses"]], [&json!(0), &json!(20), &json!(0)]);
    assert_eq!(
        [&far["randomization_p"], &far["t_test_p"], &far["cohens_d"]],
        [&json!(1.0), &json!(1.0), &json!(0.0)]
    );
}

#[test]
fn groups_are_looked_at_apart_and_named_in_the_file_of_values() {
    let folder = runs();
    let words = "compare a=second.run b=better.run --qrels qrels --metrics mrr@10 --groups groups.tsv";
    let report = folder.json(&format!("{words} --per-query values.jsonl"));
    for (group, queries, mean) in
        [("all", 40, 0.8125), ("hard", 8, 0.25), ("easy", 22, 1.0), ("without a group", 10, 0.85)]
    {
        let found = report["groups"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|g| g["name"] == json!(group))
            .expect(group);
        assert_eq!(found["queries"], json!(queries), "{group}");
        assert_eq!(number(row(&report, group, "mrr@10", "b"), "/mean"), mean, "{group}");
    }
    // All have the same difference there: its spread is unknown, and so are t and the effect in units of it.
    let hard = row(&report, "hard", "mrr@10", "b");
    assert_eq!([&hard["t_test_p"], &hard["t_test_p_holm"], &hard["cohens_d"]], [&Value::Null; 3]);
    let rows = text(&folder.read("values.jsonl"));
    let first: Value = serde_json::from_str(rows.lines().next().expect("a row")).expect("JSON");
    assert_eq!(rows.lines().count(), 80);
    assert_eq!(
        [&first["system"], &first["query"], &first["groups"], &first["first_relevant"], &first["mrr@10"]],
        [&json!("a"), &json!("q0"), &json!(["hard"]), &json!(2), &json!(0.5)]
    );

    folder.stdout(&format!("{words} --per-query values.csv"));
    let csv = text(&folder.read("values.csv"));
    assert!(csv.starts_with("system,query,groups,first_relevant,gain,mrr@10,hit_rate@1"), "{csv}");
    assert!(csv.contains("\nb,q0,hard,4,binary,0.25,0,"), "{csv}");

    // What was measured once is compared as it was.
    let again = folder.json("compare values.jsonl --metrics mrr@10 --groups groups.tsv");
    assert_eq!(again["groups"], report["groups"]);
    let from_csv = folder.json("compare values.csv --metrics mrr@10 --groups groups.tsv");
    assert_eq!(from_csv["groups"], report["groups"]);
    let renamed = folder.json("compare x=values.jsonl --metrics mrr@10");
    assert_eq!(renamed["systems"][1]["name"], json!("x/b"));
}

#[test]
fn an_adapter_is_compared_with_the_base_it_stands_on() {
    let folder = Folder::with_adapter();
    let report = folder.json("compare a.qad --dataset test.json --train train.json");
    assert_eq!(report["systems"][0]["name"], json!("base"));
    let evaluated = folder.json("evaluate test.json -a a.qad");
    for metric in ["ndcg@10", "map@100"] {
        let adapted = row(&report, "all", metric, "a");
        assert_eq!(adapted["mean"], evaluated["adapted"][metric]);
        assert_eq!(row(&report, "all", metric, "base")["mean"], evaluated["base"][metric]);
    }
    let adapted = row(&report, "all", "ndcg@10", "a");
    assert_eq!(adapted["interval"], evaluated["interval"]["ndcg@10"]);
    assert_eq!((&adapted["wins"], &adapted["losses"]), (&evaluated["won"], &evaluated["lost"]));
    // No document of the test set was trained on, and all of the training set were: such a group is all queries once more.
    for (data, group) in [("test.json", "answers unseen"), ("train.json", "answers seen in training")] {
        let words = format!("compare base a.qad --dataset {data} --train train.json --metrics mrr@10 --json");
        let output = folder.run(&words).output().expect("run");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let names: Vec<_> = report["groups"].as_array().expect("a list").iter().map(|g| &g["name"]).collect();
        assert_eq!((names, &report["comparisons"]), (vec![&json!("all")], &json!(1)));
        let note = format!("every query is in the group \"{group}\", so it is not shown apart from all");
        assert!(text(&output.stderr).contains(&note));
    }
    // A folder that is called so is not meant by it.
    let words = "compare base a.qad --dataset test.json --metrics mrr@10";
    let expected = folder.stdout(words);
    let mut other = Data::new(6, DIM, 2);
    other.documents.iter_mut().for_each(|document| document.vector.rotate_left(1));
    other.write_folder(&folder.path("base"));
    assert_eq!(folder.stdout(words), expected);
    assert_ne!(folder.stdout(&words.replace("base", "./base")), expected);
    // An adapter, and the ranking that it gave.
    folder.stdout("evaluate test.json -a a.qad --predictions a.run");
    let both = folder.json("compare x=a.qad y=a.run --dataset test.json");
    let y = row(&both, "all", "map@100", "y");
    assert_eq!((&y["difference"], &y["randomization_p"]), (&json!(0.0), &json!(1.0)));
}

#[test]
fn tables_come_in_every_form_and_are_the_same_on_every_level() {
    let folder = runs();
    let words =
        "compare se_cond|=second.run better=better.run --qrels qrels --metrics mrr@10 --groups groups.tsv";
    let printed = |format: &str| folder.stdout(&format!("{words} --format {format}"));
    let table = printed("text");
    for part in [
        "all (40 queries)\n",
        "│ mrr@10 ",
        "┆ +0.3125 ┆",
        "30/0/10 │",
        "p (Holm): corrected for 4 comparisons;",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_eq!(table, folder.stdout(words), "text is the default");
    assert!(table.lines().all(|line| !line.starts_with('│') || line.chars().count() <= 110), "{table}");
    let markdown = printed("markdown");
    assert!(markdown.contains("**mrr@10, all (40 queries)**\n\n| system "), "{markdown}");
    assert!(markdown.contains("| se\\_cond\\| "), "{markdown}");
    let latex = printed("latex");
    for part in [
        "\\begin{tabular}{lrrrrrrrr}",
        "se\\_cond| & 0.5000 & ",
        " & $+$0.3125 & [$+$0.",
        "\\caption{mrr@10, hard (8 queries)}",
    ] {
        assert!(latex.contains(part), "{part}: {latex}");
    }
    let csv = printed("csv");
    assert!(csv.starts_with("group,queries,metric,system,mean,difference,interval_low,"), "{csv}");
    assert!(csv.contains("\nall,40,mrr@10,se_cond|,0.5,,,,,,,,,,,\n"), "{csv}");
    assert!(csv.contains("\nall,40,mrr@10,better,0.8125,0.3125,"), "{csv}");
    let json = printed("json");
    assert_eq!(json, folder.stdout(&format!("{words} --json")));
    let adapters = Folder::with_adapter();
    let expected = adapters.stdout("compare a.qad --dataset test.json");
    for level in levels() {
        let words = format!("compare a.qad --dataset test.json --threads 1 --simd {level}");
        assert_eq!(adapters.stdout(&words), expected, "{level}");
    }
}

#[test]
fn systems_that_cannot_be_compared_are_refused() {
    let folder = runs();
    folder.write("few.run", "q1 Q0 good 1 0.5 t\n");
    folder.write("few.qrels", "q1 0 good 1\n");
    folder.write("means.json", "{\"base\": {\"mrr@10\": 0.5}, \"queries\": 3}\n");
    folder.write("broken.jsonl", "{\"system\": \"a\", \"query\": \"q\", \"mrr@10\": 0.5}\n{\n");
    folder.write("twice.jsonl", "{\"system\": \"a\", \"query\": \"q\", \"mrr@10\": 0.5}\n".repeat(2));
    folder.write("beyond.jsonl", "{\"system\": \"a\", \"query\": \"q\", \"mrr@10\": 1.5}\n");
    folder.write("one.jsonl", "{\"system\": \"a\", \"query\": \"q\", \"mrr@10\": 0.5}\n");
    folder.write("empty.jsonl", " {");
    folder.write("crlf.csv", "system,query,mrr@10\r\na,q0,0.5\r\nb,q1,x\r\n");
    folder.write("blank.csv", "system,query,mrr@10\n\na,q0,0.5\n\nb,q1,x\n");
    folder.write("short.csv", "system,query,mrr@10\r\na,q0,0.5\r\nb,q1\r\n");
    folder.write("column.csv", "system,query,mrr@10,mrr@10\na,q0,0.5,0.6\n");
    folder.write("key.jsonl", "\n{\"system\": \"a\", \"query\": \"q\", \"mrr@10\": 0.5, \"mrr@10\": 0.6}\n");
    folder
        .write("metric.jsonl", "{\"system\": \"a\", \"query\": \"q\", \"mrr@10\": 0.5, \"mrr@010\": 0.6}\n");
    folder.write("other.tsv", "z\tx\n");
    for (words, code, parts) in [
        ("compare second.run --qrels qrels", USAGE, &["give two or more"][..]),
        (
            "compare second.run second.run --qrels qrels",
            USAGE,
            &["two systems are called \"second\"", "NAME=SYSTEM"],
        ),
        ("compare second.run better.run", USAGE, &["--qrels"]),
        ("compare base second.run --qrels qrels", USAGE, &["base needs a data set", "--dataset"]),
        (
            "compare second.run better.run --qrels qrels --train gone.json",
            INPUT,
            &["gone.json: there is no such file"],
        ),
        ("compare one.jsonl b=one.jsonl --metrics mrr@10 --train gone.json", USAGE, &["--train", "--qrels"]),
        ("compare second.run gone.run --qrels qrels", INPUT, &["gone.run: there is no such file"]),
        (
            "compare means.json second.run --qrels qrels",
            INPUT,
            &["means.json: line 1: it has means only", "--per-query"],
        ),
        ("compare broken.jsonl second.run --qrels qrels", INPUT, &["broken.jsonl: line 2"]),
        (
            "compare twice.jsonl second.run --qrels qrels",
            INPUT,
            &["twice.jsonl: line 2", "has a row of \"a\" already"],
        ),
        (
            "compare beyond.jsonl second.run --qrels qrels",
            INPUT,
            &["beyond.jsonl: line 1", "a number from 0 to 1"],
        ),
        ("compare empty.jsonl second.run --qrels qrels", INPUT, &["empty.jsonl: line 1"]),
        ("compare crlf.csv --metrics mrr@10", INPUT, &["crlf.csv: line 3: \"mrr@10\": expected a number"]),
        ("compare blank.csv --metrics mrr@10", INPUT, &["blank.csv: line 5: \"mrr@10\": expected a number"]),
        ("compare short.csv --metrics mrr@10", INPUT, &["short.csv: line 3: found 2 columns, expected 3"]),
        (
            "compare column.csv --metrics mrr@10",
            INPUT,
            &["column.csv: line 1: \"mrr@10\" stands there twice"],
        ),
        ("compare key.jsonl --metrics mrr@10", INPUT, &["key.jsonl: line 2: \"mrr@10\" stands there twice"]),
        (
            "compare metric.jsonl --metrics mrr@10",
            INPUT,
            &["metric.jsonl: line 1: mrr@10 stands there twice"],
        ),
        (
            "compare second.run one.jsonl --qrels qrels",
            USAGE,
            &["a has no hit_rate@1", "its file has mrr@10"],
        ),
        (
            "compare second.run one.jsonl --qrels qrels --metrics mrr@10",
            INPUT,
            &["the query \"q0\" is measured for second and not for a"],
        ),
        (
            "compare second.run better.run --qrels qrels --groups other.tsv",
            INPUT,
            &["other.tsv: none of the queries is in it"],
        ),
    ] {
        folder.refuses(words, code, parts);
    }
    #[cfg(unix)]
    folder.refuses(
        "compare second.run better.run --qrels /dev/null --train gone.json",
        INPUT,
        &["/dev/null: this can be read only once, and --train reads it again; give a file"],
    );
    folder.run("compare second.run better.run --qrels qrels --metrics ndcg@0").assert().code(USAGE);
    folder.run("compare").assert().code(USAGE);
    // A query that one run lacks counts as nothing found.
    let report = folder.json("compare second.run few.run --qrels qrels --metrics mrr@10 -q");
    assert_eq!(number(row(&report, "all", "mrr@10", "few"), "/mean"), 1.0 / 40.0);
}

#[test]
fn values_of_another_gain_are_not_compared_by_ndcg() {
    let folder = runs();
    let graded: String = (0..40).map(|query| format!("q{query} 0 good 3\nq{query} 0 bad1 1\n")).collect();
    folder.write("graded", graded);
    for (gain, words) in [("binary", "--qrels qrels"), ("graded", "--qrels graded")] {
        for file in ["values.jsonl", "values.csv"] {
            folder.stdout(&format!("evaluate --run second.run {words} --per-query {file} --force"));
            let compare = format!("compare before={file} now=second.run {words}");
            let report = folder.json(&format!("{compare} --metrics ndcg@10"));
            assert_eq!(number(row(&report, "all", "ndcg@10", "now"), "/difference"), 0.0, "{gain}");
        }
    }
    folder.stdout("evaluate --run second.run --qrels qrels --per-query values.jsonl --force");
    let compare = "compare before=values.jsonl now=second.run --qrels graded";
    let parts = ["nDCG has binary gain for before and graded gain for now", "by the same labels and --gain"];
    folder.refuses(&format!("{compare} --metrics ndcg@10"), USAGE, &parts);
    folder.stdout(&format!("{compare} --metrics mrr@10"));
    // What was written before the gain was: it is not known, and what is not known is not refused.
    let rows = text(&folder.read("values.jsonl")).replace("\"gain\":\"binary\",", "");
    assert!(!rows.contains("gain"), "{rows}");
    folder.write("values.jsonl", rows);
    folder.stdout(&format!("{compare} --metrics ndcg@10"));
}

#[test]
fn no_name_draws_on_a_terminal() {
    let folder = runs();
    let groups: String = (0..40).map(|query| format!("q{query}\tg{}\u{1b}[2J\n", query % 2)).collect();
    folder.write("groups.tsv", groups);
    folder.write("whole.tsv", (0..40).map(|query| format!("q{query}\tg\u{1b}[2J\n")).collect::<String>());
    folder.write("tag.run", "q0 Q0 good 1 0.5 t\u{1b}[2J\u{202e}\n");
    let compare = ["compare", "a\u{1b}[2J=second.run", "b\u{202e}=better.run", "--qrels", "qrels"];
    for arguments in [
        [&compare[..], &["--groups", "groups.tsv"]].concat(),
        [&compare[..], &["--groups", "whole.tsv"]].concat(),
        [&compare[..], &["--groups", "groups.tsv", "--format", "markdown"]].concat(),
        [&compare[..], &["--groups", "groups.tsv", "--format", "latex"]].concat(),
        vec!["evaluate", "--run", "tag.run", "--qrels", "qrels"],
    ] {
        let assert = folder.run_with(&arguments).assert().success();
        let printed = text(&assert.get_output().stdout) + &text(&assert.get_output().stderr);
        let drawn = printed.lines().find(|line| line.contains(char::is_control) || line.contains('\u{202e}'));
        assert_eq!(drawn, None, "{arguments:?}");
    }
}
