//! A program of the user's, such as trtexec: run in a group of its own with only the environment that it is given, its
//! words kept in files, and killed with all that it started when its time or memory is up, or when we end.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{CancelToken, Limits};
use super::error::signal_name;
use super::process::Memory;
use crate::fs;

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Where its words are kept.
const STDOUT: &str = "stdout.txt";
const STDERR: &str = "stderr.txt";

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It ended with this code.
    Exit(i32),
    /// A signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// Its name.
        name: &'static str,
    },
    /// It took longer than this, and was killed.
    TimedOut(Duration),
    /// It held more memory than this, in bytes, and was killed.
    Memory(u64),
    /// Nobody wanted it any more.
    Cancelled,
}

/// A program that was run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// From its start to its end.
    pub wall: Duration,
    /// The most memory it was seen to hold, in bytes.
    pub peak_rss: u64,
}

/// Runs a program in `folder`, where its words are kept as `stdout.txt` and `stderr.txt`.
///
/// The kernel kills it when the *thread* that started it ends, so this function must not be split in two.
///
/// # Errors
/// It cannot be started.
pub fn run_program(
    program: &Program,
    folder: &Path,
    limits: &Limits,
    cancel: &CancelToken,
) -> io::Result<Ran> {
    let started = Instant::now();
    let file = |name: &str| fs::create_new(&folder.join(name)).map_err(|e| e.source);
    crate::fs::beyond_files("a program");
    let mut command = Command::new(&program.path);
    command
        .args(&program.args)
        .env_clear()
        .env("LC_ALL", "C")
        .envs(limits.env.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file(STDOUT)?)
        .stderr(file(STDERR)?);
    die_with_parent(&mut command);
    let mut running = Running { child: command.spawn()?, ended: false };
    let mut peak_rss = 0;
    let ending = loop {
        if let Some(status) = running.child.try_wait()? {
            running.ended = true;
            break match status.signal() {
                Some(signal) => Ending::Signal { signal, name: signal_name(signal) },
                None => Ending::Exit(status.code().unwrap_or(-1)),
            };
        }
        let held =
            Memory::of(&format!("/proc/{}/status", running.child.id())).map_or(0, |memory| memory.peak);
        peak_rss = peak_rss.max(held);
        if cancel.is_cancelled() {
            break Ending::Cancelled;
        } else if let Some(limit) = limits.memory.filter(|limit| held > *limit) {
            break Ending::Memory(limit);
        } else if started.elapsed() >= limits.timeout {
            break Ending::TimedOut(limits.timeout);
        }
        thread::sleep(POLL);
    };
    drop(running); // What it started goes with it.
    let read = |name: &str| {
        let bytes = fs::read(&folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Ran { ending, stdout: read(STDOUT), stderr: read(STDERR), wall: started.elapsed(), peak_rss })
}

/// Who we are, as programs of containers take it: `UID:GID`.
#[must_use]
pub fn user() -> String {
    format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[expect(unsafe_code, reason = "only a process itself can ask to be killed with its parent")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: `prctl` is async-signal-safe, and nothing else is called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// A running child; dropping it kills its group and reaps it.
struct Running {
    child: Child,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // An error means that nobody is left in it.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, timeout: Duration) -> Ran {
        let folder = tempfile::tempdir().unwrap();
        let program = Program { path: "/bin/sh".into(), args: vec!["-c".into(), script.into()] };
        let limits = Limits { timeout, memory: None, env: vec![("A".into(), "b c".into())] };
        run_program(&program, folder.path(), &limits, &CancelToken::default()).unwrap()
    }

    #[test]
    fn words_and_endings_are_told() {
        let ran = run("echo $A; echo no >&2; exit 3", Duration::from_secs(20));
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("b c\n", "no\n"));
        assert_eq!(ran.ending, Ending::Exit(3));
        let ran = run("kill -SEGV $$", Duration::from_secs(20));
        assert_eq!(ran.ending, Ending::Signal { signal: 11, name: "SIGSEGV" });
    }

    #[test]
    fn what_hangs_is_killed_with_what_it_started() {
        let ran = run("sleep 600 & echo $!; wait", Duration::from_millis(300));
        assert_eq!(ran.ending, Ending::TimedOut(Duration::from_millis(300)));
        let status = PathBuf::from(format!("/proc/{}/status", ran.stdout.trim()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::exists(&status) {
            let state = fs::read_to_string(&status).unwrap_or_default();
            if state.contains("State:\tZ") {
                break;
            }
            assert!(Instant::now() < deadline, "a process of the group survived");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program { path: folder.path().join("none"), args: Vec::new() };
        let limits = Limits { timeout: Duration::from_secs(1), memory: None, env: Vec::new() };
        let error = run_program(&program, folder.path(), &limits, &CancelToken::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
