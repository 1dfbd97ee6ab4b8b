//! When results were last used: `used`, beside the stat index, so that no clock of a file system decides what is
//! collected.
//!
//! `used` is 8 bytes of magic, the BLAKE3 of the rest, and entries, sorted: an action key (32 bytes) and the time in
//! seconds since 1970 (u64, little-endian). A result that is not in it was not used since it was made. Times are a day
//! apart at least: a run that uses what the last one used writes nothing.

use std::collections::BTreeMap;

use super::error::Result;
use super::reader::Reader;
use super::{Cache, lock, now_ns};
use crate::digest::Digest;
use crate::fs;

/// Name and version of the format.
const MAGIC: &[u8; 8] = b"ewused1\n";
/// Longest file that is read.
const LONGEST: u64 = 1 << 30;
const DAY_NS: i128 = 24 * 60 * 60 * 1_000_000_000;

pub(super) type Times = BTreeMap<Digest, u64>;

#[derive(Debug, Default)]
pub(super) struct Uses {
    /// As the file says; read on first use.
    known: Option<Times>,
    /// What is to be written.
    new: Times,
}

impl Cache {
    /// A result is used, whose file is from this time.
    pub(super) fn uses(&self, key: &Digest, made_ns: i128) {
        let now = now_ns();
        if !self.is_writable() || now - made_ns < DAY_NS {
            return;
        }
        let mut uses = lock(&self.inner.uses);
        let known = uses.known.get_or_insert_with(|| self.read_uses().unwrap_or_default());
        if known.get(key).is_none_or(|last| now - i128::from(*last) * 1_000_000_000 >= DAY_NS) {
            let seconds = u64::try_from(now / 1_000_000_000).unwrap_or(0);
            known.insert(*key, seconds);
            uses.new.insert(*key, seconds);
        }
    }

    /// When results were last used, in ns since 1970. What is damaged is not known.
    pub(super) fn last_uses(&self) -> BTreeMap<Digest, i128> {
        let times = self.read_uses().unwrap_or_default();
        times.into_iter().map(|(key, seconds)| (key, i128::from(seconds) * 1_000_000_000)).collect()
    }

    /// Is the file whole, or not there?
    pub(super) fn are_uses_sound(&self) -> bool {
        self.read_uses().is_some()
    }

    pub(super) fn has_new_uses(&self) -> bool {
        !lock(&self.inner.uses).new.is_empty()
    }

    /// Writes what was used, together with what others wrote meanwhile. The caller is the only writer.
    pub(super) fn write_uses(&self) -> Result<()> {
        let mut uses = lock(&self.inner.uses);
        if uses.new.is_empty() {
            return Ok(());
        }
        let mut times = self.read_uses().unwrap_or_default();
        times.append(&mut uses.new.clone());
        self.publish_uses(&times)?;
        uses.new.clear();
        Ok(())
    }

    /// Forgets the results that are gone.
    pub(super) fn forget_uses(&self, is_there: impl Fn(&Digest) -> bool) -> Result<()> {
        let times = self.read_uses();
        let mut kept = times.clone().unwrap_or_default();
        kept.retain(|key, _| is_there(key));
        if times.as_ref() == Some(&kept) { Ok(()) } else { self.publish_uses(&kept) }
    }

    pub(super) fn publish_uses(&self, times: &Times) -> Result<()> {
        let entry =
            |(key, seconds): (&Digest, &u64)| [key.as_bytes().as_slice(), &seconds.to_le_bytes()].concat();
        let body: Vec<u8> = times.iter().flat_map(entry).collect();
        let bytes = [MAGIC.as_slice(), Digest::of(&body).as_bytes(), &body].concat();
        self.scratch()?.publish(&bytes, &self.folder("used"), 0o644)
    }

    /// None if it is damaged.
    fn read_uses(&self) -> Option<Times> {
        match fs::read_prefix(&self.folder("used"), LONGEST) {
            Ok(bytes) => parse(&bytes),
            Err(e) if e.is_missing() => Some(Times::new()),
            Err(_) => None,
        }
    }
}

/// None if a single bit is wrong.
pub(super) fn parse(bytes: &[u8]) -> Option<Times> {
    let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let mut reader = Reader(body);
    let mut times = Times::new();
    while !reader.0.is_empty() {
        let key: [u8; 32] = reader.take(32)?.try_into().ok()?;
        times.insert(blake3::Hash::from_bytes(key).into(), reader.u64()?);
    }
    Some(times)
}
