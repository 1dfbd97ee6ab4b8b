//! A project in a temporary folder, and the program run in it.
//!
//! TensorRT-RTX is fetched once, by the program itself, into `target/test-cache`; tests share it
//! by its folder, and have caches of their own.

pub(crate) mod fake;
pub(crate) mod models;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_enginewright");

/// Version of TensorRT-RTX that the tests build with.
pub(crate) const RTX: &str = "1.7.1.116";

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A cache that outlives the test run: for what is fetched.
pub(crate) fn shared_cache() -> PathBuf {
    repository().join("target/test-cache")
}

/// Folder of the TensorRT-RTX libraries, fetched on first use.
pub(crate) fn rtx_libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let project = Project::bare();
        project.write(
            "manifests/m.toml",
            "schema = 1\n[toolchain.rtx]\nkind = \"tensorrt-rtx\"\nversion = \"1.7.1.116\"\n",
        );
        let cache = shared_cache();
        let fetched = project.run(&[
            "--cache-dir",
            cache.to_str().unwrap(),
            "--format",
            "json",
            "toolchain",
            "fetch",
            "rtx",
        ]);
        fetched.expect(0);
        let path = fetched.json()["toolchains"][0]["libraries"].as_str().expect("a folder").to_owned();
        PathBuf::from(path)
    })
}

/// Folder of the ONNX Runtime library, fetched on first use.
pub(crate) fn reference_library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let project = Project::bare();
        project.write("manifests/m.toml", "schema = 1\n");
        let cache = shared_cache();
        let cache = cache.to_str().unwrap();
        let fetched =
            project.run(&["--cache-dir", cache, "--format", "json", "toolchain", "fetch", "reference"]);
        fetched.expect(0);
        let path = fetched.json()["toolchains"][0]["libraries"].as_str().expect("a folder").to_owned();
        PathBuf::from(path)
    })
}

/// A project in a temporary folder.
pub(crate) struct Project {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Project {
    /// An empty folder.
    pub(crate) fn bare() -> Project {
        Project::bare_in("")
    }

    fn bare_in(below: &str) -> Project {
        let folder = tempfile::Builder::new().prefix("project-").tempdir().unwrap();
        let root = if below.is_empty() { folder.path().to_owned() } else { folder.path().join(below) };
        std::fs::create_dir_all(&root).unwrap();
        Project { _folder: folder, root }
    }

    /// A project whose manifest is `text` after a head that declares the toolchain `rtx` and the
    /// target `a` (sm_86).
    pub(crate) fn new(text: &str) -> Project {
        let project = Project::bare();
        project.manifest(text);
        project
    }

    /// As [`Project::new`], in a folder below the temporary one.
    pub(crate) fn new_in(below: &str, text: &str) -> Project {
        let project = Project::bare_in(below);
        project.manifest(text);
        project
    }

    /// Writes the manifest, with the head of [`Project::new`].
    pub(crate) fn manifest(&self, text: &str) {
        let head = format!(
            "schema = 1\n[toolchain.rtx]\nkind = \"tensorrt-rtx\"\nversion = \"{RTX}\"\nroot = \"{}\"\n\
             [target.a]\nsm = \"sm_86\"\ntoolchain = \"rtx\"\n",
            rtx_libraries().display()
        );
        self.write("manifests/m.toml", &(head + text));
    }

    /// Uses what was fetched for other tests: `packages` or `toolchains`. Results are its own: every
    /// engine is built here.
    pub(crate) fn share(&self, part: &str) {
        let shared = shared_cache().join("v1").join(part);
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::create_dir_all(self.path("cache/v1")).unwrap();
        std::os::unix::fs::symlink(shared, self.path("cache/v1").join(part)).unwrap();
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file, its folders included.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The program, to be run in this project.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).current_dir(self.root()).stdin(Stdio::null());
        command.env_remove("ENGINEWRIGHT_CACHE").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// What `plan` says of each engine: `name: action`, sorted.
    pub(crate) fn planned(&self) -> Vec<String> {
        let plan = self.run(&["--format", "json", "plan"]).json();
        let engines = plan["engines"].as_array().expect("engines").iter();
        engines
            .map(|e| format!("{}: {}", e["engine"].as_str().unwrap(), e["action"].as_str().unwrap()))
            .collect()
    }

    /// The texts of the reasons that `why` gives.
    pub(crate) fn why(&self, engine: &str) -> Vec<String> {
        let why = self.run(&["--format", "json", "why", engine]);
        why.expect(0);
        let json = why.json();
        json["reasons"].as_array().unwrap().iter().map(|r| r["text"].as_str().unwrap().to_owned()).collect()
    }
}

/// Runs a command.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What the program said.
#[derive(Debug)]
#[must_use]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32) -> &Output {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that all of these are said, on either stream.
    #[track_caller]
    pub(crate) fn says(&self, texts: &[&str]) -> &Output {
        for text in texts {
            let said = self.stdout.contains(text) || self.stderr.contains(text);
            assert!(said, "`{text}` is not said\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr))
    }
}
