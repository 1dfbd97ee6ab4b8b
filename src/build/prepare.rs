//! Models given their precision: looked up, or typed by a worker. As-is there is nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::context::{Context, READ_TIMEOUT, millis};
use super::events::Event;
use super::failure::Failure;
use super::scheduler::{self, Job};
use super::sources::{self, Read};
use crate::cache::{self, Record};
use crate::diagnostic::{Diagnostic, Level, Origin, Place};
use crate::digest::{Digest, Preimage};
use crate::fs;
use crate::manifest::{Engine, HazardLevel, Source};
use crate::onnx::{MODEL_FILE, WEIGHTS_FILE};
use crate::plan::{self, ModelRef, PreparedRef, SourceFact, keys};
use crate::precision::{self, Assignment, Problem, RuleMatch, Spec, std_fp16};
use crate::worker::Limits;
use crate::worker::protocol::{ASSIGNMENT_FILE, PREPARED_FOLDER, Request, Response};

/// What came of a model under the precision of an engine.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    /// The key of the action.
    key: Digest,
    /// The prepared ONNX; none if it has problems that forbid it.
    pub(super) prepared: Option<PreparedRef>,
    /// The typed ONNX that stands for it where it is measured, if it is weakly typed.
    pub(super) emulated: Option<PreparedRef>,
    /// The types of all nodes, if they were read or have just been made.
    assignment: Option<Assignment>,
    problems: Vec<Problem>,
    rules: Vec<RuleMatch>,
    /// The worker failed.
    failure: Option<Box<Diagnostic>>,
}

/// What the record of a `prepare` action tells.
#[derive(Serialize, Deserialize)]
struct Info {
    prepared: Digest,
    problems: Vec<Problem>,
    rules: Vec<RuleMatch>,
    /// The opset, if `fuse` raised it.
    #[serde(default)]
    opset: Option<i64>,
}

/// One action, and the engines that it is for.
struct Work<'a> {
    preimage: Preimage,
    spec: Spec,
    model: &'a ModelRef,
    engine: String,
}

/// Types the models of all engines that are not as-is and whose sources are at hand, several at a time.
pub(super) fn prepare_all(
    ctx: &Context<'_>,
    engines: &[&Engine],
    read: &BTreeMap<Source, Read>,
) -> BTreeMap<String, Typed> {
    let mut works: BTreeMap<Digest, Work<'_>> = BTreeMap::new();
    let mut keys_of: BTreeMap<String, (Digest, Option<Digest>)> = BTreeMap::new();
    for engine in engines {
        let Some(SourceFact::AtHand { model, .. }) = read.get(&engine.source).map(|r| &r.fact) else {
            continue;
        };
        let builder = ctx.builder(engine);
        let Some(spec) = plan::spec(engine, builder) else { continue };
        let name = engine.name.to_string();
        let mut add = |spec: Spec| {
            let preimage = keys::prepare(engine, model, Some(&spec));
            let key = preimage.key();
            works.entry(key).or_insert(Work { preimage, spec, model, engine: name.clone() });
            key
        };
        let key = add(spec);
        let is_measured = ctx.verify && engine.verify.is_some();
        let emulated = is_measured.then(|| plan::emulated_spec(engine, builder)).flatten().map(add);
        keys_of.insert(name, (key, emulated));
    }
    let results = Mutex::new(BTreeMap::new());
    let memory = |work: &Work<'_>| (64 << 20) + work.model.weights.as_ref().map_or(0, |w| w.size);
    let jobs = works.into_values().map(|work| Job { memory: memory(&work), work }).collect();
    scheduler::run(jobs, ctx.jobs, ctx.memory, &ctx.cancel, |work| {
        let key = work.preimage.key();
        let typed = one(ctx, &work).unwrap_or_else(|failure| Typed {
            key,
            prepared: None,
            emulated: None,
            assignment: None,
            problems: Vec::new(),
            rules: Vec::new(),
            failure: Some(Box::new(failure)),
        });
        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, typed);
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let of_engine = |(name, (key, emulated)): (String, (Digest, Option<Digest>))| {
        let typed = results.get(&key)?.clone();
        let Some(emulated) = emulated else { return Some((name, typed)) };
        let stand_in = results.get(&emulated)?;
        let failure = typed.failure.clone().or_else(|| not_emulated(&name, stand_in));
        Some((name, Typed { emulated: stand_in.prepared.clone(), failure, ..typed }))
    };
    keys_of.into_iter().filter_map(of_engine).collect()
}

/// What is weakly typed is measured as a typed model, which cannot always be made.
fn not_emulated(engine: &str, stand_in: &Typed) -> Option<Box<Diagnostic>> {
    if stand_in.prepared.is_some() {
        return None;
    }
    let why = stand_in.failure.as_ref().map(|failure| failure.message.clone());
    let problem = || Some(stand_in.problems.iter().find(|problem| problem.is_error)?.message.clone());
    let message = format!(
        "the accuracy of `{engine}` cannot be measured: it is weakly typed, and no typed model can stand for it"
    );
    let mut error = Diagnostic::error("not-emulated", message);
    error.notes.extend(why.or_else(problem));
    Some(Box::new(error.help("mend that, or run with `--no-verify`")))
}

fn one(ctx: &Context<'_>, work: &Work<'_>) -> Result<Typed, Diagnostic> {
    let key = work.preimage.key();
    let failed = |e: cache::Error| Diagnostic::from(&e);
    if let Some(typed) = known(ctx, &key).map_err(failed)? {
        return Ok(typed);
    }
    let _lock = ctx.cache.lock_action("prepare", &key, &mut |_| {}).map_err(failed)?;
    // Another process may have done it while we waited.
    if let Some(typed) = known(ctx, &key).map_err(failed)? {
        return Ok(typed);
    }
    ctx.events.event(&Event::PrepareStarted { engine: work.engine.clone() });
    let started = Instant::now();
    let result = run_worker(ctx, work, &key, started);
    let engine = work.engine.clone();
    ctx.events.event(&match &result {
        Ok(Typed { prepared: Some(_), .. }) => {
            Event::PrepareFinished { engine, ms: millis(started.elapsed()) }
        }
        _ => Event::PrepareFailed { engine },
    });
    result
}

/// The result of the action, if the cache holds it.
fn known(ctx: &Context<'_>, key: &Digest) -> Result<Option<Typed>, cache::Error> {
    let Some(record) = ctx.cache.result("prepare", key)? else { return Ok(None) };
    Ok(of_record(record))
}

fn of_record(record: Record) -> Option<Typed> {
    let Info { prepared, problems, rules, opset } = serde_json::from_value(record.info).ok()?;
    let mut outputs = record.outputs;
    let assignment = Some(outputs.remove("assignment")?);
    let prepared = PreparedRef {
        digest: prepared,
        graph: outputs.remove("graph")?,
        weights: outputs.remove("weights"),
        assignment,
        opset,
    };
    Some(Typed {
        key: record.key,
        prepared: Some(prepared),
        emulated: None,
        assignment: None,
        problems,
        rules,
        failure: None,
    })
}

fn run_worker(
    ctx: &Context<'_>,
    work: &Work<'_>,
    key: &Digest,
    started: Instant,
) -> Result<Typed, Diagnostic> {
    let what = format!("giving `{}` its precision", work.engine);
    let failed = |e: cache::Error| Diagnostic::from(&e);
    let job = ctx.cache.job_dir().map_err(failed)?;
    ctx.link_model(&work.model.graph, work.model.weights.as_ref(), job.path())?;
    let request = Request::Prepare(Box::new(work.spec.clone()));
    let limits = Limits { timeout: READ_TIMEOUT, memory: None, env: Vec::new() };
    let kept = |failure: Failure| {
        let engines = std::slice::from_ref(&work.engine);
        failure.keep(ctx, engines, &request, job.path()).diagnostic(&what)
    };
    let done = match ctx.worker.run(job.path(), &request, &limits, &ctx.cancel) {
        Ok(outcome) => match outcome.response {
            Response::Prepared(done) => done,
            Response::Refused(refusal) => return Err(kept(Failure::of_refusal(*refusal))),
            other => {
                let message = format!("the worker's answer makes no sense: {other:?}");
                return Err(Diagnostic::error("worker-garbage", message));
            }
        },
        Err(error) => return Err(kept(Failure::of_worker(&error))),
    };
    let assignment_file = job.path().join(ASSIGNMENT_FILE);
    let assignment = if done.has_assignment { read_assignment(&assignment_file) } else { None };
    if !done.is_written {
        let rules = assignment.as_ref().map(|a| a.rules.clone()).unwrap_or_default();
        let (key, problems) = (*key, done.problems);
        return Ok(Typed { key, prepared: None, emulated: None, assignment, problems, rules, failure: None });
    }
    let Some(assignment) = assignment else {
        return Err(Diagnostic::error("worker-garbage", format!("{what}: the worker wrote no assignment")));
    };
    let folder = job.path().join(PREPARED_FOLDER);
    record(ctx, work, *key, &folder, &assignment_file, done.has_weights, done.problems, &assignment, started)
        .map_err(failed)
}

#[expect(clippy::too_many_arguments, reason = "all that a record is made of")]
fn record(
    ctx: &Context<'_>,
    work: &Work<'_>,
    key: Digest,
    folder: &Path,
    assignment_file: &Path,
    has_weights: bool,
    problems: Vec<Problem>,
    assignment: &Assignment,
    started: Instant,
) -> Result<Typed, cache::Error> {
    let graph = ctx.cache.adopt(&folder.join(MODEL_FILE), false)?;
    let weights = if has_weights { Some(ctx.cache.adopt(&folder.join(WEIGHTS_FILE), false)?) } else { None };
    let digest = keys::model_digest(&graph.b3, weights.as_ref().map(|w| &w.b3));
    let mut outputs = BTreeMap::from([("graph".to_owned(), graph)]);
    outputs.extend(weights.map(|weights| ("weights".to_owned(), weights)));
    outputs.insert("assignment".to_owned(), ctx.cache.adopt(assignment_file, false)?);
    let info = Info { prepared: digest, problems, rules: assignment.rules.clone(), opset: assignment.opset };
    let recorded = ctx.record(work.preimage.clone(), outputs, serde_json::json!(info), started.elapsed())?;
    Ok(of_record(recorded).unwrap_or(Typed {
        key,
        prepared: None,
        emulated: None,
        assignment: None,
        problems: Vec::new(),
        rules: Vec::new(),
        failure: Some(Box::new(Diagnostic::error("cache", "the cache holds a record that makes no sense"))),
    }))
}

fn read_assignment(path: &Path) -> Option<Assignment> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Errors, and what is worth knowing, of one engine; as an error wins, so it is first.
pub(super) fn diagnostics(engine: &Engine, typed: &Typed, read: &Read) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    if let Some(failure) = &typed.failure {
        return (vec![(**failure).clone()], Vec::new());
    }
    let file = match &read.fact {
        SourceFact::AtHand { path, .. } => path.clone(),
        _ => Path::new(MODEL_FILE).to_owned(),
    };
    let rules = precision::resolve(engine);
    let mut problems = typed.problems.clone();
    name_apart(engine, &mut problems);
    let all = problems.iter().filter_map(|problem| diagnostic(engine, &rules, &file, problem));
    all.partition(|diagnostic| diagnostic.level == Level::Error)
}

/// Two rules of one name are an error, so that no two to be pasted have one, nor that of a rule that is there.
fn name_apart(engine: &Engine, problems: &mut [Problem]) {
    let mut taken: BTreeMap<String, Option<String>> =
        engine.rules.iter().filter(|rule| rule.set.is_none()).map(|rule| (rule.name.clone(), None)).collect();
    for fix in problems.iter_mut().filter_map(|problem| problem.fix.as_mut()) {
        let (name, mut n) = (fix.name.clone(), 1);
        while taken.get(&fix.name).is_some_and(|select| select.as_ref() != Some(&fix.select)) {
            n += 1;
            fix.name = format!("{name} ({n})");
        }
        taken.insert(fix.name.clone(), Some(fix.select.clone()));
    }
}

/// What a problem is under the levels of this engine; none if it is allowed.
fn diagnostic(
    engine: &Engine,
    rules: &[precision::ResolvedRule],
    file: &Path,
    problem: &Problem,
) -> Option<Diagnostic> {
    let Problem { code, is_error, message, rule, node, notes, help, fix } = problem;
    let judged = Diagnostic::error(code.clone(), message.clone());
    let mut diagnostic = match engine.hazard_level(code) {
        Some(_) => judge(engine, judged)?,
        None if *is_error => judged,
        None => Diagnostic { level: Level::Warning, ..judged },
    };
    diagnostic.notes.clone_from(notes);
    diagnostic.help.splice(0..0, help.iter().cloned());
    diagnostic.rules = fix.as_ref().map(|fix| fix.toml(&engine.table, engine.is_from_glob));
    Some(match (rule.and_then(|i| rules.get(i)?.origin.as_ref()), node) {
        (Some(origin), _) => diagnostic.at(origin, ""),
        (None, Some((node, op))) => diagnostic.at_node(file, node, op),
        (None, None) => diagnostic.in_file(file),
    })
}

/// A hazard at the level that the manifest says for this engine; none if it is allowed.
pub(super) fn judge(engine: &Engine, found: Diagnostic) -> Option<Diagnostic> {
    match engine.hazard_level(&found.code) {
        Some(HazardLevel::Allow) => None,
        Some(HazardLevel::Warn) => Some(Diagnostic { level: Level::Warning, ..found }),
        Some(HazardLevel::Deny) => {
            let help = format!(
                "or build it all the same: `{} = \"warn\"` in `[{}.hazards]`",
                found.code, engine.table
            );
            Some(Diagnostic { level: Level::Error, ..found }.help(help))
        }
        None => Some(found),
    }
}

/// Rules of shared sets that select nothing in any model that uses them, if all these were looked at.
pub(super) fn unused_set_rules(ctx: &Context<'_>, typed: &BTreeMap<String, Typed>) -> Vec<Diagnostic> {
    let mut selected: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    let mut unknown: BTreeSet<&str> = BTreeSet::new();
    let mut origins = BTreeMap::new();
    for engine in &ctx.manifest.engines {
        let rules = precision::resolve(engine);
        let found = typed.get(&engine.name.to_string()).filter(|t| t.rules.len() == rules.len());
        for rule in engine.rules.iter().filter(|rule| !rule.optional) {
            let Some(set) = rule.set.as_deref().filter(|set| *set != std_fp16::NAME) else { continue };
            let index =
                rules.iter().position(|r| r.spec.set.as_deref() == Some(set) && r.spec.name == rule.name);
            match found.zip(index) {
                Some((typed, i)) => {
                    *selected.entry((set, &rule.name)).or_default() |= typed.rules[i].nodes > 0;
                    origins.insert((set, rule.name.as_str()), rule.origin.clone());
                }
                None => {
                    unknown.insert(set);
                }
            }
        }
    }
    let unused = selected.into_iter().filter(|((set, _), any)| !any && !unknown.contains(set));
    unused
        .map(|((set, name), _)| {
            let message =
                format!("rule `{name}` of the set `{set}` selects nothing in any model that uses it");
            let error = Diagnostic::error("rule-no-match", message)
                .help("mend the selector, or write `optional = true`");
            match origins.get(&(set, name)) {
                Some(Some(origin)) => error.at(origin, ""),
                _ => error,
            }
        })
        .collect()
}

/// Those of them that are of sets that this engine uses.
pub(super) fn unused_rules_of(engine: &Engine, unused: &[Diagnostic]) -> Vec<Diagnostic> {
    let is_at = |error: &Diagnostic, origin: Option<&Origin>| matches!((&error.place, origin), (Some(Place::Text(at)), Some(origin)) if at == origin);
    let uses = |error: &&Diagnostic| engine.rules.iter().any(|rule| is_at(error, rule.origin.as_ref()));
    unused.iter().filter(uses).cloned().collect()
}

/// The types of a model's nodes under the precision of some engines.
#[derive(Debug)]
pub struct ModelRules {
    /// The engines.
    pub engines: Vec<String>,
    /// The types; none as-is, or if it cannot be told: then the diagnostics say why.
    pub assignment: Option<Assignment>,
    /// The rules that it was made from.
    pub rules: Vec<precision::ResolvedRule>,
    /// May FP32 products be computed in TF32?
    pub tf32: bool,
    /// What is wrong, or worth knowing.
    pub diagnostics: Vec<Diagnostic>,
}

/// Finds out who decides each node, for each precision in which these engines want their models.
///
/// # Errors
/// The cache cannot be used at all.
pub fn model_rules(ctx: &Context<'_>, engines: &[&Engine]) -> Result<Vec<ModelRules>, cache::Error> {
    let read = sources::read_all(ctx, engines);
    let typed = prepare_all(ctx, engines, &read);
    let mut found: Vec<(Option<Digest>, &BTreeMap<String, HazardLevel>, ModelRules)> = Vec::new();
    for engine in engines {
        let name = engine.name.to_string();
        let typed = typed.get(&name);
        let key = typed.map(|t| t.key);
        // Equal keys give equal types; but names of rules are those of each engine.
        let rules = precision::resolve(engine);
        if let Some((_, _, same)) = found.iter_mut().find(|(k, levels, same)| {
            let equal = **levels == engine.hazards && same.tf32 == engine.tf32 && same.rules == rules;
            *k == key && k.is_some() && equal
        }) {
            same.engines.push(name);
            continue;
        }
        let mut diagnostics = match read.get(&engine.source).map(|r| &r.fact) {
            Some(SourceFact::Bad(errors)) => errors.clone(),
            Some(SourceFact::NotFetched) | None => {
                let id = plan::source_id(&engine.source, &ctx.manifest.root);
                let error = Diagnostic::error(
                    "not-fetched",
                    format!("`{name}` needs `{id}`, which is not fetched yet"),
                );
                vec![error.help("run `enginewright plan --fetch`")]
            }
            Some(SourceFact::AtHand { .. }) => Vec::new(),
        };
        let mut assignment = None;
        if let Some((typed, read)) = typed.zip(read.get(&engine.source)) {
            let (errors, warnings) = self::diagnostics(engine, typed, read);
            diagnostics.extend(errors.into_iter().chain(warnings));
            assignment.clone_from(&typed.assignment);
            if let Some(blob) = typed.prepared.as_ref().and_then(|p| p.assignment.as_ref()) {
                let bytes = ctx.cache.read(blob)?;
                assignment = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            }
        }
        found.push((
            key,
            &engine.hazards,
            ModelRules { engines: vec![name], assignment, rules, tf32: engine.tf32, diagnostics },
        ));
    }
    Ok(found.into_iter().map(|(_, _, rules)| rules).collect())
}
