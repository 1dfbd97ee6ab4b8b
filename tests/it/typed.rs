//! What typed models become in the real TensorRT-RTX: accumulators, types of inputs and outputs, subgraphs,
//! quantized models.

use serde_json::Value;

use crate::support::{Project, models};

/// A project with one model, built.
fn built(bytes: Vec<u8>, model: &str) -> Project {
    let project = Project::new(&format!(
        "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\n{model}"
    ));
    project.share("packages");
    project.write("m.onnx", bytes);
    project.run(&["apply"]).expect(0);
    project
}

/// How often the engine holds this text.
fn holds(project: &Project, text: &str) -> usize {
    let engine = project.read("engines/m/a.engine");
    engine.windows(text.len()).filter(|bytes| *bytes == text.as_bytes()).count()
}

fn bindings(project: &Project) -> Vec<(String, String)> {
    let sidecar: Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    sidecar["bindings"].as_array().unwrap().iter().map(|b| (text(&b["name"]), text(&b["element"]))).collect()
}

#[test]
fn products_get_the_accumulators_that_rules_ask_for() {
    let rule = "[[model.m.rule]]\nname = \"sums\"\nselect = { op = [\"MatMul\", \"Gemm\"] }\n\
                precision = \"fp16\"\naccumulate = \"fp32\"\n";
    let project = built(models::products(), rule);
    // The library's choice is 0. Weights are in half, and there is but one copy of them.
    assert_eq!((holds(&project, "accumulation_type=2"), holds(&project, "accumulation_type=0")), (3, 0));
    let rules = project.run(&["rules", "m"]);
    rules.expect(0).says(&["gemm   Gemm      fp16  fp32 ", "tanh   Tanh      fp16  - "]);
    let json = project.run(&["--format", "json", "rules", "m"]).json();
    assert_eq!(json["models"][0]["nodes"][0]["accumulator"], "fp32");

    // Without it the library chooses; it is in the key.
    project.manifest(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\n\
         [[model.m.rule]]\nname = \"sums\"\nselect = { op = [\"MatMul\", \"Gemm\"] }\nprecision = \"fp16\"\n",
    );
    assert_eq!(project.planned(), ["m@a: rebuild"]);
    project.run(&["apply"]).expect(0);
    assert_eq!((holds(&project, "accumulation_type=2"), holds(&project, "accumulation_type=0")), (0, 3));
}

#[test]
fn inputs_and_outputs_have_the_types_that_io_says() {
    let io = "[model.m.io.x]\ntype = \"fp16\"\n[model.m.io.n]\ntype = \"int32\"\n[model.m.io.twice]\ntype = \"int32\"\n";
    let project = built(models::control_flow(), io);
    let want = [
        ("x", "half"),
        ("flag", "bool"),
        ("n", "int32"),
        ("y", "float"),
        ("all", "float"),
        ("twice", "int32"),
    ];
    assert_eq!(bindings(&project), want.map(|(name, of)| (name.to_owned(), of.to_owned())));
    // What If and Loop hold is typed: the one FP32 operator is the Softmax.
    let json = project.run(&["--format", "json", "rules", "m"]).json();
    let nodes = json["models"][0]["nodes"].as_array().unwrap().iter();
    let wide: Vec<_> = nodes.filter(|n| n["type"] == "fp32").map(|n| n["node"].as_str().unwrap()).collect();
    assert_eq!(wide, ["soft"]);

    project.manifest(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\nio = { z = { type = \"fp16\" } }\n",
    );
    project.run(&["plan"]).expect(3).says(&["error[io-unknown]", "`z`"]);
    project.manifest(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nio = { x = { type = \"fp16\" } }\n",
    );
    project.run(&["plan"]).expect(3).says(&["error[not-yet]", "`io` under `precision = \"as-is\"`"]);
}

#[test]
fn quantized_convolutions_are_computed_in_int8() {
    let project = built(models::quantized(), "");
    assert!(holds(&project, "type=int8 }") >= 2, "the convolution has no INT8 weights");
    project
        .run(&["rules", "m"])
        .expect(0)
        .says(&["`DequantizeLinear` is quantized: its scales and borders keep"]);
}
