//! Learning on the device.

#![no_std]
#![no_main]

use query_adapter::Level;
use query_adapter_programs::{boundary, run, succeed};
use workloads::{TrainBuffers, train};

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: TrainBuffers = TrainBuffers::NEW;
    run(["train-128-bias"], || Ok([train(BUFFERS, Level::baseline(), boundary)?]));
    succeed()
}
