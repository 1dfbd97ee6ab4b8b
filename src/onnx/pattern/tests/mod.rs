//! Patterns, each spelling as a few lines of text.
//!
//! A line is `value = Operator(operands) attribute=1 other=[0, 1]`. An operand that begins with a digit or
//! a sign is a constant: `2.0` a float, `[1, 2]` integers. `?` stands for one that is left out, `ms.` before the
//! operator for ONNX Runtime's domain. Lines that begin with `!` do not belong to the match.

mod attentions;
mod folded;
mod found;
mod look_alikes;

mod others;
mod properties;
mod refused;
mod scopes;
mod unusual;

use bytes::Bytes;
use prost::Message;

use super::super::graph::GraphView;
use super::super::proto::tensor_proto::DataType;
use super::super::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};
use super::super::read::{Model, read_canonical};
use super::super::testing::{WithAttribute, floats, ints, model, node, value, weight};
use super::*;

/// A spelling as a graph. `x`, `y` are `float[b, t, 8]`, `q`, `k`, `v` are `float[b, h, t, 4]`, `image` is
/// `float[n, 8, h, w]`, `any` has no declared shape; the rest are weights, named for their shape.
fn graph_of(text: &str) -> GraphProto {
    let rows = ["b".into(), "t".into(), 8.into()];
    let heads = ["b".into(), "h".into(), "t".into(), 4.into()];
    let mut graph = GraphProto {
        input: vec![
            value("x", DataType::Float, &rows),
            value("y", DataType::Float, &rows),
            value("q", DataType::Float, &heads),
            value("k", DataType::Float, &heads),
            value("v", DataType::Float, &heads),
            value("mask", DataType::Float, &["b".into(), 1.into(), "t".into(), "t".into()]),
            value("keep", DataType::Bool, &["b".into(), 1.into(), "t".into(), "t".into()]),
            value("image", DataType::Float, &["n".into(), 8.into(), "h".into(), "w".into()]),
            shapeless("any"),
        ],
        initializer: vec![
            weight("scale8", &[8]),
            weight("bias8", &[8]),
            weight("scale1x8x1x1", &[1, 8, 1, 1]),
            weight("bias1x8x1x1", &[1, 8, 1, 1]),
            weight("scale5x1", &[5, 1]),
            weight("table5x8", &[5, 8]),
            weight("weight8x8", &[8, 8]),
            weight("weight4x4", &[4, 4]),
            weight("scale2x1x1", &[2, 1, 1]),
            floats("bad", &[], &[f32::NAN]),
        ],
        ..GraphProto::default()
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let node = parse(line.trim_start_matches('!').trim(), &mut graph);
        graph.node.push(node);
    }
    let last = graph.node.last().and_then(|node| node.output.first()).cloned().unwrap_or_default();
    graph.output.push(shapeless(&last));
    graph
}

/// A value of a type, but of no declared rank.
fn shapeless(name: &str) -> ValueInfoProto {
    let mut value = value(name, DataType::Float, &[]);
    let of = value.r#type.as_mut().and_then(|of| of.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = of {
        tensor.shape = None;
    }
    value
}

fn parse(line: &str, graph: &mut GraphProto) -> NodeProto {
    let (outputs, rest) = line.split_once('=').unwrap();
    let (op, rest) = rest.split_once('(').unwrap();
    let (operands, attributes) = rest.rsplit_once(')').unwrap();
    let mut inputs = Vec::new();
    for operand in split(operands) {
        let name = format!("const_{}", graph.initializer.len());
        if let Some(list) = operand.strip_prefix('[') {
            let list = list_of(list);
            graph.initializer.push(ints(&name, &[i64::try_from(list.len()).unwrap()], &list));
            inputs.push(name);
        } else if operand.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            graph.initializer.push(floats(&name, &[], &[operand.parse().unwrap()]));
            inputs.push(name);
        } else {
            inputs.push(operand.replace('?', ""));
        }
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let outputs: Vec<&str> = outputs.split(',').map(str::trim).collect();
    let op = op.trim();
    let mut made = node(&format!("/{}", outputs[0]), op.trim_start_matches("ms."), &inputs, &outputs);
    if op.starts_with("ms.") {
        made.domain = Some("com.microsoft".to_owned());
    }
    for attribute in attributes.replace(", ", ",").split_whitespace() {
        let (key, value) = attribute.split_once('=').unwrap();
        made = match value.strip_prefix('[') {
            Some(list) => made.ints(key, &list_of(list)),
            None if value.starts_with('"') => made.with(text_attribute(key, value.trim_matches('"'))),
            None if value.contains('.') || value.contains("e-") => made.float(key, value.parse().unwrap()),
            None => made.int(key, value.parse().unwrap()),
        };
    }
    made
}

fn text_attribute(key: &str, text: &str) -> super::super::proto::AttributeProto {
    super::super::proto::AttributeProto {
        name: Some(key.to_owned()),
        r#type: Some(3),
        s: Some(Bytes::copy_from_slice(text.as_bytes())),
        ..Default::default()
    }
}

/// At commas outside brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        inside = c == '[' || inside && c != ']';
        match c {
            ',' if !inside => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn list_of(text: &str) -> Vec<i64> {
    let text = text.trim_end_matches(']');
    text.split(',').filter(|n| !n.trim().is_empty()).map(|n| n.trim().parse().unwrap()).collect()
}

/// As a file would be read: checked and sorted.
fn read(model: &ModelProto) -> Model {
    read_canonical(Bytes::from(model.encode_to_vec()), None).unwrap()
}

fn model_of(text: &str, opset: i64) -> ModelProto {
    let mut model = model(opset, graph_of(text));
    let domain = super::super::proto::OperatorSetIdProto {
        domain: Some("com.microsoft".to_owned()),
        version: Some(1),
    };
    model.opset_import.push(domain);
    model
}

fn found_in(text: &str, kind: Kind) -> Vec<Match> {
    let model = read(&model_of(text, 17));
    find_kind(&GraphView::new(model.proto()), kind)
}

/// The first outputs of the nodes of a match.
fn outputs(model: &ModelProto, of: &[super::super::graph::NodeRef]) -> Vec<String> {
    let nodes = &model.graph.as_ref().unwrap().node;
    of.iter().map(|at| nodes[at.index].output[0].clone()).collect()
}

/// The values of the lines that belong to the match.
fn wanted(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('!'));
    lines.map(|line| line.split(['=', ',']).next().unwrap().trim().to_owned()).collect()
}

/// A spelling, and what must be found in it.
struct Spelling {
    name: &'static str,
    kind: Kind,
    text: &'static str,
    axes: &'static [i64],
    epsilon: Option<f64>,
    scale: Option<&'static str>,
    bias: Option<&'static str>,
    exact: bool,
}

/// Checks that there is exactly one match, and what it says.
fn check(spelling: &Spelling) {
    let Spelling { name, kind, text, .. } = spelling;
    let model = read(&model_of(text, 17));
    let found = find_kind(&GraphView::new(model.proto()), *kind);
    let [only] = &found[..] else { panic!("{name}: {} matches", found.len()) };
    assert_eq!(outputs(model.proto(), &only.nodes), wanted(text), "{name}: nodes");
    assert_eq!(only.axes, spelling.axes, "{name}: axes");
    match (only.epsilon, spelling.epsilon) {
        (Some(have), Some(want)) => assert!((have - want).abs() < want * 1e-3, "{name}: epsilon {have}"),
        (have, want) => assert_eq!(have, want, "{name}: epsilon"),
    }
    assert_eq!(only.scale.as_deref(), spelling.scale, "{name}: scale");
    assert_eq!(only.bias.as_deref(), spelling.bias, "{name}: bias");
    assert_eq!(only.exact, spelling.exact, "{name}: exact");
    assert_eq!(only.escapes, Vec::<String>::new(), "{name}: escapes");
    assert!(only.instance.starts_with('/'), "{name}: instance {}", only.instance);
}
