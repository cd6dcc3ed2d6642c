//! How a data set is read where its form leaves a choice.

use clap::Args;

use crate::texts::{KeepTexts, Texts};
use crate::vectors::Embeddings;

/// Flags that say how data sets are read.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Data sets")]
pub struct ReadingOptions {
    /// Key of the query in rows [default: query, anchor or question]
    #[arg(long, value_name = "KEY")]
    pub query_key: Option<String>,
    /// Key of the document that answers it, in rows [default: positive, document, passage, chunk, context, … ]
    #[arg(long, value_name = "KEY", alias = "doc-key")]
    pub document_key: Option<String>,
    /// Key of the documents that do not answer it, in rows [default: negative, negatives, neg, hard_negatives, …]
    #[arg(long, value_name = "KEY")]
    pub negative_key: Option<String>,
    /// Which split of a folder to read [default: train to train on, dev or val to choose on, test to measure on; all
    /// of them for embed, lint and check]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
}

/// How what is read is held.
#[derive(Clone, Copy)]
pub(super) struct Holding<'a> {
    /// Which texts are kept.
    pub(super) texts: KeepTexts<'a>,
    /// Vectors whose ids may be those of the data set, in the same order: then they are held once.
    pub(super) vectors: Option<&'a Embeddings>,
}

impl<'a> Holding<'a> {
    /// Texts held so, without vectors.
    pub(super) fn of(texts: KeepTexts<'a>) -> Self {
        Self { texts, vectors: None }
    }

    /// The queries before the first.
    pub(super) fn queries(self) -> Texts {
        self.vectors.map_or_else(Texts::default, |vectors| Texts::expecting(vectors.queries.ids()))
    }

    /// The documents before the first.
    pub(super) fn corpus(self) -> Texts {
        self.vectors.map_or_else(Texts::default, |vectors| Texts::expecting(vectors.corpus.ids()))
    }
}

/// What a data set is read for: it chooses the split of a folder that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To train on.
    Train,
    /// To choose on.
    Validation,
    /// To measure on.
    Test,
    /// For its texts, or to be looked through: all splits together.
    Everything,
}

impl Purpose {
    /// What its split is called, the likeliest name first.
    pub(super) fn split_names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["dev", "validation", "val", "valid"],
            Self::Test => &["test"],
            Self::Everything => &[],
        }
    }
}
