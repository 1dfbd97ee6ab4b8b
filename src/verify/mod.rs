//! Accuracy: inputs for a model, metrics of what it gives beside its reference, and the verdict.
//!
//! The way of the data: what a manifest says becomes a [`MeasureSpec`], which holds everything by value; a worker
//! makes or reads the [`Sample`]s it names, runs reference and oracle, and [`compare`]s their outputs; what it gives is
//! [`Measured`], which is kept. [`judge`] holds that against tolerances. So a tolerance that changes runs nothing.
//!
//! Knows no ONNX Runtime and no cache.

mod bound;
mod drift;
mod generate;
mod judge;
mod measured;
mod metrics;
mod npy;
mod random;
mod sample;
mod spec;
#[cfg(test)]
mod tests;
mod tune;

pub use bound::index_bounds;
pub use drift::{
    Broken as BrokenNode, DRIFT_LIMIT, Drift, DriftRow, FP16_MAX, NodeDrift, Untapped, ValueDrift,
};
pub use generate::{Shapes, sample_count};
pub use judge::{
    DEFAULT_TOLERANCE, Judgement, NOT_RUN, Ran, Row, Verdict, is_at_least, judge, judge_run, judged_by,
};
pub use measured::{Measured, Number, OnGpu, Optimistic, OutputMetrics, SampleMetrics};
pub use metrics::compare;
pub use npy::Broken;
pub use sample::{Array, Sample, SampleError, load, width};
pub use spec::{Inputs, MeasureSpec, ProfileShapes, SampleFile, SampleFiles, check, list_samples};
pub use tune::{Found, Nodes, Probe, Selection, search, selections};
