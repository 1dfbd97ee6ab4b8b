//! Where trtexec and the libraries that it loads lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ld_cache;
use super::runner::Runner;
use crate::fs;

/// What trtexec is called.
const PROGRAM: &str = "trtexec";

/// Folders below a root that may hold it.
const PROGRAM_FOLDERS: [&str; 4] =
    ["bin", "", "targets/x86_64-linux-gnu/bin", "targets/aarch64-linux-gnu/bin"];

/// Folders below a root that may hold libraries.
const LIBRARY_FOLDERS: [&str; 6] = [
    "lib",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "targets/x86_64-linux-gnu/lib",
    "targets/aarch64-linux-gnu/lib",
];

/// Where CUDA's libraries lie, if they are not below the root.
const CUDA_FOLDERS: [&str; 3] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/usr/local/cuda/targets/aarch64-linux/lib",
];

/// Where the loader looks by itself.
const SYSTEM_FOLDERS: [&str; 4] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];

/// The libraries that decide what is built, by the beginnings of their names: TensorRT with its plugins, builder resources
/// and parsers, and what it loads of CUDA.
const FAMILIES: [&str; 5] = ["libnvinfer", "libnvonnxparser", "libcudnn", "libcublas", "libnvrtc"];

/// A trtexec of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The program.
    pub program: PathBuf,
    /// Folders of libraries that the loader does not find by itself, in order.
    pub library_path: Vec<PathBuf>,
    /// The files that decide what it builds, by their names.
    pub files: BTreeMap<String, PathBuf>,
    /// The command that runs it, if it is not run by itself.
    pub runner: Option<Runner>,
}

/// There is no trtexec that could be used.
#[derive(Debug, thiserror::Error)]
pub enum NotInstalled {
    /// It is not below the root.
    #[error("`{}` holds no `{PROGRAM}`", root.display())]
    NotInRoot {
        /// The root.
        root: PathBuf,
    },
    /// There is no root, and `PATH` does not have it.
    #[error("there is no `{PROGRAM}` in `PATH`, and no `root`")]
    NotInPath,
    /// It cannot be executed.
    #[error("`{}` cannot be executed", program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
    },
    /// The library of TensorRT is nowhere beside it.
    #[error("no `libnvinfer` is found for `{}`", program.display())]
    NoLibrary {
        /// The program.
        program: PathBuf,
        /// Folders that were looked into.
        looked: Vec<PathBuf>,
    },
}

/// Finds trtexec below a root, or in `PATH`, and the libraries that it loads.
///
/// # Errors
/// It is not there, or not whole.
pub fn find(root: Option<&Path>, path: Option<&str>) -> Result<Installed, NotInstalled> {
    let program = match root {
        Some(root) => {
            let below = PROGRAM_FOLDERS.iter().map(|folder| root.join(folder).join(PROGRAM));
            below
                .into_iter()
                .find(|file| fs::is_file(file))
                .ok_or(NotInstalled::NotInRoot { root: root.to_owned() })?
        }
        None => {
            let folders = path.unwrap_or_default().split(':').filter(|folder| !folder.is_empty());
            let found = folders.map(|folder| Path::new(folder).join(PROGRAM)).find(|file| fs::is_file(file));
            let found = found.ok_or(NotInstalled::NotInPath)?;
            fs::canonicalize(&found).unwrap_or(found)
        }
    };
    if !fs::is_executable(&program) {
        return Err(NotInstalled::NotExecutable { program });
    }
    // A program in `ROOT/bin` has its libraries in `ROOT/lib`.
    let folder = program.parent().unwrap_or(Path::new("/"));
    let above = if folder.ends_with("bin") { folder.parent().unwrap_or(folder) } else { folder };
    let bases = root.into_iter().chain([above, folder]);
    let mut looked: Vec<PathBuf> = Vec::new();
    for base in bases {
        looked.push(base.to_owned());
        looked.extend(LIBRARY_FOLDERS.iter().map(|below| base.join(below)));
    }
    looked.extend(CUDA_FOLDERS.map(PathBuf::from));
    let mut seen = BTreeSet::new();
    looked.retain(|folder| seen.insert(folder.clone()) && fs::is_dir(folder));
    collect(program, looked, &ld_cache::libraries())
}

/// The libraries of a program, as its loader takes them: from the first of the folders, which we lead it to, that has them;
/// then as its cache says; then from the system's own folders.
fn collect(
    program: PathBuf,
    looked: Vec<PathBuf>,
    known_to_loader: &[PathBuf],
) -> Result<Installed, NotInstalled> {
    let mut files = BTreeMap::from([(PROGRAM.to_owned(), program.clone())]);
    let mut used: BTreeSet<&PathBuf> = BTreeSet::new();
    let system = SYSTEM_FOLDERS.map(PathBuf::from);
    for family in FAMILIES {
        let is_of_family = |path: &&PathBuf| name(path).starts_with(family) && fs::is_file(path);
        let of_loader = known_to_loader.iter().find(is_of_family).and_then(|path| path.parent());
        let folders = looked.iter().map(PathBuf::as_path).chain(of_loader);
        let found = folders
            .chain(system.iter().map(PathBuf::as_path))
            .map(|folder| (folder, of_family(folder, family)))
            .find(|(_, files)| !files.is_empty());
        let Some((folder, found)) = found else {
            if family == FAMILIES[0] {
                return Err(NotInstalled::NoLibrary { program, looked });
            }
            continue;
        };
        files.extend(found);
        used.extend(looked.iter().find(|looked| looked.as_path() == folder));
    }
    // In the order in which they were looked into: a family in two of them is taken from the first by the loader too.
    let library_path = looked.iter().filter(|folder| used.contains(folder)).cloned().collect();
    Ok(Installed { program, library_path, files, runner: None })
}

/// The trtexec of a runner's image, which is not on this machine; or that of this machine, run by it.
///
/// # Errors
/// The one of this machine is not there.
pub fn find_by_runner(
    runner: Runner,
    root: Option<&Path>,
    path: Option<&str>,
) -> Result<Installed, NotInstalled> {
    let mut found = if runner.has_image() {
        let (files, library_path) = (BTreeMap::new(), Vec::new());
        Installed { program: PathBuf::from(PROGRAM), library_path, files, runner: None }
    } else {
        find(root, path)?
    };
    found.files.extend(runner.files());
    Ok(Installed { runner: Some(runner), ..found })
}

/// A program of this name in `PATH`, or this path.
#[must_use]
pub fn program_in_path(name: &str, path: Option<&str>) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| fs::is_file(file) && fs::is_executable(file));
    }
    let folders = path.unwrap_or_default().split(':').filter(|folder| !folder.is_empty());
    let mut files = folders.map(|folder| Path::new(folder).join(name));
    files.find(|file| fs::is_file(file) && fs::is_executable(file))
}

/// The libraries of a family in a folder, each once: links have the name of what they lead to.
fn of_family(folder: &Path, family: &str) -> Vec<(String, PathBuf)> {
    let listed = fs::list(folder).unwrap_or_default();
    let of_family = listed.into_iter().filter(|path| {
        let name = name(path);
        name.starts_with(family) && (name.ends_with(".so") || name.contains(".so.")) && fs::is_file(path)
    });
    of_family
        .map(|path| {
            let real = fs::canonicalize(&path).unwrap_or(path);
            (name(&real), real)
        })
        .collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl NotInstalled {
    /// What to do.
    #[must_use]
    pub fn help(&self, variable: &str) -> Vec<String> {
        let where_from = format!(
            "say where it is: `root` of the toolchain, `{variable}`, or `enginewright.local.toml`; or put it into `PATH`"
        );
        match self {
            NotInstalled::NotInRoot { .. } => {
                vec!["`root` is the folder that has `bin/trtexec`, such as `/usr/src/tensorrt`".to_owned()]
            }
            NotInstalled::NotInPath => vec![where_from],
            NotInstalled::NotExecutable { .. } => {
                vec!["make it executable, and see that its file system is not mounted `noexec`".to_owned()]
            }
            NotInstalled::NoLibrary { looked, .. } => {
                let folders: Vec<String> =
                    looked.iter().map(|folder| format!("`{}`", folder.display())).collect();
                vec![format!("looked into {}", folders.join(", "))]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(root: &Path, mode: u32) {
        for (file, text) in [
            ("bin/trtexec", "#!/bin/sh\n"),
            ("lib/libnvinfer.so.10.3.0", "1"),
            ("lib/libnvinfer_plugin.so.10.3.0", "2"),
            ("lib/libnvinfer_static.a", "3"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write_atomic(&path, text.as_bytes()).unwrap();
            fs::set_mode(&path, mode).unwrap();
        }
        fs::symlink(Path::new("libnvinfer.so.10.3.0"), &root.join("lib/libnvinfer.so.10")).unwrap();
    }

    #[test]
    fn the_libraries_beside_it_are_its_own() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), 0o755);
        let found = find(Some(root.path()), None).unwrap();
        let names: Vec<&str> = found
            .files
            .keys()
            .map(String::as_str)
            .filter(|n| n.contains("nvinfer") || *n == PROGRAM)
            .collect();
        assert_eq!(names, ["libnvinfer.so.10.3.0", "libnvinfer_plugin.so.10.3.0", "trtexec"]);
        assert_eq!(found.library_path.first(), Some(&root.path().join("lib")));
        let path = format!("/nowhere:{}", root.path().join("bin").display());
        assert_eq!(find(None, Some(&path)).unwrap().files, found.files);
    }

    #[test]
    fn libraries_are_those_that_the_loader_takes() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write_atomic(&path, b"x").unwrap();
            path
        };
        // cuBLAS lies in both, and the loader takes the first that it is led to: so must we.
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        file("b/libnvinfer.so.8");
        let cublas = file("a/libcublas.so.12");
        file("b/libcublas.so.12");
        let looked = vec![first.clone(), second.clone()];
        let cudnn = file("c/libcudnn.so.8");
        let lost = folder.path().join("lost/libcudnn.so.8");
        let found = collect("/t".into(), looked.clone(), &[lost, cudnn.clone()]).unwrap();
        assert_eq!(found.library_path, [first, second]);
        assert_eq!(found.files["libcublas.so.12"], fs::canonicalize(&cublas).unwrap());
        // What only the loader's own cache leads to.
        assert_eq!(found.files["libcudnn.so.8"], fs::canonicalize(&cudnn).unwrap());
        assert!(!collect("/t".into(), looked, &[]).unwrap().files.contains_key("libcudnn.so.8"));
    }

    #[test]
    fn what_is_missing_is_told() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(find(Some(root.path()), None), Err(NotInstalled::NotInRoot { .. })));
        assert!(matches!(find(None, Some("/nowhere")), Err(NotInstalled::NotInPath)));
        install(root.path(), 0o644);
        assert!(matches!(find(Some(root.path()), None), Err(NotInstalled::NotExecutable { .. })));
    }
}
