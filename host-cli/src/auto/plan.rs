//! Who trains, who chooses and who measures: the folds of a run, decided by the labels alone.

use super::choice::Fold;
use crate::failure::Failure;
use crate::fit::{Settings, require_negatives};
use crate::ranking::Index;
use crate::retrieval_task::{Apart, RetrievalTask};

/// Queries that a choice is made on, at least, where there are as many.
const CHOOSING: usize = 1500;

/// Queries that the verdict speaks of, at least, where there are as many.
const MEASURING: usize = 600;

/// From how many queries on a fifth is enough to hold out.
const MANY: usize = 3000;

/// The most queries that a fold holds out, about.
const MOST_HELD_OUT: usize = 4096;

/// Labelled queries over one corpus, split to choose, then put together to fit.
#[derive(Clone, Debug)]
pub struct Round {
    /// To choose on.
    pub folds: Vec<Fold>,
    /// To fit the choice to.
    pub refit_on: RetrievalTask,
}

/// A round, and queries that take no part in it.
#[derive(Clone, Debug)]
pub struct Outer {
    /// The round.
    pub round: Round,
    /// What it is measured on.
    pub measured: RetrievalTask,
    /// The documents of these.
    pub measured_index: Index,
}

/// All rounds of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Makes the adapter.
    pub last: Round,
    /// Make the verdict.
    pub outer: Vec<Outer>,
    /// What folds do not share; none where the validation set is the fold.
    pub apart: Option<Apart>,
    /// How many queries of such a validation set are training queries, and so left out.
    pub left_out: usize,
}

/// Plans a run on the labelled queries of `task`, and of `validation`, if it has the same documents; on another corpus it
/// alone chooses, by the queries that are not trained on.
///
/// # Errors
///
/// [`Failure::Input`] when there are too few queries to hold any out, or none but training queries to choose on.
pub fn plan(
    task: &RetrievalTask,
    index: &Index,
    validation: Option<(&RetrievalTask, &Index)>,
    seed: u64,
) -> Result<Plan, Failure> {
    if let Some((validation, validation_index)) = validation {
        return match task.with_queries_of(validation) {
            Some(all) => cross_validated(&all, index, apart_as(task, validation), seed),
            None => held_out(task, validation, validation_index, seed),
        };
    }
    cross_validated(task, index, apart_in(task), seed)
}

/// What the folds must keep apart to be like the validation set that was given.
fn apart_as(task: &RetrievalTask, validation: &RetrievalTask) -> Apart {
    let is_answer = task.answers();
    let corpus = task.corpus();
    let known = |document: u32| {
        corpus.index_of(validation.corpus().id(document)).is_some_and(|place| is_answer[place as usize])
    };
    let seen = validation.queries().iter().filter(|query| query.positives.iter().any(|p| known(p.document)));
    if seen.count() * 2 > validation.queries().len() { Apart::Queries } else { Apart::Documents }
}

/// Where nearly every document has many questions already, new questions will be about documents that were trained on.
fn apart_in(task: &RetrievalTask) -> Apart {
    let answers = task.answers().into_iter().filter(|&is_answer| is_answer).count();
    let all_known = answers * 20 >= task.corpus().len() * 19;
    if all_known && task.pairs() >= 8 * answers { Apart::Queries } else { Apart::Documents }
}

fn cross_validated(task: &RetrievalTask, index: &Index, apart: Apart, seed: u64) -> Result<Plan, Failure> {
    // Where documents cannot be kept apart in one place they are not said to be.
    let mut kept = apart;
    let last = round(task, index, &mut kept, seed)?;
    let mut outer = Vec::new();
    for (rest, measured) in split(task, &mut kept, 5, MEASURING, !seed)? {
        // With hardly any queries the rest may be too few to choose on; such a fold has nothing to say.
        if let Ok(round) = round(&rest, index, &mut kept, seed) {
            outer.push(Outer { round, measured, measured_index: index.clone() });
        }
    }
    Ok(Plan { last, outer, apart: Some(kept), left_out: 0 })
}

fn round(task: &RetrievalTask, index: &Index, apart: &mut Apart, seed: u64) -> Result<Round, Failure> {
    let folds = split(task, apart, 3, CHOOSING, seed)?
        .into_iter()
        .map(|(train, held_out)| Fold { train, held_out, held_out_index: index.clone() })
        .collect();
    Ok(Round { folds, refit_on: task.clone() })
}

/// Folds of one part in `parts`, or less of very many queries, as many as it takes to hold out `wanted` queries. `apart`
/// becomes what they do keep apart.
fn split(
    task: &RetrievalTask,
    apart: &mut Apart,
    parts: usize,
    wanted: usize,
    seed: u64,
) -> Result<Vec<(RetrievalTask, RetrievalTask)>, Failure> {
    let queries = task.queries().len();
    let parts = if queries < MANY { parts } else { queries.div_ceil(MOST_HELD_OUT).max(5) };
    let fewer = |apart| (2..=parts).rev().map(move |parts| (parts, apart));
    let (parts, part_of, kept) = fewer(*apart)
        .chain(fewer(Apart::Queries))
        .find_map(|(parts, apart)| Some((parts, task.parts(parts, apart, seed)?, apart)))
        .ok_or_else(|| too_few(task))?;
    *apart = kept;
    let mut folds = Vec::new();
    let mut count = 0;
    for part in 0..parts {
        // Parts need not be equal.
        if count >= wanted {
            break;
        }
        let train = task.part(|query| part_of[query] != part);
        require_negatives(&train, &Settings::single(), "training pairs").map_err(|_| too_few(task))?;
        let held_out = task.part(|query| part_of[query] == part);
        count += held_out.queries().len();
        folds.push((train, held_out));
    }
    Ok(folds)
}

fn too_few(task: &RetrievalTask) -> Failure {
    let problem = format!(
        "{} labelled queries are too few to hold some out and choose on them; add more, or use --recipe single with \
         --validation",
        task.queries().len()
    );
    Failure::input(task.file(), problem)
}

/// The validation set chooses; for the verdict, each half of it chooses for the other.
fn held_out(
    task: &RetrievalTask,
    validation: &RetrievalTask,
    index: &Index,
    seed: u64,
) -> Result<Plan, Failure> {
    let all = validation.queries().len();
    let validation = validation.without_queries_of(task);
    if validation.queries().is_empty() {
        let problem = format!(
            "all {all} queries are training queries too, so there is none to choose on; give others, or leave \
             --validation out"
        );
        return Err(Failure::input(validation.file(), problem));
    }
    let round = |held_out: RetrievalTask| Round {
        folds: vec![Fold { train: task.clone(), held_out, held_out_index: index.clone() }],
        refit_on: task.clone(),
    };
    let halves =
        validation.parts(2, Apart::Documents, seed).or_else(|| validation.parts(2, Apart::Queries, seed));
    let outer = halves.map_or_else(Vec::new, |half_of| {
        let half = |half| validation.part(|query| half_of[query] == half);
        [(0, 1), (1, 0)]
            .map(|(choosing, measuring)| Outer {
                round: round(half(choosing)),
                measured: half(measuring),
                measured_index: index.clone(),
            })
            .to_vec()
    });
    let left_out = all - validation.queries().len();
    Ok(Plan { last: round(validation), outer, apart: None, left_out })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dataset::Dataset;

    #[test]
    fn folds_are_as_many_as_it_takes_to_hold_out_what_is_wanted() {
        // Questions that hang together by four and by three: halves of twenty are not always ten.
        let answers: Vec<usize> = [4, 4, 3, 3, 3, 3]
            .into_iter()
            .enumerate()
            .flat_map(|(document, questions)| (0..questions).map(move |_| document))
            .collect();
        let entries = |count: usize, entry: &dyn Fn(usize) -> String| {
            (0..count).map(entry).collect::<Vec<_>>().join(", ")
        };
        let text = format!(
            r#"{{"queries": {{{}}}, "corpus": {{{}}}, "relevant_docs": {{{}}}, "query_embeddings": {{{}}}, "corpus_embeddings": {{{}}}}}"#,
            entries(20, &|q| format!(r#""q{q}": "query {q}""#)),
            entries(6, &|d| format!(r#""d{d}": "document {d}""#)),
            entries(20, &|q| format!(r#""q{q}": ["d{}"]"#, answers[q])),
            entries(20, &|q| format!(r#""q{q}": [1, {q}]"#)),
            entries(6, &|d| format!(r#""d{d}": [1, {d}]"#)),
        );
        let dataset = Dataset::parse(Path::new("train.json"), text.as_bytes()).expect("read");
        let task = RetrievalTask::join(dataset, None).expect("joined");
        let mut numbers = [0; 3];
        for seed in 0..20 {
            let folds = split(&task, &mut Apart::Documents, 2, 10, seed).expect("folds");
            let held_out: usize = folds.iter().map(|(_, held_out)| held_out.queries().len()).sum();
            assert!(held_out >= 10, "{held_out}");
            numbers[folds.len()] += 1;
        }
        assert!(numbers[1] > 0 && numbers[2] > 0, "{numbers:?}");
    }
}
