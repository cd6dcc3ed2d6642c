//! All workloads on a machine with memory to spare, which makes what the programs of a device include.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use query_adapter::image::{Image, Kind};
use query_adapter::{ByteLanes, Int8Linear, Lanes, Level, Linear, panel_len, panels};

use crate::apply::transform;
use crate::{
    ApplyBuffers, Failure, NARROW, REFUSE_LEN, SMALL, SQUARE, TrainBuffers, apply, apply_int8,
    apply_streamed, arithmetic, refuse, search_documents, train, write_corpus, write_image, write_int8_image,
};

/// The names of all workloads, as the programs print them.
pub const WORKLOADS: [&str; 12] = [
    "arithmetic",
    "apply-383-bias",
    "apply-383-only",
    "apply-96-to-40",
    "apply-streamed",
    "apply-383-int8",
    "search-f32",
    "search-f16",
    "search-int8",
    "refuse",
    "refuse-int8",
    "train-128-bias",
];

/// What each of [`WORKLOADS`] gives on this machine: `None` where an image cannot be used in place, so that other errors
/// come first when it is damaged.
///
/// # Errors
/// What the kernel refuses.
pub fn digests(level: Level) -> Result<[Option<u32>; WORKLOADS.len()], Failure> {
    let mut buffers = ApplyBuffers::NEW;
    let mut panel = vec![Lanes::ZERO; SQUARE.in_dim + 1];
    // Of the same bits, whether the metadata are read or not.
    let square = apply_file(&write_image(SQUARE)?, &mut buffers, level)?;
    let [wide, half, byte] = search_documents(level, write_corpus()?.borrow(), || ())?;
    let refused = |file: &[u8]| {
        let mut copy = [Lanes::ZERO; REFUSE_LEN];
        cfg!(target_endian = "little").then(|| refuse(file, &mut copy)).transpose()
    };
    Ok([
        Some(arithmetic()),
        Some(square),
        Some(square),
        Some(apply_file(&write_image(NARROW)?, &mut buffers, level)?),
        Some(apply_streamed(&write_image(NARROW)?, &mut panel, &mut buffers, level, || ())?),
        Some(apply_file(&write_int8_image(SQUARE)?, &mut buffers, level)?),
        Some(wide),
        Some(half),
        Some(byte),
        refused(&write_image(NARROW)?)?,
        refused(&write_int8_image(SMALL)?)?,
        // A quarter of a megabyte is too much for the stack of some machines.
        Some(train(&mut Box::new(TrainBuffers::NEW), level, || ())?),
    ])
}

/// [`apply`] or [`apply_int8`], in place where this machine can.
fn apply_file(file: &[u8], buffers: &mut ApplyBuffers, level: Level) -> Result<u32, Failure> {
    let image = Image::parse(file)?;
    let int8 = image.kind() == Kind::Residual;
    if cfg!(target_endian = "little") {
        let mut aligned = vec![Lanes::ZERO; file.len().div_ceil(size_of::<Lanes>())];
        let bytes = bytemuck::cast_slice_mut::<Lanes, u8>(&mut aligned);
        for (place, byte) in bytes.iter_mut().zip(file) {
            *place = *byte;
        }
        let file = bytes.get(..file.len()).unwrap_or_default();
        return if int8 {
            apply_int8(file, buffers, level, || ())
        } else {
            apply(file, buffers, level, || ())
        };
    }
    let dim = image.in_dim();
    if int8 {
        let mut values = vec![ByteLanes::ZERO; panel_len(dim, dim)];
        let (mut scales, mut bias) = (vec![Lanes::ZERO; panels(dim)], Vec::new());
        if image.has_bias() {
            bias.resize(panels(dim), Lanes::ZERO);
        }
        image.copy_int8(&mut values, &mut scales, &mut bias)?;
        let bias = image.has_bias().then_some(&bias[..]);
        return transform(&image, &Int8Linear::new(dim, &values, &scales, bias, level)?, buffers, || ());
    }
    let mut weights = vec![Lanes::ZERO; image.weights_len()];
    image.copy_weights(&mut weights)?;
    let adapter = Linear::from_lanes(dim, image.out_dim(), image.has_bias(), weights, level)?;
    transform(&image, &adapter, buffers, || ())
}
