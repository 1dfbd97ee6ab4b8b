//! One builder per action key, among threads and processes.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::Cache;
use super::error::{Error, Result};
use super::job::{is_still, try_lock};
use crate::digest::Digest;
use crate::fs;

/// Who holds a lock that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process; 0 if that is not known.
    pub pid: u32,
    /// What it does: the action and its key.
    pub what: String,
}

/// The right to do one action. Ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct ActionLock {
    path: PathBuf,
    _file: File,
}

impl Drop for ActionLock {
    fn drop(&mut self) {
        // While it is still locked: whoever waits finds another file at the path, and starts anew.
        let _ = fs::remove_file(&self.path);
    }
}

/// Holds the cache in use, beside all others who do. Waits while it is collected, which is short. None where the
/// file system has no locks: then nothing can be collected either.
pub(super) fn share(v1: &std::path::Path) -> Option<File> {
    let file = fs::open(&v1.join("format")).ok()?;
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared);
    locked.is_ok().then_some(file)
}

/// The cache is this process's alone until this is dropped.
pub(super) struct Alone<'a>(&'a File);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, rustix::fs::FlockOperation::LockShared);
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

impl Cache {
    /// The cache for this process alone, if no other has it open.
    pub(super) fn lock_alone(&self) -> Result<Alone<'_>> {
        match &self.inner.in_use {
            // The lock that is held shared becomes an exclusive one.
            Some(file) if try_lock(file) => Ok(Alone(file)),
            _ => Err(Error::InUse { path: self.inner.root.clone() }),
        }
    }

    /// Waits until this process alone may do the action. `on_wait` is called when another one
    /// does it already, and again when yet another took over. Look for the result after this
    /// returns: the other may have made it.
    pub fn lock_action(
        &self,
        action: &str,
        key: &Digest,
        on_wait: &mut dyn FnMut(Holder),
    ) -> Result<ActionLock> {
        let lock = self.lock_action_unless(action, key, &|| false, on_wait)?;
        Ok(lock.expect("nobody gives up"))
    }

    /// As [`Cache::lock_action`]; none if `give_up` says so while it waits, which may be long.
    pub fn lock_action_unless(
        &self,
        action: &str,
        key: &Digest,
        give_up: &dyn Fn() -> bool,
        on_wait: &mut dyn FnMut(Holder),
    ) -> Result<Option<ActionLock>> {
        self.require_writable()?;
        let path = self.folder("locks").join(format!("{action}-{key}.lock"));
        let mut told = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let mut file = match fs::open_lock(&path, true) {
                Err(e) if e.is_missing() => {
                    fs::create_dir_all(&self.folder("locks"))?;
                    fs::open_lock(&path, true)?
                }
                file => file?,
            };
            if try_lock(&file) {
                if !is_still(&file, &path) {
                    continue;
                }
                // For the eyes of others: a failure here takes nothing from the lock.
                let _ = file.set_len(0);
                let _ = file.rewind();
                let _ = writeln!(file, "{} {action} {key}", std::process::id());
                return Ok(Some(ActionLock { path, _file: file }));
            }
            if give_up() {
                return Ok(None);
            }
            let holder = read_holder(&path, action, key);
            if holder.as_ref().is_some_and(|h| told.as_ref() != Some(h)) {
                told.clone_from(&holder);
                on_wait(holder.expect("just seen"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// None while the holder has not yet written who it is, or the file is gone.
fn read_holder(path: &std::path::Path, action: &str, key: &Digest) -> Option<Holder> {
    let bytes = fs::read_prefix(path, 256).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?;
    let (pid, _) = text.split_once(' ')?;
    Some(Holder { pid: pid.parse().unwrap_or(0), what: format!("{action} {}", key.short()) })
}
