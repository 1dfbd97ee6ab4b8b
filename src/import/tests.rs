//! Command lines to manifests, as text.

use std::path::Path;
use std::sync::Arc;

use super::{Model, Place, Read, Variables, Wishes, read, tell_apart, write};
use crate::diagnostic::{Diagnostic, Level, SourceFile};
use crate::manifest;
use crate::onnx;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::testing;

/// What came of a text.
struct Imported {
    manifest: Option<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Imported {
    fn manifest(&self) -> &str {
        self.manifest.as_deref().unwrap_or_else(|| panic!("{:#?}", self.diagnostics))
    }

    #[track_caller]
    fn has(&self, lines: &[&str]) -> &Imported {
        for line in lines {
            assert!(self.manifest().contains(line), "`{line}` is not in\n{}", self.manifest());
        }
        self
    }

    #[track_caller]
    fn says(&self, level: Level, code: &str, text: &str) -> &Imported {
        let found = self.diagnostics.iter().any(|d| {
            let all = [vec![d.message.clone()], d.notes.clone(), d.help.clone()].concat().join("\n");
            d.level == level && d.code == code && all.contains(text)
        });
        assert!(found, "no {level:?} {code}: {text}\n{:#?}", self.diagnostics);
        self
    }
}

fn wishes(version: &str) -> Wishes {
    let version = (!version.is_empty()).then(|| version.to_owned());
    Wishes { version, gpu: Some("RTX 3090".into()), ..Wishes::default() }
}

fn import_with(text: &str, wishes: &Wishes, model: Option<&Model>) -> Imported {
    let file = Arc::new(SourceFile { path: "<command line>".into(), text: text.to_owned() });
    let Read { runs, mut diagnostics } = match read(&file, Path::new("/work/p"), &Variables::default()) {
        Ok(read) => read,
        Err(diagnostics) => return Imported { manifest: None, diagnostics },
    };
    let mut drafts = Vec::new();
    for run in runs {
        let (draft, said) = run.draft(wishes, model);
        drafts.extend(draft);
        diagnostics.extend(said);
    }
    if diagnostics.iter().any(|d| d.level == Level::Error) {
        return Imported { manifest: None, diagnostics };
    }
    tell_apart(&mut drafts);
    let text = write(&drafts, Place { folder: Path::new("/work/p/manifests"), beside: None });
    let file = Arc::new(SourceFile { path: "/work/p/manifests/m.toml".into(), text: text.clone() });
    let loaded = manifest::read_alone(Path::new("/work/p"), &file);
    assert!(loaded.manifest.is_some(), "{text}\n{:#?}", loaded.diagnostics);
    Imported { manifest: Some(text), diagnostics }
}

fn import(text: &str, version: &str) -> Imported {
    import_with(text, &wishes(version), None)
}

fn error(text: &str, version: &str, code: &str, says: &str) {
    let imported = import(text, version);
    assert!(imported.manifest.is_none(), "{text}\n{}", imported.manifest());
    imported.says(Level::Error, code, says);
}

/// Three blocks of named nodes, a LayerNormalization, and a node without a name.
fn model() -> Model {
    let node = |name: &str, op: &str, input: &str, output: &str| -> NodeProto {
        testing::node(name, op, &[input], &[output])
    };
    let graph = GraphProto {
        input: vec![testing::value("x", DataType::Float, &["batch".into(), 4.into()])],
        output: vec![testing::value("y", DataType::Float, &["batch".into(), 4.into()])],
        node: vec![
            node("/a/Relu", "Relu", "x", "a"),
            testing::node("/a/norm", "LayerNormalization", &["a", "scale"], &["b"]),
            node("/b/Softmax", "Softmax", "b", "c"),
            node("/b/Exp", "Exp", "c", "d"),
            node("", "Relu", "d", "e"),
            node("head", "Relu", "e", "y"),
        ],
        initializer: vec![testing::weight("scale", &[4])],
        ..GraphProto::default()
    };
    of(&testing::model(17, graph))
}

fn of(proto: &onnx::proto::ModelProto) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    testing::save(proto, &path).unwrap();
    let summary = onnx::canonicalize(&path, folder.path()).unwrap().summary;
    Model::of(&onnx::read(&path).unwrap().model, summary)
}

#[test]
fn a_command_line_becomes_a_manifest() {
    let imported = import(
        "trtexec --onnx=models/Bert.Base.onnx --fp16 --memPoolSize=workspace:2048 --minShapes=ids:1x8,mask:1x8 \\\n \
         --optShapes=ids:8x128,mask:8x128 --maxShapes=ids:32x512,mask:32x512 --builderOptimizationLevel=4 --noTF32",
        "10.3",
    );
    let expected = r#"schema = 1

[toolchain.trt-10-3]
kind = "trtexec"
version = "10.3"

[target.rtx-3090]
gpu = "RTX 3090"
toolchain = "trt-10-3"

# Imported from: trtexec --onnx=models/Bert.Base.onnx --fp16 --memPoolSize=workspace:2048
#   --minShapes=ids:1x8,mask:1x8 --optShapes=ids:8x128,mask:8x128 --maxShapes=ids:32x512,mask:32x512
#   --builderOptimizationLevel=4 --noTF32
# - TensorRT 11 does not take `--fp16` any more; this manifest says it for TensorRT 11 too; there the types are
#   put into the ONNX, and only the toolchain is another
[model."bert.base"]
source = { path = "../models/Bert.Base.onnx" }
targets = ["rtx-3090"]
precision = "fp16"
rules = []
tf32 = false

[[model."bert.base".profile]]
name = "default"
shapes.ids = { min = [1, 8], opt = [8, 128], max = [32, 512] }
shapes.mask = { min = [1, 8], opt = [8, 128], max = [32, 512] }

[model."bert.base".build]
typing = "weak"
workspace = "2GiB"
optimization-level = 4
"#;
    assert_eq!(imported.manifest(), expected);
}

#[test]
fn typing_follows_version_and_options() {
    for (options, version, expected) in [
        ("", "8.6", "precision = \"as-is\"\ntf32 = true\n\n[model.m.build]\nworkspace = \"max\"\n"),
        ("", "10.3", "typing = \"weak\""),
        ("--stronglyTyped", "10.3", "\n\n[model.m.build]\nworkspace"),
        ("--stronglyTyped", "9.3", "typing = \"strong\""),
        ("", "11.1", "\n\n[model.m.build]\nworkspace"),
        ("--bf16", "9.3", "precision = \"bf16\"\nrules = []"),
        ("--fp16 --bf16", "10.3", "extra-args = [\"--bf16\"]"),
        ("--best", "10.3", "extra-args = [\"--best\"]"),
        ("--best", "10.3", "precision = \"fp16\""),
        ("--useDLACore=0 --fp16 --allowGPUFallback", "10.3", "dla-gpu-fallback = true\ndla-core = 0\n"),
    ] {
        import(&format!("trtexec --onnx=m.onnx {options}"), version).has(&[expected]);
    }
    let dropped = import("trtexec --onnx=m.onnx --fp16 --stronglyTyped", "10.3");
    dropped.has(&["precision = \"as-is\""]).says(Level::Warning, "import-ignored", "drops `--fp16`");
}

#[test]
fn builder_options_have_keys() {
    for (options, version, lines) in [
        ("--workspace=512", "8.6", &["workspace = \"512MiB\""][..]),
        ("--memPoolSize=workspace:1.5G", "10.3", &["workspace = \"1536MiB\""]),
        ("--maxAuxStreams=2 --sparsity=enable", "10.3", &["max-aux-streams = 2", "sparse-weights = true"]),
        (
            "--vc --stripWeights --refit",
            "10.3",
            &["version-compatible = true", "strip-weights = true", "refit = true"],
        ),
        ("--stripAllWeights", "10.3", &["strip-weights = true\nrefit = true"]),
        ("--hardwareCompatibilityLevel=ampere+", "8.6", &["hardware-compatibility = \"ampere-plus\""]),
        ("--profilingVerbosity=detailed", "8.6", &["profiling = \"detailed\""]),
        ("--tacticSources=-cublas,+CUDNN", "8.6", &["tactic-sources = [\"-CUBLAS\", \"+CUDNN\"]"]),
        ("--tilingOptimizationLevel=2", "10.9", &["tiling = \"moderate\""]),
        (
            "--plugins=lib/a.so --staticPlugins=/b.so",
            "10.3",
            &["plugins = [\"/work/p/lib/a.so\", \"/b.so\"]"],
        ),
        ("--avgTiming=8 --directIO", "10.3", &["extra-args = [\"--avgTiming=8\", \"--directIO\"]"]),
        ("--inputIOFormats=fp16:chw16", "10.3", &["extra-args = [\"--inputIOFormats=fp16:chw16\"]"]),
    ] {
        import(&format!("trtexec --onnx=m.onnx {options}"), version).has(lines);
    }
    let timed = import("timeout -k 5 30m trtexec --onnx=m.onnx", "10.3");
    timed.has(&["timeout = \"1800s\""]);
}

#[test]
fn profiles_are_filled_in_as_trtexec_does() {
    let some = |options: &str, version: &str| import(&format!("trtexec --onnx=m.onnx {options}"), version);
    some("--optShapes=x:1x3", "8.6").has(&["shapes.x = [1, 3]\n"]);
    some("--shapes=x:1x3", "10.3").has(&["shapes.x = [1, 3]\n"]);
    some("--minShapes=x:1x3 --maxShapes=x:4x3", "10.3")
        .has(&["shapes.x = { min = [1, 3], opt = [4, 3], max = [4, 3] }"])
        .says(Level::Warning, "import-ignored", "the optimum is not given");
    some("--optShapes=x:2x3 --shapes=x:4x3,y:1", "10.3").has(&["shapes.x = [2, 3]", "shapes.y = [1]"]).says(
        Level::Note,
        "import-no-meaning",
        "`--shapes` of `x`",
    );
    let two = "--profile=1 --minShapes=x:1 --optShapes=x:8 --maxShapes=x:8 --profile=0 --optShapes=x:1";
    some(two, "10.3")
        .has(&["name = \"0\"\nshapes.x = [1]", "name = \"1\"\nshapes.x = { min = [1], opt = [8]"]);
    for (options, says) in [
        ("--optShapes=x:1 --optShapes=x:2", "is given twice"),
        ("--minShapes=x:4 --optShapes=x:2 --maxShapes=x:8", "not minimum <= optimum"),
        ("--minShapes=x:4 --optShapes=x:4x1 --maxShapes=x:8", "different numbers of dimensions"),
        ("--minShapes=x:4 --optShapes=y:4 --maxShapes=x:8", "has not all of"),
        ("--profile=0 --fp16 --optShapes=x:2", "no shapes follow"),
        ("--profile=1 --optShapes=x:2", "profile 0 is missing"),
        ("--profile=0 --optShapes=x:2 --profile=0 --optShapes=x:2", "given twice"),
    ] {
        error(&format!("trtexec --onnx=m.onnx {options}"), "10.3", "import-conflict", says);
    }
    error("trtexec --onnx=m.onnx --profile=0 --optShapes=x:2", "8.6", "import-option", "it exists from 9.0");
    error("trtexec --onnx=m.onnx --optShapes=x", "10.3", "import-value", "is written `NAME:1x3x224x224`");
}

#[test]
fn shapes_are_held_against_the_model() {
    let model = model();
    let import = |options: &str, version: &str| {
        import_with(&format!("trtexec --onnx=m.onnx {options}"), &wishes(version), Some(&model))
    };
    import("--optShapes=x:8x4", "10.3").has(&["shapes.x = [8, 4]"]);
    import("", "10.3").has(&["shapes.x = [1, 4]"]).says(
        Level::Warning,
        "import-ignored",
        "builds for 1x4 alone",
    );
    import("--optShapes=*:8x4", "10.3").has(&["shapes.x = [8, 4]"]);
    import("--optShapes=*:8x4", "8.6").says(Level::Error, "import-value", "no input `*`");
    import("--optShapes=X:8x4", "10.3").says(Level::Error, "import-value", "did you mean `x`?");
    import("--optShapes=x:8x5", "10.3").says(Level::Error, "import-conflict", "float[batch, 4]");
}

#[test]
fn names_of_layers_are_held_against_the_model() {
    let model = model();
    let obey = "trtexec --onnx=m.onnx --optShapes=x:1x4 --fp16 --precisionConstraints=obey";
    let import = |names: &str, version: &str| {
        let text = format!("{obey} --layerPrecisions={names} --layerOutputTypes={names}");
        import_with(&text, &wishes(version), Some(&model))
    };
    let exact = import("/b/Softmax:fp32,head:fp32", "10.3");
    exact.has(&["select.node = [\n    \"/b/Softmax\",\n    \"head\",\n]\nprecision = \"fp32\""]);
    let wild = import("/b/*:fp32,/b/Exp:fp16", "10.3");
    wild.has(&[
        "select = { node = \"/b/*\" }\nprecision = \"fp32\"",
        "select = { node = \"/b/Exp\" }\nprecision = \"fp16\"",
    ]);
    wild.says(Level::Note, "import-ignored", "hits 1 node in TensorRT 10.3.0: `/b/Softmax`");
    // The LayerNormalization has no name up to 10.0, so that the glob would select more than the name hits.
    let old = import("/a/*:fp32", "10.0");
    old.has(&["select = { node = \"/a/Relu\" }"]);
    let norm = import("/a/norm:fp32", "10.0");
    norm.says(Level::Warning, "import-ignored", "made-up name");
    assert!(!norm.manifest().contains("rule]]"));
    import("/a/norm:fp32", "10.1").has(&["select = { node = \"/a/norm\" }"]);
    import("/b/*:fp32", "8.6").says(Level::Warning, "import-ignored", "only `*` alone");
    import("Softmax:fp32", "10.3").says(
        Level::Warning,
        "import-ignored",
        "nodes that have it in their names are `/b/Softmax`",
    );
    import("layernormalization:fp32", "10.3").says(Level::Warning, "import-ignored", "select = { op =");
    import("/b/Softmex:fp32", "10.3").says(
        Level::Warning,
        "import-ignored",
        "the nearest name is `/b/Softmax`",
    );
    import("/b/*:fp32,*Exp:fp16", "10.3").says(
        Level::Error,
        "import-conflict",
        "which one wins is not defined",
    );
    import("head:int8", "10.3").says(Level::Error, "import-lossy", "fp32, fp16 and bf16");
    import("head:fp32x", "10.3").says(Level::Error, "import-value", "is no type");
    import("head:bf16", "8.6").says(Level::Error, "import-value", "exists from 9.0.0 on");
    import("a,b:fp32", "10.3").says(Level::Error, "import-value", "comma");
    import("/b/*:fp16", "10.3").says(Level::Warning, "import-ignored", "becomes fp32");
}

#[test]
fn without_the_model_names_are_taken_as_they_are() {
    let import = |names: &str, version: &str| {
        let obey = "trtexec --onnx=m.onnx --fp16 --precisionConstraints=obey";
        import(&format!("{obey} --layerPrecisions={names} --layerOutputTypes={names}"), version)
    };
    let plain = import("/a[0]/Softmax:fp32,*Exp:fp32", "10.3");
    plain.says(Level::Warning, "import-model", "could not be checked");
    plain.has(&["node = \"*Exp\"", "node = \"/a[[]0[]]/Softmax\""]);
    let never = import("*Softmax*:fp32", "10.3");
    never.says(Level::Warning, "import-ignored", "may have one `*`");
    assert!(!never.manifest().contains("rule]]"));
    import("*Softmax:fp32", "8.6").says(Level::Warning, "import-ignored", "only `*` alone");
    import("*:fp32", "8.6").has(&["node = \"*\""]);
}

#[test]
fn what_is_gone_in_11_is_said_with_what_is_in_its_place() {
    let imported = import("trtexec --onnx=m.onnx --fp16 --int8 --calib=c --workspace=64 --buildOnly", "8.6");
    imported.says(Level::Note, "import-gone", "`--fp16`, `--workspace` any more; this manifest says it");
    imported.says(Level::Note, "import-gone", "QuantizeLinear in the ONNX");
    assert!(!imported.manifest().contains("`--buildOnly` any more"));
}

#[test]
fn pins_that_do_nothing_are_said() {
    let model = model();
    let import = |text: &str| {
        import_with(&format!("trtexec --onnx=m.onnx --optShapes=x:1x4 {text}"), &wishes("10.3"), Some(&model))
    };
    let free = import("--fp16 --layerPrecisions=head:fp32 --layerOutputTypes=head:fp32");
    free.says(Level::Warning, "import-ignored", "has no effect, in silence");
    free.has(&["# [[model.m.rule]]\n# name = \"these layers are fp32\"\n# select = { node = \"head\" }\n"]);
    import("--fp16 --precisionConstraints=obey").says(
        Level::Warning,
        "import-ignored",
        "has no effect without",
    );
    let half = import("--fp16 --precisionConstraints=prefer --layerPrecisions=head:fp32");
    half.says(Level::Warning, "import-stricter", "such a build fails");
    half.says(Level::Warning, "import-stricter", "does not name `head`");
    import("--precisionConstraints=obey --layerPrecisions=head:fp32").says(
        Level::Warning,
        "import-ignored",
        "all layers are FP32",
    );
    import("--precisionConstraints=obey --layerPrecisions=head:fp16").says(
        Level::Error,
        "import-conflict",
        "needs `--fp16`",
    );
    let two = "--fp16 --precisionConstraints=obey --layerPrecisions=head:fp16 --layerOutputTypes=head:fp32";
    import(two).says(Level::Error, "import-lossy", "`--lossy` leaves it out");
}

#[test]
fn int8_is_passed_on_and_said() {
    let with = import("trtexec --onnx=m.onnx --int8 --calib=c.cache --fp16", "8.6");
    with.has(&["precision = \"fp16\"", "extra-args = [\"--int8\", \"--calib=/work/p/c.cache\"]"]).says(
        Level::Note,
        "import-verbatim",
        "which nodes are INT8",
    );
    let made_up =
        import_with("trtexec --onnx=m.onnx --int8 --optShapes=x:1x4", &wishes("10.3"), Some(&model()));
    made_up.says(Level::Warning, "import-verbatim", "outputs mean nothing");
    import("trtexec --onnx=m.onnx --calib=c", "8.6").says(
        Level::Warning,
        "import-ignored",
        "without `--int8`",
    );
    error("trtexec --onnx=m.onnx --int8 --fp8", "10.3", "import-conflict", "refuses `--fp8`");
}

#[test]
fn what_has_no_meaning_is_said_once() {
    let text = "CUDA_VISIBLE_DEVICES=1 trtexec --onnx=m.onnx --iterations=5 --avgRuns=3 --useCudaGraph --device=1 --verbose \
                --timingCacheFile=t.cache --explicitBatch --buildOnly --saveEngine=m.engine > log 2>&1";
    let imported = import(text, "8.6");
    for (level, code, says) in [
        (
            Level::Note,
            "import-no-meaning",
            "`--iterations`, `--useCudaGraph`, `--buildOnly` have no meaning here",
        ),
        (Level::Note, "import-no-meaning", "`--avgRuns`, `--verbose` have no meaning here"),
        (Level::Note, "import-no-meaning", "`--device` has no meaning here"),
        (Level::Note, "import-no-meaning", "`--timingCacheFile` has no meaning here"),
        (Level::Note, "import-no-meaning", "`CUDA_VISIBLE_DEVICES` is not passed on"),
        (Level::Note, "import-ignored", "`--explicitBatch` has no effect"),
        (Level::Note, "import-no-meaning", "`> log`, `2>&1`"),
    ] {
        imported.says(level, code, says);
        imported.has(&["# - "]);
    }
    import("NVIDIA_TF32_OVERRIDE=0 trtexec --onnx=m.onnx", "8.6").has(&["tf32 = false"]);
    import("trtexec --onnx=m.onnx --fp16=false", "8.6").says(
        Level::Warning,
        "import-ignored",
        "leave `--fp16` out",
    );
}

#[test]
fn wrong_options_are_errors_that_say_what_is_right() {
    for (text, version, code, says) in [
        ("trtexec --onnx m.onnx", "10.3", "import-value", "write `--onnx=m.onnx`"),
        ("trtexec --onnx=m.onnx --fp17", "10.3", "import-option", "did you mean `--fp16`?"),
        ("trtexec --onnx=m.onnx -fp16", "10.3", "import-option", "did you mean `--fp16`?"),
        ("trtexec --onnx=m.onnx fp16", "10.3", "import-option", "`fp16` is no option"),
        ("trtexec --onnx=m.onnx --fp16", "11.1", "import-option", "FP16 types in the ONNX took its place"),
        ("trtexec --onnx=m.onnx --stripWeights", "8.6", "import-option", "it exists from 10.0"),
        ("trtexec --onnx=m.onnx --fp16 --fp16", "10.3", "import-conflict", "given twice"),
        ("trtexec --onnx=m.onnx --vc --versionCompatible", "10.3", "import-conflict", "given twice"),
        ("trtexec --onnx=m.onnx --batch=4", "8.6", "import-conflict", "refuses `--batch`"),
        (
            "trtexec --onnx=m.onnx --loadEngine=e --saveEngine=f",
            "8.6",
            "import-program",
            "together with `--saveEngine`",
        ),
        ("trtexec --loadEngine=e", "8.6", "import-program", "builds none"),
        ("trtexec --help", "8.6", "import-program", "prints the help"),
        ("trtexec --fp16", "8.6", "import-program", "names no ONNX model"),
        ("trtexec --uff=m.uff", "8.6", "import-lossy", "UFF"),
        ("trtexec --onnx=m.onnx --safe", "8.6", "not-yet", "safety"),
        ("trtexec --onnx=m.onnx --sparsity=force", "8.6", "import-lossy", "for timing alone"),
        ("trtexec --onnx=m.onnx --tacticSources=CUDNN", "8.6", "import-value", "no `+` or `-`"),
        (
            "trtexec --onnx=m.onnx --tacticSources=+CUDNN,-cudnn",
            "8.6",
            "import-conflict",
            "turned on and off",
        ),
        ("trtexec --onnx=m.onnx --tacticSources=+CUDNN", "11.1", "import-value", "before 11.0.0"),
        ("trtexec --onnx=m.onnx --builderOptimizationLevel=6", "8.6", "import-value", "0 to 5"),
        ("trtexec --onnx=m.onnx --maxAuxStreams=two", "8.6", "import-value", "is no number"),
        ("trtexec --onnx=m.onnx --hardwareCompatibilityLevel=turing", "8.6", "import-value", "`ampere+`"),
        ("trtexec --onnx=m.onnx --memPoolSize=workspace:4X", "10.3", "import-value", "is no unit"),
        ("trtexec --onnx=m.onnx --memPoolSize=dla:4", "10.3", "import-value", "no memory pool `dla`"),
        (
            "trtexec --onnx=m.onnx --buildDLAStandalone --allowGPUFallback",
            "8.6",
            "import-conflict",
            "refuses",
        ),
        ("trtexec --onnx=m.onnx --useRuntime=lean", "8.6", "import-conflict", "--useRuntime=full"),
        ("trtexec --onnx=m.onnx --inputIOFormats=chw", "10.3", "import-value", "no list of formats"),
        ("trtexec --onnx=m.onnx --buildOnly --stripWeights", "", "import-version", "no version of TensorRT"),
        ("trtexec --onnx=m.onnx", "7.2", "import-version", "not known"),
        ("trtexec --onnx=m.onnx", "ten", "import-version", "no version"),
        ("trtexec --onnx=模型.onnx", "10.3", "import-name", "--name"),
        ("polygraphy convert m.onnx --fp16 -o e", "", "import-program", "`polygraphy`"),
        ("onnx2trt m.onnx -o e", "", "import-program", "`onnx2trt`"),
        ("echo hello", "", "import-program", "no command"),
        ("ls -l foo", "", "import-program", "no command"),
        ("python export.py", "", "import-program", "no `trtexec`"),
        ("", "", "import-program", "no command"),
        ("ssh gpu1 trtexec --onnx=m.onnx", "", "not-yet", "another machine"),
        ("docker build .", "", "import-program", "runs no trtexec"),
        (
            "docker run nvcr.io/nvidia/tensorrt:24.08-py3 trtexec --onnx=/m.onnx",
            "",
            "import-lossy",
            "in the container",
        ),
        ("bash build.sh", "", "import-shell", "bash -x"),
        ("trtexec --onnx=m.on\0nx", "10.3", "import-shell", "NUL character"),
    ] {
        error(text, version, code, says);
    }
}

#[test]
fn the_version_is_found_where_it_is_told() {
    for (text, version) in [
        (
            "/opt/TensorRT-8.6.1.6/bin/trtexec --onnx=m.onnx",
            "version = \"8.6.1\"\nroot = \"/opt/TensorRT-8.6.1.6\"\n",
        ),
        ("LD_LIBRARY_PATH=/x/TensorRT-10.3.0.26/lib trtexec --onnx=m.onnx", "version = \"10.3.0\"\n\n"),
        ("trtexec --onnx=m.onnx --buildOnly", "version = \"8.6\""),
        ("trtexec --onnx=m.onnx --bf16 --heuristic", "version = \"9.3\""),
        ("trtexec --onnx=m.onnx --fp16", "version = \"10.16\""),
        ("trtexec --onnx=m.onnx", "version = \"11.1\""),
        ("--onnx=m.onnx --fp16", "version = \"10.16\""),
    ] {
        import(text, "").has(&[version]);
    }
    let log = "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=/m.onnx\n[I] Selected Device: NVIDIA A10\n";
    let wishes = Wishes { gpu: None, ..wishes("") };
    import_with(log, &wishes, None).has(&["version = \"10.3.0\"", "gpu = \"A10\"", "path = \"/m.onnx\""]);
    error(log, "8.6", "import-conflict", "leave `--version` out");
}

#[test]
fn containers_become_runners() {
    let text = "sudo docker run --gpus all -it --rm -v /data/models:/models -v $PWD:/ws -w /ws --shm-size=1g -e A=1 \
                nvcr.io/nvidia/tensorrt:24.08-py3 bash -c 'cd sub && trtexec --onnx=/models/m.onnx --fp16'";
    let imported = import(text, "");
    imported.has(&[
        "version = \"10.3.0\"",
        "runner = [\"docker\", \"run\", \"-v\", \"/data/models:/models\",",
        "\"--gpus\", \"device={gpu}\", \"-v\", \"{work}:{work}\", \"-w\", \"{work}\", \"nvcr.io/nvidia/tensorrt:24.08-py3\"]",
        "source = { path = \"/data/models/m.onnx\" }",
    ]);
    imported.says(Level::Warning, "import-runner", "name no digest");
    let short = import(
        "docker run -dit -v/data:/d -w/d --shm-size 1g img /opt/trt/bin/trtexec --onnx=m.onnx",
        "10.3",
    );
    short.has(&[
        "runner = [\"docker\", \"run\", \"-v/data:/d\", \"--shm-size\", \"1g\", \"--gpus\",",
        "\"img\", \"/opt/trt/bin/trtexec\"]",
        "path = \"/data/m.onnx\"",
    ]);
    let pinned = format!(
        "docker run -v /t:/t img@sha256:{} trtexec --onnx=/t/m.onnx --int8 --calib=/t/c",
        "0a".repeat(32)
    );
    let pinned = import(&pinned, "10.3");
    assert!(!pinned.diagnostics.iter().any(|d| d.code == "import-runner"), "{:?}", pinned.diagnostics);
    let here = import("docker run -v $(pwd):/ws -w /ws img trtexec --onnx=a/m.onnx", "10.3");
    here.has(&["source = { path = \"../a/m.onnx\" }"]);
}

#[test]
fn hostile_values_are_told() {
    for value in ["nan", "inf", "-inf", "1e999"] {
        error(&format!("trtexec --onnx=m.onnx --workspace={value}"), "8.6", "import-value", "");
    }
    error("trtexec --onnx=m.onnx --workspace=-5", "8.6", "import-value", "");
    // What TOML takes in no comment.
    let odd = import("trtexec --onnx='m\u{1}\u{1b}[31m.onnx' --fp16", "10.3");
    let manifest = odd.manifest();
    assert!(manifest.lines().all(|line| !line.contains(['\u{1}', '\u{1b}'])), "{manifest:?}");
    // A text that runs itself.
    let text = "bash -c \"$A\"";
    let file = Arc::new(SourceFile { path: "c".into(), text: text.into() });
    let variables = Variables { known: [("A".into(), text.into())].into(), home: None };
    let errors = read(&file, Path::new("/w"), &variables).unwrap_err();
    assert!(errors[0].message.contains("again and again"), "{errors:?}");
}

#[test]
fn several_commands_are_several_models() {
    let text = "set -e\nM=bert\npython export.py && trtexec --onnx=$M.onnx --saveEngine=a.engine --fp16\n\
                trtexec --onnx=$M.onnx --saveEngine=b.engine; trtexec --loadEngine=a.engine";
    let imported = import(text, "10.3");
    imported.has(&["[model.bert]", "[model.bert-2]"]);
    imported.says(Level::Note, "import-no-meaning", "`python export.py` is not imported");
    assert_eq!(imported.manifest().matches("[toolchain.").count(), 1);
    assert_eq!(imported.manifest().matches("[target.").count(), 1);
}
