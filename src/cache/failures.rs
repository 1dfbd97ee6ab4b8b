//! Failure bundles: what is needed to look at a failed action again. A failure is never a result.

use std::path::PathBuf;

use super::Cache;
use super::error::Result;
use super::job::into_place;
use super::runs::{make_room, time_name};
use crate::fs;

/// Bundles that are kept.
const KEPT: usize = 20;

/// A file of a failure bundle.
#[derive(Clone, Debug)]
pub enum FailureFile {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A copy of this file.
    Copy(PathBuf),
}

impl Cache {
    /// Writes a failure bundle and gives its folder, which appears whole. A file that cannot be
    /// copied is replaced by `NAME.missing`, which says why: the rest is worth having.
    pub fn put_failure(&self, name: &str, files: &[(&str, FailureFile)]) -> Result<PathBuf> {
        self.require_writable()?;
        let job = self.job_dir()?;
        let bundle = job.path().join("bundle");
        fs::create_dir(&bundle)?;
        for (file, content) in files {
            let to = bundle.join(plain(file));
            match content {
                FailureFile::Bytes(bytes) => fs::write_atomic(&to, bytes)?,
                FailureFile::Copy(from) => match fs::copy(from, &to) {
                    Ok(()) => {}
                    Err(e) if e.is_full() => return Err(e.into()),
                    Err(e) => {
                        let note = bundle.join(format!("{}.missing", plain(file)));
                        fs::write_atomic(&note, format!("{e}\n").as_bytes())?;
                    }
                },
            }
        }
        let folder = self.folder("failures");
        make_room(&folder, KEPT);
        let id = format!("{}-{}", time_name(super::now_ns()), plain(name));
        let mut to = folder.join(&id);
        let mut n = 1;
        while !into_place(&bundle, &to, fs::rename_new)? {
            n += 1;
            to = folder.join(format!("{id}-{n}"));
        }
        Ok(to)
    }
}

/// A name without a `/` or anything else that matters to a file system or a shell.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._@+-".contains(c) { c } else { '_' };
    let name: String = name.chars().take(120).map(keep).collect();
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}
