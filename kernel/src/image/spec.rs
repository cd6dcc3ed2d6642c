//! Writing an adapter file.

use super::header::Header;
use super::metadata::Metadata;
use super::section::{FloatBytes, Section, section_len, write_section};
use super::{HEADER_LEN, Kind, check_finite, crc32};
use crate::error::Error;
use crate::lanes::{Lanes, check_dim, check_len, panel_len, panels};
use crate::linear::linear_len;
use crate::quantized::Int8Linear;

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
    /// Those of [`encoded_len`](Self::encoded_len); [`Error::Length`] also when `out_dim` is not `in_dim`.
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
        if kind == Kind::Residual && self.out_dim != self.in_dim {
            return Err(Error::Length { what: "out_dim", needed: self.in_dim, given: self.out_dim });
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

/// Writes to the front of `out`; returns what is left of it.
fn write_lanes<'o>(lanes: &[Lanes], out: &'o mut [u8]) -> &'o mut [u8] {
    let (front, rest) = out.split_at_mut_checked(size_of_val(lanes)).unwrap_or_default();
    for (place, value) in front.as_chunks_mut().0.iter_mut().zip(lanes.iter().flat_map(|lanes| lanes.0)) {
        *place = value.to_le_bytes();
    }
    rest
}
