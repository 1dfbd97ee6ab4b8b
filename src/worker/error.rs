//! The ways in which a worker can fail to answer. A refusal is an answer, and not among them.

use std::io;
use std::time::Duration;

use super::protocol::VERSION;

/// A worker did not answer. Every variant but the first three carries the last it wrote to stderr.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "`stderr` is the same in each: the last the worker wrote there")]
pub enum WorkerError {
    /// It could not be started.
    #[error("cannot start a worker: {0}")]
    Spawn(#[source] io::Error),
    /// There is no room for what it needs in its folder.
    #[error("cannot start a worker: {0}")]
    Full(#[source] crate::fs::Error),
    /// The request cannot be written down, such as a path that is not UTF-8.
    #[error("cannot send the request to a worker: {what}")]
    Unsendable {
        /// Why.
        what: String,
    },
    /// A signal ended it.
    #[error("the worker crashed: {name} (signal {signal})")]
    Crashed {
        /// Number of the signal.
        signal: i32,
        /// Its name: `SIGSEGV`.
        name: &'static str,
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("the worker was still busy after {}, and was killed", seconds(*after))]
    TimedOut {
        /// The limit.
        after: Duration,
        stderr: String,
    },
    /// Memory ran out.
    #[error("the worker ran out of memory: {what}")]
    OutOfMemory {
        /// How this is known.
        what: MemoryDeath,
        stderr: String,
    },
    /// What came through the pipe makes no sense.
    #[error("the worker sent garbage: {what}")]
    Garbage {
        /// What is wrong with it.
        what: String,
        stderr: String,
    },
    /// It ended by itself without an answer.
    #[error("the worker ended without an answer, with exit code {code}")]
    ExitedEarly {
        /// The exit code.
        code: i32,
        stderr: String,
    },
    /// Its threads cannot take turns: all of them wait, or there are too many.
    #[error("the worker's threads cannot take turns")]
    Stuck { stderr: String },
    /// It is a worker of another version.
    #[error("the worker speaks protocol {theirs} (version {program}), this program speaks {VERSION}")]
    WrongProtocol {
        /// Version of its protocol.
        theirs: u32,
        /// Version of its program.
        program: String,
        stderr: String,
    },
    /// The caller wanted it no longer.
    #[error("the worker was cancelled")]
    Cancelled { stderr: String },
}

/// How it is known that memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryDeath {
    /// It held more than its limit, and was killed.
    Limit {
        /// The limit in bytes.
        limit: u64,
        /// What it held, in bytes.
        held: u64,
    },
    /// An allocation failed, and it aborted.
    Allocation,
    /// Somebody else killed it: almost always the kernel, whose memory was full.
    Killed,
}

impl std::fmt::Display for MemoryDeath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        match self {
            MemoryDeath::Limit { limit, held } => {
                write!(f, "it held {} MiB, the limit is {} MiB", mib(*held), mib(*limit))
            }
            MemoryDeath::Allocation => f.write_str("an allocation failed"),
            MemoryDeath::Killed => f.write_str("it was killed from outside, most likely by the kernel"),
        }
    }
}

impl WorkerError {
    /// Stable code, kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            WorkerError::Spawn(_) => "worker-spawn",
            WorkerError::Full(_) => "disk-full",
            WorkerError::Unsendable { .. } => "worker-unsendable",
            WorkerError::Crashed { .. } => "worker-crashed",
            WorkerError::TimedOut { .. } => "worker-timed-out",
            WorkerError::OutOfMemory { .. } => "worker-out-of-memory",
            WorkerError::Garbage { .. } => "worker-garbage",
            WorkerError::ExitedEarly { .. } => "worker-exited-early",
            WorkerError::Stuck { .. } => "worker-stuck",
            WorkerError::WrongProtocol { .. } => "worker-wrong-protocol",
            WorkerError::Cancelled { .. } => "worker-cancelled",
        }
    }

    /// The last the worker wrote to stderr.
    #[must_use]
    pub fn stderr(&self) -> &str {
        match self {
            WorkerError::Spawn(_) | WorkerError::Full(_) | WorkerError::Unsendable { .. } => "",
            WorkerError::Crashed { stderr, .. }
            | WorkerError::TimedOut { stderr, .. }
            | WorkerError::OutOfMemory { stderr, .. }
            | WorkerError::Garbage { stderr, .. }
            | WorkerError::ExitedEarly { stderr, .. }
            | WorkerError::Stuck { stderr }
            | WorkerError::WrongProtocol { stderr, .. }
            | WorkerError::Cancelled { stderr } => stderr,
        }
    }
}

/// A duration for people: `90 s`, `1.5 s`.
fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Name of a signal.
pub(super) fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => "a signal",
    }
}
