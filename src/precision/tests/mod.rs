//! Tests of the stage as a whole: a model and rules in, a typed model or problems out.

mod custom;
mod exact;
mod forms;
mod masks;
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::fs;
use crate::manifest::Selector;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::onnx::testing::{WithAttribute, branches, floats, ints, mlp, model, node, save, value, weight};
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
    let capabilities = Capabilities { demotes_lone_gemm: true, without: Vec::new(), max_opset: None };
    Spec::new(base, rules.iter().map(rule).collect(), capabilities)
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

/// Written and read back.
fn rewritten(model: &Model) -> Model {
    let folder = tempfile::tempdir().unwrap();
    onnx::write_canonical(model.clone(), folder.path()).unwrap();
    read(folder.path())
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
    assert_eq!(got, ["epsilon-underflow-fp16", "mask-saturated-fp16", "mask-saturated-fp16"]);
    // Where the masks are made is not enough: what reads them must be FP32 too.
    let made = asked(Fp16, &[(named(&["mask", "guard", "fill"]), Fp32)]);
    let problems = typed(&model, &made).problems;
    assert_eq!(codes(&problems), ["mask-saturated-fp16"]);
    assert_eq!(
        problems[0].message,
        "the mask `f` of -1000000000 is raised to -65504 before it is cast to fp16"
    );
    assert_eq!(problems[0].node, Some(("sum".to_owned(), "Add".to_owned())));
    let lines = lines(&typed(&model, &made));
    let clip = lines.iter().position(|l| l.starts_with("Clip(f:float, ")).unwrap();
    assert_eq!(lines[clip], "Clip(f:float, f/saturated/lowest:float) -> f/saturated:float");
    assert_eq!(lines[clip + 1], "Cast(f/saturated:float) -> f/saturated/cast_fp16:float16");
    let wide = asked(Fp16, &[(named(&["mask", "guard", "fill", "sum"]), Fp32)]);
    assert_eq!(typed(&model, &wide).problems, []);
}

#[test]
fn a_file_whose_types_contradict_each_other_is_told_as_such() {
    for other in [DataType::Double, DataType::Int64, DataType::Float16] {
        let nodes = vec![
            node("to", "Cast", &["x"], &["w"]).int("to", other as i64),
            node("deform", "DeformConv", &["x", "w", "x"], &["y"]),
        ];
        let mut model = graph(nodes, vec![]);
        model.opset_import[0].version = Some(19);
        let prepared = typed(&model, &asked(Fp16, &[]));
        assert!(
            !codes(&prepared.problems).contains(&"precision-internal"),
            "{other:?}: {:#?}",
            prepared.problems
        );
    }
}

#[test]
fn weights_that_vanish_are_told_if_it_is_felt() {
    let mut model = mlp();
    let mut values = [0.5; 32];
    values[3] = 1e-9;
    values[9] = -1e-12;
    model.graph.as_mut().unwrap().initializer[1] = floats("b1", &[32], &values);
    // Beside numbers like these, nothing is lost that rounding would not lose.
    assert_eq!(codes(&typed(&model, &asked(Fp16, &[])).problems), Vec::<&str>::new());
    let small = values.map(|value| if value == 0.5 { 7e-5 } else { value });
    model.graph.as_mut().unwrap().initializer[1] = floats("b1", &[32], &small);
    let prepared = typed(&model, &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["weight-underflow-fp16"]);
    assert_eq!(prepared.problems[0].message, "2 of 32 weights of `b1` become 0 in fp16");
    assert_eq!(prepared.problems[0].node.as_ref().unwrap().0, "/fc1/Add");
    assert!(prepared.problems[0].fix.is_some() && prepared.model.is_some());
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
