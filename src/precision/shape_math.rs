//! Arithmetic on shapes that the exporter wrote with floats: from integers, through a few operators, back to
//! integers, to the borders of a Range, or to a comparison of such numbers, as of a loop's counter. In 16 bits a size of
//! 2049 would become 2048, so it stays FP32 whatever rules say.

use std::collections::{BTreeMap, BTreeSet};

use super::signature::{Role, Slot};
use super::view::{Key, View};

/// Operators that such arithmetic is made of.
const ARITHMETIC: [&str; 40] = [
    "Cast",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Sum",
    "Reciprocal",
    "Relu",
    "Neg",
    "Abs",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Mod",
    "Sqrt",
    "Pow",
    "Exp",
    "Log",
    "Min",
    "Max",
    "Clip",
    "Where",
    "Range",
    "ReduceMax",
    "ReduceMin",
    "ReduceSum",
    "ReduceProd",
    "Identity",
    "Expand",
    "Tile",
    "Transpose",
    "Concat",
    "Slice",
    "Gather",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Flatten",
    "Split",
];

/// Of two numbers that are known to be sizes or counters, these make no float.
const COMPARISONS: [&str; 5] = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"];

/// The nodes that compute shapes in floats.
pub(super) fn find(view: &View<'_>) -> BTreeSet<usize> {
    let is = |id: usize| {
        let node = &view.nodes[id];
        node.signature.role == Role::Typed
            && node.proto.domain().is_empty()
            && ARITHMETIC.contains(&node.proto.op_type())
    };
    let mut constants: BTreeSet<Key<'_>> = BTreeSet::new();
    let mut outputs: BTreeSet<Key<'_>> = BTreeSet::new();
    for (scope, (graph, _)) in &view.graphs {
        constants.extend(graph.initializer.iter().map(|t| (*scope, t.name())));
        outputs.extend(graph.output.iter().map(|o| (*scope, o.name())));
    }
    // Values computed from integers and constants alone; casts of the file between float types are looked through.
    let mut from_integers: BTreeSet<Key<'_>> = BTreeSet::new();
    let mut candidates = BTreeSet::new();
    for id in 0..view.nodes.len() {
        let node = &view.nodes[id];
        let floats = node.proto.input.iter().filter(|name| view.float(node.scope, name).is_some());
        let inputs: Vec<Key<'_>> = floats.filter_map(|name| view.key(node.scope, name)).collect();
        let known = inputs.iter().all(|key| constants.contains(key) || from_integers.contains(key));
        let any = inputs.iter().any(|key| from_integers.contains(key));
        let is_root = || match node.proto.op_type() {
            "Cast" => inputs.is_empty(),
            // Of the other it reads the type alone.
            "CastLike" => node.proto.input.first().is_some_and(|name| view.float(node.scope, name).is_none()),
            _ => false,
        };
        let is_root = node.signature.role == Role::Typed && is_root();
        let outputs = || node.proto.output.iter().map(|name| (node.scope, name.as_str()));
        match node.signature.role {
            Role::Constant => constants.extend(outputs()),
            Role::Transparent if any => from_integers.extend(outputs()),
            _ if is_root || (is(id) && known && any) => {
                from_integers.extend(outputs());
                candidates.insert(id);
            }
            _ => {}
        }
    }
    let is_exact = |id: usize| {
        let node = &view.nodes[id];
        let floats = node.proto.input.iter().filter(|name| view.float(node.scope, name).is_some());
        let mut keys = floats.filter_map(|name| view.key(node.scope, name));
        keys.all(|key| constants.contains(&key) || from_integers.contains(&key))
    };
    // Of these, what ends in integers alone. Readers come after makers, so that one walk back is enough.
    let mut readers: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    let mut looked_through = BTreeSet::new();
    for id in (0..view.nodes.len()).rev() {
        let node = &view.nodes[id];
        let ends = |name: &String| {
            let read = readers.get(&(node.scope, name.as_str())).map_or(&[][..], Vec::as_slice);
            !outputs.contains(&(node.scope, name.as_str()))
                && !read.is_empty()
                && read.iter().all(|reader| {
                    found.contains(reader)
                        || looked_through.contains(reader)
                        || takes_as_shape(view, *reader, name)
                        || (is_border(view, *reader) && is_exact(*reader))
                })
        };
        let made = || node.proto.output.iter().filter(|o| !o.is_empty());
        let all_end = made().all(ends);
        // What a shape is computed from must be exact too, whoever else reads it.
        let feeds = made().any(|name| {
            let read = readers.get(&(node.scope, name.as_str())).map_or(&[][..], Vec::as_slice);
            read.iter().any(|reader| {
                found.contains(reader)
                    || looked_through.contains(reader)
                    || makes_integers(view, *reader)
                    || (is_border(view, *reader) && is_exact(*reader))
            })
        });
        if (all_end || feeds) && candidates.contains(&id) {
            found.insert(id);
        }
        if (all_end || feeds) && node.signature.role == Role::Transparent {
            looked_through.insert(id);
        }
        for key in node.proto.input.iter().filter_map(|name| view.key(node.scope, name)) {
            readers.entry(key).or_default().push(id);
        }
    }
    found
}

/// Does this node count, or compare, what it is given?
fn is_border(view: &View<'_>, reader: usize) -> bool {
    let proto = view.nodes[reader].proto;
    proto.domain().is_empty() && (proto.op_type() == "Range" || COMPARISONS.contains(&proto.op_type()))
}

/// Is this a Cast to integers?
fn makes_integers(view: &View<'_>, reader: usize) -> bool {
    let node = &view.nodes[reader];
    node.proto.op_type() == "Cast" && node.signature.role == Role::Reader
}

/// Does this node make integers of the value, or want FP32 of it anyway?
fn takes_as_shape(view: &View<'_>, reader: usize, name: &str) -> bool {
    let node = &view.nodes[reader];
    let wide = node.proto.input.iter().zip(&node.signature.inputs).filter(|(input, _)| *input == name);
    makes_integers(view, reader)
        || wide.clone().count() > 0 && wide.into_iter().all(|(_, slot)| *slot == Slot::Fixed)
}
