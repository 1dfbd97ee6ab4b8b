//! Walking backwards from a value, with a record of what was passed.
//!
//! A pattern is read as attempts: each either holds and leaves its nodes on the trail, or does not and
//! leaves nothing. The trail never leaves its scope and stops at constants.

use std::collections::BTreeSet;

use super::super::graph::{GraphView, NodeId, NodeRef, Shapes, ValueId};
use super::matched::{Kind, Match};

/// How far Casts and the like are followed.
pub(super) const MAX_CHAIN: usize = 16;

/// Values with more readers than this are not followed forwards: they are inputs of everything, not
/// the inside of a pattern.
pub(super) const MAX_FANOUT: usize = 64;

/// What is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// Cast and Identity.
    Casts,
    /// Also what changes a shape and no element: Reshape, Unsqueeze, Squeeze, Expand.
    Shapes,
    /// Also Transpose, Flatten and Dropout (which is nothing at inference).
    Layout,
}

impl Look {
    pub(super) fn passes(self, op: &str) -> bool {
        match op {
            "Cast" | "CastLike" | "Identity" => true,
            "Reshape" | "Unsqueeze" | "Squeeze" | "Expand" => self >= Look::Shapes,
            "Transpose" | "Dropout" | "Flatten" => self >= Look::Layout,
            _ => false,
        }
    }
}

/// A view with its shapes.
#[derive(Debug)]
pub(super) struct Graph<'v, 'a> {
    pub(super) view: &'v GraphView<'a>,
    pub(super) shapes: Shapes,
}

impl<'v, 'a> Graph<'v, 'a> {
    pub(super) fn new(view: &'v GraphView<'a>) -> Graph<'v, 'a> {
        Graph { view, shapes: Shapes::new(view) }
    }

    /// The number that a value is, if it is known; small sums of constants are computed.
    pub(super) fn scalar(&self, v: ValueId) -> Option<f64> {
        if self.view.is_constant(v) { self.evaluate(v, 6) } else { None }
    }

    fn evaluate(&self, v: ValueId, depth: usize) -> Option<f64> {
        if let Some(constant) = self.view.constant(v) {
            return constant.uniform();
        }
        let depth = depth.checked_sub(1)?;
        let node = self.view.value(v).producer?;
        let input = |i: usize| self.evaluate(self.view.input(node, i)?, depth);
        Some(match self.view.op(node) {
            op if Look::Layout.passes(op) => input(0)?,
            "Sqrt" => input(0)?.sqrt(),
            "Reciprocal" => 1.0 / input(0)?,
            "Neg" => -input(0)?,
            "Add" => input(0)? + input(1)?,
            "Sub" => input(0)? - input(1)?,
            "Mul" => input(0)? * input(1)?,
            "Div" => input(0)? / input(1)?,
            "Pow" => input(0)?.powf(input(1)?),
            "ConstantOfShape" => match self.view.attribute(node, "value") {
                Some(a) => super::super::graph::Constant::Tensor(a.t.as_ref()?).get(0)?,
                None => 0.0,
            },
            _ => return None,
        })
    }

    /// Is it this number, within one in a thousand?
    pub(super) fn is(&self, v: ValueId, wanted: f64) -> bool {
        self.scalar(v).is_some_and(|value| near(value, wanted))
    }

    /// Axes from the back and sorted where the rank is known, else as they are.
    pub(super) fn axes(&self, axes: &[i64], rank: Option<usize>) -> Vec<i64> {
        let rank = rank.and_then(|rank| i64::try_from(rank).ok());
        let from_back = |axis: i64| match rank {
            Some(rank) if axis >= 0 => axis - rank,
            _ => axis,
        };
        let sorted: BTreeSet<i64> = axes.iter().map(|axis| from_back(*axis)).collect();
        sorted.into_iter().collect()
    }

    /// The number of elements along axes, if it is known.
    pub(super) fn size(&self, v: ValueId, axes: &[i64]) -> Option<i64> {
        axes.iter().try_fold(1i64, |size, axis| size.checked_mul(self.shapes.dim(v, *axis)?))
    }

    /// The axes of a Reduce operator; none if they are not known.
    pub(super) fn reduced(&self, node: NodeId) -> Option<Vec<i64>> {
        let rank = self.shapes.rank(self.view.input(node, 0)?);
        let axes = match (self.view.attribute(node, "axes"), self.view.input(node, 1)) {
            (Some(axes), _) => axes.ints.clone(),
            (None, Some(axes)) => self.view.constant(axes)?.ints()?,
            (None, None) => Vec::new(),
        };
        if !axes.is_empty() {
            return Some(self.axes(&axes, rank));
        }
        let all = self.view.int(node, "noop_with_empty_axes", 0)? == 0;
        all.then(|| {
            rank.map(|rank| (1..=rank).rev().filter_map(|i| Some(-i64::try_from(i).ok()?)).collect())
        })?
    }
}

/// Equal within one in a thousand, which FP16 constants need.
pub(super) fn near(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() <= wanted.abs() * 1e-3
}

/// Is it what people add so that nothing is divided by zero?
pub(super) fn is_epsilon(value: f64) -> bool {
    value > 0.0 && value <= 0.011
}

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
        let node = self.producer(v)?;
        let view = self.view();
        let first = view.output(node, 0) == Some(v) && look.passes(view.op(node));
        first.then(|| view.input(node, 0)).flatten().map(|input| (node, input))
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
            (ops.contains(&view.op(node)) && view.output(node, 0) == Some(at)).then_some(())?;
            t.nodes.push(node);
            Some(node)
        })
    }

    /// The operands of a node, in both orders.
    pub(super) fn orders(&self, node: NodeId) -> [(ValueId, ValueId); 2] {
        let view = self.view();
        match (view.input(node, 0), view.input(node, 1)) {
            (Some(a), Some(b)) => [(a, b), (b, a)],
            // An operator of two operands has two; a broken node matches nothing.
            (a, b) => {
                let any = a.or(b).unwrap_or(ValueId(0));
                [(any, any), (any, any)]
            }
        }
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

/// A node that reads a value, perhaps through nodes that are looked through.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) node: NodeId,
    /// The value as the node reads it.
    pub(super) via: ValueId,
    /// The nodes between.
    pub(super) path: Vec<NodeId>,
}

impl Trail<'_, '_, '_> {
    /// The nodes of this scope that read a value, also through nodes that are looked through; those
    /// in between are listed too, before what they lead to.
    pub(super) fn readers(&self, v: ValueId, look: Look) -> Vec<Reader> {
        let view = self.view();
        let mut found = Vec::new();
        let mut waiting = std::collections::VecDeque::from([(v, Vec::new())]);
        while let Some((via, path)) = waiting.pop_front() {
            let consumers = &view.value(via).consumers;
            if consumers.len() > MAX_FANOUT || found.len() > MAX_FANOUT || path.len() > MAX_CHAIN {
                continue;
            }
            for node in consumers.iter().copied().filter(|node| view.node(*node).scope == self.scope) {
                found.push(Reader { node, via, path: path.clone() });
                let passes = look.passes(view.op(node)) && view.input(node, 0) == Some(via);
                if let Some(out) = view.output(node, 0).filter(|_| passes) {
                    waiting.push_back((out, [&path[..], &[node]].concat()));
                }
            }
        }
        found
    }

    /// Takes a reader and the nodes before it onto the trail; gives what it makes.
    pub(super) fn follow(&mut self, reader: &Reader) -> Option<ValueId> {
        self.nodes.extend(&reader.path);
        self.nodes.push(reader.node);
        self.view().output(reader.node, 0)
    }

    /// The operand that stands beside a value in an operator of two operands.
    pub(super) fn beside(&self, reader: &Reader) -> Option<ValueId> {
        let view = self.view();
        let (a, b) = (view.input(reader.node, 0)?, view.input(reader.node, 1)?);
        if a == reader.via { Some(b) } else { Some(a).filter(|_| b == reader.via) }
    }
}
