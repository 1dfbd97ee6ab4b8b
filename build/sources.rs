//! Which files decide what the program makes of a model, and in which versions the crates come that decide it with them.

use std::path::{Path, PathBuf};

/// All sources in these folders, but for those in others, and for tests, which decide nothing.
pub(crate) fn sources(folders: &[&str], without: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| collect(Path::new(folder), &mut files));
    files.retain(|file| !without.iter().any(|folder| file.starts_with(folder)));
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !is_test(path)) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "txt") {
            files.push(path);
        }
    }
}

fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem == "tests" || stem.ends_with("_tests") || stem.starts_with("testing")
}

/// `NAME VERSION` of each of these crates, as often as the lock file has it.
pub(crate) fn versions<'t>(lock: &'t str, crates: &[&str]) -> Vec<String> {
    let field = |package: &'t str, key: &str| {
        package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
    };
    let packages = lock.split("[[package]]").filter_map(|p| Some((field(p, "name")?, field(p, "version")?)));
    let own = packages.filter(|(name, _)| crates.contains(name));
    own.map(|(name, version)| format!("{name} {version}")).collect()
}
