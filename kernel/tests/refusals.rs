//! A training step that is refused says why, and has changed nothing.
#![cfg(all(feature = "std", feature = "train"))]
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use query_adapter::{
    Anchor, Batch, DocumentBlocks, Documents, Error, Lanes, Level, Linear, MaskEntry, Optimizer,
    OptimizerKind, OptimizerState, Schedule, SingleThread, Trainer, linear_len, scratch_len,
};

const DIM: usize = 3;
const LEN: usize = linear_len(DIM, DIM, false);
const QUERIES: [f32; 6] = [1.0, 0.5, 0.0, 0.0, 1.0, 0.5];
const DOCUMENTS: [f32; 6] = [1.0, 0.0, 0.0, 0.0, 0.6, 0.8];
const GOOD: Batch<'static> = Batch {
    queries: &QUERIES,
    gradient_operand: None,
    documents: Documents::Rows(&DOCUMENTS),
    targets: &[0, 1],
    weights: &[1.0, 1.0],
    mask: &[],
};

fn trainer_with(optimizer: Optimizer, scale: f32) -> Trainer<Vec<Lanes>> {
    let adapter = Linear::identity(DIM, DIM, false, vec![Lanes::ZERO; LEN], Level::detect()).unwrap();
    let state = || vec![Lanes::ZERO; if optimizer.kind.has_moments() { LEN } else { 0 }];
    Trainer::new(adapter, state(), state(), scale, optimizer, Schedule::CONSTANT).unwrap()
}

fn trainer() -> Trainer<Vec<Lanes>> {
    let mut trainer = trainer_with(Optimizer::adamw(0.1), 20.0);
    // One good step, so that moments and count have something to lose.
    trainer.step(&GOOD, &mut scratch()).unwrap();
    trainer
}

fn scratch() -> Vec<Lanes> {
    vec![Lanes::ZERO; scratch_len(2, 2, DIM, DIM)]
}

fn bits(trainer: &Trainer<Vec<Lanes>>) -> Vec<u32> {
    let parts = [trainer.adapter().weight().as_lanes(), trainer.m(), trainer.v()];
    let values = parts.into_iter().flatten().flat_map(|lanes| lanes.0).map(f32::to_bits);
    let state = trainer.state();
    values.chain([state.steps, state.beta1_power.to_bits(), state.beta2_power.to_bits()]).collect()
}

#[track_caller]
fn assert_refused(mut trainer: Trainer<Vec<Lanes>>, batch: &Batch<'_>, expected: Error) {
    let before = bits(&trainer);
    assert_eq!(trainer.step(batch, &mut scratch()), Err(expected));
    assert_eq!(bits(&trainer), before, "a refused step must change nothing");
    trainer.step(&GOOD, &mut scratch()).expect("a good batch is taken afterwards");
}

#[test]
fn wrong_lengths_are_refused_with_what_was_needed_and_given() {
    let length = |what, needed, given| Error::Length { what, needed, given };
    assert_refused(trainer(), &Batch { queries: &QUERIES[..5], ..GOOD }, length("queries", 6, 5));
    assert_refused(
        trainer(),
        &Batch { documents: Documents::Rows(&DOCUMENTS[..5]), ..GOOD },
        length("documents", 3, 5),
    );
    assert_refused(trainer(), &Batch { documents: Documents::Rows(&[]), ..GOOD }, length("documents", 3, 0));
    assert_refused(trainer(), &Batch { weights: &[1.0], ..GOOD }, length("weights", 2, 1));
    assert_refused(trainer(), &Batch { targets: &[], ..GOOD }, length("targets", 1, 0));
    let operand = Some(&QUERIES[..3]);
    assert_refused(trainer(), &Batch { gradient_operand: operand, ..GOOD }, length("gradient_operand", 6, 3));

    let mut trainer = trainer();
    let before = bits(&trainer);
    let needed = scratch_len(2, 2, DIM, DIM);
    for given in 0..needed {
        // Also where not even the first of its buffers has room.
        let mut short = vec![Lanes::ZERO; given];
        assert_eq!(trainer.step(&GOOD, &mut short), Err(length("scratch", needed, given)));
        let refusal = trainer.steps(&SingleThread, &[GOOD], &mut short, |_, _| -> Result<(), Error> {
            panic!("no step was taken")
        });
        assert_eq!(refusal, Err(length("scratch", needed, given)));
    }
    assert_eq!(bits(&trainer), before);
}

#[test]
fn an_anchor_of_another_length_or_with_a_value_that_is_not_finite_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut weights = vec![Lanes::ZERO; LEN];
        weights[1].0[2] = bad;
        let refusal = trainer().set_anchor(Anchor::Weights(weights));
        assert_eq!(refusal, Err(Error::NotFinite { what: "anchor", row: 0 }), "{bad}");
    }
    let refusal = trainer().set_anchor(Anchor::Weights(vec![Lanes::ZERO; LEN - 1]));
    assert_eq!(refusal, Err(Error::Length { what: "anchor", needed: LEN, given: LEN - 1 }));
    assert_eq!(trainer().set_anchor(Anchor::Weights(vec![Lanes::ZERO; LEN])), Ok(()));
}

#[test]
fn targets_weights_and_masks_out_of_range_are_refused_by_row() {
    let entry = |panel, candidate, lanes| MaskEntry { panel, candidate, lanes };
    let target = Error::Target { row: 1, target: 2, candidates: 2 };
    assert_refused(trainer(), &Batch { targets: &[0, 2], ..GOOD }, target);
    for weight in [-1.0, f32::NAN, f32::INFINITY] {
        assert_refused(trainer(), &Batch { weights: &[1.0, weight], ..GOOD }, Error::Weight { row: 1 });
    }
    assert_refused(trainer(), &Batch { weights: &[0.0, 0.0], ..GOOD }, Error::TotalWeight);
    assert_refused(trainer(), &Batch { weights: &[f32::MAX, f32::MAX], ..GOOD }, Error::TotalWeight);
    assert_refused(trainer(), &Batch { mask: &[entry(0, 1, 0b10)], ..GOOD }, Error::MaskedTarget { row: 1 });
    assert_refused(trainer(), &Batch { mask: &[entry(0, 2, 0b1)], ..GOOD }, Error::Mask { index: 0 });
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut queries = QUERIES;
        queries[4] = bad;
        let refusal = Error::NotFinite { what: "transformed query", row: 1 };
        assert_refused(trainer(), &Batch { queries: &queries, ..GOOD }, refusal);
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut documents = DOCUMENTS;
        documents[1] = bad;
        let refusal = Error::NotFinite { what: "loss", row: 0 };
        assert_refused(trainer(), &Batch { documents: Documents::Rows(&documents), ..GOOD }, refusal);
    }
    let operand = [1.0, f32::NAN, 0.0, 0.0, 1.0, 0.5];
    let refusal = Error::NotFinite { what: "gradient norm", row: 0 };
    assert_refused(trainer(), &Batch { gradient_operand: Some(&operand), ..GOOD }, refusal);
}

#[test]
fn a_query_whose_norm_overflows_is_refused_and_not_taken_for_zero() {
    let mut queries = QUERIES;
    queries[0] = 1e30;
    let refusal = Error::NotFinite { what: "transformed query", row: 0 };
    assert_refused(trainer(), &Batch { queries: &queries, ..GOOD }, refusal);
}

#[test]
fn a_gradient_that_could_overflow_the_second_moment_is_refused() {
    // Adam adds the decay to the gradient: 1e19 times a weight of 1.
    let optimizer = Optimizer { kind: OptimizerKind::Adam, weight_decay: 1e19, ..Optimizer::adamw(0.1) };
    let mut trainer = trainer_with(optimizer, 20.0);
    let before = bits(&trainer);
    assert_eq!(trainer.step(&GOOD, &mut scratch()), Err(Error::GradientTooLarge));
    assert_eq!(bits(&trainer), before);
    // Below the limit it is taken, and the second moment is finite.
    let optimizer = Optimizer { weight_decay: 1e18, ..optimizer };
    let mut trainer = trainer_with(optimizer, 20.0);
    trainer.step(&GOOD, &mut scratch()).unwrap();
    assert!(trainer.v().iter().flat_map(|lanes| lanes.0).all(f32::is_finite));
    // What counts is how far the weight is from its anchor.
    let far = Lanes([8.0; 16]);
    let optimizer = Optimizer { weight_decay: 6e18, ..optimizer };
    for (anchor, expected) in [
        (Anchor::Zero, Ok(())),
        (Anchor::Identity, Err(Error::GradientTooLarge)),
        (Anchor::Weights(vec![Lanes::ZERO; LEN]), Ok(())),
        (Anchor::Weights(vec![far; LEN]), Err(Error::GradientTooLarge)),
    ] {
        let mut trainer = trainer_with(optimizer, 20.0);
        trainer.set_anchor(anchor).unwrap();
        assert_eq!(trainer.step(&GOOD, &mut scratch()).map(drop), expected);
    }
}

#[test]
fn a_distance_from_the_anchor_that_overflows_is_refused_though_there_is_no_decay() {
    let optimizer = Optimizer { kind: OptimizerKind::Adam, weight_decay: 0.0, ..Optimizer::adamw(0.1) };
    let mut trainer = trainer_with(optimizer, 20.0);
    trainer.adapter_mut().set_weight(&[3e38, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
    let mut anchor = vec![Lanes::ZERO; LEN];
    anchor[0].0[0] = -3e38;
    trainer.set_anchor(Anchor::Weights(anchor)).unwrap();
    let before = bits(&trainer);
    let batch = Batch { queries: &[0.0, 1.0, 0.5, 0.0, 0.5, 1.0], ..GOOD };
    assert_eq!(trainer.step(&batch, &mut scratch()), Err(Error::GradientTooLarge));
    assert_eq!(bits(&trainer), before);
}

/// Documents of which only the number is ever asked.
struct Claimed(usize);

impl DocumentBlocks for Claimed {
    fn count(&self) -> usize {
        self.0
    }

    fn copy_rows(&self, _: usize, _: &mut [f32]) {
        panic!("the step is refused before")
    }
}

#[test]
fn blocks_of_nothing_and_documents_that_no_target_can_name_are_refused() {
    let blocks = |source, block| Batch { documents: Documents::Blocks { source, block }, ..GOOD };
    assert_refused(trainer(), &blocks(&Claimed(2), 0), Error::Setting { name: "block" });
    assert_refused(
        trainer(),
        &blocks(&Claimed(0), 1),
        Error::Length { what: "documents", needed: DIM, given: 0 },
    );
    let most = u32::MAX as usize;
    if let Some(given) = most.checked_add(1) {
        let refusal = Error::Length { what: "documents", needed: most, given };
        assert_refused(trainer(), &blocks(&Claimed(given), 1), refusal);
    }
}

#[test]
fn a_zero_query_takes_no_part_and_is_counted() {
    let mut queries = QUERIES;
    queries[3..].fill(0.0);
    let mut trainer = trainer();
    let report = trainer.step(&Batch { queries: &queries, ..GOOD }, &mut scratch()).unwrap();
    assert_eq!(report.zero_rows, 1);
    assert!(report.loss.is_finite() && report.grad_norm.is_finite());

    queries.fill(0.0);
    let report = trainer.step(&Batch { queries: &queries, ..GOOD }, &mut scratch()).unwrap();
    assert_eq!((report.zero_rows, report.loss, report.grad_norm), (2, 0.0, 0.0));
}

#[test]
fn extreme_scores_give_a_finite_loss() {
    let mut trainer = trainer_with(Optimizer::adamw(0.1), 1e6);
    let report = trainer.step(&Batch { targets: &[1, 0], ..GOOD }, &mut scratch()).unwrap();
    assert!(report.loss > 1e5 && report.loss.is_finite());
}

#[test]
fn construction_refuses_settings_and_storage() {
    let adapter = || Linear::identity(DIM, DIM, false, vec![Lanes::ZERO; LEN], Level::detect()).unwrap();
    let state = || vec![Lanes::ZERO; LEN];
    let optimizer = Optimizer::adamw(0.1);
    let new = |m, v, scale, optimizer| {
        Trainer::new(adapter(), m, v, scale, optimizer, Schedule::CONSTANT).unwrap_err()
    };
    assert_eq!(new(vec![], state(), 20.0, optimizer), Error::Length { what: "m", needed: LEN, given: 0 });
    assert_eq!(new(state(), vec![], 20.0, optimizer), Error::Length { what: "v", needed: LEN, given: 0 });
    let sgd = Optimizer { kind: OptimizerKind::Sgd, ..optimizer };
    assert_eq!(new(state(), state(), 20.0, sgd), Error::Length { what: "m", needed: 0, given: LEN });
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(new(state(), state(), scale, optimizer), Error::Setting { name: "scale" });
    }
    let eps = Optimizer { eps: 0.0, ..optimizer };
    assert_eq!(new(state(), state(), 20.0, eps), Error::Setting { name: "eps" });
    for (in_dim, out_dim) in [(0, 1), (1, 0), (8193, 1), (1, 8193)] {
        let refused = Linear::identity(in_dim, out_dim, false, vec![Lanes::ZERO; 1], Level::detect());
        assert!(matches!(refused, Err(Error::Dimension { max: 8192, .. })), "{in_dim} {out_dim}");
    }
}

#[test]
fn a_restored_trainer_goes_on_with_the_same_bits() {
    let mut whole = trainer();
    let mut resumed = trainer_with(Optimizer::adamw(0.1), 20.0);
    resumed.adapter_mut().weight_lanes_mut().copy_from_slice(whole.adapter().weight().as_lanes());
    resumed.restore(*whole.state(), whole.m(), whole.v()).unwrap();
    for _ in 0..3 {
        let expected = whole.step(&GOOD, &mut scratch());
        assert_eq!(resumed.step(&GOOD, &mut scratch()), expected);
    }
    assert_eq!(bits(&resumed), bits(&whole));

    let before = bits(&resumed);
    let (m, v) = (resumed.m().to_vec(), resumed.v().to_vec());
    let with = |lanes: &[Lanes], value| {
        let mut lanes = lanes.to_vec();
        lanes[0].0[0] = value;
        lanes
    };
    let refusal = Err(Error::NotFinite { what: "optimizer state", row: 0 });
    assert_eq!(resumed.restore(*whole.state(), &m, &with(&v, -1.0)), refusal);
    for bad in [f32::NAN, f32::INFINITY] {
        assert_eq!(resumed.restore(*whole.state(), &with(&m, bad), &v), refusal);
        assert_eq!(resumed.restore(*whole.state(), &m, &with(&v, bad)), refusal);
    }
    let length = |what| Err(Error::Length { what, needed: LEN, given: LEN - 1 });
    assert_eq!(resumed.restore(*whole.state(), &m[1..], &v), length("m"));
    assert_eq!(resumed.restore(*whole.state(), &m, &v[1..]), length("v"));
    for power in [-0.1, 1.1, f32::NAN] {
        let state = OptimizerState { beta1_power: power, ..*whole.state() };
        assert_eq!(resumed.restore(state, &m, &m), Err(Error::Setting { name: "beta1_power" }));
        let state = OptimizerState { beta2_power: power, ..*whole.state() };
        assert_eq!(resumed.restore(state, &m, &m), Err(Error::Setting { name: "beta2_power" }));
    }
    assert_eq!(bits(&resumed), before);
}
