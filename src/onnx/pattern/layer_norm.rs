//! `layer-norm`: `(x - mean(x)) / sqrt(var(x) + eps) * scale + bias`.
//!
//! | spelling | written by |
//! |---|---|
//! | LayerNormalization | PyTorch from opset 17, Keras 3 |
//! | SkipLayerNormalization (com.microsoft) | ONNX Runtime's optimizer |
//! | ReduceMean, Sub, Pow 2, ReduceMean, Add, Sqrt, Div, Mul, Add | PyTorch before opset 17, PaddlePaddle |
//! | the same with two Sub, or `d * d` for Pow | PyTorch before 1.2, TensorFlow's SquaredDifference |
//! | ReduceSum times `1/N` for ReduceMean | tf2onnx, JAX through jax2tf |
//! | GlobalAveragePool for ReduceMean, of three dimensions and more | tf2onnx's optimizer, of nearly every norm of Keras |
//! | variance times `N`, over `N - 1`, which are computed from the shape; epsilon behind the root | PyTorch's `std` ("The Annotated Transformer"), `var` |
//! | `Where(N > 0, sum / N, NaN)` around the variance; `x + -mean` | JAX through jax2onnx |
//! | `mean(x²) - mean(x)²` with `max(0, …)`, keepdims = 0 and Reshape, Expand behind | Flax through jax2tf and tf2onnx |
//! | Sqrt, Reciprocal, Mul; `Pow -0.5`; `1 / sqrt` | tf2onnx; hand-written modules |
//! | scale multiplied into the reciprocal root before it meets `x` | Flax, TensorFlow |
//! | `x * r + (bias - mean * r)` | TensorFlow's `batch_normalization`, thus Keras 2's LayerNormalization |
//! | `x * r + ((-mean) * r + bias)` | Keras 3's LayerNormalization |
//! | scale multiplied into `x - mean` before the division; epsilon behind the root | hand-written modules ("The Annotated Transformer") |
//! | scale and bias behind a Reshape whose target is computed from the input | NAFNet with dynamic shapes |
//! | epsilon 0 or up to 0.1, none at all | hand-written modules |
//! | Sum of two for Add; epsilon behind CastLike; axes by Range | the bodies of ONNX's own functions, inlined |
//!
//! What makes it a *layer* norm is the axes. The last ones, in a row, always do. Others do only where
//! scale or bias differ along exactly those axes, as in channels-first networks (`[1, C, 1]` over axis 1). A
//! scale that differs along other axes belongs to an InstanceNormalization or a standardization of a
//! batch. Axes from the front of a value of unknown rank are no evidence.
//!
//! Not seen: a sum that is divided by a size which is known at run time only; a Where that chooses by the data.

use super::explicit::{float, name, operator, single, trailing};
use super::graph::Graph;
use super::matched::{Kind, Match};
use super::norm;

pub(super) fn find(graph: &Graph) -> Vec<Match> {
    let mut found = norm::find(graph, Kind::LayerNorm);
    for (id, _) in graph.view.nodes() {
        let Some(op) = operator(graph, id) else { continue };
        let (scale, bias, axis) = match op.as_str() {
            "LayerNormalization" => (1, 2, graph.view.int(id, "axis", -1)),
            "ms::SkipLayerNormalization" => (2, 3, Some(-1)),
            _ => continue,
        };
        let Some(of) = single(graph, id, Kind::LayerNorm) else { continue };
        let default = if scale == 1 { 1e-5 } else { 1e-12 };
        let axes = graph.view.input(id, 0).zip(axis).map(|(x, axis)| trailing(graph, x, axis));
        found.push(Match {
            axes: axes.unwrap_or_default(),
            epsilon: float(graph, id, "epsilon", default),
            scale: name(graph, id, scale),
            bias: name(graph, id, bias),
            ..of
        });
    }
    found
}
