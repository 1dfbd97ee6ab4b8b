//! Walking backwards from a value, with a record of what was passed.
//!
//! A pattern is read as attempts: each either holds and leaves its nodes on the trail, or does not and
//! leaves nothing. The trail never leaves its scope and stops at constants.

use std::collections::BTreeSet;

use super::super::graph::{GraphView, NodeId, NodeRef, ValueId};
use super::graph::Graph;
use super::look::{Look, MAX_CHAIN};
use super::matched::{Kind, Match};

/// What was passed on the way.
#[derive(Debug)]
pub(super) struct Trail<'g, 'v, 'a> {
    pub(super) graph: &'g Graph<'v, 'a>,
    pub(super) scope: usize,
    pub(super) nodes: Vec<NodeId>,
    /// Every place where the input of the pattern is read, before Casts are looked through.
    reads: Vec<ValueId>,
    /// What sums are divided by to make means.
    pub(super) divisors: Vec<f64>,
}

impl<'g, 'v, 'a> Trail<'g, 'v, 'a> {
    /// Starts at a node, which belongs to it.
    pub(super) fn at(graph: &'g Graph<'v, 'a>, node: NodeId) -> Trail<'g, 'v, 'a> {
        Trail {
            graph,
            scope: graph.view.node(node).scope,
            nodes: vec![node],
            reads: Vec::new(),
            divisors: Vec::new(),
        }
    }

    pub(super) fn view(&self) -> &'v GraphView<'a> {
        self.graph.view
    }

    /// Leaves no trace unless it holds.
    pub(super) fn attempt<T>(&mut self, f: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let (nodes, reads, divisors) = (self.nodes.len(), self.reads.len(), self.divisors.len());
        let result = f(self);
        if result.is_none() {
            self.nodes.truncate(nodes);
            self.reads.truncate(reads);
            self.divisors.truncate(divisors);
        }
        result
    }

    /// The node of this scope that makes a value which is not constant.
    pub(super) fn producer(&self, v: ValueId) -> Option<NodeId> {
        let view = self.view();
        let node = view.value(v).producer?;
        (view.node(node).scope == self.scope && !view.is_constant(v)).then_some(node)
    }

    /// The node that makes a value, if it is looked through, and what it reads.
    fn passed(&self, v: ValueId, look: Look) -> Option<(NodeId, ValueId)> {
        let node = self.producer(v).filter(|node| self.view().output(*node, 0) == Some(v))?;
        Some((node, self.graph.handed_on(node, look)?))
    }

    /// Walks back as long as nodes are looked through; they belong to the trail.
    pub(super) fn strip(&mut self, v: ValueId, look: Look) -> ValueId {
        let mut at = v;
        for _ in 0..MAX_CHAIN {
            let Some((node, input)) = self.passed(at, look) else { break };
            self.nodes.push(node);
            at = input;
        }
        at
    }

    /// The value behind Casts; nothing is recorded.
    pub(super) fn root(&self, v: ValueId) -> ValueId {
        self.root_of(v, Look::Casts)
    }

    /// The value behind what is looked through; nothing is recorded.
    pub(super) fn root_of(&self, v: ValueId, look: Look) -> ValueId {
        let mut at = v;
        for _ in 0..MAX_CHAIN {
            let Some((_, input)) = self.passed(at, look) else { break };
            at = input;
        }
        at
    }

    /// The node behind what is looked through, if it is one of these operators.
    pub(super) fn op(&mut self, v: ValueId, look: Look, ops: &[&str]) -> Option<NodeId> {
        self.attempt(|t| {
            let at = t.strip(v, look);
            let node = t.producer(at)?;
            let view = t.view();
            (ops.contains(&t.graph.op(node)) && view.output(node, 0) == Some(at)).then_some(())?;
            t.nodes.push(node);
            Some(node)
        })
    }

    /// The operands of a node, in both orders; nothing of a node that has not two.
    pub(super) fn orders(&self, node: NodeId) -> impl Iterator<Item = (ValueId, ValueId)> + use<> {
        let operands = self.graph.operands(node);
        operands.into_iter().flat_map(|[a, b]| [(a, b), (b, a)])
    }

    /// Records that the pattern reads its input here, and gives the value behind Casts.
    pub(super) fn read(&mut self, v: ValueId) -> ValueId {
        self.reads.push(v);
        self.root(v)
    }

    /// A match of what was recorded. Its input is the last value that all reads have in common.
    pub(super) fn finish(&self, kind: Kind, output: ValueId) -> Option<Match> {
        let view = self.view();
        let mut nodes: BTreeSet<NodeId> = self.nodes.iter().copied().collect();
        let chains: Vec<Vec<ValueId>> = self.reads.iter().map(|read| self.chain(*read)).collect();
        let input = chains.first()?.iter().find(|v| chains.iter().all(|chain| chain.contains(v)))?;
        for chain in &chains {
            let own = chain.iter().take_while(|v| *v != input);
            nodes.extend(own.filter_map(|v| self.producer(*v)));
        }
        // The input may lie behind Casts that a statistic passed on its way to it.
        nodes.retain(|node| !self.before(*node, *input));
        let divisors = self.divisors.clone();
        Some(Match { divisors, ..describe(view, kind, &nodes, *input, output) })
    }

    /// The values from this one back to the one behind Casts.
    fn chain(&self, v: ValueId) -> Vec<ValueId> {
        let mut chain = vec![v];
        let mut at = v;
        for _ in 0..MAX_CHAIN {
            let Some((_, input)) = self.passed(at, Look::Casts) else { break };
            chain.push(input);
            at = input;
        }
        chain
    }

    /// Is a node one of the Casts before the input?
    fn before(&self, node: NodeId, input: ValueId) -> bool {
        let mut at = input;
        for _ in 0..MAX_CHAIN {
            let Some((passed, next)) = self.passed(at, Look::Casts) else { return false };
            if passed == node {
                return true;
            }
            at = next;
        }
        false
    }
}

/// A match of these nodes, with what can be told from them alone.
pub(super) fn describe(
    view: &GraphView,
    kind: Kind,
    nodes: &BTreeSet<NodeId>,
    input: ValueId,
    output: ValueId,
) -> Match {
    // What is constant is computed once and for all, by nobody's rule.
    let constant = |node: &NodeId| view.node(*node).outputs.iter().flatten().all(|v| view.is_constant(*v));
    let nodes: BTreeSet<NodeId> = nodes.iter().copied().filter(|node| !constant(node)).collect();
    let mut escapes = Vec::new();
    for value in nodes.iter().flat_map(|node| &view.node(*node).outputs).flatten() {
        let of = view.value(*value);
        let outside = of.is_output || of.consumers.iter().any(|reader| !serves(view, *reader, &nodes));
        if *value != output && outside {
            escapes.push(of.name.to_owned());
        }
    }
    let refs: Vec<NodeRef> = nodes.iter().map(|node| view.node_ref(*node)).collect();
    Match {
        kind,
        nodes: refs,
        input: view.value(input).name.to_owned(),
        output: view.value(output).name.to_owned(),
        axes: Vec::new(),
        rank: None,
        epsilon: None,
        scale: None,
        bias: None,
        escapes,
        divisors: Vec::new(),
        exact: true,
        instance: String::new(),
        attention: None,
    }
}

/// Is a node one of these, or read by these alone? What computes the shape that a Reshape among them is given is no
/// reader outside: it goes with them.
fn serves(view: &GraphView, reader: NodeId, nodes: &BTreeSet<NodeId>) -> bool {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![reader]);
    while let Some(node) = waiting.pop() {
        if nodes.contains(&node) || !seen.insert(node) {
            continue;
        }
        let makes = || view.node(node).outputs.iter().flatten().map(|made| view.value(*made));
        if seen.len() > MAX_CHAIN || makes().any(|made| made.is_output || made.consumers.is_empty()) {
            return false;
        }
        waiting.extend(makes().flat_map(|made| made.consumers.iter().copied()));
    }
    true
}
