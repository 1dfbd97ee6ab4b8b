//! One build: from a key without a result to a result, or a failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::context::Context;
use super::events::{Event, Made};
use super::failure::{Failure, log_text};
use super::{action, gather, profile_sizes, toolchains, trtexec};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::engine;
use crate::fs;
use crate::manifest::{BuildOptions, Engine};
use crate::onnx::TypedNode;
use crate::plan::{BuiltRef, Keyed, ToolchainRef};
use crate::worker::protocol::{
    BuildRequest, Built, ENGINE_FILE, Hermetic, KERNELS_FILE, Options, ProfileShapes, Request, Response,
};
use crate::worker::{CancelToken, Client, Limits, Outcome, WorkerError};

/// Bytes of memory that a build is expected to need at most: measured on TensorRT-RTX 1.7.
#[must_use]
pub(super) fn memory_estimate(keyed: &Keyed) -> u64 {
    (190 << 20) + model_size(keyed) / 10 * 38
}

/// Size of what is built from, in bytes.
fn model_size(keyed: &Keyed) -> u64 {
    keyed.prepared.graph.size + keyed.prepared.weights.as_ref().map_or(0, |w| w.size)
}

/// Builds what has no result yet; tells if another process did it meanwhile. `engines` are all that the result is for,
/// the first one names it.
pub(super) fn build(
    ctx: &Context<'_>,
    engine: &Engine,
    engines: &[String],
    keyed: &Keyed,
    toolchain: &ToolchainRef,
) -> Result<(BuiltRef, Made), Vec<Diagnostic>> {
    let name = engine.name.to_string();
    let cache_failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let size = model_size(keyed);
    ctx.events.event(&Event::BuildStarted { engine: name.clone(), engines: engines.to_vec(), size });
    let give_up = || ctx.cancel.is_cancelled();
    let on_wait = &mut |holder: cache::Holder| {
        ctx.events.event(&Event::BuildWaiting { engine: name.clone(), pid: holder.pid });
    };
    let lock = ctx.cache.lock_action_unless("build", &keyed.build_key, &give_up, on_wait);
    let Some(_lock) = lock.map_err(cache_failed)? else {
        return Err(Vec::new()); // Cancelled, which the caller sees for itself.
    };
    // Another process may have built it while we waited.
    if let Some(built) = gather::built(ctx, &keyed.build_key, None).map_err(cache_failed)? {
        ctx.events.event(&Event::BuildFinished {
            engine: name,
            ms: 0,
            size: built.engine.size,
            peak_rss: 0,
            from_cache: true,
        });
        return Ok((built, Made::Cache));
    }
    match run(ctx, engine, engines, keyed, toolchain) {
        Ok((built, peak_rss)) => {
            ctx.events.event(&Event::BuildFinished {
                engine: name,
                ms: built.duration_ms,
                size: built.engine.size,
                peak_rss,
                from_cache: false,
            });
            Ok((built, Made::Built))
        }
        Err(errors) => {
            for error in &errors {
                ctx.events.event(&Event::BuildFailed {
                    engine: name.clone(),
                    code: error.code.to_string(),
                    message: error.message.clone(),
                });
            }
            Err(errors)
        }
    }
}

fn run(
    ctx: &Context<'_>,
    engine: &Engine,
    engines: &[String],
    keyed: &Keyed,
    toolchain: &ToolchainRef,
) -> Result<(BuiltRef, u64), Vec<Diagnostic>> {
    let cache_failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let pinned = trtexec::timings::locked(ctx, engine, keyed).map_err(|e| vec![e])?;
    let job = ctx.cache.job_dir().map_err(cache_failed)?;
    let job_path = job.path();
    let (built, wall, peak_rss) =
        build_in(ctx, engine, engines, keyed, toolchain, pinned.as_deref(), job_path)?;
    let built = record(ctx, engine, keyed, toolchain, job.path(), built, wall).map_err(cache_failed)?;
    Ok((built, peak_rss))
}

/// Builds into a job folder, whatever the cache holds; gives what was built, how long that took, and the most memory
/// that it took. Where kernels are timed, they are chosen by `pinned` alone, if that is given.
pub(super) fn build_in(
    ctx: &Context<'_>,
    engine: &Engine,
    engines: &[String],
    keyed: &Keyed,
    toolchain: &ToolchainRef,
    pinned: Option<&Path>,
    job: &Path,
) -> Result<(Built, Duration, u64), Vec<Diagnostic>> {
    if let Some(asked) = &keyed.trtexec {
        return trtexec::run::build_in(ctx, engine, engines, (keyed, asked), toolchain, pinned, job);
    }
    let Some(libraries) = toolchain.libraries.clone() else {
        return Err(vec![
            Diagnostic::error(
                "toolchain-missing",
                format!("toolchain `{}` is not on this machine", engine.target.toolchain),
            )
            .help("run `enginewright toolchain fetch`, or `apply` without `--offline`"),
        ]);
    };
    let prepared = &keyed.prepared;
    ctx.link_model(&prepared.graph, prepared.weights.as_ref(), job).map_err(|e| vec![e])?;
    debug_assert_eq!(
        action::request(&keyed.build, libraries.clone()),
        Some(request(engine, keyed, libraries.clone(), Hermetic::Det)),
        "the key says all that the worker is asked"
    );
    let request_as = |hermetic| Request::Build(Box::new(request(engine, keyed, libraries.clone(), hermetic)));
    let limits = Limits { timeout: engine.build.timeout, memory: engine.build.memory_limit, env: Vec::new() };
    let (request, outcome) = ask(&ctx.worker, job, &request_as, &limits, &ctx.cancel);
    let failed = |failure: Failure| {
        let failure = failure.keep(ctx, engines, &request, job);
        let what = format!("building `{}`", engine.name);
        let mut diagnostic = profile_sizes::tell(engine, &failure, &what, failure.diagnostic(&what));
        add_nodes(ctx, keyed, engine, &failure, &mut diagnostic);
        vec![diagnostic]
    };
    // A library that is overwritten under a worker makes it crash, or say anything.
    let during = format!("`{}` was built", engine.name);
    toolchains::unchanged(ctx, &engine.target.toolchain, toolchain, &during).map_err(|e| vec![e])?;
    match outcome {
        Ok(Outcome { response: Response::Built(built), wall, peak_rss, .. }) => Ok((*built, wall, peak_rss)),
        Ok(Outcome { response: Response::Refused(refusal), .. }) => {
            Err(failed(Failure::of_refusal(*refusal)))
        }
        Ok(Outcome { response, .. }) => Err(vec![Diagnostic::error(
            "worker-garbage",
            format!("the worker's answer makes no sense: {response:?}"),
        )]),
        Err(error) => Err(failed(Failure::of_worker(&error))),
    }
}

/// Asks a worker to build, deterministically if that can be; gives what it was asked, and what came of it.
pub(super) fn ask(
    worker: &Client,
    job: &Path,
    request_as: &dyn Fn(Hermetic) -> Request,
    limits: &Limits,
    cancel: &CancelToken,
) -> (Request, Result<Outcome, WorkerError>) {
    let request = request_as(Hermetic::Det);
    let outcome = worker.run(job, &request, limits, cancel);
    if !matches!(outcome, Err(WorkerError::Stuck { .. })) {
        return (request, outcome);
    }
    // What cannot be built deterministically is built all the same, and said to be so.
    let request = request_as(Hermetic::Plain);
    let outcome = worker.run(job, &request, limits, cancel);
    (request, outcome)
}

fn record(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    toolchain: &ToolchainRef,
    job: &Path,
    built: Built,
    wall: Duration,
) -> Result<BuiltRef, cache::Error> {
    let prepare_key = record_prepare(ctx, keyed)?;
    let blob = ctx.cache.adopt(&job.join(ENGINE_FILE), true)?;
    let log = ctx.cache.put_bytes(log_text(&built.log).as_bytes())?;
    let kernels = ctx.cache.adopt(&job.join(KERNELS_FILE), false)?;
    let timings = job.join(trtexec::timings::FILE);
    let timings = if fs::is_file(&timings) { Some(ctx.cache.adopt(&timings, false)?) } else { None };
    let mut outputs = BTreeMap::from([
        ("engine".to_owned(), blob),
        ("kernels".to_owned(), kernels),
        ("log".to_owned(), log),
    ]);
    outputs.extend(timings.map(|blob| ("timings".to_owned(), blob)));
    // Facts about the result, none of which decides it.
    let info = serde_json::json!({
        "engine": engine.name.to_string(),
        "model": keyed.model,
        "prepare_key": prepare_key,
        "toolchain_version": toolchain.version,
        "bindings": built.bindings,
        "hermetic": built.hermetic.name(),
        "gpu": built.gpu,
        "said": engine::log::codes(built.log.iter().map(|line| line.text.as_str())),
    });
    let record = ctx.record(keyed.build.clone(), outputs, info, wall)?;
    let engine = record.outputs["engine"].clone();
    // So that a lock file can name it by its digest.
    let by_digest = gather::engine_preimage(&engine.b3);
    ctx.record(by_digest, record.outputs.clone(), record.info.clone(), wall)?;
    Ok(gather::built_ref(&record, engine))
}

fn record_prepare(ctx: &Context<'_>, keyed: &Keyed) -> Result<Digest, cache::Error> {
    let key = keyed.prepare.key();
    if keyed.prepared.assignment.is_some() {
        return Ok(key); // It was recorded when it was prepared.
    }
    let mut outputs = BTreeMap::from([("graph".to_owned(), keyed.prepared.graph.clone())]);
    if let Some(weights) = &keyed.prepared.weights {
        outputs.insert("weights".to_owned(), weights.clone());
    }
    let info = serde_json::json!({ "prepared": keyed.prepared.digest });
    ctx.record(keyed.prepare.clone(), outputs, info, Duration::ZERO)?;
    Ok(key)
}

fn request(
    engine: &Engine,
    keyed: &Keyed,
    libraries: std::path::PathBuf,
    hermetic: Hermetic,
) -> BuildRequest {
    let profiles = keyed.profiles.iter().map(|profile| ProfileShapes {
        shapes: profile.shapes.clone().into_iter().collect(),
        values: profile.values.clone().into_iter().collect(),
    });
    BuildRequest {
        libraries,
        sms: engine.target.sms.iter().map(|sm| sm.0).collect(),
        profiles: profiles.collect(),
        options: options(&engine.build, engine.tf32),
        hermetic,
    }
}

fn options(build: &BuildOptions, tf32: bool) -> Options {
    Options {
        workspace: build.workspace,
        tf32,
        optimization_level: build.optimization_level,
        profiling: build.profiling.name().to_owned(),
        weight_streaming: build.weight_streaming,
        strict_nans: build.strict_nans,
        sparse_weights: build.sparse_weights,
        distributive_independence: build.distributive_independence,
        max_aux_streams: build.max_aux_streams,
        tiling: build.tiling.name().to_owned(),
    }
}

/// Names the nodes behind a failure that TensorRT tells without names.
fn add_nodes(
    ctx: &Context<'_>,
    keyed: &Keyed,
    engine: &Engine,
    failure: &Failure,
    diagnostic: &mut Diagnostic,
) {
    let wanted = match failure.code.as_str() {
        "sm75-fp32-gemm" => crate::onnx::gemm_nodes,
        "type-not-on-sm" => crate::onnx::bf16_nodes,
        _ => return,
    };
    let read = |blob| ctx.cache.read(blob).ok().flatten();
    let Some(graph) = read(&keyed.prepared.graph) else { return };
    let weights = keyed.prepared.weights.as_ref().and_then(read);
    let Ok(model) = crate::onnx::read_canonical(graph, weights) else { return };
    let nodes = wanted(&model);
    if !nodes.is_empty() {
        diagnostic.notes.push(node_list(&nodes));
        diagnostic.help.push(format!("or leave sm_75 out of target `{}`", engine.target.name));
    }
}

/// The first of these nodes, and how many more there are.
pub(super) fn node_list(nodes: &[TypedNode]) -> String {
    let shown: Vec<String> = nodes.iter().take(10).map(|n| format!("`{}` ({})", n.name, n.op)).collect();
    let more = match nodes.len() - shown.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("the nodes: {}{more}", shown.join(", "))
}
