//! Precision rules and their selectors.

use globset::Glob;

use super::super::codes;
use super::super::fields::{Fields, Item, Located, shown, unknown_word};
use super::super::model::{Precision, Rule, Selector};
use crate::diagnostic::Diagnostic;

/// What a selector's `pattern` can name.
const PATTERNS: [&str; 10] = [
    "layer-norm",
    "rms-norm",
    "l2-norm",
    "softmax",
    "gelu",
    "attention",
    "attention.scores",
    "attention.mask",
    "attention.softmax",
    "attention.context",
];

/// The rule set that is built in.
pub(in crate::manifest) const STD_FP16: &str = "std-fp16";

/// The most instances that a rule can be pinned to.
const MAX_EXPECT: i64 = i32::MAX as i64;

/// `[rules.X]`
pub(super) fn decode_set(name: &str, item: &Item<'_>) -> Option<Vec<Rule>> {
    if name == STD_FP16 {
        let error = Diagnostic::error(codes::BUILT_IN_NAME, format!("the rule set `{STD_FP16}` is built in"));
        item.report(error.at(item.key, "").help("choose another name, and list both: later rules win"));
    }
    let fields = item.table(&[&["rule"]])?;
    let rules = fields.required("rule", "rule = [ … ]")?;
    let mut rules = decode_list(&rules)?;
    rules.iter_mut().for_each(|rule| rule.set = Some(name.to_owned()));
    Some(rules)
}

/// `rule = [ … ]` or `[[rule]]`, in order.
pub(super) fn decode_list(item: &Item<'_>) -> Option<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for entry in item.list()? {
        let Some((name, rule)) = decode(&entry) else { continue };
        let first =
            rules.iter().find(|first| first.name == rule.name).and_then(|first| first.origin.as_ref());
        if let Some(first) = first {
            let message = format!("two rules have the name `{}`", shown(&rule.name));
            let error = Diagnostic::error(codes::DUPLICATE_NAME, message).at(&name.origin, "again");
            entry.report(error.see(first, "the first is here"));
        }
        rules.push(rule);
    }
    Some(rules)
}

fn decode(item: &Item<'_>) -> Option<(Located<String>, Rule)> {
    let keys: &[&str] = &["name", "select", "precision", "accumulate", "expect", "optional"];
    let fields = item.table(&[keys])?;
    let name = fields.required("name", "name = \"…\"");
    let name = name.and_then(|name| Some(name.located(name.text()?)));
    let select = fields.required("select", "select = { op = \"…\" }").and_then(|select| selector(&select));
    let precisions = [Precision::Fp32, Precision::Fp16, Precision::Bf16].map(|p| (p.name(), p));
    let precision = fields.required("precision", "precision = \"fp32\"");
    let precision = precision.and_then(|precision| precision.word(&precisions));
    let accumulate = fields.get("accumulate").and_then(|a| a.word(&[("fp32", Precision::Fp32)]));
    let expect = fields.get("expect").and_then(|expect| expect.integer(1..=MAX_EXPECT));
    let optional = fields.get("optional").and_then(|optional| optional.boolean());
    let (name, select, precision) = (name?, select?, precision?);
    let rule = Rule {
        name: name.value.clone(),
        set: None,
        select,
        precision,
        accumulate,
        expect,
        optional: optional.unwrap_or(false),
        origin: Some(name.origin.clone()),
    };
    Some((name, rule))
}

fn selector(item: &Item<'_>) -> Option<Selector> {
    const KEYS: &[&str] = &[
        "op",
        "node",
        "regex",
        "pattern",
        "tensor",
        "between",
        "consumers-of",
        "producers-of",
        "subgraph",
        "not",
    ];
    let fields = item.table(&[KEYS])?;
    if fields.given(KEYS).is_empty() {
        let message = format!("`{}` has no condition", shown(&item.path));
        let error =
            Diagnostic::error(codes::EMPTY_SELECTOR, message).at(item.origin(), "would select every node");
        item.report(error.help("to mean every node, write `select = { node = \"*\" }`"));
        return None;
    }
    Some(Selector {
        op: texts(&fields, "op", |_| Ok(())),
        node: texts(&fields, "node", glob),
        regex: texts(&fields, "regex", regex),
        pattern: patterns(&fields),
        tensor: texts(&fields, "tensor", glob),
        between: fields.get("between").and_then(|item| between(&item)),
        consumers_of: texts(&fields, "consumers-of", |_| Ok(())),
        producers_of: texts(&fields, "producers-of", |_| Ok(())),
        subgraph: texts(&fields, "subgraph", |_| Ok(())),
        not: fields.get("not").and_then(|item| selector(&item)).map(Box::new),
    })
}

fn texts(
    fields: &Fields<'_>,
    key: &str,
    check: fn(&str) -> Result<(), (&'static str, String)>,
) -> Vec<String> {
    let mut texts = Vec::new();
    for item in fields.get(key).and_then(|item| item.one_or_more()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        if let Err((code, why)) = check(&text) {
            item.fail(code, format!("`{}`: {why}", shown(&item.path)));
        }
        texts.push(text);
    }
    texts
}

fn glob(text: &str) -> Result<(), (&'static str, String)> {
    let wrong =
        |e: globset::Error| (codes::BAD_GLOB, format!("`{}` is not a glob: {}", shown(text), e.kind()));
    Glob::new(text).map(drop).map_err(wrong)
}

fn regex(text: &str) -> Result<(), (&'static str, String)> {
    regex::Regex::new(text).map(drop).map_err(|e| {
        // The last line of a syntax error says what is wrong; those before draw the expression.
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        (codes::BAD_REGEX, format!("`{}` is not a regular expression: {why}", shown(text)))
    })
}

fn patterns(fields: &Fields<'_>) -> Vec<String> {
    let mut patterns = Vec::new();
    for item in fields.get("pattern").and_then(|item| item.one_or_more()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        if !PATTERNS.contains(&text.as_str()) {
            item.report(unknown_word(&item, codes::UNKNOWN_PATTERN, &text, PATTERNS.into_iter()));
        }
        patterns.push(text);
    }
    patterns
}

fn between(item: &Item<'_>) -> Option<(String, String)> {
    let ends = item.list()?;
    let [from, to] = ends.as_slice() else {
        let message = format!("`{}` must hold 2 names, not {}", shown(&item.path), ends.len());
        item.fail(codes::OUT_OF_RANGE, message);
        return None;
    };
    let (from, to) = (from.text(), to.text());
    Some((from?, to?))
}
