//! What was measured on each split, with intervals: the tables of a page.

use serde::Serialize;

use super::chart::{Axis, Chart, Marks, Point, Scale, Series, Tick, Tone};
use super::headline::{number, p_value, signed};
use crate::metrics::{Metric, compare};
use crate::parallel::available_threads;
use crate::report::{Comparison, SHOWN, SplitReport, gain_interval};
use crate::significance::{bootstrap_interval, randomization_p};

/// A split.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Split {
    pub(super) name: String,
    pub(super) all: Group,
    pub(super) groups: Vec<Group>,
    pub(super) metrics: Vec<MetricRow>,
}

/// Queries of a split, and what is said of them in nDCG@10.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) queries: usize,
    /// The base's and the adapter's; twice the base's where there is no adapter.
    #[serde(rename = "ndcg@10")]
    pub(super) ndcg: [f64; 2],
    /// The 95 % interval of the mean gain; without an adapter of the base's mean.
    pub(super) interval: (f64, f64),
    pub(super) p: f64,
    pub(super) won: usize,
    pub(super) lost: usize,
}

/// A metric over all queries of a split.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MetricRow {
    pub(super) metric: String,
    /// The base's and the adapter's.
    pub(super) means: [f64; 2],
    /// The 95 % interval of the gain; none without an adapter.
    pub(super) interval: Option<(f64, f64)>,
}

impl Group {
    pub(super) fn gain(&self) -> f64 {
        self.ndcg[1] - self.ndcg[0]
    }

    pub(super) fn unchanged(&self) -> usize {
        self.queries - self.won - self.lost
    }

    pub(super) fn change(&self) -> String {
        signed(self.gain())
    }

    pub(super) fn direction(&self) -> &'static str {
        beyond_chance(self.interval).class()
    }

    pub(super) fn p_words(&self) -> String {
        p_value(self.p)
    }

    fn new(name: &str, comparison: &Comparison) -> Self {
        let Comparison { base, adapted } = comparison;
        let mean =
            |evaluation: &crate::metrics::Evaluation| evaluation.mean(Metric::NDCG_AT_10).unwrap_or(f64::NAN);
        let changed = adapted.as_ref().and_then(|adapted| compare(base, adapted)).unwrap_or_default();
        let of_base = || {
            let values: Vec<f64> = base.values(Metric::NDCG_AT_10).into_iter().flatten().collect();
            bootstrap_interval(&values, available_threads())
        };
        Self {
            name: name.to_owned(),
            queries: base.queries().len(),
            ndcg: [mean(base), mean(adapted.as_ref().unwrap_or(base))],
            interval: comparison.gain_interval().unwrap_or_else(of_base),
            p: comparison.gains().map_or(1.0, |gains| randomization_p(&gains)),
            won: changed.won.len(),
            lost: changed.lost.len(),
        }
    }
}

impl Split {
    pub(super) fn new(report: &SplitReport) -> Self {
        let Comparison { base, adapted } = &report.all;
        let of_name = |name| base.means().find(|(metric, _)| metric.to_string() == name);
        let rows = SHOWN.into_iter().filter_map(of_name);
        let metrics = rows.map(|(metric, mean)| MetricRow {
            metric: metric.to_string(),
            means: [mean, adapted.as_ref().and_then(|adapted| adapted.mean(metric)).unwrap_or(mean)],
            interval: adapted.as_ref().and_then(|adapted| gain_interval(base, adapted, metric)),
        });
        Self {
            name: report.name.clone(),
            metrics: metrics.collect(),
            all: Group::new("all queries", &report.all),
            groups: report.groups.iter().map(|(name, of)| Group::new(name, of)).collect(),
        }
    }

    /// All queries, then the groups.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Group> {
        core::iter::once(&self.all).chain(&self.groups)
    }
}

impl MetricRow {
    pub(super) fn gain(&self) -> f64 {
        self.means[1] - self.means[0]
    }

    /// Whether it is the one that decides.
    pub(super) fn decides(&self) -> bool {
        self.metric == Metric::NDCG_AT_10.to_string()
    }

    pub(super) fn base(&self) -> String {
        number(self.means[0])
    }

    pub(super) fn adapted(&self) -> String {
        number(self.means[1])
    }

    pub(super) fn change(&self) -> String {
        signed(self.gain())
    }

    pub(super) fn direction(&self) -> &'static str {
        self.interval.map_or(Tone::Same, beyond_chance).class()
    }

    pub(super) fn interval_words(&self) -> String {
        self.interval.map_or_else(String::new, |(low, high)| format!("{} to {}", signed(low), signed(high)))
    }

    /// Its name as people write it.
    pub(super) fn label(&self) -> String {
        let (measure, k) = self.metric.split_once('@').unwrap_or((&self.metric, ""));
        let measure = match measure {
            "hit_rate" => "Hit rate",
            "mrr" => "MRR",
            "ndcg" => "nDCG",
            "recall" => "Recall",
            "precision" => "Precision",
            "map" => "MAP",
            other => other,
        };
        format!("{measure}@{k}")
    }
}

/// The side of 0 on which all of an interval lies.
fn beyond_chance(interval: (f64, f64)) -> Tone {
    match interval {
        (low, _) if low > 0.0 => Tone::Gain,
        (_, high) if high < 0.0 => Tone::Loss,
        _ => Tone::Same,
    }
}

/// The gains in nDCG@10 of all splits and groups with their intervals, a row each.
pub(super) fn gains(splits: &[Split]) -> Chart {
    const ROW: f64 = 34.0;
    let rows: Vec<(String, &Group)> = splits
        .iter()
        .flat_map(|split| {
            split.parts().enumerate().map(|(at, group)| {
                let name = if at == 0 { &split.name } else { &group.name };
                (format!("{name} ({})", group.queries), group)
            })
        })
        .collect();
    let values = rows.iter().flat_map(|(_, group)| [group.interval.0, group.interval.1, group.gain(), 0.0]);
    let x = Axis::round("gain in nDCG@10", values);
    let labels =
        (1_u32..).zip(&rows).map(|(row, (label, _))| Tick { value: row.into(), label: label.clone() });
    let count = rows.len() as f64;
    let y = Axis::new("", Scale::Linear, [count + 0.6, 0.4], labels.collect());
    let mut chart = Chart::new("gains", "Gain in nDCG@10 with its 95 % interval", 58.0 + ROW * count, x, y);
    // The names of the rows stand above them, not beside.
    chart.x.range = [22.0, 332.0];
    let zero = [chart.y.domain[0], chart.y.domain[1]].map(|y| Point::new(0.0, y));
    chart.series.push(Series {
        name: String::new(),
        marks: Marks::Guide,
        tone: Tone::Quiet,
        points: zero.to_vec(),
    });
    let mut said = Vec::new();
    for (row, (label, group)) in (1_u32..).zip(&rows) {
        let (low, high) = group.interval;
        let tone = beyond_chance(group.interval);
        let label = format!("{label}: {}, from {} to {}", signed(group.gain()), signed(low), signed(high));
        said.push(label.clone());
        let point = Point { to: Some([low, high]), label, ..Point::new(group.gain(), row.into()) };
        chart.series.push(Series { name: String::new(), marks: Marks::Intervals, tone, points: vec![point] });
    }
    chart.description = format!("{}.", said.join("; "));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Gain, Judgement, evaluate};

    fn comparison(ranks: &[(u32, u32)], adapted: bool) -> Comparison {
        let judgements = [Judgement { document: 0, grade: 1.0 }];
        let all = |of: fn(&(u32, u32)) -> u32| {
            let rankings: Vec<Vec<u32>> =
                ranks.iter().map(|pair| (1..of(pair)).chain([0]).collect()).collect();
            let queries = rankings.iter().map(|ranking| (ranking.as_slice(), &judgements[..]));
            evaluate(&Metric::STANDARD, Gain::Binary, queries).expect("queries")
        };
        Comparison { base: all(|pair| pair.0), adapted: adapted.then(|| all(|pair| pair.1)) }
    }

    #[test]
    fn a_split_has_what_the_printed_table_has() {
        let all = comparison(&[(3, 1), (1, 3), (3, 1)], true);
        let report = SplitReport { name: "test".to_owned(), all, groups: Vec::new() };
        let split = Split::new(&report);
        assert_eq!(split.metrics.iter().map(|row| row.metric.as_str()).collect::<Vec<_>>(), SHOWN);
        assert_eq!((split.all.queries, split.all.won, split.all.lost), (3, 2, 1));
        assert_eq!(split.all.ndcg, [2.0 / 3.0, 2.5 / 3.0]);
        assert_eq!(Some(split.all.interval), report.all.gain_interval());
        let ndcg = &split.metrics[5];
        assert_eq!(
            (ndcg.label().as_str(), ndcg.means, ndcg.interval),
            ("nDCG@10", split.all.ndcg, Some(split.all.interval))
        );
    }

    #[test]
    fn without_an_adapter_the_interval_is_the_bases() {
        let report =
            SplitReport { name: "x".to_owned(), all: comparison(&[(1, 1); 5], false), groups: Vec::new() };
        let split = Split::new(&report);
        assert_eq!((split.all.interval, split.all.p, split.all.gain()), ((1.0, 1.0), 1.0, 0.0));
        assert!(split.metrics.iter().all(|row| row.interval.is_none()));
    }

    #[test]
    fn every_group_has_a_row_among_the_gains() {
        let all = comparison(&[(3, 1), (1, 3)], true);
        let groups = vec![
            ("seen".to_owned(), comparison(&[(3, 1)], true)),
            ("unseen".to_owned(), comparison(&[(1, 3)], true)),
        ];
        let split = Split::new(&SplitReport { name: "test".to_owned(), all, groups });
        let chart = gains(&[split]);
        let labels: Vec<&str> = chart.y.ticks.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(labels, ["test (2)", "seen (1)", "unseen (1)"]);
        assert_eq!(chart.series[2].points[0].to, Some([0.5, 0.5]));
        assert_eq!([&chart.series[2], &chart.series[3]].map(|series| series.tone), [Tone::Gain, Tone::Loss]);
    }
}
