//! The report for a comment on a pull request: short, in the Markdown that GitHub and GitLab share.

use std::fmt::Write as _;

use super::escape::{code, words};
use super::figures::{change, count, duration, size};
use super::html::happened;
use super::model::{DriftNode, Engine, Message, Report, State};

/// The first line: how a job finds its own comment, to write it anew.
pub const MARKER: &str = "<!-- enginewright report -->";

/// Bytes of a table, and of the list of messages: a comment holds 65,536 characters.
const ROOM: usize = 18_000;

/// Reasons of one engine.
const MOST_REASONS: usize = 3;

/// Models whose first node to break is named.
const MOST_BROKEN: usize = 5;

/// Characters of one text.
const LONGEST: usize = 300;

/// The report as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let of = |state: State| report.engines.iter().filter(|e| e.state == state).count();
    let mut text = format!("{MARKER}\n### enginewright: {}\n\n", words(&cut(&report.project)));
    let parts: Vec<String> = [
        (State::Failed, "failed"),
        (State::Stale, "to do"),
        (State::Unknown, "unknown"),
        (State::Current, "current"),
    ]
    .into_iter()
    .filter(|(state, _)| of(*state) > 0)
    .map(|(state, what)| format!("{} {what}", of(state)))
    .collect();
    let _ = writeln!(
        text,
        "**{}**: {}",
        count(report.engines.len(), "engine"),
        if parts.is_empty() { "nothing is declared".to_owned() } else { parts.join(", ") },
    );
    if let Some(run) = &report.run {
        let took = run.ms.map_or_else(|| "not finished".to_owned(), duration);
        let _ = writeln!(text, "\nLast run: {}, {}, {took}", words(&run.time()), words(&run.counts()));
    }
    // What needs eyes comes first; what is current is folded away.
    let (mut open, current): (Vec<&Engine>, Vec<&Engine>) =
        report.engines.iter().partition(|e| e.state != State::Current);
    open.sort_by_key(|engine| engine.state != State::Failed);
    text += &table(&open);
    if !current.is_empty() {
        let _ = writeln!(text, "\n<details><summary>{} current</summary>", current.len());
        text += &table(&current);
        text += "\n</details>\n";
    }
    let errors = open.iter().flat_map(|engine| &engine.errors);
    let of_models = report.models.iter().flat_map(|model| &model.messages);
    messages(&mut text, errors.chain(&report.messages).chain(of_models));
    drift(&mut text, report);
    text
}

fn table(engines: &[&Engine]) -> String {
    if engines.is_empty() {
        return String::new();
    }
    let mut text = "\n| | engine | why | size | build | accuracy |\n|---|---|---|---:|---:|---|\n".to_owned();
    for (i, engine) in engines.iter().enumerate() {
        if text.len() > ROOM {
            let _ = writeln!(text, "\nand {} more", engines.len() - i);
            break;
        }
        let before = engine.before.as_ref();
        let with = |now: Option<u64>, before: Option<u64>, show: fn(u64) -> String| {
            let Some(now) = now else { return String::new() };
            let change = before.filter(|b| *b > 0).and_then(|before| change(now, before));
            change.map_or_else(|| show(now), |change| format!("{} ({change})", show(now)))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            words(&engine.status),
            code(&cut(&engine.name)),
            why(engine),
            with(engine.size, before.map(|b| b.size), size),
            with(engine.build_ms, before.map(|b| b.build_ms), duration),
            words(engine.verdict.as_deref().unwrap_or_default()),
        );
    }
    text
}

fn why(engine: &Engine) -> String {
    let reasons = match (engine.errors.as_slice(), &engine.last) {
        ([], Some(last)) if engine.why.is_empty() => {
            [vec![happened(&last.outcome).to_owned()], last.why.clone()].concat()
        }
        ([], _) => engine.why.clone(),
        (errors, _) => errors.iter().map(|error| error.text.clone()).collect(),
    };
    let mut lines: Vec<String> =
        reasons.iter().take(MOST_REASONS).map(|reason| words(&cut(reason))).collect();
    if reasons.len() > MOST_REASONS {
        lines.push(format!("and {} more", reasons.len() - MOST_REASONS));
    }
    lines.join("<br>")
}

fn messages<'m>(text: &mut String, messages: impl Iterator<Item = &'m Message>) {
    let mut seen: Vec<&Message> = Vec::new();
    for message in messages {
        if !seen.contains(&message) {
            seen.push(message);
        }
    }
    if seen.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n<details><summary>{}</summary>\n", count(seen.len(), "message"));
    let start = text.len();
    for (i, message) in seen.iter().enumerate() {
        if text.len() - start > ROOM {
            let _ = writeln!(text, "- and {} more", seen.len() - i);
            break;
        }
        let place =
            message.place.as_ref().map(|place| format!(" in {}", words(&cut(place)))).unwrap_or_default();
        let level = words(&message.level);
        let _ =
            writeln!(text, "- **{level}** {}: {}{place}", code(&message.code), words(&cut(&message.text)));
        if let Some(help) = message.help.first() {
            let _ = writeln!(text, "  - {}", words(&cut(help)));
        }
    }
    text.push_str("\n</details>\n");
}

/// The first nodes to break, of models whose layers were looked at.
fn drift(text: &mut String, report: &Report) {
    let drifts = report.models.iter().flat_map(|model| &model.drift);
    let broken = drifts.filter(|found| found.nodes.iter().any(|node| node.first));
    for found in broken.take(MOST_BROKEN) {
        let first: Vec<&DriftNode> = found.nodes.iter().filter(|node| node.first).collect();
        if let Some(node) = first.first() {
            let more =
                if first.len() > 1 { format!(" (and {} more)", first.len() - 1) } else { String::new() };
            let engines = code(&cut(&found.engines.join(", ")));
            let broken = words(node.broken.as_deref().unwrap_or_default());
            let _ = writeln!(
                text,
                "\n{engines}: the first to break is {} ({}): {broken}{more}",
                code(&cut(&node.node)),
                code(&node.op)
            );
        }
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
