//! What became of each query, and those to look at one by one.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use query_adapter::Transform;
use serde::Serialize;

use super::chart::Tone;
use super::excerpts::{Excerpts, shown_id};
use super::headline::{number, rank as rank_words, signed};
use crate::dataset::{Purpose, ReadingOptions};
use crate::failure::Failure;
use crate::metrics::{DEPTH, Evaluation, Metric};
use crate::ranking::Index;
use crate::report::Comparison;
use crate::retrieval_task::RetrievalTask;
use crate::significance::difference;
use crate::texts::TextKey;

/// The queries of a split, whose ranks are drawn and of which some are shown.
pub(crate) struct LookedAt<'a> {
    /// Their comparison, over the queries of all parts in order.
    pub(crate) comparison: &'a Comparison,
    /// Where they come from.
    pub(crate) parts: Vec<Part<'a>>,
    /// The data sets in which their texts stand, and what these were read for.
    pub(crate) datasets: Vec<(&'a Path, Purpose)>,
    /// How these are read.
    pub(crate) reading: &'a ReadingOptions,
}

/// Queries that were measured with one adapter.
pub(crate) struct Part<'a> {
    pub(crate) task: &'a RetrievalTask,
    pub(crate) index: &'a Index,
    pub(crate) adapter: Option<&'a (dyn Transform + Sync)>,
}

/// A query before and after. Without an adapter the two are the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryChange {
    /// Its part, and its number in there.
    pub(super) part: usize,
    pub(super) query: usize,
    /// nDCG@10.
    pub(super) ndcg: [f64; 2],
    /// Rank of the first relevant document among the first [`DEPTH`].
    pub(super) rank: [Option<usize>; 2],
}

impl QueryChange {
    pub(super) fn gain(&self) -> f64 {
        difference(self.ndcg[0], self.ndcg[1])
    }
}

impl LookedAt<'_> {
    /// All queries in order.
    pub(super) fn changes(&self) -> Vec<QueryChange> {
        let base = values(&self.comparison.base);
        let adapted = self.comparison.adapted.as_ref().map_or_else(|| base.clone(), values);
        let places = self.parts.iter().enumerate();
        let mut places =
            places.flat_map(|(part, of)| (0..of.task.queries().len()).map(move |query| (part, query)));
        let changes = base.into_iter().zip(adapted).map_while(|(before, after)| {
            let (part, query) = places.next()?;
            Some(QueryChange { part, query, ndcg: [before.0, after.0], rank: [before.1, after.1] })
        });
        changes.collect()
    }
}

/// nDCG@10 and the rank of the first relevant document of each query. Every query of a task has one, so none is left out.
fn values(evaluation: &Evaluation) -> Vec<(f64, Option<usize>)> {
    let ndcg = evaluation.values(Metric::NDCG_AT_10).into_iter().flatten();
    ndcg.zip(evaluation.queries().map(|query| query.first_relevant)).collect()
}

/// Queries of a kind, the most striking first.
pub(super) struct Selection {
    pub(super) changes: Vec<QueryChange>,
    /// How many of the kind are not among them.
    pub(super) left_out: usize,
}

/// The queries that gained most, at most `most`; of equals the earlier one comes first.
pub(super) fn most_gained(changes: &[QueryChange], most: usize) -> Selection {
    select(changes, most, |change| (change.gain(), 0))
}

/// Those that lost most.
pub(super) fn most_lost(changes: &[QueryChange], most: usize) -> Selection {
    select(changes, most, |change| (-change.gain(), 0))
}

/// Those that find the least, of those that do not find all; of equals the one whose first relevant document is farthest
/// down.
pub(super) fn least_found(changes: &[QueryChange], most: usize) -> Selection {
    select(changes, most, |change| (1.0 - change.ndcg[0], change.rank[0].unwrap_or(DEPTH + 1)))
}

/// The queries of which the first of two numbers is above 0, the greatest first, by the second where those are equal.
fn select(changes: &[QueryChange], most: usize, by: impl Fn(&QueryChange) -> (f64, usize)) -> Selection {
    let mut of_kind: Vec<QueryChange> = changes.iter().copied().filter(|change| by(change).0 > 0.0).collect();
    let left_out = of_kind.len().saturating_sub(most);
    // A stable sort.
    of_kind.sort_by(|a, b| {
        let (a, b) = (by(a), by(b));
        b.0.total_cmp(&a.0).then(b.1.cmp(&a.1))
    });
    of_kind.truncate(most);
    Selection { changes: of_kind, left_out }
}

/// A query as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownQuery {
    pub(super) id: String,
    #[serde(skip)]
    pub(super) text: String,
    /// nDCG@10 of the base and adapted.
    #[serde(rename = "ndcg@10")]
    pub(super) ndcg: [f64; 2],
    /// Rank of the first relevant document.
    pub(super) rank: [Option<usize>; 2],
    /// The first documents of the base and adapted; without an adapter twice the same.
    pub(super) documents: [Vec<ShownDocument>; 2],
    /// Whether there is an adapter.
    #[serde(skip)]
    pub(super) compared: bool,
}

/// One of its rankings.
pub(super) struct Side<'a> {
    pub(super) name: &'static str,
    pub(super) documents: &'a [ShownDocument],
}

impl ShownQuery {
    /// Its text, or its id where it has none.
    pub(super) fn heading(&self) -> &str {
        if self.text.is_empty() { &self.id } else { &self.text }
    }

    pub(super) fn ranks(&self) -> String {
        match (self.compared, self.rank) {
            (false, [rank, _]) => format!("first relevant document: {}", rank_words(rank)),
            (true, [before, after]) => format!("{} → {}", rank_words(before), rank_words(after)),
        }
    }

    /// Its change in nDCG@10, or what it has where nothing is compared.
    pub(super) fn change(&self) -> String {
        let [before, after] = self.ndcg;
        if self.compared { signed(after - before) } else { number(before) }
    }

    /// The class of its change.
    pub(super) fn direction(&self) -> &'static str {
        match self.ndcg {
            [before, after] if after > before => Tone::Gain.class(),
            [before, after] if after < before => Tone::Loss.class(),
            _ => Tone::Same.class(),
        }
    }

    pub(super) fn sides(&self) -> Vec<Side<'_>> {
        let [base, adapted] = &self.documents;
        if self.compared {
            vec![Side { name: "Before", documents: base }, Side { name: "After", documents: adapted }]
        } else {
            vec![Side { name: "First documents", documents: base }]
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownDocument {
    /// None beyond the first [`DEPTH`].
    pub(super) rank: Option<usize>,
    pub(super) id: String,
    #[serde(skip)]
    pub(super) text: String,
    pub(super) relevant: bool,
}

impl ShownDocument {
    pub(super) fn rank_words(&self) -> String {
        self.rank.map_or_else(|| format!(">{DEPTH}"), |rank| rank.to_string())
    }
}

/// A ranking of which the first few are shown, and the first relevant one wherever it is.
struct Shown(Vec<(Option<usize>, u32, bool)>);

/// Looks up what is to be shown of some queries: their first documents, `depth` of them, and all texts.
///
/// # Errors
///
/// As [`Index::rank`] and [`Excerpts::read`].
pub(super) fn show(
    looked_at: &LookedAt<'_>,
    selections: &[&Selection],
    depth: usize,
) -> Result<Vec<Vec<ShownQuery>>, Failure> {
    let all = || selections.iter().flat_map(|selection| &selection.changes);
    // For each part, the queries to rank, ascending, and their rankings.
    let mut rankings = Vec::new();
    for (number, Part { task, index, adapter }) in looked_at.parts.iter().enumerate() {
        let chosen: BTreeSet<usize> = all().filter(|c| c.part == number).map(|c| c.query).collect();
        if chosen.is_empty() {
            rankings.push((chosen, Vec::new()));
            continue;
        }
        let part = task.part(|query| chosen.contains(&query));
        let base = index.rank_to(DEPTH, &part, None)?;
        let adapted = match adapter {
            Some(adapter) => index.rank_to(DEPTH, &part, Some(*adapter))?,
            None => base.clone(),
        };
        let shown = |(at, ranking): (usize, &Vec<u32>)| Shown::new(&part, at, ranking, depth);
        let base: Vec<Shown> = base.iter().enumerate().map(shown).collect();
        let adapted = adapted.iter().enumerate().map(shown);
        rankings.push((chosen, base.into_iter().zip(adapted).map(|(b, a)| [b, a]).collect::<Vec<_>>()));
    }
    let of = |change: &QueryChange| {
        let (chosen, rankings) = &rankings[change.part];
        let place = chosen.iter().position(|&query| query == change.query);
        place.and_then(|place| rankings.get(place))
    };

    let mut keys: HashSet<TextKey> = HashSet::new();
    for change in all() {
        let task = looked_at.parts[change.part].task;
        keys.insert(task.query(change.query).text);
        let documents = of(change).into_iter().flatten().flat_map(|shown| &shown.0);
        keys.extend(documents.map(|&(_, document, _)| task.corpus().text(document)));
    }
    let excerpts = Excerpts::read(&looked_at.datasets, &keys, looked_at.reading)?;

    let shown_query = |change: &QueryChange| {
        let task = looked_at.parts[change.part].task;
        let corpus = task.corpus();
        let query = task.query(change.query);
        let documents = |side: usize| {
            let shown = of(change).map(|sides| &sides[side].0).into_iter().flatten();
            shown
                .map(|&(rank, document, relevant)| ShownDocument {
                    rank,
                    id: shown_id(corpus.id(document)),
                    text: excerpts.get(corpus.text(document)).to_owned(),
                    relevant,
                })
                .collect()
        };
        ShownQuery {
            id: shown_id(query.id),
            text: excerpts.get(query.text).to_owned(),
            ndcg: change.ndcg,
            rank: change.rank,
            documents: [documents(0), documents(1)],
            compared: looked_at.comparison.adapted.is_some(),
        }
    };
    Ok(selections.iter().map(|selection| selection.changes.iter().map(shown_query).collect()).collect())
}

impl Shown {
    fn new(task: &RetrievalTask, query: usize, ranking: &[u32], depth: usize) -> Self {
        let positives = task.query(query).positives;
        let relevant = |document: u32| positives.documents().contains(&document);
        let row = |(rank, &document): (usize, &u32)| (Some(rank), document, relevant(document));
        let mut shown: Vec<_> = (1..).zip(ranking).take(depth).map(row).collect();
        if !shown.iter().any(|&(.., relevant)| relevant) {
            let further = (1..).zip(ranking).map(row).find(|&(.., relevant)| relevant);
            let first = positives.documents().first().map(|&document| (None, document, true));
            shown.extend(further.or(first));
        }
        Self(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(ndcg: &[(f64, f64)]) -> Vec<QueryChange> {
        let change = |(query, &(before, after)): (usize, &(f64, f64))| QueryChange {
            part: 0,
            query,
            ndcg: [before, after],
            rank: [None, None],
        };
        ndcg.iter().enumerate().map(change).collect()
    }

    #[test]
    fn the_most_striking_come_first_equals_in_order_and_the_rest_is_counted() {
        let changes = changes(&[(0.5, 1.0), (0.0, 1.0), (1.0, 1.0), (0.5, 1.0), (1.0, 0.2), (0.3, 0.2)]);
        let numbers = |selection: Selection| {
            (selection.changes.iter().map(|change| change.query).collect::<Vec<_>>(), selection.left_out)
        };
        assert_eq!(numbers(most_gained(&changes, 2)), (vec![1, 0], 1));
        assert_eq!(numbers(most_gained(&changes, 9)), (vec![1, 0, 3], 0));
        assert_eq!(numbers(most_lost(&changes, 9)), (vec![4, 5], 0));
        assert_eq!(numbers(least_found(&changes, 2)), (vec![1, 5], 2));
        assert_eq!(numbers(most_lost(&changes[..1], 2)), (vec![], 0));
        let mut far = self::changes(&[(0.0, 0.0); 3]);
        (far[0].rank[0], far[1].rank[0]) = (Some(11), Some(70));
        assert_eq!(numbers(least_found(&far, 3)), (vec![2, 1, 0], 0));
    }
}
