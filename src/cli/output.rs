//! Text for people: tables, sizes, times. And the only functions that print.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
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

/// `59.1 MB`
pub(super) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// `0.42 s`, `12.3 s`, `4 min 5 s`
pub(super) fn duration(ms: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let seconds = ms as f64 / 1e3;
    match ms {
        0..10_000 => format!("{seconds:.2} s"),
        10_000..60_000 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// `1 engine`, `2 engines`
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

/// A table with aligned columns. The last column is not padded; its further lines are indented
/// to it.
pub(super) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = headers.iter().map(|h| width(h)).collect();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            widths[i] = widths[i].max(cell.lines().map(width).max().unwrap_or(0));
        }
    }
    let last = widths.len().saturating_sub(1);
    let indent: usize = widths[..last].iter().map(|w| w + 2).sum();
    let mut text = String::new();
    let header: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
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
    fn sizes_and_times_read_well() {
        assert_eq!([0, 999, 1_500, 59_100_000].map(size), ["0 B", "999 B", "1.5 kB", "59.1 MB"]);
        assert_eq!([420, 12_300, 245_000].map(duration), ["0.42 s", "12.3 s", "4 min 5 s"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "x\ny".to_owned()], vec!["bcd".to_owned(), "z".to_owned()]];
        assert_eq!(table(&["n", "v"], &rows), "n    v\na    x\n     y\nbcd  z\n");
    }
}
