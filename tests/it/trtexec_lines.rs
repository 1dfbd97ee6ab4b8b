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
