//! An independent oracle: the reference system's formulas in `f64`, written straight from their definitions.
//!
//! It shares nothing with what it judges: no code, no order of operations, no data layout, no approximation. Matrices
//! are nalgebra's; `exp`, `ln`, `log2` and `cos` are the platform's, so no result of this module may reach a file.
//! A test keeps the rest of the project out of here.

use core::cmp::Ordering;
use core::f64::consts::PI;

use nalgebra::DMatrix;

/// A matrix of `f64`.
pub type Matrix = DMatrix<f64>;

/// Norms at or below this count as zero.
pub const NORM_FLOOR: f64 = 1e-12;

/// Who computes: [`Exact`], or a model of a machine that rounds more coarsely.
///
/// The operations of the formulas go through here, so that the same formulas also tell what rounding does to them.
pub trait Arithmetic {
    /// What becomes of the result of one operation.
    fn round(&mut self, x: f64) -> f64;

    /// `a × b`.
    fn product(&mut self, a: &Matrix, b: &Matrix) -> Matrix;

    /// The sum of the terms.
    fn sum(&mut self, terms: impl IntoIterator<Item = f64>) -> f64 {
        let mut sum = 0.0;
        for term in terms {
            sum = self.round(sum + term);
        }
        sum
    }
}

/// `f64` as it is.
#[derive(Clone, Copy, Debug)]
pub struct Exact;

impl Arithmetic for Exact {
    fn round(&mut self, x: f64) -> f64 {
        x
    }

    fn product(&mut self, a: &Matrix, b: &Matrix) -> Matrix {
        a * b
    }
}

/// `W q + b` for each row of `queries` (`rows × in`): `rows × out`. With `bias` the last column of `weight` is `b`.
pub fn forward(arithmetic: &mut impl Arithmetic, weight: &Matrix, bias: bool, queries: &Matrix) -> Matrix {
    arithmetic.product(&with_ones(queries, bias), &weight.transpose())
}

/// The matrix and, with `bias`, a column of ones behind it, which the bias multiplies.
fn with_ones(matrix: &Matrix, bias: bool) -> Matrix {
    let columns = matrix.ncols();
    let matrix = matrix.clone();
    if bias { matrix.insert_column(columns, 1.0) } else { matrix }
}

/// The Euclidean norm of the values.
pub fn norm<'a>(arithmetic: &mut impl Arithmetic, values: impl IntoIterator<Item = &'a f64>) -> f64 {
    let squares = arithmetic.sum(values.into_iter().map(|x| x * x));
    arithmetic.round(squares.sqrt())
}

/// One batch of the contrastive loss.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `rows × in`.
    pub queries: Matrix,
    /// `rows × in`: the right-hand operand of the gradient of the weight; the queries, unless preconditioned.
    pub operand: Matrix,
    /// `candidates × out`, each of norm 1.
    pub documents: Matrix,
    /// For each row its positive among the candidates.
    pub targets: Vec<usize>,
    /// For each row its weight in the mean.
    pub weights: Vec<f64>,
    /// `rows × candidates`: what must not count as a negative.
    pub masked: DMatrix<bool>,
}

/// The loss of a batch, and its gradient with respect to the adapter's outputs.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The weighted mean over the rows.
    pub mean: f64,
    /// `rows × out`.
    pub d_outputs: Matrix,
    /// Rows whose output has no direction: they have no loss and no gradient.
    pub zero_rows: usize,
}

/// The mean cross-entropy of `scale × cos(output, document)` against the targets; `outputs` is `rows × out`.
pub fn loss(arithmetic: &mut impl Arithmetic, scale: f64, batch: &Batch, outputs: &Matrix) -> Loss {
    let norms: Vec<f64> = outputs.row_iter().map(|row| norm(arithmetic, row.iter())).collect();
    let inverse: Vec<f64> = norms.iter().map(|norm| arithmetic.round(1.0 / norm.max(NORM_FLOOR))).collect();
    let mut units = outputs.clone();
    for (mut unit, inverse) in units.row_iter_mut().zip(&inverse) {
        unit.iter_mut().for_each(|x| *x = arithmetic.round(*x * inverse));
    }

    let cosines = arithmetic.product(&units, &batch.documents.transpose());
    let total = arithmetic.sum(batch.weights.iter().copied());
    let mut sum = 0.0;
    let mut zero_rows = 0;
    let mut d_cosines = Matrix::zeros(cosines.nrows(), cosines.ncols());
    for (row, norm) in norms.iter().enumerate() {
        if *norm <= NORM_FLOOR {
            zero_rows += 1;
            continue;
        }
        let (target, weight) = (batch.targets[row], batch.weights[row]);
        let candidates: Vec<usize> = (0..cosines.ncols()).filter(|&j| !batch.masked[(row, j)]).collect();
        let scores: Vec<f64> =
            candidates.iter().map(|&j| arithmetic.round(scale * cosines[(row, j)])).collect();
        let target_place = candidates.iter().position(|&j| j == target).unwrap_or(usize::MAX);
        let (loss, d_scores) = cross_entropy(arithmetic, &scores, target_place);
        let weighted = arithmetic.round(weight * loss);
        sum = arithmetic.round(sum + weighted);
        let share = arithmetic.round(weight * scale / total);
        for (j, d_score) in candidates.into_iter().zip(d_scores) {
            d_cosines[(row, j)] = arithmetic.round(d_score * share);
        }
    }

    // d(x ÷ ‖x‖) leaves only what stands at right angles to x.
    let mut d_outputs = arithmetic.product(&d_cosines, &batch.documents);
    for ((mut d_output, unit), inverse) in d_outputs.row_iter_mut().zip(units.row_iter()).zip(&inverse) {
        let along = arithmetic.sum(d_output.iter().zip(&unit).map(|(d, x)| d * x));
        for (d, x) in d_output.iter_mut().zip(&unit) {
            let across = arithmetic.round(*d - along * x);
            *d = arithmetic.round(across * inverse);
        }
    }
    Loss { mean: arithmetic.round(sum / total), d_outputs, zero_rows }
}

/// `−ln softmax(scores)[target]`, and its gradient with respect to the scores.
pub fn cross_entropy(arithmetic: &mut impl Arithmetic, scores: &[f64], target: usize) -> (f64, Vec<f64>) {
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut powers = Vec::with_capacity(scores.len());
    for score in scores {
        let below = arithmetic.round(score - greatest);
        powers.push(arithmetic.round(below.exp()));
    }
    let sum = arithmetic.sum(powers.iter().copied());
    let log_sum = arithmetic.round(sum.ln());
    let above_target = arithmetic.round(greatest - scores[target]);
    let mut d_scores = Vec::with_capacity(scores.len());
    for (place, power) in powers.into_iter().enumerate() {
        let p = arithmetic.round(power / sum);
        d_scores.push(if place == target { arithmetic.round(p - 1.0) } else { p });
    }
    (arithmetic.round(above_target + log_sum), d_scores)
}

/// The gradient of the weight, `out × in` with the bias as one more column: `dTᵀ × operand`.
pub fn d_weight(
    arithmetic: &mut impl Arithmetic,
    d_outputs: &Matrix,
    operand: &Matrix,
    bias: bool,
) -> Matrix {
    arithmetic.product(&d_outputs.transpose(), &with_ones(operand, bias))
}

/// The norm of the gradient of the weight, from its factors alone: `‖AᵀB‖² = Σᵢ Σⱼ (A Aᵀ)ᵢⱼ (B Bᵀ)ᵢⱼ`.
pub fn gram_norm(arithmetic: &mut impl Arithmetic, d_outputs: &Matrix, operand: &Matrix, bias: bool) -> f64 {
    let operand = with_ones(operand, bias);
    let a = arithmetic.product(d_outputs, &d_outputs.transpose());
    let b = arithmetic.product(&operand, &operand.transpose());
    let rows: Vec<f64> = a
        .row_iter()
        .zip(b.row_iter())
        .map(|(a, b)| arithmetic.sum(a.iter().zip(&b).map(|(a, b)| a * b)))
        .collect();
    let squares = arithmetic.sum(rows);
    arithmetic.round(squares.max(0.0).sqrt())
}

/// Whether the norm of the gradient of a batch of so many rows is taken from the gradient's factors.
#[must_use]
pub fn takes_gram_norm(rows: usize, in_dim: usize) -> bool {
    rows * rows <= 8 * in_dim
}

/// The norm of the gradient of the weight in the form that its shape asks for.
pub fn gradient_norm(
    arithmetic: &mut impl Arithmetic,
    d_outputs: &Matrix,
    operand: &Matrix,
    d_weight: &Matrix,
    bias: bool,
) -> f64 {
    if takes_gram_norm(operand.nrows(), operand.ncols()) {
        gram_norm(arithmetic, d_outputs, operand, bias)
    } else {
        let columns: Vec<f64> =
            d_weight.column_iter().map(|column| norm(arithmetic, column.iter())).collect();
        norm(arithmetic, &columns)
    }
}

/// What a gradient is multiplied by so that its norm is at most `max_norm`, in PyTorch's form.
pub fn clip_coefficient(arithmetic: &mut impl Arithmetic, norm: f64, max_norm: f64) -> f64 {
    let norm = arithmetic.round(norm + 1e-6);
    arithmetic.round(max_norm / norm).min(1.0)
}

/// An update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `w −= lr × g`; the decay is part of `g`.
    Sgd,
    /// Kingma and Ba, 2015; the decay is part of `g`.
    Adam,
    /// Loshchilov and Hutter, 2019: the decay stands beside `g`.
    AdamW,
}

/// How the learning rate goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Along a line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

/// A learning rate over a run, as a factor.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// After the warm-up.
    pub decay: Decay,
    /// Steps of warm-up along a line from 0.
    pub warmup: u32,
    /// Steps of the run.
    pub total: u32,
}

impl Schedule {
    /// The factor of a step, counted from 0.
    #[must_use]
    pub fn factor(&self, step: u32) -> f64 {
        let (step, warmup, total) = (f64::from(step), f64::from(self.warmup), f64::from(self.total));
        if step < warmup {
            return step / warmup.max(1.0);
        }
        let length = (total - warmup).max(1.0);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => ((total - step) / length).max(0.0),
            Decay::Cosine => 0.5 * (1.0 + (PI * ((step - warmup) / length).min(1.0)).cos()),
        }
    }
}

/// Settings of a training run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The update rule.
    pub rule: Rule,
    /// The learning rate, before the schedule.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Strength of the decay toward the anchor.
    pub weight_decay: f64,
    /// The greatest norm of a gradient.
    pub max_norm: f64,
    /// What cosines are multiplied by.
    pub scale: f64,
    /// The schedule.
    pub schedule: Schedule,
}

/// A training run.
#[derive(Clone, Debug)]
pub struct Training {
    /// Its settings.
    pub settings: Settings,
    /// `out × in`, and with `bias` one more column.
    pub weight: Matrix,
    /// Whether the last column is the bias.
    pub bias: bool,
    /// Where the decay leads, as `weight`.
    pub anchor: Matrix,
    /// First moments, as `weight`.
    pub m: Matrix,
    /// Second moments, as `weight`.
    pub v: Matrix,
    /// Steps taken.
    pub steps: u32,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The mean loss before the update.
    pub loss: f64,
    /// The norm of the gradient before clipping.
    pub grad_norm: f64,
    /// What the gradient was multiplied by.
    pub clip_coefficient: f64,
    /// The learning rate.
    pub lr: f64,
}

impl Training {
    /// A run that has not begun.
    #[must_use]
    pub fn new(settings: Settings, weight: Matrix, bias: bool, anchor: Matrix) -> Self {
        let zeros = Matrix::zeros(weight.nrows(), weight.ncols());
        Self { settings, weight, bias, anchor, m: zeros.clone(), v: zeros, steps: 0 }
    }

    /// One step on one batch: forward, backward, clip, update.
    pub fn step(&mut self, arithmetic: &mut impl Arithmetic, batch: &Batch) -> Report {
        let outputs = forward(arithmetic, &self.weight, self.bias, &batch.queries);
        let loss = loss(arithmetic, self.settings.scale, batch, &outputs);
        let mut gradient = d_weight(arithmetic, &loss.d_outputs, &batch.operand, self.bias);
        let grad_norm = gradient_norm(arithmetic, &loss.d_outputs, &batch.operand, &gradient, self.bias);
        let clip_coefficient = clip_coefficient(arithmetic, grad_norm, self.settings.max_norm);
        gradient.iter_mut().for_each(|g| *g = arithmetic.round(*g * clip_coefficient));
        let lr = self.update(arithmetic, &gradient);
        Report { loss: loss.mean, grad_norm, clip_coefficient, lr }
    }

    /// The update by a gradient that is clipped already; returns the learning rate.
    pub fn update(&mut self, arithmetic: &mut impl Arithmetic, gradient: &Matrix) -> f64 {
        let Settings { rule, beta1, beta2, eps, weight_decay, .. } = self.settings;
        let factor = arithmetic.round(self.settings.schedule.factor(self.steps));
        let lr = arithmetic.round(self.settings.lr * factor);
        self.steps += 1;
        let correction1 = 1.0 - power(arithmetic, beta1, self.steps);
        let correction2 = 1.0 - power(arithmetic, beta2, self.steps);
        for (place, gradient) in gradient.iter().enumerate() {
            let (m, v) = (&mut self.m[place], &mut self.v[place]);
            let w = &mut self.weight[place];
            let pull = arithmetic.round(weight_decay * (*w - self.anchor[place]));
            let g = if rule == Rule::AdamW { *gradient } else { arithmetic.round(gradient + pull) };
            if rule == Rule::Sgd {
                *w = arithmetic.round(*w - lr * g);
                continue;
            }
            let (new, square) =
                (arithmetic.round((1.0 - beta1) * g), arithmetic.round((1.0 - beta2) * g * g));
            *m = arithmetic.round(beta1 * *m + new);
            *v = arithmetic.round(beta2 * *v + square);
            if rule == Rule::AdamW {
                *w = arithmetic.round(*w - lr * pull);
            }
            let m_hat = arithmetic.round(*m / correction1);
            let root = arithmetic.round((*v / correction2).sqrt());
            let ratio = arithmetic.round(m_hat / (root + eps));
            *w = arithmetic.round(*w - lr * ratio);
        }
        lr
    }
}

/// `base` to the power of `exponent`.
fn power(arithmetic: &mut impl Arithmetic, base: f64, exponent: u32) -> f64 {
    (0..exponent).fold(1.0, |power, _| arithmetic.round(power * base))
}

/// One query's documents in the order of their scores, as the gains of the metrics' formulas.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// The gain of the document at each rank; 0 for one that is not relevant.
    pub gains: Vec<f64>,
    /// The gains of all relevant documents, the greatest first.
    pub ideal: Vec<f64>,
}

impl Ranking {
    /// Sorts all documents, the highest score first, equal scores by ascending id (bytes). A document with a grade
    /// above 0 is relevant, and its grade is its gain. No score is NaN.
    ///
    /// # Panics
    ///
    /// When the three lengths differ.
    #[must_use]
    pub fn new(scores: &[f64], ids: &[&str], grades: &[f64]) -> Self {
        assert!(scores.len() == ids.len() && ids.len() == grades.len(), "one score, id and grade a document");
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let by_score = |a: usize, b: usize| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal);
        order.sort_by(|&a, &b| by_score(a, b).then_with(|| ids[a].cmp(ids[b])));
        let gain = |document: &usize| grades[*document].max(0.0);
        let mut ideal: Vec<f64> = grades.iter().copied().filter(|grade| *grade > 0.0).collect();
        ideal.sort_by(|a, b| b.total_cmp(a));
        Self { gains: order.iter().map(gain).collect(), ideal }
    }

    /// The ranks, from 1 to `k`, of relevant documents.
    fn hits(&self, k: usize) -> Vec<usize> {
        (1..).zip(&self.gains).take(k).filter(|(_, gain)| **gain > 0.0).map(|(rank, _)| rank).collect()
    }

    /// 1 when a relevant document is among the first `k`, else 0.
    #[must_use]
    pub fn hit_rate(&self, k: usize) -> f64 {
        if self.hits(k).is_empty() { 0.0 } else { 1.0 }
    }

    /// The share of the first `k` places that relevant documents take.
    #[must_use]
    pub fn precision(&self, k: usize) -> f64 {
        count(self.hits(k).len()) / count(k)
    }

    /// The share of the relevant documents that is among the first `k`.
    #[must_use]
    pub fn recall(&self, k: usize) -> f64 {
        count(self.hits(k).len()) / count(self.ideal.len())
    }

    /// 1 ÷ the rank of the first relevant document, 0 when it is after `k`.
    #[must_use]
    pub fn mrr(&self, k: usize) -> f64 {
        self.hits(k).first().map_or(0.0, |rank| 1.0 / count(*rank))
    }

    /// Σ gain ÷ log₂(rank + 1) over the first `k`, divided by the same sum for the best order.
    #[must_use]
    pub fn ndcg(&self, k: usize) -> f64 {
        let discounted = |gains: &[f64]| -> f64 {
            (1..).zip(gains).take(k).map(|(rank, gain)| gain / count(rank + 1).log2()).sum()
        };
        discounted(&self.gains) / discounted(&self.ideal)
    }

    /// The precisions at the ranks of the relevant documents up to `k`, summed and divided by the number of relevant
    /// documents, or by `k` when that is less.
    #[must_use]
    pub fn map(&self, k: usize) -> f64 {
        let sum: f64 = self.hits(k).iter().map(|&rank| self.precision(rank)).sum();
        sum / count(self.ideal.len().min(k))
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of documents are far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}
