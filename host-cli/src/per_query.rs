//! What a system is worth on each query, and the file that says so.

use core::str;
use std::io::{self, Write};
use std::path::Path;

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};

use crate::contents::Contents;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::ids::Ids;
use crate::json::{Entries, quoted};
use crate::metrics::{Evaluation, Gain, Metric};

/// Fields of a row that are no metric.
const SYSTEM: &str = "system";
const QUERY: &str = "query";
const GROUPS: &str = "groups";
const FIRST_RELEVANT: &str = "first_relevant";
const GAIN: &str = "gain";

/// The values of a system for each of its queries.
#[derive(Clone, Debug)]
pub(crate) struct PerQuery {
    pub(crate) system: String,
    pub(crate) queries: Ids,
    pub(crate) metrics: Vec<Metric>,
    /// For each metric its values, in the order of the queries.
    values: Vec<Vec<f64>>,
    /// The rank of the first relevant document, from 1, where one was found.
    pub(crate) first_relevant: Vec<Option<usize>>,
    /// The gain that nDCG has; binary where there were no grades. Older files do not say it.
    pub(crate) gain: Option<Gain>,
}

impl PerQuery {
    /// What was evaluated by this gain, of queries with these ids.
    pub(crate) fn new<'a>(
        system: &str,
        evaluation: &Evaluation,
        gain: Gain,
        id: impl Fn(usize) -> &'a str,
    ) -> Result<Self, Failure> {
        let mut queries = Ids::default();
        for query in evaluation.queries() {
            queries.push(id(query.query)).map_err(|error| Failure::Other(error.into()))?;
        }
        let metrics: Vec<Metric> = evaluation.means().map(|(metric, _)| metric).collect();
        let values = metrics.iter().map(|&metric| evaluation.values(metric).into_iter().flatten().collect());
        Ok(Self {
            system: system.to_owned(),
            queries,
            values: values.collect(),
            first_relevant: evaluation.queries().map(|query| query.first_relevant).collect(),
            metrics,
            gain: Some(if evaluation.has_graded_gain() { gain } else { Gain::Binary }),
        })
    }

    /// The values of a metric, in the order of the queries.
    pub(crate) fn values(&self, metric: Metric) -> Option<&[f64]> {
        let at = self.metrics.iter().position(|&known| known == metric)?;
        Some(&self.values[at])
    }

    /// Reads the systems of a file that [`save`] wrote, in the order in which they first stand there.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] for a line that is no such row, has other metrics than its system's first, or a query twice.
    pub(crate) fn load(file: &Path) -> Result<Vec<Self>, Failure> {
        let bytes = Contents::of(file)?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let systems = if is_csv(bytes) { read_csv(file, bytes)? } else { read_lines(file, bytes)? };
        if systems.is_empty() {
            return Err(Failure::input(
                file,
                "there are no rows in it, expected some as --per-query writes them",
            ));
        }
        Ok(systems)
    }
}

/// Whether this is the beginning of a file of values of each query, in either form.
pub(crate) fn is_per_query(start: &[u8]) -> bool {
    is_csv(start) || start.trim_ascii_start().starts_with(b"{")
}

fn is_csv(start: &[u8]) -> bool {
    start.starts_with(format!("{SYSTEM},{QUERY},").as_bytes())
}

fn read_lines(file: &Path, bytes: &[u8]) -> Result<Vec<PerQuery>, Failure> {
    let mut systems = Vec::new();
    for (number, line) in (1_usize..).zip(bytes.split(|&byte| byte == b'\n')) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let refused = |problem: String| Failure::input(file, format!("line {number}: {problem}"));
        let Entries(fields) = serde_json::from_slice(line)
            .map_err(|_| refused("expected a JSON object on one line, as --per-query writes them".into()))?;
        let row = row_of(fields).map_err(refused)?;
        add(&mut systems, &row).map_err(refused)?;
    }
    Ok(systems)
}

fn read_csv(file: &Path, bytes: &[u8]) -> Result<Vec<PerQuery>, Failure> {
    let refused = |position: Option<&csv::Position>, problem: &str| {
        Failure::input(file, format!("line {}: {problem}", line_of(bytes, position)))
    };
    let malformed = |error: csv::Error| match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let problem = format!("found {len} columns, expected {expected_len} as in the header");
            refused(error.position(), &problem)
        }
        csv::ErrorKind::Utf8 { .. } => {
            refused(error.position(), "the text is not UTF-8; save it again as UTF-8")
        }
        _ => Failure::input(file, error.to_string()),
    };
    let mut csv = csv::Reader::from_reader(bytes);
    let header = csv.headers().map_err(malformed)?.clone();
    let mut systems = Vec::new();
    for record in csv.records() {
        let record = record.map_err(malformed)?;
        let fields = header.iter().zip(&record).map(|(key, field)| {
            let value = match key {
                SYSTEM | QUERY | GROUPS | GAIN => json!(field),
                // What is no number stays a text, and is refused as one.
                _ => serde_json::from_str::<serde_json::Number>(field).map_or_else(
                    |_| if field.is_empty() { Value::Null } else { json!(field) },
                    Value::Number,
                ),
            };
            (key.to_owned(), value)
        });
        // A column that stands twice is the header's fault.
        let row = row_of(fields).map_err(|problem| refused(None, &problem))?;
        add(&mut systems, &row).map_err(|problem| refused(record.position(), &problem))?;
    }
    Ok(systems)
}

/// The line, from 1, on which a record begins; without a record the first. The reader's own count is one short where lines end in CRLF.
fn line_of(bytes: &[u8], position: Option<&csv::Position>) -> usize {
    let start = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
    let (before, rest) = bytes.split_at(start.min(bytes.len()));
    let ends = rest.iter().take_while(|byte| b"\r\n".contains(byte));
    1 + before.iter().chain(ends).filter(|&&byte| byte == b'\n').count()
}

/// A row of these fields.
fn row_of(fields: impl IntoIterator<Item = (String, Value)>) -> Result<Map<String, Value>, String> {
    let mut row = Map::new();
    for (key, value) in fields {
        if is_read(&key) && row.contains_key(&key) {
            return Err(format!("{} stands there twice; keep the one that is meant", quoted(&key)));
        }
        row.insert(key, value);
    }
    Ok(row)
}

/// Whether a field of a row is read.
fn is_read(key: &str) -> bool {
    [SYSTEM, QUERY, FIRST_RELEVANT, GAIN].contains(&key) || key.contains('@')
}

/// Adds a row to the system that it names.
fn add(systems: &mut Vec<PerQuery>, row: &Map<String, Value>) -> Result<(), String> {
    let text = |key: &str| {
        match row.get(key).and_then(Value::as_str) {
        Some(text) => Ok(text),
        None if row.contains_key("base") || row.contains_key("metrics") => Err(
            "it has means only, and a comparison needs the values of each query; write them with --per-query or --predictions"
                .to_owned(),
        ),
        None => Err(format!("there is no text {key:?}, expected rows as --per-query writes them")),
    }
    };
    let (system, query) = (text(SYSTEM)?, text(QUERY)?);
    let mut metrics = Vec::new();
    let mut values = Vec::new();
    for (key, value) in row.iter().filter(|(key, _)| key.contains('@')) {
        let metric: Metric = key.parse().map_err(|problem| format!("{}: {problem}", quoted(key)))?;
        if metrics.contains(&metric) {
            return Err(format!("{metric} stands there twice; keep the one that is meant"));
        }
        metrics.push(metric);
        let value = value.as_f64().filter(|value| (0.0..=1.0).contains(value));
        values.push(value.ok_or_else(|| format!("{}: expected a number from 0 to 1", quoted(key)))?);
    }
    if metrics.is_empty() {
        return Err("there is no metric in it, expected rows as --per-query writes them".to_owned());
    }
    let first_relevant = match row.get(FIRST_RELEVANT) {
        None | Some(Value::Null) => None,
        Some(rank) => {
            let rank = rank.as_u64().filter(|&rank| rank > 0).and_then(|rank| usize::try_from(rank).ok());
            Some(rank.ok_or_else(|| format!("{FIRST_RELEVANT:?}: expected a rank, or null"))?)
        }
    };
    let gain = match row.get(GAIN) {
        None => None,
        Some(Value::String(gain)) if gain.is_empty() => None,
        Some(gain) => Some(
            gain.as_str()
                .and_then(|gain| Gain::from_str(gain, false).ok())
                .ok_or_else(|| format!("{GAIN:?} is {gain}, expected \"graded\" or \"binary\""))?,
        ),
    };
    let at = match systems.iter().position(|known| known.system == system) {
        Some(at) => at,
        None => {
            systems.push(PerQuery {
                system: system.to_owned(),
                queries: Ids::default(),
                values: vec![Vec::new(); metrics.len()],
                metrics: metrics.clone(),
                first_relevant: Vec::new(),
                gain,
            });
            systems.len() - 1
        }
    };
    let known = &mut systems[at];
    if known.metrics != metrics {
        return Err(format!("other metrics than in the first row of {}", quoted(system)));
    }
    if known.gain != gain {
        return Err(format!("another {GAIN:?} than in the first row of {}", quoted(system)));
    }
    let twice = |_| format!("the query {} has a row of {} already", quoted(query), quoted(system));
    known.queries.push(query).map_err(twice)?;
    known.values.iter_mut().zip(values).for_each(|(list, value)| list.push(value));
    known.first_relevant.push(first_relevant);
    Ok(())
}

/// Writes a row for each system and query: CSV where the file's name ends in `.csv`, else JSON Lines. `groups` names the groups of a
/// query of the first system.
///
/// # Errors
///
/// As [`write_atomically`].
pub(crate) fn save(
    file: &Path,
    force: bool,
    systems: &[&PerQuery],
    groups: impl Fn(&str) -> Vec<String>,
) -> Result<(), Failure> {
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    write_atomically(file, force, |out| {
        if is_csv { write_csv(out, systems, groups) } else { write_lines(out, systems, groups) }
    })
}

fn write_lines(
    out: &mut dyn Write,
    systems: &[&PerQuery],
    groups: impl Fn(&str) -> Vec<String>,
) -> io::Result<()> {
    for system in systems {
        for (at, query) in system.queries.iter().enumerate() {
            let mut row = Map::new();
            row.insert(SYSTEM.to_owned(), json!(system.system));
            row.insert(QUERY.to_owned(), json!(query));
            let groups = groups(query);
            if !groups.is_empty() {
                row.insert(GROUPS.to_owned(), json!(groups));
            }
            row.insert(FIRST_RELEVANT.to_owned(), json!(system.first_relevant[at]));
            if let Some(gain) = system.gain {
                row.insert(GAIN.to_owned(), json!(gain));
            }
            for (metric, values) in system.metrics.iter().zip(&system.values) {
                row.insert(metric.to_string(), json!(values[at]));
            }
            writeln!(out, "{}", Value::from(row))?;
        }
    }
    Ok(())
}

fn write_csv(
    out: &mut dyn Write,
    systems: &[&PerQuery],
    groups: impl Fn(&str) -> Vec<String>,
) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    // All have the metrics that all have.
    let metrics: Vec<Metric> = systems.first().map_or_else(Vec::new, |first| {
        first.metrics.iter().copied().filter(|m| systems.iter().all(|s| s.metrics.contains(m))).collect()
    });
    let names = [SYSTEM, QUERY, GROUPS, FIRST_RELEVANT, GAIN].map(ToOwned::to_owned);
    csv.write_record(names.into_iter().chain(metrics.iter().map(ToString::to_string)))?;
    for system in systems {
        let gain = system.gain.map_or("", Gain::name);
        for (at, query) in system.queries.iter().enumerate() {
            let rank = system.first_relevant[at].map_or_else(String::new, |rank| rank.to_string());
            let fields =
                [system.system.clone(), query.to_owned(), groups(query).join("; "), rank, gain.to_owned()];
            let values = metrics.iter().filter_map(|&metric| Some(system.values(metric)?[at].to_string()));
            csv.write_record(fields.into_iter().chain(values))?;
        }
    }
    csv.flush()
}
