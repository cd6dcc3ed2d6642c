//! Files that are either written whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, Scope, ScopedJoinHandle};

use tempfile::{Builder, NamedTempFile};

use crate::failure::Failure;

/// Checks that `path` can be written later: call it before hours of work, not after.
///
/// # Errors
///
/// [`Failure::Output`] when the folder is missing or cannot be written to, when `path` exists and `force` is
/// not set, or when it is something else than a regular file.
pub fn check_output(path: &Path, force: bool) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Failure::output(path, "this is a folder; name a file")),
        // Renaming onto a device or a pipe would replace it.
        Ok(found) if !found.is_file() => {
            return Err(Failure::output(path, "this is not a regular file; name another output"));
        }
        Ok(_) if !force => return Err(exists(path)),
        _ => {}
    }
    temporary_beside(path).map(drop)
}

/// Writes a file so that `path` holds either what it held before or all of the new contents, also when the
/// process or the machine stops midway: a temporary file in the same folder is written, synced and renamed,
/// and then the folder is synced.
///
/// A symbolic link at `path` is replaced, not followed. Without `force` a file that appears at `path`
/// meanwhile is not overwritten either.
///
/// # Errors
///
/// [`Failure::Output`] as in [`check_output`], or when writing fails; the temporary file is removed then.
pub fn write_atomically(
    path: &Path,
    force: bool,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    check_output(path, force)?;
    let unwritable = |error: io::Error| Failure::unwritable(path, &error);
    let temporary = temporary_beside(path)?;
    thread::scope(|scope| {
        let mut writer = BufWriter::new(Storing::new(temporary.as_file(), scope));
        // Dropping the writer would flush it as well, but swallow the error.
        contents(&mut writer)?;
        writer.into_inner().map_err(IntoInnerError::into_error)?.end()
    })
    .map_err(unwritable)?;
    let renamed = if force { temporary.persist(path) } else { temporary.persist_noclobber(path) };
    renamed.map_err(|failed| match failed.error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => unwritable(failed.error),
    })?;
    sync_folder(folder_of(path)).map_err(unwritable)
}

/// How many bytes of a file are written before the system is asked to store them.
const STORED_AT_ONCE: usize = 8 << 20;

/// A file that is stored while it is written, so that little is left to wait for at its end.
struct Storing<'scope, 'env> {
    file: &'env File,
    scope: &'scope Scope<'scope, 'env>,
    /// Bytes written that nobody was asked to store.
    pending: usize,
    /// Who stores them, from the first time on that there are enough: an asking and a thread.
    other: Option<(SyncSender<()>, ScopedJoinHandle<'scope, io::Result<()>>)>,
}

impl<'scope, 'env> Storing<'scope, 'env> {
    fn new(file: &'env File, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { file, scope, pending: 0, other: None }
    }

    /// Asks for what was written to be stored, unless that is still being done; without a second thread it waits for the end.
    fn ask(&mut self) {
        let file = self.file;
        if self.other.is_none() {
            let (asking, asked) = mpsc::sync_channel(1);
            let store = move || asked.iter().try_for_each(|()| file.sync_data());
            let thread = thread::Builder::new().spawn_scoped(self.scope, store);
            self.other = thread.ok().map(|thread| (asking, thread));
        }
        if let Some((asking, _)) = &self.other {
            // One asking that waits covers all that is written before its turn.
            let _ = asking.try_send(());
        }
    }

    /// Returns when all is stored.
    fn end(self) -> io::Result<()> {
        if let Some((asking, thread)) = self.other {
            drop(asking);
            // An error is told once: to who asked first.
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        self.file.sync_all()
    }
}

impl Write for Storing<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.pending += written;
        if self.pending >= STORED_AT_ONCE {
            self.pending = 0;
            self.ask();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn exists(path: &Path) -> Failure {
    Failure::output(path, "exists already; give --force to overwrite it")
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The end of the names of files that are not complete, and how many random characters stand before it.
const PARTIAL: &str = ".partial";
const RANDOM_BYTES: usize = 6;

/// How the names of temporary files for an output of this name begin.
fn partial_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// Whether `found` is the name of a temporary file for an output of this name.
pub(crate) fn is_partial_of(name: &OsStr, found: &OsStr) -> bool {
    let found = found.as_encoded_bytes().strip_prefix(partial_prefix(name).as_encoded_bytes());
    found
        .and_then(|rest| rest.strip_suffix(PARTIAL.as_bytes()))
        .is_some_and(|random| random.len() == RANDOM_BYTES && random.iter().all(u8::is_ascii_alphanumeric))
}

/// The path of a file beside an output that belongs to it.
pub(crate) fn hidden_name(output: &Path, what: &str) -> PathBuf {
    let mut name = partial_prefix(output.file_name().unwrap_or_default());
    name.push(what);
    folder_of(output).join(name)
}

fn temporary_beside(path: &Path) -> Result<NamedTempFile, Failure> {
    let Some(name) = path.file_name() else {
        return Err(Failure::output(path, "this names no file; name one"));
    };
    let prefix = partial_prefix(name);
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(PARTIAL).rand_bytes(RANDOM_BYTES);
    // A temporary file is private by default; an output has the permissions that any new file would get.
    #[cfg(unix)]
    builder.permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
    let folder = folder_of(path);
    builder.tempfile_in(folder).map_err(|error| {
        let folder = folder.display();
        Failure::output(
            path,
            match error.kind() {
                io::ErrorKind::NotFound => format!("the folder {folder} does not exist; create it first"),
                io::ErrorKind::PermissionDenied => format!("no permission to write to the folder {folder}"),
                _ => format!("cannot create a file in the folder {folder}: {error}"),
            },
        )
    })
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened for syncing; the rename itself is as durable as the file system makes
/// it.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("the folder is readable")
            .map(|entry| entry.expect("the entry is readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn writes_all_of_the_contents_and_leaves_nothing_else() {
        let folder = folder();
        let path = folder.path().join("out.bin");
        write_atomically(&path, false, |out| out.write_all(b"all of it")).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"all of it");
        assert_eq!(entries(folder.path()), ["out.bin"]);
    }

    #[test]
    fn a_file_that_is_stored_on_the_way_is_whole_and_an_interrupted_one_leaves_nothing() {
        let folder = folder();
        let path = folder.path().join("out.bin");
        let piece = vec![7; STORED_AT_ONCE / 2 + 1];
        let write = |pieces: usize, end: fn() -> io::Result<()>| {
            write_atomically(&path, true, |out| {
                (0..pieces).try_for_each(|_| out.write_all(&piece)).and_then(|()| end())
            })
        };
        write(5, || Ok(())).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), piece.repeat(5));
        let failure = write(4, || Err(io::Error::other("the disk is full"))).expect_err("must fail");
        assert!(failure.to_string().ends_with("cannot be written: the disk is full"), "{failure}");
        assert_eq!(fs::read(&path).expect("readable").len(), 5 * piece.len());
        assert_eq!(entries(folder.path()), ["out.bin"]);
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = folder();
        let path = folder.path().join("out.bin");
        fs::write(&path, b"old").expect("written");
        let error = write_atomically(&path, true, |out| {
            // More than the buffer holds, so that bytes have reached the temporary file.
            out.write_all(&[7; 100_000])?;
            Err(io::Error::other("the disk is full"))
        })
        .expect_err("must fail");
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().ends_with("out.bin: cannot be written: the disk is full"), "{error}");
        assert_eq!(fs::read(&path).expect("readable"), b"old");
        assert_eq!(entries(folder.path()), ["out.bin"]);
    }

    #[test]
    fn a_panic_while_writing_leaves_no_temporary_file() {
        let folder = folder();
        let path = folder.path().join("out.bin");
        let caught = std::panic::catch_unwind(|| {
            let _ = write_atomically(&path, false, |out| {
                out.write_all(b"half")?;
                panic!("a fault in the caller")
            });
        });
        assert!(caught.is_err());
        assert!(entries(folder.path()).is_empty());
    }

    #[test]
    fn an_existing_file_is_refused_before_anything_is_written_unless_forced() {
        let folder = folder();
        let path = folder.path().join("out.bin");
        fs::write(&path, b"old").expect("written");
        let error = write_atomically(&path, false, |_| panic!("must not be called")).expect_err("must fail");
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().ends_with("exists already; give --force to overwrite it"), "{error}");
        assert_eq!(fs::read(&path).expect("readable"), b"old");
        write_atomically(&path, true, |out| out.write_all(b"new")).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"new");
    }

    #[test]
    fn a_file_that_appears_while_writing_is_not_overwritten() {
        let folder = folder();
        let path = folder.path().join("out.bin");
        let error = write_atomically(&path, false, |out| {
            fs::write(&path, b"another run's")?;
            out.write_all(b"ours")
        })
        .expect_err("must fail");
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(fs::read(&path).expect("readable"), b"another run's");
        assert_eq!(entries(folder.path()), ["out.bin"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = folder();
        let path = folder.path().join("nowhere").join("out.bin");
        let error = check_output(&path, false).expect_err("must fail");
        assert_eq!(error.exit_code(), 4);
        let text = error.to_string();
        assert!(text.contains("nowhere does not exist; create it first"), "{text}");
    }

    #[test]
    fn folders_devices_and_nameless_paths_are_refused_even_when_forced() {
        let folder = folder();
        for (path, expected) in [
            (folder.path(), "this is a folder; name a file"),
            #[cfg(unix)]
            (Path::new("/dev/null"), "this is not a regular file"),
            (Path::new(""), "this names no file"),
            (Path::new(".."), "this is a folder; name a file"),
        ] {
            let error = check_output(path, true).expect_err("must fail");
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let folder = folder();
        check_output(&folder.path().join("out.bin"), false).expect("can be written");
        assert!(entries(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn an_output_is_readable_by_whom_any_new_file_is() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomically(&ours, false, |out| out.write_all(b"x")).expect("written");
        fs::write(&plain, b"x").expect("written");
        let mode = |path| fs::metadata(path).expect("readable").permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
