//! Why something is to be done: a type, with what was and what is. Text is made from it last.

use std::fmt;

use serde::Serialize;

use super::facts::{ModelRef, Previous};
use crate::digest::{Digest, FieldChange, Preimage, Value};
use crate::onnx::{Summary, TensorDigest};

/// A cause, nearest first in the lists that hold them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// No build of this engine is known.
    NeverBuilt,
    /// The key is that of the last build, and the cache does not hold its result (any more).
    ResultNotInCache,
    /// Another build of this engine is known by its key alone.
    InputsChanged {
        /// Key of the last build.
        old: Digest,
        /// Key of this one.
        new: Digest,
    },
    /// An input of the build differs.
    Field(FieldChange),
    /// The toolchain's files differ.
    Toolchain {
        /// Version of the last build.
        old: Option<String>,
        /// Version now.
        new: String,
        /// The files that differ.
        files: Vec<String>,
    },
    /// The model differs in tensors.
    Tensors {
        /// Those that differ, are new or are gone; the first few.
        names: Vec<String>,
        /// How many differ.
        changed: usize,
        /// How many there are.
        of: usize,
    },
    /// The model differs in its interface or its operators.
    Model {
        /// What differs: `dims of input \`x\``, `opset`, …
        what: String,
        /// What it was.
        old: String,
        /// What it is.
        new: String,
    },
    /// The model differs, in the nodes or attributes of its graph.
    Graph,
    /// The tool prepares models in another way than the one of the last build.
    PrepareVersion,
    /// Nothing is published under the name.
    NotPublished,
    /// Another engine is published.
    OtherPublished,
    /// The right engine is published, with a sidecar of names that the manifest had before.
    SidecarOutdated,
    /// What is published is not whole.
    PublishedBroken {
        /// What is wrong.
        what: String,
    },
    /// The source must be fetched before anything is known.
    SourceNotFetched,
    /// The toolchain must be fetched before anything is known.
    ToolchainNotFetched,
    /// The reference must be fetched before its accuracy is known.
    ReferenceNotFetched,
    /// Its accuracy is to be measured, for the first time or as far as this cache knows.
    NotMeasured {
        /// How many samples.
        samples: u64,
    },
    /// An input of the measurement differs.
    Measure(FieldChange),
    /// Another verdict than the published one follows from the same metrics.
    Judged {
        /// The published verdict.
        old: String,
        /// What it is now.
        new: String,
    },
    /// It is not accurate enough.
    Fails {
        /// The first tolerance that does not hold.
        what: String,
        /// How many more.
        more: usize,
    },
}

/// How many tensors are named.
pub(super) const MAX_NAMED: usize = 5;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NeverBuilt => f.write_str("never built"),
            Reason::ResultNotInCache => {
                f.write_str("same inputs as its last build, which this cache does not hold")
            }
            Reason::InputsChanged { old, new } => {
                write!(f, "inputs changed: build key {} is now {}", old.short(), new.short())
            }
            Reason::Field(change) => write_change(f, change),
            Reason::Toolchain { old, new, files } => {
                let old = old.as_deref().unwrap_or("another build");
                if old == new {
                    write!(f, "toolchain: version {new} with other files: {}", files.join(", "))
                } else {
                    write!(f, "toolchain: {old} is now {new}")
                }
            }
            Reason::Tensors { names, changed, of } => {
                let more = if *changed > names.len() { ", …" } else { "" };
                write!(f, "model: {changed} of {of} tensors differ: {}{more}", names.join(", "))
            }
            Reason::Model { what, old, new } => write!(f, "model: {what}: {old} is now {new}"),
            Reason::Graph => f.write_str("model: nodes or attributes of the graph differ"),
            Reason::PrepareVersion => {
                f.write_str("this version of enginewright prepares models in another way")
            }
            Reason::NotPublished => f.write_str("not published"),
            Reason::OtherPublished => f.write_str("another engine is published"),
            Reason::SidecarOutdated => {
                f.write_str("its sidecar has names that are no longer those of the manifest")
            }
            Reason::PublishedBroken { what } => f.write_str(what),
            Reason::SourceNotFetched => f.write_str("source not fetched"),
            Reason::ToolchainNotFetched => f.write_str("toolchain not fetched"),
            Reason::ReferenceNotFetched => f.write_str("reference not fetched"),
            Reason::NotMeasured { samples: 1 } => f.write_str("to be measured: 1 sample"),
            Reason::NotMeasured { samples } => write!(f, "to be measured: {samples} samples"),
            Reason::Measure(change) => {
                f.write_str("measure: ")?;
                write_change(f, change)
            }
            Reason::Judged { old, new } if old == new => f.write_str("judged by other tolerances"),
            Reason::Judged { old, new } => write!(f, "verdict: {old} is now {new}"),
            Reason::Fails { what, more: 0 } => f.write_str(what),
            Reason::Fails { what, more } => write!(f, "{what} (and {more} more)"),
        }
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &FieldChange) -> fmt::Result {
    let FieldChange { field, old, new } = change;
    match (old.as_ref().map(brief), new.as_ref().map(brief)) {
        (Some(old), Some(new)) => write!(f, "{field}: {old} is now {new}"),
        (None, Some(new)) => write!(f, "{field}: new, {new}"),
        (Some(old), None) => write!(f, "{field}: gone, was {old}"),
        (None, None) => write!(f, "{field}"),
    }
}

/// A value for one line of text: what a whole table holds is for `why`, which lists every field.
fn brief(value: &Value) -> String {
    match value {
        Value::Map(map) if map.len() == 1 => "1 entry".to_owned(),
        Value::Map(map) => format!("{} entries", map.len()),
        value => value.to_string(),
    }
}

/// What this build's inputs are, beside the last one's.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The build's inputs.
    pub build: &'a Preimage,
    /// The prepare action's inputs.
    pub prepare: &'a Preimage,
    /// The model.
    pub model: &'a ModelRef,
    /// Version of the toolchain.
    pub toolchain_version: &'a str,
}

/// Why the build has another key than the last one, nearest cause first.
///
/// `tensors` reads the tensor digests of a model; none if the cache does not hold them.
pub fn causes(
    now: Now<'_>,
    previous: &Previous,
    tensors: &mut dyn FnMut(&ModelRef) -> Option<Vec<TensorDigest>>,
) -> Vec<Reason> {
    let new_key = now.build.key();
    let Some(old_key) = previous.build_key else { return vec![Reason::NeverBuilt] };
    if old_key == new_key {
        return vec![Reason::ResultNotInCache];
    }
    let Some(old_build) = &previous.build else {
        return vec![Reason::InputsChanged { old: old_key, new: new_key }];
    };
    let mut reasons = Vec::new();
    let mut toolchain_files = Vec::new();
    for change in now.build.changes_since(old_build) {
        if change.field == "prepared" {
            reasons.extend(
                prepare_causes(now, previous, tensors).unwrap_or_else(|| vec![Reason::Field(change)]),
            );
        } else if let Some(file) = change.field.strip_prefix("toolchain.files.") {
            toolchain_files.push(file.to_owned());
        } else {
            reasons.push(Reason::Field(change));
        }
    }
    if !toolchain_files.is_empty() {
        reasons.push(Reason::Toolchain {
            old: previous.toolchain_version.clone(),
            new: now.toolchain_version.to_owned(),
            files: toolchain_files,
        });
    }
    reasons
}

fn prepare_causes(
    now: Now<'_>,
    previous: &Previous,
    tensors: &mut dyn FnMut(&ModelRef) -> Option<Vec<TensorDigest>>,
) -> Option<Vec<Reason>> {
    let old = previous.prepare.as_ref()?;
    let mut reasons = Vec::new();
    for change in now.prepare.changes_since(old) {
        match (change.field.as_str(), &previous.model) {
            ("model", Some(model)) => reasons.extend(model_causes(now.model, model, tensors)),
            ("version", _) => reasons.push(Reason::PrepareVersion),
            _ => reasons.push(Reason::Field(change)),
        }
    }
    // The version alone is a cause only if nothing else is.
    if reasons.len() > 1 {
        reasons.retain(|r| *r != Reason::PrepareVersion);
    }
    (!reasons.is_empty()).then_some(reasons)
}

fn model_causes(
    new: &ModelRef,
    old: &ModelRef,
    tensors: &mut dyn FnMut(&ModelRef) -> Option<Vec<TensorDigest>>,
) -> Vec<Reason> {
    let mut reasons = interface_changes(&new.summary, &old.summary);
    let mut only_tensors = false;
    if let (Some(new_tensors), Some(old_tensors)) = (tensors(new), tensors(old)) {
        let changed = changed_tensors(&new_tensors, &old_tensors);
        // Names and shapes are equal, so that the graph differs by these tensors' bytes at most.
        only_tensors = !changed.is_empty() && new.graph.size == old.graph.size;
        if !changed.is_empty() {
            reasons.push(Reason::Tensors {
                changed: changed.len(),
                of: new_tensors.len(),
                names: changed.into_iter().take(MAX_NAMED).collect(),
            });
        }
    }
    if reasons.is_empty() || (!only_tensors && matches!(reasons.as_slice(), [Reason::Tensors { .. }])) {
        reasons.push(Reason::Graph);
    }
    reasons
}

/// Names that differ, are new or are gone, sorted.
fn changed_tensors(new: &[TensorDigest], old: &[TensorDigest]) -> Vec<String> {
    use std::collections::BTreeMap;
    let by_name = |list: &[TensorDigest]| -> BTreeMap<String, Digest> {
        list.iter().map(|t| (t.name.clone(), t.digest)).collect()
    };
    let (new, old) = (by_name(new), by_name(old));
    let mut names: Vec<String> =
        new.iter().filter(|(name, digest)| old.get(*name) != Some(digest)).map(|(n, _)| n.clone()).collect();
    names.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned());
    names.sort();
    names
}

fn interface_changes(new: &Summary, old: &Summary) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut push = |what: String, old: String, new: String| {
        if old != new {
            reasons.push(Reason::Model { what, old, new });
        }
    };
    for (kind, new, old) in [("input", &new.inputs, &old.inputs), ("output", &new.outputs, &old.outputs)] {
        let list = |tensors: &[crate::onnx::Tensor]| {
            tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        push(format!("{kind}s"), list(old), list(new));
        for tensor in new {
            if let Some(before) = old.iter().find(|t| t.name == tensor.name) {
                push(
                    format!("{kind} `{}`", tensor.name),
                    super::profiles::show_dims(before),
                    super::profiles::show_dims(tensor),
                );
            }
        }
    }
    let opsets = |s: &Summary| {
        let domain = |domain: &str| if domain.is_empty() { "onnx" } else { domain }.to_owned();
        s.opsets.iter().map(|(d, v)| format!("{} {v}", domain(d))).collect::<Vec<_>>().join(", ")
    };
    push("opsets".to_owned(), opsets(old), opsets(new));
    let operators = |s: &Summary, other: &Summary| {
        let differing = s.operators.iter().filter(|(op, n)| other.operators.get(*op) != Some(n));
        differing.map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")
    };
    let (before, after) = (operators(old, new), operators(new, old));
    let none = |s: String| if s.is_empty() { "none".to_owned() } else { s };
    push("operators".to_owned(), none(before), none(after));
    reasons
}

/// A preimage's fields as lines `name: value`, for `why`.
#[must_use]
pub fn fields(preimage: &Preimage) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
        match value {
            Value::Map(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| walk(&format!("{path}.{name}"), value, lines));
            }
            Value::List(items) if items.iter().any(|i| matches!(i, Value::Map(_))) => {
                items.iter().enumerate().for_each(|(i, v)| walk(&format!("{path}[{i}]"), v, lines));
            }
            value => lines.push((path.to_owned(), value.to_string())),
        }
    }
    let mut lines = Vec::new();
    preimage.fields.iter().for_each(|(name, value)| walk(name, value, &mut lines));
    lines
}
