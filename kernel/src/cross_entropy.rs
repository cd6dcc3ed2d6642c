//! Fused softmax cross-entropy over candidates, forward and backward. Sixteen queries lie in the lanes.
//!
//! Two sweeps over the candidates, block by block: the first finds maximum and sum, the second turns scores into their
//! gradient. How many candidates a block has changes no bit.

use crate::error::Error;
use crate::lanes::{LANES, Lanes};
use crate::math::{self, exp_lanes};
use crate::simd::Simd;

/// Candidates that up to sixteen rows must not count as negatives: other positives, duplicates of the target.
///
/// A list of entries is a sparse mask. It is ordered by `(panel, candidate)`, without repeats; [`Mask`] keeps it so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaskEntry {
    /// Rows `16 panel .. 16 panel + 15` of the batch.
    pub panel: u32,
    /// Index of the candidate.
    pub candidate: u32,
    /// Bit `l` masks the candidate for row `16 panel + l`.
    pub lanes: u16,
}

/// Collects mask entries, in any order, in storage of the caller's.
///
/// ```
/// use query_adapter::{Mask, MaskEntry};
///
/// let mut storage = [MaskEntry::default(); 8];
/// let mut mask = Mask::new(&mut storage);
/// mask.insert(1, 5)?; // row 1 must not count candidate 5
/// mask.insert(0, 5)?;
/// assert_eq!(mask.entries(), [MaskEntry { panel: 0, candidate: 5, lanes: 0b11 }]);
/// # Ok::<(), query_adapter::Error>(())
/// ```
#[derive(Debug)]
pub struct Mask<'a> {
    storage: &'a mut [MaskEntry],
    len: usize,
}

impl<'a> Mask<'a> {
    /// An empty mask which can hold as many entries as `storage`.
    #[must_use]
    pub const fn new(storage: &'a mut [MaskEntry]) -> Self {
        Self { storage, len: 0 }
    }

    /// Masks `candidate` for `row`. Masking twice is masking once.
    ///
    /// # Errors
    /// [`Error::Length`] when the storage is full; the mask is as before.
    pub fn insert(&mut self, row: u32, candidate: u32) -> Result<(), Error> {
        let (panel, bit) = (row / 16, 1u16 << (row % 16));
        let full = Error::Length { what: "mask", needed: self.len + 1, given: self.storage.len() };
        let used = self.storage.get(..self.len).unwrap_or(&[]);
        match used.binary_search_by_key(&(panel, candidate), |entry| (entry.panel, entry.candidate)) {
            Ok(at) => {
                if let Some(entry) = self.storage.get_mut(at) {
                    entry.lanes |= bit;
                }
            }
            Err(at) => {
                // The free place behind the last entry rotates to where the new one belongs.
                let tail = self.storage.get_mut(at..=self.len).ok_or(full)?;
                tail.rotate_right(1);
                if let Some(entry) = tail.first_mut() {
                    *entry = MaskEntry { panel, candidate, lanes: bit };
                }
                self.len += 1;
            }
        }
        Ok(())
    }

    /// Forgets all entries.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[MaskEntry] {
        self.storage.get(..self.len).unwrap_or(&[])
    }
}

/// Checks order and range of a mask, and that no row masks its own target.
pub(crate) fn check_mask(mask: &[MaskEntry], targets: &[u32], candidates: usize) -> Result<(), Error> {
    let mut previous = None;
    for (index, entry) in mask.iter().enumerate() {
        let key = (entry.panel, entry.candidate);
        let first_row = (entry.panel as usize).saturating_mul(LANES);
        let last_row =
            first_row.saturating_add(15_usize.saturating_sub(entry.lanes.leading_zeros() as usize));
        let in_range =
            entry.lanes != 0 && last_row < targets.len() && (entry.candidate as usize) < candidates;
        if !in_range || previous >= Some(key) {
            return Err(Error::Mask { index });
        }
        previous = Some(key);
        for (lane, &target) in targets.iter().skip(first_row).take(LANES).enumerate() {
            if target == entry.candidate && entry.lanes & (1 << lane) != 0 {
                return Err(Error::MaskedTarget { row: first_row + lane });
            }
        }
    }
    Ok(())
}

/// The entries of one panel of rows.
pub(crate) fn mask_of_panel(mask: &[MaskEntry], panel: usize) -> &[MaskEntry] {
    let start = mask.partition_point(|entry| (entry.panel as usize) < panel);
    let end = mask.partition_point(|entry| (entry.panel as usize) <= panel);
    mask.get(start..end).unwrap_or(&[])
}

/// What the loss needs to know of up to sixteen rows.
#[derive(Clone, Copy)]
pub(crate) struct PanelRows<'a> {
    /// The target of each row.
    pub(crate) targets: &'a [u32],
    /// The weight of each row.
    pub(crate) weights: &'a [f32],
    /// The mask entries of this panel.
    pub(crate) mask: &'a [MaskEntry],
    /// Rows which take part: present, and with a norm above zero.
    pub(crate) live: u16,
    /// 1 / temperature.
    pub(crate) scale: f32,
    /// Sum of the weights of the whole batch.
    pub(crate) total_weight: f32,
}

/// What sixteen rows carry from block to block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct SoftmaxState {
    /// Running maximum `m` of the scores.
    max: Lanes,
    /// Running sum `l` of `exp(s − m)`; later `1 ÷ l`.
    sum: Lanes,
    /// The score of each row's target.
    target_score: Lanes,
    /// What the gradient of each row is multiplied by.
    factor: Lanes,
}

impl SoftmaxState {
    /// Before the first candidate.
    pub(crate) const START: Self = Self {
        max: Lanes([f32::NEG_INFINITY; LANES]),
        sum: Lanes::ZERO,
        target_score: Lanes::ZERO,
        factor: Lanes::ZERO,
    };
}

/// The first sweep over one block: `scores` (one [`Lanes`] per candidate) of the candidates from `first` on.
#[inline(always)]
pub(crate) fn sweep_sums<S: Simd>(
    s: S,
    scores: &[Lanes],
    first: u32,
    rows: &PanelRows<'_>,
    state: &mut SoftmaxState,
) {
    let (mut m, mut l) = (s.load(&state.max), s.load(&state.sum));
    let mut masked = MaskedLanes::new(rows.mask, first);
    for (column, candidate) in scores.iter().zip(first..) {
        let active = s.mask(rows.live & !masked.at(candidate));
        let score = s.load(column);
        let greater = s.gt(score, m);
        let e = exp_lanes(s, s.select(greater, s.sub(m, score), s.sub(score, m)));
        let new_l = s.select(greater, s.fma(l, e, s.splat(1.0)), s.add(l, e));
        let new_m = s.select(greater, score, m);
        l = s.select(active, new_l, l);
        m = s.select(active, new_m, m);
    }
    (state.max, state.sum) = (s.to_lanes(m), s.to_lanes(l));
    for (lane, target) in rows.live_targets() {
        let column = target.checked_sub(first).and_then(|at| scores.get(at as usize));
        if let Some(score) = column.and_then(|column| column.0.get(lane)) {
            set(&mut state.target_score, lane, *score);
        }
    }
}

/// Between the sweeps: the rows' weighted losses.
#[inline(always)]
pub(crate) fn finish_sums<S: Simd>(s: S, rows: &PanelRows<'_>, state: &mut SoftmaxState) -> Lanes {
    let mut losses = Lanes::ZERO;
    let logarithms = math::ln_lanes(s, &state.sum);
    for (lane, &weight) in rows.weights.iter().take(LANES).enumerate() {
        if rows.live & (1 << lane) == 0 {
            continue;
        }
        let of = |lanes: &Lanes| lanes.0.get(lane).copied().unwrap_or(0.0);
        let loss = weight * ((of(&state.max) - of(&state.target_score)) + of(&logarithms));
        set(&mut losses, lane, loss);
        set(&mut state.factor, lane, (weight * rows.scale) / rows.total_weight);
    }
    state.sum = s.to_lanes(s.div(s.splat(1.0), s.load(&state.sum)));
    losses
}

/// The second sweep over one block: turns its scores into the gradient of the mean loss with respect to the unscaled
/// scores, in place.
#[inline(always)]
pub(crate) fn sweep_gradients<S: Simd>(
    s: S,
    scores: &mut [Lanes],
    first: u32,
    rows: &PanelRows<'_>,
    state: &SoftmaxState,
) {
    let (m, inverse, a) = (s.load(&state.max), s.load(&state.sum), s.load(&state.factor));
    let zero = s.splat(0.0);
    let mut masked = MaskedLanes::new(rows.mask, first);
    // (p − [target]) × factor. Away from the target p − 0 is p.
    for (column, candidate) in scores.iter_mut().zip(first..) {
        let active = s.mask(rows.live & !masked.at(candidate));
        let p = s.mul(exp_lanes(s, s.sub(s.load(column), m)), inverse);
        *column = s.to_lanes(s.select(active, s.mul(p, a), zero));
    }
    let p = s.mul(exp_lanes(s, s.sub(s.load(&state.target_score), m)), inverse);
    let at_target = s.to_lanes(s.mul(s.sub(p, s.splat(1.0)), a));
    for (lane, target) in rows.live_targets() {
        let at = target.checked_sub(first).unwrap_or(u32::MAX);
        if let (Some(column), Some(value)) = (scores.get_mut(at as usize), at_target.0.get(lane)) {
            set(column, lane, *value);
        }
    }
}

impl PanelRows<'_> {
    /// The lanes which take part, with their targets.
    #[inline(always)]
    fn live_targets(&self) -> impl Iterator<Item = (usize, u32)> {
        let live = self.live;
        let targets = self.targets.iter().take(LANES).copied().enumerate();
        targets.filter(move |(lane, _)| live & (1 << lane) != 0)
    }
}

fn set(lanes: &mut Lanes, lane: usize, value: f32) {
    if let Some(place) = lanes.0.get_mut(lane) {
        *place = value;
    }
}

/// Walks a panel's mask entries beside an ascending sweep over the candidates.
struct MaskedLanes<'a> {
    entries: core::slice::Iter<'a, MaskEntry>,
    next: Option<&'a MaskEntry>,
}

impl<'a> MaskedLanes<'a> {
    /// Starts at candidate `first`.
    fn new(entries: &'a [MaskEntry], first: u32) -> Self {
        let start = entries.partition_point(|entry| entry.candidate < first);
        let mut entries = entries.get(start..).unwrap_or_default().iter();
        let next = entries.next();
        Self { entries, next }
    }

    #[inline(always)]
    fn at(&mut self, candidate: u32) -> u16 {
        match self.next {
            Some(entry) if entry.candidate == candidate => {
                self.next = self.entries.next();
                entry.lanes
            }
            _ => 0,
        }
    }
}

/// The definition of the loss and its gradient for one row: turns `scores` into `(p − [target]) × factor` and returns
/// `weight × loss`. `masked(j)` says whether candidate `j` must not count.
pub fn reference_softmax_cross_entropy(
    scores: &mut [f32],
    target: usize,
    weight: f32,
    factor: f32,
    masked: impl Fn(usize) -> bool,
) -> f32 {
    let (mut m, mut l) = (f32::NEG_INFINITY, 0.0);
    for (j, &score) in scores.iter().enumerate() {
        if masked(j) {
            continue;
        }
        if score > m {
            l = math::fma(l, math::exp(m - score), 1.0);
            m = score;
        } else {
            l += math::exp(score - m);
        }
    }
    let target_score = scores.get(target).copied().unwrap_or(0.0);
    let loss = weight * ((m - target_score) + math::ln(l));
    let inverse = 1.0 / l;
    for (j, score) in scores.iter_mut().enumerate() {
        let p = math::exp(*score - m) * inverse;
        let indicator = if j == target { 1.0 } else { 0.0 };
        *score = if masked(j) { 0.0 } else { (p - indicator) * factor };
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_sorts_and_merges_what_is_inserted() {
        let mut storage = [MaskEntry::default(); 3];
        let mut mask = Mask::new(&mut storage);
        for (row, candidate) in [(17, 2), (0, 9), (3, 9), (16, 2), (0, 1), (0, 1)] {
            mask.insert(row, candidate).unwrap();
        }
        let expected = [(0, 1, 1), (0, 9, 0b1001), (1, 2, 0b11)].map(|(panel, candidate, lanes)| MaskEntry {
            panel,
            candidate,
            lanes,
        });
        assert_eq!(mask.entries(), expected);
        assert_eq!(mask.insert(5, 5), Err(Error::Length { what: "mask", needed: 4, given: 3 }));
        assert_eq!(mask.entries(), expected, "a full mask is as before");
        assert_eq!(mask_of_panel(mask.entries(), 1), &expected[2..]);
        mask.clear();
        assert!(mask.entries().is_empty());
    }

    #[test]
    fn mask_is_checked_for_order_range_and_targets() {
        let entry = |panel, candidate, lanes| MaskEntry { panel, candidate, lanes };
        let targets = [0, 1, 2];
        assert_eq!(check_mask(&[entry(0, 0, 0b110), entry(0, 1, 0b1)], &targets, 3), Ok(()));
        for (bad, index) in [
            (vec![entry(0, 1, 1), entry(0, 0, 2)], 1),
            (vec![entry(0, 1, 1), entry(0, 1, 1)], 1),
            (vec![entry(0, 3, 1)], 0),
            (vec![entry(1, 0, 1)], 0),
            (vec![entry(0, 0, 0b1000)], 0),
            (vec![entry(0, 0, 0)], 0),
        ] {
            assert_eq!(check_mask(&bad, &targets, 3), Err(Error::Mask { index }), "{bad:?}");
        }
        assert_eq!(check_mask(&[entry(0, 2, 0b100)], &targets, 3), Err(Error::MaskedTarget { row: 2 }));
    }
}
