//! Writes the adapter files that the programs include, and hands the linker the memory of the machine.
//!
//! `FIRMWARE_MACHINE` is a name in `../memory`: where flash and RAM begin there. Their sizes are those of one real part.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use query_adapter::{ByteLanes, Lanes};
use workloads::{NARROW, SQUARE, write_corpus, write_image, write_int8};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../memory");
    println!("cargo::rerun-if-env-changed=FIRMWARE_MACHINE");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, shape) in [("square.qad", SQUARE), ("narrow.qad", NARROW)] {
        let file = write_image(shape).map_err(|error| format!("{name}: {error}"))?;
        fs::write(out.join(name), file)?;
    }
    let refused = |failure| format!("documents: {failure:?}");
    let (documents, int8) = (write_corpus().map_err(refused)?, write_int8().map_err(refused)?);
    let (documents, int8) = (documents.borrow(), int8.borrow());
    for (name, values) in [
        ("wide.bin", wide(documents.wide)),
        ("half.bin", documents.half.iter().flat_map(|lanes| lanes.0).flat_map(u16::to_le_bytes).collect()),
        ("byte.bin", bytes(documents.byte)),
        ("scales.bin", wide(documents.scales)),
        ("square-int8.bin", bytes(int8.values)),
        ("square-scales.bin", wide(int8.scales)),
        ("square-bias.bin", wide(int8.bias)),
    ] {
        fs::write(out.join(name), values)?;
    }
    let machine = env::var("FIRMWARE_MACHINE").unwrap_or_else(|_| "mps2-an386".into());
    fs::copy(format!("../memory/{machine}.x"), out.join("memory.x"))
        .map_err(|error| format!("memory/{machine}.x: {error}"))?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    Ok(())
}

/// As a little-endian machine has them in memory.
fn wide(lanes: &[Lanes]) -> Vec<u8> {
    lanes.iter().flat_map(|lanes| lanes.0).flat_map(f32::to_le_bytes).collect()
}

fn bytes(lanes: &[ByteLanes]) -> Vec<u8> {
    lanes.iter().flat_map(|lanes| lanes.0).flat_map(i8::to_le_bytes).collect()
}
