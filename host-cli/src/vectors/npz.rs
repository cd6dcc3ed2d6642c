//! Matrices in `.npz` archives: a `.npy` file each, perhaps one of ids beside them.

use std::io::{Cursor, Read as _};
use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, TypeChar};
use zip::{CompressionMethod, ZipArchive};

use super::found::{self, Found, Side};
use super::{Matrix, npy};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;

/// The most bytes that one compressed byte can become, by the format of deflate, with room for headers.
const GREATEST_RATIO: u64 = 1032;

/// Reads an archive.
pub(super) fn read(file: &Path, bytes: &[u8], side: Option<Side>) -> Result<Found, Failure> {
    let refuse = |problem: String| Failure::input(file, problem);
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
        refuse(format!("found no sound .npz archive ({error}); it is cut off or damaged, write it again"))
    })?;
    let mut names: Vec<String> =
        archive.file_names().filter_map(|name| name.ok()?.strip_suffix(".npy").map(str::to_owned)).collect();
    names.sort_unstable();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (id_names, names): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| found::IDS.have(name));
    let name = found::matrix(side, &names, ("arrays", &names), "one beside the ids").map_err(refuse)?;
    let id_name = found::ids(side, &id_names).map_err(refuse)?;
    let member = |archive: &mut ZipArchive<_>, name: &str| {
        extract(archive, &format!("{name}.npy"))
            .map_err(|problem| refuse(format!("{}: {problem}", quoted(name))))
    };
    let in_member = |name: &str| {
        let name = quoted(name);
        move |problem: String| refuse(format!("{name}: {problem}"))
    };
    let contents = member(&mut archive, name)?;
    let npy = npy::Npy::parse(&contents).map_err(in_member(name))?;
    let (rows, dim) = (npy.rows, npy.dim);
    let matrix = Matrix::owned(rows, dim, npy.read().map_err(in_member(name))?);
    let ids = match id_name {
        Some(name) => Some(ids(&member(&mut archive, name)?).map_err(in_member(name))?),
        None => None,
    };
    Ok(Found { matrix, ids })
}

/// The contents of a member. What it claims to hold is held against what it takes before any memory is asked for.
fn extract(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Vec<u8>, String> {
    let mut member = archive.by_name(name).map_err(|error| error.to_string())?;
    let (packed, claimed) = (member.compressed_size(), member.size());
    let most = match member.compression() {
        CompressionMethod::Stored => packed,
        _ => packed.saturating_mul(GREATEST_RATIO).saturating_add(GREATEST_RATIO),
    };
    if claimed > most {
        return Err(format!(
            "the archive says {claimed} bytes come of {packed}, which cannot be; it is damaged, write it again"
        ));
    }
    let mut contents = Vec::new();
    let read = (&mut member).take(claimed.saturating_add(1)).read_to_end(&mut contents);
    let read =
        read.map_err(|error| format!("cannot be unpacked ({error}); it is damaged, write it again"))?;
    match u64::try_from(read) == Ok(claimed) {
        true => Ok(contents),
        false => {
            Err(format!("the archive says {claimed} bytes, found {read}; it is damaged, write it again"))
        }
    }
}

/// The ids in a one-dimensional array of text or integers.
fn ids(bytes: &[u8]) -> Result<Ids, String> {
    let (header, data) = npy::checked_header(bytes)?;
    let [count] = *header.shape() else {
        return Err(format!("found an array of shape {:?}, expected one dimension of ids", header.shape()));
    };
    let (kind, width, endianness) = element(&header)?;
    let length = count.checked_mul(width as u64);
    if length != u64::try_from(data.len()).ok() || width == 0 {
        return Err(format!(
            "the header says {count} ids of {width} bytes, but {} bytes follow it",
            data.len()
        ));
    }
    let mut ids = Ids::default();
    for element in data.chunks_exact(width) {
        let id = id(kind, endianness, element).ok_or_else(|| {
            format!("entry {} is no text that can be read; save the ids as strings", ids.len() + 1)
        })?;
        let entry = ids.len() + 1;
        ids.push(&id).map_err(|rejected| format!("entry {entry} is {}: {rejected}", quoted(&id)))?;
    }
    Ok(ids)
}

fn element(header: &NpyHeader) -> Result<(TypeChar, usize, Endianness), String> {
    let dtype = header.dtype();
    let DType::Plain(kind) = &dtype else {
        return Err(format!("found elements of type {}, expected strings or integers", dtype.descr()));
    };
    let size = usize::try_from(kind.size_field()).unwrap_or(usize::MAX);
    let width = match kind.type_char() {
        TypeChar::UnicodeStr => size.checked_mul(4),
        TypeChar::ByteStr => Some(size),
        TypeChar::Int | TypeChar::Uint if matches!(size, 1 | 2 | 4 | 8) => Some(size),
        _ => None,
    };
    let width = width.ok_or_else(|| {
        format!(
            "found elements of type {}, expected strings or integers; save them as np.array(ids, dtype=str)",
            dtype.descr()
        )
    })?;
    Ok((kind.type_char(), width, kind.endianness()))
}

/// The text of one element.
fn id(kind: TypeChar, endianness: Endianness, element: &[u8]) -> Option<String> {
    let big = endianness == Endianness::Big;
    match kind {
        TypeChar::UnicodeStr => {
            let (chunks, _) = element.as_chunks::<4>();
            let code =
                |&bytes: &[u8; 4]| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
            let end = chunks.iter().rposition(|bytes| *bytes != [0; 4]).map_or(0, |last| last + 1);
            chunks[..end].iter().map(|bytes| char::from_u32(code(bytes))).collect()
        }
        TypeChar::ByteStr => {
            let end = element.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            core::str::from_utf8(&element[..end]).ok().map(str::to_owned)
        }
        kind => {
            let mut bytes = element.to_vec();
            if big {
                bytes.reverse();
            }
            let negative = kind == TypeChar::Int && bytes.last().is_some_and(|&last| last >= 0x80);
            bytes.resize(8, if negative { 0xff } else { 0 });
            let bytes: [u8; 8] = bytes.try_into().ok()?;
            Some(match kind {
                TypeChar::Int => i64::from_le_bytes(bytes).to_string(),
                _ => u64::from_le_bytes(bytes).to_string(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::vectors::npy::test_files::{VALUES, header, npy as npy_file, plain};

    fn archive(method: CompressionMethod, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = ZipWriter::new(Cursor::new(&mut bytes));
        for (name, contents) in members {
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(format!("{name}.npy"), options).expect("begun");
            writer.write_all(contents).expect("written");
        }
        writer.finish().expect("complete");
        bytes
    }

    fn id_array(descr: &str, count: usize, data: &[u8]) -> Vec<u8> {
        npy_file(&header(descr, "False", &format!("({count},)")), 64, data)
    }

    fn utf32(texts: &[&str], width: usize) -> Vec<u8> {
        let pad = |text: &&str| {
            let mut codes: Vec<u32> = text.chars().map(u32::from).collect();
            codes.resize(width, 0);
            codes.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>()
        };
        texts.iter().flat_map(pad).collect()
    }

    fn parse(bytes: &[u8]) -> Result<Found, Failure> {
        read(Path::new("v.npz"), bytes, None)
    }

    fn refusal(bytes: &[u8]) -> String {
        crate::failure::refusal(parse(bytes))
    }

    #[test]
    fn stored_and_deflated_archives_give_matrix_and_ids() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            for (descr, data) in [
                ("<U2", utf32(&["é", "d2"], 2)),
                (
                    ">U2",
                    utf32(&["é", "d2"], 2).chunks_exact(4).flat_map(|c| c.iter().rev().copied()).collect(),
                ),
                ("|S2", b"\xc3\xa9d2".to_vec()),
            ] {
                let bytes = archive(
                    method,
                    &[("embeddings", plain(2, 3, &VALUES)), ("ids", id_array(descr, 2, &data))],
                );
                let Found { matrix, ids } = parse(&bytes).expect(descr);
                assert_eq!((matrix.rows(), matrix.dim(), matrix.as_slice()), (2, 3, &VALUES[..]));
                assert_eq!(ids.expect("ids").iter().collect::<Vec<_>>(), ["é", "d2"], "{descr}");
            }
        }
        let plain_archive = archive(CompressionMethod::Stored, &[("arr_0", plain(2, 3, &VALUES))]);
        assert!(parse(&plain_archive).expect("read").ids.is_none());
    }

    #[test]
    fn integers_are_ids_by_their_digits() {
        for (descr, data, expected) in [
            ("<i8", [7_i64.to_le_bytes(), (-1_i64).to_le_bytes()].concat(), ["7", "-1"]),
            (">i4", [7_i32.to_be_bytes(), i32::MIN.to_be_bytes()].concat(), ["7", "-2147483648"]),
            ("|u1", vec![7, 255], ["7", "255"]),
            ("<u8", [7_u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat(), ["7", "18446744073709551615"]),
        ] {
            let bytes = archive(
                CompressionMethod::Stored,
                &[("x", plain(2, 3, &VALUES)), ("ids", id_array(descr, 2, &data))],
            );
            assert_eq!(
                parse(&bytes).expect(descr).ids.expect("ids").iter().collect::<Vec<_>>(),
                expected,
                "{descr}"
            );
        }
    }

    #[test]
    fn archives_that_hold_no_matrix_or_other_ids_are_refused() {
        let stored = |members: &[(&str, Vec<u8>)]| archive(CompressionMethod::Stored, members);
        let matrix = || plain(2, 3, &VALUES);
        let with_ids = |ids: Vec<u8>| stored(&[("x", matrix()), ("ids", ids)]);
        for (bytes, expected) in [
            (stored(&[]), "found the arrays none, expected one beside the ids"),
            (
                stored(&[("a", matrix()), ("b", matrix())]),
                "found the arrays \"a\", \"b\", expected one beside the ids",
            ),
            (stored(&[("a", b"nonsense".to_vec())]), "\"a\": this is not a .npy file"),
            (
                with_ids(id_array("<f4", 2, &[0; 8])),
                "\"ids\": found elements of type '<f4', expected strings or integers",
            ),
            (
                with_ids(id_array("|O", 2, &[0; 16])),
                "found elements of type '|O', expected strings or integers",
            ),
            (
                with_ids(id_array("<U1", 3, &utf32(&["a", "b"], 1))),
                "the header says 3 ids of 4 bytes, but 8 bytes follow it",
            ),
            (
                with_ids(id_array("<U1", 2, &utf32(&["a", "a"], 1))),
                "entry 2 is \"a\": it was entry 1 already",
            ),
            (with_ids(id_array("<U1", 1, &[0, 0xd8, 0, 0])), "entry 1 is no text that can be read"),
            (with_ids(matrix()), "\"ids\": found an array of shape [2, 3], expected one dimension of ids"),
            (b"PK\x03\x04 nonsense".to_vec(), "found no sound .npz archive"),
        ] {
            let message = refusal(&bytes);
            assert!(message.contains(expected), "{expected:?}: {message}");
        }
        let whole = stored(&[("x", matrix())]);
        for end in (0..whole.len()).step_by(7) {
            refusal(&whole[..end]);
        }
    }

    #[test]
    fn each_side_takes_the_array_and_the_ids_that_are_called_its_own() {
        let stored = |members: &[(&str, Vec<u8>)]| archive(CompressionMethod::Stored, members);
        let of = |bytes: &[u8], side| read(Path::new("v.npz"), bytes, Some(side));
        let ids = |text: &str| id_array("<U2", 1, &utf32(&[text], 2));
        let both = stored(&[
            ("corpus", plain(1, 3, &VALUES[3..])),
            ("corpus_ids", ids("d1")),
            ("queries", plain(1, 3, &VALUES[..3])),
            ("query_ids", ids("q1")),
        ]);
        for (side, values, id) in [(Side::Queries, &VALUES[..3], "q1"), (Side::Documents, &VALUES[3..], "d1")]
        {
            let Found { matrix, ids } = of(&both, side).expect("read");
            assert_eq!((matrix.as_slice(), ids.expect("ids").get(0)), (values, Some(id)));
        }
        let others = stored(&[("corpus", plain(1, 3, &VALUES[3..])), ("corpus_ids", ids("d1"))]);
        let message = crate::failure::refusal(of(&others, Side::Queries));
        assert!(
            message
                .contains("v.npz: found the arrays \"corpus\", none of which says that it is of the queries"),
            "{message}"
        );
        let others = stored(&[("embeddings", plain(1, 3, &VALUES[3..])), ("query_ids", ids("q1"))]);
        let message = crate::failure::refusal(of(&others, Side::Documents));
        let expected =
            "found the ids \"query_ids\", expected those of the documents, called \"corpus_ids\" or \"ids\"";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_member_that_claims_more_than_can_be_in_it_is_refused() {
        let mut bytes = archive(CompressionMethod::Deflated, &[("x", plain(2, 3, &VALUES))]);
        // The uncompressed size stands 24 bytes into the entry of the central directory.
        let entry = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").expect("a directory");
        bytes[entry + 24..entry + 28].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        let message = refusal(&bytes);
        assert!(message.contains("the archive says 2147483647 bytes come of"), "{message}");
    }

    proptest! {
        #[test]
        fn no_damaged_byte_makes_the_reader_panic(position in 0_usize..700, byte in any::<u8>()) {
            let ids = id_array("<U2", 2, &utf32(&["a", "b"], 2));
            let mut bytes = archive(CompressionMethod::Deflated, &[("x", plain(2, 3, &VALUES)), ("ids", ids)]);
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(Found { matrix, .. }) = parse(&bytes) {
                prop_assert_eq!(matrix.as_slice().len(), matrix.rows() * matrix.dim());
            }
        }
    }
}
