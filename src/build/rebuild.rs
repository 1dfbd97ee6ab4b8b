//! Engines built again, and held against the record: how reproducible they are known to be.
//!
//! Every rebuild leaves a small result of its own, which says on which host it was and what it gave; the class of an
//! engine is what all of them say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::context::{Context, millis};
use super::execute;
use super::gather::{Gathered, gather};
use super::lock_file;
use super::publish::{self, Sidecar};
use crate::cache::{self, Cache, FailureFile};
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::fs;
use crate::manifest::Engine;
use crate::plan::{Action, LOCK_FILE_NAME, Planned};
use crate::worker::protocol::ENGINE_FILE;

/// How reproducible an engine is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It was never built again.
    Unverified,
    /// Every rebuild gave the same bytes.
    Bit,
    /// Some rebuild gave others.
    Differs,
}

impl Class {
    /// As in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Unverified => "unverified",
            Class::Bit => "bit",
            Class::Differs => "differs",
        }
    }
}

/// What the rebuilds of an engine say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// How many there were.
    pub rebuilds: u64,
    /// How many gave other bytes.
    pub differing: u64,
    /// On how many hosts.
    pub hosts: u64,
    /// How the workers ran: `det`, `plain`, or both.
    pub hermetic: BTreeSet<String>,
}

impl Evidence {
    /// What it comes to.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Evidence { rebuilds: 0, .. } => Class::Unverified,
            Evidence { differing: 0, .. } => Class::Bit,
            _ => Class::Differs,
        }
    }
}

/// Where two engines differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Sizes in bytes: the recorded one's, the rebuilt one's.
    pub sizes: [u64; 2],
    /// Offset of the first byte that differs.
    pub first: u64,
    /// How many bytes differ, up to the end of the shorter one.
    pub bytes: u64,
    /// What lies at the first one: `header`, `text` (the compiled graph) or `data` (weights and code).
    pub part: &'static str,
    /// The folder that holds both, if it could be kept.
    pub kept: Option<PathBuf>,
}

/// An engine that was built again.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// Digest of the recorded engine.
    pub engine: Digest,
    /// How often it was built now.
    pub times: u32,
    /// How often the bytes were those of the record.
    pub same: u32,
    /// How long each build took, in ms.
    pub ms: Vec<u64>,
    /// The first difference.
    pub difference: Option<Difference>,
    /// What all rebuilds say, these included.
    pub evidence: Evidence,
}

/// Builds engines again, each this many times in workers of their own, and holds the bytes against the record.
///
/// # Errors
/// The cache cannot be used at all. An engine that cannot be rebuilt has its own errors.
#[expect(clippy::type_complexity, reason = "each engine, in order, with its errors or what came of it")]
pub fn rebuild(
    ctx: &Context<'_>,
    engines: &[&Engine],
    times: u32,
) -> Result<(Vec<(String, Result<Rebuilt, Vec<Diagnostic>>)>, Vec<Diagnostic>), cache::Error> {
    let gathered = gather(ctx, engines)?;
    let mut results = Vec::new();
    for (engine, planned) in engines.iter().zip(&gathered.planned) {
        if ctx.cancel.is_cancelled() {
            break;
        }
        let name = engine.name.to_string();
        let result = again(ctx, &gathered, engine, planned, times);
        results.push((name, result));
    }
    let told = tell(ctx, &gathered, &results).err();
    ctx.cache.flush();
    Ok((results, told.into_iter().collect()))
}

fn again(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
    planned: &Planned,
    times: u32,
) -> Result<Rebuilt, Vec<Diagnostic>> {
    if planned.action == Action::Error {
        return Err(planned.errors.clone());
    }
    let toolchain = gathered.toolchains.get(&engine.target.toolchain);
    let (Some(keyed), Some(built), Some(toolchain)) = (&planned.keyed, &planned.built, toolchain) else {
        let message = format!("`{}` has no build on record to compare with", engine.name);
        return Err(vec![Diagnostic::error("not-built", message).help("run `apply` first")]);
    };
    let cache_failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let name = engine.name.to_string();
    let mut rebuilt = Rebuilt {
        engine: built.engine.b3,
        times: 0,
        same: 0,
        ms: Vec::new(),
        difference: None,
        evidence: Evidence::default(),
    };
    for _ in 0..times {
        let job = ctx.cache.job_dir().map_err(cache_failed)?;
        let names = std::slice::from_ref(&name);
        let pinned = built.timings.as_ref().map(|blob| ctx.cache.find(blob)).transpose();
        let pinned = pinned.map_err(cache_failed)?.flatten();
        let (pinned, path) = (pinned.as_deref(), job.path());
        let (done, wall, _) = execute::build_in(ctx, engine, names, keyed, toolchain, pinned, path)?;
        let file = job.path().join(ENGINE_FILE);
        let stored = ctx.cache.read(&built.engine).map_err(cache_failed)?;
        let Some(stored) = stored else {
            let message = format!("the cache lost the engine of `{name}`");
            return Err(vec![Diagnostic::error("engine-lost", message).help("run `apply` again")]);
        };
        let fresh = fs::map(&file).map_err(|e| vec![Diagnostic::error("file", e.to_string())])?;
        let difference = compare(&stored, &fresh);
        rebuilt.times += 1;
        rebuilt.ms.push(millis(wall));
        match difference {
            None => rebuilt.same += 1,
            Some(_) if rebuilt.difference.is_some() => {}
            Some(difference) => {
                let kept = ctx.cache.find(&built.engine).ok().flatten().and_then(|stored| {
                    let files = [("stored", FailureFile::Link(stored)), ("rebuilt", FailureFile::Copy(file))];
                    ctx.cache.put_failure(&name, &files).ok()
                });
                rebuilt.difference = Some(Difference { kept, ..difference });
            }
        }
        let outcome =
            Outcome { engine: Digest::of(&fresh), host: host(), hermetic: done.hermetic.name().to_owned() };
        remember(ctx, &keyed.build_key, &outcome, wall).map_err(cache_failed)?;
    }
    rebuilt.evidence = evidence(&ctx.cache, &keyed.build_key, &built.engine.b3).map_err(cache_failed)?;
    Ok(rebuilt)
}

/// Bytes of the plan's header.
const HEADER: usize = 64;

pub(super) fn compare(stored: &[u8], rebuilt: &[u8]) -> Option<Difference> {
    if stored == rebuilt {
        return None;
    }
    let common = stored.len().min(rebuilt.len());
    let first = stored.iter().zip(rebuilt).position(|(a, b)| a != b).unwrap_or(common);
    let bytes = stored.iter().zip(rebuilt).filter(|(a, b)| a != b).count();
    let around = &stored[first.saturating_sub(32)..stored.len().min(first + 32)];
    let part = match () {
        () if first < HEADER => "header",
        () if around.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => "text",
        () => "data",
    };
    let sizes = [stored.len() as u64, rebuilt.len() as u64];
    Some(Difference { sizes, first: first as u64, bytes: bytes as u64, part, kept: None })
}

/// What one rebuild gave.
#[derive(Serialize, Deserialize)]
struct Outcome {
    engine: Digest,
    host: String,
    hermetic: String,
}

const ACTION: &str = "rebuild";

fn preimage(build_key: &Digest, n: u64) -> Preimage {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    Preimage::new(ACTION).with("build", build_key).with("n", n)
}

/// Adds a rebuild to the record, under the next free number.
fn remember(ctx: &Context<'_>, key: &Digest, outcome: &Outcome, wall: Duration) -> Result<(), cache::Error> {
    let _one_writer = ctx.cache.lock_action(ACTION, key, &mut |_| ())?;
    let mut n = 1;
    while ctx.cache.record(ACTION, &preimage(key, n).key())?.is_some() {
        n += 1;
    }
    let info = serde_json::to_value(outcome).unwrap_or_default();
    ctx.record(preimage(key, n), BTreeMap::new(), info, wall)?;
    Ok(())
}

/// What is known of the rebuilds of an engine.
pub(super) fn evidence(cache: &Cache, key: &Digest, engine: &Digest) -> Result<Evidence, cache::Error> {
    let (mut evidence, mut hosts) = (Evidence::default(), BTreeSet::new());
    while let Some(record) = cache.record(ACTION, &preimage(key, evidence.rebuilds + 1).key())? {
        evidence.rebuilds += 1;
        // What cannot be read speaks against it.
        let Ok(outcome) = serde_json::from_value::<Outcome>(record.info) else {
            evidence.differing += 1;
            continue;
        };
        evidence.differing += u64::from(outcome.engine != *engine);
        hosts.insert(outcome.host);
        evidence.hermetic.insert(outcome.hermetic);
    }
    evidence.hosts = hosts.len() as u64;
    Ok(evidence)
}

/// A name for this machine that tells nobody which one it is.
fn host() -> String {
    let id = fs::read_to_string(Path::new("/etc/machine-id")).unwrap_or_default();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Digest::of(format!("{id}\n{name}").as_bytes()).short()
}

/// Writes the class into the sidecars of published engines and into the lock file.
fn tell(
    ctx: &Context<'_>,
    gathered: &Gathered,
    results: &[(String, Result<Rebuilt, Vec<Diagnostic>>)],
) -> Result<(), Diagnostic> {
    if results.iter().all(|(_, result)| result.is_err()) {
        return Ok(());
    }
    let file_error = |e: fs::Error| Diagnostic::error("file", e.to_string());
    let root = &ctx.manifest.root;
    let _held = publish::lock(root).map_err(file_error)?;
    let mut renewed = Vec::new();
    for planned in &gathered.planned {
        let name = planned.name.to_string();
        let rebuilt = results.iter().find(|(n, _)| *n == name).and_then(|(_, r)| r.as_ref().ok());
        let (Some(rebuilt), Some(sidecar)) = (rebuilt, gathered.sidecars.get(&name)) else { continue };
        if sidecar.file.b3 != rebuilt.engine {
            continue; // Another engine is published.
        }
        let class = rebuilt.evidence.class().name().to_owned();
        let sidecar = Sidecar { class, evidence: Some(rebuilt.evidence.clone()), ..sidecar.clone() };
        publish::write_sidecar(&publish::sidecar_path(root, &planned.name), &sidecar).map_err(file_error)?;
        renewed.push(lock_file::engine_block(name, &sidecar));
    }
    if !fs::exists(&root.join(LOCK_FILE_NAME)) {
        return Ok(()); // That is `apply`'s to write.
    }
    lock_file::write(ctx, &|lock| {
        for block in &renewed {
            if lock.engine(&block.name).is_some_and(|locked| locked.b3 == block.b3) {
                lock.set_engine(block.clone());
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_placed() {
        let stored = [vec![0; 100], b"tensor={ name=\"x\" type=half } ".repeat(4), vec![1; 100]].concat();
        assert_eq!(compare(&stored, &stored), None);
        let at = |i: usize| {
            let mut other = stored.clone();
            other[i] ^= 1;
            let difference = compare(&stored, &other).expect("a difference");
            assert_eq!((difference.first, difference.bytes), (i as u64, 1));
            difference.part
        };
        assert_eq!([at(10), at(150), at(300)], ["header", "text", "data"]);
        let longer = [stored.clone(), vec![7]].concat();
        let difference = compare(&stored, &longer).expect("a difference");
        let size = stored.len() as u64;
        assert_eq!((difference.sizes, difference.first, difference.bytes), ([size, size + 1], size, 0));
    }

    #[test]
    fn one_differing_rebuild_decides_the_class() {
        let evidence = |rebuilds, differing| Evidence { rebuilds, differing, ..Evidence::default() }.class();
        assert_eq!(
            [evidence(0, 0), evidence(9, 0), evidence(9, 1)],
            [Class::Unverified, Class::Bit, Class::Differs]
        );
    }
}
