//! The contents of input files, without a copy where they are large.

use core::ops::Deref;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use memmap2::Mmap;

use crate::failure::Failure;

/// Up to so many bytes a file is read rather than mapped: the copy is cheaper than the page faults, and small beside
/// everything else.
const MOST_READ: u64 = 4 << 20;

/// All bytes of a file.
pub(crate) enum Contents {
    /// In memory of our own.
    Read(Vec<u8>),
    /// In the system's cache of the file, which gives it back when memory is short.
    Mapped(Mmap),
}

impl Contents {
    /// Reads a file, or maps it where it is large. What is no regular file, a pipe for instance, is read to its end.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read.
    pub(crate) fn of(file: &Path) -> Result<Self, Failure> {
        let unreadable = |error| Failure::unreadable(file, &error);
        let mut opened = File::open(file).map_err(unreadable)?;
        let found = opened.metadata().map_err(unreadable)?;
        if found.is_file() && found.len() > MOST_READ {
            return map(&opened).map(Self::Mapped).map_err(unreadable);
        }
        let mut bytes = Vec::new();
        opened.read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(Self::Read(bytes))
    }
}

/// Refuses what can be read only once, a pipe for instance, where `reader` reads it again.
///
/// # Errors
///
/// [`Failure::Input`] that asks for a file.
pub(crate) fn require_rereadable(file: &Path, reader: &str) -> Result<(), Failure> {
    // One that is not there is for the reader to refuse.
    if file.exists() && !file.is_file() && !file.is_dir() {
        let problem = format!("this can be read only once, and {reader} reads it again; give a file");
        return Err(Failure::input(file, problem));
    }
    Ok(())
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Maps a file for reading.
#[allow(unsafe_code, reason = "mapping a file is the only way to read it without copying it")]
pub(crate) fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and owned by the value that borrows from it. Soundness further needs that no one
    // rewrites or shortens the file while it is mapped; no program can check that, and every user of a mapped file asks
    // it of the machine, as docs/data-formats.md does. What can be done is done: vectors are read as `u8` and `f32`
    // only, for which every bit pattern is a value; text is checked to be UTF-8 and copied in one go, and nothing keeps
    // a reference to it; every access is a slice checked against the length of the map. A file shortened meanwhile ends
    // the process by a signal.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_read_and_large_ones_mapped_to_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (length, mapped) in [(0, false), (1000, false), (MOST_READ + 1, true)] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let file = folder.path().join("file");
            std::fs::write(&file, &bytes).expect("written");
            let contents = Contents::of(&file).expect("read");
            assert_eq!(matches!(contents, Contents::Mapped(_)), mapped);
            assert!(*contents == bytes[..]);
        }
        assert!(Contents::of(&folder.path().join("none")).is_err());
    }
}
