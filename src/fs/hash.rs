//! Hashing files, with BLAKE3 on all cores and SHA-256, if asked for, beside it.
//!
//! A mapped file that somebody truncates kills the process, so files are read, in parts that stay in a core's own cache
//! until they are hashed. That is also faster than a mapping, whose pages are entered into its table one by one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;
use sha2::Digest as _;

use super::{Result, error, fstat};
use crate::digest::{Blob, Digest, hex};

/// What a core reads at a time. A power of two of BLAKE3's own chunks, so that every part is a subtree.
const PART: usize = 256 << 10;
/// What is read at a time where all bytes have to come by in their order.
const CHUNK: usize = 8 * PART;
/// Up to this size, other threads are not worth it.
const SMALL: u64 = PART as u64;

/// What can be read at any place by several threads.
pub trait ReadAt: Sync {
    /// Reads from this byte on, as much as there is and the buffer holds. How much was it?
    ///
    /// # Errors
    /// It cannot be read.
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }
}

/// Hashes an open file, all of it.
pub fn hash_file(file: &File, path: &Path, with_sha256: bool) -> Result<Blob> {
    let size = fstat(file, path)?.size;
    hash_at(file, size, with_sha256).map_err(|e| error("read", path, e))
}

/// Hashes what should have `expected` bytes. The blob's size is another if it has more or fewer; of what grows,
/// not all is read, since its end may never come.
///
/// # Errors
/// It cannot be read.
pub fn hash_at(from: &impl ReadAt, expected: u64, with_sha256: bool) -> io::Result<Blob> {
    let sha256 = with_sha256.then(sha2::Sha256::new);
    if expected <= SMALL {
        return hash_small(from, expected, sha256);
    }
    // In the pool from the start: each part would wait for a thread of it to wake up.
    rayon::scope(|_| match sha256 {
        None => match hash_parts(from, expected)? {
            Some(b3) => Ok(Blob { b3, size: expected, sha256: None }),
            None => hash_in_order(from, expected, None),
        },
        sha256 => hash_in_order(from, expected, sha256),
    })
}

fn hash_small(from: &impl ReadAt, expected: u64, mut sha256: Option<sha2::Sha256>) -> io::Result<Blob> {
    let mut bytes = vec![0; usize::try_from(expected + 1).expect("it is small")];
    let filled = from.read_at(0, &mut bytes)?;
    let bytes = &bytes[..filled];
    sha256.iter_mut().for_each(|h| h.update(bytes));
    Ok(blob(Hasher::new().update(bytes), sha256))
}

/// The digest, if there are as many bytes as expected: more than a part.
fn hash_parts(from: &impl ReadAt, expected: u64) -> io::Result<Option<Digest>> {
    let hash = |room: &mut Vec<u8>, start: u64| -> io::Result<Option<ChainingValue>> {
        let length = usize::try_from((expected - start).min(PART as u64)).expect("a part is small");
        let is_whole = from.read_at(start, &mut room[..length])? == length;
        let value = || Hasher::new().set_input_offset(start).update(&room[..length]).finalize_non_root();
        Ok(is_whole.then(value))
    };
    let starts = (0..expected.div_ceil(PART as u64)).into_par_iter().map(|i| i * PART as u64);
    let values: io::Result<Option<Vec<_>>> = starts.map_init(|| vec![0; PART], hash).collect();
    let is_end = from.read_at(expected, &mut [0])? == 0;
    Ok(values?.filter(|_| is_end).map(|values| {
        let (left, right) = halves(&values, expected);
        merge_subtrees_root(&left, &right, Mode::Hash).into()
    }))
}

/// The values of the two halves of a tree over more than one part.
fn halves(values: &[ChainingValue], length: u64) -> (ChainingValue, ChainingValue) {
    let left = left_subtree_len(length);
    let (first, rest) = values.split_at(usize::try_from(left).expect("as many as values") / PART);
    (subtree(first, left), subtree(rest, length - left))
}

fn subtree(values: &[ChainingValue], length: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = halves(values, length);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// Hashes byte after byte, as SHA-256 must: while one chunk is hashed, the next one is read.
fn hash_in_order(from: &impl ReadAt, expected: u64, mut sha256: Option<sha2::Sha256>) -> io::Result<Blob> {
    let mut b3 = Hasher::new();
    let (mut current, mut next) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut filled = fill(from, 0, &mut current)?;
    while filled > 0 {
        let bytes = &current[..filled];
        let blake3_and_read = || {
            b3.update_rayon(bytes);
            let is_last = bytes.len() < CHUNK || b3.count() > expected;
            if is_last { Ok(0) } else { fill(from, b3.count(), &mut next) }
        };
        filled = rayon::join(|| sha256.iter_mut().for_each(|h| h.update(bytes)), blake3_and_read).1?;
        std::mem::swap(&mut current, &mut next);
    }
    Ok(blob(&b3, sha256))
}

/// Fills the buffer as far as there is something, each core a part.
fn fill(from: &impl ReadAt, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let parts = buffer.par_chunks_mut(PART).enumerate();
    parts.map(|(i, part)| from.read_at(start + (i * PART) as u64, part)).sum()
}

fn blob(b3: &Hasher, sha256: Option<sha2::Sha256>) -> Blob {
    let sha256 = sha256.map(|h| hex(&h.finalize()));
    Blob { b3: b3.finalize().into(), size: b3.count(), sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    /// Bytes that are more or fewer than was said.
    struct Memory(Vec<u8>);

    impl ReadAt for Memory {
        fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let rest = self.0.get(start as usize..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        }
    }

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn agrees_with_hashing_at_once_at_every_border() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let small = SMALL as usize;
        for size in
            [0, 1, 1024, small, small + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + PART + 7, 3 * CHUNK]
        {
            let bytes = bytes(size);
            fs::write_atomic(&path, &bytes).unwrap();
            let mut blob = hash_file(&fs::open(&path).unwrap(), &path, true).unwrap();
            assert_eq!(blob.b3, Digest::of(&bytes), "{size} bytes");
            assert_eq!(blob.size, size as u64);
            assert_eq!(blob.sha256.take().unwrap(), hex(&sha2::Sha256::digest(&bytes)));
            assert_eq!(hash_file(&fs::open(&path).unwrap(), &path, false).unwrap(), blob, "{size} bytes");
        }
    }

    #[test]
    fn what_has_another_size_than_was_said_has_another_size_in_its_blob() {
        for (there, said) in
            [(0, 1), (10, 9), (9, 10), (CHUNK, 2 * CHUNK), (3 * CHUNK, CHUNK), (CHUNK + 1, CHUNK)]
        {
            let blob = hash_at(&Memory(bytes(there)), said as u64, false).unwrap();
            assert_ne!(blob.size, said as u64, "{there} for {said}");
        }
    }
}
