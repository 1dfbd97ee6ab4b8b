//! Integration tests: the real program, the real TensorRT-RTX, real processes.
#![expect(clippy::disallowed_methods, reason = "tests prepare files and folders as users do")]
#![expect(clippy::print_stderr, reason = "what was skipped, and at which moment was killed, is printed")]

mod accuracy;
mod apply;
mod architecture;
mod bad_input;
mod cache;
mod cache_odd;
mod casts;
mod check;
#[path = "../../benches/crossing.rs"]
mod crossing;
mod docs;
mod examples;
mod fuse;
mod gpu;
mod hermetic;
mod import;
mod init;
mod inspect;
mod keys;
mod kill;
mod large;
mod layers;
mod lock_file;
mod locked;
mod memo;
mod models;
mod on_gpu;
mod onnx_cases;
mod opset;
mod oracle;
mod pins;
mod plan_file;
mod precision;
mod provenance;
mod rebuild;
mod report;
mod schema;
mod soak;
mod support;
mod trtexec;
mod trtexec_lines;
mod trtexec_runner;
mod trtexec_timings;
mod typed;
mod verify;
mod why;
mod wrong;
