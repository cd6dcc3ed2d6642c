//! Fused multiply-add and square root of the floating-point unit of Cortex-M4F, M7, M33 and M55.
//!
//! Stable Rust reaches neither instruction there, so these are functions of assembly, in the calling convention that
//! passes `f32` in registers. The bits are those of the software forms in [`math`](crate::math).

use core::arch::naked_asm;

use crate::lanes::{LANES, Lanes};

/// `a × b + c`, rounded once.
// SAFETY: naked: reads s0, s1 and s2, where the convention puts the arguments, and leaves the result in s0. It writes
// s2, which belongs to the callee, and nothing else.
#[unsafe(naked)]
pub(crate) extern "C" fn fma(a: f32, b: f32, c: f32) -> f32 {
    naked_asm!(".fpu fpv4-sp-d16", "vfma.f32 s2, s0, s1", "vmov.f32 s0, s2", "bx lr")
}

/// The correctly rounded square root.
// SAFETY: naked: reads the argument in s0 and leaves the result there; nothing else is read or written.
#[unsafe(naked)]
pub(crate) extern "C" fn sqrt(x: f32) -> f32 {
    naked_asm!(".fpu fpv4-sp-d16", "vsqrt.f32 s0, s0", "bx lr")
}

/// Sixteen chains `acc ← fma(panel[k], scalars[k], acc)`, `k` ascending, as far as both reach.
#[inline(always)]
pub(crate) fn chain_rows(panel: &[Lanes], scalars: &[f32], mut acc: Lanes) -> Lanes {
    let count = panel.len().min(scalars.len());
    // SAFETY: both slices have at least `count` elements, and `acc` is a local of this function.
    unsafe { chain_contiguous(panel.as_ptr(), scalars.as_ptr(), count, &raw mut acc) };
    acc
}

/// Sixteen chains `acc ← fma(panel[i], tile[i].lane(column), acc)`, `i` ascending, as far as both reach.
#[inline(always)]
pub(crate) fn chain_columns(panel: &[Lanes], tile: &[Lanes], column: usize, mut acc: Lanes) -> Lanes {
    if column >= LANES {
        return acc;
    }
    let count = panel.len().min(tile.len());
    let scalars = tile.as_ptr().cast::<f32>().wrapping_add(column);
    // SAFETY: both slices have at least `count` elements; `scalars` points to lane `column`, below 16, of the first of
    // `tile`, so that every sixteenth `f32` from there is that lane of the next. `acc` is a local of this function.
    unsafe { chain_strided(panel.as_ptr(), scalars, count, &raw mut acc) };
    acc
}

/// `$load` brings the next scalar into s16 and moves r1 past it.
macro_rules! chain {
    ($($load:literal),+) => {
        naked_asm!(
            ".fpu fpv4-sp-d16",
            "vpush {{s16-s31}}",
            "vldmia r3, {{s0-s15}}",
            "cbz r2, 2f",
            "1:",
            $($load,)+
            "vldmia r0!, {{s24-s31}}",
            "vfma.f32 s0, s24, s16",
            "vfma.f32 s1, s25, s16",
            "vfma.f32 s2, s26, s16",
            "vfma.f32 s3, s27, s16",
            "vfma.f32 s4, s28, s16",
            "vfma.f32 s5, s29, s16",
            "vfma.f32 s6, s30, s16",
            "vfma.f32 s7, s31, s16",
            "vldmia r0!, {{s24-s31}}",
            "vfma.f32 s8, s24, s16",
            "vfma.f32 s9, s25, s16",
            "vfma.f32 s10, s26, s16",
            "vfma.f32 s11, s27, s16",
            "vfma.f32 s12, s28, s16",
            "vfma.f32 s13, s29, s16",
            "vfma.f32 s14, s30, s16",
            "vfma.f32 s15, s31, s16",
            "subs r2, #1",
            "bne 1b",
            "2:",
            "vstmia r3, {{s0-s15}}",
            "vpop {{s16-s31}}",
            "bx lr",
        )
    };
}

/// # Safety
/// `panel` points to `count` elements and `scalars` to as many, to be read; `acc` may be read and written.
// SAFETY: naked: the arguments are r0 to r3, in their order. Reads 64 bytes at r0 and 4 at r1 for each of the r2 turns, and
// 64 at r3, which it writes: all of it the caller's to give. s0 to s15 and r0 to r2 belong to the callee, s16 to s31 are
// put back.
#[unsafe(naked)]
unsafe extern "C" fn chain_contiguous(
    panel: *const Lanes,
    scalars: *const f32,
    count: usize,
    acc: *mut Lanes,
) {
    chain!("vldmia r1!, {{s16}}")
}

/// # Safety
/// `panel` points to `count` elements, to be read, and `scalars` to the first of as many `f32`, each sixteen places
/// behind the one before; `acc` may be read and written.
// SAFETY: naked: as above, but for the 4 bytes that are read at r1, which moves on by 64. The last move may leave it past the
// end, where nothing is read.
#[unsafe(naked)]
unsafe extern "C" fn chain_strided(panel: *const Lanes, scalars: *const f32, count: usize, acc: *mut Lanes) {
    chain!("vldr.32 s16, [r1]", "adds r1, #64")
}
