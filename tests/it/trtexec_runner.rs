//! trtexec by way of a runner, from end to end, with a stand-in for docker beside that for trtexec. **No TensorRT is run.**

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::{Output, Project, models, repository, run};
use crate::trtexec::{driver, model, stand_in};

const IMAGE: &str =
    "nvcr.io/nvidia/tensorrt@sha256:f92e64cca947238f501ecd9f4958e30a268ea4f1e0d426f337df8a45faa0ace5";

fn script(project: &Project, path: &str, text: impl AsRef<[u8]>) {
    let program = project.write(path, text);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A project whose TensorRT 10.3 is in an image, and a stand-in for docker in `tools/`.
fn project(keys: &str) -> Project {
    let project = Project::bare();
    driver(&project, "NVIDIA GeForce RTX 3090", 8, 6);
    project.write("models/norm.onnx", models::norm(13));
    let docker = std::fs::read(repository().join("tests/it/support/docker.sh")).unwrap();
    script(&project, "tools/docker", docker);
    stand_in(&project, "tools/box", 100300);
    let runner = format!(
        "runner = [\"docker\", \"run\", \"--gpus\", \"device={{gpu}}\", \"-v\", \"{{work}}:{{work}}\", \"-w\", \"{{work}}\", \"{IMAGE}\"]"
    );
    let manifest = format!(
        "schema = 1\n[toolchain.trt]\nkind = \"trtexec\"\nversion = \"10.3\"\n{runner}\n[target.t]\ngpu = \"RTX 3090\"\ntoolchain = \"trt\"\n"
    );
    project.write("manifests/m.toml", manifest + &model("norm", "\"t\"", keys));
    project
}

fn go(project: &Project, args: &[&str]) -> Output {
    let path = format!("{}:/usr/bin:/bin", project.path("tools").display());
    run(project.command(args).env("LD_LIBRARY_PATH", project.path("driver")).env("PATH", path))
}

fn edit(project: &Project, from: &str, to: &str) {
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    assert!(manifest.contains(from), "{from}");
    project.write("manifests/m.toml", manifest.replace(from, to));
}

#[test]
fn an_image_builds_in_its_container_and_is_known_by_its_digest() {
    let project =
        project("precision = \"fp16\"\nbuild = { plugins = [\"../p/one.so\"], memory-limit = \"2GiB\" }");
    project.write("p/one.so", "1");
    // A plan starts no container, and needs none to be known.
    let bare = |args: &[&str]| run(project.command(args).env("PATH", "/nowhere"));
    bare(&["plan"]).expect(0).says(&["cannot be built here", "its runner `docker` is not in `PATH`"]);
    go(&project, &["plan"]).expect(0).says(&["build"]);
    assert!(!project.exists("tools/calls"));
    bare(&["apply", "--skip-unbuildable"]).expect(0).says(&["1 cannot be built here"]);

    go(&project, &["apply"]).expect(0).says(&["1 of 1 engine ready"]);
    let calls = String::from_utf8(project.read("tools/calls")).unwrap();
    for words in [
        "run --rm --name=enginewright-",
        "--memory=2147483648 --gpus device=GPU-00010203-0405-0607-0809-0a0b0c0d0e0f -v /",
        " trtexec --onnx=model.onnx --saveEngine=engine.plan ",
        "--staticPlugins=./plugin-0-one.so",
    ] {
        assert!(calls.contains(words), "{words}: {calls}");
    }
    let environment = String::from_utf8(project.read("tools/environment")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("LD_LIBRARY_PATH"), "{environment}");
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/norm/t.json")).unwrap();
    assert_eq!(sidecar["runtime"], "TensorRT 10.3");
    go(&project, &["apply"]).expect(0).says(&["nothing to do"]);
    bare(&["plan"]).expect(0).says(&["nothing to do"]);
    let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
    assert!(lock.contains(&format!("= \"{}\"", &IMAGE[IMAGE.len() - 64..])), "{lock}");
    let provenance = go(&project, &["export", "provenance", "norm@t"]).expect(0).json().to_string();
    assert!(provenance.contains(&format!("\"sha256\":\"{}\"", &IMAGE[IMAGE.len() - 64..])), "{provenance}");

    // Another image is another TensorRT; where it is from, and who runs it, is not.
    edit(&project, "nvcr.io/nvidia/tensorrt@", "mirror/tensorrt:24.08@");
    go(&project, &["plan"]).expect(0).says(&["nothing to do"]);
    edit(&project, "f92e64", "f92e65");
    go(&project, &["plan"]).expect(0).says(&["rebuild", "image"]);
    edit(&project, "f92e65", "f92e64");
    edit(&project, "\"-w\"", "\"-e\", \"A=1\", \"-w\"");
    go(&project, &["plan"]).expect(0).says(&["rebuild", "runner"]);
}

#[test]
fn a_container_is_ended_with_its_build() {
    let project = project("build = { timeout = \"1s\" }");
    project.write("tools/box/bin/scenario", "hang");
    go(&project, &["apply"]).expect(1).says(&["error[trtexec-timed-out]", "command.sh"]);
    let calls = String::from_utf8(project.read("tools/calls")).unwrap();
    let name = calls.lines().find_map(|line| line.strip_prefix("kill ")).expect(&calls);
    let pid = String::from_utf8(project.read(&format!("tools/{name}.pid"))).unwrap();
    let status = format!("/proc/{}/status", pid.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ")) {
        assert!(Instant::now() < deadline, "the container goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_runner_does_wrong_is_told() {
    let project = project("");
    // The version is asked of nobody before the build.
    project.write("tools/box/bin/number", "100900");
    go(&project, &["apply"]).expect(1).says(&[
        "error[toolchain-version]",
        "must be version 10.3, and 10.9.0 was found",
        "by the image of its `runner`",
    ]);
    project.write("tools/box/bin/number", "100300");
    project.write("tools/scenario", "absent");
    go(&project, &["apply"]).expect(1).says(&[
        "error[runner-failed]",
        "code 125",
        "pull access denied",
        "command.sh",
    ]);
    let bundle =
        std::fs::read_dir(project.path("cache/v1/failures")).unwrap().last().unwrap().unwrap().path();
    project.write("tools/scenario", "good");
    // What was kept runs again where it lies.
    let path = format!("{}:/usr/bin:/bin", project.path("tools").display());
    let mut again = std::process::Command::new("sh");
    run(again.arg(bundle.join("command.sh")).env("PATH", path)).expect(0).says(&["&&&& PASSED"]);
    assert!(bundle.join("engine.plan").exists());

    edit(&project, "\"-w\", \"{work}\", ", "");
    go(&project, &["plan"]).expect(3).says(&["error[runner]", "no folder to run in", "`\"-w\", \"{work}\"`"]);
    edit(&project, "version = \"10.3\"\n", "version = \"10.3\"\nroot = \"../tools/box\"\n");
    edit(&project, "\"{work}:{work}\"", "\"{work}:{work}\", \"-w\", \"{work}\"");
    go(&project, &["plan"]).expect(3).says(&["error[runner]", "has two TensorRTs"]);
}

#[test]
fn a_wrapper_runs_the_program_of_this_machine() {
    let project = project("");
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    let runner = manifest.lines().find(|line| line.starts_with("runner")).unwrap();
    script(
        &project,
        "tools/wrap.sh",
        "#!/bin/sh\necho \"$1\" > \"$(dirname \"$0\")/wrapped\"; shift; exec \"$@\"\n",
    );
    edit(&project, runner, "root = \"../tools/box\"\nrunner = [\"../tools/wrap.sh\", \"{gpu}\"]");
    go(&project, &["apply"]).expect(0).says(&["1 of 1 engine ready"]);
    assert_eq!(project.read("tools/wrapped"), b"GPU-00010203-0405-0607-0809-0a0b0c0d0e0f\n");
    // It may do anything, so that its content counts.
    script(&project, "tools/wrap.sh", "#!/bin/sh\nshift; exec nice \"$@\"\n");
    go(&project, &["plan"]).expect(0).says(&["rebuild", "runner program"]);
}
