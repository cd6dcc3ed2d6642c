//! Prints the digests that a device must print, computed on this machine: a line `LEVEL WORKLOAD DIGEST` each. With the
//! name of a folder, writes the adapters of most workloads there, as `square.qad` and `square-int8.qad`.

use std::path::Path;
use std::process::ExitCode;

use query_adapter::Level;
use workloads::{SQUARE, WORKLOADS, digests, write_image, write_int8_image};

fn main() -> ExitCode {
    if let Some(folder) = std::env::args_os().nth(1)
        && let Err(problem) = write_adapters(Path::new(&folder))
    {
        eprintln!("{}: {problem}", Path::new(&folder).display());
        return ExitCode::FAILURE;
    }
    for level in Level::available() {
        match digests(level) {
            Ok(digests) => {
                for (workload, digest) in WORKLOADS.into_iter().zip(digests) {
                    if let Some(digest) = digest {
                        println!("{} {workload} {digest:08x}", level.name());
                    }
                }
            }
            Err(failure) => {
                eprintln!("{}: {failure:?}", level.name());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn write_adapters(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::write(folder.join("square.qad"), write_image(SQUARE)?)?;
    std::fs::write(folder.join("square-int8.qad"), write_int8_image(SQUARE)?)?;
    Ok(())
}
