//! Every function of the kernel that a device may call, with arguments of which the compiler knows nothing: the check for
//! panics looks at all that is linked here. It is not run.

#![no_std]
#![no_main]

use core::hint::black_box;

use query_adapter::image::{Image, ImageSpec, Metadata, Payload, Similarity, Training, Validation};
use query_adapter::sample::{Generator, epoch_order, shuffle};
use query_adapter::{
    Anchor, Batch, ByteLanes, Decay, DocumentBlocks, DocumentPanels, Documents, Error, Found, HalfLanes,
    Int8Linear, Lanes, Level, Linear, Mask, MaskEntry, Optimizer, OptimizerKind, OptimizerState, PanelMatrix,
    Schedule, SingleThread, TopK, Trainer, Transform, ahead_len, apply_streamed, cosine_scores, encode_f16,
    encode_int8, encode_int8_adapter, include_adapter, linear_len, math, narrow_f16, norm_form,
    normalize_queries, normalize_rows, offer_block, panel_len, panels, score_documents, scratch_len, search,
    streaming_scratch_len, widen_f16,
};
use query_adapter_programs::succeed;

const LEN: usize = 32;

/// Memory for whatever a call takes.
struct Buffers {
    lanes: [[Lanes; LEN]; 6],
    values: [[f32; LEN]; 4],
    half: [HalfLanes; LEN],
    byte: [ByteLanes; LEN],
    numbers: [u32; LEN],
    found: [Found; LEN],
    entries: [MaskEntry; LEN],
    file: [u8; LEN],
}

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: Buffers = Buffers {
        lanes: [[Lanes::ZERO; LEN]; 6],
        values: [[0.0; LEN]; 4],
        half: [HalfLanes::ZERO; LEN],
        byte: [ByteLanes::ZERO; LEN],
        numbers: [0; LEN],
        found: [Found { score: 0.0, order: 0, document: 0 }; LEN],
        entries: [MaskEntry { panel: 0, candidate: 0, lanes: 0 }; LEN],
        file: [0; LEN],
    };
    let calls = [scalars, matrices, adapters, files, int8, retrieval, sampling, training, long_training];
    for call in calls {
        let _ = black_box(call(black_box(&mut *BUFFERS)));
    }
    succeed()
}

/// A number of which the compiler knows nothing.
fn any<T: Default>() -> T {
    black_box(T::default())
}

/// A slice of whatever length.
fn part<T>(buffer: &mut [T]) -> &mut [T] {
    buffer.get_mut(..any()).unwrap_or_default()
}

fn level() -> Level {
    black_box(Level::baseline())
}

fn scalars(_: &mut Buffers) -> Result<(), Error> {
    black_box((
        math::fma(any(), any(), any()),
        math::sqrt(any()),
        math::max(any(), any()),
        math::min(any(), any()),
    ));
    black_box((math::exp(any()), math::ln(any()), math::cos_pi(any())));
    black_box((widen_f16(any()), narrow_f16(any())));
    black_box((panels(any()), panel_len(any(), any()), linear_len(any(), any(), any())));
    black_box((scratch_len(any(), any(), any(), any()), streaming_scratch_len(any(), any(), any(), any())));
    black_box((ahead_len(any(), any(), any()), norm_form(any(), any())));
    for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
        black_box(Schedule { decay: black_box(decay), warmup: any(), total: any() }.factor(any()));
    }
    Ok(())
}

fn matrices(buffers: &mut Buffers) -> Result<(), Error> {
    let [storage, ..] = &mut buffers.lanes;
    let [values, ..] = &mut buffers.values;
    let mut matrix = PanelMatrix::new(any(), any(), part(storage))?;
    black_box((matrix.set(any(), any(), any()), matrix.get(any(), any())));
    matrix.copy_from_row_major(part(values))?;
    matrix.copy_to_row_major(part(values))?;
    matrix.fill_zero();
    matrix.fill_identity();
    black_box(matrix.as_lanes_mut());
    black_box(matrix.into_storage());
    Ok(())
}

fn adapters(buffers: &mut Buffers) -> Result<(), Error> {
    let [storage, ..] = &mut buffers.lanes;
    let [query, output, ..] = &mut buffers.values;
    let mut adapter = Linear::identity(any(), any(), any(), part(storage), level())?;
    adapter.set_weight(part(query))?;
    adapter.set_bias(part(query))?;
    black_box(adapter.weight_lanes_mut());
    let adapter = Linear::from_lanes(any(), any(), any(), &*part(storage), level())?;
    adapter.copy_weight_to(part(output))?;
    adapter.copy_bias_to(part(output))?;
    adapter.apply(part(query), part(output))?;
    adapter.apply_batch(part(query), part(output))?;
    black_box(adapter.apply_panel(any(), part(query))?);
    Transform::apply_batch(&adapter, part(query), part(output))?;
    black_box(Transform::apply_panel(&adapter, any(), part(query))?);
    apply_streamed(level(), any(), part(query), part(output), part(storage), |panel, buffer| {
        black_box((panel, buffer));
        black_box(Ok::<(), Error>(()))
    })
}

fn files(buffers: &mut Buffers) -> Result<(), Error> {
    let Buffers { lanes: [weights, scales, bias, ..], values: [query, output, ..], byte, file, .. } = buffers;
    let included: &[u8] = black_box(include_adapter!(concat!(env!("OUT_DIR"), "/square.qad")));
    for image in [Image::view(included)?, Image::parse(part(file))?] {
        image.verify()?;
        image.copy_weights(part(weights))?;
        image.copy_int8(part(byte), part(scales), part(bias))?;
        image.copy_golden(part(query), part(output))?;
        image.verify_golden(&image.linear(level())?, part(query))?;
        image.verify_golden(&image.int8(level())?, part(query))?;
        black_box((*image.metadata(), image.weights()?, image.weights_len(), image.dtype().name()));
    }
    for payload in [Payload::view(included)?, Payload::parse(part(file))?] {
        payload.verify()?;
        payload.copy_weights(part(weights))?;
        payload.copy_int8(part(byte), part(scales), part(bias))?;
        black_box((payload.linear(level())?, payload.int8(level())?, payload.weights()?));
    }
    let text = || black_box("text");
    let training = Training {
        recipe: text(),
        optimizer: text(),
        epochs: any(),
        kept_epoch: any(),
        steps: any(),
        batch_size: any(),
        lr: any(),
        scale: any(),
        seed: any(),
        pairs: any(),
        validation: black_box(Some(Validation { base_ndcg_at_10: any(), adapted_ndcg_at_10: any() })),
    };
    let spec = ImageSpec {
        in_dim: any(),
        out_dim: any(),
        bias: any(),
        metadata: Metadata {
            tool: text(),
            base_model: text(),
            query_prefix: text(),
            document_prefix: text(),
            similarity: black_box(Similarity::Cosine),
            normalized: any(),
            training: black_box(Some(training)),
            golden_text: black_box(Some(text())),
            settings: black_box(Some(text())),
        },
        golden_query: part(query),
        golden_output: part(output),
    };
    black_box((spec.encoded_len()?, spec.encode(part(weights), part(file))?, spec.encoded_int8_len()?));
    let adapter = Int8Linear::new(any(), part(byte), part(scales), Some(part(bias)), level())?;
    black_box(spec.encode_int8(&adapter, part(file))?);
    Ok(())
}

fn int8(buffers: &mut Buffers) -> Result<(), Error> {
    let Buffers { lanes: [weights, scales, bias, ..], values: [query, output, ..], half, byte, .. } = buffers;
    encode_f16(part(weights), part(half))?;
    encode_int8(any(), any(), part(weights), part(byte), part(scales))?;
    let adapter = Linear::from_lanes(any(), any(), any(), &*part(weights), level())?;
    encode_int8_adapter(&adapter, part(byte), part(scales), part(bias))?;
    for bias in [Some(&*part(bias)), None] {
        let adapter = Int8Linear::new(any(), part(byte), part(scales), bias, level())?;
        adapter.apply(part(query), part(output))?;
        adapter.apply_batch(part(query), part(output))?;
        black_box(adapter.apply_panel(any(), part(query))?);
    }
    Ok(())
}

fn retrieval(buffers: &mut Buffers) -> Result<(), Error> {
    let Buffers { lanes: [queries, scores, wide, ..], values: [query, documents, ..], .. } = buffers;
    let (half, byte, order, found) = (
        part(&mut buffers.half),
        part(&mut buffers.byte),
        part(&mut buffers.numbers),
        part(&mut buffers.found),
    );
    normalize_rows(level(), part(query), any())?;
    normalize_queries(level(), part(query), any(), part(queries))?;
    score_documents(level(), part(queries), part(documents), any(), part(scores))?;
    cosine_scores(level(), part(query), part(documents), any(), part(queries), part(scores))?;
    let (mut best, mut other) = found.split_at_mut_checked(any()).map_or_else(
        || (TopK::new(&mut []), TopK::new(&mut [])),
        |(a, b)| (TopK::new(a), TopK::with_room(b, any())),
    );
    best.offer(Found { score: any(), order: any(), document: any() })?;
    search(level(), part(query), DocumentPanels::F32(part(wide)), any(), Some(order), &mut best)?;
    search(level(), part(query), DocumentPanels::F16(half), any(), None, &mut best)?;
    let int8 = DocumentPanels::Int8 { values: byte, scales: part(wide) };
    search(level(), part(query), int8, any(), Some(order), &mut other)?;
    let mut both = [best, other];
    offer_block(level(), part(scores), order, any(), part(&mut both))?;
    let [sorted, few] = both;
    black_box((sorted.threshold(), sorted.into_sorted(), few.into_sorted()));
    Ok(())
}

fn sampling(buffers: &mut Buffers) -> Result<(), Error> {
    let mut generator = Generator::for_epoch(any(), any());
    black_box((generator.next_u64(), generator.below(any())));
    shuffle(part(&mut buffers.numbers), &mut generator);
    epoch_order(part(&mut buffers.numbers), any(), any());
    let mut mask = Mask::new(part(&mut buffers.entries));
    mask.insert(any(), any())?;
    black_box(mask.entries());
    mask.clear();
    Ok(())
}

/// Documents made of nothing.
struct Blocks;

impl DocumentBlocks for Blocks {
    fn count(&self) -> usize {
        any()
    }

    fn copy_rows(&self, first: usize, rows: &mut [f32]) {
        black_box((first, rows));
    }
}

/// A trainer of any optimiser and anchor, a batch of any form.
fn with_trainer(
    buffers: &mut Buffers,
    then: impl Fn(&mut Trainer<&mut [Lanes]>, &[Batch<'_>], &mut [Lanes]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Buffers {
        lanes: [w, m, v, anchor, more, scratch],
        values: [queries, operand, documents, weights],
        numbers,
        entries,
        ..
    } = buffers;
    let kind = black_box(OptimizerKind::AdamW);
    let optimizer = Optimizer {
        kind,
        lr: any(),
        beta1: any(),
        beta2: any(),
        eps: any(),
        weight_decay: any(),
        max_norm: any(),
    };
    let schedule = Schedule { decay: black_box(Decay::Cosine), warmup: any(), total: any() };
    let adapter = Linear::identity(any(), any(), any(), part(w), level())?;
    let mut trainer = Trainer::new(adapter, part(m), part(v), any(), optimizer, schedule)?;
    let anchors = [Anchor::Zero, Anchor::Identity, Anchor::Weights(part(anchor))];
    for anchor in anchors {
        trainer.set_anchor(anchor)?;
    }
    trainer.set_anchor(if any() { Anchor::Zero } else { Anchor::Identity })?;
    let state = OptimizerState { steps: any(), beta1_power: any(), beta2_power: any() };
    let moments = &*part(more);
    trainer.restore(state, moments, moments)?;
    let documents: Documents<'_> = if any() {
        Documents::Rows(part(documents))
    } else {
        Documents::Blocks { source: &Blocks, block: any() }
    };
    let batch = Batch {
        queries: part(queries),
        gradient_operand: if any() { Some(&*part(operand)) } else { None },
        documents,
        targets: part(numbers),
        weights: part(weights),
        mask: part(entries),
    };
    then(&mut trainer, black_box(&[batch, batch]), part(scratch))?;
    black_box((trainer.m(), trainer.v(), trainer.adapter().weight(), *trainer.state()));
    Ok(())
}

fn training(buffers: &mut Buffers) -> Result<(), Error> {
    with_trainer(buffers, |trainer, batches, scratch| {
        for batch in batches {
            black_box(trainer.step(batch, scratch)?);
        }
        Ok(())
    })
}

fn long_training(buffers: &mut Buffers) -> Result<(), Error> {
    with_trainer(buffers, |trainer, batches, scratch| {
        trainer.steps(&SingleThread, batches, scratch, |trainer, report| {
            black_box((trainer.state(), report));
            Ok(())
        })
    })
}
