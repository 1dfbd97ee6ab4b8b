//! Every project below `examples/` is built, and what the pages of reference say is held against the program.

use std::path::Path;
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use crate::docs::{console_blocks, follow};
use crate::support::{PROGRAM, Project, models, repository, run, shared_cache};

#[test]
fn the_readme_shows_the_manifest_that_the_demo_builds() {
    let code = |text: &str| -> Vec<String> {
        let without_comment = |line: &str| line.split(" #").next().unwrap_or("").trim_end().to_owned();
        text.lines().filter(|l| !l.starts_with('#')).map(without_comment).filter(|l| !l.is_empty()).collect()
    };
    let page = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let block = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let manifest = std::fs::read_to_string(repository().join("manifests/magika.toml")).unwrap();
    assert_eq!(code(block), code(&manifest));
}

/// The folders below `examples/` with a manifest.
fn examples() -> Vec<String> {
    let folders =
        std::fs::read_dir(repository().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let projects = folders.filter(|folder| folder.join("manifests").is_dir());
    let mut names: Vec<String> =
        projects.map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Copies an example, and the samples that it may use, to where they lie beside each other in the repository.
fn copied(name: &str, project: &Project) {
    let to = project.path("examples");
    std::fs::create_dir_all(&to).unwrap();
    let copy = |from: &str, to: &Path| {
        run(Command::new("cp").arg("-r").arg(repository().join(from)).arg(to)).expect(0).code
    };
    copy(&format!("examples/{name}"), &to);
    copy("testdata", project.root());
    for left in ["cache", "engines"] {
        let _ = std::fs::remove_dir_all(to.join(name).join(left));
    }
}

#[test]
fn every_example_builds() {
    for name in examples() {
        let page = repository().join("examples").join(&name).join("README.md");
        if page.exists() && !console_blocks(&std::fs::read_to_string(&page).unwrap()).is_empty() {
            continue;
        }
        // In a copy: an example's folder stays as it is in version control.
        let project = Project::bare();
        copied(&name, &project);
        let (folder, cache) = (format!("examples/{name}"), shared_cache());
        let apply = project.run(&["-C", &folder, "--cache-dir", cache.to_str().unwrap(), "apply"]);
        apply.expect(0);
        assert!(apply.stdout.contains("ready in") || apply.stdout.contains("nothing to do"), "{apply:?}");
    }
}

#[test]
fn the_pages_of_examples_say_what_the_program_says() {
    let mut followed = 0;
    for name in examples() {
        let page = repository().join("examples").join(&name).join("README.md");
        if !page.exists() || console_blocks(&std::fs::read_to_string(&page).unwrap()).is_empty() {
            continue;
        }
        let project = Project::bare();
        copied(&name, &project);
        let folder = project.path(&format!("examples/{name}"));
        let fetch = project.run(&[
            "-C",
            folder.to_str().unwrap(),
            "--cache-dir",
            shared_cache().to_str().unwrap(),
            "plan",
            "--fetch",
        ]);
        fetch.expect(0);
        for part in ["packages", "toolchains"] {
            std::fs::create_dir_all(folder.join("cache/v1")).unwrap();
            std::os::unix::fs::symlink(
                shared_cache().join("v1").join(part),
                folder.join("cache/v1").join(part),
            )
            .unwrap();
        }
        follow(&page, &folder);
        followed += 1;
    }
    assert!(followed > 0, "there are such pages");
}

fn yaml(path: &str) -> Yaml {
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    let mut documents = YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(documents.len(), 1, "{path} is one document");
    documents.remove(0)
}

/// All texts of a document, in its order.
fn texts<'y>(yaml: &'y Yaml, found: &mut Vec<&'y str>) {
    match yaml {
        Yaml::String(text) => found.push(text),
        Yaml::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Yaml::Hash(map) => map.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// What the jobs run of this program, they run in a project: in the order of the file.
#[test]
fn the_files_for_ci_run() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    let files =
        ["examples/ci/.github/workflows/engines.yml", "examples/ci/.gitlab-ci.yml", ".pre-commit-hooks.yaml"];
    for file in files {
        let document = yaml(file);
        let mut found = Vec::new();
        texts(&document, &mut found);
        let lines = found.iter().flat_map(|text| text.lines()).map(str::trim);
        let commands: Vec<&str> = lines.filter(|line| line.starts_with("enginewright ")).collect();
        assert!(commands.len() >= 2, "{file}: {commands:?}");
        for command in commands {
            let path = format!(
                "{}:{}",
                Path::new(PROGRAM).parent().unwrap().display(),
                std::env::var("PATH").unwrap()
            );
            let mut shell = Command::new("bash");
            shell.args(["-ec", command]).current_dir(project.root()).env("PATH", path).env("CI", "true");
            run(shell.env_remove("ENGINEWRIGHT_CACHE")).expect(0);
        }
    }
    let comment = String::from_utf8(project.read("plan.md")).unwrap();
    assert!(
        comment.starts_with("<!-- enginewright report -->"),
        "the jobs find their comment by its first line"
    );
    let workflow = std::fs::read_to_string(repository().join(files[0])).unwrap();
    assert!(workflow.contains("startswith(\"<!-- enginewright report -->\")"));
}

#[test]
fn the_files_for_ci_are_what_their_readers_expect() {
    let workflow = yaml("examples/ci/.github/workflows/engines.yml");
    let jobs = workflow["jobs"].as_hash().unwrap();
    for (name, job) in jobs {
        assert!(job["runs-on"].as_str().is_some() && !job["steps"].is_badvalue(), "{name:?}");
        // No job has more rights than it names, and none may write what is in the repository.
        assert_eq!(job["permissions"]["contents"].as_str(), Some("read"), "{name:?}");
        for step in job["steps"].as_vec().unwrap() {
            assert!(step["uses"].is_badvalue() != step["run"].is_badvalue(), "{name:?}: {step:?}");
        }
    }
    assert!(workflow["on"]["pull_request_target"].is_badvalue(), "strangers' manifests get no rights");
    let gitlab = yaml("examples/ci/.gitlab-ci.yml");
    for (job, stage) in [("plan", "plan"), ("build", "build"), ("release", "build")] {
        assert_eq!(gitlab[job]["stage"].as_str(), Some(stage));
        assert!(gitlab[job]["script"].as_vec().is_some_and(|lines| !lines.is_empty()));
    }
    let hooks = yaml(".pre-commit-hooks.yaml");
    let ids: Vec<&str> = hooks.as_vec().unwrap().iter().map(|hook| hook["id"].as_str().unwrap()).collect();
    let used = yaml("examples/ci/.pre-commit-config.yaml");
    let used = used["repos"][0]["hooks"][0]["id"].as_str().unwrap();
    assert!(ids.contains(&used), "{used} is one of {ids:?}");
}

/// docs/hazards.md names every hazard with its level.
#[test]
fn the_page_of_hazards_is_complete() {
    let page = std::fs::read_to_string(repository().join("docs/hazards.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let mut listed: Vec<(&str, &str)> = rows
        .filter_map(|(codes, rest)| Some((codes, rest.split_once(" | ")?.0)))
        .flat_map(|(codes, level)| codes.split(", ").map(move |code| (code.trim_matches('`'), level)))
        .collect();
    let hazards = enginewright::manifest::HAZARDS.iter();
    let mut known: Vec<(&str, &str)> = hazards.map(|h| (h.code, h.level.name())).collect();
    known.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, known);
}

/// The blocks of docs/manifest.md together are one valid project.
#[test]
fn the_manifest_reference_is_valid() {
    let page = std::fs::read_to_string(repository().join("docs/manifest.md")).unwrap();
    let project = Project::bare();
    let mut manifest = "schema = 1\n".to_owned();
    for block in page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        if block.contains("/home/me/") {
            project.write("enginewright.local.toml", "");
        } else {
            manifest += block;
        }
    }
    project.write("manifests/m.toml", &manifest);
    project.write("models/encoder.onnx", crate::support::models::mlp(1.0));
    project.write("models/det/faces.onnx", crate::support::models::mlp(1.0));
    let plan = project.run(&["--format", "json", "plan"]);
    let json = plan.json();
    let names: Vec<&str> =
        json["engines"].as_array().unwrap().iter().map(|e| e["engine"].as_str().unwrap()).collect();
    let expected = [
        "encoder.tf32@desktop",
        "encoder.tf32@rtx-3090",
        "encoder@desktop",
        "encoder@rtx-3090",
        "faces@rtx-3090",
    ];
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "{json:#}");
}
