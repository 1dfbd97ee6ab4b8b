//! One run of trtexec: by itself, or by the runner of its toolchain.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::super::context::Context;
use crate::digest::Digest;
use crate::fs;
use crate::gpu::LocalGpu;
use crate::toolchain::trtexec::{self, Installed, Place};
use crate::worker::program::{Ending, Program, Ran, run_program, user};
use crate::worker::{CancelToken, Limits};

/// Variables that programs of containers need of the user's environment. None of them reaches a container, nor says what
/// becomes of it.
const OF_RUNNERS: [&str; 10] = [
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "CONTAINERD_ADDRESS",
];

/// How long the end of a container may take.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A trtexec, and what it may use.
pub(super) struct Launch<'a> {
    pub(super) installed: &'a Installed,
    pub(super) gpu: Option<&'a LocalGpu>,
    pub(super) timeout: Duration,
    pub(super) memory: Option<u64>,
}

/// Where programs are looked for.
pub(super) fn path<'a>(ctx: &'a Context<'_>) -> Option<&'a str> {
    ctx.source.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str())
}

impl Launch<'_> {
    /// Runs it in a job folder.
    ///
    /// # Errors
    /// It, or its runner, cannot be started.
    pub(super) fn run(&self, ctx: &Context<'_>, args: Vec<String>, job: &Path) -> io::Result<Ran> {
        let installed = self.installed;
        let env = self.environment(ctx, job);
        let mut limits = Limits { timeout: self.timeout, memory: self.memory, env };
        let Some(runner) = &installed.runner else {
            let program = Program { path: installed.program.clone(), args };
            return run_program(&program, job, &limits, &ctx.cancel);
        };
        let work = fs::canonicalize(job).map_err(|e| e.source)?.display().to_string();
        let name = format!("enginewright-{}", Digest::of(work.as_bytes()).short());
        let is_container = runner.is_container();
        if is_container {
            // The client holds none of it.
            limits.memory = None;
        }
        let place = Place {
            work: &work,
            gpu: self.uuid(),
            user: &user(),
            name: is_container.then_some(&name),
            memory: self.memory.filter(|_| is_container),
        };
        let mut words = runner.command(&installed.program, &place);
        words.extend(args);
        let mut ran = run_words(ctx, words, job, &limits, &ctx.cancel)?;
        if is_container {
            ran.peak_rss = 0;
        }
        if !matches!(ran.ending, Ending::Exit(_)) {
            // What its client started goes on without it. If it is gone already, there is nothing to end.
            let limits = Limits { timeout: END_TIMEOUT, ..limits };
            for (at, words) in runner.end(&name).into_iter().enumerate() {
                let folder = job.join(format!("end-{at}"));
                let ended = fs::create_dir(&folder)
                    .map_err(|e| e.source)
                    .and_then(|()| run_words(ctx, words, &folder, &limits, &CancelToken::default()));
                if let Err(error) = ended {
                    ctx.cache.warn(format!("the container `{name}` could not be ended: {error}"));
                }
            }
        }
        Ok(ran)
    }

    fn uuid(&self) -> &str {
        self.gpu.map_or("", |gpu| gpu.uuid.as_str())
    }

    /// Everything in its environment: what is not here cannot change what it does.
    pub(super) fn environment(&self, ctx: &Context<'_>, folder: &Path) -> Vec<(String, String)> {
        let mut env = Vec::new();
        let runner = self.installed.runner.as_ref();
        if runner.is_some() {
            let passed = ctx.source.env.iter().filter(|(name, _)| OF_RUNNERS.contains(&name.as_str()));
            env.extend(passed.cloned());
        }
        if runner.is_some_and(trtexec::Runner::is_container) {
            return env; // A container has one of its own.
        }
        let folders: Vec<String> =
            self.installed.library_path.iter().map(|folder| folder.display().to_string()).collect();
        let of_trtexec = [
            ("LD_LIBRARY_PATH", folders.join(":")),
            ("TMPDIR", folder.display().to_string()),
            // Kernels that CUDA compiles are kept nowhere.
            ("CUDA_CACHE_DISABLE", "1".to_owned()),
            ("CUDA_VISIBLE_DEVICES", self.uuid().to_owned()),
        ];
        env.extend(of_trtexec.map(|(name, value)| (name.to_owned(), value)));
        env
    }

    /// The words that run it again by hand, in the folder that a script is in.
    pub(super) fn script(&self, args: &[String]) -> String {
        // What no path holds stands for the folder until all words are in quotes.
        const HERE: &str = "\u{1}";
        let mut words = match &self.installed.runner {
            None => vec![self.installed.program.display().to_string()],
            Some(runner) => {
                let place =
                    Place { work: HERE, gpu: self.uuid(), user: &user(), name: None, memory: self.memory };
                runner.command(&self.installed.program, &place)
            }
        };
        words.extend(args.iter().cloned());
        let words: Vec<String> = words.iter().map(|word| trtexec::quoted(word)).collect();
        words.join(" ").replace(HERE, "'\"$PWD\"'")
    }
}

fn run_words(
    ctx: &Context<'_>,
    words: Vec<String>,
    folder: &Path,
    limits: &Limits,
    cancel: &CancelToken,
) -> io::Result<Ran> {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    let path = trtexec::program_in_path(&name, path(ctx))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{name}` is not in `PATH`")))?;
    run_program(&Program { path, args: words.collect() }, folder, limits, cancel)
}
