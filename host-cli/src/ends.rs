//! Where the pieces of a buffer end.

use core::ops::Range;

/// Where pieces that follow one another in a buffer end, each under its number.
///
/// Every piece takes 4 bytes; none at all as long as they have one length, as lists of one document each do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ends {
    /// The number of pieces.
    len: usize,
    /// The length of every piece, while they have one.
    each: usize,
    /// The lower 32 bits of every end, from the first piece of another length on.
    lower: Vec<u32>,
    /// For each multiple of 2³² that the ends reach, the number of those below it.
    carries: Vec<usize>,
}

impl Ends {
    /// Appends a piece that ends at `end`, which is no less than the end before it.
    pub(crate) fn push(&mut self, end: usize) {
        if self.len == 0 {
            self.each = end;
        }
        if self.lower.is_empty() {
            if end - self.last() == self.each {
                self.len += 1;
                return;
            }
            for piece in 1..=core::mem::take(&mut self.len) {
                self.push_lower(piece * self.each);
            }
        }
        self.push_lower(end);
    }

    #[allow(clippy::cast_possible_truncation, reason = "the upper bits are in `carries`")]
    fn push_lower(&mut self, end: usize) {
        while (self.carries.len() as u64) < (end as u64) >> 32 {
            self.carries.push(self.len);
        }
        self.lower.push(end as u32);
        self.len += 1;
    }

    /// The number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the last piece ends; 0 where there is none.
    pub(crate) fn last(&self) -> usize {
        self.len.checked_sub(1).map_or(0, |last| self.end(last))
    }

    /// Where a piece stands.
    ///
    /// # Panics
    ///
    /// When there is no such piece.
    pub(crate) fn range(&self, piece: usize) -> Range<usize> {
        assert!(piece < self.len, "there are {} pieces, none numbered {piece}", self.len);
        piece.checked_sub(1).map_or(0, |before| self.end(before))..self.end(piece)
    }

    #[allow(clippy::cast_possible_truncation, reason = "every end was a `usize`")]
    fn end(&self, piece: usize) -> usize {
        if self.lower.is_empty() {
            return (piece + 1) * self.each;
        }
        let upper = self.carries.partition_point(|&below| below <= piece);
        ((upper as u64) << 32 | u64::from(self.lower[piece])) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lengths: &[usize]) -> Ends {
        let mut ends = Ends::default();
        lengths.iter().for_each(|length| ends.push(ends.last() + length));
        ends
    }

    #[test]
    fn pieces_of_one_length_take_no_memory_and_others_four_bytes_each() {
        for each in [0, 1, 9] {
            let ends = of(&[each; 100]);
            assert_eq!((ends.len(), ends.last(), ends.lower.len()), (100, 100 * each, 0));
            assert_eq!(ends.range(7), 7 * each..8 * each);
        }
        assert_eq!(of(&[1, 1, 1, 2, 1]).lower, [1, 2, 3, 5, 6]);
        assert_eq!(of(&[]).last(), 0);
    }

    #[test]
    #[should_panic(expected = "there are 2 pieces, none numbered 2")]
    fn a_piece_that_is_not_there_is_refused_also_where_all_are_empty() {
        of(&[0, 0]).range(2);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn ends_beyond_four_gigabytes_are_kept() {
        const GIB: usize = 1 << 30;
        // Just below, at and above the first multiple of 2³², then past two at once.
        let lengths = [4 * GIB - 1, 0, 1, 0, 1, 9 * GIB, 3 * GIB, 0];
        let ends = of(&lengths);
        let mut start = 0;
        for (piece, length) in lengths.into_iter().enumerate() {
            assert_eq!(ends.range(piece), start..start + length, "{piece}");
            start += length;
        }
        assert_eq!(ends.carries, [2, 5, 5, 6]);
        assert_eq!(of(&[3 * GIB; 3]).range(2), 6 * GIB..9 * GIB);
    }

    proptest! {
        #[test]
        fn every_piece_is_found_again(lengths in prop::collection::vec(0_usize..4, 0..40)) {
            let ends = of(&lengths);
            prop_assert_eq!(ends.len(), lengths.len());
            let mut start = 0;
            for (piece, length) in lengths.into_iter().enumerate() {
                prop_assert_eq!(ends.range(piece), start..start + length);
                start += length;
            }
            prop_assert_eq!(ends.last(), start);
        }
    }
}
