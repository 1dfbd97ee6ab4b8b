//! Fetched files in the cache: folders that appear whole, each with a sealed list of what is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::{Network, Pin, Settings};
use crate::cache::{Cache, JobDir};
use crate::digest::{Blob, Digest};
use crate::fs::{self, Kind};

/// The sealed list. No fetched file has this name: it would be refused with the wheel.
pub(super) const LIST: &str = ".enginewright.json";
/// Longest list that is read.
const LONGEST: u64 = 64 << 20;

/// What a folder of fetched files holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What was fetched.
    pub(super) pins: Vec<Pin>,
    /// Its files, by path relative to the folder.
    pub(super) files: BTreeMap<String, Blob>,
}

/// The content of a folder, if it is there and sound. A damaged one is quarantined and is none.
pub(super) fn read(cache: &Cache, folder: &Path) -> Result<Option<Kept>, Error> {
    match fs::look(folder)? {
        None => return Ok(None),
        Some((Kind::Folder, _)) => {}
        Some(_) => {
            cache.quarantine(folder, "it is not a folder");
            return Ok(None);
        }
    }
    let list = fs::read_prefix(&folder.join(LIST), LONGEST).ok();
    let Some(kept) = list.and_then(|bytes| crate::cache::seal::unseal::<Kept>(&bytes)) else {
        cache.quarantine(folder, "its list of files is missing or damaged");
        return Ok(None);
    };
    for (name, blob) in &kept.files {
        let path = folder.join(name);
        // Not through a link: a fetched folder holds files alone.
        let is_file = matches!(fs::look(&path)?, Some((Kind::File, _)));
        if !is_file || cache.file_digest(&path)?.0 != *blob {
            cache.quarantine(folder, &format!("`{name}` is not what was fetched"));
            return Ok(None);
        }
    }
    Ok(Some(kept))
}

/// The content of a folder, fetched by `fetch` if it is not there: into an empty folder of a job,
/// by one process at a time.
pub(super) fn get_or_fetch(
    cache: &Cache,
    folder: &Path,
    what: &str,
    settings: &Settings,
    fetch: impl FnOnce(&JobDir, &Path) -> Result<Vec<Pin>, Error>,
) -> Result<Kept, Error> {
    if let Some(kept) = read(cache, folder)? {
        return Ok(kept);
    }
    if settings.network == Network::Deny {
        return Err(Error::NeedsNetwork { what: what.to_owned() });
    }
    let key = Digest::of(folder.strip_prefix(cache.root()).unwrap_or(folder).as_os_str().as_encoded_bytes());
    let _one_at_a_time = cache.lock_action("fetch", &key, &mut |_| ())?;
    // Whoever we waited for may have fetched it.
    if let Some(kept) = read(cache, folder)? {
        return Ok(kept);
    }
    let job = cache.job_dir()?;
    let tree = job.path().join("tree");
    fs::create_dir(&tree)?;
    let pins = fetch(&job, &tree)?;
    publish(cache, &tree, folder, pins)
}

fn publish(cache: &Cache, tree: &Path, folder: &Path, pins: Vec<Pin>) -> Result<Kept, Error> {
    let mut files = BTreeMap::new();
    for path in files_below(tree)? {
        fs::set_mode(&path, 0o444)?;
        fs::sync_file(&path)?;
        let name = path.strip_prefix(tree).unwrap_or(&path).to_string_lossy().into_owned();
        files.insert(name, cache.file_digest(&path)?.0);
    }
    let kept = Kept { pins, files };
    fs::write_atomic(&tree.join(LIST), &crate::cache::seal::seal(&kept))?;
    if !cache.publish_folder(tree, folder)? {
        // What lies there is damaged, and could not be moved away.
        let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(fs::error("rename to", folder, there).into());
    }
    // So that the first use after this does not read all of it again.
    for (name, blob) in &kept.files {
        let path = folder.join(name);
        cache.remember_digest(&path, &fs::stat(&path)?, blob);
    }
    Ok(kept)
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in fs::list(folder)? {
        match fs::look(&path)? {
            Some((Kind::Folder, _)) => files.extend(files_below(&path)?),
            _ => files.push(path),
        }
    }
    Ok(files)
}
