//! Threads, the log of a run, and data sets of any size.

use serde_json::Value;

use crate::support::{Folder, text};

/// A folder with a made-up data set, large enough for several pieces of work.
fn made_up() -> Folder {
    let folder = Folder::new();
    folder.run("synthesize --queries 700 --documents 300 --dim 24 -o set").assert().success();
    folder
}

const TRAIN: &str =
    "train set/train.json --validation set/validation.json --embeddings set --epochs 2 --force -q";

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let folder = made_up();
    folder.run(&format!("{TRAIN} -o a.qad")).assert().success();
    folder.run("apply -a a.qad -i set/queries.npy -o lines.jsonl").assert().success();
    let outputs = |threads: usize| {
        folder.run(&format!("{TRAIN} -o b.qad --threads {threads}")).assert().success();
        let evaluated = ["", "-a a.qad", "-a a.qad --json"].map(|rest| {
            folder.stdout(&format!("evaluate set/train.json --embeddings set --threads {threads} {rest}"))
        });
        let applied = ["set/queries.npy", "lines.jsonl"].map(|input| {
            folder
                .run(&format!("apply -a a.qad -i {input} -o o.npy --force --threads {threads}"))
                .assert()
                .success();
            (folder.read("o.npy"), folder.stdout(&format!("apply -a a.qad -i {input} --threads {threads}")))
        });
        (folder.read("b.qad"), evaluated, applied)
    };
    let one = outputs(1);
    assert_eq!(one.0, folder.read("a.qad"));
    assert_eq!(one.2[0].1.lines().count(), 900);
    for threads in [2, 3] {
        assert!(outputs(threads) == one, "{threads} threads");
    }
}

#[test]
fn any_number_of_threads_shares_a_step_to_the_same_bytes() {
    let folder = Folder::new();
    // Large enough for a step to be shared, and a corpus of more than one block.
    folder.run("synthesize --queries 200 --documents 600 --dim 200 -o set").assert().success();
    for negatives in ["in-batch", "positives", "corpus"] {
        let train = |threads: usize| {
            folder
                .run(&format!(
                    "train set/train.json --validation set/validation.json --embeddings set --epochs 2 --force -q \
                     --negatives {negatives} --log run.jsonl --threads {threads} -o {negatives}.qad"
                ))
                .assert()
                .success();
            let log = String::from_utf8(folder.read("run.jsonl")).expect("text");
            let start: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
            assert_eq!(start["threads"], threads, "{negatives}");
            assert_eq!(start["negatives"], negatives);
            folder.read(&format!("{negatives}.qad"))
        };
        let one = train(1);
        for threads in [2, 3] {
            assert!(train(threads) == one, "{negatives}, {threads} threads");
        }
    }
    assert!(folder.read("positives.qad") != folder.read("corpus.qad"));
}

#[test]
fn any_number_of_threads_names_the_same_fault() {
    let folder = made_up();
    folder.run(&format!("{TRAIN} -o a.qad")).assert().success();
    let good = format!("{:?}\n", [0.5; 24]);
    let lines = |faults: &[(usize, &str)]| {
        let mut lines = vec![good.as_str(); 900];
        faults.iter().for_each(|&(line, text)| lines[line - 1] = text);
        lines.concat()
    };
    let endless = " ".repeat((16 << 20) + 1) + "\n";
    folder.write("parse.jsonl", lines(&[(800, "[1]\n"), (701, "[1, 2]\n"), (850, "nonsense\n")]));
    folder.write("read.jsonl", lines(&[(400, "[7]\n"), (410, &endless)]));
    for threads in 1..=3 {
        for (file, place) in [("parse.jsonl", "line 701: "), ("read.jsonl", "line 400: ")] {
            folder.refuses(&format!("apply -a a.qad -i {file} -o o.npy --threads {threads}"), 3, &[place]);
        }
    }
}

#[test]
fn the_log_has_settings_steps_epochs_and_the_result_and_changes_no_adapter() {
    let folder = made_up();
    folder.run(&format!("{TRAIN} -o a.qad")).assert().success();
    folder.run(&format!("{TRAIN} -o b.qad --log run.jsonl --log-every 4")).assert().success();
    assert_eq!(folder.read("a.qad"), folder.read("b.qad"));
    let log = text(&folder.read("run.jsonl"));
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().expect("a name")).collect();
    // 11 steps an epoch: those numbered 1, 4, 8, then 12, 16, 20.
    let expected = ["start", "step", "step", "step", "epoch", "step", "step", "step", "epoch", "result"];
    assert_eq!(events, expected);
    let start = &lines[0];
    assert_eq!((&start["pairs"], &start["documents"]), (&700.into(), &300.into()));
    assert_eq!((&start["candidates"], &start["batch_size"]), (&300.into(), &64.into()));
    assert_eq!(start["negatives"], "positives");
    assert_eq!((&start["norm"], &start["gradient"]), (&"direct".into(), &"stored".into()));
    assert_eq!(start["settings"]["epochs"], 2);
    assert!(lines[1]["loss"].as_f64() > Some(0.0) && lines[1]["grad_norm"].as_f64() > Some(0.0));
    assert_eq!(lines[3]["step"], 8);
    assert_eq!((&lines[8]["epoch"], &lines[8]["step"]), (&2.into(), &22.into()));
    assert!(lines[8]["validation_ndcg"].as_f64() > Some(0.0));
    assert_eq!(lines[9]["queries_visited"], 700);
    let seconds: Vec<f64> = lines.iter().map(|line| line["seconds"].as_f64().expect("a time")).collect();
    assert!(seconds.is_sorted());
}

#[test]
fn a_log_that_exists_or_is_the_output_is_refused_and_a_failure_ends_it() {
    let folder = made_up();
    folder.write("run.jsonl", "mine");
    folder.refuses(
        "train set/train.json --embeddings set --log run.jsonl",
        4,
        &["run.jsonl: exists already"],
    );
    assert_eq!(folder.read("run.jsonl"), b"mine");
    // What goes on is a log, not any file.
    folder.refuses(
        "train set/train.json --embeddings set --checkpoint run.ckpt --resume --log run.jsonl",
        4,
        &["run.jsonl: exists already"],
    );
    assert_eq!(folder.read("run.jsonl"), b"mine");
    folder.refuses(
        "train set/train.json -o x.qad --log x.qad",
        2,
        &["--log and --output name the same file"],
    );
    folder.run("train none.json --log failed.jsonl").assert().code(3);
    let log = text(&folder.read("failed.jsonl"));
    let line: Value = serde_json::from_str(log.trim_end()).expect("one line");
    assert_eq!(line["event"], "failed");
    assert!(line["problem"].as_str().expect("a text").contains("none.json"), "{log}");
}

#[test]
fn a_made_up_set_is_the_same_every_time_and_never_overwritten_unasked() {
    let folder = made_up();
    let files =
        ["corpus.npy", "corpus_ids.json", "queries.npy", "query_ids.json", "train.json", "validation.json"];
    let first = files.map(|file| folder.read(&format!("set/{file}")));
    let words = "synthesize --queries 700 --documents 300 --dim 24 -o set";
    folder.run(words).assert().code(4);
    folder.refuses(&format!("{words}/train.json"), 4, &["set/train.json: this is a file; name a folder"]);
    folder.run(&format!("{words} --force")).assert().success();
    assert!(first == files.map(|file| folder.read(&format!("set/{file}"))));
    folder.run(&format!("{words} --force --seed 1")).assert().success();
    assert!(first[0] != folder.read("set/corpus.npy") && first[4] == folder.read("set/train.json"));
}
