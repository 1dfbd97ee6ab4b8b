//! The canonical bytes: a small protobuf, and the large initializers in one file beside it.

use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use prost::Message;

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

/// Where data of this length begins at the earliest, at or after `end`.
fn aligned(end: u64, len: usize) -> u64 {
    end.next_multiple_of(if len >= PAGE_FROM { 4096 } else { 64 })
}

/// Writes a canonical model into a folder that holds none. Was a weights file needed?
pub(super) fn write(mut model: Model, folder: &Path) -> Result<bool, Error> {
    let mut weights: Vec<(u64, Bytes)> = Vec::new();
    let mut end = 0;
    for tensor in model.proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if let Some(data) = tensor.raw_data.take_if(|data| data.len() >= EXTERNAL_FROM) {
            let offset = aligned(end, data.len());
            end = offset + data.len() as u64;
            point_to(tensor, offset, data.len());
            weights.push((offset, data));
        }
    }
    let size = model.proto.encoded_len() as u64;
    if size > MAX_FILE {
        let message = format!("the canonical model takes {size} bytes; a protobuf file has at most 2 GiB");
        let error = Diagnostic::error("too-large", message).in_file(&model.path);
        return Err(error.note("constants of nodes and subgraphs are stored inside it").into());
    }
    if !weights.is_empty() {
        write_weights(&folder.join(WEIGHTS_FILE), &weights)?;
    }
    let path = folder.join(MODEL_FILE);
    let mut file = fs::create_new(&path)?;
    file.write_all(&model.proto.encode_to_vec()).map_err(|e| fs::error("write", &path, e))?;
    Ok(!weights.is_empty())
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

/// Streams the weights; the gaps are zeros.
fn write_weights(path: &Path, weights: &[(u64, Bytes)]) -> Result<(), fs::Error> {
    let mut writer = BufWriter::with_capacity(1 << 20, fs::create_new(path)?);
    let mut end = 0u64;
    let mut all = || {
        for (offset, data) in weights {
            let gap = usize::try_from(offset - end).unwrap_or(0);
            writer.write_all(&[0; 4096][..gap])?;
            writer.write_all(data)?;
            end = offset + data.len() as u64;
        }
        writer.flush()
    };
    all().map_err(|e| fs::error("write", path, e))
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
