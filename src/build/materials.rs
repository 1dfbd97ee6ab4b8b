//! The files that an engine was made from, with the digests that the world outside knows.

use std::collections::BTreeMap;
use std::path::Path;

use super::context::Context;
use super::gather::Gathered;
use crate::diagnostic::Diagnostic;
use crate::digest::{Blob, Digest};
use crate::fs;
use crate::manifest::{Engine, Source};
use crate::plan::{LockedSource, ToolchainRef, source_id};
use crate::source::redact_url;
use crate::toolchain::trtexec::{Installed, Runner};

/// A file that an engine was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// What it is called, the same in every clone.
    pub name: String,
    /// Where it is to be had, if that is a URI.
    pub uri: Option<String>,
    /// Its digests by their functions, as in-toto names them.
    pub digests: BTreeMap<&'static str, String>,
    /// What else is known, such as the package that it is from.
    pub annotations: BTreeMap<String, String>,
}

/// The files of an engine's model and of its toolchain, read now.
///
/// # Errors
/// One is not on this machine, or is not what the keys were made from.
pub fn materials(
    ctx: &Context<'_>,
    gathered: &Gathered,
    engine: &Engine,
) -> Result<Vec<Material>, Diagnostic> {
    let id = source_id(&engine.source, &ctx.manifest.root);
    let source = gathered.locked_sources.iter().find(|block| block.source == id);
    let files = gathered.files.get(&engine.source);
    let toolchain = gathered.toolchains.get(&engine.target.toolchain);
    let (Some(source), Some(files), Some(toolchain)) = (source, files, toolchain) else {
        return Err(missing(engine));
    };
    let mut found = Vec::new();
    let folder = files.first().and_then(|(model, _)| model.parent()).unwrap_or(Path::new("/"));
    for (i, (file, stat)) in files.iter().enumerate() {
        let below = file.strip_prefix(folder).unwrap_or(file);
        // The raw digest of external data is not that of its bytes alone.
        let expected = source.raw.first().filter(|_| i == 0);
        found.push(of_source(engine, source, &id, below, hash_as_read(file, stat, expected)?));
    }
    found.extend(of_toolchain(engine, toolchain)?);
    Ok(found)
}

/// The digests of a file, as the world outside names them.
#[must_use]
pub fn digests(blob: Blob) -> BTreeMap<&'static str, String> {
    let mut digests = BTreeMap::from([("blake3", blob.b3.to_string())]);
    digests.extend(blob.sha256.map(|sha256| ("sha256", sha256)));
    digests
}

fn missing(engine: &Engine) -> Diagnostic {
    let message = format!("the files that `{}` was made from are not all on this machine", engine.name);
    Diagnostic::error("not-fetched", message).help("run `enginewright plan --fetch` first")
}

/// Hashes a file that has this digest.
fn hash(file: &Path, expected: &Digest) -> Result<Blob, Diagnostic> {
    let stat = fs::stat(file).map_err(|e| unreadable(&e))?;
    hash_as_read(file, &stat, Some(expected))
}

/// Hashes a file that is still what it was when it had this stat; with a digest to hold it against, if there is one.
fn hash_as_read(file: &Path, stat: &fs::Stat, expected: Option<&Digest>) -> Result<Blob, Diagnostic> {
    let hashed = fs::open_regular(file).and_then(|open| {
        let blob = fs::hash_file(&open, file, true)?;
        Ok((blob, fs::fstat(&open, file)? == *stat))
    });
    let (blob, is_same) = hashed.map_err(|e| unreadable(&e))?;
    if is_same && expected.is_none_or(|expected| blob.b3 == *expected) {
        return Ok(blob);
    }
    let message = format!("`{}` changed while it was read", file.display());
    Err(Diagnostic::error("source-changed", message).in_file(file).help("run again when nobody writes to it"))
}

fn unreadable(error: &fs::Error) -> Diagnostic {
    Diagnostic::error("file", error.to_string())
}

/// A file of a model, which lies below the folder of the model file.
fn of_source(engine: &Engine, source: &LockedSource, id: &str, below: &Path, blob: Blob) -> Material {
    let beside = |file: &str| Path::new(file).with_file_name("").join(below).display().to_string();
    let mut annotations = BTreeMap::from([("model".to_owned(), source.model.to_string())]);
    let (name, uri) = match &engine.source {
        Source::Path { .. } => (beside(id.strip_prefix("path ").unwrap_or(id)), None),
        Source::Package { name, version, file } => {
            (beside(file), Some(format!("pkg:pypi/{}@{version}", name.to_lowercase())))
        }
        Source::Url { url, .. } => (below.display().to_string(), Some(redact_url(url))),
    };
    for (package, sha256) in &source.packages {
        annotations.insert("package".to_owned(), package.clone());
        annotations.insert("package-sha256".to_owned(), sha256.clone());
    }
    Material { name, uri, digests: digests(blob), annotations }
}

fn of_toolchain(engine: &Engine, toolchain: &ToolchainRef) -> Result<Vec<Material>, Diagnostic> {
    let about = format!("{} {}", toolchain.kind.name(), toolchain.version);
    let path = |name: &String| match (&toolchain.installed, &toolchain.libraries) {
        (Some(installed), _) => installed.files.get(name).cloned(),
        (None, Some(folder)) => Some(folder.join(name)),
        (None, None) => None,
    };
    let words = |installed: &Installed| installed.runner.as_ref().map(Runner::words_identity);
    let words = toolchain.installed.as_ref().and_then(words).unwrap_or_default();
    let material = |(name, digest): (&String, &Digest)| {
        let annotations = BTreeMap::from([("toolchain".to_owned(), about.clone())]);
        if words.contains_key(name) {
            // An image, whose digest is a SHA-256; or the words that it is run by.
            let function = if name.starts_with("image ") { "sha256" } else { "blake3" };
            let digests = BTreeMap::from([(function, digest.to_string())]);
            return Ok(Material { name: name.clone(), uri: None, digests, annotations });
        }
        let path = path(name).ok_or_else(|| missing(engine))?;
        Ok(Material { name: name.clone(), uri: None, digests: digests(hash(&path, digest)?), annotations })
    };
    toolchain.files.iter().map(material).collect()
}
