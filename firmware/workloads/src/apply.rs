//! An adapter used where it lies.

use query_adapter::Level;
use query_adapter::image::Image;

use crate::numbers::Numbers;
use crate::{Digest, Failure, SQUARE};

const QUERIES: usize = 100;

/// Room for one query and its output.
pub struct ApplyBuffers {
    query: [f32; SQUARE.in_dim],
    output: [f32; SQUARE.out_dim],
}

impl ApplyBuffers {
    /// Room for the largest adapter of the programs.
    pub const NEW: Self = Self { query: [0.0; SQUARE.in_dim], output: [0.0; SQUARE.out_dim] };
}

/// Opens the image of an adapter, checks it and its golden pair, and transforms 100 queries: a digest of all outputs.
///
/// # Errors
/// What the kernel refuses.
pub fn apply(file: &[u8], buffers: &mut ApplyBuffers, level: Level) -> Result<u32, Failure> {
    let image = Image::view(file)?;
    image.verify()?;
    let adapter = image.linear(level)?;
    let query = buffers.query.get_mut(..image.in_dim()).unwrap_or_default();
    let output = buffers.output.get_mut(..image.out_dim()).unwrap_or_default();
    image.verify_golden(&adapter, query)?;
    let (mut numbers, mut digest) = (Numbers::new(2), Digest::new());
    for _ in 0..QUERIES {
        numbers.fill(query);
        adapter.apply(query, output)?;
        digest.values(output);
    }
    Ok(digest.finish())
}
