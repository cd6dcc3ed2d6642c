//! The buffers of a step, carved from one piece of the caller's memory.

use super::candidates::document_tile_len;
use super::norm::{NormForm, norm_form};
use super::queries::{QUERY_STATE_LEN, QueryState};
use super::update::ROWS_BESIDE;
use crate::error::Error;
use crate::lanes::{LANES, Lanes, panel_len, panels};

/// How many [`Lanes`] of scratch a step needs at most, for batches of up to `rows` rows and `candidates` candidates.
#[must_use]
pub const fn scratch_len(rows: usize, candidates: usize, in_dim: usize, out_dim: usize) -> usize {
    largest(Sizes { rows, block: candidates, in_dim, out_dim, streaming: false })
}

/// As [`scratch_len`], for candidates that come in blocks of `block`, however many they are in all.
#[must_use]
pub const fn streaming_scratch_len(rows: usize, block: usize, in_dim: usize, out_dim: usize) -> usize {
    largest(Sizes { rows, block, in_dim, out_dim, streaming: true })
}

/// How many [`Lanes`] of scratch more let [`Trainer::steps`](crate::Trainer::steps) transform the next batch's queries
/// by each panel of the weight as soon as it is updated.
#[must_use]
pub const fn ahead_len(rows: usize, in_dim: usize, out_dim: usize) -> usize {
    outputs_len(rows, out_dim).saturating_add(packed_len(rows, in_dim))
}

/// The length of [`Ahead::packed`](super::update::Ahead::packed).
pub(super) const fn packed_len(rows: usize, in_dim: usize) -> usize {
    panel_len(if rows < ROWS_BESIDE { rows } else { ROWS_BESIDE }, in_dim)
}

/// What the lengths of the buffers depend on.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    /// Candidates at a time.
    pub(super) block: usize,
    pub(super) in_dim: usize,
    pub(super) out_dim: usize,
    /// Whether documents are copied into scratch, block by block.
    pub(super) streaming: bool,
}

/// The length of [`Trainer`](crate::Trainer)'s `T`, later `dT`: panels of output rows, a column per query.
pub(super) const fn outputs_len(rows: usize, out_dim: usize) -> usize {
    panel_len(out_dim, rows)
}

const fn largest(sizes: Sizes) -> usize {
    // The two forms of the norm need different buffers, and a smaller batch may take the other form: the largest batch
    // of each form counts.
    let mut gram_rows = sizes.in_dim.saturating_mul(8).isqrt();
    if gram_rows > sizes.rows {
        gram_rows = sizes.rows;
    }
    let (all, gram) = (total(sizes), total(Sizes { rows: gram_rows, ..sizes }));
    if all > gram { all } else { gram }
}

/// What one batch of just these sizes takes.
const fn total(sizes: Sizes) -> usize {
    rest_len(sizes).saturating_add(outputs_len(sizes.rows, sizes.out_dim))
}

/// What it takes beside `T`.
pub(super) const fn rest_len(sizes: Sizes) -> usize {
    let lengths = lengths(sizes);
    let (mut sum, mut i) = (0_usize, 0);
    while i < lengths.len() {
        sum = sum.saturating_add(lengths[i]);
        i += 1;
    }
    sum
}

/// The lengths of the buffers of [`Scratch`], in its order.
const fn lengths(sizes: Sizes) -> [usize; 10] {
    let Sizes { rows, block, in_dim, out_dim, streaming } = sizes;
    let per_query = panel_len(rows, out_dim);
    let (gram, gradient, sums) = match norm_form(rows, in_dim) {
        NormForm::Gram => (panel_len(rows, in_dim), 0, panels(rows)),
        // Room for a bias, which costs one column where there is none.
        NormForm::Direct => (0, panel_len(out_dim, in_dim + 1), panels(out_dim)),
    };
    [
        per_query,
        per_query,
        panel_len(rows, block),
        panel_len(rows, document_tile_len(block)),
        panels(rows).saturating_mul(QUERY_STATE_LEN),
        panel_len(in_dim, rows),
        gram,
        gradient,
        sums,
        if streaming { block.saturating_mul(out_dim).div_ceil(LANES) } else { 0 },
    ]
}

/// The buffers of a step besides `T`.
pub(super) struct Scratch<'a> {
    /// `t̂`: panels of queries, a column per output.
    pub(super) normalized: &'a mut [Lanes],
    /// `dt̂`, later `dt`: as `normalized`.
    pub(super) d_output: &'a mut [Lanes],
    /// Scores of one block, later `d_scores`: panels of queries, a column per candidate.
    pub(super) scores: &'a mut [Lanes],
    /// Sixteen columns of some of a block's documents, packed; one tile for each panel of queries, so that each may have its thread.
    pub(super) document_tiles: &'a mut [Lanes],
    /// What each panel of queries carries through the step.
    pub(super) states: &'a mut [QueryState],
    /// The gradient operand, packed: sixteen columns after sixteen columns, a [`Lanes`] per row in each.
    pub(super) operand: &'a mut [Lanes],
    /// The gradient operand in panels of queries, a column per input; empty where the norm is taken directly.
    pub(super) operand_panels: &'a mut [Lanes],
    /// `dW`, as the weight; empty where each of its tiles is consumed at once.
    pub(super) gradient: &'a mut [Lanes],
    /// Sums of the norm: sixteen rows of the Gram product each, or the squares of one panel.
    pub(super) sums: &'a mut [Lanes],
    /// One block of documents, row-major; empty where all are in memory.
    pub(super) documents: &'a mut [Lanes],
}

impl<'a> Scratch<'a> {
    /// Carves the buffers from what is left beside `T`; `given` is how long all of it is.
    pub(super) fn carve(scratch: &'a mut [Lanes], sizes: Sizes, given: usize) -> Result<Self, Error> {
        let short = Error::Length { what: "scratch", needed: total(sizes), given };
        let mut rest = scratch;
        let mut buffers: [&'a mut [Lanes]; 10] = Default::default();
        for (buffer, length) in buffers.iter_mut().zip(lengths(sizes)) {
            (*buffer, rest) = rest.split_at_mut_checked(length).ok_or(short)?;
        }
        let [
            normalized,
            d_output,
            scores,
            document_tiles,
            states,
            operand,
            operand_panels,
            gradient,
            sums,
            documents,
        ] = buffers;
        let states = bytemuck::try_cast_slice_mut(states).map_err(|_| short)?;
        Ok(Self {
            normalized,
            d_output,
            scores,
            document_tiles,
            states,
            operand,
            operand_panels,
            gradient,
            sums,
            documents,
        })
    }
}
