//! Documents searched where they lie.

use query_adapter::{
    ByteLanes, DocumentPanels, Found, HalfLanes, Lanes, Level, TopK, normalize_rows, panel_len, panels,
    search,
};

use crate::numbers::Numbers;
use crate::{Digest, Failure};

/// Documents that are searched.
pub const DOCUMENTS: usize = 500;
/// Components of each.
pub const DOCUMENT_DIM: usize = 64;
/// How many [`Lanes`] they take.
pub const DOCUMENTS_LEN: usize = panel_len(DOCUMENTS, DOCUMENT_DIM);
/// How many [`Lanes`] their scales take.
pub const SCALES_LEN: usize = panels(DOCUMENTS);

const QUERIES: u32 = 20;
const BEST: usize = 10;
const FIRST_SEED: u64 = 100;

/// The reverse of the documents' order.
#[expect(clippy::cast_possible_truncation, reason = "at most 500")]
static REVERSED: [u32; DOCUMENTS] = {
    let mut order = [0; DOCUMENTS];
    let mut i = 0;
    while i < DOCUMENTS {
        order[i] = (DOCUMENTS - i) as u32;
        i += 1;
    }
    order
};

/// The documents in every form.
#[derive(Clone, Copy)]
pub struct Corpus<'a> {
    /// As they are.
    pub wide: &'a [Lanes],
    /// In binary16.
    pub half: &'a [HalfLanes],
    /// In eight bits.
    pub byte: &'a [ByteLanes],
    /// Their scales.
    pub scales: &'a [Lanes],
}

/// Document `index`, of length 1. Some are equal to the one before, so that there are ties.
///
/// # Errors
/// None for a row of [`DOCUMENT_DIM`].
pub fn fill_document(level: Level, index: usize, row: &mut [f32]) -> Result<(), Failure> {
    let index = if index % 50 == 7 { index - 1 } else { index };
    Numbers::new(FIRST_SEED + u64::try_from(index).unwrap_or(0)).fill(row);
    Ok(normalize_rows(level, row, DOCUMENT_DIM)?)
}

/// Finds the ten best of 500 documents for each of 20 queries, in f32, f16 and int8: a digest of the documents and scores
/// of each. In int8 the ids are in the reverse of the documents' order. `boundary` is called before each search and after.
///
/// # Errors
/// What the kernel refuses.
pub fn search_documents(level: Level, corpus: Corpus<'_>, boundary: fn()) -> Result<[u32; 3], Failure> {
    let forms = [
        (DocumentPanels::F32(corpus.wide), None),
        (DocumentPanels::F16(corpus.half), None),
        (DocumentPanels::Int8 { values: corpus.byte, scales: corpus.scales }, Some(&REVERSED[..])),
    ];
    let mut digests = [0; 3];
    let mut query = [0.0; DOCUMENT_DIM];
    for (place, (documents, order)) in digests.iter_mut().zip(forms) {
        let mut digest = Digest::new();
        for index in 0..QUERIES {
            Numbers::new(u64::from(index)).fill(&mut query);
            normalize_rows(level, &mut query, DOCUMENT_DIM)?;
            let mut storage = [Found::default(); BEST];
            let mut best = TopK::new(&mut storage);
            boundary();
            search(level, &query, documents, DOCUMENTS, order, &mut best)?;
            boundary();
            for found in best.into_sorted() {
                digest.bytes(&found.document.to_le_bytes());
                digest.values(&[found.score]);
            }
        }
        *place = digest.finish();
    }
    Ok(digests)
}
