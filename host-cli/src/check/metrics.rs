//! The metrics of [`crate::metrics`] against the oracle's, which sort all documents and follow the formulas.

use query_adapter::sample::Generator;
use query_adapter::{LANES, Lanes, Level, PanelMatrix, cosine_scores, normalize_rows, panel_len};

use super::{Comparison, Quantity, Sheet};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::metrics::{DEPTH, Gain, Judgement, Metric, best_documents, evaluate};
use crate::oracle::Ranking;
use crate::retrieval_task::RetrievalTask;

/// No metric is above 1. MAP divides and sums a term for each relevant document; nDCG sums at most ten, in its numerator
/// and in its denominator, with logarithms that are off by ten units, and divides: fewer than 40 roundings and one for
/// each relevant document that counts.
const OF_A_QUERY: Quantity<'_> = Quantity { name: "metrics of a query", unit: "2⁻⁵³" };
const OF_A_QUERY_BOUND: f64 = 40.0;

/// The mean adds one rounding for each query.
const MEANS: Quantity<'_> = Quantity { name: "metrics, means", unit: "2⁻⁵³" };

/// 2⁻⁵³, the unit roundoff of `f64`.
const ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// Checks the metrics on random scores, many of them equal, and random grades. To some queries nearly every document is
/// relevant, more than any metric looks at.
pub(super) fn check(sheet: &mut Sheet) {
    const DOCUMENTS: u32 = 200;
    const QUERIES: usize = 60;
    let mut ids = Ids::default();
    // Of different lengths, so that the order of the bytes is not that of the numbers.
    for document in (0..DOCUMENTS).rev() {
        let _ = ids.push(&format!("d{document}"));
    }
    let mut generator = Generator::new(0);
    let queries: Vec<Judged> = (0..QUERIES)
        .map(|query| {
            let judged_of = if query % 10 == 0 { 1 } else { 8 };
            let scores = (0..DOCUMENTS).map(|_| generator.below(16) as f32 / 8.0 - 1.0).collect();
            let mut judgements = Vec::new();
            for document in (0..DOCUMENTS).filter(|_| generator.below(judged_of) == 0) {
                judgements.push(Judgement { document, grade: 0.0 });
            }
            for judgement in &mut judgements {
                judgement.grade = f64::from(generator.below(4));
            }
            Judged { scores, judgements }
        })
        .collect();
    let names: Vec<&str> = ids.iter().collect();
    let case = format!("{QUERIES} queries, {DOCUMENTS} documents, equal scores, grades");
    compare(sheet, &case, &names, &ids.byte_ranks(), &queries);
}

/// The most scores of a data set that are looked at.
const MOST_SCORES: usize = 1 << 26;

/// Checks the metrics on a data set, for as many queries as [`MOST_SCORES`] allows.
pub(super) fn check_task(sheet: &mut Sheet, level: Level, task: &RetrievalTask) -> Result<(), Failure> {
    let (dim, corpus) = (task.dim(), task.corpus());
    let candidates = corpus.len();
    let documents = (0..).take(candidates);
    let mut vectors: Vec<f32> =
        documents.clone().flat_map(|document| corpus.vector(document)).copied().collect();
    normalize_rows(level, &mut vectors, dim)?;
    let names: Vec<&str> = documents.map(|document| corpus.id(document)).collect();

    let count = (MOST_SCORES / (candidates * dim)).clamp(1, task.queries().len());
    let all: Vec<usize> = (0..count).collect();
    let mut queries = Vec::with_capacity(count);
    for group in all.chunks(LANES) {
        let rows = group.len();
        let transformed: Vec<f32> =
            group.iter().flat_map(|&query| task.query_vector(query)).copied().collect();
        let mut scratch = vec![Lanes::ZERO; panel_len(rows, dim)];
        let mut panels = vec![Lanes::ZERO; panel_len(rows, candidates)];
        cosine_scores(level, &transformed, &vectors, dim, &mut scratch, &mut panels)?;
        let mut scores = vec![0.0; rows * candidates];
        PanelMatrix::new(rows, candidates, panels)?.copy_to_row_major(&mut scores)?;
        for (&query, scores) in group.iter().zip(scores.chunks_exact(candidates)) {
            let judgements = task.query(query).positives.to_vec();
            queries.push(Judged { scores: scores.to_vec(), judgements });
        }
    }
    let case = format!("{count} queries, {candidates} documents");
    compare(sheet, &case, &names, corpus.byte_ranks(), &queries);
    Ok(())
}

/// A query's scores, one for each document, and its judgements.
struct Judged {
    scores: Vec<f32>,
    judgements: Vec<Judgement>,
}

fn compare(sheet: &mut Sheet, case: &str, ids: &[&str], byte_ranks: &[u32], queries: &[Judged]) {
    let rankings: Vec<Vec<u32>> =
        queries.iter().map(|query| best_documents(&query.scores, byte_ranks, DEPTH)).collect();
    let judged = rankings.iter().zip(queries).map(|(ranking, query)| (&ranking[..], &query.judgements[..]));
    let Some(evaluation) = evaluate(&Metric::STANDARD, Gain::Graded, judged) else { return };

    let mut comparisons = Vec::new();
    let mut sums = [0.0; Metric::STANDARD.len()];
    let columns: Vec<Vec<f64>> = Metric::STANDARD
        .iter()
        .map(|&metric| evaluation.values(metric).map(Iterator::collect).unwrap_or_default())
        .collect();
    for (row, evaluated) in evaluation.queries().enumerate() {
        let Judged { scores, judgements } = &queries[evaluated.query];
        let scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
        let mut grades = vec![0.0; scores.len()];
        for judgement in judgements {
            grades[judgement.document as usize] = judgement.grade;
        }
        let ranking = Ranking::new(&scores, ids, &grades);
        for ((metric, values), sum) in Metric::STANDARD.iter().zip(&columns).zip(&mut sums) {
            let found = values[row];
            let truth = by_oracle(&ranking, &metric.to_string());
            *sum += truth;
            comparisons.push(Comparison { found, truth, unit: ROUNDOFF });
        }
    }
    let relevant = queries.iter().map(|query| query.judgements.len()).max().unwrap_or(0);
    let bound = OF_A_QUERY_BOUND + relevant.min(DEPTH) as f64;
    sheet.record(OF_A_QUERY, case, bound, comparisons);

    let count = evaluation.queries().len() as f64;
    let means = evaluation.means().zip(sums).map(|((_, found), sum)| Comparison {
        found,
        truth: sum / count,
        unit: ROUNDOFF,
    });
    sheet.record(MEANS, case, bound + count, means);
}

/// The value of a metric by its name, such as `ndcg@10`; NaN for one that the oracle does not know.
fn by_oracle(ranking: &Ranking, metric: &str) -> f64 {
    let Some((measure, k)) = metric.split_once('@') else { return f64::NAN };
    let Ok(k) = k.parse() else { return f64::NAN };
    match measure {
        "hit_rate" => ranking.hit_rate(k),
        "precision" => ranking.precision(k),
        "recall" => ranking.recall(k),
        "mrr" => ranking.mrr(k),
        "ndcg" => ranking.ndcg(k),
        "map" => ranking.map(k),
        _ => f64::NAN,
    }
}
