//! `--locked`: what would be used and made, held against the lock file.
//!
//! Every difference is an error that names its field. Two are none: the raw digests of a model whose canonical form is
//! the same, and the class of an engine, which grows with the evidence.

use std::collections::BTreeMap;

use super::decide::{Action, Planned};
use super::lock::{FILE_NAME, Lock, LockedEngine, LockedSource, LockedToolchain};
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;

/// What would be used, as lock file blocks, and what would be made.
#[derive(Debug)]
pub struct Present<'a> {
    /// The engines asked for.
    pub planned: &'a [Planned],
    /// The sources at hand.
    pub sources: &'a [LockedSource],
    /// The toolchains on this machine.
    pub toolchains: &'a [LockedToolchain],
    /// Digests of the engines that are published and current.
    pub published: &'a BTreeMap<String, Digest>,
    /// All engines that the manifests declare.
    pub declared: &'a [String],
}

/// What differs from the lock file.
#[must_use]
pub fn differences(lock: &Lock, present: &Present<'_>) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for source in present.sources {
        let what = format!("source `{}`", source.source);
        match lock.source(&source.source) {
            None => errors.push(missing(&what)),
            Some(locked) if locked.model != source.model => {
                errors.push(differs(&what, "model", &locked.model.to_string(), &source.model.to_string()));
            }
            Some(locked) => errors.extend(maps(&what, "packages", &locked.packages, &source.packages)),
        }
    }
    for toolchain in present.toolchains {
        let LockedToolchain { files, packages, .. } = toolchain;
        let what = toolchain.to_string();
        match lock.toolchain(toolchain) {
            None => errors.push(missing(&what)),
            Some(locked) => {
                errors.extend(maps(&what, "files", &locked.files, files));
                errors.extend(maps(&what, "packages", &locked.packages, packages));
            }
        }
    }
    for planned in present.planned {
        errors.extend(engine(lock, planned, present.published));
    }
    for locked in lock.engines().filter(|e| !present.declared.contains(&e.name)) {
        let message = format!("`{}` is in `{FILE_NAME}`, and no manifest declares it", locked.name);
        errors.push(difference(message));
    }
    errors
}

fn engine(lock: &Lock, planned: &Planned, published: &BTreeMap<String, Digest>) -> Option<Diagnostic> {
    if matches!(planned.action, Action::Error | Action::Unknown) {
        return None; // Told elsewhere, or not known before something is fetched.
    }
    let name = planned.name.to_string();
    let what = format!("engine `{name}`");
    let Some(locked) = lock.engine(&name) else { return Some(missing(&what)) };
    let keyed = planned.keyed.as_deref()?;
    let fields = [
        ("build", locked.build, keyed.build_key),
        ("prepare", locked.prepare, keyed.prepare.key()),
        ("prepared", locked.prepared, keyed.prepared.digest),
        ("model", locked.model, keyed.model),
    ];
    if let Some((field, old, new)) = fields.into_iter().find(|(_, old, new)| old != new) {
        let mut error = differs(&what, field, &old.to_string(), &new.to_string());
        error.notes.extend(planned.reasons.iter().map(ToString::to_string));
        return Some(error);
    }
    let engine = planned.built.as_ref().map(|b| b.engine.b3).or_else(|| published.get(&name).copied());
    engine.and_then(|engine| same_engine(locked, &engine).err())
}

/// Is it the very engine that the lock file names?
///
/// # Errors
/// It has other bytes.
pub fn same_engine(locked: &LockedEngine, engine: &Digest) -> Result<(), Diagnostic> {
    if locked.b3 == *engine {
        return Ok(());
    }
    let what = format!("engine `{}`", locked.name);
    let mut error = differs(&what, "b3", &locked.b3.to_string(), &engine.to_string());
    error.notes.push("its inputs are those of the lock file, and its bytes are others".to_owned());
    Err(error)
}

/// Is the verdict the one that the lock file holds?
///
/// # Errors
/// It is another.
pub fn same_verdict(locked: &LockedEngine, verdict: &str) -> Result<(), Diagnostic> {
    if locked.verdict == verdict {
        return Ok(());
    }
    Err(differs(&format!("engine `{}`", locked.name), "verdict", &locked.verdict, verdict))
}

fn maps<V: PartialEq + ToString>(
    what: &str,
    field: &str,
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
) -> Vec<Diagnostic> {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let text = |value: Option<&V>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| differs(what, &format!("{field}.{name}"), &text(old.get(name)), &text(new.get(name))))
        .collect()
}

fn missing(what: &str) -> Diagnostic {
    difference(format!("{what} is not in `{FILE_NAME}`"))
}

fn differs(what: &str, field: &str, old: &str, new: &str) -> Diagnostic {
    difference(format!("{what} is not what `{FILE_NAME}` says: {field}: {old} is now {new}"))
}

fn difference(message: String) -> Diagnostic {
    Diagnostic::error("locked", message)
        .help(format!("run `apply` without `--locked` and check `{FILE_NAME}` in, if this was meant"))
}
