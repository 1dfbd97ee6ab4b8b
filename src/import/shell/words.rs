//! One word: quotes, escapes, variables and braces.

use super::{OPERATORS, Shell, Word};
use crate::diagnostic::{Diagnostic, Origin};
use crate::import::codes;

/// How much variables may come to: more is a text that doubles itself.
const MOST: usize = 16 << 20;

/// A word that is being read.
#[derive(Default)]
struct Reading {
    text: String,
    /// Something was quoted, so that it is a word even if it is empty.
    is_quoted: bool,
    /// Where the first `{` stands that is not quoted, and if a `,` or `..` follows it.
    brace: Option<(usize, bool)>,
    /// Words that an unquoted variable gave before the last one.
    split: Vec<String>,
}

impl Shell<'_> {
    /// Reads one word, which an unquoted variable can make several or none.
    pub(super) fn read_word(&mut self) -> Result<Vec<Word>, Diagnostic> {
        let start = self.at;
        let is_assignment = self.assigned_name().is_some();
        let mut reading = Reading::default();
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' if self.line_ends(1) => self.skip_line(),
                b'\\' => self.escape(&mut reading)?,
                b'\'' => {
                    let open = self.at;
                    self.at += 1;
                    let text = self.until(b'\'', open)?;
                    reading.text += &text;
                    reading.is_quoted = true;
                }
                b'"' => self.double_quotes(&mut reading)?,
                b'$' if self.peek(1) == Some(b'\'') => {
                    return Err(self
                        .error(start, "`$'…'` is not understood")
                        .help("write the text in plain quotes"));
                }
                b'$' | b'`' => {
                    let value = self.expand()?;
                    match value {
                        Some(value) if is_assignment => reading.text += &value,
                        Some(value) => reading.add_unquoted(&value),
                        None => reading.text.push('$'),
                    }
                }
                // After `=` a shell leaves it, and trtexec does it.
                b'~' if self.at == start || self.bytes[self.at - 1] == b'=' => {
                    self.at += 1;
                    match &self.variables.home {
                        Some(home) if self.peek(0).is_none_or(|b| b == b'/' || OPERATORS.contains(&b)) => {
                            reading.text += home;
                        }
                        _ => reading.text.push('~'),
                    }
                }
                b if OPERATORS.contains(&b) => break,
                _ => {
                    let rest = &self.file.text[self.at..];
                    let Some(c) = rest.chars().next() else { break };
                    match (c, &mut reading.brace) {
                        ('{', brace @ None) => *brace = Some((self.at, false)),
                        (',', Some(brace)) => brace.1 = true,
                        ('.', Some(brace)) if rest.starts_with("..") => brace.1 = true,
                        ('}', Some((_, true))) => {
                            self.at += 1;
                            return Err(self
                                .error(start, "`{…,…}` stands for several words, which is not understood")
                                .help("quote it if the braces are meant, or write the words one by one"));
                        }
                        _ => {}
                    }
                    reading.text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        Ok(reading.words(&self.origin(start)))
    }

    fn escape(&mut self, reading: &mut Reading) -> Result<(), Diagnostic> {
        let start = self.at;
        self.at += 1;
        let rest = &self.file.text[self.at..];
        let Some(c) = rest.chars().next() else {
            return Err(self
                .error(start, "the text ends with `\\`")
                .help("the rest of the command is missing"));
        };
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if blank > 0 && rest[blank..].starts_with(['\n', '\r']) {
            self.at += blank;
            return Err(self
                .error(
                    start,
                    "a space stands between `\\` and the end of the line, so that the command ends here",
                )
                .help("remove the space: `\\` must be the last character of a line to continue it"));
        }
        self.at += c.len_utf8();
        reading.text.push(c);
        Ok(())
    }

    /// The text up to a closing quote.
    fn until(&mut self, quote: u8, open: usize) -> Result<String, Diagnostic> {
        let start = self.at;
        while self.peek(0).is_some_and(|b| b != quote) {
            self.at += 1;
        }
        if self.peek(0).is_none() {
            self.at = open + 1;
            return Err(self
                .error(open, "this quote is never closed")
                .help("if it is part of a name, write it between quotes of the other kind"));
        }
        let text = self.file.text[start..self.at].to_owned();
        self.at += 1;
        Ok(text)
    }

    fn double_quotes(&mut self, reading: &mut Reading) -> Result<(), Diagnostic> {
        let open = self.at;
        self.at += 1;
        reading.is_quoted = true;
        loop {
            match self.peek(0) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') if self.line_ends(1) => self.skip_line(),
                Some(b'\\') if matches!(self.peek(1), Some(b'"' | b'\\' | b'$' | b'`')) => {
                    reading.text.push(char::from(self.bytes[self.at + 1]));
                    self.at += 2;
                }
                Some(b'$' | b'`') => reading.text += self.expand()?.as_deref().unwrap_or("$"),
                Some(_) => {
                    let Some(c) = self.file.text[self.at..].chars().next() else { continue };
                    reading.text.push(c);
                    self.at += c.len_utf8();
                }
                None => {
                    self.at = open + 1;
                    return Err(self
                        .error(open, "this quote is never closed")
                        .help("if it is part of a name, write it between quotes of the other kind"));
                }
            }
        }
    }

    /// What stands at `$` or `` ` ``; none for a `$` that is only a character.
    fn expand(&mut self) -> Result<Option<String>, Diagnostic> {
        let start = self.at;
        let value = self.value()?;
        self.expanded += value.as_ref().map_or(0, String::len);
        if self.expanded > MOST {
            return Err(self
                .error(start, "the variables of this text come to more than 16 MiB")
                .help("write what they stand for"));
        }
        Ok(value)
    }

    fn value(&mut self) -> Result<Option<String>, Diagnostic> {
        let start = self.at;
        let rest = &self.file.text[self.at..];
        for folder in ["$(pwd)", "`pwd`", "$( pwd )"] {
            if rest.starts_with(folder) {
                self.at += folder.len();
                return Ok(Some(self.folder.display().to_string()));
            }
        }
        if rest.starts_with("$(") || rest.starts_with('`') {
            let close = if rest.starts_with('`') { '`' } else { ')' };
            let length = rest[1..].find(close).map_or(rest.len(), |end| end + 2);
            self.at += length;
            return Err(self
                .error(start, "what a command prints is known to a running shell only")
                .help("write what it prints in its place"));
        }
        self.at += 1;
        let rest = &rest[1..];
        let (inner, is_braced) = match rest.strip_prefix('{') {
            Some(inner) => match inner.find('}') {
                Some(end) => (&inner[..end], true),
                None => return Err(self.error(start, "`${` is never closed")),
            },
            None => (rest, false),
        };
        let length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let name = &inner[..length];
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            let first = inner.chars().next();
            if !is_braced && first.is_none_or(|c| !(c.is_ascii_digit() || "@*#?!-$".contains(c))) {
                return Ok(None);
            }
            self.at += first.map_or(0, char::len_utf8);
            return Err(self
                .error(start, "this stands for what a script was called with, which is not known here")
                .help("write it in its place"));
        }
        let after = if is_braced { &inner[length..] } else { "" };
        self.at += if is_braced { inner.len() + 2 } else { length };
        let known = match name {
            "PWD" => Some(self.folder.display().to_string()),
            "HOME" => self.variables.home.clone(),
            name => self.variables.known.get(name).cloned(),
        };
        let default = after.strip_prefix(":-").or_else(|| after.strip_prefix('-'));
        match (known, default) {
            (Some(value), _) if after.is_empty() || default.is_some() => Ok(Some(value)),
            (None, Some(default)) if !default.contains(['$', '`', '"', '\'']) => Ok(Some(default.to_owned())),
            (None, None) if after.is_empty() => {
                Err(Diagnostic::error(codes::VARIABLE, format!("nothing here says what `${name}` is"))
                    .at(&self.origin(start), "")
                    .help(format!(
                        "put `{name}=…;` before the command, or take it from the environment with `--env`"
                    )))
            }
            _ => Err(self
                .error(start, format!("`${{{inner}}}` is not understood"))
                .help("write what it stands for in its place")),
        }
    }
}

impl Reading {
    /// Adds the value of a variable that is not quoted, which spaces split.
    fn add_unquoted(&mut self, value: &str) {
        let mut parts = value.split_ascii_whitespace();
        let starts_apart = value.starts_with(|c: char| c.is_ascii_whitespace());
        let ends_apart = value.ends_with(|c: char| c.is_ascii_whitespace());
        let has_text = |reading: &Reading| !reading.text.is_empty() || reading.is_quoted;
        if starts_apart && has_text(self) {
            self.split.push(std::mem::take(&mut self.text));
        }
        if let Some(first) = parts.next() {
            self.text += first;
        }
        for part in parts {
            self.split.push(std::mem::replace(&mut self.text, part.to_owned()));
        }
        if ends_apart && has_text(self) {
            self.split.push(std::mem::take(&mut self.text));
        }
    }

    fn words(self, origin: &Origin) -> Vec<Word> {
        let last = (!self.text.is_empty() || self.is_quoted).then_some(self.text);
        let texts = self.split.into_iter().chain(last);
        texts.map(|text| Word { text, origin: origin.clone() }).collect()
    }
}
