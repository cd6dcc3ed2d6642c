//! The parts of a data set as JSON objects whose keys are ids: texts, labels, vectors.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Labels;
use crate::failure::Failure;
use crate::graded::Judgement;
use crate::ids::{IdText, Ids, Rejected};
use crate::json::{self, Place, quoted};
use crate::texts::{KeepTexts, Texts};
use crate::vectors::components::ComponentsVisitor;

/// The greatest grade of relevance: sums of gains must stay finite.
pub(crate) const GREATEST_GRADE: f64 = 1e9;

/// A section being read: an object whose keys are ids.
pub(super) trait Entries {
    /// The form of the section, as errors say it.
    const FORM: &'static str;

    /// The ids so far.
    fn ids(&mut self) -> &mut Ids;

    /// Reads the value of the entry whose id was just added.
    fn read_value<'de, A: MapAccess<'de>>(
        &mut self,
        id: &str,
        map: &mut A,
        place: &Place,
    ) -> Result<(), A::Error>;
}

/// Reads one object whose keys are ids.
pub(super) fn read_object<E: Entries>(file: &Path, bytes: &[u8], entries: E) -> Result<E, Failure> {
    let place = Place::default();
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let entries = EntriesSeed { entries, place: &place }.deserialize(&mut parser);
    entries
        .and_then(|entries| parser.end().map(|()| entries))
        .map_err(|error| json::failure(file, bytes, &place, &error))
}

pub(super) struct EntriesSeed<'a, E> {
    pub(super) entries: E,
    pub(super) place: &'a Place,
}

impl<'de, E: Entries> DeserializeSeed<'de> for EntriesSeed<'_, E> {
    type Value = E;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<E, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, E: Entries> Visitor<'de> for EntriesSeed<'_, E> {
    type Value = E;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(E::FORM)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<E, A::Error> {
        let Self { mut entries, place } = self;
        while let Some(id) = map.next_key::<String>()? {
            place.enter_entry(&id);
            // A JSON object may repeat a key; which value would be meant is anyone's guess.
            entries.ids().push(&id).map_err(|rejected| {
                de::Error::custom(format!(
                    "this id stands in the section twice ({rejected}); keep one of the two"
                ))
            })?;
            entries.read_value(&id, &mut map, place)?;
            place.leave_item();
        }
        Ok(entries)
    }
}

/// A section that may be `null`, which some writers put for an absent one.
pub(super) struct OptionalSeed<'a, E>(pub(super) EntriesSeed<'a, E>);

impl<'de, E: Entries> DeserializeSeed<'de> for OptionalSeed<'_, E> {
    type Value = Option<E>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<E>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, E: Entries> Visitor<'de> for OptionalSeed<'_, E> {
    type Value = Option<E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(E::FORM)
    }

    fn visit_none<Error: de::Error>(self) -> Result<Option<E>, Error> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<E>, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// `{id: text}`.
pub(super) struct TextEntries<'a> {
    pub(super) texts: Texts,
    pub(super) keep: KeepTexts<'a>,
}

impl TextEntries<'_> {
    /// Adds the text of the id that was added last.
    pub(super) fn push(&mut self, text: &str) {
        self.texts.push_text(text, self.keep);
    }
}

impl Entries for TextEntries<'_> {
    const FORM: &'static str = "an object {id: text}";

    fn ids(&mut self) -> &mut Ids {
        &mut self.texts.ids
    }

    fn read_value<'de, A: MapAccess<'de>>(
        &mut self,
        _: &str,
        map: &mut A,
        _: &Place,
    ) -> Result<(), A::Error> {
        let text = map.next_value::<String>()?;
        self.push(&text);
        Ok(())
    }
}

/// `{query id: documents}`.
#[derive(Default)]
pub(super) struct LabelEntries {
    pub(super) labels: Labels,
}

impl Entries for LabelEntries {
    const FORM: &'static str = "an object {query id: [document ids]}";

    fn ids(&mut self) -> &mut Ids {
        &mut self.labels.queries
    }

    fn read_value<'de, A: MapAccess<'de>>(
        &mut self,
        _: &str,
        map: &mut A,
        place: &Place,
    ) -> Result<(), A::Error> {
        map.next_value_seed(LabelsVisitor { place, labels: &mut self.labels })?;
        self.labels.lists.close();
        Ok(())
    }
}

/// The documents of one query: `[id, …]`, a single id, or `{id: grade, …}`.
struct LabelsVisitor<'a> {
    place: &'a Place,
    labels: &'a mut Labels,
}

impl LabelsVisitor<'_> {
    fn push<E: de::Error>(&mut self, document: &str, grade: f64) -> Result<(), E> {
        let document = self.intern(document)?;
        self.labels.lists.push(Judgement { document, grade });
        Ok(())
    }

    fn intern<E: de::Error>(&mut self, document: &str) -> Result<u32, E> {
        self.labels.documents.intern(document).map_err(|rejected: Rejected| E::custom(rejected))
    }
}

impl<'de> DeserializeSeed<'de> for LabelsVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LabelsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of document ids (strings or integers), one id, or an object {document id: grade}")
    }

    fn visit_str<E: de::Error>(mut self, document: &str) -> Result<(), E> {
        self.push(document, 1.0)
    }

    fn visit_u64<E: de::Error>(mut self, document: u64) -> Result<(), E> {
        self.push(&document.to_string(), 1.0)
    }

    fn visit_i64<E: de::Error>(mut self, document: i64) -> Result<(), E> {
        self.push(&document.to_string(), 1.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for item in 0.. {
            self.place.enter_item("item", item);
            match list.next_element()? {
                Some(IdText(document)) => self.push(&document, 1.0)?,
                None => break,
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut graded = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let document = self.intern(&name)?;
            if !graded.insert(document) {
                let document = quoted(&name);
                return Err(de::Error::custom(format!(
                    "the document {document} is graded twice; keep one grade"
                )));
            }
            let grade = map.next_value_seed(Grade { document: &name })?;
            self.labels.lists.push(Judgement { document, grade });
        }
        Ok(())
    }
}

/// A grade of relevance: a finite number.
pub(crate) struct Grade<'a> {
    /// The document, for errors.
    pub(crate) document: &'a str,
}

impl Grade<'_> {
    /// Whether a number may be a grade.
    pub(crate) fn is_valid(grade: f64) -> bool {
        grade.abs() <= GREATEST_GRADE
    }
}

impl<'de> DeserializeSeed<'de> for Grade<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

impl Visitor<'_> for Grade<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number as the grade of {}", quoted(self.document))
    }

    fn visit_f64<E: de::Error>(self, grade: f64) -> Result<f64, E> {
        if Self::is_valid(grade) {
            return Ok(grade);
        }
        let document = quoted(self.document);
        Err(E::custom(format!("found {grade} as the grade of {document}, expected at most {GREATEST_GRADE}")))
    }

    fn visit_u64<E: de::Error>(self, grade: u64) -> Result<f64, E> {
        self.visit_f64(grade as f64)
    }

    fn visit_i64<E: de::Error>(self, grade: i64) -> Result<f64, E> {
        self.visit_f64(grade as f64)
    }
}

/// `{id: [components]}`, all of one length.
#[derive(Default)]
pub(super) struct VectorEntries {
    pub(super) ids: Ids,
    pub(super) dim: usize,
    pub(super) components: Vec<f32>,
}

impl Entries for VectorEntries {
    const FORM: &'static str = "an object {id: [numbers]}";

    fn ids(&mut self) -> &mut Ids {
        &mut self.ids
    }

    fn read_value<'de, A: MapAccess<'de>>(
        &mut self,
        _: &str,
        map: &mut A,
        place: &Place,
    ) -> Result<(), A::Error> {
        let before = self.components.len();
        map.next_value_seed(ComponentsVisitor { place, components: &mut self.components })?;
        place.leave_item();
        let found = self.components.len() - before;
        if found == 0 {
            return Err(de::Error::custom("the vector is empty, expected numbers; embed this text again"));
        }
        if self.ids.len() == 1 {
            self.dim = found;
        } else if found != self.dim {
            let (dim, first) = (self.dim, quoted(&self.ids[0]));
            return Err(de::Error::custom(format!(
                "the vector has {found} components, expected {dim} as {first} has; embed all texts with one model"
            )));
        }
        Ok(())
    }
}
