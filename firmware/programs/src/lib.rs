//! How a program ends: its digests and what stack they took on the debugger's console, and an exit code.

#![no_std]

use core::panic::PanicInfo;

use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio;
use workloads::Failure;

mod stack;

/// Runs a workload; prints `WORKLOAD DIGEST`, and `WORKLOAD stack BYTES` for what it took below its caller.
pub fn run<const N: usize>(workloads: [&str; N], work: impl FnOnce() -> Result<[u32; N], Failure>) {
    let (digests, bytes) = stack::used_by(work);
    for (i, workload) in workloads.into_iter().enumerate() {
        report(workload, digests.map(|digests| digests.get(i).copied().unwrap_or(0)));
    }
    let mut digits = [b'0'; 8];
    let mut rest = bytes;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    if let Some(workload) = workloads.first() {
        print_parts([workload.as_bytes(), b" stack ", &digits, b"\n"]);
    }
}

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

/// Called by a workload before each of its operations and after. `scripts/firmware.py` finds this function by its name and
/// counts the instructions between two calls.
#[inline(never)]
pub fn boundary() {
    // Without effect, but not for the optimiser.
    core::hint::black_box(());
}

/// Ends the program, successfully.
pub fn succeed() -> ! {
    stop(EXIT_SUCCESS)
}

fn print(workload: &str, digest: [u8; 8]) {
    print_parts([workload.as_bytes(), b" ", &digest, b"\n"]);
}

fn print_parts(parts: [&[u8]; 4]) {
    let Ok(mut console) = hio::hstdout() else { return };
    for part in parts {
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
