//! Why a key is another than before: two preimages compared, and what is behind their digests.

use super::facts::{ModelRef, Previous};
use super::reason::{MAX_NAMED, Reason};
use crate::digest::{Digest, Preimage, Value};
use crate::onnx::{NodeChange, Summary, TensorDigest};

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
    /// The precision rules in the order of their fields.
    pub rules: &'a [NamedRule],
}

/// What a precision rule is called, and where it stands: neither is in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRule {
    /// Its name.
    pub name: String,
    /// `manifests/m.toml:12`; none for a built-in rule.
    pub place: Option<String>,
}

/// What is kept of models, as far as it is.
pub trait Models {
    /// Digests of the tensors of a model.
    fn tensors(&mut self, model: &ModelRef) -> Option<Vec<TensorDigest>>;

    /// What differs between the nodes of two models.
    fn nodes(&mut self, old: &ModelRef, new: &ModelRef) -> Option<Vec<NodeChange>>;
}

/// Why the build has another key than the last one, nearest cause first.
pub fn causes(now: Now<'_>, previous: &Previous, models: &mut dyn Models) -> Vec<Reason> {
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
            reasons
                .extend(prepare_causes(now, previous, models).unwrap_or_else(|| vec![Reason::Field(change)]));
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
    // Another precision brings and takes away fields of its own, and tables show the first few causes alone.
    reasons.sort_by_key(|reason| !matches!(reason, Reason::Field(change) if change.field == "precision"));
    reasons
}

fn prepare_causes(now: Now<'_>, previous: &Previous, models: &mut dyn Models) -> Option<Vec<Reason>> {
    let old = previous.prepare.as_ref()?;
    let mut reasons = Vec::new();
    for change in now.prepare.changes_since(old) {
        match (change.field.as_str(), &previous.model) {
            ("model", Some(model)) => reasons.extend(model_causes(now.model, model, models)),
            ("version", _) => reasons.push(Reason::PrepareVersion),
            // Told below: a rule that is put before others does not change these.
            (field, _) if is_rule(field) => {}
            _ => reasons.push(Reason::Field(change)),
        }
    }
    reasons.extend(rule_causes(now, old));
    // The version alone is a cause only if nothing else is.
    if reasons.len() > 1 {
        reasons.retain(|r| *r != Reason::PrepareVersion);
    }
    (!reasons.is_empty()).then_some(reasons)
}

/// The field of one rule: `rules.001`. (`rules.std-fp16` is the version of the built-in set.)
fn is_rule(field: &str) -> bool {
    field.strip_prefix("rules.").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// The rules that differ, between those that are the same at both ends of the list.
fn rule_causes(now: Now<'_>, old: &Preimage) -> Vec<Reason> {
    let texts = |preimage: &Preimage| -> Option<Vec<String>> {
        let Some(Value::Map(rules)) = preimage.fields.get("rules") else { return None };
        let rules = rules.iter().filter(|(number, _)| is_rule(&format!("rules.{number}")));
        Some(rules.map(|(_, text)| text.to_string()).collect())
    };
    // No rules at all on one side is another precision, which is told as a field.
    let (Some(old), Some(new)) = (texts(old), texts(now.prepare)) else { return Vec::new() };
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let rule = |i: usize| {
        let named = new.get(i).and_then(|_| now.rules.get(head + i));
        Reason::Rule {
            name: named.map(|rule| rule.name.clone()),
            place: named.and_then(|rule| rule.place.clone()),
            old: old.get(i).cloned(),
            new: new.get(i).cloned(),
        }
    };
    (0..old.len().max(new.len())).map(rule).collect()
}

fn model_causes(new: &ModelRef, old: &ModelRef, models: &mut dyn Models) -> Vec<Reason> {
    let mut reasons = interface_changes(&new.summary, &old.summary);
    let mut is_told = !reasons.is_empty();
    if let (Some(new_tensors), Some(old_tensors)) = (models.tensors(new), models.tensors(old)) {
        let changed = changed_tensors(&new_tensors, &old_tensors);
        // Names and shapes are equal, so that the graph differs by these tensors' bytes at most.
        is_told |= !changed.is_empty() && new.graph.size == old.graph.size;
        if !changed.is_empty() {
            reasons.push(Reason::Tensors {
                changed: changed.len(),
                of: new_tensors.len(),
                names: changed.into_iter().take(MAX_NAMED).collect(),
            });
        }
    }
    if new.graph.b3 != old.graph.b3 {
        match models.nodes(old, new) {
            Some(nodes) if !nodes.is_empty() => {
                // Nodes say more than their number by operator.
                reasons.retain(|reason| !matches!(reason, Reason::Model { what, .. } if what == OPERATORS));
                let (changed, nodes) = (nodes.len(), nodes.into_iter().take(MAX_NAMED).collect());
                reasons.push(Reason::Nodes { nodes, changed });
            }
            // Something beside nodes, tensors and interface, such as the version of the format.
            Some(_) if reasons.is_empty() => reasons.push(Reason::Graph),
            Some(_) => {}
            None if !is_told => reasons.push(Reason::Graph),
            None => {}
        }
    }
    reasons
}

/// What differs if the number of nodes of some operator does.
const OPERATORS: &str = "operators";

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
    push("IR version".to_owned(), old.ir_version.to_string(), new.ir_version.to_string());
    push("opsets".to_owned(), opsets(old), opsets(new));
    let operators = |s: &Summary, other: &Summary| {
        let differing = s.operators.iter().filter(|(op, n)| other.operators.get(*op) != Some(n));
        differing.map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")
    };
    let (before, after) = (operators(old, new), operators(new, old));
    let none = |s: String| if s.is_empty() { "none".to_owned() } else { s };
    push(OPERATORS.to_owned(), none(before), none(after));
    reasons
}
