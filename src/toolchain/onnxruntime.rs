//! Facts about ONNX Runtime, the reference, as data.

use crate::worker::{NEWEST_REFERENCE, OLDEST_REFERENCE, REFERENCE_LIBRARY};

/// The file that decides what it computes. In the wheel its name ends in its version.
pub(super) const LIBRARIES: [&str; 1] = [REFERENCE_LIBRARY];

/// The pip package that it is fetched from. Its wheels differ by Python, and so may their bytes; what is used is
/// identified by them.
pub(super) const PACKAGE: &str = "onnxruntime";

/// Folder of the library inside the wheel, and inside an environment that has it installed.
pub(super) const FOLDER_IN_WHEEL: &str = "onnxruntime/capi";

/// Releases that are known to exist as packages and to be usable.
pub(super) const KNOWN_VERSIONS: [&str; 2] = ["1.24.4", "1.31.1"];

/// The oldest and the newest minor version that work.
pub(super) const ACCEPTED: ((u32, u32), (u32, u32)) = (OLDEST_REFERENCE, NEWEST_REFERENCE);
