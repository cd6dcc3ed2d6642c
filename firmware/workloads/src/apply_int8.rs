//! An adapter in eight bits, used where it lies.

use query_adapter::Level;
use query_adapter::image::Image;

use crate::apply::transform;
use crate::{ApplyBuffers, Failure};

/// Does with an adapter in int8 what [`apply`](crate::apply) does with one in f32.
///
/// # Errors
/// What the kernel refuses.
pub fn apply_int8(
    file: &[u8],
    buffers: &mut ApplyBuffers,
    level: Level,
    boundary: fn(),
) -> Result<u32, Failure> {
    let image = Image::view(file)?;
    transform(&image, &image.int8(level)?, buffers, boundary)
}
