//! Vectors as JSON: rows with an id each, an object of vectors by id, and what embedding services answer.
//!
//! | written by | form |
//! |---|---|
//! | JSON Lines, or a list | `{"id": …, "embedding": […]}`, with `vector` in place of `embedding` too |
//! | an object | `{id: […], …}` |
//! | OpenAI and all who answer as it does | `{"data": [{"index": 0, "embedding": […] or base64}, …]}` |
//! | its batches | `{"custom_id": …, "response": {"body": {"data": […]}}}`, a line each |
//! | llama.cpp | `[{"index": 0, "embedding": [[…]]}, …]`, `{"embedding": […]}` |
//! | Ollama | `{"embeddings": [[…], …]}`, `{"embedding": […]}` |
//! | text-embeddings-inference | `[[…], …]` |
//! | Cohere | `{"embeddings": {"float": [[…], …]}}` |
//! | Gemini, Vertex AI | `{"embedding": {"values": […]}}`, `{"embeddings": [{"values": […]}]}`, `{"predictions": [{"embeddings": …}]}` |
//!
//! Several of these may follow one another in a file.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Matrix;
use super::components::{Component, ComponentsVisitor};
use super::found::Found;
use crate::failure::Failure;
use crate::ids::{IdText, Ids};
use crate::json::{self, Place, quoted};

const FORMS: &str = "expected JSON Lines {\"id\": …, \"embedding\": [numbers]}, an object {id: [numbers]}, or the answer of \
                     an embedding service (OpenAI, llama.cpp, Ollama, text-embeddings-inference, Cohere, Gemini)";

/// Reads the contents of a file.
pub(super) fn read(file: &Path, bytes: &[u8]) -> Result<Found, Failure> {
    let found = read_rows(file, bytes, true)?;
    if found.matrix.rows() == 0 {
        return Err(Failure::input(file, format!("there are no vectors in it; {FORMS}")));
    }
    Ok(found)
}

/// Reads what a service has just answered, in the order of its texts: ids in there name the answer's parts, not the texts.
///
/// # Errors
///
/// What is wrong with it.
#[cfg(feature = "endpoint")]
pub(super) fn read_answer(bytes: &[u8]) -> Result<Matrix, String> {
    match read_rows(Path::new(""), bytes, false) {
        Ok(found) => Ok(found.matrix),
        Err(Failure::Input { problem, .. }) => Err(problem),
        Err(failure) => Err(failure.to_string()),
    }
}

fn read_rows(file: &Path, bytes: &[u8], with_ids: bool) -> Result<Found, Failure> {
    let bytes = json::text_of(file, bytes)?;
    let place = Place::default();
    let mut rows = Rows::new(&place, with_ids);
    json::each_value(file, bytes, &place, &mut |parser| {
        place.enter_section("");
        ValueSeed(&mut rows).deserialize(parser)
    })?;
    let Rows { ids, dim, count, components, .. } = rows;
    let ids = (!ids.is_empty()).then_some(ids);
    Ok(Found { matrix: Matrix::owned(count, dim, components), ids })
}

/// The vectors so far.
struct Rows<'a> {
    place: &'a Place,
    /// Whether ids are those of the rows.
    with_ids: bool,
    /// Of each row, or of none.
    ids: Ids,
    dim: usize,
    count: usize,
    components: Vec<f32>,
    /// Lists of lists and objects around the place that is being read.
    depth: usize,
}

/// More lists than any service puts around a vector.
const GREATEST_DEPTH: usize = 8;

impl<'a> Rows<'a> {
    fn new(place: &'a Place, with_ids: bool) -> Self {
        Self { place, with_ids, ids: Ids::default(), dim: 0, count: 0, components: Vec::new(), depth: 0 }
    }

    /// Ends a row whose components were appended.
    fn close<E: de::Error>(&mut self) -> Result<(), E> {
        let found = self.components.len() - self.count * self.dim;
        self.place.leave_item();
        if found == 0 {
            return Err(E::custom("the vector is empty, expected numbers; embed this text again"));
        }
        if self.count == 0 {
            self.dim = found;
        } else if found != self.dim {
            let first = self.ids.get(0).map_or_else(|| "the first".to_owned(), quoted);
            return Err(E::custom(format!(
                "the vector has {found} components, expected {} as {first} has; embed all texts with one model",
                self.dim
            )));
        }
        self.count += 1;
        Ok(())
    }

    /// Gives the row that was added last its id.
    fn name<E: de::Error>(&mut self, id: &str) -> Result<(), E> {
        if !self.with_ids {
            return Ok(());
        }
        if self.ids.len() + 1 != self.count {
            let before = self.count - 1;
            return Err(E::custom(format!(
                "this row has an id, the {before} before it have none; give each row one"
            )));
        }
        self.ids.push(id).map(drop).map_err(|rejected| {
            E::custom(format!("{}: this id stands here twice ({rejected}); keep one of the two", quoted(id)))
        })
    }

    /// Refuses rows without an id among others that have one.
    fn require_ids<E: de::Error>(&self) -> Result<(), E> {
        match self.ids.is_empty() || self.ids.len() == self.count {
            true => Ok(()),
            false => Err(E::custom("this row has no id, those before it have one; give each row one")),
        }
    }

    /// Puts the rows from `start` on into the order of their `indices`.
    fn order<E: de::Error>(&mut self, start: usize, indices: &[Option<usize>]) -> Result<(), E> {
        if indices.iter().all(Option::is_none) || !self.ids.is_empty() {
            return Ok(());
        }
        let count = indices.len();
        let mut row_of = vec![None; count];
        for (row, index) in indices.iter().enumerate() {
            let index = index.unwrap_or(row);
            match row_of.get_mut(index) {
                Some(place @ None) => *place = Some(row),
                Some(Some(_)) => {
                    return Err(E::custom(format!("two vectors have the index {index}; keep one")));
                }
                None => return Err(E::custom(format!("found the index {index} among {count} vectors"))),
            }
        }
        let unordered = self.components.split_off(start * self.dim);
        for row in row_of.into_iter().flatten() {
            self.components.extend_from_slice(&unordered[row * self.dim..][..self.dim]);
        }
        Ok(())
    }
}

/// A whole value of the file: an object, or a list.
struct ValueSeed<'a, 'b>(&'a mut Rows<'b>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS.trim_start_matches("expected "))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        ObjectVisitor { rows: &mut *self.0, outermost: true }.visit_map(map)?;
        self.0.require_ids()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        ListVisitor { rows: &mut *self.0, name: "" }.visit_seq(list)?;
        self.0.require_ids()
    }
}

/// An object with a vector, or with a list of vectors.
struct ObjectVisitor<'a, 'b> {
    rows: &'a mut Rows<'b>,
    /// Whether it may be an object of vectors by id.
    outermost: bool,
}

/// What an object says of its vectors.
#[derive(Default)]
struct Said<'de> {
    id: Option<String>,
    /// Whether the id is that of one vector in it, not that of an answer.
    id_of_vector: bool,
    index: Option<usize>,
    known: bool,
    /// Lists under keys that are not known: vectors by id, if nothing else is.
    lists: Vec<(String, &'de RawValue)>,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"embedding\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<usize>, A::Error> {
        let Self { rows, outermost } = self;
        let start = rows.count;
        let mut said = Said::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" | "_id" | "custom_id" => {
                    let IdText(id) = map.next_value()?;
                    rows.place.enter_entry(&id);
                    said.id = Some(id);
                    said.id_of_vector |= key == "custom_id";
                    continue;
                }
                "index" => {
                    said.index = map.next_value::<Index>()?.0;
                    continue;
                }
                "embedding" | "vector" | "values" => {
                    said.id_of_vector = true;
                    map.next_value_seed(VectorVisitor { rows: &mut *rows })?;
                }
                "data" => map.next_value_seed(ListVisitor { rows: &mut *rows, name: "data" })?,
                "embeddings" => map.next_value_seed(ListVisitor { rows: &mut *rows, name: "embeddings" })?,
                "predictions" => {
                    map.next_value_seed(ListVisitor { rows: &mut *rows, name: "predictions" })?
                }
                "response" | "body" => map.next_value_seed(InnerObject { rows: &mut *rows })?,
                _ => {
                    let raw: &RawValue = map.next_value()?;
                    if outermost && raw.get().starts_with('[') {
                        said.lists.push((key, raw));
                    }
                    continue;
                }
            }
            said.known = true;
        }
        let Said { id, id_of_vector, index, known, lists } = said;
        if !known && !lists.is_empty() && id.is_none() {
            for (id, raw) in lists {
                rows.place.enter_entry(&id);
                inside(raw, |parser| VectorVisitor { rows: &mut *rows }.deserialize(parser))
                    .map_err(de::Error::custom)?;
                rows.name(&id)?;
            }
            return Ok(index);
        }
        match (rows.count - start, id) {
            (0, _) if !known => {
                Err(de::Error::custom(format!("found an object without \"embedding\", {FORMS}")))
            }
            (1, Some(id)) if id_of_vector => rows.name(&id).map(|()| index),
            _ => Ok(index),
        }
    }
}

/// An object inside another, as `{"response": {"body": …}}`.
struct InnerObject<'a, 'b> {
    rows: &'a mut Rows<'b>,
}

impl<'de> DeserializeSeed<'de> for InnerObject<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let object = ObjectVisitor { rows: self.rows, outermost: false };
        deserializer.deserialize_map(object).map(drop)
    }
}

/// A list of vectors, bare or in objects; or one vector.
struct ListVisitor<'a, 'b> {
    rows: &'a mut Rows<'b>,
    /// What it is called, for errors.
    name: &'static str,
}

impl<'de> DeserializeSeed<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of vectors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { rows, name } = self;
        // Elements are parsed on their own, so the parser's limit of recursion does not see this.
        rows.depth += 1;
        if rows.depth > GREATEST_DEPTH {
            return Err(de::Error::custom(format!("found lists in lists {GREATEST_DEPTH} deep, {FORMS}")));
        }
        let start = rows.count;
        let mut indices = Vec::new();
        for at in 0.. {
            rows.place.enter_element(name, at);
            let Some(raw) = list.next_element::<&RawValue>()? else { break };
            let parsed = match raw.get().as_bytes().first() {
                Some(b'{') => inside(raw, |parser| {
                    parser.deserialize_map(ObjectVisitor { rows: &mut *rows, outermost: false })
                }),
                Some(b'[' | b'"' | b'n') => inside(raw, |parser| {
                    VectorVisitor { rows: &mut *rows }.deserialize(parser).map(|()| None)
                }),
                // Numbers: the list is one vector.
                _ if at == 0 => {
                    rows.place.enter_section(name);
                    rows.depth -= 1;
                    return rest_of_vector(rows, raw, list);
                }
                _ => Err("found a number among vectors".to_owned()),
            };
            indices.push(parsed.map_err(de::Error::custom)?);
        }
        rows.place.enter_section("");
        rows.depth -= 1;
        match rows.count - start == indices.len() {
            true => rows.order(start, &indices),
            false => Ok(()),
        }
    }

    /// Vectors by their type of number, or an object with one vector.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { rows, name } = self;
        let start = rows.count;
        let mut keys = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "float" => map.next_value_seed(ListVisitor { rows: &mut *rows, name: "float" })?,
                "base64" if rows.count == start => {
                    map.next_value_seed(ListVisitor { rows: &mut *rows, name: "base64" })?;
                }
                "values" => map.next_value_seed(VectorVisitor { rows: &mut *rows })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            keys.push(quoted(&key));
        }
        rows.place.enter_section(name);
        match rows.count > start {
            true => Ok(()),
            false => {
                let keys = keys.join(", ");
                Err(de::Error::custom(format!("found vectors as {keys}, expected \"float\" or \"values\"")))
            }
        }
    }
}

/// One vector: numbers, base64 of little-endian `f32`, `{"values": numbers}`, or a list of one list of numbers.
struct VectorVisitor<'a, 'b> {
    rows: &'a mut Rows<'b>,
}

impl<'de> DeserializeSeed<'de> for VectorVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for VectorVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { rows } = self;
        rows.place.enter_item("component", 0);
        let Some(first) = list.next_element::<&RawValue>()? else { return rows.close() };
        if !first.get().starts_with('[') {
            return rest_of_vector(rows, first, list);
        }
        let place = rows.place;
        place.leave_item();
        inside(first, |parser| {
            parser.deserialize_seq(ComponentsVisitor { place, components: &mut rows.components })
        })
        .map_err(de::Error::custom)?;
        let mut others = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            others += 1;
        }
        if others > 0 {
            let found = others + 1;
            place.leave_item();
            return Err(de::Error::custom(format!(
                "found {found} vectors for one text, as a server without pooling answers; ask it for one vector a text"
            )));
        }
        rows.close()
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let bytes = STANDARD.decode(text).map_err(|error| {
            E::custom(format!("found a string that is no base64 ({error}), expected numbers"))
        })?;
        let (chunks, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            let found = bytes.len();
            return Err(E::custom(format!(
                "found {found} bytes of base64, expected four for each component"
            )));
        }
        for (component, &bytes) in chunks.iter().enumerate() {
            let value = f32::from_le_bytes(bytes);
            if !value.is_finite() {
                self.rows.place.enter_item("component", component);
                return Err(E::custom(format!(
                    "found {value}, expected a finite number; embed this text again"
                )));
            }
            self.rows.components.push(value);
        }
        self.rows.close()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.rows.count;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "values" | "float" => map.next_value_seed(VectorVisitor { rows: &mut *self.rows })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match self.rows.count - start {
            1 => Ok(()),
            _ => Err(de::Error::custom(
                "found an object, expected a list of numbers or {\"values\": [numbers]}",
            )),
        }
    }
}

/// The components of a vector whose first one is there already.
fn rest_of_vector<'de, A: SeqAccess<'de>>(
    rows: &mut Rows<'_>,
    first: &RawValue,
    list: A,
) -> Result<(), A::Error> {
    rows.place.enter_item("component", 0);
    let first = inside(first, |parser| Component.deserialize(parser)).map_err(de::Error::custom)?;
    rows.components.push(first);
    ComponentsVisitor { place: rows.place, components: &mut rows.components }.visit_rest(1, list)?;
    rows.close()
}

/// Parses a value that was taken whole; an error is in words, without a place: whoever took the value knows it.
fn inside<'de, T>(
    raw: &'de RawValue,
    parse: impl FnOnce(&mut json::Parser<'de>) -> Result<T, serde_json::Error>,
) -> Result<T, String> {
    let bytes = raw.get().as_bytes();
    parse(&mut serde_json::Deserializer::from_slice(bytes)).map_err(|error| json::words(bytes, &error))
}

/// A place in a list; anything but a number says nothing.
struct Index(Option<usize>);

impl<'de> de::Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value.as_u64().and_then(|index| usize::try_from(index).ok())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: [f32; 4] = [0.5, -0.25, 0.125, 1.0];
    const B: [f32; 4] = [-1.0, 0.75, 0.0625, -0.0];
    const A_BASE64: &str = "\"AAAAPwAAgL4AAAA+AACAPw==\"";
    const B_BASE64: &str = "\"AACAvwAAQD8AAIA9AAAAgA==\"";

    fn parse(text: &str) -> Result<Found, Failure> {
        read(Path::new("v.json"), text.as_bytes())
    }

    /// The bits of the rows, and their ids.
    fn rows(text: &str) -> (Vec<Vec<u32>>, Option<Vec<String>>) {
        let Found { matrix, ids } = parse(text).unwrap_or_else(|failure| panic!("{text}: {failure}"));
        let bits = |row: usize| matrix.row(row).iter().map(|value| value.to_bits()).collect();
        ((0..matrix.rows()).map(bits).collect(), ids.map(|ids| ids.iter().map(str::to_owned).collect()))
    }

    fn bits(rows: &[[f32; 4]]) -> Vec<Vec<u32>> {
        rows.iter().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
    }

    fn refusal(text: &str) -> String {
        let message = crate::failure::refusal(parse(text));
        message.strip_prefix("v.json: ").expect("the file is named").to_owned()
    }

    /// A text with `A` and `B` for the numbers of both vectors.
    fn with_numbers(text: &str) -> String {
        // Numbers first: base64 has the letters of their places.
        text.replace("AAA", "[0.5, -0.25, 0.125, 1.0]")
            .replace("BBB", "[-1.0, 0.75, 0.0625, -0.0]")
            .replace("A64", A_BASE64)
            .replace("B64", B_BASE64)
    }

    #[test]
    fn every_answer_of_a_service_gives_the_same_rows() {
        for text in [
            r#"{"object": "list", "data": [{"index": 0, "embedding": AAA}, {"index": 1, "embedding": BBB}], "usage": {"x": [1]}}"#,
            r#"{"data": [{"embedding": AAA}, {"embedding": B64}]}"#,
            r#"{"data": [{"embedding": BBB, "index": 1}, {"embedding": A64, "index": 0}]}"#,
            r#"{"data": [{"embedding": [AAA]}, {"embedding": [BBB]}]}"#,
            r#"[{"index": 0, "embedding": AAA}, {"index": 1, "embedding": BBB}]"#,
            r#"[{"index": 1, "embedding": [BBB]}, {"index": 0, "embedding": [AAA]}]"#,
            r#"{"model": "m", "embeddings": [AAA, BBB], "total_duration": 7}"#,
            "[AAA, BBB]",
            "[[AAA], [BBB]]",
            r#"{"embedding": AAA} {"embedding": BBB}"#,
            "AAA\nBBB\n",
            r#"{"id": "5b2c", "embeddings": {"int8": [[1]], "float": [AAA, BBB]}, "texts": ["a", "b"]}"#,
            r#"{"embeddings": {"base64": [A64, B64]}}"#,
            r#"{"embeddings": [{"values": AAA}, {"values": BBB}]}"#,
            r#"{"embedding": {"values": AAA}} {"embedding": {"values": BBB}}"#,
            r#"{"predictions": [{"embeddings": {"values": AAA, "statistics": {}}}, {"embeddings": {"values": BBB}}]}"#,
        ] {
            let text = with_numbers(text);
            assert_eq!(rows(&text), (bits(&[A, B]), None), "{text}");
            assert_eq!(
                rows(&format!("\u{feff}{}\r\n", text.replace(", ", ",\r\n"))).0,
                bits(&[A, B]),
                "{text}"
            );
        }
    }

    #[test]
    fn rows_and_objects_give_their_ids() {
        for text in [
            "{\"id\": \"q1\", \"embedding\": AAA}\r\n\r\n{\"embedding\": B64, \"kind\": [[2]], \"id\": 7}",
            "{\"_id\": \"q1\", \"vector\": AAA} {\"_id\": \"7\", \"vector\": BBB}",
            "[{\"id\": \"q1\", \"index\": 1, \"embedding\": AAA}, {\"id\": 7, \"index\": 0, \"embedding\": BBB}]",
            "{\"q1\": AAA, \"7\": BBB}",
            "{\"custom_id\": \"q1\", \"response\": {\"body\": {\"data\": [{\"embedding\": AAA, \"index\": 0}]}}}\n\
             {\"custom_id\": \"7\", \"response\": {\"id\": \"x\", \"body\": {\"data\": [{\"embedding\": BBB}]}}}\n",
        ] {
            let text = with_numbers(text);
            let ids = Some(vec!["q1".to_owned(), "7".to_owned()]);
            assert_eq!(rows(&text), (bits(&[A, B]), ids), "{text}");
        }
    }

    #[test]
    fn every_component_is_rounded_once_wherever_it_stands() {
        // Just above halfway between 1 and its successor.
        let digits = "1.00000005960464477539062500000000000001";
        for text in [
            format!("{{\"embedding\": [{digits}]}}"),
            format!("[[{digits}]]"),
            format!("[[[{digits}]]]"),
            format!("{{\"a\": [0, {digits}]}}"),
            format!("[{digits}]"),
        ] {
            let last = rows(&text).0[0].last().copied();
            assert_eq!(last, Some(0x3f80_0001), "{text}");
        }
        assert_eq!(rows("[[1e-45, -0.0, 1e-50]]").0, [[1, 0x8000_0000, 0]]);
    }

    #[test]
    fn what_is_no_vector_is_refused_by_row_and_component() {
        for (text, expected) in [
            (
                "{\"id\": \"q2\", \"embedding\": [1, NaN]}",
                "line 1 column 31: \"q2\" component 1: found NaN, expected a finite",
            ),
            (
                "{\"id\": \"q2\", \"embedding\": [NaN, 1]}",
                "\"q2\" component 0: found NaN, expected a finite number",
            ),
            ("{\"id\": \"q2\", \"embedding\": [1, -Infinity]}", "\"q2\" component 1: found -Infinity"),
            (
                "{\"id\": \"q2\", \"embedding\": [1, 1e39]}",
                "\"q2\" component 1: 1e39 does not fit in a 32-bit float",
            ),
            (
                "{\"id\": \"q2\", \"embedding\": [1e39]}",
                "\"q2\" component 0: 1e39 does not fit in a 32-bit float",
            ),
            (
                "{\"id\": \"q2\", \"embedding\": [1, null]}",
                "\"q2\" component 1: found null, expected a finite number",
            ),
            (
                "{\"id\": \"q2\", \"embedding\": [\"1\"]}",
                "\"q2\" component 0: found string \"1\", expected a finite number",
            ),
            (
                "{\"id\": \"q2\", \"embedding\": [1, [2]]}",
                "\"q2\" component 1: found sequence, expected a finite number",
            ),
            ("{\"id\": \"q2\", \"embedding\": []}", "\"q2\": the vector is empty, expected numbers"),
            ("{\"id\": \"q2\", \"embedding\": [[]]}", "\"q2\": the vector is empty, expected numbers"),
            ("{\"id\": \"q2\", \"embedding\": null}", "\"q2\": found null, expected a list of numbers"),
            ("{\"id\": \"q2\", \"embedding\": 7}", "\"q2\": found integer `7`, expected a list of numbers"),
            (
                "{\"id\": \"q2\", \"embedding\": [[1, 2], [3, 4]]}",
                "\"q2\": found 2 vectors for one text, as a server without pooling",
            ),
            (
                "{\"id\": \"q2\", \"embedding\": {\"x\": 1}}",
                "found an object, expected a list of numbers or {\"values\"",
            ),
            (
                "{\"data\": [{\"embedding\": \"AACA\"}]}",
                "data[0]: found 3 bytes of base64, expected four for each component",
            ),
            ("{\"data\": [{\"embedding\": \"@@@@\"}]}", "data[0]: found a string that is no base64"),
            (
                "{\"data\": [{\"embedding\": \"AADAfw==\"}]}",
                "data[0] component 0: found NaN, expected a finite number",
            ),
            (
                "{\"data\": [{\"embedding\": [1]}, {\"embedding\": null}]}",
                "data[1]: found null, expected a list of numbers",
            ),
            (
                "{\"data\": [{\"embedding\": [1]}, {\"embedding\": [1, 2]}]}",
                "data[1]: the vector has 2 components, expected 1 as the first has",
            ),
            (
                "{\"data\": [{\"index\": 0, \"embedding\": [1]}, {\"index\": 0, \"embedding\": [1]}]}",
                "two vectors have the index 0",
            ),
            ("{\"data\": [{\"index\": 2, \"embedding\": [1]}]}", "found the index 2 among 1 vectors"),
            ("{\"data\": []}", "there are no vectors in it; expected JSON Lines"),
            ("{\"embedding\": null}", "found null, expected a list of numbers"),
            (
                "{\"embeddings\": {\"int8\": [[1]]}}",
                "embeddings: found vectors as \"int8\", expected \"float\" or \"values\"",
            ),
            ("[[null, null], [1, 2]]", "[0] component 0: found null, expected a finite number"),
            ("[[1, 2], [1, null]]", "[1] component 1: found null, expected a finite number"),
            ("[[[1, 2], [3, 4]]]", "[0]: found 2 vectors for one text"),
            ("[[1, 2], [3]]", "[1]: the vector has 1 components, expected 2 as the first has"),
            ("[[1], 2]", "[1]: found a number among vectors"),
            ("[]", "there are no vectors in it"),
            ("{}", "found an object without \"embedding\", expected JSON Lines"),
            ("{\"error\": {\"message\": \"x\"}}", "found an object without \"embedding\""),
            (
                "{\"q1\": [1], \"q2\": [1, 2]}",
                "\"q2\": the vector has 2 components, expected 1 as \"q1\" has",
            ),
            ("{\"q1\": [1], \"q1\": [2]}", "\"q1\": \"q1\": this id stands here twice"),
            (
                "{\"id\": \"a\", \"embedding\": [1]} {\"id\": \"a\", \"embedding\": [2]}",
                "this id stands here twice (it was entry 1 already)",
            ),
            (
                "{\"id\": \"a\", \"embedding\": [1]} {\"embedding\": [2]}",
                "this row has no id, those before it have one",
            ),
            (
                "{\"embedding\": [2]} {\"id\": \"a\", \"embedding\": [1]}",
                "this row has an id, the 1 before it have none",
            ),
            ("{\"id\": 1.5, \"embedding\": [1]}", "found floating point `1.5`, expected an id"),
            ("7", "found integer `7`, expected JSON Lines"),
            ("\"x\"", "found string \"x\", expected JSON Lines"),
            ("", "the file is empty"),
        ] {
            let message = refusal(text);
            let expected = expected.replace("expected JSON Lines", "JSON Lines");
            assert!(
                message.replace("expected JSON Lines", "JSON Lines").contains(&expected),
                "{text}: {expected:?}: {message}"
            );
        }
    }

    #[test]
    fn a_line_that_is_cut_off_is_named_by_its_number() {
        let good = "{\"id\": \"q1\", \"embedding\": [0.5, 1]}\n";
        let message = refusal(&format!("{good}{}{{\"id\": \"q2\", \"embedding\": [0.5, 1\n{good}", ""));
        assert!(message.starts_with("line 2: it ends in the middle of a value"), "{message}");
        let message = refusal(&format!("{good}{{\"id\": \"q2\", \"embedding\": [0.5, 0.\n"));
        assert!(message.starts_with("line 2"), "{message}");
        let spread = "{\"id\": \"q1\",\n\"embedding\":\n[0.5]}\n{\"id\": \"q2\",\n\"embedding\": [1";
        assert!(refusal(spread).contains("the file ends in the middle of a value"));
    }

    #[test]
    fn nesting_however_deep_is_refused() {
        let nested = |open: &str, close: &str| format!("{}[1]{}", open.repeat(20_000), close.repeat(20_000));
        for text in [
            "[".repeat(20_000),
            "{\"a\":".repeat(20_000),
            format!("{{\"embedding\": {}", "[".repeat(20_000)),
            nested("[", "]"),
            nested("{\"data\":[", "]}"),
            nested("{\"body\":", "}"),
            nested("{\"embeddings\":[", "]}"),
        ] {
            refusal(&text);
        }
        let deep = format!("{{\"x\": {}{}, \"embedding\": [1]}}", "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(rows(&deep).0.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(failure) = read(Path::new("v.json"), &bytes) {
                prop_assert!(!failure.to_string().contains('\n'), "{}", failure);
            }
        }

        #[test]
        fn no_damage_to_a_good_file_makes_the_reader_panic(position in 0_usize..200, byte in any::<u8>()) {
            let mut bytes = br#"{"data": [{"index": 1, "embedding": [[0.5, 1e3]]}, {"embedding": "AACAPwAAAMA="}]}
    {"embeddings": {"float": [[1, 2], [3, 4]]}} {"q": [1, 2]} [[1, 2]]"#.to_vec();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(Found { matrix, ids }) = read(Path::new("v.json"), &bytes) {
                prop_assert_eq!(matrix.as_slice().len(), matrix.rows() * matrix.dim());
                prop_assert!(ids.is_none_or(|ids| ids.len() == matrix.rows()));
            }
        }

        #[test]
        fn every_f32_survives_in_every_form(values in prop::collection::vec(any::<u32>(), 1..8)) {
            let vector: Vec<f32> = values.into_iter().map(f32::from_bits).filter(|value| value.is_finite()).collect();
            prop_assume!(!vector.is_empty());
            let numbers = format!("{vector:?}");
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            let expected: Vec<u32> = vector.iter().map(|value| value.to_bits()).collect();
            for text in [
                format!("{{\"embedding\": {numbers}}}"),
                format!("[{numbers}]"),
                format!("{{\"embedding\": \"{}\"}}", STANDARD.encode(bytes)),
            ] {
                prop_assert_eq!(&rows(&text).0[0], &expected);
            }
        }
    }
}
