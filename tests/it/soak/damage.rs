//! Flipped bits and cut files: found by `cache verify`, and never used.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bed::{Bed, files};
use crate::support::fake;

/// What is damaged, by its place in the cache.
const KINDS: [&str; 6] = ["cas", "results", "stat", "used", "memo", "locks"];

pub(super) fn flips(bed: &mut Bed, until: Instant) {
    bed.recover();
    // Results that are used a day later are in `used`, and what is planned when all is settled is in `memo`.
    let faults = super::disks::preloaded();
    std::thread::sleep(Duration::from_millis(2100));
    let cache = bed.cache();
    let mut later = fake::command(&bed.project, &cache, &["plan"]);
    bed.finish(later.env("LD_PRELOAD", faults).env("CLOCK", "172800")).expect(0);
    bed.run(&["plan"]).expect(0).says(&["nothing to do"]);
    let good = bed.project.path("good");
    let _ = std::fs::remove_dir_all(&good);
    std::fs::rename(&cache, &good).unwrap();
    for kind in KINDS {
        let is_there = kind == "locks" || good.join("v1").join(kind).exists();
        assert!(is_there, "there is no `{kind}` to damage");
    }
    loop {
        let kind = KINDS[bed.below(KINDS.len())];
        copy(&good, &cache);
        if damage(bed, &cache.join("v1").join(kind), kind) {
            hold(bed, kind);
        }
        std::fs::remove_dir_all(&cache).unwrap();
        if Instant::now() >= until {
            break;
        }
    }
    std::fs::rename(&good, &cache).unwrap();
    bed.recover();
}

/// Damages one file of this kind.
fn damage(bed: &mut Bed, place: &Path, kind: &str) -> bool {
    if kind == "locks" {
        // What a process left that was killed.
        std::fs::write(place.join(format!("build-{}.lock", "0".repeat(64))), "4711 build\n").unwrap();
    }
    let mut candidates: Vec<PathBuf> = if place.is_file() { vec![place.to_owned()] } else { files(place) };
    // Of an empty log there is nothing to damage.
    candidates.retain(|file| file.metadata().is_ok_and(|m| m.len() > 0));
    if candidates.is_empty() {
        return false;
    }
    let path = &candidates[bed.below(candidates.len())];
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let at = bed.below(bytes.len());
    if bed.below(4) == 0 {
        bytes.truncate(at);
    } else {
        bytes[at] ^= 1 << bed.below(8);
    }
    std::fs::write(path, bytes).unwrap();
    true
}

/// Half of the time it is used at once, else it is looked for first.
fn hold(bed: &mut Bed, kind: &str) {
    let wrong = bed.counts.wrong;
    let _ = std::fs::remove_dir_all(bed.project.path("engines"));
    if bed.below(2) == 0 {
        bed.run(&["apply"]).expect(0);
        bed.judge(true);
        bed.counts.met += 1;
        // What nobody needed is found now.
        let verify = bed.run(&["cache", "verify"]);
        assert!([0, 1].contains(&verify.code), "{verify:?}");
    } else {
        bed.counts.flips += 1;
        let verify = bed.run(&["cache", "verify"]);
        // A lock without a holder is swept before anybody reads it.
        let is_found =
            verify.code == 1 && verify.stdout.contains("damaged") || kind == "locks" && verify.code == 0;
        bed.counts.found += usize::from(is_found);
        if !is_found {
            eprintln!("NOT FOUND, in {kind}: {verify:?}");
        }
        bed.recover();
        bed.run(&["cache", "verify"]).expect(0);
    }
    bed.counts.used += bed.counts.wrong - wrong;
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
