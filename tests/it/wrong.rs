//! Wrong manifests, `tests/wrong/*.toml`: what `check` says of each is in the `.txt` beside it.
//!
//! `UPDATE=1 cargo test --test it wrong` writes the texts anew. Then read them: does each say what to do?

use std::path::PathBuf;

use crate::support::{Project, models, repository};

/// The manifests, sorted.
pub(crate) fn manifests() -> Vec<PathBuf> {
    let listed = std::fs::read_dir(repository().join("tests/wrong")).unwrap();
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

#[test]
fn each_says_what_to_do() {
    let project = Project::bare();
    project.write("models/encoder.onnx", models::mlp(1.0));
    project.write("models/dynamic.onnx", models::dynamic("batch"));
    project.write("models/heavy.onnx", models::lone_product());
    let files = manifests();
    assert!(files.len() >= 20);
    for file in files {
        project.write("manifests/m.toml", std::fs::read(&file).unwrap());
        let output = project.run(&["--quiet", "check"]);
        let root = project.root().display().to_string();
        let said = format!("{}exit code {}\n", output.stderr.replace(&root, "PROJECT"), output.code);
        assert!(said.starts_with("error["), "{}: {said}", file.display());
        assert!(!said.contains("secret"), "{}: {said}", file.display());
        // What to do, or a list of what there is to choose from, or the other of two places.
        let helps = [
            "= help:",
            "the keys here are",
            "the metrics are",
            "defined again",
            "hazards are",
            "expected",
            " must be ",
        ];
        assert!(helps.iter().any(|help| said.contains(help)), "{}: {said}", file.display());
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(said, expected, "{}", file.display());
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let project = Project::bare();
    project.write("manifests/m.toml", "schema = 7\n");
    let check = |args: &[&str]| {
        let mut command = project.command(args);
        crate::support::run(command.arg("check").env_remove("NO_COLOR")).stderr.contains('\u{1b}')
    };
    assert!(!check(&[]), "a pipe is no terminal");
    assert!(check(&["--color", "always"]));
    assert!(!check(&["--color", "never"]));
    // `NO_COLOR` is set by `Project::command`; who asks for colours gets them all the same.
    assert!(project.run(&["--color", "always", "check"]).stderr.contains('\u{1b}'));
}

/// A reader that goes away is nothing to talk about.
#[test]
fn a_broken_pipe_is_quiet() {
    let project = Project::bare();
    let script =
        format!("set -o pipefail; '{}' explain | head -c 1 >/dev/null; echo $?", crate::support::PROGRAM);
    let mut shell = std::process::Command::new("bash");
    let output = crate::support::run(shell.args(["-c", &script]).current_dir(project.root()));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("0\n", ""));
}

#[test]
fn codes_are_explained_on_demand() {
    let project = Project::bare();
    project.run(&["explain", "unknown-gpu"]).expect(0).says(&[
        "unknown-gpu (Manifests)",
        "RTX 6000",
        "Mend: ",
    ]);
    project.run(&["explain", "unknown-gpo"]).expect(64).says(&["did you mean `unknown-gpu`?"]);
    let all = project.run(&["explain", "--format", "json"]).json();
    assert!(all["codes"].as_array().unwrap().len() > 200);
}
