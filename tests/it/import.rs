//! `import trtexec`: the command lines that people have, to manifests, and back to equivalent ones by `export trtexec`.

use std::collections::{BTreeMap, BTreeSet};

use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use enginewright::onnx::testing::{WithAttribute, floats, model, node, raw, value, weight};
use prost::Message;

use crate::support::{Project, repository, run, shared_cache};

/// Two layers of an encoder with the names that exporters give.
fn bert() -> ModelProto {
    let mut nodes = vec![node("/embeddings/Gather", "Gather", &["table", "input_ids"], &["h0"])];
    for layer in 0..2 {
        let at = |name: &str| format!("/encoder/layer.{layer}/{name}");
        let h = |part: &str| format!("h{layer}{part}");
        let last = if layer == 1 { "h2".to_owned() } else { "h1".to_owned() };
        let add =
            |name: &str, op: &str, inputs: &[&str], output: &str| node(&at(name), op, inputs, &[output]);
        nodes.extend([
            add("attention/MatMul", "MatMul", &[&format!("h{layer}"), "w"], &h("a")),
            add("attention/Softmax", "Softmax", &[&h("a")], &h("b")),
            add("attention/Add", "Add", &[&h("b"), &format!("h{layer}")], &h("c")),
            add("LayerNorm/LayerNormalization", "LayerNormalization", &[&h("c"), "scale", "bias"], &last),
        ]);
    }
    nodes.push(node("/head/MatMul", "MatMul", &["h2", "w"], &["logits"]));
    let graph = GraphProto {
        input: vec![value("input_ids", DataType::Int64, &["batch".into(), "seq".into()])],
        output: vec![value("logits", DataType::Float, &["batch".into(), "seq".into(), 8.into()])],
        node: nodes,
        initializer: vec![
            weight("table", &[32, 8]),
            weight("w", &[8, 8]),
            weight("scale", &[8]),
            weight("bias", &[8]),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

fn image(batch: &'static str) -> ValueInfoProto {
    let batch = if batch.is_empty() { 1.into() } else { batch.into() };
    value("images", DataType::Float, &[batch, 3.into(), 16.into(), 16.into()])
}

fn conv(name: &str, input: &str, output: &str) -> NodeProto {
    node(name, "Conv", &[input, "kernel"], &[output]).ints("pads", &[1, 1, 1, 1])
}

/// A detector: convolutions, sigmoids, a head. Its batch is fixed if it has no name.
fn yolo(batch: &'static str) -> ModelProto {
    let graph = GraphProto {
        input: vec![image(batch)],
        output: vec![ValueInfoProto { name: Some("output0".into()), ..image(batch) }],
        node: vec![
            conv("/model.0/conv/Conv", "images", "a"),
            node("/model.0/act/Sigmoid", "Sigmoid", &["a"], &["b"]),
            node("/model.0/act/Mul", "Mul", &["a", "b"], &["c"]),
            conv("/model.1/conv/Conv", "c", "d"),
            node("/model.22/dfl/Softmax", "Softmax", &["d"], &["output0"]),
        ],
        initializer: vec![weight("kernel", &[3, 3, 3, 3])],
        ..GraphProto::default()
    };
    model(17, graph)
}

/// As much of a diffusion model as command lines see: three inputs, one of them a number.
fn unet() -> ModelProto {
    let sample = value("sample", DataType::Float, &["2B".into(), 4.into(), "H".into(), "W".into()]);
    let graph = GraphProto {
        input: vec![
            sample.clone(),
            value("timestep", DataType::Float, &[1.into()]),
            value("encoder_hidden_states", DataType::Float, &["2B".into(), 77.into(), 8.into()]),
        ],
        output: vec![ValueInfoProto { name: Some("latent".into()), ..sample }],
        node: vec![
            node("/time/Add", "Add", &["sample", "timestep"], &["a"]),
            node("/text/ReduceMean", "ReduceMean", &["encoder_hidden_states"], &["b"]).int("keepdims", 0),
            node("/mid/Add", "Add", &["a", "b"], &["c"]),
            node("/out/Tanh", "Tanh", &["c"], &["latent"]),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

/// A model that says itself what is INT8.
fn quantized() -> ModelProto {
    let graph = GraphProto {
        input: vec![image("")],
        output: vec![ValueInfoProto { name: Some("y".into()), ..image("") }],
        node: vec![
            node("q", "QuantizeLinear", &["images", "s", "z"], &["a"]),
            node("dq", "DequantizeLinear", &["a", "s", "z"], &["b"]),
            conv("conv", "b", "y"),
        ],
        initializer: vec![
            weight("kernel", &[3, 3, 3, 3]),
            floats("s", &[], &[0.05]),
            raw("z", DataType::Int8, &[], vec![0]),
        ],
        ..GraphProto::default()
    };
    model(17, graph)
}

/// A graph that ends in a plugin.
fn plugin() -> ModelProto {
    let mut nms = node("nms", "EfficientNMS_TRT", &["boxes", "scores"], &["num", "out", "conf", "class"]);
    nms.domain = Some("TRT".into());
    let graph = GraphProto {
        input: vec![
            value("boxes", DataType::Float, &[1.into(), 10.into(), 4.into()]),
            value("raw_scores", DataType::Float, &[1.into(), 10.into(), 2.into()]),
        ],
        output: vec![value("out", DataType::Float, &[1.into(), 5.into(), 4.into()])],
        node: vec![node("act", "Sigmoid", &["raw_scores"], &["scores"]), nms],
        ..GraphProto::default()
    };
    let mut proto = model(17, graph);
    proto
        .opset_import
        .push(enginewright::onnx::proto::OperatorSetIdProto { domain: Some("TRT".into()), version: Some(1) });
    proto
}

/// As people write them: a version, and a command line.
const LINES: [(&str, &str); 20] = [
    (
        "8.6",
        "trtexec --onnx=bert.onnx --fp16 --minShapes=input_ids:1x8 --optShapes=input_ids:8x128 --maxShapes=input_ids:32x512 --workspace=4096 --saveEngine=bert.plan --verbose",
    ),
    (
        "8.6",
        "trtexec --onnx=bert.onnx --saveEngine=bert_fp32.engine --optShapes=input_ids:1x128 --noTF32 --buildOnly",
    ),
    (
        "9.3",
        "trtexec --onnx=bert.onnx --fp16 --precisionConstraints=obey --layerPrecisions=*LayerNorm*:fp32,/encoder/layer.0/attention/Softmax:fp32,/encoder/layer.1/attention/*:fp32 \
         --layerOutputTypes=*LayerNorm*:fp32,/encoder/layer.0/attention/Softmax:fp32,/encoder/layer.1/attention/*:fp32 --optShapes=input_ids:4x64",
    ),
    (
        "10.3",
        "trtexec --onnx=bert.onnx --fp16 --precisionConstraints=obey \
         --layerPrecisions=/encoder/layer.0/LayerNorm/LayerNormalization:fp32,/encoder/layer.1/LayerNorm/LayerNormalization:fp32 \
         --layerOutputTypes=/encoder/layer.0/LayerNorm/LayerNormalization:fp32,/encoder/layer.1/LayerNorm/LayerNormalization:fp32 \
         --profile=0 --minShapes=input_ids:1x1 --optShapes=input_ids:1x64 --maxShapes=input_ids:1x128 \
         --profile=1 --minShapes=input_ids:1x128 --optShapes=input_ids:8x256 --maxShapes=input_ids:16x512",
    ),
    (
        "10.3",
        "trtexec --onnx=bert.onnx --bf16 --shapes=input_ids:8x128 --memPoolSize=workspace:8G --timingCacheFile=t.cache",
    ),
    (
        "10.9",
        "trtexec --onnx=bert.onnx --stronglyTyped --optShapes=input_ids:8x128 --tilingOptimizationLevel=2 --maxAuxStreams=0",
    ),
    (
        "11.1",
        "trtexec --onnx=bert.onnx --minShapes=input_ids:1x8 --optShapes=input_ids:8x128 --maxShapes=input_ids:32x512 --builderOptimizationLevel=5",
    ),
    (
        "8.6",
        "/usr/src/tensorrt/bin/trtexec --onnx=yolov8n.onnx --saveEngine=yolov8n.engine --fp16 --explicitBatch",
    ),
    (
        "8.6",
        "trtexec --onnx=yolov8n.onnx --int8 --fp16 --calib=calibration.cache --workspace=2048 --iterations=100 --avgRuns=10",
    ),
    (
        "10.3",
        "trtexec --onnx=yolo_dyn.onnx --best --minShapes=images:1x3x16x16 --optShapes=images:4x3x16x16 --maxShapes=images:8x3x16x16 --sparsity=enable",
    ),
    ("8.6", "trtexec --onnx=yolov8n.onnx --fp16 --useDLACore=0 --allowGPUFallback --saveEngine=dla.engine"),
    (
        "10.3",
        "trtexec --onnx=yolov8n.onnx --fp16 --useDLACore=1 --allowGPUFallback --inputIOFormats=fp16:chw16 --outputIOFormats=fp16:chw",
    ),
    ("10.3", "trtexec --onnx=qdq.onnx --int8 --fp16 --skipInference"),
    ("10.9", "trtexec --onnx=qdq.onnx --stronglyTyped --hardwareCompatibilityLevel=ampere+ --useCudaGraph"),
    (
        "8.6",
        "trtexec --onnx=unet/model.onnx --fp16 --minShapes=sample:2x4x8x8,encoder_hidden_states:2x77x8,timestep:1 --optShapes=sample:2x4x64x64,encoder_hidden_states:2x77x8,timestep:1 \
         --maxShapes=sample:8x4x96x96,encoder_hidden_states:8x77x8,timestep:1 --builderOptimizationLevel=4 --tacticSources=-CUDNN,+CUBLAS",
    ),
    (
        "10.9",
        "trtexec --onnx=unet/model.onnx --fp16 --shapes=sample:2x4x64x64,encoder_hidden_states:2x77x8 --allocationStrategy=static --stripWeights --refit",
    ),
    (
        "10.16",
        "trtexec --onnx=unet/model.onnx --stronglyTyped --shapes=sample:2x4x64x64,encoder_hidden_states:2x77x8 --allowWeightStreaming --weightStreamingBudget=50%",
    ),
    ("10.3", "trtexec --onnx=nms.onnx --staticPlugins=./libnms.so --vc --fp16"),
    (
        "8.6",
        "trtexec --onnx=nms.onnx --plugins=libnms.so --versionCompatible --excludeLeanRuntime --avgTiming=16",
    ),
    (
        "10.3",
        "trtexec --onnx=yolo_dyn.onnx --fp16 --precisionConstraints=obey --layerPrecisions='*:fp16,/model.22/dfl/Softmax:fp32' --layerOutputTypes='/model.22/dfl/Softmax:fp32,/model.0/*:fp16,/model.1/*:fp16,*:fp16' --optShapes=images:4x3x16x16",
    ),
];

fn project() -> Project {
    let project = Project::bare();
    for (file, proto) in [
        ("bert.onnx", bert()),
        ("yolov8n.onnx", yolo("")),
        ("yolo_dyn.onnx", yolo("batch")),
        ("unet/model.onnx", unet()),
        ("qdq.onnx", quantized()),
        ("nms.onnx", plugin()),
    ] {
        project.write(file, proto.encode_to_vec());
    }
    project.write("libnms.so", "a plugin");
    project.write("calibration.cache", "scales");
    project
}

/// The layers of the models above that an option can name.
fn layers(onnx: &str, version: &str) -> Vec<String> {
    let proto = match onnx {
        "bert.onnx" => bert(),
        "yolov8n.onnx" => yolo(""),
        "yolo_dyn.onnx" => yolo("batch"),
        "unet/model.onnx" => unet(),
        "qdq.onnx" => quantized(),
        _ => plugin(),
    };
    let is_lost =
        |node: &NodeProto| node.op_type() == "LayerNormalization" && ["8.6", "9.3"].contains(&version);
    let nodes = proto.graph.unwrap().node;
    nodes.iter().filter(|node| !is_lost(node)).map(|node| node.name().to_owned()).collect()
}

/// What a command line tells TensorRT, in one form for all ways to write it.
fn told(words: &[String], layers: &[String], version: &str) -> BTreeMap<String, String> {
    // How the engine is timed and what is printed, and where things lie.
    const APART: [&str; 18] = [
        "--onnx",
        "--saveEngine",
        "--skipInference",
        "--buildOnly",
        "--verbose",
        "--exportLayerInfo",
        "--timingCacheFile",
        "--profilingVerbosity",
        "--explicitBatch",
        "--iterations",
        "--avgRuns",
        "--useCudaGraph",
        "--allocationStrategy",
        "--weightStreamingBudget",
        "--builderOptimizationLevel=3",
        "--shapes",
        "--precisionConstraints",
        "--profile",
    ];
    let mut told = BTreeMap::new();
    let mut profile = 0;
    let get = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let file = value.rsplit('/').next().unwrap_or_default().to_owned();
        let mut is = |name: &str, value: String| told.insert(name.to_owned(), value);
        match name {
            "--profile" => profile = value.parse().unwrap(),
            "--workspace" => drop(is("workspace", value.to_owned())),
            "--memPoolSize" => {
                let size = value.strip_prefix("workspace:").unwrap();
                let mib = size.strip_suffix('G').map(|g| g.parse::<u64>().unwrap() * 1024);
                is("workspace", mib.map_or(size.to_owned(), |mib| mib.to_string()));
            }
            "--minShapes" | "--optShapes" | "--maxShapes" | "--shapes" => {
                let kinds = match name {
                    "--minShapes" => &["min"][..],
                    "--maxShapes" => &["max"],
                    // Alone, it is all three.
                    "--optShapes" if get("--minShapes").is_some() => &["opt"],
                    _ => &["min", "opt", "max"],
                };
                // A shape that the model fixes need not be said.
                let all = value.split(',').filter(|shape| !shape.starts_with("timestep:"));
                for (shape, kind) in all.flat_map(|shape| kinds.iter().map(move |kind| (shape, kind))) {
                    let (input, dims) = shape.rsplit_once(':').unwrap();
                    is(&format!("{profile} {input} {kind}"), dims.to_owned());
                }
            }
            "--vc" => drop(is("--versionCompatible", String::new())),
            "--plugins" | "--staticPlugins" => {
                drop(is("--staticPlugins", file.rsplit("plugin-0-").next().unwrap().to_owned()))
            }
            "--calib" => drop(is(name, file)),
            "--best" => {
                is(name, String::new());
                is("--fp16", String::new());
            }
            "--layerPrecisions" | "--layerOutputTypes" => {
                assert_eq!(get("--precisionConstraints"), Some("obey"));
                let is_output = name == "--layerOutputTypes";
                for (layer, of) in pins(value, layers, is_output && version != "8.6") {
                    is(&format!("{name} {layer}"), of);
                }
            }
            _ if APART.contains(&name) || APART.contains(&word.as_str()) => {}
            _ => drop(is(name, value.to_uppercase())),
        }
    }
    told
}

/// The layers that a list of names hits, as the source of trtexec has it.
fn pins(list: &str, layers: &[String], type_is_lost: bool) -> BTreeMap<String, String> {
    let entries: Vec<(&str, &str)> = list.split(',').map(|entry| entry.rsplit_once(':').unwrap()).collect();
    let global = entries.iter().find(|(name, _)| *name == "*").map_or("fp32", |(_, of)| of);
    let mut pins = BTreeMap::new();
    for layer in layers {
        let exact = entries.iter().find(|(name, _)| name == layer);
        let wild = entries.iter().find(|(name, _)| {
            let Some((start, end)) = name.split_once('*') else { return false };
            layer.starts_with(start) && layer.ends_with(end) && layer.len() >= start.len() + end.len()
        });
        match (exact, wild) {
            (Some((_, of)), _) => pins.insert(layer.clone(), (*of).to_owned()),
            (None, Some((_, of))) => {
                pins.insert(layer.clone(), (if type_is_lost { global } else { of }).to_owned())
            }
            (None, None) => None,
        };
    }
    pins
}

/// The words of a line, without quotes around them.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().filter(|w| w.starts_with('-')).map(|w| w.replace('\'', "")).collect()
}

#[test]
fn what_is_imported_is_exported_as_an_equivalent_command() {
    let project = project();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, (version, line)) in LINES.iter().enumerate() {
        let (name, file) = (format!("m{at}"), format!("manifests/m{at}.toml"));
        let import = project.run(&[
            "import",
            "trtexec",
            line,
            "--version",
            version,
            "--gpu",
            "RTX 3090",
            "--name",
            &name,
            "--out",
            &file,
        ]);
        import.expect(0);
        let manifest = String::from_utf8(project.read(&file)).unwrap();
        let target =
            manifest.lines().find_map(|l| l.strip_prefix("targets = [\"")?.strip_suffix("\"]")).unwrap();
        let export = project.run(&["export", "trtexec", &format!("{name}@{target}")]);
        if export.code != 0 {
            wrong.push(format!("{line}\n{manifest}\n{}", export.stderr));
            continue;
        }
        let onnx = line.split("--onnx=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let layers = layers(onnx, version);
        let exported = export.stdout.lines().find(|l| l.starts_with("trtexec ")).unwrap();
        let (before, after) =
            (told(&words(line), &layers, version), told(&words(exported), &layers, version));
        if before != after {
            wrong.push(format!("{line}\n{exported}\n{before:#?}\n{after:#?}\n{manifest}"));
        }
        seen.insert(target.to_owned());
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), LINES.len(), wrong.join("\n\n"));
    // What is declared is not declared again: six versions, one of them from two places.
    assert_eq!(seen.len(), 7, "{seen:?}");
    project.run(&["check"]).expect(0);
}

/// `examples/from-trtexec`: what is imported is what the example shows, and the rule that replaced the pattern has its
/// effect in the version of the script.
#[test]
fn the_example_is_what_import_prints() {
    let example = repository().join("examples/from-trtexec");
    let project = Project::bare();
    for file in ["build.sh", "manifests/ocr.toml"] {
        project.write(file, std::fs::read(example.join(file)).unwrap());
    }
    let import = project.run(&["import", "trtexec", "build.sh", "--version", "8.6", "--gpu", "RTX 3090"]);
    import.expect(0);
    let shown = example.join("imported.toml");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&shown, &import.stdout).unwrap();
    }
    assert_eq!(import.stdout, std::fs::read_to_string(&shown).unwrap_or_default());
    let cache = shared_cache();
    let cache = cache.to_str().unwrap();
    project.run(&["--cache-dir", cache, "plan", "--fetch"]).expect(0);
    let export = project.run(&["--cache-dir", cache, "export", "trtexec", "rec@rtx-3090", "--for", "8.6"]);
    export.expect(0).says(&["--layerPrecisions=", ":fp32", "--precisionConstraints=obey"]);
}

#[test]
fn files_logs_and_streams_are_read_and_nothing_is_overwritten() {
    let project = project();
    let log = "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=bert.onnx --fp16 --optShapes=input_ids:1x8\n\
               [11/23/2026-10:00:00] [I] Selected Device: NVIDIA A10\n&&&& PASSED TensorRT.trtexec\n";
    project.write("build.log", log);
    let import = project.run(&["import", "trtexec", "build.log", "--out", "manifests/bert.toml"]);
    import.expect(0).says(&["wrote ", "1 model"]);
    let first = project.read("manifests/bert.toml");
    let again = project.run(&["import", "trtexec", "build.log", "--out", "manifests/bert.toml"]);
    again.expect(3).says(&["the file exists already", "`--force`"]);
    assert_eq!(project.read("manifests/bert.toml"), first);
    // The file that is replaced does not stand in its own way.
    project.run(&["import", "trtexec", "build.log", "--out", "manifests/bert.toml", "--force"]).expect(0);
    assert_eq!(project.read("manifests/bert.toml"), first);
    project.run(&["check"]).expect(0);
    // Beside it, a model of the same name is an error of the whole project, before anything is written.
    let twice = project.run(&["import", "trtexec", "build.log", "--out", "manifests/again.toml"]);
    twice.expect(3).says(&["duplicate-name", "bert"]);
    assert!(!project.exists("manifests/again.toml"));
    let json = project.run(&["--format", "json", "import", "trtexec", "build.log", "--name", "other"]);
    let json = json.expect(0).json();
    assert_eq!((&json["models"][0], &json["file"]), (&"other".into(), &serde_json::Value::Null));
    assert!(
        json["manifest"].as_str().unwrap().contains("gpu = \"A10\"")
            || json["manifest"].as_str().unwrap().contains("targets = [\"a10\"]")
    );
    project.write("binary", [0xff, 0xfe, 0]);
    project.run(&["import", "trtexec", "binary"]).expect(3).says(&["not UTF-8"]);
    let words = ["import", "trtexec", "--version", "10.3", "--name", "w", "--", "trtexec", "--onnx=a b.onnx"];
    project.run(&words).expect(0).says(&["path = \"../a b.onnx\""]);
    let from_env = project.run(&["import", "trtexec", "trtexec --onnx=$WHAT.onnx", "--env"]);
    from_env.expect(3).says(&["$WHAT", "--env"]);
    let mut command = project.command(&["import", "trtexec", "trtexec --onnx=$WHAT.onnx --fp16", "--env"]);
    run(command.env("WHAT", "yolov8n")).expect(0).says(&["[model.yolov8n]"]);
    let lossy = ["import", "trtexec", "trtexec --onnx=yolov8n.onnx --sparsity=force", "--version", "10.3"];
    project.run(&lossy).expect(3).says(&["import-lossy"]);
    project.run(&[&lossy[..], &["--lossy"]].concat()).expect(0).says(&["# - left out: `--sparsity=force`"]);
}

/// A plain `--fp16` on a model whose mask FP16 cannot hold: the manifest keeps the mask FP32, and says so.
#[test]
fn what_a_manifest_does_beyond_the_command_is_said() {
    let project = Project::bare();
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &[4.into()]), value("m", DataType::Float, &[4.into()])],
        output: vec![value("y", DataType::Float, &[4.into()])],
        node: vec![
            node("/mask/Mul", "Mul", &["m", "large"], &["a"]),
            node("/scores/Add", "Add", &["x", "a"], &["b"]),
            node("/Softmax", "Softmax", &["b"], &["y"]),
        ],
        initializer: vec![floats("large", &[], &[-1e9])],
        ..GraphProto::default()
    };
    project.write("m.onnx", model(17, graph).encode_to_vec());
    let import = project.run(&["import", "trtexec", "trtexec --onnx=m.onnx --fp16", "--version", "10.3"]);
    import.expect(0).says(&[
        "beyond the command line, this manifest holds",
        "`/Softmax`",
        "enginewright rules m",
    ]);
}
