//! The banner of trtexec, as logs hold it, and what else a log tells.
//!
//! `&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=m.onnx`: the arguments stand there joined by
//! spaces, without quotes.

use std::sync::Arc;

use super::shell::Word;
use super::{Version, codes};
use crate::diagnostic::{Diagnostic, Origin, SourceFile};

const MARK: &str = "&&&& RUNNING TensorRT.";

/// One run that a log tells of.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) words: Vec<Word>,
    pub(super) version: Version,
    /// The GPU that it says it used.
    pub(super) gpu: Option<String>,
    /// Its compute capability: `8.6`.
    pub(super) capability: Option<String>,
}

/// Is it a log of one of TensorRT's programs?
pub(super) fn is_log(text: &str) -> bool {
    text.contains(MARK)
}

/// The runs in a log.
pub(super) fn runs(file: &Arc<SourceFile>) -> Result<Vec<Run>, Diagnostic> {
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        if let Some(at) = line.find(MARK) {
            runs.push(banner(file, start + at, end)?);
        } else if let Some(run) = runs.last_mut() {
            run.gpu = run.gpu.take().or_else(|| value(line, "Selected Device: "));
            run.capability = run.capability.take().or_else(|| value(line, "Compute Capability: "));
        }
        start += line.len();
    }
    Ok(runs)
}

fn value(line: &str, key: &str) -> Option<String> {
    let (_, value) = line.split_once(key)?;
    Some(value.trim().to_owned())
}

fn banner(file: &Arc<SourceFile>, start: usize, end: usize) -> Result<Run, Diagnostic> {
    let line = &file.text[start..end];
    let here = Origin::new(file, start..end);
    let garbled = |what: &str| {
        let error = Diagnostic::error(codes::LOG, format!("the banner {what}")).at(&here, "");
        error.help("it is written `&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=…`")
    };
    let rest = &line[MARK.len()..];
    let (program, rest) = rest.split_once(' ').ok_or_else(|| garbled("ends early"))?;
    if program != "trtexec" {
        let message = format!("this is a log of `{program}`, not of `trtexec`");
        return Err(Diagnostic::error(codes::PROGRAM, message).at(&here, ""));
    }
    let number = rest.split_once("[TensorRT v").and_then(|(_, rest)| rest.split_once(']'));
    let version = number.and_then(|(number, _)| Some(Version::of_number(number.parse().ok()?)));
    let version = version.ok_or_else(|| garbled("names no version"))?;
    let (_, command) = rest.split_once(" # ").ok_or_else(|| garbled("names no command"))?;
    let mut words: Vec<Word> = Vec::new();
    let mut at = end - command.len();
    for piece in command.split(' ') {
        let origin = Origin::new(file, at..at + piece.len());
        at += piece.len() + 1;
        match words.last_mut() {
            _ if piece.is_empty() => {}
            // A space inside an argument: every argument of trtexec begins with a dash.
            Some(last) if !piece.starts_with('-') && words_are_arguments(last) => {
                last.text = format!("{} {piece}", last.text);
                last.origin.end = origin.end;
            }
            _ => words.push(Word { text: piece.to_owned(), origin }),
        }
    }
    Ok(Run { words, version, gpu: None, capability: None })
}

fn words_are_arguments(last: &Word) -> bool {
    last.text.starts_with('-') && last.text.contains('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Run>, Diagnostic> {
        runs(&Arc::new(SourceFile { path: "build.log".into(), text: text.to_owned() }))
    }

    #[test]
    fn a_log_tells_command_version_and_gpu() {
        let log = "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # /usr/src/tensorrt/bin/trtexec --onnx=my model.onnx --fp16\n\
                   [11/23/2026-10:00:00] [I] Selected Device: NVIDIA GeForce RTX 3090\n\
                   [11/23/2026-10:00:00] [I] Compute Capability: 8.6\n";
        let runs = read(log).unwrap();
        let words: Vec<&str> = runs[0].words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(words, ["/usr/src/tensorrt/bin/trtexec", "--onnx=my model.onnx", "--fp16"]);
        assert_eq!(runs[0].version.to_string(), "8.6.1");
        assert_eq!(runs[0].gpu.as_deref(), Some("NVIDIA GeForce RTX 3090"));
        assert_eq!(runs[0].capability.as_deref(), Some("8.6"));
        let origin = &runs[0].words[1].origin;
        assert_eq!(&log[origin.start..origin.end], "--onnx=my model.onnx");
    }

    #[test]
    fn newer_banners_have_a_build_number() {
        let log = "[NGC]\n&&&& RUNNING TensorRT.trtexec [TensorRT v101303] [b9] # trtexec --onnx=a.onnx\r\n&&&& PASSED TensorRT.trtexec\n\
                   2026-01-01 &&&& RUNNING TensorRT.trtexec [TensorRT v110100] [b1] # trtexec --onnx=b.onnx";
        let versions: Vec<String> = read(log).unwrap().iter().map(|r| r.version.to_string()).collect();
        assert_eq!(versions, ["10.13.3", "11.1.0"]);
    }

    #[test]
    fn other_programs_and_broken_banners_are_said() {
        let error = |text: &str| read(text).unwrap_err().message;
        assert!(
            error("&&&& RUNNING TensorRT.sample_onnx_mnist [TensorRT v8601] # x")
                .contains("sample_onnx_mnist")
        );
        assert!(error("&&&& RUNNING TensorRT.trtexec").contains("ends early"));
        assert!(error("&&&& RUNNING TensorRT.trtexec [TensorRT vX] # x").contains("version"));
        assert!(error("&&&& RUNNING TensorRT.trtexec [TensorRT v8601]").contains("command"));
    }
}
