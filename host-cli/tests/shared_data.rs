//! The base figures of the shared real data sets, where they are present.

use std::io::Write as _;
use std::path::Path;

use host_cli::metrics::{Gain, Measure, Metric, evaluate};
use host_cli::ranking::Index;
use host_cli::retrieval_task::RetrievalTask;
use host_cli::vectors::Embeddings;
use query_adapter::Level;

const MINI: &str = "all-MiniLM-L6-v2";
const MPNET: &str = "all-mpnet-base-v2";

/// Set, model, test queries, and in ten-thousandths: hit@5, MRR@5, hit@10, MRR@10, nDCG@10.
const BASE: [(&str, &str, usize, [u32; 5]); 10] = [
    ("lyft_uber", MINI, 790, [7291, 5861, 7886, 5939, 6411]),
    ("scifact", MINI, 300, [7533, 6004, 7933, 6054, 6456]),
    ("clinc150", MINI, 4500, [9002, 7728, 9327, 7772, 8156]),
    ("xquad_de_en", MINI, 233, [6094, 4509, 6652, 4587, 5087]),
    ("xquad_en", MINI, 233, [9871, 9232, 9957, 9244, 9422]),
    ("cranfield", MINI, 45, [9556, 8174, 9556, 8174, 5469]),
    ("medquad", MINI, 438, [6895, 5207, 7785, 5333, 5926]),
    ("lyft_uber", MPNET, 790, [7633, 6042, 8177, 6118, 6621]),
    ("xquad_en", MPNET, 233, [9914, 9334, 9914, 9334, 9482]),
    ("cranfield", MPNET, 45, [9333, 7907, 9556, 7935, 5450]),
];

#[test]
fn every_base_figure_is_reproduced_to_four_digits() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.is_dir() {
        // Past the test harness, which hides what passing tests print.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} is absent", data.display());
        return;
    }
    for (set, model, queries, expected) in BASE {
        let embeddings = Embeddings::load(&data.join(set).join(model)).expect("vectors");
        let task = RetrievalTask::load(&data.join(set).join("test.json"), Some(&embeddings)).expect("a task");
        let index = Index::new(task.corpus(), Level::detect()).expect("an index");
        let rankings = index.rank(&task, None).expect("ranked");
        let positives: Vec<_> = task.queries().iter().map(|query| query.positives.to_vec()).collect();
        let judged =
            rankings.iter().zip(&positives).map(|(ranking, positives)| (&ranking[..], &positives[..]));
        let evaluation = evaluate(&Metric::STANDARD, Gain::Binary, judged).expect("evaluated");
        assert_eq!(evaluation.queries().len(), queries, "{set}");
        let figures = [
            (Measure::HitRate, 5),
            (Measure::Mrr, 5),
            (Measure::HitRate, 10),
            (Measure::Mrr, 10),
            (Measure::Ndcg, 10),
        ]
        .map(|(measure, k)| {
            let metric = Metric::new(measure, k).expect("a valid k");
            format!("{:.4}", evaluation.mean(metric).expect("standard"))
        });
        assert_eq!(figures, expected.map(|figure| format!("0.{figure:04}")), "{set}, {model}");
    }
    let _ = writeln!(std::io::stderr(), "reproduced the base figures of {} shared sets", BASE.len());
}
