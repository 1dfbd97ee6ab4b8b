//! Running somebody else's program: the user's environment, a time limit, and no word to the
//! terminal.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Settings;
use super::error::Error;
use super::redact::redact;
use crate::fs;

/// Most output that is kept of each stream.
const KEPT: usize = 16 << 20;
const PAUSE: Duration = Duration::from_millis(20);

/// What a program did. The output is redacted.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    /// Both streams.
    pub(super) fn output(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// A file that the program writes, and how large it may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit<'a> {
    pub(super) file: &'a Path,
    pub(super) bytes: u64,
}

/// Runs a program to its end. None if there is no such program. It is killed, with its children,
/// after the time limit or when its file grows beyond its limit.
pub(super) fn run(
    what: &str,
    argv: &[&str],
    extra_env: &[(&str, &Path)],
    limit: Option<Limit<'_>>,
    settings: &Settings,
) -> Result<Option<Finished>, Error> {
    crate::fs::beyond_files("another program");
    let mut command = Command::new(argv[0]);
    command
        .args(&argv[1..])
        .env_clear()
        .envs(settings.env.iter().map(|(k, v)| (k, v)))
        .envs(extra_env.to_vec());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let tool = |status: String| Error::Tool {
        what: what.to_owned(),
        program: argv[0].to_owned(),
        status,
        output: String::new(),
    };
    let mut child = match command.spawn() {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        child => Group(child.map_err(|e| tool(e.to_string()))?),
    };
    let streams = (child.0.stdout.take(), child.0.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| collect(streams.0));
        let stderr = scope.spawn(|| collect(streams.1));
        let waited = wait(&mut child, what, limit, settings.timeout);
        if waited.is_err() {
            child.kill_group();
            let _ = child.0.wait();
        }
        let text = |bytes: Vec<u8>| redact(&String::from_utf8_lossy(&bytes), &settings.env);
        let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
        let status = waited?.map_err(|e| tool(e.to_string()))?;
        Ok(Some(Finished { status, stdout: text(stdout), stderr: text(stderr) }))
    })
}

fn wait(
    child: &mut Group,
    what: &str,
    limit: Option<Limit<'_>>,
    timeout: Duration,
) -> Result<io::Result<ExitStatus>, Error> {
    let started = Instant::now();
    loop {
        if child.has_ended() {
            // Its number is still its own: what is left of its group can be killed safely.
            child.kill_group();
            return Ok(child.0.wait());
        }
        if started.elapsed() > timeout {
            return Err(Error::Timeout { what: what.to_owned(), after: timeout });
        }
        if let Some(limit) = limit
            && fs::stat(limit.file).is_ok_and(|stat| stat.size > limit.bytes)
        {
            return Err(Error::TooLarge { what: what.to_owned(), limit: limit.bytes });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads to the end, and keeps the start.
fn collect(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.by_ref().take(KEPT as u64).read_to_end(&mut bytes);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    bytes
}

/// A child that leads a process group of its own.
struct Group(Child);

impl Group {
    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
    }

    /// Has it ended? It is left as it is, so that its number stays taken.
    fn has_ended(&self) -> bool {
        let Some(pid) = self.pid() else { return true };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
    }

    /// Kills it with all its children: one that lives on would hold the pipes open.
    fn kill_group(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
