//! Tests of [`super::misread`]: each form that TensorRT misreads is told, and those beside it that it reads right are not.

use super::canonicalize::{canonicalize, open};
use super::error::Error;
use super::proto::tensor_proto::DataType;
use super::proto::{GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use super::testing::{self, TestDim, WithAttribute, floats, ints, node, raw, value};

/// A model of these nodes with an input `x`, and an output `y` of any shape.
pub(super) fn graph(x: &[TestDim], initializer: Vec<TensorProto>, node: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        input: vec![value("x", DataType::Float, x)],
        output: vec![any("y")],
        initializer,
        node,
        ..GraphProto::default()
    }
}

pub(super) fn any(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() }
}

/// Codes of what is told of a graph.
pub(super) fn told(opset: i64, graph: GraphProto) -> Vec<String> {
    let mut model = testing::model(opset, graph);
    for domain in ["com.microsoft", "acme"] {
        let domain = Some(domain.to_owned());
        model.opset_import.push(OperatorSetIdProto { domain, version: Some(1) });
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    testing::save(&model, &file).unwrap();
    match canonicalize(&file, folder.path()) {
        Ok(_) => Vec::new(),
        Err(Error::Invalid(list)) => list.iter().map(|d| d.code.to_string()).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[track_caller]
fn refused(opset: i64, graph: GraphProto) {
    assert_eq!(told(opset, graph), ["operator-misread"]);
}

#[track_caller]
fn taken(opset: i64, graph: GraphProto) {
    assert_eq!(told(opset, graph), [] as [&str; 0]);
}

pub(super) fn dims(of: &[i64]) -> Vec<TestDim> {
    of.iter().map(|dim| (*dim).into()).collect()
}

fn text(node: NodeProto, name: &str, value: &str) -> NodeProto {
    node.with(super::make::text(name, value))
}

fn in_domain(domain: &str, node: NodeProto) -> NodeProto {
    NodeProto { domain: Some(domain.to_owned()), ..node }
}

fn zero(element: DataType) -> TensorProto {
    raw("z", element, &[], vec![0])
}

#[test]
fn uint8_is_no_type_to_quantize_to() {
    let quantize = |domain: &str, zero_point: &[TensorProto], output: i64| {
        let names: Vec<&str> = ["x", "s"].into_iter().chain(zero_point.iter().map(|_| "z")).collect();
        let mut made = in_domain(domain, node("q", "QuantizeLinear", &names, &["y"]));
        if output > 0 {
            made = made.int("output_dtype", output);
        }
        let initializers = std::iter::once(floats("s", &[], &[0.5])).chain(zero_point.to_vec()).collect();
        graph(&dims(&[4]), initializers, vec![made])
    };
    let (uint8, int8) = (zero(DataType::Uint8), zero(DataType::Int8));
    for domain in ["", "com.microsoft"] {
        refused(13, quantize(domain, &[], 0));
        refused(13, quantize(domain, std::slice::from_ref(&uint8), 0));
        taken(13, quantize(domain, std::slice::from_ref(&int8), 0));
    }
    refused(21, quantize("", &[], DataType::Uint8 as i64));
    taken(21, quantize("", &[], DataType::Int8 as i64));
}

#[test]
fn clip_knows_no_int8() {
    let clip = |element: DataType| {
        let cast = node("c", "Cast", &["x"], &["i"]).int("to", element as i64);
        graph(&dims(&[4]), Vec::new(), vec![cast, node("clip", "Clip", &["i"], &["y"])])
    };
    refused(13, clip(DataType::Int8));
    taken(13, clip(DataType::Int32));
    taken(13, clip(DataType::Float16));
}

#[test]
fn attention_has_no_windows() {
    let attention = |inputs: &[&str]| node("a", "Attention", inputs, &["y"]);
    let with = |node| graph(&dims(&[1, 4, 8, 16]), vec![ints("len", &[1], &[8])], vec![node]);
    let plain = ["x", "x", "x"];
    taken(25, with(attention(&plain).int("is_causal", 1)));
    taken(25, with(attention(&plain).int("left_window_size", -1)));
    refused(25, with(attention(&plain).int("left_window_size", 4)));
    refused(25, with(attention(&plain).int("right_window_size", 0)));
    refused(24, with(attention(&["x", "x", "x", "", "", "", "len"])));
}

#[test]
fn pools_that_begin_a_window_in_the_padding() {
    let pool = |size: TestDim, kernel: i64, stride: i64, pad: i64| {
        let made = node("p", "MaxPool", &["x"], &["y"])
            .ints("kernel_shape", &[kernel, kernel])
            .ints("strides", &[stride, stride])
            .ints("pads", &[pad; 4])
            .int("ceil_mode", 1);
        graph(&[1.into(), 1.into(), size.clone(), size], Vec::new(), vec![made])
    };
    refused(12, pool(3.into(), 2, 2, 1));
    taken(12, pool(4.into(), 2, 2, 1));
    refused(12, pool(5.into(), 1, 3, 0));
    // Those of image models, of whatever size.
    for size in [5.into(), 6.into(), "size".into()] {
        taken(12, pool(size, 3, 2, 1));
    }
    for (kernel, stride) in [(2, 2), (3, 2), (3, 3)] {
        taken(12, pool("size".into(), kernel, stride, 0));
    }
    refused(12, pool("size".into(), 2, 2, 1));
    let mut floor = pool(3.into(), 2, 2, 1);
    floor.node[0].attribute.retain(|a| a.name() != "ceil_mode");
    taken(12, floor);
}

#[test]
fn transposed_convolutions_of_a_size_that_is_asked_for() {
    let transposed = |made: NodeProto, kernel: i64| {
        let side = usize::try_from(kernel).unwrap();
        let w = floats("w", &[1, 1, kernel, kernel], &vec![1.0; side * side]);
        graph(&dims(&[1, 1, 3, 3]), vec![w], vec![made.ints("strides", &[2, 2])])
    };
    let plain = || node("t", "ConvTranspose", &["x", "w"], &["y"]);
    taken(11, transposed(plain().ints("output_padding", &[1, 1]), 2));
    taken(11, transposed(text(plain(), "auto_pad", "SAME_UPPER"), 3));
    taken(11, transposed(plain().ints("output_shape", &[7, 7]), 2));
    refused(11, transposed(plain().ints("output_shape", &[5, 5]), 2));
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        refused(11, transposed(text(plain(), "auto_pad", mode).ints("output_padding", &[1, 1]), 2));
        refused(11, transposed(text(plain(), "auto_pad", mode).ints("output_shape", &[7, 7]), 2));
    }
    taken(11, transposed(text(plain(), "auto_pad", "SAME_UPPER").ints("output_shape", &[6, 6]), 3));
}

#[test]
fn loops_that_end_early_and_give_each_round() {
    let looped = |inside: Vec<NodeProto>, outputs: &[&str]| {
        let body = GraphProto {
            input: vec![
                value("i", DataType::Int64, &[]),
                value("c", DataType::Bool, &[]),
                value("v", DataType::Float, &[]),
            ],
            output: vec![value("go", DataType::Bool, &[]), any("v2"), any("each")],
            node: [inside, vec![node("n", "Neg", &["v"], &["v2"]), node("e", "Abs", &["v"], &["each"])]]
                .concat(),
            ..GraphProto::default()
        };
        let made = node("l", "Loop", &["trip", "on", "x"], outputs).graph("body", body);
        let on = raw("on", DataType::Bool, &[], vec![1]);
        graph(&dims(&[]), vec![ints("trip", &[], &[3]), on], vec![made])
    };
    let less = || vec![node("s", "ReduceMax", &["v"], &["m"]), node("g", "Less", &["m", "v"], &["go"])];
    let constant = node("k", "Constant", &[], &["go"]);
    refused(13, looped(less(), &["last", "y"]));
    // Nothing of each round is asked for.
    let mut without = looped(less(), &["y"]);
    without.node[0].attribute[0].g.as_mut().unwrap().output.pop();
    taken(13, without);
    taken(13, looped(vec![node("g", "Identity", &["c"], &["go"])], &["last", "y"]));
    taken(13, looped(vec![node("g", "Identity", &["on"], &["go"])], &["last", "y"]));
    taken(
        13,
        looped(vec![constant.clone().tensor("value", raw("", DataType::Bool, &[], vec![1]))], &["last", "y"]),
    );
    // An expanded Range goes on if there is a round to go.
    let mut counted = looped(vec![node("g", "Identity", &["c"], &["go"])], &["last", "y"]);
    counted.node.insert(0, node("b", "Cast", &["n"], &["on2"]).int("to", DataType::Bool as i64));
    counted.input.push(value("n", DataType::Int64, &[]));
    counted.node[1].input[1] = "on2".into();
    refused(13, counted.clone());
    counted.node[1].input[0] = "n".into();
    taken(13, counted);
    refused(
        13,
        looped(vec![constant.tensor("value", raw("", DataType::Bool, &[], vec![0]))], &["last", "y"]),
    );
}

#[test]
fn reductions_of_nothing() {
    let reduce = |op: &str, noop: i64| {
        graph(&dims(&[4]), Vec::new(), vec![node("r", op, &["x"], &["y"]).int("noop_with_empty_axes", noop)])
    };
    for op in ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare"] {
        refused(18, reduce(op, 1));
        taken(18, reduce(op, 0));
    }
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceLogSumExp"] {
        taken(18, reduce(op, 1));
    }
}

#[test]
fn sizes_that_do_not_fit() {
    let sized = |op: &str, names: &[&str], sizes: &[i64]| {
        let count = i64::try_from(sizes.len()).unwrap();
        let initializers = vec![ints("s", &[count], sizes), floats("v", &[2], &[0.0, 1.0])];
        graph(&dims(&[7, 4]), initializers, vec![node("n", op, names, &["y", "z"])])
    };
    let split = |sizes: &[i64]| sized("Split", &["x", "s"], sizes);
    taken(13, split(&[3, 4]));
    refused(13, split(&[3, 3]));
    let mut unknown = split(&[3, 3]);
    unknown.input = vec![value("x", DataType::Float, &["n".into(), 4.into()])];
    taken(13, unknown);
    let beyond = (1 << 32) + 2;
    let one = |op: &str, names: &[&str], sizes: &[i64]| {
        let mut made = sized(op, names, sizes);
        made.node[0].output.pop();
        made
    };
    for (op, names) in [
        ("Reshape", &["x", "s"][..]),
        ("Expand", &["x", "s"]),
        ("Tile", &["x", "s"]),
        ("Pad", &["x", "s"]),
        ("Resize", &["x", "", "", "s"]),
    ] {
        refused(13, one(op, names, &[beyond, 4]));
        taken(13, one(op, names, &[-1, 4]));
    }
    let mut hot = one("OneHot", &["i", "s", "v"], &[beyond]);
    hot.node.insert(0, node("c", "Cast", &["x"], &["i"]).int("to", DataType::Int64 as i64));
    refused(11, hot);
    // "To the end" is written so.
    taken(13, one("Slice", &["x", "s", "s"], &[i64::MAX, i64::MAX]));
    taken(13, one("Slice", &["x", "s", "s"], &[i64::MIN, 3]));
}

#[test]
fn operators_of_other_domains_are_not_those_of_onnx() {
    let of = |domain: &str, op: &str| {
        graph(&dims(&[4]), Vec::new(), vec![in_domain(domain, node("n", op, &["x"], &["y"]))])
    };
    assert_eq!(told(17, of("acme", "Relu")), ["operator-of-other-domain"]);
    assert_eq!(told(17, of("com.microsoft", "Attention")), ["operator-of-other-domain"]);
    // What TensorRT does not know, it refuses.
    taken(17, of("acme", "Frobnicate"));
    taken(17, of("ai.onnx", "Relu"));
    taken(17, of("com.microsoft", "Gelu"));
}

#[test]
fn trilu_says_which_half() {
    let upper = |domain: &str, made: NodeProto| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        let mut model = testing::model(14, graph(&dims(&[3, 3]), Vec::new(), vec![in_domain(domain, made)]));
        model
            .opset_import
            .push(OperatorSetIdProto { domain: Some("com.microsoft".into()), version: Some(1) });
        testing::save(&model, &file).unwrap();
        let read = open(&file).unwrap().model;
        read.graph().node[0].attribute.iter().map(|a| (a.name().to_owned(), a.i())).collect::<Vec<_>>()
    };
    let plain = || node("t", "Trilu", &["x"], &["y"]);
    for domain in ["", "com.microsoft"] {
        assert_eq!(upper(domain, plain()), [("upper".to_owned(), 1)]);
        assert_eq!(upper(domain, plain().int("upper", 0)), [("upper".to_owned(), 0)]);
    }
}

#[test]
fn nothing_but_tensors_goes_in_and_out() {
    use super::proto::{TypeProto, type_proto};
    let mut made =
        graph(&dims(&[4]), vec![ints("i", &[], &[0])], vec![node("at", "SequenceAt", &["x", "i"], &["y"])]);
    let tensor = made.input[0].r#type.clone().map(Box::new);
    let of = type_proto::Value::SequenceType(Box::new(type_proto::Sequence { elem_type: tensor }));
    made.input[0].r#type = Some(TypeProto { value: Some(of), ..TypeProto::default() });
    assert_eq!(told(17, made), ["not-a-tensor"]);
}
