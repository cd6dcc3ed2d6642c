//! Where a command's vectors come from: the data set file, a folder, or a model.

use std::path::Path;

use query_adapter::Level;

use crate::adapter_file::AdapterFile;
use crate::dataset::Dataset;
use crate::embed::{Embedder, Origin};
use crate::failure::Failure;
use crate::options::{Common, ModelOptions};
use crate::retrieval_task::RetrievalTask;
use crate::vectors::Embeddings;

/// Where vectors come from.
pub enum VectorSource {
    /// The data set file itself.
    Inline,
    /// A folder of vectors, and what it says of its model.
    Folder(Embeddings, Option<Origin>),
    /// A model that embeds the texts.
    Model(Box<Embedder>),
}

impl VectorSource {
    /// The source that a command line names; of `common` only what is said of threads and quiet counts.
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
        if let Some(embedder) = Embedder::open(models, level, common.threads, common.quiet)? {
            return Ok(Self::Model(embedder.into()));
        }
        Ok(match folder {
            Some(folder) => Self::Folder(Embeddings::load(folder)?, Origin::beside(folder)?),
            None => Self::Inline,
        })
    }

    /// Reads a data set and joins it with its vectors; embeds what is missing.
    ///
    /// # Errors
    ///
    /// As [`RetrievalTask::load`] and [`Embedder::embeddings`].
    pub fn load(&mut self, file: &Path, note: &mut dyn FnMut(&str)) -> Result<RetrievalTask, Failure> {
        let dataset = self.read(file)?;
        self.join(dataset, note)
    }

    /// Reads a data set, with its texts where a model is to embed them.
    ///
    /// # Errors
    ///
    /// As [`Dataset::load`].
    pub fn read(&self, file: &Path) -> Result<Dataset, Failure> {
        match self {
            Self::Inline | Self::Folder(..) => Dataset::load_without_texts(file),
            Self::Model(_) => Dataset::load(file),
        }
    }

    /// Joins a data set with its vectors; embeds what is missing.
    ///
    /// # Errors
    ///
    /// As [`RetrievalTask::join`] and [`Embedder::embeddings`].
    pub fn join(&mut self, dataset: Dataset, note: &mut dyn FnMut(&str)) -> Result<RetrievalTask, Failure> {
        match self {
            Self::Inline => RetrievalTask::join(dataset, None),
            Self::Folder(embeddings, _) => RetrievalTask::join(dataset, Some(embeddings)),
            Self::Model(embedder) => {
                let file = dataset.file.clone();
                if dataset.query_embeddings.is_some() || dataset.corpus_embeddings.is_some() {
                    let name = embedder.name();
                    note(&format!("{}: its own vectors are not used, those of {name} are", file.display()));
                }
                let (embeddings, counts) = embedder.embeddings(&dataset)?;
                note(&format!("{}: {counts}", file.display()));
                RetrievalTask::join(dataset, Some(&embeddings))
            }
        }
    }

    /// Which model the vectors come from, where that is known.
    ///
    /// # Errors
    ///
    /// As [`Embedder::origin`].
    pub fn origin(&mut self) -> Result<Option<Origin>, Failure> {
        match self {
            Self::Inline => Ok(None),
            Self::Folder(_, origin) => Ok(origin.clone()),
            Self::Model(embedder) => embedder.origin().map(Some),
        }
    }

    /// Refuses an adapter that was trained for another model, or with other prefixes; a note where that is not known.
    ///
    /// # Errors
    ///
    /// As [`Origin::require`].
    pub fn require(&mut self, adapter: &AdapterFile, note: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let origin = self.origin()?;
        let source = origin.as_ref().map_or("the data set", |origin| &origin.model);
        Origin::require(origin.as_ref(), adapter, source, note)
    }
}
