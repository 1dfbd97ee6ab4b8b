//! Nodes with certain element types, to explain what a GPU cannot do. What is not known is not guessed.

use std::collections::BTreeSet;

use super::infer::element_types;
use super::interface::tensor_type;
use super::names::node_name;
use super::proto::NodeProto;
use super::proto::tensor_proto::DataType;
use super::read::Model;
use super::tensor::element_name;

/// A node, with the element type that made it notable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypedNode {
    /// Its name, or `node_of_OUTPUT`.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Element type in ONNX's words: `float`, `bfloat16`.
    pub element: &'static str,
}

/// Matrix products known to read FP32: what compute capability 7.5 cannot run in TensorRT-RTX.
#[must_use]
pub fn gemm_nodes(model: &Model) -> Vec<TypedNode> {
    find(model, DataType::Float, |node| matches!(node.op_type(), "MatMul" | "Gemm" | "Einsum" | "Attention"))
}

/// Nodes known to read or make BF16.
#[must_use]
pub fn bf16_nodes(model: &Model) -> Vec<TypedNode> {
    find(model, DataType::Bfloat16, |_| true)
}

/// Names of inputs, outputs and initializers of type DOUBLE, which TensorRT narrows to FP32 without a word.
#[must_use]
pub fn double_values(model: &Model) -> Vec<String> {
    let graph = model.graph();
    let double = DataType::Double as i32;
    let values = graph.input.iter().chain(&graph.output);
    let values =
        values.filter(|value| tensor_type(value.r#type.as_ref()).is_some_and(|t| t.elem_type() == double));
    let initializers = graph.initializer.iter().filter(|t| t.data_type() == double).map(|t| t.name());
    let mut seen = BTreeSet::new();
    let names = values.map(|value| value.name()).chain(initializers);
    names.filter(|name| seen.insert(*name)).map(str::to_owned).collect()
}

/// Values of type string, each with a node that reads or makes it: name, node and operator.
#[must_use]
pub fn string_values(model: &Model) -> Vec<(String, String, String)> {
    let types = element_types(model);
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    types.visit(model.proto(), &mut |at| {
        for value in at.node.input.iter().chain(&at.node.output) {
            let is_string = types.element(at.scope, value) == Some(DataType::String);
            if is_string && seen.insert(value.clone()) {
                found.push((value.clone(), node_name(at.node), at.node.op_type().to_owned()));
            }
        }
    });
    found
}

/// In order; a node of a function counts once, however often it is called.
fn find(model: &Model, element: DataType, wanted: impl Fn(&NodeProto) -> bool) -> Vec<TypedNode> {
    let types = element_types(model);
    let name = element_name(element as i32).unwrap_or("undefined");
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    types.visit(model.proto(), &mut |at| {
        let mut values = at.node.input.iter().chain(&at.node.output);
        if !wanted(at.node) || !values.any(|value| types.element(at.scope, value) == Some(element)) {
            return;
        }
        let node = TypedNode { name: node_name(at.node), op: at.node.op_type().to_owned(), element: name };
        let repeated = at.function.is_some_and(|function| !seen.insert((function, node.clone())));
        if !repeated {
            found.push(node);
        }
    });
    found
}
