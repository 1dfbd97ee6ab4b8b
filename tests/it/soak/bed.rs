//! What is right, and what is counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use enginewright::digest::Digest;
use serde_json::Value;

use crate::support::fake::{self, TARGETS};
use crate::support::{Output, Project, run};

/// Models of the project.
pub(super) const MODELS: usize = 4;
/// Weights that a model can have.
pub(super) const VARIANTS: usize = 8;
/// Nothing here takes a tenth of this on an idle machine.
const HANG: Duration = Duration::from_secs(120);

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Processes killed, by what they did.
    pub(super) kills: BTreeMap<String, usize>,
    /// Published engines, with a sidecar that names them, that are not what they should be.
    pub(super) wrong: usize,
    /// Engines that were built, are needed, and must be built again.
    pub(super) lost: usize,
    /// Processes that did not end.
    pub(super) hung: usize,
    /// Bits flipped and files cut short, and met by an `apply`.
    pub(super) met: usize,
    /// Bits flipped and files cut short, and looked for.
    pub(super) flips: usize,
    /// Of these, told by `cache verify`.
    pub(super) found: usize,
    /// Of both, believed.
    pub(super) used: usize,
    /// Runs with failing disks and wrong clocks.
    pub(super) faults: usize,
}

pub(super) struct Bed {
    pub(super) project: Project,
    /// The variant of each model.
    pub(super) variants: [usize; MODELS],
    /// Digest of the engine of each variant and target, from builds in peace.
    pub(super) right: BTreeMap<(usize, &'static str), String>,
    pub(super) counts: Counts,
    pub(super) seed: u64,
    state: u64,
}

impl Bed {
    pub(super) fn new() -> Bed {
        let reference = fake::project(VARIANTS);
        fake::run_in(&reference, &["apply"]).expect(0);
        let mut right = BTreeMap::new();
        for variant in 0..VARIANTS {
            for target in TARGETS {
                let engine = reference.read(&format!("engines/m{variant}/{target}.engine"));
                right.insert((variant, target), Digest::of(&engine).to_string());
            }
        }
        let seed = std::env::var("SOAK_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(random);
        eprintln!("SOAK_SEED={seed}");
        let (project, variants) = (fake::project(MODELS), std::array::from_fn(|n| n));
        Bed { project, variants, right, counts: Counts::default(), seed, state: seed | 1 }
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % n as u64).unwrap()
    }

    pub(super) fn cache(&self) -> PathBuf {
        self.project.path("cache")
    }

    /// Runs the program to its end.
    pub(super) fn run(&mut self, args: &[&str]) -> Output {
        let mut command = fake::command(&self.project, &self.cache(), args);
        self.finish(&mut command)
    }

    /// Runs a command to its end; one that does not end is counted, and killed.
    pub(super) fn finish(&mut self, command: &mut Command) -> Output {
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut limited = Command::new("timeout");
        limited
            .args(["--signal=KILL", &HANG.as_secs().to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited.current_dir(command.get_current_dir().unwrap());
        let output = run(&mut limited);
        // `timeout` dies by the same signal.
        if output.code == -1 || output.code == 137 {
            self.counts.hung += 1;
            eprintln!("HUNG: {limited:?}\n{}\n{}", output.stdout, output.stderr);
        }
        output
    }

    /// Waits for a process; one that does not end is counted, and killed.
    pub(super) fn wait(&mut self, child: &mut Child) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > HANG {
                self.counts.hung += 1;
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Holds everything that is published against what is right: any engine whose sidecar names it must be one of
    /// a variant for its target. Where `settled`, it must be there, and be that of the model as it is now.
    pub(super) fn judge(&mut self, settled: bool) {
        for model in 0..MODELS {
            for target in TARGETS {
                let place = |kind: &str| self.project.path(&format!("engines/m{model}/{target}.{kind}"));
                let engine = std::fs::read(place("engine")).ok().map(|bytes| Digest::of(&bytes).to_string());
                let named = std::fs::read(place("json")).ok().and_then(|text| {
                    let sidecar: Value = serde_json::from_slice(&text).ok()?;
                    Some(sidecar["file"]["b3"].as_str()?.to_owned())
                });
                let is_published = engine.is_some() && engine == named;
                let expected = &self.right[&(self.variants[model], target)];
                let is_right = match (&engine, settled) {
                    (Some(engine), true) => is_published && engine == expected,
                    (None, true) => false,
                    (Some(engine), false) if is_published => {
                        (0..VARIANTS).any(|variant| self.right[&(variant, target)] == *engine)
                    }
                    (_, false) => true,
                };
                if !is_right {
                    self.counts.wrong += 1;
                    eprintln!(
                        "WRONG: m{model}@{target}: engine {engine:?}, sidecar {named:?}, right {expected}"
                    );
                }
            }
        }
    }

    /// Runs to the end, after which all is as if nothing had happened.
    pub(super) fn recover(&mut self) {
        let applied = self.run(&["apply"]);
        if applied.code != 0 {
            self.counts.wrong += 1;
            eprintln!("WRONG: apply fails\n{}\n{}", applied.stdout, applied.stderr);
        }
        self.judge(true);
    }

    /// The build keys of results that are in a cache, and the engines that the plan wants.
    pub(super) fn built(&self) -> Vec<String> {
        files(&self.cache().join("v1/results/build"))
            .iter()
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect()
    }

    /// Counts the engines that are to be built although `built` was there.
    pub(super) fn count_lost(&mut self, built: &[String]) {
        let plan = self.run(&["--format", "json", "plan"]);
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap_or_default();
        for engine in plan["engines"].as_array().into_iter().flatten() {
            let is_work = engine["action"] == "build" || engine["action"] == "rebuild";
            if is_work && engine["build_key"].as_str().is_some_and(|key| built.iter().any(|b| b == key)) {
                self.counts.lost += 1;
                eprintln!("LOST: {engine}");
            }
        }
    }
}

/// Every file below a folder, links not followed.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// A random number that is new in every run.
fn random() -> u64 {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}
