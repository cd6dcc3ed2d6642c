//! The report page: one HTML file that says whether an adapter helped, how surely and where it hurt, and shows what is
//! behind that.
//!
//! Nothing but the data and the settings reaches it: no clock, folder, host or number of threads, so that the same data
//! give the same bytes. It asks for nothing from elsewhere and needs no script.

pub(crate) mod curves;
pub(crate) mod fingerprint;

mod chart;
mod excerpts;
mod headline;
mod movement;
mod plane;
mod queries;
mod ranks;
mod results;

use std::path::Path;

use askama::Template;
use query_adapter::image::Metadata;
use serde::Serialize;

pub(crate) use chart::Chart;
use chart::Marks;
use curves::TriedSettings;
use fingerprint::{Fingerprint, file_name};
use headline::{Answer, Findings};
pub(crate) use headline::{Evidence, Subject};
pub(crate) use queries::{LookedAt, Part};
use queries::{Selection, ShownQuery, least_found, most_gained, most_lost, show};
use ranks::RankTable;
use results::Split;

use crate::auto::verdict::Verdict;
use crate::contents::require_rereadable;
use crate::failure::Failure;
use crate::files::check_output;
use crate::report::SplitReport;
use crate::retrieval_task::RetrievalTask;
use crate::train::TOOL;

/// The most queries of a list.
const MOST_LISTED: usize = 8;

/// Documents shown of a ranking.
const TOP: usize = 5;

/// Checks before any work that a page can be written, and that `files`, of which it shows texts or digests, can be read again.
///
/// # Errors
///
/// [`Failure::Output`] as [`check_output`]; [`Failure::Input`] for a file that can be read once only.
pub(crate) fn check(page: &Path, force: bool, files: &[&Path]) -> Result<(), Failure> {
    check_output(page, force)?;
    files.iter().try_for_each(|file| require_rereadable(file, "--report"))
}

/// What a command knows of its run.
pub(crate) struct Contents<'a> {
    /// What was measured, in a few words.
    pub(crate) title: String,
    /// How it came about, in a line.
    pub(crate) about: String,
    pub(crate) subject: Subject,
    /// How the queries of the first split are related to what was measured.
    pub(crate) evidence: Evidence,
    /// The splits; the first one is looked at in detail.
    pub(crate) splits: Vec<&'a SplitReport>,
    /// The queries of the first split.
    pub(crate) looked_at: LookedAt<'a>,
    pub(crate) verdict: Option<&'a Verdict>,
    /// How the run went.
    pub(crate) curves: Vec<Chart>,
    /// What was tried, where there was a choice.
    pub(crate) tried: Vec<TriedSettings>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) files: Vec<Fingerprint>,
    /// What was found wrong in the data.
    pub(crate) defects: Vec<String>,
}

/// "144 queries and 123 documents".
pub(crate) fn counted(queries: usize, documents: usize) -> String {
    let plural =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    format!("{} and {}", plural(queries, "query", "queries"), plural(documents, "document", "documents"))
}

/// How much there is of a task.
pub(crate) fn size_of(task: &RetrievalTask) -> String {
    let counted = counted(task.queries().len(), task.corpus().len());
    format!("{counted}, {} pairs, {} components", task.pairs(), task.dim())
}

/// What was found wrong in a data set, a line each.
pub(crate) fn defects_of(task: &RetrievalTask) -> impl Iterator<Item = String> {
    let name = file_name(task.file());
    task.defects().iter().map(move |defect| format!("{name}: {defect}"))
}

/// What an adapter says of the model that it is for.
pub(crate) fn model_of(metadata: &Metadata<'_>) -> Vec<(String, String)> {
    let rows = [
        ("embedding model", metadata.base_model),
        ("query prefix", metadata.query_prefix),
        ("document prefix", metadata.document_prefix),
    ];
    let stated = rows.into_iter().filter(|(_, value)| !value.is_empty());
    stated.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The page, a function of its contents alone.
///
/// # Errors
///
/// [`Failure::Input`] when the texts to show cannot be read again.
pub(crate) fn render(contents: &Contents<'_>) -> Result<String, Failure> {
    let Contents { subject, evidence, looked_at, verdict, .. } = contents;
    let with_adapter = looked_at.comparison.adapted.is_some();
    let splits: Vec<Split> = contents.splits.iter().map(|report| Split::new(report)).collect();
    let changes = looked_at.changes();
    let lists: Vec<(&str, Selection)> = if with_adapter {
        vec![
            ("Gained most", most_gained(&changes, MOST_LISTED)),
            ("Lost most", most_lost(&changes, MOST_LISTED)),
        ]
    } else {
        vec![("Found least", least_found(&changes, MOST_LISTED))]
    };
    let selections: Vec<&Selection> = lists.iter().map(|(_, selection)| selection).collect();
    let shown = show(looked_at, &selections, TOP)?;
    let lists: Vec<QueryList> = lists
        .iter()
        .zip(shown)
        .map(|((title, selection), queries)| QueryList { title, queries, left_out: selection.left_out })
        .collect();

    let Some(split) = splits.first() else {
        return Err(Failure::Usage("there is nothing to report".to_owned()));
    };
    let worst = lists.last().and_then(|list| list.queries.first());
    let findings = Findings {
        subject: *subject,
        evidence: *evidence,
        split,
        verdict: *verdict,
        changes: &changes,
        worst,
    };
    let answers = headline::answers(&findings);
    let movement = movement::movement(looked_at, &changes)?;
    let mut ranks = Vec::new();
    if with_adapter {
        ranks.push(ranks::rank_changes(&changes));
    }
    ranks.push(ranks::hit_rates(&changes, with_adapter));

    let page = Page {
        tool: TOOL,
        title: &contents.title,
        about: &contents.about,
        with_adapter,
        gains: with_adapter.then(|| results::gains(&splits)),
        rank_table: with_adapter.then(|| ranks::rank_table(&changes)),
        of_queries: changes.len(),
        documents: looked_at.parts.first().map_or(0, |part| part.task.corpus().len()),
        answers,
        splits,
        curves: &contents.curves,
        tried: &contents.tried,
        ranks,
        lists,
        movement,
        settings: &contents.settings,
        files: &contents.files,
        defects: &contents.defects,
    };
    page.render().map_err(|error| Failure::from(anyhow::Error::from(error)))
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    tool: &'static str,
    title: &'a str,
    about: &'a str,
    with_adapter: bool,
    answers: [Answer; 3],
    splits: Vec<Split>,
    gains: Option<Chart>,
    curves: &'a [Chart],
    tried: &'a [TriedSettings],
    ranks: Vec<Chart>,
    rank_table: Option<RankTable>,
    lists: Vec<QueryList<'a>>,
    /// All queries of the first split, and all documents.
    of_queries: usize,
    documents: usize,
    movement: movement::Movement,
    settings: &'a [(String, String)],
    files: &'a [Fingerprint],
    defects: &'a [String],
}

#[derive(Serialize)]
struct QueryList<'a> {
    title: &'a str,
    queries: Vec<ShownQuery>,
    left_out: usize,
}

impl Page<'_> {
    /// The split that is looked at.
    fn split(&self) -> &str {
        self.splits.first().map_or("", |split| &split.name)
    }

    fn charts(&self) -> impl Iterator<Item = &Chart> {
        let movement = core::iter::once(&self.movement.chart);
        self.gains.iter().chain(self.curves).chain(&self.ranks).chain(movement)
    }

    /// All that is drawn and said, as JSON that may stand in HTML.
    fn data(&self) -> String {
        #[derive(Serialize)]
        struct Data<'a> {
            tool: &'a str,
            title: &'a str,
            answers: &'a [Answer],
            splits: &'a [Split],
            charts: Vec<&'a Chart>,
            tried: &'a [TriedSettings],
            ranks: &'a Option<RankTable>,
            queries: &'a [QueryList<'a>],
            settings: Vec<[&'a str; 2]>,
            files: &'a [Fingerprint],
        }
        let data = Data {
            tool: self.tool,
            title: self.title,
            answers: &self.answers,
            splits: &self.splits,
            charts: self.charts().collect(),
            tried: self.tried,
            ranks: &self.rank_table,
            queries: &self.lists,
            settings: self.settings.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect(),
            files: self.files,
        };
        json_in_html(&serde_json::to_string(&data).unwrap_or_default())
    }
}

/// JSON in which no character can end the element that it stands in.
fn json_in_html(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            c => escaped.push(c),
        }
    }
    escaped
}
