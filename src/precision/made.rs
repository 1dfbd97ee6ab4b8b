//! Nodes and attributes that the rewrite makes.

use super::float::FloatType;
use super::weights::largest;
use crate::onnx::make;
use crate::onnx::proto::type_proto::Value;
use crate::onnx::proto::{NodeProto, TensorProto, ValueInfoProto};

/// A Cast.
pub(super) fn cast_node(name: &str, from: &str, to: &str, of: FloatType) -> NodeProto {
    cast_to(name, from, to, of.element() as i32)
}

/// A Cast to any type.
pub(super) fn cast_to(name: &str, from: &str, to: &str, element: i32) -> NodeProto {
    let mut node = make::node(name, "Cast", &[from], &[to]);
    set_element(&mut node, element);
    node
}

/// Changes what a Cast gives.
pub(super) fn set_type(cast: &mut NodeProto, of: FloatType) {
    set_element(cast, of.element() as i32);
}

fn set_element(cast: &mut NodeProto, element: i32) {
    cast.attribute.retain(|a| a.name() != "to");
    cast.attribute.push(make::int("to", i64::from(element)));
}

/// What ConstantOfShape is filled with if nothing is said.
pub(super) fn zero_of_shape() -> TensorProto {
    TensorProto {
        data_type: Some(FloatType::Fp32.element() as i32),
        dims: vec![1],
        raw_data: Some(vec![0; 4].into()),
        ..TensorProto::default()
    }
}

/// The lowest number of a type, in FP32.
pub(super) fn lowest_of(of: FloatType) -> TensorProto {
    scalar(-largest(of))
}

/// A number in FP32.
pub(super) fn scalar(value: f32) -> TensorProto {
    TensorProto {
        data_type: Some(FloatType::Fp32.element() as i32),
        raw_data: Some(value.to_le_bytes().to_vec().into()),
        ..TensorProto::default()
    }
}

/// The value of a Constant node, whatever attribute it is in.
pub(super) fn constant_tensor(node: &NodeProto) -> Option<TensorProto> {
    let float = FloatType::Fp32.element() as i32;
    let of = |dims: Vec<i64>, values: &[f32]| TensorProto {
        data_type: Some(float),
        dims,
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..TensorProto::default()
    };
    node.attribute.iter().find_map(|a| match a.name() {
        "value" => a.t.clone(),
        "value_float" => Some(of(Vec::new(), &[a.f()])),
        "value_floats" => Some(of(vec![i64::try_from(a.floats.len()).ok()?], &a.floats)),
        "value_int" => Some(TensorProto { dims: Vec::new(), ..make::int_vector(&[a.i()]) }),
        "value_ints" => Some(make::int_vector(&a.ints)),
        _ => None,
    })
}

/// Declares an input or output as a tensor of this type.
pub(super) fn declare(value: &mut ValueInfoProto, element: i32) {
    match value.r#type.as_mut().and_then(|of| of.value.as_mut()) {
        Some(Value::TensorType(tensor)) => tensor.elem_type = Some(element),
        Some(Value::SparseTensorType(tensor)) => tensor.elem_type = Some(element),
        _ => {}
    }
}
