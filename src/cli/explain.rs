//! What codes mean. The page docs/diagnostics.md is the data: `explain` prints parts of it.

/// The page.
const PAGE: &str = include_str!("../../docs/diagnostics.md");

/// What there is to say of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) code: &'static str,
    /// The chapter that it stands in.
    pub(super) group: &'static str,
    /// What it means, in one line.
    pub(super) meaning: &'static str,
    /// All of it, as Markdown, without the heading.
    pub(super) text: &'static str,
}

/// All entries, in the order of the page.
pub(super) fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for chapter in PAGE.split("\n## ").skip(1) {
        let group = chapter.lines().next().unwrap_or_default();
        for section in chapter.split("\n### `").skip(1) {
            let Some((code, text)) = section.split_once("`\n") else { continue };
            let text = text.trim();
            entries.push(Entry { code, group, meaning: text.lines().next().unwrap_or_default(), text });
        }
    }
    entries
}

/// What there is to say of this code.
pub(super) fn entry(code: &str) -> Option<Entry> {
    entries().into_iter().find(|entry| entry.code == code)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::manifest::{CODES, HAZARDS};

    #[test]
    fn every_entry_has_a_cause_an_example_and_what_to_do() {
        let mut seen = BTreeSet::new();
        for entry in entries() {
            assert!(seen.insert(entry.code), "`{}` is explained twice", entry.code);
            assert!(entry.meaning.ends_with('.'), "{}: {}", entry.code, entry.meaning);
            assert_eq!(entry.text.matches("```").count(), 2, "{} has one example", entry.code);
            assert!(entry.text.contains("\nMend: "), "{} says what to do", entry.code);
        }
    }

    #[test]
    fn the_page_says_what_the_tables_say() {
        let entries: BTreeMap<&str, Entry> = entries().into_iter().map(|e| (e.code, e)).collect();
        let meaning =
            |code: &str| entries.get(code).unwrap_or_else(|| panic!("`{code}` is not explained")).meaning;
        for (code, said) in CODES {
            assert_eq!(meaning(code).to_lowercase(), format!("{said}.").to_lowercase());
        }
        for hazard in HAZARDS {
            let expected = format!("{}. level: {}, unless", hazard.meaning, hazard.level.name());
            assert!(
                meaning(hazard.code).to_lowercase().starts_with(&expected.to_lowercase()),
                "{}",
                hazard.code
            );
        }
    }

    fn files(folder: &Path, into: &mut Vec<PathBuf>) {
        for path in crate::fs::list(folder).unwrap() {
            if crate::fs::is_dir(&path) {
                files(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }

    /// The source files, without their tests.
    pub(in crate::cli) fn sources() -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        files(Path::new("src"), &mut found);
        let is_test =
            |file: &Path| file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs");
        let code = |file: &Path| {
            let text = crate::fs::read_to_string(file).unwrap();
            let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
            text[..tests].to_owned()
        };
        found.into_iter().filter(|file| !is_test(file)).map(|file| (file.clone(), code(&file))).collect()
    }

    /// Is a page that is made from the sources as they say? `UPDATE=1 cargo test --lib reference` writes it anew.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "who runs the tests asks for it")]
    pub(in crate::cli) fn is_up_to_date(file: &str, expected: &str) {
        if std::env::var_os("UPDATE").is_some() {
            crate::fs::write_atomic(Path::new(file), expected.as_bytes()).unwrap();
        }
        let page = crate::fs::read_to_string(Path::new(file)).unwrap_or_default();
        assert!(page == expected, "{file} is out of date: run `UPDATE=1 cargo test --lib reference`");
    }

    /// Codes stand in the sources as what is made of them: the first argument of a diagnostic, the second of a refusal.
    #[test]
    fn every_code_of_the_sources_is_explained_and_every_explained_code_is_one() {
        let made = [
            r#"Diagnostic::(?:error|warning)\(\s*"([a-z0-9-]+)""#,
            r#"(?:Refusal::new|refuse)\(\s*"[a-z]+",\s*"([a-z0-9-]+)""#,
            r#"Problem::(?:error|hazard)\(\s*"([a-z0-9-]+)""#,
            r#"SampleError::new\(\s*"([a-z0-9-]+)""#,
            r#"Error::[A-Za-z]+(?: \{ \.\. \}|\([a-z_]+\))? => "([a-z0-9-]+)""#,
        ]
        .map(|pattern| regex::Regex::new(pattern).unwrap());
        let known: BTreeSet<&str> = entries().iter().map(|entry| entry.code).collect();
        let mut all = String::new();
        let mut missing = BTreeSet::new();
        for (file, code) in sources().iter().filter(|(file, _)| !file.ends_with("cli/explain.rs")) {
            for pattern in &made {
                let codes = pattern.captures_iter(code).map(|found| found[1].to_owned());
                missing
                    .extend(codes.filter(|code| !known.contains(code.as_str())).map(|c| (c, file.clone())));
            }
            all += code;
        }
        assert!(missing.is_empty(), "not explained in docs/diagnostics.md: {missing:#?}");
        let stale: Vec<&&str> = known.iter().filter(|code| !all.contains(&format!("\"{code}\""))).collect();
        assert!(stale.is_empty(), "explained, and in no source: {stale:?}");
    }
}
