//! Is it a graph at all: unique names, every value defined, no cycle (of functions: `calls`). Unsorted nodes are sorted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use indexmap::IndexMap;

use super::error::Problems;
use super::names::{domain_words, initializer_names, node_name, plain, reads, subgraphs_mut};
use super::nodes;
use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto};
use super::{MAX_OPSET, calls};
use crate::diagnostic::Diagnostic;

/// Checks all graphs and functions of a model, and sorts their nodes where that is needed.
pub(super) fn check(model: &mut ModelProto, problems: &mut Problems, notes: &mut Vec<String>) {
    let mut check = Check { problems, sorted: 0 };
    if let Some(graph) = &mut model.graph {
        check.graph(graph, None);
    }
    let mut functions = BTreeSet::new();
    for function in &mut model.functions {
        let key = (function.domain().to_owned(), function.name().to_owned(), function.overload().to_owned());
        if !functions.insert(key) {
            let domain = domain_words(function.domain());
            let message = format!("function `{}` of {domain} is defined twice", function.name());
            check.problems.push(Diagnostic::error("duplicate-function", message));
        }
        if function.output.iter().any(String::is_empty) {
            let message = format!("an output of function `{}` has no name", function.name());
            check.problems.push(Diagnostic::error("unnamed-value", message));
        }
        check.opset(function);
        let mut names = Names::default();
        for input in &function.input {
            names.define(input, Definer::Input, &[], check.problems);
        }
        check.body(names, &mut function.node, &function.output, None);
    }
    calls::check(model, check.problems);
    if check.sorted > 0 {
        notes.push("nodes were not in topological order, and are sorted".to_owned());
    }
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Definer {
    Input,
    Initializer,
    Node(usize),
}

#[derive(Default)]
struct Names(IndexMap<String, Definer>);

impl Names {
    fn define(&mut self, name: &str, definer: Definer, nodes: &[NodeProto], problems: &mut Problems) {
        if name.is_empty() {
            return;
        }
        let Some(before) = self.0.insert(name.to_owned(), definer) else { return };
        let label = |i: usize| nodes.get(i).map(node_name).unwrap_or_default();
        let (code, message) = match (before, definer) {
            // Before IR version 4 every initializer had to be an input too.
            (Definer::Input, Definer::Initializer) => return,
            (Definer::Initializer, Definer::Initializer) => {
                ("duplicate-initializer", format!("initializer `{name}` is defined twice"))
            }
            (Definer::Node(a), Definer::Node(b)) if a == b => {
                ("duplicate-value", format!("node `{}` gives the value `{name}` twice", label(a)))
            }
            (Definer::Node(a), Definer::Node(b)) => (
                "duplicate-value",
                format!("value `{name}` is made by node `{}` and by node `{}`", label(a), label(b)),
            ),
            (Definer::Input | Definer::Initializer, Definer::Node(b)) => {
                let kind = if before == Definer::Input { "an input" } else { "an initializer" };
                ("duplicate-value", format!("value `{name}` is {kind}, and made by node `{}` too", label(b)))
            }
            (_, Definer::Input) | (Definer::Node(_), Definer::Initializer) => {
                ("duplicate-value", format!("input `{name}` is declared twice"))
            }
        };
        let error = Diagnostic::error(code, message);
        match definer {
            Definer::Node(i) if i < nodes.len() => problems.push_at(&nodes[i], error),
            _ => problems.push(error),
        }
    }
}

/// Names that a subgraph can see around it.
struct Scope<'a> {
    names: &'a IndexMap<String, Definer>,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }
}

struct Check<'a> {
    problems: &'a mut Problems,
    sorted: u64,
}

impl Check<'_> {
    /// The opset of a function is its own.
    fn opset(&mut self, function: &FunctionProto) {
        for import in &function.opset_import {
            let (domain, version) = (domain_words(import.domain()), import.version());
            let newest = if plain(import.domain()).is_empty() { MAX_OPSET } else { i64::MAX };
            if !(1..=newest).contains(&version) {
                let name = function.name();
                let message = format!("function `{name}` uses opset {version} of {domain}");
                let error = Diagnostic::error("opset-version", message);
                self.problems.push(error.note(format!("opsets from 1 to {MAX_OPSET} are known")));
            }
        }
    }

    fn graph(&mut self, graph: &mut GraphProto, outer: Option<&Scope>) {
        let mut names = Names::default();
        for input in &graph.input {
            names.define(input.name(), Definer::Input, &[], self.problems);
        }
        for initializer in initializer_names(graph) {
            names.define(initializer, Definer::Initializer, &[], self.problems);
        }
        let outputs: Vec<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
        // Of the main graph, the interface tells.
        if outer.is_some() && outputs.iter().any(String::is_empty) {
            self.problems.push(Diagnostic::error("unnamed-value", "an output of a subgraph has no name"));
        }
        self.body(names, &mut graph.node, &outputs, outer);
    }

    fn body(
        &mut self,
        mut names: Names,
        nodes: &mut Vec<NodeProto>,
        outputs: &[String],
        outer: Option<&Scope>,
    ) {
        for (i, node) in nodes.iter().enumerate() {
            for output in &node.output {
                names.define(output, Definer::Node(i), nodes, self.problems);
            }
            nodes::check(node, self.problems);
        }
        let scope = Scope { names: &names.0, outer };
        for graph in nodes.iter_mut().flat_map(subgraphs_mut) {
            self.graph(graph, Some(&scope));
        }
        let mut needs: Vec<BTreeSet<usize>> = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let mut producers = BTreeSet::new();
            for name in reads(node) {
                match names.0.get(name) {
                    Some(Definer::Node(producer)) => {
                        producers.insert(*producer);
                    }
                    Some(_) => {}
                    None if outer.is_some_and(|outer| outer.knows(name)) => {}
                    // What a subgraph lacks is told where the subgraph is checked.
                    None if !node.input.iter().any(|input| input == name) => {}
                    None => {
                        let message = format!(
                            "node `{}` reads the value `{name}`, which nothing defines",
                            node_name(node)
                        );
                        self.problems.push_at(node, Diagnostic::error("undefined-value", message));
                    }
                }
            }
            needs.push(producers);
        }
        for output in outputs.iter().filter(|output| !output.is_empty() && !scope.knows(output)) {
            let message = format!("output `{output}` is defined by nothing");
            self.problems.push(Diagnostic::error("undefined-value", message));
        }
        // Most files are sorted; then there is nothing to do.
        if needs.iter().enumerate().all(|(i, producers)| producers.last().is_none_or(|last| *last < i)) {
            return;
        }
        match topological_order(&needs) {
            Ok(order) => {
                let mut unsorted: Vec<Option<NodeProto>> =
                    std::mem::take(nodes).into_iter().map(Some).collect();
                nodes.extend(order.into_iter().filter_map(|i| unsorted[i].take()));
                self.sorted += 1;
            }
            Err(cycle) => {
                let shown: Vec<String> =
                    cycle.iter().take(10).map(|i| format!("`{}`", node_name(&nodes[*i]))).collect();
                let more = if cycle.len() > 10 { " -> …" } else { "" };
                let message = format!("the graph has a cycle: {}{more} -> {}", shown.join(" -> "), shown[0]);
                self.problems.push_at(&nodes[cycle[0]], Diagnostic::error("cycle", message));
            }
        }
    }
}

/// An order in which everything comes after what it needs; of all those, the one that moves later
/// nodes least: always the first node that is ready. If there is none, the nodes of a cycle, each
/// feeding the next.
pub(super) fn topological_order(needs: &[BTreeSet<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut open: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    for (i, producers) in needs.iter().enumerate() {
        producers.iter().for_each(|producer| users[*producer].push(i));
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..needs.len()).filter(|i| open[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for user in &users[i] {
            open[*user] -= 1;
            if open[*user] == 0 {
                ready.push(Reverse(*user));
            }
        }
    }
    // Each node that is left needs another one that is left: walking back must meet itself.
    let Some(mut at) = open.iter().position(|count| *count > 0) else { return Ok(order) };
    let mut way: Vec<usize> = Vec::new();
    let mut seen = BTreeMap::new();
    while !seen.contains_key(&at) {
        seen.insert(at, way.len());
        way.push(at);
        // Itself, if nothing else: a node is left only because of another that is.
        at = needs[at].iter().copied().find(|producer| open[*producer] > 0).unwrap_or(at);
    }
    let mut cycle = way.split_off(seen[&at]);
    cycle.reverse();
    // It is told from its first node in the file.
    let first = (0..cycle.len()).min_by_key(|i| cycle[*i]).unwrap_or(0);
    cycle.rotate_left(first);
    Err(cycle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(needs: &[&[usize]]) -> Result<Vec<usize>, Vec<usize>> {
        topological_order(&needs.iter().map(|n| n.iter().copied().collect()).collect::<Vec<_>>())
    }

    #[test]
    fn sorting_moves_no_more_than_needed() {
        assert_eq!(order(&[&[], &[0], &[1]]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[&[2], &[], &[]]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[]), Ok(vec![]));
    }

    #[test]
    fn a_cycle_is_named_in_the_order_of_the_data() {
        assert_eq!(order(&[&[0]]), Err(vec![0]));
        // 1 feeds 2 feeds 3 feeds 1; 4 only hangs on it.
        assert_eq!(order(&[&[], &[3], &[1], &[2], &[3]]), Err(vec![1, 2, 3]));
    }
}
