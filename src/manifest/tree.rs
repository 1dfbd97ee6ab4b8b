//! TOML text as a tree in which every key and value knows where it stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::codes;
use super::fields::Sink;
use crate::diagnostic::{Diagnostic, Origin, SourceFile};

/// Syntax errors shown per file: a file that is no TOML at all has one in every line.
const MAX_SYNTAX_ERRORS: usize = 20;

/// The most dots in one key; manifests need nine. The parser limits nesting, but not nesting times dots, and
/// trees are read and dropped by recursion.
const MAX_DOTS: usize = 12;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    Text(String),
    /// Wider than TOML's 64 bits, so that a number too large is a range error like any other.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Date,
    List(Vec<Node>),
    Table(Table),
}

/// Keys with their places, and values.
pub(super) type Table = BTreeMap<String, (Origin, Node)>;

impl Kind {
    /// For people, with article.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Text(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a float",
            Kind::Boolean(_) => "a boolean",
            Kind::Date => "a date",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }
}

/// Parses a file. After a syntax error there is no tree: what the parser could save of it would only
/// give rise to errors that are none.
pub(super) fn parse(file: &Arc<SourceFile>, sink: &Sink) -> Option<Node> {
    if let Some(long) = long_key(&file.text) {
        let message = format!("a key has more than {MAX_DOTS} dots");
        sink.push(Diagnostic::error(codes::SYNTAX, message).at(&Origin::new(file, long), "here"));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(&file.text);
    if errors.is_empty() {
        let kind = Kind::Table(table(document.get_ref(), file));
        return Some(Node { origin: Origin::new(file, 0..0), kind });
    }
    let mut errors: Vec<(Range<usize>, &str)> =
        errors.iter().map(|e| (e.span().unwrap_or(0..0), e.message())).collect();
    errors.sort_by_key(|(span, _)| (span.start, span.end));
    errors.dedup();
    let mut inside_duplicate = None;
    let mut shown = 0;
    for (span, message) in &errors {
        if message.contains("duplicate key") {
            // The keys of a table that is there twice are duplicates only for that reason.
            let header = section_start(&file.text, span.start);
            if inside_duplicate == Some(header) {
                continue;
            }
            if header == line_start(&file.text, span.start) {
                inside_duplicate = Some(header);
            }
        }
        shown += 1;
        if shown <= MAX_SYNTAX_ERRORS {
            sink.push(syntax_error(file, span.clone(), message));
        }
    }
    if shown > MAX_SYNTAX_ERRORS {
        let message = format!("{} more syntax errors are not shown", shown - MAX_SYNTAX_ERRORS);
        sink.push(Diagnostic::error(codes::SYNTAX, message).in_file(&file.path));
    }
    None
}

/// The dot that is one too many.
fn long_key(text: &str) -> Option<Range<usize>> {
    let mut dots = 0;
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Atom | TokenKind::Whitespace | TokenKind::BasicString | TokenKind::LiteralString => {}
            _ => dots = 0,
        }
        if dots > MAX_DOTS {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

fn syntax_error(file: &Arc<SourceFile>, span: Range<usize>, message: &str) -> Diagnostic {
    let origin = Origin::new(file, span.clone());
    if message.contains("duplicate key") {
        let text = file.text.get(span).unwrap_or_default();
        let error = Diagnostic::error(codes::DUPLICATE_NAME, format!("`{text}` is defined twice"));
        let error = error.at(&origin, "defined again");
        return match first_definition(&file.text, &origin) {
            Some(first) => error.see(&Origin::new(file, first), "first defined here"),
            None => error,
        };
    }
    // The first line says it; further ones repeat what is underlined.
    let line = message.lines().next().unwrap_or("invalid TOML");
    Diagnostic::error(codes::SYNTAX, line).at(&origin, "")
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |i| i + 1)
}

/// Start of the line with the header of the table that this place is in.
fn section_start(text: &str, at: usize) -> usize {
    let mut start = line_start(text, at);
    while start > 0 && !text[start..].trim_start().starts_with('[') {
        start = line_start(text, start - 1);
    }
    start
}

/// Where the same header, or the same key of the same table, stands for the first time. The parser
/// does not say; a plain comparison of lines finds it in the way that people write TOML.
fn first_definition(text: &str, again: &Origin) -> Option<Range<usize>> {
    let start = line_start(text, again.start);
    let line = text[start..].lines().next()?;
    let line = line.split('#').next()?.trim();
    let (from, wanted) = if line.starts_with('[') {
        (0, line)
    } else {
        (section_start(text, again.start), text.get(again.start..again.end)?)
    };
    let mut at = from;
    for candidate in text.get(from..start)?.split_inclusive('\n') {
        let trimmed = candidate.trim_start();
        let offset = at + candidate.len() - trimmed.len();
        let rest = trimmed.strip_prefix(wanted).map(str::trim_start);
        let same = match rest {
            Some(rest) if line.starts_with('[') => rest.is_empty() || rest.starts_with('#'),
            Some(rest) => rest.starts_with(['=', '.']),
            None => false,
        };
        if same {
            return Some(offset..offset + wanted.len());
        }
        at += candidate.len();
    }
    None
}

fn table(entries: &DeTable<'_>, file: &Arc<SourceFile>) -> Table {
    entries
        .iter()
        .map(|(key, value)| {
            let place = Origin::new(file, key.span());
            (key.get_ref().to_string(), (place, node(value.get_ref(), value.span(), file)))
        })
        .collect()
}

fn node(value: &DeValue<'_>, span: Range<usize>, file: &Arc<SourceFile>) -> Node {
    let kind = match value {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(n) => {
            Kind::Integer(i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Float(x) => Kind::Float(x.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Kind::Boolean(*b),
        DeValue::Datetime(_) => Kind::Date,
        DeValue::Array(items) => {
            Kind::List(items.iter().map(|item| node(item.get_ref(), item.span(), file)).collect())
        }
        DeValue::Table(entries) => Kind::Table(table(entries, file)),
    };
    Node { origin: Origin::new(file, span), kind }
}
