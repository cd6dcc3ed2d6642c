//! An adapter in flash, and of its file nothing but the weights: as small as a program that applies one can be.

#![no_std]
#![no_main]

use query_adapter::{Level, include_adapter};
use query_adapter_programs::{boundary, run, succeed};
use workloads::{ApplyBuffers, apply_only};

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: ApplyBuffers = ApplyBuffers::NEW;
    let square = include_adapter!(concat!(env!("OUT_DIR"), "/square.qad"));
    run(["apply-383-only"], || Ok([apply_only(square, BUFFERS, Level::baseline(), boundary)?]));
    succeed()
}
