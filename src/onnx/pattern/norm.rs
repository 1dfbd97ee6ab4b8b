//! What the norms share: a value is divided by the root of a statistic of itself.
//!
//! The root is the rare operator, so the search starts there: `Sqrt`, `Pow 0.5` or `Pow -0.5`, `Rsqrt`,
//! `ReduceL2`. Backwards from it stands the statistic with its epsilon, which tells the input and the
//! axes. Forwards, through Reciprocal and reshapes and perhaps already multiplied by the scale, the
//! root meets the input again, as a divisor or a factor; what follows may be scale and bias.

use std::collections::{BTreeSet, VecDeque};

use super::super::graph::{NodeId, ValueId};
use super::graph::{Graph, is_epsilon, near};
use super::look::Look;
use super::matched::{Kind, Match};
use super::parameter::Fit;
use super::readers::{MAX_FANOUT, Reader};
use super::statistic::{Spread, Statistic};
use super::trail::Trail;

/// How many values a root is followed through.
const MAX_STEPS: usize = 48;

/// A root on its way to the input.
#[derive(Clone, Debug)]
struct Step {
    v: ValueId,
    /// The same before the scale was multiplied into it.
    bare: ValueId,
    inverse: bool,
    /// Is it the root of a mean, where a kind of norm wants one? That of a sum becomes it when it is divided by the
    /// root of its size.
    mean: bool,
    scale: Option<ValueId>,
    epsilon: Option<f64>,
    path: Vec<NodeId>,
}

/// A norm that was found, before its parameters.
#[derive(Clone, Debug)]
pub(super) struct Core {
    pub(super) out: ValueId,
    pub(super) scale: Option<ValueId>,
    pub(super) bias: Option<ValueId>,
    pub(super) epsilon: Option<f64>,
}

/// All decomposed norms of a kind.
pub(super) fn find(graph: &Graph, kind: Kind) -> Vec<Match> {
    graph.view.nodes().filter_map(|(id, _)| at_root(graph, id, kind)).collect()
}

/// What stands under the root in a kind of norm.
fn spread_of(kind: Kind) -> Spread {
    match kind {
        Kind::LayerNorm => Spread::Variance,
        Kind::RmsNorm => Spread::MeanSquare,
        _ => Spread::SumSquare,
    }
}

fn at_root(graph: &Graph, id: NodeId, kind: Kind) -> Option<Match> {
    let view = graph.view;
    let mut t = Trail::at(graph, id);
    let out = view.output(id, 0).filter(|out| !view.is_constant(*out))?;
    let operand = view.input(id, 0)?;
    let exponent = |wanted: f64| view.input(id, 1).is_some_and(|e| graph.is(e, wanted));
    // TensorFlow's own operators survive in some exports under foreign domains.
    let rsqrt = view.node(id).proto.op_type() == "Rsqrt";
    let inverse = match view.op(id) {
        _ if rsqrt => true,
        "Sqrt" | "ReduceL2" => false,
        "Pow" if exponent(0.5) => false,
        "Pow" if exponent(-0.5) => true,
        _ => return None,
    };
    let (statistic, epsilon, clamped) = if view.op(id) == "ReduceL2" {
        let (axes, x) = (graph.reduced(id)?, t.read(operand));
        (Statistic { spread: Spread::SumSquare, x, axes, unbiased: false }, None, false)
    } else {
        t.radicand(operand)?
    };
    let mean = statistic.spread == spread_of(kind);
    let sum = kind == Kind::RmsNorm && statistic.spread == Spread::SumSquare && !inverse;
    if !(mean || sum) || statistic.axes.is_empty() {
        return None;
    }
    let step = Step { v: out, bare: out, inverse, mean, scale: None, epsilon: None, path: Vec::new() };
    let core = t.meet(step, &statistic)?;
    t.describe_norm(kind, &statistic, core, epsilon, clamped)
}

impl Trail<'_, '_, '_> {
    /// A statistic with its epsilon, and whether that is a bound instead of a summand.
    fn radicand(&mut self, v: ValueId) -> Option<(Statistic, Option<f64>, bool)> {
        let with_epsilon = self.attempt(|t| {
            let node = t.op(v, Look::Shapes, &["Add", "Max", "Clip"])?;
            if t.view().op(node) == "Clip" {
                let epsilon = t.lower_bound(node).filter(|bound| is_epsilon(*bound))?;
                return Some((t.statistic(t.view().input(node, 0)?)?, Some(epsilon), true));
            }
            let bounds = t.view().op(node) == "Max";
            t.orders(node).find_map(|(operand, c)| {
                let epsilon = t.graph.scalar(c).filter(|c| is_epsilon(*c))?;
                Some((t.attempt(|t| t.statistic(operand))?, Some(epsilon), bounds))
            })
        });
        with_epsilon.or_else(|| Some((self.attempt(|t| t.statistic(v))?, None, false)))
    }

    /// Follows a root until it divides the input.
    fn meet(&mut self, start: Step, statistic: &Statistic) -> Option<Core> {
        let mut seen = BTreeSet::from([start.v]);
        let mut waiting = VecDeque::from([start]);
        while let Some(step) = waiting.pop_front() {
            for reader in self.direct_readers(step.v) {
                if let Some(core) = self.attempt(|t| t.divide(&step, &reader, statistic)) {
                    return Some(core);
                }
                let next = self.advance(&step, &reader, statistic);
                if let Some(next) = next.filter(|next| seen.len() < MAX_STEPS && seen.insert(next.v)) {
                    waiting.push_back(next);
                }
            }
        }
        None
    }

    fn direct_readers(&self, v: ValueId) -> Vec<Reader> {
        let view = self.view();
        let consumers = view.value(v).consumers.iter().filter(|node| view.node(**node).scope == self.scope);
        let reader = |node: &NodeId| Reader { node: *node, via: v, path: Vec::new() };
        consumers.take(MAX_FANOUT).map(reader).collect()
    }

    /// What a node that is not yet the division makes of a root.
    fn advance(&self, step: &Step, reader: &Reader, statistic: &Statistic) -> Option<Step> {
        let (view, node) = (self.view(), reader.node);
        let mut next = step.clone();
        next.v = view.output(node, 0)?;
        next.path.push(node);
        let op = self.graph.op(node);
        let first = view.input(node, 0) == Some(step.v);
        let other = self.beside(reader);
        let parameter = |v: ValueId| step.scale.is_none() && self.fit(v, statistic) == Fit::Along;
        match op {
            _ if self.graph.handed_on(node, Look::Shapes) == Some(step.v) => {}
            "Mul" | "Div" if !step.inverse && !step.mean && (first || op == "Mul") => {
                let size = self.graph.size(statistic.x, &statistic.axes)?;
                #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
                let root = (size as f64).sqrt();
                let factor = self.graph.scalar(other?)?;
                next.mean = near(if op == "Mul" { 1.0 / factor } else { factor }, root);
                next.mean.then_some(())?;
            }
            "Add" | "Max" if !step.inverse => {
                next.epsilon = Some(self.graph.scalar(other?).filter(|c| is_epsilon(*c))?);
            }
            "Clip" if !step.inverse && first => {
                next.epsilon = Some(self.lower_bound(node).filter(|bound| is_epsilon(*bound))?);
            }
            "Reciprocal" if !step.inverse => next.inverse = true,
            "Pow" if !step.inverse && first && self.graph.is(other?, -1.0) => next.inverse = true,
            "Div" if !step.inverse && !first => {
                let numerator = other?;
                if !self.graph.is(numerator, 1.0) {
                    next.scale = Some(numerator).filter(|v| parameter(*v));
                    next.scale?;
                }
                next.inverse = true;
            }
            "Min" if step.inverse => {
                next.epsilon = Some(1.0 / self.graph.scalar(other?)?).filter(|bound| is_epsilon(*bound));
                next.epsilon?;
            }
            "Mul" if step.inverse => {
                next.scale = Some(other?).filter(|v| parameter(*v));
                next.scale?;
            }
            _ => return None,
        }
        if next.scale.is_none() {
            next.bare = next.v;
        }
        Some(next)
    }

    /// Does a node divide the input by the root?
    fn divide(&mut self, step: &Step, reader: &Reader, statistic: &Statistic) -> Option<Core> {
        let (view, node) = (self.view(), reader.node);
        let numerator = self.beside(reader)?;
        let divides = match view.op(node) {
            "Div" => !step.inverse && view.input(node, 1) == Some(step.v),
            "Mul" => step.inverse,
            _ => false,
        };
        if !divides || !step.mean || !self.lines_up(step.bare, numerator, &statistic.axes) {
            return None;
        }
        self.nodes.extend(&step.path);
        self.nodes.push(node);
        let out = view.output(node, 0)?;
        let mut core = Core { out, scale: step.scale, bias: None, epsilon: step.epsilon };
        if let Some(scale) = self.numerator(numerator, statistic, core.scale.is_none()) {
            core.scale = core.scale.or(scale);
            return Some(core);
        }
        if statistic.spread == Spread::Variance && step.inverse && self.root(numerator) == statistic.x {
            self.read(numerator);
            return self.folded(core, step.v, statistic);
        }
        None
    }

    /// The input (less its mean, in a layer norm), perhaps already times the scale.
    fn numerator(&mut self, v: ValueId, of: &Statistic, scalable: bool) -> Option<Option<ValueId>> {
        if self.attempt(|t| t.is_input(v, of)).is_some() {
            return Some(None);
        }
        if !scalable {
            return None;
        }
        self.attempt(|t| {
            let node = t.op(v, Look::Casts, &["Mul"])?;
            t.orders(node).find_map(|(input, scale)| {
                let fits = t.fit(scale, of) == Fit::Along;
                t.attempt(|t| t.is_input(input, of)).filter(|()| fits).map(|()| Some(scale))
            })
        })
    }

    fn is_input(&mut self, v: ValueId, of: &Statistic) -> Option<()> {
        if of.spread == Spread::Variance {
            let centered = self.centered(v)?;
            return (centered.of == of.x && centered.axes == of.axes).then_some(());
        }
        (self.read(v) == of.x).then_some(())
    }

    fn describe_norm(
        &mut self,
        kind: Kind,
        of: &Statistic,
        mut core: Core,
        epsilon: Option<f64>,
        clamped: bool,
    ) -> Option<Match> {
        let mut beside = false;
        if kind != Kind::L2Norm && core.scale.is_none() && core.bias.is_none() {
            let (scale, other) = self.parameter(core.out, "Mul", of);
            beside = other;
            if let Some((reader, scale)) = scale {
                core.out = self.follow(&reader)?;
                core.scale = Some(scale);
            }
        }
        if kind == Kind::LayerNorm
            && core.bias.is_none()
            && let (Some((reader, bias)), _) = self.parameter(core.out, "Add", of)
        {
            core.out = self.follow(&reader)?;
            core.bias = Some(bias);
        }
        let shapes = &self.graph.shapes;
        let parameters = [core.scale, core.bias];
        let mut rank = shapes.rank(of.x);
        if rank.is_none() {
            // A parameter of full rank tells it.
            rank = parameters.iter().flatten().filter_map(|v| shapes.rank(*v)).find(|rank| *rank >= 2);
        }
        let axes = self.graph.axes(&of.axes, rank);
        let last: Vec<i64> = (1..=axes.len()).rev().filter_map(|i| Some(-i64::try_from(i).ok()?)).collect();
        let along = parameters.iter().flatten().any(|v| shapes.dims(*v).is_some());
        if kind != Kind::L2Norm && (beside || axes != last && !(along && axes.iter().all(|axis| *axis < 0))) {
            return None;
        }
        let mut found = self.finish(kind, core.out)?;
        let name = |v: ValueId| self.view().value(v).name.to_owned();
        found.exact = match kind {
            // LpNormalization has no epsilon at all.
            Kind::L2Norm => epsilon.or(core.epsilon).is_none(),
            _ => core.epsilon.is_none() && !clamped && !of.unbiased,
        };
        found.axes = axes;
        found.rank = rank;
        found.epsilon = epsilon.or(core.epsilon);
        found.scale = core.scale.map(name);
        found.bias = core.bias.map(name);
        Some(found)
    }
}
