//! The JSON Schemas, held against documents by an independent validator: the Python package `jsonschema`, fetched once
//! into `target/schema`; without it the test says that it is skipped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Project, models, repository, run};
use crate::wrong;

const PACKAGE: &str = "jsonschema==4.25.1";

/// Prints the name of each document that the schema rejects, and why.
const VALIDATE: &str = "
import json, sys, tomllib
from jsonschema import Draft202012Validator as Validator
schema = json.load(open(sys.argv[1]))
Validator.check_schema(schema)
for name in sys.argv[2:]:
    try:
        text = open(name, 'rb').read().decode()
        document = json.loads(text) if name.endswith('.json') else tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        print(name, 'is no TOML', sep='\\t')
        continue
    for error in Validator(schema).iter_errors(document):
        print(name, error.json_path + ': ' + error.message[:300].replace('\\n', ' '), sep='\\t')
        break
";

fn packages() -> Option<PathBuf> {
    let folder = repository().join("target/schema");
    if !folder.join("jsonschema").exists() {
        let pip = ["-m", "pip", "install", "-q", "--upgrade", "--target"];
        let done = Command::new("python3").args(pip).arg(&folder).arg(PACKAGE).output().ok()?;
        if !done.status.success() {
            eprintln!("SKIPPED: {PACKAGE} needs python3 with pip, and the network once");
            return None;
        }
    }
    Some(folder)
}

/// The documents that the schema rejects, each with why.
fn rejected(
    packages: &Path,
    project: &Project,
    schema: &str,
    documents: &[PathBuf],
) -> Vec<(PathBuf, String)> {
    let printed = project.run(&["schema", schema]);
    printed.expect(0);
    let file = project.write(&format!("{schema}.schema.json"), &printed.stdout);
    let mut python = Command::new("python3");
    python.args(["-c", VALIDATE]).arg(file).args(documents).env("PYTHONPATH", packages);
    let output = run(&mut python);
    output.expect(0);
    let lines = output.stdout.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(name, why)| (PathBuf::from(name), why.to_owned())).collect()
}

fn toml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            toml_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_manifest_of_the_repository_fits_the_schema() {
    let Some(packages) = packages() else { return };
    let project = Project::bare();
    let mut documents = vec![repository().join("src/manifest/testdata/design.toml")];
    toml_files(&repository().join("manifests"), &mut documents);
    for entry in std::fs::read_dir(repository().join("examples")).unwrap() {
        let folder = entry.unwrap().path().join("manifests");
        if folder.is_dir() {
            toml_files(&folder, &mut documents);
        }
    }
    // The blocks of the reference, but for the one that is no manifest.
    let page = std::fs::read_to_string(repository().join("docs/manifest.md")).unwrap();
    for (i, block) in page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).enumerate()
    {
        let head = if block.contains("schema = 1") { "" } else { "schema = 1\n" };
        // Parts of a model, each without its source.
        let body = block.replace("[model.encoder]\n", "").replace("[model.encoder.", "[defaults.");
        let body =
            body.replace("[[model.encoder.", "[[defaults.").replace("[defaults.variant", "[defaults.on");
        if !block.contains("source =") && !block.contains("/home/me/") {
            documents.push(project.write(&format!("block-{i}.toml"), format!("{head}{body}")));
        }
    }
    assert!(documents.len() > 10);
    let rejected = rejected(&packages, &project, "manifest", &documents);
    assert!(rejected.is_empty(), "{rejected:#?}");
}

/// What a schema can see: keys, types, words and forms, but not names, models or GPUs.
#[test]
fn wrong_manifests_are_rejected_where_a_schema_can() {
    let Some(packages) = packages() else { return };
    let name = |file: &PathBuf| file.file_stem().unwrap().to_string_lossy().into_owned();
    let project = Project::bare();
    let rejected = rejected(&packages, &project, "manifest", &wrong::manifests());
    let seen: BTreeSet<String> = rejected.iter().map(|(file, _)| name(file)).collect();
    let beyond = [
        "credentials",
        "missing-file",
        "no-profile",
        "opset-too-old",
        "rule-expects-more",
        "rule-matches-nothing",
        "unknown-dimension",
        "unknown-gpu",
        "unknown-target",
        "unordered-profile",
        "unsupported-gpu",
        "weight-overflow",
    ];
    let unseen: Vec<String> =
        wrong::manifests().iter().map(name).filter(|name| !seen.contains(name)).collect();
    assert_eq!(unseen, beyond, "{rejected:#?}");
}

#[test]
fn plans_reports_and_lock_files_fit_their_schemas() {
    let Some(packages) = packages() else { return };
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\n\
         [model.m.verify]\ninputs = { seed = 7, samples = 1 }\n\
         [model.bad]\nsource = { path = \"../bad.onnx\" }\ntargets = [\"a\"]\n",
    );
    project.share("toolchains");
    project.write("m.onnx", models::mlp(1.0));
    let before = project.run(&["--format", "json", "plan"]).stdout;
    project.run(&["apply"]).expect(1);
    let after = project.run(&["--format", "json", "plan"]).stdout;
    project.run(&["plan", "m", "--out", "file.json"]).expect(0);
    let plans =
        [project.write("before.json", before), project.write("after.json", after), project.path("file.json")];
    let wrong = rejected(&packages, &project, "plan", &plans);
    assert!(wrong.is_empty(), "{wrong:#?}");
    project.run(&["verify", "--layers", "m"]).expect(0);
    let report = project.run(&["report", "--format", "json"]);
    report.expect(0);
    let told = report.json();
    let has_drift = |model: &serde_json::Value| model["drift"][0]["nodes"].is_array();
    assert!(told["models"].as_array().unwrap().iter().any(has_drift), "{told:#}");
    let report = project.write("report.json", &report.stdout);
    let wrong = rejected(&packages, &project, "report", &[report]);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let lock = project.write("lock.toml", project.read("enginewright.lock"));
    let wrong = rejected(&packages, &project, "lock", &[lock]);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        project.read("enginewright.lock").windows(6).any(|w| w == b"engine"),
        "there is something to check"
    );
}
