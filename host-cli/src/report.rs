//! What is said of a split: base against adapted, as a table for people and as JSON for programs.

use comfy_table::{CellAlignment, Row, Table};
use query_adapter::Transform;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::metrics::{CUT, Evaluation, Metric, Ties, compare};
use crate::parallel::available_threads;
use crate::ranking::Index;
use crate::retrieval_task::RetrievalTask;
use crate::significance::{bootstrap_interval, difference};

/// The metrics of the table, by name; JSON has all of [`Metric::STANDARD`].
pub(crate) const SHOWN: [&str; 8] =
    ["hit_rate@1", "hit_rate@5", "hit_rate@10", "mrr@5", "mrr@10", "ndcg@10", "recall@10", "map@100"];

/// Base and adapted on the same queries.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Without an adapter.
    pub base: Evaluation,
    /// Through the adapter, if there is one.
    pub adapted: Option<Evaluation>,
}

/// A split of the data, and parts of it that are shown apart.
#[derive(Clone, Debug)]
pub struct SplitReport {
    /// The split's name: `validation`, `test`, `train` or a file's.
    pub name: String,
    /// All its queries.
    pub all: Comparison,
    /// Named parts of its queries.
    pub groups: Vec<(String, Comparison)>,
}

impl Comparison {
    /// Measures the base, and an adapter if there is one, on the queries of a task.
    ///
    /// # Errors
    ///
    /// As [`Index::evaluate`].
    pub fn measure(
        index: &Index,
        task: &RetrievalTask,
        adapter: Option<&(dyn Transform + Sync)>,
    ) -> Result<Self, Failure> {
        let base = index.evaluate(task, None)?;
        let adapted = match adapter {
            Some(adapter) => Some(index.evaluate(task, Some(adapter))?),
            None => None,
        };
        Ok(Self { base, adapted })
    }

    /// The queries for which `keep` holds; none when there are none.
    #[must_use]
    pub fn select(&self, keep: impl Fn(usize) -> bool) -> Option<Self> {
        let base = self.base.select(&keep)?;
        let adapted = match &self.adapted {
            Some(adapted) => Some(adapted.select(&keep)?),
            None => None,
        };
        Some(Self { base, adapted })
    }

    /// The 95 % interval of the mean gain in nDCG@10, by a paired bootstrap over queries.
    ///
    /// The resamples come from a fixed seed: the same values give the same interval everywhere.
    #[must_use]
    pub fn gain_interval(&self) -> Option<(f64, f64)> {
        gain_interval(&self.base, self.adapted.as_ref()?, Metric::NDCG_AT_10)
    }

    /// The gain of each query in nDCG@10; none without an adapter.
    #[must_use]
    pub fn gains(&self) -> Option<Vec<f64>> {
        gains(&self.base, self.adapted.as_ref()?, Metric::NDCG_AT_10)
    }

    /// This comparison with the queries of `other` behind its own, of which it knows no more than their place.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let adapted = match (self.adapted, other.adapted) {
            (Some(adapted), Some(others)) => Some(adapted.and(others)),
            _ => None,
        };
        Self { base: self.base.and(other.base), adapted }
    }

    fn object(&self) -> Map<String, Value> {
        let means = |evaluation: &Evaluation| -> Map<String, Value> {
            evaluation.means().map(|(metric, mean)| (metric.to_string(), json!(mean))).collect()
        };
        let mut object = Map::new();
        object.insert("base".into(), means(&self.base).into());
        if let Some(adapted) = &self.adapted {
            object.insert("adapted".into(), means(adapted).into());
            let deltas = self.base.means().zip(adapted.means());
            let delta: Map<String, Value> = deltas
                .map(|((metric, base), (_, adapted))| (metric.to_string(), json!(adapted - base)))
                .collect();
            object.insert("delta".into(), delta.into());
            if let Some((low, high)) = self.gain_interval() {
                object.insert("interval".into(), json!({ "ndcg@10": [low, high] }));
            }
            if let Some(changed) = compare(&self.base, adapted) {
                object.insert("won".into(), json!(changed.won.len()));
                object.insert("lost".into(), json!(changed.lost.len()));
            }
        }
        let ties = match &self.adapted {
            Some(adapted) => json!({ "base": self.base.ties(), "adapted": adapted.ties() }),
            None => json!({ "base": self.base.ties() }),
        };
        object.insert("ties".into(), ties);
        object.insert("queries".into(), json!(self.base.queries().len()));
        object
    }
}

/// The 95 % interval of the mean gain in a metric, by a paired bootstrap over queries from a fixed seed.
pub(crate) fn gain_interval(base: &Evaluation, adapted: &Evaluation, metric: Metric) -> Option<(f64, f64)> {
    Some(bootstrap_interval(&gains(base, adapted, metric)?, available_threads()))
}

fn gains(base: &Evaluation, adapted: &Evaluation, metric: Metric) -> Option<Vec<f64>> {
    Some(base.values(metric)?.zip(adapted.values(metric)?).map(|(b, a)| difference(b, a)).collect())
}

/// Control characters, and those that embed or override a direction of writing and are seldom closed.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name as a terminal may have it: a space for each character that could draw there or break the line.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect()
}

/// An empty table in the style of all tables; the columns `numbers` are set flush right.
pub(crate) fn table<T: Into<Row>>(header: T, numbers: impl IntoIterator<Item = usize>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

impl SplitReport {
    /// The table, a line of what was won and lost, and the interval.
    #[must_use]
    pub fn table(&self) -> String {
        let parts: Vec<(&str, &Comparison)> = core::iter::once(("all", &self.all))
            .chain(self.groups.iter().map(|(name, comparison)| (name.as_str(), comparison)))
            .collect();
        let mut header = vec![printable(&self.name)];
        for (name, comparison) in &parts {
            let queries = comparison.base.queries().len();
            if parts.len() == 1 {
                header.push(format!("base ({queries} queries)"));
                if comparison.adapted.is_some() {
                    header.extend(["adapted".to_owned(), "change".to_owned()]);
                }
            } else {
                header.push(format!("{name} ({queries})"));
            }
        }
        let columns = header.len();
        let mut table = table(header, 1..columns);
        for shown in SHOWN {
            let mut row = vec![shown.to_owned()];
            for (_, comparison) in &parts {
                let of = |evaluation: &Evaluation| {
                    evaluation.means().find(|(metric, _)| metric.to_string() == shown).map(|(_, mean)| mean)
                };
                let base = of(&comparison.base).unwrap_or(f64::NAN);
                let adapted = comparison.adapted.as_ref().and_then(of);
                match adapted {
                    Some(adapted) if parts.len() > 1 => row.push(format!("{base:.4} → {adapted:.4}")),
                    Some(adapted) => {
                        row.extend([base, adapted].map(|mean| format!("{mean:.4}")));
                        row.push(format!("{:+.4}", adapted - base));
                    }
                    None => row.push(format!("{base:.4}")),
                }
            }
            table.add_row(row);
        }
        let mut text = format!("{table}\n");
        for (name, comparison) in &parts {
            let label = if parts.len() == 1 { String::new() } else { format!("{name}: ") };
            if let Some(adapted) = &comparison.adapted
                && let Some(changed) = compare(&comparison.base, adapted)
                && let Some((low, high)) = comparison.gain_interval()
            {
                text += &format!(
                    "{label}{} queries won, {} lost; gain in nDCG@10: 95 % interval [{low:+.4}, {high:+.4}]\n",
                    changed.won.len(),
                    changed.lost.len(),
                );
            }
            let adapted = comparison.adapted.as_ref().map(|adapted| ("adapted", adapted.ties()));
            let ties: Vec<_> = core::iter::once(("base", comparison.base.ties())).chain(adapted).collect();
            text += &prefixed(&label, &ties_words(&ties));
        }
        text
    }

    fn value(&self) -> Value {
        let mut object = self.all.object();
        if !self.groups.is_empty() {
            let groups: Map<String, Value> = self
                .groups
                .iter()
                .map(|(name, comparison)| (name.clone(), comparison.object().into()))
                .collect();
            object.insert("groups".into(), groups.into());
        }
        object.into()
    }
}

/// A line that says in how many queries the rule for ties decides something, of each system by its name; nothing where it never does.
pub(crate) fn ties_words(systems: &[(&str, Ties)]) -> String {
    if systems.iter().all(|(_, ties)| *ties == Ties::default()) {
        return String::new();
    }
    let of = |count: fn(&Ties) -> usize| -> String {
        let counts = systems.iter().map(|(name, ties)| match *name {
            "" => count(ties).to_string(),
            name => format!("{} ({})", count(ties), printable(name)),
        });
        counts.collect::<Vec<_>>().join(", ")
    };
    format!(
        "ties: queries in which a relevant document scores as one that is not: {}; ties at the cut (ranks {CUT}, {}): {}\n",
        of(|ties| ties.relevant),
        CUT + 1,
        of(|ties| ties.at_cut)
    )
}

fn prefixed(label: &str, line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("{label}{line}") }
}

/// One JSON object: a single split's fields at the top, several splits under their names, `extra` beside them.
#[must_use]
pub fn json_object(splits: &[SplitReport], extra: &impl Serialize) -> Value {
    let mut object = match splits {
        [split] => match split.value() {
            Value::Object(object) => object,
            _ => Map::new(),
        },
        _ => splits.iter().map(|split| (split.name.clone(), split.value())).collect(),
    };
    if let Ok(Value::Object(extra)) = serde_json::to_value(extra) {
        object.extend(extra);
    }
    object.into()
}
