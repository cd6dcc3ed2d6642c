//! Pointers from C, looked at before they are followed.

use core::ops::Range;

use query_adapter::Lanes;

use crate::status::{QAD_LENGTH, QAD_MISALIGNED, QAD_NULL, QAD_OVERLAP, Refusal};

/// Sixteen rows of a matrix side by side, at a multiple of 64 bytes: what weights, moments and scratch are made of.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct QadLanes {
    /// One column of sixteen rows.
    pub rows: [f32; 16],
}

const _: () =
    assert!(size_of::<QadLanes>() == size_of::<Lanes>() && align_of::<QadLanes>() == align_of::<Lanes>());

/// Memory that a call reads: not null, aligned, and of a size that memory can have.
pub(crate) struct Input<T> {
    pointer: *const T,
    length: usize,
}

/// Memory that a call writes.
pub(crate) struct Output<T> {
    pointer: *mut T,
    length: usize,
}

/// The addresses that `length` elements take; empty memory lies nowhere.
fn span<T>(pointer: *const T, length: usize) -> Range<usize> {
    let first = if length == 0 { 0 } else { pointer.addr() };
    first..first.wrapping_add(length.wrapping_mul(size_of::<T>()))
}

/// Looks at a pointer to `length` elements; empty memory may lie anywhere.
fn check<T>(pointer: *const T, length: usize) -> Result<(), Refusal> {
    if length == 0 {
        return Ok(());
    }
    if pointer.is_null() {
        return Err(Refusal(QAD_NULL));
    }
    if !pointer.is_aligned() {
        return Err(Refusal(QAD_MISALIGNED));
    }
    let bytes = length.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
    match bytes.and_then(|bytes| pointer.addr().checked_add(bytes)) {
        Some(_) => Ok(()),
        None => Err(Refusal(QAD_LENGTH)),
    }
}

impl<T> Input<T> {
    pub(crate) fn new(pointer: *const T, length: usize) -> Result<Self, Refusal> {
        check(pointer, length)?;
        Ok(Self { pointer, length })
    }

    /// The addresses it takes.
    pub(crate) fn span(&self) -> Range<usize> {
        span(self.pointer, self.length)
    }

    /// # Safety
    /// There are as many elements as were said, initialised, and no one writes to them as long as `'a` lasts.
    pub(crate) unsafe fn get<'a>(&self) -> &'a [T] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: not null, aligned and not too large by `check`; the rest is the caller's promise.
        unsafe { core::slice::from_raw_parts(self.pointer, self.length) }
    }
}

impl<T> Output<T> {
    pub(crate) fn new(pointer: *mut T, length: usize) -> Result<Self, Refusal> {
        check(pointer, length)?;
        Ok(Self { pointer, length })
    }

    /// The addresses it takes.
    pub(crate) fn span(&self) -> Range<usize> {
        span(self.pointer, self.length)
    }

    /// # Safety
    /// There are as many elements as were said, initialised, and no one else reads or writes them as long as `'a` lasts.
    pub(crate) unsafe fn get<'a>(&self) -> &'a mut [T] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: not null, aligned and not too large by `check`; the rest is the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.pointer, self.length) }
    }

    /// Writes the only element.
    ///
    /// # Safety
    /// There is room for one element.
    pub(crate) unsafe fn set(&self, value: T) {
        if self.length == 1 {
            // SAFETY: not null and aligned by `check`; the room is the caller's promise.
            unsafe { self.pointer.write(value) };
        }
    }
}

impl Input<QadLanes> {
    /// As the kernel calls it.
    pub(crate) fn lanes(self) -> Input<Lanes> {
        Input { pointer: self.pointer.cast(), length: self.length }
    }
}

impl Output<QadLanes> {
    /// As the kernel calls it.
    pub(crate) fn lanes(self) -> Output<Lanes> {
        Output { pointer: self.pointer.cast(), length: self.length }
    }
}

/// Refuses memory that is written and overlaps any other.
pub(crate) fn check_apart(written: &[Range<usize>], read: &[Range<usize>]) -> Result<(), Refusal> {
    let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
    let mut rest = written;
    while let Some((first, others)) = rest.split_first() {
        if others.iter().chain(read).any(|other| overlap(first, other)) {
            return Err(Refusal(QAD_OVERLAP));
        }
        rest = others;
    }
    Ok(())
}
