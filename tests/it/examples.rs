//! The documentation is executed: commands in README.md, and every project below `examples/`.

use std::process::Command;

use crate::support::{PROGRAM, Project, repository, run, shared_cache};

/// Commands and what they print, from the ```console blocks of a page.
fn console_blocks(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command.to_owned(), String::new())),
                None => commands.last_mut().expect("a command comes first").1 += &format!("{line}\n"),
            }
        }
    }
    commands
}

/// Times and the widths that follow from them differ from run to run, and the last digits of what is measured from one
/// processor to another.
fn without_times(text: &str) -> String {
    let digits = regex::Regex::new(r"\b(\d+\.\d{2})\d{2,}\b").unwrap();
    let text = digits.replace_all(text, "$1…");
    let time = regex::Regex::new(r"\d+(\.\d+)? (ms|s|min)\b").unwrap();
    let space = regex::Regex::new(" +").unwrap();
    space.replace_all(&time.replace_all(text.trim(), "TIME"), " ").into_owned()
}

#[test]
fn the_readme_says_what_the_program_says() {
    let page = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let project = Project::bare();
    let manifest = std::fs::read(repository().join("manifests/magika.toml")).unwrap();
    project.write("manifests/magika.toml", manifest);
    for file in std::fs::read_dir(repository().join("testdata/magika")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        project.write(&format!("testdata/magika/{name}"), std::fs::read(file.path()).unwrap());
    }
    // What is fetched is shared; what is built is not.
    let fetched = project.run(&["--cache-dir", shared_cache().to_str().unwrap(), "plan", "--fetch"]);
    fetched.expect(0);
    project.share("packages");
    project.share("toolchains");
    let folder = std::path::Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let commands = console_blocks(&page);
    assert!(commands.len() >= 4, "the page has its commands");
    for (command, expected) in commands {
        let mut shell = Command::new("bash");
        shell
            .args(["-c", &command])
            .current_dir(project.root())
            .env("PATH", &path)
            .env_remove("ENGINEWRIGHT_CACHE");
        let output = run(&mut shell);
        output.expect(0);
        assert_eq!(without_times(&output.stdout), without_times(&expected), "`{command}`");
    }
}

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

#[test]
fn every_example_builds() {
    for entry in std::fs::read_dir(repository().join("examples")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("manifests").is_dir() {
            continue;
        }
        // In a copy: an example's folder stays as it is in version control.
        let project = Project::bare();
        run(Command::new("cp").arg("-r").arg(folder.join("manifests")).arg(project.root())).expect(0);
        let cache = shared_cache();
        let apply = project.run(&["--cache-dir", cache.to_str().unwrap(), "apply"]);
        apply.expect(0);
        assert!(apply.stdout.contains("ready in") || apply.stdout.contains("nothing to do"), "{apply:?}");
    }
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
