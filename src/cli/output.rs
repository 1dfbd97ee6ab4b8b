//! Text for people: tables, sizes, times. And the only functions that print.

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::fs;

pub(super) use crate::report::{count, duration, size};

/// Version of the JSON that commands print.
pub(super) const JSON_FORMAT: u32 = 1;

/// Was data lost on its way to stdout?
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints data. A reader that went away is not an error; a full disk is.
pub(super) fn stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) => {
            stderr(&format!("error: cannot write to the standard output: {e}\n"));
        }
        _ => {}
    }
}

/// Was all data printed?
pub(super) fn is_whole() -> bool {
    !LOST.load(Ordering::Relaxed)
}

/// Prints what is not data.
pub(super) fn stderr(text: &str) {
    stderr_only(text);
    log(text);
}

/// Prints what is not data, and does not log it.
pub(super) fn stderr_only(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Where all that is not data goes as well: `--log-file`.
static LOG: OnceLock<Mutex<File>> = OnceLock::new();

/// From now on, what is not data is written to this file too; what was in it is gone.
pub(super) fn log_to(path: &Path) -> fs::Result<()> {
    let file = fs::create(path)?;
    let _ = LOG.set(Mutex::new(file));
    Ok(())
}

/// Writes to the log file alone, if there is one. A log that cannot be written stops nothing.
pub(super) fn log(text: &str) {
    if let Some(file) = LOG.get() {
        let text = without_colors(text);
        let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
    }
}

/// Text without what makes a terminal change its colours: ESC, `[`, up to a letter.
fn without_colors(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain += before;
        rest = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        rest = rest.get(1..).unwrap_or_default();
    }
    plain += rest;
    Cow::Owned(plain)
}

/// Prints a JSON document.
pub(super) fn json(value: &serde_json::Value) {
    stdout(&json_text(value));
}

/// A JSON document as it is printed.
pub(super) fn json_text(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// A path as text: JSON has no other bytes than those of UTF-8.
pub(super) fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Text of files, which a terminal must not take for its own: control characters are escaped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// The same of a text of several lines.
pub(super) fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// How much of an error is shown where it is shown in full elsewhere, in characters.
const BRIEF: usize = 160;

/// The beginning of an error, for a line of progress or of a table: TensorRT's own words can be long.
pub(super) fn brief(text: &str) -> String {
    let mut shown: String = text.chars().take(BRIEF).collect();
    if shown.len() < text.len() {
        shown.truncate(shown.trim_end().len());
        shown.push('…');
    }
    shown
}

/// A table with aligned columns. The last column is not padded; its further lines are indented
/// to it.
pub(super) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let last = headers.len().saturating_sub(1);
    let shown = |row: &Vec<String>| -> Vec<String> {
        let cell =
            |(i, cell): (usize, &String)| if i == last { lines(cell) } else { printable(cell).into_owned() };
        row.iter().enumerate().map(cell).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let mut widths: Vec<usize> = headers.iter().map(|h| width(h)).collect();
    for row in &rows {
        for (i, cell) in row.iter().enumerate() {
            widths[i] = widths[i].max(cell.lines().map(width).max().unwrap_or(0));
        }
    }
    let indent: usize = widths[..last].iter().map(|w| w + 2).sum();
    let mut text = String::new();
    let header: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            if i == last {
                line += &cell.replace('\n', &format!("\n{}", " ".repeat(indent)));
            } else {
                line += cell;
                line += &" ".repeat(widths[i] + 2 - width(cell));
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_no_colours() {
        assert_eq!(without_colors("\x1b[1m\x1b[31merror\x1b[0m: é"), "error: é");
        assert_eq!(without_colors("plain"), "plain");
    }

    #[test]
    fn cells_are_one_line_but_for_the_last() {
        let rows = [vec!["long\nname".to_owned(), "\x1b[31mred\nmore".to_owned()]];
        assert_eq!(
            table(&["n", "v"], &rows),
            "n           v\nlong\\nname  \\u{1b}[31mred\n            more\n"
        );
    }

    #[test]
    fn long_errors_are_cut() {
        assert_eq!(brief("short"), "short");
        let long = brief(&format!("é{}", " word".repeat(100)));
        assert!(
            long.starts_with("é word") && long.ends_with('…') && long.chars().count() <= BRIEF + 1,
            "{long}"
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "x\ny".to_owned()], vec!["bcd".to_owned(), "z".to_owned()]];
        assert_eq!(table(&["n", "v"], &rows), "n    v\na    x\n     y\nbcd  z\n");
    }
}
