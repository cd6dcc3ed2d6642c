//! What is wrong with data sets, and what they share: `host-cli lint`, and what `train` and `evaluate` say first.

use core::fmt::Write as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::dataset::{Dataset, Purpose, ReadingOptions};
use crate::defects::Defects;
use crate::failure::Failure;
use crate::json::quoted;
use crate::retrieval_task::{Counts, Judged, RetrievalTask};
use crate::texts::TextKey;
use crate::vectors::Embeddings;

/// How many examples of a shared text are named.
const MOST_EXAMPLES: usize = 3;

/// Options of `lint`.
#[derive(Args, Debug)]
pub struct LintOptions {
    /// Data sets to look through, files or folders; the first is the one to train on, with which all others are compared
    #[arg(required = true, value_name = "DATASET")]
    pub datasets: Vec<PathBuf>,
    /// Folder with the vectors, to be looked through too
    #[arg(long, value_name = "DIR")]
    pub embeddings: Option<PathBuf>,
    /// File with the vectors of the queries, in place of a folder
    #[arg(long, value_name = "FILE", conflicts_with = "embeddings", requires = "document_embeddings")]
    pub query_embeddings: Option<PathBuf>,
    /// File with the vectors of the documents
    #[arg(long, value_name = "FILE", conflicts_with = "embeddings", requires = "query_embeddings")]
    pub document_embeddings: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub reading: ReadingOptions,
    /// Print one JSON object on stdout instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; returns what to print on stdout where nothing was found.
///
/// # Errors
///
/// [`Failure::Unclean`] with what to print where anything was found; [`Failure::Input`] for data that is refused.
pub fn run(options: &LintOptions) -> Result<String, Failure> {
    let files = (&options.query_embeddings, &options.document_embeddings);
    let embeddings = match (&options.embeddings, files) {
        (Some(folder), _) => Some(Embeddings::load(folder)?),
        (None, (Some(queries), Some(documents))) => Some(Embeddings::load_files(queries, documents)?),
        (None, _) => None,
    };
    let load = |file: &PathBuf| Linted::load(file, &options.reading, embeddings.as_ref());
    let sets = options.datasets.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let shared: Vec<Shared> = match sets.split_first() {
        Some((first, others)) => {
            others.iter().map(|other| Shared::of(first, other, embeddings.is_some())).collect()
        }
        None => Vec::new(),
    };
    let kinds: usize = sets.iter().map(|set| set.defects().iter().count()).sum();
    let leaks = shared.iter().filter(|shared| shared.queries.count > 0).count();
    let renamed = shared.iter().filter(|shared| !shared.other_texts.is_empty()).count();
    let printed = match options.json {
        true => format!("{}\n", object(&sets, &shared)),
        false => text(&sets, &shared),
    };
    if kinds + leaks + renamed == 0 {
        return Ok(printed);
    }
    let mut words = format!("found {}", counted(kinds, "kind of defect", "kinds of defects"));
    if leaks > 0 {
        words +=
            &format!(", and training queries in {}", counted(leaks, "other data set", "other data sets"));
    }
    if renamed > 0 {
        let others = counted(renamed, "other data set", "other data sets");
        words += &format!(", and one vector for two texts in {others}");
    }
    Err(Failure::Unclean { printed, words })
}

/// Says in notes what the data sets of a run hold, what is wrong with them and what they share; `by_id` says that all have
/// their vectors from the same files, by id.
///
/// # Errors
///
/// [`Failure::Input`] where a training query stands in another data set, or an id of the same vector has another text there,
/// and `strict` is set.
pub(crate) fn announce(
    train: &RetrievalTask,
    others: &[&RetrievalTask],
    by_id: bool,
    strict: bool,
    note: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    for task in core::iter::once(train).chain(others.iter().copied()) {
        note(&format!("{}: {}", task.file().display(), summary(task.counts(), Some(task.dim()))));
        note_defects(task.file(), task.defects(), note);
    }
    for other in others {
        let shared = Shared::of(train, *other, by_id);
        let lines = shared.lines();
        lines.iter().for_each(|line| note(line));
        if strict {
            refuse(other.file(), shared.query_line().into_iter().chain(shared.other_texts_line()).collect())?;
        }
    }
    Ok(())
}

/// Says in notes what is wrong with a data set.
pub(crate) fn note_defects(file: &Path, defects: &Defects, note: &mut dyn FnMut(&str)) {
    defects.iter().for_each(|defect| note(&format!("{}: {defect}", file.display())));
}

/// Refuses a data set that has any defect.
pub(crate) fn require_clean(file: &Path, defects: &Defects) -> Result<(), Failure> {
    refuse(file, defects.iter().map(ToString::to_string).collect())
}

fn refuse(file: &Path, found: Vec<String>) -> Result<(), Failure> {
    if found.is_empty() {
        return Ok(());
    }
    let found = found.join("; ");
    Err(Failure::input(file, format!("--strict: {found}; mend the data set, or leave --strict out")))
}

/// What a data set holds, in words.
fn summary(counts: Counts, dim: Option<usize>) -> String {
    let Counts { queries, documents, labels, negatives } = counts;
    let mut words = format!("{queries} queries, {documents} documents, {labels} labels");
    if negatives > 0 {
        words += &format!(", {negatives} negatives");
    }
    match dim {
        Some(dim) => words + &format!("; vectors of {dim} components"),
        None => words + "; no vectors",
    }
}

/// A data set that was looked through, with vectors or without.
enum Linted {
    Without(PathBuf, Box<Judged>),
    With(RetrievalTask),
}

impl Linted {
    fn load(file: &Path, reading: &ReadingOptions, embeddings: Option<&Embeddings>) -> Result<Self, Failure> {
        let dataset = match embeddings {
            Some(vectors) => Dataset::read_to_join(file, reading, Purpose::Everything, vectors)?,
            None => Dataset::read_without_texts(file, reading, Purpose::Everything)?,
        };
        let inline = dataset.query_embeddings.is_some() || dataset.corpus_embeddings.is_some();
        match embeddings.is_some() || inline {
            true => RetrievalTask::join(dataset, embeddings).map(Self::With),
            false => Judged::new(dataset).map(|judged| Self::Without(file.to_owned(), judged.into())),
        }
    }

    fn defects(&self) -> &Defects {
        match self {
            Self::Without(_, judged) => judged.defects(),
            Self::With(task) => task.defects(),
        }
    }

    fn counts_and_dim(&self) -> (Counts, Option<usize>) {
        match self {
            Self::Without(_, judged) => (judged.counts(), None),
            Self::With(task) => (task.counts(), Some(task.dim())),
        }
    }
}

/// Ids and texts to be compared.
trait Compared {
    fn name(&self) -> &Path;
    fn query_texts(&self) -> Box<dyn Iterator<Item = (&str, TextKey)> + '_>;
    fn document_texts(&self) -> Box<dyn Iterator<Item = (&str, TextKey)> + '_>;
}

impl Compared for RetrievalTask {
    fn name(&self) -> &Path {
        self.file()
    }

    fn query_texts(&self) -> Box<dyn Iterator<Item = (&str, TextKey)> + '_> {
        Box::new(self.queries().iter().map(|query| (query.id, query.text)))
    }

    fn document_texts(&self) -> Box<dyn Iterator<Item = (&str, TextKey)> + '_> {
        Box::new((0..).take(self.corpus().len()).map(|at| (self.corpus().id(at), self.corpus().text(at))))
    }
}

impl Compared for Linted {
    fn name(&self) -> &Path {
        match self {
            Self::Without(file, _) => file,
            Self::With(task) => task.file(),
        }
    }

    fn query_texts(&self) -> Box<dyn Iterator<Item = (&str, TextKey)> + '_> {
        match self {
            Self::Without(_, judged) => Box::new(judged.query_texts()),
            Self::With(task) => task.query_texts(),
        }
    }

    fn document_texts(&self) -> Box<dyn Iterator<Item = (&str, TextKey)> + '_> {
        match self {
            Self::Without(_, judged) => Box::new(judged.document_texts()),
            Self::With(task) => task.document_texts(),
        }
    }
}

/// What one data set has from another.
struct Shared {
    train: PathBuf,
    other: PathBuf,
    queries: Overlap,
    documents: Overlap,
    /// Where both have their vectors from the same files.
    other_texts: OtherTexts,
}

/// Ids of both of two data sets that have one text in one and another in the other, with the first of them.
#[derive(Default)]
struct OtherTexts {
    queries: (usize, Option<String>),
    documents: (usize, Option<String>),
}

/// Texts that stand in both of two lists.
struct Overlap {
    count: usize,
    of: usize,
    examples: Vec<String>,
}

impl Shared {
    fn of(train: &dyn Compared, other: &dyn Compared, by_id: bool) -> Self {
        let other_texts = match by_id {
            true => OtherTexts {
                queries: other_texts(&|| train.query_texts(), &|| other.query_texts()),
                documents: other_texts(&|| train.document_texts(), &|| other.document_texts()),
            },
            false => OtherTexts::default(),
        };
        Self {
            train: train.name().to_owned(),
            other: other.name().to_owned(),
            queries: Overlap::of(&|| train.query_texts(), &|| other.query_texts()),
            documents: Overlap::of(&|| train.document_texts(), &|| other.document_texts()),
            other_texts,
        }
    }

    fn query_line(&self) -> Option<String> {
        let (train, other) = (self.train.display(), self.other.display());
        let words = self.queries.words()?;
        Some(format!(
            "{other}: queries whose text {train} has too: {words}; what is measured on them flatters"
        ))
    }

    fn lines(&self) -> Vec<String> {
        let (train, other) = (self.train.display(), self.other.display());
        let documents = self.documents.words().map(|words| {
            format!("{other}: documents whose text {train} has too: {words}; they are not new to training")
        });
        self.query_line().into_iter().chain(documents).chain(self.other_texts_line()).collect()
    }

    fn other_texts_line(&self) -> Option<String> {
        let (train, other) = (self.train.display(), self.other.display());
        let OtherTexts { queries, documents } = &self.other_texts;
        let words = |(count, first): &(usize, Option<String>), one, more| {
            let first = quoted(first.as_ref()?);
            Some(format!("{} (the first is {first})", counted(*count, one, more)))
        };
        let words = [words(queries, "query", "queries"), words(documents, "document", "documents")];
        let words = words.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        (!words.is_empty()).then(|| {
            format!(
                "{other}: ids that have another text than in {train}: {words}; their one vector is of one of the two texts \
                 at most, so give them ids of their own, or each data set its own vectors"
            )
        })
    }
}

impl OtherTexts {
    fn is_empty(&self) -> bool {
        self.queries.0 + self.documents.0 == 0
    }

    fn value(&self) -> Value {
        let value = |(count, first): &(usize, Option<String>)| json!({ "count": count, "first": first });
        json!({ "queries": value(&self.queries), "documents": value(&self.documents) })
    }
}

/// How many ids of `found` stand in `known` with another text, and the first of them. An empty text is no other one.
fn other_texts(known: &Texts<'_>, found: &Texts<'_>) -> (usize, Option<String>) {
    // For look-ups only; of the second list, which is the smaller one as a rule.
    let found: HashMap<&str, TextKey> = found().filter(|(_, text)| !text.is_blank()).collect();
    let mut others =
        known().filter(|(id, text)| !text.is_blank() && found.get(id).is_some_and(|found| found != text));
    let first = others.next().map(|(id, _)| id.to_owned());
    (usize::from(first.is_some()) + others.count(), first)
}

type Texts<'a> = dyn Fn() -> Box<dyn Iterator<Item = (&'a str, TextKey)> + 'a> + 'a;

impl Overlap {
    /// The texts of `found` that `known` has too, but empty ones.
    fn of(known: &Texts<'_>, found: &Texts<'_>) -> Self {
        // For look-ups only; over the second list, which is the smaller one as a rule.
        let mut known_as: HashMap<TextKey, Option<&str>> =
            found().filter(|(_, text)| !text.is_blank()).map(|(_, text)| (text, None)).collect();
        for (id, text) in known() {
            if let Some(place @ None) = known_as.get_mut(&text) {
                *place = Some(id);
            }
        }
        let mut overlap = Self { count: 0, of: 0, examples: Vec::new() };
        for (id, text) in found() {
            overlap.of += 1;
            if let Some(Some(known)) = known_as.get(&text) {
                overlap.count += 1;
                if overlap.examples.len() < MOST_EXAMPLES {
                    overlap.examples.push(format!("{} as {}", quoted(id), quoted(known)));
                }
            }
        }
        overlap
    }

    fn words(&self) -> Option<String> {
        let Self { count, of, examples } = self;
        let more = if *count > examples.len() { ", …" } else { "" };
        (*count > 0).then(|| format!("{count} of {of} ({}{more})", examples.join(", ")))
    }

    fn value(&self) -> Value {
        json!({ "count": self.count, "of": self.of, "examples": self.examples })
    }
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn text(sets: &[Linted], shared: &[Shared]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for set in sets {
        let (counts, dim) = set.counts_and_dim();
        let _ = writeln!(text, "{}: {}", set.name().display(), summary(counts, dim));
        for defect in set.defects().iter() {
            let _ = writeln!(text, "  {defect}");
        }
        if set.defects().is_empty() {
            let _ = writeln!(text, "  clean");
        }
    }
    for line in shared.iter().flat_map(Shared::lines) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn object(sets: &[Linted], shared: &[Shared]) -> Value {
    let sets: Vec<Value> = sets
        .iter()
        .map(|set| {
            let (Counts { queries, documents, labels, negatives }, dim) = set.counts_and_dim();
            let defects: Vec<Value> = set
                .defects()
                .iter()
                .map(|defect| {
                    let (words, done) = defect.kind.words();
                    json!({
                        "kind": defect.kind, "words": words, "done": done,
                        "count": defect.count, "examples": defect.examples,
                    })
                })
                .collect();
            json!({
                "dataset": set.name(), "queries": queries, "documents": documents, "labels": labels,
                "negatives": negatives, "dim": dim, "defects": defects,
            })
        })
        .collect();
    let shared: Vec<Value> = shared
        .iter()
        .map(|shared| {
            json!({
                "train": shared.train, "other": shared.other,
                "queries": shared.queries.value(), "documents": shared.documents.value(),
                "other_texts": shared.other_texts.value(),
            })
        })
        .collect();
    json!({ "datasets": sets, "shared": shared })
}
