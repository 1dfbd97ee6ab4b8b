//! The files that the glob of a `[models.X]` table matches.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use walkdir::{DirEntry, WalkDir};

use super::codes;
use super::fields::{normalize_lexically, shown};
use super::text::Bad;
use crate::fs;

/// How deep `**` looks. Symbolic links are followed, so there must be an end.
const MAX_DEPTH: usize = 32;

/// The files below `folder` that match, sorted. Hidden files are left out unless the pattern names them.
pub(super) fn expand(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Bad> {
    let bad = |code, message: String| Bad { code, message, help: String::new() };
    // Only the part with wildcards is a pattern: the folder of the project may have any name.
    let is_wild = |part: &&str| part.contains(['*', '?', '[', '{', '\\']);
    let parts: Vec<&str> = pattern.split('/').collect();
    let plain = parts.iter().take_while(|part| !is_wild(part)).count().min(parts.len() - 1);
    let (base, rest) = parts.split_at(plain);
    if rest.contains(&"..") {
        return Err(bad(codes::BAD_PATH, "has `..` after a wildcard".to_owned()));
    }
    let base = if base == [""] { "/".to_owned() } else { base.join("/") };
    let base = normalize_lexically(&folder.join(base));
    let rest_text = rest.join("/");
    let matcher = GlobBuilder::new(&rest_text)
        .literal_separator(true)
        .build()
        .map_err(|e| bad(codes::BAD_GLOB, format!("is not a glob: {}", e.kind())))?
        .compile_matcher();
    let hidden_too = rest.iter().any(|part| part.starts_with('.'));
    let depth = if rest_text.contains("**") { MAX_DEPTH } else { rest.len() };
    let is_hidden = |e: &DirEntry| e.depth() > 0 && e.file_name().as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(&base).follow_links(true).max_depth(depth).min_depth(1);
    fs::saw(&base);
    let mut files = Vec::new();
    for entry in walk.into_iter().filter_entry(|e| hidden_too || !is_hidden(e)) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.path().is_none_or(|path| path == base) => {
                let why = e.io_error().map_or_else(|| e.to_string(), ToString::to_string);
                let message = format!(
                    "looks into `{}`, which cannot be read: {why}",
                    shown(&base.display().to_string())
                );
                return Err(bad(codes::UNREADABLE_FOLDER, message));
            }
            Err(e) if e.io_error().is_some_and(is_missing) => {
                // A dangling link that the pattern does not mean is nobody's business, unless something comes to be there.
                let Some(link) = e.path().filter(|path| matches(&matcher, &base, path)) else {
                    let _ = e.path().map(fs::exists);
                    continue;
                };
                let message =
                    format!("matches `{}`, a link that leads nowhere", shown(&link.display().to_string()));
                return Err(bad(codes::UNREADABLE_FOLDER, message));
            }
            Err(e) => return Err(bad(codes::UNREADABLE_FOLDER, format!("cannot be followed: {e}"))),
        };
        if entry.file_type().is_dir() {
            fs::saw(entry.path());
        }
        if entry.file_type().is_file() && matches(&matcher, &base, entry.path()) {
            files.push(entry.into_path());
        }
    }
    if files.is_empty() {
        let message = format!("matches no file below `{}`", shown(&base.display().to_string()));
        return Err(bad(codes::NO_MATCH, message));
    }
    files.sort();
    Ok(files)
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn matches(matcher: &globset::GlobMatcher, base: &Path, path: &Path) -> bool {
    path.strip_prefix(base).is_ok_and(|relative| matcher.is_match(relative))
}
