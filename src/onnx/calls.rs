//! Functions that call functions: none calls itself, and all calls together do not become too many nodes.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::error::Problems;
use super::names::{node_name, operator, plain, subgraphs};
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::structure::topological_order;
use crate::diagnostic::Diagnostic;

/// How many nodes the calls of a model may become. Real models stay below some ten thousand, and a model of a few
/// functions that call each other twice could become any number.
pub(super) const MAX_INLINED: u64 = 250_000;

/// How many bytes of nodes they may become beyond those of the functions themselves: names grow with each call, and
/// lists of numbers are copied.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// The functions of a model, to be found by a node that calls one.
pub(super) struct Functions<'m>(BTreeMap<[&'m str; 3], usize>);

impl<'m> Functions<'m> {
    /// Of two with one name, the first counts.
    pub(super) fn new(functions: &'m [FunctionProto]) -> Functions<'m> {
        let mut index = BTreeMap::new();
        for (i, f) in functions.iter().enumerate() {
            index.entry([plain(f.domain()), f.name(), f.overload()]).or_insert(i);
        }
        Functions(index)
    }

    /// The index of the function that a node calls.
    pub(super) fn called_by(&self, node: &NodeProto) -> Option<usize> {
        self.0.get(&[plain(node.domain()), node.op_type(), node.overload()]).copied()
    }
}

/// What nodes take, those of subgraphs included.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: u64,
    bytes: u64,
    /// How many names they have: each gets the name of the call before it.
    names: u64,
}

impl Size {
    fn add(&mut self, other: Size) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.names = self.names.saturating_add(other.names);
    }
}

/// Calls of one function.
#[derive(Default)]
struct Calls {
    times: u64,
    /// Bytes of the names of all these calls.
    names: u64,
}

impl Calls {
    /// What they become, if one becomes this.
    fn of(&self, one: Size) -> Size {
        let grown = one.names.saturating_mul(self.names);
        Size {
            nodes: one.nodes.saturating_mul(self.times),
            bytes: one.bytes.saturating_mul(self.times).saturating_add(grown),
            names: one.names.saturating_mul(self.times),
        }
    }
}

/// What a body holds, that of its subgraphs included.
#[derive(Default)]
struct Body {
    own: Size,
    calls: BTreeMap<usize, Calls>,
}

impl Body {
    fn add(&mut self, nodes: &[NodeProto], functions: &Functions) {
        for node in nodes {
            if let Some(function) = functions.called_by(node) {
                let calls = self.calls.entry(function).or_default();
                calls.times += 1;
                calls.names = calls.names.saturating_add(node_name(node).len() as u64 + 1);
            } else {
                self.own.nodes += 1;
            }
            self.own.names += 1 + node.input.len() as u64 + node.output.len() as u64;
            // Its subgraphs are in that already, but for how many nodes they have.
            self.own.bytes = self.own.bytes.saturating_add(node.encoded_len() as u64);
            self.add_graphs(subgraphs(node), functions);
        }
    }

    fn add_graphs<'g>(&mut self, graphs: impl Iterator<Item = &'g GraphProto>, functions: &Functions) {
        for graph in graphs {
            let bytes = self.own.bytes;
            self.add(&graph.node, functions);
            self.own.bytes = bytes;
        }
    }

    /// What the calls of each function become, if that of a function becomes what `sizes` says.
    fn inlined(&self, sizes: &[Size]) -> impl Iterator<Item = (usize, Size)> {
        self.calls.iter().map(|(function, calls)| (*function, calls.of(sizes[*function])))
    }

    /// What all of them become.
    fn all(&self, sizes: &[Size]) -> Size {
        let mut all = Size::default();
        self.inlined(sizes).for_each(|(_, size)| all.add(size));
        all
    }
}

/// Checks the functions of a model.
pub(super) fn check(model: &ModelProto, problems: &mut Problems) {
    let functions = Functions::new(&model.functions);
    let body = |function: &FunctionProto| {
        let mut body = Body::default();
        body.add(&function.node, &functions);
        let defaults = function.attribute_proto.iter();
        body.add_graphs(defaults.flat_map(graphs), &functions);
        body
    };
    let bodies: Vec<Body> = model.functions.iter().map(body).collect();
    let needs: Vec<BTreeSet<usize>> =
        bodies.iter().map(|body| body.calls.keys().copied().collect()).collect();
    let name = |i: usize| {
        let function = &model.functions[i];
        format!("`{}`", operator(function.domain(), function.name()))
    };
    let order = match topological_order(&needs) {
        Ok(order) => order,
        Err(circle) => return problems.push(recursive(&circle, name)),
    };
    let mut sizes = vec![Size::default(); bodies.len()];
    for i in order {
        let mut size = bodies[i].own;
        size.add(bodies[i].all(&sizes));
        // One that does nothing is work too.
        sizes[i] = Size { nodes: size.nodes.max(1), ..size };
    }
    let mut main = Body::default();
    main.add_graphs(model.graph.iter(), &functions);
    let all = main.all(&sizes);
    let own = bodies.iter().fold(0u64, |sum, body| sum.saturating_add(body.own.bytes));
    let too_large = |message: String, what: fn(Size) -> u64, unit: &str, most: u64| {
        let worst = main.inlined(&sizes).max_by_key(|(_, size)| what(*size))?.0;
        let one = format!("a call of {} becomes {} of them", name(worst), number(what(sizes[worst])));
        let error = Diagnostic::error("functions-too-large", message).note(one);
        Some(error.note(format!("at most {most} {unit} can stand in the place of calls")))
    };
    let error = if all.nodes > MAX_INLINED {
        let message = format!("calls of functions would become {} nodes", number(all.nodes));
        too_large(message, |size| size.nodes, "nodes", MAX_INLINED)
    } else if all.bytes.saturating_sub(own) > MAX_BYTES {
        let message = format!("calls of functions would become {} bytes", number(all.bytes));
        too_large(message, |size| size.bytes, "bytes", own.saturating_add(MAX_BYTES))
    } else {
        None
    };
    if let Some(error) = error {
        problems.push(error);
    }
}

fn graphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

/// A number of nodes or bytes; what was not counted on is the largest.
fn number(count: u64) -> String {
    if count == u64::MAX { format!("{count} or more") } else { count.to_string() }
}

/// Functions of which each is called by the next.
fn recursive(circle: &[usize], name: impl Fn(usize) -> String) -> Diagnostic {
    // Told from the first in the file to those that it calls.
    let mut way: Vec<usize> = circle.iter().rev().copied().collect();
    way.rotate_right(1);
    let message = match way[..] {
        [only] => format!("function {} calls itself", name(only)),
        _ => {
            let shown: Vec<String> = way.iter().take(10).map(|i| name(*i)).collect();
            let more = if way.len() > 10 { " -> …" } else { "" };
            format!("functions call each other in a circle: {}{more} -> {}", shown.join(" -> "), shown[0])
        }
    };
    Diagnostic::error("recursive-function", message).note("ONNX has no recursion")
}

#[cfg(test)]
mod tests {
    use super::super::read::read_canonical;
    use super::super::testing::{self, WithAttribute, node, value};
    use super::super::{Error, inline};
    use super::*;
    use crate::onnx::proto::OperatorSetIdProto;
    use crate::onnx::proto::tensor_proto::DataType;
    use bytes::Bytes;

    fn call(function: &str, from: &str, to: &str) -> NodeProto {
        NodeProto { domain: Some("my".into()), ..node("", function, &[from], &[to]) }
    }

    fn function(name: &str, node: Vec<NodeProto>) -> FunctionProto {
        let import = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        FunctionProto {
            domain: Some("my".into()),
            name: Some(name.to_owned()),
            input: vec!["a".into()],
            output: vec!["b".into()],
            node,
            opset_import: vec![import("", 17), import("my", 1)],
            ..FunctionProto::default()
        }
    }

    /// A model that calls the first of these functions.
    fn model(functions: Vec<FunctionProto>) -> ModelProto {
        let graph = GraphProto {
            input: vec![value("x", DataType::Float, &[4.into()])],
            output: vec![value("y", DataType::Float, &[4.into()])],
            node: vec![call(functions[0].name(), "x", "y")],
            ..GraphProto::default()
        };
        let mut model = testing::model(17, graph);
        model.opset_import.extend(functions[0].opset_import.last().cloned());
        model.functions = functions;
        model
    }

    /// Code and message of the only error.
    fn told(model: &ModelProto) -> Option<(String, String)> {
        match read_canonical(Bytes::from(model.encode_to_vec()), None) {
            Err(Error::Invalid(list)) => match &list[..] {
                [only] => Some((only.code.to_string(), only.message.clone())),
                _ => panic!("{list:?}"),
            },
            other => other.map(|_| None).unwrap(),
        }
    }

    fn twice(name: &str, calls: &str) -> FunctionProto {
        function(name, vec![call(calls, "a", "t"), call(calls, "t", "b")])
    }

    #[test]
    fn functions_that_call_themselves_are_refused() {
        let code = "recursive-function".to_owned();
        let plain = |name: &str| function(name, vec![node("", "Relu", &["a"], &["b"])]);
        assert_eq!(
            told(&model(vec![twice("F", "F")])),
            Some((code.clone(), "function `my::F` calls itself".to_owned()))
        );
        let circle = vec![twice("Out", "A"), twice("A", "C"), twice("B", "A"), twice("C", "B")];
        let message = "functions call each other in a circle: `my::A` -> `my::C` -> `my::B` -> `my::A`";
        assert_eq!(told(&model(circle)), Some((code.clone(), message.to_owned())));
        // Through a subgraph.
        let branch = |calls: &str| GraphProto {
            output: vec![value("t", DataType::Float, &[])],
            node: vec![call(calls, "a", "t")],
            ..GraphProto::default()
        };
        let choose = |calls: &str| {
            let choose = node("", "If", &["a"], &["b"]);
            let choose = choose.graph("then_branch", branch("G")).graph("else_branch", branch(calls));
            function("F", vec![choose])
        };
        let message = "function `my::F` calls itself".to_owned();
        assert_eq!(told(&model(vec![choose("F"), plain("G")])), Some((code, message)));
        assert_eq!(told(&model(vec![choose("G"), plain("G")])), None);
    }

    #[test]
    fn calls_that_would_become_too_many_nodes_are_refused_before_they_do() {
        let bomb = |depth: usize| {
            let names: Vec<String> = (0..=depth).map(|i| format!("F{i}")).collect();
            let mut functions: Vec<FunctionProto> =
                (0..depth).map(|i| twice(&names[i], &names[i + 1])).collect();
            functions.push(function(&names[depth], vec![node("", "Relu", &["a"], &["b"])]));
            model(functions)
        };
        let code = "functions-too-large".to_owned();
        let message = |nodes: &str| format!("calls of functions would become {nodes} nodes");
        assert_eq!(told(&bomb(45)), Some((code.clone(), message("35184372088832"))));
        assert_eq!(told(&bomb(90)), Some((code.clone(), message("18446744073709551615 or more"))));
        let mut idle = bomb(45);
        let last = idle.functions.last_mut().unwrap();
        (last.node, last.output) = (Vec::new(), vec!["a".into()]);
        assert_eq!(told(&idle), Some((code, message("35184372088832"))));
        let read = read_canonical(Bytes::from(bomb(8).encode_to_vec()), None).unwrap();
        assert_eq!(inline(&read).unwrap().graph().node.len(), 256);
    }

    #[test]
    fn names_that_would_grow_too_long_are_refused_before_they_do() {
        let long = |depth: usize, length: usize| {
            let names: Vec<String> = (0..=depth).map(|i| format!("F{i}")).collect();
            let mut functions: Vec<FunctionProto> =
                (0..depth).map(|i| twice(&names[i], &names[i + 1])).collect();
            functions.push(function(&names[depth], vec![node("n", "Relu", &["a"], &["b"])]));
            let mut model = model(functions);
            model.graph.as_mut().unwrap().node[0].name = Some("l".repeat(length));
            model
        };
        assert_eq!(told(&long(13, 100)), None);
        let (code, message) = told(&long(15, 4000)).unwrap();
        assert_eq!(code, "functions-too-large");
        assert!(message.ends_with(" bytes"), "{message}");
    }
}
