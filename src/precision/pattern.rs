//! Instances of patterns, as sets of nodes of a [`View`].

use std::collections::{BTreeMap, BTreeSet};

use super::view::View;

/// All instances by name of the pattern: `layer-norm`, `attention.scores`, …
pub(super) struct Patterns {
    instances: BTreeMap<&'static str, Vec<BTreeSet<usize>>>,
}

impl Patterns {
    pub(super) fn new(view: &View<'_>) -> Patterns {
        let _ = view;
        Patterns { instances: BTreeMap::new() }
    }

    /// The instances of one pattern, each as indices of [`View::nodes`].
    pub(super) fn instances(&self, name: &str) -> &[BTreeSet<usize>] {
        self.instances.get(name).map_or(&[], Vec::as_slice)
    }
}
