//! Full disks, failing disks, disks that are read-only, and wrong clocks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use super::bed::{Bed, MODELS, VARIANTS};
use crate::support::{fake, repository};

pub(super) fn all(bed: &mut Bed, until: Instant) {
    full_and_read_only(bed);
    loop {
        failing(bed);
        clock(bed);
        if Instant::now() >= until {
            break;
        }
    }
}

/// The library of `support/faults.c`.
pub(super) fn preloaded() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = repository().join("target/tmp/faults.so");
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        let source = repository().join("tests/it/support/faults.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(cc.status().unwrap().success(), "the faults cannot be compiled");
        library
    })
}

/// All models become others, so that all is to be built.
fn change_all(bed: &mut Bed) {
    let first = bed.below(VARIANTS);
    for model in 0..MODELS {
        let variant = (first + model) % VARIANTS;
        bed.variants[model] = variant;
        fake::set_variant(&bed.project, model, variant);
    }
}

/// Writes fail or are short, syncs and renames fail: an engine is right or not there, and the next run mends all.
fn failing(bed: &mut Bed) {
    change_all(bed);
    let cache = bed.cache();
    let rate = [3, 10, 30, 100, 300][bed.below(5)].to_string();
    for args in [&["apply"][..], &["cache", "verify"], &["cache", "gc", "--max-age", "0", "--force"]] {
        let mut command = fake::command(&bed.project, &cache, args);
        let ended = bed.finish(command.env("LD_PRELOAD", preloaded()).env("FAULTS", &rate));
        bed.counts.faults += 1;
        assert!(ended.code != 101, "a panic: {ended:?}");
        bed.judge(false);
    }
    bed.recover();
    let _ = bed.run(&["cache", "verify"]);
    bed.run(&["cache", "verify"]).expect(0);
}

/// A clock that goes back between runs, and within them.
fn clock(bed: &mut Bed) {
    for offset in ["864000", "-400000000"] {
        change_all(bed);
        let cache = bed.cache();
        for args in [&["apply"][..], &["plan"], &["cache", "gc"], &["cache", "verify"]] {
            let mut command = fake::command(&bed.project, &cache, args);
            bed.finish(command.env("LD_PRELOAD", preloaded()).env("CLOCK", offset)).expect(0);
            bed.counts.faults += 1;
        }
        bed.judge(true);
    }
}

/// A disk with room for some of the engines only, then for all, then without a right to write.
fn full_and_read_only(bed: &mut Bed) {
    let disk = bed.project.path("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mount = |options: &str, what: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, what]).arg(&disk).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !mount("size=400k", "none") {
        return eprintln!("SKIPPED full and read-only disks: mounting is not allowed here");
    }
    let cache = disk.join("cache");
    change_all(bed);
    // What is published already is not built again, and this cache has nothing yet.
    let _ = std::fs::remove_dir_all(bed.project.path("engines"));
    let mut apply = fake::command(&bed.project, &cache, &["apply"]);
    bed.finish(&mut apply).expect(1).says(&["o space left on device"]);
    bed.judge(false);
    assert!(mount("remount,size=40m", "none"));
    bed.finish(&mut apply).expect(0);
    bed.judge(true);
    let _ = std::fs::remove_dir_all(bed.project.path("engines"));
    assert!(mount("remount,ro", "none"));
    bed.finish(&mut apply).expect(0);
    bed.judge(true);
    bed.counts.faults += 3;
    assert!(Command::new("umount").arg("-l").arg(&disk).status().unwrap().success());
}
