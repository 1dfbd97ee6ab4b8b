//! Accuracy: measured in a worker, kept under its key, held against tolerances.

use super::context::Context;
use super::events::Event;
use super::measure::{self, MEASURE, METRICS};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::gpu::LocalGpu;
use crate::manifest::{Engine, Verify};
use crate::plan::{
    Accuracy, AccuracyFact, BuiltRef, Judged, Keyed, ModelRef, Published, RunRef, ToolchainFact,
    ToolchainRef, keys,
};
use crate::toolchain::trtexec::Types;
use crate::verify::{
    self, Judgement, MeasureSpec, Measured, NOT_RUN, OnGpu, ProfileShapes, SampleError, Verdict,
};

/// Name of the action that runs an engine on a GPU.
pub(super) const RUN: &str = "run";

/// Bytes of memory that a measurement is expected to need, beside what its values take.
#[must_use]
pub(super) fn memory_estimate(keyed: &Keyed, model: &ModelRef) -> u64 {
    let size = |graph: u64, weights: Option<u64>| graph + weights.unwrap_or(0);
    let source = size(model.graph.size, model.weights.as_ref().map(|w| w.size));
    let measured = keyed.measured();
    let prepared = size(measured.graph.size, measured.weights.as_ref().map(|w| w.size));
    (256 << 20) + 3 * source + 6 * prepared
}

/// What is known of the accuracy of an engine.
///
/// # Errors
/// Its samples cannot be listed or read.
pub(super) fn fact(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    model: &ModelRef,
    reference: Option<&ToolchainFact>,
    (built, published): (Option<&BuiltRef>, &Published),
) -> Result<AccuracyFact, Vec<Diagnostic>> {
    let Some(verify) = &engine.verify else { return Ok(AccuracyFact::NoneDeclared) };
    if !ctx.verify {
        return Ok(AccuracyFact::Skipped);
    }
    let profiles = keyed
        .profiles
        .iter()
        .map(|profile| ProfileShapes { shapes: profile.shapes.clone(), values: profile.values.clone() });
    let at_inputs = |error: &SampleError| {
        let mut diagnostic = Diagnostic::error(error.code, error.message.clone())
            .at(verify.key_origins.get("inputs").unwrap_or(&verify.origin), "");
        diagnostic.help.extend(error.help.clone());
        vec![diagnostic]
    };
    let spec = MeasureSpec::of(engine, &model.summary, profiles.collect()).map_err(|e| at_inputs(&e))?;
    let Some(spec) = spec else { return Ok(AccuracyFact::NoneDeclared) };
    let asked = keyed.trtexec.as_ref().map(|trtexec| &trtexec.asked.types);
    let is_weak = matches!(asked, Some(Types::Weak { fp16, bf16, .. }) if *fp16 || *bf16);
    let spec = MeasureSpec { is_weak, ..spec };
    let samples = measure::digests(ctx, engine, &spec)?;
    let reference = match reference {
        Some(ToolchainFact::Found(found)) => found,
        Some(ToolchainFact::Bad(error) | ToolchainFact::Absent(error)) => {
            return Err(vec![(**error).clone()]);
        }
        Some(ToolchainFact::NotFetched) | None => return Ok(AccuracyFact::NotFetched),
    };
    let measure = keys::measure(keyed, &spec, &samples, reference);
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let runs = match whole_engine(keyed, built, published) {
        Some(b3) => runs(ctx, engine, keyed, &measure, &b3).map_err(failed)?,
        None => Vec::new(),
    };
    let judged = Judged { measure: measure.key(), judged_by: judged_by(verify, &runs) };
    let measured = known(ctx, "measure", &judged.measure).map_err(failed)?;
    let old = match published {
        Published::Whole { judged: Some(old), .. } => {
            ctx.cache.record("measure", &old.measure).ok().flatten()
        }
        _ => None,
    };
    Ok(AccuracyFact::Known(Box::new(Accuracy {
        spec,
        measure,
        judged,
        judgement: measured.map(|measured| judge(&measured, &runs, verify)),
        runs,
        previous: old.map(|record| record.preimage),
    })))
}

/// Digest of the engine of these inputs: in the cache, or where it is published.
pub(super) fn whole_engine(keyed: &Keyed, built: Option<&BuiltRef>, published: &Published) -> Option<Digest> {
    match (built, published) {
        (Some(built), _) => Some(built.engine.b3),
        (None, Published::Whole { engine, build_key, .. }) => {
            (*build_key == keyed.build_key).then_some(*engine)
        }
        (None, _) => None,
    }
}

/// What is recorded of runs of an engine, by compute capability.
fn runs(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    measure: &Preimage,
    b3: &Digest,
) -> Result<Vec<RunRef>, cache::Error> {
    let mut runs = Vec::new();
    for sm in &engine.target.sms {
        runs.extend(run_of(ctx, keys::run(measure, &keyed.build, b3, *sm).key())?);
    }
    Ok(runs)
}

/// The run under a key, if the cache holds it.
pub(super) fn run_of(ctx: &Context<'_>, key: Digest) -> Result<Option<RunRef>, cache::Error> {
    let Some(record) = ctx.cache.record(RUN, &key)? else { return Ok(None) };
    let Some(gpu) = record.info.get("gpu").cloned() else { return Ok(None) };
    let Ok(gpu) = serde_json::from_value::<LocalGpu>(gpu) else { return Ok(None) };
    let measured = known(ctx, RUN, &key)?;
    Ok(measured.map(|measured| RunRef { key, run: OnGpu { gpu, measured } }))
}

fn judged_by(verify: &Verify, runs: &[RunRef]) -> Digest {
    let keys: Vec<Digest> = runs.iter().map(|run| run.key).collect();
    verify::judged_by(verify, &keys)
}

fn judge(measured: &Measured, runs: &[RunRef], verify: &Verify) -> Judgement {
    let runs: Vec<OnGpu> = runs.iter().map(|run| run.run.clone()).collect();
    verify::judge(measured, &runs, verify)
}

/// The metrics under a key, if the cache holds them.
fn known(ctx: &Context<'_>, action: &str, key: &Digest) -> Result<Option<Measured>, cache::Error> {
    let Some(record) = ctx.cache.result(action, key)? else { return Ok(None) };
    let Some(metrics) = record.outputs.get(METRICS) else { return Ok(None) };
    let Some(bytes) = ctx.cache.read(metrics)? else { return Ok(None) };
    Ok(serde_json::from_slice(&bytes).ok())
}

/// What an engine is measured from.
pub(super) struct Subject<'a> {
    pub(super) engine: &'a Engine,
    pub(super) keyed: &'a Keyed,
    pub(super) model: &'a ModelRef,
    pub(super) reference: Option<&'a ToolchainRef>,
}

/// The verdict on an engine: of metrics that are kept, or are measured now.
///
/// # Errors
/// It cannot be measured. A verdict that is bad is no error here.
pub(super) fn judgement(
    ctx: &Context<'_>,
    subject: &Subject<'_>,
    accuracy: &Accuracy,
) -> Result<Judgement, Vec<Diagnostic>> {
    if let Some(judgement) = &accuracy.judgement {
        return Ok(judgement.clone());
    }
    let Some(verify) = &subject.engine.verify else { return Err(Vec::new()) };
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let name = subject.engine.name.to_string();
    let give_up = || ctx.cancel.is_cancelled();
    let key = &accuracy.judged.measure;
    let lock = ctx.cache.lock_action_unless("measure", key, &give_up, &mut |_| {}).map_err(failed)?;
    let Some(_lock) = lock else { return Err(Vec::new()) };
    // Another engine with the same inputs, or another process, may have done it while we waited.
    if let Some(measured) = known(ctx, MEASURE.action, key).map_err(failed)? {
        return Ok(judge(&measured, &accuracy.runs, verify));
    }
    ctx.events.event(&Event::MeasureStarted { engine: name.clone(), samples: accuracy.spec.count() });
    match measure::run::<Measured>(ctx, subject, accuracy, &MEASURE) {
        Ok((measured, ms)) => {
            let judgement = judge(&measured, &accuracy.runs, verify);
            let verdict = judgement.verdict.name().to_owned();
            ctx.events.event(&Event::MeasureFinished { engine: name, ms, verdict });
            Ok(judgement)
        }
        Err(errors) => {
            let first = errors.first();
            ctx.events.event(&Event::MeasureFailed {
                engine: name,
                code: first.map(|e| e.code.to_string()).unwrap_or_default(),
                message: first.map(|e| e.message.clone()).unwrap_or_default(),
            });
            Err(errors)
        }
    }
}

/// An engine whose verdict is bad.
pub(super) fn rejected(engine: &Engine, judgement: &Judgement) -> Diagnostic {
    let mut failures = judgement.failures.iter();
    let first = failures.next().cloned().unwrap_or_default();
    let what = if first == NOT_RUN { "may not be published yet" } else { "is not accurate enough" };
    let mut error = Diagnostic::error("verify-failed", format!("`{}` {what}: {first}", engine.name));
    if let Some(verify) = &engine.verify {
        error = error.at(&verify.origin, "asked here");
    }
    error.notes.extend(failures.cloned());
    error = error.note("its engine is in the cache and was not published; what was published before stays");
    if judgement.failures.iter().any(|failure| failure == NOT_RUN) {
        let sms: Vec<String> = engine.target.sms.iter().map(ToString::to_string).collect();
        error = error.help(format!(
            "run `enginewright verify --on gpu {}` where this cache and a GPU of {} are, then `apply` again",
            engine.name,
            sms.join(" or "),
        ));
    }
    error.help(format!("`enginewright verify {}` shows all metrics", engine.name))
}

/// What an engine is published with.
pub(super) struct Judging {
    pub(super) verdict: Verdict,
    /// What it was made from.
    pub(super) judged: Option<Judged>,
    /// Runs of the engine itself.
    pub(super) runs: Vec<RunRef>,
}

/// What is known of the accuracy of an engine that may have been built just now: runs are of one engine's bytes.
fn of_build(
    ctx: &Context<'_>,
    subject: &Subject<'_>,
    accuracy: &Accuracy,
    built: &BuiltRef,
) -> Result<Accuracy, Vec<Diagnostic>> {
    let Subject { engine, keyed, .. } = subject;
    let Some(verify) = &engine.verify else { return Err(Vec::new()) };
    let runs = runs(ctx, engine, keyed, &accuracy.measure, &built.engine.b3);
    let runs = runs.map_err(|e| vec![Diagnostic::from(&e)])?;
    if runs == accuracy.runs {
        return Ok(accuracy.clone());
    }
    let judged = Judged { judged_by: judged_by(verify, &runs), ..accuracy.judged };
    Ok(Accuracy { judged, judgement: None, runs, ..accuracy.clone() })
}

/// The verdict to publish an engine with, and what it was made from.
///
/// # Errors
/// It cannot be told, or is bad: then the engine is not published.
pub(super) fn verdict(
    ctx: &Context<'_>,
    subject: &Subject<'_>,
    accuracy: &AccuracyFact,
    built: &BuiltRef,
) -> Result<Judging, Vec<Diagnostic>> {
    let without = |verdict| Judging { verdict, judged: None, runs: Vec::new() };
    match accuracy {
        AccuracyFact::NoneDeclared => Ok(without(Verdict::NoneDeclared)),
        AccuracyFact::Skipped => Ok(without(Verdict::Skipped)),
        AccuracyFact::NotFetched => {
            let message = format!("`{}` needs its reference, which is not fetched yet", subject.engine.name);
            Err(vec![
                Diagnostic::error("not-fetched", message)
                    .help("run `apply` without `--offline` once, or with `--no-verify`"),
            ])
        }
        AccuracyFact::Known(accuracy) => {
            let accuracy = &of_build(ctx, subject, accuracy, built)?;
            let judgement = judgement(ctx, subject, accuracy)?;
            if judgement.verdict == Verdict::Failed {
                return Err(vec![rejected(subject.engine, &judgement)]);
            }
            let (judged, runs) = (Some(accuracy.judged), accuracy.runs.clone());
            Ok(Judging { verdict: judgement.verdict, judged, runs })
        }
    }
}
