//! ONNX models for tests, made in code. Test support: no part of the product's interface.

pub mod transformer;

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::make;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::fs;

/// A dimension of an input or output: `4.into()`, `"batch".into()`; the empty name is an unknown one.
#[derive(Clone, Debug)]
pub enum TestDim {
    /// Known.
    Fixed(i64),
    /// Named.
    Param(&'static str),
}

impl From<i64> for TestDim {
    fn from(value: i64) -> TestDim {
        TestDim::Fixed(value)
    }
}

impl From<&'static str> for TestDim {
    fn from(name: &'static str) -> TestDim {
        TestDim::Param(name)
    }
}

/// An input or output.
#[must_use]
pub fn value(name: &str, element: DataType, dims: &[TestDim]) -> ValueInfoProto {
    let dim = |dim: &TestDim| Dimension {
        denotation: None,
        value: match dim {
            TestDim::Fixed(value) => Some(dimension::Value::DimValue(*value)),
            TestDim::Param("") => None,
            TestDim::Param(name) => Some(dimension::Value::DimParam((*name).to_owned())),
        },
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element as i32), shape: Some(shape) };
    let of = TypeProto { denotation: None, value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(of), ..ValueInfoProto::default() }
}

/// A FP32 tensor with its data in `raw_data`.
#[must_use]
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    raw(name, DataType::Float, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// An INT64 tensor with its data in `raw_data`.
#[must_use]
pub fn ints(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    raw(name, DataType::Int64, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A tensor of any type.
#[must_use]
pub fn raw(name: &str, element: DataType, dims: &[i64], data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(element as i32),
        dims: dims.to_vec(),
        raw_data: Some(Bytes::from(data)),
        ..TensorProto::default()
    }
}

/// A FP32 weight with values of about one over the root of its rows: not constant, small, always the same.
#[must_use]
pub fn weight(name: &str, dims: &[i64]) -> TensorProto {
    let count = usize::try_from(dims.iter().product::<i64>()).unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let scale = 1.0 / (dims.first().copied().unwrap_or(1).max(1) as f32).sqrt();
    let mut state = 0x9e37_79b9_u32;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((state >> 16) as i16) / 32768.0 * scale
        })
        .collect();
    floats(name, dims, &values)
}

/// A node, named as given.
#[must_use]
pub fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    make::node(name, op, inputs, outputs)
}

/// Attributes, to be chained on a node.
pub trait WithAttribute: Sized {
    /// Adds a whole attribute.
    #[must_use]
    fn with(self, attribute: AttributeProto) -> Self;

    /// Adds a number.
    #[must_use]
    fn int(self, name: &str, value: i64) -> Self {
        self.with(make::int(name, value))
    }

    /// Adds numbers.
    #[must_use]
    fn ints(self, name: &str, values: &[i64]) -> Self {
        self.with(make::ints(name, values))
    }

    /// Adds a float.
    #[must_use]
    fn float(self, name: &str, value: f32) -> Self {
        self.with(make::float(name, value))
    }

    /// Adds a tensor.
    #[must_use]
    fn tensor(self, name: &str, value: TensorProto) -> Self {
        self.with(make::tensor(name, value))
    }

    /// Adds a subgraph.
    #[must_use]
    fn graph(self, name: &str, value: GraphProto) -> Self {
        self.with(make::graph(name, value))
    }
}

impl WithAttribute for NodeProto {
    fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }
}

/// A model of one graph, as an exporter would leave it: with producer, names and doc strings.
#[must_use]
pub fn model(opset: i64, graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        producer_name: Some("enginewright-tests".to_owned()),
        graph: Some(GraphProto { name: Some("exported".to_owned()), ..graph }),
        ..ModelProto::default()
    }
}

/// `MatMul -> Add -> Relu -> MatMul -> Add`, `float[batch, 16] -> float[batch, 4]`, with 32 hidden values. Its
/// first weight (2 KiB) is large enough to lie in a weights file.
#[must_use]
pub fn mlp() -> ModelProto {
    wide_mlp(16, 32, 4)
}

/// [`mlp`] with other sizes.
#[must_use]
pub fn wide_mlp(inputs: i64, hidden: i64, outputs: i64) -> ModelProto {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &["batch".into(), inputs.into()])],
        output: vec![value("y", DataType::Float, &["batch".into(), outputs.into()])],
        initializer: vec![
            weight("w1", &[inputs, hidden]),
            weight("b1", &[hidden]),
            weight("w2", &[hidden, outputs]),
            weight("b2", &[outputs]),
        ],
        node: vec![
            node("/fc1/MatMul", "MatMul", &["x", "w1"], &["h1"]),
            node("/fc1/Add", "Add", &["h1", "b1"], &["h2"]),
            node("/act/Relu", "Relu", &["h2"], &["h3"]),
            node("/fc2/MatMul", "MatMul", &["h3", "w2"], &["h4"]),
            node("/fc2/Add", "Add", &["h4", "b2"], &["y"]),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

/// `Conv -> Relu -> GlobalAveragePool`, `float[N, 3, H, W] -> float[N, 8, 1, 1]`.
#[must_use]
pub fn conv() -> ModelProto {
    let image = ["N".into(), 3.into(), "H".into(), "W".into()];
    let graph = GraphProto {
        input: vec![value("image", DataType::Float, &image)],
        output: vec![value("features", DataType::Float, &["N".into(), 8.into(), 1.into(), 1.into()])],
        initializer: vec![weight("conv.weight", &[8, 3, 3, 3]), weight("conv.bias", &[8])],
        node: vec![
            node("/Conv", "Conv", &["image", "conv.weight", "conv.bias"], &["c"])
                .ints("strides", &[1, 1])
                .ints("pads", &[1, 1, 1, 1])
                .ints("kernel_shape", &[3, 3]),
            node("/Relu", "Relu", &["c"], &["r"]),
            node("/Pool", "GlobalAveragePool", &["r"], &["features"]),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

/// An `If` on an input; both branches read a value and an initializer of the graph around them.
#[must_use]
pub fn branches() -> ModelProto {
    let branch = |op: &str, out: &str| GraphProto {
        name: Some(format!("{op} branch")),
        output: vec![value(out, DataType::Float, &["n".into()])],
        node: vec![node(&format!("/{op}"), op, &["scaled", "offset"], &[out])],
        ..GraphProto::default()
    };
    let graph = GraphProto {
        input: vec![value("flag", DataType::Bool, &[]), value("x", DataType::Float, &["n".into()])],
        output: vec![value("y", DataType::Float, &["n".into()])],
        initializer: vec![floats("factor", &[1], &[2.0]), floats("offset", &[1], &[3.0])],
        node: vec![
            node("/Mul", "Mul", &["x", "factor"], &["scaled"]),
            node("/If", "If", &["flag"], &["y"])
                .graph("then_branch", branch("Add", "added"))
                .graph("else_branch", branch("Sub", "subtracted")),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

/// Writes a model.
///
/// # Errors
/// The file cannot be written.
pub fn save(model: &ModelProto, path: &Path) -> fs::Result<()> {
    fs::write_atomic(path, &model.encode_to_vec())
}

/// Writes a model with the data of all its initializers in one other file beside it, `location`.
///
/// # Errors
/// The files cannot be written.
pub fn save_external(model: &ModelProto, path: &Path, location: &str) -> fs::Result<()> {
    let mut model = model.clone();
    let mut data = Vec::new();
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let Some(raw) = tensor.raw_data.take() else { continue };
        let length = raw.len();
        external(
            tensor,
            &[("location", location), ("offset", &data.len().to_string()), ("length", &length.to_string())],
        );
        data.extend_from_slice(&raw);
    }
    fs::write_atomic(&path.with_file_name(location), &data)?;
    save(&model, path)
}

/// Makes a tensor external, with these entries.
pub fn external(tensor: &mut TensorProto, entries: &[(&str, &str)]) {
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External as i32);
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).to_owned()),
        value: Some((*value).to_owned()),
    };
    tensor.external_data = entries.iter().map(entry).collect();
}
