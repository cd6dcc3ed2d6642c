//! What an adapter was made for and how.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Which similarity the vector index uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Similarity {
    /// Cosine: the length of a vector does not matter.
    Cosine,
    /// Dot product.
    Dot,
}

/// What an adapter was made for and how. Texts are borrowed from the image.
///
/// By serde all fields are written but [`golden_text`](Self::golden_text) and [`settings`](Self::settings), which lie elsewhere in a file.
/// Nothing here says when, where or by whom: the same training gives the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata<'a> {
    /// Name and version of the program that wrote the image; at most [`Metadata::MAX_TOOL`] bytes.
    pub tool: &'a str,
    /// The embedding model whose query vectors the adapter takes; at most [`Metadata::MAX_BASE_MODEL`] bytes.
    pub base_model: &'a str,
    /// What was put before each query text when it was embedded; at most [`Metadata::MAX_PREFIX`] bytes.
    pub query_prefix: &'a str,
    /// What was put before each document text when it was embedded; at most [`Metadata::MAX_PREFIX`] bytes.
    pub document_prefix: &'a str,
    /// The similarity between adapted query and document.
    pub similarity: Similarity,
    /// Whether query vectors were scaled to length 1 before they reached the adapter.
    pub normalized: bool,
    /// How the adapter was trained; `None` where that is not known, as after a conversion.
    #[serde(borrow)]
    pub training: Option<Training<'a>>,
    /// The text whose vector by [`base_model`](Self::base_model), with [`query_prefix`](Self::query_prefix) before it,
    /// is the golden query; at most [`Metadata::MAX_GOLDEN_TEXT`] bytes. Whoever embeds it anew finds out whether two
    /// models are the same. `None` where the model was not at hand: the golden query is then any vector.
    // Not here but after the golden pair in the file, so that files without it are as they always were.
    #[serde(skip)]
    pub golden_text: Option<&'a str>,
    /// All settings of the training run, in whatever form its program reads them again; at most
    /// [`Metadata::MAX_SETTINGS`] bytes.
    #[serde(skip)]
    pub settings: Option<&'a str>,
}

impl Metadata<'_> {
    /// That of an adapter of which nothing is known: no texts, [`Similarity::Cosine`], and queries taken as they come.
    pub const UNKNOWN: Self = Self {
        tool: "",
        base_model: "",
        query_prefix: "",
        document_prefix: "",
        similarity: Similarity::Cosine,
        normalized: false,
        training: None,
        golden_text: None,
        settings: None,
    };
    /// Most bytes in [`tool`](Self::tool).
    pub const MAX_TOOL: usize = 64;
    /// Most bytes in [`base_model`](Self::base_model).
    pub const MAX_BASE_MODEL: usize = 256;
    /// Most bytes in [`query_prefix`](Self::query_prefix), and in [`document_prefix`](Self::document_prefix).
    pub const MAX_PREFIX: usize = 1024;
    /// Most bytes in [`golden_text`](Self::golden_text).
    pub const MAX_GOLDEN_TEXT: usize = 256;
    /// Most bytes in [`settings`](Self::settings).
    pub const MAX_SETTINGS: usize = 1024;

    /// The rules that hold for every image, checked by writer and reader alike.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_text("tool", self.tool, Self::MAX_TOOL)?;
        check_text("base_model", self.base_model, Self::MAX_BASE_MODEL)?;
        check_text("query_prefix", self.query_prefix, Self::MAX_PREFIX)?;
        check_text("document_prefix", self.document_prefix, Self::MAX_PREFIX)?;
        check_text("golden_text", self.golden_text.unwrap_or_default(), Self::MAX_GOLDEN_TEXT)?;
        check_text("settings", self.settings.unwrap_or_default(), Self::MAX_SETTINGS)?;
        self.training.map_or(Ok(()), |training| training.check())
    }
}

/// A summary of the training run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training<'a> {
    /// The name of the recipe; at most [`Training::MAX_NAME`] bytes.
    pub recipe: &'a str,
    /// The name of the optimiser; at most [`Training::MAX_NAME`] bytes.
    pub optimizer: &'a str,
    /// Passes over the training pairs that were made.
    pub epochs: u32,
    /// The epoch whose weights these are: 1 is the first, 0 the starting point.
    pub kept_epoch: u32,
    /// Optimiser steps that were made.
    pub steps: u64,
    /// Queries per step.
    pub batch_size: u32,
    /// Peak learning rate.
    pub lr: f32,
    /// What similarities were multiplied by before the softmax.
    pub scale: f32,
    /// Seed of the random generator.
    pub seed: u64,
    /// Number of (question, passage) pairs trained on.
    pub pairs: u64,
    /// The measurement that chose [`kept_epoch`](Self::kept_epoch); `None` without a validation set.
    pub validation: Option<Validation>,
}

impl Training<'_> {
    /// Most bytes in [`recipe`](Self::recipe), and in [`optimizer`](Self::optimizer).
    pub const MAX_NAME: usize = 64;

    fn check(&self) -> Result<(), Error> {
        check_text("recipe", self.recipe, Self::MAX_NAME)?;
        check_text("optimizer", self.optimizer, Self::MAX_NAME)?;
        check_setting("lr", self.lr)?;
        check_setting("scale", self.scale)?;
        if let Some(validation) = self.validation {
            check_setting("base_ndcg_at_10", validation.base_ndcg_at_10)?;
            check_setting("adapted_ndcg_at_10", validation.adapted_ndcg_at_10)?;
        }
        Ok(())
    }
}

/// nDCG@10 on validation queries, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Of the unadapted queries.
    pub base_ndcg_at_10: f32,
    /// Of the queries through the weights that were kept.
    pub adapted_ndcg_at_10: f32,
}

fn check_text(what: &'static str, text: &str, capacity: usize) -> Result<(), Error> {
    if text.len() <= capacity {
        Ok(())
    } else {
        Err(Error::TextTooLong { what, capacity, given: text.len() })
    }
}

fn check_setting(name: &'static str, value: f32) -> Result<(), Error> {
    if value.is_finite() { Ok(()) } else { Err(Error::Setting { name }) }
}
