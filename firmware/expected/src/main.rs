//! Prints the digests that a device must print, computed on this machine: a line `LEVEL WORKLOAD DIGEST` each. With the
//! name of a folder, writes the adapter of most workloads there, as `square.qad`.

use std::path::Path;
use std::process::ExitCode;

use query_adapter::{Lanes, Level, linear_len};
use workloads::{
    ApplyBuffers, Failure, NARROW, REFUSE_LEN, SQUARE, Shape, TrainBuffers, write_corpus, write_image,
    write_int8,
};

fn main() -> ExitCode {
    if let Some(folder) = std::env::args_os().nth(1)
        && let Err(problem) = write_adapter(Path::new(&folder))
    {
        eprintln!("square.qad: {problem}");
        return ExitCode::FAILURE;
    }
    for level in Level::available() {
        if let Err(failure) = print_digests(level) {
            eprintln!("{}: {failure:?}", level.name());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn print_digests(level: Level) -> Result<(), Failure> {
    let print = |workload: &str, digest: u32| println!("{} {workload} {digest:08x}", level.name());
    print("arithmetic", workloads::arithmetic());
    let mut buffers = ApplyBuffers::NEW;
    for (workload, shape) in [("apply-383-bias", SQUARE), ("apply-96-to-40", NARROW)] {
        let digest = if cfg!(target_endian = "big") {
            let mut weights = vec![Lanes::ZERO; linear_len(shape.in_dim, shape.out_dim, shape.bias)];
            workloads::apply_copied(&write_image(shape)?, &mut weights, &mut buffers, level)?
        } else {
            workloads::apply(bytes(&aligned_image(shape)?), &mut buffers, level)?
        };
        print(workload, digest);
    }
    let mut panel = vec![Lanes::ZERO; SQUARE.in_dim + 1];
    print(
        "apply-streamed",
        workloads::apply_streamed(&write_image(NARROW)?, &mut panel, &mut buffers, level)?,
    );
    print("apply-383-int8", workloads::apply_int8(write_int8()?.borrow(), &mut buffers, level)?);
    let [wide, half, byte] = workloads::search_documents(level, write_corpus()?.borrow())?;
    print("search-f32", wide);
    print("search-f16", half);
    print("search-int8", byte);
    // Where an image cannot be used in place, other errors come first.
    if cfg!(target_endian = "little") {
        print("refuse", workloads::refuse(&write_image(NARROW)?, &mut [Lanes::ZERO; REFUSE_LEN])?);
    }
    // A quarter of a megabyte is too much for the stack of some hosts.
    let mut buffers = Box::new(TrainBuffers::NEW);
    print("train-128-bias", workloads::train(&mut buffers, level)?);
    Ok(())
}

fn write_adapter(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    Ok(std::fs::write(folder.join("square.qad"), write_image(SQUARE)?)?)
}

/// An image at a multiple of 64; its length is one.
fn aligned_image(shape: Shape) -> Result<Vec<Lanes>, Failure> {
    let file = write_image(shape)?;
    let mut lanes = vec![Lanes::ZERO; file.len().div_ceil(size_of::<Lanes>())];
    for (place, byte) in bytemuck::cast_slice_mut(&mut lanes).iter_mut().zip(file) {
        *place = byte;
    }
    Ok(lanes)
}

fn bytes(lanes: &[Lanes]) -> &[u8] {
    bytemuck::cast_slice(lanes)
}
