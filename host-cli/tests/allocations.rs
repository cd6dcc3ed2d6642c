//! Training asks for no memory once it is under way.

use std::alloc::System;

use host_cli::dataset::Dataset;
use host_cli::fit::{Event, Negatives, Recipe, Settings, fit};
use host_cli::ranking::Index;
use host_cli::retrieval_task::RetrievalTask;
use query_adapter::Level;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const QUERIES: usize = 90;
const DOCUMENTS: usize = 40;

/// Queries with one or two answers; some queries and some documents share a text, so that masks have entries.
fn task() -> RetrievalTask {
    let object =
        |count: usize, entry: &dyn Fn(usize) -> String| (0..count).map(entry).collect::<Vec<_>>().join(", ");
    let vector = |number: usize| format!("[{}, {}, 1, {}]", number % 7, number % 11, number % 5);
    let text = format!(
        r#"{{"queries": {{{}}}, "corpus": {{{}}}, "relevant_docs": {{{}}}, "query_embeddings": {{{}}}, "corpus_embeddings": {{{}}}}}"#,
        object(QUERIES, &|q| format!(r#""q{q}": "question {}""#, q % 60)),
        object(DOCUMENTS, &|d| format!(r#""d{d}": "text {}""#, d % 30)),
        object(QUERIES, &|q| format!(r#""q{q}": ["d{}", "d{}"]"#, q % DOCUMENTS, q * 7 % DOCUMENTS)),
        object(QUERIES, &|q| format!(r#""q{q}": {}"#, vector(q + 3))),
        object(DOCUMENTS, &|d| format!(r#""d{d}": {}"#, vector(d))),
    );
    let dataset = Dataset::parse("train.json".as_ref(), text.as_bytes()).expect("read");
    RetrievalTask::join(dataset, None).expect("joined")
}

// One test alone: the counter counts what every thread of the process asks for.
#[test]
fn no_step_of_an_epoch_but_the_first_asks_for_memory() {
    let task = task();
    let index = Index::new(task.corpus(), Level::detect()).expect("an index");
    for (recipe, negatives) in [
        (Recipe::Single, Negatives::InBatch),
        (Recipe::Single, Negatives::Positives),
        (Recipe::Single, Negatives::Corpus),
        (Recipe::Reference, Negatives::InBatch),
    ] {
        let settings =
            Settings { epochs: 3, batch_size: 16, negatives: Some(negatives), ..Settings::of(recipe) };
        let asked = || {
            let stats = COUNTED.stats();
            stats.allocations + stats.reallocations
        };
        let (mut before, mut steps) = (None, 0);
        fit(&task, &index, None, &settings, None, Level::detect(), |event| {
            match event {
                Event::Start(_) | Event::Between(_) => {}
                Event::Step(step) => {
                    let now = asked();
                    if let Some(before) = before {
                        assert_eq!(now - before, 0, "{recipe:?}, {negatives:?}, step {}", step.step);
                        steps += 1;
                    }
                    before = Some(now);
                }
                Event::Epoch(..) => before = None,
            }
            Ok(())
        })
        .expect("fitted");
        assert!(steps >= 3 * 5, "{steps} steps were watched");
    }
    let before = COUNTED.stats().allocations;
    drop(core::hint::black_box(vec![0_u8; 100]));
    assert_eq!(COUNTED.stats().allocations, before + 1, "the counter counts");
}
