//! What a project has beside its manifests: what version control leaves out, and the schema for editors.

use std::path::{Path, PathBuf};

use super::SCHEMA_FILE;
use crate::build::GIT_ATTRIBUTES;
use crate::cli::exit::{self, Failed};
use crate::cli::schema;
use crate::diagnostic::Diagnostic;
use crate::fs;

/// Lines of `.gitignore`: what `apply` makes, and what is true on one machine alone.
const IGNORED: [&str; 3] = ["/engines/", "/cache/", "/enginewright.local.toml"];

/// Adds what is missing, and gives the files that were changed.
pub(super) fn write(root: &Path) -> Result<Vec<PathBuf>, Failed> {
    let failed = |e: fs::Error| Failed::new(exit::CANNOT_START, Diagnostic::error("file", e.to_string()));
    // Models are here too.
    let attributes = [&GIT_ATTRIBUTES[..], &["*.onnx binary"]].concat();
    let mut written = Vec::new();
    for (name, lines) in [(".gitignore", &IGNORED[..]), (".gitattributes", &attributes)] {
        let file = root.join(name);
        let before =
            if fs::exists(&file) { fs::read_to_string(&file).map_err(failed)? } else { String::new() };
        let after = with_lines(&before, lines);
        if after != before {
            fs::write_atomic(&file, after.as_bytes()).map_err(failed)?;
            written.push(file);
        }
    }
    let file = root.join(SCHEMA_FILE);
    let text = schema::text(schema::Document::Manifest);
    if fs::read_to_string(&file).ok().as_ref() != Some(&text) {
        fs::write_atomic(&file, text.as_bytes()).map_err(failed)?;
        written.push(file);
    }
    Ok(written)
}

/// The text with these lines at its end, as far as they are not in it. `/engines` and `engines/` mean the same.
fn with_lines(text: &str, lines: &[&str]) -> String {
    let plain = |line: &str| line.trim().trim_matches('/').to_owned();
    // A pattern that has attributes of its own is somebody's decision.
    let pattern = |line: &str| line.split_whitespace().next().map(plain);
    let has = |line: &&str| text.lines().any(|known| pattern(known) == pattern(line));
    let missing: Vec<&str> = lines.iter().copied().filter(|line| !has(line)).collect();
    if missing.is_empty() {
        return text.to_owned();
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{gap}{}\n", missing.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_there_are_left_alone() {
        assert_eq!(with_lines("", &["/a/", "/b/"]), "/a/\n/b/\n");
        assert_eq!(with_lines("x\na", &["/a/", "/b/"]), "x\na\n/b/\n");
        assert_eq!(with_lines("/a\n/b/\n", &["/a/", "/b/"]), "/a\n/b/\n");
    }
}
