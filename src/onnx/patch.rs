//! Nodes replaced by others, in whatever scope.

use std::collections::BTreeMap;

use super::graph::{GraphView, NodeRef, ScopeKind};
use super::infer::{ElementTypes, ScopeId};
use super::make;
use super::names::{subgraphs, subgraphs_mut};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

/// What takes the place of a node.
#[derive(Debug)]
pub(crate) struct Patch {
    /// The nodes, in order.
    pub(crate) nodes: Vec<NodeProto>,
    /// Constants that they read, by name: initializers, or Constant nodes in a function, which has none.
    pub(crate) constants: Vec<TensorProto>,
}

/// Replaces nodes. What is not named stays as it is.
pub(crate) fn apply(proto: &mut ModelProto, mut patches: BTreeMap<NodeRef, Patch>) {
    if patches.is_empty() {
        return;
    }
    // The view numbers the scopes; here they are found again by the nodes that own them.
    let mut inner: BTreeMap<NodeRef, Vec<usize>> = BTreeMap::new();
    let mut functions = Vec::new();
    let view = GraphView::new(proto);
    for (index, scope) in view.scopes().iter().enumerate() {
        match scope.kind {
            ScopeKind::Main => {}
            ScopeKind::Subgraph { owner, .. } => inner.entry(view.node_ref(owner)).or_default().push(index),
            ScopeKind::Function(_) => functions.push(index),
        }
    }
    if let Some(graph) = &mut proto.graph {
        in_graph(graph, 0, &inner, &mut patches);
    }
    for (function, scope) in proto.functions.iter_mut().zip(functions) {
        let constants = in_nodes(&mut function.node, scope, &inner, &mut patches);
        let constant = |mut tensor: TensorProto| {
            let name = tensor.name.take().unwrap_or_default();
            let mut node = make::node(&name, "Constant", &[], &[&name]);
            node.attribute.push(make::tensor("value", tensor));
            node
        };
        function.node.splice(0..0, constants.into_iter().map(constant));
    }
}

fn in_graph(
    graph: &mut GraphProto,
    scope: usize,
    inner: &BTreeMap<NodeRef, Vec<usize>>,
    patches: &mut BTreeMap<NodeRef, Patch>,
) {
    let constants = in_nodes(&mut graph.node, scope, inner, patches);
    graph.initializer.extend(constants);
}

/// Gives the constants that the new nodes read.
fn in_nodes(
    nodes: &mut Vec<NodeProto>,
    scope: usize,
    inner: &BTreeMap<NodeRef, Vec<usize>>,
    patches: &mut BTreeMap<NodeRef, Patch>,
) -> Vec<TensorProto> {
    let mut constants = Vec::new();
    let old = std::mem::take(nodes);
    nodes.reserve(old.len());
    for (index, mut node) in old.into_iter().enumerate() {
        let at = NodeRef { scope, index };
        match patches.remove(&at) {
            None => {
                let graphs = inner.get(&at).map_or(&[][..], Vec::as_slice);
                for (graph, scope) in subgraphs_mut(&mut node).zip(graphs) {
                    in_graph(graph, *scope, inner, patches);
                }
                nodes.push(node);
            }
            // Graphs that it has are in the patch, so that nothing may be left to be done inside them.
            Some(Patch { nodes: new, constants: own }) => {
                constants.extend(own);
                nodes.extend(new);
            }
        }
    }
    constants
}

/// A scope of a view, as the inference of types numbers it. None in functions, whose types differ from call to call.
pub(super) fn typed_scope(view: &GraphView, types: &ElementTypes, scope: usize) -> Option<ScopeId> {
    match view.scopes().get(scope)?.kind {
        ScopeKind::Main => Some(types.graph()),
        ScopeKind::Function(_) => None,
        ScopeKind::Subgraph { owner, graph } => {
            let at = view.node_ref(owner);
            let outer = typed_scope(view, types, at.scope)?;
            let ordinal = subgraphs(view.node(owner).proto).position(|own| std::ptr::eq(own, graph))?;
            types.subgraph(outer, at.index, ordinal)
        }
    }
}
