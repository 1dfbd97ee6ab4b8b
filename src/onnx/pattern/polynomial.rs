//! Arithmetic of one variable, as its coefficients: `x * (c * x + 1)` and `x + c * x²` are the same.
//!
//! So a GELU is recognized by what it computes, not by the order in which an exporter multiplied. tf2onnx's optimizer leaves
//! Transposes around parts of it: they change no number, and are looked through where they undo each other before
//! the variable is read.

use super::super::graph::{NodeId, ValueId};
use super::look::{Look, MAX_CHAIN};
use super::trail::Trail;

/// Coefficients of 1, x, x², x³.
pub(super) type Coefficients = [f64; 4];

/// How deep an expression is followed.
const MAX_DEPTH: usize = 10;

/// How many values may be looked at: a value that is used twice is read twice.
const MAX_TERMS: usize = 48;

/// Are these the coefficients, within what FP16 constants need?
pub(super) fn equals(have: Coefficients, want: Coefficients) -> bool {
    have.iter().zip(want).all(|(have, want)| (have - want).abs() <= want.abs() * 2e-3 + 1e-6)
}

impl Trail<'_, '_, '_> {
    /// A value as a polynomial of degree 3 in `x`, which is given behind Casts. Reads of `x` are recorded.
    pub(super) fn polynomial(&mut self, v: ValueId, x: ValueId) -> Option<Coefficients> {
        let mut left = MAX_TERMS;
        self.attempt(|t| t.term(v, x, (&[], MAX_DEPTH), &mut left))
    }

    /// `axes` are those of the value that are the axes of the whole expression, in order; none given is all in order.
    fn term(
        &mut self,
        v: ValueId,
        x: ValueId,
        (axes, depth): (&[usize], usize),
        left: &mut usize,
    ) -> Option<Coefficients> {
        let depth = depth.checked_sub(1)?;
        *left = left.checked_sub(1)?;
        if self.root(v) == x {
            axes.iter().copied().eq(0..axes.len()).then_some(())?;
            self.read(v);
            return Some([0.0, 1.0, 0.0, 0.0]);
        }
        if let Some(c) = self.graph.scalar(v) {
            return Some([c, 0.0, 0.0, 0.0]);
        }
        let view = self.view();
        let node = self.producer(v)?;
        self.nodes.push(node);
        let op = self.graph.op(node);
        let mut input = |t: &mut Self, i: usize| t.term(view.input(node, i)?, x, (axes, depth), left);
        match op {
            "Transpose" => {
                let axes = transposed(axes, &view.attribute(node, "perm")?.ints)?;
                self.term(view.input(node, 0)?, x, (&axes, depth), left)
            }
            "Cast" | "Identity" => {
                let handed_on = self.graph.handed_on(node, Look::Casts)?;
                self.term(handed_on, x, (axes, depth), left)
            }
            "Neg" => Some(input(self, 0)?.map(|c| -c)),
            "Add" | "Sub" | "Mul" => {
                let (a, b) = (input(self, 0)?, input(self, 1)?);
                match op {
                    "Add" => Some(std::array::from_fn(|i| a[i] + b[i])),
                    "Sub" => Some(std::array::from_fn(|i| a[i] - b[i])),
                    _ => multiply(a, b),
                }
            }
            "Div" => {
                let by = self.graph.scalar(view.input(node, 1)?).filter(|by| *by != 0.0)?;
                Some(input(self, 0)?.map(|c| c / by))
            }
            "Pow" => {
                let exponent = self.graph.scalar(view.input(node, 1)?)?;
                let a = input(self, 0)?;
                match exponent {
                    2.0 => multiply(a, a),
                    3.0 => multiply(a, multiply(a, a)?),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The values that could be the variable of an expression, the nearest first.
    pub(super) fn variables(&self, v: ValueId) -> Vec<ValueId> {
        let view = self.view();
        let mut found = vec![self.root(v)];
        let mut next = 0;
        while next < found.len() && found.len() < MAX_CHAIN {
            let arithmetic =
                |node: &NodeId| matches!(self.graph.op(*node), "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Neg");
            let node = self.producer(found[next]).filter(arithmetic);
            for input in node.iter().flat_map(|node| &view.node(*node).inputs).flatten() {
                let root = self.root(*input);
                if !view.is_constant(root) && !found.contains(&root) {
                    found.push(root);
                }
            }
            next += 1;
        }
        found
    }
}

/// The axes before a Transpose of those that are behind it.
fn transposed(axes: &[usize], perm: &[i64]) -> Option<Vec<usize>> {
    let perm: Vec<usize> = perm.iter().map(|axis| usize::try_from(*axis).ok()).collect::<Option<_>>()?;
    if axes.is_empty() { Some(perm) } else { axes.iter().map(|axis| perm.get(*axis).copied()).collect() }
}

/// The product, unless its degree exceeds 3.
fn multiply(a: Coefficients, b: Coefficients) -> Option<Coefficients> {
    let mut product = [0.0; 7];
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            product[i + j] += a * b;
        }
    }
    let [low @ .., _, _, _] = product;
    product[4..].iter().all(|c| *c == 0.0).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_are_followed_by_axis() {
        let there = transposed(&[], &[1, 2, 3, 0]).unwrap();
        assert_eq!(transposed(&there, &[3, 0, 1, 2]), Some(vec![0, 1, 2, 3]));
        assert_ne!(transposed(&there, &[1, 2, 3, 0]), Some(vec![0, 1, 2, 3]));
        assert_eq!(transposed(&there, &[0, 1]), None);
    }

    #[test]
    fn products_stay_within_the_third_degree() {
        assert_eq!(multiply([1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]), Some([0.0, 1.0, 2.0, 0.0]));
        assert_eq!(multiply([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]), None);
    }
}
