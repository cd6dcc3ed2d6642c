//! `apply`: the kernel's bits, in every form.

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use host_cli::adapter_file::{self, AdapterFile};
use host_cli::fit::Adapter;
use host_cli::vectors::Matrix;
use query_adapter::image::Metadata;
use query_adapter::sample::Generator;
use query_adapter::{Lanes, Level, Linear, linear_len};

use crate::support::{DIM, Folder, levels, text, write_npy};

const INPUT: i32 = 3;
const OUTPUT: i32 = 4;
const NUMERICAL: i32 = 5;

/// More than two batches.
const ROWS: usize = 600;

fn queries() -> Vec<Vec<f32>> {
    let mut generator = Generator::new(3);
    let mut component = || generator.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0;
    (0..ROWS).map(|_| (0..DIM).map(|_| component()).collect()).collect()
}

/// What the kernel gives for each query alone, at the plainest level.
fn expected(folder: &Folder, name: &str, queries: &[Vec<f32>]) -> Vec<u32> {
    let file = AdapterFile::open(&folder.path(name), Level::SCALAR).expect("an adapter");
    let adapter = file.dense(Level::SCALAR).expect("an adapter");
    let mut output = vec![0.0; adapter.out_dim()];
    let mut bits = Vec::new();
    for query in queries {
        adapter.apply(query, &mut output).expect("applied");
        bits.extend(output.iter().map(|value| value.to_bits()));
    }
    bits
}

fn bits_of_npy(folder: &Folder, name: &str) -> Vec<u32> {
    let matrix = Matrix::load(&folder.path(name)).expect("a matrix");
    matrix.as_slice().iter().map(|value| value.to_bits()).collect()
}

fn bits_of_lines(lines: &str) -> Vec<u32> {
    let rows = lines.lines().map(|line| serde_json::from_str::<Vec<f32>>(line).expect("a vector"));
    rows.flatten().map(f32::to_bits).collect()
}

fn lines(queries: &[Vec<f32>]) -> String {
    queries.iter().map(|query| format!("{query:?}\n")).collect()
}

fn with_queries() -> (Folder, Vec<Vec<f32>>) {
    let folder = Folder::with_adapter();
    let queries = queries();
    write_npy(&folder.path("q.npy"), &queries.iter().map(Vec::as_slice).collect::<Vec<_>>());
    folder.write("q.jsonl", lines(&queries));
    (folder, queries)
}

/// Saves an adapter of `weight`, `out × in` row after row.
fn save(folder: &Folder, name: &str, in_dim: usize, weight: &[f32]) {
    let out_dim = weight.len() / in_dim;
    let storage = vec![Lanes::ZERO; linear_len(in_dim, out_dim, false)];
    let mut adapter: Adapter =
        Linear::identity(in_dim, out_dim, false, storage, Level::SCALAR).expect("an adapter");
    adapter.set_weight(weight).expect("set");
    let metadata = Metadata::UNKNOWN;
    adapter_file::save(&folder.path(name), false, &adapter, metadata, None).expect("saved");
}

#[test]
fn every_form_gives_the_bits_that_the_kernel_gives_each_query_alone() {
    let (folder, queries) = with_queries();
    let expected = expected(&folder, "a.qad", &queries);
    folder.stdout("apply -a a.qad -i q.npy -o out.npy");
    assert_eq!(bits_of_npy(&folder, "out.npy"), expected);
    folder.stdout("apply --adapter a.qad --input q.jsonl --output lines.NPY");
    assert_eq!(folder.read("lines.NPY"), folder.read("out.npy"));
    let printed = folder.stdout("apply -a a.qad -i q.npy");
    assert_eq!(bits_of_lines(&printed), expected);
    assert_eq!(folder.stdout("apply -a a.qad -i q.jsonl"), printed);
    folder.stdout("apply -a a.qad -i q.npy -o out.jsonl");
    assert_eq!(text(&folder.read("out.jsonl")), printed);
    let assert = folder.run("apply -a a.qad").write_stdin(lines(&queries)).assert().success();
    assert_eq!(text(&assert.get_output().stdout), printed);
    assert_eq!(text(&assert.get_output().stderr), "");
}

#[test]
fn every_simd_level_gives_the_same_bytes() {
    let (folder, _) = with_queries();
    let expected = folder.stdout("apply -a a.qad -i q.npy");
    for level in levels() {
        assert_eq!(folder.stdout(&format!("apply -a a.qad -i q.npy --simd {level}")), expected, "{level}");
    }
}

#[test]
fn an_adapter_may_give_another_dimension_than_it_takes() {
    let folder = Folder::new();
    save(&folder, "a.qad", 2, &[1.0, 2.0, 0.5, -1.0, 0.0, 3.0]);
    folder.write("q.jsonl", "[1, 10]\n");
    assert_eq!(folder.stdout("apply -a a.qad -i q.jsonl"), "[21.0,-9.5,30.0]\n");
    folder.stdout("apply -a a.qad -i q.jsonl -o out.npy");
    let matrix = Matrix::load(&folder.path("out.npy")).expect("a matrix");
    assert_eq!((matrix.rows(), matrix.dim()), (1, 3));
}

#[test]
fn objects_keep_their_other_fields_and_bare_vectors_stay_bare() {
    let folder = Folder::new();
    save(&folder, "a.qad", 2, &[0.0, 1.0, 2.0, 0.0]);
    folder.write(
        "q.jsonl",
        "\u{feff}{\"id\": \"q1\", \"embedding\": [0.1, 2], \"tags\": [\"a\", {\"b\": 1.50}]}\r\n\
         \r\n[3, 4]\n\n{\"embedding\":[5,6],\"id\":12345678901234567890}",
    );
    let expected = "{\"id\":\"q1\",\"embedding\":[2.0,0.2],\"tags\":[\"a\", {\"b\": 1.50}]}\n[4.0,6.0]\n\
                    {\"embedding\":[6.0,10.0],\"id\":12345678901234567890}\n";
    assert_eq!(folder.stdout("apply -a a.qad -i q.jsonl"), expected);
    folder.stdout("apply -a a.qad -i q.jsonl -o out.jsonl");
    assert_eq!(text(&folder.read("out.jsonl")), expected);
}

#[test]
fn nothing_in_gives_nothing_out() {
    let folder = Folder::with_adapter();
    for blank in ["", "\n", "  \r\n\n"] {
        let assert = folder.run("apply -a a.qad").write_stdin(blank).assert().success();
        assert_eq!(assert.get_output().stdout, b"");
        folder.run("apply -a a.qad -o out.jsonl --force").write_stdin(blank).assert().success();
        assert_eq!(folder.read("out.jsonl"), b"");
        folder.run("apply -a a.qad -o out.npy --force").write_stdin(blank).assert().success();
        let matrix = Matrix::load(&folder.path("out.npy")).expect("a matrix");
        assert_eq!((matrix.rows(), matrix.dim()), (0, DIM));
    }
    // Which is again a valid input.
    assert_eq!(folder.stdout("apply -a a.qad -i out.npy"), "");
}

#[test]
fn each_line_is_answered_before_the_next_one_is_there() {
    let folder = Folder::with_adapter();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_host-cli"))
        .current_dir(folder.path(""))
        .args(["apply", "-a", "a.qad"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run");
    let mut stdin = child.stdin.take().expect("piped");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    // Read apart, so that a missing answer is a failure and not a test that never ends.
    let (sender, answers) = mpsc::channel();
    let reader = thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line)));
    for query in &queries()[..3] {
        writeln!(stdin, "{query:?}").expect("written");
        let answer = answers.recv_timeout(Duration::from_secs(60));
        let Ok(Ok(answer)) = answer else {
            child.kill().expect("ended");
            panic!("no answer: {answer:?}");
        };
        assert_eq!(bits_of_lines(&answer), expected(&folder, "a.qad", core::slice::from_ref(query)));
    }
    drop(stdin);
    assert!(child.wait().expect("ended").success());
    reader.join().expect("ended").expect("no one left to tell");
}

#[test]
fn a_reader_that_goes_away_early_ends_it_quietly() {
    let (folder, queries) = with_queries();
    // More output than a pipe holds.
    folder.write("many.jsonl", lines(&queries).repeat(20));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_host-cli"))
        .current_dir(folder.path(""))
        .args(["apply", "-a", "a.qad", "-i", "many.jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("read");
    assert_eq!(bits_of_lines(&first), expected(&folder, "a.qad", &queries[..1]));
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_bad_line_is_named_and_no_file_is_written() {
    let folder = Folder::with_adapter();
    let good = lines(&queries()[..2]);
    for (line, parts) in [
        ("[1, 2]", &["line 4: the vector has 2 components, expected 8 as the adapter takes"][..]),
        (
            "[1, 2, NaN, 4, 5, 6, 7, 8]",
            &["line 4 column", "component 2: found NaN, expected a finite number"],
        ),
        ("[1, 2, \"x\", 4, 5, 6, 7, 8]", &["line 4 column", "component 2: found string \"x\""]),
        ("{\"id\": 1}", &["line 4 column", "without \"embedding\""]),
        ("[1, 2, 3, 4", &["line 4: it ends in the middle of a value"]),
        ("nonsense", &["line 4 column", "expected"]),
    ] {
        folder.write("q.jsonl", format!("{good}\n{line}\n{good}"));
        let named = [&["q.jsonl: "], parts].concat();
        folder.refuses("apply -a a.qad -i q.jsonl -o out.jsonl", INPUT, &named);
        folder.refuses("apply -a a.qad -i q.jsonl -o out.npy", INPUT, &named);
        let assert =
            folder.run("apply -a a.qad").write_stdin(format!("{good}\n{line}\n")).assert().code(INPUT);
        let stderr = text(&assert.get_output().stderr);
        assert!(stderr.starts_with("error: stdin: line 4") && stderr.matches('\n').count() == 1, "{stderr}");
        // Whole lines or none.
        let stdout = text(&assert.get_output().stdout);
        assert!(stdout.is_empty() || stdout.ends_with("]\n"), "{stdout}");
    }
}

#[test]
fn a_bad_matrix_is_named() {
    let folder = Folder::with_adapter();
    let mut queries = queries();
    queries[300][5] = f32::INFINITY;
    write_npy(&folder.path("inf.npy"), &queries.iter().map(Vec::as_slice).collect::<Vec<_>>());
    folder.refuses("apply -a a.qad -i inf.npy", INPUT, &["inf.npy: row 300 component 5: found inf"]);
    write_npy(&folder.path("narrow.npy"), &[&[1.0, 2.0]]);
    let parts = ["a.qad: the adapter takes vectors of 8 components, those of narrow.npy have 2"];
    folder.refuses("apply -a a.qad -i narrow.npy", INPUT, &parts);
    folder.write("text.npy", "[1, 2]\n");
    folder.refuses("apply -a a.qad -i text.npy", INPUT, &["text.npy: this is not a .npy file"]);
    folder.refuses("apply -a a.qad -i gone.npy", INPUT, &["gone.npy: there is no such file"]);
    folder.refuses("apply -a a.qad -i gone.jsonl", INPUT, &["gone.jsonl: there is no such file"]);
    folder.refuses("apply -a a.qad -i .", INPUT, &["cannot be read"]);
}

#[test]
fn an_output_that_is_not_finite_is_refused_by_row() {
    let folder = Folder::new();
    save(&folder, "a.qad", 2, &[1.0, 0.0, 0.0, 2.0]);
    let fine = [1.0, 2.0];
    let mut rows = vec![&fine[..]; 300];
    rows[270] = &[3e38, 3e38];
    write_npy(&folder.path("q.npy"), &rows);
    let parts = ["q.npy: row 270: component 1 of the adapter's output is not finite"];
    folder.refuses("apply -a a.qad -i q.npy -o out.npy", NUMERICAL, &parts);
    folder.refuses("apply -a a.qad -i q.npy -o out.jsonl", NUMERICAL, &parts);
    folder.write("q.jsonl", "[1, 2]\n\n[3e38, 3e38]\n");
    folder.refuses("apply -a a.qad -i q.jsonl -o out.npy", NUMERICAL, &["q.jsonl: line 3: component 1"]);
}

#[test]
fn an_existing_output_is_refused_and_untouched_unless_forced() {
    let (folder, _) = with_queries();
    for name in ["out.npy", "out.jsonl"] {
        folder.write(name, "precious");
        let words = format!("apply -a a.qad -i q.npy -o {name}");
        folder.refuses(&words, OUTPUT, &[name, "exists already", "--force"]);
        // A fault in the middle of the input leaves even a forced output as it was.
        folder.write("bad.jsonl", lines(&queries()) + "[1]\n");
        folder.refuses(&format!("apply -a a.qad -i bad.jsonl -o {name} --force"), INPUT, &["line 601"]);
        assert_eq!(folder.read(name), b"precious");
        folder.stdout(&format!("{words} --force"));
        assert_ne!(folder.read(name), b"precious");
    }
    folder.refuses("apply -a a.qad -i q.npy -o gone/out.npy", OUTPUT, &["the folder gone does not exist"]);
    // The output is looked at before anything is read.
    folder.refuses("apply -a gone.qad -i q.npy -o out.npy", OUTPUT, &["out.npy", "exists already"]);
}

#[test]
fn a_file_may_be_replaced_by_its_own_transformation() {
    let (folder, queries) = with_queries();
    folder.stdout("apply -a a.qad -i q.npy -o q.npy --force");
    assert_eq!(bits_of_npy(&folder, "q.npy"), expected(&folder, "a.qad", &queries));
}
