//! Builds by trtexec, from end to end, with a stand-in: `support/trtexec.sh` acts as trtexec is documented to, and a driver
//! made for the test says which GPU is here. **No TensorRT is run**: what is tested is what we ask of it, and what we make of
//! what it says.

use std::process::Command;

use crate::support::{Output, Project, models, reference_library, repository, rtx_libraries, run};

/// A driver with one GPU.
pub(crate) fn driver(project: &Project, name: &str, major: u32, minor: u32) {
    let source = format!(
        "int cuInit(unsigned f) {{ return 0; }}\n\
         int cuDriverGetVersion(int *v) {{ *v = 12080; return 0; }}\n\
         int cuDeviceGetCount(int *n) {{ *n = 1; return 0; }}\n\
         int cuDeviceGet(int *d, int i) {{ *d = i; return 0; }}\n\
         int cuDeviceGetName(char *n, int l, int d) {{ const char *s = \"{name}\"; while ((*n++ = *s++)) ; return 0; }}\n\
         int cuDeviceTotalMem_v2(unsigned long *m, int d) {{ *m = 25769803776ul; return 0; }}\n\
         int cuDeviceGetAttribute(int *v, int a, int d) {{ *v = a == 75 ? {major} : {minor}; return 0; }}\n\
         int cuDeviceGetUuid_v2(char *u, int d) {{ for (int i = 0; i < 16; i++) u[i] = i; return 0; }}\n"
    );
    let source = project.write("driver/cuda.c", source);
    let library = project.path("driver/libcuda.so.1");
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).expect(0);
}

/// A stand-in for the TensorRT of this number, in `NAME/`.
pub(crate) fn stand_in(project: &Project, name: &str, number: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let script = std::fs::read(repository().join("tests/it/support/trtexec.sh")).unwrap();
    let program = project.write(&format!("{name}/bin/trtexec"), script);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    project.write(&format!("{name}/bin/number"), number.to_string());
    project.write(&format!("{name}/lib/libnvinfer.so.1"), format!("the library of {number}"));
}

/// A project with the models `norm` (decomposed, and so with norms) and `mlp`, an RTX 3090, and stand-ins of these numbers.
pub(crate) fn project(toolchains: &[(&str, &str, u32)], models_text: &str) -> Project {
    let project = Project::bare();
    driver(&project, "NVIDIA GeForce RTX 3090", 8, 6);
    project.write("models/norm.onnx", models::norm(13));
    project.write("models/mlp.onnx", models::mlp(1.0));
    let mut manifest = "schema = 1\n".to_owned();
    for (name, version, number) in toolchains {
        stand_in(&project, name, *number);
        manifest += &format!(
            "[toolchain.{name}]\nkind = \"trtexec\"\nversion = \"{version}\"\nroot = \"../{name}\"\n\
             [target.on-{name}]\ngpu = \"RTX 3090\"\ntoolchain = \"{name}\"\n"
        );
    }
    project.write("manifests/m.toml", manifest + models_text);
    project
}

pub(crate) fn go(project: &Project, args: &[&str]) -> Output {
    run(project.command(args).env("LD_LIBRARY_PATH", project.path("driver")))
}

/// As [`go`], with ONNX Runtime.
fn verified(project: &Project, args: &[&str]) -> Output {
    let mut command = project.command(args);
    command
        .env("LD_LIBRARY_PATH", project.path("driver"))
        .env("ENGINEWRIGHT_ROOT_REFERENCE", reference_library());
    run(&mut command)
}

pub(crate) fn model(name: &str, targets: &str, keys: &str) -> String {
    format!(
        "[model.{name}]\nsource = {{ path = \"../models/{name}.onnx\" }}\ntargets = [{targets}]\n{keys}\n"
    )
}

#[test]
fn an_engine_is_asked_for_exactly_built_once_and_published_with_what_is_proved() {
    let text = model("norm", "\"on-trt9\"", "precision = \"fp16\"");
    let project = project(&[("trt9", "9.3", 9300)], &text);
    go(&project, &["apply"]).expect(0).says(&["built", "norm@on-trt9"]);
    let calls = String::from_utf8(project.read("trt9/bin/calls")).unwrap();
    for word in [
        "--fp16",
        "--precisionConstraints=obey",
        "/norm/Pow:fp32",
        "--skipInference",
        "--timingCacheFile=timing.cache",
        "--profilingVerbosity=detailed",
    ] {
        assert!(calls.contains(word), "{word}: {calls}");
    }
    assert!(!calls.contains("start:fp32"), "{calls}");
    let environment = String::from_utf8(project.read("trt9/bin/environment")).unwrap();
    assert!(
        environment.contains("CUDA_VISIBLE_DEVICES=GPU-00010203-0405-0607-0809-0a0b0c0d0e0f\n"),
        "{environment}"
    );
    assert!(environment.contains("/trt9/lib"), "{environment}");
    assert!(!environment.contains("HOME="), "{environment}");
    let sidecar: serde_json::Value =
        serde_json::from_slice(&project.read("engines/norm/on-trt9.json")).unwrap();
    assert_eq!(sidecar["pins"]["honoured"], 9, "{sidecar:#}");
    assert_eq!(sidecar["pins"]["demoted"], 0);
    assert_eq!(sidecar["runtime"], "TensorRT 9.3.0");
    assert_eq!(sidecar["hermetic"], "timed");
    assert_eq!(sidecar["built_on"]["name"], "NVIDIA GeForce RTX 3090");
    assert_eq!(sidecar["built_on"]["cuda"], "12.8");
    go(&project, &["apply"]).expect(0).says(&["nothing to do"]);

    // What decides is in the key; where it lies is not.
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write(
        "manifests/m.toml",
        manifest.replace("gpu = \"RTX 3090\"", "gpu = \"RTX 3090\"\ngpu-identity = \"sm\""),
    );
    go(&project, &["plan"]).expect(0).says(&["rebuild"]);
    project.write("manifests/m.toml", &manifest);
    std::fs::rename(project.path("trt9"), project.path("elsewhere")).unwrap();
    project.write("manifests/m.toml", manifest.replace("../trt9", "../elsewhere"));
    go(&project, &["plan"]).expect(0).says(&["nothing to do"]);
    // Where it is not, it is known from the lock file.
    go(&project, &["apply"]).expect(0);
    std::fs::rename(project.path("elsewhere"), project.path("gone")).unwrap();
    go(&project, &["plan"]).expect(0).says(&["nothing to do"]);
    std::fs::rename(project.path("gone"), project.path("elsewhere")).unwrap();
    // A library that it loads is part of what it is.
    project.write("elsewhere/lib/libcudnn.so.9", "new");
    go(&project, &["plan"]).expect(0).says(&["rebuild"]);
}

#[test]
fn every_way_to_fail_is_told_as_what_it_is() {
    let text = model("mlp", "\"on-trt\"", "build = { timeout = \"2s\" }");
    let project = project(&[("trt", "10.3", 100300)], &text);
    for (scenario, code) in [
        ("segv", "trtexec-crashed"),
        ("abort", "trtexec-crashed"),
        ("container-segv", "trtexec-crashed"),
        ("hang", "trtexec-timed-out"),
        ("option", "trtexec-option"),
        ("parse", "parse-failed"),
        ("memory", "gpu-out-of-memory"),
        ("cuda", "trtexec-crashed"),
        ("kernel", "no-implementation"),
        ("truncated", "build-failed"),
        ("no-engine", "trtexec-no-engine"),
        ("no-verdict", "trtexec-no-verdict"),
    ] {
        project.write("trt/bin/scenario", scenario);
        go(&project, &["apply"]).expect(1).says(&[&format!("error[{code}]"), "command.sh"]);
        let bundle =
            std::fs::read_dir(project.path("cache/v1/failures")).unwrap().last().unwrap().unwrap().path();
        go(&project, &["replay", bundle.to_str().unwrap()])
            .expect(1)
            .says(&["run it again by hand", "command.sh"]);
        assert!(!project.exists("engines/mlp/on-trt.engine"), "{scenario}");
    }
    project.write("trt/bin/scenario", "good");
    go(&project, &["apply"]).expect(0).says(&["1 of 1 engine ready"]);
}

#[test]
fn the_founding_bug_names_the_norms_and_the_rule_and_builds_the_rest() {
    let norms = "precision = \"fp16\"\nrules = []\nhazards = { fp16-decomposed-norm = \"allow\", fp16-long-sum = \"allow\", fp16-exponential = \"allow\", epsilon-underflow-fp16 = \"allow\" }";
    let text = model("norm", "\"on-trt8\"", norms) + &model("mlp", "\"on-trt8\"", "");
    let project = project(&[("trt8", "8.6", 8601)], &text);
    project.write("trt8/bin/scenario", "norms");
    let output = go(&project, &["apply"]);
    output.expect(1).says(&[
        "error[trtexec-crashed]",
        "trtexec crashed: SIGSEGV (11)",
        "norms are computed in 16 bits",
        "/norm/",
        "TensorRT 8.6 and 9.3 are known to crash over them, and this is 8.6",
        "[[model.norm.rule]]",
        "precision = \"fp32\"",
        "std-fp16",
        "1 of 2 engines ready, 1 failed",
    ]);
    // Mended as it says.
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest.replace("rules = []\n", ""));
    go(&project, &["apply"]).expect(0).says(&["2 of 2 engines ready"]);
}

#[test]
fn a_pin_that_ended_in_half_fails_the_build() {
    let text = model("norm", "\"on-trt9\"", "precision = \"fp16\"");
    let project = project(&[("trt9", "9.3", 9300)], &text);
    project.write("trt9/bin/scenario", "half");
    go(&project, &["apply"]).expect(1).says(&["error[pin-demoted]", "/norm/", "does not compute it in FP32"]);
    assert!(!project.exists("engines/norm/on-trt9.engine"));
}

#[test]
fn what_trtexec_did_not_set_is_in_the_log() {
    let text = model("norm", "\"on-trt9\"", "precision = \"fp16\"");
    let project = project(&[("trt9", "9.3", 9300)], &text);
    project.write("trt9/bin/scenario", "unmatched");
    go(&project, &["apply"]).expect(0);
    go(&project, &["log", "norm@on-trt9"])
        .expect(0)
        .says(&["no layer is called `/norm/Pow`", "Skipped setting precisions"]);
}

#[test]
fn one_plan_for_all_and_what_is_not_here_is_left_out() {
    let text = "[toolchain.trt11]\nkind = \"trtexec\"\nversion = \"11.1\"\nroot = \"../nowhere\"\n\
        [target.on-trt11]\ngpu = \"RTX 3090\"\ntoolchain = \"trt11\"\n\
        [target.a10]\ngpu = \"A10\"\ntoolchain = \"trt10\"\n\
        [target.laptop]\ngpu = \"RTX 3090 Laptop\"\ntoolchain = \"trt10\"\n\
        [target.rtx]\ngpu = \"RTX 3090\"\n\
        [toolchain.rtx]\nkind = \"tensorrt-rtx\"\nversion = \"1.7.1.116\"\n"
        .to_owned()
        + &format!("root = \"{}\"\n", rtx_libraries().display())
        + &model(
            "mlp",
            "\"rtx\", \"on-trt8\", \"on-trt10\", \"on-trt11\", \"a10\", \"laptop\"",
            "precision = \"fp16\"",
        );
    let project = project(&[("trt8", "8.6", 8601), ("trt10", "10.3", 100300)], &text);
    go(&project, &["plan"]).expect(0).says(&[
        "1 unknown",
        "cannot be built here: toolchain `trt11` is not on this machine",
        "cannot be built here: target `a10` needs a GPU `A10`, and this machine has `NVIDIA GeForce RTX 3090` (sm_86)",
        "cannot be built here: target `laptop` needs a GPU `RTX 3090 Laptop`",
    ]);
    go(&project, &["apply"]).expect(1).says(&[
        "error[toolchain-missing]",
        "error[gpu-missing]",
        "`gpu = \"RTX 3090\"`",
        "--skip-unbuildable",
        "3 failed",
    ]);
    go(&project, &["apply", "--skip-unbuildable"])
        .expect(0)
        .says(&["3 of 6 engines ready, 3 cannot be built here"]);
    let calls = |name: &str| String::from_utf8(project.read(&format!("{name}/bin/calls"))).unwrap();
    assert!(calls("trt8").contains("--fp16") && !calls("trt8").contains("--stronglyTyped"));
    assert!(calls("trt10").contains("--stronglyTyped") && !calls("trt10").contains("--fp16"));
    // TensorRT-RTX built a real one.
    assert_eq!(project.read("engines/mlp/rtx.engine")[..4], *b"vtrt");
}

#[test]
fn another_trtexec_in_path_is_what_a_host_lacks() {
    let text = "[toolchain.trt11]\nkind = \"trtexec\"\nversion = \"11.1\"\n\
        [target.on-trt11]\ngpu = \"RTX 3090\"\ntoolchain = \"trt11\"\n"
        .to_owned()
        + &model("mlp", "\"on-trt10\", \"on-trt11\"", "");
    let project = project(&[("trt10", "10.3", 100300)], &text);
    let path = format!("{}:/usr/bin:/bin", project.path("trt10/bin").display());
    let go = |args: &[&str]| {
        run(project.command(args).env("LD_LIBRARY_PATH", project.path("driver")).env("PATH", &path))
    };
    go(&["plan"]).expect(0).says(&["cannot be built here", "must be version 11.1, and 10.3.0 was found"]);
    go(&["apply", "--skip-unbuildable"]).expect(0).says(&["1 of 2 engines ready, 1 cannot be built here"]);
    go(&["apply"]).expect(1).says(&["error[toolchain-version]"]);
}

#[test]
fn what_is_no_usable_trtexec_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let text = model("mlp", "\"on-trt\"", "");
    let project = project(&[("trt", "10.3", 100300)], &text);
    project.write("trt/bin/scenario", "garbage");
    go(&project, &["plan"]).expect(3).says(&["error[trtexec-garbage]", "hello, this is something else"]);
    project.write("trt/bin/scenario", "good");
    project.write("trt/bin/number", "100900");
    go(&project, &["plan"])
        .expect(3)
        .says(&["error[toolchain-version]", "must be version 10.3, and 10.9.0 was found"]);
    let program = project.path("trt/bin/trtexec");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
    go(&project, &["apply"]).expect(1).says(&["error[toolchain-missing]", "cannot be executed"]);
    std::fs::remove_file(&program).unwrap();
    go(&project, &["apply"]).expect(1).says(&[
        "error[toolchain-missing]",
        "holds no `trtexec`",
        "/usr/src/tensorrt",
    ]);
}

#[test]
fn one_build_runs_on_a_gpu_at_a_time_whatever_j_says() {
    let variants = ["a", "b", "c"].map(|name| {
        format!(
            "[model.mlp.variant.{name}]\nbuild = {{ epoch = {} }}\n",
            name.len() + usize::from(name.as_bytes()[0])
        )
    });
    let text = model("mlp", "\"on-trt\"", "") + &variants.concat();
    let project = project(&[("trt", "10.3", 100300)], &text);
    project.write("trt/bin/scenario", "alone");
    go(&project, &["apply", "-j", "4"]).expect(0).says(&["4 of 4 engines ready"]);
    let calls = String::from_utf8(project.read("trt/bin/calls")).unwrap();
    assert_eq!(calls.lines().count(), 4, "{calls}");
}

#[test]
fn a_weakly_typed_engine_is_measured_as_if_all_that_may_be_half_were() {
    let keys = "precision = \"fp16\"\nrules = []\n\
        hazards = { fp16-decomposed-norm = \"allow\", fp16-long-sum = \"allow\", fp16-exponential = \"allow\", epsilon-underflow-fp16 = \"allow\" }\n\
        verify = { inputs = { seed = 1, samples = 1, ranges = { x = [-3000, 3000] } } }";
    let project = project(&[("trt8", "8.6", 8601)], &model("norm", "\"on-trt8\"", keys));
    // The squares of the norm are beyond FP16, and nothing keeps them FP32.
    verified(&project, &["apply"]).expect(1).says(&["error[verify-failed]"]);
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest.replace("rules = []\n", ""));
    verified(&project, &["apply"]).expect(0).says(&["1 of 1 engine ready", "smoke"]);
    verified(&project, &["verify"])
        .expect(0)
        .says(&["kinder than a GPU: all that no rule keeps FP32 in fp16", "chooses its types"]);
    // What is built keeps its types: they are asked of layers.
    let calls = String::from_utf8(project.read("trt8/bin/calls")).unwrap();
    assert!(calls.contains("--layerPrecisions=") && !calls.contains("--stronglyTyped"), "{calls}");
}

#[test]
fn files_in_extra_args_count_by_their_content() {
    let text = model("mlp", "\"on-trt8\"", "build = { extra-args = [\"--int8\", \"--calib=CALIB\"] }");
    let project = project(&[("trt8", "8.6", 8601)], &text);
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    let point = |file: &str| {
        let path = project.path(file).display().to_string();
        project.write("manifests/m.toml", manifest.replace("CALIB", &path));
    };
    point("calib.cache");
    go(&project, &["plan"]).expect(3).says(&["error[extra-args]", "cannot be read", "calib.cache"]);
    project.write("calib.cache", "scales");
    project.write("trt8/bin/scenario", "changes");
    go(&project, &["apply"]).expect(1).says(&["error[given-changed]"]);
    project.write("trt8/bin/scenario", "good");
    project.write("calib.cache", "scales");
    go(&project, &["apply"]).expect(0).says(&["1 of 1 engine ready"]);
    let calls = String::from_utf8(project.read("trt8/bin/calls")).unwrap();
    assert!(calls.contains("--calib=./file-0\n"), "{calls}");
    go(&project, &["export", "trtexec", "mlp@on-trt8"]).expect(0).says(&["/calib.cache"]);
    // Where it lies, and what it is called, is nothing.
    project.write("elsewhere", "scales");
    point("elsewhere");
    go(&project, &["plan"]).expect(0).says(&["nothing to do"]);
    project.write("elsewhere", "other scales");
    go(&project, &["plan"]).expect(0).says(&["rebuild", "--calib="]);
}
