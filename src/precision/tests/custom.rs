//! Custom operators and functions of the model.

use super::*;
use crate::manifest::{Fuse, IoType};
use crate::onnx::proto::{AttributeProto, FunctionProto, OperatorSetIdProto};

fn mine(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: Some("mine".into()), ..node(name, op, inputs, outputs) }
}

fn imports(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

fn with_custom() -> ModelProto {
    let nodes = vec![
        node("relu", "Relu", &["x"], &["a"]),
        mine("own", "Own", &["a"], &["b", "n"]),
        node("sigmoid", "Sigmoid", &["b"], &["y"]),
    ];
    let mut model = graph(nodes, vec![]);
    model.opset_import.push(imports("mine", 1));
    model
}

const TYPED: [&str; 6] = [
    "Cast(x:float) -> x/cast_fp16:float16",
    "Relu(x/cast_fp16:float16) -> a:float16",
    "Cast(a:float16) -> a/cast_fp32:float",
    "Own(a/cast_fp32:float) -> b:float, n:unknown",
    "Cast(b:float) -> b/cast_fp16:float16",
    "Sigmoid(b/cast_fp16:float16) -> y/fp16:float16",
];

#[test]
fn a_custom_operator_of_which_nothing_is_known_is_refused_by_node() {
    let prepared = typed(&with_custom(), &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["type-unknown"]);
    let problem = &prepared.problems[0];
    assert_eq!(problem.node, Some(("own".to_owned(), "Own".to_owned())));
    assert!(
        problem.help[0].contains(r#"operators = { "mine::Own" = ["fp32", "fp32"] }"#),
        "{:?}",
        problem.help
    );
}

#[test]
fn value_info_tells_what_a_custom_operator_makes_and_is_kept() {
    let mut model = with_custom();
    let infos = [("b", DataType::Float), ("a", DataType::Float), ("gone", DataType::Float)];
    let infos = infos.map(|(name, of)| value(name, of, &[2.into(), 4.into()]));
    model.graph.as_mut().unwrap().value_info.extend(infos);
    let read = canonical(&model);
    let kept: Vec<&str> = read.graph().value_info.iter().map(|v| v.name()).collect();
    assert_eq!(kept, ["b"]);
    let spec = asked(Fp16, &[]);
    let prepared = prepare(&read, &spec).unwrap();
    assert_eq!(lines(&prepared)[..6], TYPED);
    // What was typed says it too.
    let back = rewritten(prepared.model.as_ref().unwrap());
    assert_eq!(rewritten(prepare(&back, &spec).unwrap().model.as_ref().unwrap()).graph(), back.graph());
    // Its shape is nobody's business.
    model.graph.as_mut().unwrap().value_info[0] = value("b", DataType::Float, &[7.into()]);
    assert_eq!(canonical(&model).graph(), read.graph());
    model.graph.as_mut().unwrap().value_info.remove(0);
    assert_ne!(canonical(&model).graph(), read.graph());
}

#[test]
fn the_manifest_tells_what_a_custom_operator_makes() {
    let mut spec = asked(Fp16, &[]);
    spec.operators = BTreeMap::from([("mine::Own".to_owned(), vec![IoType::Fp32, IoType::Int32])]);
    let prepared = typed(&with_custom(), &spec);
    assert_eq!(prepared.problems, []);
    let typed = prepared.model.unwrap();
    assert_eq!(typed.graph().node[3].input, ["a/cast_fp32"]);
    assert_eq!(typed.graph().node[4].op_type(), "Cast");
}

/// A function that calls another, with an attribute, and a subgraph that reads what is around it.
fn with_functions() -> ModelProto {
    let of_call = AttributeProto {
        name: Some("alpha".into()),
        ref_attr_name: Some("slope".into()),
        r#type: Some(onnx::proto::attribute_proto::AttributeType::Float as i32),
        ..AttributeProto::default()
    };
    let leaky = FunctionProto {
        domain: Some("mine".into()),
        name: Some("Twice".into()),
        input: vec!["v".into()],
        output: vec!["w".into()],
        attribute: vec!["slope".into()],
        node: vec![
            node("one", "LeakyRelu", &["v"], &["t"]).with(of_call),
            node("two", "Add", &["t", "v"], &["w"]),
        ],
        opset_import: vec![imports("", 17)],
        ..FunctionProto::default()
    };
    let branch = |op: &str, out: &str| GraphProto {
        name: Some("branch".into()),
        output: vec![value(out, DataType::Float, &["p".into(), "q".into()])],
        node: vec![node("inner", op, &["h"], &[out])],
        ..GraphProto::default()
    };
    let outer = FunctionProto {
        domain: Some("mine".into()),
        name: Some("Outer".into()),
        input: vec!["a".into(), "flag".into()],
        output: vec!["b".into(), "a".into()],
        node: vec![
            mine("deep", "Twice", &["a"], &["h"]).float("slope", 0.5),
            node("if", "If", &["flag"], &["b"])
                .graph("then_branch", branch("Relu", "t"))
                .graph("else_branch", branch("Tanh", "e")),
        ],
        opset_import: vec![imports("", 17), imports("mine", 1)],
        ..FunctionProto::default()
    };
    let nodes = vec![
        mine("call", "Outer", &["x", "flag"], &["r", "same"]),
        mine("again", "Twice", &["r"], &["s"]).float("slope", 0.25),
        node("sum", "Add", &["s", "same"], &["y"]),
    ];
    let mut model = graph(nodes, vec![]);
    model.graph.as_mut().unwrap().input.push(value("flag", DataType::Bool, &[]));
    model.opset_import.push(imports("mine", 1));
    model.ir_version = Some(8);
    model.functions = vec![leaky, outer];
    model
}

#[test]
fn functions_are_typed_where_they_are_called() {
    let spec = asked(Fp16, &[(named(&["again/two"]), Fp32)]);
    let prepared = typed(&with_functions(), &spec);
    assert_eq!(prepared.problems, []);
    assert_eq!(
        lines(&prepared),
        [
            "Cast(x:float) -> x/cast_fp16:float16",
            "LeakyRelu(x/cast_fp16:float16) -> call/deep/t:float16",
            "Add(call/deep/t:float16, x/cast_fp16:float16) -> call/h:float16",
            "If(flag:bool) -> r:float16",
            "Identity(x/cast_fp16:float16) -> same:float16",
            "LeakyRelu(r:float16) -> again/t:float16",
            "Cast(again/t:float16) -> again/t/cast_fp32:float",
            "Cast(r:float16) -> r/cast_fp32:float",
            "Add(again/t/cast_fp32:float, r/cast_fp32:float) -> s:float",
            "Cast(s:float) -> s/cast_fp16:float16",
            "Add(s/cast_fp16:float16, same:float16) -> y/fp16:float16",
            "Cast(y/fp16:float16) -> y:float",
        ]
    );
    let back = rewritten(prepared.model.as_ref().unwrap());
    assert!(back.proto().functions.is_empty());
    let slope = |i: usize| back.graph().node[i].attribute[0].f();
    assert_eq!((slope(1), slope(5)), (0.5, 0.25));
    assert_eq!(rewritten(prepare(&back, &spec).unwrap().model.as_ref().unwrap()).graph(), back.graph());
}

#[test]
fn a_function_of_another_opset_keeps_its_types() {
    let mut model = with_functions();
    // Add has other types from 14 on.
    model.functions[0].opset_import = vec![imports("", 7)];
    let prepared = typed(&model, &asked(Fp16, &[]));
    let calls: Vec<_> = prepared.assignment.nodes.iter().filter(|n| n.op == "mine::Twice").collect();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|n| n.of == Some(Fp32)), "{calls:#?}");
}

/// A function that is a decomposed layer norm without scale, called twice.
fn with_norms() -> ModelProto {
    let norm = FunctionProto {
        domain: Some("mine".into()),
        name: Some("Norm".into()),
        input: vec!["v".into(), "two".into(), "eps".into()],
        output: vec!["w".into()],
        node: vec![
            node("mean", "ReduceMean", &["v"], &["m"]).ints("axes", &[-1]),
            node("sub", "Sub", &["v", "m"], &["d"]),
            node("pow", "Pow", &["d", "two"], &["q"]),
            node("variance", "ReduceMean", &["q"], &["s"]).ints("axes", &[-1]),
            node("add", "Add", &["s", "eps"], &["e"]),
            node("sqrt", "Sqrt", &["e"], &["r"]),
            node("div", "Div", &["d", "r"], &["w"]),
        ],
        opset_import: vec![imports("", 13)],
        ..FunctionProto::default()
    };
    let nodes = vec![
        mine("one", "Norm", &["x", "two", "eps"], &["a"]),
        node("tanh", "Tanh", &["a"], &["b"]),
        mine("two", "Norm", &["b", "two", "eps"], &["y"]),
    ];
    let weights = vec![floats("two", &[], &[2.0]), floats("eps", &[], &[1e-5])];
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &[2.into(), 4.into()])],
        output: vec![value("y", DataType::Float, &[2.into(), 4.into()])],
        ..graph(nodes, weights).graph.unwrap()
    };
    let mut model = model(13, graph);
    model.opset_import.push(imports("mine", 1));
    model.ir_version = Some(8);
    model.functions = vec![norm];
    model
}

#[test]
fn norms_in_functions_are_fused_where_they_are_called() {
    let fuse = BTreeSet::from([Fuse::LayerNorm]);
    // The rule selects the second call alone.
    let spec = Spec { fuse: fuse.clone(), ..asked(Fp16, &[(named(&["two/*"]), Fp32)]) };
    let prepared = typed(&with_norms(), &spec);
    assert_eq!(prepared.assignment.opset, Some(17));
    let norms: Vec<_> = prepared.assignment.nodes.iter().filter(|n| n.op == "LayerNormalization").collect();
    assert_eq!(norms.iter().map(|n| n.of).collect::<Vec<_>>(), [Some(Fp16), Some(Fp32)], "{norms:#?}");

    let prepared = typed(&with_norms(), &Spec { as_is: true, fuse, ..asked(Fp32, &[]) });
    let made = prepared.model.unwrap();
    let norms = made.graph().node.iter().filter(|n| n.op_type() == "LayerNormalization");
    assert_eq!(norms.count(), 2);
}
