//! Builds by trtexec: what is asked of it (here), what this machine has of it (`host`), and how it is run
//! (`launch`) and judged (`run`).

pub(super) mod host;
mod launch;
pub(super) mod run;
pub(super) mod timings;

use std::path::{Path, PathBuf};

use super::context::Context;
use super::{prepare, sources};
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::fs;
use crate::manifest::{Engine, ToolchainKind};
use crate::onnx::{MODEL_FILE, WEIGHTS_FILE};
use crate::plan::{self, ModelRef, PreparedRef, ResolvedProfile, SourceFact, Trtexec, trtexec};
use crate::precision::Assignment;
use crate::toolchain::trtexec::{Asked, Version};

/// What trtexec is asked for an engine; none if something else builds it.
///
/// # Errors
/// The cache cannot be used at all. What does not fit is inside.
pub(super) fn inputs(
    ctx: &Context<'_>,
    engine: &Engine,
    model: &ModelRef,
    prepared: &PreparedRef,
) -> Result<Result<Option<Trtexec>, Vec<Diagnostic>>, cache::Error> {
    let builder = ctx.builder(engine).filter(|builder| builder.kind == ToolchainKind::Trtexec);
    let Some(version) = builder.and_then(|builder| builder.version) else { return Ok(Ok(None)) };
    let gpu = trtexec::gpu(engine);
    let (plugins, files) = (plugins(ctx, engine), files(ctx, engine));
    let profiles = plan::fits(engine, model, prepared.opset);
    let asked = match profiles {
        Ok(profiles) => asked(ctx, engine, version, model, prepared, &profiles)?,
        Err(errors) => Err(errors),
    };
    Ok(match (asked, gpu, plugins, files) {
        (Ok(asked), Ok(gpu), Ok(plugins), Ok(files)) => {
            let bindings = trtexec::bindings(engine, &model.summary);
            Ok(Some(Trtexec { asked, gpu, plugins, files, bindings }))
        }
        (asked, gpu, plugins, files) => {
            let errors = asked.err().into_iter().flatten().chain(gpu.err());
            let of_files = [plugins.err(), files.err()].into_iter().flatten().flatten();
            Err(errors.chain(of_files).collect())
        }
    })
}

/// What an engine asks of a version.
///
/// # Errors
/// The cache cannot be used at all. What the version does not have is inside.
pub(super) fn asked(
    ctx: &Context<'_>,
    engine: &Engine,
    version: Version,
    model: &ModelRef,
    prepared: &PreparedRef,
    profiles: &[ResolvedProfile],
) -> Result<Result<Asked, Vec<Diagnostic>>, cache::Error> {
    let assignment: Option<Assignment> = match &prepared.assignment {
        Some(blob) => ctx.cache.read(blob)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        None => None,
    };
    Ok(trtexec::asked(engine, version, model, assignment.as_ref(), profiles))
}

/// The plugin libraries of an engine, with their digests.
fn plugins(ctx: &Context<'_>, engine: &Engine) -> Result<Vec<(String, Digest)>, Vec<Diagnostic>> {
    let found = digests(ctx, engine, "a plugin", "plugin-unreadable", &engine.build.trtexec.plugins)?;
    Ok(found.into_iter().map(|(path, digest)| (plugin_name(&path), digest)).collect())
}

/// The files that extra arguments of an engine name, with their digests.
fn files(ctx: &Context<'_>, engine: &Engine) -> Result<Vec<(PathBuf, Digest)>, Vec<Diagnostic>> {
    digests(ctx, engine, "a file in `extra-args`", "extra-args", &trtexec::given_files(engine))
}

fn digests(
    ctx: &Context<'_>,
    engine: &Engine,
    what: &str,
    code: &'static str,
    paths: &[PathBuf],
) -> Result<Vec<(PathBuf, Digest)>, Vec<Diagnostic>> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match ctx.cache.file_digest(path) {
            Ok((blob, _)) => found.push((path.clone(), blob.b3)),
            Err(error) => {
                let message = format!("{what} of `{}` cannot be read: {error}", engine.name);
                errors.push(Diagnostic::error(code, message).at(&engine.origin, "in this model"));
            }
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn plugin_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is needed to write the command of an engine down.
#[derive(Debug)]
pub struct Asking {
    /// What is asked.
    pub asked: Asked,
    /// The ONNX that it is asked of.
    pub prepared: PreparedRef,
    /// Worth knowing.
    pub warnings: Vec<Diagnostic>,
}

/// What an engine asks of the TensorRT that the manifest declares for it, whether that is on this machine or not.
///
/// # Errors
/// Everything that does not fit.
pub fn asking(ctx: &Context<'_>, engine: &Engine) -> Result<Asking, Vec<Diagnostic>> {
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let builder = ctx.builder(engine);
    let mut errors = plan::check(engine, builder.map(|builder| builder.kind));
    let Some(version) = builder.and_then(|builder| builder.version) else {
        let toolchain = &engine.target.toolchain;
        let message = format!("`{}` is not built by trtexec: its toolchain is `{toolchain}`", engine.name);
        let error = Diagnostic::error("not-trtexec", message).at(&engine.target.origin, "");
        return Err(vec![error.help("say for which version: `--for 10.3`")]);
    };
    let read = sources::read_all(ctx, &[engine]);
    let Some(read_source) = read.get(&engine.source) else { return Err(Vec::new()) };
    let model = match &read_source.fact {
        SourceFact::AtHand { model, .. } => model,
        SourceFact::Bad(errors) => return Err(sources::declared(engine, errors)),
        SourceFact::NotFetched => {
            let id = plan::source_id(&engine.source, &ctx.manifest.root);
            let error = Diagnostic::error(
                "not-fetched",
                format!("`{}` needs `{id}`, which is not fetched yet", engine.name),
            );
            return Err(vec![error.help("run `enginewright plan --fetch`")]);
        }
    };
    let typed = prepare::prepare_all(ctx, &[engine], &read);
    let mut warnings = Vec::new();
    let prepared = match typed.get(&engine.name.to_string()) {
        None => Some(PreparedRef::as_is(model)),
        Some(typed) => {
            let (found, told) = prepare::diagnostics(engine, typed, read_source);
            errors.extend(found);
            warnings.extend(told);
            typed.prepared.clone()
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let Some(prepared) = prepared else { return Err(Vec::new()) };
    let profiles = plan::fits(engine, model, prepared.opset)?;
    let asked = asked(ctx, engine, version, model, &prepared, &profiles).map_err(failed)??;
    Ok(Asking { asked, prepared, warnings })
}

/// Writes a prepared ONNX into a folder: `model.onnx`, and `weights.bin` if there are large weights.
///
/// # Errors
/// It cannot be written, or the cache lost it.
pub fn write_model(ctx: &Context<'_>, prepared: &PreparedRef, folder: &Path) -> Result<(), Diagnostic> {
    let failed = |e: fs::Error| Diagnostic::error("file", e.to_string());
    fs::create_dir_all(folder).map_err(failed)?;
    for (file, blob) in [(MODEL_FILE, Some(&prepared.graph)), (WEIGHTS_FILE, prepared.weights.as_ref())] {
        let Some(blob) = blob else { continue };
        let Some(bytes) = ctx.read_stored(blob)? else {
            let message = format!("the cache lost a model: blob `{}`", blob.b3);
            return Err(Diagnostic::error("model-lost", message).help("run again: it is made anew"));
        };
        fs::write_atomic(&folder.join(file), &bytes).map_err(failed)?;
    }
    Ok(())
}
