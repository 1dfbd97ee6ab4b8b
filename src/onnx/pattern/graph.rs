//! A view with its shapes: the numbers, axes and sizes that patterns compare.

use std::collections::BTreeSet;

use super::super::graph::{Constant, GraphView, NodeId, Shapes, ValueId};
use super::super::proto::tensor_proto::DataType;
use super::look::{Look, MAX_CHAIN};

/// A view with its shapes.
#[derive(Debug)]
pub(super) struct Graph<'v, 'a> {
    pub(super) view: &'v GraphView<'a>,
    pub(super) shapes: Shapes,
}

impl<'v, 'a> Graph<'v, 'a> {
    pub(super) fn new(view: &'v GraphView<'a>) -> Graph<'v, 'a> {
        Graph { view, shapes: Shapes::new(view) }
    }

    /// The operator of a node. ONNX's own function bodies add by a Sum of two.
    pub(super) fn op(&self, node: NodeId) -> &'a str {
        match self.view.op(node) {
            "Sum" if self.operands(node).is_some() => "Add",
            op => op,
        }
    }

    /// The operands of a node that has exactly two. Max and the like may have more, and then mean something else.
    pub(super) fn operands(&self, node: NodeId) -> Option<[ValueId; 2]> {
        match self.view.node(node).inputs[..] {
            [Some(a), Some(b)] => Some([a, b]),
            _ => None,
        }
    }

    /// Is a value a constant, perhaps in another type or shape, which the model may compute from its inputs?
    pub(super) fn is_constant(&self, v: ValueId) -> bool {
        let mut at = v;
        for _ in 0..MAX_CHAIN {
            if self.view.is_constant(at) {
                return true;
            }
            let node = self.view.value(at).producer.filter(|node| Look::Layout.passes(self.view.op(*node)));
            let Some(input) = node.and_then(|node| self.view.input(node, 0)) else { return false };
            at = input;
        }
        false
    }

    /// The number that a value is, if it is known; small sums of constants and of sizes are computed.
    pub(super) fn scalar(&self, v: ValueId) -> Option<f64> {
        self.evaluate(v, 8)
    }

    fn evaluate(&self, v: ValueId, depth: usize) -> Option<f64> {
        let producer = self.view.value(v).producer;
        let Some(node) = producer.filter(|node| self.view.op(*node) != "Constant") else {
            return self.view.constant(v)?.uniform();
        };
        if let Some([Some(size)]) = self.shapes.ints(v) {
            #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
            return Some(*size as f64);
        }
        let depth = depth.checked_sub(1)?;
        let input = |i: usize| self.evaluate(self.view.input(node, i)?, depth);
        let holds = |is: bool| f64::from(u8::from(is));
        Some(match self.op(node) {
            "Cast" => {
                let to =
                    i32::try_from(self.view.int(node, "to", 0)?).ok().and_then(|to| to.try_into().ok())?;
                match to {
                    DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16 => input(0)?,
                    DataType::Int32 | DataType::Int64 => input(0)?.trunc(),
                    DataType::Bool => holds(input(0)? != 0.0),
                    _ => return None,
                }
            }
            op if Look::Layout.passes(op) => input(0)?,
            "Sqrt" => input(0)?.sqrt(),
            "Reciprocal" => 1.0 / input(0)?,
            "Neg" => -input(0)?,
            "Add" => input(0)? + input(1)?,
            "Sub" => input(0)? - input(1)?,
            "Mul" => input(0)? * input(1)?,
            "Div" => input(0)? / input(1)?,
            "Pow" => input(0)?.powf(input(1)?),
            "Greater" => holds(input(0)? > input(1)?),
            "Less" => holds(input(0)? < input(1)?),
            "ConstantOfShape" => match self.view.attribute(node, "value") {
                Some(a) => Constant::Tensor(a.t.as_ref()?).get(0)?,
                None => 0.0,
            },
            _ => return None,
        })
    }

    /// Is it this number, within one in a thousand?
    pub(super) fn is(&self, v: ValueId, wanted: f64) -> bool {
        self.scalar(v).is_some_and(|value| near(value, wanted))
    }

    /// Axes from the back and sorted where the rank is known, else as they are.
    pub(super) fn axes(&self, axes: &[i64], rank: Option<usize>) -> Vec<i64> {
        let rank = rank.and_then(|rank| i64::try_from(rank).ok());
        let from_back = |axis: i64| match rank {
            Some(rank) if axis >= 0 => axis - rank,
            _ => axis,
        };
        let sorted: BTreeSet<i64> = axes.iter().map(|axis| from_back(*axis)).collect();
        sorted.into_iter().collect()
    }

    /// The number of elements along axes, if it is known.
    pub(super) fn size(&self, v: ValueId, axes: &[i64]) -> Option<i64> {
        axes.iter().try_fold(1i64, |size, axis| size.checked_mul(self.shapes.dim(v, *axis)?))
    }

    /// The axes of a Reduce operator, or of a pooling of everything behind the channels; none if they are not known.
    pub(super) fn reduced(&self, node: NodeId) -> Option<Vec<i64>> {
        let rank = self.shapes.rank(self.view.input(node, 0)?);
        if self.view.op(node).starts_with("Global") {
            let rank = i64::try_from(rank?).ok()?;
            return (rank > 2).then(|| (2 - rank..0).collect());
        }
        let axes = match (self.view.attribute(node, "axes"), self.view.input(node, 1)) {
            (Some(axes), _) => axes.ints.clone(),
            (None, Some(axes)) => match self.view.constant(axes) {
                Some(axes) => axes.ints()?,
                // PyTorch reshapes one axis to a list of it.
                None => self.shapes.ints(axes)?.iter().copied().collect::<Option<_>>()?,
            },
            (None, None) => Vec::new(),
        };
        if !axes.is_empty() {
            return Some(self.axes(&axes, rank));
        }
        let all = self.view.int(node, "noop_with_empty_axes", 0)? == 0;
        all.then(|| {
            rank.map(|rank| (1..=rank).rev().filter_map(|i| Some(-i64::try_from(i).ok()?)).collect())
        })?
    }
}

/// Equal within one in a thousand, which FP16 constants need.
pub(super) fn near(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() <= wanted.abs() * 1e-3
}

/// Is it what people add so that nothing is divided by zero?
pub(super) fn is_epsilon(value: f64) -> bool {
    value > 0.0 && value <= 0.11
}
