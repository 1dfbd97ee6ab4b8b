//! What a measurement found: kept in the cache as JSON, and judged as often as tolerances change.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::gpu::LocalGpu;

/// What a measurement found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Names of the samples.
    pub samples: Vec<String>,
    /// Were the inputs made up?
    pub is_generated: bool,
    /// Metrics by output, in the model's order.
    pub outputs: Vec<OutputMetrics>,
    /// Where the oracle is kinder than a GPU.
    pub optimistic: Vec<Optimistic>,
    /// How many nodes round to 16 bits.
    pub rounding: u64,
}

/// What a run of the engine itself found.
#[derive(Debug, Clone, PartialEq)]
pub struct OnGpu {
    /// The GPU that it ran on.
    pub gpu: LocalGpu,
    /// Its outputs beside the reference's.
    pub measured: Measured,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputMetrics {
    /// Its name.
    pub output: String,
    /// Does it hold floats? Else integers or booleans.
    pub is_float: bool,
    /// By sample, in order.
    pub samples: Vec<SampleMetrics>,
}

/// One output of one sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SampleMetrics {
    /// Why nothing can be compared: the shapes differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// How many elements were compared: not those that are ignored, and of floats those that are finite in both.
    pub compared: u64,
    /// How many were not, though nobody asked for that: NaN or Inf on either side.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Number>,
    /// NaN that the reference does not have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nan: u64,
    /// Inf that the reference does not have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inf: u64,
    /// The reference's greatest value less its least.
    pub range: Number,
    /// Rows by the margin of the reference's first over its second: what agreement is counted from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_1: Vec<Bucket>,
    /// Rows by the margin of the reference's fifth over its sixth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_k: Vec<Bucket>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Rows whose margin is at most `margin`, and more than the bucket before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper end, a power of the fourth root of 2.
    pub margin: Number,
    /// How many rows.
    pub rows: u64,
    /// How many of them differ.
    pub differ: u64,
}

/// An operator at which the oracle is kinder than a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimistic {
    /// The operator.
    pub op: String,
    /// The type of its results.
    pub of: String,
    /// Why.
    pub reason: String,
    /// How many nodes.
    pub nodes: u64,
    /// The first of them.
    pub first: String,
}

/// A number that may be infinite: JSON has none, so that it is text then.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(&self.0.to_string())
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(Number(number)),
            Form::Text(text) => text.parse().map(Number).map_err(serde::de::Error::custom),
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.0;
        if n == 0.0 || !n.is_finite() {
            write!(f, "{n}")
        } else if (1e-3..1e6).contains(&n.abs()) {
            // Six digits are enough to tell a cosine from 1.
            let text = format!("{n:.6}");
            f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
        } else {
            write!(f, "{n:.3e}")
        }
    }
}
