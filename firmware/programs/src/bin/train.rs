//! Learning on the device.

#![no_std]
#![no_main]

use query_adapter::Level;
use query_adapter_programs::{report, succeed};
use workloads::{TrainBuffers, train};

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut BUFFERS: TrainBuffers = TrainBuffers::NEW;
    report("train-128-bias", train(BUFFERS, Level::baseline()));
    succeed()
}
