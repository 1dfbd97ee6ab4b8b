//! Command lines as a POSIX shell reads them: quotes, continuation lines, variables, comments, pipes, redirections
//! and lists. Nothing is run: what only a running shell could know is an error that names it.

mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codes;
use crate::diagnostic::{Diagnostic, Origin, SourceFile};

/// One word of a command, after quotes and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// One simple command: `A=1 program argument > file`.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// `NAME=VALUE` before the program.
    pub(super) assignments: Vec<(String, Word)>,
    /// The program and its arguments.
    pub(super) words: Vec<Word>,
    /// Redirections, as written: `2>&1`, `> build.log`.
    pub(super) redirections: Vec<Word>,
    /// The folder that it runs in.
    pub(super) folder: PathBuf,
    /// Is it read from by a pipe: `this | tee log`?
    pub(super) is_piped: bool,
}

/// What is known of the shell that ran a command. A variable that nothing sets is an error, never empty.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// Variables by name.
    pub known: BTreeMap<String, String>,
    /// What `~` and `$HOME` stand for.
    pub home: Option<String>,
}

/// Splits a text into its commands, in order.
pub(super) fn split(
    file: &Arc<SourceFile>,
    folder: &Path,
    variables: &Variables,
) -> Result<Vec<Command>, Diagnostic> {
    let mut shell = Shell {
        file,
        bytes: file.text.as_bytes(),
        at: 0,
        folder: folder.to_owned(),
        variables: variables.clone(),
        commands: Vec::new(),
        current: Pending::default(),
        expanded: 0,
    };
    shell.run()?;
    Ok(shell.commands)
}

/// Splits a text that is part of a word, such as that of `bash -c`; all of it stands where the word does.
pub(super) fn split_inner(
    word: &Word,
    folder: &Path,
    variables: &Variables,
) -> Result<Vec<Command>, Diagnostic> {
    let file = Arc::new(SourceFile { path: word.origin.file.path.clone(), text: word.text.clone() });
    let relocate = |word: &mut Word, origin: &Origin| word.origin = origin.clone();
    let mut commands = split(&file, folder, variables).map_err(|mut error| {
        error.place = Some(crate::diagnostic::Place::Text(word.origin.clone()));
        error
    })?;
    for command in &mut commands {
        let assigned = command.assignments.iter_mut().map(|(_, word)| word);
        for inner in command.words.iter_mut().chain(&mut command.redirections).chain(assigned) {
            relocate(inner, &word.origin);
        }
    }
    Ok(commands)
}

#[derive(Default)]
struct Pending {
    assignments: Vec<(String, Word)>,
    words: Vec<Word>,
    redirections: Vec<Word>,
}

struct Shell<'a> {
    file: &'a Arc<SourceFile>,
    bytes: &'a [u8],
    at: usize,
    folder: PathBuf,
    variables: Variables,
    commands: Vec<Command>,
    current: Pending,
    /// Bytes that variables came to.
    expanded: usize,
}

/// What ends a word without a space.
const OPERATORS: &[u8] = b" \t\r\n;&|<>()";

/// Words at the place of a program that begin what only a shell can do.
const CONTROL: &[&str] = &[
    "for", "while", "until", "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "function",
    "select",
];

impl Shell<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn origin(&self, start: usize) -> Origin {
        Origin::new(self.file, start..self.at)
    }

    fn error(&self, start: usize, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(codes::SHELL, message).at(&self.origin(start), "")
    }

    fn run(&mut self) -> Result<(), Diagnostic> {
        while let Some(byte) = self.peek(0) {
            let start = self.at;
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.end(false)?;
                }
                b'#' => {
                    while self.peek(0).is_some_and(|b| b != b'\n') {
                        self.at += 1;
                    }
                }
                // A caret at the end of a line continues it in Windows.
                b'^' if self.line_ends(1) => self.skip_line(),
                b';' => {
                    self.at += 1;
                    if self.peek(0) == Some(b';') {
                        return Err(self.control(start, "case"));
                    }
                    self.end(false)?;
                }
                b'|' => {
                    self.at += 1 + usize::from(matches!(self.peek(1), Some(b'|' | b'&')));
                    let is_pipe = !self.file.text[start..self.at].ends_with("||");
                    self.end(is_pipe)?;
                }
                b'&' if self.peek(1) == Some(b'>') => self.redirection(start)?,
                b'&' => {
                    self.at += 1 + usize::from(self.peek(1) == Some(b'&'));
                    self.end(false)?;
                }
                b'(' | b')' => {
                    // A group runs its commands in turn; that it is another shell matters to variables alone.
                    self.at += 1;
                    self.end(false)?;
                }
                b'<' | b'>' => self.redirection(start)?,
                _ => {
                    let digits = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
                    if digits > 0 && matches!(self.peek(digits), Some(b'<' | b'>')) {
                        self.at += digits;
                        self.redirection(start)?;
                    } else {
                        self.word()?;
                    }
                }
            }
        }
        self.end(false)
    }

    fn line_ends(&self, ahead: usize) -> bool {
        matches!((self.peek(ahead), self.peek(ahead + 1)), (Some(b'\n'), _) | (Some(b'\r'), Some(b'\n')))
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|b| b != b'\n') {
            self.at += 1;
        }
        self.at += 1;
    }

    fn control(&self, start: usize, word: &str) -> Diagnostic {
        self.error(start, format!("`{word}` needs a running shell"))
            .help("give one command with what the script would put in it; `bash -x SCRIPT` shows the commands that it runs")
    }

    /// `> file`, `2>&1`, `&> file`, `< file`.
    fn redirection(&mut self, start: usize) -> Result<(), Diagnostic> {
        if self.peek(0) == Some(b'&') {
            self.at += 1;
        }
        let is_input = self.peek(0) == Some(b'<');
        while matches!(self.peek(0), Some(b'<' | b'>' | b'&' | b'|')) {
            self.at += 1;
        }
        if is_input && self.file.text[start..self.at].ends_with("<<") {
            return Err(self
                .error(start, "text that follows a command (`<<`) is not understood")
                .help("give the command alone"));
        }
        while matches!(self.peek(0), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let operator = self.file.text[start..self.at].to_owned();
        if self.peek(0).is_none_or(|b| OPERATORS.contains(&b)) {
            return Err(self.error(start, format!("nothing stands after `{}`", operator.trim())));
        }
        let words = self.read_word()?;
        let text = operator + &words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ");
        self.current.redirections.push(Word { text, origin: self.origin(start) });
        Ok(())
    }

    fn word(&mut self) -> Result<(), Diagnostic> {
        let start = self.at;
        let name = self.assigned_name();
        let words = self.read_word()?;
        let first = self.current.words.is_empty();
        if let Some(name) = name.filter(|_| first || self.current.words[0].text == "export") {
            if self.peek(0) == Some(b'(') {
                return Err(self
                    .error(start, "arrays are not understood")
                    .help("write their words in the command"));
            }
            let value: String = words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ");
            let value = value[(name.len() + 1).min(value.len())..].to_owned();
            self.current.assignments.push((name, Word { text: value, origin: self.origin(start) }));
            return Ok(());
        }
        if let Some(word) = words.first().filter(|w| first && CONTROL.contains(&w.text.as_str())) {
            return Err(self.control(start, &word.text));
        }
        // A group, as in `{ a; b; }`.
        if words.len() == 1 && ["{", "}", "!"].contains(&words[0].text.as_str()) && first {
            return Ok(());
        }
        self.current.words.extend(words);
        Ok(())
    }

    /// NAME, if what comes is `NAME=`.
    fn assigned_name(&self) -> Option<String> {
        let rest = &self.file.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let name = &rest[..end];
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        (is_name && rest[end..].starts_with('=')).then(|| name.to_owned())
    }

    /// The command is complete.
    fn end(&mut self, is_piped: bool) -> Result<(), Diagnostic> {
        let Pending { assignments, words, redirections } = std::mem::take(&mut self.current);
        let program = words.first().map(|w| w.text.clone());
        match program.as_deref() {
            None | Some("export") => {
                let values = assignments.into_iter().map(|(name, word)| (name, word.text));
                self.variables.known.extend(values);
                return Ok(());
            }
            Some("cd" | "pushd") if words.len() == 2 => {
                self.folder = self.folder.join(&words[1].text);
                return Ok(());
            }
            _ => {}
        }
        let folder = self.folder.clone();
        self.commands.push(Command { assignments, words, redirections, folder, is_piped });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables { known: [("M".into(), "a b".into())].into(), home: Some("/home/me".into()) }
    }

    fn run(text: &str) -> Result<Vec<Command>, Diagnostic> {
        let file = Arc::new(SourceFile { path: "c".into(), text: text.into() });
        split(&file, Path::new("/w"), &variables())
    }

    fn words(text: &str) -> Vec<Vec<String>> {
        let commands = run(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        commands.into_iter().map(|c| c.words.into_iter().map(|w| w.text).collect()).collect()
    }

    #[test]
    fn quotes_are_those_of_a_shell() {
        for (text, expected) in [
            (r#"t --a='x y' "--b=$M" --c=\ z"#, &["t", "--a=x y", "--b=a b", "--c= z"][..]),
            (r#"t "a\"b\n" 'a"b\' ''"#, &["t", "a\"b\\n", "a\"b\\", ""]),
            ("t --a=$M x$M ", &["t", "--a=a", "b", "xa", "b"]),
            ("t --é='ü,ö' # comment", &["t", "--é=ü,ö"]),
            ("t --a=x#y", &["t", "--a=x#y"]),
            ("t ${N:-d} ${M-x}y $ a$", &["t", "d", "a", "by", "$", "a$"]),
            ("t ~/m ~ --x=~/m a~b", &["t", "/home/me/m", "/home/me", "--x=/home/me/m", "a~b"]),
            ("t $PWD $(pwd)/m `pwd`", &["t", "/w", "/w/m", "/w"]),
            ("t '{a,b}' {a} \"{1..2}\"", &["t", "{a,b}", "{a}", "{1..2}"]),
        ] {
            assert_eq!(words(text), [expected], "{text}");
        }
    }

    #[test]
    fn lines_are_continued() {
        assert_eq!(words("t \\\n  --a \\\r\n --b\n"), [["t", "--a", "--b"]]);
        assert_eq!(words("t ^\r\n --a"), [["t", "--a"]]);
        assert_eq!(words("t --a=x\\\ny"), [["t", "--a=xy"]]);
        let error = run("t \\ \n --a").unwrap_err();
        assert!(error.message.contains("a space stands between"), "{error:?}");
    }

    #[test]
    fn lists_pipes_and_redirections_end_commands() {
        let commands = run("cd x && A=1 t --a 2>&1 | tee l; (u > f 2>/dev/null &) || v &> g").unwrap();
        let texts: Vec<String> = commands.iter().map(|c| c.words[0].text.clone()).collect();
        assert_eq!(texts, ["t", "tee", "u", "v"]);
        assert_eq!(commands[0].folder, Path::new("/w/x"));
        assert_eq!((commands[0].assignments[0].0.as_str(), commands[0].is_piped), ("A", true));
        let redirected =
            |at: usize| commands[at].redirections.iter().map(|w| w.text.clone()).collect::<Vec<_>>();
        assert_eq!(redirected(0), ["2>&1"]);
        assert_eq!(redirected(2), ["> f", "2>/dev/null"]);
        assert_eq!(redirected(3), ["&> g"]);
    }

    #[test]
    fn variables_are_set_by_commands_before() {
        assert_eq!(words("X=1; export Y=\"$X 2\"\nt $X \"$Y\""), [["t", "1", "1 2"]]);
        assert_eq!(words("A=\"--x  --y\"; t $A \"$A\""), [["t", "--x", "--y", "--x  --y"]]);
        assert!(run("X=1 t; u $X").is_err(), "set for one command alone");
    }

    #[test]
    fn what_only_a_shell_knows_is_an_error() {
        let doubling = format!("A=xxxxxxxx\n{}t $A", "A=$A$A\n".repeat(40));
        for (text, says) in [
            ("t $NO", "nothing here says what `$NO` is"),
            ("t ${M%.onnx}", "is not understood"),
            ("t $(ls)", "what a command prints"),
            ("t `ls`", "what a command prints"),
            ("t $1 x", "what a script was called with"),
            ("t 'a", "never closed"),
            ("t \"a", "never closed"),
            ("t ${A", "never closed"),
            ("t {a,b}.onnx", "several words"),
            ("for m in a b; do t $m; done", "`for` needs a running shell"),
            ("A=(x y)", "arrays"),
            ("t <<EOF", "`<<`"),
            ("t >", "nothing stands after"),
            ("t \\", "ends with"),
            ("t $'a'", "is not understood"),
            (&doubling, "more than 16 MiB"),
        ] {
            let error = run(text).expect_err(text);
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert!(error.place.is_some(), "{text}");
        }
    }

    #[test]
    fn words_know_where_they_stand() {
        let text = "t \\\n --a='x y' é --b";
        let commands = run(text).unwrap();
        let at: Vec<&str> = commands[0].words.iter().map(|w| &text[w.origin.start..w.origin.end]).collect();
        assert_eq!(at, ["t", "--a='x y'", "é", "--b"]);
    }
}
