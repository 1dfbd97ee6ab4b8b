//! What an import needs to know of a model.

use super::layers::Layer;
use crate::onnx::{self, Dim, Summary, Tensor, node_name};

/// A model that is at hand.
#[derive(Debug)]
pub struct Model {
    pub(super) summary: Summary,
    pub(super) layers: Vec<Layer>,
}

impl Model {
    /// From the canonical form.
    #[must_use]
    pub fn of(model: &onnx::Model, summary: Summary) -> Model {
        let graph = model.graph();
        let layers = graph.node.iter().map(|node| Layer {
            node: node_name(node),
            op: node.op_type().to_owned(),
            is_named: !node.name().is_empty(),
        });
        Model { layers: layers.collect(), summary }
    }

    /// Does it say itself what is INT8?
    pub(super) fn is_quantized(&self) -> bool {
        let has = |op: &str| self.summary.operators.contains_key(op);
        has("QuantizeLinear") || has("DequantizeLinear")
    }

    /// Names of all nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> + Clone {
        self.layers.iter().map(|layer| layer.node.as_str())
    }
}

/// `float[batch, 3, 224, 224]`
pub(super) fn show(tensor: &Tensor) -> String {
    let dims = tensor.dims.iter().flatten().map(|dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Param(name) => name.clone(),
        Dim::Unknown => "?".to_owned(),
    });
    format!("{}[{}]", tensor.element, dims.collect::<Vec<_>>().join(", "))
}
