//! Subgraphs, functions, and what is not known.

use std::path::PathBuf;

use super::super::super::gemm_nodes;
use super::super::super::proto::{
    AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto, attribute_proto::AttributeType,
};
use super::super::super::testing::{WithAttribute, branches, floats, node};
use super::super::*;
use super::{F16, F32, I64, in_domain, made, named, of_nodes, read, types_of, unnamed_graph};

#[test]
fn what_is_not_known_is_unknown_until_an_operator_settles_it() {
    let nodes = vec![
        in_domain("ours", node("", "Plugin", &["f"], &["p"])),
        node("", "Relu", &["p"], &["r"]),
        node("", "Add", &["r", "h"], &["a"]),
        node("", "NoSuchOperator", &["h"], &["n"]),
        node("", "Gelu", &["h"], &["too_new"]),
        node("", "Cast", &["n"], &["c"]).int("to", 1),
    ];
    let proto = of_nodes(17, nodes);
    assert_eq!(
        types_of(&proto, &["p", "r", "a", "n", "too_new", "c", "nowhere", ""]),
        ["unknown", "unknown", "float16", "unknown", "unknown", "float", "unknown", "unknown"]
    );

    let model = read(&proto);
    let mut declared = Declared::default();
    declared.operators.insert(("ours".to_owned(), "Plugin".to_owned()), vec![Type::Tensor(F32)]);
    declared.values.insert("n".to_owned(), Type::Tensor(I64));
    // What is inferred is not overruled.
    declared.values.insert("c".to_owned(), Type::Tensor(I64));
    let types = element_types_with(&model, &declared);
    let get = |name| types.element(types.graph(), name);
    assert_eq!([get("p"), get("r"), get("n"), get("c")], [Some(F32), Some(F32), Some(I64), Some(F32)]);
    // And a contradiction is unknown, not one of the two.
    assert_eq!(get("a"), None);
}

#[test]
fn subgraphs_see_the_values_around_them() {
    let model = read(&branches());
    let types = element_types(&model);
    let main = types.graph();
    assert_eq!(types.element(main, "y"), Some(F32));
    let then = types.subgraph(main, 1, 0).unwrap();
    let other = types.subgraph(main, 1, 1).unwrap();
    assert_eq!((types.element(then, "added"), types.element(other, "subtracted")), (Some(F32), Some(F32)));
    assert_eq!((types.element(then, "subtracted"), types.element(main, "added")), (None, None));
    assert_eq!(types.element(then, "offset"), Some(F32));
    assert_eq!(types.scope(then).parent, Some(main));
    assert_eq!(types.scope(other).body, Body::Subgraph { node: 1, ordinal: 1 });
    assert_eq!(types.subgraph(main, 0, 0), None);
    let mut seen = Vec::new();
    types.visit(model.proto(), &mut |at| seen.push(at.node.name().to_owned()));
    assert_eq!(seen, ["/Mul", "/If", "/Add", "/Sub"]);
}

#[test]
fn bodies_get_their_types_from_outside() {
    let body = || {
        let nodes = vec![
            node("", "Add", &["state", "h"], &["next"]),
            node("", "Identity", &["cond"], &["go"]),
            node("", "Cast", &["next"], &["each"]).int("to", 1),
        ];
        unnamed_graph(&["iteration", "cond", "state"], &["go", "next", "each"], nodes)
    };
    let outer = node("", "Loop", &["i", "b", "h"], &["last", "all"]).graph("body", body());
    assert_eq!(made(17, outer), ["float16", "float"]);

    let scan = |inputs: &[&str]| {
        let nodes =
            vec![node("", "Add", &["s", "x"], &["s2"]), node("", "Cast", &["x"], &["o"]).int("to", 1)];
        let graph = unnamed_graph(&["s", "x"], &["s2", "o"], nodes);
        node("", "Scan", inputs, &["last", "all"]).graph("body", graph).int("num_scan_inputs", 1)
    };
    assert_eq!(made(11, scan(&["h", "h"])), ["float16", "float"]);
    assert_eq!(made(8, scan(&["", "h", "h"])), ["float16", "float"]);
    // More scan inputs than inputs is nonsense, and harmless.
    assert_eq!(made(11, scan(&["h", "h"]).int("x", 0)).len(), 2);

    let map =
        unnamed_graph(&["item", "other"], &["sum"], vec![node("", "Add", &["item", "other"], &["sum"])]);
    let nodes = vec![
        node("", "SequenceConstruct", &["h"], &["seq"]),
        node("", "SequenceMap", &["seq", "h"], &["y"]).graph("body", map),
    ];
    assert_eq!(types_of(&of_nodes(17, nodes), &["y"]), ["sequence of float16"]);
}

#[test]
fn branches_that_differ_make_nothing_known() {
    let branch =
        |to: i64, out: &str| unnamed_graph(&[], &[out], vec![node("", "Cast", &["f"], &[out]).int("to", to)]);
    let choose = |a, b| {
        node("", "If", &["b"], &["y"])
            .graph("then_branch", branch(a, "t"))
            .graph("else_branch", branch(b, "e"))
    };
    assert_eq!(made(17, choose(10, 10)), ["float16"]);
    assert_eq!(made(17, choose(10, 1)), ["unknown"]);
    assert_eq!(made(17, choose(0, 10)), ["float16"]);
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("ours".to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        node: nodes,
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        ..FunctionProto::default()
    }
}

#[test]
fn functions_are_inferred_as_they_are_called() {
    let call = |input: &str, output: &str, to: i64| {
        in_domain("ours", node("", "Convert", &[input], &["", output])).int("type", to)
    };
    let to = AttributeProto { ref_attr_name: Some("type".to_owned()), ..named("to", AttributeType::Int) };
    let convert = FunctionProto {
        attribute: vec!["type".to_owned()],
        ..function(
            "Convert",
            &["x"],
            &["same", "other"],
            vec![node("", "Neg", &["x"], &["same"]), node("", "Cast", &["x"], &["other"]).with(to)],
        )
    };
    let nodes = vec![call("h", "a", 1), call("i", "c", 10), call("h", "d", 1), call("h", "e", 11)];
    let proto = ModelProto { functions: vec![convert], ..of_nodes(17, nodes) };
    let model = read(&proto);
    let types = element_types(&model);
    let main = types.graph();
    let get = |name| types.element(main, name);
    assert_eq!(
        [get("a"), get("c"), get("d"), get("e")],
        [Some(F32), Some(F16), Some(F32), Some(DataType::Double)]
    );
    // Equal calls share a scope; the inside has the types of the call.
    assert_eq!(types.call(main, 0), types.call(main, 2));
    let (first, second) = (types.call(main, 0).unwrap(), types.call(main, 1).unwrap());
    assert_eq!((types.element(first, "same"), types.element(second, "same")), (Some(F16), Some(I64)));
    assert_eq!(types.scope(first).body, Body::Function { index: 0 });
    assert_eq!(types.scope(first).parent, None);
    assert_eq!(types.scopes().count(), 4);
}

#[test]
fn functions_do_not_see_the_graph_and_defaults_count() {
    let default = AttributeProto { i: Some(10), ..named("type", AttributeType::Int) };
    let to = AttributeProto { ref_attr_name: Some("type".to_owned()), ..named("to", AttributeType::Int) };
    let inner = FunctionProto {
        attribute_proto: vec![default],
        ..function("Inner", &["x"], &["y"], vec![node("", "Cast", &["x"], &["y"]).with(to)])
    };
    let outer = FunctionProto {
        opset_import: vec![OperatorSetIdProto { domain: Some("ours".to_owned()), version: Some(1) }],
        ..function("Outer", &["x"], &["y"], vec![in_domain("ours", node("", "Inner", &["x"], &["y"]))])
    };
    let nodes = vec![in_domain("ours", node("", "Outer", &["f"], &["z"]))];
    let proto = ModelProto { functions: vec![inner, outer], ..of_nodes(17, nodes) };
    assert_eq!(types_of(&proto, &["z"]), ["float16"]);
}

#[test]
fn hostile_functions_end() {
    let call = |name: &str, input: &str, output: &str| in_domain("ours", node("", name, &[input], &[output]));
    // Itself, and each twice the next, with types that differ.
    let mut functions = vec![function("Self", &["x"], &["y"], vec![call("Self", "x", "y")])];
    for i in 0..40 {
        let next = format!("F{}", i + 1);
        let cast = node("", "Cast", &["x"], &["c"]).int("to", i % 16 + 1);
        let nodes =
            vec![cast, call(&next, "x", "a"), call(&next, "c", "d"), node("", "Add", &["a", "d"], &["y"])];
        functions.push(function(&format!("F{i}"), &["x"], &["y"], nodes));
    }
    functions.push(function("F40", &["x"], &["y"], vec![node("", "Relu", &["x"], &["y"])]));
    let nodes = vec![call("Self", "f", "s"), call("F0", "f", "y")];
    let proto = ModelProto { functions, ..of_nodes(17, nodes) };
    // Nobody reads such a model, but who infers types does not rely on it.
    let model = Model { path: PathBuf::new(), proto };
    let types = element_types(&model);
    assert!(types.get(types.graph(), "s").is_unknown());
    assert!(types.scopes().count() < 1000);
    assert!(!type_errors(&model, &types).is_empty());
}

#[test]
fn deep_subgraphs_end() {
    let mut inner = unnamed_graph(&[], &["o"], vec![node("", "Relu", &["h"], &["o"])]);
    for i in 0..25 {
        let out = format!("o{i}");
        let nodes = vec![node("", "If", &["b"], &[&out]).graph("then_branch", inner)];
        inner = unnamed_graph(&[], &[&out], nodes);
    }
    assert_eq!(made(17, node("", "If", &["b"], &["y"]).graph("then_branch", inner)), ["float16"]);
}

#[test]
fn matrix_products_in_subgraphs_and_functions_are_found() {
    let product =
        function("Product", &["a", "b"], &["y"], vec![node("/product", "MatMul", &["a", "b"], &["y"])]);
    let branch = unnamed_graph(&[], &["t"], vec![node("/inner", "MatMul", &["f", "w"], &["t"])]);
    let nodes = vec![
        in_domain("ours", node("", "Product", &["f", "f"], &["p"])),
        in_domain("ours", node("", "Product", &["f", "f"], &["p2"])),
        in_domain("ours", node("", "Product", &["h", "h"], &["p3"])),
        node("/half", "MatMul", &["h", "h"], &["m"]),
        node("/if", "If", &["b"], &["y"]).graph("then_branch", branch),
    ];
    let mut proto = ModelProto { functions: vec![product], ..of_nodes(17, nodes) };
    proto.graph.as_mut().unwrap().initializer.push(floats("w", &[1], &[1.0]));
    let names: Vec<String> = gemm_nodes(&read(&proto)).into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["/inner", "/product"]);
}

#[test]
fn a_long_chain_is_no_problem() {
    let name = |i: usize| format!("v{i}");
    let mut nodes = vec![node("", "Cast", &["f"], &["v0"]).int("to", 10)];
    nodes.extend((0..10_000).map(|i| node("", "Add", &[&name(i), "h"], &[&name(i + 1)])));
    let proto = of_nodes(17, nodes);
    assert_eq!(types_of(&proto, &["v10000"]), ["float16"]);
}
