//! Models typed by rules, and built by the real TensorRT-RTX.

use serde_json::Value;

use crate::support::models::REAL;
use crate::support::{Output, Project, models};

/// A project with the shared packages and a cache of its own.
fn project(manifest: &str) -> Project {
    let project = Project::new(manifest);
    project.share("packages");
    project
}

/// A project with one model from a file.
fn with_model(bytes: Vec<u8>, model: &str) -> Project {
    let project =
        project(&format!("[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\n{model}"));
    project.write("m.onnx", bytes);
    project
}

/// The codes of all diagnostics of a command's JSON.
fn codes(json: &Value) -> Vec<&str> {
    json["diagnostics"].as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap()).collect()
}

/// Nodes of this type, by name, with the rule that decided.
fn typed<'j>(rules: &'j Value, of: &str) -> Vec<(&'j str, &'j str)> {
    let nodes = rules["models"][0]["nodes"].as_array().unwrap().iter();
    let of = nodes.filter(|node| node["type"] == of);
    of.map(|n| (n["node"].as_str().unwrap(), n["rule"]["name"].as_str().unwrap_or_default())).collect()
}

fn rules(project: &Project, model: &str) -> Output {
    project.run(&["--format", "json", "rules", model])
}

#[test]
fn real_models_build_in_fp16_with_the_default_rules() {
    let project = project(&format!("[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\n{REAL}"));
    project.run(&["apply"]).expect(0).says(&["5 of 5 engines ready"]);
    project.run(&["plan", "--detailed-exitcode"]).expect(0);

    // What stays FP32 does so in the engines too.
    let status = project.run(&["--format", "json", "status"]).json();
    for engine in status["engines"].as_array().unwrap() {
        let (name, proof) = (&engine["engine"], &engine["pins"]);
        assert_eq!((&proof["demoted"], &proof["unknown"]), (&0.into(), &0.into()), "{name}: {proof}");
        assert!(proof["honoured"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(&engine["sidecar"]["pins"], proof, "{name}");
    }

    // The two norms of magika are found in their unusual spelling, and its decomposed Softmax.
    let found = rules(&project, "magika");
    let json = found.expect(0).json();
    let wide = typed(&json, "fp32");
    let norms: Vec<_> = wide.iter().filter(|(_, rule)| *rule == "layer-norm").collect();
    assert_eq!(norms.len(), 38);
    assert!(norms.iter().all(|(node, _)| node.contains("/LayerNorm_0/") || node.contains("/LayerNorm_1/")));
    assert!(wide.iter().all(|(_, rule)| ["layer-norm", "softmax"].contains(rule)), "{wide:#?}");
    let counts = &json["models"][0]["rules"];
    let norm = counts.as_array().unwrap().iter().find(|r| r["rule"]["name"] == "layer-norm").unwrap();
    assert_eq!((&norm["instances"], &norm["rule"]["set"]), (&2.into(), &"std-fp16".into()));

    let json = rules(&project, "ocr-rec").json();
    let norm =
        json["models"][0]["rules"].as_array().unwrap().iter().find(|r| r["rule"]["name"] == "layer-norm");
    assert_eq!(norm.unwrap()["instances"], 5);
    project.run(&["rules", "ocr-rec"]).expect(0).says(&["\"layer-norm\" of std-fp16", "860 nodes: "]);
}

#[test]
fn norms_in_fp16_are_warned_of_until_a_rule_pins_exactly_them() {
    let magika = &REAL[..REAL.find("[model.nmp]").unwrap()];
    let head = "[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = []\n";
    let project = project(&format!("{head}{magika}"));
    let plan = project.run(&["--format", "json", "plan", "--fetch"]);
    let json = plan.expect(0).json();
    assert_eq!(codes(&json), ["fp16-decomposed-norm"], "{json:#}");
    plan.says(&["[[model.magika.rule]]", "2 layer-norms", "LayerNorm_0`", "LayerNorm_1`"]);
    assert_eq!(typed(&rules(&project, "magika").json(), "fp32"), []);

    let own = "[[model.magika.rule]]\nname = \"norms stay fp32\"\nselect = { pattern = \"layer-norm\" }\n\
               precision = \"fp32\"\nexpect = 2\n";
    project.manifest(&format!("{head}{magika}{own}"));
    let plan = project.run(&["--format", "json", "plan"]);
    assert_eq!(codes(&plan.expect(0).json()), [""; 0]);
    let found = rules(&project, "magika").json();
    let wide = typed(&found, "fp32");
    assert_eq!(wide.len(), 38);
    assert!(wide.iter().all(|(node, rule)| node.contains("/LayerNorm_") && *rule == "norms stay fp32"));
    let first = found["models"][0]["nodes"].as_array().unwrap().iter().find(|n| n["type"] == "fp32").unwrap();
    assert_eq!(first["rule"]["file"], "manifests/m.toml");
    assert!(first["rule"]["line"].as_u64().unwrap() > 5);

    project.manifest(&format!("{head}{magika}{}", own.replace("expect = 2", "expect = 3")));
    project.run(&["plan"]).expect(3).says(&["error[rule-expect]", "expects 3 instances", "selects 2"]);
}

#[test]
fn a_weight_that_fp16_cannot_hold_is_refused_with_the_rule_that_mends_it() {
    let project = with_model(models::mlp(2e5), "precision = \"fp16\"\n");
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["error[weight-overflow-fp16]", "`w1` holds -100000", "node `mm1` (MatMul)"]);
    let rule = "[[model.m.rule]]\nname = \"`w1` does not fit into fp16\"\nselect = { node = \"mm1\" }\nprecision = \"fp32\"\n";
    apply.says(&rule.lines().collect::<Vec<_>>());
    assert!(!project.exists("engines/m"));

    project.manifest(&format!(
        "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\n{rule}"
    ));
    project.run(&["apply"]).expect(0);
    let sidecar: Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    // Inputs and outputs keep their types.
    assert!(sidecar["bindings"].as_array().unwrap().iter().all(|b| b["element"] == "float"), "{sidecar:#}");
}

#[test]
fn a_level_is_judged_on_what_was_recorded() {
    let head = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\n";
    let project = with_model(models::mlp(2e5), "precision = \"fp16\"\n");
    let prepared = |project: &Project| {
        let results = std::fs::read_dir(project.path("cache/v1/results/prepare")).unwrap();
        results.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap()).count()
    };
    let apply = project.run(&["apply"]);
    apply
        .expect(1)
        .says(&["error[weight-overflow-fp16]", "`weight-overflow-fp16 = \"warn\"` in `[model.m.hazards]`"]);
    assert_eq!(prepared(&project), 1, "what was found is recorded");

    for (level, code, says) in [("warn", 0, true), ("allow", 0, false), ("deny", 3, true)] {
        project.manifest(&format!("{head}[model.m.hazards]\nweight-overflow-fp16 = \"{level}\"\n"));
        let plan = project.run(&["--format", "json", "plan"]);
        assert_eq!(codes(&plan.expect(code).json()).contains(&"weight-overflow-fp16"), says, "{plan:?}");
        assert_eq!(prepared(&project), 1, "nothing runs again");
        // The engine is the same whatever the level.
        if code == 0 {
            project.run(&["apply"]).expect(0).says(&[if says { "ready in" } else { "nothing to do" }]);
        }
    }
    project.manifest(&format!("{head}[model.m.hazards]\nweight-overflo-fp16 = \"warn\"\n"));
    project.run(&["plan"]).expect(3).says(&["unknown-hazard", "did you mean `weight-overflow-fp16`?"]);
}

#[test]
fn a_pinned_product_is_computed_with_fp32_weights() {
    let rule = "[[model.m.rule]]\nname = \"pin\"\nselect = { node = \"pinned\" }\nprecision = \"fp32\"\n";
    let project = with_model(models::lone_product(), &format!("precision = \"fp16\"\n{rule}"));
    project.run(&["apply"]).expect(0);
    let json = rules(&project, "m").expect(0).json();
    let wide: Vec<_> = typed(&json, "fp32").into_iter().map(|(node, _)| node).collect();
    assert_eq!(wide, ["pinned", "reshape", "bias"]);
    project.run(&["rules", "m"]).says(&["keeps `pinned` FP32: TensorRT computes a lone matrix product"]);
    // The weight is in the engine as it was. In half it would be infinite.
    let engine = project.read("engines/m/a.engine");
    let held = 1e5f32.to_le_bytes();
    assert!(engine.windows(4).any(|bytes| bytes == held), "the engine does not hold 1e5 in FP32");
}

#[test]
fn only_what_a_rule_decides_is_in_the_key() {
    let rule = |name: &str, node: &str| {
        format!(
            "precision = \"fp16\"\n[[model.m.rule]]\nname = \"{name}\"\nselect = {{ node = \"{node}\" }}\nprecision = \"fp32\"\n"
        )
    };
    let head = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n";
    let project = with_model(models::mlp(1.0), &rule("first", "relu"));
    project.run(&["apply"]).expect(0);
    // Another name, another place in the file.
    project.manifest(&format!("\n\n{head}{}", rule("second", "relu")));
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    project.run(&["rules", "m"]).expect(0).says(&["\"second\" manifests/m.toml:"]);
    // Another selector for the same node: typed anew, and not built, since the model is the same.
    project.manifest(&format!("{head}{}", rule("first", "rel*")));
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    // Another node.
    project.manifest(&format!("{head}{}", rule("first", "add2")));
    assert_eq!(project.planned(), ["m@a: rebuild"]);
    let why = project.why("m@a");
    let told = |reason: &String| reason.contains("node = \"relu\" -> fp32 is now node = \"add2\" -> fp32");
    assert!(why.iter().any(told), "{why:#?}");
    // As it is.
    project.manifest(head);
    let why = project.why("m@a");
    assert!(why.iter().any(|r| r == "precision: fp16 is now as-is"), "{why:#?}");
    project.run(&["rules", "m"]).expect(0).says(&["as-is: every node has the types of the file"]);
}

#[test]
fn a_rule_that_selects_nothing_says_what_is_near() {
    let rule = |select: &str| {
        format!(
            "precision = \"fp16\"\n[[model.m.rule]]\nname = \"r\"\nselect = {{ {select} }}\nprecision = \"fp32\"\n"
        )
    };
    let project = with_model(models::mlp(1.0), &rule("node = \"relo\""));
    let plan = project.run(&["plan"]);
    plan.expect(3).says(&[
        "error[rule-no-match]",
        "selects nothing",
        "nearest in the model: `relu`",
        "m.toml:",
    ]);
    project.run(&["rules", "m"]).expect(3).says(&["relu", "error[rule-no-match]"]);

    // A rule of a shared set need not match in every model, but in one.
    let set = "[rules.ours]\nrule = [ { name = \"shared\", select = { op = \"Softmax\" }, precision = \"fp32\" } ]\n";
    let model = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = [\"ours\"]\n";
    project.manifest(&format!("{set}{model}"));
    project.run(&["plan"]).expect(3).says(&["rule `shared` of the set `ours` selects nothing in any model"]);
    project.manifest(&format!("{}{model}", set.replace("Softmax", "Relu")));
    project.run(&["plan"]).expect(0);
}

#[test]
fn what_is_not_done_yet_is_said() {
    let refused = |model: &str, says: &str| {
        let project = with_model(models::mlp(1.0), model);
        project.run(&["plan"]).expect(3).says(&["error[not-yet]", says]);
    };
    let as_is = "[[model.m.rule]]\nname = \"r\"\nselect = { op = \"MatMul\" }\nprecision = \"fp16\"\n";
    refused(as_is, "`precision = \"as-is\"`");
}

#[test]
fn rules_show_tf32_and_accumulators() {
    let pin =
        "[[model.m.rule]]\nname = \"pin\"\nselect = { node = [\"mm1\", \"add1\"] }\nprecision = \"fp32\"\n";
    let project = with_model(models::mlp(1.0), &format!("precision = \"fp16\"\ntf32 = true\n{pin}"));
    let found = project.run(&["rules", "m"]);
    let line = |node: &str| {
        let line = found.stdout.lines().find(|line| line.split_whitespace().next() == Some(node)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(found.expect(0).stdout.contains("ACCUMULATOR"), "{}", found.stdout);
    assert!(
        line("mm1").starts_with("mm1 MatMul fp32 (tf32) fp32 \"pin\" manifests/m.toml:"),
        "{}",
        line("mm1")
    );
    assert!(line("add1").starts_with("add1 Add fp32 - \"pin\""), "{}", line("add1"));
    assert_eq!(line("mm2"), "mm2 MatMul fp16 any the model's precision");
    let json = rules(&project, "m").json();
    let node = &json["models"][0]["nodes"][0];
    assert_eq!((&node["tf32"], &node["accumulator"]), (&true.into(), &"fp32".into()));
}

#[test]
fn a_mask_is_fp32_in_the_engine_and_the_attention_is_one_kernel() {
    let project = with_model(models::masked_attention(-1e9), "precision = \"fp16\"\n");
    let holds = |bytes: &[u8]| project.read("engines/m/a.engine").windows(bytes.len()).any(|w| w == bytes);
    project.run(&["check"]).expect(0).says(&["no problems"]);
    project.run(&["apply"]).expect(0);
    assert!(holds(b"_gemm_mha") && holds(&(-1e9f32).to_le_bytes()));
    project.run(&["rules", "m"]).says(&["the mask `low` of -1e9 goes through it to a Softmax"]);

    // A pin on the products costs that kernel, which is told.
    let pin =
        "[[model.m.rule]]\nname = \"pin\"\nselect = { pattern = \"attention\" }\nprecision = \"fp32\"\n";
    project.manifest(&format!(
        "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\n{pin}"
    ));
    project.run(&["apply"]).expect(0).says(&["warning[attention-unfused]"]);
    assert!(!holds(b"_gemm_mha"));
}
