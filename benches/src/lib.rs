//! What the benchmarks of the kernel share: inputs, the machine's limits, and rooflines counted from both.
//!
//! `benches/kernel.rs` times the kernel's operations with criterion, for comparing one commit with another.
//! `benches/roofline.rs` times them beside the machine's own limits, for knowing how much there is left to gain.
//! How to run and read both is in `docs/benchmarks.md`.

pub mod cases;
pub mod clock;
pub mod limits;
pub mod roofline;
