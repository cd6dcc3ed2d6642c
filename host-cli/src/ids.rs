//! Ids in the order of their file, with a look-up.

use core::hash::BuildHasher as _;
use core::ops::Range;
use std::fmt;
use std::hash::RandomState;

use hashbrown::HashTable;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Distinct ids in the order of their file, with a look-up from id to position.
///
/// Ids are compared byte for byte: no trimming, no Unicode normalisation, no reading as numbers. They stand in one
/// buffer, one after the other: an id takes its own bytes and about 20 more.
#[derive(Clone, Default)]
pub struct Ids {
    /// All ids.
    text: String,
    /// Where each ends in it.
    ends: Vec<usize>,
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
    /// Appends an id and returns its position.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when the id is there already or there are too many; nothing is changed then.
    pub fn push(&mut self, id: &str) -> Result<u32, Rejected> {
        let hash = self.hasher.hash_one(id);
        if let Some(first) = self.find(hash, id) {
            return Err(Rejected::Duplicate { first });
        }
        let position = u32::try_from(self.ends.len()).map_err(|_| Rejected::TooMany)?;
        self.text.push_str(id);
        self.ends.push(self.text.len());
        let Self { text, ends, positions, hasher } = self;
        positions.insert_unique(hash, position, |&known| hasher.hash_one(id_at(text, ends, known)));
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
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The position of an id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<u32> {
        self.find(self.hasher.hash_one(id), id)
    }

    /// The id at a position.
    #[must_use]
    pub fn get(&self, position: u32) -> Option<&str> {
        ((position as usize) < self.ends.len()).then(|| id_at(&self.text, &self.ends, position))
    }

    /// The ids in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.positions().map(|position| id_at(&self.text, &self.ends, position))
    }

    /// For each position, the place of its id among all ids in ascending byte order; equal scores are ordered
    /// by it.
    #[must_use]
    pub fn byte_ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = self.positions().collect();
        order.sort_unstable_by_key(|&position| id_at(&self.text, &self.ends, position));
        let mut ranks = vec![0; order.len()];
        for (rank, position) in self.positions().zip(order) {
            ranks[position as usize] = rank;
        }
        ranks
    }

    fn positions(&self) -> Range<u32> {
        // `push` keeps the length within u32.
        0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    fn find(&self, hash: u64, id: &str) -> Option<u32> {
        self.positions.find(hash, |&known| id_at(&self.text, &self.ends, known) == id).copied()
    }
}

/// The id at a position that is there.
fn id_at<'a>(text: &'a str, ends: &[usize], position: u32) -> &'a str {
    let position = position as usize;
    let start = position.checked_sub(1).map_or(0, |before| ends[before]);
    &text[start..ends[position]]
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl core::ops::Index<u32> for Ids {
    type Output = str;

    fn index(&self, position: u32) -> &str {
        id_at(&self.text, &self.ends, position)
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
