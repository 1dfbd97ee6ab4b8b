//! Text that users wrote, made harmless: for HTML, for Markdown, and for JSON inside of HTML.

/// For text and for attributes in double quotes.
pub(super) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c if is_hidden(c) => safe += &shown(c),
            c => safe.push(c),
        }
    }
    safe
}

/// For text in which pieces in backticks are code.
pub(super) fn prose(text: &str) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    let mut safe = String::new();
    for (i, piece) in pieces.iter().enumerate() {
        // An odd backtick is a character like any other.
        match (i % 2 == 1, i + 1 == pieces.len()) {
            (true, false) => safe += &format!("<code>{}</code>", html(piece)),
            (true, true) => safe += &format!("`{}", html(piece)),
            (false, _) => safe += &html(piece),
        }
    }
    safe
}

/// A JSON document for a `<script type="application/json">`: nothing in it ends the element.
pub(super) fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// For a cell of a Markdown table, as code: neither Markdown, HTML, a link nor a mention.
pub(super) fn code(text: &str) -> String {
    let flat = flat(text);
    if flat.is_empty() {
        return String::new();
    }
    // A fence longer than any run of backticks within.
    let longest = flat.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if longest > 0 { " " } else { "" };
    // GitHub ends a cell at a pipe even in code, unless that has a backslash.
    format!("{fence}{space}{}{space}{fence}", flat.replace('|', "\\|"))
}

/// For a cell of a Markdown table: words, in which pieces in backticks stay code.
pub(super) fn words(text: &str) -> String {
    let flat = flat(text);
    let pieces: Vec<&str> = flat.split('`').collect();
    // An odd backtick is a character like any other.
    let last = if pieces.len().is_multiple_of(2) { pieces.len() - 1 } else { pieces.len() };
    let mut safe = String::new();
    for (i, piece) in pieces.iter().enumerate() {
        match i {
            _ if i >= last => safe += &format!("\\`{}", plain(piece)),
            _ if i % 2 == 1 => safe += &code(piece),
            _ => safe += &plain(piece),
        }
    }
    safe
}

fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '&' => safe += "&amp;",
            // Not a mention, not an issue: a joiner of no width stands between.
            '@' | '#' => safe.extend([c, '\u{2060}']),
            '|' | '*' | '_' | '[' | ']' | '\\' | '~' | '!' | '$' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe.replace("://", ":\u{2060}//")
}

/// On one line, nothing hidden.
fn flat(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\r' | '\t' => " ".to_owned(),
        c if is_hidden(c) => shown(c),
        c => c.to_string(),
    };
    text.trim().chars().map(visible).collect()
}

/// Text for the page's script, which shows it as text: nothing hidden.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { shown(c) } else { c.to_string() }).collect()
}

/// What turns the direction of text around, or is not to be seen, could show another name than the true one: its number
/// is shown.
fn shown(c: char) -> String {
    format!("\u{fffd}{:x}", u32::from(c))
}

fn is_hidden(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_what_it_is_in() {
        assert_eq!(html("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        assert_eq!(html("a\u{202e}b\u{0}"), "a\u{fffd}202eb\u{fffd}0");
        assert_eq!(prose("a `<b>` c `d"), "a <code>&lt;b&gt;</code> c `d");
        let script = json(&serde_json::json!("</script><!--"));
        assert!(!script.contains('<') && script.contains("\\u003c/script"), "{script}");
        assert_eq!(serde_json::from_str::<String>(&script).unwrap(), "</script><!--");
    }

    #[test]
    fn a_cell_stays_a_cell() {
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("a`b\n``"), "``` a`b `` ```");
        assert_eq!(
            words("rule `x|y` of @me is <b> at https://e.x"),
            "rule `x\\|y` of @\u{2060}me is &lt;b&gt; at https:\u{2060}//e.x"
        );
        assert_eq!(words("an odd ` one"), "an odd \\` one");
        assert_eq!(words("*a*\n[x](y)"), "\\*a\\* \\[x\\](y)");
    }
}
