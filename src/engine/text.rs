//! The notation of a compiled graph: instructions of one form, `KIND={ KEY=VALUE … }`, each at the start of a
//! line after two spaces. A value is a word, a text in quotes, or a list in braces, of values or of pairs.

/// How deep lists may lie in each other.
const MAX_DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'t> {
    /// A word, or what stands between quotes, with its escapes.
    Text(&'t str),
    /// What stands between braces.
    List(Vec<Item<'t>>),
}

/// A value, and its key if it has one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item<'t> {
    pub(super) key: Option<&'t str>,
    pub(super) value: Value<'t>,
}

/// An instruction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instruction<'t> {
    pub(super) kind: &'t str,
    items: Vec<Item<'t>>,
}

impl<'t> Instruction<'t> {
    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Option<&'t str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            Value::List(_) => None,
        }
    }

    /// The texts in the list of a key.
    pub(super) fn list(&self, key: &str) -> Option<Vec<&'t str>> {
        let Value::List(items) = &self.get(key)?.value else { return None };
        let text = |item: &Item<'t>| match item.value {
            Value::Text(text) if item.key.is_none() => Some(text),
            _ => None,
        };
        Some(items.iter().filter_map(text).collect())
    }

    fn get(&self, key: &str) -> Option<&Item<'t>> {
        self.items.iter().find(|item| item.key == Some(key))
    }
}

/// The instructions of a text in order; none in the place of one that begins and cannot be read. Other lines are skipped.
pub(super) fn instructions(text: &str) -> impl Iterator<Item = Option<Instruction<'_>>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let line = text.get(at..)?;
            let begun = beginning(line);
            if let Some((kind, (items, rest))) = begun.and_then(|(kind, rest)| Some((kind, list(rest, 0)?))) {
                at = text.len() - rest.len();
                return Some(Some(Instruction { kind, items }));
            }
            at += memchr::memchr(b'\n', line.as_bytes()).map_or(line.len() + 1, |end| end + 1);
            if begun.is_some() {
                return Some(None);
            }
        }
    })
}

/// `KIND={`: what an instruction begins with, and what follows.
fn beginning(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("  ")?;
    let is_kind = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (kind, rest) = line.split_at(line.find(|c| !is_kind(c))?);
    Some((kind, rest.strip_prefix("={").filter(|_| !kind.is_empty())?))
}

/// Items up to the closing brace, and what follows it.
fn list(mut rest: &str, depth: usize) -> Option<(Vec<Item<'_>>, &str)> {
    if depth >= MAX_DEPTH {
        return None;
    }
    let mut items = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((items, after));
        }
        let (first, after) = value(rest, depth)?;
        let spaced = after.trim_ascii_start();
        rest = match (&first, spaced.strip_prefix('=')) {
            (Value::Text(key), Some(after)) => {
                let (value, after) = value(after.trim_ascii_start(), depth)?;
                items.push(Item { key: Some(key), value });
                after
            }
            _ => {
                items.push(Item { key: None, value: first });
                after
            }
        };
    }
}

fn value(text: &str, depth: usize) -> Option<(Value<'_>, &str)> {
    match text.as_bytes().first()? {
        b'{' => {
            let (items, rest) = list(&text[1..], depth + 1)?;
            Some((Value::List(items), rest))
        }
        b'"' => {
            let bytes = text.as_bytes();
            let mut end = 1;
            loop {
                end += memchr::memchr2(b'"', b'\\', bytes.get(end..)?)?;
                if bytes[end] == b'"' {
                    return Some((Value::Text(&text[1..end]), &text[end + 1..]));
                }
                end += 2; // What is escaped may end the text, and never ends the quotes.
            }
        }
        _ => {
            let is_end = |c: char| c.is_ascii_whitespace() || matches!(c, '{' | '}' | '=' | '"');
            let end = text.find(is_end)?;
            if end == 0 { None } else { Some((Value::Text(&text[..end]), &text[end..])) }
        }
    }
}

/// A text without its escapes.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("\\\"", "\"").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_has_keys_lists_and_texts() {
        let text = "header {\n  relu={ name=\"a b\" output={\"x\" \"y\" } dims={ 1 \"p\" } binary = 3 \
                    cond = { exec = \"z\" } msg=\"two\nlines, a \\\" and } \" layers=\"\" }\n  bad={ x\n";
        let found: Vec<_> = instructions(text).collect();
        let [Some(relu), None] = found.as_slice() else { panic!("one, and one that is cut off: {found:?}") };
        assert_eq!((relu.kind, relu.text("name"), relu.text("binary")), ("relu", Some("a b"), Some("3")));
        assert_eq!(relu.list("output"), Some(vec!["x", "y"]));
        assert_eq!(relu.list("dims"), Some(vec!["1", "p"]));
        assert_eq!(relu.text("msg").map(unescaped), Some("two\nlines, a \" and } ".to_owned()));
        assert_eq!(
            (relu.text("layers"), relu.text("nothing"), relu.list("cond")),
            (Some(""), None, Some(vec![]))
        );
    }

    #[test]
    fn what_lies_too_deep_cannot_be_read() {
        let text = format!("  a={}{}\n  b={{ }}\n", "{ ".repeat(40), "} ".repeat(40));
        let kinds: Vec<_> = instructions(&text).map(|i| i.map(|i| i.kind)).collect();
        assert_eq!(kinds, [None, Some("b")]);
    }
}
