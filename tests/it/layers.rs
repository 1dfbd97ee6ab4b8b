//! `verify --layers` and `tune`, with the real ONNX Runtime and real engines.

use std::time::Instant;

use enginewright::onnx::testing::save_external;
use enginewright::onnx::testing::transformer::{Norms, Transformer};
use prost::Message;
use serde_json::Value;

use crate::support::{Output, Project, models};
use crate::verify::{files, magika_input, project};

/// Magika with twenty real files, in FP16 without any rule.
fn magika() -> Project {
    let magika = &models::REAL[..models::REAL.find("[model.nmp]").unwrap()];
    let project = project(&format!(
        "[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = []\n{magika}\n\
         [model.magika.verify] # on twenty files\ninputs = {{ dir = \"../files\" }}\n\
         tolerance = {{ top-1 = 1.0, max-abs = 0.01 }}\n"
    ));
    for (name, bytes) in files() {
        project.write(&format!("files/{name}.npy"), magika_input(&bytes));
    }
    project
}

/// The founding bug: a transformer with a large residual stream, its norms decomposed.
fn transformer(of: &Transformer, more: &str) -> Project {
    let project = project(&format!(
        "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\n{more}\
         profile = [{{ name = \"p\", dims = {{ batch = [1, 2, 4], seq = [4, 16, 32] }} }}]\n\
         [model.m.verify]\ninputs = {{ seed = 7, samples = 3 }}\ntolerance = {{ cosine = 0.999 }}\n"
    ));
    project.write("m.onnx", of.model().encode_to_vec());
    project
}

fn layers(project: &Project) -> (Output, Value) {
    let output = project.run(&["--format", "json", "verify", "--layers"]);
    let json = output.json();
    (output, json["engines"][0].clone())
}

fn nodes<'j>(rows: &'j Value, key: &str) -> Vec<&'j str> {
    rows[key]
        .as_array()
        .unwrap_or_else(|| panic!("{rows:#}"))
        .iter()
        .map(|r| r["node"].as_str().unwrap())
        .collect()
}

#[test]
fn the_first_overflows_of_magika_are_the_sums_of_squares_in_its_norms() {
    let project = magika();
    let (output, found) = layers(&project);
    output.expect(1);
    let range = found["out_of_range"].as_array().unwrap();
    assert!(!range.is_empty(), "{found:#}");
    // On files as people have them, the sums of squares of the second norm overflow; those of the first come close to
    // zero, and their root loses its digits. (A cube in a GELU may overflow too, which is harmless.)
    let sum = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/LayerNorm_1/Sum_1";
    let in_norms: Vec<&Value> = range.iter().filter(|row| row["pattern"][0] == "layer-norm").collect();
    assert_eq!(in_norms.len(), 1, "{range:#?}");
    assert_eq!((&in_norms[0]["node"], &in_norms[0]["op"]), (&sum.into(), &"ReduceSum".into()));
    assert!(in_norms[0]["values"][0]["absmax"].as_f64().unwrap() > 65504.0, "{range:#?}");
    assert_eq!(in_norms[0]["values"][0]["inf"], 20, "{range:#?}");
    assert!(nodes(&found, "growth").contains(&sum), "{found:#}");
    assert!(nodes(&found, "growth").iter().any(|node| node.contains("/LayerNorm_0/")), "{found:#}");
    let text = project.run(&["verify", "--layers"]);
    text.expect(1).says(&["LayerNorm_1/Sum_1", "leaves FP16's range", "layer-norm", "the first to break"]);
}

#[test]
fn tune_finds_the_norms_of_magika_and_the_tuned_manifest_passes() {
    let project = magika();
    let before = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    let started = Instant::now();
    let tuned = project.run(&["tune", "magika", "--write"]);
    let took = started.elapsed();
    assert!(took.as_secs() < 300, "tune took {took:?}, on a machine that may be busy");
    tuned.expect(0).says(&["a smallest set that passes", "[[model.magika.rule]]", "written to"]);
    let after = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    // Of the two norms, one overflows: the other alone passes in FP16.
    let rule = "\n[[model.magika.rule]]\nname = \"tuned: some layer-norm stay fp32\"\n\
                select = { pattern = \"layer-norm\", node = \"jax2tf_get_logits_/pjit_get_logits_/MagikaV2/LayerNorm_1/*\" }\n\
                precision = \"fp32\"\n";
    assert_eq!(after.replace(rule, ""), before, "{after}");
    assert!(after.contains(rule), "{after}");
    project.run(&["apply"]).expect(0).says(&["1 of 1 engine ready", "emulated"]);
    // Every probe is known.
    let again = project.run(&["--format", "json", "tune", "magika"]);
    again.expect(0);
    assert!(!again.stderr.contains("measuring"), "{}", again.stderr);
    assert_eq!(again.json()["is_smallest"], true);
}

#[test]
fn the_founding_bug_is_found_tuned_and_mended() {
    let project = transformer(&Transformer::overflowing(), "rules = []\n");
    project.run(&["verify"]).expect(1).says(&["m@a: failed"]);
    let (output, found) = layers(&project);
    output.expect(1);
    assert_eq!(nodes(&found, "out_of_range")[0], "/layers.0/norm1/Pow");
    assert_eq!(nodes(&found, "first_broken")[0], "/layers.0/norm1/Pow");
    let tuned = project.run(&["--format", "json", "tune", "m", "--write"]);
    let json = tuned.expect(0).json();
    assert_eq!(json["rules"][0]["pattern"][0], "layer-norm", "{:#}", json["rules"]);
    assert_eq!((&json["rules"][0]["expect"], &json["chosen"]["half_macs"]), (&5.into(), &1.0.into()));
    project.run(&["apply"]).expect(0);
}

#[test]
fn what_cannot_be_tuned_is_said() {
    let small = Transformer::small(Norms::Explicit);
    let project = transformer(&small, "");
    let tuned = project.run(&["tune", "m"]);
    tuned.expect(0).says(&["it passes as it is", "1 probe"]);
    // No set of nodes passes: FP32 rounds too.
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest.replace("cosine = 0.999", "cosine = 1.0, max-abs = 1e-30"));
    let none = project.run(&["tune", "m", "--budget", "1"]);
    none.expect(1).says(&["nothing passed within the budget", "raise `--budget`"]);
    project.write("manifests/m.toml", manifest.replace("precision = \"fp16\"", "precision = \"fp32\""));
    project
        .run(&["tune", "m"])
        .expect(1)
        .says(&["error[tune-precision]", "`m@a` has `precision = \"fp32\"`"]);
    let (head, _) = manifest.split_once("[model.m.verify]").unwrap();
    project.write("manifests/m.toml", head);
    project.run(&["tune", "m"]).expect(1).says(&["error[none-declared]", "`m@a` has no `verify` table"]);
    project.run(&["verify", "--layers"]).expect(1).says(&["error[none-declared]"]);
}

#[test]
fn twelve_layers_are_tapped_within_bounds() {
    if std::env::var_os("ENGINEWRIGHT_LARGE").is_none() {
        eprintln!("SKIPPED: 12 layers of 768 take a minute; set ENGINEWRIGHT_LARGE=1");
        return;
    }
    let large = Transformer {
        d: 768,
        heads: 12,
        layers: 12,
        mask: Some(-1e4),
        ..Transformer::small(Norms::Decomposed)
    };
    let project = project(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = []\n\
         profile = [{ name = \"p\", dims = { batch = [1, 1, 2], seq = [128, 128, 256] } }]\n\
         [model.m.verify]\ninputs = { seed = 7, samples = 2 }\ntolerance = { cosine = 0.999 }\n",
    );
    save_external(&large.model(), &project.path("m.onnx"), "m.bin").unwrap();
    project.run(&["plan"]).expect(0);
    let started = Instant::now();
    let (output, found) = layers(&project);
    assert!(found["nodes"].is_array(), "{output:?}");
    let took = started.elapsed();
    let results = walkdir::WalkDir::new(project.path("cache/v1/results/layers")).into_iter().flatten();
    let record =
        results.filter(|e| e.file_type().is_file()).map(|e| std::fs::read(e.path()).unwrap()).next().unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let peak = record["content"]["info"]["peak_rss"].as_u64().unwrap();
    eprintln!(
        "{} nodes in {:.1} s, {} MB",
        found["nodes"].as_array().unwrap().len(),
        took.as_secs_f64(),
        peak >> 20
    );
    assert!(peak < 3 << 30 && took.as_secs() < 60, "{took:?}, {peak} bytes");
}

#[test]
fn what_is_not_looked_at_is_counted() {
    let project = project(
        "[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\n[model.m]\nsource = { path = \"../m.onnx\" }\n\
         [model.m.verify]\ninputs = { seed = 7, samples = 1, ranges = { n = [0, 1] } }\ntolerance = { max-abs = 1 }\n\
         [model.t]\nsource = { path = \"../t.onnx\" }\nfuse = [\"layer-norm\"]\n\
         profile = [{ name = \"p\", dims = { batch = 1, seq = 4 } }]\n\
         [model.t.verify]\ninputs = { seed = 7, samples = 1 }\n",
    );
    project.write("m.onnx", models::control_flow());
    project.write("t.onnx", Transformer::small(Norms::Decomposed).model().encode_to_vec());
    let text = project.run(&["verify", "--layers"]);
    // One node in each branch, four in the body of the loop.
    text.says(&[
        "m@a: ",
        "not looked at: 6 nodes inside subgraphs (`If`, `Loop`, `Scan`)\n",
        "that `fuse` joined",
    ]);
    let json = project.run(&["--format", "json", "verify", "--layers"]).json();
    let untapped = |engine: usize, what: &str| json["engines"][engine]["untapped"][what].as_u64().unwrap();
    assert_eq!((untapped(0, "in_subgraphs"), untapped(0, "joined")), (6, 0));
    // What they give is looked at.
    assert!(nodes(&json["engines"][0], "nodes").contains(&"loop"));
    assert_eq!(untapped(1, "in_subgraphs"), 0);
    assert!(
        untapped(1, "joined") >= 8 * 4,
        "eight of the nine nodes of each norm: {}",
        untapped(1, "joined")
    );
    let report = project.run(&["report", "--format", "json"]).json();
    let drift = &report["models"][0]["drift"][0];
    assert_eq!(drift["untapped"], "6 nodes inside subgraphs (`If`, `Loop`, `Scan`)", "{report:#}");
}

#[test]
fn the_node_that_gives_an_output_is_seen_and_tuned_as_any_other() {
    let project = project(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\n\
         [model.m.verify]\ninputs = { seed = 7, samples = 2, ranges = { x = [290, 310] } }\n",
    );
    project.write("m.onnx", models::square());
    let (output, found) = layers(&project);
    output.expect(1);
    // Its output is declared FP32 and stays so: by a Cast behind the node.
    let types: Vec<&str> =
        found["nodes"].as_array().unwrap().iter().map(|node| node["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["fp16", "fp16"], "{found:#}");
    assert_eq!(nodes(&found, "out_of_range"), ["square"]);
    project.run(&["tune", "m"]).expect(0).says(&["select = { node = \"square\" }"]);
}
