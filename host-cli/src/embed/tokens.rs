//! From text to token ids, as `tokenizer.json` has it.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::failure::Failure;

/// A tokenizer and what is done before and after it.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    settings: TokenSettings,
}

/// How texts become tokens beside what the tokenizer's own file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenSettings {
    /// Texts are cut off after so many tokens, special ones included.
    pub(crate) most_tokens: Option<usize>,
    /// Where there is no such limit, the tokenizer's own counts, if it has one.
    pub(crate) own_limit: bool,
    /// Texts are cut off after so many characters, before they are split into tokens.
    pub(crate) most_chars: Option<usize>,
    /// Texts are written in lower case first.
    pub(crate) lower_case: bool,
    /// Special tokens, such as those for beginning and end, are added.
    pub(crate) special: bool,
    /// This token is left out afterwards.
    pub(crate) dropped: Option<u32>,
}

/// The tokens of a text.
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// Whether the text was longer than the model takes.
    pub(crate) cut_off: bool,
}

impl TextTokenizer {
    /// Reads the contents of `path`, a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when they are none, or do not leave room for a text within the most tokens.
    pub(crate) fn parse(path: &Path, bytes: &[u8], settings: TokenSettings) -> Result<Self, Failure> {
        let fail = |error: tokenizers::Error| {
            Failure::input(path, format!("found no usable tokenizer ({error}); download the model again"))
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(fail)?;
        tokenizer.with_padding(None);
        let truncation = match settings.most_tokens {
            Some(max_length) => Some(TruncationParams { max_length, ..Default::default() }),
            None => tokenizer.get_truncation().filter(|_| settings.own_limit).cloned(),
        };
        tokenizer.with_truncation(truncation).map_err(fail)?;
        Ok(Self { tokenizer, settings })
    }

    /// Splits a text.
    ///
    /// # Errors
    ///
    /// [`Failure::Other`] with the tokenizer's own words.
    pub(crate) fn tokens(&self, text: &str) -> Result<Tokens, Failure> {
        let lower_case;
        let mut text = text;
        let mut cut_off = false;
        if let Some(most) = self.settings.most_chars
            && let Some((end, _)) = text.char_indices().nth(most)
        {
            (text, cut_off) = (&text[..end], true);
        }
        if self.settings.lower_case {
            lower_case = text.to_lowercase();
            text = &lower_case;
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, self.settings.special)
            .map_err(|error| anyhow::anyhow!("the tokenizer refuses a text: {error}"))?;
        let ids =
            encoding.get_ids().iter().copied().filter(|&id| Some(id) != self.settings.dropped).collect();
        Ok(Tokens { ids, cut_off: cut_off || !encoding.get_overflowing().is_empty() })
    }
}

/// What static models need to know of a vocabulary.
pub(crate) struct Vocabulary {
    /// The token for what is not in it.
    pub(crate) unknown: Option<u32>,
    /// The median length of its tokens, in characters.
    pub(crate) median_chars: usize,
}

impl Vocabulary {
    /// Reads the contents of `path`, a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when they are none.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct File {
            model: Model,
        }
        #[derive(Deserialize)]
        struct Model {
            unk_token: Option<String>,
            unk_id: Option<u32>,
        }
        let fail = |error: &dyn core::fmt::Display| {
            Failure::input(path, format!("found no usable tokenizer ({error}); download the model again"))
        };
        let File { model } = serde_json::from_slice(bytes).map_err(|error| fail(&error))?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| fail(&error))?;
        let unknown = match model.unk_token {
            Some(token) => tokenizer.token_to_id(&token),
            None => model.unk_id,
        };
        let mut lengths: Vec<usize> =
            tokenizer.get_vocab(true).keys().map(|token| token.chars().count()).collect();
        lengths.sort_unstable();
        // The median of an even number is the mean of the two in the middle, rounded down.
        let middle = |at: usize| lengths.get(at).copied().unwrap_or(1);
        let median_chars = (middle(lengths.len() / 2) + middle(lengths.len().saturating_sub(1) / 2)) / 2;
        Ok(Self { unknown, median_chars })
    }
}
