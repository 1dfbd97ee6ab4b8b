//! Digests of files, remembered by path and stat.

use std::path::Path;

use super::error::{Error, Result};
use super::index::part;
use super::{Cache, now_ns};
use crate::digest::{Blob, Digest};
use crate::fs::{self, Stat};

/// The racy rule: a file that changed less than this before it was read may change once more
/// without a trace in its stat, since clocks of file systems tick (4 ms on most, 2 s on FAT). Its
/// digest is not remembered; it is read again next time.
pub(super) const RACY_NS: i128 = 2_000_000_000;

impl Cache {
    /// The digest of a user's file, and the stat it had while it was read. If the stat is that of
    /// the last time, the file is not read. A file that changes while it is read is an error.
    pub fn file_digest(&self, path: &Path) -> Result<(Blob, Stat)> {
        let path = std::path::absolute(path).map_err(|e| fs::error("read", path, e))?;
        let stat = fs::stat(&path)?;
        if let Some(blob) = self.known(&path, &stat) {
            return Ok((blob, stat));
        }
        let started = now_ns();
        let (stat, blob) = hash_stable(&path)?;
        if self.is_settled(&path, &stat, started) {
            self.remember(&path, &stat, &blob);
        }
        Ok((blob, stat))
    }

    /// The digest of a file that has this stat, if it is known.
    #[cfg(test)]
    pub(crate) fn known_digest(&self, path: &Path, stat: &Stat) -> Option<Blob> {
        self.known(&std::path::absolute(path).ok()?, stat)
    }

    /// Remembers the digest of a file that somebody else has read, a worker say, which had this
    /// stat before and after. It was read after this cache was opened.
    pub fn remember_digest(&self, path: &Path, stat: &Stat, blob: &Blob) {
        let Ok(path) = std::path::absolute(path) else { return };
        // When exactly it was read is not known here: not before the cache was opened.
        if self.is_settled(&path, stat, self.inner.opened_ns) {
            self.remember(&path, stat, blob);
        }
    }

    /// What was remembered with [`Cache::remember_part`] of a file that has this stat.
    #[must_use]
    pub fn known_part(&self, path: &Path, of: &Digest, stat: &Stat) -> Option<Digest> {
        Some(self.known(&part(path, of)?, stat)?.b3)
    }

    /// As [`Cache::remember_digest`], of a digest that is not that of the file's bytes, but of what it is to the file
    /// with the digest `of`, which it belongs to. Was the file settled?
    pub fn remember_part(&self, path: &Path, of: &Digest, stat: &Stat, b3: Digest) -> bool {
        let Some(part) = part(path, of) else { return false };
        let is_settled = self.is_settled(&part, stat, self.inner.opened_ns);
        if is_settled {
            self.forget_parts(path, stat);
            self.remember(&part, stat, &Blob { b3, size: stat.size, sha256: None });
        }
        is_settled
    }

    /// May a digest be remembered for a file that was read at this time or later? Files inside the
    /// cache are written once, by us, before they get their names; no rule is needed for them.
    fn is_settled(&self, path: &Path, stat: &Stat, read_ns: i128) -> bool {
        path.starts_with(&self.inner.v1) || stat.mtime_ns.max(stat.ctime_ns) + RACY_NS <= read_ns
    }
}

/// Hashes a file that must not change meanwhile.
fn hash_stable(path: &Path) -> Result<(Stat, Blob)> {
    match hash_watched(path, false)? {
        (stat, blob, true) => Ok((stat, blob)),
        _ => Err(Error::Changed { path: path.to_owned() }),
    }
}

/// Hashes a file. Tells the stat it had before, and whether it had the same one after.
pub(super) fn hash_watched(path: &Path, with_sha256: bool) -> Result<(Stat, Blob, bool)> {
    let file = fs::open_regular(path)?;
    let stat = fs::fstat(&file, path)?;
    let blob = fs::hash_file(&file, path, with_sha256)?;
    let stable = fs::fstat(&file, path)? == stat && blob.size == stat.size;
    Ok((stat, blob, stable))
}
