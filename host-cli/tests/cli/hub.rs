//! Models by name: found in the cache of the Hugging Face libraries, or downloaded from a server that plays their hub.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use assert_cmd::Command;
use host_cli::vectors::Matrix;
use serde_json::json;

use crate::support::{Data, Folder, text};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A repository's files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What a hub does to those who ask.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// Sends half of the weights and hangs up.
    Interrupting,
    /// This status to everything.
    Refusing(u16),
}

/// A server on a port of its own, until the test ends.
struct Hub {
    address: String,
    /// The lines of each request, in lower case.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start(files: Files, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (list, files, own) = (Arc::clone(&requests), Arc::new(files), address.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, files, own) = (Arc::clone(&list), Arc::clone(&files), own.clone());
                thread::spawn(move || serve(stream, &own, &files, manner, &list));
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// Answers the requests of a connection: the list of files, and files as the hub has them, weights on another address.
fn serve(stream: TcpStream, own: &str, files: &Files, manner: Manner, list: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut stream = stream;
    while let Some(head) = read(&mut reader) {
        list.lock().expect("no panic").push(head.clone());
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        let (status, headers, body) = match manner {
            Manner::Refusing(status) => (status, String::new(), b"{\"error\":\"no\"}".to_vec()),
            _ => answer(own, files, &path, &head),
        };
        let length = body.len();
        let sent = match manner {
            Manner::Interrupting if path.starts_with("/cdn/") && length > 1 => &body[..length / 2],
            _ => &body[..],
        };
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
        // The client may be gone.
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).is_err()
            || sent.len() != length
        {
            return;
        }
    }
}

fn answer(own: &str, files: &Files, path: &str, head: &str) -> (u16, String, Vec<u8>) {
    if path.starts_with("/api/models/org/tiny/revision/main") {
        let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
        return (200, String::new(), json!({ "siblings": siblings, "sha": COMMIT }).to_string().into_bytes());
    }
    let name = path.strip_prefix("/org/tiny/resolve/main/").or_else(|| path.strip_prefix("/cdn/"));
    let Some((name, bytes)) = name.and_then(|name| files.get_key_value(name)) else {
        return (404, String::new(), b"Entry not found".to_vec());
    };
    let tag = name.replace('/', "-");
    let identity = format!("x-repo-commit: {COMMIT}\r\netag: \"{tag}\"\r\n");
    if name == "model.safetensors" && !path.starts_with("/cdn/") {
        return (302, format!("{identity}location: {own}/cdn/{name}\r\n"), Vec::new());
    }
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap_or("0-");
    let (first, last) = range.split_once('-').expect("a range");
    let first: usize = first.parse().expect("a number");
    let end = last.parse().map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
    let headers = format!("{identity}content-range: bytes {first}-{}/{}\r\n", end - 1, bytes.len());
    (206, headers, bytes[first..end].to_vec())
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && head != "\r\n" {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    // Names and paths of the tests are in lower case.
    Some(head.to_ascii_lowercase().replace("\r\n", "\n").replace("/1_pooling/", "/1_Pooling/"))
}

/// The files of the tiny model of a family.
fn files(family: &str) -> Files {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embeddings").join(family);
    let names = [
        "config.json",
        "tokenizer.json",
        "modules.json",
        "sentence_bert_config.json",
        "model.safetensors",
        "1_Pooling/config.json",
    ];
    names
        .iter()
        .map(|&name| (name.to_owned(), std::fs::read(folder.join(name)).expect("the fixture")))
        .collect()
}

/// Embeds by the name of a model, which `hub` has.
fn embed(folder: &Folder, address: &str, output: &str) -> Command {
    let mut command = folder.run(&format!("embed data.json --no-cache --force -o {output} --model org/tiny"));
    command.env("HF_HUB_CACHE", folder.path("hub")).env("HF_HOME", folder.path("home"));
    command.env("HF_ENDPOINT", address).env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
    command
}

fn with_data() -> Folder {
    let folder = Folder::new();
    folder.write("data.json", Data::small().json(false));
    folder
}

/// The vectors are those of the model's folder.
fn assert_vectors(folder: &Folder, output: &str) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embeddings/bert");
    let model = model.display().to_string();
    folder
        .run_with(&["embed", "data.json", "--no-cache", "--force", "-o", "local", "--model", &model])
        .assert()
        .success();
    let load = |name: &str| Matrix::load(&folder.path(&format!("{name}/queries.npy"))).expect("written");
    assert_eq!(load(output).as_slice(), load("local").as_slice());
}

#[test]
fn a_model_is_downloaded_once_and_found_in_the_cache_afterwards() {
    let (folder, hub) = (with_data(), Hub::start(files("bert"), Manner::Good));
    embed(&folder, &hub.address, "v").env("HF_TOKEN", "hf-secret").assert().success();
    assert_vectors(&folder, "v");
    let requests = hub.requests();
    assert!(requests.iter().all(|head| head.contains("authorization: bearer hf-secret")), "{requests:?}");
    assert_eq!(
        requests.iter().filter(|head| head.starts_with("get /cdn/")).count(),
        2,
        "its size, then itself"
    );

    embed(&folder, "http://127.0.0.1:9", "w").assert().success();
    assert_vectors(&folder, "w");
    assert_eq!(hub.requests().len(), requests.len());
}

#[test]
fn an_interrupted_download_is_refused_and_goes_on_where_it_stopped() {
    let (folder, hub) = (with_data(), Hub::start(files("bert"), Manner::Interrupting));
    let assert = embed(&folder, &hub.address, "v").assert().code(3);
    let stderr = text(&assert.get_output().stderr);
    assert!(stderr.contains("the model org/tiny is neither a folder nor in the cache"), "{stderr}");
    assert!(!folder.exists("v"));
    let snapshot = format!("hub/models--org--tiny/snapshots/{COMMIT}");
    // Weights come last, so that a model with weights is whole.
    assert!(
        files("bert")
            .keys()
            .all(|name| { folder.exists(&format!("{snapshot}/{name}")) == (name != "model.safetensors") })
    );
    assert!(!folder.exists(&format!("{snapshot}/model.safetensors")));

    // Offline, the part that is there does not pass for a model.
    let assert = embed(&folder, "http://127.0.0.1:9", "v").env("HF_HUB_OFFLINE", "1").assert().code(3);
    assert!(text(&assert.get_output().stderr).contains("is not in the cache"));

    let hub = Hub::start(files("bert"), Manner::Good);
    embed(&folder, &hub.address, "v").assert().success();
    assert_vectors(&folder, "v");
    let asked: Vec<_> = hub.requests().into_iter().filter(|head| head.starts_with("get /cdn/")).collect();
    let [_, rest] = &asked[..] else { panic!("{asked:?}") };
    assert!(rest.contains("range: bytes=") && !rest.contains("range: bytes=0-"), "{rest}");
}

#[test]
fn a_model_that_the_hub_does_not_give_is_refused_with_what_to_do() {
    for (status, expected) in [
        (401, "give the hub's token in HF_TOKEN"),
        (403, "give the hub's token in HF_TOKEN"),
        (404, "answered 404: it has no model of this name; check it"),
        (503, "http status: 503"),
    ] {
        let (folder, hub) = (with_data(), Hub::start(Files::new(), Manner::Refusing(status)));
        let assert = embed(&folder, &hub.address, "v").env("HF_TOKEN", "hf-secret").assert().code(3);
        let stderr = text(&assert.get_output().stderr);
        assert!(stderr.contains("the model org/tiny") && stderr.contains(expected), "{status}: {stderr}");
        assert!(!stderr.contains("hf-secret") && stderr.lines().count() == 1, "{stderr}");
        assert!(!folder.exists("v"));
    }
}

#[test]
fn a_repository_that_is_not_of_an_embedding_model_is_refused_before_its_weights_are_fetched() {
    let mut all = files("bert");
    all.remove("tokenizer.json");
    let (folder, hub) = (with_data(), Hub::start(all, Manner::Good));
    let assert = embed(&folder, &hub.address, "v").assert().code(3);
    let stderr = text(&assert.get_output().stderr);
    assert!(stderr.contains("tokenizer.json"), "{stderr}");
    assert!(hub.requests().iter().all(|head| !head.starts_with("get /cdn/")));
}

#[test]
fn a_server_that_does_not_speak_tls_is_refused_where_tls_is_asked_for() {
    let (folder, hub) = (with_data(), Hub::start(files("bert"), Manner::Good));
    let assert = embed(&folder, &hub.address.replace("http://", "https://"), "v").assert().code(3);
    assert!(text(&assert.get_output().stderr).contains("cannot be downloaded"));
}
