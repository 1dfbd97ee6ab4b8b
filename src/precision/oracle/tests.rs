use super::*;
use crate::onnx;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use crate::onnx::testing::{WithAttribute, branches, mlp, model, node, raw, save, value};

fn read(model: &ModelProto) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    save(model, &path).unwrap();
    onnx::read(&path).unwrap().model
}

fn half(nodes: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float16, &[2.into(), 4.into()])],
        output: vec![value("y", DataType::Float16, &["a".into(), "b".into()])],
        node: nodes,
        initializer: vec![raw(
            "w",
            DataType::Float16,
            &[4],
            half::f16::from_f32(0.5).to_le_bytes().repeat(4),
        )],
        ..GraphProto::default()
    };
    model(17, graph)
}

fn shown(oracle: &Oracle) -> Vec<String> {
    let line = |n: &NodeProto| format!("{}({}) -> {}", n.op_type(), n.input.join(", "), n.output.join(", "));
    oracle.model.graph().node.iter().map(line).collect()
}

#[test]
fn a_model_without_16_bits_stays_as_it_is() {
    for model in [mlp(), branches()] {
        let model = read(&model);
        let oracle = oracle(&model).unwrap();
        assert_eq!(oracle.model.graph(), model.graph());
        assert_eq!(oracle.rounding, []);
    }
}

#[test]
fn every_result_rounds_once_under_its_own_name() {
    let nodes = vec![node("add", "Add", &["x", "w"], &["a"]), node("relu", "Relu", &["a"], &["y"])];
    let made = oracle(&read(&half(nodes))).unwrap();
    assert_eq!(
        shown(&made),
        [
            "Cast(x) -> x/rounded/fp16",
            "Cast(x/rounded/fp16) -> x/rounded",
            "Add(x/rounded, w) -> a/unrounded",
            "Cast(a/unrounded) -> a/fp16",
            "Cast(a/fp16) -> a",
            "Relu(a) -> y",
        ]
    );
    let graph = made.model.graph();
    let element = |value: &crate::onnx::proto::ValueInfoProto| onnx::Type::declared(value.r#type.as_ref());
    assert_eq!(element(&graph.input[0]), onnx::Type::Tensor(DataType::Float));
    assert_eq!(element(&graph.output[0]), onnx::Type::Tensor(DataType::Float));
    assert_eq!(graph.initializer[0].raw_data.as_deref(), Some(0.5f32.to_le_bytes().repeat(4).as_slice()));
    let told: Vec<_> = made.rounding.iter().map(|r| (r.node.as_str(), r.class)).collect();
    assert_eq!(told, [("add", Class::Exact), ("relu", Class::Exact)]);
    // All of it is FP32 but for what lies between two Casts.
    let types = onnx::element_types(&made.model);
    assert!(onnx::type_errors(&made.model, &types).is_empty());
    let made_again = oracle(&made.model).unwrap();
    assert!(made_again.rounding.iter().all(|r| r.op == "Cast"), "{:?}", made_again.rounding);
}

#[test]
fn casts_between_float_types_round_or_do_nothing() {
    let nodes = vec![
        node("wide", "Cast", &["x"], &["a"]).int("to", 1),
        node("exp", "Exp", &["a"], &["b"]),
        node("narrow", "Cast", &["b"], &["c"]).int("to", 10),
        node("other", "Cast", &["c"], &["d"]).int("to", 16),
        node("back", "Cast", &["d"], &["y"]).int("to", 10),
    ];
    let made = oracle(&read(&half(nodes))).unwrap();
    let told: Vec<_> = made.rounding.iter().map(|r| (r.node.as_str(), r.of)).collect();
    assert_eq!(told, [("narrow", FloatType::Fp16), ("other", FloatType::Bf16), ("back", FloatType::Fp16)]);
    let types = onnx::element_types(&made.model);
    for value in ["a", "b", "c", "d", "y"] {
        assert_eq!(types.element(types.graph(), value), Some(DataType::Float), "{value}");
    }
}

#[test]
fn classes_depend_on_the_type() {
    assert_eq!(row("", "MatMul").class(FloatType::Fp16), Class::Optimistic);
    assert_eq!(row("", "MatMul").class(FloatType::Bf16), Class::Exact);
    assert_eq!(row("", "NobodyKnows").class(FloatType::Fp16), Class::Optimistic);
    assert_eq!(row("elsewhere", "Relu").class(FloatType::Fp16), Class::Optimistic);
}

#[test]
fn an_operator_has_one_row_and_is_in_the_specification() {
    let mut all: Vec<&str> = TABLE.iter().flat_map(|row| row.ops).copied().collect();
    let count = all.len();
    for op in &all {
        assert!(onnx::schema("", op, i64::MAX).is_some(), "{op}");
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn the_table_is_documented() {
    let page = include_str!("../../../docs/oracle.md");
    for row in &TABLE {
        let ops = row.ops.join(", ");
        let ops = if ops.is_empty() { "every other" } else { &ops };
        let class = |class: Class| if class == Class::Exact { "exact" } else { "optimistic" };
        let (fp16, bf16) = (class(row.fp16), class(row.bf16));
        let line = format!("| {ops} | {} | {} | {fp16} | {bf16} | {} |", row.rounds, row.inside, row.reason);
        assert!(page.contains(&line), "docs/oracle.md lacks this line:\n{line}");
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let bits = half(vec![
        node("bits", "BitCast", &["x"], &["i"]).int("to", 4),
        node("end", "Cast", &["i"], &["y"]).int("to", 10),
    ]);
    let bits =
        ModelProto { opset_import: vec![OperatorSetIdProto { domain: None, version: Some(26) }], ..bits };
    let problems = oracle(&read(&bits)).unwrap_err();
    assert_eq!(problems[0].code, "not-yet");
    assert!(problems[0].message.starts_with("node `bits` (BitCast) reads the bits"), "{problems:?}");

    let mut called = half(vec![node("call", "Twice", &["x"], &["y"])]);
    called.graph.as_mut().unwrap().node[0].domain = Some("local".to_owned());
    called.opset_import.push(OperatorSetIdProto { domain: Some("local".to_owned()), version: Some(1) });
    called.functions.push(FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node("sum", "Add", &["a", "a"], &["b"])],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        ..FunctionProto::default()
    });
    let problems = oracle(&read(&called)).unwrap_err();
    assert!(
        problems[0].message.starts_with("function `Twice` of the model computes in 16 bits"),
        "{problems:?}"
    );
}
