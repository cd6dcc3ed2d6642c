//! Queries that have nothing to do with the training pairs, whose rankings an adapter should leave as they are.

use std::io::Read as _;
use std::path::Path;

use crate::failure::Failure;
use crate::retrieval_task::{RetrievalTask, checked_norm};
use crate::vector_source::VectorSource;
use crate::vectors::Vectors;

/// How every `.npy` file begins.
const NPY_MAGIC: [u8; 6] = *b"\x93NUMPY";

/// Reads the queries of `file`, over the documents of `train`: a data set whose vectors are where those of the others are,
/// or a `.npy` file with a vector a row.
///
/// # Errors
///
/// As [`Vectors::load_numbered`], [`VectorSource::require_same_model`] and [`VectorSource::load_queries`], and [`Failure::Input`] for vectors that are too long or
/// of another dimension than those of `train`, or none.
pub(super) fn load(
    file: &Path,
    source: &mut VectorSource,
    train: &RetrievalTask,
    note: &mut dyn FnMut(&str),
) -> Result<RetrievalTask, Failure> {
    let vectors = if is_npy(file) {
        source.require_same_model(file)?;
        Vectors::load_numbered(file)?
    } else {
        source.load_queries(file, note)?
    };
    if vectors.dim() != train.dim() {
        let problem = format!(
            "its vectors have {} components, those of {} have {}; embed both with one model",
            vectors.dim(),
            train.file().display(),
            train.dim()
        );
        return Err(Failure::input(file, problem));
    }
    for row in 0..vectors.len() {
        checked_norm(file, "query", vectors.id(row), vectors.row(row))?;
    }
    train
        .with_queries(file, &vectors)
        .ok_or_else(|| Failure::input(file, "there is no query in it, expected a vector a row"))
}

/// By its name or its first bytes; what cannot be opened is for the reader to refuse.
fn is_npy(file: &Path) -> bool {
    let mut first = [0; NPY_MAGIC.len()];
    let mut begins = || std::fs::File::open(file)?.read_exact(&mut first).map(|()| first == NPY_MAGIC);
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
        || begins().unwrap_or(false)
}
