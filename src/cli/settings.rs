//! Arguments, environment and machine, resolved once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::args::{ColorArg, FormatArg, Global};
use super::exit::{self, Failed};
use super::output;
use crate::build::{Context, Sink};
use crate::cache::Cache;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::digest::{Digest, Preimage};
use crate::fs;
use crate::gpu::LocalGpu;
use crate::manifest::{self, Engine, Manifest};
use crate::plan::{LOCK_FILE_NAME, Lock, LockError};
use crate::source;
use crate::worker::{self, CancelToken, Client, NoGpus};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// As what a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Html,
    Markdown,
}

/// Everything that commands need to know of how they were started.
pub(super) struct Settings {
    pub(super) format: Format,
    /// What a report was asked for by name.
    pub(super) page: Option<Page>,
    pub(super) color: bool,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    /// Is everything written to a file too?
    pub(super) logged: bool,
    /// Is stderr a terminal, so that progress may move?
    pub(super) live: bool,
    /// The project root, if there is a project.
    pub(super) root: Option<PathBuf>,
    pub(super) cancel: CancelToken,
    /// What is asked, and all of the environment that can change the answer.
    pub(super) question: Digest,
    cache_dir: Option<PathBuf>,
    signal: Arc<AtomicU8>,
    env: Vec<(String, String)>,
    started_in: PathBuf,
    /// Is that another folder than the current one, since `-C` says so?
    is_elsewhere: bool,
    /// What new processes may use, in bytes: asked before anything that is kept is found out.
    memory: u64,
}

impl Settings {
    pub(super) fn new(global: &Global, argv: &[OsString]) -> Result<Settings, Failed> {
        let cannot = |message: String| Failed::new(exit::CANNOT_START, Diagnostic::error("start", message));
        let here =
            std::env::current_dir().map_err(|e| cannot(format!("cannot tell the current folder: {e}")))?;
        let started_in = match &global.directory {
            Some(folder) => {
                let folder = here.join(folder);
                fs::canonicalize(&folder).map_err(|e| cannot(e.to_string()))?
            }
            None => here.clone(),
        };
        let root = match &global.directory {
            // What is named is meant: no search above it.
            Some(_) => fs::is_dir(&started_in.join("manifests")).then(|| started_in.clone()),
            None => manifest::find_root(&started_in),
        };
        let env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let var = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let is_terminal = std::io::stderr().is_terminal() && var("TERM") != Some("dumb");
        let color = match global.color {
            ColorArg::Always => true,
            ColorArg::Never => false,
            ColorArg::Auto => is_terminal && var("NO_COLOR").is_none_or(str::is_empty),
        };
        if let Some(file) = &global.log_file {
            output::log_to(&started_in.join(file))
                .map_err(|e| cannot(format!("cannot write the log: {e}")))?;
        }
        let question = question(argv, &started_in, is_terminal, &env);
        let (cancel, signal) = (CancelToken::default(), Arc::new(AtomicU8::new(0)));
        watch_signals(cancel.clone(), Arc::clone(&signal))
            .map_err(|e| cannot(format!("cannot watch signals: {e}")))?;
        Ok(Settings {
            format: if global.format == FormatArg::Json { Format::Json } else { Format::Text },
            page: match global.format {
                FormatArg::Html => Some(Page::Html),
                FormatArg::Md => Some(Page::Markdown),
                FormatArg::Text | FormatArg::Json => None,
            },
            color,
            quiet: global.quiet,
            verbose: global.verbose,
            logged: global.log_file.is_some(),
            live: is_terminal && var("CI").is_none_or(str::is_empty) && !global.quiet,
            root,
            cancel,
            question,
            cache_dir: global.cache_dir.as_ref().map(|dir| here.join(dir)),
            signal,
            started_in,
            is_elsewhere: global.directory.is_some(),
            memory: available_memory().unwrap_or(u64::MAX) / 10 * 9,
            env,
        })
    }

    /// The exit code of the signal that stopped the run, if one did.
    pub(super) fn stopped_by(&self) -> Option<u8> {
        Some(self.signal.load(Ordering::SeqCst)).filter(|code| *code != 0)
    }

    /// A path of the command line: it is meant from where the program was started, as `-C` says. Without `-C` it stays as
    /// it was written, for messages.
    pub(super) fn here(&self, path: &Path) -> PathBuf {
        if self.is_elsewhere { self.started_in.join(path) } else { path.to_owned() }
    }

    /// Loads the project: manifests, cache and lock file.
    pub(super) fn project(&self) -> Result<Project, Failed> {
        let mut project = self.project_with(Lock::new())?;
        project.lock = read_lock(&project.manifest.root)?;
        Ok(project)
    }

    /// Loads the project with this in the place of its lock file.
    pub(super) fn project_with(&self, lock: Lock) -> Result<Project, Failed> {
        let Some(root) = &self.root else {
            return Err(Failed::new(
                exit::CANNOT_START,
                Diagnostic::error(
                    "no-project",
                    format!("there is no `manifests/` in `{}` or above it", self.started_in.display()),
                )
                .help("begin one with `enginewright init MODEL.onnx`, or name the project with -C DIR"),
            ));
        };
        self.load(root, lock, Vec::new())
    }

    /// The folder that the program works in: that of `-C`, or the current one.
    pub(super) fn started_in(&self) -> &Path {
        &self.started_in
    }

    /// The project as it would be with these manifests.
    pub(super) fn drafted(&self, root: &Path, drafts: Vec<SourceFile>) -> Result<Project, Failed> {
        self.load(root, Lock::new(), drafts.into_iter().map(Arc::new).collect())
    }

    fn load(&self, root: &Path, lock: Lock, drafts: Vec<Arc<SourceFile>>) -> Result<Project, Failed> {
        let options = manifest::Options { env_roots: self.env_roots(), drafts };
        let loaded = manifest::load(root, &options).map_err(|e| {
            let mut diagnostic = Diagnostic::error("manifests", e.to_string());
            diagnostic.help.push("manifests are the `*.toml` files below `manifests/`".to_owned());
            Failed::new(exit::INVALID, diagnostic)
        })?;
        let Some(manifest) = loaded.manifest else {
            return Err(Failed { code: exit::INVALID, diagnostics: loaded.diagnostics });
        };
        let cache_dir = self.cache_dir.clone().unwrap_or_else(|| root.join("cache"));
        let cache = Cache::open(&cache_dir)?;
        Ok(Project { manifest, warnings: loaded.diagnostics, cache, lock })
    }

    /// Where the project's cache is; none without a project.
    pub(super) fn cache_of_project(&self) -> Option<(PathBuf, &Path)> {
        let root = self.root.as_deref()?;
        Some((self.cache_dir.clone().unwrap_or_else(|| root.join("cache")), root))
    }

    /// The folder that the program was started in, or was told to be in.
    pub(super) fn folder(&self) -> &Path {
        &self.started_in
    }

    /// An environment variable.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.env
    }

    /// The manifests of the project, with one file read as if it had this text; none without a project.
    pub(super) fn manifests_with(&self, file: Arc<SourceFile>) -> Option<manifest::Loaded> {
        let options = manifest::Options { env_roots: self.env_roots(), drafts: vec![file] };
        manifest::load(self.root.as_deref()?, &options).ok()
    }

    /// A project of nothing, to read models without a manifest. Its cache is the project's if there is one, else `cache`.
    pub(super) fn project_of_nothing(&self, cache: &Path) -> Result<Project, Failed> {
        let manifest = Manifest {
            root: self.root.clone().unwrap_or_else(|| self.started_in.clone()),
            files: Vec::new(),
            toolchains: BTreeMap::new(),
            targets: BTreeMap::new(),
            engines: Vec::new(),
        };
        let folder = self.cache_dir.clone().or_else(|| self.root.as_ref().map(|r| r.join("cache")));
        let cache = Cache::open(folder.as_deref().unwrap_or(cache))?;
        Ok(Project { manifest, warnings: Vec::new(), cache, lock: Lock::new() })
    }

    /// The cache alone.
    pub(super) fn cache(&self) -> Result<Cache, Failed> {
        let folder = self.cache_dir.clone().or_else(|| self.root.as_ref().map(|r| r.join("cache")));
        let Some(folder) = folder else {
            let error = Diagnostic::error("no-project", "there is no project here, and no `--cache-dir`");
            return Err(Failed::new(exit::CANNOT_START, error));
        };
        Ok(Cache::open(&folder)?)
    }

    /// The program as a worker: the very file that runs now, even if another version was installed in
    /// its place since. Results of that one would be recorded under keys of this one.
    pub(super) fn worker() -> Client {
        Client { program: PathBuf::from("/proc/self/exe") }
    }

    /// The GPUs of this machine.
    pub(super) fn local_gpus(&self) -> Result<Vec<LocalGpu>, NoGpus> {
        worker::local_gpus(&Settings::worker(), &self.env, &self.cancel)
    }

    /// The context of a run.
    pub(super) fn context<'a>(
        &self,
        project: &'a Project,
        network: source::Network,
        jobs: Option<u16>,
        events: &'a dyn Sink,
    ) -> Result<Context<'a>, Failed> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Context {
            manifest: &project.manifest,
            cache: project.cache.clone(),
            worker: Settings::worker(),
            source: source::Settings {
                network,
                env: self.env.clone(),
                timeout: Duration::from_secs(60 * 60),
            },
            lock: project.lock.clone(),
            locked: false,
            verify: true,
            jobs: jobs.map_or(cores, usize::from),
            memory: self.memory,
            events,
            cancel: self.cancel.clone(),
            gpus: std::sync::OnceLock::new(),
            unstored: crate::build::Unstored::default(),
            skip_unbuildable: false,
        })
    }

    /// `ENGINEWRIGHT_ROOT_<NAME>`: folders of toolchains on this machine.
    fn env_roots(&self) -> BTreeMap<String, PathBuf> {
        let roots = self.env.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("ENGINEWRIGHT_ROOT_")?;
            (!value.is_empty()).then(|| (name.to_owned(), PathBuf::from(value)))
        });
        roots.collect()
    }
}

/// A project, loaded.
pub(super) struct Project {
    pub(super) manifest: Manifest,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) cache: Cache,
    pub(super) lock: Lock,
}

impl Project {
    /// Those of these engines that are declared.
    pub(super) fn declared<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<&Engine> {
        names.filter_map(|name| self.manifest.engines.iter().find(|e| e.name.to_string() == name)).collect()
    }

    /// The engines that these patterns name; all if there are none.
    pub(super) fn select(&self, patterns: &[String]) -> Result<Vec<&Engine>, Failed> {
        let engines = &self.manifest.engines;
        if patterns.is_empty() {
            return Ok(engines.iter().collect());
        }
        let mut selected = vec![false; engines.len()];
        for pattern in patterns {
            let glob = globset::Glob::new(pattern)
                .map_err(|e| {
                    Failed::new(
                        exit::USAGE,
                        Diagnostic::error("engine", format!("bad pattern `{pattern}`: {}", e.kind())),
                    )
                })?
                .compile_matcher();
            let mut found = false;
            for (engine, selected) in engines.iter().zip(&mut selected) {
                let name = &engine.name;
                let whole = name.to_string();
                if [&whole, &name.model_and_variant(), &name.model].iter().any(|n| glob.is_match(n)) {
                    *selected = true;
                    found = true;
                }
            }
            if !found {
                return Err(Failed::new(exit::USAGE, no_such_engine(pattern, engines)));
            }
        }
        Ok(engines.iter().zip(selected).filter(|(_, s)| *s).map(|(e, _)| e).collect())
    }

    /// The one engine of this name.
    pub(super) fn engine(&self, name: &str) -> Result<&Engine, Failed> {
        match self.select(&[name.to_owned()])?.as_slice() {
            [engine] => Ok(engine),
            several => {
                let names: Vec<String> = several.iter().map(|e| format!("`{}`", e.name)).collect();
                Err(Failed::new(
                    exit::USAGE,
                    Diagnostic::error(
                        "engine",
                        format!("`{name}` is {} engines, one is expected", several.len()),
                    )
                    .help(format!("name one of {}", names.join(", "))),
                ))
            }
        }
    }
}

fn no_such_engine(pattern: &str, engines: &[Engine]) -> Diagnostic {
    let names: Vec<String> = engines.iter().map(|e| e.name.to_string()).collect();
    let models = engines.iter().map(|e| e.name.model.as_str());
    let diagnostic = Diagnostic::error("engine", format!("no engine is named `{pattern}`"));
    match crate::diagnostic::nearest(pattern, names.iter().map(String::as_str).chain(models)) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help("`enginewright status` lists the engines"),
    }
}

fn read_lock(root: &Path) -> Result<Lock, Failed> {
    let path = root.join(LOCK_FILE_NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.is_missing() => return Ok(Lock::new()),
        Err(e) => return Err(Failed::new(exit::INVALID, Diagnostic::error("lock-file", e.to_string()))),
    };
    Lock::parse(&text).map_err(|e| {
        let help = match e {
            LockError::Version { .. } => "use the version of enginewright that wrote it",
            LockError::Conflict { .. } => {
                "resolve the conflict by taking either side: `apply` mends the blocks it uses"
            }
            LockError::Damaged { .. } => "restore it from version control",
        };
        let help = format!("{help}; or `enginewright lock --force` writes it anew, from what is here");
        Failed::new(exit::INVALID, Diagnostic::error("lock-file", e.to_string()).in_file(&path).help(help))
    })
}

/// Whatever is not a file, and can change what a command that starts nothing says: the command line, the folder, and
/// the variables that are read here. (Others are handed on to programs.)
fn question(argv: &[OsString], started_in: &Path, is_terminal: bool, env: &[(String, String)]) -> Digest {
    let is_read =
        |name: &str| name.starts_with("ENGINEWRIGHT_") || ["CI", "NO_COLOR", "TERM", "PATH"].contains(&name);
    let read: BTreeMap<&str, &str> =
        env.iter().filter(|(name, _)| is_read(name)).map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let digest = |bytes: &[u8]| Digest::of(bytes).to_string();
    let argv: Vec<String> = argv.iter().skip(1).map(|arg| digest(arg.as_bytes())).collect();
    let question = Preimage::new("question")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("arguments", argv.join(" "))
        .with("folder", digest(started_in.as_os_str().as_bytes()))
        .with("terminal", is_terminal)
        .with("environment", digest(format!("{read:?}").as_bytes()));
    question.key()
}

/// SIGINT and SIGTERM stop the run; the second one ends the program at once.
fn watch_signals(cancel: CancelToken, code: Arc<AtomicU8>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let exit = if signal == SIGINT { exit::INTERRUPTED } else { exit::TERMINATED };
            if code.swap(exit, Ordering::SeqCst) != 0 {
                // Workers die with this process.
                std::process::exit(i32::from(exit));
            }
            cancel.cancel();
        }
    })?;
    Ok(())
}

/// Memory that new processes can use, in bytes: what the kernel says, or the cgroup's limit.
fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    let number = |file: &str| fs::read_to_string(Path::new(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    Some(limit.map_or(available, |limit| available.min(limit.saturating_sub(used))))
}
