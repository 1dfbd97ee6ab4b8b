//! A build repeated from the cache alone: no manifest, no model file, no project.
//!
//! What a build is made from is its preimage; the request to the worker is read back from it. That it says the same
//! as the request that was sent is asserted with every build of the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::context::{link_model, millis};
use super::execute;
use super::failure::Failure;
use super::rebuild::{self, Difference};
use crate::cache::{self, Cache, Record};
use crate::diagnostic::Diagnostic;
use crate::digest::{Blob, Digest, Preimage, Value};
use crate::fs;
use crate::manifest::ToolchainKind;
use crate::plan::keys;
use crate::toolchain;
use crate::worker::protocol::{
    BuildRequest, ENGINE_FILE, Hermetic, Options, ProfileShapes, Request, Response,
};
use crate::worker::{CancelToken, Client, Limits, Outcome};

/// A build that was repeated.
#[derive(Debug, Clone)]
pub struct Repeated {
    /// The engine that it was first built for.
    pub engine: String,
    /// Digest of the recorded engine.
    pub recorded: Digest,
    /// Digest of the one that was built now.
    pub built: Digest,
    /// Where they differ, if the cache still holds the recorded one.
    pub difference: Option<Difference>,
    /// How the worker ran.
    pub hermetic: Hermetic,
    /// How long it took, in ms.
    pub ms: u64,
}

/// Where a build is repeated, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The cache.
    pub cache: &'a Cache,
    /// Starts workers.
    pub worker: &'a Client,
    /// A folder of the toolchain, if it is not in the cache.
    pub toolchain: Option<&'a Path>,
    /// Where the engine is copied to.
    pub out: Option<&'a Path>,
    /// Wall-clock limit.
    pub timeout: Duration,
    /// Stops it.
    pub cancel: &'a CancelToken,
}

/// Repeats the build of a key.
///
/// # Errors
/// The cache does not hold all that it needs, the build fails, or the engine cannot be written.
pub fn build_action(place: &Place<'_>, key: &Digest) -> Result<Repeated, Diagnostic> {
    let Place { cache, worker, out, timeout, cancel, .. } = *place;
    let failed = |e: cache::Error| Diagnostic::from(&e);
    let Some(record) = cache.record("build", key).map_err(failed)? else {
        let error = Diagnostic::error("no-action", format!("the cache holds no build of the key `{key}`"));
        return Err(error.help("`enginewright why ENGINE` shows the key of an engine that is built"));
    };
    let libraries = libraries(place, &record.preimage)?;
    let (graph, weights) = prepared(cache, &record)?;
    let job = cache.job_dir().map_err(failed)?;
    link_model(cache, &graph, weights.as_ref(), job.path())?;
    let Some(wanted) = request(&record.preimage, libraries) else {
        let message = format!("the build `{}` is of another version of enginewright", key.short());
        return Err(
            Diagnostic::error("action-unreadable", message).help(format!("it was built by {}", record.tool))
        );
    };
    let request_as = |hermetic| Request::Build(Box::new(BuildRequest { hermetic, ..wanted.clone() }));
    let limits = Limits { timeout, memory: None, env: Vec::new() };
    let what = format!("building `{}`", key.short());
    let (built, wall) = match execute::ask(worker, job.path(), &request_as, &limits, cancel).1 {
        Ok(Outcome { response: Response::Built(built), wall, .. }) => (built, wall),
        Ok(Outcome { response: Response::Refused(refusal), .. }) => {
            return Err(Failure::of_refusal(*refusal).diagnostic(&what));
        }
        Ok(Outcome { response, .. }) => {
            let message = format!("the worker's answer makes no sense: {response:?}");
            return Err(Diagnostic::error("worker-garbage", message));
        }
        Err(error) => return Err(Failure::of_worker(&error).diagnostic(&what)),
    };
    let file_failed = |e: fs::Error| Diagnostic::error("file", e.to_string());
    let file = job.path().join(ENGINE_FILE);
    let fresh = fs::map(&file).map_err(file_failed)?;
    if let Some(out) = out {
        fs::copy(&file, out).map_err(file_failed)?;
    }
    let recorded = record.outputs.get("engine").ok_or_else(|| lost(key))?;
    let stored = cache.read(recorded).map_err(failed)?;
    let engine = record.info.get("engine").and_then(|name| name.as_str()).unwrap_or_default();
    Ok(Repeated {
        engine: engine.to_owned(),
        recorded: recorded.b3,
        built: Digest::of(&fresh),
        difference: stored.and_then(|stored| rebuild::compare(&stored, &fresh)),
        hermetic: built.hermetic,
        ms: millis(wall),
    })
}

fn lost(key: &Digest) -> Diagnostic {
    let message = format!("the cache does not hold all that the build `{}` was made from", key.short());
    Diagnostic::error("action-lost", message).help("`apply` in the project that it is for makes it again")
}

/// The prepared ONNX of a build: held against the digest in the key.
fn prepared(cache: &Cache, record: &Record) -> Result<(Blob, Option<Blob>), Diagnostic> {
    let failed = |e: cache::Error| Diagnostic::from(&e);
    let prepare = record.info.get("prepare_key").and_then(|key| key.as_str()?.parse::<Digest>().ok());
    let prepare = match prepare {
        Some(key) => cache.record("prepare", &key).map_err(failed)?,
        None => None,
    };
    let outputs = prepare.map(|prepare| prepare.outputs).unwrap_or_default();
    let Some(graph) = outputs.get("graph").cloned() else { return Err(lost(&record.key)) };
    let weights = outputs.get("weights").cloned();
    let digest = keys::model_digest(&graph.b3, weights.as_ref().map(|w| &w.b3));
    if record.preimage.fields.get("prepared") == Some(&Value::from(digest)) {
        Ok((graph, weights))
    } else {
        Err(lost(&record.key))
    }
}

/// The folder of the very libraries that are in a key: the one that is named, or one that was fetched.
fn libraries(place: &Place<'_>, build: &Preimage) -> Result<PathBuf, Diagnostic> {
    let wanted = match build.fields.get("toolchain") {
        Some(Value::Map(toolchain)) => toolchain,
        _ => &BTreeMap::new(),
    };
    let is_rtx = wanted.get("kind") == Some(&Value::from(ToolchainKind::TensorrtRtx.name()));
    let product = toolchain::product(ToolchainKind::TensorrtRtx).filter(|_| is_rtx);
    let Some(product) = product else {
        let message = "only builds of TensorRT-RTX can be repeated from the cache yet";
        return Err(Diagnostic::error("not-yet", message)
            .note("a build by trtexec needs plugins, other files and a GPU, which no cache holds")
            .help("use `enginewright rebuild --check ENGINE` in the project"));
    };
    let folders = match place.toolchain {
        Some(folder) => vec![folder.to_owned()],
        None => fs::list(&place.cache.folder("toolchains")).unwrap_or_default(),
    };
    let is_it = |folder: &PathBuf| {
        let identity = toolchain::identify(product, folder, &mut |file| {
            place.cache.file_digest(file).map(|(blob, _)| blob)
        });
        let files = identity.ok().map(|identity| {
            identity.files.into_iter().map(|(name, blob)| (name, Value::from(blob.b3))).collect()
        });
        files.map(Value::Map).as_ref() == wanted.get("files")
    };
    folders.into_iter().find(is_it).ok_or_else(|| {
        let message = match place.toolchain {
            Some(folder) => format!("`{}` does not hold the libraries of this build", folder.display()),
            None => "the cache does not hold the libraries of this build".to_owned(),
        };
        let mut error = Diagnostic::error("toolchain-missing", message);
        if let Some(Value::Map(files)) = wanted.get("files") {
            error.notes.extend(files.iter().map(|(name, digest)| format!("{name} with the digest {digest}")));
        }
        error.help("name their folder: `--toolchain DIR`")
    })
}

/// The request of a build, read back from its preimage; none if that is not one of ours.
pub(super) fn request(build: &Preimage, libraries: PathBuf) -> Option<BuildRequest> {
    let field = |name: &str| build.fields.get(name);
    let sms = list(field("sms")?)?.iter().map(|sm| text(sm)?.strip_prefix("sm_")?.parse().ok());
    let profiles = list(field("profiles")?)?.iter().map(|profile| {
        let profile = map(profile)?;
        Some(ProfileShapes {
            shapes: ranges(profile.get("shapes")?)?,
            values: ranges(profile.get("values")?)?,
        })
    });
    let options = map(field("options")?)?;
    let (flag, number) = (|name: &str| flag(options.get(name)?), |name: &str| number(options.get(name)?));
    let word = |name: &str| text(options.get(name)?).map(str::to_owned);
    Some(BuildRequest {
        libraries,
        sms: sms.collect::<Option<_>>()?,
        profiles: profiles.collect::<Option<_>>()?,
        options: Options {
            workspace: u64::try_from(number("workspace")?).ok()?,
            tf32: flag("tf32")?,
            optimization_level: u32::try_from(number("optimization-level")?).ok()?,
            profiling: word("profiling")?,
            weight_streaming: flag("weight-streaming")?,
            strict_nans: flag("strict-nans")?,
            sparse_weights: flag("sparse-weights")?,
            distributive_independence: flag("distributive-independence")?,
            max_aux_streams: match options.get("max-aux-streams")? {
                Value::Null => None,
                value => Some(u32::try_from(self::number(value)?).ok()?),
            },
            tiling: word("tiling")?,
        },
        hermetic: Hermetic::Det,
    })
}

fn ranges(value: &Value) -> Option<Vec<(String, [Vec<i64>; 3])>> {
    let dims = |range: &BTreeMap<String, Value>, end: &str| -> Option<Vec<i64>> {
        list(range.get(end)?)?.iter().map(number).collect()
    };
    let range = |(input, range): (&String, &Value)| {
        let range = map(range)?;
        Some((input.clone(), [dims(range, "min")?, dims(range, "opt")?, dims(range, "max")?]))
    };
    map(value)?.iter().map(range).collect()
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn flag(value: &Value) -> Option<bool> {
    if let Value::Bool(flag) = value { Some(*flag) } else { None }
}

fn number(value: &Value) -> Option<i64> {
    if let Value::Int(number) = value { Some(*number) } else { None }
}

fn list(value: &Value) -> Option<&[Value]> {
    if let Value::List(items) = value { Some(items) } else { None }
}

fn map(value: &Value) -> Option<&BTreeMap<String, Value>> {
    if let Value::Map(fields) = value { Some(fields) } else { None }
}
