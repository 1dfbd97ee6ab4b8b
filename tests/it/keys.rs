//! What is in the keys, and what is not: one edit at a time of a manifest, a model and its external data, each beside what
//! `why` says of it. (Edits of a toolchain are in `rebuild.rs` and in the tests of `plan/`.)

use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::proto::{
    GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use enginewright::onnx::testing::{WithAttribute, floats, model, node, save_external, value, weight};
use serde_json::Value;

use crate::support::{Output, Project, run};

const MANIFEST: &str = r#"
[rules.ours]
rule = [{ name = "activations", select = { op = "Relu" }, precision = "fp32" }]
[target.both]
sm = ["sm_86", "sm_89"]
[model.m]
source = { path = "../m/m.onnx" }
targets = ["a", "both"]
precision = "fp16"
rules = ["ours"]
[[model.m.rule]]
name = "first"
select = { node = "mm" }
precision = "fp32"
[[model.m.rule]]
name = "ends"
select = { op = ["Tanh", "Sigmoid"] }
precision = "fp32"
[[model.m.profile]]
name = "p"
dims = { batch = [1, 2, 4] }
"#;

fn nodes() -> Vec<NodeProto> {
    vec![
        node("mm", "MatMul", &["x", "w"], &["h1"]),
        node("softmax", "Softmax", &["h1"], &["h2"]).int("axis", 1),
        node("relu", "Relu", &["h2"], &["h3"]),
        node("constant", "Constant", &[], &["c"]).tensor("value", floats("", &[4], &[1.0; 4])),
        node("bias", "Add", &["h3", "c"], &["h4"]),
        node("scale", "Mul", &["h4", "s"], &["h5"]),
        node("tanh", "Tanh", &["h5"], &["t1"]),
        node("sigmoid", "Sigmoid", &["h5"], &["t2"]),
        node("sum", "Add", &["t1", "t2"], &["y"]),
    ]
}

fn base() -> ModelProto {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &["batch".into(), 4.into()])],
        output: vec![value("y", DataType::Float, &["batch".into(), 4.into()])],
        node: nodes(),
        initializer: vec![weight("w", &[4, 4]), weight("s", &[4])],
        ..GraphProto::default()
    };
    model(17, graph)
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("a graph")
}

/// A project with a model of its own, built.
struct Bed(Project);

impl Bed {
    fn new() -> Bed {
        let bed = Bed(Project::new(MANIFEST));
        bed.model(&base());
        bed.0.run(&["apply"]).expect(0);
        bed
    }

    fn model(&self, model: &ModelProto) {
        let folder = self.0.path("m");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        save_external(model, &folder.join("m.onnx"), "m.data").unwrap();
    }

    fn why(&self, engine: &str) -> Value {
        why(&self.0.run(&["--format", "json", "why", engine]))
    }
}

#[track_caller]
fn why(output: &Output) -> Value {
    output.expect(0).json()
}

fn texts(why: &Value) -> Vec<&str> {
    why["reasons"].as_array().unwrap().iter().map(|reason| reason["text"].as_str().unwrap()).collect()
}

/// What is replaced in the manifest, by what, and what `why` says then: just that.
const MANIFEST_EDITS: [(&str, &str, &str); 22] = [
    (
        "[[model.m.profile]]",
        "build = { workspace = \"1GiB\" }\n[[model.m.profile]]",
        "options.workspace: 4294967296 is now 1073741824",
    ),
    ("@build", "optimization-level = 5", "options.optimization-level: 3 is now 5"),
    ("@build", "profiling = \"detailed\"", "options.profiling: layer-names is now detailed"),
    ("@build", "weight-streaming = true", "options.weight-streaming: false is now true"),
    ("@build", "strict-nans = true", "options.strict-nans: false is now true"),
    ("@build", "sparse-weights = true", "options.sparse-weights: false is now true"),
    ("@build", "distributive-independence = true", "options.distributive-independence: false is now true"),
    ("@build", "max-aux-streams = 2", "options.max-aux-streams: none is now 2"),
    ("@build", "tiling = \"fast\"", "options.tiling: none is now fast"),
    ("@build", "epoch = 1", "epoch: 0 is now 1"),
    ("precision = \"fp16\"\n", "precision = \"fp16\"\ntf32 = true\n", "options.tf32: false is now true"),
    ("[1, 2, 4]", "[2, 2, 4]", "profiles[0].shapes.x.min: [1, 4] is now [2, 4]"),
    ("[1, 2, 4]", "[1, 3, 4]", "profiles[0].shapes.x.opt: [2, 4] is now [3, 4]"),
    ("[1, 2, 4]", "[1, 2, 5]", "profiles[0].shapes.x.max: [4, 4] is now [5, 4]"),
    ("precision = \"fp16\"", "precision = \"bf16\"", "precision: fp16 is now bf16"),
    ("precision = \"fp16\"", "precision = \"fp32\"", "precision: fp16 is now fp32"),
    (
        "node = \"mm\"",
        "node = [\"mm\", \"scale\"]",
        "rule `first` (manifests/m.toml:20): node = \"mm\" -> fp32 is now node = [\"mm\", \"scale\"] -> fp32",
    ),
    (
        "{ node = \"mm\" }\nprecision = \"fp32\"",
        "{ node = \"mm\" }\nprecision = \"bf16\"",
        "rule `first` (manifests/m.toml:20): node = \"mm\" -> fp32 is now node = \"mm\" -> bf16",
    ),
    (
        "{ op = \"Relu\" }",
        "{ op = [\"Relu\", \"Mul\"] }",
        "rule `activations` (manifests/m.toml:11): op = \"Relu\" -> fp32, of a set is now op = [\"Relu\", \"Mul\"] -> fp32, of a set",
    ),
    (
        "[[model.m.profile]]",
        "[[model.m.rule]]\nname = \"sum\"\nselect = { node = \"sum\" }\nprecision = \"fp32\"\n[[model.m.profile]]",
        "rule `sum` (manifests/m.toml:28): new, node = \"sum\" -> fp32",
    ),
    (
        "[[model.m.rule]]\nname = \"first\"\nselect = { node = \"mm\" }\nprecision = \"fp32\"\n",
        "",
        "a rule: gone, was node = \"mm\" -> fp32",
    ),
    ("[[model.m.profile]]", "io = { x = { type = \"fp16\" } }\n[[model.m.profile]]", "io.x: new, fp16"),
];

/// Keys of a model stand before its tables of tables.
fn edited(from: &str, to: &str) -> String {
    let key_of_model =
        |line: &str| MANIFEST.replacen("rules = [\"ours\"]\n", &format!("rules = [\"ours\"]\n{line}\n"), 1);
    let text = match (from, to.split_once('\n')) {
        ("@build", _) => key_of_model(&format!("build = {{ {to} }}")),
        ("[[model.m.profile]]", Some((key, _))) if !key.starts_with('[') => key_of_model(key),
        _ => MANIFEST.replacen(from, to, 1),
    };
    assert_ne!(text, MANIFEST, "`{from}` is not in the manifest");
    text
}

#[test]
fn every_edit_of_a_manifest_is_a_new_key_and_named() {
    let bed = Bed::new();
    let key = bed.why("m@a")["build_key"].clone();
    for (from, to, expected) in MANIFEST_EDITS {
        bed.0.manifest(&edited(from, to));
        let why = bed.why("m@a");
        assert_ne!(why["build_key"], key, "{to}");
        assert_eq!(texts(&why), [expected]);
    }
    let targets = [
        ("\"sm_89\"]", "\"sm_120\"]", "sms: [sm_86, sm_89] is now [sm_86, sm_120]"),
        ("\"sm_89\"]", "\"sm_89\", \"sm_120\"]", "sms: [sm_86, sm_89] is now [sm_86, sm_89, sm_120]"),
    ];
    for (from, to, expected) in targets {
        bed.0.manifest(&edited(from, to));
        assert_eq!(texts(&bed.why("m@both")), [expected]);
    }
}

/// Names and values.
type Variables = &'static [(&'static str, &'static str)];

type ModelEdit = (fn(&mut ModelProto), &'static str);

const MODEL_EDITS: [ModelEdit; 17] = [
    (|m| flip(&mut graph(m).initializer[0]), "model: 1 of 3 initializers differ: w"),
    (|m| flip(&mut graph(m).initializer[1]), "model: 1 of 3 initializers differ: s"),
    (
        |m| m.graph.as_mut().unwrap().initializer.iter_mut().for_each(flip),
        "model: 2 of 3 initializers differ: s, w",
    ),
    (|m| flip(graph(m).node[3].attribute[0].t.as_mut().unwrap()), "model: 1 of 3 initializers differ: c"),
    (|m| graph(m).node[1].attribute[0].i = Some(0), "model: node `softmax` (Softmax): axis: 1 is now 0"),
    (|m| graph(m).node[1].attribute.clear(), "model: node `softmax` (Softmax): axis: gone, was 1"),
    (|m| graph(m).node[2].op_type = Some("Abs".into()), "model: node `relu` (Abs) was Relu"),
    (|m| graph(m).node[5].name = Some("times".into()), "model: node `times` (Mul) was called `scale`"),
    (|m| graph(m).node[8].input.swap(0, 1), "model: node `sum` (Add): inputs: t1, t2 is now t2, t1"),
    (|m| graph(m).node.swap(6, 7), "model: node `tanh` (Tanh) is in another place"),
    (
        |m| {
            graph(m).node[5].output[0] = "renamed".into();
            graph(m).node[6].input[0] = "renamed".into();
            graph(m).node[7].input[0] = "renamed".into();
        },
        "model: node `scale` (Mul): outputs: h5 is now renamed; node `tanh` (Tanh): inputs: h5 is now renamed; \
         node `sigmoid` (Sigmoid): inputs: h5 is now renamed",
    ),
    (
        |m| {
            graph(m).node.insert(9, node("neg", "Neg", &["z"], &["y"]));
            graph(m).node[8].output[0] = "z".into();
        },
        "model: node `sum` (Add): outputs: y is now z; node `neg` (Neg) is new",
    ),
    (
        |m| {
            graph(m).node.remove(1);
            graph(m).node[1].input[0] = "h1".into();
        },
        "model: node `relu` (Relu): inputs: h2 is now h1; node `softmax` (Softmax) is gone",
    ),
    (|m| m.opset_import[0].version = Some(18), "model: opsets: onnx 17 is now onnx 18"),
    (|m| m.ir_version = Some(m.ir_version() - 1), "model: IR version: "),
    (
        |m| {
            let more = value("t1", DataType::Float, &["batch".into(), 4.into()]);
            graph(m).output.push(more);
        },
        "model: outputs: y is now y, t1",
    ),
    (|m| graph(m).initializer[1] = floats("s", &[1, 4], &[0.5; 4]), "model: 1 of 3 initializers differ: s"),
];

/// The sign of the first number.
fn flip(tensor: &mut TensorProto) {
    let mut bytes = tensor.raw_data().to_vec();
    bytes[3] ^= 0x80; // Its sign: what is less may vanish in FP16.
    tensor.raw_data = Some(bytes.into());
}

#[test]
fn every_edit_of_a_model_is_a_new_key_and_named() {
    let bed = Bed::new();
    let key = bed.why("m@a")["build_key"].clone();
    for (i, (edit, expected)) in MODEL_EDITS.into_iter().enumerate() {
        let mut edited = base();
        edit(&mut edited);
        bed.model(&edited);
        let why = bed.why("m@a");
        assert_ne!(why["build_key"], key, "edit {i}: {expected}");
        let texts = texts(&why);
        assert!(texts.len() == 1 && texts[0].starts_with(expected), "edit {i}: {texts:?}");
    }
    // Weights and an attribute at once: both are told.
    let mut both = base();
    flip(&mut graph(&mut both).initializer[0]);
    graph(&mut both).node[1].attribute[0].i = Some(0);
    bed.model(&both);
    let expected =
        ["model: 1 of 3 initializers differ: w", "model: node `softmax` (Softmax): axis: 1 is now 0"];
    assert_eq!(texts(&bed.why("m@a")), expected);
    // A byte of the external data alone.
    bed.model(&base());
    let mut data = std::fs::read(bed.0.path("m/m.data")).unwrap();
    data[0] ^= 1;
    bed.0.write("m/m.data", data);
    assert!(texts(&bed.why("m@a"))[0].starts_with("model: 1 of 3 initializers differ: "));
}

/// What is replaced in the manifest, and means nothing to the build.
const MANIFEST_WORDS: [(&str, &str); 14] = [
    ("[model.m]", "# a comment\n[model.m]"),
    ("[[model.m.profile]]\nname = \"p\"", "[[model.m.profile]]\n\n\nname   =   'p'"),
    ("dims = { batch = [1, 2, 4] }", "shapes = { x = { min = [1, 4], opt = [2, 4], max = [4, 4] } }"),
    ("name = \"p\"", "name = \"another\""),
    ("name = \"first\"", "name = \"renamed\""),
    ("path = \"../m/m.onnx\"", "path = \"../manifests/../m//m.onnx\""),
    ("targets = [\"a\", \"both\"]", "targets = [\"both\", \"a\"]"),
    ("\"sm_86\", \"sm_89\"", "\"sm_89\", \"sm_86\""),
    ("@build", "workspace = \"4096MiB\""),
    ("@build", "optimization-level = 3, tiling = \"none\", epoch = 0"),
    ("@build", "timeout = \"1h\""),
    ("@build", "memory-limit = \"60GiB\""),
    (
        "precision = \"fp16\"\n",
        "precision = \"fp16\"\ntf32 = false\nhazards = { weight-underflow-fp16 = \"warn\" }\n",
    ),
    ("precision = \"fp16\"\n", "precision = \"fp16\"\nopset = \">=13\"\n"),
];

const MODEL_WORDS: [fn(&mut ModelProto); 14] = [
    |m| m.doc_string = Some("words".into()),
    |m| m.producer_name = Some("somebody".into()),
    |m| m.producer_version = Some("9".into()),
    |m| m.model_version = Some(7),
    |m| m.domain = Some("org.example".into()),
    |m| m.metadata_props.push(StringStringEntryProto { key: Some("k".into()), value: Some("v".into()) }),
    |m| graph(m).doc_string = Some("words".into()),
    |m| graph(m).name = Some("another".into()),
    |m| graph(m).node.iter_mut().for_each(|node| node.doc_string = Some("words".into())),
    |m| graph(m).initializer.reverse(),
    |m| graph(m).initializer.push(weight("unused", &[4])),
    |m| graph(m).node.push(node("dead", "Relu", &["h1"], &["nobody"])),
    |m| graph(m).value_info.push(value("h1", DataType::Float, &["batch".into(), 4.into()])),
    |m| {
        let inputs: Vec<ValueInfoProto> = vec![value("w", DataType::Float, &[4.into(), 4.into()])];
        graph(m).input.extend(inputs);
    },
];

#[test]
fn what_decides_nothing_changes_no_key() {
    let bed = Bed::new();
    let keys = |why: &Value| (why["build_key"].clone(), why["prepare_key"].clone());
    let expected = keys(&bed.why("m@a"));
    for (from, to) in MANIFEST_WORDS {
        bed.0.manifest(&edited(from, to));
        assert_eq!(keys(&bed.why("m@a")), expected, "{to}");
    }
    bed.0.manifest(MANIFEST);
    // Several files, with other names.
    let text = String::from_utf8(bed.0.read("manifests/m.toml")).unwrap();
    let (head, tail) = text.split_once("[rules.ours]").unwrap();
    bed.0.write("manifests/a.toml", format!("schema = 1\n[rules.ours]{tail}"));
    bed.0.write("manifests/m.toml", head);
    assert_eq!(keys(&bed.why("m@a")), expected, "two files");
    std::fs::remove_file(bed.0.path("manifests/a.toml")).unwrap();
    bed.0.manifest(MANIFEST);

    for (i, edit) in MODEL_WORDS.into_iter().enumerate() {
        let mut edited = base();
        edit(&mut edited);
        bed.model(&edited);
        assert_eq!(keys(&bed.why("m@a")), expected, "edit {i} of what a model says");
    }
    // Where the weights lie.
    bed.0.write("m/m.onnx", prost::Message::encode_to_vec(&base()));
    assert_eq!(keys(&bed.why("m@a")), expected, "weights inside");
    save_external(&base(), &bed.0.path("m/m.onnx"), "another.bin").unwrap();
    assert_eq!(keys(&bed.why("m@a")), expected, "another file of weights");

    // How the program is started.
    let started: [(&[&str], Variables); 6] = [
        (&[], &[("LC_ALL", "de_DE.UTF-8")]),
        (&[], &[("TZ", "Asia/Tokyo")]),
        (&[], &[("NVIDIA_TF32_OVERRIDE", "1")]),
        (&[], &[("HOME", "/nonexistent")]),
        (&["--quiet"], &[]),
        (&["--cache-dir", "elsewhere"], &[]),
    ];
    for (args, variables) in started {
        let mut command = bed.0.command(&[args, &["--format", "json", "why", "m@a"]].concat());
        command.envs(variables.iter().copied());
        assert_eq!(keys(&why(&run(&mut command))), expected, "{args:?} {variables:?}");
    }
    let mut below = bed.0.command(&["--format", "json", "why", "m@a"]);
    assert_eq!(keys(&why(&run(below.current_dir(bed.0.path("m"))))), expected, "from another folder");
}

#[test]
fn what_prepares_to_the_same_is_built_no_second_time() {
    let bed = Bed::new();
    let before = bed.why("m@a");
    let cut_off = |what: &str| {
        let why = bed.why("m@a");
        assert_ne!(why["prepare_key"], before["prepare_key"], "{what}");
        assert_eq!(
            (&why["build_key"], &why["action"]),
            (&before["build_key"], &"up-to-date".into()),
            "{what}"
        );
        let apply = bed.0.run(&["apply"]);
        apply.expect(0).says(&["nothing to do"]);
        assert!(!apply.stderr.contains("building"), "{what}: {apply:?}");
    };
    let rules = [
        ("{ node = \"mm\" }", "{ node = \"m*\" }"),
        ("{ node = \"mm\" }", "{ op = \"MatMul\" }"),
        ("{ node = \"mm\" }", "{ node = \"mm\" }\nexpect = 1"),
        ("{ node = \"mm\" }", "{ node = \"mm\" }\noptional = true"),
        ("[\"Tanh\", \"Sigmoid\"]", "[\"Sigmoid\", \"Tanh\"]"),
    ];
    for (from, to) in rules {
        bed.0.manifest(&edited(from, to));
        cut_off(to);
    }
    bed.0.manifest(MANIFEST);
    // A bit that FP16 does not have.
    let mut model = base();
    let scale = &mut graph(&mut model).initializer[1];
    let mut bytes = scale.raw_data().to_vec();
    bytes[0] ^= 1;
    scale.raw_data = Some(bytes.into());
    bed.model(&model);
    cut_off("a weight that is rounded");
}

/// A build that takes a while, and a model that is another one when it ends.
#[test]
fn a_model_that_changes_while_it_is_built_is_not_recorded_as_what_it_was() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use crate::support::models;

    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::chain(1200));
    let mut command = project.command(&["apply"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("building")));
    project.write("m.onnx", models::mlp(1.0));
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:#?}");
    assert!(rest.join("\n").contains("error[source-changed]"), "{rest:#?}");
    assert!(!project.exists("engines/m/a.engine"));
    // The lock file names nothing of it, and what is there now is built.
    let lock = project
        .exists("enginewright.lock")
        .then(|| String::from_utf8(project.read("enginewright.lock")).unwrap());
    assert!(!lock.unwrap_or_default().contains("[[engine]]"));
    project.run(&["apply"]).expect(0).says(&["built   m@a"]);
}
