//! `host-cli apply`: query vectors through an adapter, `.npy` or JSON Lines in and out.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use npyz::WriterBuilder as _;
use query_adapter::Level;

use crate::adapter_file::AdapterFile;
use crate::failure::Failure;
use crate::files::{check_output, write_atomically};
use crate::fit::Adapter;
use crate::json_lines::{self, Row};
use crate::options::ApplyOptions;
use crate::vectors::Matrix;

/// Vectors that go through the adapter at a time; a batch gives each the bits it would get alone.
const BATCH: usize = 256;

/// Runs the command, which writes its own output: rows go out as they come in.
///
/// A reader of stdout that goes away early is no failure.
///
/// # Errors
///
/// [`Failure::Input`] for an adapter or vectors that cannot be used, [`Failure::Output`] for an output that cannot be
/// written, [`Failure::Numerical`] for a result that is not finite. An output file is not written then; stdout may have
/// got rows before the fault, whole ones.
pub fn run(options: &ApplyOptions, level: Level) -> Result<(), Failure> {
    let output = options.output.as_path();
    if !is_standard(output) {
        check_output(output, options.force)?;
    }
    let file = AdapterFile::open(&options.adapter, level)?;
    let adapter = file.adapter(level)?;
    let input = Input::open(&options.input, &file)?;
    if is_npy(output) {
        let outputs = collect(input, &adapter)?;
        write_atomically(output, options.force, |out| write_npy(out, &outputs, adapter.out_dim()))
    } else if is_standard(output) {
        match write_lines(input, &adapter, &mut BufWriter::new(io::stdout().lock())) {
            Err(Stop::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Stop::Write(error)) => Err(Failure::unwritable(Path::new("stdout"), &error)),
            Err(Stop::Failed(failure)) => Err(failure),
            Ok(()) => Ok(()),
        }
    } else {
        let mut failed = None;
        let written = write_atomically(output, options.force, |out| {
            write_lines(input, &adapter, out).map_err(|stop| match stop {
                Stop::Write(error) => error,
                Stop::Failed(failure) => {
                    failed = Some(failure);
                    io::Error::other("given up")
                }
            })
        });
        failed.map_or(written, Err)
    }
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

/// All outputs, row after row.
fn collect(mut input: Input, adapter: &Adapter) -> Result<Vec<f32>, Failure> {
    let mut batch = Batch::default();
    let mut all = Vec::new();
    while input.next_batch(&mut batch)? {
        batch.apply(adapter, &input)?;
        all.extend_from_slice(&batch.outputs);
    }
    Ok(all)
}

fn write_npy(out: &mut dyn Write, outputs: &[f32], dim: usize) -> io::Result<()> {
    let shape = [(outputs.len() / dim) as u64, dim as u64];
    let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape);
    let mut writer = options.writer(out).begin_nd()?;
    writer.extend(outputs.iter().copied())?;
    writer.finish()
}

/// One line for each row, passed on batch by batch.
fn write_lines(mut input: Input, adapter: &Adapter, out: &mut dyn Write) -> Result<(), Stop> {
    let mut batch = Batch::default();
    while input.next_batch(&mut batch)? {
        batch.apply(adapter, &input)?;
        for (index, components) in batch.outputs.chunks_exact(adapter.out_dim()).enumerate() {
            json_lines::write_row(out, batch.rows.get(index), components)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Where vectors come from; all have the dimension that the adapter takes.
struct Input {
    file: PathBuf,
    dim: usize,
    source: Source,
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
            return Ok(Self { file: path.to_owned(), dim, source: Source::Matrix(matrix, 0) });
        }
        let (file, input): (PathBuf, Box<dyn Read>) = if is_standard(path) {
            ("stdin".into(), Box::new(io::stdin().lock()))
        } else {
            let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
            (path.to_owned(), Box::new(file))
        };
        let reader = json_lines::Reader::new(file.clone(), input);
        Ok(Self { file, dim, source: Source::Lines(reader) })
    }

    /// Fills `batch` with the next rows: at most [`BATCH`], and no more than there are without waiting. False when
    /// there are none left.
    fn next_batch(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        batch.queries.clear();
        batch.rows.clear();
        match &mut self.source {
            Source::Matrix(matrix, done) => {
                let end = matrix.rows().min(*done + BATCH);
                batch.first = *done;
                batch.queries.extend_from_slice(&matrix.as_slice()[*done * self.dim..end * self.dim]);
                *done = end;
            }
            Source::Lines(reader) => {
                while batch.rows.len() < BATCH
                    && let Some(row) = reader.next_row(&mut batch.line)?
                {
                    if batch.line.len() != self.dim {
                        let problem = format!(
                            "line {}: the vector has {} components, expected {} as the adapter takes; use vectors \
                             of the model it was trained for",
                            row.number,
                            batch.line.len(),
                            self.dim
                        );
                        return Err(Failure::input(&self.file, problem));
                    }
                    batch.queries.extend_from_slice(&batch.line);
                    batch.rows.push(row);
                    if reader.must_wait() {
                        break;
                    }
                }
            }
        }
        Ok(!batch.queries.is_empty())
    }
}

/// Rows on their way through the adapter.
#[derive(Default)]
struct Batch {
    /// The lines they came from; empty when they came from a matrix.
    rows: Vec<Row>,
    /// The matrix row of the first, from 0; not used for lines.
    first: usize,
    queries: Vec<f32>,
    outputs: Vec<f32>,
    line: Vec<f32>,
}

impl Batch {
    /// Computes the adapter's outputs, row after row.
    fn apply(&mut self, adapter: &Adapter, input: &Input) -> Result<(), Failure> {
        let rows = self.queries.len() / adapter.in_dim();
        self.outputs.resize(rows * adapter.out_dim(), 0.0);
        adapter.apply_batch(&self.queries, &mut self.outputs)?;
        if let Some(at) = self.outputs.iter().position(|x| !x.is_finite()) {
            let (row, component) = (at / adapter.out_dim(), at % adapter.out_dim());
            let place = match self.rows.get(row) {
                Some(row) => format!("line {}", row.number),
                None => format!("row {}", self.first + row),
            };
            return Err(Failure::Numerical(format!(
                "{}: {place}: component {component} of the adapter's output is not finite; the vector is too long, \
                 scale it down",
                input.file.display()
            )));
        }
        Ok(())
    }
}
