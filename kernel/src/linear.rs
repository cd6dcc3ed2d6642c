//! The dense adapter: `q' = W q + b`.

use crate::error::Error;
use crate::lanes::{LANES, Lanes, PanelMatrix, check_dim, check_len, flat_mut, panel_len, panels};
use crate::math;
use crate::simd::{Level, Scalar, Simd as _, check_subnormals};
use crate::tile::{AT_A_TIME, RowProducts};
use crate::transform::Transform;

/// How many [`Lanes`] the weight of a dense adapter takes; the bias, if any, is its last column. Saturates as [`panel_len`] does.
#[must_use]
pub const fn linear_len(in_dim: usize, out_dim: usize, bias: bool) -> usize {
    panel_len(out_dim, in_dim.saturating_add(bias as usize))
}

/// A dense adapter over storage of the caller's: `[Lanes; N]`, `&'static [Lanes]` in flash, `Vec<Lanes>`.
///
/// ```
/// use query_adapter::{Lanes, Level, Linear, linear_len};
///
/// const LEN: usize = linear_len(3, 2, true);
/// let mut adapter = Linear::identity(3, 2, true, [Lanes::ZERO; LEN], Level::baseline())?;
/// adapter.set_bias(&[0.5, 0.0])?;
/// let mut output = [0.0; 2];
/// adapter.apply(&[1.0, 2.0, 3.0], &mut output)?;
/// assert_eq!(output, [1.5, 2.0]);
/// # Ok::<(), query_adapter::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Linear<S> {
    weight: PanelMatrix<S>,
    in_dim: usize,
    bias: bool,
    level: Level,
}

impl<S: AsRef<[Lanes]>> Linear<S> {
    /// Wraps a weight that already lies in panels, such as one borrowed from an image.
    ///
    /// # Errors
    /// [`Error::Dimension`] outside `1 ..= MAX_DIM`, [`Error::Length`] when `storage` has not
    /// [`linear_len(in_dim, out_dim, bias)`](linear_len) elements, [`Error::FlushToZero`] when this thread's
    /// floating-point mode loses subnormal numbers.
    pub fn from_lanes(
        in_dim: usize,
        out_dim: usize,
        bias: bool,
        storage: S,
        level: Level,
    ) -> Result<Self, Error> {
        check_dim("in_dim", in_dim)?;
        check_dim("out_dim", out_dim)?;
        check_subnormals()?;
        let weight = PanelMatrix::new(out_dim, in_dim + usize::from(bias), storage)?;
        Ok(Self { weight, in_dim, bias, level })
    }

    /// Length of a query.
    #[must_use]
    pub const fn in_dim(&self) -> usize {
        self.in_dim
    }

    /// Length of a transformed query.
    #[must_use]
    pub const fn out_dim(&self) -> usize {
        self.weight.rows()
    }

    /// Whether there is a bias.
    #[must_use]
    pub const fn has_bias(&self) -> bool {
        self.bias
    }

    /// The SIMD level it runs on.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The weight, `out_dim × (in_dim + 1)` with the bias as its last column, or `out_dim × in_dim` without.
    #[must_use]
    pub const fn weight(&self) -> &PanelMatrix<S> {
        &self.weight
    }

    /// `output = W query + b`.
    ///
    /// # Errors
    /// [`Error::Length`] when `query` has not `in_dim` or `output` not `out_dim` elements; `output` is as before.
    pub fn apply(&self, query: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check_len("query", self.in_dim, query.len())?;
        self.apply_batch(query, output)
    }

    /// Transforms `rows × in_dim` queries into `rows × out_dim` outputs, both row-major.
    ///
    /// A row gets the bits that [`apply`](Self::apply) would give it alone.
    ///
    /// # Errors
    /// [`Error::Length`] when `queries` is not a whole number of rows, or `outputs` has not as many; `outputs` is as
    /// before.
    pub fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), Error> {
        let rows = queries.len() / self.in_dim.max(1);
        check_len("queries", rows.saturating_mul(self.in_dim), queries.len())?;
        let out_dim = self.out_dim();
        check_len("outputs", rows.saturating_mul(out_dim), outputs.len())?;
        apply_rows(self.level, self.weight.as_lanes(), self.in_dim, self.bias, queries, outputs, out_dim);
        Ok(())
    }

    /// Sixteen outputs, rows `16 panel .. 16 panel + 15`, of one query; rows past `out_dim` are `+0` if the query is finite.
    ///
    /// # Errors
    /// [`Error::Length`] when `query` has not `in_dim` elements or there is no such panel.
    pub fn apply_panel(&self, panel: usize, query: &[f32]) -> Result<Lanes, Error> {
        check_len("query", self.in_dim, query.len())?;
        let stride = self.weight.cols();
        let columns = panel
            .checked_mul(stride)
            .and_then(|start| self.weight.as_lanes().get(start..))
            .and_then(|rest| rest.get(..stride))
            .ok_or(Error::Length {
                what: "panel",
                needed: panel.saturating_add(1),
                given: panels(self.out_dim()),
            })?;
        Ok(apply_columns(self.level, columns, self.in_dim, self.bias, query))
    }

    /// Copies the weight without the bias, row-major: `out_dim × in_dim` values.
    ///
    /// # Errors
    /// [`Error::Length`] when `values` has another length.
    pub fn copy_weight_to(&self, values: &mut [f32]) -> Result<(), Error> {
        check_len("weight", self.out_dim().saturating_mul(self.in_dim), values.len())?;
        for (r, row) in values.chunks_exact_mut(self.in_dim.max(1)).enumerate() {
            for (k, value) in row.iter_mut().enumerate() {
                *value = self.weight.get(r, k).unwrap_or(0.0);
            }
        }
        Ok(())
    }

    /// Copies the bias: `out_dim` values, all `+0` when there is none.
    ///
    /// # Errors
    /// [`Error::Length`] when `values` has another length.
    pub fn copy_bias_to(&self, values: &mut [f32]) -> Result<(), Error> {
        check_len("bias", self.out_dim(), values.len())?;
        for (r, value) in values.iter_mut().enumerate() {
            *value = if self.bias { self.weight.get(r, self.in_dim).unwrap_or(0.0) } else { 0.0 };
        }
        Ok(())
    }
}

impl<S: AsRef<[Lanes]> + AsMut<[Lanes]>> Linear<S> {
    /// Ones on the diagonal, zero elsewhere: the adapter which changes nothing when `in_dim == out_dim`.
    ///
    /// # Errors
    /// As [`from_lanes`](Self::from_lanes).
    pub fn identity(
        in_dim: usize,
        out_dim: usize,
        bias: bool,
        storage: S,
        level: Level,
    ) -> Result<Self, Error> {
        let mut adapter = Self::from_lanes(in_dim, out_dim, bias, storage, level)?;
        adapter.weight.fill_zero();
        for i in 0..in_dim.min(out_dim) {
            adapter.weight.set(i, i, 1.0);
        }
        Ok(adapter)
    }

    /// Reads the weight without the bias, row-major: `out_dim × in_dim` values.
    ///
    /// # Errors
    /// [`Error::Length`] when `values` has another length; the adapter is as before.
    pub fn set_weight(&mut self, values: &[f32]) -> Result<(), Error> {
        check_len("weight", self.out_dim().saturating_mul(self.in_dim), values.len())?;
        for (r, row) in values.chunks_exact(self.in_dim.max(1)).enumerate() {
            for (k, &value) in row.iter().enumerate() {
                self.weight.set(r, k, value);
            }
        }
        Ok(())
    }

    /// Reads the bias: `out_dim` values.
    ///
    /// # Errors
    /// [`Error::Length`] when `values` has another length; an adapter without a bias takes none.
    pub fn set_bias(&mut self, values: &[f32]) -> Result<(), Error> {
        check_len("bias", if self.bias { self.out_dim() } else { 0 }, values.len())?;
        for (r, &value) in values.iter().enumerate() {
            self.weight.set(r, self.in_dim, value);
        }
        Ok(())
    }

    /// The weight's storage. Padding rows must stay `+0`.
    pub fn weight_lanes_mut(&mut self) -> &mut [Lanes] {
        self.weight.as_lanes_mut()
    }

    /// The same adapter over a borrowed weight.
    #[cfg(feature = "train")]
    pub(crate) fn by_mut(&mut self) -> Linear<&mut [Lanes]> {
        Linear { weight: self.weight.by_mut(), in_dim: self.in_dim, bias: self.bias, level: self.level }
    }
}

impl<S: AsRef<[Lanes]>> Transform for Linear<S> {
    fn in_dim(&self) -> usize {
        self.in_dim
    }

    fn out_dim(&self) -> usize {
        self.weight.rows()
    }

    fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), Error> {
        self.apply_batch(queries, outputs)
    }

    fn apply_panel(&self, panel: usize, query: &[f32]) -> Result<Lanes, Error> {
        self.apply_panel(panel, query)
    }
}

/// `output = W query + b` by a weight that cannot be borrowed, such as one in flash that is not memory-mapped.
///
/// `read(panel, buffer)` brings one panel after the other into `buffer`: `in_dim` elements, and one more with a bias.
/// In an adapter file panel `p` lies `64 × p × buffer.len()` bytes behind the start of the weights, little-endian. The
/// bits are those of [`Linear::apply`]. A buffer of one panel is all the memory it takes.
///
/// ```
/// use query_adapter::{Error, Lanes, Level, apply_streamed};
///
/// let flash = [Lanes([0.5; 16]), Lanes([0.25; 16]), Lanes([1.0; 16])];
/// let mut output = [0.0; 2];
/// apply_streamed(Level::baseline(), true, &[2.0, 4.0], &mut output, &mut [Lanes::ZERO; 3], |panel, buffer| {
///     buffer.copy_from_slice(&flash[panel * 3..][..3]);
///     Ok::<(), Error>(())
/// })?;
/// assert_eq!(output, [3.0, 3.0]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::Dimension`], [`Error::Length`] or [`Error::FlushToZero`] before anything is read or written. What `read`
/// returns ends the call; the panels before it have been written to `output`.
pub fn apply_streamed<E: From<Error>>(
    level: Level,
    bias: bool,
    query: &[f32],
    output: &mut [f32],
    buffer: &mut [Lanes],
    mut read: impl FnMut(usize, &mut [Lanes]) -> Result<(), E>,
) -> Result<(), E> {
    check_dim("in_dim", query.len())?;
    check_dim("out_dim", output.len())?;
    check_len("buffer", query.len() + usize::from(bias), buffer.len())?;
    check_subnormals()?;
    for (panel, outputs) in output.chunks_mut(LANES).enumerate() {
        read(panel, buffer)?;
        let lanes = apply_columns(level, buffer, query.len(), bias, query);
        for (place, value) in outputs.iter_mut().zip(lanes.0) {
            *place = value;
        }
    }
    Ok(())
}

// What works on slices is not generic over the storage, so it is compiled once, here, and not in every crate that has a
// storage of its own.

/// All rows of `queries` through `weight`, row-major to row-major.
fn apply_rows(
    level: Level,
    weight: &[Lanes],
    in_dim: usize,
    bias: bool,
    queries: &[f32],
    outputs: &mut [f32],
    out_dim: usize,
) {
    // Full panels are written in place, one that is not by way of a buffer; where nothing is gained by the former, all are.
    let full = if Scalar::LANE_BY_LANE { 0 } else { out_dim / LANES };
    let stride = in_dim + usize::from(bias);
    let (weight, others) = weight.split_at((full * stride).min(weight.len()));
    if full > 0 {
        RowProducts {
            panels: weight,
            bias,
            rows: queries,
            far: false,
            depth: in_dim,
            outputs: &mut *outputs,
            panel_step: LANES,
            row_step: out_dim,
        }
        .run(level);
    }
    if others.is_empty() {
        return;
    }
    let mut buffer = [Lanes::ZERO; AT_A_TIME];
    for (panel, first) in others.chunks_exact(stride.max(1)).zip((full * LANES..).step_by(LANES)) {
        let batches = queries.chunks((AT_A_TIME * in_dim).max(1));
        for (rows, outputs) in batches.zip(outputs.chunks_mut((AT_A_TIME * out_dim).max(1))) {
            RowProducts {
                panels: panel,
                bias,
                rows,
                far: false,
                depth: in_dim,
                outputs: flat_mut(&mut buffer),
                panel_step: 0,
                row_step: LANES,
            }
            .run(level);
            for (output, lanes) in outputs.chunks_exact_mut(out_dim.max(1)).zip(&buffer) {
                let places = output.get_mut(first..).unwrap_or_default();
                places.iter_mut().zip(&lanes.0).for_each(|(place, &lane)| *place = lane);
            }
        }
    }
}

/// One query through one panel.
fn apply_columns(level: Level, panel: &[Lanes], in_dim: usize, bias: bool, query: &[f32]) -> Lanes {
    let mut output = Lanes::ZERO;
    RowProducts {
        panels: panel,
        bias,
        rows: query,
        far: false,
        depth: in_dim,
        outputs: &mut output.0,
        panel_step: 0,
        row_step: LANES,
    }
    .run(level);
    output
}

/// The definition of an adapter's output: row `r` for one query.
#[must_use]
pub fn reference_forward(weight: &[Lanes], in_dim: usize, bias: bool, query: &[f32], r: usize) -> f32 {
    let stride = in_dim + usize::from(bias);
    let element = |k: usize| {
        weight
            .get((r / LANES) * stride + k)
            .and_then(|lanes| lanes.0.get(r % LANES))
            .copied()
            .unwrap_or(f32::NAN)
    };
    let mut acc = 0.0;
    for (k, &q) in query.iter().take(in_dim).enumerate() {
        acc = math::fma(element(k), q, acc);
    }
    if bias { math::fma(element(in_dim), 1.0, acc) } else { acc }
}
