//! From what is written to what is valid: names resolved, globs expanded, engines listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::{Located, Sink, alternatives, normalize_lexically, shown};
use super::model::{Engine, Manifest, Source, Target, Toolchain, ToolchainKind};
use super::normalize::{Candidate, targets};
use super::trtexec::GpuIdentity;
use super::written::{self, Common, Declared, Defaults, Document, OnTarget, STD_FP16, Settings, Variant};
use super::{
    BUILT_IN_REFERENCE, BUILT_IN_TOOLCHAIN, DEFAULT_ONNXRUNTIME_VERSION, DEFAULT_TENSORRT_RTX_VERSION, codes,
    glob, text,
};
use crate::diagnostic::{Diagnostic, Origin, SourceFile, nearest};

/// Resolves everything. The result holds only if nothing in `sink` is an error.
pub(super) fn validate(
    root: PathBuf,
    files: Vec<Arc<SourceFile>>,
    document: &Document,
    env_roots: &BTreeMap<String, PathBuf>,
    sink: &Sink,
) -> Manifest {
    let check = Check { document, sink };
    let toolchains = check.toolchains(&root, env_roots);
    let targets = check.targets(&toolchains);
    check.references();
    let candidates = check.candidates();
    let engines = check.engines(&candidates, &targets);
    Manifest { root, files, toolchains, targets, engines }
}

struct Check<'d> {
    document: &'d Document,
    sink: &'d Sink,
}

impl<'d> Check<'d> {
    /// Reports a name that nothing declares, unless a file that might declare it could not be read.
    fn unknown<'n>(
        &self,
        code: &'static str,
        kind: &str,
        name: &str,
        origin: &Origin,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        if self.document.incomplete {
            return;
        }
        let error = Diagnostic::error(code, format!("there is no {kind} `{}`", shown(name))).at(origin, "");
        let error = match nearest(name, known.clone()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None if known.clone().next().is_none() => error.note(format!("no {kind} is defined")),
            None => error.note(format!("defined are {}", alternatives(known))),
        };
        self.sink.push(error);
    }

    fn toolchains(&self, root: &Path, env_roots: &BTreeMap<String, PathBuf>) -> BTreeMap<String, Toolchain> {
        let mut toolchains = BTreeMap::new();
        let built_in = [
            (BUILT_IN_TOOLCHAIN, ToolchainKind::TensorrtRtx, DEFAULT_TENSORRT_RTX_VERSION),
            (BUILT_IN_REFERENCE, ToolchainKind::Onnxruntime, DEFAULT_ONNXRUNTIME_VERSION),
        ];
        for (name, kind, version) in built_in {
            if !self.document.toolchains.contains_key(name) {
                toolchains.insert(name.to_owned(), built_in_toolchain(name, kind, version));
            }
        }
        for (name, Located { value, origin }) in &self.document.toolchains {
            let toolchain = Toolchain {
                name: name.clone(),
                // A kind that could not be read was reported; nothing is expected of this one.
                kind: value.kind.unwrap_or(ToolchainKind::Trtexec),
                version: value.version.as_ref().map(|version| version.value.clone()),
                root: value.root.clone(),
                runner: value.runner.clone(),
                origin: origin.clone(),
            };
            toolchains.insert(name.clone(), toolchain);
        }
        for (name, Located { value, origin }) in &self.document.local {
            match toolchains.get_mut(name) {
                Some(toolchain) => {
                    toolchain.root = value.root.clone().or(toolchain.root.take());
                    toolchain.runner = value.runner.clone().unwrap_or(std::mem::take(&mut toolchain.runner));
                }
                None => {
                    let known = toolchains.keys().map(String::as_str);
                    self.unknown(codes::UNKNOWN_TOOLCHAIN, "toolchain", name, origin, known);
                }
            }
        }
        for (variable, path) in env_roots {
            let mut of_variable =
                toolchains.values_mut().filter(|t| text::variable_part(&t.name) == *variable);
            // A variable may be meant for another project: nothing is said if no toolchain has its name.
            let Some(first) = of_variable.next() else { continue };
            first.root = Some(normalize_lexically(&root.join(path)));
            if let Some(second) = of_variable.next() {
                let message = format!("`ENGINEWRIGHT_ROOT_{variable}` is set and names two toolchains");
                let error = Diagnostic::error(codes::AMBIGUOUS_VARIABLE, message);
                let error = error.at(&second.origin, "one").see(&first.origin, "the other");
                self.sink.push(error.help("rename one of them, or use `enginewright.local.toml`"));
            }
        }
        toolchains.values_mut().for_each(|toolchain| self.complete_version(toolchain));
        toolchains
    }

    /// A toolchain without a root is fetched: that takes a whole version.
    fn complete_version(&self, toolchain: &mut Toolchain) {
        let (name, parts, default) = match toolchain.kind {
            ToolchainKind::TensorrtRtx => ("TensorRT-RTX", 4, DEFAULT_TENSORRT_RTX_VERSION),
            ToolchainKind::Onnxruntime => ("ONNX Runtime", 3, DEFAULT_ONNXRUNTIME_VERSION),
            ToolchainKind::Trtexec => return,
        };
        if toolchain.root.is_some() {
            return;
        }
        let version = toolchain.version.get_or_insert_with(|| default.to_owned());
        let written = self.document.toolchains.get(&toolchain.name).and_then(|t| t.value.version.as_ref());
        if let Some(written) = written.filter(|_| version.split('.').count() != parts) {
            let message = format!("`{version}` is not a whole version of {name}");
            let error = Diagnostic::error(codes::BAD_FORMAT, message).at(&written.origin, "");
            let numbers = if parts == 4 { "four" } else { "three" };
            let help = format!("write all {numbers} numbers, such as `{default}`, or set `root`");
            self.sink.push(error.help(help));
        }
    }

    fn targets(&self, toolchains: &BTreeMap<String, Toolchain>) -> BTreeMap<String, Target> {
        let mut targets = BTreeMap::new();
        for (name, Located { value, origin }) in &self.document.targets {
            let toolchain = match &value.toolchain {
                Some(toolchain) => {
                    let found = toolchains.get(&toolchain.value);
                    if let Some(ToolchainKind::Onnxruntime) = found.map(|found| found.kind) {
                        let message = format!("toolchain `{}` builds no engines", toolchain.value);
                        let error = Diagnostic::error(codes::UNKNOWN_TOOLCHAIN, message);
                        let error = error.at(&toolchain.origin, "it computes the reference of `verify`");
                        self.sink.push(error.help("name a toolchain of `kind = \"tensorrt-rtx\"`"));
                    } else if found.is_none() {
                        let known = toolchains.keys().map(String::as_str);
                        let (name, origin) = (&toolchain.value, &toolchain.origin);
                        self.unknown(codes::UNKNOWN_TOOLCHAIN, "toolchain", name, origin, known);
                    }
                    toolchain.value.clone()
                }
                None => BUILT_IN_TOOLCHAIN.to_owned(),
            };
            let target = Target {
                name: name.clone(),
                sms: value.sms.clone(),
                gpu: value.gpu.clone(),
                gpu_identity: self.gpu_identity(value, toolchains.get(&toolchain)),
                toolchain,
                origin: origin.clone(),
            };
            targets.insert(name.clone(), target);
        }
        targets
    }

    /// What of the GPU decides an engine: said only where one builds.
    fn gpu_identity(&self, target: &written::Target, toolchain: Option<&Toolchain>) -> GpuIdentity {
        let Some(identity) = &target.gpu_identity else { return GpuIdentity::Model };
        if let Some(toolchain) = toolchain.filter(|toolchain| toolchain.kind != ToolchainKind::Trtexec) {
            let message = format!("`gpu-identity` means nothing to toolchain `{}`", toolchain.name);
            let error = Diagnostic::error(codes::CONFLICTING_KEYS, message).at(&identity.origin, "");
            let help = "it builds without a GPU; remove the key, or name a toolchain of `kind = \"trtexec\"`";
            self.sink.push(error.help(help));
        }
        identity.value
    }

    /// Holds every name in every layer against what is declared, once.
    fn references(&self) {
        for Located { value: defaults, .. } in self.document.defaults.values() {
            self.settings(&defaults.settings);
            self.on(&defaults.on);
        }
        for (path, common, origin) in self.commons() {
            self.settings(&common.settings);
            self.on(&common.on);
            common.variants.values().for_each(|variant| {
                self.settings(&variant.value.settings);
                self.on(&variant.value.on);
            });
            self.used_overrides(common);
            self.has_targets(&path, common, origin);
        }
    }

    /// Models and globs, with their paths for messages.
    fn commons(&self) -> impl Iterator<Item = (String, &'d Common, &'d Origin)> {
        let (models, globs) = (&self.document.models, &self.document.globs);
        let models = models.iter().map(|(name, m)| (format!("model.{name}"), &m.value.common, &m.origin));
        models.chain(globs.iter().map(|(name, g)| (format!("models.{name}"), &g.value.common, &g.origin)))
    }

    fn settings(&self, settings: &Settings) {
        for target in settings.targets.iter().flatten() {
            self.target(&target.value, &target.origin);
        }
        if let Some(reference) = settings.verify.as_ref().and_then(|verify| verify.reference.as_ref()) {
            self.reference(reference);
        }
        for set in settings.rule_sets.iter().flatten() {
            if set.value != STD_FP16 && !self.document.rule_sets.contains_key(&set.value) {
                let known = self.document.rule_sets.keys().map(String::as_str).chain([STD_FP16]);
                self.unknown(codes::UNKNOWN_RULE_SET, "rule set", &set.value, &set.origin, known);
            }
        }
    }

    /// The reference of a verification must be a toolchain of its kind.
    fn reference(&self, named: &Located<String>) {
        if named.value == BUILT_IN_REFERENCE && !self.document.toolchains.contains_key(BUILT_IN_REFERENCE) {
            return;
        }
        let known = || self.document.toolchains.keys().map(String::as_str).chain([BUILT_IN_REFERENCE]);
        match self.document.toolchains.get(&named.value) {
            None => self.unknown(codes::UNKNOWN_TOOLCHAIN, "toolchain", &named.value, &named.origin, known()),
            Some(found) if found.value.kind.is_some_and(|kind| kind != ToolchainKind::Onnxruntime) => {
                let message = format!("toolchain `{}` computes no reference", shown(&named.value));
                let error = Diagnostic::error(codes::UNKNOWN_TOOLCHAIN, message).at(&named.origin, "");
                self.sink.push(error.help("name a toolchain of `kind = \"onnxruntime\"`, or leave it out"));
            }
            Some(_) => {}
        }
    }

    fn target(&self, name: &str, origin: &Origin) {
        if !self.document.targets.contains_key(name) {
            let known = self.document.targets.keys().map(String::as_str);
            self.unknown(codes::UNKNOWN_TARGET, "target", name, origin, known);
        }
    }

    fn on(&self, on: &OnTarget) {
        for (target, (origin, settings)) in on {
            self.target(target, origin);
            self.settings(settings);
        }
    }

    fn defaults(&self) -> Option<&'d Defaults> {
        self.document.defaults.values().next().map(|defaults| &defaults.value)
    }

    /// Reports a model or variant for which no layer names a target.
    fn has_targets(&self, path: &str, common: &Common, origin: &Origin) {
        let empty = Defaults::default();
        let defaults = self.defaults().unwrap_or(&empty);
        if targets(defaults, common, None).is_none() && !self.document.incomplete {
            let error = Diagnostic::error(codes::MISSING_KEY, format!("`{}` has no `targets`", shown(path)));
            let error = error.at(origin, "`targets` is missing");
            self.sink.push(error.help("add `targets = [\"…\"]` here or in `[defaults]`"));
        }
    }

    fn used_overrides(&self, common: &Common) {
        let empty = Defaults::default();
        let defaults = self.defaults().unwrap_or(&empty);
        let of = |variant: Option<&'_ Variant>| -> BTreeSet<String> {
            let targets = targets(defaults, common, variant);
            targets.into_iter().flatten().map(|target| target.value.clone()).collect()
        };
        let mut all = of(None);
        for variant in common.variants.values() {
            let targets = of(Some(&variant.value));
            self.unused(&variant.value.on, &targets);
            all.extend(targets);
        }
        self.unused(&common.on, &all);
    }

    fn unused(&self, on: &OnTarget, targets: &BTreeSet<String>) {
        for (target, (origin, _)) in on {
            // A target that does not exist at all is an error of its own.
            if !targets.contains(target) && self.document.targets.contains_key(target) {
                let message = format!("nothing here is built for the target `{target}`");
                let warning =
                    Diagnostic::warning(codes::UNUSED_OVERRIDE, message).at(origin, "has no effect");
                self.sink.push(warning.help(format!("add `{target}` to `targets`, or remove this table")));
            }
        }
    }

    /// Models with a table of their own, and those of globs.
    fn candidates(&self) -> Vec<Candidate<'d>> {
        let mut candidates: Declared<Candidate<'d>> = Declared::new();
        for (name, Located { value, origin }) in &self.document.models {
            // A source that could not be read was reported; its engines are not needed then.
            let Some(source) = value.source.clone() else { continue };
            let candidate = Candidate {
                name: name.clone(),
                source,
                common: &value.common,
                glob: None,
                origin: origin.clone(),
            };
            candidates.insert(name.clone(), candidate);
        }
        for (glob_name, Located { value, origin }) in &self.document.globs {
            let Some(pattern) = &value.pattern else { continue };
            let folder = pattern.origin.file.path.parent().unwrap_or(Path::new("/"));
            match glob::expand(folder, &pattern.value) {
                Ok(paths) => {
                    for path in paths {
                        self.add_from_glob(&mut candidates, path, glob_name, pattern, &value.common, origin);
                    }
                }
                Err(bad) => {
                    let message = format!("`{}` {}", shown(&pattern.value), bad.message);
                    self.sink.push(Diagnostic::error(bad.code, message).at(&pattern.origin, ""));
                }
            }
        }
        candidates.into_values().collect()
    }

    fn add_from_glob(
        &self,
        candidates: &mut Declared<Candidate<'d>>,
        path: PathBuf,
        glob: &'d str,
        pattern: &Located<String>,
        common: &'d Common,
        origin: &Origin,
    ) {
        let file = shown(&path.display().to_string());
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(bad) = text::name(&name) {
            let message =
                format!("the file `{file}` cannot name a model: `{}` {}", shown(&name), bad.message);
            let error = Diagnostic::error(bad.code, message).at(&pattern.origin, "matches the file");
            self.sink.push(
                error.help("rename the file, or give it a `[model.NAME]` of its own and narrow the glob"),
            );
            return;
        }
        // A declared model whose source could not be read is no candidate, but its name is taken.
        let declared = self.document.models.get(&name).map(|model| &model.origin);
        if let Some(first) = candidates.get(&name).map(|first| &first.origin).or(declared) {
            let message = format!("the model `{name}` is defined twice: again by the file `{file}`");
            let error =
                Diagnostic::error(codes::DUPLICATE_NAME, message).at(&pattern.origin, "defined again");
            self.sink.push(error.see(first, "first defined here"));
            return;
        }
        let source = Located { value: Source::Path { path }, origin: pattern.origin.clone() };
        let glob = Some(glob);
        candidates.insert(name.clone(), Candidate { name, source, common, glob, origin: origin.clone() });
    }

    fn engines(&self, candidates: &[Candidate<'d>], resolved: &BTreeMap<String, Target>) -> Vec<Engine> {
        let empty = Defaults::default();
        let defaults = self.defaults().unwrap_or(&empty);
        let mut engines = Vec::new();
        let mut names: BTreeMap<String, &Origin> = BTreeMap::new();
        for candidate in candidates {
            for (name, variant) in candidate.builds() {
                let origin = name.map_or(&candidate.origin, |name| &candidate.common.variants[name].origin);
                let full = name.map_or_else(|| candidate.name.clone(), |v| format!("{}.{v}", candidate.name));
                if let Some(first) = names.insert(full.clone(), origin) {
                    let message = format!("two models or variants are called `{full}`");
                    let error = Diagnostic::error(codes::AMBIGUOUS_ENGINE, message).at(origin, "one");
                    self.sink.push(error.see(first, "the other").help("rename one of them"));
                }
                for target in targets(defaults, candidate.common, variant).into_iter().flatten() {
                    let Some(target) = resolved.get(&target.value) else { continue };
                    let mut engine = candidate.engine(defaults, name.zip(variant), target);
                    let mut rules = Vec::new();
                    for set in &engine.rule_sets {
                        rules.extend(
                            self.document.rule_sets.get(set).into_iter().flat_map(|set| set.value.clone()),
                        );
                    }
                    rules.append(&mut engine.rules);
                    engine.rules = rules;
                    engines.push(engine);
                }
            }
        }
        engines.sort_by(|a, b| a.name.cmp(&b.name));
        engines
    }
}

/// A toolchain that needs no declaration, as if it had been declared.
fn built_in_toolchain(name: &str, kind: ToolchainKind, version: &str) -> Toolchain {
    let text = format!("[toolchain.{name}]\nkind = \"{}\"\nversion = \"{version}\"\n", kind.name());
    let start = "[toolchain.".len();
    let file = Arc::new(SourceFile { path: "<built in>".into(), text });
    Toolchain {
        name: name.to_owned(),
        kind,
        // Kept when a machine sets a root: another version has to be declared by the project.
        version: Some(version.to_owned()),
        root: None,
        runner: Vec::new(),
        origin: Origin::new(&file, start..start + name.len()),
    }
}
