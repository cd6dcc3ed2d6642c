//! How a program ends: its digest on the debugger's console, and an exit code.

#![no_std]

use core::panic::PanicInfo;

use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio;
use workloads::Failure;

/// Prints `WORKLOAD DIGEST`, or that there is none, which ends the program with a failure.
pub fn report(workload: &str, result: Result<u32, Failure>) {
    let Ok(digest) = result else {
        print(workload, *b"failed  ");
        stop(EXIT_FAILURE)
    };
    // Without formatting, which costs more flash than the kernel.
    let digits = core::array::from_fn(|i| {
        let nibble = (digest >> (28 - 4 * i)) & 15;
        b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'?')
    });
    print(workload, digits);
}

/// Ends the program, successfully.
pub fn succeed() -> ! {
    stop(EXIT_SUCCESS)
}

fn print(workload: &str, digest: [u8; 8]) {
    let Ok(mut console) = hio::hstdout() else { return };
    for part in [workload.as_bytes(), b" ", &digest, b"\n"] {
        if console.write_all(part).is_err() {
            return;
        }
    }
}

fn stop(status: debug::ExitStatus) -> ! {
    debug::exit(status);
    loop {
        cortex_m::asm::wfi();
    }
}

/// In no program but `panics`: `scripts/firmware.py` fails where it finds this function.
#[inline(never)]
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    stop(EXIT_FAILURE)
}
