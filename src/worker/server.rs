//! The side of the worker: one request, one answer, and out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, Signal};

use super::codec::{self, FrameError};
use super::process::Memory;
use super::protocol::{Answer, Hello, MAGIC, Refusal, Request, Response, VERSION};
use super::{canonicalize, gpus, inspect, on_gpu, prepare, reference, tensorrt};

/// The one argument that makes the program a worker.
pub(super) const ARGUMENT: &str = "__worker";

/// Stack sizes, tried in turn. TensorRT recurses once per node of a chain: 750 nodes overflow the
/// 2 MiB of a thread, 3,000 the 8 MiB of a main thread. Only the pages used become resident, but
/// where memory may not be overcommitted, or the address space is limited, less must do.
const STACKS: [usize; 4] = [1 << 30, 256 << 20, 64 << 20, 8 << 20];

/// Was the program started as a worker? `args` are all of its arguments, with its own name.
#[must_use]
pub fn is_worker(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter().skip(1).eq([ARGUMENT])
}

/// Does what a worker does, and ends the process.
pub fn serve() -> ! {
    if io::stdin().is_terminal() {
        let _ =
            writeln!(io::stderr(), "`{ARGUMENT}` is for the program itself, which talks to it through pipes");
        leave(64);
    }
    match converse() {
        Ok(()) => leave(0),
        Err(error) => {
            let _ = writeln!(io::stderr(), "worker: {error}");
            leave(70)
        }
    }
}

fn converse() -> Result<(), FrameError> {
    // If the parent died before this call, the signal never comes. But then it has not written a
    // request either, since it waits for our hello; we read the end of the pipe, and leave.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    let (mut requests, mut answers) = take_pipes()?;
    settle();

    let program = env!("CARGO_PKG_VERSION").to_owned();
    codec::write(&mut answers, &Hello { magic: MAGIC.to_owned(), protocol: VERSION, program })?;
    let Some(request) = codec::read::<Request>(&mut requests)? else {
        return Ok(());
    };
    let response = with_large_stack(move || respond(&request))?;
    match codec::write(&mut answers, &Answer { response, peak_rss: peak_rss() }) {
        Err(FrameError::Io(error)) => Err(error.into()),
        // The answer cannot be written down: a path that is not UTF-8, a flood of text.
        Err(error) => {
            let what = format!("the answer cannot be sent: {error}");
            let response = Response::Refused(Box::new(Refusal::new("answer", "answer-unsendable", what)));
            codec::write(&mut answers, &Answer { response, peak_rss: peak_rss() })
        }
        Ok(()) => Ok(()),
    }
}

fn respond(request: &Request) -> Response {
    let result = match request {
        Request::Canonicalize { source, digest_from } => {
            canonicalize::run(source, *digest_from, Path::new(".")).map(Response::Canonicalized)
        }
        Request::Prepare(spec) => prepare::run(spec, Path::new(".")).map(Response::Prepared),
        Request::Probe { libraries } => {
            tensorrt::probe(libraries).map(|version| Response::Probed { version: version.to_string() })
        }
        Request::ProbeReference { libraries } => {
            reference::probe(libraries).map(|version| Response::Probed { version })
        }
        Request::Layers(request) => reference::layers(request, Path::new(".")).map(|()| Response::Measured),
        Request::Measure(request) => reference::measure(request, Path::new(".")).map(|()| Response::Measured),
        Request::OnGpu(request) => on_gpu::run(request, Path::new(".")).map(|()| Response::Measured),
        Request::Inspect { file } => inspect::run(file).map(|found| Response::Inspected(Box::new(found))),
        Request::Gpus => gpus::ask_driver().map(Response::Gpus),
        Request::Build(build) => tensorrt::build(build).map(|built| Response::Built(Box::new(built))),
    };
    result.unwrap_or_else(Response::Refused)
}

/// Takes the two pipes away from where libraries read and print: stdin becomes empty, stdout
/// becomes stderr.
fn take_pipes() -> io::Result<(File, File)> {
    let take = |fd: &dyn AsFd| -> io::Result<OwnedFd> { Ok(rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3)?) };
    let requests = take(&io::stdin())?;
    let answers = take(&io::stdout())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((requests.into(), answers.into()))
}

/// What a process inherits and what could change its files.
fn settle() {
    // It was started through a link in `/proc`, whose name would stand in lists of processes.
    let _ = rustix::thread::set_name(c"enginewright");
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Crashes are expected; cores of a gigabyte are not wanted.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

fn with_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    // The closure can be given to one thread only, so a thread first has to be had: it waits for
    // its work.
    let mut refused = io::Error::from(io::ErrorKind::OutOfMemory);
    // Where the address space is limited, the stack must leave room for the libraries.
    let space = rustix::process::getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    let smallest = STACKS[STACKS.len() - 1];
    for stack in STACKS.into_iter().filter(|stack| *stack == smallest || *stack as u64 <= space / 8) {
        let (hand_over, take) = std::sync::mpsc::sync_channel::<Box<dyn FnOnce() -> T + Send>>(1);
        let thread = thread::Builder::new().name("work".into()).stack_size(stack);
        match thread.spawn(move || take.recv().ok().map(|work| work())) {
            Ok(running) => {
                let _ = hand_over.send(Box::new(work));
                return match running.join() {
                    Ok(Some(done)) => Ok(done),
                    // The panic has been written to stderr by then.
                    Ok(None) | Err(_) => leave(101),
                };
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn peak_rss() -> u64 {
    Memory::of("/proc/self/status").map_or(0, |memory| memory.peak)
}

/// Ends the process at once: no destructors of TensorRT's libraries, which do much and may crash.
#[expect(unsafe_code, reason = "std has no exit without destructors")]
fn leave(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return. Nothing is buffered: frames are flushed
    // and files are written without buffers.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_arguments_make_a_worker() {
        let args = |list: &[&str]| is_worker(list.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(args(&["enginewright", "__worker"]));
        assert!(!args(&["enginewright"]));
        assert!(!args(&["enginewright", "__worker", "x"]));
        assert!(!args(&["enginewright", "-C", "__worker"]));
        assert!(!args(&["__worker"]));
    }

    #[test]
    fn deep_recursion_fits() {
        fn depth(n: u64) -> u64 {
            let frame = std::hint::black_box([n; 64]);
            if n == 0 { 0 } else { depth(n - 1) + frame[0] / frame[0] }
        }
        assert_eq!(with_large_stack(|| depth(200_000)).unwrap(), 200_000);
    }
}
