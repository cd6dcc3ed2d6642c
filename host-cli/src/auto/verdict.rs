//! What may be claimed of an adapter.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::failure::Failure;
use crate::fit::{Adapter, mean};
use crate::metrics::compare;
use crate::ranking::Index;
use crate::report::Comparison;
use crate::retrieval_task::RetrievalTask;
use crate::significance::randomization_p;

/// A p-value from here on is no evidence. Queries of a fold share an adapter, so they are not quite independent: at 0.05 a gain
/// would be claimed of 8 in 100 data sets of random vectors, at 0.01 of 2.
const SIGNIFICANT: f64 = 0.01;

/// The least share of the base's variety that an adapter must keep.
const LEAST_VARIETY: f64 = 0.5;

/// The most unrelated queries, of all of them, that may get another first document.
pub const MOST_MOVED: f64 = 0.05;

/// How many documents of a ranking people look at.
const SHOWN: usize = 10;

/// What the measurement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A gain that chance does not explain.
    Better,
    /// A loss that chance does not explain.
    Worse,
    /// Neither.
    NoEvidence,
    /// Nothing could be measured.
    NotMeasured,
    /// The adapter sends most queries to the same few documents.
    FewDocuments,
    /// The adapter moves queries that it has nothing to do with.
    MovesOthers,
}

/// A finding with its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What is found.
    pub finding: Finding,
    /// Queries measured, which took part in no training and no choice.
    pub queries: usize,
    /// The mean gain in nDCG@10.
    pub gain: f64,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The p-value of a randomisation test.
    pub p: f64,
    /// Queries with a higher nDCG@10.
    pub won: usize,
    /// Queries with a lower one.
    pub lost: usize,
    /// How varied rankings are: of the base and of the adapter.
    pub variety: Option<(f64, f64)>,
    /// Unrelated queries, and how many of them moved.
    pub kept: Option<Moved>,
}

/// How unrelated queries fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// How many there are.
    pub queries: usize,
    /// Those with another first document.
    pub first_changed: usize,
    /// Those with other documents among the first ten.
    pub top_10_changed: usize,
}

impl Verdict {
    /// What a comparison says, on queries which took no part in what is measured.
    #[must_use]
    pub fn new(comparison: Option<&Comparison>, variety: Option<(f64, f64)>, kept: Option<Moved>) -> Self {
        let mut verdict = Self {
            finding: Finding::NotMeasured,
            queries: 0,
            gain: 0.0,
            interval: None,
            p: 1.0,
            won: 0,
            lost: 0,
            variety,
            kept,
        };
        let Some((comparison, gains)) = comparison.and_then(|c| Some((c, c.gains()?))) else {
            return verdict;
        };
        verdict.queries = gains.len();
        verdict.gain = mean(&gains);
        verdict.interval = comparison.gain_interval();
        verdict.p = randomization_p(&gains);
        let changed = comparison.adapted.as_ref().and_then(|adapted| compare(&comparison.base, adapted));
        (verdict.won, verdict.lost) = changed.map_or((0, 0), |c| (c.won.len(), c.lost.len()));
        verdict.finding = match verdict.interval {
            _ if variety.is_some_and(|(base, adapted)| adapted < LEAST_VARIETY * base) => {
                Finding::FewDocuments
            }
            Some((low, _)) if low > 0.0 && verdict.p < SIGNIFICANT => match kept {
                Some(kept) if kept.first_changed as f64 > MOST_MOVED * kept.queries as f64 => {
                    Finding::MovesOthers
                }
                _ => Finding::Better,
            },
            Some((_, high)) if high < 0.0 && verdict.p < SIGNIFICANT => Finding::Worse,
            _ => Finding::NoEvidence,
        };
        verdict
    }

    /// Whether the adapter may take the place of the base.
    #[must_use]
    pub fn is_better(&self) -> bool {
        self.finding == Finding::Better
    }

    /// The verdict in words, without what follows from it.
    #[must_use]
    pub fn words(&self) -> String {
        let (low, high) = self.interval.unwrap_or((f64::NAN, f64::NAN));
        let figures = format!(
            "{:+.4} nDCG@10, 95 % interval [{low:+.4}, {high:+.4}], p = {:.4}, n = {}, won {}, lost {}",
            self.gain, self.p, self.queries, self.won, self.lost
        );
        match self.finding {
            Finding::Better => format!("better: {figures}"),
            Finding::Worse => format!("worse: {figures}"),
            Finding::NoEvidence => format!("no evidence of a gain: {figures}"),
            Finding::NotMeasured => {
                "no evidence of a gain: too few queries to measure on any that took no part in the choice"
                    .to_owned()
            }
            Finding::FewDocuments => {
                let (base, adapted) = self.variety.unwrap_or_default();
                format!(
                    "refused: the adapter's rankings show {:.1} % of the documents they could, the base's {:.1} %: most \
                     queries are sent to the same few ({figures})",
                    100.0 * adapted,
                    100.0 * base
                )
            }
            Finding::MovesOthers => {
                let Moved { queries, first_changed, .. } =
                    self.kept.unwrap_or(Moved { queries: 0, first_changed: 0, top_10_changed: 0 });
                format!(
                    "refused: {first_changed} of {queries} queries to keep get another first document, at most {:.0} % \
                     may ({figures})",
                    100.0 * MOST_MOVED
                )
            }
        }
    }
}

/// Distinct documents among the first ten of a task's rankings.
///
/// # Errors
///
/// As [`Index::rank`].
pub fn distinct_shown(
    index: &Index,
    task: &RetrievalTask,
    adapter: Option<&Adapter>,
) -> Result<BTreeSet<u32>, Failure> {
    Ok(index.rank_to(SHOWN, task, adapter.map(|adapter| adapter as _))?.into_iter().flatten().collect())
}

/// The share of distinct documents that `queries` rankings over `documents` show, of all that they could.
#[must_use]
pub fn variety(distinct: usize, queries: usize, documents: usize) -> f64 {
    distinct as f64 / (SHOWN * queries).min(documents).max(1) as f64
}

/// How many of a task's queries an adapter moves.
///
/// # Errors
///
/// As [`Index::rank`].
pub fn moved(index: &Index, task: &RetrievalTask, adapter: &Adapter) -> Result<Moved, Failure> {
    let before = index.rank_to(SHOWN, task, None)?;
    let after = index.rank_to(SHOWN, task, Some(adapter))?;
    let mut moved = Moved { queries: before.len(), first_changed: 0, top_10_changed: 0 };
    for (before, after) in before.iter().zip(&after) {
        let documents = |ranking: &[u32]| ranking.iter().copied().collect::<BTreeSet<_>>();
        moved.first_changed += usize::from(before.first() != after.first());
        moved.top_10_changed += usize::from(documents(before) != documents(after));
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Gain, Judgement, Metric, evaluate};

    /// Base and adapted rankings of queries whose one relevant document is found at these ranks.
    fn comparison(ranks: &[(u32, u32)]) -> Comparison {
        let judgements = [Judgement { document: 0, grade: 1.0 }];
        let ranking = |rank: u32| -> Vec<u32> { (1..rank).chain([0]).collect() };
        let all = |of: fn(&(u32, u32)) -> u32| {
            let rankings: Vec<_> = ranks.iter().map(|pair| ranking(of(pair))).collect();
            let queries = rankings.iter().map(|ranking| (ranking.as_slice(), &judgements[..]));
            evaluate(&Metric::STANDARD, Gain::Binary, queries).expect("queries")
        };
        Comparison { base: all(|pair| pair.0), adapted: Some(all(|pair| pair.1)) }
    }

    fn finding(ranks: &[(u32, u32)]) -> Finding {
        Verdict::new(Some(&comparison(ranks)), None, None).finding
    }

    #[test]
    fn a_gain_must_be_more_than_chance() {
        assert_eq!(finding(&[(3, 1); 30]), Finding::Better);
        assert_eq!(finding(&[(1, 3); 30]), Finding::Worse);
        assert_eq!(finding(&[(1, 1); 30]), Finding::NoEvidence);
        // Three wins and nothing lost: one in eight by chance.
        assert_eq!(finding(&[(3, 1); 3]), Finding::NoEvidence);
        let mixed: Vec<_> = (0..30).map(|i| if i % 2 == 0 { (3, 1) } else { (1, 3) }).collect();
        assert_eq!(finding(&mixed), Finding::NoEvidence);
        assert_eq!(Verdict::new(None, None, None).finding, Finding::NotMeasured);
    }

    #[test]
    fn a_gain_is_refused_where_all_queries_get_the_same_documents_or_others_move() {
        let comparison = comparison(&[(3, 1); 30]);
        let verdict = |variety, kept| Verdict::new(Some(&comparison), variety, kept).finding;
        assert_eq!(verdict(Some((0.8, 0.3)), None), Finding::FewDocuments);
        assert_eq!(verdict(Some((0.8, 0.4)), None), Finding::Better);
        let kept = |first_changed| Some(Moved { queries: 100, first_changed, top_10_changed: 50 });
        assert_eq!(verdict(None, kept(6)), Finding::MovesOthers);
        assert_eq!(verdict(None, kept(5)), Finding::Better);
    }

    #[test]
    fn the_words_have_the_figures() {
        let verdict = Verdict::new(Some(&comparison(&[(3, 1); 30])), None, None);
        assert_eq!(
            verdict.words(),
            "better: +0.5000 nDCG@10, 95 % interval [+0.5000, +0.5000], p = 0.0001, n = 30, won 30, lost 0"
        );
    }
}
