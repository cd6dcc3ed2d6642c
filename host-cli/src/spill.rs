//! Memory that the system may write to disk: where large blocks of a run lie.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::System;
use std::env;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Blocks below this size are the system allocator's.
const LARGE: usize = 4 << 20;

/// How many bytes of larger ones stay in memory.
const IN_MEMORY: usize = 96 << 20;

/// What needs a greater alignment than numbers and look-ups do is the working memory of a training step, the kernel's
/// `Lanes`: it does not grow with the data, is written all the time, and stays in memory.
const GREATEST_ALIGNMENT: usize = 16;

/// The program's allocator. Blocks of 4 MiB and more stay in memory until they take 96 MiB together. Further ones lie in temporary
/// files without a name, mapped, which the system writes out when it needs the memory for something else.
///
/// So what grows with a data set — ids, labels, the order of an epoch, vectors that stand in JSON — ends at the disk,
/// not at the memory; weights and moments stay there. The files are in `TMPDIR`, or else in `/var/tmp`; where they cannot be made, or the disk is full, blocks
/// lie in memory as usual.
#[derive(Debug)]
pub struct Spilling {
    /// Bytes of all large blocks.
    taken: AtomicUsize,
    /// How many of them stay in memory.
    in_memory: usize,
    /// Where files are made.
    folder: fn() -> PathBuf,
}

impl Spilling {
    /// An allocator that has given out nothing yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is for a static, where `Default` cannot be used")]
    pub const fn new() -> Self {
        Self { taken: AtomicUsize::new(0), in_memory: IN_MEMORY, folder: temporary_folder }
    }

    /// A block of zeros, which begins at a page; null where there is none.
    fn take(&self, size: usize) -> *mut u8 {
        let before = self.taken.fetch_add(size, Ordering::Relaxed);
        let spilled = before.saturating_add(size) > self.in_memory;
        let in_file = spilled.then(|| map_file((self.folder)(), size)).flatten();
        in_file.or_else(|| map_memory(size)).unwrap_or_else(|| {
            self.taken.fetch_sub(size, Ordering::Relaxed);
            null_mut()
        })
    }

    /// Ends a block.
    ///
    /// # Safety
    ///
    /// It is from [`take`](Self::take) with this size, and is not used any more.
    #[allow(unsafe_code, reason = "nothing else knows that the block is not used any more")]
    unsafe fn give_back(&self, block: *mut u8, size: usize) {
        // SAFETY: the map is this block and nothing else, as the caller promises. It does not fail for a map that is there; if it did,
        // the memory would be lost, and nothing else.
        let _ = unsafe { munmap(block.cast(), size) };
        self.taken.fetch_sub(size, Ordering::Relaxed);
    }
}

/// Whether a block is a map of its own. It follows from the layout alone, so a block is given back to where it came from.
fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= GREATEST_ALIGNMENT
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: small blocks are the system allocator's; large ones are maps of at least their size, which begin at a page and
// are nobody else's until they are given back. Nothing here panics.
unsafe impl GlobalAlloc for Spilling {
    // SAFETY: the caller's promises are those of the interface.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return self.take(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promises are those of the interface.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return self.take(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: the caller's promises are those of the interface.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: the layout is that of `alloc`, so the block is from `take`, with this size.
            return unsafe { self.give_back(block, layout.size()) };
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    // SAFETY: the caller's promises are those of the interface.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is a layout's.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_large(layout) && !is_large(wanted) {
            // SAFETY: as the caller promises.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the new size is not 0, as the caller promises.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least so long, and the new one is no part of the old one.
            unsafe { block.copy_to_nonoverlapping(moved, layout.size().min(size)) };
            // SAFETY: as the caller promises; the block is not used any more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

/// `TMPDIR`, or the folder for temporary files that are too large for memory, where `/tmp` often is.
fn temporary_folder() -> PathBuf {
    env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// A new file of this size, of which nothing but the map is left.
#[allow(unsafe_code, reason = "memory in a file is a map of it")]
fn map_file(folder: PathBuf, size: usize) -> Option<*mut u8> {
    let file = tempfile::tempfile_in(folder).ok()?;
    // A disk that is full says so here, not by a signal at the first write.
    fallocate(&file, FallocateFlags::empty(), 0, size as u64).ok()?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new map at an address of the system's choice. The file has no name and its descriptor is closed, so
    // nobody changes or shortens it.
    let block = unsafe { mmap(null_mut(), size, access, MapFlags::SHARED, &file, 0) };
    block.ok().map(|block| block.cast())
}

#[allow(unsafe_code, reason = "a large block is a map of its own")]
fn map_memory(size: usize) -> Option<*mut u8> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new map at an address of the system's choice.
    let block = unsafe { mmap_anonymous(null_mut(), size, access, MapFlags::PRIVATE) };
    block.ok().map(|block| block.cast())
}

#[cfg(test)]
#[allow(unsafe_code, reason = "what is tested is unsafe by its interface")]
mod tests {
    use std::fs;

    use super::*;

    /// Two large blocks in memory, further ones in files.
    fn spilling(folder: fn() -> PathBuf) -> Spilling {
        Spilling { taken: AtomicUsize::new(0), in_memory: 2 * LARGE, folder }
    }

    /// A block that is given back at its end.
    struct Block<'a> {
        memory: &'a Spilling,
        start: *mut u8,
        layout: Layout,
    }

    impl<'a> Block<'a> {
        fn zeroed(memory: &'a Spilling, size: usize) -> Self {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            // SAFETY: the size is not 0.
            Self { memory, start: unsafe { memory.alloc_zeroed(layout) }, layout }
        }

        fn resize(&mut self, size: usize) {
            // SAFETY: the block is of this allocator and layout, and the size, which is not 0, is a layout's.
            self.start = unsafe { self.memory.realloc(self.start, self.layout, size) };
            self.layout = Layout::from_size_align(size, 8).expect("a layout");
        }

        fn bytes(&mut self) -> &mut [u8] {
            assert!(!self.start.is_null());
            // SAFETY: the block is there, so long, was zeroed or written, and is borrowed from nobody else.
            unsafe { core::slice::from_raw_parts_mut(self.start, self.layout.size()) }
        }

        /// Whether it lies in a file that has no name.
        fn is_in_file(&self) -> bool {
            let maps = fs::read_to_string("/proc/self/maps").expect("readable");
            let holds_block = |line: &&str| {
                let (start, rest) = line.split_once('-').expect("a range");
                let end = rest.split(' ').next().expect("a range");
                let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).expect("an address"));
                (start..end).contains(&self.start.addr())
            };
            maps.lines().find(holds_block).expect("mapped").ends_with("(deleted)")
        }
    }

    impl Drop for Block<'_> {
        fn drop(&mut self) {
            // SAFETY: the block is of this allocator and layout, and its end is here.
            unsafe { self.memory.dealloc(self.start, self.layout) };
        }
    }

    #[test]
    fn large_blocks_beyond_what_stays_in_memory_lie_in_files_without_a_name() {
        let memory = spilling(temporary_folder);
        let mut blocks = [LARGE; 4].map(|size| Block::zeroed(&memory, size));
        assert_eq!(blocks.each_ref().map(Block::is_in_file), [false, false, true, true]);
        for (block, value) in blocks.iter_mut().zip(1..) {
            block.bytes().fill(value);
        }
        for (block, value) in blocks.iter_mut().zip(1..) {
            assert!(block.bytes().iter().all(|&byte| byte == value));
        }
        drop(blocks);
        assert!(!Block::zeroed(&memory, 2 * LARGE).is_in_file());
    }

    #[test]
    fn a_block_keeps_its_bytes_as_it_grows_into_a_file_and_back() {
        let memory = spilling(temporary_folder);
        let byte_at = |at: usize| u8::try_from(at % 251).expect("small");
        let mut block = Block::zeroed(&memory, 1000);
        let mut known = 0;
        for (size, in_file) in [
            (2000, false),
            (LARGE - 1, false),
            (LARGE, false),
            // Old and new are there at once: together more than what stays in memory.
            (2 * LARGE, true),
            (3 * LARGE + 1, true),
            (LARGE, true),
            (100, false),
        ] {
            block.resize(size);
            assert_eq!(block.is_in_file(), in_file, "{size}");
            let bytes = block.bytes();
            assert!((0..size.min(known)).all(|at| bytes[at] == byte_at(at)), "{size}");
            (0..size).for_each(|at| bytes[at] = byte_at(at));
            known = size;
        }
        drop(block);
        assert_eq!(memory.taken.into_inner(), 0);
    }

    #[test]
    fn the_working_memory_of_a_step_stays_where_it_was() {
        let memory = spilling(|| unreachable!("no file is wanted"));
        // SAFETY: the size is not 0; the block is given back with its layout.
        unsafe {
            let layout = Layout::array::<query_adapter::Lanes>(5 * LARGE / 64).expect("a layout");
            let block = memory.alloc(layout);
            assert!(!block.is_null());
            assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
            memory.dealloc(block, layout);
        }
    }

    #[test]
    fn blocks_that_are_asked_for_zeroed_are() {
        let memory = spilling(temporary_folder);
        for size in [100, LARGE, 3 * LARGE] {
            assert!(Block::zeroed(&memory, size).bytes().iter().all(|&byte| byte == 0), "{size}");
        }
    }

    #[test]
    fn without_a_folder_everything_lies_in_memory() {
        let memory = spilling(|| "/nowhere".into());
        let mut block = Block::zeroed(&memory, 5 * LARGE);
        block.bytes().fill(7);
        assert!(!block.is_in_file());
    }

    #[test]
    fn what_no_memory_holds_is_refused_and_not_counted() {
        let memory = spilling(temporary_folder);
        assert!(memory.take(isize::MAX as usize).is_null());
        assert_eq!(memory.taken.into_inner(), 0);
    }
}
