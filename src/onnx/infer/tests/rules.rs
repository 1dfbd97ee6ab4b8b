//! What operators make of their inputs and attributes.

use super::super::super::proto::{AttributeProto, TypeProto, attribute_proto::AttributeType, type_proto};
use super::super::super::testing::{WithAttribute, ints, node, raw};
use super::{F16, in_domain, made, named, of_nodes, types_of};

#[test]
fn outputs_have_the_type_of_the_inputs_with_the_same_parameter() {
    assert_eq!(made(17, node("", "Relu", &["h"], &["y"])), ["float16"]);
    assert_eq!(made(17, node("", "Where", &["b", "i", "i"], &["y"])), ["int64"]);
    assert_eq!(made(17, node("", "Pow", &["h", "f"], &["y"])), ["float16"]);
    assert_eq!(made(18, node("", "Split", &["h", ""], &["x", "y", "z"])), ["float16"; 3]);
    assert_eq!(made(17, node("", "TopK", &["h", "i"], &["v", "k"])), ["float16", "int64"]);
    assert_eq!(made(13, node("", "Dropout", &["h"], &["y", "mask"])), ["float16", "bool"]);
    assert_eq!(made(6, node("", "Dropout", &["h"], &["y", "mask"])), ["float16", "float16"]);
    assert_eq!(made(23, node("", "RMSNormalization", &["h", "f"], &["y"])), ["float"]);
    assert_eq!(made(23, node("", "Attention", &["h", "h", "f"], &["y"])), ["float16"]);
}

#[test]
fn outputs_of_one_type_have_it_whatever_goes_in() {
    for op in ["Shape", "Size", "NonZero", "ArgMax"] {
        assert_eq!(made(13, node("", op, &["h"], &["y"])), ["int64"], "{op}");
    }
    for op in ["Equal", "Less", "GreaterOrEqual"] {
        assert_eq!(made(16, node("", op, &["h", "h"], &["y"])), ["bool"], "{op}");
    }
    assert_eq!(made(11, node("", "MatMulInteger", &["q", "q"], &["y"])), ["int32"]);
    assert_eq!(
        made(11, node("", "DynamicQuantizeLinear", &["f"], &["y", "s", "z"])),
        ["uint8", "float", "uint8"]
    );
}

#[test]
fn attributes_decide_where_they_must() {
    let cast = |to| node("", "Cast", &["f"], &["y"]).int("to", to);
    assert_eq!(made(13, cast(10)), ["float16"]);
    assert_eq!(made(13, cast(16)), ["bfloat16"]);
    assert_eq!(
        (made(13, cast(0)), made(13, cast(99)), made(13, cast(i64::from(i32::MAX)))),
        (vec!["unknown".to_owned()], vec!["unknown".to_owned()], vec!["unknown".to_owned()])
    );
    let word = AttributeProto { s: Some("FLOAT16".into()), ..named("to", AttributeType::String) };
    assert_eq!(made(1, node("", "Cast", &["f"], &["y"]).with(word)), ["float16"]);
    assert_eq!(made(15, node("", "CastLike", &["f", "h"], &["y"])), ["float16"]);

    assert_eq!(
        made(13, node("", "Constant", &[], &["y"]).tensor("value", raw("", F16, &[1], vec![0; 2]))),
        ["float16"]
    );
    assert_eq!(made(13, node("", "Constant", &[], &["y"]).ints("value_ints", &[1])), ["int64"]);
    assert_eq!(made(13, node("", "Constant", &[], &["y"]).float("value_float", 1.0)), ["float"]);
    assert_eq!(made(13, node("", "ConstantOfShape", &["i"], &["y"])), ["float"]);
    assert_eq!(
        made(13, node("", "ConstantOfShape", &["i"], &["y"]).tensor("value", ints("", &[1], &[1]))),
        ["int64"]
    );

    assert_eq!(made(13, node("", "RandomNormal", &[], &["y"]).int("dtype", 10)), ["float16"]);
    assert_eq!(made(13, node("", "RandomUniform", &[], &["y"])), ["float"]);
    for op in ["EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"] {
        assert_eq!(made(15, node("", op, &["h"], &["y"])), ["float16"], "{op}");
        assert_eq!(made(15, node("", op, &["h"], &["y"]).int("dtype", 1)), ["float"], "{op}");
    }
    assert_eq!(made(15, node("", "Multinomial", &["h"], &["y"])), ["int32"]);
    assert_eq!(made(15, node("", "Multinomial", &["h"], &["y"]).int("dtype", 7)), ["int64"]);
    assert_eq!(made(17, node("", "HannWindow", &["i"], &["y"]).int("output_datatype", 11)), ["double"]);
    let norm = node("", "LayerNormalization", &["h", "h"], &["y", "mean", "d"]);
    assert_eq!(made(17, norm.clone()), ["float16", "float", "float"]);
    assert_eq!(made(17, norm.int("stash_type", 16)), ["float16", "bfloat16", "bfloat16"]);
}

#[test]
fn quantization_goes_by_zero_point_and_scale() {
    let quantize = |inputs: &[&str]| node("", "QuantizeLinear", inputs, &["y"]);
    assert_eq!(made(13, quantize(&["f", "f"])), ["uint8"]);
    assert_eq!(made(13, quantize(&["f", "f", "q"])), ["int8"]);
    assert_eq!(made(21, quantize(&["f", "f"]).int("output_dtype", 3)), ["int8"]);
    assert_eq!(made(21, quantize(&["f", "f"]).int("output_dtype", 17)), ["float8e4m3fn"]);
    let opaque = in_domain("ours", node("", "Opaque", &["f"], &["zero"]));
    let types = types_of(&of_nodes(13, vec![opaque, quantize(&["f", "f", "zero"])]), &["y"]);
    assert_eq!(types, ["unknown"]);

    let dequantize = node("", "DequantizeLinear", &["q", "h"], &["y"]);
    assert_eq!(made(13, dequantize.clone()), ["float"]);
    assert_eq!(made(19, dequantize.clone()), ["float16"]);
    assert_eq!(made(23, dequantize.clone()), ["float16"]);
    assert_eq!(made(23, dequantize.int("output_dtype", 1)), ["float"]);
}

#[test]
fn sequences_and_optionals_keep_what_they_hold() {
    let nodes = vec![
        node("", "SequenceConstruct", &["h", "h"], &["seq"]),
        node("", "SequenceAt", &["seq", "i"], &["item"]),
        node("", "ConcatFromSequence", &["seq"], &["all"]).int("axis", 0),
        node("", "SequenceLength", &["seq"], &["length"]),
        node("", "SplitToSequence", &["i"], &["parts"]),
        node("", "SequenceEmpty", &[], &["empty"]).int("dtype", 10),
        node("", "SequenceInsert", &["empty", "h"], &["more"]),
        node("", "Optional", &["seq"], &["maybe"]),
        node("", "OptionalGetElement", &["maybe"], &["there"]),
        node("", "OptionalHasElement", &["maybe"], &["has"]),
    ];
    let names = ["seq", "item", "all", "length", "parts", "more", "maybe", "there", "has"];
    let expected = [
        "sequence of float16",
        "float16",
        "float16",
        "int64",
        "sequence of int64",
        "sequence of float16",
        "optional sequence of float16",
        "sequence of float16",
        "bool",
    ];
    assert_eq!(types_of(&of_nodes(18, nodes), &names), expected);

    let tensor = type_proto::Tensor { elem_type: Some(F16 as i32), shape: None };
    let of = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    let attribute = AttributeProto { tp: Some(of), ..named("type", AttributeType::TypeProto) };
    assert_eq!(made(18, node("", "Optional", &[], &["y"]).with(attribute)), ["optional float16"]);
}

#[test]
fn operators_of_onnx_runtime_are_known() {
    let made = |node| made(17, in_domain("com.microsoft", node));
    assert_eq!(made(node("", "FusedMatMul", &["h", "h"], &["y"])), ["float16"]);
    assert_eq!(made(node("", "FastGelu", &["h"], &["y"])), ["float16"]);
    assert_eq!(
        made(node("", "SkipLayerNormalization", &["h", "h", "h"], &["y", "m", "v", "s"])),
        ["float16", "float", "float", "float16"]
    );
    assert_eq!(made(node("", "MultiHeadAttention", &["h", "h", "h"], &["y", "k", "v"])), ["float16"; 3]);
    assert_eq!(
        made(node("", "EmbedLayerNormalization", &["i", "", "h", "h", "", "h", "h"], &["y"])),
        ["float16"]
    );
    assert_eq!(made(node("", "RotaryEmbedding", &["h", "i", "h", "h"], &["y"])), ["float16"]);
    assert_eq!(made(node("", "QuantizeLinear", &["f", "f"], &["y"])), ["uint8"]);
    assert_eq!(made(node("", "QLinearAdd", &["q", "f", "q", "q", "f", "q", "f", "q"], &["y"])), ["int8"]);
    assert_eq!(made(node("", "QGemm", &["q", "f", "q", "q", "f", "q"], &["y"])), ["float"]);
    let plain = node("", "SimplifiedLayerNormalization", &["h", "h"], &["y"]);
    assert_eq!(super::made(17, plain), ["float16"]);
}

#[test]
fn classic_operators_go_by_their_labels() {
    let made = |node| made(17, in_domain("ai.onnx.ml", node));
    let strings =
        AttributeProto { strings: vec!["a".into()], ..named("classlabels_strings", AttributeType::Strings) };
    let classify = node("", "LinearClassifier", &["f"], &["y", "z"]);
    assert_eq!(made(classify.clone()), ["int64", "float"]);
    assert_eq!(made(classify.with(strings.clone())), ["string", "float"]);
    assert_eq!(
        made(node("", "ZipMap", &["f"], &["y"]).with(strings)),
        ["sequence of map from string to float"]
    );
}
