//! In a thread that loses subnormal numbers results would be others, so nothing is computed there.
#![cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
#![expect(unsafe_code, reason = "the mode of the floating-point unit")]

use core::arch::asm;

use query_adapter::{
    ByteLanes, DocumentPanels, Error, Found, Int8Linear, Lanes, Level, Linear, TopK, apply_streamed,
    cosine_scores, normalize_queries, normalize_rows, score_documents, search,
};

/// Modes in which results that are subnormal, operands that are, or both are taken for zero.
#[cfg(target_arch = "x86_64")]
const MODES: [u32; 3] = [1 << 15, 1 << 6, 1 << 15 | 1 << 6];
#[cfg(target_arch = "aarch64")]
const MODES: [u32; 1] = [1 << 24];

/// What the mode is outside of this file.
#[cfg(target_arch = "x86_64")]
const DEFAULT: u32 = 0x1f80;
#[cfg(target_arch = "aarch64")]
const DEFAULT: u32 = 0;

fn set_mode(bits: u32) {
    // SAFETY: only this thread's mode changes, to one of those above; what is computed under it are the two multiplications which
    // are to find it out, and those are opaque to the compiler.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("ldmxcsr [{}]", in(reg) &raw const bits, options(nostack, readonly));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("msr fpcr, {}", in(reg) u64::from(bits), options(nostack, nomem));
    }
}

/// What a call answers in each mode.
#[track_caller]
fn assert_refused(mut call: impl FnMut() -> Result<(), Error>) {
    assert_eq!(call(), Ok(()), "in the default mode");
    for mode in MODES {
        set_mode(DEFAULT | mode);
        let refused = call();
        set_mode(DEFAULT);
        assert_eq!(refused, Err(Error::FlushToZero), "{mode:#x}");
    }
}

#[test]
fn nothing_is_computed_in_a_thread_that_loses_subnormal_numbers() {
    let level = Level::baseline();
    let panels = [Lanes([1.0; 16]); 2];
    assert_refused(|| Linear::from_lanes(2, 2, false, panels, level).map(drop));
    assert_refused(|| Linear::identity(2, 2, false, panels, level).map(drop));
    assert_refused(|| Int8Linear::new(2, &[ByteLanes::ZERO; 2], &[Lanes::ZERO], None, level).map(drop));
    assert_refused(|| {
        apply_streamed(level, false, &[1.0; 2], &mut [0.0; 2], &mut [Lanes::ZERO; 2], |_, buffer| {
            buffer.fill(Lanes::ZERO);
            Ok(())
        })
    });
    let mut storage = [Found::default(); 2];
    let mut best = TopK::new(&mut storage);
    assert_refused(|| search(level, &[1.0; 2], DocumentPanels::F32(&panels), 3, None, &mut best));
    assert_refused(|| normalize_rows(level, &mut [1.0; 4], 2));
    assert_refused(|| normalize_queries(level, &[1.0; 4], 2, &mut [Lanes::ZERO; 2]));
    assert_refused(|| score_documents(level, &panels, &[1.0; 4], 2, &mut [Lanes::ZERO; 2]));
    assert_refused(|| {
        cosine_scores(level, &[1.0; 4], &[1.0; 4], 2, &mut [Lanes::ZERO; 2], &mut [Lanes::ZERO; 2])
    });
}
