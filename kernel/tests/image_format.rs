//! The adapter file, byte by byte: what is written, and that everything else is refused.
//!
//! The expected bytes here are literals or come from the small encoder and checksum at the end of this file, never from
//! the code under test.

#![cfg(feature = "image")]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use proptest::prelude::*;
use query_adapter::image::{
    Dtype, Image, ImageSpec, Kind, MAX_METADATA_LEN, Metadata, Similarity, Training, Validation,
};
use query_adapter::{Error, Lanes, linear_len};

/// `q' = W q + b` with `W = [[1, 2], [0.5, −1]]` and `b = [0.25, −3]`.
#[rustfmt::skip]
const TINY: [u8; 384] = [
    // Header.
    0x89, b'Q', b'A', b'D', b'P', b'\r', b'\n', 0x1a, // magic
    1, 0,                                           // version
    1,                                              // kind: dense
    1,                                              // dtype: f32
    1, 0, 0, 0,                                     // flags: bias
    2, 0, 0, 0,                                     // in_dim
    2, 0, 0, 0,                                     // out_dim
    0, 0, 0, 0,                                     // rank
    66, 0, 0, 0,                                    // metadata_len
    192, 0, 0, 0,                                   // payload_offset
    0xef, 0x34, 0x28, 0x82,                         // metadata_crc
    192, 0, 0, 0, 0, 0, 0, 0,                       // payload_len
    0x0b, 0x1c, 0x85, 0x9b,                         // payload_crc
    0, 0, 0, 0, 0, 0, 0, 0,                         // reserved
    0x08, 0xf8, 0xe3, 0xfa,                         // header_crc

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
    0x00, 0x00, 0x24, 0x41,                         //   10.25
    0x00, 0x00, 0xc0, 0xc0,                         //   −6

    // Zeros up to the next multiple of 64.
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,

    // Payload: one panel of three columns, rows 2 to 15 of each zero.
    0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0x3f, // W[0][0] = 1, W[1][0] = 0.5
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x80, 0xbf, // W[0][1] = 2, W[1][1] = −1
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x00, 0x00, 0x80, 0x3e, 0x00, 0x00, 0x40, 0xc0, // b[0] = 0.25, b[1] = −3
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

const TINY_METADATA: core::ops::Range<usize> = 64..130;
const TINY_PADDING: core::ops::Range<usize> = 130..192;
const TINY_PAYLOAD: core::ops::Range<usize> = 192..384;

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
    golden_output: &[10.25, -6.0],
};

fn tiny_weights() -> [Lanes; 3] {
    [[1.0, 0.5], [2.0, -1.0], [0.25, -3.0]].map(|column| {
        let mut lanes = Lanes::ZERO;
        lanes.0[..2].copy_from_slice(&column);
        lanes
    })
}

#[test]
fn writes_exactly_these_bytes() {
    let mut out = [0xaa; 400];
    assert_eq!(TINY_SPEC.encoded_len(), Ok(384));
    assert_eq!(TINY_SPEC.encode(&tiny_weights(), &mut out), Ok(384));
    for (offset, (found, expected)) in out.iter().zip(TINY).enumerate() {
        assert_eq!(*found, expected, "byte {offset}");
    }
    assert_eq!(out[384..], [0xaa; 16], "bytes past the image are the caller's");
}

#[test]
fn reads_exactly_what_was_written() {
    let image = Image::parse(&TINY).unwrap();
    image.verify().unwrap();
    assert_eq!((image.kind(), image.dtype()), (Kind::Dense, Dtype::F32));
    assert_eq!((image.in_dim(), image.out_dim(), image.has_bias()), (2, 2, true));
    assert_eq!(*image.metadata(), TINY_SPEC.metadata);
    let (mut query, mut output) = ([0.0; 2], [0.0; 2]);
    image.copy_golden(&mut query, &mut output).unwrap();
    assert_eq!((query, output), ([2.0, 4.0], [10.25, -6.0]));
    let mut weights = [Lanes::ZERO; 3];
    image.copy_weights(&mut weights).unwrap();
    assert_eq!(weights, tiny_weights());
}

#[test]
fn hex_dump_of_the_documentation_is_this_image() {
    let page = include_str!("../../docs/adapter-format.md");
    let dump = page.split("```hexdump\n").nth(1).unwrap().split("```").next().unwrap();
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, row) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), bytes.len());
        bytes.extend(row.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    assert_eq!(bytes, TINY);
}

#[test]
fn checksum_of_these_tests_is_the_published_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn rejects_every_truncation() {
    for given in 0..TINY.len() {
        let needed = if given < 64 { 64 } else { 384 };
        assert_eq!(refusal(&TINY[..given]), Error::ImageLength { needed, given });
    }
}

#[test]
fn rejects_bytes_after_the_image() {
    let mut bytes = TINY.to_vec();
    bytes.push(0);
    assert_eq!(refusal(&bytes), Error::ImageLength { needed: 384, given: 385 });
}

#[test]
fn rejects_every_flipped_bit() {
    for offset in 0..TINY.len() {
        for bit in 0..8 {
            let mut bytes = TINY;
            bytes[offset] ^= 1 << bit;
            let error = Image::parse(&bytes).and_then(|image| image.verify()).unwrap_err();
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
fn checksum_error_carries_both_values() {
    let mut bytes = TINY;
    bytes[TINY_PAYLOAD.start] ^= 1;
    let stored = crc32(&TINY[TINY_PAYLOAD]);
    let computed = crc32(&bytes[TINY_PAYLOAD]);
    assert_eq!(
        Image::parse(&bytes).unwrap().verify(),
        Err(Error::Checksum { part: "payload", stored, computed })
    );
}

#[test]
fn rejects_files_of_other_formats() {
    for bytes in [&b"PK\x03\x04"[..], b"{", b"\x93NUMPY\x01\x00\x76\x00{'descr'", &[0; 384], &[0xff; 64]] {
        assert_eq!(refusal(bytes), Error::Magic);
    }
    // Line ends translated on the way.
    let mut bytes = TINY.to_vec();
    bytes.remove(5);
    assert_eq!(refusal(&bytes), Error::Magic);
}

#[test]
fn rejects_other_versions_before_looking_at_anything_else() {
    for found in [0, 2, 0x0101, u16::MAX] {
        let mut bytes = TINY;
        bytes[8..10].copy_from_slice(&found.to_le_bytes());
        assert_eq!(refusal(&bytes), Error::Version { found }, "checksum no longer right");
        seal_header(&mut bytes);
        assert_eq!(refusal(&bytes), Error::Version { found });
        assert_eq!(
            refusal(&bytes[..10]),
            Error::Version { found },
            "another version may have a shorter header"
        );
    }
}

#[test]
fn rejects_every_header_field_that_is_wrong_though_its_checksum_is_right() {
    let header = |field, found| Error::Header { field, found };
    let dimension = |what, given| Error::Dimension { what, given, max: 8192 };
    let big = 1u32 << 20;
    assert_eq!(u32::try_from(MAX_METADATA_LEN), Ok(big));
    let cases: &[(usize, &[u8], Error)] = &[
        (10, &[0], header("kind", 0)),
        (10, &[2], header("dtype", 1)), // a residual is int8
        (10, &[3], header("kind", 3)),
        (10, &[4], header("kind", 4)),
        (10, &[255], header("kind", 255)),
        (11, &[0], header("dtype", 0)),
        (11, &[2], header("dtype", 2)),
        (11, &[3], header("dtype", 3)),
        (11, &[255], header("dtype", 255)),
        (12, &[3], header("flags", 3)),
        (15, &[0x80], header("flags", 0x8000_0001)),
        (12, &[0], header("payload_len", 192)), // without bias there are 128
        (16, &[0], dimension("in_dim", 0)),
        (16, &8193u32.to_le_bytes(), dimension("in_dim", 8193)),
        (16, &[255; 4], dimension("in_dim", 0xffff_ffff)),
        (16, &[3], header("payload_len", 192)),
        (20, &[0], dimension("out_dim", 0)),
        (20, &8193u32.to_le_bytes(), dimension("out_dim", 8193)),
        (20, &[255; 4], dimension("out_dim", 0xffff_ffff)),
        (20, &[17], header("payload_len", 192)),
        (24, &[1], header("rank", 1)),
        (24, &[255; 4], header("rank", u32::MAX)),
        (28, &(big + 1).to_le_bytes(), header("metadata_len", big + 1)),
        (28, &[255; 4], header("metadata_len", u32::MAX)),
        (28, &big.to_le_bytes(), header("payload_offset", 192)),
        (28, &[0], header("payload_offset", 192)),
        (32, &[0], header("payload_offset", 0)),
        (32, &[191], header("payload_offset", 191)),
        (32, &[0, 1], header("payload_offset", 256)),
        (32, &[255; 4], header("payload_offset", u32::MAX)),
        (40, &[0], header("payload_len", 0)),
        (40, &[191], header("payload_len", 191)),
        (40, &[193], header("payload_len", 193)),
        (44, &[1], header("payload_len", u32::MAX)), // 2³² + 192
        (40, &[255; 8], header("payload_len", u32::MAX)),
        (52, &[1], header("reserved", 1)),
        (55, &[128], header("reserved", 0x8000_0000)),
        (59, &[1], header("reserved", u32::MAX)),
    ];
    for &(offset, value, expected) in cases {
        let mut bytes = TINY;
        bytes[offset..offset + value.len()].copy_from_slice(value);
        seal_header(&mut bytes);
        assert_eq!(refusal(&bytes), expected, "offset {offset}, value {value:?}");
    }
}

#[test]
fn rejects_lengths_that_agree_with_each_other_but_not_with_the_file() {
    // The largest adapter there can be.
    let mut bytes = TINY;
    bytes[16..20].copy_from_slice(&8192u32.to_le_bytes());
    bytes[20..24].copy_from_slice(&8192u32.to_le_bytes());
    bytes[40..48].copy_from_slice(&(512 * 8193 * 64u64).to_le_bytes());
    seal_header(&mut bytes);
    assert_eq!(refusal(&bytes), Error::ImageLength { needed: 192 + 512 * 8193 * 64, given: 384 });

    // The longest metadata.
    let mut bytes = TINY;
    bytes[28..32].copy_from_slice(&(1u32 << 20).to_le_bytes());
    bytes[32..36].copy_from_slice(&((1u32 << 20) + 64).to_le_bytes());
    seal_header(&mut bytes);
    assert_eq!(refusal(&bytes), Error::ImageLength { needed: (1 << 20) + 64 + 192, given: 384 });

    // A few bytes too many are counted as metadata: their checksum says otherwise.
    let mut bytes = TINY;
    bytes[28] += 1;
    seal_header(&mut bytes);
    assert!(matches!(refusal(&bytes), Error::Checksum { part: "metadata", .. }));
}

#[test]
fn rejects_every_padding_byte_that_is_not_zero() {
    for offset in TINY_PADDING {
        let mut bytes = TINY;
        bytes[offset] = 1;
        assert_eq!(refusal(&bytes), Error::Padding { offset });
    }
}

#[test]
fn assembles_the_same_image_by_hand() {
    assert_eq!(assemble(&TINY[TINY_METADATA]), TINY);
}

#[test]
fn rejects_metadata_that_are_wrong_though_their_checksum_is_right() {
    let cases: &[(&str, usize, &[u8], Error)] = &[
        ("schema 0", 0, &[0], Error::MetadataSchema { found: 0 }),
        ("schema 4", 0, &[4], Error::MetadataSchema { found: 4 }),
        ("schema 3 without its settings", 0, &[3], Error::Metadata),
        ("schema 2 without its golden text", 0, &[2], Error::Metadata),
        ("text of 2⁶⁴ − 1 bytes", 1, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Error::Metadata),
        ("length of eleven bytes", 1, &[255; 11], Error::Metadata),
        ("text not UTF-8", 2, &[0xff], Error::Metadata),
        ("text longer than the metadata", 5, &[120], Error::Metadata),
        ("unknown similarity", 12, &[2], Error::Metadata),
        ("normalized neither true nor false", 13, &[2], Error::Metadata),
        ("training neither there nor not", 14, &[2], Error::Metadata),
        ("training missing", 14, &[0], Error::Metadata),
        ("lr NaN", 28, &[0, 0, 0xc0, 0x7f], Error::Setting { name: "lr" }),
        ("scale infinite", 32, &[0, 0, 0x80, 0x7f], Error::Setting { name: "scale" }),
        ("validation neither there nor not", 39, &[2], Error::Metadata),
        ("base nDCG infinite", 40, &[0, 0, 0x80, 0xff], Error::Setting { name: "base_ndcg_at_10" }),
        ("adapted nDCG NaN", 44, &[1, 0, 0x80, 0xff], Error::Setting { name: "adapted_ndcg_at_10" }),
        ("golden query of one element", 48, &[4], Error::Metadata),
        ("golden query infinite", 53, &[0, 0, 0x80, 0x7f], Error::NotFinite { what: "golden query", row: 1 }),
        ("golden output NaN", 58, &[0, 0, 0xc0, 0x7f], Error::NotFinite { what: "golden output", row: 0 }),
        ("golden output cut short", 57, &[9], Error::Metadata),
        ("bytes after the golden output", 57, &[7], Error::Metadata),
    ];
    for &(name, offset, value, expected) in cases {
        let mut metadata = TINY[TINY_METADATA].to_vec();
        metadata[offset..offset + value.len()].copy_from_slice(value);
        assert_eq!(refusal(&assemble(&metadata)), expected, "{name}");
    }
}

#[test]
fn rejects_metadata_cut_short_or_followed_by_more() {
    let metadata = &TINY[TINY_METADATA];
    for length in 0..metadata.len() {
        assert_eq!(refusal(&assemble(&metadata[..length])), Error::Metadata, "{length} bytes");
    }
    for zeros in 1..200 {
        assert_eq!(
            refusal(&assemble(&[metadata, &vec![0; zeros]].concat())),
            Error::Metadata,
            "{zeros} more"
        );
    }
}

#[test]
fn rejects_integers_that_take_more_bytes_than_they_need() {
    // Each varint of the tiny image is given one more byte, of seven zero bits.
    let last_bytes = [0, 1, 5, 7, 11, 12, 15, 17, 23, 24, 26, 27, 36, 38, 48, 57];
    for last in last_bytes {
        let (before, after) = TINY[TINY_METADATA].split_at(last + 1);
        let mut metadata = before.to_vec();
        metadata[last] |= 0x80;
        metadata.push(0);
        metadata.extend(after);
        assert_eq!(refusal(&assemble(&metadata)), Error::Metadata, "the varint that ends at byte {last}");
    }
}

#[test]
fn rejects_golden_pair_of_another_size() {
    let front = &TINY[TINY_METADATA][..48];
    let one = [4, 0, 0, 0, 0];
    let two = [8, 0, 0, 0, 0, 0, 0, 0, 0];
    let three = [12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let ragged = [9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let cases: [(&[u8], &[u8], Error); 5] = [
        (&one, &two, Error::Length { what: "golden query", needed: 2, given: 1 }),
        (&three, &two, Error::Length { what: "golden query", needed: 2, given: 3 }),
        (&two, &one, Error::Length { what: "golden output", needed: 2, given: 1 }),
        (&two, &[0], Error::Length { what: "golden output", needed: 2, given: 0 }),
        (&ragged, &two, Error::Metadata),
    ];
    for (query, output, expected) in cases {
        assert_eq!(refusal(&assemble(&[front, query, output].concat())), expected);
    }
}

#[test]
fn rejects_texts_longer_than_their_capacity_and_takes_those_as_long() {
    let capacities: [(&str, usize); 6] = [
        ("tool", 64),
        ("base_model", 256),
        ("query_prefix", 1024),
        ("document_prefix", 1024),
        ("recipe", 64),
        ("optimizer", 64),
    ];
    for (field, (what, capacity)) in capacities.into_iter().enumerate() {
        for (given, expected) in [
            (capacity, None),
            (capacity + 1, Some(Error::TextTooLong { what, capacity, given: capacity + 1 })),
        ] {
            let mut lengths = [1; 6];
            lengths[field] = given;
            let [tool, base_model, query_prefix, document_prefix, recipe, optimizer] =
                lengths.map(|n| "x".repeat(n));
            let mut bytes = vec![1];
            for text in [tool, base_model, query_prefix, document_prefix] {
                put_text(&mut bytes, &text);
            }
            bytes.extend([0, 1, 1]);
            put_text(&mut bytes, &recipe);
            put_text(&mut bytes, &optimizer);
            // From `epochs` on as in the tiny image.
            bytes.extend(&TINY[TINY_METADATA][23..]);
            assert_eq!(Image::parse(&assemble(&bytes)).err(), expected, "{what} of {given} bytes");
        }
    }
}

#[test]
fn verify_rejects_weights_that_are_wrong_though_their_checksum_is_right() {
    let cases = [
        (192, f32::NAN, Error::NotFinite { what: "weight", row: 0 }),
        (192 + 64 + 4, f32::INFINITY, Error::NotFinite { what: "weight", row: 1 }),
        (192 + 128, f32::NEG_INFINITY, Error::NotFinite { what: "weight", row: 0 }),
        (192 + 8, 1.0, Error::Padding { offset: 192 + 8 }),
        (192 + 64 + 60, -0.0, Error::Padding { offset: 192 + 64 + 60 }),
        (192 + 128 + 8, f32::NAN, Error::Padding { offset: 192 + 128 + 8 }),
    ];
    for (offset, value, expected) in cases {
        let mut bytes = TINY;
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        let crc = crc32(&bytes[TINY_PAYLOAD]);
        bytes[48..52].copy_from_slice(&crc.to_le_bytes());
        seal_header(&mut bytes);
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.verify(), Err(expected), "{value} at {offset}");
    }
}

#[test]
fn an_adapter_of_unknown_origin_has_no_training_summary() {
    let metadata = Metadata { training: None, similarity: Similarity::Dot, ..TINY_SPEC.metadata };
    let mut out = [0; 384];
    let length = ImageSpec { metadata, ..TINY_SPEC }.encode(&tiny_weights(), &mut out).unwrap();
    let bytes = [&TINY[64..76], &[1, 1, 0], &TINY[112..130]].concat();
    assert_eq!(out[64..64 + bytes.len()], bytes);
    assert_eq!(*Image::parse(&out[..length]).unwrap().metadata(), metadata);
}

#[test]
fn a_golden_text_stands_after_the_golden_pair() {
    let metadata = Metadata { golden_text: Some("gold"), ..TINY_SPEC.metadata };
    let mut out = [0; 448];
    let length = ImageSpec { metadata, ..TINY_SPEC }.encode(&tiny_weights(), &mut out).unwrap();
    let bytes = [&[2], &TINY[65..130], &[4], b"gold"].concat();
    assert_eq!(out[64..64 + bytes.len()], bytes);
    assert_eq!(*Image::parse(&out[..length]).unwrap().metadata(), metadata);
}

#[test]
fn settings_stand_last_after_an_optional_golden_text() {
    for (golden_text, between) in [(None, &[0][..]), (Some("gold"), b"\x01\x04gold")] {
        let metadata = Metadata { golden_text, settings: Some("lr = 1"), ..TINY_SPEC.metadata };
        let mut out = [0; 448];
        let length = ImageSpec { metadata, ..TINY_SPEC }.encode(&tiny_weights(), &mut out).unwrap();
        let bytes = [&[3], &TINY[65..130], between, &[6], b"lr = 1"].concat();
        assert_eq!(out[64..64 + bytes.len()], bytes);
        assert_eq!(*Image::parse(&out[..length]).unwrap().metadata(), metadata);
    }
}

proptest! {
    #[test]
    fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Image::parse(&bytes).is_err());
    }

    #[test]
    fn survives_any_metadata(metadata in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = assemble(&[&[1], &metadata[..]].concat());
        if let Ok(image) = Image::parse(&bytes) {
            prop_assert!(image.verify().is_ok());
        }
    }

    #[test]
    fn survives_any_change_of_the_metadata(changes in proptest::collection::vec((0usize..66, any::<u8>()), 1..6)) {
        let mut metadata = TINY[TINY_METADATA].to_vec();
        for (offset, value) in changes {
            metadata[offset] = value;
        }
        if let Ok(image) = Image::parse(&assemble(&metadata)) {
            prop_assert!(image.verify().is_ok());
        }
    }

    #[test]
    fn survives_any_change_of_the_header(changes in proptest::collection::vec((10usize..60, any::<u8>()), 1..6)) {
        let mut bytes = TINY;
        for (offset, value) in changes {
            bytes[offset] = value;
        }
        seal_header(&mut bytes);
        if let Ok(image) = Image::parse(&bytes) {
            let _ = image.verify();
            prop_assert_eq!(image.weights_len(), 3);
        }
    }

    #[test]
    fn encoding_what_was_read_gives_the_same_bytes(
        (in_dim, out_dim, bias) in (1usize..40, 1usize..40, any::<bool>()),
        texts in proptest::array::uniform8("\\PC{0,16}"),
        numbers in any::<(u32, u32, u64, u32, u64, u64)>(),
        floats in proptest::array::uniform4(-1e6f32..1e6),
        (trained, validated, normalized, dot, texted, set) in any::<(bool, bool, bool, bool, bool, bool)>(),
        values in proptest::collection::vec(-1e6f32..1e6, 80),
    ) {
        let [tool, base_model, query_prefix, document_prefix, recipe, optimizer, golden_text, settings] = &texts;
        let (epochs, kept_epoch, steps, batch_size, seed, pairs) = numbers;
        let [lr, scale, base_ndcg_at_10, adapted_ndcg_at_10] = floats;
        let validation = validated.then_some(Validation { base_ndcg_at_10, adapted_ndcg_at_10 });
        let training =
            Training { recipe, optimizer, epochs, kept_epoch, steps, batch_size, lr, scale, seed, pairs, validation };
        let spec = ImageSpec {
            in_dim,
            out_dim,
            bias,
            metadata: Metadata {
                tool,
                base_model,
                query_prefix,
                document_prefix,
                similarity: if dot { Similarity::Dot } else { Similarity::Cosine },
                normalized,
                training: trained.then_some(training),
                golden_text: texted.then_some(golden_text),
                settings: set.then_some(settings),
            },
            golden_query: &values[..in_dim],
            golden_output: &values[40..40 + out_dim],
        };
        let mut weights = vec![Lanes::ZERO; linear_len(in_dim, out_dim, bias)];
        let mut matrix = query_adapter::PanelMatrix::new(out_dim, in_dim + usize::from(bias), &mut weights[..]).unwrap();
        for row in 0..out_dim {
            for col in 0..matrix.cols() {
                matrix.set(row, col, values[(row * 7 + col) % values.len()]);
            }
        }
        let mut first = vec![0x55; spec.encoded_len().unwrap()];
        prop_assert_eq!(spec.encode(&weights, &mut first), Ok(first.len()));

        let image = Image::parse(&first).unwrap();
        image.verify().unwrap();
        prop_assert_eq!(image.weights_len(), weights.len());
        let (mut golden_query, mut golden_output) = (vec![0.0; in_dim], vec![0.0; out_dim]);
        image.copy_golden(&mut golden_query, &mut golden_output).unwrap();
        let mut copied = vec![Lanes::ZERO; image.weights_len()];
        image.copy_weights(&mut copied).unwrap();
        let read = ImageSpec {
            in_dim: image.in_dim(),
            out_dim: image.out_dim(),
            bias: image.has_bias(),
            metadata: *image.metadata(),
            golden_query: &golden_query,
            golden_output: &golden_output,
        };
        prop_assert_eq!(&read, &spec);
        prop_assert_eq!(&copied, &weights);
        let mut second = vec![0xaa; first.len()];
        read.encode(&copied, &mut second).unwrap();
        prop_assert_eq!(first, second);
    }
}

fn refusal(bytes: &[u8]) -> Error {
    Image::parse(bytes).unwrap_err()
}

/// The tiny image with other metadata, all lengths and checksums right.
fn assemble(metadata: &[u8]) -> Vec<u8> {
    let offset = (64 + metadata.len()).div_ceil(64) * 64;
    let mut bytes = TINY[..64].to_vec();
    bytes.extend(metadata);
    bytes.resize(offset, 0);
    bytes.extend(&TINY[TINY_PAYLOAD]);
    bytes[28..32].copy_from_slice(&u32::try_from(metadata.len()).unwrap().to_le_bytes());
    bytes[32..36].copy_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
    bytes[36..40].copy_from_slice(&crc32(metadata).to_le_bytes());
    seal_header(&mut bytes);
    bytes
}

fn seal_header(bytes: &mut [u8]) {
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        bytes.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    bytes.extend(text.as_bytes());
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
