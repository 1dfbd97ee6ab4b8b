//! Matrix products that TensorRT would compute with half weights although they are declared FP32.
//!
//! `Cast(16->32) -> MatMul | Gemm | Conv -> Cast(32->16)` compiles to a kernel with half weights, shape
//! operators before the last Cast included. It does not when another operator that computes shares the FP32
//! region (a second product or the bias of a Gemm too), or when the result stays FP32. So a region without such an
//! operator is widened by one.
//!
//! What is added to the result of a convolution is no such operator: TensorRT-RTX 1.7 takes it into the convolution,
//! be it a bias or another activation, and still computes with half weights (1.5 and 1.6 do not), or fails to build.

use std::collections::BTreeSet;

use super::assign::{Decider, NodeAssignment};
use super::edges::{Edges, SHAPES, is_wide};
use super::float::FloatType;
use super::plan::has_addend;
use super::problem::Problem;
use super::signature::Role;
use super::spec::Spec;
use super::view::View;

pub(super) const GEMMS: [&str; 6] = ["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "FusedMatMul"];

const CONVOLUTIONS: [&str; 2] = ["Conv", "ConvTranspose"];

/// What a region is widened by: a bias or an activation.
const MENDS: [&str; 26] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Celu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Softplus",
    "Softsign",
    "Clip",
    "Gelu",
    "Mish",
    "Erf",
    "Softmax",
    "Max",
    "Min",
    "BatchNormalization",
    "LayerNormalization",
    "Sum",
];

/// Widens each region of matrix products that would be demoted; says which cannot be.
pub(super) fn widen(view: &View<'_>, spec: &Spec, nodes: &mut [NodeAssignment]) -> Vec<Problem> {
    let edges = Edges::new(view, spec, nodes);
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for id in 0..view.nodes.len() {
        if seen.contains(&id) || !is_wide(nodes, id) || !edges.is(id, &GEMMS) {
            continue;
        }
        let region = edges.hanging(id, |next| is_wide(nodes, next));
        seen.extend(region.iter().copied());
        if !edges.is_demoted(nodes, &region) {
            continue;
        }
        let name = view.nodes[id].name.clone();
        match edges.mend(nodes, &region) {
            Some(mend) => {
                for id in mend {
                    let over = match nodes[id].by {
                        Decider::Rule(rule) => Some(rule),
                        _ => None,
                    };
                    let why = format!(
                        "keeps `{name}` FP32: TensorRT computes a lone matrix product with half weights"
                    );
                    nodes[id].of = Some(FloatType::Fp32);
                    nodes[id].by = Decider::Constraint { why, over };
                }
            }
            None => problems.push(edges.refusal(nodes, &region, id)),
        }
    }
    problems
}

impl Edges<'_> {
    /// Does it move elements, or add to the result of a convolution of this region?
    fn is_free(&self, id: usize, region: &BTreeSet<usize>) -> bool {
        let adds = || self.is(id, &["Add", "Sub", "Sum"]);
        self.is(id, &SHAPES) || (adds() && region.iter().any(|id| self.is(*id, &CONVOLUTIONS)))
    }

    /// Does it read what it is given, and not only its shape?
    fn reads_data(&self, id: usize) -> bool {
        !self.is(id, &["Shape", "Size"])
    }

    /// Nothing but matrix products and shapes, with 16-bit types on both sides.
    fn is_demoted(&self, nodes: &[NodeAssignment], region: &BTreeSet<usize>) -> bool {
        let narrow = |id: &usize| nodes[*id].of.is_some_and(|of| of != FloatType::Fp32);
        let around = |forward| region.iter().flat_map(move |id| self.neighbours(*id, forward));
        if !region.iter().all(|id| self.is(*id, &GEMMS) || self.is_free(*id, region)) {
            return false;
        }
        let products = || region.iter().filter(|id| self.is(**id, &GEMMS));
        let adds_bias = |id: &usize| self.is(*id, &["Gemm"]) && has_addend(self.view.nodes[*id].proto);
        if products().count() > 1 || products().any(adds_bias) {
            return false;
        }
        if region.iter().any(|id| self.gives_wide_output(*id)) {
            return false;
        }
        let outside = |id: &usize| !region.contains(id);
        // Where a reader without a type of its own takes the result, it stays FP32.
        let reads_narrow =
            around(false).any(|id| narrow(&id)) || region.iter().any(|id| self.reads_narrow_input(*id));
        let readers = || around(true).filter(outside).filter(|id| self.reads_data(*id));
        let is_read = || readers().next().is_some() || region.iter().any(|id| self.gives_narrow_output(*id));
        reads_narrow && is_read() && readers().all(|id| narrow(&id))
    }

    /// The bias or activation after the region that can be FP32, and the shape operators on the way to it.
    fn mend(&self, nodes: &[NodeAssignment], region: &BTreeSet<usize>) -> Option<Vec<usize>> {
        let able = |id: &usize| {
            self.view.nodes[*id].signature.role == Role::Typed
                && nodes[*id].of.is_some()
                && !region.contains(id)
        };
        let after = |ids: &mut dyn Iterator<Item = usize>| -> BTreeSet<usize> {
            ids.flat_map(|id| self.neighbours(id, true)).filter(able).collect()
        };
        let mut ways: Vec<Vec<usize>> =
            after(&mut region.iter().copied()).into_iter().map(|id| vec![id]).collect();
        let mut seen = BTreeSet::new();
        // The nearest first.
        while !ways.is_empty() {
            let mends = |id: &usize| self.is(*id, &MENDS) && !self.is_free(*id, region);
            if let Some(way) = ways.iter().find(|way| way.last().is_some_and(mends)) {
                return Some(way.clone());
            }
            let mut further = Vec::new();
            for way in &ways {
                let Some(last) = way.last().copied().filter(|id| self.is_free(*id, region)) else { continue };
                for next in after(&mut std::iter::once(last)) {
                    if seen.insert(next) {
                        further.push([way.as_slice(), &[next]].concat());
                    }
                }
            }
            ways = further;
        }
        None
    }

    fn refusal(&self, nodes: &[NodeAssignment], region: &BTreeSet<usize>, gemm: usize) -> Problem {
        let node = &self.view.nodes[gemm];
        let op = node.proto.op_type();
        let after: BTreeSet<usize> = region
            .iter()
            .flat_map(|id| self.neighbours(*id, true))
            .filter(|id| !region.contains(id) && nodes[*id].of.is_some())
            .collect();
        let message =
            format!("`{}` cannot stay FP32: TensorRT computes a lone {op} with half weights", node.name);
        let problem = Problem::hazard("fp32-gemm-demoted", message)
            .at_node(&node.name, op)
            .note("between Casts from and to 16 bits, an FP32 matrix product alone is demoted; a bias or activation in FP32 after it would prevent that, and there is none");
        let mut names: Vec<&str> = region.iter().map(|id| self.view.nodes[*id].name.as_str()).collect();
        names.extend(after.iter().map(|id| self.view.nodes[*id].name.as_str()));
        if after.is_empty() {
            return problem.help("let it be FP16, or keep the nodes after it FP32 too");
        }
        problem.paste(&format!("`{}` and what follows stay FP32", node.name), names)
    }
}
