//! A light guess of element types, to explain what a GPU cannot do. What is not known is not guessed.

use std::collections::BTreeMap;

use super::interface::tensor_type;
use super::names::{node_name, subgraphs};
use super::proto::tensor_proto::DataType;
use super::proto::{GraphProto, NodeProto};
use super::read::Model;
use super::tensor::element_name;

/// A node, with the element type that made it notable.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    values.map(|value| value.name()).chain(initializers).map(str::to_owned).collect()
}

fn find(model: &Model, element: DataType, wanted: impl Fn(&NodeProto) -> bool) -> Vec<TypedNode> {
    let mut found = Vec::new();
    let name = element_name(element as i32).unwrap_or("undefined");
    walk(model.graph(), None, &mut |node, types| {
        let mut values = node.input.iter().chain(&node.output);
        if wanted(node) && values.any(|value| types.get(value) == Some(element as i32)) {
            found.push(TypedNode { name: node_name(node), op: node.op_type().to_owned(), element: name });
        }
    });
    found
}

/// Known element types by name, in a graph and around it.
struct Types<'a> {
    own: BTreeMap<&'a str, i32>,
    outer: Option<&'a Types<'a>>,
}

impl Types<'_> {
    fn get(&self, name: &str) -> Option<i32> {
        self.own.get(name).copied().or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

fn walk(graph: &GraphProto, outer: Option<&Types>, visit: &mut dyn FnMut(&NodeProto, &Types)) {
    let mut types = Types { own: BTreeMap::new(), outer };
    for value in graph.input.iter().chain(&graph.output) {
        if let Some(element) = tensor_type(value.r#type.as_ref()).map(|t| t.elem_type()).filter(|e| *e != 0) {
            types.own.insert(value.name(), element);
        }
    }
    types.own.extend(graph.initializer.iter().map(|t| (t.name(), t.data_type())));
    for node in &graph.node {
        if let (Some(output), Some(element)) = (node.output.first(), result(node, &types)) {
            types.own.insert(output, element);
        }
        visit(node, &types);
        subgraphs(node).for_each(|graph| walk(graph, Some(&types), visit));
    }
}

/// Element type of the first output of a node, if it is known.
fn result(node: &NodeProto, types: &Types) -> Option<i32> {
    if !node.domain().is_empty() {
        return None;
    }
    let input = |i: usize| node.input.get(i).and_then(|name| types.get(name));
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name() == name);
    match node.op_type() {
        "Cast" => attribute("to").and_then(|a| i32::try_from(a.i()).ok()),
        "Constant" => node.attribute.first().and_then(|a| match a.name() {
            "value" => a.t.as_ref().map(|t| t.data_type()),
            "value_float" | "value_floats" => Some(DataType::Float as i32),
            "value_int" | "value_ints" => Some(DataType::Int64 as i32),
            _ => None,
        }),
        "ConstantOfShape" => Some(
            attribute("value").and_then(|a| a.t.as_ref()).map_or(DataType::Float as i32, |t| t.data_type()),
        ),
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(DataType::Int64 as i32),
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Not" | "Xor"
        | "IsNaN" | "IsInf" => Some(DataType::Bool as i32),
        "DequantizeLinear" => input(1),
        "Where" | "CastLike" => input(1).or_else(|| input(2).filter(|_| node.op_type() == "Where")),
        // All operands have one type, so that any known one tells.
        "MatMul"
        | "Gemm"
        | "Einsum"
        | "Conv"
        | "ConvTranspose"
        | "Add"
        | "Sub"
        | "Mul"
        | "Div"
        | "Pow"
        | "Max"
        | "Min"
        | "Sum"
        | "Mean"
        | "Concat"
        | "PRelu"
        | "BatchNormalization"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "RMSNormalization" => {
            let last = if node.op_type() == "Pow" { 1 } else { node.input.len() };
            (0..last).find_map(input)
        }
        "Abs"
        | "AveragePool"
        | "Attention"
        | "Ceil"
        | "Celu"
        | "Clip"
        | "Cos"
        | "CumSum"
        | "DepthToSpace"
        | "Dropout"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Expand"
        | "Flatten"
        | "Floor"
        | "Gather"
        | "GatherElements"
        | "GatherND"
        | "Gelu"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "HardSigmoid"
        | "HardSwish"
        | "Hardmax"
        | "Identity"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "MaxPool"
        | "MeanVarianceNormalization"
        | "Mish"
        | "Mod"
        | "Neg"
        | "Pad"
        | "Reciprocal"
        | "ReduceL1"
        | "ReduceL2"
        | "ReduceLogSum"
        | "ReduceLogSumExp"
        | "ReduceMax"
        | "ReduceMean"
        | "ReduceMin"
        | "ReduceProd"
        | "ReduceSum"
        | "ReduceSumSquare"
        | "Relu"
        | "Reshape"
        | "Resize"
        | "RotaryEmbedding"
        | "Round"
        | "ScatterElements"
        | "ScatterND"
        | "Selu"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Slice"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "SpaceToDepth"
        | "Split"
        | "Sqrt"
        | "Squeeze"
        | "Swish"
        | "Tan"
        | "Tanh"
        | "Tile"
        | "TopK"
        | "Transpose"
        | "Trilu"
        | "Unsqueeze"
        | "Upsample" => input(0),
        _ => None,
    }
}
