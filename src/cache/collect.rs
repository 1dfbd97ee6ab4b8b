//! What a cache holds, whether it is sound, and what can go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Error, Result};
use super::record::read_record;
use super::{Cache, Record, now_ns};
use crate::digest::{Blob, Digest};
use crate::fs::{self, Kind};

/// Results whose blobs are smaller than this together are not worth collecting: they are what makes a plan without
/// work fast, and cost more to make again than to keep.
const SMALL: u64 = 64 << 10;

/// What must stay, whatever its age.
#[derive(Debug, Default)]
pub struct Roots {
    /// Results: action and key.
    pub results: BTreeSet<(String, Digest)>,
    /// Blobs.
    pub blobs: BTreeSet<Digest>,
}

/// What may go.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Results that are no roots go when their last use is longer ago.
    pub max_age: Duration,
    /// Stop as soon as the store is not larger. The cheapest to make again go first.
    pub max_size: Option<u64>,
    /// Only tell.
    pub dry_run: bool,
}

/// A result that goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Garbage {
    /// The action.
    pub action: String,
    /// Its key.
    pub key: Digest,
    /// What it was made for, if it says so.
    pub name: Option<String>,
    /// Bytes of its blobs that nothing else holds.
    pub bytes: u64,
    /// How long ago it was used, or made.
    pub age: Duration,
    /// How long it took to make, in ms.
    pub duration_ms: u64,
}

/// What was collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// The results that went.
    pub results: Vec<Garbage>,
    /// How many blobs went.
    pub blobs: usize,
    /// Bytes of those blobs.
    pub bytes: u64,
    /// Bytes of the blobs that stay.
    pub kept: u64,
}

/// What was verified.
#[derive(Debug, Default)]
pub struct Verified {
    /// Results read.
    pub results: usize,
    /// Blobs there.
    pub blobs: usize,
    /// Blobs whose content was hashed.
    pub hashed: usize,
    /// Bytes of those.
    pub bytes: u64,
    /// What is damaged, and what that means. It was moved to `quarantine/`.
    pub damaged: Vec<String>,
}

/// What there is of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many.
    pub count: usize,
    /// Bytes of them.
    pub bytes: u64,
}

/// A result as it lies in the cache.
struct Stored {
    action: String,
    path: PathBuf,
    age: Duration,
    record: Record,
}

impl Cache {
    /// Removes what nothing needs: results that are no roots and old, and blobs that no result names.
    ///
    /// # Errors
    /// Another process uses the cache, or it cannot be written.
    pub fn collect(&self, roots: &Roots, policy: &Policy) -> Result<Collected> {
        self.require_writable()?;
        let _alone = self.lock_alone()?;
        let (stored, blobs) = (self.stored(&mut Vec::new())?, self.blobs()?);
        let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
        for blob in stored.iter().flat_map(|s| s.record.outputs.values()) {
            *holders.entry(blob.b3).or_default() += 1;
        }
        roots.blobs.iter().for_each(|blob| *holders.entry(*blob).or_default() += 1);
        let mut total: u64 = blobs.iter().filter(|(b3, _)| holders.contains_key(b3)).map(|(_, b)| b.1).sum();

        let goes = |s: &&Stored| {
            let held: u64 = s.record.outputs.values().map(|b| b.size).sum();
            let is_root = roots.results.contains(&(s.action.clone(), s.record.key));
            !is_root && held >= SMALL && s.age > policy.max_age
        };
        let mut candidates: Vec<&Stored> = stored.iter().filter(goes).collect();
        candidates.sort_by_key(|s| {
            let held: u64 = s.record.outputs.values().map(|b| b.size).sum();
            // Time that a megabyte costs: what is large and made quickly goes first.
            (s.record.duration_ms * (1 << 20) / held.max(1), std::cmp::Reverse(s.age), s.record.key)
        });
        let mut collected = Collected::default();
        for candidate in candidates {
            if policy.max_size.is_some_and(|limit| total <= limit) {
                break;
            }
            let mut bytes = 0;
            for blob in candidate.record.outputs.values() {
                let left = holders.get_mut(&blob.b3).map_or(0, |n| {
                    *n -= 1;
                    *n
                });
                if left == 0 {
                    bytes += blob.size;
                    holders.remove(&blob.b3);
                }
            }
            total = total.saturating_sub(bytes);
            collected.results.push(Garbage {
                action: candidate.action.clone(),
                key: candidate.record.key,
                name: candidate.record.info.get("engine").and_then(|e| e.as_str()).map(str::to_owned),
                bytes,
                age: candidate.age,
                duration_ms: candidate.record.duration_ms,
            });
            if !policy.dry_run {
                // Results first: a result without its blobs is a miss that somebody would be told of.
                fs::remove_file(&candidate.path)?;
            }
        }
        for (b3, (path, size)) in &blobs {
            if holders.contains_key(b3) {
                collected.kept += size;
                continue;
            }
            collected.blobs += 1;
            collected.bytes += size;
            if !policy.dry_run {
                fs::remove_file(path)?;
            }
        }
        Ok(collected)
    }

    /// Reads every result, and hashes every blob or, with a step of `n`, every `n`-th. What is damaged is
    /// quarantined.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn verify(&self, step: usize) -> Result<Verified> {
        let mut verified = Verified::default();
        let stored = self.stored(&mut verified.damaged)?;
        self.verify_memos(&mut verified.damaged)?;
        let blobs = self.blobs()?;
        for (name, is_sound) in [("stat", self.is_index_sound()), ("used", self.are_uses_sound())] {
            if !is_sound {
                let path = self.folder(name);
                self.quarantine(&path, "its checksum is wrong");
                verified.damaged.push(format!("the index `{}`: it is made anew", path.display()));
            }
        }
        verified.results = stored.len();
        verified.blobs = blobs.len();
        let mut bad = BTreeSet::new();
        for (b3, (path, size)) in blobs.iter().step_by(step.max(1)) {
            verified.hashed += 1;
            verified.bytes += size;
            if !self.check(&Blob { b3: *b3, size: *size, sha256: None })? {
                bad.insert(*b3);
                verified.damaged.push(format!("blob `{}`", path.display()));
            }
        }
        for s in &stored {
            let is_bad = |blob: &Blob| {
                bad.contains(&blob.b3) || blobs.get(&blob.b3).is_none_or(|(_, size)| *size != blob.size)
            };
            let Some((name, _)) = s.record.outputs.iter().find(|(_, blob)| is_bad(blob)) else { continue };
            let of = s.record.info.get("engine").and_then(|e| e.as_str()).unwrap_or("a model");
            let why = format!("its `{name}` is missing or damaged");
            let key = s.record.key.short();
            verified.damaged.push(format!("the result of {} `{key}`, of {of}: {why}", s.action));
            // Nobody can use it any more: it is told once.
            self.quarantine(&s.path, &why);
        }
        if self.is_writable() {
            self.rebuild_index(|path| {
                let name = path.file_name().and_then(|n| n.to_str()?.parse::<Digest>().ok());
                name.is_some_and(|b3| blobs.contains_key(&b3) && !bad.contains(&b3))
            })?;
            let keys: BTreeSet<Digest> = stored.iter().map(|s| s.record.key).collect();
            self.forget_uses(|key| keys.contains(key))?;
        }
        Ok(verified)
    }

    /// Bytes by kind: `build engine`, `prepare graph`, …; a blob of several results counts for the first. What
    /// else lies in the cache goes by its folder.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn usage(&self) -> Result<BTreeMap<String, Usage>> {
        let mut usage: BTreeMap<String, Usage> = BTreeMap::new();
        let mut blobs = self.blobs()?;
        let mut add = |kind: String, bytes: u64| {
            let usage = usage.entry(kind).or_default();
            usage.count += 1;
            usage.bytes += bytes;
        };
        for stored in self.stored(&mut Vec::new())? {
            for (name, blob) in &stored.record.outputs {
                if let Some((_, size)) = blobs.remove(&blob.b3) {
                    add(format!("{} {name}", stored.action), size);
                }
            }
        }
        blobs.into_values().for_each(|(_, size)| add("blobs without a result".to_owned(), size));
        for folder in ["packages", "downloads", "toolchains", "failures", "quarantine", "runs"] {
            for path in fs::list(&self.folder(folder)).unwrap_or_default() {
                add(folder.to_owned(), tree_size(&path));
            }
        }
        Ok(usage)
    }

    /// Remembers a project that uses this cache, so that what its lock file names is not collected.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn register(&self, project: &Path) -> Result<()> {
        let Some(text) = project.to_str().filter(|_| self.is_writable()) else { return Ok(()) };
        let path = self.folder("projects").join(Digest::of(text.as_bytes()).to_string());
        if fs::exists(&path) {
            return Ok(());
        }
        self.scratch()?.publish(format!("{text}\n").as_bytes(), &path, 0o644)
    }

    /// The projects that use this cache.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn projects(&self) -> Result<Vec<PathBuf>> {
        let read = |path: PathBuf| Some(PathBuf::from(fs::read_to_string(&path).ok()?.strip_suffix('\n')?));
        Ok(list(&self.folder("projects"))?.into_iter().filter_map(read).collect())
    }

    /// All results that can be read; what cannot is quarantined and named in `damaged`.
    fn stored(&self, damaged: &mut Vec<String>) -> Result<Vec<Stored>> {
        let mut stored = Vec::new();
        let (now, used) = (now_ns(), self.last_uses());
        for action in list(&self.folder("results"))? {
            let name = action.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for path in list(&action)?.iter().map(|f| list(f)).collect::<Result<Vec<_>>>()?.concat() {
                let key = path.file_stem().and_then(|s| s.to_str()?.parse::<Digest>().ok());
                let (Some(key), Some((Kind::File, stat))) = (key, fs::look(&path)?) else { continue };
                match read_record(&path, &key)? {
                    Ok(Some(record)) => {
                        let last = used.get(&key).map_or(stat.mtime_ns, |used| stat.mtime_ns.max(*used));
                        let age = u64::try_from(now - last).unwrap_or(0);
                        let age = Duration::from_nanos(age);
                        stored.push(Stored { action: name.clone(), path, age, record });
                    }
                    Ok(None) => {}
                    Err(why) => {
                        self.quarantine(&path, why);
                        damaged.push(format!("the result `{}`: {why}", path.display()));
                    }
                }
            }
        }
        Ok(stored)
    }

    /// The files of the store by their names, with their sizes.
    fn blobs(&self) -> Result<BTreeMap<Digest, (PathBuf, u64)>> {
        let mut blobs = BTreeMap::new();
        for folder in list(&self.folder("cas"))? {
            for path in list(&folder)? {
                let name = path.file_name().and_then(|n| n.to_str()?.parse::<Digest>().ok());
                if let (Some(b3), Some((_, stat))) = (name, fs::look(&path)?) {
                    blobs.insert(b3, (path, stat.size));
                }
            }
        }
        Ok(blobs)
    }
}

/// The paths in a folder; none if there is none, or if it is no folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::list(folder) {
        Err(e) if e.is_missing() => Ok(Vec::new()),
        paths => paths.map_err(Error::from),
    }
}

fn tree_size(path: &Path) -> u64 {
    match fs::look(path) {
        Ok(Some((Kind::Folder, _))) => {
            fs::list(path).unwrap_or_default().iter().map(|path| tree_size(path)).sum()
        }
        Ok(Some((_, stat))) => stat.size,
        _ => 0,
    }
}
