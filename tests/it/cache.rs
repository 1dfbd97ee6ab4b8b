//! `cache stat`, `verify` and `gc`: what is kept, what goes, and what is found.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::{Project, models};

const MANIFEST: &str = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n";

fn built() -> Project {
    let project = Project::new(MANIFEST);
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    project
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// Makes everything in the cache look as if it had been made that long ago.
fn age(project: &Project, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    for file in files(&project.path("cache/v1/results")) {
        std::fs::File::open(file).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn what_projects_need_stays_and_the_rest_goes_when_it_is_old() {
    let project = built();
    let second = MANIFEST.replace("[\"a\"]", "[\"a\"]\ntf32 = true");
    project.manifest(&second);
    project.run(&["apply"]).expect(0);
    let blobs = files(&project.path("cache/v1/cas")).len();

    project.run(&["cache", "gc"]).expect(0).says(&["removed 0 results and 0 blobs"]);
    project.run(&["cache", "gc", "--max-age", "1"]).expect(64).says(&["add `--force`"]);
    age(&project, 20);
    let dry = project.run(&["--format", "json", "cache", "gc", "--dry-run"]);
    let dry = dry.expect(0).json();
    // The build, and what leads to its engine by digest.
    assert_eq!(dry["removed"].as_array().unwrap().len(), 2, "{dry}");
    assert_eq!(
        (&dry["removed"][0]["action"], &dry["removed"][0]["engine"]),
        (&"build".into(), &"m@a".into())
    );
    assert_eq!(files(&project.path("cache/v1/cas")).len(), blobs, "a dry run removes nothing");
    project.run(&["cache", "gc", "--max-size", "1TiB"]).expect(0).says(&["removed 0 results"]);
    project.run(&["cache", "gc"]).expect(0).says(&["removed 2 results and ", "stay for 1 project"]);
    assert!(files(&project.path("cache/v1/cas")).len() < blobs);

    // What is declared now is as it was, and is there; what was declared before is built again.
    project.run(&["plan", "--detailed-exitcode"]).expect(0);
    project.run(&["cache", "verify"]).expect(0).says(&["sound"]);
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    assert_eq!(project.planned(), ["m@a: restore"]);
    project.manifest(MANIFEST);
    assert_eq!(project.planned(), ["m@a: rebuild"]);
    project.run(&["apply"]).expect(0).says(&["1 of 1 engine ready"]);
}

#[test]
fn two_projects_share_a_cache_and_neither_loses_its_engines() {
    let one = built();
    let other = Project::new(MANIFEST);
    other.write("m.onnx", models::mlp(2.0));
    let cache = one.path("cache");
    let cache = cache.to_str().unwrap();
    other.run(&["--cache-dir", cache, "apply"]).expect(0);
    age(&one, 20);
    one.run(&["cache", "gc"]).expect(0).says(&["removed 0 results", "stay for 2 projects"]);

    // Nobody knows what must stay.
    let lock = other.read("enginewright.lock");
    other.write("enginewright.lock", "<<<<<<< HEAD\n");
    one.run(&["cache", "gc"]).expect(3).says(&["merge conflict markers", "what must stay is not known"]);
    other.write("enginewright.lock", lock);

    let gone = other.root().to_owned();
    drop(other);
    one.run(&["cache", "gc"]).expect(0).says(&["removed 2 results", "stay for 1 project"]);
    one.run(&["cache", "gc"]).says(&[&format!("nothing is kept for `{}`, which is gone", gone.display())]);
    one.run(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn a_cache_in_use_is_not_collected() {
    let project = built();
    let user = std::fs::File::open(project.path("cache/v1/format")).unwrap();
    user.lock_shared().unwrap();
    project.run(&["cache", "gc"]).expect(4).says(&["is in use"]);
    project.run(&["plan", "--detailed-exitcode"]).expect(0);
    drop(user);
    project.run(&["cache", "gc"]).expect(0);
}

#[test]
fn verify_finds_a_flipped_bit_and_it_is_never_used() {
    let project = built();
    project.run(&["cache", "stat"]).expect(0).says(&["build engine", "used by 1 project"]);
    project.run(&["cache", "verify"]).expect(0).says(&["sound"]);
    // The published engine is the same file: it is taken away first, so that the damage is the cache's alone.
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    let engine = files(&project.path("cache/v1/cas")).into_iter().max_by_key(|f| f.metadata().unwrap().len());
    let engine = engine.unwrap();
    let mut bytes = std::fs::read(&engine).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    let times = std::fs::metadata(&engine).unwrap().modified().unwrap();
    std::fs::set_permissions(&engine, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&engine, bytes).unwrap();
    std::fs::File::open(&engine).unwrap().set_modified(times).unwrap();

    let verify = project.run(&["cache", "verify"]);
    verify.expect(1).says(&["damaged  blob", "of m@a: its `engine` is missing or damaged"]);
    assert!(!engine.exists(), "it is in quarantine");
    assert_eq!(project.planned(), ["m@a: rebuild"]);
    project.run(&["apply"]).expect(0);
    project.run(&["cache", "verify"]).expect(0).says(&["sound"]);

    let result = files(&project.path("cache/v1/results/build")).pop().unwrap();
    let text = std::fs::read_to_string(&result).unwrap().replace("m@a", "m@b");
    std::fs::remove_file(&result).unwrap();
    std::fs::write(&result, text).unwrap();
    project.run(&["cache", "verify"]).expect(1).says(&["its checksum is wrong"]);
}
