//! The JSON list of the ids of a matrix's rows.

use std::fmt;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::contents::Contents;
use crate::failure::Failure;
use crate::ids::{IdText, Ids, Rejected};
use crate::json::{self, Place, quoted};

/// Reads a JSON list of distinct ids, strings or integers.
pub(super) fn load(file: &Path) -> Result<Ids, Failure> {
    let contents = Contents::of(file)?;
    parse(file, "", json::text_of(file, &contents)?)
}

/// Reads the list that a part of a file, `what`, holds.
pub(super) fn parse(file: &Path, what: &'static str, text: &[u8]) -> Result<Ids, Failure> {
    let place = Place::default();
    place.enter_section(what);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    IdList
        .deserialize(&mut deserializer)
        .and_then(|ids| deserializer.end().map(|()| ids))
        .map_err(|error| json::failure(file, text, &place, &error))
}

/// Reads ids one by one.
struct IdList;

impl<'de> DeserializeSeed<'de> for IdList {
    type Value = Ids;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Ids, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for IdList {
    type Value = Ids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ids, A::Error> {
        let mut ids = Ids::default();
        while let Some(IdText(id)) = list.next_element()? {
            ids.push(&id).map_err(|rejected| {
                let entry = ids.len() + 1;
                let advice = match rejected {
                    Rejected::Duplicate { .. } => "; every row needs an id of its own",
                    Rejected::TooMany => "",
                };
                de::Error::custom(format!("entry {entry} is {}: {rejected}{advice}", quoted(&id)))
            })?;
        }
        Ok(ids)
    }
}
