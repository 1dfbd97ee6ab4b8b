//! What actions gave: `results/<action>/ab/<key>.json`, sealed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Cache;
use super::error::{Error, Result};
use super::seal::{seal, unseal};
use crate::digest::{Blob, Digest, Preimage};
use crate::fs;

/// Longest result file that is read.
pub(super) const LONGEST: u64 = 256 << 20;

/// The result of one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Everything that the key is the digest of.
    pub preimage: Preimage,
    /// The action key.
    pub key: Digest,
    /// The blobs that it gave, by name.
    pub outputs: BTreeMap<String, Blob>,
    /// What the stage that did it wants to know later.
    pub info: serde_json::Value,
    /// How long it took.
    pub duration_ms: u64,
    /// Name and version of the program that did it.
    pub tool: String,
    /// When, if somebody cares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl Cache {
    /// The result of an action: only if all its blobs are there and sound. A damaged record is
    /// quarantined and warned of, and is none.
    pub fn result(&self, action: &str, key: &Digest) -> Result<Option<Record>> {
        let Some(record) = self.record(action, key)? else { return Ok(None) };
        for (name, blob) in &record.outputs {
            if self.find(blob)?.is_none() {
                self.warn(format!(
                    "the result of {action} `{}` is not used: its `{name}`, blob `{}`, is missing or damaged",
                    key.short(),
                    blob.b3.short(),
                ));
                return Ok(None);
            }
        }
        if let Ok(stat) = fs::stat(&self.result_path(action, key)) {
            self.uses(key, stat.mtime_ns);
        }
        Ok(Some(record))
    }

    /// What was recorded of an action, whether or not its blobs are still there: for explanations.
    pub fn record(&self, action: &str, key: &Digest) -> Result<Option<Record>> {
        let path = self.result_path(action, key);
        match fs::look(&path)? {
            None => Ok(None),
            Some((fs::Kind::File, stat)) if stat.size <= LONGEST => match read_record(&path, key)? {
                Ok(record) => Ok(record),
                Err(why) => {
                    self.quarantine(&path, why);
                    Ok(None)
                }
            },
            Some(_) => {
                self.quarantine(&path, "it is not a regular file of sensible size");
                Ok(None)
            }
        }
    }

    /// Stores the result of an action, after its blobs. The first complete result of a key stays:
    /// what is returned is the one that others see.
    pub fn put_result(&self, action: &str, record: &Record) -> Result<Record> {
        self.require_writable()?;
        let preimage = record.preimage.key();
        if preimage != record.key {
            return Err(Error::WrongKey { action: action.to_owned(), key: record.key, preimage });
        }
        for (output, blob) in &record.outputs {
            if self.find(blob)?.is_none() {
                let (action, output) = (action.to_owned(), output.clone());
                return Err(Error::MissingBlob { action, key: record.key, output, blob: blob.b3 });
            }
        }
        let path = self.result_path(action, &record.key);
        // One writer per key, so that "is there a whole one?" and the rename are one step.
        let _one_writer = self.lock_action("record", &record.key, &mut |_| ())?;
        if let Some(first) = self.result(action, &record.key)? {
            return Ok(first);
        }
        self.scratch()?.publish(&seal(record), &path, 0o444)?;
        Ok(record.clone())
    }

    fn result_path(&self, action: &str, key: &Digest) -> PathBuf {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(!action.is_empty() && action.bytes().all(plain), "`{action}` names a kind of action");
        let hex = key.to_string();
        self.folder("results").join(action).join(&hex[..2]).join(format!("{hex}.json"))
    }
}

/// The record in a file; none if somebody removed it meanwhile; or why it is damaged.
pub(super) fn read_record(
    path: &Path,
    key: &Digest,
) -> Result<std::result::Result<Option<Record>, &'static str>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.is_missing() => return Ok(Ok(None)),
        Err(e) if e.source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            return Ok(Err("it cannot be read"));
        }
        Err(e) => return Err(e.into()),
    };
    Ok(unseal_record(&bytes, key).map(Some))
}

/// The record in these bytes, if it is that of this key; or why it is not.
pub(super) fn unseal_record(bytes: &[u8], key: &Digest) -> std::result::Result<Record, &'static str> {
    let Some(record) = unseal::<Record>(bytes) else { return Err("its checksum is wrong") };
    if record.key != *key || record.preimage.key() != *key {
        return Err("its preimage is not that of its key");
    }
    Ok(record)
}
