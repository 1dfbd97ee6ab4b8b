//! Attention in FP16: a Softmax in it, scores that nothing scales, and pins that cost the fused kernel.
//!
//! What TensorRT-RTX 1.7 makes of an attention in FP16 is one fused kernel. A Softmax in FP32 keeps it, and gives
//! the scores FP32 accumulators; a product in FP32 destroys it.

use super::assign::NodeAssignment;
use super::float::FloatType;
use super::hazard::list;
use super::pattern::{Instance, Patterns};
use super::problem::Problem;
use super::view::View;

const PRODUCTS: [&str; 4] = ["MatMul", "Gemm", "Einsum", "FusedMatMul"];

/// All of these.
pub(super) fn hazards(
    view: &View<'_>,
    patterns: &Patterns,
    base: FloatType,
    nodes: &[NodeAssignment],
) -> Vec<Problem> {
    let is = |id: usize, ops: &[&str]| ops.contains(&view.nodes[id].proto.op_type());
    let of = |id: usize, of: FloatType| nodes[id].of == Some(of);
    let product = |instance: &Instance| instance.nodes.iter().copied().find(|id| is(*id, &PRODUCTS));
    let told = |code: &str, found: &[&Instance], message: String| {
        let first = found.first()?;
        let id = product(first).or(first.nodes.first().copied())?;
        let problem =
            Problem::hazard(code, message).at_node(&view.nodes[id].name, view.nodes[id].proto.op_type());
        Some(match found {
            [_] => problem,
            many => problem.note(list(many.iter().map(|instance| instance.name.as_str()))),
        })
    };
    let count = |found: &[&Instance]| match found.len() {
        1 => "the attention".to_owned(),
        n => format!("{n} attentions"),
    };
    let mut problems = Vec::new();

    // One operator for all of it computes its Softmax as it likes.
    let in_half = |instance: &&Instance| {
        let softmax = instance.nodes.iter().filter(|id| is(**id, &["Softmax", "Exp"]));
        softmax.into_iter().any(|id| of(*id, FloatType::Fp16))
    };
    let found: Vec<&Instance> = patterns.instances("attention.softmax").iter().filter(in_half).collect();
    let message = format!("the Softmax of {} is computed in fp16", count(&found));
    problems.extend(told("fp16-attention-softmax", &found, message).map(|problem| {
        problem
            .note("in FP32 the attention stays one kernel, and its scores get FP32 accumulators")
            .fix("the Softmax of attention stays fp32", "pattern = \"attention.softmax\"")
            .help("or use the rule set `std-fp16`")
    }));

    let half: Vec<(&Instance, usize)> = patterns
        .instances("attention.scores")
        .iter()
        .filter_map(|instance| Some((instance, product(instance)?)))
        .filter(|(_, product)| of(*product, FloatType::Fp16))
        .collect();
    // Nodes are sorted: what scales before the product comes before it.
    let scales = |instance: &Instance| {
        instance.nodes.iter().copied().filter(|id| is(*id, &["Mul", "Div"])).collect::<Vec<_>>()
    };
    let unscaled: Vec<&Instance> =
        half.iter().filter(|(i, _)| scales(i).is_empty()).map(|(i, _)| *i).collect();
    let late: Vec<&Instance> = half
        .iter()
        .filter(|(i, product)| !scales(i).is_empty() && scales(i).iter().all(|id| id > product))
        .map(|(i, _)| *i)
        .collect();
    let why =
        "in fp16 the product of queries and keys ends at 65504; FP32 for the products costs the fused kernel";
    let scores = |problem: Problem| {
        problem
            .note(why)
            .fix("scores of attention stay fp32", "pattern = \"attention.scores\"")
            .help("or scale the queries before the product, when the model is exported")
    };
    let message = format!("the scores of {} in fp16 have no scale", count(&unscaled));
    problems.extend(told("attention-unscaled", &unscaled, message).map(scores));
    let message = format!("the scores of {} in fp16 are scaled after their product", count(&late));
    problems.extend(told("attention-scaled-late", &late, message).map(scores));

    // In a model that is FP32 for the most part nobody waits for the fused kernel.
    if base != FloatType::Fp32 {
        let wide = |instance: &&Instance| product(instance).is_some_and(|id| of(id, FloatType::Fp32));
        let parts = ["attention.scores", "attention.context"];
        let all = parts.iter().flat_map(|part| patterns.instances(part)).filter(wide);
        let mut found: Vec<&Instance> = Vec::new();
        for instance in all {
            if !found.iter().any(|have| have.name == instance.name) {
                found.push(instance);
            }
        }
        let message = format!("a product of {} is FP32, so that it is not one fused kernel", count(&found));
        problems.extend(told("attention-unfused", &found, message).map(|problem| {
            problem.note("a Softmax in FP32 keeps the kernel, and gives the scores FP32 accumulators").fix_as(
                base,
                "products of attention are fused",
                "pattern = [\"attention.scores\", \"attention.context\"]",
            )
        }));
    }
    problems
}
