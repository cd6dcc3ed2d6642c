//! A whole training step by the definitions alone, on plain row-major vectors: the model that
//! [`Trainer`](query_adapter::Trainer) is held against.
//!
//! It uses the public interface only, and two crates include it by its path: the kernel's tests and the fuzz targets.

use query_adapter::{
    Batch, DocumentBlocks, Documents, Error, NORM_FLOOR, NormForm, Optimizer, OptimizerKind, OptimizerState,
    Schedule, StepReport, Update, math, norm_form, reference,
};

/// 2⁶³: a larger gradient could overflow the second moment.
const GRADIENT_LIMIT: f32 = 9_223_372_036_854_775_808.0;

/// The state of a dense adapter that learns.
#[derive(Clone, Debug)]
pub(crate) struct ReferenceTrainer {
    pub(crate) in_dim: usize,
    pub(crate) out_dim: usize,
    pub(crate) bias: bool,
    /// `out × (in + bias)`, row-major; `anchor`, `m` and `v` alike, the moments also for SGD, which leaves them be.
    pub(crate) weight: Vec<f32>,
    pub(crate) anchor: Vec<f32>,
    pub(crate) m: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) scale: f32,
    pub(crate) optimizer: Optimizer,
    pub(crate) schedule: Schedule,
    pub(crate) state: OptimizerState,
}

/// What the middle of a step finds for one query.
struct Row {
    norm: f32,
    loss: f32,
    /// The gradient with respect to the transformed query.
    d_output: Vec<f32>,
}

impl ReferenceTrainer {
    /// One step, or the reason why it is refused; nothing is changed then.
    pub(crate) fn step(&mut self, batch: &Batch<'_>) -> Result<StepReport, Error> {
        let documents = rows_of(batch.documents, self.out_dim);
        let total = self.check(batch, &documents)?;
        let rows: Vec<Row> =
            (0..batch.targets.len()).map(|row| self.row(batch, &documents, row, total)).collect();
        let not_finite = |what, row| Error::NotFinite { what, row };
        if let Some(row) = rows.iter().position(|row| !row.norm.is_finite()) {
            return Err(not_finite("transformed query", row));
        }
        if let Some(row) = rows.iter().position(|row| !row.loss.is_finite()) {
            return Err(not_finite("loss", row));
        }
        let loss = rows.iter().fold(0.0, |sum, row| sum + row.loss) / total;
        if !loss.is_finite() {
            return Err(not_finite("mean loss", 0));
        }
        if let Some(row) = rows.iter().position(|row| !row.d_output.iter().all(|x| x.is_finite())) {
            return Err(not_finite("gradient", row));
        }

        let operand = batch.gradient_operand.unwrap_or(batch.queries);
        let cols = self.in_dim + usize::from(self.bias);
        let columns: Vec<Vec<f32>> =
            (0..self.out_dim).map(|r| rows.iter().map(|row| row.d_output[r]).collect()).collect();
        let d_weight =
            |r: usize, k: usize| reference::reference_d_weight(&columns[r], operand, self.in_dim, k);
        let squares = match norm_form(rows.len(), self.in_dim) {
            NormForm::Gram => {
                let d_outputs: Vec<f32> = rows.iter().flat_map(|row| row.d_output.clone()).collect();
                reference::reference_gram_norm(&d_outputs, self.out_dim, operand, self.in_dim, self.bias)
            }
            NormForm::Direct => reference::reference_direct_norm(self.out_dim, cols, d_weight),
        };
        let grad_norm = math::sqrt(squares);
        if !grad_norm.is_finite() {
            return Err(not_finite("gradient norm", 0));
        }

        let coef = math::min(1.0, self.optimizer.max_norm / (grad_norm + 1e-6));
        let factor = self.schedule.factor(self.state.steps);
        let state = OptimizerState {
            steps: self.state.steps.saturating_add(1),
            beta1_power: self.state.beta1_power * self.optimizer.beta1,
            beta2_power: self.state.beta2_power * self.optimizer.beta2,
        };
        let update = Update::new(&self.optimizer, &state, factor, coef)?;
        self.check_gradient(coef * grad_norm)?;

        for i in 0..self.weight.len() {
            let d = d_weight(i / cols, i % cols);
            let (w, m, v) =
                reference::reference_update(&update, d, self.anchor[i], self.weight[i], self.m[i], self.v[i]);
            (self.weight[i], self.m[i], self.v[i]) = (w, m, v);
        }
        self.state = state;
        Ok(StepReport {
            loss,
            grad_norm,
            clip_coefficient: coef,
            lr: self.optimizer.lr * factor,
            zero_rows: rows.iter().map(|row| u32::from(row.norm <= NORM_FLOOR)).sum(),
        })
    }

    /// Refuses what can be refused without arithmetic; the sum of the weights.
    fn check(&self, batch: &Batch<'_>, documents: &[f32]) -> Result<f32, Error> {
        let check_len = |what, needed, given| match needed == given {
            true => Ok(()),
            false => Err(Error::Length { what, needed, given }),
        };
        let rows = batch.targets.len();
        if rows == 0 {
            return Err(Error::Length { what: "targets", needed: 1, given: 0 });
        }
        check_len("queries", rows * self.in_dim, batch.queries.len())?;
        if let Some(operand) = batch.gradient_operand {
            check_len("gradient_operand", rows * self.in_dim, operand.len())?;
        }
        check_len("weights", rows, batch.weights.len())?;
        let candidates = documents.len() / self.out_dim;
        check_len("documents", candidates.max(1) * self.out_dim, documents.len())?;

        let mut total = 0.0;
        for row in 0..rows {
            let (target, weight) = (batch.targets[row], batch.weights[row]);
            if target as usize >= candidates {
                return Err(Error::Target { row, target, candidates });
            }
            if !(0.0..f32::INFINITY).contains(&weight) {
                return Err(Error::Weight { row });
            }
            total += weight;
        }
        for (index, entry) in batch.mask.iter().enumerate() {
            let masked: Vec<usize> = (0..16usize)
                .filter(|lane| entry.lanes & (1 << lane) != 0)
                .map(|lane| entry.panel as usize * 16 + lane)
                .collect();
            let in_order = index == 0 || {
                let before = batch.mask[index - 1];
                (before.panel, before.candidate) < (entry.panel, entry.candidate)
            };
            let in_range = !masked.is_empty()
                && masked.iter().all(|row| *row < rows)
                && (entry.candidate as usize) < candidates;
            if !(in_order && in_range) {
                return Err(Error::Mask { index });
            }
            if let Some(&row) = masked.iter().find(|row| batch.targets[**row] == entry.candidate) {
                return Err(Error::MaskedTarget { row });
            }
        }
        if total > 0.0 && total.is_finite() { Ok(total) } else { Err(Error::TotalWeight) }
    }

    /// Forward, loss and backward of one query.
    fn row(&self, batch: &Batch<'_>, documents: &[f32], row: usize, total: f32) -> Row {
        let query = &batch.queries[row * self.in_dim..][..self.in_dim];
        let mut output: Vec<f32> = self
            .weight
            .chunks_exact(self.in_dim + usize::from(self.bias))
            .map(|w| {
                let acc = query.iter().zip(w).fold(0.0, |acc, (q, w)| math::fma(*w, *q, acc));
                if self.bias { math::fma(w[self.in_dim], 1.0, acc) } else { acc }
            })
            .collect();
        let (norm, inverse) = reference::reference_normalize(&mut output);
        let documents = documents.chunks_exact(self.out_dim);
        let mut scores: Vec<f32> = documents
            .clone()
            .map(|document| self.scale * reference::reference_cosine_score(&output, document))
            .collect();
        let loss = if norm <= NORM_FLOOR {
            scores.fill(0.0);
            0.0
        } else {
            let masked = |j: usize| {
                batch.mask.iter().any(|entry| {
                    (entry.panel as usize, entry.candidate as usize) == (row / 16, j)
                        && entry.lanes & (1 << (row % 16)) != 0
                })
            };
            let (target, weight) = (batch.targets[row] as usize, batch.weights[row]);
            let factor = (weight * self.scale) / total;
            reference::reference_softmax_cross_entropy(&mut scores, target, weight, factor, masked)
        };
        let mut d_output: Vec<f32> = (0..self.out_dim)
            .map(|k| {
                let terms = scores.iter().zip(documents.clone());
                terms.fold(0.0, |acc, (s, document)| math::fma(*s, document[k], acc))
            })
            .collect();
        reference::reference_normalize_backward(&output, inverse, &mut d_output);
        Row { norm, loss, d_output }
    }

    /// Refuses a gradient whose square could overflow the second moment; Adam's includes its decay, which is NaN where 0 times
    /// an infinite difference is.
    fn check_gradient(&self, clipped_norm: f32) -> Result<(), Error> {
        let mut largest = clipped_norm;
        if self.optimizer.kind == OptimizerKind::Adam {
            let max_abs = |values: &[f32]| values.iter().fold(0.0, |max, x| math::max(max, x.abs()));
            largest += self.optimizer.weight_decay * (max_abs(&self.weight) + max_abs(&self.anchor));
        }
        if largest <= GRADIENT_LIMIT { Ok(()) } else { Err(Error::GradientTooLarge) }
    }
}

/// All candidates, row-major.
fn rows_of(documents: Documents<'_>, dim: usize) -> Vec<f32> {
    match documents {
        Documents::Rows(rows) => rows.to_vec(),
        Documents::Blocks { source, .. } => {
            let mut rows = vec![0.0; source.count() * dim];
            source.copy_rows(0, &mut rows);
            rows
        }
    }
}

/// Documents in memory, given out block by block.
pub(crate) struct Stored<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) dim: usize,
}

impl DocumentBlocks for Stored<'_> {
    fn count(&self) -> usize {
        self.rows.len() / self.dim
    }

    fn copy_rows(&self, first: usize, rows: &mut [f32]) {
        rows.copy_from_slice(&self.rows[first * self.dim..][..rows.len()]);
    }
}
