//! The tables: scopes, nodes, values, and who makes and reads what.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::super::names::{sparse_name, subgraphs};
use super::super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use super::constant::Constant;
use super::names;

/// How far Casts and the like are followed. It bounds the work on graphs that are nothing but Casts.
pub(crate) const MAX_CHAIN: usize = 16;

/// A node, by its number in the view. Within a scope the numbers follow the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// A value, by its number in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueId(pub(crate) usize);

/// A node, as others can find it in the protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRef {
    /// The scope: 0 is the main graph.
    pub scope: usize,
    /// The index among the nodes of the scope.
    pub index: usize,
}

/// What a scope is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScopeKind<'a> {
    /// The graph of the model.
    Main,
    /// A graph in an attribute of a node.
    Subgraph {
        /// The node: an `If`, `Loop`, `Scan`, …
        owner: NodeId,
        /// The graph.
        graph: &'a GraphProto,
    },
    /// The body of a model-local function.
    Function(&'a FunctionProto),
}

/// A list of nodes with names of its own.
#[derive(Debug)]
pub struct Scope<'a> {
    /// What it is.
    pub kind: ScopeKind<'a>,
    /// The scope around it, whose values it can read.
    pub parent: Option<usize>,
    /// Opset of the default domain, 0 if it is not said.
    pub opset: i64,
    nodes: Range<usize>,
    values: BTreeMap<&'a str, ValueId>,
}

/// A node.
#[derive(Debug)]
pub struct Node<'a> {
    /// The node in the file.
    pub proto: &'a NodeProto,
    /// The scope it is in.
    pub scope: usize,
    /// Its name, unique in the model (see the rule in `names`).
    pub name: String,
    /// What it reads; none where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What it makes; none where an optional output is left out.
    pub outputs: Vec<Option<ValueId>>,
}

/// A value.
#[derive(Debug)]
pub struct Value<'a> {
    /// Its name.
    pub name: &'a str,
    /// The scope that defines it.
    pub scope: usize,
    /// The node that makes it.
    pub producer: Option<NodeId>,
    /// The nodes that read it, each once, in order; also those of inner scopes.
    pub consumers: Vec<NodeId>,
    /// The initializer that it is.
    pub initializer: Option<&'a TensorProto>,
    /// Is it an input of its scope?
    pub is_input: bool,
    /// Is it an output of a scope?
    pub is_output: bool,
    /// Its type and shape, where it is an input or output of a graph.
    pub declared: Option<&'a ValueInfoProto>,
    constant: bool,
}

/// A model as a graph.
#[derive(Debug)]
pub struct GraphView<'a> {
    scopes: Vec<Scope<'a>>,
    nodes: Vec<Node<'a>>,
    values: Vec<Value<'a>>,
}

impl<'a> GraphView<'a> {
    /// Makes the view of a model, whose nodes are sorted.
    #[must_use]
    pub fn new(model: &'a ModelProto) -> GraphView<'a> {
        let mut view = GraphView { scopes: Vec::new(), nodes: Vec::new(), values: Vec::new() };
        let mut waiting = VecDeque::new();
        let opset = default_opset(&model.opset_import);
        if let Some(graph) = &model.graph {
            view.graph(graph, ScopeKind::Main, None, opset, &mut waiting);
            view.drain(&mut waiting);
        }
        for function in &model.functions {
            view.function(function, opset, &mut waiting);
            view.drain(&mut waiting);
        }
        let names = names::unique(view.nodes.iter().map(|node| node.proto));
        view.nodes.iter_mut().zip(names).for_each(|(node, name)| node.name = name);
        view.mark_constants();
        view
    }

    fn drain(&mut self, waiting: &mut VecDeque<(NodeId, &'a GraphProto)>) {
        while let Some((owner, graph)) = waiting.pop_front() {
            let parent = self.nodes[owner.0].scope;
            let opset = self.scopes[parent].opset;
            self.graph(graph, ScopeKind::Subgraph { owner, graph }, Some(parent), opset, waiting);
        }
    }

    fn graph(
        &mut self,
        graph: &'a GraphProto,
        kind: ScopeKind<'a>,
        parent: Option<usize>,
        opset: i64,
        waiting: &mut VecDeque<(NodeId, &'a GraphProto)>,
    ) {
        let scope = self.open(kind, parent, opset);
        for input in &graph.input {
            if let Some(id) = self.define(scope, input.name()) {
                self.values[id.0].is_input = true;
                self.values[id.0].declared = Some(input);
            }
        }
        for tensor in &graph.initializer {
            if let Some(id) = self.define(scope, tensor.name()) {
                self.values[id.0].initializer = Some(tensor);
                self.values[id.0].constant = true;
            }
        }
        for sparse in &graph.sparse_initializer {
            if let Some(id) = self.define(scope, sparse_name(sparse)) {
                self.values[id.0].constant = true;
            }
        }
        self.body(scope, &graph.node, waiting);
        for output in &graph.output {
            if let Some(id) = self.resolve(scope, output.name()) {
                self.values[id.0].is_output = true;
                self.values[id.0].declared.get_or_insert(output);
            }
        }
    }

    fn function(
        &mut self,
        function: &'a FunctionProto,
        opset: i64,
        waiting: &mut VecDeque<(NodeId, &'a GraphProto)>,
    ) {
        let own = default_opset(&function.opset_import);
        let scope = self.open(ScopeKind::Function(function), None, if own > 0 { own } else { opset });
        for input in &function.input {
            if let Some(id) = self.define(scope, input) {
                self.values[id.0].is_input = true;
            }
        }
        self.body(scope, &function.node, waiting);
        for output in &function.output {
            if let Some(id) = self.resolve(scope, output) {
                self.values[id.0].is_output = true;
            }
        }
    }

    fn open(&mut self, kind: ScopeKind<'a>, parent: Option<usize>, opset: i64) -> usize {
        let nodes = self.nodes.len()..self.nodes.len();
        self.scopes.push(Scope { kind, parent, opset, nodes, values: BTreeMap::new() });
        self.scopes.len() - 1
    }

    fn body(
        &mut self,
        scope: usize,
        nodes: &'a [NodeProto],
        waiting: &mut VecDeque<(NodeId, &'a GraphProto)>,
    ) {
        let first = self.nodes.len();
        for (i, proto) in nodes.iter().enumerate() {
            let id = NodeId(first + i);
            let outputs = proto
                .output
                .iter()
                .map(|name| {
                    let value = self.define(scope, name)?;
                    self.values[value.0].producer = Some(id);
                    Some(value)
                })
                .collect();
            self.nodes.push(Node { proto, scope, name: String::new(), inputs: Vec::new(), outputs });
            waiting.extend(subgraphs(proto).map(|graph| (id, graph)));
        }
        self.scopes[scope].nodes = first..self.nodes.len();
        for (i, proto) in nodes.iter().enumerate() {
            let id = NodeId(first + i);
            let inputs: Vec<_> = proto.input.iter().map(|name| self.resolve(scope, name)).collect();
            for value in inputs.iter().flatten() {
                let consumers = &mut self.values[value.0].consumers;
                if consumers.last() != Some(&id) {
                    consumers.push(id);
                }
            }
            self.nodes[id.0].inputs = inputs;
        }
    }

    /// The value of this name in this very scope; made if it is new.
    fn define(&mut self, scope: usize, name: &'a str) -> Option<ValueId> {
        if name.is_empty() {
            return None;
        }
        let next = ValueId(self.values.len());
        let id = *self.scopes[scope].values.entry(name).or_insert(next);
        if id == next {
            self.values.push(Value {
                name,
                scope,
                producer: None,
                consumers: Vec::new(),
                initializer: None,
                is_input: false,
                is_output: false,
                declared: None,
                constant: false,
            });
        }
        Some(id)
    }

    /// The value of this name, as nodes of the scope see it. One that nothing defines is made.
    fn resolve(&mut self, scope: usize, name: &'a str) -> Option<ValueId> {
        self.find(scope, name).or_else(|| self.define(scope, name))
    }

    /// The value that nodes of a scope call by this name.
    #[must_use]
    pub fn find(&self, scope: usize, name: &str) -> Option<ValueId> {
        let mut at = Some(scope);
        while let Some(scope) = at.and_then(|at| self.scopes.get(at)) {
            if let Some(id) = scope.values.get(name) {
                return Some(*id);
            }
            at = scope.parent;
        }
        None
    }

    fn mark_constants(&mut self) {
        for i in 0..self.nodes.len() {
            let node = &self.nodes[i];
            let mut inputs = node.inputs.iter().flatten().peekable();
            let constant = match (node.proto.domain(), node.proto.op_type()) {
                ("", "Constant") => node.proto.attribute.iter().all(|a| a.ref_attr_name().is_empty()),
                ("", op) if op.starts_with("Random") || matches!(op, "Bernoulli" | "Multinomial") => false,
                ("" | "com.microsoft", _) => {
                    inputs.peek().is_some()
                        && inputs.all(|id| self.values[id.0].constant)
                        && subgraphs(node.proto).next().is_none()
                }
                _ => false,
            };
            if constant {
                for j in 0..self.nodes[i].outputs.len() {
                    if let Some(id) = self.nodes[i].outputs[j] {
                        self.values[id.0].constant = true;
                    }
                }
            }
        }
    }

    /// All scopes: the main graph first, then its subgraphs, then functions and theirs.
    #[must_use]
    pub fn scopes(&self) -> &[Scope<'a>] {
        &self.scopes
    }

    /// All nodes of all scopes.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node<'a>)> {
        self.nodes.iter().enumerate().map(|(i, node)| (NodeId(i), node))
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0]
    }

    /// Where a node is in the protobuf.
    #[must_use]
    pub fn node_ref(&self, id: NodeId) -> NodeRef {
        let scope = self.nodes[id.0].scope;
        NodeRef { scope, index: id.0 - self.scopes[scope].nodes.start }
    }

    /// The node at a place.
    #[must_use]
    pub fn at(&self, at: NodeRef) -> Option<NodeId> {
        let range = &self.scopes.get(at.scope)?.nodes;
        range.start.checked_add(at.index).filter(|i| *i < range.end).map(NodeId)
    }

    /// The number of values; their ids are below it.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// All values of all scopes.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value<'a>)> {
        self.values.iter().enumerate().map(|(i, value)| (ValueId(i), value))
    }

    /// A value.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value<'a> {
        &self.values[id.0]
    }

    /// The operator of a node: of the default domain by its name, of others none.
    #[must_use]
    pub fn op(&self, id: NodeId) -> &'a str {
        let proto = self.nodes[id.0].proto;
        if proto.domain().is_empty() { proto.op_type() } else { "" }
    }

    /// An input of a node.
    #[must_use]
    pub fn input(&self, id: NodeId, i: usize) -> Option<ValueId> {
        self.nodes[id.0].inputs.get(i).copied().flatten()
    }

    /// An output of a node.
    #[must_use]
    pub fn output(&self, id: NodeId, i: usize) -> Option<ValueId> {
        self.nodes[id.0].outputs.get(i).copied().flatten()
    }

    /// An attribute of a node; none if it refers to an attribute of the function around it, which
    /// differs from call to call.
    #[must_use]
    pub fn attribute(&self, id: NodeId, name: &str) -> Option<&'a AttributeProto> {
        let attributes = &self.nodes[id.0].proto.attribute;
        attributes.iter().find(|a| a.name() == name && a.ref_attr_name().is_empty())
    }

    /// An integer attribute, or its default. None if a caller of the function decides.
    #[must_use]
    pub fn int(&self, id: NodeId, name: &str, default: i64) -> Option<i64> {
        match self.nodes[id.0].proto.attribute.iter().find(|a| a.name() == name) {
            Some(a) => a.ref_attr_name().is_empty().then(|| a.i()),
            None => Some(default),
        }
    }

    /// Does a value not depend on any input: an initializer, a Constant, or computed from those alone?
    #[must_use]
    pub fn is_constant(&self, id: ValueId) -> bool {
        self.values[id.0].constant
    }

    /// The elements of a constant, Identity and Cast looked through. The elements are those before a
    /// Cast: none of those that stand before constants changes what is compared here.
    #[must_use]
    pub fn constant(&self, id: ValueId) -> Option<Constant<'a>> {
        let mut at = id;
        for _ in 0..MAX_CHAIN {
            let value = &self.values[at.0];
            if let Some(tensor) = value.initializer {
                return Some(Constant::Tensor(tensor));
            }
            let producer = value.producer?;
            match self.op(producer) {
                "Constant" => return Constant::of_node(self.nodes[producer.0].proto),
                "Identity" | "Cast" | "CastLike" => at = self.input(producer, 0)?,
                _ => return None,
            }
        }
        None
    }
}

fn default_opset(imports: &[OperatorSetIdProto]) -> i64 {
    imports.iter().find(|i| matches!(i.domain(), "" | "ai.onnx")).map_or(0, |i| i.version())
}
