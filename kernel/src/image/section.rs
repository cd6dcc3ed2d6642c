//! The metadata and the golden pair as they are written; the only file that names postcard.

use postcard::ser_flavors::Size;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::metadata::Metadata;
use super::{METADATA_SCHEMA, METADATA_SCHEMA_WITH_SETTINGS, METADATA_SCHEMA_WITH_TEXT};
use crate::error::Error;

/// What follows the schema number: the metadata and the golden pair, in the order of the file.
///
/// Generic so that one declaration fixes that order for writing (from `f32`) and for reading (borrowed bytes, which
/// may lie at any address).
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Section<M, F> {
    pub(super) metadata: M,
    pub(super) golden_query: F,
    pub(super) golden_output: F,
}

impl<'a> Section<Metadata<'a>, &'a [u8]> {
    /// Postcard can neither skip a field nor default a missing one, so an unknown schema is refused, not guessed at.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let (schema, fields) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| Error::Metadata)?;
        if !matches!(schema, METADATA_SCHEMA | METADATA_SCHEMA_WITH_TEXT | METADATA_SCHEMA_WITH_SETTINGS) {
            return Err(Error::MetadataSchema { found: schema });
        }
        let (mut section, mut rest): (Self, _) =
            postcard::take_from_bytes(fields).map_err(|_| Error::Metadata)?;
        if schema == METADATA_SCHEMA_WITH_TEXT {
            let (text, after) = postcard::take_from_bytes(rest).map_err(|_| Error::Metadata)?;
            (section.metadata.golden_text, rest) = (Some(text), after);
        }
        if schema == METADATA_SCHEMA_WITH_SETTINGS {
            let ((text, settings), after) = postcard::take_from_bytes(rest).map_err(|_| Error::Metadata)?;
            (section.metadata.golden_text, section.metadata.settings, rest) = (text, Some(settings), after);
        }
        // Postcard reads integers that were given more bytes than they need; then one adapter would have many files.
        let shortest = section_len(&section, &section.metadata)?;
        if rest.is_empty() && shortest == bytes.len() { Ok(section) } else { Err(Error::Metadata) }
    }
}

/// The section as it stands in a file: its schema, its fields, then what later schemas have.
pub(super) fn write_section(
    section: &impl Serialize,
    later: &Metadata<'_>,
    out: &mut [u8],
) -> Result<(), Error> {
    let written = match (later.golden_text, later.settings) {
        (None, None) => postcard::to_slice(&(METADATA_SCHEMA, section), out),
        (Some(text), None) => postcard::to_slice(&(METADATA_SCHEMA_WITH_TEXT, section, text), out),
        (text, Some(settings)) => {
            postcard::to_slice(&(METADATA_SCHEMA_WITH_SETTINGS, section, text, settings), out)
        }
    };
    written.map(|_| ()).map_err(|_| Error::Metadata)
}

/// The bytes that [`write_section`] needs.
pub(super) fn section_len(section: &impl Serialize, later: &Metadata<'_>) -> Result<usize, Error> {
    let size = Size::default();
    let length = match (later.golden_text, later.settings) {
        (None, None) => postcard::serialize_with_flavor(&(METADATA_SCHEMA, section), size),
        (Some(text), None) => {
            postcard::serialize_with_flavor(&(METADATA_SCHEMA_WITH_TEXT, section, text), size)
        }
        (text, Some(settings)) => {
            postcard::serialize_with_flavor(&(METADATA_SCHEMA_WITH_SETTINGS, section, text, settings), size)
        }
    };
    length.map_err(|_| Error::Metadata)
}

/// Serialises floats as one byte string of little-endian binary32.
pub(super) struct FloatBytes<'a>(pub(super) &'a [f32]);

impl Serialize for FloatBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = serializer.serialize_seq(Some(size_of_val(self.0)))?;
        for byte in self.0.iter().flat_map(|value| value.to_le_bytes()) {
            bytes.serialize_element(&byte)?;
        }
        bytes.end()
    }
}
