//! What kernels were timed at: shared by all builds of a TensorRT on a GPU under a driver, in no key, since it only saves
//! time where it is right. Each build keeps what it was made with, so that it can be made again with nothing timed anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::digest::{Preimage, Value};
use crate::fs;
use crate::gpu::LocalGpu;
use crate::manifest::Engine;
use crate::plan::{Keyed, LOCK_FILE_NAME, ToolchainRef};

/// The timing cache, in a job folder.
pub(in crate::build) const FILE: &str = "timing.cache";

/// The timings of a TensorRT on a GPU under a driver.
pub(super) fn path(ctx: &Context<'_>, toolchain: &ToolchainRef, gpu: &LocalGpu) -> PathBuf {
    let files: BTreeMap<String, Value> =
        toolchain.files.iter().map(|(n, d)| (n.clone(), Value::from(d))).collect();
    let key = Preimage::new("timings")
        .with("files", files)
        .with("gpu", gpu.name.clone())
        .with("driver", gpu.driver.clone().unwrap_or_default())
        .key();
    ctx.cache.folder("timings").join(format!("{key}.cache"))
}

/// Keeps what a build timed, for the next ones. Losing it costs time, and nothing else.
pub(super) fn keep(ctx: &Context<'_>, path: &Path, job: &Path) {
    let made = job.join(FILE);
    if !fs::is_file(&made) {
        return;
    }
    let kept = fs::create_dir_all(&ctx.cache.folder("timings"))
        .and_then(|()| fs::read(&made))
        .and_then(|bytes| fs::write_atomic(path, &bytes));
    if let Err(error) = kept {
        ctx.cache.warn(format!("timings are not kept: {error}"));
    }
}

/// The timings that the lock file holds an engine to; none if nothing is to be as it says.
///
/// # Errors
/// The cache does not hold them, so that other kernels would be chosen.
pub(in crate::build) fn locked(
    ctx: &Context<'_>,
    engine: &Engine,
    keyed: &Keyed,
) -> Result<Option<PathBuf>, Diagnostic> {
    let name = engine.name.to_string();
    let locked = ctx.lock.engine(&name).filter(|locked| ctx.locked && locked.build == keyed.build_key);
    let Some(timings) = locked.and_then(|locked| locked.timings) else { return Ok(None) };
    let found = ctx.cache.find_digest(&timings).map_err(|e| Diagnostic::from(&e))?;
    found.map(Some).ok_or_else(|| {
        let message = format!("the cache does not hold what the kernels of `{name}` were timed at: blob `{timings}`");
        Diagnostic::error("timing-cache-missing", message)
            .note(format!("`{LOCK_FILE_NAME}` names it, and without it other kernels would be chosen"))
            .help("bring it by `cache export` and `cache import` from where it was built, or run `apply` without `--locked`")
    })
}
