//! What can go wrong with an ONNX file.

use std::path::{Path, PathBuf};

use super::node_name;
use super::proto::NodeProto;
use crate::diagnostic::Diagnostic;
use crate::fs;

/// A model cannot be read, or its canonical form cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// The model is at fault. Never empty; the worst first.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "the model is not valid".to_owned(),
        [only] => only.message.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Error::Invalid(vec![diagnostic])
    }
}

/// How many diagnostics one model may give; the rest is only counted.
const MAX_PROBLEMS: usize = 20;

/// Collects errors, so that a user sees all of them in one run.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Problems {
    pub(super) fn new(file: &Path) -> Problems {
        Problems { file: file.to_owned(), list: Vec::new(), omitted: 0 }
    }

    /// An error of the model as a whole.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() == MAX_PROBLEMS {
            self.omitted += 1;
            return;
        }
        let placed = diagnostic.place.is_some();
        self.list.push(if placed { diagnostic } else { diagnostic.in_file(&self.file) });
    }

    /// An error of one node.
    pub(super) fn push_at(&mut self, node: &NodeProto, diagnostic: Diagnostic) {
        let diagnostic = diagnostic.at_node(&self.file, &node_name(node), node.op_type());
        self.push(diagnostic);
    }

    /// Fails if there were any.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        if let (Some(last), omitted @ 1..) = (self.list.last_mut(), self.omitted) {
            last.notes.push(format!("{omitted} more errors are not shown"));
        }
        if self.list.is_empty() { Ok(()) } else { Err(Error::Invalid(self.list)) }
    }
}
