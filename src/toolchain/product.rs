//! What must be known of a kind of toolchain to find, fetch and identify it, as data.

use std::path::{Path, PathBuf};

use super::{onnxruntime, tensorrt_rtx};
use crate::fs;
use crate::manifest::ToolchainKind;

/// A kind of toolchain that is a set of libraries.
#[derive(Debug)]
pub struct Product {
    /// Its kind.
    pub kind: ToolchainKind,
    /// What people call it.
    pub name: &'static str,
    /// The pip package that it is fetched from.
    pub package: &'static str,
    /// Folder of the libraries inside the wheel, and inside an environment that has it installed.
    pub(super) folder_in_wheel: &'static str,
    /// The files that decide what it does, by the names that they have here.
    pub(super) libraries: &'static [&'static str],
    /// Folders below a root that are looked into.
    pub(super) below_root: &'static [&'static str],
    /// Releases that are known to exist as packages and to be usable.
    pub known_versions: &'static [&'static str],
    /// How many numbers a whole version has.
    pub(super) version_parts: usize,
    /// The oldest and the newest minor version that work.
    pub(super) accepted: ((u32, u32), (u32, u32)),
}

static PRODUCTS: [Product; 2] = [
    Product {
        kind: ToolchainKind::TensorrtRtx,
        name: "TensorRT-RTX",
        package: tensorrt_rtx::PACKAGE,
        folder_in_wheel: tensorrt_rtx::FOLDER_IN_WHEEL,
        libraries: &tensorrt_rtx::LIBRARIES,
        below_root: &["", "lib", "lib64", tensorrt_rtx::FOLDER_IN_WHEEL, "targets/x86_64-linux-gnu/lib"],
        known_versions: &tensorrt_rtx::KNOWN_VERSIONS,
        version_parts: 4,
        accepted: tensorrt_rtx::ACCEPTED,
    },
    Product {
        kind: ToolchainKind::Onnxruntime,
        name: "ONNX Runtime",
        package: onnxruntime::PACKAGE,
        folder_in_wheel: onnxruntime::FOLDER_IN_WHEEL,
        libraries: &onnxruntime::LIBRARIES,
        below_root: &["", "lib", "lib64", "capi", onnxruntime::FOLDER_IN_WHEEL],
        known_versions: &onnxruntime::KNOWN_VERSIONS,
        version_parts: 3,
        accepted: onnxruntime::ACCEPTED,
    },
];

/// Why a version cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It is not of the product's form, or a prefix of it.
    Malformed {
        /// One that is.
        example: &'static str,
    },
    /// Older than the oldest that works.
    TooOld {
        /// The oldest that works.
        oldest: (u32, u32),
    },
    /// Newer than the binding.
    TooNew {
        /// The newest that is known to work.
        newest: (u32, u32),
    },
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unusable::Malformed { example } => write!(f, "it is not a version such as `{example}`"),
            Unusable::TooOld { oldest: (a, b) } => {
                write!(f, "it is older than {a}.{b}, which is the oldest that works")
            }
            Unusable::TooNew { newest: (c, d) } => {
                write!(f, "it is newer than {c}.{d}, which this program was made for")
            }
        }
    }
}

/// The product of a kind; none for a kind that is a program of the user's.
#[must_use]
pub fn product(kind: ToolchainKind) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.kind == kind)
}

impl Product {
    /// A whole version, to show what one looks like: the newest that is known.
    #[must_use]
    pub fn example(&self) -> &'static str {
        self.known_versions.last().copied().unwrap_or_default()
    }

    /// Is it a whole version, such as can be fetched?
    #[must_use]
    pub fn is_whole(&self, version: &str) -> bool {
        version.split('.').count() == self.version_parts
    }

    /// Can this version be used? Taken from its first two parts; a lone major version can be anything.
    ///
    /// # Errors
    /// Why not.
    pub fn check_version(&self, version: &str) -> Result<(), Unusable> {
        let (oldest, newest) = self.accepted;
        let parts: Option<Vec<u32>> = version
            .split('.')
            .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?)
            .collect();
        let malformed = Unusable::Malformed { example: self.example() };
        match parts.as_deref() {
            Some([major]) if *major < oldest.0 => Err(Unusable::TooOld { oldest }),
            Some([major]) if *major > newest.0 => Err(Unusable::TooNew { newest }),
            Some([_]) => Ok(()),
            Some([major, minor, rest @ ..]) if rest.len() + 2 <= self.version_parts => {
                match (*major, *minor) {
                    version if version < oldest => Err(Unusable::TooOld { oldest }),
                    version if version > newest => Err(Unusable::TooNew { newest }),
                    _ => Ok(()),
                }
            }
            _ => Err(malformed),
        }
    }

    /// A library of this name in a folder. Where the file has its version in its name
    /// (`libonnxruntime.so.1.31.1`), the one without comes first, then the first in order.
    pub(super) fn library(&self, folder: &Path, name: &str) -> Option<PathBuf> {
        let exact = folder.join(name);
        if fs::is_file(&exact) {
            return Some(exact);
        }
        if self.kind != ToolchainKind::Onnxruntime {
            return None;
        }
        fs::list(folder).ok()?.into_iter().find(|path| is_versioned(path, name) && fs::is_file(path))
    }

    /// Are all its libraries in a folder?
    pub(super) fn is_in(&self, folder: &Path) -> bool {
        self.libraries.iter().all(|name| self.library(folder, name).is_some())
    }
}

/// `libonnxruntime.so.1.31.1` for `libonnxruntime.so`.
pub(super) fn is_versioned(path: &Path, name: &str) -> bool {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|version| !version.is_empty() && version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Does a library of this version satisfy a manifest's `version`, which is a dotted prefix?
#[must_use]
pub fn satisfies(found: &str, wanted: &str) -> bool {
    found.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_versions_are_usable_and_whole() {
        for product in &PRODUCTS {
            for version in product.known_versions {
                assert!(product.check_version(version).is_ok() && product.is_whole(version), "{version}");
            }
        }
    }

    #[test]
    fn versions_out_of_range_are_told_apart() {
        #[derive(Debug, PartialEq)]
        enum Is {
            Fine,
            Old,
            New,
            Odd,
        }
        let judge = |kind, version: &str| match product(kind).unwrap().check_version(version) {
            Ok(()) => Is::Fine,
            Err(Unusable::TooOld { .. }) => Is::Old,
            Err(Unusable::TooNew { .. }) => Is::New,
            Err(Unusable::Malformed { .. }) => Is::Odd,
        };
        let (rtx, ort) = (ToolchainKind::TensorrtRtx, ToolchainKind::Onnxruntime);
        for (kind, version, expected) in [
            (rtx, "1", Is::Fine),
            (rtx, "1.7", Is::Fine),
            (rtx, "1.4.0.76", Is::Old),
            (rtx, "0", Is::Old),
            (rtx, "1.8", Is::New),
            (rtx, "10.3", Is::New),
            (rtx, "", Is::Odd),
            (rtx, "1.7.1.116.2", Is::Odd),
            (rtx, "1.x", Is::Odd),
            (rtx, "1.+7", Is::Odd),
            (rtx, "../1.7", Is::Odd),
            (ort, "1.31.1", Is::Fine),
            (ort, "1.23.2", Is::Old),
            (ort, "2.0.0", Is::New),
            (ort, "1.31.1.1", Is::Odd),
        ] {
            assert_eq!(judge(kind, version), expected, "{version}");
        }
    }

    #[test]
    fn a_wanted_version_is_a_dotted_prefix() {
        assert!(satisfies("1.7.1.116", "1.7"));
        assert!(satisfies("1.7.1.116", "1.7.1.116"));
        assert!(!satisfies("1.7.1.116", "1.7.1.11"));
        assert!(!satisfies("1.7", "1.7.1"));
    }

    #[test]
    fn a_library_may_have_its_version_in_its_name() {
        let is = |file: &str| is_versioned(Path::new(file), "libonnxruntime.so");
        assert!(is("/x/libonnxruntime.so.1.31.1") && is("libonnxruntime.so.1"));
        assert!(!is("libonnxruntime.so") && !is("libonnxruntime.so.bak") && !is("libonnxruntime_x.so.1"));
    }
}
