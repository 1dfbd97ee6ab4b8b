//! The cases that ONNX itself is tested with, held against the types that ONNX's own inference finds. The
//! `onnx` package is fetched once into `target/onnx-cases`; without it the test says that it is skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use enginewright::onnx::graph::{GraphView, Shapes};
use enginewright::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use enginewright::onnx::proto::{GraphProto, NodeProto, ValueInfoProto, type_proto};
use enginewright::onnx::{self, ElementTypes, infer::ScopeId};
use enginewright::precision::{Capabilities, FloatType, Prepared, Spec, prepare};
use serde_json::{Value, json};

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

#[test]
fn shapes_are_those_that_the_cases_have() {
    let Some(folder) = cases() else {
        eprintln!("SKIPPED: the cases of {PACKAGE} need python3 with pip, and the network once");
        return;
    };
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let (mut known, mut wrong) = (0, Vec::new());
    for case in &expected {
        let (name, file) = (case["name"].as_str().unwrap(), case["file"].as_str().unwrap());
        let Ok(source) = onnx::read(&folder.join(file)) else { continue };
        // The cases declare the shapes of their outputs, which are not to be known here.
        let mut proto = source.model.proto().clone();
        let outputs = std::mem::take(&mut proto.graph.as_mut().unwrap().output);
        let view = GraphView::new(&proto);
        let shapes = Shapes::new(&view);
        for output in &outputs {
            let found = view.find(0, output.name()).and_then(|id| shapes.dims(id));
            let (Some(found), Some(declared)) = (found, dims(output)) else { continue };
            known += 1;
            let same = |(found, declared): (&Option<i64>, &Option<i64>)| {
                found.is_none() || declared.is_none() || found == declared
            };
            if found.len() != declared.len() || !found.iter().zip(&declared).all(same) {
                wrong.push(format!("{name}: `{}` is {declared:?}, not {found:?}", output.name()));
            }
        }
    }
    eprintln!("{known} shapes known, {} wrong", wrong.len());
    assert_eq!(wrong, [""; 0]);
    assert!(known > 1000);
}

/// The declared dimensions of a tensor.
fn dims(value: &ValueInfoProto) -> Option<Vec<Option<i64>>> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let known = |dim: &Dimension| match dim.value {
        Some(dimension::Value::DimValue(value)) => Some(value),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(known).collect())
}

/// Of the cases, how many are taken: all with `NODE_CASES=all`.
fn share() -> usize {
    if std::env::var("NODE_CASES").is_ok_and(|all| all == "all") { 1 } else { 12 }
}

#[test]
fn cases_are_written_back_equal_and_compute_the_same_in_fp16() {
    let (Some(folder), Some(runtime)) = (cases(), super::oracle::packages()) else {
        eprintln!("SKIPPED: the cases of {PACKAGE} need python3 with pip, and the network once");
        return;
    };
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let work = tempfile::tempdir().unwrap();
    let mut todo = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut refusals: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in expected.iter().step_by(share()) {
        let (name, file) = (case["name"].as_str().unwrap(), case["file"].as_str().unwrap());
        let made = work.path().join(file);
        let (canonical, typed) = (made.join("canonical"), made.join("typed"));
        std::fs::create_dir_all(&canonical).unwrap();
        std::fs::create_dir_all(&typed).unwrap();
        let mut refused = |why: String| {
            *counts.entry(format!("refused: {why}")).or_default() += 1;
            refusals.entry(why).or_default().push(name.to_owned());
        };
        let done = match onnx::canonicalize(&folder.join(file), &canonical) {
            Ok(done) => done,
            Err(onnx::Error::Invalid(diagnostics)) => {
                refused(diagnostics[0].code.to_string());
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let bytes = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
        let graph = bytes(&canonical, onnx::MODEL_FILE);
        let weights = done.has_weights.then(|| bytes(&canonical, onnx::WEIGHTS_FILE).into());
        let model = onnx::read_canonical(graph.clone().into(), weights).unwrap();
        let again = made.join("again");
        std::fs::create_dir_all(&again).unwrap();
        onnx::write_canonical(model.clone(), &again).unwrap();
        assert_eq!(graph, bytes(&again, onnx::MODEL_FILE), "{name} is not written back equal");
        let spec = Spec::new(FloatType::Fp16, Vec::new(), Capabilities::default());
        match prepare(&model, &spec) {
            Ok(Prepared { model: Some(model), problems, .. }) => {
                let lossy =
                    problems.iter().find(|p| p.code.contains("-overflow-") || p.code.contains("epsilon-"));
                match lossy {
                    // The program does not build such a model unless it is told to.
                    Some(problem) => refused(problem.code.clone()),
                    None => {
                        onnx::write_canonical(model, &typed).unwrap();
                        *counts.entry("typed".to_owned()).or_default() += 1;
                    }
                }
            }
            Ok(Prepared { problems, .. }) | Err(problems) => {
                let problem = problems.iter().find(|p| p.is_error).unwrap();
                assert_ne!(problem.code, "precision-internal", "{name}: {problem:#?}");
                refused(problem.code.clone());
            }
        }
        todo.push(json!({ "name": name, "file": folder.join(file), "made": made }));
    }
    std::fs::write(work.path().join("todo.json"), serde_json::to_vec(&todo).unwrap()).unwrap();
    let paths = [folder.parent().unwrap().join("packages"), runtime.to_owned()];
    let output = Command::new("python3")
        .env("PYTHONPATH", std::env::join_paths(paths).unwrap())
        .arg(repository().join("tests/it/support/typed_cases.py"))
        .arg(work.path())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    eprintln!("{} cases: {counts:?}; in ONNX Runtime {}", todo.len(), told["counts"]);
    if share() == 1 {
        refusals.remove("opset-version");
        eprintln!("{refusals:#?} {:#}", told["reasons"]);
    }
    let wrong: Vec<&str> = told["wrong"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(wrong, [""; 0]);
    assert!(told["counts"]["typed"].as_u64().unwrap() * 3 > todo.len() as u64, "{told:#}");
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
