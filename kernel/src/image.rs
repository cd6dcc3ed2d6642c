//! The adapter file: a 64-byte header, metadata, and the weights exactly as the kernel computes with them.
//!
//! An *image* is the whole file as bytes: in flash, in a memory map, in a received message. The format is written down
//! for other languages in `docs/adapter-format.md`; it says which changes are a new [`VERSION`].
//!
//! - [`Image::view`] borrows the weights where they lie, without a copy and without touching them. It needs bytes at
//!   a multiple of 64.
//! - [`Image::parse`] takes bytes at any address, on machines of either byte order; [`Image::copy_weights`] then
//!   brings the weights into a buffer of the caller's.
//! - Both check header and metadata. [`Image::verify`] checks the weights too, which reads the whole file: once
//!   after it was received, not at each start.
//! - [`Image::verify_golden`] proves that this machine computes what the machine of the writer computed, to the bit.
//!
//! [`Image::kind`] says what the weights are: a dense adapter in f32, for [`Image::linear`], or a square one in int8 as its
//! difference from the identity, for [`Image::int8`].
//!
//! ```
//! use query_adapter::image::{Image, ImageSpec, Metadata};
//! use query_adapter::{Lanes, PanelMatrix, panel_len};
//!
//! // Two inputs, two outputs, no bias: the identity.
//! let mut weights = [Lanes::ZERO; panel_len(2, 2)];
//! PanelMatrix::new(2, 2, &mut weights[..])?.fill_identity();
//! let spec = ImageSpec {
//!     in_dim: 2,
//!     out_dim: 2,
//!     bias: false,
//!     metadata: Metadata {
//!         tool: "example 1.0",
//!         base_model: "BAAI/bge-small-en",
//!         normalized: true,
//!         ..Metadata::UNKNOWN
//!     },
//!     golden_query: &[0.6, 0.8],
//!     golden_output: &[0.6, 0.8],
//! };
//! let mut buffer = [0; 512];
//! let length = spec.encode(&weights, &mut buffer)?;
//!
//! let image = Image::parse(&buffer[..length])?;
//! image.verify()?;
//! assert_eq!(image.metadata().base_model, "BAAI/bge-small-en");
//! let mut copied = [Lanes::ZERO; panel_len(2, 2)];
//! image.copy_weights(&mut copied)?;
//! assert_eq!(copied, weights);
//! # Ok::<(), query_adapter::Error>(())
//! ```

mod header;
mod metadata;
mod payload;
mod section;
mod spec;
#[cfg(test)]
mod tests;

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, Table};

pub use metadata::{Metadata, Similarity, Training, Validation};
pub use payload::Payload;
pub use spec::ImageSpec;

use self::section::Section;
use crate::error::Error;
use crate::lanes::{Lanes, MAX_DIM, check_len, panels};
use crate::linear::{Linear, linear_len};
use crate::quantized::{ByteLanes, Int8Linear};
use crate::simd::Level;
use crate::transform::Transform;

/// The first eight bytes of every adapter file, of every version.
///
/// As in PNG, the first byte is not ASCII and a line end and a control-Z follow the name, so that a transfer which
/// treats the file as text is noticed here.
pub const MAGIC: [u8; 8] = *b"\x89QADP\r\n\x1a";

/// The version of the format that this build reads and writes.
pub const VERSION: u16 = 1;

/// The version of the metadata that this build writes where it knows neither [`Metadata::golden_text`] nor
/// [`Metadata::settings`]; it reads all of them.
pub const METADATA_SCHEMA: u16 = 1;

/// The version of the metadata with a [`Metadata::golden_text`] and without [`Metadata::settings`].
pub const METADATA_SCHEMA_WITH_TEXT: u16 = 2;

/// The version of the metadata with [`Metadata::settings`].
pub const METADATA_SCHEMA_WITH_SETTINGS: u16 = 3;

/// Bytes in the header.
pub const HEADER_LEN: usize = 64;

/// Most bytes the metadata may take.
///
/// About fifteen times what this version's longest metadata needs; it keeps every offset in an image below 2³².
pub const MAX_METADATA_LEN: usize = 1 << 20;

/// The payload begins at a multiple of this many bytes, the size and alignment of [`Lanes`].
const ALIGNMENT: usize = 64;

const _: () = assert!(size_of::<Lanes>() == ALIGNMENT && align_of::<Lanes>() == ALIGNMENT);
const _: () = assert!(linear_len(MAX_DIM, MAX_DIM, true) < ((1 << 31) - MAX_METADATA_LEN) / ALIGNMENT - 2);

/// What the payload describes.
///
/// Codes 3 (low rank) and 4 (two-layer) are reserved and refused by this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// `q' = W q + b`, `W` in f32, in panels with the bias, if any, as its last column.
    Dense = 1,
    /// `q' = q + s ∘ (Δ8 q) + b`: a square adapter's difference from the identity, in int8 with a scale for each row.
    Residual = 2,
}

/// How the payload's numbers are stored.
///
/// Code 2 (f16) is reserved and refused by this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Dtype {
    /// IEEE 754 binary32, little-endian.
    F32 = 1,
    /// Integers from −127 to 127, with an f32 for each row that says what 1 is worth.
    Int8 = 3,
}

impl Kind {
    /// The one way in which the numbers of such an adapter are stored.
    #[must_use]
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::Dense => Dtype::F32,
            Self::Residual => Dtype::Int8,
        }
    }
}

impl Dtype {
    /// `"f32"` or `"int8"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// Bytes at a multiple of 64, as [`Image::view`] needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(pub T);

const _: () = assert!(align_of::<Aligned<u8>>() == ALIGNMENT);

/// Puts an adapter file into the program, at a multiple of 64 and so ready for [`Image::view`]: a `&'static [u8]`.
///
/// The path is read as by [`include_bytes!`]. On a microcontroller the bytes lie in flash and stay there.
///
/// ```
/// use query_adapter::image::Image;
/// use query_adapter::include_adapter;
///
/// # macro_rules! path { () => { concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml") } }
/// # /*
/// let bytes: &'static [u8] = include_adapter!("../adapter.qad");
/// # */
/// # let bytes: &'static [u8] = include_adapter!(path!());
/// # assert_eq!(bytes.as_ptr().addr() % 64, 0);
/// let image = Image::view(bytes);
/// # assert_eq!(image.unwrap_err(), query_adapter::Error::Magic);
/// ```
#[macro_export]
macro_rules! include_adapter {
    ($path:expr $(,)?) => {{
        static FILE: &$crate::image::Aligned<[u8]> = &$crate::image::Aligned(*::core::include_bytes!($path));
        &FILE.0
    }};
}

/// An adapter file in memory, its header and metadata checked.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    payload: Payload<'a>,
    section: Section<Metadata<'a>, &'a [u8]>,
}

impl<'a> Image<'a> {
    /// Opens an image whose weights are to be used where they lie, so that [`linear`](Self::linear) or, as its
    /// [`kind`](Self::kind) is, [`int8`](Self::int8) finds them in their place.
    ///
    /// `bytes` is the whole file. Its first byte must lie at a multiple of 64: from
    /// [`include_adapter!`](crate::include_adapter), in an [`Aligned`] of the caller's, a memory map, or a `[Lanes]` buffer. The weights are not read; see
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse), and
    /// - [`Error::Misaligned`] when the image does not lie at a multiple of 64.
    /// - [`Error::ByteOrder`] when this machine is big-endian.
    pub fn view(bytes: &'a [u8]) -> Result<Self, Error> {
        let image = Self::parse(bytes)?;
        image.payload.check_in_place()?;
        Ok(image)
    }

    /// Opens an image at any address, on a machine of either byte order.
    ///
    /// `bytes` is the whole file and nothing more. The weights are not read; see
    /// [`copy_weights`](Self::copy_weights) and [`verify`](Self::verify).
    ///
    /// # Errors
    /// - [`Error::Magic`] when this is not an adapter file.
    /// - [`Error::Version`] or [`Error::MetadataSchema`] when a newer program wrote it.
    /// - [`Error::ImageLength`] when it was cut short, or other bytes follow.
    /// - [`Error::Checksum`] or [`Error::Padding`] when it is damaged.
    /// - [`Error::Header`], [`Error::Dimension`], [`Error::Metadata`], [`Error::TextTooLong`],
    ///   [`Error::Setting`], [`Error::Length`] or [`Error::NotFinite`] when it was written wrongly.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (payload, metadata) = Payload::split(bytes)?;
        let section = Section::decode(metadata)?;
        section.metadata.check()?;
        check_golden("golden query", payload.in_dim(), section.golden_query)?;
        check_golden("golden output", payload.out_dim(), section.golden_output)?;
        Ok(Self { payload, section })
    }

    /// What the payload describes.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.payload.kind()
    }

    /// How the payload's numbers are stored.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.payload.dtype()
    }

    /// Number of elements in a query.
    #[must_use]
    pub const fn in_dim(&self) -> usize {
        self.payload.in_dim()
    }

    /// Number of elements in an adapted query.
    #[must_use]
    pub const fn out_dim(&self) -> usize {
        self.payload.out_dim()
    }

    /// Whether there is a bias.
    #[must_use]
    pub const fn has_bias(&self) -> bool {
        self.payload.has_bias()
    }

    /// Where the weights begin in the file, for [`apply_streamed`](crate::apply_streamed): a multiple of 64.
    #[must_use]
    pub const fn payload_offset(&self) -> usize {
        self.payload.payload_offset()
    }

    /// The length of a dense adapter's weights of these dimensions: [`linear_len(in_dim, out_dim, bias)`](linear_len).
    #[must_use]
    pub const fn weights_len(&self) -> usize {
        self.payload.weights_len()
    }

    /// Borrows a dense adapter's weights where they lie: [`weights_len`](Self::weights_len) elements, a matrix of
    /// `out_dim` rows by `in_dim` columns, the bias if any as one more column, in panels. Costs nothing; reads nothing.
    ///
    /// # Errors
    /// Those of [`Payload::weights`].
    pub fn weights(&self) -> Result<&'a [Lanes], Error> {
        self.payload.weights()
    }

    /// Copies a dense adapter's weights, in the order of [`weights`](Self::weights), to `out`.
    ///
    /// # Errors
    /// Those of [`Payload::copy_weights`].
    pub fn copy_weights(&self, out: &mut [Lanes]) -> Result<(), Error> {
        self.payload.copy_weights(out)
    }

    /// The adapter, computing with the weights where they lie.
    ///
    /// # Errors
    /// Those of [`Payload::linear`].
    pub fn linear(&self, level: Level) -> Result<Linear<&'a [Lanes]>, Error> {
        self.payload.linear(level)
    }

    /// The adapter in int8, computing with what lies in the image.
    ///
    /// # Errors
    /// Those of [`Payload::int8`].
    pub fn int8(&self, level: Level) -> Result<Int8Linear<'a>, Error> {
        self.payload.int8(level)
    }

    /// Copies an adapter in int8, for [`Int8Linear::new`]: `values` has [`panel_len(dim, dim)`](crate::panel_len) elements,
    /// `scales` has [`panels(dim)`](panels), and so has `bias`, or none where there is no bias.
    ///
    /// # Errors
    /// Those of [`Payload::copy_int8`].
    pub fn copy_int8(
        &self,
        values: &mut [ByteLanes],
        scales: &mut [Lanes],
        bias: &mut [Lanes],
    ) -> Result<(), Error> {
        self.payload.copy_int8(values, scales, bias)
    }

    /// Checks the weights: their checksum, that all are finite and in range, and that padding rows are zero. Reads the whole
    /// payload.
    ///
    /// # Errors
    /// Those of [`Payload::verify`].
    pub fn verify(&self) -> Result<(), Error> {
        self.payload.verify()
    }

    /// What the adapter was made for and how.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata<'a> {
        &self.section.metadata
    }

    /// Copies the golden pair: a query of `in_dim` elements, and the output of `out_dim` elements that the writer's
    /// machine computed for it.
    ///
    /// # Errors
    /// [`Error::Length`] when a buffer has another length; both are then as before.
    pub fn copy_golden(&self, query: &mut [f32], output: &mut [f32]) -> Result<(), Error> {
        check_len("golden query", self.in_dim(), query.len())?;
        check_len("golden output", self.out_dim(), output.len())?;
        copy_f32(self.section.golden_query, query);
        copy_f32(self.section.golden_output, output);
        Ok(())
    }

    /// Checks that `adapter` gives the golden output for the golden query, every bit of it.
    ///
    /// `adapter` is this image's adapter as it will be used: from [`linear`](Self::linear) or [`int8`](Self::int8), or
    /// around copied weights. `scratch` takes the query: `in_dim` elements.
    ///
    /// # Errors
    /// - [`Error::Golden`] with the first element that differs: the arithmetic of this machine, or the weights, are
    ///   not those of the writer.
    /// - [`Error::Length`] when `scratch` or `adapter` has another size.
    pub fn verify_golden<A: Transform + ?Sized>(
        &self,
        adapter: &A,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        check_len("golden query", self.in_dim(), scratch.len())?;
        check_len("golden output", self.out_dim(), adapter.out_dim())?;
        copy_f32(self.section.golden_query, scratch);
        let mut expected = decode_f32(self.section.golden_output).enumerate();
        for panel in 0..panels(self.out_dim()) {
            let found = adapter.apply_panel(panel, scratch)?;
            for (value, (index, golden)) in found.0.into_iter().zip(expected.by_ref()) {
                if value.to_bits() != golden.to_bits() {
                    return Err(Error::Golden { index });
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Image<'_> {
    /// Everything but the payload, which may be megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("kind", &self.kind())
            .field("dtype", &self.dtype())
            .field("in_dim", &self.in_dim())
            .field("out_dim", &self.out_dim())
            .field("bias", &self.has_bias())
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}

fn check_golden(what: &'static str, elements: usize, bytes: &[u8]) -> Result<(), Error> {
    let (values, rest) = bytes.as_chunks::<{ size_of::<f32>() }>();
    if !rest.is_empty() {
        return Err(Error::Metadata);
    }
    check_len(what, elements, values.len())?;
    check_finite(what, decode_f32(bytes))
}

fn check_finite(what: &'static str, mut values: impl Iterator<Item = f32>) -> Result<(), Error> {
    match values.position(|value| !value.is_finite()) {
        Some(row) => Err(Error::NotFinite { what, row }),
        None => Ok(()),
    }
}

fn check_crc(part: &'static str, bytes: &[u8], stored: u32) -> Result<(), Error> {
    let computed = crc32(bytes);
    if stored == computed { Ok(()) } else { Err(Error::Checksum { part, stored, computed }) }
}

/// The table is 1 KB; 16 KB, for sixteen bytes at a time, where there is an operating system.
type CrcTable = Table<{ if cfg!(feature = "std") { 16 } else { 1 } }>;

/// CRC-32 as in zip, PNG and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    static CRC_32: Crc<u32, CrcTable> = Crc::<u32, CrcTable>::new(&CRC_32_ISO_HDLC);
    CRC_32.checksum(bytes)
}

fn decode_f32(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk))
}

fn copy_f32(bytes: &[u8], out: &mut [f32]) {
    for (place, value) in out.iter_mut().zip(decode_f32(bytes)) {
        *place = value;
    }
}
