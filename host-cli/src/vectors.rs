//! Embedding vectors: a matrix with an id per row, from files of any format that is known.

pub(crate) mod components;
mod found;
mod id_list;
mod json_vectors;
mod npy;
mod npz;
#[cfg(feature = "parquet")]
mod parquet;
pub(crate) mod safetensors;

use core::ops::Range;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use found::Side;
use found::{Format, Found};
use memmap2::Mmap;
pub(crate) use npy::NpyRows;

use crate::contents;
use crate::failure::Failure;
use crate::files::folder_of;
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
        let matrix = Matrix::owned(ids.len(), dim, components);
        Self { source, ids, matrix }
    }

    /// Reads a matrix of any format and the JSON list of the ids of its rows.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a file cannot be read, the number of ids differs from the number of rows, an
    /// id stands there twice, or a value is NaN or infinite.
    pub fn load(matrix_file: &Path, ids_file: &Path) -> Result<Self, Failure> {
        let Found { matrix, .. } = found::load(matrix_file, None)?;
        Self::with_ids_of(matrix_file, matrix, ids_file)
    }

    /// Reads a file of vectors of any format, of one that holds several those of `side`. Where it does not hold the ids of
    /// its rows, they stand beside it: in a file of its name with `_ids.json` for the ending, or in `query_ids.json` or
    /// `corpus_ids.json`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and where all that the file holds is the other side's.
    pub fn read(file: &Path, side: Side) -> Result<Self, Failure> {
        let Found { matrix, ids } = found::load(file, Some(side))?;
        let ids_name = side.ids_file();
        if let Some(ids) = ids {
            return Self::checked(file, file, matrix, ids);
        }
        let own = own_ids_file(file);
        let beside = file.with_file_name(ids_name);
        if !own.is_file() && !beside.is_file() {
            let problem = format!(
                "found no ids of its rows, expected a JSON list of them beside it in {ids_name}; write it from the same \
                 texts"
            );
            return Err(Failure::input(file, problem));
        }
        Self::with_ids_of(file, matrix, if own.is_file() { &own } else { &beside })
    }

    fn with_ids_of(matrix_file: &Path, matrix: Matrix, ids_file: &Path) -> Result<Self, Failure> {
        Self::checked(matrix_file, ids_file, matrix, id_list::load(ids_file)?)
    }

    fn checked(matrix_file: &Path, ids_file: &Path, matrix: Matrix, ids: Ids) -> Result<Self, Failure> {
        if ids.len() != matrix.rows {
            let (found, expected) = (ids.len(), matrix.rows);
            let matrix_file = matrix_file.display();
            let problem = format!(
                "found {found} ids, expected {expected}, one for each row of {matrix_file}; \
                 write both from one list"
            );
            return Err(Failure::input(ids_file, problem));
        }
        Self { source: matrix_file.display().to_string(), ids, matrix }.finite(matrix_file)
    }

    /// Reads a `.npy` matrix whose rows have no ids: they are numbered from 1.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read or a value is NaN or infinite.
    pub(crate) fn load_numbered(file: &Path) -> Result<Self, Failure> {
        let matrix = Matrix::load(file)?;
        let mut ids = Ids::default();
        for row in 1..=matrix.rows {
            let problem = |rejected| Failure::input(file, format!("row {row}: {rejected}"));
            ids.push(&row.to_string()).map_err(problem)?;
        }
        Self { source: file.display().to_string(), ids, matrix }.finite(file)
    }

    /// Refuses NaN and infinite values of `file`.
    fn finite(self, file: &Path) -> Result<Self, Failure> {
        let Some((row, component)) = self.matrix.first_non_finite() else { return Ok(self) };
        let problem = format!(
            "row {row} ({}) component {component}: found {} as a 32-bit float, expected a finite number; embed this \
             text again",
            quoted(self.id(row)),
            self.row(row)[component]
        );
        Err(Failure::input(file, problem))
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

    /// The ids of the rows, in their order.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
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
    /// Reads a folder with the vectors of the queries in `queries.npy` and those of the documents in `corpus.npy`, or in
    /// files of another format under the same names; [`Vectors::read`] says where the ids are.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] as [`Vectors::read`], when a file is missing or stands there in several formats, or when
    /// queries and documents have different dimensions.
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        if !folder.is_dir() {
            let problem = "there is no such folder, expected one with queries.npy, query_ids.json, corpus.npy and \
                           corpus_ids.json";
            return Err(Failure::input(folder, problem));
        }
        let load = |name, side| Vectors::read(&file_of(folder, name)?, side);
        let embeddings = Self {
            queries: load("queries", Side::Queries)?.into(),
            corpus: load("corpus", Side::Documents)?.into(),
        };
        embeddings.require_one_dim(folder)?;
        Ok(embeddings)
    }

    /// Whether a folder holds vectors.
    #[must_use]
    pub fn are_in(folder: &Path) -> bool {
        Format::ENDINGS.iter().any(|(ending, _)| folder.join(format!("corpus.{ending}")).is_file())
    }

    /// The files that may hold vectors or ids, whether there or not: those in a folder, or a file and what may stand beside it.
    pub(crate) fn files_of(path: &Path) -> Vec<PathBuf> {
        let ids_in =
            |folder: &Path| [Side::Queries, Side::Documents].map(|side| folder.join(side.ids_file()));
        if path.is_dir() {
            let matrices = ["queries", "corpus"].into_iter().flat_map(|name| {
                Format::ENDINGS.iter().map(move |(ending, _)| path.join(format!("{name}.{ending}")))
            });
            return matrices.chain(ids_in(path)).collect();
        }
        let own = [path.to_owned(), own_ids_file(path)];
        own.into_iter().chain(ids_in(folder_of(path))).collect()
    }

    /// Reads two files of vectors, see [`Vectors::read`].
    ///
    /// # Errors
    ///
    /// As [`Vectors::read`], or when queries and documents have different dimensions.
    pub fn load_files(queries: &Path, documents: &Path) -> Result<Self, Failure> {
        let embeddings = Self {
            queries: Vectors::read(queries, Side::Queries)?.into(),
            corpus: Vectors::read(documents, Side::Documents)?.into(),
        };
        embeddings.require_one_dim(queries)?;
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

/// The file beside one of vectors with the ids of its rows, named after it.
fn own_ids_file(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}_ids.json"))
}

/// The file of vectors that is called `name`, whatever its ending.
fn file_of(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let there = |&(ending, format): &(&str, Format)| {
        let file = folder.join(format!("{name}.{ending}"));
        file.is_file().then_some((file, format))
    };
    let found: Vec<(PathBuf, Format)> = Format::ENDINGS.iter().filter_map(there).collect();
    // Texts may stand beside vectors as JSON.
    let (json, binary): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, format)| *format == Format::Json);
    let candidates = if binary.is_empty() { json } else { binary };
    match &candidates[..] {
        [] => {
            let endings: Vec<_> =
                Format::ENDINGS.iter().skip(1).map(|(ending, _)| format!(".{ending}")).collect();
            let problem =
                format!("there is no such file, nor one that ends in {}; check the path", endings.join(", "));
            Err(Failure::input(&folder.join(format!("{name}.npy")), problem))
        }
        [(file, _)] => Ok(file.clone()),
        [(file, _), (other, _), ..] => {
            let other = other.file_name().unwrap_or_default().to_string_lossy();
            Err(Failure::input(file, format!("{other} stands beside it; keep the one that is meant")))
        }
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
    /// Little-endian `f32` at these bytes of the file; checked when made to be a multiple of 4 bytes at an address that
    /// is a multiple of 4.
    Mapped {
        map: Arc<Mmap>,
        data: Range<usize>,
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
        npy::load(file, map(file)?)
    }

    /// Reads the contents of a `.npy` file, named `file` in errors, into memory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        npy::parse(file, bytes)
    }

    /// Reads a file of vectors of any format, with ids or without.
    ///
    /// # Errors
    ///
    /// As [`Vectors::read`].
    pub fn read(file: &Path) -> Result<Self, Failure> {
        found::load(file, None).map(|found| found.matrix)
    }

    /// Reads the contents of a file of vectors of any format, named `file` in errors, into memory; with the ids of its
    /// rows, where it holds them.
    ///
    /// # Errors
    ///
    /// As [`Vectors::read`].
    pub fn parse_any_format(file: &Path, bytes: &[u8]) -> Result<(Self, Option<Ids>), Failure> {
        let Found { matrix, ids } = found::parse(file, bytes)?;
        Ok((matrix, ids))
    }

    /// The vectors of what a service has just answered, a row each in the order of its texts; perhaps none.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer.
    #[cfg(feature = "endpoint")]
    pub(crate) fn of_answer(bytes: &[u8]) -> Result<Self, String> {
        json_vectors::read_answer(bytes)
    }

    /// A matrix in memory.
    pub(crate) fn owned(rows: usize, dim: usize, values: Vec<f32>) -> Self {
        debug_assert_eq!(values.len(), rows * dim);
        Self { rows, dim, storage: Storage::Owned(values.into()) }
    }

    /// A matrix that is part of a mapped file, which the caller has checked to be `f32` as this machine has them.
    fn mapped(rows: usize, dim: usize, map: Mmap, data: Range<usize>) -> Self {
        debug_assert_eq!(data.len(), rows * dim * size_of::<f32>());
        Self { rows, dim, storage: Storage::Mapped { map: Arc::new(map), data } }
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
            Storage::Mapped { map, data } => bytemuck::cast_slice(&map[data.clone()]),
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
        return Err(Failure::input(file, "this is not a regular file, expected a file of vectors"));
    }
    if found.len() == 0 {
        return Err(Failure::input(file, "the file is empty, expected vectors"));
    }
    contents::map(&opened).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::npy::test_files::{VALUES, plain};
    use super::*;
    use crate::failure::refusal;

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
    fn a_folder_may_hold_any_format_and_says_which_is_one_too_many() {
        let rows = |ids: [&str; 2]| {
            let row = |id: &str, values: &[f32]| format!("{{\"id\": \"{id}\", \"embedding\": {values:?}}}\n");
            row(ids[0], &VALUES[..3]) + &row(ids[1], &VALUES[3..])
        };
        let queries = rows(["q1", "q2"]);
        let by_id = format!("{{\"d1\": {:?}, \"d2\": {:?}}}", &VALUES[..3], &VALUES[3..]);
        let folder =
            Folder::new().with("queries.jsonl", queries.as_bytes()).with("corpus.json", by_id.as_bytes());
        let embeddings = Embeddings::load(folder.0.path()).expect("read");
        assert_eq!((embeddings.queries.id(1), embeddings.corpus.id(0)), ("q2", "d1"));
        assert_eq!((embeddings.queries.row(1), embeddings.corpus.row(0)), (&VALUES[3..], &VALUES[..3]));
        // Texts may stand beside vectors as JSON Lines.
        let folder = folder
            .with("corpus.npy", &plain(2, 3, &VALUES))
            .with("corpus_ids.json", b"[\"d1\", \"d2\"]")
            .with("corpus.jsonl", b"{\"_id\": \"d1\", \"text\": \"a\"}\n");
        Embeddings::load(folder.0.path()).expect("the .npy file counts");
        let folder = folder.with("corpus.npz", b"PK");
        let message = refusal(Embeddings::load(folder.0.path()));
        assert!(
            message.contains("corpus.npy: corpus.npz stands beside it; keep the one that is meant"),
            "{message}"
        );
        assert!(Embeddings::are_in(folder.0.path()) && !Embeddings::are_in(Path::new("/nowhere")));
    }

    #[test]
    fn files_are_known_by_what_stands_in_them() {
        let row = b"{\"id\": \"a\", \"embedding\": [1, 2]}";
        let folder = Folder::new()
            .with("v.bin", row)
            .with("m.safetensors", &plain(2, 3, &VALUES))
            .with("t.txt", b"1 2 3");
        assert_eq!(Vectors::read(&folder.path("v.bin"), Side::Queries).expect("read").id(0), "a");
        assert_eq!(Matrix::read(&folder.path("m.safetensors")).expect("read").as_slice(), VALUES);
        let message = refusal(Matrix::read(&folder.path("t.txt")));
        assert!(
            message.contains("t.txt: this is no file of vectors that is known; expected .npy, .npz,"),
            "{message}"
        );
        let message = refusal(Vectors::read(&folder.path("m.safetensors"), Side::Queries));
        assert!(
            message.contains(
                "found no ids of its rows, expected a JSON list of them beside it in query_ids.json"
            )
        );
        for ids in ["m_ids.json", "query_ids.json"] {
            fs::write(folder.path(ids), "[\"a\", \"b\"]").expect("written");
            assert_eq!(Vectors::read(&folder.path("m.safetensors"), Side::Queries).expect(ids).id(1), "b");
            fs::remove_file(folder.path(ids)).expect("there");
        }
        let cut_off = Folder::new().with("m.safetensors", b"\x40\0\0\0\0\0\0\0{");
        assert!(
            refusal(Matrix::read(&cut_off.path("m.safetensors"))).contains("found no sound safetensors file")
        );
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_parquet_file_names_the_feature_that_reads_it() {
        let folder = Folder::new().with("queries.parquet", b"PAR1");
        let message = refusal(Matrix::read(&folder.path("queries.parquet")));
        assert!(
            message.contains("this is a Parquet file, which this program was built without"),
            "{message}"
        );
        assert!(message.contains("--features parquet"), "{message}");
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
