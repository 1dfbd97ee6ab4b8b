//! Masks of large negative numbers, followed from the constant to where they are used.
//!
//! In 16 bits such a mask is minus infinity, and a row of these NaN in a Softmax. So what carries it to a Softmax is
//! FP32, and the Softmax too, unless a rule of the model itself says another type ([`keep_wide`]). A mask that ends
//! elsewhere is told: where it is stored in 16 bits it is the lowest number instead, and where it is FP32 and read in
//! 16 bits, it is raised to that before the Cast ([`carried`]), or an error where no Cast is written ([`crossing`]).
//!
//! Masks go into the subgraphs of If, Loop and Scan, round in them, and out again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Decider, NodeAssignment};
use super::edges::SHAPES;
use super::float::FloatType;
use super::made::{constant_tensor, scalar};
use super::pattern::Patterns;
use super::problem::Problem;
use super::signature::Role;
use super::spec::Spec;
use super::view::{Key, View};
use super::weights::{Span, largest};
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::{GraphProto, TensorProto, ValueInfoProto};

/// Operators that pass a mask on, beside those that only move elements.
const CARRIERS: [&str; 13] = [
    "Add",
    "Sub",
    "Mul",
    "Neg",
    "Min",
    "Where",
    "Trilu",
    "ConstantOfShape",
    "ScatterND",
    "ScatterElements",
    "GatherND",
    "GatherElements",
    "ReverseSequence",
];

/// Does an operator of ONNX pass a mask on?
pub(super) fn carries(op: &str) -> bool {
    CARRIERS.contains(&op) || SHAPES.contains(&op)
}

/// Operators to which minus infinity is as good as any large negative number.
pub(super) const BOUNDS: [&str; 5] = ["Clip", "Max", "Relu", "Sigmoid", "Tanh"];

/// Largest number of elements of a constant that is looked at: the causal mask of 2048 positions.
const MAX_ELEMENTS: usize = 1 << 22;

/// A number like this is nothing but minus infinity to whoever wrote it, if it is alone.
pub(super) const ALONE: f32 = -99_999.0;

/// The same among other numbers.
pub(super) const AMONG: f32 = -1e8;

/// A mask: the constant, and its lowest value; or the highest, of one that is subtracted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask<'v> {
    pub(super) name: &'v str,
    pub(super) value: f32,
}

/// Which constants are masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Those below zero.
    Negative,
    /// Also a large number that may be subtracted, as in `scores - 1e30 * mask`.
    Either,
}

/// A way that a mask can go: through a node, from a value that it reads to one that it gives. Through If, Loop and
/// Scan it goes from what they read to what their subgraphs are given, and from what these give to what they give.
struct Way<'v> {
    node: usize,
    from: Key<'v>,
    to: Key<'v>,
}

/// The constants that are masks: initializers, what Constant and ConstantOfShape give, and what Pad adds.
fn masks<'v>(view: &View<'v>, sign: Sign) -> BTreeMap<Key<'v>, Mask<'v>> {
    let mut masks = BTreeMap::new();
    for (scope, (graph, _)) in &view.graphs {
        for tensor in &graph.initializer {
            let name = tensor.name();
            let value = mask(tensor, sign, || view.span(*scope, name, tensor));
            masks.extend(value.map(|value| ((*scope, name), Mask { name, value })));
        }
    }
    for node in &view.nodes {
        let proto = node.proto;
        let Some(name) = proto.output.first().map(String::as_str) else { continue };
        let tensor = match (&node.signature.role, proto.op_type()) {
            (Role::Constant, _) => constant_tensor(proto),
            (_, "ConstantOfShape") => proto.attribute.iter().find_map(|a| a.t.clone()),
            // An attribute up to opset 10.
            (_, "Pad") => proto.attribute.iter().find(|a| a.name() == "value").map(|a| scalar(a.f())),
            _ => None,
        };
        let value = tensor.as_ref().and_then(|tensor| mask(tensor, sign, || Span::of(tensor)));
        masks.extend(value.map(|value| ((node.scope, name), Mask { name, value })));
    }
    masks
}

/// All ways but those through the nodes of `ends`.
fn ways<'v>(
    view: &View<'v>,
    masks: &BTreeMap<Key<'v>, Mask<'v>>,
    ends: &BTreeMap<usize, Vec<usize>>,
) -> Vec<Way<'v>> {
    let mut ways = Vec::new();
    for (id, node) in view.nodes.iter().enumerate() {
        let (proto, op) = (node.proto, node.proto.op_type());
        let mut inner = view.inner(id).peekable();
        if inner.peek().is_some() {
            for (scope, graph) in inner {
                ways.extend(around(view, id, scope, graph));
            }
            continue;
        }
        let carries = node.signature.role == Role::Transparent || op == "Max" || carries(op);
        if !carries || !proto.domain().is_empty() || ends.contains_key(&id) {
            continue;
        }
        let inputs = proto.input.iter().filter_map(|name| view.key(node.scope, name));
        // To Max a constant is a bound, but a mask that arrives goes on.
        for from in inputs.filter(|key| op != "Max" || !masks.contains_key(key)) {
            let outputs = proto.output.iter().filter(|name| !name.is_empty());
            ways.extend(outputs.map(|name| Way { node: id, from, to: (node.scope, name.as_str()) }));
        }
    }
    ways
}

/// The ways into a subgraph, out of it, and round in it.
fn around<'v>(view: &View<'v>, id: usize, scope: ScopeId, graph: &'v GraphProto) -> Vec<Way<'v>> {
    let node = &view.nodes[id];
    let (inputs, outputs) = (&node.proto.input, &node.proto.output);
    // Of the node's inputs, where those for the subgraph begin; of the subgraph's outputs, those of the node; and
    // how many go round.
    let scanned = node.proto.attribute.iter().find(|a| a.name() == "num_scan_inputs").map_or(0, |a| a.i());
    let scanned = usize::try_from(scanned).unwrap_or(0);
    let (skipped, own, states) = match node.proto.op_type() {
        "Loop" => (2, 1, inputs.len().saturating_sub(2)),
        // Up to opset 8 the first one holds the lengths of sequences.
        "Scan" if view.opset() < 9 => (1, 0, inputs.len().saturating_sub(scanned + 1)),
        "Scan" => (0, 0, inputs.len().saturating_sub(scanned)),
        _ => (inputs.len(), 0, 0),
    };
    // A Loop gives its subgraph the number of the iteration, and the condition, before all else.
    let given = if node.proto.op_type() == "Loop" { 2 } else { 0 };
    let inside = |name: &'v ValueInfoProto| view.key(scope, name.name());
    let mut pairs: Vec<(Option<Key<'v>>, Option<Key<'v>>)> = Vec::new();
    for (from, to) in inputs.iter().skip(skipped).zip(graph.input.iter().skip(given)) {
        pairs.push((view.key(node.scope, from), inside(to)));
    }
    for (from, to) in graph.output.iter().skip(own).zip(outputs).filter(|(_, to)| !to.is_empty()) {
        pairs.push((inside(from), Some((node.scope, to.as_str()))));
    }
    for (from, to) in graph.output.iter().skip(own).take(states).zip(graph.input.iter().skip(given)) {
        pairs.push((inside(from), inside(to)));
    }
    let way = |(from, to): (Option<Key<'v>>, Option<Key<'v>>)| Some(Way { node: id, from: from?, to: to? });
    pairs.into_iter().filter_map(way).collect()
}

/// Every value that a mask can come to, the constants among them.
fn reached<'v>(masks: &BTreeMap<Key<'v>, Mask<'v>>, ways: &[Way<'v>]) -> BTreeMap<Key<'v>, Mask<'v>> {
    let mut from: BTreeMap<Key<'v>, Vec<&Way<'v>>> = BTreeMap::new();
    for way in ways {
        from.entry(way.from).or_default().push(way);
    }
    let mut reached = masks.clone();
    let mut open: Vec<Key<'v>> = masks.keys().copied().collect();
    while let Some(key) = open.pop() {
        let Some(mask) = reached.get(&key).copied() else { continue };
        for way in from.get(&key).into_iter().flatten() {
            if let Entry::Vacant(new) = reached.entry(way.to) {
                new.insert(mask);
                open.push(way.to);
            }
        }
    }
    reached
}

/// Keeps FP32 what carries a mask to a Softmax, and the Softmax, where that would lose it.
pub(super) fn keep_wide(view: &View<'_>, patterns: &Patterns, spec: &Spec, nodes: &mut [NodeAssignment]) {
    let masks = masks(view, Sign::Either);
    if masks.is_empty() {
        return;
    }
    let mut softmax: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for instance in patterns.instances("softmax") {
        for id in &instance.nodes {
            softmax.entry(*id).or_default().extend(&instance.nodes);
        }
    }
    for (id, node) in view.nodes.iter().enumerate() {
        if matches!(node.proto.op_type(), "Softmax" | "LogSoftmax") {
            softmax.entry(id).or_default();
        }
    }
    let ways = ways(view, &masks, &softmax);
    let reached = reached(&masks, &ways);
    // Back from each Softmax that one arrives at.
    let mut wide: BTreeMap<usize, Mask<'_>> = BTreeMap::new();
    let mut open: Vec<Key<'_>> = Vec::new();
    for (id, parts) in &softmax {
        let node = &view.nodes[*id];
        let read = node.proto.input.iter().filter_map(|name| view.key(node.scope, name));
        for key in read {
            if let Some(mask) = reached.get(&key) {
                wide.extend(std::iter::once(id).chain(parts).map(|id| (*id, *mask)));
                open.push(key);
            }
        }
    }
    let mut to: BTreeMap<Key<'_>, Vec<&Way<'_>>> = BTreeMap::new();
    for way in &ways {
        to.entry(way.to).or_default().push(way);
    }
    let mut wanted: BTreeSet<Key<'_>> = BTreeSet::new();
    while let Some(key) = open.pop() {
        if !wanted.insert(key) {
            continue;
        }
        for way in to.get(&key).into_iter().flatten() {
            if let Some(mask) = reached.get(&way.from) {
                wide.insert(way.node, *mask);
                open.push(way.from);
            }
        }
    }
    // One that makes a mask of its own reads none.
    for (id, node) in view.nodes.iter().enumerate().filter(|(_, node)| node.signature.role != Role::Constant)
    {
        let first = node.proto.output.first().map(|name| (node.scope, name.as_str()));
        let own = first.filter(|key| wanted.contains(key)).and_then(|key| masks.get(&key));
        wide.extend(own.map(|mask| (id, *mask)));
    }
    for (id, Mask { name, value }) in wide {
        let over = match nodes[id].by {
            Decider::Rule(rule) => Some(rule),
            _ => None,
        };
        let is_lost = nodes[id].of.is_some_and(|of| of != FloatType::Fp32 && value.abs() > largest(of));
        // What a model's own rule says is meant.
        if is_lost && over.is_none_or(|rule| spec.rules[rule].set.is_some()) {
            let why = format!("the mask `{name}` of {value:e} goes through it to a Softmax");
            nodes[id].of = Some(FloatType::Fp32);
            nodes[id].by = Decider::Constraint { why, over };
        }
    }
}

/// Every value that a mask can come to: what is FP32 among them and read in 16 bits must be raised before.
pub(super) fn carried<'v>(view: &View<'v>) -> BTreeMap<Key<'v>, Mask<'v>> {
    let masks = masks(view, Sign::Negative);
    reached(&masks, &ways(view, &masks, &BTreeMap::new()))
}

/// A mask was raised to the lowest number of a type before it was cast.
pub(super) fn raised(mask: Mask<'_>, of: FloatType, readers: &[(&str, &str)]) -> Problem {
    let Mask { name, value } = mask;
    let message = format!(
        "the mask `{name}` of {value} is raised to {} before it is cast to {}",
        -largest(of),
        of.name()
    );
    let problem = Problem::hazard(&format!("mask-saturated-{}", of.name()), message)
        .note("it would become minus infinity there, and a row of these NaN in a Softmax");
    let Some((node, op)) = readers.first() else { return problem };
    problem
        .at_node(node, op)
        .paste(&format!("the mask `{name}` stays fp32"), readers.iter().map(|(name, _)| *name))
}

/// Masks that are FP32 where they are made and FP16 where they are read, in a model into which no Clip can be put,
/// since it keeps its types.
pub(super) fn crossing(view: &View<'_>, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let carried = carried(view);
    let mut wide: BTreeSet<Key<'_>> = BTreeSet::new();
    let mut narrow: BTreeMap<&str, (Mask<'_>, BTreeSet<usize>)> = BTreeMap::new();
    for (id, node) in view.nodes.iter().enumerate().filter(|_| !carried.is_empty()) {
        let inputs = || node.proto.input.iter().filter_map(|name| view.key(node.scope, name));
        let of = nodes[id].of;
        let is_wide = match node.signature.role {
            Role::Transparent => inputs().any(|key| wide.contains(&key)),
            _ => of == Some(FloatType::Fp32),
        };
        if is_wide {
            wide.extend(node.proto.output.iter().map(|name| (node.scope, name.as_str())));
        }
        if of == Some(FloatType::Fp16) && !BOUNDS.contains(&node.proto.op_type()) {
            for mask in inputs().filter(|key| wide.contains(key)).filter_map(|key| carried.get(&key)) {
                narrow.entry(mask.name).or_insert_with(|| (*mask, BTreeSet::new())).1.insert(id);
            }
        }
    }
    let problem = |(name, (mask, ids)): (&str, (Mask<'_>, BTreeSet<usize>))| {
        let names: Vec<&str> = ids.iter().map(|id| view.nodes[*id].name.as_str()).collect();
        let first = ids.first().map(|id| &view.nodes[*id]);
        let (node, op) = first.map_or(("", ""), |n| (n.name.as_str(), n.proto.op_type()));
        let message = format!("the mask `{name}` of {} reaches `{node}` in fp16", mask.value);
        Problem::hazard("mask-overflow-fp16", message)
            .at_node(node, op)
            .note("it would become minus infinity there, and a row of these NaN in a Softmax")
            .paste(&format!("the mask `{name}` stays fp32"), names)
    };
    narrow.into_iter().map(problem).collect()
}

/// The lowest value of a constant that is a mask: one large negative number throughout, or such among smaller ones; or
/// the one large number that it is throughout.
fn mask(tensor: &TensorProto, sign: Sign, span: impl FnOnce() -> Span) -> Option<f32> {
    let raw = tensor.raw_data.as_ref().filter(|raw| raw.len() <= 4 * MAX_ELEMENTS)?;
    if tensor.data_type() != FloatType::Fp32.element() as i32 {
        return None;
    }
    let Span { lowest, largest: highest, .. } = span();
    let values = || raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if sign == Sign::Either && highest >= -ALONE && values().all(|value| value == highest) {
        return Some(highest);
    }
    if lowest > ALONE {
        return None; // Almost always, and then one look at each number was enough.
    }
    if values().all(|value| value == lowest) {
        return Some(lowest);
    }
    (lowest <= AMONG && values().all(|value| value <= largest(FloatType::Fp16))).then_some(lowest)
}
