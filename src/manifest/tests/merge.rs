//! Layers: which wins, and how values merge.

use std::path::{Path, PathBuf};

use super::super::hazards::HazardLevel;
use super::super::load::Options;
use super::super::model::{BuildOptions, Precision, ToolchainKind, VerifyInputs};
use super::{BASE, engine, read_with_local, valid};

const LAYERS: &str = "
[target.u]
sm = 'sm_89'
[defaults]
targets = ['t', 'u']
build = { epoch = 1, max-aux-streams = 1, tiling = 'fast' }
hazards = { fp16-norm = 'allow', weight-underflow-fp16 = 'deny' }
io = { x = { type = 'fp32' } }
rule = [{ name = 'defaults', select = { op = 'A' }, precision = 'fp32' }]
[[defaults.profile]]
dims = { a = 1 }
[defaults.verify]
inputs = { seed = 1 }
tolerance = { rmse = 1, cosine = 0.5, out = { rmse = 1 } }
[defaults.on.u]
build = { epoch = 2 }
[model.m]
source = { path = 'm.onnx' }
precision = 'fp16'
build = { epoch = 3, max-aux-streams = 3 }
io = { y = { type = 'fp16' } }
rule = [{ name = 'model', select = { op = 'A' }, precision = 'fp32' }]
profile = [{ dims = { b = 1 } }, { dims = { b = 2 } }]
[model.m.verify]
tolerance = { cosine = 0.9, out = { max-abs = 2 } }
[model.m.on.u]
hazards = { fp16-norm = 'deny' }
build = { epoch = 5 }
[model.m.variant.v]
build = { epoch = 4 }
rules = []
[model.m.variant.v.on.u]
build = { epoch = 6 }
[model.m.variant.w]
targets = ['u']
[model.n]
source = { path = 'm.onnx' }
";

#[test]
fn later_layers_win() {
    let manifest = valid(LAYERS);
    let names: Vec<String> = manifest.engines.iter().map(|e| e.name.to_string()).collect();
    assert_eq!(names, ["m@t", "m@u", "m.v@t", "m.v@u", "m.w@u", "n@t", "n@u"]);
    let epochs: Vec<u32> = manifest.engines.iter().map(|e| e.build.epoch).collect();
    assert_eq!(epochs, [3, 5, 4, 6, 5, 1, 2]);
}

#[test]
fn tables_merge_lists_replace_own_rules_append() {
    let manifest = valid(LAYERS);
    let e = engine(&manifest, "m@t");
    assert_eq!((e.build.max_aux_streams, e.build.tiling.name()), (Some(3), "fast"));
    assert_eq!(e.io.keys().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(e.rules.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["defaults", "model"]);
    let profiles: Vec<_> = e.profiles.iter().map(|p| (p.name.as_str(), p.dims["b"].opt)).collect();
    assert_eq!(profiles, [("profile-0", 1), ("profile-1", 2)]);
    let verify = e.verify.as_ref().unwrap();
    assert!(matches!(verify.inputs, VerifyInputs::Generated { seed: 1, samples: 8, .. }));
    assert_eq!((verify.tolerance["rmse"], verify.tolerance["cosine"]), (1.0, 0.9));
    assert_eq!(verify.output_tolerance["out"].len(), 2);
}

#[test]
fn levels_of_hazards_merge_by_code_over_the_built_in_ones() {
    let manifest = valid(LAYERS);
    let level = |name: &str, code: &str| engine(&manifest, name).hazard_level(code).map(HazardLevel::name);
    assert_eq!([level("m@t", "fp16-norm"), level("m@u", "fp16-norm")], [Some("allow"), Some("deny")]);
    assert_eq!(level("m@u", "weight-underflow-fp16"), Some("deny"));
    assert_eq!(level("m@u", "weight-overflow-fp16"), Some("deny"));
    assert_eq!(level("m@u", "weight-underflow-bf16"), Some("warn"));
    assert_eq!(level("m@u", "rule-no-match"), None);
}

#[test]
fn the_table_of_a_model_is_where_its_rules_go() {
    let manifest =
        valid("[model.'a.b']\nsource = { path = 'm.onnx' }\ntargets = ['t']\nvariant = { v = {} }");
    assert_eq!(engine(&manifest, "a.b@t").table, "model.\"a.b\"");
    assert_eq!(engine(&manifest, "a.b.v@t").table, "model.\"a.b\".variant.v");
}

#[test]
fn fp16_has_default_rules_and_others_have_none() {
    let manifest = valid(LAYERS);
    assert_eq!(engine(&manifest, "m@t").rule_sets, ["std-fp16"]);
    assert!(engine(&manifest, "m.v@t").rule_sets.is_empty());
    assert!(engine(&manifest, "n@t").rule_sets.is_empty());
    assert_eq!(engine(&manifest, "n@t").precision, Precision::AsIs);
}

#[test]
fn what_is_not_given_is_the_documented_default() {
    let manifest = valid("[model.m]\nsource = { path = '/abs/./x/../m.onnx' }\ntargets = ['t']");
    let e = engine(&manifest, "m@t");
    assert_eq!(e.build, BuildOptions::default());
    assert_eq!(format!("{:?}", e.source), "Path { path: \"/abs/m.onnx\" }");
    let rtx = &manifest.toolchains[&e.target.toolchain];
    assert_eq!((rtx.kind, rtx.version.as_deref()), (ToolchainKind::TensorrtRtx, Some("1.7.1.116")));
}

#[test]
fn roots_come_from_the_manifest_then_the_local_file_then_the_environment() {
    let trt = "[toolchain.'trt-10.3']\nkind = 'trtexec'\nversion = '10.3'\nroot = 'a'\nrunner = ['x']\n";
    let manifest = format!("{BASE}{trt}");
    let root = |local: &str, env: Option<&str>| {
        let env_roots = env.map(|path| ("TRT_10_3".to_owned(), PathBuf::from(path))).into_iter().collect();
        let loaded = read_with_local(&manifest, local, &Options { env_roots, ..Options::default() });
        let manifest = loaded.manifest.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let toolchain = &manifest.toolchains["trt-10.3"];
        (toolchain.root.clone().unwrap(), toolchain.runner.clone())
    };
    let path = |text: &str| Path::new(text).to_owned();
    assert_eq!(root("", None), (path("/p/manifests/a"), vec!["x".to_owned()]));
    let local = "[toolchain.'trt-10.3']\nroot = 'b'\nrunner = ['y']";
    assert_eq!(root(local, None), (path("/p/b"), vec!["y".to_owned()]));
    assert_eq!(root(local, Some("../c")).0, path("/c"));
}

#[test]
fn the_built_in_toolchain_takes_a_local_root_and_keeps_its_version() {
    let loaded = read_with_local(BASE, "schema = 1\n[toolchain.rtx]\nroot = '/opt/rtx'", &Options::default());
    let rtx = loaded.manifest.unwrap().toolchains["rtx"].clone();
    assert_eq!((rtx.root, rtx.version.as_deref()), (Some("/opt/rtx".into()), Some("1.7.1.116")));
}
