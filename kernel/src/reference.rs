//! The definitions: naive scalar loops which every fast path must equal, bit for bit.
//!
//! They are slow on purpose, and public so that tests, fuzzers and other implementations can be held against them.

#[cfg(feature = "train")]
pub use crate::adam::reference_update;
#[cfg(feature = "train")]
pub use crate::cross_entropy::reference_softmax_cross_entropy;
pub use crate::linear::reference_forward;
pub use crate::normalize::{reference_normalize, reference_normalize_backward};
pub use crate::quantized::{reference_int8_forward, reference_scaled_score, reference_widen_f16};
pub use crate::retrieve::{reference_cosine_score, reference_top_k};
#[cfg(feature = "train")]
pub use crate::train::{reference_d_weight, reference_direct_norm, reference_gram_norm};
