//! Diagnostics as data: what is wrong, where, and what to do. Rendering (colours, underlines,
//! JSON) happens in `cli`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

/// A text file that diagnostics point into.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its whole text.
    pub text: String,
}

/// A range of bytes in a text file: where something was declared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Start of the range, in bytes.
    pub start: usize,
    /// End of the range, in bytes, exclusive.
    pub end: usize,
}

impl Origin {
    /// The place `span` in `file`.
    #[must_use]
    pub fn new(file: &Arc<SourceFile>, span: Range<usize>) -> Origin {
        Origin { file: Arc::clone(file), start: span.start, end: span.end }
    }

    /// Line and column, from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self) -> (usize, usize) {
        let mut start = self.start.min(self.file.text.len());
        while !self.file.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.file.text[..start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.file.path.display())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Likely a mistake; the work goes on.
    Warning,
    /// The thing named cannot be done.
    Error,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A piece of a manifest or another text file.
    Text(Origin),
    /// A file as a whole.
    File(PathBuf),
    /// A node of an ONNX graph.
    Node {
        /// The ONNX file.
        file: PathBuf,
        /// Name of the node (a stable made-up one if it has none).
        node: String,
        /// Its operator.
        op: String,
    },
}

/// One message for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable identifier in kebab-case, such as `unknown-key`.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub level: Level,
    /// What is wrong: lower case, no full stop, literals in backticks.
    pub message: String,
    /// Where, if a place is known.
    pub place: Option<Place>,
    /// What the underline says; may be empty.
    pub label: String,
    /// Other places that matter, each with what to say there.
    pub related: Vec<(Place, String)>,
    /// Causes and facts.
    pub notes: Vec<String>,
    /// What to do. May hold several lines, to be pasted.
    pub help: Vec<String>,
    /// Rules that mend it, as TOML to be pasted into a manifest.
    pub rules: Option<String>,
}

impl Diagnostic {
    /// An error with this code and message.
    #[must_use]
    pub fn error(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code: code.into(),
            level: Level::Error,
            message: message.into(),
            place: None,
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
            rules: None,
        }
    }

    /// A warning with this code and message.
    #[must_use]
    pub fn warning(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { level: Level::Warning, ..Diagnostic::error(code, message) }
    }

    /// Points at a piece of text.
    #[must_use]
    pub fn at(mut self, origin: &Origin, label: impl Into<String>) -> Diagnostic {
        self.place = Some(Place::Text(origin.clone()));
        self.label = label.into();
        self
    }

    /// Points at a file.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Diagnostic {
        self.place = Some(Place::File(file.to_owned()));
        self
    }

    /// Points at a node of a graph.
    #[must_use]
    pub fn at_node(mut self, file: &Path, node: &str, op: &str) -> Diagnostic {
        self.place = Some(Place::Node { file: file.to_owned(), node: node.to_owned(), op: op.to_owned() });
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn see(mut self, origin: &Origin, label: impl Into<String>) -> Diagnostic {
        self.related.push((Place::Text(origin.clone()), label.into()));
        self
    }

    /// Adds a cause or a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help.push(help.into());
        self
    }
}

/// The candidate nearest to `word`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= 1 + c.chars().count().max(word.chars().count()) / 4)
        .min()
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_and_column_count_characters() {
        let file = Arc::new(SourceFile { path: "m.toml".into(), text: "a = 1\né = 2\n".into() });
        assert_eq!(Origin::new(&file, 0..1).line_column(), (1, 1));
        assert_eq!(Origin::new(&file, 9..10).line_column(), (2, 3));
        assert_eq!(Origin::new(&file, 99..100).line_column(), (3, 1));
    }

    #[test]
    fn nearest_finds_typos_and_nothing_else() {
        assert_eq!(nearest("precison", ["precision", "profile"]), Some("precision"));
        assert_eq!(nearest("banana", ["precision", "profile"]), None);
    }
}
