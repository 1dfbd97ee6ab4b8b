//! `softmax`: `exp(x - max(x)) / sum(exp(x - max(x)))`, and its logarithm.
//!
//! | spelling | written by |
//! |---|---|
//! | Softmax, LogSoftmax | nearly everybody |
//! | ReduceMax, Sub, Exp, ReduceSum, Div; keepdims = 0 and Reshape, Expand; `max(-inf, …)` | JAX through jax2tf; TensorFlow over axes in the middle |
//! | GlobalMaxPool for ReduceMax, of three dimensions and more | tf2onnx's optimizer |
//! | Exp, ReduceSum, Div | hand-written modules |
//! | the same with Reciprocal and Mul, or a small number added to the sum | hand-written modules, graph optimizers |
//! | `x - ReduceLogSumExp(x)`, and Exp of it | hand-written modules |
//! | `x - max - log(sum(exp(x - max)))` | JAX' `log_softmax` |
//!
//! Before opset 13 the operator works on all axes from `axis` on.

use super::super::graph::{NodeId, ValueId};
use super::explicit::{operator, single, trailing};
use super::graph::{Graph, is_epsilon};
use super::look::Look;
use super::matched::{Kind, Match};
use super::readers::Reader;
use super::trail::Trail;

pub(super) fn find(graph: &Graph) -> Vec<Match> {
    let mut found = Vec::new();
    for (id, node) in graph.view.nodes() {
        match operator(graph, id).as_deref() {
            Some("Softmax" | "LogSoftmax") => {
                let Some(of) = single(graph, id, Kind::Softmax) else { continue };
                let old = graph.view.scopes()[node.scope].opset < 13;
                let axis = graph.view.int(id, "axis", if old { 1 } else { -1 });
                let axes = graph.view.input(id, 0).zip(axis).map(|(x, axis)| match old {
                    true => trailing(graph, x, axis),
                    false => graph.axes(&[axis], of.rank),
                });
                found.push(Match { axes: axes.unwrap_or_default(), ..of });
            }
            Some("ReduceSum") => found.extend(Trail::at(graph, id).over_sum(id)),
            Some("ReduceLogSumExp") => found.extend(Trail::at(graph, id).over_log_sum(id)),
            _ => {}
        }
    }
    found
}

impl Trail<'_, '_, '_> {
    /// From the sum of exponentials on.
    fn over_sum(mut self, sum: NodeId) -> Option<Match> {
        let view = self.view();
        let axes = self.graph.reduced(sum)?;
        let operand = view.input(sum, 0)?;
        let exp = self.op(operand, Look::Casts, &["Exp"])?;
        let exponentials = view.output(exp, 0)?;
        let shifted = view.input(exp, 0)?;
        self.shifted(shifted, &axes)?;
        let out = self.quotient(view.output(sum, 0)?, exponentials, shifted, &axes, 4)?;
        self.describe_softmax(out, axes)
    }

    /// The input, perhaps less its maximum.
    fn shifted(&mut self, v: ValueId, axes: &[i64]) -> Option<()> {
        let less_maximum = self.attempt(|t| {
            let node = t.op(v, Look::Casts, &["Sub"])?;
            let (x, meets) = (t.view().input(node, 0)?, t.view().input(node, 1)?);
            let bounded = t.bounded(meets);
            let max = t.op(bounded, Look::Shapes, &["ReduceMax", "GlobalMaxPool"])?;
            let root = t.read(x);
            let same = t.read(t.view().input(max, 0)?) == root;
            (same && t.graph.reduced(max)? == axes && t.lines_up(meets, x, axes)).then_some(())
        });
        less_maximum.or_else(|| {
            self.read(v);
            Some(())
        })
    }

    /// Below JAX' `max(-inf, …)`.
    fn bounded(&mut self, v: ValueId) -> ValueId {
        let below = self.attempt(|t| {
            let node = t.op(v, Look::Shapes, &["Max"])?;
            let lowest = |c: ValueId| t.graph.scalar(c).is_some_and(|c| c < -1e30);
            t.orders(node).find(|(_, c)| lowest(*c)).map(|(m, _)| m)
        });
        below.unwrap_or(v)
    }

    /// Follows the sum until it divides the exponentials, or its logarithm is taken from the input.
    fn quotient(
        &mut self,
        sum: ValueId,
        exponentials: ValueId,
        shifted: ValueId,
        axes: &[i64],
        depth: usize,
    ) -> Option<ValueId> {
        let depth = depth.checked_sub(1)?;
        self.readers(sum, Look::Shapes).into_iter().find_map(|reader| {
            self.attempt(|t| {
                let view = t.view();
                let out = t.follow(&reader)?;
                let divides = |t: &Self, v: ValueId, of: ValueId| {
                    t.root(v) == t.root(of) && t.lines_up(reader.via, v, axes)
                };
                let (first, other) = (view.input(reader.node, 0)?, t.beside(&reader));
                match t.graph.op(reader.node) {
                    "Div" if first != reader.via && divides(t, first, exponentials) => {
                        t.strip(first, Look::Casts);
                        Some(out)
                    }
                    "Add" if t.graph.scalar(other?).is_some_and(is_epsilon) => {
                        t.quotient(out, exponentials, shifted, axes, depth)
                    }
                    "Reciprocal" => t.product(out, exponentials, axes),
                    "Div" if t.graph.is(first, 1.0) => t.product(out, exponentials, axes),
                    "Log" => t.difference(out, shifted, axes),
                    _ => None,
                }
            })
        })
    }

    /// The exponentials times the reciprocal of their sum.
    fn product(&mut self, inverse: ValueId, exponentials: ValueId, axes: &[i64]) -> Option<ValueId> {
        self.readers(inverse, Look::Shapes).into_iter().find_map(|reader| {
            self.attempt(|t| {
                let other = t.beside(&reader).filter(|_| t.view().op(reader.node) == "Mul")?;
                (t.root(other) == t.root(exponentials) && t.lines_up(reader.via, other, axes))
                    .then_some(())?;
                t.strip(other, Look::Casts);
                t.follow(&reader)
            })
        })
    }

    /// What the exponentials were made of, less the logarithm of their sum.
    fn difference(&mut self, log: ValueId, shifted: ValueId, axes: &[i64]) -> Option<ValueId> {
        self.readers(log, Look::Shapes).into_iter().find_map(|reader| {
            self.attempt(|t| {
                let view = t.view();
                let first = view.input(reader.node, 0).filter(|_| view.op(reader.node) == "Sub")?;
                let same = t.root(first) == t.root(shifted) && first != reader.via;
                (same && t.lines_up(reader.via, first, axes)).then_some(())?;
                // Without a maximum it is the input itself that is read here.
                match view.value(t.root(first)).producer.filter(|node| t.nodes.contains(node)) {
                    Some(_) => {
                        t.strip(first, Look::Casts);
                    }
                    None => {
                        t.read(first);
                    }
                }
                t.follow(&reader)
            })
        })
    }

    /// From the logarithm of the sum of exponentials on.
    fn over_log_sum(mut self, node: NodeId) -> Option<Match> {
        let view = self.view();
        let axes = self.graph.reduced(node)?;
        let x = view.input(node, 0)?;
        self.read(x);
        let mut out = self.difference(view.output(node, 0)?, x, &axes)?;
        let exps: Vec<Reader> =
            self.readers(out, Look::Casts).into_iter().filter(|r| view.op(r.node) == "Exp").collect();
        // A logarithm that others read too stays one.
        if let [exp] = &exps[..]
            && view.value(out).consumers.len() == 1
            && !view.value(out).is_output
        {
            out = self.follow(exp)?;
        }
        self.describe_softmax(out, axes)
    }

    fn describe_softmax(&self, out: ValueId, axes: Vec<i64>) -> Option<Match> {
        let found = self.finish(Kind::Softmax, out)?;
        let rank = self.view().find(self.scope, &found.input).and_then(|v| self.graph.shapes.rank(v));
        Some(Match { axes, rank, ..found })
    }
}
