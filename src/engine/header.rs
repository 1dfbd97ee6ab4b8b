//! The first bytes of an engine file: whose it is, for which GPUs, and where its parts lie.

use serde::{Deserialize, Serialize};

/// What an engine file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose plan it is.
    pub kind: PlanKind,
    /// The version that built it: `1.7.1.116`.
    pub version: String,
    /// The compute capabilities it was built for: 86 is sm_86. Only plans of TensorRT-RTX tell.
    pub sms: Vec<u32>,
    /// How long the file says that it is, in bytes.
    pub size: Option<u64>,
    /// Bytes of weights.
    pub weights: Option<u64>,
}

/// Whose plan an engine file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    /// TensorRT-RTX.
    TensorrtRtx,
    /// The full TensorRT.
    Tensorrt,
}

/// Bits of the mask of compute capabilities.
const SMS: [(u32, u32); 6] = [(0x1, 75), (0x2, 80), (0x4, 86), (0x8, 89), (0x10, 120), (0x20, 121)];

impl Header {
    /// Reads the header; none if these are not the first bytes of an engine.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Header> {
        match bytes.get(..4)? {
            b"vtrt" => {
                let [major, minor, patch, build]: [u8; 4] = bytes.get(0x18..0x1c)?.try_into().ok()?;
                let mask = u32_at(bytes, 0x20)?;
                Some(Header {
                    kind: PlanKind::TensorrtRtx,
                    version: format!("{major}.{minor}.{patch}.{build}"),
                    sms: SMS.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, sm)| sm).collect(),
                    size: u64_at(bytes, 0x10),
                    weights: u64_at(bytes, 0x38),
                })
            }
            b"ftrt" => {
                let [major, minor, patch, build]: [u8; 4] = bytes.get(24..28)?.try_into().ok()?;
                Some(Header {
                    kind: PlanKind::Tensorrt,
                    version: format!("{major}.{minor}.{patch}.{build}"),
                    sms: Vec::new(),
                    size: None,
                    weights: None,
                })
            }
            _ => None,
        }
    }
}

/// The most bytes that may stand before a plan.
const MAX_PREFIX: usize = 16 << 20;

/// A plan inside a file, and the JSON that some tools put before it, with or without its length in 4 bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where the plan begins.
    pub start: usize,
    /// What stands before it.
    pub metadata: Option<serde_json::Value>,
}

/// Finds the plan in a file; none if it is no engine.
#[must_use]
pub fn find(bytes: &[u8]) -> Option<Found> {
    let is_plan = |at: usize| {
        bytes.get(at..at.checked_add(4)?).is_some_and(|m| m == b"vtrt" || m == b"ftrt").then_some(at)
    };
    if let Some(start) = is_plan(0) {
        return Some(Found { start, metadata: None });
    }
    let json = |from: usize, to: usize| serde_json::from_slice(bytes.get(from..to)?).ok();
    if bytes.first() == Some(&b'{') {
        let prefix = &bytes[..bytes.len().min(MAX_PREFIX)];
        let mut values = serde_json::Deserializer::from_slice(prefix).into_iter::<serde_json::Value>();
        let metadata = values.next()?.ok();
        let end = values.byte_offset();
        let gap = prefix[end..].iter().take_while(|b| b.is_ascii_whitespace() || **b == 0).count();
        return is_plan(end + gap).map(|start| Found { start, metadata });
    }
    let length = usize::try_from(u32_at(bytes, 0)?).ok().filter(|n| *n <= MAX_PREFIX)?;
    let start = is_plan(4 + length)?;
    Some(Found { start, metadata: Some(json(4, start)?) })
}

/// The part of a TensorRT-RTX plan that holds no weights; the whole of it, if it does not say.
pub(super) fn code(bytes: &[u8]) -> &[u8] {
    let section = || {
        if bytes.get(0x40..0x44)? != b"NGNE" {
            return None;
        }
        let start = usize::try_from(u64_at(bytes, 0x48)?).ok()?;
        let length = usize::try_from(u64_at(bytes, 0x50)?).ok()?;
        bytes.get(start..start.checked_add(length)?)
    };
    section().unwrap_or(bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_found_behind_json() {
        let json = br#"{"names": {"0": "cat"}, "imgsz": [640, 640]}"#;
        let length = u32::try_from(json.len()).unwrap().to_le_bytes();
        for (gap, file) in [
            (0, [&b""[..], b"vtrt"].concat()),
            (4 + json.len(), [&length[..], json, b"ftrt"].concat()),
            (json.len(), [&json[..], b"vtrt"].concat()),
            (json.len() + 2, [&json[..], b"\n\0", b"vtrt"].concat()),
        ] {
            let found = find(&file).expect("a plan");
            assert_eq!(found.start, gap);
            assert_eq!(found.metadata.is_some(), gap > 0);
        }
        for file in [
            &b""[..],
            b"vtr",
            b"\x04\0\0\0xxxxvtrt",
            b"{}",
            b"{vtrt",
            b"\xff\xff\xff\xffvtrt",
            b"\x08\x07\x12",
        ] {
            assert_eq!(find(file), None, "{file:?}");
        }
    }
}
