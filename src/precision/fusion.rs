//! `fuse`: decomposed norms become one operator before anything is typed, and the opset is raised as far as that
//! needs. Rules select nodes of the model as it was exported; what takes the place of these nodes inherits.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::select::Selected;
use super::spec::Spec;
use super::view::View;
use crate::manifest::Fuse;
use crate::onnx::fuse::{self, Fused, LAYER_NORMALIZATION};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::{self, Model, opset};

/// A model with fused operators.
#[derive(Debug)]
pub(super) struct Fusion {
    /// The model. The `doc_string` of a node says which nodes of the model before it was.
    pub(super) model: Model,
    /// Its opset, if that was raised.
    pub(super) opset: Option<i64>,
    /// What is worth knowing.
    pub(super) problems: Vec<Problem>,
}

/// Does what `fuse` asks for. None if there is nothing to do.
///
/// # Errors
/// Nothing can be fused, or the opset cannot be raised.
pub(super) fn fuse(view: &View<'_>, spec: &Spec) -> Result<Option<Fusion>, Vec<Problem>> {
    if !spec.fuse.contains(&Fuse::LayerNorm) {
        return Ok(None);
    }
    let ids = view.nodes.iter().enumerate().map(|(id, node)| (std::ptr::from_ref(node.proto), id)).collect();
    let mut graph = view.model.graph().clone();
    label(view.model.graph(), &mut graph, &ids);
    let Fused { model, norms, left, explicit } = fuse::layer_norms(&view.model.with_graph(graph));
    if norms.is_empty() && left.is_empty() {
        let message = "`fuse` asks for layer norms, and this model has none";
        let problem = Problem::error("fuse-no-match", message);
        return if explicit > 0 { Ok(None) } else { Err(vec![problem.help(WITHOUT)]) };
    }
    if norms.is_empty() {
        let count = if left.len() == 1 {
            "the only layer norm".to_owned()
        } else {
            format!("none of {} layer norms", left.len())
        };
        let verb = if left.len() == 1 { "cannot" } else { "can" };
        let mut problem = Problem::error("fuse-no-match", format!("{count} {verb} be fused")).help(WITHOUT);
        problem.notes =
            left.iter().take(SHOWN).map(|left| format!("`{}`: {}", left.instance, left.why)).collect();
        return Err(vec![problem]);
    }
    let problems = left.into_iter().map(|left| {
        let message = format!("the layer norm `{}` is not fused: {}", left.instance, left.why);
        Problem::hazard("norm-not-fused", message).at_node(&left.node.0, &left.node.1)
    });
    let problems = problems.collect();
    let before = default_opset(&model);
    let raised = before < LAYER_NORMALIZATION;
    if let Some(ceiling) = spec.capabilities.max_opset.filter(|max| raised && *max < LAYER_NORMALIZATION) {
        let message = format!(
            "`fuse` needs opset {LAYER_NORMALIZATION}, and the toolchain reads opsets up to {ceiling}"
        );
        return Err(vec![Problem::error("opset-ceiling", message).help(WITHOUT)]);
    }
    let model = opset::upgrade(&model, LAYER_NORMALIZATION).map_err(|refused| {
        let problem = |refused: opset::Refused| {
            let opset::Refused { node, op, opset, why } = refused;
            let Some(node) = node else {
                let message = format!("a model of opset {before} cannot be raised to opset {LAYER_NORMALIZATION}: {why}");
                return Problem::error("opset-upgrade", message).help(EXPORT);
            };
            let message = format!("`{op}` cannot be raised to opset {opset}: {why}");
            let note = format!("`fuse` raises the model from opset {before} to {LAYER_NORMALIZATION}, which has LayerNormalization");
            Problem::error("opset-upgrade", message).at_node(&node, &op).note(note).help(EXPORT)
        };
        refused.into_iter().map(problem).collect::<Vec<_>>()
    })?;
    Ok(Some(Fusion { model, opset: raised.then_some(LAYER_NORMALIZATION), problems }))
}

const WITHOUT: &str = "leave `fuse` out of this model, or write `fuse = []` if it comes from `defaults`";

const EXPORT: &str = "export the model with opset 17 or later, or leave `fuse` out";

/// How many norms one message lists.
const SHOWN: usize = 5;

fn default_opset(model: &Model) -> i64 {
    let own = model.proto().opset_import.iter().find(|import| matches!(import.domain(), "" | "ai.onnx"));
    own.map_or(0, |import| import.version())
}

/// Writes the number of each node into its `doc_string`, which says nothing in a canonical model and goes with the
/// node to whatever takes its place.
fn label(old: &GraphProto, new: &mut GraphProto, ids: &BTreeMap<*const NodeProto, usize>) {
    for (old, new) in old.node.iter().zip(&mut new.node) {
        new.doc_string = ids.get(&std::ptr::from_ref(old)).map(ToString::to_string);
        for (old, new) in onnx::subgraphs(old).zip(onnx::subgraphs_mut(new)) {
            label(old, new, ids);
        }
    }
}

/// Takes the numbers away again.
pub(super) fn unlabel(graph: &mut GraphProto) {
    for node in &mut graph.node {
        node.doc_string = None;
        onnx::subgraphs_mut(node).for_each(unlabel);
    }
}

/// The nodes of the model before that a node was.
pub(super) fn parts(node: &NodeProto) -> Vec<usize> {
    node.doc_string().split(' ').filter_map(|id| id.parse().ok()).collect()
}

/// Gives the nodes of a fused model (`after`) the rules of their parts.
pub(super) fn inherit(before: &View<'_>, after: &View<'_>, spec: &Spec, selected: Selected) -> Selected {
    let Selected { by_rule, matched, mut problems } = selected;
    let mut inherited = BTreeMap::new();
    for (id, node) in after.nodes.iter().enumerate() {
        let parts = parts(node.proto);
        let parts =
            parts.into_iter().filter(|part| before.nodes.get(*part).is_some_and(|n| n.is_typable(before)));
        let asked: Vec<(usize, Option<usize>)> =
            parts.map(|part| (part, by_rule.get(&part).copied())).collect();
        let wanted = |rule: Option<usize>| rule.map_or(spec.base, |rule| spec.rules[rule].precision);
        let Some((first, rest)) = asked.split_first() else { continue };
        // It may have a Transpose and Casts beside it, which are of the same parts.
        let is_norm = node.proto.op_type() == "LayerNormalization";
        if is_norm && let Some(other) = rest.iter().find(|(_, rule)| wanted(*rule) != wanted(first.1)) {
            let said = |(part, rule): &(usize, Option<usize>)| {
                let (name, of) = (&before.nodes[*part].name, wanted(*rule).name());
                match rule {
                    Some(rule) => format!("rule `{}` gives {of} to `{name}`", spec.rules[*rule].name),
                    None => format!("no rule is about `{name}`, which has the model's {of}"),
                }
            };
            let message = format!("`{}` is fused from nodes that are given different types", node.name);
            let problem = Problem::error("fuse-conflict", message).note(said(first)).note(said(other)).help(
                "select all of it, as with `select = { pattern = \"layer-norm\" }`, or leave `fuse` out",
            );
            problems.push(match other.1.max(first.1) {
                Some(rule) => problem.of_rule(rule),
                None => problem,
            });
        }
        if let Some(rule) = asked.iter().filter_map(|(_, rule)| *rule).max() {
            inherited.insert(id, rule);
        }
    }
    Selected { by_rule: inherited, matched, problems }
}
