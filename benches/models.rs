//! Writes the models of the benchmarks into a folder: `bench-models FOLDER`.
#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::path::Path;

use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::proto::{GraphProto, NodeProto, TensorProto};
use enginewright::onnx::testing::{model, node, save, value, weight};

/// Elementwise nodes in a row: small, and slow to build.
fn chain(length: usize, first: &str) -> GraphProto {
    let name = |i: usize| {
        if i == 0 {
            "x".to_owned()
        } else if i == length {
            "y".to_owned()
        } else {
            format!("v{i}")
        }
    };
    let nodes = (0..length).map(|i| match i {
        0 => node("first", first, &["x"], &[&name(1)]),
        i if i % 2 == 0 => node(&format!("n{i}"), "Sigmoid", &[&name(i)], &[&name(i + 1)]),
        i => node(&format!("n{i}"), "Mul", &[&name(i), "x"], &[&name(i + 1)]),
    });
    graph(&[8, 64], nodes.collect(), Vec::new())
}

/// Wide layers in a row: much weight, little else.
fn wide(layers: usize) -> GraphProto {
    let mut nodes = Vec::new();
    let mut weights = Vec::new();
    let mut from = "x".to_owned();
    for i in 0..layers {
        let (w, h, to) = (
            format!("w{i}"),
            format!("h{i}"),
            if i + 1 == layers { "y".to_owned() } else { format!("r{i}") },
        );
        weights.push(weight(&w, &[2048, 2048]));
        nodes.push(node(&format!("mm{i}"), "MatMul", &[&from, &w], &[&h]));
        nodes.push(node(&format!("relu{i}"), "Relu", &[&h], &[&to]));
        from = to;
    }
    graph(&[8, 2048], nodes, weights)
}

fn graph(dims: &[i64], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    let dims: Vec<_> = dims.iter().map(|d| (*d).into()).collect();
    GraphProto {
        input: vec![value("x", DataType::Float, &dims)],
        output: vec![value("y", DataType::Float, &dims)],
        node,
        initializer,
        ..GraphProto::default()
    }
}

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let write = |name: &str, graph| save(&model(17, graph), &Path::new(&folder).join(name)).unwrap();
    write("chain-a.onnx", chain(4400, "Sigmoid"));
    write("chain-b.onnx", chain(4400, "Tanh"));
    write("wide.onnx", wide(20));
}
