//! Computes, at compile time, the digests of the sources that decide what a canonical model is, and what is measured, so
//! that nobody can forget to raise a version number (see `plan::keys`); and compiles the deterministic runtime of
//! workers (see `worker::det`), a library that the program carries inside.

#![expect(clippy::disallowed_methods, reason = "a build script has files of its own")]

#[path = "build/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};

fn main() {
    deterministic_runtime();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/sources.rs");
    // What only explains decides nothing.
    let words = "src/onnx/diff.rs";
    // The oracle is made from what is prepared, and decides nothing of it.
    let prepare = ["src/onnx", "src/precision"];
    println!(
        "cargo::rustc-env=ENGINEWRIGHT_PREPARE_VERSION={}",
        digest(&prepare, &["src/precision/oracle", words])
    );
    let measure = ["src/onnx", "src/precision", "src/verify", "src/worker/reference"];
    println!("cargo::rustc-env=ENGINEWRIGHT_MEASURE_VERSION={}", digest(&measure, &[words]));
    let run = [&measure[..], &["src/worker/on_gpu"]].concat();
    println!("cargo::rustc-env=ENGINEWRIGHT_RUN_VERSION={}", digest(&run, &[words]));
}

/// Crates whose code decides what is prepared: which nodes a rule selects, how numbers are rounded, the bytes of a model.
const CRATES: [&str; 4] = ["globset", "half", "prost", "regex"];

/// Digest of all sources in these folders, but for those in others, and of the versions of [`CRATES`].
fn digest(folders: &[&str], without: &[&str]) -> String {
    // To cargo, what does not exist has always changed.
    for path in folders.iter().chain(&["Cargo.lock"]).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let mut hasher = blake3::Hasher::new();
    for file in sources::sources(folders, without) {
        let bytes = std::fs::read(&file).expect("a source file that was just listed can be read");
        hasher.update(file.to_string_lossy().as_bytes()).update(b"\0");
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    let lock = std::fs::read_to_string("Cargo.lock").expect("a package comes with its lock file");
    for version in sources::versions(&lock, &CRATES) {
        hasher.update(version.as_bytes()).update(b"\0");
    }
    hasher.finalize().to_hex().to_string()
}

fn deterministic_runtime() {
    let folder = Path::new("src/worker/det");
    println!("cargo::rerun-if-changed={}", folder.display());
    let library = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("det.so");
    let compiler = cc::Build::new().opt_level(2).debug(false).pic(true).get_compiler();
    let status = compiler
        .to_command()
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-o"])
        .arg(&library)
        .args([folder.join("alloc.c"), folder.join("threads.c")])
        .args(["-ldl", "-lpthread"])
        .status();
    assert!(status.is_ok_and(|s| s.success()), "the C compiler cannot compile `{}`", folder.display());
}
