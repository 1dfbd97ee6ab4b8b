//! Real models, from real packages, with the real TensorRT-RTX. Packages are fetched once into
//! `target/test-cache`.

use crate::support::{Project, shared_cache};

const MANIFEST: &str = r#"
[model.magika]
source = { package = "magika==1.0.3", file = "magika/models/standard_v3_3/model.onnx" }
targets = ["a"]
[[model.magika.profile]]
name = "default"
dims = { unk__214 = [1, 8, 32] }

[model.nmp]
source = { package = "basic-pitch==0.4.0", file = "basic_pitch/saved_models/icassp_2022/nmp.onnx" }
targets = ["a"]
[[model.nmp.profile]]
name = "default"
dims = { unk__645 = [1, 1, 4] }

[model.silero]
source = { package = "silero-vad==6.2.3", file = "silero_vad/data/silero_vad.onnx" }
targets = ["a"]
"#;

#[test]
fn real_models_build_and_one_that_tensorrt_cannot_is_told() {
    let project = Project::new(MANIFEST);
    let cache = shared_cache();
    let apply = project.run(&["--cache-dir", cache.to_str().unwrap(), "apply"]);
    eprintln!("{}{}", apply.stderr, apply.stdout);
    apply.expect(1);
}
