//! Walking forwards from a value.

use super::super::graph::{NodeId, ValueId};
use super::look::{Look, MAX_CHAIN};
use super::trail::Trail;

/// Values with more readers than this are not followed forwards: they are inputs of everything, not
/// the inside of a pattern.
pub(super) const MAX_FANOUT: usize = 64;

/// A node that reads a value, perhaps through nodes that are looked through.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) node: NodeId,
    /// The value as the node reads it.
    pub(super) via: ValueId,
    /// The nodes between.
    pub(super) path: Vec<NodeId>,
}

impl Trail<'_, '_, '_> {
    /// The nodes of this scope that read a value, also through nodes that are looked through; those
    /// in between are listed too, before what they lead to.
    pub(super) fn readers(&self, v: ValueId, look: Look) -> Vec<Reader> {
        let view = self.view();
        let mut found = Vec::new();
        let mut waiting = std::collections::VecDeque::from([(v, Vec::new())]);
        while let Some((via, path)) = waiting.pop_front() {
            let consumers = &view.value(via).consumers;
            if consumers.len() > MAX_FANOUT || found.len() > MAX_FANOUT || path.len() > MAX_CHAIN {
                continue;
            }
            for node in consumers.iter().copied().filter(|node| view.node(*node).scope == self.scope) {
                found.push(Reader { node, via, path: path.clone() });
                let passes = self.graph.handed_on(node, look) == Some(via);
                if let Some(out) = view.output(node, 0).filter(|_| passes) {
                    waiting.push_back((out, [&path[..], &[node]].concat()));
                }
            }
        }
        found
    }

    /// Takes a reader and the nodes before it onto the trail; gives what it makes.
    pub(super) fn follow(&mut self, reader: &Reader) -> Option<ValueId> {
        self.nodes.extend(&reader.path);
        self.nodes.push(reader.node);
        self.view().output(reader.node, 0)
    }

    /// The operand that stands beside a value in an operator of two operands.
    pub(super) fn beside(&self, reader: &Reader) -> Option<ValueId> {
        let [a, b] = self.graph.operands(reader.node)?;
        if a == reader.via { Some(b) } else { Some(a).filter(|_| b == reader.via) }
    }
}
