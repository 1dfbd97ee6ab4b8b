//! Rust's own memory, which never comes from the arenas: what our code allocates in the midst of TensorRT's calls (a
//! log line, say) must not move TensorRT's addresses, or every change of ours would change engines.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

#[expect(unsafe_code, reason = "glibc's allocator by the names that are never interposed")]
unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
}

/// glibc's allocator, whatever stands before it.
struct Glibc;

#[global_allocator]
static GLIBC: Glibc = Glibc;

/// What glibc aligns to without being asked.
const ALIGNED: usize = 16;

// SAFETY: these are the functions behind `malloc`, with its promises: blocks of at least the size asked for, aligned
// to 16 bytes or as asked, distinct, and null if there is no memory. None of them unwinds.
#[expect(unsafe_code, reason = "an allocator is")]
unsafe impl GlobalAlloc for Glibc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size will do, and Rust's alignments are powers of two.
        unsafe {
            if layout.align() <= ALIGNED {
                __libc_malloc(layout.size()).cast()
            } else {
                __libc_memalign(layout.align(), layout.size()).cast()
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNED {
            // SAFETY: any size will do.
            return unsafe { __libc_calloc(1, layout.size()).cast() };
        }
        // SAFETY: as the caller promises; the block has the layout's size.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller gives what one of the functions here gave.
        unsafe { __libc_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= ALIGNED {
            // SAFETY: the caller gives what one of the functions here gave.
            return unsafe { __libc_realloc(block.cast(), size).cast() };
        }
        // SAFETY: as the caller promises: the new size is not zero, nor too large for the alignment.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}
