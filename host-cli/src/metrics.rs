//! How good a ranking is: hit rate, precision, recall, MRR, nDCG and MAP, per query and in the mean.
//!
//! The definitions are those of trec_eval and of sentence-transformers' `InformationRetrievalEvaluator`;
//! `docs/evaluation.md` works each of them out by hand. Every value is `f64`, made of `+ − × ÷` in a stated
//! order, so it has the same bits on every machine.

use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;
pub use crate::graded::Judgement;
use crate::lists::Lists;
use crate::significance::difference;

/// How many documents of a ranking the metrics look at, at most.
pub const DEPTH: usize = 100;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// 1 when at least one of the first k documents is relevant, else 0; also called accuracy or success.
    HitRate,
    /// The share of the first k places that hold a relevant document; a corpus of fewer than k documents does
    /// not shorten the k places.
    Precision,
    /// The share of the relevant documents that are among the first k.
    Recall,
    /// 1 ÷ the rank of the first relevant document among the first k, else 0.
    Mrr,
    /// Discounted gain of the first k documents, Σ gain ÷ log₂(rank + 1), as a share of the best that any
    /// order could have.
    Ndcg,
    /// The mean, over the relevant documents and at most k of them, of the precision at each one's rank; 0
    /// for those after the first k.
    Map,
}

/// A measure and the number of documents, k, that it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    measure: Measure,
    k: usize,
}

impl Metric {
    /// The metrics of every evaluation, in the order of its table.
    pub const STANDARD: [Self; 16] = [
        Self::at(Measure::HitRate, 1),
        Self::at(Measure::HitRate, 3),
        Self::at(Measure::HitRate, 5),
        Self::at(Measure::HitRate, 10),
        Self::at(Measure::Precision, 1),
        Self::at(Measure::Precision, 3),
        Self::at(Measure::Precision, 5),
        Self::at(Measure::Precision, 10),
        Self::at(Measure::Recall, 1),
        Self::at(Measure::Recall, 3),
        Self::at(Measure::Recall, 5),
        Self::at(Measure::Recall, 10),
        Self::at(Measure::Mrr, 5),
        Self::at(Measure::Mrr, 10),
        Self::NDCG_AT_10,
        Self::at(Measure::Map, 100),
    ];

    /// The metric that decides which of two adapters is better, and which queries were won or lost.
    pub const NDCG_AT_10: Self = Self::at(Measure::Ndcg, 10);

    const fn at(measure: Measure, k: usize) -> Self {
        Self { measure, k }
    }

    /// A measure over the first `k` documents. `k` may exceed the number of documents.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when `k` is 0 or above [`DEPTH`].
    pub fn new(measure: Measure, k: usize) -> Result<Self, Failure> {
        if (1..=DEPTH).contains(&k) {
            return Ok(Self { measure, k });
        }
        Err(Failure::Usage(format!("k is {k}, expected 1 to {DEPTH}: the number of documents that count")))
    }

    /// Whether its values depend on the [`Gain`].
    #[must_use]
    pub const fn has_gain(self) -> bool {
        matches!(self.measure, Measure::Ndcg)
    }

    /// The value for one query; 0 for one without relevant documents, which [`evaluate`] leaves out instead.
    #[must_use]
    pub fn value(self, query: &Judged) -> f64 {
        self.of(&query.hits, &query.gains)
    }

    /// The value for a query with these hits, best first, and these gains of all relevant documents, greatest first.
    fn of(self, hits: &[Hit], gains: &[f64]) -> f64 {
        let hits = || hits.iter().take_while(|hit| hit.rank as usize <= self.k);
        let relevant = gains.len();
        if relevant == 0 {
            return 0.0;
        }
        match self.measure {
            Measure::HitRate => hits().next().map_or(0.0, |_| 1.0),
            Measure::Precision => hits().count() as f64 / self.k as f64,
            Measure::Recall => hits().count() as f64 / relevant as f64,
            Measure::Mrr => hits().next().map_or(0.0, |hit| 1.0 / f64::from(hit.rank)),
            Measure::Ndcg => {
                let found = discounted(hits().map(|hit| (hit.rank as usize, hit.gain)));
                let best = discounted((1..=self.k).zip(gains.iter().copied()));
                found / best
            }
            Measure::Map => {
                let precisions = hits().zip(1_usize..).map(|(hit, found)| found as f64 / f64::from(hit.rank));
                sum(precisions) / relevant.min(self.k) as f64
            }
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    /// A metric by its name in tables and JSON.
    fn from_str(name: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected hit_rate, precision, recall, mrr, ndcg or map, @ and a number from 1 to {DEPTH}"
            )
        };
        let (measure, k) = name.split_once('@').ok_or_else(expected)?;
        let measure = match measure {
            "hit_rate" => Measure::HitRate,
            "precision" => Measure::Precision,
            "recall" => Measure::Recall,
            "mrr" => Measure::Mrr,
            "ndcg" => Measure::Ndcg,
            "map" => Measure::Map,
            _ => return Err(expected()),
        };
        let k = k.parse().map_err(|_| expected())?;
        Self::new(measure, k).map_err(|_| expected())
    }
}

impl fmt::Display for Metric {
    /// The metric's name in tables and JSON, such as `ndcg@10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.measure {
            Measure::HitRate => "hit_rate",
            Measure::Precision => "precision",
            Measure::Recall => "recall",
            Measure::Mrr => "mrr",
            Measure::Ndcg => "ndcg",
            Measure::Map => "map",
        };
        write!(f, "{name}@{}", self.k)
    }
}

/// What a relevant document is worth in nDCG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gain {
    /// Its grade (linear, as trec_eval has it, not 2^grade − 1). Without grades every relevant document has
    /// 1
    #[default]
    Graded,
    /// 1, whatever its grade
    Binary,
}

impl Gain {
    /// As on the command line and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graded => "graded",
            Self::Binary => "binary",
        }
    }

    fn of(self, grade: f64) -> f64 {
        match self {
            Self::Graded => grade,
            Self::Binary => 1.0,
        }
    }
}

/// One query's ranking with its judgements looked up: all that a metric needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The relevant documents of the ranking, best first.
    hits: Vec<Hit>,
    /// The gains of all relevant documents, ranked or not, the greatest first.
    gains: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Hit {
    /// From 1 to [`DEPTH`].
    rank: u32,
    gain: f64,
}

impl Judged {
    /// Looks up the documents of a ranking: indices, best first, none twice, at most [`DEPTH`] of which
    /// count. The judgements may be in any order and have documents that are not in the ranking, none twice.
    #[must_use]
    pub fn new(ranking: &[u32], judgements: &[Judgement], gain: Gain) -> Self {
        let gains = gains_of(judgements, gain);
        Self { hits: hits_of(ranking.iter().copied(), judgements, gain).collect(), gains }
    }

    /// The number of relevant documents, ranked or not.
    #[must_use]
    pub fn relevant(&self) -> usize {
        self.gains.len()
    }

    /// The rank, from 1, of the first relevant document, where the ranking has one.
    #[must_use]
    pub fn first_relevant(&self) -> Option<usize> {
        self.hits.first().map(|hit| hit.rank as usize)
    }
}

/// The relevant documents of a ranking, best first.
fn hits_of(
    ranking: impl Iterator<Item = u32>,
    judgements: &[Judgement],
    gain: Gain,
) -> impl Iterator<Item = Hit> {
    ranking.take(DEPTH).zip(1..).filter_map(move |(document, rank)| {
        let found =
            judgements.iter().find(|judgement| judgement.document == document && judgement.grade > 0.0)?;
        Some(Hit { rank, gain: gain.of(found.grade) })
    })
}

/// The gains of all relevant documents, the greatest first.
fn gains_of(judgements: &[Judgement], gain: Gain) -> Vec<f64> {
    let relevant = judgements.iter().filter(|judgement| judgement.grade > 0.0);
    let mut gains: Vec<f64> = relevant.map(|judgement| gain.of(judgement.grade)).collect();
    gains.sort_unstable_by(|a, b| b.total_cmp(a));
    gains
}

/// Σ gain ÷ log₂(rank + 1), ranks ascending.
fn discounted(gains: impl Iterator<Item = (usize, f64)>) -> f64 {
    sum(gains.map(|(rank, gain)| gain * DISCOUNTS[rank - 1]))
}

/// The sum in the order given. The standard library's sum of nothing is −0, which would be printed so.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// 1 ÷ log₂(rank + 1) for the ranks 1 to [`DEPTH`], made by the compiler: the platform's logarithm differs in
/// its last bit from one machine to the next.
const DISCOUNTS: [f64; DEPTH] = {
    let mut discounts = [0.0; DEPTH];
    let mut rank = 1;
    while rank <= DEPTH {
        discounts[rank - 1] = 1.0 / log2(rank + 1);
        rank += 1;
    }
    discounts
};

/// log₂ of a whole number up to [`DEPTH`] + 1, to within 1e-15 of itself: the power of two in it, and ln m ÷
/// ln 2 of the rest `1 ≤ m < 2` by the series ln m = 2 (t + t³/3 + t⁵/5 + …) with t = (m − 1) ÷ (m + 1) <
/// 1/3.
const fn log2(number: usize) -> f64 {
    let exponent = number.ilog2();
    let mantissa = number as f64 / (1_usize << exponent) as f64;
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    // The smallest terms are added first; of those left out the greatest, t⁴⁰/41, is below 2⁻⁶⁸.
    let mut sum = 0.0;
    let mut odd = 39;
    while odd > 1 {
        sum = (sum + 1.0 / odd as f64) * (t * t);
        odd -= 2;
    }
    exponent as f64 + 2.0 * t * (1.0 + sum) / core::f64::consts::LN_2
}

/// What was found for each of many queries: their hits and gains, from which every metric follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgedQueries {
    /// The queries' numbers.
    queries: Vec<u32>,
    hits: Lists<Hit>,
    gains: Lists<f64>,
    tied: Vec<Tied>,
    left_out: usize,
}

/// What of a ranking is the tie rule's doing, not the scores'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tied {
    /// A relevant document has the score of one that is not: another rule may give other figures.
    relevant: bool,
    /// The last document that counts at [`CUT`] has the score of the first that does not.
    at_cut: bool,
}

/// The number of documents at whose end ties are looked for.
pub const CUT: usize = 10;

impl Tied {
    /// Looks for ties in a ranking, best first: documents with their scores.
    #[must_use]
    pub fn of<S: PartialEq>(ranking: impl Iterator<Item = (u32, S)>, judgements: &[Judgement]) -> Self {
        let is_relevant = |document| judgements.iter().any(|j| j.document == document && j.grade > 0.0);
        let mut tied = Self::default();
        // The first of the documents with the score that was come to.
        let mut first: Option<(u32, S)> = None;
        for ((document, score), rank) in ranking.zip(1_usize..) {
            match &first {
                Some((other, known)) if *known == score => {
                    tied.relevant |= is_relevant(*other) != is_relevant(document);
                    tied.at_cut |= rank == CUT + 1;
                }
                _ => first = Some((document, score)),
            }
        }
        tied
    }
}

/// In how many rankings the rule for ties decides something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ties {
    /// Queries with a relevant document that has the score of one that is not relevant.
    pub relevant: usize,
    /// Queries whose tenth and eleventh document have the same score.
    pub at_cut: usize,
}

impl JudgedQueries {
    /// Adds a query: its number, its ranking and its judgements, as [`Judged::new`] takes them. A query without a
    /// relevant document is left out and counted.
    ///
    /// # Panics
    ///
    /// When the number exceeds 32 bits.
    pub fn push(
        &mut self,
        query: usize,
        ranking: impl IntoIterator<Item = u32>,
        judgements: &[Judgement],
        gain: Gain,
    ) {
        self.push_tied(query, ranking, judgements, gain, Tied::default());
    }

    /// As [`push`](Self::push), of a ranking in which these ties were found.
    ///
    /// # Panics
    ///
    /// When the number exceeds 32 bits.
    pub fn push_tied(
        &mut self,
        query: usize,
        ranking: impl IntoIterator<Item = u32>,
        judgements: &[Judgement],
        gain: Gain,
        tied: Tied,
    ) {
        if !judgements.iter().any(|judgement| judgement.grade > 0.0) {
            self.left_out += 1;
            return;
        }
        // Queries are counted in 32 bits.
        self.queries.push(u32::try_from(query).unwrap_or(u32::MAX));
        self.hits.push_list(hits_of(ranking.into_iter(), judgements, gain));
        self.gains.push_list(gains_of(judgements, gain));
        self.tied.push(tied);
    }

    /// Adds all queries of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.queries.append(&mut other.queries);
        self.hits.append(other.hits);
        self.gains.append(other.gains);
        self.tied.append(&mut other.tied);
        self.left_out += other.left_out;
    }
}

/// The values of some metrics for each query.
///
/// A query takes some 40 bytes: its values are computed when they are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    metrics: Vec<Metric>,
    judged: JudgedQueries,
    /// The mean of each metric.
    means: Vec<f64>,
}

/// A query that was evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluatedQuery {
    /// The query's index among those given.
    pub query: usize,
    /// The rank of its first relevant document, from 1, where the ranking has one.
    pub first_relevant: Option<usize>,
}

/// Evaluates one ranking and its judgements, as [`Judged::new`] takes them, for each query.
///
/// Queries without a relevant document are left out and counted. None when no query is left: a mean of
/// nothing is no number.
#[must_use]
pub fn evaluate<'a>(
    metrics: &[Metric],
    gain: Gain,
    queries: impl IntoIterator<Item = (&'a [u32], &'a [Judgement])>,
) -> Option<Evaluation> {
    let mut judged = JudgedQueries::default();
    for (query, (ranking, judgements)) in queries.into_iter().enumerate() {
        judged.push(query, ranking.iter().copied(), judgements, gain);
    }
    Evaluation::new(metrics, judged)
}

impl Evaluation {
    /// The values of `metrics`; none when there is no query, as in [`evaluate`].
    #[must_use]
    pub fn new(metrics: &[Metric], judged: JudgedQueries) -> Option<Self> {
        if judged.queries.is_empty() {
            return None;
        }
        let mut evaluation = Self { metrics: metrics.to_vec(), judged, means: Vec::new() };
        let count = evaluation.judged.queries.len() as f64;
        // Summed in the order of the queries.
        evaluation.means = metrics.iter().map(|&metric| sum(evaluation.values_of(metric)) / count).collect();
        Some(evaluation)
    }

    /// The same queries by other metrics.
    #[must_use]
    pub fn with_metrics(self, metrics: &[Metric]) -> Self {
        Self::new(metrics, self.judged.clone()).unwrap_or(self)
    }

    /// In how many rankings the rule for ties decides something.
    #[must_use]
    pub fn ties(&self) -> Ties {
        let count = |of: fn(&Tied) -> bool| self.judged.tied.iter().filter(|tied| of(tied)).count();
        Ties { relevant: count(|tied| tied.relevant), at_cut: count(|tied| tied.at_cut) }
    }

    /// Whether a relevant document is worth something else than 1: with binary gain none is.
    #[must_use]
    pub fn has_graded_gain(&self) -> bool {
        self.judged.gains.iter().flatten().any(|&gain| gain != 1.0)
    }

    /// The queries, in the order given, without those left out.
    pub fn queries(&self) -> impl ExactSizeIterator<Item = EvaluatedQuery> + '_ {
        self.judged.queries.iter().zip(self.judged.hits.iter()).map(|(&query, hits)| EvaluatedQuery {
            query: query as usize,
            first_relevant: hits.first().map(|hit| hit.rank as usize),
        })
    }

    /// How many queries were left out since they have no relevant document.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.judged.left_out
    }

    /// The queries for whose index `keep` holds; none when there are none.
    #[must_use]
    pub fn select(&self, keep: impl Fn(usize) -> bool) -> Option<Self> {
        let mut kept = JudgedQueries { left_out: self.judged.left_out, ..JudgedQueries::default() };
        for (at, &query) in self.judged.queries.iter().enumerate().filter(|&(_, &query)| keep(query as usize))
        {
            kept.queries.push(query);
            kept.hits.push_list(self.judged.hits.get(at).iter().copied());
            kept.gains.push_list(self.judged.gains.get(at).iter().copied());
            kept.tied.push(self.judged.tied[at]);
        }
        Self::new(&self.metrics, kept)
    }

    /// This evaluation with the queries of `other`, of the same metrics, behind its own; they are numbered anew.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.judged.append(other.judged);
        for (number, query) in (0..).zip(&mut self.judged.queries) {
            *query = number;
        }
        Self::new(&self.metrics, self.judged.clone()).unwrap_or(self)
    }

    /// Each metric with its mean over the queries.
    pub fn means(&self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        self.metrics.iter().copied().zip(self.means.iter().copied())
    }

    /// The mean of a metric over the queries; none when it was not evaluated.
    #[must_use]
    pub fn mean(&self, metric: Metric) -> Option<f64> {
        self.means().find(|&(known, _)| known == metric).map(|(_, mean)| mean)
    }

    /// The values of a metric, one for each of [`queries`](Self::queries); none when it was not evaluated.
    pub fn values(&self, metric: Metric) -> Option<impl ExactSizeIterator<Item = f64> + '_> {
        self.metrics.contains(&metric).then(|| self.values_of(metric))
    }

    fn values_of(&self, metric: Metric) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.judged.hits.iter().zip(self.judged.gains.iter()).map(move |(hits, gains)| metric.of(hits, gains))
    }
}

/// Which queries an adapter made better and which worse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WonAndLost {
    /// Queries whose value rose, as indices among those evaluated.
    pub won: Vec<usize>,
    /// Queries whose value fell.
    pub lost: Vec<usize>,
}

/// Compares two evaluations of the same queries by nDCG@10; none when they are not of the same queries or did
/// not evaluate it.
#[must_use]
pub fn compare(base: &Evaluation, adapted: &Evaluation) -> Option<WonAndLost> {
    if base.judged.queries != adapted.judged.queries {
        return None;
    }
    let mut result = WonAndLost::default();
    let values = base.values(Metric::NDCG_AT_10)?.zip(adapted.values(Metric::NDCG_AT_10)?);
    for (query, (before, after)) in base.queries().zip(values) {
        match difference(before, after) {
            gain if gain > 0.0 => result.won.push(query.query),
            gain if gain < 0.0 => result.lost.push(query.query),
            _ => {}
        }
    }
    Some(result)
}

/// The `depth` best documents: scores descending, equal scores by ascending id, NaN after every number.
///
/// `byte_ranks` has, for each document, the place of its id among all ids in ascending byte order
/// ([`Ids::byte_ranks`](crate::ids::Ids::byte_ranks)).
///
/// # Panics
///
/// When the two lengths differ.
#[must_use]
pub fn best_documents(scores: &[f32], byte_ranks: &[u32], depth: usize) -> Vec<u32> {
    assert_eq!(scores.len(), byte_ranks.len(), "one score and one byte rank for each document");
    let better = |&a: &u32, &b: &u32| {
        let (a, b) = (a as usize, b as usize);
        let by_score = match (scores[a].is_nan(), scores[b].is_nan()) {
            (false, false) => scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal),
            (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
        };
        by_score.then_with(|| byte_ranks[a].cmp(&byte_ranks[b]))
    };
    let mut documents: Vec<u32> = (0..).take(scores.len()).collect();
    if depth < documents.len() {
        documents.select_nth_unstable_by(depth, better);
        documents.truncate(depth);
    }
    documents.sort_unstable_by(better);
    documents
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEASURES: [Measure; 6] =
        [Measure::HitRate, Measure::Precision, Measure::Recall, Measure::Mrr, Measure::Ndcg, Measure::Map];

    fn relevant(documents: &[u32]) -> Vec<Judgement> {
        documents.iter().map(|&document| Judgement { document, grade: 1.0 }).collect()
    }

    fn graded(grades: &[(u32, f64)]) -> Vec<Judgement> {
        grades.iter().map(|&(document, grade)| Judgement { document, grade }).collect()
    }

    fn value(measure: Measure, k: usize, ranking: &[u32], judgements: &[Judgement]) -> f64 {
        let metric = Metric::new(measure, k).expect("a valid k");
        metric.value(&Judged::new(ranking, judgements, Gain::Graded))
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
    }

    /// The example of docs/evaluation.md: documents 1, 3 and 5 are relevant, 5 is not among the first five.
    const RANKING: [u32; 6] = [0, 1, 2, 3, 4, 5];

    #[test]
    fn the_worked_example_of_the_documentation() {
        let judgements = relevant(&[5, 3, 1]);
        let at = |measure, k| value(measure, k, &RANKING, &judgements);
        assert_close(at(Measure::HitRate, 1), 0.0);
        assert_close(at(Measure::HitRate, 3), 1.0);
        assert_close(at(Measure::Precision, 1), 0.0);
        assert_close(at(Measure::Precision, 5), 2.0 / 5.0);
        assert_close(at(Measure::Precision, 10), 3.0 / 10.0);
        assert_close(at(Measure::Recall, 5), 2.0 / 3.0);
        assert_close(at(Measure::Recall, 10), 1.0);
        assert_close(at(Measure::Mrr, 5), 1.0 / 2.0);
        let (l3, l4, l5, l7) = (3_f64.log2(), 2.0, 5_f64.log2(), 7_f64.log2());
        let best = 1.0 + 1.0 / l3 + 1.0 / l4;
        assert_close(at(Measure::Ndcg, 5), (1.0 / l3 + 1.0 / l5) / best);
        assert_close(at(Measure::Ndcg, 10), (1.0 / l3 + 1.0 / l5 + 1.0 / l7) / best);
        assert_close(at(Measure::Map, 100), (1.0 / 2.0 + 2.0 / 4.0 + 3.0 / 6.0) / 3.0);
        let printed = |value: f64| format!("{value:.4}");
        assert_eq!([printed(at(Measure::Ndcg, 10)), printed(at(Measure::Ndcg, 5))], ["0.6653", "0.4982"]);
        let graded = graded(&[(1, 3.0), (3, 1.0), (5, 2.0)]);
        assert_eq!(printed(value(Measure::Ndcg, 10, &RANKING, &graded)), "0.6375");
    }

    #[test]
    fn grades_count_in_ndcg_alone_and_only_above_zero() {
        let judgements = graded(&[(0, 0.0), (1, 3.0), (2, 1.0), (3, 2.0), (4, -1.0)]);
        let ranking = [0, 1, 2, 3, 4];
        let l3 = 3_f64.log2();
        let found = 3.0 / l3 + 1.0 / 2.0 + 2.0 / 5_f64.log2();
        assert_close(value(Measure::Ndcg, 10, &ranking, &judgements), found / (3.0 + 2.0 / l3 + 1.0 / 2.0));
        assert_close(value(Measure::HitRate, 1, &ranking, &judgements), 0.0);
        assert_close(value(Measure::Mrr, 10, &ranking, &judgements), 0.5);
        assert_close(value(Measure::Recall, 3, &ranking, &judgements), 2.0 / 3.0);
        let binary = Metric::NDCG_AT_10.value(&Judged::new(&ranking, &judgements, Gain::Binary));
        assert_close(binary, (1.0 / l3 + 0.5 + 1.0 / 5_f64.log2()) / (1.0 + 1.0 / l3 + 0.5));
    }

    #[test]
    fn the_ideal_is_cut_at_k() {
        // Three relevant documents, one place: the best that place can hold is one of them.
        assert_close(value(Measure::Ndcg, 1, &[1, 0], &relevant(&[1, 2, 3])), 1.0);
        assert_close(
            value(Measure::Ndcg, 2, &[1, 0], &graded(&[(1, 1.0), (2, 3.0)])),
            1.0 / (3.0 + 1.0 / 3_f64.log2()),
        );
    }

    #[test]
    fn map_divides_by_the_relevant_documents_and_at_most_by_k() {
        assert_close(value(Measure::Map, 1, &[1, 0], &relevant(&[1, 2, 3])), 1.0);
        assert_close(value(Measure::Map, 2, &[1, 0], &relevant(&[1, 2, 3])), 0.5);
        let ranking: Vec<u32> = (0..100).collect();
        let all: Vec<u32> = (0..150).collect();
        assert_close(value(Measure::Map, 100, &ranking, &relevant(&all)), 1.0);
    }

    #[test]
    fn what_comes_after_k_does_not_count() {
        for measure in
            [Measure::HitRate, Measure::Precision, Measure::Recall, Measure::Mrr, Measure::Ndcg, Measure::Map]
        {
            assert_eq!(
                value(measure, 3, &[0, 1, 2, 3], &relevant(&[3])).to_bits(),
                0.0_f64.to_bits(),
                "{measure:?}"
            );
            assert!(value(measure, 4, &[0, 1, 2, 3], &relevant(&[3])) > 0.0, "{measure:?}");
        }
    }

    #[test]
    fn k_may_exceed_the_corpus_but_not_be_zero() {
        assert_close(value(Measure::HitRate, 10, &[0], &relevant(&[0])), 1.0);
        assert_close(value(Measure::Precision, 10, &[0], &relevant(&[0])), 0.1);
        for k in [0, DEPTH + 1, usize::MAX] {
            let failure = Metric::new(Measure::Ndcg, k).expect_err("must be refused");
            assert_eq!(failure.exit_code(), 2);
            assert_eq!(
                failure.to_string(),
                format!("k is {k}, expected 1 to 100: the number of documents that count")
            );
        }
    }

    #[test]
    fn discounts_are_those_of_the_logarithm() {
        for (rank, discount) in (1..).zip(DISCOUNTS) {
            let expected = 1.0 / f64::from(rank + 1).log2();
            assert!((discount - expected).abs() <= 1e-15 * expected, "rank {rank}: {discount} {expected}");
        }
        assert_eq!(DISCOUNTS[0].to_bits(), 1.0_f64.to_bits());
        assert_eq!(DISCOUNTS[2].to_bits(), 0.5_f64.to_bits());
    }

    #[test]
    fn names_are_those_of_the_tables() {
        let names: Vec<_> = Metric::STANDARD.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "hit_rate@1",
                "hit_rate@3",
                "hit_rate@5",
                "hit_rate@10",
                "precision@1",
                "precision@3",
                "precision@5",
                "precision@10",
                "recall@1",
                "recall@3",
                "recall@5",
                "recall@10",
                "mrr@5",
                "mrr@10",
                "ndcg@10",
                "map@100"
            ]
        );
    }

    #[test]
    fn queries_without_relevant_documents_are_left_out_and_counted() {
        let (none, zero, one) = (relevant(&[]), graded(&[(0, 0.0)]), relevant(&[1]));
        let ranking = [0_u32, 1];
        let queries = [&none, &one, &zero, &one].map(|judgements| (&ranking[..], &judgements[..]));
        let evaluation = evaluate(&Metric::STANDARD, Gain::Graded, queries).expect("two queries");
        assert_eq!(evaluation.left_out(), 2);
        assert_eq!(evaluation.queries().map(|query| query.query).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(evaluation.queries().next().and_then(|query| query.first_relevant), Some(2));
        assert_eq!(evaluation.mean(Metric::at(Measure::Mrr, 10)), Some(0.5));
        assert_eq!(evaluation.mean(Metric::at(Measure::Ndcg, 7)), None);
        assert_eq!(evaluation.means().count(), Metric::STANDARD.len());
        assert_eq!(evaluate(&Metric::STANDARD, Gain::Graded, [(&ranking[..], &none[..])]), None);
    }

    #[test]
    fn metrics_are_found_by_their_names() {
        for metric in Metric::STANDARD {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        for name in ["ndcg", "ndcg@0", "ndcg@101", "ndcg@x", "NDCG@10", "@10", ""] {
            let problem = name.parse::<Metric>().expect_err(name);
            assert!(problem.contains("ndcg or map, @ and a number from 1 to 100"), "{problem}");
        }
    }

    #[test]
    fn ties_count_where_their_order_decides_something() {
        let tied = |scores: &[f32], positives: &[u32]| {
            let ranking = (0..).zip(scores.iter().copied());
            let Tied { relevant: of_relevant, at_cut } = Tied::of(ranking, &relevant(positives));
            (of_relevant, at_cut)
        };
        assert_eq!(tied(&[0.9, 0.5, 0.5, 0.1], &[1]), (true, false));
        // The first and the last of three, one of them relevant.
        assert_eq!(tied(&[0.5, 0.5, 0.5], &[2]), (true, false));
        assert_eq!(tied(&[0.9, 0.5, 0.5, 0.1], &[0, 3]), (false, false));
        assert_eq!(tied(&[0.9, 0.5, 0.5, 0.1], &[1, 2]), (false, false));
        let mut scores: Vec<f32> = (0..12_u8).map(|rank| -f32::from(rank)).collect();
        assert_eq!(tied(&scores, &[0]), (false, false));
        scores[10] = scores[9];
        assert_eq!(tied(&scores, &[0]), (false, true));
        assert_eq!(tied(&scores, &[9]), (true, true));
        let mut judged = JudgedQueries::default();
        for positives in [[0], [9], [9]] {
            let judgements = relevant(&positives);
            let tied = Tied::of((0..).zip(scores.iter().copied()), &judgements);
            judged.push_tied(positives[0] as usize, 0..12, &judgements, Gain::Binary, tied);
        }
        let evaluation = Evaluation::new(&Metric::STANDARD, judged).expect("queries");
        assert_eq!(evaluation.ties(), Ties { relevant: 2, at_cut: 3 });
        let part = evaluation.select(|query| query == 9).expect("queries");
        assert_eq!(part.ties(), Ties { relevant: 2, at_cut: 2 });
    }

    #[test]
    fn won_and_lost_queries_are_named() {
        let judgements = relevant(&[0]);
        let queries = |rankings: [[u32; 2]; 3]| {
            evaluate(&[Metric::NDCG_AT_10], Gain::Graded, rankings.iter().map(|r| (&r[..], &judgements[..])))
                .expect("three queries")
        };
        let (base, adapted) = (queries([[1, 0], [0, 1], [0, 1]]), queries([[0, 1], [0, 1], [1, 0]]));
        assert_eq!(compare(&base, &adapted), Some(WonAndLost { won: vec![0], lost: vec![2] }));
        let other =
            evaluate(&[Metric::NDCG_AT_10], Gain::Graded, [(&[0][..], &judgements[..])]).expect("one query");
        assert_eq!(compare(&base, &other), None);
    }

    #[test]
    fn what_rounding_tells_apart_is_neither_won_nor_lost() {
        let judgements = graded(&[(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 3.0)]);
        let query = |ranking: &[u32]| {
            evaluate(&[Metric::NDCG_AT_10], Gain::Graded, [(ranking, &judgements[..])]).expect("one query")
        };
        let value = |evaluation: &Evaluation| evaluation.means().next().map(|(_, mean)| mean);
        // The grades 1 at rank 1 and 3 at rank 7, or 1 at rank 1 and 2 at rank 3: 2 either way, and 1 at rank 6.
        let (base, adapted) = (query(&[0, 10, 11, 12, 13, 1, 4]), query(&[0, 10, 3, 11, 12, 1]));
        assert_ne!(value(&base), value(&adapted));
        assert_eq!(compare(&base, &adapted), Some(WonAndLost::default()));
    }

    #[test]
    fn equal_scores_go_by_ascending_id_and_nan_comes_last() {
        assert_eq!(
            best_documents(&[0.5, f32::NAN, 0.5, 0.7, f32::NEG_INFINITY], &[1, 0, 2, 3, 4], 10),
            [3, 0, 2, 4, 1]
        );
        assert_eq!(best_documents(&[0.5, 0.5, 0.5], &[2, 0, 1], 10), [1, 2, 0]);
        assert_eq!(best_documents(&[-0.0, 0.0], &[0, 1], 10), [0, 1]);
        assert_eq!(best_documents(&[f32::NAN, f32::NAN], &[1, 0], 1), [1]);
        assert!(best_documents(&[], &[], 10).is_empty());
    }

    proptest! {
        #[test]
        fn the_best_are_the_first_of_the_sorted(
            scores in prop::collection::vec(prop_oneof![Just(f32::NAN), Just(0.5), Just(-0.0), any::<f32>()], 1..60),
            depth in 1_usize..70,
        ) {
            // Ids in the opposite order of the documents.
            let byte_ranks: Vec<u32> = (0..).take(scores.len()).collect::<Vec<_>>().into_iter().rev().collect();
            let all = best_documents(&scores, &byte_ranks, scores.len());
            for pair in all.windows(2) {
                let (a, b) = (pair[0] as usize, pair[1] as usize);
                let in_order = scores[a] > scores[b]
                    || (scores[b].is_nan() && !scores[a].is_nan())
                    || ((scores[a] == scores[b] || scores[a].is_nan() && scores[b].is_nan()) && a > b);
                prop_assert!(in_order, "{} before {}", a, b);
            }
            prop_assert_eq!(&all[..depth.min(all.len())], &best_documents(&scores, &byte_ranks, depth)[..]);
        }

        #[test]
        fn every_value_is_between_zero_and_one(
            judgements in prop::collection::btree_map(0_u32..30, -1.0_f64..4.0, 1..12),
            ranking in Just((0_u32..30).collect::<Vec<_>>()).prop_shuffle(),
            k in 1_usize..=DEPTH,
        ) {
            let judgements = graded(&judgements.into_iter().collect::<Vec<_>>());
            for measure in MEASURES {
                let value = value(measure, k, &ranking, &judgements);
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{:?} {}", measure, value);
            }
        }
    }
}
