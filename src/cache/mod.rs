//! Bytes and keys to blobs and results that can be trusted.
//!
//! The cache holds *blobs* (files named by the BLAKE3 of their content), *results* (what an action
//! key gave: named blobs, and the whole preimage of the key), and what helps around them: a stat
//! index, job folders, locks, run records and failure bundles. `cache/README.md` describes the
//! files. Knows no manifest, no ONNX and no TensorRT: keys and blobs are opaque.
//!
//! Invariants:
//! - A file of the store appears by rename, whole, flushed and read-only, or not at all.
//! - A result is written after all its blobs, and read only if they all are there; the first
//!   result of a key stays.
//! - Damage of any kind is a miss and a warning, never a panic and never a wrong blob.
//! - Everything unfinished lies in a folder of `tmp/` that its owner holds locked; locks are the
//!   kernel's and die with their process. Nothing relies on a clock but the racy rule (see
//!   [`Cache::file_digest`]) and the names of runs, failures and quarantined files.
//! - Nothing is collected while another process has the cache open.
//! - Opening a cache that is in order, and reading from it, writes nothing.

mod blob;
mod collect;
mod error;
mod failures;
mod files;
mod index;
mod job;
mod layout;
mod lock;
mod memo;
mod reader;
mod record;
mod runs;
pub(crate) mod seal;
#[cfg(test)]
mod tests;
mod transfer;
mod uses;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use collect::{Collected, Garbage, Policy, Roots, Usage, Verified};
pub use error::{Error, Result};
pub use failures::FailureFile;
pub use job::JobDir;
pub use lock::{ActionLock, Holder};
pub use memo::{Asked, Recalled, recall};
pub use record::Record;
pub use runs::{RunInfo, RunLog};
pub use transfer::Transferred;

/// A cache folder. Clones share one state and may be used from several threads.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The folder that the user named. Absolute.
    root: PathBuf,
    /// `root/v1`.
    v1: PathBuf,
    /// May we write?
    writable: bool,
    /// When it was opened, in ns since 1970: every file that is looked at through this value is
    /// read later.
    opened_ns: i128,
    /// Read on first use.
    index: Mutex<Option<index::Index>>,
    uses: Mutex<uses::Uses>,
    /// Where this process keeps unfinished files; made on first use.
    scratch: Mutex<Option<Arc<JobDir>>>,
    warnings: Mutex<Vec<String>>,
    /// Held shared as long as the cache is open, so that nothing is collected meanwhile.
    in_use: Option<std::fs::File>,
}

impl Cache {
    /// Opens the cache at `root`, which is made if it is missing. A folder that cannot be written
    /// is opened for reading only. What dead processes left in `tmp/` and `locks/` is removed.
    pub fn open(root: &Path) -> Result<Cache> {
        let root = std::path::absolute(root).map_err(|e| crate::fs::error("read", root, e))?;
        let v1 = root.join(layout::FOLDER);
        let opened_ns = now_ns();
        let (writable, warnings) = layout::prepare(&root, &v1).map_err(|error| match error {
            Error::Fs(source) => Error::Unusable { root: root.clone(), source },
            other => other,
        })?;
        let in_use = lock::share(&v1);
        let cache = Cache {
            inner: Arc::new(Inner {
                root,
                v1,
                writable,
                opened_ns,
                index: Mutex::new(None),
                uses: Mutex::default(),
                scratch: Mutex::new(None),
                warnings: Mutex::new(warnings),
                in_use,
            }),
        };
        if writable {
            cache.sweep();
        }
        if let Some(kind) = crate::fs::network_kind(&cache.inner.v1) {
            cache.warn(format!(
                "the cache `{}` is on a network file system ({kind}): what is right stays right, but it is slow, and \
                 locks may not hold between machines",
                cache.inner.root.display()
            ));
        }
        Ok(cache)
    }

    /// The folder given to [`Cache::open`], absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// A folder of the current format, such as `packages`. It may not exist yet.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.inner.v1.join(name)
    }

    /// Can it be written? If not, hits work, and everything that writes is an error.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.inner.writable
    }

    /// What was found damaged since the last call, for the user.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.inner.warnings))
    }

    /// Keeps a warning for [`Cache::take_warnings`].
    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = lock(&self.inner.warnings);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// An error unless the cache can be written.
    fn require_writable(&self) -> Result<()> {
        if self.inner.writable { Ok(()) } else { Err(Error::ReadOnly { path: self.inner.root.clone() }) }
    }

    fn index(&self) -> MutexGuard<'_, Option<index::Index>> {
        lock(&self.inner.index)
    }
}

/// A lock that another thread left by a panic is taken all the same: what these mutexes guard is
/// whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock, in ns since 1970.
#[expect(clippy::disallowed_methods, reason = "the cache reads the clock for the racy rule and for names")]
fn now_ns() -> i128 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX))
}
