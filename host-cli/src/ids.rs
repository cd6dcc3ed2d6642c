//! Ids in the order of their file, with a look-up.

use core::hash::BuildHasher as _;
use core::ops::Range;
use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;

use hashbrown::HashTable;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::ends::Ends;

/// Distinct ids in the order of their file, with a look-up from id to position.
///
/// Ids are compared byte for byte: no trimming, no Unicode normalisation, no reading as numbers. They stand in one
/// buffer, one after the other: an id takes its own bytes and about 10 more, 15 where their lengths differ. Clones, and
/// lists whose ids come in the order that they were expected in, take nothing: they share the buffer.
#[derive(Clone, Default)]
pub struct Ids {
    known: Arc<Known>,
    /// How many of `known` belong to this list; those behind them are another's.
    len: u32,
}

/// Ids that lists share.
#[derive(Clone, Default)]
struct Known {
    /// All ids.
    text: String,
    /// Where each ends in it.
    ends: Ends,
    /// Positions by the hash of their ids. For look-ups only: its order reaches nothing.
    positions: HashTable<u32>,
    hasher: RandomState,
}

/// Why an id was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It was there already.
    #[error("it was entry {} already", first + 1)]
    Duplicate {
        /// The position at which the id was first seen, counted from 0.
        first: u32,
    },
    /// Positions are 32-bit numbers.
    #[error("more than 4294967295 ids are not supported")]
    TooMany,
}

impl Ids {
    /// An empty list, which takes no memory as long as its ids are those of `others`, from the first on.
    pub(crate) fn expecting(others: &Self) -> Self {
        Self { known: Arc::clone(&others.known), len: 0 }
    }

    /// Appends an id and returns its position.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when the id is there already or there are too many; nothing is changed then.
    pub fn push(&mut self, id: &str) -> Result<u32, Rejected> {
        let position = self.len;
        let longer = position.checked_add(1).ok_or(Rejected::TooMany);
        // As expected: a list has no id twice, so it is not among those before.
        if self.known.get(position) != Some(id) {
            let hash = self.known.hasher.hash_one(id);
            if let Some(first) = self.find(hash, id) {
                return Err(Rejected::Duplicate { first });
            }
            longer?;
            self.own().push(hash, id, position);
        }
        self.len = longer?;
        Ok(position)
    }

    /// The position of an id, which is appended if it is not there yet.
    ///
    /// # Errors
    ///
    /// [`Rejected::TooMany`]; nothing is changed then.
    pub fn intern(&mut self, id: &str) -> Result<u32, Rejected> {
        match self.push(id) {
            Err(Rejected::Duplicate { first }) => Ok(first),
            pushed => pushed,
        }
    }

    /// The number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The position of an id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<u32> {
        self.find(self.known.hasher.hash_one(id), id)
    }

    /// The id at a position.
    #[must_use]
    pub fn get(&self, position: u32) -> Option<&str> {
        (position < self.len).then(|| self.known.at(position))
    }

    /// The ids in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.positions().map(|position| self.known.at(position))
    }

    /// For each position, the place of its id among all ids in ascending byte order; equal scores are ordered
    /// by it.
    #[must_use]
    pub fn byte_ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = self.positions().collect();
        order.sort_unstable_by_key(|&position| self.known.at(position));
        let mut ranks = vec![0; order.len()];
        for (rank, position) in self.positions().zip(order) {
            ranks[position as usize] = rank;
        }
        ranks
    }

    /// Whether both are held in one place.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known)
    }

    fn positions(&self) -> Range<u32> {
        0..self.len
    }

    fn find(&self, hash: u64, id: &str) -> Option<u32> {
        self.known.find(hash, id).filter(|&position| position < self.len)
    }

    /// The ids of this list, which no other shares and behind which there are none.
    fn own(&mut self) -> &mut Known {
        if self.known.len() > self.len() {
            self.known = Arc::new(self.known.first(self.len));
        }
        Arc::make_mut(&mut self.known)
    }
}

impl Known {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, position: u32) -> Option<&str> {
        ((position as usize) < self.len()).then(|| self.at(position))
    }

    /// The id at a position that is there.
    fn at(&self, position: u32) -> &str {
        &self.text[self.ends.range(position as usize)]
    }

    fn find(&self, hash: u64, id: &str) -> Option<u32> {
        self.positions.find(hash, |&known| self.at(known) == id).copied()
    }

    /// Appends a new id at the `position` behind the last.
    fn push(&mut self, hash: u64, id: &str, position: u32) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
        let Self { text, ends, positions, hasher } = self;
        let id_at = |position: u32| &text[ends.range(position as usize)];
        positions.insert_unique(hash, position, |&known| hasher.hash_one(id_at(known)));
    }

    /// A copy of the first `len` ids.
    fn first(&self, len: u32) -> Self {
        let positions = HashTable::with_capacity(len as usize);
        let mut first = Self { hasher: self.hasher.clone(), positions, ..Self::default() };
        for position in 0..len {
            let id = self.at(position);
            first.push(self.hasher.hash_one(id), id, position);
        }
        first
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl core::ops::Index<u32> for Ids {
    type Output = str;

    fn index(&self, position: u32) -> &str {
        self.get(position).unwrap_or_else(|| panic!("there are {} ids, none numbered {position}", self.len))
    }
}

/// An id as it stands in a JSON value: a string, or an integer that is read as its decimal text.
pub(crate) struct IdText(pub(crate) String);

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = IdText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id (a string or an integer)")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<IdText, E> {
                Ok(IdText(id.to_owned()))
            }

            fn visit_string<E: de::Error>(self, id: String) -> Result<IdText, E> {
                Ok(IdText(id))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<IdText, E> {
                Ok(IdText(id.to_string()))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<IdText, E> {
                Ok(IdText(id.to_string()))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(list: &[&str]) -> Ids {
        let mut ids = Ids::default();
        for id in list {
            ids.push(id).expect("distinct");
        }
        ids
    }

    #[test]
    fn keeps_the_order_of_the_file_and_finds_every_id() {
        let ids = ids(&["b", "a", "c"]);
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(ids.index_of("c"), Some(2));
        assert_eq!(ids.index_of("d"), None);
        assert_eq!((&ids[1], ids.get(2), ids.get(3)), ("a", Some("c"), None));
        assert_eq!(Ids::default().iter().len(), 0);
    }

    #[test]
    fn the_empty_id_is_an_id_and_thousands_are_found_again() {
        let mut many = Ids::default();
        for number in 0..5000_u32 {
            let id = if number == 0 { String::new() } else { number.to_string() };
            assert_eq!(many.push(&id), Ok(number));
            assert_eq!(many.intern(&id), Ok(number));
        }
        for (number, id) in (0..).zip(many.iter()) {
            assert_eq!(many.index_of(id), Some(number));
        }
        assert_eq!((many.index_of(""), many.index_of("5000")), (Some(0), None));
    }

    #[test]
    fn a_duplicate_is_refused_with_its_first_position() {
        let mut ids = ids(&["a", "b"]);
        assert_eq!(ids.push("b"), Err(Rejected::Duplicate { first: 1 }));
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn ids_that_come_as_expected_are_held_once() {
        let all = ids(&["a", "b", "c"]);
        let mut some = Ids::expecting(&all);
        assert!(some.is_empty() && some.index_of("a").is_none() && some.get(0).is_none());
        assert_eq!((some.push("a"), some.push("b")), (Ok(0), Ok(1)));
        assert!(some.shares_with(&all));
        assert_eq!((some.index_of("b"), some.index_of("c"), some.len()), (Some(1), None, 2));
        assert_eq!((some.get(2), some.iter().len()), (None, 2));
        let mut others = some.clone();
        assert_eq!((some.push("c"), others.push("d")), (Ok(2), Ok(2)));
        assert!(some.shares_with(&all) && !others.shares_with(&all));
        // Behind the last id that was expected.
        assert_eq!(some.push("e"), Ok(3));
        assert!(!some.shares_with(&all) && all.index_of("e").is_none());
        // None of its own moves as long as no one else holds it.
        let before = Arc::as_ptr(&some.known);
        assert_eq!((some.push("f"), Arc::as_ptr(&some.known)), (Ok(4), before));
    }

    proptest! {
        #[test]
        fn what_was_expected_changes_nothing(
            expected in prop::collection::vec("[a-d]{0,2}", 0..6),
            cut in 0_usize..6,
            others in prop::collection::vec("[a-d]{0,2}", 0..6),
        ) {
            let mut known = Ids::default();
            expected.iter().for_each(|id| assert!(known.intern(id).is_ok()));
            let before: Vec<String> = known.iter().map(str::to_owned).collect();
            let (mut plain, mut expecting) = (Ids::default(), Ids::expecting(&known));
            for id in before.iter().take(cut).chain(&others) {
                prop_assert_eq!(plain.push(id), expecting.push(id));
            }
            prop_assert!(plain.iter().eq(expecting.iter()));
            for id in before.iter().chain(&others) {
                prop_assert_eq!(plain.index_of(id), expecting.index_of(id));
            }
            prop_assert_eq!(plain.byte_ranks(), expecting.byte_ranks());
            prop_assert!(known.iter().eq(&before));
        }
    }

    #[test]
    fn byte_ranks_compare_bytes_not_numbers_or_letters() {
        // '1' < '9' < 'A' < 'a' < 'é'
        assert_eq!(ids(&["é", "9", "a", "100", "A", "10"]).byte_ranks(), [5, 2, 4, 1, 3, 0]);
    }

    #[test]
    fn look_alike_ids_stay_apart() {
        let ids = ids(&["caf\u{e9}", "cafe\u{301}", " d ", "d"]);
        assert_eq!(ids.index_of("cafe\u{301}"), Some(1));
        assert_eq!(ids.index_of("d"), Some(3));
    }

    #[test]
    fn integers_become_their_decimal_text_and_nothing_else_is_an_id() {
        let id = |text: &str| serde_json::from_str::<IdText>(text).map(|id| id.0).map_err(|e| e.to_string());
        assert_eq!(id("7").as_deref(), Ok("7"));
        assert_eq!(id("-7").as_deref(), Ok("-7"));
        assert_eq!(id("18446744073709551615").as_deref(), Ok("18446744073709551615"));
        assert_eq!(id(r#""07""#).as_deref(), Ok("07"));
        for refused in ["7.0", "null", "true", "[7]", r#"{"7": 1}"#, "18446744073709551616"] {
            let message = id(refused).expect_err(refused);
            assert!(message.contains("expected an id (a string or an integer)"), "{message}");
        }
    }
}
