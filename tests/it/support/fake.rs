//! Projects whose engines are bytes: the program of `benches/fake.rs`, which is the real one but for TensorRT.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{Output, PROGRAM, Project, models, run};

/// Targets of the projects here.
pub(crate) const TARGETS: [&str; 2] = ["a", "b"];

/// The program with a worker that makes bytes instead of engines.
pub(crate) fn program() -> &'static Path {
    static FAKE: OnceLock<PathBuf> = OnceLock::new();
    FAKE.get_or_init(|| {
        let real = Path::new(PROGRAM);
        let fake = real.with_file_name("examples").join("bench-fake");
        let age = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
        // `cargo test` makes both; `cargo test --test it` makes only one.
        if age(&fake) < age(real).max(age(&super::repository().join("benches/fake.rs"))) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--locked", "--example", "bench-fake"]).current_dir(super::repository());
            if real.components().any(|c| c.as_os_str() == "release") {
                cargo.arg("--release");
            }
            assert!(
                cargo.stderr(Stdio::null()).status().unwrap().success(),
                "the fake worker cannot be built"
            );
        }
        fake
    })
}

/// A project of so many models, `m0`, `m1`, …, each built for both targets, with engines of 64 KiB.
pub(crate) fn project(count: usize) -> Project {
    let project = Project::bare();
    for library in ["libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"] {
        project.write(&format!("toolchain/{library}"), library);
    }
    let mut text = format!(
        "schema = 1\n[toolchain.rtx]\nkind = \"tensorrt-rtx\"\nversion = \"1.7.1.116\"\nroot = \"{}\"\n\
         [target.a]\nsm = \"sm_86\"\ntoolchain = \"rtx\"\n[target.b]\nsm = \"sm_89\"\ntoolchain = \"rtx\"\n\
         [defaults]\ntargets = [\"a\", \"b\"]\n[defaults.build]\nworkspace = \"256MiB\"\n",
        project.path("toolchain").display()
    );
    for n in 0..count {
        set_variant(&project, n, n);
        text += &format!("[model.m{n}]\nsource = {{ path = \"../m{n}.onnx\" }}\n");
    }
    project.write("manifests/m.toml", text);
    project
}

/// Gives a model other weights.
pub(crate) fn set_variant(project: &Project, model: usize, variant: usize) {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let bytes = models::mlp(1.0 + variant as f32);
    // As editors do: never half a file.
    let new = project.write(&format!("m{model}.new"), bytes);
    std::fs::rename(new, project.path(&format!("m{model}.onnx"))).unwrap();
}

/// The program, to be run in this project with this cache.
pub(crate) fn command(project: &Project, cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("--cache-dir").arg(cache).args(args).current_dir(project.root()).stdin(Stdio::null());
    command.env_remove("ENGINEWRIGHT_CACHE").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
    command
}

/// Runs the program in this project, with the project's own cache.
pub(crate) fn run_in(project: &Project, args: &[&str]) -> Output {
    run(&mut command(project, &project.path("cache"), args))
}
