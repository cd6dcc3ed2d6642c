//! What is refused, by which exit code, in whose name; and that nothing is written then.

use std::fs;

use query_adapter::image::{ImageSpec, Metadata};
use query_adapter::{Lanes, Level, Linear, linear_len};
use safetensors::serialize;
use safetensors::tensor::{Dtype, TensorView};

use crate::support::{DIM, Data, Folder, levels, text, write_npy};

const OUTPUT: i32 = 4;
const INPUT: i32 = 3;
const USAGE: i32 = 2;

#[test]
fn an_existing_output_is_refused_and_untouched_unless_forced() {
    let folder = Folder::with_data();
    folder.write("a.qad", "precious");
    folder.refuses("train train.json -o a.qad", OUTPUT, &["a.qad: exists already", "--force"]);
    assert_eq!(folder.read("a.qad"), b"precious");
    folder.run("train train.json -o a.qad --force").assert().success();
    assert_ne!(folder.read("a.qad"), b"precious");
}

#[test]
fn the_output_is_checked_before_any_data_is_read() {
    let folder = Folder::with_data();
    folder.write("a.qad", "precious");
    folder.refuses("train gone.json -o a.qad", OUTPUT, &["a.qad: exists already"]);
    folder.refuses(
        "train gone.json -o gone/a.qad",
        OUTPUT,
        &["gone/a.qad", "the folder gone does not exist"],
    );
    folder.refuses("train gone.json -o .", OUTPUT, &["this is a folder; name a file"]);
    assert_eq!(folder.read("a.qad"), b"precious");
}

#[test]
fn a_forced_output_stays_as_it_was_when_training_fails() {
    let folder = Folder::with_data();
    folder.write("a.qad", "precious");
    folder.refuses("train gone.json -o a.qad --force", INPUT, &["gone.json: there is no such file"]);
    assert_eq!(folder.read("a.qad"), b"precious");
}

#[test]
fn data_that_is_missing_or_broken_is_named() {
    let folder = Folder::with_data();
    let good = text(&folder.read("train.json"));
    folder.write("cut.json", &good[..good.len() / 2]);
    folder.write("empty.json", "");
    folder.write("packed.json.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    folder.write("rows.json", "{\"prompt\": \"a\", \"part\": \"b\"}\n");
    folder.write("pairs.json", "{\"question\": \"a\", \"chunk\": \"b\"}\n{\"question\": \"c\"}\n");
    folder.write("plain.json", Data::small().json(false));
    folder.write("nan.json", good.replacen(": [", ": [NaN, ", 21));
    fs::create_dir(folder.path("folder.json")).expect("a folder");
    for (file, parts) in [
        ("gone.json", &["there is no such file"][..]),
        ("cut.json", &["the file ends in the middle of a value"]),
        ("empty.json", &["the file is empty"]),
        ("packed.json.gz", &["the file is compressed (gzip), expected text; unpack it first"]),
        (
            "rows.json",
            &["found an object with the keys \"prompt\", \"part\"", "expected one object", "--query-key"],
        ),
        ("pairs.json", &["line 2 column 17: found a row without \"chunk\", which rows before it have"]),
        ("plain.json", &["there are no vectors", "--embeddings"]),
        ("folder.json", &["this is a folder"]),
    ] {
        let named = [&[file], parts].concat();
        folder.refuses(&format!("train {file} -o a.qad"), INPUT, &named);
        folder.refuses(&format!("train train.json --test {file} -o a.qad"), INPUT, &named);
        folder.refuses(&format!("train train.json --validation {file} -o a.qad"), INPUT, &named);
        folder.refuses(&format!("evaluate {file}"), INPUT, &named);
    }
}

#[test]
fn vectors_that_are_not_finite_are_refused_by_id_and_component() {
    let folder = Folder::with_data();
    let good = text(&folder.read("train.json"));
    for (word, found) in
        [("NaN", "found NaN"), ("-Infinity", "found -Infinity"), ("1e39", "1e39 does not fit")]
    {
        let (before, after) = good.split_once("\"query_embeddings\": {\"q1-0-0\": [").expect("there");
        let rest = &after[after.find(',').expect("there")..];
        folder.write("bad.json", format!("{before}\"query_embeddings\": {{\"q1-0-0\": [{word}{rest}"));
        folder.refuses("train bad.json -o a.qad", INPUT, &["bad.json", "\"q1-0-0\" component 0", found]);
    }
    let data = Data::small();
    folder.write("plain.json", data.json(false));
    data.write_folder(&folder.path("vectors"));
    let mut rows: Vec<Vec<f32>> = data.documents.iter().map(|text| text.vector.clone()).collect();
    rows[3][5] = f32::NAN;
    write_npy(&folder.path("vectors/corpus.npy"), &rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let parts = ["vectors/corpus.npy", "row 3 (\"d1-3\") component 5", "found NaN"];
    folder.refuses("train plain.json --embeddings vectors -o a.qad", INPUT, &parts);
}

#[test]
fn a_folder_of_vectors_that_does_not_fit_is_named() {
    let folder = Folder::with_data();
    folder.write("plain.json", Data::small().json(false));
    let train = "train plain.json --embeddings vectors -o a.qad";
    folder.refuses(train, INPUT, &["vectors: there is no such folder"]);
    Data::new(5, DIM, 1).write_folder(&folder.path("vectors"));
    folder.refuses(train, INPUT, &["plain.json", "\"d1-5\""]);
    let npy = folder.read("vectors/queries.npy");
    folder.write("vectors/queries.npy", &npy[..npy.len() - 1]);
    folder.refuses(train, INPUT, &["vectors/queries.npy", "cut off"]);
}

#[test]
fn splits_of_different_dimensions_are_refused_by_name() {
    let folder = Folder::with_data();
    folder.write("narrow.json", Data::new(6, DIM - 1, 2).json(true));
    for flag in ["--test", "--validation"] {
        let parts = ["narrow.json", "7 components", "train.json", "8", "embed all splits with one model"];
        folder.refuses(&format!("train train.json {flag} narrow.json -o a.qad"), INPUT, &parts);
    }
}

#[test]
fn pairs_without_negatives_are_refused_with_the_reason() {
    let folder = Folder::with_data();
    let mut data = Data::new(1, DIM, 1);
    folder.write("one-document.json", data.json(true));
    data.queries.truncate(1);
    data.answers.truncate(1);
    folder.write("one-pair.json", data.json(true));
    let mut data = Data::new(2, DIM, 1);
    folder.write("two-documents.json", data.json(true));
    data.documents[1].text = data.documents[0].text.clone();
    folder.write("one-text.json", data.json(true));

    for (file, pairs) in [("one-document.json", 2), ("one-pair.json", 1)] {
        let found = format!("training pairs: {pairs}, with one document between them");
        let parts = [file, &found, "there is nothing to learn"];
        for recipe in ["auto", "single", "reference"] {
            folder.refuses(&format!("train {file} --recipe {recipe} -o a.qad"), INPUT, &parts);
        }
    }
    // Equal texts are masked, so they are no negatives of each other.
    folder.refuses(
        "train one-text.json -o a.qad",
        INPUT,
        &["training pairs: 4, with one document between them"],
    );
    let parts = ["two-documents.json: training pairs left by the split for validation", "give --validation"];
    folder.refuses("train two-documents.json --recipe single -o a.qad", INPUT, &parts);
    folder.stdout("train two-documents.json --recipe single --validation two-documents.json -o a.qad");
}

#[test]
fn queries_that_all_share_documents_need_a_validation_set() {
    let mut data = Data::new(4, DIM, 1);
    for (query, answers) in data.answers.iter_mut().enumerate() {
        *answers = vec![query % 4, (query + 1) % 4];
    }
    let folder = Folder::with_data();
    folder.write("ring.json", data.json(true));
    let parts = ["ring.json: all 8 queries share relevant documents", "give --validation"];
    folder.refuses("train ring.json --recipe single -o a.qad", INPUT, &parts);
    folder.stdout("train ring.json --recipe single --validation test.json -o a.qad");
}

#[test]
fn settings_out_of_range_are_usage_errors_that_name_the_flag() {
    let folder = Folder::with_data();
    for (flag, expected) in [
        ("--epochs=0", "--epochs"),
        ("--epochs=-1", "--epochs"),
        ("--batch-size=0", "expected a number from 2 to 65536"),
        ("--batch-size=1", "a pair alone has no other document to be told apart from"),
        ("--lr=-1", "expected a finite number, 0 or more"),
        ("--lr=NaN", "expected a finite number, 0 or more"),
        ("--lr=inf", "expected a finite number, 0 or more"),
        ("--scale=0", "expected a finite number above 0"),
        ("--clip=0", "expected a number above 0, or inf"),
        ("--beta1=1", "expected a number from 0 to below 1"),
        ("--validation-share=0", "expected a number between 0 and 1"),
        ("--optimizer=lamb", "adamw, adam, sgd"),
        ("--schedule=step", "linear, cosine, constant"),
        ("--recipe=best", "auto, single, reference"),
        ("--simd=mmx", "scalar, sse2, avx2, avx512, neon, simd128"),
        ("--seed=-1", "--seed"),
        ("--unknown", "--unknown"),
    ] {
        let before = folder.entries();
        let assert = folder.run(&format!("train train.json {flag}")).assert().code(USAGE);
        let stderr = text(&assert.get_output().stderr);
        assert!(stderr.contains(expected), "{flag}: {stderr}");
        assert_eq!(folder.entries(), before, "{flag}");
    }
    for words in ["", "train", "evaluate", "apply", "inspect", "fly", "check --embeddings vectors"] {
        folder.run(words).assert().code(USAGE);
    }
}

#[test]
#[cfg(not(any(feature = "models", feature = "endpoint")))]
fn a_build_without_embedding_models_names_the_feature_it_lacks() {
    let folder = Folder::with_data();
    let (model, service) = ("--model minilm", "--model ada --model-url http://127.0.0.1:9");
    for command in ["train train.json -o a.qad", "evaluate train.json", "embed train.json -o vectors"] {
        folder.refuses(&format!("{command} {model}"), USAGE, &["runs no models", "--features models"]);
        folder.refuses(
            &format!("{command} {service}"),
            USAGE,
            &["no embedding services", "--features endpoint"],
        );
    }
    assert!(!folder.exists("a.qad") && !folder.exists("vectors"));
    folder.run("--help").assert().success().stdout(predicates::str::contains("--features models,endpoint"));
}

#[test]
fn a_simd_level_that_this_machine_lacks_is_a_usage_error_that_lists_its_own() {
    let folder = Folder::with_adapter();
    let absent = ["neon", "sse2"].into_iter().find(|name| !levels().contains(name)).expect("one of them");
    let parts = [&format!("this machine has no SIMD level {absent}; it has scalar")[..]];
    for words in ["train train.json", "evaluate train.json", "apply -a a.qad", "check"] {
        folder.refuses(&format!("{words} --simd {absent}"), USAGE, &parts);
    }
}

#[test]
fn texts_that_do_not_fit_into_an_adapter_file_are_usage_errors() {
    let folder = Folder::with_data();
    let name = "m".repeat(257);
    let assert = folder.run_with(&["train", "train.json", "--base-model", &name, "-q"]).assert().code(USAGE);
    let stderr = text(&assert.get_output().stderr);
    assert_eq!(
        stderr,
        "error: --base-model has 257 bytes; at most 256 fit into an adapter file; shorten it\n"
    );
    assert!(!folder.exists("adapter.qad"));
    // Before there is any work.
    let prefix = "p".repeat(1025);
    for flag in ["--query-prefix", "--document-prefix"] {
        let mut run = folder.run_with(&["train", "train.json", flag, &prefix, "--dry-run"]);
        let stderr = text(&run.assert().code(USAGE).get_output().stderr);
        assert_eq!(
            stderr,
            format!("error: {flag} has 1025 bytes; at most 1024 fit into an adapter file; shorten it\n")
        );
    }
}

#[test]
fn an_adapter_of_another_dimension_is_refused_with_both() {
    let folder = Folder::with_adapter();
    folder.write("wide.json", Data::new(6, 2 * DIM, 2).json(true));
    let parts = ["a.qad: the adapter takes vectors of 8 components", "the queries have 16"];
    folder.refuses("evaluate wide.json --adapter a.qad", INPUT, &parts);
}

#[test]
fn an_adapter_file_that_this_machine_would_compute_otherwise_is_refused() {
    let metadata = Metadata::UNKNOWN;
    // One bit beside what the identity gives.
    let golden_output = [0.25, f32::from_bits(0.5_f32.to_bits() + 1)];
    let spec = ImageSpec {
        in_dim: 2,
        out_dim: 2,
        bias: false,
        metadata,
        golden_query: &[0.25, 0.5],
        golden_output: &golden_output,
    };
    let len = linear_len(2, 2, false);
    let identity = Linear::identity(2, 2, false, vec![Lanes::ZERO; len], Level::SCALAR).expect("an adapter");
    let mut bytes = vec![0; spec.encoded_len().expect("valid")];
    let length = spec.encode(identity.weight().as_lanes(), &mut bytes).expect("encoded");
    let folder = Folder::with_data();
    folder.write("a.qad", &bytes[..length]);
    for words in ["inspect a.qad", "evaluate test.json -a a.qad", "apply -a a.qad"] {
        let parts = ["a.qad: at SIMD level ", "the golden query gives another output at element 1"];
        folder.refuses(words, INPUT, &parts);
    }
}

#[test]
fn damaged_adapter_files_are_refused_everywhere() {
    let folder = Folder::with_adapter();
    let good = folder.read("a.qad");
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let mut newer = good.clone();
    newer[8] = 2;
    folder.write("flipped.qad", &flipped);
    folder.write("newer.qad", &newer);
    folder.write("cut.qad", &good[..good.len() - 1]);
    folder.write("empty.qad", "");
    folder.write("longer.qad", [good.as_slice(), b"\0"].concat());
    for (file, part) in [
        ("gone.qad", "there is no such file"),
        ("flipped.qad", "checksum of the payload"),
        ("newer.qad", "version 2 is not known"),
        ("cut.qad", "the file is cut off"),
        ("longer.qad", "something was added"),
        ("empty.qad", "the image needs"),
        ("train.json", "not an adapter file"),
        (".", "this is a folder"),
    ] {
        for words in ["inspect", "evaluate test.json -a", "apply -a"] {
            folder.refuses(&format!("{words} {file}"), INPUT, &[&format!("{file}: "), part]);
        }
    }
}

#[test]
fn one_file_gives_each_side_its_own_vectors() {
    let folder = Folder::with_data();
    let data = Data::small();
    folder.write("plain.json", data.json(false));
    let bytes = |list: &[crate::support::Text]| -> Vec<u8> {
        list.iter().flat_map(|text| &text.vector).flat_map(|value| value.to_le_bytes()).collect()
    };
    let (queries, corpus) = (bytes(&data.queries), bytes(&data.documents));
    let ids = |list: &[crate::support::Text]| format!("{:?}", list.iter().map(|t| &t.id).collect::<Vec<_>>());
    let tensor =
        |rows: usize, bytes| TensorView::new(Dtype::F32, vec![rows, DIM], bytes).expect("consistent");
    let tensors = [("corpus", tensor(20, &corpus)), ("queries", tensor(40, &queries))];
    let metadata = [("query_ids", ids(&data.queries)), ("corpus_ids", ids(&data.documents))];
    let metadata = metadata.map(|(key, ids)| (key.to_owned(), ids)).into();
    folder.write("v.safetensors", serialize(tensors, Some(metadata)).expect("a file"));
    let flags = "--query-embeddings v.safetensors --document-embeddings v.safetensors";
    let expected = folder.json("evaluate train.json");
    assert_eq!(folder.json(&format!("evaluate plain.json {flags}")), expected);
    let only = [("corpus", tensor(20, &corpus))];
    folder.write("v.safetensors", serialize(only, None).expect("a file"));
    let parts = ["v.safetensors: found the tensors \"corpus\"", "call that one \"queries\""];
    folder.refuses(&format!("evaluate plain.json {flags}"), INPUT, &parts);
}

#[test]
fn vectors_of_two_models_or_of_another_prefix_than_is_given_are_refused() {
    let folder = Folder::with_data();
    let data = Data::small();
    folder.write("plain.json", data.json(false));
    for (name, vector) in [("one", "[1, 0, 0, 0, 0, 0, 0, 0]"), ("two", "[0, 1, 0, 0, 0, 0, 0, 0]")] {
        data.write_folder(&folder.path(name));
        let model = format!(
            r#"{{"model": "{name}", "query_prefix": "q: ", "document_prefix": "", "golden_text": "t", "golden_vector": {vector}}}"#
        );
        folder.write(&format!("{name}/model.json"), model);
    }
    let train = "train plain.json --recipe single --epochs 1 -q --force";
    folder
        .run_with(&["train", "plain.json", "--embeddings", "one", "--epochs", "1", "--query-prefix", "q: "])
        .assert()
        .success();
    for words in [train, "evaluate plain.json -q"] {
        let expected = ["one/model.json: --query-prefix is \"p\"", "made with \"q: \"", "embed again"];
        folder.refuses(&format!("{words} --embeddings one --query-prefix p"), INPUT, &expected);
        let both = |side: &str| {
            format!("--query-embeddings one/queries.npy --document-embeddings {side}/corpus.npy")
        };
        folder.run(&format!("{words} {}", both("one"))).assert().success();
        let expected = ["two/corpus.npy: its vectors are of \"two\", the others of \"one\", another space"];
        folder.refuses(&format!("{words} {}", both("two")), INPUT, &expected);
    }
    let model = text(&folder.read("two/model.json")).replace("[0, 1,", "[");
    let expected = ["two/queries.npy: its vectors are of \"two\""];
    folder.refuses("train plain.json --embeddings one --keep two/queries.npy --force", INPUT, &expected);
    folder.write("two/model.json", model);
    let expected = ["two/model.json: the golden vector has 6 components, the vectors beside it 8"];
    folder.refuses("train plain.json --embeddings two --force", INPUT, &expected);
}
