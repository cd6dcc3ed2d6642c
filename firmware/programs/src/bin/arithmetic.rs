//! The floating-point unit against the software forms.

#![no_std]
#![no_main]

use query_adapter_programs::{report, succeed};

#[cortex_m_rt::entry]
fn main() -> ! {
    report("arithmetic", Ok(workloads::arithmetic()));
    succeed()
}
