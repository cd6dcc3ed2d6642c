//! Sequences of training operations against a model of plain vectors: steps on good and on broken batches, saving to an
//! adapter file, resuming from one, on any level.
//!
//! After every operation weight, moments and count are those of the model, to the bit; so a refused step has changed
//! nothing, whatever refused it, and a resumed run goes on as if it had not stopped.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use query_adapter::image::{Image, ImageSpec, Metadata};
use query_adapter::{
    Anchor, Batch, Decay, Documents, Error, Join, Lanes, Level, Linear, MaskEntry, Optimizer, OptimizerKind,
    OptimizerState, Schedule, Trainer, ahead_len, normalize_rows, scratch_len, streaming_scratch_len,
};
use query_adapter_fuzz::{assert_same, number, numbers, panels_of, row_major};

#[path = "../../kernel/tests/support/reference_trainer.rs"]
mod reference_trainer;

use reference_trainer::{ReferenceTrainer, Stored};

fuzz_target!(|input: &[u8]| {
    // Bytes that ran out read as zero, so no input is refused.
    let _ = run(&mut Unstructured::new(input));
});

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let mut run = Run::start(input)?;
    let mut saved = None;
    for _ in 0..input.int_in_range(1..=8)? {
        match input.int_in_range(0..=11)? {
            0..=4 => run.step(input)?,
            5 => run.step_in_short_scratch(input)?,
            6 => saved = run.save()?.or(saved),
            7 => {
                if let Some(saved) = &saved {
                    run.resume(input, saved)?;
                }
            }
            8 => run.restore(input)?,
            9..=10 => run.steps(input)?,
            _ => run.set_weight(input)?,
        }
        run.check();
    }
    Ok(())
}

/// A run of the kernel beside one of the model.
struct Run {
    trainer: Trainer<Vec<Lanes>>,
    model: ReferenceTrainer,
    anchor: Anchor<Vec<Lanes>>,
}

/// Pretends to have threads.
struct InTurn(usize);

impl Join for InTurn {
    fn threads(&self) -> usize {
        self.0
    }

    fn join<A: FnOnce() + Send, B: FnOnce() + Send>(&self, a: A, b: B) {
        b();
        a();
    }
}

/// What a run leaves on a disk, and what the model remembers of it.
struct Saved {
    image: Vec<u8>,
    m: Vec<Lanes>,
    v: Vec<Lanes>,
    state: OptimizerState,
    model: ReferenceTrainer,
}

impl Run {
    fn start(input: &mut Unstructured<'_>) -> Result<Self> {
        // Three panels and both forms of the norm now and then; mostly small, since the model is slow.
        let (largest_in, largest_out) = if input.ratio(1, 8)? { (40, 34) } else { (8, 18) };
        let (in_dim, out_dim) = (input.int_in_range(1..=largest_in)?, input.int_in_range(1..=largest_out)?);
        let bias = input.arbitrary()?;
        let cols = in_dim + usize::from(bias);
        let optimizer = optimizer(input)?;
        let decay = *input.choose(&[Decay::Constant, Decay::Linear, Decay::Cosine])?;
        let schedule =
            Schedule { decay, warmup: input.int_in_range(0..=3)?, total: input.int_in_range(0..=9)? };
        let scale = *input.choose(&[20.0, 1.0, 100.0, 1e-30, 1e30])?;
        let weight = numbers(input, out_dim * cols)?;
        let (anchor, anchor_values) = match input.int_in_range(0..=2)? {
            0 => (Anchor::Zero, vec![0.0; weight.len()]),
            1 => {
                let identity = |i: usize| if i / cols == i % cols && i % cols < in_dim { 1.0 } else { 0.0 };
                (Anchor::Identity, (0..weight.len()).map(identity).collect())
            }
            _ => {
                let values = numbers(input, weight.len())?;
                (Anchor::Weights(panels_of(&values, out_dim, cols)), values)
            }
        };
        let model = ReferenceTrainer {
            in_dim,
            out_dim,
            bias,
            anchor: anchor_values,
            m: vec![0.0; weight.len()],
            v: vec![0.0; weight.len()],
            weight,
            scale,
            optimizer,
            schedule,
            state: OptimizerState::START,
        };
        let mut run = Self {
            trainer: trainer(&model, panels_of(&model.weight, out_dim, cols), any_level(input)?),
            model,
            anchor: Anchor::Zero,
        };
        let is_finite = run.model.anchor.iter().all(|x| x.is_finite());
        assert_eq!(run.trainer.set_anchor(anchor.clone()).is_ok(), is_finite);
        if is_finite {
            run.anchor = anchor;
        } else {
            run.model.anchor.fill(0.0);
        }
        Ok(run)
    }

    fn cols(&self) -> usize {
        self.model.in_dim + usize::from(self.model.bias)
    }

    /// One step on a batch that may be broken in any way.
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let parts = BatchParts::draw(input, &self.model)?;
        let batch = parts.batch();
        // Scratch is made once, for the largest batch to come.
        let room = self.scratch_len(&batch, input.int_in_range(0..=4)?);
        let mut scratch = vec![Lanes([f32::NAN; 16]); room];
        let (found, expected) = (self.trainer.step(&batch, &mut scratch), self.model.step(&batch));
        assert_eq!(found, expected, "on {}", self.trainer.adapter().level().name());
        Ok(())
    }

    /// Steps on several batches, with or without room to go ahead, with documents at once or in blocks, on threads or
    /// without.
    fn steps(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let count = input.int_in_range(1..=3)?;
        let parts: Vec<BatchParts> =
            (0..count).map(|_| BatchParts::draw(input, &self.model)).collect::<Result<_>>()?;
        let (dim, block) = (self.model.out_dim, input.int_in_range(1..=20)?);
        let sources: Vec<Stored<'_>> =
            parts.iter().map(|part| Stored { rows: &part.documents, dim }).collect();
        let mut batches: Vec<Batch<'_>> = parts.iter().map(BatchParts::batch).collect();
        for (batch, source) in batches.iter_mut().zip(&sources) {
            if source.rows.len() % dim == 0 && input.arbitrary()? {
                batch.documents = Documents::Blocks { source, block };
            }
        }
        let most = |of: fn(&Batch<'_>, usize) -> usize| batches.iter().map(|b| of(b, dim)).max().unwrap_or(1);
        let (rows, candidates) =
            (most(|batch, _| batch.targets.len().max(1)), most(|b, dim| b.documents.count(dim).max(1)));
        let mut room = streaming_scratch_len(rows, candidates, self.model.in_dim, dim);
        if input.arbitrary()? {
            room += ahead_len(rows, self.model.in_dim, dim);
        }
        let mut scratch = vec![Lanes([f32::NAN; 16]); room];
        let mut found = Vec::new();
        let join = InTurn(input.int_in_range(1..=3)?);
        let outcome = self.trainer.steps(&join, &batches, &mut scratch, |_, report| {
            found.push(Ok(report));
            Ok::<(), Error>(())
        });
        found.extend(outcome.err().map(Err));
        let mut expected = Vec::new();
        for batch in &batches {
            expected.push(self.model.step(batch));
            if expected.last().is_some_and(Result::is_err) {
                break;
            }
        }
        assert_eq!(found, expected, "on {}", self.trainer.adapter().level().name());
        Ok(())
    }

    /// One step in scratch that may be too short.
    fn step_in_short_scratch(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let parts = BatchParts::draw(input, &self.model)?;
        let batch = parts.batch();
        let given = input.int_in_range(0..=self.scratch_len(&batch, 0))?;
        match self.trainer.step(&batch, &mut vec![Lanes([f32::NAN; 16]); given]) {
            Err(Error::Length { what: "scratch", needed, given: found }) => {
                assert!(found == given && given < needed);
            }
            found => assert_eq!(found, self.model.step(&batch)),
        }
        Ok(())
    }

    /// Room for batches of up to `more` rows and candidates more than this one has.
    fn scratch_len(&self, batch: &Batch<'_>, more: usize) -> usize {
        let rows = batch.targets.len().max(1) + more;
        let candidates = batch.documents.count(self.model.out_dim).max(1) + more;
        scratch_len(rows, candidates, self.model.in_dim, self.model.out_dim)
    }

    /// Writes the adapter file and keeps the optimiser's state; `None` when the weight has overflown, which the file
    /// must refuse.
    fn save(&self) -> Result<Option<Saved>> {
        let (in_dim, out_dim, bias) = (self.model.in_dim, self.model.out_dim, self.model.bias);
        let adapter = self.trainer.adapter();
        let query = vec![0.25; in_dim];
        let mut output = vec![0.0; out_dim];
        adapter.apply(&query, &mut output).expect("buffers of the right size");
        let golden_output = if output.iter().all(|x| x.is_finite()) { output } else { vec![0.0; out_dim] };
        let metadata = Metadata { tool: "fuzz", ..Metadata::UNKNOWN };
        let spec = ImageSpec {
            in_dim,
            out_dim,
            bias,
            metadata,
            golden_query: &query,
            golden_output: &golden_output,
        };
        let mut image = vec![0; spec.encoded_len().expect("a good spec")];
        let first_bad = self.model.weight.iter().position(|x| !x.is_finite());
        match (spec.encode(adapter.weight().as_lanes(), &mut image), first_bad) {
            (Ok(length), None) => assert_eq!(length, image.len()),
            (Err(Error::NotFinite { what: "weight", .. }), Some(_)) => return Ok(None),
            (found, _) => panic!("{found:?} of a weight whose first bad element is {first_bad:?}"),
        }
        let trainer = &self.trainer;
        let (m, v, state) = (trainer.m().to_vec(), trainer.v().to_vec(), *trainer.state());
        Ok(Some(Saved { image, m, v, state, model: self.model.clone() }))
    }

    /// Goes on from a file, on any level.
    fn resume(&mut self, input: &mut Unstructured<'_>, saved: &Saved) -> Result<()> {
        let image = Image::parse(&saved.image).expect("what was written can be read");
        image.verify().expect("what was written is sound");
        let mut weight = vec![Lanes([f32::NAN; 16]); image.weights_len()];
        image.copy_weights(&mut weight).expect("a buffer of the right size");
        self.model = saved.model.clone();
        self.trainer = trainer(&self.model, weight, any_level(input)?);
        self.trainer.set_anchor(self.anchor.clone()).expect("its own anchor");
        self.trainer.restore(saved.state, &saved.m, &saved.v).expect("its own state");
        Ok(())
    }

    /// Puts moments and counts of the fuzzer's choice in, which may be refused.
    fn restore(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (out_dim, cols) = (self.model.out_dim, self.cols());
        let mut power = || input.ratio(1, 8).and_then(|any| if any { number(input) } else { Ok(0.5) });
        let (beta1_power, beta2_power) = (power()?, power()?);
        let steps = if input.ratio(1, 8)? { input.arbitrary()? } else { input.int_in_range(0..=9)? };
        let state = OptimizerState { steps, beta1_power, beta2_power };
        let m = numbers(input, self.model.m.len())?;
        let sign: bool = input.ratio(1, 8)?;
        let v = numbers(input, self.model.v.len())?.into_iter().map(|v| if sign { v } else { v.abs() });
        let v: Vec<f32> = v.collect();

        let has_moments = self.model.optimizer.kind.has_moments();
        let moments =
            |values: &[f32]| if has_moments { panels_of(values, out_dim, cols) } else { Vec::new() };
        let (mut m_panels, v_panels) = (moments(&m), moments(&v));
        if input.ratio(1, 16)? {
            m_panels.push(Lanes::ZERO);
            assert!(self.trainer.restore(state, &m_panels, &v_panels).is_err());
            return Ok(());
        }
        let finite = |values: &[f32]| values.iter().all(|x| x.is_finite());
        let is_good = [beta1_power, beta2_power].iter().all(|power| (0.0..=1.0).contains(power))
            && (!has_moments || (finite(&m) && finite(&v) && v.iter().all(|v| *v >= 0.0)));
        assert_eq!(self.trainer.restore(state, &m_panels, &v_panels).is_ok(), is_good);
        if is_good {
            self.model.state = state;
            if has_moments {
                (self.model.m, self.model.v) = (m, v);
            }
        }
        Ok(())
    }

    /// Sets the weight between steps.
    fn set_weight(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (in_dim, cols) = (self.model.in_dim, self.cols());
        let weight = numbers(input, self.model.out_dim * in_dim)?;
        self.trainer.adapter_mut().set_weight(&weight).expect("a buffer of the right size");
        for (row, values) in self.model.weight.chunks_mut(cols).zip(weight.chunks(in_dim)) {
            row[..in_dim].copy_from_slice(values);
        }
        Ok(())
    }

    /// The kernel's run and the model's are in the same state, to the bit.
    fn check(&self) {
        let (model, trainer) = (&self.model, &self.trainer);
        let found = |lanes| row_major(lanes, model.out_dim, self.cols());
        assert_same(&found(trainer.adapter().weight().as_lanes()), &model.weight, "weight");
        if model.optimizer.kind.has_moments() {
            assert_same(&found(trainer.m()), &model.m, "m");
            assert_same(&found(trainer.v()), &model.v, "v");
        }
        let bits =
            |state: &OptimizerState| (state.steps, state.beta1_power.to_bits(), state.beta2_power.to_bits());
        assert_eq!(bits(trainer.state()), bits(&model.state));
    }
}

fn any_level(input: &mut Unstructured<'_>) -> Result<Level> {
    input.choose_iter(Level::available().collect::<Vec<_>>())
}

/// A trainer at the model's settings, its moments at zero.
fn trainer(model: &ReferenceTrainer, weight: Vec<Lanes>, level: Level) -> Trainer<Vec<Lanes>> {
    let moments = if model.optimizer.kind.has_moments() { weight.len() } else { 0 };
    let moments = || vec![Lanes([7.0; 16]); moments];
    let adapter =
        Linear::from_lanes(model.in_dim, model.out_dim, model.bias, weight, level).expect("an adapter");
    Trainer::new(adapter, moments(), moments(), model.scale, model.optimizer, model.schedule)
        .expect("settings in range")
}

/// Settings of the fuzzer's choice, all in range.
fn optimizer(input: &mut Unstructured<'_>) -> Result<Optimizer> {
    let kind = *input.choose(&[OptimizerKind::AdamW, OptimizerKind::Adam, OptimizerKind::Sgd])?;
    let mut optimizer = Optimizer { kind, ..Optimizer::adamw(0.01) };
    if input.arbitrary()? {
        optimizer.lr = *input.choose(&[0.0, 1e-3, 1.0, 1e30])?;
        optimizer.beta1 = *input.choose(&[0.9, 0.0, 0.999_999_94])?;
        optimizer.beta2 = *input.choose(&[0.999, 0.0, 0.999_999_94])?;
        optimizer.eps = *input.choose(&[1e-8, 1e-45, 1.0, f32::MAX])?;
        optimizer.weight_decay = *input.choose(&[0.0, 0.01, 2.0, 1e30])?;
        optimizer.max_norm = *input.choose(&[1.0, f32::INFINITY, 1e-45, 1e30])?;
    }
    optimizer.check().expect("settings in range");
    Ok(optimizer)
}

/// The buffers of a batch.
struct BatchParts {
    queries: Vec<f32>,
    operand: Option<Vec<f32>>,
    documents: Vec<f32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
    mask: Vec<MaskEntry>,
}

impl BatchParts {
    /// A good batch but for numbers, and one time in four some part of a wrong length or out of range.
    fn draw(input: &mut Unstructured<'_>, model: &ReferenceTrainer) -> Result<Self> {
        let largest = if input.ratio(1, 8)? { 34 } else { 10 };
        let (rows, candidates) = (input.int_in_range(1..=largest)?, input.int_in_range(1..=largest)?);
        let queries = numbers(input, rows * model.in_dim)?;
        let operand = if input.ratio(1, 4)? { Some(numbers(input, rows * model.in_dim)?) } else { None };
        let mut documents = numbers(input, candidates * model.out_dim)?;
        if input.ratio(7, 8)? {
            normalize_rows(Level::SCALAR, &mut documents, model.out_dim).expect("whole rows");
        }
        let stride = input.int_in_range(0..=7)?;
        let targets: Vec<u32> = (0..rows).map(|row| ((row * stride) % candidates) as u32).collect();
        let mut weights: Vec<f32> = (0..rows).map(|row| 1.0 / (1 + row % 3) as f32).collect();
        if input.ratio(1, 4)? {
            let row = input.choose_index(rows)?;
            weights[row] = number(input)?;
        }
        let mut mask = Vec::new();
        for _ in 0..input.int_in_range(0..=6)? {
            let panel = input.int_in_range(0..=(rows as u32 - 1) / 16)?;
            let present = (rows - panel as usize * 16).min(16);
            let candidate = input.int_in_range(0..=candidates as u32 - 1)?;
            let own = targets[panel as usize * 16..].iter().take(16).enumerate();
            let own = own.fold(0, |bits, (lane, target)| bits | u16::from(*target == candidate) << lane);
            let lanes = input.arbitrary::<u16>()? & (u16::MAX >> (16 - present)) & !own;
            if lanes != 0 {
                mask.push(MaskEntry { panel, candidate, lanes });
            }
        }
        mask.sort_unstable();
        mask.dedup_by_key(|entry| (entry.panel, entry.candidate));
        let mut parts = Self { queries, operand, documents, targets, weights, mask };
        if input.ratio(1, 4)? {
            parts.break_one(input)?;
        }
        Ok(parts)
    }

    /// Breaks one part.
    fn break_one(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=8)? {
            0 => self.queries.truncate(input.choose_index(self.queries.len())?),
            1 => self.operand = Some(numbers(input, self.queries.len() + 1)?),
            2 => self.documents.truncate(input.choose_index(self.documents.len())?),
            3 => self.targets.truncate(input.choose_index(self.targets.len())?),
            4 => self.weights.push(1.0),
            5 => {
                let row = input.choose_index(self.targets.len())?;
                self.targets[row] = input.arbitrary()?;
            }
            6 => self.mask.push(MaskEntry {
                panel: input.arbitrary::<u8>()?.into(),
                candidate: input.arbitrary::<u8>()?.into(),
                lanes: input.arbitrary()?,
            }),
            7 => self.mask.reverse(),
            _ => self.weights.fill(number(input)?),
        }
        Ok(())
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            queries: &self.queries,
            gradient_operand: self.operand.as_deref(),
            documents: Documents::Rows(&self.documents),
            targets: &self.targets,
            weights: &self.weights,
            mask: &self.mask,
        }
    }
}
