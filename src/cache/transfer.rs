//! Results and their blobs in one tar, to be taken to another cache.
//!
//! The entries are regular files with these names, in this order: `enginewright-cache` (the number of the cache's
//! format), `results/<action>/<key>.json` for each result, `cas/<digest>` for each blob that they name. Names of any
//! other kind, links, folders and extensions of the format are refused: what is read is what this module writes.
//! Nothing is believed: a result must be sealed and be that of its key, a blob must have the digest that it is named
//! by and the size that a result said before.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use sha2::Digest as _;
use tar::{Archive, Builder, EntryType, Header};

use super::error::{Error, Result};
use super::layout::FORMAT;
use super::record::{LONGEST, unseal_record};
use super::seal::seal;
use super::{Cache, Record};
use crate::digest::{Blob, Digest, hex};
use crate::fs;

/// Name of the first entry.
const HEAD: &str = "enginewright-cache";
/// Most bytes of results in one file.
const MOST_RESULTS: u64 = 1 << 30;

/// What went from one cache into another.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Results.
    pub results: usize,
    /// Of these, new in this cache.
    pub new_results: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// For what the results were made, as far as they say so.
    pub names: Vec<String>,
}

impl Cache {
    /// Writes these results, with all their blobs, as a tar. The same results give the same bytes.
    ///
    /// # Errors
    /// A blob is not there or not sound any more, or the file cannot be written.
    pub fn export(&self, results: &[(String, Record)], out: impl Write, to: &Path) -> Result<Transferred> {
        let mut done = Transferred::default();
        let mut blobs: BTreeMap<Digest, &Blob> = BTreeMap::new();
        let mut tar = Builder::new(out);
        let failed = |e: std::io::Error| Error::from(fs::error("write", to, e));
        append(&mut tar, HEAD, format!("{FORMAT}\n").as_bytes()).map_err(failed)?;
        for (action, record) in results {
            append(&mut tar, &format!("results/{action}/{}.json", record.key), &seal(record))
                .map_err(failed)?;
            blobs.extend(record.outputs.values().map(|blob| (blob.b3, blob)));
            done.count(record);
        }
        for blob in blobs.into_values() {
            // Hashed whole, whatever is known of it: it will be believed elsewhere.
            let path = self.check(blob)?.then(|| self.find(blob)).transpose()?.flatten();
            let Some(path) = path else { return Err(Error::LostBlob { blob: blob.b3 }) };
            let file = fs::open(&path)?;
            let mut header = header(blob.size);
            let name = format!("cas/{}", blob.b3);
            tar.append_data(&mut header, name, file.take(blob.size)).map_err(failed)?;
            done.blobs += 1;
            done.bytes += blob.size;
        }
        tar.into_inner().and_then(|mut out| out.flush()).map_err(failed)?;
        Ok(done)
    }

    /// Takes over what [`Cache::export`] wrote. What is sound before the place where the file is not stays in the
    /// store; results are recorded only if the whole file is sound.
    ///
    /// # Errors
    /// The file is damaged or is something else, or the cache cannot be written.
    pub fn import(&self, from: impl Read, path: &Path) -> Result<Transferred> {
        self.require_writable()?;
        let bad = |what: String| Error::BadExport { path: path.to_owned(), what };
        let io = |e: std::io::Error| match e.raw_os_error() {
            Some(_) => bad(format!("it cannot be read: {e}")),
            // What the reader of tars says of it quotes its bytes.
            None => bad("it ends too early or is no tar".to_owned()),
        };
        let mut archive = Archive::new(from);
        let mut incoming = Incoming::default();
        // Raw: long names and other extensions are entries of their own, which are refused.
        for entry in archive.entries().map_err(io)?.raw(true) {
            let mut entry = entry.map_err(io)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if entry.header().entry_type() != EntryType::Regular {
                return Err(bad(format!("`{}` is not a regular file", shown(&name))));
            }
            let size = entry.size();
            match incoming.place(&name, size).map_err(bad)? {
                Place::Head => {
                    let mut text = String::new();
                    entry.by_ref().take(32).read_to_string(&mut text).map_err(io)?;
                    let number = text
                        .trim_end()
                        .parse::<u64>()
                        .map_err(|_| bad("its format is not a number".to_owned()))?;
                    if number != FORMAT {
                        return Err(bad(format!("it has format {number}, this program knows {FORMAT}")));
                    }
                    incoming.begun = true;
                }
                Place::Result { action, key } => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).map_err(io)?;
                    let record =
                        unseal_record(&bytes, &key).map_err(|why| bad(format!("`{name}`: {why}")))?;
                    incoming.take(action, record).map_err(|why| bad(format!("`{name}`: {why}")))?;
                }
                Place::Blob(blob) => {
                    if let Some(what) = self.take_in(&mut entry, &blob)? {
                        return Err(bad(format!("`{name}` {what}")));
                    }
                    incoming.missing.remove(&blob.b3);
                    incoming.done.blobs += 1;
                    incoming.done.bytes += blob.size;
                }
            }
        }
        let Incoming { begun, results, missing, mut done, .. } = incoming;
        if !begun {
            return Err(bad("it is empty".to_owned()));
        }
        if let Some(blob) = missing.keys().next() {
            return Err(bad(format!("blob `{blob}` is not in it")));
        }
        for (action, record) in results {
            let is_new = self.result(&action, &record.key)?.is_none();
            self.put_result(&action, &record)?;
            done.new_results += usize::from(is_new);
        }
        Ok(done)
    }

    /// Takes what is read into the store; or says what is wrong with it.
    fn take_in(&self, from: &mut impl Read, blob: &Blob) -> Result<Option<String>> {
        let scratch = self.scratch()?;
        let path = scratch.fresh();
        let taken = self.copy_in(from, blob, &path);
        if matches!(taken, Ok(None)) {
            self.adopt(&path, false)?;
        }
        fs::remove_file(&path)?;
        taken
    }

    fn copy_in(&self, from: &mut impl Read, blob: &Blob, to: &Path) -> Result<Option<String>> {
        let mut file = fs::create_new(to)?;
        let (mut b3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
        let mut chunk = vec![0; 1 << 20];
        let mut left = blob.size;
        while left > 0 {
            let n = match from.read(&mut chunk) {
                Ok(0) => return Ok(Some("ends too early".to_owned())),
                Ok(n) => n,
                Err(e) => return Ok(Some(format!("ends too early: {e}"))),
            };
            left = left.saturating_sub(n as u64);
            b3.update(&chunk[..n]);
            if blob.sha256.is_some() {
                sha256.update(&chunk[..n]);
            }
            file.write_all(&chunk[..n]).map_err(|e| fs::error("write", to, e))?;
        }
        let found: Digest = b3.finalize().into();
        if found != blob.b3 {
            return Ok(Some(format!("has the digest `{found}`")));
        }
        let found = hex(&sha256.finalize());
        let is_told = blob.sha256.as_ref().is_none_or(|told| *told == found);
        Ok((!is_told).then(|| format!("has the SHA-256 `{found}`, its result says another one")))
    }
}

impl Transferred {
    fn count(&mut self, record: &Record) {
        self.results += 1;
        if let Some(name) = record.info.get("engine").and_then(|e| e.as_str())
            && !self.names.iter().any(|n| n == name)
        {
            self.names.push(name.to_owned());
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Incoming {
    begun: bool,
    results: Vec<(String, Record)>,
    result_bytes: u64,
    /// Blobs that results name and that did not come yet.
    missing: BTreeMap<Digest, Blob>,
    /// All blobs that results name.
    named: BTreeMap<Digest, Blob>,
    done: Transferred,
}

/// What an entry is.
enum Place {
    Head,
    Result { action: String, key: Digest },
    Blob(Blob),
}

impl Incoming {
    /// What an entry of this name and size is; or what is wrong with it.
    fn place(&mut self, name: &str, size: u64) -> std::result::Result<Place, String> {
        if name == HEAD && !self.begun {
            return Ok(Place::Head);
        }
        if !self.begun {
            return Err(format!("its first entry is `{}`, not `{HEAD}`", shown(name)));
        }
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            ["results", action, file] if is_action(action) => {
                let key = file.strip_suffix(".json").and_then(|key| key.parse().ok());
                let key = key.ok_or_else(|| format!("`{}` names no result", shown(name)))?;
                self.result_bytes = self.result_bytes.saturating_add(size);
                if size > LONGEST || self.result_bytes > MOST_RESULTS {
                    return Err(format!("`{name}` is too large to be a result"));
                }
                Ok(Place::Result { action: (*action).to_owned(), key })
            }
            ["cas", digest] => {
                let digest: Digest =
                    digest.parse().map_err(|_| format!("`{}` names no blob", shown(name)))?;
                match self.missing.get(&digest) {
                    Some(blob) if blob.size == size => Ok(Place::Blob(blob.clone())),
                    Some(blob) => Err(format!("`{name}` has {size} bytes, its result says {}", blob.size)),
                    None => Err(format!("no result before it names `{name}`, or it comes twice")),
                }
            }
            _ => Err(format!("`{}` is nothing that a cache holds", shown(name))),
        }
    }

    /// A result that says the same of its blobs as those before it; else what is wrong with it.
    fn take(&mut self, action: String, record: Record) -> std::result::Result<(), String> {
        for blob in record.outputs.values() {
            let known = self.named.entry(blob.b3).or_insert_with(|| blob.clone());
            let is_other = |sha256: &String| blob.sha256.as_ref().is_some_and(|told| told != sha256);
            if known.size != blob.size || known.sha256.as_ref().is_some_and(is_other) {
                return Err(format!("its results say different things of the blob `{}`", blob.b3));
            }
            if known.sha256.is_none() {
                known.sha256.clone_from(&blob.sha256);
            }
            self.missing.insert(blob.b3, known.clone());
        }
        self.done.count(&record);
        self.results.push((action, record));
        Ok(())
    }
}

/// As results' folders are named.
fn is_action(action: &str) -> bool {
    !action.is_empty() && action.len() <= 64 && action.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// A name out of a file that somebody else wrote, to be shown.
fn shown(name: &str) -> String {
    name.chars().take(100).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(tar: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes)
}
