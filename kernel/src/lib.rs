#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// The model of a training step names this crate as its other users do.
#[cfg(test)]
extern crate self as query_adapter;

#[cfg(feature = "train")]
mod adam;
#[cfg(all(test, feature = "std", feature = "train"))]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "a test module of small numbers"
)]
mod bit_identity;
#[cfg(feature = "train")]
mod cross_entropy;
mod error;
#[cfg(feature = "image")]
pub mod image;
mod lanes;
mod linear;
pub mod math;
mod normalize;
mod quantized;
pub mod reference;
mod retrieve;
#[cfg(feature = "train")]
pub mod sample;
#[cfg(feature = "train")]
mod schedule;
mod simd;
mod tile;
#[cfg(feature = "train")]
mod train;
mod transform;
mod transpose;

#[cfg(feature = "train")]
pub use adam::{Optimizer, OptimizerKind, OptimizerState, Update};
#[cfg(feature = "train")]
pub use cross_entropy::{Mask, MaskEntry};
pub use error::Error;
pub use lanes::{LANES, Lanes, MAX_DIM, PanelMatrix, panel_len, panels};
pub use linear::{Linear, apply_streamed, linear_len};
pub use normalize::{NORM_FLOOR, normalize_rows};
pub use quantized::{
    ByteLanes, DocumentPanels, HalfLanes, Int8Linear, encode_f16, encode_int8, encode_int8_adapter,
    narrow_f16, search, widen_f16,
};
pub use retrieve::{Found, TopK, cosine_scores, normalize_queries, offer_block, score_documents};
#[cfg(feature = "train")]
pub use schedule::{Decay, Schedule};
pub use simd::Level;
#[cfg(feature = "train")]
pub use train::{
    Anchor, Batch, DocumentBlocks, Documents, Join, NormForm, SingleThread, StepReport, Trainer, ahead_len,
    norm_form, scratch_len, streaming_scratch_len,
};
pub use transform::Transform;

// Whatever is held in flash or in a static, or is used by an interrupt, may be shared.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Level>();
    shared::<Error>();
    shared::<PanelMatrix<&[Lanes]>>();
    shared::<Linear<&[Lanes]>>();
    shared::<Int8Linear<'_>>();
    shared::<DocumentPanels<'_>>();
    shared::<TopK<'_>>();
    #[cfg(feature = "image")]
    shared::<image::Image<'_>>();
    #[cfg(feature = "train")]
    shared::<Trainer<&mut [Lanes]>>();
};
