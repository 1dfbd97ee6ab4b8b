//! Several digests over the same bytes in one walk: of a file as it lies on the disk, and of another order of its
//! bytes, which is never written.
//!
//! BLAKE3 is a tree over blocks, and each block is hashed on its own, whatever its turn. So the blocks of all streams
//! are hashed in the order in which they lie in memory: what one digest has brought into the processor's cache, the
//! next finds there, and all cores take part.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;

use crate::digest::Digest;

/// What is hashed at a time. A power of two of BLAKE3's chunks, so that every block is a subtree.
const BLOCK: u64 = 128 << 10;

/// Bytes that are hashed as if they lay in one file.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    /// How many bytes there are.
    length: u64,
    /// Where each piece begins. Invariant: sorted, none overlaps another, none is empty. Gaps are zeros.
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Stream<'a> {
    /// These bytes, from the first one on.
    pub(super) fn of(bytes: &'a [u8]) -> Stream<'a> {
        Stream::of_pieces(vec![(0, bytes)])
    }

    /// These pieces, which are sorted and do not overlap; it ends with the last one.
    pub(super) fn of_pieces(mut pieces: Vec<(u64, &'a [u8])>) -> Stream<'a> {
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        let length = pieces.last().map_or(0, |(start, bytes)| start + bytes.len() as u64);
        Stream { length, pieces }
    }

    /// How many bytes there are.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The pieces that have bytes from `start` on, before `end`.
    fn between(&self, start: u64, end: u64) -> &[(u64, &'a [u8])] {
        let first = self.pieces.partition_point(|(at, bytes)| at + bytes.len() as u64 <= start);
        let count = self.pieces[first..].partition_point(|(at, _)| *at < end);
        &self.pieces[first..first + count]
    }

    /// The bytes of a block, put together in `room` unless they lie together.
    fn block<'r>(&'r self, number: u64, room: &'r mut Vec<u8>) -> &'r [u8] {
        let (start, end) = (number * BLOCK, self.length.min((number + 1) * BLOCK));
        let within = |offset: u64| usize::try_from(offset).expect("a piece lies in memory");
        let pieces = self.between(start, end);
        if let [(at, bytes)] = pieces
            && *at <= start
            && end <= at + bytes.len() as u64
        {
            return &bytes[within(start - at)..within(end - at)];
        }
        room.clear();
        room.resize(within(end - start), 0);
        for (at, bytes) in pieces {
            let (from, to) = (start.max(*at), end.min(at + bytes.len() as u64));
            room[within(from - start)..within(to - start)]
                .copy_from_slice(&bytes[within(from - at)..within(to - at)]);
        }
        room
    }

    /// Where the bytes of a block lie in memory.
    fn address(&self, number: u64) -> usize {
        let start = number * BLOCK;
        self.between(start, self.length).first().map_or(0, |(at, bytes)| {
            bytes.as_ptr().addr() + usize::try_from(start.saturating_sub(*at)).unwrap_or(0)
        })
    }

    fn blocks(&self) -> u64 {
        self.length.div_ceil(BLOCK)
    }
}

/// The digest of each stream.
pub(super) fn digests(streams: &[Stream<'_>]) -> Vec<Digest> {
    let large = streams.iter().enumerate().filter(|(_, stream)| stream.blocks() > 1);
    let mut jobs: Vec<(usize, usize, u64)> = large
        .flat_map(|(i, stream)| (0..stream.blocks()).map(move |number| (stream.address(number), i, number)))
        .collect();
    jobs.sort_unstable();
    let hash = |room: &mut Vec<u8>, &(_, i, number): &(usize, usize, u64)| {
        let bytes = streams[i].block(number, room);
        Hasher::new().set_input_offset(number * BLOCK).update(bytes).finalize_non_root()
    };
    let hashed: Vec<ChainingValue> = jobs.par_iter().map_init(Vec::new, hash).collect();

    let mut values: Vec<Vec<(u64, ChainingValue)>> = vec![Vec::new(); streams.len()];
    for ((_, i, number), value) in jobs.into_iter().zip(hashed) {
        values[i].push((number, value));
    }
    let digest = |(stream, mut values): (&Stream<'_>, Vec<(u64, ChainingValue)>)| {
        if stream.blocks() <= 1 {
            return Digest::of(stream.block(0, &mut Vec::new()));
        }
        values.sort_unstable_by_key(|(number, _)| *number);
        let values: Vec<ChainingValue> = values.into_iter().map(|(_, value)| value).collect();
        let (left, right) = halves(&values, stream.length);
        merge_subtrees_root(&left, &right, Mode::Hash).into()
    };
    streams.iter().zip(values).map(digest).collect()
}

/// The values of the two halves of a tree over more than one block.
fn halves(values: &[ChainingValue], length: u64) -> (ChainingValue, ChainingValue) {
    let left = left_subtree_len(length);
    let (first, rest) = values.split_at(usize::try_from(left / BLOCK).expect("blocks are counted in memory"));
    (subtree(first, left), subtree(rest, length - left))
}

fn subtree(values: &[ChainingValue], length: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = halves(values, length);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: u64) -> Vec<u8> {
        (0..length).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn agrees_with_hashing_at_once_at_every_border() {
        let block = BLOCK;
        for length in [0, 1, 1024, block - 1, block, block + 1, 2 * block, 3 * block + 1025, 5 * block - 7] {
            let bytes = bytes(length);
            assert_eq!(digests(&[Stream::of(&bytes)]), [Digest::of(&bytes)], "{length} bytes");
        }
    }

    #[test]
    fn pieces_in_another_order_with_gaps_are_hashed_as_if_they_were_written() {
        let source = bytes(9 * BLOCK + 77);
        let cut = |from: u64, to: u64| &source[from as usize..to as usize];
        // Out of order, across the borders of blocks, with a gap in a block, one over several, and an empty piece.
        let pieces = vec![
            (0, cut(5 * BLOCK + 3, 7 * BLOCK)),
            (2 * BLOCK, cut(100, 101)),
            (2 * BLOCK + 64, cut(0, 100)),
            (2 * BLOCK + 200, cut(7, 7)),
            (5 * BLOCK + 4096, cut(BLOCK, 4 * BLOCK + 1)),
        ];
        let mut written = Vec::new();
        for (start, piece) in &pieces {
            written.resize((*start as usize).max(written.len()), 0);
            written.extend_from_slice(piece);
        }
        let stream = Stream::of_pieces(pieces);
        assert_eq!(stream.length(), written.len() as u64);
        assert_eq!(
            digests(&[Stream::of(&source), stream, Stream::of(&source[..9])]),
            [Digest::of(&source), Digest::of(&written), Digest::of(&source[..9])]
        );
    }
}
