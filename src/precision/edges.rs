//! Who gives values to whom, with the types of the borders of graphs.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::signature::{Role, Slot};
use super::spec::Spec;
use super::view::{Key, View};
use crate::manifest::IoType;
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::GraphProto;

/// Operators that move elements and compute nothing.
pub(super) const SHAPES: [&str; 16] = [
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Slice",
    "Expand",
    "Concat",
    "Split",
    "Gather",
    "Tile",
    "Pad",
    "DepthToSpace",
    "SpaceToDepth",
    "Dropout",
];

/// All graphs as far as they matter here, by indices of [`View::nodes`].
pub(super) struct Edges<'v> {
    pub(super) view: &'v View<'v>,
    producer: BTreeMap<Key<'v>, usize>,
    consumers: BTreeMap<Key<'v>, Vec<usize>>,
    /// Outputs of graphs that are FP32.
    wide_outputs: BTreeSet<Key<'v>>,
    /// Outputs of graphs that have 16 bits.
    narrow_outputs: BTreeSet<Key<'v>>,
    /// Initializers of graphs.
    initializers: BTreeSet<Key<'v>>,
    /// Inputs of graphs that have 16 bits.
    narrow_inputs: BTreeSet<Key<'v>>,
}

impl<'v> Edges<'v> {
    pub(super) fn new(view: &'v View<'v>, spec: &Spec, nodes: &[NodeAssignment]) -> Edges<'v> {
        let mut edges = Edges {
            view,
            producer: BTreeMap::new(),
            consumers: BTreeMap::new(),
            wide_outputs: BTreeSet::new(),
            narrow_outputs: BTreeSet::new(),
            initializers: BTreeSet::new(),
            narrow_inputs: BTreeSet::new(),
        };
        for (id, node) in view.nodes.iter().enumerate() {
            let made = node.proto.output.iter().filter(|name| !name.is_empty());
            edges.producer.extend(made.map(|name| ((node.scope, name.as_str()), id)));
            for key in node.proto.input.iter().filter_map(|name| view.key(node.scope, name)) {
                edges.consumers.entry(key).or_default().push(id);
            }
            for (scope, graph) in view.inner(id) {
                edges.borders(scope, graph, &|_| nodes[id].of);
            }
        }
        let asked = |name: &str| match spec.io.get(name) {
            Some(IoType::Fp16) => Some(FloatType::Fp16),
            Some(IoType::Bf16) => Some(FloatType::Bf16),
            Some(IoType::Fp32) => Some(FloatType::Fp32),
            _ => None,
        };
        edges.borders(view.types.graph(), view.model.graph(), &asked);
        edges
    }

    /// Inputs and outputs of a graph, which have these types; those without have the type of the file.
    fn borders(&mut self, scope: ScopeId, graph: &'v GraphProto, of: &dyn Fn(&str) -> Option<FloatType>) {
        let view = self.view;
        let of = |name: &str| {
            let file = view.float(scope, name)?;
            Some(of(name).unwrap_or(file))
        };
        self.initializers.extend(graph.initializer.iter().map(|tensor| (scope, tensor.name())));
        for name in graph.input.iter().map(|v| v.name()) {
            if of(name).is_some_and(|of| of != FloatType::Fp32) {
                self.narrow_inputs.insert((scope, name));
            }
        }
        for name in graph.output.iter().map(|v| v.name()) {
            match of(name) {
                Some(FloatType::Fp32) => self.wide_outputs.insert((scope, name)),
                Some(_) => self.narrow_outputs.insert((scope, name)),
                None => continue,
            };
        }
    }

    pub(super) fn is(&self, id: usize, ops: &[&str]) -> bool {
        ops.contains(&self.view.nodes[id].proto.op_type())
    }

    /// Values of a node that have its type, and their readers or makers.
    pub(super) fn neighbours(&self, id: usize, forward: bool) -> Vec<usize> {
        let node = &self.view.nodes[id];
        let (names, slots) = if forward {
            (&node.proto.output, &node.signature.outputs)
        } else {
            (&node.proto.input, &node.signature.inputs)
        };
        let follows =
            names.iter().zip(slots).filter(|(_, slot)| **slot == Slot::Follows).map(|(name, _)| name);
        let mut open: Vec<usize> = follows.flat_map(|name| self.beside(node.scope, name, forward)).collect();
        // A Cast between float types is as good as nothing: what is behind it is the neighbour.
        let mut found = Vec::new();
        while let Some(next) = open.pop() {
            let node = &self.view.nodes[next];
            if node.signature.role == Role::Transparent {
                let proto = node.proto;
                let behind = if forward { proto.output.first() } else { proto.input.first() };
                open.extend(behind.into_iter().flat_map(|name| self.beside(node.scope, name, forward)));
            } else {
                found.push(next);
            }
        }
        found
    }

    /// The readers of a value, or its maker.
    fn beside(&self, scope: ScopeId, value: &'v str, forward: bool) -> Vec<usize> {
        let Some(key) = self.view.key(scope, value) else { return Vec::new() };
        if forward {
            self.consumers.get(&key).cloned().unwrap_or_default()
        } else {
            self.producer.get(&key).copied().into_iter().collect()
        }
    }

    /// Is a result of a node such an output of its graph?
    fn gives(&self, id: usize, outputs: &BTreeSet<Key<'v>>) -> bool {
        let node = &self.view.nodes[id];
        node.proto.output.iter().any(|name| outputs.contains(&(node.scope, name.as_str())))
    }

    pub(super) fn gives_wide_output(&self, id: usize) -> bool {
        self.gives(id, &self.wide_outputs)
    }

    pub(super) fn gives_narrow_output(&self, id: usize) -> bool {
        self.gives(id, &self.narrow_outputs)
    }

    /// The values that a node reads, through Casts, and that no node makes: inputs of graphs, and initializers.
    fn given(&self, id: usize) -> Vec<Key<'v>> {
        let (mut found, mut open) = (Vec::new(), vec![id]);
        while let Some(id) = open.pop() {
            let node = &self.view.nodes[id];
            for key in node.proto.input.iter().filter_map(|name| self.view.key(node.scope, name)) {
                match self.producer.get(&key) {
                    None => found.push(key),
                    Some(maker) if self.view.nodes[*maker].signature.role == Role::Transparent => {
                        open.push(*maker);
                    }
                    Some(_) => {}
                }
            }
        }
        found
    }

    pub(super) fn reads_narrow_input(&self, id: usize) -> bool {
        self.given(id).iter().any(|key| self.narrow_inputs.contains(key))
    }

    pub(super) fn reads_wide_input(&self, id: usize) -> bool {
        let is_input =
            |key: &&Key<'v>| !self.initializers.contains(*key) && !self.narrow_inputs.contains(*key);
        self.given(id).iter().filter(is_input).any(|(scope, name)| self.view.float(*scope, name).is_some())
    }

    /// The nodes that hang together with this one through such nodes.
    pub(super) fn hanging(&self, start: usize, is_one: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let (mut group, mut open) = (BTreeSet::from([start]), vec![start]);
        while let Some(id) = open.pop() {
            for next in [true, false].into_iter().flat_map(|forward| self.neighbours(id, forward)) {
                if is_one(next) && group.insert(next) {
                    open.push(next);
                }
            }
        }
        group
    }
}

/// Does a node compute in FP32, by its assignment?
pub(super) fn is_wide(nodes: &[NodeAssignment], id: usize) -> bool {
    nodes[id].of == Some(FloatType::Fp32)
}
