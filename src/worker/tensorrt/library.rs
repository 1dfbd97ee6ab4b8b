//! The two library files, and which versions may be called at all.

use std::ffi::{OsStr, c_int};
use std::fmt;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::{Result, refuse};

/// File name of the library that builds engines.
pub const BUILDER_LIBRARY: &str = "libtensorrt_rtx.so.1";

/// File name of the library that parses ONNX.
pub const PARSER_LIBRARY: &str = "libtensorrt_onnxparser_rtx.so.1";

/// The oldest minor version that works: 1.4 crashes when it is called through this binding.
pub const OLDEST_LIBRARY: (u32, u32) = (1, 5);

/// The binding's own version. What a newer library does with its interfaces is not known.
pub const NEWEST_LIBRARY: (u32, u32) = (1, 7);

/// Version of a library: 1.7.1.116.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibraryVersion {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
    /// Build number.
    pub build: u32,
}

impl LibraryVersion {
    /// May it be called?
    #[must_use]
    pub fn is_accepted(self) -> bool {
        (OLDEST_LIBRARY..=NEWEST_LIBRARY).contains(&(self.major, self.minor))
    }
}

impl fmt::Display for LibraryVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.major, self.minor, self.patch, self.build)
    }
}

/// The loaded libraries. Never unloaded.
pub(in crate::worker) struct Libraries {
    builder: Library,
    parser: Library,
    /// Version of the library that builds.
    pub(in crate::worker) version: LibraryVersion,
}

impl Libraries {
    /// Loads both libraries from a folder, and refuses versions that must not be called.
    pub(in crate::worker) fn open(folder: &Path) -> Result<Libraries> {
        let builder = load(folder, BUILDER_LIBRARY)?;
        let version = version(&builder, folder)?;
        if !version.is_accepted() {
            let ((a, b), (c, d)) = (OLDEST_LIBRARY, NEWEST_LIBRARY);
            let message = format!(
                "TensorRT-RTX {version} in `{}` cannot be used: {a}.{b} to {c}.{d} can",
                folder.display()
            );
            return refuse("load", "toolchain-version", message);
        }
        // The parser calls into the builder's objects through their interfaces alone; it is loaded
        // after the check so that nothing of a foreign version runs but its initializers.
        let parser = load(folder, PARSER_LIBRARY)?;
        Ok(Libraries { builder, parser, version })
    }

    /// A function of the library that builds.
    ///
    /// # Safety
    /// `F` is the type of that function.
    #[expect(unsafe_code, reason = "symbols have no types")]
    pub(in crate::worker) unsafe fn builder_function<F>(&self, name: &str) -> Result<Symbol<F>> {
        // SAFETY: as the caller promises.
        unsafe { function(&self.builder, name) }
    }

    /// A function of the library that parses.
    ///
    /// # Safety
    /// `F` is the type of that function.
    #[expect(unsafe_code, reason = "symbols have no types")]
    pub(super) unsafe fn parser_function<F>(&self, name: &str) -> Result<Symbol<F>> {
        // SAFETY: as the caller promises.
        unsafe { function(&self.parser, name) }
    }
}

#[expect(unsafe_code, reason = "loading a library runs its initializers")]
fn load(folder: &Path, name: &str) -> Result<Library> {
    let path = folder.join(name);
    // SAFETY: the initializers are TensorRT's, in a process that exists to run them.
    let loaded = unsafe { Library::open(Some(OsStr::new(&path)), RTLD_NOW | RTLD_LOCAL) };
    loaded.or_else(|error| {
        let code = if crate::fs::exists(&path) { "library-unloadable" } else { "library-missing" };
        refuse("load", code, format!("cannot load `{}`: {}", path.display(), reason(&error)))
    })
}

/// libloading hides what the loader said in the source.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// # Safety
/// `F` is the type of that function.
#[expect(unsafe_code, reason = "symbols have no types")]
unsafe fn function<F>(library: &Library, name: &str) -> Result<Symbol<F>> {
    // SAFETY: as the caller promises.
    unsafe { library.get::<F>(name.as_bytes()) }.or_else(|error| {
        let message = format!("the library has no `{name}`: {}", reason(&error));
        refuse("load", "library-foreign", message)
    })
}

/// Asks the four functions that take nothing, give a number, and exist in every release.
#[expect(unsafe_code, reason = "calling C functions")]
fn version(library: &Library, folder: &Path) -> Result<LibraryVersion> {
    let part = |name: &str| -> Result<u32> {
        // SAFETY: the type of all four.
        let ask = unsafe { function::<extern "C" fn() -> c_int>(library, name) }?;
        let number = ask();
        u32::try_from(number).or_else(|_| {
            let message = format!("`{}` says that its version is {number}", folder.display());
            refuse("load", "library-foreign", message)
        })
    };
    Ok(LibraryVersion {
        major: part("getInferLibMajorVersion")?,
        minor: part("getInferLibMinorVersion")?,
        patch: part("getInferLibPatchVersion")?,
        build: part("getInferLibBuildVersion")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the binding declares these constants as foreign functions")]
    fn the_newest_library_is_the_bindings_version() {
        // SAFETY: they take nothing and return a constant.
        let of_binding =
            unsafe { (trtx_sys::get_tensorrt_major_version(), trtx_sys::get_tensorrt_minor_version()) };
        assert_eq!(of_binding, NEWEST_LIBRARY);
    }

    #[test]
    fn versions_at_the_borders() {
        let version = |major, minor| LibraryVersion { major, minor, patch: 9, build: 999 };
        for (major, minor, accepted) in [
            (1, 4, false),
            (1, 5, true),
            (1, 6, true),
            (1, 7, true),
            (1, 8, false),
            (2, 6, false),
            (0, 6, false),
        ] {
            assert_eq!(version(major, minor).is_accepted(), accepted, "{major}.{minor}");
        }
        assert_eq!(version(1, 7).to_string(), "1.7.9.999");
    }

    #[test]
    fn a_missing_and_a_broken_library_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = Libraries::open(folder.path()).err().unwrap();
        assert_eq!(refusal.code, "library-missing");
        crate::fs::write_atomic(&folder.path().join(BUILDER_LIBRARY), b"version https://git-lfs").unwrap();
        let refusal = Libraries::open(folder.path()).err().unwrap();
        assert_eq!(refusal.code, "library-unloadable");
        assert!(
            refusal.message.contains("file too short") || refusal.message.contains("ELF"),
            "{}",
            refusal.message
        );
    }
}
