//! Adapters: opened where they lie, checked, applied.

use query_adapter::image::{Image, Kind};
use query_adapter::{
    ByteLanes, Error, Int8Linear, Lanes, Linear, MAX_DIM, linear_len, normalize_rows, panel_len, panels,
};

use crate::documents::{QAD_F32, QAD_INT8};
use crate::level;
use crate::pointers::{Input, Output, QadLanes, check_apart};
use crate::status::{QAD_DIMENSION, QAD_LENGTH, QAD_NULL, QAD_SETTING, Refusal, status};

/// An adapter that can be applied. The functions that open it fill it in; it is only to be read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QadAdapter {
    /// Its weight, in memory of the caller's: as `dtype` says.
    pub weight: *const QadLanes,
    /// The adapter file it is in; null where there is none.
    pub image: *const u8,
    /// Bytes of the adapter file.
    pub image_len: usize,
    /// Components of a query.
    pub in_dim: usize,
    /// Components of a transformed query.
    pub out_dim: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// QAD_F32, or QAD_INT8: then the scales are at `weight`, then the bias if there is one, then the values, as in the
    /// adapter file.
    pub dtype: i32,
}

/// Where an adapter's weight lies.
enum Weight {
    F32(Input<Lanes>),
    Int8 { scales: Input<Lanes>, bias: Input<Lanes>, values: Input<ByteLanes> },
}

impl Weight {
    /// The addresses it takes.
    fn span(&self) -> core::ops::Range<usize> {
        match self {
            Self::F32(weight) => weight.span(),
            Self::Int8 { scales, values, .. } => scales.span().start..values.span().end,
        }
    }
}

/// An adapter as the kernel has it.
enum Opened<'a> {
    F32(Linear<&'a [Lanes]>),
    Int8(Int8Linear<'a>),
}

impl Opened<'_> {
    fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), Error> {
        match self {
            Self::F32(adapter) => adapter.apply_batch(queries, outputs),
            Self::Int8(adapter) => adapter.apply_batch(queries, outputs),
        }
    }

    fn verify_golden(&self, image: &Image<'_>, scratch: &mut [f32]) -> Result<(), Error> {
        match self {
            Self::F32(adapter) => image.verify_golden(adapter, scratch),
            Self::Int8(adapter) => image.verify_golden(adapter, scratch),
        }
    }
}

impl QadAdapter {
    pub(crate) fn of_weight(weight: *const QadLanes, in_dim: usize, out_dim: usize, bias: bool) -> Self {
        Self { weight, image: core::ptr::null(), image_len: 0, in_dim, out_dim, bias, dtype: QAD_F32 }
    }

    /// Where its weight lies; refused where it has not been opened.
    fn weight(&self) -> Result<Weight, Refusal> {
        let Self { weight, in_dim, out_dim, bias, dtype, .. } = *self;
        if weight.is_null() {
            return Err(Refusal(QAD_NULL));
        }
        if in_dim > MAX_DIM || out_dim > MAX_DIM {
            return Err(Refusal(QAD_DIMENSION));
        }
        match dtype {
            QAD_F32 => Ok(Weight::F32(Input::new(weight, linear_len(in_dim, out_dim, bias))?.lanes())),
            QAD_INT8 => {
                let (column, biases) = (panels(in_dim), if bias { panels(in_dim) } else { 0 });
                let after_scales = weight.wrapping_add(column);
                let values = after_scales.wrapping_add(biases).cast();
                Ok(Weight::Int8 {
                    scales: Input::new(weight, column)?.lanes(),
                    bias: Input::new(after_scales, biases)?.lanes(),
                    values: Input::new(values, panel_len(in_dim, in_dim))?,
                })
            }
            _ => Err(Refusal(QAD_SETTING)),
        }
    }

    /// # Safety
    /// The weight is there, and is not written to as long as `'a` lasts.
    unsafe fn opened<'a>(&self) -> Result<Opened<'a>, Refusal> {
        Ok(match self.weight()? {
            Weight::F32(weight) => {
                // SAFETY: as the caller promises.
                let weight = unsafe { weight.get() };
                Opened::F32(Linear::from_lanes(self.in_dim, self.out_dim, self.bias, weight, level())?)
            }
            Weight::Int8 { scales, bias, values } => {
                // SAFETY: as the caller promises.
                let (scales, bias, values) = unsafe { (scales.get(), bias.get(), values.get()) };
                let bias = self.bias.then_some(bias);
                Opened::Int8(Int8Linear::new(self.in_dim, values, scales, bias, level())?)
            }
        })
    }
}

/// The one element behind a pointer.
///
/// # Safety
/// As for [`Input::get`].
unsafe fn one<'a, T>(pointer: *const T) -> Result<&'a T, Refusal> {
    // SAFETY: as the caller promises.
    let one = unsafe { Input::new(pointer, 1)?.get() };
    one.first().ok_or(Refusal(QAD_NULL))
}

/// How many `qad_lanes` the weight of an adapter takes, and each of its moments.
// SAFETY: no other symbol of this name is in this library.
#[unsafe(no_mangle)]
pub extern "C" fn qad_weight_len(in_dim: usize, out_dim: usize, bias: bool) -> usize {
    linear_len(in_dim, out_dim, bias)
}

/// Opens an adapter file where it lies, at a multiple of 64 bytes: in flash, or from `host-cli export`. Its header and
/// metadata are checked, its weights, in f32 or in int8, are not read; see `qad_verify`.
///
/// # Safety
/// `bytes` points to `len` bytes that stay there, unchanged, as long as the adapter is used. `adapter` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_open(bytes: *const u8, len: usize, adapter: *mut QadAdapter) -> i32 {
    status(|| {
        let (input, output) = (Input::new(bytes, len)?, Output::new(adapter, 1)?);
        check_apart(&[output.span()], &[input.span()])?;
        // SAFETY: as the caller promises.
        let image = Image::view(unsafe { input.get() })?;
        let (weight, dtype) = match image.kind() {
            Kind::Residual => (image.int8(level())?.scales().as_ptr(), QAD_INT8),
            _ => (image.weights()?.as_ptr(), QAD_F32),
        };
        let weight = weight.cast();
        let opened = QadAdapter {
            image: bytes,
            image_len: len,
            dtype,
            ..QadAdapter::of_weight(weight, image.in_dim(), image.out_dim(), image.has_bias())
        };
        // SAFETY: as the caller promises.
        unsafe { output.set(opened) };
        Ok(())
    })
}

/// Opens an adapter file that lies anywhere, on a machine of either byte order, and copies its weights to `weight`, which
/// has as many elements as qad_weight_len says: to go on learning, or where the file cannot stay. A file in int8 is
/// refused: `qad_open` takes it.
///
/// # Safety
/// `bytes` points to `len` bytes, and `weight` to `weight_len` elements that stay there as long as the adapter is used; the
/// bytes too, if `qad_verify` is called. `adapter` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_open_copy(
    bytes: *const u8,
    len: usize,
    weight: *mut QadLanes,
    weight_len: usize,
    adapter: *mut QadAdapter,
) -> i32 {
    status(|| {
        let (input, output) = (Input::new(bytes, len)?, Output::new(adapter, 1)?);
        let copy = Output::new(weight, weight_len)?.lanes();
        check_apart(&[output.span(), copy.span()], &[input.span()])?;
        // SAFETY: as the caller promises.
        let (bytes_in, copy) = unsafe { (input.get(), copy.get()) };
        let image = Image::parse(bytes_in)?;
        image.copy_weights(copy)?;
        let opened = QadAdapter {
            image: bytes,
            image_len: len,
            ..QadAdapter::of_weight(weight, image.in_dim(), image.out_dim(), image.has_bias())
        };
        // SAFETY: as the caller promises.
        unsafe { output.set(opened) };
        Ok(())
    })
}

/// Checks an opened adapter file once: the checksum of its weights, and that this machine computes what the writer's did,
/// to the bit. `scratch` has `in_dim` elements, which QAD_GOLDEN leaves written.
///
/// # Safety
/// `adapter` was opened from a file that is still there; `scratch` points to `scratch_len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_verify(
    adapter: *const QadAdapter,
    scratch: *mut f32,
    scratch_len: usize,
) -> i32 {
    status(|| {
        let (handle, scratch) = (Input::new(adapter, 1)?, Output::new(scratch, scratch_len)?);
        // SAFETY: as the caller promises.
        let adapter = unsafe { one(adapter)? };
        if adapter.image.is_null() {
            return Err(Refusal(QAD_NULL));
        }
        let file = Input::new(adapter.image, adapter.image_len)?;
        check_apart(&[scratch.span()], &[handle.span(), file.span(), adapter.weight()?.span()])?;
        // SAFETY: as the caller promises.
        let (file, scratch, opened) = unsafe { (file.get(), scratch.get(), adapter.opened()?) };
        let image = Image::parse(file)?;
        image.verify()?;
        Ok(opened.verify_golden(&image, scratch)?)
    })
}

/// Transforms one query: `output = W query + b`, or by an adapter in int8 `output = query + s (D query) + b`.
///
/// # Safety
/// `adapter` has been opened; `query` and `output` point to as many elements as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_apply(
    adapter: *const QadAdapter,
    query: *const f32,
    query_len: usize,
    output: *mut f32,
    output_len: usize,
) -> i32 {
    status(|| {
        // SAFETY: as the caller promises.
        let adapter = unsafe { one(adapter)? };
        if query_len != adapter.in_dim {
            return Err(Refusal(QAD_LENGTH));
        }
        // SAFETY: as the caller promises.
        unsafe { apply(adapter, query, query_len, output, output_len) }
    })
}

/// Transforms a batch, row after row: `queries_len` is a multiple of `in_dim`, `outputs_len` as many times `out_dim`. A row
/// gets the bits that `qad_apply` gives it alone.
///
/// # Safety
/// As `qad_apply`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_apply_batch(
    adapter: *const QadAdapter,
    queries: *const f32,
    queries_len: usize,
    outputs: *mut f32,
    outputs_len: usize,
) -> i32 {
    // SAFETY: as the caller promises.
    status(|| unsafe { apply(one(adapter)?, queries, queries_len, outputs, outputs_len) })
}

/// # Safety
/// As [`qad_apply`].
unsafe fn apply(
    adapter: &QadAdapter,
    queries: *const f32,
    queries_len: usize,
    outputs: *mut f32,
    outputs_len: usize,
) -> Result<(), Refusal> {
    let (queries, outputs) = (Input::new(queries, queries_len)?, Output::new(outputs, outputs_len)?);
    let handle = Input::new(adapter, 1)?;
    check_apart(&[outputs.span()], &[handle.span(), queries.span(), adapter.weight()?.span()])?;
    // SAFETY: as the caller promises.
    let (opened, queries, outputs) = unsafe { (adapter.opened()?, queries.get(), outputs.get()) };
    Ok(opened.apply_batch(queries, outputs)?)
}

/// Scales each row of `dim` elements to length 1; rows of zeros stay as they are.
///
/// # Safety
/// `rows` points to `rows_len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_normalize_rows(rows: *mut f32, rows_len: usize, dim: usize) -> i32 {
    status(|| {
        // SAFETY: as the caller promises.
        normalize_rows(level(), unsafe { Output::new(rows, rows_len)?.get() }, dim)?;
        Ok(())
    })
}
