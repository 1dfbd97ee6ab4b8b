//! A file at a URL: `downloads/<SHA-256>/<file name>`.

use std::path::Path;

use super::command::{Finished, Limit, run};
use super::error::Error;
use super::redact::redact_url;
use super::{Located, Pin, Settings, kept};
use crate::cache::Cache;
use crate::fs;

/// Most bytes that a download may have.
const MOST_BYTES: u64 = 64 << 30;

/// Where there is no curl: the same in Python, with the same exit codes for the same reasons.
const PYTHON: &str = r"
import shutil, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as reply, open(sys.argv[2], 'wb') as file:
        shutil.copyfileobj(reply, file, 1 << 20)
except urllib.error.HTTPError as e:
    print(e.code)
    sys.exit(22)
except urllib.error.URLError as e:
    print(e, file=sys.stderr)
    sys.exit(37 if isinstance(e.reason, FileNotFoundError) or 'No such file' in str(e.reason) else 6)
except OSError as e:
    print(e, file=sys.stderr)
    sys.exit(23 if e.errno in (28, 122) else 56)
";

/// Finds the file of a URL, downloading it if it must be and may be.
pub(super) fn locate(url: &str, sha256: &str, cache: &Cache, settings: &Settings) -> Result<Located, Error> {
    let shown = redact_url(url);
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let good = matches!(scheme.as_deref(), Some("https" | "http" | "file"));
    if !good || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::BadUrl { url: shown });
    }
    if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::Sha256Mismatch { url: shown, expected: sha256.to_owned(), found: "?".to_owned() });
    }
    let name = file_name(url);
    let folder = cache.folder("downloads").join(sha256).join(&name);
    let what = format!("`{shown}`");
    let kept = kept::get_or_fetch(cache, &folder, &what, settings, |job, tree| {
        let to = tree.join(&name);
        let temporary = job.path().join("download");
        download(url, &shown, &temporary, settings)?;
        let blob = fs::hash_file(&fs::open_regular_nofollow(&temporary)?, &temporary, true)?;
        let found = blob.sha256.unwrap_or_default();
        if found != sha256 {
            return Err(Error::Sha256Mismatch { url: shown.clone(), expected: sha256.to_owned(), found });
        }
        fs::rename(&temporary, &to)?;
        Ok(vec![Pin { file_name: name.clone(), sha256: found }])
    })?;
    Ok(Located { path: folder.join(&name), pins: kept.pins })
}

/// The last part of the URL's path, made harmless. The extension matters to people alone.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let last =
        path.split_once("://").map_or(path, |(_, rest)| rest).rsplit_once('/').map_or("", |(_, last)| last);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    let name: String = last.chars().map(plain).take(120).collect();
    if name.is_empty() || name.starts_with('.') { format!("file{name}") } else { name }
}

fn download(url: &str, shown: &str, to: &Path, settings: &Settings) -> Result<(), Error> {
    let what = format!("`{shown}`");
    let file = to.to_string_lossy();
    let most = MOST_BYTES.to_string();
    let protocols = if url.to_ascii_lowercase().starts_with("file:") { "=file" } else { "=http,https" };
    let curl = [
        "curl",
        "--fail",
        "--location",
        "--silent",
        "--show-error",
        "--proto",
        protocols,
        "--proto-redir",
        "=http,https",
        "--max-redirs",
        "10",
        "--connect-timeout",
        "30",
        "--retry",
        "2",
        "--max-filesize",
        &most,
        "--globoff",
        "--write-out",
        "%{http_code}",
        "--output",
        &file,
        "--",
        url,
    ];
    let python = ["python3", "-c", PYTHON, url, &file];
    let limit = Limit { file: to, bytes: MOST_BYTES };
    for argv in [curl.as_slice(), &python] {
        let Some(finished) = run(&what, argv, &[], Some(limit), settings)? else { continue };
        if !finished.status.success() {
            return Err(explain(argv[0], &finished, shown, to));
        }
        // curl makes no file for an empty one.
        if !fs::exists(to) {
            fs::write_atomic(to, b"")?;
        }
        return Ok(());
    }
    Err(Error::NoDownloader { url: shown.to_owned() })
}

/// What an exit code of curl means.
fn explain(program: &str, finished: &Finished, shown: &str, to: &Path) -> Error {
    let (url, what) = (shown.to_owned(), format!("`{shown}`"));
    let output = finished.stderr.clone();
    match finished.status.code() {
        Some(22) => match finished.stdout.trim().parse() {
            Ok(status) => Error::HttpStatus { url, status },
            Err(_) => Error::Network { what, output },
        },
        Some(23) => Error::Full { what, path: to.to_owned() },
        Some(37) => Error::UrlMissing { url },
        Some(63) => Error::TooLarge { what, limit: MOST_BYTES },
        Some(1 | 3) => Error::BadUrl { url },
        Some(5..=7 | 16 | 18 | 28 | 35 | 47 | 52 | 55 | 56 | 58..=60 | 77 | 83 | 90..=92 | 97) => {
            Error::Network { what, output }
        }
        _ => {
            let (program, status) = (program.to_owned(), finished.status.to_string());
            Error::Tool { what, program, status, output }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        assert_eq!(file_name("https://h/a/model.onnx?x=/y.bin"), "model.onnx");
        assert_eq!(file_name("https://h/a/.."), "file..");
        assert_eq!(file_name("https://h/a%2F..%2Fb"), "a_2F.._2Fb");
        assert_eq!(file_name("https://host"), "file");
    }
}
