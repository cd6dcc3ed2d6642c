//! `train --config`, `--print-config` and `--dry-run`.

use crate::support::{Folder, text};

const INPUT: i32 = 3;
const OUTPUT: i32 = 4;
const USAGE: i32 = 2;

/// Runs with settings of every kind.
const RUNS: [&str; 5] = [
    "--recipe single --epochs 3 --clip inf --lr 0.01 --average --seed 18446744073709551615 --scale 1e1",
    "--recipe reference --bias --epochs 2",
    "--effort quick --seed 3 --accept-uncertain",
    "--validation test.json --optimizer sgd --precondition 3 --warmup 0 --negatives corpus --batch-size 8",
    "--lr .5 --checkpoint run.ckpt --log run.jsonl --force --resume",
];

#[test]
fn settings_that_were_printed_give_the_same_run() {
    for flags in RUNS {
        let folder = Folder::with_data();
        let words = format!("train train.json -o a.qad {flags} -q");
        let printed = folder.stdout(&format!("{words} --print-config"));
        assert_eq!(folder.entries(), ["test.json", "train.json"], "it does nothing else");
        folder.stdout(&words);
        let expected = folder.read("a.qad");

        let again = Folder::with_data();
        again.write("train.toml", &printed);
        assert_eq!(again.stdout("train --config train.toml --print-config"), printed, "{flags}");
        again.stdout("train --config train.toml");
        assert_eq!(again.read("a.qad"), expected, "{flags}\n{printed}");
    }
}

#[test]
fn settings_in_the_adapter_give_the_same_adapter() {
    for flags in RUNS {
        let folder = Folder::with_data();
        folder.stdout(&format!("train train.json -o a.qad {flags} -q"));
        let inspected = folder.json("inspect a.qad");
        folder.write("train.toml", inspected["settings"].as_str().expect("a text"));
        // The data are no setting, and files are where they are.
        let data = if flags.contains("--validation") { "--validation test.json" } else { "" };
        folder.stdout(&format!("train train.json {data} --config train.toml -o b.qad -q"));
        assert_eq!(folder.read("a.qad"), folder.read("b.qad"), "{flags}");
        let lines = folder.stdout("inspect a.qad");
        assert!(lines.contains("\nsettings         "), "{lines}");
        for setting in inspected["settings"].as_str().expect("a text").lines() {
            assert!(lines.contains(setting), "{setting}: {lines}");
        }
    }
}

#[test]
fn settings_that_were_printed_are_those_that_count() {
    let folder = Folder::with_data();
    let printed = folder.stdout("train train.json --lr 0.25 --print-config");
    for line in [
        "train = \"train.json\"\n",
        "output = \"adapter.qad\"\n",
        "recipe = \"single\"\n",
        "epochs = 16\n",
        "lr = 0.25\n",
        "eps = 1e-8\n",
        "clip = 1.0\n",
        "optimizer = \"adamw\"\n",
        "validation-share = 0.2\n",
        "bias = false\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert!(!printed.contains("log-every") && !printed.contains("print-config"), "{printed}");
    let printed = folder.stdout("train train.json --print-config");
    assert!(
        printed.contains("recipe = \"auto\"\n") && printed.contains("effort = \"default\"\n"),
        "{printed}"
    );
    assert!(!printed.contains("epochs"), "{printed}");
}

#[test]
fn a_flag_beats_the_file() {
    let folder = Folder::with_data();
    folder.write(
        "train.toml",
        "recipe = \"single\"\nepochs = 2\nlr = 0.5 # too much\nvalidation_share = 0.5\n",
    );
    let report = folder.json("train train.json --config train.toml --lr 0.01 --validation test.json");
    assert_eq!(report["train"]["epochs"], 2);
    assert_eq!(report["train"]["settings"]["optimizer"]["lr"], 0.01);
    assert_eq!(report["queries"], 12, "the validation set's");
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    let folder = Folder::with_data();
    folder.write("train.toml", "# settings\nepoch = 2\n");
    let parts = ["train.toml: line 2: unknown key \"epoch\", expected the long flag of a setting", "--help"];
    folder.refuses("train train.json --config train.toml", USAGE, &parts);
    folder.write("train.toml", "lr = 0.1\nepochs = \"many\"\n");
    let parts = ["train.toml: line 2: \"epochs\" is a string, expected a number"];
    folder.refuses("train train.json --config train.toml", USAGE, &parts);
    folder.write("train.toml", "lr = -0.1");
    let parts = ["train.toml: line 1: \"lr\" is -0.1: expected a finite number, 0 or more"];
    folder.refuses("train train.json --config train.toml", USAGE, &parts);
    folder.refuses("train train.json --config gone.toml", INPUT, &["gone.toml: there is no such file"]);
    folder.refuses("train train.json --config .", INPUT, &[".: this is a folder, expected a file"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let folder = Folder::with_data();
    let before = folder.entries();
    for (flags, parts) in [
        (
            "--recipe single --epochs 3 --batch-size 8 --log run.jsonl --checkpoint run.ckpt",
            &[
                "32 pairs of 32 queries, 20 documents, 8 components",
                "12 steps, 4 an epoch",
                "8 queries choose",
            ][..],
        ),
        ("--recipe reference", &["40 pairs of 40 queries", "4 steps, 4 an epoch", "the last epoch is kept"]),
        (
            "--effort quick --test test.json",
            &[
                "40 pairs of 40 queries",
                " rounds, ",
                " for the verdict: ",
                " settings in 3 folds, ",
                "  AdamW, lr 0.0003",
            ],
        ),
    ] {
        let stdout = folder.stdout(&format!("train train.json -o a.qad --dry-run {flags}"));
        for part in
            parts.iter().chain(&["memory: about ", "nothing is written; without --dry-run a.qad would be"])
        {
            assert!(stdout.contains(part), "{part}: {stdout}");
        }
        assert_eq!(folder.entries(), before, "{flags}");
    }
    // It reads all that a run reads, and refuses what a run refuses.
    folder.write("broken.json", "{\"queries\": {}}");
    folder.refuses("train broken.json --dry-run", INPUT, &["broken.json"]);
    folder.write("adapter.qad", "");
    folder.refuses("train train.json --dry-run", OUTPUT, &["adapter.qad: exists already"]);
}

#[test]
fn a_dry_run_notes_the_defects_of_the_data() {
    let folder = Folder::with_data();
    let broken = text(&folder.read("train.json")).replace("[\"d1-0\"]", "[\"d_gone\"]");
    folder.write("train.json", broken);
    let assert = folder.run("train train.json --dry-run").assert().success();
    let stderr = text(&assert.get_output().stderr);
    assert!(
        stderr.contains("note: train.json: queries without a relevant document: 2, left out"),
        "{stderr}"
    );
}
