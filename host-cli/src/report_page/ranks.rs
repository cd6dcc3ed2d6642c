//! Where the first relevant document of each query stands, before and after.

use serde::Serialize;

use super::chart::{Axis, Chart, Marks, Point, Scale, Series, Tick, Tone, Word, ticks_at};
use super::queries::QueryChange;
use crate::metrics::DEPTH;

/// Ranks that are told apart: each up to 10, then the first and last of each span; the last has what was not found.
const SPANS: [(usize, usize); 16] = [
    (1, 1),
    (2, 2),
    (3, 3),
    (4, 4),
    (5, 5),
    (6, 6),
    (7, 7),
    (8, 8),
    (9, 9),
    (10, 10),
    (11, 15),
    (16, 20),
    (21, 30),
    (31, 50),
    (51, DEPTH),
    (DEPTH + 1, usize::MAX),
];

/// The rank at which a span is drawn: near the middle, as a logarithmic axis has it.
const DRAWN_AT: [u32; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 18, 25, 40, 71, 150];

/// The coarser spans of the table, as the last span of each.
const TABLE: [(&str, usize); 5] = [("1", 0), ("2–3", 2), ("4–10", 9), ("11–100", 14), ("beyond", 15)];

fn span_of(rank: Option<usize>) -> usize {
    let last = SPANS.len() - 1;
    rank.and_then(|rank| SPANS.iter().position(|&(_, to)| rank <= to)).unwrap_or(last)
}

fn span_name(span: usize) -> String {
    match SPANS[span] {
        (from, to) if from == to => format!("rank {from}"),
        (_, usize::MAX) => format!("beyond the first {DEPTH}"),
        (from, to) => format!("ranks {from} to {to}"),
    }
}

/// All queries by their ranks before and after, each place a disc as large as there are queries at it.
pub(super) fn rank_changes(changes: &[QueryChange]) -> Chart {
    let mut counts = [[0_usize; SPANS.len()]; SPANS.len()];
    for change in changes {
        counts[span_of(change.rank[0])][span_of(change.rank[1])] += 1;
    }
    let axis = |label: &str| {
        let mut ticks = ticks_at(&[1_u32, 2, 3, 5, 10]);
        let spans = [(25.0, "21–30"), (71.0, "51–100"), (150.0, ">100")];
        ticks.extend(spans.map(|(value, label)| Tick { value, label: label.to_owned() }));
        Axis::new(label, Scale::Log, [0.8, 190.0], ticks)
    };
    let mut chart = Chart::new(
        "rank-changes",
        "Rank of the first relevant document",
        348.0,
        axis("rank before"),
        axis("rank after"),
    );
    chart.words = vec![
        Word { at: [0.98, 0.95], anchor: "end", text: "better" },
        Word { at: [0.02, 0.05], anchor: "start", text: "worse" },
    ];
    let guide = vec![Point::new(0.8, 0.8), Point::new(190.0, 190.0)];
    chart.series.push(Series { name: String::new(), marks: Marks::Guide, tone: Tone::Quiet, points: guide });
    for (name, tone, belongs) in [
        ("unchanged", Tone::Same, (|before, after| before == after) as fn(usize, usize) -> bool),
        ("better", Tone::Gain, |before, after| after < before),
        ("worse", Tone::Loss, |before, after| after > before),
    ] {
        let mut points = Vec::new();
        for (before, row) in counts.iter().enumerate() {
            for (after, &count) in
                row.iter().enumerate().filter(|&(after, &count)| count > 0 && belongs(before, after))
            {
                let queries = if count == 1 { "query" } else { "queries" };
                points.push(Point {
                    size: Some(count),
                    label: format!(
                        "{count} {queries}: {} before, {} after",
                        span_name(before),
                        span_name(after)
                    ),
                    ..Point::new(f64::from(DRAWN_AT[before]), f64::from(DRAWN_AT[after]))
                });
            }
        }
        let queries: usize = points.iter().filter_map(|point| point.size).sum();
        let name = format!("{name} ({queries})");
        chart.series.push(Series { name, marks: Marks::Discs, tone, points });
    }
    let numbers: Vec<&str> = chart.legend().map(|series| series.name.as_str()).collect();
    chart.description = format!(
        "Each of {} queries by the rank of its first relevant document before and after the adapter; ranks above 10 are \
         put together. {}.",
        changes.len(),
        numbers.join(", ")
    );
    chart
}

/// The same in numbers: rows are ranks before, columns ranks after.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RankTable {
    pub(super) ranks: [&'static str; TABLE.len()],
    pub(super) rows: [[usize; TABLE.len()]; TABLE.len()],
}

impl RankTable {
    pub(super) fn named_rows(&self) -> impl Iterator<Item = (&'static str, &[usize; TABLE.len()])> {
        self.ranks.into_iter().zip(&self.rows)
    }
}

pub(super) fn rank_table(changes: &[QueryChange]) -> RankTable {
    let place = |rank| {
        let span = span_of(rank);
        TABLE.iter().position(|&(_, last)| span <= last).unwrap_or(TABLE.len() - 1)
    };
    let mut rows = [[0; TABLE.len()]; TABLE.len()];
    for change in changes {
        rows[place(change.rank[0])][place(change.rank[1])] += 1;
    }
    RankTable { ranks: TABLE.map(|(name, _)| name), rows }
}

/// How many of the first documents are looked at.
const DEPTHS: [u32; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100];

/// The share of queries with a relevant document among the first k, for many k; without an adapter of the base alone.
pub(super) fn hit_rates(changes: &[QueryChange], with_adapter: bool) -> Chart {
    let rate = |side: usize, k: u32| {
        let found = changes.iter().filter(|change| change.rank[side].is_some_and(|rank| rank <= k as usize));
        found.count() as f64 / changes.len() as f64
    };
    let sides: &[(&str, Tone, usize)] = match with_adapter {
        true => &[("base", Tone::Base, 0), ("adapted", Tone::Adapted, 1)],
        false => &[("base", Tone::Base, 0)],
    };
    let series: Vec<Series> = sides
        .iter()
        .map(|&(name, tone, side)| Series {
            name: name.to_owned(),
            marks: Marks::Line,
            tone,
            points: DEPTHS.iter().map(|&k| Point::new(f64::from(k), rate(side, k))).collect(),
        })
        .collect();
    let x = Axis::new(
        "first k documents",
        Scale::Log,
        [1.0, 100.0],
        ticks_at(&[1_u32, 2, 3, 5, 10, 20, 50, 100]),
    );
    let values = series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
    let y = Axis::round("share of queries", values);
    let mut chart = Chart::new("hit-rates", "Queries that find a relevant document", 348.0, x, y);
    let ends = series.iter().filter_map(|series| {
        let (first, tenth) = (series.points.first()?, series.points.get(9)?);
        Some(format!(
            "{}: {:.1} % with the first document, {:.1} % with the first ten",
            series.name,
            100.0 * first.y,
            100.0 * tenth.y
        ))
    });
    chart.description = format!(
        "The share of queries with a relevant document among the first k, for k from 1 to 100. {}.",
        ends.collect::<Vec<_>>().join("; ")
    );
    chart.series = series;
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(ranks: &[(usize, usize)]) -> Vec<QueryChange> {
        let rank = |rank: usize| Some(rank).filter(|&rank| rank > 0);
        let change = |(query, &(before, after)): (usize, &(usize, usize))| QueryChange {
            part: 0,
            query,
            ndcg: [0.0, 0.0],
            rank: [rank(before), rank(after)],
        };
        ranks.iter().enumerate().map(change).collect()
    }

    #[test]
    fn every_query_is_in_one_disc() {
        let all: Vec<(usize, usize)> = (0..=100).map(|rank| (rank, 100 - rank)).collect();
        let chart = rank_changes(&changes(&all));
        let drawn: usize = chart.series.iter().flat_map(|s| &s.points).filter_map(|point| point.size).sum();
        assert_eq!(drawn, all.len());
        assert!(chart.series.iter().flat_map(|s| &s.points).all(|p| {
            let inside = |axis: &Axis, value| (axis.domain[0]..=axis.domain[1]).contains(&value);
            inside(&chart.x, p.x) && inside(&chart.y, p.y)
        }));
    }

    #[test]
    fn better_and_worse_are_told_apart_and_counted() {
        let chart = rank_changes(&changes(&[(3, 1), (3, 1), (1, 1), (12, 14), (5, 0), (0, 0)]));
        let series: Vec<(&str, usize)> =
            chart.series[1..].iter().map(|series| (series.name.as_str(), series.points.len())).collect();
        // 12 and 14 are in one span.
        assert_eq!(series, [("unchanged (3)", 3), ("better (2)", 1), ("worse (1)", 1)]);
        assert_eq!(chart.series[2].points[0].label, "2 queries: rank 3 before, rank 1 after");
        assert_eq!(chart.series[3].points[0].label, "1 query: rank 5 before, beyond the first 100 after");
        let table = rank_table(&changes(&[(3, 1), (3, 1), (1, 1), (12, 14), (5, 0), (0, 0)]));
        assert_eq!(
            table.rows,
            [[1, 0, 0, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
        );
    }

    #[test]
    fn hit_rates_are_the_shares_found() {
        let chart = hit_rates(&changes(&[(1, 1), (4, 1), (0, 20), (0, 0)]), true);
        let at = |series: usize, k: f64| chart.series[series].points.iter().find(|p| p.x == k).map(|p| p.y);
        assert_eq!((at(0, 1.0), at(0, 4.0), at(0, 100.0)), (Some(0.25), Some(0.5), Some(0.5)));
        assert_eq!((at(1, 1.0), at(1, 15.0), at(1, 20.0)), (Some(0.5), Some(0.5), Some(0.75)));
    }
}
