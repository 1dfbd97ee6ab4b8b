//! `enginewright init`: what it writes passes `check` as written, and `apply` publishes it.

use std::path::PathBuf;

use crate::support::{Project, models, run, shared_cache};
use crate::trtexec::driver;

/// The real models that TensorRT-RTX builds, as files.
fn real() -> Vec<PathBuf> {
    let fetching = Project::new(&format!("[defaults]\ntargets = [\"a\"]\n{}", models::REAL));
    let cache = shared_cache();
    let cache = cache.to_str().unwrap();
    fetching.run(&["--cache-dir", cache, "--format", "json", "plan", "--fetch"]).expect(0);
    let manifest = String::from_utf8(fetching.read("manifests/m.toml")).unwrap();
    let packages = shared_cache().join("v1/packages");
    let mut files = Vec::new();
    for line in manifest.lines().filter(|line| line.starts_with("source = { package")) {
        let quoted: Vec<&str> = line.split('"').collect();
        let (package, file) = (quoted[1].replace("==", "-"), quoted[3]);
        let wheels = std::fs::read_dir(packages.join(&package)).unwrap();
        files.extend(wheels.map(|entry| entry.unwrap().path().join(file)).find(|path| path.exists()));
    }
    files
}

#[test]
fn real_models_are_described_so_that_check_is_content_and_apply_publishes() {
    let files = real();
    assert_eq!(files.len(), 5, "{files:?}");
    let project = Project::bare();
    project.share("toolchains");
    for (i, file) in files.iter().enumerate() {
        // Two of them are called `model.onnx` by their packages.
        let copy = project.write(&format!("models/m{i}.onnx"), std::fs::read(file).unwrap());
        project.run(&["init", copy.to_str().unwrap(), "--target", "RTX 3090"]).expect(0).says(&["in fp16"]);
    }
    let check = project.run(&["check"]);
    check.expect(0).says(&["5 engines checked"]);
    // Those of images take a minute: `make sweep` builds them all.
    let engines: &[&str] = if std::env::var_os("ENGINEWRIGHT_SWEEP").is_some() { &[] } else { &["m0", "m1"] };
    let apply = project.run(&[&["apply"], engines].concat());
    apply.expect(0).says(&["smoke"]);
    assert!(project.exists("engines/m1/rtx-3090.engine"));
    // Nothing is overwritten, unless that is asked for.
    project.write("manifests/m0.toml", "schema = 1\n# mine\n");
    assert!(project.read("manifests/targets.toml").ends_with(b"[target.rtx-3090]\ngpu = \"RTX 3090\"\n"));
    project
        .run(&["init", "models/m0.onnx"])
        .expect(64)
        .says(&["`manifests/m0.toml` is there already", "--force"]);
    assert!(project.read("manifests/m0.toml").ends_with(b"# mine\n"));
    project.run(&["init", "models/m0.onnx", "--force"]).expect(0).says(&["those of this project"]);
}

#[test]
fn a_project_is_begun_in_an_empty_folder() {
    let project = Project::bare();
    project.write(".gitignore", "target\n/engines\n");
    project.run(&["init"]).expect(0).says(&["wrote manifests/targets.toml", "enginewright.schema.json"]);
    let ignored = String::from_utf8(project.read(".gitignore")).unwrap();
    assert_eq!(ignored, "target\n/engines\n/cache/\n/enginewright.local.toml\n");
    project.run(&["check"]).expect(0).says(&["no engines are declared"]);
    // What is there is not touched again.
    let again = project.run(&["init"]);
    again.expect(0);
    assert!(!again.stdout.contains("wrote"), "{again:?}");
}

#[test]
fn what_fp16_cannot_hold_is_mended_with_rules() {
    let project = Project::bare();
    project.write("heavy.onnx", models::lone_product());
    project
        .run(&["init", "heavy.onnx", "--target", "sm_86"])
        .expect(0)
        .says(&["in fp16, ", "that the model needs"]);
    let text = String::from_utf8(project.read("manifests/heavy.toml")).unwrap();
    assert!(text.contains("weight-overflow-fp16") && text.contains("[[model.heavy.rule]]"), "{text}");
    project.run(&["check"]).expect(0);
    project.run(&["init", "heavy.onnx", "--name", "other", "--precision", "fp32"]).expect(0);
    let json = project.run(&["--format", "json", "init", "heavy.onnx", "--name", "third"]).json();
    assert_eq!((&json["manifests"][0]["precision"], &json["targets"][0]), (&"fp16".into(), &"sm-86".into()));
}

#[test]
fn what_cannot_be_described_is_told_and_nothing_is_written() {
    let project = Project::bare();
    project.write("bad.onnx", b"hello\n");
    project.run(&["init", "bad.onnx"]).expect(1).says(&["error[text-file]"]);
    assert!(!project.exists("manifests") && !project.exists(".gitignore"));
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["init", "nothing.onnx"]).expect(3).says(&["nothing.onnx"]);
    project.run(&["init", "m.onnx", "--target", "RTX 3091"]).expect(64).says(&["did you mean `RTX 3090`"]);
    project
        .run(&["init", "m.onnx", "--target", "H100"])
        .expect(64)
        .says(&["error[sm-unsupported]", "trtexec"]);
    project.run(&["init", "m.onnx", "--name", "My Model"]).expect(64).says(&["is not a name"]);
    assert!(!project.exists("manifests"));
    // A model that is wrong keeps no other from being described.
    project
        .run(&["init", "bad.onnx", "m.onnx"])
        .expect(1)
        .says(&["wrote manifests/m.toml", "error[text-file]"]);
    project.run(&["check"]).expect(0);
}

#[test]
fn names_of_a_model_write_nothing_into_its_manifest() {
    let project = Project::bare();
    let input = "x\n[model.evil]\nsource = { path = \"/etc/passwd\" }\u{1b}[31m";
    project.write("m.onnx", models::mlp_of(input));
    let init = project.run(&["init", "m.onnx", "--target", "sm_86"]);
    init.expect(0);
    assert!(!init.stdout.contains('\u{1b}'), "{init:?}");
    let text = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("[model.evil]")), "{text}");
    project.run(&["check"]).expect(0).says(&["1 engine checked"]);
}

/// With a driver of one GPU in the place of a real one.
#[test]
fn targets_are_the_gpus_found_or_it_says_why_not() {
    let init = |gpu: &str, major: u32, minor: u32, said: &[&str]| {
        let project = Project::bare();
        driver(&project, gpu, major, minor);
        let model = project.write("mlp.onnx", models::mlp(1.0));
        let model = model.to_str().unwrap();
        let with = |args: &[&str]| run(project.command(args).env("LD_LIBRARY_PATH", project.path("driver")));
        with(&["init", model]).expect(0).says(said);
        with(&["check"]).expect(0);
        String::from_utf8(project.read("manifests/targets.toml")).unwrap()
    };
    let found = init("NVIDIA GeForce RTX 3090", 8, 6, &["targets: rtx-3090 (found on this machine)"]);
    assert!(found.ends_with("# Found on this machine.\n[target.rtx-3090]\ngpu = \"RTX 3090\"\n"), "{found}");
    let unknown = init("NVIDIA PG506-230", 8, 0, &["targets: nvidia-pg506-230 (found on this machine)"]);
    assert!(unknown.ends_with("[target.nvidia-pg506-230]\nsm = \"sm_80\"\n"), "{unknown}");
    let why = "no GPU of TensorRT-RTX is here: one engine for RTX 30, 40 and 50; choose with `--target`";
    let note = "TensorRT-RTX has no engines for the NVIDIA H100 80GB HBM3 (sm_90) here: Hopper (H100, H200, GH200) needs \
                the full TensorRT: a toolchain of kind `trtexec`";
    let other = init("NVIDIA H100 80GB HBM3", 9, 0, &[why, "note: ", note]);
    let comments = format!("# N{}.\n# {note}.\n[target.desktop]", &why[1..]);
    assert!(other.contains(&comments), "{other}");
    // A driver that fails is not a machine without a GPU.
    let project = Project::bare();
    let source = project.write("driver/cuda.c", "int cuInit(unsigned f) { return 999; }");
    let library = project.path("driver/libcuda.so.1");
    run(std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source)).expect(0);
    let init = run(project.command(&["init"]).env("LD_LIBRARY_PATH", project.path("driver")));
    init.expect(0).says(&["the NVIDIA driver fails, as `enginewright gpu` tells"]);
}
