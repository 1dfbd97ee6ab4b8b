//! Model-local functions put in the place of their calls, so that every node computes in one known type.
//!
//! A node of a function is called `CALL/NODE` afterwards, and so are its values. A call stays if its function means
//! other versions of operators than the graph, or calls itself, or makes the model too large.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{initializer_names, node_name, sparse_name, subgraphs, subgraphs_mut};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use super::read::Model;
use super::schema::schema;

/// How deep calls may nest.
const MAX_DEPTH: usize = 24;

/// How many nodes calls may become.
const MAX_NODES: usize = 1_000_000;

/// The model without calls of its functions, as far as that can be; none if it has no functions.
pub(crate) fn inline(model: &Model) -> Option<Model> {
    let proto = model.proto();
    if proto.functions.is_empty() {
        return None;
    }
    let mut names = BTreeSet::new();
    let mut graph = model.graph().clone();
    all_names(&graph, &mut names);
    let mut inliner = Inliner { proto, names, imports: BTreeMap::new(), made: 0 };
    inliner.graph(&mut graph, 0);
    let mut inlined = model.with_graph(graph);
    for (domain, version) in inliner.imports {
        inlined.proto.opset_import.push(OperatorSetIdProto { domain: Some(domain), version: Some(version) });
    }
    Some(inlined)
}

struct Inliner<'m> {
    proto: &'m ModelProto,
    names: BTreeSet<String>,
    /// Domains that functions use and the graph did not.
    imports: BTreeMap<String, i64>,
    made: usize,
}

fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn all_names(graph: &GraphProto, names: &mut BTreeSet<String>) {
    names.extend(graph.input.iter().chain(&graph.output).map(|v| v.name().to_owned()));
    names.extend(initializer_names(graph).map(str::to_owned));
    for node in &graph.node {
        names.insert(node.name().to_owned());
        names.extend(node.input.iter().chain(&node.output).cloned());
        subgraphs(node).for_each(|graph| all_names(graph, names));
    }
}

impl<'m> Inliner<'m> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) {
        let nodes = std::mem::take(&mut graph.node);
        graph.node = self.nodes(nodes, depth);
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Vec<NodeProto> {
        let mut all = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for graph in subgraphs_mut(&mut node) {
                self.graph(graph, depth);
            }
            match self.function(&node).filter(|function| self.fits(function, depth)) {
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
        let called = |f: &&FunctionProto| {
            plain(f.domain()) == plain(node.domain())
                && f.name() == node.op_type()
                && f.overload() == node.overload()
        };
        self.proto.functions.iter().find(called)
    }

    /// Can its body stand in the graph? Says so once and takes the room.
    fn fits(&mut self, function: &FunctionProto, depth: usize) -> bool {
        let mut wanted = BTreeMap::new();
        let fits = depth < MAX_DEPTH
            && self.made + function.node.len() <= MAX_NODES
            && function.node.iter().all(|node| self.means_the_same(node, function, &mut wanted));
        if fits {
            self.made += function.node.len();
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

    fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 0u32;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }

    /// The nodes of a function in the place of a call.
    fn call(&mut self, call: &NodeProto, function: &FunctionProto) -> Vec<NodeProto> {
        let prefix = node_name(call);
        let mut names: BTreeMap<String, String> = BTreeMap::new();
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
        let mut attributes: BTreeMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        attributes.extend(call.attribute.iter().map(|a| (a.name(), a)));
        let mut body = Vec::with_capacity(function.node.len());
        for node in &function.node {
            let mut node = node.clone();
            self.node(&mut node, &prefix, &mut names, &attributes);
            body.push(node);
        }
        for (from, to) in passed {
            let name = self.fresh(&format!("{prefix}/{to}"));
            body.push(NodeProto {
                name: Some(name),
                op_type: Some("Identity".to_owned()),
                input: vec![names.get(&from).cloned().unwrap_or_default()],
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
        names: &mut BTreeMap<String, String>,
        attributes: &BTreeMap<&str, &AttributeProto>,
    ) {
        if !node.name().is_empty() {
            node.name = Some(self.fresh(&format!("{prefix}/{}", node.name())));
        }
        for input in &mut node.input {
            if let Some(name) = names.get(input) {
                input.clone_from(name);
            }
        }
        let given = std::mem::take(&mut node.attribute);
        node.attribute = given.into_iter().filter_map(|a| referred(a, attributes)).collect();
        for graph in subgraphs_mut(node) {
            self.subgraph(graph, prefix, names.clone(), attributes);
        }
        for output in node.output.iter_mut().filter(|o| !o.is_empty()) {
            *output = self.defined(output, prefix, names);
        }
    }

    fn defined(&mut self, name: &str, prefix: &str, names: &mut BTreeMap<String, String>) -> String {
        if let Some(name) = names.get(name) {
            return name.clone();
        }
        let new = self.fresh(&format!("{prefix}/{name}"));
        names.insert(name.to_owned(), new.clone());
        new
    }

    fn subgraph(
        &mut self,
        graph: &mut GraphProto,
        prefix: &str,
        mut names: BTreeMap<String, String>,
        attributes: &BTreeMap<&str, &AttributeProto>,
    ) {
        let own = graph.input.iter().map(|v| v.name()).chain(initializer_names(graph));
        let own: Vec<String> = own
            .chain(graph.node.iter().flat_map(|n| &n.output).map(String::as_str))
            .map(str::to_owned)
            .collect();
        // Its own names hide those around it.
        own.iter().for_each(|name| drop(names.remove(name)));
        for input in &mut graph.input {
            input.name = Some(self.defined(input.name(), prefix, &mut names));
        }
        for tensor in &mut graph.initializer {
            tensor.name = Some(self.defined(tensor.name(), prefix, &mut names));
        }
        for sparse in &mut graph.sparse_initializer {
            let name = self.defined(sparse_name(sparse), prefix, &mut names);
            sparse.values.iter_mut().for_each(|values| values.name = Some(name.clone()));
        }
        for node in &mut graph.node {
            self.node(node, prefix, &mut names, attributes);
        }
        for output in &mut graph.output {
            if let Some(name) = names.get(output.name()) {
                output.name = Some(name.clone());
            }
        }
        graph.value_info.clear();
    }
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
