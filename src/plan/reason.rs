//! Why something is to be done: a type, with what was and what is. Text is made from it last.

use std::fmt;

use serde::Serialize;

use crate::digest::{Digest, FieldChange, Preimage, Value};
use crate::onnx::NodeChange;

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
    /// The model differs in nodes.
    Nodes {
        /// What differs; the first few.
        nodes: Vec<NodeChange>,
        /// How many differences there are.
        changed: usize,
    },
    /// The model differs in its graph, and this cache does not hold the one before.
    Graph,
    /// A rule differs in what it selects or gives, is new or is gone.
    Rule {
        /// Its name, if it is there.
        name: Option<String>,
        /// Its place in a manifest: `manifests/m.toml:12`; none for a built-in rule.
        place: Option<String>,
        /// What it was; none if it is new.
        old: Option<String>,
        /// What it is; none if it is gone.
        new: Option<String>,
    },
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

/// How many tensors or nodes are named.
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
                    write!(f, "toolchain: {old} is now {new}, in {}", files.join(", "))
                }
            }
            Reason::Tensors { names, changed, of } => {
                let more = if *changed > names.len() { ", …" } else { "" };
                write!(f, "model: {changed} of {of} initializers differ: {}{more}", names.join(", "))
            }
            Reason::Model { what, old, new } => write!(f, "model: {what}: {old} is now {new}"),
            Reason::Nodes { nodes, changed } => {
                let told: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                write!(f, "model: {}", told.join("; "))?;
                if *changed > nodes.len() {
                    write!(f, "; and {} more", changed - nodes.len())
                } else {
                    Ok(())
                }
            }
            Reason::Rule { name, place, old, new } => {
                let name = name.as_ref().map_or_else(|| "a rule".to_owned(), |name| format!("rule `{name}`"));
                let place = place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                match (old, new) {
                    (Some(old), Some(new)) => write!(f, "{name}{place}: {old} is now {new}"),
                    (None, Some(new)) => write!(f, "{name}{place}: new, {new}"),
                    (Some(old), None) => write!(f, "{name}{place}: gone, was {old}"),
                    (None, None) => f.write_str(&name),
                }
            }
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
