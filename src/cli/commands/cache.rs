//! `enginewright cache`

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::args::CacheCommand;
use super::super::exit::{self, Failed};
use super::super::output;
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::print_warnings;
use crate::build;
use crate::cache::{Cache, Collected, Garbage, Policy, Transferred, Usage, Verified};
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::source::Network;

/// What is younger goes only if it is asked for in so many words.
const SAFE_DAYS: u32 = 14;

const DAY: u64 = 24 * 60 * 60;

pub(super) fn run(settings: &Settings, command: &CacheCommand) -> Result<u8, Failed> {
    let cache = settings.cache()?;
    match command {
        CacheCommand::Stat => stat(settings, &cache),
        CacheCommand::Verify { sample } => verify(settings, &cache, *sample),
        CacheCommand::Export { engines, output } => export(settings, engines, &settings.here(output)),
        CacheCommand::Import { file } => import(settings, &cache, &settings.here(file)),
        CacheCommand::Gc { max_age, max_size, force, dry_run } => {
            if *max_age < SAFE_DAYS && !force {
                let message =
                    format!("`--max-age {max_age}` would remove what was used in the last {SAFE_DAYS} days");
                let error = Diagnostic::error("usage", message).help("add `--force` if that is meant");
                return Err(Failed::new(exit::USAGE, error));
            }
            let max_age = Duration::from_secs(u64::from(*max_age) * DAY);
            gc(settings, &cache, &Policy { max_age, max_size: *max_size, dry_run: *dry_run })
        }
    }
}

fn stat(settings: &Settings, cache: &Cache) -> Result<u8, Failed> {
    let usage = cache.usage()?;
    let projects = cache.projects()?;
    let total: u64 = usage.values().map(|u| u.bytes).sum();
    let hits = Hits::of(cache)?;
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "cache": output::path(cache.root()),
            "bytes": total,
            "kinds": usage.iter().map(|(kind, u)| json!({"kind": kind, "count": u.count, "bytes": u.bytes}))
                .collect::<Vec<_>>(),
            "hits": { "runs": hits.runs, "engines": hits.engines, "at_hand": hits.at_hand },
            "projects": projects.iter().map(|p| output::path(p)).collect::<Vec<_>>(),
            "cache_warnings": cache.take_warnings(),
        })),
        Format::Text => {
            print_warnings(settings, &[], &[], cache.take_warnings());
            let mut text = output::table(&["KIND", "COUNT", "SIZE"], &usage_rows(&usage));
            text += &format!("\n{} in `{}`", output::size(total), cache.root().display());
            text += &format!(", used by {}\n", output::count(projects.len(), "project"));
            text += &hits.to_string();
            output::stdout(&text);
        }
    }
    Ok(exit::DONE)
}

/// How many engines of the recorded runs needed no build.
#[derive(Default)]
struct Hits {
    runs: usize,
    engines: usize,
    at_hand: usize,
}

impl Hits {
    fn of(cache: &Cache) -> Result<Hits, crate::cache::Error> {
        let mut hits = Hits::default();
        for run in cache.runs()? {
            // A record that cannot be read is not worth failing for.
            let events = run.events().unwrap_or_default();
            let planned = events.iter().filter(|event| event["event"] == "planned");
            let engines: Vec<bool> =
                planned.map(|event| event["action"] != "build" && event["action"] != "rebuild").collect();
            hits.runs += usize::from(!engines.is_empty());
            hits.engines += engines.len();
            hits.at_hand += engines.iter().filter(|at_hand| **at_hand).count();
        }
        Ok(hits)
    }
}

impl std::fmt::Display for Hits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Hits { runs, engines, at_hand } = self;
        if *engines == 0 {
            return Ok(());
        }
        let runs = output::count(*runs, "run");
        writeln!(f, "of {} in the last {runs}, {at_hand} needed no build", output::count(*engines, "engine"))
    }
}

fn usage_rows(usage: &BTreeMap<String, Usage>) -> Vec<Vec<String>> {
    let mut rows: Vec<(&String, &Usage)> = usage.iter().collect();
    rows.sort_by_key(|(kind, usage)| (std::cmp::Reverse(usage.bytes), *kind));
    rows.into_iter().map(|(kind, u)| vec![kind.clone(), u.count.to_string(), output::size(u.bytes)]).collect()
}

fn verify(settings: &Settings, cache: &Cache, sample: u8) -> Result<u8, Failed> {
    let step = 100usize.div_ceil(usize::from(sample.max(1)));
    let Verified { results, blobs, hashed, bytes, damaged } = cache.verify(step)?;
    cache.flush();
    let warnings = cache.take_warnings();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "results": results, "blobs": blobs, "hashed": hashed, "bytes": bytes, "damaged": damaged,
            "cache_warnings": warnings,
        })),
        Format::Text => {
            print_warnings(settings, &[], &[], warnings);
            for what in &damaged {
                output::stdout(&format!("damaged  {what}\n"));
            }
            let (results, blobs) = (output::count(results, "result"), output::count(blobs, "blob"));
            let state =
                if damaged.is_empty() { "sound".to_owned() } else { format!("{} damaged", damaged.len()) };
            let size = output::size(bytes);
            output::stdout(&format!("{results}, {blobs}, {hashed} of them hashed ({size}): {state}\n"));
        }
    }
    Ok(if damaged.is_empty() { exit::DONE } else { exit::FAILED })
}

fn export(settings: &Settings, engines: &[String], output: &Path) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(engines)?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let gathered = build::gather(&ctx, &engines)?;
    let results = build::results_of(&ctx, &gathered)
        .map_err(|diagnostics| Failed { code: exit::FAILED, diagnostics })?;
    let file = fs::create_new(output).map_err(crate::cache::Error::from)?;
    let done = ctx.cache.export(&results, &file, output).and_then(|done| {
        fs::sync_file(output)?;
        Ok(done)
    });
    let done = done.inspect_err(|_| drop(fs::remove_file(output)))?;
    ctx.cache.flush();
    transferred(settings, "exported", &done, &ctx.cache);
    Ok(exit::DONE)
}

fn import(settings: &Settings, cache: &Cache, file: &Path) -> Result<u8, Failed> {
    let unreadable = |e: fs::Error| crate::cache::Error::BadExport {
        path: file.to_owned(),
        what: format!("it cannot be read: {}", e.source),
    };
    let from = fs::open_regular(file).map_err(unreadable)?;
    let done = cache.import(std::io::BufReader::new(from), file)?;
    cache.flush();
    transferred(settings, "imported", &done, cache);
    Ok(exit::DONE)
}

fn transferred(settings: &Settings, verb: &str, done: &Transferred, cache: &Cache) {
    let Transferred { results, new_results, blobs, bytes, names } = done;
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "engines": names, "results": results, "new_results": new_results, "blobs": blobs, "bytes": bytes,
            "cache_warnings": cache.take_warnings(),
        })),
        Format::Text => {
            print_warnings(settings, &[], &[], cache.take_warnings());
            let new = if verb == "imported" { format!(", {new_results} of them new") } else { String::new() };
            output::stdout(&format!(
                "{verb} {} ({}{new}, {}, {})\n",
                output::count(names.len(), "engine"),
                output::count(*results, "result"),
                output::count(*blobs, "blob"),
                output::size(*bytes),
            ));
        }
    }
}

fn gc(settings: &Settings, cache: &Cache, policy: &Policy) -> Result<u8, Failed> {
    if let Some(root) = &settings.root {
        // The project that asks may never have built into this cache.
        cache.register(root)?;
    }
    let keep =
        build::what_to_keep(cache).map_err(|diagnostics| Failed { code: exit::INVALID, diagnostics })?;
    let collected = cache.collect(&keep.roots, policy)?;
    let Collected { results, blobs, bytes, kept } = &collected;
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "dry_run": policy.dry_run,
            "removed": results.iter().map(garbage_json).collect::<Vec<_>>(),
            "blobs": blobs, "bytes": bytes, "kept_bytes": kept,
            "projects": keep.projects.iter().map(|p| output::path(p)).collect::<Vec<_>>(),
            "gone_projects": keep.gone.iter().map(|p| output::path(p)).collect::<Vec<_>>(),
            "cache_warnings": cache.take_warnings(),
        })),
        Format::Text => {
            print_warnings(settings, &[], &[], cache.take_warnings());
            for project in &keep.gone {
                output::stderr(&format!(
                    "note: nothing is kept for `{}`, which is gone\n",
                    project.display()
                ));
            }
            if !results.is_empty() {
                let rows: Vec<Vec<String>> = results.iter().map(garbage_row).collect();
                output::stdout(&output::table(&["ACTION", "FOR", "AGE", "TIME TO MAKE", "SIZE"], &rows));
                output::stdout("\n");
            }
            let verb = if policy.dry_run { "would remove" } else { "removed" };
            output::stdout(&format!(
                "{verb} {} and {} ({}); {} stay for {}\n",
                output::count(results.len(), "result"),
                output::count(*blobs, "blob"),
                output::size(*bytes),
                output::size(*kept),
                output::count(keep.projects.len(), "project"),
            ));
        }
    }
    Ok(exit::DONE)
}

fn garbage_row(garbage: &Garbage) -> Vec<String> {
    vec![
        garbage.action.clone(),
        garbage.name.clone().unwrap_or_else(|| garbage.key.short()),
        format!("{} d", garbage.age.as_secs() / DAY),
        output::duration(garbage.duration_ms),
        output::size(garbage.bytes),
    ]
}

fn garbage_json(garbage: &Garbage) -> serde_json::Value {
    json!({
        "action": garbage.action, "key": garbage.key, "engine": garbage.name, "bytes": garbage.bytes,
        "age_s": garbage.age.as_secs(), "duration_ms": garbage.duration_ms,
    })
}
