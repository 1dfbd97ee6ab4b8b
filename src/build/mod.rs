//! A plan carried out: facts gathered, workers run, engines published. Prints nothing: it emits
//! [`Event`]s.

mod accuracy;
mod action;
mod check;
mod context;
mod drift;
mod estimate;
mod events;
mod execute;
mod failure;
mod gather;
mod keep;
mod materials;
mod pins;
mod prepare;
mod publish;
mod rebuild;
mod relock;
mod run;
mod scheduler;
mod sources;
mod toolchains;
mod trtexec;
mod tune;
mod verify;

pub use action::{Place, Repeated, build_action};
pub use check::{Checked, check, models};
pub use context::{Context, TOOL};
pub use drift::{Drifted, layers, recorded as recorded_layers};
pub use estimate::{Estimate, estimate};
pub use events::{Event, Made, Sink};
pub use failure::{Failure, last_failure, log_text, replay};
pub use gather::{Gathered, causes_since, gather};
pub use keep::{Keep, results_of, what_to_keep};
pub use materials::{Material, materials};
pub use pins::proof as proof_of_pins;
pub use prepare::{ModelRules, model_rules};
pub use publish::{Sidecar, engine_path, orphans, read_sidecar, sidecar_path};
pub use rebuild::{Class, Difference, Evidence, Rebuilt, rebuild};
pub use relock::{Relocked, Upgrade, git_attributes, relock};
pub use run::{ApplyOptions, EngineOutcome, Outcome, RunSummary, apply, locked_differences};
pub use sources::read_model;
pub use toolchains::find as find_toolchain;
pub use trtexec::{Asking, asking, write_model};
pub use tune::{TuneStep, Tuned, tune};
pub use verify::{Verified, VerifyOutcome, verify};
