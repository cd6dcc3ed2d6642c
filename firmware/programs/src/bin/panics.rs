//! What no other program may be: one that can panic. It is linked so that the check is seen to find it.

#![no_std]
#![no_main]

use query_adapter_programs::{report, succeed};

#[cortex_m_rt::entry]
fn main() -> ! {
    let digest = workloads::arithmetic();
    assert!(digest != 0, "a digest of zero");
    report("panics", Ok(digest));
    succeed()
}
