//! What is looked through: nodes that hand on the numbers they read.

use super::super::graph::{Constant, NodeId, ValueId};
use super::super::proto::tensor_proto::DataType;
use super::graph::Graph;

/// How far Casts and the like are followed.
pub(super) const MAX_CHAIN: usize = 16;

/// What is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// Cast between float types and Identity; also what PaddlePaddle writes for nothing: `v * 1.0`, `v + 0.0`.
    Casts,
    /// Also what changes a shape and no element: Reshape, Unsqueeze, Squeeze, Expand; a Where that always takes the
    /// same side, as JAX writes around a variance.
    Shapes,
    /// Also Transpose, Flatten and Dropout (which is nothing at inference).
    Layout,
}

impl Look {
    /// By the operator alone.
    pub(super) fn passes(self, op: &str) -> bool {
        match op {
            "Cast" | "CastLike" | "Identity" => true,
            "Reshape" | "Unsqueeze" | "Squeeze" | "Expand" => self >= Look::Shapes,
            "Transpose" | "Dropout" | "Flatten" => self >= Look::Layout,
            _ => false,
        }
    }
}

impl Graph<'_, '_> {
    /// What a node hands on as its first output, if it is looked through.
    pub(super) fn handed_on(&self, node: NodeId, look: Look) -> Option<ValueId> {
        let view = self.view;
        let first = view.input(node, 0);
        match view.op(node) {
            "Cast" => first.filter(|v| self.keeps_numbers(node, *v)),
            "CastLike" => {
                let like = |v: ValueId| self.element(v, MAX_CHAIN).is_none_or(is_float);
                first.filter(|v| like(*v) && view.input(node, 1).is_none_or(like))
            }
            "Where" if look >= Look::Shapes => {
                let side = if self.scalar(first?)? == 0.0 { 2 } else { 1 };
                view.input(node, side)
            }
            op if look.passes(op) => first,
            _ => self.beside_nothing(node),
        }
    }

    /// Does a Cast keep what it reads, but for its precision? To whole numbers and to truth values, and from them, it is
    /// a step of the computation.
    fn keeps_numbers(&self, cast: NodeId, from: ValueId) -> bool {
        let to = self.view.int(cast, "to", 0).and_then(data_type);
        to.is_some_and(is_float) && self.element(from, MAX_CHAIN).is_none_or(is_float)
    }

    /// The operand beside a 0 that is added or a 1 that is multiplied with.
    fn beside_nothing(&self, node: NodeId) -> Option<ValueId> {
        let [a, b] = self.operands(node)?;
        // One of more elements could add dimensions.
        let is = |v: ValueId, wanted: f64| {
            let single = self.shapes.dims(v).is_some_and(|dims| dims.iter().all(|dim| *dim == Some(1)));
            single && self.scalar(v) == Some(wanted)
        };
        match self.op(node) {
            "Add" if is(b, 0.0) => Some(a),
            "Add" if is(a, 0.0) => Some(b),
            "Sub" if is(b, 0.0) => Some(a),
            "Mul" if is(b, 1.0) => Some(a),
            "Mul" if is(a, 1.0) => Some(b),
            "Div" if is(b, 1.0) => Some(a),
            _ => None,
        }
    }

    /// The element type of a value, where it is easy to tell.
    fn element(&self, v: ValueId, depth: usize) -> Option<DataType> {
        let (view, depth) = (self.view, depth.checked_sub(1)?);
        let value = view.value(v);
        if let Some(tensor) = value.initializer {
            return data_type(i64::from(tensor.data_type()));
        }
        if let Some(of) = value.declared.and_then(|info| info.r#type.as_ref()?.value.as_ref()) {
            use super::super::proto::type_proto::Value::TensorType;
            return if let TensorType(tensor) = of { data_type(i64::from(tensor.elem_type())) } else { None };
        }
        let node = value.producer?;
        match view.op(node) {
            "Cast" => data_type(view.int(node, "to", 0)?),
            "Constant" => match view.constant(v)? {
                Constant::Tensor(tensor) => data_type(i64::from(tensor.data_type())),
                Constant::Float(_) | Constant::Floats(_) => Some(DataType::Float),
                Constant::Int(_) | Constant::Ints(_) => Some(DataType::Int64),
            },
            "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" => Some(DataType::Int64),
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Not" | "And" | "Or"
            | "Xor" | "IsNaN" | "IsInf" => Some(DataType::Bool),
            "CastLike" => self.element(view.input(node, 1)?, depth),
            "Where" => self.element(view.input(node, 1)?, depth),
            "Add" | "Sub" | "Mul" | "Div" | "Neg" | "Abs" | "Max" | "Min" | "Clip" | "Gather" | "Slice"
            | "Concat" => self.element(view.input(node, 0)?, depth),
            op if Look::Layout.passes(op) => self.element(view.input(node, 0)?, depth),
            _ => None,
        }
    }
}

fn data_type(number: i64) -> Option<DataType> {
    DataType::try_from(i32::try_from(number).ok()?).ok()
}

/// A type whose numbers differ from those of the others in precision alone.
fn is_float(of: DataType) -> bool {
    matches!(of, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}
