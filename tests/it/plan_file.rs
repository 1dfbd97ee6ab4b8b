//! Plans as files: carried out to the letter, or refused with what differs. And engines that the lock file names.

use serde_json::{Value, json};

use crate::support::{Project, models};

const MANIFEST: &str = "[target.b]\nsm = \"sm_89\"\n\
    [model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\", \"b\"]\n\
    [[model.m.profile]]\nname = \"p\"\ndims = { batch = [1, 2, 4] }\n";

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.write("m.onnx", models::dynamic("batch"));
    project
}

/// Changes the plan file.
fn edit(project: &Project, name: &str, edit: impl FnOnce(&mut Value)) {
    let mut plan: Value = serde_json::from_slice(&project.read("p.json")).unwrap();
    edit(&mut plan);
    project.write(name, plan.to_string());
}

/// `apply FILE` exits with this, says this, and does nothing.
#[track_caller]
fn refused(project: &Project, file: &str, code: i32, says: &[&str]) {
    let apply = project.run(&["apply", file]);
    apply.expect(code).says(says);
    assert!(!apply.stderr.contains("building"), "{apply:?}");
}

#[test]
fn a_plan_is_shown_applied_and_resumed() {
    let project = project();
    let plan = project.run(&["plan", "--out", "p.json", "--detailed-exitcode"]);
    plan.expect(2).says(&["2 to build"]);
    let text = String::from_utf8(project.read("p.json")).unwrap();
    assert!(!text.contains(project.root().to_str().unwrap()), "no path of this machine: {text}");
    let shown = project.run(&["plan", "--show", "p.json"]);
    shown.expect(0).says(&["build   m@a     never built", "2 to build"]);
    let json = project.run(&["--format", "json", "plan", "--show", "p.json"]).json();
    assert_eq!(json["plan"]["engines"][0]["reasons"][0]["reason"], "never-built");
    assert_eq!((&json["plan"]["changes"], &json["plan"]["format"]), (&json!(true), &json!("1.0")));
    assert_eq!(json["plan"]["made_from"].as_str().map(str::len), Some(64));

    // A part of it is done already, as after an apply that was interrupted.
    project.run(&["apply", "m@b"]).expect(0);
    project.run(&["apply", "p.json"]).expect(0).says(&["built   m@a", "2 of 2 engines ready"]);
    project.run(&["apply", "p.json"]).expect(0).says(&["nothing to do: 2 engines up to date"]);
    project.run(&["apply", "p.json", "m@a"]).expect(64).says(&["names its engines itself"]);

    // It plans for the engines that it was asked of, and for no others.
    project.run(&["plan", "m@a", "--out", "p.json"]).expect(0);
    project.manifest(&MANIFEST.replace("[\"a\", \"b\"]", "[\"a\"]"));
    project.run(&["apply", "p.json"]).expect(0);
    // What is removed is what the plan said.
    refused(&project, "p.json", 0, &[]);
    let prune = project.run(&["apply", "--prune", "p.json"]);
    prune.expect(1).says(&["`engines/m/b.engine` would be removed, and the plan does not say so"]);
    project.run(&["plan", "--out", "p.json"]).expect(0).says(&["orphaned  engines/m/b.engine"]);
    project.run(&["apply", "--prune", "p.json"]).expect(0).says(&["removed `engines/m/b.engine`"]);
}

#[test]
fn a_stale_plan_is_refused_with_what_differs() {
    let project = project();
    project.run(&["plan", "--out", "p.json"]).expect(0);
    project.manifest(&MANIFEST.replace("[1, 2, 4]", "[1, 2, 5]"));
    refused(
        &project,
        "p.json",
        1,
        &["error[plan-stale]", "`m@b`: profiles[0].shapes.x.max: [4, 4] is now [5, 4]"],
    );
    project.run(&["plan", "--show", "p.json"]).expect(0).says(&["2 to build"]);
    project.manifest(&MANIFEST.replace("[\"a\", \"b\"]", "[\"a\"]"));
    refused(&project, "p.json", 1, &["`m@b`: no manifest declares it any more"]);
    project.manifest(&MANIFEST.replace("model.m", "model.n"));
    refused(&project, "p.json", 1, &["it is the plan of another project"]);
    project.manifest(MANIFEST);
    let mut model = models::dynamic("batch");
    let at = model.windows(4).position(|w| w == b"w2\x4a\x40").expect("a weight") + 4;
    model[at] ^= 1;
    project.write("m.onnx", &model);
    refused(&project, "p.json", 1, &["`m@a`: model: "]);

    // Less to do than planned is fine; more is not.
    project.write("m.onnx", models::dynamic("batch"));
    project.run(&["apply"]).expect(0);
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    project.run(&["plan", "--out", "p.json"]).expect(0).says(&["2 to restore"]);
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    refused(&project, "p.json", 1, &["`m@a`: it was to restore, and is to rebuild now"]);
    project.manifest(&MANIFEST.replace("dims = { batch", "dims = { bach"));
    project.run(&["plan", "--out", "q.json"]).expect(3);
    assert!(!project.exists("q.json"), "a plan with errors is none");
}

#[test]
fn bad_plan_files_are_told_apart() {
    let project = project();
    project.run(&["plan", "--out", "p.json"]).expect(0);
    edit(&project, "major.json", |plan| plan["format"] = json!("2.0"));
    refused(&project, "major.json", 3, &["error[plan-file]", "it has format version 2.0", "major.json"]);
    let text = project.read("p.json");
    project.write("half.json", &text[..text.len() / 2]);
    refused(&project, "half.json", 3, &["it is damaged or no plan file"]);
    project.run(&["plan", "--show", "half.json"]).expect(3);
    edit(&project, "edited.json", |plan| plan["engines"][0]["inputs"]["build"]["fields"]["epoch"] = json!(1));
    refused(&project, "edited.json", 3, &["it was edited"]);
    refused(&project, "missing.json", 3, &["cannot read `missing.json`"]);
    // A newer minor version may say more, and give reasons that we do not know.
    edit(&project, "minor.json", |plan| {
        plan["format"] = json!("1.7");
        plan["hint"] = json!("something new");
        plan["engines"][0]["reasons"] = json!([{ "reason": "moon-phase", "text": "the moon is full" }]);
        plan["engines"][0]["inputs"]["more"] = json!(1);
    });
    project.run(&["plan", "--show", "minor.json"]).expect(0).says(&["the moon is full"]);
    project.run(&["apply", "minor.json"]).expect(0).says(&["2 of 2 engines ready"]);
}

#[test]
fn what_was_never_fetched_cannot_be_planned_for() {
    let project = Project::new(
        "[model.m]\nsource = { package = \"magika==1.0.3\", file = \"magika/m.onnx\" }\ntargets = [\"a\"]\n",
    );
    let plan = project.run(&["plan", "--out", "p.json"]);
    plan.expect(0).says(&["unknown", "source not fetched", "warning[plan-unknown]"]);
    let apply = project.run(&["apply", "--offline", "p.json"]);
    apply.expect(1).says(&["`m@a`: its inputs were not known when the plan was made"]);
}

#[test]
fn a_plan_tells_how_long_it_will_take() {
    let project = project();
    let plan = |project: &Project| project.run(&["--format", "json", "plan"]).json();
    let json = plan(&project);
    assert_eq!((&json["engines"][0]["estimate_ms"], &json["estimate_lacks"]), (&Value::Null, &json!(2)));
    project.run(&["apply", "m@a"]).expect(0);
    // The other target of the same model takes as long.
    let json = plan(&project);
    assert!(json["engines"][1]["estimate_ms"].as_u64() > Some(0), "{json}");
    project.run(&["plan"]).expect(0).says(&["1 to build, 1 up to date, in about "]);
    project.manifest(&MANIFEST.replace("[1, 2, 4]", "[1, 2, 5]"));
    let json = plan(&project);
    assert_eq!(json["estimate_lacks"], 0, "{json}");
    assert!(json["estimate_ms"].as_u64() >= json["engines"][0]["estimate_ms"].as_u64(), "{json}");
}

#[test]
fn a_locked_engine_is_restored_by_its_digest_and_other_bytes_are_loud() {
    let project = project();
    project.run(&["apply"]).expect(0);
    let engine = project.read("engines/m/a.engine");
    // Nothing but its digest leads to it.
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    std::fs::remove_dir_all(project.path("cache/v1/results/build")).unwrap();
    assert_eq!(project.planned(), ["m@a: restore", "m@b: restore"]);
    let apply = project.run(&["apply", "--locked"]);
    apply.expect(0).says(&["restored"]);
    assert!(!apply.stderr.contains("building"), "{apply:?}");
    assert_eq!(project.read("engines/m/a.engine"), engine);
    let sidecar: Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    assert_eq!((&sidecar["bindings"][0]["name"], &sidecar["hermetic"]), (&json!("x"), &json!("det")));

    // The blob is gone, and the lock file names bytes that do not come again.
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
    let at = lock.find("\nb3 = \"").expect("the engine's digest") + "\nb3 = \"".len();
    let flipped = if &lock[at..=at] == "0" { "1" } else { "0" };
    let other = format!("{}{flipped}{}", &lock[..at], &lock[at + 1..]);
    project.write("enginewright.lock", &other);
    let apply = project.run(&["apply", "--locked", "m@a"]);
    apply.expect(1).says(&["error[locked]", "engine `m@a`", "its bytes are others"]);
    assert!(!project.exists("engines/m/a.engine"));
    assert_eq!(project.read("enginewright.lock"), other.as_bytes());
    project.run(&["apply"]).expect(0).says(&[
        "warning[built-otherwise]",
        "its bytes are others",
        "engine `m@a`",
    ]);
    assert_eq!(project.read("enginewright.lock"), lock.as_bytes(), "the engine is what it was");
}
