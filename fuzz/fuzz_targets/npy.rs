//! `.npy` files: no bytes make the reader panic, and every element of an accepted file is the one its bytes say.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use half::f16;
use host_cli::vectors::Matrix;
use libfuzzer_sys::fuzz_target;
use npyz::{DType, Endianness, NpyHeader, Order};
use query_adapter_fuzz::{assert_same, same};

/// Where accepted inputs are put to be mapped: in memory, where the system has a folder for that.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("query-adapter-fuzz-{}.npy", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    let matrix = match Matrix::parse(Path::new("fuzz.npy"), bytes) {
        Ok(matrix) => matrix,
        Err(failure) => {
            let message = failure.to_string();
            assert!(message.starts_with("fuzz.npy: ") && !message.contains(char::is_control), "{message:?}");
            assert_eq!(failure.exit_code(), 3);
            return;
        }
    };
    let (rows, dim) = (matrix.rows(), matrix.dim());
    assert_eq!(matrix.as_slice().len(), rows * dim);

    let mut data = bytes;
    let header = NpyHeader::from_reader(&mut data).expect("an accepted header");
    let DType::Plain(kind) = header.dtype() else { panic!("an accepted type") };
    let little = kind.endianness() != Endianness::Big;
    let element = |index: usize| {
        let at = index * kind.size_field() as usize;
        let mut bytes = data[at..at + kind.size_field() as usize].to_vec();
        if !little {
            bytes.reverse();
        }
        match bytes[..] {
            [a, b] => f16::from_le_bytes([a, b]).to_f32(),
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
            _ => f64::from_le_bytes(bytes.try_into().expect("eight bytes")) as f32,
        }
    };
    for (index, &found) in matrix.as_slice().iter().enumerate() {
        let (row, component) = (index / dim, index % dim);
        let expected = element(if header.order() == Order::C { index } else { component * rows + row });
        assert!(same(found, expected), "row {row} component {component}: {found:e} for {expected:e}");
        assert!(same(matrix.row(row)[component], found));
    }
    let first = matrix.as_slice().iter().position(|x| !x.is_finite()).map(|i| (i / dim, i % dim));
    assert_eq!(matrix.first_non_finite(), first);

    fs::write(&*FILE, bytes).expect("the folder takes files");
    let mapped = Matrix::load(&FILE).expect("what is accepted in memory is accepted as a file");
    assert_eq!((mapped.rows(), mapped.dim()), (rows, dim));
    assert_same(mapped.as_slice(), matrix.as_slice(), "mapped");
    drop(mapped);
    fs::remove_file(&*FILE).expect("the file is there");
});
