//! Adapters: opened where they lie, checked, applied.

use query_adapter::image::Image;
use query_adapter::{Lanes, Linear, MAX_DIM, linear_len, normalize_rows};

use crate::level;
use crate::pointers::{Input, Output, QadLanes, check_apart};
use crate::status::{QAD_DIMENSION, QAD_LENGTH, QAD_NULL, Refusal, status};

/// An adapter that can be applied. The functions that open it fill it in; it is only to be read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QadAdapter {
    /// Its weight, in memory of the caller's.
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
}

impl QadAdapter {
    pub(crate) fn of_weight(weight: *const QadLanes, in_dim: usize, out_dim: usize, bias: bool) -> Self {
        Self { weight, image: core::ptr::null(), image_len: 0, in_dim, out_dim, bias }
    }

    /// Where its weight lies; refused where it has not been opened.
    fn weight(&self) -> Result<Input<Lanes>, Refusal> {
        if self.weight.is_null() {
            return Err(Refusal(QAD_NULL));
        }
        if self.in_dim > MAX_DIM || self.out_dim > MAX_DIM {
            return Err(Refusal(QAD_DIMENSION));
        }
        Ok(Input::new(self.weight, linear_len(self.in_dim, self.out_dim, self.bias))?.lanes())
    }

    /// # Safety
    /// The weight is there, and is not written to as long as `'a` lasts.
    unsafe fn linear<'a>(&self) -> Result<Linear<&'a [Lanes]>, Refusal> {
        // SAFETY: as the caller promises.
        let weight = unsafe { self.weight()?.get() };
        Ok(Linear::from_lanes(self.in_dim, self.out_dim, self.bias, weight, level())?)
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
    linear_len(in_dim.min(usize::MAX - 1), out_dim, bias)
}

/// Opens an adapter file where it lies, at a multiple of 64 bytes: in flash, or from `host-cli export`. Its header and
/// metadata are checked, its weights are not read; see `qad_verify`.
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
        let weight = image.weights()?.as_ptr().cast();
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

/// Opens an adapter file that lies anywhere, on a machine of either byte order, and copies its weights to `weight`, which
/// has as many elements as qad_weight_len says: to go on learning, or where the file cannot stay.
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
/// to the bit. `scratch` has `in_dim` elements.
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
        let scratch = Output::new(scratch, scratch_len)?;
        // SAFETY: as the caller promises.
        let adapter = unsafe { one(adapter)? };
        if adapter.image.is_null() {
            return Err(Refusal(QAD_NULL));
        }
        let file = Input::new(adapter.image, adapter.image_len)?;
        check_apart(&[scratch.span()], &[file.span(), adapter.weight()?.span()])?;
        // SAFETY: as the caller promises.
        let (file, scratch, linear) = unsafe { (file.get(), scratch.get(), adapter.linear()?) };
        let image = Image::parse(file)?;
        image.verify()?;
        Ok(image.verify_golden(&linear, scratch)?)
    })
}

/// Transforms one query: `output = W query + b`.
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
    let handle = core::ptr::from_ref(adapter).addr();
    let handle = handle..handle.wrapping_add(size_of::<QadAdapter>());
    check_apart(&[outputs.span()], &[queries.span(), adapter.weight()?.span(), handle])?;
    // SAFETY: as the caller promises.
    let (linear, queries, outputs) = unsafe { (adapter.linear()?, queries.get(), outputs.get()) };
    Ok(linear.apply_batch(queries, outputs)?)
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
