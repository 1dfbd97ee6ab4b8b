//! The oracle: a model in FP16 or BF16, as an FP32 graph that any machine computes the same way.
//!
//! ONNX Runtime computes FP16 graphs in FP32 on a CPU, and so hides what FP16 loses. Here every value and weight
//! of 16 bits becomes FP32, and is rounded to its type and back, through two Casts, wherever a GPU would round it.
//! Where that is says `table`, operator by operator; the graph is made by `write`, and operators that round in
//! their middle are taken apart by `parts`.
//!
//! What is verified is what is built: the oracle is made from the prepared model, whatever made that.
//!
//! Invariants: every value of the prepared model has the same name in the oracle, and is FP32 there if it is of
//! one of the three types; names that the oracle adds hold a `/`. A model without 16 bits stays as it is.

mod parts;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use table::{Class, Row, TABLE, row};

use serde::{Deserialize, Serialize};

use super::float::FloatType;
use super::problem::Problem;
use crate::onnx::Model;

/// A model that computes in FP32 what another computes in 16 bits.
#[derive(Debug)]
pub struct Oracle {
    /// The FP32 graph. Run it without graph optimizations: they may leave Casts out.
    pub model: Model,
    /// Every node with a result of 16 bits, in order; those of a subgraph follow their node. Constants and
    /// nodes that only hold subgraphs are left out.
    pub rounding: Vec<Rounding>,
}

/// How far the oracle can be trusted at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounding {
    /// The node's name, as in an assignment.
    pub node: String,
    /// Its operator, `domain::Op` outside the default domain.
    pub op: String,
    /// The type of its results.
    #[serde(rename = "type")]
    pub of: FloatType,
    /// Does the GPU do the same?
    pub class: Class,
    /// Why.
    pub reason: String,
}

/// Makes the oracle of a prepared model.
///
/// # Errors
/// The model holds something of 16 bits that cannot be computed so: it is named.
pub fn oracle(prepared: &Model) -> Result<Oracle, Vec<Problem>> {
    write::write(prepared)
}
