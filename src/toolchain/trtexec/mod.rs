//! Full TensorRT, 8.6 to 11, through its `trtexec`.
//!
//! What differs by version is data: [`flags`] are its options, [`layers`] the names that its ONNX parser gives to layers.
//! [`arguments`] says what is asked in the words of one version, and [`outcome`] reads what came of it.

mod command;
pub mod flags;
pub mod layers;
mod ld_cache;
mod locate;
pub mod outcome;
mod runner;
mod version;

pub use command::{Asked, Paths, Range, Types, Unavailable, arguments, is_writable, quoted};
pub use locate::{Installed, NotInstalled, find, find_by_runner, program_in_path};
pub use runner::{Place, Runner, UnusableRunner};
pub use version::Version;
