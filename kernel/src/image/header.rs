//! The first 64 bytes of an adapter file, and what they say about the rest.

use super::{ALIGNMENT, HEADER_LEN, Kind, MAGIC, MAX_METADATA_LEN, VERSION, check_crc, crc32};
use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_dim, panel_len, panels};
use crate::linear::linear_len;
use crate::quantized::ByteLanes;

const FLAG_BIAS: u32 = 1;

/// The fields of the header that vary. What can be computed from them is checked on reading and then forgotten.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) bias: bool,
    /// `1 ..= MAX_DIM`, like `out_dim`; with `metadata_len` bounded too, no sum or product below can overflow. A residual
    /// adapter's are equal.
    pub(super) in_dim: usize,
    pub(super) out_dim: usize,
    /// At most `MAX_METADATA_LEN`.
    pub(super) metadata_len: usize,
    pub(super) metadata_crc: u32,
    pub(super) payload_crc: u32,
}

impl Header {
    /// Reads the first 64 of `bytes` and checks everything that can be known from them alone.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
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
        if kind == Kind::Residual {
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
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
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

    pub(super) const fn payload_offset(&self) -> usize {
        (HEADER_LEN + self.metadata_len).next_multiple_of(ALIGNMENT)
    }

    pub(super) const fn payload_len(&self) -> usize {
        match self.kind {
            Kind::Dense => linear_len(self.in_dim, self.out_dim, self.bias) * size_of::<Lanes>(),
            Kind::Residual => {
                let column = panels(self.in_dim) * size_of::<Lanes>();
                column * (1 + self.bias as usize)
                    + panel_len(self.in_dim, self.in_dim) * size_of::<ByteLanes>()
            }
        }
    }

    pub(super) const fn image_len(&self) -> usize {
        self.payload_offset() + self.payload_len()
    }

    /// Checks that every weight is finite and every padding row `+0`, which no result may depend on.
    pub(super) fn check_weights(&self, weights: impl Iterator<Item = Lanes>) -> Result<(), Error> {
        self.check_lanes("weight", self.cols(), self.payload_offset(), weights)
    }

    /// Checks that every scale is finite and not negative, every bias finite, every value from −127 to 127, and every
    /// padding row of them zero.
    pub(super) fn check_int8(
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

/// Saturating, so that what does not fit fails the check of its limit.
fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// For lengths and offsets, which the limits of [`Header`] keep below 2³².
fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
