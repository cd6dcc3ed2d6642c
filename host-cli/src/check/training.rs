//! Fifty steps of each update rule: once with the kernel's own gradients, which shows the rule alone, and once as a
//! run of the oracle's own, in which every error goes on to the next step.
//!
//! An element whose gradient is little more than rounding errors is moved by Adam as far as any other, one way or
//! the other: `m ÷ √v` knows no magnitude. Of such an element the two runs rightly differ by a part of the learning
//! rate, and the runs that are rounded at random say by which part; no element is left out.

use query_adapter::{
    Anchor, Decay, Lanes, Level, Linear, Optimizer, OptimizerKind, Schedule, Trainer, scratch_len,
};

use super::cases::{Case, Extra, Shape, matrix, panels_of, row_major};
use super::one_step::kernel_gradient;
use super::rounding::{Tensor, max_norm, rounded_at_random};
use super::{Quantity, Sheet};
use crate::failure::Failure;
use crate::oracle::{self, Arithmetic, Exact, Matrix, Rule, Settings, Training};

/// Steps of a run.
const STEPS: u32 = 50;

/// Batches that a run goes through again and again.
const BATCHES: u64 = 5;

/// A batch for each form of the norm: 8² ≤ 8·17, 20² > 8·33. There are more outputs than inputs in one, so that the
/// identity ends before the bias does.
const SHAPES: [Shape; 2] = [
    Shape { sizes: [8, 12, 17, 20], extras: &[Extra::Bias, Extra::Weights, Extra::Mask] },
    Shape { sizes: [20, 20, 33, 20], extras: &[] },
];

/// The run is longer than what is looked at, so that its last learning rate is not 0.
const SCHEDULE: Schedule = Schedule { decay: Decay::Linear, warmup: 5, total: 60 };

/// Where the decay leads; each rule has another one.
#[derive(Clone, Copy)]
enum To {
    Zero,
    Identity,
    Noise,
}

/// Checks each rule on each shape.
pub(super) fn check(sheet: &mut Sheet, level: Level) -> Result<(), Failure> {
    // An eps of the size of the gradients shows where it stands.
    let rules = [
        ("AdamW", OptimizerKind::AdamW, Rule::AdamW, 1e-3, 1e-8, To::Identity),
        ("Adam", OptimizerKind::Adam, Rule::Adam, 1e-3, 1e-2, To::Noise),
        ("SGD", OptimizerKind::Sgd, Rule::Sgd, 0.1, 1.0, To::Zero),
    ];
    for (name, kind, rule, lr, eps, to) in rules {
        for shape in SHAPES {
            let optimizer =
                Optimizer { kind, eps, weight_decay: 0.02, max_norm: 0.5, ..Optimizer::adamw(lr) };
            check_rule(sheet, level, name, &Run::new(shape, optimizer, rule, to)?)?;
        }
    }
    Ok(())
}

fn check_rule(sheet: &mut Sheet, level: Level, name: &str, run: &Run) -> Result<(), Failure> {
    let kernel = run.by_kernel(level)?;
    let case = format!("{}, {STEPS} steps", run.cases[0].name);
    let lr = f64::from(run.optimizer.lr);
    let mut record = |what: &str, unit, scale: f64, tensor: Tensor<'_>| {
        tensor.record(sheet, Quantity { name: &format!("{name} {what}"), unit }, &case, scale);
    };

    let truth = run.by_oracle_with(&mut Exact, &kernel.gradients);
    let rounded = rounded_at_random(|arithmetic| run.by_oracle_with(arithmetic, &kernel.gradients));
    if run.optimizer.kind.has_moments() {
        let m = tensor(&kernel.m, &truth.m, rounded.iter().map(|run| &run.m));
        record("m", "of its largest element", max_norm(truth.m.as_slice()), m);
        let v = tensor(&kernel.v, &truth.v, rounded.iter().map(|run| &run.v));
        record("v", "of its largest element", max_norm(truth.v.as_slice()), v);
    }
    record("W", "lr", lr, tensor(&kernel.weight, &truth.weight, rounded.iter().map(|run| &run.weight)));

    let (truth, reports) = run.by_oracle(&mut Exact);
    let rounded = rounded_at_random(|arithmetic| run.by_oracle(arithmetic));
    let weights = rounded.iter().map(|(run, _)| &run.weight);
    record("run: W", "lr", lr, tensor(&kernel.weight, &truth.weight, weights));
    for (what, column) in [("losses", 0), ("norms", 1), ("learning rates", 2)] {
        let of = |reports: &Matrix| column * reports.nrows()..(column + 1) * reports.nrows();
        let truth = &reports.as_slice()[of(&reports)];
        let tensor = Tensor {
            found: &kernel.reports.as_slice()[of(&reports)],
            truth,
            rounded: rounded.iter().map(|(_, rounded)| &rounded.as_slice()[of(&reports)]).collect(),
        };
        record(&format!("run: {what}"), "of the largest", max_norm(truth), tensor);
    }
    Ok(())
}

fn tensor<'a>(
    found: &'a Matrix,
    truth: &'a Matrix,
    rounded: impl IntoIterator<Item = &'a Matrix>,
) -> Tensor<'a> {
    let rounded = rounded.into_iter().map(Matrix::as_slice).collect();
    Tensor { found: found.as_slice(), truth: truth.as_slice(), rounded }
}

fn rows(reports: &[[f64; 3]]) -> Matrix {
    Matrix::from_row_iterator(reports.len(), 3, reports.iter().flatten().copied())
}

/// What both train: batches, a start, settings.
struct Run {
    cases: Vec<Case>,
    optimizer: Optimizer,
    rule: Rule,
    to: To,
    /// Row-major, as the weight.
    noise: Vec<f32>,
}

/// What the kernel made of a run.
struct ByKernel {
    weight: Matrix,
    m: Matrix,
    v: Matrix,
    /// The clipped gradient of each step.
    gradients: Vec<Matrix>,
    /// A row for each step: loss, norm, learning rate.
    reports: Matrix,
}

impl Run {
    fn new(shape: Shape, optimizer: Optimizer, rule: Rule, to: To) -> Result<Self, Failure> {
        let cases = (0..BATCHES).map(|batch| shape.case(200 + batch)).collect::<Result<Vec<_>, _>>()?;
        let noise = shape.case(300)?.weight;
        Ok(Self { cases, optimizer, rule, to, noise })
    }

    /// The batches of the steps.
    fn batches(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().cycle().take(STEPS as usize)
    }

    fn by_kernel(&self, level: Level) -> Result<ByKernel, Failure> {
        let case = &self.cases[0];
        let (in_dim, out_dim, columns) = (case.in_dim, case.out_dim, case.columns());
        let weight = panels_of(&case.weight, columns)?;
        let len = if self.optimizer.kind.has_moments() { weight.len() } else { 0 };
        let moments = vec![Lanes::ZERO; len];
        let adapter = Linear::from_lanes(in_dim, out_dim, case.bias, weight, level)?;
        let mut trainer =
            Trainer::new(adapter, moments.clone(), moments, case.scale, self.optimizer, SCHEDULE)?;
        trainer.set_anchor(match self.to {
            To::Zero => Anchor::Zero,
            To::Identity => Anchor::Identity,
            To::Noise => Anchor::Weights(panels_of(&self.noise, columns)?),
        })?;
        let mut scratch = vec![Lanes::ZERO; scratch_len(case.rows(), case.candidates(), in_dim, out_dim)];
        let (mut gradients, mut reports) = (Vec::new(), Vec::new());
        for case in self.batches() {
            let weight = row_major(trainer.adapter().weight().as_lanes(), out_dim, columns)?;
            gradients.push(kernel_gradient(level, case, &weight, self.optimizer.max_norm)?.1);
            let report = trainer.step(&case.batch(), &mut scratch)?;
            reports.push([report.loss, report.grad_norm, report.lr].map(f64::from));
        }
        let values = |panels: &[Lanes]| -> Result<Matrix, Failure> {
            let rows = if panels.is_empty() { 0 } else { out_dim };
            Ok(matrix(&row_major(panels, rows, columns)?, columns))
        };
        let weight = values(trainer.adapter().weight().as_lanes())?;
        let (m, v) = (values(trainer.m())?, values(trainer.v())?);
        Ok(ByKernel { weight, m, v, gradients, reports: rows(&reports) })
    }

    /// The oracle's updates by the kernel's gradients.
    fn by_oracle_with(&self, arithmetic: &mut impl Arithmetic, gradients: &[Matrix]) -> Training {
        let mut training = self.oracle_training();
        for gradient in gradients {
            training.update(arithmetic, gradient);
        }
        training
    }

    /// The oracle's own run, and its reports as [`ByKernel::reports`].
    fn by_oracle(&self, arithmetic: &mut impl Arithmetic) -> (Training, Matrix) {
        let mut training = self.oracle_training();
        let mut reports = Vec::new();
        for case in self.batches() {
            let report = training.step(arithmetic, &case.oracle_batch());
            reports.push([report.loss, report.grad_norm, report.lr]);
        }
        (training, rows(&reports))
    }

    fn oracle_training(&self) -> Training {
        let case = &self.cases[0];
        let weight = case.oracle_weight();
        let anchor = match self.to {
            To::Zero => Matrix::zeros(weight.nrows(), weight.ncols()),
            To::Identity => Matrix::from_fn(weight.nrows(), weight.ncols(), |r, k| {
                if r == k && k < case.in_dim { 1.0 } else { 0.0 }
            }),
            To::Noise => matrix(&self.noise, case.columns()),
        };
        let optimizer = &self.optimizer;
        let Schedule { warmup, total, .. } = SCHEDULE;
        let settings = Settings {
            rule: self.rule,
            lr: f64::from(optimizer.lr),
            beta1: f64::from(optimizer.beta1),
            beta2: f64::from(optimizer.beta2),
            eps: f64::from(optimizer.eps),
            weight_decay: f64::from(optimizer.weight_decay),
            max_norm: f64::from(optimizer.max_norm),
            scale: f64::from(case.scale),
            schedule: oracle::Schedule { decay: oracle::Decay::Linear, warmup, total },
        };
        Training::new(settings, weight, case.bias, anchor)
    }
}
