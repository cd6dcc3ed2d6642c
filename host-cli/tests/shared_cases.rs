//! Data set files of the shared case collection, where it is present; the unit tests have their own equivalents.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use host_cli::dataset::Dataset;
use host_cli::defects::DefectKind::{self, *};
use host_cli::failure::Failure;
use host_cli::import::read_layer;
use host_cli::metrics::{Measure, Metric};
use host_cli::ranking::Index;
use host_cli::retrieval_task::RetrievalTask;
use host_cli::vectors::{Matrix, Side, Vectors};
use query_adapter::Level;

/// What becomes of a file.
enum Outcome {
    /// It is used: the number of queries, hit rate@1 and MRR@10 without an adapter, and the defects counted.
    Used(usize, f64, f64, &'static [(DefectKind, usize)]),
    /// It is refused: every one of these stands in the message.
    Refused(&'static [&'static str]),
}
use Outcome::{Refused, Used};

const CASES: &[(&str, Outcome)] = &[
    ("A1/train.json", Used(3, 1.0, 1.0, &[])),
    ("A3/nan.json", Refused(&["\"q2\" component 1", "found NaN"])),
    ("A3/infinity.json", Refused(&["\"q2\" component 1", "found Infinity"])),
    ("A3/neg_infinity.json", Refused(&["\"q2\" component 1", "found -Infinity"])),
    ("A3/string_nan.json", Refused(&["\"q2\" component 1", "\"NaN\""])),
    ("A5/tiny_values.json", Used(3, 1.0, 1.0, &[])),
    ("A7/dup_query_id.json", Refused(&["queries \"q1\"", "twice"])),
    ("A7/dup_doc_embedding.json", Refused(&["corpus_embeddings \"d1\"", "twice"])),
    ("A8/missing_doc.json", Used(2, 1.0, 1.0, &[(LabelOfAbsentDocument, 1), (QueryWithoutLabels, 1)])),
    ("A8/one_of_two_missing.json", Used(3, 1.0, 1.0, &[(LabelOfAbsentDocument, 1)])),
    ("A9/empty_list.json", Used(2, 1.0, 1.0, &[(QueryWithoutLabels, 1)])),
    ("A9/no_entry.json", Used(2, 1.0, 1.0, &[(QueryWithoutLabels, 1)])),
    ("A9/entry_without_query.json", Used(3, 1.0, 1.0, &[(LabelsOfAbsentQuery, 1)])),
    ("A9/no_labels_at_all.json", Refused(&["no query has a relevant document"])),
    ("A11/int_ids_in_list.json", Used(2, 1.0, 1.0, &[])),
    ("A11/string_instead_of_list.json", Used(2, 1.0, 1.0, &[])),
    ("A11/graded_dict.json", Used(2, 1.0, 1.0, &[])),
    ("A14/unicode_ids.json", Used(2, 1.0, 1.0, &[])),
    ("A15/crlf.json", Used(3, 1.0, 1.0, &[])),
    ("A15/crlf_in_text_empty_text.json", Used(3, 1.0, 1.0, &[(EmptyQuery, 1), (EmptyDocument, 1)])),
    ("A15/raw_control_char.json", Refused(&["line 3 column", "queries \"q1\"", "control character"])),
    ("A16/empty_file.json", Refused(&["the file is empty"])),
    ("A16/nested_bomb.json", Refused(&["line 1 column", "expected one object"])),
    ("A16/nested_bomb_unknown_key.json", Used(3, 1.0, 1.0, &[])),
    ("A16/only_null.json", Refused(&["found null, expected one object"])),
    ("A16/trailing_comma.json", Refused(&["line 24 column"])),
    ("A16/trailing_garbage.json", Refused(&["more text after the object"])),
    ("A16/truncated.json", Refused(&["the file ends in the middle of a value"])),
    ("A16/two_objects.json", Refused(&["more text after the object"])),
    ("A17/empty_vector.json", Refused(&["\"q2\": the vector is empty"])),
    ("A17/missing_vector.json", Refused(&["the query \"q2\" has no vector"])),
    ("A17/nested_vector.json", Refused(&["\"q2\" component 0: found sequence"])),
    ("A17/null_component.json", Refused(&["\"q2\" component 2: found null"])),
    ("A17/null_vector.json", Refused(&["\"q2\": found null"])),
    ("A17/one_ragged_doc.json", Refused(&["\"d3\": the vector has 3 components, expected 4 as \"d1\" has"])),
    ("A17/query4_doc3.json", Refused(&["4 components (\"q1\"", "3 (\"d1\")"])),
    ("A28/no_queries.json", Refused(&["\"queries\" is empty"])),
    ("A28/no_corpus.json", Refused(&["\"corpus\" is empty"])),
    ("A28/plain_llamaindex_no_vectors.json", Refused(&["there are no vectors", "--embeddings"])),
    ("A28/vector_for_absent_doc.json", Used(3, 1.0, 1.0, &[(SurplusVector, 1)])),
    ("A28/vector_without_text.json", Used(3, 1.0, 1.0, &[(SurplusVector, 1)])),
    // Rows of known keys are a data set; what is missing is the vectors.
    ("A30/train_dataset.json", Refused(&["there are no vectors", "--embeddings"])),
    ("A30/anchor_positive.json", Refused(&["there are no vectors", "--embeddings"])),
    ("A30/array_of_rows.json", Refused(&["there are no vectors", "--embeddings"])),
    // Ties go by ascending id, as bytes.
    ("D1/dataset.json", Used(1, 1.0, 1.0, &[(RepeatedDocumentVector, 3)])),
    ("D3/dataset.json", Used(2, 0.5, 0.75, &[])),
    ("D4/dataset.json", Used(1, 0.0, 0.5, &[(RepeatedDocumentVector, 2)])),
    ("D5/dataset.json", Used(2, 1.0, 1.0, &[(LabelOfAbsentDocument, 2), (QueryWithoutLabels, 1)])),
    ("D7/dataset.json", Used(2, 0.0, 0.5, &[])),
    ("D8/dataset.json", Used(1, 0.0, 0.5, &[])),
    ("D9/dataset.json", Used(1, 0.0, 0.5, &[])),
    ("D12/dataset.json", Used(1, 1.0, 1.0, &[(ZeroDocumentVector, 1)])),
    ("D14/dataset.json", Used(2, 1.0, 1.0, &[])),
    ("D17/dataset.json", Used(1, 1.0, 1.0, &[(RepeatedDocumentVector, 2)])),
    ("D18/dataset.json", Used(1, 1.0, 1.0, &[(SingleDocument, 1)])),
];

/// Three texts' vectors, in the forms that embedding services answer.
const A: [f32; 4] = [0.5, -0.25, 0.125, 1.0];
const B: [f32; 4] = [-1.0, 0.75, 0.0625, -0.0];
const C: [f32; 4] = [0.1, 0.2, 0.3, 0.4];
const UNIT: [[f32; 4]; 4] =
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];

/// The rows of a file, or what stands in the refusal.
type Rows = Result<&'static [[f32; 4]], &'static [&'static str]>;

/// Files of vectors: the rows, or what stands in the refusal.
const MATRICES: &[(&str, Rows)] = &[
    ("A18/openai_float.json", Ok(&[A, B, C])),
    ("A18/openai_base64.json", Ok(&[A, B, C])),
    ("A18/openai_mixed.json", Ok(&[A, B, C])),
    ("A18/openai_base64_3bytes.json", Err(&["data[0]", "found 3 bytes of base64"])),
    ("A18/openai_base64_invalid.json", Err(&["data[0]", "no base64"])),
    ("A20/llamacpp_native.json", Ok(&[A])),
    ("A20/ollama_api_embeddings_old.json", Ok(&[A])),
    ("A20/llamacpp_array.json", Ok(&[A, B])),
    ("A20/llamacpp_double_nested.json", Ok(&[A, B])),
    ("A20/ollama_api_embed.json", Ok(&[A, B])),
    ("A20/tei_embed.json", Ok(&[A, B])),
    ("A20/openai_wrapped_nested.json", Ok(&[A])),
    ("A20/llamacpp_pooling_none.json", Err(&["[0]", "found 2 vectors for one text"])),
    ("A20/ollama_null.json", Err(&["line 2 column", "found null"])),
    ("A20/tei_null.json", Err(&["[0] component 0: found null"])),
    ("A26/list_f32.parquet", parquet(Ok(&UNIT))),
    ("A26/fixed_f32.parquet", parquet(Ok(&UNIT))),
    ("A26/list_f64.parquet", parquet(Ok(&UNIT))),
    ("A26/large_list_f32.parquet", parquet(Ok(&UNIT))),
    ("A26/null_row.parquet", parquet(Err(&["\"d2\"", "null or empty"]))),
    ("A26/null_component.parquet", parquet(Err(&["\"d2\"", "found null"]))),
    ("A26/ragged.parquet", parquet(Err(&["\"d2\"", "expected 4 as the first has"]))),
];

/// Without its feature the reader of Parquet names it.
const fn parquet(outcome: Rows) -> Rows {
    if cfg!(feature = "parquet") { outcome } else { Err(&["--features parquet"]) }
}

/// Files of vectors with ids: all seven, or what stands in the refusal.
const ROWS: &[(&str, Option<&[&str]>)] = &[
    ("A25/ok.jsonl", None),
    ("A25/no_final_newline.jsonl", None),
    ("A25/crlf.jsonl", None),
    ("A25/blank_lines.jsonl", None),
    ("A25/bom.jsonl", None),
    ("A25/pretty_printed.jsonl", None),
    ("A25/two_per_line.jsonl", None),
    ("A25/bad_line_3.jsonl", Some(&["line 3"])),
];

/// The folder of inputs, or a line on stderr, past the test harness, that says it is absent.
fn inputs() -> Option<PathBuf> {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/inputs");
    if inputs.is_dir() {
        return Some(inputs);
    }
    let _ = writeln!(std::io::stderr(), "SKIPPED: {} is absent", inputs.display());
    None
}

#[test]
fn every_data_set_of_the_collection_has_its_stated_outcome() {
    let Some(inputs) = inputs() else { return };
    for (name, outcome) in CASES {
        let file = inputs.join(name);
        assert!(file.is_file(), "{name} is missing from the collection");
        let result = RetrievalTask::load(&file, None);
        match outcome {
            Refused(parts) => {
                let failure = result.err().unwrap_or_else(|| panic!("{name} must be refused"));
                check_refusal(name, &failure, parts);
            }
            Used(queries, hit_rate, mrr, defects) => {
                let task = result.unwrap_or_else(|failure| panic!("{failure}"));
                let index = Index::new(task.corpus(), Level::detect()).expect("an index");
                let evaluation = index.evaluate(&task, None).expect("evaluated");
                let mean = |measure, k| {
                    evaluation.mean(Metric::new(measure, k).expect("a valid k")).expect("standard")
                };
                assert_eq!(evaluation.queries().len(), *queries, "{name}");
                let found = (mean(Measure::HitRate, 1), mean(Measure::Mrr, 10));
                assert_eq!(found, (*hit_rate, *mrr), "{name}: hit rate@1 and MRR@10");
                let counts: Vec<_> =
                    task.defects().iter().map(|defect| (defect.kind, defect.count)).collect();
                assert_eq!(counts, *defects, "{name}");
            }
        }
    }
    let _ = writeln!(std::io::stderr(), "ran {} shared data set files", CASES.len());
}

fn check_refusal(name: &str, failure: &Failure, parts: &[&str]) {
    let message = failure.to_string();
    assert_eq!(failure.exit_code(), 3, "{name}: {message}");
    assert!(message.contains(name) && !message.contains('\n'), "{name}: {message}");
    for part in parts {
        assert!(message.contains(part), "{name}: expected {part:?}: {message}");
    }
}

#[test]
fn every_file_of_vectors_of_the_collection_has_its_stated_outcome() {
    let Some(inputs) = inputs() else { return };
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for (name, outcome) in MATRICES {
        match (Matrix::read(&inputs.join(name)), outcome) {
            (Ok(matrix), Ok(rows)) => {
                assert_eq!((matrix.rows(), matrix.dim()), (rows.len(), 4), "{name}");
                assert_eq!(bits(matrix.as_slice()), bits(rows.as_flattened()), "{name}");
            }
            (Err(failure), Err(parts)) => check_refusal(name, &failure, parts),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    for (name, refused) in ROWS {
        match (Vectors::read(&inputs.join(name), Side::Queries), refused) {
            (Ok(vectors), None) => {
                let ids: Vec<&str> = (0..vectors.len()).map(|row| vectors.id(row)).collect();
                assert_eq!(ids, ["q1", "q2", "q3", "d1", "d2", "d3", "d4"], "{name}");
                assert_eq!(
                    (vectors.row(0), vectors.row(6)),
                    (&[0.9, 0.1, 0.0, 0.1][..], &UNIT[3][..]),
                    "{name}"
                );
            }
            (Err(failure), Some(parts)) => check_refusal(name, &failure, parts),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    let _ = writeln!(std::io::stderr(), "read {} shared files of vectors", MATRICES.len() + ROWS.len());
}

#[test]
fn every_safetensors_layout_gives_the_same_matrix_and_the_same_adapter() {
    let Some(inputs) = inputs() else { return };
    let files = files_of(&inputs, "A23");
    for name in &files {
        let matrix = Matrix::read(&inputs.join(name)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((matrix.rows(), matrix.dim()), (2, 2), "{name}");
        assert_eq!(matrix.as_slice(), [1.0, 0.5, 0.0, 1.0], "{name}");
        // As an adapter.
        let adapter =
            read_layer(&inputs.join(name), Level::detect()).unwrap_or_else(|failure| panic!("{failure}"));
        let mut output = [0.0; 2];
        adapter.apply(&[2.0, 4.0], &mut output).expect("applied");
        let no_bias = ["A23/no_bias.safetensors", "A23/empty_metadata.safetensors"];
        let expected = if no_bias.contains(&name.as_str()) { [4.0, 4.0] } else { [4.25, 3.5] };
        assert_eq!(output, expected, "{name}");
    }
    let _ = writeln!(std::io::stderr(), "read {} shared .safetensors files", files.len());
}

#[test]
fn rows_of_a_foreign_data_set_are_read_by_their_keys() {
    let Some(inputs) = inputs() else { return };
    for (name, queries, documents) in [
        ("A30/train_dataset.json", ["r1", "r2"], ["c1", "c2"]),
        ("A30/array_of_rows.json", ["r1", "r2"], ["c1", "c2"]),
    ] {
        let dataset = Dataset::load(&inputs.join(name)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(dataset.queries.ids.iter().collect::<Vec<_>>(), queries, "{name}");
        assert_eq!(dataset.corpus.ids.iter().collect::<Vec<_>>(), documents, "{name}");
        assert_eq!(dataset.queries.text(0), Some("how do i water a fern"), "{name}");
        assert_eq!(dataset.relevant_docs.of("r2").len(), 1, "{name}");
    }
    let dataset = Dataset::load(&inputs.join("A30/anchor_positive.json")).expect("read");
    assert_eq!(dataset.queries.texts().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(dataset.corpus.texts().collect::<Vec<_>>(), ["p", "r"]);
}

/// The inputs of a case, as `CASE/FILE`, sorted.
fn files_of(inputs: &Path, case: &str) -> Vec<String> {
    let entries = fs::read_dir(inputs.join(case)).expect("readable");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "expected.md")
        .map(|name| format!("{case}/{name}"))
        .collect();
    names.sort();
    names
}

/// Test programs that run whole cases, which they name.
const ELSEWHERE: [&str; 3] = [
    include_str!("shared_cases_numerics.rs"),
    include_str!("shared_cases_training.rs"),
    include_str!("cli/trec.rs"),
];

/// Ends of the names of files that nothing reads, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("B11/label_smoothing.json", "label smoothing is not offered"),
    ("/other.json", "no input: values by several definitions, of which those that hold here are in CASES"),
];

#[test]
fn no_input_of_the_collection_is_left_out_unsaid() {
    let Some(inputs) = inputs() else { return };
    let cases = fs::read_dir(&inputs).expect("readable").map(|entry| entry.expect("readable").file_name());
    let mut cases: Vec<String> = cases.map(|name| name.to_string_lossy().into_owned()).collect();
    cases.sort();
    let runs = |name: &str| {
        let case = name.split('/').next().unwrap_or_default();
        let is_named = |source: &&str| source.contains(&format!("\"{case}\""));
        ["A21", "A23"].contains(&case)
            || CASES.iter().any(|(known, _)| *known == name)
            || MATRICES.iter().any(|(known, _)| *known == name)
            || ROWS.iter().any(|(known, _)| *known == name)
            || ELSEWHERE.iter().any(is_named)
    };
    let files: Vec<String> = cases.iter().flat_map(|case| files_of(&inputs, case)).collect();
    let why = |name: &str| LEFT_OUT.iter().find(|(end, _)| name.ends_with(end)).map(|(_, why)| *why);
    let (left_out, tried): (Vec<&String>, Vec<&String>) = files.iter().partition(|name| why(name).is_some());
    let missing: Vec<&&String> = tried.iter().filter(|name| !runs(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let mut err = std::io::stderr();
    let _ = writeln!(err, "{} of {} shared files are tried", tried.len(), files.len());
    for name in left_out {
        let _ = writeln!(err, "not tried: {name}: {}", why(name).unwrap_or_default());
    }
}

#[test]
fn tiny_components_keep_their_bits() {
    let Some(inputs) = inputs() else { return };
    let dataset = Dataset::load(&inputs.join("A5/tiny_values.json")).expect("read");
    let vectors = dataset.query_embeddings.expect("vectors");
    let bits: Vec<u32> = vectors.row(1).iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [0x0000_0001, 0x3f4c_cccd, 0x8000_0000, 0x0000_0000]);
}

#[test]
fn every_npy_layout_gives_the_same_matrix_or_is_refused_by_name() {
    let Some(inputs) = inputs() else { return };
    let mut files: Vec<_> = fs::read_dir(inputs.join("A21"))
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "npy"))
        .collect();
    files.sort();
    let mut refused = Vec::new();
    for file in &files {
        match Matrix::load(file) {
            Ok(matrix) => {
                assert_eq!((matrix.rows(), matrix.dim()), (2, 3), "{}", file.display());
                assert_eq!(matrix.as_slice(), [1.5, -2.0, 0.25, 4.0, 5.5, -6.0], "{}", file.display());
            }
            Err(failure) => refused.push(failure.to_string()),
        }
    }
    // numpy itself never writes "=", the byte order of whoever reads.
    assert!(refused.iter().all(|message| message.contains("'descr': '=f4'")), "{refused:?}");
    let _ = writeln!(std::io::stderr(), "read {} shared .npy files, {} refused", files.len(), refused.len());
}
