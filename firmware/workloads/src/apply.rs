//! An adapter used where it lies.

use query_adapter::image::Image;
use query_adapter::{Lanes, Level, Linear};

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

/// [`apply`] with a copy of the weights, for a machine that cannot use them in place.
///
/// # Errors
/// What the kernel refuses.
pub fn apply_copied(
    file: &[u8],
    weights: &mut [Lanes],
    buffers: &mut ApplyBuffers,
    level: Level,
) -> Result<u32, Failure> {
    let image = Image::parse(file)?;
    image.copy_weights(weights)?;
    let adapter = Linear::from_lanes(image.in_dim(), image.out_dim(), image.has_bias(), &*weights, level)?;
    transform(&image, &adapter, buffers)
}

/// Opens the image of an adapter, checks it and its golden pair, and transforms 100 queries: a digest of all outputs.
///
/// # Errors
/// What the kernel refuses.
pub fn apply(file: &[u8], buffers: &mut ApplyBuffers, level: Level) -> Result<u32, Failure> {
    let image = Image::view(file)?;
    transform(&image, &image.linear(level)?, buffers)
}

fn transform(
    image: &Image<'_>,
    adapter: &Linear<&[Lanes]>,
    buffers: &mut ApplyBuffers,
) -> Result<u32, Failure> {
    image.verify()?;
    let query = buffers.query.get_mut(..image.in_dim()).unwrap_or_default();
    let output = buffers.output.get_mut(..image.out_dim()).unwrap_or_default();
    image.verify_golden(adapter, query)?;
    let (mut numbers, mut digest) = (Numbers::new(2), Digest::new());
    for _ in 0..QUERIES {
        numbers.fill(query);
        adapter.apply(query, output)?;
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
) -> Result<u32, Failure> {
    let image = Image::parse(file)?;
    let query = buffers.query.get_mut(..image.in_dim()).unwrap_or_default();
    let output = buffers.output.get_mut(..image.out_dim()).unwrap_or_default();
    let stride = image.in_dim() + usize::from(image.has_bias());
    let panel_buffer = panel_buffer.get_mut(..stride).unwrap_or_default();
    let payload = file.len() - image.weights_len() * size_of::<Lanes>();
    let (mut numbers, mut digest) = (Numbers::new(2), Digest::new());
    for _ in 0..QUERIES {
        numbers.fill(query);
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
        digest.values(output);
    }
    Ok(digest.finish())
}
