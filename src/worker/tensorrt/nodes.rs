//! The nodes of a model that is refused: TensorRT does not always name the one it means.

use prost::Message;

use super::super::protocol::ParserError;
use super::parse::is_of_a_node;
use crate::onnx::graph::{GraphView, Node};
use crate::onnx::proto::ModelProto;
use crate::onnx::schema;

/// Names and operators, of the main graph first and in its order.
#[derive(Default)]
pub(super) struct Nodes(Vec<(String, String)>);

impl Nodes {
    /// Those of a model file; none if it cannot be read.
    pub(super) fn of(model: &[u8]) -> Nodes {
        let Ok(model) = ModelProto::decode(model) else { return Nodes::default() };
        let view = GraphView::new(&model);
        let mut all: Vec<&Node> = view.nodes().map(|(_, node)| node).collect();
        all.sort_by_key(|node| node.scope);
        Nodes(all.into_iter().map(|node| (node.name.clone(), node.proto.op_type().to_owned())).collect())
    }

    fn of_operator<'n>(&'n self, op: &str) -> impl Iterator<Item = &'n str> {
        self.0.iter().filter(move |(_, of)| of == op).map(|(name, _)| name.as_str())
    }

    /// Gives an error of the parser that names no node its operator, by the function that tells it: each operator has one,
    /// such as `importScatterElements`. And the node, if its index is told too, or if there is no other.
    pub(super) fn locate(&self, error: &mut ParserError, function: &str) {
        let known = |op: &&str| schema("", op, i64::MAX).is_some();
        let Some(op) = function.strip_prefix("import").filter(known) else { return };
        if is_of_a_node(error) {
            return;
        }
        op.clone_into(&mut error.op);
        let index = error.node.and_then(|index| usize::try_from(index).ok());
        let told = index.and_then(|index| self.0.get(index)).filter(|(_, of)| of == op);
        let mut all = self.of_operator(op);
        match (told, all.next(), all.next()) {
            (Some((name, _)), ..) => name.clone_into(&mut error.name),
            (None, Some(only), None) => only.clone_into(&mut error.name),
            _ => {}
        }
    }

    /// The operator of an error, and its nodes as far as they are known.
    pub(super) fn text(&self, error: &ParserError) -> String {
        let ParserError { op, name, .. } = error;
        if !name.is_empty() {
            return format!("`{op}` at `{name}`");
        }
        let mut all = self.of_operator(op);
        match (all.next(), all.count()) {
            (None, _) => format!("`{op}`"),
            (Some(only), 0) => format!("`{op}` at `{only}`"),
            (Some(first), more) => format!("`{op}` at `{first}` or one of {more} more"),
        }
    }

    /// The node that a line of the log names: the longest, since names may begin with others. One that could be any
    /// word is none.
    pub(super) fn named_in<'n>(&'n self, line: &str) -> Option<&'n str> {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| name.contains(|c: char| !c.is_alphabetic()) && holds(line, name))
            .max_by_key(|n| n.len())
    }
}

/// Does a text hold a name, and not as a part of a longer one?
fn holds(text: &str, name: &str) -> bool {
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    name.len() > 2
        && text.match_indices(name).any(|(at, _)| {
            !text[..at].ends_with(is_inside) && !text[at + name.len()..].starts_with(is_inside)
        })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, NodeProto};
    use crate::onnx::testing::{model, node};

    pub(in super::super) fn nodes_of(nodes: Vec<NodeProto>) -> Nodes {
        Nodes::of(&model(17, GraphProto { node: nodes, ..GraphProto::default() }).encode_to_vec())
    }

    pub(in super::super) fn scatter(name: &str) -> NodeProto {
        node(name, "ScatterElements", &["x", "i", "u"], &[&format!("{name}/out")])
    }

    #[test]
    fn a_line_names_a_node_or_none() {
        let nodes = nodes_of(vec![scatter("Conv_1"), scatter("Conv_13"), scatter("add"), scatter("/a/b")]);
        assert_eq!(nodes.named_in("IConvolutionLayer Conv_13: Conv_13: it failed"), Some("Conv_13"));
        assert_eq!(nodes.named_in("Assertion at /a/b.cpp"), Some("/a/b"));
        assert_eq!(nodes.named_in("add some memory to xConv_1 or /a/bc"), None);
    }
}
