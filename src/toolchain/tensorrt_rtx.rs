//! Facts about TensorRT-RTX, as data.
//!
//! Which opsets its parser takes is not published; none is refused for its number alone.

use crate::gpu::Sm;
use crate::worker::{
    BUILDER_LIBRARY, LibraryVersion, NEWEST_LIBRARY, OLDEST_LIBRARY, PARSER_LIBRARY, SUPPORTED_SMS,
};

/// Compute capabilities that it builds for.
pub const SMS: [u32; 6] = SUPPORTED_SMS;

/// Is an FP32 matrix product that stands alone between Casts computed with half weights? Measured on 1.7.1.
pub const DEMOTES_LONE_GEMM: bool = true;

/// Operators that it does not take in a type that ONNX allows, by the manifest's name of the type. Measured on
/// 1.7.1.
pub const WITHOUT: [(&str, &str); 1] = [("HardSwish", "bf16")];

/// The files that decide what it builds, by name.
pub const LIBRARIES: [&str; 2] = [PARSER_LIBRARY, BUILDER_LIBRARY];

/// The pip package that it is fetched from. `tensorrt-rtx-cu12-libs` has the same versions and
/// builds identical engines.
pub const PACKAGE: &str = "tensorrt-rtx-cu13-libs";

/// Folder of the libraries inside the wheel, and inside an environment that has it installed.
pub const FOLDER_IN_WHEEL: &str = "tensorrt_rtx_libs";

/// Releases that are known to exist as packages and to be usable.
pub const KNOWN_VERSIONS: [&str; 3] = ["1.5.0.114", "1.6.1.120", "1.7.1.116"];

/// For a compute capability that it does not build for: the GPUs that have it, and what can.
#[must_use]
pub fn instead(sm: Sm) -> Option<&'static str> {
    Some(match sm.0 {
        70 | 72 => "Volta (V100, Xavier) needs the full TensorRT up to 10.4: a toolchain of kind `trtexec`",
        87 => "Jetson Orin needs JetPack's TensorRT: a toolchain of kind `trtexec`, run on the device",
        90 => "Hopper (H100, H200, GH200) needs the full TensorRT: a toolchain of kind `trtexec`",
        100 => "Blackwell B200 and GB200 need the full TensorRT: a toolchain of kind `trtexec`",
        103 => "Blackwell B300 and GB300 need the full TensorRT: a toolchain of kind `trtexec`",
        110 => "Jetson Thor needs JetPack's TensorRT: a toolchain of kind `trtexec`, run on the device",
        _ => return None,
    })
}

/// Why a version cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It is not of the form `1.7.1.116`, or a prefix of it.
    Malformed,
    /// Older than the oldest that works.
    TooOld,
    /// Newer than the binding.
    TooNew,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((a, b), (c, d)) = (OLDEST_LIBRARY, NEWEST_LIBRARY);
        match self {
            Unusable::Malformed => f.write_str("it is not a version such as `1.7.1.116`"),
            Unusable::TooOld => write!(f, "it is older than {a}.{b}, which is the oldest that works"),
            Unusable::TooNew => write!(f, "it is newer than {c}.{d}, which this program was made for"),
        }
    }
}

/// Can this version be used? Taken from its first two parts; a lone major version can be anything.
pub fn check_version(version: &str) -> Result<(), Unusable> {
    let parts: Option<Vec<u32>> = version
        .split('.')
        .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?)
        .collect();
    match parts.as_deref() {
        Some([major]) if *major < OLDEST_LIBRARY.0 => Err(Unusable::TooOld),
        Some([major]) if *major > NEWEST_LIBRARY.0 => Err(Unusable::TooNew),
        Some([_]) => Ok(()),
        Some([major, minor, rest @ ..]) if rest.len() <= 2 => {
            let version = LibraryVersion { major: *major, minor: *minor, patch: 0, build: 0 };
            if version.is_accepted() {
                Ok(())
            } else if (*major, *minor) < OLDEST_LIBRARY {
                Err(Unusable::TooOld)
            } else {
                Err(Unusable::TooNew)
            }
        }
        _ => Err(Unusable::Malformed),
    }
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
    fn known_versions_are_usable() {
        assert!(KNOWN_VERSIONS.iter().all(|version| check_version(version).is_ok()));
    }

    #[test]
    fn versions_out_of_range_are_told_apart() {
        for (version, expected) in [
            ("1", Ok(())),
            ("1.7", Ok(())),
            ("1.4.0.76", Err(Unusable::TooOld)),
            ("0", Err(Unusable::TooOld)),
            ("1.8", Err(Unusable::TooNew)),
            ("10.3", Err(Unusable::TooNew)),
            ("", Err(Unusable::Malformed)),
            ("1.7.1.116.2", Err(Unusable::Malformed)),
            ("1.x", Err(Unusable::Malformed)),
            ("1.+7", Err(Unusable::Malformed)),
            ("../1.7", Err(Unusable::Malformed)),
        ] {
            assert_eq!(check_version(version), expected, "{version}");
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
    fn every_sm_is_supported_or_has_an_alternative() {
        for sm in [75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121] {
            assert!(SMS.contains(&sm) != instead(Sm(sm)).is_some(), "sm_{sm}");
        }
    }
}
