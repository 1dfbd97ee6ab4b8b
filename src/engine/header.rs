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
