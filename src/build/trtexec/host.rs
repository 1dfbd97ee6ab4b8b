//! What this machine has of what trtexec needs: the program with its libraries, and the GPU of the target.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::context::{Context, PROBE_TIMEOUT};
use super::launch::{self, Launch};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage, Value};
use crate::gpu::{self, LocalGpu};
use crate::manifest::{Engine, GpuIdentity, Toolchain};
use crate::plan::ToolchainFact;
use crate::toolchain::trtexec::{self, Installed, Runner, Version};
use crate::worker::local_gpus;
use crate::worker::program::Ending;

/// The command that runs a toolchain's trtexec, if the manifest declares one.
///
/// # Errors
/// It cannot be used, whatever this machine has.
pub(in crate::build) fn runner(declared: &Toolchain) -> Result<Option<Runner>, Diagnostic> {
    let error = |message: String| Diagnostic::error("runner", message).at(&declared.origin, "");
    if declared.runner.is_empty() {
        return Ok(None);
    }
    let runner = Runner::read(&declared.runner).map_err(|why| {
        error(format!("the `runner` of toolchain `{}` cannot be used: {}", declared.name, why.message))
            .help(why.help)
    })?;
    if let Some(root) = declared.root.as_ref().filter(|_| runner.has_image()) {
        let message = format!(
            "toolchain `{}` has two TensorRTs: that of its `runner`, and `{}`",
            declared.name,
            root.display()
        );
        return Err(error(message).help("keep one of `root` and `runner`"));
    }
    Ok(Some(runner))
}

/// The trtexec of a declared toolchain, or why it is not on this machine.
pub(in crate::build) fn find(
    ctx: &Context<'_>,
    declared: &Toolchain,
    runner: Option<Runner>,
) -> Result<Installed, Diagnostic> {
    let missing = |why: String| {
        let message = format!("toolchain `{}` is not on this machine: {why}", declared.name);
        Diagnostic::error("toolchain-missing", message).at(&declared.origin, "")
    };
    let path = launch::path(ctx);
    if let Some(runner) = runner.as_ref().filter(|r| trtexec::program_in_path(r.program(), path).is_none()) {
        let program = runner.program();
        return Err(missing(format!("its runner `{program}` is not in `PATH`"))
            .help(format!("install `{program}`, or give another `runner` in `enginewright.local.toml`")));
    }
    let root = declared.root.as_deref();
    let found = match runner {
        Some(runner) => trtexec::find_by_runner(runner, root, path),
        None => trtexec::find(root, path),
    };
    found.map_err(|error| {
        let name: String = declared
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let mut diagnostic = missing(error.to_string());
        diagnostic.help = error.help(&format!("ENGINEWRIGHT_ROOT_{name}"));
        diagnostic
    })
}

/// The digests of its files, and what is known of it by its runner's words, by name.
pub(in crate::build) fn digests(
    ctx: &Context<'_>,
    installed: &Installed,
) -> Result<BTreeMap<String, Digest>, cache::Error> {
    let mut digests = installed.runner.as_ref().map(Runner::words_identity).unwrap_or_default();
    for (name, path) in &installed.files {
        digests.insert(name.clone(), ctx.cache.file_digest(path)?.0.b3);
    }
    Ok(digests)
}

/// The version in its banner: asked once, and kept under the digests of its files.
pub(in crate::build) fn version(
    ctx: &Context<'_>,
    declared: &Toolchain,
    installed: &Installed,
    files: &BTreeMap<String, Digest>,
) -> Result<String, Diagnostic> {
    let failed = |e: cache::Error| Diagnostic::from(&e);
    let named: BTreeMap<String, Value> = files.iter().map(|(n, d)| (n.clone(), Value::from(d))).collect();
    let preimage = Preimage::new("probe").with("kind", declared.kind.name()).with("files", named);
    if let Some(record) = ctx.cache.result("probe", &preimage.key()).map_err(failed)?
        && let Some(version) = record.info.get("version").and_then(|v| v.as_str())
    {
        return Ok(version.to_owned());
    }
    let error = |code: &'static str, what: String| {
        let message = format!("toolchain `{}`: {what}", declared.name);
        Diagnostic::error(code, message)
            .at(&declared.origin, "")
            .note(format!("`{}`", installed.program.display()))
    };
    let job = ctx.cache.job_dir().map_err(failed)?;
    let started = Instant::now();
    let asked = Launch { installed, gpu: None, timeout: PROBE_TIMEOUT, memory: None };
    let ran = asked
        .run(ctx, vec!["--help".to_owned()], job.path())
        .map_err(|e| error("trtexec-spawn", format!("trtexec cannot be started: {e}")))?;
    match &ran.ending {
        Ending::Signal { name, .. } => {
            return Err(error("trtexec-crashed", format!("`trtexec --help` crashed: {name}")));
        }
        Ending::TimedOut(after) => {
            return Err(error(
                "trtexec-timed-out",
                format!("`trtexec --help` was still busy after {} s", after.as_secs()),
            ));
        }
        _ => {}
    }
    let Some(version) = Version::of_banner(&ran.stdout).or_else(|| Version::of_banner(&ran.stderr)) else {
        let said = ran.stdout.lines().chain(ran.stderr.lines()).find(|line| !line.trim().is_empty());
        let said = said.map_or_else(
            || "nothing".to_owned(),
            |line| format!("`{}`", line.chars().take(120).collect::<String>()),
        );
        let what = format!("`trtexec --help` does not tell a version; the first that it says is {said}");
        return Err(error("trtexec-garbage", what)
            .help("a library that it needs may be missing, or it is no trtexec of TensorRT 8.6 or later"));
    };
    if !version.is_known() {
        let what = format!("TensorRT {version} is not one of 8.6 to 11");
        return Err(error("toolchain-version", what));
    }
    let info = serde_json::json!({ "version": version.to_string() });
    ctx.record(preimage, BTreeMap::new(), info, started.elapsed()).map_err(failed)?;
    Ok(version.to_string())
}

/// The GPU of this machine that an engine can be built on.
pub(super) fn gpu(ctx: &Context<'_>, engine: &Engine) -> Result<LocalGpu, Diagnostic> {
    let target = &engine.target;
    let needs = match (target.gpu_identity, &target.gpu) {
        (GpuIdentity::AmperePlus, _) => "a GPU of Ampere or newer".to_owned(),
        (GpuIdentity::Model, Some(gpu)) => format!("a GPU `{gpu}`"),
        _ => format!("a GPU of {}", target.sms.iter().map(ToString::to_string).collect::<String>()),
    };
    let message = |rest: String| format!("target `{}` needs {needs}, {rest}", target.name);
    let error = |rest: String| Diagnostic::error("gpu-missing", message(rest)).at(&target.origin, "");
    let gpus = ctx
        .gpus
        .get_or_init(|| local_gpus(&ctx.worker, &ctx.source.env, &ctx.cancel).map_err(Diagnostic::from));
    let gpus = gpus.as_ref().map_err(|why| {
        let mut error = error(format!("and none is known here: {}", why.message));
        error.help.push("build it on a machine that has one, and share the cache".to_owned());
        error
    })?;
    let fits = |local: &&LocalGpu| match target.gpu_identity {
        GpuIdentity::AmperePlus => local.sm.0 >= 80,
        GpuIdentity::Sm => target.sms.contains(&local.sm),
        GpuIdentity::Model => target.gpu.as_ref().is_some_and(|wanted| gpu::is_model(&local.name, wanted)),
    };
    gpus.iter().find(fits).cloned().ok_or_else(|| {
        let here: Vec<String> = gpus.iter().map(|gpu| format!("`{}` ({})", gpu.name, gpu.sm)).collect();
        let error = error(format!("and this machine has {}", here.join(", ")));
        match target.gpu_identity {
            GpuIdentity::Model => same_name(gpus, target.gpu.as_deref(), error)
                .note("tactics are timed on the GPU that builds, so that another one gives another engine")
                .help("build it on a machine that has it; or write `gpu-identity = \"sm\"`, if any GPU of this compute capability will do"),
            _ => error.help("build it on a machine that has one"),
        }
    })
}

/// A GPU of the name that is wanted is here, and is another model all the same: what a target for it says.
fn same_name(gpus: &[LocalGpu], wanted: Option<&str>, error: Diagnostic) -> Diagnostic {
    let found = |name: &str| gpu::find(name).map(|gpu| gpu.name);
    let of_name = gpus.iter().find(|local| found(&local.name) == wanted.and_then(found));
    match of_name.and_then(|local| gpu::model(&local.name)) {
        Some(model) => error.help(format!("a target for the one here says `gpu = \"{model}\"`")),
        None => error,
    }
}

/// What this machine lacks to build an engine.
pub(in crate::build) fn lacks(
    ctx: &Context<'_>,
    engine: &Engine,
    toolchain: Option<&ToolchainFact>,
) -> Vec<Diagnostic> {
    let mut lacks = Vec::new();
    lacks.extend(match toolchain {
        Some(ToolchainFact::Absent(why)) => Some((**why).clone()),
        Some(ToolchainFact::Found(found)) => found.missing.as_deref().cloned(),
        _ => None,
    });
    lacks.extend(gpu(ctx, engine).err());
    lacks
}
