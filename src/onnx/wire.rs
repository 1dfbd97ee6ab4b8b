//! A walk over the protobuf bytes before they are decoded.
//!
//! It copies nothing and allocates nothing, so a hostile file costs no memory: it bounds the number of
//! messages (two bytes on disk can become three hundred in memory), their depth, and says where a
//! truncated file ends. After it, decoding can fail only for wrong wire types and bad UTF-8.

use super::MAX_ITEMS;

/// Messages that hold other messages. The rest are leaves, whose bytes are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    WrapperType,
    MapType,
    Shape,
    Function,
    Annotation,
    NodeDevice,
    Sharding,
    ShardedDim,
}

/// The message in field `number` of `message`, if it is one that is walked.
fn child(message: Message, number: u32) -> Option<Message> {
    use Message as M;
    Some(match (message, number) {
        (M::Model, 7) | (M::Training, 1 | 2) | (M::Attribute, 6 | 11) => M::Graph,
        (M::Model, 20) => M::Training,
        (M::Model, 25) => M::Function,
        (M::Graph, 1) | (M::Function, 7) => M::Node,
        (M::Graph, 5) | (M::Attribute, 5 | 10) | (M::Sparse, 1 | 2) => M::Tensor,
        (M::Graph, 15) | (M::Attribute, 22 | 23) => M::Sparse,
        (M::Graph, 11..=13) | (M::Function, 12) => M::ValueInfo,
        (M::Graph, 14) => M::Annotation,
        (M::Node, 5) | (M::Function, 11) => M::Attribute,
        (M::Node, 10) => M::NodeDevice,
        (M::ValueInfo, 2) | (M::Attribute, 14 | 15) | (M::WrapperType, 1) | (M::MapType, 2) => M::Type,
        (M::Type, 1 | 8) => M::TensorType,
        (M::Type, 4 | 9) => M::WrapperType,
        (M::Type, 5) => M::MapType,
        (M::TensorType, 2) => M::Shape,
        (M::NodeDevice, 2) => M::Sharding,
        (M::Sharding, 4) => M::ShardedDim,
        _ => return None,
    })
}

/// The deepest nesting that is decoded: prost's own limit.
const MAX_DEPTH: u32 = 100;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// A top-level field goes on beyond the end of the file.
    Truncated {
        /// How long the file would have to be, at least.
        needed: u64,
    },
    /// Not protobuf, at this offset.
    Malformed {
        /// Bytes from the start of the file.
        offset: u64,
    },
    /// Nested beyond [`MAX_DEPTH`].
    TooDeep,
    /// More than [`MAX_ITEMS`] fields with a length.
    TooMany,
    /// Protobuf, but not a model: the first field is not an IR version.
    NotAModel,
}

/// Checks the bytes of a model.
pub(super) fn scan(bytes: &[u8]) -> Result<(), WireError> {
    let mut scanner = Scanner { bytes, at: 0, items: 0 };
    // Every writer puts the fields in order, so the IR version comes first; without it, what looks
    // like a length may be anything and "truncated" would be a guess.
    let known = matches!(bytes, [0x08, version, ..] if (1..0x80).contains(version));
    match scanner.message(Message::Model, bytes.len(), 0) {
        Err(WireError::Truncated { .. } | WireError::Malformed { .. }) if !known => Err(WireError::NotAModel),
        result => result,
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    items: u64,
}

impl Scanner<'_> {
    fn message(&mut self, message: Message, end: usize, depth: u32) -> Result<(), WireError> {
        if depth >= MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        while self.at < end {
            let start = self.at;
            let malformed = WireError::Malformed { offset: start as u64 };
            let key = self.varint(end)?;
            let number = u32::try_from(key >> 3).map_err(|_| malformed)?;
            if number == 0 {
                return Err(malformed);
            }
            let length = match key & 7 {
                0 => {
                    self.varint(end)?;
                    continue;
                }
                1 => 8,
                2 => self.varint(end)?,
                5 => 4,
                // Groups and the unused wire types: no version of ONNX has them.
                _ => return Err(malformed),
            };
            let stop = (self.at as u64).checked_add(length).ok_or(malformed)?;
            if stop > end as u64 {
                let truncated = message == Message::Model;
                return Err(if truncated { WireError::Truncated { needed: stop } } else { malformed });
            }
            let stop = usize::try_from(stop).map_err(|_| malformed)?;
            self.items += u64::from(key & 7 == 2);
            if self.items > MAX_ITEMS {
                return Err(WireError::TooMany);
            }
            match child(message, number).filter(|_| key & 7 == 2) {
                Some(inner) => self.message(inner, stop, depth + 1)?,
                None => self.at = stop,
            }
        }
        Ok(())
    }

    fn varint(&mut self, end: usize) -> Result<u64, WireError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(byte) = self.bytes.get(self.at).filter(|_| self.at < end) else {
                let whole = end == self.bytes.len();
                let (needed, offset) = (self.at as u64 + 1, start as u64);
                return Err(if whole {
                    WireError::Truncated { needed }
                } else {
                    WireError::Malformed { offset }
                });
            };
            self.at += 1;
            if shift == 63 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed { offset: start as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_file_says_how_much_is_missing() {
        let whole = [0x08, 0x08, 0x3a, 0x04, 0x0a, 0x02, 0x22, 0x00];
        assert_eq!(scan(&whole), Ok(()));
        assert_eq!(scan(&whole[..6]), Err(WireError::Truncated { needed: 8 }));
        assert_eq!(scan(&whole[..3]), Err(WireError::Truncated { needed: 4 }));
    }

    #[test]
    fn bytes_that_are_no_model_are_not_called_truncated() {
        assert_eq!(scan(&[0x3a, 0x7f, 0x00]), Err(WireError::NotAModel));
        assert_eq!(scan(&[0xff; 20]), Err(WireError::NotAModel));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        // From the inside out: graph, attribute, node, graph, …, each level with its length.
        let mut bytes = Vec::new();
        for level in 0..150 {
            let mut outer = vec![[0x32, 0x2a, 0x0a][level % 3]];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut model);
        model.append(&mut bytes);
        assert_eq!(scan(&model), Err(WireError::TooDeep));
        let many: Vec<u8> = std::iter::repeat_n([0x72, 0x00], MAX_ITEMS as usize + 1).flatten().collect();
        assert_eq!(scan(&many), Err(WireError::TooMany));
    }
}
