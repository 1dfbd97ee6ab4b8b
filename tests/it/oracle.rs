//! The oracle against an independent statement of it, in Python, computed by ONNX Runtime. Python's packages are
//! fetched once into `target/oracle`; without them the tests say that they are skipped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use enginewright::manifest::Selector;
use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use enginewright::onnx::testing::transformer::{Norms, Transformer};
use enginewright::onnx::testing::{WithAttribute, model, node, raw, save, value};
use enginewright::onnx::{self, Model};
use enginewright::precision::oracle::{TABLE, oracle};
use enginewright::precision::{Capabilities, FloatType, RuleSpec, Select, Spec, prepare};
use half::{bf16, f16};
use prost::Message;
use serde_json::Value;

use crate::support::{Project, models, repository, shared_cache};

const PACKAGES: [&str; 2] = ["onnxruntime==1.32.0", "numpy==2.4.6"];

/// The folder of Python's packages. None without network or Python.
pub(crate) fn packages() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let fetch = || {
        let folder = repository().join("target/oracle");
        if folder.join("numpy").exists() && folder.join("onnxruntime").exists() {
            return Some(folder);
        }
        let pip = ["-m", "pip", "install", "-q", "--upgrade", "--target"];
        let done = Command::new("python3").args(pip).arg(&folder).args(PACKAGES).output();
        done.is_ok_and(|output| output.status.success()).then_some(folder)
    };
    let folder = FOLDER.get_or_init(fetch);
    if folder.is_none() {
        eprintln!("SKIPPED: {PACKAGES:?} need python3 with pip, and the network once");
    }
    folder.as_deref()
}

fn python(arguments: &[&Path]) -> Option<Value> {
    let script = repository().join("tests/it/oracle.py");
    let output = Command::new("python3")
        .env("PYTHONPATH", packages()?)
        .arg(script)
        .args(arguments)
        .output()
        .expect("python3 starts");
    let error = String::from_utf8_lossy(&output.stderr);
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{error}")))
}

/// The model of a file as the program reads it.
fn read(model: &ModelProto) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    save(model, &path).unwrap();
    onnx::read(&path).unwrap().model
}

fn halves(name: &str, of: DataType, dims: &[i64], values: &[f32]) -> TensorProto {
    let bytes = |v: &f32| match of {
        DataType::Bfloat16 => bf16::from_f32(*v).to_le_bytes(),
        _ => f16::from_f32(*v).to_le_bytes(),
    };
    raw(name, of, dims, values.iter().flat_map(bytes).collect())
}

/// One node in 16 bits. Its inputs `a`, `b`, … that are no initializers are inputs of the model.
fn one(of: DataType, node: NodeProto, initializer: Vec<TensorProto>) -> ModelProto {
    let given = |name: &&String| initializer.iter().all(|t| t.name() != name.as_str());
    let element = |i: usize| match node.op_type() {
        "Cast" => DataType::Float,
        "Where" if i == 0 => DataType::Bool,
        _ => of,
    };
    let undimensioned = |name: &str, element: DataType| {
        let mut value = value(name, element, &[]);
        if let Some(enginewright::onnx::proto::type_proto::Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            tensor.shape = None;
        }
        value
    };
    let input: Vec<ValueInfoProto> = node
        .input
        .iter()
        .enumerate()
        .filter(|(_, name)| given(name))
        .map(|(i, name)| undimensioned(name, element(i)))
        .collect();
    let output = vec![undimensioned("y", of)];
    // Opset 22 is the first with BF16 nearly everywhere.
    let opset = if of == DataType::Bfloat16 { 22 } else { 17 };
    model(opset, GraphProto { input, output, node: vec![node], initializer, ..GraphProto::default() })
}

fn save_oracle(folder: &Path, name: &str, model: &ModelProto) {
    let oracle = oracle(&read(model)).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
    std::fs::write(folder.join(format!("{name}.onnx")), oracle.model.proto().encode_to_vec()).unwrap();
}

/// Operators by the number of their inputs.
const UNARY: [&str; 33] = [
    "Sqrt",
    "Relu",
    "Neg",
    "Abs",
    "Floor",
    "Identity",
    "Reciprocal",
    "Exp",
    "Log",
    "Tanh",
    "Sigmoid",
    "Erf",
    "Sin",
    "Cos",
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Acosh",
    "Atanh",
    "Softplus",
    "Softsign",
    "Elu",
    "Celu",
    "Selu",
    "LeakyRelu",
    "HardSigmoid",
    "ThresholdedRelu",
    "Shrink",
    "GlobalAveragePool",
];
const BINARY: [&str; 9] = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "MatMul"];
const REDUCTIONS: [&str; 9] = [
    "ReduceMean",
    "ReduceL1",
    "ReduceProd",
    "ReduceMax",
    "ReduceMin",
    "ReduceSumSquare",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
];
/// Those that must agree to the last bit.
const BIT_FOR_BIT: [&str; 17] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Sqrt",
    "Cast",
    "Relu",
    "Clip",
    "Max",
    "Min",
    "Neg",
    "Abs",
    "Floor",
    "Identity",
    "Where",
    "ReduceMax",
    "ReduceMin",
];

fn cases(folder: &Path) {
    let f16 = DataType::Float16;
    let write = |name: &str, node: NodeProto, initializer: Vec<TensorProto>| {
        save_oracle(folder, &format!("{name}.fp16"), &one(f16, node, initializer));
    };
    for op in UNARY {
        write(op, node(op, op, &["a"], &["y"]), vec![]);
    }
    for op in BINARY {
        write(op, node(op, op, &["a", "b"], &["y"]), vec![]);
    }
    for op in REDUCTIONS {
        write(op, node(op, op, &["a"], &["y"]).ints("axes", &[-1]).int("keepdims", 1), vec![]);
    }
    let axes = enginewright::onnx::testing::ints("axes", &[1], &[-1]);
    write("ReduceSum", node("r", "ReduceSum", &["a", "axes"], &["y"]), vec![axes]);
    let bounds = vec![halves("low", f16, &[], &[-1.7]), halves("high", f16, &[], &[2.3])];
    write("Clip", node("clip", "Clip", &["a", "low", "high"], &["y"]), bounds);
    write("Cast", node("cast", "Cast", &["a"], &["y"]).int("to", 10), vec![]);
    write("Mod", node("mod", "Mod", &["a", "b"], &["y"]).int("fmod", 1), vec![]);
    write("Where", node("where", "Where", &["a", "b", "c"], &["y"]), vec![]);
    write("Sum", node("sum", "Sum", &["a", "b", "c"], &["y"]), vec![]);
    let pool = node("pool", "AveragePool", &["a"], &["y"]);
    write("AveragePool", pool.ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]), vec![]);
    write("LayerNormalization", node("norm", "LayerNormalization", &["a", "b", "c"], &["y"]), vec![]);

    // The mask of an exporter: what it adds is -inf in FP16, and NaN where nothing is to be added.
    let mut lost = one(f16, node("", "Softmax", &["scores", "keep"], &["y"]), vec![]);
    let graph = lost.graph.as_mut().unwrap();
    graph.initializer = vec![halves("one", f16, &[], &[1.0]), halves("low", f16, &[], &[-3.4e38])];
    graph.node = vec![
        node("sub", "Sub", &["one", "keep"], &["drop"]),
        node("mul", "Mul", &["drop", "low"], &["mask"]),
        node("add", "Add", &["scores", "mask"], &["masked"]),
        node("softmax", "Softmax", &["masked"], &["y"]),
    ];
    save_oracle(folder, "mask.fp16", &lost);
    save_oracle(folder, "branches.fp16", &half_branches());

    for op in ["Add", "Mul", "Div", "Relu", "MatMul"] {
        let inputs: &[&str] = if op == "Relu" { &["a"] } else { &["a", "b"] };
        let model = one(DataType::Bfloat16, node(op, op, inputs, &["y"]), vec![]);
        save_oracle(folder, &format!("{op}.bf16"), &model);
    }
    let cast = one(DataType::Bfloat16, node("cast", "Cast", &["a"], &["y"]).int("to", 16), vec![]);
    save_oracle(folder, "Cast.bf16", &cast);
}

/// An `If` in FP16 whose branches read an FP16 value and weight around them.
fn half_branches() -> ModelProto {
    let f16 = DataType::Float16;
    let branch = |op: &str, out: &str| GraphProto {
        name: Some(op.to_owned()),
        output: vec![value(out, f16, &["n".into()])],
        node: vec![node(&format!("/{op}"), op, &["scaled", "offset"], &[out])],
        ..GraphProto::default()
    };
    let graph = GraphProto {
        input: vec![value("flag", DataType::Bool, &[]), value("x", f16, &["n".into()])],
        output: vec![value("y", f16, &["n".into()])],
        initializer: vec![halves("factor", f16, &[1], &[2.1]), halves("offset", f16, &[1], &[3.3])],
        node: vec![
            node("/Mul", "Mul", &["x", "factor"], &["scaled"]),
            node("/If", "If", &["flag"], &["y"])
                .graph("then_branch", branch("Add", "added"))
                .graph("else_branch", branch("Sub", "subtracted")),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

#[test]
fn every_exact_operator_agrees_with_its_statement() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path());
    let Some(found) = python(&[Path::new("ops"), folder.path()]) else { return };
    let found = found.as_object().unwrap();
    let mut wrong = Vec::new();
    for (case, result) in found {
        let (name, of) = case.split_once('.').unwrap();
        let allowed = match name {
            name if BIT_FOR_BIT.contains(&name) => 0,
            "branches" => 0,
            // Each of its three roundings may fall to the other side.
            "LayerNormalization" => 3,
            _ => 1,
        };
        let ulps = result[0].as_i64().unwrap();
        if !(0..=allowed).contains(&ulps) || result[1].as_i64().unwrap() == 0 {
            wrong.push(format!("{name} in {of}: {ulps} units, at most {allowed}: {}", result[2]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Operators whose row is `exact` and that are not computed above move values only, or need no statement.
    let computed: Vec<&str> = found.keys().map(|case| case.split('.').next().unwrap()).collect();
    let unseen: Vec<&str> = TABLE[1..10].iter().flat_map(|row| row.ops).copied().collect();
    let unseen: Vec<&str> = unseen.into_iter().filter(|op| !computed.contains(op)).collect();
    assert_eq!(unseen, ["CastLike", "Pad", "ScatterElements", "ScatterND"]);

    let count = |case: &str, what: &str| found[case][3][what].as_i64().unwrap();
    assert!(count("Mul.fp16", "inf") > 100 && count("Exp.fp16", "inf") > 100, "overflow");
    assert!(count("Mul.fp16", "lost") > 100, "underflow");
    assert!(count("Sub.fp16", "nan") > 10, "NaN");
    assert!(count("ReduceL2.fp16", "inf") > 100, "a square overflows, though its root would not");
    assert_eq!(count("mask.fp16", "nan"), 24, "a mask of -inf is NaN where it is not wanted");
}

fn magika() -> PathBuf {
    let project = Project::new(&format!(
        "[defaults]\ntargets = [\"a\"]\n{}",
        &models::REAL[..models::REAL.find("[model.nmp]").unwrap()]
    ));
    project.share("packages");
    project.run(&["plan", "--fetch"]).expect(0);
    let packages = shared_cache().join("v1/packages/magika-1.0.3");
    let folder = std::fs::read_dir(packages).unwrap().next().unwrap().unwrap().path();
    folder.join("magika/models/standard_v3_3/model.onnx")
}

/// The model of a file in FP16 but for these patterns, as its oracle, in a file.
fn in_fp16(model: &Path, folder: &Path, name: &str, patterns: &[&str]) -> PathBuf {
    let out = tempfile::tempdir().unwrap();
    onnx::canonicalize(model, out.path()).unwrap();
    let bytes = |name: &str| std::fs::read(out.path().join(name)).ok();
    let (graph, weights) = (bytes(onnx::MODEL_FILE).unwrap(), bytes(onnx::WEIGHTS_FILE));
    let canonical = onnx::read_canonical(graph.into(), weights.map(Into::into)).unwrap();
    let rule = |pattern: &&str| RuleSpec {
        name: (*pattern).to_owned(),
        set: None,
        select: Select::Written(Box::new(Selector {
            pattern: vec![(*pattern).to_owned()],
            ..Selector::default()
        })),
        precision: FloatType::Fp32,
        accumulate: false,
        expect: None,
        optional: false,
    };
    let spec = Spec::new(FloatType::Fp16, patterns.iter().map(rule).collect(), Capabilities::default());
    let prepared = prepare(&canonical, &spec).unwrap();
    let typed = prepared.model.unwrap_or_else(|| panic!("{:#?}", prepared.problems));
    let made = oracle(&typed).unwrap().model;
    // Every value of the source has its counterpart, by name.
    let values: BTreeSet<&String> = made.graph().node.iter().flat_map(|node| &node.output).collect();
    let source = canonical.graph().node.iter().filter(|node| node.op_type() != "Cast");
    for value in source.flat_map(|node| &node.output) {
        assert!(values.contains(value), "`{value}` has no counterpart in the oracle");
    }
    let path = folder.join(name);
    std::fs::write(&path, made.proto().encode_to_vec()).unwrap();
    path
}

#[test]
fn a_large_residual_stream_breaks_norms_in_fp16_alone() {
    if packages().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cosine = |transformer: &Transformer, patterns: &[&str]| {
        let path = folder.path().join("m.onnx");
        save(&transformer.model(), &path).unwrap();
        let half = in_fp16(&path, folder.path(), "half.onnx", patterns);
        python(&[Path::new("apart"), &path, &half]).unwrap()["cosine"].as_f64().unwrap()
    };
    for norms in [Norms::Decomposed, Norms::Explicit] {
        let good = cosine(&Transformer { mask: Some(-1e4), ..Transformer::small(norms) }, &[]);
        assert!(good > 0.9999, "{norms:?}: {good}");
    }
    let large = Transformer::overflowing();
    let broken = cosine(&large, &[]);
    assert!(broken < 0.5, "{broken}");
    let mended = cosine(&large, &["layer-norm"]);
    assert!(mended > 0.999, "{mended}");
    // One node computes its statistics in FP32.
    let explicit = cosine(&Transformer { norms: Norms::Explicit, ..large }, &[]);
    assert!(explicit > 0.999, "{explicit}");
}

#[test]
fn magika_breaks_in_fp16_as_it_does_and_is_mended_by_its_norms() {
    if packages().is_none() {
        return;
    }
    let (model, folder) = (magika(), tempfile::tempdir().unwrap());
    let config = model.with_file_name("config.min.json");
    let samples = [
        (
            "python",
            "a.py",
            "import os\nimport sys\n\ndef main():\n    for name in os.listdir('.'):\n        print(name, file=sys.stderr)\n\nif __name__ == '__main__':\n    main()\n",
        ),
        (
            "rust",
            "b.rs",
            "use std::fmt;\n\npub struct Point { x: f32, y: f32 }\n\nimpl fmt::Display for Point {\n    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {\n        write!(f, \"({}, {})\", self.x, self.y)\n    }\n}\n",
        ),
        (
            "json",
            "c.json",
            "{
  \"name\": \"enginewright\",
  \"version\": \"1.0.0\",
  \"scripts\": {
    \"test\": \"run\"
  },
  \"list\": [1, 2, 3]
}
",
        ),
        (
            "html",
            "d.html",
            "<!DOCTYPE html>\n<html>\n<head><title>A page</title></head>\n<body><h1>Hello</h1><p>text</p></body>\n</html>\n",
        ),
        ("shell", "e.sh", "#!/bin/sh\nset -eu\nfor f in *.txt; do\n  echo \"$f\"\n  wc -l < \"$f\"\ndone\n"),
    ];
    let mut files = Vec::new();
    for (_, name, text) in samples {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        files.push(path);
    }
    let scores = |model: &Path| {
        let mut arguments = vec![Path::new("magika"), model, &config];
        arguments.extend(files.iter().map(PathBuf::as_path));
        python(&arguments).unwrap()
    };
    let broken = scores(&in_fp16(&model, folder.path(), "fp16.onnx", &[]));
    let mended = scores(&in_fp16(&model, folder.path(), "norms.onnx", &["layer-norm"]));
    let reference = scores(&model);
    for (label, name, _) in samples {
        assert_eq!(broken[name][0], "javascript", "{broken:#}");
        assert!((broken[name][1].as_f64().unwrap() - 0.231).abs() < 1e-3, "{broken:#}");
        assert_eq!(reference[name][0], label, "{reference:#}");
        assert_eq!(mended[name][0], label, "{mended:#}");
        let (a, b) = (reference[name][1].as_f64().unwrap(), mended[name][1].as_f64().unwrap());
        assert!((a - b).abs() < 5e-3 && a != b, "{name}: {a}, {b}");
    }
}
