//! The arguments of trtexec, as the option parser of a version takes them.

use super::Version;
use super::codes;
use super::program::Run;
use super::shell::Word;
use crate::diagnostic::{Diagnostic, nearest};
use crate::toolchain::trtexec::flags::{self, Argument, Flag, Times};

/// An option as it was given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) flag: &'static Flag,
    /// The spelling that was used.
    pub(super) spelling: String,
    /// What stands after `=`; empty for options that take nothing.
    pub(super) value: String,
    pub(super) word: Word,
}

/// All options of one run.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) given: Vec<Given>,
}

impl Options {
    /// The option of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Given> {
        self.given.iter().find(|given| given.flag.name() == name)
    }

    /// All of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Given> {
        self.given.iter().filter(move |given| given.flag.name() == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl Given {
    /// A diagnostic about it.
    pub(super) fn error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message).at(&self.word.origin, "")
    }
}

/// The newest version that takes all options of a run; errors if there is none.
pub(super) fn newest_version(run: &Run) -> Result<Version, Vec<Diagnostic>> {
    let mut unknown = Vec::new();
    let mut known = Vec::new();
    for word in &run.arguments {
        match flags::find(spelling(&word.text)) {
            Some(flag) => known.push(flag),
            None => unknown.extend(no_option(word, None)),
        }
    }
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let fits = |version: &Version| known.iter().all(|flag| flag.exists(*version));
    match releases().find(fits) {
        Some(version) => Ok(version),
        None => {
            let ranges = known.iter().filter(|f| f.until().is_some() || f.since() > Version::OLDEST);
            let ranges: Vec<String> = ranges.map(|f| format!("`{}` {}", f.name(), f.versions())).collect();
            let message = "no version of TensorRT takes all of these options";
            let mut error = Diagnostic::error(codes::VERSION, message);
            if let Some(first) = run.arguments.first() {
                error = error.at(&first.origin, "");
            }
            Err(vec![error.note(ranges.join(", "))])
        }
    }
}

/// The releases whose options are known, the likeliest first: those of 9 were for language models alone.
fn releases() -> impl Iterator<Item = Version> {
    let of = |major, last: u32| (0..=last).rev().map(move |minor| Version(major, minor, 0));
    of(11, 1).chain(of(10, 16)).chain([Version(8, 6, 0)]).chain(of(9, 3))
}

fn spelling(text: &str) -> &str {
    text.split_once('=').map_or(text, |(name, _)| name)
}

/// Reads the arguments as this version does. Errors are pushed, and what they are about is left out.
pub(super) fn read(run: &Run, version: Version, sink: &mut Vec<Diagnostic>) -> Options {
    let mut options = Options::default();
    let mut words = run.arguments.iter().peekable();
    while let Some(word) = words.next() {
        let (name, value) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.text.as_str(), None),
        };
        match flags::find(name).filter(|flag| flag.exists(version)) {
            Some(flag) if value.is_none() && flag.argument != Argument::Bool => {
                let apart = words.next_if(|next| !next.text.starts_with('-'));
                let error =
                    Diagnostic::error(codes::VALUE, format!("`{name}` needs a value")).at(&word.origin, "");
                let value = apart.map_or("…", |next| next.text.as_str());
                sink.push(error.help(format!("write `{name}={value}`, without a space")));
            }
            Some(flag) => options.given.extend(given(flag, name, value, word, sink)),
            None => sink.extend(no_option(word, Some(version))),
        }
    }
    once(&options, sink);
    options
}

/// An option with its value, if that is of its kind. Options that take one have one here.
fn given(
    flag: &'static Flag,
    name: &str,
    value: Option<&str>,
    word: &Word,
    sink: &mut Vec<Diagnostic>,
) -> Option<Given> {
    let error = |message: String| Diagnostic::error(codes::VALUE, message).at(&word.origin, "");
    let given =
        |value: &str| Given { flag, spelling: name.to_owned(), value: value.to_owned(), word: word.clone() };
    match (flag.argument, value) {
        (Argument::Bool, None) => Some(given("")),
        (Argument::Bool, Some(value)) => {
            let off = ["false", "0", "off", "no"].contains(&value.to_lowercase().as_str());
            let message = format!("`{name}` takes no value, and is on whatever stands after `=`");
            let mut warning = Diagnostic::warning(codes::IGNORED, message).at(&word.origin, "");
            if off {
                warning = warning.help(format!("leave `{name}` out to turn it off"));
            }
            sink.push(warning);
            Some(given(""))
        }
        (argument, value) => {
            let value = value.unwrap_or_default();
            let number = match argument {
                Argument::Int => value.parse::<i64>().is_ok(),
                Argument::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
                _ => true,
            };
            if value.is_empty() || !number {
                let what = if value.is_empty() {
                    "nothing stands after `=`".to_owned()
                } else {
                    format!("`{value}` is no number")
                };
                sink.push(error(format!("`{name}`: {what}")));
                return None;
            }
            Some(given(value))
        }
    }
}

/// A word that is no option: what could be meant.
fn no_option(word: &Word, version: Option<Version>) -> Option<Diagnostic> {
    let name = spelling(&word.text);
    let error = |message: String| Diagnostic::error(codes::OPTION, message).at(&word.origin, "");
    if !name.starts_with('-') {
        let error = error(format!(
            "`{}` is no option: `trtexec` takes `--option` and `--option=value` only",
            word.text
        ));
        return Some(error);
    }
    if let (Some(flag), Some(version)) = (flags::find(name), version) {
        let mut error =
            error(format!("`{name}` does not exist in TensorRT {version}: it exists {}", flag.versions()));
        error = match (flag.until().filter(|until| *until <= version), flag.instead) {
            (Some(_), Some(instead)) => error.note(format!("{instead} took its place")),
            (Some(_), None) => error.note("nothing took its place"),
            (None, _) => error,
        };
        return Some(error.help(
            "say which version the command is for with `--version`; the manifest can then name another one",
        ));
    }
    if flags::find(name).is_some() {
        return None;
    }
    let error = error(format!("`trtexec` has no option `{name}`, in no version from 8.6 to 11.1"));
    let fits = |flag: &&Flag| version.is_none_or(|version| flag.exists(version));
    let spellings: Vec<&str> =
        flags::all().iter().filter(fits).flat_map(|f| f.spellings.iter().copied()).collect();
    let doubled = format!("-{name}");
    let near = spellings
        .iter()
        .copied()
        .find(|s| *s == doubled)
        .or_else(|| nearest(name, spellings.iter().copied()));
    Some(match near {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    })
}

/// Options that were given more often than trtexec takes them.
fn once(options: &Options, sink: &mut Vec<Diagnostic>) {
    let has_profiles = options.has("--profile");
    for (at, given) in options.given.iter().enumerate() {
        let is_once = match given.flag.times {
            Times::Once => true,
            Times::Many => false,
            Times::Profile => !has_profiles,
        };
        let first = options.given[..at].iter().find(|earlier| earlier.flag.name() == given.flag.name());
        if let Some(first) = first.filter(|_| is_once) {
            let message = format!("`{}` is given twice, which `trtexec` refuses", given.spelling);
            let error = given.error(codes::CONFLICT, message).see(&first.word.origin, "given first here");
            sink.push(match given.flag.times {
                Times::Profile => {
                    error.help("put `--profile=0`, `--profile=1`, … before the shapes of each profile")
                }
                _ => error.help("keep one of them"),
            });
        }
    }
}
