//! Operator -> where it rounds, and if the GPU does the same.
//!
//! Sources: types in the plans of TensorRT-RTX 1.7.1, in which elementwise operators write half each, reductions
//! sum in FP32 and write half, and products leave the type of their sums to the library.

use serde::{Deserialize, Serialize};

use super::super::float::FloatType;

/// Is the oracle as strict as the GPU?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It rounds where the GPU rounds: equal but for the last bit.
    Exact,
    /// It may be kinder than the GPU.
    Optimistic,
}

/// Where an operator rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounds {
    /// Nowhere: its results are among its inputs.
    Never,
    /// Once, its result.
    Result,
    /// Once, its result, which is computed from the definition: ONNX Runtime's own is not FP32 at its ends.
    Sigmoid,
    /// The sum after each addend.
    EachSum,
    /// What it applies to each element, the sum, and what it applies to the sum.
    Reduction {
        /// Before the sum.
        before: Option<&'static str>,
        /// After the sum.
        after: Option<&'static str>,
    },
    /// The normalized value, then scaled, then with the bias.
    Norm,
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rounds::Never => "nowhere",
            Rounds::Result | Rounds::Sigmoid => "its result",
            Rounds::EachSum => "after each addend",
            Rounds::Reduction { before: Some(_), after: Some(_) } => "each term, the sum, the result",
            Rounds::Reduction { before: Some(_), after: None } => "each term, the sum",
            Rounds::Reduction { .. } => "the sum, the result",
            Rounds::Norm => "the normalized value, the scaled value, the result",
        })
    }
}

/// A row: operators that round alike.
#[derive(Debug)]
pub struct Row {
    /// Operators of the default domain.
    pub ops: &'static [&'static str],
    /// Where it rounds.
    pub(super) rounds: Rounds,
    /// What it computes in between.
    pub inside: &'static str,
    /// The class in FP16.
    pub fp16: Class,
    /// The class in BF16.
    pub bf16: Class,
    /// Why it is in its class.
    pub reason: &'static str,
}

use Class::{Exact, Optimistic};

/// All rows; the last one is for every other operator.
pub const TABLE: [Row; 16] = [
    Row {
        ops: &[
            "Abs",
            "Ceil",
            "Compress",
            "Concat",
            "ConcatFromSequence",
            "ConstantOfShape",
            "DepthToSpace",
            "Dropout",
            "Expand",
            "Flatten",
            "Floor",
            "Gather",
            "GatherElements",
            "GatherND",
            "GlobalMaxPool",
            "Identity",
            "Max",
            "MaxPool",
            "MaxRoiPool",
            "MaxUnpool",
            "Min",
            "Neg",
            "OneHot",
            "OptionalGetElement",
            "ReduceMax",
            "ReduceMin",
            "Relu",
            "Reshape",
            "ReverseSequence",
            "Round",
            "SequenceAt",
            "Sign",
            "Slice",
            "SpaceToDepth",
            "Split",
            "Squeeze",
            "Tile",
            "TopK",
            "Transpose",
            "Trilu",
            "Unique",
            "Unsqueeze",
            "Where",
        ],
        rounds: Rounds::Never,
        inside: "-",
        fp16: Exact,
        bf16: Exact,
        reason: "it needs no more bits than its inputs have",
    },
    Row {
        ops: &["Cast", "CastLike"],
        rounds: Rounds::Result,
        inside: "-",
        fp16: Exact,
        bf16: Exact,
        reason: "it rounds to nearest, ties to even",
    },
    Row {
        ops: &[
            "Acos",
            "Acosh",
            "Add",
            "Asin",
            "Asinh",
            "Atan",
            "Atanh",
            "Celu",
            "Clip",
            "Cos",
            "Cosh",
            "Div",
            "Elu",
            "Erf",
            "Exp",
            "HardSigmoid",
            "LeakyRelu",
            "Log",
            "Mod",
            "Mul",
            "PRelu",
            "Pad",
            "Pow",
            "Reciprocal",
            "ScatterElements",
            "ScatterND",
            "Selu",
            "Shrink",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Sub",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
        ],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "each elementwise operator writes its type",
    },
    Row {
        ops: &["Sigmoid"],
        rounds: Rounds::Sigmoid,
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "each elementwise operator writes its type",
    },
    Row {
        ops: &["Sum"],
        rounds: Rounds::EachSum,
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "it becomes one addition after the other, and each writes its type",
    },
    Row {
        ops: &["AveragePool", "GlobalAveragePool", "ReduceL1", "ReduceMean", "ReduceProd", "ReduceSum"],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "reductions sum in fp32",
    },
    Row {
        ops: &["ReduceL2"],
        rounds: Rounds::Reduction { before: Some("square"), after: Some("Sqrt") },
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "it becomes a square, a sum and a root, and each writes its type",
    },
    Row {
        ops: &["ReduceSumSquare"],
        rounds: Rounds::Reduction { before: Some("square"), after: None },
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "it becomes a square and a sum, and each writes its type",
    },
    Row {
        ops: &["ReduceLogSum"],
        rounds: Rounds::Reduction { before: None, after: Some("Log") },
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "it becomes a sum and a logarithm, and each writes its type",
    },
    Row {
        ops: &["ReduceLogSumExp"],
        rounds: Rounds::Reduction { before: Some("Exp"), after: Some("Log") },
        inside: "fp32",
        fp16: Exact,
        bf16: Exact,
        reason: "it becomes an exponential, a sum and a logarithm, and each writes its type",
    },
    Row {
        ops: &["Conv", "ConvTranspose", "DeformConv", "Einsum", "Gemm", "MatMul"],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Optimistic,
        bf16: Exact,
        reason: "sums are fp32 here; in fp16 the library chooses their type, and in bf16 they are fp32",
    },
    Row {
        ops: &["LayerNormalization", "RMSNormalization"],
        rounds: Rounds::Norm,
        inside: "fp32",
        fp16: Optimistic,
        bf16: Optimistic,
        reason: "statistics are fp32 and round before scale and bias; a fused kernel may take them in another order",
    },
    Row {
        ops: &["LogSoftmax", "Softmax"],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Optimistic,
        bf16: Optimistic,
        reason: "exponentials and their sum are fp32 here; a fused attention sums scores in fp16",
    },
    Row {
        ops: &["Attention", "GRU", "LSTM", "RNN"],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Optimistic,
        bf16: Optimistic,
        reason: "scores and inner states are fp32 here; the GPU keeps them in 16 bits",
    },
    Row {
        ops: &[
            "BatchNormalization",
            "Gelu",
            "GroupNormalization",
            "HardSwish",
            "InstanceNormalization",
            "LpNormalization",
            "LpPool",
            "LRN",
            "Mean",
            "MeanVarianceNormalization",
            "Mish",
            "Swish",
        ],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Optimistic,
        bf16: Optimistic,
        reason: "it rounds once here; on the GPU it may be several kernels, each of which rounds",
    },
    Row {
        ops: &[],
        rounds: Rounds::Result,
        inside: "fp32",
        fp16: Optimistic,
        bf16: Optimistic,
        reason: "nobody looked at where the GPU rounds it; here it rounds its result",
    },
];

impl Row {
    /// Its class in a type of 16 bits.
    #[must_use]
    pub fn class(&self, of: FloatType) -> Class {
        if of == FloatType::Bf16 { self.bf16 } else { self.fp16 }
    }
}

/// The row of an operator.
///
/// # Panics
/// Never: the last row is for all.
#[must_use]
pub fn row(domain: &str, op: &str) -> &'static Row {
    let known = TABLE.iter().find(|row| domain.is_empty() && row.ops.contains(&op));
    known.unwrap_or(&TABLE[TABLE.len() - 1])
}
