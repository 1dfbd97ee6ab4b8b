//! Model-local functions put in the place of their calls, so that every node computes in one known type.
//!
//! A node of a function is called `CALL/NODE` afterwards, and so are its values. A call stays if its function means
//! other versions of operators than the graph, or is called from too deep; TensorRT finds it by its name then, and where
//! it would misread it, the model is refused.

use std::collections::BTreeMap;

use prost::Message;

use super::calls::{Functions, MAX_BYTES, MAX_INLINED};
use super::error::Problems;
use super::names::{Names, node_name, operator, plain, sparse_name, subgraphs, subgraphs_mut};
use super::opset;
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use super::read::Model;
use super::schema::schema;
use crate::diagnostic::Diagnostic;

/// How deep calls may nest.
const MAX_DEPTH: usize = 24;

/// The model without calls of its functions, as far as that can be; none if it has no functions.
pub(crate) fn inline(model: &Model) -> Option<Model> {
    let proto = model.proto();
    if proto.functions.is_empty() {
        return None;
    }
    let mut graph = model.graph().clone();
    let mut names = Names::default();
    names.graph(&graph);
    let functions = Functions::new(&proto.functions);
    let mut inliner = Inliner {
        proto,
        functions,
        names,
        imports: BTreeMap::new(),
        declared: Vec::new(),
        made: 0,
        brought: 0,
    };
    inliner.graph(&mut graph, 0);
    let mut inlined = model.with_graph(graph);
    for (domain, version) in inliner.imports {
        inlined.proto.opset_import.push(OperatorSetIdProto { domain: Some(domain), version: Some(version) });
    }
    Some(inlined)
}

/// Tells the calls that [`inline`] had to leave and that TensorRT would misread: it looks for a function by its name alone,
/// in the opset of the graph, and takes attributes that a call does not give for 0.
pub(super) fn check(model: &Model, problems: &mut Problems) {
    let proto = model.proto();
    let functions = Functions::new(&proto.functions);
    let mut open = vec![model.graph()];
    while let Some(graph) = open.pop() {
        for node in &graph.node {
            open.extend(subgraphs(node));
            let Some(function) = functions.called_by(node).map(|index| &proto.functions[index]) else {
                continue;
            };
            if is_read_right(node, function, proto) {
                continue;
            }
            let (name, op) = (node_name(node), operator(node.domain(), node.op_type()));
            let message = format!("the function `{op}` cannot stand in the place of its call `{name}`");
            let note = "it means other versions of operators than the graph, is called from too deep, or is given too much";
            let help =
                "export the model with functions of its own opset, or without functions: `onnx.inliner`";
            problems.push_at(node, Diagnostic::error("function-not-inlined", message).note(note).help(help));
        }
    }
}

/// Does TensorRT find this function, and read it as ONNX says?
fn is_read_right(call: &NodeProto, function: &FunctionProto, model: &ModelProto) -> bool {
    let namesakes = model.functions.iter().filter(|other| other.name() == function.name()).count();
    if namesakes > 1 || schema("", function.name(), i64::MAX).is_some() {
        return false;
    }
    let version = |imports: &[OperatorSetIdProto]| {
        imports.iter().find(|i| plain(i.domain()).is_empty()).map(OperatorSetIdProto::version)
    };
    let outer = version(&model.opset_import);
    let own = version(&function.opset_import).or(outer);
    let given = |a: &AttributeProto| {
        a.ref_attr_name().is_empty() || call.attribute.iter().any(|given| given.name() == a.ref_attr_name())
    };
    let mut open = vec![&function.node];
    while let Some(nodes) = open.pop() {
        for node in nodes {
            let is_same = !plain(node.domain()).is_empty()
                || own.zip(outer).is_some_and(|(own, outer)| opset::is_same(node.op_type(), own, outer));
            let is_call = || model.functions.iter().any(|f| f.name() == node.op_type());
            if !is_same || is_call() || !node.attribute.iter().all(given) {
                return false;
            }
            open.extend(subgraphs(node).map(|graph| &graph.node));
        }
    }
    true
}

struct Inliner<'m> {
    proto: &'m ModelProto,
    functions: Functions<'m>,
    names: Names,
    /// Domains that functions use and the graph did not.
    imports: BTreeMap<String, i64>,
    /// What functions declare of values that now lie in the graph at hand.
    declared: Vec<ValueInfoProto>,
    /// How many nodes calls became.
    made: u64,
    /// Bytes of the attributes that they brought along.
    brought: u64,
}

/// New names of the values of a function, and of each subgraph in it on the way to a node, innermost last.
type Scopes = Vec<BTreeMap<String, String>>;

fn renamed<'s>(scopes: &'s Scopes, name: &str) -> Option<&'s String> {
    scopes.iter().rev().find_map(|scope| scope.get(name))
}

/// The number of nodes, those of subgraphs included.
fn count(nodes: &[NodeProto]) -> u64 {
    nodes.iter().map(|node| 1 + subgraphs(node).map(|graph| count(&graph.node)).sum::<u64>()).sum()
}

impl<'m> Inliner<'m> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) {
        let around = std::mem::take(&mut self.declared);
        let nodes = std::mem::take(&mut graph.node);
        graph.node = self.nodes(nodes, depth);
        // Behind its own, which count before.
        graph.value_info.extend(std::mem::replace(&mut self.declared, around));
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Vec<NodeProto> {
        let mut all = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for graph in subgraphs_mut(&mut node) {
                self.graph(graph, depth);
            }
            match self.function(&node).filter(|function| self.fits(&node, function, depth)) {
                Some(function) => {
                    let body = self.call(&node, function);
                    all.extend(self.nodes(body, depth + 1));
                }
                None => all.push(node),
            }
        }
        all
    }

    fn function(&self, node: &NodeProto) -> Option<&'m FunctionProto> {
        self.functions.called_by(node).map(|index| &self.proto.functions[index])
    }

    /// Can its body stand in the graph? Says so once, and imports what it needs.
    fn fits(&mut self, call: &NodeProto, function: &FunctionProto, depth: usize) -> bool {
        let brought = self.brought.saturating_add(brought(&function.node, &given(call, function)));
        let mut wanted = BTreeMap::new();
        let fits = depth < MAX_DEPTH
            // A model that was read has no more, but for what attributes bring along.
            && self.made <= MAX_INLINED
            && brought <= MAX_BYTES
            && function.node.iter().all(|node| self.means_the_same(node, function, &mut wanted));
        if fits {
            self.brought = brought;
            self.imports.extend(wanted);
        }
        fits
    }

    /// Is an operator the same in the function's opset and in the model's?
    fn means_the_same(
        &self,
        node: &NodeProto,
        function: &FunctionProto,
        wanted: &mut BTreeMap<String, i64>,
    ) -> bool {
        let domain = plain(node.domain());
        let version = |imports: &[OperatorSetIdProto]| {
            imports.iter().find(|i| plain(i.domain()) == domain).map(OperatorSetIdProto::version)
        };
        let own = version(&function.opset_import).or_else(|| version(&self.proto.opset_import));
        let outer = version(&self.proto.opset_import).or_else(|| self.imports.get(domain).copied());
        let same = match (own, outer) {
            (Some(own), Some(outer)) => {
                let since = |version| schema(domain, node.op_type(), version).map(|s| s.since_version);
                own == outer || (since(own).is_some() && since(own) == since(outer))
            }
            (Some(own), None) => {
                wanted.insert(domain.to_owned(), own);
                true
            }
            (None, _) => false,
        };
        same && subgraphs(node)
            .all(|graph| graph.node.iter().all(|node| self.means_the_same(node, function, wanted)))
    }

    /// The nodes of a function in the place of a call.
    fn call(&mut self, call: &NodeProto, function: &FunctionProto) -> Vec<NodeProto> {
        let prefix = node_name(call);
        let mut names = BTreeMap::new();
        for (i, input) in function.input.iter().enumerate() {
            names.insert(input.clone(), call.input.get(i).cloned().unwrap_or_default());
        }
        // What is given back has the name that the caller wants; what cannot have it is passed on by an Identity.
        let mut passed = Vec::new();
        for (output, wanted) in function.output.iter().zip(&call.output).filter(|(_, w)| !w.is_empty()) {
            if names.contains_key(output) {
                passed.push((output.clone(), wanted.clone()));
            } else {
                names.insert(output.clone(), wanted.clone());
            }
        }
        let attributes = given(call, function);
        let mut body = function.node.clone();
        let mut scopes = vec![names];
        body.iter_mut().for_each(|node| self.node(node, &prefix, &mut scopes, &attributes));
        self.declared.extend(declared(&function.value_info, &scopes));
        self.made += count(&body);
        for (from, to) in passed {
            let name = self.names.fresh(&format!("{prefix}/{to}"));
            body.push(NodeProto {
                name: Some(name),
                op_type: Some("Identity".to_owned()),
                input: vec![renamed(&scopes, &from).cloned().unwrap_or_default()],
                output: vec![to],
                ..NodeProto::default()
            });
        }
        body
    }

    /// Gives a node of a body the names and attributes of the call.
    fn node(
        &mut self,
        node: &mut NodeProto,
        prefix: &str,
        scopes: &mut Scopes,
        attributes: &BTreeMap<&str, &AttributeProto>,
    ) {
        if !node.name().is_empty() {
            node.name = Some(self.names.fresh(&format!("{prefix}/{}", node.name())));
        }
        for input in &mut node.input {
            if let Some(name) = renamed(scopes, input) {
                input.clone_from(name);
            }
        }
        let given = std::mem::take(&mut node.attribute);
        node.attribute = given.into_iter().filter_map(|a| referred(a, attributes)).collect();
        for graph in subgraphs_mut(node) {
            self.subgraph(graph, prefix, scopes, attributes);
        }
        for output in node.output.iter_mut().filter(|o| !o.is_empty()) {
            *output = self.defined(output, prefix, scopes);
        }
    }

    /// The new name of a value of the innermost scope, which may hide one around it.
    fn defined(&mut self, name: &str, prefix: &str, scopes: &mut Scopes) -> String {
        if let Some(new) = scopes.last().and_then(|scope| scope.get(name)) {
            return new.clone();
        }
        let new = self.names.fresh(&format!("{prefix}/{name}"));
        scopes.last_mut().and_then(|scope| scope.insert(name.to_owned(), new.clone()));
        new
    }

    fn subgraph(
        &mut self,
        graph: &mut GraphProto,
        prefix: &str,
        scopes: &mut Scopes,
        attributes: &BTreeMap<&str, &AttributeProto>,
    ) {
        scopes.push(BTreeMap::new());
        for input in &mut graph.input {
            input.name = Some(self.defined(input.name(), prefix, scopes));
        }
        for tensor in &mut graph.initializer {
            tensor.name = Some(self.defined(tensor.name(), prefix, scopes));
        }
        for sparse in &mut graph.sparse_initializer {
            let name = self.defined(sparse_name(sparse), prefix, scopes);
            sparse.values.iter_mut().for_each(|values| values.name = Some(name.clone()));
        }
        for node in &mut graph.node {
            self.node(node, prefix, scopes, attributes);
        }
        for output in &mut graph.output {
            if let Some(name) = renamed(scopes, output.name()) {
                output.name = Some(name.clone());
            }
        }
        graph.value_info = declared(&graph.value_info, scopes);
        scopes.pop();
    }
}

/// What is declared of values of the innermost scope, under their new names.
fn declared(values: &[ValueInfoProto], scopes: &Scopes) -> Vec<ValueInfoProto> {
    let own = |name: &str| scopes.last().and_then(|scope| scope.get(name));
    let renamed = |value: &ValueInfoProto| {
        own(value.name()).map(|name| ValueInfoProto { name: Some(name.clone()), ..value.clone() })
    };
    values.iter().filter_map(renamed).collect()
}

/// The attributes of a call, those of the function's own where it gives none.
fn given<'a>(call: &'a NodeProto, function: &'a FunctionProto) -> BTreeMap<&'a str, &'a AttributeProto> {
    function.attribute_proto.iter().chain(&call.attribute).map(|a| (a.name(), a)).collect()
}

/// Bytes of the attributes that a body takes from its call.
fn brought(body: &[NodeProto], attributes: &BTreeMap<&str, &AttributeProto>) -> u64 {
    let size = |a: &AttributeProto| attributes.get(a.ref_attr_name()).map_or(0, |a| a.encoded_len() as u64);
    let of = |node: &NodeProto| {
        let own: u64 = node.attribute.iter().map(size).sum();
        own + subgraphs(node).map(|graph| brought(&graph.node, attributes)).sum::<u64>()
    };
    body.iter().map(of).sum()
}

/// An attribute of a body: one that refers to an attribute of the call becomes that, or nothing.
fn referred(
    attribute: AttributeProto,
    attributes: &BTreeMap<&str, &AttributeProto>,
) -> Option<AttributeProto> {
    if attribute.ref_attr_name().is_empty() {
        return Some(attribute);
    }
    let given = *attributes.get(attribute.ref_attr_name())?;
    Some(AttributeProto { name: attribute.name, ..given.clone() })
}
