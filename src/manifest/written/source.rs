//! `source = { … }`

use super::super::codes;
use super::super::fields::{Item, Located, shown};
use super::super::model::Source;
use super::super::text;
use crate::diagnostic::Diagnostic;

/// The keys that say which kind of source it is.
const KINDS: [&str; 3] = ["path", "package", "url"];

pub(super) fn decode(item: &Item<'_>) -> Option<Located<Source>> {
    if item.is_text() {
        let message = format!("`{}` must be a table, not a string", shown(&item.path));
        let error = Diagnostic::error(codes::WRONG_TYPE, message).at(item.origin(), "expected a table");
        item.report(error.help("write `source = { path = \"…\" }`"));
        return None;
    }
    let fields = item.table(&[&["path", "package", "file", "url", "sha256"]])?;
    let source = match fields.given(&KINDS).as_slice() {
        [] => {
            fields.missing("path", "path = \"…\"`, `package = \"NAME==VERSION\"` or `url = \"…\"");
            return None;
        }
        [first, second, ..] => {
            fields.conflict(first, second);
            return None;
        }
        ["path"] => {
            let path = fields.get("path")?.file_path();
            refuse(item, &["file", "sha256"], "path");
            Source::Path { path: path? }
        }
        ["package"] => {
            let package = fields.get("package")?.parsed(text::package);
            let file = fields.required("file", "file = \"path/inside/the/package.onnx\"");
            let file = file.and_then(|file| file.parsed(text::inner_path));
            refuse(item, &["sha256"], "package");
            let (name, version) = package?;
            Source::Package { name, version, file: file? }
        }
        _ => {
            let url = fields.get("url")?;
            let sha256 = fields.required("sha256", "sha256 = \"…\"").and_then(|sha| sha.parsed(text::sha256));
            refuse(item, &["file"], "url");
            if url.text().is_some_and(|text| text::has_credentials(&text)) {
                // The line is named and not shown: it holds what nobody should read in a log.
                let message =
                    format!("`{}` holds credentials, in line {}", shown(&url.path), url.key.line_column().0);
                let error = Diagnostic::error(codes::URL_CREDENTIALS, message).in_file(&url.key.file.path);
                url.report(error.help("put them where the download tool reads them, such as `~/.netrc`"));
                return None;
            }
            Source::Url { url: url.parsed(text::url)?, sha256: sha256? }
        }
    };
    Some(item.located(source))
}

/// Reports keys that belong to another kind of source.
fn refuse(item: &Item<'_>, keys: &[&str], kind: &str) {
    for (name, entry) in item.entries().unwrap_or_default() {
        if keys.contains(&name.as_str()) {
            let message = format!("`{}` does not go with `{kind}`", shown(&entry.path));
            entry.report(Diagnostic::error(codes::CONFLICTING_KEYS, message).at(entry.key, ""));
        }
    }
}
