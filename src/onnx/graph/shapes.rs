//! Ranks and dimensions, as far as patterns need them: to know whether an axis is the last one, and
//! whether `1/N` is the size that was summed over.
//!
//! One walk in the order of the data; what is not known is not guessed. Shapes that a model computes
//! (`Shape` -> `Gather` -> `Concat` -> `Reshape`) are followed, since exporters write most of them so.

use super::super::proto::tensor_shape_proto::dimension;
use super::super::proto::{ValueInfoProto, type_proto};
use super::super::tensor::MAX_RANK;
use super::shape_rules::{Rule, place};
use super::view::{GraphView, ScopeKind, ValueId};

/// Dimensions, outermost first; none for one that is not known.
pub(super) type Dims = Vec<Option<i64>>;

/// The longest integer vector whose elements are followed: a shape, never data.
pub(super) const MAX_SHAPE_LEN: i64 = 16;

/// Shapes of the values of a view.
#[derive(Debug)]
pub struct Shapes {
    pub(super) dims: Vec<Option<Dims>>,
    /// Elements of small integer vectors.
    pub(super) ints: Vec<Option<Dims>>,
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

#[cfg(test)]
mod tests {
    use super::super::super::proto::GraphProto;
    use super::super::super::proto::tensor_proto::DataType;
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
    fn dimensions_and_sizes_are_computed() {
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &[2.into(), 3.into(), "t".into(), 5.into()])],
            output: vec![value("y", DataType::Float, &[])],
            initializer: vec![ints("one_", &[], &[1])],
            node: vec![
                node("", "Flatten", &["x"], &["one"]),
                node("", "Flatten", &["x"], &["two"]).int("axis", 2),
                node("", "Flatten", &["x"], &["last"]).int("axis", -1),
                node("", "Flatten", &["x"], &["all"]).int("axis", 4),
                node("", "Shape", &["x"], &["shape"]).int("end", 2),
                node("", "ReduceProd", &["shape"], &["count"]).int("keepdims", 0),
                node("", "ReduceProd", &["x"], &["y"]),
                node("", "Size", &["x"], &["size"]),
                node("", "Shape", &["x"], &["whole"]),
                node("", "Size", &["whole"], &["rank"]),
                node("", "Sub", &["rank", "one_"], &["before"]),
                node("", "Range", &["before", "rank", "one_"], &["axes"]),
                node("", "Add", &["shape", "shape"], &["twice"]),
            ],
            ..GraphProto::default()
        };
        let model = model(17, graph);
        let view = GraphView::new(&model);
        let shapes = Shapes::new(&view);
        let dims = |name: &str| shapes.dims(view.find(0, name).unwrap()).map(<[_]>::to_vec);
        assert_eq!(dims("one"), Some(vec![Some(2), None]));
        assert_eq!(dims("two"), Some(vec![Some(6), None]));
        assert_eq!(dims("last"), Some(vec![None, Some(5)]));
        assert_eq!(dims("all"), Some(vec![None, Some(1)]));
        assert_eq!(shapes.ints(view.find(0, "count").unwrap()), Some(&[Some(6)][..]));
        assert_eq!(shapes.ints(view.find(0, "y").unwrap()), None);
        let values = |name: &str| shapes.ints(view.find(0, name).unwrap()).map(<[_]>::to_vec);
        assert_eq!(values("axes"), Some(vec![Some(3)]));
        assert_eq!((values("size"), values("twice")), (None, Some(vec![Some(4), Some(6)])));
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
}
