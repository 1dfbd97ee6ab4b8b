//! The manifests as written: typed, spanned, merged from all files; no name resolved, no default filled in.

mod build;
mod profile;
mod rule;
mod settings;
mod source;
mod toolchain;
mod verify;

use std::collections::BTreeMap;

pub(super) use build::BuildLayer;
pub(super) use rule::STD_FP16;
pub(super) use settings::{Common, Glob, Model, Settings, Variant};
pub(super) use toolchain::{LocalToolchain, Target, Toolchain};
pub(super) use verify::VerifyLayer;

use super::codes;
use super::fields::{Fields, Item, Located, Sink, shown};
use super::model::Rule;
use super::text;
use super::tree::Node;
use crate::diagnostic::{Diagnostic, Origin};

/// The schema that this version reads.
const SCHEMA: i64 = 1;

/// A map of things that manifests declare.
pub(super) type Declared<T> = BTreeMap<String, T>;

/// Settings for single targets: `on.TARGET`, with the place of TARGET.
pub(super) type OnTarget = BTreeMap<String, (Origin, Settings)>;

/// What all files declare together.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) toolchains: Declared<Located<Toolchain>>,
    pub(super) local: Declared<Located<LocalToolchain>>,
    pub(super) targets: Declared<Located<Target>>,
    pub(super) rule_sets: Declared<Located<Vec<Rule>>>,
    pub(super) models: Declared<Located<Model>>,
    pub(super) globs: Declared<Located<Glob>>,
    pub(super) defaults: Declared<Located<Defaults>>,
    /// A file could not be read to its end: what it declares is not known, so nothing can be said to be
    /// missing.
    pub(super) incomplete: bool,
}

/// `[defaults]`
#[derive(Debug, Default)]
pub(super) struct Defaults {
    pub(super) settings: Settings,
    pub(super) on: OnTarget,
}

impl Document {
    /// Adds what a manifest declares.
    pub(super) fn add_manifest(&mut self, tree: &Node, sink: &Sink) {
        let root = Item::root(tree, sink);
        if !self.schema_is_known(&root, true) {
            return;
        }
        let keys: &[&str] = &["schema", "toolchain", "target", "rules", "model", "models", "defaults"];
        let Some(fields) = root.table(&[keys]) else { return };
        declare(&fields, "toolchain", &mut self.toolchains, toolchain::decode);
        declare(&fields, "target", &mut self.targets, toolchain::decode_target);
        declare(&fields, "rules", &mut self.rule_sets, rule::decode_set);
        declare(&fields, "model", &mut self.models, settings::decode_model);
        declare(&fields, "models", &mut self.globs, settings::decode_glob);
        if let Some(item) = fields.get("defaults") {
            let defaults = settings::decode_defaults(&item).unwrap_or_default();
            insert(&mut self.defaults, "defaults", &item, defaults);
        }
    }

    /// Adds `enginewright.local.toml`, which may say where toolchains are on this machine and nothing else.
    pub(super) fn add_local(&mut self, tree: &Node, sink: &Sink) {
        let root = Item::root(tree, sink);
        if !self.schema_is_known(&root, false) {
            return;
        }
        let Some(fields) = root.table(&[&["schema", "toolchain"]]) else { return };
        declare(&fields, "toolchain", &mut self.local, toolchain::decode_local);
    }

    fn schema_is_known(&mut self, root: &Item<'_>, required: bool) -> bool {
        // Read before the other keys are judged: those of another schema are not wrong, only unknown here.
        let Some(entries) = root.entries() else { return false };
        let Some((_, item)) = entries.into_iter().find(|(name, _)| name == "schema") else {
            if required {
                let file = &root.origin().file;
                let error = Diagnostic::error(codes::MISSING_KEY, "the manifest has no `schema`");
                root.report(
                    error.in_file(&file.path).help(format!("add `schema = {SCHEMA}` as the first line")),
                );
            }
            return true;
        };
        let schema: Option<i64> = item.integer(i64::MIN..=i64::MAX);
        if schema == Some(SCHEMA) {
            return true;
        }
        self.incomplete = true;
        if let Some(schema) = schema {
            let message = format!("`schema = {schema}` is unknown; this version reads `schema = {SCHEMA}`");
            let error = Diagnostic::error(codes::SCHEMA, message).at(item.origin(), "");
            item.report(if schema > SCHEMA { error.help("upgrade enginewright") } else { error });
        }
        false
    }
}

/// Reads every `[KIND.NAME]`. What cannot be read is declared all the same, so that its users are not
/// told that it does not exist.
fn declare<T: Default>(
    fields: &Fields<'_>,
    kind: &str,
    into: &mut Declared<Located<T>>,
    decode: impl Fn(&str, &Item<'_>) -> Option<T>,
) {
    let Some(entries) = fields.get(kind).and_then(|item| item.entries()) else { return };
    for (name, item) in entries {
        check_name(&name, &item);
        let value = decode(&name, &item).unwrap_or_default();
        insert(into, &name, &item, value);
    }
}

fn insert<T>(into: &mut Declared<Located<T>>, name: &str, item: &Item<'_>, value: T) {
    if let Some(first) = into.get(name) {
        let message = format!("`{}` is defined twice", shown(&item.path));
        let error = Diagnostic::error(codes::DUPLICATE_NAME, message).at(item.key, "defined again");
        let error = error.see(&first.origin, "first defined here");
        item.report(error.help("rename one of the two, or remove it: all manifests are read as one"));
        return;
    }
    into.insert(name.to_owned(), Located { value, origin: item.key.clone() });
}

/// Reports a key that is no name.
fn check_name(name: &str, item: &Item<'_>) {
    if let Err(bad) = text::name(name) {
        let error =
            Diagnostic::error(bad.code, format!("`{}` {}", shown(name), bad.message)).at(item.key, "");
        item.report(if bad.help.is_empty() { error } else { error.help(bad.help) });
    }
}

/// Names in a list, each once.
fn unique_names(item: &Item<'_>) -> Vec<Located<String>> {
    let mut names: Vec<Located<String>> = Vec::new();
    for entry in item.list().unwrap_or_default() {
        let Some(name) = entry.text() else { continue };
        match names.iter().find(|first| first.value == name) {
            Some(first) => entry.report(duplicate_item(&entry, &name, &first.origin)),
            None => names.push(entry.located(name)),
        }
    }
    names
}

fn duplicate_item(item: &Item<'_>, what: &str, first: &Origin) -> Diagnostic {
    let message = format!("`{}` is in its list twice", shown(what));
    let error = Diagnostic::error(codes::DUPLICATE_ITEM, message).at(item.origin(), "again");
    error.see(first, "first here")
}
