//! A training run in 256 KB of RAM.

use query_adapter::{
    Batch, Documents, Lanes, Level, Linear, Optimizer, Schedule, Trainer, linear_len, normalize_rows,
    scratch_len,
};

use crate::numbers::Numbers;
use crate::{Digest, Failure};

const DIM: usize = 128;
const ROWS: usize = 8;
const STEPS: u32 = 200;
/// Batches that the run goes through again and again.
const BATCHES: u32 = 5;
const WEIGHT: usize = linear_len(DIM, DIM, true);

/// All the memory of the run but its stack.
pub struct TrainBuffers {
    weight: [Lanes; WEIGHT],
    m: [Lanes; WEIGHT],
    v: [Lanes; WEIGHT],
    scratch: [Lanes; scratch_len(ROWS, ROWS, DIM, DIM)],
    queries: [f32; ROWS * DIM],
    documents: [f32; ROWS * DIM],
}

impl TrainBuffers {
    /// Empty.
    pub const NEW: Self = Self {
        weight: [Lanes::ZERO; WEIGHT],
        m: [Lanes::ZERO; WEIGHT],
        v: [Lanes::ZERO; WEIGHT],
        scratch: [Lanes::ZERO; scratch_len(ROWS, ROWS, DIM, DIM)],
        queries: [0.0; ROWS * DIM],
        documents: [0.0; ROWS * DIM],
    };
}

/// Trains 128 × 128 with a bias for 200 steps: a digest of every step's loss and norm, and of the last weight and moments.
/// `boundary` is called before each step and after.
///
/// # Errors
/// What the kernel refuses.
pub fn train(buffers: &mut TrainBuffers, level: Level, boundary: fn()) -> Result<u32, Failure> {
    let TrainBuffers { weight, m, v, scratch, queries, documents } = buffers;
    let mut adapter = Linear::identity(DIM, DIM, true, &mut weight[..], level)?;
    Numbers::new(3).fill(&mut queries[..DIM]);
    adapter.set_bias(&queries[..DIM])?;
    let mut trainer =
        Trainer::new(adapter, &mut m[..], &mut v[..], 20.0, Optimizer::adamw(0.01), Schedule::CONSTANT)?;
    let targets: [u32; ROWS] = core::array::from_fn(|row| u32::try_from(row).unwrap_or(0));
    let mut digest = Digest::new();
    for step in 0..STEPS {
        fill_batch(step % BATCHES, level, queries, documents)?;
        let batch = Batch {
            queries,
            gradient_operand: None,
            documents: Documents::Rows(documents),
            targets: &targets,
            weights: &[1.0; ROWS],
            mask: &[],
        };
        boundary();
        let report = trainer.step(&batch, scratch)?;
        boundary();
        digest.values(&[report.loss, report.grad_norm]);
    }
    for lanes in [trainer.adapter().weight().as_lanes(), trainer.m(), trainer.v()] {
        for lanes in lanes {
            digest.values(&lanes.0);
        }
    }
    Ok(digest.finish())
}

/// A document is its query shifted by one element, and some noise.
fn fill_batch(index: u32, level: Level, queries: &mut [f32], documents: &mut [f32]) -> Result<(), Failure> {
    let mut numbers = Numbers::new(4 + u64::from(index));
    numbers.fill(queries);
    for (query, document) in queries.chunks_exact(DIM).zip(documents.chunks_exact_mut(DIM)) {
        for (place, value) in document.iter_mut().zip(query.iter().cycle().skip(1)) {
            *place = value + 0.25 * numbers.value();
        }
    }
    normalize_rows(level, documents, DIM)?;
    Ok(())
}
