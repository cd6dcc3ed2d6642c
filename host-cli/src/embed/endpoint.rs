//! A model behind an OpenAI-compatible service: `POST …/embeddings`.
//!
//! OpenAI, Ollama, Text Embeddings Inference, llama.cpp and vLLM speak it. What they do differently is in
//! `docs/models.md`; what can go wrong between here and there is in the tests.

mod pace;
mod response;

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::env;
use std::io;
use std::sync::mpsc;
use std::thread;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use ureq::Agent;

use self::pace::{Pace, back_off};
use super::model::{Digest, Embedded, Model, Stop};
use crate::failure::Failure;
use crate::vectors::Matrix;

/// Counts as a part of every digest: to be changed with anything that changes a vector.
const DIGEST_TAG: &str = "query-adapter endpoint 2";

/// Attempts at one batch before giving up.
const ATTEMPTS: u32 = 6;

/// The longest answer that is read, in bytes: a batch of the longest vectors, written out in full.
const MOST_BYTES: u64 = 512 << 20;

/// Characters of a service's own words that an error repeats.
const LONGEST_MESSAGE: usize = 300;

/// How a service is asked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where, see [`address`].
    pub(crate) url: String,
    /// The model's name as the service has it.
    pub(crate) model: String,
    /// The environment variable that holds the key.
    pub(crate) key_variable: String,
    /// Texts in a request.
    pub(crate) batch: usize,
    /// Requests under way at a time.
    pub(crate) requests: usize,
    /// Requests begun in a minute, where the service limits them.
    pub(crate) per_minute: Option<u32>,
    /// How long a request may take.
    pub(crate) timeout: Duration,
}

/// A service.
pub(crate) struct Endpoint {
    settings: Settings,
    address: String,
    agent: Agent,
    authorization: Option<String>,
    digest: Digest,
    /// Vectors are asked for in base64, a quarter of the bytes, until the service refuses it.
    base64: AtomicBool,
}

/// Why a request brought no vectors.
enum Fault {
    /// Another attempt may succeed, after this time if the service named one.
    Passing { problem: String, after: Option<Duration> },
    /// The service will not take this batch; a smaller one, or one in another form, it may.
    Refused { problem: String },
    /// Nothing will help.
    Final { problem: String },
}

impl Endpoint {
    /// Prepares to ask a service; sends nothing yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for an address that is none or a key that cannot be sent.
    pub(crate) fn new(settings: Settings) -> Result<Self, Failure> {
        let address = address(&settings.url)?;
        let key = env::var(&settings.key_variable).ok().filter(|key| !key.trim().is_empty());
        if key.as_ref().is_some_and(|key| key.trim().chars().any(|c| !c.is_ascii_graphic())) {
            return Err(Failure::Usage(format!(
                "the environment variable {} holds characters that no key has; set it anew",
                settings.key_variable
            )));
        }
        let agent = Agent::new_with_config(
            Agent::config_builder()
                .http_status_as_error(false)
                .timeout_connect(Some(settings.timeout.min(Duration::from_secs(20))))
                .timeout_global(Some(settings.timeout))
                .user_agent(concat!("host-cli/", env!("CARGO_PKG_VERSION")))
                .build(),
        );
        let digest = Sha256::digest(format!("{DIGEST_TAG}\0{address}\0{}", settings.model)).into();
        let authorization = key.map(|key| format!("Bearer {}", key.trim()));
        Ok(Self { settings, address, agent, authorization, digest, base64: AtomicBool::new(true) })
    }

    /// Embeds a batch, the first of whose texts is `first` of all: again after a passing fault, in halves where the
    /// service finds it too large. `done` gets the first text and the vectors of each part that succeeds.
    fn embed_batch(
        &self,
        first: usize,
        texts: &[&str],
        pace: &Pace,
        done: &dyn Fn(usize, Matrix),
    ) -> Result<(), Stop> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            pace.wait();
            let base64 = self.base64.load(Ordering::Relaxed);
            match self.request(texts, base64) {
                Ok(vectors) => {
                    done(first, vectors);
                    return Ok(());
                }
                Err(Fault::Passing { after, .. }) if attempt < ATTEMPTS => {
                    pace.pause(after.unwrap_or_else(|| back_off(attempt)));
                }
                Err(Fault::Passing { problem, .. }) => {
                    let problem = format!(
                        "{problem}; gave up after {attempt} attempts, what was embedded before is kept"
                    );
                    return Err(self.failure(&problem).into());
                }
                Err(Fault::Refused { .. }) if base64 => self.base64.store(false, Ordering::Relaxed),
                Err(Fault::Refused { .. }) if texts.len() > 1 => {
                    let (front, back) = texts.split_at(texts.len() / 2);
                    self.embed_batch(first, front, pace, done)?;
                    return self.embed_batch(first + front.len(), back, pace, done);
                }
                Err(Fault::Refused { problem }) => {
                    return Err(Stop::Refused { text: first, failure: self.failure(&problem) });
                }
                Err(Fault::Final { problem }) => return Err(self.failure(&problem).into()),
            }
        }
    }

    fn request(&self, texts: &[&str], base64: bool) -> Result<Matrix, Fault> {
        let format = if base64 { "base64" } else { "float" };
        let body = json!({ "model": self.settings.model, "input": texts, "encoding_format": format });
        let mut request = self.agent.post(&self.address).header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = request.send(body.to_string()).map_err(|error| self.transport_fault(&error))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let after = pace::retry_after(
            header("retry-after-ms").as_deref(),
            header("retry-after").as_deref(),
            header("date").as_deref(),
        );
        let bytes = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec();
        let bytes = bytes.map_err(|error| self.transport_fault(&error))?;
        if status == 200 {
            let vectors = response::vectors(&bytes, texts.len(), LONGEST_MESSAGE);
            return vectors.map_err(|problem| Fault::Final { problem: self.without_key(&problem) });
        }
        let words = self.without_key(&response::message(&bytes, LONGEST_MESSAGE));
        let problem = format!("the service answered {status}: {words}");
        // llama.cpp says so of a text, or a batch, that its buffers do not hold.
        let too_large = status == 500 && words.contains("too large");
        Err(match status {
            _ if too_large => Fault::Refused { problem },
            408 | 409 | 425 | 429 | 500..=599 => Fault::Passing { problem, after },
            400 | 413 | 422 => Fault::Refused { problem },
            401 | 403 => Fault::Final {
                problem: format!(
                    "{problem}; check the key in the environment variable {}",
                    self.settings.key_variable
                ),
            },
            404 => Fault::Final { problem: format!("{problem}; check --model-url and --model") },
            _ => Fault::Final { problem },
        })
    }

    fn transport_fault(&self, error: &ureq::Error) -> Fault {
        let problem = match error {
            ureq::Error::Timeout(_) => {
                format!("no answer within {} s", self.settings.timeout.as_secs_f64())
            }
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let problem = "nothing listens there; start the service, or check --model-url".to_owned();
                return Fault::Final { problem };
            }
            // What TLS refuses comes as invalid data: a certificate, or an answer that is no TLS.
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                let problem = format!(
                    "the connection is not safe ({error}); the service needs a certificate that a public authority \
                     vouches for, or an http:// address in a network of your own"
                );
                return Fault::Final { problem };
            }
            ureq::Error::HostNotFound => {
                return Fault::Final { problem: "there is no such host; check --model-url".to_owned() };
            }
            ureq::Error::BodyExceedsLimit(limit) => {
                return Fault::Final { problem: format!("the answer is longer than {limit} bytes") };
            }
            error => format!("the connection failed: {}", self.without_key(&error.to_string())),
        };
        Fault::Passing { problem, after: None }
    }

    /// Some services repeat the key they were given.
    fn without_key(&self, text: &str) -> String {
        match self.authorization.as_deref().and_then(|header| header.strip_prefix("Bearer ")) {
            Some(key) => text.replace(key, "…"),
            None => text.to_owned(),
        }
    }

    fn failure(&self, problem: &str) -> Failure {
        Failure::input(self.address.as_ref(), problem)
    }
}

impl Model for Endpoint {
    fn name(&self) -> &str {
        &self.settings.model
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn may_change(&self) -> bool {
        true
    }

    fn embed(
        &self,
        texts: &[&str],
        done: &mut dyn FnMut(Embedded<'_>) -> Result<(), Failure>,
    ) -> Result<(), Stop> {
        let pace = Pace::new(self.settings.per_minute);
        let (count, next) = (texts.len().div_ceil(self.settings.batch), AtomicUsize::new(0));
        let (sender, results) = mpsc::channel();
        let mut failed = None;
        thread::scope(|scope| {
            for _ in 0..self.settings.requests.min(count) {
                let (sender, next, pace) = (sender.clone(), &next, &pace);
                scope.spawn(move || {
                    // The other end takes whatever comes until all senders are gone.
                    let send = |result| drop(sender.send(result));
                    loop {
                        let first = next.fetch_add(1, Ordering::Relaxed).saturating_mul(self.settings.batch);
                        let Some(rest) = texts.get(first..).filter(|rest| !rest.is_empty()) else { return };
                        let batch = &rest[..rest.len().min(self.settings.batch)];
                        let done = |first, vectors| send(Ok((first, vectors)));
                        if let Err(stop) = self.embed_batch(first, batch, pace, &done) {
                            next.store(count, Ordering::Relaxed);
                            send(Err(stop));
                        }
                    }
                });
            }
            drop(sender);
            // After a failure no new request is begun; those under way are waited for, and their vectors kept.
            for result in results {
                let outcome = result.and_then(|(first, vectors): (usize, Matrix)| {
                    (0..vectors.rows()).try_for_each(|at| {
                        let vector = vectors.row(at);
                        done(Embedded { text: first + at, vector, cut_off: false }).map_err(Stop::from)
                    })
                });
                if let Err(stop) = outcome {
                    next.store(count, Ordering::Relaxed);
                    failed.get_or_insert(stop);
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

/// The address that requests go to: `…/embeddings` as it stands, `…/v1` or another path with `/embeddings` after it, a
/// bare host with `/v1/embeddings`.
fn address(url: &str) -> Result<String, Failure> {
    let fail = |problem: &str| Failure::Usage(format!("--model-url {url}: {problem}"));
    let Some((scheme @ ("http" | "https"), rest)) = url.split_once("://") else {
        return Err(fail("expected an address that begins with http:// or https://"));
    };
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || host.contains('@') || rest.contains(['?', '#', ' ']) {
        return Err(fail("expected host and path alone; a key goes into the environment, see --api-key-env"));
    }
    Ok(match path {
        "" => format!("{scheme}://{host}/v1/embeddings"),
        path if path.ends_with("embeddings") => format!("{scheme}://{host}/{path}"),
        path => format!("{scheme}://{host}/{path}/embeddings"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (url, expected) in [
            ("http://localhost:11434", "http://localhost:11434/v1/embeddings"),
            ("http://localhost:11434/", "http://localhost:11434/v1/embeddings"),
            ("https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"),
            ("https://x.org/openai/v1/embeddings", "https://x.org/openai/v1/embeddings"),
        ] {
            assert_eq!(address(url).expect(url), expected);
        }
        for url in ["localhost:8080", "ftp://x", "http://", "http://key@host/v1", "http://host/v1?key=x"] {
            assert_eq!(address(url).expect_err(url).exit_code(), 2);
        }
    }
}
