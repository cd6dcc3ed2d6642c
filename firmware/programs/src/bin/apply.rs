//! Two adapters in flash, used where they lie.

#![no_std]
#![no_main]

use query_adapter::{Level, include_adapter};
use query_adapter_programs::{boundary, run, succeed};
use workloads::{ApplyBuffers, apply};

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: ApplyBuffers = ApplyBuffers::NEW;
    let square = include_adapter!(concat!(env!("OUT_DIR"), "/square.qad"));
    let narrow = include_adapter!(concat!(env!("OUT_DIR"), "/narrow.qad"));
    run(["apply-383-bias"], || Ok([apply(square, BUFFERS, Level::baseline(), boundary)?]));
    run(["apply-96-to-40"], || Ok([apply(narrow, BUFFERS, Level::baseline(), boundary)?]));
    succeed()
}
