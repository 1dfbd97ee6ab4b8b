//! Hashes every file of a folder as sources are hashed that were never seen: `bench-hash FOLDER`.
#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]
#![expect(clippy::print_stdout, reason = "a benchmark tells")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use enginewright::cache::Cache;
use enginewright::fs;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap());
    let files = fs::list(&folder).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let cache = Cache::open(scratch.path()).unwrap();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    cache.file_digest(file).unwrap();
                }
            });
        }
    });
    println!("{} files", files.len());
}
