//! The three types that a node can compute in.

use serde::{Deserialize, Serialize};

use crate::onnx::Type;
use crate::onnx::proto::tensor_proto::DataType;

/// A type that a node can compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    /// 32 bits.
    Fp32,
    /// 16 bits, of which 5 are exponent: up to 65504.
    Fp16,
    /// 16 bits, of which 8 are exponent: FP32's range with 8 bits of mantissa.
    Bf16,
}

impl FloatType {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FloatType::Fp32 => "fp32",
            FloatType::Fp16 => "fp16",
            FloatType::Bf16 => "bf16",
        }
    }

    /// ONNX's element type.
    #[must_use]
    pub fn element(self) -> DataType {
        match self {
            FloatType::Fp32 => DataType::Float,
            FloatType::Fp16 => DataType::Float16,
            FloatType::Bf16 => DataType::Bfloat16,
        }
    }

    /// The type of ONNX's element type; none for all that is not one of the three, DOUBLE included.
    #[must_use]
    pub fn of_element(element: i32) -> Option<FloatType> {
        [FloatType::Fp32, FloatType::Fp16, FloatType::Bf16]
            .into_iter()
            .find(|f| f.element() as i32 == element)
    }

    /// The type of a value, if it is a tensor of one of the three.
    #[must_use]
    pub fn of_type(of: &Type) -> Option<FloatType> {
        of.element().and_then(|element| FloatType::of_element(element as i32))
    }

    /// Bytes of an element.
    pub(super) fn width(self) -> usize {
        if self == FloatType::Fp32 { 4 } else { 2 }
    }
}
