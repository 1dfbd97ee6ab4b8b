//! The allowed edges between the stages, held against the `use` lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::repository;

#[path = "../../build/sources.rs"]
mod sources;

/// What all may use.
const GROUND: [&str; 4] = ["digest", "diagnostic", "fs", "gpu"];

/// Each stage, and the stages that it may use beside the ground floor. The same table is in
/// ARCHITECTURE.md.
const EDGES: [(&str, &[&str]); 19] = [
    ("digest", &[]),
    ("diagnostic", &[]),
    ("fs", &[]),
    ("gpu", &[]),
    ("manifest", &[]),
    ("onnx", &[]),
    ("cache", &[]),
    ("precision", &["onnx", "manifest"]),
    ("verify", &["manifest", "onnx"]),
    ("engine", &["manifest", "precision"]),
    ("worker", &["manifest", "onnx", "precision", "verify", "engine"]),
    ("source", &["manifest", "cache", "worker"]),
    ("toolchain", &["manifest", "worker", "cache"]),
    ("plan", &["manifest", "onnx", "precision", "toolchain", "verify"]),
    (
        "build",
        &[
            "manifest",
            "source",
            "onnx",
            "precision",
            "engine",
            "worker",
            "toolchain",
            "cache",
            "plan",
            "verify",
        ],
    ),
    ("import", &["manifest", "onnx", "toolchain"]),
    ("export", &["manifest", "onnx", "engine", "toolchain", "plan", "build"]),
    ("report", &[]),
    (
        "cli",
        &[
            "manifest",
            "source",
            "onnx",
            "precision",
            "engine",
            "worker",
            "toolchain",
            "cache",
            "plan",
            "verify",
            "build",
            "export",
            "report",
            "import",
        ],
    ),
];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// `crate::STAGE` and `use crate::{STAGE, …}` in a file's code.
fn uses(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(list) = rest.strip_prefix('{') {
            let list = &list[..list.find('}').unwrap_or(list.len())];
            found.extend(list.split(',').map(|n| n.trim().chars().take_while(|c| is_name(*c)).collect()));
        } else {
            found.push(rest.chars().take_while(|c| is_name(*c)).collect());
        }
    }
    found
}

#[test]
fn stages_use_only_what_the_table_allows() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let source = repository().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let stage = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let stage = stage.trim_end_matches(".rs");
        if ["lib", "main"].contains(&stage) {
            continue;
        }
        let allowed = allowed.get(stage).unwrap_or_else(|| panic!("stage `{stage}` is not in the table"));
        for used in uses(&std::fs::read_to_string(&file).unwrap()) {
            let known = EDGES.iter().any(|(s, _)| *s == used);
            let fine = used == stage || GROUND.contains(&used.as_str()) || allowed.contains(&used.as_str());
            if known && !fine {
                wrong.push(format!("{}: {stage} -> {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the table does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    let mut files = Vec::new();
    rust_files(&repository().join("src"), &mut files);
    let long: Vec<String> = files
        .iter()
        .filter(|f| !f.ends_with("onnx/proto.rs")) // Generated.
        .map(|f| (f, std::fs::read_to_string(f).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > 800)
        .map(|(f, lines)| format!("{}: {lines} lines", f.display()))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn versions_are_made_of_all_sources_but_tests_and_of_the_crates_that_decide() {
    let found = sources::sources(&["src/onnx", "src/precision"], &["src/onnx/diff.rs"]);
    let has = |file: &str| found.iter().any(|found| found == Path::new(file));
    assert!(has("src/onnx/canonical.rs") && has("src/onnx/schema.txt") && has("src/precision/prepare.rs"));
    assert!(!has("src/onnx/diff.rs"));
    let tests = found.iter().map(|file| file.to_string_lossy()).filter(|file| file.contains("test"));
    assert_eq!(tests.collect::<Vec<_>>(), Vec::<String>::new());
    let lock = std::fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let versions = sources::versions(&lock, &["half", "prost"]);
    let names: Vec<&str> = versions.iter().filter_map(|version| version.split(' ').next()).collect();
    assert_eq!(names, ["half", "prost"], "{versions:?}");
}

#[test]
fn unsafe_code_is_where_the_design_says() {
    let source = repository().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    for file in files {
        let inside = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains("unsafe {"));
        assert!(!code || inside.starts_with("worker/") || inside == "fs.rs", "unsafe code in {inside}");
    }
}

#[test]
fn every_test_file_is_part_of_the_binary() {
    let folder = repository().join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let declared =
            ["main", "fake_worker"].contains(&name.as_str()) || main.contains(&format!("mod {name};"));
        assert!(declared, "tests/it/{name} is forgotten in main.rs");
    }
}
