//! `gelu`: `x * Φ(x)`, exactly or by tanh.
//!
//! | spelling | written by |
//! |---|---|
//! | Gelu | PyTorch from opset 20 |
//! | Gelu, FastGelu, BiasGelu (com.microsoft) | ONNX Runtime's optimizer |
//! | Div by √2, Erf, Add 1, Mul x, Mul 0.5 | PyTorch before opset 20 |
//! | Mul by 0.7071, Erf, Add 1, Mul 0.5, Mul x, in any order | PaddlePaddle, tf2onnx, Keras |
//! | Mul x by 0.5 first | hand-written modules (BERT, Swin) |
//! | Pow 3, Mul 0.044715, Add x, Mul 0.79788, Tanh, Add 1, Mul 0.5, Mul x | PyTorch: GPT-2, `gelu_new` |
//! | the same with its cube between two Transposes | tf2onnx's optimizer, of Keras 3 |
//! | `x + x * (x * (0.044715 * x))` under the Tanh | Flax through jax2tf (magika) |
//! | `0.79788 * x * (1 + 0.044715 * x * x)` under the Tanh | PyTorch: `gelu_fast` |
//! | `x * sigmoid(1.59577 * (x + 0.044715 * x³))` | XLA's rewriting of the tanh form |
//!
//! `x * sigmoid(1.702 * x)` is another function, and not matched.

use std::collections::{BTreeSet, VecDeque};

use super::super::graph::{NodeId, ValueId};
use super::explicit::{name, operator, single};
use super::graph::{Graph, near};
use super::look::Look;
use super::matched::{Kind, Match};
use super::polynomial::{Coefficients, equals};
use super::readers::Reader;
use super::trail::Trail;

/// Under the error function: x / √2.
const ERF: Coefficients = [0.0, std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0];

/// √(2/π)
const TANH_FACTOR: f64 = 0.797_884_560_8;

/// Under the tanh: √(2/π) (x + 0.044715 x³).
const TANH: Coefficients = [0.0, TANH_FACTOR, 0.0, TANH_FACTOR * 0.044_715];

/// Under the sigmoid: twice that.
const SIGMOID: Coefficients = [0.0, 2.0 * TANH_FACTOR, 0.0, 2.0 * TANH_FACTOR * 0.044_715];

/// How many values are followed forwards.
const MAX_STEPS: usize = 24;

pub(super) fn find(graph: &Graph) -> Vec<Match> {
    let mut found = Vec::new();
    for (id, _) in graph.view.nodes() {
        let (argument, half) = match operator(graph, id).as_deref() {
            Some("Gelu" | "ms::Gelu") => {
                found.extend(single(graph, id, Kind::Gelu));
                continue;
            }
            Some("ms::FastGelu" | "ms::BiasGelu") => {
                let bias = name(graph, id, 1);
                found.extend(single(graph, id, Kind::Gelu).map(|of| Match { bias, ..of }));
                continue;
            }
            Some("Erf") => (ERF, 0.5),
            Some("Tanh") => (TANH, 0.5),
            Some("Sigmoid") => (SIGMOID, 0.0),
            _ => continue,
        };
        found.extend(around(graph, id, argument, half));
    }
    found
}

/// On the way from the function to the product: `(constant + factor * function) * x^degree`.
#[derive(Clone, Copy, Debug)]
struct Partial {
    constant: f64,
    factor: f64,
    multiplied: bool,
}

/// Around a function whose argument must be this, and that is `x * (half + (1 - half) * function)`.
fn around(graph: &Graph, id: NodeId, argument: Coefficients, half: f64) -> Option<Match> {
    let view = graph.view;
    let operand = view.input(id, 0)?;
    let variables = Trail::at(graph, id).variables(operand);
    variables.into_iter().find_map(|x| {
        let mut t = Trail::at(graph, id);
        let have = t.polynomial(operand, x)?;
        let out = equals(have, argument).then(|| t.product_with(view.output(id, 0)?, x, half))??;
        let found = t.finish(Kind::Gelu, out)?;
        Some(Match { rank: graph.shapes.rank(x), ..found })
    })
}

impl Trail<'_, '_, '_> {
    /// Follows the function forwards until it is the product wanted.
    fn product_with(&mut self, function: ValueId, x: ValueId, half: f64) -> Option<ValueId> {
        let start = Partial { constant: 0.0, factor: 1.0, multiplied: false };
        let mut seen = BTreeSet::from([function]);
        // Each step has the nodes and reads of its way; they are taken when the way was right.
        let mut waiting = VecDeque::from([(function, start, Vec::new())]);
        while let Some((v, partial, way)) = waiting.pop_front() {
            for reader in self.readers(v, Look::Casts) {
                let Some(out) = self.view().output(reader.node, 0) else { continue };
                let mut way: Vec<NodeId> = way.clone();
                way.extend(&reader.path);
                way.push(reader.node);
                let Some(next) = self.attempt(|t| t.combine(partial, &reader, x)) else { continue };
                let done = near(next.factor, 1.0 - half) && (next.constant - half).abs() < 1e-3;
                if next.multiplied && done {
                    // Once more along the way, so that the factors beside it are recorded.
                    self.retrace(function, &way, start, x)?;
                    return Some(out);
                }
                if seen.len() < MAX_STEPS && seen.insert(out) {
                    waiting.push_back((out, next, way));
                }
            }
        }
        None
    }

    fn retrace(&mut self, function: ValueId, way: &[NodeId], start: Partial, x: ValueId) -> Option<()> {
        let (mut v, mut partial) = (function, start);
        for node in way {
            self.nodes.push(*node);
            if self.graph.handed_on(*node, Look::Casts) != Some(v) {
                let reader = Reader { node: *node, via: v, path: Vec::new() };
                partial = self.combine(partial, &reader, x)?;
            }
            v = self.view().output(*node, 0)?;
        }
        Some(())
    }

    /// What an operator makes of it.
    fn combine(&mut self, of: Partial, reader: &Reader, x: ValueId) -> Option<Partial> {
        let view = self.view();
        let op = self.graph.op(reader.node);
        let first = view.input(reader.node, 0) == Some(reader.via);
        let other = self.beside(reader).filter(|other| *other != reader.via)?;
        let number = self.graph.scalar(other);
        let scaled = |by: f64| Partial { constant: of.constant * by, factor: of.factor * by, ..of };
        match (op, number) {
            ("Add", Some(c)) if !of.multiplied => Some(Partial { constant: of.constant + c, ..of }),
            ("Sub", Some(c)) if !of.multiplied && first => Some(Partial { constant: of.constant - c, ..of }),
            ("Mul", Some(c)) => Some(scaled(c)),
            ("Div", Some(c)) if first && c != 0.0 => Some(scaled(1.0 / c)),
            ("Mul" | "Add", None) => {
                let [zero, linear, square, cube] = self.polynomial(other, x)?;
                let only_linear = zero == 0.0 && square == 0.0 && cube == 0.0;
                match op {
                    _ if !only_linear => None,
                    "Mul" if !of.multiplied => Some(Partial { multiplied: true, ..scaled(linear) }),
                    // 0.5 * x + 0.5 * x * erf(…)
                    "Add" if of.multiplied => Some(Partial { constant: of.constant + linear, ..of }),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
