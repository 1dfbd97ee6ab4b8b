//! `verify --on gpu`: engines run on a GPU of this machine, their outputs held against the reference.
//!
//! What is found is kept under the engine's digest and the GPU's compute capability: `apply` publishes by it where
//! `require = "on-device"`, on machines without a GPU too.

use std::path::PathBuf;

use super::accuracy::{self, RUN, Subject};
use super::context::{Context, link};
use super::drift;
use super::events::Event;
use super::gather::{Gathered, gather};
use super::measure::{self, METRICS, Work};
use super::publish::engine_path;
use super::toolchains;
use super::verify::{Verified, VerifyOutcome};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::gpu::LocalGpu;
use crate::manifest::{Engine, ToolchainKind};
use crate::plan::{Accuracy, Planned, Published, keys};
use crate::verify::{Measured, OnGpu, judge_run};
use crate::worker::only_gpu;
use crate::worker::protocol::{ENGINE_FILE, MEASURED_FILE, OnGpuRequest, Request};

/// The GPUs of this machine, and which of them is to be used.
#[derive(Debug, Clone, Copy)]
pub struct Gpus<'a> {
    /// All of them, in the driver's order.
    pub all: &'a [LocalGpu],
    /// The place of the one that was asked for; else the first that an engine serves.
    pub wanted: Option<usize>,
}

/// Runs these engines, one after the other, and judges what they give.
///
/// # Errors
/// The cache cannot be used at all.
pub fn on_gpu(
    ctx: &Context<'_>,
    engines: &[&Engine],
    gpus: Gpus<'_>,
) -> Result<(Vec<Verified>, Vec<Diagnostic>), cache::Error> {
    let gathered = gather(ctx, engines)?;
    let one = |(engine, planned): (&&Engine, &Planned)| {
        let outcome = match one(ctx, &gathered, engine, planned, gpus) {
            _ if engine.verify.is_none() && planned.errors.is_empty() => VerifyOutcome::NoneDeclared,
            Ok(outcome) => outcome,
            Err(_) if ctx.cancel.is_cancelled() => VerifyOutcome::Cancelled,
            Err(errors) => VerifyOutcome::Failed(errors),
        };
        Verified { engine: engine.name.to_string(), outcome }
    };
    let verified = engines.iter().zip(&gathered.planned).map(one).collect();
    ctx.cache.flush();
    Ok((verified, gathered.warnings))
}

fn one(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
    planned: &Planned,
    gpus: Gpus<'_>,
) -> Result<VerifyOutcome, Vec<Diagnostic>> {
    let (subject, accuracy) = drift::subject(ctx, gathered, engine, planned)?;
    let Some(verify) = &engine.verify else { return Err(Vec::new()) };
    let name = engine.name.to_string();
    if ctx.builder(engine).is_some_and(|builder| builder.kind != ToolchainKind::TensorrtRtx) {
        let message = format!("running an engine of the full TensorRT is not supported yet: `{name}`");
        let help = "`trtexec --loadEngine=… --loadInputs=… --exportOutput=…` runs it by hand";
        return Err(vec![Diagnostic::error("not-yet", message).at(&verify.origin, "").help(help)]);
    }
    let published = gathered.published.get(&name).unwrap_or(&Published::Nothing);
    let Some(b3) = accuracy::whole_engine(subject.keyed, planned.built.as_ref(), published) else {
        let message = format!("`{name}` is not built as the manifest says it now");
        let help = "run `enginewright apply` first: it builds it, and keeps it even where it may not be published yet";
        return Err(vec![Diagnostic::error("not-built", message).at(&engine.origin, "").help(help)]);
    };
    let place = pick(engine, gpus).map_err(|e| vec![e])?;
    let run = Run { subject: &subject, accuracy, b3, place, gpu: &gpus.all[place] };
    let found = run.known_or_made(ctx, gathered, planned)?;
    Ok(VerifyOutcome::Judged(Box::new(judge_run(&found, verify))))
}

/// The place of the GPU that an engine runs on.
fn pick(engine: &Engine, gpus: Gpus<'_>) -> Result<usize, Diagnostic> {
    // What the runtime says of a GPU that was asked for is for it to say.
    let served = || gpus.all.iter().position(|gpu| engine.target.sms.contains(&gpu.sm));
    gpus.wanted.or_else(served).ok_or_else(|| {
        let serves: Vec<String> = engine.target.sms.iter().map(ToString::to_string).collect();
        let serves = serves.join(", ");
        let here: Vec<String> = gpus.all.iter().map(|gpu| format!("{} is {}", gpu.name, gpu.sm)).collect();
        let message = format!(
            "`{}` serves {serves}, and no GPU of this machine is one: {}",
            engine.name,
            here.join(", ")
        );
        Diagnostic::error("gpu-unsupported", message)
            .at(&engine.target.origin, "")
            .help(format!("run it where a GPU of {serves} is, with this cache"))
            .help("`enginewright gpu` says which targets and toolchains serve the GPUs of this machine")
    })
}

/// One engine on one GPU.
struct Run<'a> {
    subject: &'a Subject<'a>,
    accuracy: &'a Accuracy,
    /// Digest of the engine.
    b3: Digest,
    place: usize,
    gpu: &'a LocalGpu,
}

impl Run<'_> {
    fn known_or_made(
        &self,
        ctx: &Context<'_>,
        gathered: &Gathered,
        planned: &Planned,
    ) -> Result<OnGpu, Vec<Diagnostic>> {
        let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
        let preimage = keys::run(&self.accuracy.measure, &self.subject.keyed.build, &self.b3, self.gpu.sm);
        let key = preimage.key();
        let give_up = || ctx.cancel.is_cancelled();
        let lock = ctx.cache.lock_action_unless(RUN, &key, &give_up, &mut |_| {}).map_err(failed)?;
        let Some(_lock) = lock else { return Err(Vec::new()) };
        if let Some(known) = accuracy::run_of(ctx, key).map_err(failed)? {
            return Ok(known.run);
        }
        let engine = self.subject.engine;
        let Some(toolchain) = gathered.toolchains.get(&engine.target.toolchain) else {
            return Err(Vec::new());
        };
        let Some(runtime) = toolchain.libraries.clone() else {
            let message = format!("toolchain `{}` is not on this machine", engine.target.toolchain);
            let help = "run `enginewright toolchain fetch`: its runtime runs the engine";
            return Err(vec![Diagnostic::error("toolchain-missing", message).help(help)]);
        };
        let measure = measure::request(self.subject, self.accuracy)?;
        let job = ctx.cache.job_dir().map_err(failed)?;
        let model = self.subject.model;
        ctx.link_model(&model.graph, model.weights.as_ref(), job.path()).map_err(|e| vec![e])?;
        link(&self.file(ctx, planned).map_err(failed)?, &job.path().join(ENGINE_FILE))
            .map_err(|e| vec![Diagnostic::error("cache", e.to_string())])?;
        let info = serde_json::json!({ "gpu": self.gpu, "runtime_version": toolchain.version });
        let request = OnGpuRequest { gpu: self.gpu.uuid.clone(), runtime, measure };
        let work = Work {
            verb: "running",
            request: Request::OnGpu(Box::new(request)),
            env: only_gpu(&ctx.source.env, self.place, self.gpu),
            preimage,
            file: MEASURED_FILE,
            output: METRICS,
            info: info.as_object().cloned().unwrap_or_default(),
        };
        let name = engine.name.to_string();
        let samples = self.accuracy.spec.count();
        ctx.events.event(&Event::MeasureStarted { engine: name.clone(), samples });
        let found = work.carry_out::<Measured>(ctx, self.subject, self.accuracy, job.path());
        let during = format!("`{name}` ran");
        let (measured, ms) = found
            .and_then(|found| {
                toolchains::unchanged(ctx, &engine.target.toolchain, toolchain, &during)
                    .map(|()| found)
                    .map_err(|e| vec![e])
            })
            .inspect_err(|errors| {
                let first = errors.first();
                ctx.events.event(&Event::MeasureFailed {
                    engine: name.clone(),
                    code: first.map(|e| e.code.to_string()).unwrap_or_default(),
                    message: first.map(|e| e.message.clone()).unwrap_or_default(),
                });
            })?;
        let found = OnGpu { gpu: self.gpu.clone(), measured };
        if let Some(verify) = &engine.verify {
            let verdict = judge_run(&found, verify).verdict.name().to_owned();
            ctx.events.event(&Event::MeasureFinished { engine: name, ms, verdict });
        }
        Ok(found)
    }

    /// The engine's file: in the cache, or where it is published.
    fn file(&self, ctx: &Context<'_>, planned: &Planned) -> Result<PathBuf, cache::Error> {
        if let Some(built) = &planned.built
            && let Some(path) = ctx.cache.find(&built.engine)?
        {
            return Ok(path);
        }
        Ok(engine_path(&ctx.manifest.root, &self.subject.engine.name))
    }
}
