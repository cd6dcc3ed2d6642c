//! Which form a data set file has: by what stands in it, never by its name.

use core::cell::RefCell;
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::quoted;

/// Keys of one object that is a data set.
const SECTIONS: [&str; 6] =
    ["queries", "corpus", "relevant_docs", "negative_docs", "query_embeddings", "corpus_embeddings"];

/// Keys of a foreign object that an error repeats.
const MOST_KEYS: usize = 8;

/// What stands first in a file.
#[derive(Debug, PartialEq)]
pub(crate) enum First {
    /// An object that is a whole data set.
    Dataset,
    /// An object with these keys, as far as it can be read.
    Object(Vec<String>),
    /// A list whose first row has these keys; none where that is no object.
    List(Vec<String>),
    /// Anything else.
    Other,
}

impl First {
    /// Looks at the first object of a file, no further than is needed.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let found = Found::default();
        let mut parser = serde_json::Deserializer::from_slice(bytes);
        let is_list = bytes.trim_ascii_start().first() == Some(&b'[');
        // A fault, or stopping early, is an error here; what was found until then is what counts, and whoever reads the
        // file says what is wrong with it.
        let _ = match is_list {
            true => parser.deserialize_seq(FirstRow(&found)),
            false => KeysSeed(&found).deserialize(&mut parser),
        };
        let Found { keys, is_object, is_dataset } = found;
        match (is_list, is_dataset.into_inner(), is_object.into_inner()) {
            (true, ..) => Self::List(keys.into_inner()),
            (false, true, _) => Self::Dataset,
            (false, false, true) => Self::Object(keys.into_inner()),
            (false, false, false) => Self::Other,
        }
    }
}

/// Keys as an error shows them.
pub(super) fn shown(keys: &[String]) -> String {
    let shown: Vec<String> = keys.iter().take(MOST_KEYS).map(|key| quoted(key)).collect();
    shown.join(", ")
}

#[derive(Default)]
struct Found {
    keys: RefCell<Vec<String>>,
    is_object: RefCell<bool>,
    is_dataset: RefCell<bool>,
}

struct KeysSeed<'a>(&'a Found);

impl<'de> DeserializeSeed<'de> for KeysSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeysSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        *self.0.is_object.borrow_mut() = true;
        while let Some(key) = map.next_key::<String>()? {
            if SECTIONS.contains(&key.as_str()) {
                *self.0.is_dataset.borrow_mut() = true;
                return Ok(());
            }
            self.0.keys.borrow_mut().push(key);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

struct FirstRow<'a>(&'a Found);

impl<'de> Visitor<'de> for FirstRow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        list.next_element_seed(KeysSeed(self.0)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_object_says_what_a_file_is() {
        let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (text, expected) in [
            (r#"{"mode": {"queries": 1}, "queries": "#, First::Dataset),
            (r#"{"queries": 7}"#, First::Dataset),
            (r#"{"a": [1], "b": {"c": 2}} {"#, First::Object(keys(&["a", "b"]))),
            (r#"{"a": 1, "b"#, First::Object(keys(&["a"]))),
            ("{", First::Object(vec![])),
            (r#" [{"a": 1, "b": 2}, {"c": 3}]"#, First::List(keys(&["a", "b"]))),
            ("[[1]]", First::List(vec![])),
            ("7", First::Other),
            ("query-id\tcorpus-id", First::Other),
            ("", First::Other),
        ] {
            assert_eq!(First::of(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(First::of("[".repeat(20_000).as_bytes()), First::List(vec![]));
    }
}
