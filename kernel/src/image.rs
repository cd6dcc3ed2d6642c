//! The adapter file: a 64-byte header, metadata, and the weights exactly as the kernel computes with them.
//!
//! An *image* is the whole file as bytes: in flash, in a memory map, in a received message. The format is written down
//! for other languages in `docs/adapter-format.md`; every change there is a new [`VERSION`].
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
//! use query_adapter::image::{Image, ImageSpec, Metadata, Similarity};
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
//!         query_prefix: "",
//!         document_prefix: "",
//!         similarity: Similarity::Cosine,
//!         normalized: true,
//!         training: None,
//!         golden_text: None,
//!         settings: None,
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

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc};
use postcard::ser_flavors::Size;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Error;
use crate::lanes::{LANES, Lanes, MAX_DIM, check_dim, check_len, panel_len, panels};
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

const FLAG_BIAS: u32 = 1;

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

/// Which similarity the vector index uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Similarity {
    /// Cosine: the length of a vector does not matter.
    Cosine,
    /// Dot product.
    Dot,
}

/// What an adapter was made for and how. Texts are borrowed from the image.
///
/// Nothing here says when, where or by whom: the same training gives the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata<'a> {
    /// Name and version of the program that wrote the image; at most [`Metadata::MAX_TOOL`] bytes.
    pub tool: &'a str,
    /// The embedding model whose query vectors the adapter takes; at most [`Metadata::MAX_BASE_MODEL`] bytes.
    pub base_model: &'a str,
    /// What was put before each query text when it was embedded; at most [`Metadata::MAX_PREFIX`] bytes.
    pub query_prefix: &'a str,
    /// What was put before each document text when it was embedded; at most [`Metadata::MAX_PREFIX`] bytes.
    pub document_prefix: &'a str,
    /// The similarity between adapted query and document.
    pub similarity: Similarity,
    /// Whether query vectors were scaled to length 1 before they reached the adapter.
    pub normalized: bool,
    /// How the adapter was trained; `None` where that is not known, as after a conversion.
    #[serde(borrow)]
    pub training: Option<Training<'a>>,
    /// The text whose vector by [`base_model`](Self::base_model), with [`query_prefix`](Self::query_prefix) before it,
    /// is the golden query; at most [`Metadata::MAX_GOLDEN_TEXT`] bytes. Whoever embeds it anew finds out whether two
    /// models are the same. `None` where the model was not at hand: the golden query is then any vector.
    // Not here but after the golden pair in the file, so that files without it are as they always were.
    #[serde(skip)]
    pub golden_text: Option<&'a str>,
    /// All settings of the training run, in whatever form its program reads them again; at most
    /// [`Metadata::MAX_SETTINGS`] bytes.
    #[serde(skip)]
    pub settings: Option<&'a str>,
}

impl Metadata<'_> {
    /// Most bytes in [`tool`](Self::tool).
    pub const MAX_TOOL: usize = 64;
    /// Most bytes in [`base_model`](Self::base_model).
    pub const MAX_BASE_MODEL: usize = 256;
    /// Most bytes in [`query_prefix`](Self::query_prefix), and in [`document_prefix`](Self::document_prefix).
    pub const MAX_PREFIX: usize = 1024;
    /// Most bytes in [`golden_text`](Self::golden_text).
    pub const MAX_GOLDEN_TEXT: usize = 256;
    /// Most bytes in [`settings`](Self::settings).
    pub const MAX_SETTINGS: usize = 1024;

    /// The rules that hold for every image, checked by writer and reader alike.
    fn check(&self) -> Result<(), Error> {
        check_text("tool", self.tool, Self::MAX_TOOL)?;
        check_text("base_model", self.base_model, Self::MAX_BASE_MODEL)?;
        check_text("query_prefix", self.query_prefix, Self::MAX_PREFIX)?;
        check_text("document_prefix", self.document_prefix, Self::MAX_PREFIX)?;
        check_text("golden_text", self.golden_text.unwrap_or_default(), Self::MAX_GOLDEN_TEXT)?;
        check_text("settings", self.settings.unwrap_or_default(), Self::MAX_SETTINGS)?;
        self.training.map_or(Ok(()), |training| training.check())
    }
}

/// A summary of the training run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training<'a> {
    /// The name of the recipe; at most [`Training::MAX_NAME`] bytes.
    pub recipe: &'a str,
    /// The name of the optimiser; at most [`Training::MAX_NAME`] bytes.
    pub optimizer: &'a str,
    /// Passes over the training pairs that were made.
    pub epochs: u32,
    /// The epoch whose weights these are: 1 is the first, 0 the starting point.
    pub kept_epoch: u32,
    /// Optimiser steps that were made.
    pub steps: u64,
    /// Queries per step.
    pub batch_size: u32,
    /// Peak learning rate.
    pub lr: f32,
    /// What similarities were multiplied by before the softmax.
    pub scale: f32,
    /// Seed of the random generator.
    pub seed: u64,
    /// Number of (question, passage) pairs trained on.
    pub pairs: u64,
    /// The measurement that chose [`kept_epoch`](Self::kept_epoch); `None` without a validation set.
    pub validation: Option<Validation>,
}

impl Training<'_> {
    /// Most bytes in [`recipe`](Self::recipe), and in [`optimizer`](Self::optimizer).
    pub const MAX_NAME: usize = 64;

    fn check(&self) -> Result<(), Error> {
        check_text("recipe", self.recipe, Self::MAX_NAME)?;
        check_text("optimizer", self.optimizer, Self::MAX_NAME)?;
        check_setting("lr", self.lr)?;
        check_setting("scale", self.scale)?;
        if let Some(validation) = self.validation {
            check_setting("base_ndcg_at_10", validation.base_ndcg_at_10)?;
            check_setting("adapted_ndcg_at_10", validation.adapted_ndcg_at_10)?;
        }
        Ok(())
    }
}

/// nDCG@10 on validation queries, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Of the unadapted queries.
    pub base_ndcg_at_10: f32,
    /// Of the queries through the weights that were kept.
    pub adapted_ndcg_at_10: f32,
}

fn check_text(what: &'static str, text: &str, capacity: usize) -> Result<(), Error> {
    if text.len() <= capacity {
        Ok(())
    } else {
        Err(Error::TextTooLong { what, capacity, given: text.len() })
    }
}

fn check_setting(name: &'static str, value: f32) -> Result<(), Error> {
    if value.is_finite() { Ok(()) } else { Err(Error::Setting { name }) }
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

    /// Copies an adapter in int8, for [`Int8Linear::new`]: `values` has [`panel_len(dim, dim)`](panel_len) elements,
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

/// The weights of an adapter file in memory: its header checked, and its metadata by their checksum but not read.
///
/// For programs that apply an adapter and want to know nothing else of it: without the reader of the metadata, a program is
/// about 5 KB smaller on a Cortex-M4F. [`Image`] knows all of the file.
///
/// ```
/// use query_adapter::image::Payload;
/// use query_adapter::{Error, Level};
///
/// fn transform(file: &'static [u8], query: &[f32], adapted: &mut [f32]) -> Result<(), Error> {
///     Payload::view(file)?.linear(Level::baseline())?.apply(query, adapted)
/// }
/// # assert_eq!(transform(b"no adapter", &[], &mut []), Err(Error::Magic));
/// ```
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    header: Header,
    /// Exactly `header.payload_len()` bytes, at any address.
    bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Opens an image whose weights are to be used where they lie, so that [`linear`](Self::linear) or, as its
    /// [`kind`](Self::kind) is, [`int8`](Self::int8) finds them in their place.
    ///
    /// `bytes` is the whole file. Its first byte must lie at a multiple of 64; see [`Image::view`].
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse), and
    /// - [`Error::Misaligned`] when the image does not lie at a multiple of 64.
    /// - [`Error::ByteOrder`] when this machine is big-endian.
    pub fn view(bytes: &'a [u8]) -> Result<Self, Error> {
        let payload = Self::parse(bytes)?;
        payload.check_in_place()?;
        Ok(payload)
    }

    /// Opens an image at any address, on a machine of either byte order.
    ///
    /// # Errors
    /// Those of [`Image::parse`] but for what is wrong with metadata whose checksum is right.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Ok(Self::split(bytes)?.0)
    }

    /// The payload, and the bytes of the metadata.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        let header = Header::decode(bytes)?;
        let wrong_length = Error::ImageLength { needed: header.image_len(), given: bytes.len() };
        if bytes.len() != header.image_len() {
            return Err(wrong_length);
        }
        let (front, payload) = bytes.split_at_checked(header.payload_offset()).ok_or(wrong_length)?;
        let (front, padding) =
            front.split_at_checked(HEADER_LEN + header.metadata_len).ok_or(wrong_length)?;
        let (_, metadata) = front.split_at_checked(HEADER_LEN).ok_or(wrong_length)?;

        check_crc("metadata", metadata, header.metadata_crc)?;
        if let Some(index) = padding.iter().position(|&byte| byte != 0) {
            return Err(Error::Padding { offset: front.len() + index });
        }
        Ok((Self { header, bytes: payload }, metadata))
    }

    fn check_in_place(&self) -> Result<(), Error> {
        if cfg!(target_endian = "big") {
            return Err(Error::ByteOrder);
        }
        match self.bytes.as_ptr().addr() % ALIGNMENT {
            0 => Ok(()),
            offset => Err(Error::Misaligned { offset }),
        }
    }

    /// What the payload describes.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.header.kind
    }

    /// How the payload's numbers are stored.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.header.kind.dtype()
    }

    /// Number of elements in a query.
    #[must_use]
    pub const fn in_dim(&self) -> usize {
        self.header.in_dim
    }

    /// Number of elements in an adapted query.
    #[must_use]
    pub const fn out_dim(&self) -> usize {
        self.header.out_dim
    }

    /// Whether there is a bias.
    #[must_use]
    pub const fn has_bias(&self) -> bool {
        self.header.bias
    }

    /// Where the weights begin in the file, for [`apply_streamed`](crate::apply_streamed): a multiple of 64.
    #[must_use]
    pub const fn payload_offset(&self) -> usize {
        self.header.payload_offset()
    }

    /// The length of a dense adapter's weights of these dimensions: [`linear_len(in_dim, out_dim, bias)`](linear_len).
    #[must_use]
    pub const fn weights_len(&self) -> usize {
        linear_len(self.header.in_dim, self.header.out_dim, self.header.bias)
    }

    /// Borrows a dense adapter's weights where they lie: [`weights_len`](Self::weights_len) elements, a matrix of
    /// `out_dim` rows by `in_dim` columns, the bias if any as one more column, in panels. Costs nothing; reads nothing.
    ///
    /// # Errors
    /// - [`Error::StoredAs`] when the adapter is not dense; see [`int8`](Self::int8).
    /// - Neither after [`view`](Self::view); in both cases [`copy_weights`](Self::copy_weights) works:
    ///   [`Error::Misaligned`] when the image does not lie at a multiple of 64, [`Error::ByteOrder`] when this machine is
    ///   big-endian.
    pub fn weights(&self) -> Result<&'a [Lanes], Error> {
        self.expect_kind(Kind::Dense)?;
        in_place(self.bytes)
    }

    /// Copies a dense adapter's weights, in the order of [`weights`](Self::weights), to `out`.
    ///
    /// # Errors
    /// [`Error::StoredAs`] when the adapter is not dense, [`Error::Length`] unless `out` has
    /// [`weights_len`](Self::weights_len) elements; it is then as before.
    pub fn copy_weights(&self, out: &mut [Lanes]) -> Result<(), Error> {
        self.expect_kind(Kind::Dense)?;
        check_len("weights", self.weights_len(), out.len())?;
        for (place, lanes) in out.iter_mut().zip(decode_lanes(self.bytes)) {
            *place = lanes;
        }
        Ok(())
    }

    /// The adapter, computing with the weights where they lie.
    ///
    /// After [`copy_weights`](Self::copy_weights), call [`Linear::from_lanes`] with the copy instead.
    ///
    /// # Errors
    /// Those of [`weights`](Self::weights) and [`Linear::from_lanes`].
    pub fn linear(&self, level: Level) -> Result<Linear<&'a [Lanes]>, Error> {
        Linear::from_lanes(self.in_dim(), self.out_dim(), self.has_bias(), self.weights()?, level)
    }

    /// The adapter in int8, computing with what lies in the image.
    ///
    /// # Errors
    /// - [`Error::StoredAs`] when the adapter is dense; see [`linear`](Self::linear).
    /// - [`Error::Misaligned`] or [`Error::ByteOrder`], neither after [`view`](Self::view); then
    ///   [`copy_int8`](Self::copy_int8) works.
    /// - Those of [`Int8Linear::new`].
    pub fn int8(&self, level: Level) -> Result<Int8Linear<'a>, Error> {
        self.expect_kind(Kind::Residual)?;
        let Int8Payload { scales, bias, values } = self.int8_payload();
        let bias = if self.has_bias() { Some(in_place(bias)?) } else { None };
        Int8Linear::new(self.in_dim(), in_place(values)?, in_place(scales)?, bias, level)
    }

    /// Copies an adapter in int8, for [`Int8Linear::new`]: `values` has [`panel_len(dim, dim)`](panel_len) elements,
    /// `scales` has [`panels(dim)`](panels), and so has `bias`, or none where there is no bias.
    ///
    /// # Errors
    /// [`Error::StoredAs`] when the adapter is dense, [`Error::Length`] when a buffer has another length; all are then as
    /// before.
    pub fn copy_int8(
        &self,
        values: &mut [ByteLanes],
        scales: &mut [Lanes],
        bias: &mut [Lanes],
    ) -> Result<(), Error> {
        self.expect_kind(Kind::Residual)?;
        let dim = self.in_dim();
        check_len("values", panel_len(dim, dim), values.len())?;
        check_len("scales", panels(dim), scales.len())?;
        check_len("bias", if self.has_bias() { panels(dim) } else { 0 }, bias.len())?;
        let payload = self.int8_payload();
        for (place, column) in values.iter_mut().zip(decode_bytes(payload.values)) {
            *place = column;
        }
        for (place, lanes) in scales.iter_mut().zip(decode_lanes(payload.scales)) {
            *place = lanes;
        }
        for (place, lanes) in bias.iter_mut().zip(decode_lanes(payload.bias)) {
            *place = lanes;
        }
        Ok(())
    }

    fn expect_kind(&self, kind: Kind) -> Result<(), Error> {
        if self.kind() as u8 == kind as u8 {
            Ok(())
        } else {
            Err(Error::StoredAs { dtype: self.dtype().name() })
        }
    }

    /// The parts of a payload in int8.
    fn int8_payload(&self) -> Int8Payload<'a> {
        let column = panels(self.in_dim()) * size_of::<Lanes>();
        let (scales, rest) = self.bytes.split_at_checked(column).unwrap_or_default();
        let (bias, values) =
            rest.split_at_checked(if self.has_bias() { column } else { 0 }).unwrap_or_default();
        Int8Payload { scales, bias, values }
    }

    /// Checks the weights: their checksum, that all are finite and in range, and that padding rows are zero. Reads the whole
    /// payload.
    ///
    /// # Errors
    /// - [`Error::Checksum`] when they are damaged.
    /// - [`Error::NotFinite`], [`Error::Range`] or [`Error::Padding`] when they were written wrongly.
    pub fn verify(&self) -> Result<(), Error> {
        check_crc("payload", self.bytes, self.header.payload_crc)?;
        match self.kind() {
            Kind::Dense => self.header.check_weights(decode_lanes(self.bytes)),
            Kind::Residual => {
                let Int8Payload { scales, bias, values } = self.int8_payload();
                self.header.check_int8(decode_lanes(scales), decode_lanes(bias), decode_bytes(values))
            }
        }
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

/// Everything an image holds but its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageSpec<'a> {
    /// Number of elements in a query, `1 ..= MAX_DIM`.
    pub in_dim: usize,
    /// Number of elements in an adapted query, `1 ..= MAX_DIM`.
    pub out_dim: usize,
    /// Whether the last column of the weights is a bias.
    pub bias: bool,
    /// What the adapter was made for and how.
    pub metadata: Metadata<'a>,
    /// A query: `in_dim` finite elements. One that occurs in practice tells most.
    pub golden_query: &'a [f32],
    /// What these weights give for [`golden_query`](Self::golden_query): `out_dim` finite elements.
    pub golden_output: &'a [f32],
}

impl ImageSpec<'_> {
    /// Bytes of the encoded image of a dense adapter.
    ///
    /// # Errors
    /// - [`Error::Dimension`], [`Error::Length`] or [`Error::NotFinite`] for the dimensions and the golden pair.
    /// - [`Error::TextTooLong`] or [`Error::Setting`] for the metadata.
    pub fn encoded_len(&self) -> Result<usize, Error> {
        Ok(self.header(Kind::Dense)?.image_len())
    }

    /// Bytes of the encoded image of an adapter in int8.
    ///
    /// # Errors
    /// Those of [`encoded_len`](Self::encoded_len); [`Error::Setting`] also when `out_dim` is not `in_dim`.
    pub fn encoded_int8_len(&self) -> Result<usize, Error> {
        Ok(self.header(Kind::Residual)?.image_len())
    }

    /// Writes the image of a dense adapter to the front of `out` and returns its length. The same input gives the same
    /// bytes.
    ///
    /// `weights` holds [`linear_len(in_dim, out_dim, bias)`](linear_len) elements; `out` may lie at any address.
    ///
    /// # Errors
    /// Those of [`encoded_len`](Self::encoded_len), and the following; nothing has been written then.
    /// - [`Error::Length`] when `weights` has another length.
    /// - [`Error::NotFinite`] or [`Error::Padding`] when a weight is not finite, or a padding row not zero.
    /// - [`Error::ImageLength`] when `out` is too short.
    pub fn encode(&self, weights: &[Lanes], out: &mut [u8]) -> Result<usize, Error> {
        let header = self.header(Kind::Dense)?;
        check_len("weights", linear_len(self.in_dim, self.out_dim, self.bias), weights.len())?;
        header.check_weights(weights.iter().copied())?;
        self.write(header, out, |payload| {
            write_lanes(weights, payload);
        })
    }

    /// Writes the image of an adapter in int8 to the front of `out` and returns its length. The same input gives the same
    /// bytes.
    ///
    /// The golden output is what `adapter` gives, not what the adapter in f32 gives that it was made from.
    ///
    /// # Errors
    /// Those of [`encoded_int8_len`](Self::encoded_int8_len), and the following; nothing has been written then.
    /// - [`Error::Length`] when `adapter` has another dimension, or a bias and `bias` is false, or the reverse.
    /// - [`Error::NotFinite`], [`Error::Range`] or [`Error::Padding`] for a scale, bias or value that may not stand there.
    /// - [`Error::ImageLength`] when `out` is too short.
    pub fn encode_int8(&self, adapter: &Int8Linear<'_>, out: &mut [u8]) -> Result<usize, Error> {
        let header = self.header(Kind::Residual)?;
        check_len("values", panel_len(self.in_dim, self.in_dim), adapter.values().len())?;
        let bias = adapter.bias().unwrap_or_default();
        check_len("bias", if self.bias { panels(self.in_dim) } else { 0 }, bias.len())?;
        header.check_int8(
            adapter.scales().iter().copied(),
            bias.iter().copied(),
            adapter.values().iter().copied(),
        )?;
        self.write(header, out, |payload| {
            let values = write_lanes(bias, write_lanes(adapter.scales(), payload));
            let bytes = adapter.values().iter().flat_map(|lanes| lanes.0);
            for (place, value) in values.iter_mut().zip(bytes) {
                *place = value.cast_unsigned();
            }
        })
    }

    /// Writes all but the payload, which `fill` writes.
    fn write(
        &self,
        mut header: Header,
        out: &mut [u8],
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Error> {
        let too_short = Error::ImageLength { needed: header.image_len(), given: out.len() };
        let (image, _) = out.split_at_mut_checked(header.image_len()).ok_or(too_short)?;
        let (front, payload) = image.split_at_mut_checked(header.payload_offset()).ok_or(too_short)?;
        let (head, body) = front.split_first_chunk_mut::<HEADER_LEN>().ok_or(too_short)?;
        let (metadata, padding) = body.split_at_mut_checked(header.metadata_len).ok_or(too_short)?;

        write_section(&self.section(), &self.metadata, metadata)?;
        padding.fill(0);
        fill(payload);
        header.metadata_crc = crc32(metadata);
        header.payload_crc = crc32(payload);
        *head = header.encode();
        Ok(header.image_len())
    }

    /// The header without its checksums, after all has been checked that does not need the weights.
    fn header(&self, kind: Kind) -> Result<Header, Error> {
        check_dim("in_dim", self.in_dim)?;
        check_dim("out_dim", self.out_dim)?;
        if kind as u8 == Kind::Residual as u8 && self.out_dim != self.in_dim {
            return Err(Error::Setting { name: "out_dim" });
        }
        self.metadata.check()?;
        check_len("golden query", self.in_dim, self.golden_query.len())?;
        check_len("golden output", self.out_dim, self.golden_output.len())?;
        check_finite("golden query", self.golden_query.iter().copied())?;
        check_finite("golden output", self.golden_output.iter().copied())?;
        let metadata_len = section_len(&self.section(), &self.metadata)?;
        Ok(Header {
            kind,
            bias: self.bias,
            in_dim: self.in_dim,
            out_dim: self.out_dim,
            metadata_len,
            metadata_crc: 0,
            payload_crc: 0,
        })
    }

    /// The metadata as they are written; see [`Section::decode`].
    fn section(&self) -> Section<&Metadata<'_>, FloatBytes<'_>> {
        Section {
            metadata: &self.metadata,
            golden_query: FloatBytes(self.golden_query),
            golden_output: FloatBytes(self.golden_output),
        }
    }
}

/// The fields of the header that vary. What can be computed from them is checked on reading and then forgotten.
#[derive(Clone, Copy)]
struct Header {
    kind: Kind,
    bias: bool,
    /// `1 ..= MAX_DIM`, like `out_dim`; with `metadata_len` bounded too, no sum or product below can overflow. A residual
    /// adapter's are equal.
    in_dim: usize,
    out_dim: usize,
    /// At most `MAX_METADATA_LEN`.
    metadata_len: usize,
    metadata_crc: u32,
    payload_crc: u32,
}

impl Header {
    /// Reads the first 64 of `bytes` and checks everything that can be known from them alone.
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        // Magic and version stand where they are in every version, and come before anything that may change.
        if !MAGIC.starts_with(bytes.get(..MAGIC.len()).unwrap_or(bytes)) {
            return Err(Error::Magic);
        }
        let mut fields = Fields { rest: bytes, given: bytes.len() };
        let _magic = fields.take::<8>()?;
        let version = fields.u16()?;
        if version != VERSION {
            return Err(Error::Version { found: version });
        }

        let short = Error::ImageLength { needed: HEADER_LEN, given: bytes.len() };
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
        let (covered, stored) = header.split_last_chunk().ok_or(short)?;
        check_crc("header", covered, u32::from_le_bytes(*stored))?;

        let code = fields.u8()?;
        let kind = if code == Kind::Residual as u8 { Kind::Residual } else { Kind::Dense };
        expect_field("kind", code, kind as u8)?;
        expect_field("dtype", fields.u8()?, kind.dtype() as u8)?;
        let flags = fields.u32()?;
        expect_field("flags", flags, flags & FLAG_BIAS)?;
        let in_dim = to_usize(fields.u32()?);
        check_dim("in_dim", in_dim)?;
        let out_dim = to_usize(fields.u32()?);
        check_dim("out_dim", out_dim)?;
        if kind as u8 == Kind::Residual as u8 {
            expect_field("out_dim", to_u32(out_dim), to_u32(in_dim))?;
        }
        expect_field("rank", fields.u32()?, 0u32)?;
        let metadata_len = fields.u32()?;
        if to_usize(metadata_len) > MAX_METADATA_LEN {
            return Err(Error::Header { field: "metadata_len", found: metadata_len });
        }
        let payload_offset = fields.u32()?;
        let metadata_crc = fields.u32()?;
        let payload_len = fields.u64()?;
        let payload_crc = fields.u32()?;
        let header = Self {
            kind,
            bias: flags & FLAG_BIAS != 0,
            in_dim,
            out_dim,
            metadata_len: to_usize(metadata_len),
            metadata_crc,
            payload_crc,
        };
        expect_field("payload_offset", payload_offset, to_u32(header.payload_offset()))?;
        expect_field("payload_len", payload_len, to_u32(header.payload_len()))?;
        expect_field("reserved", fields.u64()?, 0u32)?;
        Ok(header)
    }

    /// The inverse of [`decode`](Self::decode).
    fn encode(&self) -> [u8; HEADER_LEN] {
        let fields: [&[u8]; 12] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &[self.kind as u8, self.kind.dtype() as u8],
            &(if self.bias { FLAG_BIAS } else { 0 }).to_le_bytes(),
            &to_u32(self.in_dim).to_le_bytes(),
            &to_u32(self.out_dim).to_le_bytes(),
            &0u32.to_le_bytes(), // rank
            &to_u32(self.metadata_len).to_le_bytes(),
            &to_u32(self.payload_offset()).to_le_bytes(),
            &self.metadata_crc.to_le_bytes(),
            &u64::from(to_u32(self.payload_len())).to_le_bytes(),
            &self.payload_crc.to_le_bytes(),
        ];
        let mut header = [0; HEADER_LEN];
        for (place, &byte) in header.iter_mut().zip(fields.into_iter().flatten()) {
            *place = byte;
        }
        if let Some((covered, stored)) = header.split_last_chunk_mut() {
            *stored = crc32(covered).to_le_bytes();
        }
        header
    }

    /// Columns of the weights, the bias among them.
    const fn cols(&self) -> usize {
        self.in_dim + self.bias as usize
    }

    const fn payload_offset(&self) -> usize {
        (HEADER_LEN + self.metadata_len).next_multiple_of(ALIGNMENT)
    }

    const fn payload_len(&self) -> usize {
        match self.kind {
            Kind::Dense => linear_len(self.in_dim, self.out_dim, self.bias) * size_of::<Lanes>(),
            Kind::Residual => {
                let column = panels(self.in_dim) * size_of::<Lanes>();
                column * (1 + self.bias as usize)
                    + panel_len(self.in_dim, self.in_dim) * size_of::<ByteLanes>()
            }
        }
    }

    const fn image_len(&self) -> usize {
        self.payload_offset() + self.payload_len()
    }

    /// Checks that every weight is finite and every padding row `+0`, which no result may depend on.
    fn check_weights(&self, weights: impl Iterator<Item = Lanes>) -> Result<(), Error> {
        self.check_lanes("weight", self.cols(), self.payload_offset(), weights)
    }

    /// Checks that every scale is finite and not negative, every bias finite, every value from −127 to 127, and every
    /// padding row of them zero.
    fn check_int8(
        &self,
        scales: impl Iterator<Item = Lanes> + Clone,
        bias: impl Iterator<Item = Lanes>,
        values: impl Iterator<Item = ByteLanes>,
    ) -> Result<(), Error> {
        let column = panels(self.in_dim) * size_of::<Lanes>();
        let scales_offset = self.payload_offset();
        let bias_offset = scales_offset + column;
        let values_offset = bias_offset + if self.bias { column } else { 0 };
        self.check_lanes("scale", 1, scales_offset, scales.clone())?;
        if let Some(row) = scales.flat_map(|lanes| lanes.0).position(f32::is_sign_negative) {
            return Err(Error::Range { what: "scale", row });
        }
        self.check_lanes("bias", 1, bias_offset, bias)?;
        for (index, column) in values.enumerate() {
            let first_row = index / self.in_dim.max(1) * LANES;
            for (lane, value) in column.0.into_iter().enumerate() {
                let row = first_row + lane;
                if row >= self.out_dim && value != 0 {
                    return Err(Error::Padding { offset: values_offset + index * LANES + lane });
                }
                if value == i8::MIN {
                    return Err(Error::Range { what: "value", row });
                }
            }
        }
        Ok(())
    }

    /// Checks that all numbers of panels of `cols` columns, which lie at `offset` in the image, are finite, and those of
    /// padding rows `+0`.
    fn check_lanes(
        &self,
        what: &'static str,
        cols: usize,
        offset: usize,
        lanes: impl Iterator<Item = Lanes>,
    ) -> Result<(), Error> {
        for (index, lanes) in lanes.enumerate() {
            let first_row = index / cols.max(1) * LANES;
            for (lane, value) in lanes.0.into_iter().enumerate() {
                let row = first_row + lane;
                if row < self.out_dim {
                    if !value.is_finite() {
                        return Err(Error::NotFinite { what, row });
                    }
                } else if value.to_bits() != 0 {
                    let offset = offset + index * size_of::<Lanes>() + lane * size_of::<f32>();
                    return Err(Error::Padding { offset });
                }
            }
        }
        Ok(())
    }
}

/// The parts of a payload in int8, in their order.
struct Int8Payload<'a> {
    scales: &'a [u8],
    bias: &'a [u8],
    values: &'a [u8],
}

/// What follows the schema number: the metadata and the golden pair, in the order of the file.
///
/// Generic so that one declaration fixes that order for writing (from `f32`) and for reading (borrowed bytes, which
/// may lie at any address).
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Section<M, F> {
    metadata: M,
    golden_query: F,
    golden_output: F,
}

impl<'a> Section<Metadata<'a>, &'a [u8]> {
    /// Postcard can neither skip a field nor default a missing one, so an unknown schema is refused, not guessed at.
    fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let (schema, fields) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| Error::Metadata)?;
        if !matches!(schema, METADATA_SCHEMA | METADATA_SCHEMA_WITH_TEXT | METADATA_SCHEMA_WITH_SETTINGS) {
            return Err(Error::MetadataSchema { found: schema });
        }
        let (mut section, mut rest): (Self, _) =
            postcard::take_from_bytes(fields).map_err(|_| Error::Metadata)?;
        if schema == METADATA_SCHEMA_WITH_TEXT {
            let (text, after) = postcard::take_from_bytes(rest).map_err(|_| Error::Metadata)?;
            (section.metadata.golden_text, rest) = (Some(text), after);
        }
        if schema == METADATA_SCHEMA_WITH_SETTINGS {
            let ((text, settings), after) = postcard::take_from_bytes(rest).map_err(|_| Error::Metadata)?;
            (section.metadata.golden_text, section.metadata.settings, rest) = (text, Some(settings), after);
        }
        // Postcard reads integers that were given more bytes than they need; then one adapter would have many files.
        let shortest = section_len(&section, &section.metadata)?;
        if rest.is_empty() && shortest == bytes.len() { Ok(section) } else { Err(Error::Metadata) }
    }
}

/// The section as it stands in a file: its schema, its fields, then what later schemas have.
fn write_section(section: &impl Serialize, later: &Metadata<'_>, out: &mut [u8]) -> Result<(), Error> {
    let written = match (later.golden_text, later.settings) {
        (None, None) => postcard::to_slice(&(METADATA_SCHEMA, section), out),
        (Some(text), None) => postcard::to_slice(&(METADATA_SCHEMA_WITH_TEXT, section, text), out),
        (text, Some(settings)) => {
            postcard::to_slice(&(METADATA_SCHEMA_WITH_SETTINGS, section, text, settings), out)
        }
    };
    written.map(|_| ()).map_err(|_| Error::Metadata)
}

/// The bytes that [`write_section`] needs.
fn section_len(section: &impl Serialize, later: &Metadata<'_>) -> Result<usize, Error> {
    let size = Size::default();
    let length = match (later.golden_text, later.settings) {
        (None, None) => postcard::serialize_with_flavor(&(METADATA_SCHEMA, section), size),
        (Some(text), None) => {
            postcard::serialize_with_flavor(&(METADATA_SCHEMA_WITH_TEXT, section, text), size)
        }
        (text, Some(settings)) => {
            postcard::serialize_with_flavor(&(METADATA_SCHEMA_WITH_SETTINGS, section, text, settings), size)
        }
    };
    length.map_err(|_| Error::Metadata)
}

/// Serialises floats as one byte string of little-endian binary32.
struct FloatBytes<'a>(&'a [f32]);

impl Serialize for FloatBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = serializer.serialize_seq(Some(size_of_val(self.0)))?;
        for byte in self.0.iter().flat_map(|value| value.to_le_bytes()) {
            bytes.serialize_element(&byte)?;
        }
        bytes.end()
    }
}

/// Reads the header field by field.
struct Fields<'a> {
    rest: &'a [u8],
    /// Length of the whole image, for the error.
    given: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let short = Error::ImageLength { needed: HEADER_LEN, given: self.given };
        let (field, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.take().map(u64::from_le_bytes)
    }
}

fn expect_field(field: &'static str, found: impl Into<u64>, expected: impl Into<u64>) -> Result<(), Error> {
    let found = found.into();
    if found == expected.into() {
        return Ok(());
    }
    Err(Error::Header { field, found: u32::try_from(found).unwrap_or(u32::MAX) })
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

/// CRC-32 as in zip, PNG and Ethernet; the table is 1 KB.
fn crc32(bytes: &[u8]) -> u32 {
    static CRC_32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    CRC_32.checksum(bytes)
}

/// Saturating, so that what does not fit fails the check of its limit.
fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// For lengths and offsets, which the limits of [`Header`] keep below 2³².
fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn decode_f32(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk))
}

fn copy_f32(bytes: &[u8], out: &mut [f32]) {
    for (place, value) in out.iter_mut().zip(decode_f32(bytes)) {
        *place = value;
    }
}

/// Whole lanes as they lie in the payload of an image.
fn in_place<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Result<&[T], Error> {
    if cfg!(target_endian = "big") {
        return Err(Error::ByteOrder);
    }
    // They are whole, so the only way for the cast to fail is the address.
    bytemuck::try_cast_slice(bytes)
        .map_err(|_| Error::Misaligned { offset: bytes.as_ptr().addr() % ALIGNMENT })
}

/// Writes to the front of `out`; returns what is left of it.
fn write_lanes<'o>(lanes: &[Lanes], out: &'o mut [u8]) -> &'o mut [u8] {
    let (front, rest) = out.split_at_mut_checked(size_of_val(lanes)).unwrap_or_default();
    for (place, value) in front.as_chunks_mut().0.iter_mut().zip(lanes.iter().flat_map(|lanes| lanes.0)) {
        *place = value.to_le_bytes();
    }
    rest
}

fn decode_bytes(bytes: &[u8]) -> impl Iterator<Item = ByteLanes> {
    bytes.as_chunks().0.iter().map(|column: &[u8; LANES]| ByteLanes(column.map(u8::cast_signed)))
}

fn decode_lanes(bytes: &[u8]) -> impl Iterator<Item = Lanes> + Clone {
    bytes.chunks_exact(size_of::<Lanes>()).map(|chunk| {
        let mut lanes = Lanes::ZERO;
        copy_f32(chunk, &mut lanes.0);
        lanes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::PanelMatrix;

    const METADATA: Metadata<'_> = Metadata {
        tool: "test 1.0",
        base_model: "BAAI/bge-small-en",
        query_prefix: "query: ",
        document_prefix: "",
        similarity: Similarity::Cosine,
        normalized: true,
        training: None,
        golden_text: None,
        settings: None,
    };

    /// Weights which differ everywhere, a query, and the image of both.
    struct Sample {
        weights: Vec<Lanes>,
        query: Vec<f32>,
        output: Vec<f32>,
        bytes: Vec<u8>,
    }

    fn sample(in_dim: usize, out_dim: usize, bias: bool) -> Sample {
        let numbers =
            |count: usize| (1u16..).map(|i| f32::from(i % 251) / 37.0 - 3.0).take(count).collect::<Vec<_>>();
        let cols = in_dim + usize::from(bias);
        let mut weights = vec![Lanes::ZERO; linear_len(in_dim, out_dim, bias)];
        let mut matrix = PanelMatrix::new(out_dim, cols, &mut weights[..]).unwrap();
        matrix.copy_from_row_major(&numbers(out_dim * cols)).unwrap();
        let query = numbers(in_dim);
        let mut output = vec![0.0; out_dim];
        let linear = Linear::from_lanes(in_dim, out_dim, bias, &weights[..], Level::baseline()).unwrap();
        linear.apply(&query, &mut output).unwrap();
        let spec = ImageSpec {
            in_dim,
            out_dim,
            bias,
            metadata: METADATA,
            golden_query: &query,
            golden_output: &output,
        };
        let mut bytes = vec![0; spec.encoded_len().unwrap()];
        spec.encode(&weights, &mut bytes).unwrap();
        Sample { weights, query, output, bytes }
    }

    fn levels() -> Vec<Level> {
        #[cfg(feature = "std")]
        return Level::available().collect();
        #[cfg(not(feature = "std"))]
        return vec![Level::SCALAR, Level::baseline()];
    }

    /// Calls `then` with a copy of `bytes` that begins `shift` bytes after a multiple of 64.
    fn with_shift<R>(bytes: &[u8], shift: usize, then: impl FnOnce(&[u8]) -> R) -> R {
        let mut buffer = vec![0; bytes.len() + 2 * ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT) + shift;
        let place = &mut buffer[start..start + bytes.len()];
        place.copy_from_slice(bytes);
        then(place)
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn view_borrows_the_weights_where_they_lie() {
        let Sample { weights, bytes, .. } = sample(5, 19, true);
        with_shift(&bytes, 0, |bytes| {
            let image = Image::view(bytes).unwrap();
            let payload = bytes.len() - size_of_val(&weights[..]);
            assert_eq!(image.weights().unwrap().as_ptr().addr(), bytes[payload..].as_ptr().addr());
            assert_eq!(image.weights().unwrap(), weights);
            assert_eq!(image.weights_len(), weights.len());
            image.verify().unwrap();
        });
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn misaligned_bytes_are_refused_by_name_but_can_be_copied() {
        let Sample { weights, bytes, .. } = sample(5, 19, true);
        for shift in 1..64 {
            with_shift(&bytes, shift, |bytes| {
                assert_eq!(Image::view(bytes).unwrap_err(), Error::Misaligned { offset: shift });
                let image = Image::parse(bytes).unwrap();
                assert_eq!(image.weights(), Err(Error::Misaligned { offset: shift }));
                let mut copied = vec![Lanes([f32::NAN; LANES]); weights.len()];
                image.copy_weights(&mut copied).unwrap();
                assert_eq!(copied, weights);
                image.verify().unwrap();
            });
        }
    }

    #[cfg(target_endian = "big")]
    #[test]
    fn view_is_refused_by_name_on_a_big_endian_machine() {
        let Sample { bytes, .. } = sample(5, 19, true);
        with_shift(&bytes, 0, |bytes| assert_eq!(Image::view(bytes).unwrap_err(), Error::ByteOrder));
    }

    #[test]
    fn every_shape_keeps_its_weights_and_its_golden_pair_at_every_level() {
        for out_dim in 1..=33 {
            for (in_dim, bias) in [(1, false), (1, true), (15, true), (16, false), (17, true)] {
                let Sample { weights, query, output, bytes } = sample(in_dim, out_dim, bias);
                let image = Image::parse(&bytes).unwrap();
                image.verify().unwrap();
                let mut copied = vec![Lanes::ZERO; image.weights_len()];
                image.copy_weights(&mut copied).unwrap();
                assert_eq!(copied, weights);
                let (mut golden_query, mut golden_output) = (vec![0.0; in_dim], vec![0.0; out_dim]);
                image.copy_golden(&mut golden_query, &mut golden_output).unwrap();
                assert_eq!((golden_query, golden_output), (query, output));
                for level in levels() {
                    let linear = Linear::from_lanes(in_dim, out_dim, bias, &copied[..], level).unwrap();
                    image.verify_golden(&linear, &mut vec![0.0; in_dim]).unwrap();
                }
            }
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn viewed_adapter_passes_its_golden_pair() {
        with_shift(&sample(24, 40, true).bytes, 0, |bytes| {
            let image = Image::view(bytes).unwrap();
            let linear = image.linear(Level::baseline()).unwrap();
            image.verify_golden(&linear, &mut [0.0; 24]).unwrap();
        });
    }

    #[test]
    fn golden_pair_names_the_first_element_that_differs_by_a_bit() {
        let Sample { weights, bytes, .. } = sample(7, 35, true);
        let image = Image::parse(&bytes).unwrap();
        for row in 0..35 {
            let mut changed = weights.clone();
            for later in row..35 {
                let bias = &mut changed[later / LANES * 8 + 7].0[later % LANES];
                *bias = f32::from_bits(bias.to_bits() ^ (1 << 22));
            }
            let linear = Linear::from_lanes(7, 35, true, &changed[..], Level::baseline()).unwrap();
            assert_eq!(image.verify_golden(&linear, &mut [0.0; 7]), Err(Error::Golden { index: row }));
        }
    }

    #[test]
    fn golden_pair_tells_minus_zero_from_plus_zero() {
        let spec = ImageSpec {
            in_dim: 1,
            out_dim: 1,
            bias: false,
            metadata: METADATA,
            golden_query: &[1.0],
            golden_output: &[-0.0],
        };
        let mut bytes = [0; 512];
        let length = spec.encode(&[Lanes::ZERO], &mut bytes).unwrap();
        let image = Image::parse(&bytes[..length]).unwrap();
        let linear = Linear::from_lanes(1, 1, false, [Lanes::ZERO], Level::baseline()).unwrap();
        assert_eq!(image.verify_golden(&linear, &mut [0.0]), Err(Error::Golden { index: 0 }));
    }

    #[test]
    fn golden_pair_needs_an_adapter_and_a_buffer_of_its_own_size() {
        let image_of = sample(7, 35, true);
        let image = Image::parse(&image_of.bytes).unwrap();
        let check = |in_dim: usize, out_dim: usize, scratch: usize| {
            let other = sample(in_dim, out_dim, true);
            let linear =
                Linear::from_lanes(in_dim, out_dim, true, &other.weights[..], Level::baseline()).unwrap();
            image.verify_golden(&linear, &mut vec![0.0; scratch])
        };
        assert_eq!(check(7, 35, 7), Ok(()));
        assert_eq!(check(7, 35, 6), Err(Error::Length { what: "golden query", needed: 7, given: 6 }));
        assert_eq!(check(7, 36, 7), Err(Error::Length { what: "golden output", needed: 35, given: 36 }));
        assert_eq!(check(8, 35, 7), Err(Error::Length { what: "query", needed: 8, given: 7 }));
    }

    #[test]
    fn copies_need_buffers_of_the_right_size_and_leave_others_alone() {
        let Sample { weights, bytes, .. } = sample(7, 35, true);
        let image = Image::parse(&bytes).unwrap();
        let mut short = vec![Lanes::ZERO; weights.len() - 1];
        let error = Error::Length { what: "weights", needed: weights.len(), given: short.len() };
        assert_eq!(image.copy_weights(&mut short), Err(error));
        assert!(short.iter().all(|lanes| *lanes == Lanes::ZERO));

        let mut query = [9.0; 7];
        let error = Error::Length { what: "golden output", needed: 35, given: 34 };
        assert_eq!(image.copy_golden(&mut query, &mut [0.0; 34]), Err(error));
        assert_eq!(query, [9.0; 7]);
        let error = Error::Length { what: "golden query", needed: 7, given: 6 };
        assert_eq!(image.copy_golden(&mut query[..6], &mut [0.0; 35]), Err(error));
    }

    #[test]
    fn refused_input_leaves_the_buffer_as_it_was() {
        let Sample { weights, query, output, bytes } = sample(3, 17, false);
        let good = ImageSpec {
            in_dim: 3,
            out_dim: 17,
            bias: false,
            metadata: METADATA,
            golden_query: &query,
            golden_output: &output,
        };
        let refuse = |spec: &ImageSpec<'_>, weights: &[Lanes], room: usize, expected: Error| {
            let mut out = vec![0x55; room];
            assert_eq!(spec.encode(weights, &mut out), Err(expected));
            assert!(out.iter().all(|&byte| byte == 0x55), "written in spite of {expected:?}");
        };
        let room = bytes.len();
        let dimension = |what, given| Error::Dimension { what, given, max: MAX_DIM };
        let length = |what, needed, given| Error::Length { what, needed, given };

        for given in [0, MAX_DIM + 1, usize::MAX] {
            refuse(&ImageSpec { in_dim: given, ..good }, &weights, room, dimension("in_dim", given));
            refuse(&ImageSpec { out_dim: given, ..good }, &weights, room, dimension("out_dim", given));
        }
        refuse(&good, &weights[1..], room, length("weights", 6, 5));
        refuse(&ImageSpec { bias: true, ..good }, &weights, room, length("weights", 8, 6));
        refuse(
            &ImageSpec { golden_query: &query[1..], ..good },
            &weights,
            room,
            length("golden query", 3, 2),
        );
        refuse(&ImageSpec { golden_output: &[], ..good }, &weights, room, length("golden output", 17, 0));
        for given in 0..room {
            refuse(&good, &weights, given, Error::ImageLength { needed: room, given });
        }

        let not_finite = |what, row| Error::NotFinite { what, row };
        let bad = [1.0, f32::NAN, 0.0];
        refuse(&ImageSpec { golden_query: &bad, ..good }, &weights, room, not_finite("golden query", 1));
        let bad = [f32::NEG_INFINITY; 17];
        refuse(&ImageSpec { golden_output: &bad, ..good }, &weights, room, not_finite("golden output", 0));
        let mut bad = weights.clone();
        bad[5].0[0] = f32::INFINITY;
        refuse(&good, &bad, room, not_finite("weight", 16));
        bad[5].0[0] = 0.0;
        bad[5].0[1] = -0.0;
        let offset = room - size_of::<Lanes>() + size_of::<f32>();
        refuse(&good, &bad, room, Error::Padding { offset });
    }

    #[test]
    fn metadata_outside_their_limits_are_not_written() {
        let Sample { weights, query, output, .. } = sample(2, 2, true);
        let long = "é".repeat(513);
        let encode = |metadata| {
            let spec = ImageSpec {
                in_dim: 2,
                out_dim: 2,
                bias: true,
                metadata,
                golden_query: &query,
                golden_output: &output,
            };
            spec.encode(&weights, &mut [0; 4096]).unwrap_err()
        };
        let too_long = |what, capacity, given| Error::TextTooLong { what, capacity, given };
        let training = Training {
            recipe: "",
            optimizer: "",
            epochs: 1,
            kept_epoch: 1,
            steps: 1,
            batch_size: 1,
            lr: 1.0,
            scale: 1.0,
            seed: 0,
            pairs: 1,
            validation: None,
        };
        let trained = |training| Metadata { training: Some(training), ..METADATA };
        let validated = |base_ndcg_at_10, adapted_ndcg_at_10| {
            let validation = Some(Validation { base_ndcg_at_10, adapted_ndcg_at_10 });
            trained(Training { validation, ..training })
        };
        let cases = [
            (Metadata { tool: &long[..66], ..METADATA }, too_long("tool", 64, 66)),
            (Metadata { base_model: &long[..258], ..METADATA }, too_long("base_model", 256, 258)),
            (Metadata { query_prefix: &long, ..METADATA }, too_long("query_prefix", 1024, 1026)),
            (Metadata { document_prefix: &long, ..METADATA }, too_long("document_prefix", 1024, 1026)),
            (Metadata { golden_text: Some(&long[..258]), ..METADATA }, too_long("golden_text", 256, 258)),
            (Metadata { settings: Some(&long), ..METADATA }, too_long("settings", 1024, 1026)),
            (trained(Training { recipe: &long[..66], ..training }), too_long("recipe", 64, 66)),
            (trained(Training { optimizer: &long[..66], ..training }), too_long("optimizer", 64, 66)),
            (trained(Training { lr: f32::NAN, ..training }), Error::Setting { name: "lr" }),
            (trained(Training { scale: f32::INFINITY, ..training }), Error::Setting { name: "scale" }),
            (validated(f32::NAN, 0.0), Error::Setting { name: "base_ndcg_at_10" }),
            (validated(0.0, f32::NEG_INFINITY), Error::Setting { name: "adapted_ndcg_at_10" }),
        ];
        for (metadata, expected) in cases {
            assert_eq!(encode(metadata), expected);
        }
    }

    #[test]
    fn longest_metadata_stay_far_below_their_limit() {
        let text = "x".repeat(1024);
        let training = Training {
            recipe: &text[..Training::MAX_NAME],
            optimizer: &text[..Training::MAX_NAME],
            epochs: u32::MAX,
            kept_epoch: u32::MAX,
            steps: u64::MAX,
            batch_size: u32::MAX,
            lr: 1.0,
            scale: 1.0,
            seed: u64::MAX,
            pairs: u64::MAX,
            validation: Some(Validation { base_ndcg_at_10: 1.0, adapted_ndcg_at_10: 1.0 }),
        };
        let spec = ImageSpec {
            in_dim: MAX_DIM,
            out_dim: MAX_DIM,
            bias: true,
            metadata: Metadata {
                tool: &text[..Metadata::MAX_TOOL],
                base_model: &text[..Metadata::MAX_BASE_MODEL],
                query_prefix: &text[..Metadata::MAX_PREFIX],
                document_prefix: &text[..Metadata::MAX_PREFIX],
                training: Some(training),
                golden_text: Some(&text[..Metadata::MAX_GOLDEN_TEXT]),
                settings: Some(&text[..Metadata::MAX_SETTINGS]),
                ..METADATA
            },
            golden_query: &[1.0; MAX_DIM],
            golden_output: &[1.0; MAX_DIM],
        };
        let payload = linear_len(MAX_DIM, MAX_DIM, true) * size_of::<Lanes>();
        let metadata = spec.encoded_len().unwrap() - payload - HEADER_LEN;
        assert!(metadata < MAX_METADATA_LEN / 15, "{metadata}");
    }

    #[test]
    fn debug_text_leaves_the_weights_out() {
        let Sample { bytes, .. } = sample(40, 40, true);
        let text = format!("{:?}", Image::parse(&bytes).unwrap());
        assert!(text.starts_with("Image { kind: Dense, dtype: F32, in_dim: 40"), "{text}");
        assert!(text.len() < 400, "{text}");
    }
}
