//! What follows from the second moments of the queries: the gradient operand of a second-order step.
//!
//! All sums are `f64` in a stated order, so that it has the same bits on every machine.

use core::num::NonZeroUsize;

use query_adapter::{Lanes, Level, Linear, linear_len};

use crate::failure::Failure;
use crate::parallel::in_pieces;
use crate::retrieval_task::RetrievalTask;

/// Vectors whose outer products are added while a row of the sum is in the first-level cache.
const BLOCK: usize = 64;

/// Rows of a sum that are one thread's work.
const ROWS: usize = 16;

/// The operand of every query of a task, row-major: `Q P`, with `P` of [`inverse_moments`].
///
/// # Errors
///
/// As [`inverse_moments`].
pub(crate) fn preconditioned_queries(
    task: &RetrievalTask,
    damping: f32,
    level: Level,
    threads: NonZeroUsize,
) -> Result<Vec<f32>, Failure> {
    let dim = task.dim();
    let inverse = inverse_moments(task, damping, threads)?;
    let mut product =
        Linear::identity(dim, dim, false, vec![Lanes::ZERO; linear_len(dim, dim, false)], level)?;
    product.set_weight(&in_f32(&inverse))?;
    let mut queries = Vec::with_capacity(task.queries().len() * dim);
    for query in 0..task.queries().len() {
        queries.extend_from_slice(task.query_vector(query));
    }
    let mut operand = vec![0.0; queries.len()];
    product.apply_batch(&queries, &mut operand)?;
    Ok(operand)
}

/// The mean of the outer products of a task's queries, divided by its trace, `dim × dim`.
#[derive(Debug)]
pub(crate) struct SecondMoments(Vec<f64>);

impl SecondMoments {
    pub(crate) fn of(task: &RetrievalTask, threads: NonZeroUsize) -> Result<Self, Failure> {
        let (dim, count) = (task.dim(), task.queries().len());
        let mut moments = outer_products(threads, dim, count, |at, vectors| {
            vectors.extend(task.query_vector(at).iter().map(|&x| f64::from(x)));
        })?;
        let trace: f64 = (0..dim).map(|i| moments[i * dim + i]).sum();
        moments.iter_mut().for_each(|moment| *moment /= trace);
        Ok(Self(moments))
    }
}

/// `P = (C ÷ s + damping ÷ dim × I)⁻¹`, where `C` is the mean of the outer products of a task's queries and `s` its trace.
/// `P` is symmetric; it does not depend on the queries' length.
///
/// # Errors
///
/// [`Failure::Numerical`] when `P` has no values in `f32`: the queries are all zero, or `damping` is far too small.
fn inverse_moments(task: &RetrievalTask, damping: f32, threads: NonZeroUsize) -> Result<Vec<f64>, Failure> {
    let dim = task.dim();
    let mut damped = task.second_moments(threads)?.0.clone();
    for i in 0..dim {
        damped[i * dim + i] += f64::from(damping) / dim as f64;
    }
    let inverse = invert(damped, dim);
    if !in_f32(&inverse).iter().all(|x| x.is_finite()) {
        return Err(Failure::Numerical(
            "the second moments of the training queries have no inverse; use a greater --precondition"
                .to_owned(),
        ));
    }
    Ok(inverse)
}

#[allow(clippy::cast_possible_truncation, reason = "the kernel works in f32")]
fn in_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

/// The sum of the outer products of `count` vectors with themselves, in their order, `dim × dim`. `push` adds a vector.
fn outer_products(
    threads: NonZeroUsize,
    dim: usize,
    count: usize,
    push: impl Fn(usize, &mut Vec<f64>) + Sync,
) -> Result<Vec<f64>, Failure> {
    let pieces = in_pieces(threads, dim.div_ceil(ROWS), Vec::new, |vectors, piece| {
        let rows = piece * ROWS..((piece + 1) * ROWS).min(dim);
        let mut sums = vec![0.0; rows.len() * dim];
        for first in (0..count).step_by(BLOCK) {
            vectors.clear();
            (first..(first + BLOCK).min(count)).for_each(|at| push(at, vectors));
            for (i, sums) in rows.clone().zip(sums.chunks_exact_mut(dim)) {
                for vector in vectors.chunks_exact(dim) {
                    add_scaled(sums, vector[i], vector);
                }
            }
        }
        Ok(sums)
    })?;
    Ok(pieces.concat())
}

/// The inverse of a positive definite matrix, of which only the lower triangle is read.
fn invert(mut a: Vec<f64>, dim: usize) -> Vec<f64> {
    // A = L Lᵀ, L in place of the lower triangle.
    for i in 0..dim {
        let (above, row) = a.split_at_mut(i * dim);
        let row = &mut row[..=i];
        for j in 0..i {
            let other = &above[j * dim..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
    }
    // L⁻¹, row by row in place of L.
    let mut row = vec![0.0; dim];
    for i in 0..dim {
        let (above, here) = a.split_at_mut(i * dim);
        let here = &mut here[..=i];
        row[..i].fill(0.0);
        for j in 0..i {
            add_scaled(&mut row[..=j], -here[j], &above[j * dim..][..=j]);
        }
        let pivot = here[i];
        for j in 0..i {
            here[j] = row[j] / pivot;
        }
        here[i] = 1.0 / pivot;
    }
    // A⁻¹ = L⁻ᵀ L⁻¹.
    let mut inverse = vec![0.0; dim * dim];
    for k in 0..dim {
        let row = &a[k * dim..][..=k];
        for i in 0..=k {
            add_scaled(&mut inverse[i * dim..][..=i], row[i], &row[..=i]);
        }
    }
    for i in 0..dim {
        for j in 0..i {
            inverse[j * dim + i] = inverse[i * dim + j];
        }
    }
    inverse
}

/// `sums += factor × values`.
fn add_scaled(sums: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// In eight sums, each ascending, added in order; the rest after them.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        // By index: adapters made anew for every eight elements are not always compiled away.
        for at in 0..8 {
            sums[at] += a[at] * b[at];
        }
    }
    a_rest.iter().zip(b_rest).fold(sums.iter().sum(), |sum: f64, (a, b)| sum + a * b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_times_the_matrix_is_the_identity() {
        let dim = 21;
        // Positive definite: a diagonal that outweighs its row.
        let value =
            |i: usize, j: usize| if i == j { 30.0 } else { 1.0 / (1 + i.max(j) + 2 * i.min(j)) as f64 };
        let full: Vec<f64> = (0..dim * dim).map(|at| value(at / dim, at % dim)).collect();
        let mut lower = full.clone();
        for i in 0..dim {
            lower[i * dim + i + 1..(i + 1) * dim].fill(f64::NAN);
        }
        let inverse = invert(lower, dim);
        for i in 0..dim {
            for j in 0..dim {
                let found: f64 = (0..dim).map(|k| inverse[i * dim + k] * full[k * dim + j]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((found - expected).abs() < 1e-14, "({i}, {j}): {found}");
            }
        }
    }
}
