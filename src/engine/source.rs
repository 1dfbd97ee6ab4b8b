//! The CUDA source of generated kernels. A plan carries it as text, since it is compiled on the user's GPU. Every
//! step is a call that names its types, such as `__v22 = __myln_mul___myln_float___myln_float(…)`; a reduction
//! names its operator, `block_reduction::block_reduce_ds<AddOp<__myln_float>, …`; fused attention names two sets of
//! traits: of the scores and their Softmax, and of the product with the values.

use std::collections::BTreeMap;

use memchr::memmem;
use serde::{Deserialize, Serialize};

/// What the source of a kernel says of its arithmetic.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Arithmetic {
    /// How many steps of each kind (`mul`, `reduce-add`) there are in each type (`float`, `half`, `bf16`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, BTreeMap<String, u32>>,
    /// Traits of fused attention, those of the scores first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traits: Vec<String>,
}

/// What begins a kernel.
const KERNEL: &[u8] = b"extern \"C\" __global__ void ";

/// How far before its first kernel a source is read: what is further up is the same in every source.
const BEFORE: usize = 16 << 10;

/// Steps that compute nothing.
pub(super) const IDLE: [&str; 4] = ["move", "cast", "select", "vcast"];

/// The arithmetic of every kernel, by its full name.
pub(super) fn sources(code: &[u8]) -> BTreeMap<String, Arithmetic> {
    let mut found = BTreeMap::new();
    let mut end_of_last = 0;
    for at in memmem::find_iter(code, KERNEL) {
        if at < end_of_last {
            continue; // Another variant in a source that was read already.
        }
        let end = memchr::memchr(0, &code[at..]).map_or(code.len(), |length| at + length);
        let before = code[end_of_last..at].len().min(BEFORE);
        let start = memchr::memrchr(0, &code[at - before..at]).map_or(at - before, |i| at - before + i + 1);
        let (names, arithmetic) = read(&String::from_utf8_lossy(&code[start..end]));
        found.extend(names.into_iter().map(|name| (name, arithmetic.clone())));
        end_of_last = end;
    }
    found
}

/// The kernels that a source defines, and what all of them do.
fn read(source: &str) -> (Vec<String>, Arithmetic) {
    let mut names = Vec::new();
    let mut arithmetic = Arithmetic::default();
    let mut count = |step: &str, of: &str| {
        let of = of.strip_prefix("__myln_").unwrap_or(of);
        *arithmetic.steps.entry(step.to_owned()).or_default().entry(of.to_owned()).or_default() += 1;
    };
    for line in source.lines().map(str::trim_start) {
        if let Some(rest) = line.strip_prefix("extern \"C\" __global__ void ") {
            // There may be `__launch_bounds__(256)` before the name.
            let name = rest.trim_end().trim_end_matches('(').rsplit(' ').next();
            names.extend(name.map(str::to_owned));
        }
        if line.contains("__forceinline__") {
            continue; // How a step is done, in every type there is.
        }
        if let Some((step, of)) = call(line) {
            count(step, of);
        }
        if let Some((step, of)) = reduction(line) {
            count(&step, of);
        }
        if let Some(name) = line.strip_prefix("fmha::").and_then(|l| l.strip_suffix(','))
            && name.ends_with("_traits")
        {
            arithmetic.traits.push(name.to_owned());
        }
    }
    // A source holds a kernel in variants, each with all steps.
    let variants = u32::try_from(names.len()).unwrap_or(u32::MAX).max(1);
    for n in arithmetic.steps.values_mut().flat_map(BTreeMap::values_mut) {
        *n = n.div_ceil(variants);
    }
    (names, arithmetic)
}

/// `__v22.values[0] = __myln_mul___myln_float___myln_float(…` is one `mul` in `float`; the other elements of a
/// vector are the same step.
fn call(line: &str) -> Option<(&str, &str)> {
    let (to, call) = line.split_once(" = __myln_")?;
    if to.contains(".values[") && !to.contains(".values[0]") {
        return None;
    }
    let (name, _) = call.split_once('(')?;
    let mut parts = name.split("___myln_");
    let (step, result) = (parts.next()?, parts.next()?);
    (!IDLE.contains(&step) && result != "bool" && !result.contains("int")).then_some((step, result))
}

/// `block_reduction::block_reduce_ds<AddOp<__myln_float>, …` is one `reduce-add` in `float`.
fn reduction(line: &str) -> Option<(String, &str)> {
    let rest = &line[line.find("_reduce")?..];
    let (operator, rest) = rest.split_once("Op<__myln_")?;
    let step = &operator[operator.rfind(['<', ' ', ',']).map_or(0, |i| i + 1)..];
    let of = rest.split_once('>')?.0;
    Some((format!("reduce-{}", step.to_lowercase()), of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_once_for_all_variants_and_elements() {
        let body = "  __myln_half* __v1;\n  __v2.values[0] = __myln_mul___myln_float___myln_float(a, b);\n  \
                    __v2.values[1] = __myln_mul___myln_float___myln_float(a, b);\n    __v3 = __myln_add___myln_half___myln_half(a, b);\n  \
                    __v4 = __myln_cast<__myln_half, __myln_float>(__v3);\n  __v5 = __myln_eql___myln_bool___myln_half(a, b);\n  \
                    warp_reduction::warp_reduce<MaxOp<__myln_float>,x>(y);\n";
        let prelude = "__forceinline__ __device__ __myln_half __myln_sub___myln_half___myln_half(x) {y = __myln_sub___myln_half___myln_half(x);}\n";
        let text = format!(
            "\0\u{1}\0{prelude}extern \"C\" __global__ void k_com(\n{body}\nextern \"C\" __global__ void __launch_bounds__(256) k(\n{body}}}\n\0weights"
        );
        let found = sources(text.as_bytes());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["k", "k_com"]);
        let steps = serde_json::to_value(&found["k"]).unwrap();
        let expected = serde_json::json!({ "steps": {
            "mul": { "float": 1 }, "add": { "half": 1 }, "reduce-max": { "float": 1 } } });
        assert_eq!(steps, expected);
    }

    #[test]
    fn attention_names_its_traits() {
        let text = "struct c {\n  using Kernel_traits = fmha::Kernel_traits_v2<\n\tfmha::Ampere_hmma_fp32_traits,\n\tfmha::Ampere_hmma_fp16_traits,\n\
                    };\nextern \"C\" __global__ void _gemm_mha_v2_0x1(\n  x();\n";
        let found = sources(text.as_bytes());
        assert_eq!(found["_gemm_mha_v2_0x1"].traits, ["Ampere_hmma_fp32_traits", "Ampere_hmma_fp16_traits"]);
    }
}
