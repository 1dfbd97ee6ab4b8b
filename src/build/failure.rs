//! A build that failed: what to say, and the bundle that is kept so that it can be studied and
//! run again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::context::{Context, link};
use crate::cache::FailureFile;
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::onnx::{MODEL_FILE, WEIGHTS_FILE};
use crate::worker::protocol::{LogLine, Refusal, Request, Response};
use crate::worker::{CancelToken, Client, Limits, WorkerError};

/// What a bundle keeps of a job folder: its name in the bundle, and in the job folder.
const INPUTS: [(&str, &str); 4] = [
    (MODEL_FILE, MODEL_FILE),
    (WEIGHTS_FILE, WEIGHTS_FILE),
    ("prepared-model.onnx", "prepared/model.onnx"),
    ("prepared-weights.bin", "prepared/weights.bin"),
];

/// In a bundle of trtexec: the command that was run.
pub(super) const COMMAND_FILE: &str = "command.sh";

/// Why a worker gave no result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// Facts.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
    /// The log up to then.
    pub log: Vec<LogLine>,
    /// The end of what the worker wrote to its standard error.
    pub stderr: String,
    /// Where the bundle is, once it is kept.
    #[serde(default)]
    pub bundle: Option<PathBuf>,
}

impl Failure {
    /// The worker died, hung, or talked nonsense.
    #[must_use]
    pub fn of_worker(error: &WorkerError) -> Failure {
        let help = match error {
            WorkerError::TimedOut { .. } => {
                "raise `timeout` in the model's `build` table if it only needs more time"
            }
            WorkerError::OutOfMemory { .. } => {
                "raise `memory-limit` in the model's `build` table, or run fewer builds at once with `-j`"
            }
            WorkerError::Crashed { .. } => {
                "other engines are not affected; the builder itself failed on this model"
            }
            WorkerError::Unsendable { .. } => "paths must be UTF-8: rename the file or folder that is not",
            WorkerError::Full(_) => "make room: `enginewright cache gc`",
            WorkerError::WrongProtocol { .. } => "the program was replaced while it ran: run it again",
            _ => "",
        };
        Failure {
            code: error.code().to_owned(),
            message: error.to_string(),
            notes: Vec::new(),
            help: if help.is_empty() { Vec::new() } else { vec![help.to_owned()] },
            log: Vec::new(),
            stderr: error.stderr().to_owned(),
            bundle: None,
        }
    }

    /// The worker ran and the answer is no.
    #[must_use]
    pub fn of_refusal(refusal: Refusal) -> Failure {
        let mut notes = Vec::new();
        for error in &refusal.parser_errors {
            let node = match (error.node, error.name.as_str(), error.op.as_str()) {
                (_, "", "") => String::new(),
                (_, name, "") => format!("node `{name}`: "),
                (Some(i), "", op) => format!("node {i} ({op}): "),
                (None, "", op) => format!("`{op}`: "),
                (_, name, op) => format!("node `{name}` ({op}): "),
            };
            notes.push(format!("{node}{} (code {})", error.text.trim(), error.code));
        }
        if refusal.stage == "run" {
            let of_runtime =
                refusal.log.iter().find(|line| ["error", "fatal"].contains(&line.level.as_str()));
            notes.extend(of_runtime.map(|line| format!("the runtime says: {}", line.text)));
        }
        let left_out = refusal.parser_error_count.saturating_sub(refusal.parser_errors.len() as u64);
        if left_out > 0 {
            notes.push(format!("and {left_out} more errors of the parser"));
        }
        Failure {
            code: refusal.code,
            message: refusal.message,
            notes,
            help: refusal.help,
            log: refusal.log,
            stderr: String::new(),
            bundle: None,
        }
    }

    /// As a message. `what` says what was being done, such as ``building `m@t` ``.
    #[must_use]
    pub fn diagnostic(&self, what: &str) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.code.clone(), format!("{what} failed: {}", self.message));
        diagnostic.notes.clone_from(&self.notes);
        diagnostic.help.clone_from(&self.help);
        if let Some(line) = self.stderr.lines().rev().find(|l| !l.trim().is_empty()) {
            diagnostic.notes.push(format!("the last it wrote: {line}"));
        }
        if let Some(bundle) = &self.bundle {
            diagnostic.help.push(format!(
                "all there is to know is in `{}`; `enginewright replay` runs it again",
                bundle.display()
            ));
        }
        diagnostic
    }

    /// Keeps request, log and inputs in the cache's `failures/`. A failure is never a result.
    pub(super) fn keep(
        mut self,
        ctx: &Context<'_>,
        engines: &[String],
        request: &Request,
        job: &Path,
    ) -> Failure {
        if self.code == "worker-cancelled" {
            return self; // Nothing is wrong with it.
        }
        let mut files = vec![
            ("request.json", FailureFile::Bytes(json(request))),
            ("failure.json", FailureFile::Bytes(json(&About { engines: engines.to_vec(), failure: &self }))),
            ("log.txt", FailureFile::Bytes(log_text(&self.log).into_bytes())),
            ("stderr.txt", FailureFile::Bytes(self.stderr.clone().into_bytes())),
        ];
        for (name, input) in INPUTS {
            let path = job.join(input);
            // The job folder holds links into the store.
            if let Ok(blob) = fs::canonicalize(&path) {
                files.push((name, FailureFile::Link(blob)));
            }
        }
        let name = engines.first().map_or("engine", String::as_str);
        // Losing the bundle must not hide the failure.
        self.bundle = ctx.cache.put_failure(name, &files).ok();
        self
    }
}

#[derive(Serialize)]
struct About<'a> {
    engines: Vec<String>,
    #[serde(flatten)]
    failure: &'a Failure,
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// A log as text, one line each with its level.
#[must_use]
pub fn log_text(log: &[LogLine]) -> String {
    log.iter().map(|line| format!("[{}] {}\n", line.level, line.text.trim_end())).collect()
}

/// Runs the request of a failure bundle again.
///
/// # Errors
/// The bundle cannot be read, or the failure happened again.
pub fn replay(
    bundle: &Path,
    worker: &Client,
    timeout: Duration,
    job: &Path,
) -> Result<Response, Box<Failure>> {
    let broken = |what: String| {
        Box::new(Failure {
            code: "bundle".to_owned(),
            message: what,
            notes: Vec::new(),
            help: vec!["give a folder below `failures/` of the cache".to_owned()],
            log: Vec::new(),
            stderr: String::new(),
            bundle: None,
        })
    };
    if fs::is_file(&bundle.join(COMMAND_FILE)) {
        let mut failure = broken("it is of trtexec, which is no worker".to_owned());
        failure.help = vec![format!("run it again by hand: `sh {}`", bundle.join(COMMAND_FILE).display())];
        return Err(failure);
    }
    let text = fs::read_to_string(&bundle.join("request.json")).map_err(|e| broken(e.to_string()))?;
    let request: Request = serde_json::from_str(&text)
        .map_err(|e| broken(format!("`{}` is damaged: {e}", bundle.join("request.json").display())))?;
    for (name, input) in INPUTS {
        let file = bundle.join(name);
        if fs::exists(&file) {
            if let Some(folder) = job.join(input).parent() {
                fs::create_dir_all(folder).map_err(|e| broken(e.to_string()))?;
            }
            link(&file, &job.join(input)).map_err(|e| broken(e.to_string()))?;
        }
    }
    let limits = Limits { timeout, memory: None, env: Vec::new() };
    match worker.run(job, &request, &limits, &CancelToken::default()) {
        Ok(outcome) => match outcome.response {
            Response::Refused(refusal) => Err(Box::new(Failure::of_refusal(*refusal))),
            response => Ok(response),
        },
        Err(error) => Err(Box::new(Failure::of_worker(&error))),
    }
}

/// The newest bundle of an engine, if there is one.
#[must_use]
pub fn last_failure(cache: &crate::cache::Cache, engine: &str) -> Option<PathBuf> {
    let is_of = |bundle: &PathBuf| {
        let text = fs::read_to_string(&bundle.join("failure.json")).ok()?;
        let about: serde_json::Value = serde_json::from_str(&text).ok()?;
        about["engines"].as_array()?.iter().any(|e| e.as_str() == Some(engine)).then_some(())
    };
    // Their names begin with their time.
    fs::list(&cache.folder("failures")).ok()?.into_iter().rev().find(|b| is_of(b).is_some())
}
