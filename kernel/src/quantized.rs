//! Panels of fewer bits: f16 and int8, for documents and for adapters in flash.
//!
//! The layout is that of [`PanelMatrix`](crate::PanelMatrix), sixteen rows side by side, column after column; only the
//! elements are smaller. They are widened on the way into the registers, exactly, so a result has the same bits on
//! every level here too.

use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_dim, check_len, flat_mut, panel_len, panels};
use crate::linear::Linear;
use crate::math;
use crate::retrieve::{Found, TopK};
use crate::simd::{Level, Simd, check_subnormals, dispatch};
use crate::tile::{AT_A_TIME, RowProducts};
use crate::transform::Transform;

/// Sixteen IEEE 754 binary16 numbers, by their bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(32))]
pub struct HalfLanes(pub [u16; LANES]);

impl HalfLanes {
    /// Sixteen times +0.
    pub const ZERO: Self = Self([0; LANES]);
}

/// Sixteen integers from −127 to 127, to be multiplied by the scale of their row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
pub struct ByteLanes(pub [i8; LANES]);

impl ByteLanes {
    /// Sixteen times 0.
    pub const ZERO: Self = Self([0; LANES]);
}

/// Documents in panels whose rows are documents, as they may lie in flash: `panel_len(count, dim)` elements.
#[derive(Clone, Copy, Debug)]
pub enum DocumentPanels<'a> {
    /// As they are.
    F32(&'a [Lanes]),
    /// Rounded by [`encode_f16`].
    F16(&'a [HalfLanes]),
    /// Rounded by [`encode_int8`].
    Int8 {
        /// The elements.
        values: &'a [ByteLanes],
        /// A scale for each document, sixteen to an element.
        scales: &'a [Lanes],
    },
}

/// Offers every document to `best`, its score the product with the query: `D q'` and the top of it, in one pass.
///
/// `query` has `dim` elements; for cosines it has been through [`normalize_rows`](crate::normalize_rows), and so have
/// the documents before they were encoded. `count` is the number of documents. `order` has the place of each among all
/// ids in ascending order; `None` where they lie in the order of their ids.
///
/// ```
/// use query_adapter::{DocumentPanels, Found, Lanes, Level, PanelMatrix, TopK, panel_len, search};
///
/// let mut panels = [Lanes::ZERO; panel_len(3, 2)];
/// PanelMatrix::new(3, 2, &mut panels[..])?.copy_from_row_major(&[1.0, 0.0, 0.6, 0.8, 0.0, 1.0])?;
/// let mut storage = [Found::default(); 2];
/// let mut best = TopK::new(&mut storage);
/// search(Level::baseline(), &[0.8, 0.6], DocumentPanels::F32(&panels), 3, None, &mut best)?;
/// assert_eq!(best.into_sorted().iter().map(|found| found.document).collect::<Vec<_>>(), [1, 0]);
/// # Ok::<(), query_adapter::Error>(())
/// ```
///
/// # Errors
/// [`Error::Dimension`], [`Error::Length`] or [`Error::FlushToZero`]; `best` is then as before.
/// [`Error::NotFinite`] for a score that is NaN, after some documents have been taken.
pub fn search(
    level: Level,
    query: &[f32],
    documents: DocumentPanels<'_>,
    count: usize,
    order: Option<&[u32]>,
    best: &mut TopK<'_>,
) -> Result<(), Error> {
    let dim = query.len();
    check_dim("query", dim)?;
    let needed = panel_len(count, dim);
    let given = match documents {
        DocumentPanels::F32(panels) => panels.len(),
        DocumentPanels::F16(panels) => panels.len(),
        DocumentPanels::Int8 { values, scales } => {
            check_len("scales", panels(count), scales.len())?;
            values.len()
        }
    };
    check_len("documents", needed, given)?;
    if u32::try_from(count).is_err() {
        return Err(Error::Length { what: "documents", needed: u32::MAX as usize, given: count });
    }
    check_len("order", order.map_or(0, |_| count), order.map_or(0, <[u32]>::len))?;
    check_subnormals()?;
    let mut refused = Ok(());
    let mut offer = |panel: usize, scores: Lanes| {
        let first = panel * LANES;
        for (document, score) in (first..count).zip(scores.0) {
            if score < best.threshold() {
                continue;
            }
            let document = u32::try_from(document).unwrap_or(u32::MAX);
            let order = order.and_then(|order| order.get(document as usize)).map_or(document, |&order| order);
            refused = refused.and(best.offer(Found { score, order, document }));
        }
    };
    match documents {
        DocumentPanels::F32(documents) => {
            let mut scores = [Lanes::ZERO; AT_A_TIME];
            for (group, first) in documents.chunks(AT_A_TIME * dim).zip((0..).step_by(AT_A_TIME)) {
                RowProducts {
                    panels: group,
                    bias: false,
                    rows: query,
                    far: false,
                    depth: dim,
                    outputs: flat_mut(&mut scores),
                    panel_step: LANES,
                    row_step: LANES,
                }
                .run(level);
                for (panel, &scores) in (first..panels(count)).zip(&scores) {
                    offer(panel, scores);
                }
            }
        }
        DocumentPanels::F16(panels) => dispatch!(level, s => {
            narrow_product(s, panels, query, |panel, acc| offer(panel, s.to_lanes(acc)));
        }),
        DocumentPanels::Int8 { values, scales } => dispatch!(level, s => {
            narrow_product(s, values, query, |panel, acc| {
                let scale = scales.get(panel).copied().unwrap_or(Lanes::ZERO);
                offer(panel, s.to_lanes(s.mul(s.load(&scale), acc)));
            });
        }),
    }
    refused
}

/// A square adapter whose difference from the identity is stored in eight bits: `q' = q + s ∘ (Δ8 q) + b`.
///
/// The weight itself is never stored so: its diagonal of ones would take the whole scale of a row.
#[derive(Clone, Copy, Debug)]
pub struct Int8Linear<'a> {
    values: &'a [ByteLanes],
    scales: &'a [Lanes],
    bias: Option<&'a [Lanes]>,
    dim: usize,
    level: Level,
}

impl<'a> Int8Linear<'a> {
    /// Wraps what [`encode_int8_adapter`] made: [`panel_len(dim, dim)`](panel_len) values, [`panels(dim)`](panels)
    /// scales, and as many elements of bias, if there is one.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::Length`] or [`Error::FlushToZero`].
    pub fn new(
        dim: usize,
        values: &'a [ByteLanes],
        scales: &'a [Lanes],
        bias: Option<&'a [Lanes]>,
        level: Level,
    ) -> Result<Self, Error> {
        check_dim("dim", dim)?;
        check_len("values", panel_len(dim, dim), values.len())?;
        check_len("scales", panels(dim), scales.len())?;
        check_len("bias", panels(dim), bias.map_or(panels(dim), <[Lanes]>::len))?;
        check_subnormals()?;
        Ok(Self { values, scales, bias, dim, level })
    }

    /// Length of a query, and of its output.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Whether there is a bias.
    #[must_use]
    pub const fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// The SIMD level it runs on.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The difference from the identity: [`panel_len(dim, dim)`](panel_len) elements.
    #[must_use]
    pub const fn values(&self) -> &'a [ByteLanes] {
        self.values
    }

    /// What 1 stands for in each row: [`panels(dim)`](panels) elements.
    #[must_use]
    pub const fn scales(&self) -> &'a [Lanes] {
        self.scales
    }

    /// The bias: [`panels(dim)`](panels) elements.
    #[must_use]
    pub const fn bias(&self) -> Option<&'a [Lanes]> {
        self.bias
    }

    /// `output = query + s ∘ (Δ8 query) + b`.
    ///
    /// # Errors
    /// [`Error::Length`] when `query` or `output` has not `dim` elements; `output` is as before.
    pub fn apply(&self, query: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check_len("query", self.dim, query.len())?;
        check_len("outputs", self.dim, output.len())?;
        dispatch!(self.level, s => narrow_product(s, self.values, query, |panel, acc| {
            let lanes = self.finish(s, panel, acc, query);
            for (place, value) in output.iter_mut().skip(panel * LANES).zip(lanes.0) {
                *place = value;
            }
        }));
        Ok(())
    }

    /// Transforms `rows × dim` queries into as many outputs, both row-major: each as [`apply`](Self::apply) does.
    ///
    /// # Errors
    /// [`Error::Length`] when `queries` is not a whole number of rows, or `outputs` has not as many; `outputs` is as
    /// before.
    pub fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), Error> {
        let dim = self.dim.max(1);
        check_len("queries", queries.len() / dim * dim, queries.len())?;
        check_len("outputs", queries.len(), outputs.len())?;
        for (query, output) in queries.chunks_exact(dim).zip(outputs.chunks_exact_mut(dim)) {
            self.apply(query, output)?;
        }
        Ok(())
    }

    /// Sixteen outputs, rows `16 panel .. 16 panel + 15`, of one query; rows past `dim` are `+0` if the query is finite.
    ///
    /// # Errors
    /// [`Error::Length`] when `query` has not `dim` elements or there is no such panel.
    pub fn apply_panel(&self, panel: usize, query: &[f32]) -> Result<Lanes, Error> {
        check_len("query", self.dim, query.len())?;
        let values = panel
            .checked_mul(self.dim)
            .and_then(|start| self.values.get(start..))
            .and_then(|rest| rest.get(..self.dim))
            .ok_or(Error::Length {
                what: "panel",
                needed: panel.saturating_add(1),
                given: panels(self.dim),
            })?;
        let mut output = Lanes::ZERO;
        dispatch!(self.level, s => narrow_product(s, values, query, |_, acc| {
            output = self.finish(s, panel, acc, query);
        }));
        Ok(output)
    }

    /// What a panel's product becomes: times the scales, plus the query's own elements, plus the bias.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, panel: usize, acc: S::F32, query: &[f32]) -> Lanes {
        let mut own = Lanes::ZERO;
        for (place, &value) in own.0.iter_mut().zip(query.iter().skip(panel * LANES)) {
            *place = value;
        }
        let scale = self.scales.get(panel).copied().unwrap_or(Lanes::ZERO);
        let mut out = s.fma(s.load(&scale), acc, s.load(&own));
        if let Some(bias) = self.bias.and_then(|bias| bias.get(panel)) {
            out = s.add(out, s.load(bias));
        }
        s.to_lanes(out)
    }
}

impl Transform for Int8Linear<'_> {
    fn in_dim(&self) -> usize {
        self.dim
    }

    fn out_dim(&self) -> usize {
        self.dim
    }

    fn apply_batch(&self, queries: &[f32], outputs: &mut [f32]) -> Result<(), Error> {
        self.apply_batch(queries, outputs)
    }

    fn apply_panel(&self, panel: usize, query: &[f32]) -> Result<Lanes, Error> {
        self.apply_panel(panel, query)
    }
}

/// Sixteen numbers of fewer bits that become `f32` exactly.
trait Narrow {
    fn widen(&self) -> Lanes;
}

impl Narrow for HalfLanes {
    #[inline(always)]
    fn widen(&self) -> Lanes {
        Lanes(self.0.map(widen_f16))
    }
}

impl Narrow for ByteLanes {
    #[inline(always)]
    fn widen(&self) -> Lanes {
        Lanes(self.0.map(f32::from))
    }
}

/// `emit(p, Σₖ panels[p][k] · query[k])` for every panel, sixteen columns at a time widened on the stack.
#[inline(always)]
fn narrow_product<S: Simd, N: Narrow>(
    s: S,
    panels: &[N],
    query: &[f32],
    mut emit: impl FnMut(usize, S::F32),
) {
    let mut wide = [Lanes::ZERO; LANES];
    for (p, panel) in panels.chunks_exact(query.len().max(1)).enumerate() {
        let mut acc = s.splat(0.0);
        for (columns, scalars) in panel.chunks(LANES).zip(query.chunks(LANES)) {
            for (place, column) in wide.iter_mut().zip(columns) {
                *place = column.widen();
            }
            // As many columns as scalars; what an earlier turn left behind them has no scalar.
            acc = s.chain_rows(&wide, scalars, acc);
        }
        emit(p, acc);
    }
}

/// The value of a binary16 number, exactly.
#[inline(always)]
#[must_use]
pub fn widen_f16(bits: u16) -> f32 {
    /// 2¹¹², the ratio of the two formats' smallest exponents.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * REBIAS;
    let special = if bits & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

/// The binary16 number nearest to a value, of two the even one; beyond the largest, infinity.
#[must_use]
pub fn narrow_f16(value: f32) -> u16 {
    /// Where binary16 begins to be subnormal: 2⁻¹⁴.
    const SMALLEST_NORMAL: u32 = (127 - 14) << 23;
    /// From here on nothing is finite in binary16, rounding or not: 2¹⁶.
    const TOO_LARGE: u32 = (127 + 16) << 23;
    const INFINITY: u32 = 0xff << 23;
    let sign = (value.to_bits() >> 16) & 0x8000;
    let bits = value.to_bits() & 0x7fff_ffff;
    let magnitude = if bits > INFINITY {
        0x7e00
    } else if bits >= TOO_LARGE {
        0x7c00
    } else if bits < SMALLEST_NORMAL {
        // The last bit of a sum with one half is worth 2⁻²⁴, as that of a subnormal binary16.
        (f32::from_bits(bits) + 0.5).to_bits() - 0.5_f32.to_bits()
    } else {
        let even = (bits >> 13) & 1;
        (bits - (112 << 23) + 0xfff + even) >> 13
    };
    // 16 bits in every case.
    let [low, high, ..] = (sign | magnitude).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Rounds panels to binary16.
///
/// # Errors
/// [`Error::Length`]; [`Error::NotFinite`] when a value is not finite or does not fit, `row` being its element. Nothing
/// is written then.
pub fn encode_f16(panels: &[Lanes], out: &mut [HalfLanes]) -> Result<(), Error> {
    check_len("f16 panels", panels.len(), out.len())?;
    let infinite = |bits: u16| bits & 0x7c00 == 0x7c00;
    for (row, column) in panels.iter().enumerate() {
        if column.0.iter().any(|&value| infinite(narrow_f16(value))) {
            return Err(Error::NotFinite { what: "f16 element", row });
        }
    }
    for (place, column) in out.iter_mut().zip(panels) {
        place.0 = column.0.map(narrow_f16);
    }
    Ok(())
}

/// Rounds a matrix in panels, of `rows × cols`, to eight bits with a scale for each row: its largest magnitude ÷ 127.
///
/// `values` has [`panel_len(rows, cols)`](panel_len) elements like `matrix`, `scales` has [`panels(rows)`](panels).
///
/// # Errors
/// [`Error::Length`]; [`Error::NotFinite`] with the row. Nothing is written then.
pub fn encode_int8(
    rows: usize,
    cols: usize,
    matrix: &[Lanes],
    values: &mut [ByteLanes],
    scales: &mut [Lanes],
) -> Result<(), Error> {
    check_len("matrix", panel_len(rows, cols), matrix.len())?;
    check_len("values", matrix.len(), values.len())?;
    check_len("scales", panels(rows), scales.len())?;
    check_panels_finite(cols, matrix)?;
    if cols == 0 {
        scales.fill(Lanes::ZERO);
    }
    let cols = cols.max(1);
    for ((matrix, values), scale) in matrix.chunks(cols).zip(values.chunks_mut(cols)).zip(scales) {
        *scale = Lanes(core::array::from_fn(|lane| {
            row_scale(matrix.iter().filter_map(|column| column.0.get(lane).copied()))
        }));
        for (column, place) in matrix.iter().zip(values) {
            for ((place, &value), &scale) in place.0.iter_mut().zip(&column.0).zip(&scale.0) {
                *place = round_to_scale(value, scale);
            }
        }
    }
    Ok(())
}

/// Stores a square adapter's difference from the identity, for [`Int8Linear`].
///
/// `values` has [`panel_len(dim, dim)`](panel_len) elements, `scales` and `bias` have [`panels(dim)`](panels). `bias`
/// becomes zero where the adapter has none.
///
/// # Errors
/// [`Error::Length`], also when the adapter is not square; [`Error::NotFinite`] with the row. Nothing is written then.
pub fn encode_int8_adapter<S: AsRef<[Lanes]>>(
    adapter: &Linear<S>,
    values: &mut [ByteLanes],
    scales: &mut [Lanes],
    bias: &mut [Lanes],
) -> Result<(), Error> {
    let (dim, stride) = (adapter.in_dim(), adapter.weight().cols());
    if adapter.out_dim() != dim {
        return Err(Error::Length { what: "out_dim", needed: dim, given: adapter.out_dim() });
    }
    check_len("values", panel_len(dim, dim), values.len())?;
    check_len("scales", panels(dim), scales.len())?;
    check_len("bias", panels(dim), bias.len())?;
    let weight = adapter.weight().as_lanes();
    check_panels_finite(stride, weight)?;
    let weight_panels = weight.chunks(stride.max(1));
    let places = values.chunks_mut(dim.max(1)).zip(scales).zip(bias);
    for ((p, panel), ((values, scale), bias)) in weight_panels.enumerate().zip(places) {
        let difference = |column: usize, lane: usize, value: f32| {
            if column == p * LANES + lane { value - 1.0 } else { value }
        };
        *scale = Lanes(core::array::from_fn(|lane| {
            let row = panel.iter().take(dim).enumerate();
            row_scale(row.filter_map(|(k, column)| Some(difference(k, lane, *column.0.get(lane)?))))
        }));
        for ((k, column), place) in panel.iter().take(dim).enumerate().zip(values) {
            let lanes = column.0.iter().zip(&scale.0).enumerate();
            for ((lane, (&value, &scale)), place) in lanes.zip(&mut place.0) {
                *place = round_to_scale(difference(k, lane, value), scale);
            }
        }
        *bias = panel.get(dim).copied().unwrap_or(Lanes::ZERO);
    }
    Ok(())
}

fn check_panels_finite(cols: usize, matrix: &[Lanes]) -> Result<(), Error> {
    for (p, panel) in matrix.chunks(cols.max(1)).enumerate() {
        for (lane, row) in (0..LANES).zip(p * LANES..) {
            if !panel.iter().all(|column| column.0.get(lane).is_none_or(|value| value.is_finite())) {
                return Err(Error::NotFinite { what: "element", row });
            }
        }
    }
    Ok(())
}

/// What 1 stands for in a row whose largest magnitude is to be 127.
fn row_scale(row: impl Iterator<Item = f32>) -> f32 {
    let mut largest = 0.0;
    for value in row {
        largest = math::max(value.abs(), largest);
    }
    largest / 127.0
}

/// The nearest multiple of a scale, of two the even one; 0 for a row of nothing but zeros.
#[expect(clippy::cast_possible_truncation, reason = "a whole number from −127 to 127")]
fn round_to_scale(value: f32, scale: f32) -> i8 {
    /// Beside so large a number no fraction is left: 1.5 · 2²³.
    const NO_FRACTION: f32 = 12_582_912.0;
    if scale == 0.0 {
        return 0;
    }
    // A subnormal scale is coarse enough for quotients beyond 127.
    let quotient = math::max(math::min(value / scale, 127.0), -127.0);
    (quotient + NO_FRACTION - NO_FRACTION) as i8
}

/// The definition of a binary16 number's value.
#[must_use]
pub fn reference_widen_f16(bits: u16) -> f32 {
    let (exponent, fraction) = ((bits >> 10) & 31, f32::from(bits & 1023));
    let mut value = match exponent {
        0 => fraction,
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => 1024.0 + fraction,
    };
    for _ in 1..exponent {
        value *= 2.0;
    }
    // 2⁻²⁴, what the last bit of the smallest numbers is worth.
    value *= 1.0 / 16_777_216.0;
    if bits & 0x8000 == 0 { value } else { -value }
}

/// The definition of a document's score, from its elements as they are stored, and of 1 what is not scaled.
#[must_use]
pub fn reference_scaled_score(query: &[f32], document: impl Iterator<Item = f32>, scale: Option<f32>) -> f32 {
    let mut acc = 0.0;
    for (element, &q) in document.zip(query) {
        acc = math::fma(element, q, acc);
    }
    scale.map_or(acc, |scale| scale * acc)
}

/// The definition of an int8 adapter's output: row `r` for one query.
#[must_use]
pub fn reference_int8_forward(
    delta: impl Iterator<Item = i8>,
    scale: f32,
    bias: Option<f32>,
    query: &[f32],
    r: usize,
) -> f32 {
    let mut acc = 0.0;
    for (element, &q) in delta.zip(query) {
        acc = math::fma(f32::from(element), q, acc);
    }
    let output = math::fma(scale, acc, query.get(r).copied().unwrap_or(f32::NAN));
    bias.map_or(output, |bias| output + bias)
}

#[cfg(all(test, feature = "std"))]
#[expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small tests"
)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::lanes::PanelMatrix;
    use crate::linear::linear_len;
    use crate::reference::reference_top_k;

    /// Numbers of both signs, exact zeros and subnormals among them.
    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            state >> 8
        };
        let value = |i: usize| match (i + seed as usize) % 23 {
            7 => 0.0,
            11 => -f32::from_bits(next()),
            _ => next() as f32 / 8_388_608.0 - 1.0,
        };
        (0..count).map(value).collect()
    }

    fn panels_of(rows: usize, cols: usize, values: &[f32]) -> Vec<Lanes> {
        let mut panels = vec![Lanes::ZERO; panel_len(rows, cols)];
        PanelMatrix::new(rows, cols, &mut panels[..]).unwrap().copy_from_row_major(values).unwrap();
        panels
    }

    #[test]
    fn every_half_is_widened_to_its_value_and_comes_back() {
        for bits in 0..=u16::MAX {
            let (found, defined) = (widen_f16(bits), reference_widen_f16(bits));
            assert!(found.to_bits() == defined.to_bits() || found.is_nan() && defined.is_nan(), "{bits:04x}");
            if !found.is_nan() {
                assert_eq!(narrow_f16(found), bits, "{bits:04x}");
            }
        }
    }

    #[test]
    fn halves_are_the_nearest_and_of_two_the_even_one() {
        for bits in 0..0x7bff_u16 {
            let (below, above) = (f64::from(widen_f16(bits)), f64::from(widen_f16(bits + 1)));
            let middle = ((below + above) / 2.0) as f32;
            let even = bits + (bits & 1);
            assert_eq!(narrow_f16(middle), even, "{bits:04x}");
            assert_eq!(narrow_f16(-middle), even | 0x8000, "{bits:04x}");
            assert_eq!(narrow_f16(f32::from_bits(middle.to_bits() + 1)), bits + 1, "{bits:04x}");
            assert_eq!(narrow_f16(f32::from_bits(middle.to_bits() - 1)), bits, "{bits:04x}");
        }
        for (value, bits) in
            [(65_519.996, 0x7bff), (65_520.0, 0x7c00), (f32::MAX, 0x7c00), (1e-10, 0), (f32::NAN, 0x7e00)]
        {
            assert_eq!(narrow_f16(value), bits, "{value}");
        }
    }

    #[test]
    fn a_search_scores_and_orders_as_defined_on_every_level() {
        for level in Level::available() {
            for (count, dim) in (1..=33).flat_map(|n| [(n, 1 + n % 7), (2 * n, n), (5, n), (n, 100)]) {
                let rows = values(count * dim, 3);
                let query = values(dim, 5);
                let panels_f32 = panels_of(count, dim, &rows);
                let mut halves = vec![HalfLanes::ZERO; panels_f32.len()];
                encode_f16(&panels_f32, &mut halves).unwrap();
                let mut bytes = vec![ByteLanes::ZERO; panels_f32.len()];
                let mut scales = vec![Lanes::ZERO; panels(count)];
                encode_int8(count, dim, &panels_f32, &mut bytes, &mut scales).unwrap();
                let element = |d: usize, k: usize| ((d / LANES) * dim + k, d % LANES);
                let defined = |form: usize, d: usize| {
                    let places = (0..dim).map(|k| element(d, k));
                    match form {
                        0 => reference_scaled_score(&query, places.map(|(i, l)| panels_f32[i].0[l]), None),
                        1 => reference_scaled_score(
                            &query,
                            places.map(|(i, l)| reference_widen_f16(halves[i].0[l])),
                            None,
                        ),
                        _ => {
                            let scale = scales[d / LANES].0[d % LANES];
                            reference_scaled_score(
                                &query,
                                places.map(|(i, l)| f32::from(bytes[i].0[l])),
                                Some(scale),
                            )
                        }
                    }
                };
                let forms = [
                    DocumentPanels::F32(&panels_f32),
                    DocumentPanels::F16(&halves),
                    DocumentPanels::Int8 { values: &bytes, scales: &scales },
                ];
                // Descending, so that equal scores come in the reverse of the documents' order.
                let order: Vec<u32> = (0..count as u32).rev().collect();
                for (form, documents) in forms.into_iter().enumerate() {
                    let scores: Vec<f32> = (0..count).map(|d| defined(form, d)).collect();
                    for order in [None, Some(&order[..])] {
                        let mut storage = vec![Found::default(); count.min(5)];
                        let mut best = TopK::new(&mut storage);
                        search(level, &query, documents, count, order, &mut best).unwrap();
                        let found = best.into_sorted();
                        let natural: Vec<u32> = (0..count as u32).collect();
                        let mut expected = vec![Found::default(); count.min(5)];
                        reference_top_k(&scores, order.unwrap_or(&natural), &mut expected);
                        assert_eq!(found.len(), expected.len());
                        for (found, expected) in found.iter().zip(&expected) {
                            assert_eq!(
                                found.document,
                                expected.document,
                                "{} {form} {count} {dim}",
                                level.name()
                            );
                            assert_eq!(found.score.to_bits(), expected.score.to_bits(), "{}", level.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn equal_documents_score_equally_and_come_in_the_order_of_their_ids() {
        let rows: Vec<f32> = [0.5, -0.25, 0.75].repeat(40);
        let panels_f32 = panels_of(40, 3, &rows);
        for level in Level::available() {
            let mut storage = [Found::default(); 40];
            let mut best = TopK::new(&mut storage);
            search(level, &[0.1, 0.2, 0.3], DocumentPanels::F32(&panels_f32), 40, None, &mut best).unwrap();
            let places: Vec<u32> = best.into_sorted().iter().map(|found| found.document).collect();
            assert_eq!(places, (0..40).collect::<Vec<u32>>(), "{}", level.name());
        }
    }

    #[test]
    fn an_int8_adapter_computes_as_defined_on_every_level() {
        for dim in (1..=33).chain([48, 100]) {
            for bias in [false, true] {
                let mut storage = vec![Lanes::ZERO; linear_len(dim, dim, bias)];
                let mut adapter =
                    Linear::identity(dim, dim, bias, &mut storage[..], Level::baseline()).unwrap();
                adapter.set_weight(&values(dim * dim, 7)).unwrap();
                if bias {
                    adapter.set_bias(&values(dim, 8)).unwrap();
                }
                let mut bytes = vec![ByteLanes::ZERO; panel_len(dim, dim)];
                let (mut scales, mut biases) =
                    (vec![Lanes::ZERO; panels(dim)], vec![Lanes::ZERO; panels(dim)]);
                encode_int8_adapter(&adapter, &mut bytes, &mut scales, &mut biases).unwrap();
                let biases = bias.then_some(&biases[..]);
                let query = values(dim, 9);
                for level in Level::available() {
                    let mut output = vec![f32::NAN; dim];
                    let stored = Int8Linear::new(dim, &bytes, &scales, biases, level).unwrap();
                    stored.apply(&query, &mut output).unwrap();
                    for (r, found) in output.iter().enumerate() {
                        let (p, lane) = (r / LANES, r % LANES);
                        let delta = (0..dim).map(|k| bytes[p * dim + k].0[lane]);
                        let bias = biases.map(|bias| bias[p].0[lane]);
                        let defined = reference_int8_forward(delta, scales[p].0[lane], bias, &query, r);
                        assert_eq!(found.to_bits(), defined.to_bits(), "{} {dim} {r}", level.name());
                        let panel = stored.apply_panel(p, &query).unwrap();
                        assert_eq!(panel.0[lane].to_bits(), found.to_bits(), "{} {dim} {r}", level.name());
                    }
                    let last = stored.apply_panel(panels(dim) - 1, &query).unwrap();
                    let padding = &last.0[(dim - 1) % LANES + 1..];
                    assert!(padding.iter().all(|lane| lane.to_bits() == 0), "{} {dim}", level.name());
                    let queries = [&query[..], &values(dim, 10)[..]].concat();
                    let mut outputs = vec![f32::NAN; 2 * dim];
                    stored.apply_batch(&queries, &mut outputs).unwrap();
                    assert_eq!(outputs[..dim], output, "{} {dim}", level.name());
                    stored.apply(&queries[dim..], &mut output).unwrap();
                    assert_eq!(outputs[dim..], output, "{} {dim}", level.name());
                }
            }
        }
    }

    #[test]
    fn an_int8_adapter_is_within_half_a_scale_of_the_weight() {
        let dim = 40;
        let mut storage = vec![Lanes::ZERO; linear_len(dim, dim, false)];
        let mut adapter = Linear::identity(dim, dim, false, &mut storage[..], Level::baseline()).unwrap();
        let mut weight = values(dim * dim, 7);
        // The last row is the identity's: its difference is nothing, and so is its scale.
        weight[39 * dim..].fill(0.0);
        weight[39 * dim + 39] = 1.0;
        adapter.set_weight(&weight).unwrap();
        let mut bytes = vec![ByteLanes::ZERO; panel_len(dim, dim)];
        let (mut scales, mut bias) = (vec![Lanes::ZERO; panels(dim)], vec![Lanes::ZERO; panels(dim)]);
        encode_int8_adapter(&adapter, &mut bytes, &mut scales, &mut bias).unwrap();
        for r in 0..dim {
            for k in 0..dim {
                let (p, lane) = (r / LANES, r % LANES);
                let scale = scales[p].0[lane];
                let stored = scale * f32::from(bytes[p * dim + k].0[lane]) + f32::from(u8::from(r == k));
                let error = (stored - weight[r * dim + k]).abs();
                assert!(error <= 0.500_01 * scale, "{r} {k}: {error} {scale}");
            }
        }
        assert_eq!(scales[2].0[7], 0.0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_written() {
        let level = Level::baseline();
        let panels_f32 = panels_of(3, 2, &[1.0; 6]);
        let mut storage = [Found::default(); 2];
        let mut best = TopK::new(&mut storage);
        let documents = DocumentPanels::F32(&panels_f32);
        assert!(matches!(search(level, &[], documents, 3, None, &mut best), Err(Error::Dimension { .. })));
        assert!(matches!(search(level, &[1.0], documents, 3, None, &mut best), Err(Error::Length { .. })));
        assert!(matches!(
            search(level, &[1.0; 2], documents, 17, None, &mut best),
            Err(Error::Length { .. })
        ));
        let refused = search(level, &[1.0; 2], documents, 3, Some(&[0, 1]), &mut best);
        assert!(matches!(refused, Err(Error::Length { what: "order", .. })));
        let int8 = DocumentPanels::Int8 { values: &[ByteLanes::ZERO; 2], scales: &[] };
        let refused = search(level, &[1.0; 2], int8, 3, None, &mut best);
        assert!(matches!(refused, Err(Error::Length { what: "scales", .. })));
        let refused = search(level, &[f32::NAN; 2], documents, 3, None, &mut best);
        assert_eq!(refused, Err(Error::NotFinite { what: "score", row: 0 }));

        let mut halves = [HalfLanes([9; LANES])];
        for bad in [f32::NAN, f32::INFINITY, 65_520.0] {
            let mut column = Lanes::ZERO;
            column.0[3] = bad;
            assert!(encode_f16(&[column], &mut halves).is_err());
            assert_eq!(halves[0].0, [9; LANES]);
        }
        let mut bytes = [ByteLanes([9; LANES]); 2];
        let mut scales = [Lanes([9.0; LANES])];
        let bad = panels_of(3, 2, &[0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0]);
        let refused = encode_int8(3, 2, &bad, &mut bytes, &mut scales);
        assert_eq!(refused, Err(Error::NotFinite { what: "element", row: 1 }));
        assert_eq!((bytes[0].0, scales[0].0), ([9; LANES], [9.0; LANES]));
        let wide = Linear::identity(2, 3, false, [Lanes::ZERO; 2], level).unwrap();
        let refused = encode_int8_adapter(&wide, &mut bytes, &mut scales, &mut [Lanes::ZERO]);
        assert_eq!(refused, Err(Error::Length { what: "out_dim", needed: 2, given: 3 }));
    }

    #[test]
    fn other_lengths_are_refused_and_nothing_written() {
        let level = Level::baseline();
        let length = |what, needed, given| Error::Length { what, needed, given };
        let (mut halves, mut bytes) = ([HalfLanes([9; LANES]); 3], [ByteLanes([9; LANES]); 3]);
        let (mut scales, mut bias) = ([Lanes([9.0; LANES]); 2], [Lanes([9.0; LANES]); 2]);
        let two = [Lanes([1.0; LANES]); 2];
        assert_eq!(encode_f16(&two, &mut halves), Err(length("f16 panels", 2, 3)));
        assert_eq!(
            encode_int8(3, 2, &two[..1], &mut bytes[..2], &mut scales[..1]),
            Err(length("matrix", 2, 1))
        );
        assert_eq!(encode_int8(3, 2, &two, &mut bytes, &mut scales[..1]), Err(length("values", 2, 3)));
        assert_eq!(encode_int8(3, 2, &two, &mut bytes[..2], &mut scales), Err(length("scales", 1, 2)));
        let square = Linear::identity(2, 2, false, [Lanes::ZERO; 2], level).unwrap();
        let mut encode = |values: usize, scales_len: usize, bias_len: usize| {
            encode_int8_adapter(
                &square,
                &mut bytes[..values],
                &mut scales[..scales_len],
                &mut bias[..bias_len],
            )
        };
        assert_eq!(encode(3, 1, 1), Err(length("values", 2, 3)));
        assert_eq!(encode(2, 2, 1), Err(length("scales", 1, 2)));
        assert_eq!(encode(2, 1, 2), Err(length("bias", 1, 2)));
        assert!(halves.iter().all(|lanes| lanes.0 == [9; LANES]));
        assert!(bytes.iter().all(|lanes| lanes.0 == [9; LANES]));
        assert!(scales.iter().chain(&bias).all(|lanes| lanes.0 == [9.0; LANES]));

        let (values, scales) = ([ByteLanes::ZERO; 3], [Lanes::ZERO; 2]);
        let new = |values, scales, bias| {
            Int8Linear::new(2, values, scales, bias, level).map(|adapter| adapter.dim())
        };
        assert_eq!(new(&values, &scales[..1], None), Err(length("values", 2, 3)));
        assert_eq!(new(&values[..2], &scales, None), Err(length("scales", 1, 2)));
        assert_eq!(new(&values[..2], &scales[..1], Some(&scales)), Err(length("bias", 1, 2)));
        let int8 = Int8Linear::new(2, &values[..2], &scales[..1], None, level).unwrap();
        for adapter in [&int8 as &dyn Transform, &square] {
            let mut output = [9.0; 4];
            assert_eq!(adapter.apply(&[1.0; 4], &mut output), Err(length("query", 2, 4)));
            assert_eq!(adapter.apply(&[1.0; 2], &mut output[..1]), Err(length("outputs", 2, 1)));
            assert_eq!(adapter.apply(&[1.0; 2], &mut output), Err(length("outputs", 2, 4)));
            assert_eq!(adapter.apply_batch(&[1.0; 3], &mut output), Err(length("queries", 2, 3)));
            assert_eq!(adapter.apply_batch(&[1.0; 4], &mut output[..2]), Err(length("outputs", 4, 2)));
            assert_eq!(adapter.apply_panel(0, &[1.0; 3]), Err(length("query", 2, 3)));
            assert_eq!(adapter.apply_panel(1, &[1.0; 2]), Err(length("panel", 2, 1)));
            assert_eq!(output, [9.0; 4]);
        }
        assert_eq!(int8.apply(&[1.0; 2], &mut [9.0; 3]), Err(length("outputs", 2, 3)));
    }
}
