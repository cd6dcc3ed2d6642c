//! Embedding vectors: a matrix with an id per row, from a JSON file or memory-mapped `.npy` files.

pub(crate) mod components;
mod id_list;
mod npy;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use npy::Npy;

use crate::contents;
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;

/// Vectors with an id each, all of one dimension and finite, in the order of their file.
#[derive(Clone, Debug)]
pub struct Vectors {
    source: String,
    ids: Ids,
    matrix: Matrix,
}

impl Vectors {
    /// Vectors from `components`, row after row, `dim` each, as a reader has checked them.
    pub(crate) fn from_rows(source: String, ids: Ids, dim: usize, components: Vec<f32>) -> Self {
        debug_assert_eq!(components.len(), ids.len() * dim);
        let matrix = Matrix { rows: ids.len(), dim, storage: Storage::Owned(components.into()) };
        Self { source, ids, matrix }
    }

    /// Reads a `.npy` matrix and the JSON list of the ids of its rows.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a file cannot be read, the number of ids differs from the number of rows, an
    /// id stands there twice, or a value is NaN or infinite.
    pub fn load(matrix_file: &Path, ids_file: &Path) -> Result<Self, Failure> {
        let matrix = Matrix::load(matrix_file)?;
        let ids = id_list::load(ids_file)?;
        if ids.len() != matrix.rows {
            let (found, expected) = (ids.len(), matrix.rows);
            let matrix_file = matrix_file.display();
            let problem = format!(
                "found {found} ids, expected {expected}, one for each row of {matrix_file}; \
                 write both files from one list"
            );
            return Err(Failure::input(ids_file, problem));
        }
        if let Some((row, component)) = matrix.first_non_finite() {
            let value = matrix.row(row)[component];
            let id = ids.iter().nth(row).map_or_else(String::new, quoted);
            let problem = format!(
                "row {row} ({id}) component {component}: found {value} as a 32-bit float, \
                 expected a finite number; embed this text again"
            );
            return Err(Failure::input(matrix_file, problem));
        }
        Ok(Self { source: matrix_file.display().to_string(), ids, matrix })
    }

    /// Where the vectors come from, as errors and warnings say it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The number of components of each vector; 0 only where there are no vectors.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.matrix.dim
    }

    /// The number of vectors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The vector of a row, `dim` components.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        self.matrix.row(row)
    }

    /// The id of a row.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    #[must_use]
    pub fn id(&self, row: usize) -> &str {
        u32::try_from(row).ok().and_then(|row| self.ids.get(row)).unwrap_or_else(|| panic!("no row {row}"))
    }

    /// The vectors without their ids.
    #[must_use]
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// The row of an id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.ids.index_of(id).map(|row| row as usize)
    }
}

/// The vectors of queries and documents; one pair may serve several data sets.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// The vectors of the queries.
    pub queries: Arc<Vectors>,
    /// The vectors of the documents.
    pub corpus: Arc<Vectors>,
}

impl Embeddings {
    /// Reads a folder with `queries.npy`, `query_ids.json`, `corpus.npy` and `corpus_ids.json`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] as [`Vectors::load`], or when queries and documents have different dimensions.
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        if !folder.is_dir() {
            let problem = "there is no such folder, expected one with queries.npy, query_ids.json, corpus.npy and \
                           corpus_ids.json";
            return Err(Failure::input(folder, problem));
        }
        let load = |matrix, ids| Vectors::load(&folder.join(matrix), &folder.join(ids));
        let embeddings = Self {
            queries: load("queries.npy", "query_ids.json")?.into(),
            corpus: load("corpus.npy", "corpus_ids.json")?.into(),
        };
        embeddings.require_one_dim(folder)?;
        Ok(embeddings)
    }

    /// Refuses queries and documents of different dimensions, which no cosine can compare.
    pub(crate) fn require_one_dim(&self, file: &Path) -> Result<(), Failure> {
        let (queries, corpus) = (&self.queries, &self.corpus);
        if queries.is_empty() || corpus.is_empty() || queries.dim() == corpus.dim() {
            return Ok(());
        }
        let problem = format!(
            "the query vectors have {} components ({} as the first) and the document vectors {} ({}), expected \
             the same number; embed both with one model",
            queries.dim(),
            quoted(queries.id(0)),
            corpus.dim(),
            quoted(corpus.id(0)),
        );
        Err(Failure::input(file, problem))
    }
}

/// A matrix of `f32`, row after row, in memory or mapped from a file.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    dim: usize,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    Owned(Arc<Vec<f32>>),
    /// Little-endian `f32` from this offset to the end of the file; checked when made to be a multiple of 4
    /// bytes at an address that is a multiple of 4.
    Mapped {
        map: Arc<Mmap>,
        offset: usize,
    },
}

impl Matrix {
    /// Reads a two-dimensional `.npy` file of floating-point numbers.
    ///
    /// A file of little-endian `f32` in C order is borrowed from the mapped file and never copied; `f16`,
    /// `f64`, Fortran order and big-endian files are converted in memory. An `f64` beyond the range of `f32`
    /// becomes infinite: see [`first_non_finite`](Self::first_non_finite).
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read, is not a `.npy` file, holds another type than `f16`,
    /// `f32` or `f64`, does not have two dimensions, or is not exactly as long as its header says.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let map = map(file)?;
        let npy = Npy::parse(&map).map_err(|problem| Failure::input(file, problem))?;
        let (rows, dim) = (npy.rows, npy.dim);
        let storage = if npy.is_borrowable() {
            let offset = map.len() - npy.data.len();
            Storage::Mapped { map: Arc::new(map), offset }
        } else {
            Storage::Owned(npy.read().map_err(|problem| Failure::input(file, problem))?.into())
        };
        Ok(Self { rows, dim, storage })
    }

    /// Reads the contents of a `.npy` file, named `file` in errors, into memory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let refuse = |problem| Failure::input(file, problem);
        let npy = Npy::parse(bytes).map_err(refuse)?;
        let (rows, dim) = (npy.rows, npy.dim);
        Ok(Self { rows, dim, storage: Storage::Owned(npy.read().map_err(refuse)?.into()) })
    }

    /// Rows of `dim` components, one after the other; a part of a row is dropped.
    #[must_use]
    pub(crate) fn from_rows(dim: usize, values: Vec<f32>) -> Self {
        Self { rows: values.len().checked_div(dim).unwrap_or(0), dim, storage: Storage::Owned(values.into()) }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of components of each row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// A row, `dim` components.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.as_slice()[row * self.dim..][..self.dim]
    }

    /// All components, row after row.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        match &self.storage {
            Storage::Owned(values) => values,
            Storage::Mapped { map, offset } => bytemuck::cast_slice(&map[*offset..]),
        }
    }

    /// Row and component of the first NaN or infinity.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<(usize, usize)> {
        let position = self.as_slice().iter().position(|value| !value.is_finite())?;
        Some((position / self.dim, position % self.dim))
    }
}

/// Maps a file for reading; an empty file is refused since it cannot be mapped everywhere.
fn map(file: &Path) -> Result<Mmap, Failure> {
    let unreadable = |error| Failure::unreadable(file, &error);
    let opened = File::open(file).map_err(unreadable)?;
    let found = opened.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(Failure::input(file, "this is not a regular file, expected a .npy file"));
    }
    if found.len() == 0 {
        return Err(Failure::input(file, "the file is empty, expected a .npy file"));
    }
    contents::map(&opened).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::npy::test_files::{VALUES, plain};
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a temporary folder"))
        }

        fn with(self, name: &str, bytes: &[u8]) -> Self {
            fs::write(self.path(name), bytes).expect("written");
            self
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn vectors(&self) -> Result<Vectors, Failure> {
            Vectors::load(&self.path("m.npy"), &self.path("ids.json"))
        }
    }

    fn refusal(result: Result<impl core::fmt::Debug, Failure>) -> String {
        let failure = result.expect_err("must be refused");
        assert_eq!(failure.exit_code(), 3);
        let message = failure.to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn missing_files_and_folders_are_named() {
        let folder = Folder::new().with("m.npy", &plain(2, 3, &VALUES));
        assert!(refusal(folder.vectors()).contains("ids.json: there is no such file"));
        assert!(
            refusal(Matrix::load(&folder.path("other.npy"))).contains("other.npy: there is no such file")
        );
        assert!(refusal(Matrix::load(folder.0.path())).contains("this is not a regular file"));
        assert!(refusal(Embeddings::load(&folder.path("m.npy"))).contains("there is no such folder"));
        assert!(refusal(Embeddings::load(folder.0.path())).contains("queries.npy: there is no such file"));
    }

    #[test]
    fn each_row_has_its_id() {
        let folder =
            Folder::new().with("m.npy", &plain(2, 3, &VALUES)).with("ids.json", b"\xef\xbb\xbf[\"b\", 7]");
        let vectors = folder.vectors().expect("read");
        assert_eq!((vectors.len(), vectors.dim(), vectors.id(0), vectors.id(1)), (2, 3, "b", "7"));
        assert_eq!(vectors.row(vectors.index_of("7").expect("an id")), &VALUES[3..]);
        assert_eq!(vectors.index_of("a"), None);
        assert!(vectors.source().ends_with("m.npy"));
    }

    #[test]
    fn ids_that_do_not_fit_the_rows_are_refused() {
        for (ids, expected) in [
            ("[\"a\"]", "ids.json: found 1 ids, expected 2, one for each row of"),
            ("[\"a\", \"b\", \"c\"]", "found 3 ids, expected 2"),
            ("[\"a\", \"a\"]", "entry 2 is \"a\": it was entry 1 already; every row needs an id of its own"),
            ("[7, \"7\"]", "entry 2 is \"7\": it was entry 1 already"),
            ("[\"a\", 1.5]", "line 1 column 9: found floating point `1.5`, expected an id"),
            ("{\"a\": 0}", "found map, expected a sequence"),
            ("[\"a\", ", "the file ends in the middle of a value"),
            ("", "the file is empty"),
        ] {
            let folder = Folder::new().with("m.npy", &plain(2, 3, &VALUES)).with("ids.json", ids.as_bytes());
            let message = refusal(folder.vectors());
            assert!(message.contains(expected), "expected {expected:?}: {message}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused_by_row_id_and_component() {
        for (value, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let mut values = VALUES;
            values[4] = value;
            let folder =
                Folder::new().with("m.npy", &plain(2, 3, &values)).with("ids.json", b"[\"a\", \"b\"]");
            let message = refusal(folder.vectors());
            let expected = format!("m.npy: row 1 (\"b\") component 1: found {found} as a 32-bit float");
            assert!(message.contains(&expected), "{message}");
        }
    }

    #[test]
    fn queries_and_documents_must_have_one_dimension() {
        let folder = |dim| {
            Folder::new()
                .with("queries.npy", &plain(2, 3, &VALUES))
                .with("query_ids.json", b"[\"q1\", \"q2\"]")
                .with("corpus.npy", &plain(6 / dim, dim, &VALUES))
                .with(
                    "corpus_ids.json",
                    if dim == 3 { b"[\"d1\", \"d2\"]" } else { b"[\"d1\",\"d2\",\"d3\"]" },
                )
        };
        let embeddings = Embeddings::load(folder(3).0.path()).expect("read");
        assert_eq!((embeddings.queries.dim(), embeddings.corpus.dim()), (3, 3));
        let message = refusal(Embeddings::load(folder(2).0.path()));
        assert!(message.contains("the query vectors have 3 components (\"q1\" as the first)"), "{message}");
        assert!(message.contains("the document vectors 2 (\"d1\"), expected the same number"), "{message}");
    }
}
