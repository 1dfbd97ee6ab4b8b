//! A source declaration to a file at hand.
//!
//! A path is looked at where it lies. A file of a pip package or at a URL is fetched once into the
//! cache, by the user's own programs (pip or uv, curl or Python) with the user's own environment,
//! so that indexes, mirrors and proxies are the ones that work there; what is cached needs neither
//! network nor Python. Credentials are taken out of all that those programs say. Knows nothing of
//! what is in the files.

mod command;
mod error;
mod kept;
mod package;
pub mod pip;
mod redact;
#[cfg(test)]
mod tests;
mod url;
mod wheel;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use redact::redact_url;

use crate::cache::Cache;
use crate::diagnostic::nearest;
use crate::fs::{self, Kind};
use crate::manifest::Source;

/// A source that is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The file. External data lies beside it as it did at the source.
    pub path: PathBuf,
    /// What was fetched for it, for the lock file; empty for a path.
    pub pins: Vec<Pin>,
}

/// A file that was fetched, and its digest in the words of the world outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Name of the wheel, or of the downloaded file.
    pub file_name: String,
    /// SHA-256, 64 lower-case hex digits.
    pub sha256: String,
}

/// May the network be used?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Yes.
    Allow,
    /// No: what is not cached is [`Error::NeedsNetwork`].
    Deny,
}

/// How sources are fetched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// May the network be used?
    pub network: Network,
    /// The whole environment of pip, uv and curl: the user's.
    pub env: Vec<(String, String)>,
    /// Longest time for one fetch.
    pub timeout: Duration,
}

/// Finds the file of a source, fetching it if it must be and may be. `pins` is what the lock file
/// says: SHA-256 by name of wheel; a wheel that is not named there is not held against anything.
pub fn locate(
    source: &Source,
    cache: &Cache,
    pins: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Located, Error> {
    match source {
        Source::Path { path } => locate_path(path),
        Source::Package { name, version, file } => {
            package::Wanted { name, version, file }.locate(cache, pins, settings)
        }
        Source::Url { url, sha256 } => url::locate(url, sha256, cache, settings),
    }
}

fn locate_path(path: &Path) -> Result<Located, Error> {
    if fs::is_file(path) {
        return Ok(Located { path: path.to_owned(), pins: Vec::new() });
    }
    if fs::exists(path) {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    // None: nothing is there. A link: it leads nowhere. Anything else: we may not look at it.
    let dangling = match fs::look(path)? {
        None => false,
        Some((Kind::Symlink, _)) => true,
        Some(_) => {
            fs::stat(path)?;
            false
        }
    };
    let folder = path.parent().unwrap_or(path);
    let word = path.file_name().unwrap_or_default().to_string_lossy();
    let names: Vec<String> = fs::list(folder)
        .unwrap_or_default()
        .iter()
        .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| *name != word)
        .collect();
    let nearest = nearest(&word, names.iter().map(String::as_str)).map(str::to_owned);
    Err(Error::Missing { path: path.to_owned(), folder_exists: fs::is_dir(folder), dangling, nearest })
}
