//! Documents: laid out, stored in fewer bits, searched.

use core::ffi::c_void;

use query_adapter::{
    ByteLanes, DocumentPanels, Found, HalfLanes, MAX_DIM, PanelMatrix, TopK, encode_f16, encode_int8,
    panel_len, panels, search,
};

use crate::level;
use crate::pointers::{Input, Output, QadLanes, check_apart};
use crate::status::{QAD_DIMENSION, QAD_LENGTH, QAD_NULL, QAD_SETTING, Refusal, status};

/// Elements of documents: `qad_lanes`.
pub const QAD_F32: i32 = 1;
/// Elements of documents: `qad_half_lanes`.
pub const QAD_F16: i32 = 2;
/// Elements of documents: `qad_byte_lanes`, with a scale for each document.
pub const QAD_INT8: i32 = 3;

/// Sixteen binary16 numbers, by their bits, at a multiple of 32 bytes.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug)]
pub struct QadHalfLanes {
    /// One component of sixteen documents.
    pub rows: [u16; 16],
}

/// Sixteen integers, to be multiplied by their documents' scales, at a multiple of 16 bytes.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct QadByteLanes {
    /// One component of sixteen documents.
    pub rows: [i8; 16],
}

/// Documents in panels: sixteen documents side by side, component after component; the last panel filled up with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QadDocuments {
    /// QAD_F32, QAD_F16 or QAD_INT8.
    pub dtype: i32,
    /// The elements: qad_panel_len(count, dim) of them.
    pub values: *const c_void,
    /// For QAD_INT8 a scale for each document, sixteen to an element; otherwise null.
    pub scales: *const QadLanes,
    /// How many documents there are.
    pub count: usize,
    /// Components of each.
    pub dim: usize,
}

/// A document that was found.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QadFound {
    /// Its score.
    pub score: f32,
    /// Its place among all ids in ascending order: of equal scores the lower comes first.
    pub order: u32,
    /// Its index.
    pub document: u32,
}

const _: () = {
    assert!(size_of::<QadFound>() == size_of::<Found>() && align_of::<QadFound>() == align_of::<Found>());
    assert!(
        size_of::<QadHalfLanes>() == size_of::<HalfLanes>()
            && align_of::<QadHalfLanes>() == align_of::<HalfLanes>()
    );
    assert!(
        size_of::<QadByteLanes>() == size_of::<ByteLanes>()
            && align_of::<QadByteLanes>() == align_of::<ByteLanes>()
    );
};

/// How many elements documents take, or any matrix of `rows` rows of `cols` values: QAD_PANELS(rows) * cols.
// SAFETY: no other symbol of this name is in this library.
#[unsafe(no_mangle)]
pub extern "C" fn qad_panel_len(rows: usize, cols: usize) -> usize {
    panel_len(rows, cols)
}

/// Lays rows of `dim` elements out in panels of qad_panel_len(rows_len / dim, dim) elements.
///
/// # Safety
/// The pointers point to as many elements as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_panels_from_rows(
    rows: *const f32,
    rows_len: usize,
    dim: usize,
    out: *mut QadLanes,
    out_len: usize,
) -> i32 {
    status(|| {
        let (rows, out) = (Input::new(rows, rows_len)?, Output::new(out, out_len)?.lanes());
        check_apart(&[out.span()], &[rows.span()])?;
        if dim == 0 || dim > MAX_DIM {
            return Err(Refusal(QAD_DIMENSION));
        }
        // SAFETY: as the caller promises.
        let (rows, out) = unsafe { (rows.get(), out.get()) };
        Ok(PanelMatrix::new(rows_len / dim, dim, out)?.copy_from_row_major(rows)?)
    })
}

/// Rounds panels to binary16: as many elements as there are.
///
/// # Safety
/// The pointers point to as many elements as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_encode_f16(panels: *const QadLanes, out: *mut QadHalfLanes, len: usize) -> i32 {
    status(|| {
        let (panels, out) = (Input::new(panels, len)?.lanes(), Output::new(out.cast::<HalfLanes>(), len)?);
        check_apart(&[out.span()], &[panels.span()])?;
        // SAFETY: as the caller promises.
        let (panels, out) = unsafe { (panels.get(), out.get()) };
        Ok(encode_f16(panels, out)?)
    })
}

/// Rounds panels of `rows` rows to eight bits with a scale for each row: `values` has qad_panel_len(rows, cols) elements as
/// `matrix` has, `scales` has QAD_PANELS(rows).
///
/// # Safety
/// The pointers point to as many elements as this takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_encode_int8(
    rows: usize,
    cols: usize,
    matrix: *const QadLanes,
    values: *mut QadByteLanes,
    scales: *mut QadLanes,
) -> i32 {
    status(|| {
        let length = panel_len(rows, cols);
        let matrix = Input::new(matrix, length)?.lanes();
        let values = Output::new(values.cast::<ByteLanes>(), length)?;
        let scales = Output::new(scales, panels(rows))?.lanes();
        check_apart(&[values.span(), scales.span()], &[matrix.span()])?;
        // SAFETY: as the caller promises.
        let (matrix, values, scales) = unsafe { (matrix.get(), values.get(), scales.get()) };
        Ok(encode_int8(rows, cols, matrix, values, scales)?)
    })
}

/// Finds the documents whose products with `query`, of `dim` elements, are largest: at most `best_len` of them go to
/// `best`, the best first, and how many to `found`. `order` has the place of each document among all ids in ascending
/// order, or is null where they lie in that order. `best` may have been written to when a score is NaN.
///
/// # Safety
/// The pointers point to as many elements as is said; `order` to one for each document.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qad_search(
    documents: *const QadDocuments,
    query: *const f32,
    query_len: usize,
    order: *const u32,
    best: *mut QadFound,
    best_len: usize,
    found: *mut usize,
) -> i32 {
    status(|| {
        let handle = Input::new(documents, 1)?;
        let query = Input::new(query, query_len)?;
        let best = Output::new(best.cast::<Found>(), best_len)?;
        let found = Output::new(found, 1)?;
        // SAFETY: as the caller promises.
        let documents = *unsafe { handle.get() }.first().ok_or(Refusal(QAD_NULL))?;
        let QadDocuments { dtype, values, scales, count, dim } = documents;
        if dim > MAX_DIM {
            return Err(Refusal(QAD_DIMENSION));
        }
        if query_len != dim {
            return Err(Refusal(QAD_LENGTH));
        }
        let order_len = if order.is_null() { 0 } else { count };
        let order = Input::new(order, order_len)?;
        let length = panel_len(count, dim);
        let scales = Input::new(scales, if dtype == QAD_INT8 { panels(count) } else { 0 })?.lanes();
        let wide = Input::new(values.cast::<QadLanes>(), if dtype == QAD_F32 { length } else { 0 })?.lanes();
        let half = Input::new(values.cast::<HalfLanes>(), if dtype == QAD_F16 { length } else { 0 })?;
        let byte = Input::new(values.cast::<ByteLanes>(), if dtype == QAD_INT8 { length } else { 0 })?;
        let read =
            [handle.span(), query.span(), order.span(), scales.span(), wide.span(), half.span(), byte.span()];
        check_apart(&[best.span(), found.span()], &read)?;
        // SAFETY: as the caller promises.
        let panels = unsafe {
            match dtype {
                QAD_F32 => DocumentPanels::F32(wide.get()),
                QAD_F16 => DocumentPanels::F16(half.get()),
                QAD_INT8 => DocumentPanels::Int8 { values: byte.get(), scales: scales.get() },
                _ => return Err(Refusal(QAD_SETTING)),
            }
        };
        // SAFETY: as the caller promises.
        let (query, order, storage) = unsafe { (query.get(), order.get(), best.get()) };
        let mut best = TopK::new(storage);
        search(level(), query, panels, count, Some(order).filter(|_| order_len > 0), &mut best)?;
        // SAFETY: as the caller promises.
        unsafe { found.set(best.into_sorted().len()) };
        Ok(())
    })
}
