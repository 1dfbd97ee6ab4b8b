//! Tests of the stage as a whole: a model and rules in, a typed model or problems out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fs;
use crate::manifest::{IoType, Selector};
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::onnx::testing::{
    self, WithAttribute, branches, floats, ints, mlp, model, node, save, value, weight,
};
use crate::onnx::{self, Model};
use FloatType::{Bf16, Fp16, Fp32};

fn canonical(model: &ModelProto) -> Model {
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = source.path().join("m.onnx");
    save(model, &path).unwrap();
    onnx::canonicalize(&path, out.path()).unwrap();
    read(out.path())
}

fn read(folder: &std::path::Path) -> Model {
    let (graph, weights) = bytes(folder);
    onnx::read_canonical(graph.into(), weights.map(Into::into)).unwrap()
}

fn bytes(folder: &std::path::Path) -> (Vec<u8>, Option<Vec<u8>>) {
    (fs::read(&folder.join(onnx::MODEL_FILE)).unwrap(), fs::read(&folder.join(onnx::WEIGHTS_FILE)).ok())
}

fn graph(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &[2.into(), 4.into()])],
        output: vec![value("y", DataType::Float, &["a".into(), "b".into()])],
        node: nodes,
        initializer,
        ..GraphProto::default()
    };
    model(17, graph)
}

fn asked(base: FloatType, rules: &[(Selector, FloatType)]) -> Spec {
    let rule = |(select, precision): &(Selector, FloatType)| RuleSpec {
        name: "a rule".into(),
        set: None,
        select: Select::Written(Box::new(select.clone())),
        precision: *precision,
        accumulate: false,
        expect: None,
        optional: false,
    };
    let capabilities = Capabilities { demotes_lone_gemm: true, without: Vec::new() };
    Spec { base, rules: rules.iter().map(rule).collect(), capabilities, io: BTreeMap::new() }
}

fn named(names: &[&str]) -> Selector {
    Selector { node: names.iter().map(|n| (*n).to_owned()).collect(), ..Selector::default() }
}

fn ops(ops: &[&str]) -> Selector {
    Selector { op: ops.iter().map(|n| (*n).to_owned()).collect(), ..Selector::default() }
}

fn pattern(name: &str) -> Selector {
    Selector { pattern: vec![name.to_owned()], ..Selector::default() }
}

fn codes(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|p| p.code.as_str()).collect()
}

/// The typed graph, a line a node.
fn lines(prepared: &Prepared) -> Vec<String> {
    shown(prepared.model.as_ref().unwrap_or_else(|| panic!("{:#?}", prepared.problems)))
}

fn shown(typed: &Model) -> Vec<String> {
    let types = onnx::element_types(typed);
    let line = |node: &NodeProto| {
        let of = |name: &String| format!("{name}:{}", types.get(types.graph(), name));
        let list = |names: &[String]| names.iter().map(of).collect::<Vec<_>>().join(", ");
        format!("{}({}) -> {}", node.op_type(), list(&node.input), list(&node.output))
    };
    typed.graph().node.iter().map(line).collect()
}

fn typed(model: &ModelProto, spec: &Spec) -> Prepared {
    prepare(&canonical(model), spec).unwrap()
}

#[test]
fn casts_stand_only_at_the_borders() {
    let prepared = typed(&mlp(), &asked(Fp16, &[]));
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "MatMul(x/cast_fp16:float16, w1:float16) -> h1:float16",
            "Add(h1:float16, b1:float16) -> h2:float16",
            "Relu(h2:float16) -> h3:float16",
            "MatMul(h3:float16, w2:float16) -> h4:float16",
            "Add(h4:float16, b2:float16) -> y/fp16:float16",
            "Cast(y/fp16:float16) -> y:float",
        ]
    );
    assert_eq!(prepared.problems, []);
    let typed = prepared.model.unwrap();
    assert_eq!(typed.graph().initializer[2].raw_data.as_ref().unwrap().len(), 16 * 32 * 2);
}

#[test]
fn fp32_throughout_changes_nothing() {
    let before = canonical(&mlp());
    let prepared = prepare(&before, &asked(Fp32, &[])).unwrap();
    assert_eq!(prepared.model.unwrap().graph(), before.graph());
}

#[test]
fn a_shared_weight_is_right_in_both_types() {
    let nodes = vec![
        node("mm1", "MatMul", &["x", "w"], &["a"]),
        node("mm2", "MatMul", &["a", "w"], &["b"]),
        node("relu", "Relu", &["b"], &["y"]),
    ];
    let prepared =
        typed(&graph(nodes, vec![weight("w", &[4, 4])]), &asked(Fp16, &[(named(&["mm2", "relu"]), Fp32)]));
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "MatMul(x/cast_fp16:float16, w/fp16:float16) -> a:float16",
            "Cast(a:float16) -> a/cast_fp32:float",
            "MatMul(a/cast_fp32:float, w:float) -> b:float",
            "Relu(b:float) -> y:float",
        ]
    );
}

#[test]
fn a_constant_node_is_made_in_each_type_that_is_read() {
    let nodes = vec![
        node("c", "Constant", &[], &["k"]).tensor("value", floats("", &[4], &[1.0, 2.0, 3.0, 4.0])),
        node("one", "Add", &["x", "k"], &["a"]),
        node("two", "Mul", &["a", "k"], &["y"]),
    ];
    let prepared = typed(&graph(nodes, vec![]), &asked(Fp16, &[(named(&["two"]), Fp32)]));
    assert_eq!(
        lines(&prepared),
        [
            "Constant() -> k:float",
            "Constant() -> k/fp16:float16",
            "Cast(x:float) -> x/cast_fp16:float16",
            "Add(x/cast_fp16:float16, k/fp16:float16) -> a:float16",
            "Cast(a:float16) -> a/cast_fp32:float",
            "Mul(a/cast_fp32:float, k:float) -> y:float",
        ]
    );
    let constants = &prepared.model.as_ref().unwrap().graph().node;
    assert_eq!((constants[0].name(), constants[1].name()), ("c", "c/fp16"));
}

#[test]
fn casts_of_the_file_are_made_anew_where_they_are_needed() {
    let nodes = vec![
        node("down", "Cast", &["x"], &["h"]).int("to", 10),
        node("up", "Cast", &["h"], &["f"]).int("to", 1),
        node("relu", "Relu", &["f"], &["r"]),
        node("shape", "Shape", &["f"], &["s"]),
        node("int", "Cast", &["r"], &["i"]).int("to", 7),
        node("back", "Cast", &["i"], &["b"]).int("to", 1),
        node("sigmoid", "Sigmoid", &["b"], &["y"]),
        node("reshape", "Reshape", &["x", "s"], &["z"]),
    ];
    let mut model = graph(nodes, vec![]);
    model.graph.as_mut().unwrap().output.push(value("z", DataType::Float, &["n".into(), "m".into()]));
    let prepared = typed(&model, &asked(Fp16, &[(named(&["reshape"]), Fp32)]));
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "Relu(x/cast_fp16:float16) -> r:float16",
            "Shape(x:float) -> s:int64",
            "Cast(r:float16) -> i:int64",
            "Cast(i:int64) -> b:float16",
            "Sigmoid(b:float16) -> y/fp16:float16",
            "Cast(y/fp16:float16) -> y:float",
            "Reshape(x:float, s:int64) -> z:float",
        ]
    );
}

#[test]
fn a_reader_without_a_float_result_takes_one_type() {
    let nodes = vec![
        node("one", "Relu", &["x"], &["a"]),
        node("two", "Sigmoid", &["x"], &["b"]),
        node("more", "Greater", &["a", "b"], &["c"]),
        node("same", "Greater", &["a", "zero"], &["d"]),
        node("and", "And", &["c", "d"], &["e"]),
        node("where", "Where", &["e", "a", "b"], &["y"]),
    ];
    let model = graph(nodes, vec![floats("zero", &[], &[0.0])]);
    let prepared = typed(&model, &asked(Fp16, &[(named(&["two"]), Fp32)]));
    let lines = lines(&prepared);
    assert!(lines.contains(&"Greater(a/cast_fp32:float, b:float) -> c:bool".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"Greater(a:float16, zero:float16) -> d:bool".to_owned()), "{lines:#?}");
    let greater = prepared.assignment.nodes.iter().find(|n| n.name == "more").unwrap();
    assert_eq!(greater.of, None);
}

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

/// Written and read back.
fn rewritten(model: &Model) -> Model {
    let folder = tempfile::tempdir().unwrap();
    onnx::write_canonical(model.clone(), folder.path()).unwrap();
    read(folder.path())
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
fn a_custom_operator_keeps_the_types_at_its_borders() {
    let nodes = vec![
        node("relu", "Relu", &["x"], &["a"]),
        NodeProto { domain: Some("mine".into()), ..node("own", "Own", &["a"], &["b"]) },
        node("sigmoid", "Sigmoid", &["b"], &["y"]),
    ];
    let mut model = graph(nodes, vec![]);
    model
        .opset_import
        .push(onnx::proto::OperatorSetIdProto { domain: Some("mine".into()), version: Some(1) });
    let prepared = typed(&model, &asked(Fp16, &[]));
    let lines = lines(&prepared);
    assert!(lines[2..4].iter().any(|l| l == "Cast(a:float16) -> a/cast_fp32:float"), "{lines:#?}");
    assert!(lines.iter().any(|l| l.starts_with("Own(a/cast_fp32:float)")), "{lines:#?}");
}

#[test]
fn the_last_rule_that_matches_wins() {
    let rules = [(ops(&["MatMul", "Add"]), Fp32), (named(&["/fc1/*"]), Fp16)];
    let prepared = typed(&mlp(), &asked(Bf16, &rules));
    let got: Vec<_> = prepared.assignment.nodes.iter().map(|n| (n.name.as_str(), n.of.unwrap())).collect();
    assert_eq!(
        got,
        [
            ("/fc1/MatMul", Fp16),
            ("/fc1/Add", Fp16),
            ("/act/Relu", Bf16),
            ("/fc2/MatMul", Fp32),
            ("/fc2/Add", Fp32)
        ]
    );
    assert_eq!(prepared.assignment.nodes[0].by, Decider::Rule(1));
    assert_eq!(prepared.assignment.nodes[2].by, Decider::Default);
}

#[test]
fn every_condition_of_a_selector_selects() {
    let select = |selector: Selector| {
        let prepared = typed(&mlp(), &asked(Fp16, &[(selector, Fp32)]));
        let by = |n: &&NodeAssignment| n.by == Decider::Rule(0);
        prepared.assignment.nodes.iter().filter(by).map(|n| n.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let text = |t: &str| vec![t.to_owned()];
    assert_eq!(select(Selector { regex: text("fc2/M"), ..Selector::default() }), "/fc2/MatMul");
    assert_eq!(select(Selector { tensor: text("h[12]"), ..Selector::default() }), "/fc1/MatMul /fc1/Add");
    assert_eq!(select(Selector { consumers_of: text("h3"), ..Selector::default() }), "/fc2/MatMul");
    assert_eq!(select(Selector { producers_of: text("y"), ..Selector::default() }), "/fc2/Add");
    let between = Some(("/fc1/Add".to_owned(), "h4".to_owned()));
    assert_eq!(select(Selector { between, ..Selector::default() }), "/fc1/Add /act/Relu /fc2/MatMul");
    let not = Some(Box::new(named(&["/fc1/*"])));
    assert_eq!(select(Selector { not, ..ops(&["Add"]) }), "/fc2/Add");
    let inside = Selector { subgraph: text("/If"), ..Selector::default() };
    let prepared = typed(&branches(), &asked(Fp16, &[(inside, Fp32)]));
    assert_eq!(prepared.assignment.rules[0].nodes, 2);
}

#[test]
fn a_rule_that_selects_nothing_is_an_error_with_what_is_near() {
    let prepared = typed(&mlp(), &asked(Fp16, &[(named(&["/fc1/MatMull"]), Fp32), (ops(&["Softmx"]), Fp32)]));
    assert_eq!(codes(&prepared.problems), ["rule-no-match", "rule-no-match"]);
    assert!(prepared.problems[0].notes[0].contains("`/fc1/MatMul`"));
    assert!(prepared.model.is_none());
    let prepared = typed(
        &branches(),
        &asked(Fp16, &[(Selector { producers_of: vec!["y".into()], ..Selector::default() }, Fp32)]),
    );
    assert_eq!(codes(&prepared.problems), [""; 0]);
}

#[test]
fn a_rule_for_nodes_without_floats_is_an_error() {
    let nodes = vec![node("shape", "Shape", &["x"], &["s"]), node("reshape", "Reshape", &["x", "s"], &["y"])];
    let model = graph(nodes, vec![]);
    assert_eq!(codes(&typed(&model, &asked(Fp16, &[(ops(&["Shape"]), Fp32)])).problems), ["rule-no-float"]);
}

#[test]
fn expect_counts_nodes() {
    let mut spec = asked(Fp16, &[(ops(&["MatMul"]), Fp16)]);
    spec.rules[0].expect = Some(2);
    assert_eq!(typed(&mlp(), &spec).problems, []);
    spec.rules[0].expect = Some(3);
    let problems = typed(&mlp(), &spec).problems;
    assert_eq!(problems[0].message, "rule `a rule` expects 3 nodes with a float result and selects 2");
}

#[test]
fn an_operator_without_the_type_stays_fp32() {
    let nodes = vec![node("sum", "CumSum", &["x", "axis"], &["a"]), node("relu", "Relu", &["a"], &["y"])];
    let mut model = graph(nodes, vec![ints("axis", &[], &[0])]);
    model.opset_import[0].version = Some(11);
    let prepared = typed(&model, &asked(Fp16, &[(ops(&["CumSum"]), Fp16)]));
    let sum = &prepared.assignment.nodes[0];
    assert_eq!(codes(&prepared.problems), ["type-not-in-opset"]);
    let why = "ONNX has `CumSum` in fp16 from opset 14 on only".to_owned();
    assert_eq!((sum.of, &sum.by), (Some(Fp32), &Decider::Constraint { why, over: Some(0) }));
}

#[test]
fn shapes_computed_in_floats_stay_fp32() {
    let nodes = vec![
        node("shape", "Shape", &["x"], &["s"]),
        node("float", "Cast", &["s"], &["f"]).int("to", 1),
        node("twice", "Mul", &["f", "half"], &["d"]),
        node("floor", "Floor", &["d"], &["e"]),
        node("int", "Cast", &["e"], &["i"]).int("to", 7),
        node("fill", "ConstantOfShape", &["i"], &["z"]).tensor("value", floats("", &[1], &[0.0])),
        node("used", "Mul", &["f", "half"], &["g"]),
        node("sum", "Add", &["z", "g"], &["y"]),
    ];
    let prepared = typed(&graph(nodes, vec![floats("half", &[], &[0.5])]), &asked(Fp16, &[]));
    let of = |name: &str| prepared.assignment.nodes.iter().find(|n| n.name == name).unwrap().of;
    assert_eq!([of("float"), of("twice"), of("floor")], [Some(Fp32); 3]);
    assert_eq!([of("used"), of("fill")], [Some(Fp16); 2]);
}

#[test]
fn a_weight_beyond_the_range_is_told_with_a_rule() {
    let mut model = mlp();
    model.graph.as_mut().unwrap().initializer[1] = floats("b1", &[32], &[1e5; 32]);
    let prepared = typed(&model, &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["weight-overflow-fp16"]);
    let problem = &prepared.problems[0];
    assert_eq!(problem.node, Some(("/fc1/Add".to_owned(), "Add".to_owned())));
    assert_eq!(problem.fix.as_ref().unwrap().select, "node = \"/fc1/Add\"");
    // The manifest may allow it: the typed model is there.
    assert!(prepared.model.is_some());
    // With the rule it is right, and in BF16 it needs none.
    assert_eq!(typed(&model, &asked(Fp16, &[(named(&["/fc1/Add"]), Fp32)])).problems, []);
    assert_eq!(typed(&model, &asked(Bf16, &[])).problems, []);
}

#[test]
fn masks_and_epsilons_are_told_and_bounds_are_not() {
    let nodes = vec![
        node("mask", "Add", &["x", "lowest"], &["a"]),
        node("guard", "Add", &["a", "tiny"], &["b"]),
        node("clip", "Clip", &["b", "zero", "highest"], &["c"]),
        node("floor", "Max", &["c", "lowest"], &["d"]),
        node("fill", "ConstantOfShape", &["two"], &["f"]).tensor("value", floats("", &[1], &[-1e9])),
        node("sum", "Add", &["d", "f"], &["y"]),
    ];
    let constants = vec![
        floats("lowest", &[], &[-1e9]),
        floats("tiny", &[], &[1e-12]),
        floats("zero", &[], &[0.0]),
        floats("highest", &[], &[f32::MAX]),
        ints("two", &[2], &[2, 4]),
    ];
    let model = graph(nodes, constants);
    let prepared = typed(&model, &asked(Fp16, &[]));
    let mut got = codes(&prepared.problems);
    got.sort_unstable();
    assert_eq!(got, ["epsilon-underflow-fp16", "mask-overflow-fp16", "mask-overflow-fp16"]);
    // Where the masks are made is not enough: what reads them must be FP32 too.
    let made = asked(Fp16, &[(named(&["mask", "guard", "fill"]), Fp32)]);
    let problems = typed(&model, &made).problems;
    assert_eq!(codes(&problems), ["mask-overflow-fp16"]);
    assert_eq!(problems[0].message, "the mask `f` of -1000000000 reaches `sum` in fp16");
    let wide = asked(Fp16, &[(named(&["mask", "guard", "fill", "sum"]), Fp32)]);
    assert_eq!(typed(&model, &wide).problems, []);
}

#[test]
fn single_weights_that_vanish_are_counted() {
    let mut model = mlp();
    let mut values = [0.5; 32];
    values[3] = 1e-9;
    values[9] = -1e-12;
    model.graph.as_mut().unwrap().initializer[1] = floats("b1", &[32], &values);
    let prepared = typed(&model, &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["weight-underflow-fp16"]);
    assert!(prepared.problems[0].message.starts_with("2 weights in 1 tensor"));
    assert!(prepared.model.is_some());
}

#[test]
fn a_lone_matrix_product_is_widened_by_its_bias() {
    let prepared = typed(&mlp(), &asked(Fp16, &[(named(&["/fc1/MatMul"]), Fp32)]));
    // The first is fed by the input, which is FP32: no Cast stands before it.
    let add = |prepared: &Prepared, name: &str| {
        prepared.assignment.nodes.iter().find(|n| n.name == name).unwrap().clone()
    };
    assert_eq!(add(&prepared, "/fc1/Add").of, Some(Fp16));
    let prepared = typed(&mlp(), &asked(Fp16, &[(named(&["/fc2/MatMul"]), Fp32)]));
    let widened = add(&prepared, "/fc2/Add");
    assert_eq!(widened.of, Some(Fp32));
    assert!(matches!(&widened.by, Decider::Constraint { why, .. } if why.contains("`/fc2/MatMul`")));
}

#[test]
fn a_lone_matrix_product_is_widened_through_shape_operators() {
    let nodes = vec![
        node("relu", "Relu", &["x"], &["a"]),
        node("mm", "MatMul", &["a", "w"], &["b"]),
        node("turn", "Transpose", &["b"], &["c"]),
        node("bias", "Add", &["c", "k"], &["d"]),
        node("end", "Sigmoid", &["d"], &["y"]),
    ];
    let model = graph(nodes, vec![weight("w", &[4, 4]), floats("k", &[], &[1.0])]);
    let prepared = typed(&model, &asked(Fp16, &[(named(&["mm"]), Fp32)]));
    let types: Vec<_> = prepared.assignment.nodes.iter().map(|n| n.of.unwrap()).collect();
    assert_eq!(types, [Fp16, Fp32, Fp32, Fp32, Fp16]);
}

#[test]
fn a_lone_matrix_product_that_nothing_mends_is_told() {
    let nodes = vec![
        node("relu", "Relu", &["x"], &["a"]),
        node("mm", "MatMul", &["a", "w"], &["b"]),
        node("next", "MatMul", &["b", "w"], &["c"]),
        node("end", "Relu", &["c"], &["y"]),
    ];
    let model = graph(nodes, vec![weight("w", &[4, 4])]);
    let prepared = typed(&model, &asked(Fp16, &[(named(&["mm"]), Fp32)]));
    assert_eq!(codes(&prepared.problems), ["fp32-gemm-demoted"]);
    assert_eq!(prepared.problems[0].fix.as_ref().unwrap().select, "node = [\"mm\", \"next\"]");
    // Another toolchain may have no such habit.
    let mut spec = asked(Fp16, &[(named(&["mm"]), Fp32)]);
    spec.capabilities.demotes_lone_gemm = false;
    assert_eq!(typed(&model, &spec).problems, []);
}

fn layer_norm() -> ModelProto {
    let nodes = vec![
        node("/in/Relu", "Relu", &["x"], &["i"]),
        node("/norm/mean", "ReduceMean", &["i"], &["m"]).ints("axes", &[-1]),
        node("/norm/sub", "Sub", &["i", "m"], &["c"]),
        node("/norm/pow", "Pow", &["c", "two"], &["s"]),
        node("/norm/var", "ReduceMean", &["s"], &["v"]).ints("axes", &[-1]),
        node("/norm/eps", "Add", &["v", "e"], &["ve"]),
        node("/norm/sqrt", "Sqrt", &["ve"], &["sd"]),
        node("/norm/div", "Div", &["c", "sd"], &["n"]),
        node("/norm/mul", "Mul", &["n", "scale"], &["ns"]),
        node("/norm/add", "Add", &["ns", "bias"], &["o"]),
        node("/out/Relu", "Relu", &["o"], &["y"]),
    ];
    let constants = vec![
        floats("two", &[], &[2.0]),
        floats("e", &[], &[1e-5]),
        weight("scale", &[4]),
        weight("bias", &[4]),
    ];
    graph(nodes, constants)
}

#[test]
fn a_decomposed_norm_in_fp16_is_warned_of_and_a_pattern_pins_it() {
    let prepared = typed(&layer_norm(), &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["fp16-decomposed-norm"]);
    assert!(prepared.problems[0].message.contains("`/norm`"), "{}", prepared.problems[0].message);
    let mut spec = asked(Fp16, &[(pattern("layer-norm"), Fp32)]);
    spec.rules[0].expect = Some(1);
    let prepared = typed(&layer_norm(), &spec);
    assert_eq!(prepared.problems, []);
    let wide: Vec<_> = prepared.assignment.nodes.iter().filter(|n| n.of == Some(Fp32)).collect();
    assert_eq!(wide.len(), 9);
    assert!(wide.iter().all(|n| n.name.starts_with("/norm/")));
    assert_eq!(lines(&prepared).iter().filter(|l| l.starts_with("Cast")).count(), 4);
    // The built-in set finds it too, and nothing else.
    let spec = Spec { rules: std_fp16::rules(), ..asked(Fp16, &[]) };
    let prepared = typed(&layer_norm(), &spec);
    assert_eq!((prepared.problems.len(), prepared.assignment.count(Fp32)), (0, 9));
}

#[test]
fn fp16_models_can_be_given_fp32_parts() {
    let half = typed(&mlp(), &asked(Fp16, &[])).model.unwrap();
    let prepared = prepare(&half, &asked(Fp32, &[])).unwrap();
    let lines = lines(&prepared);
    // The output is called by its Cast, which stays and changes nothing.
    let casts: Vec<_> = lines.iter().filter(|line| line.starts_with("Cast")).collect();
    assert_eq!(casts, ["Cast(y/fp16:float) -> y:float"]);
    assert_eq!(prepared.assignment.count(Fp32), 5);
}

#[test]
fn constants_of_integers_stay_integers() {
    let nodes = vec![
        node("shape", "Shape", &["x"], &["s"]),
        node("fill", "ConstantOfShape", &["one"], &["i"]).tensor("value", ints("", &[1], &[2])),
        node("add", "Add", &["s", "i"], &["t"]),
        node("zeros", "ConstantOfShape", &["t"], &["y"]),
    ];
    let prepared = typed(&graph(nodes, vec![ints("one", &[1], &[1])]), &asked(Fp16, &[]));
    let lines = lines(&prepared);
    assert!(lines.contains(&"ConstantOfShape(one:int64) -> i:int64".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"ConstantOfShape(t:int64) -> y/fp16:float16".to_owned()), "{lines:#?}");
}

#[test]
fn quantized_models_are_refused() {
    let nodes = vec![
        node("q", "QuantizeLinear", &["x", "s"], &["i"]),
        node("d", "DequantizeLinear", &["i", "s"], &["y"]),
    ];
    let model = canonical(&graph(nodes, vec![floats("s", &[], &[0.1])]));
    let problems = prepare(&model, &asked(Fp16, &[])).unwrap_err();
    assert_eq!(codes(&problems), ["not-yet"]);
}

/// What a generated node does, with the values that it reads, counted from the last one back.
type Step = (usize, usize, usize);

fn generated(steps: &[Step]) -> ModelProto {
    let mut values = vec!["x".to_owned()];
    let mut nodes = Vec::new();
    for (i, (kind, a, b)) in steps.iter().enumerate() {
        let of = |back: usize| values[values.len() - 1 - back % values.len()].clone();
        let (a, b, out, name) = (of(*a), of(*b), format!("v{i}"), format!("n{i}"));
        let unary = ["Relu", "Sigmoid", "Tanh", "Softmax", "Exp", "Neg", "Identity", "Transpose", "Sqrt"];
        match kind % 17 {
            k @ 0..=8 => nodes.push(node(&name, unary[k], &[&a], &[&out])),
            9 => nodes.push(node(&name, "Add", &[&a, &b], &[&out])),
            10 => nodes.push(node(&name, "Mul", &[&a, "k"], &[&out])),
            11 => nodes.push(node(&name, "MatMul", &[&a, "w"], &[&out])),
            12 => nodes.push(node(&name, "Cast", &[&a], &[&out]).int("to", 1)),
            13 => {
                nodes.push(node(&format!("{name}c"), "Greater", &[&a, &b], &[&format!("{out}c")]));
                nodes.push(node(&name, "Where", &[&format!("{out}c"), &a, &b], &[&out]));
            }
            14 => {
                nodes.push(node(&format!("{name}h"), "Cast", &[&a], &[&format!("{out}h")]).int("to", 10));
                nodes.push(node(&name, "Cast", &[&format!("{out}h")], &[&out]).int("to", 1));
            }
            15 => {
                let constant = floats("", &[1], &[0.5]);
                nodes.push(
                    node(&format!("{name}k"), "Constant", &[], &[&format!("{out}k")])
                        .tensor("value", constant),
                );
                nodes.push(node(&name, "Sub", &[&a, &format!("{out}k")], &[&out]));
            }
            _ => {
                nodes.push(node(&format!("{name}s"), "Shape", &[&a], &[&format!("{out}s")]));
                nodes.push(node(&name, "Reshape", &[&b, &format!("{out}s")], &[&out]));
            }
        }
        values.push(out);
    }
    let last = values.pop().unwrap();
    nodes.push(node("last", "Identity", &[&last], &["y"]));
    let mut model = graph(nodes, vec![weight("w", &[4, 4]), floats("k", &[], &[2.0])]);
    // Some value in the middle is an output too.
    let middle = values[values.len() / 2].clone();
    if middle != "x" {
        let output = value(&middle, DataType::Float, &["p".into(), "q".into()]);
        model.graph.as_mut().unwrap().output.push(output);
    }
    model
}

fn any_type() -> impl Strategy<Value = FloatType> {
    prop_oneof![Just(Fp32), Just(Fp16), Just(Bf16)]
}

proptest! {

    /// `prepare` itself checks that every node has its type, that nothing is lost and no Casts stand back to back.
    #[test]
    fn any_graph_and_rules_are_typed_well(
        steps in prop::collection::vec((0usize..17, 0usize..6, 0usize..6), 1..24),
        base in any_type(),
        rules in prop::collection::vec((prop::collection::btree_set(0usize..24, 1..6), any_type()), 0..4),
    ) {
        let model = canonical(&generated(&steps));
        let rules: Vec<(Selector, FloatType)> = rules
            .into_iter()
            .map(|(ids, of)| {
                let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
                (Selector { node: names, ..Selector::default() }, of)
            })
            .collect();
        let mut spec = asked(base, &rules);
        spec.rules.iter_mut().for_each(|rule| rule.optional = true);
        let first = prepare(&model, &spec).unwrap();
        prop_assert!(first.problems.iter().all(|p| p.code != "precision-internal"), "{:#?}", first.problems);
        let Some(typed) = first.model else {
            prop_assert!(codes(&first.problems).contains(&"fp32-gemm-demoted"), "{:#?}", first.problems);
            return Ok(());
        };
        let out = tempfile::tempdir().unwrap();
        onnx::write_canonical(typed, out.path()).unwrap();
        let written = bytes(out.path());
        // It reads back as it is: sorted, every name unique, every value defined.
        let back = read(out.path());
        let again = tempfile::tempdir().unwrap();
        onnx::write_canonical(back.clone(), again.path()).unwrap();
        prop_assert_eq!(&written, &bytes(again.path()));
        // The same once more.
        let same = tempfile::tempdir().unwrap();
        onnx::write_canonical(prepare(&model, &spec).unwrap().model.unwrap(), same.path()).unwrap();
        prop_assert_eq!(&written, &bytes(same.path()));
        // Of what is typed, the typed form is itself.
        let twice = prepare(&back, &spec).unwrap();
        let folder = tempfile::tempdir().unwrap();
        onnx::write_canonical(twice.model.unwrap(), folder.path()).unwrap();
        let twice = read(folder.path());
        prop_assert_eq!(shown(&back), shown(&twice));
        prop_assert_eq!(back.graph(), twice.graph());
    }
}
