//! Documentation is executed: every ```console block of README.md, of the pages below `docs/` and of the examples, its output
//! compared. A line `...` stands for any lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{PROGRAM, Project, repository, run, shared_cache};

/// Commands and what they print, from the ```console blocks of a page.
pub(crate) fn console_blocks(page: &str) -> Vec<(String, String)> {
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
    let small = regex::Regex::new(r"\b(\d\.\d)\d+(e-?\d+)\b").unwrap();
    let text = small.replace_all(&text, "$1…$2");
    let time = regex::Regex::new(r"(\d+ min )?\d+(\.\d+)? (ms|s|min)\b").unwrap();
    let space = regex::Regex::new(" +").unwrap();
    space.replace_all(&time.replace_all(text.trim(), "TIME"), " ").into_owned()
}

/// Are these the lines expected, where `...` is any lines?
fn fits(lines: &[&str], expected: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&"...", rest)) => (0..=lines.len()).any(|skipped| fits(&lines[skipped..], rest)),
        Some((line, rest)) => {
            lines.split_first().is_some_and(|(first, more)| first.trim() == line.trim() && fits(more, rest))
        }
    }
}

/// Runs all commands of a page in a folder, one after the other, and compares what they print.
#[track_caller]
pub(crate) fn follow(page: &Path, folder: &Path) {
    let text = std::fs::read_to_string(page).unwrap();
    let programs = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    for (command, expected) in console_blocks(&text) {
        let mut shell = Command::new("bash");
        shell.args(["-c", &command]).current_dir(folder).env("PATH", &path).env("NO_COLOR", "1");
        let output = run(shell.env_remove("ENGINEWRIGHT_CACHE"));
        assert_eq!(output.code, 0, "{}: `{command}`\n{}\n{}", page.display(), output.stdout, output.stderr);
        let (said, expected) = (without_times(&output.stdout), without_times(&expected));
        let is_as_told = fits(&said.lines().collect::<Vec<_>>(), &expected.lines().collect::<Vec<_>>());
        assert!(
            is_as_told,
            "{}: `{command}` prints\n{}\n--- stderr\n{}",
            page.display(),
            output.stdout,
            output.stderr
        );
    }
}

/// The demo's project, with what is fetched shared and nothing built.
fn demo() -> Project {
    let project = Project::bare();
    for part in ["manifests", "testdata"] {
        run(Command::new("cp").arg("-r").arg(repository().join(part)).arg(project.root())).expect(0);
    }
    fetched(&project);
    project
}

/// Lets a project use what was fetched before, and fetches what was not.
pub(crate) fn fetched(project: &Project) {
    project.run(&["--cache-dir", shared_cache().to_str().unwrap(), "plan", "--fetch"]).expect(0);
    project.share("packages");
    project.share("toolchains");
}

#[test]
fn the_readme_says_what_the_program_says() {
    let page = repository().join("README.md");
    assert!(console_blocks(&std::fs::read_to_string(&page).unwrap()).len() >= 4, "the page has its commands");
    follow(&page, demo().root());
}

/// A folder with two models of which nobody knows anything.
#[test]
fn the_guide_says_what_the_program_says() {
    let project = Project::bare();
    project.write(
        "manifests/m.toml",
        "schema = 1\n[target.a]\nsm = \"sm_86\"\n[defaults]\ntargets = [\"a\"]\n\
         [model.nmp]\nsource = { package = \"basic-pitch==0.4.0\", file = \"basic_pitch/saved_models/icassp_2022/nmp.onnx\" }\n\
         verify = { inputs = { seed = 1 } }\nprofile = [{ name = \"p\", dims = { unk__749 = 1 } }]\n\
         [model.det]\nsource = { package = \"rapidocr-onnxruntime==1.4.4\", file = \"rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx\" }\n\
         profile = [{ name = \"p\", shapes = { x = { min = [1, 3, 320, 320], opt = [1, 3, 320, 320], max = [1, 3, 320, 320] } } }]\n",
    );
    fetched(&project);
    std::fs::remove_dir_all(project.path("manifests")).unwrap();
    for (file, name) in [("nmp.onnx", "nmp.onnx"), ("ch_PP-OCRv4_det_infer.onnx", "det.onnx")] {
        let found = find(&shared_cache().join("v1/packages"), file).expect("it was fetched");
        std::fs::copy(found, project.path(name)).unwrap();
    }
    follow(&repository().join("docs/guide.md"), project.root());
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    entries.iter().find_map(|path| {
        if path.is_dir() {
            find(path, name)
        } else {
            Some(path.clone()).filter(|p| p.file_name().is_some_and(|n| n == name))
        }
    })
}

/// Every other page: in the demo's project, which is built before.
#[test]
fn the_pages_say_what_the_program_says() {
    let pages = std::fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut followed = 0;
    for page in
        pages.filter(|page| page.extension().is_some_and(|e| e == "md") && !page.ends_with("guide.md"))
    {
        if console_blocks(&std::fs::read_to_string(&page).unwrap()).is_empty() {
            continue;
        }
        let project = demo();
        project.run(&["apply"]).expect(0);
        follow(&page, project.root());
        followed += 1;
    }
    assert!(followed > 0, "there are such pages");
}

#[test]
fn dots_stand_for_lines() {
    let fits = |lines: &str, expected: &str| {
        self::fits(&lines.lines().collect::<Vec<_>>(), &expected.lines().collect::<Vec<_>>())
    };
    assert!(fits("a\nb\nc", "a\n...\nc") && fits("a\nc", "a\n...\nc") && fits("a\nb", "a\n..."));
    assert!(!fits("a\nb", "a") && !fits("a", "a\nb") && !fits("a\nb\nc", "a\n...\nb"));
}

/// Every page, below this folder.
fn pages(folder: &Path, into: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "v1", "shared"].contains(&name.as_str()) {
            pages(&path, into);
        } else if name.ends_with(".md") {
            into.push(path);
        }
    }
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = Vec::new();
    pages(repository(), &mut found);
    let code = regex::Regex::new(r"(?s)```.*?```").unwrap();
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let (mut dead, mut links) = (Vec::new(), 0);
    for page in &found {
        let text = std::fs::read_to_string(page).unwrap();
        let text = code.replace_all(&text, "");
        for to in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if to.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = to.split_once('#').unwrap_or((&to, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = file.exists()
                && (heading.is_empty() || {
                    let text = std::fs::read_to_string(&file).unwrap();
                    let text = code.replace_all(&text, "").into_owned();
                    text.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
                });
            if !is_there {
                dead.push(format!("{}: {to}", page.display()));
            }
        }
    }
    assert!(links > 30 && dead.is_empty(), "{links} links, dead: {dead:#?}");
}
