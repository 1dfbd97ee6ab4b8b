//! `enginewright explain`

use serde_json::json;

use super::super::exit::{self, Failed};
use super::super::explain::{self, Entry};
use super::super::output;
use super::super::reference::{self, TOPICS};
use super::super::settings::{Format, Settings};
use crate::diagnostic::{Diagnostic, nearest};

pub(super) fn run(settings: &Settings, code: Option<&str>) -> Result<u8, Failed> {
    if let Some((name, text)) = code.and_then(|name| Some((name, reference::topic(name)?))) {
        match settings.format {
            Format::Json => {
                output::json(&json!({ "format": output::JSON_FORMAT, "topic": name, "text": text }))
            }
            Format::Text => output::stdout(&text),
        }
        return Ok(exit::DONE);
    }
    match code {
        Some(code) => {
            let entry = explain::entry(code).ok_or_else(|| unknown(code))?;
            match settings.format {
                Format::Json => output::json(&json!({
                    "format": output::JSON_FORMAT,
                    "code": entry.code,
                    "group": entry.group,
                    "meaning": entry.meaning,
                    "text": entry.text,
                })),
                Format::Text => {
                    output::stdout(&format!("{} ({})\n\n{}\n", entry.code, entry.group, entry.text))
                }
            }
        }
        None => list(settings, &explain::entries()),
    }
    Ok(exit::DONE)
}

fn list(settings: &Settings, entries: &[Entry]) {
    if settings.format == Format::Json {
        let codes = entries.iter().map(|e| json!({ "code": e.code, "group": e.group, "meaning": e.meaning }));
        let topics = TOPICS.map(|(name, meaning)| json!({ "topic": name, "meaning": meaning }));
        let codes = codes.collect::<Vec<_>>();
        output::json(&json!({ "format": output::JSON_FORMAT, "codes": codes, "topics": topics }));
        return;
    }
    let mut text = String::new();
    let mut group = "";
    let width = entries.iter().map(|entry| entry.code.len()).max().unwrap_or(0);
    for entry in entries {
        if entry.group != group {
            let gap = if group.is_empty() { "" } else { "\n" };
            text += &format!("{gap}{}\n", entry.group);
            group = entry.group;
        }
        text += &format!("  {:<width$}  {}\n", entry.code, entry.meaning);
    }
    text += "\nAbout no code\n";
    for (name, meaning) in TOPICS {
        text += &format!("  {name:<width$}  {meaning}.\n");
    }
    output::stdout(&text);
}

fn unknown(code: &str) -> Failed {
    let entries = explain::entries();
    let error = Diagnostic::error("usage", format!("no diagnostic has the code `{code}`"));
    let topics = TOPICS.iter().map(|(name, _)| *name);
    let near = nearest(code, entries.iter().map(|entry| entry.code).chain(topics));
    Failed::new(
        exit::USAGE,
        match near {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("`enginewright explain` lists all codes"),
        },
    )
}
