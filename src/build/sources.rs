//! Sources: located, digested, and read into their canonical form by a worker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::context::{Context, READ_TIMEOUT, millis};
use super::events::Event;
use super::failure::Failure;
use super::prepare;
use super::scheduler::{self, Job};
use super::unstored::DIGEST_FROM;
use crate::cache::{self, Record};
use crate::diagnostic::{Diagnostic, Level};
use crate::digest::{Blob, Digest, Preimage};
use crate::fs;
use crate::manifest::{Engine, Precision, Source, hazard};
use crate::onnx::{self, MODEL_FILE, Summary, TENSORS_FILE, WEIGHTS_FILE};
use crate::plan::{LOCK_FILE_NAME, LockedSource, ModelRef, SourceFact, keys, source_id};
use crate::source;
use crate::worker::Limits;
use crate::worker::protocol::{Refusal, Request, Response};

/// A source and what came of it.
pub(super) struct Read {
    /// What planning sees.
    pub(super) fact: SourceFact,
    /// Its block in the lock file.
    pub(super) locked: Option<LockedSource>,
    /// Every file that was read, with what it was then.
    pub(super) files: Vec<(PathBuf, fs::Stat)>,
    /// Worth knowing, hazards among it.
    pub(super) notes: Vec<Diagnostic>,
}

impl Read {
    fn bad(errors: Vec<Diagnostic>) -> Read {
        Read { fact: SourceFact::Bad(errors), locked: None, files: Vec::new(), notes: Vec::new() }
    }

    /// Its hazards, at the levels of this engine.
    pub(super) fn hazards(&self, engine: &Engine) -> Vec<Diagnostic> {
        let hazards = self.notes.iter().filter(|note| hazard(&note.code).is_some());
        hazards.filter_map(|note| prepare::judge(engine, note.clone())).collect()
    }
}

/// The canonical form of a model, and the model in short.
///
/// # Errors
/// It is not at hand, or is no model that can be used.
pub fn read_model(ctx: &Context<'_>, source: &Source) -> Result<(onnx::Model, Summary), Vec<Diagnostic>> {
    let model = match read(ctx, source, true)?.fact {
        SourceFact::AtHand { model, .. } => model,
        SourceFact::Bad(errors) => return Err(errors),
        SourceFact::NotFetched => {
            let message = format!("`{}` is not fetched yet", source_id(source, &ctx.manifest.root));
            return Err(vec![Diagnostic::error("not-fetched", message)]);
        }
    };
    let cache = |e: cache::Error| vec![Diagnostic::from(&e)];
    let graph = ctx.cache.read(&model.graph).map_err(cache)?;
    let weights =
        model.weights.as_ref().map(|blob| ctx.read_stored(blob)).transpose().map_err(|e| vec![e])?;
    let lost = || vec![Diagnostic::error("cache", "the cache lost the model that was just read")];
    let read = onnx::read_canonical(graph.ok_or_else(lost)?, weights.flatten());
    Ok((read.map_err(|e| vec![Diagnostic::error("onnx", e.to_string())])?, model.summary))
}

/// What the record of an `externals` action tells.
#[derive(Serialize, Deserialize)]
struct Externals {
    /// Where external data lies, relative to the folder of the model file.
    locations: Vec<PathBuf>,
}

/// What the record of a `canonicalize` or `digest` action tells.
#[derive(Serialize, Deserialize)]
struct Canonical {
    summary: Summary,
    notes: Vec<onnx::Note>,
    /// Large initializers that were digested alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<Blob>,
}

/// Reads the sources of these engines, several at a time.
pub(super) fn read_all(ctx: &Context<'_>, engines: &[&Engine]) -> BTreeMap<Source, Read> {
    let mut sources: BTreeMap<Source, bool> = BTreeMap::new();
    for engine in engines {
        // The weights of a model that is to be typed are needed at once.
        let is_typed = engine.precision != Precision::AsIs;
        match sources.get_mut(&engine.source) {
            Some(stored) => *stored |= is_typed,
            None => drop(sources.insert(engine.source.clone(), is_typed)),
        }
    }
    let results = Mutex::new(BTreeMap::new());
    let jobs = sources.into_iter().map(|work| Job { work, memory: 0 }).collect();
    scheduler::run(jobs, ctx.jobs, ctx.memory, &ctx.cancel, |(source, stored)| {
        let read = read(ctx, &source, stored).unwrap_or_else(Read::bad);
        if matches!(read.fact, SourceFact::Bad(_)) {
            ctx.events.event(&Event::SourceFailed { source: source_id(&source, &ctx.manifest.root) });
        }
        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(source, read);
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads a source. Large weights are `stored`, or digested alone.
fn read(ctx: &Context<'_>, source: &Source, stored: bool) -> Result<Read, Vec<Diagnostic>> {
    let id = source_id(source, &ctx.manifest.root);
    ctx.events.event(&Event::SourceStarted { source: id.clone() });
    let locked = ctx.lock.source(&id);
    let pins = locked.map(|l| l.packages.clone()).unwrap_or_default();
    let located = match source::locate(source, &ctx.cache, &pins, &ctx.source) {
        Ok(located) => located,
        Err(source::Error::NeedsNetwork { .. }) => {
            ctx.events.event(&Event::SourceKnown { source: id });
            return Ok(Read { fact: SourceFact::NotFetched, ..Read::bad(Vec::new()) });
        }
        Err(e) => {
            let mut error = Diagnostic::from(&e);
            // The index may not have it any more.
            error.notes.extend(pins.iter().map(|(file, sha256)| {
                format!("`{LOCK_FILE_NAME}` pins `{file}` with SHA-256 {sha256}: a cache that holds it, or an index, can give it")
            }));
            return Err(vec![error]);
        }
    };
    let path = located.path;
    let cache = |e: cache::Error| vec![Diagnostic::from(&e)];
    let (blob, stat) = ctx.cache.file_digest(&path).map_err(cache)?;
    let file = ModelFile { id: &id, path: &path, digest: blob.b3, stat };
    let (model, notes, files, raw) = match known(ctx, &file, stored).map_err(cache)? {
        Some(known) => known,
        None => read_anew(ctx, &file, stored)?,
    };
    let block = LockedSource {
        source: id,
        model: model.digest,
        raw,
        packages: located.pins.into_iter().map(|pin| (pin.file_name, pin.sha256)).collect(),
    };
    let note =
        |note: onnx::Note| Diagnostic { level: Level::Note, ..Diagnostic::error(note.code, note.text) };
    let notes = notes.into_iter().map(|found| note(found).in_file(&path)).collect();
    Ok(Read { fact: SourceFact::AtHand { path, model: Box::new(model) }, locked: Some(block), files, notes })
}

/// The file of a model, as it was when it was found.
struct ModelFile<'a> {
    /// The declaration, see [`source_id`].
    id: &'a str,
    path: &'a Path,
    digest: Digest,
    stat: fs::Stat,
}

type Known = (ModelRef, Vec<onnx::Note>, Vec<(PathBuf, fs::Stat)>, Vec<Digest>);

/// The canonical form, if these very files were read before.
fn known(ctx: &Context<'_>, file: &ModelFile<'_>, stored: bool) -> Result<Option<Known>, cache::Error> {
    let Some(record) = ctx.cache.result("externals", &keys::externals(&file.digest).key())? else {
        return Ok(None);
    };
    let Ok(externals) = serde_json::from_value::<Externals>(record.info) else { return Ok(None) };
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    let mut files = vec![(file.path.to_owned(), file.stat)];
    let mut raw = vec![file.digest];
    for location in externals.locations {
        let external = folder.join(location);
        // The reader digests it, and finds the words for what is wrong with it.
        let Ok(stat) = fs::stat(&external) else { return Ok(None) };
        let Some(digest) = ctx.cache.known_part(&external, &keys::externals(&file.digest).key(), &stat)
        else {
            return Ok(None);
        };
        files.push((external, stat));
        raw.push(digest);
    }
    let model = recorded(ctx, file.path, &raw, stored)?;
    Ok(model.map(|(model, notes)| (model, notes, files, raw)))
}

/// The canonical form of files with these digests, if it is known; its weights `stored`, or digested alone.
fn recorded(
    ctx: &Context<'_>,
    path: &Path,
    raw: &[Digest],
    stored: bool,
) -> Result<Option<(ModelRef, Vec<onnx::Note>)>, cache::Error> {
    let mut record = ctx.cache.result("canonicalize", &keys::canonicalize(raw).key())?;
    if record.is_none() && !stored {
        record = ctx.cache.result("digest", &keys::digest(raw).key())?;
    }
    let Some((model, notes)) = record.as_ref().and_then(model_ref) else { return Ok(None) };
    if let Some(weights) = model.weights.as_ref().filter(|_| model.tensors.is_none()) {
        ctx.can_be_stored(weights, path);
    }
    Ok(Some((model, notes)))
}

/// Stores the canonical form of a model file, all of it.
pub(super) fn store(ctx: &Context<'_>, path: &Path) -> Result<ModelRef, Vec<Diagnostic>> {
    let (blob, stat) = ctx.cache.file_digest(path).map_err(|e| vec![Diagnostic::from(&e)])?;
    let id = format!("path {}", path.display());
    run_worker(ctx, &ModelFile { id: &id, path, digest: blob.b3, stat }, true).map(|(model, ..)| model)
}

/// The first of several errors, where there is room for one.
pub(super) fn first(errors: Vec<Diagnostic>) -> Diagnostic {
    let mut errors = errors.into_iter();
    let lost = || Diagnostic::error("model-lost", "a model could not be read again");
    errors.next().unwrap_or_else(lost)
}

fn model_ref(record: &Record) -> Option<(ModelRef, Vec<onnx::Note>)> {
    let graph = record.outputs.get("graph")?.clone();
    let tensors = record.outputs.get("tensors").cloned();
    let Canonical { summary, notes, weights } = serde_json::from_value(record.info.clone()).ok()?;
    let weights = record.outputs.get("weights").cloned().or(weights);
    let digest = keys::model_digest(&graph.b3, weights.as_ref().map(|w| &w.b3));
    Some((ModelRef { digest, graph, weights, tensors, summary }, notes))
}

/// The model behind a digest, if this cache holds it.
pub(super) fn by_digest(ctx: &Context<'_>, model: &Digest) -> Option<ModelRef> {
    let record = ctx.cache.record("model", &model_preimage(model).key()).ok()??;
    model_ref(&record).map(|(model, _)| model)
}

pub(super) fn model_preimage(model: &Digest) -> Preimage {
    Preimage::new("model").with("digest", model)
}

/// Reads a model whose canonical form is not known, or not known to be that of these files.
fn read_anew(ctx: &Context<'_>, file: &ModelFile<'_>, stored: bool) -> Result<Known, Vec<Diagnostic>> {
    // Digesting records nothing and copies nothing, and is done anyway where nothing is stored.
    if (stored || !ctx.cache.is_writable())
        && let Some(known) = digested(ctx, file, stored)?
    {
        return Ok(known);
    }
    run_worker(ctx, file, stored)
}

/// The canonical form of a model that was read before, if its files have only got other times since, by a checkout say.
fn digested(ctx: &Context<'_>, file: &ModelFile<'_>, stored: bool) -> Result<Option<Known>, Vec<Diagnostic>> {
    let cache = |e: cache::Error| vec![Diagnostic::from(&e)];
    if ctx.cache.result("externals", &keys::externals(&file.digest).key()).map_err(cache)?.is_none() {
        return Ok(None);
    }
    let started = Instant::now();
    let (kept, temporary);
    let folder = if ctx.cache.is_writable() {
        kept = ctx.cache.job_dir().map_err(cache)?;
        kept.path()
    } else {
        let made = tempfile::Builder::new().prefix("enginewright-").tempdir();
        let Ok(made) = made else { return Ok(None) };
        temporary = made;
        temporary.path()
    };
    let done = ask_worker(ctx, folder, file.path, Some(1))?;
    let weights = done.digested.as_ref().map(|weights| weights.b3);
    let (raw, _) = raw_digests(ctx, file, weights, &done)?;
    let Some((model, notes)) = recorded(ctx, file.path, &raw, stored).map_err(cache)? else {
        return Ok(None);
    };
    ctx.events.event(&Event::SourceRead { source: file.id.to_owned(), ms: millis(started.elapsed()) });
    Ok(Some((model, notes, done.files, raw)))
}

fn run_worker(ctx: &Context<'_>, file: &ModelFile<'_>, stored: bool) -> Result<Known, Vec<Diagnostic>> {
    let started = Instant::now();
    let job = ctx.cache.job_dir().map_err(|e| vec![Diagnostic::from(&e)])?;
    let done = ask_worker(ctx, job.path(), file.path, (!stored).then_some(DIGEST_FROM))?;
    let known = record(ctx, job.path(), file, done, started.elapsed())?;
    ctx.events.event(&Event::SourceRead { source: file.id.to_owned(), ms: millis(started.elapsed()) });
    Ok(known)
}

/// Has a worker read a model into a folder. Weights of this size or more are digested alone.
fn ask_worker(
    ctx: &Context<'_>,
    job: &Path,
    path: &Path,
    digest_from: Option<u64>,
) -> Result<onnx::Canonical, Vec<Diagnostic>> {
    let request = Request::Canonicalize { source: path.to_owned(), digest_from };
    let limits = Limits { timeout: READ_TIMEOUT, memory: None, env: Vec::new() };
    match ctx.worker.run(job, &request, &limits, &ctx.cancel) {
        Ok(outcome) => match outcome.response {
            Response::Canonicalized(done) => Ok(*done),
            Response::Refused(refusal) => Err(refused(path, *refusal)),
            other => {
                let message = format!("the worker's answer makes no sense: {other:?}");
                Err(vec![Diagnostic::error("worker-garbage", message).in_file(path)])
            }
        },
        Err(error) => {
            let what = format!("reading `{}`", path.display());
            Err(vec![Failure::of_worker(&error).diagnostic(&what).in_file(path)])
        }
    }
}

fn refused(path: &Path, refusal: Refusal) -> Vec<Diagnostic> {
    if refusal.diagnostics.is_empty() {
        let what = format!("reading `{}`", path.display());
        return vec![Failure::of_refusal(refusal).diagnostic(&what).in_file(path)];
    }
    refusal.diagnostics.into_iter().map(Diagnostic::from).collect()
}

/// The error of a file that somebody wrote to.
pub(super) fn changed(path: &Path) -> Diagnostic {
    Diagnostic::error("source-changed", format!("`{}` changed while it was read", path.display()))
        .in_file(path)
        .help("nothing was recorded; run again when nobody writes to it")
}

/// Errors of a source, those without a place at the line that declares it.
pub(super) fn declared(engine: &Engine, errors: &[Diagnostic]) -> Vec<Diagnostic> {
    let at_source = |error: &Diagnostic| match error.place {
        None => error.clone().at(&engine.source_origin, ""),
        Some(_) => error.clone(),
    };
    errors.iter().map(at_source).collect()
}

/// The raw digests of files that a worker has read, and whether they were settled then.
fn raw_digests(
    ctx: &Context<'_>,
    file: &ModelFile<'_>,
    weights: Option<Digest>,
    done: &onnx::Canonical,
) -> Result<(Vec<Digest>, bool), Vec<Diagnostic>> {
    // Digested once more, unless it is known to be settled: within one tick of the file system's clock
    // a file can change without a trace in its stat.
    let (now, now_stat) = ctx.cache.file_digest(file.path).map_err(|e| vec![Diagnostic::from(&e)])?;
    let read_stat = done.files.first().map(|(_, stat)| *stat);
    if now.b3 != file.digest || now_stat != file.stat || read_stat != Some(file.stat) {
        return Err(vec![changed(file.path)]);
    }
    if done.files.len() != done.rests.len() + 1 {
        let message = "the worker's answer makes no sense: not every file has a digest";
        return Err(vec![Diagnostic::error("worker-garbage", message).in_file(file.path)]);
    }
    // In the index, what is remembered of external data belongs to this model file and this release.
    let of = keys::externals(&file.digest).key();
    let (mut raw, mut is_settled) = (vec![file.digest], true);
    for ((name, stat), rest) in done.files.iter().skip(1).zip(&done.rests) {
        let digest = keys::external_data(weights.as_ref(), stat.size, rest);
        is_settled &= ctx.cache.remember_part(name, &of, stat, digest);
        raw.push(digest);
    }
    Ok((raw, is_settled))
}

/// Reads a model once more and fails if that says something else: of external data that has just changed, small tensors
/// may have been read before the next change and digested after it, without a trace in its stat.
fn read_twice(
    ctx: &Context<'_>,
    path: &Path,
    graph: Option<&Blob>,
    weights: Option<Digest>,
    done: &onnx::Canonical,
) -> Result<(), Vec<Diagnostic>> {
    let cache = |e: cache::Error| vec![Diagnostic::from(&e)];
    let job = ctx.cache.job_dir().map_err(cache)?;
    let again = ask_worker(ctx, job.path(), path, Some(1))?;
    let (graph_again, _) = ctx.cache.file_digest(&job.path().join(MODEL_FILE)).map_err(cache)?;
    let weights_again = again.digested.map(|weights| weights.b3);
    let is_same = graph == Some(&graph_again) && weights == weights_again;
    if is_same && done.files == again.files && done.rests == again.rests {
        Ok(())
    } else {
        Err(vec![changed(path)])
    }
}

/// Puts what the worker made into the cache, if the files are still what was digested.
fn record(
    ctx: &Context<'_>,
    job: &Path,
    file: &ModelFile<'_>,
    done: onnx::Canonical,
    took: Duration,
) -> Result<Known, Vec<Diagnostic>> {
    let cache = |e: cache::Error| vec![Diagnostic::from(&e)];
    let path = file.path;
    let mut outputs = BTreeMap::new();
    let mut adopt = |output: &str, file: &str| -> Result<(), Vec<Diagnostic>> {
        let blob = ctx.cache.adopt(&job.join(file), false).map_err(cache)?;
        outputs.insert(output.to_owned(), blob);
        Ok(())
    };
    adopt("graph", MODEL_FILE)?;
    let is_stored = done.digested.is_none();
    if is_stored {
        adopt("tensors", TENSORS_FILE)?;
    }
    if done.has_weights {
        adopt("weights", WEIGHTS_FILE)?;
    }
    done.digested.iter().for_each(|weights| ctx.can_be_stored(weights, path));

    let weights = outputs.get("weights").or(done.digested.as_ref()).map(|weights| weights.b3);
    let (raw, is_settled) = raw_digests(ctx, file, weights, &done)?;
    if !is_settled {
        read_twice(ctx, path, outputs.get("graph"), weights, &done)?;
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let location = |(name, _): &(PathBuf, _)| name.strip_prefix(folder).unwrap_or(name).to_owned();
    let locations = done.files.iter().skip(1).map(location).collect();

    let info = Canonical { summary: done.summary, notes: done.notes, weights: done.digested };
    let info = serde_json::json!(info);
    let put = |preimage, outputs, info| ctx.record(preimage, outputs, info, took).map_err(cache);
    let key = if is_stored { keys::canonicalize(&raw) } else { keys::digest(&raw) };
    let recorded = put(key, outputs, info)?;
    let Some((model, notes)) = model_ref(&recorded) else {
        return Err(vec![
            Diagnostic::error("cache", "the cache holds a record that makes no sense").in_file(path),
        ]);
    };
    if is_stored {
        put(model_preimage(&model.digest), recorded.outputs, recorded.info)?;
    }
    put(keys::externals(&file.digest), BTreeMap::new(), serde_json::json!(Externals { locations }))?;
    Ok((model, notes, done.files, raw))
}
