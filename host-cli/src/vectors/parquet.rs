//! Matrices in Parquet files: a column of lists of numbers, of any length or of a fixed one, and one of ids.

mod sizes;

use core::cell::Cell;
use core::fmt::Display;
use core::panic::AssertUnwindSafe;
use std::panic;
use std::path::Path;
use std::sync::{Arc, Once};

use ::parquet::basic::Type;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use ::parquet::data_type::DataType;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;
use bytes::Bytes;

use self::sizes::TextPages;
use super::Matrix;
use super::found::{self, Found, Side};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;

/// Rows that are read at a time.
const ROWS_AT_A_TIME: usize = 4096;

/// Reads the contents of a file.
pub(super) fn read(file: &Path, bytes: Bytes, side: Option<Side>) -> Result<Found, Failure> {
    read_bytes(bytes, side).map_err(|problem| Failure::input(file, problem))
}

fn damaged(problem: impl Display) -> String {
    format!("found no sound Parquet file ({problem}); it is cut off or damaged, write it again")
}

/// The library asserts part of what it assumes about a file, and panics at a damaged one.
fn read_bytes(file: Bytes, side: Option<Side>) -> Result<Found, String> {
    without_panics(|| read_columns(file, side))
        .unwrap_or_else(|| Err(damaged("its parts contradict each other")))
}

/// None where it panics; of that nothing is printed.
fn without_panics<T>(read: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    thread_local! {
        static SILENT: Cell<bool> = const { Cell::new(false) };
    }
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                before(info);
            }
        }));
    });
    SILENT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    SILENT.set(false);
    result.ok()
}

fn read_columns(file: Bytes, side: Option<Side>) -> Result<Found, String> {
    sizes::check_schema(&file).map_err(damaged)?;
    let reader = SerializedFileReader::new(file.clone()).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let root = |column: &ColumnDescriptor| column.path().parts().first().cloned().unwrap_or_default();
    let names: Vec<String> = (0..schema.num_columns()).map(|at| root(&schema.column(at))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let of_kind = |is_one: &dyn Fn(&ColumnDescriptor) -> bool| -> Vec<usize> {
        (0..names.len()).filter(|&at| is_one(&schema.column(at))).collect()
    };
    let named = |columns: &[usize]| columns.iter().map(|&at| names[at]).collect::<Vec<_>>();
    let lists = of_kind(&|column| {
        column.max_rep_level() == 1 && matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)
    });
    let expected = "one of lists of 32- or 64-bit floats";
    let name = found::matrix(side, &named(&lists), ("columns", &names), expected)?;
    let flat = of_kind(&|column| column.max_rep_level() == 0);
    let id_name = found::ids(side, &named(&flat))?;
    let at = |columns: &[usize], name: &str| columns.iter().copied().find(|&at| names[at] == name);
    let vectors = at(&lists, name).ok_or_else(|| damaged("a column is missing"))?;
    let id_column = id_name.and_then(|name| at(&flat, name));

    let mut ids = id_column.map(|_| Ids::default());
    let mut rows = Rows { dim: 0, count: 0, components: Vec::new() };
    let mut allowance = sizes::allowance(file.len());
    let column = schema.column(vectors);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(damaged)?;
        let mut pages = |at: usize| {
            sizes::check_pages(&file, group.metadata().column(at), &mut allowance)?;
            group.get_column_page_reader(at)
        };
        if let (Some(at), Some(ids)) = (id_column, &mut ids) {
            let column = schema.column(at);
            let whole = column.max_def_level();
            let pages = TextPages { pages: pages(at).map_err(damaged)?, whole };
            read_ids(get_column_reader(column, Box::new(pages)), whole, ids)?;
        }
        let ids = ids.as_ref();
        match get_column_reader(Arc::clone(&column), pages(vectors).map_err(damaged)?) {
            ColumnReader::FloatColumnReader(reader) => rows.read(reader, &column, ids, |value| value)?,
            #[allow(
                clippy::cast_possible_truncation,
                reason = "rounds to nearest; an overflow is found as infinite"
            )]
            ColumnReader::DoubleColumnReader(reader) => {
                rows.read(reader, &column, ids, |value| value as f32)?
            }
            _ => return Err("found a column of another type than its schema says; it is damaged".to_owned()),
        }
    }
    let Rows { dim, count, components } = rows;
    if count == 0 {
        return Err("there are no rows in it, expected at least one".to_owned());
    }
    if let Some(found) = ids.as_ref().map(Ids::len).filter(|&found| found != count) {
        return Err(format!("found {found} ids for {count} vectors; it is damaged, write it again"));
    }
    Ok(Found { matrix: Matrix::owned(count, dim, components), ids })
}

/// The vectors so far.
struct Rows {
    dim: usize,
    count: usize,
    components: Vec<f32>,
}

impl Rows {
    fn read<T: DataType>(
        &mut self,
        mut reader: ColumnReaderImpl<T>,
        column: &ColumnDescriptor,
        ids: Option<&Ids>,
        convert: fn(T::T) -> f32,
    ) -> Result<(), String>
    where
        T::T: Copy,
    {
        let whole = column.max_def_level();
        // At this level of definition there is an element, be it null or not.
        let element = if column.self_type().is_optional() { whole - 1 } else { whole };
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            definitions.clear();
            repetitions.clear();
            values.clear();
            let (records, ..) = reader
                .read_records(ROWS_AT_A_TIME, Some(&mut definitions), Some(&mut repetitions), &mut values)
                .map_err(damaged)?;
            if records == 0 {
                return Ok(());
            }
            let mut values = values.iter();
            let mut open = false;
            for (&definition, &repetition) in definitions.iter().zip(&repetitions) {
                if repetition == 0 {
                    if open {
                        self.close(ids)?;
                    }
                    open = true;
                }
                if definition < element {
                    return Err(format!("{}: the vector is null or empty, expected numbers", self.name(ids)));
                }
                match values.next() {
                    Some(&value) if definition == whole => self.components.push(convert(value)),
                    _ => {
                        let component = self.components.len() - self.count * self.dim;
                        let row = self.name(ids);
                        return Err(format!(
                            "{row} component {component}: found null, expected a finite number"
                        ));
                    }
                }
            }
            if open {
                self.close(ids)?;
            }
        }
    }

    /// Ends a row.
    fn close(&mut self, ids: Option<&Ids>) -> Result<(), String> {
        let found = self.components.len() - self.count * self.dim;
        if self.count == 0 {
            self.dim = found;
        } else if found != self.dim {
            let (row, dim) = (self.name(ids), self.dim);
            return Err(format!(
                "{row}: the vector has {found} components, expected {dim} as the first has; embed all texts with one model"
            ));
        }
        self.count += 1;
        Ok(())
    }

    /// The row that is being read, as errors name it.
    fn name(&self, ids: Option<&Ids>) -> String {
        let row = self.count;
        match ids.and_then(|ids| ids.get(u32::try_from(row).ok()?)) {
            Some(id) => format!("row {row} ({})", quoted(id)),
            None => format!("row {row}"),
        }
    }
}

fn read_ids(reader: ColumnReader, whole: i16, ids: &mut Ids) -> Result<(), String> {
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => {
            each(reader, whole, ids, |value| core::str::from_utf8(value.data()).ok().map(str::to_owned))
        }
        ColumnReader::Int32ColumnReader(reader) => each(reader, whole, ids, |value| Some(value.to_string())),
        ColumnReader::Int64ColumnReader(reader) => each(reader, whole, ids, |value| Some(value.to_string())),
        _ => {
            Err("the column of the ids has another type than text or integers; save them as text".to_owned())
        }
    }
}

fn each<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    whole: i16,
    ids: &mut Ids,
    text: fn(&T::T) -> Option<String>,
) -> Result<(), String> {
    let (mut definitions, mut values) = (Vec::new(), Vec::new());
    loop {
        definitions.clear();
        values.clear();
        let (records, ..) = reader
            .read_records(ROWS_AT_A_TIME, Some(&mut definitions), None, &mut values)
            .map_err(damaged)?;
        if records == 0 {
            return Ok(());
        }
        if definitions.iter().any(|&definition| definition < whole) || values.len() != records {
            return Err(format!(
                "an id among the rows from {} on is null; every row needs an id of its own",
                ids.len()
            ));
        }
        for value in &values {
            let entry = ids.len() + 1;
            let id = text(value).ok_or_else(|| format!("the id of row {} is no UTF-8 text", entry - 1))?;
            ids.push(&id).map_err(|rejected| {
                format!("entry {entry} is {}: {rejected}; every row needs an id of its own", quoted(&id))
            })?;
        }
    }
}

#[cfg(test)]
mod tests {
    use ::parquet::basic::Encoding;
    use ::parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType};
    use ::parquet::file::properties::{WriterProperties, WriterVersion};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: &str = "message m { required binary id (UTF8); optional group embedding (LIST) { repeated group list { \
                          optional float element; } } }";

    /// A file with text ids and the levels and values of the column of lists; `d` for doubles.
    fn file(schema: &str, ids: &[&str], definitions: &[i16], repetitions: &[i16], values: &[f32]) -> Vec<u8> {
        file_with(WriterProperties::new(), schema, ids, definitions, repetitions, values)
    }

    fn file_with(
        properties: WriterProperties,
        schema: &str,
        ids: &[&str],
        definitions: &[i16],
        repetitions: &[i16],
        values: &[f32],
    ) -> Vec<u8> {
        let optional_ids = schema.contains("optional binary id");
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).expect("begun");
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("a column").expect("ids");
        let texts: Vec<ByteArray> = ids.iter().map(|&id| ByteArray::from(id)).collect();
        let present = optional_ids.then(|| vec![1; ids.len()]);
        column.typed::<ByteArrayType>().write_batch(&texts, present.as_deref(), None).expect("written");
        column.close().expect("closed");
        let mut column = group.next_column().expect("a column").expect("vectors");
        let levels = (Some(definitions), Some(repetitions));
        match column.untyped() {
            ::parquet::column::writer::ColumnWriter::DoubleColumnWriter(_) => {
                let values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
                column.typed::<DoubleType>().write_batch(&values, levels.0, levels.1).expect("written");
            }
            _ => {
                column.typed::<FloatType>().write_batch(values, levels.0, levels.1).expect("written");
            }
        }
        column.close().expect("closed");
        group.close().expect("closed");
        writer.close().expect("complete");
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Found, Failure> {
        read(Path::new("v.parquet"), Bytes::copy_from_slice(bytes), None)
    }

    fn refusal(bytes: &[u8]) -> String {
        crate::failure::refusal(parse(bytes))
    }

    #[test]
    fn lists_of_floats_and_doubles_are_rows_with_ids() {
        for schema in [
            SCHEMA.to_owned(),
            SCHEMA.replace("float", "double"),
            SCHEMA.replace("optional group", "required group"),
        ] {
            let whole = if schema.contains("required group") { 2 } else { 3 };
            let bytes = file(&schema, &["a", "b"], &[whole; 4], &[0, 1, 0, 1], &[1.5, -2.0, 0.25, -0.0]);
            let Found { matrix, ids } = parse(&bytes).expect("read");
            assert_eq!(
                (matrix.rows(), matrix.dim(), matrix.as_slice()),
                (2, 2, &[1.5, -2.0, 0.25, -0.0][..])
            );
            assert_eq!(ids.expect("ids").iter().collect::<Vec<_>>(), ["a", "b"]);
        }
    }

    #[test]
    fn more_rows_than_are_read_at_a_time_are_read() {
        let rows = 2 * ROWS_AT_A_TIME + 3;
        let names: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let values: Vec<f32> = (0..2 * rows).map(|value| value as f32).collect();
        let repetitions: Vec<i16> = (0..2 * rows).map(|level| i16::from(level % 2 == 1)).collect();
        let found = parse(&file(SCHEMA, &ids, &vec![3; 2 * rows], &repetitions, &values)).expect("read");
        assert_eq!(found.matrix.as_slice(), values);
        assert_eq!(found.ids.expect("ids").index_of("8194"), Some(8194));
    }

    #[test]
    fn rows_that_are_no_vectors_are_refused_by_id() {
        let ids = ["a", "b"];
        for (definitions, repetitions, values, expected) in [
            (&[3, 3, 0][..], &[0, 1, 0][..], &[1.0, 2.0][..], "row 1 (\"b\"): the vector is null or empty"),
            (&[3, 3, 1], &[0, 1, 0], &[1.0, 2.0], "row 1 (\"b\"): the vector is null or empty"),
            (&[3, 3, 3, 2], &[0, 1, 0, 1], &[1.0, 2.0, 3.0], "row 1 (\"b\") component 1: found null"),
            (
                &[3, 3, 3],
                &[0, 1, 0],
                &[1.0, 2.0, 3.0],
                "row 1 (\"b\"): the vector has 1 components, expected 2",
            ),
        ] {
            let message = refusal(&file(SCHEMA, &ids, definitions, repetitions, values));
            assert!(message.contains(expected), "{message}");
        }
        let twice = file(SCHEMA, &["a", "a"], &[3, 3], &[0, 0], &[1.0, 2.0]);
        assert!(refusal(&twice).contains("entry 2 is \"a\": it was entry 1 already"));
        let flat = SCHEMA.replace(
            "embedding (LIST) { repeated group list { optional float element; } }",
            "x { optional group y { optional float z; } }",
        );
        let message = refusal(&file(&flat, &["a"], &[3], &[0], &[1.0]));
        assert!(message.contains("found the columns \"id\", \"x\", expected one of lists"), "{message}");
    }

    #[test]
    fn columns_of_the_other_side_are_refused() {
        let of = |id: &str, vectors: &str, side| {
            let schema = SCHEMA.replace("binary id", &format!("binary {id}")).replace("embedding", vectors);
            let bytes = file(&schema, &["a"], &[3], &[0], &[1.0]);
            read(Path::new("v.parquet"), Bytes::from(bytes), Some(side)).map(|_| ())
        };
        of("query_id", "queries", Side::Queries).expect("its own");
        of("doc_id", "embedding", Side::Documents).expect("its own");
        let message = crate::failure::refusal(of("id", "queries", Side::Documents));
        assert!(
            message.contains("found the columns \"queries\", none of which says that it is of the documents"),
            "{message}"
        );
        let message = crate::failure::refusal(of("doc_id", "embedding", Side::Queries));
        assert!(message.contains("found the ids \"doc_id\", expected those of the queries"), "{message}");
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let bytes = file(SCHEMA, &["a", "b"], &[3; 4], &[0, 1, 0, 1], &[1.5, -2.0, 0.25, 4.0]);
        for end in 0..bytes.len() {
            refusal(&bytes[..end]);
        }
    }

    #[test]
    fn where_the_library_panics_a_file_is_refused() {
        let mut bytes = file(SCHEMA, &["a", "b"], &[3; 4], &[0, 1, 0, 1], &[1.5, -2.0, 0.25, 4.0]);
        bytes[12] = 20;
        assert!(
            refusal(&bytes)
                .contains("found no sound Parquet file (its parts contradict each other); it is cut off")
        );
        assert_eq!(without_panics(|| 1), Some(1));
        assert_eq!(without_panics(|| -> u8 { panic!("heard") }), None);
    }

    #[test]
    fn sizes_beyond_the_file_are_refused_by_name() {
        let sound = file(SCHEMA, &["a", "b"], &[3; 4], &[0, 1, 0, 1], &[1.5, -2.0, 0.25, 4.0]);
        let damaged = |found: &[u8], put: &[u8]| {
            let places = sound.windows(found.len()).filter(|window| window == &found).count();
            assert_eq!(places, 1, "{found:?}");
            let at = sound.windows(found.len()).position(|window| window == found).expect("there");
            let mut bytes = sound.clone();
            bytes[at..][..put.len()].copy_from_slice(put);
            refusal(&bytes)
        };
        for (found, put, expected) in [
            // The root of the schema, called "m".
            (
                &b"\x48\x01m\x15\x04"[..],
                &b"\x48\x01m\x15\x7e"[..],
                "element 0 of its schema has 63 children, of 4",
            ),
            // The dictionary of the ids: its length twice, its entries.
            (
                b"\x15\x14\x15\x14\x4c\x15\x04",
                b"\x15\x14\x15\x14\x4c\x15\x7e",
                "63 entries are said to be in a dictionary of 10 bytes",
            ),
            // The page behind it: its length twice.
            (
                b"\x15\x06\x15\x06\x2c",
                b"\x15\x06\x15\x7e\x2c",
                "a page is said to take 63 bytes, where its column has 3",
            ),
        ] {
            let message = damaged(found, put);
            assert!(message.contains(expected), "{message}");
        }
    }

    /// How writers store texts, and the library with them: plain, as differences of lengths, as differences of texts.
    #[test]
    fn ids_in_every_encoding_are_read() {
        let names: Vec<String> = (0..700).map(|row| format!("document-{}", row * row)).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let values: Vec<f32> = (0..700).map(|value| value as f32).collect();
        for encoding in [Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                for repetition in ["required", "optional"] {
                    let schema = SCHEMA.replacen("required", repetition, 1);
                    let properties = WriterProperties::builder()
                        .set_writer_version(version)
                        .set_dictionary_enabled(false)
                        .set_data_page_row_count_limit(300)
                        .set_write_batch_size(100)
                        .set_column_encoding("id".into(), encoding);
                    let bytes = file_with(properties.build(), &schema, &ids, &[3; 700], &[0; 700], &values);
                    let found = parse(&bytes).expect("read");
                    assert_eq!(
                        found.ids.expect("ids").iter().collect::<Vec<_>>(),
                        ids,
                        "{encoding} {version:?}"
                    );
                    assert_eq!(found.matrix.as_slice(), values);
                }
            }
        }
    }

    #[test]
    fn texts_have_as_many_lengths_as_their_page_has_values() {
        for (encoding, lists) in [(Encoding::DELTA_LENGTH_BYTE_ARRAY, 1), (Encoding::DELTA_BYTE_ARRAY, 2)] {
            for repetition in ["required", "optional"] {
                let schema = SCHEMA.replacen("required", repetition, 1);
                let properties = WriterProperties::builder()
                    .set_dictionary_enabled(false)
                    .set_column_encoding("id".into(), encoding)
                    .build();
                let sound = file_with(properties, &schema, &["a", "b"], &[3; 2], &[0; 2], &[1.5, -2.0]);
                // Two numbers in blocks of 128 in four parts.
                let places: Vec<usize> =
                    (0..sound.len()).filter(|&at| sound[at..].starts_with(&[0x80, 1, 4, 2])).collect();
                assert_eq!(places.len(), lists, "{encoding} {repetition}");
                for at in places {
                    let mut bytes = sound.clone();
                    bytes[at + 3] = 3;
                    let message = refusal(&bytes);
                    assert!(message.contains("a page of 2 texts has other lengths"), "{message}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_damaged_byte_makes_the_reader_panic(position in 0_usize..900, byte in any::<u8>()) {
            let mut bytes = file(SCHEMA, &["a", "b"], &[3; 4], &[0, 1, 0, 1], &[1.5, -2.0, 0.25, 4.0]);
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(Found { matrix, .. }) = parse(&bytes) {
                prop_assert_eq!(matrix.as_slice().len(), matrix.rows() * matrix.dim());
            }
        }
    }
}
