//! Scores of documents for transformed queries.

use crate::error::Error;
use crate::lanes::{LANES, Lanes, check_dim, check_len, panel_len};
use crate::math;
use crate::normalize::normalize_panel;
use crate::simd::{Level, Simd, check_subnormals, dispatch};
use crate::tile::product_rows;
use crate::transpose::rows_to_panel;

/// Cosines of `rows` queries with `N` documents.
///
/// `queries` is `rows × dim`, row-major, of any norm; `documents` is `N × dim`, row-major, normalised by
/// [`normalize_rows`](crate::normalize_rows). `scratch` holds [`panel_len(rows, dim)`](panel_len) elements. `scores`
/// holds [`panel_len(rows, N)`](panel_len): it is a [`PanelMatrix`](crate::PanelMatrix) of `rows × N` afterwards. A zero query or document
/// scores 0. Equal documents score equally.
///
/// # Errors
/// [`Error::Dimension`] or [`Error::Length`]; `scores` is as before.
pub fn cosine_scores(
    level: Level,
    queries: &[f32],
    documents: &[f32],
    dim: usize,
    scratch: &mut [Lanes],
    scores: &mut [Lanes],
) -> Result<(), Error> {
    check_dim("dim", dim)?;
    let (rows, candidates) = (queries.len() / dim, documents.len() / dim);
    check_len("queries", rows * dim, queries.len())?;
    check_len("documents", candidates * dim, documents.len())?;
    check_len("scratch", panel_len(rows, dim), scratch.len())?;
    check_len("scores", panel_len(rows, candidates), scores.len())?;
    check_subnormals()?;
    if candidates == 0 {
        return Ok(());
    }
    let panels = scratch.chunks_exact_mut(dim).zip(scores.chunks_exact_mut(candidates));
    for ((panel, scores), queries) in panels.zip(queries.chunks(LANES * dim)) {
        dispatch!(level, s => score_panel(s, queries, panel, documents, scores));
    }
    Ok(())
}

/// Up to sixteen queries against all documents; `panel` takes the queries, a [`Lanes`] per component.
#[inline(always)]
fn score_panel<S: Simd>(s: S, queries: &[f32], panel: &mut [Lanes], documents: &[f32], scores: &mut [Lanes]) {
    let dim = panel.len();
    rows_to_panel(s, queries, dim, panel);
    normalize_panel(s, panel);
    product_rows(s, panel, dim, documents, dim, |_, candidate, acc| {
        if let Some(place) = scores.get_mut(candidate) {
            *place = s.to_lanes(acc);
        }
    });
}

/// The definition of one cosine: both rows normalised before.
#[must_use]
pub fn reference_cosine_score(query: &[f32], document: &[f32]) -> f32 {
    let mut acc = 0.0;
    for (&q, &d) in query.iter().zip(document) {
        acc = math::fma(q, d, acc);
    }
    acc
}
