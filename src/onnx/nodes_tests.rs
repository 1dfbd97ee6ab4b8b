//! Tests of [`super::nodes`]: nodes that TensorRT would read as something.

use bytes::Bytes;
use prost::Message;

use super::make;
use super::misread_tests::{any, dims, graph, told};
use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_proto::DataType;
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};
use super::read::read_canonical;
use super::testing::{self, WithAttribute, floats, ints, node, raw, value};

#[track_caller]
fn says(opset: i64, made: NodeProto, codes: &[&str]) {
    let initializers = vec![ints("trip", &[], &[3]), raw("on", DataType::Bool, &[], vec![1])];
    assert_eq!(told(opset, graph(&dims(&[2, 4]), initializers, vec![made])), codes);
}

#[test]
fn a_cast_says_to_what() {
    let cast = || node("c", "Cast", &["x"], &["y"]);
    says(17, cast(), &["cast-to"]);
    says(17, cast().int("to", 0), &["cast-to"]);
    says(17, cast().int("to", 99), &["cast-to"]);
    says(17, cast().int("to", DataType::Float16 as i64), &[]);
    says(17, cast().with(make::text("to", "FLOAT16")), &["attribute-kind"]);
    says(5, cast().with(make::text("to", "FLOAT16")), &[]);
    says(5, cast().with(make::text("to", "HALF")), &["cast-to"]);
}

#[test]
fn a_constant_has_one_value() {
    let add = |constant: NodeProto| {
        let nodes = vec![constant, node("a", "Add", &["x", "k"], &["y"])];
        told(17, graph(&dims(&[4]), Vec::new(), nodes))
    };
    let constant = || node("k", "Constant", &[], &["k"]).float("value_float", 1.0);
    assert_eq!(add(constant()), [""; 0]);
    assert_eq!(add(constant().int("value_int", 3)), ["constant-with-several-values"]);
    assert_eq!(add(constant().tensor("value", floats("", &[], &[3.0]))), ["constant-with-several-values"]);
}

#[test]
fn attributes_are_of_their_kinds() {
    let softmax = || node("s", "Softmax", &["x"], &["y"]);
    says(13, softmax().float("axis", 1.0), &["attribute-kind"]);
    says(13, softmax().ints("axis", &[1]), &["attribute-kind"]);
    says(13, softmax().int("axis", 1), &[]);
    says(13, node("l", "LeakyRelu", &["x"], &["y"]).int("alpha", 1), &["attribute-kind"]);
    says(13, node("t", "Transpose", &["x"], &["y"]).ints("perm", &[1, 0]), &[]);
    says(13, node("t", "Transpose", &["x"], &["y"]).int("perm", 1), &["attribute-kind"]);
    // What old files do not say, and operators that are not of ONNX.
    let mut untyped = softmax().int("axis", 1);
    untyped.attribute[0].r#type = None;
    says(13, untyped, &[]);
    says(13, node("p", "EfficientThing_TRT", &["x"], &["y"]).float("axis", 1.0), &[]);
    let mut referring = softmax().int("axis", 1);
    referring.attribute[0] = AttributeProto {
        name: Some("axis".into()),
        ref_attr_name: Some("where".into()),
        r#type: Some(AttributeType::Int as i32),
        ..AttributeProto::default()
    };
    says(13, referring, &["attribute-reference"]);
}

#[test]
fn bodies_take_what_they_are_given() {
    let body = |inputs: &[&str], outputs: &[&str]| GraphProto {
        input: inputs.iter().map(|name| any(name)).collect(),
        output: outputs.iter().map(|name| any(name)).collect(),
        node: vec![node("n", "Neg", &["x"], &["v"]), node("k", "Identity", &["on"], &["c"])],
        ..GraphProto::default()
    };
    let looped = |inputs: &[&str]| {
        node("l", "Loop", &["trip", "on", "x"], &["y"]).graph("body", body(inputs, &["c", "v"]))
    };
    says(17, looped(&["i", "c0", "v0"]), &[]);
    says(17, looped(&["i", "c0"]), &["subgraph-inputs"]);
    says(17, looped(&["i", "c0", "v0", "w"]), &["subgraph-inputs"]);
    let choice = |inputs: &[&str]| {
        let branch = || body(inputs, &["v"]);
        node("if", "If", &["on"], &["y"]).graph("then_branch", branch()).graph("else_branch", branch())
    };
    says(17, choice(&[]), &[]);
    says(17, choice(&["odd"]), &["subgraph-inputs", "subgraph-inputs"]);
    let scan = |inputs: &[&str], given: &[&str]| {
        let made = node("s", "Scan", given, &["y"]).graph("body", body(inputs, &["v"]));
        made.int("num_scan_inputs", 1)
    };
    says(9, scan(&["s0"], &["x"]), &[]);
    says(9, scan(&["s0"], &["x", "x"]), &["subgraph-inputs"]);
    says(8, scan(&["s0"], &["", "x"]), &[]);
    // Of IR version 3: an initializer of the body is listed as an input too.
    let mut old = choice(&["w"]);
    for attribute in &mut old.attribute {
        let body = attribute.g.as_mut().unwrap();
        body.initializer.push(floats("w", &[], &[1.0]));
        body.node[0].input[0] = "w".into();
    }
    says(8, old, &[]);
}

#[test]
fn names_are_short_and_whole() {
    let named = |name: &str| {
        let mut made = graph(&dims(&[4]), Vec::new(), vec![node(name, "Relu", &["x"], &["y"])]);
        made.input[0] = value("x", DataType::Float, &dims(&[4]));
        told(17, made)
    };
    assert_eq!(named(&"n".repeat(4096)), [""; 0]);
    assert_eq!(named(&"n".repeat(4097)), ["unusable-name"]);
    assert_eq!(named("a\0b"), ["unusable-name"]);
}

#[test]
fn the_default_domain_is_told_in_words() {
    let mut model =
        testing::model(0, graph(&dims(&[4]), Vec::new(), vec![node("r", "Relu", &["x"], &["y"])]));
    let message = |model: &ModelProto| {
        let bytes = Bytes::from(model.encode_to_vec());
        read_canonical(bytes, None).unwrap_err().to_string()
    };
    let said = "`model.onnx` imports version 0 of the operators of the default domain";
    assert_eq!(message(&model), said);
    model.opset_import[0].domain = Some("acme".into());
    assert_eq!(message(&model), said.replace("the default domain", "domain `acme`"));
}
