//! A small data set that can be learnt, and the real binary to try it on.

#![allow(dead_code, reason = "every test program uses its own part of this")]

use core::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use npyz::WriterBuilder as _;
use query_adapter::Level;
use query_adapter::sample::Generator;
use serde_json::Value;
use tempfile::TempDir;

/// Components of the vectors.
pub(crate) const DIM: usize = 8;

/// Documents with vectors of length about 1, and questions to each whose vectors are the document's with components
/// exchanged and some noise: useless to the base, easy for an adapter.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) documents: Vec<Text>,
    pub(crate) queries: Vec<Text>,
    /// For each query the documents that answer it.
    pub(crate) answers: Vec<Vec<usize>>,
}

#[derive(Clone)]
pub(crate) struct Text {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) vector: Vec<f32>,
}

impl Data {
    /// `documents` of `dim` components with two questions each; another `seed`, other vectors and other ids.
    pub(crate) fn new(documents: usize, dim: usize, seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let mut component = |size: f32| size * (generator.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0);
        let mut data = Self { documents: Vec::new(), queries: Vec::new(), answers: Vec::new() };
        for document in 0..documents {
            let vector: Vec<f32> = (0..dim).map(|_| component(1.0)).collect();
            for question in 0..2 {
                let turned = (0..dim).map(|k| vector[(k + 1) % dim] + component(0.1)).collect();
                data.queries.push(Text {
                    id: format!("q{seed}-{document}-{question}"),
                    text: format!("question {question} about subject {seed}-{document}"),
                    vector: turned,
                });
                data.answers.push(vec![document]);
            }
            data.documents.push(Text {
                id: format!("d{seed}-{document}"),
                text: format!("all there is to know of subject {seed}-{document}"),
                vector,
            });
        }
        data
    }

    /// The data set of most tests.
    pub(crate) fn small() -> Self {
        Self::new(20, DIM, 1)
    }

    /// The data set file, with its vectors inside or without vectors.
    pub(crate) fn json(&self, inline: bool) -> String {
        let texts = |list: &[Text]| object(list.iter().map(|t| (&t.id, format!("{:?}", t.text))));
        let vectors = |list: &[Text]| object(list.iter().map(|t| (&t.id, format!("{:?}", t.vector))));
        let labels = object(self.queries.iter().zip(&self.answers).map(|(query, answers)| {
            let ids: Vec<_> = answers.iter().map(|&answer| &self.documents[answer].id).collect();
            (&query.id, format!("{ids:?}"))
        }));
        let mut json = format!(
            "{{\"queries\": {}, \"corpus\": {}, \"relevant_docs\": {labels}, \"mode\": \"text\"",
            texts(&self.queries),
            texts(&self.documents)
        );
        if inline {
            let (queries, corpus) = (vectors(&self.queries), vectors(&self.documents));
            let _ = write!(json, ", \"query_embeddings\": {queries}, \"corpus_embeddings\": {corpus}");
        }
        json + "}"
    }

    /// Writes a folder of vectors.
    pub(crate) fn write_folder(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        for (list, matrix, ids) in [
            (&self.queries, "queries.npy", "query_ids.json"),
            (&self.documents, "corpus.npy", "corpus_ids.json"),
        ] {
            let rows: Vec<&[f32]> = list.iter().map(|text| text.vector.as_slice()).collect();
            write_npy(&folder.join(matrix), &rows);
            let ids_of: Vec<_> = list.iter().map(|text| &text.id).collect();
            fs::write(folder.join(ids), format!("{ids_of:?}")).expect("written");
        }
    }
}

fn object<'a>(entries: impl Iterator<Item = (&'a String, String)>) -> String {
    let entries: Vec<_> = entries.map(|(id, value)| format!("{id:?}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

/// Writes a matrix of at least one row.
pub(crate) fn write_npy(path: &Path, rows: &[&[f32]]) {
    let mut bytes = Vec::new();
    let shape = [rows.len() as u64, rows[0].len() as u64];
    let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut bytes).begin_nd().expect("a header");
    writer.extend(rows.iter().copied().flatten().copied()).expect("written");
    writer.finish().expect("complete");
    fs::write(path, bytes).expect("written");
}

/// A temporary folder, and the binary run in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// One with `train.json` and `test.json`, both with vectors inside.
    pub(crate) fn with_data() -> Self {
        let folder = Self::new();
        folder.write("train.json", Data::small().json(true));
        folder.write("test.json", Data::new(6, DIM, 2).json(true));
        folder
    }

    /// One with `train.json` and an adapter, `a.qad`, trained on it.
    pub(crate) fn with_adapter() -> Self {
        let folder = Self::with_data();
        folder.run("train train.json --recipe single -o a.qad -q").assert().success();
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The names of all entries, sorted.
    pub(crate) fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The binary with these words as arguments, run in this folder.
    pub(crate) fn run(&self, words: &str) -> Command {
        self.run_with(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// The binary with these arguments, run in this folder.
    pub(crate) fn run_with(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-cli"));
        command.current_dir(self.0.path()).args(arguments);
        command
    }

    /// What a command prints on stdout when it succeeds.
    pub(crate) fn stdout(&self, words: &str) -> String {
        text(&self.run(words).assert().success().get_output().stdout)
    }

    /// The JSON object that a command prints when it succeeds.
    pub(crate) fn json(&self, words: &str) -> Value {
        let stdout = self.stdout(&format!("{words} --json"));
        assert_eq!(stdout.matches('\n').count(), 1, "one line");
        serde_json::from_str(&stdout).expect("JSON")
    }

    /// Asserts that a command fails with this exit code and one line on stderr after its notes, which holds every one
    /// of `parts`, and that it leaves no file behind.
    pub(crate) fn refuses(&self, words: &str, code: i32, parts: &[&str]) {
        let before = self.entries();
        let assert = self.run(words).assert().code(code);
        let output = assert.get_output();
        let stderr = text(&output.stderr);
        let errors: Vec<_> = stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
        let [error] = errors[..] else { panic!("{words}: expected one line: {stderr}") };
        assert!(error.starts_with("error: "), "{words}: {error}");
        for part in parts {
            assert!(error.contains(part), "{words}: expected {part:?}: {error}");
        }
        assert!(!stderr.contains("panicked"), "{words}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{words}");
        assert_eq!(self.entries(), before, "{words}");
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The SIMD levels of this machine.
pub(crate) fn levels() -> Vec<&'static str> {
    Level::available().map(Level::name).collect()
}

/// A number of a JSON object, by path.
pub(crate) fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

/// A list of numbers of a JSON object, by path.
pub(crate) fn numbers(value: &Value, path: &str) -> Vec<f64> {
    let list = value.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("{path} in {value}"));
    list.iter().map(|number| number.as_f64().unwrap_or_else(|| panic!("{path} in {value}"))).collect()
}
