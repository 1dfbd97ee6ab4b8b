//! Computes, at compile time, the digests of the sources that decide what a canonical model is, and what is measured, so
//! that nobody can forget to raise a version number (see `plan::keys`); and compiles the deterministic runtime of
//! workers (see `worker::det`), a library that the program carries inside.

#![expect(clippy::disallowed_methods, reason = "a build script has files of its own")]

use std::path::{Path, PathBuf};

fn main() {
    deterministic_runtime();
    println!("cargo::rerun-if-changed=build.rs");
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

/// Digest of all sources in these folders, but for those in others.
fn digest(folders: &[&str], without: &[&str]) -> String {
    let mut files = Vec::new();
    for folder in folders {
        if !Path::new(folder).exists() {
            continue; // To cargo, what does not exist has always changed.
        }
        println!("cargo::rerun-if-changed={folder}");
        collect(Path::new(folder), &mut files);
    }
    files.retain(|file| !without.iter().any(|folder| file.starts_with(folder)));
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = std::fs::read(&file).expect("a source file that was just listed can be read");
        hasher.update(file.to_string_lossy().as_bytes()).update(b"\0");
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.ends_with("testing") {
                continue;
            }
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "txt") && !path.ends_with("testing.rs") {
            files.push(path);
        }
    }
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
