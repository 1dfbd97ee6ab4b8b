//! What of a cache its projects need, and what of it belongs to an engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::gather::{Gathered, engine_preimage};
use super::publish::read_sidecar;
use super::sources;
use crate::cache::{self, Cache, Record, Roots};
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::fs;
use crate::plan::{AccuracyFact, LOCK_FILE_NAME, Lock, keys};

/// What must stay, and for whom.
#[derive(Debug, Default)]
pub struct Keep {
    /// What must stay.
    pub roots: Roots,
    /// The projects that were looked at.
    pub projects: Vec<PathBuf>,
    /// Projects that used the cache and are not there any more: nothing stays for their sake.
    pub gone: Vec<PathBuf>,
}

/// What the lock files and the published engines of all projects that use a cache need of it.
///
/// # Errors
/// A lock file cannot be read: nobody knows then what must stay.
pub fn what_to_keep(cache: &Cache) -> Result<Keep, Vec<Diagnostic>> {
    let mut keep = Keep::default();
    let mut errors = Vec::new();
    for project in cache.projects().map_err(|e| vec![Diagnostic::from(&e)])? {
        if !fs::is_dir(&project) {
            keep.gone.push(project);
            continue;
        }
        match lock_of(&project) {
            Ok(lock) => keep_lock(cache, &lock, &mut keep.roots).map_err(|e| vec![Diagnostic::from(&e)])?,
            Err(error) => errors.push(error),
        }
        keep_published(&project, &mut keep.roots);
        keep.projects.push(project);
    }
    keep_last_runs(cache, &mut keep.roots).map_err(|e| vec![Diagnostic::from(&e)])?;
    if errors.is_empty() { Ok(keep) } else { Err(errors) }
}

fn lock_of(project: &Path) -> Result<Lock, Diagnostic> {
    let path = project.join(LOCK_FILE_NAME);
    let bad = |what: String| {
        Diagnostic::error("lock-file", what)
            .in_file(&path)
            .help("mend it, or remove the project if nobody needs its engines: what must stay is not known")
    };
    match fs::read_to_string(&path) {
        Ok(text) => Lock::parse(&text).map_err(|e| bad(e.to_string())),
        Err(e) if e.is_missing() => Ok(Lock::new()),
        Err(e) => Err(bad(e.to_string())),
    }
}

fn keep_lock(cache: &Cache, lock: &Lock, roots: &mut Roots) -> Result<(), cache::Error> {
    for engine in lock.engines() {
        roots.blobs.insert(engine.b3);
        keep_engine(roots, engine.build, engine.prepare, &engine.b3);
        keep_model(cache, &engine.model, roots)?;
    }
    for source in lock.sources() {
        keep_key(roots, &keys::canonicalize(&source.raw));
        keep_key(roots, &keys::digest(&source.raw));
        if let Some(file) = source.raw.first() {
            keep_key(roots, &keys::externals(file));
        }
        keep_model(cache, &source.model, roots)?;
    }
    Ok(())
}

/// The canonical form of a model: as long as it is there, its file need not be read again.
fn keep_model(cache: &Cache, model: &Digest, roots: &mut Roots) -> Result<(), cache::Error> {
    let preimage = sources::model_preimage(model);
    if let Some(record) = cache.record(&preimage.action, &preimage.key())? {
        roots.blobs.extend(record.outputs.values().map(|blob| blob.b3));
    }
    keep_key(roots, &preimage);
    Ok(())
}

fn keep_key(roots: &mut Roots, preimage: &Preimage) {
    roots.results.insert((preimage.action.clone(), preimage.key()));
}

fn keep_engine(roots: &mut Roots, build: Digest, prepare: Digest, engine: &Digest) {
    roots.results.insert(("build".to_owned(), build));
    roots.results.insert(("prepare".to_owned(), prepare));
    keep_key(roots, &engine_preimage(engine));
}

fn keep_published(project: &Path, roots: &mut Roots) {
    for folder in fs::list(&project.join("engines")).unwrap_or_default() {
        for file in fs::list(&folder).unwrap_or_default() {
            let is_sidecar = file.extension().is_some_and(|e| e == "json");
            if let Some(sidecar) = is_sidecar.then(|| read_sidecar(&file)).flatten() {
                roots.blobs.insert(sidecar.file.b3);
                keep_engine(roots, sidecar.build_key, sidecar.prepare_key, &sidecar.file.b3);
                // So that another tolerance is judged, not measured.
                roots.results.extend(sidecar.judged.map(|judged| ("measure".to_owned(), judged.measure)));
                // No machine without that GPU can make it again.
                roots.results.extend(sidecar.ran_on.iter().map(|ran| ("run".to_owned(), ran.run)));
            }
        }
    }
}

/// What the last run of each project planned: an engine that failed its tolerances is in no lock file and is not
/// published, and the next run with others would like to find it.
fn keep_last_runs(cache: &Cache, roots: &mut Roots) -> Result<(), cache::Error> {
    let mut seen = BTreeSet::new();
    for run in cache.runs()?.into_iter().rev() {
        // A record that cannot be read names nothing.
        let events = run.events().unwrap_or_default();
        let started = events.iter().find(|event| event["event"] == "run-started");
        let Some(project) = started.and_then(|event| event["project"].as_str()) else { continue };
        let keys = events.iter().filter(|event| event["event"] == "planned");
        let mut keys = keys.filter_map(|event| event["build"].as_str()?.parse().ok()).peekable();
        // A run that was killed before it had a plan hides no other.
        let is_last = keys.peek().is_some() && seen.insert(project.to_owned());
        if !is_last || !fs::is_dir(Path::new(project)) {
            continue;
        }
        roots.results.extend(keys.map(|key| ("build".to_owned(), key)));
    }
    Ok(())
}

/// The results that engines are made of: their builds, and what was measured of them.
///
/// # Errors
/// Some of them are not built.
pub fn results_of(ctx: &Context<'_>, gathered: &Gathered) -> Result<Vec<(String, Record)>, Vec<Diagnostic>> {
    let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
    let mut keys = BTreeSet::new();
    let mut errors = Vec::new();
    for planned in &gathered.planned {
        errors.extend(planned.errors.iter().cloned());
        match (&planned.keyed, &planned.built) {
            (Some(keyed), Some(built)) => {
                let of_engine = engine_preimage(&built.engine.b3);
                keys.extend([("build", keyed.build_key), ("engine", of_engine.key())]);
            }
            _ if planned.errors.is_empty() => {
                let error = Diagnostic::error("not-built", format!("`{}` is not in the cache", planned.name));
                errors.push(error.help("run `enginewright apply` first"));
            }
            _ => {}
        }
        if let AccuracyFact::Known(accuracy) = &planned.accuracy {
            keys.insert(("measure", accuracy.judged.measure));
            keys.extend(accuracy.runs.iter().map(|run| ("run", run.key)));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut results = Vec::new();
    for (action, key) in keys {
        let record = ctx.cache.result(action, &key).map_err(failed)?;
        results.extend(record.map(|record| (action.to_owned(), record)));
    }
    // An engine is told by its build, by a record of its own, or by both.
    for planned in &gathered.planned {
        let Some(built) = &planned.built else { continue };
        let is_it = |record: &Record| record.outputs.get("engine").is_some_and(|e| e.b3 == built.engine.b3);
        if !results.iter().any(|(_, record)| is_it(record)) {
            let error = Diagnostic::error("not-built", format!("the cache lost `{}`", planned.name));
            return Err(vec![error.help("run `enginewright apply` first")]);
        }
    }
    Ok(results)
}
