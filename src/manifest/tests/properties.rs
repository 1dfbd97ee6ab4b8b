//! What holds for any text.

use proptest::prelude::*;
use regex::Regex;

use super::super::load::Loaded;
use super::super::model::Manifest;
use super::{BASE, read};

const DESIGN: &str = include_str!("../testdata/design.toml");

/// The manifest without places and files.
fn without_origins(manifest: &Manifest) -> String {
    let place = Regex::new(r"/p/manifests/[a-z]+\.toml:\d+:\d+").unwrap();
    let Manifest { root: _, files: _, toolchains, targets, engines } = manifest;
    place.replace_all(&format!("{toolchains:#?}{targets:#?}{engines:#?}"), "PLACE").into_owned()
}

/// The tables of a manifest: each header with its lines, arrays of tables in one piece.
fn tables(text: &str) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    for line in text.lines() {
        match tables.last_mut() {
            Some(last) if !line.starts_with('[') => *last += &format!("{line}\n"),
            _ => tables.push(format!("{line}\n")),
        }
    }
    tables
}

/// Whatever the text: no panic, and a manifest exactly if there is no error; every place is inside.
fn is_sound(loaded: &Loaded) {
    let errors = loaded.diagnostics.iter().filter(|d| d.level == crate::diagnostic::Level::Error).count();
    assert_eq!(loaded.manifest.is_none(), errors > 0);
    for diagnostic in &loaded.diagnostics {
        if let Some(crate::diagnostic::Place::Text(origin)) = &diagnostic.place {
            assert!(origin.file.text.get(origin.start..origin.end).is_some(), "{diagnostic:?}");
        }
        assert!(!diagnostic.message.is_empty() && !diagnostic.message.ends_with('.'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_tables_means_nothing(
        order in Just((0..tables(DESIGN).len() - 1).collect::<Vec<_>>()).prop_shuffle(),
        split in 0usize..20,
    ) {
        let all = tables(DESIGN);
        // `schema = 1` must stay in front of the first table. A model must stay in one file.
        let mut first = all[0].clone();
        let mut second = all[0].clone();
        for i in order {
            let table = &all[i + 1];
            let into = if table.starts_with("[target") && i < split { &mut second } else { &mut first };
            *into += table;
        }
        let straight = read(&[("design.toml", DESIGN)]).manifest.unwrap();
        let shuffled = read(&[("a.toml", &first), ("b.toml", &second)]);
        prop_assert_eq!(&shuffled.diagnostics, &[]);
        prop_assert_eq!(without_origins(&shuffled.manifest.unwrap()), without_origins(&straight));
    }

    #[test]
    fn mutated_text_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8, any::<char>()), 1..8)
    ) {
        let mut text: Vec<char> = DESIGN.chars().collect();
        for (at, other, kind, c) in edits {
            let (at, other) = (at.index(text.len()), other.index(text.len()));
            match kind {
                0 => text[at] = c,
                1 => { text.remove(at); }
                2 => text.swap(at, other),
                _ => { let piece: Vec<char> = text[at..(at + 40).min(text.len())].to_vec(); text.splice(other..other, piece); }
            }
        }
        is_sound(&read(&[("a.toml", &text.into_iter().collect::<String>())]));
    }

    #[test]
    fn values_of_any_type_anywhere_never_panic(
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "1", "-1", "0", "9223372036854775808", "1e999", "nan", "-inf", "''", "'x'", "'é'", "true", "1979-05-27", "[]", "[[]]", "{}",
            "[1, 'x', {}]", "{ a = 1 }", "{ not = {} }", "'\u{0}'", "'🦀'", "'sm_'", "'=='", "'>='", "['a', 'a']",
        ]),
    ) {
        let mut lines: Vec<String> = DESIGN.lines().map(str::to_owned).collect();
        let keyed: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains(" = ") && !lines[*i].starts_with('[')).collect();
        let at = keyed[line.index(keyed.len())];
        let key = lines[at].split(" = ").next().unwrap().to_owned();
        lines[at] = format!("{key} = {value}");
        is_sound(&read(&[("a.toml", &lines.join("\n"))]));
    }

    #[test]
    fn any_text_never_panics(text in any::<String>()) {
        is_sound(&read(&[("a.toml", &text), ("b.toml", &format!("{BASE}{text}"))]));
    }
}

#[test]
fn deep_and_long_texts_are_errors_and_not_crashes() {
    let n = 20_000;
    let dotted = "a.".repeat(12) + "a";
    let nested = |n| "a = ".to_owned() + &format!("{{{dotted} = ").repeat(n) + "1" + &"}".repeat(n);
    for text in [
        "a.".repeat(n) + "a = 1",
        format!("[{}a]", "a.".repeat(n)),
        "a = ".to_owned() + &"[".repeat(n),
        "a = ".to_owned() + &"{a=".repeat(n),
        nested(70),
        nested(n),
        "a = ".to_owned() + &format!("{{{}a = ", "a.".repeat(70)).repeat(70) + "1" + &"}".repeat(70),
        "[[a]]\n".repeat(n),
        "]\n".repeat(n),
        format!("x = '{}'", "y".repeat(1 << 20)),
    ] {
        is_sound(&read(&[("a.toml", &text)]));
    }
    let many = read(&[("a.toml", &"]\n".repeat(n))]);
    assert_eq!(many.diagnostics.len(), 21);
    let keys: String = (0..n).map(|i| format!("k{i} = 1\n")).collect();
    let many = read(&[("a.toml", &keys)]);
    assert_eq!(many.diagnostics.last().map(|d| d.code.as_ref()), Some("too-many-problems"));
}

#[test]
fn five_hundred_models_for_eight_targets_are_no_matter() {
    use std::fmt::Write as _;
    let mut text =
        BASE.to_owned() + "[defaults]\ntargets = ['t0', 't1', 't2', 't3', 't4', 't5', 't6', 't7']\n";
    for i in 0..8 {
        writeln!(text, "[target.t{i}]\nsm = 'sm_86'").unwrap();
    }
    for i in 0..500 {
        writeln!(text, "[model.m{i}]\nsource = {{ path = 'm{i}.onnx' }}\nprecision = 'fp16'").unwrap();
        writeln!(text, "profile = [{{ dims = {{ batch = [1, 8, 32] }} }}]\nvariant.fp32.precision = 'fp32'")
            .unwrap();
        writeln!(text, "rule = [{{ name = 'r', select = {{ node = '/head/{i}/*' }}, precision = 'fp32' }}]")
            .unwrap();
    }
    assert_eq!(read(&[("a.toml", &text)]).manifest.map(|manifest| manifest.engines.len()), Some(8000));
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_fine() {
    let text = format!("\u{feff}{}", BASE.replace('\n', "\r\n"));
    assert_eq!(read(&[("a.toml", &text)]).diagnostics, []);
}
