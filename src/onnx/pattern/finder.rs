//! All patterns of a model, in one order, without overlaps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::graph::{GraphView, NodeRef};
use super::super::read::Model;
use super::graph::Graph;
use super::matched::{Kind, Match};
use super::{attention, gelu, l2_norm, layer_norm, rms_norm, softmax};

/// All patterns of a model: by scope, then by their last node, then by kind.
#[must_use]
pub fn find(model: &Model) -> Vec<Match> {
    find_in(&GraphView::new(model.proto()))
}

/// All patterns of a view, in the order of [`find`].
#[must_use]
pub fn find_in(view: &GraphView) -> Vec<Match> {
    let graph = Graph::new(view);
    let mut found: Vec<Match> = Kind::ALL.into_iter().flat_map(|kind| of_kind(&graph, kind)).collect();
    found.sort_by_key(|m| (m.nodes.last().copied(), m.kind));
    found
}

/// The patterns of one kind in a view.
#[must_use]
pub fn find_kind(view: &GraphView, kind: Kind) -> Vec<Match> {
    of_kind(&Graph::new(view), kind)
}

fn of_kind(graph: &Graph, kind: Kind) -> Vec<Match> {
    let found = match kind {
        Kind::LayerNorm => layer_norm::find(graph),
        Kind::RmsNorm => rms_norm::find(graph),
        Kind::L2Norm => l2_norm::find(graph),
        Kind::Softmax => softmax::find(graph),
        Kind::Gelu => gelu::find(graph),
        Kind::Attention => attention::find(graph),
    };
    let mut found = without_overlaps(found);
    name_instances(graph.view, &mut found);
    found
}

/// The larger one of those that share nodes; sorted by the last node.
fn without_overlaps(mut found: Vec<Match>) -> Vec<Match> {
    found.sort_by_key(|m| (Reverse(m.nodes.len()), m.nodes.last().copied()));
    let mut taken: BTreeSet<NodeRef> = BTreeSet::new();
    found.retain(|m| {
        let free = m.nodes.iter().all(|node| !taken.contains(node));
        if free {
            taken.extend(&m.nodes);
        }
        free
    });
    found.sort_by_key(|m| m.nodes.last().copied());
    found
}

/// Gives each match the path that the names of its nodes share; if that is nothing, or shared with
/// another match, the name of its last node, which is unique.
fn name_instances(view: &GraphView, found: &mut [Match]) {
    let paths: Vec<String> = found.iter().map(|m| shared_path(view, m)).collect();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for path in &paths {
        *count.entry(path).or_default() += 1;
    }
    let given: BTreeSet<&str> = view.nodes().map(|(_, node)| node.name.as_str()).collect();
    for (m, path) in found.iter_mut().zip(&paths) {
        // A path that is the name of some node would say too little.
        let useful = !path.is_empty() && count[path.as_str()] == 1 && !given.contains(path.as_str());
        let last = m.nodes.last().and_then(|at| view.at(*at));
        m.instance = match last {
            Some(last) if !useful => view.node(last).name.clone(),
            _ => path.clone(),
        };
    }
}

/// `/encoder/norm` for `/encoder/norm/Sub` and `/encoder/norm/Div`.
fn shared_path(view: &GraphView, m: &Match) -> String {
    let names = m.nodes.iter().filter_map(|at| view.at(*at)).map(|id| view.node(id).proto.name());
    let mut names = names.filter(|name| !name.is_empty());
    let Some(first) = names.next().filter(|_| m.nodes.len() > 1) else { return String::new() };
    let mut shared: Vec<&str> = first.split('/').collect();
    shared.pop();
    for name in names {
        let same = shared.iter().zip(name.split('/')).take_while(|(a, b)| *a == b).count();
        shared.truncate(same);
    }
    shared.join("/")
}
