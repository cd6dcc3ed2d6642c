//! What a file of vectors holds, whatever its format.

use std::path::Path;

use super::{Matrix, json_vectors, npy, npz, safetensors};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;

/// Vectors as a file has them, not checked to be finite yet.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) matrix: Matrix,
    /// The ids of the rows, where the file has them.
    pub(super) ids: Option<Ids>,
}

/// Whose vectors are wanted of a file, which may hold those of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The queries'.
    Queries,
    /// The documents'.
    Documents,
}

impl Side {
    /// The file beside a matrix that may hold the ids of its rows.
    pub(super) fn ids_file(self) -> &'static str {
        match self {
            Self::Queries => "query_ids.json",
            Self::Documents => "corpus_ids.json",
        }
    }
}

/// The names of a part of a file, each list with the likeliest first.
pub(super) struct Names {
    either: &'static [&'static str],
    queries: &'static [&'static str],
    documents: &'static [&'static str],
}

/// The names of a matrix.
pub(super) const MATRICES: Names = Names {
    either: &["embeddings", "embedding", "vectors", "vector"],
    queries: &["queries"],
    documents: &["corpus"],
};

/// The names of the ids of its rows.
pub(super) const IDS: Names = Names {
    either: &["ids", "id", "_id"],
    queries: &["query_ids", "query_id", "qid"],
    documents: &["corpus_ids", "document_ids", "doc_ids", "document_id", "doc_id", "docid"],
};

impl Names {
    /// Whether a name is one of these, whosever.
    pub(super) fn have(&self, name: &str) -> bool {
        [self.either, self.queries, self.documents].concat().contains(&name)
    }

    /// The name that is meant among those that are `there`: a side's own, or else one that is of either; without a side any
    /// that is known.
    fn find<'a>(&self, side: Option<Side>, there: &[&'a str]) -> Option<&'a str> {
        let known = match side {
            None => [self.either, self.queries, self.documents],
            Some(Side::Queries) => [self.queries, self.either, &[]],
            Some(Side::Documents) => [self.documents, self.either, &[]],
        };
        known.into_iter().flatten().find_map(|known| there.iter().copied().find(|name| name == known))
    }

    /// Whether a name says that the part is the other side's.
    fn are_others(&self, side: Option<Side>, name: &str) -> bool {
        match side {
            None => false,
            Some(Side::Queries) => self.documents.contains(&name),
            Some(Side::Documents) => self.queries.contains(&name),
        }
    }

    /// What a part should be called, and whose it would be.
    fn wanted(&self, side: Option<Side>) -> (String, &'static str) {
        let either = quoted(self.either[0]);
        match side {
            None => (either, "either"),
            Some(Side::Queries) => (format!("{} or {either}", quoted(self.queries[0])), "the queries"),
            Some(Side::Documents) => (format!("{} or {either}", quoted(self.documents[0])), "the documents"),
        }
    }
}

/// The matrix that is meant among several, which are called `kind` and are some of `all`. The only one may have any name but
/// one that says that it is the other side's.
pub(super) fn matrix<'a>(
    side: Option<Side>,
    matrices: &[&'a str],
    (kind, all): (&str, &[&str]),
    expected: &str,
) -> Result<&'a str, String> {
    let others = |name: &&str| MATRICES.are_others(side, name);
    match (MATRICES.find(side, matrices), matrices) {
        (_, [only]) if !others(only) => return Ok(only),
        (Some(name), _) => return Ok(name),
        _ => {}
    }
    let (wanted, whose) = MATRICES.wanted(side);
    Err(match matrices.iter().any(others) {
        true => format!(
            "found the {kind} {}, none of which says that it is of {whose}; call that one {wanted}",
            list(matrices)
        ),
        false => format!("found the {kind} {}, expected {expected}, or one called {wanted}", list(all)),
    })
}

/// The ids that are meant, if there are any.
pub(super) fn ids<'a>(side: Option<Side>, there: &[&'a str]) -> Result<Option<&'a str>, String> {
    if let Some(name) = IDS.find(side, there) {
        return Ok(Some(name));
    }
    let mut others: Vec<&str> = there.iter().copied().filter(|name| IDS.are_others(side, name)).collect();
    others.sort_unstable();
    let (wanted, whose) = IDS.wanted(side);
    match others.is_empty() {
        true => Ok(None),
        false => Err(format!("found the ids {}, expected those of {whose}, called {wanted}", list(&others))),
    }
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
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

/// Reads a file of any format, of what it holds that of a side, where that counts.
pub(super) fn load(file: &Path, side: Option<Side>) -> Result<Found, Failure> {
    let map = super::map(file)?;
    match Format::of(file, &map)? {
        Format::Npy => Ok(Found { matrix: npy::load(file, map)?, ids: None }),
        Format::Npz => npz::read(file, &map, side),
        Format::Safetensors => safetensors::load(file, map, side),
        #[cfg(feature = "parquet")]
        Format::Parquet => super::parquet::read(file, bytes::Bytes::from_owner(map), side),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => parquet(file, &map),
        Format::Json => json_vectors::read(file, &map),
    }
}

/// Reads the contents of a file of any format into memory; errors name `file`.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Found, Failure> {
    match Format::of(file, bytes)? {
        Format::Npy => Ok(Found { matrix: npy::parse(file, bytes)?, ids: None }),
        Format::Npz => npz::read(file, bytes, None),
        Format::Safetensors => safetensors::parse(file, bytes, None),
        Format::Parquet => parquet(file, bytes),
        Format::Json => json_vectors::read(file, bytes),
    }
}

#[cfg(feature = "parquet")]
fn parquet(file: &Path, bytes: &[u8]) -> Result<Found, Failure> {
    super::parquet::read(file, bytes::Bytes::copy_from_slice(bytes), None)
}

#[cfg(not(feature = "parquet"))]
fn parquet(file: &Path, _: &[u8]) -> Result<Found, Failure> {
    let problem = "this is a Parquet file, which this program was built without; build it with `--features parquet`, or \
                   save the vectors as .npy, .safetensors or JSON Lines";
    Err(Failure::input(file, problem))
}
