//! How much stack a piece of work takes: what lies below is painted first, and looked at afterwards.

use cortex_m::register::msp;

const PAINT: u32 = 0x5afe_57ac;
/// Left alone below the stack pointer, where this module's own calls are.
const MARGIN: u32 = 256;

// SAFETY: cortex-m-rt's linker script has this symbol; only its address is taken.
#[expect(unsafe_code, reason = "a symbol of the linker script")]
unsafe extern "C" {
    /// The end of all statics: the stack comes down towards it.
    static __sheap: u32;
}

/// What `work` returns, and the bytes of stack it took, at least 256.
#[inline(never)]
#[expect(unsafe_code, reason = "memory that belongs to nothing yet")]
pub(crate) fn used_by<T>(work: impl FnOnce() -> T) -> (T, u32) {
    let bottom = u32::try_from((&raw const __sheap).addr()).unwrap_or(u32::MAX).next_multiple_of(4);
    let top = msp::read().saturating_sub(MARGIN);
    let free = || {
        (bottom..top)
            .step_by(4)
            .map(|address| core::ptr::with_exposed_provenance_mut::<u32>(address as usize))
    };
    for place in free() {
        // SAFETY: between the end of all statics and the stack pointer lies memory that nothing refers to, at multiples of 4.
        unsafe { place.write_volatile(PAINT) };
    }
    let result = call(work);
    // SAFETY: as above.
    let untouched = free().take_while(|place| unsafe { place.read_volatile() } == PAINT).count();
    let untouched = u32::try_from(untouched).unwrap_or(0).saturating_mul(4);
    (result, (top + MARGIN).saturating_sub(bottom).saturating_sub(untouched))
}

/// Not inlined, so that what `work` needs is not part of a frame that was there before.
#[inline(never)]
fn call<T>(work: impl FnOnce() -> T) -> T {
    work()
}
