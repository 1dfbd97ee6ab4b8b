//! Any graph and any rules.

use proptest::prelude::*;

use super::*;
use crate::manifest::IoType;
use crate::onnx::testing;

/// What a generated node does, with the values that it reads, counted from the last one back.
type Step = (usize, usize, usize);

fn generated(steps: &[Step]) -> ModelProto {
    let mut values = vec!["x".to_owned()];
    let mut nodes = Vec::new();
    for (i, (kind, a, b)) in steps.iter().enumerate() {
        let of = |back: usize| values[values.len() - 1 - back % values.len()].clone();
        let (a, b, out, name) = (of(*a), of(*b), format!("v{i}"), format!("n{i}"));
        let unary = ["Relu", "Sigmoid", "Tanh", "Softmax", "Exp", "Neg", "Identity", "Transpose", "Sqrt"];
        match kind % 20 {
            17 => {
                let branch = |op: &str, tag: &str| GraphProto {
                    output: vec![value(&format!("{out}{tag}"), DataType::Float, &["p".into(), "q".into()])],
                    node: vec![node(&format!("{name}{tag}"), op, &[&a, &b], &[&format!("{out}{tag}")])],
                    initializer: vec![weight(&format!("{out}w"), &[4, 4])],
                    name: Some("branch".into()),
                    ..GraphProto::default()
                };
                let chosen = node(&name, "If", &["flag"], &[&out]).graph("then_branch", branch("Add", "t"));
                nodes.push(chosen.graph("else_branch", branch("Mul", "e")));
            }
            18 => {
                let of = |name: &str| value(name, DataType::Float, &["p".into(), "q".into()]);
                let (state, made, next, yes) =
                    (format!("{out}s"), format!("{out}m"), format!("{out}n"), format!("{out}c"));
                let body = GraphProto {
                    name: Some("body".into()),
                    input: vec![
                        value(&format!("{out}i"), DataType::Int64, &[]),
                        value(&yes, DataType::Bool, &[]),
                        of(&state),
                    ],
                    output: vec![value(&format!("{yes}o"), DataType::Bool, &[]), of(&next)],
                    node: vec![
                        node("", "Identity", &[&yes], &[&format!("{yes}o")]),
                        node(&format!("{name}m"), "MatMul", &[&state, "w"], &[&made]),
                        node(&format!("{name}a"), "Add", &[&made, &b], &[&next]),
                    ],
                    ..GraphProto::default()
                };
                nodes.push(node(&name, "Loop", &["rounds", "flag", &a], &[&out]).graph("body", body));
            }
            19 => {
                let int = format!("{out}q");
                nodes.push(node(&format!("{name}q"), "QuantizeLinear", &[&a, "k", "zero"], &[&int]));
                nodes.push(node(&name, "DequantizeLinear", &[&int, "k", "zero"], &[&out]));
            }
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
    let zero = testing::raw("zero", DataType::Int8, &[], vec![0]);
    let constants = vec![weight("w", &[4, 4]), floats("k", &[], &[2.0]), ints("rounds", &[], &[2]), zero];
    let mut model = graph(nodes, constants);
    model.graph.as_mut().unwrap().input.push(value("flag", DataType::Bool, &[]));
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

/// Found by the property below.
#[test]
fn casts_that_outputs_are_called_by_stand_where_they_did() {
    let mut steps = vec![(0, 0, 0); 12];
    steps[4] = (13, 4, 1);
    steps[5] = (12, 2, 0);
    steps[6] = (0, 1, 0);
    let mut spec = asked(Bf16, &[]);
    spec.io.extend(["x", "y"].map(|name| (name.to_owned(), IoType::Fp16)));
    let typed = |model: &Model| {
        let out = tempfile::tempdir().unwrap();
        onnx::write_canonical(prepare(model, &spec).unwrap().model.unwrap(), out.path()).unwrap();
        read(out.path())
    };
    let once = typed(&canonical(&generated(&steps)));
    assert_eq!(shown(&once), shown(&typed(&once)));
}

proptest! {

    /// `prepare` itself checks that every node has its type, that nothing is lost and no Casts stand back to back.
    #[test]
    fn any_graph_and_rules_are_typed_well(
        steps in prop::collection::vec((0usize..20, 0usize..6, 0usize..6), 1..24),
        base in any_type(),
        io in prop::option::of(prop_oneof![Just(IoType::Fp16), Just(IoType::Fp32)]),
        rules in prop::collection::vec((prop::collection::btree_set(0usize..24, 1..6), any_type(), any::<bool>()), 0..4),
    ) {
        let model = canonical(&generated(&steps));
        let sums: Vec<bool> = rules.iter().map(|(_, _, sums)| *sums).collect();
        let rules: Vec<(Selector, FloatType)> = rules
            .into_iter()
            .map(|(ids, of, _)| {
                // Those inside subgraphs too.
                let names = ids.iter().flat_map(|id| [format!("n{id}"), format!("n{id}[a-z]")]).collect();
                (Selector { node: names, ..Selector::default() }, of)
            })
            .collect();
        let mut spec = asked(base, &rules);
        for (rule, sums) in spec.rules.iter_mut().zip(sums) {
            rule.optional = true;
            rule.accumulate = sums && rule.precision != Fp32;
        }
        spec.io.extend(io.map(|of| ("x".to_owned(), of)));
        spec.io.extend(io.map(|of| ("y".to_owned(), of)));
        let first = prepare(&model, &spec).unwrap();
        prop_assert!(first.problems.iter().all(|p| p.code != "precision-internal"), "{:#?}", first.problems);
        let Some(typed) = first.model else {
            let known = |p: &Problem| p.code == "accumulate-no-product";
            prop_assert!(first.problems.iter().any(known), "{:#?}", first.problems);
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

    /// What means nothing changes no byte of the canonical form.
    #[test]
    fn canonical_bytes_do_not_see_what_means_nothing(
        steps in prop::collection::vec((0usize..20, 0usize..6, 0usize..6), 1..16),
        edits in prop::collection::btree_set(0usize..12, 1..12),
    ) {
        let model = generated(&steps);
        let before = canonical_bytes(&model).unwrap();
        let mut edited = model.clone();
        edits.iter().for_each(|edit| meaningless(&mut edited, *edit));
        prop_assert_eq!(before, canonical_bytes(&edited).unwrap(), "{:?}", edits);
    }

    /// Every other edit of a single field changes it.
    #[test]
    fn canonical_bytes_see_every_edit(
        steps in prop::collection::vec((0usize..20, 0usize..6, 0usize..6), 1..16),
        edit in 0usize..13,
        place in any::<prop::sample::Index>(),
    ) {
        // What is canonical has nothing left that could be meaningless.
        let model = canonical(&generated(&steps)).proto().clone();
        let before = canonical_bytes(&model).unwrap();
        let mut edited = model.clone();
        if meaningful(&mut edited, edit, place) {
            let after = canonical_bytes(&edited);
            prop_assert!(after.is_none_or(|after| after != before), "edit {}", edit);
        }
    }
}

/// The bytes of the canonical form; none if the model is not valid.
fn canonical_bytes(model: &ModelProto) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = source.path().join("m.onnx");
    save(model, &path).unwrap();
    onnx::canonicalize(&path, out.path()).ok()?;
    Some(bytes(out.path()))
}

fn meaningless(model: &mut ModelProto, edit: usize) {
    let text = || Some("words".to_owned());
    let entry = onnx::proto::StringStringEntryProto { key: text(), value: text() };
    let graph = model.graph.as_mut().unwrap();
    match edit {
        0 => (model.doc_string, model.producer_name, model.producer_version) = (text(), text(), text()),
        1 => (graph.doc_string, graph.name) = (text(), text()),
        2 => graph.node.iter_mut().for_each(|node| node.doc_string = text()),
        3 => model.metadata_props.push(entry),
        4 => graph.node[0].metadata_props.push(entry),
        5 => graph.value_info.push(value("v0", DataType::Float, &[3.into(), "z".into()])),
        6 => graph.initializer.reverse(),
        7 => graph.node.iter_mut().for_each(|node| node.attribute.reverse()),
        8 => graph.initializer.push(weight("unused", &[3])),
        9 => graph.node.push(node("dead", "Relu", &["x"], &["nobody"])),
        10 => graph.input.push(value("w", DataType::Float, &[4.into(), 4.into()])),
        _ => {
            let w = graph.initializer.iter_mut().find(|t| t.name() == "w").unwrap();
            if let Some(raw) = w.raw_data.take() {
                let floats = raw.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                w.float_data = floats.collect();
            }
            w.doc_string = text();
        }
    }
}

/// Changes one field. False if there is none of its kind.
fn meaningful(model: &mut ModelProto, edit: usize, place: prop::sample::Index) -> bool {
    let graph = model.graph.as_mut().unwrap();
    let at = place.index(graph.node.len());
    let node = &mut graph.node[at];
    match edit {
        0 => node.name = Some(format!("{} renamed", node.name())),
        1 => node.op_type = Some("Atanh".to_owned()),
        2 if node.input.len() > 1 && node.input[0] != node.input[1] => node.input.swap(0, 1),
        3 => node.domain = Some("elsewhere".to_owned()),
        4 => node.attribute.push(onnx::proto::AttributeProto {
            name: Some("more".to_owned()),
            r#type: Some(onnx::proto::attribute_proto::AttributeType::Int as i32),
            i: Some(3),
            ..onnx::proto::AttributeProto::default()
        }),
        5 => model.opset_import[0].version = Some(18),
        6 => model.ir_version = Some(model.ir_version() + 1),
        7 if !graph.initializer.is_empty() => {
            let count = graph.initializer.len();
            let tensor = &mut graph.initializer[place.index(count)];
            let mut raw = tensor.raw_data.clone().unwrap_or_default().to_vec();
            let Some(last) = raw.first_mut() else { return false };
            *last ^= 1;
            tensor.raw_data = Some(raw.into());
        }
        8 => match graph.initializer.iter_mut().find(|t| t.dims == [4, 4]) {
            Some(tensor) => tensor.dims = vec![2, 8],
            None => return false,
        },
        9 => graph.input[0] = value("x", DataType::Float, &[3.into(), 4.into()]),
        10 => graph.output[0] = value("y", DataType::Float, &["other".into(), "b".into()]),
        11 if graph.output.len() > 1 => graph.output.swap(0, 1),
        12 => {
            let Some(attribute) = node.attribute.iter_mut().find(|a| a.i.is_some()) else { return false };
            attribute.i = Some(attribute.i() + 9);
        }
        _ => return false,
    }
    true
}
