//! `host-cli apply`: query vectors through an adapter, `.npy` or JSON Lines in and out.
//!
//! Vectors come in rounds of a batch for each thread. A round's batches are parsed, transformed and formatted side by
//! side, and written in their order, so the number of threads shows in nothing but the time.

use core::num::NonZeroUsize;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use npyz::WriterBuilder as _;
use query_adapter::Level;

use crate::adapter_file::AdapterFile;
use crate::embed::Origin;
use crate::failure::Failure;
use crate::files::{check_output, write_atomically};
use crate::fit::Adapter;
use crate::json_lines::{self, Lines, Row};
use crate::options::ApplyOptions;
use crate::parallel::{available_threads, in_pieces};
use crate::vectors::Matrix;

/// Vectors that go through the adapter at a time; a batch gives each the bits it would get alone.
const BATCH: usize = 256;

/// Bytes of lines after which a round is full even if its batches are not: lines may be long.
const MOST_BYTES: usize = 32 << 20;

/// Runs the command, which writes its own output: rows go out as they come in.
///
/// A reader of stdout that goes away early is no failure.
///
/// # Errors
///
/// [`Failure::Input`] for an adapter or vectors that cannot be used, [`Failure::Output`] for an output that cannot be
/// written, [`Failure::Numerical`] for a result that is not finite. An output file is not written then; stdout may have
/// got rows before the fault, whole ones.
pub fn run(options: &ApplyOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let output = options.output.as_path();
    if !is_standard(output) {
        check_output(output, options.force)?;
    }
    let file = AdapterFile::open(&options.adapter, level)?;
    let adapter = file.adapter(level)?;
    let input = Input::open(&options.input, &file)?;
    let origin = match options.input.parent() {
        Some(folder) if !is_standard(&options.input) => Origin::beside(folder)?,
        _ => None,
    };
    Origin::require(origin.as_ref(), &file, &input.file.display().to_string(), note)?;
    let mut flow = Flow { input, adapter, threads: options.threads.unwrap_or_else(available_threads) };
    if is_standard(output) {
        return match flow.write_lines(&mut BufWriter::new(io::stdout().lock())) {
            Err(Stop::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Stop::Write(error)) => Err(Failure::unwritable(Path::new("stdout"), &error)),
            Err(Stop::Failed(failure)) => Err(failure),
            Ok(()) => Ok(()),
        };
    }
    let mut failed = None;
    let written = write_atomically(output, options.force, |out| {
        let flowed = if is_npy(output) { flow.write_npy(out) } else { flow.write_lines(out) };
        flowed.map_err(|stop| match stop {
            Stop::Write(error) => error,
            Stop::Failed(failure) => {
                failed = Some(failure);
                io::Error::other("given up")
            }
        })
    });
    failed.map_or(written, Err)
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// Why rows stopped flowing.
enum Stop {
    /// The input or a result was refused.
    Failed(Failure),
    /// The output did not take them.
    Write(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Vectors on their way from the input through the adapter.
struct Flow {
    input: Input,
    adapter: Adapter,
    threads: NonZeroUsize,
}

impl Flow {
    /// One line for each vector, passed on round by round.
    fn write_lines(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let mut round = Round::default();
        while self.input.next_round(&mut round, self.threads)? {
            let texts = self.for_batches(&round, |rows, outputs| {
                let mut text = Vec::new();
                for (index, components) in outputs.chunks_exact(self.adapter.out_dim()).enumerate() {
                    // Writing to memory does not fail.
                    let _ = json_lines::write_row(&mut text, rows.get(index), components);
                }
                text
            })?;
            texts.iter().try_for_each(|text| out.write_all(text))?;
            out.flush()?;
        }
        Ok(())
    }

    /// A matrix; its header says how many rows there are, so lines are all transformed before the first is written.
    fn write_npy(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let dim = self.adapter.out_dim();
        let mut round = Round::default();
        if let Source::Matrix(matrix, _) = &self.input.source {
            let mut out = begin_npy(out, matrix.rows(), dim)?;
            while self.input.next_round(&mut round, self.threads)? {
                for outputs in self.for_batches(&round, |_, outputs| outputs.to_vec())? {
                    out.extend(outputs)?;
                }
            }
            return Ok(out.finish()?);
        }
        let mut all = Vec::new();
        while self.input.next_round(&mut round, self.threads)? {
            for outputs in self.for_batches(&round, |_, outputs| outputs.to_vec())? {
                all.extend_from_slice(&outputs);
            }
        }
        let mut out = begin_npy(out, all.len() / dim, dim)?;
        out.extend(all)?;
        Ok(out.finish()?)
    }

    /// Transforms the batches of a round on all threads; returns what `finish` makes of the outputs of each, in order.
    fn for_batches<R: Send>(
        &self,
        round: &Round,
        finish: impl Fn(&[Row], &[f32]) -> R + Sync,
    ) -> Result<Vec<R>, Failure> {
        let Input { file, dim, source, .. } = &self.input;
        let (dim, adapter) = (*dim, &self.adapter);
        let matrix = match source {
            Source::Matrix(matrix, _) => Some(matrix),
            Source::Lines(_) => None,
        };
        // A round that is not full is shared out all the same.
        let rows = round.rows().div_ceil(self.threads.get()).clamp(1, BATCH);
        in_pieces(self.threads, round.rows().div_ceil(rows), Batch::default, |batch, piece| {
            let range = piece * rows..round.rows().min((piece + 1) * rows);
            let first = round.first + range.start;
            let queries = match matrix {
                Some(matrix) => &matrix.as_slice()[first * dim..][..range.len() * dim],
                None => {
                    batch.parse(file, &round.lines, range, dim)?;
                    &batch.queries
                }
            };
            batch.outputs.resize(queries.len() / dim * adapter.out_dim(), 0.0);
            adapter.apply_batch(queries, &mut batch.outputs)?;
            if let Some(at) = batch.outputs.iter().position(|x| !x.is_finite()) {
                let (row, component) = (at / adapter.out_dim(), at % adapter.out_dim());
                let place = match batch.rows.get(row) {
                    Some(row) => format!("line {}", row.number),
                    None => format!("row {}", first + row),
                };
                return Err(Failure::Numerical(format!(
                    "{}: {place}: component {component} of the adapter's output is not finite; the vector is too long, \
                     scale it down",
                    file.display()
                )));
            }
            Ok(finish(&batch.rows, &batch.outputs))
        })
    }
}

pub(crate) fn begin_npy<W: Write>(out: W, rows: usize, dim: usize) -> io::Result<npyz::NpyWriter<f32, W>> {
    let shape = [rows as u64, dim as u64];
    npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(out).begin_nd()
}

/// Where vectors come from; all have the dimension that the adapter takes.
struct Input {
    file: PathBuf,
    dim: usize,
    source: Source,
    /// Why no line after those already taken can be read.
    failure: Option<Failure>,
}

enum Source {
    /// The matrix, and the number of its rows that were read.
    Matrix(Matrix, usize),
    Lines(json_lines::Reader<Box<dyn Read>>),
}

impl Input {
    fn open(path: &Path, adapter: &AdapterFile) -> Result<Self, Failure> {
        let dim = adapter.image()?.in_dim();
        if is_npy(path) {
            let matrix = Matrix::load(path)?;
            adapter.require_in_dim(matrix.dim(), &format!("those of {}", path.display()))?;
            if let Some((row, component)) = matrix.first_non_finite() {
                let value = matrix.row(row)[component];
                let problem = format!(
                    "row {row} component {component}: found {value} as a 32-bit float, expected a finite number; \
                     embed this text again"
                );
                return Err(Failure::input(path, problem));
            }
            return Ok(Self { file: path.to_owned(), dim, source: Source::Matrix(matrix, 0), failure: None });
        }
        let (file, input): (PathBuf, Box<dyn Read>) = if is_standard(path) {
            ("stdin".into(), Box::new(io::stdin().lock()))
        } else {
            let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
            (path.to_owned(), Box::new(file))
        };
        let reader = json_lines::Reader::new(file.clone(), input);
        Ok(Self { file, dim, source: Source::Lines(reader), failure: None })
    }

    /// Takes the next vectors: at most a batch for each thread, and no more than there are without waiting. False when
    /// there are none left.
    fn next_round(&mut self, round: &mut Round, threads: NonZeroUsize) -> Result<bool, Failure> {
        let most = BATCH * threads.get();
        round.lines.clear();
        match &mut self.source {
            Source::Matrix(matrix, done) => {
                round.first = *done;
                *done = matrix.rows().min(*done + most);
                round.matrix_rows = *done - round.first;
            }
            Source::Lines(reader) => {
                if let Some(failure) = self.failure.take() {
                    return Err(failure);
                }
                while round.lines.len() < most && round.lines.bytes() < MOST_BYTES {
                    match reader.read_line(&mut round.lines) {
                        Ok(true) if !reader.must_wait() => {}
                        Ok(_) => break,
                        // What was read before it goes first, and so does a fault in there.
                        Err(failure) => {
                            self.failure = Some(failure);
                            break;
                        }
                    }
                }
                if round.lines.is_empty() {
                    self.failure.take().map_or(Ok(()), Err)?;
                }
            }
        }
        Ok(round.rows() > 0)
    }
}

/// Vectors that were taken from the input and wait for the adapter.
#[derive(Default)]
struct Round {
    /// Lines, when they came as such.
    lines: Lines,
    /// The first matrix row, from 0, and how many, when they came from a matrix.
    first: usize,
    matrix_rows: usize,
}

impl Round {
    fn rows(&self) -> usize {
        self.matrix_rows + self.lines.len()
    }
}

/// The buffers of one thread.
#[derive(Default)]
struct Batch {
    /// The lines that the queries came from; empty when they came from a matrix.
    rows: Vec<Row>,
    queries: Vec<f32>,
    outputs: Vec<f32>,
    line: Vec<f32>,
}

impl Batch {
    /// Parses some lines, each a vector of `dim` components.
    fn parse(
        &mut self,
        file: &Path,
        lines: &Lines,
        range: core::ops::Range<usize>,
        dim: usize,
    ) -> Result<(), Failure> {
        self.rows.clear();
        self.queries.clear();
        for line in range {
            let row = lines.parse(file, line, &mut self.line)?;
            if self.line.len() != dim {
                let problem = format!(
                    "line {}: the vector has {} components, expected {dim} as the adapter takes; use vectors of the \
                     model it was trained for",
                    row.number,
                    self.line.len()
                );
                return Err(Failure::input(file, problem));
            }
            self.queries.extend_from_slice(&self.line);
            self.rows.push(row);
        }
        Ok(())
    }
}
