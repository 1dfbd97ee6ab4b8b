//! Which nodes a kernel carries out: the texts by which an engine names nodes, held against those of the model.
//!
//! A node in a branch of an If is named with its way out, `NAME | graph (then_branch) | OWNER (If)`, the innermost If first.
//! Bodies of Loop and Scan leave no trace in names.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, Kernel};
use crate::precision::{Assignment, FloatType, NodeAssignment};

/// What follows the name of a node in a branch.
const BRANCHES: [&str; 2] = [" | graph (then_branch) | ", " | graph (else_branch) | "];

/// The nodes of an assignment, and the kernels that name them.
pub(super) struct Names<'f> {
    nodes: &'f [NodeAssignment],
    /// By text: places of the nodes that it names, or may name.
    named: BTreeMap<&'f str, Vec<usize>>,
    /// By place of the node.
    kernels: Vec<Vec<&'f Kernel>>,
    /// Places of nodes that share a text with one of another type.
    mixed: BTreeSet<usize>,
}

impl<'f> Names<'f> {
    pub(super) fn new(facts: &'f Facts, assignment: &'f Assignment) -> Names<'f> {
        let nodes = assignment.nodes.as_slice();
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            by_name.entry(&node.name).or_default().push(index);
        }
        let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut kernels: Vec<Vec<&Kernel>> = vec![Vec::new(); nodes.len()];
        for kernel in &facts.kernels {
            let mut all = BTreeSet::new();
            for text in &kernel.layers {
                all.extend(
                    named.entry(text).or_insert_with(|| places(nodes, &by_name, text)).iter().copied(),
                );
            }
            all.into_iter().for_each(|index| kernels[index].push(kernel));
        }
        let mut mixed = BTreeSet::new();
        for places in named.values() {
            let mut types: Vec<FloatType> = Vec::new();
            for of in places.iter().filter_map(|index| nodes[*index].of) {
                if !types.contains(&of) {
                    types.push(of);
                }
            }
            let is_mixed = |index: &usize| types.iter().any(|of| nodes[*index].of != Some(*of));
            mixed.extend(places.iter().copied().filter(is_mixed));
        }
        Names { nodes, named, kernels, mixed }
    }

    /// The kernels that name the node at this place.
    pub(super) fn kernels(&self, index: usize) -> &[&'f Kernel] {
        &self.kernels[index]
    }

    /// The nodes that a kernel names, each once, with their places.
    pub(super) fn nodes(&self, kernel: &Kernel) -> Vec<(usize, &'f NodeAssignment)> {
        let places = kernel.layers.iter().filter_map(|text| self.named.get(text.as_str())).flatten();
        let places: BTreeSet<usize> = places.copied().collect();
        places.into_iter().map(|index| (index, &self.nodes[index])).collect()
    }

    /// May what names the node at this place be meant of another, of another type?
    pub(super) fn is_mixed(&self, index: usize) -> bool {
        self.mixed.contains(&index)
    }
}

/// The nodes that a text names. A name alone is that of a node outside of every branch; if there is none, it may be any of
/// that name.
fn places(nodes: &[NodeAssignment], by_name: &BTreeMap<&str, Vec<usize>>, text: &str) -> Vec<usize> {
    let all = |name: &str| by_name.get(name).map_or(&[][..], Vec::as_slice);
    let is_if = |owner: &&String| all(owner).iter().any(|index| nodes[*index].op == "If");
    let leads_out = |index: usize, way: &str| {
        let owners = nodes[index].inside.iter().rev().filter(is_if);
        let step = |rest: &str, owner: &String| {
            let rest = BRANCHES.iter().find_map(|branch| rest.strip_prefix(branch))?;
            Some(rest.strip_prefix(owner.as_str())?.strip_prefix(" (If)")?.to_owned())
        };
        let rest = owners.into_iter().try_fold(way.to_owned(), |rest, owner| step(&rest, owner));
        rest.is_some_and(|rest| rest.is_empty())
    };
    let ends = BRANCHES.iter().flat_map(|branch| text.match_indices(branch)).map(|(at, _)| at);
    let found: Vec<usize> = ends
        .chain([text.len()])
        .flat_map(|end| {
            all(&text[..end]).iter().copied().filter(move |index| leads_out(*index, &text[end..]))
        })
        .collect();
    if found.is_empty() { all(text).to_vec() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Decider;

    fn node(name: &str, op: &str, inside: &[&str]) -> NodeAssignment {
        NodeAssignment {
            name: name.to_owned(),
            op: op.to_owned(),
            inside: inside.iter().map(|owner| (*owner).to_owned()).collect(),
            of: Some(FloatType::Fp32),
            by: Decider::Default,
            parts: 0,
            accumulate: None,
            layer: None,
        }
    }

    #[test]
    fn nodes_in_branches_are_named_with_their_way_out() {
        let nodes = [
            node("if", "If", &[]),
            node("a", "Conv", &["if"]),
            node("if2", "If", &["if"]),
            node("a", "Conv", &["if", "if2"]),
            node("loop", "Loop", &["if"]),
            node("b", "Conv", &["if", "loop"]),
            node("c", "Conv", &["loop2"]),
            node("loop2", "Loop", &[]),
            node("a", "Conv", &[]),
            node("d | graph (then_branch) | if (If)", "Conv", &[]),
        ];
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            by_name.entry(&node.name).or_default().push(index);
        }
        for (text, expected) in [
            ("a | graph (else_branch) | if (If)", &[1][..]),
            ("a | graph (then_branch) | if2 (If) | graph (then_branch) | if (If)", &[3]),
            ("b | graph (then_branch) | if (If)", &[5]),
            ("c", &[6]),
            ("a", &[8]),
            ("d | graph (then_branch) | if (If)", &[9]),
            // Not as it is expected, but a name that there is.
            ("b", &[5]),
            ("a | graph (then_branch) | if2 (If)", &[]),
            ("a | graph (body) | if (If)", &[]),
            ("nobody", &[]),
        ] {
            assert_eq!(places(&nodes, &by_name, text), expected, "{text}");
        }
    }
}
