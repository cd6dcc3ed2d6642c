//! What the programs include: adapter files, documents.

use alloc::vec;
use alloc::vec::Vec;

use query_adapter::image::{Image, ImageSpec, Metadata};
use query_adapter::{
    ByteLanes, Error, HalfLanes, Int8Linear, Lanes, Level, Linear, PanelMatrix, encode_f16, encode_int8,
    encode_int8_adapter, linear_len, panel_len, panels,
};

use crate::numbers::Numbers;
use crate::{Corpus, DOCUMENT_DIM, DOCUMENTS, DOCUMENTS_LEN, Failure, SCALES_LEN, Shape, fill_document};

/// The file of an adapter near the identity, with a golden pair.
///
/// # Errors
/// None for the shapes of this crate.
pub fn write_image(shape: Shape) -> Result<Vec<u8>, Error> {
    let Shape { in_dim, out_dim, bias } = shape;
    let mut numbers = Numbers::new(5);
    let mut weights = vec![Lanes::ZERO; linear_len(in_dim, out_dim, bias)];
    let mut adapter = Linear::identity(in_dim, out_dim, bias, &mut weights[..], Level::baseline())?;
    let mut values = vec![0.0; in_dim * out_dim];
    adapter.copy_weight_to(&mut values)?;
    for value in &mut values {
        *value += 0.0625 * numbers.value();
    }
    adapter.set_weight(&values)?;
    if bias {
        let mut values = vec![0.0; out_dim];
        numbers.fill(&mut values);
        adapter.set_bias(&values)?;
    }
    let (mut golden_query, mut golden_output) = (vec![0.0; in_dim], vec![0.0; out_dim]);
    numbers.fill(&mut golden_query);
    adapter.apply(&golden_query, &mut golden_output)?;
    let spec = ImageSpec {
        in_dim,
        out_dim,
        bias,
        metadata: Metadata { tool: "firmware", base_model: "made-up", ..Metadata::UNKNOWN },
        golden_query: &golden_query,
        golden_output: &golden_output,
    };
    let mut file = vec![0; spec.encoded_len()?];
    spec.encode(&weights, &mut file)?;
    Ok(file)
}

/// Documents in every form.
pub struct CorpusData {
    wide: Vec<Lanes>,
    half: Vec<HalfLanes>,
    byte: Vec<ByteLanes>,
    scales: Vec<Lanes>,
}

impl CorpusData {
    /// As the workload takes them.
    #[must_use]
    pub fn borrow(&self) -> Corpus<'_> {
        Corpus { wide: &self.wide, half: &self.half, byte: &self.byte, scales: &self.scales }
    }
}

/// The documents that are searched.
///
/// # Errors
/// None.
pub fn write_corpus() -> Result<CorpusData, Failure> {
    let mut rows = vec![0.0; DOCUMENTS * DOCUMENT_DIM];
    for (index, row) in rows.chunks_exact_mut(DOCUMENT_DIM).enumerate() {
        fill_document(Level::baseline(), index, row)?;
    }
    let mut wide = vec![Lanes::ZERO; DOCUMENTS_LEN];
    PanelMatrix::new(DOCUMENTS, DOCUMENT_DIM, &mut wide[..])?.copy_from_row_major(&rows)?;
    let mut half = vec![HalfLanes::ZERO; DOCUMENTS_LEN];
    encode_f16(&wide, &mut half)?;
    let (mut byte, mut scales) = (vec![ByteLanes::ZERO; DOCUMENTS_LEN], vec![Lanes::ZERO; SCALES_LEN]);
    encode_int8(DOCUMENTS, DOCUMENT_DIM, &wide, &mut byte, &mut scales)?;
    Ok(CorpusData { wide, half, byte, scales })
}

/// The file of the same adapter in eight bits, with the same golden query.
///
/// # Errors
/// [`Error::Setting`] for a shape that is not square.
pub fn write_int8_image(shape: Shape) -> Result<Vec<u8>, Error> {
    let Shape { in_dim: dim, bias, .. } = shape;
    let file = write_image(shape)?;
    let image = Image::parse(&file)?;
    let mut weights = vec![Lanes::ZERO; image.weights_len()];
    image.copy_weights(&mut weights)?;
    let adapter = Linear::from_lanes(dim, image.out_dim(), bias, &weights[..], Level::baseline())?;
    let mut values = vec![ByteLanes::ZERO; panel_len(dim, dim)];
    let (mut scales, mut biases) = (vec![Lanes::ZERO; panels(dim)], vec![Lanes::ZERO; panels(dim)]);
    encode_int8_adapter(&adapter, &mut values, &mut scales, &mut biases)?;
    let adapter = Int8Linear::new(dim, &values, &scales, bias.then_some(&biases[..]), Level::baseline())?;
    let (mut golden_query, mut golden_output) = (vec![0.0; dim], vec![0.0; dim]);
    image.copy_golden(&mut golden_query, &mut golden_output)?;
    adapter.apply(&golden_query, &mut golden_output)?;
    let spec = ImageSpec {
        in_dim: dim,
        out_dim: dim,
        bias,
        metadata: *image.metadata(),
        golden_query: &golden_query,
        golden_output: &golden_output,
    };
    let mut file = vec![0; spec.encoded_int8_len()?];
    spec.encode_int8(&adapter, &mut file)?;
    Ok(file)
}
