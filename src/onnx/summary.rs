//! What the rest of the tool needs to know of a model without reading it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A model in short. Stored with the result of a fetch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// IR version of the file.
    pub ir_version: i64,
    /// Opset version by domain; the default domain is the empty string.
    pub opsets: BTreeMap<String, i64>,
    /// Inputs that a caller feeds, in order (initializers listed as inputs left out).
    pub inputs: Vec<Tensor>,
    /// Outputs in order.
    pub outputs: Vec<Tensor>,
    /// How many nodes by operator (`domain::Op` for other domains), subgraphs included.
    pub operators: BTreeMap<String, u64>,
    /// Bytes of all initializers and constants.
    pub weight_bytes: u64,
}

impl Summary {
    /// The opset of the default domain.
    #[must_use]
    pub fn opset(&self) -> Option<i64> {
        self.opsets.get("").copied()
    }
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Element type in ONNX's words, lower case: `float`, `float16`, `int64`, …
    pub element: String,
    /// Dimensions; none if the rank is not declared.
    pub dims: Option<Vec<Dim>>,
}

/// A dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Known.
    Fixed(i64),
    /// Dynamic and named. Equal names are equal dimensions to TensorRT.
    Param(String),
    /// Dynamic without a name.
    Unknown,
}

/// Digest of one initializer or constant, for the explanation of a changed model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorDigest {
    /// Name of the initializer, or of the value that a Constant node makes.
    pub name: String,
    /// Digest of element type, dims and data.
    pub digest: Digest,
}
