//! What trtexec wrote, and how it ended -> what became of the build.
//!
//! A build is done only if trtexec ended well *and* wrote its `PASSED` line *and* left an engine: some versions write an
//! empty engine and `Engine built` for a build that failed.

use crate::worker::program::{Ending, Ran};
use crate::worker::protocol::LogLine;

/// How many lines of the log are kept.
const MAX_LINES: usize = 20_000;

/// Lines of the verbose log that are kept: what became of names and types.
const KEPT: [&str; 3] = ["Registering layer: ", "Skipped setting", "Set layer "];

/// A build that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Stable code.
    pub code: &'static str,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What trtexec said.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

/// The log of trtexec, both streams: `[11/23/2026-18:00:00] [I] [TRT] text`.
#[must_use]
pub fn log(ran: &Ran) -> Vec<LogLine> {
    ran.stdout.lines().chain(ran.stderr.lines()).filter_map(line).collect()
}

/// As much of a log as is kept.
#[must_use]
pub fn cut(mut log: Vec<LogLine>) -> Vec<LogLine> {
    let more = log.len().saturating_sub(MAX_LINES);
    if more > 0 {
        log.truncate(MAX_LINES);
        log.push(LogLine { level: "warning".to_owned(), text: format!("{more} lines more are left out") });
    }
    log
}

fn line(text: &str) -> Option<LogLine> {
    let rest = text.strip_prefix('[').and_then(|rest| rest.split_once("] [")).map(|(_, rest)| rest)?;
    let (level, text) = rest.split_once(']')?;
    let text = text.trim_start();
    let text = text.strip_prefix("[TRT]").unwrap_or(text).trim();
    let level = match level {
        "F" => "fatal",
        "E" => "error",
        "W" => "warning",
        "I" => "info",
        "V" if KEPT.iter().any(|kept| text.starts_with(kept)) => "verbose",
        _ => return None,
    };
    Some(LogLine { level: level.to_owned(), text: text.to_owned() })
}

/// A profile whose sizes are mostly too small for the network.
const UNFIT: &str = "the network cannot have the sizes of a profile";
const LARGER: &str = "give larger ones in `profile`: min, opt and max must all be possible";

/// What a text in the log means: first match wins, so the special come before the general.
const MEANINGS: [(&str, &str, &str, &str); 13] = [
    (
        "Unknown option",
        "trtexec-option",
        "it does not know an option",
        "the toolchain's `version` may be another than what it is; `extra-args` are given as they are",
    ),
    (
        "CUDA initialization failure",
        "cuda-failed",
        "CUDA cannot be started",
        "the driver may be older than this TensorRT needs: `enginewright gpu` shows it",
    ),
    (
        "CUDA driver version is insufficient",
        "cuda-failed",
        "the driver is older than this TensorRT needs",
        "`enginewright gpu` shows the driver",
    ),
    ("no CUDA-capable device", "cuda-failed", "CUDA sees no GPU", "`enginewright gpu` shows what is there"),
    (
        "out of memory",
        "gpu-out-of-memory",
        "the GPU has not enough memory",
        "lower `workspace` in the model's `build` table, or end what else uses the GPU",
    ),
    (
        "OutOfMemory",
        "gpu-out-of-memory",
        "the GPU has not enough memory",
        "lower `workspace` in the model's `build` table, or end what else uses the GPU",
    ),
    (
        "Cuda failure",
        "cuda-failed",
        "a call of CUDA failed",
        "`enginewright gpu` shows the GPUs and the driver",
    ),
    (
        "Cuda Runtime",
        "cuda-failed",
        "a call of CUDA failed",
        "`enginewright gpu` shows the GPUs and the driver",
    ),
    (
        "Failed to parse",
        "parse-failed",
        "its parser refuses the model",
        "`enginewright check` may know more of the model",
    ),
    (
        "Parsing model failed",
        "parse-failed",
        "its parser refuses the model",
        "`enginewright check` may know more of the model",
    ),
    ("violate shape constraints", "profile-unfit", UNFIT, LARGER),
    ("output cannot be negative", "profile-unfit", UNFIT, LARGER),
    (
        "Could not find any implementation for node",
        "no-implementation",
        "it has no kernel for a node in the types asked for",
        "let the node, or what is fused with it, have another precision; or raise `workspace`",
    ),
];

/// Why a build failed; none if it is done. `engine` is the size of the engine file.
#[must_use]
pub fn judge(ran: &Ran, engine: Option<u64>) -> Option<Failed> {
    let errors = errors(ran);
    let passed = ran.stdout.lines().any(|line| line.starts_with("&&&& PASSED"));
    let failed = |code, message: String, help: &str| {
        Some(Failed {
            code,
            message,
            notes: notes(&errors),
            help: if help.is_empty() { Vec::new() } else { vec![help.to_owned()] },
        })
    };
    match &ran.ending {
        // A shell or container between us tells a signal as 128 and its number.
        Ending::Exit(code @ (134 | 136 | 137 | 139)) => return crashed(*code - 128, &errors),
        Ending::Signal { signal, .. } => return crashed(*signal, &errors),
        Ending::TimedOut(after) => {
            return failed(
                "trtexec-timed-out",
                format!("trtexec was still busy after {} s, and was killed", after.as_secs_f64()),
                "raise `timeout` in the model's `build` table if it only needs more time",
            );
        }
        Ending::Memory(limit) => {
            return failed(
                "trtexec-out-of-memory",
                format!("trtexec held more than {} MiB of memory, and was killed", limit >> 20),
                "raise `memory-limit` in the model's `build` table",
            );
        }
        Ending::Cancelled => return failed("worker-cancelled", "it was cancelled".to_owned(), ""),
        Ending::Exit(0) if passed && engine.is_some_and(|size| size > 0) => return None,
        Ending::Exit(_) => {}
    }
    for (needle, code, message, help) in MEANINGS {
        if let Some(line) = errors.iter().find(|line| line.contains(needle)) {
            return failed(code, format!("{message}: {line}"), help);
        }
    }
    match (&ran.ending, passed) {
        (Ending::Exit(0), true) => failed(
            "trtexec-no-engine",
            "trtexec says that it passed, and left no engine".to_owned(),
            "see its log: the disk may be full",
        ),
        (Ending::Exit(0), false) => {
            failed("trtexec-no-verdict", "trtexec ended without saying that it passed".to_owned(), "")
        }
        (Ending::Exit(code), _) => {
            let first = errors
                .first()
                .map_or_else(|| format!("it ended with code {code}"), |line| (*line).to_owned());
            failed("build-failed", format!("trtexec failed: {first}"), "")
        }
        _ => None,
    }
}

/// A build that failed and was not to time anything: for that, if trtexec says so.
#[must_use]
pub fn of_pinned(failed: Failed, ran: &Ran) -> Failed {
    let errors = errors(ran);
    let is_about = |line: &&String| line.to_lowercase().replace('_', " ").contains("timing cache");
    match errors.iter().find(is_about) {
        Some(line) if failed.code != "trtexec-option" => Failed {
            code: "timing-cache-miss",
            message: format!("the timing cache that it is held to does not hold all that is asked of it: {line}"),
            help: vec!["the driver, or what else uses the GPU, may be another; `apply` without `--locked` times anew, and locks that".to_owned()],
            ..failed
        },
        _ if !["build-failed", "no-implementation"].contains(&failed.code) => failed,
        _ => {
            let note = "it was held to the timing cache of an earlier build: a kernel that is not in it is an error";
            Failed { notes: [failed.notes, vec![note.to_owned()]].concat(), ..failed }
        }
    }
}

fn crashed(signal: i32, errors: &[String]) -> Option<Failed> {
    let name = match signal {
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        _ => "a signal",
    };
    let (code, message, help) = match signal {
        9 => (
            "trtexec-out-of-memory",
            "trtexec was killed from outside, most likely by the kernel for want of memory".to_owned(),
            "run fewer builds at once with `-j`, or give the machine more memory",
        ),
        _ => (
            "trtexec-crashed",
            format!("trtexec crashed: {name} ({signal})"),
            "other engines are not affected; the builder itself failed on this model",
        ),
    };
    Some(Failed { code, message, notes: notes(errors), help: vec![help.to_owned()] })
}

/// The lines that trtexec marks as errors, on either stream.
fn errors(ran: &Ran) -> Vec<String> {
    let all = ran.stderr.lines().chain(ran.stdout.lines());
    let lines =
        all.filter(|text| text.contains("[E]") || text.contains("[F]") || text.starts_with("Cuda failure"));
    lines.map(|text| line(text).map_or_else(|| text.to_owned(), |line| line.text)).collect()
}

/// The first of them.
fn notes(errors: &[String]) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut notes: Vec<String> = errors.iter().take(SHOWN).map(|line| format!("trtexec: {line}")).collect();
    if errors.len() > SHOWN {
        notes.push(format!("and {} lines more", errors.len() - SHOWN));
    }
    notes
}

/// The layers that trtexec says it gave a type, by name, as `Set layer NAME to precision TYPE` tells; none is told by 8.6.
pub fn set_layers(log: &[LogLine]) -> impl Iterator<Item = (&str, &str)> {
    log.iter().filter_map(|line| line.text.strip_prefix("Set layer ")?.rsplit_once(" to precision "))
}

/// The layers that the parser made, each with its node: `Registering layer: LAYER for ONNX node: NODE`.
pub fn registered(log: &[LogLine]) -> impl Iterator<Item = (&str, &str)> {
    log.iter()
        .filter_map(|line| line.text.strip_prefix("Registering layer: ")?.rsplit_once(" for ONNX node: "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ran(ending: Ending, stdout: &str, stderr: &str) -> Ran {
        Ran { ending, stdout: stdout.into(), stderr: stderr.into(), wall: Duration::ZERO, peak_rss: 0 }
    }

    const PASSED: &str = "&&&& PASSED TensorRT.trtexec [TensorRT v100300] # trtexec\n";

    #[test]
    fn only_all_three_signs_together_are_success() {
        let code =
            |ending, stdout: &str, size| judge(&ran(ending, stdout, ""), size).map(|failed| failed.code);
        assert_eq!(code(Ending::Exit(0), PASSED, Some(9)), None);
        assert_eq!(code(Ending::Exit(0), PASSED, Some(0)), Some("trtexec-no-engine"));
        assert_eq!(code(Ending::Exit(0), PASSED, None), Some("trtexec-no-engine"));
        assert_eq!(code(Ending::Exit(0), "Engine built in 3 s", Some(9)), Some("trtexec-no-verdict"));
        assert_eq!(code(Ending::Exit(1), PASSED, Some(9)), Some("build-failed"));
    }

    #[test]
    fn failures_are_told_apart() {
        let code = |ending, stderr: &str| judge(&ran(ending, "", stderr), None).unwrap().code;
        let error = |text: &str| format!("[11/23/2026-18:00:00] [E] {text}\n");
        for (text, expected) in [
            ("Unknown option: --fp16 ", "trtexec-option"),
            (
                "[TRT] 2: [virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (no further information)",
                "gpu-out-of-memory",
            ),
            ("Error Code 1: Cuda Runtime (invalid argument)", "cuda-failed"),
            ("Failed to parse onnx file", "parse-failed"),
            (
                "[TRT] 10: Could not find any implementation for node {ForeignNode[a...b]}.",
                "no-implementation",
            ),
            ("Error Code 4: kOPT values for profile 0 violate shape constraints: n", "profile-unfit"),
            ("Engine set up failed", "build-failed"),
        ] {
            assert_eq!(code(Ending::Exit(1), &error(text)), expected, "{text}");
        }
        assert_eq!(code(Ending::Exit(139), ""), "trtexec-crashed");
        assert_eq!(code(Ending::Signal { signal: 11, name: "SIGSEGV" }, ""), "trtexec-crashed");
        assert_eq!(code(Ending::Signal { signal: 9, name: "SIGKILL" }, ""), "trtexec-out-of-memory");
        assert_eq!(code(Ending::TimedOut(Duration::from_secs(1)), ""), "trtexec-timed-out");
    }

    #[test]
    fn a_long_log_is_read_whole_and_kept_in_part() {
        let line = |n: usize| format!("[11/23/2026-18:00:00] [I] Set layer l{n} to precision fp32\n");
        let stdout: String = (0..MAX_LINES + 7).map(line).collect();
        let log = log(&ran(Ending::Exit(0), &stdout, ""));
        assert_eq!(set_layers(&log).count(), MAX_LINES + 7);
        let kept = cut(log);
        assert_eq!(kept.len(), MAX_LINES + 1);
        assert_eq!(kept[MAX_LINES].text, "7 lines more are left out");
    }

    #[test]
    fn what_is_not_in_a_pinned_timing_cache_is_told() {
        let told = |text: &str, size| {
            let ran = ran(Ending::Exit(1), "", &format!("[11/23/2026-18:00:00] [E] {text}\n"));
            of_pinned(judge(&ran, size).unwrap(), &ran)
        };
        let missed = told("[TRT] Error Code 4: Internal Error (tactic is not in the timing cache)", None);
        assert_eq!(missed.code, "timing-cache-miss");
        let kernel = told("[TRT] Could not find any implementation for node a.", None);
        assert_eq!(kernel.code, "no-implementation");
        assert!(kernel.notes.last().unwrap().contains("held to the timing cache"), "{kernel:?}");
        let parse = told("Failed to parse onnx file", None);
        assert!(!parse.notes.last().unwrap().contains("held to"), "{parse:?}");
    }

    #[test]
    fn what_became_of_layers_is_read() {
        let stdout = "[11/23/2026-18:00:00] [I] Set layer a:b to precision fp32\n\
                      [11/23/2026-18:00:00] [V] [TRT] Registering layer: a_3 for ONNX node: a\n\
                      [11/23/2026-18:00:00] [V] [TRT] something else\n\
                      no line of a log\n";
        let log = log(&ran(Ending::Exit(0), stdout, ""));
        assert_eq!(log.len(), 2);
        assert_eq!(set_layers(&log).collect::<Vec<_>>(), [("a:b", "fp32")]);
        assert_eq!(registered(&log).collect::<Vec<_>>(), [("a_3", "a")]);
    }
}
