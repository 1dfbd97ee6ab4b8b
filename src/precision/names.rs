//! New names, and values of the graph around a subgraph under new names.

use std::collections::{BTreeMap, BTreeSet};

use crate::onnx;
use crate::onnx::proto::GraphProto;

/// Every name that a model uses, and those that were added.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The names of all nodes and values, those of subgraphs included.
    pub(super) fn of(graph: &GraphProto) -> Names {
        let mut names = Names::default();
        names.add(graph);
        names
    }

    fn add(&mut self, graph: &GraphProto) {
        for value in graph.input.iter().chain(&graph.output) {
            self.0.insert(value.name().to_owned());
        }
        self.0.extend(graph.initializer.iter().map(|t| t.name().to_owned()));
        self.0.extend(
            graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name().to_owned())),
        );
        for node in &graph.node {
            self.0.insert(node.name().to_owned());
            self.0.extend(node.input.iter().chain(&node.output).cloned());
            onnx::subgraphs(node).for_each(|graph| self.add(graph));
        }
    }

    /// `wanted`, or that with a number if it is taken.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let numbered = (1..).map(|i: u32| format!("{wanted}_{i}"));
        for name in std::iter::once(wanted.to_owned()).chain(numbered) {
            if self.0.insert(name.clone()) {
                return name;
            }
        }
        wanted.to_owned() // Not reached: there are more numbers than names.
    }

    /// Gives a name back that nothing has any more.
    pub(super) fn free(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Renames what a subgraph reads from around it.
pub(super) fn rename_captures(graph: &mut GraphProto, renames: &BTreeMap<String, String>) {
    let mut own: BTreeSet<&str> = graph.input.iter().map(|v| v.name()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name()));
    own.extend(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())));
    own.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
    let renames: BTreeMap<String, String> = renames
        .iter()
        .filter(|(name, _)| !own.contains(name.as_str()))
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect();
    if renames.is_empty() {
        return;
    }
    for node in &mut graph.node {
        for input in &mut node.input {
            if let Some(new) = renames.get(input) {
                input.clone_from(new);
            }
        }
        onnx::subgraphs_mut(node).for_each(|graph| rename_captures(graph, &renames));
    }
    for output in &mut graph.output {
        if let Some(new) = renames.get(output.name()) {
            output.name = Some(new.clone());
        }
    }
}
