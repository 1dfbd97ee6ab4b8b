//! Hashing files, with BLAKE3 on all cores and SHA-256, if asked for, beside it.
//!
//! A mapped file that somebody truncates kills the process, so files that others may touch are read
//! in chunks: while one chunk is hashed, the next one is read. Mapping is twice as fast, and is for
//! finished files of our own job folders alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::Digest as _;

use crate::digest::Blob;
use crate::fs;

/// Large enough for BLAKE3 to use all cores, small enough to stay in a cache of the processor.
const CHUNK: usize = 2 << 20;
/// Files up to this size are not worth other threads.
const SMALL: u64 = 128 << 10;

/// Hashes an open file from where it stands to its end.
pub(crate) fn hash_file(file: &File, path: &Path, with_sha256: bool) -> fs::Result<Blob> {
    let size = fs::fstat(file, path)?.size;
    hash_reader(file, size, with_sha256).map_err(|e| fs::error("read", path, e))
}

/// Hashes an open file of our own by mapping it. Nobody may truncate it meanwhile.
pub(super) fn hash_mapped(file: &File, path: &Path, with_sha256: bool) -> fs::Result<Blob> {
    let bytes = fs::map_file(file, path)?;
    if bytes.len() as u64 <= SMALL {
        return hash_file(file, path, with_sha256);
    }
    let sha256 = || with_sha256.then(|| hex(&sha2::Sha256::digest(&bytes)));
    let blake3 = || blake3::Hasher::new().update_rayon(&bytes).finalize();
    let (sha256, b3) = rayon::join(sha256, blake3);
    Ok(Blob { b3: b3.into(), size: bytes.len() as u64, sha256 })
}

fn hash_reader(mut from: &File, expected: u64, with_sha256: bool) -> io::Result<Blob> {
    let mut b3 = blake3::Hasher::new();
    let mut sha256 = with_sha256.then(sha2::Sha256::new);
    let mut size = 0u64;
    let chunk = usize::try_from(expected + 1).unwrap_or(CHUNK).clamp(4096, CHUNK);
    let mut current = vec![0; chunk];
    let mut next = vec![0; chunk];
    let mut filled = fill(&mut from, &mut current)?;
    // A file that grows is another one: its new size tells, and its end may never come.
    while filled > 0 && size <= expected {
        size += filled as u64;
        let bytes = &current[..filled];
        let read = if expected <= SMALL {
            b3.update(bytes);
            sha256.iter_mut().for_each(|h| h.update(bytes));
            fill(&mut from, &mut next)
        } else {
            let others = || {
                rayon::join(|| fill(&mut from, &mut next), || sha256.iter_mut().for_each(|h| h.update(bytes)))
                    .0
            };
            let blake3 = || {
                b3.update_rayon(bytes);
            };
            rayon::join(blake3, others).1
        };
        filled = read?;
        std::mem::swap(&mut current, &mut next);
    }
    let sha256 = sha256.map(|h| hex(&h.finalize()));
    Ok(Blob { b3: b3.finalize().into(), size, sha256 })
}

/// Fills the buffer as far as the file goes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_hashing_at_once_at_every_border() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for size in [0, 1, 1024, SMALL as usize, SMALL as usize + 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            fs::write_atomic(&path, &bytes).unwrap();
            let blob = hash_file(&fs::open(&path).unwrap(), &path, true).unwrap();
            assert_eq!(blob.b3, crate::digest::Digest::of(&bytes), "{size} bytes");
            assert_eq!(blob.size, size as u64);
            assert_eq!(blob.sha256.as_ref().unwrap(), &hex(&sha2::Sha256::digest(&bytes)));
            assert_eq!(hash_mapped(&fs::open(&path).unwrap(), &path, true).unwrap(), blob);
        }
    }
}
