//! Ranks and dimensions, as far as patterns need them: to know whether an axis is the last one, and
//! whether `1/N` is the size that was summed over.
//!
//! One walk in the order of the data; what is not known is not guessed. Shapes that a model computes
//! (`Shape` -> `Gather` -> `Concat` -> `Reshape`) are followed, since exporters write most of them so.

use super::super::proto::tensor_proto::DataType;
use super::super::proto::tensor_shape_proto::dimension;
use super::super::proto::{ValueInfoProto, type_proto};
use super::super::tensor::MAX_RANK;
use super::view::{GraphView, NodeId, ScopeKind, ValueId};

/// Dimensions, outermost first; none for one that is not known.
type Dims = Vec<Option<i64>>;

/// The longest integer vector whose elements are followed: a shape, never data.
const MAX_SHAPE_LEN: i64 = 16;

/// Shapes of the values of a view.
#[derive(Debug)]
pub struct Shapes {
    dims: Vec<Option<Dims>>,
    /// Elements of small integer vectors.
    ints: Vec<Option<Dims>>,
}

impl Shapes {
    /// Infers what can be known of a view.
    #[must_use]
    pub fn new(view: &GraphView) -> Shapes {
        let none = || vec![None; view.value_count()];
        let mut shapes = Shapes { dims: none(), ints: none() };
        for (id, value) in view.values() {
            if let Some(tensor) = value.initializer {
                shapes.dims[id.0] = Some(tensor.dims.iter().map(|dim| Some(*dim)).collect());
                shapes.constant(view, id);
            } else if value.is_input && trusted(view, value.scope) {
                shapes.dims[id.0] = value.declared.and_then(declared);
            }
        }
        for (id, _) in view.nodes() {
            let Some(output) = view.output(id, 0) else { continue };
            let rule = Rule { view, shapes: &shapes, id };
            // A Gather by itself doubles the rank: forty of them would take a terabyte.
            let (dims, ints) = (rule.dims().filter(|dims| dims.len() <= MAX_RANK), rule.ints());
            let value = view.value(output);
            let told = || value.declared.filter(|_| trusted(view, value.scope)).and_then(declared);
            shapes.dims[output.0] = dims.or_else(told);
            shapes.ints[output.0] = ints;
        }
        shapes
    }

    fn constant(&mut self, view: &GraphView, id: ValueId) {
        let small = self.dims[id.0].as_ref().is_some_and(|dims| match dims[..] {
            [] => true,
            [Some(len)] => len <= MAX_SHAPE_LEN,
            _ => false,
        });
        if small {
            let ints = view.constant(id).and_then(|constant| constant.ints());
            self.ints[id.0] = ints.map(|ints| ints.into_iter().map(Some).collect());
        }
    }

    /// Dimensions of a value; none if not even the rank is known.
    #[must_use]
    pub fn dims(&self, id: ValueId) -> Option<&[Option<i64>]> {
        self.dims[id.0].as_deref()
    }

    /// Rank of a value.
    #[must_use]
    pub fn rank(&self, id: ValueId) -> Option<usize> {
        self.dims[id.0].as_ref().map(Vec::len)
    }

    /// Elements of a small integer vector, such as a shape; none for one that is not known.
    #[must_use]
    pub fn ints(&self, id: ValueId) -> Option<&[Option<i64>]> {
        self.ints[id.0].as_deref()
    }

    /// A dimension, by its axis from the front, or from the back if negative.
    #[must_use]
    pub fn dim(&self, id: ValueId, axis: i64) -> Option<i64> {
        let dims = self.dims(id)?;
        dims[place(axis, dims.len())?]
    }
}

/// Shapes of the inputs and outputs of the main graph are a promise; those of subgraphs are only remarks.
fn trusted(view: &GraphView, scope: usize) -> bool {
    view.scopes()[scope].kind == ScopeKind::Main
}

fn declared(info: &ValueInfoProto) -> Option<Dims> {
    let of = info.r#type.as_ref()?.value.as_ref()?;
    let type_proto::Value::TensorType(tensor) = of else { return None };
    let dims = &tensor.shape.as_ref()?.dim;
    let known = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(value)) if *value >= 0 => Some(*value),
        _ => None,
    };
    Some(dims.iter().map(|dim| known(&dim.value)).collect())
}

/// The index of an axis that may count from the back.
fn place(axis: i64, rank: usize) -> Option<usize> {
    let signed = i64::try_from(rank).ok()?;
    usize::try_from(if axis < 0 { axis.checked_add(signed)? } else { axis }).ok().filter(|i| *i < rank)
}

/// One node.
struct Rule<'s, 'a> {
    view: &'s GraphView<'a>,
    shapes: &'s Shapes,
    id: NodeId,
}

impl<'s> Rule<'s, '_> {
    fn input(&self, i: usize) -> Option<&'s Dims> {
        self.shapes.dims[self.view.input(self.id, i)?.0].as_ref()
    }

    fn values(&self, i: usize) -> Option<&'s Dims> {
        self.shapes.ints[self.view.input(self.id, i)?.0].as_ref()
    }

    /// Integers that older opsets have as an attribute, and newer ones as an input.
    fn list(&self, attribute: &str, input: usize) -> Option<Vec<i64>> {
        match self.view.attribute(self.id, attribute) {
            Some(a) => Some(a.ints.clone()),
            None => self.values(input)?.iter().copied().collect(),
        }
    }

    fn int(&self, name: &str, default: i64) -> Option<i64> {
        self.view.int(self.id, name, default)
    }

    fn dims(&self) -> Option<Dims> {
        let out = match self.view.op(self.id) {
            "Constant" => {
                let constant = self.view.constant(self.view.output(self.id, 0)?)?;
                constant.dims().into_iter().map(Some).collect()
            }
            "Shape" => vec![self.shape_of().and_then(|dims| i64::try_from(dims.len()).ok())],
            "Size" => Vec::new(),
            "Reshape" => self.reshape()?,
            "Expand" => {
                let target = self.target(1)?;
                broadcast(self.input(0)?, &target)?
            }
            "ConstantOfShape" => self.target(0)?,
            "Unsqueeze" => self.unsqueeze()?,
            "Squeeze" => self.squeeze()?,
            "Transpose" => {
                let dims = self.input(0)?;
                match self.view.attribute(self.id, "perm") {
                    Some(perm) => {
                        perm.ints.iter().map(|i| Some(dims[place(*i, dims.len())?])).collect::<Option<_>>()?
                    }
                    None => dims.iter().rev().copied().collect(),
                }
            }
            "Flatten" | "Gemm" => {
                let last = if self.view.op(self.id) == "Gemm" {
                    let axis = 1 - usize::from(self.int("transB", 0)? != 0);
                    self.input(1).and_then(|dims| *dims.get(axis)?)
                } else {
                    None
                };
                vec![None, last]
            }
            "MatMul" => self.matmul()?,
            "Concat" => self.concat()?,
            "Gather" => {
                let (data, indices) = (self.input(0)?, self.input(1)?);
                let axis = place(self.int("axis", 0)?, data.len())?;
                [&data[..axis], &indices[..], &data[axis + 1..]].concat()
            }
            "Slice" => self.slice()?,
            "Split" | "Pad" | "Tile" | "Resize" | "Upsample" => vec![None; self.input(0)?.len()],
            "Conv" | "ConvTranspose" => {
                let weights = self.input(1)?;
                let axis = usize::from(self.view.op(self.id) == "ConvTranspose");
                let mut dims = vec![None; weights.len()];
                *dims.get_mut(1)? = weights.get(axis).copied().flatten().filter(|_| axis == 0);
                *dims.get_mut(0)? = self.input(0).and_then(|x| *x.first()?);
                dims
            }
            "MaxPool" | "AveragePool" | "LpPool" => {
                let x = self.input(0)?;
                x.iter().enumerate().map(|(i, dim)| dim.filter(|_| i < 2)).collect()
            }
            "GlobalMaxPool" | "GlobalAveragePool" => {
                let x = self.input(0)?;
                x.iter().enumerate().map(|(i, dim)| if i < 2 { *dim } else { Some(1) }).collect()
            }
            "Where" => broadcast(&broadcast(self.input(0)?, self.input(1)?)?, self.input(2)?)?,
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "PRelu" | "Equal" | "Less" | "Greater"
            | "And" | "Or" => broadcast(self.input(0)?, self.input(1)?)?,
            "Max" | "Min" | "Sum" | "Mean" => {
                let count = self.view.node(self.id).inputs.len();
                (1..count).try_fold(self.input(0)?.clone(), |dims, i| broadcast(&dims, self.input(i)?))?
            }
            op if op.starts_with("Reduce") => self.reduce()?,
            op if keeps_shape(op) => self.input(0)?.clone(),
            _ => return None,
        };
        Some(out)
    }

    /// What a Shape gives: from opset 15 on it may be asked for some axes only.
    fn shape_of(&self) -> Option<Dims> {
        let dims = self.input(0)?;
        let len = i64::try_from(dims.len()).ok()?;
        let clamp =
            |at: i64| usize::try_from(if at < 0 { at.saturating_add(len) } else { at }.clamp(0, len)).ok();
        let (start, end) = (clamp(self.int("start", 0)?)?, clamp(self.int("end", len)?)?);
        Some(dims.get(start..end).unwrap_or_default().to_vec())
    }

    /// The dimensions that a shape input asks for; only their number, if its elements are not known.
    fn target(&self, i: usize) -> Option<Dims> {
        let known = self.values(i).map(|dims| dims.iter().map(|dim| dim.filter(|d| *d >= 0)).collect());
        known.or_else(|| {
            let len = self.input(i)?.first().copied().flatten().filter(|len| *len <= MAX_SHAPE_LEN)?;
            Some(vec![None; usize::try_from(len).ok()?])
        })
    }

    fn reshape(&self) -> Option<Dims> {
        if let Some(shape) = self.view.attribute(self.id, "shape") {
            return Some(shape.ints.iter().map(|dim| Some(*dim).filter(|d| *d > 0)).collect());
        }
        // A zero takes the dimension of the input at the same place, unless it is to mean zero.
        let target = self.target(1)?;
        let data = self.input(0).filter(|_| self.int("allowzero", 0) == Some(0));
        let same = |i: usize| data.and_then(|data| *data.get(i)?);
        Some(target.iter().enumerate().map(|(i, dim)| if *dim == Some(0) { same(i) } else { *dim }).collect())
    }

    fn unsqueeze(&self) -> Option<Dims> {
        let (dims, axes) = (self.input(0)?, self.list("axes", 1)?);
        // Each axis is looked for among all others.
        let rank = Some(dims.len() + axes.len()).filter(|rank| *rank <= MAX_RANK)?;
        let axes = axes.iter().map(|axis| place(*axis, rank)).collect::<Option<Vec<_>>>()?;
        let mut rest = dims.iter();
        (0..rank).map(|i| if axes.contains(&i) { Some(Some(1)) } else { rest.next().copied() }).collect()
    }

    fn squeeze(&self) -> Option<Dims> {
        let (dims, axes) = (self.input(0)?, self.list("axes", 1)?);
        let axes = axes.iter().map(|axis| place(*axis, dims.len())).collect::<Option<Vec<_>>>()?;
        Some(dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, dim)| *dim).collect())
    }

    fn matmul(&self) -> Option<Dims> {
        let (a, b) = (self.input(0)?, self.input(1)?);
        if a.len() < 2 || b.len() < 2 {
            return None;
        }
        let (a, row) = a.split_at(a.len() - 2);
        let (b, column) = b.split_at(b.len() - 2);
        let mut dims = broadcast(a, b)?;
        dims.extend([row[0], column[1]]);
        Some(dims)
    }

    fn concat(&self) -> Option<Dims> {
        let count = self.view.node(self.id).inputs.len();
        let mut dims = self.input(0)?.clone();
        let axis = place(self.int("axis", 1)?, dims.len())?;
        for i in 1..count {
            let more = self.input(i).filter(|more| more.len() == dims.len());
            dims[axis] = match (dims[axis], more.and_then(|more| more[axis])) {
                (Some(a), Some(b)) => a.checked_add(b),
                _ => None,
            };
        }
        Some(dims)
    }

    fn slice(&self) -> Option<Dims> {
        let mut dims = self.input(0)?.clone();
        let starts = self.list("starts", 1);
        let ends = self.list("ends", 2);
        let axes = self.list("axes", 3);
        let whole = axes.is_none() && self.view.input(self.id, 3).is_none();
        let (Some(starts), Some(ends)) = (starts, ends) else { return Some(vec![None; dims.len()]) };
        let axes = match axes {
            Some(axes) => axes,
            None if whole => (0..i64::try_from(starts.len()).ok()?).collect(),
            None => return Some(vec![None; dims.len()]),
        };
        let stepped = self.view.input(self.id, 4).is_some()
            && self.values(4).is_none_or(|steps| steps.iter().any(|step| *step != Some(1)));
        for ((axis, start), end) in axes.iter().zip(&starts).zip(&ends) {
            let i = place(*axis, dims.len())?;
            dims[i] = dims[i].filter(|_| !stepped).map(|len| {
                let clamp = |at: i64| if at < 0 { at.saturating_add(len) } else { at }.clamp(0, len);
                (clamp(*end) - clamp(*start)).max(0)
            });
        }
        Some(dims)
    }

    fn reduce(&self) -> Option<Dims> {
        let dims = self.input(0)?;
        let keep = self.int("keepdims", 1)? != 0;
        let given = self.view.attribute(self.id, "axes").is_some() || self.view.input(self.id, 1).is_some();
        let axes = if given { self.list("axes", 1) } else { Some(Vec::new()) };
        let place = |axis: &i64| place(*axis, dims.len());
        let axes: Option<Vec<usize>> = match axes {
            Some(axes) if axes.is_empty() => {
                if self.int("noop_with_empty_axes", 0)? != 0 {
                    return Some(dims.clone());
                }
                Some((0..dims.len()).collect())
            }
            axes => axes.and_then(|axes| axes.iter().map(place).collect()),
        };
        let Some(axes) = axes else { return keep.then(|| vec![None; dims.len()]) };
        let dim = |(i, dim): (usize, &Option<i64>)| match axes.contains(&i) {
            true => keep.then_some(Some(1)),
            false => Some(*dim),
        };
        Some(dims.iter().enumerate().filter_map(dim).collect())
    }

    /// The elements of a small integer vector that is computed from shapes.
    fn ints(&self) -> Option<Dims> {
        const FLOAT: i64 = DataType::Float as i64;
        const INT32: i64 = DataType::Int32 as i64;
        const INT64: i64 = DataType::Int64 as i64;
        const DOUBLE: i64 = DataType::Double as i64;
        match self.view.op(self.id) {
            "Constant" => {
                let constant = self.view.constant(self.view.output(self.id, 0)?)?;
                let ints = constant.ints()?;
                (constant.dims().len() <= 1 && ints.len() <= 16).then(|| ints.into_iter().map(Some).collect())
            }
            "Shape" => self.shape_of(),
            // As booleans or bytes they would be others.
            "Cast" if !matches!(self.int("to", 0), Some(FLOAT | INT32 | INT64 | DOUBLE)) => None,
            "Cast" | "Identity" | "Unsqueeze" | "Squeeze" => self.values(0).cloned(),
            "Reshape" => self.values(0).filter(|values| values.len() == 1).cloned(),
            "Gather" => {
                let data = self.values(0)?;
                self.values(1)?.iter().map(|i| Some(data[place((*i)?, data.len())?])).collect()
            }
            "Slice" => {
                let data = self.values(0)?;
                let (starts, ends) = (self.list("starts", 1)?, self.list("ends", 2)?);
                let ([start], [end], None) = (&starts[..], &ends[..], self.view.input(self.id, 4)) else {
                    return None;
                };
                let len = i64::try_from(data.len()).ok()?;
                let clamp = |at: i64| if at < 0 { at.saturating_add(len) } else { at }.clamp(0, len);
                let (start, end) = (usize::try_from(clamp(*start)).ok()?, usize::try_from(clamp(*end)).ok()?);
                data.get(start..end).map(<[_]>::to_vec)
            }
            "Concat" => {
                let mut all = Vec::new();
                for i in 0..self.view.node(self.id).inputs.len() {
                    match (self.values(i), self.input(i).map(Vec::as_slice)) {
                        (Some(values), _) => all.extend_from_slice(values),
                        (None, Some([Some(len)])) if *len <= MAX_SHAPE_LEN => {
                            all.resize(all.len() + usize::try_from(*len).ok()?, None);
                        }
                        _ => return None,
                    }
                }
                (all.len() <= 16).then_some(all)
            }
            _ => None,
        }
    }
}

/// Numpy's rule.
fn broadcast(a: &[Option<i64>], b: &[Option<i64>]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Option<i64>], i: usize| match (i + dims.len()).checked_sub(rank) {
        Some(i) => dims[i],
        None => Some(1),
    };
    let dim = |i: usize| match (at(a, i), at(b, i)) {
        (Some(1), other) | (other, Some(1)) => Some(other),
        (Some(a), Some(b)) if a != b => None,
        (Some(known), _) | (_, Some(known)) => Some(Some(known)),
        (None, None) => Some(None),
    };
    (0..rank).map(dim).collect()
}

/// Does the first output have the shape of the first input?
fn keeps_shape(op: &str) -> bool {
    const OPS: &[&str] = &[
        "Abs",
        "BatchNormalization",
        "Bernoulli",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "CumSum",
        "DequantizeLinear",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "Identity",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "Mish",
        "Neg",
        "Not",
        "QuantizeLinear",
        "RMSNormalization",
        "Reciprocal",
        "Relu",
        "RotaryEmbedding",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "SimplifiedLayerNormalization",
        "Sin",
        "Softmax",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
        "Trilu",
    ];
    OPS.binary_search(&op).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::GraphProto;
    use super::super::super::testing::{WithAttribute, ints, model, node, value, weight};
    use super::*;

    #[test]
    fn shapes_that_the_model_computes_are_followed() {
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &["b".into(), 6.into(), 4.into()])],
            output: vec![value("y", DataType::Float, &[])],
            initializer: vec![
                ints("zero", &[1], &[0]),
                ints("one", &[1], &[1]),
                ints("rest", &[2], &[-1, 8]),
                weight("w", &[8, 5]),
            ],
            node: vec![
                node("", "Shape", &["x"], &["shape"]),
                node("", "Slice", &["shape", "zero", "one", "zero"], &["batch"]),
                node("", "Concat", &["batch", "rest"], &["target"]).int("axis", 0),
                node("", "Reshape", &["x", "target"], &["r"]),
                node("", "MatMul", &["r", "w"], &["m"]),
                node("", "ReduceMean", &["m"], &["mean"]).ints("axes", &[-1]).int("keepdims", 0),
                node("", "Unsqueeze", &["mean", "one"], &["up"]),
                node("", "Sub", &["m", "up"], &["y"]),
            ],
            ..GraphProto::default()
        };
        let model = model(13, graph);
        let view = GraphView::new(&model);
        let shapes = Shapes::new(&view);
        let dims = |name: &str| shapes.dims(view.find(0, name).unwrap()).map(<[_]>::to_vec);
        assert_eq!(dims("r"), Some(vec![None, None, Some(8)]));
        assert_eq!(dims("m"), Some(vec![None, None, Some(5)]));
        assert_eq!(dims("mean"), Some(vec![None, None]));
        assert_eq!(dims("up"), Some(vec![None, Some(1), None]));
        assert_eq!(shapes.rank(view.find(0, "y").unwrap()), Some(3));
    }

    #[test]
    fn shapes_depend_on_both_operands_axes_and_attributes() {
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &[2.into(), 3.into()])],
            output: vec![value("y", DataType::Float, &[])],
            initializer: vec![weight("one", &[1]), ints("none", &[0], &[]), ints("zero", &[2], &[0, -1])],
            node: vec![
                node("", "Mod", &["one", "x"], &["mod"]),
                node("", "ReduceSum", &["x", "none"], &["all"]),
                node("", "ReduceSum", &["x", "none"], &["noop"]).int("noop_with_empty_axes", 1),
                node("", "Reshape", &["x", "zero"], &["same"]),
                node("", "Reshape", &["x", "zero"], &["empty"]).int("allowzero", 1),
                node("", "Shape", &["x"], &["shape"]),
                node("", "Cast", &["shape"], &["bool"]).int("to", 9),
                node("", "Cast", &["bool"], &["ones"]).int("to", 7),
                node("", "Expand", &["one", "ones"], &["y"]),
            ],
            ..GraphProto::default()
        };
        let model = model(17, graph);
        let view = GraphView::new(&model);
        let shapes = Shapes::new(&view);
        let dims = |name: &str| shapes.dims(view.find(0, name).unwrap()).map(<[_]>::to_vec);
        assert_eq!(dims("mod"), Some(vec![Some(2), Some(3)]));
        assert_eq!(dims("all"), Some(vec![Some(1), Some(1)]));
        assert_eq!(dims("noop"), Some(vec![Some(2), Some(3)]));
        assert_eq!(dims("same"), Some(vec![Some(2), None]));
        assert_eq!(dims("empty"), Some(vec![None, None]));
        assert_ne!(dims("y"), Some(vec![Some(2), Some(3)]));
    }

    #[test]
    fn a_rank_that_doubles_with_each_node_ends() {
        let names: Vec<String> = (0..=60).map(|i| format!("g{i}")).collect();
        let twice = |i: usize| node("", "Gather", &[names[i].as_str(); 2], &[&names[i + 1]]);
        let graph = GraphProto {
            input: vec![value("g0", DataType::Int64, &[1.into(), 1.into()])],
            output: vec![value("g60", DataType::Int64, &[])],
            node: (0..60).map(twice).collect(),
            ..GraphProto::default()
        };
        let model = model(13, graph);
        let view = GraphView::new(&model);
        let rank = |name: &str| Shapes::new(&view).rank(view.find(0, name).unwrap());
        assert_eq!((rank("g5"), rank("g59")), (Some(33), None));
    }

    #[test]
    fn a_list_of_any_number_of_axes_is_no_shape() {
        let axes: Vec<i64> = (0..200_000).collect();
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &[4.into()])],
            output: vec![value("y", DataType::Float, &[])],
            node: vec![node("", "Unsqueeze", &["x"], &["y"]).ints("axes", &axes)],
            ..GraphProto::default()
        };
        let model = model(11, graph);
        let view = GraphView::new(&model);
        let start = std::time::Instant::now();
        // That of an output is declared.
        assert_eq!(Shapes::new(&view).rank(view.find(0, "y").unwrap()), Some(0));
        assert!(start.elapsed().as_secs() < 5);
    }

    #[test]
    fn operators_are_sorted_for_the_search() {
        assert!(keeps_shape("Abs") && keeps_shape("Trilu") && keeps_shape("InstanceNormalization"));
        assert!(!keeps_shape("Reshape"));
    }
}
