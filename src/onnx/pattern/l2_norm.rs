//! `l2-norm`: `x / max(norm(x), eps)`, over any axes.
//!
//! | spelling | written by |
//! |---|---|
//! | LpNormalization with p = 2 | hand-made graphs |
//! | ReduceL2, Clip (or Max), Expand, Div | PyTorch: `F.normalize`, sentence embeddings |
//! | `x * x` (or Pow 2), ReduceSum (or ReduceSumSquare), Sqrt, Add, Div | hand-written modules (NetVLAD, SSD's L2Norm) |
//! | `x * x`, ReduceSum, Max, Sqrt, Reciprocal (or `Pow -0.5`), Mul | TensorFlow: `l2_normalize` |
//! | the same with the reciprocal root below a Min of 1e12 | Keras 3: `normalize`, `UnitNormalization` |
//! | Abs, Pow 2, ReduceSum, Pow 0.5, Max, Div | PaddlePaddle: `normalize` |
//!
//! A factor behind it is not part of it: LpNormalization has none.

use super::explicit::{operator, single};
use super::graph::Graph;
use super::matched::{Kind, Match};
use super::norm;

pub(super) fn find(graph: &Graph) -> Vec<Match> {
    let mut found = norm::find(graph, Kind::L2Norm);
    for (id, _) in graph.view.nodes() {
        let l2 = operator(graph, id).as_deref() == Some("LpNormalization")
            && graph.view.int(id, "p", 2) == Some(2);
        let Some(of) = single(graph, id, Kind::L2Norm).filter(|_| l2) else { continue };
        let axis = graph.view.int(id, "axis", -1);
        found.push(Match { axes: axis.map(|axis| graph.axes(&[axis], of.rank)).unwrap_or_default(), ..of });
    }
    found
}
