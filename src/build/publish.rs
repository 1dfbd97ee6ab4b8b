//! Engines and sidecars in their places: `engines/MODEL[.VARIANT]/TARGET.engine` and `.json`.
//!
//! The engine is renamed into place first, then its sidecar. A sidecar that does not match its
//! engine means unpublished, so that a crash between the two is noticed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::accuracy::Judging;
use super::context::{Context, TOOL};
use super::rebuild::{self, Class, Evidence};
use crate::cache::Cache;
use crate::diagnostic::Diagnostic;
use crate::digest::{Blob, Digest};
use crate::engine::Counts;
use crate::fs;
use crate::gpu::LocalGpu;
use crate::manifest::{Engine, EngineName, Publish, ToolchainKind};
use crate::plan::{BuiltRef, Judged, Keyed, ModelRef, Published, ToolchainRef};
use crate::verify::Verdict;

/// Version of the sidecar's format.
const FORMAT: u32 = 1;

/// What is told about an engine, beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Version of this format.
    pub format: u32,
    /// `MODEL[.VARIANT]@TARGET`.
    pub engine: String,
    /// The engine file.
    pub file: Blob,
    /// The GPU named in the manifest, if one was.
    pub gpu: Option<String>,
    /// What it runs on: `sm_86`.
    pub sms: Vec<String>,
    /// What is needed to load it.
    pub runtime: String,
    /// Kind of the toolchain.
    pub toolchain: String,
    /// Version of the toolchain.
    pub toolchain_version: String,
    /// Inputs and outputs.
    pub bindings: serde_json::Value,
    /// The optimization profiles in order.
    pub profiles: Vec<SidecarProfile>,
    /// Digest of the model.
    pub model: Digest,
    /// Digest of the prepared ONNX.
    pub prepared: Digest,
    /// Key of the prepare action.
    pub prepare_key: Digest,
    /// Key of the build action.
    pub build_key: Digest,
    /// What the engine shows of the nodes that were declared FP32; none for a model as it is.
    #[serde(default)]
    pub pins: Option<Counts>,
    /// What is known of its accuracy.
    pub verdict: String,
    /// What the verdict was made from, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// The GPUs that it ran on, within the tolerances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ran_on: Vec<RanOn>,
    /// How reproducible it is known to be.
    pub class: String,
    /// What the class is made from, if it was built again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// `plain` or `det`: how the worker ran; `timed` on a GPU.
    pub hermetic: String,
    /// The GPU that it was built on, and its driver, where one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_on: Option<LocalGpu>,
    /// Digest of the timing cache that holds what its kernels were timed at, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Digest>,
    /// How its file came here from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<How>,
    /// The program that made it.
    pub tool: String,
}

/// A run of an engine, as told in a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RanOn {
    /// The GPU.
    pub gpu: LocalGpu,
    /// Key of the run action.
    pub run: Digest,
}

/// How an engine's file came from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// A file of its own, whose bytes the file system shares with the cache until one of them changes.
    Reflink,
    /// The very file of the cache. Who writes to it damages both, which is noticed.
    Link,
    /// A file of its own.
    Copy,
}

impl How {
    /// As in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            How::Reflink => "reflink",
            How::Link => "link",
            How::Copy => "copy",
        }
    }
}

/// A profile, as told in a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SidecarProfile {
    /// Its name in the manifest.
    pub name: String,
    /// `[min, opt, max]` by input.
    pub shapes: std::collections::BTreeMap<String, [Vec<i64>; 3]>,
    /// Values of shape tensors, likewise.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub values: std::collections::BTreeMap<String, [Vec<i64>; 3]>,
}

/// Where an engine is published.
#[must_use]
pub fn engine_path(root: &Path, name: &EngineName) -> PathBuf {
    root.join("engines").join(name.model_and_variant()).join(format!("{}.engine", name.target))
}

/// Where its sidecar is.
#[must_use]
pub fn sidecar_path(root: &Path, name: &EngineName) -> PathBuf {
    root.join("engines").join(name.model_and_variant()).join(format!("{}.json", name.target))
}

/// The sidecar under a name, if it can be read.
#[must_use]
pub fn read_sidecar(path: &Path) -> Option<Sidecar> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// What is published under a name, with its sidecar if that can be read.
pub(super) fn published(root: &Path, name: &EngineName, cache: &Cache) -> (Published, Option<Sidecar>) {
    let (engine, sidecar) = (engine_path(root, name), sidecar_path(root, name));
    let broken = |what: &str, build_key| Published::Broken { what: what.to_owned(), build_key };
    let has_engine = fs::exists(&engine);
    if !fs::exists(&sidecar) {
        let nothing = Published::Nothing;
        return (if has_engine { broken("its engine has no sidecar", None) } else { nothing }, None);
    }
    let Some(sidecar) = read_sidecar(&sidecar) else {
        return (broken("its sidecar cannot be read", None), None);
    };
    let key = Some(sidecar.build_key);
    let published = match has_engine.then(|| cache.file_digest(&engine)) {
        None => broken("its engine file is gone", key),
        Some(Ok((blob, _))) if blob.b3 == sidecar.file.b3 => {
            let (judged, verdict) = (sidecar.judged, sidecar.verdict.clone());
            Published::Whole { engine: blob.b3, build_key: sidecar.build_key, judged, verdict }
        }
        Some(Ok(_)) => broken("its engine file is not the one that its sidecar names", key),
        Some(Err(_)) => broken("its engine file cannot be read", key),
    };
    (published, Some(sidecar))
}

/// Does a sidecar whose key is right also say what the manifest says now? Names are in no key.
pub(super) fn is_worded(sidecar: &Sidecar, engine: &Engine) -> bool {
    sidecar.format == FORMAT
        && sidecar.engine == engine.name.to_string()
        && sidecar.gpu == engine.target.gpu
        && (engine.publish == Publish::Link || sidecar.published_by == Some(How::Copy))
        && sidecar.profiles.iter().map(|p| &p.name).eq(engine.profiles.iter().map(|p| &p.name))
}

/// Publishes an engine, unless it is in its place already.
pub(super) fn publish(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
    model: &ModelRef,
    toolchain: &ToolchainRef,
    built: &BuiltRef,
    (judging, pins): (Judging, Option<Counts>),
) -> Result<Sidecar, Diagnostic> {
    let failed = |e: fs::Error| {
        let help = match () {
            () if e.is_full() => "free some disk space",
            () if e.is_denied() => "make the folder writable",
            () => {
                "`engines/` and what is below it must be folders, and engines files: move away what is in the way"
            }
        };
        Diagnostic::error("publish", format!("cannot publish `{}`: {e}", engine.name))
            .help(format!("{help}, then run again: the engine is in the cache"))
    };
    let cache = |e: crate::cache::Error| Diagnostic::from(&e);
    let Some(blob) = ctx.cache.find(&built.engine).map_err(cache)? else {
        return Err(Diagnostic::error(
            "engine-lost",
            format!("the cache lost the engine of `{}`", engine.name),
        )
        .help("run again: it is built anew"));
    };
    let mut sidecar = sidecar(engine, keyed, model, toolchain, built, pins);
    (sidecar.verdict, sidecar.judged) = (judging.verdict.name().to_owned(), judging.judged);
    sidecar.ran_on = judging.runs.into_iter().map(|run| RanOn { gpu: run.run.gpu, run: run.key }).collect();
    let evidence = rebuild::evidence(&ctx.cache, &keyed.build_key, &built.engine.b3).map_err(cache)?;
    evidence.class().name().clone_into(&mut sidecar.class);
    sidecar.evidence = (evidence.rebuilds > 0).then_some(evidence);

    let root = &ctx.manifest.root;
    let _lock = lock(root).map_err(failed)?;
    let (target, target_sidecar) = (engine_path(root, &engine.name), sidecar_path(root, &engine.name));
    let folder = target.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(failed)?;
    let temporary = folder.join(format!(".{}.engine.tmp", engine.name.target));
    fs::remove_file(&temporary).map_err(failed)?;
    let how = place(&blob, &temporary, engine.publish).map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(e)
    })?;
    sidecar.published_by = Some(how);
    fs::rename(&temporary, &target).map_err(failed)?;
    // Renaming one hard link over another of the same file does nothing, the temporary name
    // included.
    fs::remove_file(&temporary).map_err(failed)?;
    // Flushed at the end of the run, with all the others: until then, a loss of power can cost a sidecar, which makes
    // its engine unpublished, and no engine its bytes, which are on the disk.
    fs::write_unflushed(&target_sidecar, &sidecar_text(&sidecar)).map_err(failed)?;
    Ok(sidecar)
}

/// Makes `to`, which is not there, from a blob.
fn place(blob: &Path, to: &Path, publish: Publish) -> fs::Result<How> {
    if publish == Publish::Link {
        if fs::reflink(blob, to).is_ok() {
            return Ok(How::Reflink);
        }
        if fs::hard_link(blob, to).is_ok() {
            return Ok(How::Link);
        }
    }
    fs::copy(blob, to)?;
    fs::sync_file(to)?;
    Ok(How::Copy)
}

/// Writes a sidecar, whole or not at all. The caller holds the [`lock`].
pub(super) fn write_sidecar(path: &Path, sidecar: &Sidecar) -> fs::Result<()> {
    fs::write_atomic(path, &sidecar_text(sidecar))
}

/// More engines than this are flushed at once, with all else that waits to be written on their file system.
const FLUSHED_ONE_BY_ONE: usize = 32;

/// Flushes what was published to the disk: before the lock file names it.
pub(super) fn flush(root: &Path, names: &[&EngineName]) -> fs::Result<()> {
    if names.len() > FLUSHED_ONE_BY_ONE {
        return fs::sync_file_system(&root.join("engines"));
    }
    for name in names {
        let sidecar = sidecar_path(root, name);
        fs::sync_file(&sidecar)?;
        fs::sync_dir(sidecar.parent().unwrap_or(root))?;
    }
    Ok(())
}

fn sidecar_text(sidecar: &Sidecar) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(sidecar).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Held while engines are published or the lock file is written: one process at a time. It is the
/// project's, not the cache's: a cache may be read-only, or shared by many projects.
pub(super) fn lock(root: &Path) -> fs::Result<std::fs::File> {
    let engines = root.join("engines");
    fs::create_dir_all(&engines)?;
    fs::lock_folder(&engines)
}

fn sidecar(
    engine: &Engine,
    keyed: &Keyed,
    model: &ModelRef,
    toolchain: &ToolchainRef,
    built: &BuiltRef,
    pins: Option<Counts>,
) -> Sidecar {
    let info = &built.info;
    let profiles = engine.profiles.iter().zip(&keyed.profiles).map(|(declared, resolved)| SidecarProfile {
        name: declared.name.clone(),
        shapes: resolved.shapes.clone(),
        values: resolved.values.clone(),
    });
    Sidecar {
        format: FORMAT,
        engine: engine.name.to_string(),
        file: built.engine.clone(),
        gpu: engine.target.gpu.clone(),
        sms: engine.target.sms.iter().map(ToString::to_string).collect(),
        runtime: match toolchain.kind {
            ToolchainKind::Trtexec => format!("TensorRT {}", toolchain.version),
            _ => format!("TensorRT-RTX {}", toolchain.version),
        },
        toolchain: toolchain.kind.name().to_owned(),
        toolchain_version: toolchain.version.clone(),
        bindings: info.get("bindings").cloned().unwrap_or_default(),
        profiles: profiles.collect(),
        model: model.digest,
        prepared: keyed.prepared.digest,
        prepare_key: keyed.prepare.key(),
        build_key: keyed.build_key,
        pins,
        verdict: Verdict::NoneDeclared.name().to_owned(),
        judged: None,
        ran_on: Vec::new(),
        class: Class::Unverified.name().to_owned(),
        evidence: None,
        hermetic: info.get("hermetic").and_then(|h| h.as_str()).unwrap_or("plain").to_owned(),
        timings: built.timings.as_ref().map(|blob| blob.b3),
        published_by: None,
        built_on: info.get("gpu").and_then(|gpu| serde_json::from_value(gpu.clone()).ok()),
        tool: TOOL.to_owned(),
    }
}

/// Engines that are published and that no manifest declares, relative to the project; ours alone,
/// by their sidecars.
#[must_use]
pub fn orphans(root: &Path, engines: &[Engine]) -> Vec<PathBuf> {
    let declared: std::collections::BTreeSet<PathBuf> =
        engines.iter().map(|e| engine_path(root, &e.name)).collect();
    let mut orphans = Vec::new();
    for folder in fs::list(&root.join("engines")).unwrap_or_default() {
        for file in fs::list(&folder).unwrap_or_default() {
            let is_engine = file.extension().is_some_and(|e| e == "engine");
            if is_engine && !declared.contains(&file) && read_sidecar(&file.with_extension("json")).is_some()
            {
                orphans.push(file.strip_prefix(root).unwrap_or(&file).to_owned());
            }
        }
    }
    orphans
}

/// Removes what a killed process left in `engines/`. The caller holds the [`lock`].
pub(super) fn sweep(root: &Path) {
    for folder in fs::list(&root.join("engines")).unwrap_or_default() {
        for file in fs::list(&folder).unwrap_or_default() {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') && (name.ends_with(".engine.tmp") || name.starts_with(".tmp-")) {
                let _ = fs::remove_file(&file);
            }
        }
    }
}
