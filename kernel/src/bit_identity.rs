//! Every operation against its definition, to the bit, on every level this processor has.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::Error;
use crate::adam::{Optimizer, OptimizerKind, OptimizerState, Update, update_lanes};
use crate::cross_entropy::{
    Mask, MaskEntry, PanelRows, SoftmaxState, finish_sums, mask_of_panel, sweep_gradients, sweep_sums,
};
use crate::lanes::{LANES, Lanes, PanelMatrix, panel_len, panels};
use crate::linear::{Linear, linear_len};
use crate::normalize::{normalize_backward_panel, normalize_rows};
use crate::retrieve::{Found, TopK, cosine_scores, normalize_queries, offer_block, score_documents};
use crate::schedule::{Decay, Schedule};
use crate::simd::{Level, dispatch};
use crate::tile::{Store, accumulate_columns, product_columns};
use crate::train::{
    Anchor, Batch, Documents, Join, NormForm, SingleThread, StepReport, Trainer, ahead_len, norm_form,
    scratch_len, streaming_scratch_len,
};
use crate::transpose::pack_columns;
use crate::{math, reference};

#[path = "../tests/support/reference_trainer.rs"]
mod reference_trainer;

use reference_trainer::{ReferenceTrainer, Stored};

/// Runs a block once for each level, and names the level in what fails.
macro_rules! on_every_level {
    ($level:ident => $body:block) => {
        for $level in Level::available() {
            let run = std::panic::AssertUnwindSafe(|| $body);
            if let Err(cause) = std::panic::catch_unwind(run) {
                std::eprintln!("on level {}", $level.name());
                std::panic::resume_unwind(cause);
            }
        }
    };
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[track_caller]
fn assert_same(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!(
            same(a, b),
            "element {i}: {a:e} ({:08x}), defined as {b:e} ({:08x})",
            a.to_bits(),
            b.to_bits()
        );
    }
}

/// Ordinary numbers, and any bit pattern: subnormal, infinite, NaN.
fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -2.0f32..2.0,
        1 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, 1e-45, -1e-45, 1.17e-38, 3e38, -3e38, f32::INFINITY, f32::NAN]),
    ]
}

fn any_values(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(any_value(), len)
}

/// Values a batch is made of, from a generator, so that big shapes are cheap to draw.
fn ordinary_values(len: usize, seed: u64) -> Vec<f32> {
    let mut generator = crate::sample::Generator::new(seed);
    (0..len).map(|_| (generator.below(20_001) as f32 - 10_000.0) / 10_000.0).collect()
}

/// A case here is many comparisons. `PROPTEST_CASES` can ask for fewer, as where a processor is emulated.
fn few_cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.min(64), failure_persistence: None, ..default }
}

fn columns(values: &[f32]) -> Vec<Lanes> {
    values.chunks_exact(LANES).map(|chunk| Lanes(chunk.try_into().unwrap())).collect()
}

fn lane(columns: &[Lanes], lane: usize) -> Vec<f32> {
    columns.iter().map(|column| column.0[lane]).collect()
}

#[test]
fn all_levels_of_this_processor_are_here() {
    let names: Vec<_> = Level::available().map(Level::name).collect();
    std::println!("levels run: {}", names.join(", "));
    assert!(names.contains(&"scalar"));
    #[cfg(target_arch = "x86_64")]
    {
        assert!(names.contains(&"sse2"));
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            assert!(names.contains(&"avx2"));
        }
        if std::is_x86_feature_detected!("avx512vbmi2") && std::is_x86_feature_detected!("avx512vpopcntdq") {
            assert!(names.contains(&"avx512"));
        }
    }
    #[cfg(target_arch = "aarch64")]
    assert!(names.contains(&"neon"));
}

#[test]
fn a_weight_that_is_streamed_gives_the_same_bits() {
    on_every_level!(level => {
        for (in_dim, out_dim) in (1..=33).flat_map(|n| [(n, n), (n, 17), (33, n)]) {
            for bias in [false, true] {
                let stride = in_dim + usize::from(bias);
                let weight = columns(&ordinary_values(LANES * linear_len(in_dim, out_dim, bias), 3));
                let query = ordinary_values(in_dim, 4);
                let adapter = Linear::from_lanes(in_dim, out_dim, bias, &weight[..], level).unwrap();
                let (mut expected, mut found) = (vec![0.0; out_dim], vec![f32::NAN; out_dim]);
                adapter.apply(&query, &mut expected).unwrap();
                let mut buffer = vec![Lanes::ZERO; stride];
                let read = |panel: usize, buffer: &mut [Lanes]| {
                    buffer.copy_from_slice(&weight[panel * stride..][..stride]);
                    Ok::<(), crate::Error>(())
                };
                crate::apply_streamed(level, bias, &query, &mut found, &mut buffer, read).unwrap();
                assert_same(&found, &expected);
            }
        }
        let refuse = |panel: usize, _: &mut [Lanes]| match panel {
            0 => Ok(()),
            _ => Err(crate::Error::ByteOrder),
        };
        let mut output = [7.0; 20];
        let streamed = |buffer: &mut [Lanes], output: &mut [f32]| {
            crate::apply_streamed(level, false, &[1.0, 2.0], output, buffer, refuse)
        };
        assert_eq!(streamed(&mut [Lanes::ZERO; 2], &mut output), Err(crate::Error::ByteOrder));
        assert_eq!((output[15], output[16]), (0.0, 7.0));
        assert!(streamed(&mut [Lanes::ZERO; 3], &mut output).is_err());
        assert!(streamed(&mut [Lanes::ZERO; 2], &mut []).is_err());
    });
}

#[test]
fn a_score_that_is_no_number_is_refused_wherever_it_stands() {
    on_every_level!(level => {
        for bad in 0..LANES {
            let mut scores = [Lanes([0.25; LANES]); 5];
            scores[3].0[bad] = f32::NAN;
            let mut storage = [Found::default(); 2 * LANES];
            let mut best: Vec<TopK<'_>> = storage.chunks_exact_mut(2).map(TopK::new).collect();
            let refused = offer_block(level, &scores, &[0, 1, 2, 3, 4], 10, &mut best);
            assert_eq!(refused, Err(crate::Error::NotFinite { what: "score", row: 13 }));
            // A lane without a query is not looked at.
            let mut best: Vec<TopK<'_>> = storage.chunks_exact_mut(2).map(TopK::new).take(bad).collect();
            offer_block(level, &scores, &[0, 1, 2, 3, 4], 10, &mut best).unwrap();
        }
        let mut storage = [Found::default(); 2];
        let mut best = [TopK::new(&mut storage)];
        assert!(offer_block(level, &[Lanes::ZERO; 3], &[0, 1], 0, &mut best).is_err());
        let mut too_many: Vec<TopK<'_>> = (0..=LANES).map(|_| TopK::new(&mut [])).collect();
        assert!(offer_block(level, &[Lanes::ZERO; 2], &[0, 1], 0, &mut too_many).is_err());
        let refused = |what, needed, given| Err(crate::Error::Length { what, needed, given });
        let score = |panels: &[Lanes], documents: &[f32], scores: &mut [Lanes]| {
            score_documents(level, panels, documents, 3, scores)
        };
        let [two, three] = [&mut [Lanes::ZERO; 2][..], &mut [Lanes::ZERO; 3]];
        assert_eq!(score(&[Lanes::ZERO; 3], &[1.0; 6], three), refused("scores", 2, 3));
        assert_eq!(score(&[Lanes::ZERO; 4], &[1.0; 6], two), refused("panels", 3, 4));
        assert_eq!(score(&[Lanes::ZERO; 3], &[1.0; 7], two), refused("documents", 6, 7));
        assert_eq!(normalize_queries(level, &[1.0; 6], 3, two), refused("panels", 3, 2));
        assert_eq!(normalize_queries(level, &[1.0; 7], 3, three), refused("queries", 6, 7));
    });
}

#[test]
fn forward_at_every_length() {
    on_every_level!(level => {
        for in_dim in (1..=33).chain([64, 100]) {
            for (out_dim, rows, bias) in [(1, 1, false), (in_dim, 3, true), (33, 1, true), (70, 9, false), (220, 1, false), (408, 1, true), (48, 26, false)] {
                check_forward(level, in_dim, out_dim, bias, &ordinary_values(rows * in_dim, 3), 5);
            }
        }
        for out_dim in 1..=33 {
            check_forward(level, 7, out_dim, out_dim % 2 == 0, &ordinary_values(5 * 7, 8), 9);
        }
        for rows in 1..=33 {
            check_forward(level, 5, 20, true, &ordinary_values(rows * 5, 10), 11);
        }
    });
}

#[test]
fn forward_of_more_rows_than_meet_the_panels_together() {
    // Of wide tiles two shares and three, the last of them smaller, and of narrow ones many; the last panel is not full.
    on_every_level!(level => {
        for (in_dim, out_dim, rows) in [(4100, 50, 67), (4099, 50, 131), (4099, 34, 275)] {
            check_forward(level, in_dim, out_dim, true, &ordinary_values(rows * in_dim, 13), 14);
        }
    });
}

#[test]
fn forward_by_panels_that_are_asked_for_ahead() {
    // Tiles of every number of rows by nine panels of 4 MiB together, and batches of more than two tiles by three of them.
    on_every_level!(level => {
        for (out_dim, rows) in [(140, 2), (140, 3), (140, 4), (140, 5), (140, 6), (48, 13), (48, 26)] {
            check_forward(level, 8189, out_dim, true, &ordinary_values(rows * 8189, 15), 16);
        }
    });
}

fn check_forward(level: Level, in_dim: usize, out_dim: usize, bias: bool, queries: &[f32], seed: u64) {
    let weight = ordinary_values(out_dim * in_dim, seed);
    let offsets = ordinary_values(out_dim, seed + 1);
    check_forward_of(level, in_dim, out_dim, bias.then_some(&offsets), &weight, queries);
}

fn check_forward_of(
    level: Level,
    in_dim: usize,
    out_dim: usize,
    bias: Option<&Vec<f32>>,
    weight: &[f32],
    queries: &[f32],
) {
    let storage = vec![Lanes::ZERO; linear_len(in_dim, out_dim, bias.is_some())];
    let mut adapter = Linear::identity(in_dim, out_dim, bias.is_some(), storage, level).unwrap();
    adapter.set_weight(weight).unwrap();
    if let Some(bias) = bias {
        adapter.set_bias(bias).unwrap();
    }
    let lanes = adapter.weight().as_lanes();
    let expected: Vec<f32> = queries
        .chunks_exact(in_dim)
        .flat_map(|query| {
            (0..out_dim).map(move |r| reference::reference_forward(lanes, in_dim, bias.is_some(), query, r))
        })
        .collect();
    let mut found = vec![9.0; expected.len()];
    adapter.apply_batch(queries, &mut found).unwrap();
    assert_same(&found, &expected);
    for (query, expected) in queries.chunks_exact(in_dim).zip(expected.chunks_exact(out_dim)) {
        let mut found = vec![9.0; out_dim];
        adapter.apply(query, &mut found).unwrap();
        assert_same(&found, expected);
        for panel in 0..panels(out_dim) {
            let lanes = adapter.apply_panel(panel, query).unwrap();
            let width = (out_dim - panel * LANES).min(LANES);
            assert_same(&lanes.0[..width], &expected[panel * LANES..][..width]);
        }
        let all = panels(out_dim);
        let missing = Error::Length { what: "panel", needed: all + 1, given: all };
        assert_eq!(adapter.apply_panel(all, query), Err(missing));
    }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn exp_equals_its_definition(values in any_values(LANES)) {
        on_every_level!(level => {
            let found = dispatch!(level, s => {
                s.to_lanes(math::exp_lanes(s, s.load(&Lanes(values.as_slice().try_into().unwrap()))))
            });
            assert_same(&found.0, &values.iter().map(|x| math::exp(*x)).collect::<Vec<_>>());
        });
    }

    #[test]
    fn lane_operations_equal_theirs(a in any_values(LANES), b in any_values(LANES), c in any_values(LANES)) {
        let lanes = |x: &[f32]| Lanes(x.try_into().unwrap());
        let zip = |f: &dyn Fn(f32, f32, f32) -> f32| -> Vec<f32> {
            (0..LANES).map(|l| f(a[l], b[l], c[l])).collect()
        };
        on_every_level!(level => {
            let (x, y, z) = (lanes(&a), lanes(&b), lanes(&c));
            macro_rules! check {
                ($s:ident => $op:expr, $definition:expr) => {
                    let found = dispatch!(level, $s => $s.to_lanes($op));
                    assert_same(&found.0, &zip(&$definition));
                };
            }
            check!(s => s.fma(s.load(&x), s.load(&y), s.load(&z)), |a, b, c| math::fma(a, b, c));
            check!(s => s.max(s.load(&x), s.load(&y)), |a, b, _| math::max(a, b));
            check!(s => s.min(s.load(&x), s.load(&y)), |a, b, _| math::min(a, b));
            check!(s => s.div(s.load(&x), s.load(&y)), |a, b, _| a / b);
            check!(s => s.sqrt(s.load(&x)), |a, _, _| math::sqrt(a));
            const MASK: u16 = 0b1010_0000_1111_0001;
            let found = dispatch!(level, s => s.to_lanes(s.select(s.mask(MASK), s.load(&x), s.load(&y))));
            let chosen: Vec<f32> = (0..LANES).map(|l| if MASK & (1 << l) != 0 { a[l] } else { b[l] }).collect();
            assert_same(&found.0, &chosen);
        });
    }

    #[test]
    fn forward_of_any_bits(values in any_values(19 * 7 + 19 + 5 * 7)) {
        let (weight, rest) = values.split_at(19 * 7);
        let (bias, queries) = rest.split_at(19);
        on_every_level!(level => {
            check_forward_of(level, 7, 19, Some(&bias.to_vec()), weight, queries);
            check_forward_of(level, 7, 19, None, weight, queries);
        });
    }

    #[test]
    fn columns_of_any_bits(cols in 1usize..40, depth in 1usize..20, values in any_values(20 * (3 * LANES + 40))) {
        let panels = [0, 1, 2].map(|p| columns(&values[p * depth * LANES..][..depth * LANES]));
        let rows = &values[20 * 3 * LANES..][..depth * cols];
        let expected = panels.each_ref().map(|panel| (0..cols).flat_map(|c| (0..LANES).map(move |l| {
            (0..depth).fold(0.0, |acc, i| math::fma(panel[i].0[l], rows[i * cols + c], acc))
        })).collect::<Vec<f32>>());
        on_every_level!(level => {
            let mut alone = vec![Lanes::ZERO; cols];
            let mut together = [alone.clone(), alone.clone(), alone.clone()];
            // The same chains, broken off and gone on with.
            let mut continued = vec![Lanes([9.0; LANES]); cols];
            let mut tile = vec![Lanes::ZERO; depth];
            let middle = depth / 2;
            for first in (0..cols).step_by(LANES) {
                pack_columns(rows, cols, first, &mut tile);
                let continued = &mut continued[first..cols.min(first + LANES)];
                let mut sinks = together.each_mut().map(|columns| Store(columns));
                let panels = panels.each_ref().map(|panel| &panel[..]);
                dispatch!(level, s => {
                    product_columns(s, [panels[0]], &tile, first, cols, &mut [Store(&mut alone)]);
                    product_columns(s, panels, &tile, first, cols, &mut sinks);
                    accumulate_columns(s, &panels[0][..middle], &tile[..middle], continued, false);
                    accumulate_columns(s, &panels[0][middle..], &tile[middle..], continued, true);
                });
            }
            let [first, second, third] = &together;
            let compared = [(&alone, 0), (&continued, 0), (first, 0), (second, 1), (third, 2)];
            for (found, panel) in compared {
                assert_same(&found.iter().flat_map(|lanes| lanes.0).collect::<Vec<_>>(), &expected[panel]);
            }
        });
    }

    #[test]
    fn ln_equals_its_definition(values in any_values(LANES), exact in 0usize..LANES) {
        // Of sixteen values of any bits hardly one is an ordinary one.
        let ordinary: Vec<f32> = values.iter().map(|x| f32::from_bits(x.to_bits() & 0x3fff_ffff | 0x0080_0000)).collect();
        let mut near_one = ordinary.clone();
        near_one[exact] = 1.0;
        on_every_level!(level => {
            for values in [&values, &ordinary, &near_one] {
                let x = Lanes(values.as_slice().try_into().unwrap());
                let found = dispatch!(level, s => math::ln_lanes(s, &x));
                assert_same(&found.0, &x.0.map(math::ln));
            }
        });
    }

    #[test]
    fn normalisation_of_any_bits(rows in 1usize..40, dim in 1usize..34, values in any_values(40 * 34)) {
        let values = &values[..rows * dim];
        let mut expected = values.to_vec();
        for row in expected.chunks_exact_mut(dim) {
            reference::reference_normalize(row);
        }
        on_every_level!(level => {
            let mut found = values.to_vec();
            normalize_rows(level, &mut found, dim).unwrap();
            assert_same(&found, &expected);
        });
    }

    #[test]
    fn normalisation_backward_of_any_bits(dim in 1usize..34, values in any_values(2 * 34 * LANES + LANES)) {
        let normalized = columns(&values[..dim * LANES]);
        let d = columns(&values[34 * LANES..][..dim * LANES]);
        let inverse = Lanes(values[2 * 34 * LANES..].try_into().unwrap());
        on_every_level!(level => {
            let mut found = d.clone();
            dispatch!(level, s => normalize_backward_panel(s, &normalized, s.load(&inverse), &mut found));
            for l in 0..LANES {
                let mut expected = lane(&d, l);
                reference::reference_normalize_backward(&lane(&normalized, l), inverse.0[l], &mut expected);
                assert_same(&lane(&found, l), &expected);
            }
        });
    }

    #[test]
    fn scores_of_any_bits(rows in 1usize..34, dim in 1usize..20, values in any_values(34 * 20 + 9 * 20)) {
        let queries = &values[..rows * dim];
        let documents = &values[34 * 20..][..9 * dim];
        on_every_level!(level => {
            let mut scratch = vec![Lanes::ZERO; panel_len(rows, dim)];
            let mut scores = vec![Lanes::ZERO; panel_len(rows, 9)];
            cosine_scores(level, queries, documents, dim, &mut scratch, &mut scores).unwrap();
            let scores = PanelMatrix::new(rows, 9, scores).unwrap();
            for (i, query) in queries.chunks_exact(dim).enumerate() {
                let mut query = query.to_vec();
                reference::reference_normalize(&mut query);
                for (j, document) in documents.chunks_exact(dim).enumerate() {
                    let expected = reference::reference_cosine_score(&query, document);
                    assert!(same(scores.get(i, j).unwrap(), expected));
                }
            }
        });
    }

    #[test]
    fn blocks_of_documents_score_as_all_at_once(rows in 1usize..70, dim in 1usize..40, count in 1usize..40, block in 1usize..40) {
        let queries = ordinary_values(rows * dim, 1);
        let documents = ordinary_values(count * dim, 2);
        on_every_level!(level => {
            let mut panels_of_queries = vec![Lanes::ZERO; panel_len(rows, dim)];
            let mut whole = vec![Lanes::ZERO; panel_len(rows, count)];
            cosine_scores(level, &queries, &documents, dim, &mut panels_of_queries, &mut whole).unwrap();
            normalize_queries(level, &queries, dim, &mut panels_of_queries).unwrap();
            for (first, documents) in (0..).step_by(block).zip(documents.chunks(block * dim)) {
                let here = documents.len() / dim;
                let mut scores = vec![Lanes::ZERO; panels(rows) * here];
                score_documents(level, &panels_of_queries, documents, dim, &mut scores).unwrap();
                for (panel, scores) in scores.chunks_exact(here).enumerate() {
                    assert_eq!(scores, &whole[panel * count + first..][..here]);
                }
            }
        });
    }

    #[test]
    fn the_best_documents_are_the_defined_ones_at_every_capacity(
        rows in 1usize..=LANES,
        count in 0usize..70,
        capacity in 0usize..40,
        room in prop_oneof![Just(0usize), 1usize..40],
        block in 1usize..20,
        seed in any::<u64>(),
        values in any_values(70 * LANES),
        coarse in any::<bool>(),
    ) {
        // Few distinct scores make many ties; a place among the ids of its own for each document, in no order.
        let value = |x: f32| if coarse { (x * 2.0) as i32 as f32 } else if x.is_nan() { -0.0 } else { x };
        let scores = columns(&values[..count * LANES].iter().map(|&x| value(x)).collect::<Vec<_>>());
        let mut order: Vec<u32> = (0..count as u32).collect();
        crate::sample::shuffle(&mut order, &mut crate::sample::Generator::new(seed));
        on_every_level!(level => {
            let mut storage = vec![Found { score: f32::NAN, order: 7, document: 7 }; rows * (capacity + room)];
            let mut best: Vec<TopK<'_>> = match (capacity, room) {
                (0, 0) => (0..rows).map(|_| TopK::new(&mut [])).collect(),
                (_, 0) => storage.chunks_exact_mut(capacity).map(TopK::new).collect(),
                _ => storage.chunks_exact_mut(capacity + room).map(|storage| TopK::with_room(storage, capacity)).collect(),
            };
            for (first, (scores, order)) in (0..).step_by(block).zip(scores.chunks(block).zip(order.chunks(block))) {
                offer_block(level, scores, order, first, &mut best).unwrap();
            }
            for (l, best) in best.into_iter().enumerate() {
                let mut expected = vec![Found::default(); capacity];
                let held = reference::reference_top_k(&lane(&scores, l), &order, &mut expected);
                assert_eq!(best.into_sorted(), &expected[..held], "query {l}");
            }
        });
    }

    #[test]
    fn softmax_of_any_bits(
        candidates in 1usize..34,
        rows in 1usize..=LANES,
        live in any::<u16>(),
        values in any_values(34 * LANES),
        weights in prop::collection::vec(0.0f32..3.0, LANES),
        block in 1usize..40,
        draws in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
    ) {
        let scores = columns(&values[..candidates * LANES]);
        let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 7) % candidates as u32).collect();
        let mut storage = [MaskEntry::default(); 40];
        let mut mask = Mask::new(&mut storage);
        for (row, candidate) in draws {
            let (row, candidate) = (row % rows as u32, candidate % candidates as u32);
            if targets[row as usize] != candidate {
                mask.insert(row, candidate).unwrap();
            }
        }
        let entries = mask.entries();
        let live = live & (u16::MAX >> (LANES - rows));
        let (scale, total_weight) = (20.0, 7.5);
        on_every_level!(level => {
            let panel = PanelRows {
                targets: &targets,
                weights: &weights[..rows],
                mask: mask_of_panel(entries, 0),
                live,
                scale,
                total_weight,
            };
            let mut found = scores.clone();
            let mut state = SoftmaxState::START;
            let firsts = || (0u32..).step_by(block);
            let losses = dispatch!(level, s => {
                for (scores, first) in found.chunks(block).zip(firsts()) {
                    sweep_sums(s, scores, first, &panel, &mut state);
                }
                let losses = finish_sums(s, &panel, &mut state);
                for (scores, first) in found.chunks_mut(block).zip(firsts()) {
                    sweep_gradients(s, scores, first, &panel, &state);
                }
                losses
            });
            for l in 0..LANES {
                if live & (1 << l) == 0 {
                    assert!(found.iter().all(|column| column.0[l].to_bits() == 0), "idle lanes hold +0");
                    continue;
                }
                let masked = |j: usize| {
                    entries.iter().any(|e| e.candidate as usize == j && e.lanes & (1 << l) != 0)
                };
                let mut expected = lane(&scores, l);
                let factor = (weights[l] * scale) / total_weight;
                let loss = reference::reference_softmax_cross_entropy(
                    &mut expected, targets[l] as usize, weights[l], factor, masked);
                assert!(same(losses.0[l], loss), "loss {} defined as {loss}", losses.0[l]);
                assert_same(&lane(&found, l), &expected);
            }
        });
    }

    #[test]
    fn update_of_any_bits(
        kind in prop::sample::select(vec![OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::AdamW]),
        steps in 1u32..50,
        decay in prop::sample::select(vec![0.0f32, 0.01, 0.5]),
        coef in 0.0f32..1.0,
        anchored in any::<bool>(),
        values in any_values(5 * LANES),
    ) {
        let optimizer = Optimizer { kind, weight_decay: decay, ..Optimizer::adamw(1e-2) };
        let state = (0..steps).fold(OptimizerState::START, |state, _| state.next(&optimizer));
        let update = Update::new(&optimizer, &state, 0.75, coef).unwrap();
        let [d, mut anchor, w, m, v]: [Lanes; 5] = columns(&values).try_into().unwrap();
        if !anchored {
            anchor = Lanes::ZERO;
        }
        let given = anchored.then_some(&anchor);
        on_every_level!(level => {
            let (mut new_w, mut new_m, mut new_v) = (w, m, v);
            dispatch!(level, s => {
                update_lanes(s, &update, s.load(&d), given, &mut new_w, Some((&mut new_m, &mut new_v)));
            });
            for l in 0..LANES {
                let expected = reference::reference_update(&update, d.0[l], anchor.0[l], w.0[l], m.0[l], v.0[l]);
                assert_same(&[new_w.0[l], new_m.0[l], new_v.0[l]], &[expected.0, expected.1, expected.2]);
            }
        });
    }
}

/// What one case of the whole step is made of.
#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    candidates: usize,
    in_dim: usize,
    out_dim: usize,
    bias: bool,
    kind: OptimizerKind,
    decay: f32,
    anchor: u8,
    masked: bool,
    preconditioned: bool,
    zero_query: bool,
}

/// Three steps on each level, against the definitions.
fn check_steps(case: Case) {
    let Case { rows, candidates, in_dim, out_dim, bias, kind, .. } = case;
    let cols = in_dim + usize::from(bias);
    let optimizer = Optimizer { kind, weight_decay: case.decay, max_norm: 0.5, ..Optimizer::adamw(3e-2) };
    let schedule = Schedule { decay: Decay::Linear, warmup: 1, total: 5 };
    let weight = ordinary_values(out_dim * cols, 21);
    let anchor_values = ordinary_values(out_dim * cols, 22);
    let mut queries = ordinary_values(rows * in_dim, 23);
    if case.zero_query && !bias {
        queries[..in_dim].fill(0.0);
    }
    let operand = ordinary_values(rows * in_dim, 24);
    let mut documents = ordinary_values(candidates * out_dim, 25);
    normalize_rows(Level::SCALAR, &mut documents, out_dim).unwrap();
    let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 5) % candidates as u32).collect();
    let weights: Vec<f32> = (0..rows).map(|row| 1.0 / (1 + row % 3) as f32).collect();
    let mut storage = vec![MaskEntry::default(); rows * 2];
    let mut mask = Mask::new(&mut storage);
    if case.masked {
        for row in 0..rows as u32 {
            for candidate in [(row * 3 + 1) % candidates as u32, (row + 2) % candidates as u32] {
                if candidate != targets[row as usize] {
                    mask.insert(row, candidate).unwrap();
                }
            }
        }
    }
    let batch = Batch {
        queries: &queries,
        gradient_operand: case.preconditioned.then_some(&operand),
        documents: Documents::Rows(&documents),
        targets: &targets,
        weights: &weights,
        mask: mask.entries(),
    };
    let identity = |i: usize| if i / cols == i % cols && i % cols < in_dim { 1.0 } else { 0.0 };
    let mut expected = ReferenceTrainer {
        in_dim,
        out_dim,
        bias,
        anchor: match case.anchor {
            0 => vec![0.0; weight.len()],
            1 => (0..weight.len()).map(identity).collect(),
            _ => anchor_values.clone(),
        },
        m: vec![0.0; weight.len()],
        v: vec![0.0; weight.len()],
        weight: weight.clone(),
        scale: 20.0,
        optimizer,
        schedule,
        state: OptimizerState::START,
    };
    let reports: Vec<StepReport> = (0..3).map(|_| expected.step(&batch).unwrap()).collect();

    let panels_of = |values: &[f32]| {
        let mut matrix =
            PanelMatrix::new(out_dim, cols, vec![Lanes::ZERO; panel_len(out_dim, cols)]).unwrap();
        matrix.copy_from_row_major(values).unwrap();
        matrix.into_storage()
    };
    let row_major = |lanes: &[Lanes]| {
        let mut values = vec![0.0; out_dim * cols];
        PanelMatrix::new(out_dim, cols, lanes).unwrap().copy_to_row_major(&mut values).unwrap();
        values
    };
    let source = Stored { rows: &documents, dim: out_dim };
    for level in Level::available() {
        for way in WAYS {
            let adapter = Linear::from_lanes(in_dim, out_dim, bias, panels_of(&weight), level).unwrap();
            let moments = if kind.has_moments() { linear_len(in_dim, out_dim, bias) } else { 0 };
            let state = || vec![Lanes([7.0; LANES]); moments];
            let mut trainer = Trainer::new(adapter, state(), state(), 20.0, optimizer, schedule).unwrap();
            trainer
                .set_anchor(match case.anchor {
                    0 => Anchor::Zero,
                    1 => Anchor::Identity,
                    _ => Anchor::Weights(panels_of(&anchor_values)),
                })
                .unwrap();
            let (documents, len) = match way.block {
                None => (batch.documents, scratch_len(rows, candidates, in_dim, out_dim)),
                Some(block) => (
                    Documents::Blocks { source: &source, block },
                    streaming_scratch_len(rows, block.min(candidates), in_dim, out_dim),
                ),
            };
            let batch = Batch { documents, ..batch };
            let ahead = if way.ahead { ahead_len(rows, in_dim, out_dim) } else { 0 };
            let mut scratch = vec![Lanes([f32::NAN; LANES]); len + ahead];
            let mut found = Vec::new();
            let keep = |trainer: &Trainer<Vec<Lanes>>, report| {
                assert_eq!(trainer.state().steps as usize, found.len() + 1);
                found.push(report);
                Ok::<(), crate::Error>(())
            };
            match way.threads {
                1 => trainer.steps(&SingleThread, &[batch; 3], &mut scratch, keep),
                threads => trainer.steps(&Scoped(threads), &[batch; 3], &mut scratch, keep),
            }
            .unwrap();
            assert_eq!(found, reports, "{case:?}, {way:?} on {}", level.name());
            assert_same(&row_major(trainer.adapter().weight().as_lanes()), &expected.weight);
            if kind.has_moments() {
                assert_same(&row_major(trainer.m()), &expected.m);
                assert_same(&row_major(trainer.v()), &expected.v);
            }
            let padding = |lanes: &[Lanes]| {
                let used = row_major(lanes).iter().filter(|x| x.to_bits() != 0).count();
                lanes.iter().flat_map(|lanes| lanes.0).filter(|x| x.to_bits() != 0).count() - used
            };
            for lanes in [trainer.adapter().weight().as_lanes(), trainer.m(), trainer.v()] {
                assert!(lanes.is_empty() || padding(lanes) == 0, "padding stays +0");
            }
        }
    }
}

/// One of the ways to execute a step, all of which are to give the same bits.
#[derive(Clone, Copy, Debug)]
struct Way {
    block: Option<usize>,
    threads: usize,
    ahead: bool,
}

const WAYS: [Way; 6] = [
    Way { block: None, threads: 1, ahead: false },
    Way { block: None, threads: 1, ahead: true },
    Way { block: None, threads: 2, ahead: true },
    Way { block: Some(7), threads: 1, ahead: false },
    Way { block: Some(16), threads: 3, ahead: true },
    Way { block: Some(140), threads: 5, ahead: false },
];

/// Threads that live as long as the work.
struct Scoped(usize);

impl Join for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        std::thread::scope(|scope| {
            scope.spawn(a);
            b();
        });
    }
}

/// Two threads that take turns, and how often they did.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Join for Counting {
    fn threads(&self) -> usize {
        2
    }

    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        self.0.fetch_add(1, Ordering::Relaxed);
        a();
        b();
    }
}

#[test]
fn batches_of_other_sizes_are_transformed_ahead_in_as_much_scratch_as_is_named() {
    let [in_dim, out_dim, candidates] = [512, 18, 10];
    // The norm of more than 64 rows is taken from the stored gradient, and only behind those the next batch goes ahead; fewer rows
    // may need more scratch beside their outputs.
    let sizes = [65, 64, 65, 3, 65];
    let queries = ordinary_values(65 * in_dim, 31);
    let mut documents = ordinary_values(candidates * out_dim, 32);
    normalize_rows(Level::SCALAR, &mut documents, out_dim).unwrap();
    let targets: Vec<u32> = (0..65).map(|row| row % candidates as u32).collect();
    let batch = |rows: usize| Batch {
        queries: &queries[..rows * in_dim],
        gradient_operand: None,
        documents: Documents::Rows(&documents),
        targets: &targets[..rows],
        weights: &[1.0; 65][..rows],
        mask: &[],
    };
    let len = scratch_len(65, candidates, in_dim, out_dim);
    for level in Level::available() {
        let state = || vec![Lanes::ZERO; linear_len(in_dim, out_dim, false)];
        let trained = |batches: &[Batch<'_>], together, ahead| {
            let adapter = Linear::identity(in_dim, out_dim, false, state(), level).unwrap();
            let mut trainer =
                Trainer::new(adapter, state(), state(), 20.0, Optimizer::adamw(1e-2), Schedule::CONSTANT)
                    .unwrap();
            let (join, mut scratch) = (Counting::default(), vec![Lanes([f32::NAN; LANES]); len + ahead]);
            for some in batches.chunks(together) {
                trainer.steps(&join, some, &mut scratch, |_, _| Ok::<(), crate::Error>(())).unwrap();
            }
            let parts = [trainer.adapter().weight().as_lanes(), trainer.m(), trainer.v()];
            let bits = parts.concat().iter().flat_map(|lanes| lanes.0).map(f32::to_bits).collect::<Vec<_>>();
            (bits, join.0.into_inner())
        };
        let batches = sizes.map(batch);
        let ahead = ahead_len(65, in_dim, out_dim);
        let (expected, joins) = trained(&batches, 1, 0);
        assert_eq!(trained(&batches, 5, ahead), (expected, joins - 2), "{}", level.name());
    }
}

const BASE: Case = Case {
    rows: 5,
    candidates: 5,
    in_dim: 6,
    out_dim: 6,
    bias: false,
    kind: OptimizerKind::AdamW,
    decay: 0.01,
    anchor: 0,
    masked: false,
    preconditioned: false,
    zero_query: false,
};

#[test]
fn steps_at_every_number_of_rows() {
    for rows in 1..=33 {
        check_steps(Case { rows, candidates: rows, bias: rows % 2 == 0, masked: rows % 3 == 0, ..BASE });
    }
}

#[test]
fn steps_at_every_number_of_candidates() {
    for candidates in 1..=33 {
        check_steps(Case {
            rows: 4,
            candidates,
            masked: candidates > 2,
            zero_query: candidates % 4 == 0,
            ..BASE
        });
    }
}

/// Around the number of documents whose gradients are added together, and several times as many.
#[test]
fn steps_with_more_candidates_than_are_added_together() {
    for candidates in [127, 128, 129, 256, 300] {
        check_steps(Case { rows: 18, candidates, in_dim: 9, out_dim: 19, masked: true, ..BASE });
    }
}

/// Documents beyond what is taken to be in a cache, in several parts and in one.
#[test]
fn steps_with_documents_from_afar() {
    for (rows, candidates, out_dim) in [(16, 135, 500), (18, 131, 501), (3, 1700, 40)] {
        check_steps(Case { rows, candidates, in_dim: 9, out_dim, masked: true, ..BASE });
    }
}

/// Threads are more than panels of queries: they share each by candidates and by columns.
#[test]
fn steps_with_threads_that_share_a_panel_of_queries() {
    for (rows, candidates, out_dim) in
        [(1, 129, 40), (10, 300, 70), (16, 417, 97), (18, 300, 70), (35, 150, 16)]
    {
        check_steps(Case {
            rows,
            candidates,
            in_dim: 9,
            out_dim,
            masked: true,
            zero_query: rows > 1,
            ..BASE
        });
    }
}

#[test]
fn steps_at_every_input_and_output_dimension() {
    for dim in 1..=33 {
        check_steps(Case { in_dim: dim, out_dim: 34 - dim, bias: dim % 2 == 1, ..BASE });
        check_steps(Case { rows: 18, candidates: 7, in_dim: dim, out_dim: dim, ..BASE });
    }
}

#[test]
fn steps_with_every_optimizer_and_anchor() {
    for kind in [OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::AdamW] {
        for anchor in 0..3 {
            for decay in [0.0, 0.1] {
                let preconditioned = anchor == 1;
                check_steps(Case {
                    kind,
                    anchor,
                    decay,
                    preconditioned,
                    bias: anchor > 0,
                    out_dim: 19,
                    ..BASE
                });
            }
        }
    }
}

#[test]
fn decay_toward_the_identity_leaves_padding_rows_at_zero() {
    // More inputs than outputs: the diagonal must end with the last output, not with the panel.
    for (in_dim, out_dim) in [(10, 4), (40, 17), (16, 16), (4, 10)] {
        check_steps(Case { in_dim, out_dim, anchor: 1, decay: 0.1, ..BASE });
    }
}

#[test]
fn scratch_for_a_large_batch_takes_every_smaller_one() {
    // A smaller batch may take its norm from Gram matrices, which need buffers of their own.
    for (in_dim, out_dim) in [(40, 1), (40, 34), (128, 1), (128, 128), (7, 3), (1, 1), (8192, 1)] {
        let mut before = 0;
        for rows in 1..=300 {
            let len = scratch_len(rows, 1, in_dim, out_dim);
            assert!(len >= before, "{rows} rows of {in_dim} to {out_dim}: {len} after {before}");
            before = len;
        }
    }
    assert_eq!(scratch_len(usize::MAX, 1, 1, 1), usize::MAX);
}

#[test]
fn steps_at_larger_shapes_in_both_forms_of_the_norm() {
    assert_eq!(norm_form(20, 50), NormForm::Gram);
    assert_eq!(norm_form(21, 50), NormForm::Direct);
    check_steps(Case { rows: 20, candidates: 40, in_dim: 50, out_dim: 70, bias: true, masked: true, ..BASE });
    check_steps(Case { rows: 21, candidates: 40, in_dim: 50, out_dim: 70, bias: true, masked: true, ..BASE });
    check_steps(Case { rows: 64, candidates: 64, in_dim: 96, out_dim: 96, ..BASE });
    // Gram products of three and four panels of queries with one another, shared by up to three threads.
    check_steps(Case { rows: 35, candidates: 20, in_dim: 154, out_dim: 20, bias: true, ..BASE });
    check_steps(Case { rows: 64, candidates: 10, in_dim: 512, out_dim: 18, ..BASE });
    // Tiles of sixteen columns which wait for one another, with the diagonal in some of them.
    for (anchor, rows) in [(0, 1), (1, 10), (2, 16), (1, 20)] {
        let dims = Case { in_dim: 70, out_dim: 53, bias: anchor == 2, ..BASE };
        check_steps(Case { rows, candidates: 20, anchor, decay: 0.1, ..dims });
    }
}

#[test]
fn steps_that_hide_an_update_behind_the_next_forward_pass() {
    // Runs of 64 columns and a rest; more queries than are transformed beside an update, and so few that tiles are left.
    for (rows, anchor) in [(35, 0), (47, 1), (64, 2), (70, 0), (97, 1)] {
        for out_dim in [1, 53, 64] {
            let dims = Case { in_dim: 150, out_dim, bias: rows % 2 == 0, ..BASE };
            check_steps(Case { rows, candidates: 20, anchor, decay: 0.1, ..dims });
        }
    }
    check_steps(Case { rows: 40, candidates: 40, in_dim: 64, out_dim: 64, preconditioned: true, ..BASE });
    check_steps(Case {
        rows: 40,
        candidates: 40,
        in_dim: 20,
        out_dim: 40,
        kind: OptimizerKind::Adam,
        ..BASE
    });
}

#[test]
fn steps_with_a_weight_that_leaves_the_cache() {
    // Three arrays of it are more than 2 MiB: the next forward pass is done with the update in both forms of the norm.
    for (rows, kind) in [(3, OptimizerKind::AdamW), (18, OptimizerKind::Sgd)] {
        check_steps(Case {
            rows,
            candidates: 4,
            in_dim: 700,
            out_dim: 297,
            bias: true,
            kind,
            anchor: 1,
            ..BASE
        });
    }
}

#[test]
fn steps_on_batches_of_different_sizes() {
    const DIM: usize = 70;
    const SIZES: [usize; 6] = [3, 70, 40, 1, 30, 64];
    let documents = ordinary_values(20 * DIM, 31);
    let queries: Vec<_> =
        SIZES.iter().zip(32..).map(|(rows, seed)| ordinary_values(rows * DIM, seed)).collect();
    let targets: Vec<u32> = (0..70).map(|row| row % 20).collect();
    let batches: Vec<_> = queries
        .iter()
        .zip(SIZES)
        .map(|(queries, rows)| Batch {
            queries,
            gradient_operand: None,
            documents: Documents::Rows(&documents),
            targets: &targets[..rows],
            weights: &[1.0; 70][..rows],
            mask: &[],
        })
        .collect();
    on_every_level!(level => {
        let trainer = || {
            let zeros = || vec![Lanes::ZERO; linear_len(DIM, DIM, false)];
            let adapter = Linear::identity(DIM, DIM, false, zeros(), level).unwrap();
            Trainer::new(adapter, zeros(), zeros(), 20.0, Optimizer::adamw(1e-2), Schedule::CONSTANT).unwrap()
        };
        let (mut one_by_one, mut reports) = (trainer(), Vec::new());
        let mut scratch = vec![Lanes::ZERO; scratch_len(70, 20, DIM, DIM) + ahead_len(70, DIM, DIM)];
        for batch in &batches {
            reports.push(one_by_one.step(batch, &mut scratch).unwrap());
        }
        let (mut together, mut found) = (trainer(), Vec::new());
        let keep = |_: &Trainer<_>, report| {
            found.push(report);
            Ok::<(), crate::Error>(())
        };
        together.steps(&SingleThread, &batches, &mut scratch, keep).unwrap();
        assert_eq!(found, reports);
        assert_eq!(together.adapter().weight().as_lanes(), one_by_one.adapter().weight().as_lanes());

        // What the caller returns ends the call, behind the step it was told of.
        let mut stopped = trainer();
        let stop = |trainer: &Trainer<_>, _| match trainer.state().steps {
            2 => Err(crate::Error::ByteOrder),
            _ => Ok(()),
        };
        assert_eq!(stopped.steps(&SingleThread, &batches, &mut scratch, stop), Err(crate::Error::ByteOrder));
        assert_eq!(stopped.state().steps, 2);
    });
}
