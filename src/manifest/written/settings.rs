//! What models, variants, `on` tables and defaults have in common, and what sets them apart.

use std::collections::{BTreeMap, BTreeSet};

use super::super::codes;
use super::super::fields::{Fields, Item, Located, alternatives, shown};
use super::super::hazards::{HAZARDS, HazardLevel, hazard};
use super::super::model::{Fuse, IoType, OpsetRequirement, Precision, Profile, Publish, Rule, Source};
use super::super::text;
use super::{
    BuildLayer, Defaults, OnTarget, VerifyLayer, build, check_name, profile, rule, source, unique_names,
    verify,
};
use crate::diagnostic::{Diagnostic, nearest};

/// Keys that every layer takes.
const SETTINGS: &[&str] = &[
    "opset",
    "fuse",
    "precision",
    "rules",
    "hazards",
    "tf32",
    "rule",
    "profile",
    "io",
    "operators",
    "build",
    "verify",
    "publish",
];

/// One layer of settings: what is not given is left to the layers below.
#[derive(Clone, Debug, Default)]
pub(in crate::manifest) struct Settings {
    pub(in crate::manifest) targets: Option<Vec<Located<String>>>,
    pub(in crate::manifest) opset: Option<OpsetRequirement>,
    pub(in crate::manifest) fuse: Option<BTreeSet<Fuse>>,
    pub(in crate::manifest) precision: Option<Precision>,
    pub(in crate::manifest) rule_sets: Option<Vec<Located<String>>>,
    pub(in crate::manifest) own_rules: Vec<Rule>,
    pub(in crate::manifest) hazards: BTreeMap<String, HazardLevel>,
    pub(in crate::manifest) tf32: Option<bool>,
    pub(in crate::manifest) profiles: Option<Vec<Profile>>,
    pub(in crate::manifest) io: BTreeMap<String, IoType>,
    pub(in crate::manifest) operators: BTreeMap<String, Vec<IoType>>,
    pub(in crate::manifest) build: BuildLayer,
    pub(in crate::manifest) verify: Option<VerifyLayer>,
    pub(in crate::manifest) publish: Option<Publish>,
}

/// `[model.X]`
#[derive(Debug, Default)]
pub(in crate::manifest) struct Model {
    pub(in crate::manifest) source: Option<Located<Source>>,
    pub(in crate::manifest) common: Common,
}

/// `[models.X]`
#[derive(Debug, Default)]
pub(in crate::manifest) struct Glob {
    /// The pattern as written, relative to its file.
    pub(in crate::manifest) pattern: Option<Located<String>>,
    pub(in crate::manifest) common: Common,
}

/// What `[model.X]` and `[models.X]` share.
#[derive(Clone, Debug, Default)]
pub(in crate::manifest) struct Common {
    pub(in crate::manifest) settings: Settings,
    pub(in crate::manifest) on: OnTarget,
    pub(in crate::manifest) variants: BTreeMap<String, Located<Variant>>,
}

/// `[model.X.variant.V]`
#[derive(Clone, Debug, Default)]
pub(in crate::manifest) struct Variant {
    pub(in crate::manifest) settings: Settings,
    pub(in crate::manifest) on: OnTarget,
}

pub(super) fn decode_model(_name: &str, item: &Item<'_>) -> Option<Model> {
    let fields = item.table(&[SETTINGS, &["source", "targets", "variant", "on"]])?;
    let source =
        fields.required("source", "source = { path = \"…\" }").and_then(|source| source::decode(&source));
    Some(Model { source, common: decode_common(&fields) })
}

pub(super) fn decode_glob(_name: &str, item: &Item<'_>) -> Option<Glob> {
    let fields = item.table(&[SETTINGS, &["glob", "targets", "variant", "on"]])?;
    let pattern = fields.required("glob", "glob = \"../models/*.onnx\"");
    let pattern = pattern.and_then(|pattern| Some(pattern.located(pattern.text()?)));
    Some(Glob { pattern, common: decode_common(&fields) })
}

pub(super) fn decode_defaults(item: &Item<'_>) -> Option<Defaults> {
    let fields = item.table(&[SETTINGS, &["targets", "on"]])?;
    Some(Defaults { settings: decode_settings(&fields, true), on: decode_on(&fields) })
}

fn decode_common(fields: &Fields<'_>) -> Common {
    let mut variants = BTreeMap::new();
    for (name, entry) in fields.get("variant").and_then(|item| item.entries()).unwrap_or_default() {
        check_name(&name, &entry);
        let Some(fields) = entry.table(&[SETTINGS, &["targets", "on"]]) else { continue };
        let value = Variant { settings: decode_settings(&fields, true), on: decode_on(&fields) };
        variants.insert(name, Located { value, origin: entry.key.clone() });
    }
    Common { settings: decode_settings(fields, true), on: decode_on(fields), variants }
}

fn decode_on(fields: &Fields<'_>) -> OnTarget {
    let mut on = OnTarget::new();
    for (target, entry) in fields.get("on").and_then(|item| item.entries()).unwrap_or_default() {
        let Some(fields) = entry.table(&[SETTINGS]) else { continue };
        on.insert(target, (entry.key.clone(), decode_settings(&fields, false)));
    }
    on
}

fn decode_settings(fields: &Fields<'_>, with_targets: bool) -> Settings {
    let precisions = [Precision::AsIs, Precision::Fp32, Precision::Fp16, Precision::Bf16];
    let publish = [Publish::Link, Publish::Copy];
    Settings {
        targets: with_targets.then(|| fields.get("targets")).flatten().map(|item| targets(&item)),
        opset: fields.get("opset").and_then(|item| opset(&item)),
        fuse: fields.get("fuse").map(|item| fuse(&item)),
        precision: fields.get("precision").and_then(|item| item.word(&precisions.map(|p| (p.name(), p)))),
        rule_sets: fields.get("rules").map(|item| unique_names(&item)),
        own_rules: fields.get("rule").and_then(|item| rule::decode_list(&item)).unwrap_or_default(),
        hazards: fields.get("hazards").map(|item| hazards(&item)).unwrap_or_default(),
        tf32: fields.get("tf32").and_then(|item| item.boolean()),
        profiles: fields.get("profile").and_then(|item| profile::decode_list(&item)),
        io: fields.get("io").and_then(|item| build::decode_io(&item)).unwrap_or_default(),
        operators: fields
            .get("operators")
            .and_then(|item| build::decode_operators(&item))
            .unwrap_or_default(),
        build: fields.get("build").and_then(|item| build::decode(&item)).unwrap_or_default(),
        verify: fields.get("verify").and_then(|item| verify::decode(&item)),
        publish: fields.get("publish").and_then(|item| item.word(&publish.map(|p| (p.name(), p)))),
    }
}

fn targets(item: &Item<'_>) -> Vec<Located<String>> {
    let targets = unique_names(item);
    if item.list().is_some_and(|items| items.is_empty()) {
        item.fail(codes::EMPTY_VALUE, format!("`{}` is empty: nothing would be built", shown(&item.path)));
    }
    targets
}

fn opset(item: &Item<'_>) -> Option<OpsetRequirement> {
    if item.is_integer() {
        let exact: i64 = item.integer(1..=1000)?;
        return Some(OpsetRequirement { min: exact, max: Some(exact) });
    }
    item.parsed(text::opset)
}

fn fuse(item: &Item<'_>) -> BTreeSet<Fuse> {
    let items = item.list().unwrap_or_default();
    items.iter().filter_map(|item| item.word(&[("layer-norm", Fuse::LayerNorm)])).collect()
}

/// Levels by code. What is found is judged by them long after, so that a code which does not exist would be
/// believed in silence.
fn hazards(item: &Item<'_>) -> BTreeMap<String, HazardLevel> {
    let mut levels = BTreeMap::new();
    for (code, entry) in item.entries().unwrap_or_default() {
        if hazard(&code).is_none() {
            let codes = || HAZARDS.iter().map(|hazard| hazard.code);
            let message = format!("there is no hazard `{}`", shown(&code));
            let error = Diagnostic::error(codes::UNKNOWN_HAZARD, message).at(entry.key, "");
            entry.report(match nearest(&code, codes()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error.note(format!("hazards are {}", alternatives(codes()))),
            });
        }
        levels.extend(entry.word(&HazardLevel::WORDS).map(|level| (code, level)));
    }
    levels
}
