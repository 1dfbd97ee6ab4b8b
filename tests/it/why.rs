//! `why --since`, and the command that repeats a build from the cache alone.

use crate::support::{Project, models, rtx_libraries, run};

const MANIFEST: &str = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n\
    [[model.m.profile]]\nname = \"p\"\ndims = { batch = [1, 2, 4] }\n";

fn built() -> Project {
    let project = Project::new(MANIFEST);
    project.write("m.onnx", models::dynamic("batch"));
    project.run(&["apply"]).expect(0);
    project
}

fn runs(project: &Project) -> Vec<String> {
    let names = std::fs::read_dir(project.path("cache/v1/runs")).unwrap();
    let mut names: Vec<String> =
        names.map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_engine_is_told_against_a_run_and_against_the_lock_file() {
    let project = built();
    let lock = project.read("enginewright.lock");
    project.manifest(&MANIFEST.replace("[1, 2, 4]", "[1, 2, 5]"));
    project.run(&["apply"]).expect(0);
    let runs = runs(&project);
    let since = |name: &str| project.run(&["why", "m@a", "--since", name]);
    let edit = "profiles[0].shapes.x.max: [4, 4] is now [5, 4]";
    since(&runs[0]).expect(0).says(&["m@a: up to date", &format!("since run {}", runs[0]), edit]);
    since(&runs[1]).expect(0).says(&["nothing differs"]);
    since("lock").expect(0).says(&["since `enginewright.lock`", "nothing differs"]);
    project.write("enginewright.lock", lock);
    since("lock").expect(0).says(&[edit]);
    let json = project.run(&["--format", "json", "why", "m@a", "--since", &runs[0]]).json();
    assert_eq!(json["since"]["reasons"][0]["field"], "profiles[0].shapes.x.max");
    since("moon").expect(64).says(&["no run whose name begins with `moon`", &runs[1]]);
    since("2").expect(64).says(&["`2` is the start of 2 runs", &runs[0]]);
}

#[test]
fn a_build_is_repeated_from_the_cache_alone() {
    let project = built();
    let why = project.run(&["--format", "json", "why", "m@a"]).json();
    let command = why["repeat"].as_str().unwrap();
    let key = command.strip_prefix("enginewright build-action ").expect("one line");
    project.run(&["why", "m@a"]).says(&[command]);

    // Nothing is left but the cache.
    let engine = project.read("engines/m/a.engine");
    for gone in ["manifests", "engines", "m.onnx", "enginewright.lock"] {
        run(std::process::Command::new("rm").arg("-r").arg(project.path(gone))).expect(0);
    }
    let cache = ["--cache-dir", "cache"];
    let repeat = |args: &[&str]| project.run(&[&cache, &["build-action", key], args].concat());
    // The libraries were never in it.
    repeat(&[]).expect(1).says(&[
        "the cache does not hold the libraries",
        "libtensorrt_rtx.so.1",
        "--toolchain DIR",
    ]);
    repeat(&["--toolchain", "cache"]).expect(1).says(&["`cache` does not hold the libraries"]);
    let rtx = rtx_libraries().to_str().unwrap();
    repeat(&["--toolchain", rtx, "--out", "again"])
        .expect(0)
        .says(&["m@a: the same bytes as on record", "(det, "]);
    assert_eq!(project.read("again"), engine);
    let json =
        project.run(&[&cache[..], &["--format", "json", "build-action", key, "--toolchain", rtx]].concat());
    assert_eq!(json.expect(0).json()["same"], true);

    // Of toolchains that were fetched, it finds the one.
    project.share("toolchains");
    repeat(&[]).expect(0).says(&["the same bytes"]);
    let none = "0".repeat(64);
    project
        .run(&[&cache[..], &["build-action", &none]].concat())
        .expect(1)
        .says(&["holds no build of the key"]);
    project
        .run(&[&cache[..], &["build-action", "12"]].concat())
        .expect(64)
        .says(&["64 lower-case hex digits"]);
}
