//! Faults: kills at any moment, damage, full and failing disks, many processes at once, a clock that is set back.
//!
//! `SOAK_SECONDS` says for how long (4 unless told; `make soak` takes an hour), `SOAK_ONLY` names a stage alone,
//! `SOAK_SEED` repeats one. What is right is known from engines
//! that were built in peace: whatever happens, nothing else is ever published, nothing that was built is lost, nothing
//! hangs, and every damaged bit is found. Where speed matters, TensorRT is left out (see `support/fake.rs`); a tenth
//! of the kills hits the real one.

mod bed;
mod damage;
mod disks;
mod kills;

use std::time::{Duration, Instant};

use bed::{Bed, Counts};

/// A stage of the test, and its share of the time.
type Stage = (&'static str, u32, fn(&mut Bed, Instant));

const STAGES: [Stage; 4] = [
    ("kills", 62, kills::fake),
    ("kills with TensorRT", 12, kills::real),
    ("flips", 20, damage::flips),
    ("disks and clocks", 6, disks::all),
];

#[test]
fn nothing_wrong_nothing_lost_nothing_hangs() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let only = std::env::var("SOAK_ONLY").ok();
    let mut bed = Bed::new();
    for (name, share, stage) in STAGES.into_iter().filter(|s| only.as_deref().is_none_or(|only| only == s.0))
    {
        let share = if only.is_some() { 100 } else { share };
        let until = Instant::now() + Duration::from_secs(seconds) * share / 100;
        stage(&mut bed, until);
        eprintln!("after {name}: {:?}", bed.counts);
    }
    let Counts { wrong, lost, hung, flips, found, used, .. } = bed.counts;
    assert_eq!((wrong, lost, hung, used), (0, 0, 0, 0), "wrong, lost, hung, used: seed {}", bed.seed);
    assert_eq!(found, flips, "every flip is found: seed {}", bed.seed);
}

#[test]
fn sixteen_processes_build_each_engine_once() {
    kills::crowd();
}
