//! `host-cli compare`: several systems on the same queries — how far apart they are, how surely, and where.

mod groups;
pub(crate) mod system;
mod tables;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use query_adapter::Level;

use crate::claims::Claim;
use crate::contents::require_rereadable;
use crate::distinct::{ReadPath, require_distinct};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::quoted;
use crate::judging::{Answers, Judgements, JudgingOptions};
use crate::metrics::{Gain, Metric, Ties};
use crate::options::Common;
use crate::parallel::available_threads;
use crate::per_query::{self, PerQuery};
use crate::significance::{Paired, difference, holm};
use groups::{ALL, Group, GroupFile, SEEN, UNSEEN};
use system::{Measured, Measuring, Retriever, System};

/// What is compared where nothing else is asked for.
const DEFAULT_METRICS: &str = "hit_rate@1,mrr@10,ndcg@10,recall@10,map@100";

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareOptions {
    /// What to compare, the first with every other: an adapter file, `base` for the vectors as they are, a TREC run file, a
    /// file written by --per-query, or NAME=SOURCE[+ADAPTER] with a folder of vectors or a model; NAME= may stand before each
    #[arg(required = true, value_name = "[NAME=]SYSTEM")]
    pub systems: Vec<String>,
    /// Data set to measure adapters and retrievers on; its labels judge run files too
    #[arg(long, value_name = "FILE")]
    pub dataset: Option<PathBuf>,
    /// Metrics to compare by, commas between them: hit_rate, precision, recall, mrr, ndcg or map, @ and a number
    #[arg(long, value_name = "METRIC,…", value_delimiter = ',', default_value = DEFAULT_METRICS)]
    pub metrics: Vec<Metric>,
    /// Groups of queries to look at apart: JSON {query id: group}, or lines of a query id, a tab and a group
    #[arg(long, value_name = "FILE")]
    pub groups: Option<PathBuf>,
    /// Training data set: queries whose answers were seen in it, and the others, are looked at apart
    #[arg(long, value_name = "FILE")]
    pub train: Option<PathBuf>,
    /// File for the values of each query: CSV where its name ends in .csv, else JSON Lines
    #[arg(long, value_name = "FILE")]
    pub per_query: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long)]
    pub force: bool,
    /// Form of the tables
    #[arg(long, value_enum, default_value_t, conflicts_with = "json")]
    pub format: TableFormat,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub judging: JudgingOptions,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub common: Common,
}

/// Form of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum TableFormat {
    /// For a terminal
    #[default]
    Text,
    /// Markdown
    Markdown,
    /// LaTeX, for the package booktabs
    Latex,
    /// One table, a line for each group, metric and system
    Csv,
    /// One JSON object on one line
    Json,
}

/// Everything that is said of systems on the same queries.
struct Report {
    /// The systems, the first of which the others are compared with.
    systems: Vec<(String, Option<Ties>)>,
    gain: Gain,
    /// Whether any ranking was judged here, by that gain.
    judged: bool,
    /// Whether the labels that judged it have grades.
    has_grades: bool,
    groups: Vec<GroupReport>,
    /// The number of comparisons that Holm's correction is for.
    comparisons: usize,
}

/// What is said of a group of queries.
struct GroupReport {
    name: String,
    queries: usize,
    metrics: Vec<(Metric, Vec<Row>)>,
}

/// What is said of a system, by a metric, on a group.
struct Row {
    mean: f64,
    /// None for the first system.
    against_first: Option<Difference>,
}

/// How a system differs from the first.
struct Difference {
    paired: Paired,
    /// The p-values corrected for all comparisons.
    randomization_holm: f64,
    t_test_holm: Option<f64>,
}

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Usage`] for systems that are malformed, too few or without what they are measured on; [`Failure::Input`] for files that
/// cannot be used or systems that did not answer the same queries; [`Failure::Output`].
pub fn run(options: &CompareOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    let mut systems =
        options.systems.iter().map(|text| System::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let datasets = [&options.dataset, &options.train].map(|path| path.as_deref().map(ReadPath::Dataset));
    let files = [&options.groups, &options.judging.qrels].map(|file| file.as_deref().map(ReadPath::File));
    let inputs = datasets.into_iter().chain(files).chain(options.common.inputs());
    let inputs = inputs.chain(systems.iter().flat_map(System::inputs));
    require_distinct(&[("--per-query", options.per_query.as_deref())], inputs)?;
    if options.train.is_some() {
        // Rankings are judged first, and then it is looked up what answers a query.
        for file in [&options.dataset, &options.judging.qrels].into_iter().flatten() {
            require_rereadable(file, "--train")?;
        }
    }
    let claim = options.per_query.as_ref().map(|file| Claim::take(file, options.force));
    let _claim = claim.transpose()?;
    if let [only] = &systems[..]
        && only.is_adapter()
    {
        systems.insert(0, System::Retriever(Retriever { name: "base", source: "", adapter: None }));
    }
    let metrics = distinct(&options.metrics);
    let measuring = Measuring {
        dataset: options.dataset.as_deref(),
        common: &options.common,
        judging: &options.judging,
        metrics: &distinct(&[&metrics[..], &Metric::STANDARD].concat()),
        level,
    };
    let measured = measuring.measure(&systems, note)?;
    require_comparable(&measured, &metrics)?;
    let [first, ..] = &measured[..] else { return Ok(String::new()) };
    let queries = &first.values.queries;

    let file = options.groups.as_deref().map(GroupFile::load).transpose()?;
    let mut groups: Vec<Group> = Group::of(ALL, queries.len(), |_| true).into_iter().collect();
    if let (Some(file), Some(path)) = (&file, &options.groups) {
        groups.extend(file.groups(path, queries)?);
    }
    let seen = match &options.train {
        Some(train) => {
            if options.dataset.is_none() && options.judging.qrels.is_none() {
                let problem =
                    "--train needs to know which documents answer a query; give --dataset or --qrels";
                return Err(Failure::Usage(problem.to_owned()));
            }
            let answers = Answers::of(train, &options.common.reading)?;
            let judgements = Judgements::open(options.dataset.as_deref(), &options.judging, &options.common)?;
            Some(
                queries.iter().map(|query| judgements.is_answered_by(query, &answers)).collect::<Vec<bool>>(),
            )
        }
        None => None,
    };
    if let Some(seen) = &seen {
        groups.extend(Group::of(SEEN, seen.len(), |query| seen[query]));
        groups.extend(Group::of(UNSEEN, seen.len(), |query| !seen[query]));
    }
    // Shown twice it would count twice in Holm's correction as well.
    for whole in groups.extract_if(1.., |group| group.queries.len() == queries.len()) {
        note(&format!("every query is in the group \"{}\", so it is not shown apart from all", whole.name));
    }

    let aligned = align(&measured, queries, &metrics);
    let threads = options.common.threads.unwrap_or_else(available_threads);
    let mut groups: Vec<GroupReport> = groups
        .iter()
        .map(|group| GroupReport {
            name: group.name.clone(),
            queries: group.queries.len(),
            metrics: metrics
                .iter()
                .zip(&aligned)
                .map(|(&metric, systems)| (metric, rows(systems, &group.queries, threads)))
                .collect(),
        })
        .collect();
    let comparisons = correct(&mut groups);
    let report = Report {
        systems: measured.iter().map(|system| (system.values.system.clone(), system.ties)).collect(),
        gain: options.judging.rules().gain,
        judged: measured.iter().any(|system| system.ties.is_some()),
        has_grades: measured.iter().any(|system| system.has_grades),
        groups,
        comparisons,
    };

    if let Some(path) = &options.per_query {
        let groups_of = |query: &str| {
            let named = file.as_ref().and_then(|file| file.of(query)).map(ToOwned::to_owned);
            let seen = queries.index_of(query).zip(seen.as_ref());
            let seen = seen.map(|(at, seen)| if seen[at as usize] { SEEN } else { UNSEEN }.to_owned());
            named.into_iter().chain(seen).collect()
        };
        let values: Vec<&PerQuery> = measured.iter().map(|system| &system.values).collect();
        per_query::save(path, options.force, &values, groups_of)?;
    }
    let format = if options.common.json { TableFormat::Json } else { options.format };
    Ok(report.print(format))
}

fn distinct(metrics: &[Metric]) -> Vec<Metric> {
    let mut kept: Vec<Metric> = Vec::new();
    for &metric in metrics {
        if !kept.contains(&metric) {
            kept.push(metric);
        }
    }
    kept
}

/// Refuses values of nDCG that have another gain than the first; those of files that do not say it are taken.
fn require_one_gain(first: &PerQuery, other: &PerQuery) -> Result<(), Failure> {
    match (first.gain, other.gain) {
        (Some(gain), Some(others)) if gain != others => Err(Failure::Usage(format!(
            "nDCG has {} gain for {} and {} gain for {}, which cannot be compared; measure both by the same labels and \
             --gain, or leave ndcg out of --metrics",
            gain.name(),
            first.system,
            others.name(),
            other.system
        ))),
        _ => Ok(()),
    }
}

/// Refuses systems that are too few, have one name, lack a metric, have another gain, or did not answer the same queries.
fn require_comparable(systems: &[Measured], metrics: &[Metric]) -> Result<(), Failure> {
    let [first, others @ ..] = systems else { return Ok(()) };
    if others.is_empty() {
        let problem = "there is one system; give two or more to compare";
        return Err(Failure::Usage(problem.to_owned()));
    }
    for (at, Measured { values: system, .. }) in systems.iter().enumerate() {
        if systems[..at].iter().any(|other| other.values.system == system.system) {
            let problem = format!(
                "two systems are called {}; give each a name of its own: NAME=SYSTEM",
                quoted(&system.system)
            );
            return Err(Failure::Usage(problem));
        }
        if let Some(metric) = metrics.iter().find(|metric| !system.metrics.contains(metric)) {
            let known: Vec<String> = system.metrics.iter().map(ToString::to_string).collect();
            let problem = format!("{} has no {metric}; its file has {}", system.system, known.join(", "));
            return Err(Failure::Usage(problem));
        }
    }
    if metrics.iter().any(|metric| metric.has_gain()) {
        for other in others {
            require_one_gain(&first.values, &other.values)?;
        }
    }
    let lacks = |a: &PerQuery, b: &PerQuery| {
        let query = a.queries.iter().find(|query| b.queries.index_of(query).is_none())?;
        Some(format!(
            "the query {} is measured for {} and not for {}; systems are compared on the same queries",
            quoted(query),
            a.system,
            b.system
        ))
    };
    for other in others {
        if let Some(problem) =
            lacks(&first.values, &other.values).or_else(|| lacks(&other.values, &first.values))
        {
            return Err(Failure::input(std::path::Path::new(&other.values.system), problem));
        }
    }
    Ok(())
}

/// For each metric the values of each system, in the order of `queries`.
fn align(systems: &[Measured], queries: &Ids, metrics: &[Metric]) -> Vec<Vec<Vec<f64>>> {
    let of_system = |system: &Measured, metric: Metric| -> Vec<f64> {
        let values = system.values.values(metric).unwrap_or_default();
        let places = queries.iter().filter_map(|query| system.values.queries.index_of(query));
        places.filter_map(|place| values.get(place as usize).copied()).collect()
    };
    metrics.iter().map(|&metric| systems.iter().map(|system| of_system(system, metric)).collect()).collect()
}

/// The rows of all systems, without correction yet.
fn rows(systems: &[Vec<f64>], queries: &[usize], threads: core::num::NonZeroUsize) -> Vec<Row> {
    let first = systems.first().map_or(&[][..], Vec::as_slice);
    let row = |(at, values): (usize, &Vec<f64>)| {
        let here: Vec<f64> = queries.iter().map(|&query| values[query]).collect();
        let differences: Vec<f64> =
            queries.iter().map(|&query| difference(first[query], values[query])).collect();
        let paired = if at == 0 { None } else { Paired::of(&differences, threads) };
        let against_first =
            paired.map(|paired| Difference { paired, randomization_holm: 1.0, t_test_holm: None });
        Row { mean: crate::fit::mean(&here), against_first }
    };
    systems.iter().enumerate().map(row).collect()
}

/// Corrects all p-values for the number of comparisons, and returns it. A t-test without a p-value counts as one.
fn correct(groups: &mut [GroupReport]) -> usize {
    let all = groups.iter_mut().flat_map(|group| &mut group.metrics).flat_map(|(_, rows)| rows);
    let mut differences: Vec<&mut Difference> = all.filter_map(|row| row.against_first.as_mut()).collect();
    let randomization: Vec<f64> = differences.iter().map(|d| d.paired.randomization_p).collect();
    let t_test: Vec<f64> = differences.iter().map(|d| d.paired.t_test_p.unwrap_or(1.0)).collect();
    for ((difference, randomization), t_test) in
        differences.iter_mut().zip(holm(&randomization)).zip(holm(&t_test))
    {
        difference.randomization_holm = randomization;
        difference.t_test_holm = difference.paired.t_test_p.map(|_| t_test);
    }
    differences.len()
}
