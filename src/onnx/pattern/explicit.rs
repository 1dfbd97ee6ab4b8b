//! Patterns that are one operator already.

use std::collections::BTreeSet;

use super::super::graph::{NodeId, ValueId};
use super::super::tensor::MAX_RANK;
use super::graph::Graph;
use super::matched::{Kind, Match};
use super::trail::describe;

/// The operator of a node; those of ONNX Runtime with `ms::` before the name.
pub(super) fn operator(graph: &Graph, id: NodeId) -> Option<String> {
    let proto = graph.view.node(id).proto;
    match proto.domain() {
        "" => Some(proto.op_type().to_owned()),
        "com.microsoft" => Some(format!("ms::{}", proto.op_type())),
        _ => None,
    }
}

/// A match of one node, which reads its first input.
pub(super) fn single(graph: &Graph, id: NodeId, kind: Kind) -> Option<Match> {
    let view = graph.view;
    let (input, output) = (view.input(id, 0)?, view.output(id, 0)?);
    let found = describe(view, kind, &BTreeSet::from([id]), input, output);
    (!found.nodes.is_empty()).then_some(Match { rank: graph.shapes.rank(input), ..found })
}

/// The name of an input.
pub(super) fn name(graph: &Graph, id: NodeId, i: usize) -> Option<String> {
    graph.view.input(id, i).map(|v| graph.view.value(v).name.to_owned())
}

/// A float attribute, or its default.
pub(super) fn float(graph: &Graph, id: NodeId, name: &str, default: f32) -> Option<f64> {
    let attribute = graph.view.node(id).proto.attribute.iter().find(|a| a.name() == name);
    match attribute {
        Some(a) => a.ref_attr_name().is_empty().then(|| f64::from(a.f())),
        None => Some(f64::from(default)),
    }
}

/// The axes from this one to the last one. One that is out of range stands alone.
pub(super) fn trailing(graph: &Graph, v: ValueId, axis: i64) -> Vec<i64> {
    let rank = graph.shapes.rank(v);
    let most = rank.unwrap_or(MAX_RANK) as u64;
    match graph.axes(&[axis], rank)[..] {
        [first] if first < 0 && first.unsigned_abs() <= most => (first..0).collect(),
        _ => vec![axis],
    }
}
