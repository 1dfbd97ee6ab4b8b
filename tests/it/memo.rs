//! A plan that had nothing to do is remembered; whatever changes, the next one says what it would have said anyway.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Project, fake, run};

/// A project that is up to date and settled, with a remembered plan.
fn settled() -> Project {
    let project = fake::project(2);
    std::fs::create_dir(project.path("globbed")).unwrap();
    std::fs::copy(project.path("m0.onnx"), project.path("globbed/g.onnx")).unwrap();
    std::os::unix::fs::symlink("../later", project.path("globbed/link")).unwrap();
    project.write(
        "manifests/more/glob.toml",
        "schema = 1\n[models.g]\nglob = \"../../globbed/**/*.onnx\"\ntargets = [\"a\"]\n",
    );
    fake::run_in(&project, &["apply"]).expect(0);
    // Files that are younger than 2 s are not believed.
    std::thread::sleep(Duration::from_millis(2100));
    fake::run_in(&project, &["plan"]).expect(0).says(&["nothing to do: 5 engines up to date"]);
    project
}

fn memos(project: &Project) -> Vec<PathBuf> {
    std::fs::read_dir(project.path("cache/v1/memo"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect()
}

#[test]
fn a_plan_without_work_is_remembered_until_a_file_changes() {
    let project = settled();
    assert_eq!(memos(&project).len(), 1);
    // Nothing but the files themselves is looked at: what a plan would read of the cache is not there.
    std::fs::rename(project.path("cache/v1/results"), project.path("away")).unwrap();
    fake::run_in(&project, &["plan"]).expect(0).says(&["nothing to do: 5 engines up to date"]);
    assert!(!project.exists("cache/v1/results"), "it was not planned again");
    std::fs::rename(project.path("away"), project.path("cache/v1/results")).unwrap();
    // Another question is another one.
    fake::run_in(&project, &["plan", "m0"]).expect(0).says(&["nothing to do: 2 engines up to date"]);
    let json = fake::run_in(&project, &["--format", "json", "plan"]).json();
    assert_eq!(json["engines"].as_array().unwrap().len(), 5);
    assert_eq!(fake::run_in(&project, &["--format", "json", "plan"]).json(), json);
    fake::run_in(&project, &["apply"]).expect(0).says(&["nothing to do: 5 engines up to date ("]);
    let runs = || std::fs::read_dir(project.path("cache/v1/runs")).unwrap().count();
    let before = runs();
    fake::run_in(&project, &["apply"]).expect(0).says(&["nothing to do: 5 engines up to date ("]);
    assert_eq!(runs(), before, "a run that looked at nothing but files is none");
}

#[test]
fn engines_of_models_that_did_not_change_are_not_planned() {
    let project = settled();
    fake::set_variant(&project, 0, 5);
    let rows = "2 to rebuild, 3 up to date";
    // Of the others nothing is looked at but their files: what a plan would read of them is not there.
    std::fs::rename(project.path("cache/v1/results/canonicalize"), project.path("away")).unwrap();
    let part = fake::run_in(&project, &["plan"]);
    part.expect(0).says(&["m0@a", "m0@b", rows]);
    let read = walkdir::WalkDir::new(project.path("cache/v1/results/canonicalize")).into_iter().flatten();
    assert_eq!(read.filter(|e| e.file_type().is_file()).count(), 1, "one model was read");
    std::fs::remove_dir_all(project.path("cache/v1/results/canonicalize")).unwrap();
    std::fs::rename(project.path("away"), project.path("cache/v1/results/canonicalize")).unwrap();
    // As data, and as a file, a plan is whole.
    let json = fake::run_in(&project, &["--format", "json", "plan"]).json();
    assert_eq!(json["engines"].as_array().unwrap().len(), 5);
    fake::run_in(&project, &["plan", "--out", "p.json"]).expect(0).says(&[rows]);
    let file: serde_json::Value = serde_json::from_slice(&project.read("p.json")).unwrap();
    assert!(["m0@a", "m0@b", "m1@a", "m1@b"].iter().all(|name| file.to_string().contains(name)), "{file}");
    // A model that was only touched is up to date, and the whole is remembered again.
    fake::set_variant(&project, 0, 0);
    std::thread::sleep(Duration::from_millis(2100));
    fake::run_in(&project, &["plan"]).expect(0).says(&["nothing to do: 5 engines up to date"]);
    std::fs::rename(project.path("cache/v1/results"), project.path("away")).unwrap();
    fake::run_in(&project, &["plan"]).expect(0).says(&["nothing to do: 5 engines up to date"]);
}

/// What was changed, and how.
type Change = (&'static str, fn(&Project));

const CHANGES: [Change; 14] = [
    ("a model", |p| fake::set_variant(p, 0, 5)),
    ("a model, of the same size and times", |p| {
        let path = p.path("m1.onnx");
        let times = path.metadata().unwrap().modified().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::open(&path).unwrap().set_modified(times).unwrap();
    }),
    ("a model is gone", |p| std::fs::remove_file(p.path("m0.onnx")).unwrap()),
    ("a manifest", |p| {
        let text = String::from_utf8(p.read("manifests/m.toml")).unwrap();
        p.write("manifests/m.toml", text.replace("256MiB", "128MiB"));
    }),
    ("another manifest", |p| {
        p.write(
            "manifests/more/x.toml",
            "schema = 1\n[model.x]\nsource = { path = \"../../m0.onnx\" }\ntargets = [\"b\"]\n",
        );
    }),
    ("a local manifest", |p| {
        drop(p.write("enginewright.local.toml", "[toolchain.rtx]\nroot = \"/nowhere\"\n"))
    }),
    ("another model for a glob", |p| {
        std::fs::copy(p.path("m1.onnx"), p.path("globbed/h.onnx")).unwrap();
    }),
    ("where a dangling link in the folder of a glob leads to", |p| {
        std::fs::create_dir(p.path("later")).unwrap();
        std::fs::copy(p.path("m1.onnx"), p.path("later/h.onnx")).unwrap();
    }),
    ("an engine", |p| {
        let path = p.path("engines/m0/a.engine");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[1..]).unwrap();
    }),
    ("an engine that is a hard link, edited in place", |p| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(p.path("engines/m1/b.engine")).unwrap();
        file.write_all_at(b"edited", 100).unwrap();
    }),
    ("a sidecar is gone", |p| std::fs::remove_file(p.path("engines/m1/a.json")).unwrap()),
    ("an engine that no manifest declares", |p| {
        std::fs::copy(p.path("engines/m1/a.engine"), p.path("engines/m1/z.engine")).unwrap();
        std::fs::copy(p.path("engines/m1/a.json"), p.path("engines/m1/z.json")).unwrap();
    }),
    ("the toolchain", |p| drop(p.write("toolchain/libtensorrt_rtx.so.1", "another one"))),
    ("the lock file", |p| drop(p.write("enginewright.lock", "<<<<<<< HEAD\n"))),
];

#[test]
fn every_change_is_noticed() {
    let project = settled();
    let keep = project.path("keep");
    let parts = ["manifests", "engines", "globbed", "toolchain", "cache"];
    let files = ["m0.onnx", "m1.onnx", "enginewright.lock"];
    let copy = |from: PathBuf, to: PathBuf| {
        // Links stay links, so that what is edited through one is edited in the cache too.
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    std::fs::create_dir(&keep).unwrap();
    for name in parts.iter().chain(&files) {
        copy(project.path(name), keep.join(name));
    }
    for (what, change) in CHANGES {
        change(&project);
        let remembered = fake::run_in(&project, &["plan"]);
        let _ = std::fs::remove_dir_all(project.path("cache/v1/memo"));
        let planned = fake::run_in(&project, &["plan"]);
        assert_eq!((remembered.code, &remembered.stdout), (planned.code, &planned.stdout), "{what}");
        let is_nothing = planned.stdout == "nothing to do: 5 engines up to date\n" && planned.code == 0;
        assert!(!is_nothing, "{what}: {planned:?}");
        for name in parts {
            std::fs::remove_dir_all(project.path(name)).unwrap();
        }
        let _ = std::fs::remove_file(project.path("enginewright.local.toml"));
        let _ = std::fs::remove_dir_all(project.path("later"));
        for name in parts.iter().chain(&files) {
            let _ = std::fs::remove_file(project.path(name));
            copy(keep.join(name), project.path(name));
        }
        fake::run_in(&project, &["plan"]).expect(0).says(&["nothing to do: 5"]);
    }
}

#[test]
fn another_search_path_is_another_question() {
    // `trtexec` is searched in it.
    let project = settled();
    let mut elsewhere = fake::command(&project, &project.path("cache"), &["plan"]);
    run(elsewhere.env("PATH", "/nowhere")).expect(0).says(&["nothing to do: 5"]);
    assert_eq!(memos(&project).len(), 2);
}

#[test]
fn a_damaged_memory_is_not_believed() {
    let project = settled();
    let memo = memos(&project).pop().unwrap();
    let mut bytes = std::fs::read(&memo).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&memo, bytes).unwrap();
    fake::run_in(&project, &["plan"]).expect(0).says(&["nothing to do: 5"]);
    std::fs::write(&memo, b"ewmemo1\n").unwrap();
    fake::run_in(&project, &["cache", "verify"]).expect(1).says(&["damaged  the answer"]);
    assert!(!memo.exists());
    fake::run_in(&project, &["cache", "verify"]).expect(0).says(&["sound"]);
}
