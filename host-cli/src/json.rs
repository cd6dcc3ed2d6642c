//! What every JSON reader here shares: the place a reader has come to, and errors that name it.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use crate::failure::Failure;

/// The longest piece of a file that an error repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// Where a reader is inside a file, kept up to date as it goes, so that any error can name the section, the
/// id and the component at which it happened: a parser knows only lines and columns.
#[derive(Debug, Default)]
pub(crate) struct Place {
    section: Cell<&'static str>,
    /// A place in the list that the section is.
    element: Cell<Option<usize>>,
    id: RefCell<Option<String>>,
    item: Cell<Option<(&'static str, usize)>>,
}

impl Place {
    /// Enters a section of the file; the empty name is the top level.
    pub(crate) fn enter_section(&self, section: &'static str) {
        self.section.set(section);
        self.element.set(None);
        *self.id.borrow_mut() = None;
        self.item.set(None);
    }

    /// Enters an element of a list, counted from 0.
    pub(crate) fn enter_element(&self, list: &'static str, index: usize) {
        self.enter_section(list);
        self.element.set(Some(index));
    }

    /// Enters the entry of an id.
    pub(crate) fn enter_entry(&self, id: &str) {
        *self.id.borrow_mut() = Some(id.to_owned());
        self.item.set(None);
    }

    /// Enters an item of an entry, such as a component of a vector, counted from 0.
    pub(crate) fn enter_item(&self, kind: &'static str, index: usize) {
        self.item.set(Some((kind, index)));
    }

    /// Returns to the entry as a whole.
    pub(crate) fn leave_item(&self) {
        self.item.set(None);
    }

    fn describe(&self) -> String {
        let mut text = self.section.get().to_owned();
        if let Some(index) = self.element.get() {
            text += &format!("[{index}]");
        }
        if let Some(id) = self.id.borrow().as_deref() {
            text += &format!(" {}", quoted(id));
        }
        if let Some((kind, index)) = self.item.get() {
            text += &format!(" {kind} {index}");
        }
        text.trim_start().to_owned()
    }
}

/// A piece of the input as an error shows it: quoted, control and combining characters escaped, shortened.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The contents of a JSON file without a byte order mark.
pub(crate) fn text_of<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::input(file, "the file is empty, expected JSON"));
    }
    refuse_other_than_text(file, bytes)?;
    Ok(bytes)
}

/// Refuses what begins as a text in UTF-8 never does, and is easily taken for one.
pub(crate) fn refuse_other_than_text(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let problem = if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        "the text is UTF-16, expected UTF-8; save it again as UTF-8"
    } else if bytes.starts_with(b"\x1f\x8b") {
        "the file is compressed (gzip), expected text; unpack it first, as gunzip does"
    } else {
        return Ok(());
    };
    Err(Failure::input(file, problem))
}

/// Turns a parser's error into one that names the file, the line and column, and the `place`.
pub(crate) fn failure(file: &Path, bytes: &[u8], place: &Place, error: &serde_json::Error) -> Failure {
    Failure::input(file, problem(1, bytes, place, error))
}

/// What a parser found wrong with a piece of a file that begins at line `first_line`.
pub(crate) fn problem(first_line: usize, bytes: &[u8], place: &Place, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let words = words(bytes, error);
    let place = place.describe();
    let separator = if place.is_empty() { "" } else { ": " };
    // The parser has a column 0, before the first byte of a line.
    format!("line {} column {}: {place}{separator}{words}", first_line - 1 + line, column.max(1))
}

/// What a parser found wrong, without the place.
pub(crate) fn words(bytes: &[u8], error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    match error.classify() {
        Category::Eof => "the file ends in the middle of a value; it is cut off, write it again".to_owned(),
        Category::Syntax => match word_at(bytes, line, column) {
            Some(word) if is_non_finite(word) => {
                format!("found {word}, expected a finite number; embed this text again")
            }
            Some(word) if text.starts_with("number out of range") => {
                format!("{word} does not fit in a 32-bit float; embed this text again")
            }
            _ if text.starts_with("invalid unicode code point") => {
                "the text is not UTF-8; save it again as UTF-8".to_owned()
            }
            Some(word) => format!("{text}, at {}", quoted(word)),
            None => match character_at(bytes, line, column).filter(|_| text.starts_with("expected")) {
                Some(found) => format!("found {}, {text}", quoted(&found)),
                None => text.to_owned(),
            },
        },
        Category::Data | Category::Io => text.replacen("invalid type: ", "found ", 1),
    }
}

/// The entries of a JSON object in their order, also those of the same key.
pub(crate) struct Entries(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// A parser of bytes in memory.
pub(crate) type Parser<'a> = serde_json::Deserializer<serde_json::de::SliceRead<'a>>;

/// Calls `read` for each of the values that follow one another in `bytes`: one a line, several on a line, or each spread
/// over lines. `read` must take one value.
///
/// Where the first line holds whole values so must all others: a line that is cut off is named by its number, not by
/// what the next one holds.
pub(crate) fn each_value<'a>(
    file: &Path,
    bytes: &'a [u8],
    place: &Place,
    read: &mut dyn FnMut(&mut Parser<'a>) -> Result<(), serde_json::Error>,
) -> Result<(), Failure> {
    let blank = |line: &[u8]| line.iter().all(u8::is_ascii_whitespace);
    let mut lines = (1..).zip(bytes.split(|&byte| byte == b'\n')).filter(|(_, line)| !blank(line));
    let Some((_, first)) = lines.clone().next() else { return Ok(()) };
    if holds_part_of_a_value(first) {
        let mut parser = serde_json::Deserializer::from_slice(bytes);
        while parser.end().is_err() {
            read(&mut parser).map_err(|error| failure(file, bytes, place, &error))?;
        }
        return Ok(());
    }
    lines.try_for_each(|(number, line)| {
        let mut parser = serde_json::Deserializer::from_slice(line);
        while parser.end().is_err() {
            read(&mut parser).map_err(|error| match error.is_eof() {
                true => {
                    let problem = format!(
                        "line {number}: it ends in the middle of a value, expected the whole of it on this line; the \
                         line is cut off, write it again"
                    );
                    Failure::input(file, problem)
                }
                false => Failure::input(file, problem(number, line, place, &error)),
            })?;
        }
        Ok(())
    })
}

/// Whether a line ends before its last value does.
fn holds_part_of_a_value(line: &[u8]) -> bool {
    let values = serde_json::Deserializer::from_slice(line).into_iter::<serde::de::IgnoredAny>();
    values.filter_map(Result::err).next().is_some_and(|error| error.is_eof())
}

fn is_non_finite(word: &str) -> bool {
    let word = word.trim_start_matches(['-', '+']).to_ascii_lowercase();
    matches!(word.as_str(), "nan" | "inf" | "infinity")
}

/// The character at a position, both counted from 1; of what is no text what stands for it.
fn character_at(bytes: &[u8], line: usize, column: usize) -> Option<String> {
    let text = bytes.split(|&byte| byte == b'\n').nth(line.checked_sub(1)?)?;
    let rest = text.get(column.checked_sub(1)?..)?;
    // The longest character has four bytes.
    let start = String::from_utf8_lossy(&rest[..rest.len().min(4)]);
    start.chars().next().map(String::from)
}

/// The number or bare word around a position, both counted from 1.
fn word_at(bytes: &[u8], line: usize, column: usize) -> Option<&str> {
    let text = bytes.split(|&byte| byte == b'\n').nth(line.checked_sub(1)?)?;
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let at = column.saturating_sub(1);
    let start = text.get(..at)?.iter().rposition(|byte| !is_word(byte)).map_or(0, |before| before + 1);
    let rest = text.get(start..)?;
    let word = &rest[..rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len())];
    core::str::from_utf8(word).ok().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let error = serde_json::from_str::<Vec<f32>>(text).expect_err("must fail");
        failure(Path::new("a.json"), text.as_bytes(), &Place::default(), &error).to_string()
    }

    #[test]
    fn non_finite_literals_are_named_as_such() {
        for word in ["NaN", "Infinity", "-Infinity", "nan", "-inf"] {
            let message = message(&format!("[0.5,\n {word}, 2]"));
            assert!(message.starts_with("a.json: line 2 column "), "{message}");
            assert!(message.contains(&format!("found {word}, expected a finite number")), "{message}");
        }
    }

    #[test]
    fn numbers_beyond_f32_are_repeated_as_written() {
        for number in ["1e39", "-1e39", "3.5e38", "1e999"] {
            let message = message(&format!("[0.5, {number}]"));
            assert!(message.contains(&format!("{number} does not fit in a 32-bit float")), "{message}");
        }
    }

    #[test]
    fn a_cut_off_file_is_called_so() {
        assert!(message("[0.5, 1").contains("the file ends in the middle of a value"));
    }

    #[test]
    fn other_faults_name_line_column_and_word() {
        assert_eq!(
            message("[0.5,\n tru]"),
            "a.json: line 2 column 5: expected ident, at \"tru\"",
            "the parser's words, with the place and what stands there"
        );
        assert!(message("[0.5, null]").ends_with("found null, expected f32"));
        assert_eq!(message("<html>"), "a.json: line 1 column 1: found \"<\", expected value");
        assert_eq!(message("\0"), "a.json: line 1 column 1: found \"\\0\", expected value");
        assert_eq!(
            message("\n\n"),
            "a.json: line 3 column 1: the file ends in the middle of a value; it is cut off, write it again"
        );
        let bytes = b"[\"t\xe9xt\"]";
        let error = serde_json::from_slice::<Vec<String>>(bytes).expect_err("not UTF-8");
        assert_eq!(words(bytes, &error), "the text is not UTF-8; save it again as UTF-8");
    }

    #[test]
    fn the_place_names_section_id_and_item() {
        let place = Place::default();
        assert_eq!(place.describe(), "");
        place.enter_section("query_embeddings");
        place.enter_entry("q\u{301}2");
        place.enter_item("component", 3);
        assert_eq!(place.describe(), "query_embeddings \"q\\u{301}2\" component 3");
        place.leave_item();
        place.enter_section("corpus");
        assert_eq!(place.describe(), "corpus");
    }

    #[test]
    fn long_quotes_are_shortened_at_a_character() {
        assert_eq!(quoted(&"é".repeat(100)), format!("\"{}\"…", "é".repeat(LONGEST_QUOTE)));
    }

    #[test]
    fn byte_order_marks_are_skipped_or_explained() {
        let file = Path::new("a.json");
        assert_eq!(text_of(file, b"\xef\xbb\xbf{}").expect("read"), b"{}");
        assert!(text_of(file, b"").expect_err("empty").to_string().contains("empty"));
        assert!(text_of(file, b"\xef\xbb\xbf \r\n").expect_err("empty").to_string().contains("empty"));
        assert!(text_of(file, b"\xff\xfe{\0}\0").expect_err("UTF-16").to_string().contains("UTF-16"));
        let message = text_of(file, b"\x1f\x8b\x08\0").expect_err("gzip").to_string();
        assert!(message.contains("a.json: the file is compressed (gzip), expected text; unpack it first"));
    }
}
