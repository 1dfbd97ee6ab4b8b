//! Is the typed model what was promised? It is inferred anew, and held against the assignment.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::plan::has_addend;
use super::problem::Problem;
use super::signature::{Role, Slot};
use super::view::View;
use crate::diagnostic::{Diagnostic, Place};
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::{self, Declared, ElementTypes, Model};

/// Everything that is not as promised, which refuses the model: a bug of ours, or the fault of a file whose types
/// contradict each other already. `around` are values between which two Casts may stand back to back.
pub(super) fn check(
    view: &View<'_>,
    nodes: &[NodeAssignment],
    (typed, declared): (&Model, &Declared),
    around: &BTreeSet<String>,
) -> Vec<Problem> {
    let types = onnx::element_types_with(typed, declared);
    // What is odd in the file may be odd in the result.
    let node_of = |place: &Option<Place>| match place {
        Some(Place::Node { node, .. }) => Some(node.clone()),
        _ => None,
    };
    let odd: Vec<Diagnostic> = onnx::type_errors(view.model, view.types);
    let before: BTreeSet<_> = odd.iter().map(|d| (d.code.to_string(), node_of(&d.place))).collect();
    let mut wrong = Vec::new();
    for problem in onnx::type_errors(typed, &types) {
        if problem.code == "double-narrowed"
            || before.contains(&(problem.code.to_string(), node_of(&problem.place)))
        {
            continue;
        }
        wrong.push(problem.message);
    }
    let mut check = Check { view, nodes, types: &types, around, wrong };
    check.graph(view.types.graph(), types.graph(), typed.graph(), &BTreeSet::new());
    let faults: Vec<Problem> = odd.iter().filter_map(fault).collect();
    if !check.wrong.is_empty() && !faults.is_empty() {
        return faults;
    }
    check
        .wrong
        .into_iter()
        .map(|what| {
            Problem::error("precision-internal", format!("the typed model is wrong: {what}"))
                .note("this is a bug of enginewright; nothing was built from it")
        })
        .collect()
}

/// What is wrong in the file itself, if the diagnostic says that.
fn fault(odd: &Diagnostic) -> Option<Problem> {
    if !odd.code.starts_with("type-") {
        return None;
    }
    let problem =
        Problem::error(&odd.code, format!("types in the model contradict each other: {}", odd.message));
    let problem = match &odd.place {
        Some(Place::Node { node, op, .. }) => problem.at_node(node, op),
        _ => problem,
    };
    Some(
        problem
            .note("it could not be typed around that")
            .help("export the model again, or use `precision = \"as-is\"`"),
    )
}

struct Check<'c> {
    view: &'c View<'c>,
    nodes: &'c [NodeAssignment],
    types: &'c ElementTypes,
    around: &'c BTreeSet<String>,
    wrong: Vec<String>,
}

impl<'c> Check<'c> {
    fn float(&self, scope: ScopeId, name: &str) -> Option<FloatType> {
        if name.is_empty() { None } else { FloatType::of_type(self.types.get(scope, name)) }
    }

    /// Holds a graph against the one that it was made from; `known` can be seen around it.
    fn graph(&mut self, old: ScopeId, scope: ScopeId, graph: &'c GraphProto, outer: &BTreeSet<&'c str>) {
        let mut makers: BTreeMap<&str, &NodeProto> = BTreeMap::new();
        let mut known = outer.clone();
        known.extend(graph.input.iter().map(|v| v.name()));
        known.extend(graph.initializer.iter().map(|t| t.name()));
        known.extend(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())));
        // Every node of the file is there, in its order, and computes in its type.
        let ids = self.view.graphs.get(&old).map_or(&[][..], |(_, nodes)| nodes).iter().copied();
        let gone =
            |id: &usize| matches!(self.view.nodes[*id].signature.role, Role::Transparent | Role::Constant);
        let ids: Vec<usize> = ids.filter(|id| !gone(id)).collect();
        let mut rest = ids.into_iter().peekable();
        for (index, node) in graph.node.iter().enumerate() {
            let name = onnx::node_name(node);
            for value in node.input.iter().filter(|input| !input.is_empty()) {
                if !known.contains(value.as_str()) {
                    self.wrong.push(format!("`{name}` reads `{value}` before it is made"));
                }
            }
            let next = rest.next_if(|id| self.is_same(*id, node));
            for (ordinal, inner) in onnx::subgraphs(node).enumerate() {
                let scopes = next.and_then(|id| {
                    let at = &self.view.nodes[id];
                    let before = self.view.types.subgraph(at.scope, at.index, ordinal)?;
                    Some((before, self.types.subgraph(scope, index, ordinal)?))
                });
                match scopes {
                    Some((before, after)) => self.graph(before, after, inner, &known),
                    None => self.wrong.push(format!("the subgraphs of `{name}` are lost")),
                }
            }
            if let Some(id) = next {
                self.types_of(id, scope, node);
            }
            if self.is_cast(scope, node) {
                self.back_to_back(scope, node, &makers);
            }
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                if !known.insert(output) && !outer.contains(output.as_str()) {
                    self.wrong.push(format!("`{output}` is made twice"));
                }
                makers.insert(output, node);
            }
        }
        if let Some(id) = rest.next() {
            self.wrong.push(format!("`{}` is lost", self.view.nodes[id].name));
        }
        for output in &graph.output {
            if !known.contains(output.name()) {
                self.wrong.push(format!("nothing makes the output `{}`", output.name()));
            }
        }
    }

    fn is_same(&self, id: usize, node: &NodeProto) -> bool {
        let (old, name) = (&self.view.nodes[id].proto, &self.view.nodes[id].name);
        onnx::node_name(node) == *name
            && node.op_type() == old.op_type()
            && node.output.len() == old.output.len()
    }

    fn types_of(&mut self, id: usize, scope: ScopeId, node: &NodeProto) {
        let old = &self.view.nodes[id];
        if old.signature.role != Role::Typed {
            return;
        }
        // A product with FP32 accumulators is FP32 between Casts; its inputs and outputs were named.
        let accumulates = self.nodes[id].accumulate.is_some();
        let wanted = if accumulates { Some(FloatType::Fp32) } else { self.nodes[id].of };
        let mut outputs = node.output.iter().zip(&old.signature.outputs);
        let is_right = |(output, slot): (&String, &Slot)| {
            *slot != Slot::Follows || output.is_empty() || self.float(scope, output) == wanted
        };
        let is_around = |name: &String| self.around.contains(name);
        let is_sandwiched = || node.input.iter().chain(&node.output).all(is_around) && !has_addend(node);
        if !outputs.all(is_right) || (accumulates && !is_sandwiched()) {
            self.wrong.push(format!("`{}` does not compute in the type that it was given", old.name));
        }
    }

    fn is_cast(&self, scope: ScopeId, node: &NodeProto) -> bool {
        let float = |names: &[String]| names.first().and_then(|name| self.float(scope, name)).is_some();
        node.domain().is_empty() && node.op_type() == "Cast" && float(&node.input) && float(&node.output)
    }

    /// No two Casts between float types stand back to back.
    fn back_to_back(&mut self, scope: ScopeId, node: &NodeProto, makers: &BTreeMap<&str, &NodeProto>) {
        let Some(first) = node.input.first().and_then(|n| makers.get(n.as_str())) else { return };
        let is_rounding = || {
            let made = node.output.first().is_some_and(|name| self.around.contains(name));
            made || first.input.first().is_some_and(|name| self.around.contains(name))
        };
        if self.is_cast(scope, first) && !is_rounding() {
            self.wrong.push(format!("two Casts stand back to back at `{}`", onnx::node_name(node)));
        }
    }
}
