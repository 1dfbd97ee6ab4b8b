//! The library of ONNX Runtime, and which versions may be called at all.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use ort::environment::Environment;

use super::{Refusal, Result, refusal};
use crate::fs;

/// File name of the library, which may be followed by its version.
pub const REFERENCE_LIBRARY: &str = "libonnxruntime.so";

/// The oldest minor version that has the interface which this program calls.
pub const OLDEST_REFERENCE: (u32, u32) = (1, 24);

/// The newest minor version that is known to work.
pub const NEWEST_REFERENCE: (u32, u32) = (1, 32);

/// The library in a folder.
fn find(folder: &Path) -> Result<PathBuf> {
    let exact = folder.join(REFERENCE_LIBRARY);
    if fs::is_file(&exact) {
        return Ok(exact);
    }
    let files = fs::list(folder).unwrap_or_default();
    let is_it = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so."))
    };
    files.into_iter().find(is_it).ok_or_else(|| {
        let message = format!("`{}` holds no `{REFERENCE_LIBRARY}`", folder.display());
        refusal("load", "library-missing", message)
    })
}

/// What `OrtGetApiBase` gives: the one part of the interface that never changes.
#[repr(C)]
struct ApiBase {
    get_api: extern "C" fn(u32) -> *const std::ffi::c_void,
    get_version: extern "C" fn() -> *const c_char,
}

/// Loads the library, asks its version, and refuses those that must not be called.
#[expect(unsafe_code, reason = "the library is C")]
pub(super) fn version(folder: &Path) -> Result<String> {
    let path = find(folder)?;
    let failed = |e: libloading::Error| {
        Box::new(
            Refusal::new("load", "library-unloadable", format!("cannot load `{}`: {e}", path.display()))
                .help("it must be the ONNX Runtime of this platform, whole"),
        )
    };
    // SAFETY: loading runs the library's initializers; that is what the user asked for by naming it, and why this is
    // a worker.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
    // SAFETY: the type is that of the C header, for all versions.
    let base =
        unsafe { library.get::<extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0") }.map_err(failed)?;
    let base = base();
    if base.is_null() {
        return Err(refusal(
            "load",
            "library-unloadable",
            format!("`{}` gives no interface", path.display()),
        ));
    }
    // SAFETY: it points to a table of the library, which is never unloaded, and the text to one of its constants.
    let text = unsafe { CStr::from_ptr(((*base).get_version)()) }.to_string_lossy().into_owned();
    std::mem::forget(library);
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if !(OLDEST_REFERENCE..=NEWEST_REFERENCE).contains(&found) {
        let ((a, b), (c, d)) = (OLDEST_REFERENCE, NEWEST_REFERENCE);
        let message =
            format!("ONNX Runtime {text} in `{}` cannot be used: {a}.{b} to {c}.{d} can", folder.display());
        return Err(refusal("load", "toolchain-version", message));
    }
    Ok(text)
}

/// Loads the library and makes it ready.
pub(super) fn load(folder: &Path) -> Result<Environment> {
    version(folder)?;
    let failed =
        |what: String| refusal("load", "library-unloadable", format!("cannot start ONNX Runtime: {what}"));
    let builder = ort::init_from(find(folder)?).map_err(|e| failed(e.to_string()))?;
    builder.with_name("enginewright").with_telemetry(false).build().map_err(|e| failed(e.to_string()))
}
