//! The folders of a cache, and the version of its format.

use std::path::Path;

use super::error::{Error, Result};
use super::job;
use crate::fs;

/// Name of the folder of the current format.
pub(super) const FOLDER: &str = "v1";
/// The current format.
pub(super) const FORMAT: u64 = 1;

/// Folders made at once. `downloads`, `packages` and `toolchains` are filled by other stages.
const FOLDERS: [&str; 7] = ["cas", "results", "runs", "failures", "quarantine", "tmp", "locks"];

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder is a cache of enginewright, and can be removed at any time.\n\
    # For information about cache directory tags see https://bford.info/cachedir/\n";

/// Makes what is missing, and refuses a newer format. Tells whether the cache can be written, and
/// what there is to warn of.
pub(super) fn prepare(root: &Path, v1: &Path) -> Result<(bool, Vec<String>)> {
    let mut warnings = Vec::new();
    if fs::exists(root) && !fs::is_dir(root) {
        return Err(Error::NotAFolder { path: root.to_owned() });
    }
    let mark = v1.join("format");
    match read_format(&mark)? {
        Format::Number(FORMAT) => return Ok((fs::is_writable(v1), warnings)),
        Format::Number(found) if found > FORMAT => {
            return Err(Error::NewerFormat { path: root.to_owned(), found, known: FORMAT });
        }
        Format::Missing => refuse_newer_folder(root, v1)?,
        Format::Number(_) | Format::Garbage => {
            warnings.push(format!("`{}` was damaged and is written anew", mark.display()));
        }
    }
    match create(root, v1, &mark) {
        Ok(()) => Ok((true, warnings)),
        // A read-only place without a cache is an empty cache: everything is a miss, and an
        // attempt to write says why it fails.
        Err(Error::Denied { .. }) => Ok((false, warnings)),
        Err(e) => Err(e),
    }
}

enum Format {
    Missing,
    Garbage,
    Number(u64),
}

fn read_format(mark: &Path) -> Result<Format> {
    match fs::read_prefix(mark, 32) {
        Ok(bytes) => {
            let number = std::str::from_utf8(&bytes).ok().and_then(|t| t.strip_suffix('\n')?.parse().ok());
            Ok(number.map_or(Format::Garbage, Format::Number))
        }
        Err(e) if e.is_missing() => Ok(Format::Missing),
        Err(e) => Err(e.into()),
    }
}

/// A cache that holds only a newer format is not started anew beside it: all would be rebuilt,
/// and nobody would know why.
fn refuse_newer_folder(root: &Path, v1: &Path) -> Result<()> {
    if fs::is_dir(v1) {
        return Ok(());
    }
    let newest = fs::list(root)?
        .iter()
        .filter_map(|p| p.file_name()?.to_str()?.strip_prefix('v')?.parse::<u64>().ok())
        .max();
    match newest {
        Some(found) if found > FORMAT => {
            Err(Error::NewerFormat { path: root.to_owned(), found, known: FORMAT })
        }
        _ => Ok(()),
    }
}

fn create(root: &Path, v1: &Path, mark: &Path) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(&v1.join(folder))?;
    }
    let scratch = job::create(&v1.join("tmp"))?;
    let tag = root.join("CACHEDIR.TAG");
    if !fs::exists(&tag) {
        scratch.publish(TAG.as_bytes(), &tag, 0o644)?;
    }
    // Version control leaves the content alone wherever the cache lies.
    scratch.publish(b"*\n", &v1.join(".gitignore"), 0o644)?;
    // Last: a cache with this file has everything else.
    scratch.publish(format!("{FORMAT}\n").as_bytes(), mark, 0o644)
}
