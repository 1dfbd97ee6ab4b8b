//! Matrix products that TensorRT would compute with half weights although they are declared FP32.
//!
//! `Cast(16->32) -> MatMul | Gemm | Conv -> Cast(32->16)` compiles to a kernel with half weights, shape
//! operators before the last Cast included. It does not when another operator that computes shares the FP32
//! region, or when the result stays FP32. So a region without such an operator is widened by one.
//!
//! A constant that is added to the result of a convolution is its bias, and no such operator: TensorRT-RTX 1.7 still
//! computes it with half weights (1.5 and 1.6 do not). A product of matrices keeps FP32 weights with a bias alone.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Decider, NodeAssignment};
use super::float::FloatType;
use super::problem::Problem;
use super::signature::{Role, Slot};
use super::spec::Spec;
use super::view::{Key, View};
use crate::manifest::IoType;
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::GraphProto;

pub(super) const GEMMS: [&str; 6] = ["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "FusedMatMul"];

const CONVOLUTIONS: [&str; 2] = ["Conv", "ConvTranspose"];

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

/// What a region is widened by: a bias or an activation.
const MENDS: [&str; 26] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Softplus",
    "Softsign",
    "Clip",
    "Gelu",
    "Mish",
    "Erf",
    "Softmax",
    "Max",
    "Min",
    "BatchNormalization",
    "LayerNormalization",
    "Sum",
];

/// All graphs as far as they matter here, by indices of [`View::nodes`].
struct Edges<'v> {
    view: &'v View<'v>,
    producer: BTreeMap<Key<'v>, usize>,
    consumers: BTreeMap<Key<'v>, Vec<usize>>,
    /// Outputs of graphs that are FP32.
    outputs: BTreeSet<Key<'v>>,
    /// Initializers of graphs.
    initializers: BTreeSet<Key<'v>>,
    /// Inputs of graphs that have 16 bits.
    narrow_inputs: BTreeSet<Key<'v>>,
}

/// Widens each region of matrix products that would be demoted; says which cannot be.
pub(super) fn widen(view: &View<'_>, spec: &Spec, nodes: &mut [NodeAssignment]) -> Vec<Problem> {
    let edges = Edges::new(view, spec, nodes);
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for id in 0..view.nodes.len() {
        if seen.contains(&id) || !edges.is_wide(nodes, id) || !edges.is(id, &GEMMS) {
            continue;
        }
        let region = edges.region(nodes, id);
        seen.extend(region.iter().copied());
        if !edges.is_demoted(nodes, &region) {
            continue;
        }
        let name = view.nodes[id].name.clone();
        match edges.mend(nodes, &region) {
            Some(mend) => {
                for id in mend {
                    let over = match nodes[id].by {
                        Decider::Rule(rule) => Some(rule),
                        _ => None,
                    };
                    let why = format!(
                        "keeps `{name}` FP32: TensorRT computes a lone matrix product with half weights"
                    );
                    nodes[id].of = Some(FloatType::Fp32);
                    nodes[id].by = Decider::Constraint { why, over };
                }
            }
            None => problems.push(edges.refusal(nodes, &region, id)),
        }
    }
    problems
}

impl<'v> Edges<'v> {
    fn new(view: &'v View<'v>, spec: &Spec, nodes: &[NodeAssignment]) -> Edges<'v> {
        let mut edges = Edges {
            view,
            producer: BTreeMap::new(),
            consumers: BTreeMap::new(),
            outputs: BTreeSet::new(),
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
        let of = |name: &str| {
            let file = self.view.float(scope, name)?;
            Some(of(name).unwrap_or(file))
        };
        let is_wide = |name: &str| of(name) == Some(FloatType::Fp32);
        let inputs = graph.input.iter().map(|v| v.name()).filter(|name| of(name).is_some() && !is_wide(name));
        let narrow: Vec<Key<'v>> = inputs.map(|name| (scope, name)).collect();
        let outputs = graph.output.iter().map(|v| v.name()).filter(|name| is_wide(name));
        let wide: Vec<Key<'v>> = outputs.map(|name| (scope, name)).collect();
        self.initializers.extend(graph.initializer.iter().map(|tensor| (scope, tensor.name())));
        self.narrow_inputs.extend(narrow);
        self.outputs.extend(wide);
    }

    /// Does it move elements, or add a constant to the result of a convolution of this region?
    fn is_free(&self, id: usize, region: &BTreeSet<usize>) -> bool {
        let is_bias = || {
            let node = &self.view.nodes[id];
            let inputs = || node.proto.input.iter().filter_map(|name| self.view.key(node.scope, name));
            self.is(id, &["Add", "Sub"]) && inputs().any(|key| self.is_constant(key))
        };
        self.is(id, &SHAPES) || (region.iter().any(|id| self.is(*id, &CONVOLUTIONS)) && is_bias())
    }

    fn is_constant(&self, value: Key<'v>) -> bool {
        let Some(id) = self.producer.get(&value) else { return self.initializers.contains(&value) };
        let node = &self.view.nodes[*id];
        let input = || self.view.key(node.scope, node.proto.input.first()?);
        match node.signature.role {
            Role::Constant => true,
            Role::Transparent => input().is_some_and(|key| self.is_constant(key)),
            _ => false,
        }
    }

    fn is(&self, id: usize, ops: &[&str]) -> bool {
        ops.contains(&self.view.nodes[id].proto.op_type())
    }

    /// Does it compute in FP32, by its assignment?
    fn is_wide(&self, nodes: &[NodeAssignment], id: usize) -> bool {
        nodes[id].of == Some(FloatType::Fp32)
    }

    /// Values of a node that have its type, and their readers or makers.
    fn neighbours(&self, id: usize, forward: bool) -> Vec<usize> {
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

    /// Does a node read an input of 16 bits of its graph, through Casts?
    fn reads_narrow_input(&self, id: usize) -> bool {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let node = &self.view.nodes[id];
            for key in node.proto.input.iter().filter_map(|name| self.view.key(node.scope, name)) {
                if self.narrow_inputs.contains(&key) {
                    return true;
                }
                let maker = self.producer.get(&key).copied();
                open.extend(maker.filter(|m| self.view.nodes[*m].signature.role == Role::Transparent));
            }
        }
        false
    }

    /// The FP32 nodes that hang together with this one.
    fn region(&self, nodes: &[NodeAssignment], start: usize) -> BTreeSet<usize> {
        let (mut region, mut open) = (BTreeSet::from([start]), vec![start]);
        while let Some(id) = open.pop() {
            for next in [true, false].into_iter().flat_map(|forward| self.neighbours(id, forward)) {
                if self.is_wide(nodes, next) && region.insert(next) {
                    open.push(next);
                }
            }
        }
        region
    }

    /// Nothing but matrix products and shapes, with 16-bit types on both sides.
    fn is_demoted(&self, nodes: &[NodeAssignment], region: &BTreeSet<usize>) -> bool {
        let narrow = |id: &usize| nodes[*id].of.is_some_and(|of| of != FloatType::Fp32);
        let around = |forward| region.iter().flat_map(move |id| self.neighbours(*id, forward));
        if !region.iter().all(|id| self.is(*id, &GEMMS) || self.is_free(*id, region)) {
            return false;
        }
        let gives = |id: &usize| {
            let node = &self.view.nodes[*id];
            node.proto.output.iter().any(|name| self.outputs.contains(&(node.scope, name.as_str())))
        };
        if region.iter().any(gives) {
            return false;
        }
        let outside = |id: &usize| !region.contains(id);
        // Where a reader without a type of its own takes the result, it stays FP32.
        let reads_narrow =
            around(false).any(|id| narrow(&id)) || region.iter().any(|id| self.reads_narrow_input(*id));
        reads_narrow && around(true).filter(outside).all(|id| narrow(&id))
    }

    /// The bias or activation after the region that can be FP32, and the shape operators on the way to it.
    fn mend(&self, nodes: &[NodeAssignment], region: &BTreeSet<usize>) -> Option<Vec<usize>> {
        let able = |id: &usize| {
            self.view.nodes[*id].signature.role == Role::Typed
                && nodes[*id].of.is_some()
                && !region.contains(id)
        };
        let after = |ids: &mut dyn Iterator<Item = usize>| -> BTreeSet<usize> {
            ids.flat_map(|id| self.neighbours(id, true)).filter(able).collect()
        };
        let mut ways: Vec<Vec<usize>> =
            after(&mut region.iter().copied()).into_iter().map(|id| vec![id]).collect();
        let mut seen = BTreeSet::new();
        // The nearest first.
        while !ways.is_empty() {
            let mends = |id: &usize| self.is(*id, &MENDS) && !self.is_free(*id, region);
            if let Some(way) = ways.iter().find(|way| way.last().is_some_and(mends)) {
                return Some(way.clone());
            }
            let mut further = Vec::new();
            for way in &ways {
                let Some(last) = way.last().copied().filter(|id| self.is_free(*id, region)) else { continue };
                for next in after(&mut std::iter::once(last)) {
                    if seen.insert(next) {
                        further.push([way.as_slice(), &[next]].concat());
                    }
                }
            }
            ways = further;
        }
        None
    }

    fn refusal(&self, nodes: &[NodeAssignment], region: &BTreeSet<usize>, gemm: usize) -> Problem {
        let node = &self.view.nodes[gemm];
        let op = node.proto.op_type();
        let after: BTreeSet<usize> = region
            .iter()
            .flat_map(|id| self.neighbours(*id, true))
            .filter(|id| !region.contains(id) && nodes[*id].of.is_some())
            .collect();
        let message =
            format!("`{}` cannot stay FP32: TensorRT computes a lone {op} with half weights", node.name);
        let problem = Problem::hazard("fp32-gemm-demoted", message)
            .at_node(&node.name, op)
            .note("between Casts from and to 16 bits, an FP32 matrix product alone is demoted; a bias or activation in FP32 after it would prevent that, and there is none");
        let mut names: Vec<&str> = region.iter().map(|id| self.view.nodes[*id].name.as_str()).collect();
        names.extend(after.iter().map(|id| self.view.nodes[*id].name.as_str()));
        if after.is_empty() {
            return problem.help("let it be FP16, or keep the nodes after it FP32 too");
        }
        problem.paste(&format!("`{}` and what follows stay FP32", node.name), names)
    }
}
