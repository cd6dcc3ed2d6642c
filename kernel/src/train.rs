//! The training step: forward, middle, norm, update. Phases work on panel ranges; a step is their composition.
//!
//! Shapes: `B` rows (queries), `N` candidates, `in`, `out`. Output rows lie in the lanes of `T`, `dT`, `W`, `m`, `v`;
//! queries lie in the lanes of everything that is per query.

use crate::adam::{
    GRADIENT_LIMIT, Optimizer, OptimizerKind, OptimizerState, Update, clip_coefficient, update_lanes,
};
use crate::cross_entropy::{MaskEntry, PanelRows, check_mask, mask_of_panel, softmax_cross_entropy_panel};
use crate::error::Error;
use crate::forward::forward;
use crate::lanes::{LANES, Lanes, check_dim, check_len, flat, panel_len, panels};
use crate::linear::{Linear, linear_len};
use crate::math;
use crate::normalize::{NORM_FLOOR, normalize_backward_panel, normalize_panel};
use crate::schedule::Schedule;
use crate::simd::{Level, Simd, dispatch};
use crate::tile::{Sink, Store, columns_tile, columns_tile_beside, product_columns, product_rows};
use crate::transpose::{block_to_lanes, pack_columns, rows_to_panel};

/// One batch: `B` queries, `N` candidate documents, and what belongs together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `B × in`, row-major.
    pub queries: &'a [f32],
    /// The right-hand operand of the gradient, `B × in`, row-major: `None` for the queries themselves; preconditioned
    /// queries make a second-order step.
    pub gradient_operand: Option<&'a [f32]>,
    /// `N × out`, row-major, normalised by [`normalize_rows`](crate::normalize_rows); distinct documents.
    pub documents: &'a [f32],
    /// For each row the index of its positive among the candidates.
    pub targets: &'a [u32],
    /// For each row its weight in the mean, finite and at least 0.
    pub weights: &'a [f32],
    /// Candidates which must not count as negatives; see [`Mask`](crate::Mask).
    pub mask: &'a [MaskEntry],
}

/// Where weight decay leads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Anchor<S> {
    /// Every weight toward 0, as in the reference system.
    Zero,
    /// The weight toward the identity, the bias toward 0.
    Identity,
    /// Toward another adapter's panels.
    Weights(S),
}

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

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Weighted mean loss before the update.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The factor the gradient was clipped by.
    pub clip_coefficient: f32,
    /// The learning rate used.
    pub lr: f32,
    /// Rows that took no part because their transformed query is zero.
    pub zero_rows: u32,
}

/// How many [`Lanes`] of scratch a step needs at most, for batches of up to `rows` rows and `candidates` candidates.
#[must_use]
pub const fn scratch_len(rows: usize, candidates: usize, in_dim: usize, out_dim: usize) -> usize {
    // The two forms of the norm need different buffers, and a smaller batch may take the other form: the largest batch
    // of each form counts.
    let mut gram_rows = in_dim.saturating_mul(8).isqrt();
    if gram_rows > rows {
        gram_rows = rows;
    }
    let largest = exact_scratch_len(rows, candidates, in_dim, out_dim);
    let largest_gram = exact_scratch_len(gram_rows, candidates, in_dim, out_dim);
    if largest > largest_gram { largest } else { largest_gram }
}

/// What one batch of just these sizes takes.
const fn exact_scratch_len(rows: usize, candidates: usize, in_dim: usize, out_dim: usize) -> usize {
    let lengths = scratch_lens(rows, candidates, in_dim, out_dim);
    let (mut sum, mut i) = (0_usize, 0);
    while i < lengths.len() {
        sum = sum.saturating_add(lengths[i]);
        i += 1;
    }
    sum
}

/// The lengths of the buffers of [`Scratch`], in its order.
const fn scratch_lens(rows: usize, candidates: usize, in_dim: usize, out_dim: usize) -> [usize; 10] {
    let per_query = panel_len(rows, out_dim);
    let (gram, gradient) = match norm_form(rows, in_dim) {
        NormForm::Gram => (panel_len(rows, in_dim), 0),
        // Room for a bias, which costs one column where there is none.
        NormForm::Direct => (0, panel_len(out_dim, in_dim + 1)),
    };
    [
        panel_len(out_dim, rows),
        per_query,
        per_query,
        panel_len(rows, candidates),
        candidates,
        panel_len(in_dim, rows),
        gram,
        gradient,
        panels(rows),
        panels(rows),
    ]
}

/// The buffers of a step, carved from the caller's scratch.
struct Scratch<'a> {
    /// `T`, later `dT`: panels of output rows, a column per query.
    outputs: &'a mut [Lanes],
    /// `t̂`: panels of queries, a column per output.
    normalized: &'a mut [Lanes],
    /// `dt̂`, later `dt`: as `normalized`.
    d_output: &'a mut [Lanes],
    /// Scores, later `d_scores`: panels of queries, a column per candidate.
    scores: &'a mut [Lanes],
    /// Sixteen columns of the documents, packed.
    document_tile: &'a mut [Lanes],
    /// The gradient operand, packed: sixteen columns after sixteen columns, a [`Lanes`] per row in each.
    operand: &'a mut [Lanes],
    /// The gradient operand in panels of queries, a column per input; empty where the norm is taken directly.
    operand_panels: &'a mut [Lanes],
    /// `dW`, as the weight; empty where each of its tiles is consumed at once.
    gradient: &'a mut [Lanes],
    /// Factors of the normalisation: a [`Lanes`] per panel of queries. Later the rows of the Gram product.
    inverse: &'a mut [Lanes],
    /// Losses: a [`Lanes`] per panel of queries.
    losses: &'a mut [Lanes],
}

impl<'a> Scratch<'a> {
    fn carve(
        scratch: &'a mut [Lanes],
        rows: usize,
        candidates: usize,
        in_dim: usize,
        out_dim: usize,
    ) -> Result<Self, Error> {
        let needed = exact_scratch_len(rows, candidates, in_dim, out_dim);
        let short = Error::Length { what: "scratch", needed, given: scratch.len() };
        let mut rest = scratch;
        let mut buffers: [&'a mut [Lanes]; 10] = Default::default();
        for (buffer, length) in buffers.iter_mut().zip(scratch_lens(rows, candidates, in_dim, out_dim)) {
            (*buffer, rest) = rest.split_at_mut_checked(length).ok_or(short)?;
        }
        let [
            outputs,
            normalized,
            d_output,
            scores,
            document_tile,
            operand,
            operand_panels,
            gradient,
            inverse,
            losses,
        ] = buffers;
        Ok(Self {
            outputs,
            normalized,
            d_output,
            scores,
            document_tile,
            operand,
            operand_panels,
            gradient,
            inverse,
            losses,
        })
    }
}

/// A dense adapter that goes on learning, over storage of the caller's.
///
/// ```
/// use query_adapter::{Batch, Lanes, Level, Linear, Optimizer, Schedule, Trainer, linear_len, scratch_len};
///
/// const LEN: usize = linear_len(2, 2, false);
/// let adapter = Linear::identity(2, 2, false, [Lanes::ZERO; LEN], Level::baseline())?;
/// let mut trainer = Trainer::new(
///     adapter, [Lanes::ZERO; LEN], [Lanes::ZERO; LEN], 20.0, Optimizer::adamw(0.01), Schedule::CONSTANT)?;
/// let mut scratch = [Lanes::ZERO; scratch_len(2, 2, 2, 2)];
/// let batch = Batch {
///     queries: &[1.0, 0.8, 0.8, 1.0],
///     gradient_operand: None,
///     documents: &[1.0, 0.0, 0.0, 1.0],
///     targets: &[0, 1],
///     weights: &[1.0, 1.0],
///     mask: &[],
/// };
/// let first = trainer.step(&batch, &mut scratch)?;
/// let second = trainer.step(&batch, &mut scratch)?;
/// assert!(second.loss < first.loss);
/// # Ok::<(), query_adapter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trainer<S> {
    adapter: Linear<S>,
    m: S,
    v: S,
    anchor: Anchor<S>,
    scale: f32,
    optimizer: Optimizer,
    schedule: Schedule,
    state: OptimizerState,
}

impl<S: AsRef<[Lanes]> + AsMut<[Lanes]>> Trainer<S> {
    /// Starts from any adapter, decaying toward zero. `m` and `v` hold the moments, as many elements as the weight; for
    /// [`Sgd`](crate::OptimizerKind::Sgd) they are empty. They are set to zero.
    ///
    /// `scale` multiplies cosines before the softmax: 1 / temperature.
    ///
    /// # Errors
    /// [`Error::Setting`] for settings out of range, [`Error::Length`] for storage of the wrong length.
    pub fn new(
        adapter: Linear<S>,
        mut m: S,
        mut v: S,
        scale: f32,
        optimizer: Optimizer,
        schedule: Schedule,
    ) -> Result<Self, Error> {
        optimizer.check()?;
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Error::Setting { name: "scale" });
        }
        let len = linear_len(adapter.in_dim(), adapter.out_dim(), adapter.has_bias());
        let moments = if optimizer.kind.has_moments() { len } else { 0 };
        check_len("m", moments, m.as_ref().len())?;
        check_len("v", moments, v.as_ref().len())?;
        m.as_mut().fill(Lanes::ZERO);
        v.as_mut().fill(Lanes::ZERO);
        Ok(Self {
            adapter,
            m,
            v,
            anchor: Anchor::Zero,
            scale,
            optimizer,
            schedule,
            state: OptimizerState::START,
        })
    }

    /// Decays toward `anchor` from now on.
    ///
    /// # Errors
    /// [`Error::Length`] when the anchor's panels are not as many as the weight's, [`Error::NotFinite`] when a value is
    /// not finite; the anchor is then as before.
    pub fn set_anchor(&mut self, anchor: Anchor<S>) -> Result<(), Error> {
        if let Anchor::Weights(weights) = &anchor {
            check_len("anchor", self.adapter.weight().as_lanes().len(), weights.as_ref().len())?;
            if !flat(weights.as_ref()).iter().all(|x| x.is_finite()) {
                return Err(Error::NotFinite { what: "anchor", row: 0 });
            }
        }
        self.anchor = anchor;
        Ok(())
    }

    /// Puts back the moments and the count of an earlier run, to go on exactly where it stopped.
    ///
    /// # Errors
    /// [`Error::Length`] when `m` or `v` has another length than the trainer's, [`Error::NotFinite`] when a value is
    /// not finite or a second moment is negative; nothing is changed.
    pub fn restore(&mut self, state: OptimizerState, m: &[Lanes], v: &[Lanes]) -> Result<(), Error> {
        check_len("m", self.m.as_ref().len(), m.len())?;
        check_len("v", self.v.as_ref().len(), v.len())?;
        let powers = [state.beta1_power, state.beta2_power];
        if !flat(m).iter().chain(flat(v)).chain(&powers).all(|x| x.is_finite())
            || flat(v).iter().any(|v| *v < 0.0)
        {
            return Err(Error::NotFinite { what: "optimizer state", row: 0 });
        }
        self.m.as_mut().copy_from_slice(m);
        self.v.as_mut().copy_from_slice(v);
        self.state = state;
        Ok(())
    }

    /// The adapter as it is now.
    pub const fn adapter(&self) -> &Linear<S> {
        &self.adapter
    }

    /// The adapter, to set its weight or bias between steps.
    pub const fn adapter_mut(&mut self) -> &mut Linear<S> {
        &mut self.adapter
    }

    /// Gives the adapter back.
    pub fn into_adapter(self) -> Linear<S> {
        self.adapter
    }

    /// First moments, in the weight's layout.
    pub fn m(&self) -> &[Lanes] {
        self.m.as_ref()
    }

    /// Second moments, in the weight's layout.
    pub fn v(&self) -> &[Lanes] {
        self.v.as_ref()
    }

    /// Steps taken, and powers of the betas.
    pub const fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// One step on one batch.
    ///
    /// # Errors
    /// For wrong lengths, targets, weights or masks, and for any value that is not finite, the error that names it; the
    /// weight, the moments and the count are then as before, to the bit. `scratch` needs at least
    /// [`scratch_len`] elements; what it held does not matter.
    pub fn step(&mut self, batch: &Batch<'_>, scratch: &mut [Lanes]) -> Result<StepReport, Error> {
        let shape = Shape::of(&self.adapter, batch)?;
        let total_weight = check_rows(batch, shape.candidates)?;
        let mut scratch = Scratch::carve(scratch, shape.rows, shape.candidates, shape.in_dim, shape.out_dim)?;
        let operand = batch.gradient_operand.unwrap_or(batch.queries);

        forward_phase(shape, self.adapter.weight().as_lanes(), batch.queries, scratch.outputs);
        let zero_rows = middle_phase(shape, batch, self.scale, total_weight, &mut scratch)?;
        let loss = mean_loss(scratch.losses, shape.rows, total_weight)?;
        scatter_phase(shape, scratch.d_output, scratch.outputs)?;
        pack_operand(shape, operand, scratch.operand);
        let grad_norm = gradient_norm(shape, operand, &mut scratch)?;

        let factor = self.schedule.factor(self.state.steps);
        let coef = clip_coefficient(grad_norm, self.optimizer.max_norm);
        let state = self.state.next(&self.optimizer);
        let update = Update::new(&self.optimizer, &state, factor, coef)?;
        self.check_gradient(coef * grad_norm)?;

        let parameters = Parameters {
            w: self.adapter.weight_lanes_mut(),
            m: self.m.as_mut(),
            v: self.v.as_mut(),
            anchor: match &self.anchor {
                Anchor::Zero => Anchor::Zero,
                Anchor::Identity => Anchor::Identity,
                Anchor::Weights(weights) => Anchor::Weights(weights.as_ref()),
            },
        };
        update_phase(shape, &scratch, &update, parameters);
        self.state = state;
        let lr = self.optimizer.lr * factor;
        Ok(StepReport { loss, grad_norm, clip_coefficient: coef, lr, zero_rows })
    }

    /// Refuses a gradient whose square could overflow the second moment.
    fn check_gradient(&self, clipped_norm: f32) -> Result<(), Error> {
        let mut largest = clipped_norm;
        if self.optimizer.kind == OptimizerKind::Adam && self.optimizer.weight_decay > 0.0 {
            // Here the decay is part of the gradient; |w − anchor| ≤ |w| + |anchor|.
            let anchor = match &self.anchor {
                Anchor::Zero => 0.0,
                Anchor::Identity => 1.0,
                Anchor::Weights(weights) => max_abs(weights.as_ref()),
            };
            largest += self.optimizer.weight_decay * (max_abs(self.adapter.weight().as_lanes()) + anchor);
        }
        if largest <= GRADIENT_LIMIT { Ok(()) } else { Err(Error::GradientTooLarge) }
    }
}

/// What a step changes, and where decay leads.
struct Parameters<'a> {
    w: &'a mut [Lanes],
    m: &'a mut [Lanes],
    v: &'a mut [Lanes],
    anchor: Anchor<&'a [Lanes]>,
}

impl Parameters<'_> {
    /// What the update of panel `p` works on.
    fn panel<'a>(&'a mut self, shape: Shape, p: usize, update: &Update) -> Option<PanelUpdate<'a>> {
        let stride = shape.stride();
        let range = p * stride..(p + 1) * stride;
        let anchor = match self.anchor {
            Anchor::Zero => PanelAnchor::Zero,
            // Past the last output the diagonal would run on into padding rows, which must stay zero.
            Anchor::Identity => {
                PanelAnchor::Identity { first_row: p * LANES, ones: shape.in_dim.min(shape.out_dim) }
            }
            Anchor::Weights(weights) => PanelAnchor::Weights(weights.get(range.clone())?),
        };
        let w = self.w.get_mut(range.clone())?;
        let (m, v) = (self.m.get_mut(range.clone()), self.v.get_mut(range));
        Some(PanelUpdate { update: *update, anchor, w, m, v })
    }
}

/// Updates the weight: by tiles of `dW` as they are formed, or by the `dW` that is there already.
fn update_phase(shape: Shape, scratch: &Scratch<'_>, update: &Update, mut parameters: Parameters<'_>) {
    match norm_form(shape.rows, shape.in_dim) {
        NormForm::Gram => {
            for (group, first) in operand_groups(shape, scratch.operand) {
                for (p, d_output) in scratch.outputs.chunks_exact(shape.rows).enumerate() {
                    let Some(mut panel) = parameters.panel(shape, p, update) else { return };
                    dispatch!(shape.level, s => update_panel(s, shape, d_output, group, first, &mut panel));
                }
            }
        }
        NormForm::Direct => {
            for (p, gradient) in scratch.gradient.chunks_exact(shape.stride()).enumerate() {
                let Some(mut panel) = parameters.panel(shape, p, update) else { return };
                dispatch!(shape.level, s => {
                    for (column, gradient) in gradient.iter().enumerate() {
                        panel.put(s, column, [s.load(gradient)]);
                    }
                });
            }
        }
    }
}

/// Updates one panel of the weight by the tiles of its gradient, those of one group of the operand.
///
/// Where there are registers enough, a tile's results wait until the next tile is formed and are consumed between its
/// rows.
#[inline(always)]
fn update_panel<S: Simd>(
    s: S,
    shape: Shape,
    d_output: &[Lanes],
    group: &[Lanes],
    first: usize,
    panel: &mut PanelUpdate<'_>,
) {
    // The rule as a constant: no branch is left in the innermost loop.
    let update = Update { kind: OptimizerKind::AdamW, ..panel.update };
    let full = if S::WIDE && panel.update.kind == update.kind { group.len() / shape.rows } else { 0 };
    let full = full.min(shape.in_dim.saturating_sub(first) / LANES);
    let (early, late) = group.split_at_checked(full * shape.rows).unwrap_or((&[], group));
    let (mut gradients, mut anchor) = ([Lanes::ZERO; LANES], [Lanes::ZERO; LANES]);
    let mut waiting = None;
    for (tile, first) in early.chunks_exact(shape.rows).zip((first..).step_by(LANES)) {
        let acc = match waiting.and_then(|first| panel.tile(first, &mut anchor)) {
            Some(TileUpdate { anchor: None, w, m, v }) => columns_tile_beside(s, d_output, tile, |c| {
                let moments = Some((&mut m[c], &mut v[c]));
                update_lanes(s, &update, s.load(&gradients[c]), None, &mut w[c], moments);
            }),
            Some(mut before) => {
                before.columns(s, &update, &gradients);
                columns_tile(s, d_output, tile, 0)
            }
            None => columns_tile(s, d_output, tile, 0),
        };
        for (place, value) in gradients.iter_mut().zip(acc) {
            *place = s.to_lanes(value);
        }
        waiting = Some(first);
    }
    if let Some(mut before) = waiting.and_then(|first| panel.tile(first, &mut anchor)) {
        before.columns(s, &update, &gradients);
    }
    d_weight(s, shape, d_output, late, first + full * LANES, panel);
}

/// One panel of the weight, to be updated by the columns of its gradient.
struct PanelUpdate<'a> {
    update: Update,
    anchor: PanelAnchor<'a>,
    w: &'a mut [Lanes],
    m: Option<&'a mut [Lanes]>,
    v: Option<&'a mut [Lanes]>,
}

impl PanelUpdate<'_> {
    /// Sixteen columns from `first` on, for a rule with moments; `anchor` is room for theirs.
    #[inline(always)]
    fn tile<'a>(&'a mut self, first: usize, anchor: &'a mut [Lanes; LANES]) -> Option<TileUpdate<'a>> {
        Some(TileUpdate {
            anchor: self.anchor.tile(first, anchor),
            w: self.w.get_mut(first..)?.first_chunk_mut()?,
            m: self.m.as_mut()?.get_mut(first..)?.first_chunk_mut()?,
            v: self.v.as_mut()?.get_mut(first..)?.first_chunk_mut()?,
        })
    }
}

impl<S: Simd> Sink<S> for PanelUpdate<'_> {
    #[inline(always)]
    fn put<const R: usize>(&mut self, s: S, first: usize, gradients: [S::F32; R]) {
        for (gradient, column) in gradients.into_iter().zip(first..) {
            let Some(w) = self.w.get_mut(column) else { return };
            let moments = match (&mut self.m, &mut self.v) {
                (Some(m), Some(v)) => m.get_mut(column).zip(v.get_mut(column)),
                _ => None,
            };
            let anchor = self.anchor.column(column);
            update_lanes(s, &self.update, gradient, anchor.as_ref(), w, moments);
        }
    }
}

/// Sixteen columns of a panel, as arrays: nothing is checked where every instruction counts.
struct TileUpdate<'a> {
    anchor: Option<&'a [Lanes; LANES]>,
    w: &'a mut [Lanes; LANES],
    m: &'a mut [Lanes; LANES],
    v: &'a mut [Lanes; LANES],
}

impl TileUpdate<'_> {
    #[inline(always)]
    fn columns<S: Simd>(&mut self, s: S, update: &Update, gradients: &[Lanes; LANES]) {
        for c in 0..LANES {
            let anchor = self.anchor.map(|anchor| &anchor[c]);
            let moments = Some((&mut self.m[c], &mut self.v[c]));
            update_lanes(s, update, s.load(&gradients[c]), anchor, &mut self.w[c], moments);
        }
    }
}

/// The anchor of one panel of the weight.
enum PanelAnchor<'a> {
    Zero,
    /// The first `ones` elements of the diagonal are 1.
    Identity {
        first_row: usize,
        ones: usize,
    },
    Weights(&'a [Lanes]),
}

impl PanelAnchor<'_> {
    /// The anchor of one column; `None` is zero.
    #[inline(always)]
    fn column(&self, column: usize) -> Option<Lanes> {
        match *self {
            Self::Zero => None,
            Self::Identity { first_row, ones } => {
                let mut lanes = Lanes::ZERO;
                let one = lanes.0.get_mut(column.wrapping_sub(first_row)).filter(|_| column < ones)?;
                *one = 1.0;
                Some(lanes)
            }
            Self::Weights(columns) => columns.get(column).copied(),
        }
    }

    /// The anchor of sixteen columns, in `tile` if need be; `None` is zero everywhere.
    #[inline(always)]
    fn tile<'a>(&'a self, first: usize, tile: &'a mut [Lanes; LANES]) -> Option<&'a [Lanes; LANES]> {
        match *self {
            Self::Zero => None,
            Self::Identity { first_row, .. } if first_row != first => None,
            Self::Identity { .. } => {
                for (place, column) in tile.iter_mut().zip(first..) {
                    *place = self.column(column).unwrap_or(Lanes::ZERO);
                }
                Some(tile)
            }
            Self::Weights(columns) => columns.get(first..).and_then(|columns| columns.first_chunk()),
        }
    }
}

fn max_abs(lanes: &[Lanes]) -> f32 {
    let mut largest = 0.0;
    for &x in flat(lanes) {
        // NaN must not hide: `max` gives its second operand then.
        largest = math::max(largest, x.abs());
    }
    largest
}

/// The sizes of a step.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    candidates: usize,
    in_dim: usize,
    out_dim: usize,
    bias: bool,
    level: Level,
}

impl Shape {
    /// Columns of the weight.
    const fn stride(&self) -> usize {
        self.in_dim + self.bias as usize
    }

    fn of<S: AsRef<[Lanes]>>(adapter: &Linear<S>, batch: &Batch<'_>) -> Result<Self, Error> {
        let (in_dim, out_dim) = (adapter.in_dim(), adapter.out_dim());
        check_dim("in_dim", in_dim)?;
        let rows = batch.targets.len();
        if rows == 0 {
            return Err(Error::Length { what: "targets", needed: 1, given: 0 });
        }
        check_len("queries", rows.saturating_mul(in_dim), batch.queries.len())?;
        if let Some(operand) = batch.gradient_operand {
            check_len("gradient_operand", rows.saturating_mul(in_dim), operand.len())?;
        }
        check_len("weights", rows, batch.weights.len())?;
        let candidates = batch.documents.len() / out_dim;
        let whole = candidates.max(1).saturating_mul(out_dim);
        check_len("documents", whole, batch.documents.len())?;
        Ok(Self { rows, candidates, in_dim, out_dim, bias: adapter.has_bias(), level: adapter.level() })
    }
}

/// Checks targets, weights and mask; returns the sum of the weights, rows ascending.
fn check_rows(batch: &Batch<'_>, candidates: usize) -> Result<f32, Error> {
    let mut total = 0.0;
    for (row, (&target, &weight)) in batch.targets.iter().zip(batch.weights).enumerate() {
        if target as usize >= candidates {
            return Err(Error::Target { row, target, candidates });
        }
        if !(weight >= 0.0 && weight.is_finite()) {
            return Err(Error::Weight { row });
        }
        total += weight;
    }
    check_mask(batch.mask, batch.targets, candidates)?;
    if total > 0.0 && total.is_finite() { Ok(total) } else { Err(Error::TotalWeight) }
}

/// `T = Q Wᵀ`.
fn forward_phase(shape: Shape, weight: &[Lanes], queries: &[f32], outputs: &mut [Lanes]) {
    dispatch!(shape.level, s => {
        forward(s, weight, shape.in_dim, shape.bias, queries, |panel, row, acc| {
            if let Some(place) = outputs.get_mut(panel * shape.rows + row) {
                *place = s.to_lanes(acc);
            }
        });
    });
}

/// Everything that is per query: normalise, scores, softmax, backward. Returns the number of rows left out.
fn middle_phase(
    shape: Shape,
    batch: &Batch<'_>,
    scale: f32,
    total_weight: f32,
    scratch: &mut Scratch<'_>,
) -> Result<u32, Error> {
    let mut zero_rows = 0;
    let per_panel = scratch
        .normalized
        .chunks_exact_mut(shape.out_dim)
        .zip(scratch.scores.chunks_exact_mut(shape.candidates))
        .zip(scratch.inverse.iter_mut().zip(scratch.losses.iter_mut()))
        .zip(batch.targets.chunks(LANES).zip(batch.weights.chunks(LANES)));
    for (panel, (((normalized, scores), (inverse, losses)), (targets, weights))) in per_panel.enumerate() {
        let mask = mask_of_panel(batch.mask, panel);
        let mut rows = PanelRows { targets, weights, mask, live: 0, scale, total_weight };
        let norms = dispatch!(shape.level, s => {
            gather_queries(s, shape.rows, scratch.outputs, panel, normalized);
            let (norm, factor) = normalize_panel(s, normalized);
            *inverse = s.to_lanes(factor);
            s.to_lanes(norm)
        });
        for (lane, norm) in norms.0.into_iter().take(targets.len()).enumerate() {
            if !norm.is_finite() {
                return Err(Error::NotFinite { what: "transformed query", row: panel * LANES + lane });
            }
            let zero = norm <= NORM_FLOOR;
            rows.live |= u16::from(!zero) << lane;
            zero_rows += u32::from(zero);
        }
        dispatch!(shape.level, s => {
            score_panel(s, normalized, batch.documents, scale, scores);
            *losses = softmax_cross_entropy_panel(s, scores, &rows);
        });
    }
    backward_phase(shape, batch.documents, scratch);
    Ok(zero_rows)
}

/// `s = scale × cos`: one panel of normalised queries against all candidates.
#[inline(always)]
fn score_panel<S: Simd>(s: S, normalized: &[Lanes], documents: &[f32], scale: f32, scores: &mut [Lanes]) {
    let scale = s.splat(scale);
    let dim = normalized.len();
    product_rows(s, normalized, dim, documents, dim, |_, candidate, acc| {
        if let Some(place) = scores.get_mut(candidate) {
            *place = s.to_lanes(s.mul(scale, acc));
        }
    });
}

/// From `d_scores` to `dt`: sixteen columns of the documents at a time for all panels of queries, then back through the
/// normalisation.
fn backward_phase(shape: Shape, documents: &[f32], scratch: &mut Scratch<'_>) {
    for first in (0..shape.out_dim).step_by(LANES) {
        pack_columns(documents, shape.out_dim, first, scratch.document_tile);
        let panels = scratch.d_output.chunks_exact_mut(shape.out_dim);
        for (d_output, d_scores) in panels.zip(scratch.scores.chunks_exact(shape.candidates)) {
            dispatch!(shape.level, s => {
                product_columns(s, d_scores, scratch.document_tile, first, shape.out_dim, &mut Store(d_output));
            });
        }
    }
    let panels = scratch.d_output.chunks_exact_mut(shape.out_dim);
    for ((d_output, normalized), inverse) in
        panels.zip(scratch.normalized.chunks_exact(shape.out_dim)).zip(scratch.inverse.iter())
    {
        dispatch!(shape.level, s => normalize_backward_panel(s, normalized, s.load(inverse), d_output));
    }
}

/// Transposes one panel's queries out of `T`: sixteen queries into the lanes, a column per output.
#[inline(always)]
fn gather_queries<S: Simd>(s: S, rows: usize, outputs: &[Lanes], panel: usize, out: &mut [Lanes]) {
    for (source, block) in outputs.chunks_exact(rows).zip(out.chunks_mut(LANES)) {
        let queries = source.get(panel * LANES..).unwrap_or_default();
        block_to_lanes(s, queries.get(..LANES).unwrap_or(queries), block);
    }
}

/// Transposes `dT` back: output rows into the lanes, a column per query. Refuses values that are not finite.
fn scatter_phase(shape: Shape, d_output: &[Lanes], outputs: &mut [Lanes]) -> Result<(), Error> {
    let finite = dispatch!(shape.level, s => scatter_queries(s, shape, d_output, outputs));
    if finite {
        return Ok(());
    }
    let at = outputs.iter().position(|lanes| !lanes.0.iter().all(|x| x.is_finite())).unwrap_or(0);
    Err(Error::NotFinite { what: "gradient", row: at % shape.rows })
}

/// The transposition; whether all values are finite.
#[inline(always)]
fn scatter_queries<S: Simd>(s: S, shape: Shape, d_output: &[Lanes], outputs: &mut [Lanes]) -> bool {
    // x × 0 is NaN for just those values that are not finite.
    let mut probe = s.splat(0.0);
    for (target, first) in outputs.chunks_exact_mut(shape.rows).zip((0..).step_by(LANES)) {
        for (queries, panel) in target.chunks_mut(LANES).zip(d_output.chunks_exact(shape.out_dim)) {
            let columns = panel.get(first..).unwrap_or_default();
            block_to_lanes(s, columns.get(..LANES).unwrap_or(columns), queries);
            for lanes in queries {
                probe = s.fma(s.load(lanes), s.splat(0.0), probe);
            }
        }
    }
    s.to_lanes(probe).0.iter().all(|x| x.is_finite())
}

/// Sum of the losses, rows ascending, divided by the total weight. Refuses a loss that is not finite.
fn mean_loss(losses: &[Lanes], rows: usize, total_weight: f32) -> Result<f32, Error> {
    let mut sum = 0.0;
    for (row, &loss) in flat(losses).iter().take(rows).enumerate() {
        if !loss.is_finite() {
            return Err(Error::NotFinite { what: "loss", row });
        }
        sum += loss;
    }
    let mean = sum / total_weight;
    if mean.is_finite() { Ok(mean) } else { Err(Error::NotFinite { what: "mean loss", row: 0 }) }
}

/// Packs the gradient operand for [`d_weight`].
fn pack_operand(shape: Shape, operand: &[f32], packed: &mut [Lanes]) {
    for (tile, first) in packed.chunks_exact_mut(shape.rows).zip((0..).step_by(LANES)) {
        pack_columns(operand, shape.in_dim, first, tile);
    }
}

/// The packed operand in groups that stay in a cache while all panels pass over them, each with its first column.
fn operand_groups(shape: Shape, operand: &[Lanes]) -> impl Iterator<Item = (&[Lanes], usize)> {
    /// 256 KiB: a quarter of a second-level cache, or of many.
    const GROUP: usize = 4096;
    let tiles = (GROUP / shape.rows).max(1);
    operand.chunks(tiles * shape.rows).zip((0..).step_by(tiles * LANES))
}

/// Columns of `dW` of one panel, those of one group from column `first` on; behind the last group the bias.
#[inline(always)]
fn d_weight<S: Simd>(
    s: S,
    shape: Shape,
    d_output: &[Lanes],
    group: &[Lanes],
    first: usize,
    sink: &mut impl Sink<S>,
) {
    let mut column = first;
    for tile in group.chunks_exact(shape.rows) {
        product_columns(s, d_output, tile, column, shape.in_dim, sink);
        column += LANES;
    }
    if shape.bias && column >= shape.in_dim {
        let mut acc = s.splat(0.0);
        for query in d_output {
            acc = s.fma(s.load(query), s.splat(1.0), acc);
        }
        sink.put(s, shape.in_dim, [acc]);
    }
}

/// The global norm of `dW`, in the form the shape asks for.
fn gradient_norm(shape: Shape, operand: &[f32], scratch: &mut Scratch<'_>) -> Result<f32, Error> {
    let squares = match norm_form(shape.rows, shape.in_dim) {
        NormForm::Gram => gram_norm(shape, operand, scratch),
        NormForm::Direct => direct_norm(shape, scratch),
    };
    let norm = math::sqrt(math::max(0.0, squares));
    if norm.is_finite() { Ok(norm) } else { Err(Error::NotFinite { what: "gradient norm", row: 0 }) }
}

/// `Σᵢ Σⱼ (dTᵢ·dTⱼ)(Gᵢ·Gⱼ)`.
fn gram_norm(shape: Shape, operand: &[f32], scratch: &mut Scratch<'_>) -> f32 {
    let panels = scratch.operand_panels.chunks_exact_mut(shape.in_dim);
    for (panel, rows) in panels.zip(operand.chunks(LANES * shape.in_dim)) {
        dispatch!(shape.level, s => rows_to_panel(s, rows, shape.in_dim, panel));
    }
    let (d_output, operand) = (&*scratch.d_output, &*scratch.operand_panels);
    let sums = &mut *scratch.inverse;
    for (panel, place) in sums.iter_mut().enumerate() {
        *place = dispatch!(shape.level, s => gram_panel(s, shape, d_output, operand, panel));
    }
    let mut sum: Option<f32> = None;
    for &g in flat(sums).iter().take(shape.rows) {
        sum = Some(sum.map_or(g, |sum| sum + g));
    }
    sum.unwrap_or(0.0)
}

/// Sixteen rows of the Gram product: a chain over `j` of `Aᵢⱼ × Kᵢⱼ`.
#[inline(always)]
fn gram_panel<S: Simd>(s: S, shape: Shape, d_output: &[Lanes], operand: &[Lanes], panel: usize) -> Lanes {
    let d_panel = |p: usize| panel_of(d_output, shape.out_dim, p);
    let operand_panel = |p: usize| panel_of(operand, shape.in_dim, p);
    let mut g = s.splat(0.0);
    let mut j = 0;
    macro_rules! rung {
        ($R:literal) => {
            // Tiles do not cross a panel of `j`: 16 is a multiple of R.
            while shape.rows - j >= $R {
                let (other, lane) = (j / LANES, j % LANES);
                let a = columns_tile::<S, $R>(s, d_panel(panel), d_panel(other), lane);
                let k = columns_tile::<S, $R>(s, operand_panel(panel), operand_panel(other), lane);
                for (a, mut k) in a.into_iter().zip(k) {
                    if shape.bias {
                        k = s.fma(s.splat(1.0), s.splat(1.0), k);
                    }
                    g = s.fma(a, k, g);
                }
                j += $R;
            }
        };
    }
    if S::WIDE {
        rung!(8);
    }
    rung!(4);
    rung!(1);
    s.to_lanes(g)
}

/// Panel `p` of a matrix with `cols` columns; empty if there is none.
#[inline(always)]
fn panel_of(matrix: &[Lanes], cols: usize, p: usize) -> &[Lanes] {
    matrix.get(p * cols..).and_then(|rest| rest.get(..cols)).unwrap_or_default()
}

/// Forms `dW` and sums the squares of its elements: a chain per lane of each panel, lanes by a tree, panels ascending.
fn direct_norm(shape: Shape, scratch: &mut Scratch<'_>) -> f32 {
    let stride = shape.stride();
    for (group, first) in operand_groups(shape, scratch.operand) {
        let panels = scratch.outputs.chunks_exact(shape.rows).zip(scratch.gradient.chunks_exact_mut(stride));
        for (d_output, gradient) in panels {
            dispatch!(shape.level, s => d_weight(s, shape, d_output, group, first, &mut Store(gradient)));
        }
    }
    let mut sum = 0.0;
    for gradient in scratch.gradient.chunks_exact(stride).take(panels(shape.out_dim)) {
        let squares = dispatch!(shape.level, s => {
            let mut squares = s.splat(0.0);
            for column in gradient {
                let column = s.load(column);
                squares = s.fma(column, column, squares);
            }
            s.to_lanes(squares)
        });
        sum += lane_tree(&squares);
    }
    sum
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

/// The definition of one element of `dW`: column `k` of `operand` (`rows × in_dim`) under the gradient `d_output` of
/// one output row, one value per query.
#[must_use]
pub fn reference_d_weight(d_output: &[f32], operand: &[f32], in_dim: usize, k: usize) -> f32 {
    let mut acc = 0.0;
    for (&d, row) in d_output.iter().zip(operand.chunks(in_dim.max(1))) {
        // Past the last input stands the constant 1 of the bias.
        acc = math::fma(d, row.get(k).copied().unwrap_or(1.0), acc);
    }
    acc
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
    for (d_i, q_i) in d_outputs.chunks(out_dim).zip(operand.chunks(in_dim)) {
        let mut g = 0.0;
        for (d_j, q_j) in d_outputs.chunks(out_dim).zip(operand.chunks(in_dim)) {
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
