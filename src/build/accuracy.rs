//! Accuracy: measured in a worker, kept under its key, held against tolerances.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::context::{Context, millis};
use super::events::Event;
use super::failure::Failure;
use super::toolchains;
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::fs;
use crate::manifest::Engine;
use crate::plan::{
    Accuracy, AccuracyFact, Judged, Keyed, ModelRef, Published, ToolchainFact, ToolchainRef, keys,
};
use crate::verify::{self, Inputs, Judgement, MeasureSpec, Measured, ProfileShapes, SampleError, Verdict};
use crate::worker::protocol::{MEASURED_FILE, MeasureRequest, PREPARED_FOLDER, Request, Response};
use crate::worker::{Limits, Outcome};

/// Name of the metrics among the outputs of a measurement.
const METRICS: &str = "metrics";

/// Bytes of memory that a measurement is expected to need, beside what its values take.
#[must_use]
pub(super) fn memory_estimate(keyed: &Keyed, model: &ModelRef) -> u64 {
    let size = |graph: u64, weights: Option<u64>| graph + weights.unwrap_or(0);
    let source = size(model.graph.size, model.weights.as_ref().map(|w| w.size));
    let prepared = size(keyed.prepared.graph.size, keyed.prepared.weights.as_ref().map(|w| w.size));
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
    published: &Published,
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
    let samples = digests(ctx, engine, &spec)?;
    let reference = match reference {
        Some(ToolchainFact::Found(found)) => found,
        Some(ToolchainFact::Bad(error) | ToolchainFact::Absent(error)) => {
            return Err(vec![(**error).clone()]);
        }
        Some(ToolchainFact::NotFetched) | None => return Ok(AccuracyFact::NotFetched),
    };
    let measure = keys::measure(keyed, &spec, &samples, reference);
    let judged = Judged { measure: measure.key(), judged_by: verify::judged_by(verify) };
    let measured = known(ctx, &judged.measure).map_err(|e| vec![Diagnostic::from(&e)])?;
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
        judgement: measured.map(|measured| verify::judge(&measured, verify)),
        previous: old.map(|record| record.preimage),
    })))
}

/// Digests of the files of all samples, by their names in the folder.
fn digests(
    ctx: &Context<'_>,
    engine: &Engine,
    spec: &MeasureSpec,
) -> Result<BTreeMap<String, Digest>, Vec<Diagnostic>> {
    let Inputs::Files { samples, .. } = &spec.inputs else { return Ok(BTreeMap::new()) };
    let mut digests = BTreeMap::new();
    for sample in samples {
        for file in &sample.files {
            let (blob, _) = ctx.cache.file_digest(&file.path).map_err(|e| {
                let what = format!("sample `{}` of `{}` cannot be read: {e}", sample.name, engine.name);
                vec![Diagnostic::error("sample-unreadable", what).in_file(&file.path)]
            })?;
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            digests.insert(format!("{}/{name}", sample.name), blob.b3);
        }
    }
    Ok(digests)
}

/// The metrics under a key, if the cache holds them.
fn known(ctx: &Context<'_>, key: &Digest) -> Result<Option<Measured>, cache::Error> {
    let Some(record) = ctx.cache.result("measure", key)? else { return Ok(None) };
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
    if let Some(measured) = known(ctx, key).map_err(failed)? {
        return Ok(verify::judge(&measured, verify));
    }
    ctx.events.event(&Event::MeasureStarted { engine: name.clone(), samples: accuracy.spec.count() });
    match run::<Measured>(ctx, subject, accuracy, &MEASURE) {
        Ok((measured, ms)) => {
            let judgement = verify::judge(&measured, verify);
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

/// What a worker is asked of a model and its oracle.
pub(super) struct Asked {
    /// Name of the action.
    pub(super) action: &'static str,
    /// What is done, for messages.
    pub(super) verb: &'static str,
    pub(super) request: fn(Box<MeasureRequest>) -> Request,
    /// The file that it writes.
    pub(super) file: &'static str,
    /// Its name among the outputs.
    pub(super) output: &'static str,
}

const MEASURE: Asked = Asked {
    action: "measure",
    verb: "measuring",
    request: Request::Measure,
    file: MEASURED_FILE,
    output: METRICS,
};

/// Asks a worker, and records what it found under the measurement's inputs.
pub(super) fn run<T: DeserializeOwned>(
    ctx: &Context<'_>,
    subject: &Subject<'_>,
    accuracy: &Accuracy,
    asked: &Asked,
) -> Result<(T, u64), Vec<Diagnostic>> {
    let Subject { engine, keyed, model, reference } = subject;
    let Some(verify) = &engine.verify else { return Err(Vec::new()) };
    let Some((reference, libraries)) = reference.and_then(|r| Some((r, r.libraries.clone()?))) else {
        let message = format!("toolchain `{}` is not on this machine", verify.reference);
        let help = "run `enginewright toolchain fetch`, or `apply` without `--offline`";
        return Err(vec![Diagnostic::error("toolchain-missing", message).help(help)]);
    };
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let file_failed = |e: fs::Error| vec![Diagnostic::error("cache", e.to_string())];
    let job = ctx.cache.job_dir().map_err(failed)?;
    ctx.link_model(&model.graph, model.weights.as_ref(), job.path()).map_err(|e| vec![e])?;
    let folder = job.path().join(PREPARED_FOLDER);
    fs::create_dir_all(&folder).map_err(file_failed)?;
    ctx.link_model(&keyed.prepared.graph, keyed.prepared.weights.as_ref(), &folder).map_err(|e| vec![e])?;

    let what = format!("{} `{}`", asked.verb, engine.name);
    let request = (asked.request)(Box::new(MeasureRequest { libraries, spec: accuracy.spec.clone() }));
    let limits = Limits { timeout: verify.timeout, memory: engine.build.memory_limit, env: Vec::new() };
    let names = [engine.name.to_string()];
    let (wall, peak_rss) = match ctx.worker.run(job.path(), &request, &limits, &ctx.cancel) {
        Ok(Outcome { response: Response::Measured, wall, peak_rss, .. }) => (wall, peak_rss),
        // A sample is at fault: nothing is worth keeping that is not in front of the user.
        Ok(Outcome { response: Response::Refused(refusal), .. }) if refusal.stage == "sample" => {
            let origin = verify.key_origins.get("inputs").unwrap_or(&verify.origin);
            let at = |mut d: Diagnostic| {
                d.message = format!("{what} failed: {}", d.message);
                if d.place.is_none() { d.at(origin, "") } else { d }
            };
            if refusal.diagnostics.is_empty() {
                return Err(vec![Failure::of_refusal(*refusal).diagnostic(&what).at(origin, "")]);
            }
            return Err(refusal.diagnostics.into_iter().map(Diagnostic::from).map(at).collect());
        }
        Ok(Outcome { response: Response::Refused(refusal), .. }) => {
            let failure = Failure::of_refusal(*refusal).keep(ctx, &names, &request, job.path());
            return Err(vec![failure.diagnostic(&what)]);
        }
        Ok(Outcome { response, .. }) => {
            let message = format!("the worker's answer makes no sense: {response:?}");
            return Err(vec![Diagnostic::error("worker-garbage", message)]);
        }
        Err(error) => {
            let mut failure = Failure::of_worker(&error);
            if failure.code == "worker-timed-out" {
                failure.help =
                    vec!["give fewer samples, or raise `timeout` in the model's `verify` table".to_owned()];
            }
            return Err(vec![failure.keep(ctx, &names, &request, job.path()).diagnostic(&what)]);
        }
    };
    let during = format!("`{}` was measured", engine.name);
    toolchains::unchanged(ctx, &verify.reference, reference, &during).map_err(|e| vec![e])?;
    unchanged(ctx, engine, accuracy)?;
    let path: PathBuf = job.path().join(asked.file);
    let bytes = fs::read(&path).map_err(file_failed)?;
    let measured: T = serde_json::from_slice(&bytes).map_err(|e| {
        vec![Diagnostic::error("worker-garbage", format!("{what}: what it measured cannot be read: {e}"))]
    })?;
    let outputs = BTreeMap::from([(asked.output.to_owned(), ctx.cache.adopt(&path, false).map_err(failed)?)]);
    let info = serde_json::json!({
        "engine": engine.name.to_string(),
        "reference_version": reference.version,
        "samples": accuracy.spec.count(),
        "peak_rss": peak_rss,
    });
    ctx.record(preimage(accuracy, asked), outputs, info, wall).map_err(failed)?;
    Ok((measured, millis(wall)))
}

/// The inputs of what is asked: those of the measurement.
pub(super) fn preimage(accuracy: &Accuracy, asked: &Asked) -> Preimage {
    Preimage { action: asked.action.to_owned(), ..accuracy.measure.clone() }
}

/// Nothing is recorded for samples that changed while they were read.
fn unchanged(ctx: &Context<'_>, engine: &Engine, accuracy: &Accuracy) -> Result<(), Vec<Diagnostic>> {
    let now: BTreeMap<String, crate::digest::Value> =
        digests(ctx, engine, &accuracy.spec)?.into_iter().map(|(n, d)| (n, (&d).into())).collect();
    let before = match accuracy.measure.fields.get("inputs") {
        Some(crate::digest::Value::Map(inputs)) => inputs.get("files").cloned(),
        _ => None,
    };
    if before.is_none_or(|before| before == crate::digest::Value::from(now)) {
        return Ok(());
    }
    let message = format!("samples of `{}` changed while they were read", engine.name);
    Err(vec![
        Diagnostic::error("source-changed", message)
            .help("nothing was recorded; run again when nobody writes to them"),
    ])
}

/// An engine whose verdict is bad.
pub(super) fn rejected(engine: &Engine, judgement: &Judgement) -> Diagnostic {
    let mut failures = judgement.failures.iter();
    let first = failures.next().cloned().unwrap_or_default();
    let mut error =
        Diagnostic::error("verify-failed", format!("`{}` is not accurate enough: {first}", engine.name));
    if let Some(verify) = &engine.verify {
        error = error.at(&verify.origin, "asked here");
    }
    error.notes.extend(failures.cloned());
    error
        .note("its engine is in the cache and was not published; what was published before stays")
        .help(format!("`enginewright verify {}` shows all metrics", engine.name))
}

/// The verdict to publish an engine with, and what it was made from.
///
/// # Errors
/// It cannot be told, or is bad: then the engine is not published.
pub(super) fn verdict(
    ctx: &Context<'_>,
    subject: &Subject<'_>,
    accuracy: &AccuracyFact,
) -> Result<(Verdict, Option<Judged>), Vec<Diagnostic>> {
    match accuracy {
        AccuracyFact::NoneDeclared => Ok((Verdict::NoneDeclared, None)),
        AccuracyFact::Skipped => Ok((Verdict::Skipped, None)),
        AccuracyFact::NotFetched => {
            let message = format!("`{}` needs its reference, which is not fetched yet", subject.engine.name);
            Err(vec![
                Diagnostic::error("not-fetched", message)
                    .help("run `apply` without `--offline` once, or with `--no-verify`"),
            ])
        }
        AccuracyFact::Known(accuracy) => {
            let judgement = judgement(ctx, subject, accuracy)?;
            if judgement.verdict == Verdict::Failed {
                return Err(vec![rejected(subject.engine, &judgement)]);
            }
            Ok((judgement.verdict, Some(accuracy.judged)))
        }
    }
}
