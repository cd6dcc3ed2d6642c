//! What C can get wrong is answered by a code, and the memory is as it was.
#![expect(unsafe_code, reason = "the functions of a C interface")]

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;

use query_adapter::image::{Image, ImageSpec, Metadata};
use query_adapter::{ByteLanes, Int8Linear, Lanes, Level, linear_len, panel_len, panels};
use query_adapter_ffi::*;

const DIM: usize = 20;
const LEN: usize = linear_len(DIM, DIM, true);

/// An adapter file at a multiple of 64: the identity.
fn file() -> (Vec<QadLanes>, usize) {
    let mut weights = vec![QadLanes { rows: [0.0; 16] }; LEN];
    // SAFETY: as many elements as is said.
    assert_eq!(unsafe { qad_set_identity(weights.as_mut_ptr(), LEN, DIM, DIM, true) }, QAD_OK);
    let weights: Vec<Lanes> = weights.iter().map(|lanes| Lanes(lanes.rows)).collect();
    let spec = ImageSpec {
        in_dim: DIM,
        out_dim: DIM,
        bias: true,
        metadata: Metadata { tool: "test", normalized: true, ..Metadata::UNKNOWN },
        golden_query: &[0.5; DIM],
        golden_output: &[0.5; DIM],
    };
    let mut bytes = vec![0; spec.encoded_len().expect("a length")];
    let length = spec.encode(&weights, &mut bytes).expect("an image");
    let mut lanes = vec![QadLanes { rows: [0.0; 16] }; length.div_ceil(64)];
    for (place, bytes) in lanes.iter_mut().flat_map(|lanes| &mut lanes.rows).zip(bytes.as_chunks::<4>().0) {
        *place = f32::from_ne_bytes(*bytes);
    }
    (lanes, length)
}

fn unopened() -> QadAdapter {
    QadAdapter {
        weight: ptr::null(),
        image: ptr::null(),
        image_len: 0,
        in_dim: DIM,
        out_dim: DIM,
        bias: true,
        dtype: QAD_F32,
    }
}

/// The same adapter in int8.
fn int8_file() -> (Vec<QadLanes>, usize) {
    let (file, len) = file();
    let bytes: Vec<u8> =
        file.iter().flat_map(|lanes| lanes.rows).flat_map(f32::to_ne_bytes).take(len).collect();
    let image = Image::parse(&bytes).expect("an image");
    let zero = [Lanes::ZERO; panels(DIM)];
    let mut bias = zero;
    bias[1].0[3] = 0.25;
    let values = [ByteLanes::ZERO; panel_len(DIM, DIM)];
    let adapter = Int8Linear::new(DIM, &values, &zero, Some(&bias), Level::baseline()).expect("an adapter");
    let (query, mut output) = ([0.5; DIM], [0.5; DIM]);
    output[19] += 0.25;
    let spec = ImageSpec {
        in_dim: DIM,
        out_dim: DIM,
        bias: true,
        metadata: *image.metadata(),
        golden_query: &query,
        golden_output: &output,
    };
    let mut bytes = vec![0; spec.encoded_int8_len().expect("a length")];
    let length = spec.encode_int8(&adapter, &mut bytes).expect("an image");
    let mut lanes = vec![QadLanes { rows: [0.0; 16] }; length.div_ceil(64)];
    for (place, bytes) in lanes.iter_mut().flat_map(|lanes| &mut lanes.rows).zip(bytes.as_chunks::<4>().0) {
        *place = f32::from_ne_bytes(*bytes);
    }
    (lanes, length)
}

#[test]
fn an_adapter_in_int8_is_opened_in_place_and_applied() {
    let (file, len) = int8_file();
    let bytes = file.as_ptr().cast::<u8>();
    let mut adapter = unopened();
    let (mut scratch, mut output) = ([0.0; DIM], [9.0; DIM]);
    let mut query: [f32; DIM] = core::array::from_fn(|i| i as f32 - 3.5);
    let mut weight = vec![QadLanes { rows: [0.0; 16] }; LEN];
    // SAFETY: every pointer points to as many elements as is said.
    unsafe {
        assert_eq!(qad_open_copy(bytes, len, weight.as_mut_ptr(), LEN, &mut adapter), QAD_STORED_AS);
        assert_eq!(qad_open(bytes, len, &mut adapter), QAD_OK);
        assert_eq!(adapter.dtype, QAD_INT8);
        assert_eq!(qad_verify(&adapter, scratch.as_mut_ptr(), DIM), QAD_OK);
        let itself = (&raw mut adapter).cast::<f32>();
        assert_eq!(qad_verify(&adapter, itself, 2), QAD_OVERLAP);
        assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM, output.as_mut_ptr(), DIM), QAD_OK);
        query[19] += 0.25;
        assert_eq!(output, query);
        // The last of its values is memory that an output must not lie in.
        let inside = bytes.cast_mut().add(len - 4 * DIM).cast::<f32>();
        assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM, inside, DIM), QAD_OVERLAP);
        let unknown = QadAdapter { dtype: 9, ..adapter };
        assert_eq!(qad_apply(&unknown, query.as_ptr(), DIM, output.as_mut_ptr(), DIM), QAD_SETTING);
    }
}

#[test]
fn an_adapter_is_opened_in_place_or_copied_and_gives_the_same() {
    let (file, len) = file();
    let bytes = file.as_ptr().cast::<u8>();
    let (mut in_place, mut copied) = (unopened(), unopened());
    let mut weight = vec![QadLanes { rows: [0.0; 16] }; LEN];
    let query: [f32; DIM] = core::array::from_fn(|i| i as f32 - 3.5);
    let mut scratch = [0.0; DIM];
    // SAFETY: every pointer points to as many elements as is said.
    unsafe {
        assert_eq!(qad_open(bytes, len, &mut in_place), QAD_OK);
        assert_eq!(qad_open_copy(bytes, len, weight.as_mut_ptr(), LEN, &mut copied), QAD_OK);
        for adapter in [in_place, copied] {
            assert_eq!(qad_verify(&adapter, scratch.as_mut_ptr(), DIM), QAD_OK);
            let mut output = [9.0; DIM];
            assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM, output.as_mut_ptr(), DIM), QAD_OK);
            assert_eq!(output, query);
        }
        let queries = [query, query].concat();
        let mut outputs = [9.0; 2 * DIM];
        assert_eq!(
            qad_apply_batch(&in_place, queries.as_ptr(), 2 * DIM, outputs.as_mut_ptr(), 2 * DIM),
            QAD_OK
        );
        assert_eq!(outputs[..], queries);
    }
}

#[test]
fn a_damaged_file_is_refused_by_its_fault() {
    let (mut file, len) = file();
    let mut adapter = unopened();
    let mut scratch = [0.0; DIM];
    // SAFETY: every pointer points to as many elements as is said.
    unsafe {
        let bytes = file.as_mut_ptr().cast::<u8>();
        assert_eq!(qad_open(bytes, len - 1, &mut adapter), QAD_IMAGE_LENGTH);
        assert_eq!(qad_open(bytes, 0, &mut adapter), QAD_IMAGE_LENGTH);
        *bytes ^= 1;
        assert_eq!(qad_open(bytes, len, &mut adapter), QAD_MAGIC);
        *bytes ^= 1;
        *bytes.add(8) ^= 2;
        assert_eq!(qad_open(bytes, len, &mut adapter), QAD_VERSION);
        *bytes.add(8) ^= 2;
        *bytes.add(20) ^= 1;
        assert_eq!(qad_open(bytes, len, &mut adapter), QAD_CHECKSUM);
        *bytes.add(20) ^= 1;
        assert!(adapter.weight.is_null());
        *bytes.add(len - 1) ^= 1;
        assert_eq!(qad_open(bytes, len, &mut adapter), QAD_OK);
        assert_eq!(qad_verify(&adapter, scratch.as_mut_ptr(), DIM), QAD_CHECKSUM);
        let moved: Vec<u8> = core::slice::from_raw_parts(bytes, len).to_vec();
        let mut shifted = vec![QadLanes { rows: [0.0; 16] }; file.len() + 1];
        let place = shifted.as_mut_ptr().cast::<u8>().add(4);
        ptr::copy_nonoverlapping(moved.as_ptr(), place, len);
        assert_eq!(qad_open(place, len, &mut adapter), QAD_MISALIGNED);
    }
}

#[test]
fn null_short_misaligned_and_overlapping_memory_is_refused() {
    let (file, len) = file();
    let mut adapter = unopened();
    let mut query = [1.0_f32; DIM + 1];
    let mut output = [9.0; DIM];
    // SAFETY: what is refused is not followed; all else points to as many elements as is said.
    unsafe {
        let bytes = file.as_ptr().cast::<u8>();
        assert_eq!(qad_open(ptr::null(), len, &mut adapter), QAD_NULL);
        assert_eq!(qad_open(bytes, len, ptr::null_mut()), QAD_NULL);
        assert_eq!(qad_open(bytes, usize::MAX, &mut adapter), QAD_LENGTH);
        assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM, output.as_mut_ptr(), DIM), QAD_NULL);
        assert_eq!(qad_open(bytes, len, &mut adapter), QAD_OK);
        let pointer = output.as_mut_ptr();
        assert_eq!(qad_apply(ptr::null(), query.as_ptr(), DIM, pointer, DIM), QAD_NULL);
        assert_eq!(qad_apply(&adapter, ptr::null(), DIM, pointer, DIM), QAD_NULL);
        assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM, ptr::null_mut(), DIM), QAD_NULL);
        assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM - 1, pointer, DIM), QAD_LENGTH);
        assert_eq!(qad_apply(&adapter, query.as_ptr(), DIM, pointer, DIM - 1), QAD_LENGTH);
        assert_eq!(qad_apply_batch(&adapter, query.as_ptr(), DIM + 1, pointer, DIM), QAD_LENGTH);
        let odd = query.as_ptr().byte_add(1);
        assert_eq!(qad_apply(&adapter, odd, DIM, pointer, DIM), QAD_MISALIGNED);
        let shared = query.as_mut_ptr();
        assert_eq!(qad_apply(&adapter, shared, DIM, shared.add(1), DIM), QAD_OVERLAP);
        assert_eq!(output, [9.0; DIM]);
        let wild = QadAdapter { in_dim: usize::MAX, ..adapter };
        assert_eq!(qad_apply(&wild, shared, usize::MAX, pointer, DIM), QAD_LENGTH);
        assert_eq!(qad_apply_batch(&wild, shared, DIM, pointer, DIM), QAD_DIMENSION);
        assert_eq!(qad_normalize_rows(shared, DIM + 1, DIM), QAD_LENGTH);
        assert_eq!(qad_normalize_rows(shared, DIM, 0), QAD_DIMENSION);
    }
}

#[test]
fn documents_that_do_not_fit_are_refused() {
    let rows = [0.6_f32, 0.8, 1.0, 0.0];
    let mut panels = [QadLanes { rows: [0.0; 16] }; 2];
    let mut best = [QadFound { score: 9.0, order: 9, document: 9 }; 2];
    let mut found = 7;
    // SAFETY: what is refused is not followed; all else points to as many elements as is said.
    unsafe {
        assert_eq!(qad_panels_from_rows(rows.as_ptr(), 4, 2, panels.as_mut_ptr(), 1), QAD_LENGTH);
        assert_eq!(qad_panels_from_rows(rows.as_ptr(), 4, 0, panels.as_mut_ptr(), 2), QAD_DIMENSION);
        assert_eq!(qad_panels_from_rows(rows.as_ptr(), 4, 2, panels.as_mut_ptr(), 2), QAD_OK);
        let good = QadDocuments {
            dtype: QAD_F32,
            values: panels.as_ptr().cast(),
            scales: ptr::null(),
            count: 2,
            dim: 2,
        };
        let query = [0.0_f32, 1.0];
        let mut search = |documents: &QadDocuments, query: *const f32, len| {
            qad_search(documents, query, len, ptr::null(), best.as_mut_ptr(), 2, &mut found)
        };
        assert_eq!(search(&good, query.as_ptr(), 1), QAD_LENGTH);
        assert_eq!(search(&good, ptr::null(), 2), QAD_NULL);
        assert_eq!(search(&QadDocuments { values: ptr::null(), ..good }, query.as_ptr(), 2), QAD_NULL);
        assert_eq!(search(&QadDocuments { dtype: 9, ..good }, query.as_ptr(), 2), QAD_SETTING);
        assert_eq!(search(&QadDocuments { dtype: QAD_INT8, ..good }, query.as_ptr(), 2), QAD_NULL);
        assert_eq!(search(&QadDocuments { count: usize::MAX, ..good }, query.as_ptr(), 2), QAD_LENGTH);
        assert_eq!(search(&good, query.as_ptr(), 2), QAD_OK);
    }
    assert_eq!((found, best[0].document, best[0].score), (2, 0, 0.8));
}

#[test]
fn a_trainer_that_is_not_open_or_was_moved_is_refused() {
    let mut weight = vec![QadLanes { rows: [0.0; 16] }; LEN];
    let (mut m, mut v) = (weight.clone(), weight.clone());
    let scratch_len = qad_scratch_len(2, 2, DIM, DIM);
    let mut scratch = vec![QadLanes { rows: [0.0; 16] }; scratch_len];
    let (queries, documents): ([f32; 2 * DIM], [f32; 2 * DIM]) =
        (core::array::from_fn(|i| (i % 7) as f32), core::array::from_fn(|i| 0.1 * (i % 3) as f32));
    let (targets, weights) = ([0_u32, 1], [1.0_f32; 2]);
    let batch = QadBatch {
        queries: queries.as_ptr(),
        documents: documents.as_ptr(),
        targets: targets.as_ptr(),
        weights: weights.as_ptr(),
        rows: 2,
        candidates: 2,
    };
    let mut trainer = QadTrainer { opaque: [MaybeUninit::new(0); QAD_TRAINER_WORDS] };
    let mut adapter = unopened();
    let mut report = QadReport::default();
    // SAFETY: what is refused is not followed; all else points to as many elements as is said.
    unsafe {
        let (w, m, v) = (weight.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr());
        let place = scratch.as_mut_ptr();
        assert_eq!(qad_set_identity(w, LEN, DIM, DIM, true), QAD_OK);
        assert_eq!(qad_trainer_step(&mut trainer, &batch, place, scratch_len, &mut report), QAD_NULL);
        assert_eq!(qad_trainer_adapter(&mut trainer, &mut adapter), QAD_NULL);
        let settings = qad_training_defaults(0.01);
        let bad = QadTraining { beta1: 2.0, ..settings };
        assert_eq!(qad_trainer_open(&mut trainer, DIM, DIM, true, w, m, v, &bad), QAD_SETTING);
        let bad = QadTraining { optimizer: 7, ..settings };
        assert_eq!(qad_trainer_open(&mut trainer, DIM, DIM, true, w, m, v, &bad), QAD_SETTING);
        assert_eq!(qad_trainer_open(&mut trainer, DIM, DIM, true, w, m, m, &settings), QAD_OVERLAP);
        assert_eq!(qad_trainer_open(&mut trainer, DIM, 0, true, w, m, v, &settings), QAD_DIMENSION);
        assert_eq!(qad_trainer_open(&mut trainer, DIM, DIM, true, w, m, v, &settings), QAD_OK);
        assert_eq!(qad_trainer_step(&mut trainer, &batch, place, scratch_len, &mut report), QAD_OK);
        assert!(report.loss > 0.0);
        assert_eq!(qad_trainer_step(&mut trainer, &batch, place, 3, ptr::null_mut()), QAD_LENGTH);
        assert_eq!(qad_trainer_step(&mut trainer, &batch, w, LEN, ptr::null_mut()), QAD_OVERLAP);
        let wrong = [5_u32, 0];
        let bad = QadBatch { targets: wrong.as_ptr(), ..batch };
        assert_eq!(qad_trainer_step(&mut trainer, &bad, place, scratch_len, &mut report), QAD_TARGET);
        let bad = QadBatch { rows: usize::MAX, ..batch };
        assert_eq!(qad_trainer_step(&mut trainer, &bad, place, scratch_len, &mut report), QAD_LENGTH);
        assert_eq!(qad_trainer_adapter(&mut trainer, &mut adapter), QAD_OK);
        assert_eq!((adapter.in_dim, adapter.out_dim, adapter.bias), (DIM, DIM, true));
        let mut elsewhere = QadTrainer { opaque: trainer.opaque };
        assert_eq!(qad_trainer_adapter(&mut elsewhere, &mut adapter), QAD_NULL);
    }
}

#[test]
fn every_code_has_a_text_and_other_numbers_too() {
    let text = |code| {
        // SAFETY: the text is in the program, and ends with a zero.
        unsafe { CStr::from_ptr(qad_error_text(code)) }.to_str().unwrap().to_owned()
    };
    let texts: Vec<String> = (QAD_OK..=QAD_STORED_AS).map(text).collect();
    for (i, one) in texts.iter().enumerate() {
        assert!(!one.is_empty() && texts.iter().skip(i + 1).all(|other| other != one), "{one}");
    }
    assert_eq!(text(-1), text(1000));
    assert!(!texts.contains(&text(-1)));
}

#[test]
fn the_header_s_sizes_are_the_kernel_s() {
    assert_eq!(qad_weight_len(DIM, DIM, true), LEN);
    assert_eq!(qad_weight_len(usize::MAX, usize::MAX, true), usize::MAX);
    assert_eq!(qad_scratch_len(8, 8, 128, 128), query_adapter::scratch_len(8, 8, 128, 128));
    assert_eq!(qad_scratch_len(usize::MAX, usize::MAX, usize::MAX, usize::MAX), usize::MAX);
    // The macro of the header, which has no square root: the same for Gram shapes, enough for the others.
    let panels = |rows: usize| rows.div_ceil(16);
    for (rows, candidates, in_dim, out_dim) in (1..40).flat_map(|n| {
        [(n, n, 16, 16), (n, 9 * n, 128, 40), (17, n, n, n), (n, 5, 383, 383), (40_000, n, 1, 1)]
    }) {
        let gram = rows * rows <= 8 * in_dim;
        let by_macro = panels(rows)
            * (2 * out_dim + candidates + candidates.min(128) + in_dim + 1 + QAD_QUERY_STATE_LEN)
            + (panels(in_dim) + panels(out_dim)) * rows
            + if gram { 0 } else { panels(out_dim) * (in_dim + 2) };
        let needed = qad_scratch_len(rows, candidates, in_dim, out_dim);
        assert!(
            by_macro >= needed && (!gram || by_macro == needed),
            "{rows} {candidates} {in_dim} {out_dim}"
        );
    }
}
