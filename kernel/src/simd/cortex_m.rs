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

/// `c ← a × b + c`, sixteen times.
// SAFETY: naked: the arguments are r0 to r2, references to 64 bytes each, of which those at r2 are written. s0 to s11 and r0
// to r2 belong to the callee.
#[unsafe(naked)]
pub(crate) extern "C" fn fma_lanes(a: &[f32; LANES], b: &[f32; LANES], c: &mut [f32; LANES]) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        ".rept 4",
        "vldm r2, {{s0-s3}}",
        "vldmia r0!, {{s4-s7}}",
        "vldmia r1!, {{s8-s11}}",
        "vfma.f32 s0, s4, s8",
        "vfma.f32 s1, s5, s9",
        "vfma.f32 s2, s6, s10",
        "vfma.f32 s3, s7, s11",
        "vstmia r2!, {{s0-s3}}",
        ".endr",
        "bx lr",
    )
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

/// What [`adamw`] needs to know of a step.
#[cfg(feature = "train")]
pub(crate) type Scalars = [f32; 9];

/// AdamW on sixteen elements by their raw gradient, decaying toward zero: [`reference_update`](crate::reference::reference_update).
///
/// `scalars` are, of an `Update`: `coef`, `beta1`, `one_minus_beta1`, `beta2`, `one_minus_beta2`, `eps`, `minus_decay`,
/// `minus_step`, `r2`.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn adamw(scalars: &Scalars, gradient: &Lanes, w: &mut Lanes, m: &mut Lanes, v: &mut Lanes) {
    // SAFETY: all are references, to as many elements as are read and written.
    unsafe { adamw_lanes(scalars, gradient, w, m, v) };
}

/// # Safety
/// All point to what their types say; `w`, `m` and `v` may be written.
// SAFETY: naked: the arguments are r0 to r3 and the first word on the stack. Reads 36 bytes at r0 and 64 at r1, reads and
// writes 64 at each of the others: all of it the caller's to give. s0 to s15, r0 to r3 and r12 belong to the callee.
#[cfg(feature = "train")]
#[unsafe(naked)]
unsafe extern "C" fn adamw_lanes(
    scalars: *const Scalars,
    gradient: *const Lanes,
    w: *mut Lanes,
    m: *mut Lanes,
    v: *mut Lanes,
) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "ldr r12, [sp]",
        // s7: coef, s8: beta1, s9: 1 - beta1, s10: beta2, s11: 1 - beta2, s12: eps, s13: -decay, s14: -step, s15: r2
        "vldmia r0, {{s7-s15}}",
        "movs r0, #16",
        "1:",
        "vldmia r1!, {{s0}}",
        "vldr.32 s1, [r3]",
        "vldr.32 s2, [r12]",
        "vldr.32 s3, [r2]",
        "vmul.f32 s0, s7, s0",
        // m = fma(beta1, m, (1 - beta1) g)
        "vmul.f32 s4, s9, s0",
        "vfma.f32 s4, s8, s1",
        // v = fma(beta2, v, ((1 - beta2) g) g)
        "vmul.f32 s5, s11, s0",
        "vmul.f32 s5, s5, s0",
        "vfma.f32 s5, s10, s2",
        "vstmia r3!, {{s4}}",
        "vstmia r12!, {{s5}}",
        // m / fma(sqrt(v), r2, eps)
        "vsqrt.f32 s5, s5",
        "vmov.f32 s6, s12",
        "vfma.f32 s6, s5, s15",
        "vdiv.f32 s4, s4, s6",
        // fma(-step, ratio, fma(-decay, w, w))
        "vmov.f32 s6, s3",
        "vfma.f32 s6, s13, s3",
        "vfma.f32 s6, s14, s4",
        "vstmia r2!, {{s6}}",
        "subs r0, #1",
        "bne 1b",
        "bx lr",
    )
}
