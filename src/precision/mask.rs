//! Masks that are kept FP32 where they are made, and overflow where they are used: followed from the constant
//! to the node that reads them in FP16.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::made::constant_tensor;
use super::problem::Problem;
use super::signature::Role;
use super::view::View;
use crate::onnx::proto::TensorProto;

/// Operators that pass a mask on.
const CARRIERS: [&str; 15] = [
    "Add",
    "Sub",
    "Mul",
    "Where",
    "Expand",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Transpose",
    "Identity",
    "Slice",
    "Concat",
    "Tile",
    "Gather",
    "ConstantOfShape",
];

/// Operators to which minus infinity is as good as any large negative number.
const BOUNDS: [&str; 5] = ["Clip", "Max", "Relu", "Sigmoid", "Tanh"];

/// Largest number of elements of a constant that is looked at.
const MAX_ELEMENTS: usize = 4096;

/// Masks that are minus infinity to a node that reads them in FP16.
pub(super) fn crossing(view: &View<'_>, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let mut masks: BTreeMap<&str, f32> = BTreeMap::new();
    for tensor in &view.model.graph().initializer {
        masks.extend(mask(tensor).map(|value| (tensor.name(), value)));
    }
    // What carries a mask, by value: the constant, and its value.
    let mut carried: BTreeMap<&str, (&str, f32)> = BTreeMap::new();
    let mut narrow: BTreeMap<&str, (f32, BTreeSet<usize>)> = BTreeMap::new();
    for id in view.top.iter().copied() {
        let node = &view.nodes[id];
        let first = node.proto.output.first().map_or("", String::as_str);
        if node.signature.role == Role::Constant {
            masks.extend(constant_tensor(node.proto).as_ref().and_then(mask).map(|value| (first, value)));
            continue;
        }
        let op = node.proto.op_type();
        let arriving = node.proto.input.iter().find_map(|name| carried.get(name.as_str()).copied());
        let of = nodes[id].of;
        if let (Some((name, value)), Some(FloatType::Fp16), false) = (arriving, of, BOUNDS.contains(&op)) {
            narrow.entry(name).or_insert_with(|| (value, BTreeSet::new())).1.insert(id);
        }
        // What is stored in FP16 is told when it is stored.
        let made = || {
            let read = node.proto.input.iter().find_map(|name| masks.get_key_value(name.as_str()));
            let fill = node.proto.attribute.iter().find_map(|a| a.t.as_ref()).and_then(mask);
            let fill = fill.filter(|_| op == "ConstantOfShape").map(|value| (first, value));
            read.map(|(name, value)| (*name, *value)).or(fill).filter(|_| of == Some(FloatType::Fp32))
        };
        let passes = node.signature.role == Role::Transparent || CARRIERS.contains(&op);
        if let Some(mask) = arriving.or_else(made).filter(|_| passes) {
            carried.extend(node.proto.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), mask)));
        }
    }
    let problem = |(name, (value, ids)): (&str, (f32, BTreeSet<usize>))| {
        let names: Vec<&str> = ids.iter().map(|id| view.nodes[*id].name.as_str()).collect();
        let first = ids.first().map(|id| &view.nodes[*id]);
        let (node, op) = first.map_or(("", ""), |n| (n.name.as_str(), n.proto.op_type()));
        Problem::hazard(
            "mask-overflow-fp16",
            format!("the mask `{name}` of {value} reaches `{node}` in fp16"),
        )
        .at_node(node, op)
        .note("it would become minus infinity there, and a row of these NaN in a Softmax")
        .paste(&format!("the mask `{name}` stays fp32"), names)
    };
    narrow.into_iter().map(problem).collect()
}

/// The value of a constant that is the same negative number throughout, beyond FP16's range.
fn mask(tensor: &TensorProto) -> Option<f32> {
    let raw = tensor.raw_data.as_ref().filter(|raw| raw.len() <= 4 * MAX_ELEMENTS)?;
    if tensor.data_type() != FloatType::Fp32.element() as i32 {
        return None;
    }
    let mut values = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let first = values.next().filter(|value| value.is_finite() && *value < -65504.0)?;
    values.all(|value| value == first).then_some(first)
}
