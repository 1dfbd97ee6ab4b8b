//! Inputs and outputs of the model in other types than in the file. Those of floats are part of the plan; those of
//! integers are cast right inside the graph.

use std::collections::BTreeMap;

use super::float::FloatType;
use super::made::{cast_to, declare};
use super::names::{Names, rename_captures};
use super::problem::Problem;
use super::spec::Spec;
use crate::diagnostic::nearest;
use crate::manifest::IoType;
use crate::onnx::proto::GraphProto;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::{self, ElementTypes, Model};

/// What is to be changed.
#[derive(Debug, Default)]
pub(super) struct Io {
    /// Inputs and outputs of floats.
    pub(super) floats: BTreeMap<String, FloatType>,
    /// Inputs and outputs of integers.
    integers: BTreeMap<String, Change>,
}

#[derive(Debug)]
struct Change {
    is_input: bool,
    from: DataType,
    to: DataType,
}

/// Holds the types that are asked for against the model.
pub(super) fn resolve(model: &Model, types: &ElementTypes, spec: &Spec) -> (Io, Vec<Problem>) {
    let graph = model.graph();
    let (mut io, mut problems) = (Io::default(), Vec::new());
    let inputs = || graph.input.iter().map(|v| v.name());
    let outputs = || graph.output.iter().map(|v| v.name());
    for (name, asked) in &spec.io {
        let (is_input, is_output) = (inputs().any(|n| n == name), outputs().any(|n| n == name));
        if !is_input && !is_output {
            let problem = Problem::error(
                "io-unknown",
                format!("the model has no input or output `{name}`, which `io` types"),
            );
            let near = nearest(name, inputs().chain(outputs())).map(|near| format!("did you mean `{near}`?"));
            let all = || inputs().chain(outputs()).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            problems.push(problem.help(near.unwrap_or_else(|| format!("it has {}", all()))));
            continue;
        }
        let have = types.get(types.graph(), name);
        let to = element(*asked);
        let refused = |why: &str| {
            Problem::error("io-type", format!("`{name}` is {have} and cannot be {}", asked.name())).note(why.to_owned()).help(
                "`io` changes fp32, fp16 and bf16 into each other, and int64 and int32; change anything else in the model",
            )
        };
        let makers = || graph.node.iter().any(|node| node.output.iter().any(|output| output == name));
        match (have.element(), FloatType::of_type(have), FloatType::of_element(to as i32)) {
            (Some(from), ..) if from == to => {}
            _ if is_input && is_output => problems.push(refused("it is an input and an output at once")),
            (_, Some(_), Some(of)) if can_cast(model, of) => {
                io.floats.insert(name.clone(), of);
            }
            (_, Some(_), Some(of)) => {
                let why = format!("ONNX has Cast in {} from opset {CAST_BF16} on only", of.name());
                problems
                    .push(refused(&why).help(format!("export the model with opset {CAST_BF16} or later")));
            }
            (Some(from @ (DataType::Int64 | DataType::Int32)), ..)
                if matches!(to, DataType::Int64 | DataType::Int32) =>
            {
                if is_output && !makers() {
                    problems.push(refused("no node makes it"));
                    continue;
                }
                io.integers.insert(name.clone(), Change { is_input, from, to });
            }
            _ => problems.push(refused("no Cast makes one of the other that means the same")),
        }
    }
    (io, problems)
}

/// The opset from which on Cast takes BF16.
const CAST_BF16: i64 = 13;

/// Is there a Cast from and to this type in the model's opset?
fn can_cast(model: &Model, of: FloatType) -> bool {
    of != FloatType::Bf16 || model.opset().is_none_or(|opset| opset >= CAST_BF16)
}

/// ONNX's element type.
pub(super) fn element(of: IoType) -> DataType {
    match of {
        IoType::Fp32 => DataType::Float,
        IoType::Fp16 => DataType::Float16,
        IoType::Bf16 => DataType::Bfloat16,
        IoType::Int32 => DataType::Int32,
        IoType::Int64 => DataType::Int64,
        IoType::Int8 => DataType::Int8,
        IoType::Uint8 => DataType::Uint8,
        IoType::Bool => DataType::Bool,
    }
}

impl Io {
    /// Casts integers right behind inputs and right before outputs.
    pub(super) fn apply(&self, graph: &mut GraphProto) {
        if self.integers.is_empty() {
            return;
        }
        let mut names = Names::of(graph);
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (name, Change { is_input, from, to }) in &self.integers {
            let word = |of: &DataType| onnx::element_name(*of as i32).unwrap_or("integer");
            let values = if *is_input { &mut graph.input } else { &mut graph.output };
            values.iter_mut().filter(|v| v.name() == name).for_each(|value| declare(value, *to as i32));
            if *is_input {
                let inside = names.fresh(&format!("{name}/cast_{}", word(from)));
                first.push(cast_to(&inside, name, &inside, *from as i32));
                rename_reads(graph, name, &inside);
            } else {
                let inside = names.fresh(&format!("{name}/{}", word(from)));
                rename_reads(graph, name, &inside);
                for node in graph.node.iter_mut().filter(|node| node.output.contains(name)) {
                    // One without a name is called by its output, as before.
                    node.name = Some(onnx::node_name(node));
                    let made = node.output.iter_mut().filter(|output| *output == name);
                    made.for_each(|output| output.clone_from(&inside));
                }
                let cast = names.fresh(&format!("{name}/cast_{}", word(to)));
                last.push(cast_to(&cast, &inside, name, *to as i32));
            }
        }
        graph.node.splice(0..0, first);
        graph.node.append(&mut last);
    }
}

/// Everything that reads a value of the main graph reads another.
fn rename_reads(graph: &mut GraphProto, from: &str, to: &str) {
    let renames = BTreeMap::from([(from.to_owned(), to.to_owned())]);
    for node in &mut graph.node {
        node.input.iter_mut().filter(|input| *input == from).for_each(|input| to.clone_into(input));
        onnx::subgraphs_mut(node).for_each(|graph| rename_captures(graph, &renames));
    }
}
