//! Norms whose mean is taken off behind the division: `x * r - mean(x) * r`.

use super::super::graph::ValueId;
use super::look::Look;
use super::norm::Core;
use super::parameter::Fit;
use super::statistic::Statistic;
use super::trail::Trail;

impl Trail<'_, '_, '_> {
    /// TensorFlow's `batch_normalization`: `x * r + (bias - mean * r)`, where `r` may hold the scale.
    pub(super) fn folded(&mut self, core: Core, factor: ValueId, of: &Statistic) -> Option<Core> {
        let product = core.out;
        self.readers(product, Look::Casts).into_iter().find_map(|reader| {
            let rest = self.beside(&reader)?;
            let (view, op) = (self.view(), self.graph.op(reader.node));
            self.attempt(|t| {
                t.nodes.extend(&reader.path);
                t.nodes.push(reader.node);
                let bias = match op {
                    "Sub" if view.input(reader.node, 0) == Some(reader.via) => {
                        t.mean_product(rest, factor, of)?;
                        None
                    }
                    "Add" => t.shift(rest, factor, of)?,
                    _ => return None,
                };
                Some(Core { out: view.output(reader.node, 0)?, bias, ..core.clone() })
            })
        })
    }

    /// What is added to `x * r`: `bias - mean(x) * r`, or Keras 3's `(-mean(x)) * r + bias`. Gives the bias, if there is one.
    fn shift(&mut self, v: ValueId, factor: ValueId, of: &Statistic) -> Option<Option<ValueId>> {
        if self.negated_product(v, factor, of).is_some() {
            return Some(None);
        }
        let node = self.op(v, Look::Shapes, &["Sub", "Add"])?;
        let subtracts = self.view().op(node) == "Sub";
        self.orders(node).take(if subtracts { 1 } else { 2 }).find_map(|(bias, product)| {
            self.attempt(|t| match subtracts {
                true => t.mean_product(product, factor, of),
                false => t.negated_product(product, factor, of),
            })?;
            (self.fit(bias, of) == Fit::Along).then_some(Some(bias))
        })
    }

    /// `-mean(x) * r`, with the minus before the product or before one of its factors.
    fn negated_product(&mut self, v: ValueId, factor: ValueId, of: &Statistic) -> Option<()> {
        self.attempt(|t| {
            let node = t.op(v, Look::Shapes, &["Neg", "Mul"])?;
            if t.view().op(node) == "Neg" {
                return t.mean_product(t.view().input(node, 0)?, factor, of);
            }
            t.orders(node).find_map(|(negated, other)| {
                t.attempt(|t| {
                    let minus = t.op(negated, Look::Shapes, &["Neg"])?;
                    let negated = t.view().input(minus, 0)?;
                    t.factors(negated, other, factor, of).or_else(|| t.factors(other, negated, factor, of))
                })
            })
        })
    }

    /// `mean(x) * r`
    fn mean_product(&mut self, v: ValueId, factor: ValueId, of: &Statistic) -> Option<()> {
        let node = self.op(v, Look::Shapes, &["Mul"])?;
        self.orders(node).find_map(|(mean, other)| self.factors(mean, other, factor, of))
    }

    /// Are these `mean(x)` and `r`?
    fn factors(&mut self, mean: ValueId, other: ValueId, factor: ValueId, of: &Statistic) -> Option<()> {
        let wanted = self.root_of(factor, Look::Shapes);
        self.attempt(|t| {
            (t.strip(other, Look::Shapes) == wanted && t.lines_up(mean, of.x, &of.axes)).then_some(())?;
            let mean = t.mean(mean)?;
            let x = t.read(mean.of);
            (x == of.x && mean.axes == of.axes).then_some(())
        })
    }
}
