//! Sealed JSON: a small file that tells whether it is whole.
//!
//! `{"checksum":"<BLAKE3 of the content's bytes>",` newline `"content":…}` newline: plain JSON for every
//! other reader, while this one checks the very bytes before it believes any of them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;

const HEAD: &str = "{\"checksum\":\"";
const MIDDLE: &str = "\",\n\"content\":";
const TAIL: &str = "}\n";

/// The sealed text of a value.
///
/// # Panics
/// When the value cannot be JSON (a map whose keys are no strings): a bug.
pub(crate) fn seal(value: &impl Serialize) -> Vec<u8> {
    let content = serde_json::to_string(value).expect("values of the cache are JSON");
    format!("{HEAD}{}{MIDDLE}{content}{TAIL}", Digest::of(content.as_bytes())).into_bytes()
}

/// The value in a sealed text; none if a bit of it is wrong.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let rest = bytes.strip_prefix(HEAD.as_bytes())?;
    let (digest, rest) = rest.split_at_checked(64)?;
    let content = rest.strip_prefix(MIDDLE.as_bytes())?.strip_suffix(TAIL.as_bytes())?;
    if std::str::from_utf8(digest).ok()?.parse::<Digest>().ok()? != Digest::of(content) {
        return None;
    }
    serde_json::from_slice(content).ok()
}
