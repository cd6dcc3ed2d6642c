//! The bits of every SIMD level against those of plain scalar code.

use query_adapter::{
    Decay, Lanes, Level, Linear, Optimizer, Schedule, Trainer, cosine_scores, panel_len, scratch_len,
};

use super::cases::{Case, Extra, Shape, panels_of};
use super::{Comparison, Quantity, Sheet};
use crate::failure::Failure;

/// Steps of training.
const STEPS: u32 = 20;

/// A batch for each form of the norm: 20² ≤ 8·50 < 21².
const SHAPES: [Shape; 2] = [
    Shape { sizes: [20, 37, 50, 70], extras: &[Extra::Bias, Extra::Weights, Extra::Mask] },
    Shape { sizes: [21, 37, 50, 70], extras: &[Extra::Preconditioned] },
];

/// Checks each level: a forward pass, cosines and training, in both forms of the norm.
pub(super) fn check(sheet: &mut Sheet) -> Result<(), Failure> {
    for (shape, seed) in SHAPES.into_iter().zip(100..) {
        let case = shape.case(seed)?;
        let expected = all_bits(Level::SCALAR, &case)?;
        for level in Level::available() {
            let name = format!("bits on {}", level.name());
            let quantity = Quantity { name: &name, unit: "values that differ" };
            let differing = count_differing(&all_bits(level, &case)?, &expected);
            let name = format!("{}, {STEPS} steps", case.name);
            sheet.record(quantity, &name, 0.0, [Comparison::count(differing)]);
        }
    }
    Ok(())
}

/// The bits of all results of a case: outputs, cosines, and per step the loss, the norm and the clip coefficient, at
/// the end the weight and the moments.
fn all_bits(level: Level, case: &Case) -> Result<Vec<u32>, Failure> {
    let Case { in_dim, out_dim, bias, .. } = *case;
    let (rows, candidates) = (case.rows(), case.candidates());
    let mut values = vec![0.0; rows * out_dim];

    let weight = panels_of(&case.weight, case.columns())?;
    let moments = vec![Lanes::ZERO; weight.len()];
    let adapter = Linear::from_lanes(in_dim, out_dim, bias, weight, level)?;
    adapter.apply_batch(&case.queries, &mut values)?;

    let mut scratch = vec![Lanes::ZERO; panel_len(rows, out_dim)];
    let mut scores = vec![Lanes::ZERO; panel_len(rows, candidates)];
    cosine_scores(level, &values, &case.documents, out_dim, &mut scratch, &mut scores)?;
    values.extend(scores.iter().flat_map(|lanes| lanes.0));

    let schedule = Schedule { decay: Decay::Linear, warmup: STEPS / 10, total: STEPS };
    // At this rate the weight is another after twenty steps.
    let optimizer = Optimizer { max_norm: 0.5, ..Optimizer::adamw(0.03) };
    let mut trainer = Trainer::new(adapter, moments.clone(), moments, case.scale, optimizer, schedule)?;
    let mut scratch = vec![Lanes::ZERO; scratch_len(rows, candidates, in_dim, out_dim)];
    for _ in 0..STEPS {
        let report = trainer.step(&case.batch(), &mut scratch)?;
        values.extend([report.loss, report.grad_norm, report.clip_coefficient]);
    }
    let panels = [trainer.adapter().weight().as_lanes(), trainer.m(), trainer.v()];
    values.extend(panels.into_iter().flatten().flat_map(|lanes| lanes.0));
    Ok(values.into_iter().map(f32::to_bits).collect())
}

fn count_differing(found: &[u32], expected: &[u32]) -> usize {
    let longer = found.len().abs_diff(expected.len());
    longer + found.iter().zip(expected).filter(|(found, expected)| found != expected).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_noticed() {
        let case = SHAPES[0].case(1).expect("a case");
        let bits = all_bits(Level::SCALAR, &case).expect("results");
        let mut other = bits.clone();
        if let Some(last) = other.last_mut() {
            *last ^= 1;
        }
        assert_eq!((count_differing(&bits, &bits), count_differing(&other, &bits)), (0, 1));
        assert_eq!(count_differing(&bits[1..], &bits[..bits.len() - 1]).min(1), 1);
    }

    #[test]
    fn the_cases_have_both_forms_of_the_norm() {
        use query_adapter::{NormForm, norm_form};
        let forms = SHAPES.map(|shape| norm_form(shape.sizes[0].into(), shape.sizes[2].into()));
        assert_eq!(forms, [NormForm::Gram, NormForm::Direct]);
    }
}
