//! Vectors as JSON Lines: one a line, bare or in an object with other fields, which pass through untouched.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::json::{self, Place};
use crate::vectors::components::ComponentsVisitor;

/// The field of an object that holds its vector.
pub const FIELD: &str = "embedding";

/// The longest line that is read, in bytes. A vector of the greatest dimension takes less than a fiftieth of it; the
/// rest is for other fields.
const LONGEST_LINE: usize = 16 << 20;

const FORM: &str = "a list of numbers or an object with \"embedding\"";

/// Reads lines that hold a vector each, with no more than one line beside those that the caller keeps.
#[derive(Debug)]
pub struct Reader<R> {
    file: PathBuf,
    input: BufReader<R>,
    line: Vec<u8>,
    number: usize,
}

/// Lines that are not blank, one after the other in one buffer, not parsed yet.
#[derive(Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    /// The number of each line and where it ends in the text.
    ends: Vec<(usize, usize)>,
}

impl Lines {
    /// Forgets all lines.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// The number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all lines.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Parses a line; `components` gets its vector in place of what it held. `file` is where it came from, for errors.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] with the number of a line that is not JSON or holds anything but one vector of finite numbers.
    ///
    /// # Panics
    ///
    /// When there is no such line.
    pub fn parse(&self, file: &Path, line: usize, components: &mut Vec<f32>) -> Result<Row, Failure> {
        let start = line.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (number, end) = self.ends[line];
        components.clear();
        let fields = parse(number, &self.text[start..end], components)
            .map_err(|problem| Failure::input(file, problem))?;
        Ok(Row { number, fields })
    }
}

/// A line without its vector.
#[derive(Debug)]
pub struct Row {
    /// The number of the line, from 1.
    pub number: usize,
    /// The object's fields in their order; none for a bare vector.
    fields: Option<Vec<(String, Value)>>,
}

/// The value of a field.
#[derive(Debug)]
enum Value {
    Vector,
    Other(Box<RawValue>),
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which errors call `file`.
    pub fn new(file: PathBuf, input: R) -> Self {
        Self { file, input: BufReader::new(input), line: Vec::new(), number: 0 }
    }

    /// Reads the next line that is not blank and adds it to `lines`; false at the end of the input.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] with the number of a line that is longer than 16 MiB, or when the input cannot be read.
    pub fn read_line(&mut self, lines: &mut Lines) -> Result<bool, Failure> {
        while self.next_line()? {
            let mut text = self.line.as_slice();
            if self.number == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                lines.text.extend_from_slice(text);
                lines.ends.push((self.number, lines.text.len()));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The file that errors name.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the next line may not be there yet: whoever waits for an answer to the last one should get it first.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.input.buffer().is_empty()
    }

    /// Reads the next line into `self.line`; false at the end of the input.
    fn next_line(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        let limit = LONGEST_LINE as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.line);
        self.number += 1;
        let read = read.map_err(|error| {
            Failure::input(&self.file, format!("line {}: cannot be read: {error}", self.number))
        })?;
        if read > LONGEST_LINE {
            let problem = format!(
                "line {}: found more than {LONGEST_LINE} bytes, expected {FORM}; write one vector on each line",
                self.number
            );
            return Err(Failure::input(&self.file, problem));
        }
        Ok(read > 0)
    }
}

/// Reads one line; returns the fields of an object.
fn parse(
    number: usize,
    text: &[u8],
    components: &mut Vec<f32>,
) -> Result<Option<Vec<(String, Value)>>, String> {
    let place = Place::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let fields = deserializer
        .deserialize_any(RowVisitor { place: &place, components })
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|error| match error.is_eof() {
            true => {
                format!("line {number}: it ends in the middle of a value, expected {FORM} on one line")
            }
            false => json::problem(number, text, &place, &error),
        })?;
    if components.is_empty() {
        return Err(format!("line {number}: the vector is empty, expected numbers; embed this text again"));
    }
    Ok(fields)
}

struct RowVisitor<'a> {
    place: &'a Place,
    components: &'a mut Vec<f32>,
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Option<Vec<(String, Value)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        ComponentsVisitor { place: self.place, components: self.components }.visit_seq(list)?;
        self.place.leave_item();
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            let value = if key != FIELD {
                Value::Other(map.next_value()?)
            } else if found {
                return Err(de::Error::custom(format!("the field {FIELD:?} stands here twice; keep one")));
            } else {
                found = true;
                self.place.enter_section(FIELD);
                map.next_value_seed(ComponentsVisitor { place: self.place, components: self.components })?;
                self.place.enter_section("");
                Value::Vector
            };
            fields.push((key, value));
        }
        if !found {
            return Err(de::Error::custom(format!("found an object without {FIELD:?}, expected {FORM}")));
        }
        Ok(Some(fields))
    }
}

/// Writes the line of `row` with another vector, whose components get the fewest digits that name them exactly;
/// without a row, the bare vector. Components must be finite.
///
/// # Errors
///
/// Those of `out`.
pub fn write_row(out: &mut dyn Write, row: Option<&Row>, components: &[f32]) -> io::Result<()> {
    match row.and_then(|row| row.fields.as_ref()) {
        None => serde_json::to_writer(&mut *out, components)?,
        Some(fields) => {
            let mut serializer = serde_json::Serializer::new(&mut *out);
            let mut map = serializer.serialize_map(None)?;
            for (key, value) in fields {
                match value {
                    Value::Vector => map.serialize_entry(key, components)?,
                    Value::Other(value) => map.serialize_entry(key, value)?,
                }
            }
            map.end()?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines with every vector doubled.
    fn doubled(text: &[u8]) -> Result<String, Failure> {
        let mut reader = Reader::new(PathBuf::from("q.jsonl"), text);
        let (mut components, mut out) = (Vec::new(), Vec::new());
        let mut lines = Lines::default();
        while reader.read_line(&mut lines)? {
            let row = lines.parse(reader.file(), lines.len() - 1, &mut components)?;
            components.iter_mut().for_each(|component| *component *= 2.0);
            write_row(&mut out, Some(&row), &components).expect("written");
        }
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    fn refusal(text: &[u8]) -> String {
        crate::failure::refusal(doubled(text))
    }

    #[test]
    fn other_fields_pass_through_as_they_stand_and_in_order() {
        let line = "{\"z\":[1, {\"embedding\" : 2}],\"embedding\":[0.5,-1.0],\"id\":\"q\\u00e91\",\
                    \"big\":123456789012345678901234567890,\"x\":1.50,\"a\":null}";
        let expected = line.replace("[0.5,-1.0]", "[1.0,-2.0]") + "\n";
        assert_eq!(doubled(line.as_bytes()).expect("read"), expected);
    }

    #[test]
    fn blank_lines_byte_order_marks_and_carriage_returns_are_skipped() {
        let text = b"\xef\xbb\xbf[1]\r\n\r\n  \t\n{\"embedding\": [2]}\r\n\n[3]";
        assert_eq!(doubled(text).expect("read"), "[2.0]\n{\"embedding\":[4.0]}\n[6.0]\n");
        for blank in [&b""[..], b"\n", b" \r\n\n", b"\xef\xbb\xbf"] {
            assert_eq!(doubled(blank).expect("read"), "");
        }
    }

    #[test]
    fn components_are_written_with_the_fewest_digits() {
        let text = b"[0.05, 1e-45, -0.0, 8388608.5, 1.5e38, 0.1]";
        assert_eq!(doubled(text).expect("read"), "[0.1,3e-45,-0.0,16777216.0,3e+38,0.2]\n");
    }

    #[test]
    fn lines_that_hold_no_vector_are_refused_by_number_and_place() {
        for (line, expected) in [
            ("[1, NaN]", "line 3 column 5: component 1: found NaN, expected a finite number"),
            ("{\"embedding\": [1, Infinity]}", "embedding component 1: found Infinity, expected a finite"),
            ("[1, 1e39]", "component 1: 1e39 does not fit in a 32-bit float"),
            ("[1, null]", "component 1: found null, expected a finite number"),
            ("[1, \"2\"]", "component 1: found string \"2\", expected a finite number"),
            ("[[1, 2]]", "component 0: found sequence, expected a finite number"),
            ("[]", "line 3: the vector is empty"),
            ("{\"embedding\": []}", "line 3: the vector is empty"),
            ("{\"embedding\": null}", "embedding: found null, expected a list of numbers"),
            ("{}", "found an object without \"embedding\""),
            ("{\"vector\": [1]}", "found an object without \"embedding\""),
            ("{\"embedding\": [1], \"embedding\": [2]}", "the field \"embedding\" stands here twice"),
            ("7", "found integer `7`, expected a list of numbers or an object with \"embedding\""),
            ("\"x\"", "found string \"x\", expected a list of numbers"),
            ("[1] [2]", "line 3 column 5: trailing characters"),
            ("[1, 2", "line 3: it ends in the middle of a value"),
            ("{\"embedding\": [1]", "line 3: it ends in the middle of a value"),
            ("\u{1}", "line 3 column 1: found \"\\u{1}\", expected value"),
        ] {
            let message = refusal(format!("[1, 2]\n\n{line}\n[3, 4]\n").as_bytes());
            assert!(message.starts_with("q.jsonl: line 3"), "{message}");
            assert!(message.contains(expected), "expected {expected:?}: {message}");
        }
        let message = refusal(b"[1]\n{\"id\": \"\xff\", \"embedding\": [1]}\n");
        assert!(message.contains("line 2 column"), "{message}");
    }

    #[test]
    fn an_endless_line_is_refused_without_being_held() {
        let mut reader = Reader::new(PathBuf::from("stdin"), io::repeat(b' '));
        let message = reader.read_line(&mut Lines::default()).expect_err("must be refused").to_string();
        assert!(message.starts_with("stdin: line 1: found more than 16777216 bytes"), "{message}");
        assert!(reader.line.capacity() <= 4 * LONGEST_LINE);
    }

    #[test]
    fn a_reader_says_when_the_next_line_may_not_be_there_yet() {
        let mut reader = Reader::new(PathBuf::from("stdin"), &b"[1]\n[2]\n"[..]);
        let mut lines = Lines::default();
        assert!(reader.read_line(&mut lines).expect("read"));
        assert!(!reader.must_wait());
        assert!(reader.read_line(&mut lines).expect("read"));
        assert!(reader.must_wait());
    }

    proptest! {
        #[test]
        fn every_finite_vector_survives_being_written_and_read(bits in prop::collection::vec(any::<u32>(), 1..20)) {
            let vector: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|x| x.is_finite()).collect();
            prop_assume!(!vector.is_empty());
            let mut line = Vec::new();
            write_row(&mut line, None, &vector).expect("written");
            let (mut read, mut lines) = (Vec::new(), Lines::default());
            Reader::new(PathBuf::from("stdin"), line.as_slice()).read_line(&mut lines).expect("read");
            lines.parse(Path::new("stdin"), 0, &mut read).expect("parsed");
            let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&read), bits(&vector));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(failure) = doubled(&bytes) {
                prop_assert!(!failure.to_string().contains('\n'), "{}", failure);
            }
        }

        #[test]
        fn no_damage_to_a_good_line_makes_the_reader_panic(position in 0_usize..60, byte in any::<u8>()) {
            let mut bytes = b"{\"id\": \"q1\", \"embedding\": [0.5, -1e3, 7], \"n\": {\"a\": [1]}}\n".to_vec();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Err(failure) = doubled(&bytes) {
                prop_assert!(!failure.to_string().contains('\n'), "{}", failure);
            }
        }
    }
}
