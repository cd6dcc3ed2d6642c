//! The training step as one would write it with a library for matrix products: the kernel's mathematics, the library's
//! seven products, and one vectorised pass for each thing between them.

use fearless_simd::{Bytes as _, Level, Simd, SimdBase as _, SimdFloat as _, dispatch, f32x16, i32x16};
use query_adapter::{LANES, Optimizer, math};

use super::{Layout, Matrix, Peer};
use crate::cases::random_rows;

/// AdamW on one problem, the one that [`cases::Step`](crate::cases::Step) has, but for rounding.
#[derive(Debug)]
pub struct PeerStep {
    peer: Peer,
    /// Of the weight, its gradient and its moments.
    layout: Layout,
    level: Level,
    dim: usize,
    rows: usize,
    candidates: usize,
    optimizer: Optimizer,
    steps: i32,
    weight: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    d_weight: Vec<f32>,
    /// `rows × dim`, as all that follow are row-major.
    queries: Vec<f32>,
    documents: Vec<f32>,
    /// `T`, then `t̂`.
    outputs: Vec<f32>,
    /// `dt̂`, then `dT`.
    d_outputs: Vec<f32>,
    /// `1 ÷ |t|` of each row.
    inverse: Vec<f32>,
    /// `rows × candidates`: scores, then their gradient.
    scores: Vec<f32>,
}

/// Factor of the cosines.
const SCALE: f32 = 20.0;

impl PeerStep {
    /// A step on `rows` queries and `candidates` documents, of `dim` elements each, with the weight in `layout`.
    ///
    /// # Panics
    /// When `dim` is no multiple of 16.
    #[must_use]
    pub fn new(peer: Peer, layout: Layout, dim: usize, rows: usize, candidates: usize) -> Self {
        assert_eq!(dim % LANES, 0, "the passes between the products have no code for a rest");
        let level = Level::new();
        let mut documents = random_rows(3, candidates, dim);
        for row in documents.chunks_exact_mut(dim) {
            dispatch!(level, s => normalize(s, row));
        }
        let mut weight = random_rows(1, dim, dim);
        if layout == Layout::ColumnMajor {
            let row_major = weight.clone();
            for (i, x) in weight.iter_mut().enumerate() {
                *x = row_major[(i % dim) * dim + i / dim];
            }
        }
        Self {
            peer,
            layout,
            level,
            dim,
            rows,
            candidates,
            optimizer: Optimizer::adamw(0.0),
            steps: 0,
            m: vec![0.0; weight.len()],
            v: vec![0.0; weight.len()],
            d_weight: vec![0.0; weight.len()],
            weight,
            queries: random_rows(2, rows, dim),
            documents,
            outputs: vec![0.0; rows * dim],
            d_outputs: vec![0.0; rows * dim],
            inverse: vec![0.0; rows],
            scores: vec![0.0; rows * candidates],
        }
    }

    /// Takes the step once more; returns mean loss and norm of the gradient.
    pub fn run(&mut self) -> (f32, f32) {
        let Self { peer, layout, level, dim, rows, candidates, .. } = *self;
        let queries = Matrix::new(self.queries.as_slice(), rows, dim, Layout::RowMajor);
        let documents = Matrix::new(self.documents.as_slice(), candidates, dim, Layout::RowMajor);

        let weight = Matrix::new(self.weight.as_slice(), dim, dim, layout);
        let outputs = Matrix::new(self.outputs.as_mut_slice(), rows, dim, Layout::RowMajor);
        peer.product(outputs, queries, weight.transposed());
        for (row, inverse) in self.outputs.chunks_exact_mut(dim).zip(&mut self.inverse) {
            *inverse = dispatch!(level, s => normalize(s, row));
        }

        let outputs = Matrix::new(self.outputs.as_slice(), rows, dim, Layout::RowMajor);
        let scores = Matrix::new(self.scores.as_mut_slice(), rows, candidates, Layout::RowMajor);
        peer.product(scores, outputs, documents.transposed());
        let mut loss = 0.0;
        for (target, row) in self.scores.chunks_exact_mut(candidates).enumerate() {
            loss += dispatch!(level, s => cross_entropy(s, row, target, SCALE / rows as f32));
        }

        let scores = Matrix::new(self.scores.as_slice(), rows, candidates, Layout::RowMajor);
        let d_outputs = Matrix::new(self.d_outputs.as_mut_slice(), rows, dim, Layout::RowMajor);
        peer.product(d_outputs, scores, documents);
        let all = self.d_outputs.chunks_exact_mut(dim).zip(self.outputs.chunks_exact(dim));
        for ((d_row, row), inverse) in all.zip(&self.inverse) {
            dispatch!(level, s => normalize_backward(s, d_row, row, *inverse));
        }

        let d_outputs = Matrix::new(self.d_outputs.as_slice(), rows, dim, Layout::RowMajor);
        let d_weight = Matrix::new(self.d_weight.as_mut_slice(), dim, dim, layout);
        peer.product(d_weight, d_outputs.transposed(), queries);
        let norm = math::sqrt(dispatch!(level, s => dot(s, &self.d_weight, &self.d_weight)));

        self.steps += 1;
        let update = AdamW::new(&self.optimizer, self.steps, norm);
        dispatch!(level, s => update.apply(s, &mut self.weight, &mut self.m, &mut self.v, &self.d_weight));
        (loss / rows as f32, norm)
    }
}

/// `a · b`, whole registers, in four sums: enough to hide the latency of an addition.
#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [f32x16::splat(s, 0.0); 4];
    let (a_blocks, a_rest) = a.as_chunks::<{ 4 * LANES }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ 4 * LANES }>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        let registers = a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(registers) {
            *sum = f32x16::load_array_ref(s, a).mul_add_precise(f32x16::load_array_ref(s, b), *sum);
        }
    }
    for (a, b) in a_rest.as_chunks::<LANES>().0.iter().zip(b_rest.as_chunks::<LANES>().0) {
        sums[0] = f32x16::load_array_ref(s, a).mul_add_precise(f32x16::load_array_ref(s, b), sums[0]);
    }
    let [a, b, c, d] = sums;
    total((a + b) + (c + d))
}

/// The sum of all lanes.
#[inline(always)]
fn total<S: Simd>(x: f32x16<S>) -> f32 {
    let mut lanes = [0.0; LANES];
    x.store_array(&mut lanes);
    lanes.iter().sum()
}

/// Divides a row by its length; returns the factor.
#[inline(always)]
fn normalize<S: Simd>(s: S, row: &mut [f32]) -> f32 {
    let inverse = 1.0 / math::sqrt(dot(s, row, row));
    for x in row.as_chunks_mut::<LANES>().0 {
        (f32x16::load_array_ref(s, x) * f32x16::splat(s, inverse)).store_array(x);
    }
    inverse
}

/// `dt = (dt̂ − (t̂ · dt̂) t̂) ÷ |t|`.
#[inline(always)]
fn normalize_backward<S: Simd>(s: S, d_row: &mut [f32], row: &[f32], inverse: f32) {
    let minus_cosine = f32x16::splat(s, -dot(s, row, d_row));
    for (d, t) in d_row.as_chunks_mut::<LANES>().0.iter_mut().zip(row.as_chunks::<LANES>().0) {
        let tangent =
            minus_cosine.mul_add_precise(f32x16::load_array_ref(s, t), f32x16::load_array_ref(s, d));
        (tangent * f32x16::splat(s, inverse)).store_array(d);
    }
}

/// Turns the cosines of one row into the gradient of its loss times `factor`; returns the loss.
#[inline(always)]
fn cross_entropy<S: Simd>(s: S, row: &mut [f32], target: usize, factor: f32) -> f32 {
    let greatest = row.iter().fold(f32::NEG_INFINITY, |greatest, &x| if x > greatest { x } else { greatest });
    let of_target = row[target];
    // exp(scale × (x − greatest)), all of it in registers but for a last few.
    let scale = f32x16::splat(s, SCALE);
    let shift = f32x16::splat(s, -SCALE * greatest);
    let mut sums = f32x16::splat(s, 0.0);
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    for block in blocks {
        let e = exp(s, f32x16::load_array_ref(s, block).mul_add_precise(scale, shift));
        sums += e;
        e.store_array(block);
    }
    // Lanes without a candidate are far below every score.
    let mut last = [-1000.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let e = exp(s, f32x16::load_array_ref(s, &last).mul_add_precise(scale, shift));
    sums += e;
    e.store_array(&mut last);
    rest.copy_from_slice(&last[..rest.len()]);

    let sum = total(sums);
    let to_probability = f32x16::splat(s, factor / sum);
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    for block in blocks {
        (f32x16::load_array_ref(s, block) * to_probability).store_array(block);
    }
    for x in rest {
        *x *= factor / sum;
    }
    row[target] -= factor;
    SCALE * (greatest - of_target) + math::ln(sum)
}

/// `exp` of what is not above zero, to about 1 ulp; 0 below −87.
#[inline(always)]
fn exp<S: Simd>(s: S, x: f32x16<S>) -> f32x16<S> {
    let splat = |x| f32x16::splat(s, x);
    let x = x.max_precise(splat(-87.0));
    let n = (x * splat(core::f32::consts::LOG2_E)).round_ties_even();
    // ln 2 in two parts, of which the first has few digits.
    let r = n.mul_add_precise(splat(-0.693_359_4), x);
    let r = n.mul_add_precise(splat(2.121_944_4e-4), r);
    let mut poly = splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        poly = poly.mul_add_precise(r, splat(c));
    }
    let exponent = (n.to_int::<i32x16<S>>() + i32x16::splat(s, 127)) << 23;
    poly * exponent.bitcast::<f32x16<S>>()
}

/// One step of AdamW on parameters that lie anyhow.
struct AdamW {
    clip: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    keep: f32,
    minus_step: f32,
    root_correction: f32,
}

impl AdamW {
    fn new(optimizer: &Optimizer, steps: i32, norm: f32) -> Self {
        let power = |beta: f32| (1..=steps).fold(1.0, |product: f32, _| product * beta);
        let clip = optimizer.max_norm / (norm + 1e-6);
        Self {
            clip: if clip < 1.0 { clip } else { 1.0 },
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            eps: optimizer.eps,
            keep: 1.0 - optimizer.lr * optimizer.weight_decay,
            minus_step: -optimizer.lr / (1.0 - power(optimizer.beta1)),
            root_correction: 1.0 / math::sqrt(1.0 - power(optimizer.beta2)),
        }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, weight: &mut [f32], m: &mut [f32], v: &mut [f32], d_weight: &[f32]) {
        let splat = |x| f32x16::splat(s, x);
        let moments = m.as_chunks_mut::<LANES>().0.iter_mut().zip(v.as_chunks_mut::<LANES>().0);
        let parameters = weight.as_chunks_mut::<LANES>().0.iter_mut().zip(d_weight.as_chunks::<LANES>().0);
        for ((w, d), (m, v)) in parameters.zip(moments) {
            let gradient = f32x16::load_array_ref(s, d) * splat(self.clip);
            let new_m = f32x16::load_array_ref(s, m)
                .mul_add_precise(splat(self.beta1), gradient * splat(1.0 - self.beta1));
            let new_v = f32x16::load_array_ref(s, v)
                .mul_add_precise(splat(self.beta2), gradient * splat(1.0 - self.beta2) * gradient);
            new_m.store_array(m);
            new_v.store_array(v);
            let ratio = new_m / new_v.sqrt().mul_add_precise(splat(self.root_correction), splat(self.eps));
            ratio
                .mul_add_precise(splat(self.minus_step), f32x16::load_array_ref(s, w) * splat(self.keep))
                .store_array(w);
        }
    }
}

#[cfg(test)]
mod tests {
    use query_adapter::{Batch, Documents, Lanes, Linear, Schedule, Trainer, linear_len, scratch_len};

    use super::*;

    /// Three steps of every peer in every layout lead where the kernel's lead.
    #[test]
    fn every_peer_takes_the_kernels_step() {
        const DIM: usize = 48;
        // Without any whole register of scores, with a rest behind the last whole one, and with more candidates than rows.
        for (rows, candidates) in [(10, 10), (37, 37), (10, 50)] {
            let optimizer = Optimizer::adamw(1e-2);
            let (mut trainer, mut scratch) = kernel(DIM, rows, candidates, optimizer);
            let first = PeerStep::new(Peer::Faer, Layout::RowMajor, DIM, rows, candidates);
            let targets: Vec<u32> = (0..).take(rows).collect();
            let batch = Batch {
                queries: &first.queries,
                gradient_operand: None,
                documents: Documents::Rows(&first.documents),
                targets: &targets,
                weights: &vec![1.0; rows],
                mask: &[],
            };
            let mut reports = Vec::new();
            for _ in 0..3 {
                reports.push(trainer.step(&batch, &mut scratch).unwrap());
            }
            let mut expected = vec![0.0; DIM * DIM];
            trainer.adapter().copy_weight_to(&mut expected).unwrap();
            for (peer, layout) in
                Peer::ALL.into_iter().flat_map(|peer| Layout::ALL.map(|layout| (peer, layout)))
            {
                let mut step = PeerStep::new(peer, layout, DIM, rows, candidates);
                step.optimizer = optimizer;
                for report in &reports {
                    let (loss, norm) = step.run();
                    assert!((loss - report.loss).abs() < 1e-4, "{peer:?}: {loss} {}", report.loss);
                    assert!((norm - report.grad_norm).abs() < 1e-4, "{peer:?}: {norm} {}", report.grad_norm);
                }
                for (i, &found) in step.weight.iter().enumerate() {
                    let at = if layout == Layout::RowMajor { i } else { (i % DIM) * DIM + i / DIM };
                    assert!(
                        (found - expected[at]).abs() < 1e-4,
                        "{peer:?} {layout:?}: {found} {}",
                        expected[at]
                    );
                }
            }
        }
    }

    fn kernel(
        dim: usize,
        rows: usize,
        candidates: usize,
        optimizer: Optimizer,
    ) -> (Trainer<Vec<Lanes>>, Vec<Lanes>) {
        let zeros = || vec![Lanes::ZERO; linear_len(dim, dim, false)];
        let mut adapter = Linear::identity(dim, dim, false, zeros(), query_adapter::Level::detect()).unwrap();
        adapter.set_weight(&random_rows(1, dim, dim)).unwrap();
        let trainer = Trainer::new(adapter, zeros(), zeros(), SCALE, optimizer, Schedule::CONSTANT).unwrap();
        (trainer, vec![Lanes::ZERO; scratch_len(rows, candidates, dim, dim)])
    }
}
