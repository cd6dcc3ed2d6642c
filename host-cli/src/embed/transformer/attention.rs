//! Multi-head attention within one text.

use fearless_simd::Level as Lanes16;
use query_adapter::{LANES, Lanes, Level, Linear, linear_len, panel_len};

use super::elementwise::softmax_rows;
use crate::failure::Failure;

/// Buffers of [`attend`], kept from text to text.
#[derive(Default)]
pub(crate) struct Scratch {
    /// One head's queries, then its outputs: `tokens × head_dim`.
    rows: Vec<f32>,
    /// Keys, then values, in panels.
    panels: Vec<Lanes>,
    /// `tokens × tokens`.
    scores: Vec<f32>,
}

/// The shape of a layer's heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) count: usize,
    pub(crate) dim: usize,
}

/// `softmax(Q Kᵀ ÷ √head_dim + bias) V` for each head of one text.
///
/// `projected` is `tokens × 3 hidden`, query, key and value side by side; `output` is `tokens × hidden`. `bias`, where
/// there is one, is `heads × tokens × tokens`.
pub(crate) fn attend(
    level: Level,
    simd: Lanes16,
    heads: Heads,
    projected: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), Failure> {
    let (dim, hidden) = (heads.dim, heads.count * heads.dim);
    let tokens = projected.len() / (3 * hidden);
    #[allow(clippy::cast_precision_loss, reason = "a head has a few dozen dimensions")]
    let scale = 1.0 / query_adapter::math::sqrt(dim as f32);
    let part = |which: usize, token: usize, head: usize| -> &[f32] {
        &projected[token * 3 * hidden + which * hidden + head * dim..][..dim]
    };
    let Scratch { rows, panels, scores } = scratch;
    scores.resize(tokens * tokens, 0.0);
    for head in 0..heads.count {
        rows.clear();
        (0..tokens).for_each(|token| rows.extend_from_slice(part(0, token, head)));

        // Keys are the rows of a weight: token in lanes, dimension in columns.
        panels.clear();
        panels.resize(linear_len(dim, tokens, false), Lanes::ZERO);
        for token in 0..tokens {
            let panel = &mut panels[token / LANES * dim..][..dim];
            for (lanes, &key) in panel.iter_mut().zip(part(1, token, head)) {
                lanes.0[token % LANES] = key;
            }
        }
        Linear::from_lanes(dim, tokens, false, &panels[..], level)?.apply_batch(rows, scores)?;

        match bias {
            None => softmax_rows(simd, scores, tokens, scale),
            Some(bias) => {
                let bias = &bias[head * tokens * tokens..][..tokens * tokens];
                for (score, bias) in scores.iter_mut().zip(bias) {
                    *score = *score * scale + bias;
                }
                softmax_rows(simd, scores, tokens, 1.0);
            }
        }

        // Values are its columns: dimension in lanes, token in columns.
        panels.clear();
        panels.resize(panel_len(dim, tokens), Lanes::ZERO);
        for token in 0..tokens {
            for (panel, values) in part(2, token, head).chunks(LANES).enumerate() {
                panels[panel * tokens + token].0[..values.len()].copy_from_slice(values);
            }
        }
        Linear::from_lanes(tokens, dim, false, &panels[..], level)?.apply_batch(scores, rows)?;
        for (token, row) in rows.chunks_exact(dim).enumerate() {
            output[token * hidden + head * dim..][..dim].copy_from_slice(row);
        }
    }
    Ok(())
}
