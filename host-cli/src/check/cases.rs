//! What the kernel and the oracle are both given: batches of many shapes, built in or made of a data set's vectors.

use nalgebra::DMatrix;
use query_adapter::sample::Generator;
use query_adapter::{
    Batch, Documents, Lanes, Level, Mask, MaskEntry, PanelMatrix, normalize_rows, panel_len,
};

use crate::failure::Failure;
use crate::oracle::{self, Matrix};
use crate::retrieval_task::RetrievalTask;

/// A batch and a weight, in the kernel's types.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) in_dim: usize,
    pub(super) out_dim: usize,
    pub(super) bias: bool,
    pub(super) scale: f32,
    /// `out × (in + bias)`, row-major.
    pub(super) weight: Vec<f32>,
    /// `rows × in`, row-major.
    pub(super) queries: Vec<f32>,
    /// As `queries`.
    pub(super) operand: Option<Vec<f32>>,
    /// `candidates × out`, row-major, normalised.
    pub(super) documents: Vec<f32>,
    /// Per row.
    pub(super) targets: Vec<u32>,
    /// Per row.
    pub(super) weights: Vec<f32>,
    /// In order, as the kernel wants them.
    pub(super) mask: Vec<MaskEntry>,
}

impl Case {
    pub(super) fn rows(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn candidates(&self) -> usize {
        self.documents.len() / self.out_dim
    }

    /// Columns of the weight, the bias included.
    pub(super) fn columns(&self) -> usize {
        self.in_dim + usize::from(self.bias)
    }

    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            queries: &self.queries,
            gradient_operand: self.operand.as_deref(),
            documents: Documents::Rows(&self.documents),
            targets: &self.targets,
            weights: &self.weights,
            mask: &self.mask,
        }
    }

    pub(super) fn oracle_batch(&self) -> oracle::Batch {
        let mut masked = DMatrix::from_element(self.rows(), self.candidates(), false);
        for entry in &self.mask {
            for lane in (0..16).filter(|lane| entry.lanes & (1 << lane) != 0) {
                masked[(entry.panel as usize * 16 + lane, entry.candidate as usize)] = true;
            }
        }
        oracle::Batch {
            queries: matrix(&self.queries, self.in_dim),
            operand: matrix(self.operand.as_ref().unwrap_or(&self.queries), self.in_dim),
            documents: matrix(&self.documents, self.out_dim),
            targets: self.targets.iter().map(|&target| target as usize).collect(),
            weights: self.weights.iter().map(|&weight| f64::from(weight)).collect(),
            masked,
        }
    }

    pub(super) fn oracle_weight(&self) -> Matrix {
        matrix(&self.weight, self.columns())
    }
}

/// Row-major values as a matrix.
pub(super) fn matrix(values: &[f32], columns: usize) -> Matrix {
    Matrix::from_row_iterator(values.len() / columns, columns, values.iter().map(|&x| f64::from(x)))
}

/// Row-major values in panels.
pub(super) fn panels_of(values: &[f32], columns: usize) -> Result<Vec<Lanes>, Failure> {
    let rows = values.len() / columns;
    let mut panels = PanelMatrix::new(rows, columns, vec![Lanes::ZERO; panel_len(rows, columns)])?;
    panels.copy_from_row_major(values)?;
    Ok(panels.into_storage())
}

/// The other way round.
pub(super) fn row_major(panels: &[Lanes], rows: usize, columns: usize) -> Result<Vec<f32>, Failure> {
    let mut values = vec![0.0; rows * columns];
    PanelMatrix::new(rows, columns, panels)?.copy_to_row_major(&mut values)?;
    Ok(values)
}

/// What a case has beside queries, documents and a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    Bias,
    Weights,
    Mask,
    /// The gradient's operand is another matrix than the queries.
    Preconditioned,
}
use Extra::{Bias, Mask as Masked, Preconditioned, Weights};

/// The shape of a built-in case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Rows, candidates, inputs, outputs.
    pub(super) sizes: [u16; 4],
    pub(super) extras: &'static [Extra],
}

/// Every kind of batch, from the smallest to that of an ordinary training run; both forms of the norm occur.
const SHAPES: [Shape; 13] = [
    Shape { sizes: [1, 1, 1, 1], extras: &[] },
    Shape { sizes: [2, 3, 1, 1], extras: &[Bias] },
    Shape { sizes: [5, 5, 1, 3], extras: &[Weights] },
    Shape { sizes: [1, 4, 3, 3], extras: &[] },
    Shape { sizes: [4, 4, 3, 5], extras: &[Bias] },
    Shape { sizes: [8, 12, 16, 16], extras: &[Bias, Weights, Masked] },
    Shape { sizes: [12, 12, 16, 16], extras: &[Preconditioned] },
    Shape { sizes: [16, 30, 17, 17], extras: &[Weights, Masked] },
    Shape { sizes: [11, 11, 17, 17], extras: &[Bias, Preconditioned] },
    Shape { sizes: [33, 40, 33, 20], extras: &[Bias, Weights, Masked] },
    Shape { sizes: [10, 10, 384, 384], extras: &[] },
    Shape { sizes: [55, 64, 384, 384], extras: &[Bias, Weights, Masked] },
    Shape { sizes: [64, 64, 384, 384], extras: &[Masked, Preconditioned] },
];

/// A case of each shape.
pub(super) fn built_in() -> Result<Vec<Case>, Failure> {
    SHAPES.into_iter().zip(1..).map(|(shape, seed)| shape.case(seed)).collect()
}

impl Shape {
    /// A case of this shape: each query is some of its document and more noise, so that the loss is neither nothing nor
    /// everything; the weight is the identity and some noise.
    pub(super) fn case(self, seed: u64) -> Result<Case, Failure> {
        let [rows, candidates, in_dim, out_dim] = self.sizes.map(usize::from);
        let has = |extra| self.extras.contains(&extra);
        let mut generator = Generator::new(seed);
        let mut documents = noise(&mut generator, candidates * out_dim, 1.0);
        normalize_rows(Level::SCALAR, &mut documents, out_dim)?;
        let targets: Vec<u32> = (0..u32::from(self.sizes[1])).cycle().step_by(3).take(rows).collect();
        let mut queries = noise(&mut generator, rows * in_dim, spread(in_dim));
        for (query, &target) in queries.chunks_exact_mut(in_dim).zip(&targets) {
            let document = documents.chunks_exact(out_dim).nth(target as usize).unwrap_or(&[]);
            query.iter_mut().zip(document).for_each(|(x, y)| *x += 0.375 * y);
        }
        // So short that what clipping adds to the norm is seen.
        let operand = has(Preconditioned).then(|| noise(&mut generator, rows * in_dim, 1e-3));
        let masked = |row, candidate| has(Masked) && (row + candidate) % 5 == 0;
        let extras: String =
            self.extras.iter().map(|extra| format!(", {}", format!("{extra:?}").to_lowercase())).collect();
        Ok(Case {
            name: format!("{rows} × {candidates}, {in_dim} → {out_dim}{extras}"),
            in_dim,
            out_dim,
            bias: has(Bias),
            scale: SCALE,
            weight: near_identity(&mut generator, in_dim, out_dim, has(Bias)),
            queries,
            operand,
            documents,
            mask: mask(&targets, u32::from(self.sizes[1]), masked)?,
            weights: (0..rows)
                .map(|row| if has(Weights) { [1.0, 0.5, 0.25][row % 3] } else { 1.0 })
                .collect(),
            targets,
        })
    }
}

/// The scale of the reference system.
const SCALE: f32 = 20.0;

/// The largest product of rows, inputs and outputs of a batch of a data set's vectors: the oracle takes its time.
const LARGEST_BATCH: usize = 1 << 24;

/// Components of a data set's vectors, from the first on, that are looked at: the oracle's matrices take room.
const MOST_COMPONENTS: usize = 1024;

/// Two batches of a data set's vectors, one for each form of the norm, as far as the vectors' size allows it. The
/// candidates are the positives of the rows, of which each row masks its own others.
pub(super) fn of_task(task: &RetrievalTask, level: Level) -> Result<Vec<Case>, Failure> {
    let dim = task.dim().min(MOST_COMPONENTS);
    let most = (LARGEST_BATCH / (dim * dim)).clamp(2, 64).min(task.queries().len());
    let gram = (1..=most).rev().find(|&rows| oracle::takes_gram_norm(rows, dim)).unwrap_or(1);
    let mut cases = vec![case_of_task(task, level, gram)?];
    if most > gram {
        cases.push(case_of_task(task, level, most)?);
    }
    Ok(cases)
}

fn case_of_task(task: &RetrievalTask, level: Level, rows: usize) -> Result<Case, Failure> {
    let dim = task.dim().min(MOST_COMPONENTS);
    let chosen: Vec<usize> = (0..rows).map(|row| row * task.queries().len() / rows).collect();
    let positives = |row: u32| task.query(chosen[row as usize]).positives.iter().map(|p| p.document);
    let mut candidates: Vec<u32> = chosen.iter().zip(0..).flat_map(|(_, row)| positives(row)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let mut documents: Vec<f32> =
        candidates.iter().flat_map(|&document| &task.corpus().vector(document)[..dim]).copied().collect();
    normalize_rows(level, &mut documents, dim)?;
    let first_positive = |row| positives(row).next().unwrap_or_default();
    let place = |document| (0..).zip(&candidates).find(|(_, known)| **known == document);
    let targets: Vec<u32> =
        (0..).zip(&chosen).filter_map(|(row, _)| Some(place(first_positive(row))?.0)).collect();
    let masked =
        |row, candidate: u32| positives(row).any(|document| document == candidates[candidate as usize]);
    let count = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
    let cut = if dim < task.dim() { format!(" of {} components", task.dim()) } else { String::new() };
    Ok(Case {
        name: format!("{rows} × {count}, {dim} → {dim}{cut}"),
        in_dim: dim,
        out_dim: dim,
        bias: false,
        scale: SCALE,
        weight: near_identity(&mut Generator::new(0), dim, dim, false),
        queries: chosen.iter().flat_map(|&query| &task.query_vector(query)[..dim]).copied().collect(),
        operand: None,
        documents,
        mask: mask(&targets, count, masked)?,
        targets,
        weights: vec![1.0; rows],
    })
}

/// The entries for which `masked(row, candidate)` holds, without the rows' own targets.
fn mask(
    targets: &[u32],
    candidates: u32,
    masked: impl Fn(u32, u32) -> bool,
) -> Result<Vec<MaskEntry>, Failure> {
    let mut storage = vec![MaskEntry::default(); targets.len() * candidates as usize];
    let mut mask = Mask::new(&mut storage);
    for (&target, row) in targets.iter().zip(0..) {
        for candidate in (0..candidates).filter(|&candidate| candidate != target && masked(row, candidate)) {
            mask.insert(row, candidate)?;
        }
    }
    Ok(mask.entries().to_vec())
}

/// Ones on the diagonal and noise everywhere, the bias included; row-major.
fn near_identity(generator: &mut Generator, in_dim: usize, out_dim: usize, bias: bool) -> Vec<f32> {
    let columns = in_dim + usize::from(bias);
    let mut weight = noise(generator, out_dim * columns, 0.5 * spread(in_dim));
    for diagonal in weight.iter_mut().step_by(columns + 1).take(in_dim) {
        *diagonal += 1.0;
    }
    weight
}

/// The half width of uniform noise of which `dim` values together have a norm of about 1: √(3 ÷ dim), rounded.
fn spread(dim: usize) -> f32 {
    let mut spread = 1.0;
    for _ in 0..dim.ilog2() {
        spread *= 0.75;
    }
    spread
}

/// Uniform values between −`width` and `width`.
pub(super) fn noise(generator: &mut Generator, len: usize, width: f32) -> Vec<f32> {
    // 24 random bits are exact in an f32.
    let mut uniform = || (generator.next_u64() >> 40) as f32 / 8_388_608.0 - 1.0;
    (0..len).map(|_| width * uniform()).collect()
}
