//! Reading a model of the user's: done here, since a file that is truncated while it is mapped
//! kills the process that reads it.

use std::path::Path;

use super::protocol::{Canonicalized, Refusal, WireDiagnostic};
use crate::diagnostic::{Diagnostic, Level};
use crate::onnx;

/// Writes the canonical form of `source` into `folder`.
pub(super) fn run(source: &Path, folder: &Path) -> Result<Box<Canonicalized>, Box<Refusal>> {
    match onnx::canonicalize(source, folder) {
        Ok(onnx::Canonical { files, has_weights, summary, notes }) => {
            let note = |text: String| Diagnostic { level: Level::Note, ..Diagnostic::error("model-note", text) };
            let notes = notes.into_iter().map(|text| WireDiagnostic::from(&note(text).in_file(source)));
            Ok(Box::new(Canonicalized { files, has_weights, summary, notes: notes.collect() }))
        }
        Err(onnx::Error::Fs(error)) => {
            let mut refusal = Refusal::new("read", "model-file", error.to_string());
            if error.is_full() {
                refusal = refusal.help("free some disk space for the cache");
            }
            Err(Box::new(refusal))
        }
        Err(onnx::Error::Invalid(diagnostics)) => {
            let message = diagnostics.first().map_or_else(String::new, |d| d.message.clone());
            let mut refusal = Refusal::new("read", "model-invalid", message);
            refusal.diagnostics = diagnostics.iter().map(WireDiagnostic::from).collect();
            Err(Box::new(refusal))
        }
    }
}
