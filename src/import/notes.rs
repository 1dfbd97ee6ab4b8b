//! What is said about an import: diagnostics for whoever runs it, sentences for whoever reads the manifest.

use super::codes;
use super::options::Given;
use crate::diagnostic::{Diagnostic, Level};

/// Collects what is said of one run.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// For the manifest.
    pub(super) sentences: Vec<String>,
    /// May what a manifest cannot say be left out?
    pub(super) lossy: bool,
}

impl Notes {
    /// It makes the import fail.
    pub(super) fn error(&mut self, error: Diagnostic) {
        self.diagnostics.push(error);
    }

    /// It is worth knowing, now and later.
    pub(super) fn note(&mut self, diagnostic: Diagnostic) {
        self.say(Diagnostic { level: Level::Note, ..diagnostic });
    }

    /// It is likely not what was meant.
    pub(super) fn warning(&mut self, diagnostic: Diagnostic) {
        self.say(Diagnostic { level: Level::Warning, ..diagnostic });
    }

    fn say(&mut self, diagnostic: Diagnostic) {
        let mut sentence = diagnostic.message.clone();
        for note in &diagnostic.notes {
            sentence = format!("{sentence}; {note}");
        }
        if !self.sentences.contains(&sentence) {
            self.sentences.push(sentence);
        }
        self.diagnostics.push(diagnostic);
    }

    /// The manifest cannot say it: an error, unless it may be left out.
    pub(super) fn lossy(&mut self, given: &Given, message: impl Into<String>) {
        let error = given.error(codes::LOSSY, message);
        if self.lossy {
            self.warning(Diagnostic { message: format!("left out: {}", error.message), ..error });
        } else {
            self.error(error.help("`--lossy` leaves it out, and says so in the manifest"));
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.level == Level::Error)
    }
}

/// `` `--a`, `--b` ``
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut listed: Vec<String> = Vec::new();
    for name in names {
        let name = format!("`{name}`");
        if !listed.contains(&name) {
            listed.push(name);
        }
    }
    listed.join(", ")
}

/// How many names a note lists.
const SHOWN: usize = 8;

/// The first of these names, and how many there are beside them.
pub(super) fn shown<'a>(nodes: impl Iterator<Item = &'a str> + Clone) -> String {
    let more = nodes.clone().count().saturating_sub(SHOWN);
    let names = listed(nodes.take(SHOWN));
    if more > 0 { format!("{names} and {more} more") } else { names }
}
