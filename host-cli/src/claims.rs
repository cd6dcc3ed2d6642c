//! Outputs that one process at a time may write.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::files::{check_output, folder_of, hidden_name, is_partial_of};

/// The right to write an output, from before the work until it is dropped. The system takes it back from a process that
/// dies, so that a lock file of a dead one stands in nobody's way.
#[derive(Debug)]
pub struct Claim {
    lock: PathBuf,
    /// Locked as long as it is open; none where the file system has no locks.
    _file: Option<File>,
}

impl Claim {
    /// Checks that an output can be written, as [`check_output`] does, and that no other process is about to write it; removes
    /// what dead ones have left of it half-written.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`].
    pub fn take(output: &Path, force: bool) -> Result<Self, Failure> {
        check_output(output, force)?;
        let lock = hidden_name(output, "lock");
        let unwritable = |error| Failure::unwritable(&lock, &error);
        // Whoever was here before may have removed the file between our opening and locking it.
        for _ in 0..100 {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock);
            let file = file.map_err(unwritable)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &lock) => {
                    remove_partial(output);
                    return Ok(Self { lock, _file: Some(file) });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(Self { lock, _file: None });
                }
                Err(TryLockError::Error(error)) => return Err(unwritable(error)),
            }
        }
        let problem = format!(
            "another process is about to write it (it holds {}); wait for it to end, or name another file",
            lock.display()
        );
        Err(Failure::output(output, problem))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: nobody else's file is removed.
        let _ = fs::remove_file(&self.lock);
    }
}

/// Whether the file at `path` is this one.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().and_then(|ours| Ok(place(ours) == place(fs::metadata(path)?))).unwrap_or(false)
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

/// Removes the temporary files of an output. What cannot be removed harms nobody.
fn remove_partial(output: &Path) {
    let Some(name) = output.file_name() else { return };
    for entry in fs::read_dir(folder_of(output)).into_iter().flatten().flatten() {
        let found: OsString = entry.file_name();
        if is_partial_of(name, &found) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_output_is_one_processs_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("a.qad");
        let claim = Claim::take(&output, false).expect("free");
        let failure = Claim::take(&output, true).expect_err("claimed");
        assert_eq!(failure.exit_code(), 4);
        let text = failure.to_string();
        for part in ["a.qad: another process is about to write it", ".a.qad.lock", "wait for it to end"] {
            assert!(text.contains(part), "{text}");
        }
        Claim::take(&folder.path().join("b.qad"), false).expect("another file");
        drop(claim);
        assert!(entries(folder.path()).is_empty());
        Claim::take(&output, false).expect("free again");
    }

    #[test]
    fn what_a_dead_process_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [
            ".a.qad.lock",
            ".a.qad.0aZ9xY.partial",
            ".a.qad.x.partial",
            ".b.a.qad.0aZ9xY.partial",
            "a.qad.0aZ9xY.partial",
        ] {
            fs::write(folder.path().join(name), "").expect("written");
        }
        let claim = Claim::take(&folder.path().join("a.qad"), false).expect("free");
        // Only what is named as a temporary file of this output is.
        let left = [".a.qad.lock", ".a.qad.x.partial", ".b.a.qad.0aZ9xY.partial", "a.qad.0aZ9xY.partial"];
        assert_eq!(entries(folder.path()), left);
        drop(claim);
        assert_eq!(entries(folder.path()), left[1..]);
    }

    #[test]
    fn of_many_that_come_and_go_one_at_a_time_has_the_claim() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("a.qad");
        let (holders, taken) = (core::sync::atomic::AtomicU32::new(0), core::sync::atomic::AtomicU32::new(0));
        let relaxed = core::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(claim) = Claim::take(&output, false) else { continue };
                        assert_eq!(holders.fetch_add(1, relaxed), 0, "another one has it");
                        taken.fetch_add(1, relaxed);
                        holders.fetch_sub(1, relaxed);
                        drop(claim);
                    }
                });
            }
        });
        assert!(taken.load(relaxed) >= 10, "{taken:?}");
        assert!(entries(folder.path()).is_empty());
    }
}
