//! A plan carried out: facts gathered, workers run, engines published. Prints nothing: it emits
//! [`Event`]s.

mod context;
mod events;
mod execute;
mod failure;
mod gather;
mod publish;
mod run;
mod scheduler;

pub use context::Context;
pub use events::{Event, Sink};
pub use failure::{Failure, replay};
pub use gather::{Gathered, gather};
pub use publish::{Sidecar, engine_path, orphans, published, sidecar_path};
pub use run::{EngineOutcome, Outcome, RunError, RunSummary, apply};
