//! Files: the only place that touches `std::fs`.
//!
//! Every error names the path. Files that others may read while we write appear by rename, whole
//! or not at all.

#![expect(clippy::disallowed_methods, reason = "this is the module that the bans point to")]

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

mod hash;
mod observe;

pub use hash::{ReadAt, hash_at, hash_file};
pub use observe::{Base, Observed, Sight, beyond_files, observe, observed, saw};

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{}`: {source}", path.display())]
pub struct Error {
    /// What was tried: `read`, `write`, …
    pub what: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// Is the disk (or the quota) full?
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Is the file missing?
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }

    /// May we not write there (permissions, or a read-only file system)?
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// Result of a file operation.
pub type Result<T> = std::result::Result<T, Error>;

fn at<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| Error { what, path: path.to_owned(), source })
}

/// Wraps an I/O error with what was done to which file.
pub fn error(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error { what, path: path.to_owned(), source }
}

/// What the file system says of a file: if this is unchanged, the content is taken to be (see the
/// racy rule of the stat cache).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of the content, in ns since 1970.
    pub mtime_ns: i128,
    /// Time of the last change of the inode, in ns since 1970.
    pub ctime_ns: i128,
}

impl From<&Metadata> for Stat {
    fn from(m: &Metadata) -> Stat {
        let ns = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Stat {
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            mtime_ns: ns(m.mtime(), m.mtime_nsec()),
            ctime_ns: ns(m.ctime(), m.ctime_nsec()),
        }
    }
}

/// Facts about a file, symlinks followed.
pub fn stat(path: &Path) -> Result<Stat> {
    let metadata = fs::metadata(path);
    observe::read(path, metadata.as_ref());
    let metadata = at("read", path, metadata)?;
    if metadata.is_dir() {
        return Err(error("read", path, io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Ok(Stat::from(&metadata))
}

/// Facts about an open file.
pub fn fstat(file: &File, path: &Path) -> Result<Stat> {
    Ok(Stat::from(&at("read", path, file.metadata())?))
}

/// Does the path exist (symlinks followed)?
#[must_use]
pub fn exists(path: &Path) -> bool {
    asked(path).is_ok()
}

fn asked(path: &Path) -> io::Result<Metadata> {
    let metadata = fs::metadata(path);
    observe::asked(path, metadata.as_ref());
    metadata
}

/// Is it a folder (symlinks followed)?
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    asked(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Is it a regular file (symlinks followed)?
#[must_use]
pub fn is_file(path: &Path) -> bool {
    asked(path).is_ok_and(|metadata| metadata.is_file())
}

/// The absolute path without symlinks.
pub fn canonicalize(path: &Path) -> Result<PathBuf> {
    let canonical = fs::canonicalize(path);
    // Where a link leads is no part of what it leads to.
    observe::beyond_link(path, canonical.as_deref().ok());
    at("read", path, canonical)
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File> {
    observe::saw(path);
    at("read", path, File::open(path))
}

/// Creates a file for writing, which must not exist.
pub fn create_new(path: &Path) -> Result<File> {
    at("create", path, File::create_new(path))
}

/// Makes a file, or empties the one that is there.
pub fn create(path: &Path) -> Result<File> {
    at("create", path, File::create(path))
}

/// The whole content.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    observe::saw(path);
    at("read", path, fs::read(path))
}

/// The whole content as text.
pub fn read_to_string(path: &Path) -> Result<String> {
    observe::saw(path);
    at("read", path, fs::read_to_string(path))
}

/// At most `max` bytes from the start.
pub fn read_prefix(path: &Path, max: u64) -> Result<Vec<u8>> {
    observe::saw(path);
    let mut bytes = Vec::new();
    at("read", path, File::open(path).and_then(|f| f.take(max).read_to_end(&mut bytes)))?;
    Ok(bytes)
}

/// The content, mapped. Mapped files that others truncate raise SIGBUS on access: map files of
/// users in workers only.
pub fn map(path: &Path) -> Result<Bytes> {
    let file = open(path)?;
    map_file(&file, path)
}

/// The content of an open file, mapped (see [`map`]).
#[expect(unsafe_code, reason = "mapping a file")]
pub fn map_file(file: &File, path: &Path) -> Result<Bytes> {
    if at("read", path, file.metadata())?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only. Callers map either files of the store, which
    // are never changed, or files of users inside a worker, whose death is handled.
    let map = at("map", path, unsafe { memmap2::Mmap::map(file) })?;
    Ok(Bytes::from_owner(map))
}

/// From this size on, bytes that are made lie in a file.
const MADE_IN_FILE: usize = 1 << 20;

/// Bytes of this length, zero until `fill` makes them. Many of them lie in a file without a name in the current folder
/// (a worker's is its job folder, on the disk of the cache), so that the kernel can write them out when memory
/// is short; where that cannot be, on the heap.
pub fn make_bytes(length: usize, fill: impl FnOnce(&mut [u8])) -> Bytes {
    match (length >= MADE_IN_FILE).then(|| unnamed(length)) {
        Some(Ok(mut map)) => {
            fill(&mut map);
            Bytes::from_owner(map)
        }
        _ => {
            let mut bytes = vec![0; length];
            fill(&mut bytes);
            Bytes::from(bytes)
        }
    }
}

#[expect(unsafe_code, reason = "mapping a file")]
fn unnamed(length: usize) -> io::Result<memmap2::MmapMut> {
    let file = tempfile::tempfile_in(".")?;
    // A disk that is full must be an error here, and not a signal later.
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length as u64)?;
    // SAFETY: the file has no name, so that nobody else can open it.
    unsafe { memmap2::MmapMut::map_mut(&file) }
}

/// Creates a folder and its parents.
pub fn create_dir_all(path: &Path) -> Result<()> {
    at("create folder", path, fs::create_dir_all(path))
}

/// Names in a folder, sorted; empty if it does not exist.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    observe::saw(path);
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => at("list", path, entries)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(at("list", path, entry)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Removes a file; fine if it is not there.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => at("remove", path, result),
    }
}

/// Removes a folder and all in it; fine if it is not there.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => at("remove", path, result),
    }
}

/// Removes an empty folder; fine if it is not there or not empty.
pub fn remove_dir_if_empty(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// Renames; the target is replaced.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    at("rename to", to, fs::rename(from, to))
}

/// Makes a hard link. Fails if `to` exists or is on another file system.
pub fn hard_link(from: &Path, to: &Path) -> Result<()> {
    at("link", to, fs::hard_link(from, to))
}

/// Makes `to`, which must not exist, share the content of `from` until one of them changes. Few file systems can.
pub fn reflink(from: &Path, to: &Path) -> Result<()> {
    let source = open(from)?;
    let file = create_new(to)?;
    let shared = rustix::fs::ioctl_ficlone(&file, &source);
    if shared.is_err() {
        let _ = remove_file(to);
    }
    at("link", to, shared.map_err(Into::into))
}

/// The kind of network file system that a path lies on; none if it lies on none that is known.
#[must_use]
pub fn network_kind(path: &Path) -> Option<&'static str> {
    match rustix::fs::statfs(path).ok()?.f_type {
        FUSE => {
            let path = fs::canonicalize(path).ok()?;
            fuse_network_name(&fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
        }
        kind => network_name(kind),
    }
}

/// The number of all file systems that are programs.
const FUSE: rustix::fs::FsWord = 0x6573_5546;

/// The network file system that serves a path without links by FUSE, by the list of mounts.
fn fuse_network_name(mounts: &str, path: &Path) -> Option<&'static str> {
    fn of_line<'a>(line: &'a str, path: &Path) -> Option<(usize, &'a str)> {
        // `47 27 0:46 / /mnt rw - fuse.sshfs :/data rw`: the mount point is the fifth, the type stands behind the dash.
        let (before, behind) = line.split_once(" - ")?;
        let point = PathBuf::from(before.split(' ').nth(4)?.replace("\\040", " "));
        let kind = behind.split(' ').next()?;
        path.starts_with(&point).then(|| (point.as_os_str().len(), kind))
    }
    // Of several at one point, the last one hides the others.
    let (_, kind) =
        mounts.lines().filter_map(|line| of_line(line, path)).max_by_key(|(length, _)| *length)?;
    Some(match kind.strip_prefix("fuse.")? {
        "sshfs" => "SSHFS",
        "glusterfs" => "GlusterFS",
        "ceph-fuse" | "ceph" => "Ceph",
        "juicefs" | "JuiceFS" => "JuiceFS",
        "gcsfuse" => "Cloud Storage FUSE",
        "s3fs" | "mountpoint-s3" | "goofys" => "S3",
        "blobfuse" | "blobfuse2" => "Blobfuse",
        "rclone" => "rclone",
        "curlftpfs" => "FTP",
        _ => return None,
    })
}

/// Kinds of network file systems by the number that the kernel gives them.
fn network_name(kind: rustix::fs::FsWord) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        _ => return None,
    })
}

/// Makes a symbolic link `to` that points at `from`.
pub fn symlink(from: &Path, to: &Path) -> Result<()> {
    at("link", to, std::os::unix::fs::symlink(from, to))
}

/// Copies the content (by reflink where the file system can); `to` is replaced and writable.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    at("copy to", to, fs::copy(from, to).map(drop))?;
    set_mode(to, 0o644)
}

/// Sets the permission bits.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    at("set the permissions of", path, fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}

/// Flushes a file to the disk.
pub fn sync_file(path: &Path) -> Result<()> {
    at("sync", path, File::open(path).and_then(|f| f.sync_all()))
}

/// Flushes a folder's entries to the disk.
pub fn sync_dir(path: &Path) -> Result<()> {
    sync_file(path)
}

/// Writes a file whole or not at all: a temporary file beside it, flushed, then renamed into place.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, bytes, true)
}

/// As [`write_atomic`], and not flushed: after a loss of power the file may be empty.
pub fn write_unflushed(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, bytes, false)
}

/// Flushes all that was written to the file system of a folder.
pub fn sync_file_system(folder: &Path) -> Result<()> {
    let open = open(folder)?;
    at("sync", folder, rustix::fs::syncfs(&open).map_err(Into::into))
}

fn write_whole(path: &Path, bytes: &[u8], flush: bool) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        if flush {
            file.as_file().sync_all()?;
        }
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    })();
    at("write", path, written)
}

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, wherever it points.
    Symlink,
    /// A pipe, a socket, a device.
    Other,
}

/// What lies at `path` itself, symlinks not followed; none if nothing does.
pub fn look(path: &Path) -> Result<Option<(Kind, Stat)>> {
    let metadata = fs::symlink_metadata(path);
    observe::looked(path, metadata.as_ref());
    let metadata = match metadata {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        metadata => at("read", path, metadata)?,
    };
    let kind = match metadata.file_type() {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Folder,
        t if t.is_symlink() => Kind::Symlink,
        _ => Kind::Other,
    };
    Ok(Some((kind, Stat::from(&metadata))))
}

/// Opens a regular file of a user for reading: never waits (as opening a pipe would), and a pipe,
/// a device or a folder is an error.
pub fn open_regular(path: &Path) -> Result<File> {
    open_regular_with(path, rustix::fs::OFlags::NONBLOCK)
}

/// Opens a regular file that another process left for us: as [`open_regular`], and a symbolic
/// link is an error.
pub fn open_regular_nofollow(path: &Path) -> Result<File> {
    open_regular_with(path, rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW)
}

fn open_regular_with(path: &Path, flags: rustix::fs::OFlags) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    observe::saw(path);
    let file = at("read", path, File::options().read(true).custom_flags(flags).open(path))?;
    let metadata = at("read", path, file.metadata())?;
    if metadata.is_dir() {
        return Err(error("read", path, io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if !metadata.is_file() {
        return Err(error("read", path, io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

/// Opens a lock file for reading and writing, its content kept. Made if it is missing and `create`.
pub fn open_lock(path: &Path, create: bool) -> Result<File> {
    at("lock", path, File::options().read(true).write(true).create(create).truncate(false).open(path))
}

/// Takes the exclusive lock of a folder, waiting for whoever holds it. It is held as long as what is
/// returned lives, and dies with the process.
pub fn lock_folder(path: &Path) -> Result<File> {
    let folder = open(path)?;
    loop {
        match rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            locked => return at("lock", path, locked.map(|()| folder).map_err(Into::into)),
        }
    }
}

/// How many names an open file has.
pub fn link_count(file: &File, path: &Path) -> Result<u64> {
    Ok(at("read", path, file.metadata())?.nlink())
}

/// Creates one folder, which must not exist.
pub fn create_dir(path: &Path) -> Result<()> {
    at("create folder", path, fs::create_dir(path))
}

/// Renames unless the target exists; tells whether it did. Where the file system has no such
/// call, an existing target is looked for first, and a race may replace it.
pub fn rename_new(from: &Path, to: &Path) -> Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if look(to)?.is_some() {
                return Ok(false);
            }
            rename(from, to).map(|()| true)
        }
        Err(e) => Err(error("rename to", to, e.into())),
    }
}

/// May we write into this folder? Asked of the kernel; nothing is written.
#[must_use]
pub fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// May we execute this file? Asked of the kernel.
#[must_use]
pub fn is_executable(file: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_that_are_programs_are_told_by_their_mounts() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      47 22 0:46 / /mnt rw,nosuid - fuse.sshfs host:/data rw\n\
                      48 47 0:47 / /mnt/my\\040disk rw - fuse.juicefs JuiceFS:x rw\n\
                      49 22 0:48 / /usb rw - fuseblk /dev/sdb1 rw\n";
        let name = |path: &str| fuse_network_name(mounts, Path::new(path));
        assert_eq!(name("/mnt/cache"), Some("SSHFS"));
        assert_eq!(name("/mnt/my disk/cache"), Some("JuiceFS"));
        assert_eq!(name("/mntx"), None);
        assert_eq!(name("/usb/cache"), None);
    }
}
