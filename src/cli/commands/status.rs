//! `enginewright status`

use serde_json::json;

use super::super::args::EngineArgs;
use super::super::exit::{self, Failed};
use super::super::progress::Progress;
use super::super::settings::{Format, Settings};
use super::super::{output, render};
use super::plan::reasons_json;
use super::{diagnostics_json, errors_of, print_warnings};
use crate::build::{self, Sidecar};
use crate::plan::{Action, Planned, Published};
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &EngineArgs) -> Result<u8, Failed> {
    let project = settings.project()?;
    let engines = project.select(&args.engines)?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let gathered = build::gather(&ctx, &engines)?;
    ctx.cache.flush();
    let root = &ctx.manifest.root;
    let orphans = build::orphans(root, &ctx.manifest.engines);

    let mut rows = Vec::new();
    let mut list = Vec::new();
    for (engine, planned) in engines.iter().zip(&gathered.planned) {
        let name = planned.name.to_string();
        let sidecar = gathered.sidecars.get(&name);
        let state = state(planned, gathered.published.get(&name));
        let sms: Vec<String> = engine.target.sms.iter().map(ToString::to_string).collect();
        let get = |f: fn(&Sidecar) -> String| sidecar.map_or_else(|| "-".to_owned(), f);
        rows.push(vec![
            state.to_owned(),
            name.clone(),
            sms.join(" "),
            get(|s| output::size(s.file.size)),
            get(|s| format!("{} {}", s.toolchain, s.toolchain_version)),
            gathered
                .pins
                .get(&name)
                .filter(|c| c.total() > 0)
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            if planned.fails() { "failed".to_owned() } else { get(|s| s.verdict.clone()) },
        ]);
        list.push(json!({
            "engine": name,
            "state": state,
            "action": planned.action,
            "reasons": reasons_json(&planned.reasons),
            "path": output::path(&build::engine_path(root, &planned.name)),
            "sms": sms,
            "pins": gathered.pins.get(&name),
            "sidecar": sidecar,
            "errors": planned.errors.iter().map(render::json).collect::<Vec<_>>(),
        }));
    }
    let cache_warnings = ctx.cache.take_warnings();
    match settings.format {
        Format::Json => output::json(&json!({
            "format": output::JSON_FORMAT,
            "engines": list,
            "diagnostics": diagnostics_json(&project, &gathered),
            "orphans": orphans.iter().map(|o| output::path(o)).collect::<Vec<_>>(),
            "cache_warnings": cache_warnings,
        })),
        Format::Text => {
            print_warnings(settings, &project.warnings, &gathered.warnings, cache_warnings);
            output::stdout(&output::table(
                &["STATE", "ENGINE", "FOR", "SIZE", "BUILT BY", "PINS", "VERDICT"],
                &rows,
            ));
            for orphan in &orphans {
                output::stdout(&format!("orphaned: {} (`apply --prune` removes it)\n", orphan.display()));
            }
            render::print(settings, &errors_of(&gathered));
        }
    }
    Ok(exit::DONE)
}

/// What is published, beside what should be.
pub(super) fn state(planned: &Planned, published: Option<&Published>) -> &'static str {
    match (planned.action, published) {
        (Action::UpToDate, _) => "current",
        (Action::Error, Some(Published::Whole { .. })) => "stale (error)",
        (Action::Error, _) => "error",
        (Action::Unknown, Some(Published::Whole { .. })) => "unknown",
        (_, Some(Published::Whole { .. })) if planned.fails() => "stale (failed)",
        (_, Some(Published::Whole { .. })) => "stale",
        (_, Some(Published::Broken { .. })) => "broken",
        (Action::Publish | Action::Restore | Action::Measure | Action::Judge, _) if planned.fails() => {
            "failed"
        }
        (Action::Publish | Action::Restore | Action::Measure | Action::Judge, _) => "not published",
        (_, _) => "not built",
    }
}
