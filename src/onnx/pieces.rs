//! Digests of bytes that lie in pieces: of a weights file that is not written, and of what it leaves of another file.
//!
//! The pieces are slices of mapped files. They are read from a file that is open, which is faster than looking at the
//! mapping for the first time.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::external::Mapped;
use crate::digest::{Blob, Digest};
use crate::fs::{self, ReadAt};

/// The file that would hold these pieces, each at its place. They are sorted and do not overlap; gaps are zeros.
///
/// # Errors
/// A file cannot be read, or is shorter than it was.
pub(super) fn digest_file(pieces: &[(u64, Bytes)], files: &[Mapped]) -> Result<Blob, fs::Error> {
    digest(Pieces::of(pieces.iter().map(|(start, bytes)| (*start, bytes.as_ref())).collect(), files))
}

/// Digest of those bytes of the file, put together, that are in none of these slices of it. Slices of something else
/// are passed over.
///
/// # Errors
/// It cannot be read, or is shorter than it was.
pub(super) fn digest_rest<'a>(
    file: &Mapped,
    slices: impl Iterator<Item = &'a Bytes>,
) -> Result<Digest, fs::Error> {
    let mut used: Vec<Range<usize>> = slices.filter_map(|slice| file.range(slice)).collect();
    used.sort_unstable_by_key(|range| range.start);
    let (mut pieces, mut length, mut end) = (Vec::new(), 0, 0);
    let all = file.bytes.len();
    for range in used.into_iter().chain(std::iter::once(all..all)) {
        if range.start > end {
            pieces.push((length, &file.bytes[end..range.start]));
            length += (range.start - end) as u64;
        }
        end = end.max(range.end);
    }
    digest(Pieces::of(pieces, std::slice::from_ref(file))).map(|blob| blob.b3)
}

fn digest(pieces: Pieces<'_>) -> Result<Blob, fs::Error> {
    let blob = fs::hash_at(&pieces, pieces.length(), false);
    // Only reading a file fails, and that names the file.
    blob.map_err(|e| e.downcast().unwrap_or_else(|e| fs::error("read", Path::new("external data"), e)))
}

/// Bytes that are read as if they lay in one file.
struct Pieces<'a> {
    /// Where each begins. Invariant: sorted, none overlaps another, none is empty.
    pieces: Vec<(u64, &'a [u8])>,
    /// What they are slices of, if it can be read.
    files: &'a [Mapped],
}

impl<'a> Pieces<'a> {
    fn of(mut pieces: Vec<(u64, &'a [u8])>, files: &'a [Mapped]) -> Pieces<'a> {
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        Pieces { pieces, files }
    }

    fn length(&self) -> u64 {
        self.pieces.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }

    /// Copies a slice of a mapped file, or of memory.
    fn copy(&self, slice: &[u8], to: &mut [u8]) -> io::Result<()> {
        for file in self.files {
            if let (Some(range), Some(open)) = (file.range(slice), &file.file) {
                let read = match open.read_at(range.start as u64, to) {
                    Ok(all) if all == to.len() => return Ok(()),
                    Ok(_) => io::ErrorKind::UnexpectedEof.into(),
                    Err(e) => e,
                };
                return Err(io::Error::other(fs::error("read", &file.path, read)));
            }
        }
        to.copy_from_slice(slice);
        Ok(())
    }
}

impl ReadAt for Pieces<'_> {
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let within = |offset: u64| usize::try_from(offset).expect("it is within a slice");
        let length = within(self.length().saturating_sub(start).min(buffer.len() as u64));
        let (buffer, mut filled) = (&mut buffer[..length], 0);
        let first = self.pieces.partition_point(|(at, bytes)| at + bytes.len() as u64 <= start);
        for (at, bytes) in &self.pieces[first..] {
            let from = within(at.saturating_sub(start)).min(length);
            buffer[filled..from].fill(0);
            if from == length {
                break;
            }
            let bytes = &bytes[within(start.saturating_sub(*at))..];
            filled = length.min(from + bytes.len());
            self.copy(&bytes[..filled - from], &mut buffer[from..filled])?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: usize) -> (tempfile::TempDir, Mapped) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write_atomic(&path, &(0..length).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>()).unwrap();
        (folder, Mapped::open(&path).unwrap())
    }

    #[test]
    fn pieces_with_gaps_are_digested_as_if_they_were_written() {
        let (_folder, source) = file(9_000_077);
        let memory = Bytes::from(vec![7; 5_000]);
        let cut = |from: usize, to: usize| source.bytes.slice(from..to);
        // Out of order, across the borders of what is read at a time, with small and large gaps, one of memory, an empty one.
        let pieces = [
            (0, cut(7, 8)),
            (64, cut(0, 3_131_072)),
            (3_135_168, memory),
            (3_200_000, cut(9, 9)),
            (12_000_000, cut(3_000_000, 9_000_077)),
        ];
        let mut written = Vec::new();
        for (start, piece) in &pieces {
            written.resize((*start as usize).max(written.len()), 0);
            written.extend_from_slice(piece);
        }
        let blob = digest_file(&pieces, std::slice::from_ref(&source)).unwrap();
        assert_eq!((blob.b3, blob.size), (Digest::of(&written), written.len() as u64));
        assert_eq!(digest_file(&pieces, &[]).unwrap(), blob);
        assert_eq!(digest_file(&[], &[]).unwrap().b3, Digest::of(b""));
    }

    #[test]
    fn the_rest_is_what_no_slice_holds() {
        let ((_one, file), (_two, other)) = (file(1000), file(1000));
        let rest = |slices: &[Bytes]| digest_rest(&file, slices.iter()).unwrap();
        assert_eq!(rest(&[]), Digest::of(&file.bytes));
        assert_eq!(rest(std::slice::from_ref(&other.bytes)), Digest::of(&file.bytes));
        assert_eq!(rest(std::slice::from_ref(&file.bytes)), Digest::of(b""));
        // Out of order, one in another, two that overlap, and an empty one.
        let ranges = [600..900, 10..100, 20..30, 90..200, 5..5];
        let expected = [&file.bytes[..10], &file.bytes[200..600], &file.bytes[900..]].concat();
        assert_eq!(rest(&ranges.map(|range| file.bytes.slice(range))), Digest::of(&expected));
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let (folder, mapped) = file(1_300_000);
        let pieces = [(0, mapped.bytes.clone())];
        std::fs::File::options().write(true).open(folder.path().join("f")).unwrap().set_len(100).unwrap();
        let (_other, other) = file(10);
        let error = digest_file(&pieces, &[other, mapped]).unwrap_err();
        assert_eq!(error.path, folder.path().join("f"));
    }
}
