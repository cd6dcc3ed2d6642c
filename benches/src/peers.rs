//! Other libraries' matrix products, to be timed in the same run as the kernel's.
//!
//! They may sum in any order and in any precision they like: these are comparisons of speed, not of bits.

mod step;

use core::hint::black_box;

pub use step::PeerStep;

use crate::cases::random_rows;
use crate::limits::{Effort, median, time};
use crate::operations::Operation;

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// [`gemm`](https://docs.rs/gemm), with AVX-512.
    Gemm,
    /// [`faer`](https://docs.rs/faer).
    Faer,
    /// [`nalgebra`](https://docs.rs/nalgebra): its own matrix-vector products; larger ones are matrixmultiply's.
    Nalgebra,
    /// [`matrixmultiply`](https://docs.rs/matrixmultiply).
    Matrixmultiply,
}

/// One library's version of an operation, ready to be run any number of times.
pub struct PeerCase {
    /// Whose.
    pub peer: Peer,
    /// The operation, once.
    pub run: Box<dyn FnMut()>,
}

impl PeerCase {
    /// The versions that there are of `operation`, each with its weight in the layout in which it is faster.
    #[must_use]
    pub fn all(operation: Operation) -> Vec<Self> {
        Peer::ALL.into_iter().filter_map(|peer| Self::faster(peer, operation)).collect()
    }

    fn faster(peer: Peer, operation: Operation) -> Option<Self> {
        const TRIALS: usize = 5;
        let mut best: Option<(f64, Self)> = None;
        for layout in Layout::ALL {
            let mut run = Self::prepared(peer, layout, operation)?;
            let seconds = median(&[(); TRIALS].map(|()| time(Effort::QUICK, &mut run)));
            if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
                best = Some((seconds, Self { peer, run }));
            }
        }
        best.map(|(_, case)| case)
    }

    fn prepared(peer: Peer, layout: Layout, operation: Operation) -> Option<Box<dyn FnMut()>> {
        match operation {
            Operation::Matvec { dim } => Some(outputs(peer, layout, dim, 1)),
            Operation::ApplyBatch { dim, rows } => Some(outputs(peer, layout, dim, rows)),
            // nalgebra's larger products are matrixmultiply's: one of them is enough.
            Operation::TrainStep { dim, rows, candidates } if peer != Peer::Matrixmultiply => {
                let mut step = PeerStep::new(peer, layout, dim, rows, candidates);
                Some(Box::new(move || _ = black_box(step.run())))
            }
            _ => None,
        }
    }
}

/// `W Qᵀ` for `rows` queries; both `Q` and the outputs are row-major, as the kernel's are.
fn outputs(peer: Peer, layout: Layout, dim: usize, rows: usize) -> Box<dyn FnMut()> {
    let (weight, queries) = (random_rows(1, dim, dim), random_rows(2, rows, dim));
    let mut outputs = vec![0.0; rows * dim];
    Box::new(move || {
        let weight = Matrix::new(weight.as_slice(), dim, dim, layout);
        let queries = Matrix::new(black_box(queries.as_slice()), dim, rows, Layout::ColumnMajor);
        peer.product(Matrix::new(&mut outputs, dim, rows, Layout::ColumnMajor), weight, queries);
    })
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row after row.
    RowMajor,
    /// Column after column.
    ColumnMajor,
}

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::RowMajor, Self::ColumnMajor];
}

/// A matrix without gaps.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<V> {
    values: V,
    rows: usize,
    cols: usize,
    layout: Layout,
}

impl<V: AsRef<[f32]>> Matrix<V> {
    /// `rows × cols` values.
    ///
    /// # Panics
    /// When they are not as many.
    #[must_use]
    pub fn new(values: V, rows: usize, cols: usize, layout: Layout) -> Self {
        assert_eq!(Some(values.as_ref().len()), rows.checked_mul(cols), "values of a matrix");
        Self { values, rows, cols, layout }
    }

    /// The same values as the transposed matrix.
    #[must_use]
    pub fn transposed(self) -> Self {
        let layout = match self.layout {
            Layout::RowMajor => Layout::ColumnMajor,
            Layout::ColumnMajor => Layout::RowMajor,
        };
        Self { values: self.values, rows: self.cols, cols: self.rows, layout }
    }

    /// Distance between rows and distance between columns, in elements.
    fn strides(&self) -> (usize, usize) {
        match self.layout {
            Layout::RowMajor => (self.cols, 1),
            Layout::ColumnMajor => (1, self.rows),
        }
    }
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gemm, Self::Faer, Self::Nalgebra, Self::Matrixmultiply];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Faer => "faer",
            Self::Nalgebra => "nalgebra",
            Self::Matrixmultiply => "matrixmultiply",
        }
    }

    /// `c = a b`, on the calling thread.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn product(self, c: Matrix<&mut [f32]>, a: Matrix<&[f32]>, b: Matrix<&[f32]>) {
        assert_eq!((c.rows, c.cols, a.cols), (a.rows, b.cols, b.rows), "shapes of a product");
        match self {
            Self::Gemm => gemm_product(c, a, b),
            Self::Faer => faer_product(c, a, b),
            Self::Nalgebra => nalgebra_product(c, a, b),
            Self::Matrixmultiply => matrixmultiply_product(c, a, b),
        }
    }
}

#[expect(unsafe_code, reason = "gemm has no other interface")]
fn gemm_product(c: Matrix<&mut [f32]>, a: Matrix<&[f32]>, b: Matrix<&[f32]>) {
    let signed = |(rows, cols): (usize, usize)| (rows.cast_signed(), cols.cast_signed());
    let (c_rows, c_cols) = signed(c.strides());
    let (a_rows, a_cols) = signed(a.strides());
    let (b_rows, b_cols) = signed(b.strides());
    // SAFETY: by `product`, c is m × n, a is m × k and b is k × n. By `Matrix::new` each of them has as many values as
    // rows × cols, and by `strides` element (i, j) lies at an index below that. c is borrowed exclusively, so it
    // overlaps neither a nor b; with `read_dst` false it is only written.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.values.as_mut_ptr(),
            c_cols,
            c_rows,
            false,
            a.values.as_ptr(),
            a_cols,
            a_rows,
            b.values.as_ptr(),
            b_cols,
            b_rows,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[expect(unsafe_code, reason = "matrixmultiply has no other interface")]
fn matrixmultiply_product(c: Matrix<&mut [f32]>, a: Matrix<&[f32]>, b: Matrix<&[f32]>) {
    let signed = |(rows, cols): (usize, usize)| (rows.cast_signed(), cols.cast_signed());
    let (c_rows, c_cols) = signed(c.strides());
    let (a_rows, a_cols) = signed(a.strides());
    let (b_rows, b_cols) = signed(b.strides());
    // SAFETY: as in `gemm_product`; no two elements of c share a place, since its strides are those of a matrix
    // without gaps.
    unsafe {
        matrixmultiply::sgemm(
            c.rows,
            a.cols,
            c.cols,
            1.0,
            a.values.as_ptr(),
            a_rows,
            a_cols,
            b.values.as_ptr(),
            b_rows,
            b_cols,
            0.0,
            c.values.as_mut_ptr(),
            c_rows,
            c_cols,
        );
    }
}

fn faer_product(c: Matrix<&mut [f32]>, a: Matrix<&[f32]>, b: Matrix<&[f32]>) {
    fn view(matrix: Matrix<&[f32]>) -> faer::MatRef<'_, f32> {
        match matrix.layout {
            Layout::RowMajor => faer::MatRef::from_row_major_slice(matrix.values, matrix.rows, matrix.cols),
            Layout::ColumnMajor => {
                faer::MatRef::from_column_major_slice(matrix.values, matrix.rows, matrix.cols)
            }
        }
    }
    let out = match c.layout {
        Layout::RowMajor => faer::MatMut::from_row_major_slice_mut(c.values, c.rows, c.cols),
        Layout::ColumnMajor => faer::MatMut::from_column_major_slice_mut(c.values, c.rows, c.cols),
    };
    faer::linalg::matmul::matmul(out, faer::Accum::Replace, view(a), view(b), 1.0, faer::Par::Seq);
}

fn nalgebra_product(c: Matrix<&mut [f32]>, a: Matrix<&[f32]>, b: Matrix<&[f32]>) {
    use nalgebra::{DMatrixView, DVectorView, DVectorViewMut, Dyn, MatrixView, MatrixViewMut};

    type View<'a> = MatrixView<'a, f32, Dyn, Dyn, Dyn, Dyn>;
    type ViewMut<'a> = MatrixViewMut<'a, f32, Dyn, Dyn, Dyn, Dyn>;

    fn view(matrix: Matrix<&[f32]>) -> View<'_> {
        let (row, col) = matrix.strides();
        let (rows, cols) = (Dyn(matrix.rows), Dyn(matrix.cols));
        View::from_slice_with_strides_generic(matrix.values, rows, cols, Dyn(row), Dyn(col))
    }
    if b.cols == 1 {
        // Its forms for one vector, on views whose elements are known to be adjacent.
        let mut y = DVectorViewMut::from_slice(c.values, c.rows);
        let x = DVectorView::from_slice(b.values, b.rows);
        match a.layout {
            Layout::ColumnMajor => y.gemv(1.0, &DMatrixView::from_slice(a.values, a.rows, a.cols), &x, 0.0),
            Layout::RowMajor => y.gemv_tr(1.0, &DMatrixView::from_slice(a.values, a.cols, a.rows), &x, 0.0),
        }
    } else {
        // Up to five rows or columns it does not call matrixmultiply but runs loops of its own, and those of 0.35.0 go
        // past the end of a column whose elements are not adjacent.
        assert!(c.rows.min(c.cols).min(a.cols) > 5, "too small for nalgebra's large products");
        let (row, col) = c.strides();
        let (rows, cols) = (Dyn(c.rows), Dyn(c.cols));
        ViewMut::from_slice_with_strides_generic(c.values, rows, cols, Dyn(row), Dyn(col)).gemm(
            1.0,
            &view(a),
            &view(b),
            0.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_multiplies_in_every_layout() {
        for (m, k, n) in [(1, 1, 1), (7, 6, 9), (33, 20, 1), (16, 40, 18)] {
            let (a, b) = (random_rows(1, m, k), random_rows(2, k, n));
            for [in_a, in_b, in_c] in layouts() {
                let a = Matrix::new(a.as_slice(), m, k, in_a);
                let b = Matrix::new(b.as_slice(), k, n, in_b);
                for peer in Peer::ALL {
                    let mut values = vec![f32::NAN; m * n];
                    peer.product(Matrix::new(&mut values, m, n, in_c), a, b);
                    let c = Matrix::new(values.as_slice(), m, n, in_c);
                    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let expected: f64 =
                            (0..k).map(|l| f64::from(element(a, i, l)) * f64::from(element(b, l, j))).sum();
                        let found = f64::from(element(c, i, j));
                        assert!((found - expected).abs() < 1e-5, "{peer:?} {m}×{k}×{n}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic = "shapes of a product"]
    fn shapes_that_do_not_fit_are_refused() {
        let (a, mut c) = ([0.0; 6], [0.0; 4]);
        let a = Matrix::new(a.as_slice(), 2, 3, Layout::RowMajor);
        Peer::Gemm.product(Matrix::new(&mut c, 2, 2, Layout::RowMajor), a, a);
    }

    #[test]
    #[should_panic = "values of a matrix"]
    fn matrix_of_too_few_values_is_refused() {
        _ = Matrix::new([0.0; 5], 2, 3, Layout::RowMajor);
    }

    fn layouts() -> impl Iterator<Item = [Layout; 3]> {
        let pairs = Layout::ALL.into_iter().flat_map(|a| Layout::ALL.map(|b| (a, b)));
        pairs.flat_map(|(a, b)| Layout::ALL.map(|c| [a, b, c]))
    }

    fn element(matrix: Matrix<&[f32]>, row: usize, col: usize) -> f32 {
        let (rows, cols) = matrix.strides();
        matrix.values[row * rows + col * cols]
    }
}
