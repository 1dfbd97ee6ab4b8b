//! Instances of patterns, as sets of nodes of a [`View`].

use std::collections::{BTreeMap, BTreeSet};

use super::view::View;
use crate::onnx::graph::GraphView;
use crate::onnx::pattern::{self, Part};
use crate::onnx::proto::NodeProto;

/// All instances by name of the pattern: `layer-norm`, `attention.scores`, …
pub(super) struct Patterns {
    by_name: BTreeMap<&'static str, Vec<Instance>>,
}

/// One instance.
pub(super) struct Instance {
    /// For people: the path that its nodes' names share, or the name of its last node.
    pub(super) name: String,
    /// Its nodes, as indices of [`View::nodes`].
    pub(super) nodes: BTreeSet<usize>,
}

impl Patterns {
    pub(super) fn new(view: &View<'_>) -> Patterns {
        let graph = GraphView::new(view.model.proto());
        // Both look at the same protobuf, so that a node is known by where it lies.
        let ids: BTreeMap<*const NodeProto, usize> =
            view.nodes.iter().enumerate().map(|(id, node)| (std::ptr::from_ref(node.proto), id)).collect();
        let mut by_name: BTreeMap<&'static str, Vec<Instance>> = BTreeMap::new();
        for found in pattern::find_in(&graph) {
            let mut add = |name: &'static str, nodes: &[crate::onnx::graph::NodeRef]| {
                let nodes: BTreeSet<usize> = nodes
                    .iter()
                    .filter_map(|at| ids.get(&std::ptr::from_ref(graph.node(graph.at(*at)?).proto)).copied())
                    .collect();
                // Functions of the model are not rewritten, and their nodes are not in the view.
                if !nodes.is_empty() {
                    by_name.entry(name).or_default().push(Instance { name: found.instance.clone(), nodes });
                }
            };
            add(found.kind.name(), &found.nodes);
            for part in found.attention.iter().flat_map(|a| Part::ALL.map(|part| (part, a.part(part)))) {
                add(part.0.name(), part.1);
            }
        }
        Patterns { by_name }
    }

    /// The instances of one pattern.
    pub(super) fn instances(&self, name: &str) -> &[Instance] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}
