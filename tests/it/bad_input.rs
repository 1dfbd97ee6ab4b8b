//! Bad input: each has its exit code and a message that names what is wrong and says what to do,
//! and a good engine beside it is built all the same.

use std::process::Command;

use crate::support::{Project, models, run};

/// A project with a good model and the model `bad`, and more lines for the manifest.
fn project(bad: impl AsRef<[u8]>, more: &str) -> Project {
    let project = Project::new(&format!(
        "[model.good]\nsource = {{ path = \"../good.onnx\" }}\ntargets = [\"a\"]\n\
         [model.bad]\nsource = {{ path = \"../bad.onnx\" }}\ntargets = [\"a\"]\n{more}"
    ));
    project.write("good.onnx", models::mlp(1.0));
    project.write("bad.onnx", bad);
    project
}

/// The bad one fails with these words, the good one is built.
#[track_caller]
fn fails(project: &Project, words: &[&str]) {
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["1 of 2 engines ready, 1 failed"]).says(words);
    assert!(project.exists("engines/good/a.engine"));
    assert!(!project.exists("engines/bad"), "nothing is published for it");
    // Nothing half-written stays in the cache.
    let left: Vec<_> = std::fs::read_dir(project.path("cache/v1/tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn files_that_are_no_models_are_named_for_what_they_are() {
    let good = models::mlp(1.0);
    let cases: [(&[u8], &[&str]); 8] = [
        (b"", &["empty"]),
        (b"hello, this is a text\n", &["text"]),
        (b"<!DOCTYPE html><html><body>404</body></html>", &["HTML"]),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
            &["Git LFS", "git lfs pull"],
        ),
        (&good[..good.len() / 2], &["truncated"]),
        (b"\x93\x17\xff\xfe\x00\x42\x99\xde\xad\xbe\xef\x01", &["bad.onnx"]),
        (b"PK\x03\x04 not a model", &["zip"]),
        (b"vtrt\0\0\0\0\x02\0\0\0\0\0\0\0", &["engine"]),
    ];
    let project = project(b"", "");
    for (bytes, words) in cases {
        project.write("bad.onnx", bytes);
        project.run(&["plan"]).expect(3).says(words).says(&["bad.onnx"]);
        fails(&project, words);
    }
    std::fs::remove_file(project.path("bad.onnx")).unwrap();
    // A file that is not there has a place all the same: the line that asks for it.
    fails(&project, &["bad.onnx", "manifests/m.toml:"]);
}

#[test]
fn graphs_that_tensorrt_would_misread_are_refused() {
    let project = project(b"", "");
    for (bytes, words) in [
        (models::no_outputs(), &["output"][..]),
        (models::huge_dimension(), &["1099511627776", "`x`"]),
        (models::undefined_input(), &["nowhere"]),
        (models::cycle(), &["cycle"]),
        (
            models::text_inside(),
            &["`text`, at the node `to text` (Cast), is of type string", "around the engine"],
        ),
    ] {
        project.write("bad.onnx", bytes);
        fails(&project, words);
    }
}

#[test]
fn an_engine_whose_interface_is_not_the_declared_one_is_not_published() {
    let project = project(models::stale_output(), "");
    let said = "output `y` of `bad@a` is float[2, 4], and the model declares float[2, 5]";
    fails(&project, &["error[engine-interface]", said]);
    // From the cache it is the same, and nothing is built again.
    project.run(&["plan"]).expect(3).says(&["error[engine-interface]", said]);
    fails(&project, &["error[engine-interface]", said]);
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", format!("{manifest}hazards = {{ engine-interface = \"warn\" }}\n"));
    project.run(&["apply"]).expect(0).says(&["warning[engine-interface]", said]);
    assert!(project.exists("engines/bad/a.engine"));
}

#[test]
fn names_of_a_model_are_not_the_terminals_own() {
    let project = project(models::unknown_operator("Re\u{1b}[31mlu"), "");
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["failed    bad@a"]);
    assert!(!apply.stderr.contains('\u{1b}') && !apply.stdout.contains('\u{1b}'), "{}", apply.stderr);
}

#[test]
fn external_data_is_read_with_care() {
    let project = project(b"", "");
    for (location, words) in
        [("missing.bin", &["missing.bin"][..]), ("/etc/passwd", &["absolute"]), ("../outside.bin", &[".."])]
    {
        project.write("bad.onnx", models::external_at(location, 0, 64));
        fails(&project, words);
    }
    project.write("short.bin", [0; 10]);
    project.write("bad.onnx", models::external_at("short.bin", 0, 64));
    fails(&project, &["short.bin"]);
    project.write("long.bin", [0; 100]);
    project.write("bad.onnx", models::external_at("long.bin", 60, 64));
    fails(&project, &["long.bin"]);
    // An odd offset is fine as long as the bytes are there.
    project.write("bad.onnx", models::external_at("long.bin", 3, 64));
    project.run(&["apply"]).expect(0);
}

#[test]
fn profiles_must_fit_the_model() {
    let profile = |body: &str| format!("[[model.bad.profile]]\nname = \"p\"\n{body}\n");
    for (body, words) in [
        (
            "dims = { batsh = [1, 2, 3] }",
            &["no input of model `bad` has a dimension `batsh`", "did you mean `batch`?"][..],
        ),
        (
            "dims = { batch = [1, 2, 3] }\nshapes = { y = { min = [1], opt = [1], max = [1] } }",
            &["no input `y`"],
        ),
        ("shapes = { x = { min = [1], opt = [2], max = [3] } }", &["1 dimensions, the input has 2"]),
        ("shapes = { x = { min = [1, 4], opt = [2, 5], max = [3, 5] } }", &["is fixed: 4"]),
    ] {
        fails(&project(models::dynamic("batch"), &profile(body)), words);
    }
    // Two inputs share a dimension.
    let body = "shapes = { x = { min = [1, 4], opt = [2, 4], max = [3, 4] }, y = { min = [1, 4], opt = [2, 4], max = [4, 4] } }";
    fails(
        &project(models::two_inputs("batch", "batch"), &profile(body)),
        &["share the dimension `batch`", "disagree"],
    );
    // Within one manifest, before any work.
    let wrong = project(models::dynamic("batch"), &profile("dims = { batch = [3, 2, 1] }"));
    wrong.run(&["apply"]).expect(3).says(&["batch", "m.toml"]);
    assert!(!wrong.exists("engines"));
}

#[test]
fn targets_must_be_ones_that_the_toolchain_has() {
    let with = |target: &str| {
        let project = Project::new(&format!(
            "{target}\n[model.good]\nsource = {{ path = \"../good.onnx\" }}\ntargets = [\"a\"]\n\
             [model.bad]\nsource = {{ path = \"../good.onnx\" }}\ntargets = [\"t\"]\n"
        ));
        project.write("good.onnx", models::mlp(1.0));
        project
    };
    let project = with("[target.t]\nsm = \"sm_90\"");
    fails(&project, &["cannot build for sm_90", "Hopper", "trtexec"]);
    with("[target.t]\ngpu = \"RTX 3091\"").run(&["plan"]).expect(3).says(&["RTX 3091", "RTX 3090"]);
    with("[target.t]\nsm = \"8.6\"").run(&["plan"]).expect(3).says(&["8.6", "sm_86"]);
    with("").run(&["plan"]).expect(3).says(&["`t`"]);
}

#[test]
fn sm_75_names_the_nodes_that_it_cannot_run() {
    let project = Project::new(
        "[target.t4]\ngpu = \"T4\"\n[model.good]\nsource = { path = \"../good.onnx\" }\ntargets = [\"a\"]\n\
         [model.bad]\nsource = { path = \"../good.onnx\" }\ntargets = [\"t4\"]\n",
    );
    project.write("good.onnx", models::mlp(1.0));
    fails(&project, &["sm_75", "`mm1` (MatMul)", "`mm2` (MatMul)"]);

    let project = Project::new(
        "[target.t4]\ngpu = \"T4\"\n[model.good]\nsource = { path = \"../good.onnx\" }\ntargets = [\"a\"]\n\
         [model.bad]\nsource = { path = \"../bf16.onnx\" }\ntargets = [\"t4\"]\n",
    );
    project.write("good.onnx", models::mlp(1.0));
    project.write("bf16.onnx", models::bf16());
    fails(&project, &["sm_75", "`add16` (Add)"]);
}

#[test]
fn what_is_not_supported_yet_says_so() {
    let io = "[model.bad.io.x]\ntype = \"int32\"\n";
    fails(&project(models::mlp(1.0), io), &["is not supported yet"]);
}

#[test]
fn an_opset_requirement_is_checked() {
    fails(&project(models::mlp(1.0), "opset = \">=21\"\n"), &["opset 17", "opset 21 or later"]);
}

#[test]
fn packages_are_fetched_with_clear_errors() {
    let with = |source: &str| {
        let project = Project::new(&format!(
            "[model.good]\nsource = {{ path = \"../good.onnx\" }}\ntargets = [\"a\"]\n\
             [model.bad]\nsource = {source}\ntargets = [\"a\"]\n"
        ));
        project.write("good.onnx", models::mlp(1.0));
        project
    };
    // Without the network: pip is told to use no index.
    let offline = |project: &Project| {
        let mut command = project.command(&["apply"]);
        command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", "").env_remove("PIP_INDEX_URL");
        run(&mut command)
    };
    let package = with("{ package = \"no-such-package-of-models==1.0\", file = \"m.onnx\" }");
    offline(&package).expect(1).says(&["no-such-package-of-models", "1 of 2 engines ready, 1 failed"]);
    package.run(&["plan"]).expect(0).says(&["unknown", "source not fetched"]);
    package.run(&["apply", "--offline"]).expect(1).says(&["no-such-package-of-models"]);

    // No Python: nothing of that name is on the PATH.
    let mut command = package.command(&["apply"]);
    run(command.env("PATH", "/nonexistent")).expect(1).says(&["python3", "1 of 2 engines ready"]);

    let url = with(
        "{ url = \"http://127.0.0.1:1/m.onnx\", sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\" }",
    );
    url.run(&["apply"]).expect(1).says(&["127.0.0.1", "1 of 2 engines ready, 1 failed"]);
    let file = url.path("good.onnx");
    let text = format!("{{ url = \"file://{}\", sha256 = \"{}\" }}", file.display(), "00".repeat(32));
    let mismatch = with(&text);
    mismatch.run(&["apply"]).expect(1).says(&["SHA-256", "1 of 2 engines ready, 1 failed"]);
}

#[test]
fn a_manifest_is_wrong_before_any_work_and_all_of_it_is_told() {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"nowhere\"]\nprecison = \"fp16\"\n",
    );
    project
        .write("manifests/other.toml", "schema = 1\n[model.m]\nsource = { path = 3 }\ntargets = [\"a\"]\n");
    let plan = project.run(&["plan"]);
    plan.expect(3).says(&["precison", "did you mean `precision`?", "nowhere", "other.toml", "m.toml"]);
    let json = project.run(&["--format", "json", "apply"]);
    json.expect(3);
    assert!(json.json()["diagnostics"].as_array().unwrap().len() >= 3);
    assert!(!project.exists("engines"));
}

#[test]
fn a_damaged_lock_file_is_told_and_kept() {
    let project = Project::new("");
    for text in
        ["version = 9\n", "<<<<<<< HEAD\nversion = 1\n", "version = 1\n[[engine]]\nname = 3\n", "\u{0}"]
    {
        project.write("enginewright.lock", text);
        project.run(&["apply"]).expect(3).says(&["enginewright.lock"]);
        assert_eq!(project.read("enginewright.lock"), text.as_bytes());
    }
}

#[test]
fn a_build_has_a_time_limit_and_a_memory_limit() {
    let limited = |limit: &str| project(models::chain(8000), &format!("[model.bad.build]\n{limit}\n"));
    fails(&limited("timeout = \"1s\""), &["still busy after 1 s"]);
    fails(&limited("memory-limit = \"100MiB\""), &["out of memory", "100 MiB"]);
}

#[test]
fn a_builder_that_crashes_is_one_failure_among_others() {
    fails(&project(models::division_by_zero(), ""), &["SIGFPE", "`bad@a`"]);
}

#[test]
fn a_read_only_cache_serves_what_it_has() {
    let project = project(models::mlp(2.0), "");
    models::mlp_external(&project.path("m"), 1.0);
    let external = "schema = 1\n[model.e]\nsource = { path = \"../m/m.onnx\" }\ntargets = [\"a\"]\n";
    project.write("manifests/e.toml", external);
    let cache = project.path("cache");
    std::fs::create_dir(&cache).unwrap();
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&cache).status().is_ok_and(|s| s.success())
    };
    if !mount("size=900m") {
        eprintln!("SKIPPED: a read-only cache needs the right to mount one");
        return;
    }
    let built = project.run(&["apply"]);
    let read_only = mount("remount,ro");
    let nothing = project.run(&["apply"]);
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    let restored = project.run(&["apply"]);
    // Known by their content, whatever their times.
    models::mlp_external(&project.path("m"), 1.0);
    let touched = project.run(&["apply", "e"]);
    project.write("bad.onnx", models::mlp(3.0));
    let refused = project.run(&["apply"]);
    assert!(Command::new("umount").arg("-l").arg(&cache).status().unwrap().success() && read_only);
    built.expect(0);
    nothing.expect(0).says(&["nothing to do"]);
    restored.expect(0).says(&["restored", "3 of 3 engines ready"]);
    touched.expect(0).says(&["nothing to do"]);
    refused.expect(1).says(&["read-only", "--cache-dir", "2 of 3 engines ready, 1 failed"]);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let project = project(models::mlp(2.0), "");
    let small = project.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=80k", "tmpfs"]).arg(&small).status();
    if !mount.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: a full disk needs the right to mount a small one");
        return;
    }
    let apply = project.run(&["--cache-dir", small.to_str().unwrap(), "apply"]);
    let unmounted = Command::new("umount").arg("-l").arg(&small).status().unwrap().success();
    assert!(unmounted);
    assert!(apply.code == 1 || apply.code == 4, "{apply:?}");
    apply.says(&["No space left on device"]);
    assert!(!project.exists("engines/good/a.engine"));
    project.run(&["apply"]).expect(0);
}

#[test]
fn a_cache_that_cannot_be_used_is_told() {
    let project = project(models::mlp(2.0), "");
    project.write("file", "");
    project.run(&["--cache-dir", "file", "apply"]).expect(4).says(&["file"]);
    project.write("newer/v2/README", "");
    project.run(&["--cache-dir", "newer", "apply"]).expect(4).says(&["newer"]);
}

#[test]
fn a_source_that_changes_during_the_build_is_not_published() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::chain(1200));
    let mut command = project.command(&["apply"]);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // Wait for the build to begin: its folder holds the model.
    let begun = || {
        let jobs = std::fs::read_dir(project.path("cache/v1/tmp")).into_iter().flatten().flatten();
        jobs.map(|j| j.path().join("model.onnx")).any(|m| m.is_symlink())
    };
    let start = std::time::Instant::now();
    while !begun() {
        assert!(start.elapsed().as_secs() < 60, "the build never began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    project.write("m.onnx", models::mlp(1.0));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("changed while `m@a` was built"), "{stderr}");
    assert!(!project.exists("engines/m/a.engine"));
    project.run(&["apply"]).expect(0);
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
}

#[test]
fn a_path_that_is_not_utf8_is_told_and_breaks_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let project = project(models::mlp(1.0), "");
    let folder = project.root().join(std::ffi::OsStr::from_bytes(b"n\xfft"));
    std::fs::create_dir(&folder).unwrap();
    for name in ["manifests", "bad.onnx"] {
        std::fs::rename(project.path(name), folder.join(name)).unwrap();
    }
    for (args, code) in
        [(&["apply", "bad"][..], 1), (&["plan", "bad"], 3), (&["status", "bad"], 0), (&["why", "bad@a"], 3)]
    {
        let told = run(project.command(args).current_dir(&folder));
        told.expect(code).says(&["paths must be UTF-8"]);
        let json = run(project.command(&[&["--format", "json"], args].concat()).current_dir(&folder));
        assert_eq!(json.expect(code).json()["diagnostics"][0]["code"], "worker-unsendable");
    }
}
