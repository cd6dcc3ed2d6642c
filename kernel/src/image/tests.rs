use super::*;
use crate::lanes::{LANES, PanelMatrix};

const METADATA: Metadata<'_> = Metadata {
    tool: "test 1.0",
    base_model: "BAAI/bge-small-en",
    query_prefix: "query: ",
    normalized: true,
    ..Metadata::UNKNOWN
};

/// Weights which differ everywhere, a query, and the image of both.
struct Sample {
    weights: Vec<Lanes>,
    query: Vec<f32>,
    output: Vec<f32>,
    bytes: Vec<u8>,
}

fn sample(in_dim: usize, out_dim: usize, bias: bool) -> Sample {
    let numbers =
        |count: usize| (1u16..).map(|i| f32::from(i % 251) / 37.0 - 3.0).take(count).collect::<Vec<_>>();
    let cols = in_dim + usize::from(bias);
    let mut weights = vec![Lanes::ZERO; linear_len(in_dim, out_dim, bias)];
    let mut matrix = PanelMatrix::new(out_dim, cols, &mut weights[..]).unwrap();
    matrix.copy_from_row_major(&numbers(out_dim * cols)).unwrap();
    let query = numbers(in_dim);
    let mut output = vec![0.0; out_dim];
    let linear = Linear::from_lanes(in_dim, out_dim, bias, &weights[..], Level::baseline()).unwrap();
    linear.apply(&query, &mut output).unwrap();
    let spec =
        ImageSpec { in_dim, out_dim, bias, metadata: METADATA, golden_query: &query, golden_output: &output };
    let mut bytes = vec![0; spec.encoded_len().unwrap()];
    spec.encode(&weights, &mut bytes).unwrap();
    Sample { weights, query, output, bytes }
}

fn levels() -> Vec<Level> {
    #[cfg(feature = "std")]
    return Level::available().collect();
    #[cfg(not(feature = "std"))]
    return vec![Level::SCALAR, Level::baseline()];
}

/// Calls `then` with a copy of `bytes` that begins `shift` bytes after a multiple of 64.
fn with_shift<R>(bytes: &[u8], shift: usize, then: impl FnOnce(&[u8]) -> R) -> R {
    let mut buffer = vec![0; bytes.len() + 2 * ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT) + shift;
    let place = &mut buffer[start..start + bytes.len()];
    place.copy_from_slice(bytes);
    then(place)
}

#[cfg(target_endian = "little")]
#[test]
fn view_borrows_the_weights_where_they_lie() {
    let Sample { weights, bytes, .. } = sample(5, 19, true);
    with_shift(&bytes, 0, |bytes| {
        let image = Image::view(bytes).unwrap();
        let payload = bytes.len() - size_of_val(&weights[..]);
        assert_eq!(image.weights().unwrap().as_ptr().addr(), bytes[payload..].as_ptr().addr());
        assert_eq!(image.weights().unwrap(), weights);
        assert_eq!(image.weights_len(), weights.len());
        image.verify().unwrap();
    });
}

#[cfg(target_endian = "little")]
#[test]
fn misaligned_bytes_are_refused_by_name_but_can_be_copied() {
    let Sample { weights, bytes, .. } = sample(5, 19, true);
    for shift in 1..64 {
        with_shift(&bytes, shift, |bytes| {
            assert_eq!(Image::view(bytes).unwrap_err(), Error::Misaligned { offset: shift });
            assert_eq!(Payload::view(bytes).unwrap_err(), Error::Misaligned { offset: shift });
            let image = Image::parse(bytes).unwrap();
            assert_eq!(image.weights(), Err(Error::Misaligned { offset: shift }));
            let mut copied = vec![Lanes([f32::NAN; LANES]); weights.len()];
            image.copy_weights(&mut copied).unwrap();
            assert_eq!(copied, weights);
            image.verify().unwrap();
        });
    }
}

#[cfg(target_endian = "big")]
#[test]
fn view_is_refused_by_name_on_a_big_endian_machine() {
    let Sample { bytes, .. } = sample(5, 19, true);
    with_shift(&bytes, 0, |bytes| assert_eq!(Image::view(bytes).unwrap_err(), Error::ByteOrder));
}

#[test]
fn every_shape_keeps_its_weights_and_its_golden_pair_at_every_level() {
    for out_dim in 1..=33 {
        for (in_dim, bias) in [(1, false), (1, true), (15, true), (16, false), (17, true)] {
            let Sample { weights, query, output, bytes } = sample(in_dim, out_dim, bias);
            let image = Image::parse(&bytes).unwrap();
            image.verify().unwrap();
            let mut copied = vec![Lanes::ZERO; image.weights_len()];
            image.copy_weights(&mut copied).unwrap();
            assert_eq!(copied, weights);
            let (mut golden_query, mut golden_output) = (vec![0.0; in_dim], vec![0.0; out_dim]);
            image.copy_golden(&mut golden_query, &mut golden_output).unwrap();
            assert_eq!((golden_query, golden_output), (query, output));
            for level in levels() {
                let linear = Linear::from_lanes(in_dim, out_dim, bias, &copied[..], level).unwrap();
                image.verify_golden(&linear, &mut vec![0.0; in_dim]).unwrap();
            }
        }
    }
}

#[cfg(target_endian = "little")]
#[test]
fn viewed_adapter_passes_its_golden_pair() {
    with_shift(&sample(24, 40, true).bytes, 0, |bytes| {
        let image = Image::view(bytes).unwrap();
        let linear = image.linear(Level::baseline()).unwrap();
        image.verify_golden(&linear, &mut [0.0; 24]).unwrap();
    });
}

#[test]
fn golden_pair_names_the_first_element_that_differs_by_a_bit() {
    let Sample { weights, bytes, .. } = sample(7, 35, true);
    let image = Image::parse(&bytes).unwrap();
    for row in 0..35 {
        let mut changed = weights.clone();
        for later in row..35 {
            let bias = &mut changed[later / LANES * 8 + 7].0[later % LANES];
            *bias = f32::from_bits(bias.to_bits() ^ (1 << 22));
        }
        let linear = Linear::from_lanes(7, 35, true, &changed[..], Level::baseline()).unwrap();
        assert_eq!(image.verify_golden(&linear, &mut [0.0; 7]), Err(Error::Golden { index: row }));
    }
}

#[test]
fn golden_pair_tells_minus_zero_from_plus_zero() {
    let spec = ImageSpec {
        in_dim: 1,
        out_dim: 1,
        bias: false,
        metadata: METADATA,
        golden_query: &[1.0],
        golden_output: &[-0.0],
    };
    let mut bytes = [0; 512];
    let length = spec.encode(&[Lanes::ZERO], &mut bytes).unwrap();
    let image = Image::parse(&bytes[..length]).unwrap();
    let linear = Linear::from_lanes(1, 1, false, [Lanes::ZERO], Level::baseline()).unwrap();
    assert_eq!(image.verify_golden(&linear, &mut [0.0]), Err(Error::Golden { index: 0 }));
}

#[test]
fn golden_pair_needs_an_adapter_and_a_buffer_of_its_own_size() {
    let image_of = sample(7, 35, true);
    let image = Image::parse(&image_of.bytes).unwrap();
    let check = |in_dim: usize, out_dim: usize, scratch: usize| {
        let other = sample(in_dim, out_dim, true);
        let linear =
            Linear::from_lanes(in_dim, out_dim, true, &other.weights[..], Level::baseline()).unwrap();
        image.verify_golden(&linear, &mut vec![0.0; scratch])
    };
    assert_eq!(check(7, 35, 7), Ok(()));
    assert_eq!(check(7, 35, 6), Err(Error::Length { what: "golden query", needed: 7, given: 6 }));
    assert_eq!(check(7, 36, 7), Err(Error::Length { what: "golden output", needed: 35, given: 36 }));
    assert_eq!(check(8, 35, 7), Err(Error::Length { what: "query", needed: 8, given: 7 }));
}

#[test]
fn copies_need_buffers_of_the_right_size_and_leave_others_alone() {
    let Sample { weights, bytes, .. } = sample(7, 35, true);
    let image = Image::parse(&bytes).unwrap();
    let mut short = vec![Lanes::ZERO; weights.len() - 1];
    let error = Error::Length { what: "weights", needed: weights.len(), given: short.len() };
    assert_eq!(image.copy_weights(&mut short), Err(error));
    assert!(short.iter().all(|lanes| *lanes == Lanes::ZERO));

    let mut query = [9.0; 7];
    let error = Error::Length { what: "golden output", needed: 35, given: 34 };
    assert_eq!(image.copy_golden(&mut query, &mut [0.0; 34]), Err(error));
    assert_eq!(query, [9.0; 7]);
    let error = Error::Length { what: "golden query", needed: 7, given: 6 };
    assert_eq!(image.copy_golden(&mut query[..6], &mut [0.0; 35]), Err(error));
}

#[test]
fn refused_input_leaves_the_buffer_as_it_was() {
    let Sample { weights, query, output, bytes } = sample(3, 17, false);
    let good = ImageSpec {
        in_dim: 3,
        out_dim: 17,
        bias: false,
        metadata: METADATA,
        golden_query: &query,
        golden_output: &output,
    };
    let refuse = |spec: &ImageSpec<'_>, weights: &[Lanes], room: usize, expected: Error| {
        let mut out = vec![0x55; room];
        assert_eq!(spec.encode(weights, &mut out), Err(expected));
        assert!(out.iter().all(|&byte| byte == 0x55), "written in spite of {expected:?}");
    };
    let room = bytes.len();
    let dimension = |what, given| Error::Dimension { what, given, max: MAX_DIM };
    let length = |what, needed, given| Error::Length { what, needed, given };

    for given in [0, MAX_DIM + 1, usize::MAX] {
        refuse(&ImageSpec { in_dim: given, ..good }, &weights, room, dimension("in_dim", given));
        refuse(&ImageSpec { out_dim: given, ..good }, &weights, room, dimension("out_dim", given));
    }
    refuse(&good, &weights[1..], room, length("weights", 6, 5));
    refuse(&ImageSpec { bias: true, ..good }, &weights, room, length("weights", 8, 6));
    refuse(&ImageSpec { golden_query: &query[1..], ..good }, &weights, room, length("golden query", 3, 2));
    refuse(&ImageSpec { golden_output: &[], ..good }, &weights, room, length("golden output", 17, 0));
    for given in 0..room {
        refuse(&good, &weights, given, Error::ImageLength { needed: room, given });
    }

    let not_finite = |what, row| Error::NotFinite { what, row };
    let bad = [1.0, f32::NAN, 0.0];
    refuse(&ImageSpec { golden_query: &bad, ..good }, &weights, room, not_finite("golden query", 1));
    let bad = [f32::NEG_INFINITY; 17];
    refuse(&ImageSpec { golden_output: &bad, ..good }, &weights, room, not_finite("golden output", 0));
    let mut bad = weights.clone();
    bad[5].0[0] = f32::INFINITY;
    refuse(&good, &bad, room, not_finite("weight", 16));
    bad[5].0[0] = 0.0;
    bad[5].0[1] = -0.0;
    let offset = room - size_of::<Lanes>() + size_of::<f32>();
    refuse(&good, &bad, room, Error::Padding { offset });
}

#[test]
fn metadata_outside_their_limits_are_not_written() {
    let Sample { weights, query, output, .. } = sample(2, 2, true);
    let long = "é".repeat(513);
    let encode = |metadata| {
        let spec = ImageSpec {
            in_dim: 2,
            out_dim: 2,
            bias: true,
            metadata,
            golden_query: &query,
            golden_output: &output,
        };
        spec.encode(&weights, &mut [0; 4096]).unwrap_err()
    };
    let too_long = |what, capacity, given| Error::TextTooLong { what, capacity, given };
    let training = Training {
        recipe: "",
        optimizer: "",
        epochs: 1,
        kept_epoch: 1,
        steps: 1,
        batch_size: 1,
        lr: 1.0,
        scale: 1.0,
        seed: 0,
        pairs: 1,
        validation: None,
    };
    let trained = |training| Metadata { training: Some(training), ..METADATA };
    let validated = |base_ndcg_at_10, adapted_ndcg_at_10| {
        let validation = Some(Validation { base_ndcg_at_10, adapted_ndcg_at_10 });
        trained(Training { validation, ..training })
    };
    let cases = [
        (Metadata { tool: &long[..66], ..METADATA }, too_long("tool", 64, 66)),
        (Metadata { base_model: &long[..258], ..METADATA }, too_long("base_model", 256, 258)),
        (Metadata { query_prefix: &long, ..METADATA }, too_long("query_prefix", 1024, 1026)),
        (Metadata { document_prefix: &long, ..METADATA }, too_long("document_prefix", 1024, 1026)),
        (Metadata { golden_text: Some(&long[..258]), ..METADATA }, too_long("golden_text", 256, 258)),
        (Metadata { settings: Some(&long), ..METADATA }, too_long("settings", 1024, 1026)),
        (trained(Training { recipe: &long[..66], ..training }), too_long("recipe", 64, 66)),
        (trained(Training { optimizer: &long[..66], ..training }), too_long("optimizer", 64, 66)),
        (trained(Training { lr: f32::NAN, ..training }), Error::Setting { name: "lr" }),
        (trained(Training { scale: f32::INFINITY, ..training }), Error::Setting { name: "scale" }),
        (validated(f32::NAN, 0.0), Error::Setting { name: "base_ndcg_at_10" }),
        (validated(0.0, f32::NEG_INFINITY), Error::Setting { name: "adapted_ndcg_at_10" }),
    ];
    for (metadata, expected) in cases {
        assert_eq!(encode(metadata), expected);
    }
}

#[test]
fn longest_metadata_stay_far_below_their_limit() {
    let text = "x".repeat(1024);
    let training = Training {
        recipe: &text[..Training::MAX_NAME],
        optimizer: &text[..Training::MAX_NAME],
        epochs: u32::MAX,
        kept_epoch: u32::MAX,
        steps: u64::MAX,
        batch_size: u32::MAX,
        lr: 1.0,
        scale: 1.0,
        seed: u64::MAX,
        pairs: u64::MAX,
        validation: Some(Validation { base_ndcg_at_10: 1.0, adapted_ndcg_at_10: 1.0 }),
    };
    let spec = ImageSpec {
        in_dim: MAX_DIM,
        out_dim: MAX_DIM,
        bias: true,
        metadata: Metadata {
            tool: &text[..Metadata::MAX_TOOL],
            base_model: &text[..Metadata::MAX_BASE_MODEL],
            query_prefix: &text[..Metadata::MAX_PREFIX],
            document_prefix: &text[..Metadata::MAX_PREFIX],
            training: Some(training),
            golden_text: Some(&text[..Metadata::MAX_GOLDEN_TEXT]),
            settings: Some(&text[..Metadata::MAX_SETTINGS]),
            ..METADATA
        },
        golden_query: &[1.0; MAX_DIM],
        golden_output: &[1.0; MAX_DIM],
    };
    let payload = linear_len(MAX_DIM, MAX_DIM, true) * size_of::<Lanes>();
    let metadata = spec.encoded_len().unwrap() - payload - HEADER_LEN;
    assert!(metadata < MAX_METADATA_LEN / 15, "{metadata}");
}

#[test]
fn debug_text_leaves_the_weights_out() {
    let Sample { bytes, .. } = sample(40, 40, true);
    let text = format!("{:?}", Image::parse(&bytes).unwrap());
    assert!(text.starts_with("Image { kind: Dense, dtype: F32, in_dim: 40"), "{text}");
    assert!(text.len() < 400, "{text}");
}
