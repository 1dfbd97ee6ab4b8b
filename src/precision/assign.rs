//! Rules x graph -> assignment: the type of each node, and who decided.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::float::FloatType;
use super::fusion;
use super::gemm;
use super::mask;
use super::movers;
use super::pattern::Patterns;
use super::plan::has_addend;
use super::problem::Problem;
use super::select::Selected;
use super::shape_math;
use super::signature::Role;
use super::spec::Spec;
use super::view::View;

/// The types of all nodes of a model. Stored beside the typed model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The type of nodes that no rule is about.
    pub base: FloatType,
    /// Every node in order; those of a subgraph follow their node.
    pub nodes: Vec<NodeAssignment>,
    /// What each rule selected, in the order of the rules.
    pub rules: Vec<RuleMatch>,
    /// The opset of the model, if `fuse` raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opset: Option<i64>,
}

/// The type of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeAssignment {
    /// Its name; for one without a name, `node_of_` and its first output.
    pub name: String,
    /// Its operator, `domain::Op` outside the default domain.
    pub op: String,
    /// The nodes whose subgraphs it lies in, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<String>,
    /// The type that it computes in; none for one without a float result.
    #[serde(rename = "type")]
    pub of: Option<FloatType>,
    /// The accumulators of a product that were asked for; none leaves them to TensorRT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulate: Option<FloatType>,
    /// How many nodes of the file it was fused from; 0 if it was one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parts: usize,
    /// The layer of a weakly typed TensorRT that is asked for the type; none if the types are in the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// Who decided.
    pub by: Decider,
}

/// A layer that a type is asked of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name, which is that of the node in the prepared ONNX.
    pub name: String,
    /// Are all its outputs floats, so that they can have the type too?
    pub floats: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Who decided the type of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decider {
    /// Nobody: it has the model's precision.
    Default,
    /// A rule, by its place in the list of rules.
    Rule(usize),
    /// Something stronger than rules.
    Constraint {
        /// What.
        why: String,
        /// The rule that it overrules, if one gave another type.
        over: Option<usize>,
    },
    /// It has no type of its own; why.
    NoType(String),
}

/// What a rule selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMatch {
    /// Nodes with a float result.
    pub nodes: usize,
    /// Nodes without one, which are skipped.
    pub skipped: usize,
    /// Instances of patterns, if it names patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<usize>,
}

/// Types by node of [`View::nodes`].
pub(super) struct Decided {
    pub(super) assignment: Assignment,
    pub(super) problems: Vec<Problem>,
}

/// Types what rules selected: `view` is of the model as it is rewritten.
pub(super) fn assign(view: &View<'_>, patterns: &Patterns, selected: Selected, spec: &Spec) -> Decided {
    let Selected { by_rule, matched: rules, mut problems } = selected;
    let typable: Vec<bool> = view.nodes.iter().map(|node| node.is_typable(view)).collect();
    let shapes = shape_math::find(view);
    let mut nodes: Vec<NodeAssignment> = (0..view.nodes.len())
        .map(|id| one(view, spec, id, typable[id], shapes.contains(&id), by_rule.get(&id).copied()))
        .collect();
    problems.extend(not_in_opset(view, spec, &nodes));
    mask::keep_wide(view, patterns, spec, &mut nodes);
    if spec.base != FloatType::Fp32 {
        movers::keep_wide(view, spec, &mut nodes);
    }
    if spec.capabilities.demotes_lone_gemm {
        problems.extend(gemm::widen(view, spec, &mut nodes));
    }
    problems.extend(accumulators(view, spec, &mut nodes));
    Decided { assignment: Assignment { base: spec.base, nodes, rules, opset: None }, problems }
}

/// Every node with the type that it has in the file.
pub(super) fn as_in_file(view: &View<'_>, spec: &Spec) -> Assignment {
    let why = || Decider::Constraint { why: "as-is: the types of the file".to_owned(), over: None };
    let node = |id: usize| {
        let node = &view.nodes[id];
        let of = node.proto.output.iter().find_map(|output| view.float(node.scope, output));
        let of = of.filter(|_| node.is_typable(view));
        NodeAssignment { of, by: why(), ..one(view, spec, id, false, false, None) }
    };
    let nodes = (0..view.nodes.len()).map(node).collect();
    Assignment { base: spec.base, nodes, rules: Vec::new(), opset: None }
}

fn one(
    view: &View<'_>,
    spec: &Spec,
    id: usize,
    typable: bool,
    is_shape: bool,
    rule: Option<usize>,
) -> NodeAssignment {
    let node = &view.nodes[id];
    let op = match node.proto.domain() {
        "" => node.proto.op_type().to_owned(),
        domain => format!("{domain}::{}", node.proto.op_type()),
    };
    let wanted = rule.map_or(spec.base, |rule| spec.rules[rule].precision);
    let decided = |of, why: String| {
        let over = rule.filter(|_| Some(wanted) != of);
        (of, Decider::Constraint { why, over })
    };
    let in_file = || node.proto.output.iter().find_map(|output| view.float(node.scope, output));
    let opaque = view.opaque_owner(id);
    let (of, by) = match &node.signature.role {
        Role::Constant => (None, Decider::NoType("a constant has the types of its readers".to_owned())),
        Role::Transparent => {
            (None, Decider::NoType("a Cast between float types is made where it is needed".to_owned()))
        }
        _ if !typable => (None, Decider::NoType("no float result".to_owned())),
        Role::Opaque(why) => decided(in_file(), why.clone()),
        _ if opaque.is_some() => {
            let owner = &view.nodes[opaque.unwrap_or(id)];
            let why = format!("subgraphs of `{}` ({}) keep their types", owner.name, owner.proto.op_type());
            decided(in_file(), why)
        }
        _ if is_shape => {
            decided(Some(FloatType::Fp32), "it computes shapes, which 16 bits are too few for".to_owned())
        }
        Role::Typed | Role::Reader => match node.signature.denial(wanted) {
            Some(why) => decided(Some(FloatType::Fp32), why.to_owned()),
            None => (Some(wanted), rule.map_or(Decider::Default, Decider::Rule)),
        },
    };
    let inside = node.owners.iter().map(|owner| view.nodes[*owner].name.clone()).collect();
    let parts = Some(fusion::parts(node.proto).len()).filter(|parts| *parts > 1).unwrap_or(0);
    NodeAssignment { name: node.name.clone(), op, inside, of, accumulate: None, parts, layer: None, by }
}

/// Products that can be given FP32 accumulators: those of which it is known what TensorRT makes of them.
const PRODUCTS: [&str; 3] = ["MatMul", "Gemm", "Conv"];

/// What a Gemm adds is added by a node of its own, so that it must be able to do without: from here on it is.
const GEMM_WITHOUT_ADDEND: i64 = 11;

/// Gives products the accumulators that their rules ask for.
fn accumulators(view: &View<'_>, spec: &Spec, nodes: &mut [NodeAssignment]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut asked: BTreeMap<usize, bool> = BTreeMap::new();
    for (id, node) in nodes.iter_mut().enumerate() {
        let Decider::Rule(i) = node.by else { continue };
        if !spec.rules[i].accumulate || node.of.is_none_or(|of| of == FloatType::Fp32) {
            continue;
        }
        let proto = view.nodes[id].proto;
        let found = asked.entry(i).or_default();
        if PRODUCTS.contains(&node.op.as_str()) {
            *found = true;
            node.accumulate = Some(FloatType::Fp32);
            if has_addend(proto) && proto.op_type() == "Gemm" && view.opset() < GEMM_WITHOUT_ADDEND {
                let message = format!(
                    "`{}` cannot have fp32 accumulators: before opset {GEMM_WITHOUT_ADDEND} there is no Gemm without what is added",
                    node.name
                );
                let problem = Problem::error("accumulate-unknown", message).of_rule(i);
                problems.push(problem.help(format!(
                    "export the model with opset {GEMM_WITHOUT_ADDEND} or later, or select it with `precision = \"fp32\"`"
                )));
            }
            // Another factor than 1 makes an FP32 product with FP32 weights of it.
            for factor in ["alpha", "beta"] {
                let value = proto.attribute.iter().find(|a| a.name() == factor).map_or(1.0, |a| a.f());
                if (factor == "alpha" || has_addend(proto)) && (value - 1.0).abs() > f32::EPSILON {
                    let message =
                        format!("`{}` cannot have fp32 accumulators: its `{factor}` is {value}", node.name);
                    let problem = Problem::error("accumulate-unknown", message).of_rule(i);
                    problems.push(problem.help("select it with `precision = \"fp32\"`"));
                }
            }
        } else if gemm::GEMMS.contains(&proto.op_type()) {
            *found = true;
            let message = format!(
                "`{}` cannot have fp32 accumulators: it is not known how {} gets them",
                node.name, node.op
            );
            let problem = Problem::error("accumulate-unknown", message).of_rule(i);
            problems.push(problem.help(
                "`accumulate` is for MatMul, Gemm and Conv: select these, or use `precision = \"fp32\"`",
            ));
        }
    }
    for (i, _) in asked.into_iter().filter(|(_, found)| !found) {
        let message = format!("rule `{}` asks for accumulators and selects no product", spec.rules[i].name);
        let problem = Problem::error("accumulate-no-product", message).of_rule(i);
        problems.push(problem.help("select MatMul, Gemm or Conv, or leave `accumulate` out"));
    }
    problems
}

/// How many nodes of an operator there are, and the first, by the opset that has the type and by operator.
type Late<'v> = BTreeMap<i64, BTreeMap<&'v str, (usize, usize)>>;

/// Says which operators stay FP32 because the model's opset is too old.
fn not_in_opset(view: &View<'_>, spec: &Spec, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let mut found: BTreeMap<FloatType, Late<'_>> = BTreeMap::new();
    for (id, (node, assigned)) in view.nodes.iter().zip(nodes).enumerate() {
        let Decider::Constraint { why, over } = &assigned.by else { continue };
        let wanted = over.map_or(spec.base, |rule| spec.rules[rule].precision);
        let Some(since) =
            node.signature.allowed_since(wanted).filter(|_| node.signature.denial(wanted) == Some(why))
        else {
            continue;
        };
        let ops = found.entry(wanted).or_default().entry(since).or_default();
        ops.entry(node.proto.op_type()).or_insert((0, id)).0 += 1;
    }
    let problem = |(of, by_opset): (FloatType, Late<'_>)| {
        // BF16 came to most operators late: who asks for it in an old model would get next to nothing.
        let code = if of == FloatType::Bf16 { "bf16-not-in-opset" } else { "type-not-in-opset" };
        let all = || by_opset.values().flatten();
        let stay = match all().map(|(_, (count, _))| count).sum::<usize>() {
            1 => "1 node stays".to_owned(),
            n => format!("{n} nodes stay"),
        };
        let message = format!("{stay} fp32: ONNX has the operator in {} in newer opsets only", of.name());
        let mut problem = Problem::hazard(code, message);
        if let Some(first) = all().map(|(_, (_, first))| *first).min() {
            problem = problem.at_node(&nodes[first].name, &nodes[first].op);
        }
        for (since, ops) in &by_opset {
            let ops: Vec<String> = ops.iter().map(|(op, (n, _))| format!("`{op}` ({n})")).collect();
            problem = problem.note(format!("from opset {since} on: {}", ops.join(", ")));
        }
        let newest = by_opset.keys().last().copied().unwrap_or_default();
        let problem = problem.help(format!("export the model with opset {newest} or later"));
        if of != FloatType::Bf16 {
            return problem; // They stay FP32 as it is.
        }
        let ops: BTreeSet<String> = all().map(|(op, _)| format!("\"{op}\"")).collect();
        let ops: Vec<String> = ops.into_iter().collect();
        problem.fix("operators without bf16 stay fp32", format!("op = [{}]", ops.join(", ")))
    };
    found.into_iter().map(problem).collect()
}

impl NodeAssignment {
    /// Does it multiply and add, so that there are accumulators, and FP32 may mean TF32?
    #[must_use]
    pub fn is_product(&self) -> bool {
        let op = self.op.rsplit("::").next().unwrap_or_default();
        gemm::GEMMS.contains(&op) || ["LSTM", "GRU", "RNN"].contains(&op) || op.ends_with("Attention")
    }
}

impl Assignment {
    /// How many nodes compute in this type.
    #[must_use]
    pub fn count(&self, of: FloatType) -> usize {
        self.nodes.iter().filter(|node| node.of == Some(of)).count()
    }
}
