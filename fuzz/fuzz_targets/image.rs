//! The adapter file: no bytes make the reader panic, and what it accepts is written again to the same bytes.
//!
//! Checksums would keep a fuzzer out, so each input is tried as it is, with its checksums put right, and with its
//! lengths put right as well.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use query_adapter::image::{
    HEADER_LEN, Image, ImageSpec, Kind, MAGIC, Metadata, Similarity, Training, VERSION, Validation,
};
use query_adapter::reference::{reference_forward, reference_int8_forward};
use query_adapter::{
    ByteLanes, Error, Int8Linear, Lanes, Level, Linear, Transform, linear_len, panel_len, panels,
};
use query_adapter_fuzz::{numbers, panels_of};

/// Dimensions above this are folded, so that a repaired image stays small.
const LARGEST_DIM: u32 = 40;

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&with_checksums(input.to_vec()));
    check(&with_lengths(input));
    // Bytes that ran out read as zero, so a spec can be made of any input.
    let _ = check_writer(&mut Unstructured::new(input));
    let _ = check_int8_writer(&mut Unstructured::new(input));
});

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes(four.try_into().expect("four bytes")))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Computes the three checksums, where the lengths in the header leave room for what they cover.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < HEADER_LEN {
        return bytes;
    }
    let (metadata_len, payload_offset) = (u32_at(&bytes, 28) as usize, u32_at(&bytes, 32) as usize);
    if let Some(metadata) = bytes.get(HEADER_LEN..HEADER_LEN + metadata_len) {
        let crc = crc32fast::hash(metadata);
        put(&mut bytes, 36, &crc.to_le_bytes());
    }
    if let Some(payload) = bytes.get(payload_offset..) {
        let crc = crc32fast::hash(payload);
        put(&mut bytes, 48, &crc.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
    put(&mut bytes, HEADER_LEN - 4, &crc.to_le_bytes());
    bytes
}

/// Keeps kind, dimensions, bias, metadata and weights as far as they go, and makes everything else of the header fit them.
fn with_lengths(input: &[u8]) -> Vec<u8> {
    let mut header = [0; HEADER_LEN];
    let given = input.len().min(HEADER_LEN);
    header[..given].copy_from_slice(&input[..given]);
    let body = &input[given..];

    let bias = u32_at(&header, 12) & 1;
    let kind = if header[10] & 3 == Kind::Residual as u8 { Kind::Residual } else { Kind::Dense };
    let [in_dim, mut out_dim] = [16, 20].map(|at| match u32_at(&header, at) {
        dim @ 1..=LARGEST_DIM => dim,
        dim => dim % LARGEST_DIM + 1,
    });
    if kind == Kind::Residual {
        out_dim = in_dim;
    }
    let metadata = &body[..body.len().min(u32_at(&header, 28) as usize)];
    let payload_offset = (HEADER_LEN + metadata.len()).next_multiple_of(64);
    let dim = in_dim as usize;
    let payload_len = match kind {
        Kind::Residual => panels(dim) * 64 * (1 + bias as usize) + panel_len(dim, dim) * 16,
        _ => linear_len(dim, out_dim as usize, bias == 1) * 64,
    };

    put(&mut header, 0, &MAGIC);
    put(&mut header, 8, &VERSION.to_le_bytes());
    put(&mut header, 10, &[kind as u8, kind.dtype() as u8]);
    put(&mut header, 12, &bias.to_le_bytes());
    put(&mut header, 16, &in_dim.to_le_bytes());
    put(&mut header, 20, &out_dim.to_le_bytes());
    put(&mut header, 24, &0u32.to_le_bytes());
    put(&mut header, 28, &u32::try_from(metadata.len()).expect("short").to_le_bytes());
    put(&mut header, 32, &u32::try_from(payload_offset).expect("short").to_le_bytes());
    put(&mut header, 40, &(payload_len as u64).to_le_bytes());
    put(&mut header, 52, &0u64.to_le_bytes());

    let mut bytes = [&header, metadata].concat();
    bytes.resize(payload_offset, 0);
    let payload = input.get(payload_offset..).unwrap_or_default();
    bytes.extend_from_slice(&payload[..payload.len().min(payload_len)]);
    bytes.resize(payload_offset + payload_len, 0);
    with_checksums(bytes)
}

/// Everything that can be done with an image.
fn check(bytes: &[u8]) {
    // An address that is a multiple of 64, and one that depends on the input.
    let shift = 1 + bytes.len() % 63;
    let mut storage = vec![Lanes::ZERO; bytes.len().div_ceil(64) + 1];
    let place = bytemuck::cast_slice_mut::<Lanes, u8>(&mut storage);
    place[..bytes.len()].copy_from_slice(bytes);
    let aligned = Image::view(&bytemuck::cast_slice::<Lanes, u8>(&storage)[..bytes.len()]).map(|image| {
        check_image(&image, bytes);
        match image.kind() {
            Kind::Residual => {
                let viewed = image.int8(Level::detect()).expect("a view has an adapter");
                let copied = Int8Parts::copied(&image);
                assert_eq!(viewed.values(), copied.values);
                assert_eq!(bits(viewed.scales()), bits(&copied.scales));
                assert_eq!(bits(viewed.bias().unwrap_or_default()), bits(&copied.bias));
                assert_eq!(image.weights(), Err(Error::StoredAs { dtype: "int8" }));
            }
            _ => {
                let viewed = image.weights().expect("a view has weights");
                let linear = image.linear(Level::detect()).expect("a view has an adapter");
                assert_eq!(bits(linear.weight().as_lanes()), bits(viewed));
                assert_eq!(bits(&copied_weights(&image)), bits(viewed));
                assert_eq!(image.int8(Level::detect()).err(), Some(Error::StoredAs { dtype: "f32" }));
            }
        }
    });

    let place = bytemuck::cast_slice_mut::<Lanes, u8>(&mut storage);
    place.copy_within(..bytes.len(), shift);
    let shifted = &bytemuck::cast_slice::<Lanes, u8>(&storage)[shift..shift + bytes.len()];
    match (Image::parse(shifted), aligned) {
        (Err(error), Err(other)) => {
            assert_eq!(error, other);
            assert!(!error.to_string().is_empty());
            assert_eq!(Image::view(shifted).err(), Some(error));
        }
        (Ok(image), Ok(())) => {
            assert_eq!(Image::view(shifted).err(), Some(Error::Misaligned { offset: shift }));
            check_image(&image, bytes);
        }
        (parsed, aligned) => panic!("at a multiple of 64 {aligned:?}, elsewhere {parsed:?}"),
    }
}

fn bits(lanes: &[Lanes]) -> &[u32] {
    bytemuck::cast_slice(lanes)
}

fn copied_weights(image: &Image<'_>) -> Vec<Lanes> {
    let mut copied = vec![Lanes::ZERO; image.weights_len()];
    image.copy_weights(&mut copied).expect("a buffer of the right size");
    copied
}

/// An adapter in int8, copied out of its image.
struct Int8Parts {
    values: Vec<ByteLanes>,
    scales: Vec<Lanes>,
    bias: Vec<Lanes>,
}

impl Int8Parts {
    fn copied(image: &Image<'_>) -> Self {
        let dim = image.in_dim();
        let mut parts = Self {
            values: vec![ByteLanes::ZERO; panel_len(dim, dim)],
            scales: vec![Lanes::ZERO; panels(dim)],
            bias: vec![Lanes::ZERO; if image.has_bias() { panels(dim) } else { 0 }],
        };
        let Self { values, scales, bias } = &mut parts;
        image.copy_int8(values, scales, bias).expect("buffers of the right size");
        parts
    }

    fn adapter(&self, dim: usize) -> Int8Linear<'_> {
        let bias = (!self.bias.is_empty()).then_some(&self.bias[..]);
        Int8Linear::new(dim, &self.values, &self.scales, bias, Level::detect()).expect("an adapter")
    }

    /// One output, by its definition.
    fn defined(&self, query: &[f32], r: usize) -> f32 {
        let (panel, lane) = (r / 16, r % 16);
        let delta = (0..query.len()).map(|k| self.values[panel * query.len() + k].0[lane]);
        let bias = self.bias.get(panel).map(|bias| bias.0[lane]);
        reference_int8_forward(delta, self.scales[panel].0[lane], bias, query, r)
    }
}

/// An image that was accepted: what it holds is what its bytes say, and it is written again as it was.
fn check_image(image: &Image<'_>, bytes: &[u8]) {
    assert!(!format!("{image:?}").is_empty());
    let (in_dim, out_dim, bias) = (image.in_dim(), image.out_dim(), image.has_bias());
    let (mut query, mut output) = (vec![0.0; in_dim], vec![0.0; out_dim]);
    image.copy_golden(&mut query, &mut output).expect("buffers of the right size");
    let spec = ImageSpec {
        in_dim,
        out_dim,
        bias,
        metadata: *image.metadata(),
        golden_query: &query,
        golden_output: &output,
    };
    if image.kind() == Kind::Residual {
        let parts = Int8Parts::copied(image);
        let payload = &bytes[image.payload_offset()..];
        let stored = [&parts.scales[..], &parts.bias[..]].concat();
        let wide = 64 * stored.len();
        assert!(bits(&stored).iter().flat_map(|bits| bits.to_le_bytes()).eq(payload[..wide].iter().copied()));
        assert_eq!(bytemuck::cast_slice::<ByteLanes, u8>(&parts.values), &payload[wide..]);
        let adapter = parts.adapter(in_dim);
        check_golden(image, &adapter, &output, |r| parts.defined(&query, r));
        check_written(image, bytes, spec.encoded_int8_len(), |out| spec.encode_int8(&adapter, out));
    } else {
        let weights = copied_weights(image);
        let payload = &bytes[bytes.len() - 64 * weights.len()..];
        let stored = payload.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four));
        assert!(bits(&weights).iter().copied().eq(stored));
        let adapter =
            Linear::from_lanes(in_dim, out_dim, bias, &weights[..], Level::detect()).expect("an adapter");
        check_golden(image, &adapter, &output, |r| reference_forward(&weights, in_dim, bias, &query, r));
        check_written(image, bytes, spec.encoded_len(), |out| spec.encode(&weights, out));
    }
}

/// The golden pair is found right or wrong as the definition of each output has it.
fn check_golden(image: &Image<'_>, adapter: &dyn Transform, output: &[f32], defined: impl Fn(usize) -> f32) {
    let differs = |r: &usize| defined(*r).to_bits() != output[*r].to_bits();
    let expected = (0..output.len()).find(differs).map_or(Ok(()), |index| Err(Error::Golden { index }));
    assert_eq!(image.verify_golden(adapter, &mut vec![0.0; image.in_dim()]), expected);
}

/// What was read is written again to the same bytes; what may not stand in an image is not written.
fn check_written(
    image: &Image<'_>,
    bytes: &[u8],
    length: core::result::Result<usize, Error>,
    encode: impl FnOnce(&mut [u8]) -> core::result::Result<usize, Error>,
) {
    let mut written = vec![0x55; length.expect("what was read can be written")];
    match image.verify() {
        Ok(()) => {
            assert_eq!(encode(&mut written), Ok(bytes.len()));
            assert!(written == bytes, "read and written again, the image has other bytes");
        }
        Err(Error::Checksum { part: "payload", .. }) => {}
        Err(error) => {
            assert_eq!(encode(&mut written), Err(error));
            assert!(written.iter().all(|&byte| byte == 0x55), "written in spite of {error:?}");
        }
    }
}

/// Writes an image of the fuzzer's choice: it is refused before the first byte is written, or it can be read.
fn check_writer(input: &mut Unstructured<'_>) -> Result<()> {
    let (in_dim, out_dim) = (input.int_in_range(0..=20)?, input.int_in_range(0..=20)?);
    let bias = input.arbitrary()?;
    let cols = in_dim + usize::from(bias);
    let mut weights = panels_of(&numbers(input, out_dim * cols)?, out_dim, cols);
    if input.ratio(1, 8)?
        && let Some(lanes) = weights.last_mut()
    {
        lanes.0[15] = f32::from_bits(input.arbitrary()?);
    }
    let query = numbers(input, in_dim)?;
    let output = numbers(input, out_dim)?;
    let metadata = metadata(input)?;
    let spec = ImageSpec { in_dim, out_dim, bias, metadata, golden_query: &query, golden_output: &output };
    let Ok(length) = spec.encoded_len() else {
        let mut written = vec![0x55; 4096];
        assert!(spec.encode(&weights, &mut written).is_err());
        assert!(written.iter().all(|&byte| byte == 0x55));
        return Ok(());
    };
    let room = length - usize::from(input.ratio(1, 16)?);
    let mut written = vec![0x55; room];
    match spec.encode(&weights, &mut written) {
        Ok(found) => {
            assert_eq!((found, room), (length, length));
            let image = Image::parse(&written).expect("what was written can be read");
            assert_eq!(image.verify(), Ok(()));
            assert_eq!(*image.metadata(), spec.metadata);
            check(&written);
        }
        Err(_) => assert!(written.iter().all(|&byte| byte == 0x55)),
    }
    Ok(())
}

/// The same for an adapter in int8.
fn check_int8_writer(input: &mut Unstructured<'_>) -> Result<()> {
    let dim = input.int_in_range(1..=20)?;
    let bias: bool = input.arbitrary()?;
    let mut column = |rows: usize| -> Result<Vec<Lanes>> { Ok(panels_of(&numbers(input, rows)?, rows, 1)) };
    let (scales, biases) = (column(dim)?, if bias { column(dim)? } else { Vec::new() });
    let mut values = vec![ByteLanes::ZERO; panel_len(dim, dim)];
    for value in values.iter_mut().flat_map(|lanes| &mut lanes.0[..dim.min(16)]) {
        *value = input.arbitrary()?;
    }
    let parts = Int8Parts { values, scales, bias: biases };
    let query = numbers(input, dim)?;
    let output = numbers(input, dim)?;
    let metadata = metadata(input)?;
    let spec =
        ImageSpec { in_dim: dim, out_dim: dim, bias, metadata, golden_query: &query, golden_output: &output };
    let Ok(length) = spec.encoded_int8_len() else { return Ok(()) };
    let mut written = vec![0x55; length];
    match spec.encode_int8(&parts.adapter(dim), &mut written) {
        Ok(found) => {
            assert_eq!(found, length);
            assert_eq!(Image::parse(&written).and_then(|image| image.verify()), Ok(()));
            check(&written);
        }
        Err(_) => assert!(written.iter().all(|&byte| byte == 0x55)),
    }
    Ok(())
}

/// Metadata of the fuzzer's choice, within the limits or just beyond them.
fn metadata<'a>(input: &mut Unstructured<'a>) -> Result<Metadata<'a>> {
    let training = if input.arbitrary()? {
        let validation = if input.arbitrary()? {
            Some(Validation { base_ndcg_at_10: input.arbitrary()?, adapted_ndcg_at_10: input.arbitrary()? })
        } else {
            None
        };
        Some(Training {
            recipe: input.arbitrary()?,
            optimizer: input.arbitrary()?,
            epochs: input.arbitrary()?,
            kept_epoch: input.arbitrary()?,
            steps: input.arbitrary()?,
            batch_size: input.arbitrary()?,
            lr: input.arbitrary()?,
            scale: input.arbitrary()?,
            seed: input.arbitrary()?,
            pairs: input.arbitrary()?,
            validation,
        })
    } else {
        None
    };
    Ok(Metadata {
        tool: input.arbitrary()?,
        base_model: input.arbitrary()?,
        query_prefix: input.arbitrary()?,
        document_prefix: input.arbitrary()?,
        similarity: if input.arbitrary()? { Similarity::Cosine } else { Similarity::Dot },
        normalized: input.arbitrary()?,
        training,
        golden_text: input.arbitrary()?,
        settings: input.arbitrary()?,
    })
}
