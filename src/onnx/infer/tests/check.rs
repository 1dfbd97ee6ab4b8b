//! Contradictions, and graphs of any kind.

use proptest::prelude::*;
use prost::Message;

use super::super::super::canonical::canonical;
use super::super::super::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::super::super::read_canonical;
use super::super::super::testing::{WithAttribute, mlp, node, raw, value};
use super::super::*;
use super::{F16, F32, in_domain, of_nodes, read, unnamed_graph};

/// The codes and messages of everything that does not fit.
fn problems(proto: &ModelProto) -> Vec<(String, String)> {
    let model = read(proto);
    let found = type_errors(&model, &element_types(&model));
    found.into_iter().map(|d| (d.code.into_owned(), d.message)).collect()
}

fn declares(proto: &ModelProto, element: DataType) -> ModelProto {
    let mut proto = proto.clone();
    let output = &mut proto.graph.as_mut().unwrap().output[0];
    let name = output.name().to_owned();
    *output = value(&name, element, &["n".into()]);
    proto
}

#[test]
fn an_output_declared_with_another_type_is_told() {
    let proto = of_nodes(17, vec![node("/half", "Cast", &["f"], &["y"]).int("to", 10)]);
    let message = "output `y` is declared as float, but node `/half` makes it float16";
    assert_eq!(problems(&declares(&proto, F32)), [("output-type-mismatch".to_owned(), message.to_owned())]);
    assert!(problems(&declares(&proto, F16)).is_empty() && problems(&proto).is_empty());
    let model = read(&declares(&proto, F32));
    let found = unfit(&model, &element_types(&model));
    assert_eq!(found[0].level, crate::diagnostic::Level::Error);
    // What is not known is not held against anybody.
    let opaque = of_nodes(17, vec![in_domain("ours", node("", "Plugin", &["h"], &["y"]))]);
    assert!(problems(&declares(&opaque, F32)).is_empty());
    // An input handed through.
    let mut through = of_nodes(17, vec![node("", "Relu", &["f"], &["y"])]);
    through.graph.as_mut().unwrap().output.push(value("h", F32, &["n".into()]));
    assert_eq!(problems(&through)[0].1, "output `h` is declared as float, but it is float16");
}

/// A graph that gives what its one node makes of `f`.
fn making(op: &str, to: DataType, inputs: Vec<ValueInfoProto>, outputs: &[&str]) -> GraphProto {
    let made = node("", op, &["f"], &[outputs[outputs.len() - 1]]);
    let made = if op == "Cast" { made.int("to", to as i64) } else { made };
    let output = outputs.iter().map(|name| value(name, to, &[])).collect();
    GraphProto { node: vec![made], input: inputs, output, ..GraphProto::default() }
}

#[test]
fn a_value_that_has_no_one_type_makes_a_model_unfit() {
    let unfit = |node: NodeProto| {
        let found = problems(&of_nodes(17, vec![node]));
        found.into_iter().find(|(code, _)| code == "subgraph-types").map(|(_, message)| message)
    };
    let branch = |to| making("Cast", to, vec![], &["t"]);
    let of = |a, b| unfit(node("/if", "If", &["b"], &["y"]).graph("then_branch", a).graph("else_branch", b));
    let message = "`y` of node `/if` is float by one branch and float16 by the other";
    assert_eq!(of(branch(F32), branch(F16)).unwrap(), message);
    assert_eq!(of(branch(F16), branch(F16)), None);
    // What a custom operator makes is what it is declared as.
    let custom = |to| {
        let mut graph = making("Plugin", to, vec![], &["t"]);
        graph.node[0].domain = Some("ours".to_owned());
        graph
    };
    assert_eq!(of(custom(F32), branch(F16)).unwrap(), message);
    assert_eq!(of(custom(F16), branch(F16)), None);

    let body = |to| {
        let value = |name: &str, of| value(name, of, &[]);
        let inputs = vec![value("k", DataType::Int64), value("go", DataType::Bool), value("in", F32)];
        making("Cast", to, inputs, &["go", "out"])
    };
    let round = |to| unfit(node("/loop", "Loop", &["i", "b", "f"], &["y"]).graph("body", body(to)));
    assert_eq!(
        round(F16).unwrap(),
        "`y` of node `/loop` is float before the first round and float16 after it"
    );
    assert_eq!(round(F32), None);
}

#[test]
fn of_two_declarations_the_first_counts_and_the_canonical_form_keeps_it() {
    let mut proto = of_nodes(17, vec![in_domain("ours", node("", "Plugin", &["h"], &["y", "z"]))]);
    let graph = proto.graph.as_mut().unwrap();
    graph.node.push(node("", "Identity", &["z"], &["zz"]));
    graph.output = vec![value("y", F16, &[]), value("zz", F16, &[])];
    graph.value_info = vec![value("y", F32, &[]), value("z", F16, &[]), value("z", F32, &[])];
    let mut model = read(&proto);
    let types = element_types(&model);
    let of = |types: &ElementTypes| ["y", "z"].map(|name| types.get(types.graph(), name).to_string());
    assert_eq!(of(&types), ["float16", "float16"]);
    canonical(&mut model, &types).unwrap();
    assert_eq!(of(&element_types(&model)), ["float16", "float16"]);
}

#[test]
fn contradictions_are_warnings() {
    let code = |opset, nodes| problems(&of_nodes(opset, nodes));
    let mixed = code(17, vec![node("", "Add", &["h", "f"], &["y"])]);
    let message = "`Add` wants one type `T` for all, but `h` is float16 and `f` is float";
    assert_eq!(mixed, [("type-conflict".to_owned(), message.to_owned())]);
    let message = "`Relu` of version 13 does not take int64 as `X` (`i`)";
    assert_eq!(
        code(13, vec![node("", "Relu", &["i"], &["y"])]),
        [("type-not-allowed".to_owned(), message.to_owned())]
    );
    assert!(code(14, vec![node("", "Relu", &["q"], &["y"])]).is_empty());
    let model = read(&of_nodes(17, vec![node("", "Add", &["h", "f"], &["y"])]));
    let found = type_errors(&model, &element_types(&model));
    assert!(found.iter().all(|d| d.level == crate::diagnostic::Level::Warning));

    let mut branch = unnamed_graph(&[], &["t"], vec![node("", "Relu", &["h"], &["t"])]);
    branch.output = vec![value("t", F32, &["n".into()])];
    let wrong = code(17, vec![node("", "If", &["b"], &["y"]).graph("then_branch", branch)]);
    assert_eq!(
        wrong,
        [(
            "type-conflict".to_owned(),
            "output `t` of a subgraph is declared as float, but it is float16".to_owned()
        )]
    );
}

#[test]
fn doubles_are_told_once_and_by_name() {
    let mut proto = mlp();
    let graph = proto.graph.as_mut().unwrap();
    for i in 0..12 {
        graph.initializer.push(raw(&format!("d{i:02}"), DataType::Double, &[1], vec![0; 8]));
    }
    let found = problems(&proto);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].1.contains("`d00`, `d01`") && found[0].1.contains("`d09` and 2 more are of type double")
    );
    assert_eq!(double_note(&read(&mlp())), None);
}

/// Operators that are handled in their own way, and some that are not.
const OPS: [&str; 28] = [
    "Add",
    "Cast",
    "CastLike",
    "Constant",
    "ConstantOfShape",
    "DequantizeLinear",
    "EyeLike",
    "If",
    "LayerNormalization",
    "Loop",
    "MatMul",
    "Multinomial",
    "NoSuch",
    "Optional",
    "OptionalGetElement",
    "QuantizeLinear",
    "Scan",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceInsert",
    "SequenceMap",
    "Shape",
    "Split",
    "SplitToSequence",
    "TopK",
    "Where",
    "ZipMap",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_is_inferred(
        opset in 1i64..=26,
        picks in prop::collection::vec((0..OPS.len(), prop::collection::vec(any::<u8>(), 0..5), 0usize..4, -3i64..30), 1..25),
    ) {
        let mut known: Vec<String> = ["h", "f", "i", "b", "q", ""].map(str::to_owned).to_vec();
        let mut nodes = Vec::new();
        for (n, (op, reads, outputs, number)) in picks.iter().enumerate() {
            let inputs: Vec<&str> = reads.iter().map(|r| known[usize::from(*r) % known.len()].as_str()).collect();
            let outputs: Vec<String> = (0..*outputs).map(|k| format!("v{n}_{k}")).collect();
            let mut made = node("", OPS[*op], &inputs, &outputs.iter().map(String::as_str).collect::<Vec<_>>());
            if number % 2 == 0 {
                for name in ["to", "dtype", "num_scan_inputs", "output_dtype", "stash_type"] {
                    made = made.int(name, *number);
                }
                let read = known[usize::from(reads.first().copied().unwrap_or(0)) % known.len()].clone();
                let graph = unnamed_graph(&[&format!("x{n}")], &[&format!("y{n}"), &read], vec![
                    node("", "Add", &[&format!("x{n}"), &read], &[&format!("y{n}")]),
                ]);
                made = made.graph("body", graph);
            }
            if number % 5 == 0 {
                made = in_domain("com.microsoft", made);
            }
            nodes.push(made);
            known.extend(outputs);
        }
        nodes.push(node("", "Identity", &["f"], &["end"]));
        let mut proto = of_nodes(opset, nodes);
        proto.graph.as_mut().unwrap().output = vec![value("end", F32, &["n".into()])];
        if let Ok(model) = read_canonical(proto.encode_to_vec().into(), None) {
            let types = element_types(&model);
            let _ = type_errors(&model, &types);
            prop_assert_eq!(types.element(types.graph(), "end"), Some(F32));
            // Values of Loops and Scans may be of one type before a round and of another one after it.
            prop_assert!(unfit(&model, &types).iter().all(|found| found.code == "subgraph-types"));
        }
    }
}
