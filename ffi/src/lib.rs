//! The C interface of the kernel: `include/query_adapter.h`, written by cbindgen from this crate.
//!
//! Built as a static library. For a device:
//!
//! ```sh
//! cargo build --profile device -p query-adapter-ffi --no-default-features --features train --target thumbv7em-none-eabihf
//! ```
//!
//! Whatever C can get wrong and a function can see becomes a code: null pointers, addresses that are no multiple of the
//! type's alignment, lengths that do not fit, memory that overlaps. What it cannot see is a length that is more than
//! there is.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![expect(unsafe_code, reason = "a C interface takes pointers")]

mod adapter;
mod documents;
mod pointers;
mod status;
#[cfg(feature = "train")]
mod training;

pub use adapter::*;
pub use documents::*;
pub use pointers::QadLanes;
pub use status::*;
#[cfg(feature = "train")]
pub use training::*;

/// The level everything runs on: the best of this processor, where an operating system says which that is.
fn level() -> query_adapter::Level {
    #[cfg(feature = "std")]
    return query_adapter::Level::detect();
    #[cfg(not(feature = "std"))]
    query_adapter::Level::baseline()
}

/// A static library has to have one. Nothing in this one calls it: `scripts/ffi.py` looks.
#[cfg(not(any(test, feature = "std")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
