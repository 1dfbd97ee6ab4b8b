//! `apply`: from the plan to published engines, recorded.

use std::time::Instant;

use super::carry_out::{Published, Results, carry_out, plainly_built};
use super::context::{Context, TOOL, millis};
use super::events::{Event, Made};
use super::gather::{Gathered, gather};
use super::lock_file;
use super::publish;
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::manifest::{Engine, EngineName};
use crate::plan::{Action, LOCK_FILE_NAME, PlanFile, Planned, Present, Reason, differences, same_engine};

/// What became of one engine.
#[derive(Debug, Clone)]
pub struct EngineOutcome {
    /// The engine.
    pub engine: String,
    /// What was planned for it.
    pub action: Action,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an engine.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is published.
    Done {
        /// Size in bytes.
        size: u64,
        /// How long its build took, in ms, whenever that was.
        build_ms: u64,
        /// What is known of its accuracy.
        verdict: String,
        /// Where it came from.
        made: Made,
    },
    /// It failed; what was published before stays.
    Failed(Vec<Diagnostic>),
    /// This machine cannot build it, and was told to leave it as it is; why.
    Skipped(Vec<Diagnostic>),
    /// The run was stopped before it was done.
    Cancelled,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// Every engine asked for.
    pub engines: Vec<EngineOutcome>,
    /// Worth knowing.
    pub warnings: Vec<Diagnostic>,
    /// What failed beside the engines: the lock file could not be written, say.
    pub errors: Vec<Diagnostic>,
    /// Was there anything to do, or to write down?
    pub wrote: bool,
    /// Was there nothing to do, whatever else the cache comes to hold?
    pub is_settled: bool,
    /// How long the run took, in ms.
    pub ms: u64,
}

/// What else a run is to do, and what it holds itself to.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions<'a> {
    /// Are published engines removed that no manifest declares?
    pub prune: bool,
    /// The plan that is carried out: nothing is done if anything else would be.
    pub plan: Option<&'a PlanFile>,
}

/// Builds and publishes these engines.
///
/// # Errors
/// The cache cannot be used at all. An engine that fails is an outcome.
pub fn apply(
    ctx: &Context<'_>,
    engines: &[&Engine],
    options: ApplyOptions<'_>,
) -> Result<RunSummary, cache::Error> {
    let started = Instant::now();
    ctx.events.event(&Event::RunStarted {
        command: "apply".to_owned(),
        project: ctx.manifest.root.display().to_string(),
        tool: TOOL.to_owned(),
        engines: engines.len(),
    });
    let gathered = gather(ctx, engines)?;
    for planned in &gathered.planned {
        ctx.events.event(&Event::Planned {
            engine: planned.name.to_string(),
            action: planned.action,
            reasons: planned.reasons.clone(),
            build: planned.keyed.as_ref().map(|keyed| keyed.build_key),
        });
    }
    let mut differences = if ctx.locked { locked_differences(ctx, &gathered) } else { Vec::new() };
    differences
        .extend(options.plan.iter().flat_map(|plan| plan_differences(ctx, &gathered, plan, options.prune)));
    if !differences.is_empty() {
        let outcome = |planned| outcome(planned, &gathered, &Results::new());
        let engines: Vec<EngineOutcome> = gathered.planned.iter().map(outcome).collect();
        engines.iter().for_each(|engine| ctx.events.event(&engine.event()));
        return Ok(summary(ctx, engines, gathered.warnings, false, differences, started));
    }
    let results = carry_out(ctx, engines, &gathered);
    let mut warnings = gathered.warnings.clone();
    warnings.extend(plainly_built(&results));
    warnings.extend(
        results.iter().filter_map(|(name, result)| built_otherwise(ctx, name, result.as_ref().ok()?)),
    );
    warnings.extend(results.values().flatten().flat_map(|published| published.warnings.iter().cloned()));
    let finished = finish(ctx, &gathered, &results, options.prune, &mut warnings);
    ctx.cache.flush();
    let engines: Vec<EngineOutcome> =
        gathered.planned.iter().map(|planned| outcome(planned, &gathered, &results)).collect();
    // Of the others it was told when they were done.
    let is_untold =
        |engine: &&EngineOutcome| !engine.action.is_work() || !results.contains_key(&engine.engine);
    engines.iter().filter(is_untold).for_each(|engine| ctx.events.event(&engine.event()));
    let wrote = !matches!(finished, Ok(false));
    let summary = summary(ctx, engines, warnings, wrote, finished.err().into_iter().collect(), started);
    Ok(RunSummary { is_settled: gathered.is_settled, ..summary })
}

/// What a run did; its end is its last event.
fn summary(
    ctx: &Context<'_>,
    engines: Vec<EngineOutcome>,
    warnings: Vec<Diagnostic>,
    wrote: bool,
    errors: Vec<Diagnostic>,
    started: Instant,
) -> RunSummary {
    let ms = millis(started.elapsed());
    ctx.events.event(&Event::RunFinished { ms });
    RunSummary { engines, warnings, errors, wrote, is_settled: false, ms }
}

impl EngineOutcome {
    /// Where it came from, if it is ready.
    #[must_use]
    pub fn made(&self) -> Made {
        match &self.outcome {
            Outcome::Done { made, .. } => *made,
            Outcome::Failed(_) => Made::Failed,
            Outcome::Skipped(_) | Outcome::Cancelled => Made::NotDone,
        }
    }

    pub(super) fn event(&self) -> Event {
        let (size, build_ms, verdict) = match &self.outcome {
            Outcome::Done { size, build_ms, verdict, .. } => (*size, *build_ms, verdict.clone()),
            Outcome::Failed(_) | Outcome::Skipped(_) | Outcome::Cancelled => (0, 0, String::new()),
        };
        let errors = match &self.outcome {
            Outcome::Failed(errors) | Outcome::Skipped(errors) => {
                errors.iter().map(|error| error.message.clone()).collect()
            }
            _ => Vec::new(),
        };
        Event::EngineFinished {
            engine: self.engine.clone(),
            outcome: self.made(),
            why: self.reasons.iter().map(ToString::to_string).collect(),
            size,
            build_ms,
            verdict,
            errors,
        }
    }
}

/// What differs from the lock file, before anything is done.
#[must_use]
pub fn locked_differences(ctx: &Context<'_>, gathered: &Gathered) -> Vec<Diagnostic> {
    let published = gathered.sidecars.iter().map(|(name, sidecar)| (name.clone(), sidecar.file.b3));
    let declared: Vec<String> = ctx.manifest.engines.iter().map(|e| e.name.to_string()).collect();
    let present = Present {
        planned: &gathered.planned,
        sources: &gathered.locked_sources,
        toolchains: &gathered.locked_toolchains,
        published: &published.collect(),
        declared: &declared,
    };
    differences(&ctx.lock, &present)
}

/// What is not as it was when the plan was made.
fn plan_differences(ctx: &Context<'_>, gathered: &Gathered, plan: &PlanFile, prune: bool) -> Vec<Diagnostic> {
    let mut differences = plan.differences(&gathered.planned);
    let orphans =
        if prune { publish::orphans(&ctx.manifest.root, &ctx.manifest.engines) } else { Vec::new() };
    let unplanned = orphans.iter().map(|orphan| orphan.display().to_string());
    differences.extend(unplanned.filter(|orphan| !plan.orphans.contains(orphan)).map(|orphan| {
        let message = format!("`{orphan}` would be removed, and the plan does not say so");
        Diagnostic::error("plan-stale", message).help("leave `--prune` out, or make a new plan")
    }));
    differences
}

/// An engine that was built again, from the inputs of the lock file, to other bytes.
fn built_otherwise(ctx: &Context<'_>, name: &str, done: &Published) -> Option<Diagnostic> {
    let locked = ctx.lock.engine(name).filter(|locked| locked.build == done.sidecar.build_key)?;
    let Err(mut error) = same_engine(locked, &done.sidecar.file.b3) else { return None };
    error.level = crate::diagnostic::Level::Warning;
    error.code = "built-otherwise".into();
    error.help = vec![
        format!(
            "`{LOCK_FILE_NAME}` names the new engine now; `rebuild --check {name}` shows if it can be made again"
        ),
        "`apply --locked` refuses such an engine".to_owned(),
    ];
    Some(error)
}

/// What became of an engine, by what was done so far.
pub(super) fn outcome(planned: &Planned, gathered: &Gathered, results: &Results) -> EngineOutcome {
    let engine = planned.name.to_string();
    let published =
        || gathered.sidecars.get(&engine).map(|sidecar| sidecar.verdict.clone()).unwrap_or_default();
    let outcome = match (results.get(&engine), &planned.built, planned.action) {
        (Some(Ok(Published { sidecar, built, made, .. })), _, _) => Outcome::Done {
            size: built.engine.size,
            build_ms: built.duration_ms,
            verdict: sidecar.verdict.clone(),
            made: *made,
        },
        (Some(Err(errors)), _, _) => Outcome::Failed(errors.clone()),
        // What is published stays, even if the cache lost it.
        (None, built, Action::UpToDate) => Outcome::Done {
            size: built.as_ref().map_or(0, |built| built.engine.size),
            build_ms: built.as_ref().map_or(0, |built| built.duration_ms),
            verdict: published(),
            made: Made::Unchanged,
        },
        (None, _, _) if !planned.lacks.is_empty() => Outcome::Skipped(planned.lacks.clone()),
        (None, _, _) => Outcome::Cancelled,
    };
    EngineOutcome { engine, action: planned.action, reasons: planned.reasons.clone(), outcome }
}

/// The lock file, and what is to be removed. Tells whether there was anything to write.
fn finish(
    ctx: &Context<'_>,
    gathered: &Gathered,
    results: &Results,
    prune: bool,
    warnings: &mut Vec<Diagnostic>,
) -> Result<bool, Diagnostic> {
    let file_error = |e: fs::Error| Diagnostic::error("file", e.to_string());
    let root = &ctx.manifest.root;
    let orphans = if prune { publish::orphans(root, &ctx.manifest.engines) } else { Vec::new() };
    let mut lock = ctx.lock.clone();
    if !ctx.locked {
        lock_file::update(ctx, gathered, results, &mut lock);
    }
    if lock == ctx.lock && orphans.is_empty() && results.is_empty() {
        return Ok(false); // A run without work writes nothing.
    }
    if let Err(e) = ctx.cache.register(root) {
        ctx.cache.warn(format!("{e}: `cache gc` does not know what this project needs"));
    }
    let _held = publish::lock(root).map_err(file_error)?;
    publish::sweep(root);
    let is_published = |name: &EngineName| matches!(results.get(&name.to_string()), Some(Ok(_)));
    let published = gathered.planned.iter().map(|planned| &planned.name).filter(|name| is_published(name));
    publish::flush(root, &published.collect::<Vec<_>>()).map_err(file_error)?;
    if !ctx.locked {
        lock_file::write(ctx, &|lock| lock_file::update(ctx, gathered, results, lock))?;
    }
    for orphan in orphans {
        let file = root.join(&orphan);
        fs::remove_file(&file).map_err(file_error)?;
        fs::remove_file(&file.with_extension("json")).map_err(file_error)?;
        if let Some(folder) = file.parent() {
            fs::remove_dir_if_empty(folder);
        }
        warnings.push(Diagnostic {
            level: crate::diagnostic::Level::Note,
            ..Diagnostic::error(
                "pruned",
                format!("removed `{}`, which no manifest declares", orphan.display()),
            )
        });
    }
    Ok(true)
}
