//! `config.json` of a transformer: which family, how large.

use std::path::Path;

use query_adapter::MAX_DIM;
use serde::Deserialize;

use super::elementwise::Activation;
use crate::failure::Failure;

/// The families that can be run, as errors list them.
const SUPPORTED: &str = "bert, roberta, xlm-roberta, camembert, mpnet and distilbert";

/// Which architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Bert,
    /// Also XLM-RoBERTa and CamemBERT: BERT whose positions are counted from the padding token's id.
    Roberta,
    /// RoBERTa's positions, and a bias by relative position.
    Mpnet,
    /// BERT without kinds of tokens.
    DistilBert,
}

/// The sizes of a transformer; all are at least 1, but for the kinds of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) family: Family,
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) positions: usize,
    /// The row of the first token's position.
    pub(crate) first_position: usize,
    /// Kinds of tokens, 0 where the family knows none.
    pub(crate) token_types: usize,
    /// Buckets of relative positions, 0 where the family knows none.
    pub(crate) relative_buckets: usize,
    pub(crate) activation: Activation,
    /// Added to the variance of a layer.
    pub(crate) eps: f32,
}

/// The file as it stands; DistilBERT has names of its own.
#[derive(Deserialize)]
struct File {
    vocab_size: usize,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    pad_token_id: Option<usize>,
    type_vocab_size: Option<usize>,
    relative_attention_num_buckets: Option<usize>,
    position_embedding_type: Option<String>,
}

/// Only to say which model is refused before its sizes are asked for.
#[derive(Deserialize)]
struct ModelType {
    model_type: Option<String>,
}

impl Config {
    /// Reads the contents of `path`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when this is no `config.json`, or one of a model that cannot be run.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let fail = |problem: String| Failure::input(path, problem);
        let malformed = |error: serde_json::Error| {
            fail(format!("found no config.json of a transformer ({error}); download the model again"))
        };
        let ModelType { model_type } = serde_json::from_slice(bytes).map_err(malformed)?;
        let family = match model_type.as_deref() {
            Some("bert") | None => Family::Bert,
            Some("roberta" | "xlm-roberta" | "camembert") => Family::Roberta,
            Some("mpnet") => Family::Mpnet,
            Some("distilbert") => Family::DistilBert,
            Some(other) => {
                return Err(fail(format!(
                    "found a model of the type {other:?}, expected one of {SUPPORTED}, or a static model; serve this \
                     one behind an OpenAI-compatible service and give --model-url"
                )));
            }
        };
        let file: File = serde_json::from_slice(bytes).map_err(malformed)?;
        if let Some(kind) = file.position_embedding_type.as_deref().filter(|&kind| kind != "absolute") {
            return Err(fail(format!("found positions of the type {kind:?}, expected \"absolute\"")));
        }
        let activation = match file.hidden_act.as_deref() {
            Some("gelu") | None => Activation::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
            Some("relu") => Activation::Relu,
            Some(other) => {
                return Err(fail(format!(
                    "found the activation {other:?}, expected \"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\" or \"relu\""
                )));
            }
        };
        let config = Self {
            family,
            vocabulary: file.vocab_size,
            hidden: file.hidden_size,
            layers: file.num_hidden_layers,
            heads: file.num_attention_heads,
            intermediate: file.intermediate_size,
            positions: file.max_position_embeddings,
            first_position: match family {
                Family::Roberta | Family::Mpnet => file.pad_token_id.unwrap_or(1).saturating_add(1),
                Family::Bert | Family::DistilBert => 0,
            },
            token_types: match family {
                Family::Bert => file.type_vocab_size.unwrap_or(2),
                Family::Roberta => file.type_vocab_size.unwrap_or(1),
                Family::Mpnet | Family::DistilBert => 0,
            },
            relative_buckets: match family {
                Family::Mpnet => file.relative_attention_num_buckets.unwrap_or(32),
                _ => 0,
            },
            activation,
            eps: file.layer_norm_eps.unwrap_or(1e-12),
        };
        config.check().map_err(fail)?;
        Ok(config)
    }

    /// The most tokens a text may have.
    pub(crate) fn most_tokens(&self) -> usize {
        self.positions - self.first_position
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocabulary, usize::MAX >> 16),
            ("hidden_size", self.hidden, MAX_DIM / 3),
            ("num_hidden_layers", self.layers, 1000),
            ("num_attention_heads", self.heads, self.hidden),
            ("intermediate_size", self.intermediate, MAX_DIM),
            ("max_position_embeddings", self.positions, MAX_DIM + 2),
        ];
        for (name, size, most) in sizes {
            if size == 0 || size > most {
                return Err(format!("{name} is {size}, expected 1 to {most}"));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                self.hidden, self.heads
            ));
        }
        if self.positions <= self.first_position {
            return Err(format!(
                "max_position_embeddings is {}, expected more than {}",
                self.positions, self.first_position
            ));
        }
        if !matches!(self.relative_buckets, 0 | 32) {
            return Err(format!("relative_attention_num_buckets is {}, expected 32", self.relative_buckets));
        }
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            return Err(format!("layer_norm_eps is {}, expected a number of 0 or more", self.eps));
        }
        Ok(())
    }
}
