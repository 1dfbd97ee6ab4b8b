//! Selectors: from a condition to a set of nodes.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobSet};
use regex::Regex;

use super::assign::RuleMatch;
use super::pattern::{Instance, Patterns};
use super::problem::Problem;
use super::spec::Select;
use super::view::{Key, Node, View};
use crate::diagnostic::nearest;
use crate::manifest::Selector;
use crate::onnx;

/// Finds the nodes of selectors in one model.
pub(super) struct Finder<'v, 'm> {
    pub(super) view: &'v View<'m>,
    patterns: Patterns,
    /// Nodes by the values that they make. What If, Loop and Scan give to their subgraphs, and what these give to
    /// them, is made by both.
    producers: BTreeMap<Key<'m>, Vec<usize>>,
    /// Nodes by the values that they read. What a subgraph reads, its node reads.
    consumers: BTreeMap<Key<'m>, Vec<usize>>,
}

/// What a rule selected.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The nodes, as indices of [`View::nodes`].
    pub(super) nodes: BTreeSet<usize>,
    /// How many instances of patterns, if it names patterns.
    pub(super) instances: Option<usize>,
}

/// What all rules selected.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// The last rule that selected a node, by node of [`View::nodes`].
    pub(super) by_rule: BTreeMap<usize, usize>,
    /// What each rule selected.
    pub(super) matched: Vec<RuleMatch>,
    /// What is wrong with that.
    pub(super) problems: Vec<Problem>,
}

impl<'v, 'm> Finder<'v, 'm> {
    pub(super) fn new(view: &'v View<'m>) -> Finder<'v, 'm> {
        let (mut producers, mut consumers) =
            (BTreeMap::<Key<'m>, Vec<usize>>::new(), BTreeMap::<Key<'m>, Vec<usize>>::new());
        for (id, node) in view.nodes.iter().enumerate() {
            for output in node.proto.output.iter().filter(|o| !o.is_empty()) {
                producers.entry((node.scope, output)).or_default().push(id);
            }
            let reads = onnx::reads(node.proto).into_iter();
            for key in reads.filter_map(|name| view.key(node.scope, name)) {
                consumers.entry(key).or_default().push(id);
            }
            // The way goes through subgraphs: from the node to what reads their inputs, and from what makes their
            // outputs to the node.
            for (scope, graph) in view.inner(id) {
                for input in &graph.input {
                    producers.entry((scope, input.name())).or_default().push(id);
                }
                for output in graph.output.iter().filter_map(|output| view.key(scope, output.name())) {
                    consumers.entry(output).or_default().push(id);
                }
            }
        }
        Finder { view, patterns: Patterns::new(view), producers, consumers }
    }

    /// The nodes that a rule is about.
    pub(super) fn find(&self, select: &Select) -> Found {
        match select {
            Select::Written(selector) => {
                let nodes = self.selected(selector);
                let named = !selector.pattern.is_empty();
                let hit = |instance: &&Instance| !instance.nodes.is_disjoint(&nodes);
                let instances = named.then(|| {
                    let all = selector.pattern.iter().flat_map(|name| self.patterns.instances(name));
                    all.filter(hit).count()
                });
                Found { nodes, instances }
            }
            Select::LargeStatistics => Found { nodes: self.large_statistics(), instances: None },
            Select::ExponentialChains => Found { nodes: self.exponential_chains(), instances: None },
            Select::Roots => Found { nodes: self.roots(), instances: None },
        }
    }

    fn selected(&self, selector: &Selector) -> BTreeSet<usize> {
        let Selector { op, node, regex, pattern, tensor, between, consumers_of, producers_of, subgraph, not } =
            selector;
        let mut nodes: BTreeSet<usize> = (0..self.view.nodes.len()).collect();
        let name = |id: usize| self.view.nodes[id].name.as_str();
        if !op.is_empty() {
            nodes.retain(|id| {
                let proto = self.view.nodes[*id].proto;
                op.iter().any(|op| match op.split_once("::") {
                    // Another name of the standard operators.
                    Some(("ai.onnx", op)) => proto.domain().is_empty() && proto.op_type() == op,
                    Some((domain, op)) => proto.domain() == domain && proto.op_type() == op,
                    None => proto.op_type() == op,
                })
            });
        }
        if !node.is_empty() {
            let names = Globs::of(node);
            nodes.retain(|id| names.hold(name(*id)));
        }
        if !regex.is_empty() {
            // The manifest was checked with the same call.
            let all: Vec<Regex> = regex.iter().filter_map(|text| Regex::new(text).ok()).collect();
            nodes.retain(|id| all.iter().any(|regex| regex.is_match(name(*id))));
        }
        if !pattern.is_empty() {
            let all: BTreeSet<usize> = pattern
                .iter()
                .flat_map(|name| self.patterns.instances(name))
                .flat_map(|i| &i.nodes)
                .copied()
                .collect();
            nodes.retain(|id| all.contains(id));
        }
        if !tensor.is_empty() {
            let names = Globs::of(tensor);
            let made = |id: usize| self.view.nodes[id].proto.output.iter().filter(|o| !o.is_empty());
            nodes.retain(|id| made(*id).any(|value| names.hold(value)));
        }
        if let Some((from, to)) = between {
            let (after, before) = (self.reach(from, true), self.reach(to, false));
            nodes.retain(|id| after.contains(id) && before.contains(id));
        }
        if !consumers_of.is_empty() {
            let wanted = set(consumers_of);
            nodes.retain(|id| {
                onnx::reads(self.view.nodes[*id].proto).into_iter().any(|value| wanted.contains(value))
            });
        }
        if !producers_of.is_empty() {
            let wanted = set(producers_of);
            nodes.retain(|id| {
                let made = self.view.nodes[*id].proto.output.iter();
                made.filter(|value| !value.is_empty()).any(|value| wanted.contains(value.as_str()))
            });
        }
        if !subgraph.is_empty() {
            let wanted = set(subgraph);
            nodes.retain(|id| self.view.nodes[*id].owners.iter().any(|owner| wanted.contains(name(*owner))));
        }
        if let Some(not) = not {
            let without = self.selected(not);
            nodes.retain(|id| !without.contains(id));
        }
        nodes
    }

    /// The nodes of this name and all after (or before) them; or for a value, those that read (or make) it and
    /// all after (or before) those.
    fn reach(&self, name: &str, forward: bool) -> BTreeSet<usize> {
        let mut open: Vec<usize> =
            (0..self.view.nodes.len()).filter(|id| self.view.nodes[*id].name == name).collect();
        if open.is_empty() {
            let of = if forward { &self.consumers } else { &self.producers };
            open = of
                .iter()
                .filter(|((_, value), _)| *value == name)
                .flat_map(|(_, ids)| ids)
                .copied()
                .collect();
        }
        let mut reached: BTreeSet<usize> = open.iter().copied().collect();
        while let Some(id) = open.pop() {
            for next in self.neighbours(id, forward) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    pub(super) fn neighbours(&self, id: usize, forward: bool) -> Vec<usize> {
        let Node { proto, scope, .. } = &self.view.nodes[id];
        let (scope, view) = (*scope, self.view);
        let (of, mut keys): (_, Vec<Key<'_>>) = if forward {
            let made = proto.output.iter().filter(|o| !o.is_empty());
            (&self.consumers, made.map(|value| (scope, value.as_str())).collect())
        } else {
            let read = onnx::reads(proto).into_iter();
            (&self.producers, read.filter_map(|value| view.key(scope, value)).collect())
        };
        for (inner, graph) in view.inner(id) {
            let border = if forward { &graph.input } else { &graph.output };
            keys.extend(border.iter().filter_map(|value| view.key(inner, value.name())));
        }
        keys.iter().filter_map(|key| of.get(key)).flatten().copied().collect()
    }

    /// The names nearest to what a selector that found nothing asks for.
    pub(super) fn candidates(&self, selector: &Selector) -> Vec<String> {
        let names = || self.view.nodes.iter().map(|n| n.name.as_str());
        let ops = || self.view.nodes.iter().map(|n| n.proto.op_type());
        let values = || self.producers.keys().chain(self.consumers.keys()).map(|(_, name)| *name);
        let mut found = Vec::new();
        let mut add = |wanted: &str, near: Option<&str>| {
            if let Some(near) = near.filter(|near| *near != wanted && !found.iter().any(|f| f == near)) {
                found.push(near.to_owned());
            }
        };
        selector.op.iter().for_each(|text| add(text, nearest(text, ops())));
        let plain = |glob: &str| glob.trim_matches('*').to_owned();
        for text in &selector.node {
            let inside = plain(text).to_lowercase();
            let holds = names().find(|n| !inside.is_empty() && n.to_lowercase().contains(&inside));
            add(text, nearest(text, names()).or(holds).or_else(|| longest_prefix(&plain(text), names())));
        }
        for text in selector.tensor.iter().chain(&selector.consumers_of).chain(&selector.producers_of) {
            add(text, nearest(text, values()).or_else(|| longest_prefix(&plain(text), values())));
        }
        for text in selector.between.iter().flat_map(|(from, to)| [from, to]) {
            add(text, nearest(text, names().chain(values())));
        }
        let owners =
            || self.view.nodes.iter().flat_map(|n| n.owners.last()).map(|o| names().nth(*o).unwrap_or(""));
        selector.subgraph.iter().for_each(|text| add(text, nearest(text, owners())));
        found.truncate(5);
        found
    }
}

/// The name that begins most like `text`, if one begins like it at all.
fn longest_prefix<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let common = |name: &str| text.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    // The first of equals: in the order of the graph.
    let near = names.map(|name| (common(name), name)).filter(|(n, _)| *n >= 3);
    let first_best = |best: Option<(usize, &'a str)>, item: (usize, &'a str)| match best {
        Some((n, _)) if n >= item.0 => best,
        _ => Some(item),
    };
    near.fold(None, first_best).map(|(_, name)| name)
}

/// Names and globs of names. Rules that are pasted from messages name many nodes.
struct Globs<'t> {
    plain: BTreeSet<&'t str>,
    globs: GlobSet,
}

impl<'t> Globs<'t> {
    fn of(texts: &'t [String]) -> Globs<'t> {
        let (globs, plain): (Vec<&str>, Vec<&str>) = texts
            .iter()
            .map(String::as_str)
            .partition(|text| text.contains(['*', '?', '[', ']', '{', '}', '\\', '!']));
        // The manifest was checked with the same call.
        let globs = GlobSet::new(globs.into_iter().filter_map(|text| Glob::new(text).ok()));
        Globs { plain: plain.into_iter().collect(), globs: globs.unwrap_or_default() }
    }

    fn hold(&self, name: &str) -> bool {
        self.plain.contains(name) || self.globs.is_match(name)
    }
}

fn set(names: &[String]) -> BTreeSet<&str> {
    names.iter().map(String::as_str).collect()
}
