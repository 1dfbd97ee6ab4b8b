//! Why a build failed. The library returns nothing but null; the reasons are lines of its log. The
//! known ones get a code of their own, the others are passed on word by word.

use super::super::protocol::{LogLine, Refusal};
use super::nodes::Nodes;

/// A failure that is known.
struct Known {
    /// What a line of the log holds, in lower case.
    needles: &'static [&'static str],
    code: &'static str,
    message: &'static str,
    help: &'static str,
}

/// In the order of precedence: an exhausted memory makes other errors follow.
const KNOWN: &[Known] = &[
    Known {
        needles: &["out of memory", "outofmemory", "std::bad_alloc", "insufficient memory"],
        code: "out-of-memory",
        message: "the build ran out of memory",
        help: "run fewer builds at once (`-j`), or give the machine more memory",
    },
    Known {
        needles: &["fp32 gemm is not supported"],
        code: "sm75-fp32-gemm",
        message: "sm_75 cannot multiply FP32 matrices",
        help: "make the MatMul, Gemm and Conv nodes FP16 (`precision = \"fp16\"`), or take sm_75 out of the target",
    },
    Known {
        needles: &["hw-specific datatypes", "hardware-specific datatypes"],
        code: "type-not-on-sm",
        message: "the model holds types that not every compute capability of the target has",
        help: "BF16 and INT4 need sm_80, FP8 sm_89, FP4 sm_120: change the types, or take the older ones out of the target",
    },
    Known {
        needles: &["unsupported compute capability", "compute capability is not supported"],
        code: "sm-unsupported",
        message: "the library does not build for this compute capability",
        help: "take it out of the target, or build it with another toolchain",
    },
    Known {
        needles: &["network must have at least one output"],
        code: "no-outputs",
        message: "the model has no outputs",
        help: "declare at least one output in the ONNX file",
    },
    Known {
        needles: &["requires workspace memory", "increase the workspace"],
        code: "workspace-too-small",
        message: "the workspace is too small",
        help: "raise `workspace` in the model's build options",
    },
    Known {
        needles: &["violate shape constraints", "output cannot be negative"],
        code: "profile-unfit",
        message: "the network cannot have the sizes of a profile",
        help: "mostly they are too small for it: give larger ones in `profile`, where min, opt and max must all be possible",
    },
    Known {
        needles: &["assertion"],
        code: "builder-assertion",
        message: "the builder failed in itself",
        help: "an operator or a combination of them is beyond this version",
    },
];

/// What to do about a failure that names no node.
const NO_NODE: &str = "it names no node. See if the model builds with `precision = \"as-is\"`: then a rule may mend it. Else \
                       cut it into parts (`onnx.utils.extract_model`) until the smallest that fails is left, and change that";

/// How much of the log goes into a message, in lines and in bytes of one.
const QUOTED_LINES: usize = 3;
const QUOTED_BYTES: usize = 400;

/// Gives the refusal of a failed build its code, message and help.
pub(super) fn explain(refusal: &mut Refusal, log: &[LogLine], nodes: &Nodes, sms: &[u32], workspace: u64) {
    let errors: Vec<&str> = log
        .iter()
        .filter(|line| matches!(line.level.as_str(), "error" | "fatal"))
        .map(|line| line.text.as_str())
        .collect();
    let holds = |known: &Known| {
        errors.iter().any(|line| {
            let line = line.to_lowercase();
            known.needles.iter().any(|needle| line.contains(needle))
        })
    };
    let mut quoted: Vec<String> = Vec::new();
    for line in &errors {
        let line = quote(line);
        if !quoted.contains(&line) {
            quoted.push(line);
        }
    }
    let left_out = quoted.len().saturating_sub(QUOTED_LINES);
    quoted.truncate(QUOTED_LINES);
    let mut words = quoted.join("; ");
    if left_out > 0 {
        words += &format!("; and {left_out} more");
    }

    let requested = errors.iter().filter_map(|line| requested_bytes(line)).max();
    match KNOWN.iter().find(|known| holds(known)) {
        Some(Known { code: "out-of-memory", .. }) if requested.is_some_and(|bytes| bytes > workspace) => {
            let (requested, mib) = (requested.unwrap_or(0), workspace >> 20);
            refusal.code = "workspace-too-small".to_owned();
            refusal.message = format!("a workspace of {mib} MiB is too small: {requested} bytes are needed");
            refusal.help.push(
                "raise `workspace` in the model's build options, or lower the profile's max".to_owned(),
            );
        }
        Some(known) => {
            refusal.code = known.code.to_owned();
            refusal.message = format!("{}: {words}", known.message);
            refusal.help.push(known.help.to_owned());
            if known.code == "builder-assertion" {
                refusal.help.push(match errors.iter().find_map(|line| nodes.named_in(line)) {
                    Some(node) => {
                        format!("it names the node `{node}`: change that one, or what stands around it")
                    }
                    None => NO_NODE.to_owned(),
                });
            }
        }
        None if errors.is_empty() => {
            refusal.code = "build-failed".to_owned();
            refusal.message = "the library built nothing and gave no reason".to_owned();
        }
        None => {
            refusal.code = "build-failed".to_owned();
            refusal.message = format!("the library cannot build the model: {words}");
        }
    }
    if sms.len() > 1
        && matches!(refusal.code.as_str(), "sm75-fp32-gemm" | "type-not-on-sm" | "sm-unsupported")
    {
        let names: Vec<String> = sms.iter().map(|sm| format!("sm_{sm}")).collect();
        refusal.help.push(format!("one engine for {} must satisfy the weakest of them", names.join(", ")));
    }
}

/// The size in `OutOfMemory (Requested size was 540007768 bytes.)`: the library's words for any
/// memory that it cannot have, the workspace included.
fn requested_bytes(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("Requested size was ")?;
    rest.split(' ').next()?.parse().ok()
}

/// A line without its line breaks, cut.
pub(super) fn quote(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut end = line.len().min(QUOTED_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    if end < line.len() { format!("{}…", &line[..end]) } else { line }
}

#[cfg(test)]
mod tests {
    use super::super::nodes::tests::{nodes_of, scatter};
    use super::*;

    fn explained(lines: &[(&str, &str)], sms: &[u32]) -> Refusal {
        let log: Vec<LogLine> = lines
            .iter()
            .map(|(level, text)| LogLine { level: (*level).into(), text: (*text).into() })
            .collect();
        let mut refusal = Refusal::new("build", "", "");
        let nodes = nodes_of(vec![scatter("/encoder/Scatter_3")]);
        explain(&mut refusal, &log, &nodes, sms, 512 << 20);
        refusal
    }

    #[test]
    fn a_small_workspace_is_told_from_a_small_machine() {
        let code = |bytes: u64| {
            let line = format!("Error Code 2: OutOfMemory (Requested size was {bytes} bytes.)");
            explained(&[("error", &line)], &[86]).code
        };
        assert_eq!(code(540_007_768), "workspace-too-small");
        assert_eq!(code(4096), "out-of-memory");
    }

    #[test]
    fn known_failures_have_codes() {
        let code = |text| explained(&[("info", "x"), ("error", text)], &[86]).code;
        assert_eq!(code("[gemm.cpp::f::9] Error Code 9: FP32 GEMM is not supported"), "sm75-fp32-gemm");
        assert_eq!(code("model contains HW-specific datatypes: b16"), "type-not-on-sm");
        assert_eq!(code("Internal Error: MyelinCheckException: std::bad_alloc"), "out-of-memory");
        assert_eq!(code("Error Code 2: Internal Error (Assertion x failed. )"), "builder-assertion");
        assert_eq!(
            code("Assertion m > 0 failed. Please increase the workspace memory provided"),
            "workspace-too-small"
        );
        assert_eq!(code("Network must have at least one output"), "no-outputs");
        assert_eq!(code("something new"), "build-failed");
    }

    #[test]
    fn a_profile_that_is_too_small_has_a_code() {
        let code = |text| explained(&[("error", text)], &[86]).code;
        let negative = "Conv_2: spatial dimension of convolution/deconvolution output cannot be negative (build-time \
                        output dimension of axis 2 is (+ samples -671))";
        assert_eq!(code(negative), "profile-unfit");
        let violated =
            "kMIN values for profile 1 violate shape constraints: Condition '==' violated: 3 != 4.";
        assert_eq!(code(violated), "profile-unfit");
    }

    #[test]
    fn an_assertion_names_a_node_only_if_it_does() {
        let help = |text| explained(&[("error", text)], &[86]).help[1].clone();
        assert!(
            help("Assertion tScope.getType() != ScopeType::kUNDEFINED failed")
                .starts_with("it names no node")
        );
        assert_eq!(
            help("Assertion n > 0 failed at /encoder/Scatter_3"),
            "it names the node `/encoder/Scatter_3`: change that one, or what stands around it"
        );
    }

    #[test]
    fn only_errors_count() {
        let refusal = explained(&[("warning", "Assertion"), ("info", "out of memory")], &[86]);
        assert_eq!(refusal.message, "the library built nothing and gave no reason");
    }

    #[test]
    fn a_flood_of_errors_is_quoted_in_part() {
        let lines: Vec<String> = (0..50).map(|i| format!("error {i}\n of {}", "x".repeat(1000))).collect();
        let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("error", line.as_str())).collect();
        let refusal = explained(&lines, &[86]);
        assert!(refusal.message.len() < 1500);
        assert!(refusal.message.ends_with("…; and 47 more"), "{}", refusal.message);
    }

    #[test]
    fn the_weakest_sm_is_named_for_several() {
        let refusal = explained(&[("error", "FP32 GEMM is not supported")], &[75, 86]);
        assert_eq!(refusal.help[1], "one engine for sm_75, sm_86 must satisfy the weakest of them");
    }
}
