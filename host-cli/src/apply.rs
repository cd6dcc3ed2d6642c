//! `host-cli apply`: query vectors through an adapter, `.npy` or JSON Lines in and out.
//!
//! Vectors come in batches, which are parsed, transformed and formatted side by side and written in their order, so the
//! number of threads shows in nothing but the time.

use core::num::NonZeroUsize;
use core::ops::Range;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use query_adapter::{Level, Transform as _};

use crate::adapter_file::{AdapterFile, StoredAdapter};
use crate::claims::Claim;
use crate::distinct::{ReadPath, require_distinct};
use crate::embed::Origin;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::json_lines::{self, Lines, Row};
use crate::options::ApplyOptions;
use crate::parallel::{Stream, available_threads, in_turns};
use crate::vectors::{Matrix, NpyRows};

/// Vectors that go through the adapter at a time; a batch gives each the bits it would get alone.
const BATCH: usize = 256;

/// Bytes of lines after which a batch is full even if it is short: lines may be long.
const MOST_BYTES: usize = 8 << 20;

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
    let folder = options.input.parent().filter(|_| !is_standard(&options.input));
    if !is_standard(output) {
        // Queries may be transformed in place.
        let beside = folder.map(Origin::file_in);
        let inputs = [Some(options.adapter.as_path()), beside.as_deref()];
        require_distinct(&[("--output", Some(output))], inputs.map(|file| file.map(ReadPath::File)))?;
    }
    let _claim = if is_standard(output) { None } else { Some(Claim::take(output, options.force)?) };
    let file = AdapterFile::open(&options.adapter, level)?;
    let adapter = file.adapter(level)?;
    let input = Input::open(&options.input, &file)?;
    let origin = folder.map(Origin::beside).transpose()?.flatten();
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
    adapter: StoredAdapter,
    threads: NonZeroUsize,
}

impl Flow {
    /// One line for each vector, passed on batch by batch.
    fn write_lines(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let out_dim = self.adapter.out_dim();
        self.run(
            |batch| {
                batch.text.clear();
                for (index, components) in batch.outputs.chunks_exact(out_dim).enumerate() {
                    // Writing to memory does not fail.
                    let _ = json_lines::write_row(&mut batch.text, batch.rows.get(index), components);
                }
            },
            &mut |batch| {
                out.write_all(&batch.text)?;
                out.flush()
            },
        )
    }

    /// A matrix; its header says how many rows there are, so lines are all transformed before the first is written.
    fn write_npy(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let dim = self.adapter.out_dim();
        if let Some(matrix) = &self.input.matrix {
            let mut out = NpyRows::begin(out, matrix.rows(), dim)?;
            self.run(|_| {}, &mut |batch| out.write(&batch.outputs))?;
            return Ok(out.finish()?);
        }
        let mut all = Vec::new();
        self.run(|_| {}, &mut |batch| {
            all.extend_from_slice(&batch.outputs);
            Ok(())
        })?;
        let mut out = NpyRows::begin(out, all.len() / dim, dim)?;
        out.write(&all)?;
        Ok(out.finish()?)
    }

    /// Transforms all vectors, batches side by side; `write` gets them in their order, after `finish` has been with
    /// each.
    fn run(
        &mut self,
        finish: impl Fn(&mut Batch) + Sync,
        write: &mut dyn FnMut(&Batch) -> io::Result<()>,
    ) -> Result<(), Stop> {
        let Input { file, dim, matrix, feed } = &mut self.input;
        let (file, dim, adapter) = (file.as_path(), *dim, &self.adapter);
        let matrix = matrix.as_ref().map(Matrix::as_slice);
        in_turns(self.threads, &mut Batches { feed, write }, |batch| {
            match batch.transform(adapter, file, matrix, dim) {
                Ok(()) => finish(batch),
                Err(failure) => batch.failure = Some(failure),
            }
        })
    }
}

/// Batches from the input to the output.
struct Batches<'a> {
    feed: &'a mut Feed,
    write: &'a mut dyn FnMut(&Batch) -> io::Result<()>,
}

impl Stream for Batches<'_> {
    type Piece = Batch;
    type Stop = Stop;

    fn may_wait(&self) -> bool {
        self.feed.may_wait()
    }

    fn take(&mut self, batch: &mut Batch) -> Result<bool, Stop> {
        Ok(self.feed.take(batch)?)
    }

    fn put(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        match batch.failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok((self.write)(batch)?),
        }
    }
}

/// Where vectors come from; all have the dimension that the adapter takes.
struct Input {
    file: PathBuf,
    dim: usize,
    /// The vectors, unless they are lines.
    matrix: Option<Matrix>,
    feed: Feed,
}

/// What is still to be taken.
enum Feed {
    /// The next row of the matrix and the end of its rows.
    Rows(Range<usize>),
    Lines {
        reader: json_lines::Reader<Box<dyn Read>>,
        /// Why no line after those already taken can be read.
        failure: Option<Failure>,
    },
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
            let feed = Feed::Rows(0..matrix.rows());
            return Ok(Self { file: path.to_owned(), dim, matrix: Some(matrix), feed });
        }
        let (file, input): (PathBuf, Box<dyn Read>) = if is_standard(path) {
            ("stdin".into(), Box::new(io::stdin().lock()))
        } else {
            let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
            (path.to_owned(), Box::new(file))
        };
        let reader = json_lines::Reader::new(file.clone(), input);
        Ok(Self { file, dim, matrix: None, feed: Feed::Lines { reader, failure: None } })
    }
}

impl Feed {
    /// Whether the next vector may not be there yet: whoever waits for the answer to one before should get it first.
    fn may_wait(&self) -> bool {
        match self {
            Self::Rows(_) => false,
            Self::Lines { reader, .. } => reader.must_wait(),
        }
    }

    /// Takes the next vectors: at most a batch, and no more than there are without waiting. False when there are none
    /// left.
    fn take(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        batch.lines.clear();
        match self {
            Self::Rows(rows) => {
                let end = rows.end.min(rows.start + BATCH);
                batch.matrix_rows = rows.start..end;
                rows.start = end;
                Ok(!batch.matrix_rows.is_empty())
            }
            Self::Lines { reader, failure } => {
                if let Some(failure) = failure.take() {
                    return Err(failure);
                }
                while batch.lines.len() < BATCH && batch.lines.bytes() < MOST_BYTES {
                    match reader.read_line(&mut batch.lines) {
                        Ok(true) if !reader.must_wait() => {}
                        Ok(_) => break,
                        Err(error) if batch.lines.is_empty() => return Err(error),
                        // What was read before it goes first, and so does a fault in there.
                        Err(error) => {
                            *failure = Some(error);
                            break;
                        }
                    }
                }
                Ok(!batch.lines.is_empty())
            }
        }
    }
}

/// Vectors that go through the adapter together, and the buffers for that.
#[derive(Default)]
struct Batch {
    /// The rows of the matrix, when they come from one.
    matrix_rows: Range<usize>,
    /// Lines, when they come as such, and what each has beside its vector.
    lines: Lines,
    rows: Vec<Row>,
    line: Vec<f32>,
    queries: Vec<f32>,
    outputs: Vec<f32>,
    /// The lines to be written.
    text: Vec<u8>,
    /// What was wrong with one of them.
    failure: Option<Failure>,
}

impl Batch {
    /// Puts the vectors, each of `dim` components, through the adapter; those of a matrix are rows of `matrix`.
    fn transform(
        &mut self,
        adapter: &StoredAdapter,
        file: &Path,
        matrix: Option<&[f32]>,
        dim: usize,
    ) -> Result<(), Failure> {
        let queries = match matrix {
            Some(matrix) => &matrix[self.matrix_rows.start * dim..self.matrix_rows.end * dim],
            None => {
                self.parse(file, dim)?;
                &self.queries
            }
        };
        self.outputs.resize(queries.len() / dim * adapter.out_dim(), 0.0);
        adapter.apply_batch(queries, &mut self.outputs)?;
        if let Some(at) = self.outputs.iter().position(|x| !x.is_finite()) {
            let (row, component) = (at / adapter.out_dim(), at % adapter.out_dim());
            let place = match self.rows.get(row) {
                Some(row) => format!("line {}", row.number),
                None => format!("row {}", self.matrix_rows.start + row),
            };
            return Err(Failure::Numerical(format!(
                "{}: {place}: component {component} of the adapter's output is not finite; the vector is too long, \
                 scale it down",
                file.display()
            )));
        }
        Ok(())
    }

    /// Parses the lines, each a vector of `dim` components.
    fn parse(&mut self, file: &Path, dim: usize) -> Result<(), Failure> {
        self.rows.clear();
        self.queries.clear();
        for line in 0..self.lines.len() {
            let row = self.lines.parse(file, line, &mut self.line)?;
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
