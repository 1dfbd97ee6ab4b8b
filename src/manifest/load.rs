//! Reading the files of a project.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use walkdir::{DirEntry, WalkDir};

use super::fields::{Sink, normalize_lexically};
use super::written::Document;
use super::{Manifest, codes, tree, validate};
use crate::diagnostic::{Diagnostic, Level, SourceFile};
use crate::fs;

/// The folder that makes a folder a project.
const FOLDER: &str = "manifests";

/// What is true on this machine alone; not checked in.
const LOCAL_FILE: &str = "enginewright.local.toml";

/// A thousand models with profiles and rules fit ten times over.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// What the manifests alone do not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Roots of toolchains from the environment variables `ENGINEWRIGHT_ROOT_<NAME>`, by `<NAME>`: the
    /// toolchain's name in upper case, with `-` and `.` as `_`. Relative ones start at the project root.
    pub env_roots: BTreeMap<String, PathBuf>,
    /// Manifests as they would be: read from here instead of from their files, which need not be there.
    pub drafts: Vec<Arc<SourceFile>>,
}

/// The manifests of a project, read.
#[derive(Debug)]
pub struct Loaded {
    /// None if any of the diagnostics is an error.
    pub manifest: Option<Manifest>,
    /// Everything that is to be said, in order of files and places.
    pub diagnostics: Vec<Diagnostic>,
}

/// The manifests could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root is no project.
    #[error("`{}` has no folder `manifests`", .0.display())]
    NoFolder(PathBuf),
    /// The root is relative, and the current folder is gone.
    #[error("cannot tell where `{}` is: {source}", path.display())]
    NoRoot {
        /// The root as given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder could not be listed.
    #[error("cannot list `{}`: {source}", path.display())]
    Walk {
        /// The folder `manifests`.
        path: PathBuf,
        /// Why.
        #[source]
        source: walkdir::Error,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] fs::Error),
}

/// The nearest folder from `start` upwards that holds `manifests/`. `start` is absolute: of a relative path,
/// only the folders in it are looked at.
#[must_use]
pub fn find_root(start: &Path) -> Option<PathBuf> {
    start.ancestors().find(|folder| fs::is_dir(&folder.join(FOLDER))).map(Path::to_owned)
}

/// Reads, merges and checks every `manifests/**/*.toml` below `root`, and `enginewright.local.toml`.
pub fn load(root: &Path, options: &Options) -> Result<Loaded, Error> {
    let absolute = std::path::absolute(root);
    let root = absolute.map_err(|source| Error::NoRoot { path: root.to_owned(), source })?;
    // `..` after a symbolic link is not what stands before the link.
    let has_parent = root.components().any(|part| part == Component::ParentDir);
    let root = if has_parent { fs::canonicalize(&root)? } else { normalize_lexically(&root) };
    let folder = root.join(FOLDER);
    let has_folder = fs::is_dir(&folder);
    if !has_folder && options.drafts.is_empty() {
        return Err(Error::NoFolder(root));
    }
    let sink = Sink::default();
    let mut incomplete = false;
    let mut manifests = options.drafts.clone();
    for path in if has_folder { manifest_paths(&folder)? } else { Vec::new() } {
        if options.drafts.iter().any(|draft| draft.path == path) {
            continue;
        }
        match read(&path, &sink)? {
            Some(file) => manifests.push(file),
            None => incomplete = true,
        }
    }
    if manifests.is_empty() && !incomplete {
        let warning = Diagnostic::warning(codes::NO_MANIFESTS, "the folder holds no `*.toml` file");
        sink.push(warning.in_file(&folder));
    }
    manifests.sort();
    let local = root.join(LOCAL_FILE);
    let local = if fs::exists(&local) { read(&local, &sink)? } else { None };
    Ok(assemble(root, manifests, local, incomplete, options, sink))
}

/// Checks one manifest that is no part of a project yet. `root` is absolute.
#[must_use]
pub fn read_alone(root: &Path, file: &Arc<SourceFile>) -> Loaded {
    assemble(root.to_owned(), vec![Arc::clone(file)], None, false, &Options::default(), Sink::default())
}

/// All that is not reading files (but the globs of `[models.X]`).
pub(super) fn assemble(
    root: PathBuf,
    manifests: Vec<Arc<SourceFile>>,
    local: Option<Arc<SourceFile>>,
    incomplete: bool,
    options: &Options,
    sink: Sink,
) -> Loaded {
    let mut document = Document { incomplete, ..Document::default() };
    for file in &manifests {
        match tree::parse(file, &sink) {
            Some(tree) => document.add_manifest(&tree, &sink),
            None => document.incomplete = true,
        }
    }
    if let Some(tree) = local.as_ref().and_then(|file| tree::parse(file, &sink)) {
        document.add_local(&tree, &sink);
    }
    let mut files = manifests;
    files.extend(local);
    files.sort();
    let manifest = validate::validate(root, files, &document, &options.env_roots, &sink);
    let diagnostics = sink.into_sorted();
    let valid = diagnostics.iter().all(|diagnostic| diagnostic.level < Level::Error);
    Loaded { manifest: valid.then_some(manifest), diagnostics }
}

/// Every `*.toml` below the folder, sorted. Hidden files and folders belong to editors and tools.
fn manifest_paths(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let is_toml = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let seen = |entry: &DirEntry| entry.depth() == 0 || !hidden(entry.path());
    let mut paths = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).into_iter().filter_entry(seen) {
        if let Ok(entry) = &entry
            && entry.file_type().is_dir()
        {
            fs::saw(entry.path());
        }
        match entry {
            Ok(entry) if is_toml(entry.path()) && !entry.file_type().is_dir() => {
                paths.push(entry.into_path())
            }
            Ok(_) => {}
            // A dangling link that is no manifest, such as an editor's lock.
            Err(e)
                if e.depth() > 0
                    && e.path().is_some_and(|p| hidden(p) || (!is_toml(p) && !fs::exists(p))) => {}
            Err(source) => return Err(Error::Walk { path: folder.to_owned(), source }),
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text of a file; none if it is no text, which is reported.
fn read(path: &Path, sink: &Sink) -> Result<Option<Arc<SourceFile>>, Error> {
    let report = |code, message: String| sink.push(Diagnostic::error(code, message).in_file(path));
    // Opening a pipe would wait for a writer.
    if !fs::is_file(path) && fs::exists(path) {
        report(codes::NOT_A_FILE, "the manifest is not a regular file".to_owned());
        return Ok(None);
    }
    let bytes = fs::read_prefix(path, MAX_FILE_SIZE + 1)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        report(codes::FILE_TOO_LARGE, format!("the manifest is larger than {} MiB", MAX_FILE_SIZE >> 20));
        return Ok(None);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Arc::new(SourceFile { path: path.to_owned(), text }))),
        Err(e) => {
            let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            let byte = e.as_bytes()[good.len()];
            let message = format!("the manifest is not UTF-8 text: byte `0x{byte:02x}` in line {line}");
            report(codes::NOT_UTF8, message);
            Ok(None)
        }
    }
}
