//! The cases that ONNX itself is tested with, held against the types that ONNX's own inference finds. The
//! `onnx` package is fetched once into `target/onnx-cases`; without it the test says that it is skipped.

use std::path::PathBuf;
use std::process::Command;

use enginewright::onnx::proto::{GraphProto, NodeProto};
use enginewright::onnx::{self, ElementTypes, infer::ScopeId};
use serde_json::Value;

use crate::support::repository;

const PACKAGE: &str = "onnx==1.23.2";

/// The folder with the cases, made if it is not there. None without network or Python.
fn cases() -> Option<PathBuf> {
    let folder = repository().join("target/onnx-cases");
    let cases = folder.join("cases");
    if cases.join("expected.json").exists() {
        return Some(cases);
    }
    let packages = folder.join("packages");
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let pip = ["-m", "pip", "install", "-q", "--upgrade", "--target"];
    let done = run(Command::new("python3").args(pip).arg(&packages).arg(PACKAGE))
        && run(Command::new("python3")
            .env("PYTHONPATH", &packages)
            .arg(repository().join("tests/it/onnx_cases.py"))
            .arg(&cases));
    done.then_some(cases)
}

#[derive(Debug, Default)]
struct Count {
    equal: usize,
    unknown: usize,
    wrong: Vec<String>,
}

#[test]
fn types_are_those_that_onnx_infers() {
    let Some(folder) = cases() else {
        eprintln!("SKIPPED: the cases of {PACKAGE} need python3 with pip, and the network once");
        return;
    };
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let (mut count, mut read, mut refused) = (Count::default(), 0, 0);
    for case in &expected {
        let name = case["name"].as_str().unwrap();
        let model = match onnx::read(&folder.join(case["file"].as_str().unwrap())) {
            Ok(source) => source.model,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("uses opset 2"), "{name}: {error}");
                refused += 1;
                continue;
            }
        };
        read += 1;
        let types = onnx::element_types(&model);
        compare(name, &types, types.graph(), model.graph(), &case["graph"], &mut count);
        let problems = onnx::type_errors(&model, &types);
        let problem = problems.iter().find(|problem| problem.code != "double-narrowed");
        assert!(problem.is_none(), "{name}: {problem:?}");
    }
    let Count { equal, unknown, wrong } = count;
    eprintln!(
        "{read} models, {refused} refused: {equal} types equal, {unknown} unknown, {} wrong",
        wrong.len()
    );
    assert_eq!(wrong, [""; 0]);
    // Outputs of the operators of training are not told by their schemas.
    assert!(read > 1740 && equal > 23_000 && unknown < 30);
}

fn compare(
    name: &str,
    types: &ElementTypes,
    scope: ScopeId,
    graph: &GraphProto,
    expected: &Value,
    count: &mut Count,
) {
    for (value, of) in expected["values"].as_object().unwrap() {
        let (of, found) = (of.as_str().unwrap(), types.get(scope, value).to_string());
        if found == of {
            count.equal += 1;
        } else if found.contains("unknown") {
            count.unknown += 1;
        } else {
            count.wrong.push(format!("{name}: `{value}` is {of}, not {found}"));
        }
    }
    for (index, node) in graph.node.iter().enumerate() {
        let inner = node.output.first().map(|output| &expected["inner"][output]);
        for (ordinal, expected) in inner.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let graph = subgraphs(node).nth(ordinal).unwrap();
            compare(name, types, types.subgraph(scope, index, ordinal).unwrap(), graph, expected, count);
        }
    }
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}
