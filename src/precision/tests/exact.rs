//! What must not lose digits: sizes, counters, classes, and the weights of nodes that stay FP32.

use super::*;

/// The type of each node of these.
fn types<'n>(prepared: &Prepared, names: &[&'n str]) -> Vec<(&'n str, Option<FloatType>)> {
    let of = |name: &str| prepared.assignment.nodes.iter().find(|node| node.name == name).and_then(|n| n.of);
    names.iter().map(|name| (*name, of(name))).collect()
}

#[test]
fn classes_of_one_hot_keep_their_type() {
    let nodes = vec![node("hot", "OneHot", &["x", "depth", "values"], &["y"])];
    let initializer = vec![floats("depth", &[], &[4099.0]), floats("values", &[2], &[0.0, 1.0])];
    let mut model = graph(nodes, initializer);
    model.graph.as_mut().unwrap().output =
        vec![value("y", DataType::Float, &["a".into(), "b".into(), "c".into()])];
    assert_eq!(
        lines(&typed(&model, &asked(Fp16, &[]))),
        ["OneHot(x:float, depth:float, values:float16) -> y/fp16:float16", "Cast(y/fp16:float16) -> y:float",]
    );
}

#[test]
fn sizes_that_a_range_counts_to_are_exact() {
    let cast = |name: &str, from: &str, to: &str| node(name, "Cast", &[from], &[to]).int("to", 1);
    let nodes = vec![
        node("shape", "Shape", &["x"], &["s"]),
        node("size", "ReduceMax", &["s"], &["n"]).int("keepdims", 0),
        cast("float", "n", "f"),
        node("half", "Mul", &["f", "scale"], &["h"]),
        node("range", "Range", &["zero", "h", "one"], &["r"]),
        node("add", "Add", &["x", "r"], &["y"]),
    ];
    let initializer = ["zero", "one", "scale"].map(|name| floats(name, &[], &[f32::from(name != "zero")]));
    let prepared = typed(&graph(nodes, initializer.into()), &asked(Fp16, &[]));
    let found = types(&prepared, &["float", "half", "range", "add"]);
    assert_eq!(
        found,
        [("float", Some(Fp32)), ("half", Some(Fp32)), ("range", Some(Fp32)), ("add", Some(Fp16))]
    );
}

#[test]
fn counters_that_are_compared_are_exact() {
    let cast = |name: &str, from: &str, to: &str| node(name, "Cast", &[from], &[to]).int("to", 1);
    let nodes = |other: &str| {
        vec![
            node("shape", "Size", &["x"], &["n"]),
            cast("float", "n", "f"),
            node("less", "Less", &["f", other], &["l"]),
            node("where", "Where", &["l", "x", "k"], &["y"]),
        ]
    };
    let initializer = || vec![floats("k", &[], &[2049.0])];
    let of =
        |other: &str| types(&typed(&graph(nodes(other), initializer()), &asked(Fp16, &[])), &["float"])[0].1;
    assert_eq!(of("k"), Some(Fp32));
    // Beside an activation it is a number like others.
    assert_eq!(of("x"), Some(Fp16));
}

#[test]
fn what_makes_the_weights_of_an_fp32_node_is_fp32() {
    let nodes = vec![
        node("wide/t", "Transpose", &["w"], &["t"]),
        node("wide/plus", "Add", &["t", "one"], &["p"]),
        node("wide", "MatMul", &["x", "p"], &["a"]),
        node("relu", "Relu", &["a"], &["b"]),
        node("narrow/t", "Transpose", &["w"], &["u"]),
        node("narrow", "MatMul", &["b", "u"], &["y"]),
    ];
    let model = graph(nodes, vec![weight("w", &[4, 4]), floats("one", &[], &[1.0])]);
    let prepared = typed(&model, &asked(Fp16, &[(named(&["wide", "relu"]), Fp32)]));
    let names = ["wide/t", "wide/plus", "narrow/t", "narrow"];
    let wanted = [Fp32, Fp32, Fp16, Fp16].map(Some);
    assert_eq!(types(&prepared, &names), names.into_iter().zip(wanted).collect::<Vec<_>>());
    // A rule of the model is obeyed.
    let rules = [(named(&["wide", "relu"]), Fp32), (named(&["wide/plus"]), Fp16)];
    let prepared = typed(&model, &asked(Fp16, &rules));
    assert_eq!(types(&prepared, &["wide/plus"])[0].1, Some(Fp16));
}

#[test]
fn a_node_without_a_name_keeps_the_one_that_it_is_called_by() {
    let nodes = vec![node("", "MatMul", &["x", "w"], &["a"]), node("", "Softmax", &["a"], &["y"])];
    let model = graph(nodes, vec![weight("w", &[4, 4])]);
    let typed_model = typed(&model, &asked(Fp16, &[])).model.unwrap();
    let names: Vec<String> = typed_model.graph().node.iter().map(onnx::node_name).collect();
    assert_eq!(names, ["x/cast_fp16", "node_of_a", "node_of_y", "y/cast_fp32"]);
    assert_eq!(typed_model.graph().node[1].name(), "", "its output is called as before");
    // One that does not give its first output is called by the second.
    let only_state = node("", "RNN", &["x3", "w3", "r3"], &["", "y"]).int("hidden_size", 4);
    let mut model_of_state =
        graph(vec![only_state], vec![weight("w3", &[1, 4, 4]), weight("r3", &[1, 4, 4])]);
    let any = |name: &str| value(name, DataType::Float, &["a".into(), "b".into(), "c".into()]);
    let main = model_of_state.graph.as_mut().unwrap();
    (main.input, main.output) = (vec![any("x3")], vec![any("y")]);
    let typed_state = typed(&model_of_state, &asked(Fp16, &[])).model.unwrap();
    assert_eq!(onnx::node_name(&typed_state.graph().node[1]), "node_of_y");
    let mut spec = asked(Fp16, &[(ops(&["MatMul"]), Fp16)]);
    spec.rules[0].accumulate = true;
    let names = typed(&model, &spec).model.unwrap();
    assert!(names.graph().node.iter().any(|n| n.op_type() == "MatMul" && onnx::node_name(n) == "node_of_a"));
}

#[test]
fn a_lone_product_is_one_whatever_reads_its_shape() {
    let nodes = vec![
        node("front", "Sigmoid", &["x"], &["f"]),
        node("mm", "MatMul", &["f", "w"], &["a"]),
        node("shape", "Shape", &["a"], &["s"]),
        node("tanh", "Tanh", &["a"], &["t"]),
        node("reshape", "Reshape", &["t", "s"], &["y"]),
    ];
    let prepared = typed(&graph(nodes, vec![weight("w", &[4, 4])]), &asked(Fp16, &[(named(&["mm"]), Fp32)]));
    assert_eq!(types(&prepared, &["mm", "tanh"]), [("mm", Some(Fp32)), ("tanh", Some(Fp32))]);
}

#[test]
fn what_is_added_to_a_convolution_does_not_keep_it_fp32() {
    let image = |name: &str| value(name, DataType::Float, &[1.into(), 4.into(), 8.into(), 8.into()]);
    let nodes = vec![
        node("side", "Sigmoid", &["x"], &["s"]),
        node("front", "Tanh", &["x"], &["t"]),
        node("conv", "Conv", &["t", "w"], &["c"]),
        node("residual", "Add", &["c", "s"], &["r"]),
        node("relu", "Relu", &["r"], &["u"]),
        node("end", "Sigmoid", &["u"], &["y"]),
    ];
    let mut model = graph(nodes, vec![weight("w", &[4, 4, 1, 1])]);
    let main = model.graph.as_mut().unwrap();
    (main.input, main.output) = (vec![image("x")], vec![image("y")]);
    let prepared = typed(&model, &asked(Fp16, &[(named(&["conv"]), Fp32)]));
    let found = types(&prepared, &["conv", "residual", "relu", "end"]);
    assert_eq!(
        found,
        [("conv", Some(Fp32)), ("residual", Some(Fp32)), ("relu", Some(Fp32)), ("end", Some(Fp16))]
    );
}

#[test]
fn products_in_a_row_and_a_gemm_with_its_bias_stay_fp32() {
    let two = vec![
        node("front", "Tanh", &["x"], &["t"]),
        node("one", "MatMul", &["t", "w"], &["a"]),
        node("two", "MatMul", &["a", "w"], &["b"]),
        node("end", "Transpose", &["b"], &["y"]),
    ];
    let bias = vec![
        node("front", "Tanh", &["x"], &["t"]),
        node("one", "Gemm", &["t", "w", "bias"], &["b"]),
        node("end", "Transpose", &["b"], &["y"]),
    ];
    for (nodes, pinned) in [(two, vec!["one", "two"]), (bias, vec!["one"])] {
        let initializer = vec![weight("w", &[4, 4]), weight("bias", &[4])];
        let spec = Spec {
            io: [("y".to_owned(), crate::manifest::IoType::Fp16)].into(),
            ..asked(Fp16, &[(named(&pinned), Fp32)])
        };
        assert_eq!(codes(&typed(&graph(nodes, initializer), &spec).problems), Vec::<&str>::new());
    }
}

#[test]
fn a_type_that_came_later_is_told_with_its_first_opset() {
    let nodes = vec![node("add", "Add", &["x", "x"], &["a"]), node("relu", "Relu", &["a"], &["y"])];
    let mut model = graph(nodes, vec![]);
    model.opset_import[0].version = Some(11);
    let problems = typed(&model, &asked(Bf16, &[])).problems;
    assert!(
        problems[0].notes.iter().any(|note| note == "from opset 13 on: `Add` (1), `Relu` (1)"),
        "{problems:?}"
    );
}

#[test]
fn a_way_leads_through_subgraphs_and_not_across() {
    let select = |from: &str, to: &str| {
        let between = Some((from.to_owned(), to.to_owned()));
        let prepared =
            typed(&branches(), &asked(Fp16, &[(Selector { between, ..Selector::default() }, Fp32)]));
        let by = |n: &&NodeAssignment| n.by == Decider::Rule(0);
        prepared.assignment.nodes.iter().filter(by).map(|n| n.op.clone()).collect::<Vec<_>>().join(" ")
    };
    // From around the If to its output: through both branches.
    assert_eq!(select("scaled", "/If"), "If Sub Add");
    let inside = |op: &str| {
        let all = typed(&branches(), &asked(Fp16, &[]));
        all.assignment.nodes.iter().find(|n| n.op == op).unwrap().name.clone()
    };
    assert_eq!(select(&inside("Add"), "/If"), "If Add");
    // A rule that selects nothing is an error, and no node is selected.
    assert_eq!(select(&inside("Add"), &inside("Sub")), "");
}

#[test]
fn nothing_is_cast_to_bf16_where_cast_does_not_take_it() {
    let nodes =
        vec![node("cast", "Cast", &["n"], &["f"]).int("to", 1), node("mul", "Mul", &["x", "f"], &["y"])];
    let mut model = graph(nodes, vec![ints("n", &[], &[5000])]);
    model.opset_import[0].version = Some(11);
    let prepared = typed(&model, &asked(Bf16, &[]));
    assert_eq!(codes(&prepared.problems), ["bf16-not-in-opset"]);
    assert_eq!(prepared.problems[0].notes, ["from opset 13 on: `Cast` (1), `Mul` (1)"]);
    // Nor is an input.
    let mut spec = asked(Fp32, &[]);
    spec.io.insert("x".to_owned(), crate::manifest::IoType::Bf16);
    assert_eq!(codes(&typed(&model, &spec).problems), ["io-type"]);
}

#[test]
fn what_nothing_binds_keeps_its_type() {
    let mut grid = node("grid", "GridSample", &["x", "g"], &["y"]);
    grid.domain = Some("com.microsoft".to_owned());
    let mut model = graph(vec![grid], vec![floats("g", &[1, 2, 4, 2], &[0.0; 16])]);
    let domain = onnx::proto::OperatorSetIdProto { domain: Some("com.microsoft".into()), version: Some(1) };
    model.opset_import.push(domain);
    let image = |name: &str| value(name, DataType::Float, &[1.into(), 1.into(), 2.into(), 4.into()]);
    let main = model.graph.as_mut().unwrap();
    (main.input, main.output) = (vec![image("x")], vec![image("y")]);
    let prepared = typed(&model, &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), Vec::<&str>::new());
    assert_eq!(types(&prepared, &["grid"])[0].1, Some(Fp32));
}
