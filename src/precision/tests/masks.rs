//! Masks, and constants that are lost in 16 bits, in the many ways that exporters write them.

use super::*;
use crate::onnx::testing;

/// The nodes of these that are FP32, and all codes.
fn wide<'n>(model: &ModelProto, names: &[&'n str], spec: &Spec) -> (Vec<&'n str>, Vec<String>) {
    let prepared = prepare(&canonical(model), spec).unwrap();
    let is_wide = |name: &&str| {
        prepared.assignment.nodes.iter().any(|node| node.name == **name && node.of == Some(Fp32))
    };
    let wide = names.iter().copied().filter(|name| is_wide(name)).collect();
    (wide, prepared.problems.into_iter().map(|problem| problem.code).collect())
}

/// `Softmax(x + m)`, with these nodes to make `m`.
fn masked(made: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let end =
        [node("add", "Add", &["x", "m"], &["a"]), node("softmax", "Softmax", &["a"], &["y"]).int("axis", -1)];
    graph(made.into_iter().chain(end).collect(), initializer)
}

#[test]
fn a_mask_goes_through_everything_that_moves_or_adds_it() {
    let low = || floats("low", &[2, 4], &[-1e9; 8]);
    let one = |op: &str, more: &[&str]| {
        let inputs: Vec<&str> = ["low"].into_iter().chain(more.iter().copied()).collect();
        node("made", op, &inputs, &["m"])
    };
    let (index, update) = (ints("index", &[1, 2], &[0, 0]), floats("update", &[1], &[0.0]));
    let ways = [
        (one("Trilu", &[]), vec![]),
        (one("ScatterND", &["index", "update"]), vec![index, update]),
        (one("Dropout", &[]), vec![]),
        (one("Flatten", &[]), vec![]),
        (one("Min", &["update"]), vec![floats("update", &[], &[0.0])]),
        (one("Mul", &["x"]), vec![]),
        (one("Pad", &["pads"]), vec![ints("pads", &[4], &[0, 0, 0, 0])]),
        (one("GatherElements", &["places"]), vec![ints("places", &[2, 4], &[0; 8])]),
    ];
    for (way, more) in ways {
        let op = way.op_type().to_owned();
        let model = masked(vec![way], more.into_iter().chain([low()]).collect());
        let found = wide(&model, &["made", "add", "softmax"], &asked(Fp16, &[]));
        assert_eq!(found, (vec!["made", "add", "softmax"], vec![]), "{op}");
    }
}

#[test]
fn a_mask_can_be_a_large_number_that_is_subtracted() {
    // XLNet: `scores - 1e30 * mask`.
    let nodes = vec![
        node("large", "Mul", &["x", "k"], &["l"]),
        node("sub", "Sub", &["x", "l"], &["s"]),
        node("softmax", "Softmax", &["s"], &["y"]),
    ];
    let all = ["large", "sub", "softmax"];
    let model = graph(nodes, vec![floats("k", &[], &[1e30])]);
    assert_eq!(wide(&model, &all, &asked(Fp16, &[])), (all.to_vec(), vec![]));
    // No Softmax reads it: then it is a weight that does not fit.
    let nodes = vec![node("large", "Mul", &["x", "k"], &["y"])];
    let model = graph(nodes, vec![floats("k", &[], &[1e30])]);
    assert_eq!(wide(&model, &["large"], &asked(Fp16, &[])), (vec![], vec!["weight-overflow-fp16".into()]));
}

#[test]
fn a_mask_of_another_type_behind_a_cast_is_one_too() {
    for low in [
        testing::raw("low", DataType::Double, &[], (-1e9f64).to_le_bytes().to_vec()),
        ints("low", &[], &[-1_000_000_000]),
    ] {
        let made = vec![
            node("cast", "Cast", &["low"], &["l"]).int("to", 1),
            node("keep", "Mul", &["x", "l"], &["m"]),
        ];
        let found = wide(&masked(made, vec![low]), &["keep", "add", "softmax"], &asked(Fp16, &[]));
        assert_eq!(found, (vec!["keep", "add", "softmax"], vec![]));
    }
    let epsilon = testing::raw("e", DataType::Double, &[], 1e-12f64.to_le_bytes().to_vec());
    let nodes = vec![
        node("cast", "CastLike", &["e", "x"], &["f"]),
        node("guard", "Add", &["x", "f"], &["g"]),
        node("divide", "Reciprocal", &["g"], &["y"]),
    ];
    let model = graph(nodes, vec![epsilon]);
    let found = wide(&model, &["guard"], &asked(Fp16, &[]));
    assert_eq!(found, (vec![], vec!["epsilon-underflow-fp16".to_owned()]));
}

#[test]
fn a_constant_is_a_mask_only_if_all_that_read_it_say_so() {
    for names in [["mask", "divide"], ["divide", "mask"]] {
        let op = |name: &str| if name == "mask" { "Add" } else { "Div" };
        let nodes = vec![
            node(names[0], op(names[0]), &["x", "k"], &["a"]),
            node(names[1], op(names[1]), &["a", "k"], &["y"]),
        ];
        let model = graph(nodes, vec![floats("k", &[], &[-1e9])]);
        assert_eq!(wide(&model, &[], &asked(Fp16, &[])).1, ["weight-overflow-fp16"]);
    }
}

#[test]
fn what_an_old_pad_adds_is_told() {
    let nodes = vec![
        node("front", "Tanh", &["x"], &["t"]),
        node("pad", "Pad", &["t"], &["p"]).ints("pads", &[0, 0, 0, 1]).float("value", -1e9),
        node("end", "Tanh", &["p"], &["y"]),
    ];
    let mut model = graph(nodes, vec![]);
    model.opset_import[0].version = Some(10);
    let prepared = typed(&model, &asked(Fp16, &[]));
    assert_eq!(codes(&prepared.problems), ["mask-saturated-fp16"]);
    let typed = prepared.model.unwrap();
    let pad = typed.graph().node.iter().find(|n| n.op_type() == "Pad").unwrap();
    assert_eq!(pad.attribute.iter().find(|a| a.name() == "value").unwrap().f(), -65504.0);
}

#[test]
fn what_a_set_says_of_a_mask_has_another_key_than_what_the_model_says() {
    let model = canonical(&masked(
        vec![node("made", "Identity", &["low"], &["m"])],
        vec![floats("low", &[4], &[-1e9; 4])],
    ));
    let of = |set: Option<&str>, optional: bool| {
        let mut spec = asked(Fp16, &[(ops(&["Add", "Softmax"]), Fp16)]);
        (spec.rules[0].set, spec.rules[0].optional) = (set.map(str::to_owned), optional);
        spec
    };
    let specs = [of(None, false), of(None, true), of(Some("ours"), false), of(Some("ours"), true)];
    let seen: Vec<_> =
        specs.iter().map(|spec| (spec.rule_fields(), lines(&prepare(&model, spec).unwrap()))).collect();
    for (fields, lines) in &seen {
        // Equal keys, equal graphs; and here, the other way round too.
        assert!(seen.iter().all(|(f, l)| (f != fields) || (l == lines)));
    }
    assert_ne!(seen[1], seen[2]);
}
