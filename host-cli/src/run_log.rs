//! The log of a training run: JSON Lines, written as the run goes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::files::check_output;
use crate::fit::{Epoch, Event, Fit, Progress, Settings, Shapes};

/// A log file. Each line is an object whose `event` says what it is, and `seconds` how long after the beginning it was
/// written; see docs/data-formats.md.
#[derive(Debug)]
pub struct RunLog {
    file: PathBuf,
    out: BufWriter<File>,
    started: Instant,
    every: u32,
}

#[derive(Serialize)]
struct Line<'a, T> {
    event: &'static str,
    seconds: f64,
    #[serde(flatten)]
    what: &'a T,
}

#[derive(Serialize)]
struct Start<'a> {
    tool: &'static str,
    settings: &'a Settings,
    #[serde(flatten)]
    shapes: &'a Shapes,
}

#[derive(Serialize)]
struct EpochEnd<'a> {
    epoch: u32,
    step: u32,
    #[serde(flatten)]
    of: &'a Epoch,
}

#[derive(Serialize)]
struct Outcome<'a> {
    kept_epoch: u32,
    steps: u32,
    pairs: usize,
    queries_visited: usize,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Failed<'a> {
    problem: &'a str,
}

impl RunLog {
    /// Creates the file, or with `go_on` appends to what an interrupted run has written; the first step of a run and then
    /// each `every`th gets a line.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when the file exists and `force` is not set, unless `go_on` is and it is a log, or cannot be created.
    pub fn create(file: &Path, force: bool, go_on: bool, every: u32) -> Result<Self, Failure> {
        let go_on = go_on && begins_as_log(file);
        check_output(file, force || go_on)?;
        let mut options = OpenOptions::new();
        options.write(true);
        let opened = match (go_on, force) {
            (true, _) => options.create(true).truncate(false).read(true),
            (false, true) => options.create(true).truncate(true),
            (false, false) => options.create_new(true),
        };
        let opened = opened.open(file).and_then(|file| if go_on { after_last_line(file) } else { Ok(file) });
        let opened = opened.map_err(|error| Failure::unwritable(file, &error))?;
        Ok(Self { file: file.to_owned(), out: BufWriter::new(opened), started: Instant::now(), every })
    }

    /// Writes what a fit tells.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when the line cannot be written.
    pub fn observe(&mut self, event: Event<'_>, settings: &Settings) -> Result<(), Failure> {
        match event {
            Event::Start(shapes) => {
                self.write("start", &Start { tool: crate::train::TOOL, settings, shapes })
            }
            Event::Step(step) if step.step == 1 || step.step.is_multiple_of(self.every) => {
                self.write::<Progress>("step", &step)
            }
            Event::Step(_) | Event::Between(_) => Ok(()),
            Event::Epoch(Progress { epoch, step, .. }, of) => {
                self.write("epoch", &EpochEnd { epoch, step, of })
            }
        }
    }

    /// Writes how the run ended.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when the line cannot be written.
    pub fn finish(&mut self, result: Result<&Fit, &Failure>) -> Result<(), Failure> {
        match result {
            Ok(Fit { kept_epoch, steps, pairs, queries_visited, notes, .. }) => self.write(
                "result",
                &Outcome {
                    kept_epoch: *kept_epoch,
                    steps: *steps,
                    pairs: *pairs,
                    queries_visited: *queries_visited,
                    notes,
                },
            ),
            Err(failure) => self.write("failed", &Failed { problem: &failure.to_string() }),
        }
    }

    /// Writes a line of the recipe `auto`, which is under way.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when the line cannot be written.
    pub fn auto(&mut self, event: &'static str, what: &Value) -> Result<(), Failure> {
        self.write(event, what)
    }

    /// Writes what the recipe `auto` tried, chose and found.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when the line cannot be written.
    pub fn finish_auto(&mut self, result: &Value) -> Result<(), Failure> {
        self.write("result", result)
    }

    /// Writes a line through to the file.
    fn write<T: Serialize>(&mut self, event: &'static str, what: &T) -> Result<(), Failure> {
        let line = Line { event, seconds: self.started.elapsed().as_secs_f64(), what };
        serde_json::to_writer(&mut self.out, &line)
            .map_err(Into::into)
            .and_then(|()| self.out.write_all(b"\n"))
            .and_then(|()| self.out.flush())
            .map_err(|error| Failure::unwritable(&self.file, &error))
    }
}

/// How every line of a log begins.
const BEGINNING: &[u8] = br#"{"event":""#;

/// Whether a file holds a log or the beginning of one, however short.
fn begins_as_log(file: &Path) -> bool {
    let mut begun = Vec::new();
    let read = File::open(file).and_then(|file| file.take(BEGINNING.len() as u64).read_to_end(&mut begun));
    read.is_ok() && BEGINNING.starts_with(&begun)
}

/// Cuts off what is no whole line: the run that wrote it was ended there.
fn after_last_line(file: File) -> io::Result<File> {
    let (mut reader, mut line, mut end) = (BufReader::new(file), Vec::new(), 0);
    loop {
        line.clear();
        let len = reader.read_until(b'\n', &mut line)?;
        if len == 0 || !line.ends_with(b"\n") {
            break;
        }
        end += len as u64;
    }
    let mut file = reader.into_inner();
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    Ok(file)
}
