//! `--locked`: nothing that differs from the lock file gets through, and the message names the field.

use crate::support::{Project, models};

const MANIFEST: &str = "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n\
    [[model.m.profile]]\nname = \"p\"\ndims = { batch = [1, 2, 4] }\n";

fn built() -> Project {
    let project = Project::new(MANIFEST);
    project.write("m.onnx", models::dynamic("batch"));
    project.run(&["apply"]).expect(0);
    project
}

/// `apply --locked` and `plan --locked` refuse, say this, and change nothing.
#[track_caller]
fn refused(project: &Project, says: &[&str]) {
    let (lock, engine) = (project.read("enginewright.lock"), project.read("engines/m/a.engine"));
    project.run(&["apply", "--locked"]).expect(1).says(says).says(&["error[locked]"]);
    project.run(&["plan", "--locked"]).expect(1).says(says);
    assert_eq!(project.read("enginewright.lock"), lock);
    assert_eq!(project.read("engines/m/a.engine"), engine);
}

#[test]
fn nothing_changed_is_fine_and_a_clone_gets_the_same_engines() {
    let project = built();
    project.run(&["apply", "--locked"]).expect(0).says(&["nothing to do"]);
    project.run(&["plan", "--locked"]).expect(0);
    // Another clone, with an empty cache: it builds, and gets the very bytes of the lock file.
    let clone = Project::new_in("another/folder/of/another/length", MANIFEST);
    clone.write("m.onnx", models::dynamic("batch"));
    clone.write("enginewright.lock", project.read("enginewright.lock"));
    clone.run(&["apply", "--locked"]).expect(0).says(&["1 of 1 engine ready"]);
    assert_eq!(clone.read("enginewright.lock"), project.read("enginewright.lock"));
    assert_eq!(clone.read("engines/m/a.engine"), project.read("engines/m/a.engine"));
    // Without the lock file's help, the lock file is the same too.
    std::fs::remove_file(clone.path("enginewright.lock")).unwrap();
    std::fs::remove_dir_all(clone.path("engines")).unwrap();
    clone.run(&["apply"]).expect(0);
    assert_eq!(clone.read("enginewright.lock"), project.read("enginewright.lock"));
}

#[test]
fn every_difference_is_refused_and_named() {
    let project = built();
    let engine = "engine `m@a` is not what `enginewright.lock` says: build: ";

    project.manifest(&MANIFEST.replace("[1, 2, 4]", "[1, 2, 5]"));
    refused(&project, &[engine, "profiles[0].shapes.x.max: [4, 4] is now [5, 4]"]);

    let rule = "precision = \"fp16\"\nrules = []\n[[model.m.rule]]\nname = \"r\"\nselect = { op = \"MatMul\" }\nprecision = \"fp32\"\n";
    project.manifest(&MANIFEST.replace("[[model.m.profile]]", &format!("{rule}[[model.m.profile]]")));
    refused(&project, &[engine, "precision: as-is is now fp16"]);

    project
        .manifest(&format!("[target.b]\nsm = \"sm_89\"\n{}", MANIFEST.replace("[\"a\"]", "[\"a\", \"b\"]")));
    refused(&project, &["engine `m@b` is not in `enginewright.lock`"]);

    project.manifest("");
    refused(&project, &["`m@a` is in `enginewright.lock`, and no manifest declares it"]);

    project.manifest(MANIFEST);
    project.run(&["apply", "--locked"]).expect(0);
    let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
    let (head, _) = lock.split_once("[[engine]]").unwrap();
    project.write("enginewright.lock", head);
    refused(&project, &["engine `m@a` is not in `enginewright.lock`"]);

    // Other bytes under the same inputs are no less wrong.
    let at = lock.find("\nb3 = \"").expect("the engine's digest") + "\nb3 = \"".len();
    let flipped = if &lock[at..=at] == "0" { "1" } else { "0" };
    project.write("enginewright.lock", format!("{}{flipped}{}", &lock[..at], &lock[at + 1..]));
    refused(&project, &["b3: ", "its inputs are those of the lock file, and its bytes are others"]);

    let toolchain = lock.find("libtensorrt_rtx.so.1").expect("a file of the toolchain");
    let at = toolchain + lock[toolchain..].find("= \"").unwrap() + 3;
    let flipped = if &lock[at..=at] == "0" { "1" } else { "0" };
    project.write("enginewright.lock", format!("{}{flipped}{}", &lock[..at], &lock[at + 1..]));
    refused(&project, &["files.libtensorrt_rtx.so.1: "]);
    project.write("enginewright.lock", &lock);

    // One byte of a weight, at equal size.
    let mut model = models::dynamic("batch");
    // The tensor's name, then the tag and the length of its 64 bytes.
    let at = model.windows(4).position(|w| w == b"w2\x4a\x40").expect("a weight") + 4;
    model[at] ^= 1;
    project.write("m.onnx", model);
    refused(&project, &["source `path m.onnx` is not what `enginewright.lock` says: model: ", "1 of "]);
}
