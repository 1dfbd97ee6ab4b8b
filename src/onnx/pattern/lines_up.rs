//! Does a statistic meet the values it was made of, each its own?

use super::super::graph::ValueId;
use super::trail::Trail;

/// How many operators may stand between a Reduce and where its result is read.
const MAX_DEPTH: usize = 10;

impl Trail<'_, '_, '_> {
    /// False where `keepdims` is missing or the axis was put back at another place, so that the statistic would stand
    /// beside another axis. In a square both have the same size, and nothing else tells.
    pub(super) fn lines_up(&self, statistic: ValueId, x: ValueId, axes: &[i64]) -> bool {
        let shapes = &self.graph.shapes;
        let (Some(have), Some(want)) = (shapes.rank(statistic), shapes.rank(x)) else { return true };
        let own = self.graph.axes(axes, Some(want));
        let told = own.iter().all(|axis| shapes.dim(statistic, *axis) == Some(1));
        let fits = |axis: i64| match (shapes.dim(statistic, axis), shapes.dim(x, axis)) {
            _ if own.contains(&axis) => self.is_single(statistic, axis, MAX_DEPTH),
            (Some(have), Some(want)) => have == want,
            // If the reduced axis is not known to be of size 1, and another one is, it was put there.
            (Some(1), None) => told,
            _ => true,
        };
        have == want && (1..=have).all(|i| i64::try_from(i).is_ok_and(|axis| fits(-axis)))
    }

    /// Is a value the same all along an axis, counted from the back: of size 1, or expanded from that?
    fn is_single(&self, v: ValueId, axis: i64, depth: usize) -> bool {
        let (view, shapes) = (self.view(), &self.graph.shapes);
        let Some(dims) = shapes.dims(v) else { return true };
        let missing = usize::try_from(-axis).is_ok_and(|i| i > dims.len());
        if missing || shapes.dim(v, axis) == Some(1) || self.graph.scalar(v).is_some() {
            return true;
        }
        let (Some(node), Some(depth)) = (view.value(v).producer, depth.checked_sub(1)) else { return false };
        let single = |v: ValueId| self.is_single(v, axis, depth);
        match view.op(node) {
            "Expand" | "Cast" | "CastLike" | "Identity" => view.input(node, 0).is_some_and(single),
            // A shape that is not known may be the right one.
            "Reshape" => shapes.dim(v, axis).is_none(),
            "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" | "Pow" | "Sqrt" | "Reciprocal" | "Log" | "Neg"
            | "Abs" | "Relu" | "Clip" | "Where" => {
                view.node(node).inputs.iter().flatten().all(|v| single(*v))
            }
            _ => false,
        }
    }
}
