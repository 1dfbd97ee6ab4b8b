//! Wheels, fetched by the user's pip.

use std::path::{Path, PathBuf};

use super::Settings;
use super::command::{Finished, run};
pub use super::error::Error;
use super::wheel;
use crate::fs;

/// A wheel that was downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// Where it is.
    pub path: PathBuf,
    /// Its name.
    pub file_name: String,
    /// SHA-256, 64 lower-case hex digits.
    pub sha256: String,
}

/// Ways to start pip, in the order in which they are tried.
const PIPS: [&[&str]; 2] = [&["python3", "-m", "pip"], &["uv", "tool", "run", "pip"]];

/// Downloads the wheel of a package into an existing folder of its own.
pub fn download(name: &str, version: &str, dest: &Path, settings: &Settings) -> Result<Wheel, Error> {
    check_words(name, version)?;
    let request = Request { package: name, version, dest, settings };
    let mut has_python = false;
    for pip in PIPS {
        let Some(finished) = request.run(pip, &[])? else { continue };
        if finished.status.success() {
            return request.wheel();
        }
        if finished.stderr.contains("No module named pip") {
            has_python = true;
            continue;
        }
        return Err(request.explain(pip, &finished)?);
    }
    let package = name.to_owned();
    Err(if has_python { Error::NoPip { package } } else { Error::NoPython { package } })
}

/// Extracts what lies below a folder of a wheel (`a/b/`; empty for everything) into `dest`, each
/// file under its whole path in the wheel. Gives the files that were written, sorted.
///
/// Nothing is written for an archive that looks like an attack, and nothing outside `dest` ever.
pub fn extract(wheel: &Path, prefix: &str, dest: &Path) -> Result<Vec<PathBuf>, Error> {
    wheel::extract(wheel, prefix, dest)
}

/// Refuses what is no name or no version, before it gets into a path or a command line.
pub(super) fn check_words(package: &str, version: &str) -> Result<(), Error> {
    let good = |word: &str, more: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c);
        word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain)
    };
    if !good(package, "") {
        return Err(Error::NoPackage { package: package.to_owned() });
    }
    if !good(version, "+!") {
        let (package, version) = (package.to_owned(), version.to_owned());
        return Err(Error::NoVersion { package, version, versions: Vec::new() });
    }
    Ok(())
}

struct Request<'a> {
    package: &'a str,
    version: &'a str,
    dest: &'a Path,
    settings: &'a Settings,
}

impl Request<'_> {
    fn what(&self) -> String {
        format!("the package `{}=={}`", self.package, self.version)
    }

    fn run(&self, pip: &[&str], more: &[&str]) -> Result<Option<Finished>, Error> {
        let requirement = format!("{}=={}", self.package, self.version);
        let dest = self.dest.to_string_lossy();
        let mut argv = pip.to_vec();
        argv.extend(["download", "--no-deps", "--only-binary=:all:", "--no-input"]);
        argv.extend(["--disable-pip-version-check", "--progress-bar", "off", "-d", &dest]);
        argv.extend(more);
        argv.push(&requirement);
        // pip unpacks into the temporary folder: where it can be moved from, and is swept.
        run(&self.what(), &argv, &[("TMPDIR", self.dest)], None, self.settings)
    }

    fn wheel(&self) -> Result<Wheel, Error> {
        let wheels: Vec<PathBuf> =
            fs::list(self.dest)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "whl")).collect();
        let [path] = wheels.as_slice() else {
            return Err(Error::Tool {
                what: self.what(),
                program: "pip".to_owned(),
                status: format!("it left {} wheels", wheels.len()),
                output: String::new(),
            });
        };
        let blob = fs::hash_file(&fs::open_regular_nofollow(path)?, path, true)?;
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Wheel { path: path.clone(), file_name, sha256: blob.sha256.unwrap_or_default() })
    }

    /// What pip's words mean.
    fn explain(&self, pip: &[&str], finished: &Finished) -> Result<Error, Error> {
        let output = finished.output();
        let (package, version) = (self.package.to_owned(), self.version.to_owned());
        if output.contains("No space left on device") {
            return Ok(Error::Full { what: self.what(), path: self.dest.to_owned() });
        }
        if is_network(&output) {
            return Ok(Error::Network { what: self.what(), output });
        }
        let Some(versions) = versions(&output) else {
            let (program, status) = (pip.join(" "), finished.status.to_string());
            return Ok(Error::Tool { what: self.what(), program, status, output });
        };
        // Is it there for others? pip tells only when it is asked to be wordy.
        let wordy = self.run(pip, &["-vv"])?.map(|finished| finished.output()).unwrap_or_default();
        if is_network(&wordy) {
            return Ok(Error::Network { what: self.what(), output: wordy });
        }
        let wheels = skipped_wheels(&wordy, &package, &version);
        Ok(if !wheels.is_empty() {
            Error::NoWheel { package, version, wheels }
        } else if versions.is_empty() {
            Error::NoPackage { package }
        } else {
            Error::NoVersion { package, version, versions }
        })
    }
}

/// Did pip fail to reach the index?
fn is_network(output: &str) -> bool {
    const SIGNS: [&str; 10] = [
        "NewConnectionError",
        "Max retries exceeded",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Read timed out",
        "NameResolutionError",
        "Temporary failure in name resolution",
        "ProxyError",
        "SSLError",
        ": connection error: ",
    ];
    SIGNS.iter().any(|sign| output.contains(sign))
}

/// The versions in pip's `(from versions: a, b)`; empty for `none`, none without such words.
fn versions(output: &str) -> Option<Vec<String>> {
    let (_, rest) = output.split_once("(from versions: ")?;
    let (list, _) = rest.split_once(')')?;
    Some(list.split(", ").filter(|v| !v.is_empty() && *v != "none").map(str::to_owned).collect())
}

/// The wheels of this version that pip left out, for their tags or for their Python.
fn skipped_wheels(output: &str, package: &str, version: &str) -> Vec<String> {
    let skipped = output.lines().filter(|line| line.trim_start().starts_with("Skipping link"));
    let names = skipped.flat_map(str::split_whitespace).filter_map(|word| {
        let path = word.split(['#', '?']).next()?;
        path.rsplit('/').next().filter(|name| name.ends_with(".whl"))
    });
    let same =
        |a: &str, b: &str| a.replace(['-', '.'], "_").eq_ignore_ascii_case(&b.replace(['-', '.'], "_"));
    let ours = |name: &&str| {
        let mut parts = name.split('-');
        parts.next().is_some_and(|p| same(p, package)) && parts.next() == Some(version)
    };
    let mut wheels: Vec<String> = names.filter(ours).map(str::to_owned).collect();
    wheels.sort();
    wheels.dedup();
    wheels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pips_words() {
        let text = "ERROR: Could not find a version that satisfies the requirement m==9 (from versions: 0.1, 1.0rc1)";
        assert_eq!(versions(text).unwrap(), ["0.1", "1.0rc1"]);
        assert_eq!(versions("(from versions: none)"), Some(Vec::new()));
        assert_eq!(versions("ERROR: something else"), None);
        let text = "  Skipping link: none of the wheel's tags (cp39-cp39-macosx_12_0_arm64) are compatible: \
            https://h/p/t-2.1-cp39-cp39-macosx_12_0_arm64.whl#sha256=ab (from https://h/simple/t/)\n\
            Skipping link: not compatible: https://h/p/t-2.2-cp39-cp39-macosx_12_0_arm64.whl";
        assert_eq!(skipped_wheels(text, "T", "2.1"), ["t-2.1-cp39-cp39-macosx_12_0_arm64.whl"]);
        assert!(skipped_wheels(text, "t", "2").is_empty() && skipped_wheels(text, "u", "2.1").is_empty());
    }

    #[test]
    fn words_that_are_no_names() {
        for (name, version) in
            [("../x", "1"), ("-e", "1"), ("", "1"), ("a b", "1"), ("a", "1/../2"), ("a", "")]
        {
            assert!(check_words(name, version).is_err(), "{name} {version}");
        }
        check_words("tensorrt-rtx-cu13-libs", "1!1.7.1.post1+cu13").unwrap();
    }
}
