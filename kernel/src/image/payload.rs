//! The weights of an adapter file.

use core::fmt;

use super::header::Header;
use super::{ALIGNMENT, Dtype, HEADER_LEN, Kind, check_crc, copy_f32};
use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_len, panel_len, panels};
use crate::linear::{Linear, linear_len};
use crate::quantized::{ByteLanes, Int8Linear};
use crate::simd::Level;

/// The weights of an adapter file in memory: its header checked, and its metadata by their checksum but not read.
///
/// For programs that apply an adapter and want to know nothing else of it: without the reader of the metadata, a program is
/// about 5 KB smaller on a Cortex-M4F. [`Image`](super::Image) knows all of the file.
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

impl fmt::Debug for Payload<'_> {
    /// Everything but the weights, which may be megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("kind", &self.kind())
            .field("in_dim", &self.in_dim())
            .field("out_dim", &self.out_dim())
            .finish_non_exhaustive()
    }
}

impl<'a> Payload<'a> {
    /// Opens an image whose weights are to be used where they lie, so that [`linear`](Self::linear) or, as its
    /// [`kind`](Self::kind) is, [`int8`](Self::int8) finds them in their place.
    ///
    /// `bytes` is the whole file. Its first byte must lie at a multiple of 64; see [`Image::view`](super::Image::view).
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
    /// Those of [`Image::parse`](super::Image::parse) but for what is wrong with metadata whose checksum is right.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Ok(Self::split(bytes)?.0)
    }

    /// The payload, and the bytes of the metadata.
    pub(super) fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
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

    pub(super) fn check_in_place(&self) -> Result<(), Error> {
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
        if self.kind() == kind { Ok(()) } else { Err(Error::StoredAs { dtype: self.dtype().name() }) }
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

/// The parts of a payload in int8, in their order.
struct Int8Payload<'a> {
    scales: &'a [u8],
    bias: &'a [u8],
    values: &'a [u8],
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
