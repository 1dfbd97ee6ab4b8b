//! Names of nodes and values, and what subgraphs take from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::{Error, Problems};
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto};
use crate::diagnostic::Diagnostic;

/// Name of a node; for one without a name, `node_of_` and its first output, as TensorRT's log calls it.
#[must_use]
pub fn node_name(node: &NodeProto) -> String {
    match (node.name(), node.output.iter().find(|output| !output.is_empty())) {
        ("", Some(output)) => format!("node_of_{output}"),
        ("", None) => format!("unnamed {}", node.op_type()),
        (name, _) => name.to_owned(),
    }
}

/// A domain by its shorter name: that of ONNX itself has two.
pub(super) fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// A domain in words: the default one has no name that could be shown.
pub(super) fn domain_words(domain: &str) -> String {
    match plain(domain) {
        "" => "the default domain".to_owned(),
        domain => format!("domain `{domain}`"),
    }
}

/// An operator or function by its domain, if that has a name, and its own.
pub(super) fn operator(domain: &str, name: &str) -> String {
    match plain(domain) {
        "" => name.to_owned(),
        domain => format!("{domain}::{name}"),
    }
}

/// The longest name. Those of exporters have some hundred bytes, and a node in a function gets that of each call before it.
const MAX_NAME: usize = 4 << 10;

/// Refuses names that are too long, and those that end before their end where a C program reads them.
pub(super) fn check(proto: &ModelProto, file: &Path) -> Result<(), Error> {
    let mut problems = Problems::new(file);
    let help = "rename it, and export the model again";
    let mut check = |name: &str| {
        let shown = || name.chars().take(40).flat_map(char::escape_debug).collect::<String>();
        if name.len() > MAX_NAME {
            let message =
                format!("the name `{}…` has {} bytes; at most {MAX_NAME} are allowed", shown(), name.len());
            problems.push(Diagnostic::error("unusable-name", message).help(help));
        } else if name.contains('\0') {
            let message = format!("the name `{}` holds a NUL, at which TensorRT would cut it off", shown());
            problems.push(Diagnostic::error("unusable-name", message).help(help));
        }
    };
    let mut bodies: Vec<&[NodeProto]> = Vec::new();
    let mut graphs: Vec<&GraphProto> = proto.graph.iter().collect();
    proto.opset_import.iter().for_each(|import| check(import.domain()));
    for function in &proto.functions {
        check(function.name());
        check(function.domain());
        function.input.iter().chain(&function.output).chain(&function.attribute).for_each(|name| check(name));
        graphs.extend(function.attribute_proto.iter().flat_map(|a| a.g.iter().chain(&a.graphs)));
        bodies.push(&function.node);
    }
    loop {
        if let Some(graph) = graphs.pop() {
            let values = graph.input.iter().chain(&graph.output).map(|value| value.name());
            values.chain(initializer_names(graph)).for_each(&mut check);
            bodies.push(&graph.node);
        }
        let Some(nodes) = bodies.pop() else { break };
        for node in nodes {
            [node.name(), node.op_type(), node.domain(), node.overload()].into_iter().for_each(&mut check);
            node.input.iter().chain(&node.output).for_each(|name| check(name));
            node.attribute.iter().for_each(|attribute| check(attribute.name()));
            graphs.extend(subgraphs(node));
        }
    }
    problems.finish()
}

/// Names of nodes and of values in whatever scope, and new ones.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
    /// The last number that was given to a name.
    numbers: BTreeMap<String, u64>,
}

impl Names {
    /// All names of a model.
    pub(crate) fn new(proto: &ModelProto) -> Names {
        let mut names = Names::default();
        if let Some(graph) = &proto.graph {
            names.graph(graph);
        }
        for function in &proto.functions {
            names.taken.extend(function.input.iter().cloned());
            function.node.iter().for_each(|node| names.node(node));
        }
        names
    }

    /// These names.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Names {
        Names { taken: names.map(str::to_owned).collect(), numbers: BTreeMap::new() }
    }

    /// Takes all names of a graph.
    pub(super) fn graph(&mut self, graph: &GraphProto) {
        let values = graph.input.iter().map(|value| value.name());
        self.taken.extend(values.chain(initializer_names(graph)).map(str::to_owned));
        graph.node.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &NodeProto) {
        self.taken.extend(node.output.iter().cloned());
        self.taken.insert(node.name().to_owned());
        subgraphs(node).for_each(|graph| self.graph(graph));
    }

    /// This name, or the first of `NAME#2`, `NAME#3`, … that nothing has.
    pub(crate) fn fresh(&mut self, base: &str) -> String {
        if self.taken.insert(base.to_owned()) {
            return base.to_owned();
        }
        // Numbers below the last one were tried: looking at them again makes n of a name cost n² looks.
        let number = self.numbers.entry(base.to_owned()).or_insert(1);
        loop {
            *number += 1;
            let name = format!("{base}#{number}");
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// Name of a sparse initializer: that of its values.
pub(super) fn sparse_name(sparse: &SparseTensorProto) -> &str {
    sparse.values.as_ref().map_or("", |values| values.name())
}

/// Names of all initializers of a graph.
pub(super) fn initializer_names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    graph.initializer.iter().map(|t| t.name()).chain(graph.sparse_initializer.iter().map(sparse_name))
}

/// The subgraphs of a node.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The subgraphs of a node, to be changed.
pub(crate) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

/// A node with empty graphs for its subgraphs, which may be large.
pub(crate) fn without_subgraphs(node: &NodeProto) -> NodeProto {
    let empty = |attribute: &AttributeProto| {
        if attribute.g.is_none() && attribute.graphs.is_empty() {
            return attribute.clone();
        }
        let graphs = attribute.graphs.iter().map(|_| GraphProto::default()).collect();
        AttributeProto {
            name: attribute.name.clone(),
            r#type: attribute.r#type,
            g: attribute.g.as_ref().map(|_| GraphProto::default()),
            graphs,
            ..AttributeProto::default()
        }
    };
    NodeProto {
        input: node.input.clone(),
        output: node.output.clone(),
        name: node.name.clone(),
        op_type: node.op_type.clone(),
        domain: node.domain.clone(),
        overload: node.overload.clone(),
        attribute: node.attribute.iter().map(empty).collect(),
        ..NodeProto::default()
    }
}

/// A graph without its nodes and initializers.
pub(crate) fn shell(graph: &GraphProto) -> GraphProto {
    GraphProto {
        name: graph.name.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        value_info: graph.value_info.clone(),
        sparse_initializer: graph.sparse_initializer.clone(),
        quantization_annotation: graph.quantization_annotation.clone(),
        ..GraphProto::default()
    }
}

/// Every value that a node reads: its inputs and what its subgraphs capture.
pub(crate) fn reads(node: &NodeProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    subgraphs(node).for_each(|graph| names.extend(captures(graph)));
    names
}

/// Values that a subgraph reads and does not define.
fn captures(graph: &GraphProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = graph.node.iter().flat_map(reads).collect();
    names.extend(graph.output.iter().map(|output| output.name()));
    for own in graph.input.iter().map(|input| input.name()).chain(initializer_names(graph)) {
        names.remove(own);
    }
    for own in graph.node.iter().flat_map(|node| &node.output) {
        names.remove(own.as_str());
    }
    names.remove("");
    names
}
