//! What the rest of the tool needs to know of a model without reading it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::subgraphs;
use super::proto::tensor_shape_proto::{self, dimension};
use super::proto::{GraphProto, TensorProto, ValueInfoProto, type_proto};
use super::read::Model;
use super::tensor;
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

impl Summary {
    /// Sums up a canonical model that was read from a file with this IR version.
    pub(super) fn of(model: &Model, ir_version: i64) -> Summary {
        let (proto, graph) = (model.proto(), model.graph());
        let mut operators = BTreeMap::new();
        let mut weight_bytes = 0;
        count(graph, &mut operators, &mut weight_bytes);
        Summary {
            ir_version,
            opsets: proto.opset_import.iter().map(|o| (o.domain().to_owned(), o.version())).collect(),
            inputs: graph.input.iter().map(tensor_of).collect(),
            outputs: graph.output.iter().map(tensor_of).collect(),
            operators,
            weight_bytes,
        }
    }
}

fn count(graph: &GraphProto, operators: &mut BTreeMap<String, u64>, weight_bytes: &mut u64) {
    *weight_bytes += graph.initializer.iter().map(tensor::data_len).sum::<u64>();
    let sparse = graph.sparse_initializer.iter().flat_map(|s| s.values.iter().chain(&s.indices));
    *weight_bytes += sparse.map(tensor::data_len).sum::<u64>();
    for node in &graph.node {
        let operator = match node.domain() {
            "" => node.op_type().to_owned(),
            domain => format!("{domain}::{}", node.op_type()),
        };
        *operators.entry(operator).or_default() += 1;
        let constants = node.attribute.iter().flat_map(|a| a.t.iter().chain(&a.tensors));
        *weight_bytes += constants.map(tensor::data_len).sum::<u64>();
        subgraphs(node).for_each(|graph| count(graph, operators, weight_bytes));
    }
}

fn tensor_of(value: &ValueInfoProto) -> Tensor {
    let of = value.r#type.as_ref();
    let (element, shape) = match of.and_then(|of| of.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => (tensor::element_name(t.elem_type()), t.shape.as_ref()),
        Some(type_proto::Value::SparseTensorType(t)) => (Some("sparse_tensor"), t.shape.as_ref()),
        Some(type_proto::Value::SequenceType(_)) => (Some("sequence"), None),
        Some(type_proto::Value::MapType(_)) => (Some("map"), None),
        Some(type_proto::Value::OptionalType(_)) => (Some("optional"), None),
        Some(type_proto::Value::OpaqueType(_)) => (Some("opaque"), None),
        None => (None, None),
    };
    let dim = |dim: &tensor_shape_proto::Dimension| match &dim.value {
        Some(dimension::Value::DimValue(value)) if *value >= 0 => Dim::Fixed(*value),
        Some(dimension::Value::DimParam(name)) => Dim::Param(name.clone()),
        // Exporters write -1 for a dynamic dimension.
        Some(dimension::Value::DimValue(_)) | None => Dim::Unknown,
    };
    Tensor {
        name: value.name().to_owned(),
        element: element.unwrap_or("undefined").to_owned(),
        dims: shape.map(|shape| shape.dim.iter().map(dim).collect()),
    }
}

/// A tensor of constants, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Name of the initializer, or of the value that a Constant node makes.
    pub name: String,
    /// Element type in ONNX's words, lower case.
    pub element: String,
    /// Dimensions.
    pub dims: Vec<i64>,
    /// Bytes of its elements.
    pub bytes: u64,
}

/// All initializers and what Constant nodes make, the largest first; subgraphs included.
#[must_use]
pub fn weights(model: &Model) -> Vec<Weight> {
    let mut found = Vec::new();
    constants(model.graph(), &mut found);
    let mut weights: Vec<Weight> = found
        .into_iter()
        .map(|(name, t)| Weight {
            name,
            element: tensor::element_name(t.data_type()).unwrap_or("undefined").to_owned(),
            dims: t.dims.clone(),
            bytes: tensor::data_len(t),
        })
        .collect();
    weights.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
    weights
}

/// Initializers and what Constant nodes make, by name; subgraphs included.
fn constants<'a>(graph: &'a GraphProto, found: &mut Vec<(String, &'a TensorProto)>) {
    found.extend(graph.initializer.iter().map(|t| (t.name().to_owned(), t)));
    for node in &graph.node {
        if node.op_type() == "Constant" && node.domain().is_empty() {
            let value = node.attribute.iter().find_map(|a| a.t.as_ref());
            found.extend(value.zip(node.output.first()).map(|(t, name)| (name.clone(), t)));
        }
        subgraphs(node).for_each(|graph| constants(graph, found));
    }
}

/// Digests of all initializers and of what Constant nodes make, sorted by name; subgraphs included.
pub(super) fn tensor_digests(graph: &GraphProto) -> Vec<TensorDigest> {
    let mut found = Vec::new();
    constants(graph, &mut found);
    let mut digests: Vec<TensorDigest> =
        found.into_iter().map(|(name, t)| TensorDigest { name, digest: tensor::digest(t) }).collect();
    digests.sort_by(|a, b| (&a.name, a.digest).cmp(&(&b.name, b.digest)));
    digests
}
