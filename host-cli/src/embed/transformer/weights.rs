//! The weights of a transformer, under the names that each family gives them.

use query_adapter::{LANES, Lanes, Level, Linear, MAX_DIM, linear_len};

use super::config::{Config, Family};
use crate::embed::tensors::Tensors;
use crate::failure::Failure;

/// A dense layer.
pub(crate) type Dense = Linear<Vec<Lanes>>;

/// All weights.
pub(crate) struct Weights {
    /// `vocabulary × hidden`.
    pub(crate) words: Vec<f32>,
    /// `positions × hidden`, the one kind of token already added.
    pub(crate) positions: Vec<f32>,
    pub(crate) norm: LayerNorm,
    /// `buckets × heads`; only MPNet has it.
    pub(crate) relative: Option<Vec<f32>>,
    pub(crate) layers: Vec<Layer>,
}

/// Factor and shift of a layer normalisation, `hidden` elements each.
pub(crate) struct LayerNorm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// One layer.
pub(crate) struct Layer {
    /// Query, key and value side by side.
    pub(crate) projection: Dense,
    pub(crate) attention_output: Dense,
    pub(crate) attention_norm: LayerNorm,
    pub(crate) widening: Dense,
    pub(crate) narrowing: Dense,
    pub(crate) output_norm: LayerNorm,
}

/// Names of a layer's parts, after the layer's own prefix.
struct LayerNames {
    prefix: &'static str,
    projections: [&'static str; 3],
    attention_output: &'static str,
    attention_norm: &'static str,
    widening: &'static str,
    narrowing: &'static str,
    output_norm: &'static str,
}

const BERT_NAMES: LayerNames = LayerNames {
    prefix: "encoder.layer.",
    projections: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    widening: "intermediate.dense",
    narrowing: "output.dense",
    output_norm: "output.LayerNorm",
};

const MPNET_NAMES: LayerNames = LayerNames {
    projections: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    attention_output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT_NAMES
};

const DISTILBERT_NAMES: LayerNames = LayerNames {
    prefix: "transformer.layer.",
    projections: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    widening: "ffn.lin1",
    narrowing: "ffn.lin2",
    output_norm: "output_layer_norm",
};

impl Weights {
    /// Takes the weights of `config` from a file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a tensor is absent or of another size or type, or a value is not finite.
    pub(crate) fn load(tensors: &Tensors<'_>, config: &Config, level: Level) -> Result<Self, Failure> {
        let reader = Reader { tensors, config, level, prefix: prefix(tensors, config.family) };
        let names = match config.family {
            Family::Bert | Family::Roberta => BERT_NAMES,
            Family::Mpnet => MPNET_NAMES,
            Family::DistilBert => DISTILBERT_NAMES,
        };
        let hidden = config.hidden;
        let mut positions = reader
            .tensors
            .values(&reader.name("embeddings.position_embeddings.weight"), &[config.positions, hidden])?;
        if config.token_types > 0 {
            let kinds = reader.name("embeddings.token_type_embeddings.weight");
            let kinds = reader.tensors.values(&kinds, &[config.token_types, hidden])?;
            // A text alone is all of the first kind.
            for row in positions.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&kinds).for_each(|(value, kind)| *value += kind);
            }
        }
        let relative = match config.family {
            Family::Mpnet => {
                let shape = [config.relative_buckets, config.heads];
                Some(reader.tensors.values(&reader.name("encoder.relative_attention_bias.weight"), &shape)?)
            }
            _ => None,
        };
        Ok(Self {
            words: reader
                .tensors
                .values(&reader.name("embeddings.word_embeddings.weight"), &[config.vocabulary, hidden])?,
            positions,
            norm: reader.norm("embeddings.LayerNorm")?,
            relative,
            layers: (0..config.layers)
                .map(|layer| reader.layer(&names, layer))
                .collect::<Result<Vec<_>, Failure>>()?,
        })
    }
}

/// What stands before every name: nothing, or the name of the family where the file holds more than the encoder.
fn prefix(tensors: &Tensors<'_>, family: Family) -> &'static str {
    let prefix = match family {
        Family::Bert => "bert.",
        Family::Roberta => "roberta.",
        Family::Mpnet => "mpnet.",
        Family::DistilBert => "distilbert.",
    };
    if tensors.has(&format!("{prefix}embeddings.word_embeddings.weight")) { prefix } else { "" }
}

struct Reader<'a> {
    tensors: &'a Tensors<'a>,
    config: &'a Config,
    level: Level,
    prefix: &'static str,
}

impl Reader<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn layer(&self, names: &LayerNames, layer: usize) -> Result<Layer, Failure> {
        let (hidden, wide) = (self.config.hidden, self.config.intermediate);
        let own = |part: &str| format!("{}{layer}.{part}", names.prefix);
        let projections = names.projections.map(own);
        Ok(Layer {
            projection: self.dense(&projections.each_ref().map(String::as_str), hidden, hidden)?,
            attention_output: self.dense(&[&own(names.attention_output)], hidden, hidden)?,
            attention_norm: self.norm(&own(names.attention_norm))?,
            widening: self.dense(&[&own(names.widening)], hidden, wide)?,
            narrowing: self.dense(&[&own(names.narrowing)], wide, hidden)?,
            output_norm: self.norm(&own(names.output_norm))?,
        })
    }

    /// Dense layers of the same input, side by side.
    fn dense(&self, names: &[&str], in_dim: usize, out_dim: usize) -> Result<Dense, Failure> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            let name = self.name(name);
            weight.extend(self.tensors.values(&format!("{name}.weight"), &[out_dim, in_dim])?);
            bias.extend(self.tensors.values(&format!("{name}.bias"), &[out_dim])?);
        }
        let out_dim = bias.len();
        let mut lanes = vec![Lanes::ZERO; linear_len(in_dim, out_dim, true)];
        let rows = weight.chunks_exact(in_dim).zip(bias);
        for (r, (row, bias)) in rows.enumerate() {
            let panel = &mut lanes[r / LANES * (in_dim + 1)..][..=in_dim];
            for (lanes, value) in panel.iter_mut().zip(row.iter().copied().chain([bias])) {
                lanes.0[r % LANES] = value;
            }
        }
        Ok(Linear::from_lanes(in_dim, out_dim, true, lanes, self.level)?)
    }

    /// Files of 2018 and 2019 call the factor gamma and the shift beta.
    fn norm(&self, name: &str) -> Result<LayerNorm, Failure> {
        let name = self.name(name);
        let old = self.tensors.has(&format!("{name}.gamma"));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let values = |part| self.tensors.values(&format!("{name}.{part}"), &[self.config.hidden]);
        Ok(LayerNorm { weight: values(weight)?, bias: values(bias)? })
    }
}

const _: () = assert!(MAX_DIM >= 3 * 1024, "query, key and value of the large models fit one layer");
