//! What every embedding model can do, wherever it runs.

use crate::failure::Failure;

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// A text's vector, as a model hands it over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded<'a> {
    /// The place of the text in the list that was asked for.
    pub(crate) text: usize,
    /// Its vector, finite; all vectors of a model have the same number of components.
    pub(crate) vector: &'a [f32],
    /// Whether the text was longer than the model takes, and its end did not count.
    pub(crate) cut_off: bool,
}

/// Why a model stopped.
pub(crate) enum Stop {
    /// It will not take one of the texts: too long, or empty.
    #[cfg_attr(not(feature = "endpoint"), allow(dead_code, reason = "only services refuse a text"))]
    Refused {
        /// The place of the text in the list that was asked for.
        text: usize,
        /// Who says so, in what words.
        failure: Failure,
    },
    /// Anything else.
    Failed(Failure),
}

impl Stop {
    /// What a person is told, who knows the text that was refused by its `name`.
    pub(crate) fn into_failure(self, name: impl Fn(usize) -> String) -> Failure {
        match self {
            Self::Refused { text, failure: Failure::Input { file, problem } } => {
                let problem = format!("{problem}; that was about {}: shorten it or leave it out", name(text));
                Failure::Input { file, problem }
            }
            Self::Refused { failure, .. } | Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An embedding model.
pub(crate) trait Model {
    /// What it is called, as adapter files have it.
    fn name(&self) -> &str;

    /// Tells this model from every other: texts with the same digest have the same vectors.
    fn digest(&self) -> Digest;

    /// Whether the model behind the name may become another one from one run to the next.
    fn may_change(&self) -> bool {
        false
    }

    /// What its own files put before a query, if they say so.
    fn query_prefix(&self) -> Option<&str> {
        None
    }

    /// What its own files put before a document, if they say so.
    fn document_prefix(&self) -> Option<&str> {
        None
    }

    /// Embeds texts, prefixes included; `done` gets each vector as it comes, in any order.
    ///
    /// # Errors
    ///
    /// What `done` returns, and whatever keeps a text from having a vector. What went to `done` before stays good.
    fn embed(
        &self,
        texts: &[&str],
        done: &mut dyn FnMut(Embedded<'_>) -> Result<(), Failure>,
    ) -> Result<(), Stop>;
}
