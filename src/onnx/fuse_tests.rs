//! Tests of [`super::fuse`]: names, labels, and what is left as it is.

use half::f16;

use super::fuse::{Fused, layer_norms};
use super::proto::tensor_proto::DataType;
use super::proto::{GraphProto, NodeProto, TensorProto, type_proto};
use super::read::Model;
use super::testing::{self, TestDim, WithAttribute, floats, ints, node, raw, value, weight};

/// The nine nodes of a norm over the last axis of `x`, with this prefix before their names.
fn norm(prefix: &str) -> Vec<NodeProto> {
    let name = |op: &str| format!("{prefix}{op}");
    vec![
        node(&name("ReduceMean"), "ReduceMean", &["x"], &["m"]).ints("axes", &[-1]),
        node(&name("Sub"), "Sub", &["x", "m"], &["d"]),
        node(&name("Pow"), "Pow", &["d", "two"], &["q"]),
        node(&name("ReduceMean_1"), "ReduceMean", &["q"], &["v"]).ints("axes", &[-1]),
        node(&name("Add"), "Add", &["v", "eps"], &["e"]),
        node(&name("Sqrt"), "Sqrt", &["e"], &["r"]),
        node(&name("Div"), "Div", &["d", "r"], &["n"]),
        node(&name("Mul"), "Mul", &["n", "scale"], &["t"]),
        node(&name("Add_1"), "Add", &["t", "bias"], &["y"]),
    ]
}

fn read(nodes: Vec<NodeProto>, scale: &[i64], outputs: &[&str]) -> Model {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &["n".into(), 3.into(), 8.into()])],
        output: outputs.iter().map(|name| value(name, DataType::Float, &[])).collect(),
        initializer: vec![
            weight("scale", scale),
            weight("bias", &[8]),
            floats("two", &[], &[2.0]),
            floats("eps", &[], &[1e-5]),
        ],
        node: nodes,
        ..GraphProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    testing::save(&testing::model(13, graph), &path).unwrap();
    super::read(&path).unwrap().model
}

fn whys(fused: &Fused) -> Vec<&str> {
    fused.left.iter().map(|left| left.why.as_str()).collect()
}

#[test]
fn a_norm_becomes_one_node_with_the_labels_of_its_parts() {
    let mut nodes = norm("/layer/");
    nodes.iter_mut().enumerate().for_each(|(i, node)| node.doc_string = Some(i.to_string()));
    let fused = layer_norms(&read(nodes, &[8], &["y"]));
    let [only] = &fused.model.graph().node[..] else { panic!("{:?}", fused.model.graph().node) };
    assert_eq!((only.name(), only.op_type()), ("/layer/LayerNormalization", "LayerNormalization"));
    assert_eq!(
        (&only.input[..], &only.output[..]),
        (&["x", "scale", "bias"].map(String::from)[..], &["y".to_owned()][..])
    );
    assert_eq!(only.doc_string(), "0 1 2 3 4 5 6 7 8");
    assert_eq!((fused.norms.len(), fused.left.len()), (1, 0));
    // There is nothing left to fuse.
    let again = layer_norms(&fused.model);
    assert_eq!((again.norms.len(), again.explicit), (0, 1));
    assert_eq!(again.model.proto(), fused.model.proto());
}

#[test]
fn a_norm_without_a_path_is_called_as_its_last_part() {
    let fused = layer_norms(&read(norm("n."), &[8], &["y"]));
    assert_eq!(fused.norms, ["n.Add_1"]);
    // A name that another node has is not taken.
    let mut nodes = norm("/layer/");
    nodes.push(node("/layer/LayerNormalization", "Relu", &["y"], &["z"]));
    let fused = layer_norms(&read(nodes, &[8], &["z"]));
    assert_eq!(fused.norms, ["/layer/LayerNormalization#2"]);
}

#[test]
fn parameters_of_another_shape_are_reshaped_or_refused() {
    let fused = layer_norms(&read(norm("/a/"), &[1, 1, 8], &["y"]));
    let graph = fused.model.graph();
    assert_eq!(graph.node[0].input[1], "scale/flat");
    assert_eq!(graph.initializer.iter().find(|t| t.name() == "scale/flat").unwrap().dims, [8]);
    // Along the sequence it is no scale of the norm: the norm ends before it.
    let fused = layer_norms(&read(norm("/a/"), &[3, 1], &["y"]));
    assert!(fused.norms.is_empty(), "{:?}", fused.norms);
}

#[test]
fn parts_that_add_dimensions_are_not_fused() {
    let why = |name: &str| {
        format!("`{name}` has more dimensions than what is normalized, and its output has them too")
    };
    assert_eq!(whys(&layer_norms(&read(norm("/a/"), &[1, 1, 1, 8], &["y"]))), [why("scale")]);
    let mut model = read(norm("/a/"), &[8], &["y"]);
    let initializers = &mut model.proto.graph.as_mut().unwrap().initializer;
    initializers.iter_mut().find(|tensor| tensor.name() == "eps").unwrap().dims = vec![1; 4];
    let fused = layer_norms(&model);
    assert!(fused.norms.is_empty() && fused.left.len() <= 1, "{:?}", fused.norms);
    // Of an input of unknown rank, nothing tells that three are not more.
    let mut model = read(norm("/a/"), &[1, 1, 8], &["y"]);
    model.proto.graph.as_mut().unwrap().input[0].r#type = value("x", DataType::Float, &[]).r#type;
    let of = &mut model.proto.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().value;
    let Some(type_proto::Value::TensorType(tensor)) = of else { panic!("{of:?}") };
    tensor.shape = None;
    assert_eq!(whys(&layer_norms(&model)), [why("scale")]);
}

#[test]
fn what_is_read_elsewhere_stays() {
    let fused = layer_norms(&read(norm("/a/"), &[8], &["y", "d"]));
    assert_eq!(whys(&fused), ["`d`, which is inside it, is read elsewhere too"]);
    assert_eq!(fused.left[0].node, ("/a/Add_1".to_owned(), "Add".to_owned()));
    assert_eq!(fused.model.graph().node.len(), 9);
}

#[test]
fn what_computes_something_else_stays() {
    let with = |at: usize, nodes: Vec<NodeProto>| {
        let mut all = norm("/a/");
        all.splice(at..=at, nodes);
        layer_norms(&read(all, &[8], &["y"]))
    };
    // A mean of whole numbers, a division of them.
    let whole = |from: &str, to: &str| {
        let cast = |from: &str, to: &str, element: i64| node("", "Cast", &[from], &[to]).int("to", element);
        vec![cast(from, "whole", 7), cast("whole", to, 1)]
    };
    let mut mean = whole("x", "float");
    mean.push(node("", "ReduceMean", &["float"], &["m"]).ints("axes", &[-1]));
    assert!(with(0, mean).norms.is_empty());
    let mut division = whole("d", "float");
    division.push(node("", "Div", &["float", "r"], &["n"]));
    assert!(with(6, division).norms.is_empty());
    // A variance that is bounded above.
    let bounded =
        |nodes: Vec<NodeProto>| with(4, [nodes, vec![node("", "Add", &["c", "eps"], &["e"])]].concat());
    let clip = node("", "Clip", &["v", "eps", "two"], &["c"]);
    assert!(bounded(vec![clip.clone()]).norms.is_empty());
    assert!(bounded(vec![node("", "Max", &["v", "eps", "two"], &["c"])]).norms.is_empty());
    // A mean that stands along another axis, of the same size.
    let mut turned = norm("/a/");
    turned.splice(
        0..=0,
        vec![
            node("", "Slice", &["x", "from", "to"], &["z"]),
            node("", "ReduceMean", &["z"], &["m0"]).ints("axes", &[-1]).int("keepdims", 0),
            node("", "Unsqueeze", &["m0", "one"], &["m"]),
        ],
    );
    turned.iter_mut().filter(|n| n.op_type() == "Sub").for_each(|n| n.input[0] = "z".to_owned());
    let fused = |axis: i64| {
        let mut model = read(norm("/a/"), &[8], &["y"]);
        let graph = model.proto.graph.as_mut().unwrap();
        graph.input[0] = value("x", DataType::Float, &["n".into(), 8.into(), 8.into()]);
        graph.initializer.extend([
            ints("from", &[3], &[0, 0, 0]),
            ints("to", &[3], &[8, 8, 8]),
            ints("one", &[1], &[axis]),
        ]);
        graph.node.clone_from(&turned);
        layer_norms(&model).norms.len()
    };
    assert_eq!((fused(1), fused(2)), (0, 1));
}

#[test]
fn poolings_for_means_are_fused() {
    let mut nodes = norm("/a/");
    for mean in nodes.iter_mut().filter(|node| node.op_type() == "ReduceMean") {
        mean.op_type = Some("GlobalAveragePool".to_owned());
        mean.attribute.clear();
    }
    let fused = layer_norms(&read(nodes, &[8], &["y"]));
    let [only] = &fused.model.graph().node[..] else { panic!("{:?}", fused.model.graph().node) };
    assert_eq!(only.input, ["x", "scale", "bias"]);
}

/// What becomes of a norm over the last axis of `x`, which has this size, with a scale of `scale` elements, whose mean
/// and variance are sums that are multiplied by these numbers.
fn of_sums(size: TestDim, scale: i64, mean: f64, variance: f64, half: bool) -> Fused {
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    let factor = |name: &str, value: f64| match half {
        true => raw(name, DataType::Float16, &[], f16::from_f64(value).to_le_bytes().to_vec()),
        false => floats(name, &[], &[value as f32]),
    };
    let element = if half { DataType::Float16 } else { DataType::Float };
    let constant = |name: &str, count: i64| {
        let dims: Vec<i64> = (count > 0).then_some(count).into_iter().collect();
        let of: TensorProto = floats(name, &dims, &vec![1e-3; usize::try_from(count.max(1)).unwrap()]);
        let halves = || f16::from_f64(1e-3).to_le_bytes().repeat(usize::try_from(count.max(1)).unwrap());
        if half { raw(name, DataType::Float16, &dims, halves()) } else { of }
    };
    let graph = GraphProto {
        input: vec![value("x", element, &[2.into(), size])],
        output: vec![value("y", element, &[])],
        initializer: vec![
            factor("mean", mean),
            factor("variance", variance),
            constant("eps", 0),
            constant("scale", scale),
            ints("last", &[1], &[-1]),
        ],
        node: vec![
            node("/n/a", "ReduceSum", &["x", "last"], &["s"]),
            node("/n/b", "Mul", &["s", "mean"], &["m"]),
            node("/n/c", "Sub", &["x", "m"], &["d"]),
            node("/n/d", "Mul", &["d", "d"], &["q"]),
            node("/n/e", "ReduceSum", &["q", "last"], &["t"]),
            node("/n/f", "Mul", &["t", "variance"], &["v"]),
            node("/n/g", "Add", &["v", "eps"], &["e"]),
            node("/n/h", "Sqrt", &["e"], &["r"]),
            node("/n/i", "Div", &["d", "r"], &["n"]),
            node("/n/j", "Mul", &["n", "scale"], &["y"]),
        ],
        ..GraphProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    testing::save(&testing::model(13, graph), &path).unwrap();
    layer_norms(&super::read(&path).unwrap().model)
}

#[test]
fn a_variance_over_one_less_is_not_fused_however_many_elements_there_are() {
    for size in [8, 768, 1024, 4096, 16384] {
        let over = |count: i32| 1.0 / f64::from(count);
        let fused =
            |mean, variance| of_sums(i64::from(size).into(), size.into(), over(mean), over(variance), false);
        assert_eq!(fused(size, size).norms.len(), 1, "{size}");
        let left = fused(size, size - 1);
        assert!(whys(&left)[0].ends_with("or divides by N - 1") && left.norms.is_empty(), "{size}: {left:?}");
        // A mean over one less is no mean of few elements, and near that of many.
        let left = fused(size - 1, size);
        assert!(left.norms.is_empty(), "{size}: {:?}", left.norms);
        if size > 1024 {
            let why = format!("it divides a sum by {}, and normalizes {size} elements at a time", size - 1);
            assert_eq!(whys(&left), [why]);
        }
    }
}

#[test]
fn the_number_of_elements_as_fp16_holds_it_is_that_number() {
    for size in [8, 768, 1000, 1280, 1536, 3072, 5120, 7168] {
        let over = 1.0 / f64::from(size);
        let fused = of_sums(i64::from(size).into(), size.into(), over, over, true);
        assert_eq!((fused.norms.len(), whys(&fused)), (1, vec![]), "{size}");
    }
    assert!(of_sums(1000.into(), 1000, 1.0 / 1000.0, 1.0 / 999.0, true).norms.is_empty());
}

#[test]
fn sums_over_an_axis_of_unknown_size_are_held_against_the_scale() {
    let fused = |mean: f64, variance: f64| of_sums("n".into(), 256, 1.0 / mean, 1.0 / variance, false);
    assert_eq!(fused(256.0, 256.0).norms.len(), 1);
    let why = |count: u32| format!("it divides a sum by {count}, and normalizes 256 elements at a time");
    for (mean, variance, odd) in [(128.0, 128.0, 128), (256.0, 255.0, 255), (128.0, 256.0, 128)] {
        let left = fused(mean, variance);
        assert_eq!((whys(&left), left.norms.len()), (vec![why(odd).as_str()], 0));
    }
}
