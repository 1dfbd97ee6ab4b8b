//! Assignment -> the form in which every value is made and read, in the main graph and all subgraphs.
//!
//! What If, Loop and Scan take and give has the type of their node, and so have the inputs and outputs of their
//! subgraphs: a value that goes round keeps its type. Nodes that are opaque keep what is in the file.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::hazard::Reading;
use super::signature::{Role, Slot};
use super::view::{Key, View};
use crate::onnx;
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::{GraphProto, ValueInfoProto};

/// How a value is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// In this type.
    Plain(FloatType),
    /// In FP32, rounded to this type: what a product of 16 bits with FP32 accumulators reads. TensorRT makes
    /// such a product, and half weights, of an FP32 one between Casts.
    Rounded(FloatType),
}

impl Form {
    /// The type that is stored.
    pub(super) fn stored(self) -> FloatType {
        match self {
            Form::Plain(of) => of,
            Form::Rounded(_) => FloatType::Fp32,
        }
    }
}

/// A value of one of the three types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'m> {
    /// Its type in the file.
    pub(super) file: FloatType,
    /// The type that it is made in.
    pub(super) made: FloatType,
    /// Is it made as FP32 by a product with FP32 accumulators, and rounded to `made` by a Cast?
    pub(super) sandwiched: bool,
    /// What it is a Cast of, through all Casts.
    pub(super) source: Key<'m>,
    /// Can it be had in any form?
    pub(super) is_constant: bool,
}

impl Value<'_> {
    /// Equal forms of this value have one name.
    pub(super) fn normal(&self, form: Form) -> Form {
        match form {
            Form::Rounded(of) if of == self.made && !self.is_constant => Form::Plain(FloatType::Fp32),
            form => form,
        }
    }
}

/// What each node gets and gives.
pub(super) struct Plan<'v> {
    pub(super) view: &'v View<'v>,
    pub(super) values: BTreeMap<Key<'v>, Value<'v>>,
    /// Forms of inputs by node of the view; none for what is no float.
    pub(super) inputs: Vec<Vec<Option<Form>>>,
    /// The type of each node of the view; none for one that has none.
    pub(super) of: Vec<Option<FloatType>>,
    /// Has the node FP32 accumulators over inputs of 16 bits?
    pub(super) accumulates: Vec<bool>,
    /// The forms in which a constant is read, and by whom.
    pub(super) needs: BTreeMap<Key<'v>, BTreeMap<Form, Vec<Reading>>>,
    /// Types of the inputs and outputs of each graph, of those that are one of the three.
    pub(super) graph_inputs: BTreeMap<Key<'v>, FloatType>,
    pub(super) outputs: BTreeMap<Key<'v>, FloatType>,
}

impl<'v> Plan<'v> {
    /// `io` says which inputs and outputs of the model have another type than in the file.
    pub(super) fn new(
        view: &'v View<'v>,
        nodes: &[NodeAssignment],
        io: &BTreeMap<String, FloatType>,
    ) -> Plan<'v> {
        let count = view.nodes.len();
        let mut plan = Plan {
            view,
            values: BTreeMap::new(),
            inputs: vec![Vec::new(); count],
            of: vec![None; count],
            accumulates: nodes.iter().map(|node| node.accumulate.is_some()).collect(),
            needs: BTreeMap::new(),
            graph_inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
        };
        let declared = |value: &ValueInfoProto| {
            let of = FloatType::of_type(&onnx::Type::declared(value.r#type.as_ref()));
            let of = of.or_else(|| view.main_float(value.name()))?;
            Some(io.get(value.name()).copied().unwrap_or(of))
        };
        plan.graph(view.types.graph(), view.model.graph(), nodes, &declared);
        plan
    }

    /// A graph whose inputs and outputs have these types.
    fn graph(
        &mut self,
        scope: ScopeId,
        graph: &'v GraphProto,
        nodes: &[NodeAssignment],
        border: &dyn Fn(&ValueInfoProto) -> Option<FloatType>,
    ) {
        for output in &graph.output {
            self.outputs.extend(border(output).map(|of| ((scope, output.name()), of)));
        }
        for input in &graph.input {
            let of = border(input);
            self.graph_inputs.extend(of.map(|of| ((scope, input.name()), of)));
            self.define(scope, input.name(), of, false);
        }
        for tensor in &graph.initializer {
            self.define(scope, tensor.name(), None, true);
        }
        for sparse in graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()) {
            self.define(scope, sparse.name(), None, false);
        }
        let view = self.view;
        for id in view.graphs.get(&scope).map_or(&[][..], |(_, nodes)| nodes) {
            self.node(*id, nodes);
        }
        for output in &graph.output {
            let name = output.name();
            let Some(of) = self.outputs.get(&(scope, name)).copied() else { continue };
            let Some(key) = view.key(scope, name) else { continue };
            let Some(value) = self.values.get(&key).copied() else { continue };
            if value.source == key {
                self.need(scope, name, Form::Plain(of), Reading::Output);
            } else if let Some(source) = self.values.get(&value.source).copied() {
                // The Cast stays, since the output is called by its name.
                self.need(scope, name, Form::Plain(source.made), Reading::Output);
            }
        }
    }

    fn define(&mut self, scope: ScopeId, name: &'v str, made: Option<FloatType>, is_constant: bool) {
        if let Some(file) = self.view.float(scope, name) {
            let (made, source) = (made.unwrap_or(file), (scope, name));
            self.values.insert(source, Value { file, made, sandwiched: false, source, is_constant });
        }
    }

    /// The value that is called so in this scope.
    pub(super) fn value(&self, scope: ScopeId, name: &str) -> Option<Value<'v>> {
        let at = self.view.types.scope_of(scope, name)?;
        self.values.get(&(at, name)).copied()
    }

    /// The value behind all Casts.
    pub(super) fn source(&self, scope: ScopeId, name: &str) -> Option<(Key<'v>, Value<'v>)> {
        let source = self.value(scope, name)?.source;
        Some((source, *self.values.get(&source)?))
    }

    fn need(&mut self, scope: ScopeId, name: &str, form: Form, reading: Reading) {
        if let Some((source, value)) = self.source(scope, name)
            && value.is_constant
        {
            self.needs.entry(source).or_default().entry(form).or_default().push(reading);
        }
    }

    fn node(&mut self, id: usize, nodes: &[NodeAssignment]) {
        let view = self.view;
        let node = &view.nodes[id];
        let (proto, signature, scope) = (node.proto, &node.signature, node.scope);
        let of = match &signature.role {
            Role::Typed => nodes[id].of,
            Role::Reader => self.reader_type(id),
            Role::Transparent | Role::Constant | Role::Opaque(_) => None,
        };
        let mut wanted = Vec::with_capacity(proto.input.len());
        for (i, name) in proto.input.iter().enumerate() {
            let value = self.value(scope, name);
            let want = value.and_then(|value| match (&signature.role, signature.inputs.get(i)) {
                (Role::Transparent, _) => None,
                (_, Some(Slot::Follows)) if self.accumulates[id] && !is_added(proto, i) => {
                    of.map(Form::Rounded)
                }
                (_, Some(Slot::Follows)) => of.map(Form::Plain),
                (_, Some(Slot::Free)) => self.source(scope, name).map(|(_, source)| Form::Plain(source.made)),
                (_, Some(Slot::Fixed) | None) => Some(Form::Plain(value.file)),
            });
            if let Some(want) = want {
                self.need(scope, name, want, Reading::Node { id, input: i });
            }
            wanted.push(want);
        }
        for (inner, graph) in view.inner(id) {
            let border = |value: &ValueInfoProto| {
                let file = view.float(inner, value.name())?;
                Some(of.unwrap_or(file))
            };
            self.graph(inner, graph, nodes, &border);
        }
        for (i, output) in proto.output.iter().enumerate() {
            if output.is_empty() {
                continue;
            }
            let made = of.filter(|_| signature.outputs.get(i) == Some(&Slot::Follows));
            self.define(scope, output, made, signature.role == Role::Constant);
            let source = match (&signature.role, proto.input.first()) {
                (Role::Transparent, Some(input)) => self.source(scope, input).map(|(source, _)| source),
                _ => None,
            };
            if let Some(value) = self.values.get_mut(&(scope, output.as_str())) {
                value.source = source.unwrap_or(value.source);
                value.sandwiched = self.accumulates[id] && !has_addend(proto);
            }
        }
        self.inputs[id] = wanted;
        self.of[id] = of;
    }

    /// A node without a float result takes its inputs as they come, if they come in one type.
    fn reader_type(&self, id: usize) -> Option<FloatType> {
        let node = &self.view.nodes[id];
        let follows = node.proto.input.iter().zip(&node.signature.inputs);
        let follows = follows.filter(|(_, slot)| **slot == Slot::Follows).map(|(name, _)| name);
        let sources: Vec<Value<'_>> =
            follows.filter_map(|name| self.source(node.scope, name)).map(|(_, v)| v).collect();
        let made: BTreeSet<FloatType> =
            sources.iter().filter(|source| !source.is_constant).map(|source| source.made).collect();
        let of = match (made.len(), made.first(), sources.first()) {
            (0, _, Some(constant)) => constant.file,
            (1, Some(of), _) => *of,
            _ => FloatType::Fp32,
        };
        Some(if node.signature.denial(of).is_some() { FloatType::Fp32 } else { of })
    }

    /// The form in which a constant keeps its name, and all forms that it is needed in.
    pub(super) fn forms_of_constant(&self, key: Key<'_>) -> (Form, Vec<Form>) {
        let file = Form::Plain(self.values.get(&key).map_or(FloatType::Fp32, |value| value.file));
        let needed: Vec<Form> = self.needs.get(&key).into_iter().flat_map(|n| n.keys()).copied().collect();
        let own = match self.outputs.get(&key) {
            Some(declared) => Form::Plain(*declared),
            None if needed.contains(&file) => file,
            None => needed.first().copied().unwrap_or(file),
        };
        (own, needed)
    }
}

/// A Gemm that adds a matrix to its product. TensorRT makes no product with FP32 accumulators of it, so that the
/// sum becomes a node of its own.
pub(super) fn has_addend(proto: &onnx::proto::NodeProto) -> bool {
    proto.op_type() == "Gemm" && proto.input.get(2).is_some_and(|name| !name.is_empty())
}

/// Is this input what such a Gemm adds?
fn is_added(proto: &onnx::proto::NodeProto, input: usize) -> bool {
    proto.op_type() == "Gemm" && input == 2
}
