//! Types that are asked of the layers of a weakly typed TensorRT by their names: the model keeps its types, and its nodes
//! get names that can be asked for.
//!
//! Invariant: every node has a name of its own that trtexec can write, and that TensorRT makes up for no layer of another
//! node.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Decider, Layer, NodeAssignment, assign};
use super::float::FloatType;
use super::pattern::Patterns;
use super::prepare::Prepared;
use super::problem::Problem;
use super::select::Selected;
use super::signature::Role;
use super::spec::{Select, Spec, Weak};
use super::view::View;
use super::{attention, fusion, hazard, io, mask, range};
use crate::onnx;
use crate::onnx::proto::GraphProto;

pub(super) fn prepare(view: &View<'_>, selected: Selected, spec: &Spec, known: &Weak) -> Prepared {
    let patterns = Patterns::new(view);
    let decided = assign(view, &patterns, selected, spec);
    let (mut assignment, mut problems) = (decided.assignment, decided.problems);
    problems.extend(hazard::norms(view, &patterns, &assignment.nodes));
    problems.extend(range::hazards(view, &patterns, &assignment.nodes));
    problems.extend(attention::hazards(view, &patterns, spec.base, &assignment.nodes));
    problems.extend(mask::crossing(view, &assignment.nodes));
    problems.extend(accumulators(&assignment.nodes));
    problems.extend(io::resolve(view.model, view.types, spec).1);

    let mut graph = view.model.graph().clone();
    fusion::unlabel(&mut graph);
    let several = |id: usize| !known.one.iter().any(|op| op == view.nodes[id].proto.op_type());
    let mut names =
        Namer::new(view.nodes.iter().enumerate().map(|(id, node)| (node.name.as_str(), several(id))));
    let named: Vec<String> = view.nodes.iter().map(|node| names.name(&node.name)).collect();
    let mut next = named.iter();
    rename(&mut graph, &mut next);
    for (id, node) in assignment.nodes.iter_mut().enumerate() {
        let of = &view.nodes[id];
        // What keeps its types in every model, such as a custom operator or DequantizeLinear, is TensorRT's to choose.
        let is_opaque = matches!(of.signature.role, Role::Opaque(_)) || view.opaque_owner(id).is_some();
        if node.of.is_none() || is_opaque || known.automatic.iter().any(|op| op == of.proto.op_type()) {
            continue;
        }
        let outputs = of.proto.output.iter().filter(|output| !output.is_empty());
        node.layer = Some(Layer {
            name: named[id].clone(),
            floats: outputs.into_iter().all(|output| view.float(of.scope, output).is_some()),
        });
    }
    problems.extend(unnamed(view, known, spec, &assignment.nodes));
    let model = (!problems.iter().any(|p| p.is_error)).then(|| view.model.with_graph(graph));
    Prepared { model, assignment, problems }
}

/// Names for all nodes.
struct Namer {
    /// Names of the model, which are not made up.
    in_file: BTreeSet<String>,
    /// Names of nodes of which TensorRT may make several layers, which get numbers behind them.
    several: BTreeSet<String>,
    taken: BTreeSet<String>,
}

impl Namer {
    fn new<'a>(nodes: impl Iterator<Item = (&'a str, bool)>) -> Namer {
        let (mut in_file, mut several) = (BTreeSet::new(), BTreeSet::new());
        for (name, is_several) in nodes {
            in_file.insert(name.to_owned());
            if is_several {
                several.insert(writable(name));
            }
        }
        Namer { in_file, several, taken: BTreeSet::new() }
    }

    /// The name as it is, if it can be written, no other node has it, and no layer of another node can get it.
    fn name(&mut self, wanted: &str) -> String {
        let plain = writable(wanted);
        let is_free = |namer: &Namer, name: &str| {
            let made_up = name.rsplit_once('_').is_some_and(|(stem, number)| {
                !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit())
                    && namer.several.contains(stem)
            });
            !made_up && !namer.taken.contains(name) && (name == wanted || !namer.in_file.contains(name))
        };
        let numbered = (2..).map(|n: u32| format!("{plain}#{n}"));
        let name = std::iter::once(plain.clone()).chain(numbered).find(|name| is_free(self, name));
        let name = name.unwrap_or(plain);
        self.taken.insert(name.clone());
        name
    }
}

/// Without what separates names in trtexec's lists, or stands for any name there.
fn writable(name: &str) -> String {
    name.replace([',', '\'', '*'], "_")
}

/// Gives the nodes their names, in the order of [`View::nodes`].
fn rename<'a>(graph: &mut GraphProto, names: &mut impl Iterator<Item = &'a String>) {
    for node in &mut graph.node {
        if let Some(name) = names.next() {
            node.name = Some(name.clone());
        }
        onnx::subgraphs_mut(node).for_each(|graph| rename(graph, names));
    }
}

fn accumulators(nodes: &[NodeAssignment]) -> Option<Problem> {
    let node = nodes.iter().find(|node| node.accumulate.is_some())?;
    let message = format!("the accumulators of `{}` cannot be asked for in a weakly typed engine", node.name);
    let problem = Problem::error("accumulate-weak", message).at_node(&node.name, &node.op);
    Some(
        problem
            .help("write `precision = \"fp32\"` without `accumulate`, or build with `typing = \"strong\"`"),
    )
}

/// Nodes that were declared FP32 and whose layers have no name that could be asked for.
fn unnamed(view: &View<'_>, known: &Weak, spec: &Spec, nodes: &[NodeAssignment]) -> Vec<Problem> {
    let mut free: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (of, node) in view.nodes.iter().zip(nodes) {
        let is_pinned = node.of == Some(FloatType::Fp32) && !matches!(node.by, Decider::Default);
        if !is_pinned || !known.automatic.contains(&node.op) {
            continue;
        }
        // A rule that names values is about what the node gives, and not about how it computes.
        let is_of_values = |rule: &usize| match spec.rules.get(*rule).map(|rule| &rule.select) {
            Some(Select::Written(selector)) => !selector.tensor.is_empty(),
            _ => false,
        };
        if let Decider::Rule(rule) = &node.by
            && is_of_values(rule)
        {
            let message = format!(
                "a rule wants what `{}` gives in FP32, which cannot be asked of this TensorRT",
                node.name
            );
            problems.push(ways_out(Problem::error("layer-outputs", message).at_node(&node.name, &node.op)));
            continue;
        }
        let stash = of.proto.attribute.iter().find(|a| a.name() == "stash_type").map_or(1, |a| a.i());
        if stash == 1 {
            free.entry(&node.op).or_default().push(&node.name);
            continue;
        }
        let message = format!(
            "`{}` is declared fp32, and its `stash_type` says that it computes in 16 bits",
            node.name
        );
        let problem = Problem::error("layer-narrow", message).at_node(&node.name, &node.op);
        problems.push(ways_out(problem));
    }
    for (op, names) in free {
        let message = format!(
            "{} of {} computes in FP32, and its inputs and outputs may be FP16: this TensorRT does not let it be named",
            if names.len() == 1 {
                "the one node".to_owned()
            } else {
                format!("each of {} nodes", names.len())
            },
            op
        );
        let problem = Problem::hazard("layer-unnamed", message).at_node(names[0], op);
        problems.push(ways_out(problem));
    }
    problems
}

fn ways_out(problem: Problem) -> Problem {
    problem
        .note("up to 10.0.1, TensorRT gives layers of LayerNormalization names that no rule can know")
        .help("where its outputs must be FP32 too: export the norm as several nodes (opset 16), or build with TensorRT 10.1 or later, or with `typing = \"strong\"` (9.0 and later)")
}
