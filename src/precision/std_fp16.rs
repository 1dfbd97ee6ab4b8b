//! The built-in rule set `std-fp16`, the default for FP16 and BF16: what loses too much in 16 bits stays FP32.
//!
//! | rule | selects |
//! |---|---|
//! | `layer-norm` | the pattern: LayerNormalization, or its parts in any spelling |
//! | `rms-norm` | likewise: squares of activations overflow from 256 on |
//! | `l2-norm` | likewise |
//! | `softmax` | the pattern: Softmax and LogSoftmax, or their parts in any spelling |
//! | `batch-norm-statistics` | BatchNormalization with a constant mean or variance beyond FP16's range |
//! | `recurrent` | LSTM, GRU, RNN: errors add up over the steps |
//! | `exponentials` | Exp, Log and Pow; elementwise operators on a way from one of these to another; the elementwise operator that feeds one directly (the epsilon under a logarithm); and a product with constant weights between a Pow and a Log, as in a mel spectrogram |
//! | `roots` | what lies between a square or a large reduction and the root, logarithm or reciprocal that brings it back into range, through means, elementwise and shape operators; and the division of a large reduction by a number |
//! | `large-reductions` | sums and products of many elements, whose result leaves FP16's range: ReduceSum, ReduceSumSquare, ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceProd, CumSum, LpNormalization, MeanVarianceNormalization |
//!
//! Means and maxima are no large reductions: their result is no larger than their input, and TensorRT
//! accumulates in FP32.
//!
//! Invariant: a change of what is selected raises [`VERSION`].

use super::float::FloatType;
use super::spec::{RuleSpec, Select};
use crate::manifest::Selector;

/// Its name in manifests.
pub const NAME: &str = "std-fp16";

/// Version of its content; in the key of every model that uses it.
pub const VERSION: i64 = 2;

/// Its rules in order.
#[must_use]
pub fn rules() -> Vec<RuleSpec> {
    let pattern = |name: &str| Selector { pattern: vec![name.to_owned()], ..Selector::default() };
    let ops = |ops: &[&str]| Selector {
        op: ops.iter().map(|op| (*op).to_owned()).collect(),
        ..Selector::default()
    };
    let written = |selector: Selector| Select::Written(Box::new(selector));
    let rules = [
        ("large-reductions", written(ops(&LARGE_REDUCTIONS))),
        ("roots", Select::Roots),
        ("exponentials", Select::ExponentialChains),
        ("batch-norm-statistics", Select::LargeStatistics),
        ("recurrent", written(ops(&["LSTM", "GRU", "RNN"]))),
        ("softmax", written(pattern("softmax"))),
        ("l2-norm", written(pattern("l2-norm"))),
        ("rms-norm", written(pattern("rms-norm"))),
        ("layer-norm", written(pattern("layer-norm"))),
    ];
    let rule = |(name, select): (&str, Select)| RuleSpec {
        name: name.to_owned(),
        set: Some(NAME.to_owned()),
        select,
        precision: FloatType::Fp32,
        accumulate: false,
        expect: None,
        optional: true,
    };
    rules.into_iter().map(rule).collect()
}

/// Sums and products of many elements.
pub(super) const LARGE_REDUCTIONS: [&str; 10] = [
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceProd",
    "CumSum",
    "LpNormalization",
    "MeanVarianceNormalization",
];

/// What begins a chain.
pub(super) const EXPONENTIALS: [&str; 3] = ["Exp", "Log", "Pow"];

/// What goes on a chain: every element of the result comes from one element of each input.
pub(super) const ELEMENTWISE: [&str; 14] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Max",
    "Min",
    "Clip",
    "Sqrt",
    "Neg",
    "Abs",
    "Reciprocal",
    "Identity",
    "Sum",
    "Where",
];
