//! `rms-norm`: `x / sqrt(mean(x²) + eps) * scale`.
//!
//! | spelling | written by |
//! |---|---|
//! | RMSNormalization | opset 23 |
//! | SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization | ONNX Runtime's optimizer, its GenAI model builder |
//! | Cast, Pow 2, ReduceMean, Add, Sqrt, then Div, or Reciprocal and Mul; Cast; Mul by scale | PyTorch: LLaMA, T5, Gemma (scale is `1 + w`), Mistral |
//! | `x * x`, ReduceSum times `1/N`, `Pow -0.5` | Flax, hand-written modules |
//! | the mean times 1, plus 0, before epsilon | PaddlePaddle |
//! | ReduceL2 times `d^-½`; ReduceL2, Pow 2, Div by `d` | hand-written modules |
//! | axes by Range from the rank | the body of ONNX's own function, inlined |
//!
//! The axes follow the rule of `layer-norm`.

use super::explicit::{float, name, operator, single, trailing};
use super::graph::Graph;
use super::matched::{Kind, Match};
use super::norm;

pub(super) fn find(graph: &Graph) -> Vec<Match> {
    let mut found = norm::find(graph, Kind::RmsNorm);
    for (id, _) in graph.view.nodes() {
        let Some(op) = operator(graph, id) else { continue };
        let (scale, axis, default) = match op.as_str() {
            "RMSNormalization" => (1, graph.view.int(id, "axis", -1), 1e-5),
            // ONNX Runtime registers it in the domain of ONNX itself.
            "SimplifiedLayerNormalization" | "ms::SimplifiedLayerNormalization" => {
                (1, graph.view.int(id, "axis", -1), 1e-5)
            }
            "ms::SkipSimplifiedLayerNormalization" => (2, Some(-1), 1e-12),
            _ => continue,
        };
        let Some(of) = single(graph, id, Kind::RmsNorm) else { continue };
        let axes = graph.view.input(id, 0).zip(axis).map(|(x, axis)| trailing(graph, x, axis));
        found.push(Match {
            axes: axes.unwrap_or_default(),
            epsilon: float(graph, id, "epsilon", default),
            scale: name(graph, id, scale),
            ..of
        });
    }
    found
}
