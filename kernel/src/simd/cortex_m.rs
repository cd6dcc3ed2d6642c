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
    let place = &raw mut acc;
    // SAFETY: both slices have at least `count` elements, and `acc` is a local of this function.
    unsafe { chain_contiguous(panel.as_ptr(), scalars.as_ptr(), count, place, place) };
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
    let place = &raw mut acc;
    // SAFETY: both slices have at least `count` elements; `scalars` points to lane `column`, below 16, of the first of
    // `tile`, so that every sixteenth `f32` from there is that lane of the next. `acc` is a local of this function.
    unsafe { chain_strided(panel.as_ptr(), scalars, count, place, place) };
    acc
}

/// `$one` brings the next scalar into s16 and moves r1 past it; `$two` brings the next two into s16 and s17. Neither changes a
/// flag.
macro_rules! chain {
    ([$($one:literal),+], [$($two:literal),+]) => {
        naked_asm!(
            ".fpu fpv4-sp-d16",
            ".macro chain_turn scalar",
            "vldmia r0!, {{s24-s31}}",
            "vfma.f32 s0, s24, \\scalar",
            "vfma.f32 s1, s25, \\scalar",
            "vfma.f32 s2, s26, \\scalar",
            "vfma.f32 s3, s27, \\scalar",
            "vfma.f32 s4, s28, \\scalar",
            "vfma.f32 s5, s29, \\scalar",
            "vfma.f32 s6, s30, \\scalar",
            "vfma.f32 s7, s31, \\scalar",
            "vldmia r0!, {{s24-s31}}",
            "vfma.f32 s8, s24, \\scalar",
            "vfma.f32 s9, s25, \\scalar",
            "vfma.f32 s10, s26, \\scalar",
            "vfma.f32 s11, s27, \\scalar",
            "vfma.f32 s12, s28, \\scalar",
            "vfma.f32 s13, s29, \\scalar",
            "vfma.f32 s14, s30, \\scalar",
            "vfma.f32 s15, s31, \\scalar",
            ".endm",
            "ldr r12, [sp]",
            "vpush {{s16-s31}}",
            "vldmia r3, {{s0-s15}}",
            // Two turns at a time; carry: one more, zero: no two.
            "lsrs r2, r2, #1",
            "bcc 1f",
            $($one,)+
            "chain_turn s16",
            "1:",
            "beq 3f",
            "2:",
            $($two,)+
            "chain_turn s16",
            "chain_turn s17",
            "subs r2, r2, #1",
            "bne 2b",
            "3:",
            "vstmia r12, {{s0-s15}}",
            "vpop {{s16-s31}}",
            "bx lr",
            ".purgem chain_turn",
        )
    };
}

/// # Safety
/// `panel` points to `count` elements and `scalars` to as many, to be read; `from` may be read and `to` written, which may be
/// the same.
// SAFETY: naked: the arguments are r0 to r3 and the first word on the stack, read before anything is pushed. Reads 64 bytes at
// r0 and 4 at r1 for each of the r2 turns, and 64 at r3, and writes 64 at r12: all of it the caller's to give. s0 to s15, r0
// to r2 and r12 belong to the callee, s16 to s31 are put back.
#[unsafe(naked)]
unsafe extern "C" fn chain_contiguous(
    panel: *const Lanes,
    scalars: *const f32,
    count: usize,
    from: *const Lanes,
    to: *mut Lanes,
) {
    chain!(["vldmia r1!, {{s16}}"], ["vldmia r1!, {{s16-s17}}"])
}

/// # Safety
/// `panel` points to `count` elements, to be read, and `scalars` to the first of as many `f32`, each sixteen places
/// behind the one before; `from` may be read and `to` written, which may be the same.
// SAFETY: naked: as above, but for the 4 bytes that are read at r1, which moves on by 64. The last move may leave it past the
// end, where nothing is read.
#[unsafe(naked)]
unsafe extern "C" fn chain_strided(
    panel: *const Lanes,
    scalars: *const f32,
    count: usize,
    from: *const Lanes,
    to: *mut Lanes,
) {
    chain!(
        ["vldr.32 s16, [r1]", "add.w r1, r1, #64"],
        ["vldr.32 s16, [r1]", "vldr.32 s17, [r1, #64]", "add.w r1, r1, #128"]
    )
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

/// [`adamw`] on the columns of a gradient that is formed on the way: column `c` is `Σᵢ d_output[i] · tile[i].lane(c)`, `i`
/// ascending from +0, as far as both reach. As many columns as `w`, `m` and `v` all have, sixteen at most.
#[cfg(feature = "train")]
pub(crate) fn adamw_columns(
    scalars: &Scalars,
    d_output: &[Lanes],
    tile: &[Lanes],
    w: &mut [Lanes],
    m: &mut [Lanes],
    v: &mut [Lanes],
) {
    let columns = Columns {
        d_output: d_output.as_ptr(),
        tile: tile.as_ptr().cast(),
        rows: d_output.len().min(tile.len()),
        scalars,
        count: w.len().min(m.len()).min(v.len()).min(LANES),
        w: w.as_mut_ptr(),
        m: m.as_mut_ptr(),
        v: v.as_mut_ptr(),
    };
    if columns.count > 0 {
        // SAFETY: the pointers are those of slices with at least `rows` and `count` elements; there are sixteen lanes.
        unsafe { adamw_each_column(&raw const columns) };
    }
}

/// What [`adamw_each_column`] works on.
#[cfg(feature = "train")]
#[repr(C)]
struct Columns {
    d_output: *const Lanes,
    tile: *const f32,
    rows: usize,
    scalars: *const Scalars,
    w: *mut Lanes,
    m: *mut Lanes,
    v: *mut Lanes,
    count: usize,
}

/// # Safety
/// `d_output` and `tile` of what it is given point to `rows` times 64 bytes to be read, `w`, `m` and `v` to `count` elements to
/// be read and written; `count` is from 1 to 16.
// SAFETY: naked: reads 32 bytes at r0, the `Columns`. r4 to r11 and the stack pointer are put back; the calls are made as their
// functions ask, the stack at a multiple of 8, and what they leave in r0 to r3, r12 and s0 to s15 is not looked at.
#[cfg(feature = "train")]
#[unsafe(naked)]
unsafe extern "C" fn adamw_each_column(columns: *const Columns) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4-r11, lr}}",
        // A call's fifth argument; at 8 sixteen zeros, at 72 the gradient of a column.
        "sub sp, #140",
        "ldmia r0, {{r4-r11}}",
        "movs r0, #0",
        "add r1, sp, #8",
        "movs r2, #16",
        "1:",
        "str r0, [r1], #4",
        "subs r2, #1",
        "bne 1b",
        "2:",
        "add r12, sp, #72",
        "str r12, [sp]",
        "mov r0, r4",
        "mov r1, r5",
        "mov r2, r6",
        "add r3, sp, #8",
        "bl {chain}",
        "str r10, [sp]",
        "mov r0, r7",
        "add r1, sp, #72",
        "mov r2, r8",
        "mov r3, r9",
        "bl {adamw}",
        "adds r5, #4",
        "add r8, r8, #64",
        "add r9, r9, #64",
        "add r10, r10, #64",
        "subs r11, r11, #1",
        "bne 2b",
        "add sp, #140",
        "pop {{r4-r11, pc}}",
        chain = sym chain_strided,
        adamw = sym adamw_lanes,
    )
}

/// # Safety
/// All point to what their types say; `w`, `m` and `v` may be written.
// SAFETY: naked: the arguments are r0 to r3 and the first word on the stack, read before anything is pushed. Reads 36 bytes at
// r0 and 64 at r1, reads and writes 64 at each of the others: all of it the caller's to give. s0 to s15, r0 to r3 and r12
// belong to the callee, s16 to s31 are put back.
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
        "vpush {{s16-s31}}",
        // s16: coef, s17: beta1, s18: 1 - beta1, s19: beta2, s20: 1 - beta2, s21: eps, s22: -decay, s23: -step, s24: r2
        "vldmia r0, {{s16-s24}}",
        "movs r0, #4",
        // Four elements a turn: the gradient in s0 to s3, m in s4 to s7, v in s8 to s11, w in s12 to s15.
        "1:",
        "vldmia r1!, {{s0-s3}}",
        "vldm r3, {{s4-s7}}",
        "vldm r12, {{s8-s11}}",
        "vldm r2, {{s12-s15}}",
        "vmul.f32 s0, s16, s0",
        "vmul.f32 s1, s16, s1",
        "vmul.f32 s2, s16, s2",
        "vmul.f32 s3, s16, s3",
        // m = fma(beta1, m, (1 - beta1) g), in s25 to s28
        "vmul.f32 s25, s18, s0",
        "vmul.f32 s26, s18, s1",
        "vmul.f32 s27, s18, s2",
        "vmul.f32 s28, s18, s3",
        "vfma.f32 s25, s17, s4",
        "vfma.f32 s26, s17, s5",
        "vfma.f32 s27, s17, s6",
        "vfma.f32 s28, s17, s7",
        "vstmia r3!, {{s25-s28}}",
        // v = fma(beta2, v, ((1 - beta2) g) g), in s4 to s7
        "vmul.f32 s4, s20, s0",
        "vmul.f32 s5, s20, s1",
        "vmul.f32 s6, s20, s2",
        "vmul.f32 s7, s20, s3",
        "vmul.f32 s4, s4, s0",
        "vmul.f32 s5, s5, s1",
        "vmul.f32 s6, s6, s2",
        "vmul.f32 s7, s7, s3",
        "vfma.f32 s4, s19, s8",
        "vfma.f32 s5, s19, s9",
        "vfma.f32 s6, s19, s10",
        "vfma.f32 s7, s19, s11",
        "vstmia r12!, {{s4-s7}}",
        // m / fma(sqrt(v), r2, eps), in s25 to s28
        "vsqrt.f32 s4, s4",
        "vsqrt.f32 s5, s5",
        "vsqrt.f32 s6, s6",
        "vsqrt.f32 s7, s7",
        "vmov.f32 s8, s21",
        "vmov.f32 s9, s21",
        "vmov.f32 s10, s21",
        "vmov.f32 s11, s21",
        "vfma.f32 s8, s4, s24",
        "vfma.f32 s9, s5, s24",
        "vfma.f32 s10, s6, s24",
        "vfma.f32 s11, s7, s24",
        "vdiv.f32 s25, s25, s8",
        "vdiv.f32 s26, s26, s9",
        "vdiv.f32 s27, s27, s10",
        "vdiv.f32 s28, s28, s11",
        // w = fma(-step, ratio, fma(-decay, w, w)), in s0 to s3
        "vmov.f32 s0, s12",
        "vmov.f32 s1, s13",
        "vmov.f32 s2, s14",
        "vmov.f32 s3, s15",
        "vfma.f32 s0, s22, s12",
        "vfma.f32 s1, s22, s13",
        "vfma.f32 s2, s22, s14",
        "vfma.f32 s3, s22, s15",
        "vfma.f32 s0, s23, s25",
        "vfma.f32 s1, s23, s26",
        "vfma.f32 s2, s23, s27",
        "vfma.f32 s3, s23, s28",
        "vstmia r2!, {{s0-s3}}",
        "subs r0, #1",
        "bne 1b",
        "vpop {{s16-s31}}",
        "bx lr",
    )
}

/// `acc ← fma(x[k], y[k], acc)`, `k` ascending, as far as both reach.
#[inline(always)]
pub(crate) fn dot_columns(x: &[Lanes], y: &[Lanes], acc: &mut Lanes) {
    // SAFETY: both slices have at least as many elements as are counted.
    unsafe { dot_each(x.as_ptr(), y.as_ptr(), x.len().min(y.len()), acc) };
}

/// `x[k] ← x[k] × factor`.
#[inline(always)]
pub(crate) fn scale_columns(x: &mut [Lanes], factor: &Lanes) {
    // SAFETY: the slice has as many elements as are counted.
    unsafe { scale_each(x.as_mut_ptr(), x.len(), factor) };
}

/// `d[k] ← fma(factor, x[k], d[k])`, as far as both reach.
#[cfg(feature = "train")]
#[inline(always)]
pub(crate) fn add_scaled_columns(factor: &Lanes, x: &[Lanes], d: &mut [Lanes]) {
    // SAFETY: both slices have at least as many elements as are counted.
    unsafe { add_scaled_each(x.as_ptr(), d.as_mut_ptr(), x.len().min(d.len()), factor) };
}

/// # Safety
/// `x` and `y` point to `count` elements to be read; `acc` may be read and written.
// SAFETY: naked: the arguments are r0 to r3, in their order. Reads 64 bytes at r0 and at r1 for each of the r2 turns, and 64 at
// r3, which it writes: all of it the caller's to give. s0 to s15 and r0 to r2 belong to the callee, s16 to s31 are put back.
#[unsafe(naked)]
unsafe extern "C" fn dot_each(x: *const Lanes, y: *const Lanes, count: usize, acc: *mut Lanes) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "vpush {{s16-s31}}",
        "vldm r3, {{s0-s15}}",
        "cbz r2, 2f",
        "1:",
        "vldmia r0!, {{s16-s23}}",
        "vldmia r1!, {{s24-s31}}",
        "vfma.f32 s0, s16, s24",
        "vfma.f32 s1, s17, s25",
        "vfma.f32 s2, s18, s26",
        "vfma.f32 s3, s19, s27",
        "vfma.f32 s4, s20, s28",
        "vfma.f32 s5, s21, s29",
        "vfma.f32 s6, s22, s30",
        "vfma.f32 s7, s23, s31",
        "vldmia r0!, {{s16-s23}}",
        "vldmia r1!, {{s24-s31}}",
        "vfma.f32 s8, s16, s24",
        "vfma.f32 s9, s17, s25",
        "vfma.f32 s10, s18, s26",
        "vfma.f32 s11, s19, s27",
        "vfma.f32 s12, s20, s28",
        "vfma.f32 s13, s21, s29",
        "vfma.f32 s14, s22, s30",
        "vfma.f32 s15, s23, s31",
        "subs r2, #1",
        "bne 1b",
        "2:",
        "vstm r3, {{s0-s15}}",
        "vpop {{s16-s31}}",
        "bx lr",
    )
}

/// # Safety
/// `x` points to `count` elements to be read and written; `factor` may be read.
// SAFETY: naked: the arguments are r0 to r2, in their order. Reads and writes 64 bytes at r0 for each of the r1 turns, and reads
// 64 at r2: all of it the caller's to give. s0 to s15, r0 and r1 belong to the callee, s16 to s31 are put back.
#[unsafe(naked)]
unsafe extern "C" fn scale_each(x: *mut Lanes, count: usize, factor: *const Lanes) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "vpush {{s16-s31}}",
        "vldm r2, {{s16-s31}}",
        "cbz r1, 2f",
        "1:",
        "vldm r0, {{s0-s15}}",
        "vmul.f32 s0, s0, s16",
        "vmul.f32 s1, s1, s17",
        "vmul.f32 s2, s2, s18",
        "vmul.f32 s3, s3, s19",
        "vmul.f32 s4, s4, s20",
        "vmul.f32 s5, s5, s21",
        "vmul.f32 s6, s6, s22",
        "vmul.f32 s7, s7, s23",
        "vmul.f32 s8, s8, s24",
        "vmul.f32 s9, s9, s25",
        "vmul.f32 s10, s10, s26",
        "vmul.f32 s11, s11, s27",
        "vmul.f32 s12, s12, s28",
        "vmul.f32 s13, s13, s29",
        "vmul.f32 s14, s14, s30",
        "vmul.f32 s15, s15, s31",
        "vstmia r0!, {{s0-s15}}",
        "subs r1, #1",
        "bne 1b",
        "2:",
        "vpop {{s16-s31}}",
        "bx lr",
    )
}

/// # Safety
/// `x` points to `count` elements to be read, `d` to as many to be read and written; `factor` may be read.
// SAFETY: naked: the arguments are r0 to r3, in their order. Reads 64 bytes at r0, and reads and writes 64 at r1, for each of
// the r2 turns, and reads 64 at r3: all of it the caller's to give. s0 to s15 and r0 to r2 belong to the callee, s16 to s31
// are put back.
#[cfg(feature = "train")]
#[unsafe(naked)]
unsafe extern "C" fn add_scaled_each(x: *const Lanes, d: *mut Lanes, count: usize, factor: *const Lanes) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "vpush {{s16-s31}}",
        "vldm r3, {{s16-s31}}",
        "cbz r2, 2f",
        "1:",
        "vldm r1, {{s0-s7}}",
        "vldmia r0!, {{s8-s15}}",
        "vfma.f32 s0, s16, s8",
        "vfma.f32 s1, s17, s9",
        "vfma.f32 s2, s18, s10",
        "vfma.f32 s3, s19, s11",
        "vfma.f32 s4, s20, s12",
        "vfma.f32 s5, s21, s13",
        "vfma.f32 s6, s22, s14",
        "vfma.f32 s7, s23, s15",
        "vstmia r1!, {{s0-s7}}",
        "vldm r1, {{s0-s7}}",
        "vldmia r0!, {{s8-s15}}",
        "vfma.f32 s0, s24, s8",
        "vfma.f32 s1, s25, s9",
        "vfma.f32 s2, s26, s10",
        "vfma.f32 s3, s27, s11",
        "vfma.f32 s4, s28, s12",
        "vfma.f32 s5, s29, s13",
        "vfma.f32 s6, s30, s14",
        "vfma.f32 s7, s31, s15",
        "vstmia r1!, {{s0-s7}}",
        "subs r2, #1",
        "bne 1b",
        "2:",
        "vpop {{s16-s31}}",
        "bx lr",
    )
}
