//! Tests of [`super::inline`]: names, what is declared of values, and that the work grows with the model alone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::infer::element_types;
use super::proto::tensor_proto::DataType;
use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use super::read::{Model, read_canonical};
use super::testing::{self, WithAttribute, node, value};
use super::{canonicalize, inline};

fn of(domain: &str, node: NodeProto) -> NodeProto {
    NodeProto { domain: Some(domain.to_owned()), ..node }
}

fn import(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) }
}

fn function(nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        domain: Some("my".into()),
        name: Some("F".into()),
        input: vec!["a".into(), "c".into()],
        output: vec!["b".into()],
        node: nodes,
        opset_import: vec![import("", 17), import("TRT", 1)],
        ..FunctionProto::default()
    }
}

/// `x0` through the function and again, so often, to `y`; all calls have one name.
fn calls(function: FunctionProto, times: usize) -> ModelProto {
    let name = |i: usize| if i == times { "y".to_owned() } else { format!("x{i}") };
    let call = |i: usize| of("my", node("f", "F", &[&name(i), "flag"], &[&name(i + 1)]));
    let graph = GraphProto {
        input: vec![value("x0", DataType::Float, &[4.into()]), value("flag", DataType::Bool, &[])],
        output: vec![value("y", DataType::Float, &[4.into()])],
        node: (0..times).map(call).collect(),
        ..GraphProto::default()
    };
    let mut model = testing::model(17, graph);
    model.opset_import.extend([import("my", 1), import("TRT", 1)]);
    model.functions = vec![function];
    model
}

fn read(model: &ModelProto) -> Model {
    read_canonical(Bytes::from(model.encode_to_vec()), None).unwrap()
}

fn choose(from: &str, inner: &str, to: &str) -> NodeProto {
    let branch = |op: &str, out: &str| GraphProto {
        output: vec![value(out, DataType::Float, &[])],
        node: vec![node("", op, &[from], &[out])],
        ..GraphProto::default()
    };
    node("", "If", &["c"], &[to])
        .graph("then_branch", branch("Relu", &format!("{inner}t")))
        .graph("else_branch", branch("Neg", &format!("{inner}e")))
}

#[test]
fn calls_of_one_name_are_numbered() {
    let body = vec![node("n", "Neg", &["a"], &["t"]), node("r", "Relu", &["t"], &["b"])];
    let inlined = inline(&read(&calls(function(body), 3))).unwrap();
    let names: Vec<_> = inlined.graph().node.iter().map(|node| node.name()).collect();
    assert_eq!(names, ["f/n", "f/r", "f/n#2", "f/r#2", "f/n#3", "f/r#3"]);
    assert_eq!(inlined.graph().node[4].output, ["f/t#3"]);
}

#[test]
fn values_of_subgraphs_hide_those_around_them() {
    // The branches of the second If have values of their own by the names of those around them.
    let last = node("s", "Sub", &["t", "u"], &["b"]);
    let body = vec![choose("a", "i", "t"), choose("a", "", "u"), last];
    let inlined = inline(&read(&calls(function(body), 1))).unwrap();
    let branch = |graph: &GraphProto| {
        assert_eq!(graph.output[0].name(), graph.node[0].output[0]);
        format!("{} -> {}", graph.node[0].input[0], graph.output[0].name())
    };
    let branches: Vec<String> = inlined.graph().node.iter().flat_map(super::subgraphs).map(branch).collect();
    assert_eq!(branches, ["x0 -> f/it", "x0 -> f/ie", "x0 -> f/t#2", "x0 -> f/e"]);
    assert_eq!(inlined.graph().node[2].input, ["f/t", "f/u"]);
}

#[test]
fn the_work_grows_with_the_model_alone() {
    let time = |model: &ModelProto| {
        let model = read(model);
        let start = Instant::now();
        assert!(inline(&model).unwrap().graph().node.len() >= 6000);
        start.elapsed()
    };
    let relu = vec![node("n", "Relu", &["a"], &["b"])];
    assert!(time(&calls(function(relu), 6000)) < Duration::from_secs(10));
    let value = |i: usize| match i {
        0 => "a".to_owned(),
        6000 => "b".to_owned(),
        i => format!("v{i}"),
    };
    let choices = (0..6000).map(|i| choose(&value(i), &format!("i{i}"), &value(i + 1))).collect();
    assert!(time(&calls(function(choices), 1)) < Duration::from_secs(10));
}

/// A plugin whose result `t` is float in a function, in the branch of an If in it, and after another value `t`.
fn with_plugins() -> ModelProto {
    let plugin = |from: &str, to: &str| of("TRT", node("p", "Plug", &[from], &[to]));
    let branch = |plugin: NodeProto| GraphProto {
        output: vec![ValueInfoProto { name: Some("s".into()), ..ValueInfoProto::default() }],
        value_info: vec![value("r", DataType::Float16, &[4.into()]), value("gone", DataType::Float, &[])],
        node: vec![plugin, node("", "Abs", &["r"], &["s"])],
        ..GraphProto::default()
    };
    let own = node("", "If", &["c"], &["b"])
        .graph("then_branch", branch(plugin("n", "r")))
        .graph("else_branch", branch(plugin("n", "r")));
    let nodes = vec![plugin("a", "t"), node("n", "Neg", &["t"], &["n"]), own];
    let value_info = vec![
        value("n", DataType::Float, &[4.into()]),
        value("t", DataType::Float, &[4.into()]),
        value("c", DataType::Bool, &[]),
    ];
    let mut model = calls(FunctionProto { value_info, ..function(nodes) }, 2);
    let graph = model.graph.as_mut().unwrap();
    graph.output[0].r#type = value("y", DataType::Float16, &[4.into()]).r#type;
    // The graph has a `t` of its own, whose type follows.
    graph.node.insert(0, node("own", "Relu", &["x0"], &["t"]));
    graph.node[1].input[0] = "t".into();
    graph.value_info = vec![value("t", DataType::Float, &[4.into()])];
    model
}

fn names(values: &[ValueInfoProto]) -> Vec<&str> {
    values.iter().map(|value| value.name()).collect()
}

#[test]
fn what_functions_declare_of_values_that_nothing_else_tells_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let canonical = |model: &ModelProto| {
        let path = folder.path().join("m.onnx");
        testing::save(model, &path).unwrap();
        let out = tempfile::tempdir().unwrap();
        canonicalize(&path, out.path()).unwrap();
        crate::fs::read(&out.path().join(super::MODEL_FILE)).unwrap()
    };
    let bytes = canonical(&with_plugins());
    let read = read_canonical(Bytes::from(bytes.clone()), None).unwrap();
    assert_eq!(read.proto().functions, []);
    assert_eq!(names(&read.graph().value_info), ["f/t", "f/t#2"]);
    let choices = read.graph().node.iter().filter(|node| node.op_type() == "If");
    let branches: Vec<_> = choices.flat_map(super::subgraphs).map(|graph| names(&graph.value_info)).collect();
    assert_eq!(branches, [["f/r#2"], ["f/r"], ["f/r#4"], ["f/r#3"]]);
    // It is canonical already, and shapes and what is known otherwise are not in it.
    assert!(canonical(read.proto()) == bytes);
    let mut other = with_plugins();
    other.functions[0].value_info = vec![value("t", DataType::Float, &[7.into()])];
    assert!(canonical(&other) == bytes);

    let types = element_types(&read);
    let of = |name: &str| types.element(types.graph(), name);
    assert_eq!(
        [of("f/t"), of("f/n#2"), of("x1"), of("y")],
        [Some(DataType::Float), Some(DataType::Float), Some(DataType::Float16), Some(DataType::Float16)]
    );
}
