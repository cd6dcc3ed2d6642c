//! Writes the adapter files that the programs include, and hands the linker the memory of the machine.
//!
//! `FIRMWARE_MACHINE` is a name in `../memory`: where flash and RAM begin there. Their sizes are those of one real part.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use workloads::{NARROW, SQUARE, write_image};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../memory");
    println!("cargo::rerun-if-env-changed=FIRMWARE_MACHINE");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, shape) in [("square.qad", SQUARE), ("narrow.qad", NARROW)] {
        let file = write_image(shape).map_err(|error| format!("{name}: {error}"))?;
        fs::write(out.join(name), file)?;
    }
    let machine = env::var("FIRMWARE_MACHINE").unwrap_or_else(|_| "mps2-an386".into());
    fs::copy(format!("../memory/{machine}.x"), out.join("memory.x"))
        .map_err(|error| format!("memory/{machine}.x: {error}"))?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    Ok(())
}
