//! The same engine, bit for bit, from any folder, on a busy machine, with one processor or two.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Output, Project, models, run};

/// The recognizer of PP-OCRv4: a plain worker gives one of several engines of it.
fn recognizer() -> String {
    let start = models::REAL.find("[model.ocr-rec]").expect("it is one of the real models");
    let rest = &models::REAL[start..];
    let end = rest[1..].find("\n[model.").map_or(rest.len(), |at| at + 1);
    format!("[defaults]\ntargets = [\"a\"]\n{}", &rest[..end])
}

/// Builds it in a folder below the project's, and gives the digest of the engine.
fn engine_of(project: &Project, wrap: &[&str], variable: &str) -> String {
    project.share("packages");
    let apply = project.command(&["apply"]);
    let mut command = Command::new(wrap.first().map_or(apply.get_program(), |w| std::ffi::OsStr::new(*w)));
    if !wrap.is_empty() {
        command.args(&wrap[1..]).arg(apply.get_program());
    }
    command.args(apply.get_args()).current_dir(project.root()).env("SOMETHING", variable);
    run(command.env("NO_COLOR", "1").env_remove("ENGINEWRIGHT_CACHE")).expect(0);
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/ocr-rec/a.json")).unwrap();
    assert_eq!(sidecar["hermetic"], "det");
    sidecar["file"]["b3"].as_str().unwrap().to_owned()
}

#[test]
fn where_and_when_it_is_built_changes_no_byte_of_an_engine() {
    let first = engine_of(&Project::new(&recognizer()), &[], "");
    let is_done = AtomicBool::new(false);
    let second = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let project = Project::new_in(&"long/".repeat(20), &recognizer());
        let engine = engine_of(&project, &["taskset", "-c", "0"], &"x".repeat(5000));
        is_done.store(true, Ordering::Relaxed);
        engine
    });
    assert_eq!(first, second);
}

#[test]
fn a_rebuild_is_held_against_the_record_and_its_class_is_told() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["rebuild", "--check"]).expect(1).says(&["has no build on record", "run `apply` first"]);
    project.run(&["apply"]).expect(0);
    project.run(&["rebuild"]).expect(64);
    let rebuild = project.run(&["--format", "json", "rebuild", "--check", "--times", "2"]);
    let json = rebuild.expect(0).json();
    assert_eq!(json["engines"][0]["class"], "bit", "{json}");
    assert_eq!(json["engines"][0]["rebuilt"]["evidence"]["hermetic"], serde_json::json!(["det"]));
    project.run(&["rebuild", "--check"]).expect(0).says(&["bit    m@a     1 of 1 equal  3 of 3"]);

    let sidecar = || serde_json::from_slice::<serde_json::Value>(&project.read("engines/m/a.json")).unwrap();
    assert_eq!((&sidecar()["class"], &sidecar()["evidence"]["rebuilds"]), (&"bit".into(), &3.into()));
    let lock = project.read("enginewright.lock");
    assert!(String::from_utf8_lossy(&lock).contains("class = \"bit\""));
    // What was learnt outlives the published files, and is no change.
    project.run(&["plan", "--detailed-exitcode", "--locked"]).expect(0);
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    project.run(&["apply", "--locked"]).expect(0);
    assert_eq!(sidecar()["class"], "bit");
    assert_eq!(project.read("enginewright.lock"), lock);
}

/// The test program of the runtime, and the runtime itself, which the build script made.
fn runtime() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("hermetic");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hermetic.c");
    let mut compile = Command::new("cc");
    compile.args(["-D_GNU_SOURCE", "-O1", "-Wno-cast-function-type", "-o"]).arg(&program).arg(&source);
    run(compile.args(["-ldl", "-lpthread"])).expect(0);
    (folder, program)
}

fn act(program: &Path, mode: &str) -> Output {
    run(Command::new(program).arg(mode).env("LD_PRELOAD", concat!(env!("OUT_DIR"), "/det.so")))
}

#[test]
fn addresses_and_the_order_of_threads_depend_on_nothing_but_the_calls() {
    let (_folder, program) = runtime();
    let sums: Vec<String> = (0..5).map(|_| act(&program, "mix").expect(0).stdout.clone()).collect();
    assert!(sums.iter().all(|sum| *sum == sums[0] && sum.trim().len() == 16), "{sums:?}");
}

#[test]
fn threads_that_cannot_take_turns_end_the_process_with_a_status_of_their_own() {
    let (_folder, program) = runtime();
    act(&program, "deadlock").expect(86).says(&["all of them wait", "thread 1 waits for: join"]);
    act(&program, "many").expect(87).says(&["too many of them"]);
}

#[test]
fn where_a_container_forbids_fixed_addresses_engines_are_built_plainly_and_that_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let forbid = folder.path().join("forbid");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/forbid.c");
    run(Command::new("cc").args(["-D_GNU_SOURCE", "-O1", "-o"]).arg(&forbid).arg(&source)).expect(0);
    let project = Project::new(
        "[target.b]\nsm = \"sm_89\"\n[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\", \"b\"]\n",
    );
    project.write("m.onnx", models::mlp(1.0));
    let apply = project.command(&["apply"]);
    let mut command = Command::new(&forbid);
    command.arg(apply.get_program()).args(apply.get_args()).current_dir(project.root()).env("NO_COLOR", "1");
    let apply = run(command.env_remove("ENGINEWRIGHT_CACHE"));
    apply.expect(0).says(&[
        "2 of 2 engines ready",
        "`m@a` and 1 more were built by a plain worker",
        "seccomp",
    ]);
    assert_eq!(apply.stderr.matches("plain worker").count(), 1, "{apply:?}");
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    assert_eq!(sidecar["hermetic"], "plain");
}
