//! The adapter file in int8, byte by byte: what is written, and that everything else is refused.
//!
//! The expected bytes are literals or come from the checksum at the end of this file, never from the code under test.
//! What all adapter files have in common is held by `image_format.rs`.

#![cfg(all(feature = "image", feature = "std"))]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use proptest::prelude::*;
use query_adapter::image::{Dtype, Image, ImageSpec, Kind, Metadata, Similarity, Training, Validation};
use query_adapter::{
    ByteLanes, Error, Int8Linear, Lanes, Level, Linear, encode_int8_adapter, linear_len, panel_len, panels,
};

/// `q' = q + s ∘ (Δ q) + b` with `Δ = [[127, −64], [0, 3]]`, `s = [0.5, 2]` and `b = [0.25, −3]`.
#[rustfmt::skip]
const TINY: [u8; 352] = [
    // Header.
    0x89, b'Q', b'A', b'D', b'P', b'\r', b'\n', 0x1a, // magic
    1, 0,                                           // version
    2,                                              // kind: residual
    3,                                              // dtype: int8
    1, 0, 0, 0,                                     // flags: bias
    2, 0, 0, 0,                                     // in_dim
    2, 0, 0, 0,                                     // out_dim
    0, 0, 0, 0,                                     // rank
    66, 0, 0, 0,                                    // metadata_len
    192, 0, 0, 0,                                   // payload_offset
    0x31, 0x05, 0x8d, 0x13,                         // metadata_crc
    160, 0, 0, 0, 0, 0, 0, 0,                       // payload_len
    0x15, 0x69, 0x40, 0x3f,                         // payload_crc
    0, 0, 0, 0, 0, 0, 0, 0,                         // reserved
    0x67, 0xfc, 0x2a, 0x8e,                         // header_crc

    // Metadata.
    1,                                              // schema
    3, b't', b' ', b'1',                            // tool
    1, b'm',                                        // base_model
    3, b'q', b':', b' ',                            // query_prefix
    0,                                              // document_prefix
    0,                                              // similarity: cosine
    1,                                              // normalized
    1,                                              // training: present
    1, b'r',                                        //   recipe
    5, b'a', b'd', b'a', b'm', b'w',                //   optimizer
    2,                                              //   epochs
    1,                                              //   kept_epoch
    0xac, 0x02,                                     //   steps: 300
    10,                                             //   batch_size
    0x00, 0x00, 0x00, 0x3f,                         //   lr: 0.5
    0x00, 0x00, 0xa0, 0x41,                         //   scale: 20
    42,                                             //   seed
    0xe8, 0x07,                                     //   pairs: 1000
    1,                                              //   validation: present
    0x00, 0x00, 0x00, 0x3f,                         //     base_ndcg_at_10: 0.5
    0x00, 0x00, 0x40, 0x3f,                         //     adapted_ndcg_at_10: 0.75
    8,                                              // golden_query
    0x00, 0x00, 0x00, 0x40,                         //   2
    0x00, 0x00, 0x80, 0x40,                         //   4
    8,                                              // golden_output
    0x00, 0x00, 0xa0, 0x3f,                         //   1.25
    0x00, 0x00, 0xc8, 0x41,                         //   25

    // Zeros up to the next multiple of 64.
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,

    // Payload: the scales, the bias, one panel of two columns; rows 2 to 15 of each zero.
    0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x00, 0x40, // s[0] = 0.5, s[1] = 2
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x00, 0x00, 0x80, 0x3e, 0x00, 0x00, 0x40, 0xc0, // b[0] = 0.25, b[1] = −3
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // Δ[0][0] = 127, Δ[1][0] = 0
    0xc0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // Δ[0][1] = −64, Δ[1][1] = 3
];

const SCALES: usize = 192;
const BIAS: usize = 256;
const VALUES: usize = 320;

const TINY_SPEC: ImageSpec<'static> = ImageSpec {
    in_dim: 2,
    out_dim: 2,
    bias: true,
    metadata: Metadata {
        tool: "t 1",
        base_model: "m",
        query_prefix: "q: ",
        document_prefix: "",
        similarity: Similarity::Cosine,
        normalized: true,
        training: Some(Training {
            recipe: "r",
            optimizer: "adamw",
            epochs: 2,
            kept_epoch: 1,
            steps: 300,
            batch_size: 10,
            lr: 0.5,
            scale: 20.0,
            seed: 42,
            pairs: 1000,
            validation: Some(Validation { base_ndcg_at_10: 0.5, adapted_ndcg_at_10: 0.75 }),
        }),
        golden_text: None,
        settings: None,
    },
    golden_query: &[2.0, 4.0],
    golden_output: &[1.25, 25.0],
};

fn lanes(values: [f32; 2]) -> Lanes {
    let mut lanes = Lanes::ZERO;
    lanes.0[..2].copy_from_slice(&values);
    lanes
}

fn byte_lanes(values: [i8; 2]) -> ByteLanes {
    let mut lanes = ByteLanes::ZERO;
    lanes.0[..2].copy_from_slice(&values);
    lanes
}

/// The parts of the tiny adapter.
struct Parts {
    values: Vec<ByteLanes>,
    scales: Vec<Lanes>,
    bias: Vec<Lanes>,
}

impl Parts {
    fn tiny() -> Self {
        Self {
            values: vec![byte_lanes([127, 0]), byte_lanes([-64, 3])],
            scales: vec![lanes([0.5, 2.0])],
            bias: vec![lanes([0.25, -3.0])],
        }
    }

    fn zero(dim: usize, bias: bool) -> Self {
        Self {
            values: vec![ByteLanes::ZERO; panel_len(dim, dim)],
            scales: vec![Lanes::ZERO; panels(dim)],
            bias: vec![Lanes::ZERO; if bias { panels(dim) } else { 0 }],
        }
    }

    fn adapter(&self, dim: usize, level: Level) -> Int8Linear<'_> {
        let bias = (!self.bias.is_empty()).then_some(&self.bias[..]);
        Int8Linear::new(dim, &self.values, &self.scales, bias, level).unwrap()
    }
}

/// Calls `then` with a copy of `bytes` that begins `shift` bytes after a multiple of 64.
fn with_shift<R>(bytes: &[u8], shift: usize, then: impl FnOnce(&[u8]) -> R) -> R {
    let mut buffer = vec![0; bytes.len() + 128];
    let start = buffer.as_ptr().align_offset(64) + shift;
    let place = &mut buffer[start..start + bytes.len()];
    place.copy_from_slice(bytes);
    then(place)
}

#[test]
fn writes_exactly_these_bytes() {
    let mut out = [0xaa; 400];
    assert_eq!(TINY_SPEC.encoded_int8_len(), Ok(352));
    let parts = Parts::tiny();
    assert_eq!(TINY_SPEC.encode_int8(&parts.adapter(2, Level::baseline()), &mut out), Ok(352));
    for (offset, (found, expected)) in out.iter().zip(TINY).enumerate() {
        assert_eq!(*found, expected, "byte {offset}");
    }
    assert_eq!(out[352..], [0xaa; 48], "bytes past the image are the caller's");
}

#[test]
fn reads_exactly_what_was_written_at_any_address() {
    for shift in 0..64 {
        with_shift(&TINY, shift, |bytes| {
            let image = Image::parse(bytes).unwrap();
            image.verify().unwrap();
            assert_eq!((image.kind(), image.dtype()), (Kind::Residual, Dtype::Int8));
            assert_eq!((image.in_dim(), image.out_dim(), image.has_bias()), (2, 2, true));
            assert_eq!(*image.metadata(), TINY_SPEC.metadata);
            let mut parts = Parts::zero(2, true);
            image.copy_int8(&mut parts.values, &mut parts.scales, &mut parts.bias).unwrap();
            let tiny = Parts::tiny();
            assert_eq!((&parts.values, &parts.scales, &parts.bias), (&tiny.values, &tiny.scales, &tiny.bias));
            for level in Level::available() {
                image.verify_golden(&parts.adapter(2, level), &mut [0.0; 2]).unwrap();
            }
        });
    }
}

#[cfg(target_endian = "little")]
#[test]
fn view_computes_with_what_lies_in_the_image() {
    with_shift(&TINY, 0, |bytes| {
        let image = Image::view(bytes).unwrap();
        for level in Level::available() {
            let adapter = image.int8(level).unwrap();
            assert_eq!(adapter.scales().as_ptr().addr(), bytes[SCALES..].as_ptr().addr());
            assert_eq!(adapter.bias().unwrap().as_ptr().addr(), bytes[BIAS..].as_ptr().addr());
            assert_eq!(adapter.values().as_ptr().addr(), bytes[VALUES..].as_ptr().addr());
            image.verify_golden(&adapter, &mut [0.0; 2]).unwrap();
        }
    });
    for shift in 1..64 {
        with_shift(&TINY, shift, |bytes| {
            let misaligned = Error::Misaligned { offset: shift };
            assert_eq!(Image::view(bytes).unwrap_err(), misaligned);
            let image = Image::parse(bytes).unwrap();
            assert!(matches!(image.int8(Level::baseline()), Err(Error::Misaligned { .. })));
        });
    }
}

#[test]
fn an_adapter_is_not_opened_as_what_it_is_not() {
    let image = Image::parse(&TINY).unwrap();
    let stored = Error::StoredAs { dtype: "int8" };
    assert_eq!(image.weights(), Err(stored));
    assert_eq!(image.copy_weights(&mut [Lanes::ZERO; 3]), Err(stored));
    assert_eq!(image.linear(Level::baseline()).err(), Some(stored));

    let spec = ImageSpec { golden_output: &[2.25, 1.0], ..TINY_SPEC };
    let mut dense = vec![0; spec.encoded_len().unwrap()];
    spec.encode(&[Lanes::ZERO; 3], &mut dense).unwrap();
    let image = Image::parse(&dense).unwrap();
    let stored = Error::StoredAs { dtype: "f32" };
    assert_eq!(image.int8(Level::baseline()).err(), Some(stored));
    let mut parts = Parts::zero(2, true);
    assert_eq!(image.copy_int8(&mut parts.values, &mut parts.scales, &mut parts.bias), Err(stored));
}

#[test]
fn hex_dump_of_the_documentation_is_this_image() {
    let page = include_str!("../../docs/adapter-format.md");
    let dump = page.split("```hexdump\n").nth(2).unwrap().split("```").next().unwrap();
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, row) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), bytes.len());
        bytes.extend(row.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    assert_eq!(bytes, TINY);
}

#[test]
fn rejects_every_truncation_and_every_flipped_bit() {
    for given in 0..TINY.len() {
        let needed = if given < 64 { 64 } else { 352 };
        assert_eq!(refusal(&TINY[..given]), Error::ImageLength { needed, given });
    }
    for offset in 0..TINY.len() {
        for bit in 0..8 {
            let mut bytes = TINY;
            bytes[offset] ^= 1 << bit;
            let error = refusal(&bytes);
            match offset {
                0..8 => assert_eq!(error, Error::Magic),
                8..10 => assert!(matches!(error, Error::Version { .. }), "{error:?}"),
                10..64 => assert!(matches!(error, Error::Checksum { part: "header", .. }), "{error:?}"),
                64..130 => assert!(matches!(error, Error::Checksum { part: "metadata", .. }), "{error:?}"),
                130..192 => assert_eq!(error, Error::Padding { offset }),
                _ => assert!(matches!(error, Error::Checksum { part: "payload", .. }), "{error:?}"),
            }
        }
    }
}

#[test]
fn rejects_header_fields_that_are_wrong_though_their_checksum_is_right() {
    let header = |field, found| Error::Header { field, found };
    let cases: &[(usize, &[u8], Error)] = &[
        (10, &[1], header("dtype", 3)), // dense is f32
        (10, &[3], header("kind", 3)),
        (11, &[1], header("dtype", 1)), // a residual is int8
        (11, &[2], header("dtype", 2)),
        (12, &[0], header("payload_len", 160)), // without bias there are 96
        (16, &[3], header("out_dim", 2)),       // a residual is square
        (20, &[3], header("out_dim", 3)),
        (40, &[192], header("payload_len", 192)),
    ];
    for &(offset, value, expected) in cases {
        let mut bytes = TINY;
        bytes[offset..offset + value.len()].copy_from_slice(value);
        seal(&mut bytes);
        assert_eq!(refusal(&bytes), expected, "offset {offset}, value {value:?}");
    }
}

#[test]
fn rejects_a_payload_that_was_written_wrongly_though_its_checksum_is_right() {
    let f32_at = |at: usize, value: f32| (at, value.to_le_bytes().to_vec());
    let padding = |offset| Error::Padding { offset };
    let cases = [
        (f32_at(SCALES + 4, f32::NAN), Error::NotFinite { what: "scale", row: 1 }),
        (f32_at(SCALES, f32::INFINITY), Error::NotFinite { what: "scale", row: 0 }),
        (f32_at(SCALES, -0.5), Error::Range { what: "scale", row: 0 }),
        (f32_at(SCALES + 4, -0.0), Error::Range { what: "scale", row: 1 }),
        (f32_at(SCALES + 8, 1.0), padding(SCALES + 8)),
        (f32_at(BIAS + 4, f32::NEG_INFINITY), Error::NotFinite { what: "bias", row: 1 }),
        (f32_at(BIAS + 60, -0.0), padding(BIAS + 60)),
        ((VALUES + 1, vec![0x80]), Error::Range { what: "value", row: 1 }),
        ((VALUES + 16, vec![0x80]), Error::Range { what: "value", row: 0 }),
        ((VALUES + 2, vec![1]), padding(VALUES + 2)),
        ((VALUES + 31, vec![0x80]), padding(VALUES + 31)),
    ];
    for ((at, value), expected) in cases {
        let mut bytes = TINY;
        bytes[at..at + value.len()].copy_from_slice(&value);
        seal(&mut bytes);
        assert_eq!(refusal(&bytes), expected, "byte {at}");
    }
}

#[test]
fn what_may_not_stand_in_a_file_is_not_written() {
    let level = Level::baseline();
    let refuse = |spec: &ImageSpec<'_>, parts: &Parts, room: usize, expected: Error| {
        let mut out = vec![0x55; room];
        assert_eq!(spec.encode_int8(&parts.adapter(2, level), &mut out), Err(expected));
        assert!(out.iter().all(|&byte| byte == 0x55), "written in spite of {expected:?}");
    };
    let good = Parts::tiny;
    for given in 0..352 {
        refuse(&TINY_SPEC, &good(), given, Error::ImageLength { needed: 352, given });
    }
    let length = |what, needed, given| Error::Length { what, needed, given };
    let wide = ImageSpec { out_dim: 3, golden_output: &[0.0; 3], ..TINY_SPEC };
    refuse(&wide, &good(), 400, length("out_dim", 2, 3));
    let other =
        ImageSpec { in_dim: 3, out_dim: 3, golden_query: &[0.0; 3], golden_output: &[0.0; 3], ..TINY_SPEC };
    refuse(&other, &good(), 400, length("values", 3, 2));
    refuse(&ImageSpec { bias: false, ..TINY_SPEC }, &good(), 400, length("bias", 0, 1));
    refuse(&TINY_SPEC, &Parts { bias: vec![], ..good() }, 400, length("bias", 1, 0));
    let scales = |scales| Parts { scales: vec![lanes(scales)], ..good() };
    refuse(&TINY_SPEC, &scales([1.0, f32::NAN]), 400, Error::NotFinite { what: "scale", row: 1 });
    refuse(&TINY_SPEC, &scales([-1.0, 1.0]), 400, Error::Range { what: "scale", row: 0 });
    let values = vec![byte_lanes([1, 1]), byte_lanes([1, -128])];
    refuse(&TINY_SPEC, &Parts { values, ..good() }, 400, Error::Range { what: "value", row: 1 });
    let bias = vec![lanes([f32::INFINITY, 0.0])];
    refuse(&TINY_SPEC, &Parts { bias, ..good() }, 400, Error::NotFinite { what: "bias", row: 0 });
}

#[test]
fn copies_need_buffers_of_the_right_size_and_leave_others_alone() {
    let image = Image::parse(&TINY).unwrap();
    let mut parts = Parts::zero(2, true);
    let length = |what, needed, given| Err(Error::Length { what, needed, given });
    let Parts { values, scales, bias } = &mut parts;
    assert_eq!(image.copy_int8(&mut values[1..], scales, bias), length("values", 2, 1));
    assert_eq!(image.copy_int8(values, &mut scales[1..], bias), length("scales", 1, 0));
    assert_eq!(image.copy_int8(values, scales, &mut bias[1..]), length("bias", 1, 0));
    assert!(values.iter().all(|column| *column == ByteLanes::ZERO) && scales[0] == Lanes::ZERO);
}

#[test]
fn golden_pair_names_the_first_element_that_differs_by_a_bit() {
    let dim = 35;
    let parts = Parts::zero(dim, true);
    let query: Vec<f32> = (1u8..).map(f32::from).take(dim).collect();
    let spec =
        ImageSpec { in_dim: dim, out_dim: dim, golden_query: &query, golden_output: &query, ..TINY_SPEC };
    let mut file = vec![0; spec.encoded_int8_len().unwrap()];
    spec.encode_int8(&parts.adapter(dim, Level::baseline()), &mut file).unwrap();
    let image = Image::parse(&file).unwrap();
    image.verify_golden(&parts.adapter(dim, Level::baseline()), &mut vec![0.0; dim]).unwrap();
    for row in 0..dim {
        let mut changed = Parts::zero(dim, true);
        changed.bias[row / 16].0[row % 16] = 1.0;
        let adapter = changed.adapter(dim, Level::baseline());
        assert_eq!(image.verify_golden(&adapter, &mut vec![0.0; dim]), Err(Error::Golden { index: row }));
    }
}

proptest! {
    #[test]
    fn encoding_what_was_read_gives_the_same_bytes_and_outputs(
        (dim, bias, shift) in (1usize..40, any::<bool>(), 0usize..64),
        weights in proptest::collection::vec(-4f32..4.0, 40 * 41),
    ) {
        let mut storage = vec![Lanes::ZERO; linear_len(dim, dim, bias)];
        let mut dense = Linear::identity(dim, dim, bias, &mut storage[..], Level::baseline()).unwrap();
        dense.set_weight(&weights[..dim * dim]).unwrap();
        if bias {
            dense.set_bias(&weights[40 * 40..40 * 40 + dim]).unwrap();
        }
        let mut parts = Parts::zero(dim, true);
        encode_int8_adapter(&dense, &mut parts.values, &mut parts.scales, &mut parts.bias).unwrap();
        parts.bias.truncate(if bias { panels(dim) } else { 0 });
        let adapter = parts.adapter(dim, Level::baseline());
        let query = &weights[..dim];
        let mut output = vec![0.0; dim];
        adapter.apply(query, &mut output).unwrap();
        let spec = ImageSpec {
            in_dim: dim, out_dim: dim, bias, golden_query: query, golden_output: &output, ..TINY_SPEC
        };
        let mut first = vec![0x55; spec.encoded_int8_len().unwrap()];
        prop_assert_eq!(spec.encode_int8(&adapter, &mut first), Ok(first.len()));

        let read = with_shift(&first, shift, |bytes| {
            let image = Image::parse(bytes).unwrap();
            image.verify().unwrap();
            let mut read = Parts::zero(dim, bias);
            image.copy_int8(&mut read.values, &mut read.scales, &mut read.bias).unwrap();
            for level in Level::available() {
                image.verify_golden(&read.adapter(dim, level), &mut vec![0.0; dim]).unwrap();
            }
            read
        });
        let mut second = vec![0xaa; first.len()];
        spec.encode_int8(&read.adapter(dim, Level::baseline()), &mut second).unwrap();
        prop_assert_eq!(first, second);
    }
}

/// Why an image is refused, when it is opened or when its weights are verified.
fn refusal(bytes: &[u8]) -> Error {
    Image::parse(bytes).and_then(|image| image.verify()).unwrap_err()
}

/// Puts the checksums of payload and header right.
fn seal(bytes: &mut [u8]) {
    let crc = crc32(&bytes[SCALES..]);
    bytes[48..52].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

/// CRC-32/ISO-HDLC, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}
