//! Any text as a manifest: errors, or engines whose rules are resolved against a model and whose typed form holds every
//! check.
#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use enginewright::diagnostic::SourceFile;
use enginewright::manifest;
use enginewright::onnx::testing::save;
use enginewright::onnx::testing::transformer::{Norms, Transformer};
use enginewright::onnx::{self, Model};
use enginewright::precision::{self, Capabilities};

/// A small transformer, in its canonical form.
fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("m.onnx"), folder.path().join("canonical"));
        std::fs::create_dir(&out).unwrap();
        save(&Transformer::small(Norms::Decomposed).model(), &path).unwrap();
        let done = onnx::canonicalize(&path, &out).unwrap();
        let bytes = |name: &str| std::fs::read(out.join(name)).unwrap().into();
        let weights = done.has_weights.then(|| bytes(onnx::WEIGHTS_FILE));
        onnx::read_canonical(bytes(onnx::MODEL_FILE), weights).unwrap()
    })
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    // A glob would look through the disk of whoever runs this.
    if text.contains("glob") {
        return;
    }
    let file = Arc::new(SourceFile { path: "/nowhere/manifests/m.toml".into(), text: text.to_owned() });
    let loaded = manifest::read_alone(Path::new("/nowhere"), &file);
    for engine in loaded.manifest.iter().flat_map(|manifest| &manifest.engines).take(3) {
        let Some(spec) = precision::spec(engine, Capabilities::default(), None) else { continue };
        let problems = match precision::prepare(model(), &spec) {
            Ok(prepared) => prepared.problems,
            Err(problems) => problems,
        };
        let broken = problems.iter().find(|problem| problem.code == "precision-internal");
        assert!(broken.is_none(), "{broken:#?}");
    }
});
