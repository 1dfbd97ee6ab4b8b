//! Any graph and any rules.

use proptest::prelude::*;

use super::*;

/// What a generated node does, with the values that it reads, counted from the last one back.
type Step = (usize, usize, usize);

fn generated(steps: &[Step]) -> ModelProto {
    let mut values = vec!["x".to_owned()];
    let mut nodes = Vec::new();
    for (i, (kind, a, b)) in steps.iter().enumerate() {
        let of = |back: usize| values[values.len() - 1 - back % values.len()].clone();
        let (a, b, out, name) = (of(*a), of(*b), format!("v{i}"), format!("n{i}"));
        let unary = ["Relu", "Sigmoid", "Tanh", "Softmax", "Exp", "Neg", "Identity", "Transpose", "Sqrt"];
        match kind % 17 {
            k @ 0..=8 => nodes.push(node(&name, unary[k], &[&a], &[&out])),
            9 => nodes.push(node(&name, "Add", &[&a, &b], &[&out])),
            10 => nodes.push(node(&name, "Mul", &[&a, "k"], &[&out])),
            11 => nodes.push(node(&name, "MatMul", &[&a, "w"], &[&out])),
            12 => nodes.push(node(&name, "Cast", &[&a], &[&out]).int("to", 1)),
            13 => {
                nodes.push(node(&format!("{name}c"), "Greater", &[&a, &b], &[&format!("{out}c")]));
                nodes.push(node(&name, "Where", &[&format!("{out}c"), &a, &b], &[&out]));
            }
            14 => {
                nodes.push(node(&format!("{name}h"), "Cast", &[&a], &[&format!("{out}h")]).int("to", 10));
                nodes.push(node(&name, "Cast", &[&format!("{out}h")], &[&out]).int("to", 1));
            }
            15 => {
                let constant = floats("", &[1], &[0.5]);
                nodes.push(
                    node(&format!("{name}k"), "Constant", &[], &[&format!("{out}k")])
                        .tensor("value", constant),
                );
                nodes.push(node(&name, "Sub", &[&a, &format!("{out}k")], &[&out]));
            }
            _ => {
                nodes.push(node(&format!("{name}s"), "Shape", &[&a], &[&format!("{out}s")]));
                nodes.push(node(&name, "Reshape", &[&b, &format!("{out}s")], &[&out]));
            }
        }
        values.push(out);
    }
    let last = values.pop().unwrap();
    nodes.push(node("last", "Identity", &[&last], &["y"]));
    let mut model = graph(nodes, vec![weight("w", &[4, 4]), floats("k", &[], &[2.0])]);
    // Some value in the middle is an output too.
    let middle = values[values.len() / 2].clone();
    if middle != "x" {
        let output = value(&middle, DataType::Float, &["p".into(), "q".into()]);
        model.graph.as_mut().unwrap().output.push(output);
    }
    model
}

fn any_type() -> impl Strategy<Value = FloatType> {
    prop_oneof![Just(Fp32), Just(Fp16), Just(Bf16)]
}

proptest! {

    /// `prepare` itself checks that every node has its type, that nothing is lost and no Casts stand back to back.
    #[test]
    fn any_graph_and_rules_are_typed_well(
        steps in prop::collection::vec((0usize..17, 0usize..6, 0usize..6), 1..24),
        base in any_type(),
        rules in prop::collection::vec((prop::collection::btree_set(0usize..24, 1..6), any_type()), 0..4),
    ) {
        let model = canonical(&generated(&steps));
        let rules: Vec<(Selector, FloatType)> = rules
            .into_iter()
            .map(|(ids, of)| {
                let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
                (Selector { node: names, ..Selector::default() }, of)
            })
            .collect();
        let mut spec = asked(base, &rules);
        spec.rules.iter_mut().for_each(|rule| rule.optional = true);
        let first = prepare(&model, &spec).unwrap();
        prop_assert!(first.problems.iter().all(|p| p.code != "precision-internal"), "{:#?}", first.problems);
        let Some(typed) = first.model else {
            prop_assert!(codes(&first.problems).contains(&"fp32-gemm-demoted"), "{:#?}", first.problems);
            return Ok(());
        };
        let out = tempfile::tempdir().unwrap();
        onnx::write_canonical(typed, out.path()).unwrap();
        let written = bytes(out.path());
        // It reads back as it is: sorted, every name unique, every value defined.
        let back = read(out.path());
        let again = tempfile::tempdir().unwrap();
        onnx::write_canonical(back.clone(), again.path()).unwrap();
        prop_assert_eq!(&written, &bytes(again.path()));
        // The same once more.
        let same = tempfile::tempdir().unwrap();
        onnx::write_canonical(prepare(&model, &spec).unwrap().model.unwrap(), same.path()).unwrap();
        prop_assert_eq!(&written, &bytes(same.path()));
        // Of what is typed, the typed form is itself.
        let twice = prepare(&back, &spec).unwrap();
        let folder = tempfile::tempdir().unwrap();
        onnx::write_canonical(twice.model.unwrap(), folder.path()).unwrap();
        let twice = read(folder.path());
        prop_assert_eq!(shown(&back), shown(&twice));
        prop_assert_eq!(back.graph(), twice.graph());
    }
}
