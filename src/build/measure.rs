//! What a worker is asked to measure, and how it is recorded: metrics beside the oracle, every value beside it, and the
//! engine itself on a GPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::accuracy::Subject;
use super::context::{Context, millis};
use super::failure::Failure;
use super::toolchains;
use crate::cache;
use crate::diagnostic::Diagnostic;
use crate::digest::{Digest, Preimage};
use crate::fs;
use crate::manifest::Engine;
use crate::plan::{Accuracy, ToolchainRef};
use crate::verify::{Inputs, MeasureSpec};
use crate::worker::protocol::{MEASURED_FILE, MeasureRequest, PREPARED_FOLDER, Request, Response};
use crate::worker::{Limits, Outcome, WorkerError};

/// Name of the metrics among the outputs of a measurement.
pub(super) const METRICS: &str = "metrics";

/// What a worker is asked of a model and its oracle.
pub(super) struct Asked {
    /// Name of the action.
    pub(super) action: &'static str,
    /// What is done, for messages.
    pub(super) verb: &'static str,
    pub(super) request: fn(Box<MeasureRequest>) -> Request,
    /// The file that it writes.
    pub(super) file: &'static str,
    /// Its name among the outputs.
    pub(super) output: &'static str,
}

pub(super) const MEASURE: Asked = Asked {
    action: "measure",
    verb: "measuring",
    request: Request::Measure,
    file: MEASURED_FILE,
    output: METRICS,
};

/// Asks a worker about a model and its oracle, and records what it found under the measurement's inputs.
pub(super) fn run<T: DeserializeOwned>(
    ctx: &Context<'_>,
    subject: &Subject<'_>,
    accuracy: &Accuracy,
    asked: &Asked,
) -> Result<(T, u64), Vec<Diagnostic>> {
    let Subject { keyed, model, .. } = subject;
    let measure = request(subject, accuracy)?;
    let job = ctx.cache.job_dir().map_err(|e| vec![Diagnostic::from(&e)])?;
    ctx.link_model(&model.graph, model.weights.as_ref(), job.path()).map_err(|e| vec![e])?;
    let folder = job.path().join(PREPARED_FOLDER);
    fs::create_dir_all(&folder).map_err(|e| vec![Diagnostic::error("cache", e.to_string())])?;
    let measured = keyed.measured();
    ctx.link_model(&measured.graph, measured.weights.as_ref(), &folder).map_err(|e| vec![e])?;
    let work = Work {
        verb: asked.verb,
        request: (asked.request)(Box::new(measure)),
        env: Vec::new(),
        preimage: preimage(accuracy, asked),
        file: asked.file,
        output: asked.output,
        info: serde_json::Map::new(),
    };
    work.carry_out(ctx, subject, accuracy, job.path())
}

/// The reference, and what is measured.
///
/// # Errors
/// The reference is not here.
pub(super) fn request(subject: &Subject<'_>, accuracy: &Accuracy) -> Result<MeasureRequest, Vec<Diagnostic>> {
    let libraries = reference(subject)?.libraries.clone().ok_or_else(|| not_here(subject))?;
    Ok(MeasureRequest { libraries, spec: accuracy.spec.clone() })
}

fn reference<'a>(subject: &Subject<'a>) -> Result<&'a ToolchainRef, Vec<Diagnostic>> {
    subject.reference.ok_or_else(|| not_here(subject))
}

fn not_here(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let reference = subject.engine.verify.as_ref().map_or("", |verify| &verify.reference);
    let message = format!("toolchain `{reference}` is not on this machine");
    let help = "run `enginewright toolchain fetch`, or `apply` without `--offline`";
    vec![Diagnostic::error("toolchain-missing", message).help(help)]
}

/// One request to a worker, whose folder is filled.
pub(super) struct Work {
    /// What is done, for messages.
    pub(super) verb: &'static str,
    pub(super) request: Request,
    /// Variables for the worker.
    pub(super) env: Vec<(String, String)>,
    /// What it is recorded under.
    pub(super) preimage: Preimage,
    /// The file that it writes.
    pub(super) file: &'static str,
    /// Its name among the outputs.
    pub(super) output: &'static str,
    /// Facts that are recorded beside those of every measurement.
    pub(super) info: serde_json::Map<String, serde_json::Value>,
}

impl Work {
    /// Asks the worker, and records what it found; gives that, and how long it took in ms.
    pub(super) fn carry_out<T: DeserializeOwned>(
        self,
        ctx: &Context<'_>,
        subject: &Subject<'_>,
        accuracy: &Accuracy,
        job: &Path,
    ) -> Result<(T, u64), Vec<Diagnostic>> {
        let engine = subject.engine;
        let Some(verify) = &engine.verify else { return Err(Vec::new()) };
        let reference = reference(subject)?;
        let failed = |e: cache::Error| vec![Diagnostic::from(&e)];
        let what = format!("{} `{}`", self.verb, engine.name);
        let names = [engine.name.to_string()];
        let limits =
            Limits { timeout: verify.timeout, memory: engine.build.memory_limit, env: self.env.clone() };
        let outcome = ctx.worker.run(job, &self.request, &limits, &ctx.cancel);
        let (wall, peak_rss) = match outcome {
            Ok(Outcome { response: Response::Measured, wall, peak_rss, .. }) => (wall, peak_rss),
            // A sample is at fault: nothing is worth keeping that is not in front of the user.
            Ok(Outcome { response: Response::Refused(refusal), .. }) if refusal.stage == "sample" => {
                let origin = verify.key_origins.get("inputs").unwrap_or(&verify.origin);
                let at = |mut d: Diagnostic| {
                    d.message = format!("{what} failed: {}", d.message);
                    if d.place.is_none() { d.at(origin, "") } else { d }
                };
                if refusal.diagnostics.is_empty() {
                    return Err(vec![Failure::of_refusal(*refusal).diagnostic(&what).at(origin, "")]);
                }
                return Err(refusal.diagnostics.into_iter().map(Diagnostic::from).map(at).collect());
            }
            // What is wrong with this machine's GPU is told whole.
            Ok(Outcome { response: Response::Refused(refusal), .. })
                if ["driver", "run"].contains(&refusal.stage.as_str()) =>
            {
                return Err(vec![Failure::of_refusal(*refusal).diagnostic(&what)]);
            }
            Ok(Outcome { response: Response::Refused(refusal), .. }) => {
                let failure = Failure::of_refusal(*refusal).keep(ctx, &names, &self.request, job);
                return Err(vec![failure.diagnostic(&what)]);
            }
            Ok(Outcome { response, .. }) => {
                let message = format!("the worker's answer makes no sense: {response:?}");
                return Err(vec![Diagnostic::error("worker-garbage", message)]);
            }
            Err(error) => {
                let mut failure = Failure::of_worker(&error);
                let help = match (&error, &self.request) {
                    (WorkerError::TimedOut { .. }, _) => {
                        Some("give fewer samples, or raise `timeout` in the model's `verify` table")
                    }
                    (WorkerError::Crashed { .. }, Request::OnGpu(_)) => Some(
                        "other engines are not affected; the runtime, or the NVIDIA driver, failed on this engine",
                    ),
                    _ => None,
                };
                if let Some(help) = help {
                    failure.help = vec![help.to_owned()];
                }
                return Err(vec![failure.keep(ctx, &names, &self.request, job).diagnostic(&what)]);
            }
        };
        let during = format!("`{}` was measured", engine.name);
        toolchains::unchanged(ctx, &verify.reference, reference, &during).map_err(|e| vec![e])?;
        unchanged(ctx, engine, accuracy)?;
        let path: PathBuf = job.join(self.file);
        let bytes = fs::read(&path).map_err(|e| vec![Diagnostic::error("cache", e.to_string())])?;
        let measured: T = serde_json::from_slice(&bytes).map_err(|e| {
            vec![Diagnostic::error("worker-garbage", format!("{what}: what it measured cannot be read: {e}"))]
        })?;
        let blob = ctx.cache.adopt(&path, false).map_err(failed)?;
        let outputs = BTreeMap::from([(self.output.to_owned(), blob)]);
        let mut info = serde_json::json!({
            "engine": engine.name.to_string(),
            "reference_version": reference.version,
            "samples": accuracy.spec.count(),
            "peak_rss": peak_rss,
        });
        if let Some(info) = info.as_object_mut() {
            info.extend(self.info);
        }
        ctx.record(self.preimage, outputs, info, wall).map_err(failed)?;
        Ok((measured, millis(wall)))
    }
}

/// The inputs of what is asked: those of the measurement.
pub(super) fn preimage(accuracy: &Accuracy, asked: &Asked) -> Preimage {
    Preimage { action: asked.action.to_owned(), ..accuracy.measure.clone() }
}

/// Digests of the files of all samples, by their names in the folder.
pub(super) fn digests(
    ctx: &Context<'_>,
    engine: &Engine,
    spec: &MeasureSpec,
) -> Result<BTreeMap<String, Digest>, Vec<Diagnostic>> {
    let Inputs::Files { samples, .. } = &spec.inputs else { return Ok(BTreeMap::new()) };
    let mut digests = BTreeMap::new();
    for sample in samples {
        for file in &sample.files {
            let (blob, _) = ctx.cache.file_digest(&file.path).map_err(|e| {
                let what = format!("sample `{}` of `{}` cannot be read: {e}", sample.name, engine.name);
                vec![Diagnostic::error("sample-unreadable", what).in_file(&file.path)]
            })?;
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            digests.insert(format!("{}/{name}", sample.name), blob.b3);
        }
    }
    Ok(digests)
}

/// Nothing is recorded for samples that changed while they were read.
fn unchanged(ctx: &Context<'_>, engine: &Engine, accuracy: &Accuracy) -> Result<(), Vec<Diagnostic>> {
    let now: BTreeMap<String, crate::digest::Value> =
        digests(ctx, engine, &accuracy.spec)?.into_iter().map(|(n, d)| (n, (&d).into())).collect();
    let before = match accuracy.measure.fields.get("inputs") {
        Some(crate::digest::Value::Map(inputs)) => inputs.get("files").cloned(),
        _ => None,
    };
    if before.is_none_or(|before| before == crate::digest::Value::from(now)) {
        return Ok(());
    }
    let message = format!("samples of `{}` changed while they were read", engine.name);
    Err(vec![
        Diagnostic::error("source-changed", message)
            .help("nothing was recorded; run again when nobody writes to them"),
    ])
}
