//! `--layerPrecisions` and `--layerOutputTypes`: which nodes they really hit in a version.
//!
//! 8.6 takes whole names, or `*` alone. From 9.0 on a name may have one `*`; a name without any wins over one with; of
//! several that match, which one wins is not defined. Up to 10.x the type of a `*` name in `--layerOutputTypes` is not
//! looked at: what it matches becomes what `*` alone says, or FP32.

use std::collections::BTreeMap;

use super::Version;
use crate::toolchain::trtexec::layers::{Layers, layers};

/// An ONNX node, and the layer that has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// Name of the node; a made-up one if it has none.
    pub(super) node: String,
    /// Its operator.
    pub(super) op: String,
    /// Has the node a name of its own?
    pub(super) is_named: bool,
}

impl Layer {
    /// The name of the layer; none if TensorRT makes one up, so that an option cannot name it.
    pub(super) fn name(&self, version: Version) -> Option<&str> {
        let is_lost = layers(&self.op, version) == Layers::Automatic;
        (self.is_named && !is_lost).then_some(self.node.as_str())
    }
}

/// One `NAME:TYPE` of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) types: Vec<String>,
}

/// What the entries of one option do to a model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// The type of each node that is hit.
    pub(super) types: BTreeMap<String, String>,
    /// The nodes that each entry decides, in the order of entries.
    pub(super) nodes: Vec<Vec<String>>,
    /// Does each entry match anything, decided by it or not?
    pub(super) matches: Vec<bool>,
    /// Nodes that several names with `*` match and give different types, with these names.
    pub(super) undefined: BTreeMap<String, Vec<String>>,
}

/// Does a name of the command line mean this layer?
pub(super) fn matches(pattern: &str, layer: &str, version: Version) -> bool {
    match pattern.split_once('*') {
        _ if pattern == layer => true,
        None => false,
        Some(_) if version < Version(9, 0, 0) => pattern == "*",
        // A second `*` is a character like any other.
        Some((start, end)) => {
            layer.len() >= start.len() + end.len() && layer.starts_with(start) && layer.ends_with(end)
        }
    }
}

/// May the name match several layers in this version?
pub(super) fn is_wildcard(pattern: &str, version: Version) -> bool {
    if version < Version(9, 0, 0) { pattern == "*" } else { pattern.contains('*') }
}

/// Has the name a `*` that this version takes as a character, which no layer has in its name?
pub(super) fn hits_nothing(pattern: &str, version: Version) -> bool {
    pattern.matches('*').count() > usize::from(is_wildcard(pattern, version))
}

/// Do wildcards of `--layerOutputTypes` give another type than they say?
pub(super) fn output_type_is_lost(entry: &Entry, entries: &[Entry], version: Version) -> Option<String> {
    let is_affected = is_wildcard(&entry.name, version) && version >= Version(9, 0, 0);
    let global = entries.iter().find(|e| e.name == "*").and_then(|e| e.types.first().cloned());
    let real = global.unwrap_or_else(|| "fp32".to_owned());
    (is_affected && entry.types.iter().any(|t| *t != real)).then_some(real)
}

/// What the entries hit among these layers.
pub(super) fn hits(entries: &[Entry], layers: &[Layer], version: Version) -> Hits {
    let nodes = vec![Vec::new(); entries.len()];
    let mut hits = Hits { nodes, matches: vec![false; entries.len()], ..Hits::default() };
    for layer in layers {
        let Some(name) = layer.name(version) else { continue };
        // The last of two equal names is kept, as in the map that they are put into.
        let exact = entries.iter().rposition(|e| e.name == name);
        let matching: Vec<usize> = match exact {
            Some(at) => vec![at],
            None => (0..entries.len()).filter(|at| matches(&entries[*at].name, name, version)).collect(),
        };
        let Some(&first) = matching.first() else { continue };
        for (at, entry) in entries.iter().enumerate() {
            hits.matches[at] |= matches(&entry.name, name, version);
        }
        if matching.iter().any(|at| entries[*at].types != entries[first].types) {
            let names = matching.iter().map(|at| entries[*at].name.clone()).collect();
            hits.undefined.insert(layer.node.clone(), names);
        }
        let Some(of) = entries[first].types.first() else { continue };
        hits.types.entry(layer.node.clone()).or_insert_with(|| of.clone());
        if !hits.nodes[first].contains(&layer.node) {
            hits.nodes[first].push(layer.node.clone());
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    const V86: Version = Version(8, 6, 1);
    const V93: Version = Version(9, 3, 0);

    fn layers(names: &[&str]) -> Vec<Layer> {
        let layer = |n: &&str| Layer { node: (*n).to_owned(), op: "Add".to_owned(), is_named: true };
        names.iter().map(layer).collect()
    }

    fn entries(texts: &[&str]) -> Vec<Entry> {
        let entry = |text: &&str| {
            let (name, of) = text.rsplit_once(':').unwrap();
            Entry { name: name.to_owned(), types: vec![of.to_owned()] }
        };
        texts.iter().map(entry).collect()
    }

    #[test]
    fn wildcards_differ_by_version() {
        for (pattern, layer, old, new) in [
            ("/a/Add", "/a/Add", true, true),
            ("/a/add", "/a/Add", false, false),
            ("/a", "/a/Add", false, false),
            ("*", "/a/Add", true, true),
            ("/a/*", "/a/Add", false, true),
            ("*Add", "/a/Add", false, true),
            ("/a*Add", "/a/Add", false, true),
            ("*a*", "/a/Add", false, false),
            ("/a/A*Add", "/a/Add", false, false),
            ("[abc]", "a", false, false),
        ] {
            assert_eq!(matches(pattern, layer, V86), old, "{pattern} on 8.6");
            assert_eq!(matches(pattern, layer, V93), new, "{pattern} on 9.3");
        }
    }

    #[test]
    fn patterns_that_a_version_does_not_take_hit_nothing() {
        let hits_nothing = |version| ["*", "a*", "*a*", "a"].map(|pattern| hits_nothing(pattern, version));
        assert_eq!(hits_nothing(V86), [false, true, true, false]);
        assert_eq!(hits_nothing(V93), [false, false, true, false]);
    }

    #[test]
    fn exact_names_win_and_overlaps_are_undefined() {
        let model = layers(&["/a/Add", "/a/Mul", "/b/Add"]);
        let given = entries(&["/a/*:fp32", "/a/Add:fp16", "*Mul:fp16", "/c/*:fp32"]);
        let found = hits(&given, &model, V93);
        assert_eq!(found.nodes, [vec!["/a/Mul"], vec!["/a/Add"], vec![], vec![]]);
        assert_eq!(found.matches, [true, true, true, false]);
        assert_eq!(found.types["/a/Add"], "fp16");
        assert_eq!(found.undefined["/a/Mul"], ["/a/*", "*Mul"]);
        assert!(!found.types.contains_key("/b/Add"));
        let same = hits(&entries(&["/a/*:fp32", "*Add:fp32"]), &model, V93);
        assert!(same.undefined.is_empty() && same.types.len() == 3, "{same:?}");
    }

    #[test]
    fn layers_without_a_name_of_their_own_are_not_hit() {
        let norm = Layer { node: "/norm".into(), op: "LayerNormalization".into(), is_named: true };
        assert_eq!(norm.name(Version(10, 0, 1)), None);
        assert_eq!(norm.name(Version(10, 1, 0)), Some("/norm"));
        assert_eq!(Layer { is_named: false, ..norm }.name(Version(10, 3, 0)), None);
    }

    #[test]
    fn output_types_of_wildcards_are_lost_after_8_6() {
        let lost = |texts: &[&str], version| {
            let all = entries(texts);
            output_type_is_lost(&all[0], &all, version)
        };
        assert_eq!(lost(&["/a*:fp16"], V93).as_deref(), Some("fp32"));
        assert_eq!(lost(&["/a*:fp32"], V93), None);
        assert_eq!(lost(&["/a*:fp32", "*:fp16"], V93).as_deref(), Some("fp16"));
        assert_eq!(lost(&["/a:fp16"], V93), None);
        assert_eq!(lost(&["*:fp16"], V86), None);
    }
}
