//! An adapter of eight bits in flash, and one that is streamed.

#![no_std]
#![no_main]

use query_adapter::{Lanes, Level, include_adapter};
use query_adapter_programs::{boundary, run, succeed};
use workloads::{ApplyBuffers, NARROW, apply_int8, apply_streamed};

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: ApplyBuffers = ApplyBuffers::NEW;
    static mut PANEL: [Lanes; NARROW.in_dim] = [Lanes::ZERO; NARROW.in_dim];
    let square = include_adapter!(concat!(env!("OUT_DIR"), "/square-int8.qad"));
    let narrow = include_adapter!(concat!(env!("OUT_DIR"), "/narrow.qad"));
    run(["apply-383-int8"], || Ok([apply_int8(square, BUFFERS, Level::baseline(), boundary)?]));
    run(["apply-streamed"], || Ok([apply_streamed(narrow, PANEL, BUFFERS, Level::baseline(), boundary)?]));
    succeed()
}
