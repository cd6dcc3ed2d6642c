//! Learning: an adapter, its moments and a training step, in memory of the caller's.

use core::mem::MaybeUninit;

use query_adapter::{
    Batch, Decay, Documents, Lanes, Linear, MAX_DIM, Optimizer, OptimizerKind, Schedule, Trainer, linear_len,
    scratch_len,
};

use crate::adapter::QadAdapter;
use crate::level;
use crate::pointers::{Input, Output, QadLanes, check_apart};
use crate::status::{QAD_DIMENSION, QAD_NULL, QAD_SETTING, Refusal, status};

/// Plain gradient descent.
pub const QAD_SGD: i32 = 1;
/// Adam.
pub const QAD_ADAM: i32 = 2;
/// Adam with decoupled weight decay.
pub const QAD_ADAMW: i32 = 3;

/// The learning rate stays after the warm-up.
pub const QAD_CONSTANT: i32 = 1;
/// The learning rate falls to 0 along a line.
pub const QAD_LINEAR: i32 = 2;
/// The learning rate falls to 0 along half a cosine.
pub const QAD_COSINE: i32 = 3;

/// How to learn. Begin with `qad_training_defaults`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QadTraining {
    /// QAD_SGD, QAD_ADAM or QAD_ADAMW.
    pub optimizer: i32,
    /// Learning rate, at least 0.
    pub lr: f32,
    /// Decay of the first moment, in 0 .. 1.
    pub beta1: f32,
    /// Decay of the second moment, in 0 .. 1.
    pub beta2: f32,
    /// Added to the root of the second moment; positive.
    pub eps: f32,
    /// Strength of weight decay, at least 0.
    pub weight_decay: f32,
    /// Largest norm of the gradient; infinite for no clipping.
    pub max_norm: f32,
    /// Factor of the cosines before the softmax: 1 / temperature.
    pub scale: f32,
    /// QAD_CONSTANT, QAD_LINEAR or QAD_COSINE.
    pub decay: i32,
    /// Steps of linear warm-up.
    pub warmup: u32,
    /// Steps of the whole run.
    pub total: u32,
}

/// A batch: `rows` queries, `candidates` documents, and which of them answers which.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QadBatch {
    /// `rows * in_dim` elements, row after row.
    pub queries: *const f32,
    /// `candidates * out_dim` elements, row after row, through `qad_normalize_rows`; distinct documents.
    pub documents: *const f32,
    /// For each row the index of its answer among the candidates.
    pub targets: *const u32,
    /// For each row its weight in the mean, at least 0.
    pub weights: *const f32,
    /// Queries.
    pub rows: usize,
    /// Documents.
    pub candidates: usize,
}

/// What a step did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct QadReport {
    /// Mean loss before the update.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
    /// What it was clipped by.
    pub clip_coefficient: f32,
    /// The learning rate used.
    pub lr: f32,
    /// Rows without effect, whose transformed query is zero.
    pub zero_rows: u32,
}

/// What a trainer takes, in 8 bytes each.
pub const QAD_TRAINER_WORDS: usize = 32;

/// How many `qad_lanes` of scratch each row's panel takes for itself.
pub const QAD_QUERY_STATE_LEN: usize = 8;

const _: () = assert!(scratch_len(1, 1, 1, 1) == 8 + QAD_QUERY_STATE_LEN);

type Inner = Trainer<&'static mut [Lanes]>;

/// An adapter that learns. The memory given to `qad_trainer_open` is the trainer's as long as it is used: read the weight
/// by `qad_trainer_adapter`, after each step anew.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct QadTrainer {
    /// Not to be touched.
    pub opaque: [MaybeUninit<u64>; QAD_TRAINER_WORDS],
}

/// The first words of an open trainer: where it lies, so that neither zeros nor a copy elsewhere are taken for one.
#[repr(C)]
struct Open {
    address: usize,
    inner: Inner,
}

const _: () =
    assert!(size_of::<Open>() <= size_of::<QadTrainer>() && align_of::<Open>() <= align_of::<QadTrainer>());

/// AdamW as PyTorch has it, clipped at norm 1, scale 20, a constant learning rate.
// SAFETY: no other symbol of this name is in this library.
#[unsafe(no_mangle)]
pub extern "C" fn qad_training_defaults(lr: f32) -> QadTraining {
    let Optimizer { beta1, beta2, eps, weight_decay, max_norm, .. } = Optimizer::adamw(lr);
    QadTraining {
        optimizer: QAD_ADAMW,
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        max_norm,
        scale: 20.0,
        decay: QAD_CONSTANT,
        warmup: 0,
        total: 0,
    }
}

/// How many `qad_lanes` of scratch a step needs, for batches of up to `rows` queries and `candidates` documents.
// SAFETY: no other symbol of this name is in this library.
#[unsafe(no_mangle)]
pub extern "C" fn qad_scratch_len(rows: usize, candidates: usize, in_dim: usize, out_dim: usize) -> usize {
    scratch_len(rows, candidates, in_dim, out_dim)
}

/// Sets a weight of `weight_len` elements to the identity, its bias to zero.
///
/// # Safety
/// `weight` points to as many elements as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_set_identity(
    weight: *mut QadLanes,
    weight_len: usize,
    in_dim: usize,
    out_dim: usize,
    bias: bool,
) -> i32 {
    status(|| {
        check_dims(in_dim, out_dim)?;
        // SAFETY: as the caller promises.
        let weight = unsafe { Output::new(weight, weight_len)?.lanes().get() };
        Linear::identity(in_dim, out_dim, bias, weight, level())?;
        Ok(())
    })
}

/// Sets a weight without its bias: `out_dim * in_dim` values, row after row. Padding rows are not touched: begin with
/// zeros, `qad_set_identity` or `qad_open_copy`.
///
/// # Safety
/// The pointers point to as many elements as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_set_weight(
    weight: *mut QadLanes,
    weight_len: usize,
    in_dim: usize,
    out_dim: usize,
    bias: bool,
    values: *const f32,
    values_len: usize,
) -> i32 {
    status(|| {
        check_dims(in_dim, out_dim)?;
        let (weight, values) = (Output::new(weight, weight_len)?.lanes(), Input::new(values, values_len)?);
        check_apart(&[weight.span()], &[values.span()])?;
        // SAFETY: as the caller promises.
        let (weight, values) = unsafe { (weight.get(), values.get()) };
        Ok(Linear::from_lanes(in_dim, out_dim, bias, weight, level())?.set_weight(values)?)
    })
}

/// Sets the bias of a weight that has one: `out_dim` values.
///
/// # Safety
/// The pointers point to as many elements as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_set_bias(
    weight: *mut QadLanes,
    weight_len: usize,
    in_dim: usize,
    out_dim: usize,
    values: *const f32,
    values_len: usize,
) -> i32 {
    status(|| {
        check_dims(in_dim, out_dim)?;
        let (weight, values) = (Output::new(weight, weight_len)?.lanes(), Input::new(values, values_len)?);
        check_apart(&[weight.span()], &[values.span()])?;
        // SAFETY: as the caller promises.
        let (weight, values) = unsafe { (weight.get(), values.get()) };
        Ok(Linear::from_lanes(in_dim, out_dim, true, weight, level())?.set_bias(values)?)
    })
}

/// Begins to learn from the adapter whose weight is in `weight`. `weight`, `m` and `v` have qad_weight_len elements each;
/// `m` and `v` are set to zero, and are null for QAD_SGD.
///
/// # Safety
/// The pointers point to as many elements as this takes, initialised; nothing else writes there as long as the trainer is
/// used. `trainer` stays where it is as long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_trainer_open(
    trainer: *mut QadTrainer,
    in_dim: usize,
    out_dim: usize,
    bias: bool,
    weight: *mut QadLanes,
    m: *mut QadLanes,
    v: *mut QadLanes,
    training: *const QadTraining,
) -> i32 {
    status(|| {
        check_dims(in_dim, out_dim)?;
        let (place, training) = (Output::new(trainer, 1)?, Input::new(training, 1)?);
        // SAFETY: as the caller promises.
        let settings = *unsafe { training.get() }.first().ok_or(Refusal(QAD_NULL))?;
        let optimizer = optimizer(&settings)?;
        let length = linear_len(in_dim, out_dim, bias);
        let moments = if optimizer.kind.has_moments() { length } else { 0 };
        let weight = Output::new(weight, length)?.lanes();
        let (m, v) = (Output::new(m, moments)?.lanes(), Output::new(v, moments)?.lanes());
        check_apart(&[place.span(), weight.span(), m.span(), v.span()], &[training.span()])?;
        // SAFETY: as the caller promises.
        let (weight, m, v) = unsafe { (weight.get(), m.get(), v.get()) };
        let adapter = Linear::from_lanes(in_dim, out_dim, bias, weight, level())?;
        let inner = Trainer::new(adapter, m, v, settings.scale, optimizer, schedule(&settings)?)?;
        // SAFETY: not null, aligned and apart from all else by the checks above; large enough by the assertion at `Open`.
        unsafe { trainer.cast::<Open>().write(Open { address: trainer.addr(), inner }) };
        Ok(())
    })
}

/// One step on one batch. `scratch` has at least qad_scratch_len elements; what it held does not matter. A step that is
/// refused has changed nothing but the scratch. `report` may be null.
///
/// # Safety
/// `trainer` has been opened; all pointers point to as many elements as is said, those of the batch too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_trainer_step(
    trainer: *mut QadTrainer,
    batch: *const QadBatch,
    scratch: *mut QadLanes,
    scratch_len: usize,
    report: *mut QadReport,
) -> i32 {
    status(|| {
        let report = Output::new(report, usize::from(!report.is_null()))?;
        let (place, handle) = (Output::new(trainer, 1)?, Input::new(batch, 1)?);
        let scratch = Output::new(scratch, scratch_len)?.lanes();
        // SAFETY: as the caller promises.
        let (inner, batch) = unsafe { (open(trainer)?, *handle.get().first().ok_or(Refusal(QAD_NULL))?) };
        let (in_dim, out_dim) = (inner.adapter().in_dim(), inner.adapter().out_dim());
        let queries = Input::new(batch.queries, batch.rows.saturating_mul(in_dim))?;
        let documents = Input::new(batch.documents, batch.candidates.saturating_mul(out_dim))?;
        let targets = Input::new(batch.targets, batch.rows)?;
        let weights = Input::new(batch.weights, batch.rows)?;
        let own = [inner.adapter().weight().as_lanes(), inner.m(), inner.v()].map(|lanes| {
            let range = lanes.as_ptr_range();
            range.start.addr()..range.end.addr()
        });
        let [w, m, v] = own;
        let read = [handle.span(), queries.span(), documents.span(), targets.span(), weights.span()];
        check_apart(&[place.span(), scratch.span(), report.span(), w, m, v], &read)?;
        // SAFETY: as the caller promises.
        let (queries, documents, targets, weights, scratch) =
            unsafe { (queries.get(), documents.get(), targets.get(), weights.get(), scratch.get()) };
        let batch = Batch {
            queries,
            gradient_operand: None,
            documents: Documents::Rows(documents),
            targets,
            weights,
            mask: &[],
        };
        let done = inner.step(&batch, scratch)?;
        let done = QadReport {
            loss: done.loss,
            grad_norm: done.grad_norm,
            clip_coefficient: done.clip_coefficient,
            lr: done.lr,
            zero_rows: done.zero_rows,
        };
        // SAFETY: as the caller promises.
        unsafe { report.set(done) };
        Ok(())
    })
}

/// The adapter as it is now, to apply it until the next step.
///
/// # Safety
/// `trainer` has been opened; `adapter` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_trainer_adapter(trainer: *mut QadTrainer, adapter: *mut QadAdapter) -> i32 {
    status(|| {
        let (place, out) = (Output::new(trainer, 1)?, Output::new(adapter, 1)?);
        check_apart(&[place.span(), out.span()], &[])?;
        // SAFETY: as the caller promises.
        let mut linear = unsafe { open(trainer)? }.adapter_mut();
        let (in_dim, out_dim, bias) = (linear.in_dim(), linear.out_dim(), linear.has_bias());
        let weight = linear.weight_lanes_mut().as_mut_ptr().cast::<QadLanes>();
        // SAFETY: as the caller promises.
        unsafe { out.set(QadAdapter::of_weight(weight, in_dim, out_dim, bias)) };
        Ok(())
    })
}

/// The trainer in an open handle.
///
/// # Safety
/// `trainer` can be read and written; what is there was written by `qad_trainer_open`, or is no trainer at all.
unsafe fn open<'a>(trainer: *mut QadTrainer) -> Result<&'a mut Inner, Refusal> {
    let opened = trainer.cast::<Open>();
    // SAFETY: `Output::new` has looked at the pointer; the first word is there, whatever it is.
    let address = unsafe { (&raw const (*opened).address).read() };
    if address != trainer.addr() {
        return Err(Refusal(QAD_NULL));
    }
    // SAFETY: only `qad_trainer_open` writes a handle's own address there, and a whole trainer behind it.
    Ok(unsafe { &mut (*opened).inner })
}

fn check_dims(in_dim: usize, out_dim: usize) -> Result<(), Refusal> {
    let allowed = 1..=MAX_DIM;
    if allowed.contains(&in_dim) && allowed.contains(&out_dim) { Ok(()) } else { Err(Refusal(QAD_DIMENSION)) }
}

fn optimizer(settings: &QadTraining) -> Result<Optimizer, Refusal> {
    let kind = match settings.optimizer {
        QAD_SGD => OptimizerKind::Sgd,
        QAD_ADAM => OptimizerKind::Adam,
        QAD_ADAMW => OptimizerKind::AdamW,
        _ => return Err(Refusal(QAD_SETTING)),
    };
    let QadTraining { lr, beta1, beta2, eps, weight_decay, max_norm, .. } = *settings;
    Ok(Optimizer { kind, lr, beta1, beta2, eps, weight_decay, max_norm })
}

fn schedule(settings: &QadTraining) -> Result<Schedule, Refusal> {
    let decay = match settings.decay {
        QAD_CONSTANT => Decay::Constant,
        QAD_LINEAR => Decay::Linear,
        QAD_COSINE => Decay::Cosine,
        _ => return Err(Refusal(QAD_SETTING)),
    };
    Ok(Schedule { decay, warmup: settings.warmup, total: settings.total })
}
