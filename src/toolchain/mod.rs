//! A declared toolchain to files on this machine, with an identity.
//!
//! The identity is what the files are, not what they say they are: the version is asked for once,
//! in a worker, and stored by the caller under the identity. Knows nothing of what is built.

mod identity;
mod locate;
pub mod tensorrt_rtx;

pub use identity::{Identity, identify};
pub use locate::{
    DownloadedWheel, Error, Located, WheelError, WheelPin, Wheels, fetch, fetched, find_in_root,
};
