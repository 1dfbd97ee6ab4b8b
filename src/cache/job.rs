//! Folders for unfinished work, and the removal of what the dead left.
//!
//! A job folder `tmp/NAME` has a lock file `tmp/NAME.lock`, which its owner holds locked. The lock
//! file is made first and removed last, so that a folder without one belongs to nobody, and one
//! whose lock can be had belongs to a dead process.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Result;
use super::{Cache, lock as lock_mutex};
use crate::fs;

/// Length of a job folder's name. Fixed, because a build may depend on the length of its path.
const NAME_LENGTH: usize = 16;

/// A folder of its own for one job, on the file system of the cache. Removed with all in it when
/// this is dropped, or by the next process that opens the cache if this one is killed.
#[derive(Debug)]
pub struct JobDir {
    path: PathBuf,
    lock_path: PathBuf,
    /// Locked as long as the job lives.
    _lock: File,
    files: AtomicU64,
}

impl JobDir {
    /// The folder. Its name is random and of fixed length.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name in this folder that was not used before.
    pub(super) fn fresh(&self) -> PathBuf {
        self.path.join(format!("f{}", self.files.fetch_add(1, Ordering::Relaxed)))
    }

    /// Writes a finished file here: flushed, with these permissions, and under a fresh name.
    pub(super) fn write(&self, bytes: &[u8], mode: u32) -> Result<PathBuf> {
        let path = self.fresh();
        let write = || {
            let mut file = fs::create_new(&path)?;
            file.write_all(bytes).map_err(|e| fs::error("write", &path, e))?;
            fs::set_mode(&path, mode)?;
            file.sync_all().map_err(|e| fs::error("sync", &path, e))
        };
        // Half a file on a full disk is in the way of all that follows.
        write().inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(path)
    }

    /// Writes a file to `to`, whole or not at all, in place of what was there.
    pub(super) fn publish(&self, bytes: &[u8], to: &Path, mode: u32) -> Result<()> {
        let from = self.write(bytes, mode)?;
        into_place(&from, to, fs::rename).inspect_err(|_| drop(fs::remove_file(&from)))
    }
}

impl Drop for JobDir {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the sweep of a later run.
        if fs::remove_dir_all(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Renames by `rename`, making the target's folder if somebody removed it, and flushes the folder.
pub(super) fn into_place<T>(
    from: &Path,
    to: &Path,
    rename: impl Fn(&Path, &Path) -> fs::Result<T>,
) -> Result<T> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let done = match rename(from, to) {
        Err(e) if e.is_missing() => {
            fs::create_dir_all(folder)?;
            rename(from, to)?
        }
        done => done?,
    };
    fs::sync_dir(folder)?;
    Ok(done)
}

fn sync_folders(folder: &Path) -> fs::Result<()> {
    for path in fs::list(folder)? {
        if let Some((fs::Kind::Folder, _)) = fs::look(&path)? {
            sync_folders(&path)?;
        }
    }
    fs::sync_dir(folder)
}

/// Makes a job folder in `tmp`.
pub(super) fn create(tmp: &Path) -> Result<JobDir> {
    loop {
        let mut builder = tempfile::Builder::new();
        builder.prefix("").suffix(".lock").rand_bytes(NAME_LENGTH);
        let named = match builder.tempfile_in(tmp) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir_all(tmp)?;
                builder.tempfile_in(tmp)
            }
            named => named,
        };
        let named = named.map_err(|e| fs::error("create a file in", tmp, e))?;
        let (file, lock_path) = named.keep().map_err(|e| fs::error("create a file in", tmp, e.error))?;
        // A sweeper may have come between: it has removed the lock file, or is about to.
        if !try_lock(&file) || !is_still(&file, &lock_path) {
            continue;
        }
        let path = lock_path.with_extension("");
        let job = JobDir { path, lock_path, _lock: file, files: AtomicU64::new(0) };
        fs::create_dir(&job.path)?;
        return Ok(job);
    }
}

/// Takes the kernel's lock on an open file if nobody has it. Where the file system has no locks,
/// nothing is ever free.
pub(super) fn try_lock(file: &File) -> bool {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Is this open file still what lies at `path`?
pub(super) fn is_still(file: &File, path: &Path) -> bool {
    match (fs::fstat(file, path), fs::stat(path)) {
        (Ok(ours), Ok(there)) => (ours.dev, ours.ino) == (there.dev, there.ino),
        _ => false,
    }
}

impl Cache {
    /// A new job folder.
    pub fn job_dir(&self) -> Result<JobDir> {
        self.require_writable()?;
        create(&self.folder("tmp"))
    }

    /// Moves a finished folder of a job to where it stays, by one rename, after its folders are
    /// flushed; its files must be. Tells whether it did: a folder that is there stays.
    pub fn publish_folder(&self, from: &Path, to: &Path) -> Result<bool> {
        self.require_writable()?;
        sync_folders(from)?;
        into_place(from, to, fs::rename_new)
    }

    /// Where this process keeps its own unfinished files.
    pub(super) fn scratch(&self) -> Result<Arc<JobDir>> {
        let mut scratch = lock_mutex(&self.inner.scratch);
        if let Some(job) = &*scratch {
            // Somebody may have cleaned `tmp/` by hand while we run.
            if fs::is_dir(job.path()) {
                return Ok(Arc::clone(job));
            }
        }
        let job = Arc::new(self.job_dir()?);
        *scratch = Some(Arc::clone(&job));
        Ok(job)
    }

    /// Removes what dead processes left. Never fails: what cannot be removed stays for the next.
    pub(super) fn sweep(&self) {
        for path in fs::list(&self.folder("tmp")).unwrap_or_default() {
            if path.extension().is_some_and(|e| e == "lock") {
                with_dead_lock(&path, || fs::remove_dir_all(&path.with_extension("")).is_ok());
            } else if !fs::exists(&path.with_extension("lock")) {
                // The lock file is there before the folder and after it: nobody owns this.
                let _ = match fs::look(&path) {
                    Ok(Some((fs::Kind::Folder, _))) => fs::remove_dir_all(&path),
                    _ => fs::remove_file(&path),
                };
            }
        }
        for path in fs::list(&self.folder("locks")).unwrap_or_default() {
            with_dead_lock(&path, || true);
        }
    }
}

/// Removes a lock file whose owner is dead, after `clean` has removed what it stood for.
fn with_dead_lock(path: &Path, clean: impl FnOnce() -> bool) {
    let Ok(file) = fs::open_lock(path, false) else { return };
    if try_lock(&file) && is_still(&file, path) && clean() {
        // Removed while it is locked: whoever waits for it sees that it is gone, and starts anew.
        let _ = fs::remove_file(path);
    }
}
