//! Contradictions between the types of values and what operators and declarations say of them.
//!
//! Only what [`unfit`] tells makes a model unfit. All else is told as a warning: TensorRT takes some types that ONNX
//! does not.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use super::super::element::Type;
use super::super::names::{node_name, subgraphs};
use super::super::proto::{GraphProto, ModelProto, NodeProto};
use super::super::read::Model;
use super::super::schema::{OpSchema, ParamType, schema};
use super::super::types::double_values;
use super::rules::{Binding, bind};
use super::{Conflict, ElementTypes, ScopeId, Visited, version};
use crate::diagnostic::Diagnostic;

/// How many names one message lists.
const SHOWN: usize = 10;

/// Everything that does not fit: what makes the model [`unfit`] (errors), and as warnings, operators with inputs of
/// types that they do not take, subgraphs that declare what is not so, and values of type double.
#[must_use]
pub fn type_errors(model: &Model, types: &ElementTypes) -> Vec<Diagnostic> {
    let mut found = unfit(model, types);
    let proto = model.proto();
    types.visit(proto, &mut |at| {
        let problem = |code: &'static str, message: String| {
            let name = node_name(at.node);
            Diagnostic::warning(code, message).at_node(model.path(), &name, at.node.op_type())
        };
        subgraph_mismatches(types, at, &mut |message| found.push(problem("type-conflict", message)));
        if types.call(at.scope, at.index).is_some() {
            return;
        }
        let Some(schema) = schema(at.node.domain(), at.node.op_type(), schema_version(proto, at)) else {
            return;
        };
        let inputs: Vec<Type> = at.node.input.iter().map(|name| types.get(at.scope, name).clone()).collect();
        node_problems(at.node, schema, &inputs, &mut |code, message| found.push(problem(code, message)));
    });
    found.extend(doubles(model));
    // A function is checked once for each way it is called.
    let mut once = Vec::with_capacity(found.len());
    let mut seen = BTreeSet::new();
    for diagnostic in found {
        if seen.insert((diagnostic.place.clone(), diagnostic.message.clone())) {
            once.push(diagnostic);
        }
    }
    once
}

fn schema_version(proto: &ModelProto, at: Visited<'_>) -> i64 {
    version(proto, at.function, at.node.domain())
}

/// What no engine can be built from: outputs of the graph that are declared with another type than they have, and
/// subgraphs whose values have no one type.
#[must_use]
pub fn unfit(model: &Model, types: &ElementTypes) -> Vec<Diagnostic> {
    let mut found = output_mismatches(model, types);
    if types.conflicts.is_empty() {
        return found;
    }
    types.visit(model.proto(), &mut |at| {
        let Some(Conflict { output, types: (a, b) }) = types.conflicts.get(&(at.scope, at.index)) else {
            return;
        };
        let (name, op) = (node_name(at.node), at.node.op_type());
        let value = at.node.output.get(*output).map_or("", String::as_str);
        let (message, where_) = if op == "If" {
            (
                format!("`{value}` of node `{name}` is {a} by one branch and {b} by the other"),
                "both branches give",
            )
        } else {
            (
                format!("`{value}` of node `{name}` is {a} before the first round and {b} after it"),
                "each round gives",
            )
        };
        let error = Diagnostic::error("subgraph-types", message).at_node(model.path(), &name, op);
        found.push(error.help(format!("export the model again so that {where_} one type, by a Cast say")));
    });
    found
}

/// Outputs of the graph that are declared with another element type than they have. TensorRT believes the
/// declaration, and whoever reads the output reads nonsense.
fn output_mismatches(model: &Model, types: &ElementTypes) -> Vec<Diagnostic> {
    let graph = model.graph();
    // Almost no model needs it.
    let makers = LazyCell::new(|| {
        let outputs =
            graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)));
        outputs.collect::<BTreeMap<&str, &NodeProto>>()
    });
    let mut found = Vec::new();
    for output in &graph.output {
        let name = output.name();
        let declared = Type::declared(output.r#type.as_ref());
        let real = types.get(types.graph(), name);
        let (Type::Tensor(_), Type::Tensor(_)) = (&declared, real) else { continue };
        if declared == *real {
            continue;
        }
        let maker = makers.get(name);
        let message = match maker {
            Some(node) => {
                let node = node_name(node);
                format!("output `{name}` is declared as {declared}, but node `{node}` makes it {real}")
            }
            None => format!("output `{name}` is declared as {declared}, but it is {real}"),
        };
        let error = Diagnostic::error("output-type-mismatch", message)
            .note("TensorRT believes the declaration without a word: whoever reads the output would read nonsense")
            .help(format!("export the model again, or declare the output as {real}"));
        found.push(match maker {
            Some(node) => error.at_node(model.path(), &node_name(node), node.op_type()),
            None => error.in_file(model.path()),
        });
    }
    found
}

/// Says which inputs, outputs and initializers are of type double, if any are.
#[must_use]
pub(super) fn doubles(model: &Model) -> Option<Diagnostic> {
    double_note(model).map(|message| Diagnostic::warning("double-narrowed", message).in_file(model.path()))
}

/// The same in one sentence.
#[must_use]
pub fn double_note(model: &Model) -> Option<String> {
    let names = double_values(model);
    if names.is_empty() {
        return None;
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let be = if names.len() == 1 { "is" } else { "are" };
    Some(format!("{}{more} {be} of type double, which TensorRT narrows to float", shown.join(", ")))
}

/// Inputs of types that the operator does not take, or not together.
fn node_problems(
    node: &NodeProto,
    schema: &OpSchema,
    inputs: &[Type],
    problem: &mut dyn FnMut(&'static str, String),
) {
    let op = node.op_type();
    let name = |i: usize| node.input.get(i).map_or("", String::as_str);
    for (parameter, binding) in bind(schema, inputs) {
        if let Binding::Conflict((i, a), (k, b)) = binding {
            let message = format!(
                "`{op}` wants one type `{parameter}` for all, but `{}` is {a} and `{}` is {b}",
                name(i),
                name(k)
            );
            problem("type-conflict", message);
        }
    }
    for (i, of) in inputs.iter().enumerate().filter(|(_, of)| !of.is_unknown()) {
        let Some(param) = schema.input(i) else { continue };
        let allowed = match &param.of {
            ParamType::Parameter(name) => schema.constraints.get(name).is_none_or(|set| set.contains(of)),
            ParamType::Fixed(fixed) => fixed.unify(of).is_some(),
        };
        if !allowed {
            let since = schema.since_version;
            let message =
                format!("`{op}` of version {since} does not take {of} as `{}` (`{}`)", param.name, name(i));
            problem("type-not-allowed", message);
        }
    }
}

/// Subgraphs whose inputs or outputs are declared otherwise than they are.
fn subgraph_mismatches(types: &ElementTypes, at: Visited<'_>, problem: &mut dyn FnMut(String)) {
    for (ordinal, graph) in subgraphs(at.node).enumerate() {
        if let Some(scope) = types.subgraph(at.scope, at.index, ordinal) {
            declared_otherwise(types, scope, graph, problem);
        }
    }
}

fn declared_otherwise(
    types: &ElementTypes,
    scope: ScopeId,
    graph: &GraphProto,
    problem: &mut dyn FnMut(String),
) {
    for (kind, values) in [("input", &graph.input), ("output", &graph.output)] {
        for value in values {
            let declared = Type::declared(value.r#type.as_ref());
            let real = types.get(scope, value.name());
            if declared.unify(real).is_none() {
                let name = value.name();
                problem(format!("{kind} `{name}` of a subgraph is declared as {declared}, but it is {real}"));
            }
        }
    }
}
