//! The operations that are measured, their sizes and names, and how to prepare and run each of them.

use core::fmt;
use core::hint::black_box;
use core::str::FromStr;

use query_adapter::image::Image;
use query_adapter::{Error, LANES, Lanes, Level, Linear, linear_len, panel_len};

use crate::cases::{
    self, AMONG_MANY, BATCH_ROWS, CORPORA, DIMS, LOSS_DIM, LOSS_SHAPES, ROW_SHAPES, STEP_DIMS, STEP_ROWS,
    Search, Step,
};
use crate::roofline::{self, Work};

/// What is done, and on how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are the sizes that docs/benchmarks.md explains")]
pub enum Operation {
    /// One query through a square adapter.
    Matvec { dim: usize },
    /// A batch of queries through a square adapter.
    ApplyBatch { dim: usize, rows: usize },
    /// One AdamW step on `rows` queries and `candidates` documents.
    TrainStep { dim: usize, rows: usize, candidates: usize },
    /// [`STEPS_IN_A_ROW`](cases::STEPS_IN_A_ROW) such steps on as many documents as queries, each with the forward pass of the
    /// next.
    TrainSteps { dim: usize, rows: usize },
    /// A step in which the loss is most of the work.
    CrossEntropy { rows: usize, candidates: usize },
    /// A step in which the update is most of the work.
    Adam { dim: usize },
    /// The best documents of sixteen queries.
    TopK { dim: usize, documents: usize },
    /// From the bytes of an adapter file to an adapter.
    ImageOpen { dim: usize },
    /// The check of all weights in an adapter file.
    ImageVerify { dim: usize },
}

impl Operation {
    /// All that the benchmarks run, in order.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all: Vec<_> = DIMS.into_iter().map(|dim| Self::Matvec { dim }).collect();
        all.extend(DIMS.map(|dim| Self::ApplyBatch { dim, rows: BATCH_ROWS }));
        let step = |dim, rows| Self::TrainStep { dim, rows, candidates: rows };
        all.extend(STEP_DIMS.into_iter().flat_map(|dim| STEP_ROWS.map(|rows| step(dim, rows))));
        all.extend(AMONG_MANY.map(|(dim, rows, candidates)| Self::TrainStep { dim, rows, candidates }));
        all.extend(ROW_SHAPES.map(|(dim, rows)| Self::TrainSteps { dim, rows }));
        all.extend(LOSS_SHAPES.map(|(rows, candidates)| Self::CrossEntropy { rows, candidates }));
        all.extend(DIMS.map(|dim| Self::Adam { dim }));
        all.extend(CORPORA.map(|(dim, documents)| Self::TopK { dim, documents }));
        all.extend(DIMS.map(|dim| Self::ImageOpen { dim }));
        all.extend(DIMS.map(|dim| Self::ImageVerify { dim }));
        all
    }

    /// Its name without size and level.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Matvec { .. } => "matvec",
            Self::ApplyBatch { .. } => "apply_batch",
            Self::TrainStep { .. } => "train_step",
            Self::TrainSteps { .. } => "train_steps",
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::Adam { .. } => "adam",
            Self::TopK { .. } => "top_k",
            Self::ImageOpen { .. } => "image_open",
            Self::ImageVerify { .. } => "image_verify",
        }
    }

    /// Its size, as in names.
    #[must_use]
    pub fn size(self) -> String {
        match self {
            Self::Matvec { dim }
            | Self::Adam { dim }
            | Self::ImageOpen { dim }
            | Self::ImageVerify { dim } => dim.to_string(),
            Self::TrainStep { dim, rows, candidates } if candidates != rows => {
                format!("{dim}x{rows}x{candidates}")
            }
            Self::ApplyBatch { dim, rows }
            | Self::TrainStep { dim, rows, .. }
            | Self::TrainSteps { dim, rows } => {
                format!("{dim}x{rows}")
            }
            Self::CrossEntropy { rows, candidates } => format!("{rows}x{candidates}"),
            Self::TopK { dim, documents } => format!("{dim}x{documents}"),
        }
    }

    /// The levels that it is measured on. One query runs on all of them: a level whose loops were not compiled for it
    /// shows there as several times slower.
    #[must_use]
    pub fn levels(self) -> Vec<Level> {
        match self {
            Self::Matvec { .. } => Level::available().collect(),
            // The check is scalar code on every level.
            Self::ImageVerify { .. } => vec![Level::SCALAR],
            _ => vec![Level::detect()],
        }
    }

    /// What the machine has to do for it, phase by phase; nothing where there is no roofline.
    #[must_use]
    pub fn phases(self) -> Vec<Work> {
        match self {
            Self::Matvec { dim } => vec![roofline::forward(dim, 1)],
            Self::ApplyBatch { dim, rows } => vec![roofline::forward(dim, rows)],
            Self::TrainStep { dim, rows, candidates } => {
                roofline::training_step(dim, rows, candidates).to_vec()
            }
            Self::TrainSteps { dim, rows } => {
                roofline::training_steps(dim, rows, cases::STEPS_IN_A_ROW).to_vec()
            }
            Self::CrossEntropy { rows, candidates } => {
                vec![roofline::cross_entropy(LOSS_DIM, rows, candidates)]
            }
            Self::Adam { dim } => roofline::training_step(dim, 1, 2).to_vec(),
            Self::TopK { dim, documents } => vec![roofline::scores(dim, LANES, documents)],
            Self::ImageOpen { .. } | Self::ImageVerify { .. } => Vec::new(),
        }
    }

    /// How many [`Lanes`] its weight takes, or its documents.
    #[must_use]
    pub const fn weight_len(self) -> usize {
        match self {
            Self::Matvec { dim }
            | Self::ApplyBatch { dim, .. }
            | Self::TrainStep { dim, .. }
            | Self::TrainSteps { dim, .. }
            | Self::Adam { dim }
            | Self::ImageOpen { dim }
            | Self::ImageVerify { dim } => linear_len(dim, dim, false),
            Self::CrossEntropy { .. } => linear_len(LOSS_DIM, LOSS_DIM, false),
            Self::TopK { dim, documents } => panel_len(documents, dim),
        }
    }

    /// The operation with this name and this size.
    fn parse(name: &str, size: &str) -> Option<Self> {
        let numbers = size.split('x').map(usize::from_str).collect::<Result<Vec<_>, _>>().ok()?;
        Some(match (name, numbers.as_slice()) {
            ("matvec", &[dim]) => Self::Matvec { dim },
            ("apply_batch", &[dim, rows]) => Self::ApplyBatch { dim, rows },
            ("train_step", &[dim, rows]) => Self::TrainStep { dim, rows, candidates: rows },
            ("train_step", &[dim, rows, candidates]) if candidates > rows => {
                Self::TrainStep { dim, rows, candidates }
            }
            ("train_steps", &[dim, rows]) => Self::TrainSteps { dim, rows },
            ("cross_entropy", &[rows, candidates]) => Self::CrossEntropy { rows, candidates },
            ("adam", &[dim]) => Self::Adam { dim },
            ("top_k", &[dim, documents]) => Self::TopK { dim, documents },
            ("image_open", &[dim]) => Self::ImageOpen { dim },
            ("image_verify", &[dim]) => Self::ImageVerify { dim },
            _ => return None,
        })
    }
}

/// `operation/size/level`.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// What.
    pub operation: Operation,
    /// On which instruction set.
    pub level: Level,
}

impl Name {
    /// All that the benchmarks run, in order.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let levels =
            |operation: Operation| operation.levels().into_iter().map(move |level| Self { operation, level });
        Operation::all().into_iter().flat_map(levels).collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.operation.name(), self.operation.size(), self.level.name())
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let unknown = || format!("no such benchmark: {name}; they are called like train_step/384x10/avx2");
        let [operation, size, level] =
            name.split('/').collect::<Vec<_>>().try_into().map_err(|_| unknown())?;
        let operation = Operation::parse(operation, size).ok_or_else(unknown)?;
        let level = Level::by_name(level).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { operation, level })
    }
}

/// An operation with its inputs, ready to be run any number of times.
#[derive(Debug)]
pub struct Case {
    level: Level,
    inputs: Inputs,
}

#[derive(Debug)]
enum Inputs {
    Apply { adapter: Linear<Vec<Lanes>>, queries: Vec<f32>, outputs: Vec<f32> },
    Step(Box<Step>),
    Steps(Box<Step>),
    Search(Box<Search>),
    ImageOpen(Vec<Lanes>),
    ImageVerify(Vec<Lanes>),
}

impl Case {
    /// Prepares the inputs.
    ///
    /// # Errors
    /// Those of the kernel, for sizes that it refuses.
    pub fn new(Name { operation, level }: Name) -> Result<Self, Error> {
        let apply = |dim: usize, rows: usize| {
            let queries = cases::random_rows(2, rows, dim);
            Ok(Inputs::Apply {
                adapter: cases::adapter(dim, level)?,
                queries,
                outputs: vec![0.0; rows * dim],
            })
        };
        let inputs = match operation {
            Operation::Matvec { dim } => apply(dim, 1)?,
            Operation::ApplyBatch { dim, rows } => apply(dim, rows)?,
            Operation::TrainStep { dim, rows, candidates } => {
                Inputs::Step(Step::new(dim, rows, candidates, level)?.into())
            }
            Operation::TrainSteps { dim, rows } => Inputs::Steps(Step::new(dim, rows, rows, level)?.into()),
            Operation::CrossEntropy { rows, candidates } => {
                Inputs::Step(Step::loss(rows, candidates, level)?.into())
            }
            Operation::Adam { dim } => Inputs::Step(Step::update(dim, level)?.into()),
            Operation::TopK { dim, documents } => Inputs::Search(Search::new(dim, documents, level)?.into()),
            Operation::ImageOpen { dim } => Inputs::ImageOpen(cases::image(dim, level)?),
            Operation::ImageVerify { dim } => Inputs::ImageVerify(cases::image(dim, level)?),
        };
        Ok(Self { level, inputs })
    }

    /// The operation, once.
    ///
    /// # Errors
    /// Those of the kernel: none, if the first run had none.
    pub fn run(&mut self) -> Result<(), Error> {
        match &mut self.inputs {
            Inputs::Apply { adapter, queries, outputs } => adapter.apply_batch(black_box(queries), outputs),
            Inputs::Step(step) => step.run().map(|report| _ = black_box(report)),
            Inputs::Steps(step) => step.run_in_a_row(),
            Inputs::Search(search) => search.run(),
            Inputs::ImageOpen(storage) => {
                let image = Image::view(bytemuck::cast_slice(storage))?;
                image.linear(self.level).map(|adapter| _ = black_box(adapter))
            }
            Inputs::ImageVerify(storage) => Image::view(bytemuck::cast_slice(storage))?.verify(),
        }
    }

    /// The weight that the operation reads and does not write, if there is one.
    #[must_use]
    pub fn weight(&self) -> Option<&[Lanes]> {
        match &self.inputs {
            Inputs::Apply { adapter, .. } => Some(adapter.weight().as_lanes()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        let names = Name::all();
        assert!(names.len() > 30);
        for name in names {
            let read: Name = name.to_string().parse().unwrap();
            assert_eq!((read.operation, read.level.name()), (name.operation, name.level.name()));
        }
    }

    #[test]
    fn rejects_names_of_no_benchmark() {
        for name in [
            "",
            "matvec",
            "matvec/384",
            "matvec/384x2/scalar",
            "train_step/384/scalar",
            "train_step/384x2x1/scalar",
            "sort/8/scalar",
        ] {
            assert!(name.parse::<Name>().unwrap_err().contains("no such benchmark"), "{name}");
        }
        assert!("matvec/384/abacus".parse::<Name>().unwrap_err().starts_with("matvec/384/abacus: "));
    }

    #[test]
    fn every_operation_runs_again_and_again() {
        for name in [
            "matvec/48/scalar",
            "apply_batch/48x3/scalar",
            "train_step/48x5/scalar",
            "train_step/48x5x70/scalar",
            "train_steps/48x5/scalar",
            "cross_entropy/5x70/scalar",
            "adam/48/scalar",
            "top_k/48x300/scalar",
            "image_open/48/scalar",
            "image_verify/48/scalar",
        ] {
            let mut case = Case::new(name.parse().unwrap()).unwrap();
            case.run().and_then(|()| case.run()).unwrap();
        }
    }
}
