//! The content-addressed store: `cas/ab/<64 hex digits>`.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Cache;
use super::error::{Error, Result};
use super::files::hash_watched;
use super::job::into_place;
use crate::digest::{Blob, Digest};
use crate::fs::{self, Kind, Stat};

/// Quarantined things that are kept.
const QUARANTINE: usize = 20;

impl Cache {
    /// Stores these bytes.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob { b3: Digest::of(bytes), size: bytes.len() as u64, sha256: None };
        if self.find(&blob)?.is_none() {
            self.require_writable()?;
            let from = self.scratch()?.write(bytes, 0o444)?;
            self.publish_blob(&from, &blob).inspect_err(|_| drop(fs::remove_file(&from)))?;
        }
        Ok(blob)
    }

    /// Takes a finished file into the store: it is hashed, flushed, made read-only and moved. The
    /// file is gone from where it was, unless it has other names or lies on another file system,
    /// in which case it is copied. Nobody may write to it any more.
    pub fn adopt(&self, file: &Path, with_sha256: bool) -> Result<Blob> {
        self.require_writable()?;
        let open = fs::open_regular_nofollow(file)?;
        let before = fs::fstat(&open, file)?;
        if fs::link_count(&open, file)? > 1 {
            return self.adopt_copy(file, with_sha256);
        }
        let blob = fs::hash_file(&open, file, with_sha256)?;
        if fs::fstat(&open, file)? != before || blob.size != before.size {
            return Err(Error::Changed { path: file.to_owned() });
        }
        if self.find(&blob)?.is_some() {
            fs::remove_file(file)?;
            return Ok(blob);
        }
        fs::set_mode(file, 0o444)?;
        open.sync_all().map_err(|e| fs::error("sync", file, e))?;
        match self.publish_blob(file, &blob) {
            Err(Error::Fs(e)) if e.source.kind() == std::io::ErrorKind::CrossesDevices => {
                self.adopt_copy(file, with_sha256)
            }
            done => done.map(|()| blob),
        }
    }

    /// The store must not share a file with somebody who may write to it.
    fn adopt_copy(&self, file: &Path, with_sha256: bool) -> Result<Blob> {
        let copy = self.scratch()?.fresh();
        let blob = fs::copy(file, &copy).map_err(Error::from).and_then(|()| self.adopt(&copy, with_sha256));
        // Still there only if something failed.
        fs::remove_file(&copy)?;
        let blob = blob?;
        fs::remove_file(file)?;
        Ok(blob)
    }

    fn publish_blob(&self, from: &Path, blob: &Blob) -> Result<()> {
        let to = self.blob_path(&blob.b3);
        if !into_place(from, &to, fs::rename_new)? {
            // Another process was faster, or what lies there is damaged and cannot be moved away.
            if self.find(blob)?.is_some() {
                return Ok(fs::remove_file(from)?);
            }
            into_place(from, &to, fs::rename)?;
        }
        // The rename changed its ctime, so it is looked at now. Its content was hashed by us, and
        // nobody else writes here: the racy rule has nothing to add.
        let stat = fs::stat(&to)?;
        if stat.size == blob.size {
            self.remember(&to, &stat, blob);
        }
        Ok(())
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.inner.v1.join("cas").join(&hex[..2]).join(hex)
    }

    /// The file of a blob, if it is there and sound: its stat is that of the last full hash, or
    /// it is hashed now. A damaged blob is moved to `quarantine/`, warned of, and none.
    pub fn find(&self, blob: &Blob) -> Result<Option<PathBuf>> {
        let path = self.blob_path(&blob.b3);
        let Some(stat) = self.look_at_blob(&path)? else { return Ok(None) };
        if self.known(&path, &stat).is_some_and(|known| known.b3 == blob.b3) {
            return Ok(self.right_size(blob, &stat).then_some(path));
        }
        Ok(self.hash_blob(blob, &path, false)?.then_some(path))
    }

    /// The file of a blob of which only the digest is known, if it is there and sound.
    pub fn find_digest(&self, b3: &Digest) -> Result<Option<PathBuf>> {
        let Some(stat) = self.look_at_blob(&self.blob_path(b3))? else { return Ok(None) };
        self.find(&Blob { b3: *b3, size: stat.size, sha256: None })
    }

    /// The content of a blob, if it is there and sound (see [`Cache::find`]).
    pub fn read(&self, blob: &Blob) -> Result<Option<Bytes>> {
        let Some(path) = self.find(blob)? else { return Ok(None) };
        match fs::map(&path) {
            Ok(bytes) if bytes.len() as u64 == blob.size => Ok(Some(bytes)),
            Ok(_) => Ok(None),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Hashes a blob whole, whatever is known of it. A damaged one is quarantined and warned of.
    pub fn check(&self, blob: &Blob) -> Result<bool> {
        let path = self.blob_path(&blob.b3);
        match self.look_at_blob(&path)? {
            Some(_) => self.hash_blob(blob, &path, blob.sha256.is_some()),
            None => Ok(false),
        }
    }

    /// The stat of a blob's file; none if there is none. Anything else than a file is quarantined.
    fn look_at_blob(&self, path: &Path) -> Result<Option<Stat>> {
        match fs::look(path)? {
            None => Ok(None),
            Some((Kind::File, stat)) => Ok(Some(stat)),
            Some(_) => {
                self.quarantine(path, "it is not a regular file");
                Ok(None)
            }
        }
    }

    fn hash_blob(&self, blob: &Blob, path: &Path, with_sha256: bool) -> Result<bool> {
        let (stat, found, stable) = match hash_watched(path, with_sha256) {
            Ok(found) => found,
            // Removed meanwhile.
            Err(Error::Fs(e)) if e.is_missing() => return Ok(false),
            Err(Error::Fs(e)) if e.source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                self.quarantine(path, "it cannot be read");
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        if found.b3 != blob.b3 {
            self.quarantine(path, &format!("its content has the digest `{}`", found.b3));
            return Ok(false);
        }
        // The content is right. If its stat moved meanwhile (it got or lost a name, say), it is
        // hashed once more next time.
        if stable {
            self.remember(path, &stat, &found);
        }
        if with_sha256 && found.sha256 != blob.sha256 {
            self.warn(format!(
                "blob `{}` is sound, but a record gives it another SHA-256; the record is not used",
                blob.b3
            ));
            return Ok(false);
        }
        Ok(self.right_size(blob, &stat))
    }

    /// The content is right: if the size asked for is another, the one who asks is wrong.
    fn right_size(&self, blob: &Blob, stat: &Stat) -> bool {
        if blob.size != stat.size {
            let (is, asked) = (stat.size, blob.size);
            self.warn(format!(
                "blob `{}` has {is} bytes, a record says {asked}; the record is not used",
                blob.b3
            ));
        }
        blob.size == stat.size
    }

    /// Moves something damaged out of the way, into `quarantine/`, and warns. Where that is not
    /// possible, the thing stays and is a miss all the same.
    pub(crate) fn quarantine(&self, path: &Path, why: &str) {
        let mut moved = false;
        if self.is_writable() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let folder = self.folder("quarantine");
            super::runs::make_room(&folder, QUARANTINE);
            let first = format!("{}-{name}", super::runs::time_name(super::now_ns()));
            // A folder is never renamed onto another one: a second thing of that name within a
            // millisecond gets a number.
            for n in 1..=QUARANTINE {
                let to = folder.join(if n == 1 { first.clone() } else { format!("{first}-{n}") });
                moved = into_place(path, &to, fs::rename_new).unwrap_or(false);
                if moved || !matches!(fs::look(&to), Ok(Some(_))) {
                    break;
                }
            }
        }
        let then = if moved { "moved to `quarantine/`" } else { "not used" };
        self.warn(format!("`{}` is damaged: {why}; {then}", path.display()));
    }
}
