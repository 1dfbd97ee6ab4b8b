//! What differs between two lock files, for people.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::lock::{Lock, LockedToolchain};

/// A line for every field that differs, and for every block that is new or gone.
#[must_use]
pub fn lock_changes(old: &Lock, new: &Lock) -> Vec<String> {
    let toolchain = |t: &LockedToolchain| format!("toolchain {} {} on {}", t.kind, t.version, t.platform);
    let mut lines = Vec::new();
    compare(&mut lines, old.sources(), new.sources(), |s| format!("source `{}`", s.source));
    compare(&mut lines, old.toolchains(), new.toolchains(), toolchain);
    compare(&mut lines, old.engines(), new.engines(), |e| format!("engine `{}`", e.name));
    lines
}

/// Compares blocks of one kind, which are named by `id`.
fn compare<'a, T: Serialize + 'a>(
    lines: &mut Vec<String>,
    old: impl Iterator<Item = &'a T>,
    new: impl Iterator<Item = &'a T>,
    id: impl Fn(&T) -> String,
) {
    let old: BTreeMap<String, Fields> = old.map(|block| (id(block), fields(block))).collect();
    let new: BTreeMap<String, Fields> = new.map(|block| (id(block), fields(block))).collect();
    for (id, fields) in &new {
        let Some(before) = old.get(id) else {
            lines.push(format!("{id}: new"));
            continue;
        };
        let names: BTreeSet<&String> = before.keys().chain(fields.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != fields.get(*name)) {
            let text = |fields: &Fields| fields.get(name).cloned().unwrap_or_else(|| "nothing".to_owned());
            lines.push(format!("{id}: {name}: {} is now {}", text(before), text(fields)));
        }
    }
    lines.extend(old.keys().filter(|id| !new.contains_key(*id)).map(|id| format!("{id}: gone")));
}

type Fields = BTreeMap<String, String>;

/// The fields of a block as text, those of tables by dotted names.
fn fields(block: &impl Serialize) -> Fields {
    let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut fields = Fields::new();
    for (name, value) in toml::Table::try_from(block).unwrap_or_default() {
        match value {
            toml::Value::Table(table) => {
                fields.extend(table.iter().map(|(key, value)| (format!("{name}.{key}"), text(value))));
            }
            value => drop(fields.insert(name, text(&value))),
        }
    }
    fields
}
