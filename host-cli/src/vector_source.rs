//! Where a command's vectors come from: the data set file, a folder, or a model.

use std::path::Path;

use query_adapter::Level;

use crate::adapter_file::AdapterFile;
use crate::dataset::{Dataset, Purpose, ReadingOptions};
use crate::embed::{Embedder, Origin};
use crate::failure::Failure;
use crate::files::folder_of;
use crate::lint;
use crate::options::{Common, ModelOptions};
use crate::retrieval_task::{Missing, RetrievalTask};
use crate::texts::Texts;
use crate::vectors::{Embeddings, Vectors};

/// Where vectors come from, and how the data sets that they are for are read.
pub struct VectorSource {
    vectors: Source,
    reading: ReadingOptions,
    /// Whether a data set with any defect is refused.
    strict: bool,
}

/// Where vectors come from.
enum Source {
    /// The data set file itself.
    Inline,
    /// Files of vectors, and what is said of their model.
    Files(Embeddings, Option<Origin>),
    /// A model that embeds the texts.
    Model(Box<Embedder>),
}

impl VectorSource {
    /// The source that a command line names; of `common` only what is said of files of vectors, reading, threads and
    /// quiet counts. `folder` stands above the files that `common` names.
    ///
    /// # Errors
    ///
    /// As [`Embeddings::load`], [`Origin::beside`] and [`Embedder::open`].
    pub fn open(
        folder: Option<&Path>,
        models: &ModelOptions,
        common: &Common,
        level: Level,
    ) -> Result<Self, Failure> {
        let (reading, strict) = (common.reading.clone(), common.strict);
        if let Some(embedder) = Embedder::open(models, level, common.threads, common.quiet)? {
            return Ok(Self { vectors: Source::Model(embedder.into()), reading, strict });
        }
        let files = (&common.query_embeddings, &common.document_embeddings);
        let (embeddings, folder, origin) = match (folder, files) {
            (Some(folder), _) => (Embeddings::load(folder)?, folder, Origin::beside(folder)?),
            (None, (Some(queries), Some(documents))) => {
                let embeddings = Embeddings::load_files(queries, documents)?;
                let folder = folder_of(queries);
                let origin = Origin::beside(folder)?;
                if let Some(origin) = &origin {
                    origin.require_same_model(documents)?;
                }
                (embeddings, folder, origin)
            }
            (None, _) => return Ok(Self { vectors: Source::Inline, reading, strict }),
        };
        if let Some(origin) = &origin {
            origin.require_fit(folder, embeddings.corpus.dim(), models)?;
        }
        Ok(Self { vectors: Source::Files(embeddings, origin), reading, strict })
    }

    /// Reads a data set to measure on, and joins it with its vectors; embeds what is missing.
    ///
    /// # Errors
    ///
    /// As [`RetrievalTask::join`] and [`Embedder::embeddings`].
    pub fn load(&mut self, file: &Path, note: &mut dyn FnMut(&str)) -> Result<RetrievalTask, Failure> {
        self.load_for(Purpose::Test, file, note)
    }

    /// As [`load`](Self::load), for another purpose.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_for(
        &mut self,
        purpose: Purpose,
        file: &Path,
        note: &mut dyn FnMut(&str),
    ) -> Result<RetrievalTask, Failure> {
        let dataset = self.read_for(purpose, file)?;
        self.join(dataset, note)
    }

    /// Reads a data set to measure on, with its texts where a model is to embed them.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read`].
    pub fn read(&self, file: &Path) -> Result<Dataset, Failure> {
        self.read_for(Purpose::Test, file)
    }

    fn read_for(&self, purpose: Purpose, file: &Path) -> Result<Dataset, Failure> {
        match &self.vectors {
            Source::Inline => Dataset::read_without_texts(file, &self.reading, purpose),
            Source::Files(vectors, _) => Dataset::read_to_join(file, &self.reading, purpose, vectors),
            Source::Model(_) => Dataset::read(file, &self.reading, purpose),
        }
    }

    /// Joins a data set with its vectors; embeds what is missing.
    ///
    /// # Errors
    ///
    /// As [`RetrievalTask::join`] and [`Embedder::embeddings`]; [`Failure::Input`] where there is any defect and `--strict`
    /// is given.
    pub fn join(&mut self, dataset: Dataset, note: &mut dyn FnMut(&str)) -> Result<RetrievalTask, Failure> {
        let task = match &mut self.vectors {
            Source::Inline => RetrievalTask::join(dataset, None)?,
            Source::Files(embeddings, _) => RetrievalTask::join(dataset, Some(embeddings))?,
            Source::Model(embedder) => {
                let file = dataset.file.clone();
                if dataset.query_embeddings.is_some() || dataset.corpus_embeddings.is_some() {
                    let name = embedder.name();
                    note(&format!("{}: its own vectors are not used, those of {name} are", file.display()));
                }
                let (embeddings, counts) = embedder.embeddings(&dataset)?;
                note(&format!("{}: {counts}", file.display()));
                RetrievalTask::join(dataset, Some(&embeddings))?
            }
        };
        if self.strict {
            lint::require_clean(task.file(), task.defects())?;
        }
        Ok(task)
    }

    /// Reads the queries of a data set, labelled or not, with their vectors; embeds what is missing.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read`] and [`Embedder::embed_texts`], and [`Failure::Input`] when there is no query or one has no
    /// vector.
    pub fn load_queries(&mut self, file: &Path, note: &mut dyn FnMut(&str)) -> Result<Vectors, Failure> {
        let Dataset { queries, query_embeddings, .. } = self.read(file)?;
        if queries.ids.is_empty() {
            return Err(Failure::input(file, "\"queries\" is empty, expected at least one query"));
        }
        let embedded;
        let known = match &mut self.vectors {
            Source::Inline => query_embeddings.as_ref().ok_or_else(|| {
                let problem = "it has no \"query_embeddings\"; give --embeddings DIR with vectors of its queries, or \
                               --model";
                Failure::input(file, problem)
            })?,
            Source::Files(embeddings, _) => &*embeddings.queries,
            Source::Model(embedder) => {
                let (embeddings, counts) = embedder.embed_texts(&queries, &Texts::default())?;
                note(&format!("{}: {counts}", file.display()));
                embedded = embeddings.queries;
                &*embedded
            }
        };
        let mut missing = Missing::default();
        let mut components = Vec::with_capacity(queries.ids.len() * known.dim());
        for id in queries.ids.iter() {
            match known.index_of(id) {
                Some(row) => components.extend_from_slice(known.row(row)),
                None => missing.add(id),
            }
        }
        missing.refuse(file, "query", known.source())?;
        Ok(Vectors::from_rows(known.source().to_owned(), queries.ids, known.dim(), components))
    }

    /// Whether all data sets have their vectors from the same files, by id alone.
    pub(crate) fn is_by_id(&self) -> bool {
        matches!(self.vectors, Source::Files(..))
    }

    /// Which model the vectors come from, where that is known.
    ///
    /// # Errors
    ///
    /// As [`Embedder::origin`].
    pub fn origin(&mut self) -> Result<Option<Origin>, Failure> {
        match &mut self.vectors {
            Source::Inline => Ok(None),
            Source::Files(_, origin) => Ok(origin.clone()),
            Source::Model(embedder) => embedder.origin().map(Some),
        }
    }

    /// Refuses a file of vectors where it is known that another model made them.
    ///
    /// # Errors
    ///
    /// As [`Origin::beside`] and [`Origin::require_same_model`].
    pub(crate) fn require_same_model(&mut self, file: &Path) -> Result<(), Failure> {
        match self.origin()? {
            Some(origin) => origin.require_same_model(file),
            None => Ok(()),
        }
    }

    /// Refuses an adapter that was trained for another model, or with other prefixes; a note where that is not known.
    ///
    /// # Errors
    ///
    /// As [`Origin::require`].
    pub fn require(&mut self, adapter: &AdapterFile, note: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        Origin::require(self.origin()?.as_ref(), adapter, "the data set", note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_and_files_of_vectors_with_the_same_ids_hold_them_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            file
        };
        let queries =
            write("queries.jsonl", r#"{"id": "q1", "embedding": [1]} {"id": "q2", "embedding": [2]}"#);
        let corpus =
            write("corpus.jsonl", r#"{"id": "d1", "embedding": [1]} {"id": "d2", "embedding": [2]}"#);
        let texts =
            r#""queries": {"q1": "a", "q2": "b"}, "corpus": {"d1": "x"}, "relevant_docs": {"q1": ["d1"]}"#;
        let file = write("train.json", &format!("{{{texts}}}"));
        let vectors = Embeddings::load_files(&queries, &corpus).expect("vectors");
        let files = Source::Files(vectors.clone(), None);
        let source = VectorSource { vectors: files, reading: ReadingOptions::default(), strict: false };
        let dataset = source.read(&file).expect("read");
        assert!(dataset.queries.ids.shares_with(vectors.queries.ids()));
        assert!(dataset.corpus.ids.shares_with(vectors.corpus.ids()));
        assert_eq!((dataset.queries.ids.len(), dataset.corpus.ids.len()), (2, 1));
    }
}
