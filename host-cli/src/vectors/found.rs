//! What a file of vectors holds, whatever its format.

use std::path::Path;

use super::{Matrix, json_vectors, npy, npz, safetensors};
use crate::failure::Failure;
use crate::ids::Ids;

/// Vectors as a file has them, not checked to be finite yet.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) matrix: Matrix,
    /// The ids of the rows, where the file has them.
    pub(super) ids: Option<Ids>,
}

/// A format of files of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Npy,
    Npz,
    Safetensors,
    Parquet,
    Json,
}

impl Format {
    /// The endings under which a folder is searched; binary ones come first.
    pub(super) const ENDINGS: [(&'static str, Self); 6] = [
        ("npy", Self::Npy),
        ("npz", Self::Npz),
        ("safetensors", Self::Safetensors),
        ("parquet", Self::Parquet),
        ("jsonl", Self::Json),
        ("json", Self::Json),
    ];

    /// The format of a file by its contents; where they say nothing, as in a file that is cut off, by its name.
    pub(super) fn of(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.starts_with(npy::MAGIC) {
            return Ok(Self::Npy);
        }
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            return Ok(Self::Npz);
        }
        if bytes.starts_with(b"PAR1") {
            return Ok(Self::Parquet);
        }
        if safetensors::is_one(bytes) {
            return Ok(Self::Safetensors);
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        if matches!(text.first(), Some(b'{' | b'[')) {
            return Ok(Self::Json);
        }
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let named = Self::ENDINGS.iter().find(|(name, _)| *name == ending);
        named.map(|&(_, format)| format).ok_or_else(|| {
            let problem = "this is no file of vectors that is known; expected .npy, .npz, .safetensors, .parquet, JSON \
                           Lines {\"id\": …, \"embedding\": [numbers]}, or what an embedding service answered";
            Failure::input(file, problem)
        })
    }
}

/// Reads a file of any format.
pub(super) fn load(file: &Path) -> Result<Found, Failure> {
    let map = super::map(file)?;
    match Format::of(file, &map)? {
        Format::Npy => Ok(Found { matrix: npy::load(file, map)?, ids: None }),
        Format::Npz => npz::read(file, &map),
        Format::Safetensors => safetensors::load(file, map),
        #[cfg(feature = "parquet")]
        Format::Parquet => super::parquet::read(file, bytes::Bytes::from_owner(map)),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => parquet(file, &map),
        Format::Json => json_vectors::read(file, &map),
    }
}

/// Reads the contents of a file of any format into memory; errors name `file`.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Found, Failure> {
    match Format::of(file, bytes)? {
        Format::Npy => Ok(Found { matrix: npy::parse(file, bytes)?, ids: None }),
        Format::Npz => npz::read(file, bytes),
        Format::Safetensors => safetensors::parse(file, bytes),
        Format::Parquet => parquet(file, bytes),
        Format::Json => json_vectors::read(file, bytes),
    }
}

#[cfg(feature = "parquet")]
fn parquet(file: &Path, bytes: &[u8]) -> Result<Found, Failure> {
    super::parquet::read(file, bytes::Bytes::copy_from_slice(bytes))
}

#[cfg(not(feature = "parquet"))]
fn parquet(file: &Path, _: &[u8]) -> Result<Found, Failure> {
    let problem = "this is a Parquet file, which this program was built without; build it with `--features parquet`, or \
                   save the vectors as .npy, .safetensors or JSON Lines";
    Err(Failure::input(file, problem))
}
