//! What happens during a run. Progress, JSON and the run record are consumers.

use serde::Serialize;

use crate::digest::Digest;
use crate::plan::{Action, Reason};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// The command.
        command: String,
        /// The project's root: a cache may hold the runs of many.
        project: String,
        /// The program.
        tool: String,
        /// How many engines it is asked for.
        engines: usize,
    },
    /// A toolchain is being fetched.
    ToolchainFetching {
        /// Kind and version.
        toolchain: String,
    },
    /// A toolchain was fetched.
    ToolchainFetched {
        /// Kind and version.
        toolchain: String,
        /// How long it took, in ms.
        ms: u64,
    },
    /// A toolchain could not be fetched.
    ToolchainFailed {
        /// Kind and version.
        toolchain: String,
    },
    /// A source is being looked for, fetched if need be, and read.
    SourceStarted {
        /// The source.
        source: String,
    },
    /// A source is the one that was read before.
    SourceKnown {
        /// The source.
        source: String,
    },
    /// A source was read.
    SourceRead {
        /// The source.
        source: String,
        /// How long it took, in ms.
        ms: u64,
    },
    /// A source is not usable.
    SourceFailed {
        /// The source.
        source: String,
    },
    /// A model is being given its precision.
    PrepareStarted {
        /// The first of the engines that it is for.
        engine: String,
    },
    /// A model was given its precision.
    PrepareFinished {
        /// The first of the engines that it is for.
        engine: String,
        /// How long it took, in ms.
        ms: u64,
    },
    /// A model cannot be given its precision.
    PrepareFailed {
        /// The first of the engines that it is for.
        engine: String,
    },
    /// It is decided what to do for an engine.
    Planned {
        /// The engine.
        engine: String,
        /// What is to be done.
        action: Action,
        /// Why.
        reasons: Vec<Reason>,
        /// Key of its build, if it is known.
        build: Option<Digest>,
    },
    /// A build begins.
    BuildStarted {
        /// The first of the engines that it makes.
        engine: String,
        /// All of them: engines with equal inputs are built once.
        engines: Vec<String>,
        /// Size of the model that it is built from, in bytes.
        size: u64,
    },
    /// Another process builds the same engine; this one waits.
    BuildWaiting {
        /// The engine.
        engine: String,
        /// The other process.
        pid: u32,
    },
    /// A build is done.
    BuildFinished {
        /// The first of the engines that it makes.
        engine: String,
        /// How long it took, in ms.
        ms: u64,
        /// Size of the engine in bytes.
        size: u64,
        /// Peak resident memory of the worker in bytes.
        peak_rss: u64,
        /// Was the result found in the cache after all (another process made it)?
        from_cache: bool,
    },
    /// A build failed.
    BuildFailed {
        /// The first of the engines that it would have made.
        engine: String,
        /// Stable code.
        code: String,
        /// What is wrong.
        message: String,
    },
    /// The accuracy of an engine is being measured.
    MeasureStarted {
        /// The engine.
        engine: String,
        /// How many samples.
        samples: u64,
    },
    /// It was measured.
    MeasureFinished {
        /// The engine.
        engine: String,
        /// How long it took, in ms.
        ms: u64,
        /// The verdict.
        verdict: String,
    },
    /// It cannot be measured.
    MeasureFailed {
        /// The engine.
        engine: String,
        /// Stable code.
        code: String,
        /// What is wrong.
        message: String,
    },
    /// An engine is in its place.
    Published {
        /// The engine.
        engine: String,
        /// Where, relative to the project.
        path: String,
        /// `reflink`, `link` or `copy`.
        how: String,
    },
    /// It is known what came of an engine.
    EngineFinished {
        /// The engine.
        engine: String,
        /// What came of it.
        outcome: Made,
        /// Why it was to be done, as text.
        why: Vec<String>,
        /// Size in bytes; 0 if there is none.
        size: u64,
        /// How long its build took, whenever that was, in ms.
        build_ms: u64,
        /// What is known of its accuracy.
        verdict: String,
        /// Why it failed.
        errors: Vec<String>,
    },
    /// A run came to its end.
    RunFinished {
        /// How long it took, in ms.
        ms: u64,
    },
    /// Something worth knowing happened on the way.
    Warning {
        /// What.
        message: String,
    },
}

/// What came of an engine, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// It was built in this run.
    Built,
    /// Its build was in the cache: of another run, another project or another process.
    Cache,
    /// It is the very engine that the lock file names, put back from the cache.
    Restored,
    /// It is what is published.
    Unchanged,
    /// It failed.
    Failed,
    /// The run was stopped before it was done.
    NotDone,
}

/// Who is told what happens. Called from several threads.
pub trait Sink: Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

impl<F: Fn(&Event) + Sync> Sink for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}
