//! A model as rules see it: all its nodes, those of subgraphs too, with the types of their values.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use rayon::prelude::*;

use super::float::FloatType;
use super::made::constant_tensor;
use super::signature::{Role, Signature};
use super::spec::Capabilities;
use super::weights::Span;
use crate::onnx::graph::Constant;
use crate::onnx::infer::{ElementTypes, ScopeId};
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};
use crate::onnx::{self, Model};

/// A node of the graph or of a subgraph.
pub(super) struct Node<'m> {
    pub(super) proto: &'m NodeProto,
    /// Its name; for one without a name, `node_of_` and its first output.
    pub(super) name: String,
    pub(super) scope: ScopeId,
    /// Its place in the nodes of its graph.
    pub(super) index: usize,
    /// The nodes whose subgraphs it lies in, outermost first, as indices of [`View::nodes`].
    pub(super) owners: Vec<usize>,
    /// Which of its inputs and outputs follow its type.
    pub(super) signature: Signature,
}

impl Node<'_> {
    /// Can rules give it a type?
    pub(super) fn is_typable(&self, view: &View<'_>) -> bool {
        !matches!(self.signature.role, Role::Transparent | Role::Constant)
            && self.proto.output.iter().any(|output| view.float(self.scope, output).is_some())
    }
}

/// All nodes of a model, in order; those of subgraphs follow their node.
pub(super) struct View<'m> {
    pub(super) model: &'m Model,
    pub(super) types: &'m ElementTypes,
    pub(super) nodes: Vec<Node<'m>>,
    /// The nodes of the main graph by their index there, as indices of `nodes`.
    pub(super) top: Vec<usize>,
    /// The main graph and all subgraphs, with their nodes as indices of `nodes`.
    pub(super) graphs: BTreeMap<ScopeId, (&'m GraphProto, Vec<usize>)>,
    /// Within what the initializers of the main graph lie, by name: all weights are read, once.
    spans: OnceLock<BTreeMap<String, Span>>,
    /// Where constants are, by scope and name.
    constants: OnceLock<BTreeMap<(ScopeId, String), Place>>,
}

/// Where a constant is.
#[derive(Clone, Copy)]
enum Place {
    /// Among the initializers of its graph.
    Initializer(usize),
    /// A node, as an index of [`View::nodes`].
    Node(usize),
}

/// A value, by the scope that defines it and its name.
pub(super) type Key<'a> = (ScopeId, &'a str);

impl<'m> View<'m> {
    pub(super) fn new(model: &'m Model, types: &'m ElementTypes, capabilities: &Capabilities) -> View<'m> {
        let mut view = View {
            model,
            types,
            nodes: Vec::new(),
            top: Vec::new(),
            graphs: BTreeMap::new(),
            spans: OnceLock::new(),
            constants: OnceLock::new(),
        };
        let functions = model.proto().functions.iter().map(|f| (f.domain(), f.name())).collect();
        let opsets = model.proto().opset_import.iter().map(|o| (o.domain(), o.version())).collect();
        let facts = Facts { functions, opsets, capabilities };
        view.walk(model.graph(), types.graph(), &[], &facts);
        view
    }

    fn walk(&mut self, graph: &'m GraphProto, scope: ScopeId, owners: &[usize], facts: &Facts<'_>) {
        self.graphs.insert(scope, (graph, Vec::new()));
        let sparse: BTreeSet<&str> =
            graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())).collect();
        for (index, proto) in graph.node.iter().enumerate() {
            let signature = Signature::of(proto, (scope, index), self.types, facts, &sparse);
            let id = self.nodes.len();
            if let Some((_, nodes)) = self.graphs.get_mut(&scope) {
                nodes.push(id);
            }
            let (name, owners) = (onnx::node_name(proto), owners.to_vec());
            if owners.is_empty() {
                self.top.push(id);
            }
            let mut inside = owners.clone();
            inside.push(id);
            self.nodes.push(Node { proto, name, scope, index, owners, signature });
            for (ordinal, inner) in onnx::subgraphs(proto).enumerate() {
                if let Some(scope) = self.types.subgraph(scope, index, ordinal) {
                    self.walk(inner, scope, &inside, facts);
                }
            }
        }
    }

    /// The value that is called so in this scope, here or around it.
    pub(super) fn key<'a>(&self, scope: ScopeId, name: &'a str) -> Option<Key<'a>> {
        Some((self.types.scope_of(scope, name)?, name))
    }

    /// The node whose subgraphs keep their types, if it lies in some of these.
    pub(super) fn opaque_owner(&self, id: usize) -> Option<usize> {
        let is_opaque = |id: &&usize| matches!(self.nodes[**id].signature.role, Role::Opaque(_));
        self.nodes[id].owners.iter().find(is_opaque).copied()
    }

    /// The subgraphs of a node, with their scopes.
    pub(super) fn inner(&self, id: usize) -> impl Iterator<Item = (ScopeId, &'m GraphProto)> {
        let node = &self.nodes[id];
        let (scope, index) = (node.scope, node.index);
        let inner = onnx::subgraphs(node.proto).enumerate();
        inner.filter_map(move |(i, graph)| Some((self.types.subgraph(scope, index, i)?, graph)))
    }

    /// Within what a constant lies that is called so in this scope.
    pub(super) fn span(&self, scope: ScopeId, name: &str, tensor: &TensorProto) -> Span {
        let spans = || {
            let all = self.model.graph().initializer.par_iter();
            all.map(|tensor| (tensor.name().to_owned(), Span::of(tensor))).collect()
        };
        let known = (scope == self.types.graph()).then(|| self.spans.get_or_init(spans).get(name).copied());
        known.flatten().unwrap_or_else(|| Span::of(tensor))
    }

    /// The constant that is called so in this scope, here or around it: an initializer, or what a Constant gives.
    pub(super) fn constant(&self, scope: ScopeId, name: &str) -> Option<Cow<'m, TensorProto>> {
        let constants = || {
            let mut constants = BTreeMap::new();
            for (scope, (graph, _)) in &self.graphs {
                let initializers = graph.initializer.iter().enumerate();
                constants.extend(
                    initializers.map(|(i, t)| ((*scope, t.name().to_owned()), Place::Initializer(i))),
                );
            }
            for (id, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.proto.op_type() == "Constant") {
                let made = node.proto.output.first();
                constants.extend(made.map(|name| ((node.scope, name.clone()), Place::Node(id))));
            }
            constants
        };
        let (scope, name) = self.key(scope, name)?;
        match *self.constants.get_or_init(constants).get(&(scope, name.to_owned()))? {
            Place::Initializer(i) => self.graphs.get(&scope)?.0.initializer.get(i).map(Cow::Borrowed),
            Place::Node(id) => constant_tensor(self.nodes[id].proto).map(Cow::Owned),
        }
    }

    /// The one number that a constant holds throughout.
    pub(super) fn number(&self, scope: ScopeId, name: &str) -> Option<f64> {
        Constant::Tensor(&*self.constant(scope, name)?).uniform()
    }

    /// The opset of ONNX's own operators; 0 if there is none.
    pub(super) fn opset(&self) -> i64 {
        self.model.opset().unwrap_or(0)
    }

    /// The type of a value, if it is one of the three.
    pub(super) fn float(&self, scope: ScopeId, name: &str) -> Option<FloatType> {
        if name.is_empty() { None } else { FloatType::of_type(self.types.get(scope, name)) }
    }

    /// The type of a value of the main graph, if it is one of the three.
    pub(super) fn main_float(&self, name: &str) -> Option<FloatType> {
        self.float(self.types.graph(), name)
    }
}

/// What signatures are made from, beside the node.
pub(super) struct Facts<'m> {
    pub(super) functions: BTreeSet<(&'m str, &'m str)>,
    pub(super) opsets: BTreeMap<&'m str, i64>,
    pub(super) capabilities: &'m Capabilities,
}
