//! Damaged images, every one of which must be refused.

use core::fmt::Write as _;

use query_adapter::image::{HEADER_LEN, Image};
use query_adapter::{Error, Lanes};

use crate::{Digest, Failure};

/// How many [`Lanes`] [`refuse`] needs for the image of [`NARROW`](crate::NARROW), which has at most 2 KB besides its weights;
/// that of [`SMALL`](crate::SMALL) in int8 is smaller.
pub const REFUSE_LEN: usize = 3 * crate::NARROW.in_dim + 32;

/// Of the payload, every byte of this many is damaged, one at a time.
const PAYLOAD_STEP: usize = 509;

/// Damages a copy of an image in all these ways, one after the other: a digest of the errors' texts.
///
/// # Errors
/// [`Failure::Accepted`] when the kernel took a damaged image for a good one, or what it refused of the undamaged one.
pub fn refuse(file: &[u8], copy: &mut [Lanes; REFUSE_LEN]) -> Result<u32, Failure> {
    let mut attempts = Attempts { digest: Digest::new(), count: 0 };
    let copy = lanes_as_bytes(copy);
    let wrong_length = Error::Length { what: "copy", needed: file.len(), given: copy.len() };
    let length = file.len();
    copy_bytes(copy, 0, file);
    let image = Image::view(copy.get(..length).ok_or(wrong_length)?)?;
    image.verify()?;
    let payload = image.payload_offset();

    // Cut off, or followed by more.
    for given in (0..payload).chain([payload, length - 64, length - 1, length + 1]) {
        attempts.expect_error(copy.get(..given).ok_or(wrong_length)?)?;
    }
    // At an address from which weights cannot be borrowed.
    copy_bytes(copy, 4, file);
    attempts.expect_error(copy.get(4..length + 4).ok_or(wrong_length)?)?;
    copy_bytes(copy, 0, file);
    // Any bit of the header, and a bit of any byte up to the weights.
    for bit in 0..8 {
        for at in 0..payload {
            if at < HEADER_LEN || at % 8 == bit {
                attempts.flip(copy, length, at, bit)?;
            }
        }
    }
    for at in (payload..length).step_by(PAYLOAD_STEP) {
        attempts.flip(copy, length, at, at % 8)?;
    }
    let Attempts { mut digest, count } = attempts;
    digest.bytes(&count.to_le_bytes());
    Ok(digest.finish())
}

/// Without the panic of `copy_from_slice` for lengths that differ.
fn copy_bytes(to: &mut [u8], at: usize, from: &[u8]) {
    for (place, byte) in to.iter_mut().skip(at).zip(from) {
        *place = *byte;
    }
}

struct Attempts {
    digest: Digest,
    count: u32,
}

impl Attempts {
    /// Opens and checks an image that is damaged.
    fn expect_error(&mut self, damaged: &[u8]) -> Result<(), Failure> {
        self.count += 1;
        match Image::view(damaged).and_then(|image| image.verify()) {
            Ok(()) => Err(Failure::Accepted(self.count)),
            Err(error) => {
                // A digest takes any text.
                let _ = write!(self.digest, "{error};");
                Ok(())
            }
        }
    }

    /// Turns one bit over, and back.
    fn flip(&mut self, copy: &mut [u8], length: usize, at: usize, bit: usize) -> Result<(), Failure> {
        let image = copy.get_mut(..length).unwrap_or_default();
        if let Some(byte) = image.get_mut(at) {
            *byte ^= 1 << bit;
        }
        self.expect_error(image)?;
        if let Some(byte) = image.get_mut(at) {
            *byte ^= 1 << bit;
        }
        Ok(())
    }
}

fn lanes_as_bytes(lanes: &mut [Lanes]) -> &mut [u8] {
    bytemuck::try_cast_slice_mut(lanes).unwrap_or_default()
}
