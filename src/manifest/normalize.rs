//! From layers to settings: the merge order of the module doc, and one [`Candidate`] per engine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::BUILT_IN_REFERENCE;
use super::fields::Located;
use super::model::{BuildOptions, Engine, EngineName, Precision, Publish, Source, Target, Verify};
use super::text::toml_key;
use super::written::{BuildLayer, Common, Defaults, OnTarget, STD_FP16, Settings, Variant, VerifyLayer};
use crate::diagnostic::Origin;

/// A model with its source, whether it has a table of its own or comes from a glob.
#[derive(Debug)]
pub(super) struct Candidate<'d> {
    pub(super) name: String,
    pub(super) source: Located<Source>,
    pub(super) common: &'d Common,
    /// The glob that it comes from.
    pub(super) glob: Option<&'d str>,
    pub(super) origin: Origin,
}

impl Candidate<'_> {
    /// The model itself, then its variants.
    pub(super) fn builds(&self) -> impl Iterator<Item = (Option<&str>, Option<&Variant>)> {
        let variants = self.common.variants.iter().map(|(name, v)| (Some(name.as_str()), Some(&v.value)));
        std::iter::once((None, None)).chain(variants)
    }

    /// The engine of one variant for one target.
    pub(super) fn engine(
        &self,
        defaults: &Defaults,
        variant: Option<(&str, &Variant)>,
        target: &Target,
    ) -> Engine {
        let mut merged = defaults.settings.clone();
        let layers = [
            on(&defaults.on, &target.name),
            Some(&self.common.settings),
            variant.map(|(_, variant)| &variant.settings),
            on(&self.common.on, &target.name),
            variant.and_then(|(_, variant)| on(&variant.on, &target.name)),
        ];
        layers.into_iter().flatten().for_each(|layer| merged.overlay(layer));
        let name = EngineName {
            model: self.name.clone(),
            variant: variant.map(|(name, _)| name.to_owned()),
            target: target.name.clone(),
        };
        self.finish(name, target, merged)
    }

    /// Every default becomes explicit.
    fn finish(&self, name: EngineName, target: &Target, settings: Settings) -> Engine {
        let mut table = match self.glob {
            Some(glob) => format!("models.{}", toml_key(glob)),
            None => format!("model.{}", toml_key(&name.model)),
        };
        if let Some(variant) = &name.variant {
            table += &format!(".variant.{}", toml_key(variant));
        }
        let precision = settings.precision.unwrap_or(Precision::AsIs);
        let rule_sets = match settings.rule_sets {
            Some(sets) => sets.into_iter().map(|set| set.value).collect(),
            None if matches!(precision, Precision::Fp16 | Precision::Bf16) => vec![STD_FP16.to_owned()],
            None => Vec::new(),
        };
        Engine {
            name,
            source: self.source.value.clone(),
            target: target.clone(),
            opset: settings.opset,
            fuse: settings.fuse.unwrap_or_default(),
            precision,
            rule_sets,
            // Those of the sets are put before these when the sets are known to exist.
            rules: settings.own_rules,
            hazards: settings.hazards,
            tf32: settings.tf32.unwrap_or(false),
            profiles: settings.profiles.unwrap_or_default(),
            io: settings.io,
            operators: settings.operators,
            build: build_options(&settings.build),
            verify: settings.verify.map(verify),
            publish: settings.publish.unwrap_or(Publish::Link),
            table,
            is_from_glob: self.glob.is_some(),
            origin: self.origin.clone(),
            source_origin: self.source.origin.clone(),
        }
    }
}

fn on<'d>(layers: &'d OnTarget, target: &str) -> Option<&'d Settings> {
    layers.get(target).map(|(_, settings)| settings)
}

/// The targets of a model or variant; none if no layer gives any.
pub(super) fn targets<'d>(
    defaults: &'d Defaults,
    common: &'d Common,
    variant: Option<&'d Variant>,
) -> Option<&'d Vec<Located<String>>> {
    let of_variant = variant.and_then(|variant| variant.settings.targets.as_ref());
    of_variant.or(common.settings.targets.as_ref()).or(defaults.settings.targets.as_ref())
}

impl Settings {
    /// Puts a later layer over this one: tables merge by key, own rules are appended, all else is replaced.
    fn overlay(&mut self, later: &Settings) {
        fn replace<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        // No `..` here: a new setting must be given its place.
        let Settings {
            targets,
            opset,
            fuse,
            precision,
            rule_sets,
            own_rules,
            hazards,
            tf32,
            profiles,
            io,
            operators,
            build,
            verify,
            publish,
        } = later;
        replace(&mut self.targets, targets);
        replace(&mut self.opset, opset);
        replace(&mut self.fuse, fuse);
        replace(&mut self.precision, precision);
        replace(&mut self.rule_sets, rule_sets);
        self.own_rules.extend_from_slice(own_rules);
        extend(&mut self.hazards, hazards);
        replace(&mut self.tf32, tf32);
        replace(&mut self.profiles, profiles);
        extend(&mut self.io, io);
        extend(&mut self.operators, operators);
        extend(&mut self.build, build);
        replace(&mut self.publish, publish);
        match (&mut self.verify, verify) {
            (Some(old), Some(new)) => old.overlay(new),
            (old, new) => replace(old, new),
        }
    }
}

impl VerifyLayer {
    fn overlay(&mut self, later: &VerifyLayer) {
        fn replace<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        // No `..` here: a new setting must be given its place.
        let VerifyLayer {
            inputs,
            outputs,
            ignore_where,
            tolerance,
            output_tolerance,
            require,
            reference,
            timeout,
            origin,
            key_origins,
        } = later;
        replace(&mut self.inputs, inputs);
        replace(&mut self.outputs, outputs);
        extend(&mut self.ignore_where, ignore_where);
        extend(&mut self.tolerance, tolerance);
        for (output, metrics) in output_tolerance {
            extend(self.output_tolerance.entry(output.clone()).or_default(), metrics);
        }
        replace(&mut self.require, require);
        replace(&mut self.reference, reference);
        replace(&mut self.timeout, timeout);
        self.origin = origin.clone();
        extend(&mut self.key_origins, key_origins);
    }
}

fn extend<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, later: &BTreeMap<K, V>) {
    map.extend(later.iter().map(|(key, value)| (key.clone(), value.clone())));
}

fn build_options(layer: &BuildLayer) -> BuildOptions {
    let mut options = BuildOptions::default();
    layer.values().for_each(|option| option.apply(&mut options));
    options
}

/// Wall-clock limit of one measurement where none is given.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

fn verify(layer: VerifyLayer) -> Verify {
    Verify {
        inputs: layer.inputs.unwrap_or_else(VerifyLayer::default_inputs),
        outputs: layer.outputs.unwrap_or_default(),
        ignore_where: layer.ignore_where,
        tolerance: layer.tolerance,
        output_tolerance: layer.output_tolerance,
        require: layer.require,
        reference: layer.reference.map_or_else(|| BUILT_IN_REFERENCE.to_owned(), |name| name.value),
        timeout: layer.timeout.unwrap_or(MEASURE_TIMEOUT),
        origin: layer.origin,
        key_origins: layer.key_origins,
    }
}
