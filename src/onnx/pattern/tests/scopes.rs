//! Subgraphs and functions; many nodes; names.

use super::super::super::proto::FunctionProto;
use super::*;

const NORM: &str = "m = ReduceMean(x) axes=[-1]
    d = Sub(x, m)
    p = Pow(d, 2.0)
    s = ReduceMean(p) axes=[-1]
    e = Add(s, 1e-5)
    r = Sqrt(e)
    n = Div(d, r)
    w = Mul(n, scale8)
    o = Add(w, bias8)";

#[test]
fn a_branch_may_read_the_input_and_weights_around_it() {
    let mut outer = graph_of("z = Identity(x)");
    let inner = graph_of(NORM);
    outer.initializer.extend(inner.initializer.iter().filter(|t| t.name().starts_with("const")).cloned());
    let branch = GraphProto { node: inner.node, output: inner.output, ..GraphProto::default() };
    outer.input.push(value("flag", DataType::Bool, &[]));
    let mut other = branch.clone();
    other.node.iter_mut().for_each(|node| node.name = None);
    outer.node.push(
        node("/if", "If", &["flag"], &["picked"]).graph("then_branch", branch).graph("else_branch", other),
    );
    let model = read(&model(17, outer));
    let found = find(&model);
    assert_eq!(
        found.iter().map(|m| (m.kind, m.scope())).collect::<Vec<_>>(),
        [(Kind::LayerNorm, 1), (Kind::LayerNorm, 2)]
    );
    assert_eq!((found[0].scale.as_deref(), found[0].axes.as_slice()), (Some("scale8"), &[-1][..]));
    assert_eq!(found[1].instance, "node_of_o");
}

#[test]
fn a_function_is_matched_once_with_its_arguments_as_parameters() {
    let body = graph_of(&NORM.replace("scale8", "gamma").replace("bias8", "beta"));
    let mut nodes: Vec<NodeProto> = Vec::new();
    for tensor in body.initializer.iter().filter(|t| t.name().starts_with("const")) {
        nodes.push(node("", "Constant", &[], &[tensor.name()]).tensor("value", tensor.clone()));
    }
    nodes.extend(body.node);
    let function = FunctionProto {
        name: Some("Norm".to_owned()),
        domain: Some("mine".to_owned()),
        input: ["x", "gamma", "beta"].map(str::to_owned).to_vec(),
        output: vec!["o".to_owned()],
        node: nodes,
        opset_import: model(17, GraphProto::default()).opset_import,
        ..FunctionProto::default()
    };
    let mut call = graph_of("a = Norm(x, scale8, bias8)\nb = Norm(a, scale8, bias8)");
    call.node.iter_mut().for_each(|node| node.domain = Some("mine".to_owned()));
    let mut whole = model(17, call);
    whole.opset_import.push(super::super::super::proto::OperatorSetIdProto {
        domain: Some("mine".to_owned()),
        version: Some(1),
    });
    whole.functions.push(function);
    let found = find(&read(&whole));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].scale.as_deref(), found[0].bias.as_deref()), (Some("gamma"), Some("beta")));
    assert_eq!(found[0].scope(), 1);
}

/// Constants that are nodes, in all the ways to write one.
#[test]
fn constants_may_be_nodes() {
    let mut graph = graph_of(NORM);
    let constants = std::mem::take(&mut graph.initializer);
    let mut nodes = Vec::new();
    for tensor in constants {
        let made = node("", "Constant", &[], &[tensor.name()]);
        let scalar = tensor.dims.is_empty().then(|| tensor.raw_data.as_deref().unwrap().try_into().unwrap());
        nodes.push(match scalar.map(f32::from_le_bytes) {
            Some(number) => made.float("value_float", number),
            None => made.tensor("value", tensor),
        });
    }
    nodes.append(&mut graph.node);
    graph.node = nodes;
    let found = find(&read(&model(17, graph)));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].nodes.len(), found[0].scale.as_deref()), (9, Some("scale8")));
}

#[test]
fn instances_are_named_by_what_their_nodes_share() {
    let mut graph = graph_of(NORM);
    for node in &mut graph.node {
        node.name = Some(format!("/encoder/layer.0/norm/{}", node.op_type()));
    }
    assert_eq!(find(&read(&model(17, graph)))[0].instance, "/encoder/layer.0/norm");
}

/// A chain of norms, GELUs and plain operators.
fn large(count: usize) -> ModelProto {
    let mut text = String::new();
    let mut x = "x".to_owned();
    for i in 0..count / 20 {
        let norm: String = NORM
            .lines()
            .map(|line| {
                let (made, rest) = line.trim().split_once(" = ").unwrap();
                let mut rest = rest.replace('(', "( ").replace(')', " )");
                for name in ["x", "m", "d", "p", "s", "e", "r", "n", "w"] {
                    let to = if name == "x" { x.clone() } else { format!("{name}{i}") };
                    rest = rest
                        .replace(&format!(" {name},"), &format!(" {to},"))
                        .replace(&format!(" {name} )"), &format!(" {to} )"));
                }
                format!("{made}{i} = {rest}\n")
            })
            .collect();
        text.push_str(&norm);
        text.push_str(&format!(
            "h{i} = MatMul(o{i}, weight8x8)\nj{i} = Div(h{i}, 1.4142135)\nf{i} = Erf(j{i})\na{i} = Add(f{i}, 1.0)\n\
             g{i} = Mul(h{i}, a{i})\nl{i} = Mul(g{i}, 0.5)\nc{i} = Cast(l{i}) to=1\nu{i} = Identity(c{i})\n\
             z{i} = Relu(u{i})\nk{i} = Add(z{i}, {x})\ny{i} = Sigmoid(k{i})\n"
        ));
        x = format!("y{i}");
    }
    model_of(&text, 17)
}

#[test]
fn ten_thousand_nodes_take_no_time() {
    let model = read(&large(10_000));
    assert_eq!(model.graph().node.len(), 10_000);
    let start = std::time::Instant::now();
    let found = find(&model);
    let took = start.elapsed();
    assert_eq!(found.iter().filter(|m| m.kind == Kind::LayerNorm).count(), 500);
    assert_eq!(found.iter().filter(|m| m.kind == Kind::Gelu).count(), 500);
    // Optimized it is a tenth of that; a quadratic search would take minutes.
    assert!(took.as_secs() < 5, "{took:?}");
}
