//! Asking for memory before it is needed.

use crate::lanes::Lanes;

/// Whether [`prefetch`] does anything.
pub(crate) const PREFETCHES: bool = cfg!(target_arch = "x86_64");

/// Asks for the line that lies `ahead` lines after the beginning of `here`, where the processor has an instruction for
/// that which Rust reaches.
///
/// A hint: results do not depend on it, and the line may lie past the end of everything.
#[inline(always)]
#[allow(unsafe_code, reason = "Rust takes the instruction for one that might read")]
pub(crate) fn prefetch<T>(here: &T, ahead: usize) {
    let line = core::ptr::from_ref(here).cast::<Lanes>().wrapping_add(ahead);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads nothing that the program could see and faults at no address; SSE, whose instruction it
    // is, belongs to every x86-64 processor.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
