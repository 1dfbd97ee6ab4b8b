//! `enginewright.lock` after a run: only the blocks that it produced are replaced.

use std::collections::BTreeSet;

use super::carry_out::Results;
use super::context::Context;
use super::gather::Gathered;
use super::publish::Sidecar;
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::plan::{Action, LOCK_FILE_NAME, Lock, LockedEngine, source_id};

/// Writes the lock file with an update of what it holds now, and gives that. The caller holds the lock of the project.
pub(super) fn write(ctx: &Context<'_>, update: &dyn Fn(&mut Lock)) -> Result<Lock, Diagnostic> {
    let path = ctx.manifest.root.join(LOCK_FILE_NAME);
    let before = fs::read_to_string(&path).ok();
    // Another run may have written its blocks meanwhile.
    let mut lock = match before.as_deref().map(Lock::parse) {
        Some(Ok(lock)) => lock,
        _ => ctx.lock.clone(),
    };
    update(&mut lock);
    let text = lock.render();
    if before.as_deref() != Some(&text) {
        fs::write_atomic(&path, text.as_bytes()).map_err(|e| Diagnostic::error("file", e.to_string()))?;
    }
    Ok(lock)
}

/// Puts in what a run found and published, and takes out what no manifest declares any more.
pub(super) fn update(ctx: &Context<'_>, gathered: &Gathered, results: &Results, lock: &mut Lock) {
    gathered.locked_sources.iter().cloned().for_each(|block| lock.set_source(block));
    gathered.locked_toolchains.iter().cloned().for_each(|block| lock.set_toolchain(block));
    for planned in &gathered.planned {
        let name = planned.name.to_string();
        let key = planned.keyed.as_ref().map(|k| k.build_key);
        let sidecar = match (results.get(&name), planned.action) {
            (Some(Ok(published)), _) => Some(&published.sidecar),
            // Published by a run whose lock file is lost.
            (None, Action::UpToDate) if lock.engine(&name).map(|l| l.build) != key => {
                gathered.sidecars.get(&name)
            }
            _ => None,
        };
        if let Some(sidecar) = sidecar {
            lock.set_engine(engine_block(name, sidecar));
        }
    }
    let declared: BTreeSet<String> = ctx.manifest.engines.iter().map(|e| e.name.to_string()).collect();
    let sources: BTreeSet<String> =
        ctx.manifest.engines.iter().map(|e| source_id(&e.source, &ctx.manifest.root)).collect();
    lock.keep(|source| sources.contains(source), |engine| declared.contains(engine));
}

/// The block of a published engine.
pub(super) fn engine_block(name: String, sidecar: &Sidecar) -> LockedEngine {
    LockedEngine {
        name,
        model: sidecar.model,
        prepare: sidecar.prepare_key,
        prepared: sidecar.prepared,
        build: sidecar.build_key,
        b3: sidecar.file.b3,
        sha256: sidecar.file.sha256.clone().unwrap_or_default(),
        size: sidecar.file.size,
        class: sidecar.class.clone(),
        verdict: sidecar.verdict.clone(),
        timings: sidecar.timings,
    }
}
