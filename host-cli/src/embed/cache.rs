//! Vectors on disk by the content of their text: written as they arrive, found again by any later run.
//!
//! A model has a folder of its own, named by its digest. In it lie `segment-N.bin` files, which are only ever appended
//! to. A run holds the lock of the segment it writes to; a second run at the same time writes to the next one. All
//! segments are read. The format is in `docs/models.md`.
//!
//! What a crash can leave behind is a record cut short at the end of a segment: readers ignore it and the next writer
//! takes it off. A damaged record fails its checksum and is passed over; its text is embedded again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISO_HDLC, Crc};
use sha2::{Digest as _, Sha256};

use super::model::Digest;
use crate::failure::Failure;

const MAGIC: [u8; 8] = *b"\x89QAVEC\x1a\x01";

/// Magic, number of components, the model's digest, checksum of all these.
const HEADER_LEN: usize = 8 + 4 + 32 + 4;

/// The bit of a record's flags that says its text was cut off.
const CUT_OFF: u32 = 1;

static CRC_32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The key of a text, prefix included.
pub(crate) fn text_key(text: &str) -> Digest {
    Sha256::digest(text.as_bytes()).into()
}

/// The cached vectors of one model, open for appending.
pub(crate) struct Cache {
    folder: PathBuf,
    digest: Digest,
    /// Known from the first segment that was read, or the first vector that was written.
    dim: Option<usize>,
    segment: Option<File>,
}

/// A vector from the cache.
pub(crate) struct Cached {
    pub(crate) vector: Vec<f32>,
    pub(crate) cut_off: bool,
}

impl Cache {
    /// Opens the cache of a model in `folder`, which is created where it does not exist.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when the folder cannot be created.
    pub(crate) fn open(folder: &Path, digest: Digest) -> Result<Self, Failure> {
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let folder = folder.join(name);
        fs::create_dir_all(&folder).map_err(|error| {
            Failure::output(&folder, format!("cannot be created for the cache: {error}; give --cache DIR"))
        })?;
        Ok(Self { folder, digest, dim: None, segment: None })
    }

    /// Where this model's vectors lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The vectors of those keys that are there.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a segment cannot be read, or is of another program or model.
    pub(crate) fn find(&mut self, keys: &[Digest]) -> Result<HashMap<Digest, Cached>, Failure> {
        // For look-ups only.
        let wanted: std::collections::HashSet<&Digest> = keys.iter().collect();
        let mut found = HashMap::new();
        for number in 0.. {
            let path = self.segment_path(number);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
                Err(error) => return Err(Failure::unreadable(&path, &error)),
            };
            let mut reader = BufReader::with_capacity(1 << 16, file);
            let Some(dim) = self.read_header(&path, &mut reader)? else { continue };
            let mut record = vec![0; record_len(dim)];
            while read_whole(&mut reader, &mut record).map_err(|error| Failure::unreadable(&path, &error))? {
                if let Some((key, cached)) = decode_record(&record)
                    && wanted.contains(&key)
                {
                    found.insert(key, cached);
                }
            }
        }
        Ok(found)
    }

    /// Appends a vector; it is in the file when this returns.
    ///
    /// # Errors
    ///
    /// [`Failure::Output`] when it cannot be written, [`Failure::Input`] when the cache has vectors of another length.
    pub(crate) fn insert(&mut self, key: &Digest, vector: &[f32], cut_off: bool) -> Result<(), Failure> {
        if let Some(dim) = self.dim.filter(|&dim| dim != vector.len()) {
            let problem = format!(
                "the vectors in the cache have {dim} components, the model now gives {}; it is another model under \
                 the same name: give --cache with another folder, or delete this one",
                vector.len()
            );
            return Err(Failure::input(&self.folder, problem));
        }
        self.dim = Some(vector.len());
        let record = encode_record(key, vector, cut_off);
        let folder = self.folder.clone();
        let unwritable = |error: io::Error| Failure::unwritable(&folder, &error);
        if self.segment.is_none() {
            self.segment = Some(self.lock_segment(vector.len())?);
        }
        match &mut self.segment {
            Some(segment) => segment.write_all(&record).map_err(unwritable),
            None => Ok(()),
        }
    }

    fn segment_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("segment-{number}.bin"))
    }

    /// The first segment that no other run writes to, ready for the next record.
    fn lock_segment(&mut self, dim: usize) -> Result<File, Failure> {
        for number in 0.. {
            let path = self.segment_path(number);
            let unwritable = |error: io::Error| Failure::unwritable(&path, &error);
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(unwritable)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(unwritable(error)),
            }
            let length = file.metadata().map_err(unwritable)?.len();
            if self.read_header(&path, &mut file)?.is_none() {
                file.set_len(0).and_then(|()| file.rewind()).map_err(unwritable)?;
                file.write_all(&encode_header(dim, &self.digest)).map_err(unwritable)?;
                return Ok(file);
            }
            let records = length.saturating_sub(HEADER_LEN as u64) / record_len(dim) as u64;
            let end = HEADER_LEN as u64 + records * record_len(dim) as u64;
            // A record that was cut short goes; what follows it would not be found otherwise.
            file.set_len(end).map_err(unwritable)?;
            file.seek(SeekFrom::Start(end)).map_err(unwritable)?;
            return Ok(file);
        }
        Err(Failure::output(&self.folder, "holds too many segments"))
    }

    /// The number of components of a segment's vectors; none when it ends before its header does.
    fn read_header(&mut self, path: &Path, reader: &mut impl io::Read) -> Result<Option<usize>, Failure> {
        let mut header = [0; HEADER_LEN];
        if !read_whole(reader, &mut header).map_err(|error| Failure::unreadable(path, &error))? {
            return Ok(None);
        }
        let fail = |problem: &str| Failure::input(path, format!("{problem}; delete this file"));
        let (covered, stored) = header.split_at(HEADER_LEN - 4);
        if !covered.starts_with(&MAGIC) {
            return Err(fail("found no cached vectors of this version of the program"));
        }
        if CRC_32.checksum(covered).to_le_bytes() != stored {
            return Err(fail("the header is damaged"));
        }
        let (dim, digest) = covered[MAGIC.len()..].split_at(4);
        if digest != self.digest {
            return Err(fail("found the vectors of another model"));
        }
        let dim = u32::from_le_bytes(dim.try_into().unwrap_or_default()) as usize;
        if dim == 0 || dim > query_adapter::MAX_DIM || self.dim.is_some_and(|known| known != dim) {
            return Err(fail(
                "the vectors have another number of components than those of the other segments",
            ));
        }
        self.dim = Some(dim);
        Ok(Some(dim))
    }
}

fn encode_header(dim: usize, digest: &Digest) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_DIM")]
    let dim = (dim as u32).to_le_bytes();
    let mut header = [&MAGIC[..], &dim, digest].concat();
    header.extend(CRC_32.checksum(&header).to_le_bytes());
    header
}

/// Key, flags, vector, checksum of all these.
fn record_len(dim: usize) -> usize {
    32 + 4 + 4 * dim + 4
}

fn encode_record(key: &Digest, vector: &[f32], cut_off: bool) -> Vec<u8> {
    let flags = if cut_off { CUT_OFF } else { 0 };
    let mut record = Vec::with_capacity(record_len(vector.len()));
    record.extend(key);
    record.extend(flags.to_le_bytes());
    vector.iter().for_each(|value| record.extend(value.to_le_bytes()));
    record.extend(CRC_32.checksum(&record).to_le_bytes());
    record
}

/// None when the record is damaged.
fn decode_record(record: &[u8]) -> Option<(Digest, Cached)> {
    let (covered, stored) = record.split_last_chunk::<4>()?;
    if CRC_32.checksum(covered).to_le_bytes() != *stored {
        return None;
    }
    let (key, rest) = covered.split_first_chunk::<32>()?;
    let (flags, rest) = rest.split_first_chunk::<4>()?;
    let vector = rest.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let cut_off = u32::from_le_bytes(*flags) & CUT_OFF != 0;
    Some((*key, Cached { vector, cut_off }))
}

/// Fills `buffer`; false when the input ends before.
fn read_whole(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Digest = [7; 32];

    fn open(folder: &Path) -> Cache {
        Cache::open(folder, MODEL).expect("opens")
    }

    fn keys(texts: &[&str]) -> Vec<Digest> {
        texts.iter().map(|text| text_key(text)).collect()
    }

    fn segments(folder: &Path) -> Vec<PathBuf> {
        let folder = folder.join("0707070707070707");
        let mut paths: Vec<_> =
            fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn what_was_written_is_found_by_the_next_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = open(folder.path());
        cache.insert(&text_key("a"), &[1.0, -0.0], false).expect("written");
        cache.insert(&text_key("b"), &[f32::MIN_POSITIVE, 2.0], true).expect("written");
        // Also while the first run is still there.
        for mut cache in [open(folder.path()), {
            drop(cache);
            open(folder.path())
        }] {
            let found = cache.find(&keys(&["b", "c", "a"])).expect("read");
            assert_eq!(found.len(), 2);
            let a = &found[&text_key("a")];
            assert_eq!(a.vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0x3f80_0000, 0x8000_0000]);
            assert_eq!((a.cut_off, found[&text_key("b")].cut_off), (false, true));
        }
    }

    #[test]
    fn two_runs_at_once_write_to_segments_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut one, mut two) = (open(folder.path()), open(folder.path()));
        for (key, number) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            one.insert(&text_key(key), &[number], false).expect("written");
            two.insert(&text_key(&key.to_uppercase()), &[-number], false).expect("written");
        }
        drop((one, two));
        assert_eq!(segments(folder.path()).len(), 2);
        let mut cache = open(folder.path());
        let found = cache.find(&keys(&["a", "b", "c", "A", "B", "C"])).expect("read");
        assert_eq!(found.len(), 6);
        assert_eq!(found[&text_key("B")].vector, [-2.0]);
        cache.insert(&text_key("d"), &[4.0], false).expect("written");
        assert_eq!(segments(folder.path()).len(), 2, "the first segment is free again");
    }

    #[test]
    fn a_file_cut_off_anywhere_keeps_its_whole_records_and_takes_new_ones() {
        let whole = tempfile::tempdir().expect("a folder");
        let mut cache = open(whole.path());
        for (key, number) in [("a", 1.0), ("b", 2.0)] {
            cache.insert(&text_key(key), &[number, number], false).expect("written");
        }
        drop(cache);
        let bytes = fs::read(&segments(whole.path())[0]).expect("readable");
        for end in 0..bytes.len() {
            let folder = tempfile::tempdir().expect("a folder");
            let mut cache = open(folder.path());
            let segment = cache.segment_path(0);
            fs::write(&segment, &bytes[..end]).expect("written");
            let left = end.saturating_sub(HEADER_LEN) / record_len(2);
            assert_eq!(cache.find(&keys(&["a", "b"])).expect("read").len(), left, "{end} bytes");
            cache.insert(&text_key("c"), &[3.0, 3.0], false).expect("written");
            drop(cache);
            let found = open(folder.path()).find(&keys(&["a", "b", "c"])).expect("read");
            assert_eq!(found.len(), left + 1, "{end} bytes");
            assert_eq!(found[&text_key("c")].vector, [3.0, 3.0], "{end} bytes");
        }
    }

    #[test]
    fn a_damaged_record_is_passed_over_and_a_damaged_header_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = open(folder.path());
        for key in ["a", "b"] {
            cache.insert(&text_key(key), &[1.0], false).expect("written");
        }
        drop(cache);
        let segment = segments(folder.path()).remove(0);
        let bytes = fs::read(&segment).expect("readable");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&segment, damaged).expect("written");
            match open(folder.path()).find(&keys(&["a", "b"])) {
                Err(failure) => {
                    assert!(at < HEADER_LEN, "byte {at}: {failure}");
                    assert!(failure.to_string().ends_with("; delete this file"), "{failure}");
                }
                Ok(found) => assert!(at >= HEADER_LEN && found.len() == 1, "byte {at}"),
            }
        }
    }

    #[test]
    fn vectors_of_another_length_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = open(folder.path());
        cache.insert(&text_key("a"), &[1.0], false).expect("written");
        let failure = cache.insert(&text_key("b"), &[1.0, 2.0], false).expect_err("must fail");
        assert!(failure.to_string().contains("have 1 components, the model now gives 2"), "{failure}");
    }
}
