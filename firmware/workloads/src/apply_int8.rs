//! An adapter in eight bits, used where it lies.

use query_adapter::{ByteLanes, Int8Linear, Lanes, Level, panel_len, panels};

use crate::apply::QUERIES;
use crate::numbers::Numbers;
use crate::{ApplyBuffers, Digest, Failure, SQUARE};

/// How many [`ByteLanes`] the adapter takes.
pub const INT8_LEN: usize = panel_len(SQUARE.out_dim, SQUARE.in_dim);
/// How many [`Lanes`] its scales take, and its bias.
pub const INT8_SCALES_LEN: usize = panels(SQUARE.out_dim);

/// The square adapter as its difference from the identity.
#[derive(Clone, Copy)]
pub struct Int8Parts<'a> {
    /// [`INT8_LEN`] elements.
    pub values: &'a [ByteLanes],
    /// [`INT8_SCALES_LEN`] elements.
    pub scales: &'a [Lanes],
    /// As many.
    pub bias: &'a [Lanes],
}

/// Transforms the queries of [`apply`](crate::apply): a digest of all outputs.
///
/// # Errors
/// What the kernel refuses.
pub fn apply_int8(parts: Int8Parts<'_>, buffers: &mut ApplyBuffers, level: Level) -> Result<u32, Failure> {
    let adapter = Int8Linear::new(SQUARE.in_dim, parts.values, parts.scales, Some(parts.bias), level)?;
    let (mut numbers, mut digest) = (Numbers::new(2), Digest::new());
    for _ in 0..QUERIES {
        numbers.fill(&mut buffers.query);
        adapter.apply(&buffers.query, &mut buffers.output)?;
        digest.values(&buffers.output);
    }
    Ok(digest.finish())
}
