//! enginewright: infrastructure as code for NVIDIA TensorRT engines.
//!
//! The folders are the stages, in the order of the data:
//!
//! | stage | from | to |
//! |---|---|---|
//! | [`manifest`] | TOML | a valid [`manifest::Manifest`] |
//! | [`source`] | a source declaration | a model file at hand |
//! | [`onnx`] | bytes | a graph, and its canonical bytes |
//! | [`precision`] | rules x graph | the type of each node, and the typed graph |
//! | [`engine`] | an engine file | what its kernels do, and the proof that FP32 nodes are FP32 |
//! | [`verify`] | samples, metrics, tolerances | a verdict |
//! | [`worker`] | a request | a result from another process, whatever happens in it |
//! | [`toolchain`] | a declaration | files of TensorRT or ONNX Runtime, identified and probed |
//! | [`cache`] | bytes and keys | blobs and results that can be trusted |
//! | [`plan`] | manifest x facts | actions, each with its reason |
//! | [`build`] | a plan | engines, published |
//! | [`export`] | what is known of an engine | the words of other programs |
//! | [`report`] | what is recorded | a page |
//! | [`import`] | a command line of `trtexec` | a manifest that does the same |
//! | [`cli`] | arguments | text, JSON and exit codes |
//!
//! On the ground floor, for all: [`digest`], [`diagnostic`], [`fs`], [`gpu`].

pub mod build;
pub mod cache;
pub mod cli;
pub mod diagnostic;
pub mod digest;
pub mod engine;
pub mod export;
pub mod fs;
pub mod gpu;
pub mod import;
pub mod manifest;
pub mod onnx;
pub mod plan;
pub mod precision;
pub mod report;
pub mod source;
pub mod toolchain;
pub mod verify;
pub mod worker;
