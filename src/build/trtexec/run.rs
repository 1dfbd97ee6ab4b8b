//! One build by trtexec: in a job folder, on one GPU, judged by what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::context::{Context, link};
use super::super::failure::{COMMAND_FILE, log_text};
use super::super::toolchains;
use super::host;
use super::launch::Launch;
use super::timings;
use crate::cache::{self, FailureFile};
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::engine::{Facts, Header};
use crate::fs;
use crate::manifest::Engine;
use crate::onnx::{MODEL_FILE, WEIGHTS_FILE};
use crate::plan::trtexec::{LAYERS_FILE, names_in_job};
use crate::plan::{Keyed, ToolchainRef, Trtexec};
use crate::precision::{Assignment, Fix, FloatType, Problem};
use crate::toolchain::trtexec::{self, Installed, Paths, Runner, Types, Version, outcome, quoted};
use crate::worker::program::{Ending, Ran};
use crate::worker::protocol::{Binding, Built, ENGINE_FILE, Hermetic, KERNELS_FILE, LogLine};

/// The header of an engine, at most.
const HEADER_BYTES: u64 = 4096;

/// Builds into a job folder; gives what was built, how long that took, and the most memory that it took.
pub(in crate::build) fn build_in(
    ctx: &Context<'_>,
    engine: &Engine,
    engines: &[String],
    (keyed, asked): (&Keyed, &Trtexec),
    toolchain: &ToolchainRef,
    pinned: Option<&Path>,
    job: &Path,
) -> Result<(Built, Duration, u64), Vec<Diagnostic>> {
    let cache_failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let Some(installed) = &toolchain.installed else {
        let message = format!("toolchain `{}` is not on this machine", engine.target.toolchain);
        let error = || Diagnostic::error("toolchain-missing", message);
        return Err(vec![toolchain.missing.as_deref().cloned().unwrap_or_else(error)]);
    };
    let gpu = host::gpu(ctx, engine).map_err(|e| vec![e])?;
    // Two builds on one GPU would time each other.
    let uuid = Digest::of(gpu.uuid.as_bytes());
    let lock = ctx.cache.lock_action_unless("gpu", &uuid, &|| ctx.cancel.is_cancelled(), &mut |_| {});
    let Some(_lock) = lock.map_err(cache_failed)? else { return Err(Vec::new()) };

    let prepared = &keyed.prepared;
    ctx.link_model(&prepared.graph, prepared.weights.as_ref(), job).map_err(|e| vec![e])?;
    let file_failed = |e: fs::Error| vec![Diagnostic::error("file", e.to_string())];
    let known = pinned.map_or_else(|| timings::path(ctx, toolchain, &gpu), Path::to_owned);
    let mut paths = place(engine, asked, &known, job).map_err(file_failed)?;
    paths.times_nothing = pinned.is_some();
    let is_inside = installed.runner.as_ref().is_some_and(Runner::has_image);
    if is_inside {
        // What is in an image sees no file of ours but what lies in the folder itself.
        let names = paths.plugins.iter().chain(paths.files.values()).map(String::as_str);
        let names = names.chain([MODEL_FILE, WEIGHTS_FILE]);
        names
            .filter(|name| fs::exists(&job.join(name)))
            .try_for_each(|name| own(job, name))
            .map_err(file_failed)?;
    }
    let args = trtexec::arguments(&asked.asked, &paths).unwrap_or_default();
    let (timeout, memory) = (engine.build.timeout, engine.build.memory_limit);
    let launch = Launch { installed, gpu: Some(&gpu), timeout, memory };
    let ran = launch.run(ctx, args, job).map_err(|e| {
        let message = format!("building `{}` failed: trtexec cannot be started: {e}", engine.name);
        vec![Diagnostic::error("trtexec-spawn", message).note(format!("`{}`", installed.program.display()))]
    })?;
    let version = version(ctx, engine, toolchain, installed, &ran).map_err(|e| vec![e])?;
    let log = outcome::log(&ran);
    let size = fs::stat(&job.join(ENGINE_FILE)).ok().map(|stat| stat.size);
    let failed = runner_failed(installed, &ran).or_else(|| outcome::judge(&ran, size));
    let failed =
        failed.map(|failed| if pinned.is_some() { outcome::of_pinned(failed, &ran) } else { failed });
    if let Some(failed) = failed {
        if failed.code == "worker-cancelled" {
            return Err(Vec::new());
        }
        let command = command(ctx, engine, asked, &paths, &launch, job);
        let bundle = keep(ctx, engines, command, &ran, &failed, job);
        return Err(vec![told(ctx, engine, keyed, asked, failed, bundle.as_deref())]);
    }
    if is_inside {
        // What it wrote may be another user's.
        let names = [ENGINE_FILE, LAYERS_FILE, timings::FILE];
        let names = names.into_iter().filter(|name| fs::open_regular_nofollow(&job.join(name)).is_ok());
        names.into_iter().try_for_each(|name| own(job, name)).map_err(file_failed)?;
    }
    let during = format!("`{}` was built", engine.name);
    toolchains::unchanged(ctx, &engine.target.toolchain, toolchain, &during).map_err(|e| vec![e])?;
    given_unchanged(ctx, engine, asked)?;
    if pinned.is_none() {
        timings::keep(ctx, &known, job);
    }
    let assignment = assignment(ctx, keyed);
    write_facts(assignment.as_ref(), job).map_err(|e| vec![Diagnostic::error("cache", e.to_string())])?;
    let log = with_doubts(log, asked, assignment.as_ref());
    let bindings = asked.bindings.iter().map(|of| Binding {
        name: of.name.clone(),
        kind: if of.is_input { "input" } else { "output" }.to_owned(),
        element: of.element.clone(),
        dims: of.dims.clone(),
    });
    let built =
        Built { bindings: bindings.collect(), log, version, hermetic: Hermetic::Timed, gpu: Some(gpu) };
    Ok((built, ran.wall, ran.peak_rss))
}

/// Are plugins, and files of extra arguments, still what the key was made from?
fn given_unchanged(ctx: &Context<'_>, engine: &Engine, asked: &Trtexec) -> Result<(), Vec<Diagnostic>> {
    let changed = |code: &'static str, what: &str| {
        let message = format!("{what} of `{}` changed while it was built", engine.name);
        let error = Diagnostic::error(code, message).at(&engine.origin, "in this model");
        Err(vec![error.help("nothing was recorded; run again when nobody writes to it")])
    };
    if super::plugins(ctx, engine)? != asked.plugins {
        return changed("plugin-changed", "a plugin");
    }
    if super::files(ctx, engine)? != asked.files {
        return changed("given-changed", "a file in `extra-args`");
    }
    Ok(())
}

/// Makes a file of the job folder one of our own, that nothing else leads to.
fn own(job: &Path, name: &str) -> Result<(), fs::Error> {
    let (file, copy) = (job.join(name), job.join("copy"));
    fs::copy(&file, &copy)?;
    fs::rename(&copy, &file)
}

/// The version that an image's trtexec tells, held against the manifest: nothing asked it before.
fn version(
    ctx: &Context<'_>,
    engine: &Engine,
    toolchain: &ToolchainRef,
    installed: &Installed,
    ran: &Ran,
) -> Result<String, Diagnostic> {
    let told =
        Version::of_banner(&ran.stdout).filter(|_| installed.runner.as_ref().is_some_and(Runner::has_image));
    let Some(told) = told.map(|version| version.to_string()) else { return Ok(toolchain.version.clone()) };
    if let Some(declared) = ctx.manifest.toolchains.get(&engine.target.toolchain) {
        toolchains::hold_version(declared, &told, "by the image of its `runner`")?;
    }
    Ok(told)
}

/// A runner that did not get as far as trtexec.
fn runner_failed(installed: &Installed, ran: &Ran) -> Option<outcome::Failed> {
    let has_begun = |text: &str| text.contains("&&&& RUNNING");
    installed.runner.as_ref()?;
    let Ending::Exit(code @ 1..) = ran.ending else { return None };
    if has_begun(&ran.stdout) || has_begun(&ran.stderr) {
        return None;
    }
    let said: Vec<&str> = ran.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = said.last().map_or_else(String::new, |line| format!(": {line}"));
    Some(outcome::Failed {
        code: "runner-failed",
        message: format!("its runner ended with code {code} before trtexec began{last}"),
        notes: said.iter().rev().skip(1).take(4).rev().map(|line| format!("runner: {line}")).collect(),
        help: vec!["run what is in `command.sh` by hand: the image may not be here, or have no `trtexec` in its `PATH` (then end the `runner` with its path)".to_owned()],
    })
}

/// Puts plugins and timings into the job folder.
fn place(engine: &Engine, asked: &Trtexec, timings: &Path, job: &Path) -> Result<Paths, fs::Error> {
    let mut paths = names_in_job(&asked.plugins, &asked.files);
    for (name, path) in paths.plugins.iter().zip(&engine.build.trtexec.plugins) {
        link(path, &job.join(name))?;
    }
    for (path, name) in &paths.files {
        link(Path::new(path), &job.join(name))?;
    }
    // DLA's loadables, and builds without any cache, are none of it.
    if !asked.asked.extra_args.iter().any(|arg| arg == "--noBuilderCache") {
        if fs::is_file(timings) {
            fs::copy(timings, &job.join(timings::FILE))?;
        }
        paths.timing_cache = Some(timings::FILE.to_owned());
    }
    Ok(paths)
}

fn assignment(ctx: &Context<'_>, keyed: &Keyed) -> Option<Assignment> {
    let blob = keyed.prepared.assignment.as_ref()?;
    let bytes = ctx.cache.read(blob).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// What the engine tells of its layers, in the names that nodes have for users.
fn write_facts(assignment: Option<&Assignment>, job: &Path) -> Result<(), fs::Error> {
    let layers = fs::read(&job.join(LAYERS_FILE)).unwrap_or_default();
    let header = fs::read_prefix(&job.join(ENGINE_FILE), HEADER_BYTES).unwrap_or_default();
    let nodes = assignment.into_iter().flat_map(|assignment| &assignment.nodes);
    let names =
        nodes.filter_map(|node| Some((node.layer.as_ref()?.name.clone(), node.name.clone()))).collect();
    let facts = Facts::of_layers(&layers, Header::read(&header), &names);
    let path = job.join(KERNELS_FILE);
    let json = serde_json::to_vec(&facts).map_err(|e| fs::error("write", &path, e.into()))?;
    fs::write_atomic(&path, &json)
}

/// The log, and what it does not tell although it should: named layers that got no type, and layers that nobody named.
fn with_doubts(mut log: Vec<LogLine>, asked: &Trtexec, assignment: Option<&Assignment>) -> Vec<LogLine> {
    let Types::Weak { layers, .. } = &asked.asked.types else { return outcome::cut(log) };
    let mut doubts = Vec::new();
    if asked.asked.version >= Version(9, 0, 0) {
        let set: BTreeSet<&str> = outcome::set_layers(&log).map(|(name, _)| name).collect();
        doubts.extend(
            layers
                .iter()
                .filter(|(name, _)| !set.contains(name.as_str()))
                .map(|(name, of)| format!("no layer is called `{name}`: its type {of} was asked of nothing")),
        );
    }
    let named: BTreeSet<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
    let nodes = assignment.into_iter().flat_map(|assignment| &assignment.nodes);
    let pinned: BTreeSet<&str> = nodes
        .filter_map(|node| Some(node.layer.as_ref()?.name.as_str()))
        .filter(|name| named.contains(name))
        .collect();
    doubts.extend(
        outcome::registered(&log)
            .filter(|(layer, node)| pinned.contains(node) && !named.contains(layer))
            .map(|(layer, node)| {
                format!("`{layer}` is a layer of `{node}` too, and its type was asked of nothing")
            }),
    );
    // They come of all that was said, of which not all is kept.
    log = outcome::cut(log);
    log.extend(doubts.into_iter().map(|text| LogLine { level: "warning".to_owned(), text }));
    log
}

/// What was run, as a script that runs it again where it lies.
fn command(
    ctx: &Context<'_>,
    engine: &Engine,
    asked: &Trtexec,
    paths: &Paths,
    launch: &Launch<'_>,
    job: &Path,
) -> String {
    let mut command = "#!/bin/sh\n# What was run.\ncd \"$(dirname \"$0\")\" || exit\n".to_owned();
    // What a runner takes of the environment is whoever runs it again's.
    let is_ours = |name: &str| name.starts_with("CUDA_") || name == "LD_LIBRARY_PATH";
    for (name, value) in launch.environment(ctx, job).iter().filter(|(name, _)| is_ours(name)) {
        let _ = writeln!(command, "export {name}={}", quoted(value));
    }
    let plugins = engine.build.trtexec.plugins.iter().map(|path| path.display().to_string()).collect();
    let paths = Paths { plugins, files: BTreeMap::new(), ..paths.clone() };
    let args = trtexec::arguments(&asked.asked, &paths).unwrap_or_default();
    let _ = writeln!(command, "exec {}", launch.script(&args));
    command
}

/// Keeps what there is to know of a failure. Losing it must not hide the failure.
fn keep(
    ctx: &Context<'_>,
    engines: &[String],
    command: String,
    ran: &Ran,
    failed: &outcome::Failed,
    job: &Path,
) -> Option<PathBuf> {
    let about = serde_json::json!({ "engines": engines, "code": failed.code, "message": failed.message, "notes": failed.notes, "help": failed.help });
    let log = log_text(&outcome::cut(outcome::log(ran)));
    let mut files = vec![
        (COMMAND_FILE, FailureFile::Bytes(command.into_bytes())),
        ("failure.json", FailureFile::Bytes(about.to_string().into_bytes())),
        ("log.txt", FailureFile::Bytes(log.into_bytes())),
        ("stdout.txt", FailureFile::Bytes(ran.stdout.clone().into_bytes())),
        ("stderr.txt", FailureFile::Bytes(ran.stderr.clone().into_bytes())),
    ];
    for name in [MODEL_FILE, WEIGHTS_FILE] {
        if let Ok(blob) = fs::canonicalize(&job.join(name)) {
            files.push((name, FailureFile::Link(blob)));
        }
    }
    let name = engines.first().map_or("engine", String::as_str);
    ctx.cache.put_failure(name, &files).ok()
}

/// A failure, with what is known of its cause.
fn told(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    asked: &Trtexec,
    failed: outcome::Failed,
    bundle: Option<&Path>,
) -> Diagnostic {
    let message = format!("building `{}` failed: {}", engine.name, failed.message);
    let mut diagnostic = Diagnostic::error(failed.code, message);
    (diagnostic.notes, diagnostic.help) = (failed.notes, failed.help);
    if failed.code == "trtexec-crashed" {
        blame_norms(ctx, engine, keyed, asked, &mut diagnostic);
    }
    if let Some(bundle) = bundle {
        let bundle = bundle.display();
        diagnostic
            .help
            .push(format!("all there is to know is in `{bundle}`; `command.sh` in it runs it again"));
    }
    diagnostic
}

/// A builder that crashes over norms in FP16 is known of TensorRT 8.6 and 9.3: they are named, with the rule that mends it.
fn blame_norms(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    asked: &Trtexec,
    diagnostic: &mut Diagnostic,
) {
    const NORMS: [&str; 2] = ["fp16-decomposed-norm", "fp16-norm"];
    let record = ctx.cache.record("prepare", &keyed.prepare.key()).ok().flatten();
    let problems: Vec<Problem> = record
        .and_then(|record| serde_json::from_value(record.info.get("problems")?.clone()).ok())
        .unwrap_or_default();
    let norms: Vec<&Problem> =
        problems.iter().filter(|problem| NORMS.contains(&problem.code.as_str())).collect();
    let names: Vec<String> = norms.iter().filter_map(|p| Some(format!("`{}`", p.node.as_ref()?.0))).collect();
    if names.is_empty() {
        return;
    }
    let version = asked.asked.version;
    diagnostic.notes.push(format!(
        "norms are computed in 16 bits: {}; TensorRT 8.6 and 9.3 are known to crash over them, and this is {}.{}",
        names.join(", "),
        version.0,
        version.1
    ));
    let fix = norms.iter().find_map(|problem| problem.fix.clone()).unwrap_or_else(|| Fix {
        name: "norms stay fp32".to_owned(),
        select: "pattern = [\"layer-norm\", \"rms-norm\", \"l2-norm\"]".to_owned(),
        precision: FloatType::Fp32,
    });
    diagnostic.rules = Some(fix.toml(&engine.table, engine.is_from_glob));
    diagnostic.help.push("or use the rule set `std-fp16`, which keeps norms FP32".to_owned());
}
