//! A server that plays an OpenAI-compatible embedding service, and its faults.

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// Components of its vectors.
pub(crate) const DIM: usize = 8;

/// What a request asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Its number, from 0.
    pub(crate) number: usize,
    pub(crate) head: String,
    pub(crate) texts: Vec<String>,
    pub(crate) base64: bool,
}

/// What the server does about a request.
pub(crate) enum Reply {
    /// A status and a body.
    Answer(u16, String),
    /// A status with a header line more.
    WithHeader(u16, &'static str, String),
    /// The body, but said to be longer than it is.
    Short(String),
    /// Nothing, for a while.
    Stall(Duration),
}

/// A server on a port of its own, until the test ends.
pub(crate) struct Service {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Service {
    /// Answers requests as `reply` says, each connection on a thread of its own.
    pub(crate) fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (list, reply) = (Arc::clone(&requests), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, reply) = (Arc::clone(&list), Arc::clone(&reply));
                thread::spawn(move || serve(stream, &list, &*reply));
            }
        });
        Self { url, requests }
    }

    /// One without faults.
    pub(crate) fn good() -> Self {
        Self::start(|request| Reply::Answer(200, answer(request)))
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// The texts that were asked for, the golden one left out.
    pub(crate) fn texts(&self) -> Vec<String> {
        let golden = |text: &String| text.ends_with(host_cli::embed::GOLDEN_TEXT);
        self.requests().into_iter().flat_map(|request| request.texts).filter(|text| !golden(text)).collect()
    }
}

fn serve(stream: TcpStream, list: &Mutex<Vec<Request>>, reply: &dyn Fn(&Request) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut stream = stream;
    while let Some(mut request) = read(&mut reader) {
        {
            let mut list = list.lock().expect("no panic");
            request.number = list.len();
            list.push(request.clone());
        }
        let (status, header, body, length) = match reply(&request) {
            Reply::Answer(status, body) => (status, "x-a: b", body.clone(), body.len()),
            Reply::WithHeader(status, header, body) => (status, header, body.clone(), body.len()),
            Reply::Short(body) => (200, "x-a: b", body.clone(), body.len() + 100),
            Reply::Stall(time) => {
                thread::sleep(time);
                return;
            }
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{header}\r\ncontent-length: {length}\r\n\r\n"
        );
        // The client may be gone.
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err()
            || length != body.len()
        {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head += &line.to_ascii_lowercase();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let texts =
        body["input"].as_array()?.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect();
    Some(Request { number: 0, head, texts, base64: body["encoding_format"] == "base64" })
}

/// A text's vector: its letters, counted in eight classes, so that equal words bring texts together.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.125; DIM];
    for (at, byte) in text.bytes().enumerate() {
        vector[(usize::from(byte) * 7 + at % 3) % DIM] += 1.0;
    }
    vector
}

/// The documented answer.
pub(crate) fn answer(request: &Request) -> String {
    answer_of(request, |at, text| json!({ "object": "embedding", "index": at, "embedding": vector(text) }))
}

/// An answer with items of one's own.
pub(crate) fn answer_of(request: &Request, item: impl Fn(usize, &str) -> Value) -> String {
    let data: Vec<Value> = request.texts.iter().enumerate().map(|(at, text)| item(at, text)).collect();
    json!({ "object": "list", "model": "m", "data": data, "usage": { "prompt_tokens": 1, "total_tokens": 1 } }).to_string()
}
