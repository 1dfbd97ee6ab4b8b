//! Means, squares, variances: what norms are made of.
//!
//! - mean: ReduceMean; GlobalAveragePool (tf2onnx); ReduceSum times `1/N` or over `N` (tf2onnx, JAX). Axes as attribute or input.
//! - square: Pow 2 (PyTorch, Paddle), `x * x` (tf2onnx, JAX), ReduceSumSquare;
//!   the square of a ReduceL2 or of an absolute value.
//! - variance: mean of the square of `x - mean(x)`, whose subtraction may be written twice (TensorFlow's
//!   SquaredDifference); or `mean(x²) - mean(x)²`, mostly with `max(0, …)` around it (Flax); that times
//!   `N / (N - 1)` (PyTorch).

use super::super::graph::{NodeId, ValueId};
use super::graph::near;
use super::look::Look;
use super::trail::Trail;

/// What was averaged or summed, over what.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mean {
    /// The operand as the Reduce operator reads it.
    pub(super) of: ValueId,
    pub(super) axes: Vec<i64>,
    /// What its sum is divided by; none for a ReduceMean, which divides by what it sums.
    divisor: Option<f64>,
}

/// What is under the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Of the distance to the mean.
    Variance,
    /// Of the value itself.
    MeanSquare,
    /// The same without a division.
    SumSquare,
}

/// A statistic of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statistic {
    pub(super) spread: Spread,
    /// The value, behind Casts.
    pub(super) x: ValueId,
    pub(super) axes: Vec<i64>,
    pub(super) unbiased: bool,
}

impl Trail<'_, '_, '_> {
    /// A mean, by any of its spellings.
    pub(super) fn mean(&mut self, v: ValueId) -> Option<Mean> {
        self.attempt(|t| {
            if let Some(node) = t.op(v, Look::Shapes, &["ReduceMean", "GlobalAveragePool"]) {
                let (of, axes) = (t.view().input(node, 0)?, t.graph.reduced(node)?);
                return Some(Mean { of, axes, divisor: None });
            }
            let mean = t.share(v, Self::sum)?;
            t.averages(&mean).then_some(mean)
        })
    }

    /// What is summed, over which axes.
    fn sum(&mut self, v: ValueId) -> Option<(ValueId, Vec<i64>)> {
        let node = self.op(v, Look::Shapes, &["ReduceSum"])?;
        Some((self.view().input(node, 0)?, self.graph.reduced(node)?))
    }

    /// What is squared and summed: by ReduceSumSquare, or the square of a ReduceL2.
    fn sum_of_squares(&mut self, v: ValueId) -> Option<(ValueId, Vec<i64>)> {
        let node = self.op(v, Look::Shapes, &["ReduceSumSquare"]).or_else(|| {
            self.attempt(|t| {
                let root = t.strip(v, Look::Shapes);
                let [root, _] = t.square(root)?;
                t.op(root, Look::Casts, &["ReduceL2"])
            })
        })?;
        Some((self.view().input(node, 0)?, self.graph.reduced(node)?))
    }

    /// A sum that is divided by the number of its operands.
    fn share(
        &mut self,
        v: ValueId,
        sum: impl Fn(&mut Self, ValueId) -> Option<(ValueId, Vec<i64>)>,
    ) -> Option<Mean> {
        let node = self.op(v, Look::Shapes, &["Mul", "Div"])?;
        let divides = self.view().op(node) == "Div";
        self.orders(node).take(if divides { 1 } else { 2 }).find_map(|(summed, factor)| {
            let factor = self.graph.scalar(factor)?;
            let count = if divides { factor } else { 1.0 / factor };
            self.attempt(|t| {
                let (of, axes) = sum(t, summed)?;
                let mean = Mean { of, axes, divisor: Some(count) };
                (t.averages(&mean) || t.is_unbiased(&mean)).then_some(())?;
                t.divisors.push(count);
                Some(mean)
            })
        })
    }

    /// Is a sum divided by the number of its elements, as far as a pattern must know?
    fn averages(&self, mean: &Mean) -> bool {
        match (mean.divisor, self.size(mean)) {
            (Some(count), Some(size)) => near(count, size),
            // Any number of elements is possible, but it is a number.
            (Some(count), None) => count >= 1.0 && near(count, count.round()),
            (None, _) => true,
        }
    }

    /// Is a sum divided by one less than the number of its elements? Of a thousand and more, both are near.
    fn is_unbiased(&self, mean: &Mean) -> bool {
        let (Some(count), Some(size)) = (mean.divisor, self.size(mean)) else { return false };
        near(count, size - 1.0) && (count - size + 1.0).abs() < (count - size).abs()
    }

    /// The number of elements that are summed, if it is known.
    fn size(&self, mean: &Mean) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
        self.graph.size(mean.of, &mean.axes).map(|size| size as f64)
    }

    /// The operand of a square, below an Abs that changes nothing.
    fn square(&mut self, v: ValueId) -> Option<[ValueId; 2]> {
        let node = self.op(v, Look::Casts, &["Pow", "Mul"])?;
        let [a, b] = self.graph.operands(node)?;
        let squares = match self.view().op(node) {
            "Pow" if self.graph.is(b, 2.0) => [a, a],
            "Mul" if self.root(a) == self.root(b) || self.are_one_deviation(a, b) => [a, b],
            _ => return None,
        };
        Some(squares.map(|of| match self.op(of, Look::Casts, &["Abs"]) {
            Some(abs) => self.view().input(abs, 0).unwrap_or(of),
            None => of,
        }))
    }

    /// Are these `x - mean(x)`, each by a subtraction of its own?
    fn are_one_deviation(&mut self, a: ValueId, b: ValueId) -> bool {
        self.attempt(|t| (t.centered(a)? == t.centered(b)?).then_some(())).is_some()
    }

    /// `x - mean(x)`, or `x + -mean(x)`: x behind Casts, and the axes.
    pub(super) fn centered(&mut self, v: ValueId) -> Option<Mean> {
        self.attempt(|t| {
            let node = t.op(v, Look::Casts, &["Sub", "Add"])?;
            let subtracts = t.view().op(node) == "Sub";
            t.orders(node).take(if subtracts { 1 } else { 2 }).find_map(|(a, m)| {
                t.attempt(|t| {
                    let taken = match subtracts {
                        true => m,
                        false => {
                            let minus = t.op(m, Look::Shapes, &["Neg"])?;
                            t.view().input(minus, 0)?
                        }
                    };
                    let mean = t.mean(taken)?;
                    let x = t.read(a);
                    let fits = t.read(mean.of) == x && t.lines_up(m, a, &mean.axes);
                    fits.then_some(Mean { of: x, ..mean })
                })
            })
        })
    }

    /// A spread, with what keeps it from being negative looked through.
    pub(super) fn statistic(&mut self, v: ValueId) -> Option<Statistic> {
        let v = self.clamped(v);
        self.attempt(|t| t.difference_of_squares(v))
            .or_else(|| self.mean_of_squares(v))
            .or_else(|| self.attempt(|t| t.corrected(v)))
    }

    /// `variance * N / (N - 1)`, in any order: PyTorch's `std` and `var`.
    fn corrected(&mut self, v: ValueId) -> Option<Statistic> {
        let (mut at, mut factor) = (v, 1.0);
        // One operator of a constant, or two.
        for _ in 0..2 {
            let node = self.op(at, Look::Shapes, &["Mul", "Div"])?;
            let divides = self.view().op(node) == "Div";
            let mut orders = self.orders(node).take(if divides { 1 } else { 2 });
            let (next, number) = orders.find_map(|(next, c)| Some((next, self.graph.scalar(c)?)))?;
            (at, factor) = (next, if divides { factor / number } else { factor * number });
            let found = self.attempt(|t| {
                let of = t.mean_of_squares(at).filter(|of| of.spread == Spread::Variance && !of.unbiased)?;
                #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
                let size = t.graph.size(of.x, &of.axes)? as f64;
                // The difference from 1 is what tells it from a mere scale.
                near(1.0 / (factor - 1.0), size - 1.0).then_some(Statistic { unbiased: true, ..of })
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Below `max(x, 0)`, `relu(x)`, `clip(x, 0)`, `abs(x)`.
    fn clamped(&mut self, v: ValueId) -> ValueId {
        let below = self.attempt(|t| {
            let node = t.op(v, Look::Shapes, &["Max", "Relu", "Clip", "Abs"])?;
            let view = t.view();
            match view.op(node) {
                "Max" => {
                    let zero = |c: ValueId| t.graph.scalar(c) == Some(0.0);
                    t.orders(node).find(|(_, c)| zero(*c)).map(|(x, _)| x)
                }
                "Clip" => (t.lower_bound(node) == Some(0.0)).then(|| view.input(node, 0))?,
                _ => view.input(node, 0),
            }
        });
        below.unwrap_or(v)
    }

    /// What a Clip keeps its operand above; none if it keeps it below something too.
    pub(super) fn lower_bound(&self, clip: NodeId) -> Option<f64> {
        let view = self.view();
        let bound = |name: &str, i: usize| match view.attribute(clip, name) {
            Some(a) => Some(Some(f64::from(a.f()))),
            None => view.input(clip, i).map(|v| self.graph.scalar(v)),
        };
        // Before opset 11 the largest number stands for no bound.
        let bounded = bound("max", 2).is_some_and(|max| max.is_none_or(|max| max < 1e30));
        bound("min", 1)?.filter(|_| !bounded)
    }

    /// `mean(x²) - mean(x)²`
    fn difference_of_squares(&mut self, v: ValueId) -> Option<Statistic> {
        let node = self.op(v, Look::Shapes, &["Sub"])?;
        let (a, b) = (self.view().input(node, 0)?, self.view().input(node, 1)?);
        let squares = self.mean_of_squares(a).filter(|s| s.spread == Spread::MeanSquare)?;
        let b = self.strip(b, Look::Shapes);
        let [m, n] = self.square(b)?;
        let (mean, other) = (self.mean(m)?, self.mean(n)?);
        let same = self.read(mean.of) == squares.x && self.read(other.of) == squares.x;
        (same && !squares.unbiased && mean.axes == squares.axes && other.axes == squares.axes)
            .then_some(Statistic { spread: Spread::Variance, ..squares })
    }

    fn mean_of_squares(&mut self, v: ValueId) -> Option<Statistic> {
        let mean = |t: &mut Self| {
            // Of squares alone, unlike of values, people divide the sum by one less.
            let mean = t.mean(v).or_else(|| t.share(v, Self::sum))?;
            let operands = t.square(mean.of)?;
            let unbiased = t.is_unbiased(&mean);
            t.spread(operands, mean.axes, unbiased, true)
        };
        let share = |t: &mut Self| {
            let mean = t.share(v, Self::sum_of_squares)?;
            let unbiased = t.is_unbiased(&mean);
            t.spread([mean.of; 2], mean.axes, unbiased, true)
        };
        let sum = |t: &mut Self| {
            let (squares, axes) = t.sum(v)?;
            let operands = t.square(squares)?;
            t.spread(operands, axes, false, false)
        };
        let sum_square = |t: &mut Self| {
            let (of, axes) = t.sum_of_squares(v)?;
            t.spread([of; 2], axes, false, false)
        };
        self.attempt(mean)
            .or_else(|| self.attempt(share))
            .or_else(|| self.attempt(sum))
            .or_else(|| self.attempt(sum_square))
    }

    /// What the squares of these operands, averaged or summed, say.
    fn spread(&mut self, of: [ValueId; 2], axes: Vec<i64>, unbiased: bool, mean: bool) -> Option<Statistic> {
        if mean {
            let centered = self.attempt(|t| {
                let (a, b) = (t.centered(of[0])?, t.centered(of[1])?);
                (a.of == b.of && a.axes == axes && b.axes == axes).then_some(a.of)
            });
            if let Some(x) = centered {
                return Some(Statistic { spread: Spread::Variance, x, axes, unbiased });
            }
        }
        // Only a variance is ever divided by one less.
        let x = (!unbiased).then(|| self.read(of[0]))?;
        self.read(of[1]);
        let spread = if mean { Spread::MeanSquare } else { Spread::SumSquare };
        Some(Statistic { spread, x, axes, unbiased })
    }
}
