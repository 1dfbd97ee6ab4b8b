//! Nodes that move elements between FP32 nodes, and those that make constants for them.
//!
//! A Reshape between two LSTMs that stay FP32 computes nothing: in 16 bits it would cost two Casts and the digits, and
//! save nothing. So what moves elements from FP32 to FP32 and nowhere else is FP32, unless a rule says its type.
//!
//! What is computed from constants alone (a weight behind a Transpose, `1 + scale`) is computed once, when the engine is
//! built: in 16 bits it would save nothing and cost an FP32 node the digits of its weights. So it is FP32 if one reads it.

use std::collections::BTreeSet;

use super::assign::{Decider, NodeAssignment};
use super::edges::{Edges, SHAPES, is_wide};
use super::float::FloatType;
use super::signature::Role;
use super::spec::Spec;
use super::view::{Key, View};

/// Keeps FP32 what only moves elements between nodes, inputs and outputs that are, and what makes constants for them.
pub(super) fn keep_wide(view: &View<'_>, spec: &Spec, nodes: &mut [NodeAssignment]) {
    let edges = Edges::new(view, spec, nodes);
    let makers = makers_of_constants(view);
    // Readers come after makers.
    for id in (0..nodes.len()).rev().filter(|id| makers.contains(id)) {
        let is_free = nodes[id].by == Decider::Default && nodes[id].of.is_some();
        if is_free && edges.neighbours(id, true).into_iter().any(|reader| is_wide(nodes, reader)) {
            nodes[id].of = Some(FloatType::Fp32);
            let why = "it makes a constant that an fp32 node reads".to_owned();
            nodes[id].by = Decider::Constraint { why, over: None };
        }
    }
    // Integers that become floats for FP32 nodes alone would lose digits on the way.
    for id in 0..nodes.len() {
        let is_free = nodes[id].by == Decider::Default && nodes[id].of.is_some() && edges.is(id, &["Cast"]);
        let readers = if is_free { edges.neighbours(id, true) } else { Vec::new() };
        if !readers.is_empty() && readers.into_iter().all(|reader| is_wide(nodes, reader)) {
            nodes[id].of = Some(FloatType::Fp32);
            nodes[id].by = Decider::Constraint { why: "fp32 nodes alone read it".to_owned(), over: None };
        }
    }
    let is_free =
        |id: usize| nodes[id].by == Decider::Default && nodes[id].of.is_some() && edges.is(id, &SHAPES);
    let (mut seen, mut wide) = (BTreeSet::new(), BTreeSet::new());
    for id in (0..nodes.len()).filter(|id| is_free(*id)) {
        if seen.contains(&id) {
            continue;
        }
        let group = edges.hanging(id, is_free);
        seen.extend(group.iter().copied());
        if is_between_wide(&edges, nodes, &group) {
            wide.extend(group);
        }
    }
    for id in wide {
        let why = "it moves elements from fp32 to fp32".to_owned();
        nodes[id].of = Some(FloatType::Fp32);
        nodes[id].by = Decider::Constraint { why, over: None };
    }
}

/// Does all that a group reads come from FP32, and go to it? Constants are of any type, and no reason for one.
fn is_between_wide(edges: &Edges<'_>, nodes: &[NodeAssignment], group: &BTreeSet<usize>) -> bool {
    let beside = |forward| {
        let all = group.iter().flat_map(move |id| edges.neighbours(*id, forward));
        all.filter(|id| !group.contains(id) && nodes[*id].of.is_some())
    };
    let is_narrow = |id: usize| !is_wide(nodes, id);
    let any = |is: &dyn Fn(usize) -> bool| group.iter().any(|id| is(*id));
    if any(&|id| edges.reads_narrow_input(id) || edges.gives_narrow_output(id)) {
        return false;
    }
    let is_fed = beside(false).next().is_some() || any(&|id| edges.reads_wide_input(id));
    let is_read = beside(true).next().is_some() || any(&|id| edges.gives_wide_output(id));
    is_fed && is_read && !beside(false).chain(beside(true)).any(is_narrow)
}

/// The nodes that compute from constants alone.
fn makers_of_constants(view: &View<'_>) -> BTreeSet<usize> {
    let mut constants: BTreeSet<Key<'_>> = BTreeSet::new();
    for (scope, (graph, _)) in &view.graphs {
        constants.extend(graph.initializer.iter().map(|tensor| (*scope, tensor.name())));
    }
    let mut makers = BTreeSet::new();
    for (id, node) in view.nodes.iter().enumerate() {
        let inputs = || node.proto.input.iter().filter(|name| !name.is_empty());
        let is_constant =
            |name: &String| view.key(node.scope, name).is_some_and(|key| constants.contains(&key));
        let is_made =
            view.inner(id).next().is_none() && inputs().next().is_some() && inputs().all(is_constant);
        if is_made || node.proto.op_type() == "Constant" {
            constants.extend(node.proto.output.iter().map(|name| (node.scope, name.as_str())));
        }
        if is_made && node.signature.role == Role::Typed {
            makers.insert(id);
        }
    }
    makers
}
