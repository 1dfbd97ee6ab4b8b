//! Workers whose engines are the same, bit for bit.
//!
//! TensorRT's bytes follow the addresses of its heap and the timing of its threads: the same request gives one of
//! several engines. `alloc.c` and `threads.c` take both away. They make a library that the program carries inside
//! ([`LIBRARY`]), that lies in the job folder and is loaded before any other (`LD_PRELOAD`), and that stands
//! between TensorRT and libc: memory comes from fixed addresses, and threads take turns. It does nothing until
//! [`begin`].
//!
//! What else could reach the bytes has one form in every job: the environment is cleared, the current folder is
//! the job's, and files, TensorRT's libraries included, have the same names in it.
//!
//! Our own code allocates beside all that (`allocator.rs`), so that no change of it changes an engine.
//!
//! Where the library cannot be loaded (no execution from the file system of the cache), or memory cannot be had at
//! fixed addresses (a container may forbid it), the worker is a plain one, and says so. Where threads wait for each other for ever, the worker ends with [`EXIT_DEADLOCK`], and the build
//! is done again by a plain one.
//!
//! Knows nothing of TensorRT.

#[cfg(target_env = "gnu")]
mod allocator;

use std::ffi::{CStr, c_int};
use std::path::Path;

use crate::fs;

/// The compiled library.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/det.so"));

/// Its name in the job folder.
const FILE: &str = "det.so";

/// What the loader is told. The worker is started in the job folder.
pub(super) const PRELOAD: (&str, &str) = ("LD_PRELOAD", "./det.so");

/// How a worker ends whose threads all wait. The same number is in `det.h`.
pub(super) const EXIT_DEADLOCK: i32 = 86;

/// How a worker ends that has more threads than can be managed. The same number is in `det.h`.
pub(super) const EXIT_THREADS: i32 = 87;

/// Where the arenas begin. The same number is in `alloc.c`.
const BASE: usize = 0x1000_0000_0000;

/// Puts the library into a job folder.
pub(super) fn install(job: &Path) -> fs::Result<()> {
    fs::write_atomic(&job.join(FILE), LIBRARY)
}

/// From here on the calling thread, and those that it starts, are deterministic. False if the library is not
/// loaded or cannot have its memory, and the process is a plain one.
#[must_use]
pub(super) fn begin() -> bool {
    is_allowed() && call(c"enginewright_det_begin") == Some(1)
}

/// May we have memory at the addresses of the arenas? Asked before TensorRT is: to a library, memory that cannot be had
/// is a crash. Nothing stays mapped.
#[expect(unsafe_code, reason = "mapping a page at an address")]
fn is_allowed() -> bool {
    const PAGE: usize = 4096;
    let (read_write, nobody) = (libc::PROT_READ | libc::PROT_WRITE, -1);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let wanted = BASE as *mut libc::c_void;
    // SAFETY: the flags replace no mapping that is there, and what was mapped is ours alone.
    unsafe {
        let page = libc::mmap(wanted, PAGE, read_write, flags, nobody, 0);
        if page == libc::MAP_FAILED {
            return false;
        }
        libc::munmap(page, PAGE);
        page == wanted
    }
}

/// The end of it, for the same thread.
pub(super) fn end() {
    call(c"enginewright_det_end");
}

/// Calls a function of the library, if that is loaded.
#[expect(unsafe_code, reason = "a function that only the loader knows")]
fn call(name: &CStr) -> Option<c_int> {
    // SAFETY: the name is a C string; a null pointer is the answer if nothing has that name.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if function.is_null() {
        return None;
    }
    // SAFETY: both functions of our library take nothing and give an `int`.
    unsafe { Some(std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> c_int>(function)()) }
}

#[cfg(test)]
mod tests {
    /// An engine's bytes follow every address and every turn. If this fails: does the change move one? Then raise
    /// `plan::BUILD_VERSION`. Write the new digest here.
    #[test]
    fn a_change_of_the_runtime_is_a_change_of_the_recipe() {
        let mut hasher = blake3::Hasher::new();
        for source in [include_str!("alloc.c"), include_str!("threads.c"), include_str!("det.h")] {
            hasher.update(source.as_bytes());
        }
        assert_eq!(&hasher.finalize().to_hex()[..16], "91025d21f0486607");
    }
}
