//! Transformers of the BERT family, run on the kernel's own product.
//!
//! Every dense layer is a [`query_adapter::Linear`]: its output is one chain of fused multiply-adds per element, so a
//! text's vector has the same bits on every machine, with any number of threads, and whatever other texts it is
//! computed with. Texts are laid one after the other without padding.

mod attention;
mod config;
mod elementwise;
mod weights;

use fearless_simd::Level as Lanes16;
use query_adapter::Level;

use self::attention::{Heads, Scratch, attend};
pub(crate) use self::config::Config;
use self::elementwise::{activate, normalize_layers};
use self::weights::{LayerNorm, Weights};
use super::tensors::Tensors;
use crate::failure::Failure;

/// A transformer, ready to run.
pub(crate) struct Transformer {
    config: Config,
    weights: Weights,
    level: Level,
    simd: Lanes16,
}

/// The buffers of a run, kept from batch to batch.
#[derive(Default)]
pub(crate) struct Buffers {
    states: Vec<f32>,
    projected: Vec<f32>,
    context: Vec<f32>,
    update: Vec<f32>,
    wide: Vec<f32>,
    attention: Scratch,
}

impl Transformer {
    /// Takes the weights from a file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when they do not fit `config`.
    pub(crate) fn load(config: Config, tensors: &Tensors<'_>, level: Level) -> Result<Self, Failure> {
        let weights = Weights::load(tensors, &config, level)?;
        Ok(Self { config, weights, level, simd: Lanes16::new() })
    }

    /// The sizes.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The last layer's states of some texts, each given by its tokens: `tokens × hidden`, text after text.
    ///
    /// # Errors
    ///
    /// [`Failure::Other`] when a token is not in the vocabulary or a text has too many: tokenizer and weights do not
    /// belong together.
    pub(crate) fn run<'a>(&self, texts: &[&[u32]], buffers: &'a mut Buffers) -> Result<&'a [f32], Failure> {
        let hidden = self.config.hidden;
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        let Buffers { states, projected, context, update, wide, attention } = buffers;
        states.clear();
        for text in texts {
            self.embed(text, states)?;
        }
        self.normalize(states, &self.weights.norm);
        let biases: Vec<_> = texts.iter().map(|text| self.position_bias(text.len())).collect();

        projected.resize(tokens * 3 * hidden, 0.0);
        context.resize(tokens * hidden, 0.0);
        update.resize(tokens * hidden, 0.0);
        wide.resize(tokens * self.config.intermediate, 0.0);
        let heads = Heads { count: self.config.heads, dim: hidden / self.config.heads };
        for layer in &self.weights.layers {
            layer.projection.apply_batch(states, projected)?;
            let mut first = 0;
            for (text, bias) in texts.iter().zip(&biases) {
                let projected = &projected[first * 3 * hidden..][..text.len() * 3 * hidden];
                let context = &mut context[first * hidden..][..text.len() * hidden];
                attend(self.level, self.simd, heads, projected, bias.as_deref(), context, attention)?;
                first += text.len();
            }
            layer.attention_output.apply_batch(context, update)?;
            add(states, update);
            self.normalize(states, &layer.attention_norm);

            layer.widening.apply_batch(states, wide)?;
            activate(self.simd, wide, self.config.activation);
            layer.narrowing.apply_batch(wide, update)?;
            add(states, update);
            self.normalize(states, &layer.output_norm);
        }
        Ok(states)
    }

    /// Appends the states of a text before the first layer, not normalised yet.
    fn embed(&self, text: &[u32], states: &mut Vec<f32>) -> Result<(), Failure> {
        let hidden = self.config.hidden;
        let row = |rows: &'_ [f32], index: usize| -> Option<core::ops::Range<usize>> {
            let start = index.checked_mul(hidden)?;
            (start < rows.len()).then(|| start..start + hidden)
        };
        for (index, &token) in text.iter().enumerate() {
            let word = row(&self.weights.words, token as usize).ok_or_else(|| {
                anyhow::anyhow!(
                    "the tokenizer gives token {token} of a vocabulary of {}; tokenizer.json and config.json do not \
                     belong together",
                    self.config.vocabulary
                )
            })?;
            let position =
                row(&self.weights.positions, self.config.first_position + index).ok_or_else(|| {
                    anyhow::anyhow!(
                        "a text has {} tokens, the model takes {}",
                        text.len(),
                        self.config.most_tokens()
                    )
                })?;
            let (word, position) = (&self.weights.words[word], &self.weights.positions[position]);
            states.extend(word.iter().zip(position).map(|(word, position)| word + position));
        }
        Ok(())
    }

    fn normalize(&self, states: &mut [f32], norm: &LayerNorm) {
        normalize_layers(self.simd, states, &norm.weight, &norm.bias, self.config.eps);
    }

    /// What MPNet adds to the scores, `heads × tokens × tokens`: a bias for each head and distance.
    fn position_bias(&self, tokens: usize) -> Option<Vec<f32>> {
        let relative = self.weights.relative.as_ref()?;
        let heads = self.config.heads;
        let bias = |head: usize, query: usize, key: usize| relative[bucket(query, key) * heads + head];
        let cells = (0..heads).flat_map(|head| {
            (0..tokens).flat_map(move |query| (0..tokens).map(move |key| (head, query, key)))
        });
        Some(cells.map(|(head, query, key)| bias(head, query, key)).collect())
    }
}

/// The bucket of a key at a distance from a query, as T5 and MPNet have it: 16 for keys up to the query and 16 for
/// those after it, of which 8 are for one distance each and 8 are spaced by √2 up to a distance of 128.
fn bucket(query: usize, key: usize) -> usize {
    let distance = query.abs_diff(key);
    let side = if key > query { 16 } else { 0 };
    // 8 + ⌊2 log₂(distance ÷ 8)⌋
    let within = if distance < 8 { distance } else { 2 + (distance * distance).ilog2() as usize };
    side + within.min(15)
}

fn add(states: &mut [f32], update: &[f32]) {
    for (state, update) in states.iter_mut().zip(update) {
        *state += update;
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn distances_fall_into_the_buckets_of_the_definition() {
        for distance in 0..300_usize {
            let within = if distance < 8 {
                distance as f64
            } else {
                (8.0 + (distance as f64 / 8.0).ln() / 16_f64.ln() * 8.0 + 1e-9).floor().min(15.0)
            };
            assert_eq!(bucket(distance, 0) as f64, within, "{distance} before");
            let after = if distance == 0 { 0.0 } else { within + 16.0 };
            assert_eq!(bucket(0, distance) as f64, after, "{distance} after");
        }
    }
}
