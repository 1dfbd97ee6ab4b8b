//! What a verdict reaches and what keeps an engine back, with the real TensorRT-RTX and ONNX Runtime.

use enginewright::onnx::proto::GraphProto;
use enginewright::onnx::proto::tensor_proto::DataType;
use enginewright::onnx::testing::transformer::{Norms, Transformer};
use enginewright::onnx::testing::{WithAttribute, ints, model, node, value};
use prost::Message;

use crate::support::{Project, models};
use crate::verify::{floats, npy, project, verified, worst};

/// A transformer with two real samples, within a profile of short texts.
fn transformer(of: &Transformer, keys: &str, more: &str) -> Project {
    let project = project(&format!(
        "[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\n[model.m]\nsource = {{ path = \"../m.onnx\" }}\n{keys}\
         profile = [{{ name = \"p\", dims = {{ batch = [1, 2, 2], seq = [4, 16, 16] }} }}]\n\
         [model.m.verify]\ninputs = {{ dir = \"../samples\" }}\n{more}"
    ));
    project.write("m.onnx", of.model().encode_to_vec());
    for (name, first) in [("one", 3i64), ("two", 40)] {
        let ids = (0..32).flat_map(|i| ((first + 7 * i) % 100).to_le_bytes()).collect::<Vec<u8>>();
        project.write(&format!("samples/{name}/input_ids.npy"), npy("<i8", &[2, 16], &ids));
    }
    project
}

#[test]
fn the_founding_bug_is_kept_back_and_each_of_its_cures_is_published() {
    let project = transformer(
        &Transformer::overflowing(),
        "",
        "tolerance = { cosine = 0.999, max-rel = 0.02 }\n\
         [model.m.variant.bare]\nrules = []\n\
         [model.m.variant.rule]\nrules = []\n\
         [[model.m.variant.rule.rule]]\nname = \"norms\"\nselect = { pattern = \"layer-norm\" }\nprecision = \"fp32\"\n\
         [model.m.variant.fused]\nfuse = [\"layer-norm\"]\n\
         [model.m.variant.fused-fp16]\nfuse = [\"layer-norm\"]\nrules = []\n",
    );
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&["error[verify-failed]", "`m.bare@a` is not accurate", "4 of 5 engines ready"]);
    let found = verified(&project);
    for (name, engine) in &found {
        let is_bare = name == "m.bare@a";
        let folder = format!("engines/{}", name.trim_end_matches("@a"));
        assert_eq!(project.exists(&folder), !is_bare, "{name}");
        let verdict = if is_bare { "failed" } else { "emulated-optimistic" };
        assert_eq!(engine["verdict"], verdict, "{name}: {engine:#}");
        eprintln!("{name}: cosine {}, max-rel {}", worst(engine, "cosine"), worst(engine, "max-rel"));
    }
    assert!(worst(&found["m.bare@a"], "cosine") < 0.5);
    // A fused norm has its statistics in FP32, whatever its type; where it has FP16 around them, that is said.
    let norms = |engine: &str| {
        let rows = found[engine]["optimistic"].as_array().unwrap().iter();
        rows.filter(|row| row["op"] == "LayerNormalization").count()
    };
    assert_eq!((norms("m.fused@a"), norms("m.fused-fp16@a")), (0, 1));
}

#[test]
fn attention_in_fp16_is_measured_but_not_wholly() {
    let of = Transformer::small(Norms::Explicit);
    let project = transformer(&of, "", "require = \"emulated\"\n[model.m.variant.bare]\nrules = []\n");
    let found = verified(&project);
    let kinder = |engine: &str, op: &str| {
        found[engine]["optimistic"].as_array().unwrap().iter().any(|row| row["op"] == op)
    };
    // By default Softmax is FP32, and products are what may lose more on a GPU.
    assert!(kinder("m@a", "MatMul") && !kinder("m@a", "Softmax"));
    assert!(kinder("m.bare@a", "MatMul") && kinder("m.bare@a", "Softmax"));
    let verify = project.run(&["apply", "m.bare"]);
    verify.expect(1).says(&["the verdict would be `emulated-optimistic`, and `emulated` is required"]);
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest.replace("\"emulated\"", "\"on-device\""));
    let verify = project.run(&["apply"]);
    verify.expect(1).says(&["the engine has not run on a GPU, and `on-device` is required"]);
    assert!(!project.exists("engines/m") && !project.exists("engines/m.bare"));
    project.write("manifests/m.toml", manifest.replace("\"emulated\"", "\"emulated-optimistic\""));
    project.run(&["apply"]).expect(0).says(&["2 of 2 engines ready"]);
}

#[test]
fn a_row_that_is_all_padding_need_not_agree_and_gives_no_nan() {
    // Scores of what is left out are all but equal in FP16, and so is the attention of a row that is nothing else.
    let of = Transformer { mask: Some(-6e4), ..Transformer::small(Norms::Explicit) };
    let project = transformer(&of, "rules = []\n", "tolerance = { max-abs = 10 }\n");
    let mask: Vec<u8> = (0..32i64).flat_map(|i| i64::from(i < 9).to_le_bytes()).collect();
    for name in ["one", "two"] {
        project.write(&format!("samples/{name}/attention_mask.npy"), npy("<i8", &[2, 16], &mask));
    }
    let max_abs = |project: &Project| worst(&verified(project)["m@a"], "max-abs");
    let everywhere = max_abs(&project);
    let manifest = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", manifest + "ignore-where = { logits = \"attention_mask == 0\" }\n");
    let of_texts = max_abs(&project);
    eprintln!("max-abs {everywhere} everywhere, {of_texts} of texts");
    assert!(of_texts > 0.0 && of_texts * 2.0 < everywhere, "{of_texts}, {everywhere}");
}

/// The indices of four numbers by their size, and the numbers.
fn ranking() -> Vec<u8> {
    let of = |name: &str, element| value(name, element, &[4.into(), 1.into()]);
    let graph = GraphProto {
        input: vec![of("x", DataType::Float)],
        output: vec![of("v", DataType::Float), of("i", DataType::Int64)],
        node: vec![
            node("twice", "Add", &["x", "x"], &["t"]),
            node("rank", "TopK", &["t", "k"], &["v", "i"]).int("axis", 0),
        ],
        initializer: vec![ints("k", &[1], &[4])],
        ..GraphProto::default()
    };
    model(17, graph).encode_to_vec()
}

#[test]
fn raw_samples_chosen_outputs_and_integers_as_sets() {
    let manifest = |raw: &str, more: &str| {
        format!(
            "[model.m]\nsource = {{ path = \"../m.onnx\" }}\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = []\n\
             [model.m.verify]\ninputs = {{ dir = \"../samples\"{raw} }}\n{more}"
        )
    };
    let declared = ", raw = { x = { type = \"float32\", shape = [4, 1] } }";
    let project = project(&manifest(declared, ""));
    project.write("m.onnx", ranking());
    // To FP16, the first two are equal, and the first of them comes first.
    let x: Vec<u8> = [1.0f32, 1.0001, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    project.write("samples/s/x.bin", &x);
    let verify = |raw: &str, more: &str| {
        project.manifest(&manifest(raw, more));
        project.run(&["verify"])
    };
    verify(declared, "").expect(1).says(&["m@a: failed, 1 sample", "mismatch", "<= 0 (default)"]);
    assert_eq!(worst(&verified(&project)["m@a"], "mismatch"), 0.5);
    verify(declared, "tolerance = { set-mismatch = 0 }\n").expect(0).says(&["m@a: emulated"]);
    verify(declared, "outputs = [\"v\"]\n").expect(0).says(&["m@a: emulated"]);
    verify(declared, "outputs = [\"i\"]\n").expect(1).says(&["m@a: failed"]);
    verify("", "").expect(1).says(&["error[sample-undeclared]", "add `raw = { x = "]);
    let short = ", raw = { x = { type = \"float32\", shape = [3, 1] } }";
    verify(short, "").expect(1).says(&["error[sample-shape]", "it has 16 bytes", "x.bin"]);
    let halves = ", raw = { x = { type = \"float16\", shape = [8, 1] } }";
    verify(halves, "").expect(1).says(&["error[sample-type]", "the model's input is float32"]);
}

#[test]
fn an_accuracy_that_cannot_be_measured_keeps_only_its_own_engine_back() {
    let of = |name: &str, file: &str, verify: &str| {
        format!(
            "[model.{name}]\nsource = {{ path = \"../{file}.onnx\" }}\ntargets = [\"a\"]\n[model.{name}.verify]\n{verify}\n"
        )
    };
    let seed = "inputs = { seed = 1 }";
    let text = [
        of("good", "m", seed),
        of("nan", "m", "inputs = { dir = \"../nan\" }"),
        of("none", "m", "inputs = { dir = \"../none\" }"),
        of("late", "m", "inputs = { seed = 1, samples = 1000000 }\ntimeout = \"1s\""),
        of("typo", "m", &format!("{seed}\ntolerance = {{ z = {{ max-abs = 1 }} }}")),
        of("bf16", "bf16", seed),
        of("old", "m", &format!("{seed}\nreference = \"old\"")),
        "[toolchain.old]\nkind = \"onnxruntime\"\nversion = \"1.20.1\"\n".to_owned(),
    ];
    let project = project(&text.concat());
    project.write("m.onnx", models::mlp(1.0));
    project.write("nan/s.npy", floats(&[2, 4], &[f32::NAN; 8]));
    // TensorRT-RTX computes it, ONNX Runtime on a CPU does not.
    let tensor = |name: &str| value(name, DataType::Bfloat16, &[2.into(), 4.into()]);
    let graph = GraphProto {
        input: vec![tensor("x")],
        output: vec![tensor("y")],
        node: vec![node("only_node", "Relu", &["x"], &["y"])],
        ..GraphProto::default()
    };
    project.write("bf16.onnx", model(17, graph).encode_to_vec());
    let apply = project.run(&["apply"]);
    apply.expect(1).says(&[
        "1 of 7 engines ready, 6 failed",
        "error[sample-nan]",
        "error[samples-missing]",
        "error[worker-timed-out]",
        "error[unknown-output]",
        "error[reference-failed]",
        "ONNX Runtime cannot load the model as exported",
        "'only_node'",
        "ONNX Runtime `1.20.1` cannot be used: it is older than 1.24",
    ]);
    for name in ["nan", "none", "late", "typo", "bf16", "old"] {
        assert!(!project.exists(&format!("engines/{name}")), "{name}");
    }
    assert!(project.exists("engines/good/a.engine"));
}
