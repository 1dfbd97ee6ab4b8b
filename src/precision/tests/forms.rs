//! Accumulators, types of inputs and outputs, subgraphs.

use std::collections::BTreeMap;

use super::*;
use crate::manifest::IoType;
use crate::onnx::testing;

#[test]
fn subgraphs_are_typed_inside() {
    let prepared = typed(&branches(), &asked(Fp16, &[(ops(&["Sub"]), Fp32)]));
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "Mul(x/cast_fp16:float16, factor:float16) -> scaled:float16",
            // What a branch reads in another type is cast once, around it.
            "Cast(scaled:float16) -> scaled/cast_fp32:float",
            "If(flag:bool) -> y/fp16:float16",
            "Cast(y/fp16:float16) -> y:float",
        ]
    );
    let typed = prepared.model.as_ref().unwrap();
    let inner: Vec<&GraphProto> = onnx::subgraphs(&typed.graph().node[3]).collect();
    let ops = |graph: &GraphProto| graph.node.iter().map(|n| n.op_type().to_owned()).collect::<Vec<_>>();
    let of = |value: &onnx::proto::ValueInfoProto| onnx::Type::declared(value.r#type.as_ref());
    assert!(inner.iter().all(|graph| of(&graph.output[0]) == onnx::Type::Tensor(DataType::Float16)));
    // The attributes are sorted: the other branch comes first.
    assert_eq!((ops(inner[0]), ops(inner[1])), (vec!["Sub".into(), "Cast".into()], vec!["Add".to_owned()]));
    assert_eq!(inner[0].node[0].input, ["scaled/cast_fp32", "offset"]);
    assert_eq!(inner[1].node[0].input, ["scaled", "offset/fp16"]);
    let add = prepared.assignment.nodes.iter().find(|n| n.op == "Add").unwrap();
    assert_eq!((add.of, add.inside.as_slice()), (Some(Fp16), &["/If".to_owned()][..]));
}

/// A Loop of three rounds with a state and a scanned output; its body reads a weight and the input from around it.
fn looped() -> ModelProto {
    let any = |name: &str| value(name, DataType::Float, &["p".into(), "q".into()]);
    let body = GraphProto {
        name: Some("body".into()),
        input: vec![value("i", DataType::Int64, &[]), value("c", DataType::Bool, &[]), any("state")],
        output: vec![value("c_out", DataType::Bool, &[]), any("next"), any("seen")],
        node: vec![
            node("keep", "Identity", &["c"], &["c_out"]),
            node("mm", "MatMul", &["state", "w"], &["m"]),
            node("add", "Add", &["m", "x"], &["a"]),
            node("soft", "Softmax", &["a"], &["next"]),
            node("scan", "Tanh", &["m"], &["seen"]),
        ],
        ..GraphProto::default()
    };
    let nodes = vec![
        node("start", "Relu", &["x"], &["s"]),
        node("loop", "Loop", &["n", "yes", "s"], &["last", "all"]).graph("body", body),
        node("end", "Sigmoid", &["last"], &["y"]),
    ];
    let yes = testing::raw("yes", DataType::Bool, &[], vec![1]);
    let mut model = graph(nodes, vec![weight("w", &[4, 4]), ints("n", &[], &[3]), yes]);
    let outputs = &mut model.graph.as_mut().unwrap().output;
    outputs.push(value("all", DataType::Float, &["r".into(), "s".into(), "t".into()]));
    model
}

#[test]
fn what_goes_round_a_loop_keeps_one_type() {
    let prepared = typed(&looped(), &asked(Fp16, &[(ops(&["Softmax"]), Fp32)]));
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "Relu(x/cast_fp16:float16) -> s:float16",
            "Loop(n:int64, yes:bool, s:float16) -> last:float16, all/fp16:float16",
            "Cast(all/fp16:float16) -> all:float",
            "Sigmoid(last:float16) -> y/fp16:float16",
            "Cast(y/fp16:float16) -> y:float",
        ]
    );
    let typed_model = prepared.model.as_ref().unwrap();
    let body = onnx::subgraphs(&typed_model.graph().node[2]).next().unwrap();
    let ops: Vec<&str> = body.node.iter().map(NodeProto::op_type).collect();
    assert_eq!(ops, ["Identity", "MatMul", "Add", "Cast", "Softmax", "Cast", "Tanh"]);
    // The other way round: the loop FP32, its body FP16.
    let spec = asked(Fp16, &[(named(&["loop"]), Fp32)]);
    let prepared = typed(&looped(), &spec);
    assert_eq!(prepared.problems, []);
    let again = prepare(&rewritten(prepared.model.as_ref().unwrap()), &spec).unwrap();
    assert_eq!(
        rewritten(again.model.as_ref().unwrap()).graph(),
        rewritten(prepared.model.as_ref().unwrap()).graph()
    );
}

#[test]
fn products_can_have_fp32_accumulators() {
    let nodes = vec![
        node("one", "MatMul", &["x", "w"], &["a"]),
        node("two", "MatMul", &["a", "w"], &["b"]),
        node("gemm", "Gemm", &["b", "w", "k"], &["c"]),
        node("end", "Relu", &["c"], &["d"]),
        node("last", "MatMul", &["d", "w"], &["y"]),
    ];
    let model = graph(nodes, vec![weight("w", &[4, 4]), weight("k", &[4])]);
    let mut spec = asked(Fp16, &[(ops(&["MatMul", "Gemm"]), Fp16)]);
    spec.rules[0].accumulate = true;
    let prepared = typed(&model, &spec);
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "Cast(x/cast_fp16:float16) -> x/cast_fp16/cast_fp32:float",
            "MatMul(x/cast_fp16/cast_fp32:float, w:float) -> a:float",
            "Cast(a:float) -> a/cast_fp16:float16",
            "Cast(a/cast_fp16:float16) -> a/cast_fp16/cast_fp32:float",
            "MatMul(a/cast_fp16/cast_fp32:float, w:float) -> b:float",
            "Cast(b:float) -> b/cast_fp16:float16",
            "Cast(b/cast_fp16:float16) -> b/cast_fp16/cast_fp32:float",
            "Gemm(b/cast_fp16/cast_fp32:float, w:float) -> c/product:float",
            "Cast(c/product:float) -> c/product/cast_fp16:float16",
            "Add(c/product/cast_fp16:float16, k:float16) -> c:float16",
            "Relu(c:float16) -> d:float16",
            "Cast(d:float16) -> d/cast_fp32:float",
            "MatMul(d/cast_fp32:float, w:float) -> y/fp32:float",
            "Cast(y/fp32:float) -> y/fp32/cast_fp16:float16",
            "Cast(y/fp32/cast_fp16:float16) -> y:float",
        ]
    );
    // The weights are those of FP16, so that ONNX says what TensorRT does.
    let typed_model = prepared.model.as_ref().unwrap();
    let raw =
        typed_model.graph().initializer.iter().find(|t| t.name() == "w").unwrap().raw_data.clone().unwrap();
    let floats = raw.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    assert!(floats.into_iter().all(|v| half::f16::from_f32(v).to_f32() == v));
    let accumulators: Vec<_> = prepared.assignment.nodes.iter().map(|n| n.accumulate).collect();
    assert_eq!(accumulators, [Some(Fp32), Some(Fp32), Some(Fp32), None, Some(Fp32)]);
    // Rewritten again, it is the same.
    let back = rewritten(typed_model);
    let again = prepare(&back, &spec).unwrap();
    assert_eq!(shown(&rewritten(again.model.as_ref().unwrap())), shown(&back));
}

#[test]
fn what_moves_elements_between_fp32_nodes_is_fp32() {
    let nodes = vec![
        node("in", "Transpose", &["x"], &["a"]),
        node("wide", "Softmax", &["a"], &["b"]),
        node("t", "Transpose", &["b"], &["c"]),
        node("r", "Identity", &["c"], &["d"]),
        node("too", "Softmax", &["d"], &["e"]),
        node("half", "Identity", &["e"], &["f"]),
        node("product", "MatMul", &["f", "w"], &["g"]),
        node("table", "Gather", &["w", "ids"], &["h"]),
        node("last", "Softmax", &["h"], &["i"]),
        node("out", "Identity", &["i"], &["y"]),
        node("other", "Identity", &["i"], &["j"]),
        node("relu", "Relu", &["j"], &["z"]),
    ];
    let mut model = graph(nodes, vec![weight("w", &[4, 4])]);
    let inner = model.graph.as_mut().unwrap();
    inner.input.push(value("ids", DataType::Int64, &["n".into()]));
    inner.output.push(value("g", DataType::Float, &["a".into(), "b".into()]));
    inner.output.push(value("z", DataType::Float, &["a".into(), "b".into()]));
    let types = |spec: &Spec| -> BTreeMap<String, Option<FloatType>> {
        let prepared = typed(&model, spec);
        assert_eq!(prepared.problems, []);
        prepared.assignment.nodes.into_iter().map(|node| (node.name, node.of)).collect()
    };
    let mut spec = asked(Fp16, &[(ops(&["Softmax"]), Fp32)]);
    let found = types(&spec);
    let half = ["half", "product", "table", "other", "relu"];
    for (name, of) in &found {
        let wanted = if half.contains(&name.as_str()) { Fp16 } else { Fp32 };
        assert_eq!(*of, Some(wanted), "{name}");
    }
    // What comes or goes in 16 bits stays so.
    spec.io = BTreeMap::from([("x".to_owned(), IoType::Fp16), ("y".to_owned(), IoType::Fp16)]);
    let found = types(&spec);
    assert_eq!((found["in"], found["out"], found["t"]), (Some(Fp16), Some(Fp16), Some(Fp32)));
    // And a rule says what it says.
    let found = types(&asked(Fp16, &[(ops(&["Softmax"]), Fp32), (named(&["r"]), Fp16)]));
    assert_eq!((found["t"], found["r"]), (Some(Fp16), Some(Fp16)));
}

#[test]
fn accumulators_are_for_products_that_fit() {
    let ask = |model: &ModelProto, select: Selector, of| {
        let mut spec = asked(Fp16, &[(select, of)]);
        spec.rules[0].accumulate = true;
        typed(model, &spec).problems
    };
    assert_eq!(codes(&ask(&mlp(), ops(&["Relu"]), Fp16)), ["accumulate-no-product"]);
    assert_eq!(codes(&ask(&mlp(), ops(&["MatMul"]), Fp32)), [""; 0]);
    let mut large = mlp();
    large.graph.as_mut().unwrap().initializer[0] = floats("w1", &[16, 32], &[1e5; 512]);
    let problems = ask(&large, ops(&["MatMul"]), Fp16);
    assert_eq!(codes(&problems), ["weight-overflow-fp16"]);
    let nodes = vec![node("sum", "Einsum", &["x", "w"], &["y"]).with(equation("ij,jk->ik"))];
    let problems = ask(&graph(nodes, vec![weight("w", &[4, 4])]), ops(&["Einsum"]), Fp16);
    assert_eq!(codes(&problems), ["accumulate-unknown"]);
    let fused = NodeProto {
        domain: Some("com.microsoft".to_owned()),
        ..node("fused", "FusedMatMul", &["x", "w"], &["y"])
    };
    let mut model = graph(vec![fused], vec![weight("w", &[4, 4])]);
    model
        .opset_import
        .push(onnx::proto::OperatorSetIdProto { domain: Some("com.microsoft".to_owned()), version: Some(1) });
    assert_eq!(codes(&ask(&model, named(&["fused"]), Fp16)), ["accumulate-unknown"]);
}

fn equation(text: &str) -> onnx::proto::AttributeProto {
    onnx::proto::AttributeProto {
        name: Some("equation".into()),
        r#type: Some(onnx::proto::attribute_proto::AttributeType::String as i32),
        s: Some(text.to_owned().into()),
        ..onnx::proto::AttributeProto::default()
    }
}

#[test]
fn inputs_and_outputs_get_the_types_that_io_says() {
    let mut spec = asked(Fp16, &[]);
    spec.io = BTreeMap::from([("x".to_owned(), IoType::Fp16), ("y".to_owned(), IoType::Fp16)]);
    let prepared = typed(&mlp(), &spec);
    let lines = lines(&prepared);
    assert!(lines.iter().all(|line| !line.starts_with("Cast")), "{lines:#?}");
    let graph = prepared.model.as_ref().unwrap().graph();
    let of =
        |value: &onnx::proto::ValueInfoProto| onnx::Type::declared(value.r#type.as_ref()).element().unwrap();
    assert_eq!((of(&graph.input[0]), of(&graph.output[0])), (DataType::Float16, DataType::Float16));
    spec.io = BTreeMap::from([("x".to_owned(), IoType::Bf16), ("z".to_owned(), IoType::Fp16)]);
    let prepared = typed(&mlp(), &spec);
    assert_eq!(codes(&prepared.problems), ["io-unknown"]);
    spec.io = BTreeMap::from([("x".to_owned(), IoType::Int32)]);
    assert_eq!(codes(&typed(&mlp(), &spec).problems), ["io-type"]);
}

#[test]
fn integers_of_io_are_cast_inside() {
    let nodes = vec![
        node("gather", "Gather", &["w", "ids"], &["e"]),
        node("shape", "Shape", &["e"], &["s"]),
        node("again", "Add", &["ids", "ids"], &["t"]),
        node("relu", "Relu", &["e"], &["y"]),
    ];
    let mut model = graph(nodes, vec![weight("w", &[4, 4])]);
    let inner = model.graph.as_mut().unwrap();
    inner.input = vec![value("ids", DataType::Int64, &["n".into()])];
    inner
        .output
        .extend([value("s", DataType::Int64, &["a".into()]), value("t", DataType::Int64, &["b".into()])]);
    let mut spec = asked(Fp32, &[]);
    let io = ["ids", "s"].map(|name| (name.to_owned(), IoType::Int32));
    spec.io = BTreeMap::from(io);
    let prepared = typed(&model, &spec);
    assert_eq!(
        lines(&prepared),
        [
            "Cast(ids:int32) -> ids/cast_int64:int64",
            "Gather(w:float, ids/cast_int64:int64) -> e:float",
            "Shape(e:float) -> s/int64:int64",
            "Add(ids/cast_int64:int64, ids/cast_int64:int64) -> t:int64",
            "Relu(e:float) -> y:float",
            "Cast(s/int64:int64) -> s:int32",
        ]
    );
    let back = rewritten(prepared.model.as_ref().unwrap());
    assert_eq!(rewritten(prepare(&back, &spec).unwrap().model.as_ref().unwrap()).graph(), back.graph());
}

#[test]
fn nothing_between_quantize_and_dequantize_is_touched() {
    let int8 = |name: &str, dims: &[i64], n: usize| testing::raw(name, DataType::Int8, dims, vec![3; n]);
    let nodes = vec![
        node("relu", "Relu", &["x"], &["r"]),
        node("q", "QuantizeLinear", &["r", "s", "z"], &["i"]),
        node("d", "DequantizeLinear", &["i", "s", "z"], &["f"]),
        node("dw", "DequantizeLinear", &["w", "s", "z"], &["g"]),
        node("mm", "MatMul", &["f", "g"], &["m"]),
        node("scale", "Mul", &["m", "s"], &["y"]),
    ];
    let constants = vec![floats("s", &[], &[1e-6]), int8("z", &[], 1), int8("w", &[4, 4], 16)];
    let prepared = typed(&graph(nodes, constants), &asked(Bf16, &[(ops(&["Mul"]), Fp32)]));
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_bf16:bfloat16",
            "Relu(x/cast_bf16:bfloat16) -> r:bfloat16",
            "Cast(r:bfloat16) -> r/cast_fp32:float",
            "QuantizeLinear(r/cast_fp32:float, s:float, z:int8) -> i:int8",
            "DequantizeLinear(i:int8, s:float, z:int8) -> f:float",
            "DequantizeLinear(w:int8, s:float, z:int8) -> g:float",
            "Cast(f:float) -> f/cast_bf16:bfloat16",
            "Cast(g:float) -> g/cast_bf16:bfloat16",
            "MatMul(f/cast_bf16:bfloat16, g/cast_bf16:bfloat16) -> m:bfloat16",
            "Cast(m:bfloat16) -> m/cast_fp32:float",
            "Mul(m/cast_fp32:float, s:float) -> y:float",
        ]
    );
    assert_eq!(prepared.problems, []);
    let why = |name: &str| prepared.assignment.nodes.iter().find(|n| n.name == name).unwrap().by.clone();
    assert!(matches!(why("d"), Decider::Constraint { why, .. } if why.contains("quantized")));
}

#[test]
fn operators_on_quantized_values_are_told() {
    let nodes = vec![
        node("q", "DynamicQuantizeLinear", &["x"], &["i", "s", "z"]),
        node("mm", "MatMulInteger", &["i", "w", "z"], &["m"]),
        node("f", "Cast", &["m"], &["mf"]).int("to", 1),
        node("scale", "Mul", &["mf", "s"], &["y"]),
    ];
    let w = testing::raw("w", DataType::Int8, &[4, 4], vec![3; 16]);
    let prepared = typed(&graph(nodes, vec![w]), &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["quantized-operator"]);
    assert!(prepared.problems[0].message.contains("DynamicQuantizeLinear, MatMulInteger"));
    assert!(lines(&prepared).contains(&"Cast(s:float) -> s/cast_fp16:float16".to_owned()));
}

#[test]
fn a_node_without_its_input_is_left_to_tensorrt() {
    let nodes = vec![node("split", "Split", &[], &["y"]), node("relu", "Relu", &["x"], &["z"])];
    let mut model = graph(nodes, Vec::new());
    model.graph.as_mut().unwrap().output.push(value("z", DataType::Float, &["a".into(), "b".into()]));
    let prepared = typed(&model, &asked(Fp16, &[]));
    assert_eq!(prepared.problems, []);
    assert_eq!(prepared.assignment.nodes[0].of, Some(Fp32));
}
