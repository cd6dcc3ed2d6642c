//! Several processes and their outputs.

use std::fs;
use std::process::{Command, Stdio};

use crate::checkpoint::wait_until;
use crate::support::{Data, Folder, text};

const USAGE: i32 = 2;
const OUTPUT: i32 = 4;

#[test]
fn of_two_runs_with_one_output_the_second_stops_before_work() {
    let folder = Folder::with_adapter();
    let mut first = Command::new(env!("CARGO_BIN_EXE_host-cli"));
    first.current_dir(folder.path("")).stdout(Stdio::null()).stderr(Stdio::null());
    first.args(
        "train train.json --recipe single -o b.qad --checkpoint c.ckpt --log c.jsonl".split_whitespace(),
    );
    let mut first = first.env("QUERY_ADAPTER_TEST_PAUSES", "step=600000").spawn().expect("run");
    wait_until(&mut first, || folder.exists("c.jsonl"));
    let other = "another process is about to write it (it holds ";
    for (words, parts) in [
        ("train gone.json -o b.qad", [": another", ".b.qad.lock"]),
        ("train gone.json -o b.qad --force", [": another", ".b.qad.lock"]),
        ("train gone.json -o d.qad --checkpoint c.ckpt --resume", ["c.ckpt: ", ".c.ckpt.lock"]),
        ("train gone.json -o d.qad --log c.jsonl --force", ["c.jsonl: ", ".c.jsonl.lock"]),
        ("apply -a gone.qad -o b.qad", ["b.qad: ", ".b.qad.lock"]),
        ("export gone.qad --format bin -o b.qad", ["b.qad: ", ".b.qad.lock"]),
        ("import gone.safetensors -o b.qad", ["b.qad: ", ".b.qad.lock"]),
    ] {
        let advice = "wait for it to end, or name another file";
        folder.refuses(words, OUTPUT, &[parts[0], parts[1], other, advice]);
    }
    // Another output is nobody's.
    folder.stdout("export a.qad --format bin -o d.qad");
    // The lock of a dead process is none, nor is what it left half-written.
    first.kill().expect("killed");
    first.wait().expect("ended");
    folder.write(".b.qad.abcdef.partial", "half");
    assert!(folder.exists(".b.qad.lock"));
    folder.stdout("train train.json --recipe single -o b.qad --checkpoint c.ckpt --log c.jsonl --force");
    assert_eq!(folder.entries(), ["a.qad", "b.qad", "c.ckpt", "c.jsonl", "d.qad", "test.json", "train.json"]);
    assert_eq!(folder.read("a.qad"), folder.read("b.qad"));
}

#[test]
fn outputs_that_are_one_file_are_refused() {
    let folder = Folder::with_data();
    for (words, flags) in [
        ("-o x --log x", "--log and --output"),
        ("-o x --log ./x", "--log and --output"),
        ("-o x --checkpoint x", "--checkpoint and --output"),
        ("--log x --checkpoint ../{folder}/x", "--checkpoint and --log"),
        ("--checkpoint adapter.qad", "--checkpoint and --output"),
    ] {
        let name =
            folder.path("").file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let words = words.replace("{folder}", &name);
        let expected = format!("{flags} name the same file; give each its own");
        folder.refuses(&format!("train train.json {words}"), USAGE, &[&expected]);
    }
    // One file under two names.
    folder.write("x", "");
    std::os::unix::fs::symlink("x", folder.path("y")).expect("a link");
    let expected = "--log and --output name the same file";
    folder.refuses("train train.json -o x --log y --force", USAGE, &[expected]);
}

#[test]
fn an_output_that_is_read_by_the_same_command_is_refused_and_untouched() {
    let folder = Folder::with_adapter();
    let data = Data::small();
    folder.write("plain.json", data.json(false));
    data.write_folder(&folder.path("vectors"));
    folder.write("q.tsv", "q1-0-0 0 d1-0 1\n");
    folder.write("c.toml", "epochs = 1\n");
    data.write_folder(&folder.path("known"));
    for made in ["beir/qrels", "parts"] {
        fs::create_dir_all(folder.path(made)).expect("a folder");
    }
    for file in ["known/model.json", "beir/corpus.jsonl", "beir/queries.jsonl", "beir/qrels/train.tsv"] {
        folder.write(file, "read");
    }
    for file in ["beir/qrels/test.tsv", "parts/train_queries.json", "parts/qrels_dev.tsv"] {
        folder.write(file, "read");
    }
    folder.stdout("evaluate train.json --predictions base.run --per-query base.jsonl");
    folder.stdout("export a.qad --format safetensors --output layer.safetensors");
    for (words, named) in [
        ("train train.json -o ./train.json", "--output names ./train.json"),
        ("train train.json --config c.toml -o c.toml", "--output names c.toml"),
        ("train train.json --test test.json --report test.json", "--report names test.json"),
        (
            "train plain.json --embeddings vectors --log vectors/queries.npy",
            "--log names vectors/queries.npy",
        ),
        (
            "train plain.json --embeddings vectors --checkpoint vectors/corpus_ids.json",
            "--checkpoint names vectors/corpus_ids.json",
        ),
        ("evaluate train.json --qrels q.tsv --predictions q.tsv", "--predictions names q.tsv"),
        ("evaluate train.json --adapter a.qad --report a.qad", "--report names a.qad"),
        ("evaluate --run base.run --qrels q.tsv --per-query base.run", "--per-query names base.run"),
        ("compare a.qad --dataset train.json --per-query a.qad", "--per-query names a.qad"),
        ("compare base.jsonl base.jsonl --per-query base.jsonl", "--per-query names base.jsonl"),
        ("export a.qad --format rust --output a.qad", "--output names a.qad"),
        ("apply -a a.qad -i vectors/queries.npy -o a.qad", "--output names a.qad"),
        ("apply -a a.qad -i known/queries.npy -o known/model.json", "--output names known/model.json"),
        ("train plain.json --embeddings known -o known/model.json", "--output names known/model.json"),
        (
            "train plain.json --query-embeddings vectors/queries.npy --document-embeddings vectors/corpus.npy -o \
             vectors/query_ids.json",
            "--output names vectors/query_ids.json",
        ),
        ("train beir --embeddings vectors -o beir/qrels/train.tsv", "--output names beir/qrels/train.tsv"),
        ("train beir --embeddings vectors --log beir/qrels/test.tsv", "--log names beir/qrels/test.tsv"),
        (
            "train beir/qrels/train.tsv --embeddings vectors -o beir/corpus.jsonl",
            "--output names beir/corpus.jsonl",
        ),
        (
            "train parts --embeddings vectors -o parts/train_queries.json",
            "--output names parts/train_queries.json",
        ),
        (
            "evaluate parts --embeddings vectors --predictions parts/qrels_dev.tsv",
            "--predictions names parts/qrels_dev.tsv",
        ),
        (
            "compare base a.qad --dataset beir --embeddings vectors --per-query beir/qrels/test.tsv",
            "--per-query names beir/qrels/test.tsv",
        ),
        ("import layer.safetensors -o layer.safetensors", "--output names layer.safetensors"),
    ] {
        let file = named.split(' ').next_back().unwrap_or_default();
        let before = folder.read(file);
        let expected = [named, ", which is read by the same command; name another file"];
        folder.refuses(&format!("{words} --force"), 2, &expected);
        assert_eq!(folder.read(file), before, "{words}");
    }
    // A new file beside the vectors is in nobody's way, nor is the same one again.
    let words = "train plain.json --recipe single --epochs 1 --embeddings vectors -o vectors/a.qad -q";
    folder.stdout(words);
    folder.stdout(&format!("{words} --force"));
}

#[test]
fn commands_do_without_stdin_and_with_a_reader_that_goes_away() {
    let folder = Folder::with_adapter();
    for words in [
        "train train.json --epochs 2 --force",
        "train train.json --print-config",
        "train train.json --dry-run -o new.qad",
        "evaluate train.json",
        "evaluate train.json --compare base= --compare adapted=+a.qad",
        "apply -a a.qad",
        "inspect a.qad",
        "inspect a.qad --json",
        "export a.qad --format rust -o a.rs --force",
        "check",
        "synthesize --queries 3 --documents 3 --dim 2 -o made --force",
        "completions bash",
        "man",
        "--help",
        "--version",
    ] {
        // Closed, not empty; and a pipe that nobody reads.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" <&-", "sh", env!("CARGO_BIN_EXE_host-cli")]);
        command.args(words.split_whitespace()).current_dir(folder.path(""));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ended");
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{words}: {:?}: {stderr}", output.status);
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{words}: {stderr}");
    }
}
