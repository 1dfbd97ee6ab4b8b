//! What TensorRT says while it builds, and by which code it is known. Lines of no interest have none.

/// A line that has a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The code: that of a hazard.
    pub code: &'static str,
    /// What the line holds.
    needle: &'static str,
    /// What it means.
    pub message: &'static str,
    /// More about it.
    pub note: &'static str,
    /// The selector of a rule that mends it, as TOML without its braces.
    pub select: &'static str,
}

/// In TensorRT-RTX 1.5 to 1.7. It is said of some spellings only: not if the mean is a ReduceSum.
const SAID: [Said; 1] = [Said {
    code: "layernorm-fp16",
    needle: "Detected layernorm nodes in FP16",
    message: "TensorRT says that it computes layer norms in FP16",
    note: "the square of a value beyond 255 is infinite in FP16; it is advice: TensorRT has changed nothing",
    select: "pattern = \"layer-norm\"",
}];

/// The codes of what a log says, each once.
#[must_use]
pub fn codes<'l>(lines: impl IntoIterator<Item = &'l str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        for said in SAID.iter().filter(|said| line.contains(said.needle)) {
            if !found.iter().any(|code| code == said.code) {
                found.push(said.code.to_owned());
            }
        }
    }
    found
}

/// What a code means.
#[must_use]
pub fn said(code: &str) -> Option<&'static Said> {
    SAID.iter().find(|said| said.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::hazard;

    #[test]
    fn every_code_is_that_of_a_hazard_and_is_given_once() {
        assert!(SAID.iter().all(|said| hazard(said.code).is_some()));
        let log =
            ["Detected layernorm nodes in FP16.", "something else", "Detected layernorm nodes in FP16."];
        assert_eq!(codes(log), ["layernorm-fp16"]);
        assert_eq!(said("layernorm-fp16").unwrap().select, "pattern = \"layer-norm\"");
    }
}
