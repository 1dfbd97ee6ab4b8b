//! Finds the libraries of a toolchain in a folder of the user's, or fetches them once per version into the
//! cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::product::{Product, Unusable, is_versioned};
use crate::cache::{self, Cache, Holder};
use crate::digest::Digest;
use crate::fs;

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
    /// The folder that holds the files.
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
    #[error("`{}` holds no {}", root.display(), listed(product.libraries))]
    NotInRoot {
        /// What was looked for.
        product: &'static Product,
        /// The root.
        root: PathBuf,
        /// Folders that were looked into.
        looked: Vec<PathBuf>,
        /// One of the files, if it was found without the others.
        alone: Option<PathBuf>,
    },
    /// This version cannot be used.
    #[error("{} `{version}` cannot be used: {why}", product.name)]
    Version {
        /// Of what.
        product: &'static Product,
        /// The version.
        version: String,
        /// Why.
        why: Unusable,
    },
    /// To fetch it, the whole version must be known.
    #[error("{} `{version}` cannot be fetched: its whole version is needed, such as `{}`", product.name, product.example())]
    Partial {
        /// Of what.
        product: &'static Product,
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
            Error::NotInRoot { product, looked, alone, .. } => {
                let folders: Vec<String> = looked.iter().map(|f| format!("`{}`", f.display())).collect();
                let mut help = vec![format!("looked into {}", folders.join(", "))];
                if let Some(alone) = alone {
                    help.push(format!("`{}` is there, but {} are needed", alone.display(), listed(product.libraries)));
                }
                help.push(format!("`root` is the folder of an SDK, or of an installed `{}`", product.package));
                help
            }
            Error::Version { product, .. } | Error::Partial { product, .. } => {
                vec![format!("versions known to work: {}", product.known_versions.join(", "))]
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
pub fn find_in_root(product: &'static Product, root: &Path) -> Result<Located, Error> {
    let looked: Vec<PathBuf> = product
        .below_root
        .iter()
        .map(|below| if below.is_empty() { root.to_owned() } else { root.join(below) })
        .collect();
    if let Some(folder) = looked.iter().find(|folder| product.is_in(folder)) {
        return Ok(Located { folder: folder.clone(), wheel: None });
    }
    let alone = looked
        .iter()
        .flat_map(|folder| product.libraries.iter().filter_map(|name| product.library(folder, name)))
        .next();
    Err(Error::NotInRoot { product, root: root.to_owned(), looked, alone })
}

/// The libraries of a version, if they were fetched before and are what was fetched: a library with
/// a wrong bit must not pass for another toolchain.
#[must_use]
pub fn fetched(cache: &Cache, product: &Product, version: &str) -> Option<Located> {
    // A version becomes part of a path only if it is one.
    product.check_version(version).ok()?;
    let folder = folder_of(cache, product, version);
    if !product.is_in(&folder) {
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
    product: &'static Product,
    version: &str,
    pins: &BTreeMap<String, String>,
    wheels: &dyn Wheels,
    on_wait: &mut dyn FnMut(Holder),
) -> Result<Located, Error> {
    product.check_version(version).map_err(|why| Error::Version {
        product,
        version: version.to_owned(),
        why,
    })?;
    if !product.is_whole(version) {
        return Err(Error::Partial { product, version: version.to_owned() });
    }
    let found = match fetched(cache, product, version) {
        Some(found) => found,
        None => {
            let name = format!("{}-{version}", product.kind.name());
            let _lock = cache.lock_action("toolchain", &Digest::of(name.as_bytes()), on_wait)?;
            // The other process, if there was one, may have made it.
            match fetched(cache, product, version) {
                Some(found) => found,
                None => unpack(cache, product, version, pins, wheels)?,
            }
        }
    };
    found.check_pin(pins)?;
    Ok(found)
}

fn unpack(
    cache: &Cache,
    product: &'static Product,
    version: &str,
    pins: &BTreeMap<String, String>,
    wheels: &dyn Wheels,
) -> Result<Located, Error> {
    let failed = |source| Error::Wheel { package: product.package, version: version.to_owned(), source };
    let job = cache.job_dir()?;
    let [download, unpacked, finished] = ["download", "unpacked", "finished"].map(|n| job.path().join(n));
    for folder in [&download, &unpacked, &finished] {
        fs::create_dir_all(folder)?;
    }
    let wheel = wheels.download(product.package, version, &download).map_err(failed)?;
    check_pin(pins, &wheel.file_name, &wheel.sha256)?;
    let prefix = format!("{}/", product.folder_in_wheel);
    let files = wheels.extract(&wheel.path, &prefix, &unpacked).map_err(failed)?;
    let mut blobs = BTreeMap::new();
    for name in product.libraries {
        let exact = files.iter().find(|path| path.file_name().is_some_and(|n| n == *name));
        let from = exact
            .or_else(|| files.iter().find(|path| is_versioned(path, name)))
            .ok_or_else(|| Error::Incomplete { file_name: wheel.file_name.clone(), missing: name })?;
        let to = finished.join(name);
        fs::rename(from, &to)?;
        fs::set_mode(&to, 0o444)?;
        // Renamed whole, it must also be whole after a power cut.
        fs::sync_file(&to)?;
        blobs.insert((*name).to_owned(), cache.file_digest(&to)?.0);
    }
    let wheel = WheelPin { file_name: wheel.file_name, sha256: wheel.sha256 };
    let files = blobs.iter().map(|(name, blob)| (name.clone(), blob.b3)).collect();
    let unpacked = Unpacked { wheel, files };
    let path = finished.join(WHEEL_FILE);
    let text = serde_json::to_vec(&unpacked).map_err(|e| fs::error("write", &path, e.into()))?;
    fs::write_atomic(&path, &text)?;

    let folder = folder_of(cache, product, version);
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
fn folder_of(cache: &Cache, product: &Product, version: &str) -> PathBuf {
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    cache.folder("toolchains").join(format!("{}-{version}-{platform}", product.kind.name()))
}

/// "`a` and `b`"
fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::product::product;
    use super::super::tensorrt_rtx::{LIBRARIES, PACKAGE};
    use super::*;
    use crate::manifest::ToolchainKind;

    const VERSION: &str = "1.7.1.116";

    fn rtx() -> &'static Product {
        product(ToolchainKind::TensorrtRtx).unwrap()
    }

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
        fetch(&setup.cache, rtx(), version, &pins, fake, &mut |_| ())
    }

    #[test]
    fn a_version_is_fetched_once() {
        let setup = setup();
        let fake = Fake::with(&["__init__.py", LIBRARIES[0], LIBRARIES[1]]);
        assert_eq!(fetched(&setup.cache, rtx(), VERSION), None);
        let first = get(&setup, VERSION, &[], &fake).unwrap();
        let second = get(&setup, VERSION, &[], &fake).unwrap();
        assert_eq!((&first, fake.downloads.get()), (&second, 1));
        assert_eq!(fetched(&setup.cache, rtx(), VERSION), Some(first.clone()));
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
            assert_eq!(fetched(&setup.cache, rtx(), VERSION), None, "{file}");
            assert_eq!(get(&setup, VERSION, &[], &fake).unwrap(), first);
            assert!(rtx().is_in(&first.folder));
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
        assert_eq!(fetched(&setup.cache, rtx(), VERSION), None, "nothing is kept");
        get(&setup, VERSION, &[(&name, &"ab".repeat(32))], &fake).unwrap();
        // What was fetched under no pin is held against one that came later.
        assert!(get(&setup, VERSION, &[(&name, &wrong)], &fake).is_err());
    }

    #[test]
    fn a_wheel_without_the_libraries_is_refused() {
        let setup = setup();
        let error = get(&setup, VERSION, &[], &Fake::with(&["__init__.py"])).unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error}");
        assert_eq!(fetched(&setup.cache, rtx(), VERSION), None);
    }

    #[test]
    fn versions_are_checked_before_anything_is_fetched() {
        let setup = setup();
        let fake = Fake::with(&LIBRARIES);
        for version in ["1.4.0.76", "1.8.0.1", "1.7", "../../x", ""] {
            assert!(get(&setup, version, &[], &fake).is_err(), "{version}");
            assert_eq!(fetched(&setup.cache, rtx(), version), None);
        }
        assert_eq!(fake.downloads.get(), 0);
    }

    #[test]
    fn a_root_is_searched_in_the_usual_places() {
        let root = tempfile::tempdir().unwrap();
        let error = find_in_root(rtx(), root.path()).unwrap_err();
        assert!(matches!(&error, Error::NotInRoot { alone: None, .. }), "{error}");
        let lib = root.path().join("lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write_atomic(&lib.join(LIBRARIES[0]), b"x").unwrap();
        let error = find_in_root(rtx(), root.path()).unwrap_err();
        assert!(error.help()[1].contains("are needed"), "{:?}", error.help());
        fs::write_atomic(&lib.join(LIBRARIES[1]), b"x").unwrap();
        assert_eq!(find_in_root(rtx(), root.path()).unwrap(), Located { folder: lib, wheel: None });
    }

    #[test]
    fn a_library_is_named_without_its_version_once_it_is_fetched() {
        let ort = product(ToolchainKind::Onnxruntime).unwrap();
        let setup = setup();
        let fake = Fake::with(&["onnxruntime_pybind11_state.so", "libonnxruntime.so.1.31.1"]);
        let pins = BTreeMap::new();
        let found = fetch(&setup.cache, ort, "1.31.1", &pins, &fake, &mut |_| ()).unwrap();
        assert!(fs::is_file(&found.folder.join("libonnxruntime.so")));
        assert_eq!(fetched(&setup.cache, ort, "1.31.1"), Some(found));
        // An installed package has it under its own name.
        let root = tempfile::tempdir().unwrap();
        assert!(find_in_root(ort, root.path()).unwrap_err().to_string().contains("`libonnxruntime.so`"));
        let capi = root.path().join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        fs::write_atomic(&capi.join("libonnxruntime.so.1.31.1"), b"x").unwrap();
        assert_eq!(find_in_root(ort, root.path()).unwrap().folder, capi);
    }
}
