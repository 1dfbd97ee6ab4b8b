//! `apply` with the real TensorRT-RTX: engines, sidecars, lock file, and nothing when nothing is to do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use crate::support::{PROGRAM, Project, models, run};

const TWO_TARGETS: &str = "[target.b]\nsm = [\"sm_86\", \"sm_89\", \"sm_120\"]\n\
    [model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\", \"b\"]\n";

/// Every file below a folder, with its time and size.
fn snapshot(folder: &Path) -> BTreeMap<String, (SystemTime, u64)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                let facts = (metadata.modified().unwrap(), metadata.len());
                files.insert(entry.path().display().to_string(), facts);
            }
        }
    }
    files
}

#[test]
fn builds_engines_once_and_publishes_them() {
    let project = Project::new(TWO_TARGETS);
    project.write("m.onnx", models::mlp(1.0));
    let first = project.run(&["apply"]);
    first.expect(0).says(&["built", "m@a", "m@b", "2 of 2 engines ready"]);

    let engine = project.read("engines/m/a.engine");
    assert_eq!(&engine[..4], b"vtrt", "a TensorRT-RTX plan");
    // The mask of compute capabilities in its header: 86 is 4; 86, 89 and 120 are 4 + 8 + 16.
    assert_eq!(engine[0x20], 4);
    assert_eq!(project.read("engines/m/b.engine")[0x20], 28);
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    assert_eq!(sidecar["engine"], "m@a");
    assert_eq!(sidecar["sms"], serde_json::json!(["sm_86"]));
    assert_eq!(sidecar["file"]["size"], engine.len());
    assert_eq!(sidecar["bindings"][0]["name"], "x");
    assert_eq!(sidecar["verdict"], "none-declared");
    let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
    assert!(lock.contains(sidecar["build_key"].as_str().unwrap()), "{lock}");

    // Until the clock has moved on, the stat cache does not trust files this young.
    std::thread::sleep(std::time::Duration::from_secs(3));
    project.run(&["plan"]).expect(0).says(&["nothing to do: 2 engines up to date"]);
    // Each question is remembered once.
    project.run(&["plan", "--detailed-exitcode"]).expect(0);
    let before = snapshot(project.root());
    project.run(&["plan", "--detailed-exitcode"]).expect(0).says(&["nothing to do"]);
    project.run(&["status"]).expect(0).says(&["current", "m@a", "m@b"]);
    assert_eq!(before, snapshot(project.root()), "a plan without work writes nothing");
}

#[test]
fn a_plan_says_what_and_why_and_changes_nothing() {
    let project = Project::new(TWO_TARGETS);
    project.write("m.onnx", models::mlp(1.0));
    let plan = project.run(&["plan"]);
    plan.expect(0).says(&["build", "m@a", "never built", "2 to build"]);
    project.run(&["plan", "--detailed-exitcode"]).expect(2);
    let json = project.run(&["plan", "--format", "json", "m@a"]).json();
    assert_eq!(json["changes"], true);
    assert_eq!(json["engines"][0]["action"], "build");
    assert_eq!(json["engines"][0]["reasons"][0]["reason"], "never-built");
    assert!(!project.exists("engines") && !project.exists("enginewright.lock"));
}

#[test]
fn engines_with_equal_inputs_are_built_once() {
    let project = Project::new(
        "[target.b]\nsm = \"sm_86\"\n[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\", \"b\"]\n\
         [model.n]\nsource = { path = \"../copy.onnx\" }\ntargets = [\"a\"]\n",
    );
    project.write("m.onnx", models::mlp(1.0));
    project.write("copy.onnx", models::mlp(1.0));
    let apply = project.run(&["apply"]);
    apply.expect(0).says(&["3 of 3 engines ready", "and 2 with equal inputs"]);
    assert_eq!(apply.stderr.matches("built     ").count(), 1, "{}", apply.stderr);
}

#[test]
fn a_failure_leaves_the_others_and_what_was_published() {
    let project = Project::new(
        "[model.good]\nsource = { path = \"../good.onnx\" }\ntargets = [\"a\"]\n\
         [model.bad]\nsource = { path = \"../bad.onnx\" }\ntargets = [\"a\"]\n",
    );
    project.write("good.onnx", models::mlp(1.0));
    project.write("bad.onnx", models::mlp(2.0));
    project.run(&["apply"]).expect(0);
    let published = project.read("engines/bad/a.engine");

    project.write("good.onnx", models::mlp(3.0));
    project.write("bad.onnx", models::unsupported());
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["1 of 2 engines ready, 1 failed", "rebuilt", "NonZero", "`nz` (NonZero)"]);
    assert_eq!(project.read("engines/bad/a.engine"), published);
    project.run(&["status"]).expect(0).says(&["stale", "bad@a", "current", "good@a"]);

    // The bundle that was kept fails in the same way when it is run again.
    project.run(&["log", "bad@a", "--failure"]).expect(0).says(&["failure, kept in", "NonZero"]);
    let bundle =
        std::fs::read_dir(project.path("cache/v1/failures")).unwrap().next().unwrap().unwrap().path();
    assert!(bundle.join("model.onnx").exists());
    project.run(&["replay", bundle.to_str().unwrap()]).expect(1).says(&["NonZero"]);
}

#[test]
fn published_engines_are_restored_from_the_cache() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    let engine = project.read("engines/m/a.engine");

    std::fs::remove_dir_all(project.path("engines")).unwrap();
    assert_eq!(project.planned(), ["m@a: restore"]);
    project.run(&["apply"]).expect(0).says(&["restored", "not published"]);
    assert_eq!(project.read("engines/m/a.engine"), engine);

    // Somebody puts another file in its place.
    std::fs::remove_file(project.path("engines/m/a.engine")).unwrap();
    project.write("engines/m/a.engine", b"not this one");
    project.run(&["status"]).expect(0).says(&["broken"]);
    project.run(&["apply"]).expect(0).says(&["not the one that its sidecar names"]);
    assert_eq!(project.read("engines/m/a.engine"), engine);

    // The lock file is lost: it is written anew, from what is published.
    let lock = project.read("enginewright.lock");
    std::fs::remove_file(project.path("enginewright.lock")).unwrap();
    project.run(&["apply"]).expect(0).says(&["nothing to do"]);
    assert_eq!(project.read("enginewright.lock"), lock);

    // The cache is lost, the engines are not: nothing is to do.
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
}

#[test]
fn an_engine_edited_in_place_is_noticed_and_never_used() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    let engine = project.read("engines/m/a.engine");
    // Through a hard link, this damages the cache as well.
    let path = project.path("engines/m/a.engine");
    let mut damaged = engine.clone();
    damaged[5000] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the test owns the file")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, &damaged).unwrap();
    project.run(&["apply"]).expect(0);
    assert_eq!(project.read("engines/m/a.engine"), engine);
}

#[test]
fn orphans_are_listed_and_pruned() {
    let project = Project::new(TWO_TARGETS);
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    project.write("engines/m/theirs.engine", b"not ours");
    project.manifest("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.run(&["plan"]).expect(0).says(&["orphaned", "engines/m/b.engine"]);
    project.run(&["apply"]).expect(0);
    assert!(project.exists("engines/m/b.engine"));
    project.run(&["apply", "--prune"]).expect(0).says(&["removed `engines/m/b.engine`"]);
    assert!(!project.exists("engines/m/b.engine") && !project.exists("engines/m/b.json"));
    assert!(project.exists("engines/m/theirs.engine"), "what has no sidecar of ours stays");
    let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
    assert!(!lock.contains("m@b"), "{lock}");
    // What cannot be removed does not hide what became of the engines.
    std::fs::create_dir(project.path("engines/m/b.engine")).unwrap();
    project.write("engines/m/b.json", project.read("engines/m/a.json"));
    project.write("m.onnx", models::mlp(2.0));
    let apply = project.run(&["apply", "--prune"]);
    apply.expect(1).says(&["rebuilt", "1 of 1 engine ready", "cannot remove", "engines/m/b.engine"]);
}

#[test]
fn a_dynamic_input_needs_a_profile_and_the_one_shown_works() {
    let head = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n";
    let project = Project::new(head);
    project.write("m.onnx", models::dynamic("batch"));
    let apply = project.run(&["--format", "json", "apply"]);
    apply.expect(1);
    let json = apply.json();
    let help = json["diagnostics"][0]["help"][0].as_str().unwrap();
    assert_eq!(json["diagnostics"][0]["code"], "no-profile");
    let profile = help.split_once('\n').unwrap().1;
    project.manifest(&format!("{head}{profile}\n"));
    project.run(&["apply"]).expect(0);
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    assert_eq!(sidecar["profiles"][0]["shapes"]["x"][2][0], 8);
}

#[test]
fn several_profiles_and_values_of_shape_tensors_build() {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n\
         [[model.m.profile]]\nname = \"small\"\ndims = { batch = [1, 2, 4] }\nvalues = { shape = { min = [1, 4], opt = [2, 4], max = [4, 4] } }\n\
         [[model.m.profile]]\nname = \"large\"\nshapes = { x = { min = [4, 4], opt = [8, 4], max = [64, 4] } }\n\
         values = { shape = { min = [4, 4], opt = [8, 4], max = [64, 4] } }\n",
    );
    project.write("m.onnx", models::reshape_by_input());
    project.run(&["apply"]).expect(0);
    let sidecar: serde_json::Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    assert_eq!(sidecar["profiles"][1]["name"], "large");
    assert_eq!(sidecar["profiles"][1]["values"]["shape"][2], serde_json::json!([64, 4]));
}

#[test]
fn what_a_model_reads_through_external_data_is_part_of_it() {
    let project = Project::new("[model.m]\nsource = { path = \"../m/m.onnx\" }\ntargets = [\"a\"]\n");
    models::mlp_external(&project.path("m"), 1.0);
    project.run(&["apply"]).expect(0);
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    models::mlp_external(&project.path("m"), 2.0);
    assert_eq!(project.planned(), ["m@a: rebuild"]);
    let why = project.why("m@a").join("\n");
    assert!(why.contains("1 of 4 initializers differ: w1"), "{why}");
}

#[test]
fn external_data_that_changes_while_it_is_read_is_never_taken_for_another() {
    let project = Project::new("[model.m]\nsource = { path = \"../m/m.onnx\" }\ntargets = [\"a\"]\n");
    models::mlp_external(&project.path("m"), 1.0);
    let data = project.path("m").join("m.data");
    let size = std::fs::metadata(&data).unwrap().len();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::options().write(true).open(&data).unwrap();
            // A byte of the last tensor, which is a small one, in place.
            for byte in (0..2u8).cycle().take_while(|_| !stop.load(std::sync::atomic::Ordering::Relaxed)) {
                std::os::unix::fs::FileExt::write_all_at(&file, &[byte], size - 1).unwrap();
            }
        });
        for _ in 0..8 {
            let output = project.run(&["plan"]);
            assert!(output.code == 0 || output.stderr.contains("source-changed"), "{output:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let digest = |cache: &str| {
        let plan = project.run(&["--format", "json", "plan", "--cache-dir", cache]);
        plan.expect(0).json()["engines"][0]["build"].clone()
    };
    assert_eq!(digest("cache"), digest("another"));
}

#[test]
fn two_processes_build_an_engine_once() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::chain(400));
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| run(&mut project.command(&["apply"])))).collect();
        runs.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for output in &outputs {
        output.expect(0);
    }
    let built: usize = outputs.iter().map(|o| o.stderr.matches("built     m@a: ").count()).sum();
    assert_eq!(built, 1, "{outputs:#?}");
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
}

#[test]
fn engines_are_named_by_patterns() {
    let project = Project::new(TWO_TARGETS);
    project.write("m.onnx", models::mlp(1.0));
    let engines = |pattern: &str| {
        let json = project.run(&["--format", "json", "plan", pattern]).json();
        json["engines"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((engines("m"), engines("m@a"), engines("*@b"), engines("*")), (2, 1, 1, 2));
    project.run(&["plan", "m@c"]).expect(64).says(&["no engine is named `m@c`", "did you mean `m@"]);
    project.run(&["why", "m"]).expect(64).says(&["2 engines, one is expected"]);
}

#[test]
fn help_teaches_and_bad_usage_is_64() {
    let project = Project::bare();
    project.run(&["--help"]).expect(0).says(&["plan", "apply", "status", "why", "explain exit-codes"]);
    project.run(&["explain", "exit-codes"]).expect(0).says(&["64  a bad command line"]);
    project.run(&["explain", "environment"]).expect(0).says(&["ENGINEWRIGHT_ROOT_<NAME>"]);
    project.run(&["explain", "exit-code"]).expect(64).says(&["did you mean `exit-codes`?"]);
    project.run(&["apply", "--help"]).expect(0).says(&["Example:"]);
    project.run(&["--version"]).expect(0).says(&["enginewright 0."]);
    project.run(&["aply"]).expect(64).says(&["apply"]);
    project.run(&["apply", "-j", "0"]).expect(64);
    project.run(&["plan"]).expect(4).says(&["there is no `manifests/`"]);
    let json = project.run(&["--format", "json", "plan"]);
    json.expect(4);
    assert_eq!(json.json()["diagnostics"][0]["code"], "no-project");
}

#[test]
fn an_index_that_cannot_be_written_costs_time_and_nothing_else() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    std::fs::create_dir_all(project.path("cache/v1/stat")).unwrap();
    project.run(&["apply"]).expect(0).says(&["1 of 1 engine ready", "files are hashed once more"]);
    project.run(&["status"]).expect(0).says(&["current"]);
}

#[test]
fn names_are_in_no_key_and_the_sidecar_follows_them() {
    let text = |profile: &str| {
        format!(
            "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\n\
             [[model.m.profile]]\nname = \"{profile}\"\ndims = {{ n = [1, 2, 4] }}\n"
        )
    };
    let project = Project::new(&text("before"));
    project.write("m.onnx", models::dynamic("n"));
    project.run(&["apply"]).expect(0);
    project.manifest(&text("after"));
    assert_eq!(project.planned(), ["m@a: publish"]);
    assert_eq!(project.why("m@a"), ["its sidecar has names that are no longer those of the manifest"]);
    project.run(&["status"]).expect(0).says(&["stale"]);
    project.run(&["apply"]).expect(0).says(&["published"]);
    assert!(String::from_utf8(project.read("engines/m/a.json")).unwrap().contains("\"after\""));
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    // Words are no reason to build.
    project.manifest(&text("later"));
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
}

#[test]
fn data_that_cannot_be_printed_is_an_error() {
    let project = Project::new("");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let plan = run(project.command(&["plan"]).stdout(full));
    plan.expect(1).says(&["cannot write to the standard output"]);
}

#[test]
fn a_program_that_is_replaced_goes_on_as_it_is() {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n\
         [model.n]\nsource = { path = \"../n.onnx\" }\ntargets = [\"a\"]\n",
    );
    project.write("m.onnx", models::chain(400));
    project.write("n.onnx", models::mlp(1.0));
    let program = project.path("program");
    std::fs::copy(PROGRAM, &program).unwrap();
    let mut command = std::process::Command::new(&program);
    let command = command.args(["apply", "-j", "1"]).current_dir(project.root());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("building")));
    std::fs::copy("/bin/false", project.path("other")).unwrap();
    std::fs::rename(project.path("other"), &program).unwrap();
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:#?}");
}
