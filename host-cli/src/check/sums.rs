//! Sums of products and what is nearly one: the forward pass, normalisation, cosines.

use query_adapter::{Lanes, Level, Linear, PanelMatrix, cosine_scores, normalize_rows, panel_len};

use super::cases::{Case, panels_of};
use super::rounding::{ROUNDOFF, SECOND_ORDER, SUBNORMAL_ROUNDOFF};
use super::{Comparison, Quantity, Sheet};
use crate::failure::Failure;
use crate::oracle::NORM_FLOOR;

/// Each of the n fused multiply-adds of a chain rounds once and so adds at most 2⁻²⁴ of its own result, a partial sum:
/// |error| ≤ 2⁻²⁴·Σ|partial sum| ≤ n·2⁻²⁴·Σ|x·y|. The bias is one more term.
const FORWARD: Quantity<'_> = Quantity { name: "forward", unit: "2⁻²⁴·Σ|partial sum|" };

/// The sum of squares S is off by 2⁻²⁴·Σ partial sums ÷ S of itself, of which the root leaves half; the root, the division
/// and the multiplication round once each: 2⁻²⁴·|x̂|·(Σ partial sums ÷ 2S + 3), at most 2⁻²⁴·|x̂|·(n/2 + 3).
const NORMALIZE: Quantity<'_> = Quantity { name: "normalisation", unit: "of the worst case" };

/// The factor of the query's normalisation, then the multiplication by it, in each term, then the chain over the terms:
/// 2⁻²⁴·(|cos|·(Σ partial sums ÷ 2S + 2) + Σ|x̂·d| + Σ|partial sum|).
const COSINE: Quantity<'_> = Quantity { name: "cosine", unit: "of the worst case" };

/// Checks the three on one case.
pub(super) fn check(sheet: &mut Sheet, level: Level, case: &Case) -> Result<(), Failure> {
    let Case { in_dim, out_dim, bias, .. } = *case;
    let (rows, candidates) = (case.rows(), case.candidates());

    let adapter = Linear::from_lanes(in_dim, out_dim, bias, panels_of(&case.weight, case.columns())?, level)?;
    let mut outputs = vec![0.0; rows * out_dim];
    adapter.apply_batch(&case.queries, &mut outputs)?;
    let pairs = case
        .queries
        .chunks_exact(in_dim)
        .flat_map(|query| case.weight.chunks_exact(case.columns()).map(move |weight| (query, weight)));
    let comparisons = outputs.iter().zip(pairs).map(|(&found, (query, weight))| {
        let chain = Chain::new(query.iter().chain(&[1.0]), weight);
        Comparison { found: f64::from(found), truth: chain.sum, unit: chain.unit() }
    });
    sheet.record(FORWARD, &case.name, 1.0, comparisons);

    let mut units = outputs.clone();
    normalize_rows(level, &mut units, out_dim)?;
    let pairs = units.iter().zip(outputs.chunks_exact(out_dim).flat_map(|row| {
        let squares = Chain::new(row, row);
        row.iter().map(move |x| (f64::from(*x) / squares.norm(), squares.relative() / 2.0))
    }));
    let comparisons = pairs.map(|(&found, (truth, root))| {
        let unit = ROUNDOFF * truth.abs() * (root + 3.0) * SECOND_ORDER + SUBNORMAL_ROUNDOFF;
        Comparison { found: f64::from(found), truth, unit }
    });
    sheet.record(NORMALIZE, &case.name, 1.0, comparisons);

    let mut scratch = vec![Lanes::ZERO; panel_len(rows, out_dim)];
    let mut scores = vec![Lanes::ZERO; panel_len(rows, candidates)];
    cosine_scores(level, &outputs, &case.documents, out_dim, &mut scratch, &mut scores)?;
    let mut found = vec![0.0; rows * candidates];
    PanelMatrix::new(rows, candidates, scores)?.copy_to_row_major(&mut found)?;
    let pairs = outputs
        .chunks_exact(out_dim)
        .flat_map(|query| case.documents.chunks_exact(out_dim).map(move |document| (query, document)));
    let comparisons = found.iter().zip(pairs).map(|(&found, (query, document))| {
        let (squares, dot) = (Chain::new(query, query), Chain::new(query, document));
        let norm = squares.norm();
        let truth = dot.sum / norm;
        let normalisation = truth.abs() * (squares.relative() / 2.0 + 2.0) + dot.absolute / norm;
        let unit = ROUNDOFF * (normalisation + dot.partial_sums / norm) * SECOND_ORDER + SUBNORMAL_ROUNDOFF;
        Comparison { found: f64::from(found), truth, unit }
    });
    sheet.record(COSINE, &case.name, 1.0, comparisons);
    Ok(())
}

/// A sum of products in `f64`, and what says how far a chain of fused multiply-adds in `f32` may be from it.
#[derive(Clone, Copy)]
struct Chain {
    sum: f64,
    /// Σ|x·y|.
    absolute: f64,
    /// The sum of the absolute values of all partial sums.
    partial_sums: f64,
}

impl Chain {
    /// Over as many terms as the shorter operand has.
    fn new<'a>(x: impl IntoIterator<Item = &'a f32>, y: impl IntoIterator<Item = &'a f32>) -> Self {
        let mut chain = Self { sum: 0.0, absolute: 0.0, partial_sums: 0.0 };
        for (x, y) in x.into_iter().zip(y) {
            let term = f64::from(*x) * f64::from(*y);
            chain.sum += term;
            chain.absolute += term.abs();
            chain.partial_sums += chain.sum.abs();
        }
        chain
    }

    /// The most that rounding may do.
    fn unit(&self) -> f64 {
        ROUNDOFF * self.partial_sums * SECOND_ORDER + SUBNORMAL_ROUNDOFF
    }

    /// Of a sum of squares: what one divides by to normalise.
    fn norm(&self) -> f64 {
        self.sum.sqrt().max(NORM_FLOOR)
    }

    /// Of a sum of squares: Σ partial sums ÷ sum.
    fn relative(&self) -> f64 {
        if self.sum > 0.0 { self.partial_sums / self.sum } else { 0.0 }
    }
}
