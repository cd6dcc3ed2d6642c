//! Damaged adapters.

#![no_std]
#![no_main]

use query_adapter::{Lanes, include_adapter};
use query_adapter_programs::{run, succeed};
use workloads::{REFUSE_LEN, refuse};

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut COPY: [Lanes; REFUSE_LEN] = [Lanes::ZERO; REFUSE_LEN];
    let narrow = include_adapter!(concat!(env!("OUT_DIR"), "/narrow.qad"));
    let small = include_adapter!(concat!(env!("OUT_DIR"), "/small-int8.qad"));
    run(["refuse"], || Ok([refuse(narrow, COPY)?]));
    run(["refuse-int8"], || Ok([refuse(small, COPY)?]));
    succeed()
}
