//! Ids in the order of their file, with a look-up.

use core::ops::Range;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Distinct ids in the order of their file, with a look-up from id to position.
///
/// Ids are compared byte for byte: no trimming, no Unicode normalisation, no reading as numbers.
#[derive(Clone, Default)]
pub struct Ids {
    list: Vec<Arc<str>>,
    // For look-ups only: its order reaches nothing.
    positions: HashMap<Arc<str>, u32>,
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
        if let Some(&first) = self.positions.get(id) {
            return Err(Rejected::Duplicate { first });
        }
        let position = u32::try_from(self.list.len()).map_err(|_| Rejected::TooMany)?;
        let id: Arc<str> = id.into();
        self.list.push(Arc::clone(&id));
        self.positions.insert(id, position);
        Ok(position)
    }

    /// The number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The position of an id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<u32> {
        self.positions.get(id).copied()
    }

    /// The ids in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[Arc<str>] {
        &self.list
    }

    /// For each position, the place of its id among all ids in ascending byte order; equal scores are ordered
    /// by it.
    #[must_use]
    pub fn byte_ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = self.positions().collect();
        order.sort_unstable_by_key(|&position| &self.list[position as usize]);
        let mut ranks = vec![0; order.len()];
        for (rank, position) in self.positions().zip(order) {
            ranks[position as usize] = rank;
        }
        ranks
    }

    fn positions(&self) -> Range<u32> {
        // `push` keeps the length within u32.
        0..u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl core::ops::Index<u32> for Ids {
    type Output = Arc<str>;

    fn index(&self, position: u32) -> &Arc<str> {
        &self.list[position as usize]
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
        assert_eq!(ids.as_slice().iter().map(|id| &**id).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(ids.index_of("c"), Some(2));
        assert_eq!(ids.index_of("d"), None);
        assert_eq!(&*ids[1], "a");
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
