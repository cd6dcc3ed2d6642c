//! Which data a page is about: names, sizes and SHA-256 of its files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::contents::Contents;
use crate::failure::Failure;

/// A file by which a run can be told from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fingerprint {
    /// What the file is for.
    pub(crate) role: String,
    /// Its name, without its folder.
    pub(crate) name: String,
    pub(crate) bytes: usize,
    /// In hexadecimal digits.
    pub(crate) sha256: String,
}

impl Fingerprint {
    /// That of a file's contents, which are in memory.
    pub(crate) fn of(role: &str, file: &Path, contents: &[u8]) -> Self {
        let digest = Sha256::digest(contents);
        Self {
            role: role.to_owned(),
            name: file_name(file),
            bytes: contents.len(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// That of a file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it cannot be read.
    pub(crate) fn of_file(role: &str, file: &Path) -> Result<Self, Failure> {
        Ok(Self::of(role, file, &Contents::of(file)?))
    }

    /// Those of the files of a folder that hold vectors, their ids, and what is said of their model.
    ///
    /// # Errors
    ///
    /// As [`of_file`](Self::of_file).
    pub(crate) fn of_vectors(folder: &Path) -> Result<Vec<Self>, Failure> {
        const STEMS: [&str; 5] = ["corpus", "corpus_ids", "model", "queries", "query_ids"];
        let mut files = Vec::new();
        collect(folder, &mut files)?;
        let stem = |file: &PathBuf| file.file_stem().and_then(|stem| stem.to_str()).map(ToOwned::to_owned);
        files.retain(|file| stem(file).is_some_and(|stem| STEMS.contains(&stem.as_str())));
        files.iter().map(|file| Self::of_file("vectors", file)).collect()
    }

    /// Those of all files of a data set, which may be a folder; of a folder in the order of their names.
    ///
    /// # Errors
    ///
    /// As [`of_file`](Self::of_file).
    pub(crate) fn of_all(role: &str, path: &Path) -> Result<Vec<Self>, Failure> {
        let mut files: Vec<PathBuf> = Vec::new();
        collect(path, &mut files)?;
        files.iter().map(|file| Self::of_file(role, file)).collect()
    }
}

/// A file's name without its folder.
pub(crate) fn file_name(file: &Path) -> String {
    file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The regular files below a path, or itself.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let unreadable = |error| Failure::unreadable(path, &error);
    let entries = path.read_dir().map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| collect(path, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_bytes_and_a_folder_by_its_files_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("qrels")).expect("made");
        for (name, text) in [("queries.jsonl", "abc"), ("corpus.jsonl", ""), ("qrels/test.tsv", "x")] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let all = Fingerprint::of_all("test", folder.path()).expect("read");
        let names: Vec<&str> = all.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["corpus.jsonl", "test.tsv", "queries.jsonl"]);
        // The digests of nothing and of "abc" are those of FIPS 180-4.
        assert_eq!(all[0].sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(all[2].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((all[2].bytes, all[2].role.as_str()), (3, "test"));
        assert!(Fingerprint::of_file("test", &folder.path().join("none")).is_err());
    }
}
