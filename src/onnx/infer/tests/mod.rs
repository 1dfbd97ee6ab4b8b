//! Tests of the inference: a rule, a scope or a contradiction each.

mod check;
mod rules;
mod scopes;

use prost::Message;

use super::super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
    attribute_proto::AttributeType,
};
use super::super::read_canonical;
use super::super::testing::{model, value};
use super::*;

const F32: DataType = DataType::Float;
const F16: DataType = DataType::Float16;
const I64: DataType = DataType::Int64;

fn read(proto: &ModelProto) -> Model {
    read_canonical(proto.encode_to_vec().into(), None).unwrap()
}

/// A model with `h` (float16), `f` (float), `i` (int64), `b` (bool), `q` (int8) and the outputs of the last node.
fn of_nodes(opset: i64, nodes: Vec<NodeProto>) -> ModelProto {
    let inputs = [("h", F16), ("f", F32), ("i", I64), ("b", DataType::Bool), ("q", DataType::Int8)];
    let output = nodes
        .last()
        .and_then(|node| node.output.iter().find(|name| !name.is_empty()))
        .cloned()
        .unwrap_or_default();
    let mut proto = model(
        opset,
        GraphProto {
            input: inputs.iter().map(|(name, element)| value(name, *element, &["n".into()])).collect(),
            output: vec![ValueInfoProto { name: Some(output), ..ValueInfoProto::default() }],
            node: nodes,
            ..GraphProto::default()
        },
    );
    for domain in ["com.microsoft", "ai.onnx.ml", "ours"] {
        let import = OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(1) };
        proto.opset_import.push(import);
    }
    proto
}

/// The types of these values of the graph.
fn types_of(proto: &ModelProto, names: &[&str]) -> Vec<String> {
    let types = element_types(&read(proto));
    names.iter().map(|name| types.get(types.graph(), name).to_string()).collect()
}

/// The types of all outputs of one node.
fn made(opset: i64, node: NodeProto) -> Vec<String> {
    let names: Vec<String> = node.output.clone();
    types_of(&of_nodes(opset, vec![node]), &names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn in_domain(domain: &str, node: NodeProto) -> NodeProto {
    NodeProto { domain: Some(domain.to_owned()), ..node }
}

fn named(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(of as i32), ..AttributeProto::default() }
}

fn unnamed_graph(inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> GraphProto {
    let info = |name: &&str| ValueInfoProto { name: Some((*name).to_owned()), ..ValueInfoProto::default() };
    GraphProto {
        name: Some("body".to_owned()),
        input: inputs.iter().map(info).collect(),
        output: outputs.iter().map(info).collect(),
        node: nodes,
        ..GraphProto::default()
    }
}
