//! Models of old opsets, raised to newer ones, and run in ONNX Runtime before and after. `opset.py` makes the
//! cases and judges. The packages `onnx` and `onnxruntime` are fetched once into `target/opset-cases`; without them
//! the test says that it is skipped.
//!
//! `OPSET_SWEEP=1` adds the models that the `onnx` package carries, raises every case to every target, and holds the
//! counts against the table in `docs/opset.md`; `OPSET_SWEEP=update` writes that table anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use enginewright::onnx::{self, fuse, opset};
use serde_json::Value;

use crate::support::models::REAL;
use crate::support::{Project, repository};

const PACKAGES: [&str; 3] = ["onnx==1.23.2", "onnxruntime==1.32.0", "numpy==2.4.6"];

/// What the cases are raised to: what a fused norm needs, and the newest that ONNX Runtime has.
const TARGETS: [i64; 2] = [17, 24];

/// Python with the packages, made if it is not there. None without network or Python.
fn python() -> Option<PathBuf> {
    let packages = repository().join("target/opset-cases/packages");
    if packages.join("whole").exists() {
        return Some(packages);
    }
    let pip = ["-m", "pip", "install", "-q", "--upgrade", "--target"];
    let output = Command::new("python3").args(pip).arg(&packages).args(PACKAGES).output().ok()?;
    if !output.status.success() {
        return None;
    }
    std::fs::write(packages.join("whole"), "").ok()?;
    Some(packages)
}

fn cases(packages: &Path, arguments: &[&str]) {
    let output = Command::new("python3")
        .env("PYTHONPATH", packages)
        .arg(repository().join("tests/it/opset.py"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How the cases of one operator or folder came out.
#[derive(Debug, Default)]
struct Count {
    opsets: std::collections::BTreeSet<i64>,
    passed: usize,
    refused: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

#[test]
fn upgraded_models_compute_what_they_did() {
    let Some(packages) = python() else {
        eprintln!("SKIPPED: {PACKAGES:?} need python3 with pip, and the network once");
        return;
    };
    let sweep = std::env::var("OPSET_SWEEP").ok();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let mut make = vec!["make".to_owned(), at.to_owned()];
    if sweep.is_some() {
        make.push("all".to_owned());
        make.extend(real_norms());
    }
    cases(&packages, &make.iter().map(String::as_str).collect::<Vec<_>>());
    let list: Vec<Value> =
        serde_json::from_slice(&std::fs::read(folder.path().join("cases.json")).unwrap()).unwrap();
    let mut counts: BTreeMap<(bool, String), Count> = BTreeMap::new();
    for case in &list {
        let (number, old) = (&case["number"], case["opset"].as_i64().unwrap());
        let mut model = onnx::read(&folder.path().join(format!("{number}.onnx"))).unwrap().model;
        if let Some(wanted) = case["fused"].as_u64() {
            let fused = fuse::layer_norms(&model);
            assert_eq!(fused.norms.len() as u64, wanted, "{case}: {:?}", fused.left);
            assert_eq!(fused.left.is_empty(), wanted > 0, "{case}");
            model = fused.model;
        }
        // In a hurry, every other case goes to every other target.
        let number_of = usize::try_from(number.as_u64().unwrap()).unwrap();
        for (i, target) in TARGETS.into_iter().enumerate() {
            if sweep.is_none() && i != number_of % 2 {
                continue;
            }
            match opset::upgrade(&model, target) {
                Ok(_) if target < old => {}
                Ok(raised) => {
                    let out = folder.path().join(format!("{number}.{target}"));
                    std::fs::create_dir(&out).unwrap();
                    onnx::write_canonical(raised, &out).unwrap();
                }
                Err(refused) => {
                    let key = key(case);
                    let why = format!("{}: {}", refused[0].op, refused[0].why);
                    *counts.entry(key).or_default().refused.entry(why).or_default() += 1;
                }
            }
        }
    }
    cases(&packages, &["run", at]);
    let list: Vec<Value> =
        serde_json::from_slice(&std::fs::read(folder.path().join("results.json")).unwrap()).unwrap();
    for case in &list {
        let count = counts.entry(key(case)).or_default();
        count.opsets.insert(case["opset"].as_i64().unwrap());
        assert!(!case["oracle"].as_str().unwrap().starts_with("none"), "{case}");
        for (target, verdict) in case["verdicts"].as_object().unwrap() {
            match verdict.as_str() {
                None => count.passed += 1,
                Some(what) => count.wrong.push(format!(
                    "{} {} from {} to {target}: {what}",
                    case["op"].as_str().unwrap(),
                    case["what"].as_str().unwrap(),
                    case["opset"]
                )),
            }
        }
    }
    let wrong: Vec<&String> = counts.values().flat_map(|count| &count.wrong).collect();
    let passed: usize = counts.values().map(|count| count.passed).sum();
    let refused: BTreeMap<_, _> = counts.values().flat_map(|count| &count.refused).collect();
    eprintln!("{passed} passed, {refused:#?} refused, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(passed > 300);
    if let Some(sweep) = sweep {
        in_docs(&table(&counts), sweep == "update");
    }
}

/// Real models with norms to fuse, each with how many.
fn real_norms() -> Vec<String> {
    let manifest = format!("[defaults]\ntargets = [\"a\"]\n{REAL}");
    let project = Project::new(&manifest);
    project.share("packages");
    project.run(&["plan", "--fetch"]).expect(0);
    let packages = project.root().join("cache/v1/packages").canonicalize().unwrap();
    let find = |folder: &str, file: &str| {
        let folder = std::fs::read_dir(packages.join(folder)).unwrap().next().unwrap().unwrap().path();
        folder.join(file).to_str().unwrap().to_owned()
    };
    let magika = find("magika-1.0.3", "magika/models/standard_v3_3/model.onnx");
    let rec = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx";
    let rec = find("rapidocr-onnxruntime-1.4.4", rec);
    vec![format!("{magika}=2"), format!("{rec}=5")]
}

/// The table of the documentation: operators first, then the models of the package.
fn table(counts: &BTreeMap<(bool, String), Count>) -> String {
    let mut rows =
        vec!["| | from opset | passed | refused | wrong |".to_owned(), "|---|---|---|---|---|".to_owned()];
    let mut total = [0; 3];
    for ((_, what), count) in counts {
        let (first, last) = (count.opsets.first().unwrap(), count.opsets.last().unwrap());
        let opsets = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let refused: usize = count.refused.values().sum();
        let row = [count.passed, refused, count.wrong.len()];
        (0..3).for_each(|i| total[i] += row[i]);
        rows.push(format!("| {what} | {opsets} | {} | {} | {} |", row[0], row[1], row[2]));
    }
    rows.push(format!("| **all** | | **{}** | **{}** | **{}** |", total[0], total[1], total[2]));
    let why = counts.values().flat_map(|count| &count.refused);
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    why.for_each(|(why, n)| *reasons.entry(why).or_default() += n);
    rows.push("\nRefused:\n".to_owned());
    rows.extend(reasons.iter().map(|(why, n)| format!("- {n} x {why}")));
    rows.join("\n")
}

fn in_docs(table: &str, update: bool) {
    let path = repository().join("docs/opset.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- sweep -->\n").unwrap();
    let (_, after) = rest.split_once("\n<!-- end -->").unwrap();
    let now = format!("{before}<!-- sweep -->\n{table}\n<!-- end -->{after}");
    if update {
        std::fs::write(&path, now).unwrap();
    } else {
        assert_eq!(text, now, "run with OPSET_SWEEP=update");
    }
}

/// What is counted together: models of the package, or cases of one operator.
fn key(case: &Value) -> (bool, String) {
    let op = case["op"].as_str().unwrap();
    (
        ["pytorch-operator", "pytorch-converted", "light", "layer-norm of real models"].contains(&op),
        op.to_owned(),
    )
}
