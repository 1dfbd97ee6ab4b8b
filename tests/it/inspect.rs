//! `enginewright inspect`: models, and engines with and without something before them.

use crate::support::{Project, models};

#[test]
fn an_engine_tells_what_it_is_and_where_it_loads() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    let engine = "engines/m/a.engine";
    project
        .run(&["inspect", engine])
        .expect(0)
        .says(&["an engine of TensorRT-RTX 1.7.1.116", "sm_86 (RTX 3090"]);
    project.run(&["inspect", engine, "--on", "RTX 3080"]).expect(0).says(&["RTX 3080 (sm_86): yes"]);
    project.run(&["inspect", engine, "--on", "sm_89"]).expect(1).says(&["no: it was not built for sm_89"]);
    project.run(&["inspect", engine, "--on", "RTX 3081"]).expect(64).says(&["did you mean"]);
    let json = project.run(&["--format", "json", "inspect", engine]).json();
    assert_eq!((&json["by"], &json["sms"][0]), (&"tensorrt-rtx".into(), &"sm_86".into()));
    assert!(json["nodes"].as_u64() > Some(0) && json["types"]["float"].as_u64() > Some(0), "{json:#}");
    assert!(json["kernels"].as_object().is_some_and(|kernels| !kernels.is_empty()), "{json:#}");

    // As exporters write it: the length of a JSON text, the text, the plan.
    let metadata = br#"{"imgsz": [640, 640]}"#;
    let length = u32::try_from(metadata.len()).unwrap().to_le_bytes();
    project.write("wrapped.engine", [&length[..], metadata, &project.read(engine)].concat());
    let wrapped = project.run(&["inspect", "wrapped.engine", "--format", "json"]).json();
    assert_eq!((&wrapped["kernels"], &wrapped["start"]), (&json["kernels"], &25.into()));
    assert_eq!(wrapped["metadata"]["imgsz"][0], 640);

    let mut full = b"ftrt".to_vec();
    full.resize(24, 0);
    full.extend([10, 3, 0, 26]);
    project.write("full.engine", &full);
    project
        .run(&["inspect", "full.engine", "--on", "RTX 3090"])
        .expect(0)
        .says(&["an engine of TensorRT 10.3.0.26", "not known"]);
    project.write("cut.engine", b"vtrt\0\0");
    project.run(&["inspect", "cut.engine"]).expect(3).says(&["error[engine-damaged]"]);
}

#[test]
fn a_model_tells_what_is_in_it_and_what_fp16_would_do() {
    let project = Project::bare();
    project.write("norm.onnx", models::norm(13));
    project.run(&["inspect", "norm.onnx"]).expect(0).says(&[
        "an ONNX model",
        "opset     13",
        "input     x: float[8, 64]",
        "1 layer-norm, written as several nodes",
        "fp16-decomposed-norm",
    ]);
    let json = project.run(&["--format", "json", "inspect", "norm.onnx"]).json();
    assert_eq!((&json["kind"], &json["model"]["opsets"][""]), (&"onnx".into(), &13.into()));
    project.run(&["inspect", "norm.onnx", "--on", "RTX 3090"]).expect(64).says(&["is a model"]);
    project.write("text.onnx", b"hello\n");
    project.run(&["inspect", "text.onnx"]).expect(3).says(&["error[text-file]"]);
    project.run(&["inspect", "nothing"]).expect(3).says(&["nothing"]);
    // A project is not needed, and none is made.
    assert!(!project.exists("cache") && !project.exists("manifests"));
}
