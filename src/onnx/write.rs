//! The canonical bytes: a small protobuf, and the large initializers in one file beside it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use rayon::prelude::*;

use super::error::Error;
use super::proto::tensor_proto::DataLocation;
use super::proto::{StringStringEntryProto, TensorProto};
use super::read::Model;
use super::{MAX_FILE, MODEL_FILE, WEIGHTS_FILE};
use crate::diagnostic::Diagnostic;
use crate::fs;

/// Initializers of this size or more lie in the weights file. Those of subgraphs, and tensors in
/// attributes, stay inline.
const EXTERNAL_FROM: usize = 1024;

/// Initializers of this size or more begin on a page, so that they can be mapped.
const PAGE_FROM: usize = 1 << 20;

/// What is made and written at a time: it stays in the processor's cache in between.
const PIECE: usize = 256 << 10;

/// Data of an initializer that is made while it is written, so that it is never held.
pub(crate) trait Late: Send + Sync {
    /// How many bytes there are.
    fn length(&self) -> usize;

    /// Makes the bytes from this one on.
    fn make(&self, start: usize, bytes: &mut [u8]);
}

/// The initializers whose data is made late, by name; they have none of their own.
pub(crate) type LateData = BTreeMap<String, Box<dyn Late>>;

/// Where the data of an initializer comes from.
enum Data<'a> {
    Held(Bytes),
    Late(&'a dyn Late),
}

impl Data<'_> {
    fn length(&self) -> usize {
        match self {
            Data::Held(data) => data.len(),
            Data::Late(late) => late.length(),
        }
    }

    /// These bytes of it, made in `room` if need be.
    fn piece<'r>(&'r self, start: usize, room: &'r mut [u8]) -> &'r [u8] {
        match self {
            Data::Held(data) => &data[start..start + room.len()],
            Data::Late(late) => {
                late.make(start, room);
                room
            }
        }
    }
}

/// Gives initializers the data that was to be made late.
pub(crate) fn make_late(model: &mut Model, late: &LateData) {
    for tensor in model.proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if let Some(late) = late.get(tensor.name()) {
            tensor.raw_data = Some(fs::make_bytes(late.length(), |bytes| {
                bytes.par_chunks_mut(PIECE).enumerate().for_each(|(i, piece)| late.make(i * PIECE, piece));
            }));
        }
    }
}

/// Where data of this length begins at the earliest, at or after `end`.
fn aligned(end: u64, len: usize) -> u64 {
    end.next_multiple_of(if len >= PAGE_FROM { 4096 } else { 64 })
}

/// Writes a canonical model into a folder that holds none. Was a weights file needed?
pub(super) fn write(mut model: Model, late: &LateData, folder: &Path) -> Result<bool, Error> {
    let weights = take_weights(&mut model, late);
    check_size(&model)?;
    if !weights.is_empty() {
        write_weights(&folder.join(WEIGHTS_FILE), &weights)?;
    }
    write_graph(&model, folder)?;
    Ok(!weights.is_empty())
}

/// As [`write`], without the weights file: what would lie in it, and where.
pub(super) fn write_graph_alone(mut model: Model, folder: &Path) -> Result<Vec<(u64, Bytes)>, Error> {
    let late = LateData::new();
    let weights = take_weights(&mut model, &late);
    check_size(&model)?;
    write_graph(&model, folder)?;
    let held = |(offset, data)| match data {
        Data::Held(data) => Some((offset, data)),
        Data::Late(_) => None,
    };
    Ok(weights.into_iter().filter_map(held).collect())
}

/// The data of the large initializers, which goes to the weights file.
pub(super) fn weights(model: &Model) -> impl Iterator<Item = &Bytes> {
    let data = model.graph().initializer.iter().filter_map(|tensor| tensor.raw_data.as_ref());
    data.filter(|data| is_large(data))
}

fn is_large(data: &Bytes) -> bool {
    data.len() >= EXTERNAL_FROM
}

/// Takes the large initializers out of a model, and gives each its place in the weights file.
fn take_weights<'a>(model: &mut Model, late: &'a LateData) -> Vec<(u64, Data<'a>)> {
    let mut weights = Vec::new();
    let mut end = 0;
    for tensor in model.proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let data = match late.get(tensor.name()) {
            Some(late) => Some(Data::Late(late.as_ref())),
            None => tensor.raw_data.take_if(|data| is_large(data)).map(Data::Held),
        };
        if let Some(data) = data {
            let offset = aligned(end, data.length());
            end = offset + data.length() as u64;
            point_to(tensor, offset, data.length());
            weights.push((offset, data));
        }
    }
    weights
}

fn check_size(model: &Model) -> Result<(), Error> {
    let size = model.proto.encoded_len() as u64;
    if size > MAX_FILE {
        let message = format!("the canonical model takes {size} bytes; a protobuf file has at most 2 GiB");
        let error = Diagnostic::error("too-large", message).in_file(&model.path);
        return Err(error.note("constants of nodes and subgraphs are stored inside it").into());
    }
    Ok(())
}

fn write_graph(model: &Model, folder: &Path) -> Result<(), fs::Error> {
    let path = folder.join(MODEL_FILE);
    let mut file = fs::create_new(&path)?;
    file.write_all(&model.proto.encode_to_vec()).map_err(|e| fs::error("write", &path, e))
}

fn point_to(tensor: &mut TensorProto, offset: u64, length: usize) {
    let entry =
        |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", WEIGHTS_FILE.to_owned()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
}

/// Writes the weights piece after piece, several at a time: while one is copied, the next is made. Gaps are zeros.
fn write_weights(path: &Path, weights: &[(u64, Data<'_>)]) -> Result<(), fs::Error> {
    let file = fs::create_new(path)?;
    let pieces = weights.iter().flat_map(|(offset, data)| {
        let starts = (0..data.length()).step_by(PIECE);
        starts.map(move |start| (*offset, data, start, PIECE.min(data.length() - start)))
    });
    // In their order, so that the file grows as one that is written by one.
    let write = |room: &mut Vec<u8>, (offset, data, start, length): (u64, &Data<'_>, usize, usize)| {
        file.write_all_at(data.piece(start, &mut room[..length]), offset + start as u64)
    };
    let written = pieces.par_bridge().try_for_each_init(|| vec![0; PIECE], write);
    written.map_err(|e| fs::error("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_data_begins_on_a_page() {
        assert_eq!(aligned(0, 1024), 0);
        assert_eq!(aligned(1025, 1024), 1088);
        assert_eq!(aligned(1025, 1 << 20), 4096);
        assert_eq!(aligned(4096, 1 << 20), 4096);
    }
}
