//! Models whose weights are large enough not to be copied before somebody needs them.

use std::time::Duration;

use enginewright::onnx::proto::tensor_proto::{DataLocation, DataType};
use enginewright::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto};
use enginewright::onnx::testing::{model, node, raw, save, save_external, value};

use crate::support::Project;

/// Two products, 64 MiB of weights, which lie in the file in another order than in the canonical form.
fn large(last: f32) -> ModelProto {
    let weight = |name: &str, dims: [i64; 2], value: f32| {
        let count = usize::try_from(dims[0] * dims[1]).unwrap();
        raw(name, DataType::Float, &dims, value.to_le_bytes().repeat(count))
    };
    let graph = GraphProto {
        node: vec![node("first", "MatMul", &["x", "z"], &["h"]), node("last", "MatMul", &["h", "a"], &["y"])],
        input: vec![value("x", DataType::Float, &[1.into(), 4096.into()])],
        output: vec![value("y", DataType::Float, &[1.into(), 4096.into()])],
        initializer: vec![weight("z", [4096, 2048], 0.5), weight("a", [2048, 4096], last)],
        ..GraphProto::default()
    };
    model(17, graph)
}

fn stored(project: &Project) -> u64 {
    let files = walkdir::WalkDir::new(project.path("cache/v1/cas")).into_iter().flatten();
    files.filter(|e| e.file_type().is_file()).map(|e| e.metadata().unwrap().len()).sum()
}

/// Does a plan read the model?
fn reads(project: &Project) -> bool {
    project.run(&["-v", "plan"]).expect(0).stderr.contains("read ")
}

#[test]
fn large_weights_are_copied_when_they_are_needed() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    save_external(&large(1.0), &project.path("m.onnx"), "m.data").unwrap();
    let first = project.run(&["-v", "plan"]);
    first.expect(0).says(&["never built", "read "]);
    assert!(stored(&project) < 1 << 20, "{} bytes", stored(&project));
    // Its files are known, once their times are old enough to be believed.
    std::thread::sleep(Duration::from_millis(2100));
    project.run(&["plan"]).expect(0);
    assert!(!reads(&project));
    let digest = |output: &crate::support::Output| output.json()["engines"][0]["build"].clone();
    let planned = digest(&project.run(&["--format", "json", "plan"]));

    project.run(&["apply"]).expect(0);
    assert!(stored(&project) > 64 << 20);
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    assert_eq!(digest(&project.run(&["--format", "json", "plan"])), planned);
    project.run(&["cache", "verify"]).expect(0);

    // Other times, or bytes that no tensor has, are read and change nothing.
    let raw = |project: &Project| {
        let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
        lock.lines().skip_while(|line| !line.starts_with("raw = [")).take(4).collect::<Vec<_>>().join(" ")
    };
    let before = raw(&project);
    let times = std::fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    let data = std::fs::File::options().append(true).open(project.path("m.data")).unwrap();
    data.set_times(times).unwrap();
    assert!(reads(&project));
    std::io::Write::write_all(&mut &data, b"no tensor").unwrap();
    assert!(reads(&project));
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
    project.run(&["apply", "--locked"]).expect(0);
    project.run(&["lock"]).expect(0);
    assert_ne!(raw(&project), before);

    // The tensors of both are compared, for which the new ones are stored.
    save_external(&large(2.0), &project.path("m.onnx"), "m.data").unwrap();
    assert_eq!(project.planned(), ["m@a: rebuild"]);
    let why = project.why("m@a").join("\n");
    assert!(why.contains("1 of 2 initializers differ: a"), "{why}");

    // What a collection took away is made again.
    std::fs::remove_dir_all(project.path("cache/v1/cas")).unwrap();
    std::fs::remove_dir_all(project.path("cache/v1/results/canonicalize")).unwrap();
    project.run(&["apply"]).expect(0);
    assert_eq!(project.planned(), ["m@a: up-to-date"]);
}

#[test]
fn weights_that_are_stored_are_not_copied_again_for_their_times() {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = []\n",
    );
    save_external(&large(1.0), &project.path("m.onnx"), "m.data").unwrap();
    project.run(&["plan"]).expect(0);
    let canonical = || {
        let records =
            walkdir::WalkDir::new(project.path("cache/v1/results/canonicalize")).into_iter().flatten();
        let files = records.filter(|entry| entry.file_type().is_file());
        files.map(|entry| entry.metadata().unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    let written = canonical();
    assert_eq!(written.len(), 1);
    let read = project.run(&["-v", "plan"]);
    assert!(read.expect(0).stderr.contains("read "), "the files are too new to be believed: {read:?}");
    assert!(!read.stderr.contains("prepared"), "{read:?}");
    assert_eq!(canonical(), written);
}

#[test]
fn a_model_has_a_file_for_each_tensor() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    let mut split = large(1.0);
    let graph = split.graph.as_mut().unwrap();
    graph.initializer.clear();
    graph.node.clear();
    let names = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
    for i in 0..1200 {
        graph.initializer.push(raw(&format!("w{i}"), DataType::Float, &[4], vec![0; 16]));
        let to = if i == 1199 { "y".to_owned() } else { names(i + 1) };
        graph.node.push(node(&format!("n{i}"), "Add", &[&names(i), &format!("w{i}")], &[&to]));
    }
    for tensor in &mut graph.initializer {
        let location = format!("{}.bin", tensor.name());
        project.write(&location, tensor.raw_data.take().unwrap());
        let key = Some("location".to_owned());
        tensor.external_data = vec![StringStringEntryProto { key, value: Some(location) }];
        tensor.data_location = Some(DataLocation::External as i32);
    }
    save(&split, &project.path("m.onnx")).unwrap();
    project.run(&["plan"]).expect(0);
}
