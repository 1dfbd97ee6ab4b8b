//! Each hazard is told with its node and a rule; with the rule it is gone, and what is harmless is not told.

use std::collections::BTreeSet;

use super::std_fp16;
use super::*;
use crate::manifest::Selector;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::testing::{WithAttribute, floats, ints, model, node, save, value, weight};
use crate::onnx::{self, Model};

fn canonical(model: &ModelProto) -> Model {
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = source.path().join("m.onnx");
    save(model, &path).unwrap();
    onnx::canonicalize(&path, out.path()).unwrap();
    let read = |name: &str| crate::fs::read(&out.path().join(name)).ok();
    onnx::read_canonical(read(onnx::MODEL_FILE).unwrap().into(), read(onnx::WEIGHTS_FILE).map(Into::into))
        .unwrap()
}

fn graph(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &[2.into(), 4.into()])],
        output: vec![value("y", DataType::Float, &["a".into(), "b".into()])],
        node: nodes,
        initializer,
        ..GraphProto::default()
    };
    model(17, graph)
}

fn spec(rules: Vec<RuleSpec>) -> Spec {
    Spec::new(FloatType::Fp16, rules, Capabilities::default())
}

fn rule(select: Selector, precision: FloatType) -> RuleSpec {
    RuleSpec {
        name: "a rule".into(),
        set: None,
        select: Select::Written(Box::new(select)),
        precision,
        accumulate: false,
        expect: None,
        optional: false,
    }
}

/// The selector that a problem's rule has.
fn selector(fix: &Fix) -> Selector {
    let table: toml::Table = fix.toml("m", false).parse().unwrap();
    let select = &table["m"]["rule"][0]["select"];
    let texts = |key: &str| match select.get(key) {
        Some(toml::Value::String(one)) => vec![one.clone()],
        Some(toml::Value::Array(many)) => many.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    };
    Selector { node: texts("node"), op: texts("op"), pattern: texts("pattern"), ..Selector::default() }
}

/// What is told under no rules: code, node, and the nodes that the fix selects; the fix mends it.
#[track_caller]
fn told(model: &ModelProto) -> Vec<(String, String)> {
    let model = canonical(model);
    let prepared = prepare(&model, &spec(Vec::new())).unwrap();
    for problem in &prepared.problems {
        let fix = problem.fix.as_ref().unwrap_or_else(|| panic!("{problem:?}"));
        let mended = prepare(&model, &spec(vec![rule(selector(fix), fix.precision)])).unwrap();
        let again = mended.problems.iter().find(|p| p.code == problem.code || p.code.starts_with("rule-"));
        assert_eq!(again, None, "{fix:?}");
    }
    let told =
        |p: &Problem| (p.code.clone(), p.node.as_ref().map(|(node, _)| node.clone()).unwrap_or_default());
    prepared.problems.iter().map(told).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(code, node)| ((*code).to_owned(), (*node).to_owned())).collect()
}

#[test]
fn long_sums_and_means_of_squares_are_told_and_means_are_not() {
    let nodes = vec![
        node("mean", "ReduceMean", &["x"], &["m"]).ints("axes", &[-1]),
        node("sum", "ReduceSum", &["m", "axis"], &["s"]),
        node("square", "Mul", &["s", "s"], &["q"]),
        node("power", "ReduceMean", &["q"], &["y"]).ints("axes", &[-1]),
    ];
    let prepared =
        prepare(&canonical(&graph(nodes.clone(), vec![ints("axis", &[1], &[0])])), &spec(Vec::new()));
    let fix = prepared.unwrap().problems[0].fix.clone().unwrap();
    assert_eq!(selector(&fix).node, ["sum", "power", "square"]);
    assert_eq!(told(&graph(nodes, vec![ints("axis", &[1], &[0])])), pairs(&[("fp16-long-sum", "sum")]));
}

#[test]
fn exponentials_are_told_and_roots_are_not() {
    let nodes = vec![
        node("root", "Pow", &["x", "half"], &["r"]),
        node("exp", "Exp", &["r"], &["e"]),
        node("cube", "Pow", &["e", "three"], &["y"]),
    ];
    let model = graph(nodes, vec![floats("half", &[], &[0.5]), floats("three", &[], &[3.0])]);
    assert_eq!(told(&model), pairs(&[("fp16-exponential", "exp")]));
    // In a Softmax there is nothing to overflow.
    let nodes = vec![node("softmax", "Softmax", &["x"], &["y"]).int("axis", -1)];
    assert_eq!(told(&graph(nodes, vec![])), []);
    // The default rules keep them FP32.
    let std = spec(std_fp16::rules());
    assert_eq!(prepare(&canonical(&model), &std).unwrap().problems, []);
    // That is lost where they are read in FP16, as in a squared ReLU.
    let nodes = vec![
        node("relu", "Relu", &["x"], &["r"]),
        node("square", "Pow", &["r", "two"], &["s"]),
        node("down", "MatMul", &["s", "w"], &["y"]),
    ];
    let squared = graph(nodes, vec![floats("two", &[], &[2.0]), weight("w", &[4, 4])]);
    let problems = prepare(&canonical(&squared), &std).unwrap().problems;
    assert_eq!(problems[0].message, "a power is computed in fp32 and read in fp16");
    let mut rules = std_fp16::rules();
    rules.push(rule(selector(problems[0].fix.as_ref().unwrap()), FloatType::Fp32));
    assert_eq!(prepare(&canonical(&squared), &spec(rules)).unwrap().problems, []);
}

#[test]
fn a_square_stays_fp32_up_to_its_root() {
    let wide = |nodes: Vec<NodeProto>, numbers: Vec<TensorProto>| {
        wide_nodes(&graph(nodes, numbers), std_fp16::rules()).0.into_iter().collect::<Vec<_>>().join(" ")
    };
    // An InstanceNormalization by hand, which is no pattern; before and after it, nothing is kept.
    let instance = vec![
        node("front", "Tanh", &["x"], &["t"]),
        node("mean", "ReduceMean", &["t"], &["m"]).ints("axes", &[0]),
        node("sub", "Sub", &["t", "m"], &["d"]),
        node("square", "Mul", &["d", "d"], &["q"]),
        node("variance", "ReduceMean", &["q"], &["v"]).ints("axes", &[0]),
        node("guard", "Add", &["v", "e"], &["g"]),
        node("root", "Sqrt", &["g"], &["r"]),
        node("divide", "Div", &["d", "r"], &["n"]),
        node("add", "Add", &["n", "t"], &["a"]),
        node("end", "Tanh", &["a"], &["y"]),
    ];
    assert_eq!(wide(instance, vec![floats("e", &[], &[1e-3])]), "guard root square variance");
    // A square with no root of its own does not join what stands between it and the next norm.
    let squared = vec![
        node("front", "Mul", &["x", "x"], &["t"]),
        node("add", "Add", &["t", "x"], &["a"]),
        node("square", "Mul", &["a", "a"], &["q"]),
        node("mean", "ReduceMean", &["q"], &["v"]).ints("axes", &[0]),
        node("root", "Sqrt", &["v"], &["r"]),
        node("end", "Sub", &["a", "r"], &["y"]),
    ];
    assert_eq!(wide(squared, vec![]), "mean root square");
    // A mean that is written as a sum.
    let mean = vec![
        node("front", "Tanh", &["x"], &["t"]),
        node("sum", "ReduceSum", &["t", "axis"], &["s"]),
        node("share", "Div", &["s", "n"], &["m"]),
        node("end", "Sub", &["t", "m"], &["y"]),
    ];
    let numbers = vec![ints("axis", &[1], &[-1]), floats("n", &[], &[4.0])];
    assert_eq!(wide(mean, numbers), "share sum");
}

#[test]
fn the_power_of_a_signal_stays_fp32_up_to_its_logarithm() {
    let nodes = vec![
        node("front", "Tanh", &["x"], &["t"]),
        node("power", "Pow", &["t", "two"], &["p"]),
        node("sum", "Add", &["p", "p"], &["s"]),
        node("filter", "MatMul", &["s", "w"], &["f"]),
        node("floor", "Clip", &["f", "least"], &["c"]),
        node("log", "Log", &["c"], &["l"]),
        node("end", "MatMul", &["l", "w"], &["y"]),
    ];
    let numbers = vec![weight("w", &[4, 4]), floats("two", &[], &[2.0]), floats("least", &[], &[1e-5])];
    let (wide, _) = wide_nodes(&graph(nodes, numbers), std_fp16::rules());
    assert_eq!(wide, ["power", "sum", "filter", "floor", "log"].map(str::to_owned).into());
}

#[test]
fn scales_of_few_digits_are_told() {
    let nodes = vec![node("scale", "Mul", &["x", "k"], &["a"]), node("bias", "Add", &["a", "k"], &["y"])];
    assert_eq!(
        told(&graph(nodes.clone(), vec![floats("k", &[4], &[1e-6, 2e-6, 0.0, 5e-5])])),
        pairs(&[("subnormal-scale-fp16", "scale")])
    );
    assert_eq!(told(&graph(nodes, vec![floats("k", &[4], &[1e-6, 2e-6, 0.0, 1e-4])])), []);
}

#[test]
fn integers_that_may_be_large_are_told_and_masks_are_not() {
    let with_input = |nodes: Vec<NodeProto>, initializer: Vec<TensorProto>| {
        let mut model = graph(nodes, initializer);
        model.graph.as_mut().unwrap().input.push(value("ids", DataType::Int64, &[2.into(), 1.into()]));
        model
    };
    let cast = |name: &str, from: &str, to: &str| node(name, "Cast", &[from], &[to]).int("to", 1);
    // A mask of zeros and ones.
    let mask = vec![cast("cast", "ids", "f"), node("mul", "Mul", &["x", "f"], &["y"])];
    assert_eq!(told(&with_input(mask, vec![])), []);
    // Positions of a rotary embedding.
    let angle = vec![
        cast("cast", "ids", "f"),
        node("angle", "Mul", &["f", "frequencies"], &["a"]),
        node("sin", "Sin", &["a"], &["s"]),
        node("mul", "Mul", &["x", "s"], &["y"]),
    ];
    let model = with_input(angle, vec![floats("frequencies", &[4], &[1.0, 0.1, 0.01, 0.001])]);
    assert_eq!(told(&model), pairs(&[("fp16-large-integer", "cast")]));
    let problem = prepare(&canonical(&model), &spec(Vec::new())).unwrap().problems.remove(0);
    assert_eq!(selector(&problem.fix.unwrap()).node, ["cast", "angle", "sin"]);
    // Counted, and constant.
    let counted = vec![
        node("range", "Range", &["zero", "four", "one"], &["r"]),
        cast("cast", "r", "f"),
        node("add", "Add", &["x", "f"], &["y"]),
    ];
    let scalars = vec![ints("zero", &[], &[0]), ints("four", &[], &[4]), ints("one", &[], &[1])];
    assert_eq!(told(&graph(counted, scalars)), pairs(&[("fp16-large-integer", "cast")]));
    let constant = vec![cast("cast", "k", "f"), node("add", "Add", &["x", "f"], &["y"])];
    assert_eq!(told(&graph(constant.clone(), vec![ints("k", &[1], &[2048])])), []);
    let large = graph(constant, vec![ints("k", &[1], &[-2049])]);
    assert_eq!(told(&large), pairs(&[("fp16-large-integer", "cast")]));
}

/// An attention whose scores are scaled before their product, after it, or not at all.
fn attention(before: bool, after: bool) -> ModelProto {
    let mut nodes = vec![
        node("q", "MatMul", &["x", "w"], &["q0"]),
        node("k", "MatMul", &["x", "w"], &["k0"]),
        node("v", "MatMul", &["x", "w"], &["v0"]),
        node("kt", "Transpose", &["k0"], &["k1"]).ints("perm", &[1, 0]),
    ];
    if before {
        nodes.push(node("scaleq", "Mul", &["q0", "scale"], &["q1"]));
    }
    nodes.push(node("scores", "MatMul", &[if before { "q1" } else { "q0" }, "k1"], &["s0"]));
    if after {
        nodes.push(node("scale", "Mul", &["s0", "scale"], &["s1"]));
    }
    nodes.push(node("softmax", "Softmax", &[if after { "s1" } else { "s0" }], &["p"]).int("axis", -1));
    nodes.push(node("context", "MatMul", &["p", "v0"], &["c"]));
    nodes.push(node("out", "MatMul", &["c", "w"], &["y"]));
    graph(nodes, vec![weight("w", &[4, 4]), floats("scale", &[], &[0.5])])
}

#[test]
fn attentions_in_fp16_are_told_by_their_softmax_and_scale() {
    let softmax = ("fp16-attention-softmax", "softmax");
    assert_eq!(told(&attention(true, false)), pairs(&[softmax]));
    assert_eq!(told(&attention(false, true)), pairs(&[softmax, ("attention-scaled-late", "scores")]));
    assert_eq!(told(&attention(false, false)), pairs(&[softmax, ("attention-unscaled", "scores")]));
}

#[test]
fn a_pin_that_costs_the_fused_kernel_is_told_with_the_way_back() {
    let model = canonical(&attention(true, false));
    let pattern = |name: &str| Selector { pattern: vec![name.to_owned()], ..Selector::default() };
    let told = |name: &str, base: FloatType| {
        let mut spec = spec(vec![rule(pattern(name), FloatType::Fp32)]);
        spec.base = base;
        prepare(&model, &spec).unwrap().problems
    };
    let codes = |problems: &[Problem]| problems.iter().map(|p| p.code.clone()).collect::<Vec<_>>();
    assert_eq!(codes(&told("attention.softmax", FloatType::Fp16)), [""; 0]);
    assert_eq!(codes(&told("attention", FloatType::Fp32)), [""; 0]);
    let whole = told("attention", FloatType::Fp16);
    assert_eq!(codes(&whole), ["attention-unfused"]);
    let fix = whole[0].fix.clone().unwrap();
    assert_eq!(fix.precision, FloatType::Fp16);
    let rules = vec![rule(pattern("attention"), FloatType::Fp32), rule(selector(&fix), fix.precision)];
    assert_eq!(prepare(&model, &spec(rules)).unwrap().problems, []);
}

/// Scores, a mask of keep-or-not times `low`, and a Softmax.
fn masked(low: TensorProto) -> ModelProto {
    let nodes = vec![
        node("scores", "MatMul", &["x", "w"], &["s"]),
        node("drop", "Sub", &["one", "x"], &["d"]),
        node("low", "Mul", &["d", "low"], &["m"]),
        node("mask", "Add", &["s", "m"], &["a"]),
        node("softmax", "Softmax", &["a"], &["p"]).int("axis", -1),
        node("out", "MatMul", &["p", "w"], &["y"]),
    ];
    graph(nodes, vec![weight("w", &[4, 4]), floats("one", &[], &[1.0]), low])
}

#[test]
fn what_carries_a_mask_to_a_softmax_is_fp32() {
    let wide = |model: &ModelProto, rules: Vec<RuleSpec>| {
        let prepared = prepare(&canonical(model), &spec(rules)).unwrap();
        let of = |node: &&NodeAssignment| node.of == Some(FloatType::Fp32);
        let names: Vec<String> =
            prepared.assignment.nodes.iter().filter(of).map(|n| n.name.clone()).collect();
        (names.join(" "), prepared.problems.into_iter().map(|p| p.code).collect::<Vec<_>>())
    };
    for low in [-1e9, f32::MIN] {
        let model = masked(floats("low", &[], &[low]));
        assert_eq!(wide(&model, vec![]), ("low mask softmax".to_owned(), vec![]));
        // The default rules keep the Softmax anyway.
        assert_eq!(wide(&model, std_fp16::rules()), ("low mask softmax".to_owned(), vec![]));
    }
    assert_eq!(wide(&masked(floats("low", &[], &[-1e4])), vec![]).0, "");
    // A causal mask among zeros.
    let causal = floats("low", &[4], &[0.0, -1e9, -1e9, 0.0]);
    assert_eq!(wide(&masked(causal), vec![]), ("low mask softmax".to_owned(), vec![]));
    // The model's own rule is obeyed, and what comes of the mask is told.
    let all = Selector { node: vec!["*".to_owned()], ..Selector::default() };
    let model = masked(floats("low", &[], &[-1e9]));
    assert_eq!(
        wide(&model, vec![rule(all.clone(), FloatType::Fp16)]),
        (String::new(), vec!["mask-saturated-fp16".to_owned()])
    );
    let typed = prepare(&canonical(&model), &spec(vec![rule(all, FloatType::Fp16)])).unwrap().model.unwrap();
    let low = typed.graph().initializer.iter().find(|t| t.name() == "low").unwrap();
    assert_eq!(low.raw_data.as_ref().unwrap().as_ref(), 0xfbffu16.to_le_bytes(), "-65504");
}

/// The names of the nodes that are FP32.
fn wide_nodes(model: &ModelProto, rules: Vec<RuleSpec>) -> (BTreeSet<String>, Prepared) {
    let prepared = prepare(&canonical(model), &spec(rules)).unwrap();
    let wide = prepared.assignment.nodes.iter().filter(|node| node.of == Some(FloatType::Fp32));
    (wide.map(|node| node.name.clone()).collect(), prepared)
}

fn rows(name: &str) -> ValueInfoProto {
    value(name, DataType::Float, &["n".into(), "m".into()])
}

#[test]
fn masks_are_followed_into_subgraphs_and_out_of_them() {
    let branch = |nodes: Vec<NodeProto>, out: &str, initializer: Vec<TensorProto>| GraphProto {
        name: Some("branch".into()),
        output: vec![rows(out)],
        node: nodes,
        initializer,
        ..GraphProto::default()
    };
    // The mask comes out of one branch, and a Softmax is in another node's.
    let hide = vec![node("hide", "Mul", &["x", "low"], &["hidden"])];
    let show = vec![node("show", "Mul", &["x", "one"], &["shown"])];
    let soft = vec![node("add", "Add", &["x", "m"], &["a"]), node("soft", "Softmax", &["a"], &["p"])];
    let relu = vec![node("relu", "Relu", &["x"], &["r"])];
    let nodes = vec![
        node("mask", "If", &["flag"], &["m"])
            .graph("then_branch", branch(hide, "hidden", vec![floats("low", &[], &[-1e9])]))
            .graph("else_branch", branch(show, "shown", vec![])),
        node("which", "If", &["flag"], &["y"])
            .graph("then_branch", branch(soft, "p", vec![]))
            .graph("else_branch", branch(relu, "r", vec![])),
    ];
    let mut model = graph(nodes, vec![floats("one", &[], &[1.0])]);
    model.graph.as_mut().unwrap().input.push(value("flag", DataType::Bool, &[]));
    let (wide, prepared) = wide_nodes(&model, vec![]);
    assert_eq!(wide, ["mask", "hide", "add", "soft"].map(str::to_owned).into());
    assert_eq!(prepared.problems, []);
}

#[test]
fn masks_go_round_in_a_loop() {
    let body = GraphProto {
        name: Some("body".into()),
        input: vec![value("i", DataType::Int64, &[]), value("c", DataType::Bool, &[]), rows("state")],
        output: vec![value("c_out", DataType::Bool, &[]), rows("next"), rows("seen")],
        node: vec![
            node("keep", "Identity", &["c"], &["c_out"]),
            node("soft", "Softmax", &["state"], &["seen"]),
            node("again", "Mul", &["x", "low"], &["next"]),
        ],
        initializer: vec![floats("low", &[], &[f32::MIN])],
        ..GraphProto::default()
    };
    let nodes = vec![
        node("start", "Relu", &["x"], &["s"]),
        node("loop", "Loop", &["n", "", "s"], &["last", "all"]).graph("body", body),
        node("end", "Sigmoid", &["all"], &["y"]),
    ];
    let (wide, prepared) = wide_nodes(&graph(nodes, vec![ints("n", &[], &[3])]), vec![]);
    assert_eq!(wide, ["loop", "soft", "again"].map(str::to_owned).into());
    assert_eq!(prepared.problems, []);
}

#[test]
fn a_mask_that_leaves_in_fp16_is_raised_before() {
    // The rules keep what makes it FP32; nothing on the way is a Softmax.
    let nodes = vec![
        node("mask", "Mul", &["x", "low"], &["m"]),
        node("top", "ReduceMax", &["m"], &["t"]).int("keepdims", 0),
        node("out", "Neg", &["m"], &["y"]),
    ];
    let mut model = graph(nodes, vec![floats("low", &[], &[-1e9])]);
    model.graph.as_mut().unwrap().output.push(value("t", DataType::Float, &[]));
    let rules = || vec![rule(Selector { node: vec!["mask".into()], ..Selector::default() }, FloatType::Fp32)];
    for (opset, inputs) in [(17, 2), (10, 1)] {
        model.opset_import[0].version = Some(opset);
        let (_, prepared) = wide_nodes(&model, rules());
        let codes: Vec<&str> = prepared.problems.iter().map(|p| p.code.as_str()).collect();
        assert_eq!(codes, ["mask-saturated-fp16"]);
        let typed = prepared.model.unwrap();
        let clips: Vec<&NodeProto> = typed.graph().node.iter().filter(|n| n.op_type() == "Clip").collect();
        // One Cast for both readers, and one Clip before it.
        assert_eq!((clips.len(), clips[0].input.len()), (1, inputs));
    }
    // Weakly typed there is no Cast, and nothing that could be put before it.
    let weak = Weak { one: vec![], automatic: vec![] };
    let weakly = prepare(&canonical(&model), &Spec { weak: Some(weak), ..spec(rules()) }).unwrap();
    let codes: Vec<&str> = weakly.problems.iter().map(|p| p.code.as_str()).collect();
    assert_eq!(codes, ["mask-overflow-fp16"]);
}
