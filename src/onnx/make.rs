//! New nodes, attributes and tensors, for rewrites.

use bytes::Bytes;

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_proto::DataType;
use super::proto::{AttributeProto, NodeProto, TensorProto};

/// A node of the default domain.
pub(crate) fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        name: Some(name.to_owned()),
        op_type: Some(op.to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(of as i32), ..AttributeProto::default() }
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// An attribute of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// A float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// An attribute of floats.
pub(crate) fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

/// A text attribute.
pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from(value.to_owned())), ..attribute(name, AttributeType::String) }
}

/// A tensor attribute.
pub(crate) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

/// A graph attribute.
pub(crate) fn graph(name: &str, value: super::proto::GraphProto) -> AttributeProto {
    AttributeProto { g: Some(value), ..attribute(name, AttributeType::Graph) }
}

/// A tensor with its data as they are.
pub(crate) fn raw_tensor(element: DataType, dims: &[i64], data: Bytes) -> TensorProto {
    TensorProto {
        data_type: Some(element as i32),
        dims: dims.to_vec(),
        raw_data: Some(data),
        ..TensorProto::default()
    }
}

/// A vector of INT64.
pub(crate) fn int_vector(values: &[i64]) -> TensorProto {
    let dims = [i64::try_from(values.len()).unwrap_or(i64::MAX)];
    raw_tensor(DataType::Int64, &dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A number in the bytes of a float type, rounded to it; none for other types.
pub(crate) fn float_bytes(element: DataType, value: f64) -> Option<Vec<u8>> {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
    let single = value as f32;
    Some(match element {
        DataType::Float => single.to_le_bytes().to_vec(),
        DataType::Double => value.to_le_bytes().to_vec(),
        DataType::Float16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
        DataType::Bfloat16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
        _ => return None,
    })
}
