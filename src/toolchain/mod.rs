//! A declared toolchain to files on this machine, with an identity.
//!
//! The identity is what the files are, not what they say they are: the version is asked for once,
//! in a worker, and stored by the caller under the identity. Knows nothing of what is built.

mod identity;
mod locate;
mod onnxruntime;
mod product;
pub mod tensorrt_rtx;
pub mod trtexec;

pub use identity::{Identity, identify};
pub use locate::{
    DownloadedWheel, Error, Located, WheelError, WheelPin, Wheels, fetch, fetched, find_in_root,
};
pub use product::{Product, Unusable, product, satisfies};

use crate::gpu::Sm;
use crate::manifest::ToolchainKind;

/// The compute capabilities that a kind of toolchain builds for, where that is known.
#[must_use]
pub fn sms(kind: ToolchainKind) -> Option<Vec<Sm>> {
    (kind == ToolchainKind::TensorrtRtx).then(|| tensorrt_rtx::SMS.map(Sm).to_vec())
}
