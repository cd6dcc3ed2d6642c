//! Texts under their ids, and what is known of a text without holding it.

use hashbrown::HashTable;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use core::hash::Hasher as _;
use std::collections::HashSet;

use crate::ends::Ends;
use crate::ids::Ids;

/// What decides whether two texts are the same: 128 bits of SipHash-2-4, or that there is nothing but white space.
///
/// Training and evaluation never look at a text, they only ask whether two are equal; a key takes 16 bytes whatever the
/// length of the text. Among a billion texts the chance that any two different ones share a key is below 2⁻⁶⁸.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextKey(u128);

impl TextKey {
    /// The key of every text without a character that is not white space.
    pub const BLANK: Self = Self(0);

    /// The key of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::BLANK;
        }
        let mut hasher = SipHasher24::new();
        hasher.write(text.as_bytes());
        Self(hasher.finish128().as_u128().max(1))
    }

    /// The key as a number.
    pub(crate) const fn bits(self) -> u128 {
        self.0
    }

    /// An id for a text that has none: the same text has the same one everywhere.
    #[must_use]
    pub fn id(self) -> String {
        format!("{:016x}", self.0 >> 64)
    }

    /// Whether there is nothing in the text.
    #[must_use]
    pub fn is_blank(self) -> bool {
        self == Self::BLANK
    }
}

/// Which texts are kept beside their keys.
#[derive(Clone, Copy, Debug)]
pub enum KeepTexts<'a> {
    /// None.
    None,
    /// All.
    All,
    /// Those with these keys.
    Of(&'a HashSet<TextKey>),
}

/// Finds the first of equal texts, in 4 bytes and a little for each.
#[derive(Default)]
pub(crate) struct FirstOfText {
    /// Positions by the keys of their texts. For look-ups only: its order reaches nothing.
    positions: HashTable<u32>,
}

impl FirstOfText {
    /// The first of the texts up to `position` that is equal to the one there; all before must have been asked for.
    pub(crate) fn of(&mut self, texts: &[TextKey], position: u32) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "any part of the key will do")]
        let hash = |key: TextKey| key.0 as u64;
        let key = texts[position as usize];
        let same = |&known: &u32| texts[known as usize] == key;
        *self.positions.entry(hash(key), same, |&known| hash(texts[known as usize])).or_insert(position).get()
    }
}

/// Ids with a text each.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The ids.
    pub ids: Ids,
    /// The keys of the texts, in the order of the ids.
    pub keys: Vec<TextKey>,
    /// The texts themselves, one after the other, and where each ends; both empty when they are not kept.
    text: String,
    ends: Ends,
}

impl Texts {
    /// None yet; as long as their ids are `ids`, from the first on, the ids take no memory.
    pub(crate) fn expecting(ids: &Ids) -> Self {
        Self { ids: Ids::expecting(ids), ..Self::default() }
    }

    /// Adds the text of the id that was added last.
    pub(crate) fn push_text(&mut self, text: &str, keep: KeepTexts<'_>) {
        let key = TextKey::of(text);
        self.keys.push(key);
        let kept = match keep {
            KeepTexts::None => return,
            KeepTexts::All => text,
            KeepTexts::Of(keys) => keys.get(&key).map_or("", |_| text),
        };
        self.text.push_str(kept);
        self.ends.push(self.text.len());
    }

    /// The text of an id; none where there is no such id or no texts were kept, empty where this one was not.
    #[must_use]
    pub fn text(&self, position: u32) -> Option<&str> {
        let position = position as usize;
        (position < self.ends.len()).then(|| &self.text[self.ends.range(position)])
    }

    /// The texts in the order of the ids; none when they were not kept.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX))
            .map(|position| self.text(position).unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_keys_and_others_do_not() {
        let keys = ["a", "b", "a ", "ab", "é", "e\u{301}"].map(TextKey::of);
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(at));
            assert!(!key.is_blank());
        }
        assert_eq!(TextKey::of("a"), keys[0]);
        assert!(["", " ", "\t\n\u{a0}"].iter().all(|blank| TextKey::of(blank).is_blank()));
    }

    fn keys_of(texts: &[&str]) -> Vec<TextKey> {
        texts.iter().map(|text| TextKey::of(text)).collect()
    }

    #[test]
    fn the_first_of_equal_texts_is_found() {
        let keys = ["a", "b", "a", "", "c", "b", "a"].map(TextKey::of);
        let mut first = FirstOfText::default();
        let found: Vec<u32> = (0..7).map(|position| first.of(&keys, position)).collect();
        assert_eq!(found, [0, 1, 0, 3, 4, 1, 0]);
    }

    #[test]
    fn an_id_is_made_of_the_text_alone() {
        assert_eq!(TextKey::of("a").id(), TextKey::of("a").id());
        assert_ne!(TextKey::of("a").id(), TextKey::of("b").id());
        assert_eq!(TextKey::of("a").id().len(), 16);
        assert_eq!(TextKey::of(" ").id(), TextKey::BLANK.id());
    }

    #[test]
    fn texts_are_there_when_they_are_kept() {
        let mut texts = Texts::default();
        for (id, text) in [("1", ""), ("2", "two"), ("3", "drei")] {
            texts.ids.push(id).expect("new");
            texts.push_text(text, KeepTexts::All);
        }
        assert_eq!(texts.texts().collect::<Vec<_>>(), ["", "two", "drei"]);
        assert_eq!((texts.text(1), texts.text(3)), (Some("two"), None));
        let mut without = Texts::default();
        without.ids.push("1").expect("new");
        without.push_text("one", KeepTexts::None);
        assert_eq!((without.text(0), without.texts().len(), without.keys[0]), (None, 0, TextKey::of("one")));
        let (mut some, wanted) = (Texts::default(), HashSet::from([TextKey::of("two")]));
        for (id, text) in [("1", "one"), ("2", "two"), ("3", "three")] {
            some.ids.push(id).expect("new");
            some.push_text(text, KeepTexts::Of(&wanted));
        }
        assert_eq!(some.texts().collect::<Vec<_>>(), ["", "two", ""]);
        assert_eq!(some.keys, keys_of(&["one", "two", "three"]));
    }
}
