//! Is the typed model what was promised? It is inferred anew, and held against the assignment.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::problem::Problem;
use super::signature::{Role, Slot};
use super::view::View;
use crate::diagnostic::Place;
use crate::onnx::{self, Model};

/// Everything that is not as promised: a bug of ours, which refuses the model.
pub(super) fn check(view: &View<'_>, nodes: &[NodeAssignment], typed: &Model) -> Vec<Problem> {
    let mut wrong = Vec::new();
    let types = onnx::element_types(typed);
    // What is odd in the file may be odd in the result.
    let node_of = |place: &Option<Place>| match place {
        Some(Place::Node { node, .. }) => Some(node.clone()),
        _ => None,
    };
    let before: BTreeSet<_> = onnx::type_errors(view.model, view.types)
        .into_iter()
        .map(|d| (d.code.to_string(), node_of(&d.place)))
        .collect();
    for problem in onnx::type_errors(typed, &types) {
        if problem.code == "double-narrowed"
            || before.contains(&(problem.code.to_string(), node_of(&problem.place)))
        {
            continue;
        }
        wrong.push(problem.message);
    }

    let graph = typed.graph();
    let mut makers = BTreeMap::new();
    let mut known: BTreeSet<&str> = graph.input.iter().map(|v| v.name()).collect();
    known.extend(graph.initializer.iter().map(|t| t.name()));
    known.extend(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())));
    for node in &graph.node {
        let name = onnx::node_name(node);
        for value in onnx::reads(node) {
            if !known.contains(value) {
                wrong.push(format!("`{name}` reads `{value}` before it is made"));
            }
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if !known.insert(output) {
                wrong.push(format!("`{output}` is made twice"));
            }
            makers.insert(output.as_str(), node);
        }
    }
    // No two Casts between float types stand back to back.
    let float = |name: &str| FloatType::of_type(types.get(types.graph(), name));
    let is_cast = |node: &onnx::proto::NodeProto| {
        let (from, to) =
            (node.input.first().and_then(|n| float(n)), node.output.first().and_then(|n| float(n)));
        node.domain().is_empty() && node.op_type() == "Cast" && from.is_some() && to.is_some()
    };
    for node in graph.node.iter().filter(|node| is_cast(node)) {
        if node.input.first().and_then(|n| makers.get(n.as_str())).is_some_and(|maker| is_cast(maker)) {
            wrong.push(format!("two Casts stand back to back at `{}`", onnx::node_name(node)));
        }
    }
    // Every node of the file is there, in its order, and computes in its type.
    let mut rest = graph.node.iter();
    for id in &view.top {
        let old = &view.nodes[*id];
        if old.signature.role == Role::Transparent || old.signature.role == Role::Constant {
            continue;
        }
        let same = |node: &&onnx::proto::NodeProto| {
            node.name() == old.proto.name()
                && node.op_type() == old.proto.op_type()
                && node.output.len() == old.proto.output.len()
        };
        let Some(new) = rest.find(same) else {
            wrong.push(format!("`{}` is lost", old.name));
            break;
        };
        if old.signature.role != Role::Typed {
            continue;
        }
        for (output, slot) in new.output.iter().zip(&old.signature.outputs) {
            if *slot == Slot::Follows && !output.is_empty() && float(output) != nodes[*id].of {
                wrong.push(format!("`{}` does not compute in the type that it was given", old.name));
            }
        }
    }
    wrong
        .into_iter()
        .map(|what| {
            Problem::error("precision-internal", format!("the typed model is wrong: {what}"))
                .note("this is a bug of enginewright; nothing was built from it")
        })
        .collect()
}
