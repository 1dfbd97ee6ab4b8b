//! Models of old opsets, raised to newer ones, and run in ONNX Runtime before and after. `opset_cases.py` makes the
//! cases and judges. The packages `onnx` and `onnxruntime` are fetched once into `target/opset-cases`; without them
//! the test says that it is skipped.
//!
//! `UPDATE_DOCS=1` writes the table in `docs/opset.md` anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use enginewright::onnx::{self, fuse, opset};
use serde_json::Value;

use crate::support::repository;

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
        .arg(repository().join("tests/it/opset_cases.py"))
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
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    cases(&packages, &["make", at, "all"]);
    let list: Vec<Value> =
        serde_json::from_slice(&std::fs::read(folder.path().join("cases.json")).unwrap()).unwrap();
    let mut counts: BTreeMap<(bool, String), Count> = BTreeMap::new();
    for case in &list {
        let (number, old) = (&case["number"], case["opset"].as_i64().unwrap());
        let mut model = onnx::read(&folder.path().join(format!("{number}.onnx"))).unwrap().model;
        if let Some(wanted) = case["fused"].as_u64() {
            let fused = fuse::layer_norms(&model);
            assert_eq!(fused.norms.len() as u64, wanted, "{case}: {:?}", fused.left);
            assert_eq!(fused.left.len() as u64, 1 - wanted, "{case}");
            model = fused.model;
        }
        for target in TARGETS {
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
    assert!(passed > 100);
}

/// What is counted together: models of the package, or cases of one operator.
fn key(case: &Value) -> (bool, String) {
    let op = case["op"].as_str().unwrap();
    (op.starts_with("pytorch") || op == "light", op.to_owned())
}
