//! What can be compared: retrievers on a data set, run files, and files of earlier measurements.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use query_adapter::Level;

use crate::adapter_file::AdapterFile;
use crate::distinct::ReadPath;
use crate::evaluate::{BASE, stem};
use crate::failure::Failure;
use crate::judging::{Judgements, JudgingOptions};
use crate::lint;
use crate::metrics::{Evaluation, Metric, Ties};
use crate::options::{Common, ModelOptions};
use crate::parallel::available_threads;
use crate::per_query::{PerQuery, is_per_query};
use crate::ranking::Index;
use crate::retrieval_task::RetrievalTask;
use crate::trec::run::Run;
use crate::vector_source::VectorSource;
use crate::vectors::Embeddings;

/// A retriever as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retriever<'a> {
    pub(crate) name: &'a str,
    /// Empty for the source that the other flags name.
    pub(crate) source: &'a str,
    pub(crate) adapter: Option<&'a str>,
}

/// Reads `NAME=SOURCE[+ADAPTER]`.
///
/// # Errors
///
/// [`Failure::Usage`] for anything else.
pub(crate) fn parse_retriever(text: &str) -> Result<Retriever<'_>, Failure> {
    let Some((name, rest)) = text.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
        return Err(Failure::Usage(format!("{text}: expected NAME=SOURCE or NAME=SOURCE+ADAPTER")));
    };
    // A folder's name may have a plus sign in it.
    match rest.rsplit_once('+').filter(|_| rest.is_empty() || !Path::new(rest).exists()) {
        Some((_, "")) => Err(Failure::Usage(format!("{text}: expected an adapter file after the plus sign"))),
        Some((source, adapter)) => Ok(Retriever { name, source, adapter: Some(adapter) }),
        None => Ok(Retriever { name, source: rest, adapter: None }),
    }
}

/// Measures retrievers on one data set; what the flags' own vectors need is done once.
pub(crate) struct Retrievers<'a> {
    dataset: &'a Path,
    common: &'a Common,
    judging: &'a JudgingOptions,
    level: Level,
    own: Option<Opened>,
}

/// Vectors, joined with the data set.
struct Opened {
    source: VectorSource,
    task: RetrievalTask,
    index: Index,
}

impl<'a> Retrievers<'a> {
    pub(crate) fn new(
        dataset: &'a Path,
        common: &'a Common,
        judging: &'a JudgingOptions,
        level: Level,
    ) -> Self {
        Self { dataset, common, judging, level, own: None }
    }

    /// Measures a retriever.
    ///
    /// # Errors
    ///
    /// As [`VectorSource::load`], [`AdapterFile::open`] and [`Index::evaluate`].
    pub(crate) fn evaluate(
        &mut self,
        retriever: &Retriever<'_>,
        note: &mut dyn FnMut(&str),
    ) -> Result<(RetrievalTask, Evaluation), Failure> {
        let mut other;
        let opened = if retriever.source.is_empty() {
            match &mut self.own {
                Some(own) => own,
                none => none.insert(Self::open(
                    (self.dataset, self.common, self.judging, self.level),
                    (self.common.embeddings.as_deref(), &self.common.models),
                    note,
                )?),
            }
        } else {
            let source = Path::new(retriever.source);
            let models = self.common.models.clone();
            let (folder, models) = if Embeddings::are_in(source) {
                (Some(source), ModelOptions { model: None, ..models })
            } else {
                let (model, url) = match retriever.source.split_once("@http") {
                    Some((model, rest)) => (model, Some(format!("http{rest}"))),
                    None => (retriever.source, None),
                };
                (None, ModelOptions { model: Some(model.to_owned()), model_url: url, ..models })
            };
            let given = (self.dataset, self.common, self.judging, self.level);
            other = Self::open(given, (folder, &models), note)?;
            &mut other
        };
        let task = opened.task.clone();
        let evaluation = match retriever.adapter {
            Some(path) => {
                let file = AdapterFile::open(Path::new(path), self.level)?;
                opened.source.require(&file, note)?;
                file.require_dim(task.dim())?;
                opened.index.evaluate(&task, Some(&file.adapter(self.level)?))?
            }
            None => opened.index.evaluate(&task, None)?,
        };
        Ok((task, evaluation))
    }

    fn open(
        (dataset, common, judging, level): (&Path, &Common, &JudgingOptions, Level),
        (folder, models): (Option<&Path>, &ModelOptions),
        note: &mut dyn FnMut(&str),
    ) -> Result<Opened, Failure> {
        let mut source = VectorSource::open(folder, models, common, level)?;
        let mut dataset = source.read(dataset)?;
        judging.relabel(&mut dataset)?;
        let task = source.join(dataset, note)?;
        let threads = common.threads.unwrap_or_else(available_threads);
        let index = Index::new(task.corpus(), level)?.with_threads(threads).with_rules(judging.rules());
        Ok(Opened { source, task, index })
    }
}

/// A system as the command line of `compare` names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum System<'a> {
    Retriever(Retriever<'a>),
    /// A run file.
    Run(Option<&'a str>, &'a Path),
    /// A file of an earlier measurement.
    PerQuery(Option<&'a str>, &'a Path),
}

/// What the first bytes of a file say that it is.
enum Kind {
    Adapter,
    PerQuery,
    Other,
}

fn kind(file: &Path) -> Result<Kind, Failure> {
    let mut start = Vec::new();
    let mut read = || File::open(file)?.take(64).read_to_end(&mut start);
    read().map_err(|error| Failure::unreadable(file, &error))?;
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
    let is_adapter = start.starts_with(&query_adapter::image::MAGIC)
        || file.extension().is_some_and(|extension| extension == "qad");
    Ok(match text {
        _ if is_adapter => Kind::Adapter,
        _ if is_per_query(text) => Kind::PerQuery,
        _ => Kind::Other,
    })
}

impl<'a> System<'a> {
    /// The files and the folder that it names; a model's name may look like one and harms nobody.
    pub(super) fn inputs(&self) -> [Option<ReadPath<'a>>; 2] {
        match *self {
            Self::Retriever(Retriever { source, adapter, .. }) => {
                let source = Some(source).filter(|source| !source.is_empty());
                [
                    source.map(|path| ReadPath::Vectors(Path::new(path))),
                    adapter.map(|path| ReadPath::File(Path::new(path))),
                ]
            }
            Self::Run(_, file) | Self::PerQuery(_, file) => [Some(ReadPath::File(file)), None],
        }
    }

    /// Reads `[NAME=]SYSTEM`.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for what is malformed, [`Failure::Input`] for a file that is not there.
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let (name, rest) = match text.split_once('=').filter(|_| !Path::new(text).exists()) {
            Some((name, _)) if name.trim().is_empty() => {
                return Err(Failure::Usage(format!("{text}: expected a name before the equals sign")));
            }
            Some((name, rest)) => (Some(name), rest),
            None => (None, text),
        };
        if rest == BASE {
            return Ok(Self::Retriever(Retriever { name: name.unwrap_or(BASE), source: "", adapter: None }));
        }
        let path = Path::new(rest);
        if path.is_file() {
            let stem = || path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(rest);
            return Ok(match kind(path)? {
                Kind::Adapter => Self::Retriever(Retriever {
                    name: name.unwrap_or_else(stem),
                    source: "",
                    adapter: Some(rest),
                }),
                Kind::PerQuery => Self::PerQuery(name, path),
                Kind::Other => Self::Run(name, path),
            });
        }
        if Embeddings::are_in(path) {
            let last = path.file_name().and_then(|last| last.to_str()).unwrap_or(rest);
            return Ok(Self::Retriever(Retriever {
                name: name.unwrap_or(last),
                source: rest,
                adapter: None,
            }));
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        let is_a_file =
            ["qad", "run", "trec", "txt", "json", "jsonl", "csv"].contains(&ending) && !rest.contains('+');
        if is_a_file || name.is_none() {
            return Err(match path.is_dir() {
                true => Failure::input(
                    path,
                    "this is a folder without corpus.npy, expected a file or a folder of vectors",
                ),
                false => Failure::unreadable(path, &io::Error::from(io::ErrorKind::NotFound)),
            });
        }
        parse_retriever(text).map(Self::Retriever)
    }

    /// Whether it is an adapter for the vectors that the flags name.
    pub(super) fn is_adapter(&self) -> bool {
        matches!(self, Self::Retriever(Retriever { source: "", adapter: Some(_), .. }))
    }
}

/// A system, measured.
pub(super) struct Measured {
    pub(super) values: PerQuery,
    /// Of a ranking; a file of values does not know them.
    pub(super) ties: Option<Ties>,
    /// Whether the labels that judged it have grades.
    pub(super) has_grades: bool,
}

/// Measures systems by these metrics, or more.
pub(super) struct Measuring<'a> {
    pub(super) dataset: Option<&'a Path>,
    pub(super) common: &'a Common,
    pub(super) judging: &'a JudgingOptions,
    pub(super) metrics: &'a [Metric],
    pub(super) level: Level,
}

impl Measuring<'_> {
    /// Measures all systems, in their order; a file of several systems counts as all of them.
    ///
    /// # Errors
    ///
    /// As [`Retrievers::evaluate`], [`Run::load`], [`Judgements::judge`] and [`PerQuery::load`]; [`Failure::Usage`] for a retriever
    /// without a data set.
    pub(super) fn measure(
        &self,
        systems: &[System<'_>],
        note: &mut dyn FnMut(&str),
    ) -> Result<Vec<Measured>, Failure> {
        let mut retrievers =
            self.dataset.map(|dataset| Retrievers::new(dataset, self.common, self.judging, self.level));
        let mut judgements: Option<Judgements> = None;
        let mut all = Vec::new();
        // What is wrong with the data set is said once, by whoever reads it first.
        let mut announced = self.dataset.is_none();
        for system in systems {
            match system {
                System::Retriever(retriever) => {
                    let retrievers = retrievers.as_mut().ok_or_else(|| {
                        let name = retriever.name;
                        Failure::Usage(format!(
                            "{name} needs a data set to be measured on; give --dataset FILE"
                        ))
                    })?;
                    let (task, evaluation) = retrievers.evaluate(retriever, note)?;
                    if !core::mem::replace(&mut announced, true) {
                        lint::note_defects(task.file(), task.defects(), note);
                    }
                    let evaluation = evaluation.with_metrics(self.metrics);
                    let values =
                        PerQuery::new(retriever.name, &evaluation, self.judging.rules().gain, |query| {
                            task.query(query).id
                        })?;
                    all.push(Measured {
                        values,
                        ties: Some(evaluation.ties()),
                        has_grades: task.has_grades(),
                    });
                }
                System::Run(name, file) => {
                    let judgements = match &judgements {
                        Some(judgements) => judgements,
                        None => {
                            &*judgements.insert(Judgements::open(self.dataset, self.judging, self.common)?)
                        }
                    };
                    if let Some(dataset) = self.dataset
                        && !core::mem::replace(&mut announced, true)
                    {
                        lint::note_defects(dataset, judgements.defects(), note);
                    }
                    let rules = self.judging.rules();
                    let run = Run::load(file, rules.ties)?;
                    let judged = judgements.judge(&run, rules)?;
                    judged.notes(&run, note);
                    let evaluation = judged.evaluation.with_metrics(self.metrics);
                    let name = name.map_or_else(|| stem(file), ToOwned::to_owned);
                    let values =
                        PerQuery::new(&name, &evaluation, rules.gain, |query| judgements.query(query))?;
                    let has_grades = judgements.has_grades();
                    all.push(Measured { values, ties: Some(evaluation.ties()), has_grades });
                }
                System::PerQuery(name, file) => {
                    let mut systems = PerQuery::load(file)?;
                    match (name, &mut systems[..]) {
                        (Some(name), [only]) => (*name).clone_into(&mut only.system),
                        (Some(name), several) => {
                            several.iter_mut().for_each(|s| s.system = format!("{name}/{}", s.system));
                        }
                        (None, _) => {}
                    }
                    let known = systems.into_iter();
                    all.extend(known.map(|values| Measured { values, ties: None, has_grades: false }));
                }
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retrievers_are_read_from_the_command_line() {
        let parts = |text| {
            parse_retriever(text)
                .map(|r| (r.name, r.source, r.adapter))
                .map_err(|failure| failure.exit_code())
        };
        assert_eq!(parts("base="), Ok(("base", "", None)));
        assert_eq!(parts("tuned=+a.qad"), Ok(("tuned", "", Some("a.qad"))));
        assert_eq!(parts("x=BAAI/bge+b.qad"), Ok(("x", "BAAI/bge", Some("b.qad"))));
        assert_eq!(parts("x=m@http://h/v1"), Ok(("x", "m@http://h/v1", None)));
        for text in ["x", "=y", " =y", "x=y+"] {
            assert_eq!(parts(text), Err(2), "{text}");
        }
    }

    #[test]
    fn a_system_is_what_its_file_holds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, contents: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, contents).expect("written");
            path.to_str().expect("UTF-8").to_owned()
        };
        let (run, rows) = (file("r=1.run", b"q Q0 d 1 1 t"), file("v.jsonl", b"\xef\xbb\xbf {}"));
        let (adapter, magic) = (file("a.qad", b"x"), file("b", &query_adapter::image::MAGIC));
        assert_eq!(System::parse(&run).ok(), Some(System::Run(None, Path::new(&run))));
        assert_eq!(System::parse(&rows).ok(), Some(System::PerQuery(None, Path::new(&rows))));
        for (path, name) in [(&adapter, "a"), (&magic, "b")] {
            assert!(System::parse(path).is_ok_and(|s| s.is_adapter()), "{path}");
            let named = format!("mine={path}");
            for (text, name) in [(path, name), (&named, "mine")] {
                let expected = Retriever { name, source: "", adapter: Some(path) };
                assert_eq!(System::parse(text).ok(), Some(System::Retriever(expected)));
            }
        }
        let base = |name| System::Retriever(Retriever { name, source: "", adapter: None });
        assert_eq!(System::parse("base").ok(), Some(base("base")));
        assert_eq!(System::parse("untouched=base").ok(), Some(base("untouched")));
        let code = |text: &str| System::parse(text).map(drop).map_err(|failure| failure.exit_code());
        for (text, expected) in
            [("gone.qad", 3), ("x=gone.qad", 3), ("x=gone.run", 3), ("=gone", 2), ("x=m+", 2)]
        {
            assert_eq!(code(text), Err(expected), "{text}");
        }
    }
}
