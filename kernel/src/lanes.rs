//! The one data layout: sixteen rows side by side, column after column.
//!
//! A matrix of `rows × cols` is a sequence of *panels*; panel `p` holds rows `16p .. 16p + 15`, and inside it column
//! follows column, so element `(r, k)` lies in `storage[(r / 16) * cols + k]`, lane `r % 16`. The last panel is padded
//! with rows of `+0`.

use crate::error::Error;

/// Rows in a panel, and `f32` values in one [`Lanes`].
pub const LANES: usize = 16;

/// Largest input or output dimension of an adapter.
pub const MAX_DIM: usize = 8192;

/// Sixteen `f32`, aligned to a cache line: the unit of every buffer of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

impl Lanes {
    /// Sixteen times `+0`.
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// The same memory as plain `f32` values, sixteen to a [`Lanes`].
#[inline(always)]
pub(crate) fn flat(lanes: &[Lanes]) -> &[f32] {
    // Sizes and alignment always fit this way round; the empty slice is never taken.
    bytemuck::try_cast_slice(lanes).unwrap_or(&[])
}

/// [`flat`] to write to.
#[inline(always)]
pub(crate) fn flat_mut(lanes: &mut [Lanes]) -> &mut [f32] {
    bytemuck::try_cast_slice_mut(lanes).unwrap_or(&mut [])
}

/// How many panels hold `rows` rows.
#[must_use]
pub const fn panels(rows: usize) -> usize {
    rows.div_ceil(LANES)
}

/// How many [`Lanes`] a matrix of `rows × cols` takes in panels.
///
/// Saturates at `usize::MAX` when the true number does not fit, so that no buffer can satisfy it.
#[must_use]
pub const fn panel_len(rows: usize, cols: usize) -> usize {
    panels(rows).saturating_mul(cols)
}

/// Checks that a buffer has the length an operation needs.
pub(crate) const fn check_len(what: &'static str, needed: usize, given: usize) -> Result<(), Error> {
    if needed == given { Ok(()) } else { Err(Error::Length { what, needed, given }) }
}

/// Checks that a dimension lies in `1 ..= MAX_DIM`.
pub(crate) const fn check_dim(what: &'static str, given: usize) -> Result<(), Error> {
    if given >= 1 && given <= MAX_DIM { Ok(()) } else { Err(Error::Dimension { what, given, max: MAX_DIM }) }
}

/// A matrix in panels over storage of the caller's: `[Lanes; N]`, `&'static [Lanes]`, `&mut [Lanes]`, `Vec<Lanes>`.
///
/// ```
/// use query_adapter::{Lanes, PanelMatrix, panel_len};
///
/// let mut storage = [Lanes::ZERO; panel_len(2, 3)];
/// let mut matrix = PanelMatrix::new(2, 3, &mut storage[..])?;
/// matrix.copy_from_row_major(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(matrix.get(1, 0), Some(4.0));
/// # Ok::<(), query_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PanelMatrix<S> {
    rows: usize,
    cols: usize,
    storage: S,
}

impl<S: AsRef<[Lanes]>> PanelMatrix<S> {
    /// Wraps `storage`, which must hold exactly [`panel_len(rows, cols)`](panel_len) elements, as it is.
    ///
    /// # Errors
    /// [`Error::Length`] when `storage` has another length.
    pub fn new(rows: usize, cols: usize, storage: S) -> Result<Self, Error> {
        check_len("panel matrix", panel_len(rows, cols), storage.as_ref().len())?;
        Ok(Self { rows, cols, storage })
    }

    /// Number of rows, without padding.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The whole storage, panel after panel.
    #[must_use]
    pub fn as_lanes(&self) -> &[Lanes] {
        self.storage.as_ref()
    }

    /// Element `(row, col)`, or `None` outside the matrix.
    #[must_use]
    pub fn get(&self, row: usize, col: usize) -> Option<f32> {
        if row >= self.rows || col >= self.cols {
            return None;
        }
        let lanes = self.storage.as_ref().get((row / LANES) * self.cols + col)?;
        lanes.0.get(row % LANES).copied()
    }

    /// Writes all elements to `out`, row after row: `rows × cols` values.
    ///
    /// # Errors
    /// [`Error::Length`] when `out` has another length.
    pub fn copy_to_row_major(&self, out: &mut [f32]) -> Result<(), Error> {
        check_len("row-major matrix", self.rows.saturating_mul(self.cols), out.len())?;
        if self.cols == 0 {
            return Ok(());
        }
        for (panel, rows) in
            self.storage.as_ref().chunks_exact(self.cols).zip(out.chunks_mut(LANES.saturating_mul(self.cols)))
        {
            for (lane, row) in rows.chunks_exact_mut(self.cols).enumerate() {
                for (value, column) in row.iter_mut().zip(panel) {
                    *value = column.0.get(lane).copied().unwrap_or(0.0);
                }
            }
        }
        Ok(())
    }

    /// Gives the storage back.
    pub fn into_storage(self) -> S {
        self.storage
    }
}

impl<S: AsRef<[Lanes]> + AsMut<[Lanes]>> PanelMatrix<S> {
    /// The whole storage, panel after panel. Padding rows must stay `+0`.
    pub fn as_lanes_mut(&mut self) -> &mut [Lanes] {
        self.storage.as_mut()
    }

    /// The same matrix over borrowed storage.
    #[cfg(feature = "train")]
    pub(crate) fn by_mut(&mut self) -> PanelMatrix<&mut [Lanes]> {
        PanelMatrix { rows: self.rows, cols: self.cols, storage: self.storage.as_mut() }
    }

    /// Sets element `(row, col)`; outside the matrix nothing happens and `false` comes back.
    pub fn set(&mut self, row: usize, col: usize, value: f32) -> bool {
        if row >= self.rows || col >= self.cols {
            return false;
        }
        let index = (row / LANES) * self.cols + col;
        match self.storage.as_mut().get_mut(index).and_then(|lanes| lanes.0.get_mut(row % LANES)) {
            Some(place) => {
                *place = value;
                true
            }
            None => false,
        }
    }

    /// Sets every element, padding included, to `+0`.
    pub fn fill_zero(&mut self) {
        self.storage.as_mut().fill(Lanes::ZERO);
    }

    /// Makes the matrix zero with ones on its diagonal.
    pub fn fill_identity(&mut self) {
        self.fill_zero();
        for i in 0..self.rows.min(self.cols) {
            self.set(i, i, 1.0);
        }
    }

    /// Reads all elements from `values`, row after row, and zeroes the padding.
    ///
    /// # Errors
    /// [`Error::Length`] when `values` has not `rows × cols` elements; the matrix is as before.
    pub fn copy_from_row_major(&mut self, values: &[f32]) -> Result<(), Error> {
        check_len("row-major matrix", self.rows.saturating_mul(self.cols), values.len())?;
        if self.cols == 0 {
            return Ok(());
        }
        let cols = self.cols;
        self.fill_zero();
        for (panel, rows) in
            self.storage.as_mut().chunks_exact_mut(cols).zip(values.chunks(LANES.saturating_mul(cols)))
        {
            for (lane, row) in rows.chunks_exact(cols).enumerate() {
                for (column, &value) in panel.iter_mut().zip(row) {
                    if let Some(place) = column.0.get_mut(lane) {
                        *place = value;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(feature = "nalgebra")]
mod with_nalgebra {
    use nalgebra::{Dim, Matrix, RawStorage, RawStorageMut};

    use super::{Lanes, PanelMatrix, check_len};
    use crate::error::Error;

    impl<S: AsRef<[Lanes]>> PanelMatrix<S> {
        /// Writes all elements to a nalgebra matrix or mutable view of the same shape.
        ///
        /// # Errors
        /// [`Error::Length`] when the number of rows or columns differs.
        pub fn copy_to_nalgebra<R: Dim, C: Dim, T: RawStorageMut<f32, R, C>>(
            &self,
            out: &mut Matrix<f32, R, C, T>,
        ) -> Result<(), Error> {
            check_len("rows of the nalgebra matrix", self.rows, out.nrows())?;
            check_len("columns of the nalgebra matrix", self.cols, out.ncols())?;
            for (col, mut column) in out.column_iter_mut().enumerate() {
                for (row, place) in column.iter_mut().enumerate() {
                    *place = self.get(row, col).unwrap_or(0.0);
                }
            }
            Ok(())
        }
    }

    impl<S: AsRef<[Lanes]> + AsMut<[Lanes]>> PanelMatrix<S> {
        /// Reads all elements from a nalgebra matrix or view of the same shape, and zeroes the padding.
        ///
        /// # Errors
        /// [`Error::Length`] when the number of rows or columns differs; the matrix is as before.
        pub fn copy_from_nalgebra<R: Dim, C: Dim, T: RawStorage<f32, R, C>>(
            &mut self,
            values: &Matrix<f32, R, C, T>,
        ) -> Result<(), Error> {
            check_len("rows of the nalgebra matrix", self.rows, values.nrows())?;
            check_len("columns of the nalgebra matrix", self.cols, values.ncols())?;
            self.fill_zero();
            for (col, column) in values.column_iter().enumerate() {
                for (row, &value) in column.iter().enumerate() {
                    self.set(row, col, value);
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_one_cache_line() {
        assert_eq!(size_of::<Lanes>(), 64);
        assert_eq!(align_of::<Lanes>(), 64);
    }

    #[test]
    fn element_lies_where_the_layout_says() {
        for (rows, cols) in [(1, 1), (5, 3), (16, 2), (17, 4), (33, 7), (48, 1)] {
            let values: Vec<f32> = (1u16..).take(rows * cols).map(f32::from).collect();
            let mut matrix =
                PanelMatrix::new(rows, cols, vec![Lanes([9.0; LANES]); panel_len(rows, cols)]).unwrap();
            matrix.copy_from_row_major(&values).unwrap();
            for r in 0..rows {
                for k in 0..cols {
                    let flat = ((r / 16) * cols + k) * 16 + r % 16;
                    assert_eq!(matrix.as_lanes()[flat / 16].0[flat % 16], values[r * cols + k]);
                    assert_eq!(matrix.get(r, k), Some(values[r * cols + k]));
                }
            }
            let sum: f32 = matrix.as_lanes().iter().flat_map(|lanes| lanes.0).sum();
            assert_eq!(sum, values.iter().sum::<f32>(), "padding must be zero");
            let mut back = vec![0.0; rows * cols];
            matrix.copy_to_row_major(&mut back).unwrap();
            assert_eq!(back, values);
            assert_eq!(matrix.get(rows, 0), None);
            assert_eq!(matrix.get(0, cols), None);
            assert!(!matrix.set(rows, 0, 1.0));
        }
    }

    #[test]
    fn wrong_lengths_say_what_was_needed_and_given() {
        let error = PanelMatrix::new(17, 3, [Lanes::ZERO; 5]).unwrap_err();
        assert_eq!(error, Error::Length { what: "panel matrix", needed: 6, given: 5 });
        let mut matrix = PanelMatrix::new(2, 2, [Lanes::ZERO; 2]).unwrap();
        assert_eq!(
            matrix.copy_from_row_major(&[1.0; 3]).unwrap_err(),
            Error::Length { what: "row-major matrix", needed: 4, given: 3 }
        );
        assert_eq!(panel_len(usize::MAX, usize::MAX), usize::MAX);
        assert_eq!(crate::linear_len(usize::MAX, 1, true), usize::MAX);
        let mut none = PanelMatrix::new(0, usize::MAX, []).unwrap();
        assert_eq!((none.copy_from_row_major(&[]), none.copy_to_row_major(&mut [])), (Ok(()), Ok(())));
    }

    #[test]
    fn identity_has_ones_on_the_diagonal_also_when_not_square() {
        for (rows, cols) in [(3, 5), (5, 3), (20, 20)] {
            let mut matrix = PanelMatrix::new(rows, cols, vec![Lanes::ZERO; panel_len(rows, cols)]).unwrap();
            matrix.fill_identity();
            for r in 0..rows {
                for k in 0..cols {
                    assert_eq!(matrix.get(r, k), Some(if r == k { 1.0 } else { 0.0 }));
                }
            }
        }
    }

    #[cfg(feature = "nalgebra")]
    #[test]
    fn copies_from_and_to_nalgebra_views() {
        let source = nalgebra::SMatrix::<f32, 19, 7>::from_fn(|r, c| (r * 100 + c) as f32);
        let view = source.view((1, 2), (18, 4));
        let used = vec![Lanes([7.0; LANES]); panel_len(18, 4)];
        let mut matrix = PanelMatrix::new(18, 4, used).unwrap();
        matrix.copy_from_nalgebra(&view).unwrap();
        assert_eq!(matrix.get(17, 3), Some(1805.0));
        assert_eq!(matrix.as_lanes()[7].0[2..], [0.0; 14], "padding");
        let mut target = nalgebra::SMatrix::<f32, 18, 4>::zeros();
        matrix.copy_to_nalgebra(&mut target).unwrap();
        assert_eq!(target, view);
        assert!(matrix.copy_from_nalgebra(&source).is_err());
    }
}
