//! Manifest x facts -> plan. Pure: no file, no process, no clock.

mod causes;
mod decide;
mod facts;
mod file;
pub mod keys;
mod lock;
mod locked;
mod profiles;
mod reason;
mod relocked;
#[cfg(test)]
mod tests;
pub mod trtexec;

pub use causes::{Models, NamedRule, Now, causes};
pub use decide::{Action, Keyed, Planned, check, decide, emulated_spec, fits, keyed, spec};
pub use facts::{
    Accuracy, AccuracyFact, BuiltRef, Judged, ModelRef, PreparedRef, Previous, Published, RunRef, SourceFact,
    ToolchainFact, ToolchainRef,
};
pub use file::{PlanEntry, PlanFile, PlanFileError, PlanInputs, Told};
pub use lock::{
    FILE_NAME as LOCK_FILE_NAME, Lock, LockError, LockedEngine, LockedSource, LockedToolchain, relative,
    source_id,
};
pub use locked::{Present, differences, same_engine, same_verdict};
pub use profiles::{ResolvedProfile, show_dims};
pub use reason::{Reason, fields};
pub use relocked::lock_changes;
pub use trtexec::{Builder, Trtexec};
