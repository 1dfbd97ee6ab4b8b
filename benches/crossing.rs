//! How many values cross to another type, counted from the assignment alone; and a transformer to count in.

use std::collections::{BTreeMap, BTreeSet};

use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use enginewright::onnx::testing::{WithAttribute, floats, ints, model, node, value, weight};
use enginewright::onnx::{self, Model};
use enginewright::precision::{Assignment, FloatType};

/// Values of the main graph that one node makes in a type and another reads in another type, each once for every
/// such type. Constants, which can be stored in any type, are none.
pub(crate) fn crossings(model: &Model, assignment: &Assignment) -> usize {
    let types = onnx::element_types(model);
    let float = |name: &str| FloatType::of_type(types.get(types.graph(), name));
    let graph = model.graph();
    let assigned = assignment.nodes.iter().filter(|node| node.inside.is_empty());
    let mut made: BTreeMap<&str, FloatType> =
        graph.input.iter().filter_map(|v| Some((v.name(), float(v.name())?))).collect();
    // What a Cast between float types casts.
    let mut source: BTreeMap<&str, &str> = BTreeMap::new();
    let mut crossing: BTreeSet<(&str, FloatType)> = BTreeSet::new();
    for (node, assigned) in graph.node.iter().zip(assigned) {
        let inputs = node.input.iter().filter(|name| float(name).is_some());
        let inputs: Vec<&str> =
            inputs.map(|name| source.get(name.as_str()).copied().unwrap_or(name.as_str())).collect();
        let outputs = node.output.iter().filter(|name| float(name).is_some());
        match (assigned.of, node.op_type()) {
            (Some(of), _) => {
                crossing.extend(
                    inputs.iter().filter(|n| made.get(*n).is_some_and(|m| *m != of)).map(|n| (*n, of)),
                );
                made.extend(outputs.map(|name| (name.as_str(), of)));
            }
            (None, "Cast") => source.extend(outputs.zip(inputs).map(|(to, from)| (to.as_str(), from))),
            (None, _) => {}
        }
    }
    for output in &graph.output {
        let name = source.get(output.name()).copied().unwrap_or(output.name());
        if let (Some(of), Some(made)) = (float(output.name()), made.get(name))
            && of != *made
        {
            crossing.insert((name, of));
        }
    }
    crossing.len()
}

/// Casts between float types in the main graph.
pub(crate) fn casts(model: &Model) -> usize {
    let types = onnx::element_types(model);
    let float = |names: &[String]| {
        names.first().is_some_and(|name| FloatType::of_type(types.get(types.graph(), name)).is_some())
    };
    let is_cast = |node: &&NodeProto| node.op_type() == "Cast" && float(&node.input) && float(&node.output);
    model.graph().node.iter().filter(is_cast).count()
}

/// Adds a node of this name, operator, inputs and attribute, and gives its output.
type Add<'a> = &'a mut dyn FnMut(&str, &str, &[&str], Option<(&str, &[i64])>) -> String;

/// A transformer of opset 13 with LayerNorms in many nodes, attention with an additive mask, and GELU by Erf.
pub(crate) fn transformer(layers: usize, width: i64, heads: i64) -> ModelProto {
    let mut nodes = Vec::new();
    let mut weights: Vec<TensorProto> = vec![
        floats("two", &[], &[2.0]),
        floats("eps", &[], &[1e-5]),
        floats("half", &[], &[0.5]),
        floats("one", &[], &[1.0]),
        floats("root2", &[], &[2f32.sqrt()]),
        floats("far", &[], &[-1e4]),
        floats("scale", &[], &[1.0 / 8.0]),
        ints("split", &[4], &[0, 0, heads, width / heads]),
        ints("join", &[3], &[0, 0, width]),
    ];
    nodes.push(node("/mask/not", "Sub", &["one", "mask"], &["hidden"]));
    nodes.push(node("/mask/far", "Mul", &["hidden", "far"], &["bias"]));
    let mut x = "x".to_owned();
    for layer in 0..layers {
        let p = |name: &str| format!("/{layer}/{name}");
        let mut add = |name: &str, op: &str, inputs: &[&str], with: Option<(&str, &[i64])>| {
            let out = p(name);
            let made = node(&out, op, inputs, &[&out]);
            nodes.push(match with {
                Some((attribute, [one])) if attribute == "axis" => made.int(attribute, *one),
                Some((attribute, values)) => made.ints(attribute, values),
                None => made,
            });
            out
        };
        let mut linear = |add: Add<'_>, name: &str, from: &str, dims: [i64; 2]| {
            let (w, b) = (p(&format!("{name}.weight")), p(&format!("{name}.bias")));
            weights.extend([weight(&w, &dims), weight(&b, &dims[1..])]);
            let product = add(&format!("{name}/MatMul"), "MatMul", &[from, &w], None);
            add(&format!("{name}/Add"), "Add", &[&product, &b], None)
        };
        let mut heads_of = Vec::new();
        for (name, perm) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
            let of = linear(&mut add, name, &x, [width, width]);
            let split = add(&format!("{name}/Reshape"), "Reshape", &[&of, "split"], None);
            heads_of.push(add(&format!("{name}/Transpose"), "Transpose", &[&split], Some(("perm", &perm))));
        }
        let scores = add("scores", "MatMul", &[&heads_of[0], &heads_of[1]], None);
        let scaled = add("scaled", "Mul", &[&scores, "scale"], None);
        let masked = add("masked", "Add", &[&scaled, "bias"], None);
        let soft = add("softmax", "Softmax", &[&masked], Some(("axis", &[-1])));
        let context = add("context", "MatMul", &[&soft, &heads_of[2]], None);
        let back = add("back", "Transpose", &[&context], Some(("perm", &[0, 2, 1, 3])));
        let joined = add("joined", "Reshape", &[&back, "join"], None);
        let out = linear(&mut add, "out", &joined, [width, width]);
        let norm = |add: Add<'_>, name: &str, from: &str| {
            let n = |part: &str| format!("{name}/{part}");
            let mean = add(&n("mean"), "ReduceMean", &[from], Some(("axes", &[-1])));
            let center = add(&n("sub"), "Sub", &[from, &mean], None);
            let square = add(&n("pow"), "Pow", &[&center, "two"], None);
            let variance = add(&n("var"), "ReduceMean", &[&square], Some(("axes", &[-1])));
            let guarded = add(&n("eps"), "Add", &[&variance, "eps"], None);
            let root = add(&n("sqrt"), "Sqrt", &[&guarded], None);
            add(&n("div"), "Div", &[&center, &root], None)
        };
        let sum = add("sum1", "Add", &[&x, &out], None);
        let normed = norm(&mut add, "norm1", &sum);
        let up = linear(&mut add, "up", &normed, [width, 4 * width]);
        let divided = add("gelu/Div", "Div", &[&up, "root2"], None);
        let erf = add("gelu/Erf", "Erf", &[&divided], None);
        let one = add("gelu/Add", "Add", &[&erf, "one"], None);
        let product = add("gelu/Mul", "Mul", &[&up, &one], None);
        let gelu = add("gelu/half", "Mul", &[&product, "half"], None);
        let down = linear(&mut add, "down", &gelu, [4 * width, width]);
        let sum = add("sum2", "Add", &[&normed, &down], None);
        x = norm(&mut add, "norm2", &sum);
    }
    nodes.push(node("/head", "Tanh", &[&x], &["y"]));
    let dims = ["batch".into(), "seq".into(), width.into()];
    let graph = GraphProto {
        input: vec![
            value("x", DataType::Float, &dims),
            value("mask", DataType::Float, &["batch".into(), 1.into(), 1.into(), "seq".into()]),
        ],
        output: vec![value("y", DataType::Float, &dims)],
        node: nodes,
        initializer: weights,
        ..GraphProto::default()
    };
    model(13, graph)
}
