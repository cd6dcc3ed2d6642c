//! Scores of documents for transformed queries, and the best of them.

#[cfg(feature = "std")]
use core::cmp::Ordering;

use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_dim, check_len, flat_mut, panel_len};
use crate::math;
use crate::normalize::normalize_panel;
use crate::simd::{Level, Simd, check_subnormals, dispatch};
use crate::tile::RowProducts;
use crate::transpose::rows_to_panel;

/// Cosines of `rows` queries with `N` documents.
///
/// `queries` is `rows × dim`, row-major, of any norm that `f32` holds the square of; `documents` is `N × dim`, row-major, normalised by
/// [`normalize_rows`](crate::normalize_rows). `scratch` holds [`panel_len(rows, dim)`](panel_len) elements. `scores`
/// holds [`panel_len(rows, N)`](panel_len): it is a [`PanelMatrix`](crate::PanelMatrix) of `rows × N` afterwards. A zero query or document
/// scores 0. Equal documents score equally.
///
/// It is [`normalize_queries`] followed by [`score_documents`]; call these where the same queries meet one block of
/// documents after another.
///
/// # Errors
/// [`Error::Dimension`], [`Error::Length`] or [`Error::FlushToZero`]; `scores` is as before.
pub fn cosine_scores(
    level: Level,
    queries: &[f32],
    documents: &[f32],
    dim: usize,
    scratch: &mut [Lanes],
    scores: &mut [Lanes],
) -> Result<(), Error> {
    check_dim("dim", dim)?;
    let (rows, candidates) = (queries.len() / dim.max(1), documents.len() / dim.max(1));
    check_len("queries", rows * dim, queries.len())?;
    check_len("documents", candidates * dim, documents.len())?;
    check_len("scratch", panel_len(rows, dim), scratch.len())?;
    check_len("scores", panel_len(rows, candidates), scores.len())?;
    normalize_queries(level, queries, dim, scratch)?;
    score_documents(level, scratch, documents, dim, scores)
}

/// Normalises `rows` queries into panels whose rows are queries, as [`score_documents`] takes them.
///
/// `queries` is `rows × dim`, row-major; `panels` holds [`panel_len(rows, dim)`](panel_len) elements. Unused lanes
/// become +0.
///
/// # Errors
/// [`Error::Dimension`], [`Error::Length`] or [`Error::FlushToZero`]; `panels` is as before.
pub fn normalize_queries(
    level: Level,
    queries: &[f32],
    dim: usize,
    panels: &mut [Lanes],
) -> Result<(), Error> {
    check_dim("dim", dim)?;
    let rows = queries.len() / dim.max(1);
    check_len("queries", rows * dim, queries.len())?;
    check_len("panels", panel_len(rows, dim), panels.len())?;
    check_subnormals()?;
    for (panel, queries) in panels.chunks_exact_mut(dim.max(1)).zip(queries.chunks((LANES * dim).max(1))) {
        dispatch!(level, s => {
            rows_to_panel(s, queries, dim, panel);
            normalize_panel(s, panel);
        });
    }
    Ok(())
}

/// Scores of `N` documents for the queries in `panels`, which [`normalize_queries`] made.
///
/// `documents` is `N × dim`, row-major, normalised. `scores` holds `N` elements for each panel of queries, panel after
/// panel.
///
/// # Errors
/// [`Error::Dimension`], [`Error::Length`] or [`Error::FlushToZero`]; `scores` is as before.
pub fn score_documents(
    level: Level,
    panels: &[Lanes],
    documents: &[f32],
    dim: usize,
    scores: &mut [Lanes],
) -> Result<(), Error> {
    check_dim("dim", dim)?;
    let (count, candidates) = (panels.len() / dim.max(1), documents.len() / dim.max(1));
    check_len("panels", count * dim, panels.len())?;
    check_len("documents", candidates * dim, documents.len())?;
    check_len("scores", count.saturating_mul(candidates), scores.len())?;
    check_subnormals()?;
    RowProducts {
        panels,
        bias: false,
        rows: documents,
        far: true,
        depth: dim,
        outputs: flat_mut(scores),
        panel_step: candidates.saturating_mul(LANES),
        row_step: LANES,
    }
    .run(level);
    Ok(())
}

/// The definition of one cosine: both rows normalised before.
#[must_use]
pub fn reference_cosine_score(query: &[f32], document: &[f32]) -> f32 {
    let mut acc = 0.0;
    for (&q, &d) in query.iter().zip(document) {
        acc = math::fma(q, d, acc);
    }
    acc
}

/// A document with its score.
// `C`: so that the storage may be given from C.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Found {
    /// The score, never NaN.
    pub score: f32,
    /// The document's place among all ids in ascending order: of equal scores the lower place is better.
    pub order: u32,
    /// The document.
    pub document: u32,
}

impl Found {
    /// Whether `self` comes before `other`: a higher score, or an equal one (−0 equals +0) and a lower place.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        // Without a branch: which of two documents is better cannot be foretold.
        (self.score > other.score) | ((self.score == other.score) & (self.order < other.order))
    }

    #[cfg(feature = "std")]
    fn best_first(a: &Self, b: &Self) -> Ordering {
        match (a.is_before(b), b.is_before(a)) {
            (true, _) => Ordering::Less,
            (_, true) => Ordering::Greater,
            _ => Ordering::Equal,
        }
    }
}

/// The best documents offered so far, at most as many as are wanted.
///
/// What it holds depends on the set of documents offered alone, not on their sequence, as long as no two have the same
/// score and place. Offering costs a comparison, and a logarithm of the capacity when the document enters; less if there is
/// [room](Self::with_room) to spare.
///
/// ```
/// use query_adapter::{Found, TopK};
///
/// let mut storage = [Found::default(); 2];
/// let mut best = TopK::new(&mut storage);
/// for (document, score) in [(0, 0.1), (1, 0.9), (2, 0.9), (3, 0.4)] {
///     best.offer(Found { score, order: 9 - document, document })?;
/// }
/// assert_eq!(best.into_sorted().iter().map(|found| found.document).collect::<Vec<_>>(), [2, 1]);
/// # Ok::<(), query_adapter::Error>(())
/// ```
#[derive(Debug)]
pub struct TopK<'a> {
    /// The first `len` are held. If there is no more room than documents are wanted, they are a heap: no parent is before its child, so
    /// the first is the worst. Otherwise they are as they came, but for the best when it was last full, which stand in front, the
    /// worst of them first.
    storage: &'a mut [Found],
    len: usize,
    /// How many are wanted, at most `storage.len()`.
    count: usize,
    /// Whether there was no room left once.
    been_full: bool,
}

impl<'a> TopK<'a> {
    /// Holds nothing yet; `storage` decides how many it may hold, and its contents do not matter.
    #[must_use]
    pub const fn new(storage: &'a mut [Found]) -> Self {
        let count = storage.len();
        Self { storage, len: 0, count, been_full: count == 0 }
    }

    /// Wants the best `count`, or as many as fit `storage`. With the feature `std` room for more makes it faster: documents that
    /// enter fill it and are then sorted out together, instead of each taking the place of the worst. Twice `count` is enough.
    #[must_use]
    pub fn with_room(storage: &'a mut [Found], count: usize) -> Self {
        let count = count.min(storage.len());
        let room = if cfg!(feature = "std") && count > 0 { storage.len() } else { count };
        Self { count, ..Self::new(storage.get_mut(..room).unwrap_or_default()) }
    }

    /// The score below which no document enters: −∞ as long as there is room.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        match self.worst() {
            Some(worst) => worst.score,
            None if self.count > 0 => f32::NEG_INFINITY,
            None => f32::INFINITY,
        }
    }

    /// Takes a document if it is among the best.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a score that is NaN, which is neither better nor worse than any other; `row` is the
    /// document.
    #[cfg_attr(feature = "std", inline)]
    pub fn offer(&mut self, found: Found) -> Result<(), Error> {
        if found.score.is_nan() {
            return Err(Error::NotFinite { what: "score", row: found.document as usize });
        }
        if self.worst().is_some_and(|worst| !found.is_before(worst)) {
            return Ok(());
        }
        if !self.has_room() {
            self.put_in_heap(found);
        } else if let Some(place) = self.storage.get_mut(self.len) {
            // Field by field: an element is not put together in memory first.
            place.score = found.score;
            place.order = found.order;
            place.document = found.document;
            self.len += 1;
            if self.len == self.storage.len() {
                self.drop_surplus();
                self.been_full = true;
            }
        }
        Ok(())
    }

    /// The documents held, the best first.
    #[must_use]
    pub fn into_sorted(mut self) -> &'a [Found] {
        self.drop_surplus();
        self.sort();
        self.storage.get(..self.len).unwrap_or_default()
    }

    /// Whether there is room for more than are wanted.
    const fn has_room(&self) -> bool {
        cfg!(feature = "std") && self.count < self.storage.len()
    }

    /// What a document that enters must be before, if any: the worst of the best, as of when it was last looked for.
    fn worst(&self) -> Option<&Found> {
        self.storage.first().filter(|_| self.been_full)
    }

    /// Leaves the best `count`, the worst of them first.
    #[cfg(feature = "std")]
    #[inline(never)]
    fn drop_surplus(&mut self) {
        if let Some(held) = self.storage.get_mut(..self.len).filter(|_| self.count < self.len)
            && let Some(last) = self.count.checked_sub(1)
        {
            held.select_nth_unstable_by(last, Found::best_first);
            held.swap(0, last);
            self.len = self.count;
        }
    }

    /// There is none.
    #[cfg(not(feature = "std"))]
    fn drop_surplus(&mut self) {}

    #[cfg(feature = "std")]
    fn sort(&mut self) {
        self.storage.get_mut(..self.len).unwrap_or_default().sort_unstable_by(Found::best_first);
    }

    /// The standard sort is faster, and larger than a device's whole search.
    #[cfg(not(feature = "std"))]
    fn sort(&mut self) {
        let held = self.len;
        // The worst of those that are left goes behind them.
        while let Some([worst, .., last]) = self.storage.get_mut(..self.len) {
            let displaced = core::mem::replace(last, *worst);
            self.len -= 1;
            self.replace_worst(displaced);
        }
        self.len = held;
    }

    /// Adds a document to the heap, if there is no room in place of the worst.
    #[cfg_attr(feature = "std", inline(never))]
    fn put_in_heap(&mut self, found: Found) {
        if self.been_full {
            self.replace_worst(found);
            return;
        }
        self.rise(self.len, found);
        self.len += 1;
        self.been_full = self.len == self.storage.len();
    }

    /// Puts a document in place of the worst.
    ///
    /// The worse of two children moves up, all the way down; the document then rises to its place from there, which is seldom far.
    /// To ask at each step whether it has arrived would be to guess at each step.
    fn replace_worst(&mut self, found: Found) {
        let mut hole = 0;
        loop {
            let left = 2 * hole + 1;
            let children = self.storage.get(left..self.len).unwrap_or_default();
            let child = match children {
                [] => break,
                [_] => left,
                [a, b, ..] => left + usize::from(a.is_before(b)),
            };
            self.copy(child, hole);
            hole = child;
        }
        self.rise(hole, found);
    }

    /// Puts a document at `hole`, or above, as far as the documents there are before it.
    fn rise(&mut self, mut hole: usize, found: Found) {
        while let Some(parent) = hole.checked_sub(1).map(|child| child / 2)
            && self.storage.get(parent).is_some_and(|parent| parent.is_before(&found))
        {
            self.copy(parent, hole);
            hole = parent;
        }
        if let Some(place) = self.storage.get_mut(hole) {
            *place = found;
        }
    }

    /// Unlike indexing, without a panic for places that are not there.
    fn copy(&mut self, from: usize, to: usize) {
        if let Some(&found) = self.storage.get(from)
            && let Some(place) = self.storage.get_mut(to)
        {
            *place = found;
        }
    }
}

/// Offers a block of documents to the best of up to sixteen queries.
///
/// `scores` is a panel as [`score_documents`] makes them, a [`Lanes`] for each document, whose lanes are the queries of
/// `best`. `order` has the place of each document of the block among all ids; the first document of the block is
/// `first`. Documents that are better for none of the queries cost one comparison of sixteen lanes.
///
/// # Errors
/// [`Error::Length`], also where documents would be numbered [`u32::MAX`] or beyond; [`Error::NotFinite`] for a score that is NaN,
/// after some documents have been taken.
pub fn offer_block(
    level: Level,
    scores: &[Lanes],
    order: &[u32],
    first: u32,
    best: &mut [TopK<'_>],
) -> Result<(), Error> {
    check_len("order", scores.len(), order.len())?;
    check_len("best", best.len().min(LANES), best.len())?;
    let rest = (u32::MAX - first) as usize;
    if scores.len() > rest {
        return Err(Error::Length { what: "scores", needed: rest, given: scores.len() });
    }
    dispatch!(level, s => offer_panel(s, scores, order, first, best))
}

#[inline(always)]
fn offer_panel<S: Simd>(
    s: S,
    scores: &[Lanes],
    order: &[u32],
    first: u32,
    best: &mut [TopK<'_>],
) -> Result<(), Error> {
    let mut thresholds = Lanes([f32::INFINITY; LANES]);
    for (threshold, best) in thresholds.0.iter_mut().zip(best.iter()) {
        *threshold = best.threshold();
    }
    for ((column, &order), document) in scores.iter().zip(order).zip(first..) {
        // A NaN is not below its threshold.
        let mut entering = !s.bits(s.gt(s.load(&thresholds), s.load(column)));
        while entering != 0 {
            let lane = entering.trailing_zeros() as usize;
            entering &= entering - 1;
            // Lanes without a query hold +0 and enter nowhere.
            let place = column.0.get(lane).zip(best.get_mut(lane)).zip(thresholds.0.get_mut(lane));
            if let Some(((&score, best), threshold)) = place {
                best.offer(Found { score, order, document })?;
                // A vector is not read at once where a part of it has just been written.
                if *threshold < best.threshold() {
                    *threshold = best.threshold();
                }
            }
        }
    }
    Ok(())
}

/// The definition of the best documents: place after place, the best of those that come after the place before. `best`
/// gets as many as there are, or fit; returns how many. No two documents have the same score and place, and no score is
/// NaN.
pub fn reference_top_k(scores: &[f32], order: &[u32], best: &mut [Found]) -> usize {
    let mut last: Option<Found> = None;
    for (filled, place) in best.iter_mut().enumerate() {
        let mut next: Option<Found> = None;
        for ((document, &score), &order) in (0..).zip(scores).zip(order) {
            let found = Found { score, order, document };
            let is_left = last.is_none_or(|last| last.is_before(&found));
            if is_left && next.is_none_or(|next| found.is_before(&next)) {
                next = Some(found);
            }
        }
        match next {
            Some(next) => *place = next,
            None => return filled,
        }
        last = next;
    }
    best.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_numbered_below_the_largest_u32() {
        let scores = [Lanes([0.5; LANES]); 2];
        let mut storage = [Found::default(); 2];
        let mut best = [TopK::new(&mut storage)];
        let level = Level::baseline();
        let refused = Err(Error::Length { what: "scores", needed: 1, given: 2 });
        assert_eq!(offer_block(level, &scores, &[0, 1], u32::MAX - 1, &mut best), refused);
        assert_eq!(offer_block(level, &scores, &[0, 1], u32::MAX - 2, &mut best), Ok(()));
        let [best] = best;
        assert_eq!(best.into_sorted().iter().map(|found| found.document).max(), Some(u32::MAX - 1));
    }

    /// With and without the standard sort; `bit_identity` has every level and any scores.
    #[test]
    fn the_best_are_the_defined_ones_with_room_and_without() {
        // Scores that repeat, and places in another order than the documents'.
        let scores: [f32; 60] = core::array::from_fn(|d| ((d * 37 % 60) / 3) as f32 - 8.0);
        let mut order = [0; 60];
        order.iter_mut().zip(0..).for_each(|(place, d): (_, u32)| *place = (d * 7 + 5) % 60);
        for (offered, count, room) in [
            (60, 5, 5),
            (60, 5, 6),
            (60, 5, 10),
            (60, 20, 60),
            (7, 20, 20),
            (20, 20, 20),
            (60, 1, 1),
            (60, 0, 4),
        ] {
            let mut storage = [Found { score: 9.0, order: 0, document: 99 }; 60];
            let mut best = TopK::with_room(&mut storage[..room], count);
            for ((document, &score), &order) in (0..).zip(&scores[..offered]).zip(&order) {
                best.offer(Found { score, order, document }).unwrap();
                assert!(count > 0 || best.threshold() == f32::INFINITY);
            }
            let mut expected = [Found::default(); 60];
            let held = reference_top_k(&scores[..offered], &order[..offered], &mut expected[..count]);
            assert_eq!(best.into_sorted(), &expected[..held], "{offered} {count} {room}");
        }
    }
}
