//! The inputs of the benchmarks: random, the same at every run, and without values that would slow a processor down.

use query_adapter::image::{ImageSpec, Metadata};
use query_adapter::sample::Generator;
use query_adapter::{
    Batch, Documents, Error, Found, LANES, Lanes, Level, Linear, Optimizer, Schedule, SingleThread,
    StepReport, TopK, Trainer, ahead_len, linear_len, normalize_queries, normalize_rows, offer_block,
    panel_len, score_documents, scratch_len,
};

/// Dimensions of the square adapters that are measured: those of common embedding models.
pub const DIMS: [usize; 5] = [128, 384, 768, 1024, 1536];

/// Dimensions that a training step is measured on.
pub const STEP_DIMS: [usize; 3] = [384, 768, 1536];

/// Rows of the batches that a training step is measured on.
pub const STEP_ROWS: [usize; 4] = [10, 32, 64, 256];

/// Dimension, rows and candidates of steps that tell their queries' documents from many others.
pub const AMONG_MANY: [(usize, usize, usize); 2] = [(384, 64, 4096), (768, 16, 4096)];

/// How many steps are measured in a row where each transforms the next one's queries.
pub const STEPS_IN_A_ROW: usize = 8;

/// Dimensions and rows that steps in a row are measured on.
pub const ROW_SHAPES: [(usize, usize); 8] =
    [(384, 64), (384, 256), (768, 10), (768, 64), (768, 256), (1536, 10), (1536, 64), (1536, 256)];

/// Rows and candidates that the loss is measured on.
pub const LOSS_SHAPES: [(usize, usize); 3] = [(64, 64), (256, 256), (64, 4096)];

/// Dimension of the vectors that the loss is measured on: as small as fills a tile of the kernel's.
pub const LOSS_DIM: usize = 8;

/// Dimensions and documents of the corpora that are searched: one that a cache holds, one that none does.
pub const CORPORA: [(usize, usize); 2] = [(384, 1000), (384, 50_000)];

/// How many of the best documents a search keeps.
pub const DEPTH: usize = 100;

/// Rows of the batches that [`Linear::apply_batch`] is measured on.
pub const BATCH_ROWS: usize = 64;

/// `rows × dim` values in `[-1, 1)`, in steps of 2⁻²³: many exact zeros or subnormals are not among them.
#[must_use]
pub fn random_rows(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
    let mut generator = Generator::new(seed);
    // 24 bits are exact in `f32`.
    let uniform = |bits: u64| (bits >> 40) as f32 / 8_388_608.0 - 1.0;
    (0..rows * dim).map(|_| uniform(generator.next_u64())).collect()
}

/// A square adapter of `dim × dim` random weights without bias.
///
/// # Errors
/// Those of [`Linear::identity`].
pub fn adapter(dim: usize, level: Level) -> Result<Linear<Vec<Lanes>>, Error> {
    let storage = vec![Lanes::ZERO; linear_len(dim, dim, false)];
    let mut adapter = Linear::identity(dim, dim, false, storage, level)?;
    adapter.set_weight(&random_rows(1, dim, dim))?;
    Ok(adapter)
}

/// A training step which can be repeated for ever: AdamW on one problem, query `i` belonging to document `i`.
///
/// The learning rate is zero, so that each repetition meets the same weights. A problem that is learnt while it is
/// timed ends in gradients that are subnormal, which are slow on many processors and are not met in training.
/// The kernel does the same operations for every learning rate.
#[derive(Debug)]
pub struct Step {
    trainer: Trainer<Vec<Lanes>>,
    scratch: Vec<Lanes>,
    inputs: Inputs,
}

#[derive(Debug)]
struct Inputs {
    queries: Vec<f32>,
    documents: Vec<f32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl Inputs {
    fn batch(&self) -> Batch<'_> {
        Batch {
            queries: &self.queries,
            gradient_operand: None,
            documents: Documents::Rows(&self.documents),
            targets: &self.targets,
            weights: &self.weights,
            mask: &[],
        }
    }
}

impl Step {
    /// A step on `rows` queries and at least as many documents, `candidates`, of `dim` elements each.
    ///
    /// # Errors
    /// Those of [`Trainer::new`].
    pub fn new(dim: usize, rows: usize, candidates: usize, level: Level) -> Result<Self, Error> {
        let zeros = || vec![Lanes::ZERO; linear_len(dim, dim, false)];
        let optimizer = Optimizer::adamw(0.0);
        let trainer =
            Trainer::new(adapter(dim, level)?, zeros(), zeros(), 20.0, optimizer, Schedule::CONSTANT)?;
        let mut documents = random_rows(3, candidates, dim);
        normalize_rows(level, &mut documents, dim)?;
        Ok(Self {
            trainer,
            inputs: Inputs {
                queries: random_rows(2, rows, dim),
                documents,
                targets: (0..).take(rows).collect(),
                weights: vec![1.0; rows],
            },
            scratch: vec![Lanes::ZERO; scratch_len(rows, candidates, dim, dim) + ahead_len(rows, dim, dim)],
        })
    }

    /// A step in which the loss is most of the work: `rows` queries, at most as many as `candidates`, of only
    /// [`LOSS_DIM`] elements.
    ///
    /// # Errors
    /// Those of [`Trainer::new`].
    pub fn loss(rows: usize, candidates: usize, level: Level) -> Result<Self, Error> {
        Self::new(LOSS_DIM, rows, candidates, level)
    }

    /// A step in which the update is most of the work: one query, two documents.
    ///
    /// # Errors
    /// Those of [`Trainer::new`].
    pub fn update(dim: usize, level: Level) -> Result<Self, Error> {
        // With one document alone there would be no loss and no gradient.
        Self::new(dim, 1, 2, level)
    }

    /// Takes the step [`STEPS_IN_A_ROW`] times more, each transforming the queries of the next.
    ///
    /// # Errors
    /// Those of [`Trainer::steps`].
    pub fn run_in_a_row(&mut self) -> Result<(), Error> {
        let Self { trainer, scratch, inputs } = self;
        trainer.steps(&SingleThread, &[inputs.batch(); STEPS_IN_A_ROW], scratch, |_, report| {
            _ = core::hint::black_box(report);
            Ok(())
        })
    }

    /// Takes the step once more.
    ///
    /// # Errors
    /// Those of [`Trainer::step`].
    pub fn run(&mut self) -> Result<StepReport, Error> {
        let Self { trainer, scratch, inputs } = self;
        trainer.step(&inputs.batch(), scratch)
    }
}

/// A search for the [`DEPTH`] best of many documents for sixteen queries, block after block.
#[derive(Debug)]
pub struct Search {
    level: Level,
    dim: usize,
    queries: Vec<f32>,
    documents: Vec<f32>,
    order: Vec<u32>,
    panel: Vec<Lanes>,
    scores: Vec<Lanes>,
    found: Vec<Found>,
}

impl Search {
    /// Documents scored at a time.
    const BLOCK: usize = 256;
    /// For so many documents there is room.
    const ROOM: usize = 2 * DEPTH;

    /// A search among `documents` documents of `dim` elements.
    ///
    /// # Errors
    /// Those of [`normalize_rows`].
    pub fn new(dim: usize, documents: usize, level: Level) -> Result<Self, Error> {
        let mut vectors = random_rows(3, documents, dim);
        normalize_rows(level, &mut vectors, dim)?;
        Ok(Self {
            level,
            dim,
            queries: random_rows(2, LANES, dim),
            documents: vectors,
            order: (0..).take(documents).collect(),
            panel: vec![Lanes::ZERO; panel_len(LANES, dim)],
            scores: vec![Lanes::ZERO; Self::BLOCK],
            found: vec![Found::default(); LANES * Self::ROOM],
        })
    }

    /// Searches once.
    ///
    /// # Errors
    /// Those of [`score_documents`].
    pub fn run(&mut self) -> Result<(), Error> {
        let Self { level, dim, queries, documents, order, panel, scores, found } = self;
        normalize_queries(*level, queries, *dim, panel)?;
        let mut best: Vec<_> =
            found.chunks_mut(Self::ROOM).map(|room| TopK::with_room(room, DEPTH)).collect();
        let blocks = documents.chunks(Self::BLOCK * *dim).zip(order.chunks(Self::BLOCK));
        for ((documents, order), first) in blocks.zip((0..).step_by(Self::BLOCK)) {
            let scores = scores.get_mut(..order.len()).unwrap_or_default();
            score_documents(*level, panel, documents, *dim, scores)?;
            offer_block(*level, scores, order, first, &mut best)?;
        }
        for best in best {
            core::hint::black_box(best.into_sorted());
        }
        Ok(())
    }
}

/// The bytes of an adapter file, aligned as a memory map is. Cast them with [`bytemuck::cast_slice`].
///
/// # Errors
/// Those of [`ImageSpec::encode`].
pub fn image(dim: usize, level: Level) -> Result<Vec<Lanes>, Error> {
    let adapter = adapter(dim, level)?;
    let golden_query = random_rows(4, 1, dim);
    let mut golden_output = vec![0.0; dim];
    adapter.apply(&golden_query, &mut golden_output)?;
    let spec = ImageSpec {
        in_dim: dim,
        out_dim: dim,
        bias: false,
        metadata: Metadata { tool: "query-adapter-benches", normalized: true, ..Metadata::UNKNOWN },
        golden_query: &golden_query,
        golden_output: &golden_output,
    };
    // An image is a whole number of `Lanes`.
    let mut bytes = vec![Lanes::ZERO; spec.encoded_len()?.div_ceil(size_of::<Lanes>())];
    spec.encode(adapter.weight().as_lanes(), bytemuck::cast_slice_mut(&mut bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use query_adapter::image::Image;

    use super::*;

    #[test]
    fn step_meets_the_same_problem_at_every_repetition() {
        let mut step = Step::new(48, 10, 10, Level::detect()).unwrap();
        let first = step.run().unwrap();
        assert!(first.loss > 0.0 && first.grad_norm > 0.0);
        for _ in 0..100 {
            assert_eq!(step.run().unwrap(), first);
        }
        step.run_in_a_row().unwrap();
        assert_eq!(step.run().unwrap(), first);
    }

    #[test]
    fn image_opens_where_it_lies_and_is_sound() {
        let bytes = image(48, Level::detect()).unwrap();
        let image = Image::view(bytemuck::cast_slice(&bytes)).unwrap();
        image.verify().unwrap();
        image.verify_golden(&image.linear(Level::SCALAR).unwrap(), &mut [0.0; 48]).unwrap();
    }

    #[test]
    fn random_values_fill_their_range_on_both_sides() {
        let values = random_rows(1, 10, 100);
        assert!(values.iter().all(|x| (-1.0..1.0).contains(x) && !x.is_subnormal()));
        assert!(values.iter().any(|x| *x < -0.9) && values.iter().any(|x| *x > 0.9));
    }
}
