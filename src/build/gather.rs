//! Facts for the plan: sources read, toolchains found, results looked up. Starts workers for what
//! is not known yet, and for nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::context::Context;
use super::prepare::Typed;
use super::publish::Sidecar;
use super::sources::{self, Read};
use super::{accuracy, estimate, pins, prepare, publish, toolchains, trtexec};
use crate::cache::{self, Record};
use crate::diagnostic::{Diagnostic, Level};
use crate::digest::{Blob, Digest, Preimage};
use crate::engine::Counts;
use crate::fs;
use crate::manifest::{Engine, Source, ToolchainKind, hazard};
use crate::onnx::{self, NodeChange, TensorDigest};
use crate::plan::{
    self, AccuracyFact, Action, BuiltRef, Keyed, LockedSource, LockedToolchain, ModelRef, Models, NamedRule,
    Now, Planned, PreparedRef, Previous, Published, Reason, SourceFact, ToolchainFact, ToolchainRef,
};
use crate::precision;

/// The plan, with the facts that carrying it out needs.
pub struct Gathered {
    /// The plan, in the order of the engines asked for.
    pub planned: Vec<Planned>,
    /// What is published now, by engine name.
    pub published: BTreeMap<String, Published>,
    /// Its sidecars, as far as they can be read.
    pub sidecars: BTreeMap<String, Sidecar>,
    /// What the builds that are known show of their precision, by engine name; for what is published, as far as its
    /// sidecar tells.
    pub pins: BTreeMap<String, Counts>,
    /// The files of the sources, with what they were when they were read.
    pub files: BTreeMap<Source, Vec<(PathBuf, fs::Stat)>>,
    /// The models that are at hand.
    pub models: BTreeMap<Source, Box<ModelRef>>,
    /// The toolchains that were found.
    pub toolchains: BTreeMap<String, Box<ToolchainRef>>,
    /// Lock file blocks of the sources at hand.
    pub locked_sources: Vec<LockedSource>,
    /// Lock file blocks of the toolchains on this machine.
    pub locked_toolchains: Vec<LockedToolchain>,
    /// Worth knowing.
    pub warnings: Vec<Diagnostic>,
    /// Is there nothing to do, whatever else the cache comes to hold?
    pub is_settled: bool,
}

/// Gathers facts for these engines and makes the plan.
///
/// # Errors
/// The cache cannot be used at all. Everything else is an error of one engine, in its plan.
pub fn gather(ctx: &Context<'_>, engines: &[&Engine]) -> Result<Gathered, cache::Error> {
    let (toolchains, locked_toolchains) = toolchains::find_all(ctx, engines);
    let checks: Vec<Vec<Diagnostic>> = engines.iter().map(|e| check(ctx, e, &toolchains)).collect();
    // An engine that cannot be built whatever its model is does not make us fetch the model.
    let sound =
        engines.iter().zip(&checks).filter(|(_, e)| e.is_empty()).map(|(e, _)| *e).collect::<Vec<_>>();
    let read = sources::read_all(ctx, &sound);
    let typed = prepare::prepare_all(ctx, &sound, &read);
    let unused = prepare::unused_set_rules(ctx, &typed);

    let mut gathered = Gathered {
        planned: Vec::new(),
        published: BTreeMap::new(),
        sidecars: BTreeMap::new(),
        pins: BTreeMap::new(),
        files: BTreeMap::new(),
        models: BTreeMap::new(),
        toolchains: BTreeMap::new(),
        locked_sources: Vec::new(),
        locked_toolchains,
        warnings: Vec::new(),
        is_settled: false,
    };
    let mut diffs = Diffs::default();
    for (engine, errors) in engines.iter().zip(checks) {
        let (published, sidecar) = publish::published(&ctx.manifest.root, &engine.name, &ctx.cache);
        let mut planned = if errors.is_empty() {
            let mut found = Vec::new();
            let typed = typed.get(&engine.name.to_string());
            if let Some((typed, read)) = typed.zip(read.get(&engine.source)) {
                let (errors, warnings) = prepare::diagnostics(engine, typed, read);
                gathered.warnings.extend(warnings);
                found.extend(errors);
            }
            for hazard in read.get(&engine.source).map(|read| read.hazards(engine)).unwrap_or_default() {
                if hazard.level == Level::Error { &mut found } else { &mut gathered.warnings }.push(hazard);
            }
            found.extend(prepare::unused_rules_of(engine, &unused));
            if found.is_empty() {
                plan_engine(ctx, engine, &read, &toolchains, &published, typed, &mut diffs)?
            } else {
                Planned::error(&engine.name, found)
            }
        } else {
            Planned::error(&engine.name, errors)
        };
        let builds = matches!(planned.action, Action::Build | Action::Rebuild | Action::Unknown);
        let kind = ctx.manifest.toolchains.get(&engine.target.toolchain).map(|declared| declared.kind);
        if builds && kind == Some(ToolchainKind::Trtexec) {
            planned.lacks = trtexec::host::lacks(ctx, engine, toolchains.get(&engine.target.toolchain));
        }
        // If the cache lost the engine, it is not built again for the sake of words.
        let current = planned.action == Action::UpToDate && planned.built.is_some();
        if current && sidecar.as_ref().is_some_and(|s| !publish::is_worded(s, engine)) {
            (planned.action, planned.reasons) = (Action::Publish, vec![Reason::SidecarOutdated]);
        }
        let known = sidecar.as_ref().filter(|_| planned.action == Action::UpToDate).and_then(|s| s.pins);
        let counts = judged(ctx, engine, &mut planned, known, &read, &mut gathered.warnings)?;
        gathered.pins.extend(counts.map(|counts| (engine.name.to_string(), counts)));
        gathered.published.insert(engine.name.to_string(), published);
        gathered.sidecars.extend(sidecar.map(|s| (engine.name.to_string(), s)));
        gathered.planned.push(planned);
    }
    estimate::add(ctx, engines, &mut gathered);
    gathered.is_settled = gathered.planned.iter().all(|planned| is_settled(ctx, planned));
    for (source, read) in read {
        gathered.warnings.extend(read.notes.into_iter().filter(|note| hazard(&note.code).is_none()));
        gathered.locked_sources.extend(read.locked);
        gathered.files.insert(source.clone(), read.files);
        if let SourceFact::AtHand { model, .. } = read.fact {
            gathered.models.insert(source, model);
        }
    }
    for (name, fact) in toolchains {
        if let ToolchainFact::Found(found) = fact {
            gathered.toolchains.insert(name, found);
        }
    }
    Ok(gathered)
}

/// Is there nothing to do for an engine, whatever else the cache comes to hold? Not so if it lacks what would be built, or
/// has another engine than the locked one.
fn is_settled(ctx: &Context<'_>, planned: &Planned) -> bool {
    let is_judged = match &planned.accuracy {
        AccuracyFact::Known(accuracy) => accuracy.judgement.is_some(),
        AccuracyFact::NoneDeclared | AccuracyFact::Skipped => true,
        AccuracyFact::NotFetched => false,
    };
    let (Some(keyed), Some(built)) = (&planned.keyed, &planned.built) else { return false };
    let locked = ctx.lock.engine(&planned.name.to_string()).filter(|locked| locked.build == keyed.build_key);
    planned.action == Action::UpToDate && is_judged && (locked.is_none() || built.is_locked)
}

/// Holds the build of an engine against the levels of its manifest: what is denied makes the plan an error. A published
/// engine was held against them before, so that its proof is made again only if it was not clean.
fn judged(
    ctx: &Context<'_>,
    engine: &Engine,
    planned: &mut Planned,
    known: Option<Counts>,
    read: &BTreeMap<Source, Read>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Option<Counts>, cache::Error> {
    let (Some(keyed), Some(built)) = (&planned.keyed, &planned.built) else { return Ok(known) };
    let proof = match known {
        Some(counts) if counts.demoted == 0 => None,
        _ => pins::of_build(ctx, engine, keyed, built)?,
    };
    let Some(SourceFact::AtHand { path, model, .. }) = read.get(&engine.source).map(|r| &r.fact) else {
        return Ok(known); // What is keyed is at hand.
    };
    let of = (&model.summary, path.as_path());
    let (errors, told) = pins::diagnostics(ctx, engine, keyed, built, proof.as_ref(), of)?;
    warnings.extend(told);
    if !errors.is_empty() {
        planned.action = Action::Error;
        planned.errors = errors;
    }
    Ok(proof.map(|proof| proof.counts()).or(known))
}

fn check(
    ctx: &Context<'_>,
    engine: &Engine,
    toolchains: &BTreeMap<String, ToolchainFact>,
) -> Vec<Diagnostic> {
    let kind = ctx.manifest.toolchains.get(&engine.target.toolchain).map(|t| t.kind);
    let mut errors = plan::check(engine, kind);
    let reference = engine.verify.as_ref().map(|verify| &verify.reference);
    for name in [Some(&engine.target.toolchain), reference].into_iter().flatten() {
        if let Some(ToolchainFact::Bad(error)) = toolchains.get(name) {
            errors.push((**error).clone());
        }
    }
    if let Some(verify) = &engine.verify
        && let Some(declared) = ctx.manifest.toolchains.get(&verify.reference)
        && declared.kind != ToolchainKind::Onnxruntime
    {
        let message = format!("toolchain `{}` computes no reference", declared.name);
        let error = Diagnostic::error("toolchain", message).at(&declared.origin, "");
        errors.push(error.help("give it another name, or `kind = \"onnxruntime\"`"));
    }
    errors
}

fn plan_engine(
    ctx: &Context<'_>,
    engine: &Engine,
    read: &BTreeMap<Source, Read>,
    toolchains: &BTreeMap<String, ToolchainFact>,
    published: &Published,
    typed: Option<&Typed>,
    diffs: &mut Diffs,
) -> Result<Planned, cache::Error> {
    let name = &engine.name;
    let model = match read.get(&engine.source).map(|r| &r.fact) {
        Some(SourceFact::AtHand { model, .. }) => model,
        Some(SourceFact::Bad(errors)) => return Ok(Planned::error(name, sources::declared(engine, errors))),
        // Not read at all: the run was cancelled.
        Some(SourceFact::NotFetched) | None => {
            return Ok(Planned::unknown(name, vec![Reason::SourceNotFetched]));
        }
    };
    let toolchain = match toolchains.get(&engine.target.toolchain) {
        Some(ToolchainFact::Found(toolchain)) => toolchain,
        // It is told with what this machine lacks.
        Some(ToolchainFact::Absent(_)) => return Ok(Planned::unknown(name, Vec::new())),
        _ => return Ok(Planned::unknown(name, vec![Reason::ToolchainNotFetched])),
    };
    let prepared = match typed.and_then(|typed| typed.prepared.clone()) {
        Some(prepared) => prepared,
        None if plan::spec(engine, ctx.builder(engine)).is_none() => PreparedRef::as_is(model),
        // The run was cancelled before it was prepared.
        None => return Ok(Planned::unknown(name, Vec::new())),
    };
    let trtexec = match trtexec::inputs(ctx, engine, model, &prepared)? {
        Ok(trtexec) => trtexec,
        Err(errors) => return Ok(Planned::error(name, errors)),
    };
    let emulated = typed.and_then(|typed| typed.emulated.clone());
    let keyed = match plan::keyed(engine, model, toolchain, prepared, trtexec) {
        Ok(keyed) => Keyed { emulated, ..keyed },
        Err(errors) => return Ok(Planned::error(name, errors)),
    };
    let locked = ctx.lock.engine(&name.to_string()).filter(|locked| locked.build == keyed.build_key);
    let built = built(ctx, &keyed.build_key, locked.map(|locked| &locked.b3))?;
    let reference = engine.verify.as_ref().and_then(|verify| toolchains.get(&verify.reference));
    let accuracy = match accuracy::fact(ctx, engine, &keyed, model, reference, (built.as_ref(), published)) {
        Ok(accuracy) => accuracy,
        Err(errors) => return Ok(Planned::error(name, errors)),
    };
    let causes = |keyed: &Keyed| {
        let previous = previous(ctx, engine, published);
        causes(ctx, engine, keyed, model, toolchain, &previous, diffs)
    };
    Ok(plan::decide(name, keyed, built, published, accuracy, causes))
}

/// The build with this key, if the cache holds it; the very engine that is locked, if it holds that.
pub(super) fn built(
    ctx: &Context<'_>,
    key: &Digest,
    locked: Option<&Digest>,
) -> Result<Option<BuiltRef>, cache::Error> {
    let of = |record: Record| record.outputs.get("engine").cloned().map(|engine| built_ref(&record, engine));
    let by_key = ctx.cache.result("build", key)?.and_then(of);
    let Some(locked) = locked else { return Ok(by_key) };
    let built = match by_key {
        Some(built) if built.engine.b3 == *locked => Some(built),
        // The result of the key is lost, or is another engine.
        other => {
            let preimage = engine_preimage(locked);
            ctx.cache.result(&preimage.action, &preimage.key())?.and_then(of).or(other)
        }
    };
    Ok(built.map(|built| BuiltRef { is_locked: built.engine.b3 == *locked, ..built }))
}

/// What is known of an engine by its digest alone, whatever key it was built for.
pub(super) fn engine_preimage(engine: &Digest) -> Preimage {
    Preimage::new("engine").with("b3", engine)
}

/// What the record of a build tells, beside its engine.
pub(super) fn built_ref(record: &Record, engine: Blob) -> BuiltRef {
    let said = record.info.get("said").and_then(|said| said.as_array());
    let said = said.into_iter().flatten().filter_map(|code| Some(code.as_str()?.to_owned()));
    BuiltRef {
        engine,
        duration_ms: record.duration_ms,
        kernels: record.outputs.get("kernels").cloned(),
        timings: record.outputs.get("timings").cloned(),
        said: said.collect(),
        info: record.info.clone(),
        is_locked: false,
    }
}

/// Why an engine would be built otherwise than by the build of this key, as far as the cache holds that.
pub fn causes_since(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
    planned: &Planned,
    since: &Digest,
) -> Vec<Reason> {
    let model = gathered.models.get(&engine.source);
    let toolchain = gathered.toolchains.get(&engine.target.toolchain);
    let (Some(keyed), Some(model), Some(toolchain)) = (&planned.keyed, model, toolchain) else {
        return planned.reasons.clone(); // Which say what is not known.
    };
    if keyed.build_key == *since {
        return Vec::new();
    }
    causes(ctx, engine, keyed, model, toolchain, &previous_of(ctx, *since), &mut Diffs::default())
}

fn causes(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    model: &ModelRef,
    toolchain: &ToolchainRef,
    previous: &Previous,
    diffs: &mut Diffs,
) -> Vec<Reason> {
    let rules: Vec<NamedRule> = precision::resolve(engine)
        .into_iter()
        .map(|rule| NamedRule {
            name: rule.spec.name,
            place: rule.origin.map(|origin| {
                let path = &origin.file.path;
                let file = path.strip_prefix(&ctx.manifest.root).unwrap_or(path);
                format!("{}:{}", file.display(), origin.line_column().0)
            }),
        })
        .collect();
    let now = Now {
        build: &keyed.build,
        prepare: &keyed.prepare,
        model,
        toolchain_version: &toolchain.version,
        rules: &rules,
    };
    plan::causes(now, previous, &mut KeptModels { ctx, diffs })
}

/// What differs between models, by their graphs: several engines are made from one.
type Diffs = BTreeMap<(Digest, Digest), Option<Vec<NodeChange>>>;

/// The models that the cache holds.
struct KeptModels<'a, 'b> {
    ctx: &'a Context<'b>,
    diffs: &'a mut Diffs,
}

impl Models for KeptModels<'_, '_> {
    fn tensors(&mut self, model: &ModelRef) -> Option<Vec<TensorDigest>> {
        self.ctx.tensors(model)
    }

    fn nodes(&mut self, old: &ModelRef, new: &ModelRef) -> Option<Vec<NodeChange>> {
        let ctx = self.ctx;
        let read = |model: &ModelRef| {
            let graph = ctx.cache.read(&model.graph).ok()??;
            let weights = match &model.weights {
                Some(weights) => Some(ctx.read_stored(weights).ok()??),
                None => None,
            };
            onnx::read_canonical(graph, weights).ok()
        };
        let diff = || Some(onnx::node_changes(&read(old)?, &read(new)?));
        self.diffs.entry((old.graph.b3, new.graph.b3)).or_insert_with(diff).clone()
    }
}

/// The last build known under an engine's name: the one that is published, or that the lock file
/// names.
pub(super) fn previous(ctx: &Context<'_>, engine: &Engine, published: &Published) -> Previous {
    let locked = ctx.lock.engine(&engine.name.to_string());
    let build_key = match published {
        Published::Whole { build_key, .. } | Published::Broken { build_key: Some(build_key), .. } => {
            Some(*build_key)
        }
        _ => locked.map(|l| l.build),
    };
    build_key.map_or_else(Previous::default, |key| previous_of(ctx, key))
}

/// What is known of the build of a key.
fn previous_of(ctx: &Context<'_>, key: Digest) -> Previous {
    let record = ctx.cache.record("build", &key).ok().flatten();
    let info = record.as_ref().map(|r| &r.info);
    let text = |name: &str| info?.get(name)?.as_str().map(str::to_owned);
    let digest = |name: &str| text(name)?.parse::<Digest>().ok();
    let prepare = digest("prepare_key").and_then(|k| ctx.cache.record("prepare", &k).ok().flatten());
    Previous {
        build_key: Some(key),
        prepare: prepare.map(|r| r.preimage),
        model: digest("model").and_then(|m| sources::by_digest(ctx, &m)),
        toolchain_version: text("toolchain_version"),
        duration_ms: record.as_ref().map(|r| r.duration_ms),
        build: record.map(|r| r.preimage),
    }
}
