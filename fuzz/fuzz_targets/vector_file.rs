//! Files of vectors of every format: `.npy`, `.npz`, `.safetensors`, Parquet, JSON rows and what services answer. No bytes
//! make a reader panic or ask for more memory than the file is worth; what is accepted is whole, and the same when it is
//! read again.

#![no_main]

use std::path::Path;

use host_cli::vectors::Matrix;
use libfuzzer_sys::fuzz_target;
use query_adapter_fuzz::{assert_same, check_refusal};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

const FILE: &str = "fuzz.vectors";

fuzz_target!(|bytes: &[u8]| {
    let (matrix, ids) = match Matrix::parse_any_format(Path::new(FILE), bytes) {
        Ok(read) => read,
        Err(failure) => return check_refusal(&failure, FILE),
    };
    let (rows, dim) = (matrix.rows(), matrix.dim());
    assert_eq!(matrix.as_slice().len(), rows * dim);
    let (again, ids_again) = Matrix::parse_any_format(Path::new(FILE), bytes).expect("as before");
    assert_same(again.as_slice(), matrix.as_slice(), "read again");
    let list =
        |ids: Option<host_cli::ids::Ids>| ids.map(|ids| ids.iter().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(list(ids), list(ids_again));
    if let Ok(tensors) = SafeTensors::deserialize(bytes) {
        check_tensors(&tensors, &matrix);
    }
});

/// What was read is one of the tensors.
fn check_tensors(tensors: &SafeTensors<'_>, matrix: &Matrix) {
    let of = |(_, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F16 => {
                data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            Dtype::BF16 => {
                data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            Dtype::F64 => {
                let value = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("eight bytes")) as f32;
                data.chunks_exact(8).map(value).collect()
            }
            _ => return false,
        };
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        tensor.shape() == [matrix.rows(), matrix.dim()]
            && values.len() == matrix.as_slice().len()
            && values.iter().zip(matrix.as_slice()).all(same)
    };
    assert!(tensors.iter().any(of), "no tensor of the file has these values");
}
