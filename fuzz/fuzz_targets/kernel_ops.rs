//! Every public operation of the kernel against its definition, bit for bit, on every level of this processor, with
//! any bits as numbers and any lengths as buffers. The training step has a target of its own.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use nalgebra::DMatrix;
use query_adapter::reference::{reference_cosine_score, reference_forward, reference_normalize};
use query_adapter::sample::{Generator, epoch_order};
use query_adapter::{
    Decay, Error, Lanes, Level, Linear, MAX_DIM, Mask, MaskEntry, PanelMatrix, Schedule, cosine_scores, math,
    normalize_rows, panel_len, panels,
};
use query_adapter_fuzz::{assert_same, number, numbers, panels_of, row_major, same};

fuzz_target!(|input: &[u8]| {
    // Bytes that ran out read as zero, so no input is refused.
    let _ = check(&mut Unstructured::new(input));
});

fn check(input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=7)? {
        0 => forward(input),
        1 => wrong_lengths(input),
        2 => normalisation(input),
        3 => scores(input),
        4 => elementary(input),
        5 => panel_matrix(input),
        6 => mask(input),
        _ => schedule_and_sample(input),
    }
}

fn dim(input: &mut Unstructured<'_>) -> Result<usize> {
    input.int_in_range(1..=40)
}

/// An adapter of any weight applied to one query, a batch, and panel by panel.
fn forward(input: &mut Unstructured<'_>) -> Result<()> {
    let (in_dim, out_dim, rows) = (dim(input)?, dim(input)?, input.int_in_range(0..=20)?);
    let bias: bool = input.arbitrary()?;
    let cols = in_dim + usize::from(bias);
    let lanes = panels_of(&numbers(input, out_dim * cols)?, out_dim, cols);
    let queries = numbers(input, rows * in_dim)?;
    let expected: Vec<f32> = queries
        .chunks(in_dim)
        .flat_map(|query| (0..out_dim).map(|r| reference_forward(&lanes, in_dim, bias, query, r)))
        .collect();
    for level in Level::available() {
        let adapter = Linear::from_lanes(in_dim, out_dim, bias, &lanes[..], level).expect("an adapter");
        let mut found = vec![9.0; expected.len()];
        adapter.apply_batch(&queries, &mut found).expect("buffers of the right size");
        assert_same(&found, &expected, level.name());
        for (query, expected) in queries.chunks(in_dim).zip(expected.chunks(out_dim)) {
            let mut found = vec![9.0; out_dim];
            adapter.apply(query, &mut found).expect("buffers of the right size");
            assert_same(&found, expected, level.name());
            for (panel, expected) in expected.chunks(16).enumerate() {
                let found = adapter.apply_panel(panel, query).expect("a panel");
                assert_same(&found.0[..expected.len()], expected, level.name());
            }
        }
    }
    let adapter = Linear::from_lanes(in_dim, out_dim, bias, &lanes[..], Level::SCALAR).expect("an adapter");
    let mut copy = Linear::identity(in_dim, out_dim, bias, vec![Lanes::ZERO; lanes.len()], Level::SCALAR)
        .expect("an adapter");
    let (mut weight, mut offsets) = (vec![0.0; out_dim * in_dim], vec![0.0; out_dim]);
    adapter.copy_weight_to(&mut weight).expect("a buffer of the right size");
    adapter.copy_bias_to(&mut offsets).expect("a buffer of the right size");
    copy.set_weight(&weight).expect("a buffer of the right size");
    assert_eq!(
        copy.set_bias(&offsets),
        if bias { Ok(()) } else { Err(Error::Length { what: "bias", needed: 0, given: offsets.len() }) }
    );
    assert_same(
        &row_major(copy.weight().as_lanes(), out_dim, cols),
        &row_major(&lanes, out_dim, cols),
        "copy",
    );
    Ok(())
}

/// Dimensions and lengths of the fuzzer's choice: an operation runs when they fit, and else changes nothing.
fn wrong_lengths(input: &mut Unstructured<'_>) -> Result<()> {
    const UNTOUCHED: f32 = 9.0;
    let any_len = |input: &mut Unstructured<'_>| input.int_in_range(0..=70);
    let any_dim = |input: &mut Unstructured<'_>| match input.arbitrary::<u8>()? {
        255 => input.arbitrary::<usize>(),
        254 => Ok(MAX_DIM + 1),
        class => Ok(usize::from(class % 36)),
    };
    let (in_dim, out_dim, bias) = (any_dim(input)?, any_dim(input)?, input.arbitrary::<bool>()?);
    let storage = vec![Lanes::ZERO; any_len(input)?];
    let query = vec![1.0; any_len(input)?];
    let mut output = vec![UNTOUCHED; any_len(input)?];
    let (panel, level) = (any_dim(input)?, Level::detect());

    let in_range = (1..=MAX_DIM).contains(&in_dim) && (1..=MAX_DIM).contains(&out_dim);
    let fits = in_range && out_dim.div_ceil(16) * (in_dim + usize::from(bias)) == storage.len();
    match Linear::from_lanes(in_dim, out_dim, bias, &storage[..], level) {
        Ok(adapter) => {
            assert!(fits);
            let applied = adapter.apply(&query, &mut output).is_ok();
            assert_eq!(applied, (query.len(), output.len()) == (in_dim, out_dim));
            assert!(applied || output.iter().all(|x| *x == UNTOUCHED));
            output.fill(UNTOUCHED);
            let applied = adapter.apply_batch(&query, &mut output).is_ok();
            let rows = query.len() / in_dim;
            assert_eq!(applied, (query.len(), output.len()) == (rows * in_dim, rows * out_dim));
            assert!(applied || output.iter().all(|x| *x == UNTOUCHED));
            let applied = adapter.apply_panel(panel, &query).is_ok();
            assert_eq!(applied, query.len() == in_dim && panel < panels(out_dim));
        }
        Err(_) => assert!(!fits),
    }

    output.fill(UNTOUCHED);
    let normalized = normalize_rows(level, &mut output, in_dim).is_ok();
    assert_eq!(normalized, (1..=MAX_DIM).contains(&in_dim) && output.len().is_multiple_of(in_dim));
    assert!(normalized || output.iter().all(|x| *x == UNTOUCHED));

    let mut scratch = vec![Lanes::ZERO; any_len(input)?];
    let mut scores = vec![Lanes([UNTOUCHED; 16]); any_len(input)?];
    let scored = cosine_scores(level, &query, &output, in_dim, &mut scratch, &mut scores).is_ok();
    let fits = (1..=MAX_DIM).contains(&in_dim)
        && query.len().is_multiple_of(in_dim)
        && output.len().is_multiple_of(in_dim)
        && scratch.len() == (query.len() / in_dim).div_ceil(16) * in_dim
        && scores.len() == (query.len() / in_dim).div_ceil(16) * (output.len() / in_dim);
    assert_eq!(scored, fits);
    assert!(scored || scores.iter().all(|lanes| lanes.0 == [UNTOUCHED; 16]));
    Ok(())
}

fn normalisation(input: &mut Unstructured<'_>) -> Result<()> {
    let (rows, dim) = (input.int_in_range(0..=40)?, dim(input)?);
    let values = numbers(input, rows * dim)?;
    let mut expected = values.clone();
    for row in expected.chunks_mut(dim) {
        reference_normalize(row);
    }
    for level in Level::available() {
        let mut found = values.clone();
        normalize_rows(level, &mut found, dim).expect("whole rows");
        assert_same(&found, &expected, level.name());
    }
    Ok(())
}

fn scores(input: &mut Unstructured<'_>) -> Result<()> {
    let (rows, candidates, dim) = (input.int_in_range(0..=36)?, input.int_in_range(0..=20)?, dim(input)?);
    let queries = numbers(input, rows * dim)?;
    let documents = numbers(input, candidates * dim)?;
    let mut expected = Vec::new();
    for query in queries.chunks(dim) {
        let mut query = query.to_vec();
        reference_normalize(&mut query);
        expected.extend(documents.chunks(dim).map(|document| reference_cosine_score(&query, document)));
    }
    for level in Level::available() {
        let mut scratch = vec![Lanes([f32::NAN; 16]); panel_len(rows, dim)];
        let mut found = vec![Lanes([f32::NAN; 16]); panel_len(rows, candidates)];
        cosine_scores(level, &queries, &documents, dim, &mut scratch, &mut found).expect("buffers that fit");
        let matrix = PanelMatrix::new(rows, candidates, found).expect("as many panels");
        let mut found = vec![9.0; rows * candidates];
        matrix.copy_to_row_major(&mut found).expect("a buffer of the right size");
        assert_same(&found, &expected, level.name());
    }
    Ok(())
}

/// The elementary functions of any bits against the platform's, within the bounds of docs/numerics.md.
#[expect(clippy::disallowed_methods, reason = "the platform's functions are the twins here")]
fn elementary(input: &mut Unstructured<'_>) -> Result<()> {
    let any = |input: &mut Unstructured<'_>| input.arbitrary::<u32>().map(f32::from_bits);
    let (a, b, c) = (any(input)?, any(input)?, number(input)?);
    for (a, b, c) in [(a, b, c), (c, a, b), (b, c, a)] {
        let (found, expected) = (math::fma(a, b, c), a.mul_add(b, c));
        assert!(same(found, expected), "fma({a:e}, {b:e}, {c:e}) = {found:e}, not {expected:e}");
        assert!(same(math::max(a, b), if a > b { a } else { b }));
        assert!(same(math::min(a, b), if a < b { a } else { b }));
        assert!(same(math::sqrt(a), a.sqrt()), "sqrt({a:e})");
        let (exp, ln) = (f64::from(a).exp(), f64::from(a).ln());
        assert!(is_within_an_ulp(math::exp(a), exp), "exp({a:e}) = {:e}, not {exp:e}", math::exp(a));
        assert!(is_within_an_ulp(math::ln(a), ln), "ln({a:e}) = {:e}, not {ln:e}", math::ln(a));
        let x = if a > 1.0 { 1.0 } else { math::max(a, 0.0) };
        let cosine = (f64::from(x) * core::f64::consts::PI).cos();
        let found = f64::from(math::cos_pi(a));
        assert!((found - cosine).abs() <= 1.0 / 8_388_608.0, "cos_pi({a:e}) = {found:e}, not {cosine:e}");
    }
    Ok(())
}

/// One unit in the last place of the true value, and what `f64` itself may be wrong by.
fn is_within_an_ulp(found: f32, truth: f64) -> bool {
    if truth.is_nan() || found.is_nan() {
        return truth.is_nan() && found.is_nan();
    }
    let nearest = truth as f32;
    if same(found, nearest) || found == nearest {
        return true;
    }
    let below = f64::from(f32::from_bits(nearest.to_bits().saturating_sub(1)));
    let above = f64::from(f32::from_bits(nearest.to_bits() + 1));
    let ulp = if nearest.is_infinite() {
        f64::from(f32::MAX) / 16_777_215.0
    } else {
        (f64::from(nearest) - below).abs().max((above - f64::from(nearest)).abs())
    };
    found.is_finite() && (f64::from(found) - truth).abs() <= ulp * (1.0 + 1e-6)
}

/// Copies in and out of panels against a plain vector.
fn panel_matrix(input: &mut Unstructured<'_>) -> Result<()> {
    let (rows, cols) = (input.int_in_range(0..=40)?, input.int_in_range(0..=40)?);
    let mut model = numbers(input, rows * cols)?;
    let storage = vec![Lanes([7.0; 16]); panel_len(rows, cols)];
    let mut matrix = PanelMatrix::new(rows, cols, storage).expect("as many panels");
    assert!(PanelMatrix::new(rows, cols, vec![Lanes::ZERO; panel_len(rows, cols) + 1]).is_err());
    matrix.copy_from_row_major(&model).expect("a buffer of the right size");
    for _ in 0..input.int_in_range(0..=8)? {
        let (row, col) = (input.int_in_range(0..=41)?, input.int_in_range(0..=41)?);
        let value = f32::from_bits(input.arbitrary()?);
        let inside = row < rows && col < cols;
        assert_eq!(matrix.set(row, col, value), inside);
        if inside {
            model[row * cols + col] = value;
        }
        assert_eq!(matrix.get(row, col).map(f32::to_bits), inside.then_some(value.to_bits()));
    }
    let mut found = vec![9.0; model.len()];
    matrix.copy_to_row_major(&mut found).expect("a buffer of the right size");
    assert_same(&found, &model, "row-major copy");
    if cols > 0 {
        assert_same(&row_major(matrix.as_lanes(), rows, cols), &model, "elements");
        let expected = panels_of(&model, rows, cols);
        let bits =
            |lanes: &[Lanes]| lanes.iter().flat_map(|lanes| lanes.0.map(f32::to_bits)).collect::<Vec<_>>();
        assert_eq!(bits(matrix.as_lanes()), bits(&expected));
    }

    let mut dense = DMatrix::from_element(rows, cols, 9.0);
    matrix.copy_to_nalgebra(&mut dense).expect("the same shape");
    let mut back =
        PanelMatrix::new(rows, cols, vec![Lanes::ZERO; panel_len(rows, cols)]).expect("as many panels");
    back.copy_from_nalgebra(&dense).expect("the same shape");
    for (i, value) in model.iter().enumerate() {
        let (row, col) = (i / cols, i % cols);
        assert!(same(dense[(row, col)], *value) && back.get(row, col).is_some_and(|x| same(x, *value)));
    }
    assert!(matrix.copy_to_nalgebra(&mut DMatrix::from_element(rows + 1, cols, 9.0)).is_err());
    assert!(back.copy_from_nalgebra(&DMatrix::from_element(rows, cols + 1, 9.0)).is_err());
    let longer = vec![1.0; model.len() + 1];
    assert!(matrix.copy_from_row_major(&longer).is_err());
    matrix.copy_to_row_major(&mut found).expect("a buffer of the right size");
    assert_same(&found, &model, "after a refused copy");

    matrix.fill_identity();
    let identity = |i: usize| if i / cols == i % cols { 1.0 } else { 0.0 };
    let identity: Vec<f32> = (0..rows * cols).map(identity).collect();
    matrix.copy_to_row_major(&mut found).expect("a buffer of the right size");
    assert_same(&found, &identity, "identity");
    Ok(())
}

/// Insertions in any order against an ordered map.
fn mask(input: &mut Unstructured<'_>) -> Result<()> {
    let mut storage = vec![MaskEntry::default(); input.int_in_range(0..=12)?];
    let capacity = storage.len();
    let mut mask = Mask::new(&mut storage);
    let mut model: BTreeMap<(u32, u32), u16> = BTreeMap::new();
    for _ in 0..input.int_in_range(0..=40)? {
        let any = |input: &mut Unstructured<'_>| match input.arbitrary::<u8>()? {
            255 => input.arbitrary::<u32>(),
            class => Ok(u32::from(class % 40)),
        };
        let (row, candidate) = (any(input)?, any(input)?);
        let (key, bit) = ((row / 16, candidate), 1 << (row % 16));
        let has_room = model.contains_key(&key) || model.len() < capacity;
        assert_eq!(mask.insert(row, candidate).is_ok(), has_room);
        if has_room {
            *model.entry(key).or_default() |= bit;
        }
        let expected: Vec<MaskEntry> =
            model.iter().map(|(&(panel, candidate), &lanes)| MaskEntry { panel, candidate, lanes }).collect();
        assert_eq!(mask.entries(), expected);
    }
    mask.clear();
    assert!(mask.entries().is_empty());
    Ok(())
}

fn schedule_and_sample(input: &mut Unstructured<'_>) -> Result<()> {
    let decay = *input.choose(&[Decay::Constant, Decay::Linear, Decay::Cosine])?;
    let schedule = Schedule { decay, warmup: input.arbitrary()?, total: input.arbitrary()? };
    let factor = schedule.factor(input.arbitrary()?);
    assert!((0.0..=1.0).contains(&factor), "{schedule:?}: {factor}");

    let (seed, epoch) = (input.arbitrary()?, input.arbitrary()?);
    let mut order = vec![9; input.int_in_range(0..=64)?];
    epoch_order(&mut order, seed, epoch);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..order.len() as u32), "{order:?} is no permutation");
    let mut generator = Generator::for_epoch(seed, epoch);
    let bound = input.arbitrary()?;
    let drawn = generator.below(bound);
    assert!(drawn < bound || (drawn, bound) == (0, 0));
    Ok(())
}
