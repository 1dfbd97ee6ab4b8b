//! The work of a plan: engines with equal inputs are built once, measured, held against their levels, and published.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use super::accuracy::{self, Subject};
use super::context::Context;
use super::events::{Event, Made};
use super::gather::Gathered;
use super::publish::{self, How, Sidecar};
use super::run::outcome;
use super::scheduler::{self, Job};
use super::{execute, pins};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::engine::Counts;
use crate::fs;
use crate::manifest::Engine;
use crate::onnx::MODEL_FILE;
use crate::plan::{
    AccuracyFact, Action, BuiltRef, Keyed, ModelRef, Planned, Reason, same_engine, same_verdict, source_id,
};

/// What became of an engine that there was work for, and that was begun.
pub(super) type Results = BTreeMap<String, Result<Published, Vec<Diagnostic>>>;

/// An engine that was published.
pub(super) struct Published {
    pub(super) sidecar: Sidecar,
    pub(super) built: BuiltRef,
    pub(super) made: Made,
    /// What is worth knowing of a build that was not planned with it.
    pub(super) warnings: Vec<Diagnostic>,
}

/// All that one key is for: engines with equal inputs are built once.
struct Group<'a> {
    members: Vec<(&'a Engine, &'a Planned)>,
}

/// Does the work of a plan, several engines at a time.
pub(super) fn carry_out(ctx: &Context<'_>, engines: &[&Engine], gathered: &Gathered) -> Results {
    let mut groups: BTreeMap<Digest, Group<'_>> = BTreeMap::new();
    let mut results = Results::new();
    for (engine, planned) in engines.iter().copied().zip(&gathered.planned) {
        if !planned.lacks.is_empty() {
            if !ctx.skip_unbuildable {
                results.insert(planned.name.to_string(), Err(unbuildable(planned)));
            }
            continue;
        }
        match (&planned.keyed, planned.action) {
            (Some(keyed), action) if action.is_work() => {
                let group = groups.entry(keyed.build_key).or_insert(Group { members: Vec::new() });
                group.members.push((engine, planned));
            }
            (_, Action::Error) => {
                results.insert(planned.name.to_string(), Err(planned.errors.clone()));
            }
            (_, Action::Unknown) if !ctx.cancel.is_cancelled() => {
                results.insert(planned.name.to_string(), Err(vec![not_fetched(ctx, engine, planned)]));
            }
            _ => {}
        }
    }
    let results = Mutex::new(results);
    // The longest first, as far as it can be told: two long builds at the end run side by side.
    let mut jobs: Vec<Job<Group<'_>>> = groups
        .into_values()
        .map(|work| Job { memory: memory(&work).max(measure_memory(&work, gathered)), work })
        .collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.memory));
    scheduler::run(jobs, ctx.jobs, ctx.memory, &ctx.cancel, |group| {
        let done = build_and_publish(ctx, gathered, &group);
        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(done);
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What this machine lacks, and that the rest can be built without it.
fn unbuildable(planned: &Planned) -> Vec<Diagnostic> {
    let help = "`--skip-unbuildable` builds what this machine can build, and leaves the rest as it is";
    planned.lacks.iter().map(|lack| lack.clone().help(help)).collect()
}

/// Something must be fetched, and may not be.
fn not_fetched(ctx: &Context<'_>, engine: &Engine, planned: &Planned) -> Diagnostic {
    let what = if planned.reasons.contains(&Reason::ReferenceNotFetched) {
        format!("toolchain `{}`", engine.verify.as_ref().map_or("", |verify| &verify.reference))
    } else if planned.reasons.contains(&Reason::ToolchainNotFetched) {
        format!("toolchain `{}`", engine.target.toolchain)
    } else {
        format!("`{}`", source_id(&engine.source, &ctx.manifest.root))
    };
    Diagnostic::error("not-fetched", format!("`{}` needs {what}, which is not fetched yet", engine.name))
        .at(&engine.origin, "")
        .help("run `apply` without `--offline` once, or `plan --fetch`")
}

fn memory(group: &Group<'_>) -> u64 {
    let builds = group.members.iter().filter(|(_, p)| p.built.is_none());
    builds.filter_map(|(_, p)| p.keyed.as_deref()).map(execute::memory_estimate).max().unwrap_or(0)
}

/// What measuring a group needs: after its build, and so not beside it.
fn measure_memory(group: &Group<'_>, gathered: &Gathered) -> u64 {
    let open = |planned: &Planned| matches!(&planned.accuracy, AccuracyFact::Known(accuracy) if accuracy.judgement.is_none());
    let measured = group.members.iter().filter(|(_, planned)| open(planned));
    let estimate = |(engine, planned): &(&Engine, &Planned)| {
        let model = gathered.models.get(&engine.source)?;
        Some(accuracy::memory_estimate(planned.keyed.as_deref()?, model))
    };
    measured.filter_map(estimate).max().unwrap_or(0)
}

fn build_and_publish(ctx: &Context<'_>, gathered: &Gathered, group: &Group<'_>) -> Results {
    let names: Vec<String> = group.members.iter().map(|(e, _)| e.name.to_string()).collect();
    let mut built: Option<Result<(BuiltRef, Made), Vec<Diagnostic>>> =
        group.members.iter().find_map(|(_, p)| p.built.clone()).map(|built| Ok((built, Made::Cache)));
    let mut results = Results::new();
    for (engine, planned) in &group.members {
        let (Some(keyed), Some(toolchain), Some(model)) = (
            &planned.keyed,
            gathered.toolchains.get(&engine.target.toolchain),
            gathered.models.get(&engine.source),
        ) else {
            continue; // Planned from facts that are in `gathered`, so that they are there.
        };
        let was_known = planned.built.is_some();
        let built = built.get_or_insert_with(|| execute::build(ctx, engine, &names, keyed, toolchain));
        if ctx.cancel.is_cancelled() && built.is_err() {
            continue; // Cancelled, not failed.
        }
        let result = built.clone().and_then(|(built, made)| {
            let (counts, mut warnings) = judged(ctx, gathered, engine, keyed, model, &built)?;
            if was_known {
                warnings.clear(); // Told with the plan.
            }
            let reference = engine.verify.as_ref().and_then(|v| gathered.toolchains.get(&v.reference));
            let reference = reference.map(|reference| &**reference);
            let subject = Subject { engine, keyed, model, reference };
            let judging = accuracy::verdict(ctx, &subject, &planned.accuracy, &built)?;
            unchanged(gathered, engine)?;
            if let Some(locked) = ctx.lock.engine(&engine.name.to_string()).filter(|_| ctx.locked) {
                same_engine(locked, &built.engine.b3).map_err(|e| vec![e])?;
                if ctx.verify {
                    same_verdict(locked, judging.verdict.name()).map_err(|e| vec![e])?;
                }
            }
            let sidecar = publish::publish(ctx, engine, keyed, model, toolchain, &built, (judging, counts))
                .map_err(|e| vec![e])?;
            let path = publish::engine_path(&ctx.manifest.root, &engine.name);
            let path = path.strip_prefix(&ctx.manifest.root).unwrap_or(&path).display().to_string();
            ctx.events.event(&Event::Published {
                engine: engine.name.to_string(),
                path,
                how: sidecar.published_by.map_or("copy", How::name).to_owned(),
            });
            let made = if planned.action == Action::Restore { Made::Restored } else { made };
            Ok(Published { sidecar, built, made, warnings })
        });
        // A worker that was stopped has not failed either.
        let is_cancelled = |errors: &Vec<Diagnostic>| errors.iter().all(|e| e.code == "worker-cancelled");
        if ctx.cancel.is_cancelled() && result.as_ref().is_err_and(is_cancelled) {
            continue;
        }
        results.insert(engine.name.to_string(), result);
        ctx.events.event(&outcome(planned, gathered, &results).event());
    }
    results
}

/// Engines that were built by a worker that is not deterministic.
pub(super) fn plainly_built(results: &Results) -> Option<Diagnostic> {
    let plain: Vec<&str> = results
        .iter()
        .filter(|(_, result)| result.as_ref().is_ok_and(|done| done.sidecar.hermetic == "plain"))
        .map(|(name, _)| name.as_str())
        .collect();
    let message = match plain.as_slice() {
        [] => return None,
        [one] => format!("`{one}` was built by a plain worker"),
        [first, rest @ ..] => format!("`{first}` and {} more were built by a plain worker", rest.len()),
    };
    Some(Diagnostic {
        level: crate::diagnostic::Level::Warning,
        notes: vec!["it works as any other, and another build may give other bytes".to_owned()],
        ..Diagnostic::error("worker-plain", message).help(
            "the cache must lie where programs may be executed (not mounted `noexec`), and a container must allow memory at \
             fixed addresses (its seccomp profile); else it is a matter of the model",
        )
    })
}

/// What a build shows of its precision, if its levels let it be published.
fn judged(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
    keyed: &Keyed,
    model: &ModelRef,
    built: &BuiltRef,
) -> Result<(Option<Counts>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let proof = pins::of_build(ctx, engine, keyed, built).map_err(failed)?;
    let file = gathered.files.get(&engine.source).and_then(|files| files.first());
    let file = file.map_or(Path::new(MODEL_FILE), |(file, _)| file);
    let told = pins::diagnostics(ctx, engine, keyed, built, proof.as_ref(), (&model.summary, file));
    let (errors, warnings) = told.map_err(failed)?;
    if errors.is_empty() { Ok((proof.map(|proof| proof.counts()), warnings)) } else { Err(errors) }
}

/// An engine is published only if its source is still what it was built from.
fn unchanged(gathered: &Gathered, engine: &Engine) -> Result<(), Vec<Diagnostic>> {
    for (file, stat) in gathered.files.get(&engine.source).into_iter().flatten() {
        if fs::stat(file).ok().as_ref() != Some(stat) {
            return Err(vec![
                Diagnostic::error(
                    "source-changed",
                    format!("`{}` changed while `{}` was built", file.display(), engine.name),
                )
                .in_file(file)
                .help("the engine of the old content is in the cache and was not published; run again"),
            ]);
        }
    }
    Ok(())
}
