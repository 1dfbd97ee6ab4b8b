//! What the file system was asked and what it said, for as long as somebody wants to know.
//!
//! An answer that was made from files alone is still right as long as every one of those questions is answered as
//! before. All questions pass through [`crate::fs`], the only user of `std::fs`; so none is forgotten. The few that are
//! asked by others (`walkdir`) are told with [`saw`], and whoever asks something that is no file (another
//! process, the network) says so with [`beyond_files`]: such an answer cannot be kept.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Stat;

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing is there.
    Missing,
    /// It is there, and is this device's inode; its content was not looked at.
    There {
        /// Device.
        dev: u64,
        /// Inode.
        ino: u64,
    },
    /// It was read (of a folder: its names).
    Read(Stat),
    /// It was not the same twice, or could not be looked at.
    Unsteady,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Observed {
    /// By path, absolute, symbolic links followed. Not as paths, which are compared name by name.
    pub sights: BTreeMap<OsString, Sight>,
    /// Why that is not all.
    pub beyond: Option<String>,
}

static WATCHING: AtomicBool = AtomicBool::new(false);
static SEEN: Mutex<Option<Observed>> = Mutex::new(None);

fn seen() -> MutexGuard<'static, Option<Observed>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, whatever this process asks of the file system is written down.
pub fn observe() {
    *seen() = Some(Observed::default());
    WATCHING.store(true, Ordering::SeqCst);
}

/// What was seen since [`observe`]; nothing is written down any more.
pub fn observed() -> Option<Observed> {
    WATCHING.store(false, Ordering::SeqCst);
    seen().take()
}

/// Something else than a file decides what comes now.
pub fn beyond_files(what: &str) {
    if WATCHING.load(Ordering::Relaxed)
        && let Some(seen) = seen().as_mut()
    {
        seen.beyond.get_or_insert_with(|| what.to_owned());
    }
}

/// It was read by its name: a file, or a folder that was listed, also by somebody else than [`crate::fs`].
pub fn saw(path: &Path) {
    if WATCHING.load(Ordering::Relaxed) {
        read(path, std::fs::metadata(path).as_ref());
    }
}

/// It was read, and this is what it was.
pub(super) fn read(path: &Path, metadata: Result<&Metadata, &io::Error>) {
    note(path, metadata, |metadata| Sight::Read(Stat::from(metadata)));
}

/// It was asked for, and nothing of it was read.
pub(super) fn asked(path: &Path, metadata: Result<&Metadata, &io::Error>) {
    note(path, metadata, |metadata| {
        let Stat { dev, ino, .. } = Stat::from(metadata);
        Sight::There { dev, ino }
    });
}

/// As [`read`], of the path itself. What a symbolic link is cannot be kept: everything else is seen through links.
pub(super) fn looked(path: &Path, metadata: Result<&Metadata, &io::Error>) {
    match metadata {
        Ok(metadata) if metadata.is_symlink() => beyond_files("a symbolic link"),
        metadata => read(path, metadata),
    }
}

/// A path was made canonical. If that went through a link, it cannot be kept where that leads.
pub(super) fn beyond_link(path: &Path, canonical: Option<&Path>) {
    if canonical.is_some_and(|canonical| canonical != path) {
        beyond_files("a symbolic link");
    }
    saw(path);
}

fn note(path: &Path, metadata: Result<&Metadata, &io::Error>, sight: impl FnOnce(&Metadata) -> Sight) {
    if !WATCHING.load(Ordering::Relaxed) {
        return;
    }
    let mut seen = seen();
    let (Some(Observed { sights, .. }), Ok(path)) = (seen.as_mut(), std::path::absolute(path)) else {
        return;
    };
    let sight = match metadata {
        Ok(metadata) => sight(metadata),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Sight::Missing
        }
        Err(_) => Sight::Unsteady,
    };
    let was = sights.entry(path.into_os_string()).or_insert(sight);
    *was = match (*was, sight) {
        (was, is) if was == is => is,
        (Sight::There { dev, ino }, Sight::Read(stat)) | (Sight::Read(stat), Sight::There { dev, ino })
            if (dev, ino) == (stat.dev, stat.ino) =>
        {
            Sight::Read(stat)
        }
        _ => Sight::Unsteady,
    };
}

/// A folder from which paths are looked at.
pub struct Base(rustix::fd::OwnedFd);

impl Base {
    /// Opens a folder; none if that cannot be.
    #[must_use]
    pub fn open(folder: &Path) -> Option<Base> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(folder, flags, Mode::empty()).ok().map(Base)
    }

    /// Is a path, absolute or from here, still as it was seen?
    #[must_use]
    pub fn is_still(&self, path: &[u8], sight: &Sight) -> bool {
        use rustix::fs::{AtFlags, statat};
        use rustix::io::Errno;
        match (statat(&self.0, path, AtFlags::empty()), sight) {
            (Err(Errno::NOENT | Errno::NOTDIR), Sight::Missing) => true,
            (Ok(now), Sight::There { dev, ino }) => (now.st_dev, now.st_ino) == (*dev, *ino),
            (Ok(now), Sight::Read(stat)) => {
                let ns = |s: i64, ns: u64| i128::from(s) * 1_000_000_000 + i128::from(ns);
                (now.st_dev, now.st_ino, u64::try_from(now.st_size)) == (stat.dev, stat.ino, Ok(stat.size))
                    && ns(now.st_mtime, now.st_mtime_nsec) == stat.mtime_ns
                    && ns(now.st_ctime, now.st_ctime_nsec) == stat.ctime_ns
            }
            _ => false,
        }
    }
}
