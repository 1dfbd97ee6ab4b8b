//! `verify`: every engine measured and judged, without building or publishing any.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::accuracy::{self, Subject};
use super::context::Context;
use super::gather::{Gathered, gather};
use super::scheduler::{self, Job};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::manifest::Engine;
use crate::plan::{Accuracy, AccuracyFact, Keyed, ModelRef, Planned, Reason};
use crate::verify::Judgement;

/// What came of verifying an engine.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The engine.
    pub engine: String,
    /// What came of it.
    pub outcome: VerifyOutcome,
}

/// What came of verifying an engine.
#[derive(Debug, Clone)]
pub enum VerifyOutcome {
    /// It was measured, now or before, and judged.
    Judged(Box<Judgement>),
    /// The manifest asks for nothing.
    NoneDeclared,
    /// It cannot be measured.
    Failed(Vec<Diagnostic>),
    /// The run was stopped before it was done.
    Cancelled,
}

/// One measurement, and the engines that it is for.
struct Work<'a> {
    keyed: &'a Keyed,
    model: &'a ModelRef,
    members: Vec<(&'a Engine, &'a Accuracy)>,
}

/// Measures and judges these engines, in their order.
///
/// # Errors
/// The cache cannot be used at all.
pub fn verify(
    ctx: &Context<'_>,
    engines: &[&Engine],
) -> Result<(Vec<Verified>, Vec<Diagnostic>), cache::Error> {
    let gathered = gather(ctx, engines)?;
    let mut works: BTreeMap<Digest, Work<'_>> = BTreeMap::new();
    for (engine, planned) in engines.iter().zip(&gathered.planned) {
        let (AccuracyFact::Known(accuracy), Some(keyed)) = (&planned.accuracy, &planned.keyed) else {
            continue;
        };
        let Some(model) = gathered.models.get(&engine.source) else { continue };
        let work = works.entry(accuracy.judged.measure).or_insert(Work { keyed, model, members: Vec::new() });
        work.members.push((engine, accuracy));
    }
    let results: Mutex<BTreeMap<String, VerifyOutcome>> = Mutex::default();
    let jobs = works
        .into_values()
        .map(|work| Job { memory: accuracy::memory_estimate(work.keyed, work.model), work })
        .collect();
    scheduler::run(jobs, ctx.jobs, ctx.memory, &ctx.cancel, |work: Work<'_>| {
        for (engine, accuracy) in work.members {
            let outcome = one(ctx, &gathered, engine, work.keyed, work.model, accuracy);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert(engine.name.to_string(), outcome);
        }
    });
    ctx.cache.flush();
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcome = |(engine, planned): (&&Engine, &Planned)| {
        let name = engine.name.to_string();
        let outcome = results.remove(&name).unwrap_or_else(|| unmeasured(ctx, engine, planned));
        Verified { engine: name, outcome }
    };
    let verified = engines.iter().zip(&gathered.planned).map(outcome).collect();
    Ok((verified, gathered.warnings))
}

fn one(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
    keyed: &Keyed,
    model: &ModelRef,
    accuracy: &Accuracy,
) -> VerifyOutcome {
    let reference = engine.verify.as_ref().and_then(|verify| gathered.toolchains.get(&verify.reference));
    let subject = Subject { engine, keyed, model, reference: reference.map(|reference| &**reference) };
    match accuracy::judgement(ctx, &subject, accuracy) {
        Ok(judgement) => VerifyOutcome::Judged(Box::new(judgement)),
        Err(_) if ctx.cancel.is_cancelled() => VerifyOutcome::Cancelled,
        Err(errors) => VerifyOutcome::Failed(errors),
    }
}

/// Why an engine that should be measured is not; empty if the run was stopped.
pub(super) fn unmeasured_because(ctx: &Context<'_>, engine: &Engine, planned: &Planned) -> Vec<Diagnostic> {
    match unmeasured(ctx, engine, planned) {
        VerifyOutcome::Failed(errors) => errors,
        VerifyOutcome::NoneDeclared => {
            let message = format!("`{}` has no `verify` table, which says what its inputs are", engine.name);
            let help = format!("add one: `[{}.verify]` with `inputs`", engine.table);
            vec![Diagnostic::error("none-declared", message).at(&engine.origin, "").help(help)]
        }
        VerifyOutcome::Judged(_) | VerifyOutcome::Cancelled => Vec::new(),
    }
}

/// Why an engine was not measured.
fn unmeasured(ctx: &Context<'_>, engine: &Engine, planned: &Planned) -> VerifyOutcome {
    if !planned.errors.is_empty() {
        return VerifyOutcome::Failed(planned.errors.clone());
    }
    if ctx.cancel.is_cancelled() {
        return VerifyOutcome::Cancelled;
    }
    if engine.verify.is_none() {
        return VerifyOutcome::NoneDeclared;
    }
    let what = match planned.reasons.first() {
        Some(Reason::SourceNotFetched) => "its source",
        Some(Reason::ToolchainNotFetched) => "its toolchain",
        _ => "its reference",
    };
    let message = format!("`{}` needs {what}, which is not fetched yet", engine.name);
    let error = Diagnostic::error("not-fetched", message).at(&engine.origin, "");
    VerifyOutcome::Failed(vec![error.help("run `verify` without `--offline` once")])
}
