//! `report`, from what real runs recorded. `REPORT=FOLDER` writes the pages of two larger projects there: `make report`
//! looks at them in a browser.

use std::path::Path;

use enginewright::onnx::testing::transformer::{Norms, Transformer};
use prost::Message;
use serde_json::Value;

use crate::support::{Project, models, repository, run, shared_cache};
use crate::verify::project;

/// A transformer whose norms overflow in FP16.
fn transformer(of: &Transformer, more: &str) -> Project {
    let project = project(&format!(
        "[model.encoder]\nsource = {{ path = \"../encoder.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\n{more}\
         profile = [{{ name = \"p\", dims = {{ batch = [1, 2, 4], seq = [4, 16, 32] }} }}]\n\
         [model.encoder.verify]\ninputs = {{ seed = 7, samples = 2 }}\ntolerance = {{ cosine = 0.999 }}\n"
    ));
    project.write("encoder.onnx", of.model().encode_to_vec());
    project
}

fn report(project: &Project) -> Value {
    let output = project.run(&["report", "--format", "json"]);
    output.expect(0);
    output.json()
}

#[test]
fn a_report_follows_what_runs_did() {
    let project = transformer(&Transformer::overflowing(), "rules = []\n");
    let never = report(&project);
    assert_eq!((&never["run"], &never["engines"][0]["state"]), (&Value::Null, &"stale".into()), "{never:#}");

    // It fails, and the report says at which node.
    project.run(&["apply"]).expect(1);
    project.run(&["verify", "--layers"]).expect(1);
    let failed = report(&project);
    let engine = &failed["engines"][0];
    assert_eq!(
        (&engine["state"], &engine["last"]["outcome"]),
        (&"failed".into(), &"failed".into()),
        "{engine:#}"
    );
    assert!(engine["metrics"].as_array().unwrap().iter().any(|m| m["ok"] == false), "{engine:#}");
    let drift = failed["models"][0]["drift"][0]["nodes"].as_array().unwrap();
    let first: Vec<&Value> = drift.iter().filter(|node| node["first"] == true).collect();
    assert!(first.iter().any(|node| node["op"] == "Pow" && node["pattern"] == "layer-norm"), "{first:#?}");
    let text = project.run(&["report", "--format", "md"]);
    text.expect(0).says(&[
        "<!-- enginewright report -->",
        "**1 engine**: 1 failed",
        "the first to break is `/layers.0",
    ]);

    // Mended, it is current, and the page holds each node and key.
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest.replace("rules = []\n", ""));
    project.run(&["apply"]).expect(0).says(&["1 of 1 engine ready in", ": 1 built"]);
    project.run(&["report", "--out", "report.html"]).expect(0).says(&["written: report.html"]);
    let page = String::from_utf8(project.read("report.html")).unwrap();
    let json = report(&project);
    let (engine, model) = (&json["engines"][0], &json["models"][0]);
    assert_eq!(
        (&engine["state"], &engine["last"]["outcome"]),
        (&"current".into(), &"built".into()),
        "{engine:#}"
    );
    let nodes = model["nodes"].as_array().unwrap();
    let grid = page.split("<div class=\"grid\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert_eq!(grid.matches("<i ").count(), nodes.len(), "a square for each node");
    for node in nodes {
        assert!(page.contains(node["name"].as_str().unwrap()), "{node}");
    }
    let sidecar: Value = serde_json::from_slice(&project.read("engines/encoder/a.json")).unwrap();
    for digest in ["build_key", "prepare_key", "model"] {
        assert!(page.contains(sidecar[digest].as_str().unwrap()), "{digest}");
    }
    assert_eq!(engine["size"], sidecar["file"]["size"]);

    // A run that does nothing hides nothing; one that builds anew is held against the one before.
    project.run(&["apply"]).expect(0);
    assert_eq!(report(&project)["run"]["outcomes"]["built"], 1);
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest.replace("[1, 2, 4]", "[1, 2, 8]"));
    let planned = project.run(&["report", "--format", "md"]);
    planned.expect(0).says(&[
        "| stale | `encoder@a` | profiles\\[0\\].shapes.input\\_ids.max: \\[4, 32\\] is now \\[8, 32\\]",
    ]);
    project.run(&["apply"]).expect(0);
    let engine = report(&project)["engines"][0].clone();
    assert_eq!(engine["before"]["build_ms"], json["engines"][0]["build_ms"], "{engine:#}");

    // Lost files are put back from the cache, and said to be.
    std::fs::remove_dir_all(project.path("engines/encoder")).unwrap();
    project.run(&["apply"]).expect(0).says(&["restored", "1 restored from the cache"]);
    assert_eq!(report(&project)["engines"][0]["last"]["outcome"], "restored");
}

#[test]
fn runs_of_another_project_in_the_same_cache_are_not_told() {
    let [one, other] = [1.0, 2.0].map(|scale| {
        let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
        project.write("m.onnx", models::mlp(scale));
        project
    });
    let cache = one.path("cache");
    let with = |project: &Project, args: &[&str]| {
        project.run(&[&["--cache-dir", cache.to_str().unwrap()], args].concat())
    };
    with(&one, &["apply"]).expect(0);
    with(&other, &["apply"]).expect(0);
    with(&one, &["report", "--format", "html"]).expect(0).says(&["<!doctype html>", "As it is"]);
    let json = with(&one, &["report", "--format", "json"]).json();
    let size = std::fs::metadata(one.path("engines/m/a.engine")).unwrap().len();
    assert_eq!(json["engines"][0]["last"]["size"], size);
    assert_eq!(json["engines"][0]["before"], Value::Null, "{json:#}");
}

#[test]
fn formats_and_files_that_cannot_be() {
    let project = Project::new("");
    project
        .run(&["--format", "html", "plan"])
        .expect(64)
        .says(&["`html` and `md` are formats of `report` alone"]);
    project
        .run(&["report", "--out", "no/such/folder.html"])
        .expect(1)
        .says(&["cannot be written", "folder that exists"]);
    project.run(&["report", "nobody"]).expect(64).says(&["no engine is named `nobody`"]);
    project.run(&["report"]).expect(0).says(&["No engines are declared."]);
}

/// The pages that `make report` looks at.
#[test]
fn pages_for_a_browser() {
    let Ok(folder) = std::env::var("REPORT") else {
        eprintln!("skipped: pages for a browser (`make report` makes them, and looks at them)");
        return;
    };
    let folder = repository().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    // The demo, failed and mended.
    let demo = Project::bare();
    for part in ["manifests", "testdata"] {
        run(std::process::Command::new("cp").arg("-r").arg(repository().join(part)).arg(demo.root()))
            .expect(0);
    }
    demo.run(&["--cache-dir", shared_cache().to_str().unwrap(), "plan", "--fetch"]).expect(0);
    demo.share("packages");
    demo.share("toolchains");
    demo.run(&["apply"]).expect(0);
    demo.run(&["verify", "--layers"]).expect(1);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    demo.run(&["report", "--out", &path("demo.html")]).expect(0);
    let manifest = String::from_utf8(demo.read("manifests/magika.toml")).unwrap();
    demo.write(
        "manifests/magika.toml",
        manifest.replace("precision = \"fp16\"", "precision = \"fp16\"\nrules = []"),
    );
    demo.run(&["apply"]).expect(1);
    demo.run(&["verify", "--layers"]).expect(1);
    demo.run(&["report", "--out", &path("demo-failed.html")]).expect(0);
    demo.run(&["report", "--format", "md", "--out", &path("demo-failed.md")]).expect(0);
    // More than 1,500 nodes.
    let large = Transformer { layers: 32, residual: 400.0, ..Transformer::small(Norms::Decomposed) };
    let project = transformer(&large, "rules = []\n");
    project.run(&["apply"]).expect(1);
    project.run(&["verify", "--layers"]).expect(1);
    project.run(&["report", "--out", &path("large.html")]).expect(0);
    let nodes = report(&project)["models"][0]["nodes"].as_array().unwrap().len();
    eprintln!("large.html: {nodes} nodes");
    assert!(nodes > 1411);
    assert!(Path::new(&path("large.html")).metadata().unwrap().len() < 2_000_000);
}
