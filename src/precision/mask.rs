//! Masks of large negative numbers, followed from the constant to where they are used.
//!
//! In 16 bits such a mask is minus infinity, and a row of these NaN in a Softmax. So what carries it to a Softmax is
//! FP32, and the Softmax too, unless a rule of the model itself says another type ([`keep_wide`]). A mask that ends
//! elsewhere is told: where it is stored in 16 bits it is the lowest number instead, and where it is FP32 and read in
//! FP16 it is an error ([`crossing`]).

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::assign::{Decider, NodeAssignment};
use super::float::FloatType;
use super::made::constant_tensor;
use super::pattern::Patterns;
use super::problem::Problem;
use super::signature::Role;
use super::spec::Spec;
use super::view::View;
use super::weights::largest;
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

/// Largest number of elements of a constant that is looked at: the causal mask of 2048 positions.
const MAX_ELEMENTS: usize = 1 << 22;

/// A number like this is nothing but minus infinity to whoever wrote it, if it is alone.
pub(super) const ALONE: f32 = -99_999.0;

/// The same among other numbers.
pub(super) const AMONG: f32 = -1e8;

/// The constants that are masks, by name: initializers, and what Constant and ConstantOfShape give.
fn masks<'m>(view: &View<'m>) -> BTreeMap<&'m str, f32> {
    let mut masks: BTreeMap<&str, f32> = BTreeMap::new();
    for tensor in &view.model.graph().initializer {
        masks.extend(mask(tensor).map(|value| (tensor.name(), value)));
    }
    for node in view.top.iter().map(|id| &view.nodes[*id]) {
        let Some(output) = node.proto.output.first() else { continue };
        let tensor = match (&node.signature.role, node.proto.op_type()) {
            (Role::Constant, _) => constant_tensor(node.proto),
            (_, "ConstantOfShape") => node.proto.attribute.iter().find_map(|a| a.t.clone()),
            _ => None,
        };
        masks.extend(tensor.as_ref().and_then(mask).map(|value| (output.as_str(), value)));
    }
    masks
}

/// Keeps FP32 what carries a mask to a Softmax, and the Softmax, where that would lose it.
pub(super) fn keep_wide(view: &View<'_>, patterns: &Patterns, spec: &Spec, nodes: &mut [NodeAssignment]) {
    let masks = masks(view);
    if masks.is_empty() {
        return;
    }
    let mut softmax: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for instance in patterns.instances("softmax") {
        for id in &instance.nodes {
            softmax.entry(*id).or_default().extend(&instance.nodes);
        }
    }
    // What carries which mask, by value; and the nodes that pass one on, or are the Softmax that it arrives at.
    let mut carried: BTreeMap<&str, (&str, f32)> =
        masks.iter().map(|(name, value)| (*name, (*name, *value))).collect();
    let mut passing: BTreeMap<usize, (&str, f32)> = BTreeMap::new();
    let mut arrived: BTreeMap<usize, (&str, f32)> = BTreeMap::new();
    for id in view.top.iter().copied() {
        let node = &view.nodes[id];
        let op = node.proto.op_type();
        let outputs = || node.proto.output.iter().filter(|o| !o.is_empty()).map(String::as_str);
        // To Max a constant is a bound, but a mask that arrives goes on.
        let from = |name: &&String| op != "Max" || !masks.contains_key(name.as_str());
        let arriving =
            node.proto.input.iter().filter(from).find_map(|name| carried.get(name.as_str()).copied());
        let own = outputs().next().and_then(|name| carried.get(name).copied());
        let Some(mask) = arriving.or(own) else { continue };
        if op == "Softmax" || op == "LogSoftmax" || softmax.contains_key(&id) {
            arrived.insert(id, mask);
        } else if node.signature.role == Role::Transparent || op == "Max" || CARRIERS.contains(&op) {
            passing.insert(id, mask);
            carried.extend(outputs().map(|output| (output, mask)));
        }
    }
    // Back from each Softmax. Readers come after makers, so that one walk is enough.
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut wide: BTreeMap<usize, (&str, f32)> = BTreeMap::new();
    for id in view.top.iter().rev().copied() {
        let proto = view.nodes[id].proto;
        let leads = || proto.output.iter().any(|output| wanted.contains(output.as_str()));
        let mask = match (arrived.get(&id), passing.get(&id)) {
            (Some(mask), _) => *mask,
            (None, Some(mask)) if leads() => *mask,
            _ => continue,
        };
        wanted.extend(proto.input.iter().map(String::as_str).filter(|input| carried.contains_key(input)));
        wide.insert(id, mask);
        wide.extend(softmax.get(&id).into_iter().flatten().map(|part| (*part, mask)));
    }
    for (id, (name, value)) in wide {
        let over = match nodes[id].by {
            Decider::Rule(rule) => Some(rule),
            _ => None,
        };
        let is_lost = nodes[id].of.is_some_and(|of| of != FloatType::Fp32 && value < -largest(of));
        // What a model's own rule says is meant.
        if is_lost && over.is_none_or(|rule| spec.rules[rule].set.is_some()) {
            let why = format!("the mask `{name}` of {value:e} goes through it to a Softmax");
            nodes[id].of = Some(FloatType::Fp32);
            nodes[id].by = Decider::Constraint { why, over };
        }
    }
}

/// Masks that are minus infinity to a node that reads them in FP16.
pub(super) fn crossing(view: &View<'_>, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let masks = masks(view);
    // What carries a mask, by value: the constant, and its value.
    let mut carried: BTreeMap<&str, (&str, f32)> = BTreeMap::new();
    let mut narrow: BTreeMap<&str, (f32, BTreeSet<usize>)> = BTreeMap::new();
    for id in view.top.iter().copied() {
        let node = &view.nodes[id];
        let first = node.proto.output.first().map_or("", String::as_str);
        if node.signature.role == Role::Constant {
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
            let fill = masks.get_key_value(first);
            read.or(fill).map(|(name, value)| (*name, *value)).filter(|_| of == Some(FloatType::Fp32))
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

/// The lowest value of a constant that is a mask: one large negative number throughout, or such among smaller ones.
fn mask(tensor: &TensorProto) -> Option<f32> {
    let raw = tensor.raw_data.as_ref().filter(|raw| raw.len() <= 4 * MAX_ELEMENTS)?;
    if tensor.data_type() != FloatType::Fp32.element() as i32 {
        return None;
    }
    let lowest = lowest(raw);
    if lowest > ALONE {
        return None; // Almost always, and then one look at each number was enough.
    }
    let values = || raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if values().all(|value| value == lowest) {
        return Some(lowest);
    }
    (lowest <= AMONG && values().all(|value| value <= largest(FloatType::Fp16))).then_some(lowest)
}

/// The lowest finite number below zero, or zero.
fn lowest(raw: &[u8]) -> f32 {
    // Among negative numbers, the bits of the lower one are the larger integer; integers are compared many at a time.
    let largest = f32::MIN.to_bits();
    let bits = |piece: &[u8]| {
        let all = piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        all.fold(0, |most: u32, bits| most.max(if bits <= largest { bits } else { 0 }))
    };
    let most = raw.par_chunks(1 << 18).map(bits).reduce(|| 0, u32::max);
    if most > (-0.0f32).to_bits() { f32::from_bits(most) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::lowest;

    #[test]
    fn the_lowest_finite_number_is_found_among_odd_ones() {
        let of = |values: &[f32]| lowest(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        assert_eq!(of(&[1.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), 0.0);
        assert_eq!(of(&[1e30, -2.0, -1e9, f32::NEG_INFINITY, -3.0]), -1e9);
        assert_eq!(of(&[f32::MIN]), f32::MIN);
        assert_eq!(of(&[]), 0.0);
    }
}
