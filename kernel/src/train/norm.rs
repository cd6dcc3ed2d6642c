//! The global norm of the gradient: from two Gram matrices, with no gradient stored, or from its elements.

use super::Shape;
use super::gradient::{d_weight, operand_groups};
use super::scratch::Scratch;
use super::team::{Join, Phase, run, split};
use crate::error::Error;
use crate::lanes::{LANES, Lanes, flat, panels};
use crate::math;
use crate::simd::{Scalar, Simd, dispatch};
use crate::tile::{Sink, Store, columns_tile};
use crate::transpose::block_to_lanes;

/// How the global norm of the gradient is computed; a function of the shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormForm {
    /// From two `B × B` Gram matrices; no gradient is stored.
    Gram,
    /// From the gradient's elements.
    Direct,
}

/// The form for a batch: [`Gram`](NormForm::Gram) when `rows² ≤ 8 × in_dim`.
#[must_use]
pub const fn norm_form(rows: usize, in_dim: usize) -> NormForm {
    if rows.saturating_mul(rows) <= in_dim.saturating_mul(8) { NormForm::Gram } else { NormForm::Direct }
}

/// The global norm of `dW`, in the form the shape asks for; `outputs` holds `dT`.
pub(super) fn gradient_norm<J: Join>(
    join: &J,
    shape: Shape,
    outputs: &[Lanes],
    scratch: &mut Scratch<'_>,
) -> Result<f32, Error> {
    let squares = match norm_form(shape.rows, shape.in_dim) {
        NormForm::Gram => {
            let (d_output, operand) = (&*scratch.d_output, &*scratch.operand_panels);
            run(join, Gram { shape, d_output, operand, first_panel: 0, sums: &mut *scratch.sums });
            let mut sums = flat(scratch.sums).iter().take(shape.rows).copied();
            sums.next().map_or(0.0, |first| sums.fold(first, |sum, g| sum + g))
        }
        NormForm::Direct => {
            let (operand, gradient) = (&*scratch.operand, &mut *scratch.gradient);
            run(join, Direct { shape, outputs, operand, gradient, sums: &mut *scratch.sums });
            let sums = scratch.sums.iter().take(panels(shape.out_dim));
            sums.fold(0.0, |sum, squares| sum + lane_tree(squares))
        }
    };
    let norm = math::sqrt(math::max(0.0, squares));
    if norm.is_finite() { Ok(norm) } else { Err(Error::NotFinite { what: "gradient norm", row: 0 }) }
}

/// `gᵢ = Σⱼ (dTᵢ·dTⱼ)(Gᵢ·Gⱼ)` for some panels of rows `i`.
struct Gram<'a> {
    shape: Shape,
    /// `dT` in all panels of queries.
    d_output: &'a [Lanes],
    /// The gradient operand in all panels of queries.
    operand: &'a [Lanes],
    first_panel: usize,
    sums: &'a mut [Lanes],
}

impl Phase for Gram<'_> {
    fn panels(&self) -> usize {
        self.sums.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = split(self.sums, at, 1);
        let first_panel = self.first_panel + at;
        (Self { sums: a, ..self }, Self { sums: b, first_panel, ..self })
    }

    fn run(self) {
        let Self { shape, d_output, operand, first_panel, sums } = self;
        sums.fill(Lanes::ZERO);
        let (first, end, all) = (first_panel, first_panel + sums.len(), panels(shape.rows));
        if Scalar::LANE_BY_LANE {
            for (sums, i) in sums.iter_mut().zip(first..) {
                for j in 0..all {
                    let block = GramBlock { shape, d_output, operand, i, j };
                    dispatch!(shape.level, s => block.add_each(s, sums));
                }
            }
            return;
        }
        // Both matrices are symmetric: of two panels that are here both, the second gets from the first what it needs of
        // it. Panels before these come first, so that every chain ascends.
        for before in [true, false] {
            for i in first..end {
                for j in if before { 0..first } else { i..all } {
                    let block = GramBlock { shape, d_output, operand, i, j };
                    let (to_i, to_j) = sums.split_at_mut((i - first + 1).min(sums.len()));
                    let Some(to_i) = to_i.last_mut() else { continue };
                    let to_j = if j > i { to_j.get_mut(j - i - 1) } else { None };
                    dispatch!(shape.level, s => block.add(s, to_i, to_j));
                }
            }
        }
    }
}

/// Sixteen rows `i` of the Gram products and sixteen `j`.
struct GramBlock<'a> {
    shape: Shape,
    d_output: &'a [Lanes],
    operand: &'a [Lanes],
    /// The panel of the rows in the lanes.
    i: usize,
    /// The panel of the others.
    j: usize,
}

impl GramBlock<'_> {
    /// Goes on with the chains over `j` of `Aᵢⱼ × Kᵢⱼ` for rows `i`, and over `i` for rows `j` if they are wanted too.
    #[inline(always)]
    fn add<S: Simd>(self, s: S, to_i: &mut Lanes, to_j: Option<&mut Lanes>) {
        let rows = self.rows();
        let mut g = s.load(to_i);
        let (mut a, mut k) = ([Lanes::ZERO; LANES], [Lanes::ZERO; LANES]);
        let mut done = 0;
        macro_rules! tile {
            ($R:literal) => {{
                let (a_tile, k_tile) = self.columns::<S, $R>(s, done);
                // Of a tile that reaches past the last row, what is past it is left out: that costs less than a tile of
                // one row, which would wait for its own results.
                for (a, k) in a_tile.into_iter().zip(k_tile).take(rows - done) {
                    g = s.fma(a, k, g);
                }
                if to_j.is_some() {
                    Store(&mut a).put(s, done, a_tile);
                    Store(&mut k).put(s, done, k_tile);
                }
                done += $R;
            }};
        }
        while done < rows {
            match rows - done {
                _ if S::WHOLE_CHAINS => tile!(1),
                9.. if S::WIDE => tile!(16),
                5.. if S::WIDE && done % 8 == 0 => tile!(8),
                _ => tile!(4),
            }
        }
        *to_i = s.to_lanes(g);
        let Some(to_j) = to_j else { return };
        for block in [&mut a, &mut k] {
            let turned = *block;
            block_to_lanes(s, &turned, block);
        }
        let mut g = s.load(to_j);
        for (a, k) in a.iter().zip(&k) {
            g = s.fma(s.load(a), s.load(k), g);
        }
        *to_j = s.to_lanes(g);
    }

    /// [`add`](Self::add) for rows `i` alone, one `j` after the other, where a chain takes all registers.
    #[inline(always)]
    fn add_each<S: Simd>(&self, s: S, to: &mut Lanes) {
        let mut g = s.load(to);
        for lane in 0..self.rows() {
            let ([a], [k]) = self.columns(s, lane);
            g = s.fma(a, k, g);
        }
        *to = s.to_lanes(g);
    }

    /// How many rows `j` there are.
    fn rows(&self) -> usize {
        self.shape.rows.saturating_sub(self.j * LANES).min(LANES)
    }

    /// `Aᵢⱼ` and `Kᵢⱼ` for `R` rows `j` from lane `first` of their panel on.
    #[inline(always)]
    fn columns<S: Simd, const R: usize>(&self, s: S, first: usize) -> ([S::F32; R], [S::F32; R]) {
        let Self { shape: Shape { in_dim, out_dim, bias, .. }, i, j, .. } = *self;
        let zero = [[s.splat(0.0); R]];
        let d_panel = |p: usize| panel_of(self.d_output, out_dim, p);
        let operand_panel = |p: usize| panel_of(self.operand, in_dim, p);
        let [a] = columns_tile(s, [d_panel(i)], d_panel(j), first, zero);
        let [mut k] = columns_tile(s, [operand_panel(i)], operand_panel(j), first, zero);
        if bias {
            for k in &mut k {
                *k = s.fma(s.splat(1.0), s.splat(1.0), *k);
            }
        }
        (a, k)
    }
}

/// Panel `p` of a matrix with `cols` columns; empty if there is none.
#[inline(always)]
fn panel_of(matrix: &[Lanes], cols: usize, p: usize) -> &[Lanes] {
    matrix.get(p * cols..).and_then(|rest| rest.get(..cols)).unwrap_or_default()
}

/// Forms `dW` in some panels and sums the squares of its elements: a chain per lane.
struct Direct<'a> {
    shape: Shape,
    /// `dT` in these panels of outputs.
    outputs: &'a [Lanes],
    /// The packed operand.
    operand: &'a [Lanes],
    gradient: &'a mut [Lanes],
    sums: &'a mut [Lanes],
}

impl Phase for Direct<'_> {
    fn panels(&self) -> usize {
        self.sums.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (outputs_a, outputs_b) = self.outputs.split_at((at * self.shape.rows).min(self.outputs.len()));
        let (gradient_a, gradient_b) = split(self.gradient, at, self.shape.stride());
        let (sums_a, sums_b) = split(self.sums, at, 1);
        (
            Self { outputs: outputs_a, gradient: gradient_a, sums: sums_a, ..self },
            Self { outputs: outputs_b, gradient: gradient_b, sums: sums_b, ..self },
        )
    }

    fn run(self) {
        let Self { shape, outputs, operand, gradient, sums } = self;
        sums.fill(Lanes::ZERO);
        for (group, first) in operand_groups(shape, operand) {
            dispatch!(shape.level, s => form_gradient(s, shape, outputs, group, first, gradient, sums));
        }
    }
}

/// The columns of one group in all these panels, three panels at a time where there are registers enough.
#[inline(always)]
fn form_gradient<S: Simd>(
    s: S,
    shape: Shape,
    outputs: &[Lanes],
    group: &[Lanes],
    first: usize,
    gradient: &mut [Lanes],
    sums: &mut [Lanes],
) {
    let panels =
        outputs.chunks_exact(shape.rows.max(1)).zip(gradient.chunks_exact_mut(shape.stride().max(1)));
    let mut panels = panels.zip(sums);
    while S::WIDE && panels.len() >= 3 {
        let (Some(a), Some(b), Some(c)) = (panels.next(), panels.next(), panels.next()) else { return };
        let ((panel_a, sum_a), (panel_b, sum_b), (panel_c, sum_c)) = (a, b, c);
        let d_outputs = [panel_a.0, panel_b.0, panel_c.0];
        let mut sinks = [
            StoreAndSquare { gradient: panel_a.1, squares: s.load(sum_a) },
            StoreAndSquare { gradient: panel_b.1, squares: s.load(sum_b) },
            StoreAndSquare { gradient: panel_c.1, squares: s.load(sum_c) },
        ];
        d_weight(s, shape, d_outputs, group, first, &mut sinks);
        for (place, sink) in [sum_a, sum_b, sum_c].into_iter().zip(&sinks) {
            *place = s.to_lanes(sink.squares);
        }
    }
    for ((d_output, gradient), place) in panels {
        let mut sink = StoreAndSquare { gradient, squares: s.load(place) };
        d_weight(s, shape, [d_output], group, first, core::array::from_mut(&mut sink));
        *place = s.to_lanes(sink.squares);
    }
}

/// Stores columns of the gradient and goes on with the sums of their squares, in ascending order.
struct StoreAndSquare<'a, S: Simd> {
    gradient: &'a mut [Lanes],
    squares: S::F32,
}

impl<S: Simd> Sink<S> for StoreAndSquare<'_, S> {
    #[inline(always)]
    fn put<const R: usize>(&mut self, s: S, first: usize, values: [S::F32; R]) {
        Store(self.gradient).put(s, first, values);
        for value in values {
            self.squares = s.fma(value, value, self.squares);
        }
    }
}

/// Sums sixteen lanes by the tree (l, l+8), (l, l+4), (l, l+2), (l, l+1).
fn lane_tree(lanes: &Lanes) -> f32 {
    let mut values = lanes.0;
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = values.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            *a += *b;
        }
        half /= 2;
    }
    values.first().copied().unwrap_or(0.0)
}

/// The definition of the squared norm in [`NormForm::Gram`]: `d_outputs` is `rows × out_dim`, `operand` is
/// `rows × in_dim`, both row-major.
#[must_use]
pub fn reference_gram_norm(
    d_outputs: &[f32],
    out_dim: usize,
    operand: &[f32],
    in_dim: usize,
    bias: bool,
) -> f32 {
    let dot = |a: &[f32], b: &[f32]| {
        let mut acc = 0.0;
        for (&x, &y) in a.iter().zip(b) {
            acc = math::fma(x, y, acc);
        }
        acc
    };
    let mut sum: Option<f32> = None;
    for (d_i, q_i) in d_outputs.chunks(out_dim.max(1)).zip(operand.chunks(in_dim.max(1))) {
        let mut g = 0.0;
        for (d_j, q_j) in d_outputs.chunks(out_dim.max(1)).zip(operand.chunks(in_dim.max(1))) {
            let k = dot(q_i, q_j);
            let k = if bias { math::fma(1.0, 1.0, k) } else { k };
            g = math::fma(dot(d_i, d_j), k, g);
        }
        sum = Some(sum.map_or(g, |sum| sum + g));
    }
    math::max(0.0, sum.unwrap_or(0.0))
}

/// The definition of the squared norm in [`NormForm::Direct`]: `d_weight(r, k)` is an element of the gradient with
/// `cols` columns, the bias included.
#[must_use]
pub fn reference_direct_norm(out_dim: usize, cols: usize, d_weight: impl Fn(usize, usize) -> f32) -> f32 {
    let mut sum = 0.0;
    for panel in 0..panels(out_dim) {
        let mut lanes = [0.0; LANES];
        for (lane, square) in lanes.iter_mut().enumerate() {
            let r = panel * LANES + lane;
            for k in 0..cols {
                let d = if r < out_dim { d_weight(r, k) } else { 0.0 };
                *square = math::fma(d, d, *square);
            }
        }
        for distance in [8, 4, 2, 1] {
            for lane in 0..distance {
                let far = lanes.get(lane + distance).copied().unwrap_or(0.0);
                if let Some(near) = lanes.get_mut(lane) {
                    *near += far;
                }
            }
        }
        sum += lanes.first().copied().unwrap_or(0.0);
    }
    sum
}
