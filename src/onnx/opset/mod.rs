//! A model written for an older opset becomes one for a newer opset that computes the same.
//!
//! The upgrade goes up one opset at a time: every node whose operator has a new version there is looked up in
//! `changes.txt` (through `changes`) and, unless it means the same, goes through an adapter (`adapters`), which sees
//! the node at its `site` and says what takes its place. Graph, subgraphs and
//! model-local functions are raised alike, each from its own opset.
//!
//! What an adapter cannot know for certain (a rank that is computed at run time, an attribute that the
//! caller of a function decides) it refuses. Nothing is guessed.
//!
//! Operators of other domains, and such in the default domain that ONNX never had (plugins), do not
//! depend on the opset and stay as they are.
//!
//! Only `fuse` asks for it today, and always for opset 17. The rows for newer opsets are held by tests alone.
//!
//! Invariants: every value of the model keeps its name; a node keeps its name, and nodes that an adapter adds
//! are called after it. The `doc_string` of a node goes to all nodes that take its place.

mod adapters;
mod changes;
mod site;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use self::changes::Change;
use self::site::{Facts, Site};
use super::graph::{GraphView, NodeRef};
use super::names::Names;
use super::patch::{self, Patch};
use super::proto::{ModelProto, OperatorSetIdProto};
use super::read::Model;
use super::schema::schema;
use super::{MAX_OPSET, subgraphs};

/// Does an operator of ONNX itself mean the same in two opsets?
pub(super) fn is_same(op: &str, a: i64, b: i64) -> bool {
    let since = |opset| schema("", op, opset).map(|schema| schema.since_version);
    // Of what changed before opset 7, nothing is written down.
    let between = (a.min(b) + 1)..=a.max(b);
    let same = |opset| matches!(changes::change(op, opset), None | Some(Change::Same));
    since(a).is_some() && (since(a) == since(b) || (*between.start() > 6 && between.into_iter().all(same)))
}

/// The oldest opset that is known how to raise.
pub const OLDEST: i64 = 6;

/// A node that cannot be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name; none if it is about the whole model.
    pub node: Option<String>,
    /// Its operator.
    pub op: String,
    /// The opset at which it would have to change.
    pub opset: i64,
    /// Why it cannot.
    pub why: String,
}

/// Operators that ONNX had as experiments, without versions, and took back.
const EXPERIMENTAL: [&str; 7] =
    ["ATen", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "Scale"];

/// Raises the opset of a model, and of those of its functions that are older, to `to`. A model that has it already,
/// or a newer one, is given back as it is.
///
/// # Errors
/// Every node that cannot be raised.
///
/// # Panics
/// If `to` is an opset that is not known.
pub fn upgrade(model: &Model, to: i64) -> Result<Model, Vec<Refused>> {
    assert!(to <= MAX_OPSET, "opset {to} is not known");
    let mut model = model.clone();
    let oldest = GraphView::new(&model.proto).scopes().iter().map(|scope| scope.opset).min().unwrap_or(to);
    if oldest < OLDEST.min(to) {
        let why = format!("the operators of opset {oldest} are not known");
        return Err(vec![Refused { node: None, op: String::new(), opset: oldest, why }]);
    }
    for opset in oldest + 1..=to {
        step(&mut model, opset)?;
    }
    model.proto.ir_version = Some(model.proto.ir_version().max(ir_version(to.min(own_opset(&model.proto)))));
    Ok(model)
}

/// Raises everything that has the opset before this one.
fn step(model: &mut Model, opset: i64) -> Result<(), Vec<Refused>> {
    let concerned = {
        let view = GraphView::new(&model.proto);
        let changes = |op| changes::change(op, opset).is_some() || EXPERIMENTAL.contains(&op);
        view.nodes().any(|(id, _)| changes(view.op(id)))
    };
    let mut refused = Vec::new();
    let mut names = if concerned { Names::new(&model.proto) } else { Names::default() };
    // Nodes with graphs in them come last: what takes their place holds those graphs as they are then.
    for with_graphs in [false, true].into_iter().filter(|_| concerned) {
        let view = GraphView::new(&model.proto);
        let facts = Facts { model, view: &view, shapes: OnceCell::new(), types: OnceCell::new() };
        let (patches, errors) = patches(&facts, opset, with_graphs, &mut names);
        refused.extend(errors);
        patch::apply(&mut model.proto, patches);
    }
    raise(&mut model.proto, opset);
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

fn patches(
    facts: &Facts<'_, '_>,
    opset: i64,
    with_graphs: bool,
    names: &mut Names,
) -> (BTreeMap<NodeRef, Patch>, Vec<Refused>) {
    let (mut patches, mut refused) = (BTreeMap::new(), Vec::new());
    let view = facts.view;
    for (id, node) in view.nodes() {
        let op = view.op(id);
        let has_graphs = subgraphs(node.proto).next().is_some();
        if view.scopes()[node.scope].opset != opset - 1 || op.is_empty() || has_graphs != with_graphs {
            continue;
        }
        let mut refuse = |why: String| {
            refused.push(Refused { node: Some(node.name.clone()), op: op.to_owned(), opset, why });
        };
        if EXPERIMENTAL.contains(&op) {
            refuse("it was an experiment that no opset has any more".to_owned());
            continue;
        }
        let Some(change) = changes::change(op, opset) else { continue };
        let mut site = Site::new(facts, id, names);
        let adapted = match change {
            Change::Same => Ok(()),
            Change::Adapt(adapter) => adapter(&mut site),
        };
        match adapted.and_then(|()| site.takes_its_inputs(opset)) {
            Ok(()) => {
                if let Some(patch) = site.patch() {
                    patches.insert(view.node_ref(id), patch);
                }
            }
            Err(why) => refuse(why),
        }
    }
    (patches, refused)
}

/// Says that what had the opset before this one has this one.
fn raise(proto: &mut ModelProto, opset: i64) {
    let bump = |imports: &mut Vec<OperatorSetIdProto>| {
        let own = imports.iter_mut().find(|import| matches!(import.domain(), "" | "ai.onnx"));
        if let Some(own) = own.filter(|own| own.version() == opset - 1) {
            own.version = Some(opset);
        }
    };
    bump(&mut proto.opset_import);
    proto.functions.iter_mut().for_each(|function| bump(&mut function.opset_import));
}

fn own_opset(proto: &ModelProto) -> i64 {
    let own = proto.opset_import.iter().find(|import| matches!(import.domain(), "" | "ai.onnx"));
    own.map_or(0, |import| import.version())
}

/// The IR version that came with an opset, or shortly before it.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        _ => 12,
    }
}
