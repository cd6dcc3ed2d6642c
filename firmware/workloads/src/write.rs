//! The adapter files that the programs include.

use alloc::vec;
use alloc::vec::Vec;

use query_adapter::image::{ImageSpec, Metadata, Similarity};
use query_adapter::{Error, Lanes, Level, Linear, linear_len};

use crate::Shape;
use crate::numbers::Numbers;

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
        metadata: Metadata {
            tool: "firmware",
            base_model: "made-up",
            query_prefix: "",
            document_prefix: "",
            similarity: Similarity::Cosine,
            normalized: false,
            training: None,
            golden_text: None,
        },
        golden_query: &golden_query,
        golden_output: &golden_output,
    };
    let mut file = vec![0; spec.encoded_len()?];
    spec.encode(&weights, &mut file)?;
    Ok(file)
}
