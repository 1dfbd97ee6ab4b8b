//! One child process: started in a group of its own, watched through `/proc`, killed with all that
//! it started, and reaped.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::server::ARGUMENT;

/// How much of stderr is kept: the end of it.
const STDERR_KEPT: usize = 64 << 10;

/// A running child. Dropping it kills its group and reaps it.
pub(super) struct Process {
    child: Child,
    pid: libc::pid_t,
    ended: Option<Ended>,
    stderr: Arc<Mutex<Tail>>,
    stderr_reader: Option<thread::JoinHandle<()>>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Exit code or signal.
    pub(super) status: ExitStatus,
    /// Processor time, user and system.
    pub(super) cpu: Duration,
}

impl Process {
    /// Starts `program __worker` with only these variables in its environment.
    pub(super) fn start(
        program: &Path,
        folder: &Path,
        env: &[(String, String)],
    ) -> io::Result<(Process, ChildStdin, ChildStdout)> {
        crate::fs::beyond_files("a worker");
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on the drop of `process` cleans up.
        let mut process = Process { child, pid, ended: None, stderr: Arc::default(), stderr_reader: None };
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        let tail = Arc::clone(&process.stderr);
        let reader = thread::Builder::new().name("worker-stderr".into());
        process.stderr_reader = Some(reader.spawn(move || collect(stderr, &tail))?);
        Ok((process, stdin, stdout))
    }

    /// Resident memory now and at its peak, in bytes; none if it has ended.
    pub(super) fn memory(&self) -> Option<Memory> {
        Memory::of(&format!("/proc/{}/status", self.pid))
    }

    /// Has it ended? Waits at most this long.
    pub(super) fn wait_for(&mut self, limit: Duration) -> Option<Ended> {
        let deadline = Instant::now() + limit;
        loop {
            self.reap(libc::WNOHANG);
            if self.ended.is_some() || Instant::now() >= deadline {
                return self.ended;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the whole group and reaps the child.
    pub(super) fn kill(&mut self) -> Ended {
        self.kill_group();
        while self.ended.is_none() {
            self.reap(0);
        }
        self.ended.unwrap_or(Ended { status: ExitStatus::from_raw(libc::SIGKILL), cpu: Duration::ZERO })
    }

    /// The last that was written to stderr. To be called when the child has ended.
    pub(super) fn stderr_tail(&mut self) -> String {
        // The reader ends when the last holder of the pipe does. A process that left the group
        // could hold it for ever, and is not waited for.
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.stderr_reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    #[expect(unsafe_code, reason = "wait4 is the one call that tells the processor time of one child")]
    fn reap(&mut self, flags: libc::c_int) {
        if self.ended.is_some() {
            return;
        }
        let mut status = 0;
        // SAFETY: `rusage` is plain numbers, for which zeroes are a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live variables of the right type; `pid` is our child, which
        // nobody else reaps.
        let pid = unsafe { libc::wait4(self.pid, &raw mut status, flags, &raw mut usage) };
        let time = |t: libc::timeval| {
            Duration::from_secs(t.tv_sec.try_into().unwrap_or(0))
                + Duration::from_micros(t.tv_usec.try_into().unwrap_or(0))
        };
        if pid == self.pid {
            self.ended = Some(Ended {
                status: ExitStatus::from_raw(status),
                cpu: time(usage.ru_utime) + time(usage.ru_stime),
            });
        } else if pid < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            // Somebody ignores SIGCHLD, and the kernel reaped it.
            self.ended = Some(Ended { status: ExitStatus::from_raw(0), cpu: Duration::ZERO });
        }
    }

    /// Invariant: called before the leader is reaped, or right after; a group's number is not given
    /// to another while any process of it lives.
    fn kill_group(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            // An error means that nobody is left in it.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        if self.ended.is_none() {
            let _ = self.child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
        }
    }
}

/// Resident memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// The most it held, in bytes.
    pub(super) peak: u64,
}

impl Memory {
    /// From a `/proc/…/status` file.
    pub(super) fn of(path: &str) -> Option<Memory> {
        let text = crate::fs::read_to_string(&PathBuf::from(path)).ok()?;
        Memory::parse(&text)
    }

    fn parse(status: &str) -> Option<Memory> {
        let field = |name: &str| -> Option<u64> {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        // The peak is taken rather than the moment, so that a spike between two looks counts.
        Some(Memory { peak: field("VmHWM:").or_else(|| field("VmRSS:"))? })
    }
}

/// The end of a stream.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    dropped: u64,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Cut rarely: the buffer may grow to twice what is kept.
        if self.bytes.len() > 2 * STDERR_KEPT {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let extra = self.bytes.len().saturating_sub(STDERR_KEPT);
        self.bytes.drain(..extra);
        self.dropped += extra as u64;
    }

    fn text(&mut self) -> String {
        self.cut();
        let text = String::from_utf8_lossy(&self.bytes);
        match self.dropped {
            0 => text.into_owned(),
            dropped => format!("[{dropped} bytes left out]\n{text}"),
        }
    }
}

fn collect(mut from: ChildStderr, tail: &Mutex<Tail>) {
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_status() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(Memory::parse(status), Some(Memory { peak: 2 << 20 }));
        // A zombie has no memory lines.
        assert_eq!(Memory::parse("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn the_end_of_a_long_stderr_is_kept() {
        let mut tail = Tail::default();
        for _ in 0..100_000 {
            tail.push(b"0123456789");
        }
        tail.push(b"the end");
        let text = tail.text();
        assert!(text.starts_with("[934471 bytes left out]\n"), "{}", &text[..40]);
        assert!(text.ends_with("the end"));
        assert!(text.len() < STDERR_KEPT + 64);
    }
}
