//! Constants that a Cast makes FP32, as FP32 constants.
//!
//! Exporters write a mask or an epsilon as a DOUBLE or an integer with a Cast behind it. To rules and hazards it is the
//! constant that it would have been in FP32: else a Cast to 16 bits would lose it, and nothing would tell.

use std::collections::BTreeMap;

use super::float::FloatType;
use super::view::View;
use super::weights::largest;
use crate::onnx::graph::Constant;
use crate::onnx::infer::ScopeId;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};
use crate::onnx::{self, Model, make};

/// More elements than these are data, and no mask.
const MAX_ELEMENTS: usize = 1 << 16;

/// The least integer that FP16 does not have.
const LARGE: f32 = 2049.0;

/// What nodes are replaced by, by the scope and the place of the node.
type Folded = BTreeMap<(ScopeId, usize), TensorProto>;

/// The model with such constants folded; none if there are none.
pub(super) fn fold(view: &View<'_>) -> Option<Model> {
    let nodes = view.nodes.iter();
    let folded: Folded = nodes
        .filter_map(|node| Some(((node.scope, node.index), folded(view, node.scope, node.proto)?)))
        .collect();
    if folded.is_empty() {
        return None;
    }
    let mut graph = view.model.graph().clone();
    replace(view, view.types.graph(), &mut graph, &folded);
    Some(view.model.with_graph(graph))
}

/// The FP32 constant that a node gives.
fn folded(view: &View<'_>, scope: ScopeId, node: &NodeProto) -> Option<TensorProto> {
    let is_cast = node.domain().is_empty() && matches!(node.op_type(), "Cast" | "CastLike");
    let (input, output) = node.input.first().filter(|_| is_cast).zip(node.output.first())?;
    if view.float(scope, output) != Some(FloatType::Fp32) || view.float(scope, input).is_some() {
        return None;
    }
    let constant = view.constant(scope, input)?;
    let count: i64 = constant.dims.iter().product();
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_ELEMENTS)?;
    let values = (0..count).map(|i| Constant::Tensor(&constant).get(i));
    #[expect(clippy::cast_possible_truncation, reason = "a Cast to FP32 rounds too")]
    let values: Vec<f32> = values.map(|value| value.map(|value| value as f32)).collect::<Option<_>>()?;
    // Integers that FP16 does not have, although they are in its range, are told where they are cast.
    let is_integer = constant.data_type() != DataType::Double as i32;
    if is_integer && values.iter().any(|value| (LARGE..=largest(FloatType::Fp16)).contains(&value.abs())) {
        return None;
    }
    let data: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    Some(make::raw_tensor(DataType::Float, &constant.dims, data.into()))
}

fn replace(view: &View<'_>, scope: ScopeId, graph: &mut GraphProto, folded: &Folded) {
    for (index, node) in graph.node.iter_mut().enumerate() {
        if let Some(tensor) = folded.get(&(scope, index)) {
            let made = make::node(node.name(), "Constant", &[], &[&node.output[0]]);
            *node = NodeProto { attribute: vec![make::tensor("value", tensor.clone())], ..made };
            continue;
        }
        for (ordinal, inner) in onnx::subgraphs_mut(node).enumerate() {
            if let Some(scope) = view.types.subgraph(scope, index, ordinal) {
                replace(view, scope, inner, folded);
            }
        }
    }
}
