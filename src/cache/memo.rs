//! Answers that are right as long as no file changes that they were made from.
//!
//! `memo/<question>` is 8 bytes of magic, the BLAKE3 of the rest, the answer (its length, u64, and its bytes), the
//! number of paths (u64), and blocks of up to [`BLOCK`] paths, each with its length in bytes (u32) and the number of
//! its paths (u32). A path is: how many bytes it shares with the one before it in its block (u16), how many follow
//! (u16), those, then what it was: 0 (missing), 1 (there: device and inode), or 2 (read: device, inode, size, u64 each,
//! mtime and ctime, i64 each, in ns since 1970). Numbers are little-endian, paths sorted; those below the folder that
//! the question is about are relative to it. Blocks are looked at by several threads.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::files::RACY_NS;
use super::reader::Reader;
use super::{Cache, layout, now_ns};
use crate::digest::Digest;
use crate::fs::{self, Base, Observed, Sight, Stat};

/// Name and version of the format.
const MAGIC: &[u8; 8] = b"ewmemo1\n";
/// Paths of a block.
const BLOCK: usize = 512;
/// Answers that are kept.
const KEPT: usize = 64;
/// Changed paths that are told. More of them are as good as all.
const MOST_CHANGED: usize = 64;
/// Longest answer file that is read.
const LONGEST: u64 = 1 << 30;

/// What the cache holds decides how an answer is found, and not what it is; these folders alone hold files that
/// answers are made from.
const SOURCES: [&str; 4] = ["format", "packages", "downloads", "toolchains"];

/// A question that is being answered: everything that is seen from [`Asked::now`] on.
#[derive(Debug)]
pub struct Asked {
    since_ns: i128,
}

impl Asked {
    /// Begins to watch.
    #[must_use]
    pub fn now() -> Asked {
        fs::observe();
        Asked { since_ns: now_ns() }
    }
}

/// What is known of a question that was asked before.
#[derive(Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The answer that was given.
    pub answer: Vec<u8>,
    /// The files that it was made from and that are not as they were, absolute. If there are none, the answer is right.
    pub changed: Vec<PathBuf>,
}

/// The answer that was given to this question about `folder`, unless much has changed since. The cache at `root` is not
/// opened for it.
#[must_use]
pub fn recall(root: &Path, question: &Digest, folder: &Path) -> Option<Recalled> {
    let path = root.join(layout::FOLDER).join("memo").join(question.to_string());
    let bytes = fs::read_prefix(&path, LONGEST).ok()?;
    let memo = Memo::parse(&bytes)?;
    let base = Base::open(folder)?;
    let changed = changed(&memo.blocks, &base)?;
    let changed = changed.into_iter().map(|path| folder.join(path)).collect();
    Some(Recalled { answer: memo.answer.to_vec(), changed })
}

impl Cache {
    /// Keeps the answer to a question about `folder`, if it was made from files alone, and if each was settled when it
    /// was read (see the racy rule). Never fails: what is not kept is found out again.
    pub fn memorize(&self, asked: &Asked, question: &Digest, folder: &Path, answer: &[u8]) {
        let Some(observed) = fs::observed() else { return };
        if observed.beyond.is_some() || !self.is_writable() {
            return;
        }
        let Some(bytes) = self.serialize_memo(asked.since_ns, observed, folder, answer) else { return };
        let memos = self.folder("memo");
        let path = memos.join(question.to_string());
        forget_oldest(&memos);
        let written = self.scratch().and_then(|scratch| scratch.publish(&bytes, &path, 0o644));
        if let Err(e) = written {
            self.warn(format!("{e}; the next run looks at everything again"));
        }
    }

    /// None if some file was not settled at this time.
    pub(super) fn serialize_memo(
        &self,
        since_ns: i128,
        seen: Observed,
        folder: &Path,
        answer: &[u8],
    ) -> Option<Vec<u8>> {
        let decides = |path: &Path| match path.strip_prefix(&self.inner.v1) {
            Ok(inside) => SOURCES.iter().any(|name| inside.starts_with(name)),
            Err(_) => path != self.inner.v1 && path != self.inner.root,
        };
        let mut entries: Vec<(Vec<u8>, Sight)> = Vec::with_capacity(seen.sights.len());
        for (path, sight) in seen.sights.into_iter() {
            let path = PathBuf::from(path);
            if !decides(&path) {
                continue;
            }
            match &sight {
                Sight::Unsteady => return None,
                Sight::Read(stat) if stat.mtime_ns.max(stat.ctime_ns) + RACY_NS > since_ns => return None,
                _ => {}
            }
            let path = match path.strip_prefix(folder) {
                Ok(inside) if inside != Path::new("") => inside.to_owned(),
                _ => path,
            };
            entries.push((path.into_os_string().into_vec(), sight));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut body = Vec::with_capacity(entries.len() * 64 + answer.len() + 16);
        body.extend((answer.len() as u64).to_le_bytes());
        body.extend_from_slice(answer);
        body.extend((entries.len() as u64).to_le_bytes());
        for block in entries.chunks(BLOCK) {
            let bytes = serialize_block(block)?;
            body.extend(u32::try_from(bytes.len()).ok()?.to_le_bytes());
            body.extend(u32::try_from(block.len()).ok()?.to_le_bytes());
            body.extend(bytes);
        }
        Some([MAGIC.as_slice(), Digest::of(&body).as_bytes(), &body].concat())
    }

    /// Damaged answers are removed; they were never used.
    pub(super) fn verify_memos(&self, damaged: &mut Vec<String>) -> fs::Result<()> {
        for path in fs::list(&self.folder("memo"))? {
            let bytes = fs::read_prefix(&path, LONGEST).unwrap_or_default();
            if Memo::parse(&bytes).is_none() {
                self.quarantine(&path, "its checksum is wrong");
                damaged.push(format!("the answer `{}`", path.display()));
            }
        }
        Ok(())
    }
}

/// Makes room for one more.
fn forget_oldest(memos: &Path) {
    let mut paths: Vec<(i128, PathBuf)> = fs::list(memos)
        .unwrap_or_default()
        .into_iter()
        .map(|path| (fs::stat(&path).map_or(0, |stat| stat.mtime_ns), path))
        .collect();
    paths.sort();
    for (_, path) in paths.iter().take((paths.len() + 1).saturating_sub(KEPT)) {
        let _ = fs::remove_file(path);
    }
}

/// The answer in a file that is whole, whether or not it is still right.
#[cfg(test)]
pub(super) fn answer(bytes: &[u8]) -> Option<&[u8]> {
    Memo::parse(bytes).map(|memo| memo.answer)
}

/// A file that is whole.
struct Memo<'a> {
    answer: &'a [u8],
    /// Number of paths, and their bytes.
    blocks: Vec<(usize, &'a [u8])>,
}

impl<'a> Memo<'a> {
    /// None if a single bit is wrong.
    fn parse(bytes: &'a [u8]) -> Option<Memo<'a>> {
        let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
        if Digest::of(body).as_bytes() != digest {
            return None;
        }
        let mut reader = Reader(body);
        let length = usize::try_from(reader.u64()?).ok()?;
        let answer = reader.take(length)?;
        let mut left = usize::try_from(reader.u64()?).ok()?;
        let mut blocks = Vec::new();
        while left > 0 {
            let (length, count) = (reader.u32()?, reader.u32()?);
            left = left.checked_sub(count).filter(|_| count > 0)?;
            blocks.push((count, reader.take(length)?));
        }
        reader.0.is_empty().then_some(Memo { answer, blocks })
    }
}

/// What is not as it was. None if the blocks make no sense, or if it is too much.
fn changed(blocks: &[(usize, &[u8])], base: &Base) -> Option<Vec<PathBuf>> {
    // Starting threads costs more than looking at some hundred files.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(blocks.len() / 2).max(1);
    let (next, is_usable, all) = (AtomicUsize::new(0), AtomicBool::new(true), Mutex::new(Vec::new()));
    let work = || {
        while let Some((count, bytes)) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !is_usable.load(Ordering::Relaxed) {
                return;
            }
            let Some(changed) = changed_of_block(*count, bytes, base) else {
                return is_usable.store(false, Ordering::Relaxed);
            };
            if !changed.is_empty() {
                let mut all = super::lock(&all);
                all.extend(changed);
                if all.len() > MOST_CHANGED {
                    return is_usable.store(false, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut all = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.sort();
    is_usable.into_inner().then_some(all)
}

fn serialize_block(entries: &[(Vec<u8>, Sight)]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut last: &[u8] = &[];
    for (path, sight) in entries {
        let shared = path.iter().zip(last).take_while(|(a, b)| a == b).count();
        bytes.extend(u16::try_from(shared).ok()?.to_le_bytes());
        bytes.extend(u16::try_from(path.len() - shared).ok()?.to_le_bytes());
        bytes.extend_from_slice(&path[shared..]);
        match sight {
            Sight::Unsteady => return None,
            Sight::Missing => bytes.push(0),
            Sight::There { dev, ino } => {
                bytes.push(1);
                [dev, ino].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            }
            Sight::Read(stat) => {
                bytes.push(2);
                [stat.dev, stat.ino, stat.size].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
                bytes.extend(i64::try_from(stat.mtime_ns).ok()?.to_le_bytes());
                bytes.extend(i64::try_from(stat.ctime_ns).ok()?.to_le_bytes());
            }
        }
        last = path;
    }
    Some(bytes)
}

fn changed_of_block(count: usize, bytes: &[u8], base: &Base) -> Option<Vec<PathBuf>> {
    let mut changed = Vec::new();
    let mut reader = Reader(bytes);
    let mut path = Vec::new();
    for _ in 0..count {
        let (shared, rest) = (reader.u16()?, reader.u16()?);
        path.truncate(shared);
        path.extend_from_slice(reader.take(rest)?);
        let sight = match reader.take(1)? {
            [0] => Sight::Missing,
            [1] => Sight::There { dev: reader.u64()?, ino: reader.u64()? },
            [2] => {
                let (dev, ino, size) = (reader.u64()?, reader.u64()?, reader.u64()?);
                Sight::Read(Stat {
                    dev,
                    ino,
                    size,
                    mtime_ns: reader.i64()?.into(),
                    ctime_ns: reader.i64()?.into(),
                })
            }
            _ => return None,
        };
        if !base.is_still(&path, &sight) {
            changed.push(PathBuf::from(OsString::from_vec(path.clone())));
        }
    }
    reader.0.is_empty().then_some(changed)
}
