//! What must hold whatever the numbers are.
#![cfg(all(feature = "std", feature = "train"))]
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use query_adapter::reference::reference_softmax_cross_entropy;
use query_adapter::{
    Anchor, Batch, Documents, Lanes, Level, Linear, Mask, MaskEntry, Optimizer, OptimizerKind, PanelMatrix,
    Schedule, Trainer, cosine_scores, linear_len, normalize_rows, panel_len, scratch_len,
};

fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0f32..1.0, len)
}

/// Cosines as rows × documents.
fn scores(queries: &[f32], documents: &[f32], dim: usize) -> Vec<f32> {
    let (rows, candidates) = (queries.len() / dim, documents.len() / dim);
    let mut scratch = vec![Lanes::ZERO; panel_len(rows, dim)];
    let mut scores = vec![Lanes::ZERO; panel_len(rows, candidates)];
    cosine_scores(Level::detect(), queries, documents, dim, &mut scratch, &mut scores).unwrap();
    let mut out = vec![0.0; rows * candidates];
    PanelMatrix::new(rows, candidates, scores).unwrap().copy_to_row_major(&mut out).unwrap();
    out
}

fn normalized(mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    normalize_rows(Level::detect(), &mut rows, dim).unwrap();
    rows
}

fn adapter(weight: &[f32], dim: usize) -> Linear<Vec<Lanes>> {
    let storage = vec![Lanes::ZERO; linear_len(dim, dim, false)];
    let mut adapter = Linear::identity(dim, dim, false, storage, Level::detect()).unwrap();
    adapter.set_weight(weight).unwrap();
    adapter
}

/// The plain gradient of the mean loss, row-major: with beta1 = 0 and no clipping, the first moment after one step.
fn gradient(weight: &[f32], dim: usize, batch: &Batch<'_>) -> (f32, Vec<f32>) {
    let optimizer =
        Optimizer { beta1: 0.0, max_norm: f32::INFINITY, weight_decay: 0.0, ..Optimizer::adamw(1.0) };
    let state = || vec![Lanes::ZERO; linear_len(dim, dim, false)];
    let mut trainer =
        Trainer::new(adapter(weight, dim), state(), state(), 20.0, optimizer, Schedule::CONSTANT).unwrap();
    let candidates = batch.documents.count(dim);
    let mut scratch = vec![Lanes::ZERO; scratch_len(batch.targets.len(), candidates, dim, dim)];
    let report = trainer.step(batch, &mut scratch).unwrap();
    let mut out = vec![0.0; dim * dim];
    PanelMatrix::new(dim, dim, trainer.m()).unwrap().copy_to_row_major(&mut out).unwrap();
    (report.loss, out)
}

/// `PROPTEST_CASES` can ask for fewer, as where a processor is emulated.
fn few_cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.min(128), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn probabilities_sum_to_one_and_the_loss_is_not_negative(
        scores in prop::collection::vec(-60.0f32..60.0, 1..50), target in any::<prop::sample::Index>(),
    ) {
        let target = target.index(scores.len());
        let mut d = scores.clone();
        let loss = reference_softmax_cross_entropy(&mut d, target, 1.0, 1.0, |_| false);
        prop_assert!(loss >= 0.0 && loss.is_finite());
        // With a factor of 1 the gradient is p − [target].
        let sum: f64 = d.iter().map(|&p| f64::from(p)).sum::<f64>() + 1.0;
        prop_assert!((sum - 1.0).abs() < 4e-7 * scores.len() as f64, "{sum}");
        d[target] += 1.0;
        prop_assert!(d.iter().all(|p| (0.0..=1.0).contains(p)));
    }

    #[test]
    fn a_shift_of_all_scores_changes_nothing_but_rounding(
        scores in prop::collection::vec(-20.0f32..20.0, 2..40), shift in -8i8..8,
    ) {
        let loss = |shift: f32| {
            let mut scores: Vec<f32> = scores.iter().map(|s| s + shift).collect();
            reference_softmax_cross_entropy(&mut scores, 0, 1.0, 1.0, |_| false)
        };
        let (plain, shifted) = (loss(0.0), loss(f32::from(shift)));
        prop_assert!((plain - shifted).abs() <= 1e-5 * (1.0 + plain), "{plain} {shifted}");
    }

    #[test]
    fn scaling_the_weight_changes_no_cosine(weight in values(49), queries in values(3 * 7), documents in values(9 * 7)) {
        let documents = normalized(documents, 7);
        let transformed = |factor: f32| {
            let weight: Vec<f32> = weight.iter().map(|w| w * factor).collect();
            let mut out = vec![0.0; 3 * 7];
            adapter(&weight, 7).apply_batch(&queries, &mut out).unwrap();
            scores(&out, &documents, 7)
        };
        // A power of two scales without rounding, so not even a bit may differ.
        prop_assert_eq!(transformed(1.0), transformed(4.0));
        for (a, b) in transformed(1.0).into_iter().zip(transformed(3.0)) {
            prop_assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn permuted_documents_have_permuted_scores_and_equal_ones_equal_scores(
        queries in values(5 * 11), documents in values(8 * 11), by in 0usize..8,
    ) {
        let plain = scores(&queries, &documents, 11);
        let mut rotated = documents.clone();
        rotated.rotate_left(by * 11);
        let mut expected = plain.clone();
        for row in expected.chunks_mut(8) {
            row.rotate_left(by);
        }
        prop_assert_eq!(scores(&queries, &rotated, 11), expected);
        let doubled: Vec<f32> = documents.iter().chain(&documents).copied().collect();
        for row in scores(&queries, &doubled, 11).chunks(16) {
            prop_assert_eq!(&row[..8], &row[8..]);
        }
    }

    #[test]
    fn a_row_of_a_batch_gets_the_bits_it_would_get_alone(
        rows in 1usize..40, weight in values(13 * 13), queries in values(40 * 13),
    ) {
        let adapter = adapter(&weight, 13);
        let queries = &queries[..rows * 13];
        let mut batch = vec![0.0; rows * 13];
        adapter.apply_batch(queries, &mut batch).unwrap();
        for (query, expected) in queries.chunks(13).zip(batch.chunks(13)) {
            let mut alone = [0.0; 13];
            adapter.apply(query, &mut alone).unwrap();
            prop_assert_eq!(alone.map(f32::to_bits).to_vec(), expected.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_masked_candidate_has_no_influence(
        weight in values(25), queries in values(4 * 5), documents in values(6 * 5), other in values(5),
    ) {
        let documents = normalized(documents, 5);
        let mut storage = [MaskEntry::default(); 4];
        let mut mask = Mask::new(&mut storage);
        for row in 0..4 {
            mask.insert(row, 5).unwrap();
        }
        let batch = Batch {
            queries: &queries,
            gradient_operand: None,
            documents: Documents::Rows(&documents),
            targets: &[0, 1, 2, 3],
            weights: &[1.0, 0.5, 1.0, 2.0],
            mask: mask.entries(),
        };
        let expected = gradient(&weight, 5, &batch);
        // Replaced by any other document, and left out.
        let mut replaced = documents.clone();
        replaced[25..].copy_from_slice(&normalized(other, 5));
        prop_assert_eq!(&gradient(&weight, 5, &Batch { documents: Documents::Rows(&replaced), ..batch }), &expected);
        let left_out = Batch { documents: Documents::Rows(&documents[..25]), mask: &[], ..batch };
        let (loss, without) = gradient(&weight, 5, &left_out);
        prop_assert_eq!(loss, expected.0);
        for (a, b) in without.iter().zip(&expected.1) {
            prop_assert!((a - b).abs() == 0.0, "{} {}", a, b);
        }
    }

    #[test]
    fn a_row_with_nothing_but_its_answer_has_no_loss_and_no_gradient(weight in values(9), query in values(3)) {
        let documents = normalized(vec![0.5, 0.25, -1.0, 1.0, 0.0, 0.0], 3);
        let mask = [MaskEntry { panel: 0, candidate: 1, lanes: 1 }];
        let batch = Batch {
            queries: &query,
            gradient_operand: None,
            documents: Documents::Rows(&documents),
            targets: &[0],
            weights: &[1.0],
            mask: &mask,
        };
        let (loss, gradient) = gradient(&weight, 3, &batch);
        prop_assert_eq!(loss, 0.0);
        prop_assert!(gradient.iter().all(|g| *g == 0.0));
    }

    #[test]
    fn without_a_gradient_sgd_decays_toward_its_anchor(weight in values(9), decay in 0.01f32..0.5) {
        let optimizer = Optimizer {
            kind: OptimizerKind::Sgd,
            weight_decay: decay,
            ..Optimizer::adamw(1.0)
        };
        let mut trainer =
            Trainer::new(adapter(&weight, 3), vec![], vec![], 20.0, optimizer, Schedule::CONSTANT).unwrap();
        trainer.set_anchor(Anchor::Identity).unwrap();
        let batch = Batch {
            queries: &[0.0; 3],
            gradient_operand: None,
            documents: Documents::Rows(&[1.0, 0.0, 0.0]),
            targets: &[0],
            weights: &[1.0],
            mask: &[],
        };
        let mut scratch = vec![Lanes::ZERO; scratch_len(1, 1, 3, 3)];
        trainer.step(&batch, &mut scratch).unwrap();
        for (i, &w) in weight.iter().enumerate() {
            let target = if i % 4 == 0 { 1.0 } else { 0.0 };
            let found = trainer.adapter().weight().get(i / 3, i % 3).unwrap();
            let expected = w - decay * (w - target);
            prop_assert!((found - expected).abs() < 1e-6, "{} {}", found, expected);
        }
    }
}
