//! The example of the design, whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::model::{
    Fuse, IoType, OpsetRequirement, Precision, Range, Source, ToolchainKind, VerifyInputs,
};
use super::{engine, read};
use crate::gpu::Sm;

const DESIGN: &str = include_str!("../testdata/design.toml");

#[test]
fn the_example_of_the_design_gives_its_engines() {
    let loaded = read(&[("design.toml", DESIGN)]);
    assert_eq!(loaded.diagnostics, []);
    let manifest = loaded.manifest.unwrap();
    let names: Vec<String> = manifest.engines.iter().map(|engine| engine.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "encoder@desktop",
            "encoder@rtx-3090",
            "encoder.fp32@desktop",
            "encoder.fp32@rtx-3090",
            "magika@rtx-3090",
            "remote@rtx-3090"
        ]
    );
    assert_eq!(manifest.toolchains["trt10"].kind, ToolchainKind::Trtexec);
    assert_eq!(manifest.toolchains["trt10"].version.as_deref(), Some("10.3"));
    assert_eq!(manifest.toolchains["trt10"].root.as_deref(), Some("/usr/src/tensorrt".as_ref()));
    assert_eq!(manifest.toolchains["rtx"].version.as_deref(), Some("1.7.1.116"));
    assert_eq!(manifest.targets["desktop"].sms, [Sm(86), Sm(89), Sm(120)]);
    assert_eq!(manifest.targets["rtx-3090"].gpu.as_deref(), Some("RTX 3090"));

    let e = engine(&manifest, "encoder@rtx-3090");
    assert_eq!(e.source, Source::Path { path: "/p/models/encoder.onnx".into() });
    assert_eq!(e.opset, Some(OpsetRequirement { min: 17, max: None }));
    assert_eq!(e.fuse, [Fuse::LayerNorm].into());
    assert_eq!((e.precision, e.tf32), (Precision::Fp16, false));
    assert_eq!(e.rule_sets, ["std-fp16", "ours"]);
    let rules: Vec<_> = e.rules.iter().map(|rule| (rule.name.as_str(), rule.set.as_deref())).collect();
    assert_eq!(rules, [("head stays fp32", Some("ours")), ("scores accumulate in fp32", None)]);
    assert_eq!(e.rules[0].select.node, ["/head/*"]);
    assert_eq!(e.rules[1].select.pattern, ["attention.scores"]);
    assert_eq!((e.rules[1].accumulate, e.rules[1].expect), (Some(Precision::Fp32), Some(3)));
    assert_eq!(e.profiles[0].name, "default");
    assert_eq!(e.profiles[0].dims["seq"], Range { min: 8, opt: 128, max: 512 });
    assert_eq!(e.io, [("input_ids".to_owned(), IoType::Int32)].into());
    assert_eq!((e.build.workspace, e.build.timeout), (4 << 30, Duration::from_secs(1800)));
    let verify = e.verify.as_ref().unwrap();
    let (path, raw) = ("/p/manifests/testdata/encoder".into(), BTreeMap::new());
    assert_eq!(verify.inputs, VerifyInputs::Dir { path, raw });
    assert_eq!((verify.reference.as_str(), verify.require), ("reference", None));
    assert_eq!(verify.tolerance, [("cosine".to_owned(), 0.999), ("max-abs".to_owned(), 1e-2)].into());
    assert_eq!(verify.output_tolerance["logits"], BTreeMap::from([("top-1".to_owned(), 1.0)]));

    // What differs for one target, and for the variant.
    assert_eq!(engine(&manifest, "encoder@desktop").rule_sets, ["std-fp16"]);
    let fp32 = engine(&manifest, "encoder.fp32@rtx-3090");
    assert_eq!((fp32.precision, fp32.name.model_and_variant().as_str()), (Precision::Fp32, "encoder.fp32"));

    let magika = engine(&manifest, "magika@rtx-3090");
    let file = "magika/models/standard_v3_3/model.onnx".to_owned();
    assert_eq!(magika.source, Source::Package { name: "magika".into(), version: "1.0.3".into(), file });
    assert_eq!((magika.precision, magika.rule_sets.len()), (Precision::AsIs, 0));
    let generated = magika.verify.as_ref().map(|verify| verify.inputs.clone()).unwrap();
    let ranges = [("bytes".to_owned(), (0.0, 256.0))].into();
    assert_eq!(generated, VerifyInputs::Generated { seed: 7, samples: 8, ranges, fill: BTreeMap::new() });
    let ones = Range { min: vec![1, 2048], opt: vec![8, 2048], max: vec![32, 2048] };
    assert_eq!(magika.profiles[0].shapes["bytes"], ones);
    assert_eq!(magika.profiles[0].values["size"].opt, [-1, 640]);
    assert!(magika.profiles[0].key_origins.contains_key("bytes"));

    let sha256 = "ab".repeat(32);
    let url = "https://example.com/m.onnx".to_owned();
    assert_eq!(engine(&manifest, "remote@rtx-3090").source, Source::Url { url, sha256 });
}
