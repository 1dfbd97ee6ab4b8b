//! The page. It holds its styles, its script and its data, and asks nothing of a network.

use std::fmt::Write as _;

use super::escape::{html as esc, prose};
use super::figures::{change, count, duration, size};
use super::model::{Engine, Key, Message, Metric, Report, State, Target};
use super::{drift, map};

/// What the page may do: run what it holds, and load nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The report as one page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = String::with_capacity(64 << 10);
    let project = esc(&report.project);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{project}: engines</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        include_str!("page.css"),
    );
    head(&mut page, report);
    engines(&mut page, report);
    if !report.messages.is_empty() {
        page += "<section id=\"messages\">\n<h2>Messages</h2>\n";
        report.messages.iter().for_each(|message| page += &self::message(message));
        page += "</section>\n";
    }
    for (i, model) in report.models.iter().enumerate() {
        let name = esc(&model.name);
        let of = esc(&model.engines.join(", "));
        let _ = write!(
            page,
            "<section class=\"model\" id=\"model-{i}\">\n<h2>{name}</h2>\n<p class=\"quiet\">{of}</p>\n"
        );
        page += &map::html(model, i);
        for (j, found) in model.drift.iter().enumerate() {
            page += &drift::html(found, &format!("{i}-{j}"));
        }
        if !model.messages.is_empty() {
            page += "<h3>Hazards</h3>\n";
            model.messages.iter().for_each(|message| page += &self::message(message));
        }
        page += "</section>\n";
    }
    let _ = write!(
        page,
        "</main>\n<footer>{}</footer>\n<script>\n{}</script>\n</body>\n</html>\n",
        esc(&report.tool),
        include_str!("page.js"),
    );
    page
}

fn head(page: &mut String, report: &Report) {
    let _ = write!(page, "<header>\n<h1>{}</h1>\n", esc(&report.project));
    match &report.run {
        Some(run) => {
            let took = run.ms.map_or_else(|| "not finished".to_owned(), duration);
            let _ = writeln!(
                page,
                "<p class=\"quiet\">Last run: <code>{}</code>, {}: {} in {took}</p>",
                esc(&run.command),
                esc(&run.time()),
                esc(&run.counts()),
            );
        }
        None => page.push_str(
            "<p class=\"quiet\">No run is recorded: <code>enginewright apply</code> makes one.</p>\n",
        ),
    }
    let of = |state: State| report.engines.iter().filter(|engine| engine.state == state).count();
    page.push_str("<ul class=\"tiles\">\n");
    let mut tile = |class: &str, n: String, what: &str| {
        let _ = writeln!(page, "<li class=\"{class}\"><b>{n}</b> {what}</li>");
    };
    tile(
        "plain",
        report.engines.len().to_string(),
        if report.engines.len() == 1 { "engine" } else { "engines" },
    );
    for (state, class, what) in [
        (State::Current, "good", "current"),
        (State::Stale, "warn", "to do"),
        (State::Failed, "bad", "failed"),
        (State::Unknown, "plain", "unknown"),
    ] {
        if of(state) > 0 {
            tile(class, of(state).to_string(), what);
        }
    }
    let total: u64 = report.engines.iter().filter_map(|engine| engine.size).sum();
    tile("plain", size(total), "published");
    page.push_str("</ul>\n</header>\n");
}

fn engines(page: &mut String, report: &Report) {
    page.push_str("<section id=\"engines\">\n<h2>Engines</h2>\n");
    if report.engines.is_empty() {
        page.push_str("<p>No engines are declared.</p>\n");
    }
    for target in &report.targets {
        let of: Vec<&Engine> = report.engines.iter().filter(|engine| engine.target == target.name).collect();
        if of.is_empty() {
            continue;
        }
        heading(page, target);
        page.push_str(
            "<div class=\"engines\">\n<div class=\"columns\" aria-hidden=\"true\"><span>Engine</span><span>State</span><span>Size</span>\
             <span>Build</span><span>Accuracy</span><span>Pins</span></div>\n",
        );
        of.iter().for_each(|engine| page.push_str(&self::engine(engine)));
        page.push_str("</div>\n");
    }
    page.push_str("</section>\n");
}

fn heading(page: &mut String, target: &Target) {
    let gpu = target.gpu.as_ref().map(|gpu| format!("{}, ", esc(gpu))).unwrap_or_default();
    let _ = writeln!(
        page,
        "<h3>{} <span class=\"quiet\">{gpu}{} · {}</span></h3>",
        esc(&target.name),
        esc(&target.sms.join(" ")),
        esc(&target.toolchain),
    );
}

fn engine(engine: &Engine) -> String {
    let before = engine.before.as_ref();
    let mut text = "<details class=\"engine\">\n<summary>".to_owned();
    let state = match engine.state {
        State::Current => "good",
        State::Stale => "warn",
        State::Failed => "bad",
        State::Unknown => "plain",
    };
    let why = match (engine.errors.first(), engine.why.first(), &engine.last) {
        (Some(error), ..) => error.text.clone(),
        (_, Some(why), _) => why.clone(),
        (.., Some(last)) => [happened(&last.outcome), &last.why.join("; ")]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": "),
        _ => String::new(),
    };
    let cell = |label: &str, value: &str, note: Option<String>| {
        let note = note.map(|note| format!(" <small>{}</small>", esc(&note))).unwrap_or_default();
        let value = if value.is_empty() { "–".to_owned() } else { esc(value) };
        format!("<span data-label=\"{label}\">{value}{note}</span>")
    };
    let was = |now: Option<u64>, before: Option<u64>| {
        let (now, before) = (now?, before.filter(|before| *before > 0)?);
        change(now, before)
    };
    let _ = write!(
        text,
        "<span class=\"name\"><b>{}</b><small>{}</small></span><span><mark class=\"{state}\">{}</mark></span>",
        esc(&engine.name),
        prose(&why),
        esc(&engine.status),
    );
    text +=
        &cell("Size", &engine.size.map(size).unwrap_or_default(), was(engine.size, before.map(|b| b.size)));
    let build = engine.build_ms.map(duration).unwrap_or_default();
    text += &cell("Build", &build, was(engine.build_ms, before.map(|b| b.build_ms)));
    text += &cell("Accuracy", engine.verdict.as_deref().unwrap_or_default(), None);
    text += &cell("Pins", engine.pins.as_deref().unwrap_or_default(), None);
    text += "</summary>\n<div class=\"inside\">\n";
    engine.errors.iter().for_each(|error| text += &message(error));
    if engine.state != State::Failed && !engine.why.is_empty() {
        let _ = writeln!(text, "<h4>To do: {}</h4>{}", esc(&engine.action), list(&engine.why));
    }
    if let Some(last) = &engine.last {
        let _ = write!(text, "<h4>Last run: {}</h4>{}", esc(happened(&last.outcome)), list(&last.why));
        text += &list(&last.errors);
    }
    if let Some(before) = before {
        let _ = writeln!(
            text,
            "<p class=\"quiet\">The run before: {}, {}, built in {}{}</p>",
            esc(happened(&before.outcome)),
            size(before.size),
            duration(before.build_ms),
            if before.verdict.is_empty() { String::new() } else { format!(", {}", esc(&before.verdict)) },
        );
    }
    text += &metrics(engine);
    if !engine.provenance.is_empty() {
        text += "<h4>Provenance</h4>\n";
        text += &facts(&engine.provenance);
    }
    engine.keys.iter().for_each(|key| text += &self::key(key));
    if let Some(model) = engine.model {
        let _ = writeln!(text, "<p><a href=\"#model-{model}\">The types of its nodes</a></p>");
    }
    text += "</div>\n</details>\n";
    text
}

/// An outcome of a run, in words.
pub(super) fn happened(outcome: &str) -> &str {
    match outcome {
        "cache" => "taken from the cache",
        "restored" => "restored from the cache",
        "unchanged" => "up to date",
        "not-done" => "not done",
        other => other,
    }
}

fn metrics(engine: &Engine) -> String {
    if engine.metrics.is_empty() {
        return String::new();
    }
    let row = |m: &Metric| {
        let (class, ok) = match m.ok {
            Some(true) => ("good", "yes"),
            Some(false) => ("bad", "no"),
            None => ("", ""),
        };
        let cells = [&m.output, &m.metric, &m.worst, &m.limit, &m.sample]
            .map(|cell| format!("<td>{}</td>", esc(cell)));
        format!("<tr>{}<td class=\"{class}\">{ok}</td></tr>\n", cells.concat())
    };
    format!(
        "<h4>Accuracy on {}</h4>\n<div class=\"scroll\"><table><thead><tr><th>Output<th>Metric<th>Worst<th>Limit<th>In sample<th>Holds</tr></thead>\n\
         <tbody>{}</tbody></table></div>\n",
        count(usize::try_from(engine.samples).unwrap_or(usize::MAX), "sample"),
        engine.metrics.iter().map(row).collect::<String>(),
    )
}

fn key(key: &Key) -> String {
    format!(
        "<details><summary>Key of <b>{}</b> <code>{}</code></summary>\n{}</details>\n",
        esc(&key.action),
        esc(key.key.get(..12).unwrap_or(&key.key)),
        facts(&[&[("key".to_owned(), key.key.clone())], key.fields.as_slice()].concat()),
    )
}

fn facts(facts: &[(String, String)]) -> String {
    let row = |(name, value): &(String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>\n", esc(name), esc(value))
    };
    format!("<dl>\n{}</dl>\n", facts.iter().map(row).collect::<String>())
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", prose(line))).collect();
    format!("<ul>{items}</ul>\n")
}

pub(super) fn message(message: &Message) -> String {
    let class = match message.level.as_str() {
        "error" => "bad",
        "warning" => "warn",
        _ => "plain",
    };
    let mut text = format!(
        "<article class=\"message {class}\">\n<p><mark class=\"{class}\">{}</mark> <code>{}</code> {}</p>\n",
        esc(&message.level),
        esc(&message.code),
        prose(&message.text),
    );
    if let Some(place) = &message.place {
        let _ = writeln!(text, "<p class=\"quiet\">{}</p>", prose(place));
    }
    text += &list(&message.notes);
    for help in &message.help {
        let _ = writeln!(text, "<p class=\"help\">{}</p>", prose(help));
    }
    if let Some(rules) = &message.rules {
        let _ = writeln!(text, "<pre>{}</pre>", esc(rules));
    }
    text += "</article>\n";
    text
}
