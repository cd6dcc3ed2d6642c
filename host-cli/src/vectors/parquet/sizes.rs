//! Sizes that a Parquet file states, compared with the file before the library asks for memory by them.
//!
//! The library trusts most of them: the children of a group in the schema, the size of a page once it is uncompressed, how many values are
//! in it. Compression makes some of them rightly greater than the file, so they have an [`allowance`].

use std::io::Read;

use ::parquet::basic::Encoding;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::{ColumnChunkMetaData, FooterTail};
use thrift::protocol::{TCompactInputProtocol, TInputProtocol as _, TType};

/// Groups within groups, more than any schema of vectors and ids has; each is a call of the library to itself.
const DEEPEST: usize = 32;

/// Bytes that a value counts for: with its levels, and as the library holds it.
const VALUE_BYTES: u64 = 16;

fn damaged(problem: impl Into<String>) -> ParquetError {
    ParquetError::General(problem.into())
}

/// Bytes that the pages of a file of this length may say they take: a thousand times as much, and those of a small file 64 MiB,
/// since equal vectors take next to nothing.
pub(super) fn allowance(file_length: usize) -> u64 {
    (file_length as u64).saturating_mul(1000).saturating_add(64 << 20)
}

/// Compares what the metadata at the end of a file state of its schema.
pub(super) fn check_schema(file: &[u8]) -> Result<()> {
    let (before, tail) = file.split_last_chunk().ok_or_else(|| damaged("it is too short"))?;
    let tail = FooterTail::try_new(tail)?;
    if tail.is_encrypted_footer() {
        // The library refuses it by name.
        return Ok(());
    }
    let length = tail.metadata_length();
    let start = before.len().checked_sub(length).ok_or_else(|| {
        damaged(format!("its metadata are said to take {length} bytes, where it has {}", before.len()))
    })?;
    check_tree(&children_of_schema(&before[start..]).map_err(unreadable)?)
}

/// Each element's number of children must still come behind it, as the library reads them: depth first.
fn check_tree(children: &[i32]) -> Result<()> {
    let mut open: Vec<usize> = Vec::new();
    for (index, &count) in children.iter().enumerate() {
        if let Some(siblings) = open.last_mut() {
            *siblings -= 1;
        }
        let behind = children.len() - index - 1;
        let count = usize::try_from(count).ok().filter(|&count| count <= behind).ok_or_else(|| {
            damaged(format!(
                "element {index} of its schema has {count} children, of {behind} elements behind it"
            ))
        })?;
        if count > 0 {
            open.push(count);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > DEEPEST {
            return Err(damaged(format!("its schema is more than {DEEPEST} groups deep")));
        }
    }
    Ok(())
}

/// Compares what the headers of a column's pages state, and takes what they need from the allowance.
pub(super) fn check_pages(file: &[u8], column: &ColumnChunkMetaData, allowance: &mut u64) -> Result<()> {
    let (start, length) = column.byte_range();
    let start_and_length = usize::try_from(start).ok().zip(usize::try_from(length).ok());
    let pages = start_and_length.and_then(|(start, length)| file.get(start..)?.get(..length));
    let mut pages = pages.ok_or_else(|| {
        damaged(format!(
            "a column is said to take {length} bytes from {start} on, in a file of {}",
            file.len()
        ))
    })?;
    while !pages.is_empty() {
        let PageHeader { uncompressed, compressed, values, entries } =
            PageHeader::read(&mut pages).map_err(unreadable)?;
        let left = pages.len();
        pages = usize::try_from(compressed).ok().and_then(|compressed| pages.get(compressed..)).ok_or_else(
            || {
                damaged(format!(
                    "a page is said to take {compressed} bytes, where its column has {left} left"
                ))
            },
        )?;
        if entries > uncompressed {
            return Err(damaged(format!(
                "{entries} entries are said to be in a dictionary of {uncompressed} bytes"
            )));
        }
        let needed = values.saturating_mul(VALUE_BYTES).saturating_add(uncompressed);
        *allowance = allowance.checked_sub(needed).ok_or_else(|| {
            let (most, length) = (self::allowance(file.len()), file.len());
            damaged(format!("by its pages' headers it holds more than {most} bytes, in a file of {length}"))
        })?;
    }
    Ok(())
}

fn unreadable(error: thrift::Error) -> ParquetError {
    let problem = match error {
        thrift::Error::Transport(error) => error.message,
        thrift::Error::Protocol(error) => error.message,
        thrift::Error::Application(error) => error.message,
        thrift::Error::User(error) => error.to_string(),
    };
    damaged(format!("its metadata cannot be read: {problem}"))
}

type Input<R> = TCompactInputProtocol<R>;

/// Hands each field of a struct to `field`, which reads its value or leaves it.
fn read_struct<R: Read>(
    input: &mut Input<R>,
    mut field: impl FnMut(&mut Input<R>, i16, TType) -> thrift::Result<Taken>,
) -> thrift::Result<()> {
    input.read_struct_begin()?;
    loop {
        let found = input.read_field_begin()?;
        if found.field_type == TType::Stop {
            return input.read_struct_end();
        }
        match field(input, found.id.unwrap_or_default(), found.field_type)? {
            Taken::Read => {}
            Taken::Left => input.skip(found.field_type)?,
        }
    }
}

/// What became of a field.
enum Taken {
    Read,
    Left,
}

/// A number that is expected as a field of this type.
fn read_number<R: Read>(input: &mut Input<R>, found: TType) -> thrift::Result<i32> {
    match found {
        TType::I32 => input.read_i32(),
        _ => Err(thrift::Error::from("a number has another type than it must have")),
    }
}

/// The same of a size.
fn read_size<R: Read>(input: &mut Input<R>, found: TType) -> thrift::Result<u64> {
    u64::try_from(read_number(input, found)?).map_err(|_| thrift::Error::from("a size is negative"))
}

/// Of the struct `FileMetaData`: the numbers of children of all elements of the schema.
fn children_of_schema(input: impl Read) -> thrift::Result<Vec<i32>> {
    let mut children = Vec::new();
    read_struct(&mut Input::new(input), |input, id, found| {
        if (id, found) != (2, TType::List) {
            return Ok(Taken::Left);
        }
        let list = input.read_list_begin()?;
        if list.element_type != TType::Struct {
            return Err(thrift::Error::from("its schema is no list of elements"));
        }
        for _ in 0..list.size {
            let mut count = 0;
            read_struct(input, |input, id, found| {
                if id != 5 {
                    return Ok(Taken::Left);
                }
                count = read_number(input, found)?;
                Ok(Taken::Read)
            })?;
            children.push(count);
        }
        Ok(Taken::Read)
    })?;
    Ok(children)
}

/// What the header of a page states.
#[derive(Debug, Default, PartialEq, Eq)]
struct PageHeader {
    /// Bytes of the page behind the header when nothing is compressed.
    uncompressed: u64,
    /// Bytes of the page in the file behind the header.
    compressed: u64,
    /// Values in a page of data, nulls among them.
    values: u64,
    /// Values in a dictionary.
    entries: u64,
}

impl PageHeader {
    fn read(input: impl Read) -> thrift::Result<Self> {
        let mut header = Self::default();
        read_struct(&mut Input::new(input), |input, id, found| {
            match id {
                2 => header.uncompressed = read_size(input, found)?,
                3 => header.compressed = read_size(input, found)?,
                // Of data, of a dictionary, of data in the second version.
                5 | 7 | 8 => {
                    let count = if id == 7 { &mut header.entries } else { &mut header.values };
                    read_struct(input, |input, id, found| {
                        if id != 1 {
                            return Ok(Taken::Left);
                        }
                        *count = read_size(input, found)?;
                        Ok(Taken::Read)
                    })?;
                }
                _ => return Ok(Taken::Left),
            }
            Ok(Taken::Read)
        })?;
        Ok(header)
    }
}

/// Pages of a column of texts. Lengths of texts that are stored as differences have a count of their own, within the page.
pub(super) struct TextPages {
    pub(super) pages: Box<dyn PageReader>,
    /// The level of definition of what is no null; 0 where there are none.
    pub(super) whole: i16,
}

impl TextPages {
    fn check(&self, page: &Page) -> Result<()> {
        let lists = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            // How much of the text before each begins with, then the lengths of the rest.
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => return Ok(()),
        };
        let mut bytes = match page {
            Page::DataPage { buf, def_level_encoding, .. } if self.whole > 0 => match def_level_encoding {
                Encoding::RLE => buf.split_first_chunk().and_then(|(length, rest)| {
                    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
                }),
                _ => {
                    let bits =
                        u64::from(page.num_values()) * u64::from(i16::BITS - self.whole.leading_zeros());
                    usize::try_from(bits.div_ceil(8)).ok().and_then(|length| buf.get(length..))
                }
            },
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => Some(&buf[..]),
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                buf.get(*def_levels_byte_len as usize + *rep_levels_byte_len as usize..)
            }
        };
        for _ in 0..lists {
            bytes = bytes.and_then(|bytes| skip_differences(bytes, page.num_values().into()));
        }
        if bytes.is_none() {
            return Err(damaged(format!(
                "a page of {} texts has other lengths than those",
                page.num_values()
            )));
        }
        Ok(())
    }
}

impl Iterator for TextPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for TextPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

/// What is behind a list of at most so many numbers, stored as differences in blocks of bits (`DELTA_BINARY_PACKED`).
fn skip_differences(bytes: &[u8], most: u64) -> Option<&[u8]> {
    let (block, bytes) = varint(bytes)?;
    let (parts, bytes) = varint(bytes)?;
    let (count, bytes) = varint(bytes)?;
    let (_first, mut bytes) = varint(bytes)?;
    if count > most {
        return None;
    }
    let values_of_part = block.checked_div(parts).filter(|&values| values > 0)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let (_least, rest) = varint(bytes)?;
        let (widths, rest) = rest.split_at_checked(usize::try_from(parts).ok()?)?;
        bytes = rest;
        for &width in widths {
            if left == 0 {
                break;
            }
            let length = u64::from(width).checked_mul(values_of_part)? / 8;
            bytes = bytes.get(usize::try_from(length).ok()?..)?;
            left = left.saturating_sub(values_of_part);
        }
    }
    Some(bytes)
}

/// A number of seven bits a byte, and what is behind it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (digits, rest) = bytes.split_at(length);
    let number = digits.iter().rev().fold(0_u64, |number, &byte| number << 7 | u64::from(byte & 0x7f));
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::file::metadata::ColumnChunkMetaData;
    use ::parquet::schema::parser::parse_message_type;
    use ::parquet::schema::types::SchemaDescriptor;

    use super::*;

    fn message(result: Result<()>) -> String {
        result.expect_err("refused").to_string()
    }

    /// A number as the metadata hold it.
    fn number(value: i32) -> Vec<u8> {
        let mut digits = (value.cast_unsigned() << 1) ^ (value >> 31).cast_unsigned();
        let mut bytes = Vec::new();
        while digits > 0x7f {
            bytes.push(digits.to_le_bytes()[0] | 0x80);
            digits >>= 7;
        }
        bytes.push(digits.to_le_bytes()[0]);
        bytes
    }

    /// A file of nothing but these metadata.
    fn file(metadata: &[u8]) -> Vec<u8> {
        let length = u32::try_from(metadata.len()).expect("short");
        [b"PAR1", metadata, &length.to_le_bytes(), b"PAR1"].concat()
    }

    /// The same with a schema of elements with so many children.
    fn schema(children: &[i32]) -> Vec<u8> {
        let mut metadata = vec![0x15, 4, 0x19];
        match u8::try_from(children.len()).expect("a few") {
            few @ ..15 => metadata.push(few << 4 | 12),
            many => metadata.extend([0xfc, many]),
        }
        for &count in children {
            // Of the type i32, five behind no field before it, and the end of the element.
            metadata.extend([&[0x55], &number(count)[..], &[0]].concat());
        }
        metadata.push(0);
        file(&metadata)
    }

    #[test]
    fn a_schema_has_the_elements_it_counts() {
        for children in [&[0][..], &[1, 0], &[2, 0, 0], &[2, 1, 1, 0, 0], &[3, 0, 2, 0, 0, 0]] {
            check_schema(&schema(children)).expect("sound");
        }
        let deep = |groups: usize| [vec![1; groups], vec![0]].concat();
        check_schema(&schema(&deep(DEEPEST))).expect("sound");
        for (children, expected) in [
            (&[2, 0][..], "element 0 of its schema has 2 children, of 1 elements behind it"),
            (&[2, 0, 1], "element 2 of its schema has 1 children, of 0 elements behind it"),
            (&[1, i32::MAX], "element 1 of its schema has 2147483647 children, of 0 elements"),
            (&[-1, 0], "element 0 of its schema has -1 children"),
            (&deep(DEEPEST + 1), "more than 32 groups deep"),
        ] {
            let message = message(check_schema(&schema(children)));
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn metadata_lie_within_the_file() {
        let sound = schema(&[1, 0]);
        assert!(message(check_schema(&sound[..7])).contains("too short"));
        let tail = sound.len() - 8;
        for length in [u32::try_from(tail).expect("short") + 1, u32::MAX] {
            let mut longer = sound.clone();
            longer[tail..][..4].copy_from_slice(&length.to_le_bytes());
            let message = message(check_schema(&longer));
            let expected = format!("its metadata are said to take {length} bytes, where it has {tail}");
            assert!(message.contains(&expected), "{message}");
        }
        // A list of 2^28 elements in a few bytes, and a number of children that is said to be a text.
        for metadata in [&[0x19, 0xfc, 0x80, 0x80, 0x80, 0x80, 1, 0][..], &[0x29, 0x1c, 0x58, 0, 0, 0]] {
            assert!(message(check_schema(&file(metadata))).contains("its metadata cannot be read"));
        }
    }

    /// A page as the file holds it: a header of the given kind, by its number of a field, and as many zeros as are stored.
    fn page(kind: u8, [uncompressed, compressed, values]: [i32; 3], stored: usize) -> Vec<u8> {
        let mut bytes = vec![0x15, 0, 0x15];
        bytes.extend(number(uncompressed));
        bytes.push(0x15);
        bytes.extend(number(compressed));
        bytes.extend([(kind - 3) << 4 | 12, 0x15]);
        bytes.extend(number(values));
        bytes.extend([0, 0]);
        bytes.resize(bytes.len() + stored, 0);
        bytes
    }

    /// The column of these bytes of a file.
    fn column(start: usize, length: usize) -> ColumnChunkMetaData {
        let schema = parse_message_type("message m { required float x; }").expect("a schema");
        let schema = SchemaDescriptor::new(Arc::new(schema));
        ColumnChunkMetaData::builder(schema.column(0))
            .set_data_page_offset(start as i64)
            .set_total_compressed_size(length as i64)
            .build()
            .expect("a column")
    }

    #[test]
    fn pages_lie_within_their_column_and_that_within_the_file() {
        let file = [page(7, [8, 8, 2], 8), page(5, [40, 10, 10], 10), page(8, [12, 12, 3], 12)].concat();
        let mut allowance = 1000;
        check_pages(&file, &column(0, file.len()), &mut allowance).expect("sound");
        assert_eq!(allowance, 1000 - (8 + 40 + 12) - (10 + 3) * VALUE_BYTES);

        for (start, length) in [(0, file.len() + 1), (1, file.len()), (file.len() + 1, 0)] {
            let message = message(check_pages(&file, &column(start, length), &mut 1000));
            let expected = format!("a column is said to take {length} bytes from {start} on, in a file of");
            assert!(message.contains(&expected), "{message}");
        }
        let cut = message(check_pages(&file, &column(0, file.len() - 1), &mut 1000));
        assert!(cut.contains("a page is said to take 12 bytes, where its column has 11 left"), "{cut}");
        for (page, expected) in [
            (page(7, [8, 8, 9], 8), "9 entries are said to be in a dictionary of 8 bytes"),
            (page(5, [-1, 8, 2], 8), "a size is negative"),
            (page(5, [8, -1, 2], 8), "a size is negative"),
            (page(5, [8, 8, -2], 8), "a size is negative"),
        ] {
            let message = message(check_pages(&page, &column(0, page.len()), &mut 1000));
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn pages_may_hold_a_thousand_times_the_file_and_64_mib() {
        let most = i32::try_from(allowance(0)).expect("a number");
        let value = i32::try_from(VALUE_BYTES).expect("a number");
        assert_eq!((most, allowance(1_000_000)), (64 << 20, 1_000_000_000 + (64 << 20)));
        for (uncompressed, values, fits) in [
            (most, 0, true),
            (most + 1, 0, false),
            (0, most / value, true),
            (value, most / value, false),
            (i32::MAX, i32::MAX, false),
        ] {
            let page = page(5, [uncompressed, 0, values], 0);
            let mut left = allowance(0);
            match check_pages(&page, &column(0, page.len()), &mut left) {
                Ok(()) => assert!(fits && left == 0, "{uncompressed} {values}"),
                Err(error) => {
                    assert!(!fits && error.to_string().contains("by its pages' headers it holds more than"))
                }
            }
        }
        let two = [page(5, [most / 2 + 1, 0, 0], 0), page(5, [most / 2, 0, 0], 0)].concat();
        check_pages(&two, &column(0, two.len()), &mut allowance(0)).expect_err("both together");
    }

    /// Numbers as differences in blocks of 128 in four parts, all with 3 bits.
    fn differences(count: u8, blocks: usize) -> Vec<u8> {
        let mut bytes = vec![0x80, 1, 4, count, 2];
        for _ in 0..blocks {
            bytes.extend([0, 3, 3, 3, 3]);
            bytes.resize(bytes.len() + 4 * 12, 0xff);
        }
        bytes
    }

    #[test]
    fn lists_of_differences_end_where_they_say() {
        for (count, blocks) in [(0, 0), (1, 0), (127, 1)] {
            let list = [&differences(count, blocks)[..], b"behind"].concat();
            assert_eq!(skip_differences(&list, count.into()), Some(&b"behind"[..]), "{count}");
            assert_eq!(skip_differences(&list, u64::from(count).wrapping_sub(1)).is_some(), count == 0);
        }
        // With 34 numbers 33 differences: the first two parts of the block have bits, the others none.
        let mut two_parts = differences(34, 1);
        two_parts.truncate(10 + 2 * 12);
        assert_eq!(skip_differences(&two_parts, 34), Some(&[][..]));
        for end in 0..two_parts.len() {
            assert_eq!(skip_differences(&two_parts[..end], 34), None, "cut off at {end}");
        }
        assert_eq!(skip_differences(&[0x80, 1, 0, 34, 2, 0, 0, 0], 34), None, "no parts");
        assert_eq!(skip_differences(&[0xff; 12], u64::MAX), None, "a number without an end");
    }
}
