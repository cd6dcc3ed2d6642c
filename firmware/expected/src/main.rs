//! Prints the digests that a device must print, computed on this machine: a line `LEVEL WORKLOAD DIGEST` each.

use std::process::ExitCode;

use query_adapter::{Lanes, Level};
use workloads::{ApplyBuffers, Failure, NARROW, REFUSE_LEN, SQUARE, Shape, TrainBuffers, write_image};

fn main() -> ExitCode {
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
    print("apply-383-bias", workloads::apply(bytes(&aligned_image(SQUARE)?), &mut buffers, level)?);
    print("apply-96-to-40", workloads::apply(bytes(&aligned_image(NARROW)?), &mut buffers, level)?);
    print("refuse", workloads::refuse(&write_image(NARROW)?, &mut [Lanes::ZERO; REFUSE_LEN])?);
    // A quarter of a megabyte is too much for the stack of some hosts.
    let mut buffers = Box::new(TrainBuffers::NEW);
    print("train-128-bias", workloads::train(&mut buffers, level)?);
    Ok(())
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
