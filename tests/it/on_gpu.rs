//! `verify --on gpu`, as far as that goes without a GPU: which GPU is taken, what is refused, and what `apply` makes of a run
//! that is recorded.

use std::collections::BTreeMap;
use std::process::Command;

use enginewright::cache::{Cache, Record};
use enginewright::digest::Digest;
use enginewright::gpu::{LocalGpu, Sm};
use enginewright::plan::keys;
use serde_json::Value;

use crate::support::{Output, Project, models, repository, run};
use crate::verify::{floats, project};

/// A model with real samples and this in its `verify` table, built for sm_86.
fn built(verify: &str) -> Project {
    let project = project(&format!(
        "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\n\
         [model.m.verify]\ninputs = {{ dir = \"../samples\" }}\n{verify}"
    ));
    project.write("m.onnx", models::mlp(1.0));
    project.write("samples/s.npy", floats(&[2, 4], &[0.5; 8]));
    let _ = project.run(&["apply"]);
    project
}

/// Runs with a stand-in for the driver; `what` are definitions for its source.
fn with_driver(project: &Project, what: &[&str], args: &[&str]) -> Output {
    let folder = project.path("driver");
    std::fs::create_dir_all(&folder).unwrap();
    let source = repository().join("tests/it/support/driver.c");
    let definitions = what.iter().map(|d| format!("-D{d}"));
    let library = folder.join("libcuda.so.1");
    run(Command::new("cc").args(definitions).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source))
        .expect(0);
    run(project.command(args).env("LD_LIBRARY_PATH", &folder).env_remove("CUDA_VISIBLE_DEVICES"))
}

const VERIFY: [&str; 3] = ["verify", "--on", "gpu"];

#[test]
fn a_gpu_that_an_engine_does_not_serve_is_refused_with_both_named() {
    let project = built("");
    let with = |what: &[&str], args: &[&str]| with_driver(&project, what, args);
    with(&["SM=90"], &VERIFY).expect(1).says(&[
        "error[gpu-unsupported]",
        "`m@a` serves sm_86, and no GPU of this machine is one: NVIDIA Stand-in is sm_90",
    ]);
    // The real runtime is asked about a GPU that was named.
    let zero = ["verify", "--on", "gpu", "--gpu", "0"];
    with(&["SM=90"], &zero).expect(1).says(&[
        "error[gpu-unsupported]",
        "running `m@a` failed: the engine serves sm_86; this GPU, NVIDIA Stand-in, is sm_90",
    ]);
    let uuid = ["verify", "--on", "gpu", "--gpu", "gpu-ABABABAB-abab-abab-abab-abababababab"];
    with(&["SM=90"], &uuid).expect(1).says(&["error[gpu-unsupported]"]);
    let one = ["verify", "--on", "gpu", "--gpu", "1"];
    with(&["SM=90"], &one)
        .expect(64)
        .says(&["this machine has no GPU `1`", "0 is NVIDIA Stand-in (GPU-abab"]);
    assert!(!project.exists("cache/v1/results/run"), "nothing is recorded");
    assert!(project.exists("engines/m/a.engine"), "nothing is lost");
}

#[test]
fn a_gpu_that_fails_is_told_in_its_own_words() {
    let project = built("");
    let with = |what: &str| with_driver(&project, &["SM=86", what], &VERIFY);
    with("FULL").expect(1).says(&[
        "error[gpu-out-of-memory]",
        "`cuMemAlloc_v2` says CUDA_ERROR_OUT_OF_MEMORY (2): 1 MiB are wanted, 1 of 8192 MiB are free",
    ]);
    with("FORGETS").expect(1).says(&["error[gpu-failed]", "does not hold what is written to it"]);
    with("CRASHES").expect(1).says(&["error[worker-crashed]", "SIGSEGV", "failed on this engine"]);
    // It has the right capability, and no kernels can be run on it.
    with("FINE").expect(1).says(&["running `m@a` failed: "]);
}

#[test]
fn what_is_not_built_or_not_asked_for_does_not_run() {
    let project = project(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n[model.n]\nsource = { path = \"../m.onnx\" }\n\
         targets = [\"a\"]\n[model.n.verify]\ninputs = { seed = 1 }\n",
    );
    project.write("m.onnx", models::mlp(1.0));
    let refused = with_driver(&project, &["SM=86"], &VERIFY);
    refused.expect(1).says(&["m@a: none-declared", "error[not-built]", "`n@a` is not built", "apply"]);
}

/// Records a run of `m@a`, as if its outputs had been those of the oracle, but for this error.
fn record_run(project: &Project, max_abs: f64) -> Digest {
    let cache = Cache::open(&project.path("cache")).unwrap();
    let record = |action: &str| {
        let folder = project.path(&format!("cache/v1/results/{action}"));
        let below = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let file = std::fs::read_dir(below).unwrap().next().unwrap().unwrap().path();
        let key: Digest = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        cache.record(action, &key).unwrap().unwrap()
    };
    let (measure, build) = (record("measure"), record("build"));
    let preimage = keys::run(&measure.preimage, &build.preimage, &build.outputs["engine"].b3, Sm(86));
    let gpu = LocalGpu {
        name: "NVIDIA GeForce RTX 3090".to_owned(),
        sm: Sm(86),
        memory: 24 << 30,
        uuid: "GPU-1".to_owned(),
        driver: Some("570.86.10".to_owned()),
        cuda: "12.8".to_owned(),
    };
    let metrics = cache.read(&measure.outputs["metrics"]).unwrap().unwrap();
    let mut metrics: Value = serde_json::from_slice(&metrics).unwrap();
    metrics["outputs"][0]["samples"][0]["metrics"]["max-abs"] = max_abs.into();
    let metrics = cache.put_bytes(metrics.to_string().as_bytes()).unwrap();
    let record = Record {
        key: preimage.key(),
        preimage,
        outputs: BTreeMap::from([("metrics".to_owned(), metrics)]),
        info: serde_json::json!({ "gpu": gpu }),
        duration_ms: 1,
        tool: "a test".to_owned(),
        created: None,
    };
    cache.put_result("run", &record).unwrap().key
}

#[test]
fn an_engine_that_must_run_on_a_gpu_is_published_when_its_run_is_recorded() {
    let project = built("require = \"on-device\"\ntolerance = { max-abs = 0.1 }\n");
    project.run(&["apply"]).expect(1).says(&[
        "error[verify-failed]",
        "the engine has not run on a GPU, and `on-device` is required",
        "run `enginewright verify --on gpu m@a` where this cache and a GPU of sm_86 are",
    ]);
    assert!(!project.exists("engines/m/a.engine"));

    let run = record_run(&project, 0.01);
    project.run(&["verify"]).expect(0).says(&[
        "m@a: on-device, 1 sample",
        "the engine ran on NVIDIA GeForce RTX 3090 (sm_86, driver 570.86.10): within the tolerances",
    ]);
    // What is recorded is not run again, and so needs nothing of this GPU.
    with_driver(&project, &["SM=86", "CRASHES"], &VERIFY).expect(0).says(&["m@a: on-device", "RTX 3090"]);
    project.run(&["apply"]).expect(0);
    let sidecar: Value = serde_json::from_slice(&project.read("engines/m/a.json")).unwrap();
    assert_eq!(sidecar["verdict"], "on-device");
    assert_eq!(sidecar["ran_on"][0]["gpu"]["name"], "NVIDIA GeForce RTX 3090");
    assert_eq!(sidecar["ran_on"][0]["run"], run.to_string());
    project.run(&["apply", "--locked"]).expect(0);
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    // The run outlives everything that can be made again.
    project.run(&["cache", "gc", "--force"]).expect(0);
    project.run(&["verify"]).expect(0).says(&["m@a: on-device"]);

    // Another tolerance judges the same run; another engine has not run.
    let text = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", text.replace("max-abs = 0.1", "max-abs = 1e-12"));
    project
        .run(&["verify"])
        .expect(1)
        .says(&["on NVIDIA GeForce RTX 3090: max-abs of `y` is", "m@a: failed"]);
    project.write("manifests/m.toml", &text);
    project.write("m.onnx", models::mlp(2.0));
    project.run(&["apply"]).expect(1).says(&["the engine has not run on a GPU"]);
}

#[test]
fn a_run_that_fails_is_noticed_where_there_was_nothing_to_do() {
    let project = built("tolerance = { max-abs = 0.1 }\n");
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    record_run(&project, 9.0);
    assert_eq!(project.planned(), ["m@a: judge"]);
    project.run(&["apply"]).expect(1).says(&["on NVIDIA GeForce RTX 3090: max-abs of `y` is 9", "m@a"]);
    assert!(project.exists("engines/m/a.engine"), "what was published before stays");
}
