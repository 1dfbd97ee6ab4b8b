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

/// A script that a job runs.
struct Step {
    script: String,
    /// Is it run after another has failed?
    is_always: bool,
}

/// What a job of these files runs of this program, as its service does: a step of GitHub, the lines of GitLab.
fn steps(job: &Yaml) -> Vec<Step> {
    let script = |lines: &[Yaml]| lines.iter().map(|l| l.as_str().unwrap().to_owned() + "\n").collect();
    if let Some(lines) = job["script"].as_vec() {
        return vec![Step { script: script(lines), is_always: false }];
    }
    let steps = job["steps"].as_vec().unwrap().iter().filter_map(|step| {
        let script = step["run"].as_str()?.to_owned();
        Some(Step { script, is_always: step["if"].as_str() == Some("always()") })
    });
    // Neither is the program installed here, nor is there anything to comment on.
    steps.filter(|step| !step.script.contains("cargo install") && !step.script.contains("gh api")).collect()
}

/// Runs a job in a project; tells if it came to a good end.
fn run_job(project: &Project, job: &Yaml) -> bool {
    let programs = Path::new(PROGRAM).parent().unwrap().display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut is_good = true;
    for step in steps(job).iter().filter(|step| step.script.contains("enginewright ")) {
        if !is_good && !step.is_always {
            continue;
        }
        let mut shell = Command::new("bash");
        shell.args(["-e", "-o", "pipefail", "-c", &step.script]).current_dir(project.root());
        shell.env("PATH", &path).env("CI", "true").env("GITHUB_STEP_SUMMARY", project.path("summary"));
        is_good &= run(shell.env_remove("ENGINEWRIGHT_CACHE")).code == 0;
    }
    is_good
}

const WORKFLOW: &str = "examples/ci/.github/workflows/engines.yml";
const GITLAB: &str = "examples/ci/.gitlab-ci.yml";

/// The jobs, in a project that is checked out, and one whose build fails.
#[test]
fn the_jobs_for_ci_run() {
    for file in [WORKFLOW, GITLAB] {
        let document = yaml(file);
        let job = |name: &str| if file == WORKFLOW { &document["jobs"][name] } else { &document[name] };
        let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
        project.write("m.onnx", models::mlp(1.0));
        assert!(run_job(&project, job("plan")), "{file}");
        let comment = String::from_utf8(project.read("plan.md")).unwrap();
        // The jobs find their comment by its first line.
        assert!(comment.starts_with("<!-- enginewright report -->"), "{comment}");
        assert!(run_job(&project, job("build")), "{file}");
        assert!(project.exists("engines/m/a.engine") && project.exists("apply.log"), "{file}");
        std::fs::remove_dir_all(project.path("engines")).unwrap();
        assert!(run_job(&project, job("release")), "{file}");
        assert!(project.exists("engines/m/a.engine"), "{file}");
        // What is locked is another model.
        project.write("m.onnx", models::mlp(2.0));
        assert!(!run_job(&project, job("release")), "{file}");
        // A job that fails leaves its report.
        std::fs::remove_file(project.path("report.html")).unwrap();
        project.write("m.onnx", "no model");
        assert!(!run_job(&project, job("plan")) && !run_job(&project, job("build")), "{file}");
        assert!(project.exists("report.html"), "{file}");
    }
    let workflow = std::fs::read_to_string(repository().join(WORKFLOW)).unwrap();
    assert!(workflow.contains("startswith(\"<!-- enginewright report -->\")"));
}

/// The hooks for pre-commit, as it calls them.
#[test]
fn the_hooks_for_commits_run() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    let hooks = yaml(".pre-commit-hooks.yaml");
    let call = |id: &str| {
        let hook = hooks.as_vec().unwrap().iter().find(|hook| hook["id"].as_str() == Some(id)).unwrap();
        let words: Vec<&str> = hook["entry"].as_str().unwrap().split(' ').collect();
        assert_eq!(words[0], "enginewright");
        project.run(&words[1..]).code
    };
    assert_eq!((call("enginewright-check"), call("enginewright-locked")), (0, 0));
    project.write("m.onnx", models::mlp(2.0));
    assert_eq!((call("enginewright-check"), call("enginewright-locked")), (0, 1));
    project.write("m.onnx", "no model");
    assert_eq!(call("enginewright-check"), 1);
}

#[test]
fn the_files_for_ci_are_what_their_readers_expect() {
    let workflow = yaml(WORKFLOW);
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
    let gitlab = yaml(GITLAB);
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
