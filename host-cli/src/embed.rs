//! Embedding models: from text to vectors.
//!
//! A model runs in this process or behind a service; an [`Embedder`] puts prefixes before texts and
//! keeps what was embedded in a cache; an [`Origin`] says which model vectors come from.

mod cache;
mod command;
mod embedder;
#[cfg(feature = "endpoint")]
mod endpoint;
#[cfg(feature = "models")]
mod folder;
#[cfg(feature = "models")]
mod hub;
#[cfg(feature = "models")]
mod local;
mod model;
mod origin;
#[cfg(feature = "models")]
mod pooling;
#[cfg(feature = "models")]
mod static_model;
#[cfg(feature = "models")]
mod tensors;
#[cfg(feature = "models")]
mod tokens;
#[cfg(feature = "models")]
mod transformer;

pub use command::run;
pub use embedder::{Counts, Embedder};
pub use origin::{GOLDEN_TEXT, Origin};

/// What this build can do with texts, as `--help` says it.
pub const BUILT_IN: &str = match (cfg!(feature = "models"), cfg!(feature = "endpoint")) {
    (true, true) => {
        "Models: built with local models (transformers of the BERT family, static models) and OpenAI-compatible services."
    }
    (true, false) => {
        "Models: built with local models (transformers of the BERT family, static models), without services."
    }
    (false, true) => {
        "Models: built with OpenAI-compatible services, without local models (--features models)."
    }
    (false, false) => "Models: built without local models and services (--features models,endpoint).",
};
