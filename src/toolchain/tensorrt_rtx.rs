//! Facts about TensorRT-RTX, as data.
//!
//! Which opsets its parser takes is not published; none is refused for its number alone.

use crate::gpu::Sm;
use crate::worker::{BUILDER_LIBRARY, NEWEST_LIBRARY, OLDEST_LIBRARY, PARSER_LIBRARY, SUPPORTED_SMS};

/// Compute capabilities that it builds for.
pub const SMS: [u32; 6] = SUPPORTED_SMS;

/// Is an FP32 matrix product that stands alone between Casts computed with half weights? Measured on 1.7.1.
pub const DEMOTES_LONE_GEMM: bool = true;

/// Operators that it does not take in a type that ONNX allows, by the manifest's name of the type. Measured on
/// 1.7.1.
pub const WITHOUT: [(&str, &str); 4] =
    [("ConvTranspose", "bf16"), ("HardSwish", "bf16"), ("LpPool", "bf16"), ("Mish", "bf16")];

/// The newest opset that it reads: not published.
pub const MAX_OPSET: Option<i64> = None;

/// The files that decide what it builds, by name.
pub const LIBRARIES: [&str; 2] = [PARSER_LIBRARY, BUILDER_LIBRARY];

/// The pip package that it is fetched from. `tensorrt-rtx-cu12-libs` has the same versions and
/// builds identical engines.
pub const PACKAGE: &str = "tensorrt-rtx-cu13-libs";

/// Folder of the libraries inside the wheel, and inside an environment that has it installed.
pub const FOLDER_IN_WHEEL: &str = "tensorrt_rtx_libs";

/// Releases that are known to exist as packages and to be usable.
pub const KNOWN_VERSIONS: [&str; 3] = ["1.5.0.114", "1.6.1.120", "1.7.1.116"];

/// The oldest and the newest minor version that work.
pub const ACCEPTED: ((u32, u32), (u32, u32)) = (OLDEST_LIBRARY, NEWEST_LIBRARY);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sm_is_supported_or_has_an_alternative() {
        for sm in [75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121] {
            assert!(SMS.contains(&sm) != instead(Sm(sm)).is_some(), "sm_{sm}");
        }
    }
}
