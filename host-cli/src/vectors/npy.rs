//! Matrices as `.npy` files.

use std::io::{self, Write};
use std::path::Path;

use half::f16;
use memmap2::Mmap;
use npyz::{
    DType, Deserialize as NpyElement, Endianness, NpyFile, NpyHeader, Order, TypeChar, WriterBuilder as _,
};

use super::Matrix;
use crate::failure::Failure;
use crate::json::quoted;

/// The first bytes of every `.npy` file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header text that is parsed, in bytes; numpy pads the header of a matrix to 118.
const LONGEST_NPY_HEADER: usize = 4096;

/// The most decimal digits in a shape: any product of numbers with so many digits together fits in 64 bits.
const MOST_SHAPE_DIGITS: usize = 19;
/// Reads a mapped file: `f32` as this machine has them are borrowed from it.
pub(super) fn load(file: &Path, map: Mmap) -> Result<Matrix, Failure> {
    let refuse = |problem| Failure::input(file, problem);
    let npy = Npy::parse(&map).map_err(refuse)?;
    let (rows, dim) = (npy.rows, npy.dim);
    if npy.is_borrowable() {
        let data = map.len() - npy.data.len()..map.len();
        return Ok(Matrix::mapped(rows, dim, map, data));
    }
    Ok(Matrix::owned(rows, dim, npy.read().map_err(refuse)?))
}

/// Reads the contents of a file into memory.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Matrix, Failure> {
    let refuse = |problem| Failure::input(file, problem);
    let npy = Npy::parse(bytes).map_err(refuse)?;
    let (rows, dim) = (npy.rows, npy.dim);
    Ok(Matrix::owned(rows, dim, npy.read().map_err(refuse)?))
}

/// The contents of a `.npy` file, all checked but the values.
pub(super) struct Npy<'a> {
    header: NpyHeader,
    element: Element,
    pub(super) rows: usize,
    /// At least 1.
    pub(super) dim: usize,
    /// Exactly `rows × dim` elements.
    pub(super) data: &'a [u8],
}

impl<'a> Npy<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let (header, data) = checked_header(bytes)?;
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
    pub(super) fn is_borrowable(&self) -> bool {
        self.element.is_native_f32()
            && self.header.order() == Order::C
            && bytemuck::try_cast_slice::<u8, f32>(self.data).is_ok()
    }

    /// All elements as `f32`, row after row.
    pub(super) fn read(self) -> Result<Vec<f32>, String> {
        let order = self.header.order();
        let values = self.element.read_all(self.header, self.data)?;
        Ok(if order == Order::Fortran { transposed(&values, self.rows, self.dim) } else { values })
    }
}

/// The header of a file and what follows it.
pub(super) fn checked_header(bytes: &[u8]) -> Result<(NpyHeader, &[u8]), String> {
    let text = check_npy_header(bytes)?;
    let mut data = bytes;
    let header = NpyHeader::from_reader(&mut data).map_err(|_| unexpected_header(text))?;
    Ok((header, data))
}

/// Checks what must hold before the header may be handed to its parser: the parser allocates whatever length
/// the file claims, multiplies the shape without looking and descends into any nesting. Returns the header's
/// text.
fn check_npy_header(file: &[u8]) -> Result<&[u8], String> {
    let rest = file
        .strip_prefix(MAGIC)
        .ok_or("this is not a .npy file: its magic bytes are missing; write it by numpy.save")?;
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

/// Files for tests, made by hand.
/// A matrix of `f32` on its way to a file.
pub(crate) struct NpyRows<'a> {
    out: &'a mut dyn Write,
    /// Values that are still to be written.
    missing: usize,
}

impl<'a> NpyRows<'a> {
    /// Writes the header of `rows × dim` values.
    pub(crate) fn begin(out: &'a mut dyn Write, rows: usize, dim: usize) -> io::Result<Self> {
        let shape = [rows as u64, dim as u64];
        // The library writes a header at once, but values one by one, which takes longer than to transform them.
        drop(npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(&mut *out).begin_nd()?);
        Ok(Self { out, missing: rows * dim })
    }

    /// Writes the next values, row after row.
    pub(crate) fn write(&mut self, values: &[f32]) -> io::Result<()> {
        self.missing = self.missing.checked_sub(values.len()).ok_or(io::ErrorKind::InvalidData)?;
        // The header names the byte order of this machine.
        self.out.write_all(bytemuck::cast_slice(values))
    }

    /// Refuses a matrix that is not whole.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.missing == 0 { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

#[cfg(test)]
pub(super) mod test_files {
    use super::MAGIC;

    /// 2 × 3; every value is exact in 16 bits.
    pub(in crate::vectors) const VALUES: [f32; 6] = [1.5, -2.0, 0.25, 4.0, 5.5, -6.0];

    /// The bytes of a `.npy` file of version 1.0 whose data begins at a multiple of `alignment`.
    pub(in crate::vectors) fn npy(header: &str, alignment: usize, data: &[u8]) -> Vec<u8> {
        let padding = (10 + header.len() + 1).next_multiple_of(alignment) - (10 + header.len() + 1);
        let text = format!("{header}{}\n", " ".repeat(padding));
        let length = u16::try_from(text.len()).expect("short").to_le_bytes();
        [MAGIC, &[1, 0], &length, text.as_bytes(), data].concat()
    }

    pub(in crate::vectors) fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
    }

    pub(in crate::vectors) fn little_endian(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    pub(in crate::vectors) fn plain(rows: usize, dim: usize, values: &[f32]) -> Vec<u8> {
        npy(&header("<f4", "False", &format!("({rows}, {dim})")), 64, &little_endian(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::test_files::{VALUES, header, little_endian, npy, plain};
    use super::*;
    use crate::failure::refusal;
    use crate::vectors::Storage;

    fn matrix(bytes: &[u8]) -> Result<Matrix, Failure> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("m.npy");
        std::fs::write(&file, bytes).expect("written");
        Matrix::load(&file)
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
            [MAGIC, &[version, 0], &length, text.as_bytes(), &c].concat()
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
            ([MAGIC, &[9, 1]].concat(), "version 9.1 of the .npy format is not known"),
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
        let bomb = [MAGIC, &[2, 0], &u32::MAX.to_le_bytes(), b"{}"].concat();
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

    #[test]
    fn a_matrix_is_written_whole_or_refused() {
        let mut bytes = Vec::new();
        let mut rows = NpyRows::begin(&mut bytes, 2, 3).unwrap();
        rows.write(&[1.0, 2.0, 3.0]).unwrap();
        rows.write(&[4.0, 5.0, -0.0]).unwrap();
        assert_eq!(rows.write(&[7.0]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        rows.finish().unwrap();
        let matrix = parse("m.npy".as_ref(), &bytes).unwrap();
        assert_eq!((matrix.rows(), matrix.as_slice()), (2, &[1.0, 2.0, 3.0, 4.0, 5.0, -0.0][..]));

        let mut bytes = Vec::new();
        let mut rows = NpyRows::begin(&mut bytes, 2, 3).unwrap();
        rows.write(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(rows.finish().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
