//! The loss and its gradient, the norm and the clipping: one training step, as it is reported and as `m` keeps it.

use query_adapter::{
    Lanes, Level, Linear, NormForm, Optimizer, Schedule, StepReport, Trainer, norm_form, scratch_len,
};

use super::cases::{Case, matrix, panels_of, row_major};
use super::rounding::{Tensor, max_norm, record_number, rounded_at_random};
use super::{Comparison, Quantity, Sheet};
use crate::failure::Failure;
use crate::oracle::{self, Arithmetic, Exact, Matrix};

const LOSS: Quantity<'_> = Quantity { name: "loss", unit: "of the loss" };
const GRADIENT: Quantity<'_> = Quantity { name: "gradient", unit: "of its largest element" };
const DIFFERENCES: Quantity<'_> =
    Quantity { name: "gradient, by finite differences", unit: "of its largest element" };
const GRAM_NORM: Quantity<'_> = Quantity { name: "gradient norm, Gram form", unit: "of the norm" };
const DIRECT_NORM: Quantity<'_> = Quantity { name: "gradient norm, direct form", unit: "of the norm" };
const CLIP: Quantity<'_> = Quantity { name: "clip coefficient", unit: "of the coefficient" };
const CLIPPED: Quantity<'_> = Quantity { name: "clipped gradient", unit: "of its largest element" };

/// Below this a true gradient is none, and its errors count as they are: an output of one component has only two
/// directions, so nothing can turn it.
const NO_GRADIENT: f64 = 1e-9;

/// Checks all of them on one case.
pub(super) fn check(sheet: &mut Sheet, level: Level, case: &Case) -> Result<(), Failure> {
    let (weight, batch) = (case.oracle_weight(), case.oracle_batch());
    let unclipped = Truth::new(&mut Exact, case, &weight, &batch, f64::INFINITY);
    // Clipping that takes away half.
    let max_norm = if unclipped.norm > NO_GRADIENT { narrow(unclipped.norm / 2.0) } else { 1.0 };
    let truth = Truth::new(&mut Exact, case, &weight, &batch, f64::from(max_norm));
    let rounded =
        rounded_at_random(|arithmetic| Truth::new(arithmetic, case, &weight, &batch, f64::from(max_norm)));

    let (report, gradient) = kernel_gradient(level, case, &case.weight, f32::INFINITY)?;
    let (clipped_report, clipped) = kernel_gradient(level, case, &case.weight, max_norm)?;
    let unit = |x: f64| if x.abs() > NO_GRADIENT { x.abs() } else { 1.0 };

    let losses: Vec<f64> = rounded.iter().map(|run| run.loss).collect();
    let loss_unit = if truth.loss == 0.0 { 1.0 } else { truth.loss };
    record_number(sheet, LOSS, &case.name, [f64::from(report.loss), truth.loss, loss_unit], &losses);

    let tensor = Tensor {
        found: gradient.as_slice(),
        truth: truth.gradient.as_slice(),
        rounded: rounded.iter().map(|run| run.gradient.as_slice()).collect(),
    };
    let largest = unit(max_norm_of(&truth.gradient));
    tensor.record(sheet, GRADIENT, &case.name, largest);
    if case.operand.is_none() {
        let bound = tensor.bound() / largest + DIFFERENCES_ERROR;
        let comparisons = finite_differences(case, &weight, &batch)
            .into_iter()
            .map(|(place, truth)| Comparison { found: gradient[place], truth, unit: largest });
        sheet.record(DIFFERENCES, &case.name, bound, comparisons);
    }

    let norms: Vec<f64> = rounded.iter().map(|run| run.norm).collect();
    let quantity = match norm_form(case.rows(), case.in_dim) {
        NormForm::Gram => GRAM_NORM,
        NormForm::Direct => DIRECT_NORM,
    };
    let numbers = [f64::from(report.grad_norm), truth.norm, unit(truth.norm)];
    record_number(sheet, quantity, &case.name, numbers, &norms);

    let coefficients: Vec<f64> = rounded.iter().map(|run| run.coefficient).collect();
    let numbers = [f64::from(clipped_report.clip_coefficient), truth.coefficient, truth.coefficient];
    record_number(sheet, CLIP, &case.name, numbers, &coefficients);
    let tensor = Tensor {
        found: clipped.as_slice(),
        truth: truth.clipped.as_slice(),
        rounded: rounded.iter().map(|run| run.clipped.as_slice()).collect(),
    };
    tensor.record(sheet, CLIPPED, &case.name, unit(max_norm_of(&truth.clipped)));
    Ok(())
}

/// What the oracle says about one step.
struct Truth {
    loss: f64,
    gradient: Matrix,
    norm: f64,
    coefficient: f64,
    clipped: Matrix,
}

impl Truth {
    fn new(
        arithmetic: &mut impl Arithmetic,
        case: &Case,
        weight: &Matrix,
        batch: &oracle::Batch,
        max_norm: f64,
    ) -> Self {
        let outputs = oracle::forward(arithmetic, weight, case.bias, &batch.queries);
        let loss = oracle::loss(arithmetic, f64::from(case.scale), batch, &outputs);
        let gradient = oracle::d_weight(arithmetic, &loss.d_outputs, &batch.operand, case.bias);
        let norm = oracle::gradient_norm(arithmetic, &loss.d_outputs, &batch.operand, &gradient, case.bias);
        let coefficient = oracle::clip_coefficient(arithmetic, norm, max_norm);
        let clipped = gradient.map(|g| arithmetic.round(g * coefficient));
        Self { loss: loss.mean, gradient, norm, coefficient, clipped }
    }
}

/// One step that leaves the weight alone and the clipped gradient in `m`: with a `beta1` of 0, `m = 0·m + (1 − 0)·g`.
pub(super) fn kernel_gradient(
    level: Level,
    case: &Case,
    weight: &[f32],
    max_norm: f32,
) -> Result<(StepReport, Matrix), Failure> {
    let panels = panels_of(weight, case.columns())?;
    let moments = vec![Lanes::ZERO; panels.len()];
    let adapter = Linear::from_lanes(case.in_dim, case.out_dim, case.bias, panels, level)?;
    let optimizer = Optimizer { beta1: 0.0, weight_decay: 0.0, max_norm, ..Optimizer::adamw(0.0) };
    let mut trainer =
        Trainer::new(adapter, moments.clone(), moments, case.scale, optimizer, Schedule::CONSTANT)?;
    let scratch = scratch_len(case.rows(), case.candidates(), case.in_dim, case.out_dim);
    let report = trainer.step(&case.batch(), &mut vec![Lanes::ZERO; scratch])?;
    let gradient = row_major(trainer.m(), case.out_dim, case.columns())?;
    Ok((report, matrix(&gradient, case.columns())))
}

/// Multiplications that finite differences may cost for one case.
const DIFFERENCES_COST: usize = 1 << 25;

/// How far the weight is moved. The error of the formula below is h⁴·f⁽⁵⁾ ÷ 30, with |f⁽⁵⁾| of at most a few times
/// (scale × ‖q‖ ÷ ‖t‖)⁵, some 10⁸ here; and 1.5 roundings of the loss, up to 10⁻¹⁵ each, ÷ h. Both are below 10⁻⁹.
const H: f64 = 1e-4;
const DIFFERENCES_ERROR: f64 = 1e-8;

/// Derivatives of the loss by some elements of the weight, spread evenly, with their places.
fn finite_differences(case: &Case, weight: &Matrix, batch: &oracle::Batch) -> Vec<(usize, f64)> {
    let loss_at = |place: usize, distance: f64| {
        let mut moved = weight.clone();
        moved[place] += distance;
        let outputs = oracle::forward(&mut Exact, &moved, case.bias, &batch.queries);
        oracle::loss(&mut Exact, f64::from(case.scale), batch, &outputs).mean
    };
    let cost = 4 * case.rows() * weight.len();
    let step = weight.len().div_ceil((DIFFERENCES_COST / cost).max(1));
    (0..weight.len())
        .step_by(step)
        .map(|place| {
            let near = loss_at(place, H) - loss_at(place, -H);
            let far = loss_at(place, 2.0 * H) - loss_at(place, -2.0 * H);
            (place, (8.0 * near - far) / (12.0 * H))
        })
        .collect()
}

fn max_norm_of(matrix: &Matrix) -> f64 {
    max_norm(matrix.as_slice())
}

#[allow(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
fn narrow(x: f64) -> f32 {
    x as f32
}
