//! The lock file: what the last `apply` used and made, checked in beside the manifests.
//!
//! Blocks are sorted, and `apply` replaces only those that it produced, so that two people who
//! build different engines touch different lines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::Source;

/// Name of the file, in the project root.
pub const FILE_NAME: &str = "enginewright.lock";

/// Version of the format.
const VERSION: u32 = 1;

const HEADER: &str =
    "# Written by enginewright: what the last `apply` used and made. Check it in; do not edit it.\n";

/// The content of a lock file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lock {
    /// Sources by their text form.
    sources: BTreeMap<String, LockedSource>,
    /// Toolchains by kind, version, platform and name.
    toolchains: BTreeMap<ToolchainKey, LockedToolchain>,
    /// Engines by name.
    engines: BTreeMap<String, LockedEngine>,
}

/// The file as TOML has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<LockedSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    toolchain: Vec<LockedToolchain>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    engine: Vec<LockedEngine>,
}

/// A source as it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// The declaration, see [`source_id`].
    pub source: String,
    /// Digest of the model's canonical form.
    pub model: Digest,
    /// Raw digests: of the model file, then of its external data (see [`super::keys::external_data`]).
    pub raw: Vec<Digest>,
    /// SHA-256 of the package files it was taken from, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
}

/// A toolchain as it was found on one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedToolchain {
    /// Its kind.
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Host platform, such as `linux-x86_64`.
    pub platform: String,
    /// Its name, if the manifests declare several toolchains that are alike in all of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Digests of its files.
    pub files: BTreeMap<String, Digest>,
    /// SHA-256 of the package files it was taken from, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
}

/// An engine as it was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedEngine {
    /// `MODEL[.VARIANT]@TARGET`.
    pub name: String,
    /// Digest of the model.
    pub model: Digest,
    /// Key of the prepare action.
    pub prepare: Digest,
    /// Digest of the prepared ONNX.
    pub prepared: Digest,
    /// Key of the build action.
    pub build: Digest,
    /// Digest of the engine.
    pub b3: Digest,
    /// SHA-256 of the engine.
    pub sha256: String,
    /// Size of the engine in bytes.
    pub size: u64,
    /// How reproducible it is known to be.
    pub class: String,
    /// What is known of its accuracy.
    pub verdict: String,
    /// Digest of the timing cache that it is built with again, where kernels are timed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Digest>,
}

/// A lock file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is of another format version.
    #[error("`{FILE_NAME}` has format version {found}, this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: i64,
    },
    /// It holds the markers of a merge conflict.
    #[error("`{FILE_NAME}` holds merge conflict markers, at line {line}")]
    Conflict {
        /// Line of the first marker, from 1.
        line: usize,
    },
    /// It is not what the tool writes.
    #[error("`{FILE_NAME}` is damaged: {what}")]
    Damaged {
        /// What the parser says.
        what: String,
    },
}

/// A source declaration as text that is equal in every clone: paths are relative to the project.
#[must_use]
pub fn source_id(source: &Source, root: &std::path::Path) -> String {
    match source {
        Source::Path { path } => format!("path {}", relative(path, root).display()),
        Source::Package { name, version, file } => format!("package {name}=={version} {file}"),
        Source::Url { url, sha256 } => format!("url {url} {sha256}"),
    }
}

/// `path` seen from the folder `root`, with `..` where need be; both absolute.
#[must_use]
pub fn relative(path: &std::path::Path, root: &std::path::Path) -> std::path::PathBuf {
    let (mut a, mut b) = (path.components().peekable(), root.components().peekable());
    while a.peek().is_some() && a.peek() == b.peek() {
        a.next();
        b.next();
    }
    let up = b.map(|_| std::path::Component::ParentDir);
    up.chain(a).collect()
}

impl Lock {
    /// An empty lock file.
    #[must_use]
    pub fn new() -> Lock {
        Lock::default()
    }

    /// Reads a lock file's text.
    ///
    /// # Errors
    /// It is damaged, holds merge markers, or is of another version.
    pub fn parse(text: &str) -> Result<Lock, LockError> {
        let error = match toml::from_str::<Written>(text) {
            Ok(written) if written.version == VERSION => return Ok(Lock::from(written)),
            Ok(written) => return Err(LockError::Version { found: written.version.into() }),
            Err(error) => error,
        };
        // Why: a merge that went wrong, another version with other fields, or anything else.
        let marker = |line: &str| ["<<<<<<< ", "=======", ">>>>>>> "].iter().any(|m| line.starts_with(m));
        if let Some(line) = text.lines().position(marker) {
            return Err(LockError::Conflict { line: line + 1 });
        }
        let damaged = |e: toml::de::Error| LockError::Damaged { what: e.to_string().trim().to_owned() };
        let table: toml::Table = text.parse().map_err(damaged)?;
        match table.get("version").and_then(toml::Value::as_integer) {
            Some(version) if version == i64::from(VERSION) => Err(damaged(error)),
            Some(found) => Err(LockError::Version { found }),
            None => Err(LockError::Damaged { what: "it has no `version`".to_owned() }),
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn render(&self) -> String {
        let written = Written {
            version: VERSION,
            source: self.sources.values().cloned().collect(),
            toolchain: self.toolchains.values().cloned().collect(),
            engine: self.engines.values().cloned().collect(),
        };
        let body = toml::to_string(&written);
        let body = body.unwrap_or_else(|e| unreachable!("a lock file is plain data: {e}"));
        format!("{HEADER}{body}")
    }

    /// Puts a source in the place of its last block.
    pub fn set_source(&mut self, block: LockedSource) {
        self.sources.insert(block.source.clone(), block);
    }

    /// Puts a toolchain in the place of its last block: of one without a name, if it has one now, and the other way round.
    pub fn set_toolchain(&mut self, block: LockedToolchain) {
        let is_replaced =
            |other: &LockedToolchain| other.is_like(&block) && (other.name.is_none() || block.name.is_none());
        self.toolchains.retain(|_, other| !is_replaced(other));
        self.toolchains.insert(block.key(), block);
    }

    /// Puts an engine in the place of its last block.
    pub fn set_engine(&mut self, block: LockedEngine) {
        self.engines.insert(block.name.clone(), block);
    }

    /// The block of a source.
    #[must_use]
    pub fn source(&self, id: &str) -> Option<&LockedSource> {
        self.sources.get(id)
    }

    /// The block of such a toolchain.
    #[must_use]
    pub fn toolchain(&self, wanted: &LockedToolchain) -> Option<&LockedToolchain> {
        self.toolchains.get(&wanted.key())
    }

    /// The blocks of all toolchains.
    pub fn toolchains(&self) -> impl Iterator<Item = &LockedToolchain> {
        self.toolchains.values()
    }

    /// The block of an engine.
    #[must_use]
    pub fn engine(&self, name: &str) -> Option<&LockedEngine> {
        self.engines.get(name)
    }

    /// The blocks of all sources.
    pub fn sources(&self) -> impl Iterator<Item = &LockedSource> {
        self.sources.values()
    }

    /// The blocks of all engines.
    pub fn engines(&self) -> impl Iterator<Item = &LockedEngine> {
        self.engines.values()
    }

    /// Drops the blocks that no manifest declares any more.
    pub fn keep(&mut self, source: impl Fn(&str) -> bool, engine: impl Fn(&str) -> bool) {
        self.sources.retain(|id, _| source(id));
        self.engines.retain(|name, _| engine(name));
    }
}

impl From<Written> for Lock {
    fn from(written: Written) -> Lock {
        let mut lock = Lock::new();
        written.source.into_iter().for_each(|block| lock.set_source(block));
        written.toolchain.into_iter().for_each(|block| lock.set_toolchain(block));
        written.engine.into_iter().for_each(|block| lock.set_engine(block));
        lock
    }
}

/// Kind, version, platform, and the name if there is one.
type ToolchainKey = ([String; 3], Option<String>);

impl std::fmt::Display for LockedToolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("toolchain ")?;
        self.name.iter().try_for_each(|name| write!(f, "`{name}` "))?;
        write!(f, "{} {} on {}", self.kind, self.version, self.platform)
    }
}

impl LockedToolchain {
    fn key(&self) -> ToolchainKey {
        ([&self.kind, &self.version, &self.platform].map(String::clone), self.name.clone())
    }

    /// Is it of the same kind, version and platform?
    fn is_like(&self, other: &LockedToolchain) -> bool {
        self.key().0 == other.key().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str) -> LockedEngine {
        let digest = Digest::of(name.as_bytes());
        LockedEngine {
            name: name.to_owned(),
            model: digest,
            prepare: digest,
            prepared: digest,
            build: digest,
            b3: digest,
            sha256: "00".repeat(32),
            size: 7,
            class: "unverified".to_owned(),
            verdict: "none-declared".to_owned(),
            timings: None,
        }
    }

    #[test]
    fn blocks_are_sorted_and_replaced() {
        let mut lock = Lock::new();
        lock.set_engine(engine("b@x"));
        lock.set_engine(engine("a@x"));
        lock.set_engine(LockedEngine { size: 8, ..engine("b@x") });
        let text = lock.render();
        assert!(text.find("a@x") < text.find("b@x"));
        assert_eq!(text.matches("[[engine]]").count(), 2);
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(lock.engine("b@x").unwrap().size, 8);
    }

    #[test]
    fn damage_is_told_apart() {
        let text = Lock::new().render();
        assert!(Lock::parse(&text).is_ok());
        let conflict = format!("{text}<<<<<<< HEAD\n");
        assert!(matches!(Lock::parse(&conflict), Err(LockError::Conflict { line: 3 })));
        assert!(matches!(Lock::parse("version = 9\n"), Err(LockError::Version { found: 9 })));
        assert!(matches!(Lock::parse("version = 1\nsurprise = 2\n"), Err(LockError::Damaged { .. })));
        assert!(matches!(Lock::parse("\u{0}"), Err(LockError::Damaged { .. })));
    }

    #[test]
    fn sources_are_named_alike_in_every_clone() {
        let id = |path: &str, root: &str| source_id(&Source::Path { path: path.into() }, root.as_ref());
        assert_eq!(id("/a/p/models/m.onnx", "/a/p"), "path models/m.onnx");
        assert_eq!(id("/a/m.onnx", "/a/p/q"), "path ../../m.onnx");
    }
}
