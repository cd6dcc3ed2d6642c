//! What the benchmarks of the kernel share: inputs, the machine's limits, and rooflines counted from both.
//!
//! `benches/kernel.rs` times the kernel's operations with criterion, for comparing one commit with another.
//! `benches/roofline.rs` times them beside the machine's own limits and, with the feature `peers`, beside other
//! libraries, for knowing how much there is left to gain. The program `bench-case` runs one of them for other programs.
//! How to run and read all of them is in `docs/benchmarks.md`.

pub mod cases;
pub mod clock;
pub mod limits;
pub mod operations;
#[cfg(feature = "peers")]
pub mod peers;
pub mod roofline;
