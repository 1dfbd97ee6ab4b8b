//! What every step of a run needs.

use std::time::Duration;

use super::events::Sink;
use crate::cache::Cache;
use crate::manifest::Manifest;
use crate::plan::Lock;
use crate::source;
use crate::worker::{CancelToken, Client};

/// What every step of a run needs. Made once, by `cli`.
pub struct Context<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The cache.
    pub cache: Cache,
    /// Starts workers.
    pub worker: Client,
    /// How sources are fetched, and if they may be.
    pub source: source::Settings,
    /// The lock file as it was when the run began.
    pub lock: Lock,
    /// How many workers may run at once.
    pub jobs: usize,
    /// Bytes of memory that all workers together should stay under.
    pub memory: u64,
    /// Who is told what happens.
    pub events: &'a dyn Sink,
    /// Stops the run.
    pub cancel: CancelToken,
}

/// Wall-clock limit for reading a model.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Wall-clock limit for asking a library its version.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(120);

/// Version of this program, recorded with everything it makes.
pub(super) const TOOL: &str = concat!("enginewright ", env!("CARGO_PKG_VERSION"));
