//! Static models: a text's vector is the mean of its tokens' vectors. Folders of model2vec and of
//! sentence-transformers' `StaticEmbedding`.

use crate::embed::tensors::Tensors;
use crate::failure::Failure;

/// A table of token vectors.
pub(crate) struct StaticModel {
    dim: usize,
    /// `rows × dim`.
    vectors: Vec<f32>,
    /// The row of each token, where several share one.
    rows: Option<Vec<u32>>,
    /// What each token's vector is multiplied by.
    weights: Option<Vec<f32>>,
}

impl StaticModel {
    /// Takes the table from a file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a tensor is absent or of another size or type.
    pub(crate) fn load(tensors: &Tensors<'_>) -> Result<Self, Failure> {
        let name = if tensors.has("embeddings") { "embeddings" } else { "embedding.weight" };
        let shape = tensors.shape(name).unwrap_or_default();
        let &[_, dim] = &shape[..] else {
            return Err(
                tensors.refuse("there is no table \"embeddings\" or \"embedding.weight\" of two dimensions")
            );
        };
        if dim == 0 || dim > query_adapter::MAX_DIM {
            let problem = format!(
                "the vectors of {name:?} have {dim} components, expected 1 to {}",
                query_adapter::MAX_DIM
            );
            return Err(tensors.refuse(problem));
        }
        let vectors = tensors.values(name, &shape)?;
        let rows = tensors.shape("mapping").map(|_| tensors.indices("mapping")).transpose()?;
        let weights = tensors.shape("weights").map(|shape| tensors.values("weights", &shape)).transpose()?;
        Ok(Self { dim, vectors, rows, weights })
    }

    /// The number of components of a vector.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The mean of the tokens' vectors, each chain over the tokens in their order; zero without tokens.
    ///
    /// # Errors
    ///
    /// [`Failure::Other`] when a token is not in the table: tokenizer and table do not belong together.
    pub(crate) fn mean(&self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        let mut sum = vec![0.0; self.dim];
        for &token in tokens {
            let (vector, weight) = self.token(token as usize).ok_or_else(|| {
                anyhow::anyhow!(
                    "the tokenizer gives token {token}, for which the model has no vector; tokenizer.json and \
                     model.safetensors do not belong together"
                )
            })?;
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x * weight);
        }
        if !tokens.is_empty() {
            #[allow(clippy::cast_precision_loss, reason = "a text has far fewer than 2^24 tokens")]
            let count = tokens.len() as f32;
            sum.iter_mut().for_each(|sum| *sum /= count);
        }
        Ok(sum)
    }

    fn token(&self, token: usize) -> Option<(&[f32], f32)> {
        let row = match &self.rows {
            Some(rows) => *rows.get(token)? as usize,
            None => token,
        };
        let vector = self.vectors.get(row.checked_mul(self.dim)?..)?.get(..self.dim)?;
        let weight = match &self.weights {
            Some(weights) => *weights.get(token)?,
            None => 1.0,
        };
        Some((vector, weight))
    }
}
