//! Killed processes: the next run finishes, nothing half-written is used, nobody is left behind.
//!
//! The number of kills is small here; `make soak` sets `SOAK` to more.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::support::{Project, models};

fn kills() -> u32 {
    std::env::var("SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// A random number that is new in every run, and printed so that a failure can be understood.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let mut file = std::fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut file, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn start(project: &Project) -> Child {
    let mut command = project.command(&["apply"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Processes whose current folder is below `root`: the workers of a project.
fn workers(root: &Path) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cwd.is_ok_and(|cwd| cwd.starts_with(root)) && args.ends_with(b"__worker\0")
    })
    .collect()
}

/// Sends a signal; the process may be gone already.
fn send(pid: i32, signal: Signal) {
    match rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot send {signal:?} to {pid}: {error}"),
    }
}

fn project() -> Project {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n\
         [model.n]\nsource = { path = \"../n.onnx\" }\ntargets = [\"a\"]\n",
    );
    project.write("m.onnx", models::mlp(1.0));
    project.write("n.onnx", models::mlp(2.0));
    project
}

/// Runs to the end, and checks that all is as if nothing had happened.
fn recovers(project: &Project) {
    project.run(&["apply"]).expect(0);
    assert_eq!(project.planned(), ["m@a: up-to-date", "n@a: up-to-date"]);
    for model in ["m", "n"] {
        let engine = project.read(&format!("engines/{model}/a.engine"));
        let sidecar: serde_json::Value =
            serde_json::from_slice(&project.read(&format!("engines/{model}/a.json"))).unwrap();
        assert_eq!(sidecar["file"]["b3"], enginewright::digest::Digest::of(&engine).to_string());
        let files: Vec<_> = std::fs::read_dir(project.path(&format!("engines/{model}"))).unwrap().collect();
        assert_eq!(files.len(), 2, "engine and sidecar and nothing else: {files:?}");
    }
    let left: Vec<_> = std::fs::read_dir(project.path("cache/v1/tmp")).unwrap().collect();
    assert!(left.is_empty(), "temporary files are swept: {left:?}");
}

#[test]
fn kill_of_the_main_process_at_any_moment() {
    let project = project();
    let begun = Instant::now();
    project.run(&["apply"]).expect(0);
    let whole = begun.elapsed().as_millis();
    for round in 0..kills() {
        std::fs::remove_dir_all(project.path("engines")).unwrap();
        std::fs::remove_dir_all(project.path("cache")).unwrap();
        let mut child = start(&project);
        let wait = u64::try_from(u128::from(random()) % (whole + 50)).unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let before = workers(project.root());
        child.kill().unwrap();
        child.wait().unwrap();
        eprintln!("round {round}: killed after {wait} ms with {} workers", before.len());
        let dead = Instant::now();
        while !workers(project.root()).is_empty() {
            assert!(dead.elapsed() < Duration::from_secs(2), "a worker outlived its parent");
            std::thread::sleep(Duration::from_millis(10));
        }
        recovers(&project);
    }
}

#[test]
fn kill_of_a_worker_at_any_moment() {
    let project = project();
    project.run(&["apply"]).expect(0);
    let mut killed = 0;
    for round in 0..kills() * 10 {
        if killed >= kills() {
            break;
        }
        std::fs::remove_dir_all(project.path("engines")).unwrap();
        std::fs::remove_dir_all(project.path("cache")).unwrap();
        let mut child = start(&project);
        let begun = Instant::now();
        let wait = Duration::from_millis(random() % 400);
        let victim = loop {
            let alive = workers(project.root());
            if begun.elapsed() >= wait && !alive.is_empty() {
                break Some(alive[usize::try_from(random() % alive.len() as u64).unwrap()]);
            }
            if child.try_wait().unwrap().is_some() {
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if let Some(pid) = victim {
            send(pid, Signal::KILL);
            killed += 1;
        }
        let status = child.wait().unwrap();
        eprintln!("round {round}: killed worker {victim:?} after {wait:?}, exit {status}");
        // It answered before it died, or one engine failed; the main process never does.
        assert!(status.signal().is_none() && matches!(status.code(), Some(0 | 1)), "{status}");
        recovers(&project);
    }
    assert!(killed >= kills(), "only {killed} workers could be killed");
}

/// Does a process hold the lock of a build?
fn holds_a_build(project: &Project, pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let locks = std::fs::read_dir(project.path("cache/v1/locks")).into_iter().flatten().flatten();
    let builds = locks.filter(|lock| lock.file_name().to_string_lossy().starts_with("build-"));
    let inodes: Vec<u64> = builds.filter_map(|lock| Some(lock.metadata().ok()?.ino())).collect();
    // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`
    let held = std::fs::read_to_string("/proc/locks").unwrap();
    held.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(4);
        let is_its = fields.next() == Some(&pid.to_string());
        let inode = fields.next().and_then(|file| file.rsplit(':').next()?.parse().ok());
        is_its && inode.is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

#[test]
fn interrupt_ends_a_run_and_its_workers() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::chain(3000));
    let build = || {
        let mut child = start(&project);
        let begun = Instant::now();
        // It builds, and does not still read the model: it holds the lock of the build, and has a worker.
        while !holds_a_build(&project, child.id()) || workers(project.root()).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no worker was started");
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let mut child = build();
    let interrupt = |child: &mut Child| {
        send(i32::try_from(child.id()).unwrap(), Signal::INT);
        let asked = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    };
    // One that waits for the other's build stops waiting.
    let wait = || {
        let mut command = project.command(&["apply"]);
        let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().starts_with("waiting")));
        interrupt(&mut waiting);
    };
    wait();
    assert!(child.try_wait().unwrap().is_none(), "the other one goes on");

    interrupt(&mut child);
    assert!(workers(project.root()).is_empty());
    assert!(!project.exists("engines/m/a.engine"));
    let kept = std::fs::read_dir(project.path("cache/v1/failures")).map_or(0, Iterator::count);
    assert_eq!(kept, 0, "what was interrupted has not failed");

    // Nor is it remembered as a run that had nothing to do, which is so of files that are older than 2 s.
    std::thread::sleep(Duration::from_millis(2100));
    child = build();
    wait();
    wait();
    interrupt(&mut child);
}
