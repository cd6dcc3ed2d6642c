//! Data sets: what they hold, and reading them.

mod qa_json;
mod sections;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub(crate) use sections::GREATEST_GRADE;

use crate::contents::Contents;
use crate::failure::Failure;
use crate::ids::Ids;
use crate::lists::Lists;
use crate::texts::{KeepTexts, TextKey, Texts};
use crate::vectors::Vectors;

/// A data set as its file has it: every list in the file's order, nothing dropped or repaired yet.
///
/// [`RetrievalTask`](crate::retrieval_task::RetrievalTask) joins it with vectors and drops what cannot be
/// used.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The file.
    pub file: PathBuf,
    /// What the texts are; files of 2023 do not say it.
    pub mode: Option<String>,
    /// The queries.
    pub queries: Texts,
    /// The documents.
    pub corpus: Texts,
    /// Per query id, the documents that answer it.
    pub relevant_docs: Labels,
    /// Per query id, documents known not to answer it.
    pub negative_docs: Option<Labels>,
    /// Vectors of the queries that stand in the file itself.
    pub query_embeddings: Option<Vectors>,
    /// Vectors of the documents that stand in the file itself.
    pub corpus_embeddings: Option<Vectors>,
}

/// Per query id, a list of documents, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The queries; they may be absent from those of the data set.
    pub queries: Ids,
    /// All documents in the lists; they may be absent from the corpus.
    pub documents: Ids,
    lists: Lists<Label>,
}

/// One document listed for a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// The document, as a position in [`Labels::documents`].
    pub document: u32,
    /// How relevant it is: 1 where the file has a plain list; 0 or less is not relevant. Finite.
    pub grade: f64,
}

impl Labels {
    /// Lists of labels, one for each of `queries`, whose documents are positions in `documents`.
    pub(crate) fn new(queries: Ids, documents: Ids, lists: Lists<Label>) -> Self {
        Self { queries, documents, lists }
    }

    /// The labels of these queries on these documents alone.
    pub(crate) fn restricted_to(&self, queries: &Ids, documents: &Ids) -> Self {
        let is_there: Vec<bool> = self.documents.iter().map(|id| documents.index_of(id).is_some()).collect();
        let mut kept = Self { documents: self.documents.clone(), ..Self::default() };
        for query in self.queries.iter().filter(|query| queries.index_of(query).is_some()) {
            // They are distinct where they come from.
            if kept.queries.push(query).is_ok() {
                let labels = self.of(query).iter().copied();
                kept.lists.push_list(labels.filter(|label| is_there[label.document as usize]));
            }
        }
        kept
    }

    /// The documents of a query in the order of the file, where one may stand twice; none for a query that is not here.
    #[must_use]
    pub fn of(&self, query: &str) -> &[Label] {
        self.queries.index_of(query).map_or(&[], |position| self.lists.get(position as usize))
    }
}

impl Dataset {
    /// Reads a data set file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read or is not of the form that `docs/data-formats.md`
    /// describes; the message names the line, the section, the id and the component.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        qa_json::read(file, &Contents::of(file)?, KeepTexts::All)
    }

    /// Reads a data set file without keeping the texts: there are their [keys](Texts::keys) only. Memory grows by the
    /// numbers of ids and labels alone.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_without_texts(file: &Path) -> Result<Self, Failure> {
        qa_json::read(file, &Contents::of(file)?, KeepTexts::None)
    }

    /// Reads a data set file and keeps the texts with these keys; the other ids have an empty text. This is how a few
    /// texts are shown of a data set that was read without them.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with_texts(file: &Path, keys: &HashSet<TextKey>) -> Result<Self, Failure> {
        qa_json::read(file, &Contents::of(file)?, KeepTexts::Of(keys))
    }

    /// Reads a data set from the contents of `file`, a name that errors repeat.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        qa_json::read(file, bytes, KeepTexts::All)
    }
}
