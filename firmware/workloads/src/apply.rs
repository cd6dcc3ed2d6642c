//! An adapter used where it lies.

use query_adapter::image::{Image, Payload};
use query_adapter::{Lanes, Level, Transform};

use crate::numbers::Numbers;
use crate::{Digest, Failure, SQUARE};

pub(crate) const QUERIES: usize = 100;

/// Room for one query and its output.
pub struct ApplyBuffers {
    pub(crate) query: [f32; SQUARE.in_dim],
    pub(crate) output: [f32; SQUARE.out_dim],
}

impl ApplyBuffers {
    /// Room for the largest adapter of the programs.
    pub const NEW: Self = Self { query: [0.0; SQUARE.in_dim], output: [0.0; SQUARE.out_dim] };
}

/// Opens the image of an adapter, checks it and its golden pair, and transforms 100 queries: a digest of all outputs.
/// `boundary` is called before each of them and after.
///
/// # Errors
/// What the kernel refuses.
pub fn apply(file: &[u8], buffers: &mut ApplyBuffers, level: Level, boundary: fn()) -> Result<u32, Failure> {
    let image = Image::view(file)?;
    transform(&image, &image.linear(level)?, buffers, boundary)
}

/// The queries of [`apply`] through the weights of its file alone: the same digest.
///
/// # Errors
/// What the kernel refuses.
pub fn apply_only(
    file: &[u8],
    buffers: &mut ApplyBuffers,
    level: Level,
    boundary: fn(),
) -> Result<u32, Failure> {
    let adapter = Payload::view(file)?.linear(level)?;
    let query = buffers.query.get_mut(..adapter.in_dim()).unwrap_or_default();
    let output = buffers.output.get_mut(..adapter.out_dim()).unwrap_or_default();
    digest_of_outputs(&adapter, query, output, boundary)
}

/// What follows when an adapter has been opened, in place or not.
pub(crate) fn transform<A: Transform>(
    image: &Image<'_>,
    adapter: &A,
    buffers: &mut ApplyBuffers,
    boundary: fn(),
) -> Result<u32, Failure> {
    image.verify()?;
    let query = buffers.query.get_mut(..image.in_dim()).unwrap_or_default();
    let output = buffers.output.get_mut(..image.out_dim()).unwrap_or_default();
    image.verify_golden(adapter, query)?;
    digest_of_outputs(adapter, query, output, boundary)
}

fn digest_of_outputs<A: Transform>(
    adapter: &A,
    query: &mut [f32],
    output: &mut [f32],
    boundary: fn(),
) -> Result<u32, Failure> {
    let (mut numbers, mut digest) = (Numbers::new(2), Digest::new());
    for _ in 0..QUERIES {
        numbers.fill(query);
        boundary();
        adapter.apply(query, output)?;
        boundary();
        digest.values(output);
    }
    Ok(digest.finish())
}

/// The same, through a buffer of one panel, as if the file were in memory that cannot be pointed into.
///
/// # Errors
/// What the kernel refuses.
pub fn apply_streamed(
    file: &[u8],
    panel_buffer: &mut [Lanes],
    buffers: &mut ApplyBuffers,
    level: Level,
    boundary: fn(),
) -> Result<u32, Failure> {
    let image = Image::parse(file)?;
    let query = buffers.query.get_mut(..image.in_dim()).unwrap_or_default();
    let output = buffers.output.get_mut(..image.out_dim()).unwrap_or_default();
    let stride = image.in_dim() + usize::from(image.has_bias());
    let panel_buffer = panel_buffer.get_mut(..stride).unwrap_or_default();
    let payload = image.payload_offset();
    let (mut numbers, mut digest) = (Numbers::new(2), Digest::new());
    for _ in 0..QUERIES {
        numbers.fill(query);
        boundary();
        query_adapter::apply_streamed(
            level,
            image.has_bias(),
            query,
            output,
            panel_buffer,
            |panel, buffer| {
                let start = payload + panel * stride * size_of::<Lanes>();
                let bytes = file.get(start..).unwrap_or_default();
                let values = buffer.iter_mut().flat_map(|lanes| &mut lanes.0);
                for (value, &bytes) in values.zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(bytes);
                }
                Ok::<(), Failure>(())
            },
        )?;
        boundary();
        digest.values(output);
    }
    Ok(digest.finish())
}
