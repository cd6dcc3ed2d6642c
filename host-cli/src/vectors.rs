//! Embedding vectors: a matrix with an id per row, from a JSON file or memory-mapped `.npy` files.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;
use npyz::{DType, Deserialize as NpyElement, Endianness, NpyFile, NpyHeader, Order, TypeChar};
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::contents::{self, Contents};
use crate::failure::Failure;
use crate::ids::{IdText, Ids, Rejected};
use crate::json::{self, Place, quoted};

/// The first bytes of every `.npy` file.
const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header text that is parsed, in bytes; numpy pads the header of a matrix to 118.
const LONGEST_NPY_HEADER: usize = 4096;

/// The most decimal digits in a shape: any product of numbers with so many digits together fits in 64 bits.
const MOST_SHAPE_DIGITS: usize = 19;

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
        let ids = load_ids(ids_file)?;
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

/// The contents of a `.npy` file, all checked but the values.
struct Npy<'a> {
    header: NpyHeader,
    element: Element,
    rows: usize,
    /// At least 1.
    dim: usize,
    /// Exactly `rows × dim` elements.
    data: &'a [u8],
}

impl<'a> Npy<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let text = check_npy_header(bytes)?;
        let mut data = bytes;
        let header = NpyHeader::from_reader(&mut data).map_err(|_| unexpected_header(text))?;
        let element = Element::of(&header)?;
        let (rows, dim) = match *header.shape() {
            [rows, dim] => (rows, dim),
            ref shape => {
                return Err(format!(
                    "found an array of shape {shape:?}, expected two dimensions (rows, components)"
                ));
            }
        };
        let length = rows.checked_mul(dim).and_then(|count| count.checked_mul(element.bytes));
        if length != u64::try_from(data.len()).ok() {
            let (found, bits) = (data.len(), 8 * element.bytes);
            return Err(format!(
                "the header says {rows} rows of {dim} components of {bits} bits, but {found} bytes follow it; \
                 the file is cut off or damaged, write it again"
            ));
        }
        let (Ok(rows), Ok(dim)) = (usize::try_from(rows), usize::try_from(dim)) else {
            return Err(format!("{rows} rows of {dim} components are more than this machine can address"));
        };
        if dim == 0 {
            return Err("the vectors have no components, expected at least one".to_owned());
        }
        Ok(Self { header, element, rows, dim, data })
    }

    /// Whether the elements are `f32` as this machine has them, row after row, at an address that fits.
    fn is_borrowable(&self) -> bool {
        self.element.is_native_f32()
            && self.header.order() == Order::C
            && bytemuck::try_cast_slice::<u8, f32>(self.data).is_ok()
    }

    /// All elements as `f32`, row after row.
    fn read(self) -> Result<Vec<f32>, String> {
        let order = self.header.order();
        let values = self.element.read_all(self.header, self.data)?;
        Ok(if order == Order::Fortran { transposed(&values, self.rows, self.dim) } else { values })
    }
}

/// Checks what must hold before the header may be handed to its parser: the parser allocates whatever length
/// the file claims, multiplies the shape without looking and descends into any nesting. Returns the header's
/// text.
fn check_npy_header(file: &[u8]) -> Result<&[u8], String> {
    let rest = file.strip_prefix(NPY_MAGIC).ok_or("this is not a .npy file: its magic bytes are missing")?;
    let cut_off = "the file is cut off inside the header of the .npy file; write it again";
    let (&[major, minor], rest) = rest.split_first_chunk().ok_or(cut_off)?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        _ => return Err(format!("version {major}.{minor} of the .npy format is not known; save it as 1.0")),
    }
    .ok_or(cut_off)?;
    if length > LONGEST_NPY_HEADER {
        return Err(format!(
            "the header claims {length} bytes, expected at most {LONGEST_NPY_HEADER} for a matrix; the file is \
             damaged or holds another kind of array"
        ));
    }
    let text = rest.get(..length).ok_or(cut_off)?;
    check_npy_header_text(text).ok_or_else(|| unexpected_header(text))?;
    Ok(text)
}

fn unexpected_header(text: &[u8]) -> String {
    let found = String::from_utf8_lossy(text);
    format!(
        "found the header {}, expected that of a plain matrix such as \
         \"{{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }}\"",
        quoted(found.trim())
    )
}

/// Whether a header is one flat dictionary with one tuple of plain numbers.
fn check_npy_header_text(text: &[u8]) -> Option<()> {
    let text = core::str::from_utf8(text).ok()?;
    let (before, rest) = text.split_once('(')?;
    let (shape, after) = rest.split_once(')')?;
    let digits = shape.chars().filter(char::is_ascii_digit).count();
    let plain = shape.chars().all(|c| c.is_ascii_digit() || ", ".contains(c));
    let outside = || before.chars().chain(after.chars());
    let flat = outside().all(|c| c.is_ascii() && !"()[]\\".contains(c));
    let one_dictionary = text.matches('{').count() == 1;
    (plain && digits <= MOST_SHAPE_DIGITS && flat && one_dictionary).then_some(())
}

/// The type of a file's elements.
struct Element {
    bytes: u64,
    endianness: Endianness,
}

impl Element {
    fn of(header: &NpyHeader) -> Result<Self, String> {
        let dtype = header.dtype();
        if let DType::Plain(kind) = &dtype
            && kind.type_char() == TypeChar::Float
            && matches!(kind.size_field(), 2 | 4 | 8)
        {
            return Ok(Self { bytes: kind.size_field(), endianness: kind.endianness() });
        }
        let found = dtype.descr();
        Err(format!(
            "found elements of type {found}, expected floats of 16, 32 or 64 bits; save them as float32"
        ))
    }

    fn is_native_f32(&self) -> bool {
        self.bytes == 4 && self.endianness == Endianness::of_machine()
    }

    /// All elements in the order of the file, as `f32`.
    fn read_all(&self, header: NpyHeader, data: &[u8]) -> Result<Vec<f32>, String> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "rounds to nearest; an overflow is found as infinite"
        )]
        match self.bytes {
            2 => read(header, data, f16::to_f32),
            4 => read(header, data, |value: f32| value),
            _ => read(header, data, |value: f64| value as f32),
        }
    }
}

fn read<T: NpyElement>(header: NpyHeader, data: &[u8], convert: fn(T) -> f32) -> Result<Vec<f32>, String> {
    let elements = NpyFile::with_header(header, data).data::<T>().map_err(|error| error.to_string())?;
    elements.map(|element| element.map(convert)).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// Column after column to row after row.
fn transposed(columns: &[f32], rows: usize, dim: usize) -> Vec<f32> {
    let at = |row, component| columns[component * rows + row];
    (0..rows).flat_map(|row| (0..dim).map(move |component| at(row, component))).collect()
}

/// Reads a JSON list of distinct ids, strings or integers.
fn load_ids(file: &Path) -> Result<Ids, Failure> {
    let contents = Contents::of(file)?;
    let text = json::text_of(file, &contents)?;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    IdList
        .deserialize(&mut deserializer)
        .and_then(|ids| deserializer.end().map(|()| ids))
        .map_err(|error| json::failure(file, text, &Place::default(), &error))
}

/// Reads ids one by one.
struct IdList;

impl<'de> DeserializeSeed<'de> for IdList {
    type Value = Ids;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Ids, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for IdList {
    type Value = Ids;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ids, A::Error> {
        let mut ids = Ids::default();
        while let Some(IdText(id)) = list.next_element()? {
            ids.push(&id).map_err(|rejected| {
                let entry = ids.len() + 1;
                let advice = match rejected {
                    Rejected::Duplicate { .. } => "; every row needs an id of its own",
                    Rejected::TooMany => "",
                };
                de::Error::custom(format!("entry {entry} is {}: {rejected}{advice}", quoted(&id)))
            })?;
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    /// 2 × 3; every value is exact in 16 bits.
    const VALUES: [f32; 6] = [1.5, -2.0, 0.25, 4.0, 5.5, -6.0];

    /// The bytes of a `.npy` file of version 1.0 whose data begins at a multiple of `alignment`.
    fn npy(header: &str, alignment: usize, data: &[u8]) -> Vec<u8> {
        let padding = (10 + header.len() + 1).next_multiple_of(alignment) - (10 + header.len() + 1);
        let text = format!("{header}{}\n", " ".repeat(padding));
        let length = u16::try_from(text.len()).expect("short").to_le_bytes();
        [NPY_MAGIC, &[1, 0], &length, text.as_bytes(), data].concat()
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
    }

    fn little_endian(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn plain(rows: usize, dim: usize, values: &[f32]) -> Vec<u8> {
        npy(&header("<f4", "False", &format!("({rows}, {dim})")), 64, &little_endian(values))
    }

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

    fn matrix(bytes: &[u8]) -> Result<Matrix, Failure> {
        Matrix::load(&Folder::new().with("m.npy", bytes).path("m.npy"))
    }

    fn refusal(result: Result<impl core::fmt::Debug, Failure>) -> String {
        let failure = result.expect_err("must be refused");
        assert_eq!(failure.exit_code(), 3);
        let message = failure.to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn a_plain_file_is_borrowed_in_place() {
        let matrix = matrix(&plain(2, 3, &VALUES)).expect("read");
        assert!(matches!(matrix.storage, Storage::Mapped { .. }));
        assert_eq!((matrix.rows(), matrix.dim(), matrix.row(1)), (2, 3, &VALUES[3..]));
    }

    #[test]
    fn bytes_in_memory_are_read_as_their_file_is() {
        let file = Path::new("m.npy");
        let whole = plain(2, 3, &VALUES);
        let matrix = Matrix::parse(file, &whole).expect("read");
        assert_eq!((matrix.rows(), matrix.dim(), matrix.as_slice()), (2, 3, &VALUES[..]));
        for length in 0..whole.len() {
            let message = refusal(Matrix::parse(file, &whole[..length]));
            assert!(message.starts_with("m.npy: "), "{length} bytes: {message}");
        }
    }

    #[test]
    fn every_layout_that_numpy_writes_gives_the_same_matrix() {
        let big_endian: Vec<u8> = VALUES.iter().flat_map(|value| value.to_be_bytes()).collect();
        let halves: Vec<u8> = VALUES.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let doubles: Vec<u8> = VALUES.iter().flat_map(|&value| f64::from(value).to_be_bytes()).collect();
        let columns = little_endian(&[1.5, 4.0, -2.0, 5.5, 0.25, -6.0]);
        let c = little_endian(&VALUES);
        let with_version = |version: u8| {
            let text = header("<f4", "False", "(2, 3)") + "\n";
            let length = u32::try_from(text.len()).expect("short").to_le_bytes();
            [NPY_MAGIC, &[version, 0], &length, text.as_bytes(), &c].concat()
        };
        for (name, bytes) in [
            ("big-endian", npy(&header(">f4", "False", "(2, 3)"), 64, &big_endian)),
            ("f16", npy(&header("<f2", "False", "(2, 3)"), 64, &halves)),
            ("big-endian f64", npy(&header(">f8", "False", "(2, 3)"), 64, &doubles)),
            ("Fortran order", npy(&header("<f4", "True", "(2, 3)"), 64, &columns)),
            ("unaligned data", npy(&(header("<f4", "False", "(2, 3)") + "  "), 1, &c)),
            (
                "other quotes and order",
                npy("{\"shape\":(2,3,) ,\"fortran_order\" : False,\"descr\" :\"<f4\"}", 16, &c),
            ),
            ("version 2", with_version(2)),
            ("version 3", with_version(3)),
        ] {
            let matrix = matrix(&bytes).expect(name);
            assert_eq!((matrix.rows(), matrix.dim(), matrix.as_slice()), (2, 3, &VALUES[..]), "{name}");
        }
    }

    #[test]
    fn f16_and_f64_keep_every_bit_that_f32_can_hold() {
        let halves = [0x0001_u16, 0x8000, 0x7bff];
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let matrix16 = matrix(&npy(&header("<f2", "False", "(1, 3)"), 64, &bytes)).expect("read");
        assert_eq!(
            matrix16.row(0).iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            [0x3380_0000, 0x8000_0000, 0x477f_e000]
        );
        // The last is beyond f32.
        let bytes: Vec<u8> = [1e-45, -0.0, 1e39_f64].iter().flat_map(|value| value.to_le_bytes()).collect();
        let matrix64 = matrix(&npy(&header("<f8", "False", "(1, 3)"), 64, &bytes)).expect("read");
        assert_eq!(
            matrix64.row(0).iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            [1, 0x8000_0000, 0x7f80_0000]
        );
        assert_eq!(matrix64.first_non_finite(), Some((0, 2)));
    }

    #[test]
    fn files_that_are_no_matrix_of_floats_are_refused() {
        let c = little_endian(&VALUES);
        for (bytes, expected) in [
            (Vec::new(), "the file is empty"),
            (b"{\"a\": 1}".to_vec(), "this is not a .npy file"),
            (npy(&header("<i4", "False", "(2, 3)"), 64, &c), "found elements of type '<i4', expected floats"),
            (
                npy(&header("<f16", "False", "(2, 3)"), 64, &c),
                "found elements of type '<f16', expected floats",
            ),
            (npy(&header("|O", "False", "(2, 3)"), 64, &c), "found elements of type '|O', expected floats"),
            (
                npy(&header("<f4", "False", "(6,)"), 64, &c),
                "found an array of shape [6], expected two dimensions",
            ),
            (
                npy(&header("<f4", "False", "()"), 64, &c[..4]),
                "found an array of shape [], expected two dimensions",
            ),
            (
                npy(&header("<f4", "False", "(1, 2, 3)"), 64, &c),
                "of shape [1, 2, 3], expected two dimensions",
            ),
            (npy(&header("<f4", "False", "(2, 0)"), 64, &[]), "the vectors have no components"),
            (
                npy(&header("<f4", "Maybe", "(2, 3)"), 64, &c),
                "found the header \"{'descr': '<f4', 'fortran_order': Maybe",
            ),
            (npy(&header("=f4", "False", "(2, 3)"), 64, &c), "found the header \"{'descr': '=f4'"),
            (
                npy("{'descr': '<f4', 'shape': (2, 3), }", 64, &c),
                "found the header \"{'descr': '<f4', 'shape'",
            ),
            (
                npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", 64, &c),
                "found the header",
            ),
            (npy("nonsense", 64, &c), "found the header \"nonsense\", expected that of a plain matrix"),
            ([NPY_MAGIC, &[9, 1]].concat(), "version 9.1 of the .npy format is not known"),
        ] {
            let message = refusal(matrix(&bytes));
            assert!(message.contains(expected), "expected {expected:?}: {message}");
        }
    }

    #[test]
    fn sizes_that_the_file_does_not_have_are_refused_before_anything_is_allocated() {
        let c = little_endian(&VALUES);
        for shape in
            ["(2, 4)", "(1, 3)", "(3, 2000000000)", "(4611686018427387904, 4)", "(4611686018, 4294967296)"]
        {
            let message = refusal(matrix(&npy(&header("<f4", "False", shape), 64, &c)));
            assert!(message.contains("the header"), "{shape}: {message}");
        }
        let bomb = [NPY_MAGIC, &[2, 0], &u32::MAX.to_le_bytes(), b"{}"].concat();
        assert!(refusal(matrix(&bomb)).contains("the header claims 4294967295 bytes, expected at most 4096"));
        let nested = npy(&"(".repeat(4000), 1, &c);
        assert!(refusal(matrix(&nested)).contains("expected that of a plain matrix"));
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let bytes = plain(2, 3, &VALUES);
        for end in 0..bytes.len() {
            refusal(matrix(&bytes[..end]));
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(refusal(matrix(&longer)).contains("but 25 bytes follow it"));
    }

    #[test]
    fn a_matrix_without_rows_is_no_error() {
        let matrix = matrix(&plain(0, 3, &[])).expect("read");
        assert_eq!((matrix.rows(), matrix.dim(), matrix.as_slice().len()), (0, 3, 0));
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

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(text in "[{}()'\":, <>|=fiOTrueFalsedhpcnsort_0-9x\\[\\]\\\\-]{0,80}") {
            let _ = matrix(&npy(&text, 1, &[0; 24]));
        }

        #[test]
        fn no_shape_makes_the_reader_panic(rows in any::<u64>(), dim in any::<u64>()) {
            prop_assume!(rows.checked_mul(dim) != Some(6));
            let shape = format!("({rows}, {dim})");
            prop_assert!(matrix(&npy(&header("<f4", "False", &shape), 64, &[0; 24])).is_err());
        }

        #[test]
        fn no_damaged_byte_makes_the_reader_panic(position in 0_usize..128, byte in any::<u8>()) {
            let mut bytes = plain(2, 3, &VALUES);
            bytes[position] = byte;
            if let Ok(matrix) = matrix(&bytes) {
                prop_assert_eq!(matrix.as_slice().len(), matrix.rows() * matrix.dim());
            }
        }
    }
}
