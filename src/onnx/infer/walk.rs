//! The walk through a model in the order of its data.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::super::calls::Functions;
use super::super::element::Type;
use super::super::names::{plain, sparse_name, subgraphs};
use super::super::proto::tensor_proto::DataType;
use super::super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::super::schema::schema;
use super::rules::{self, Attributes};
use super::{Body, Conflict, Declared, ElementTypes, Scope, ScopeId, lookup, version};

/// How deep subgraphs and calls may nest; what lies deeper is not inferred. Far above real models.
const MAX_DEPTH: usize = 64;

/// How many nodes of functions are walked, each as often as it is called in another way. Real models stay
/// below some ten thousand; functions that call functions twice could make it any number.
const MAX_FUNCTION_NODES: usize = 1_000_000;

/// What surrounds the nodes of a graph or function.
#[derive(Clone, Copy)]
struct Frame<'f, 'm> {
    scope: ScopeId,
    /// Index of the function.
    function: Option<usize>,
    /// Attributes that the function was called with.
    attributes: &'f BTreeMap<&'m str, &'m AttributeProto>,
    /// What the graph declares of its values and outputs, or the function of its values.
    hints: &'f IndexMap<&'m str, &'m ValueInfoProto>,
    depth: usize,
}

/// A function with all that decides its types.
type Call<'m> = (usize, Vec<Type>, Vec<AttributeKey<'m>>);

/// What may matter of an attribute: its name, kind, number, string, and element type of its tensor. A
/// subgraph or type is taken by its address.
type AttributeKey<'m> = (&'m str, i32, i64, &'m [u8], i32, usize);

pub(super) struct Walk<'m> {
    model: &'m ModelProto,
    declared: &'m Declared,
    functions: Functions<'m>,
    scopes: Vec<Scope>,
    calls: BTreeMap<Call<'m>, ScopeId>,
    /// Functions that are being walked: ONNX forbids recursion.
    active: Vec<usize>,
    function_nodes: usize,
    from_value_info: BTreeMap<Option<usize>, BTreeSet<String>>,
    conflicts: BTreeMap<(ScopeId, usize), Conflict>,
}

/// One type, or two that contradict each other.
type Agreed = Result<Type, (Type, Type)>;

impl<'m> Walk<'m> {
    pub(super) fn new(model: &'m ModelProto, declared: &'m Declared) -> Walk<'m> {
        Walk {
            model,
            declared,
            functions: Functions::new(&model.functions),
            scopes: Vec::new(),
            calls: BTreeMap::new(),
            active: Vec::new(),
            function_nodes: 0,
            from_value_info: BTreeMap::new(),
            conflicts: BTreeMap::new(),
        }
    }

    pub(super) fn model(mut self) -> ElementTypes {
        let scope = self.push(None, Body::Graph);
        if let Some(graph) = &self.model.graph {
            let (attributes, hints) = (&BTreeMap::new(), &IndexMap::new());
            self.graph(graph, &[], Frame { scope, function: None, attributes, hints, depth: 0 });
        }
        let Walk { scopes, from_value_info, conflicts, .. } = self;
        ElementTypes { scopes, from_value_info, conflicts }
    }

    fn push(&mut self, parent: Option<ScopeId>, body: Body) -> ScopeId {
        self.scopes.push(Scope::new(parent, body));
        ScopeId(self.scopes.len() - 1)
    }

    fn define(&mut self, scope: ScopeId, name: &str, of: Type) {
        if !name.is_empty() {
            self.scopes[scope.0].values.insert(name.to_owned(), of);
        }
    }

    fn get(&self, scope: ScopeId, name: &str) -> Type {
        if name.is_empty() { Type::Unknown } else { lookup(&self.scopes, scope, name).clone() }
    }

    /// Infers a graph whose inputs have these types, as far as they are known; else they have the declared ones.
    fn graph(&mut self, graph: &'m GraphProto, inputs: &[Type], frame: Frame<'_, 'm>) -> Vec<Type> {
        for (i, input) in graph.input.iter().enumerate() {
            let given = inputs.get(i).filter(|of| !of.is_unknown()).cloned();
            let of = given.unwrap_or_else(|| Type::declared(input.r#type.as_ref()));
            self.define(frame.scope, input.name(), of);
        }
        for tensor in &graph.initializer {
            self.define(frame.scope, tensor.name(), Type::tensor(tensor.data_type()));
        }
        for sparse in &graph.sparse_initializer {
            let of = sparse.values.as_ref().map_or(Type::Unknown, |t| Type::tensor(t.data_type()));
            self.define(frame.scope, sparse_name(sparse), of);
        }
        // Of two declarations the first counts, and that of an output before all: they are what the canonical form keeps.
        let hints = hints(graph.output.iter().chain(&graph.value_info));
        self.nodes(&graph.node, Frame { hints: &hints, ..frame });
        graph.output.iter().map(|output| self.get(frame.scope, output.name())).collect()
    }

    fn nodes(&mut self, nodes: &'m [NodeProto], frame: Frame<'_, 'm>) {
        for (i, node) in nodes.iter().enumerate() {
            if frame.function.is_some() {
                self.function_nodes += 1;
            }
            let mut made = self.node(i, node, frame).into_iter();
            let declared = self.declared;
            let operator = || declared.operators.get(&(node.domain().to_owned(), node.op_type().to_owned()));
            for (k, name) in node.output.iter().enumerate() {
                let mut of = made.next().unwrap_or_default();
                if of.is_unknown() && !name.is_empty() {
                    let own = declared.values.get(name).filter(|_| frame.function.is_none());
                    of = own.or_else(|| operator()?.get(k)).cloned().unwrap_or_default();
                }
                if let Some(hint) = frame.hints.get(name.as_str()).filter(|_| of.is_unknown()) {
                    of = Type::declared(hint.r#type.as_ref());
                    self.from_value_info.entry(frame.function).or_default().insert(name.clone());
                }
                self.define(frame.scope, name, of);
            }
        }
    }

    /// Types of the outputs of a node, as far as they are known.
    fn node(&mut self, index: usize, node: &'m NodeProto, frame: Frame<'_, 'm>) -> Vec<Type> {
        let inputs: Vec<Type> = node.input.iter().map(|name| self.get(frame.scope, name)).collect();
        let domain = plain(node.domain());
        if let Some(function) = self.functions.called_by(node) {
            return self.call(function, index, node, &inputs, frame);
        }
        let attributes = Attributes::new(node, frame.attributes);
        let version = version(self.model, frame.function, domain);
        match (domain, node.op_type()) {
            ("", "If") => {
                let branches = self.subgraphs(index, node, frame, &[]);
                let made = (0..node.output.len()).map(|k| agreed(branches.iter().filter_map(|b| b.get(k))));
                self.settled(frame.scope, index, made)
            }
            ("", "Loop") => {
                // Iteration and condition come first; then the values that go round.
                let round = inputs.get(2..).unwrap_or_default();
                let first = [DataType::Int64, DataType::Bool].map(Type::Tensor);
                let bodies = self.subgraphs(index, node, frame, &[&first, round].concat());
                let made = bodies.first().and_then(|made| made.get(1..)).unwrap_or_default();
                self.settled(frame.scope, index, carried(round, made))
            }
            ("", "Scan") => {
                let given = inputs.get(usize::from(version < 9)..).unwrap_or_default();
                let scanned = usize::try_from(attributes.int("num_scan_inputs").unwrap_or(0)).unwrap_or(0);
                let states = &given[..given.len().saturating_sub(scanned)];
                let bodies = self.subgraphs(index, node, frame, given);
                let made = bodies.first().map(Vec::as_slice).unwrap_or_default();
                self.settled(frame.scope, index, carried(states, made))
            }
            ("", "SequenceMap") => {
                let item = |of: &Type| match of {
                    Type::Sequence(of) => (**of).clone(),
                    other => other.clone(),
                };
                let items: Vec<Type> = inputs.iter().map(item).collect();
                let bodies = self.subgraphs(index, node, frame, &items);
                bodies.into_iter().next().unwrap_or_default().into_iter().map(Type::sequence).collect()
            }
            (domain, op) => {
                self.subgraphs(index, node, frame, &[]);
                let schema = schema(domain, op, version);
                let mut made =
                    schema.map(|s| rules::by_schema(s, &inputs, node.output.len())).unwrap_or_default();
                made.resize(node.output.len(), Type::Unknown);
                rules::by_operator(domain, op, &inputs, attributes, &mut made);
                made
            }
        }
    }

    /// The types that were agreed upon. What was not is unknown, and remembered: the first of a node.
    fn settled(&mut self, scope: ScopeId, node: usize, made: impl Iterator<Item = Agreed>) -> Vec<Type> {
        let mut settle = |(output, agreed): (usize, Agreed)| {
            agreed.unwrap_or_else(|types| {
                self.conflicts.entry((scope, node)).or_insert(Conflict { output, types });
                Type::Unknown
            })
        };
        made.enumerate().map(&mut settle).collect()
    }

    /// Infers the subgraphs of a node, whose inputs have these types: types of the outputs of each.
    fn subgraphs(
        &mut self,
        index: usize,
        node: &'m NodeProto,
        frame: Frame<'_, 'm>,
        inputs: &[Type],
    ) -> Vec<Vec<Type>> {
        if frame.depth >= MAX_DEPTH {
            return Vec::new();
        }
        let mut made = Vec::new();
        for (ordinal, graph) in subgraphs(node).enumerate() {
            let scope = self.push(Some(frame.scope), Body::Subgraph { node: index, ordinal });
            self.scopes[frame.scope.0].subgraphs.insert((index, ordinal), scope);
            let inner = Frame { scope, depth: frame.depth + 1, ..frame };
            made.push(self.graph(graph, inputs, inner));
        }
        made
    }

    /// Infers a call of a model-local function.
    fn call(
        &mut self,
        index: usize,
        node_index: usize,
        node: &'m NodeProto,
        inputs: &[Type],
        frame: Frame<'_, 'm>,
    ) -> Vec<Type> {
        let function = &self.model.functions[index];
        let mut attributes: BTreeMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        let given = Attributes::new(node, frame.attributes);
        attributes.extend(given.all().filter(|(name, _)| {
            let known = |a: &AttributeProto| a.name() == *name;
            function.attribute.iter().any(|a| a == name) || function.attribute_proto.iter().any(known)
        }));

        let mut types = inputs.to_vec();
        types.resize(function.input.len(), Type::Unknown);
        let key = (index, types, attributes.iter().map(|(name, a)| attribute_key(name, a)).collect());
        let scope = match self.calls.get(&key) {
            Some(scope) => *scope,
            None => {
                let full = self.function_nodes + function.node.len() > MAX_FUNCTION_NODES;
                if full || frame.depth >= MAX_DEPTH || self.active.contains(&index) {
                    return Vec::new();
                }
                let scope = self.push(None, Body::Function { index });
                for (name, of) in function.input.iter().zip(&key.1) {
                    self.define(scope, name, of.clone());
                }
                self.active.push(index);
                let (depth, hints) = (frame.depth + 1, &hints(function.value_info.iter()));
                let inner = Frame { scope, function: Some(index), attributes: &attributes, hints, depth };
                self.nodes(&function.node, inner);
                self.active.pop();
                self.calls.insert(key, scope);
                scope
            }
        };
        self.scopes[frame.scope.0].calls.insert(node_index, scope);
        function.output.iter().map(|name| self.get(scope, name)).collect()
    }
}

/// What is declared of values, by name; of two declarations, the first.
fn hints<'m>(declared: impl Iterator<Item = &'m ValueInfoProto>) -> IndexMap<&'m str, &'m ValueInfoProto> {
    let mut hints = IndexMap::new();
    for value in declared {
        hints.entry(value.name()).or_insert(value);
    }
    hints
}

/// What goes round has one type, in and out; only an optional may come out as what it holds. What a body makes
/// beyond that keeps its own.
fn carried<'t>(given: &'t [Type], made: &'t [Type]) -> impl Iterator<Item = Agreed> + 't {
    (0..given.len().max(made.len())).map(|i| match (given.get(i), made.get(i)) {
        (Some(Type::Optional(of)), Some(after)) if !matches!(after, Type::Optional(_) | Type::Unknown) => {
            agreed([&**of, after].into_iter())
        }
        (before, after) => agreed(before.into_iter().chain(after)),
    })
}

/// The type that all of these are.
fn agreed<'t>(types: impl Iterator<Item = &'t Type>) -> Agreed {
    let mut types = types;
    types.try_fold(Type::Unknown, |of, other| of.unify(other).ok_or((of, other.clone())))
}

fn attribute_key<'m>(name: &'m str, attribute: &'m AttributeProto) -> AttributeKey<'m> {
    let element = attribute.t.as_ref().map_or(0, |t| t.data_type());
    let by_address = attribute.g.is_some() || attribute.tp.is_some() || !attribute.graphs.is_empty();
    let address = if by_address { std::ptr::from_ref(attribute).addr() } else { 0 };
    (name, attribute.r#type.unwrap_or(0), attribute.i(), attribute.s(), element, address)
}
