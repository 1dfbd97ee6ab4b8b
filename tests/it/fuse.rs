//! `fuse = ["layer-norm"]`: decomposed norms become one node, through the program, with the real TensorRT-RTX.

use serde_json::Value;

use crate::support::models::{self, REAL};
use crate::support::{Output, Project};

fn project(manifest: &str) -> Project {
    let project = Project::new(manifest);
    project.share("packages");
    project
}

fn magika(keys: &str) -> String {
    let magika = &REAL[..REAL.find("[model.nmp]").unwrap()];
    format!("[defaults]\ntargets = [\"a\"]\n{keys}\n{magika}")
}

/// The norms that are one node: name, type, how many nodes they were.
fn norms(rules: &Output) -> Vec<(String, String, u64)> {
    let json: Value = rules.json();
    let nodes = json["models"][0]["nodes"].as_array().unwrap();
    let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let norms = nodes.iter().filter(|node| node["operator"] == "LayerNormalization");
    norms.map(|n| (text(n, "node"), text(n, "type"), n["fused_from"].as_u64().unwrap())).collect()
}

fn rules(project: &Project, model: &str) -> Output {
    project.run(&["--format", "json", "rules", model])
}

#[test]
fn the_norms_of_real_models_become_one_node_each() {
    let fused = "precision = \"fp16\"\nfuse = [\"layer-norm\"]\n";
    let project = project(&magika(&format!("{fused}opset = \">=17\"")));
    project.run(&["plan", "--fetch"]).expect(0);
    let found = rules(&project, "magika");
    let norms = norms(found.expect(0));
    assert_eq!(norms.len(), 2, "{norms:#?}");
    assert!(norms.iter().all(|(name, of, parts)| {
        name.contains("/LayerNorm_") && name.ends_with("/LayerNormalization") && of == "fp32" && *parts > 10
    }));
    project.run(&["rules", "magika"]).expect(0).says(&["\"layer-norm\" of std-fp16; fused from 1"]);
    project.run(&["apply"]).expect(0);
    assert_eq!(project.planned(), ["magika@a: up-to-date"]);
    // Without it, the requirement does not hold, and the error says what would make it hold.
    project.manifest(&magika("precision = \"fp16\"\nopset = \">=17\""));
    let plan = project.run(&["plan"]);
    plan.expect(3).says(&["error[opset]", "`fuse = [\"layer-norm\"]` raises the opset to 17"]);
    project.manifest(&magika(&format!("{fused}opset = \"<=16\"")));
    project.run(&["plan"]).expect(3).says(&["error[opset]", "which `fuse` raises to 17", "leave `fuse` out"]);
    // And it is in the key.
    project.manifest(&magika("precision = \"fp16\""));
    let why = project.why("magika@a");
    assert!(why.iter().any(|reason| reason.starts_with("fuse: ")), "{why:#?}");
}

/// A project with one small model that holds a norm of opset 13.
fn small(keys: &str) -> Project {
    let project =
        project(&format!("[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\n{keys}"));
    project.write("m.onnx", models::norm(13));
    project
}

#[test]
fn every_precision_can_be_fused() {
    for (precision, of) in [("as-is", "fp32"), ("fp32", "fp32"), ("fp16", "fp32"), ("bf16", "fp32")] {
        let project = small(&format!("precision = \"{precision}\"\nfuse = [\"layer-norm\"]\n"));
        let found = rules(&project, "m");
        let told = norms(found.expect(0));
        assert_eq!(told, [("/norm/LayerNormalization".to_owned(), of.to_owned(), 9)], "{precision}");
        project.run(&["apply"]).expect(0);
    }
    let project = small("precision = \"fp16\"\nrules = []\nfuse = [\"layer-norm\"]\n");
    assert_eq!(norms(&rules(&project, "m"))[0].1, "fp16");
    project.run(&["check"]).says(&["fp16-norm"]);
}

#[test]
fn what_cannot_be_fused_says_why() {
    let fp16 = "precision = \"fp16\"\nfuse = [\"layer-norm\"]\n";
    let rule = "[[model.m.rule]]\nname = \"division\"\nselect = { op = \"Div\" }\nprecision = \"fp16\"\n";
    let project = small(&format!("{fp16}{rule}"));
    project.run(&["plan"]).expect(3).says(&[
        "error[fuse-conflict]",
        "`/norm/LayerNormalization` is fused from nodes that are given different types",
        "rule `layer-norm` gives fp32 to `/norm/ReduceMean`",
        "rule `division` gives fp16 to `/norm/Div`",
        "m.toml:",
    ]);
    let project = small(fp16);
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["plan"]).expect(3).says(&["error[fuse-no-match]", "this model has none", "fuse = []"]);
    // A norm that is one node already is what was asked for.
    project.write("m.onnx", models::norm(17));
    assert_eq!(norms(rules(&project, "m").expect(0)), [("/norm".to_owned(), "fp32".to_owned(), 0)]);
    // A node that no newer opset has is named.
    project.write("m.onnx", models::norm(6));
    project.run(&["plan"]).expect(3).says(&[
        "error[opset-upgrade]",
        "`Dropout` cannot be raised to opset 7",
        "no `is_test = 1`",
        "raises the model from opset 6 to 17",
        "node `/drop` (Dropout)",
    ]);
}
