//! Full TensorRT, 8.6 to 11, through its `trtexec`.
//!
//! What differs by version is data: [`flags`] are its options.

pub mod flags;
mod version;

pub use version::Version;
