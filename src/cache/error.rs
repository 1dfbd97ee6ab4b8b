//! What can go wrong with a cache.

use std::path::PathBuf;

use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::fs;

/// The cache cannot do what was asked. Damage is not among these: it is a miss and a warning.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the quota is full.
    #[error("the disk is full: cannot {what} `{}`", path.display())]
    Full {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// We may not write there.
    #[error("not allowed to {what} `{}`: {source}", path.display())]
    Denied {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The cache was opened for reading only.
    #[error("the cache `{}` is read-only", path.display())]
    ReadOnly {
        /// The root of the cache.
        path: PathBuf,
    },
    /// The cache was written by a newer version of the tool.
    #[error("the cache `{}` has format {found}; this program knows formats up to {known}", path.display())]
    NewerFormat {
        /// The root of the cache.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format that this program knows.
        known: u64,
    },
    /// The root of the cache is a file.
    #[error("the cache `{}` is not a folder", path.display())]
    NotAFolder {
        /// The root of the cache.
        path: PathBuf,
    },
    /// Another process has the cache open.
    #[error("the cache `{}` is in use", path.display())]
    InUse {
        /// The root of the cache.
        path: PathBuf,
    },
    /// A file changed while it was read.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A result names a blob that is not in the store.
    #[error("the result of {action} `{key}` names `{output}`, blob `{blob}`, which is not in the cache")]
    MissingBlob {
        /// The action.
        action: String,
        /// Its key.
        key: Digest,
        /// The name of the output.
        output: String,
        /// The blob.
        blob: Digest,
    },
    /// A record whose preimage is not that of its key. A bug of the caller.
    #[error("the record of {action} `{key}` has a preimage with the key `{preimage}`")]
    WrongKey {
        /// The action.
        action: String,
        /// The key in the record.
        key: Digest,
        /// The key of the preimage.
        preimage: Digest,
    },
    /// A blob that was there is not, or is damaged.
    #[error("the cache lost blob `{blob}`")]
    LostBlob {
        /// The blob.
        blob: Digest,
    },
    /// What is to be imported is damaged, or is something else.
    #[error("cannot import `{}`: {what}", path.display())]
    BadExport {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The cache cannot be opened, for another reason.
    #[error("the cache `{}` cannot be used: {source}", root.display())]
    Unusable {
        /// Its folder.
        root: PathBuf,
        /// What fails.
        source: fs::Error,
    },
    /// Any other failure of the file system.
    #[error(transparent)]
    Fs(fs::Error),
}

/// Result of a cache operation.
pub type Result<T> = std::result::Result<T, Error>;

impl From<fs::Error> for Error {
    fn from(error: fs::Error) -> Error {
        if error.is_full() {
            Error::Full { what: error.what, path: error.path, source: error.source }
        } else if error.is_denied() {
            Error::Denied { what: error.what, path: error.path, source: error.source }
        } else {
            Error::Fs(error)
        }
    }
}

impl Error {
    /// Stable identifier, kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::Full { .. } => "cache-disk-full",
            Error::Denied { .. } => "cache-denied",
            Error::ReadOnly { .. } => "cache-read-only",
            Error::NewerFormat { .. } => "cache-newer-format",
            Error::NotAFolder { .. } => "cache-not-a-folder",
            Error::InUse { .. } => "cache-in-use",
            Error::Changed { .. } => "file-changed",
            Error::MissingBlob { .. } => "cache-missing-blob",
            Error::WrongKey { .. } => "cache-wrong-key",
            Error::LostBlob { .. } => "cache-lost-blob",
            Error::BadExport { .. } => "cache-bad-export",
            Error::Unusable { .. } | Error::Fs(_) => "cache-io",
        }
    }

    /// What to do.
    #[must_use]
    pub fn help(&self) -> Vec<String> {
        let elsewhere = "name a cache elsewhere with `--cache-dir DIR` or `ENGINEWRIGHT_CACHE`";
        match self {
            Error::Full { .. } => {
                vec!["free some space; nothing that was finished is lost".to_owned(), elsewhere.to_owned()]
            }
            Error::Denied { what: "read" | "list", path, .. } => {
                vec![format!("make `{}` readable for this user", path.display())]
            }
            Error::Denied { path, .. } => {
                vec![format!("make `{}` writable for this user", path.display()), elsewhere.to_owned()]
            }
            Error::ReadOnly { .. } => vec![
                "what is cached can be used; to build, the cache must be writable".to_owned(),
                elsewhere.to_owned(),
            ],
            Error::NewerFormat { .. } => {
                vec!["use the newer version of enginewright".to_owned(), elsewhere.to_owned()]
            }
            Error::NotAFolder { path } => {
                vec![format!("move `{}` away", path.display()), elsewhere.to_owned()]
            }
            Error::InUse { .. } => vec![
                "run it when no other enginewright uses this cache (on a file system without locks, never)"
                    .to_owned(),
            ],
            Error::Changed { .. } => vec!["run again when nothing writes to it".to_owned()],
            Error::MissingBlob { .. } => {
                vec!["something removes files from the cache while it is used; run again".to_owned()]
            }
            Error::WrongKey { .. } => vec!["this is a bug in enginewright: please report it".to_owned()],
            Error::LostBlob { .. } => vec!["run `enginewright apply`: it is made anew".to_owned()],
            Error::BadExport { .. } => vec![
                "nothing of it was recorded; it must be what `enginewright cache export` wrote, whole"
                    .to_owned(),
            ],
            Error::Unusable { .. } => vec![elsewhere.to_owned()],
            Error::Fs(_) => Vec::new(),
        }
    }
}

impl From<&Error> for Diagnostic {
    fn from(error: &Error) -> Diagnostic {
        Diagnostic { help: error.help(), ..Diagnostic::error(error.code(), error.to_string()) }
    }
}
