//! An adapter in flash, used where it lies. Builds for a computer, where it prints, and for bare metal:
//!
//!     cargo run -p query-adapter --example apply_from_flash --features image
//!     scripts/cross/build_examples.sh thumbv7em-none-eabihf

#![cfg_attr(target_os = "none", no_std, no_main)]

use query_adapter::image::{Image, Kind};
use query_adapter::{Error, Level, include_adapter};

/// A quarter turn of vectors of two components; on a device these bytes are in flash and stay there.
static ADAPTER: &[u8] = include_adapter!("quarter-turn.qad");

/// Once, after the device has received the adapter: reads all of it.
///
/// `scratch` has as many elements as a query.
///
/// # Errors
/// When the file is damaged, or this processor computes other bits than the writer's did.
pub fn accept(scratch: &mut [f32]) -> Result<(), Error> {
    let image = Image::view(ADAPTER)?;
    image.verify()?;
    match image.kind() {
        Kind::Residual => image.verify_golden(&image.int8(Level::baseline())?, scratch),
        _ => image.verify_golden(&image.linear(Level::baseline())?, scratch),
    }
}

/// For each query: checks header and metadata, which costs microseconds, and copies nothing.
///
/// # Errors
/// When `query` or `output` has another length than the adapter takes or gives.
pub fn transform(query: &[f32], output: &mut [f32]) -> Result<(), Error> {
    let image = Image::view(ADAPTER)?;
    match image.kind() {
        Kind::Residual => image.int8(Level::baseline())?.apply(query, output),
        _ => image.linear(Level::baseline())?.apply(query, output),
    }
}

#[cfg(not(target_os = "none"))]
fn main() -> Result<(), Error> {
    accept(&mut [0.0; 2])?;
    let mut output = [0.0; 2];
    transform(&[0.6, 0.8], &mut output)?;
    println!("{output:?}");
    assert_eq!(output, [-0.8, 0.6]);
    Ok(())
}

/// Nothing above panics; a program for bare metal has a handler all the same.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
