//! The stat index: one binary file that says which content a file had when it was last read.
//!
//! `stat` is 8 bytes of magic, the BLAKE3 of the rest, a count, and per entry: length of the path, the
//! path, device, inode, size, mtime and ctime in ns, digest; numbers little-endian, entries sorted.
//! Paths inside the cache are relative to `v1/`, so that a moved cache stays warm; all others are
//! absolute. A path that is followed by a NUL and 64 hex digits is a file as a part of another: its digest is not that
//! of its bytes (see [`Cache::remember_part`]). The index can be deleted at any time: everything is then hashed once more.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Cache;
use super::error::Result;
use super::reader::Reader;
use crate::digest::{Blob, Digest};
use crate::fs::{self, Stat};

/// Name and version of the format.
const MAGIC: &[u8; 8] = b"ewstat1\n";
/// Smallest entry: an empty path.
const SMALLEST: usize = 4 + 5 * 8 + 32;

/// Ends the path of a file that is told as a part of another. No path holds it.
const PART: &str = "\0";

/// The name of a file as a part of the one with the digest `of`.
pub(super) fn part(path: &Path, of: &Digest) -> Option<PathBuf> {
    let mut name = std::path::absolute(path).ok()?.into_os_string();
    name.push(format!("{PART}{of}"));
    Some(name.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    stat: Stat,
    b3: Digest,
}

pub(super) type Entries = BTreeMap<Box<[u8]>, Entry>;

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Entries,
    /// What is to be written; the rest may be older than the file.
    changed: BTreeSet<Box<[u8]>>,
    /// The file that `entries` was read from.
    loaded: Option<Stat>,
}

impl Cache {
    /// What the index says of a file that has this stat now. The SHA-256 is not remembered.
    pub(super) fn known(&self, path: &Path, stat: &Stat) -> Option<Blob> {
        let mut index = self.index();
        let index = index.get_or_insert_with(|| self.load_index());
        let entry = index.entries.get(self.index_key(path))?;
        (entry.stat == *stat).then_some(Blob { b3: entry.b3, size: stat.size, sha256: None })
    }

    /// Remembers the content of a file, whatever its age.
    pub(super) fn remember(&self, path: &Path, stat: &Stat, blob: &Blob) {
        let key = self.index_key(path);
        if key.starts_with(b"tmp/") || blob.size != stat.size {
            return;
        }
        let mut index = self.index();
        let index = index.get_or_insert_with(|| self.load_index());
        let entry = Entry { stat: *stat, b3: blob.b3 };
        if index.entries.insert(key.into(), entry) != Some(entry) {
            index.changed.insert(key.into());
        }
    }

    /// Forgets what a file was to others when it had another stat, or each export of a model would leave an entry.
    pub(super) fn forget_parts(&self, path: &Path, stat: &Stat) {
        let Ok(path) = std::path::absolute(path) else { return };
        let first = [self.index_key(&path), PART.as_bytes()].concat();
        let mut index = self.index();
        let index = index.get_or_insert_with(|| self.load_index());
        let parts = index.entries.range(first.clone().into_boxed_slice()..);
        let parts = parts.take_while(|(key, _)| key.starts_with(&first));
        let old: Vec<Box<[u8]>> =
            parts.filter(|(_, e)| e.stat != *stat).map(|(key, _)| key.clone()).collect();
        for key in old {
            index.entries.remove(&key);
        }
    }

    /// Writes what was learnt since the cache was opened, together with what others wrote
    /// meanwhile. Writes nothing if nothing was learnt, or if the cache is read-only. Never fails:
    /// what is not written is learnt once more, and a full disk must not hide what a run has done.
    pub fn flush(&self) {
        if let Err(e) = self.write_index() {
            self.warn(format!("{e}; files are hashed once more in the next run"));
        }
    }

    fn write_index(&self) -> Result<()> {
        let nothing_learnt = self.index().as_ref().is_none_or(|index| index.changed.is_empty());
        if !self.is_writable() || (nothing_learnt && !self.has_new_uses()) {
            return Ok(());
        }
        // One writer at a time, or two would each lose what the other adds.
        let _one_writer = self.lock_action("flush", &Digest::of(MAGIC), &mut |_| ())?;
        self.write_uses()?;
        if nothing_learnt {
            return Ok(());
        }
        let path = self.folder("stat");
        let mut guard = self.index();
        let Some(index) = guard.as_mut() else { return Ok(()) };
        let there = fs::stat(&path).ok();
        if there != index.loaded {
            let mut merged = read(&path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
            for key in &index.changed {
                if let Some(entry) = index.entries.get(key) {
                    merged.insert(key.clone(), *entry);
                }
            }
            index.entries = merged;
        }
        self.scratch()?.publish(&serialize(&index.entries), &path, 0o644)?;
        index.loaded = fs::stat(&path).ok();
        index.changed.clear();
        Ok(())
    }

    /// Is the file whole, or not there?
    pub(super) fn is_index_sound(&self) -> bool {
        match read(&self.folder("stat")) {
            Ok(bytes) => parse(&bytes).is_some(),
            Err(e) => e.is_missing(),
        }
    }

    /// Forgets the blobs that are gone, and writes the index anew from what is known.
    pub(super) fn rebuild_index(&self, is_there: impl Fn(&Path) -> bool) -> Result<()> {
        let mut guard = self.index();
        let index = guard.get_or_insert_with(|| self.load_index());
        let before = index.entries.len();
        let path = |key: &[u8]| self.inner.v1.join(std::ffi::OsStr::from_bytes(key));
        index.entries.retain(|key, _| !key.starts_with(b"cas/") || is_there(&path(key)));
        if index.entries.len() != before {
            // As if it had just been read: what others wrote meanwhile is merged no more.
            self.scratch()?.publish(&serialize(&index.entries), &self.folder("stat"), 0o644)?;
            index.loaded = fs::stat(&self.folder("stat")).ok();
            index.changed.clear();
        }
        Ok(())
    }

    fn load_index(&self) -> Index {
        let path = self.folder("stat");
        let loaded = fs::stat(&path).ok();
        let entries = match read(&path) {
            Ok(bytes) => parse(&bytes),
            Err(e) if e.is_missing() => Some(Entries::new()),
            Err(_) => None,
        };
        let entries = entries.unwrap_or_else(|| {
            self.warn(format!("`{}` is damaged; every file is hashed once more", path.display()));
            Entries::new()
        });
        Index { entries, changed: BTreeSet::new(), loaded }
    }

    fn index_key<'a>(&self, path: &'a Path) -> &'a [u8] {
        path.strip_prefix(&self.inner.v1).unwrap_or(path).as_os_str().as_bytes()
    }
}

fn read(path: &Path) -> fs::Result<Vec<u8>> {
    fs::read_prefix(path, 4 << 30)
}

fn serialize(entries: &Entries) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + entries.keys().map(|k| k.len() + SMALLEST).sum::<usize>());
    let writable: Vec<_> = entries.iter().filter_map(|(k, e)| Some((k, e, times(&e.stat)?))).collect();
    body.extend((writable.len() as u64).to_le_bytes());
    for (path, entry, [mtime, ctime]) in writable {
        let length = u32::try_from(path.len()).expect("paths are shorter than 4 GiB");
        body.extend(length.to_le_bytes());
        body.extend_from_slice(path);
        for number in [entry.stat.dev, entry.stat.ino, entry.stat.size] {
            body.extend(number.to_le_bytes());
        }
        body.extend(mtime.to_le_bytes());
        body.extend(ctime.to_le_bytes());
        body.extend(entry.b3.as_bytes());
    }
    [MAGIC.as_slice(), Digest::of(&body).as_bytes(), &body].concat()
}

/// Times in 64 bits; none beyond the year 2262, and such a file is not remembered.
fn times(stat: &Stat) -> Option<[i64; 2]> {
    Some([i64::try_from(stat.mtime_ns).ok()?, i64::try_from(stat.ctime_ns).ok()?])
}

/// None if a single bit is wrong.
pub(super) fn parse(bytes: &[u8]) -> Option<Entries> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (digest, body) = rest.split_at_checked(32)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let mut reader = Reader(body);
    let count = reader.u64()?;
    if count > (body.len() / SMALLEST) as u64 {
        return None;
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = reader.u32()?;
        let path = reader.take(length)?;
        let (dev, ino, size) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (mtime_ns, ctime_ns) = (reader.i64()?.into(), reader.i64()?.into());
        let b3: [u8; 32] = reader.take(32)?.try_into().ok()?;
        let stat = Stat { dev, ino, size, mtime_ns, ctime_ns };
        entries.push((path.into(), Entry { stat, b3: blake3::Hash::from_bytes(b3).into() }));
    }
    // Sorted already: the tree is built in one pass.
    reader.0.is_empty().then(|| entries.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(paths: &[String]) -> Entries {
        let stat = |n| Stat { dev: 1, ino: n, size: n, mtime_ns: -5, ctime_ns: i128::from(n) << 40 };
        let entry = |(n, p): (usize, &String)| {
            (p.as_bytes().into(), Entry { stat: stat(n as u64), b3: Digest::of(p.as_bytes()) })
        };
        paths.iter().enumerate().map(entry).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(paths in proptest::collection::vec(".{0,20}", 0..8)) {
            let entries = entries(&paths);
            prop_assert_eq!(parse(&serialize(&entries)), Some(entries));
        }

        #[test]
        fn a_wrong_bit_or_a_missing_byte_is_seen(at in 0usize..10_000, bit in 0u8..8, cut: bool) {
            let mut bytes = serialize(&entries(&["/a".into(), "cas/ab/abcd".into()]));
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            prop_assert_eq!(parse(&bytes), None);
        }
    }

    #[test]
    fn a_count_that_lies_does_not_allocate() {
        let body = u64::MAX.to_le_bytes();
        let bytes = [MAGIC.as_slice(), Digest::of(&body).as_bytes(), &body].concat();
        assert_eq!(parse(&bytes), None);
    }
}
