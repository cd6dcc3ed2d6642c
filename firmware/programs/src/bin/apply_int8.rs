//! An adapter of eight bits in flash, and one that is streamed.

#![no_std]
#![no_main]

use query_adapter::{Lanes, Level, include_adapter};
use query_adapter_programs::{run, succeed};
use workloads::{ApplyBuffers, Int8Parts, NARROW, apply_int8, apply_streamed};

macro_rules! panels {
    ($name:literal) => {
        bytemuck::try_cast_slice(include_adapter!(concat!(env!("OUT_DIR"), "/", $name))).unwrap_or_default()
    };
}

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: ApplyBuffers = ApplyBuffers::NEW;
    static mut PANEL: [Lanes; NARROW.in_dim] = [Lanes::ZERO; NARROW.in_dim];
    let parts = Int8Parts {
        values: panels!("square-int8.bin"),
        scales: panels!("square-scales.bin"),
        bias: panels!("square-bias.bin"),
    };
    run(["apply-383-int8"], || Ok([apply_int8(parts, BUFFERS, Level::baseline())?]));
    let narrow = include_adapter!(concat!(env!("OUT_DIR"), "/narrow.qad"));
    run(["apply-streamed"], || Ok([apply_streamed(narrow, PANEL, BUFFERS, Level::baseline())?]));
    succeed()
}
