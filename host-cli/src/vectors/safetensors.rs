//! Matrices as `.safetensors` files.

use std::path::Path;

use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Dtype, TensorView};
use half::{bf16, f16};
use memmap2::Mmap;

use super::found::{self, Found, Side};
use super::{Matrix, id_list};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;

/// Whether the bytes begin as such a file does: the length of its header, which is in the file, and a brace.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    let length = u64::from_le_bytes(*length);
    rest.first() == Some(&b'{') && u64::try_from(rest.len()).is_ok_and(|rest| length <= rest)
}

/// Reads a mapped file: `f32` are borrowed from it where they lie at a multiple of 4.
pub(super) fn load(file: &Path, map: Mmap, side: Option<Side>) -> Result<Found, Failure> {
    let Chosen { rows, dim, data, borrowable, ids, values } = choose(file, &map, side)?;
    if !borrowable {
        return Ok(Found { matrix: Matrix::owned(rows, dim, values), ids });
    }
    Ok(Found { matrix: Matrix::mapped(rows, dim, map, data), ids })
}

/// Reads the contents of a file into memory.
pub(super) fn parse(file: &Path, bytes: &[u8], side: Option<Side>) -> Result<Found, Failure> {
    let Chosen { rows, dim, data, borrowable, ids, values } = choose(file, bytes, side)?;
    let values = if borrowable { bytemuck::cast_slice(&bytes[data]).to_vec() } else { values };
    Ok(Found { matrix: Matrix::owned(rows, dim, values), ids })
}

/// The matrix that is meant.
struct Chosen {
    rows: usize,
    /// At least 1.
    dim: usize,
    /// Where its elements lie in the file.
    data: core::ops::Range<usize>,
    /// Whether they are `f32` as this machine has them, at an address that fits.
    borrowable: bool,
    ids: Option<Ids>,
    /// The elements, unless they can be borrowed.
    values: Vec<f32>,
}

fn choose(file: &Path, bytes: &[u8], side: Option<Side>) -> Result<Chosen, Failure> {
    let refuse = |problem: String| Failure::input(file, problem);
    let tensors = open(file, bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| refuse(error.to_string()))?;
    let metadata = header.metadata().as_ref();
    let keys: Vec<&str> = metadata.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let key = found::ids(side, &keys).map_err(|problem| refuse(format!("its metadata: {problem}")))?;
    let ids = match key.and_then(|key| metadata?.get(key)) {
        Some(text) => Some(id_list::parse(file, "the ids in its metadata", text.as_bytes())?),
        None => None,
    };
    let mut names = tensors.names();
    names.sort_unstable();
    let matrices: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| tensors.tensor(name).is_ok_and(|tensor| tensor.shape().len() == 2))
        .collect();
    let expected = "one with two dimensions (rows, components)";
    let name = found::matrix(side, &matrices, ("tensors", &names), expected).map_err(refuse)?;
    let tensor = tensors.tensor(name).map_err(|error| refuse(error.to_string()))?;
    let [rows, dim] = *tensor.shape() else {
        return Err(refuse(format!("the tensor {} is no matrix", quoted(name))));
    };
    if dim == 0 {
        return Err(refuse(format!(
            "the vectors of {} have no components, expected at least one",
            quoted(name)
        )));
    }
    let data = tensor.data();
    let start = data.as_ptr().addr() - bytes.as_ptr().addr();
    let borrowable = cfg!(target_endian = "little")
        && tensor.dtype() == Dtype::F32
        && bytemuck::try_cast_slice::<u8, f32>(data).is_ok();
    let values = if borrowable {
        Vec::new()
    } else {
        values(&tensor).map_err(|problem| refuse(format!("{}: {problem}", quoted(name))))?
    };
    Ok(Chosen { rows, dim, data: start..start + data.len(), borrowable, ids, values })
}

/// The tensors in the contents of `file`.
pub(crate) fn open<'a>(file: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, Failure> {
    // The library holds all lengths of the header against the length of the file before it takes memory for them.
    SafeTensors::deserialize(bytes).map_err(|error| {
        let problem =
            format!("found no sound safetensors file ({error}); it is cut off or damaged, write it again");
        Failure::input(file, problem)
    })
}

/// The elements of a tensor as `f32`.
#[allow(clippy::cast_possible_truncation, reason = "rounds to nearest; an overflow is found as infinite")]
pub(crate) fn values(tensor: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let data = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::F64 => data.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32).collect(),
        other => {
            return Err(format!(
                "found elements of type {other:?}, expected F32, F16, BF16 or F64; save them as F32"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ::safetensors::serialize;
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::Storage;

    /// 2 × 3; every value is exact in 16 bits.
    const VALUES: [f32; 6] = [1.5, -2.0, 0.25, 4.0, 5.5, -6.0];

    fn bytes_of(dtype: Dtype, values: &[f32]) -> Vec<u8> {
        let each = |value: &f32| match dtype {
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        values.iter().flat_map(each).collect()
    }

    fn file(tensors: &[(&str, Dtype, &[usize], &[f32])], ids: Option<&str>) -> Vec<u8> {
        let data: Vec<Vec<u8>> =
            tensors.iter().map(|(_, dtype, _, values)| bytes_of(*dtype, values)).collect();
        let views = tensors.iter().zip(&data).map(|((name, dtype, shape, _), data)| {
            (name.to_string(), TensorView::new(*dtype, shape.to_vec(), data).expect("a tensor"))
        });
        let metadata = ids.map(|ids| HashMap::from([("ids".to_owned(), ids.to_owned())]));
        serialize(views, metadata).expect("written")
    }

    fn read(bytes: &[u8]) -> Result<Found, Failure> {
        parse(Path::new("v.safetensors"), bytes, None)
    }

    fn refusal(bytes: &[u8]) -> String {
        crate::failure::refusal(read(bytes))
    }

    #[test]
    fn every_type_of_float_gives_the_same_matrix_in_memory_and_mapped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("v.safetensors");
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64] {
            let bytes = file(&[("x", dtype, &[2, 3], &VALUES)], Some("[\"a\", 7]"));
            std::fs::write(&path, &bytes).expect("written");
            let mapped = load(&path, crate::vectors::map(&path).expect("mapped"), None).expect("read");
            assert_eq!(matches!(mapped.matrix.storage, Storage::Mapped { .. }), dtype == Dtype::F32);
            for Found { matrix, ids } in [read(&bytes).expect("read"), mapped] {
                assert_eq!(
                    (matrix.rows(), matrix.dim(), matrix.as_slice()),
                    (2, 3, &VALUES[..]),
                    "{dtype:?}"
                );
                assert_eq!(ids.expect("ids").iter().collect::<Vec<_>>(), ["a", "7"]);
            }
        }
    }

    #[test]
    fn tensors_that_begin_anywhere_are_read() {
        let whole = file(&[("x", Dtype::F32, &[2, 3], &VALUES)], None);
        let (length, rest) = whole.split_first_chunk::<8>().expect("a header");
        for spaces in 1..8_u8 {
            let length = (u64::from_le_bytes(*length) + u64::from(spaces)).to_le_bytes();
            let (header, data) = rest.split_at(rest.len() - 24);
            let moved = [&length[..], header, &vec![b' '; spaces.into()], data].concat();
            assert_eq!(read(&moved).expect("read").matrix.as_slice(), VALUES, "{spaces} spaces");
        }
    }

    #[test]
    fn the_matrix_that_is_meant_is_found() {
        let of = |names: &[&str]| {
            let tensors: Vec<_> =
                names.iter().map(|name| (*name, Dtype::F32, &[2_usize, 3][..], &VALUES[..])).collect();
            read(&file(&tensors, None)).map(|_| ()).map_err(|failure| failure.to_string())
        };
        assert_eq!(of(&["anything"]), Ok(()));
        assert_eq!(of(&["a", "embeddings"]), Ok(()));
        let message = of(&["b", "a"]).expect_err("two");
        assert!(
            message.contains("found the tensors \"a\", \"b\", expected one with two dimensions"),
            "{message}"
        );
        let flat = file(&[("x", Dtype::F32, &[6], &VALUES)], None);
        assert!(refusal(&flat).contains("found the tensors \"x\", expected one with two dimensions"));
        assert!(refusal(&file(&[], None)).contains("found the tensors none"));
        assert!(
            refusal(&file(&[("x", Dtype::F32, &[2, 0], &[])], None)).contains("\"x\" have no components")
        );
        assert!(
            refusal(&file(&[("x", Dtype::I32, &[2, 3], &VALUES)], None)).contains("elements of type I32")
        );
        let twice = file(&[("x", Dtype::F32, &[2, 3], &VALUES)], Some("[\"a\", \"a\"]"));
        assert!(
            refusal(&twice).contains("the ids in its metadata: entry 2 is \"a\": it was entry 1 already")
        );
    }

    #[test]
    fn each_side_takes_what_is_called_its_own() {
        let of = |names: &[&str], side| {
            let values: Vec<[f32; 2]> = (0..names.len()).map(|at| [at as f32, 1.0]).collect();
            let tensors: Vec<_> = names
                .iter()
                .zip(&values)
                .map(|(name, values)| (*name, Dtype::F32, &[1_usize, 2][..], &values[..]))
                .collect();
            parse(Path::new("v.safetensors"), &file(&tensors, None), Some(side))
        };
        let first = |names: &[&str], side| of(names, side).expect("read").matrix.row(0)[0];
        for (names, expected) in [
            (&["corpus", "embeddings", "queries"][..], [2.0, 0.0]),
            (&["corpus", "embeddings"], [1.0, 0.0]),
            (&["embeddings", "queries"], [1.0, 0.0]),
            (&["x"], [0.0, 0.0]),
        ] {
            let found = [Side::Queries, Side::Documents].map(|side| first(names, side));
            assert_eq!(found, expected, "{names:?}");
        }
        for (names, side, expected) in [
            (
                &["corpus"][..],
                Side::Queries,
                "v.safetensors: found the tensors \"corpus\", none of which says that it is of the queries; call that \
                 one \"queries\" or \"embeddings\"",
            ),
            (
                &["a", "queries"],
                Side::Documents,
                "found the tensors \"a\", \"queries\", none of which says that it is of the documents; call that one \
                 \"corpus\" or \"embeddings\"",
            ),
            (
                &["a", "b"],
                Side::Queries,
                "found the tensors \"a\", \"b\", expected one with two dimensions (rows, components), or one called \
                 \"queries\" or \"embeddings\"",
            ),
        ] {
            let message = crate::failure::refusal(of(names, side));
            assert!(message.contains(expected), "{names:?}: {message}");
        }
    }

    #[test]
    fn sizes_that_the_file_does_not_have_are_refused() {
        let whole = file(&[("x", Dtype::F32, &[2, 3], &VALUES)], None);
        for end in 0..whole.len() {
            refusal(&whole[..end]);
        }
        for (found, claimed) in
            [("[2,3]", "[9,3]"), ("[0,24]", "[0,99]"), ("[2,3]", "[4611686018427387904,4]")]
        {
            let text = String::from_utf8_lossy(&whole[8..whole.len() - 24]).trim_end().to_owned();
            assert!(text.contains(found), "{text}");
            let header = text.replace(found, claimed);
            let bytes =
                [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &whole[whole.len() - 24..]]
                    .concat();
            assert!(refusal(&bytes).contains("found no sound safetensors file"), "{claimed}");
        }
        let mut bomb = whole.clone();
        bomb[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refusal(&bomb).contains("found no sound safetensors file"));
        assert!(!is_one(&bomb) && is_one(&whole));
    }

    #[test]
    fn values_beyond_f32_become_infinite_for_whoever_names_them() {
        let data: Vec<u8> = [1e-45, 1e39_f64].iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F64, vec![1, 2], &data).expect("a tensor");
        let bytes = serialize([("x", view)], None).expect("written");
        let matrix = read(&bytes).expect("read").matrix;
        assert_eq!(matrix.row(0)[0].to_bits(), 1);
        assert_eq!(matrix.first_non_finite(), Some((0, 1)));
    }

    proptest! {
        #[test]
        fn no_damaged_byte_makes_the_reader_panic(position in 0_usize..160, byte in any::<u8>()) {
            let mut bytes = file(&[("x", Dtype::F32, &[2, 3], &VALUES)], Some("[\"a\", \"b\"]"));
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(Found { matrix, .. }) = read(&bytes) {
                prop_assert_eq!(matrix.as_slice().len(), matrix.rows() * matrix.dim());
            }
        }
    }
}
