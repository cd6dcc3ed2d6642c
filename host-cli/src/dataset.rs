//! Data sets: what they hold, and reading them.

mod folder;
pub(crate) mod form;
mod label_lists;
mod qa_json;
mod reading;
mod rows;
mod sections;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use form::First;
pub(crate) use label_lists::Pairs;
use reading::Holding;
pub use reading::{Purpose, ReadingOptions};
use rows::RowKeys;
pub(crate) use sections::{GREATEST_GRADE, Grade};
use sections::{LabelEntries, read_object};

use crate::contents::Contents;
use crate::failure::Failure;
use crate::graded::{Graded, GradedLists};
use crate::ids::Ids;
use crate::json;
use crate::texts::{KeepTexts, TextKey, Texts};
use crate::vectors::{Embeddings, Vectors};

/// What to do where labels and what they are of do not meet.
pub(crate) const CHECK_LABELS: &str =
    "check that the labels (\"relevant_docs\", qrels) use the ids of the queries and the documents";

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
    lists: GradedLists,
}

impl Labels {
    /// The labels of these queries on these documents alone.
    pub(crate) fn restricted_to(&self, queries: &Ids, documents: &Ids) -> Self {
        let is_there: Vec<bool> = self.documents.iter().map(|id| documents.index_of(id).is_some()).collect();
        let mut kept = Self { documents: self.documents.clone(), ..Self::default() };
        for query in self.queries.iter().filter(|query| queries.index_of(query).is_some()) {
            // They are distinct where they come from.
            if kept.queries.push(query).is_ok() {
                let labels = self.of(query).iter();
                kept.lists.push_list(labels.filter(|label| is_there[label.document as usize]));
            }
        }
        kept
    }

    /// The documents of a query, as positions in [`documents`](Self::documents), in the order of the file, where one may
    /// stand twice; none for a query that is not here.
    #[must_use]
    pub fn of(&self, query: &str) -> Graded<'_> {
        self.queries.index_of(query).map_or(Graded::NONE, |position| self.lists.get(position as usize))
    }
}

impl Dataset {
    /// Reads a data set: a file of any form that `docs/data-formats.md` describes, or a folder.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it cannot be read or is of no such form; the message names the file, the line, the
    /// section, the id and the component.
    pub fn read(path: &Path, options: &ReadingOptions, purpose: Purpose) -> Result<Self, Failure> {
        read(path, options, purpose, Holding::of(KeepTexts::All))
    }

    /// As [`read`](Self::read), without keeping the texts: there are their [keys](Texts::keys) only. Memory grows by the
    /// numbers of ids and labels alone.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_without_texts(
        path: &Path,
        options: &ReadingOptions,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        read(path, options, purpose, Holding::of(KeepTexts::None))
    }

    /// As [`read_without_texts`](Self::read_without_texts), to be [joined](crate::retrieval_task::RetrievalTask::join) with
    /// `vectors`: ids that stand in the same order there are held once.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_to_join(
        path: &Path,
        options: &ReadingOptions,
        purpose: Purpose,
        vectors: &Embeddings,
    ) -> Result<Self, Failure> {
        read(path, options, purpose, Holding { texts: KeepTexts::None, vectors: Some(vectors) })
    }

    /// As [`read`](Self::read) with no options, for its texts.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn load(path: &Path) -> Result<Self, Failure> {
        Self::read(path, &ReadingOptions::default(), Purpose::Everything)
    }

    /// As [`read_without_texts`](Self::read_without_texts) with no options, to measure on.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn load_without_texts(path: &Path) -> Result<Self, Failure> {
        Self::read_without_texts(path, &ReadingOptions::default(), Purpose::Test)
    }

    /// As [`read`](Self::read), keeping the texts with these keys; the other ids have an empty text. This is how a few
    /// texts are shown of a data set that was read without them.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with_texts(
        path: &Path,
        keys: &HashSet<TextKey>,
        options: &ReadingOptions,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        read(path, options, purpose, Holding::of(KeepTexts::Of(keys)))
    }

    /// Reads a data set from the contents of `file`, a name that errors repeat.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        read_contents(file, bytes, &ReadingOptions::default(), Holding::of(KeepTexts::All))
    }
}

/// Reads `{query id: documents}`, as `relevant_docs` has them.
///
/// # Errors
///
/// As [`Dataset::read`].
pub(crate) fn read_labels(file: &Path, bytes: &[u8]) -> Result<Labels, Failure> {
    if First::of(bytes) == First::Dataset {
        let problem = "found a whole data set, expected its labels alone: {query id: [document ids]}";
        return Err(Failure::input(file, problem));
    }
    Ok(read_object(file, bytes, LabelEntries::default())?.labels)
}

/// The files that may be read where a data set is named: those in a folder, or a file and the texts around it if it is one of labels.
pub(crate) fn files_of(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return folder::files_in(path);
    }
    [path.to_owned()].into_iter().chain(folder::texts_around(path)).collect()
}

fn read(
    path: &Path,
    options: &ReadingOptions,
    purpose: Purpose,
    holding: Holding<'_>,
) -> Result<Dataset, Failure> {
    if path.is_dir() {
        return folder::read(path, options, purpose, holding);
    }
    let contents = Contents::of(path)?;
    let bytes = json::text_of(path, &contents)?;
    if First::of(bytes) == First::Other
        && let Some(dataset) = folder::around(path, bytes, holding)?
    {
        return Ok(dataset);
    }
    read_contents(path, bytes, options, holding)
}

fn read_contents(
    file: &Path,
    bytes: &[u8],
    options: &ReadingOptions,
    holding: Holding<'_>,
) -> Result<Dataset, Failure> {
    let bytes = json::text_of(file, bytes)?;
    match First::of(bytes) {
        First::Object(keys) => match RowKeys::of(&keys, options) {
            Some(keys) => rows::read_lines(file, bytes, &keys, holding),
            None => qa_json::read(file, bytes, options, holding),
        },
        First::List(keys) if !keys.is_empty() => match RowKeys::of(&keys, options) {
            Some(keys) => rows::read_list(file, bytes, &keys, holding),
            None => {
                let (shown, expected) = (form::shown(&keys), expected_instead_of(&keys, options));
                Err(Failure::input(file, format!("found a list of rows with the keys {shown}; {expected}")))
            }
        },
        First::Dataset | First::List(_) | First::Other => qa_json::read(file, bytes, options, holding),
    }
}

/// What is expected in place of an object with these keys.
fn expected_instead_of(keys: &[String], options: &ReadingOptions) -> String {
    let has = |key: &str| keys.iter().any(|found| found == key);
    for (flag, given) in [("--query-key", &options.query_key), ("--document-key", &options.document_key)] {
        if let Some(key) = given.as_ref().filter(|key| !has(key)) {
            return format!("{flag} names {}, which is not among them", json::quoted(key));
        }
    }
    if folder::is_text(keys) {
        return "these are the texts alone; give the folder that has queries, corpus and labels".to_owned();
    }
    if has("embedding") || has("vector") {
        return "these are vectors alone; give the file with the texts here, and the vectors by --embeddings"
            .to_owned();
    }
    let form = qa_json::EXPECTED_FORM;
    format!("{form}, or rows with a query and a document, whose keys --query-key and --document-key name")
}
