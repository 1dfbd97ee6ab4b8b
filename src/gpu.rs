//! NVIDIA GPUs by name, and their compute capabilities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A compute capability, written `sm_86`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sm(pub u32);

impl fmt::Display for Sm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.0)
    }
}

/// The text is not of the form `sm_86`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a compute capability: the form is `sm_86`")]
pub struct ParseSmError(String);

impl FromStr for Sm {
    type Err = ParseSmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSmError(text.chars().take(80).collect());
        let digits = text.strip_prefix("sm_").ok_or_else(bad)?;
        let plain = matches!(digits.len(), 2 | 3) && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain || digits.starts_with('0') {
            return Err(bad());
        }
        digits.parse().map(Sm).map_err(|_| bad())
    }
}

impl Serialize for Sm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
