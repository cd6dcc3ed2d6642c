//! No command writes where it reads, or twice to one file.

use std::path::{Path, PathBuf};

use crate::dataset;
use crate::embed::Origin;
use crate::failure::Failure;
use crate::files::folder_of;
use crate::vectors::Embeddings;

/// What a command reads: a path that its user names, and what it reads because of that.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadPath<'a> {
    /// This file alone.
    File(&'a Path),
    /// The files of a data set in a folder, or a file and the texts around it.
    Dataset(&'a Path),
    /// The files of vectors in a folder, or one of them and the ids beside it; what is said there of their model.
    Vectors(&'a Path),
}

impl ReadPath<'_> {
    /// All files that may be read, also some that are not there.
    fn files(self) -> Vec<PathBuf> {
        match self {
            Self::File(file) => vec![file.to_owned()],
            Self::Dataset(path) => dataset::files_of(path),
            Self::Vectors(path) => {
                let folder = if path.is_dir() { path } else { folder_of(path) };
                let mut files = Embeddings::files_of(path);
                files.push(Origin::file_in(folder));
                files
            }
        }
    }
}

/// Refuses outputs that are one file, or a file that is read. It is asked before anything is opened for writing: `--force` is for
/// files that are not needed any more.
///
/// # Errors
///
/// [`Failure::Usage`].
pub(crate) fn require_distinct<'a>(
    outputs: &[(&str, Option<&Path>)],
    inputs: impl IntoIterator<Item = Option<ReadPath<'a>>>,
) -> Result<(), Failure> {
    let outputs: Vec<_> =
        outputs.iter().filter_map(|&(flag, file)| Some((flag, file?, place_of(file?)))).collect();
    for (at, (flag, _, file)) in outputs.iter().enumerate() {
        if let Some((other, ..)) = outputs.iter().take(at).find(|(.., other)| other == file) {
            let problem = format!("{flag} and {other} name the same file; give each its own");
            return Err(Failure::Usage(problem));
        }
    }
    for input in inputs.into_iter().flatten() {
        let places: Vec<_> = input.files().iter().map(|file| place_of(file)).collect();
        if let Some((flag, file, _)) = outputs.iter().find(|(.., output)| places.contains(output)) {
            let problem = format!(
                "{flag} names {}, which is read by the same command; name another file",
                file.display()
            );
            return Err(Failure::Usage(problem));
        }
    }
    Ok(())
}

/// What tells whether two paths name the same file, also one that is not there yet.
fn place_of(path: &Path) -> PathBuf {
    let folder = folder_of(path);
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let place = folder.join(path.file_name().unwrap_or_default());
    // Another name of a file that is there.
    place.canonicalize().unwrap_or(place)
}
