//! What must not matter: Casts on any edge, names, the order of operands. And random graphs do no harm.

use proptest::prelude::*;

use super::*;

const SPELLINGS: &[(Kind, &str)] = &[
    (
        Kind::LayerNorm,
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Pow(d, 2.0)\ns = ReduceMean(p) axes=[-1]
         e = Add(s, 1e-5)\nr = Sqrt(e)\nn = Div(d, r)\nw = Mul(n, scale8)\no = Add(w, bias8)",
    ),
    (
        Kind::LayerNorm,
        "t1 = ReduceSum(x, [2]) keepdims=0\nq1 = Mul(x, x)\nt2 = ReduceSum(q1, [2]) keepdims=0\nms = Mul(t2, 0.125)
         m = Mul(t1, 0.125)\nmm = Mul(m, m)\ns = Sub(ms, mm)\nc = Max(0.0, s)\nu = Unsqueeze(c, [2])\ne = Add(u, 1e-5)
         r = Sqrt(e)\ni = Reciprocal(r)\nis = Mul(i, scale8)\nmu = Unsqueeze(m, [2])\nd = Sub(x, mu)
         w = Mul(d, is)\no = Add(w, bias8)",
    ),
    (
        Kind::LayerNorm,
        "m = ReduceMean(x) axes=[-1]\nd = Sub(x, m)\np = Mul(d, d)\ns = ReduceMean(p) axes=[-1]\ne = Add(s, 1e-5)
         r = Sqrt(e)\ni = Reciprocal(r)\nis = Mul(i, scale8)\nxs = Mul(x, is)\nms = Mul(m, is)\nb = Sub(bias8, ms)
         o = Add(xs, b)",
    ),
    (
        Kind::LayerNorm,
        "m = ReduceMean(x) axes=[-1]\nneg = Neg(m)\nd = Sub(x, m)\np = Mul(d, d)\ns = ReduceMean(p) axes=[-1]\ne = Add(s, 1e-5)
         r = Sqrt(e)\ni = Reciprocal(r)\nis = Mul(i, scale8)\nxs = Mul(x, is)\nms = Mul(neg, is)\nb = Add(ms, bias8)
         o = Add(xs, b)",
    ),
    (
        Kind::RmsNorm,
        "p = Pow(x, 2.0)\ns = ReduceMean(p) axes=[-1]\ne = Add(s, 1e-5)\nr = Sqrt(e)\ni = Reciprocal(r)
         n = Mul(x, i)\no = Mul(scale8, n)",
    ),
    (
        Kind::LayerNorm,
        "m = GlobalAveragePool(x)\nneg = Neg(m)\nd = Add(x, neg)\np = Mul(d, d)\ns = GlobalAveragePool(p)\nt1 = Mul(s, 8.0)
         t2 = Div(t1, 7.0)\nr = Sqrt(t2)\ne = Add(r, 1e-5)\nn = Div(d, e)\nw = Mul(n, scale8)\no = Sum(w, bias8)",
    ),
    (
        Kind::RmsNorm,
        "l = ReduceL2(x) axes=[-1]\nr = Mul(l, 0.35355338)\ne = Add(r, 1e-5)\nn = Div(x, e)\no = Mul(scale8, n)",
    ),
    (
        Kind::L2Norm,
        "q1 = Mul(x, x)\ns = ReduceSum(q1, [-1])\nc = Max(s, 1e-12)\nr = Sqrt(c)\ni = Reciprocal(r)\no = Mul(x, i)",
    ),
    (
        Kind::Softmax,
        "m = ReduceMax(x) axes=[-1]\nd = Sub(x, m)\ne = Exp(d)\ns = ReduceSum(e, [-1])\no = Div(e, s)",
    ),
    (Kind::Gelu, "d = Div(x, 1.4142135)\nf = Erf(d)\na = Add(f, 1.0)\np = Mul(x, a)\no = Mul(p, 0.5)"),
    (
        Kind::Gelu,
        "h = Mul(x, 0.5)\nk1 = Mul(x, 0.7978846)\nc1 = Mul(x, 0.044715)\nc2 = Mul(c1, x)\na1 = Add(c2, 1.0)
         m = Mul(k1, a1)\nt1 = Tanh(m)\na = Add(t1, 1.0)\no = Mul(h, a)",
    ),
    (
        Kind::Attention,
        "qs = Mul(q, 0.5)\ns = MatMul(qs, k)\na = Add(s, mask)\np = Softmax(a)\no = MatMul(p, v)",
    ),
    (
        Kind::Attention,
        "rel = MatMul(q, weight4x4)\nqs = Mul(q, 0.5)\nz = Add(qs, 0.0)\ns = MatMul(z, k)\na = Add(rel, s)
         c = Mul(a, scale2x1x1)\np = Softmax(c)\no = MatMul(p, v)",
    ),
];

fn only(model: &ModelProto, kind: Kind) -> (Model, Match) {
    let model = read(model);
    let mut found = find_kind(&GraphView::new(model.proto()), kind);
    assert_eq!(found.len(), 1, "{kind} in {:#?}", model.graph().node);
    (model, found.remove(0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Nodes that change nothing, on any edges, become part of the match or stand outside; the rest is the same.
    #[test]
    fn casts_on_any_edge(
        which in 0..SPELLINGS.len(),
        edges in proptest::collection::vec((any::<prop::sample::Index>(), 0..4usize, any::<bool>()), 0..6),
    ) {
        let (kind, text) = SPELLINGS[which];
        let plain = model_of(text, 17);
        let (read_plain, before) = only(&plain, kind);
        let mut changed = plain.clone();
        let nodes = &mut changed.graph.as_mut().unwrap().node;
        for (i, (at, input, cast)) in edges.into_iter().enumerate() {
            let at = at.index(nodes.len());
            let input = input % nodes[at].input.len();
            let made = format!("between{i}");
            let source = std::mem::replace(&mut nodes[at].input[input], made.clone());
            // Axes and shapes are integers: a Cast to a float would break them.
            let cast = cast && !matches!(nodes[at].op_type(), "ReduceSum" | "Unsqueeze" | "Identity");
            let new = node("", if cast { "Cast" } else { "Identity" }, &[&source], &[&made]);
            nodes.insert(at, if cast { new.int("to", 1) } else { new });
        }
        let (read_changed, after) = only(&changed, kind);
        let own = |model: &Model, m: &Match| -> Vec<String> {
            let all = outputs(model.proto(), &m.nodes);
            all.into_iter().filter(|name| !name.starts_with("between")).collect()
        };
        prop_assert_eq!(own(&read_plain, &before), own(&read_changed, &after));
        prop_assert_eq!(&before.axes, &after.axes);
        prop_assert_eq!(before.epsilon, after.epsilon);
        prop_assert_eq!(&before.output, &after.output);
        prop_assert_eq!(before.scale.is_some(), after.scale.is_some());
        prop_assert_eq!(before.bias.is_some(), after.bias.is_some());
        prop_assert!(after.escapes.is_empty(), "{:?}", after.escapes);
    }

    #[test]
    fn names_and_the_order_of_operands(which in 0..SPELLINGS.len(), swaps in any::<u32>(), seed in any::<u16>()) {
        let (kind, text) = SPELLINGS[which];
        let plain = model_of(text, 17);
        let (_, before) = only(&plain, kind);
        let mut changed = plain.clone();
        let graph = changed.graph.as_mut().unwrap();
        let rename = |name: &mut String| *name = format!("v{seed}/{}", name.bytes().rev().map(char::from).collect::<String>());
        for (i, node) in graph.node.iter_mut().enumerate() {
            node.name = None;
            if matches!(node.op_type(), "Add" | "Mul" | "Max") && swaps >> (i % 32) & 1 == 1 {
                node.input.swap(0, 1);
            }
            node.input.iter_mut().chain(&mut node.output).for_each(rename);
        }
        graph.input.iter_mut().chain(&mut graph.output).filter_map(|v| v.name.as_mut()).for_each(rename);
        graph.initializer.iter_mut().filter_map(|v| v.name.as_mut()).for_each(rename);
        let (_, after) = only(&changed, kind);
        prop_assert_eq!(&before.nodes, &after.nodes);
        prop_assert_eq!(before.epsilon, after.epsilon);
        prop_assert_eq!(before.scale.is_some(), after.scale.is_some());
    }

    /// Any operators on any values: no panic, sorted and disjoint matches.
    #[test]
    fn random_graphs(nodes in proptest::collection::vec((0..OPS.len(), any::<[prop::sample::Index; 3]>(), 0..4usize), 1..40)) {
        let mut graph = graph_of("start = Identity(x)");
        graph.initializer.push(ints("last", &[1], &[-1]));
        graph.initializer.push(floats("two", &[], &[2.0]));
        graph.initializer.push(floats("half", &[], &[0.5]));
        graph.initializer.push(floats("tiny", &[], &[1e-5]));
        let mut names: Vec<String> = ["x", "y", "q", "k", "any", "scale8", "last", "two", "half", "tiny"].map(str::to_owned).to_vec();
        for (i, (op, inputs, count)) in nodes.into_iter().enumerate() {
            let inputs: Vec<&str> = inputs[..count.min(3)].iter().map(|i| inputs_at(i, &names)).collect();
            let out = format!("n{i}");
            let made = node("", OPS[op], &inputs, &[&out]).ints("axes", &[i64::try_from(i % 4).unwrap() - 1]);
            graph.node.push(if OPS[op] == "Constant" { made.ints("value_ints", &[1]) } else { made });
            names.push(out);
        }
        let model = read(&model(17, graph));
        let found = find(&model);
        for kind in Kind::ALL {
            let nodes: Vec<_> = found.iter().filter(|m| m.kind == kind).flat_map(|m| &m.nodes).collect();
            let unique: std::collections::BTreeSet<_> = nodes.iter().collect();
            prop_assert_eq!(nodes.len(), unique.len());
        }
        prop_assert!(found.is_sorted_by_key(|m| m.nodes.last().copied()));
        prop_assert_eq!(&found, &find(&model));
    }
}

const OPS: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Sqrt",
    "Reciprocal",
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceL2",
    "Exp",
    "Log",
    "Softmax",
    "MatMul",
    "Cast",
    "Identity",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Transpose",
    "Erf",
    "Tanh",
    "Where",
    "Max",
    "Clip",
    "Concat",
    "Gather",
    "Slice",
    "Shape",
    "Expand",
    "Constant",
    "Einsum",
    "LayerNormalization",
    "Attention",
    "Dropout",
    "Gemm",
    "Conv",
    "ReduceLogSumExp",
    "LpNormalization",
    "Neg",
    "Sigmoid",
    "IsNaN",
];

fn inputs_at<'n>(at: &prop::sample::Index, names: &'n [String]) -> &'n str {
    &names[at.index(names.len())]
}
