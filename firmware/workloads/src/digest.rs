//! A checksum of results.

use crc::{CRC_32_ISO_HDLC, Crc, Digest as State, NoTable};

static CRC_32: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// CRC-32 of the bits of all values put in, little-endian; every NaN counts as the same.
pub struct Digest(State<'static, u32, NoTable>);

impl Digest {
    /// Of nothing yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "there is one way to begin")]
    pub fn new() -> Self {
        Self(CRC_32.digest())
    }

    /// Puts in values.
    pub fn values(&mut self, values: &[f32]) {
        for value in values {
            let bits = if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
            self.0.update(&bits.to_le_bytes());
        }
    }

    /// Puts in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

impl core::fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
