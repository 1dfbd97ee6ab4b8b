//! What rebuilds, and what must not: each edit beside what `plan` and `why` say of it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Project, models, rtx_libraries, run};

const MANIFEST: &str = "[target.both]\nsm = [\"sm_86\", \"sm_89\"]\n\
    [model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\", \"both\"]\n\
    [[model.m.profile]]\nname = \"p\"\ndims = { batch = [1, 2, 4] }\n\
    [model.n]\nsource = { path = \"../n.onnx\" }\ntargets = [\"a\"]\n";

const ALL_CURRENT: [&str; 3] = ["m@a: up-to-date", "m@both: up-to-date", "n@a: up-to-date"];

fn built() -> Project {
    let project = Project::new(MANIFEST);
    project.write("m.onnx", models::dynamic("batch"));
    project.write("n.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    assert_eq!(project.planned(), ALL_CURRENT);
    project
}

/// Edits the manifest, and says what is planned and why for the first engine that is not current.
fn edited(project: &Project, from: &str, to: &str) -> (Vec<String>, String) {
    let text = MANIFEST.replace(from, to);
    assert_ne!(text, MANIFEST, "`{from}` is not in the manifest");
    project.manifest(&text);
    let planned = project.planned();
    let engine = planned.iter().find(|p| !p.ends_with("up-to-date")).and_then(|p| p.split(':').next());
    let why = engine.map(|e| project.why(e).join("\n")).unwrap_or_default();
    (planned, why)
}

#[test]
fn each_edit_rebuilds_the_engines_concerned_and_why_names_the_field() {
    let project = built();
    let both = ["m@a: rebuild", "m@both: rebuild", "n@a: up-to-date"];

    let (planned, why) = edited(&project, "[1, 2, 4]", "[1, 2, 5]");
    assert_eq!(planned, both);
    assert_eq!(why, "profiles[0].shapes.x.max: [4, 4] is now [5, 4]");

    let (planned, why) = edited(&project, "[\"sm_86\", \"sm_89\"]", "[\"sm_86\", \"sm_120\"]");
    assert_eq!(planned, ["m@a: up-to-date", "m@both: rebuild", "n@a: up-to-date"]);
    assert_eq!(why, "sms: [sm_86, sm_89] is now [sm_86, sm_120]");

    let (planned, why) = edited(&project, "[model.n]", "[model.n.build]\nworkspace = \"1GiB\"\n[model.n]");
    assert_eq!(planned, ["m@a: up-to-date", "m@both: up-to-date", "n@a: rebuild"]);
    assert_eq!(why, "options.workspace: 4294967296 is now 1073741824");

    let (planned, why) = edited(&project, "[model.n]", "[model.n]\ntf32 = true");
    assert_eq!(planned, ["m@a: up-to-date", "m@both: up-to-date", "n@a: rebuild"]);
    assert_eq!(why, "options.tf32: false is now true");

    project.manifest(MANIFEST);
    assert_eq!(project.planned(), ALL_CURRENT, "back to where it was: the cache knows it");

    project.write("n.onnx", models::mlp(1.5));
    assert_eq!(project.planned(), ["m@a: up-to-date", "m@both: up-to-date", "n@a: rebuild"]);
    assert_eq!(project.why("n@a"), ["model: 1 of 4 initializers differ: w1"]);

    project.write("n.onnx", models::mlp(1.0));
    project.write("m.onnx", models::dynamic("n"));
    project.manifest(&MANIFEST.replace("batch =", "n ="));
    assert_eq!(project.planned(), both);
    let why = project.why("m@a").join("\n");
    assert!(why.contains("input `x`: float[batch, 4] is now float[n, 4]"), "{why}");
}

/// Lets the project use libraries of its own, in `other/`.
fn use_copy_of_toolchain(project: &Project) {
    let other = project.path("other");
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(rtx_libraries()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
        }
    }
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    let root = rtx_libraries().display().to_string();
    project.write("manifests/m.toml", manifest.replace(&root, &other.display().to_string()));
}

/// One byte more: the library loads, and is not the same.
fn grow_parser(project: &Project) {
    let parser = project.path("other/libtensorrt_onnxparser_rtx.so.1");
    let mut bytes = std::fs::read(&parser).unwrap();
    bytes.push(0);
    std::fs::remove_file(&parser).unwrap();
    std::fs::write(&parser, bytes).unwrap();
}

#[test]
fn another_toolchain_rebuilds_everything_and_why_names_it() {
    let project = built();
    use_copy_of_toolchain(&project);
    grow_parser(&project);
    assert_eq!(project.planned(), ["m@a: rebuild", "m@both: rebuild", "n@a: rebuild"]);
    let why = project.why("n@a");
    assert_eq!(why, ["toolchain: version 1.7.1.116 with other files: libtensorrt_onnxparser_rtx.so.1"]);
}

#[test]
fn what_means_nothing_rebuilds_nothing() {
    let project = built();
    // Comments, order of tables, spelling of a number, the form of a profile.
    project.manifest(
        "# a comment\n[model.n]\ntargets = [\"a\"]\nsource = { path = \"../n.onnx\" }\n\
         [model.m]\ntargets = [\"both\", \"a\"]\nsource = { path = \"../manifests/../m.onnx\" }\n\
         [model.m.build]\nworkspace = \"4096MiB\"\ntimeout = \"1h\"\n\
         [[model.m.profile]]\nshapes = { x = { min = [1, 4], opt = [2, 4], max = [4, 4] } }\nname = \"p\"\n\
         [target.both]\nsm = [\"sm_89\", \"sm_86\"]\n",
    );
    assert_eq!(project.planned(), ALL_CURRENT);
    project.manifest(MANIFEST);

    // Times.
    let now = std::time::SystemTime::now() - std::time::Duration::from_secs(10_000);
    for file in ["m.onnx", "manifests/m.toml"] {
        std::fs::File::options().append(true).open(project.path(file)).unwrap().set_modified(now).unwrap();
    }
    assert_eq!(project.planned(), ALL_CURRENT);

    // What a model says about itself.
    project.write("n.onnx", models::mlp_documented(1.0));
    assert_eq!(project.planned(), ALL_CURRENT);

    // Another place, another locale, another time zone, another environment.
    let moved = Project::bare();
    let copy = moved.path("a much longer name of a folder");
    run(std::process::Command::new("cp").arg("-a").arg(project.root()).arg(&copy)).expect(0);
    let mut command = moved.command(&["--format", "json", "plan"]);
    command.current_dir(&copy).env("LC_ALL", "de_DE.UTF-8").env("TZ", "Asia/Tokyo");
    command.env("NVIDIA_TF32_OVERRIDE", "1");
    assert_eq!(run(&mut command).json()["changes"], false);

    // A fresh clone: manifests, models and lock file, and the cache of somebody else.
    let clone = Project::bare();
    for file in ["m.onnx", "n.onnx", "enginewright.lock"] {
        clone.write(file, project.read(file));
    }
    clone.write("manifests/m.toml", project.read("manifests/m.toml"));
    let cache = project.path("cache");
    let plan = clone.run(&["--cache-dir", cache.to_str().unwrap(), "--format", "json", "plan"]).json();
    let actions: Vec<&str> =
        plan["engines"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["restore"; 3], "everything is in the cache");
}

#[test]
fn an_edit_of_a_doc_string_does_not_run_prepare() {
    let project = built();
    let before = std::fs::read_dir(project.path("cache/v1/results/prepare")).unwrap().count();
    project.write("n.onnx", models::mlp_documented(1.0));
    project.run(&["apply"]).expect(0).says(&["nothing to do"]);
    assert_eq!(std::fs::read_dir(project.path("cache/v1/results/prepare")).unwrap().count(), before);
}

#[test]
fn an_epoch_rebuilds_for_no_other_reason() {
    let project = built();
    let (planned, why) = edited(&project, "[model.n]", "[model.n.build]\nepoch = 1\n[model.n]");
    assert_eq!(planned, ["m@a: up-to-date", "m@both: up-to-date", "n@a: rebuild"]);
    assert_eq!(why, "epoch: 0 is now 1");
    project.run(&["apply"]).expect(0).says(&["rebuilt"]);
}

#[test]
fn a_toolchain_that_is_replaced_during_a_build_gives_no_result() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::chain(1200));
    use_copy_of_toolchain(&project);
    let mut command = project.command(&["apply"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("building")));
    grow_parser(&project);
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:#?}");
    assert!(rest.join("\n").contains("error[toolchain-changed]"), "{rest:#?}");
    assert!(!project.exists("engines/m/a.engine"));
    assert!(!project.exists("cache/v1/results/build"));
}
