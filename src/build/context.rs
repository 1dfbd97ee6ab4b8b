//! What every step of a run needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::events::Sink;
use super::unstored::Unstored;
use crate::cache::{self, Cache, Record};
use crate::diagnostic::Diagnostic;
use crate::digest::{Blob, Preimage};
use crate::fs;
use crate::gpu::LocalGpu;
use crate::manifest::{Engine, Manifest};
use crate::onnx::{MODEL_FILE, WEIGHTS_FILE};
use crate::plan::{Builder, Lock};
use crate::source;
use crate::worker::{CancelToken, Client};

/// What every step of a run needs. Made once, by `cli`.
pub struct Context<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The cache.
    pub cache: Cache,
    /// Starts workers.
    pub worker: Client,
    /// How sources are fetched, and if they may be.
    pub source: source::Settings,
    /// The lock file as it was when the run began.
    pub lock: Lock,
    /// Is anything that differs from the lock file an error?
    pub locked: bool,
    /// Are engines verified? Else their verdict is `skipped`.
    pub verify: bool,
    /// How many workers may run at once.
    pub jobs: usize,
    /// Bytes of memory that all workers together should stay under.
    pub memory: u64,
    /// Who is told what happens.
    pub events: &'a dyn Sink,
    /// Stops the run.
    pub cancel: CancelToken,
    /// The GPUs of this machine, asked for once if at all.
    pub gpus: OnceLock<Result<Vec<LocalGpu>, Diagnostic>>,
    /// Weights that were digested and not stored, so far.
    pub unstored: Unstored,
    /// Is what this machine cannot build left out, rather than failed?
    pub skip_unbuildable: bool,
}

/// Wall-clock limit for reading a model.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Wall-clock limit for asking a library its version.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(120);

/// Version of this program, recorded with everything it makes.
pub const TOOL: &str = concat!("enginewright ", env!("CARGO_PKG_VERSION"));

/// A duration in whole milliseconds, as records and events hold it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Context<'_> {
    /// What decides of an engine's toolchain how it is prepared.
    pub(super) fn builder(&self, engine: &Engine) -> Option<Builder> {
        self.manifest.toolchains.get(&engine.target.toolchain).map(Builder::of)
    }

    /// Records the result of an action. The first result of a key stays: what is returned is that.
    pub(super) fn record(
        &self,
        preimage: Preimage,
        outputs: BTreeMap<String, Blob>,
        info: serde_json::Value,
        took: Duration,
    ) -> Result<Record, cache::Error> {
        let (key, action) = (preimage.key(), preimage.action.clone());
        let (duration_ms, tool) = (millis(took), TOOL.to_owned());
        let record = Record { preimage, key, outputs, info, duration_ms, tool, created: None };
        self.cache.put_result(&action, &record)
    }

    /// Puts a model of the store into a worker's folder, under the names that it reads.
    pub(super) fn link_model(
        &self,
        graph: &Blob,
        weights: Option<&Blob>,
        job: &Path,
    ) -> Result<(), Diagnostic> {
        if let Some(weights) = weights {
            self.find_stored(weights)?;
        }
        link_model(&self.cache, graph, weights, job)
    }
}

/// Links a file into a worker's folder; where links cannot be made or followed, as on some network file systems, it is copied.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), fs::Error> {
    if fs::symlink(from, to).is_ok() && fs::exists(to) {
        return Ok(());
    }
    fs::remove_file(to)?;
    fs::copy(from, to)
}

/// Puts a model that the store holds into a worker's folder, under the names that it reads.
pub(super) fn link_model(
    cache: &Cache,
    graph: &Blob,
    weights: Option<&Blob>,
    job: &Path,
) -> Result<(), Diagnostic> {
    for (file, blob) in [(MODEL_FILE, Some(graph)), (WEIGHTS_FILE, weights)] {
        let Some(blob) = blob else { continue };
        let Some(path) = cache.find(blob).map_err(|e| Diagnostic::from(&e))? else {
            let message = format!("the cache lost a model: blob `{}`", blob.b3);
            return Err(Diagnostic::error("model-lost", message).help("run again: it is made anew"));
        };
        link(&path, &job.join(file)).map_err(|e| Diagnostic::error("cache", e.to_string()))?;
    }
    Ok(())
}
