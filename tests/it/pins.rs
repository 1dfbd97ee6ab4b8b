//! What engines show of the nodes that were declared FP32, read from plans of the real TensorRT-RTX.

use serde_json::Value;

use crate::support::models::{self, REAL};
use crate::support::{Output, Project};

/// Codes of all diagnostics of a command's JSON that are about norms.
fn codes(output: &Output) -> Vec<String> {
    let json = output.json();
    let all = json["diagnostics"].as_array().unwrap().iter();
    let codes = all.map(|d| d["code"].as_str().unwrap().to_owned());
    codes.filter(|code| code.contains("norm")).collect()
}

/// The pins of an engine: verdict, node, what shows it.
fn pins(project: &Project, engine: &str) -> Vec<(String, String, String)> {
    let why = project.run(&["--format", "json", "why", engine]).expect(0).json();
    let text = |pin: &Value, key: &str| pin[key].as_str().unwrap().to_owned();
    let pins = why["pins"]["all"].as_array().expect("pins").iter();
    pins.map(|pin| (text(pin, "verdict"), text(pin, "node"), text(pin, "why"))).collect()
}

/// The part of the real models with this name.
fn real(name: &str) -> &'static str {
    let start = REAL.find(&format!("[model.{name}]")).unwrap();
    let length = REAL[start + 1..].find("\n[model.").map_or(REAL.len() - start, |i| i + 2);
    &REAL[start..start + length]
}

#[test]
fn norms_are_proved_and_what_tensorrt_says_of_them_is_told() {
    let variants = |model: &str| {
        format!(
            "{}[model.{model}.variant.half]\nrules = []\n[model.{model}.variant.norms]\nrules = []\n\
             [[model.{model}.variant.norms.rule]]\nname = \"norms\"\nselect = {{ pattern = \"layer-norm\" }}\nprecision = \"fp32\"\n",
            real(model)
        )
    };
    let project = Project::new(&format!(
        "[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\n{}{}",
        variants("magika"),
        variants("ocr-rec")
    ));
    project.share("packages");
    let half = ["magika.half", "ocr-rec.half"];
    let first = project.run(&["--format", "json", "apply", half[0], half[1]]);
    first.expect(0);
    // TensorRT sees the norms of the one, and not those of the other.
    let norms = "fp16-decomposed-norm";
    let told = |output: &Output| {
        let mut codes = codes(output);
        codes.sort();
        codes.dedup();
        codes
    };
    assert_eq!(told(&first), [norms, "layernorm-fp16"]);
    first.says(&["in `ocr-rec.half@a`", "[[model.ocr-rec.variant.half.rule]]"]);
    // A hit says the same.
    for args in [&["apply"][..], &["status"], &["why"]] {
        let args = [&["--format", "json"], args, &["ocr-rec.half"]].concat();
        assert_eq!(told(&project.run(&args)), [norms, "layernorm-fp16"], "{args:?}");
    }
    assert_eq!(told(&project.run(&["--format", "json", "status", half[0]])), [norms]);

    let second = project.run(&["--format", "json", "apply", "magika.norms", "ocr-rec.norms"]);
    assert_eq!(told(second.expect(0)), [""; 0]);
    let magika = pins(&project, "magika.norms@a");
    assert_eq!(magika.len(), 38);
    for (verdict, node, why) in magika.iter().chain(&pins(&project, "ocr-rec.norms@a")) {
        assert_eq!(verdict, "honoured", "{node}: {why}");
    }
    project.run(&["status", "magika.norms"]).says(&["38 honoured, 0 demoted, 0 unknown"]);
    project
        .run(&["why", "magika.norms@a"])
        .says(&["all its arithmetic is float", "nodes in 16 bits, kernels name"]);
}

/// A manifest that pins the node `pinned` of `m.onnx`.
fn pinned(hazards: &str) -> String {
    format!(
        "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\nhazards = {{ {hazards} }}\n\
         [[model.m.rule]]\nname = \"the pin\"\nselect = {{ node = \"pinned\" }}\nprecision = \"fp32\"\n"
    )
}

#[test]
fn a_demoted_pin_is_detected_and_not_published() {
    for op in ["MatMul", "Conv"] {
        let project = Project::new(&pinned("fp32-gemm-demoted = \"warn\""));
        project.write("m.onnx", models::alone(op, false));
        let apply = project.run(&["apply"]);
        apply.expect(1).says(&[
            "error[pin-demoted]",
            &format!("`pinned` ({op}) is declared fp32"),
            "its operands are half and half",
            "m.toml:",
            "declared here",
            "pin-demoted = \"warn\"",
        ]);
        assert!(!project.exists("engines/m"));
        // The build is kept: it is known from then on, and made no second time.
        project.run(&["plan"]).expect(3).says(&["error[pin-demoted]"]);
        project.run(&["status"]).says(&["error", "0 honoured, 1 demoted, 0 unknown"]);
        project.run(&["why", "m@a"]).expect(3).says(&["demoted", "pinned"]);
        project.run(&["apply"]).expect(1).says(&["error[pin-demoted]"]);

        project.manifest(&pinned("fp32-gemm-demoted = \"warn\", pin-demoted = \"warn\""));
        assert_eq!(project.planned(), ["m@a: publish"]);
        project.run(&["apply"]).expect(0).says(&["warning[pin-demoted]", "published  m@a"]);
        project.run(&["status"]).says(&[
            "warning[pin-demoted]",
            "current",
            "0 honoured, 1 demoted, 0 unknown",
        ]);
        // What was published is held to a level that came later.
        project.manifest(&pinned("fp32-gemm-demoted = \"warn\""));
        project.run(&["plan"]).expect(3).says(&["error[pin-demoted]"]);
    }
}

#[test]
fn a_mended_pin_has_float_weights_in_the_engine() {
    // A bias alone does not mend a convolution.
    for (op, widened) in [("MatMul", vec!["bias"]), ("Conv", vec!["bias", "act"])] {
        let project = Project::new(&pinned(""));
        project.write("m.onnx", models::alone(op, true));
        project.run(&["apply"]).expect(0);
        let pins = pins(&project, "m@a");
        let names: Vec<&str> = pins.iter().map(|(_, node, _)| node.as_str()).collect();
        assert_eq!(names, [&["pinned"], &widened[..]].concat(), "{op}");
        let (verdict, _, why) = &pins[0];
        assert_eq!(
            (verdict.as_str(), why.as_str()),
            ("honoured", "its operands are float, the constant ones too"),
            "{op}"
        );
        assert!(pins.iter().all(|(verdict, ..)| verdict == "honoured"), "{op}: {pins:?}");
    }
}

#[test]
fn pins_in_branches_are_proved() {
    let project = Project::new(&pinned("fp32-gemm-demoted = \"warn\", pin-demoted = \"warn\""));
    project.write("m.onnx", models::branches());
    project.run(&["apply"]).expect(0).says(&["warning[pin-demoted]", "`pinned` (Conv)"]);
    let found = pins(&project, "m@a").into_iter().map(|(verdict, node, _)| (node, verdict));
    let found: std::collections::BTreeSet<_> = found.collect();
    let expected = [("pinned", "demoted"), ("soft", "honoured")];
    assert_eq!(found, expected.map(|(node, verdict)| (node.to_owned(), verdict.to_owned())).into());
}

#[test]
fn products_with_a_vector_are_proved() {
    for (mended, expected) in [(false, "demoted"), (true, "honoured")] {
        let project = Project::new(&pinned("fp32-gemm-demoted = \"warn\", pin-demoted = \"warn\""));
        project.write("m.onnx", models::head(mended));
        project.run(&["apply"]).expect(0);
        let (verdict, node, why) = &pins(&project, "m@a")[0];
        assert_eq!((node.as_str(), verdict.as_str()), ("pinned", expected), "{why}");
        assert!(why.contains("mul "), "{why}");
    }
    // Sums in FP32 of products that were rounded before are none.
    let asked = pinned("weight-overflow-fp16 = \"warn\"")
        .replace("precision = \"fp32\"\n", "precision = \"fp16\"\naccumulate = \"fp32\"\n");
    let project = Project::new(&asked);
    project.write("m.onnx", models::head(false));
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["error[pin-demoted]", "is to accumulate in fp32", "mul half"]);
}
