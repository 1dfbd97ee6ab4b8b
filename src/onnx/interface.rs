//! What a model shows to the outside: inputs and outputs, their types and dims.

use super::error::Problems;
use super::proto::tensor_shape_proto::dimension;
use super::proto::{ModelProto, TypeProto, ValueInfoProto, type_proto};
use super::tensor::{self, MAX_RANK};
use crate::diagnostic::Diagnostic;

/// Checks inputs and outputs of the main graph.
pub(super) fn check(model: &ModelProto, problems: &mut Problems) {
    let Some(graph) = &model.graph else { return };
    if graph.output.is_empty() {
        let help = "export the model again, with the values that you want as outputs";
        problems.push(Diagnostic::error("no-outputs", "the graph has no outputs").help(help));
    }
    if graph.node.is_empty() {
        problems.push(Diagnostic::error("no-nodes", "the graph has no nodes"));
    }
    for input in &graph.input {
        let missing = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            None => true,
            Some(type_proto::Value::TensorType(t)) => t.elem_type() == 0,
            Some(_) => false,
        };
        if missing {
            let message = format!("input `{}` has no type", input.name());
            problems.push(Diagnostic::error("untyped-input", message));
        }
        value(input, "input", problems);
    }
    graph.output.iter().for_each(|output| value(output, "output", problems));
}

fn value(info: &ValueInfoProto, kind: &str, problems: &mut Problems) {
    let name = info.name();
    if name.is_empty() {
        problems.push(Diagnostic::error("unnamed-value", format!("an {kind} of the graph has no name")));
    }
    let Some(tensor) = tensor_type(info.r#type.as_ref()) else { return };
    let mut bad =
        |why: String| problems.push(Diagnostic::error("bad-dims", format!("{kind} `{name}` {why}")));
    if tensor::element_name(tensor.elem_type()).is_none() {
        bad(format!("has element type {}, which ONNX does not define", tensor.elem_type()));
    }
    let Some(shape) = &tensor.shape else { return };
    if shape.dim.len() > MAX_RANK {
        return bad(format!("has {} dimensions; at most {MAX_RANK} are allowed", shape.dim.len()));
    }
    for (axis, dim) in shape.dim.iter().enumerate() {
        // Exporters write -1 for a dynamic dimension.
        if let Some(dimension::Value::DimValue(value)) = dim.value
            && value != -1
            && let Err(why) = tensor::check_dim(axis, value)
        {
            bad(why);
        }
    }
}

/// The tensor type, if it is one.
pub(super) fn tensor_type(value: Option<&TypeProto>) -> Option<&type_proto::Tensor> {
    match value?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}
