//! Any bytes: refused, or brought into a canonical form that is its own canonical form.
#![no_main]

mod files;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    files::canonical(data);
});
