//! Diagnostics as text with underlined source, and as JSON.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level as Mark, Origin as MarkOrigin, Renderer, Snippet};

use super::output;
use super::settings::Settings;
use crate::diagnostic::{Diagnostic, Level, Origin, Place};

/// Prints diagnostics to stderr.
pub(super) fn print(settings: &Settings, diagnostics: &[Diagnostic]) {
    output::stderr(&texts(settings, diagnostics));
}

/// Diagnostics as [`print`] shows them.
pub(super) fn texts(settings: &Settings, diagnostics: &[Diagnostic]) -> String {
    let shown = diagnostics.iter().filter(|d| !settings.quiet || d.level == Level::Error);
    shown.map(|d| text(d, settings.color, settings.root.as_deref())).collect()
}

/// One diagnostic as text, with an empty line after it. Paths are shown relative to `root`.
pub(super) fn text(diagnostic: &Diagnostic, color: bool, root: Option<&Path>) -> String {
    let level = match diagnostic.level {
        Level::Error => Mark::ERROR,
        Level::Warning => Mark::WARNING,
        Level::Note => Mark::NOTE,
    };
    let message = output::printable(&diagnostic.message);
    let title = level.primary_title(message.as_ref()).id(diagnostic.code.as_ref());
    let mut group: Group<'_> = Group::with_title(title);
    match &diagnostic.place {
        Some(Place::Text(origin)) => {
            let label = (!diagnostic.label.is_empty()).then_some(diagnostic.label.as_str());
            group = group.element(snippet(origin, AnnotationKind::Primary, label, root));
        }
        Some(place) => group = group.element(MarkOrigin::path(place_text(place, root))),
        None => {}
    }
    for (place, label) in &diagnostic.related {
        if let Place::Text(origin) = place {
            group = group.element(snippet(origin, AnnotationKind::Context, Some(label.as_str()), root));
        }
    }
    for note in &diagnostic.notes {
        group = group.element(Mark::NOTE.message(output::lines(note)));
    }
    let rules = diagnostic.rules.as_ref().map(|rules| format!("add this rule:\n{rules}"));
    for help in rules.iter().chain(&diagnostic.help) {
        group = group.element(Mark::HELP.message(output::lines(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    format!("{}\n\n", renderer.render(&[group]))
}

fn snippet<'a>(
    origin: &'a Origin,
    kind: AnnotationKind,
    label: Option<&'a str>,
    root: Option<&Path>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = origin.file.text.as_str();
    // A span never ends inside a character or beyond the text, whatever made it.
    let clamp = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (clamp(origin.start), clamp(origin.end.max(origin.start)));
    Snippet::source(text).path(show(&origin.file.path, root)).annotation(kind.span(start..end).label(label))
}

/// Where something is, on one line: file and line, or file and node.
pub(super) fn place_text(place: &Place, root: Option<&Path>) -> String {
    match place {
        Place::Text(origin) => format!("{}:{}", show(&origin.file.path, root), origin.line_column().0),
        Place::File(file) => show(file, root),
        Place::Node { file, node, op } => {
            format!("{}: node `{}` ({})", show(file, root), output::printable(node), output::printable(op))
        }
    }
}

fn show(path: &Path, root: Option<&Path>) -> String {
    root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path).display().to_string()
}

/// One diagnostic as JSON.
pub(super) fn json(diagnostic: &Diagnostic) -> serde_json::Value {
    let related: Vec<_> = diagnostic
        .related
        .iter()
        .map(|(p, label)| serde_json::json!({ "place": place(p), "label": label }))
        .collect();
    serde_json::json!({
        "code": diagnostic.code,
        "level": diagnostic.level,
        "message": diagnostic.message,
        "place": diagnostic.place.as_ref().map(place),
        "label": diagnostic.label,
        "related": related,
        "notes": diagnostic.notes,
        "help": diagnostic.help,
        "rules": diagnostic.rules,
    })
}

fn place(place: &Place) -> serde_json::Value {
    match place {
        Place::Text(origin) => {
            let (line, column) = origin.line_column();
            serde_json::json!({
                "file": output::path(&origin.file.path), "line": line, "column": column,
                "start": origin.start, "end": origin.end,
            })
        }
        Place::File(file) => serde_json::json!({ "file": output::path(file) }),
        Place::Node { file, node, op } => {
            serde_json::json!({ "file": output::path(file), "node": node, "op": op })
        }
    }
}
