//! The hazards: what can go wrong with numbers, by code, each with its level unless a manifest says another.
//!
//! A level is a judgement on what was found, and in no key: another level is another answer to the same record.

/// What is done about a hazard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HazardLevel {
    /// Nothing is said.
    Allow,
    /// It is told, and the engine is built.
    Warn,
    /// It is an error, and the engine is not built.
    Deny,
}

impl HazardLevel {
    /// All, as written in manifests.
    pub(super) const WORDS: [(&'static str, HazardLevel); 3] =
        [("allow", HazardLevel::Allow), ("warn", HazardLevel::Warn), ("deny", HazardLevel::Deny)];

    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HazardLevel::Allow => "allow",
            HazardLevel::Warn => "warn",
            HazardLevel::Deny => "deny",
        }
    }
}

/// Something that can go wrong with numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hazard {
    /// Stable code.
    pub code: &'static str,
    /// Its level where no manifest says another.
    pub level: HazardLevel,
    /// What it is, in one line.
    pub meaning: &'static str,
}

const fn allow(code: &'static str, meaning: &'static str) -> Hazard {
    Hazard { code, level: HazardLevel::Allow, meaning }
}

const fn warn(code: &'static str, meaning: &'static str) -> Hazard {
    Hazard { code, level: HazardLevel::Warn, meaning }
}

const fn deny(code: &'static str, meaning: &'static str) -> Hazard {
    Hazard { code, level: HazardLevel::Deny, meaning }
}

/// Every hazard, in the order of its documentation.
pub const HAZARDS: &[Hazard] = &[
    deny("weight-overflow-fp16", "a weight is beyond 65504, the largest number of FP16"),
    deny("weight-overflow-bf16", "a weight is beyond the largest number of BF16"),
    warn("weight-underflow-fp16", "some weights become 0 in FP16"),
    warn("weight-underflow-bf16", "some weights become 0 in BF16"),
    deny("mask-overflow-fp16", "a mask becomes minus infinity in FP16 in a weakly typed model"),
    warn("mask-saturated-fp16", "a mask that no Softmax reads becomes -65504, the lowest number of FP16"),
    warn("mask-saturated-bf16", "a mask that no Softmax reads becomes the lowest number of BF16"),
    deny("epsilon-underflow-fp16", "an epsilon becomes 0 in FP16, and guards nothing any more"),
    deny("epsilon-underflow-bf16", "an epsilon becomes 0 in BF16, and guards nothing any more"),
    warn("fp16-decomposed-norm", "a norm written as several operators is computed in FP16"),
    warn("norm-not-fused", "a layer norm stays several nodes, though `fuse` asks for one"),
    warn("fp16-norm", "a norm gives its result in FP16: scale and bias are applied in it"),
    warn("double-narrowed", "values of type double, which TensorRT narrows to float"),
    warn("fp16-long-sum", "a sum of many elements, or of squares, is computed in FP16"),
    warn("fp16-exponential", "an exponential, a logarithm or a power is computed in FP16"),
    warn("fp16-large-integer", "integers that may be beyond 2048 become FP16, which has not all of them"),
    warn("subnormal-scale-fp16", "a constant that is multiplied or divided by has few digits in FP16"),
    warn("fp16-attention-softmax", "the Softmax of an attention is computed in FP16"),
    warn("attention-unscaled", "the product of queries and keys is computed in FP16, and nothing scales it"),
    allow(
        "attention-scaled-late",
        "the product of queries and keys is computed in FP16, and scaled after it",
    ),
    warn("attention-unfused", "a pin on a product of an attention costs the fused kernel"),
    deny("fp32-gemm-demoted", "a matrix product that is FP32 alone between Casts would get half weights"),
    deny("bf16-not-in-opset", "operators cannot be BF16, since ONNX has them in it in newer opsets only"),
    warn("type-not-in-opset", "operators stay FP32 since ONNX has them in FP16 in newer opsets only"),
    warn("quantized-operator", "operators compute with quantized values, and stay as they are"),
    warn(
        "layer-unnamed",
        "a norm that is declared fp32 may read and give FP16: this TensorRT does not let it be named",
    ),
    warn("layernorm-fp16", "TensorRT says that it computes a layer norm in FP16"),
    deny("pin-demoted", "the engine does not compute a node in the type that a rule gave it"),
    deny("engine-interface", "an input or output of the engine is not as the model declares it"),
];

/// The hazard with this code.
#[must_use]
pub fn hazard(code: &str) -> Option<&'static Hazard> {
    HAZARDS.iter().find(|hazard| hazard.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_no_codes_of_other_problems() {
        let unique: std::collections::BTreeSet<_> = HAZARDS.iter().map(|hazard| hazard.code).collect();
        assert_eq!(unique.len(), HAZARDS.len());
        assert!(super::super::CODES.iter().all(|(code, _)| hazard(code).is_none()));
    }
}
