//! Checkpoints: a run that stopped goes on from one, to the same bytes.
//!
//! A file holds what the run is of, its [`Identity`], and where it stood, both as postcard writes them, between a magic
//! number with a version and a SHA-256 of all before. It is no format to keep: only the version of this program that wrote
//! one reads it.

use core::fmt;
use core::time::Duration;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::claims::Claim;
use crate::config::flat;
use crate::failpoints::pause;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::interrupts;
use crate::retrieval_task::{Fingerprint, RetrievalTask};

/// Options of a run that may be interrupted.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Checkpoints")]
pub struct CheckpointOptions {
    /// File that holds the run while it goes on, so that it can be resumed after a crash or Ctrl-C; it stays after the run
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Least time from one save to the next; 0 for one after every step
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds_between, requires = "checkpoint")]
    pub checkpoint_every: f64,
    /// Go on from the checkpoint, to the same bytes as without the interruption; without one yet, begin
    #[arg(long, requires = "checkpoint")]
    pub resume: bool,
}

impl CheckpointOptions {
    /// Claims the checkpoint: an existing one is to be gone on from, or to be overwritten.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`].
    pub fn claim(&self, force: bool) -> Result<Option<Claim>, Failure> {
        let Some(file) = &self.checkpoint else { return Ok(None) };
        if !self.resume && !force && file.is_file() {
            let problem = "exists already; give --resume to go on from it, or --force to overwrite it";
            return Err(Failure::output(file, problem));
        }
        Claim::take(file, true).map(Some)
    }

    /// The checkpoint of the run that `identity` tells, and what it holds if that is to be gone on from.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load`].
    pub fn open<T: DeserializeOwned>(
        &self,
        identity: impl FnOnce() -> Identity,
        note: &mut dyn FnMut(&str),
    ) -> Result<(Option<Checkpoint>, Option<T>), Failure> {
        let Some(file) = &self.checkpoint else { return Ok((None, None)) };
        let checkpoint = Checkpoint::new(file, Duration::from_secs_f64(self.checkpoint_every), identity());
        let state = if self.resume { checkpoint.load()? } else { None };
        if self.resume && state.is_none() {
            note(&format!("--resume: there is no {} yet, the run starts from its beginning", file.display()));
        }
        Ok((Some(checkpoint), state))
    }
}

fn seconds_between(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=86_400.0).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0 to 86400".to_owned()),
    }
}

/// The first bytes of every checkpoint. As in an adapter file, a transfer as text is noticed here.
const MAGIC: [u8; 8] = *b"\x89QACP\r\n\x1a";

/// The version of what follows.
const VERSION: u16 = 1;

const HEADER_LEN: usize = MAGIC.len() + size_of::<u16>();
const DIGEST_LEN: usize = 32;

/// What a run is of: all that decides its result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    tool: String,
    /// Flags with their values.
    settings: Vec<(String, String)>,
    /// Data sets, by what they are for.
    data: Vec<(String, Fingerprint)>,
}

impl Identity {
    /// Of a run by `tool`, which reads `data`, each under what it is for.
    #[must_use]
    pub fn new(tool: &str, data: &[(&str, &RetrievalTask)]) -> Self {
        let data = data.iter().map(|(role, task)| ((*role).to_owned(), task.fingerprint()));
        Self { tool: tool.to_owned(), settings: Vec::new(), data: data.collect() }
    }

    /// The same with an object of settings.
    #[must_use]
    pub fn with_settings(mut self, settings: &Value) -> Self {
        self.settings = flat(settings)
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => (name, text),
                value => (name, value.to_string()),
            })
            .collect();
        self
    }

    /// In what this one, of a run that is to begin, differs from that of a checkpoint.
    fn difference(&self, saved: &Self) -> Option<String> {
        if self.tool != saved.tool {
            return Some(format!("was written by {}, this is {}; use that version", saved.tool, self.tool));
        }
        let value = |settings: &[(String, String)], name: &str| {
            settings.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        };
        let flag = |name: &str, value: Option<String>| {
            value.map_or(format!("no --{name}"), |value| format!("--{name} {value}"))
        };
        for (name, _) in self.settings.iter().chain(&saved.settings) {
            let (now, then) = (value(&self.settings, name), value(&saved.settings, name));
            if now != then {
                let (now, then) = (flag(name, now), flag(name, then));
                return Some(format!("is of a run with {then}, this one has {now}; give the same settings"));
            }
        }
        for (role, _) in self.data.iter().chain(&saved.data) {
            let of =
                |identity: &Self| identity.data.iter().find(|(other, _)| other == role).map(|(_, of)| *of);
            match (of(self), of(saved)) {
                (Some(now), Some(then)) => {
                    if let Some(what) = now.difference(&then) {
                        return Some(format!(
                            "is of a run whose {role} data have other {what}; give the data that it is of"
                        ));
                    }
                }
                (None, _) => {
                    return Some(format!("is of a run with {role} data, this one has none; give the same"));
                }
                (_, None) => {
                    return Some(format!(
                        "is of a run without {role} data, this one has some; give the same"
                    ));
                }
            }
        }
        None
    }
}

/// The checkpoint file of a run.
#[derive(Debug)]
pub struct Checkpoint {
    file: PathBuf,
    every: Duration,
    identity: Identity,
    saved: Instant,
}

impl Checkpoint {
    /// The checkpoint of a run, saved anew when it is older than `every`.
    #[must_use]
    pub fn new(file: &Path, every: Duration, identity: Identity) -> Self {
        Self { file: file.to_owned(), every, identity, saved: Instant::now() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was saved; none where there is no file yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read, is none of these, is damaged, or is of another run.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        let bytes = match fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::unreadable(&self.file, &error)),
        };
        let anew = "leave --resume out and give --force to begin anew";
        let refuse = |problem: &str| Failure::input(&self.file, problem);
        let damaged = || refuse(&format!("the checkpoint is damaged: its checksum does not fit; {anew}"));
        let no_checkpoint = || refuse("this is no checkpoint of a training run; name another file");
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(no_checkpoint)?;
        let (version, _) = rest.split_first_chunk().ok_or_else(damaged)?;
        match u16::from_le_bytes(*version) {
            VERSION => {}
            version => {
                return Err(refuse(&format!(
                    "the checkpoint has format version {version}, expected {VERSION}; use the program that wrote it"
                )));
            }
        }
        let (contents, digest) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or_else(damaged)?;
        if Sha256::digest(contents)[..] != digest[..] {
            return Err(damaged());
        }
        let contents = contents.get(HEADER_LEN..).ok_or_else(damaged)?;
        let (identity, state) = postcard::take_from_bytes::<Identity>(contents).map_err(|_| damaged())?;
        if let Some(difference) = self.identity.difference(&identity) {
            return Err(refuse(&format!("the checkpoint {difference}, or {anew}")));
        }
        let (state, rest) = postcard::take_from_bytes(state).map_err(|_| damaged())?;
        if rest.is_empty() { Ok(Some(state)) } else { Err(damaged()) }
    }

    /// Saves where a run stands if the last time is long ago, or if a signal asks the run to end; then it fails.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); [`Failure::Interrupted`].
    pub fn offer(&mut self, state: &impl Serialize) -> Result<(), Failure> {
        let asked = interrupts::requested();
        if asked.is_some() || self.saved.elapsed() >= self.every {
            self.save(state)?;
        }
        match asked {
            Some(signal) => Err(Failure::Interrupted { signal, then: self.to_string() }),
            None => Ok(()),
        }
    }

    /// Saves where a run stands; the file holds this or, where it fails, what it held before.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`].
    pub fn save(&mut self, state: &impl Serialize) -> Result<(), Failure> {
        write_atomically(&self.file, true, |out| {
            let mut out = BufWriter::new(Hashed { out, hash: Sha256::new(), failed: None });
            out.write_all(&MAGIC)?;
            out.write_all(&VERSION.to_le_bytes())?;
            encode(&self.identity, &mut out)?;
            pause("save");
            encode(state, &mut out)?;
            let Hashed { out, hash, .. } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            out.write_all(&hash.finalize())
        })?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// How to go on, after the reason for which a run stopped.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; {} holds the run: the same command with --resume goes on", self.file.display())
    }
}

/// Writes `value`; the encoder does not say why a writer failed, so the writer itself is asked.
fn encode(value: &impl Serialize, out: &mut BufWriter<Hashed<'_>>) -> io::Result<()> {
    postcard::to_io(value, &mut *out).map(drop).map_err(|error| {
        let failed = out.get_mut().failed.take();
        failed.unwrap_or_else(|| io::Error::other(format!("cannot be encoded: {error}")))
    })
}

/// Hashes what it passes on.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    failed: Option<io::Error>,
}

impl Hashed<'_> {
    fn passed_on<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        let written = self.passed_on(written)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.passed_on(flushed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(folder: &tempfile::TempDir) -> Checkpoint {
        let settings = serde_json::json!({"lr": 0.5, "optimizer": {"kind": "sgd"}, "warmup": null});
        let identity = Identity::new("this 1.0", &[]).with_settings(&settings);
        Checkpoint::new(&folder.path().join("run.ckpt"), Duration::ZERO, identity)
    }

    #[test]
    fn what_was_saved_is_loaded_and_every_damage_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut checkpoint = checkpoint(&folder);
        assert!(checkpoint.load::<Vec<f32>>().expect("nothing there").is_none());
        let state = vec![1.5_f32, -0.0, 3.25];
        checkpoint.save(&state).expect("saved");
        let found: Vec<f32> = checkpoint.load().expect("readable").expect("there");
        assert_eq!(
            found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            state.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );

        let bytes = fs::read(checkpoint.file()).expect("readable");
        let refused = |bytes: &[u8]| {
            fs::write(checkpoint.file(), bytes).expect("written");
            let failure = checkpoint.load::<Vec<f32>>().expect_err("must be refused");
            assert_eq!(failure.exit_code(), 3);
            failure.to_string()
        };
        for len in 0..bytes.len() {
            let problem = refused(&bytes[..len]);
            let expected = if len < MAGIC.len() { "no checkpoint" } else { "is damaged" };
            assert!(problem.contains(expected), "{len} bytes: {problem}");
        }
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let problem = refused(&damaged);
            let expected = match bit / 8 {
                0..8 => "no checkpoint",
                8..10 => "format version",
                _ => {
                    "is damaged: its checksum does not fit; leave --resume out and give --force to begin anew"
                }
            };
            assert!(problem.contains(expected), "bit {bit}: {problem}");
        }
        assert!(refused(&[&bytes[..], b"x"].concat()).contains("is damaged"));
    }

    #[test]
    fn a_checkpoint_of_another_run_is_refused_by_what_differs() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut saved = checkpoint(&folder);
        saved.save(&1_u32).expect("saved");
        let refused = |change: &dyn Fn(&mut Identity)| {
            let mut other = checkpoint(&folder);
            change(&mut other.identity);
            other.load::<u32>().expect_err("must be refused").to_string()
        };
        let setting = |name: &'static str, value: Option<&'static str>| {
            move |identity: &mut Identity| {
                identity.settings.retain(|(other, _)| other != name);
                identity.settings.extend(value.map(|value| (name.to_owned(), value.to_owned())));
            }
        };
        for (problem, expected) in [
            (
                refused(&|identity| identity.tool = "this 1.1".to_owned()),
                "was written by this 1.0, this is this 1.1",
            ),
            (refused(&setting("lr", Some("0.25"))), "is of a run with --lr 0.5, this one has --lr 0.25"),
            (
                refused(&setting("optimizer", None)),
                "is of a run with --optimizer sgd, this one has no --optimizer",
            ),
            (refused(&setting("batch-size", Some("4"))), "with no --batch-size, this one has --batch-size 4"),
        ] {
            assert!(problem.contains(expected), "{problem}");
            assert!(
                problem.contains("run.ckpt: the checkpoint ") && problem.contains("to begin anew"),
                "{problem}"
            );
        }
    }

    #[test]
    fn the_file_is_saved_when_it_is_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut checkpoint = checkpoint(&folder);
        checkpoint.every = Duration::from_secs(3600);
        checkpoint.offer(&1_u32).expect("no need");
        assert!(!checkpoint.file().exists());
        checkpoint.every = Duration::ZERO;
        checkpoint.offer(&2_u32).expect("saved");
        assert_eq!(checkpoint.load::<u32>().expect("readable"), Some(2));
    }
}
