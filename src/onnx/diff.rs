//! What differs between two models, node by node. Tensors are told by their digests (see [`super::TensorDigest`]), and
//! inputs and outputs by the [`super::Summary`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::names::{node_name, subgraphs};
use super::proto::{AttributeProto, NodeProto};
use super::read::Model;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeChange {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What differs.
    #[serde(flatten)]
    pub edit: NodeEdit,
}

/// What differs in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "edit", rename_all = "kebab-case")]
pub enum NodeEdit {
    /// It was not there.
    New,
    /// It is not there any more.
    Gone,
    /// It had another name.
    Renamed {
        /// The name that it had.
        old: String,
    },
    /// It was another operator.
    Operator {
        /// The operator that it was.
        old: String,
    },
    /// An attribute.
    Attribute {
        /// Its name.
        name: String,
        /// What it was; none if it is new.
        old: Option<String>,
        /// What it is; none if it is gone.
        new: Option<String>,
    },
    /// The values that it reads.
    Inputs {
        /// What they were.
        old: Vec<String>,
        /// What they are.
        new: Vec<String>,
    },
    /// The values that it makes.
    Outputs {
        /// What they were.
        old: Vec<String>,
        /// What they are.
        new: Vec<String>,
    },
    /// It is the first that is in another place; nothing else differs.
    Moved,
}

impl fmt::Display for NodeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node `{}` ({})", self.node, self.op)?;
        match &self.edit {
            NodeEdit::New => f.write_str(" is new"),
            NodeEdit::Gone => f.write_str(" is gone"),
            NodeEdit::Renamed { old } => write!(f, " was called `{old}`"),
            NodeEdit::Operator { old } => write!(f, " was {old}"),
            NodeEdit::Attribute { name, old: Some(old), new: Some(new) } => {
                write!(f, ": {name}: {old} is now {new}")
            }
            NodeEdit::Attribute { name, old: None, new } => {
                write!(f, ": {name}: new, {}", new.as_deref().unwrap_or_default())
            }
            NodeEdit::Attribute { name, old: Some(old), new: None } => {
                write!(f, ": {name}: gone, was {old}")
            }
            NodeEdit::Inputs { old, new } => {
                write!(f, ": inputs: {} is now {}", old.join(", "), new.join(", "))
            }
            NodeEdit::Outputs { old, new } => {
                write!(f, ": outputs: {} is now {}", old.join(", "), new.join(", "))
            }
            NodeEdit::Moved => f.write_str(" is in another place"),
        }
    }
}

/// Every difference between the nodes of two models, functions and subgraphs included, in the order of the new one.
#[must_use]
pub fn node_changes(old: &Model, new: &Model) -> Vec<NodeChange> {
    let mut changes = Vec::new();
    compare(&old.graph().node, &new.graph().node, &mut changes);
    let functions = |model: &Model| -> Vec<NodeProto> {
        model.proto().functions.iter().flat_map(|function| function.node.clone()).collect()
    };
    compare(&functions(old), &functions(new), &mut changes);
    changes
}

fn change(node: &NodeProto, edit: NodeEdit) -> NodeChange {
    NodeChange { node: node_name(node), op: node.op_type().to_owned(), edit }
}

fn compare(old: &[NodeProto], new: &[NodeProto], changes: &mut Vec<NodeChange>) {
    let before = changes.len();
    let mut pairs = pair(old, new);
    let mut order = Vec::new();
    for (i, node) in new.iter().enumerate() {
        match pairs.remove(&i) {
            None => changes.push(change(node, NodeEdit::New)),
            Some(at) => {
                order.push((at, node));
                compare_nodes(&old[at], node, changes);
            }
        }
    }
    let kept: std::collections::BTreeSet<usize> = order.iter().map(|(at, _)| *at).collect();
    let gone = old.iter().enumerate().filter(|(at, _)| !kept.contains(at));
    changes.extend(gone.map(|(_, node)| change(node, NodeEdit::Gone)));
    let moved = order.windows(2).find(|two| two[0].0 > two[1].0).map(|two| two[1].1);
    if changes.len() == before {
        changes.extend(moved.map(|node| change(node, NodeEdit::Moved)));
    }
}

/// Which new node is which old one: by name, then by the first value that it makes.
fn pair(old: &[NodeProto], new: &[NodeProto]) -> BTreeMap<usize, usize> {
    let mut pairs = BTreeMap::new();
    let mut free: Vec<bool> = vec![true; old.len()];
    let keys: [fn(&NodeProto) -> String; 2] =
        [node_name, |node| node.output.first().cloned().unwrap_or_default()];
    for key in keys {
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, node) in old.iter().enumerate().rev().filter(|(at, _)| free[*at]) {
            by_key.entry(key(node)).or_default().push(at);
        }
        for (i, node) in new.iter().enumerate() {
            if pairs.contains_key(&i) {
                continue;
            }
            if let Some(at) = by_key.get_mut(&key(node)).and_then(Vec::pop) {
                free[at] = false;
                pairs.insert(i, at);
            }
        }
    }
    pairs
}

fn compare_nodes(old: &NodeProto, new: &NodeProto, changes: &mut Vec<NodeChange>) {
    let mut push = |edit| changes.push(change(new, edit));
    if node_name(old) != node_name(new) {
        push(NodeEdit::Renamed { old: node_name(old) });
    }
    let operator = |node: &NodeProto| match node.domain() {
        "" => node.op_type().to_owned(),
        domain => format!("{domain}::{}", node.op_type()),
    };
    if operator(old) != operator(new) {
        push(NodeEdit::Operator { old: operator(old) });
    }
    if old.input != new.input {
        push(NodeEdit::Inputs { old: old.input.clone(), new: new.input.clone() });
    }
    if old.output != new.output {
        push(NodeEdit::Outputs { old: old.output.clone(), new: new.output.clone() });
    }
    // What a Constant makes is told as a tensor.
    let is_told = |a: &AttributeProto| new.op_type() == "Constant" && a.t.is_some();
    let by_name = |node: &NodeProto| -> BTreeMap<String, AttributeProto> {
        let attributes = node.attribute.iter().filter(|a| !is_told(a));
        attributes.map(|a| (a.name().to_owned(), without_graphs(a))).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        let (old, new) = (before.get(name).map(text), after.get(name).map(text));
        push(NodeEdit::Attribute { name: name.clone(), old, new });
    }
    for (old, new) in subgraphs(old).zip(subgraphs(new)) {
        compare(&old.node, &new.node, changes);
    }
}

/// Subgraphs are compared by their own nodes.
fn without_graphs(attribute: &AttributeProto) -> AttributeProto {
    AttributeProto { g: None, graphs: Vec::new(), ..attribute.clone() }
}

/// The longest text of an attribute.
const LONGEST: usize = 60;

/// The value of an attribute, for people.
fn text(attribute: &AttributeProto) -> String {
    let string = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    let text = match attribute {
        AttributeProto { f: Some(value), .. } => value.to_string(),
        AttributeProto { i: Some(value), .. } => value.to_string(),
        AttributeProto { s: Some(value), .. } => string(value),
        AttributeProto { t: Some(_), .. } => "a tensor".to_owned(),
        AttributeProto { ints, .. } if !ints.is_empty() => format!("{ints:?}"),
        AttributeProto { floats, .. } if !floats.is_empty() => format!("{floats:?}"),
        AttributeProto { strings, .. } if !strings.is_empty() => {
            format!("[{}]", strings.iter().map(|s| string(s)).collect::<Vec<_>>().join(", "))
        }
        _ => "another value".to_owned(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::onnx::proto::GraphProto;
    use crate::onnx::testing::{WithAttribute, node};

    fn model(nodes: Vec<NodeProto>) -> Model {
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        let empty =
            Model { path: Path::new("m.onnx").to_owned(), proto: crate::onnx::proto::ModelProto::default() };
        empty.with_graph(graph)
    }

    fn nodes() -> Vec<NodeProto> {
        vec![
            node("conv", "Conv", &["x", "w"], &["a"]).ints("strides", &[1, 1]),
            node("", "Relu", &["a"], &["b"]),
            node("add", "Add", &["b", "x"], &["y"]),
        ]
    }

    fn told(edit: impl FnOnce(&mut Vec<NodeProto>)) -> Vec<String> {
        let mut edited = nodes();
        edit(&mut edited);
        node_changes(&model(nodes()), &model(edited)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_difference_is_told_at_its_node() {
        assert_eq!(told(|_| ()), [""; 0]);
        let strides = |n: &mut Vec<NodeProto>| n[0].attribute[0].ints = vec![2, 2];
        assert_eq!(told(strides), ["node `conv` (Conv): strides: [1, 1] is now [2, 2]"]);
        assert_eq!(told(|n| n[1].op_type = Some("Tanh".into())), ["node `node_of_b` (Tanh) was Relu"]);
        assert_eq!(told(|n| n[2].input.swap(0, 1)), ["node `add` (Add): inputs: b, x is now x, b"]);
        assert_eq!(told(|n| n[2].name = Some("sum".into())), ["node `sum` (Add) was called `add`"]);
        assert_eq!(
            told(|n| {
                n.remove(2);
                n.push(node("mul", "Mul", &["b", "x"], &["z"]));
            }),
            ["node `mul` (Mul) is new", "node `add` (Add) is gone"]
        );
        assert_eq!(told(|n| n.swap(1, 2)), ["node `node_of_b` (Relu) is in another place"]);
        assert_eq!(told(|n| n[0].attribute.clear()), ["node `conv` (Conv): strides: gone, was [1, 1]"]);
    }
}
