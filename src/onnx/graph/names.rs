//! One name for each node, whatever the exporter did.
//!
//! The rule: a node is called as in the file, one without a name `node_of_` and its first output (see
//! [`node_name`]). If several nodes of the model have one name, the first keeps it, and the others get
//! `#2`, `#3`, … behind it, in the order of the walk (main graph, then subgraphs, then functions).
//! A name that the file itself gives to another node is never taken: the number is skipped.

use std::collections::BTreeSet;

use super::super::names::{Names, node_name, subgraphs_mut};
use super::super::proto::NodeProto;

/// A unique name for each node, in order.
pub(super) fn unique<'a>(nodes: impl Iterator<Item = &'a NodeProto>) -> Vec<String> {
    let mut given: Vec<String> = nodes.map(node_name).collect();
    let mut seen = BTreeSet::new();
    let repeated: Vec<usize> = (0..given.len()).filter(|i| !seen.insert(given[*i].as_str())).collect();
    if !repeated.is_empty() {
        let mut names = Names::of(seen.into_iter());
        for i in repeated {
            given[i] = names.fresh(&given[i]);
        }
    }
    given
}

/// Gives each of these nodes a name of its own within its graph; those without one have none.
pub(crate) fn make_unique(nodes: &mut [NodeProto]) {
    let names = unique(nodes.iter());
    for (node, name) in nodes.iter_mut().zip(names) {
        if !node.name().is_empty() {
            node.name = Some(name);
        }
        subgraphs_mut(node).for_each(|graph| make_unique(&mut graph.node));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::node;
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        let nodes: Vec<NodeProto> = names.iter().map(|name| node(name, "Relu", &["x"], &["y"])).collect();
        unique(nodes.iter())
    }

    #[test]
    fn duplicates_are_numbered_in_order() {
        assert_eq!(named(&["a", "b", "a", "a"]), ["a", "b", "a#2", "a#3"]);
        assert_eq!(named(&["", ""]), ["node_of_y", "node_of_y#2"]);
    }

    #[test]
    fn names_of_the_file_are_never_taken() {
        assert_eq!(named(&["a", "a", "a#2", "a"]), ["a", "a#3", "a#2", "a#4"]);
        assert_eq!(named(&["a#2", "a", "a#2", "a"]), ["a#2", "a", "a#2#2", "a#3"]);
    }
}
