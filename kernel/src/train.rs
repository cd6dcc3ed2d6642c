//! The training step: forward, middle, norm, update. Phases work on panel ranges; a step is their composition.
//!
//! Shapes: `B` rows (queries), `N` candidates, `in`, `out`. Output rows lie in the lanes of `T`, `dT`, `W`, `m`, `v`;
//! queries lie in the lanes of everything that is per query.

mod candidates;
mod gradient;
mod norm;
mod outputs;
mod queries;
mod scratch;
mod team;
mod update;

use core::fmt;

pub use gradient::reference_d_weight;
pub use norm::{NormForm, norm_form, reference_direct_norm, reference_gram_norm};
pub use scratch::{ahead_len, scratch_len, streaming_scratch_len};
pub use team::{Join, SingleThread};

use norm::gradient_norm;
use outputs::{Forward, Pack, Scatter};
use queries::Middle;
use scratch::{Scratch, Sizes, outputs_len, packed_len};
use team::run;
use update::{Ahead, UpdatePanels};

use crate::adam::{GRADIENT_LIMIT, Optimizer, OptimizerKind, OptimizerState, Update, clip_coefficient};
use crate::cross_entropy::{MaskEntry, check_mask};
use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_dim, check_len, flat, panel_len};
use crate::linear::{Linear, linear_len};
use crate::math;
use crate::schedule::Schedule;
use crate::simd::Level;

/// One batch: `B` queries, `N` candidate documents, and what belongs together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `B × in`, row-major.
    pub queries: &'a [f32],
    /// The right-hand operand of the gradient, `B × in`, row-major: `None` for the queries themselves; preconditioned
    /// queries make a second-order step.
    pub gradient_operand: Option<&'a [f32]>,
    /// The `N` candidates, distinct documents.
    pub documents: Documents<'a>,
    /// For each row the index of its positive among the candidates.
    pub targets: &'a [u32],
    /// For each row its weight in the mean, finite and at least 0.
    pub weights: &'a [f32],
    /// Candidates which must not count as negatives; see [`Mask`](crate::Mask).
    pub mask: &'a [MaskEntry],
}

/// The candidates of a batch.
#[derive(Clone, Copy)]
pub enum Documents<'a> {
    /// `N × out`, row-major, normalised by [`normalize_rows`](crate::normalize_rows).
    Rows(&'a [f32]),
    /// However many, `block` of them at a time. Their scores are computed twice and never kept, so memory grows with the
    /// block and not with `N`. The bits are those of [`Rows`](Self::Rows), whatever the block.
    Blocks {
        /// Where they come from.
        source: &'a dyn DocumentBlocks,
        /// How many are in scratch at a time, at least 1.
        block: usize,
    },
}

impl Documents<'_> {
    /// How many candidates of `dim` elements there are; a part of one does not count.
    #[must_use]
    pub fn count(&self, dim: usize) -> usize {
        match self {
            Self::Rows(rows) => rows.len().checked_div(dim).unwrap_or(0),
            Self::Blocks { source, .. } => source.count(),
        }
    }
}

/// Documents that are not in memory as normalised rows: too many, in another type, or still to be normalised.
pub trait DocumentBlocks: Sync {
    /// How many documents there are.
    fn count(&self) -> usize;

    /// Writes documents `first ..` to `rows`, row-major and as many as fit, normalised as
    /// [`normalize_rows`](crate::normalize_rows) does it. Never asked for documents that are not there; asked for the same
    /// ones again, it gives the same bits.
    fn copy_rows(&self, first: usize, rows: &mut [f32]);
}

impl fmt::Debug for Documents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => f.debug_tuple("Rows").field(rows).finish(),
            Self::Blocks { source, block } => {
                f.debug_struct("Blocks").field("count", &source.count()).field("block", block).finish()
            }
        }
    }
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

/// A dense adapter that goes on learning, over storage of the caller's.
///
/// ```
/// use query_adapter::{Batch, Documents, Lanes, Level, Linear, Optimizer, Schedule, Trainer, linear_len, scratch_len};
///
/// const LEN: usize = linear_len(2, 2, false);
/// let adapter = Linear::identity(2, 2, false, [Lanes::ZERO; LEN], Level::baseline())?;
/// let mut trainer = Trainer::new(
///     adapter, [Lanes::ZERO; LEN], [Lanes::ZERO; LEN], 20.0, Optimizer::adamw(0.01), Schedule::CONSTANT)?;
/// let mut scratch = [Lanes::ZERO; scratch_len(2, 2, 2, 2)];
/// let batch = Batch {
///     queries: &[1.0, 0.8, 0.8, 1.0],
///     gradient_operand: None,
///     documents: Documents::Rows(&[1.0, 0.0, 0.0, 1.0]),
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

    /// Decays toward `anchor` from now on. Its padding rows must be `+0`, or those of the weight do not stay so.
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

    /// Puts back the moments and the count of an earlier run, to go on exactly where it stopped. Padding rows of `m` and `v` are
    /// `+0`, as [`m`](Self::m) and [`v`](Self::v) gave them.
    ///
    /// # Errors
    /// [`Error::Length`] when `m` or `v` has another length than the trainer's, [`Error::Setting`] when a power of a beta is not from
    /// 0 to 1, [`Error::NotFinite`] when a moment is not finite or a second moment is negative; nothing is changed.
    pub fn restore(&mut self, state: OptimizerState, m: &[Lanes], v: &[Lanes]) -> Result<(), Error> {
        check_len("m", self.m.as_ref().len(), m.len())?;
        check_len("v", self.v.as_ref().len(), v.len())?;
        for (name, power) in [("beta1_power", state.beta1_power), ("beta2_power", state.beta2_power)] {
            if !(0.0..=1.0).contains(&power) {
                return Err(Error::Setting { name });
            }
        }
        if !flat(m).iter().chain(flat(v)).all(|x| x.is_finite()) || flat(v).iter().any(|v| *v < 0.0) {
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

    /// The adapter over its borrowed weight, to set that or the bias between steps. The trainer's moments are of its shape, so it
    /// cannot be exchanged for another.
    pub fn adapter_mut(&mut self) -> Linear<&mut [Lanes]> {
        self.adapter.by_mut()
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
    /// weight, the moments and the count are then as before, to the bit. The new weight itself is not looked at: settings under
    /// which finite gradients make it infinite are found out by the next step. `scratch` needs at least
    /// [`scratch_len`] elements ([`streaming_scratch_len`] for [`Documents::Blocks`]); what it held does not matter.
    pub fn step(&mut self, batch: &Batch<'_>, scratch: &mut [Lanes]) -> Result<StepReport, Error> {
        self.step_on(&SingleThread, batch, scratch)
    }

    /// [`step`](Self::step) on all threads of `join`. Their number changes no bit.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_on<J: Join>(
        &mut self,
        join: &J,
        batch: &Batch<'_>,
        scratch: &mut [Lanes],
    ) -> Result<StepReport, Error> {
        let shape = Shape::of(&self.adapter, batch)?;
        let total_weight = check_rows(batch, shape.candidates)?;
        let given = scratch.len();
        let (outputs, rest) = team::split(scratch, shape.outputs_len(), 1);
        let scratch = Scratch::carve(rest, shape.sizes(), given)?;
        self.forward(join, shape, batch.queries, outputs);
        self.learn(join, Step { shape, batch, total_weight, ahead: None }, outputs, scratch)
    }

    /// A step on each batch in turn, on all threads of `join`; after every step `each` is given the trainer and the step's
    /// report.
    ///
    /// With [`ahead_len`] elements of scratch more than [`step`](Self::step) needs, the weight crosses memory once less a
    /// step: its panels transform the next batch's queries as soon as they are updated, and where the gradient is stored, part of that
    /// hides the update. The bits are the same.
    ///
    /// # Errors
    /// As [`step`](Self::step), for the first batch that is refused, and what `each` returns; the batches before it have been
    /// learnt from.
    pub fn steps<J: Join, E: From<Error>>(
        &mut self,
        join: &J,
        batches: &[Batch<'_>],
        scratch: &mut [Lanes],
        mut each: impl FnMut(&Self, StepReport) -> Result<(), E>,
    ) -> Result<(), E> {
        let given = scratch.len();
        // `T` of one batch lies at the front of scratch, of the next at its back, of the one after that at the front again.
        let (mut back, mut ready) = (false, false);
        for (i, batch) in batches.iter().enumerate() {
            let shape = Shape::of(&self.adapter, batch)?;
            let total_weight = check_rows(batch, shape.candidates)?;
            let next = batches.get(i + 1).and_then(|next| self.next_ahead(shape, next, given));
            let (next_len, packed_len) =
                next.as_ref().map_or((0, 0), |next| (next.shape.outputs_len(), next.packed_len));
            let (outputs, rest) = end_of(&mut *scratch, shape.outputs_len(), back);
            let (next_outputs, rest) = end_of(rest, next_len, !back);
            let (packed, rest) = team::split(rest, packed_len, 1);
            let scratch = Scratch::carve(rest, shape.sizes(), given)?;
            if !ready {
                self.forward(join, shape, batch.queries, outputs);
            }
            let ahead = next.map(|next| Ahead::new(next.shape, next.queries, packed, next_outputs));
            ready = ahead.is_some();
            let report = self.learn(join, Step { shape, batch, total_weight, ahead }, outputs, scratch)?;
            each(self, report)?;
            back = !back;
        }
        Ok(())
    }

    /// What it takes to transform the next batch's queries beside the update that ends a step of this shape; `None` where that gains
    /// nothing or the `given` scratch has no room for it. A batch that is to be refused is refused when its turn comes.
    fn next_ahead<'a>(&self, shape: Shape, next: &Batch<'a>, given: usize) -> Option<NextAhead<'a>> {
        if !shape.gains_ahead() {
            return None;
        }
        let queries = next.queries;
        let next = Shape::of(&self.adapter, next).ok()?;
        let hides = shape.stores_gradient() && self.optimizer.kind == OptimizerKind::AdamW;
        let packed_len = if hides { packed_len(next.rows, next.in_dim) } else { 0 };
        let lengths = [shape.outputs_len(), scratch::rest_len(shape.sizes()), next.outputs_len(), packed_len];
        let needed = lengths.into_iter().fold(0, usize::saturating_add);
        (needed <= given).then_some(NextAhead { shape: next, queries, packed_len })
    }

    /// `T = Q Wᵀ`.
    fn forward<J: Join>(&self, join: &J, shape: Shape, queries: &[f32], outputs: &mut [Lanes]) {
        let Shape { level, in_dim, bias, rows, .. } = shape;
        let weight = self.adapter.weight().as_lanes();
        run(join, Forward { level, in_dim, bias, rows, first_row: 0, queries, weight, outputs });
    }

    /// All of a step behind the forward pass; `outputs` holds `T`. Nothing is written to the weight, the moments or the
    /// count before all that could be refused has been looked at.
    fn learn<J: Join>(
        &mut self,
        join: &J,
        step: Step<'_>,
        outputs: &mut [Lanes],
        mut scratch: Scratch<'_>,
    ) -> Result<StepReport, Error> {
        let Step { shape, batch, total_weight, ahead } = step;
        let operand = batch.gradient_operand.unwrap_or(batch.queries);
        let middle = Middle { shape, batch, operand, outputs, scale: self.scale, total_weight };
        middle.run(join, &mut scratch);
        let (loss, zero_rows) = middle.check(scratch.states)?;
        run(join, Scatter { shape, d_output: scratch.d_output, first_panel: 0, outputs });
        run(join, Pack { shape, operand, first_tile: 0, packed: scratch.operand });
        let grad_norm = gradient_norm(join, shape, outputs, &mut scratch)?;

        let factor = self.schedule.factor(self.state.steps);
        let coef = clip_coefficient(grad_norm, self.optimizer.max_norm);
        let state = self.state.next(&self.optimizer);
        let update = Update::new(&self.optimizer, &state, factor, coef)?;
        self.check_gradient(coef * grad_norm)?;

        let anchor = match &self.anchor {
            Anchor::Zero => Anchor::Zero,
            Anchor::Identity => Anchor::Identity,
            Anchor::Weights(weights) => Anchor::Weights(weights.as_ref()),
        };
        let panels = UpdatePanels {
            shape,
            update,
            anchor,
            operand: scratch.operand,
            first_panel: 0,
            outputs,
            gradient: scratch.gradient,
            w: self.adapter.weight_lanes_mut(),
            m: self.m.as_mut(),
            v: self.v.as_mut(),
            ahead,
        };
        run(join, panels);
        self.state = state;
        let lr = self.optimizer.lr * factor;
        Ok(StepReport { loss, grad_norm, clip_coefficient: coef, lr, zero_rows })
    }

    /// Refuses a gradient whose square could overflow the second moment.
    fn check_gradient(&self, clipped_norm: f32) -> Result<(), Error> {
        let mut largest = clipped_norm;
        let decay = self.optimizer.weight_decay;
        let anchor = match &self.anchor {
            Anchor::Zero => 0.0,
            Anchor::Identity => 1.0,
            Anchor::Weights(weights) => max_abs(weights.as_ref()),
        };
        // Here the decay is part of the gradient; |w − anchor| ≤ |w| + |anchor|. If only that overflows, even a decay of 0 makes it
        // NaN, which is no less than the limit.
        if self.optimizer.kind == OptimizerKind::Adam && (decay > 0.0 || anchor > 1.0) {
            largest += decay * (max_abs(self.adapter.weight().as_lanes()) + anchor);
        }
        if largest <= GRADIENT_LIMIT { Ok(()) } else { Err(Error::GradientTooLarge) }
    }
}

/// The next batch, whose queries are transformed ahead.
struct NextAhead<'a> {
    shape: Shape,
    queries: &'a [f32],
    packed_len: usize,
}

/// `len` elements of one end of a buffer, and the others.
fn end_of(buffer: &mut [Lanes], len: usize, back: bool) -> (&mut [Lanes], &mut [Lanes]) {
    if back {
        let (others, end) = buffer.split_at_mut(buffer.len().saturating_sub(len));
        (end, others)
    } else {
        team::split(buffer, len, 1)
    }
}

fn max_abs(lanes: &[Lanes]) -> f32 {
    let mut largest = 0.0;
    for &x in flat(lanes) {
        largest = math::max(largest, x.abs());
    }
    largest
}

/// What one step is about.
struct Step<'a> {
    shape: Shape,
    batch: &'a Batch<'a>,
    /// Sum of the weights.
    total_weight: f32,
    /// The next batch's forward pass.
    ahead: Option<Ahead<'a>>,
}

/// The sizes of a step.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    candidates: usize,
    /// Candidates at a time.
    block: usize,
    /// Whether documents are copied into scratch, block by block.
    streaming: bool,
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

    /// Whether the gradient is stored, so that the update only reads it.
    const fn stores_gradient(&self) -> bool {
        matches!(norm_form(self.rows, self.in_dim), NormForm::Direct)
    }

    /// Whether the next forward pass is better done with the update: it then hides the update, or the weight has left the
    /// second-level cache (2 MiB, say) when the update is over.
    const fn gains_ahead(&self) -> bool {
        let parameters = panel_len(self.out_dim, self.stride()) * LANES;
        let bytes = parameters.saturating_mul(3 * size_of::<f32>());
        self.stores_gradient() || bytes > 1 << 21
    }

    const fn outputs_len(&self) -> usize {
        outputs_len(self.rows, self.out_dim)
    }

    const fn sizes(&self) -> Sizes {
        let Self { rows, block, streaming, in_dim, out_dim, .. } = *self;
        Sizes { rows, block, in_dim, out_dim, streaming }
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
        let candidates = batch.documents.count(out_dim);
        let (block, streaming) = match batch.documents {
            Documents::Rows(documents) => {
                check_len("documents", candidates.max(1).saturating_mul(out_dim), documents.len())?;
                (candidates, false)
            }
            Documents::Blocks { block: 0, .. } => return Err(Error::Setting { name: "block" }),
            Documents::Blocks { .. } if candidates == 0 => {
                return Err(Error::Length { what: "documents", needed: out_dim, given: 0 });
            }
            Documents::Blocks { block, .. } => (block.min(candidates), true),
        };
        let most = u32::MAX as usize;
        if candidates > most {
            return Err(Error::Length { what: "documents", needed: most, given: candidates });
        }
        let (bias, level) = (adapter.has_bias(), adapter.level());
        Ok(Self { rows, candidates, block, streaming, in_dim, out_dim, bias, level })
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
