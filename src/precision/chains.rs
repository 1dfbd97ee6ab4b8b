//! What `std-fp16` selects that no selector of a manifest can say. See [`super::std_fp16`].

use std::collections::BTreeSet;

use super::float::FloatType;
use super::select::Finder;
use super::std_fp16::{ELEMENTWISE, EXPONENTIALS, LARGE_REDUCTIONS};
use super::view::Node;
use super::weights;
use crate::onnx::infer::ScopeId;

/// Means, which are as large as what they are taken of, and what moves their result.
const MEANS: [&str; 9] = [
    "ReduceMean",
    "GlobalAveragePool",
    "AveragePool",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Expand",
    "Transpose",
    "Concat",
];

impl Finder<'_, '_> {
    fn is(&self, id: usize, ops: &[&str]) -> bool {
        let proto = self.view.nodes[id].proto;
        proto.domain().is_empty() && ops.contains(&proto.op_type())
    }

    /// All nodes after (or before) these, as long as they are such.
    fn through(&self, from: &BTreeSet<usize>, forward: bool, is: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let (mut reached, mut open) = (BTreeSet::new(), from.iter().copied().collect::<Vec<_>>());
        while let Some(id) = open.pop() {
            for next in self.neighbours(id, forward) {
                if is(next) && reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    /// The one number that an input of a node is.
    fn number(&self, id: usize, input: usize) -> Option<f64> {
        let Node { proto, scope, .. } = &self.view.nodes[id];
        self.view.number(*scope, proto.input.get(input)?)
    }

    /// What lies between a square or a large sum and what brings it back into range: a root, a logarithm, a reciprocal, or
    /// the number of elements.
    pub(super) fn roots(&self) -> BTreeSet<usize> {
        let all = || 0..self.view.nodes.len();
        let is_square = |id: usize| match self.view.nodes[id].proto.input.as_slice() {
            [a, b] if self.is(id, &["Mul"]) => a == b,
            [_, _] => self.is(id, &["Pow"]) && self.number(id, 1).is_some_and(|exponent| exponent > 1.0),
            _ => false,
        };
        let is_root = |id: usize| {
            let is_small = |exponent: f64| (-1.0..1.0).contains(&exponent);
            self.is(id, &["Sqrt", "Log", "Reciprocal"])
                || (self.is(id, &["Pow"]) && self.number(id, 1).is_some_and(is_small))
        };
        // A way begins at one and ends at the first other: else it would go on through a whole network.
        let is_way = |id: usize| {
            let goes_on = self.is(id, &ELEMENTWISE) || self.is(id, &MEANS) || self.is(id, &LARGE_REDUCTIONS);
            goes_on && !is_square(id) && !is_root(id)
        };
        let mut large: BTreeSet<usize> =
            all().filter(|id| is_square(*id) || self.is(*id, &LARGE_REDUCTIONS)).collect();
        large.extend(self.through(&large, true, is_way));
        let is_fed = |id: &usize| self.neighbours(*id, false).iter().any(|maker| large.contains(maker));
        let mut found: BTreeSet<usize> = all().filter(|id| is_root(*id) && is_fed(id)).collect();
        found.extend(self.through(&found, false, |id| large.contains(&id) && is_way(id)));
        let leads = |id: &usize| self.neighbours(*id, true).iter().any(|next| found.contains(next));
        let squares: Vec<usize> = all().filter(|id| is_square(*id) && leads(id)).collect();
        found.extend(squares);
        // A sum that is divided by the number of its elements.
        let counts =
            |id: usize| self.is(id, &["Mul", "Div"]) && (0..2).any(|input| self.number(id, input).is_some());
        let sums = all().filter(|id| self.is(*id, &LARGE_REDUCTIONS));
        for sum in sums {
            let moved = self.through(&BTreeSet::from([sum]), true, |id| self.is(id, &MEANS));
            let next = moved.iter().chain([&sum]).flat_map(|id| self.neighbours(*id, true));
            found.extend(next.filter(|id| counts(*id)));
        }
        found
    }

    /// See [`super::std_fp16`].
    pub(super) fn exponential_chains(&self) -> BTreeSet<usize> {
        let is = |id: usize, ops: &[&str]| self.is(id, ops);
        let seeds: BTreeSet<usize> = (0..self.view.nodes.len()).filter(|id| is(*id, &EXPONENTIALS)).collect();
        // Through elementwise operators only.
        let reach =
            |from: &BTreeSet<usize>, forward: bool| self.through(from, forward, |id| is(id, &ELEMENTWISE));
        let (after, before) = (reach(&seeds, true), reach(&seeds, false));
        let mut chain: BTreeSet<usize> = after.intersection(&before).copied().collect();
        // The power of a signal goes through the filters of a spectrogram before its logarithm is taken.
        let of = |op: &str| seeds.iter().copied().filter(|id| is(*id, &[op])).collect::<BTreeSet<usize>>();
        let (powers, logarithms) = (of("Pow"), of("Log"));
        let (powered, logged) = (reach(&powers, true), reach(&logarithms, false));
        let is_filter = |id: &usize| {
            let Node { proto, scope, .. } = &self.view.nodes[*id];
            is(*id, &["MatMul", "Gemm", "Conv"])
                && proto.input.iter().take(2).any(|name| self.view.constant(*scope, name).is_some())
                && self.neighbours(*id, false).iter().any(|id| powered.contains(id) || powers.contains(id))
                && self.neighbours(*id, true).iter().any(|id| logged.contains(id) || logarithms.contains(id))
        };
        let filters: BTreeSet<usize> = (0..self.view.nodes.len()).filter(is_filter).collect();
        chain.extend(reach(&filters, false).intersection(&powered));
        chain.extend(reach(&filters, true).intersection(&logged));
        chain.extend(filters);
        let feeds = seeds.iter().filter(|id| !is(**id, &["Exp"]));
        chain.extend(feeds.flat_map(|id| self.neighbours(*id, false)).filter(|id| is(*id, &ELEMENTWISE)));
        chain.extend(seeds);
        chain
    }

    /// See [`super::std_fp16`].
    pub(super) fn large_statistics(&self) -> BTreeSet<usize> {
        let is_large = |scope: ScopeId, name: &String| {
            self.view.constant(scope, name).is_some_and(|tensor| {
                self.view.span(scope, name, &tensor).largest > weights::largest(FloatType::Fp16)
            })
        };
        let norms = self.view.nodes.iter().enumerate().filter(|(_, node)| {
            node.proto.domain().is_empty() && node.proto.op_type() == "BatchNormalization"
        });
        let large =
            norms.filter(|(_, node)| node.proto.input.iter().skip(3).any(|s| is_large(node.scope, s)));
        large.map(|(id, _)| id).collect()
    }
}
