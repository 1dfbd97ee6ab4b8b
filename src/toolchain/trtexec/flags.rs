//! The options of trtexec by version: `flags.txt`, read once.
//!
//! The text is the source; nothing about a version stands in code that could stand there.

use std::sync::LazyLock;

use super::version::Version;

/// An option of trtexec.
#[derive(Debug)]
pub struct Flag {
    /// All spellings, the usual one first.
    pub spellings: Vec<&'static str>,
    /// What stands after `=`.
    pub argument: Argument,
    /// How often it may be given.
    pub times: Times,
    /// Versions that take it, as half-open spans.
    versions: Vec<Span>,
    /// What it is about.
    pub does: Does,
    /// What took its place.
    pub instead: Option<&'static str>,
    /// What it ignores in silence, or else should be known.
    pub note: Option<&'static str>,
}

/// What stands after `=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Nothing; a value is ignored, so that `=false` is on.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Number,
    /// Any text.
    Text,
    /// A path.
    File,
    /// One word of some.
    Word,
    /// A number of bytes or a percentage.
    Budget,
    /// A list of words.
    Words,
    /// A list of numbers.
    Numbers,
    /// `NAME:1x3x224x224,…`
    Shapes,
    /// `NAME:FILE,…`
    Files,
    /// `NAME:TYPE,…`
    Types,
    /// `NAME:TYPE+TYPE,…`
    Outputs,
    /// `NAME:GPU|DLA,…`
    Devices,
    /// `TYPE:FORMAT+FORMAT,…`; without types from 11.0.
    Formats,
    /// `POOL:SIZE,…`
    Pools,
    /// `+WORD,-WORD,…`
    Signed,
    /// `KEY:allow|deny,…`
    Controls,
}

impl Argument {
    /// Is it a list, split at every `,`?
    #[must_use]
    pub fn is_list(self) -> bool {
        use Argument::{
            Controls, Devices, Files, Formats, Numbers, Outputs, Pools, Shapes, Signed, Types, Words,
        };
        matches!(
            self,
            Controls
                | Devices
                | Files
                | Formats
                | Numbers
                | Outputs
                | Pools
                | Shapes
                | Signed
                | Types
                | Words
        )
    }
}

/// How often an option may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Twice is an error.
    Once,
    /// Each adds to the ones before.
    Many,
    /// Once, or once after each `--profile`.
    Profile,
}

/// What an option is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Decides what is built.
    Build,
    /// Where results go.
    Output,
    /// What is read.
    Model,
    /// How the engine is timed after the build.
    Inference,
    /// What is printed.
    Report,
    /// The machine.
    System,
    /// It is read, and has no effect.
    Nothing,
}

pub(super) type Span = (Version, Option<Version>);

/// What some option takes since, or until, some version.
#[derive(Debug)]
struct Word {
    /// An option, or `types`, `formats`, `pools`, `devices`.
    of: &'static str,
    word: &'static str,
    versions: Vec<Span>,
}

#[derive(Debug)]
struct Table {
    flags: Vec<Flag>,
    words: Vec<Word>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| read(include_str!("flags.txt")).expect("`flags.txt` is tested"));

/// All options, in order of the table.
#[must_use]
pub fn all() -> &'static [Flag] {
    &TABLE.flags
}

/// The option of a name such as `--fp16`, in any spelling.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    all().iter().find(|flag| flag.spellings.contains(&name))
}

/// The words that a version takes for an option, or for `types`, `formats`, `pools` or `devices`; none if any are taken.
#[must_use]
pub fn words(of: &str, version: Version) -> Vec<&'static str> {
    TABLE
        .words
        .iter()
        .filter(|word| word.of == of && contains(&word.versions, version))
        .map(|word| word.word)
        .collect()
}

/// The first version that takes a word, and the first that does not any more.
#[must_use]
pub fn word_versions(of: &str, word: &str) -> Option<(Version, Option<Version>)> {
    let found = TABLE.words.iter().find(|row| row.of == of && row.word == word)?;
    Some((found.versions.first()?.0, found.versions.last()?.1))
}

impl Flag {
    /// Its usual spelling.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.spellings[0]
    }

    /// Does a version take it?
    #[must_use]
    pub fn exists(&self, version: Version) -> bool {
        contains(&self.versions, version)
    }

    /// The first version that takes it; the oldest that is known here if it was there before.
    #[must_use]
    pub fn since(&self) -> Version {
        self.versions[0].0
    }

    /// The first version that does not take it any more.
    #[must_use]
    pub fn until(&self) -> Option<Version> {
        self.versions.last().and_then(|span| span.1)
    }

    /// The versions that take it, for people: `8.6 to 10.x`, `from 10.1`.
    #[must_use]
    pub fn versions(&self) -> String {
        let spans = self.versions.iter().map(|(from, until)| match until {
            None if *from == Version::OLDEST => "every version".to_owned(),
            None => format!("from {}", short(*from)),
            Some(until) if *from == Version::OLDEST => format!("before {}", short(*until)),
            Some(until) => format!("from {} to before {}", short(*from), short(*until)),
        });
        spans.collect::<Vec<_>>().join(" and ")
    }
}

fn short(version: Version) -> String {
    format!("{}.{}", version.0, version.1)
}

pub(super) fn contains(versions: &[Span], version: Version) -> bool {
    // Options do not change between patches.
    let version = Version(version.0, version.1, 0);
    versions.iter().any(|(from, until)| *from <= version && until.is_none_or(|until| version < until))
}

fn read(text: &'static str) -> Result<Table, String> {
    let (mut flags, mut words, mut in_words) = (Vec::new(), Vec::new(), false);
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&'static str> = line.split('|').map(str::trim).collect();
        match fields.as_slice() {
            ["[words]"] => in_words = true,
            [of, word, versions] if in_words => {
                words.push(Word { of, word, versions: spans(versions).ok_or(line)? });
            }
            [name, argument, times, versions, does, instead, note] if !in_words => flags.push(Flag {
                spellings: name.split('/').collect(),
                argument: argument_of(argument).ok_or(line)?,
                times: times_of(times).ok_or(line)?,
                versions: spans(versions).ok_or(line)?,
                does: does_of(does).ok_or(line)?,
                instead: given(instead),
                note: given(note),
            }),
            _ => return Err(line.to_owned()),
        }
    }
    Ok(Table { flags, words })
}

fn given(field: &'static str) -> Option<&'static str> {
    (field != "-").then_some(field)
}

/// `8.6..10.4, 10.13..`
pub(super) fn spans(text: &str) -> Option<Vec<Span>> {
    text.split(',')
        .map(|span| {
            let (from, until) = span.trim().split_once("..")?;
            let until = if until.is_empty() { None } else { Some(until.parse().ok()?) };
            Some((from.parse().ok()?, until))
        })
        .collect()
}

fn argument_of(word: &str) -> Option<Argument> {
    Some(match word {
        "bool" => Argument::Bool,
        "int" => Argument::Int,
        "number" => Argument::Number,
        "text" => Argument::Text,
        "file" => Argument::File,
        "word" => Argument::Word,
        "budget" => Argument::Budget,
        "words" => Argument::Words,
        "numbers" => Argument::Numbers,
        "shapes" => Argument::Shapes,
        "files" => Argument::Files,
        "types" => Argument::Types,
        "outputs" => Argument::Outputs,
        "devices" => Argument::Devices,
        "formats" => Argument::Formats,
        "pools" => Argument::Pools,
        "signed" => Argument::Signed,
        "controls" => Argument::Controls,
        _ => return None,
    })
}

fn times_of(word: &str) -> Option<Times> {
    Some(match word {
        "once" => Times::Once,
        "many" => Times::Many,
        "profile" => Times::Profile,
        _ => return None,
    })
}

fn does_of(word: &str) -> Option<Does> {
    Some(match word {
        "build" => Does::Build,
        "output" => Does::Output,
        "model" => Does::Model,
        "inference" => Does::Inference,
        "report" => Does::Report,
        "system" => Does::System,
        "nothing" => Does::Nothing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        let table = read(include_str!("flags.txt")).unwrap();
        let mut seen = BTreeSet::new();
        for flag in &table.flags {
            for name in &flag.spellings {
                assert!(name.starts_with('-') && seen.insert(*name), "{name}");
            }
            for pair in flag.versions.windows(2) {
                assert!(pair[0].1.is_some_and(|until| until < pair[1].0), "{}", flag.name());
            }
            assert!(flag.versions.iter().all(|(from, until)| until.is_none_or(|until| *from < until)));
        }
        assert!(table.flags.len() > 140, "{}", table.flags.len());
        for word in &table.words {
            let general = ["types", "formats", "pools", "devices"].contains(&word.of);
            assert!(general || seen.contains(word.of), "{}", word.of);
        }
    }

    #[test]
    fn options_that_notes_name_exist() {
        for flag in all() {
            let texts = [flag.instead, flag.note].into_iter().flatten();
            for word in texts.flat_map(|text| text.split([' ', ',', ';', '='])) {
                assert!(!word.starts_with("--") || find(word).is_some(), "{}: `{word}`", flag.name());
            }
        }
    }

    #[test]
    fn versions_have_the_options_that_they_have() {
        let has = |name: &str, version: Version| find(name).unwrap().exists(version);
        for (name, first, last) in [
            ("--fp16", Version(8, 6, 1), Version(10, 16, 0)),
            ("--bf16", Version(9, 0, 0), Version(10, 16, 0)),
            ("--buildOnly", Version(8, 6, 0), Version(9, 3, 0)),
            ("--stripWeights", Version(10, 0, 0), Version(11, 1, 0)),
        ] {
            assert!(has(name, first) && has(name, last), "{name}");
        }
        assert!(!has("--fp16", Version(11, 0, 0)) && !has("--bf16", Version(8, 6, 1)));
        assert!(!has("--buildOnly", Version(10, 0, 0)) && !has("--stripWeights", Version(9, 3, 0)));
        assert!(has("--consistency", Version(10, 3, 0)) && !has("--consistency", Version(10, 9, 0)));
        assert!(find("--stronglyTyped").unwrap().exists(Version(11, 1, 0)));
        assert_eq!(find("--vc").unwrap().name(), "--versionCompatible");
    }

    #[test]
    fn words_differ_by_version() {
        assert!(!words("types", Version(8, 6, 1)).contains(&"bf16"));
        assert!(words("types", Version(9, 3, 0)).contains(&"bf16"));
        assert!(words("types", Version(11, 0, 0)).is_empty());
        assert_eq!(words("--hardwareCompatibilityLevel", Version(10, 3, 0)), ["none", "ampere+"]);
        assert_eq!(word_versions("types", "int4"), Some((Version(10, 1, 0), Some(Version(11, 0, 0)))));
    }

    #[test]
    fn versions_are_told_to_people() {
        assert_eq!(find("--fp16").unwrap().versions(), "before 11.0");
        assert_eq!(find("--stripWeights").unwrap().versions(), "from 10.0");
        assert_eq!(find("--consistency").unwrap().versions(), "before 10.4 and from 10.13");
    }
}
