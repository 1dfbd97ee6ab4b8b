//! The side of the main process: one worker per request, and whatever becomes of it is a value.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::codec::{self, FrameError};
use super::det;
use super::error::{MemoryDeath, WorkerError, signal_name};
use super::process::{Ended, Process};
use super::protocol::{Answer, Hello, Hermetic, MAGIC, Request, Response, VERSION};

/// How often limits and the wish to cancel are looked at. Answers are taken at once.
const POLL: Duration = Duration::from_millis(50);

/// How long a worker that has closed its pipe may take to end, so that its exit status is known.
const GRACE: Duration = Duration::from_secs(5);

/// Starts workers.
#[derive(Debug, Clone)]
pub struct Client {
    /// The program that is started with the one argument `__worker`.
    pub program: PathBuf,
}

/// What a worker may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Wall-clock time.
    pub timeout: Duration,
    /// Resident memory in bytes, looked at every 50 ms.
    pub memory: Option<u64>,
    /// Variables for its environment, which is otherwise empty but for `LC_ALL`.
    pub env: Vec<(String, String)>,
}

/// The wish that work be given up, shared between threads.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks everybody who holds a copy of this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Was it asked for?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A worker answered.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it said.
    pub response: Response,
    /// The last it wrote to stderr.
    pub stderr_tail: String,
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// The most memory it held, in bytes.
    pub peak_rss: u64,
}

impl Client {
    /// Starts a worker in `job_dir`, puts the request to it and waits for what becomes of it. When
    /// this returns, the worker is gone, and SIGKILL has been sent to all that it started.
    ///
    /// The kernel kills a worker when the *thread* that started it ends, so the calling thread is
    /// the one that lives until the answer is here: this function must not be split in two.
    pub fn run(
        &self,
        job_dir: &Path,
        request: &Request,
        limits: &Limits,
        cancel: &CancelToken,
    ) -> Result<Outcome, WorkerError> {
        let started = Instant::now();
        let frame = codec::encode(request).map_err(|e| WorkerError::Unsendable { what: e.to_string() })?;
        let mut env = environment(request, limits);
        if matches!(request, Request::Build(build) if build.hermetic == Hermetic::Det) {
            det::install(job_dir).map_err(|e| match e.is_full() {
                true => WorkerError::Full(e),
                false => WorkerError::Spawn(e.source),
            })?;
            env.push((det::PRELOAD.0.to_owned(), det::PRELOAD.1.to_owned()));
        }
        let (mut process, stdin, stdout) =
            Process::start(&self.program, job_dir, &env).map_err(WorkerError::Spawn)?;

        let (said, listen) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("worker-pipe".into())
            .spawn(move || drop(said.send(converse(stdin, stdout, &frame))))
            .map_err(WorkerError::Spawn)?;

        let deadline = started.checked_add(limits.timeout);
        loop {
            let left = deadline.map_or(POLL, |d| d.saturating_duration_since(Instant::now()));
            match listen.recv_timeout(left.min(POLL)) {
                Ok(Talk::Answered(answer)) => {
                    // It has nothing more to do; what it may have left behind goes with it.
                    let ended = process.kill();
                    return Ok(Outcome {
                        response: answer.response,
                        stderr_tail: process.stderr_tail(),
                        wall: started.elapsed(),
                        cpu: ended.cpu,
                        peak_rss: answer.peak_rss,
                    });
                }
                Ok(Talk::Foreign(hello)) => {
                    process.kill();
                    let stderr = process.stderr_tail();
                    return Err(WorkerError::WrongProtocol {
                        theirs: hello.protocol,
                        program: hello.program,
                        stderr,
                    });
                }
                Ok(Talk::Garbage(what)) => {
                    process.kill();
                    return Err(WorkerError::Garbage { what, stderr: process.stderr_tail() });
                }
                Ok(Talk::Ended(what)) => return Err(Self::post_mortem(&mut process, what)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Self::post_mortem(&mut process, "the pipe was closed".into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let memory = limits.memory.and_then(|limit| {
                let held = process.memory()?.peak;
                (held > limit).then_some(MemoryDeath::Limit { limit, held })
            });
            if cancel.is_cancelled() {
                process.kill();
                return Err(WorkerError::Cancelled { stderr: process.stderr_tail() });
            } else if let Some(what) = memory {
                process.kill();
                return Err(WorkerError::OutOfMemory { what, stderr: process.stderr_tail() });
            } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                process.kill();
                return Err(WorkerError::TimedOut { after: limits.timeout, stderr: process.stderr_tail() });
            }
        }
    }

    /// The worker has closed its pipe without a whole answer.
    fn post_mortem(process: &mut Process, what: String) -> WorkerError {
        let ended = process.wait_for(GRACE);
        process.kill();
        let stderr = process.stderr_tail();
        match ended {
            Some(ended) => death(ended, what, stderr),
            None => WorkerError::Garbage { what, stderr },
        }
    }
}

/// What the conversation came to.
enum Talk {
    Answered(Box<Answer>),
    Foreign(Hello),
    Garbage(String),
    /// The pipe ended; how the process did is more telling than what is said here.
    Ended(String),
}

/// Hello, request, answer. The request is written only after the hello: see `server`, which relies
/// on it.
fn converse(mut stdin: ChildStdin, mut stdout: ChildStdout, request: &[u8]) -> Talk {
    let fail = |error: FrameError| match error {
        FrameError::Io(_) | FrameError::Truncated { .. } => Talk::Ended(error.to_string()),
        FrameError::TooLong { .. } | FrameError::Json(_) => Talk::Garbage(error.to_string()),
    };
    match codec::read::<Hello>(&mut stdout) {
        Ok(Some(hello)) if hello.magic != MAGIC => {
            return Talk::Garbage(format!("its first word is `{}`", hello.magic.escape_debug()));
        }
        Ok(Some(hello)) if hello.protocol != VERSION => return Talk::Foreign(hello),
        Ok(Some(_)) => {}
        Ok(None) => return Talk::Ended("the pipe ended before the first word".into()),
        Err(error) => return fail(error),
    }
    // A worker that does not read the request has something else to say, or is dead.
    let written = stdin.write_all(request).and_then(|()| stdin.flush());
    // One that got a part of it must not wait for the rest.
    let _open = written.is_ok().then_some(stdin);
    match (codec::read::<Answer>(&mut stdout), written) {
        (Ok(Some(answer)), _) => Talk::Answered(Box::new(answer)),
        (Ok(None), Ok(())) => Talk::Ended("the pipe ended before the answer".into()),
        (Ok(None), Err(error)) => Talk::Ended(format!("the request could not be written: {error}")),
        (Err(error), _) => fail(error),
    }
}

/// Everything in the worker's environment. What is not here cannot change an engine's bytes.
fn environment(request: &Request, limits: &Limits) -> Vec<(String, String)> {
    let mut env = vec![("LC_ALL".to_owned(), "C".to_owned())];
    match request {
        // TensorRT-RTX builds without a GPU, and must not look at the one that happens to be there.
        // ONNX Runtime computes on the CPU, everywhere.
        Request::Probe { .. }
        | Request::Build(_)
        | Request::ProbeReference { .. }
        | Request::Measure(_)
        | Request::Layers(_) => {
            env.push(("CUDA_VISIBLE_DEVICES".to_owned(), String::new()));
        }
        Request::OnGpu(_) => {
            // Kernels that the driver compiles are kept nowhere.
            env.push(("CUDA_CACHE_DISABLE".to_owned(), "1".to_owned()));
        }
        Request::Canonicalize { .. } => {
            // One thread, which is not the first, takes all the memory. Without this, glibc makes that thread's arena larger
            // page by page, by a system call each.
            env.push(("MALLOC_ARENA_MAX".to_owned(), "1".to_owned()));
        }
        Request::Prepare(_) | Request::Inspect { .. } | Request::Gpus => {}
    }
    env.extend(limits.env.iter().cloned());
    env
}

/// Why a worker that ended by itself did so.
fn death(ended: Ended, what: String, stderr: String) -> WorkerError {
    // What the C++ runtime and Rust's write before they abort for want of memory.
    let allocation = stderr.contains("std::bad_alloc") || stderr.contains("memory allocation of");
    match (ended.status.signal(), ended.status.code()) {
        (Some(libc::SIGKILL), _) => WorkerError::OutOfMemory { what: MemoryDeath::Killed, stderr },
        (Some(libc::SIGABRT), _) if allocation => {
            WorkerError::OutOfMemory { what: MemoryDeath::Allocation, stderr }
        }
        (Some(signal), _) => WorkerError::Crashed { signal, name: signal_name(signal), stderr },
        (None, Some(det::EXIT_DEADLOCK | det::EXIT_THREADS)) => WorkerError::Stuck { stderr },
        // Half a frame and a good end is nonsense; no frame at all is an early exit.
        (None, Some(0)) if what.contains("of a frame") => WorkerError::Garbage { what, stderr },
        (None, code) => WorkerError::ExitedEarly { code: code.unwrap_or(-1), stderr },
    }
}

#[cfg(test)]
mod tests {
    //! The fake worker is the shell: started as `sh __worker` in the job folder, it runs whatever
    //! script lies there by that name.

    use super::*;

    fn say_hello() -> String {
        frame(&format!(r#"{{"magic":"{MAGIC}","protocol":{VERSION},"program":"0.0.0-fake"}}"#))
    }

    struct Fake {
        folder: tempfile::TempDir,
    }

    impl Fake {
        fn acting(script: &str) -> Fake {
            let folder = tempfile::tempdir().unwrap();
            crate::fs::write_atomic(&folder.path().join("__worker"), script.as_bytes()).unwrap();
            Fake { folder }
        }

        fn run_with(&self, timeout: Duration, memory: Option<u64>) -> Result<Outcome, WorkerError> {
            let request = Request::Probe { libraries: "/nowhere".into() };
            let limits = Limits { timeout, memory, env: Vec::new() };
            let client = Client { program: "/bin/sh".into() };
            client.run(self.folder.path(), &request, &limits, &CancelToken::default())
        }

        fn run(&self) -> Result<Outcome, WorkerError> {
            self.run_with(Duration::from_secs(20), None)
        }
    }

    fn frame(json: &str) -> String {
        let n = json.len();
        assert!(n < 1 << 16);
        format!("printf '\\{:03o}\\{:03o}\\000\\000%s' '{json}'\n", n & 255, n >> 8)
    }

    #[test]
    fn an_answer_comes_with_its_costs() {
        let answer = r#"{"response":{"probed":{"version":"1.7.1.116"}},"peak_rss":4096}"#;
        let script = format!("{}echo note >&2\n{}sleep 60\n", say_hello(), frame(answer));
        let outcome = Fake::acting(&script).run().unwrap();
        assert_eq!(outcome.response, Response::Probed { version: "1.7.1.116".into() });
        assert_eq!((outcome.peak_rss, outcome.stderr_tail.as_str()), (4096, "note\n"));
        // It is not waited for once it has answered.
        assert!(outcome.wall < Duration::from_secs(10), "{:?}", outcome.wall);
    }

    #[test]
    fn a_crash_names_the_signal_and_carries_stderr() {
        let fake = Fake::acting(&format!("{}echo 'the last words' >&2\nkill -SEGV $$\n", say_hello()));
        match fake.run().unwrap_err() {
            WorkerError::Crashed { signal: 11, name: "SIGSEGV", stderr } => {
                assert_eq!(stderr, "the last words\n");
            }
            other => panic!("{other:?}"),
        }
        let fake = Fake::acting("kill -FPE $$\n");
        assert!(matches!(fake.run(), Err(WorkerError::Crashed { name: "SIGFPE", .. })));
    }

    #[test]
    fn a_hang_ends_with_its_whole_group() {
        let fake = Fake::acting(&format!("{}sleep 600 & echo $! > pid\nwait\n", say_hello()));
        let error = fake.run_with(Duration::from_millis(400), None).unwrap_err();
        assert!(matches!(error, WorkerError::TimedOut { .. }), "{error:?}");
        assert_eq!(error.to_string(), "the worker was still busy after 0.4 s, and was killed");
        let pid = crate::fs::read_to_string(&fake.folder.path().join("pid")).unwrap();
        let status = PathBuf::from(format!("/proc/{}/status", pid.trim()));
        let gone = || {
            let state = crate::fs::read_to_string(&status).unwrap_or_default();
            state.is_empty() || state.contains("State:\tZ")
        };
        // It is not our child: it dies in its own time, and another process reaps it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(Instant::now() < deadline, "a process of the group survived");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_silent_worker_times_out_too() {
        let fake = Fake::acting("sleep 600\n");
        assert!(matches!(fake.run_with(Duration::from_millis(300), None), Err(WorkerError::TimedOut { .. })));
    }

    #[test]
    fn garbage_is_told_from_an_early_exit() {
        let garbage = |script: &str| match Fake::acting(script).run().unwrap_err() {
            WorkerError::Garbage { what, .. } => what,
            other => panic!("{other:?}"),
        };
        assert!(garbage("echo 'Warning: something printed'; sleep 60\n").contains("1852989783 bytes"));
        assert!(garbage("printf '\\002\\000\\000\\000{}'; sleep 60\n").contains("magic"));
        assert!(garbage(&format!("{}{}", say_hello(), frame(r#"{"is":"odd"}"#))).contains("response"));
        assert!(garbage("printf '\\100\\000\\000\\000{'\n").contains("1 of 64 bytes"));
        let other = frame(r#"{"magic":"sshd","protocol":1,"program":"9"}"#);
        assert_eq!(garbage(&other), "its first word is `sshd`");
        // Endless output is no reason to wait.
        assert!(garbage("yes\n").contains("bytes was announced"));

        let early = Fake::acting(&format!("{}echo bye >&2\nexit 7\n", say_hello())).run().unwrap_err();
        assert!(
            matches!(&early, WorkerError::ExitedEarly { code: 7, stderr } if stderr == "bye\n"),
            "{early:?}"
        );
        let stuck = Fake::acting("echo 'all of them wait' >&2\nexit 86\n").run().unwrap_err();
        assert!(
            matches!(&stuck, WorkerError::Stuck { stderr } if stderr == "all of them wait\n"),
            "{stuck:?}"
        );
        let early = Fake::acting("exit 0\n").run().unwrap_err();
        assert!(matches!(early, WorkerError::ExitedEarly { code: 0, .. }), "{early:?}");
    }

    #[test]
    fn out_of_memory_is_known_by_three_signs() {
        // 64 MiB in one variable of the shell.
        let hog = format!(
            "{}x=$(head -c 1048576 /dev/zero | tr '\\000' a)\n\
             for i in 1 2 3 4 5 6; do x=$x$x; done\nsleep 600\n",
            say_hello()
        );
        match Fake::acting(&hog).run_with(Duration::from_secs(60), Some(32 << 20)).unwrap_err() {
            WorkerError::OutOfMemory { what: MemoryDeath::Limit { limit, held }, .. } => {
                assert!(limit == 32 << 20 && held > limit);
            }
            other => panic!("{other:?}"),
        }
        let script = "echo \"what():  std::bad_alloc\" >&2\nkill -ABRT $$\n";
        let error = Fake::acting(script).run().unwrap_err();
        assert!(matches!(error, WorkerError::OutOfMemory { what: MemoryDeath::Allocation, .. }), "{error:?}");
        let error = Fake::acting("kill -KILL $$\n").run().unwrap_err();
        assert!(matches!(error, WorkerError::OutOfMemory { what: MemoryDeath::Killed, .. }), "{error:?}");
    }

    #[test]
    fn a_worker_of_another_version_is_named() {
        let hello = frame(r#"{"magic":"enginewright-worker","protocol":9,"program":"3.1.4"}"#);
        let error = Fake::acting(&format!("{hello}sleep 60\n")).run().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the worker speaks protocol 9 (version 3.1.4), this program speaks {VERSION}")
        );
    }

    #[test]
    fn a_cancelled_worker_is_killed() {
        let fake = Fake::acting("sleep 600\n");
        let cancel = CancelToken::default();
        cancel.cancel();
        let limits = Limits { timeout: Duration::MAX, memory: None, env: Vec::new() };
        let request = Request::Probe { libraries: "/nowhere".into() };
        let client = Client { program: "/bin/sh".into() };
        let error = client.run(fake.folder.path(), &request, &limits, &cancel).unwrap_err();
        assert!(matches!(error, WorkerError::Cancelled { .. }), "{error:?}");
    }

    #[test]
    fn a_missing_program_cannot_be_started() {
        let limits = Limits { timeout: Duration::from_secs(5), memory: None, env: Vec::new() };
        let request = Request::Probe { libraries: "/nowhere".into() };
        let client = Client { program: "/nowhere/enginewright".into() };
        let error = client.run(Path::new("/"), &request, &limits, &CancelToken::default()).unwrap_err();
        assert!(matches!(error, WorkerError::Spawn(_)), "{error:?}");
    }

    #[test]
    fn the_environment_is_an_allow_list() {
        let answer = r#"{"response":{"probed":{"version":"1"}},"peak_rss":0}"#;
        let script = format!("env >&2\n{}{}", say_hello(), frame(answer));
        let outcome = Fake::acting(&script).run().unwrap();
        let names: std::collections::BTreeSet<&str> = outcome
            .stderr_tail
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            // The shell's own.
            .filter(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "OLDPWD"))
            .collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["CUDA_VISIBLE_DEVICES", "LC_ALL"]);
    }
}
