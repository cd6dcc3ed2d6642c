//! Writes the adapter files that the programs include, and hands the linker the memory of the machine.
//!
//! `FIRMWARE_MACHINE` is a name in `../memory`: where flash and RAM begin there. Their sizes are those of one real part.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use query_adapter::{ByteLanes, Lanes};
use workloads::{NARROW, SMALL, SQUARE, write_corpus, write_image, write_int8_image};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../memory");
    println!("cargo::rerun-if-env-changed=FIRMWARE_MACHINE");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, file) in [
        ("square.qad", write_image(SQUARE)),
        ("narrow.qad", write_image(NARROW)),
        ("square-int8.qad", write_int8_image(SQUARE)),
        ("small-int8.qad", write_int8_image(SMALL)),
    ] {
        fs::write(out.join(name), file.map_err(|error| format!("{name}: {error}"))?)?;
    }
    let refused = |failure| format!("documents: {failure:?}");
    let documents = write_corpus().map_err(refused)?;
    let documents = documents.borrow();
    for (name, values) in [
        ("wide.bin", wide(documents.wide)),
        ("half.bin", documents.half.iter().flat_map(|lanes| lanes.0).flat_map(u16::to_le_bytes).collect()),
        ("byte.bin", bytes(documents.byte)),
        ("scales.bin", wide(documents.scales)),
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
