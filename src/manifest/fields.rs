//! Reading the tree: every mistake becomes a diagnostic, and reading goes on.
//!
//! A method that returns `None` has reported why.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use super::codes;
use super::text::Bad;
use super::tree::{Kind, Node, Table};
use crate::diagnostic::{Diagnostic, Origin, Place, nearest};

/// The most diagnostics kept: a megabyte of wrong keys must not become a gigabyte of messages.
const MAX_DIAGNOSTICS: usize = 1000;

/// Where diagnostics go.
#[derive(Debug, Default)]
pub(super) struct Sink {
    kept: RefCell<Vec<Diagnostic>>,
    dropped: Cell<usize>,
}

impl Sink {
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < MAX_DIAGNOSTICS {
            kept.push(diagnostic);
        } else {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// In order of files and places; what is in no file is last.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        fn key(diagnostic: &Diagnostic) -> (bool, &Path, usize, usize) {
            match &diagnostic.place {
                Some(Place::Text(origin)) => (false, &origin.file.path, origin.start, origin.end),
                Some(Place::File(path) | Place::Node { file: path, .. }) => (false, path, 0, 0),
                None => (true, Path::new(""), 0, 0),
            }
        }
        let mut diagnostics = self.kept.into_inner();
        diagnostics.sort_by(|a, b| key(a).cmp(&key(b)));
        if self.dropped.get() > 0 {
            let message = format!("{} more problems are not shown", self.dropped.get());
            diagnostics.push(Diagnostic::error(codes::TOO_MANY, message));
        }
        diagnostics
    }
}

/// A thing and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// A value, with its key's place and its dotted path for messages.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) path: String,
    /// The key; for an item of a list, the item itself.
    pub(super) key: &'a Origin,
    pub(super) sink: &'a Sink,
    node: &'a Node,
}

/// A table whose keys are known.
pub(super) struct Fields<'a> {
    /// Its dotted path; empty for a whole file.
    path: String,
    /// What to point at when a key is missing.
    pub(super) origin: &'a Origin,
    sink: &'a Sink,
    table: &'a Table,
    allowed: Vec<&'static str>,
}

/// Text from a manifest, fit to stand in a message.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// "`a`, `b` or `c`".
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The path without `.` and `..`, without asking the file system.
pub(super) fn normalize_lexically(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

impl<'a> Item<'a> {
    /// The root table of a file.
    pub(super) fn root(node: &'a Node, sink: &'a Sink) -> Item<'a> {
        Item { path: String::new(), key: &node.origin, node, sink }
    }

    /// The place of the value.
    pub(super) fn origin(&self) -> &'a Origin {
        &self.node.origin
    }

    /// The value with its place.
    pub(super) fn located<T>(&self, value: T) -> Located<T> {
        Located { value, origin: self.origin().clone() }
    }

    /// Reports an error that underlines the value.
    pub(super) fn fail(&self, code: &'static str, message: impl Into<String>) {
        self.report(Diagnostic::error(code, message).at(self.origin(), ""));
    }

    /// Reports a diagnostic.
    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.sink.push(diagnostic);
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let message = format!("`{}` must be {expected}, not {}", shown(&self.path), self.node.kind.name());
        self.report(
            Diagnostic::error(codes::WRONG_TYPE, message).at(self.origin(), format!("expected {expected}")),
        );
        None
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.node.kind, Kind::Table(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self.node.kind, Kind::Integer(_))
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.node.kind, Kind::Text(_))
    }

    pub(super) fn text(&self) -> Option<String> {
        match &self.node.kind {
            Kind::Text(text) if text.trim().is_empty() => {
                self.fail(codes::EMPTY_VALUE, format!("`{}` is empty", shown(&self.path)));
                None
            }
            Kind::Text(text) => Some(text.clone()),
            _ => self.wrong_type("a string"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node.kind {
            Kind::Boolean(value) => Some(value),
            _ => self.wrong_type("a boolean"),
        }
    }

    pub(super) fn integer<T: TryFrom<i128>>(&self, range: RangeInclusive<i64>) -> Option<T> {
        let Kind::Integer(value) = self.node.kind else { return self.wrong_type("an integer") };
        let (least, most) = (i128::from(*range.start()), i128::from(*range.end()));
        let fitting = (least..=most).contains(&value).then(|| T::try_from(value).ok()).flatten();
        if fitting.is_none() {
            self.fail(
                codes::OUT_OF_RANGE,
                format!("`{}` must be from {least} to {most}, not {value}", shown(&self.path)),
            );
        }
        fitting
    }

    /// An integer or a float; not NaN and not infinite.
    pub(super) fn number(&self) -> Option<f64> {
        match self.node.kind {
            #[expect(clippy::cast_precision_loss, reason = "a tolerance or a range of values")]
            Kind::Integer(value) => Some(value as f64),
            Kind::Float(value) if value.is_finite() => Some(value),
            Kind::Float(value) => {
                let message = format!("`{}` must be a finite number, not {value}", shown(&self.path));
                self.fail(codes::OUT_OF_RANGE, message);
                None
            }
            _ => self.wrong_type("a number"),
        }
    }

    pub(super) fn list(&self) -> Option<Vec<Item<'a>>> {
        let Kind::List(nodes) = &self.node.kind else { return self.wrong_type("a list") };
        let item = |(i, node): (usize, &'a Node)| Item {
            path: format!("{}[{i}]", self.path),
            key: &node.origin,
            node,
            sink: self.sink,
        };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// A list, or a single item that stands for a list of one. Not empty.
    pub(super) fn one_or_more(&self) -> Option<Vec<Item<'a>>> {
        if !self.is_list() {
            return Some(vec![self.clone()]);
        }
        let items = self.list()?;
        if items.is_empty() {
            self.fail(codes::EMPTY_VALUE, format!("`{}` is empty", shown(&self.path)));
            return None;
        }
        Some(items)
    }

    /// A table of which every key is a name or the like.
    pub(super) fn entries(&self) -> Option<Vec<(String, Item<'a>)>> {
        let Kind::Table(table) = &self.node.kind else { return self.wrong_type("a table") };
        let entries = table.iter().map(|(name, (key, node))| (name.clone(), self.child(name, key, node)));
        Some(entries.collect())
    }

    fn child(&self, name: &str, key: &'a Origin, node: &'a Node) -> Item<'a> {
        Item { path: join(&self.path, name), key, node, sink: self.sink }
    }

    /// A table that takes these keys alone.
    pub(super) fn table(&self, allowed: &[&[&'static str]]) -> Option<Fields<'a>> {
        let Kind::Table(table) = &self.node.kind else { return self.wrong_type("a table") };
        let allowed = allowed.concat();
        for (name, (key, _)) in table {
            if !allowed.contains(&name.as_str()) {
                self.report(unknown_key(name, key, &self.path, &allowed));
            }
        }
        Some(Fields { path: self.path.clone(), origin: self.key, sink: self.sink, table, allowed })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        self.report(unknown_word(self, codes::UNKNOWN_VALUE, &text, words.iter().map(|(word, _)| *word)));
        None
    }

    /// A text of a form of its own.
    pub(super) fn parsed<T>(&self, parse: impl Fn(&str) -> Result<T, Bad>) -> Option<T> {
        let text = self.text()?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(bad) => {
                let message = format!("`{}`: `{}` {}", shown(&self.path), shown(&text), bad.message);
                let error = Diagnostic::error(bad.code, message).at(self.origin(), "");
                self.report(if bad.help.is_empty() { error } else { error.help(bad.help) });
                None
            }
        }
    }

    /// A path, relative to the file that it is written in; absolute afterwards.
    pub(super) fn file_path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.contains('\0') {
            self.fail(codes::BAD_PATH, format!("`{}` holds a NUL character", shown(&self.path)));
            return None;
        }
        Some(self.resolve(&text))
    }

    /// The absolute form of a path written in this file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let folder = self.key.file.path.parent().unwrap_or(Path::new("/"));
        normalize_lexically(&folder.join(path))
    }
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        debug_assert!(self.allowed.contains(&key), "`{key}` is read but not allowed in `{}`", self.path);
        let (place, node) = self.table.get(key)?;
        Some(Item { path: join(&self.path, key), key: place, node, sink: self.sink })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, key: &str, example: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.missing(key, example);
        }
        item
    }

    /// Reports that a key is missing.
    pub(super) fn missing(&self, key: &str, example: &str) {
        let message = format!("`{}` has no `{key}`", shown(&self.path));
        let error =
            Diagnostic::error(codes::MISSING_KEY, message).at(self.origin, format!("`{key}` is missing"));
        self.sink.push(error.help(format!("add `{example}`")));
    }

    /// The keys among these that are given.
    pub(super) fn given(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter().copied().filter(|key| self.table.contains_key(*key)).collect()
    }

    /// Reports keys that exclude each other.
    pub(super) fn conflict(&self, first: &str, second: &str) {
        let (Some(a), Some(b)) = (self.get(first), self.get(second)) else { return };
        let message = format!("`{}` has both `{first}` and `{second}`", shown(&self.path));
        let error = Diagnostic::error(codes::CONFLICTING_KEYS, message);
        self.sink.push(error.at(b.key, "give one of the two").see(a.key, "the other is here"));
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn unknown_key(name: &str, key: &Origin, path: &str, allowed: &[&'static str]) -> Diagnostic {
    let place = if path.is_empty() { String::new() } else { format!(" in `{}`", shown(path)) };
    let error = Diagnostic::error(codes::UNKNOWN_KEY, format!("unknown key `{}`{place}", shown(name)));
    let error = error.at(key, "");
    match nearest(name, allowed.iter().copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.note(format!("the keys here are {}", alternatives(allowed.iter().copied()))),
    }
}

/// A word that is not in its list.
pub(super) fn unknown_word<'w>(
    item: &Item<'_>,
    code: &'static str,
    text: &str,
    words: impl Iterator<Item = &'w str> + Clone,
) -> Diagnostic {
    let all = alternatives(words.clone());
    let message = format!("`{}` must be {all}, not `{}`", shown(&item.path), shown(text));
    let error = Diagnostic::error(code, message).at(item.origin(), "");
    match nearest(text, words) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}
