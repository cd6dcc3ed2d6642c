//! What is relevant to a query, and by which rules a ranking is judged.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::dataset::{Dataset, Labels, Purpose, ReadingOptions};
use crate::defects::Defects;
use crate::failure::Failure;
use crate::json::quoted;
use crate::lint;
use crate::metrics::{DEPTH, Evaluation, Gain, JudgedQueries, Judgement, Metric, Tied};
use crate::options::Common;
use crate::qrels;
use crate::ranking::{Rules, TieOrder};
use crate::retrieval_task::Judged;
use crate::texts::{TextKey, Texts};
use crate::trec::run::Run;

/// Options of all commands that judge rankings.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Judging")]
pub struct JudgingOptions {
    /// Judgements to go by instead of the data set's own: TREC qrels, a tab-separated file with a header as BEIR has
    /// them, rows or one object as JSON
    #[arg(long, value_name = "FILE")]
    pub qrels: Option<PathBuf>,
    /// What a relevant document is worth in nDCG [default: graded with --qrels, else binary]
    #[arg(long, value_enum)]
    pub gain: Option<Gain>,
    /// Order of documents with equal scores
    #[arg(long, value_enum, default_value_t)]
    pub ties: TieOrder,
    /// Judged queries that a run file lacks
    #[arg(long, value_enum, default_value_t)]
    pub missing: Missing,
    /// Leave a document out of the ranking for the query that has the same id
    #[arg(long)]
    pub ignore_self: bool,
}

/// What becomes of judged queries that a run file lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum Missing {
    /// They count as if nothing had been found, as with trec_eval's -c
    #[default]
    Zero,
    /// They are left out, as trec_eval does without -c
    Skip,
}

impl JudgingOptions {
    /// The rules that were asked for.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let default = if self.qrels.is_some() { Gain::Graded } else { Gain::Binary };
        Rules { ties: self.ties, ignore_self: self.ignore_self, gain: self.gain.unwrap_or(default) }
    }

    /// Puts the judgements of `--qrels`, if given, in the place of the data set's own.
    ///
    /// # Errors
    ///
    /// As [`qrels::load`], and when the file judges no query of the data set.
    pub fn relabel(&self, dataset: &mut Dataset) -> Result<(), Failure> {
        let Some(file) = &self.qrels else { return Ok(()) };
        let labels = qrels::load(file)?;
        require_common(file, &labels, &dataset.file, |query| dataset.queries.ids.index_of(query).is_some())?;
        dataset.relevant_docs = labels;
        Ok(())
    }
}

/// Refuses judgements of other queries altogether.
fn require_common(
    file: &Path,
    labels: &Labels,
    other: &Path,
    has: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    if labels.queries.iter().any(has) {
        return Ok(());
    }
    let first = labels.queries.iter().next().map_or_else(|| "none".to_owned(), quoted);
    let problem = format!(
        "it judges no query of {} ({} queries, the first is {first}); check that the two belong together",
        other.display(),
        labels.queries.len()
    );
    Err(Failure::input(file, problem))
}

/// Judgements without vectors: for rankings that come from files.
pub(crate) struct Judgements {
    file: PathBuf,
    /// Where there is a data set, those of its queries on its documents alone.
    labels: Labels,
    missing: Missing,
    /// The documents of the data set.
    corpus: Option<Texts>,
    /// What is wrong with the data set.
    defects: Defects,
}

/// A run file, judged.
pub(crate) struct JudgedRun {
    pub(crate) evaluation: Evaluation,
    /// Judged queries that the run does not have.
    pub(crate) missing: usize,
    rule: Missing,
    /// Queries of the run that are not judged: they do not count.
    pub(crate) unjudged: usize,
}

impl Judgements {
    /// The judgements that a command line names: those of `--qrels`, or of a data set, whose documents bound both.
    ///
    /// # Errors
    ///
    /// As [`qrels::load`] and [`Dataset::read`]; [`Failure::Usage`] where there are none; [`Failure::Input`] where the data
    /// set has any defect and `--strict` is given.
    pub(crate) fn open(
        dataset: Option<&Path>,
        options: &JudgingOptions,
        common: &Common,
    ) -> Result<Self, Failure> {
        match (dataset, &options.qrels) {
            (Some(file), _) => {
                let mut dataset = Dataset::read_without_texts(file, &common.reading, Purpose::Test)?;
                options.relabel(&mut dataset)?;
                let labels = dataset.relevant_docs.restricted_to(&dataset.queries.ids, &dataset.corpus.ids);
                let corpus = dataset.corpus.clone();
                let judged = Judged::new(dataset)?;
                if common.strict {
                    lint::require_clean(file, judged.defects())?;
                }
                Ok(Self {
                    file: options.qrels.clone().unwrap_or_else(|| file.to_owned()),
                    labels,
                    missing: options.missing,
                    corpus: Some(corpus),
                    defects: judged.defects().clone(),
                })
            }
            (None, Some(file)) => Ok(Self {
                file: file.clone(),
                labels: qrels::load(file)?,
                missing: options.missing,
                corpus: None,
                defects: Defects::default(),
            }),
            (None, None) => {
                let problem = "a run file needs judgements; give --qrels FILE or a data set";
                Err(Failure::Usage(problem.to_owned()))
            }
        }
    }

    /// What is wrong with the data set, if there is one.
    pub(crate) fn defects(&self) -> &Defects {
        &self.defects
    }

    /// Whether a relevant document has another grade than 1.
    pub(crate) fn has_grades(&self) -> bool {
        let mut labels = self.labels.queries.iter().flat_map(|query| self.labels.of(query).iter());
        labels.any(|label| label.grade > 0.0 && label.grade != 1.0)
    }

    /// The id of a judged query.
    pub(crate) fn query(&self, query: usize) -> &str {
        // Queries are counted in 32 bits.
        self.labels.queries.get(u32::try_from(query).unwrap_or(u32::MAX)).unwrap_or("")
    }

    /// The judgements of a query; a document is a position in the labels.
    fn of(&self, query: &str) -> Vec<Judgement> {
        let mut judgements: Vec<Judgement> = Vec::new();
        for label in self.labels.of(query).iter() {
            if !judgements.iter().any(|known| known.document == label.document) {
                judgements.push(label);
            }
        }
        judgements
    }

    /// Judges a run file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when none of its queries is judged, or no query has a relevant document.
    pub(crate) fn judge(&self, run: &Run, rules: Rules) -> Result<JudgedRun, Failure> {
        require_common(&self.file, &self.labels, &run.file, |query| run.queries.index_of(query).is_some())?;
        let mut judged = JudgedQueries::default();
        let mut missing = 0;
        for (at, query) in self.labels.queries.iter().enumerate() {
            let judgements = self.of(query);
            let found = run.documents_of(query);
            let is_relevant = judgements.iter().any(|judgement| judgement.grade > 0.0);
            if found.is_none() && is_relevant {
                missing += 1;
                if self.missing == Missing::Skip {
                    continue;
                }
            }
            let ranking: Vec<(u32, f64)> = found
                .into_iter()
                .flatten()
                .filter(|(document, _)| !(rules.ignore_self && *document == query))
                // Documents that no label names are all alike: never relevant.
                .map(|(document, score)| {
                    (self.labels.documents.index_of(document).unwrap_or(u32::MAX), score)
                })
                .take(DEPTH)
                .collect();
            let tied = Tied::of(ranking.iter().copied(), &judgements);
            judged.push_tied(
                at,
                ranking.iter().map(|&(document, _)| document),
                &judgements,
                rules.gain,
                tied,
            );
        }
        let unjudged =
            run.queries.iter().filter(|query| self.labels.queries.index_of(query).is_none()).count();
        let evaluation = Evaluation::new(&Metric::STANDARD, judged).ok_or_else(|| {
            Failure::input(&self.file, "no query has a relevant document: nothing to evaluate")
        })?;
        Ok(JudgedRun { evaluation, missing, unjudged, rule: self.missing })
    }

    /// Whether a document that is relevant to a query is one of `answers`: by id and, where the texts of both are known, text.
    pub(crate) fn is_answered_by(&self, query: &str, answers: &Answers) -> bool {
        let text = |document: &str| {
            let corpus = self.corpus.as_ref()?;
            corpus.keys.get(corpus.ids.index_of(document)? as usize).copied()
        };
        self.of(query).iter().filter(|judgement| judgement.grade > 0.0).any(|judgement| {
            let document = &self.labels.documents[judgement.document];
            match text(document) {
                Some(text) => answers.with_text.contains(&(document.to_owned(), text)),
                None => answers.ids.contains(document),
            }
        })
    }
}

impl JudgedRun {
    /// What a careful user would want to know.
    pub(crate) fn notes(&self, run: &Run, note: &mut dyn FnMut(&str)) {
        let name = run.file.display();
        if self.missing > 0 {
            let rule = match self.rule {
                Missing::Zero => "they count as 0 (--missing skip leaves them out)",
                Missing::Skip => "they are left out",
            };
            note(&format!("{name}: {} judged queries are not in it; {rule}", self.missing));
        }
        if self.unjudged > 0 {
            note(&format!("{name}: {} of its queries are not judged; they do not count", self.unjudged));
        }
        if self.evaluation.left_out() > 0 {
            let left_out = self.evaluation.left_out();
            note(&format!("{name}: {left_out} queries without a relevant document are left out"));
        }
    }
}

/// The documents that were relevant to a training query.
pub(crate) struct Answers {
    ids: HashSet<String>,
    with_text: HashSet<(String, TextKey)>,
}

impl Answers {
    /// The relevant documents of a data set that was trained on.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read`].
    pub(crate) fn of(file: &Path, reading: &ReadingOptions) -> Result<Self, Failure> {
        let dataset = Dataset::read_without_texts(file, reading, Purpose::Train)?;
        let labels = &dataset.relevant_docs;
        let (mut ids, mut with_text) = (HashSet::new(), HashSet::new());
        for query in labels.queries.iter().filter(|query| dataset.queries.ids.index_of(query).is_some()) {
            for label in labels.of(query).iter().filter(|label| label.grade > 0.0) {
                let id = &labels.documents[label.document];
                if let Some(at) = dataset.corpus.ids.index_of(id) {
                    ids.insert(id.to_owned());
                    with_text.insert((id.to_owned(), dataset.corpus.keys[at as usize]));
                }
            }
        }
        Ok(Self { ids, with_text })
    }
}
