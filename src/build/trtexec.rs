//! Builds by trtexec: what is asked of it.

use std::path::PathBuf;

use super::context::Context;
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::manifest::{Engine, ToolchainKind};
use crate::plan::{self, ModelRef, PreparedRef, ResolvedProfile, Trtexec, trtexec};
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
    let plugins = plugins(ctx, engine);
    let profiles = plan::fits(engine, model, prepared.opset);
    let asked = match profiles {
        Ok(profiles) => asked(ctx, engine, version, model, prepared, &profiles)?,
        Err(errors) => Err(errors),
    };
    Ok(match (asked, gpu, plugins) {
        (Ok(asked), Ok(gpu), Ok(plugins)) => Ok(Some(Trtexec { asked, gpu, plugins })),
        (asked, gpu, plugins) => {
            let errors = asked.err().into_iter().flatten().chain(gpu.err());
            Err(errors.chain(plugins.err().into_iter().flatten()).collect())
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
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for path in &engine.build.trtexec.plugins {
        match ctx.cache.file_digest(path) {
            Ok((blob, _)) => found.push((plugin_name(path), blob.b3)),
            Err(error) => {
                let message = format!("a plugin of `{}` cannot be read: {error}", engine.name);
                errors.push(
                    Diagnostic::error("plugin-unreadable", message).at(&engine.origin, "in this model"),
                );
            }
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn plugin_name(path: &PathBuf) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
