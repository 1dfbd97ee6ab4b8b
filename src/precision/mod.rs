//! Precision: which node computes in which type, and the model rewritten so that it does.
//!
//! The way: rules of an engine become data ([`spec`]); constants that are cast to FP32 become FP32 (`fold`); decomposed
//! norms are fused (`fusion`); selectors find nodes (`select`, `choose`, `pattern`) in the model
//! as rules see it (`view`, `signature`); the last rule that matches decides (`assign`), unless ONNX, the toolchain,
//! arithmetic on shapes (`shape_math`), what moves elements between FP32 nodes (`movers`) or a matrix product that would be
//! demoted (`gemm`) does, by who gives values to whom (`edges`); then every value
//! is given its form (`plan`, `io`) and the graph is rewritten (`rewrite`, `made`, `names`, `weights`), what does
//! not fit into 16 bits is told (`hazard`, `mask`, `saturation`, `range`, `attention`), and the result is inferred anew and held
//! against the assignment (`check`). What the typed model computes, rounding by rounding, is computed anywhere by its
//! [`oracle`].
//!
//! Knows no TensorRT: what a toolchain does is given as [`Capabilities`].
//!
//! Invariant: the same model and the same [`Spec`], names of rules aside, give the same bytes.

mod assign;
mod attention;
mod chains;
mod check;
mod choose;
mod edges;
mod float;
mod fold;
mod fusion;
mod gemm;
mod hazard;
#[cfg(test)]
mod hazard_tests;
mod io;
mod made;
mod mask;
mod movers;
mod names;
pub mod oracle;
mod pattern;
mod plan;
mod prepare;
mod problem;
mod range;
mod rewrite;
mod saturation;
mod select;
mod shape_math;
mod signature;
mod spec;
pub mod std_fp16;
#[cfg(test)]
mod tests;
mod view;
mod weak;
mod weights;

pub use assign::{Assignment, Decider, Layer, NodeAssignment, RuleMatch};
pub use float::FloatType;
pub use prepare::{Prepared, prepare, prepare_files};
pub use problem::{Fix, Problem};
pub use spec::{Capabilities, ResolvedRule, RuleSpec, Select, Spec, Weak, resolve, spec};
