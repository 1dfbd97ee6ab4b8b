//! The command lines of trtexec that manifests come to, for seven versions. Each was held against the option parser of
//! its version; no TensorRT was run.

use crate::support::{Project, models, repository};

const VERSIONS: [&str; 7] = ["8.6.1", "9.3", "10.0", "10.3", "10.9", "10.16", "11.1"];

/// Ten manifests: a name, the file of the model, and the keys of its table.
const MANIFESTS: [(&str, &str, &str); 10] = [
    ("fp32", "mlp.onnx", "precision = \"fp32\""),
    ("fp16", "mlp.onnx", "precision = \"fp16\""),
    (
        "rules",
        "norms.onnx",
        "precision = \"fp16\"\nrule = [{ name = \"head\", select = { node = \"start\" }, precision = \"fp32\" }]",
    ),
    ("bf16", "mlp.onnx", "precision = \"bf16\""),
    ("profile", "dynamic.onnx", "tf32 = true\nprofile = [{ name = \"p\", dims = { batch = [1, 8, 32] } }]"),
    (
        "profiles",
        "dynamic.onnx",
        "profile = [{ name = \"small\", dims = { batch = [1, 1, 4] } }, { name = \"large\", dims = { batch = [4, 16, 64] } }]",
    ),
    (
        "memory",
        "mlp.onnx",
        "build = { workspace = \"1536MiB\", optimization-level = 5, max-aux-streams = 0, sparse-weights = true, tactic-sources = [\"-JIT_CONVOLUTIONS\", \"+EDGE_MASK_CONVOLUTIONS\"] }",
    ),
    (
        "compatible",
        "mlp.onnx",
        "build = { hardware-compatibility = \"ampere-plus\", version-compatible = true, extra-args = [\"--excludeLeanRuntime\"] }",
    ),
    (
        "dla",
        "mlp.onnx",
        "precision = \"fp16\"\nio = { x = { type = \"fp16\" }, y = { type = \"fp16\" } }\nbuild = { dla-core = 0, dla-gpu-fallback = true, input-formats = [\"chw\"], output-formats = [\"chw16+chw\"] }",
    ),
    (
        "plugins",
        "mlp.onnx",
        "build = { plugins = [\"../plugins/one.so\", \"../plugins/two plugins.so\"], refit = true }",
    ),
];

#[test]
fn command_lines_are_those_that_the_parsers_were_shown() {
    let project = Project::bare();
    project.write("models/mlp.onnx", models::mlp(1.0));
    project.write("models/dynamic.onnx", models::dynamic("batch"));
    project.write("models/norms.onnx", models::norm(13));
    project.write("plugins/one.so", "1");
    project.write("plugins/two plugins.so", "2");
    let mut manifest = "schema = 1\n".to_owned();
    for version in VERSIONS {
        manifest += &format!("[toolchain.\"trt-{version}\"]\nkind = \"trtexec\"\nversion = \"{version}\"\n");
        manifest += &format!("[target.\"t-{version}\"]\ngpu = \"RTX 3090\"\ntoolchain = \"trt-{version}\"\n");
    }
    let targets = VERSIONS.map(|version| format!("\"t-{version}\"")).join(", ");
    for (name, file, keys) in MANIFESTS {
        manifest += &format!(
            "[model.{name}]\nsource = {{ path = \"../models/{file}\" }}\ntargets = [{targets}]\n{keys}\n"
        );
    }
    project.write("manifests/m.toml", &manifest);
    for (name, ..) in MANIFESTS {
        let mut found = String::new();
        for version in VERSIONS {
            let output = project.run(&["export", "trtexec", &format!("{name}@t-{version}")]);
            let line = if output.code == 0 { &output.stdout } else { &output.stderr };
            let is_it = |line: &&str| line.starts_with("trtexec ") || line.starts_with("error");
            let line = line.lines().find(is_it).unwrap_or_default();
            found += &format!("{version}: {line}\n");
        }
        let path = repository().join(format!("tests/goldens/trtexec/{name}.txt"));
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, golden, "{}", path.display());
    }
}

/// The command of one engine for a version.
fn line(project: &Project, engine: &str, version: &str) -> String {
    let output = project.run(&["export", "trtexec", engine, "--for", version]);
    output.expect(0);
    output.stdout
}

fn one(model: &[u8], keys: &str) -> Project {
    let project =
        Project::new(&format!("[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\n{keys}\n"));
    project.write("m.onnx", model);
    project
}

#[test]
fn names_that_cannot_be_written_are_changed_in_the_onnx_that_is_passed() {
    let project = one(&models::odd_names(), "precision = \"fp16\"");
    let line = line(&project, "m", "8.6");
    let list = line.split("--layerPrecisions=").nth(1).unwrap().split(":fp32'").next().unwrap();
    let names: Vec<&str> = list.split(":fp32,").collect();
    assert_eq!(
        names,
        ["a_b", "it_s", "x:y", "star_", "with space", "Größe", "node_of_v7", "same", "same#2", "Gemm_1#2"],
        "{line}"
    );
    // They are the names of its nodes.
    let out = project.path("out");
    project.run(&["export", "trtexec", "m", "--for", "8.6", "--out", out.to_str().unwrap()]).expect(0);
    let model = project.read("out/model.onnx");
    for name in names {
        assert!(memchr::memmem::find(&model, name.as_bytes()).is_some(), "{name}");
    }
}

#[test]
fn types_of_the_file_are_allowed_where_nothing_is_asked() {
    let project = one(&models::half(), "");
    let words = line(&project, "m", "8.6");
    assert!(words.contains(" --fp16 ") && !words.contains("--layerPrecisions"), "{words}");
    let words = line(&project, "m", "10.3");
    assert!(words.contains("--stronglyTyped") && !words.contains("--fp16"), "{words}");
}

#[test]
fn a_norm_that_cannot_be_named_is_told() {
    let project = one(&models::norm(17), "precision = \"fp16\"");
    for (version, is_told) in [("8.6", true), ("10.0", false), ("11.0", false)] {
        let output = project.run(&["export", "trtexec", "m", "--for", version]);
        output.expect(0);
        assert_eq!(output.stderr.contains("layer-unnamed"), is_told, "{version}: {}", output.stderr);
        assert!(!output.stdout.contains("/norm:fp32"), "{}", output.stdout);
    }
    // Computing in FP32 is all that it can be held to; a rule about what it gives is another matter.
    let rule =
        "precision = \"fp16\"\nrule = [{ name = \"r\", select = { tensor = \"y\" }, precision = \"fp32\" }]";
    let project = one(&models::norm(17), rule);
    for (version, code) in [("8.6", 3), ("9.3", 3), ("10.0", 0)] {
        let output = project.run(&["export", "trtexec", "m", "--for", version]);
        output.expect(code);
        let says = "error[layer-outputs]: a rule wants what `/norm` gives in FP32";
        assert_eq!(output.stderr.contains(says), code == 3, "{}", output.stderr);
    }
    let project = one(&models::norm(17), "precision = \"fp16\"\nbuild = { typing = \"weak\" }");
    assert!(line(&project, "m", "10.3").contains("--layerPrecisions=/norm:fp32"));
}

#[test]
fn what_a_version_does_not_have_is_refused_with_since_when() {
    for (keys, version, said) in [
        ("build = { typing = \"weak\" }", "11.0", "types are in the ONNX"),
        ("build = { typing = \"strong\" }", "8.6", "it is there from 9.0"),
        ("build = { strip-weights = true }", "9.3", "it is there from 10.0"),
        ("build = { distributive-independence = true }", "10.9", "it is there from 10.12"),
        ("build = { tiling = \"fast\" }", "10.3", "it is there from 10.8"),
        ("build = { hardware-compatibility = \"same-compute-capability\" }", "10.3", "it is there from 10.9"),
        ("build = { tactic-sources = [\"+CUDNN\"] }", "11.1", "gone in 11.0"),
        ("build = { input-formats = [\"hwc16\"] }", "10.3", "it is there from 10.10"),
        ("build = { extra-args = [\"--fp17\"] }", "10.3", "trtexec has no option `--fp17`"),
        ("build = { extra-args = [\"--best\"] }", "11.1", "before 11.0"),
        ("build = { extra-args = [\"--noTF32\"] }", "10.3", "given twice"),
        ("build = { extra-args = [\"--saveEngine=x\"] }", "10.3", "given by the program itself"),
        ("build = { extra-args = [\"--plugins=/p.so\"] }", "10.3", "is a key of its own"),
        ("build = { extra-args = [\"--calib=table.txt\"] }", "10.3", "is no whole path"),
        ("build = { strict-nans = true }", "10.3", "has no `strict-nans`"),
        ("precision = \"bf16\"", "8.6", "does not take BF16"),
    ] {
        let project = one(&models::mlp(1.0), keys);
        project.run(&["export", "trtexec", "m", "--for", version]).expect(3).says(&[said]);
    }
    let project = one(&models::mlp(1.0), "build = { dla-core = 0 }");
    project
        .run(&["plan"])
        .expect(3)
        .says(&["error[option-unsupported]", "toolchain `rtx` has no `dla-core`"]);
    project.run(&["export", "trtexec", "m", "--for", "7.2"]).expect(64).says(&["from 8.6 to 11"]);
}
