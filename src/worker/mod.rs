//! The worker boundary: TensorRT, ONNX Runtime, and reading of models and samples, happen in another process, whose death
//! in any manner is an error among others.
//!
//! The main process holds a [`Client`]; each [`Client::run`] starts the program again with one
//! argument, in a job folder of its own, and ends with an [`Outcome`] or a [`WorkerError`]. The
//! started program calls [`serve`], which knows nothing but its request and its current folder.
//!
//! **Architecture invariant**: they are loaded nowhere else, and `unsafe` code stays here.

mod canonicalize;
mod client;
mod codec;
mod cuda;
mod det;
mod error;
mod gpus;
mod inspect;
mod on_gpu;
mod prepare;
mod process;
pub mod program;
pub mod protocol;
mod reference;
mod server;
mod tensorrt;

pub use client::{CancelToken, Client, Limits, Outcome};
pub use error::{MemoryDeath, WorkerError};
pub use gpus::{NoGpus, local_gpus, only_gpu};
pub use reference::{NEWEST_REFERENCE, OLDEST_REFERENCE, REFERENCE_LIBRARY};
pub use server::{is_worker, serve};
pub use tensorrt::{
    BUILDER_LIBRARY, LibraryVersion, NEWEST_LIBRARY, OLDEST_LIBRARY, PARSER_LIBRARY, SUPPORTED_SMS,
};
