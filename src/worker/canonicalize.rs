//! Reading a model of the user's: done here, since a file that is truncated while it is mapped
//! kills the process that reads it.

use std::path::Path;

use super::protocol::{Refusal, WireDiagnostic};
use crate::diagnostic::{Diagnostic, Level};
use crate::onnx;

/// Writes the canonical form of `source` into `folder`; weights from a size on are digested instead.
pub(super) fn run(
    source: &Path,
    digest_from: Option<u64>,
    folder: &Path,
) -> Result<Box<onnx::Canonical>, Box<Refusal>> {
    let done = match digest_from {
        Some(from) => onnx::digest(source, folder, from),
        None => onnx::canonicalize(source, folder),
    };
    done.map(Box::new).map_err(|error| refused(&error))
}

/// What is wrong with files or the model.
pub(super) fn refused(error: &onnx::Error) -> Box<Refusal> {
    match error {
        onnx::Error::Fs(error) => file_refused(error),
        onnx::Error::Invalid(diagnostics) => model_refused(diagnostics),
    }
}

/// A file could not be read or written.
fn file_refused(error: &crate::fs::Error) -> Box<Refusal> {
    let (stage, code) = match () {
        () if error.is_full() => ("write", "disk-full"),
        () if error.is_missing() => ("read", "file-missing"),
        () if error.is_denied() => ("read", "file-denied"),
        () => ("read", "file-unreadable"),
    };
    Box::new(Refusal::new(stage, code, error.to_string()))
}

/// The model is at fault: the refusal has the code and message of the first error.
fn model_refused(diagnostics: &[Diagnostic]) -> Box<Refusal> {
    let first = diagnostics.iter().find(|d| d.level == Level::Error).or(diagnostics.first());
    let mut refusal = match first {
        Some(first) => Refusal::new("read", &first.code, first.message.clone()),
        None => Refusal::new("read", "model-invalid", "the model is not valid"),
    };
    refusal.diagnostics = diagnostics.iter().map(WireDiagnostic::from).collect();
    Box::new(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_model_is_refused_with_all_its_diagnostics() {
        let file = Path::new("/m.onnx");
        let diagnostics = [
            Diagnostic::warning("odd", "it is odd").in_file(file),
            Diagnostic::error("dim-too-large", "`x` is too large")
                .at_node(file, "n", "Add")
                .help("make it smaller"),
        ];
        let refusal = model_refused(&diagnostics);
        assert_eq!((refusal.stage.as_str(), refusal.code.as_str()), ("read", "dim-too-large"));
        assert_eq!(refusal.diagnostics.len(), 2);
        assert_eq!(refusal.diagnostics[0].level, "warning");
        assert_eq!(refusal.diagnostics[1].node.as_deref(), Some("n"));
        assert_eq!(refusal.diagnostics[1].help, ["make it smaller"]);
    }

    #[test]
    fn a_missing_file_has_its_own_code() {
        let error = crate::fs::read(Path::new("/nowhere/m.onnx")).unwrap_err();
        assert_eq!(file_refused(&error).code, "file-missing");
    }
}
