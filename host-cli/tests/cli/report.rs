//! The report page: its figures are the command's, its texts the data set's, and nothing else is in it.

use serde_json::{Value, json};

use crate::support::{Data, Folder, number, numbers, text};

const OUTPUT: i32 = 4;
const INPUT: i32 = 3;
const USAGE: i32 = 2;

/// A page.
fn page(folder: &Folder, name: &str) -> String {
    text(&folder.read(name))
}

/// The JSON in a page.
fn data(page: &str) -> Value {
    let (_, rest) =
        page.split_once("<script type=\"application/json\" id=\"report-data\">").expect("the element");
    let (json, rest) = rest.split_once("</script>").expect("its end");
    assert_eq!(rest, "\n</body>\n</html>", "nothing after it");
    serde_json::from_str(json).expect("JSON")
}

/// A chart of a page's JSON.
fn chart<'a>(data: &'a Value, id: &str) -> &'a Value {
    let charts = data["charts"].as_array().expect("a list");
    charts.iter().find(|chart| chart["id"] == id).unwrap_or_else(|| panic!("{id} in {data}"))
}

fn chart_names(data: &Value) -> Vec<&str> {
    data["charts"].as_array().expect("a list").iter().filter_map(|chart| chart["id"].as_str()).collect()
}

/// Data with a hundred queries over some documents.
fn hundred() -> Data {
    Data::new(50, 8, 3)
}

#[test]
fn a_page_has_the_figures_that_are_printed() {
    let folder = Folder::with_data();
    let words = "train train.json --test test.json --epochs 40 --batch-size 8 --lr 0.02 --report page.html";
    let printed = folder.json(words);
    let page = page(&folder, "page.html");
    let data = data(&page);
    let split = &data["splits"][0];
    assert_eq!((&split["name"], &data["splits"][1]["name"]), (&json!("test"), &json!("validation")));
    for (at, metric) in ["hit_rate@1", "hit_rate@5", "hit_rate@10"].into_iter().enumerate() {
        let row = &split["metrics"][at];
        assert_eq!(row["metric"], metric);
        assert_eq!(
            row["means"],
            json!([printed["test"]["base"][metric], printed["test"]["adapted"][metric]])
        );
    }
    assert_eq!(split["all"]["interval"], printed["test"]["interval"]["ndcg@10"]);
    assert_eq!(
        [&split["all"]["won"], &split["all"]["lost"]],
        [&printed["test"]["won"], &printed["test"]["lost"]]
    );
    let shown = format!("{:.4}", number(&printed, "/test/adapted/ndcg@10"));
    assert!(page.matches(&shown).count() >= 2, "the headline and the table say {shown}");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Did it help?"));

    // The curves are those of the run.
    let values = |series: &Value| -> Vec<f64> {
        series["points"].as_array().expect("points").iter().map(|point| number(point, "/y")).collect()
    };
    assert_eq!(values(&chart(&data, "loss")["series"][1]), numbers(&printed, "/train/loss"));
    assert_eq!(
        values(&chart(&data, "validation")["series"][1]),
        numbers(&printed, "/train/validation_ndcg@10")
    );
    let kept = &chart(&data, "validation")["series"][3]["points"][0];
    assert_eq!(kept["x"].as_f64(), printed["train"]["kept_epoch"].as_f64());

    // A query's gain is that of its ranks.
    let query = &data["queries"][0]["queries"][0];
    let ndcg = |side: usize| match query["rank"][side].as_f64() {
        Some(rank) if rank <= 10.0 => 1.0 / (rank + 1.0).log2(),
        _ => 0.0,
    };
    for side in [0, 1] {
        assert!((number(query, &format!("/ndcg@10/{side}")) - ndcg(side)).abs() < 1e-12, "{query}");
        let documents = query["documents"][side].as_array().expect("documents");
        let relevant = documents.iter().find(|document| document["relevant"] == true).expect("it is shown");
        assert_eq!(relevant["rank"], query["rank"][side]);
    }
}

#[test]
fn every_query_is_in_the_chart_of_ranks() {
    let folder = Folder::with_data();
    folder.stdout("train train.json --test test.json --epochs 2 --report page.html");
    let data = data(&page(&folder, "page.html"));
    let series = chart(&data, "rank-changes")["series"].as_array().expect("series");
    let sizes = series.iter().flat_map(|series| series["points"].as_array().expect("points"));
    assert_eq!(sizes.filter_map(|point| point["size"].as_u64()).sum::<u64>(), 12);
    let rows =
        data["ranks"]["rows"].as_array().expect("rows").iter().flat_map(|row| row.as_array().expect("a row"));
    assert_eq!(rows.filter_map(Value::as_u64).sum::<u64>(), 12);
}

#[test]
fn the_same_data_give_the_same_page_byte_for_byte() {
    let (here, there) = (Folder::with_data(), Folder::with_data());
    for words in [
        "train train.json --test test.json --epochs 3 --report page.html --force",
        "train train.json --effort quick --report page.html --force",
        "evaluate test.json --adapter adapter.qad --report page.html --force",
    ] {
        here.stdout(&format!("{words} --threads 3"));
        there.stdout(&format!("{words} --threads 1 --simd scalar"));
        assert!(here.read("page.html") == there.read("page.html"), "{words}");
    }
}

#[test]
fn a_run_that_was_resumed_has_the_same_page() {
    let folder = Folder::with_data();
    let words = "train train.json --test test.json --epochs 4 --batch-size 8 --report page.html --force";
    folder.stdout(words);
    let expected = folder.read("page.html");
    folder.stdout(&format!("{words} --checkpoint c.qac --checkpoint-every 0"));
    assert!(folder.read("page.html") == expected, "with checkpoints");
    folder.stdout(&format!("{words} --checkpoint c.qac --resume"));
    assert!(folder.read("page.html") == expected, "resumed");
}

#[test]
fn no_folder_is_named() {
    let folder = Folder::with_data();
    let train = folder.path("train.json");
    let words = ["train", train.to_str().expect("UTF-8"), "--epochs", "2", "--report", "page.html"];
    folder.run_with(&words).assert().success();
    let page = page(&folder, "page.html");
    let folder_name = train.parent().and_then(|folder| folder.file_name()).expect("a name").to_string_lossy();
    assert!(page.contains("train.json") && !page.contains(&*folder_name));
}

#[test]
fn recipe_auto_shows_what_was_tried_and_chosen() {
    let folder = Folder::with_data();
    let printed = folder.json("train train.json --test test.json --effort quick --report page.html");
    let data = data(&page(&folder, "page.html"));
    assert_eq!(chart_names(&data), ["gains", "tried", "rank-changes", "hit-rates", "movement"]);
    let tried = chart(&data, "tried")["series"].as_array().expect("series");
    let discs = tried.iter().filter(|series| series["marks"] == "discs");
    let drawn: usize = discs.map(|series| series["points"].as_array().expect("points").len()).sum();
    assert_eq!(drawn, printed["train"]["tried"].as_array().expect("a list").len());
    let chosen = tried.last().expect("rings")["points"].as_array().expect("points").len();
    assert_eq!(chosen, printed["train"]["chosen"].as_array().expect("a list").len());
    let best = printed["train"]["tried"][0]["ndcg@10"].as_f64();
    assert_eq!(data["tried"][0]["ndcg@10"].as_f64(), best);
    let splits: Vec<&Value> = data["splits"].as_array().expect("a list").iter().map(|s| &s["name"]).collect();
    assert_eq!(splits, ["test", "held out"]);
}

#[test]
fn where_the_base_is_kept_the_page_shows_what_was_refused() {
    // Queries that are their documents: there is nothing to gain.
    let folder = Folder::new();
    let mut perfect = Data::new(30, 8, 5);
    for (query, answer) in perfect.queries.iter_mut().zip(&perfect.answers) {
        query.vector.clone_from(&perfect.documents[answer[0]].vector);
    }
    folder.write("train.json", perfect.json(true));
    folder.write("test.json", perfect.json(true));
    folder.stdout("train train.json --test test.json --effort quick --report page.html");
    let page = page(&folder, "page.html");
    let data = data(&page);
    assert_eq!(data["answers"][0]["short"], "Not shown", "{}", data["answers"]);
    assert!(page.contains("The base is kept: the adapter file holds the identity."));
    assert_eq!(data["splits"][0]["name"], "held out");
    assert_eq!(data["queries"][0]["queries"], json!([]));
}

#[test]
fn texts_and_ids_are_shown_and_never_run() {
    let folder = Folder::new();
    let mut hostile = Data::small();
    for (number, query) in hostile.queries.iter_mut().enumerate() {
        (query.text, query.id) = (format!("QUERY {number}"), format!("QUERY-ID {number}"));
    }
    for (number, document) in hostile.documents.iter_mut().enumerate() {
        (document.text, document.id) = (format!("DOCUMENT {number}"), format!("DOCUMENT-ID {number}"));
    }
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'single'";
    let long = format!("<iframe src='http://example.org'></iframe> {}", "long".repeat(5000));
    let mut json = hostile.json(true);
    for (placeholder, text) in [
        ("QUERY-ID", "<b>".to_owned()),
        ("DOCUMENT-ID", format!("{}\u{2028}]]><!--", "x".repeat(3000))),
        ("QUERY", format!("{evil} \u{202e}\u{5d0}\u{5d1} 👩\u{200d}🔬")),
        ("DOCUMENT", long),
    ] {
        let quoted = serde_json::to_string(&text).expect("JSON");
        json = json.replace(placeholder, quoted.trim_matches('"'));
    }
    folder.write("train.json", json);
    folder.stdout("evaluate train.json --report page.html");
    let page = page(&folder, "page.html");
    data(&page);
    assert_eq!(page.matches("<script").count(), 1, "that of the data");
    assert_eq!(page.matches("</script").count(), 1);
    for tag in ["<img", "<iframe", "<b> ", "<!--"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert!(page.contains("&#60;/script&#62;&#60;script&#62;alert(1)"), "the text is shown");
    assert!(page.contains("👩\u{200d}🔬") && !page.contains('\u{202e}'));
    assert!(page.len() < 600_000, "{} bytes", page.len());
}

#[test]
fn a_page_asks_for_nothing_from_elsewhere() {
    let folder = Folder::with_data();
    folder.stdout("train train.json --epochs 2 --report page.html");
    let page = page(&folder, "page.html");
    assert!(page.contains("default-src 'none'"));
    for part in ["http:", "https:", "//", " src=", "url(", "@import", "<script src"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(!page.contains("<a "));
}

#[test]
fn the_base_alone_has_a_page_too() {
    let folder = Folder::with_data();
    let printed = folder.json("evaluate test.json --report page.html");
    let page = page(&folder, "page.html");
    let data = data(&page);
    assert_eq!(chart_names(&data), ["hit-rates", "movement"]);
    assert_eq!(data["splits"][0]["all"]["ndcg@10"][0], printed["base"]["ndcg@10"]);
    assert!(page.contains("there is nothing to compare with") && !page.contains("adapted</th>"));
    let ids: Vec<&Value> =
        data["queries"][0]["queries"].as_array().expect("queries").iter().map(|q| &q["id"]).collect();
    assert!(!ids.is_empty());
}

#[test]
fn three_queries_are_enough_for_a_page() {
    let folder = Folder::with_adapter();
    let mut few = Data::new(3, 8, 9);
    few.queries.truncate(3);
    few.answers.truncate(3);
    folder.write("few.json", few.json(true));
    folder.stdout("evaluate few.json --adapter a.qad --report page.html");
    let page = page(&folder, "page.html");
    assert!(page.contains("Only 3 queries: the interval is rough."));
    assert!(!page.contains("NaN") && !page.contains(">inf"));
}

#[test]
fn of_many_queries_a_page_shows_some_and_says_how_many_it_leaves_out() {
    let folder = Folder::with_adapter();
    let many = Data::new(90, 8, 7);
    folder.write("many.json", many.json(true));
    folder.stdout("evaluate many.json --adapter a.qad --report page.html");
    let page = page(&folder, "page.html");
    let data = data(&page);
    for list in data["queries"].as_array().expect("lists") {
        let shown = list["queries"].as_array().expect("queries").len() as u64;
        let left_out = list["left_out"].as_u64().expect("a number");
        let kind = if list["title"] == "Gained most" { "won" } else { "lost" };
        assert_eq!(Some(shown + left_out), data["splits"][0]["all"][kind].as_u64());
        assert!(left_out == 0 || page.contains(&format!("{left_out} more")));
    }
    assert!(page.contains("120 of 180 queries and 90 of 90 documents are drawn"));
}

#[test]
fn files_are_known_by_their_digests() {
    let folder = Folder::new();
    folder.write("train.json", hundred().json(false));
    hundred().write_folder(&folder.path("vectors"));
    folder.write("vectors/notes.txt", "not a vector");
    folder.stdout("train train.json --embeddings vectors --epochs 1 --report page.html -o out.qad");
    let files = &data(&page(&folder, "page.html"))["files"];
    let names: Vec<&str> =
        files.as_array().expect("files").iter().filter_map(|file| file["name"].as_str()).collect();
    assert_eq!(
        names,
        ["train.json", "corpus.npy", "corpus_ids.json", "queries.npy", "query_ids.json", "out.qad"]
    );
    let digests: std::collections::BTreeSet<&str> =
        files.as_array().expect("files").iter().filter_map(|file| file["sha256"].as_str()).collect();
    assert_eq!(digests.len(), names.len());
    assert_eq!(files[5]["bytes"].as_u64(), Some(folder.read("out.qad").len() as u64));
}

#[test]
fn a_page_that_exists_or_cannot_be_written_is_refused_before_any_work() {
    let folder = Folder::with_data();
    folder.write("page.html", "precious");
    for command in ["train gone.json", "evaluate gone.json"] {
        let words = |report: &str| format!("{command} --report {report}");
        folder.refuses(&words("page.html"), OUTPUT, &["page.html: exists already", "--force"]);
        folder.refuses(&words("gone/page.html"), OUTPUT, &["the folder gone does not exist"]);
        folder.refuses(&words("page.html --force"), INPUT, &["gone.json: there is no such file"]);
    }
    assert_eq!(folder.read("page.html"), b"precious");
    folder.refuses("train train.json -o x --report x", USAGE, &["--report and --output name the same file"]);
    folder.refuses("train train.json --log x --report x", USAGE, &["--report and --log name the same file"]);
    folder.stdout("evaluate test.json --report page.html --force");
    assert_ne!(folder.read("page.html"), b"precious");
}

#[cfg(unix)]
#[test]
fn a_data_set_that_can_be_read_only_once_is_refused() {
    let folder = Folder::with_data();
    for words in [
        "evaluate /dev/null --report page.html",
        "evaluate test.json --qrels /dev/null --report page.html",
        "train /dev/null --report page.html",
        "train train.json --keep /dev/null --report page.html",
    ] {
        folder.refuses(words, INPUT, &["/dev/null: this can be read only once", "give a file"]);
    }
}
